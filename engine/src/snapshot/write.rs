//! Writes snapshots: state first, then the manifest, then away with what is out of use.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;

use super::manifest::{
    Manifest, Place, Places, all_places, digest_of, files_of, is_state_name, manifest_name,
    state_name,
};
use super::partitions::{place_of, to_rows};
use super::{Changes, Extent, Facts, Shelf, SnapshotError, SnapshotStore, io_error, read_place};
use crate::crash::crash_point;
use crate::disk::AppendFile;
use crate::source::KnownPartition;

/// A state file that has so many bytes is followed by another, so that copying what is in use of one stays small.
const STATE_FILE_BYTES: u64 = 256 << 20;
/// How the name of a file ends that is not finished.
const UNFINISHED: &str = ".tmp";

/// The state of an epoch that is being put together.
#[derive(Debug)]
pub struct Draft {
    store: SnapshotStore,
    epoch: u64,
    changes: Changes,
    extent: Extent,
}

impl Draft {
    pub(super) fn new(store: SnapshotStore, epoch: u64, changes: Changes, extent: Extent) -> Self {
        Draft { store, epoch, changes, extent }
    }

    /// The state of a shard of a node, in place of what it was.
    pub fn add(&mut self, node: &str, shard: u8, rows: &RecordBatch) {
        self.changes.insert((node.to_owned(), shard), Some(rows.clone()));
    }

    /// What is known of the partitions of a block of a source, in place of what it was.
    pub(crate) fn add_partitions(&mut self, source: &str, block: u32, known: &[KnownPartition]) {
        let (node, shard) = place_of(source, block);
        self.changes.insert((node, shard), Some(to_rows(known)));
    }

    /// A shard of a node has no state any more.
    pub fn remove(&mut self, node: &str, shard: u8) {
        self.changes.insert((node.to_owned(), shard), None);
    }

    /// Writes the state; it is durable then, and no snapshot yet.
    ///
    /// # Errors
    /// When it cannot be written. What was added is part of the next draft.
    pub fn write(self) -> Result<Written, SnapshotError> {
        let store = self.store.clone();
        let mut shelf = store.shelf();
        let places = Writer::new(&store, self.epoch).and_then(|mut writer| {
            let nothing = Places::new();
            let base = if self.extent == Extent::All { &nothing } else { &shelf.base };
            let written = writer.write(base, &self.changes);
            if written.is_err() {
                writer.discard();
            }
            written
        });
        let written = places.map(|places| {
            shelf.base = places.clone();
            shelf.base_epoch = Some(self.epoch);
            // All of it is in what was written.
            shelf.owed.clear();
            shelf.unpublished.insert(self.epoch, files_of(&places));
            Written { store: store.clone(), epoch: self.epoch, places, unsure: false }
        });
        // Dropping a draft needs the shelf.
        drop(shelf);
        let mut draft = self;
        if written.is_ok() {
            draft.changes.clear();
        }
        written
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut shelf = self.store.shelf();
        shelf.drafting = None;
        shelf.owed.append(&mut self.changes);
    }
}

/// Appends shards to state files.
struct Writer<'a> {
    store: &'a SnapshotStore,
    epoch: u64,
    /// Names that are taken: files of a run that died are never written over, a manifest may refer to them.
    taken: BTreeSet<String>,
    /// The file that is written to, with its name and length.
    file: Option<(Box<dyn AppendFile>, String, u64)>,
    made: Vec<PathBuf>,
}

impl<'a> Writer<'a> {
    fn new(store: &'a SnapshotStore, epoch: u64) -> Result<Self, SnapshotError> {
        let names = store.disk.list(&store.dir).map_err(|e| io_error("list", &store.dir, &e))?;
        let taken = names.into_iter().collect();
        Ok(Writer { store, epoch, taken, file: None, made: Vec::new() })
    }

    /// Writes what changed, and says where all state is then.
    fn write(&mut self, base: &Places, changes: &Changes) -> Result<Places, SnapshotError> {
        let mut places = base.clone();
        for ((node, shard), change) in changes {
            let shards = places.entry(node.clone()).or_default();
            match change {
                Some(rows) => {
                    let place = self.put(&to_ipc(rows)?)?;
                    shards.insert(*shard, place);
                }
                None => {
                    shards.remove(shard);
                }
            }
        }
        places.retain(|_, shards| !shards.is_empty());
        self.copy_sparse(&mut places)?;
        self.finish()?;
        if !self.made.is_empty() {
            let dir = &self.store.dir;
            self.store.disk.sync_dir(dir).map_err(|e| io_error("sync", dir, &e))?;
        }
        Ok(places)
    }

    /// Copies the shards of earlier files of which more than half is out of use.
    fn copy_sparse(&mut self, places: &mut Places) -> Result<(), SnapshotError> {
        let sparse = self.sparse(places)?;
        for place in places.values_mut().flat_map(BTreeMap::values_mut) {
            if sparse.contains(&place.file) {
                let bytes = read_place(self.store.disk.as_ref(), &self.store.dir, place)?;
                *place = self.put(&bytes)?;
            }
        }
        Ok(())
    }

    fn sparse(&self, places: &Places) -> Result<BTreeSet<String>, SnapshotError> {
        let mut live: BTreeMap<&str, u64> = BTreeMap::new();
        for place in all_places(places) {
            *live.entry(&place.file).or_default() += place.length;
        }
        let mut sparse = BTreeSet::new();
        for (name, live) in live {
            let file = self.store.dir.join(name);
            if !self.taken.contains(name) {
                return Err(SnapshotError::Damaged { file, what: "it is gone".to_owned() });
            }
            let len = self.store.disk.len(&file).map_err(|e| io_error("look at", &file, &e))?;
            // A file of this draft is in use from one end to the other.
            if live * 2 < len && !self.made.contains(&file) {
                sparse.insert(name.to_owned());
            }
        }
        Ok(sparse)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<Place, SnapshotError> {
        if self.file.as_ref().is_none_or(|(_, _, len)| *len >= STATE_FILE_BYTES) {
            self.finish()?;
            self.start()?;
        }
        let Some((file, name, len)) = &mut self.file else {
            return Err(SnapshotError::Unwritable("no state file is open".to_owned()));
        };
        file.append(bytes).map_err(|e| io_error("write", &self.store.dir.join(&*name), &e))?;
        let (offset, length) = (*len, bytes.len() as u64);
        *len += length;
        Ok(Place { file: name.clone(), offset, length, digest: digest_of(bytes) })
    }

    fn start(&mut self) -> Result<(), SnapshotError> {
        let mut n = 0;
        while self.taken.contains(&state_name(self.epoch, n)) {
            n += 1;
        }
        let name = state_name(self.epoch, n);
        let path = self.store.dir.join(&name);
        self.made.push(path.clone());
        let file = self.store.disk.open_append(&path).map_err(|e| io_error("make", &path, &e))?;
        self.taken.insert(name.clone());
        self.file = Some((file, name, 0));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        let Some((mut file, name, _)) = self.file.take() else { return Ok(()) };
        file.sync().map_err(|e| io_error("sync", &self.store.dir.join(name), &e))
    }

    /// Takes back what came to nothing. What cannot be removed goes with the next snapshot.
    fn discard(&mut self) {
        self.file = None;
        for path in &self.made {
            self.store.disk.remove(path).ok();
        }
    }
}

fn to_ipc(rows: &RecordBatch) -> Result<Vec<u8>, SnapshotError> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
        writer.write(rows)?;
        writer.into_inner()
    };
    write().map_err(|e: arrow::error::ArrowError| SnapshotError::Unwritable(e.to_string()))
}

/// State that is durable and waits for the sinks. Dropped, it is no snapshot, and its files stay for the next.
#[derive(Debug)]
pub struct Written {
    store: SnapshotStore,
    epoch: u64,
    places: Places,
    /// Whether the manifest is there but perhaps not durable: its files must stay.
    unsure: bool,
}

/// What publishing a snapshot did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The oldest snapshot that is kept: the journal is needed from there on.
    pub oldest_kept: u64,
    /// The files that went.
    pub removed: Vec<String>,
    /// Why files that are out of use are still there, if they are. The next snapshot tries again.
    pub uncollected: Option<SnapshotError>,
}

impl Written {
    /// The epoch that it is the state of.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Makes it a snapshot. Every sink must have committed its epoch: a restart from it does not go further back.
    /// Then the snapshots go that are one too many, and the state that nothing refers to.
    ///
    /// # Errors
    /// When the manifest cannot be written, or may not be durable. The snapshots before are as good as they were.
    pub fn publish(mut self, facts: Facts) -> Result<Published, SnapshotError> {
        let places = std::mem::take(&mut self.places);
        let files = files_of(&places);
        let bytes = Manifest::new(self.epoch, facts, places).to_bytes()?;
        let store = self.store.clone();
        let mut shelf = store.shelf();
        if let Some(&newest) =
            shelf.sound.keys().next_back().filter(|&&newest| newest >= self.epoch)
        {
            drop(shelf);
            return Err(SnapshotError::Order { epoch: self.epoch, newest });
        }
        let put = self.put_manifest(&bytes);
        if put.is_ok() {
            shelf.damaged.remove(&self.epoch);
            shelf.sound.insert(self.epoch, files);
        }
        if !self.unsure {
            shelf.unpublished.remove(&self.epoch);
        }
        let collected = put.map(|()| store.collect(&mut shelf));
        drop(shelf);
        let (removed, uncollected) = collected?;
        let oldest_kept = store.oldest_kept().unwrap_or(self.epoch);
        Ok(Published { oldest_kept, removed, uncollected })
    }

    fn put_manifest(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let (disk, dir) = (&self.store.disk, &self.store.dir);
        let path = dir.join(manifest_name(self.epoch));
        let unfinished = dir.join(format!("{}{UNFINISHED}", manifest_name(self.epoch)));
        if let Err(error) = disk.write_whole(&unfinished, bytes) {
            disk.remove(&unfinished).ok();
            return Err(io_error("write", &unfinished, &error));
        }
        self.unsure = true;
        crash_point("snapshot manifest written");
        disk.rename(&unfinished, &path).map_err(|e| io_error("rename", &unfinished, &e))?;
        crash_point("snapshot manifest renamed");
        disk.sync_dir(dir).map_err(|e| io_error("sync", dir, &e))?;
        self.unsure = false;
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.unsure {
            self.store.shelf().unpublished.remove(&self.epoch);
        }
    }
}

impl SnapshotStore {
    /// Removes what is out of use; what went, and what stopped it.
    fn collect(&self, shelf: &mut Shelf) -> (Vec<String>, Option<SnapshotError>) {
        let mut removed = Vec::new();
        let stopped = self.try_collect(shelf, &mut removed).err();
        (removed, stopped)
    }

    fn try_collect(
        &self,
        shelf: &mut Shelf,
        removed: &mut Vec<String>,
    ) -> Result<(), SnapshotError> {
        let surplus: Vec<u64> = shelf.sound.keys().rev().skip(self.keep).copied().collect();
        let damaged: Vec<u64> = shelf.damaged.keys().copied().collect();
        for epoch in surplus.into_iter().chain(damaged) {
            self.remove(manifest_name(epoch), removed)?;
            shelf.sound.remove(&epoch);
            shelf.damaged.remove(&epoch);
        }
        // A manifest that came back after a crash must find its state.
        self.disk.sync_dir(&self.dir).map_err(|e| io_error("sync", &self.dir, &e))?;
        let needed = shelf.needed();
        let names = self.disk.list(&self.dir).map_err(|e| io_error("list", &self.dir, &e))?;
        let unused = |name: &String| {
            (is_state_name(name) && !needed.contains(name)) || name.ends_with(UNFINISHED)
        };
        names.into_iter().filter(unused).try_for_each(|name| self.remove(name, removed))
    }

    fn remove(&self, name: String, removed: &mut Vec<String>) -> Result<(), SnapshotError> {
        let path = self.dir.join(&name);
        match self.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, &e)),
            _ => {
                removed.push(name);
                Ok(())
            }
        }
    }
}
