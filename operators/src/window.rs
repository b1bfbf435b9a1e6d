//! Features of columns over windows of event time or of rows.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  `tumbling` and `sliding`: key, `window_end`, features; one row a window that has a row, its event
//!         time the exclusive end of the window, its primary key the key and `window_end`. `session`: the same, with
//!         `window_first` and `window_last`, the event times of its first and last row, and the end `window_last + gap`.
//!         `rolling` and `count`: key, event time, features; one row for every `every`-th row, its event time and primary
//!         key those of the row it ends with. Features are called `<column>_<feature>`; null where not defined
//! State   the rows of the open windows of each key, at most `max_rows`; for `rolling` and `count` the last `rows`
//! Late    honours `late: { correct }`; a late row opens a window that was not there, joins two sessions, and in
//!         `rolling` and `count` shifts what `every` counts
//! Errors  a row that no longer fits in its window goes to the dead letters as `window_full`
//! Source  the definitions are in `features`; they agree with NumPy, `scipy.stats` and tsfresh
//!
//! Windows of event time are `[start, end)` and aligned to 1970-01-01T00:00Z, or to 0 of a count, not to the first row. One
//! closes when its key's watermark reaches its end, or when the stream has ended; a run that is merely
//! stopped leaves it open. A null takes a place among the rows and is left out of the features.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Extent, Family, LateSupport, OperatorKind, Planned, PrimaryKey, Resolver,
    Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, only, output};
use crate::entries::Entries;
use crate::features::FeatureCall;
use evaluate::{Evaluator, Rules, Wanted};
use shape::Shape;

mod evaluate;
mod panes;
mod ranked;
mod rolling;
mod session;
mod shape;
#[cfg(test)]
mod tests;
mod timed;

/// Computes features of columns over windows. Exactly one of `tumbling`, `sliding`, `rolling`, `count` and `session` says
/// which windows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Windows of this length, one after the other: `1m`; a number where the event time is a count.
    #[serde(default)]
    pub tumbling: Option<Extent>,
    /// Windows that overlap.
    #[serde(default)]
    pub sliding: Option<Sliding>,
    /// The last so many rows, fewer at the start.
    #[serde(default)]
    pub rolling: Option<Rolling>,
    /// Windows of so many rows, none of fewer.
    #[serde(default)]
    pub count: Option<Count>,
    /// Windows of rows that follow one another closely.
    #[serde(default)]
    pub session: Option<Session>,
    /// The features to compute, by column: `[rms, q95, autocorrelation: { lag: 2 }]`.
    pub features: Entries<Vec<FeatureCall>>,
    /// Whether amplitudes (`rms`, `peak`, `mean_abs` and the crest, shape, impulse and clearance factors) are of the
    /// values less the window's mean, as is usual for vibration.
    #[serde(default)]
    pub remove_mean: bool,
    /// The features of a column are null in a window where it has fewer values; 1 unless given. What counts rows
    /// (`count`, `missing`, `missing_share`) is always there.
    #[serde(default)]
    pub min_values: Option<usize>,
    /// A tumbling, sliding or session window with fewer rows does not come out; 1 unless given.
    #[serde(default)]
    pub min_rows: Option<usize>,
    /// Most rows that the open windows of a key may hold; 100,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// Windows that overlap.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sliding {
    /// How long each is.
    pub length: Extent,
    /// How far each starts after the one before; at most `length`.
    pub every: Extent,
}

/// The last so many rows of a key.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// How many rows, the current one included.
    pub rows: usize,
    /// A row comes out for every so many that come in; 1 unless given.
    #[serde(default = "one")]
    pub every: usize,
    /// Nothing comes out for a key before it has had so many rows; 1 unless given, so that windows are shorter at
    /// the start.
    #[serde(default = "one")]
    pub min_rows: usize,
    /// A key begins anew, without rows, after a longer time than this without one.
    #[serde(default)]
    pub max_gap: Option<Extent>,
}

/// Windows of so many rows of a key.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// How many rows.
    pub rows: usize,
    /// How many rows each starts after the one before; `rows` unless given, so that they follow one another.
    #[serde(default)]
    pub every: Option<usize>,
    /// A window is given up, and the next begins, after a longer time than this without a row.
    #[serde(default)]
    pub max_gap: Option<Extent>,
}

/// Windows of rows that follow one another closely.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// A session ends when no row has come for this long.
    pub gap: Extent,
    /// A session is cut this long after its first row, and another begins.
    #[serde(default)]
    pub max_length: Option<Extent>,
}

fn one() -> usize {
    1
}

/// The kind `window`.
#[derive(Debug, Clone, Copy)]
pub struct Window;

impl OperatorKind for Window {
    type Config = WindowConfig;

    const NAME: &'static str = "window";
    const SUMMARY: &'static str = "computes features of columns over windows of time or of rows";
    const FAMILY: Family = Family::Features;
    const EXAMPLE: &'static str = "features: { from: readings, window: { tumbling: 1m, features: { vibration: [mean, rms, kurtosis, q95, autocorrelation: { lag: 2 }], temperature: [slope] } } }";

    fn plan(
        config: &WindowConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let shape = Shape::plan(config, input.domain()).map_err(|e| errors.extend(e));
        let rules = rules(config, &mut errors);
        let wanted = wanted(config, input, &mut errors);
        let Ok(shape) = shape else { return Err(errors) };
        let output = match output_schema(shape, input, &wanted) {
            Ok(output) if errors.is_empty() => output,
            Ok(_) => return Err(errors),
            Err(e) => {
                errors.push(e.under("features"));
                return Err(errors);
            }
        };
        Ok(planned(shape, input.clone(), output, Evaluator::new(wanted, rules, input.domain())))
    }
}

fn rules(config: &WindowConfig, errors: &mut Vec<ConfigError>) -> Rules {
    let min_values = config.min_values.unwrap_or(1);
    if min_values == 0 {
        let error = ConfigError::new("min_values", "features need at least one value");
        errors.push(error.help("give 1 or more"));
    }
    Rules { remove_mean: config.remove_mean, min_values }
}

/// The features of each column, in the order of the file.
fn wanted(config: &WindowConfig, input: &Schema, errors: &mut Vec<ConfigError>) -> Vec<Wanted> {
    if config.features.is_empty() {
        errors.push(ConfigError::new("features", "no feature is named"));
    }
    let mut wanted = Vec::new();
    for (column, names) in config.features.iter() {
        let at = format!("features.{column}");
        if names.is_empty() {
            errors
                .push(ConfigError::new(at.as_str(), format!("no feature of '{column}' is named")));
        }
        let mut calls = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match name.resolve() {
                Ok(call) => calls.push(call),
                Err(e) => errors.extend(e.into_iter().map(|e| e.under(&format!("{at}[{i}]")))),
            }
        }
        match numeric(input, &at, column) {
            Ok(column) => wanted.push(Wanted::new(column, calls, config.remove_mean)),
            Err(e) => errors.push(e),
        }
    }
    wanted
}

fn output_schema(shape: Shape, input: &Schema, wanted: &[Wanted]) -> Result<Schema, ConfigError> {
    let mut columns: Vec<Column> =
        input.key().iter().map(|&k| input.columns()[k].clone()).collect();
    let n_key = columns.len();
    let time = &input.columns()[input.time()];
    let names = shape.times().unwrap_or(std::slice::from_ref(&time.name.as_str())).to_vec();
    columns.extend(
        names
            .into_iter()
            .map(|name| Column::new(name, time.data_type.clone()).with_unit(time.unit.clone())),
    );
    let time_unit = match (input.domain(), &time.unit) {
        (TimeDomain::UtcNanos, _) => Unit::new("s"),
        (TimeDomain::Logical, Some(unit)) => unit.clone(),
        (TimeDomain::Logical, None) => Unit::new("{count}"),
    };
    for want in wanted {
        let column = &input.columns()[want.column];
        columns.extend(want.features.iter().map(|call| {
            let rule = call.feature.unit;
            let data_type = if rule.is_whole() { DataType::Int64 } else { DataType::Float64 };
            Column::new(format!("{}_{}", column.name, call.suffix), data_type)
                .with_unit(rule.apply(&call.args, column.unit.as_ref(), &time_unit))
        }));
    }
    let position = shape.times().is_none() && needs_position(input);
    let primary_key = PrimaryKey { columns: (0..=n_key).collect(), position };
    output(columns, (0..n_key).collect(), n_key, primary_key)
}

/// Whether key and time do not tell the rows of `input` apart.
fn needs_position(input: &Schema) -> bool {
    let primary = input.primary_key();
    let kept = |c: &usize| input.key().contains(c) || *c == input.time();
    primary.position || !primary.columns.iter().all(kept)
}

fn planned(shape: Shape, input: Schema, output: Schema, evaluator: Evaluator) -> Planned {
    let out = output.clone();
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: shape.state_version(),
        build: Arc::new(move |_| {
            let (input, output, evaluator) = (input.clone(), out.clone(), evaluator.clone());
            Ok(match shape {
                Shape::Timed(grid, limits) => {
                    Box::new(timed::Timed::new(input, output, grid, limits, evaluator))
                }
                Shape::Rows(rule) => {
                    Box::new(rolling::LastRows::new(input, output, rule, evaluator))
                }
                Shape::Session(rule, limits) => {
                    Box::new(session::Sessions::new(input, output, rule, limits, evaluator))
                }
            })
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}
