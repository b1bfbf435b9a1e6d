//! Turns columns into another type.
//!
//! Input   keyed rows
//! Output  the same rows, each column in its new type; a null stays null, and so does text that is empty
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a row with a value that does not fit the type goes to the dead letters as `bad_value`; with
//!         `on_error: set_null` the value becomes null instead and the row goes on
//! Source  SQL `CAST`, but nothing is rounded or cut off in silence
//!
//! ```text
//! to float64     text such as 1.5e-3; int64; bool as 1 and 0
//! to int64       text such as -12; float64 that is whole; bool as 1 and 0; timestamp as nanoseconds since 1970
//! to bool        text (true, yes, on, 1 and their opposites); numbers, of which only 0 is false
//! to string      all; a timestamp as RFC 3339
//! to timestamp   text as RFC 3339, UTC where it names no zone
//! to timestamp_s, _ms, _us, _ns   numbers of so many seconds, … since 1970, and text of such a number
//! ```
//!
//! A unit stays with a column that was a number and is one, and is lost otherwise. Key and event time stay as they are.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use foreline_engine::{
    Column, ConfigError, Family, Fault, OperatorKind, Planned, Reason, Resolver, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output, place};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, planned};

/// Turns columns into another type.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CastConfig {
    /// The type that each column is to have: `code: int64`.
    pub columns: Entries<To>,
    /// What becomes of a row with a value that does not fit: `dead_letter` (unless given) or `set_null`.
    #[serde(default)]
    pub on_error: OnError,
}

/// A type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A number.
    Float64,
    /// A whole number.
    Int64,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// A time, from text.
    Timestamp,
    /// A time, from seconds since 1970.
    TimestampS,
    /// A time, from milliseconds since 1970.
    TimestampMs,
    /// A time, from microseconds since 1970.
    TimestampUs,
    /// A time, from nanoseconds since 1970.
    TimestampNs,
}

/// What becomes of a row with a value that does not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The row goes to the dead letters.
    #[default]
    DeadLetter,
    /// The value becomes null. (In YAML a bare `null` would be no word.)
    SetNull,
}

/// The kind `cast`.
#[derive(Debug, Clone, Copy)]
pub struct Cast;

impl OperatorKind for Cast {
    type Config = CastConfig;

    const NAME: &'static str = "cast";
    const SUMMARY: &'static str = "turns columns into another type";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str =
        "typed: { from: readings, cast: { columns: { recipe: int64 }, on_error: set_null } }";

    fn plan(
        config: &CastConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let (mut columns, mut casts) = (input.columns().to_vec(), Vec::new());
        for (name, &to) in config.columns.iter() {
            match one(input, name, to) {
                Ok((index, column)) => {
                    columns[index] = column;
                    casts.push((index, to));
                }
                Err(e) => errors.push(e),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
        let schema = output(columns, key, input.time(), primary_key).map_err(|e| vec![e])?;
        let casts = Casts { casts, on_error: config.on_error, output: schema.clone() };
        Ok(planned(input, schema, casts))
    }
}

/// The place of a column and what it becomes.
fn one(input: &Schema, name: &str, to: To) -> Result<(usize, Column), ConfigError> {
    let at = format!("columns.{name}");
    let index = place(input, &at, name)?;
    let column = &input.columns()[index];
    if input.key().contains(&index)
        || input.time() == index
        || input.primary_key().columns.contains(&index)
    {
        let what = format!("column '{name}' tells rows apart and must stay as it is");
        return Err(ConfigError::new(at, what).help("make another column of it with 'derive'"));
    }
    if !to.takes(&column.data_type) {
        let what = format!("column '{name}' is {}, which cannot become that", column.data_type);
        return Err(ConfigError::new(at, what).help(to.advice()));
    }
    let is_number = |t: &DataType| matches!(t, DataType::Float64 | DataType::Int64);
    let stays = is_number(&column.data_type) && is_number(&to.data_type());
    let unit = column.unit.clone().filter(|_| stays);
    Ok((index, Column::new(name, to.data_type()).with_unit(unit)))
}

impl To {
    fn data_type(self) -> DataType {
        match self {
            To::Float64 => DataType::Float64,
            To::Int64 => DataType::Int64,
            To::Bool => DataType::Boolean,
            To::String => DataType::Utf8,
            _ => TimeDomain::UtcNanos.data_type(),
        }
    }

    /// Nanoseconds of the unit that a time is counted in.
    fn tick_ns(self) -> Option<i64> {
        match self {
            To::TimestampS => Some(1_000_000_000),
            To::TimestampMs => Some(1_000_000),
            To::TimestampUs => Some(1_000),
            To::TimestampNs => Some(1),
            _ => None,
        }
    }

    fn takes(self, from: &DataType) -> bool {
        let (text, number) = (is_text(from), matches!(from, DataType::Float64 | DataType::Int64));
        match (self, from) {
            (To::Int64 | To::String | To::Timestamp, DataType::Timestamp(_, _)) => true,
            (To::Float64 | To::Int64 | To::String | To::Bool, DataType::Boolean) => true,
            (To::Timestamp, _) => text,
            _ => text || number,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            To::Timestamp => {
                "say what it counts: timestamp_s, timestamp_ms, timestamp_us, timestamp_ns"
            }
            To::Float64 => "make it int64 first, which are nanoseconds since 1970",
            _ => "name a column of text or numbers",
        }
    }

    /// The value of each row in this type; null where it is not to be had.
    fn values(self, column: &ArrayRef) -> Result<ArrayRef, Fault> {
        if column.data_type() == &self.data_type() {
            return Ok(Arc::clone(column));
        }
        if let Some(tick_ns) = self.tick_ns() {
            let numbers = match column.data_type() {
                DataType::Utf8 => arrow_cast(column, &DataType::Int64)?,
                _ => Arc::clone(column),
            };
            return Ok(ticks(&numbers, tick_ns));
        }
        match (self, column.data_type()) {
            (To::Int64, DataType::Float64) => Ok(whole(column)),
            (To::Timestamp, DataType::Utf8) => in_zone(&arrow_cast(column, &in_offset())?, "UTC"),
            (To::String, DataType::Timestamp(_, _)) => {
                Ok(arrow_cast(&in_zone(column, "+00:00")?, &DataType::Utf8)?)
            }
            (To::Float64, DataType::Utf8) => Ok(finite(&arrow_cast(column, &DataType::Float64)?)),
            _ => Ok(arrow_cast(column, &self.data_type())?),
        }
    }
}

/// The type of times in UTC as Arrow reads and writes them: it knows zones by their offset alone.
fn in_offset() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))
}

/// The same times under another name of the zone.
fn in_zone(times: &ArrayRef, zone: &str) -> Result<ArrayRef, Fault> {
    let times = times.as_primitive_opt::<TimestampNanosecondType>();
    let times = times.ok_or_else(|| Fault::new("a column of times holds something else"))?;
    Ok(Arc::new(times.clone().with_timezone(zone)))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 => true,
        DataType::Dictionary(_, values) => **values == DataType::Utf8,
        _ => false,
    }
}

/// Text without the blanks around it, null where nothing is left; other columns as they are.
fn trimmed(column: &ArrayRef) -> Result<ArrayRef, Fault> {
    if !is_text(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    let plain = arrow_cast(column, &DataType::Utf8)?;
    let texts = plain.as_string::<i32>().iter();
    let texts = texts.map(|t| t.map(str::trim).filter(|t| !t.is_empty()));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// Whole numbers; null where there is a fraction or the number is beyond 64 bits.
fn whole(column: &ArrayRef) -> ArrayRef {
    let floats = column.as_primitive::<Float64Type>();
    let fits = |v: f64| v.trunc().total_cmp(&v).is_eq() && v.abs() < 9.2e18;
    let each = floats.iter().map(|v| v.filter(|&v| v == 0.0 || fits(v)));
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and fits in 64 bits")]
    let whole = each.map(|v| v.map(|v| v as i64));
    Arc::new(whole.collect::<Int64Array>())
}

/// Numbers without NaN and infinity, which are no values.
fn finite(column: &ArrayRef) -> ArrayRef {
    let floats = column.as_primitive::<Float64Type>();
    let each = floats.iter().map(|v| v.filter(|v| v.is_finite()));
    Arc::new(each.collect::<Float64Array>())
}

/// Times from counts of `tick_ns` since 1970; null where they are beyond what a timestamp holds.
fn ticks(column: &ArrayRef, tick_ns: i64) -> ArrayRef {
    let times: Vec<Option<i64>> = match column.data_type() {
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            floats.iter().map(|v| v.and_then(|v| nanoseconds(v, tick_ns))).collect()
        }
        _ => {
            let counts = column.as_primitive::<Int64Type>();
            counts.iter().map(|v| v.and_then(|v| v.checked_mul(tick_ns))).collect()
        }
    };
    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
}

/// `count` ticks, to the nearest nanosecond: whole ticks are exact, the fraction is rounded.
fn nanoseconds(count: f64, tick_ns: i64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "a tick is at most a second")]
    let fraction = ((count - count.floor()) * tick_ns as f64).round();
    if count.abs() >= 9.2e18 || count.is_nan() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "both are whole and fit in 64 bits")]
    let (ticks, fraction) = (count.floor() as i64, fraction as i64);
    ticks.checked_mul(tick_ns)?.checked_add(fraction)
}

#[derive(Debug, Clone)]
struct Casts {
    casts: Vec<(usize, To)>,
    on_error: OnError,
    output: Schema,
}

impl PerRow for Casts {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        let mut fates: Option<Vec<Fate>> = None;
        for &(index, to) in &self.casts {
            let given = trimmed(rows.column(index))?;
            let cast = to.values(&given)?;
            if self.on_error == OnError::DeadLetter && cast.null_count() > given.null_count() {
                let fates = fates.get_or_insert_with(|| vec![Fate::Kept; rows.num_rows()]);
                self.refuse(&given, &cast, index, fates)?;
            }
            columns[index] = cast;
        }
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, fates))
    }
}

impl Casts {
    /// Notes the rows whose value was lost.
    fn refuse(
        &self,
        given: &ArrayRef,
        cast: &ArrayRef,
        index: usize,
        fates: &mut [Fate],
    ) -> Result<(), Fault> {
        let column = &self.output.columns()[index];
        for (row, fate) in fates.iter_mut().enumerate() {
            if given.is_valid(row) && cast.is_null(row) && *fate == Fate::Kept {
                let text = arrow::util::display::array_value_to_string(given, row)?;
                let (name, data_type) = (&column.name, &column.data_type);
                let detail = format!("'{text}' in column '{name}' does not fit {data_type}");
                *fate = Fate::Dead(Reason::BAD_VALUE, detail);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
