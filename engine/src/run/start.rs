//! Where a run begins: at the first epoch, or behind the last one that an earlier run has a snapshot of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::epoch::SourceId;
use crate::keyed::{ShardSet, worker_of};
use crate::operator::{Fault, WorkerContext};

/// The state of a source's ordering step or of a step.
#[derive(Debug, Default)]
pub(crate) struct SavedNode {
    /// Of the code that wrote it.
    pub state_version: u32,
    pub shards: BTreeMap<u8, RecordBatch>,
}

/// What the workers begin with.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// The epoch before the first one: that of the snapshot, or the one before those that the journal has.
    pub after: u64,
    /// The state is as of the end of this epoch; 0 where there is none.
    pub snapshot: u64,
    /// Sources that had ended by then.
    pub ended: BTreeSet<SourceId>,
    /// By the name of the source or step; each worker takes what is its own out.
    pub nodes: Mutex<BTreeMap<String, SavedNode>>,
}

impl Start {
    pub(crate) fn first_epoch(&self) -> u64 {
        self.after + 1
    }

    pub(crate) fn of_worker(self: &Arc<Self>, worker: WorkerContext) -> WorkerStart {
        WorkerStart { start: Arc::clone(self), worker }
    }
}

/// What one worker begins with.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    start: Arc<Start>,
    worker: WorkerContext,
}

impl WorkerStart {
    pub(crate) fn first_epoch(&self) -> u64 {
        self.start.first_epoch()
    }

    /// The number of this worker.
    pub(crate) fn worker(&self) -> usize {
        self.worker.index
    }

    /// The shards that this worker owns.
    pub(crate) fn shards(&self) -> ShardSet {
        let mut own = ShardSet::none();
        let owned = (0..=u8::MAX).filter(|s| worker_of(*s, self.worker.peers) == self.worker.index);
        owned.for_each(|shard| own.insert(shard));
        own
    }

    pub(crate) fn has_ended(&self, source: SourceId) -> bool {
        self.start.ended.contains(&source)
    }

    /// Hands the state of each of this worker's shards of `node` to `load`: shard, version, state.
    pub(crate) fn states(
        &self,
        node: &str,
        mut load: impl FnMut(u8, u32, RecordBatch) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (version, own) = self.take(node);
        own.into_iter().try_for_each(|(shard, state)| load(shard, version, state))
    }

    /// This worker's shards of `node`, with the version of the code that wrote them.
    fn take(&self, node: &str) -> (u32, Vec<(u8, RecordBatch)>) {
        let mut nodes = self.start.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(saved) = nodes.get_mut(node) else { return (0, Vec::new()) };
        let own = self.shards();
        let taken = own.iter().filter_map(|s| Some((s, saved.shards.remove(&s)?))).collect();
        (saved.state_version, taken)
    }
}
