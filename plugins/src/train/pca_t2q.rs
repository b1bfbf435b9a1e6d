//! What is normal: the main components of the features, and how far rows of the training lie from them.
//!
//! It learns from rows that are taken for normal, without a target. Components are those of the correlation matrix; the limits
//! are quantiles of T² and Q over the training (linear between rows, as NumPy's), so that 1 % of it lies beyond each.

use foreline_sdk::pca_t2q::{FORMAT, N_OUTPUTS, Payload as Model, PcaT2q};
use schemars::JsonSchema;
use serde::Deserialize;
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::evd::EVDDecomposable as _;

use super::quantile::quantile;
use super::scaling::{scaled, standard};
use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters, within};

/// Features: the correlation matrix is solved as a whole.
const MAX_FEATURES: usize = 1000;
/// A component with less variance than this is rounding.
const LEAST_VARIANCE: f64 = 1e-10;

/// Parameters of the distance from what is normal.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PcaT2qParameters {
    /// How many components; or below 1, the share of the variance that they hold together.
    pub components: f64,
    /// The share of the training that counts as normal, for each of T² and Q.
    pub quantile: f64,
}

impl Default for PcaT2qParameters {
    fn default() -> Self {
        PcaT2qParameters { components: 0.9, quantile: 0.99 }
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let given: PcaT2qParameters = parameters(params)?;
    within("features", matrix.width, 2, MAX_FEATURES)?;
    let whole = given.components >= 1.0 && given.components.fract() == 0.0;
    if !(whole || given.components > 0.0 && given.components < 1.0) {
        let message =
            format!("'{}' is neither a number of components nor a share", given.components);
        return Err(TrainError::parameter("components", message));
    }
    if !(given.quantile > 0.0 && given.quantile < 1.0) {
        let message = format!("'{}' is not between 0 and 1", given.quantile);
        return Err(TrainError::parameter("quantile", message));
    }
    let (means, scales) = standard(matrix);
    let z = scaled(matrix, &means, &scales);
    let components = components(&z, matrix)?;
    let total: f64 = components.iter().map(|c| c.0).sum();
    let usable = components.iter().filter(|c| c.0 > LEAST_VARIANCE).count();
    let n = if whole {
        given.components as usize
    } else {
        let mut held = 0.0;
        let enough = |c: &(f64, Vec<f64>)| {
            held += c.0;
            held >= given.components * total
        };
        let n = 1 + components.iter().position(enough).unwrap_or(usable - 1);
        // Features that have nothing to do with one another: something must lie beside the components.
        n.min(usable).min(matrix.width - 1)
    };
    within("components", n, 1, usable.min(matrix.width - 1))?;
    let mut model = Model {
        means,
        scales,
        loadings: components[..n].iter().flat_map(|c| c.1.clone()).collect(),
        variances: components[..n].iter().map(|c| c.0).collect(),
        t2_limit: 1.0,
        q_limit: 1.0,
    };
    let normal = PcaT2q::new(model.clone(), matrix.width).map_err(TrainError::Failed)?;
    let mut scores = vec![0.0; matrix.rows * N_OUTPUTS];
    normal.score(&matrix.x, &mut scores);
    let limit = |output: usize| {
        quantile(scores.iter().skip(output).step_by(N_OUTPUTS).copied(), given.quantile)
    };
    (model.t2_limit, model.q_limit) = (limit(0), limit(1));
    if !(model.t2_limit > 0.0 && model.q_limit > LEAST_VARIANCE * 1e-3) {
        let why =
            "the components hold all of the variance, so nothing lies beside them; take fewer";
        return Err(TrainError::Failed(why.to_owned()));
    }
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"), ", smartcore 0.7.0");
    let columns = Columns::Anomaly;
    Ok(Fitted { payload: Payload::PcaT2q(model), format: FORMAT, library, columns })
}

/// Variances and loadings of the correlation matrix, the greatest first; of each the largest loading is positive.
fn components(z: &[f64], matrix: &Matrix) -> Result<Vec<(f64, Vec<f64>)>, TrainError> {
    let width = matrix.width;
    // As scikit-learn's PCA: by rows less one, of features scaled by the deviation of the population.
    let n = (matrix.rows as f64 - 1.0).max(1.0);
    let mut covariance = vec![0.0; width * width];
    for row in z.chunks_exact(width) {
        for i in 0..width {
            for j in 0..=i {
                covariance[i * width + j] += row[i] * row[j] / n;
            }
        }
    }
    for i in 0..width {
        for j in 0..i {
            covariance[j * width + i] = covariance[i * width + j];
        }
    }
    let failed = |e: &dyn std::fmt::Display| TrainError::Failed(e.to_string());
    let solved = DenseMatrix::new(width, width, covariance, false)
        .map_err(|e| failed(&e))?
        .evd_mut(true)
        .map_err(|e| failed(&e))?;
    let mut found: Vec<(f64, Vec<f64>)> = (0..width)
        .map(|at| {
            let loadings: Vec<f64> = (0..width).map(|row| *solved.V.get((row, at))).collect();
            let largest = loadings
                .iter()
                .copied()
                .fold(0.0, |most: f64, x| if x.abs() > most.abs() { x } else { most });
            let sign = if largest < 0.0 { -1.0 } else { 1.0 };
            (solved.d[at], loadings.into_iter().map(|x| sign * x).collect())
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(found)
}
