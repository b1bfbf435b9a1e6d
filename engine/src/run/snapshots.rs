//! The thread that writes snapshots while the stream goes on, and who decides when there is one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

use crate::account::Account;
use crate::crash::crash_point;
use crate::epoch::SourceId;
use crate::run::journalist::Entry;
use crate::run::ledger::{NodeId, Snapshot};
use crate::snapshot::{Facts as SnapshotFacts, NodeFacts, SnapshotError, SnapshotStore};
use crate::source::KnownPartition;

/// What the sources have come to at the end of an epoch.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub whole: bool,
    /// The clock of the epoch.
    pub clock_ns: i64,
    /// The blocks with news: by the place of the source in the graph, and number of the block.
    pub partitions: BTreeMap<(usize, u32), Vec<KnownPartition>>,
    pub ended: Vec<SourceId>,
}

/// The state of a shard; `None`: it is empty.
#[derive(Debug)]
pub(crate) struct SavedShard {
    pub node: NodeId,
    pub shard: u8,
    pub state: Option<RecordBatch>,
}

/// All there is to a snapshot.
#[derive(Debug)]
pub(crate) struct Job {
    pub epoch: u64,
    pub facts: Facts,
    pub states: Vec<SavedShard>,
    pub accounts: BTreeMap<String, Account>,
    pub sinks: BTreeMap<String, u64>,
}

/// What the three ends share.
#[derive(Debug, Default)]
struct Shared {
    facts: Mutex<BTreeMap<u64, Facts>>,
    /// Snapshots that were begun and are not through.
    under_way: AtomicU64,
    /// The next snapshot must have all state: it is not to build on those before.
    whole: AtomicBool,
}

/// The conductor's end: says at which epochs.
#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    interval: Duration,
    /// The clock when the last one was asked for.
    last_ns: i64,
    /// The epoch at which it was.
    last_epoch: u64,
    demanded: bool,
}

/// The sinks' end: hands on what is to be written.
#[derive(Debug)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
}

/// Writes snapshots.
pub(crate) struct Keeper {
    store: SnapshotStore,
    /// What every snapshot says of itself.
    facts: SnapshotFacts,
    /// What a source or step is, by its number; sources come first.
    nodes: Vec<(String, NodeFacts)>,
    n_sources: usize,
    journal: Sender<Entry>,
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
}

/// What a keeper begins with.
pub(crate) struct Begin {
    pub store: SnapshotStore,
    pub facts: SnapshotFacts,
    pub nodes: Vec<(String, NodeFacts)>,
    pub n_sources: usize,
    pub journal: Sender<Entry>,
    pub interval: Duration,
    pub now_ns: i64,
    /// Whether the first snapshot must have all state.
    pub whole: bool,
}

/// The three ends.
pub(crate) fn ends(begin: Begin) -> (Gate, Desk, Keeper) {
    let Begin { store, facts, nodes, n_sources, journal, interval, now_ns, whole } = begin;
    let shared = Arc::new(Shared { whole: AtomicBool::new(whole), ..Shared::default() });
    let (sender, jobs) = unbounded();
    let gate = Gate {
        shared: Arc::clone(&shared),
        interval,
        last_ns: now_ns,
        last_epoch: 0,
        demanded: false,
    };
    let desk = Desk { shared: Arc::clone(&shared), jobs: sender };
    let keeper = Keeper { store, facts, nodes, n_sources, journal, jobs, shared };
    (gate, desk, keeper)
}

impl Gate {
    /// Asks for a snapshot at the next epoch that is closed.
    pub(crate) fn demand(&mut self) {
        self.demanded = true;
    }

    /// Whether no snapshot is under way.
    pub(crate) fn is_free(&self) -> bool {
        self.shared.under_way.load(Ordering::Acquire) == 0
    }

    /// Whether what was closed up to epoch `closed` waits for a snapshot whose time has come. Sinks keep rows back until
    /// one, so that a stream that falls silent needs an epoch more.
    pub(crate) fn is_due(&self, closed: u64, clock_ns: i64) -> bool {
        let age = clock_ns.saturating_sub(self.last_ns).unsigned_abs();
        closed > self.last_epoch && self.is_free() && u128::from(age) >= self.interval.as_nanos()
    }

    /// Whether state is to be saved as of the end of `epoch`.
    pub(crate) fn at(
        &mut self,
        epoch: u64,
        clock_ns: i64,
        facts: impl FnOnce(bool) -> Facts,
    ) -> Snapshot {
        let age = clock_ns.saturating_sub(self.last_ns).unsigned_abs();
        let due = u128::from(age) >= self.interval.as_nanos();
        if !(self.demanded || (due && self.is_free())) {
            return Snapshot::No;
        }
        self.demanded = false;
        self.last_ns = clock_ns;
        self.last_epoch = epoch;
        let whole = self.shared.whole.swap(false, Ordering::AcqRel);
        self.shared.under_way.fetch_add(1, Ordering::AcqRel);
        let mut all = self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(epoch, facts(whole));
        if whole { Snapshot::Whole } else { Snapshot::Changed }
    }
}

impl Desk {
    /// What is to be written as of the end of `epoch`, if a snapshot was asked for.
    pub(crate) fn facts(&self, epoch: u64) -> Option<Facts> {
        self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner).remove(&epoch)
    }

    /// Has a snapshot written.
    pub(crate) fn make(&self, job: Job) {
        // The thread ends only after this end is gone.
        self.jobs.send(job).ok();
    }
}

impl Keeper {
    /// Works until the other end is gone.
    pub(crate) fn work(mut self) {
        while let Ok(job) = self.jobs.recv() {
            self.take(job);
        }
    }

    /// Does a job that waits, if there is one; whether more may come.
    pub(crate) fn turn(&mut self) -> bool {
        match self.jobs.try_recv() {
            Ok(job) => {
                self.take(job);
                true
            }
            Err(e) => e == TryRecvError::Empty,
        }
    }

    fn take(&mut self, job: Job) {
        if let Err(error) = self.write(job) {
            // What it would have held is part of the next one, and the journal is kept until then.
            tracing::warn!("a snapshot was not made, the next one is tried: {error}");
        }
        self.shared.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    fn write(&mut self, job: Job) -> Result<(), SnapshotError> {
        let Job { epoch, facts, states, accounts, sinks } = job;
        let mut draft =
            if facts.whole { self.store.begin_full(epoch)? } else { self.store.begin(epoch)? };
        for SavedShard { node, shard, state } in states {
            let (name, _) = &self.nodes[node.0];
            match state {
                Some(state) => draft.add(name, shard, &state),
                None => draft.remove(name, shard),
            }
        }
        let n_sources = self.n_sources;
        let name =
            |source: usize| self.nodes[..n_sources].get(source).map(|(name, _)| name.clone());
        for ((source, block), known) in &facts.partitions {
            if let Some(name) = name(*source) {
                draft.add_partitions(&name, *block, known);
            }
        }
        let ended = facts.ended.iter().filter_map(|s| name(s.0 as usize)).collect();
        crash_point("before snapshot write");
        let written = draft.write()?;
        crash_point("snapshot written");
        written.publish(SnapshotFacts {
            nodes: self.nodes.iter().cloned().collect(),
            ended,
            committed: sinks,
            accounts,
            clock_ns: facts.clock_ns,
            ..self.facts.clone()
        })?;
        crash_point("snapshot published");
        if let Some(oldest) = self.store.oldest_kept() {
            self.journal.send(Entry::Trim(oldest)).ok();
        }
        Ok(())
    }
}
