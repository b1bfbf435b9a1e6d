//! Where the rows of an operator went.

use serde::{Deserialize, Serialize};

/// Counts of one operator, summed over a run. For every operator and at every epoch
/// `input = used + filtered + late + deduplicated + dead + in_flight`; emitted rows are counted apart, since one
/// row in may be none or many out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Rows taken in. The engine counts them.
    pub input: u64,
    /// Rows that took part in the result.
    pub used: u64,
    /// Rows that a condition of the user left out.
    pub filtered: u64,
    /// Rows behind their key's watermark that the policy did not use.
    pub late: u64,
    /// Rows that were there before.
    pub deduplicated: u64,
    /// Rows that could not be used. The engine counts them.
    pub dead: u64,
    /// Rows held back for now. In what an operator reports this is the change since its last report.
    pub in_flight: i64,
    /// Rows sent on. The engine counts them.
    pub emitted: u64,
    /// Of the rows used, those that came late and correct the result.
    #[serde(default)]
    pub corrected: u64,
    /// Of all rows, those whose event time is their arrival because the device's clock was off.
    #[serde(default)]
    pub restamped: u64,
}

impl Account {
    /// Adds what happened since.
    pub fn add(&mut self, more: &Account) {
        self.input += more.input;
        self.used += more.used;
        self.filtered += more.filtered;
        self.late += more.late;
        self.deduplicated += more.deduplicated;
        self.dead += more.dead;
        self.in_flight += more.in_flight;
        self.emitted += more.emitted;
        self.corrected += more.corrected;
        self.restamped += more.restamped;
    }

    /// What happened since `before`.
    #[must_use]
    pub fn since(&self, before: &Account) -> Account {
        Account {
            input: self.input - before.input,
            used: self.used - before.used,
            filtered: self.filtered - before.filtered,
            late: self.late - before.late,
            deduplicated: self.deduplicated - before.deduplicated,
            dead: self.dead - before.dead,
            in_flight: self.in_flight - before.in_flight,
            emitted: self.emitted - before.emitted,
            corrected: self.corrected - before.corrected,
            restamped: self.restamped - before.restamped,
        }
    }

    /// Whether every row that came in is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        let gone = self.used + self.filtered + self.late + self.deduplicated + self.dead;
        i128::from(self.input) == i128::from(gone) + i128::from(self.in_flight)
    }
}
