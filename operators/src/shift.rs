//! What a column was some rows back, alone or taken from what it is.

use serde::{Deserialize, Serialize};

use crate::channelwise::Filter;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The value some rows back.
    Lag,
    /// The value less the one some rows back.
    Difference,
}

/// A value and the one so many rows before it.
#[derive(Debug)]
pub(crate) struct Shift {
    pub(crate) wanted: Wanted,
    /// At least 1.
    pub(crate) rows: usize,
    /// The result is null where the row back there is longer ago.
    pub(crate) max_gap: Option<i64>,
}

/// The last `rows` rows; their times only where there is a `max_gap`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Last {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Filter for Shift {
    type State = Last;
    const STATE_VERSION: u32 = 1;

    fn filter(&self, times: &[i64], values: &[f64], last: &mut Last, results: &mut Vec<f64>) {
        // The first new rows reach back beyond the first row of the key.
        let n_beyond = self.rows.saturating_sub(last.values.len()).min(values.len());
        let first = (last.values.len() + n_beyond).saturating_sub(self.rows);
        results.extend(std::iter::repeat_n(f64::NAN, n_beyond));
        last.values.extend_from_slice(values);
        let begin = results.len();
        let back = &last.values[first..first + values.len() - n_beyond];
        match self.wanted {
            Wanted::Lag => results.extend_from_slice(back),
            Wanted::Difference => {
                results.extend(values[n_beyond..].iter().zip(back).map(|(x, back)| x - back));
            }
        }
        if let Some(max_gap) = self.max_gap {
            last.times.extend_from_slice(times);
            let pairs = times[n_beyond..].iter().zip(&last.times[first..]);
            for (result, (at, back)) in results[begin..].iter_mut().zip(pairs) {
                if at.saturating_sub(*back) > max_gap {
                    *result = f64::NAN;
                }
            }
        }
        let surplus = last.values.len().saturating_sub(self.rows);
        last.values.drain(..surplus);
        last.times.drain(..surplus.min(last.times.len()));
    }
}
