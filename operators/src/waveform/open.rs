//! The samples of a key up to the next cut, and where they belong.
//!
//! The open waveform's samples are checked against its own first one. With overlap the next waveform has some of them
//! already, which were checked against the one before; its last sample is always checked against its own first. So a
//! row at `t` ends no waveform that starts before `t - span`.

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::signal::count;

/// Stamps are whole nanoseconds: that of a sample and that of the first are off by half of one each.
const ROUNDING: f64 = 1.0;

/// Where samples belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Samples of a waveform, at least 2.
    pub(super) samples: usize,
    /// Samples from one start to the next, at least 1.
    pub(super) every: usize,
    /// Nanoseconds from one sample to the next.
    pub(super) period: f64,
    /// Nanoseconds that a sample may be off.
    pub(super) slack: f64,
}

impl Grid {
    /// Whether `time` is where the `i`-th sample from `start` belongs.
    #[expect(clippy::cast_precision_loss, reason = "a waveform beyond 104 days loses nanoseconds")]
    pub(super) fn fits(self, start: i64, i: usize, time: i64) -> bool {
        let since = time.saturating_sub(start) as f64;
        (since - count(i) * self.period).abs() <= self.slack.max(ROUNDING)
    }

    /// The longest that a waveform takes, in nanoseconds.
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
    pub(super) fn span(self) -> i64 {
        (count(self.samples - 1) * self.period + self.slack.max(ROUNDING)).ceil() as i64
    }
}

/// What is open of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Open {
    /// The time from which samples are counted, and how many have come since, itself included; 0: none.
    pub(super) start: i64,
    pub(super) n_since: usize,
    /// Rows that are still left out before the next waveform starts.
    pub(super) skip: usize,
    /// The samples that belong to the waveform, and how many of them have been in one before.
    pub(super) rows: History,
    pub(super) n_used: usize,
    /// The time of the last sample, whatever became of it.
    pub(super) last: Option<i64>,
}

impl Open {
    /// Ends what is open; returns how many rows made no waveform.
    pub(super) fn cut(&mut self) -> usize {
        let n_lost = self.rows.len() - self.n_used;
        self.rows.drop_first(self.rows.len());
        (self.n_since, self.skip, self.n_used) = (0, 0, 0);
        n_lost
    }

    /// Makes room after a waveform is complete. `time` is that of its last sample.
    pub(super) fn next(&mut self, grid: Grid, time: i64) {
        self.rows.drop_first(grid.every.min(grid.samples));
        self.n_used = self.rows.len();
        self.skip = grid.every.saturating_sub(grid.samples);
        self.n_since = self.rows.len();
        if let Some(&start) = self.rows.times().first() {
            self.start = start;
        } else if self.skip > 0 {
            (self.start, self.n_since) = (time, 1);
        }
    }
}
