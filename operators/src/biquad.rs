//! Butterworth filters as second-order sections: their design, and how they run over a column.
//!
//! What differs from the first value is filtered and what the filter makes of that value as a constant is added: the
//! same as to begin with delays through which it has always gone, and an offset costs no digits.

use foreline_engine::{ConfigError, Extent, TimeDomain};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::Filter;
use crate::columns::positive;
use crate::mistakes::Mistakes;
use design::{Section, design};

mod design;

/// The highest order: above it, the poles of a low cutoff are too near to one another for 64 bits.
pub(crate) const MAX_ORDER: usize = 10;

/// The lowest cutoff as a part of the rate: below it the poles are so near to 1 that 64 bits do not tell what becomes of
/// a constant to a ten-millionth.
const MIN_PART: f64 = 1e-5;

/// How many steps a gap is at least after which a filter begins anew, unless `max_gap` says otherwise.
const DEFAULT_GAP_STEPS: i64 = 10;

/// What a filter takes for its past when it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The first value had always been there: no transient.
    #[default]
    Settled,
    /// There was nothing but zeros.
    Zero,
}

/// The options that all of these filters have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common {
    pub(crate) order: usize,
    pub(crate) every: Extent,
    pub(crate) start: Start,
    pub(crate) max_gap: Option<Extent>,
}

/// A cutoff, and the option it came from.
pub(crate) type Cutoff = (&'static str, f64);

/// What passes; cutoffs in Hz, or in cycles per count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pass {
    /// What is below.
    Low(Cutoff),
    /// What is above.
    High(Cutoff),
    /// What is between.
    Band(Cutoff, Cutoff),
}

/// A filter of columns.
#[derive(Debug)]
pub(crate) struct Butterworth {
    sections: Vec<Section>,
    /// What it makes of a constant.
    gain: f64,
    start: Start,
    max_gap: i64,
}

impl Butterworth {
    /// Checks the options and designs the filter.
    pub(crate) fn plan(
        pass: Pass,
        common: Common,
        domain: TimeDomain,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes = Mistakes::default();
        if !(1..=MAX_ORDER).contains(&common.order) {
            let error = ConfigError::new("order", format!("'{}' is not an order", common.order));
            mistakes.push(error.help(format!("give a number from 1 to {MAX_ORDER}")));
        }
        let every = mistakes.one(positive("every", common.every, domain));
        let max_gap = mistakes.length("max_gap", common.max_gap, domain);
        let rate = every.map(|every| rate(every, domain));
        for (at, cutoff) in pass.cutoffs() {
            mistakes.one(in_range(at, cutoff, rate, domain));
        }
        if let Pass::Band((_, low), (at, high)) = pass
            && low >= high
        {
            let what = format!("'{high}' is not above the lower cutoff, '{low}'");
            mistakes.push(ConfigError::new(at, what).help("swap the two, or move them apart"));
        }
        let (every, rate) = mistakes.or(every.zip(rate))?;
        let sections = design(pass.normalised(rate), common.order);
        let max_gap = max_gap.unwrap_or_else(|| every.saturating_mul(DEFAULT_GAP_STEPS));
        Ok(Butterworth { sections, gain: pass.gain(), start: common.start, max_gap })
    }
}

/// Samples in a second, or in a count.
#[expect(clippy::cast_precision_loss, reason = "a step beyond 104 days loses nanoseconds")]
fn rate(every: i64, domain: TimeDomain) -> f64 {
    match domain {
        TimeDomain::UtcNanos => 1e9 / every as f64,
        TimeDomain::Logical => 1.0 / every as f64,
    }
}

/// A cutoff has to be below half the rate, and not too far below.
fn in_range(
    at: &str,
    cutoff: f64,
    rate: Option<f64>,
    domain: TimeDomain,
) -> Result<(), ConfigError> {
    if !(cutoff > 0.0 && cutoff.is_finite()) {
        let error = ConfigError::new(at, format!("'{cutoff}' is not a frequency"));
        return Err(error.help("give a number above 0"));
    }
    let Some(rate) = rate else { return Ok(()) };
    let unit = if domain == TimeDomain::UtcNanos { " Hz" } else { " per count" };
    if cutoff >= rate / 2.0 {
        let nyquist = rate / 2.0;
        let what = format!(
            "'{cutoff}' is not below {nyquist}{unit}, half the rate that 'every' says: rows so far apart cannot hold it"
        );
        return Err(ConfigError::new(at, what).help("lower the cutoff, or correct 'every'"));
    }
    if cutoff < rate * MIN_PART {
        let lowest = rate * MIN_PART;
        let what = format!("'{cutoff}' is below {lowest}{unit}, too slow for rows so near");
        let help = "raise the cutoff, or put the rows further apart first, such as with 'window'";
        return Err(ConfigError::new(at, what).help(help));
    }
    Ok(())
}

impl Pass {
    fn cutoffs(self) -> Vec<Cutoff> {
        match self {
            Pass::Low(cutoff) | Pass::High(cutoff) => vec![cutoff],
            Pass::Band(low, high) => vec![low, high],
        }
    }

    /// What passes of a constant.
    fn gain(self) -> f64 {
        if matches!(self, Pass::Low(_)) { 1.0 } else { 0.0 }
    }

    /// The same with cutoffs as a part of the rate.
    fn normalised(self, rate: f64) -> Self {
        let by_rate = |(at, cutoff): Cutoff| (at, cutoff / rate);
        match self {
            Pass::Low(cutoff) => Pass::Low(by_rate(cutoff)),
            Pass::High(cutoff) => Pass::High(by_rate(cutoff)),
            Pass::Band(low, high) => Pass::Band(by_rate(low), by_rate(high)),
        }
    }
}

/// What a filter remembers of a column.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The event time of the last value.
    at: i64,
    /// What the values are taken from: the first, or 0.
    base: f64,
    /// `z1` and `z2` of each section; none before the first value.
    delays: Vec<[f64; 2]>,
}

impl Filter for Butterworth {
    type State = Memory;
    const STATE_VERSION: u32 = 1;

    fn filter(&self, times: &[i64], values: &[f64], memory: &mut Memory, results: &mut Vec<f64>) {
        let Memory { at: last, base, delays } = memory;
        for (&at, &x) in times.iter().zip(values) {
            if x.is_nan() {
                results.push(x);
                continue;
            }
            if delays.is_empty() || at.saturating_sub(*last) > self.max_gap {
                *base = if self.start == Start::Settled { x } else { 0.0 };
                delays.clear();
                delays.resize(self.sections.len(), [0.0, 0.0]);
            }
            *last = at;
            let sections = self.sections.iter().zip(delays.iter_mut());
            let changed = sections.fold(x - *base, |x, (section, z)| section.step(x, z));
            results.push(self.gain * *base + changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_has_no_transient_when_settled_and_fades_when_not() {
        for pass in [Pass::Low(("", 0.04)), Pass::High(("", 0.3)), Pass::Band(("", 0.1), ("", 0.2))]
        {
            for (order, start) in
                (1..=MAX_ORDER).flat_map(|n| [(n, Start::Settled), (n, Start::Zero)])
            {
                let (sections, gain) = (design(pass, order), pass.gain());
                let filter = Butterworth { sections, gain, start, max_gap: 1 };
                let mut results = Vec::new();
                let times: Vec<i64> = (0..1000).collect();
                filter.filter(&times, &[0.7; 1000], &mut Memory::default(), &mut results);
                let rest = if start == Start::Settled { &results[..] } else { &results[900..] };
                let close = |y: &f64| (y - 0.7 * gain).abs() < 1e-9;
                assert!(rest.iter().all(close), "{pass:?} {order} {start:?}");
                assert!(start == Start::Settled || !close(&results[0]));
            }
        }
    }
}
