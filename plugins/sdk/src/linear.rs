//! A weighted sum: intercept plus coefficient times feature, in feature order.
//!
//! Summed in that order without fused multiply-add, so that every machine gets the same bits. A NaN feature gives NaN.

use serde::{Deserialize, Serialize};

/// The version of [`Payload`].
pub const FORMAT: u16 = 1;

/// What the weights file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// One an output.
    pub intercepts: Vec<f64>,
    /// outputs × features, row-major.
    pub coefficients: Vec<f64>,
}

/// A linear model that was checked against its shape.
#[derive(Debug, Clone)]
pub struct Linear {
    payload: Payload,
    n_features: usize,
}

impl Linear {
    /// A model of `n_features` features.
    ///
    /// # Errors
    /// When the number of coefficients is not that of outputs × features, or one is not finite.
    pub fn new(payload: Payload, n_features: usize) -> Result<Self, String> {
        let expected = payload.intercepts.len().checked_mul(n_features);
        if expected != Some(payload.coefficients.len()) || payload.intercepts.is_empty() {
            return Err(format!(
                "{} coefficients do not fit {} outputs of {n_features} features",
                payload.coefficients.len(),
                payload.intercepts.len(),
            ));
        }
        if payload.intercepts.iter().chain(&payload.coefficients).any(|c| !c.is_finite()) {
            return Err("a coefficient is not finite".to_owned());
        }
        Ok(Linear { payload, n_features })
    }

    /// Columns that come out.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        self.payload.intercepts.len()
    }

    /// Intercept and coefficients of an output.
    #[must_use]
    pub fn sum(&self, output: usize) -> (f64, &[f64]) {
        let model = &self.payload.coefficients[output * self.n_features..][..self.n_features];
        (self.payload.intercepts[output], model)
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × outputs, row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        if self.n_features == 0 {
            for out in outputs.chunks_exact_mut(self.n_outputs()) {
                out.copy_from_slice(&self.payload.intercepts);
            }
            return;
        }
        let rows = features.chunks_exact(self.n_features);
        for (row, out) in rows.zip(outputs.chunks_exact_mut(self.n_outputs())) {
            let models = self.payload.coefficients.chunks_exact(self.n_features);
            for ((out, intercept), model) in
                out.iter_mut().zip(&self.payload.intercepts).zip(models)
            {
                *out = row.iter().zip(model).fold(*intercept, |sum, (x, c)| sum + x * c);
            }
        }
    }

    /// Scores as [`score`](Self::score) does, and behind the outputs of a row writes for each of them what the sum of
    /// the mean row is, then `coefficient · (feature − mean)` a feature: the Shapley values of a weighted sum.
    pub fn explain(&self, means: &[f64], features: &[f64], outputs: &mut [f64]) {
        let (n_outputs, n_features) = (self.n_outputs(), self.n_features);
        let width = n_outputs * (2 + n_features);
        for (at, out) in outputs.chunks_exact_mut(width).enumerate() {
            let (scores, parts) = out.split_at_mut(n_outputs);
            let row = &features[at * n_features..][..n_features];
            self.score(row, scores);
            for (output, part) in parts.chunks_exact_mut(1 + n_features).enumerate() {
                let model = &self.payload.coefficients[output * n_features..][..n_features];
                let mean = means.iter().zip(model).map(|(mean, c)| mean * c);
                part[0] = self.payload.intercepts[output] + mean.sum::<f64>();
                for (feature, part) in part[1..].iter_mut().enumerate() {
                    *part = model[feature] * (row[feature] - means[feature]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_in_feature_order() {
        let payload =
            Payload { intercepts: vec![0.5, -1.0], coefficients: vec![2.0, 3.0, 0.0, 1.0] };
        let model = Linear::new(payload, 2).unwrap();
        let mut out = [0.0; 4];
        model.score(&[1.0, 10.0, f64::NAN, 4.0], &mut out);
        assert_eq!(out[..2], [32.5, 9.0]);
        assert!(out[2].is_nan() && out[3].is_nan());
    }

    #[test]
    fn contributions_are_counted_from_the_mean() {
        let payload = Payload { intercepts: vec![0.5], coefficients: vec![2.0, 3.0] };
        let mut out = [0.0; 4];
        Linear::new(payload, 2).unwrap().explain(&[3.0, 8.0], &[1.0, 10.0], &mut out);
        assert_eq!(out, [32.5, 30.5, -4.0, 6.0]);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        let payload = Payload { intercepts: vec![0.0], coefficients: vec![1.0, 2.0] };
        assert!(Linear::new(payload.clone(), 3).is_err());
        assert!(Linear::new(Payload { coefficients: vec![1.0, f64::NAN], ..payload }, 2).is_err());
    }
}
