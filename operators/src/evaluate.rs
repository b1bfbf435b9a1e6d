//! SQL expressions over a batch in which some rows cannot be computed.
//!
//! An expression fails for a whole batch. The batch is cut in halves until only the rows are left that fail
//! by themselves; since an expression is a function of one row, the others have the value they would have had.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::{ConfigError, Expression, Fault, Reason, Resolver, Schema, TimeDomain};

use crate::columns::nullable;
use crate::stateless::Fate;

/// Compiles an expression; the error is at `at`.
pub(crate) fn compile(
    sql: &str,
    schema: &Schema,
    at: &str,
    given: &dyn Resolver,
) -> Result<Arc<dyn Expression>, ConfigError> {
    given.expression(sql, schema).map_err(|e| {
        let error = ConfigError::new(at, e.message);
        e.unknown.into_iter().fold(error, |error, (name, known)| error.unknown(name, known))
    })
}

/// The type of a stream's column that holds values of `data_type`, if there is one.
pub(crate) fn column_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    match data_type {
        T::Float16 | T::Float32 | T::Float64 | T::Decimal128(_, _) | T::Decimal256(_, _) => {
            Some(T::Float64)
        }
        t if t.is_integer() => Some(T::Int64),
        T::Boolean => Some(T::Boolean),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Some(T::Utf8),
        T::Dictionary(_, values) => column_type(values),
        T::Timestamp(_, _) => Some(TimeDomain::UtcNanos.data_type()),
        _ => None,
    }
}

/// An expression and the type that its values are kept in.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    pub(crate) expression: Arc<dyn Expression>,
    pub(crate) data_type: DataType,
}

impl Typed {
    /// One value a row; null, with the reason in `fates`, where it cannot be computed.
    pub(crate) fn values(&self, rows: &RecordBatch, fates: &mut Fates) -> Result<ArrayRef, Fault> {
        let mut parts = Vec::new();
        self.part(rows, 0, &mut parts, fates)?;
        let values = match parts.len() {
            1 => parts.remove(0),
            _ => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        };
        Ok(self.finite(values, fates))
    }

    fn part(
        &self,
        rows: &RecordBatch,
        start: usize,
        parts: &mut Vec<ArrayRef>,
        fates: &mut Fates,
    ) -> Result<(), Fault> {
        match self.evaluate(rows) {
            Ok(values) if values.len() == rows.num_rows() => parts.push(values),
            Ok(values) => {
                let n_rows = rows.num_rows();
                let what = format!("an expression gave {} values for {n_rows} rows", values.len());
                return Err(Fault::new(what));
            }
            Err(detail) if rows.num_rows() <= 1 => {
                parts.push(new_null_array(&self.data_type, rows.num_rows()));
                fates.die(start, Reason::EXPRESSION, detail);
            }
            Err(_) => {
                let half = rows.num_rows() / 2;
                let rest = rows.num_rows() - half;
                self.part(&rows.slice(0, half), start, parts, fates)?;
                self.part(&rows.slice(half, rest), start + half, parts, fates)?;
            }
        }
        Ok(())
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, String> {
        let values = self.expression.evaluate(rows).map_err(|e| e.0)?;
        if values.data_type() == &self.data_type {
            return Ok(values);
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&values, &self.data_type, &strict).map_err(|e| e.to_string())
    }

    /// NaN becomes null, as at a source; a row with an infinite value is dead.
    fn finite(&self, values: ArrayRef, fates: &mut Fates) -> ArrayRef {
        let Some(floats) = values.as_primitive_opt::<Float64Type>() else { return values };
        // Without a branch for each value, which is faster than to stop early.
        if floats.values().iter().fold(true, |finite, v| finite & v.is_finite()) {
            return values;
        }
        let each = floats.iter().enumerate().map(|(row, value)| match value {
            Some(v) if v.is_infinite() => {
                fates.die(row, Reason::NON_FINITE, format!("the value is {v}"));
                f64::NAN
            }
            value => value.unwrap_or(f64::NAN),
        });
        Arc::new(nullable(each.collect()))
    }
}

/// What becomes of the rows of a batch; nothing is written down while all go on.
#[derive(Debug)]
pub(crate) struct Fates {
    n_rows: usize,
    fates: Option<Vec<Fate>>,
}

impl Fates {
    /// All of `n_rows` go on.
    pub(crate) fn kept(n_rows: usize) -> Self {
        Fates { n_rows, fates: None }
    }

    /// `row` cannot be used; the first reason is kept.
    fn die(&mut self, row: usize, reason: Reason, detail: String) {
        self.set(row, Fate::Dead(reason, detail));
    }

    /// A condition leaves `row` out, unless it is dead.
    pub(crate) fn filter(&mut self, row: usize) {
        self.set(row, Fate::Filtered);
    }

    fn set(&mut self, row: usize, fate: Fate) {
        let fates = self.fates.get_or_insert_with(|| vec![Fate::Kept; self.n_rows]);
        if fates[row] == Fate::Kept {
            fates[row] = fate;
        }
    }

    /// One fate a row; `None` when all go on.
    pub(crate) fn into_inner(self) -> Option<Vec<Fate>> {
        self.fates
    }
}
