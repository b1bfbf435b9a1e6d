//! The rows of the training themselves, to be asked for what is near.
//!
//! More rows than `max_rows` are thinned evenly in their order, which is by machine and time: every machine keeps its share,
//! and neighbours, which say nearly the same, go first.

use foreline_sdk::knn::{FORMAT, MAX_ROWS, Payload as Knn};
use schemars::JsonSchema;
use serde::Deserialize;

use super::scaling::{scaled, standard};
use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters, within};

/// How neighbours count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Alike.
    #[default]
    Uniform,
    /// By the inverse of their distance; a row that is met counts alone.
    Distance,
}

/// Whether features are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// By mean and deviation of the training.
    #[default]
    Standard,
    /// Not: they are alike already.
    None,
}

/// Parameters of nearest neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KnnParameters {
    /// How many rows are asked.
    #[schemars(range(min = 1))]
    pub k: usize,
    /// How they count.
    pub weights: Weighting,
    /// Whether features are scaled.
    pub scale: Scale,
    /// Most rows that are kept; a row is scored by looking at all of them.
    #[schemars(range(min = 1, max = 50000))]
    pub max_rows: usize,
}

impl Default for KnnParameters {
    fn default() -> Self {
        KnnParameters {
            k: 5,
            weights: Weighting::default(),
            scale: Scale::default(),
            max_rows: 10_000,
        }
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let given: KnnParameters = parameters(params)?;
    within("max_rows", given.max_rows, 1, MAX_ROWS)?;
    let kept = matrix.rows.min(given.max_rows);
    within("k", given.k, 1, kept)?;
    let (means, scales) = match given.scale {
        Scale::Standard => standard(matrix),
        Scale::None => (vec![0.0; matrix.width], vec![1.0; matrix.width]),
    };
    let z = scaled(matrix, &means, &scales);
    // Row `i` of `kept` is at the same share of the way as in all rows.
    let places: Vec<usize> = (0..kept).map(|i| i * matrix.rows / kept).collect();
    let rows = places.iter().flat_map(|&at| &z[at * matrix.width..][..matrix.width]);
    let model = Knn {
        k: u32::try_from(given.k).unwrap_or(u32::MAX),
        by_distance: given.weights == Weighting::Distance,
        means,
        scales,
        rows: rows.copied().collect(),
        targets: places.iter().map(|&at| matrix.y[at]).collect(),
        n_classes: u32::try_from(matrix.n_classes).unwrap_or(u32::MAX),
    };
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"));
    let columns = if matrix.n_classes > 0 { Columns::Classes } else { Columns::One };
    Ok(Fitted { payload: Payload::Knn(model), format: FORMAT, library, columns })
}
