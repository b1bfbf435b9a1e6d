//! The tests of each value, and what they have to remember.

use std::collections::VecDeque;

use arrow::array::AsArray;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use foreline_engine::{Batch, Fault, TimeDomain};
use serde::{Deserialize, Serialize};

use super::MAX_SPIKE_ROWS;
use super::flat::Run;
use crate::annotate::{Annotate, is_gap};
use crate::columns::channel;

/// The names of the tests, in the order of their bits.
pub(super) const TESTS: [&str; 6] = ["range", "rate", "flat_line", "gap", "spike", "device_clock"];

const GOOD: u8 = 1;
const NOT_EVALUATED: u8 = 2;
const SUSPECT: u8 = 3;
const FAIL: u8 = 4;
const MISSING: u8 = 9;

/// Limits above which a measure is suspect and fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Beyond {
    pub(super) suspect: f64,
    pub(super) fail: f64,
}

impl Beyond {
    fn flag(self, measure: f64) -> u8 {
        if measure > self.fail {
            FAIL
        } else if measure > self.suspect {
            SUSPECT
        } else {
            GOOD
        }
    }

    /// The flag of a measure that is enough where it reaches the limit.
    fn flag_reached(self, measure: f64) -> u8 {
        if measure >= self.fail {
            FAIL
        } else if measure >= self.suspect {
            SUSPECT
        } else {
            GOOD
        }
    }
}

/// The flat-line test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flat {
    pub(super) eps: f64,
    pub(super) limits: Beyond,
}

/// The spike test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spike {
    pub(super) rows: usize,
    pub(super) limits: Beyond,
}

/// The tests of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checks {
    pub(super) place: usize,
    /// Where values are not suspect, and where they do not fail.
    pub(super) range: Option<[[f64; 2]; 2]>,
    pub(super) rate: Option<Beyond>,
    pub(super) flat: Option<Flat>,
    pub(super) gap: Option<Beyond>,
    pub(super) spike: Option<Spike>,
}

/// What is remembered of a column of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Past {
    /// The time of the last value.
    at: Option<i64>,
    /// The last value that was within its range, and its time.
    last: Option<(i64, f64)>,
    run: Run,
    /// The last values within their range, for the spike test.
    recent: VecDeque<f64>,
}

/// All that is inspected of a row.
#[derive(Debug, Clone)]
pub(super) struct Inspector {
    pub(super) columns: Vec<Checks>,
    /// The device's clock and how far it may be off.
    pub(super) clock: Option<(usize, Beyond)>,
    pub(super) time: usize,
    pub(super) domain: TimeDomain,
    pub(super) max_gap: Option<i64>,
    pub(super) ticks: f64,
}

impl Annotate for Inspector {
    type State = Vec<Past>;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        let values = self.columns.iter().map(|c| channel(batch.rows.column(c.place)));
        let mut channels = values.collect::<Result<Vec<_>, _>>()?;
        channels.extend(self.clock.map(|(place, _)| self.offsets(batch, place)));
        Ok(channels)
    }

    fn start(&self) -> Vec<Past> {
        self.columns.iter().map(|_| Past::default()).collect()
    }

    fn follow(
        &self,
        times: &[i64],
        channels: &[&[f64]],
        state: &mut Vec<Past>,
        out: &mut [Vec<f64>],
    ) {
        let offsets = channels.get(self.columns.len());
        let each = self.columns.iter().zip(channels).zip(state).zip(out.chunks_mut(2));
        for (((checks, values), past), out) in each {
            let [flags, tests] = out else { continue };
            for (row, (&at, &x)) in times.iter().zip(*values).enumerate() {
                let clock = self.clock.zip(offsets).map(|((_, beyond), o)| (beyond, o[row]));
                let verdict = self.inspect(checks, at, x, clock, past);
                flags.push(f64::from(verdict.flag()));
                tests.push(if verdict.bits == 0 { f64::NAN } else { f64::from(verdict.bits) });
            }
        }
    }
}

/// What the tests say of a value.
#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    gravest: u8,
    bits: u8,
}

impl Verdict {
    fn add(&mut self, test: u8, flag: u8) {
        self.gravest = self.gravest.max(flag);
        self.bits |= u8::from(flag > GOOD) << test;
    }

    fn flag(self) -> u8 {
        if self.gravest == 0 { NOT_EVALUATED } else { self.gravest }
    }
}

impl Inspector {
    /// How far the clock of each row is off; NaN where it says nothing.
    #[expect(clippy::cast_precision_loss, reason = "an offset beyond 104 days loses nanoseconds")]
    fn offsets(&self, batch: &Batch, place: usize) -> ScalarBuffer<f64> {
        let off = |(a, b): (Option<i64>, Option<i64>)| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b) as f64,
            _ => f64::NAN,
        };
        let (clock, time) = (batch.rows.column(place), batch.rows.column(self.time));
        match self.domain {
            TimeDomain::UtcNanos => {
                let time = time.as_primitive::<TimestampNanosecondType>();
                let clock = clock.as_primitive::<TimestampNanosecondType>();
                clock.iter().zip(time).map(off).collect()
            }
            TimeDomain::Logical => {
                let time = time.as_primitive::<Int64Type>();
                clock.as_primitive::<Int64Type>().iter().zip(time).map(off).collect()
            }
        }
    }

    #[inline]
    fn inspect(
        &self,
        checks: &Checks,
        at: i64,
        x: f64,
        clock: Option<(Beyond, f64)>,
        past: &mut Past,
    ) -> Verdict {
        if x.is_nan() {
            return Verdict { gravest: MISSING, bits: 0 };
        }
        let mut verdict = Verdict::default();
        let is_measure = checks.range(x, &mut verdict);
        if let (Some(beyond), Some(was)) = (checks.gap, past.at) {
            verdict.add(3, beyond.flag(length(was, at)));
        }
        if is_gap(self.max_gap, past.at, at) {
            *past = Past::default();
        }
        past.at = Some(at);
        if is_measure {
            self.compare(checks, at, x, past, &mut verdict);
        }
        if let Some((beyond, off)) = clock.filter(|(_, off)| !off.is_nan()) {
            verdict.add(5, beyond.flag(off));
        }
        verdict
    }

    /// The tests that compare a value with those before it; it joins them.
    fn compare(&self, checks: &Checks, at: i64, x: f64, past: &mut Past, verdict: &mut Verdict) {
        if let Some(beyond) = checks.rate {
            if let Some((then, was)) = past.last.filter(|(then, _)| at > *then) {
                verdict.add(1, beyond.flag((x - was).abs() / (length(then, at) / self.ticks)));
            }
            past.last = Some((at, x));
        }
        if let Some(flat) = checks.flat {
            let since = past.run.since(at, x, flat.eps);
            verdict.add(2, flat.limits.flag_reached(length(since, at)));
        }
        if let Some(spike) = checks.spike {
            if past.recent.len() == spike.rows {
                verdict.add(4, spike.limits.flag((x - median(&past.recent)).abs()));
                past.recent.pop_front();
            }
            past.recent.push_back(x);
        }
    }
}

impl Checks {
    /// Tests the range; whether later values may be compared with this one.
    fn range(&self, x: f64, verdict: &mut Verdict) -> bool {
        let Some([suspect, fail]) = self.range else { return true };
        let is_outside = |[lo, hi]: [f64; 2]| !(lo..=hi).contains(&x);
        let flag = if is_outside(fail) {
            FAIL
        } else if is_outside(suspect) {
            SUSPECT
        } else {
            GOOD
        };
        verdict.add(0, flag);
        flag != FAIL
    }
}

#[expect(clippy::cast_precision_loss, reason = "a length beyond 104 days loses nanoseconds")]
fn length(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64
}

/// The middle one of an odd number of values.
fn median(values: &VecDeque<f64>) -> f64 {
    let mut sorted = [0.0; MAX_SPIKE_ROWS];
    let n = values.len().min(MAX_SPIKE_ROWS);
    for (to, &from) in sorted.iter_mut().zip(values) {
        *to = from;
    }
    *sorted[..n].select_nth_unstable_by(n / 2, f64::total_cmp).1
}
