//! Computes columns from others by SQL expressions.
//!
//! Input   keyed rows
//! Output  the same rows; each result replaces the column of its name or is appended, as `Float64`, `Int64`,
//!         `Boolean`, `Utf8` or a timestamp, whichever the expression gives
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a row for which an expression fails goes to the dead letters as `expression`, one with an infinite
//!         result as `non_finite`; NaN is null
//! Source  SQL `SELECT *, e AS name`
//!
//! All expressions see the columns of the input, not each other's results. Key and event time stay as they
//! are. A column that is replaced keeps its unit only if `units` says so: the result is something else.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use foreline_engine::{
    Column, ConfigError, Fault, LateSupport, OperatorKind, Planned, Resolver, Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output};
use crate::entries::Entries;
use crate::evaluate::{Fates, Typed, column_type, compile};
use crate::stateless::{Fate, PerRow, Stateless};

/// Computes columns by SQL expressions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeriveConfig {
    /// SQL expressions over the columns of the input, by the name of the result: `power: "torque * speed"`.
    pub columns: Entries<String>,
    /// Units of the results, by name; UCUM codes such as `W`.
    #[serde(default)]
    pub units: Entries<String>,
}

/// The kind `derive`.
#[derive(Debug, Clone, Copy)]
pub struct Derive;

impl OperatorKind for Derive {
    type Config = DeriveConfig;

    const NAME: &'static str = "derive";
    const SUMMARY: &'static str = "computes columns from others by SQL expressions";

    fn plan(
        config: &DeriveConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        for (name, _) in config.units.iter().filter(|(n, _)| config.columns.get(n).is_none()) {
            let known = config.columns.iter().map(|(name, _)| name);
            let what = format!("column '{name}' is not among those computed here");
            errors.push(ConfigError::new(format!("units.{name}"), what).unknown(name, known));
        }
        let (mut columns, mut derived) = (input.columns().to_vec(), Vec::new());
        for (name, sql) in config.columns.iter() {
            match one(input, name, sql, given) {
                Ok(value) => {
                    let unit = config.units.get(name).map(|unit| Unit::new(unit));
                    let column = Column::new(name, value.data_type.clone()).with_unit(unit);
                    derived.push((put(&mut columns, column), value));
                }
                Err(e) => errors.push(e),
            }
        }
        let primary_key = input.primary_key().clone();
        let output = output(columns, input.key().to_vec(), input.time(), primary_key);
        match output.map_err(|e| errors.push(e)) {
            Ok(output) if errors.is_empty() => Ok(planned(input.clone(), output, derived)),
            _ => Err(errors),
        }
    }
}

/// Puts a column in the place of the one with its name, or last; returns where.
fn put(columns: &mut Vec<Column>, column: Column) -> usize {
    if let Some(place) = columns.iter().position(|c| c.name == column.name) {
        columns[place] = column;
        return place;
    }
    columns.push(column);
    columns.len() - 1
}

fn one(input: &Schema, name: &str, sql: &str, given: &dyn Resolver) -> Result<Typed, ConfigError> {
    let at = format!("columns.{name}");
    if let Some(index) = input.index_of(name)
        && (index == input.time()
            || input.key().contains(&index)
            || input.primary_key().columns.contains(&index))
    {
        let what = format!("column '{name}' is part of the key or the event time and must stay as it is");
        return Err(ConfigError::new(at, what).help("choose another name"));
    }
    let expression = compile(sql, input, &at, given)?;
    let data_type = column_type(&expression.data_type()).ok_or_else(|| {
        let what = format!("the expression gives {}, which no column can hold", expression.data_type());
        ConfigError::new(at, what).help("convert it, such as with 'cast(... as double)'")
    })?;
    Ok(Typed { expression, data_type })
}

fn planned(input: Schema, output: Schema, derived: Vec<(usize, Typed)>) -> Planned {
    let schema = output.clone();
    Planned {
        output,
        late: LateSupport::Stateless,
        state_version: 0,
        build: Arc::new(move |_| {
            let function = Derived { derived: derived.clone(), output: schema.clone() };
            Ok(Box::new(Stateless { input: input.clone(), function }))
        }),
        notes: Vec::new(),
    }
}

#[derive(Debug)]
struct Derived {
    /// The place of each result in the output, those appended in order.
    derived: Vec<(usize, Typed)>,
    output: Schema,
}

impl PerRow for Derived {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (place, typed) in &self.derived {
            let values = typed.values(rows, &mut fates)?;
            if *place < columns.len() {
                columns[*place] = values;
            } else {
                columns.push(values);
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, fates.into_inner()))
    }
}
