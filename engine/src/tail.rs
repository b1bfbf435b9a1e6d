//! What a sink was handed and has not committed yet, for readers that join it with what lies in the sink.
//!
//! What a reader would get wrong: look here first, then at the sink. What a commit has made visible in between is then there
//! twice, and told apart by its epoch; the other way round it would be nowhere.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use crate::batch::Batch;

/// Rows on their way into a sink. The batches are those that the hub holds for it anyway, so they take no memory of their own.
#[derive(Debug, Default)]
pub struct Tail(RwLock<Contents>);

#[derive(Debug, Default)]
struct Contents {
    generation: u64,
    epoch: u64,
    held: VecDeque<(u64, Vec<Batch>)>,
}

/// What a [`Tail`] had when it was looked at.
#[derive(Debug, Clone, Default)]
pub struct Tailed {
    /// The computation whose epochs these are.
    pub generation: u64,
    /// The last epoch that the sink was handed; 0 before the first.
    pub epoch: u64,
    /// Rows by epoch, oldest first. Epochs that the sink has committed since may be among them.
    pub rows: Vec<(u64, Vec<Batch>)>,
}

impl Tail {
    /// What it has now.
    #[must_use]
    pub fn look(&self) -> Tailed {
        let Contents { generation, epoch, held } =
            &*self.0.read().unwrap_or_else(PoisonError::into_inner);
        Tailed {
            generation: *generation,
            epoch: *epoch,
            rows: held.iter().filter(|(_, rows)| !rows.is_empty()).cloned().collect(),
        }
    }

    pub(crate) fn begin(&self, generation: u64) {
        self.write().generation = generation;
    }

    pub(crate) fn push(&self, epoch: u64, rows: &[Batch]) {
        let mut contents = self.write();
        contents.epoch = contents.epoch.max(epoch);
        contents.held.push_back((epoch, rows.to_vec()));
    }

    /// Forgets what the sink has.
    pub(crate) fn forget(&self, upto: u64) {
        let mut contents = self.write();
        contents.epoch = contents.epoch.max(upto);
        while contents.held.front().is_some_and(|(epoch, _)| *epoch <= upto) {
            contents.held.pop_front();
        }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Contents> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
