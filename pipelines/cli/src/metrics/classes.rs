//! How good predicted classes are: the confusion matrix, what follows from it, and whether probabilities mean what they say.
//!
//! With `n[t][p]` rows of true class `t` that were predicted as `p`:
//!
//! - accuracy: share of right rows; balanced accuracy: mean recall of the classes that occur
//! - precision of a class: `n[c][c] / sum_t n[t][c]`; recall: `n[c][c] / sum_p n[c][p]`; F1: their harmonic mean, 0 where a
//!   class occurs and is never hit; macro F1: mean over the classes that occur
//! - log loss: mean of `-ln p(true class)`, probabilities not below 1e-15; Brier: mean of `sum_c (p_c - [c is true])^2`
//! - reliability: rows by the probability of the predicted class, in ten equal bins; calibration error: mean over rows of
//!   `|share right - mean probability|` of their bin
//!
//! These are scikit-learn's `accuracy_score`, `balanced_accuracy_score`, `precision_recall_fscore_support(zero_division=0)`,
//! `log_loss` and the multiclass Brier score. A figure that has no value is `None`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::{Table, UNDEFINED, decimal, grouped};

/// Bins of the reliability.
const BINS: usize = 10;
/// Probabilities below count as this, so that one wrong certainty is not infinite.
const LEAST: f64 = 1e-15;
/// Classes above which the table of the report leaves the matrix out; the JSON has it.
const MOST_SHOWN: usize = 20;

/// The sums that the figures need, kept as rows arrive.
#[derive(Debug, Clone)]
pub struct Classes {
    labels: Vec<String>,
    counts: Vec<Vec<u64>>,
    unusable: u64,
    judged: u64,
    log_loss: f64,
    brier: f64,
    bins: [Bin; BINS],
}

/// Rows whose predicted class had about the same probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bin {
    /// How many rows.
    pub rows: u64,
    /// Sum of the probabilities of the predicted classes.
    pub probability: f64,
    /// How many were right.
    pub right: u64,
}

impl Classes {
    /// No rows yet.
    #[must_use]
    pub fn new(labels: Vec<String>) -> Self {
        let counts = vec![vec![0; labels.len()]; labels.len()];
        let bins = [Bin::default(); BINS];
        Classes { labels, counts, unusable: 0, judged: 0, log_loss: 0.0, brier: 0.0, bins }
    }

    /// Takes a row in: places among the labels, and a probability each where the model has them. A row without a class, on
    /// either side, is counted as unusable and changes no figure.
    pub fn push(&mut self, truth: Option<usize>, predicted: Option<usize>, shares: Option<&[f64]>) {
        let n = self.labels.len();
        let (Some(t), Some(p)) = (truth.filter(|&t| t < n), predicted.filter(|&p| p < n)) else {
            self.unusable += 1;
            return;
        };
        self.counts[t][p] += 1;
        let usable = |s: &&[f64]| s.len() == n && s.iter().all(|p| (0.0..=1.0).contains(p));
        let Some(shares) = shares.filter(usable) else { return };
        self.judged += 1;
        self.log_loss -= shares[t].max(LEAST).ln();
        let off = |(c, p): (usize, &f64)| (p - if c == t { 1.0 } else { 0.0 }).powi(2);
        self.brier += shares.iter().enumerate().map(off).sum::<f64>();
        let bin = &mut self.bins[((shares[p] * BINS as f64) as usize).min(BINS - 1)];
        bin.rows += 1;
        bin.probability += shares[p];
        bin.right += u64::from(t == p);
    }

    /// The figures of the rows so far.
    #[must_use]
    pub fn report(&self) -> ClassReport {
        let per_class: Vec<ClassFigures> =
            (0..self.labels.len()).map(|c| self.figures_of(c)).collect();
        let rows: u64 = self.counts.iter().flatten().sum();
        let right: u64 = (0..self.labels.len()).map(|c| self.counts[c][c]).sum();
        let occurring = || per_class.iter().filter(|c| c.rows > 0);
        let mean = |of: fn(&ClassFigures) -> Option<f64>| {
            let values: Vec<f64> = occurring().filter_map(of).collect();
            quotient(values.iter().sum(), values.len() as u64)
        };
        let gap = |b: &Bin| (b.right as f64 - b.probability).abs();
        ClassReport {
            rows,
            unusable: self.unusable,
            accuracy: quotient(right as f64, rows),
            balanced_accuracy: mean(|c| c.recall),
            macro_f1: mean(|c| c.f1),
            log_loss: quotient(self.log_loss, self.judged),
            brier: quotient(self.brier, self.judged),
            calibration_error: quotient(self.bins.iter().map(gap).sum(), self.judged),
            labels: self.labels.clone(),
            confusion: self.counts.clone(),
            per_class,
            reliability: self.bins.to_vec(),
        }
    }

    fn figures_of(&self, class: usize) -> ClassFigures {
        let hit = self.counts[class][class];
        let rows: u64 = self.counts[class].iter().sum();
        let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
        ClassFigures {
            label: self.labels[class].clone(),
            rows,
            precision: quotient(hit as f64, predicted),
            recall: quotient(hit as f64, rows),
            f1: quotient(2.0 * hit as f64, rows + predicted),
        }
    }
}

fn quotient(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

/// The figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassFigures {
    /// Its name.
    pub label: String,
    /// Rows of this class in truth.
    pub rows: u64,
    /// Share of its predictions that were right; undefined where it was never predicted.
    pub precision: Option<f64>,
    /// Share of its rows that were found; undefined where it does not occur.
    pub recall: Option<f64>,
    /// Harmonic mean of both; undefined where it neither occurs nor was predicted.
    pub f1: Option<f64>,
}

/// How good predicted classes are; what has no value is `None`. `Display` is a table and the confusion matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassReport {
    /// How many rows were compared.
    pub rows: u64,
    /// How many could not be, because the truth or the prediction is missing.
    pub unusable: u64,
    /// Share of right rows.
    pub accuracy: Option<f64>,
    /// Mean recall.
    pub balanced_accuracy: Option<f64>,
    /// Mean F1.
    pub macro_f1: Option<f64>,
    /// Mean negative logarithm of the probability of the true class.
    pub log_loss: Option<f64>,
    /// Mean squared distance of the probabilities from the truth, 0 to 2.
    pub brier: Option<f64>,
    /// How far probabilities are from the shares that were right.
    pub calibration_error: Option<f64>,
    /// The classes.
    pub labels: Vec<String>,
    /// Rows by true class, then by predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// By class.
    pub per_class: Vec<ClassFigures>,
    /// Rows by the probability of the predicted class.
    pub reliability: Vec<Bin>,
}

impl std::fmt::Display for ClassReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new(["", "value"]);
        table.push(["rows".to_owned(), grouped(self.rows)]);
        table.push(["unusable".to_owned(), grouped(self.unusable)]);
        for (name, value) in [
            ("accuracy", self.accuracy),
            ("balanced accuracy", self.balanced_accuracy),
            ("macro F1", self.macro_f1),
            ("log loss", self.log_loss),
            ("Brier score", self.brier),
            ("calibration error", self.calibration_error),
        ] {
            table.push([name.to_owned(), decimal(value, 4)]);
        }
        write!(f, "{table}")?;
        let mut table = Table::new(["class", "rows", "precision", "recall", "F1"]);
        for class in &self.per_class {
            let [p, r, f1] = [class.precision, class.recall, class.f1].map(|v| decimal(v, 4));
            table.push([class.label.clone(), grouped(class.rows), p, r, f1]);
        }
        write!(f, "\n{table}")?;
        if self.labels.len() > MOST_SHOWN {
            return Ok(());
        }
        let header = std::iter::once("true \\ predicted".to_owned());
        let mut table = Table::new(header.chain(self.labels.iter().cloned()));
        for (label, counts) in self.labels.iter().zip(&self.confusion) {
            let shown = |&n: &u64| if n == 0 { UNDEFINED.to_owned() } else { grouped(n) };
            table.push(std::iter::once(label.clone()).chain(counts.iter().map(shown)));
        }
        write!(f, "\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("the figure is defined here");
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    /// Reference: scikit-learn 1.7 on y = [0, 0, 1, 1, 1, 2], p = [0, 1, 1, 1, 0, 1] with the probabilities below:
    /// accuracy_score, balanced_accuracy_score, f1_score(average="macro"), log_loss; the Brier score by hand.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut classes = Classes::new(labels);
        let rows: [(usize, usize, [f64; 3]); 6] = [
            (0, 0, [0.7, 0.2, 0.1]),
            (0, 1, [0.3, 0.6, 0.1]),
            (1, 1, [0.1, 0.8, 0.1]),
            (1, 1, [0.2, 0.5, 0.3]),
            (1, 0, [0.6, 0.3, 0.1]),
            (2, 1, [0.25, 0.5, 0.25]),
        ];
        for (t, p, shares) in &rows {
            classes.push(Some(*t), Some(*p), Some(shares));
        }
        classes.push(None, Some(1), None);
        let report = classes.report();
        assert_eq!((report.rows, report.unusable), (6, 1));
        close(report.accuracy, 0.5);
        close(report.balanced_accuracy, (0.5 + 2.0 / 3.0) / 3.0);
        close(report.macro_f1, (0.5 + 4.0 / 7.0 + 0.0) / 3.0);
        let logs: f64 = [0.7_f64, 0.3, 0.8, 0.5, 0.3, 0.25].iter().map(|p| -p.ln()).sum();
        close(report.log_loss, logs / 6.0);
        close(report.brier, (0.14 + 0.86 + 0.06 + 0.38 + 0.86 + 0.875) / 6.0);
        assert_eq!(report.per_class[2].precision, None, "never predicted");
        assert_eq!(report.per_class[2].recall, Some(0.0));
        assert_eq!(report.confusion[1], [1, 2, 0]);
        // Bins: 0.5 (twice, one right), 0.6 (twice, none right), 0.7 (right), 0.8 (right).
        close(report.calibration_error, (0.0 + 1.2 + 0.3 + 0.2) / 6.0);
    }

    #[test]
    fn nothing_to_compare_is_undefined() {
        let report = Classes::new(vec!["a".to_owned(), "b".to_owned()]).report();
        assert_eq!((report.accuracy, report.macro_f1, report.log_loss), (None, None, None));
        assert!(report.to_string().contains('-'));
    }
}
