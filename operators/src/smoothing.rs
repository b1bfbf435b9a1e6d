//! Which columns a smoothing step reads and where its results go.
//!
//! A result replaces its column unless `as` names another; then it is appended. It is `Float64`, in the
//! unit of the column it was made from. Results that are something else than their column, such as its rate, are
//! always appended, in a unit of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Column, ConfigError, Fault, Schema, Unit};

use crate::columns::{channel, nullable, numeric, output};

/// The columns of a smoothing step.
#[derive(Debug, Clone)]
pub(crate) struct Smoothed {
    /// What it reads, by index.
    pub(crate) from: Vec<usize>,
    /// Where each result goes, by index in `schema`.
    pub(crate) to: Vec<usize>,
    /// What comes out.
    pub(crate) schema: Schema,
}

impl Smoothed {
    /// Checks `columns` and `rename` (`as` in the file) against the input.
    pub(crate) fn plan(
        input: &Schema,
        columns: &[String],
        rename: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<ConfigError>> {
        Self::in_units(input, columns, rename, Unit::clone)
    }

    /// As [`plan`](Self::plan), but every result is in the unit that `unit` makes of its column's.
    pub(crate) fn in_units(
        input: &Schema,
        columns: &[String],
        rename: &BTreeMap<String, String>,
        unit: impl Fn(&Unit) -> Unit,
    ) -> Result<Self, Vec<ConfigError>> {
        let put = |out: &mut Vec<Column>, from: usize| {
            let Column { name, unit: of, .. } = &out[from];
            let named = rename.get(name);
            let column = Column::new(named.unwrap_or(name), DataType::Float64)
                .with_unit(of.as_ref().map(&unit));
            if named.is_some() {
                out.push(column);
                return out.len() - 1;
            }
            out[from] = column;
            from
        };
        Self::planned(input, columns, rename, put)
    }

    /// As [`in_units`](Self::in_units), but what `rename` does not name is appended as `<column>_<suffix>`.
    pub(crate) fn appended(
        input: &Schema,
        columns: &[String],
        rename: &BTreeMap<String, String>,
        suffix: &str,
        unit: impl Fn(&Unit) -> Unit,
    ) -> Result<Self, Vec<ConfigError>> {
        let put = |out: &mut Vec<Column>, from: usize| {
            let Column { name, unit: of, .. } = &out[from];
            let named = rename.get(name).cloned().unwrap_or_else(|| format!("{name}_{suffix}"));
            let unit = of.as_ref().map(&unit);
            out.push(Column::new(named, DataType::Float64).with_unit(unit));
            out.len() - 1
        };
        Self::planned(input, columns, rename, put)
    }

    /// The plan; `put` puts the result of the column at some place into the output and says where it is.
    fn planned(
        input: &Schema,
        columns: &[String],
        rename: &BTreeMap<String, String>,
        put: impl Fn(&mut Vec<Column>, usize) -> usize,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut smoothed = Smoothed { from: Vec::new(), to: Vec::new(), schema: input.clone() };
        let mut out = input.columns().to_vec();
        if columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        for (i, name) in columns.iter().enumerate() {
            let at = format!("columns[{i}]");
            match numeric(input, &at, name) {
                Ok(from) if smoothed.from.contains(&from) => {
                    errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
                }
                Ok(from) => {
                    smoothed.to.push(put(&mut out, from));
                    smoothed.from.push(from);
                }
                Err(e) => errors.push(e),
            }
        }
        for name in rename.keys().filter(|name| !columns.contains(name)) {
            let what = format!("column '{name}' is not among 'columns'");
            errors.push(ConfigError::new(format!("as.{name}"), what).unknown(name, columns));
        }
        let key = input.key().to_vec();
        match output(out, key, input.time(), input.primary_key().clone()) {
            Ok(schema) => smoothed.schema = schema,
            Err(e) => errors.push(e.under("as")),
        }
        if errors.is_empty() { Ok(smoothed) } else { Err(errors) }
    }

    /// The channels to smooth, NaN where missing.
    pub(crate) fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.from.iter().map(|&c| channel(batch.rows.column(c))).collect()
    }

    /// `batch` with the results in their places; a NaN becomes null.
    pub(crate) fn with(&self, batch: &Batch, results: Vec<Vec<f64>>) -> Result<Batch, Fault> {
        let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
        // Appended columns come in the order of `to`, so each is pushed at its own place.
        for (&to, values) in self.to.iter().zip(results) {
            let column: ArrayRef = Arc::new(nullable(values));
            if to < columns.len() {
                columns[to] = column;
            } else {
                columns.push(column);
            }
        }
        Ok(batch.with_columns(self.schema.arrow(), columns)?)
    }
}
