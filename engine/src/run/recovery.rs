//! Where an earlier run of the pipeline has left off, from its data directory.
//!
//! ```text
//! state.json   the generation, what the pipeline was, whether it has ended
//! journal/     which inputs exist, and which epoch is which inputs
//! snapshots/   state as of the end of an epoch
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::crash::crash_point;
use crate::disk::Disk;
use crate::durable::{Durable, Identity, OnChange};
use crate::epoch::{Epoch, SourceId};
use crate::graph::SourceNode;
use crate::history::{History, renumbered};
use crate::journal::{
    Journal, JournalOptions, JournalReplay, PartitionRecord, Recovered, Replayed, ReplayedInput,
    RunRecord, digest,
};
use crate::run::RunError;
use crate::run::conductor::source_id;
use crate::run::start::{SavedNode, Start};
use crate::run::worker::Share;
use crate::sink::RunId;
use crate::snapshot::{Loaded, SnapshotStore, block_of};
use crate::source::{Chunk, KnownPartition, Partition, Position, Range, ReadUpTo, SourceError};

/// The file with what holds for the whole directory.
const STATE: &str = "state.json";
const JOURNAL: &str = "journal";
const SNAPSHOTS: &str = "snapshots";

/// What holds for the whole data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The computation that is under way; greater than that of every computation before.
    generation: u64,
    /// Whether it has come to its end.
    finished: bool,
    /// What is computed.
    identity: Identity,
}

/// By the place of the source in the graph, and partition.
pub(crate) type Known = BTreeMap<(usize, Partition), KnownPartition>;

/// Blocks of partitions, by the place of the source in the graph.
pub(crate) type Blocks = BTreeSet<(usize, u32)>;

/// What a run begins with.
pub(crate) struct Recovery {
    pub generation: u64,
    pub start: Start,
    pub accounts: BTreeMap<String, Account>,
    pub known: Known,
    /// The blocks of partitions of which the journal says more than a snapshot.
    pub news: Blocks,
    /// The last epoch that is in the journal or a snapshot.
    pub last_epoch: u64,
    /// The clock of that epoch.
    pub clock_ns: i64,
    /// The sources that have nothing more.
    pub ended: BTreeSet<SourceId>,
    /// What is journaled, but in no epoch.
    pub unmarked: Vec<(usize, Chunk)>,
    pub journal: Journal,
    pub store: SnapshotStore,
    /// The digest of what the pipeline is.
    pub plan: String,
    /// Whether the first snapshot is not to build on those before.
    pub whole: bool,
    /// Things that the user should know: damage that was got round.
    pub notes: Vec<String>,
}

/// Looks at the data directory and makes it ready for a run.
///
/// # Errors
/// When it is damaged, holds the progress of another pipeline, or the disk fails.
pub(crate) fn recover(
    durable: &Durable,
    sources: &[SourceNode],
    run: RunId,
    workers: usize,
) -> Result<Recovery, RunError> {
    let disk = durable.disk.as_ref();
    disk.create_dir_all(&durable.dir).map_err(|e| failed(&durable.dir, &e))?;
    let found = read_state(disk, &durable.dir)?;
    let state = next_state(durable, found.as_ref(), run)?;
    let begins = found.as_ref().is_none_or(|f| f.generation != state.generation);
    let (journal_dir, snapshot_dir) = (durable.dir.join(JOURNAL), durable.dir.join(SNAPSHOTS));
    // In this order: with the old generation on record, a crash in between begins anew once more.
    if begins {
        if durable.on_change == OnChange::FromJournal && found.is_some() {
            keep_partitions(durable, sources)?;
        } else {
            remove(durable, &journal_dir)?;
        }
        remove(durable, &snapshot_dir)?;
    }
    crash_point("before state written");
    write_state(durable, &state)?;
    crash_point("state written");
    let (mut journal, recovered) = open_journal(durable)?;
    let store = open_snapshots(durable)?;
    let loaded = store.newest().map_err(RunError::Snapshot)?;
    let before = Before::of(loaded, &recovered, durable, sources)?;
    let plan = format!("{:032x}", digest(format!("{:?}", durable.identity).as_bytes()));
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let record = RunRecord { run, workers, plan };
    let after = Some(before.start.after).filter(|after| *after > 0);
    let replay = journal.replay_after(after);
    let (known, news) = known_before(&recovered, before.partitions, sources)?;
    let begins = Ahead {
        known,
        news,
        last_epoch: before.start.after,
        clock_ns: before.clock_ns,
        ended: before.start.ended.clone(),
        unmarked: Vec::new(),
    };
    let Ahead { known, news, last_epoch, clock_ns, ended, unmarked } = begins.look(replay)?;
    journal.append_run(&record).map_err(RunError::Journal)?;
    Ok(Recovery {
        generation: state.generation,
        start: before.start,
        accounts: before.accounts,
        known,
        news,
        last_epoch,
        clock_ns,
        ended,
        unmarked,
        journal,
        store,
        plan: record.plan,
        whole: before.whole,
        notes: before.notes,
    })
}

fn open_journal(durable: &Durable) -> Result<(Journal, Recovered), RunError> {
    let options = JournalOptions {
        segment_bytes: durable.journal_segment_bytes,
        limit_bytes: durable.journal_limit_bytes,
        keep_ns: durable.journal_keep_ns,
    };
    Journal::open(Arc::clone(&durable.disk), durable.dir.join(JOURNAL), options)
        .map_err(RunError::Journal)
}

fn open_snapshots(durable: &Durable) -> Result<SnapshotStore, RunError> {
    let (disk, dir) = (Arc::clone(&durable.disk), durable.dir.join(SNAPSHOTS));
    SnapshotStore::open(disk, dir, durable.snapshots_kept).map_err(RunError::Snapshot)
}

/// Has the journal say which partitions there are, before the snapshots go that are alone in saying it.
fn keep_partitions(durable: &Durable, sources: &[SourceNode]) -> Result<(), RunError> {
    let (mut journal, recovered) = open_journal(durable)?;
    // Where none can be used, the journal does for itself; what it lacks is found when the partitions are counted.
    let Ok(Some(loaded)) = open_snapshots(durable)?.newest() else { return Ok(()) };
    if Some(loaded.epoch()) > recovered.last_epoch {
        return Err(RunError::Engine(format!(
            "the journal in '{}' ends before the snapshot of epoch {}, and what was read in between is not known; start \
             with `--fresh`",
            durable.dir.display(),
            loaded.epoch()
        )));
    }
    for (name, partitions) in loaded.partitions().map_err(RunError::Snapshot)? {
        let Some(source) = sources.iter().position(|s| s.name == name) else { continue };
        for KnownPartition { partition, name, identity, read } in partitions {
            let source = source_id(source);
            let record = PartitionRecord { source, partition, name, identity, read };
            journal.append_partition(&record).map_err(RunError::Journal)?;
        }
    }
    journal.sync().map_err(RunError::Journal)
}

/// Notes that the computation has come to its end.
///
/// # Errors
/// When the disk fails.
pub(crate) fn finish(durable: &Durable) -> Result<(), RunError> {
    if let Some(state) = read_state(durable.disk.as_ref(), &durable.dir)? {
        write_state(durable, &State { finished: true, ..state })?;
    }
    Ok(())
}

/// What holds from here on.
fn next_state(durable: &Durable, found: Option<&State>, run: RunId) -> Result<State, RunError> {
    let identity = durable.identity.clone();
    let anew = State { generation: run.0, finished: false, identity: identity.clone() };
    let Some(found) = found else { return Ok(anew) };
    let differences = found.identity.differences(&identity);
    let ended = found.finished && durable.bounded;
    match durable.on_change {
        OnChange::Fresh | OnChange::FromJournal => Ok(anew),
        OnChange::Refuse | OnChange::Migrate if ended => Ok(anew),
        OnChange::Refuse if !differences.is_empty() => {
            Err(RunError::Changed { dir: durable.dir.clone(), differences })
        }
        OnChange::Refuse | OnChange::Migrate => {
            Ok(State { generation: found.generation, finished: false, identity })
        }
    }
}

/// What was there before this run.
#[derive(Default)]
struct Before {
    start: Start,
    accounts: BTreeMap<String, Account>,
    /// What the snapshot says of the partitions, by the name of their source.
    partitions: BTreeMap<String, Vec<KnownPartition>>,
    /// The clock of the snapshot's epoch.
    clock_ns: i64,
    notes: Vec<String>,
    /// The first snapshot is not to build on those before.
    whole: bool,
}

impl Before {
    /// What a snapshot says, or the beginning of the journal where there is none.
    fn of(
        loaded: Option<Loaded>,
        recovered: &Recovered,
        durable: &Durable,
        sources: &[SourceNode],
    ) -> Result<Self, RunError> {
        let mut before = Before::default();
        if let Some(trimmed) = &recovered.trimmed {
            before.notes.push(format!(
                "the end of '{}' was torn off by a power loss and is trimmed: {} bytes that nobody was told of",
                trimmed.file.display(),
                trimmed.bytes
            ));
        }
        let Some(loaded) = loaded else {
            before.start.after = recovered.first_epoch.map_or(0, |first| first - 1);
            return before.at_the_beginning(durable);
        };
        for damaged in &loaded.damaged {
            before.notes.push(format!("a snapshot is damaged, an older one is used: {damaged}"));
        }
        let facts = loaded.facts();
        before.accounts = facts.accounts.clone();
        before.clock_ns = facts.clock_ns;
        before.partitions = loaded.partitions().map_err(RunError::Snapshot)?;
        // Those of a source that is gone are not to stay for ever.
        before.whole = before.partitions.keys().any(|name| sources.iter().all(|s| s.name != *name));
        let ended = sources.iter().enumerate().filter(|(_, s)| facts.ended.contains(&s.name));
        before.start.ended = ended.map(|(i, _)| source_id(i)).collect();
        before.start.after = loaded.epoch();
        before.start.snapshot = loaded.epoch();
        let mut nodes = BTreeMap::new();
        for (node, shards) in loaded.shards() {
            let was = facts.nodes.get(node);
            let is = durable.identity.nodes.get(node);
            // A step that is gone or has changed begins without state; that was asked for, or the run was refused.
            let Some(was) = was.filter(|was| is == Some(&was.config)) else {
                before.whole = true;
                before.notes.push(format!("'{node}' has changed and begins without state"));
                continue;
            };
            let mut saved = SavedNode { state_version: was.state_version, shards: BTreeMap::new() };
            for shard in shards {
                if let Some(state) = loaded.state(node, shard).map_err(RunError::Snapshot)? {
                    saved.shards.insert(shard, state);
                }
            }
            nodes.insert(node.to_owned(), saved);
        }
        before.start.nodes = Mutex::new(nodes);
        Ok(before)
    }

    /// Without a snapshot the journal must have everything from the first epoch on, unless that was not asked for.
    fn at_the_beginning(mut self, durable: &Durable) -> Result<Self, RunError> {
        if self.start.after > 0 && durable.on_change != OnChange::FromJournal {
            return Err(RunError::Engine(format!(
                "there is no snapshot in '{}' and the journal begins at epoch {}; start with `--from-journal` to compute \
                 from there on, or with `--fresh`",
                durable.dir.display(),
                self.start.after + 1
            )));
        }
        if self.start.after > 0 {
            self.notes.push(format!(
                "the journal begins at epoch {}: what came before has no part in the new results",
                self.start.after + 1
            ));
        }
        Ok(self)
    }
}

/// The partitions that a snapshot or the journal knows, read as far as the snapshot says; and the blocks of those that
/// only the journal knows.
fn known_before(
    recovered: &Recovered,
    mut partitions: BTreeMap<String, Vec<KnownPartition>>,
    sources: &[SourceNode],
) -> Result<(Known, Blocks), RunError> {
    let (mut known, mut news) = (Known::new(), Blocks::new());
    for (source, node) in sources.iter().enumerate() {
        let said = partitions.remove(&node.name).unwrap_or_default();
        known.extend(said.into_iter().map(|k| ((source, k.partition), k)));
    }
    for p in &recovered.partitions {
        let key = (p.source.0 as usize, p.partition);
        known.entry(key).or_insert_with(|| {
            news.insert((key.0, block_of(key.1)));
            let (name, identity) = (p.name.clone(), p.identity.clone());
            KnownPartition { partition: p.partition, name, identity, read: p.read }
        });
    }
    for (source, node) in sources.iter().enumerate() {
        let second = Position::SECOND_PARTITIONS;
        let has_gap = |first: u32, end: u32| {
            let there = known.range((source, Partition(first))..(source, Partition(end)));
            (first..).zip(there).any(|(n, ((_, partition), _))| partition.0 != n)
        };
        // A source that was told of a part would number anew.
        if has_gap(0, second) || has_gap(second, u32::MAX) {
            return Err(RunError::Engine(format!(
                "no sound snapshot says what of source '{}' was read before the journal begins; restore one from a \
                 backup, or start with `--fresh`",
                node.name
            )));
        }
    }
    Ok((known, news))
}

/// What holds at the end of the journal.
struct Ahead {
    known: Known,
    news: Blocks,
    last_epoch: u64,
    clock_ns: i64,
    ended: BTreeSet<SourceId>,
    unmarked: Vec<(usize, Chunk)>,
}

impl Ahead {
    fn look(mut self, replay: JournalReplay) -> Result<Self, RunError> {
        for item in replay {
            match item.map_err(RunError::Journal)? {
                // All of them are known since the journal was opened.
                Replayed::Partition(_) => {}
                Replayed::Epoch { epoch, .. } => {
                    self.last_epoch = epoch.id;
                    self.clock_ns = self.clock_ns.max(epoch.clock_ns);
                    self.ended.extend(&epoch.ended);
                    for i in &epoch.inputs {
                        self.note(i.source, i.partition, i.range);
                    }
                }
                Replayed::Unmarked { source, chunk } => {
                    self.note(source, chunk.partition, chunk.range);
                    self.unmarked.push((source.0 as usize, chunk));
                }
            }
        }
        Ok(self)
    }

    fn note(&mut self, source: SourceId, partition: Partition, range: Range) {
        let source = source.0 as usize;
        if let Some(known) = self.known.get_mut(&(source, partition)) {
            let (end, end_ordinal) = (range.end, range.end_ordinal);
            known.read = Some(ReadUpTo { end, end_ordinal });
            self.news.insert((source, block_of(partition)));
        }
    }
}

/// Hands out epochs that are in a journal.
pub(crate) struct Replayer {
    replay: JournalReplay,
    /// Where each source of the journal stands in the graph, unless it is where it was.
    places: Option<Vec<Option<usize>>>,
}

impl Replayer {
    pub(crate) fn new(replay: JournalReplay) -> Self {
        Replayer { replay, places: None }
    }

    /// One for the journal of another pipeline, some of whose sources `sources` has under the same name; and the
    /// partitions that are in it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) fn of_history(
        history: &History,
        sources: &[SourceNode],
    ) -> Result<(Self, Known), RunError> {
        let (replay, partitions) = history.read()?;
        let places = history.places(sources.iter().map(|s| s.name.as_str()));
        // Behind the journal, so that it knows what a trim in between has taken out of that.
        let mut kept = history.partitions()?;
        let mut known = Known::new();
        for (source, node) in sources.iter().enumerate() {
            let all = kept.remove(&node.name).unwrap_or_default();
            let anew = all.into_iter().map(|k| KnownPartition { read: None, ..k });
            known.extend(anew.map(|k| ((source, k.partition), k)));
        }
        for PartitionRecord { source, partition, name, identity, .. } in partitions {
            if let Some(source) = places.get(source.0 as usize).copied().flatten() {
                let met = KnownPartition { partition, name, identity, read: None };
                known.entry((source, partition)).or_insert(met);
            }
        }
        Ok((Replayer { replay, places: Some(places) }, known))
    }

    /// The epoch before the first one that is handed out.
    pub(crate) fn after(&self) -> u64 {
        self.replay.after()
    }

    fn place(&self, source: SourceId) -> Option<SourceId> {
        match &self.places {
            None => Some(source),
            Some(places) => places.get(source.0 as usize).copied().flatten().map(source_id),
        }
    }

    /// The next epoch with its chunks; records that the journal does not have are read from their source again.
    pub(crate) fn next(
        &mut self,
        sources: &mut [SourceNode],
    ) -> Result<Option<(Epoch, Share)>, RunError> {
        while let Some(item) = self.replay.next() {
            match item.map_err(RunError::Journal)? {
                Replayed::Partition(_) | Replayed::Unmarked { .. } => {}
                Replayed::Epoch { epoch, inputs } => {
                    let (epoch, kept) = renumbered(epoch, |source| self.place(source));
                    let inputs = inputs.into_iter().zip(kept).filter(|(_, kept)| *kept);
                    let inputs = inputs.map(|(input, _)| input).collect();
                    let chunks = chunks_of(&epoch, inputs, sources)?;
                    return Ok(Some((epoch, chunks)));
                }
            }
        }
        Ok(None)
    }
}

fn chunks_of(
    epoch: &Epoch,
    inputs: Vec<ReplayedInput>,
    sources: &mut [SourceNode],
) -> Result<Share, RunError> {
    let mut chunks = Vec::with_capacity(inputs.len());
    for (range, input) in epoch.inputs.iter().zip(inputs) {
        let source = range.source.0 as usize;
        let Some(node) = sources.get_mut(source) else { continue };
        let chunk = match input.chunk {
            Some(chunk) => chunk,
            None => {
                let failed = |e| RunError::Source(node.name.clone(), e);
                let chunk = node.source.read(range.partition, range.range).map_err(failed)?;
                if digest(&chunk.payload) != input.digest {
                    let what = node.source.partition_name(range.partition).unwrap_or_default();
                    let how = format!(
                        "bytes {} to {} are not what they were",
                        range.range.start, range.range.end
                    );
                    return Err(failed(SourceError::Changed { what, how }));
                }
                chunk
            }
        };
        chunks.push((source, Arc::new(chunk)));
    }
    Ok(chunks)
}

/// What the pipeline is whose progress `dir` holds.
///
/// # Errors
/// When that cannot be read.
pub(crate) fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, RunError> {
    Ok(read_state(disk, dir)?.map(|state| state.identity))
}

fn read_state(disk: &dyn Disk, dir: &Path) -> Result<Option<State>, RunError> {
    let path = dir.join(STATE);
    match disk.read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            RunError::Engine(format!("'{}' is damaged: {e}; start with `--fresh`", path.display()))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(&path, &e)),
    }
}

/// Replaces the state, durably and at once.
fn write_state(durable: &Durable, state: &State) -> Result<(), RunError> {
    let (disk, path) = (durable.disk.as_ref(), durable.dir.join(STATE));
    let temporary = durable.dir.join("state.json.tmp");
    let text = serde_json::to_vec_pretty(state).map_err(|e| RunError::Engine(e.to_string()))?;
    disk.write_whole(&temporary, &text)
        .and_then(|()| disk.rename(&temporary, &path))
        .and_then(|()| disk.sync_dir(&durable.dir))
        .map_err(|e| failed(&path, &e))
}

fn remove(durable: &Durable, dir: &Path) -> Result<(), RunError> {
    match durable.disk.remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(dir, &e)),
    }
}

fn failed(path: &Path, error: &io::Error) -> RunError {
    RunError::Engine(format!("the data directory cannot be used: '{}': {error}", path.display()))
}
