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
    Column, ConfigError, Family, Fault, LateSupport, OperatorKind, Planned, Reason, Resolver,
    Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output, place};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, Stateless};

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
        let input = input.clone();
        Ok(Planned {
            output: schema,
            late: LateSupport::Stateless,
            state_version: 0,
            build: Arc::new(move |_| {
                Ok(Box::new(Stateless { input: input.clone(), function: casts.clone() }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
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
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use foreline_engine::Unit;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Cell, Table, check, plan, sameness, try_plan};

    #[test]
    fn text_becomes_numbers_truth_and_back() {
        let input = Table::parse(
            Logical,
            "m,t,f:string,i:string,b:string,n,k:int64\na,0, 1.5e-3 ,-12,yes,2,0\na,1,,,,,\nb,2,7,9,FALSE,-0.5,3\n",
        );
        let config = json!({ "columns": { "f": "float64", "i": "int64", "b": "bool", "n": "string", "k": "bool" } });
        let expected = "m,t,f,i:int64,b:bool,n:string,k:bool\na,0,0.0015,-12,true,2.0,false\na,1,,,,,\nb,2,7,9,false,-0.5,true\n";
        check("cast", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn what_does_not_fit_is_a_dead_letter_or_null() {
        let input = Table::parse(
            Logical,
            "m,t,f:string,n\na,0,1,3\na,1,one,3\nb,2,inf,4\nb,3,2,2.5\nb,4,1e400,1e19\nb,5,3,-0\n",
        );
        let config = json!({ "columns": { "f": "float64", "n": "int64" } });
        let outcome = sameness("cast", &config, &input);
        let mut kept: Vec<_> = outcome.rows.iter().map(|r| r.time).collect();
        kept.sort_unstable();
        assert_eq!(kept, [0, 5]);
        assert_eq!((outcome.account.used, outcome.account.dead), (2, 4));
        assert!(outcome.dead.iter().all(|d| d.3 == "bad_value"), "{:?}", outcome.dead);
        assert_eq!(outcome.dead[0].4, "'one' in column 'f' does not fit Float64");
        assert_eq!(outcome.dead[2].4, "'2.5' in column 'n' does not fit Int64");
        let config = json!({ "columns": { "f": "float64", "n": "int64" }, "on_error": "set_null" });
        let expected = "m,t,f,n:int64\na,0,1,3\na,1,,3\nb,2,,4\nb,3,2,\nb,4,,\nb,5,3,0\n";
        check("cast", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn times_are_read_from_text_and_counts() {
        let input = Table::parse(
            Logical,
            "m,t,a:string,b:int64,c,d:string\na,0,2020-01-01T00:00:00.5Z,1577836800500,1577836800.5,1577836800\na,1,2020-01-01T01:00:00+01:00,0,-0.25,-1\n",
        );
        let config = json!({ "columns": {
            "a": "timestamp", "b": "timestamp_ms", "c": "timestamp_s", "d": "timestamp_s" } });
        let outcome = sameness("cast", &config, &input);
        let new_year = 1_577_836_800_000_000_000_i64;
        let half = 500_000_000;
        let want = [
            ("a", [new_year + half, new_year]),
            ("b", [new_year + half, 0]),
            ("c", [new_year + half, -half / 2]),
            ("d", [new_year, -1_000_000_000]),
        ];
        for (name, times) in want {
            assert_eq!(outcome.column(name), times.map(Cell::Int), "{name}");
        }
        let times = Table { schema: outcome.schema.clone(), ..batch_of(&input, &config) };
        let config = json!({ "columns": { "a": "string", "b": "int64" } });
        let back = sameness("cast", &config, &times);
        assert_eq!(back.column("b")[0], Cell::Int(new_year + half));
        assert_eq!(back.column("a")[0], Cell::Text("2020-01-01T00:00:00.500Z".to_owned()));
    }

    fn batch_of(input: &Table, config: &Value) -> Table {
        let planned = plan("cast", config, &input.schema);
        let casts = Casts {
            casts: vec![
                (2, To::Timestamp),
                (3, To::TimestampMs),
                (4, To::TimestampS),
                (5, To::TimestampS),
            ],
            on_error: OnError::DeadLetter,
            output: planned.output.clone(),
        };
        let rows = casts.apply(&input.rows).unwrap().0;
        Table { schema: planned.output, rows }
    }

    #[test]
    fn a_unit_stays_with_numbers() {
        let mut columns = Table::parse(Logical, "m,t,x,y\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        columns[3].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": { "x": "int64", "y": "string" } });
        let output = plan("cast", &config, &input).output;
        assert_eq!(output.column("x").unwrap().unit, Some(Unit::new("mm/s")));
        assert_eq!(output.column("y").unwrap().unit, None);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x,b:bool\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": {} }), &["columns: no column is named"]),
            (
                json!({ "columns": { "m": "int64", "t": "string", "z": "bool", "x": "timestamp", "b": "timestamp_s" } }),
                &[
                    "columns.m: column 'm' tells rows apart and must stay as it is",
                    "columns.t: column 't' tells rows apart and must stay as it is",
                    "columns.z: there is no column 'z'",
                    "columns.x: column 'x' is Float64, which cannot become that",
                    "columns.b: column 'b' is Boolean, which cannot become that",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("cast", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
