//! Fills in values that are missing: the previous one, or a line to the next.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its values with the missing ones filled in (or joined by it under the
//!         name in `as`), `Float64`, in the column's unit; what is not filled in stays null
//! State   for each key and column the last value; with `linear` also the rows that wait for the next value: those of at
//!         most `max_gap`, and at most `max_rows`
//! Late    honours `late: { correct }`
//! Errors  with `linear`, a row that comes when `max_rows` rows of its key wait goes to the dead letters as
//!         `waiting_full`
//! Source  pandas `ffill` and `interpolate(method="index")`, but never across more than `max_gap`
//!
//! ```text
//! previous   y0                                    if t - t0 <= max_gap
//! linear     y0 + (y1 - y0) (t - t0) / (t1 - t0)   if t1 - t0 <= max_gap
//! ```
//!
//! `t0` and `t1` are the times of the values before and after. With `linear` a row waits until the next value of every
//! column is there, or a later row of the key or its watermark says that `max_gap` has passed without one. What is
//! missing before the first value of a key stays missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, ConfigError, Epoch, Extent, Family, Fault, Input, Keyed, LateSupport, Operator,
    OperatorKind, Out, Planned, Resolver, Schema, ShardSet, TimeDomain,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{only, positive, same_version};
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;

mod waiting;

/// Raised whenever the saved state changes.
const STATE_VERSION: u32 = 1;

/// Rows of a key that may wait unless `max_rows` says otherwise: a minute and a half at 100 Hz.
const DEFAULT_MAX_ROWS: usize = 10_000;

/// Fills in values that are missing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FillConfig {
    /// The columns to fill in.
    pub columns: Vec<String>,
    /// What is filled in: the `previous` value, or what is on a `linear` line to the next.
    pub method: FillMethod,
    /// The longest stretch, from the value before, that is filled in: `1m`. Needed for `linear`; left out for
    /// `previous`: however long.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Most rows of a key that may wait, for `linear`; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FillMethod {
    /// The value before.
    Previous,
    /// What is on a line from the value before to the next.
    Linear,
}

/// The kind `fill`.
#[derive(Debug, Clone, Copy)]
pub struct Fill;

impl OperatorKind for Fill {
    type Config = FillConfig;

    const NAME: &'static str = "fill";
    const SUMMARY: &'static str =
        "fills in missing values: the previous one, or a line to the next";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str =
        "filled: { from: readings, fill: { columns: [temperature], method: linear, max_gap: 1m } }";

    fn plan(
        config: &FillConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let how = mistakes.all(How::plan(config, input.domain()));
        let (columns, how) = mistakes.or(columns.zip(how))?;
        let input = input.clone();
        Ok(Planned {
            output: columns.schema.clone(),
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let (input, columns) = (input.clone(), columns.clone());
                Ok(match how {
                    How::Previous { max_gap } => {
                        let last = Keyed::new(&input);
                        Box::new(Previous { input, columns, max_gap, last })
                    }
                    How::Linear { max_gap, max_rows } => {
                        Box::new(waiting::Lines::new(input, columns, max_gap, max_rows)?)
                    }
                })
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// How values are filled in; lengths in the unit of the time domain.
#[derive(Debug, Clone, Copy)]
enum How {
    Previous { max_gap: Option<i64> },
    Linear { max_gap: i64, max_rows: usize },
}

impl How {
    fn plan(config: &FillConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let gap = config.max_gap.map(|gap| positive("max_gap", gap, domain)).transpose();
        let gap = gap.map_err(|e| errors.push(e));
        let max_rows = config.max_rows.unwrap_or(DEFAULT_MAX_ROWS);
        if max_rows == 0 {
            let error = ConfigError::new("max_rows", "at least one row must be able to wait");
            errors.push(error.help("give a number of at least 1"));
        }
        if config.method == FillMethod::Previous && config.max_rows.is_some() {
            let error = ConfigError::new("max_rows", "no row waits for the previous value");
            errors.push(error.help("leave it out"));
        }
        if config.method == FillMethod::Linear && config.max_gap.is_none() {
            let error = ConfigError::new("max_gap", "nothing says how long a line may be");
            errors.push(error.help("give a duration, such as 'max_gap: 1m'"));
        }
        match (config.method, gap) {
            (FillMethod::Previous, Ok(max_gap)) if errors.is_empty() => {
                Ok(How::Previous { max_gap })
            }
            (FillMethod::Linear, Ok(Some(max_gap))) if errors.is_empty() => {
                Ok(How::Linear { max_gap, max_rows })
            }
            _ => Err(errors),
        }
    }
}

/// A value and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Point {
    at: i64,
    y: f64,
}

/// The operator that fills in the previous value.
#[derive(Debug)]
struct Previous {
    input: Schema,
    columns: Smoothed,
    max_gap: Option<i64>,
    last: Keyed<Vec<Option<Point>>>,
}

impl Operator for Previous {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let times = batch.times(&self.input);
        let channels = self.columns.channels(batch)?;
        let column = |_| Vec::with_capacity(batch.len());
        let mut results: Vec<Vec<f64>> = channels.iter().map(column).collect();
        for group in batch.groups() {
            let none = || vec![None; channels.len()];
            let slot = self.last.slot(batch, self.input.key(), group.start, none)?;
            let (last, rows) = (self.last.get_mut(slot), group.start..group.end);
            for ((last, values), result) in last.iter_mut().zip(&channels).zip(&mut results) {
                let (times, values) = (&times[rows.clone()], &values[rows.clone()]);
                fill_previous(times, values, self.max_gap, last, result);
            }
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(self.columns.with(batch, results)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.last.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.last.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.last.load(&state)
    }
}

/// Appends the values with the missing ones filled in.
fn fill_previous(
    times: &[i64],
    values: &[f64],
    max_gap: Option<i64>,
    last: &mut Option<Point>,
    out: &mut Vec<f64>,
) {
    let near = |at: i64, last: Point| max_gap.is_none_or(|gap| at.saturating_sub(last.at) <= gap);
    out.extend(times.iter().zip(values).map(|(&at, &y)| {
        if !y.is_nan() {
            *last = Some(Point { at, y });
            return y;
        }
        last.filter(|&last| near(at, last)).map_or(f64::NAN, |last| last.y)
    }));
}

#[cfg(test)]
mod tests;
