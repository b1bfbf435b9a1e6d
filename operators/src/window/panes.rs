//! The moments of sliding windows, from those of the panes that they are made of.
//!
//! Where windows of a length start every so many parts of it, each is a row of panes `[k * every, (k + 1) * every)` that
//! it shares with its neighbours. The moments of a pane are computed once and joined in the order of time. A window is
//! cut the same way whether its panes are at hand or not, so the bits do not depend on it.

use std::collections::VecDeque;

use super::evaluate::{Kept, present};
use crate::features::Passes;
use crate::moments::Moments;

/// Most panes of a window: with more of them, joining them would take longer than the values do.
pub(super) const MAX_PANES: i64 = 64;

/// How a window is cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// Not at all.
    Whole,
    /// Into panes.
    Panes {
        /// When the window starts.
        start: i64,
        /// How long a pane is.
        every: i64,
        /// How many there are.
        n: usize,
    },
}

/// The panes of the last window of a key: when each starts, and its moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Panes(VecDeque<(i64, Moments)>);

impl Panes {
    /// Forgets them: the rows are others.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The moments of a window, whose rows have `times`.
    pub(super) fn moments(
        &mut self,
        cut: Cut,
        passes: Passes,
        channel: &[f64],
        times: &[i64],
        kept: &mut Kept,
    ) -> Moments {
        let Cut::Panes { start, every, n } = cut else {
            return passes.moments(present(channel, times, kept).0);
        };
        while self.0.front().is_some_and(|(at, _)| *at < start) {
            self.0.pop_front();
        }
        let mut from = self.0.back().map_or(start, |(at, _)| at + every);
        while self.0.len() < n {
            let first = times.partition_point(|&t| t < from);
            let end = first + times[first..].partition_point(|&t| t < from + every);
            let (values, _) = present(&channel[first..end], &times[first..end], kept);
            self.0.push_back((from, passes.moments(values)));
            from += every;
        }
        passes.joined(self.0.iter().map(|(_, moments)| moments))
    }
}
