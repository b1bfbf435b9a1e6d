//! Snapshots: the state of all steps as of the end of an epoch, in files that never change.
//!
//! ```text
//! begin(epoch)  add(node, shard, rows) …  write()   →  the state is durable
//!               every sink has committed the epoch
//!               publish(facts)                      →  a restart begins here; older ones go
//! restart:      newest()  state(node, shard)
//! ```
//!
//! What a reader would get wrong:
//!
//! * A snapshot holds only the shards that changed; the rest is in the files of earlier ones, which stay as long as any
//!   snapshot that is kept, written or begun refers to them. A file of which more than half is out of use is copied on,
//!   so the files that the newest snapshot needs have at most twice the bytes of its state.
//! * The shards of a draft that was dropped, or could not be written, are part of the next: whoever saved them has
//!   marked them as saved.
//! * Which partitions the sources have met, and how far each was read, is kept like state, in blocks.
//! * A damaged snapshot is never half used: all its state is verified before any of it is handed out, and an older
//!   one is taken instead. That none can be used is an error, not an empty start.

mod manifest;
mod partitions;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::disk::{Disk, is_full};
use crate::sink::RunId;
use crate::source::KnownPartition;
use manifest::{
    BadManifest, Manifest, Place, Places, all_places, epoch_of, files_of, manifest_name,
};
use partitions::{from_rows, source_of};

pub(crate) use partitions::{block_of, partitions_in};
pub use write::{Draft, Published, Written};

/// How many snapshots are kept by default. The newest may be damaged by a bad disk and the one before by the same; more
/// would keep more of the journal.
pub const SNAPSHOTS_KEPT: usize = 3;

/// What a snapshot says beside the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The digest of the plan.
    pub plan: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The run that wrote it.
    pub run: RunId,
    /// The nodes that had state, by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// The sources that had ended, by name.
    #[serde(default)]
    pub ended: Vec<String>,
    /// The epoch that each sink had committed, by its name.
    pub committed: BTreeMap<String, u64>,
    /// Where the rows of each node went, by its name.
    pub accounts: BTreeMap<String, Account>,
    /// The clock of its epoch, nanoseconds since 1970; 0 where an earlier version wrote it.
    #[serde(default)]
    pub clock_ns: i64,
}

/// What a node was when its state was saved: it is never given to one that reads it otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The kind of step.
    pub kind: String,
    /// As [`Planned::state_version`](crate::Planned::state_version).
    pub state_version: u32,
    /// The digest of its configuration.
    pub config: String,
    /// The digests of its models.
    pub models: Vec<String>,
}

/// Snapshots could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The file system failed.
    #[error("cannot {what}: {cause}")]
    Io {
        /// The call and the path.
        what: String,
        /// What the system said.
        cause: String,
        /// Whether it was for want of space.
        full: bool,
    },
    /// The state cannot be written as Arrow.
    #[error("a snapshot cannot be written: {0}")]
    Unwritable(String),
    /// State that was written earlier is not what it was.
    #[error("'{}' is damaged: {what}; the next snapshot must hold all state", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There are snapshots, but none can be used.
    #[error(
        "no snapshot can be used: {}; restore one from a backup, or start with `--from-journal` or `--fresh`",
        .damaged.join("; ")
    )]
    NoneUsable {
        /// What is wrong with each, newest first.
        damaged: Vec<String>,
    },
    /// Another version wrote it.
    #[error(
        "'{}' has format {format}, which this version does not read; come to the end with the version that wrote it, or \
         start with `--fresh`",
        .file.display()
    )]
    Format {
        /// The manifest.
        file: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A draft is open. There is one at a time, so that what one comes to is what the next changes.
    #[error("the snapshot of epoch {epoch} is not written yet")]
    Drafting {
        /// The epoch of the open draft.
        epoch: u64,
    },
    /// A snapshot of this epoch or a later one is there.
    #[error(
        "a snapshot of epoch {epoch} cannot follow that of epoch {newest}; start with `--fresh` to begin again"
    )]
    Order {
        /// The epoch that was asked for.
        epoch: u64,
        /// The newest that is there.
        newest: u64,
    },
}

/// The snapshots of a pipeline. Clones are handles on the same ones; one process at a time may write to a directory.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    keep: usize,
    shelf: Arc<Mutex<Shelf>>,
}

/// What is on the disk and what is under way.
#[derive(Debug, Default)]
struct Shelf {
    /// Snapshots that can be used, by epoch, with the state files of each.
    sound: BTreeMap<u64, BTreeSet<String>>,
    /// Manifests that cannot, with what is wrong.
    damaged: BTreeMap<u64, String>,
    /// The state that the next snapshot changes, and its epoch.
    base: Places,
    base_epoch: Option<u64>,
    /// Shards of drafts that came to nothing; `None` for a shard that has no state.
    owed: Changes,
    /// The epoch of the draft that is open.
    drafting: Option<u64>,
    /// Files of snapshots that are written and not published.
    unpublished: BTreeMap<u64, BTreeSet<String>>,
}

/// What a draft is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What changed since the last one.
    Changes,
    /// All state.
    All,
}

/// What changes from one snapshot to the next.
type Changes = BTreeMap<(String, u8), Option<RecordBatch>>;

impl SnapshotStore {
    /// Opens the snapshots in `dir`, made when it is not there, and keeps `keep` of them, at least one.
    ///
    /// # Errors
    /// When the directory cannot be read, or another version wrote a snapshot in it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        keep: usize,
    ) -> Result<Self, SnapshotError> {
        let dir = dir.into();
        disk.create_dir_all(&dir).map_err(|e| io_error("make directory", &dir, &e))?;
        let names = disk.list(&dir).map_err(|e| io_error("list", &dir, &e))?;
        let mut shelf = Shelf::default();
        for epoch in names.iter().filter_map(|name| epoch_of(name)) {
            let path = dir.join(manifest_name(epoch));
            match read_manifest(disk.as_ref(), &path, epoch)? {
                Ok(manifest) => {
                    shelf.sound.insert(epoch, files_of(&manifest.state));
                }
                Err(what) => {
                    shelf.damaged.insert(epoch, what);
                }
            }
        }
        Ok(SnapshotStore { disk, dir, keep: keep.max(1), shelf: Arc::new(Mutex::new(shelf)) })
    }

    /// The newest snapshot that can be used, all of it verified; the next one then changes this one. `None` when
    /// there is none at all.
    ///
    /// # Errors
    /// [`SnapshotError::NoneUsable`] when all are damaged.
    pub fn newest(&self) -> Result<Option<Loaded>, SnapshotError> {
        let mut shelf = self.shelf();
        let epochs: Vec<u64> = shelf.sound.keys().rev().copied().collect();
        for epoch in epochs {
            match self.load(epoch)? {
                Ok(manifest) => {
                    shelf.base = manifest.state.clone();
                    shelf.base_epoch = Some(epoch);
                    let damaged = shelf.complaints();
                    let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
                    return Ok(Some(Loaded { manifest, damaged, disk, dir }));
                }
                Err(what) => {
                    shelf.sound.remove(&epoch);
                    shelf.damaged.insert(epoch, what);
                }
            }
        }
        if shelf.damaged.is_empty() {
            return Ok(None);
        }
        Err(SnapshotError::NoneUsable { damaged: shelf.complaints() })
    }

    /// A draft of the snapshot of `epoch`, to which the shards that changed since the last draft are added. Earlier
    /// ones may be written and not yet published.
    ///
    /// # Errors
    /// When a draft is open, or a snapshot of this epoch or a later one is there.
    pub fn begin(&self, epoch: u64) -> Result<Draft, SnapshotError> {
        let mut shelf = self.shelf();
        shelf.start(epoch)?;
        let changes = std::mem::take(&mut shelf.owed);
        Ok(Draft::new(self.clone(), epoch, changes, Extent::Changes))
    }

    /// As [`SnapshotStore::begin`], for a draft that refers to no earlier file: all state is to be added.
    ///
    /// # Errors
    /// As [`SnapshotStore::begin`].
    pub fn begin_full(&self, epoch: u64) -> Result<Draft, SnapshotError> {
        let mut shelf = self.shelf();
        shelf.start(epoch)?;
        Ok(Draft::new(self.clone(), epoch, Changes::new(), Extent::All))
    }

    /// The oldest snapshot that is kept: the journal is needed from there on.
    #[must_use]
    pub fn oldest_kept(&self) -> Option<u64> {
        self.shelf().sound.keys().next().copied()
    }

    /// Bytes of all state files and manifests.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn bytes(&self) -> Result<u64, SnapshotError> {
        let names = self.disk.list(&self.dir).map_err(|e| io_error("list", &self.dir, &e))?;
        let mut bytes = 0;
        for name in names {
            let path = self.dir.join(name);
            bytes += self.disk.len(&path).map_err(|e| io_error("look at", &path, &e))?;
        }
        Ok(bytes)
    }

    /// The manifest of `epoch` with all its state verified, or what is wrong with it.
    fn load(&self, epoch: u64) -> Result<Result<Manifest, String>, SnapshotError> {
        let path = self.dir.join(manifest_name(epoch));
        let manifest = match read_manifest(self.disk.as_ref(), &path, epoch)? {
            Ok(manifest) => manifest,
            damaged @ Err(_) => return Ok(damaged),
        };
        let bad = all_places(&manifest.state)
            .find_map(|place| read_place(self.disk.as_ref(), &self.dir, place).err());
        Ok(bad.map_or(Ok(manifest), |bad| Err(bad.to_string())))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// A draft of `epoch` is open, if it may be.
    fn start(&mut self, epoch: u64) -> Result<(), SnapshotError> {
        if let Some(epoch) = self.drafting {
            return Err(SnapshotError::Drafting { epoch });
        }
        let newest = self.base_epoch.max(self.sound.keys().next_back().copied());
        if let Some(newest) = newest.filter(|&newest| newest >= epoch) {
            return Err(SnapshotError::Order { epoch, newest });
        }
        self.drafting = Some(epoch);
        Ok(())
    }

    /// What is wrong with the damaged snapshots, newest first.
    fn complaints(&self) -> Vec<String> {
        let one = |(epoch, what): (&u64, &String)| format!("'{}': {what}", manifest_name(*epoch));
        self.damaged.iter().rev().map(one).collect()
    }

    /// The state files that something refers to.
    fn needed(&self) -> BTreeSet<String> {
        let listed = self.sound.values().chain(self.unpublished.values()).flatten().cloned();
        listed.chain(files_of(&self.base)).collect()
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Loaded {
    manifest: Manifest,
    /// Newer and older snapshots that could not be used, newest first, with what is wrong with each.
    pub damaged: Vec<String>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Loaded {
    /// The state is that at the end of this epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.manifest.epoch
    }

    /// What it says beside the state.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.manifest.facts
    }

    /// The nodes that have state, each with its shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        let state = self.manifest.state.iter().filter(|(node, _)| source_of(node).is_none());
        state.map(|(node, shards)| (node.as_str(), shards.keys().copied().collect()))
    }

    /// What is known of the partitions, by the name of their source; in order.
    ///
    /// # Errors
    /// As [`Loaded::state`].
    pub fn partitions(&self) -> Result<BTreeMap<String, Vec<KnownPartition>>, SnapshotError> {
        let mut all: BTreeMap<String, Vec<KnownPartition>> = BTreeMap::new();
        for (node, shards) in &self.manifest.state {
            let Some(source) = source_of(node) else { continue };
            let known = all.entry(source.to_owned()).or_default();
            for (shard, place) in shards {
                let Some(rows) = self.state(node, *shard)? else { continue };
                let (file, what) =
                    (self.dir.join(&place.file), "its partitions are none".to_owned());
                known.extend(from_rows(&rows).ok_or(SnapshotError::Damaged { file, what })?);
            }
        }
        Ok(all)
    }

    /// The state of a shard of a node; `None` when it had none.
    ///
    /// # Errors
    /// When the file cannot be read any more, or is no longer what was verified.
    pub fn state(&self, node: &str, shard: u8) -> Result<Option<RecordBatch>, SnapshotError> {
        let Some(place) = self.manifest.state.get(node).and_then(|shards| shards.get(&shard))
        else {
            return Ok(None);
        };
        let bytes = read_place(self.disk.as_ref(), &self.dir, place)?;
        let damaged =
            |what: String| SnapshotError::Damaged { file: self.dir.join(&place.file), what };
        let mut reader =
            StreamReader::try_new(&bytes[..], None).map_err(|e| damaged(e.to_string()))?;
        let rows = reader.next().ok_or_else(|| damaged("a shard has no rows".to_owned()))?;
        rows.map(Some).map_err(|e| damaged(e.to_string()))
    }
}

/// The manifest in a file, or what is wrong with it. What a bad disk does not hand out is as good as damaged: an older
/// snapshot leads to the same results.
fn read_manifest(
    disk: &dyn Disk,
    path: &Path,
    epoch: u64,
) -> Result<Result<Manifest, String>, SnapshotError> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match Manifest::parse(&bytes, epoch) {
        Ok(manifest) => Ok(Ok(manifest)),
        Err(BadManifest::Damaged(what)) => Ok(Err(what)),
        Err(BadManifest::Format(format)) => {
            Err(SnapshotError::Format { file: path.to_owned(), format })
        }
    }
}

/// The bytes at a place, verified.
fn read_place(disk: &dyn Disk, dir: &Path, place: &Place) -> Result<Vec<u8>, SnapshotError> {
    let file = dir.join(&place.file);
    let damaged = |what: &str| SnapshotError::Damaged { file: file.clone(), what: what.to_owned() };
    // Its length is looked at first, so that a wrong one is not allocated.
    let len = match disk.len(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged("it is gone")),
        len => len.map_err(|e| io_error("look at", &file, &e))?,
    };
    if place.offset + place.length > len {
        return Err(damaged("its end is cut off"));
    }
    let length = usize::try_from(place.length).map_err(|_| damaged("a shard is too long"))?;
    let bytes =
        disk.read_at(&file, place.offset, length).map_err(|e| io_error("read", &file, &e))?;
    if place.holds(&bytes) {
        Ok(bytes)
    } else {
        Err(damaged("the digest of a shard does not hold"))
    }
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> SnapshotError {
    SnapshotError::Io {
        what: format!("{what} '{}'", path.display()),
        cause: error.to_string(),
        full: is_full(error),
    }
}
