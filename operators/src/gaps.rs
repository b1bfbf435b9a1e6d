//! Gaps in the rows of a key: stretches of event time without one that are longer than a limit.
//!
//! Input   keyed rows
//! Output  for each gap, where `last` is the row before it and `next` the row that ends it: key, `ts`, `gap_start =
//!         last`, `gap_end`, `gap_length`, `over`. One row at `last + longer_than`, as soon as the gap is one, with
//!         `gap_length = longer_than`, `over` false and no end (unless `open: false`); one row at `next` with
//!         `gap_length = next - last` and `over` true. The primary key is key, `gap_start` and `over`.
//!         With `mark` or `length`: the same rows, joined by whether a gap is before the row, and by the time since
//!         the row before; false and null for the first row of a key
//! State   the event time and position of the last row of each key, and whether its gap was told
//! Late    honours `late: { correct }`; a late row divides a gap, or undoes it
//! Errors  none: every row is used
//! Source  `gap_length = (next - last) / 1 s`, or in counts; a gap is one where `next - last > longer_than`
//!
//! A stream that has ended has a gap after the last row of each key, which is told like any other. The time of rows is
//! looked at, not their values: rows that are all null are no gap.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Extent, Family, Keyed, LateSupport, OperatorKind, Planned, PrimaryKey,
    Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{only, output, positive};
use marks::Marks;
use tells::Tells;

mod marks;
mod tells;
#[cfg(test)]
mod tests;

/// Raised whenever `Last` changes.
const STATE_VERSION: u32 = 1;

/// Finds gaps in the rows of each key. A row comes out for each gap; with `mark` or `length` the rows themselves go on,
/// with what is before each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GapsConfig {
    /// The longest time between two rows of a key that is no gap: `30s`; a number where the event time is a count.
    pub longer_than: Extent,
    /// Whether a gap is told as soon as it is one, and not only when it is over. True unless given.
    #[serde(default)]
    pub open: Option<bool>,
    /// The rows go on with a column of this name, which is true where a gap is before the row.
    #[serde(default)]
    pub mark: Option<String>,
    /// The rows go on with a column of this name: the time since the row before, in seconds or counts.
    #[serde(default)]
    pub length: Option<String>,
}

/// The kind `gaps`.
#[derive(Debug, Clone, Copy)]
pub struct Gaps;

impl OperatorKind for Gaps {
    type Config = GapsConfig;

    const NAME: &'static str = "gaps";
    const SUMMARY: &'static str =
        "finds stretches of time without rows, or marks the rows after them";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = "silent: { from: readings, gaps: { longer_than: 30s } }";

    fn plan(
        config: &GapsConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let longer_than = positive("longer_than", config.longer_than, input.domain());
        let longer_than = longer_than.map_err(|e| errors.push(e));
        let marks = config.mark.is_some() || config.length.is_some();
        if marks && config.open.is_some() {
            let error = ConfigError::new("open", "rows that go on are not told twice");
            errors.push(error.help("leave out 'open', or 'mark' and 'length'"));
        }
        let output = if marks { marked(config, input) } else { told(input) };
        let output = output.map_err(|e| errors.push(e));
        let (Ok(longer_than), Ok(output)) = (longer_than, output) else { return Err(errors) };
        if !errors.is_empty() {
            return Err(errors);
        }
        let rule = Rule { longer_than, open: config.open.unwrap_or(true) };
        Ok(planned(config, rule, marks, input.clone(), output))
    }
}

/// The unit of a length of time.
fn unit_of_time(input: &Schema) -> Unit {
    match (input.domain(), &input.columns()[input.time()].unit) {
        (TimeDomain::UtcNanos, _) => Unit::new("s"),
        (TimeDomain::Logical, Some(unit)) => unit.clone(),
        (TimeDomain::Logical, None) => Unit::new("{count}"),
    }
}

/// The rows of the input with what is before each.
fn marked(config: &GapsConfig, input: &Schema) -> Result<Schema, ConfigError> {
    let mut columns = input.columns().to_vec();
    columns.extend(config.mark.as_ref().map(|name| Column::new(name, DataType::Boolean)));
    columns.extend(
        config
            .length
            .as_ref()
            .map(|name| Column::new(name, DataType::Float64).with_unit(Some(unit_of_time(input)))),
    );
    output(columns, input.key().to_vec(), input.time(), input.primary_key().clone())
}

/// A row a gap.
fn told(input: &Schema) -> Result<Schema, ConfigError> {
    let mut columns: Vec<Column> =
        input.key().iter().map(|&k| input.columns()[k].clone()).collect();
    let n_key = columns.len();
    let time = &input.columns()[input.time()];
    for name in [time.name.as_str(), "gap_start", "gap_end"] {
        let column = Column::new(name, time.data_type.clone());
        columns.push(column.with_unit(time.unit.clone()));
    }
    let length = Column::new("gap_length", DataType::Float64);
    columns.push(length.with_unit(Some(unit_of_time(input))));
    columns.push(Column::new("over", DataType::Boolean));
    let mut primary: Vec<usize> = (0..n_key).collect();
    primary.extend([n_key + 1, n_key + 4]);
    let primary_key = PrimaryKey { columns: primary, position: false };
    output(columns, (0..n_key).collect(), n_key, primary_key)
}

fn planned(config: &GapsConfig, rule: Rule, marks: bool, input: Schema, output: Schema) -> Planned {
    let (out, columns) = (output.clone(), (config.mark.is_some(), config.length.is_some()));
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let (input, output, last) = (input.clone(), out.clone(), Keyed::new(&input));
            let common = Common { input, output, rule, last };
            if marks {
                return Ok(Box::new(Marks::new(common, columns)));
            }
            Ok(Box::new(Tells::new(common)))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// What a gap is.
#[derive(Debug, Clone, Copy)]
struct Rule {
    longer_than: i64,
    /// Whether it is told before it is over.
    open: bool,
}

impl Rule {
    fn is_gap(self, from: i64, to: i64) -> bool {
        to.saturating_sub(from) > self.longer_than
    }

    /// When silence since `last` becomes a gap.
    fn begins(self, last: i64) -> i64 {
        last.saturating_add(self.longer_than)
    }
}

/// The last row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Last {
    at: i64,
    position: u64,
    /// Whether it was told that a gap is after it.
    told: bool,
}

/// What both operators have.
#[derive(Debug)]
struct Common {
    input: Schema,
    output: Schema,
    rule: Rule,
    last: Keyed<Option<Last>>,
}

impl Common {
    /// A length of time in seconds, or in counts.
    #[expect(clippy::cast_precision_loss, reason = "a gap beyond 104 days loses nanoseconds")]
    fn length(&self, from: i64, to: i64) -> f64 {
        let ticks = if self.input.domain() == TimeDomain::UtcNanos { 1e9 } else { 1.0 };
        to.saturating_sub(from) as f64 / ticks
    }
}
