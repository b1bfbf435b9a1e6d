//! Classes by weighted sums: a sum a class, and the probabilities that their softmax is.
//!
//! Out come the place of the likeliest class, of equally likely ones the first, and a probability a class in the labels' order.
//! `exp` is libm's, so that every machine gets the same bits.
//!
//! Contributions are those of the class that was answered: of two classes they sum to the logarithm of its odds, of more to its own
//! score, as those of trees do.

use crate::linear::{Linear, Payload};

/// A linear model whose outputs are the scores of classes.
#[derive(Debug, Clone)]
pub struct Logistic(Linear);

impl Logistic {
    /// A model of `n_features` features; one intercept a class.
    ///
    /// # Errors
    /// When the shape does not fit, or there is one class only.
    pub fn new(payload: Payload, n_features: usize) -> Result<Self, String> {
        let linear = Linear::new(payload, n_features)?;
        if linear.n_outputs() < 2 {
            return Err("one class is no choice".to_owned());
        }
        Ok(Logistic(linear))
    }

    /// Classes.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.0.n_outputs()
    }

    /// Scores as [`score`](Self::score) does, and behind the outputs of a row writes what the answered class has on the mean row,
    /// then what each feature adds: `coefficient · (feature − mean)`.
    pub fn explain(&self, means: &[f64], features: &[f64], outputs: &mut [f64]) {
        let (n, n_features) = (self.n_classes(), means.len());
        for (at, out) in outputs.chunks_exact_mut(n + 2 + n_features).enumerate() {
            let (scores, part) = out.split_at_mut(n + 1);
            let row = &features[at * n_features..][..n_features];
            self.score(row, scores);
            if scores[0].is_nan() {
                part.fill(f64::NAN);
                continue;
            }
            let class = scores[0] as usize;
            let (intercept, model) = self.0.sum(class);
            let (against, other) = if n == 2 { self.0.sum(1 - class) } else { (0.0, &[][..]) };
            let coefficient = |at: usize| model[at] - other.get(at).copied().unwrap_or(0.0);
            part[0] = intercept - against;
            for (at, (x, mean)) in row.iter().zip(means).enumerate() {
                part[0] += coefficient(at) * mean;
                part[1 + at] = coefficient(at) * (x - mean);
            }
        }
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × (1 + classes), row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        let n = self.n_classes();
        let n_rows = outputs.len() / (n + 1);
        let mut sums = vec![0.0; n_rows * n];
        self.0.score(features, &mut sums);
        for (sums, out) in sums.chunks_exact(n).zip(outputs.chunks_exact_mut(n + 1)) {
            let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let shares = &mut out[1..];
            let mut total = 0.0;
            for (share, sum) in shares.iter_mut().zip(sums) {
                *share = libm::exp(sum - most);
                total += *share;
            }
            shares.iter_mut().for_each(|share| *share /= total);
            let best = (0..n).fold(0, |best, at| if shares[at] > shares[best] { at } else { best });
            out[0] = if total.is_nan() { f64::NAN } else { best as f64 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_class_stands_before_its_probabilities() {
        let payload = Payload { intercepts: vec![0.0, 1.0], coefficients: vec![0.0, -1.0] };
        let model = Logistic::new(payload, 1).unwrap();
        let mut out = [0.0; 9];
        model.score(&[1.0, 0.0, f64::NAN], &mut out);
        assert_eq!(out[..3], [0.0, 0.5, 0.5], "of two equal ones the first");
        assert_eq!(out[3], 1.0);
        assert!((out[5] - 0.731_058_578_630_005).abs() < 1e-15);
        assert!(out[6..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn contributions_sum_to_the_odds_or_the_score_of_the_class() {
        let two = Payload { intercepts: vec![0.5, 1.0], coefficients: vec![2.0, 1.0, -1.0, 3.0] };
        let (means, rows) = ([1.0, 2.0], [4.0, 0.5, 0.0, 3.0, f64::NAN, 1.0]);
        let mut out = [0.0; 18];
        Logistic::new(two, 2).unwrap().explain(&means, &rows, &mut out);
        let parts = out.chunks_exact(6).take(2);
        for (parts, class) in parts.zip([0.0, 1.0]) {
            assert_eq!(parts[0], class);
            let odds = (parts[1 + class as usize] / parts[2 - class as usize]).ln();
            assert!((parts[3..].iter().sum::<f64>() - odds).abs() < 1e-12, "{parts:?}");
        }
        assert!(out[12..].iter().all(|x| x.is_nan()), "{out:?}");
        let three = Payload { intercepts: vec![0.0, 1.0, 9.0], coefficients: vec![1.0, 2.0, 3.0] };
        let mut out = [0.0; 6];
        Logistic::new(three, 1).unwrap().explain(&[0.5], &[2.0], &mut out);
        assert_eq!((out[0], out[4], out[5]), (2.0, 10.5, 4.5));
    }

    #[test]
    fn one_class_is_refused() {
        let payload = Payload { intercepts: vec![0.0], coefficients: vec![1.0] };
        assert!(Logistic::new(payload, 1).is_err());
    }
}
