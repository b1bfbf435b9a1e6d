//! What the parts of a run tell each other: counts, failure, which epochs are known.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::epoch::Epoch;
use crate::run::RunError;

/// The first failure of a run, for all threads to see.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    raised: AtomicBool,
    first: Mutex<Option<RunError>>,
}

impl Failure {
    /// Notes a failure; only the first counts.
    pub(crate) fn raise(&self, error: RunError) {
        let mut first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert(error);
        self.raised.store(true, Ordering::Release);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<RunError> {
        self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

/// A source or step, by its place in the list of accounts: sources first, then steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub usize);

/// Accounts of one worker by epoch, until they are sent off. Epochs are kept apart because a decoder may be
/// epochs ahead of the steps below it, and only whole epochs balance.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    nodes: usize,
    epochs: Rc<RefCell<BTreeMap<u64, Vec<Account>>>>,
}

impl Ledger {
    pub(crate) fn new(nodes: usize) -> Self {
        Ledger { nodes, epochs: Rc::default() }
    }

    pub(crate) fn add(&self, epoch: u64, node: NodeId, account: &Account) {
        let mut epochs = self.epochs.borrow_mut();
        let accounts = epochs.entry(epoch).or_insert_with(|| vec![Account::default(); self.nodes]);
        accounts[node.0].add(account);
    }

    /// The epochs up to `upto`, out of here.
    pub(crate) fn take(&self, upto: u64) -> BTreeMap<u64, Vec<Account>> {
        let mut epochs = self.epochs.borrow_mut();
        let rest = epochs.split_off(&(upto + 1));
        std::mem::replace(&mut *epochs, rest)
    }
}

/// Which state is to be saved as of the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// None.
    No,
    /// That of the shards that have changed since they were last saved.
    Changed,
    /// All of it.
    Whole,
}

/// An epoch as the workers are told of it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub epoch: Arc<Epoch>,
    pub snapshot: Snapshot,
}

/// The epochs that a worker's operators may still ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct EpochBook(Rc<RefCell<BTreeMap<u64, Told>>>);

impl EpochBook {
    pub(crate) fn insert(&self, told: Told) {
        self.0.borrow_mut().insert(told.epoch.id, told);
    }

    /// The epoch `id`, if it was closed.
    pub(crate) fn get(&self, id: u64) -> Option<Told> {
        self.0.borrow().get(&id).cloned()
    }

    /// Forgets what every operator is through with.
    pub(crate) fn forget_before(&self, id: u64) {
        let mut epochs = self.0.borrow_mut();
        *epochs = epochs.split_off(&id);
    }
}

/// How long each stage of a worker was at work. For people who wonder where the time goes; no result depends on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Rc<RefCell<BTreeMap<String, Duration>>>);

impl Meter {
    /// Does `work` and notes how long `stage` took for it.
    pub(crate) fn time<R>(&self, stage: &str, work: impl FnOnce() -> R) -> R {
        #[expect(clippy::disallowed_methods, reason = "a measurement, not part of a result")]
        let begun = Instant::now();
        let done = work();
        let mut stages = self.0.borrow_mut();
        if let Some(sum) = stages.get_mut(stage) {
            *sum += begun.elapsed();
        } else {
            stages.insert(stage.to_owned(), begun.elapsed());
        }
        done
    }

    /// Adds what this worker measured to what others did.
    pub(crate) fn hand_in(&self, to: &Mutex<BTreeMap<String, Duration>>) {
        let mut to = to.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (stage, time) in self.0.borrow_mut().iter_mut() {
            let time = std::mem::take(time);
            match to.get_mut(stage) {
                Some(sum) => *sum += time,
                None => drop(to.insert(stage.clone(), time)),
            }
        }
    }
}

/// Does `work` and notes how long `stage` took for it.
pub(crate) fn time_into<R>(
    stages: &Mutex<BTreeMap<String, Duration>>,
    stage: String,
    work: impl FnOnce() -> R,
) -> R {
    #[expect(clippy::disallowed_methods, reason = "a measurement, not part of a result")]
    let begun = Instant::now();
    let done = work();
    let mut stages = stages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *stages.entry(stage).or_default() += begun.elapsed();
    done
}
