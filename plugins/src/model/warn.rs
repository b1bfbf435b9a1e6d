//! Columns that say when a score should not be trusted: features outside the range that the model was trained in.
//!
//! Trees answer a row far outside with what they know of the border, a weighted sum with a line drawn on; neither says so.

use arrow::array::StringArray;
use schemars::JsonSchema;
use serde::Deserialize;

use super::drift::DriftConfig;
use super::rows::FeatureColumns;

/// The column that names the features outside their range.
pub(super) const OUTSIDE_RANGE: &str = "outside_range";

/// What the step warns of, in columns of its own.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarnConfig {
    /// Appends `outside_range`: the features of the row that lie outside what the model saw in training, `temperature` or
    /// `temperature,load`; null where all lie in it. A missing feature lies nowhere.
    pub range: bool,
    /// Appends `drift_psi` and `drifted`: how far the last rows of the machine are from those of the training, as the greatest
    /// population stability index of its features, and the features whose index is above the limit. Null until there were
    /// enough rows. `{}` for the usual limits.
    pub drift: Option<DriftConfig>,
}

/// What features are held to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Range {
    /// The column's name.
    pub(super) name: String,
    /// Smallest and largest value in training; `None` where it is not known.
    pub(super) trained: Option<(f64, f64)>,
}

/// For every row the names of the features outside their range; null in rows that are deleted.
pub(super) fn outside(
    features: &FeatureColumns,
    ranges: &[Range],
    deleted: impl Fn(usize) -> bool,
    n_rows: usize,
) -> StringArray {
    let row_numbers: Vec<u32> = (0..n_rows).map(|row| row as u32).collect();
    let mut matrix = Vec::new();
    features.fill(&row_numbers, &mut matrix);
    let width = ranges.len();
    let names = |row: usize| {
        let values = &matrix[row * width..][..width];
        let is_outside = |(x, range): &(&f64, &Range)| {
            range.trained.is_some_and(|(low, high)| **x < low || **x > high)
        };
        let found = values.iter().zip(ranges).filter(is_outside);
        let found: Vec<&str> = found.map(|(_, range)| range.name.as_str()).collect();
        (!found.is_empty() && !deleted(row)).then(|| found.join(","))
    };
    (0..n_rows).map(names).collect()
}
