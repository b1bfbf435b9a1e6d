//! From one value to the next: changes, crossings, peaks, and how a value depends on those before.

use super::aggregate::{Aggregate, F_AGG};
use super::order::quantile;
use super::sample::{Sample, count, number, share};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use Needs::{Central, Sorted, Sums};
use UnitRule::{Count, Cubed, Ratio, Same};

pub(super) const THEME: Theme =
    Theme { title: "Changes, crossings and dependence", features: TABLE };

const LAG: Param = Param::or("lag", ParamKind::Whole(1, 100_000), 1.0, "how many values back");

/// Most values back that a partial autocorrelation may go: it is computed by way of all that are nearer.
const MAX_PARTIAL_LAG: u32 = 100;

/// Most lags that are put together: each takes a pass over the values.
const MAX_AGGREGATED_LAG: u32 = 1_000;

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("zero_crossings", Count, Sums, "how often `x > 0` changes from a value to the next", |s, _| Some(number(crossings(s.values, 0.0)))),
    Feature::new("mean_crossings", Count, Sums, "how often `x > mean` changes from a value to the next", |s, _| Some(number(crossings(s.values, s.moments.mean)))),
    Feature::new("number_crossing_m", Count, Sums, "tsfresh: how often `x > m` changes from a value to the next", |s, a| Some(number(crossings(s.values, a.number(0))))).with(&[
        Param::needed("m", ParamKind::Number(f64::MIN, f64::MAX), "the level"),
    ]),
    Feature::new("number_peaks", Count, Sums, "tsfresh: values greater than each of the n before and the n after them", |s, a| Some(number(peaks(s.values, a.whole(0))))).with(&[
        Param::or("n", ParamKind::Whole(1, 10_000), 1.0, "how many values on each side"),
    ]),
    Feature::new("autocorrelation", Ratio, Central, "`sum (x[i] - mean)(x[i + lag] - mean) / ((n - lag) m2)`; null for a constant and unless there are more than `lag` values (tsfresh, which also gives nothing where m2 < 1e-8)", autocorrelation).with(&[LAG]),
    Feature::new("partial_autocorrelation", Ratio, Central, "tsfresh: correlation with the value `lag` back that those between do not explain (Levinson-Durbin on covariances divided by n - lag); null for a constant and unless `lag < n / 2`", partial_autocorrelation).with(&[
        Param::or("lag", ParamKind::Whole(1, MAX_PARTIAL_LAG), 1.0, "how many values back"),
    ]),
    Feature::new("agg_autocorrelation", Ratio, Central, "tsfresh: `autocorrelation` of lags 1 to `maxlag`, as far as there are values for them, put together; 0 for a constant (tsfresh: where m2 < 1e-10)", agg_autocorrelation).with(&[
        F_AGG,
        Param::or("maxlag", ParamKind::Whole(1, MAX_AGGREGATED_LAG), 40.0, "the greatest lag"),
    ]),
    Feature::new("absolute_sum_of_changes", Same, Sums, "tsfresh: `sum |x[i + 1] - x[i]|`", |s, _| Some(changes(s.values).map(f64::abs).sum())),
    Feature::new("mean_abs_change", Same, Sums, "tsfresh: mean of `|x[i + 1] - x[i]|`; null below two values", |s, _| Some(changes(s.values).map(f64::abs).sum::<f64>() / (s.moments.n - 1.0))),
    Feature::new("mean_change", Same, Sums, "tsfresh: `(last - first) / (n - 1)`; null below two values", |s, _| Some((s.values.last()? - s.values.first()?) / (s.moments.n - 1.0))),
    Feature::new("mean_second_derivative_central", Same, Sums, "tsfresh: mean of `(x[i + 2] - 2 x[i + 1] + x[i]) / 2`; null below three values", |s, _| second_derivative(s.values)),
    Feature::new("change_quantiles", UnitRule::Aggregate(3), Sorted, "tsfresh: changes from a value to the next, where both are between two quantiles or at them, put together; 0 where there are none", change_quantiles).with(&[
        Param::needed("ql", ParamKind::Number(0.0, 1.0), "the lower quantile"),
        Param::needed("qh", ParamKind::Number(0.0, 1.0), "the upper quantile"),
        Param::or("isabs", ParamKind::Flag, 0.0, "whether changes are taken without their sign"),
        F_AGG,
    ]).ascending(),
    Feature::new("cid_ce", Same, Central, "tsfresh: complexity `sqrt(sum (x[i + 1] - x[i])^2)`; with `normalize` divided by `sqrt(m2)`, 0 for a constant", complexity).with(&[
        Param::or("normalize", ParamKind::Flag, 0.0, "whether to divide by the standard deviation"),
    ]),
    Feature::new("c3", Cubed, Sums, "tsfresh: mean of `x[i + 2 lag] x[i + lag] x[i]`, a measure of non-linearity; 0 unless there are more than `2 lag` values", |s, a| Some(mean_of_three(s.values, a, |x, y, z| z * y * x))).with(&[LAG]),
    Feature::new("time_reversal_asymmetry_statistic", Cubed, Sums, "tsfresh: mean of `x[i + 2 lag]^2 x[i + lag] - x[i + lag] x[i]^2`; 0 unless there are more than `2 lag` values", |s, a| Some(mean_of_three(s.values, a, |x, y, z| z * z * y - y * x * x))).with(&[LAG]),
    Feature::new("longest_strike_above_mean", Count, Sums, "tsfresh: most values in a row with `x > mean`", |s, _| Some(number(longest(s.values, |x| x > s.moments.mean)))),
    Feature::new("longest_strike_below_mean", Count, Sums, "tsfresh: most values in a row with `x < mean`", |s, _| Some(number(longest(s.values, |x| x < s.moments.mean)))),
    Feature::new("count_above_mean", Count, Sums, "tsfresh: values with `x > mean`", |s, _| Some(number(count(s.values, |x| x > s.moments.mean)))),
    Feature::new("count_below_mean", Count, Sums, "tsfresh: values with `x < mean`", |s, _| Some(number(count(s.values, |x| x < s.moments.mean)))),
    Feature::new("count_above", Ratio, Sums, "tsfresh: share of values with `x >= t`", |s, a| share(count(s.values, |x| x >= a.number(0)), s.len())).with(&[
        Param::needed("t", ParamKind::Number(f64::MIN, f64::MAX), "the level"),
    ]),
    Feature::new("count_below", Ratio, Sums, "tsfresh: share of values with `x <= t`", |s, a| share(count(s.values, |x| x <= a.number(0)), s.len())).with(&[
        Param::needed("t", ParamKind::Number(f64::MIN, f64::MAX), "the level"),
    ]),
    Feature::new("range_count", Count, Sums, "tsfresh: values with `min <= x < max`", |s, a| Some(number(count(s.values, |x| a.number(0) <= x && x < a.number(1))))).with(&[
        Param::needed("min", ParamKind::Number(f64::MIN, f64::MAX), "the least that counts"),
        Param::needed("max", ParamKind::Number(f64::MIN, f64::MAX), "the first above those that count"),
    ]).ascending(),
    Feature::new("value_count", Count, Sums, "tsfresh: values equal to `value`", |s, a| Some(number(count(s.values, |x| x == a.number(0))))).with(&[
        Param::needed("value", ParamKind::Number(f64::MIN, f64::MAX), "the value"),
    ]),
];

fn changes(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    values.windows(2).map(|pair| pair[1] - pair[0])
}

fn crossings(values: &[f64], level: f64) -> usize {
    values.windows(2).map(|pair| usize::from((pair[0] > level) != (pair[1] > level))).sum()
}

fn peaks(values: &[f64], n: usize) -> usize {
    let is_peak = |around: &&[f64]| {
        let others = around[..n].iter().chain(&around[n + 1..]);
        others.fold(true, |peak, other| peak & (around[n] > *other))
    };
    values.windows(2 * n + 1).filter(is_peak).count()
}

fn longest(values: &[f64], condition: impl Fn(f64) -> bool) -> usize {
    let (mut run, mut longest) = (0, 0);
    for &x in values {
        run = if condition(x) { run + 1 } else { 0 };
        longest = run.max(longest);
    }
    longest
}

/// The mean of the products of deviations `lag` apart; `lag` is below the number of values.
fn covariance(sample: &Sample<'_>, lag: usize) -> f64 {
    let (values, mean) = (sample.values, sample.moments.mean);
    let pairs = values.iter().zip(&values[lag..]);
    let sum: f64 = pairs.map(|(a, b)| (a - mean) * (b - mean)).sum();
    sum / number(values.len() - lag)
}

fn autocorrelation(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (lag, m) = (args.whole(0), &sample.moments);
    (lag < sample.len() && m.spreads()).then(|| covariance(sample, lag) / m.m2)
}

fn agg_autocorrelation(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (most, m) = (args.whole(1).min(sample.len() - 1), &sample.moments);
    if most == 0 || !m.spreads() {
        return Some(0.0);
    }
    let each: Vec<f64> = (1..=most).map(|lag| covariance(sample, lag) / m.m2).collect();
    Some(Aggregate::told(args, 0).of(&each))
}

fn change_quantiles(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let [low, high] = [0, 1].map(|i| quantile(sample.sorted, args.number(i)));
    let inside = |x: f64| low <= x && x <= high;
    let pairs = sample.values.windows(2).filter(|pair| inside(pair[0]) && inside(pair[1]));
    let changes = pairs.map(|pair| pair[1] - pair[0]);
    let changes: Vec<f64> =
        if args.flag(2) { changes.map(f64::abs).collect() } else { changes.collect() };
    Some(if changes.is_empty() { 0.0 } else { Aggregate::told(args, 3).of(&changes) })
}

/// Levinson's recursion: the last coefficient of the autoregression of each order up to `lag`.
fn partial_autocorrelation(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let lag = args.whole(0);
    if lag >= sample.len() / 2 || !sample.moments.spreads() {
        return None;
    }
    let covariances: Vec<f64> = (0..=lag).map(|k| covariance(sample, k)).collect();
    let mut coefficients: Vec<f64> = Vec::with_capacity(lag);
    let mut rest = covariances[0];
    let mut last = None;
    for order in 1..=lag {
        let explained: f64 =
            coefficients.iter().zip(covariances[1..order].iter().rev()).map(|(c, v)| c * v).sum();
        let own = (covariances[order] - explained) / rest;
        let turned: Vec<f64> = coefficients.iter().rev().copied().collect();
        coefficients.iter_mut().zip(turned).for_each(|(c, other)| *c -= own * other);
        coefficients.push(own);
        rest *= 1.0 - own * own;
        last = Some(own);
    }
    last
}

fn second_derivative(values: &[f64]) -> Option<f64> {
    let n = values.len();
    (n > 2).then(|| (values[n - 1] - values[n - 2] - values[1] + values[0]) / (2.0 * number(n - 2)))
}

fn complexity(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let size = changes(sample.values).map(|d| d * d).sum::<f64>().sqrt();
    if !args.flag(0) {
        return Some(size);
    }
    let spread = sample.moments.m2.sqrt();
    Some(if spread == 0.0 { 0.0 } else { size / spread })
}

/// The mean of `each` over values `lag` apart.
fn mean_of_three(values: &[f64], args: &Args, each: impl Fn(f64, f64, f64) -> f64) -> f64 {
    let lag = args.whole(0);
    if 2 * lag >= values.len() {
        return 0.0;
    }
    let threes = values.iter().zip(&values[lag..]).zip(&values[2 * lag..]);
    let sum: f64 = threes.map(|((&x, &y), &z)| each(x, y, z)).sum();
    sum / number(values.len() - 2 * lag)
}
