//! What the versions of a model did in this run, summed over the workers, for those who watch it.
//!
//! It counts and decides nothing: what a step does to a row follows from its state alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// What a version did in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Rows that it acted on.
    pub acted: u64,
    /// Those of them that it could not score.
    pub failed: u64,
    /// Those of them that have no score though nothing failed: a feature is missing, or the model says so.
    pub unscored: u64,
    /// Rows that it scored as a shadow only.
    pub shadowed: u64,
    /// Those of them that it could not score.
    pub shadow_failed: u64,
    /// Those of them that have no score though nothing failed.
    pub shadow_unscored: u64,
    /// Calls that broke an instance and went through in a fresh one.
    pub healed: u64,
    /// Keys and shards at this moment whose rows the breaker keeps back, or lets through on trial.
    pub kept_back: u64,
}

/// What the versions of one step did.
#[derive(Debug, Default)]
pub struct Ledger {
    step: String,
    works: Mutex<BTreeMap<String, Work>>,
}

impl Ledger {
    /// That of the step called `step`; nothing is done yet.
    pub(super) fn new(step: &str) -> Self {
        Ledger { step: step.to_owned(), works: Mutex::default() }
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// What each version did in this run.
    #[must_use]
    pub fn works(&self) -> BTreeMap<String, Work> {
        self.lock().clone()
    }

    /// Adds what was done with a batch; what stands at this moment is not taken from `work`.
    pub(super) fn count(&self, version: &str, work: Work) {
        let mut works = self.lock();
        let sum = entry(&mut works, version);
        sum.acted += work.acted;
        sum.failed += work.failed;
        sum.unscored += work.unscored;
        sum.shadowed += work.shadowed;
        sum.shadow_failed += work.shadow_failed;
        sum.shadow_unscored += work.shadow_unscored;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Work>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of a version.
fn entry<'a>(works: &'a mut BTreeMap<String, Work>, version: &str) -> &'a mut Work {
    works.entry(version.to_owned()).or_default()
}

/// The part of one version on one worker in what a ledger says of it. Once it is gone, none of its keys is kept back.
#[derive(Debug)]
pub(super) struct Share {
    ledger: Arc<Ledger>,
    version: String,
    healed: u64,
    kept_back: u64,
}

impl Share {
    /// A version that is there counts from zero.
    pub(super) fn new(ledger: Arc<Ledger>, version: &str) -> Self {
        entry(&mut ledger.lock(), version);
        Share { ledger, version: version.to_owned(), healed: 0, kept_back: 0 }
    }

    /// Says how many calls were healed so far and how many keys and shards are kept back now.
    pub(super) fn is(&mut self, healed: u64, kept_back: u64) {
        if (healed, kept_back) != (self.healed, self.kept_back) {
            let mut works = self.ledger.lock();
            let sum = entry(&mut works, &self.version);
            sum.healed += healed - self.healed;
            sum.kept_back = (sum.kept_back + kept_back).saturating_sub(self.kept_back);
            (self.healed, self.kept_back) = (healed, kept_back);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.is(self.healed, 0);
    }
}
