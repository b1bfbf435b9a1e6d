//! Learning periods: what is usual, taken from the first rows of each key.
//!
//! What a reader would get wrong: `rows` counts values that are not null, and what detects waits with a period of some
//! `duration` until it has two values, below which there is no spread. What was learnt stays as it is; a gap does not
//! undo it.

use foreline_engine::{ConfigError, Extent, TimeDomain};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::positive;

/// How long the learning period of a key is. Exactly one of `rows` and `duration` says so.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// It ends with so many values that are not null; at least 2.
    #[serde(default)]
    pub rows: Option<u64>,
    /// It ends so long after the first value that is not null, in a scaler after the first row of the key, such as `7d`; a
    /// number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
}

/// How long the learning period of a key is, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Period {
    /// So many values.
    Rows(u64),
    /// So long, in the unit of the time domain.
    Length(i64),
}

impl Learn {
    /// The period in a stream of `domain`.
    ///
    /// # Errors
    /// When it is none, at `at`.
    pub(crate) fn plan(&self, at: &str, domain: TimeDomain) -> Result<Period, ConfigError> {
        let error = match (self.rows, self.duration) {
            (Some(rows), None) if rows >= 2 => return Ok(Period::Rows(rows)),
            (Some(rows), None) => {
                let what = format!("nothing is learnt from '{rows}' values");
                ConfigError::new("rows", what).help("give a number of at least 2")
            }
            (None, Some(length)) => match positive("duration", length, domain) {
                Ok(length) => return Ok(Period::Length(length)),
                Err(error) => error,
            },
            (None, None) => ConfigError::new("", "nothing says how long to learn")
                .help("add one of rows, duration"),
            (Some(_), Some(_)) => ConfigError::new("", "rows and duration exclude one another")
                .help("keep one of them"),
        };
        Err(error.under(at))
    }
}

impl Period {
    /// Whether a value at `at` belongs to the period of a key that has learnt from `n` values since `since`.
    pub(crate) fn has(self, n: u64, since: i64, at: i64) -> bool {
        match self {
            Period::Rows(rows) => n < rows,
            Period::Length(length) => at.saturating_sub(since) < length,
        }
    }

    /// The same of one that goes on until there is a spread.
    pub(crate) fn has_until_spread(self, n: u64, since: i64, at: i64) -> bool {
        n < 2 || self.has(n, since, at)
    }
}

/// Count, mean and spread of values that came one by one (Welford).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) n: u64,
    pub(crate) mean: f64,
    /// The sum of the squared distances from the mean.
    m2: f64,
}

impl Running {
    /// Takes a value in.
    #[expect(clippy::cast_precision_loss, reason = "a key has fewer than 2^53 rows")]
    pub(crate) fn add(&mut self, x: f64) {
        self.n += 1;
        let from_old = x - self.mean;
        self.mean += from_old / self.n as f64;
        self.m2 += from_old * (x - self.mean);
    }

    /// The standard deviation of a sample; NaN below two values.
    #[expect(clippy::cast_precision_loss, reason = "a key has fewer than 2^53 rows")]
    pub(crate) fn std(&self) -> f64 {
        if self.n < 2 { f64::NAN } else { (self.m2 / (self.n - 1) as f64).sqrt() }
    }

    /// The standard deviation of the values themselves, divided by their number; 0 of none.
    #[expect(clippy::cast_precision_loss, reason = "a key has fewer than 2^53 rows")]
    pub(crate) fn population_std(&self) -> f64 {
        (self.m2 / self.n.max(1) as f64).sqrt()
    }
}

/// What was learnt of a column of a key so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learnt {
    pub(crate) values: Running,
    since: i64,
    done: bool,
}

impl Learnt {
    /// Whether the value at `at` belongs to the learning period; takes it in if so.
    pub(crate) fn takes(&mut self, period: Period, at: i64, x: f64) -> bool {
        if self.done {
            return false;
        }
        if self.values.n == 0 {
            self.since = at;
        }
        self.done = !period.has_until_spread(self.values.n, self.since, at);
        if !self.done {
            self.values.add(x);
        }
        !self.done
    }
}

/// Mean and standard deviation of what is usual: given, or learnt by each key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Usual {
    /// The same for all keys.
    Given(f64, f64),
    /// From the first rows of each key.
    Learnt(Period),
}

impl Usual {
    /// Mean and standard deviation where they are known when the value `x` comes; `None` if it is learnt from.
    #[inline]
    pub(crate) fn when(self, learnt: &mut Learnt, at: i64, x: f64) -> Option<(f64, f64)> {
        match self {
            Usual::Given(mean, std) => Some((mean, std)),
            Usual::Learnt(period) => {
                (!learnt.takes(period, at, x)).then(|| (learnt.values.mean, learnt.values.std()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_of_rows_ends_with_its_last() {
        let mut learnt = Learnt::default();
        let taken: Vec<bool> =
            (0..4).map(|i| learnt.takes(Period::Rows(2), i, f64::from(i as i32))).collect();
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!((learnt.values.mean, learnt.values.std()), (0.5, 0.5_f64.sqrt()));
    }

    #[test]
    fn a_period_of_some_length_has_two_values_at_least() {
        let mut learnt = Learnt::default();
        let taken = [0, 50, 51].map(|at| learnt.takes(Period::Length(10), at, 1.0));
        assert_eq!(taken, [true, true, false]);
        let mut learnt = Learnt::default();
        let taken = [0, 9, 10, 3].map(|at| learnt.takes(Period::Length(10), at, 1.0));
        assert_eq!(taken, [true, true, false, false]);
    }
}
