//! Butterworth filters as second-order sections: their design, and how they run over a column.
//!
//! The design is that of `scipy.signal.butter`: the poles of the analogue prototype, moved to the band, taken to
//! samples by the bilinear transform with the cutoffs prewarped. Each section has its share of the gain from a closed form,
//! not from the sums of its coefficients, which cancel for low cutoffs. What SciPy pairs into sections differs;
//! the product of all sections, which is the filter, does not.

use std::f64::consts::PI;

use foreline_engine::{ConfigError, Extent, TimeDomain};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::Filter;
use crate::columns::positive;
use crate::mistakes::Mistakes;

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

/// A section: `y = b0 x + z1`, `z1 = b1 x - a1 y + z2`, `z2 = b2 x - a2 y`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Section {
    b: [f64; 3],
    a: [f64; 2],
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

/// A complex number.
#[derive(Debug, Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn real(re: f64) -> Self {
        Complex { re, im: 0.0 }
    }

    fn plus(self, other: Complex) -> Self {
        Complex { re: self.re + other.re, im: self.im + other.im }
    }

    fn scaled(self, by: f64) -> Self {
        Complex { re: self.re * by, im: self.im * by }
    }

    fn square(self) -> Self {
        Complex { re: self.re * self.re - self.im * self.im, im: 2.0 * self.re * self.im }
    }

    fn norm_square(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    /// `1 / self`.
    fn inverse(self) -> Self {
        let norm = self.norm_square();
        Complex { re: self.re / norm, im: -self.im / norm }
    }

    /// The root with a real part of at least 0.
    fn sqrt(self) -> Self {
        let size = self.norm_square().sqrt();
        let re = (f64::midpoint(size, self.re).max(0.0)).sqrt();
        let im = (f64::midpoint(size, -self.re).max(0.0)).sqrt();
        Complex { re, im: if self.im < 0.0 { -im } else { im } }
    }
}

/// The sections of a filter, whose cutoffs are parts of the rate.
fn design(pass: Pass, order: usize) -> Vec<Section> {
    // In units in which the bilinear transform is z = (4 + s) / (4 - s).
    let warped = |(_, part): Cutoff| 4.0 * libm::tan(PI * part);
    let mut sections = Vec::new();
    for pole in prototype(order) {
        match pass {
            Pass::Low(cutoff) => sections.push(low(pole, warped(cutoff))),
            Pass::High(cutoff) => sections.push(high(pole, warped(cutoff))),
            Pass::Band(from, to) => band(pole, warped(from), warped(to), &mut sections),
        }
    }
    sections
}

/// The poles of the analogue low-pass filter with cutoff 1: of each conjugate pair one, and the real one.
fn prototype(order: usize) -> Vec<Complex> {
    let pole = |k: usize| {
        #[expect(clippy::cast_precision_loss, reason = "the order is at most 10")]
        let angle = PI * (2 * k + 1) as f64 / (2 * order) as f64;
        Complex { re: -libm::sin(angle), im: libm::cos(angle) }
    };
    let pairs = (0..order / 2).map(pole);
    pairs.chain((order % 2 == 1).then_some(Complex::real(-1.0))).collect()
}

/// The denominator in samples of an analogue pair of poles (or of a real one), and what the gain is divided by.
fn sampled(pole: Complex) -> ([f64; 2], f64) {
    let from_four = Complex { re: 4.0 - pole.re, im: -pole.im };
    if pole.im == 0.0 {
        return ([-(4.0 + pole.re) / from_four.re, 0.0], from_four.re);
    }
    let norm = from_four.norm_square();
    let size = pole.norm_square();
    // z = (4 + p) / (4 - p): -2 Re z and |z|^2.
    ([-2.0 * (16.0 - size) / norm, (16.0 + size + 8.0 * pole.re) / norm], norm)
}

fn low(pole: Complex, cutoff: f64) -> Section {
    let (a, norm) = sampled(pole.scaled(cutoff));
    if pole.im == 0.0 {
        let g = cutoff / norm;
        return Section { b: [g, g, 0.0], a };
    }
    let g = cutoff * cutoff / norm;
    Section { b: [g, 2.0 * g, g], a }
}

fn high(pole: Complex, cutoff: f64) -> Section {
    let (a, norm) = sampled(pole.inverse().scaled(cutoff));
    if pole.im == 0.0 {
        let g = 4.0 / norm;
        return Section { b: [g, -g, 0.0], a };
    }
    let g = 16.0 / norm;
    Section { b: [g, -2.0 * g, g], a }
}

/// A pole of the prototype becomes two, at the roots of `s^2 - pole width s + centre^2`.
fn band(pole: Complex, from: f64, to: f64, sections: &mut Vec<Section>) {
    let (width, centre_square) = (to - from, from * to);
    let middle = pole.scaled(width / 2.0);
    let root = middle.square().plus(Complex::real(-centre_square)).sqrt();
    // One zero at 0 Hz and one at half the rate for each section.
    let section = |a: [f64; 2], norm: f64| {
        let g = 4.0 * width / norm;
        Section { b: [g, 0.0, -g], a }
    };
    let both = [middle.plus(root), middle.plus(root.scaled(-1.0))];
    if pole.im != 0.0 {
        for pole in both {
            let (a, norm) = sampled(pole);
            sections.push(section(a, norm));
        }
    } else if root.im != 0.0 {
        let (a, norm) = sampled(both[0]);
        sections.push(section(a, norm));
    } else {
        // A band so wide that the two poles are real: one section has both.
        let [(a, norm), (b, other)] = both.map(|p| sampled(Complex::real(p.re)));
        sections.push(section([a[0] + b[0], a[0] * b[0]], norm * other));
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

impl Section {
    fn step(&self, x: f64, [z1, z2]: &mut [f64; 2]) -> f64 {
        let y = self.b[0] * x + *z1;
        *z1 = self.b[1] * x - self.a[0] * y + *z2;
        *z2 = self.b[2] * x - self.a[1] * y;
        y
    }
}

impl Filter for Butterworth {
    type State = Memory;
    const STATE_VERSION: u32 = 1;

    /// What differs from the first value is filtered, and what the filter makes of that value as a constant is added:
    /// the same as to begin with delays through which it has always gone, and an offset costs no digits.
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

    /// The filter's answer to an impulse.
    fn impulse(sections: &[Section], n: usize) -> Vec<f64> {
        let mut delays = vec![[0.0; 2]; sections.len()];
        let answer = |i| {
            let x = if i == 0 { 1.0 } else { 0.0 };
            sections.iter().zip(&mut delays).fold(x, |x, (section, z)| section.step(x, z))
        };
        (0..n).map(answer).collect()
    }

    #[test]
    fn impulse_responses_agree_with_scipy() {
        let table = include_str!("../reference/butterworth_impulse.csv");
        let mut n_cases = 0;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let (order, number) =
                (fields[1].parse().unwrap(), |i: usize| fields[i].parse().unwrap());
            let pass = match fields[0] {
                "low" => Pass::Low(("", number(2))),
                "high" => Pass::High(("", number(2))),
                _ => Pass::Band(("", number(2)), ("", number(3))),
            };
            let want: Vec<f64> = fields[4].split(' ').map(|w| w.parse().unwrap()).collect();
            let got = impulse(&design(pass, order), want.len());
            let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-9 * largest, "{line}: {got} is not {want}");
            }
            n_cases += 1;
        }
        assert!(n_cases > 20);
    }

    #[test]
    fn the_lowest_cutoff_lets_a_constant_through() {
        for order in 1..=MAX_ORDER {
            for section in design(Pass::Low(("", MIN_PART)), order) {
                let gain = section.b.iter().sum::<f64>() / (1.0 + section.a[0] + section.a[1]);
                assert!((gain - 1.0).abs() < 2e-7, "{order}: {gain}");
            }
        }
    }

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
