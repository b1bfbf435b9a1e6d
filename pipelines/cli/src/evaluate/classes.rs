//! Predicted classes beside the true ones.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use foreline_engine::{Batch, Schema};

use crate::learning::numbers;
use crate::metrics::classes::{ClassReport, Classes};

/// What the columns of probabilities begin with; the label follows.
const SHARE: &str = "p_";

/// The figures of classes; `None` where the columns hold numbers.
///
/// # Errors
/// When a column is not there.
pub(super) fn compare(
    schema: &Schema,
    batch: &Batch,
    truth: &str,
    predicted: &str,
) -> Result<Option<ClassReport>> {
    let column = |name: &str| {
        let index =
            schema.index_of(name).with_context(|| format!("there is no column '{name}'"))?;
        Ok::<&ArrayRef, anyhow::Error>(batch.rows.column(index))
    };
    let (truth, said) = (column(truth)?, column(predicted)?);
    let number = |c: &ArrayRef| matches!(c.data_type(), DataType::Float64);
    if number(truth) || (number(said) && truth.data_type() == &DataType::Int64) {
        return Ok(None);
    }
    let text = |column: &ArrayRef, row: usize| {
        (!column.is_null(row)).then(|| array_value_to_string(column, row).unwrap_or_default())
    };
    let rows = 0..batch.len();
    let all = rows.clone().flat_map(|row| [text(truth, row), text(said, row)]).flatten();
    let mut labels: BTreeSet<String> = all.collect();
    // A class that was neither true nor predicted has a probability all the same.
    let shares = schema.columns().iter().filter_map(|c| c.name.strip_prefix(SHARE));
    labels.extend(shares.map(str::to_owned));
    let labels: Vec<String> = labels.into_iter().collect();
    let shares: Vec<Option<Vec<f64>>> = labels
        .iter()
        .map(|label| numbers(batch, schema, &format!("{SHARE}{label}")).ok())
        .collect();
    let mut classes = Classes::new(labels.clone());
    let place = |label: Option<String>| label.and_then(|l| labels.binary_search(&l).ok());
    for row in rows {
        let of_row: Option<Vec<f64>> = shares.iter().map(|s| s.as_ref().map(|s| s[row])).collect();
        classes.push(place(text(truth, row)), place(text(said, row)), of_row.as_deref());
    }
    Ok(Some(classes.report()))
}
