//! Turns one row into several of one value each: wide to long.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`, or one column of waveforms
//! Output  for each row one row a named column, with that column's name and value in two new columns in place of the
//!         named ones; with `list` one row a sample, with its number and value. The primary key is that of the input and
//!         the name, or the number
//! State   none
//! Late    columns: any, a value that a correction takes away is deleted. `list`: refused, because a corrected list may
//!         be shorter, and how long it was is not known
//! Errors  none: a row that came in is used, even if it has no value
//! Source  pandas `melt(id_vars, value_vars).dropna()`; for `list` pandas `explode`
//!
//! A value that is null makes no row, unless `nulls` is true; neither does a list that is null or empty. All rows have
//! the event time of the row they are from: a sample of a list is at `time + index / sample rate`, but a list that
//! reaches beyond the next row would put rows out of order. Columns of different units only go into one with `unit`,
//! a text column that says the unit of each value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Batch, Column, ConfigError, Epoch, Family, Fault, Input, LateSupport, Operator,
    OperatorKind, Out, Planned, PrimaryKey, Resolver, Schema, Unit, waveform_type,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, numeric, only, output, place};
use crate::words::spelt;

/// Turns one row into several of one value each. Exactly one of `columns` and `list` says what becomes rows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplodeConfig {
    /// The columns that become rows, in that order.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The column of waveforms whose samples become rows.
    #[serde(default)]
    pub list: Option<String>,
    /// The new column with the name of the column, or with `list` the number of the sample, from 0; `name` or `index`
    /// unless given.
    #[serde(default)]
    pub name: Option<String>,
    /// The new column with the value; `value` unless given.
    #[serde(default = "value")]
    pub value: String,
    /// A new column with the unit of each value; needed where the columns have different ones.
    #[serde(default)]
    pub unit: Option<String>,
    /// Whether a value that is null makes a row, too.
    #[serde(default)]
    pub nulls: bool,
}

fn value() -> String {
    "value".to_owned()
}

/// The kind `explode`.
#[derive(Debug, Clone, Copy)]
pub struct Explode;

impl OperatorKind for Explode {
    type Config = ExplodeConfig;

    const NAME: &'static str = "explode";
    const SUMMARY: &'static str = "turns one row into several of one value each";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "long: { from: readings, explode: { columns: [vibration, temperature], name: channel, unit: unit } }";

    fn plan(
        config: &ExplodeConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        match (&config.list, config.columns.is_empty()) {
            (None, false) => columns(config, input),
            (Some(list), true) => samples(config, list, input),
            (None, true) => Err(vec![
                ConfigError::new("", "nothing says what becomes rows")
                    .help("add one of columns, list"),
            ]),
            (Some(_), false) => Err(vec![
                ConfigError::new("", "columns and list exclude one another")
                    .help("keep one of them, and make another step for the other"),
            ]),
        }
    }
}

/// Plans columns that become rows.
fn columns(config: &ExplodeConfig, input: &Schema) -> Result<Planned, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut exploded: Vec<usize> = Vec::new();
    for (i, name) in config.columns.iter().enumerate() {
        let at = format!("columns[{i}]");
        match numeric(input, &at, name) {
            Ok(column) if exploded.contains(&column) => {
                errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
            }
            Ok(column) => exploded.push(column),
            Err(e) => errors.push(e),
        }
    }
    let unit = one_unit(config, input, &exploded).map_err(|e| errors.push(e));
    let mut new = vec![Column::new(config.name.as_deref().unwrap_or("name"), DataType::Utf8)];
    new.push(Column::new(config.value.as_str(), DataType::Float64).with_unit(unit.ok().flatten()));
    new.extend(config.unit.iter().map(|name| Column::new(name.as_str(), DataType::Utf8)));
    let kept = rest(input, &exploded);
    let schema = long_schema(input, &kept, new).map_err(|e| errors.push(e));
    let Ok(schema) = schema.and_then(|s| if errors.is_empty() { Ok(s) } else { Err(()) }) else {
        return Err(errors);
    };
    let text = |of: &dyn Fn(&Column) -> Option<String>| {
        exploded.iter().map(|&c| of(&input.columns()[c])).collect::<Vec<_>>()
    };
    let names = text(&|c| Some(c.name.clone()));
    let units = config.unit.is_some().then(|| text(&|c| c.unit.as_ref().map(Unit::to_string)));
    let rows = Columns { kept, exploded, names, units, nulls: config.nulls, output: schema };
    Ok(planned(rows.output.clone(), LateSupport::Stateless, move || Box::new(rows.clone())))
}

/// The unit that all columns have; `None` as well where a column of its own says them.
fn one_unit(
    config: &ExplodeConfig,
    input: &Schema,
    exploded: &[usize],
) -> Result<Option<Unit>, ConfigError> {
    let mut columns = exploded.iter().map(|&c| &input.columns()[c]);
    let Some(first) = columns.next() else { return Ok(None) };
    if config.unit.is_some() {
        return Ok(None);
    }
    let told = |c: &Column| c.unit.as_ref().map_or("no unit".to_owned(), |u| format!("'{u}'"));
    match columns.find(|c| c.unit != first.unit) {
        None => Ok(first.unit.clone()),
        Some(other) => {
            let (a, b) = (told(first), told(other));
            let what = format!("column '{}' has {a} and column '{}' {b}", first.name, other.name);
            let help = "name a column for the units with 'unit', or 'convert' the columns before";
            Err(ConfigError::new("columns", what).help(help))
        }
    }
}

/// Plans samples that become rows.
fn samples(
    config: &ExplodeConfig,
    list: &str,
    input: &Schema,
) -> Result<Planned, Vec<ConfigError>> {
    let list = place(input, "list", list).map_err(|e| vec![e])?;
    let column = &input.columns()[list];
    if column.data_type != waveform_type() {
        let what = format!("column '{}' is {}, not waveforms", column.name, column.data_type);
        return Err(vec![ConfigError::new("list", what).help("name a column of waveforms")]);
    }
    if config.unit.is_some() || config.nulls {
        let at = if config.nulls { "nulls" } else { "unit" };
        let what = "samples are all in one unit and never missing";
        return Err(vec![ConfigError::new(at, what).help("leave it out")]);
    }
    let new = vec![
        Column::new(config.name.as_deref().unwrap_or("index"), DataType::Int64),
        Column::new(config.value.as_str(), DataType::Float64).with_unit(column.unit.clone()),
    ];
    let kept = rest(input, &[list]);
    let output = long_schema(input, &kept, new).map_err(|e| vec![e])?;
    let late =
        LateSupport::Refuses("a corrected list may be shorter, and how long it was is not known");
    let rows = Samples { kept, list, output };
    Ok(planned(rows.output.clone(), late, move || Box::new(rows.clone())))
}

/// The columns that stay.
fn rest(input: &Schema, exploded: &[usize]) -> Vec<usize> {
    (0..input.columns().len()).filter(|c| !exploded.contains(c)).collect()
}

/// The columns that stay and the new ones, of which the first tells the rows of a row apart.
fn long_schema(input: &Schema, kept: &[usize], new: Vec<Column>) -> Result<Schema, ConfigError> {
    let place = |column: &usize| kept.iter().position(|k| k == column);
    let primary = input.primary_key();
    let Some(mut tells) = primary.columns.iter().map(place).collect::<Option<Vec<_>>>() else {
        let what = "a column that tells rows apart cannot become rows";
        return Err(ConfigError::new("columns", what).help("leave it out"));
    };
    let mut columns: Vec<Column> = kept.iter().map(|&c| input.columns()[c].clone()).collect();
    tells.push(columns.len());
    columns.extend(new);
    let key = input.key().iter().filter_map(place).collect();
    let time = place(&input.time()).unwrap_or(0);
    let primary_key = PrimaryKey { columns: tells, position: primary.position };
    output(columns, key, time, primary_key)
}

fn planned(
    output: Schema,
    late: LateSupport,
    make: impl Fn() -> Box<dyn Operator> + Send + Sync + 'static,
) -> Planned {
    Planned {
        output,
        late,
        state_version: 0,
        build: Arc::new(move |_| Ok(make())),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// Columns that become rows.
#[derive(Debug, Clone)]
struct Columns {
    kept: Vec<usize>,
    exploded: Vec<usize>,
    names: Vec<Option<String>>,
    units: Option<Vec<Option<String>>>,
    nulls: bool,
    output: Schema,
}

impl Columns {
    /// All rows, those of nulls too, and which of them there are.
    fn explode(&self, batch: &Batch) -> Result<(Batch, BooleanArray), Fault> {
        let n = self.exploded.len();
        let channels = self.exploded.iter().map(|&c| channel(batch.rows.column(c)));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let n_rows = u32::try_from(batch.len()).expect("a batch has fewer than 2^32 rows");
        let from: UInt32Array = (0..n_rows).flat_map(|r| std::iter::repeat_n(r, n)).collect();
        let repeated = |texts: &[Option<String>]| -> ArrayRef {
            let words: Vec<&str> = texts.iter().map(|t| t.as_deref().unwrap_or("")).collect();
            let place =
                |(i, text): (u32, &Option<String>)| if text.is_some() { i } else { u32::MAX };
            let places: Vec<u32> = (0..).zip(texts).map(place).collect();
            Arc::new(spelt(&words, &places.repeat(batch.len())))
        };
        let values: Vec<f64> =
            (0..batch.len()).flat_map(|row| channels.iter().map(move |c| c[row])).collect();
        let there: BooleanArray = values.iter().map(|v| Some(self.nulls || !v.is_nan())).collect();
        let mut new = vec![repeated(&self.names), Arc::new(nullable(values)) as ArrayRef];
        new.extend(self.units.as_deref().map(repeated));
        Ok((widened(batch, &from, &self.kept, new, &self.output)?, there))
    }

    /// The rows that there are.
    fn new_rows(&self, batch: &Batch) -> Result<Batch, Fault> {
        let (rows, there) = self.explode(batch)?;
        Ok(rows.filter(&there)?)
    }

    /// The rows again; those that are not there, or not any more, as deleted.
    fn revised(&self, batch: &Batch) -> Result<Batch, Fault> {
        let (rows, there) = self.explode(batch)?;
        let deleted = |row: usize| rows.deleted.as_ref().is_some_and(|d| d.value(row));
        let gone = (0..rows.len()).map(|row| Some(deleted(row) || !there.value(row))).collect();
        Ok(Batch { deleted: Some(gone), ..rows })
    }
}

/// The rows of `batch` at `from` with the columns that are kept and the new ones.
fn widened(
    batch: &Batch,
    from: &UInt32Array,
    kept: &[usize],
    new: Vec<ArrayRef>,
    output: &Schema,
) -> Result<Batch, Fault> {
    let ids = Batch { rows: batch.rows.project(kept)?, ..batch.clone() }.take(from)?;
    let mut columns = ids.rows.columns().to_vec();
    columns.extend(new);
    let rows = RecordBatch::try_new(Arc::clone(output.arrow()), columns)?;
    Ok(Batch { rows, ..ids })
}

impl Operator for Columns {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let used = (input.rows.len() + input.late.len() + input.revised.len()) as u64;
        out.count(Account { used, ..Account::default() });
        out.emit(self.new_rows(input.rows)?);
        if !input.late.is_empty() {
            out.emit_late(self.new_rows(input.late)?);
        }
        if !input.revised.is_empty() {
            out.emit(self.revised(input.revised)?);
        }
        Ok(())
    }
}

/// Samples that become rows.
#[derive(Debug, Clone)]
struct Samples {
    kept: Vec<usize>,
    list: usize,
    output: Schema,
}

impl Operator for Samples {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        let lists = batch.rows.column(self.list).as_list::<i32>();
        let (mut from, mut index, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, list) in (0_u32..).zip(lists.iter()) {
            let Some(list) = list.filter(|l| !l.is_empty()) else { continue };
            from.extend(std::iter::repeat_n(row, list.len()));
            index.extend((0_i64..).take(list.len()));
            parts.push(list);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = cast(&arrow::compute::concat(&parts)?, &DataType::Float64)?;
        let new = vec![Arc::new(Int64Array::from(index)) as ArrayRef, values];
        out.emit(widened(batch, &from.into(), &self.kept, new, &self.output)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
