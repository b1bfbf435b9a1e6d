//! What the values say in ascending order: quantiles, and which of them come again.
//!
//! Quantiles are exact: all values of the window are sorted, once for all features of a column. Between two
//! values they are linear, which is definition 7 of Hyndman and Fan and the default of NumPy and pandas.

use super::sample::{Sample, flag, number, share};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use Needs::Sorted;
use UnitRule::{Flag, Ratio, Same};

pub(super) const THEME: Theme =
    Theme { title: "Quantiles and values that come again", features: TABLE };

const Q: Param =
    Param::needed("q", ParamKind::Number(0.0, 1.0), "the share of values at or below it");
const N_MAXIMA: Param =
    Param::needed("number_of_maxima", ParamKind::Whole(1, 100_000), "how many of the greatest");

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("quantile", Same, Sorted, "value at place `(n - 1) q` of the sorted values, linear between two (NumPy's default; tsfresh `quantile`)", |s, a| Some(quantile(s.sorted, a.number(0)))).with(&[Q]),
    Feature::new("median", Same, Sorted, "`quantile(0.5)`", |s, _| Some(quantile(s.sorted, 0.5))),
    Feature::new("q01", Same, Sorted, "`quantile(0.01)`", |s, _| Some(quantile(s.sorted, 0.01))),
    Feature::new("q05", Same, Sorted, "`quantile(0.05)`", |s, _| Some(quantile(s.sorted, 0.05))),
    Feature::new("q10", Same, Sorted, "`quantile(0.1)`", |s, _| Some(quantile(s.sorted, 0.1))),
    Feature::new("q25", Same, Sorted, "`quantile(0.25)`", |s, _| Some(quantile(s.sorted, 0.25))),
    Feature::new("q75", Same, Sorted, "`quantile(0.75)`", |s, _| Some(quantile(s.sorted, 0.75))),
    Feature::new("q90", Same, Sorted, "`quantile(0.9)`", |s, _| Some(quantile(s.sorted, 0.9))),
    Feature::new("q95", Same, Sorted, "`quantile(0.95)`", |s, _| Some(quantile(s.sorted, 0.95))),
    Feature::new("q99", Same, Sorted, "`quantile(0.99)`", |s, _| Some(quantile(s.sorted, 0.99))),
    Feature::new("iqr", Same, Sorted, "interquartile range: `q75 - q25`", |s, _| Some(quantile(s.sorted, 0.75) - quantile(s.sorted, 0.25))),
    Feature::new("mad", Same, Sorted, "median absolute deviation: `median |x - median|`, not scaled (times 1.4826 it estimates a Gaussian's `std`)", |s, _| Some(median_deviation(s.sorted))),
    Feature::new("symmetry_looking", Flag, Sorted, "tsfresh: whether `|mean - median| < r (max - min)`", symmetry_looking).with(&[
        Param::needed("r", ParamKind::Number(0.0, f64::MAX), "the share of the range that mean and median may be apart"),
    ]),
    Feature::new("mean_n_absolute_max", Same, Sorted, "tsfresh: mean of the n greatest `|x|`; null unless there are more than n values", |s, a| mean_of_greatest(s.sorted, a.whole(0))).with(&[N_MAXIMA]),
    Feature::new("has_duplicate", Flag, Sorted, "tsfresh: whether some value comes again", |s, _| Some(flag(Runs::of(s.sorted).n_distinct < s.len()))),
    Feature::new("ratio_value_number_to_time_series_length", Ratio, Sorted, "tsfresh: distinct values / n", |s, _| share(Runs::of(s.sorted).n_distinct, s.len())),
    Feature::new("percentage_of_reoccurring_values_to_all_values", Ratio, Sorted, "tsfresh: distinct values that come again / distinct values", |s, _| {
        let runs = Runs::of(s.sorted);
        share(runs.n_again, runs.n_distinct)
    }),
    Feature::new("percentage_of_reoccurring_datapoints_to_all_datapoints", Ratio, Sorted, "tsfresh: values that are there more than once / n", |s, _| share(Runs::of(s.sorted).n_rows_again, s.len())),
    Feature::new("sum_of_reoccurring_values", Same, Sorted, "tsfresh: sum of the distinct values that come again, each once", |s, _| Some(Runs::of(s.sorted).sum_again)),
    Feature::new("sum_of_reoccurring_data_points", Same, Sorted, "tsfresh: sum of the values that are there more than once", |s, _| Some(Runs::of(s.sorted).sum_rows_again)),
];

/// The value at place `(n - 1) q`, linear between two; `sorted` has a value.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place is at least 0 and below the number of values"
)]
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = number(last) * q;
    let below = (place as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    let part = place - number(below);
    // From the nearer of the two, as NumPy has it, so that both ends are exact.
    if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) }
}

/// The median of the distances from the median. They grow from the middle to both sides, so they are taken in
/// ascending order by going outwards from it.
fn median_deviation(sorted: &[f64]) -> f64 {
    let (n, median) = (sorted.len(), quantile(sorted, 0.5));
    let mut right = sorted.partition_point(|&x| x < median);
    let mut left = right;
    let mut next = || {
        let below = left.checked_sub(1).map(|i| median - sorted[i]);
        let above = sorted.get(right).map(|x| x - median);
        match (below, above) {
            (Some(b), Some(a)) if b < a => {
                left -= 1;
                b
            }
            (Some(b), None) => {
                left -= 1;
                b
            }
            (_, above) => {
                right += 1;
                above.unwrap_or(f64::NAN)
            }
        }
    };
    for _ in 0..(n - 1) / 2 {
        next();
    }
    let first = next();
    if n % 2 == 1 { first } else { quantile(&[first, next()], 0.5) }
}

fn symmetry_looking(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let m = &sample.moments;
    let apart = (m.mean - quantile(sample.sorted, 0.5)).abs();
    Some(flag(apart < args.number(0) * (m.max - m.min)))
}

fn mean_of_greatest(sorted: &[f64], n: usize) -> Option<f64> {
    if sorted.len() <= n {
        return None;
    }
    let (mut low, mut high, mut sum) = (0, sorted.len(), 0.0);
    for _ in 0..n {
        if sorted[low].abs() > sorted[high - 1].abs() {
            sum += sorted[low].abs();
            low += 1;
        } else {
            sum += sorted[high - 1].abs();
            high -= 1;
        }
    }
    Some(sum / number(n))
}

/// Runs of equal values in ascending order.
#[derive(Debug, Default)]
struct Runs {
    n_distinct: usize,
    /// Runs of more than one value, and the values in them.
    n_again: usize,
    n_rows_again: usize,
    sum_again: f64,
    sum_rows_again: f64,
}

impl Runs {
    fn of(sorted: &[f64]) -> Self {
        let mut runs = Runs::default();
        for run in sorted.chunk_by(|a, b| a == b) {
            runs.n_distinct += 1;
            if run.len() > 1 {
                runs.n_again += 1;
                runs.n_rows_again += run.len();
                runs.sum_again += run[0];
                runs.sum_rows_again += run[0] * number(run.len());
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[3.0], 0.9), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[0.1; 7], 0.33), 0.1);
        assert_eq!([0.0, 1.0].map(|q| quantile(&[0.1, 0.7, 0.9], q)), [0.1, 0.9]);
    }

    #[test]
    fn the_median_deviation_is_that_of_sorted_distances() {
        let mut dice = crate::testing::Dice::new(3);
        for n in 1..40 {
            let mut values: Vec<f64> = (0..n).map(|_| (dice.unit() * 8.0).round()).collect();
            values.sort_by(f64::total_cmp);
            let median = quantile(&values, 0.5);
            let mut distances: Vec<f64> = values.iter().map(|x| (x - median).abs()).collect();
            distances.sort_by(f64::total_cmp);
            assert_eq!(median_deviation(&values), quantile(&distances, 0.5), "{values:?}");
        }
    }
}
