//! Which columns a scaler reads and where its results go: in place of their column, or under a name of their own.
//!
//! A scaled value has the unit 1. The flag of unknown regimes is the last column.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{Column, ConfigError, Fault, Schema, Unit};

use crate::columns::{nullable, numeric, output};
use crate::entries::Entries;

/// The columns of a scaler.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// What it reads, by index.
    pub(super) from: Vec<usize>,
    /// Where each result goes, by index in `schema`.
    to: Vec<usize>,
    /// What comes out.
    pub(super) schema: Schema,
}

impl Places {
    /// Checks `columns` and `rename` (`as` in the file) against the input.
    pub(super) fn plan(
        input: &Schema,
        columns: &[String],
        rename: &Entries<String>,
        flag: Option<&str>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let (mut from, mut to, mut out) = (Vec::new(), Vec::new(), input.columns().to_vec());
        if columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        for (i, name) in columns.iter().enumerate() {
            let at = format!("columns[{i}]");
            match numeric(input, &at, name) {
                Ok(place) if from.contains(&place) => {
                    errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
                }
                Ok(place) => {
                    to.push(Self::target(&mut out, place, rename.get(name)));
                    from.push(place);
                }
                Err(e) => errors.push(e),
            }
        }
        for (name, _) in rename.iter().filter(|(name, _)| !columns.iter().any(|c| c == name)) {
            let what = format!("column '{name}' is not among the columns to scale");
            errors.push(ConfigError::new(format!("as.{name}"), what).unknown(name, columns));
        }
        let at =
            if flag.is_some_and(|flag| out.iter().any(|c| c.name == flag)) { "flag" } else { "as" };
        out.extend(flag.map(|flag| Column::new(flag, DataType::Boolean)));
        match output(out, input.key().to_vec(), input.time(), input.primary_key().clone()) {
            Ok(schema) if errors.is_empty() => Ok(Places { from, to, schema }),
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under(at));
                Err(errors)
            }
        }
    }

    fn target(out: &mut Vec<Column>, from: usize, rename: Option<&String>) -> usize {
        let name = rename.unwrap_or(&out[from].name).clone();
        let column = Column::new(name, DataType::Float64).with_unit(Some(Unit::new("1")));
        if rename.is_some() {
            out.push(column);
            out.len() - 1
        } else {
            out[from] = column;
            from
        }
    }

    /// `rows` with the results in their places, NaN as null, and the flag if there is one.
    pub(super) fn put(
        &self,
        rows: &RecordBatch,
        results: Vec<Vec<f64>>,
        unknown: Option<BooleanArray>,
    ) -> Result<RecordBatch, Fault> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        // Appended columns come in the order of `to`, so each is pushed at its own place.
        for (&to, values) in self.to.iter().zip(results) {
            let column: ArrayRef = Arc::new(nullable(values));
            if to < columns.len() {
                columns[to] = column;
            } else {
                columns.push(column);
            }
        }
        columns.extend(unknown.map(|unknown| Arc::new(unknown) as ArrayRef));
        Ok(RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?)
    }
}
