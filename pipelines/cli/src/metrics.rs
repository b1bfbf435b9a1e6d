//! How good predictions of remaining useful life are: the usual errors and the ones that weigh late life more.
//!
//! With `y` the truth, `p` the prediction, `d = p - y` (positive is late, which is the dangerous side):
//!
//! - RMSE and MAE: `sqrt(mean d^2)`, `mean |d|`; bias: `mean d`
//! - score (PHM08, also called NASA's): `sum s(d)`, `s = exp(-d/13) - 1` for `d < 0`, else `exp(d/10) - 1`. It is a
//!   sum, so it grows with the number of pairs, and its constants are in the label's unit
//! - weighted RMSE: `sqrt(sum w d^2 / sum w)` with `w = 1 / (y + 1)`, the 1 in the label's unit
//! - min-max RMSE: the same with `w = 1 - clamp(y, 0, hi) / hi`
//! - min-max MAE: `mean(w |d|)` with that `w`, not divided by the sum of weights
//!
//! `hi` is given, never taken from the data: only then can the sums be kept as pairs arrive. A metric that has no
//! value (no pairs, all weights 0) is `None`, never 0 or NaN.
//!
//! Source  Saxena et al., PHM 2008 (score); the weighted forms are those of a published pump project

pub mod alarms;
pub mod classes;
pub mod prognosis;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::{Table, decimal, grouped};

/// Scale of the score for predictions that are early, in the label's unit.
const SCORE_EARLY: f64 = 13.0;
/// Scale of the score for predictions that are late; smaller, so that late costs more.
const SCORE_LATE: f64 = 10.0;
/// Keeps the weight of the weighted RMSE finite at the end of life.
const WEIGHT_OFFSET: f64 = 1.0;

/// The sums that the metrics need, kept as pairs arrive. The memory is constant.
///
/// ```
/// use foreline::metrics::Metrics;
///
/// let mut metrics = Metrics::new(100.0);
/// metrics.push(50.0, 40.0);
/// metrics.push(50.0, 60.0);
/// assert_eq!(metrics.report().mae, Some(10.0));
/// assert_eq!(metrics.report().bias, Some(0.0));
/// ```
#[derive(Debug, Clone)]
pub struct Metrics {
    hi: f64,
    pairs: u64,
    unusable: u64,
    /// A truth below 0 has no weight in the weighted RMSE.
    negative: bool,
    late: u64,
    early: u64,
    error: f64,
    absolute: f64,
    square: f64,
    score: f64,
    weight: f64,
    weighted_square: f64,
    min_max_weight: f64,
    min_max_square: f64,
    min_max_absolute: f64,
}

impl Metrics {
    /// No pairs yet. `hi` is the remaining life from which on an error weighs nothing in the min-max forms, in the
    /// label's unit; where it is not a number above 0 those are undefined.
    #[must_use]
    pub fn new(hi: f64) -> Self {
        Metrics {
            hi,
            pairs: 0,
            unusable: 0,
            negative: false,
            late: 0,
            early: 0,
            error: 0.0,
            absolute: 0.0,
            square: 0.0,
            score: 0.0,
            weight: 0.0,
            weighted_square: 0.0,
            min_max_weight: 0.0,
            min_max_square: 0.0,
            min_max_absolute: 0.0,
        }
    }

    /// Takes a pair in. One that is not finite is counted as unusable and changes no metric.
    pub fn push(&mut self, truth: f64, predicted: f64) {
        if !truth.is_finite() || !predicted.is_finite() {
            self.unusable += 1;
            return;
        }
        let d = predicted - truth;
        self.pairs += 1;
        self.late += u64::from(d > 0.0);
        self.early += u64::from(d < 0.0);
        self.error += d;
        self.absolute += d.abs();
        self.square += d * d;
        self.score += score(d);
        self.negative |= truth < 0.0;
        let weight = 1.0 / (truth + WEIGHT_OFFSET);
        self.weight += weight;
        self.weighted_square += weight * d * d;
        let weight = 1.0 - truth.max(0.0).min(self.hi) / self.hi;
        self.min_max_weight += weight;
        self.min_max_square += weight * d * d;
        self.min_max_absolute += weight * d.abs();
    }

    /// The metrics of the pairs so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let pairs = self.pairs as f64;
        let weighted = if self.negative { 0.0 } else { self.weight };
        let hi = if self.hi.is_finite() && self.hi > 0.0 { pairs } else { 0.0 };
        let min_max_weight = if hi > 0.0 { self.min_max_weight } else { 0.0 };
        Report {
            pairs: self.pairs,
            unusable: self.unusable,
            rmse: quotient(self.square, pairs).map(f64::sqrt),
            mae: quotient(self.absolute, pairs),
            bias: quotient(self.error, pairs),
            late: self.late,
            early: self.early,
            score_sum: Some(self.score).filter(|score| self.pairs > 0 && score.is_finite()),
            score_mean: quotient(self.score, pairs),
            weighted_rmse: quotient(self.weighted_square, weighted).map(f64::sqrt),
            min_max_rmse: quotient(self.min_max_square, min_max_weight).map(f64::sqrt),
            min_max_mae: quotient(self.min_max_absolute, hi),
        }
    }
}

/// The score of one error; `exp` overflows to infinity for absurd ones, which makes the sum undefined.
fn score(d: f64) -> f64 {
    if d < 0.0 { (-d / SCORE_EARLY).exp_m1() } else { (d / SCORE_LATE).exp_m1() }
}

/// `sum / weight`, where there is weight and the sum did not overflow.
fn quotient(sum: f64, weight: f64) -> Option<f64> {
    (weight > 0.0).then(|| sum / weight).filter(|quotient| quotient.is_finite())
}

/// The metrics of some predictions; what has no value is `None`. In the label's unit, except for the scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// How many predictions were compared.
    pub pairs: u64,
    /// How many could not be, because the truth or the prediction is not a finite number.
    pub unusable: u64,
    /// Root mean square error.
    pub rmse: Option<f64>,
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Mean error; above 0 the predictions are late.
    pub bias: Option<f64>,
    /// How many predictions are late: above the truth, the dangerous side.
    #[serde(default)]
    pub late: u64,
    /// How many are early: below the truth.
    #[serde(default)]
    pub early: u64,
    /// Sum of the PHM08 score. Compare it only between equal numbers of pairs.
    pub score_sum: Option<f64>,
    /// Mean of the PHM08 score.
    pub score_mean: Option<f64>,
    /// RMSE with weight `1 / (y + 1)`; undefined where a truth is below 0.
    pub weighted_rmse: Option<f64>,
    /// RMSE with weight `1 - clamp(y, 0, hi) / hi`; undefined where every truth is at least `hi`.
    pub min_max_rmse: Option<f64>,
    /// Mean of the absolute error times that weight.
    pub min_max_mae: Option<f64>,
}

impl Report {
    /// So many of the predictions, as a share.
    fn share(&self, predictions: u64) -> Option<f64> {
        quotient(predictions as f64, self.pairs as f64)
    }

    /// Names and values, in the order in which they are shown.
    fn lines(&self) -> [(&'static str, Option<f64>); 10] {
        [
            ("RMSE", self.rmse),
            ("MAE", self.mae),
            ("bias (late > 0)", self.bias),
            ("late, share", self.share(self.late)),
            ("early, share", self.share(self.early)),
            ("PHM08 score, sum", self.score_sum),
            ("PHM08 score, mean", self.score_mean),
            ("weighted RMSE", self.weighted_rmse),
            ("min-max RMSE", self.min_max_rmse),
            ("min-max MAE", self.min_max_mae),
        ]
    }
}

/// The metrics against the labels as they are and, where the model was trained with a cap, against capped labels.
///
/// A model trained with a cap cannot answer above it, so the two differ wherever a truth is above the cap. Both
/// are shown because publications rarely say which they mean. The cap is `hi` of the min-max forms in both.
#[derive(Debug, Clone)]
pub struct Comparison {
    cap: Option<f64>,
    capped: Metrics,
    uncapped: Metrics,
}

impl Comparison {
    /// For a model trained with `cap`.
    #[must_use]
    pub fn capped(cap: f64) -> Self {
        Comparison { cap: Some(cap), capped: Metrics::new(cap), uncapped: Metrics::new(cap) }
    }

    /// For a model trained without a cap; `hi` is that of [`Metrics::new`].
    #[must_use]
    pub fn uncapped(hi: f64) -> Self {
        Comparison { cap: None, capped: Metrics::new(hi), uncapped: Metrics::new(hi) }
    }

    /// Takes a pair in; `truth` is the label without a cap.
    pub fn push(&mut self, truth: f64, predicted: f64) {
        self.uncapped.push(truth, predicted);
        if let Some(cap) = self.cap {
            // `f64::min` would turn a truth that is not a number into the cap.
            self.capped.push(if truth > cap { cap } else { truth }, predicted);
        }
    }

    /// The metrics of the pairs so far.
    #[must_use]
    pub fn report(&self) -> ComparisonReport {
        ComparisonReport {
            cap: self.cap,
            capped: self.cap.map(|_| self.capped.report()),
            uncapped: self.uncapped.report(),
        }
    }
}

/// What [`Comparison`] found. `Display` is a table with a column for each kind of label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparisonReport {
    /// The cap of the labels, in their unit.
    pub cap: Option<f64>,
    /// Against labels of at most `cap`; `None` without a cap.
    pub capped: Option<Report>,
    /// Against the labels as they are.
    pub uncapped: Report,
}

impl std::fmt::Display for ComparisonReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted = |report: &Report| {
            [report.pairs, report.unusable, report.late, report.early].map(grouped)
        };
        let mut columns = Vec::new();
        if let (Some(cap), Some(report)) = (self.cap, &self.capped) {
            columns.push((format!("labels capped at {cap}"), report));
        }
        columns.push(("labels as they are".to_owned(), &self.uncapped));
        let mut table = Table::new(
            std::iter::once(String::new()).chain(columns.iter().map(|(name, _)| name.clone())),
        );
        for (row, name) in ["predictions", "unusable", "late", "early"].into_iter().enumerate() {
            let cells = columns.iter().map(|(_, report)| counted(report)[row].clone());
            table.push(std::iter::once(name.to_owned()).chain(cells));
        }
        for (row, (name, _)) in self.uncapped.lines().into_iter().enumerate() {
            let cells = columns.iter().map(|(_, report)| decimal(report.lines()[row].1, 3));
            table.push(std::iter::once(name.to_owned()).chain(cells));
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of three engines; every figure was computed by hand with 30 digits.
    const TRUTH: [f64; 3] = [0.0, 50.0, 100.0];
    const PREDICTED: [f64; 3] = [10.0, 40.0, 120.0];

    fn report(hi: f64, truth: &[f64], predicted: &[f64]) -> Report {
        let mut metrics = Metrics::new(hi);
        truth.iter().zip(predicted).for_each(|(y, p)| metrics.push(*y, *p));
        metrics.report()
    }

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("the metric is defined here");
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn worked_example() {
        let report = report(100.0, &TRUTH, &PREDICTED);
        close(report.rmse, 14.142_135_62);
        close(report.mae, 13.333_333_33);
        close(report.bias, 6.666_666_67);
        assert_eq!((report.late, report.early), (2, 1));
        close(report.score_sum, 9.265_443_52);
        close(report.score_mean, 3.088_481_17);
        close(report.weighted_rmse, 10.143_232_45);
        close(report.min_max_rmse, 10.0);
        close(report.min_max_mae, 5.0);
        for (d, expected) in [(10.0, 1.718_281_83), (-10.0, 1.158_106_34), (20.0, 6.389_056_10)] {
            close(Some(score(d)), expected);
        }
    }

    #[test]
    fn nothing_to_compare_is_undefined() {
        let report = report(100.0, &[], &[]);
        assert_eq!(report.pairs, 0);
        assert!(report.lines().iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn min_max_needs_a_truth_below_hi() {
        let report = report(100.0, &[100.0, 150.0], &[90.0, 150.0]);
        assert_eq!(report.min_max_rmse, None);
        assert_eq!(report.min_max_mae, Some(0.0));
        close(report.mae, 5.0);
    }

    #[test]
    fn a_useless_hi_leaves_the_other_metrics_alone() {
        for hi in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let report = report(hi, &TRUTH, &PREDICTED);
            assert_eq!((report.min_max_rmse, report.min_max_mae), (None, None), "hi {hi}");
            close(report.rmse, 14.142_135_62);
        }
    }

    #[test]
    fn weighted_rmse_needs_truths_from_zero() {
        let report = report(100.0, &[-1.0, 5.0], &[0.0, 5.0]);
        assert_eq!(report.weighted_rmse, None);
        close(report.mae, 0.5);
    }

    #[test]
    fn pairs_that_are_not_finite_are_counted_apart() {
        let clean = report(100.0, &TRUTH, &PREDICTED);
        let mut truth = TRUTH.to_vec();
        let mut predicted = PREDICTED.to_vec();
        truth.extend([f64::NAN, 1.0, 1.0]);
        predicted.extend([1.0, f64::NAN, f64::INFINITY]);
        let found = report(100.0, &truth, &predicted);
        assert_eq!(found, Report { unusable: 3, ..clean });
    }

    #[test]
    fn an_overflowing_score_is_undefined() {
        let report = report(100.0, &[0.0], &[1e5]);
        assert_eq!((report.score_sum, report.score_mean), (None, None));
        close(report.mae, 1e5);
    }

    #[test]
    fn capped_and_uncapped_labels_side_by_side() {
        let mut comparison = Comparison::capped(125.0);
        comparison.push(160.0, 120.0);
        comparison.push(50.0, 55.0);
        comparison.push(f64::NAN, 55.0);
        let report = comparison.report();
        let capped = report.capped.clone().expect("there is a cap");
        assert_eq!((capped.mae, report.uncapped.mae), (Some(5.0), Some(22.5)));
        assert_eq!((capped.unusable, report.uncapped.unusable), (1, 1));
        assert_eq!(
            report.to_string(),
            "                   labels capped at 125  labels as they are\n\
             predictions                           2                   2\n\
             unusable                              1                   1\n\
             late                                  1                   1\n\
             early                                 1                   1\n\
             RMSE                              5.000              28.504\n\
             MAE                               5.000              22.500\n\
             bias (late > 0)                   0.000             -17.500\n\
             late, share                       0.500               0.500\n\
             early, share                      0.500               0.500\n\
             PHM08 score, sum                  1.118              21.340\n\
             PHM08 score, mean                 0.559              10.670\n\
             weighted RMSE                     5.000              20.097\n\
             min-max RMSE                      5.000               5.000\n\
             min-max MAE                       1.500               1.500\n"
        );
    }

    #[test]
    fn without_a_cap_there_is_one_column_and_a_dash_for_the_undefined() {
        let mut comparison = Comparison::uncapped(100.0);
        comparison.push(100.0, 90.0);
        let text = comparison.report().to_string();
        assert!(!text.contains("capped"), "{text}");
        let line = text.lines().find(|line| line.starts_with("min-max RMSE")).expect("it is there");
        assert!(line.ends_with(" -"), "{line:?}");
    }

    #[test]
    fn a_report_survives_json() {
        let mut comparison = Comparison::capped(4.0);
        comparison.push(5.0, 3.5);
        let report = comparison.report();
        let json = serde_json::to_string(&report).expect("a report has no keys that JSON lacks");
        assert!(json.contains("\"min_max_rmse\":null"), "{json}");
        assert_eq!(serde_json::from_str::<ComparisonReport>(&json).expect("it is ours"), report);
    }
}
