//! When rows of a key that keeps failing are no longer sent.
//!
//! It counts epochs and never seconds, and is part of the step's state, so that a replay sends the same rows.

use serde::{Deserialize, Serialize};

/// Epochs for which a gate stays shut the first time.
const FIRST_WAIT: u64 = 16;
/// The longest it stays shut. Every wait is twice the one before.
const LONGEST_WAIT: u64 = 4096;

/// The gate of one key or one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gate {
    /// Epochs in a row that failed, of those in which there was anything to send.
    failed: u32,
    /// The last epoch for which it is shut; 0 while it never was.
    shut_until: u64,
    /// For how many epochs it was shut last.
    wait: u64,
}

impl Gate {
    /// Whether rows are kept back in this epoch.
    pub(super) fn is_shut(&self, epoch: u64) -> bool {
        self.wait > 0 && epoch <= self.shut_until
    }

    /// Whether it remembers anything.
    pub(super) fn is_clear(&self) -> bool {
        *self == Gate::default()
    }

    /// Whether it was shut and no row went well since.
    pub(super) fn was_shut(&self) -> bool {
        self.wait > 0
    }

    /// Takes in how an epoch went in which rows were sent; for how many epochs it is shut from now on.
    pub(super) fn settle(&mut self, epoch: u64, failed: bool, after: u32) -> Option<u64> {
        if !failed {
            *self = Gate::default();
            return None;
        }
        self.failed = self.failed.saturating_add(1);
        if after > 0 && self.failed >= after {
            self.wait = if self.wait == 0 { FIRST_WAIT } else { (self.wait * 2).min(LONGEST_WAIT) };
            self.shut_until = epoch.saturating_add(self.wait);
            return Some(self.wait);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuts_after_failures_in_a_row_and_waits_ever_longer() {
        let mut gate = Gate::default();
        for epoch in 1..5 {
            gate.settle(epoch, true, 5);
            assert!(!gate.is_shut(epoch + 1));
        }
        gate.settle(5, true, 5);
        assert!(gate.is_shut(6) && gate.is_shut(21) && !gate.is_shut(22));
        gate.settle(22, true, 5);
        assert!(gate.is_shut(54) && !gate.is_shut(55), "32 epochs after one more failure");
        let mut epoch = 55;
        for _ in 0..10 {
            gate.settle(epoch, true, 5);
            epoch = gate.shut_until + 1;
        }
        gate.settle(epoch, true, 5);
        assert_eq!(gate.shut_until - epoch, LONGEST_WAIT);
    }

    #[test]
    fn one_good_epoch_clears_it() {
        let mut gate = Gate::default();
        for epoch in 1..=5 {
            gate.settle(epoch, true, 5);
        }
        gate.settle(22, false, 5);
        assert!(gate.is_clear());
    }

    #[test]
    fn never_shuts_where_it_is_switched_off() {
        let mut gate = Gate::default();
        for epoch in 1..1000 {
            gate.settle(epoch, true, 0);
            assert!(!gate.is_shut(epoch + 1));
        }
    }
}
