//! Whether the condition of a key holds, after its delays.
//!
//! It is told rows in order, and asked what time alone brings about: [`Condition::next`] is when, [`Condition::elapse`]
//! does it. The caller asks before each row and for each watermark.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::judge::Says;

/// How long, and how often, a condition must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delays {
    /// On-delay; 0 is none.
    pub(super) on: i64,
    /// Off-delay; 0 is none.
    pub(super) off: i64,
    /// How many rows must confirm.
    pub(super) k: usize,
    /// Among how many.
    pub(super) reach: Reach,
    /// Delays start anew after a longer time without a row that says something.
    pub(super) gap: Option<i64>,
    /// A longer silence than `gap` is the condition, and a row its end.
    pub(super) is_deadman: bool,
    /// Whether a condition of its own clears.
    pub(super) clears_apart: bool,
}

/// How far back a row counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach {
    /// So many rows that say something, the current one included.
    Rows(u64),
    /// Those later than so long ago.
    Time(i64),
}

/// A row for which `when` held.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Confirmed {
    /// The how-manieth row it was that said something.
    number: u64,
    at: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Normal,
    /// It holds since `since`, but not for long enough.
    Pending { first_seen: i64, since: i64 },
    /// It was raised. What clears it holds since `clearing`.
    Active { clearing: Option<i64> },
}

/// What has become of the condition of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Condition {
    phase: Phase,
    /// The last row that said something.
    stated: Option<i64>,
    /// How many did.
    n_stated: u64,
    /// The last `k` that confirm, as far as they count.
    confirmed: VecDeque<Confirmed>,
    /// The last row has said that silence is expected.
    silence_is_expected: bool,
}

/// The condition has begun, or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Raised { at: i64, first_seen: i64 },
    Cleared { at: i64 },
}

impl Condition {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// Whether nothing has begun.
    pub(super) fn is_normal(&self) -> bool {
        self.phase == Phase::Normal
    }

    /// Whether nothing of it has to be remembered.
    pub(super) fn is_calm(&self) -> bool {
        self.is_normal() && self.confirmed.is_empty()
    }

    /// When a gap begins, if no row comes.
    fn lapse(&self, delays: &Delays) -> Option<i64> {
        let gap = delays.gap.filter(|_| !self.silence_is_expected);
        self.stated.zip(gap).map(|(stated, gap)| stated.saturating_add(gap))
    }

    /// When time alone brings something about, if no row comes at or before it that says otherwise.
    pub(super) fn next(&self, delays: &Delays) -> Option<i64> {
        let lapse = self.lapse(delays);
        let due = match self.phase {
            Phase::Normal => return lapse.filter(|_| delays.is_deadman),
            Phase::Pending { since, .. } => since.saturating_add(delays.on),
            Phase::Active { clearing } => clearing?.saturating_add(delays.off),
        };
        Some(lapse.map_or(due, |lapse| lapse.min(due)))
    }

    /// Does what is next.
    pub(super) fn elapse(&mut self, delays: &Delays) -> Option<Turn> {
        let lapse = self.lapse(delays);
        let in_time = |due: i64| lapse.is_none_or(|lapse| due <= lapse);
        match self.phase {
            Phase::Normal => {
                self.phase = Phase::Active { clearing: None };
                Some(Turn::Raised { at: lapse?, first_seen: self.stated? })
            }
            Phase::Pending { first_seen, since } => {
                let at = since.saturating_add(delays.on);
                if in_time(at) {
                    self.phase = Phase::Active { clearing: None };
                    return Some(Turn::Raised { at, first_seen });
                }
                self.start_anew();
                None
            }
            Phase::Active { clearing } => {
                let at = clearing?.saturating_add(delays.off);
                self.phase = Phase::Active { clearing: None };
                in_time(at).then(|| self.clear(delays, at))
            }
        }
    }

    /// Takes in a row. All that elapses before it has.
    pub(super) fn row(&mut self, delays: &Delays, at: i64, says: &Says) -> Option<Turn> {
        if delays.is_deadman {
            (self.stated, self.silence_is_expected) = (Some(at), says.unless);
            return self.deny(delays, at);
        }
        if says.when.is_none() && says.clear.is_none() {
            return None;
        }
        if self.stated.zip(delays.gap).is_some_and(|(last, gap)| at.saturating_sub(last) > gap) {
            self.confirmed.clear();
        }
        self.stated = Some(at);
        let holds = says.when.map(|is_true| self.counts(delays, at, is_true));
        if self.is_active() {
            return match says.clears(delays.clears_apart, holds) {
                Some(true) => self.deny(delays, at),
                Some(false) => {
                    self.phase = Phase::Active { clearing: None };
                    None
                }
                None => None,
            };
        }
        match holds {
            Some(true) => self.confirm(delays, at),
            Some(false) => {
                self.phase = Phase::Normal;
                None
            }
            None => None,
        }
    }

    /// Counts a row that says something; whether enough of those that count confirm.
    fn counts(&mut self, delays: &Delays, at: i64, is_true: bool) -> bool {
        self.n_stated += 1;
        if is_true {
            self.confirmed.push_back(Confirmed { number: self.n_stated, at });
        }
        let n_stated = self.n_stated;
        let is_out = |row: &Confirmed| match delays.reach {
            Reach::Rows(rows) => n_stated - row.number >= rows,
            Reach::Time(length) => row.at <= at.saturating_sub(length),
        };
        while self.confirmed.len() > delays.k || self.confirmed.front().is_some_and(is_out) {
            self.confirmed.pop_front();
        }
        self.confirmed.len() == delays.k
    }

    fn confirm(&mut self, delays: &Delays, at: i64) -> Option<Turn> {
        let begins = (self.confirmed.front().map_or(at, |row| row.at), at);
        let (first_seen, since) = match self.phase {
            Phase::Pending { first_seen, since } => (first_seen, since),
            Phase::Normal | Phase::Active { .. } => begins,
        };
        if at >= since.saturating_add(delays.on) {
            self.phase = Phase::Active { clearing: None };
            return Some(Turn::Raised { at, first_seen });
        }
        self.phase = Phase::Pending { first_seen, since };
        None
    }

    /// Takes in a row that says that the condition is over.
    fn deny(&mut self, delays: &Delays, at: i64) -> Option<Turn> {
        let Phase::Active { clearing } = self.phase else { return None };
        let began = clearing.unwrap_or(at);
        if at >= began.saturating_add(delays.off) {
            return Some(self.clear(delays, at));
        }
        self.phase = Phase::Active { clearing: Some(began) };
        None
    }

    fn clear(&mut self, delays: &Delays, at: i64) -> Turn {
        self.phase = Phase::Normal;
        if delays.clears_apart {
            // Or rows that were there before would raise it again.
            self.confirmed.clear();
        }
        Turn::Cleared { at }
    }

    /// What was pending starts anew; what is raised stays so.
    pub(super) fn start_anew(&mut self) {
        self.confirmed.clear();
        self.phase = match self.phase {
            Phase::Normal | Phase::Pending { .. } => Phase::Normal,
            Phase::Active { .. } => Phase::Active { clearing: None },
        };
    }

    /// It is over, whatever rows have said.
    pub(super) fn give_up(&mut self) {
        self.phase = Phase::Normal;
        self.confirmed.clear();
    }
}
