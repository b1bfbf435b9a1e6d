//! The rows of a key that a step still needs, in order, column by column.
//!
//! A window is a slice of them, so that a sum over it sees the same values in the same order however they
//! came in.

use arrow::buffer::ScalarBuffer;
use foreline_engine::Reason;
use serde::{Deserialize, Serialize};

/// A row came when its window held as many rows as it may.
pub const WINDOW_FULL: Reason = Reason("window_full");

/// Rows of a key: event times, and a channel for each column, NaN where missing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    times: Vec<i64>,
    channels: Vec<Vec<f64>>,
}

impl History {
    /// The event times.
    pub(crate) fn times(&self) -> &[i64] {
        &self.times
    }

    /// The channels, one value a row.
    pub(crate) fn channels(&self) -> &[Vec<f64>] {
        &self.channels
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Appends the rows `start..end` of a batch.
    pub(crate) fn extend(
        &mut self,
        times: &[i64],
        channels: &[ScalarBuffer<f64>],
        start: usize,
        end: usize,
    ) {
        self.times.extend_from_slice(&times[start..end]);
        self.channels.resize_with(channels.len(), Vec::new);
        for (mine, theirs) in self.channels.iter_mut().zip(channels) {
            mine.extend_from_slice(&theirs[start..end]);
        }
    }

    /// Drops all rows.
    pub(crate) fn clear(&mut self) {
        self.drop_first(self.len());
    }

    /// Drops the first `n` rows.
    pub(crate) fn drop_first(&mut self, n: usize) {
        self.times.drain(..n);
        for channel in &mut self.channels {
            channel.drain(..n);
        }
    }
}
