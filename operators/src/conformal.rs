//! Puts an interval around predictions that holds the truth as often as was asked for, by the errors of rows held back from the model.
//!
//! Input   keyed rows with a prediction; the columns are `Float64` or `Int64`
//! Output  the same rows and the bounds, `<column>_low` and `<column>_high` unless `as` names them, in the unit of the
//!         prediction, `Float64`. Null where the prediction, or what the interval is measured by, is missing
//! State   none: the errors are those of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  split conformal prediction: Vovk, Gammerman, Shafer 2005; Papadopoulos et al. 2002 (`scale`); Boström and
//!         Johansson 2020 (`bins`); Romano, Patterson, Candès 2019 (`interval`). Checked against the package crepes
//!
//! The training's target is the truth. Of `n` rows the `ceil((n + 1) coverage)`-th smallest score is the margin `q`: `|y - p|`
//! gives `p ± q`; with `scale` `|y - p| / s` gives `p ± q s`; with `interval` `max(low - y, y - high)` gives
//! `[low - q, high + q]`, which may be narrower than the model's own; bounds that have passed each other meet in the middle. For
//! one side the score has a sign. The rows must be none that the model learnt from, and like those that come: one machine's rows are alike, so the
//! promise is kept over machines, not over the rows of one, and the more machines calibrate the better.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, Fault, FitRows, FitTarget, Fitted, Fitting, OperatorKind, Planned,
    Resolver, Schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{channel, nullable, numeric, only, output};
use crate::mistakes::Mistakes;
use crate::scaling::quantile;
use crate::stateless::{Fate, PerRow, planned};
use crate::statistics::{self, Content, not_fitted};

/// Most ranges of the prediction: each needs rows of its own to calibrate it.
const MAX_BINS: usize = 100;

/// Puts an interval around predictions, as wide as their errors on rows that the model did not learn from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConformalConfig {
    /// The column of the prediction.
    pub column: String,
    /// The share of rows whose truth the interval is to hold, above 0 and below 1; 0.9 unless given.
    #[serde(default = "coverage")]
    pub coverage: f64,
    /// Which bounds there are: a remaining life is often asked for its lower one only.
    #[serde(default)]
    pub side: Side,
    /// A column that says how uncertain each prediction is, such as a spread: intervals are wide where it is large.
    #[serde(default)]
    pub scale: Option<String>,
    /// An interval that the model gives itself, such as two quantiles: it is widened, or narrowed, to what was asked for.
    #[serde(default)]
    pub interval: Option<Own>,
    /// In how many ranges of the prediction, each with as many rows, errors are measured apart; 1 unless given. The errors of long
    /// lives are other ones than those of short lives.
    #[serde(default = "one")]
    pub bins: usize,
    /// The file of the errors, which `foreline train` writes.
    pub statistics: PathBuf,
    /// Names of the bounds in place of `<column>_low` and `<column>_high`.
    #[serde(default, rename = "as")]
    pub names: Names,
}

/// Which bounds an interval has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Both, as far from the prediction.
    #[default]
    Both,
    /// The lower one: the truth is as often above it.
    Low,
    /// The upper one: the truth is as often below it.
    High,
}

/// The columns of an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// The lower bound.
    pub low: String,
    /// The upper bound.
    pub high: String,
}

/// Names of bounds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The lower bound.
    pub low: Option<String>,
    /// The upper bound.
    pub high: Option<String>,
}

fn coverage() -> f64 {
    0.9
}

fn one() -> usize {
    1
}

/// The kind `conformal`.
#[derive(Debug, Clone, Copy)]
pub struct Conformal;

impl OperatorKind for Conformal {
    type Config = ConformalConfig;

    const NAME: &'static str = "conformal";
    const SUMMARY: &'static str =
        "puts an interval around predictions that holds the truth as often as was asked for";
    const FAMILY: Family = Family::Models;
    const EXAMPLE: &'static str = "sure: { from: readings, conformal: { column: vibration, coverage: 0.8, statistics: statistics/margins.json } }";

    fn plan(
        config: &ConformalConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let (input, measured, output) = checked(config, inputs)?;
        let loaded = statistics::load::<Margins>(&config.statistics, given);
        let loaded = loaded.map_err(|e| vec![e])?;
        loaded.content.check(config).map_err(|e| vec![e])?;
        let function = Bounds { measured, margins: loaded.content.bins, schema: output.clone() };
        Ok(Planned { depends_on: vec![loaded.depends_on], ..planned(input, output, function) })
    }

    fn fitting(
        config: &ConformalConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let (_, measured, _) = checked(config, inputs)?;
        let (file, config) = (given.path(&config.statistics), config.clone());
        let fit = Arc::new(move |from: &FitRows<'_>| margins(&config, &measured, from));
        Ok(Some(Fitting { file, target: FitTarget::Needed, fit }))
    }
}

/// What is wrong with the options; the columns that are read, and what comes out.
fn checked<'i>(
    config: &ConformalConfig,
    inputs: &'i [Schema],
) -> Result<(&'i Schema, Measured, Schema), Vec<ConfigError>> {
    let input = only(inputs)?;
    let mut mistakes = Mistakes::default();
    let share = config.coverage;
    if !(share > 0.0 && share < 1.0) {
        let error = ConfigError::new("coverage", format!("'{share}' is not a share"));
        mistakes.push(error.help("give a number above 0 and below 1"));
    }
    if !(1..=MAX_BINS).contains(&config.bins) {
        let what = format!("'{}' is not between 1 and {MAX_BINS}", config.bins);
        mistakes.push(ConfigError::new("bins", what));
    }
    if config.scale.is_some() && config.interval.is_some() {
        let error = ConfigError::new("", "scale and interval exclude one another");
        mistakes.push(error.help("keep one of them"));
    }
    let predicted = mistakes.one(numeric(input, "column", &config.column));
    let mut found = |at: &str, name: &String| mistakes.one(numeric(input, at, name));
    let scale = config.scale.as_ref().and_then(|name| found("scale", name));
    let own = config.interval.as_ref().and_then(|own| {
        let (low, high) = (found("interval.low", &own.low), found("interval.high", &own.high));
        low.zip(high)
    });
    let measured = predicted.map(|predicted| Measured { predicted, scale, own, side: config.side });
    let schema = predicted.and_then(|at| mistakes.one(bounded(config, input, at)));
    let (measured, schema) = mistakes.or(measured.zip(schema))?;
    Ok((input, measured, schema))
}

/// The input's columns and the bounds.
fn bounded(config: &ConformalConfig, input: &Schema, at: usize) -> Result<Schema, ConfigError> {
    let mut columns = input.columns().to_vec();
    let unit = columns[at].unit.clone();
    for (name, end, without) in
        [(&config.names.low, "low", Side::High), (&config.names.high, "high", Side::Low)]
    {
        if config.side == without {
            if name.is_some() {
                let what = format!("with this 'side' there is no bound '{end}'");
                return Err(ConfigError::new(format!("as.{end}"), what).help("leave it out"));
            }
            continue;
        }
        let name = name.clone().unwrap_or_else(|| format!("{}_{end}", config.column));
        columns.push(Column::new(name, DataType::Float64).with_unit(unit.clone()));
    }
    let (key, primary) = (input.key().to_vec(), input.primary_key().clone());
    output(columns, key, input.time(), primary).map_err(|e| e.under("as"))
}

/// The columns by which errors are measured.
#[derive(Debug, Clone, Copy)]
struct Measured {
    predicted: usize,
    scale: Option<usize>,
    own: Option<(usize, usize)>,
    side: Side,
}

/// The values of those columns.
struct Values {
    predicted: ScalarBuffer<f64>,
    scale: Option<ScalarBuffer<f64>>,
    own: Option<(ScalarBuffer<f64>, ScalarBuffer<f64>)>,
}

impl Measured {
    fn values(&self, rows: &RecordBatch) -> Result<Values, Fault> {
        let of = |at: usize| channel(rows.column(at));
        let own = match self.own {
            Some((low, high)) => Some((of(low)?, of(high)?)),
            None => None,
        };
        Ok(Values { predicted: of(self.predicted)?, scale: self.scale.map(of).transpose()?, own })
    }
}

impl Values {
    /// Where an interval of a row begins and ends before there is a margin, and what the margin is multiplied by. `None` where something
    /// is missing.
    fn of(&self, row: usize) -> Option<(f64, f64, f64)> {
        let predicted = self.predicted[row];
        let (low, high) =
            self.own.as_ref().map_or((predicted, predicted), |(low, high)| (low[row], high[row]));
        let scale = self.scale.as_ref().map_or(1.0, |scale| scale[row]);
        let there = [predicted, low, high, scale].iter().all(|v| v.is_finite()) && scale > 0.0;
        there.then_some((low, high, scale))
    }
}

/// Margins as they stand in a file, with what they are of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Margins {
    column: String,
    coverage: f64,
    side: Side,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<Own>,
    /// How many ranges were asked for; equal predictions may leave fewer.
    ranges: usize,
    bins: Vec<Bin>,
}

impl Content for Margins {
    const KIND: &'static str = "conformal";
}

/// The margin of a range of the prediction.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bin {
    /// The greatest prediction of the range; none in the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_to: Option<f64>,
    rows: u64,
    margin: f64,
}

impl Margins {
    /// What keeps the file from serving this step.
    fn check(&self, config: &ConformalConfig) -> Result<(), ConfigError> {
        let differs = |at: &str, of: String| {
            Err(not_fitted(at, format!("the statistics were fitted with '{at}: {of}'")))
        };
        if self.column != config.column {
            return differs("column", self.column.clone());
        }
        if self.coverage.to_bits() != config.coverage.to_bits() {
            return differs("coverage", self.coverage.to_string());
        }
        if self.side != config.side {
            return differs("side", format!("{:?}", self.side).to_lowercase());
        }
        if self.scale != config.scale {
            return differs("scale", self.scale.clone().unwrap_or_else(|| "null".to_owned()));
        }
        if self.interval != config.interval {
            let of = self.interval.as_ref();
            let of = of.map(|own| format!("{{ low: {}, high: {} }}", own.low, own.high));
            return differs("interval", of.unwrap_or_else(|| "null".to_owned()));
        }
        if self.ranges != config.bins {
            return differs("bins", self.ranges.to_string());
        }
        if self.bins.is_empty() {
            return Err(not_fitted("", "the statistics have no margins"));
        }
        Ok(())
    }
}

/// Which range a prediction is in.
fn range_of(edges: impl Iterator<Item = f64>, predicted: f64) -> usize {
    edges.take_while(|edge| *edge < predicted).count()
}

/// The margins by the errors of rows whose truth is known.
fn margins(
    config: &ConformalConfig,
    measured: &Measured,
    from: &FitRows<'_>,
) -> Result<Fitted, String> {
    let truth = channel(from.target.ok_or("the target is missing")?).map_err(|e| e.message)?;
    let values = measured.values(from.rows).map_err(|e| e.message)?;
    let score = |row: usize| {
        let (low, high, scale) = values.of(row)?;
        let (below, above) = ((low - truth[row]) / scale, (truth[row] - high) / scale);
        let score = match config.side {
            Side::Both => below.max(above),
            Side::Low => below,
            Side::High => above,
        };
        score.is_finite().then_some((values.predicted[row], score))
    };
    let scores: Vec<(f64, f64)> = (0..from.rows.num_rows()).filter_map(score).collect();
    let mut predicted: Vec<f64> = scores.iter().map(|(predicted, _)| *predicted).collect();
    predicted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = Vec::new();
    if !predicted.is_empty() {
        let share = |i: usize| i as f64 / config.bins as f64;
        edges = (1..config.bins).map(|i| quantile(&predicted, share(i))).collect();
        edges.dedup();
    }
    let mut of_range: Vec<Vec<f64>> = vec![Vec::new(); edges.len() + 1];
    for (predicted, score) in &scores {
        of_range[range_of(edges.iter().copied(), *predicted)].push(*score);
    }
    let bins = of_range.into_iter().enumerate().map(|(i, scores)| {
        let (up_to, rows) = (edges.get(i).copied(), scores.len() as u64);
        Ok(Bin { up_to, rows, margin: margin(scores, config.coverage)? })
    });
    let bins = bins.collect::<Result<Vec<Bin>, String>>()?;
    let summary = said(config, &bins, scores.len());
    let fitted = Margins {
        column: config.column.clone(),
        coverage: config.coverage,
        side: config.side,
        scale: config.scale.clone(),
        interval: config.interval.clone(),
        ranges: config.bins,
        bins,
    };
    Ok(Fitted { text: statistics::to_text(from.name, scores.len(), fitted)?, summary })
}

/// The margin that holds a share of rows like these.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank from 1 to the number of rows and one"
)]
fn margin(mut scores: Vec<f64>, coverage: f64) -> Result<f64, String> {
    // A share such as 0.9 is not exact in binary: 10 x 0.9 is 9 and not the next whole number above it.
    let rank = |n: usize| ((n + 1) as f64 * coverage - 1e-9).ceil().max(1.0) as usize;
    let n = scores.len();
    if rank(n) > n {
        let needed = (n..).find(|&n| rank(n) <= n).unwrap_or(usize::MAX);
        return Err(format!(
            "{n} rows are too few for a coverage of {coverage}: it takes {needed} or more in every range of the prediction"
        ));
    }
    scores.sort_unstable_by(f64::total_cmp);
    Ok(scores[rank(n) - 1])
}

/// What was learnt, in a few words.
fn said(config: &ConformalConfig, bins: &[Bin], n_rows: usize) -> String {
    let margins: Vec<String> = bins.iter().map(|bin| format!("{:.4}", bin.margin)).collect();
    let times = if config.scale.is_some() { " times the scale" } else { "" };
    let share = config.coverage * 100.0;
    format!("{share} % of {n_rows} rows within a margin of {}{times}", margins.join(", "))
}

/// Bounds by the margins of a file.
#[derive(Debug, Clone)]
struct Bounds {
    measured: Measured,
    margins: Vec<Bin>,
    schema: Schema,
}

impl PerRow for Bounds {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let values = self.measured.values(rows)?;
        let (mut lows, mut highs) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let (low, high) = self.of(&values, row).unwrap_or((f64::NAN, f64::NAN));
            lows.push(low);
            highs.push(high);
        }
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (bound, without) in [(lows, Side::High), (highs, Side::Low)] {
            if self.measured.side != without {
                columns.push(Arc::new(nullable(bound)));
            }
        }
        Ok((RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?, None))
    }
}

impl Bounds {
    fn of(&self, values: &Values, row: usize) -> Option<(f64, f64)> {
        let (low, high, scale) = values.of(row)?;
        let edges = self.margins.iter().filter_map(|bin| bin.up_to);
        let bin = self.margins.get(range_of(edges, values.predicted[row]))?;
        let (low, high) = (low - bin.margin * scale, high + bin.margin * scale);
        if self.measured.side == Side::Both && low > high {
            let middle = f64::midpoint(low, high);
            return Some((middle, middle));
        }
        Some((low, high))
    }
}

#[cfg(test)]
mod tests;
