//! Numeric columns as steps compute with them, and the checks of column names that all steps share.
//!
//! A channel is `f64` with NaN where the value is missing. Sources turn a NaN of the input into null, so the
//! two cannot be confused; an `Int64` beyond 2^53 is rounded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, TimestampNanosecondArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::{
    Column, ConfigError, Extent, Fault, PrimaryKey, Schema, SchemaError, TimeDomain,
};

/// A numeric column with NaN for null, truth values as 0 and 1; shares the column's memory where nothing is missing.
///
/// # Errors
/// When the column is not numeric, which the plan rules out.
pub fn channel(column: &ArrayRef) -> Result<ScalarBuffer<f64>, Fault> {
    let floats = match column.data_type() {
        DataType::Float64 => Arc::clone(column),
        DataType::Boolean if column.null_count() == 0 => {
            let flags = column.as_boolean().values().iter();
            return Ok(flags.map(|flag| f64::from(u8::from(flag))).collect());
        }
        _ => cast(column, &DataType::Float64)?,
    };
    let floats = floats.as_primitive::<Float64Type>();
    if floats.null_count() == 0 {
        return Ok(floats.values().clone());
    }
    Ok(floats.iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

/// A column with null where `values` is NaN.
#[must_use]
pub fn nullable(values: Vec<f64>) -> Float64Array {
    if !has_missing(&values) {
        return Float64Array::from(values);
    }
    let valid: BooleanBuffer = values.iter().map(|v| !v.is_nan()).collect();
    Float64Array::new(values.into(), Some(NullBuffer::new(valid)))
}

/// Whether some value is missing. Looks at all of them without a branch, which is faster than to stop early.
#[must_use]
pub fn has_missing(values: &[f64]) -> bool {
    values.iter().fold(false, |missing, v| missing | v.is_nan())
}

/// A time column of `domain`.
#[must_use]
pub fn time_column(times: Vec<i64>, domain: TimeDomain) -> ArrayRef {
    match domain {
        TimeDomain::UtcNanos => {
            Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
        }
        TimeDomain::Logical => Arc::new(Int64Array::from(times)),
    }
}

/// The only input of a step that reads one stream.
///
/// # Errors
/// When there is none or more than one.
pub fn only(inputs: &[Schema]) -> Result<&Schema, Vec<ConfigError>> {
    match inputs {
        [one] => Ok(one),
        many => Err(vec![
            ConfigError::new("", format!("this step reads one stream, not {}", many.len()))
                .help("give one name in 'from'"),
        ]),
    }
}

/// The place of the column called `name`; the error, at `at`, suggests a name that is there.
///
/// # Errors
/// When there is no such column.
pub fn place(schema: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
    schema.index_of(name).ok_or_else(|| {
        let known = schema.columns().iter().map(|c| c.name.as_str());
        ConfigError::new(at, format!("there is no column '{name}'")).unknown(name, known)
    })
}

/// The place of a numeric column that is neither key nor event time.
///
/// # Errors
/// When there is no such column or it is not fit to compute with.
pub fn numeric(schema: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
    let index = place(schema, at, name)?;
    let fault = |what: String| Err(ConfigError::new(at, what).help("name a numeric column"));
    if schema.key().contains(&index) {
        return fault(format!("column '{name}' is part of the key"));
    }
    if schema.time() == index {
        return fault(format!("column '{name}' is the event time"));
    }
    match &schema.columns()[index].data_type {
        DataType::Float64 | DataType::Int64 => Ok(index),
        other => fault(format!("column '{name}' is {other}, not a number")),
    }
}

/// A length above zero, in the unit of `domain`.
///
/// # Errors
/// When it is not above zero, or a count where the time is none, or the other way round.
pub fn positive(at: &str, extent: Extent, domain: TimeDomain) -> Result<i64, ConfigError> {
    let length = extent.in_domain(domain).map_err(|e| e.under(at))?;
    if length > 0 {
        return Ok(length);
    }
    Err(ConfigError::new(at, format!("'{extent}' is not above zero")))
}

/// A schema whose columns may clash, the clash as an error of the configuration.
///
/// # Errors
/// When two columns have one name.
pub fn output(
    columns: Vec<Column>,
    key: Vec<usize>,
    time: usize,
    primary_key: PrimaryKey,
) -> Result<Schema, ConfigError> {
    Schema::with_primary_key(columns, key, time, primary_key).map_err(|e| {
        let help = matches!(e, SchemaError::Duplicate(_)).then_some("choose another name");
        let error = ConfigError::new("", e.to_string());
        help.into_iter().fold(error, ConfigError::help)
    })
}

/// Stops a step that is given state which another version of it wrote.
///
/// # Errors
/// When `found` is not `known`.
pub fn same_version(found: u32, known: u32) -> Result<(), Fault> {
    if found == known {
        return Ok(());
    }
    let what = format!("the saved state has version {found}, but this build reads version {known}");
    Err(Fault::new(what))
}
