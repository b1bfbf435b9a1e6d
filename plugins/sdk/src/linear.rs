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
    fn a_shape_that_does_not_fit_is_refused() {
        let payload = Payload { intercepts: vec![0.0], coefficients: vec![1.0, 2.0] };
        assert!(Linear::new(payload.clone(), 3).is_err());
        assert!(Linear::new(Payload { coefficients: vec![1.0, f64::NAN], ..payload }, 2).is_err());
    }
}
