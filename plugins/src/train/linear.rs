//! Ridge regression by normal equations on standardised features.
//!
//! Features are centred and scaled first, so that one penalty fits all of them, and the coefficients are scaled back:
//! the plugin sees the raw features. Solved by Cholesky decomposition in a fixed order.

use foreline_sdk::linear::{FORMAT, Payload as Linear};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters};

/// Parameters of a linear model.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinearParameters {
    /// Penalty on the squared coefficients of the standardised features (scikit-learn's `Ridge(alpha)` behind
    /// `StandardScaler`). Above 0, so that features that repeat one another have a solution.
    pub alpha: f64,
}

impl Default for LinearParameters {
    fn default() -> Self {
        LinearParameters { alpha: 1.0 }
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let LinearParameters { alpha } = parameters(params)?;
    if !(alpha.is_finite() && alpha > 0.0) {
        let message = format!("'{alpha}' is not above 0");
        return Err(TrainError::Parameters { at: "alpha".to_owned(), message });
    }
    if matrix.n_classes > 0 {
        let message =
            "a weighted sum is a number, and the target is a class; take 'builtin:boosted'";
        return Err(TrainError::Target(message.to_owned()));
    }
    let model = ridge(matrix, alpha)?;
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"));
    Ok(Fitted { payload: Payload::Linear(model), format: FORMAT, library, columns: Columns::One })
}

fn ridge(matrix: &Matrix, alpha: f64) -> Result<Linear, TrainError> {
    let (n, width) = (matrix.rows as f64, matrix.width);
    let rows = || matrix.x.chunks_exact(width);
    let column = |at: usize| rows().map(move |row| row[at]);
    let means: Vec<f64> = (0..width).map(|at| column(at).sum::<f64>() / n).collect();
    let scales: Vec<f64> = (0..width)
        .map(|at| {
            let spread = column(at).map(|x| (x - means[at]).powi(2)).sum::<f64>() / n;
            // A feature that never changes says nothing: its coefficient becomes 0.
            if spread > 0.0 { spread.sqrt() } else { 1.0 }
        })
        .collect();
    let target = matrix.y.iter().sum::<f64>() / n;
    let mut normal = vec![0.0; width * width];
    let mut right = vec![0.0; width];
    let mut z = vec![0.0; width];
    for (row, y) in rows().zip(&matrix.y) {
        for at in 0..width {
            z[at] = (row[at] - means[at]) / scales[at];
        }
        for i in 0..width {
            right[i] += z[i] * (y - target);
            for j in 0..=i {
                normal[i * width + j] += z[i] * z[j];
            }
        }
    }
    for i in 0..width {
        normal[i * width + i] += alpha;
    }
    solve(&mut normal, &mut right, width)?;
    let coefficients: Vec<f64> = right.iter().zip(&scales).map(|(w, scale)| w / scale).collect();
    let shift: f64 = coefficients.iter().zip(&means).map(|(c, mean)| c * mean).sum();
    Ok(Linear { intercepts: vec![target - shift], coefficients })
}

/// Solves `normal · w = right` in place by Cholesky decomposition; only the lower triangle is read.
fn solve(normal: &mut [f64], right: &mut [f64], width: usize) -> Result<(), TrainError> {
    for i in 0..width {
        for j in 0..=i {
            let done: f64 = (0..j).map(|k| normal[i * width + k] * normal[j * width + k]).sum();
            let rest = normal[i * width + j] - done;
            if i != j {
                normal[i * width + j] = rest / normal[j * width + j];
            } else if rest > 0.0 {
                normal[i * width + i] = rest.sqrt();
            } else {
                return Err(TrainError::Failed(
                    "the features repeat one another; raise alpha".to_owned(),
                ));
            }
        }
    }
    for i in 0..width {
        let done: f64 = (0..i).map(|k| normal[i * width + k] * right[k]).sum();
        right[i] = (right[i] - done) / normal[i * width + i];
    }
    for i in (0..width).rev() {
        let done: f64 = (i + 1..width).map(|k| normal[k * width + i] * right[k]).sum();
        right[i] = (right[i] - done) / normal[i * width + i];
    }
    Ok(())
}
