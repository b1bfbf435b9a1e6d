//! Columns of true and false, to read (a repair, a state) and to write (an outlier).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Column, ConfigError, Fault, Schema};

use crate::columns::{output, place};
use crate::smoothing::Smoothed;

/// The place of a column of true and false.
///
/// # Errors
/// When there is no such column or it is something else.
pub(crate) fn flag(schema: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
    let index = place(schema, at, name)?;
    match &schema.columns()[index].data_type {
        DataType::Boolean => Ok(index),
        other => {
            let what = format!("column '{name}' is {other}, not true or false");
            Err(ConfigError::new(at, what).help("name a column of type 'bool'"))
        }
    }
}

/// Whether the flag is up in each row; null is down.
#[must_use]
pub(crate) fn raised(batch: &Batch, column: usize) -> Vec<bool> {
    let flags = batch.rows.column(column).as_boolean();
    if flags.null_count() == 0 {
        return flags.values().iter().collect();
    }
    flags.iter().map(|flag| flag == Some(true)).collect()
}

/// Where the rows from `from` on end that no flag interrupts.
#[must_use]
pub(crate) fn piece(resets: Option<&[bool]>, from: usize, end: usize) -> usize {
    let next = resets.and_then(|r| r[from + 1..end].iter().position(|&flag| flag));
    next.map_or(end, |ahead| from + 1 + ahead)
}

/// Columns of flags that a step appends, each about one of the columns it works on.
#[derive(Debug, Clone)]
pub(crate) struct Flagged {
    /// Which of the step's columns each is about.
    pub(crate) of: Vec<usize>,
    /// What comes out, flags included.
    pub(crate) schema: Schema,
}

impl Flagged {
    /// No flags.
    pub(crate) fn none(smoothed: &Smoothed) -> Self {
        Flagged { of: Vec::new(), schema: smoothed.schema.clone() }
    }

    /// Checks `names` (flags by column, at `flag` in the file) against the `columns` that are worked on.
    pub(crate) fn plan(
        smoothed: &Smoothed,
        columns: &[String],
        names: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let (mut of, mut errors) = (Vec::new(), Vec::new());
        let mut out = smoothed.schema.columns().to_vec();
        for (column, name) in names {
            match columns.iter().position(|c| c == column) {
                Some(place) => {
                    of.push(place);
                    out.push(Column::new(name, DataType::Boolean));
                }
                None => {
                    let what = format!("column '{column}' is not among 'columns'");
                    let error = ConfigError::new(format!("flag.{column}"), what);
                    errors.push(error.unknown(column, columns));
                }
            }
        }
        let schema = &smoothed.schema;
        let primary_key = schema.primary_key().clone();
        match output(out, schema.key().to_vec(), schema.time(), primary_key) {
            Ok(schema) if errors.is_empty() => Ok(Flagged { of, schema }),
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under("flag"));
                Err(errors)
            }
        }
    }

    /// `batch` with the flags behind its columns.
    pub(crate) fn with(&self, batch: Batch, flags: Vec<Vec<bool>>) -> Result<Batch, Fault> {
        if flags.is_empty() {
            return Ok(batch);
        }
        let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
        let flags = flags.into_iter().map(|f| Arc::new(BooleanArray::from(f)) as ArrayRef);
        columns.extend(flags);
        Ok(batch.with_columns(self.schema.arrow(), columns)?)
    }
}
