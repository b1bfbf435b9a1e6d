//! Lines through the values: over event time, and over the number of the value as tsfresh has it.

use super::aggregate::{Aggregate, F_AGG};
use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use crate::moments::{self, Moments};
use Needs::{Central, Sums};
use UnitRule::{PerTime, Ratio, Same};

pub(super) const THEME: Theme = Theme { title: "Trend", features: TABLE };

const CHUNKS: &[Param] = &[
    Param::needed(
        "chunk_len",
        ParamKind::Whole(1, 1_000_000),
        "how many values become one; the last may be of fewer",
    ),
    F_AGG,
];
/// Where `f_agg` is among them.
const IN_CHUNKS: UnitRule = UnitRule::Aggregate(1);

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("slope", PerTime, Sums, "least-squares slope of value over event time, per second or per count; null where all times are equal", |s, _| Some(line_over_time(s)?.0)),
    Feature::new("intercept", Same, Sums, "value of that line at the time of the first value", |s, _| Some(line_over_time(s)?.1)),
    Feature::new("linear_trend_slope", Same, Central, "tsfresh: least-squares slope of value over its number 0, 1, ...; null below two values, as all of `linear_trend`", |s, _| Some(Line::of(s)?.slope)),
    Feature::new("linear_trend_intercept", Same, Central, "tsfresh: value of that line at number 0", |s, _| Some(Line::of(s)?.intercept)),
    Feature::new("linear_trend_rvalue", Ratio, Central, "tsfresh: Pearson's correlation of value and number; null for a constant", |s, _| Line::of(s)?.r),
    Feature::new("linear_trend_stderr", Same, Central, "tsfresh: standard error of that slope: `sqrt((1 - r^2) Syy / Sxx / (n - 2))`; null below three values and for a constant", |s, _| Line::of(s)?.standard_error()),
    Feature::new("linear_trend_pvalue", Ratio, Central, "tsfresh: two-sided p-value that the slope is 0, by Student's t with n - 2 degrees of freedom; null below three values and for a constant", |s, _| Line::of(s)?.p_value()),
    Feature::new("agg_linear_trend_slope", IN_CHUNKS, Sums, "tsfresh: `linear_trend_slope` of chunks of values that became one; null where there is but one chunk, as all of `agg_linear_trend`", |s, a| Some(Line::of_chunks(s, a)?.slope)).with(CHUNKS),
    Feature::new("agg_linear_trend_intercept", IN_CHUNKS, Sums, "tsfresh: `linear_trend_intercept` of them", |s, a| Some(Line::of_chunks(s, a)?.intercept)).with(CHUNKS),
    Feature::new("agg_linear_trend_rvalue", Ratio, Sums, "tsfresh: `linear_trend_rvalue` of them; null where they are constant (tsfresh: 0)", |s, a| Line::of_chunks(s, a)?.r).with(CHUNKS),
    Feature::new("agg_linear_trend_stderr", IN_CHUNKS, Sums, "tsfresh: `linear_trend_stderr` of them; null below three chunks (tsfresh: 0) and where they are constant", |s, a| Line::of_chunks(s, a)?.standard_error()).with(CHUNKS),
    Feature::new("agg_linear_trend_pvalue", Ratio, Sums, "tsfresh: `linear_trend_pvalue` of them; null below three chunks and where they are constant", |s, a| Line::of_chunks(s, a)?.p_value()).with(CHUNKS),
];

/// Slope, and value at the first time. Least squares about the means of both, with time counted from the first
/// value to keep its digits.
#[expect(clippy::cast_precision_loss, reason = "a window beyond 104 days loses nanoseconds")]
fn line_over_time(sample: &Sample<'_>) -> Option<(f64, f64)> {
    let start = *sample.times.first()?;
    let since = |&t: &i64| t.saturating_sub(start) as f64 / sample.ticks;
    let n = sample.moments.n;
    let mean_time = sample.times.iter().map(since).sum::<f64>() / n;
    let (mut with_value, mut with_time) = (0.0, 0.0);
    for (x, t) in sample.values.iter().zip(sample.times) {
        let t = since(t) - mean_time;
        with_value += t * (x - sample.moments.mean);
        with_time += t * t;
    }
    let slope = with_value / with_time;
    (with_time > 0.0).then_some((slope, sample.moments.mean - slope * mean_time))
}

/// The least-squares line over 0, 1, ..., n - 1.
#[derive(Debug)]
struct Line {
    n: f64,
    slope: f64,
    intercept: f64,
    /// `None` for a constant.
    r: Option<f64>,
    /// Mean squares about the means, of numbers and of values.
    numbers: f64,
    values: f64,
}

impl Line {
    fn of(sample: &Sample<'_>) -> Option<Self> {
        Line::through(sample.values, &sample.moments)
    }

    /// That over chunks of the values.
    fn of_chunks(sample: &Sample<'_>, args: &Args) -> Option<Self> {
        let aggregate = Aggregate::told(args, 1);
        let chunks = sample.values.chunks(args.whole(0));
        let values: Vec<f64> = chunks.map(|chunk| aggregate.of(chunk)).collect();
        Line::through(&values, &Moments::of(&values, moments::Central::Wanted))
    }

    fn through(values: &[f64], m: &Moments) -> Option<Self> {
        let n = m.n;
        if n < 2.0 {
            return None;
        }
        let middle = (n - 1.0) / 2.0;
        let both = values.iter().enumerate();
        let both = both.map(|(i, x)| (number(i) - middle) * (x - m.mean)).sum::<f64>() / n;
        let numbers = (n * n - 1.0) / 12.0;
        let slope = both / numbers;
        let r = m.spreads().then(|| (both / (numbers * m.m2).sqrt()).clamp(-1.0, 1.0));
        Some(Line { n, slope, intercept: m.mean - slope * middle, r, numbers, values: m.m2 })
    }

    fn standard_error(&self) -> Option<f64> {
        let r = self.r?;
        let unexplained = (1.0 - r * r) * self.values / self.numbers;
        (self.n > 2.0).then(|| (unexplained / (self.n - 2.0)).sqrt())
    }

    /// `P(|T| > t) = I_{f / (f + t^2)}(f / 2, 1 / 2)`, where `f / (f + t^2) = 1 - r^2`.
    fn p_value(&self) -> Option<f64> {
        let r = self.r?;
        let freedom = self.n - 2.0;
        (freedom > 0.0).then(|| incomplete_beta(freedom / 2.0, 0.5, (1.0 - r) * (1.0 + r)))
    }
}

/// Terms of a continued fraction after which it is given up; it converges in about `sqrt(max(a, b))` of them.
const MAX_TERMS: u32 = 10_000;

/// The regularised incomplete beta function, by its continued fraction (Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let scale = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b);
    let front = libm::exp(scale + a * libm::log(x) + b * libm::log1p(-x)) / a;
    let not_zero = |v: f64| if v.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { v };
    let mut d = 1.0 / not_zero(1.0 - (a + b) * x / (a + 1.0));
    let (mut c, mut fraction) = (1.0, d);
    for term in 1..MAX_TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for step in [even, odd] {
            d = 1.0 / not_zero(1.0 + step * d);
            c = not_zero(1.0 + step / c);
            fraction *= d * c;
        }
        if (fraction - before).abs() <= f64::EPSILON * fraction.abs() {
            break;
        }
    }
    front * fraction
}
