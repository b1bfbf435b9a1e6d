//! Moving average: the mean of the last rows, or of the rows of the last so much time.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its average (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   the rows of the window of each key: `rows - 1`, or those of `duration`, at most `max_rows`
//! Late    honours `late: { correct }`
//! Errors  with `duration`, a row whose window holds `max_rows` already goes to the dead letters as `window_full`
//! Source  pandas `rolling(rows, min_periods)` and `rolling(duration, min_periods)`, but a null stays null
//!
//! The window trails: `rows` rows up to this one, or the rows in `(t - duration, t]` that came before this one.
//! `rows` counts rows, `min_rows` values that are not null. The window is summed anew for every row, in order:
//! a running sum would be faster and depend on its past by rounding.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, ConfigError, DeadLetter, Epoch, Extent, Family, Fault, Group, Input, Keyed,
    LateSupport, Operator, OperatorKind, Out, Planned, Resolver, Schema, ShardSet, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, positive, same_version};
use crate::history::{History, WINDOW_FULL};
use crate::moments::mean_of;
use crate::smoothing::Smoothed;

/// Raised whenever `History` changes.
const STATE_VERSION: u32 = 1;

/// Most rows of a window: all of them are summed for every row.
const MAX_ROWS: usize = 100_000;

/// Rows that a window of `duration` may hold unless `max_rows` says otherwise: a minute and a half at 100 Hz.
const DEFAULT_MAX_ROWS: usize = 10_000;

/// Smooths columns by the mean of a trailing window. Exactly one of `rows` and `duration` says how long it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovingAverageConfig {
    /// The columns to smooth.
    pub columns: Vec<String>,
    /// The number of rows of the window, the current one included.
    #[serde(default)]
    pub rows: Option<usize>,
    /// The length of the window, such as `30s`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// The average is null where the window has fewer values than this; 1 unless given.
    #[serde(default = "one")]
    pub min_rows: usize,
    /// Most rows that a window of `duration` may hold; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the averages, by column. Left out: the average replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn one() -> usize {
    1
}

/// The kind `moving_average`.
#[derive(Debug, Clone, Copy)]
pub struct MovingAverage;

impl OperatorKind for MovingAverage {
    type Config = MovingAverageConfig;

    const NAME: &'static str = "moving_average";
    const SUMMARY: &'static str =
        "smooths columns by the mean of the last rows or the last so much time";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str =
        "smooth: { from: readings, moving_average: { columns: [vibration], rows: 20 } }";

    fn plan(
        config: &MovingAverageConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let columns = Smoothed::plan(input, &config.columns, &config.rename);
        let trail = Trail::plan(config, input.domain());
        let (columns, trail) = match (columns, trail) {
            (Ok(columns), Ok(trail)) => (columns, trail),
            (columns, trail) => {
                let errors = [columns.err(), trail.err()];
                return Err(errors.into_iter().flatten().flatten().collect());
            }
        };
        let (input, min_rows) = (input.clone(), config.min_rows);
        Ok(Planned {
            output: columns.schema.clone(),
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let (input, columns) = (input.clone(), columns.clone());
                let kept = Keyed::new(&input);
                Ok(Box::new(Averages { input, columns, trail, min_rows, kept }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// How far the window reaches back.
#[derive(Debug, Clone, Copy)]
enum Trail {
    /// So many rows, at least one.
    Rows(usize),
    /// So long, in the unit of the time domain, but no more rows than this.
    Length { length: i64, max_rows: usize },
}

impl Trail {
    fn plan(config: &MovingAverageConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let in_bounds = |at: &str, rows: usize| {
            let what = format!("'{rows}' is not a number of rows of a window");
            let error = ConfigError::new(at, what);
            let ok = (1..=MAX_ROWS).contains(&rows).then_some(rows);
            ok.ok_or_else(|| vec![error.help(format!("give a number from 1 to {MAX_ROWS}"))])
        };
        let trail = match (config.rows, config.duration) {
            (Some(rows), None) => Trail::Rows(in_bounds("rows", rows)?),
            (None, Some(length)) => Trail::Length {
                length: positive("duration", length, domain).map_err(|e| vec![e])?,
                max_rows: in_bounds("max_rows", config.max_rows.unwrap_or(DEFAULT_MAX_ROWS))?,
            },
            (None, None) => {
                let error = ConfigError::new("", "nothing says how long the window is");
                return Err(vec![error.help("add one of rows, duration")]);
            }
            (Some(_), Some(_)) => {
                let error = ConfigError::new("", "rows and duration exclude one another");
                return Err(vec![error.help("keep one of them")]);
            }
        };
        if let (Trail::Rows(rows), min_rows) = (trail, config.min_rows)
            && min_rows > rows
        {
            let what = format!("a window of {rows} rows never has {min_rows} values");
            let error = ConfigError::new("min_rows", what);
            return Err(vec![error.help("make 'min_rows' at most 'rows'")]);
        }
        Ok(trail)
    }

    /// The first of the kept rows that is in the window of a row at `time` which comes after them.
    fn first(self, kept: &[i64], time: i64) -> usize {
        match self {
            Trail::Rows(rows) => (kept.len() + 1).saturating_sub(rows),
            Trail::Length { length, .. } => {
                kept.partition_point(|&t| t <= time.saturating_sub(length))
            }
        }
    }

    /// Whether a window of `n` rows has room for another.
    fn has_room(self, n: usize) -> bool {
        match self {
            Trail::Rows(_) => true,
            Trail::Length { max_rows, .. } => n < max_rows,
        }
    }
}

#[derive(Debug)]
struct Averages {
    input: Schema,
    columns: Smoothed,
    trail: Trail,
    min_rows: usize,
    kept: Keyed<History>,
}

impl Averages {
    /// Takes in the rows of a key; the rows that found no room are added to `surplus`.
    fn take_in(
        &self,
        history: &mut History,
        times: &[i64],
        channels: &[ScalarBuffer<f64>],
        group: Group,
        to: &mut Results,
    ) {
        let mut first = 0;
        for row in group.start..group.end {
            first = self.trail.first(history.times(), times[row]);
            if !self.trail.has_room(history.len() - first) {
                to.surplus.push(row);
                continue;
            }
            history.extend(times, channels, row, row + 1);
            for (values, averages) in history.channels().iter().zip(&mut to.averages) {
                averages.push(self.average(&values[first..]));
            }
        }
        history.drop_first(first);
    }

    /// The average of a window whose last value is the current one; NaN for null.
    fn average(&self, values: &[f64]) -> f64 {
        if values.last().is_none_or(|v| v.is_nan()) {
            return f64::NAN;
        }
        let (mean, n) = mean_of(values);
        if n >= self.min_rows { mean } else { f64::NAN }
    }

    fn full(&self, slot: u32, time: i64, position: u64) -> DeadLetter {
        let detail = "the window of the key holds 'max_rows' rows already";
        DeadLetter {
            key: Some(self.kept.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(WINDOW_FULL, detail)
        }
    }
}

/// What came of a batch.
struct Results {
    averages: Vec<Vec<f64>>,
    surplus: Vec<usize>,
}

impl Operator for Averages {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let schema = self.input.clone();
        let times = batch.times(&schema);
        let channels = self.columns.channels(batch)?;
        let averages = vec![Vec::with_capacity(batch.len()); channels.len()];
        let mut results = Results { averages, surplus: Vec::new() };
        for group in batch.groups() {
            let slot = self.kept.slot(batch, schema.key(), group.start, History::default)?;
            let mut history = std::mem::take(self.kept.get_mut(slot));
            let before = results.surplus.len();
            self.take_in(&mut history, times, &channels, group, &mut results);
            *self.kept.get_mut(slot) = history;
            for &row in &results.surplus[before..] {
                out.dead(self.full(slot, times[row], batch.position.value(row)));
            }
        }
        let n_used = batch.len() - results.surplus.len();
        out.count(Account { used: n_used as u64, ..Account::default() });
        if results.surplus.is_empty() {
            out.emit(self.columns.with(batch, results.averages)?);
        } else if n_used > 0 {
            out.emit(self.columns.with(&without(batch, &results.surplus)?, results.averages)?);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.kept.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.kept.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.kept.load(&state)
    }
}

/// `batch` without the rows `gone`, which are in order.
fn without(
    batch: &foreline_engine::Batch,
    gone: &[usize],
) -> Result<foreline_engine::Batch, Fault> {
    let stay = (0..batch.len()).filter(|row| gone.binary_search(row).is_err());
    let stay: UInt32Array = stay.map(|row| u32::try_from(row).ok()).collect();
    Ok(batch.take(&stay)?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let columns = ["x", "y"];
        let config = json!({ "columns": columns, "rows": 5, "min_rows": 2 });
        let expected = include_str!("../reference/moving_average_rows.csv");
        check("moving_average", &config, &readings, &utc(expected));
        let config = json!({ "columns": columns, "duration": "10s" });
        let expected = include_str!("../reference/moving_average_duration.csv");
        check("moving_average", &config, &readings, &utc(expected));
    }

    #[test]
    fn the_window_is_open_at_its_start() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,3\na,1,5\na,2,7\na,2,1\na,9,4\n");
        let expected = "m,t,x,y\na,0,3,3\na,1,5,4\na,2,7,6\na,2,1,4.333333333333333\na,9,4,4\n";
        let config = json!({ "columns": ["x"], "duration": 2, "as": { "x": "y" } });
        check("moving_average", &config, &input, &Table::parse(TimeDomain::Logical, expected));
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,1\na,0,3\na,0,5\na,1,7\na,9,4\n");
        let config = json!({ "columns": ["x"], "duration": 2, "max_rows": 2 });
        let outcome = sameness("moving_average", &config, &input);
        assert_eq!(outcome.numbers("x"), [Some(1.0), Some(2.0), Some(4.0)]);
        let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.2, d.3)).collect();
        assert_eq!(dead, [(Some(0), Some(2), "window_full"), (Some(1), Some(3), "window_full")]);
        assert_eq!((outcome.account.used, outcome.account.dead), (3, 2));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..4 {
            let input = Table::random(seed, 160, TimeDomain::UtcNanos);
            let config = json!({ "columns": ["x"], "duration": "1500ms", "min_rows": 2 });
            let outcome = sameness("moving_average", &config, &input);
            let (x, times) = (input.numbers("x"), input.times());
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                for (i, &row) in rows.iter().enumerate() {
                    let inside =
                        rows[..=i].iter().filter(|&&r| times[r] > times[row] - 1_500_000_000);
                    let values: Vec<f64> = inside.filter_map(|&r| x[r]).collect();
                    let mean = || values.iter().sum::<f64>() / values.len() as f64;
                    expected[row] = (x[row].is_some() && values.len() >= 2).then(mean);
                }
            }
            for row in &outcome.rows {
                let (got, want) =
                    (row.cells[2].number(), expected[usize::try_from(row.position).unwrap()]);
                assert!(
                    got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9),
                    "{got:?} {want:?}"
                );
                assert_eq!(got.is_some(), want.is_some());
            }
        }
    }

    #[test]
    fn a_huge_value_leaves_nothing_behind() {
        let input = utc("m,t,x\na,0,1e300\na,1,0.1\na,2,0.2\na,3,0.3\n");
        let config = json!({ "columns": ["x"], "rows": 2 });
        let outcome = sameness("moving_average", &config, &input);
        assert_eq!(outcome.numbers("x")[3], Some((0.2 + 0.3) / 2.0));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says how long the window is"]),
            (
                json!({ "columns": ["x"], "rows": 3, "duration": "3s" }),
                &["rows and duration exclude one another"],
            ),
            (
                json!({ "columns": ["q"], "rows": 0 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "rows: '0' is not a number of rows of a window",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 2, "min_rows": 3 }),
                &["min_rows: a window of 2 rows never has 3 values"],
            ),
            (
                json!({ "columns": ["x"], "duration": "1s", "max_rows": 200_000 }),
                &["max_rows: '200000' is not a number of rows of a window"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("moving_average", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
