//! Features of columns over windows of event time or of rows.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  `tumbling` and `sliding`: key, `window_end`, features; one row a window that has a row, its event
//!         time the exclusive end of the window, its primary key the key and `window_end`.
//!         `rolling`: key, event time, features; one row for every `every`-th row, its primary key that of the
//!         row it ends with. Features are called `<column>_<feature>`; null where not defined
//! State   the rows of the open windows of each key, at most `max_rows`; for `rolling` the last `rows`
//! Late    honours `late: { correct }`; a late row opens a window that was not there, and in `rolling` shifts what
//!         `every` counts
//! Errors  a row that no longer fits in its window goes to the dead letters as `window_full`
//! Source  the definitions are in `features`; they agree with NumPy and `scipy.stats`
//!
//! Windows are `[start, end)` and aligned to 1970-01-01T00:00Z, or to 0 of a count, not to the first row. One
//! closes when its key's watermark reaches its end, or when the stream has ended; a run that is merely
//! stopped leaves it open.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Extent, Family, LateSupport, OperatorKind, Planned, PrimaryKey, Resolver,
    Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, only, output, positive};
use crate::entries::Entries;
use crate::features::{FEATURES, Feature, FeatureName, Needs, UnitRule};
use evaluate::{Evaluator, Wanted};
use timed::Grid;

mod evaluate;
mod rolling;
mod timed;

/// Raised whenever the saved state of a window changes.
const STATE_VERSION: u32 = 1;

/// Rows that the open windows of a key may hold unless `max_rows` says otherwise: ten minutes at 100 Hz with room
/// to spare, and 3 MB a key for a column.
const DEFAULT_MAX_ROWS: usize = 100_000;

/// Most sliding windows that are open at a time: each row counts in all of them.
const MAX_OVERLAP: i64 = 10_000;

/// Most rows of a `rolling` window: it is computed anew for every row that it is emitted for.
const MAX_ROLLING_ROWS: usize = 100_000;

/// Computes features of columns over windows. Exactly one of `tumbling`, `sliding` and `rolling` says which windows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Windows of this length, one after the other: `1m`; a number where the event time is a count.
    #[serde(default)]
    pub tumbling: Option<Extent>,
    /// Windows that overlap.
    #[serde(default)]
    pub sliding: Option<Sliding>,
    /// The last so many rows.
    #[serde(default)]
    pub rolling: Option<Rolling>,
    /// The features to compute, by column.
    pub features: Entries<Vec<FeatureName>>,
    /// Whether `rms` and `crest_factor` are of the values less the window's mean, as is usual for vibration.
    #[serde(default)]
    pub remove_mean: bool,
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
    const SUMMARY: &'static str =
        "computes features of columns over tumbling, sliding or rolling windows";
    const FAMILY: Family = Family::Features;
    const EXAMPLE: &'static str = "features: { from: readings, window: { tumbling: 1m, features: { vibration: [mean, rms, kurtosis], temperature: [slope] } } }";

    fn plan(
        config: &WindowConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let shape = Shape::plan(config, input.domain()).map_err(|e| errors.extend(e));
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
        Ok(planned(shape, input.clone(), output, wanted, config.remove_mean))
    }
}

/// Which rows belong together.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Timed { grid: Grid, max_rows: usize },
    Rolling(Rolling),
}

impl Shape {
    fn plan(config: &WindowConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let max_rows = config.max_rows.unwrap_or(DEFAULT_MAX_ROWS);
        if max_rows == 0 {
            return Err(vec![ConfigError::new("max_rows", "a window must hold at least one row")]);
        }
        match (config.tumbling, config.sliding, config.rolling) {
            (Some(length), None, None) => {
                let length = positive("tumbling", length, domain).map_err(|e| vec![e])?;
                Ok(Shape::Timed { grid: Grid { length, every: length }, max_rows })
            }
            (None, Some(sliding), None) => {
                Ok(Shape::Timed { grid: overlapping(sliding, domain)?, max_rows })
            }
            (None, None, Some(rolling)) => last_rows(rolling).map(Shape::Rolling),
            (None, None, None) => Err(vec![
                ConfigError::new("", "nothing says which windows")
                    .help("add one of tumbling, sliding, rolling"),
            ]),
            _ => Err(vec![
                ConfigError::new("", "tumbling, sliding and rolling exclude one another")
                    .help("keep one of them, and make another step for the other"),
            ]),
        }
    }
}

fn overlapping(sliding: Sliding, domain: TimeDomain) -> Result<Grid, Vec<ConfigError>> {
    let length = positive("sliding.length", sliding.length, domain);
    let every = positive("sliding.every", sliding.every, domain);
    let (length, every) = match (length, every) {
        (Ok(length), Ok(every)) => (length, every),
        (length, every) => {
            return Err([length.err(), every.err()].into_iter().flatten().collect());
        }
    };
    if every > length {
        let what = format!("windows of {} every {} leave gaps", sliding.length, sliding.every);
        let error = ConfigError::new("sliding.every", what);
        return Err(vec![error.help("make 'every' at most 'length'")]);
    }
    if length / every > MAX_OVERLAP {
        let what = format!("more than {MAX_OVERLAP} windows would be open at a time");
        return Err(vec![ConfigError::new("sliding.every", what).help("make 'every' longer")]);
    }
    Ok(Grid { length, every })
}

fn last_rows(rolling: Rolling) -> Result<Rolling, Vec<ConfigError>> {
    let mut errors = Vec::new();
    if rolling.rows == 0 || rolling.rows > MAX_ROLLING_ROWS {
        let what = format!("'{}' is not a number of rows", rolling.rows);
        let help = format!("give a number from 1 to {MAX_ROLLING_ROWS}");
        errors.push(ConfigError::new("rolling.rows", what).help(help));
    }
    if rolling.every == 0 {
        let error = ConfigError::new("rolling.every", "a row cannot come out for every 0 rows");
        errors.push(error.help("give 1 for one row out for each row in"));
    }
    if rolling.min_rows == 0 || rolling.min_rows > rolling.rows {
        let what = format!("'{}' is not between 1 and 'rows'", rolling.min_rows);
        errors.push(ConfigError::new("rolling.min_rows", what));
    }
    if errors.is_empty() { Ok(rolling) } else { Err(errors) }
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
        let features = names.iter().enumerate().filter_map(|(i, FeatureName(name))| {
            let known = || FEATURES.iter().map(|f| f.name);
            Feature::find(name).or_else(|| {
                let what = format!("there is no feature '{name}'");
                let help = format!("there are {}", known().collect::<Vec<_>>().join(", "));
                let error = ConfigError::new(format!("{at}[{i}]"), what).help(help);
                errors.push(error.unknown(name, known()));
                None
            })
        });
        let features = features.collect();
        match numeric(input, &at, column) {
            Ok(column) => wanted.push(Wanted::new(column, features, config.remove_mean)),
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
    let time_name = match shape {
        Shape::Timed { .. } => "window_end",
        Shape::Rolling(_) => &time.name,
    };
    columns.push(Column::new(time_name, time.data_type.clone()).with_unit(time.unit.clone()));
    let time_unit = match (input.domain(), &time.unit) {
        (TimeDomain::UtcNanos, _) => Unit::new("s"),
        (TimeDomain::Logical, Some(unit)) => unit.clone(),
        (TimeDomain::Logical, None) => Unit::new("{count}"),
    };
    for want in wanted {
        let column = &input.columns()[want.column];
        columns.extend(want.features.iter().map(|feature| {
            let counts = feature.unit == UnitRule::Count;
            let data_type = if counts { DataType::Int64 } else { DataType::Float64 };
            Column::new(format!("{}_{}", column.name, feature.name), data_type)
                .with_unit(feature.unit.apply(column.unit.as_ref(), &time_unit))
        }));
    }
    let position = match shape {
        Shape::Timed { .. } => false,
        Shape::Rolling(_) => needs_position(input),
    };
    let primary_key = PrimaryKey { columns: (0..=n_key).collect(), position };
    output(columns, (0..n_key).collect(), n_key, primary_key)
}

/// Whether key and time do not tell the rows of `input` apart.
fn needs_position(input: &Schema) -> bool {
    let primary = input.primary_key();
    let kept = |c: &usize| input.key().contains(c) || *c == input.time();
    primary.position || !primary.columns.iter().all(kept)
}

fn planned(
    shape: Shape,
    input: Schema,
    output: Schema,
    wanted: Vec<Wanted>,
    remove_mean: bool,
) -> Planned {
    let evaluator = Evaluator::new(wanted, remove_mean, input.domain());
    let out = output.clone();
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let (input, output, evaluator) = (input.clone(), out.clone(), evaluator.clone());
            Ok(match shape {
                Shape::Timed { grid, max_rows } => {
                    Box::new(timed::Timed::new(input, output, grid, max_rows, evaluator))
                }
                Shape::Rolling(rolling) => {
                    Box::new(rolling::LastRows::new(input, output, rolling, evaluator))
                }
            })
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Outcome, Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_numpy_and_scipy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let all: Vec<&str> = FEATURES.iter().map(|f| f.name).collect();
        let cases = [
            (json!({ "tumbling": "1m" }), include_str!("../reference/window_tumbling.csv")),
            (
                json!({ "sliding": { "length": "50s", "every": "20s" }, "remove_mean": true }),
                include_str!("../reference/window_sliding.csv"),
            ),
            (
                json!({ "rolling": { "rows": 12, "every": 5, "min_rows": 4 } }),
                include_str!("../reference/window_rolling.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["features"] = json!({ "x": all, "y": all });
            check("window", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn windows_are_aligned_to_zero_and_half_open() {
        let input = logical("m,t,x\na,-1,1\na,0,2\na,9,3\na,10,4\nb,35,5\n");
        let expected =
            "m,window_end,x_first,x_count:int64\na,0,1,1\na,10,2,2\na,20,4,1\nb,40,5,1\n";
        let config = json!({ "tumbling": 10, "features": { "x": ["first", "count"] } });
        check("window", &config, &input, &logical(expected));
    }

    #[test]
    fn nulls_are_left_out_and_a_window_of_nulls_is_null() {
        let input = logical("m,t,x\na,0,\na,1,7\na,12,\n");
        let expected = "m,window_end,x_count:int64,x_last,x_std\na,10,1,7,\na,20,0,,\n";
        let config = json!({ "tumbling": 10, "features": { "x": ["count", "last", "std"] } });
        check("window", &config, &input, &logical(expected));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let input = logical(&format!("m,t,x\na,{},1\nb,{},2\n", i64::MIN, i64::MAX));
        for shape in [json!({ "tumbling": 7 }), json!({ "sliding": { "length": 9, "every": 4 } })] {
            let mut config = shape;
            config["features"] = json!({ "x": ["last"] });
            let mut seen: Vec<_> = sameness("window", &config, &input).numbers("x_last");
            seen.dedup();
            seen.sort_by(|a, b| a.partial_cmp(b).unwrap());
            assert_eq!(seen, [Some(1.0), Some(2.0)], "{config}");
        }
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter() {
        let input = logical("m,t,x\na,0,1\na,1,2\na,2,3\na,10,4\n");
        let config = json!({ "tumbling": 10, "max_rows": 2, "features": { "x": ["max"] } });
        let outcome = sameness("window", &config, &input);
        assert_eq!(outcome.numbers("x_max"), [Some(2.0), Some(4.0)]);
        assert_eq!(outcome.dead.len(), 1);
        assert_eq!((outcome.dead[0].0, outcome.dead[0].3), (Some(2), "window_full"));
        assert_eq!((outcome.account.used, outcome.account.dead), (3, 1));
    }

    #[test]
    fn a_window_has_the_position_of_its_last_row() {
        let input = logical("m,t,x\na,0,1\nb,0,1\na,1,2\na,11,3\n");
        let config = json!({ "tumbling": 10, "features": { "x": ["last"] } });
        let outcome = sameness("window", &config, &input);
        let mut rows: Vec<_> = outcome.rows.iter().map(|r| (r.time, r.position)).collect();
        rows.sort_unstable();
        assert_eq!(rows, [(10, 1), (10, 2), (20, 3)]);
    }

    /// Every window of every key from scratch: its end, and count, sum and maximum of `x`.
    fn oracle(input: &Table, length: i64, every: i64) -> Vec<(i64, u64, usize, f64, Option<f64>)> {
        let (x, times) = (input.numbers("x"), input.times());
        let mut windows = Vec::new();
        for rows in input.by_key().values() {
            let (first, last) = (times[rows[0]], times[rows[rows.len() - 1]]);
            let mut start = (first - length).div_euclid(every) * every;
            while start <= last {
                let inside = |&&r: &&usize| times[r] >= start && times[r] < start + length;
                let inside: Vec<usize> = rows.iter().filter(inside).copied().collect();
                if let Some(&position) = inside.last() {
                    let values: Vec<f64> = inside.iter().filter_map(|&r| x[r]).collect();
                    let max = values.iter().copied().reduce(f64::max);
                    let sum = values.iter().sum();
                    windows.push((start + length, position as u64, values.len(), sum, max));
                }
                start += every;
            }
        }
        windows.sort_by_key(|w| (w.0, w.1));
        windows
    }

    fn windows_of(outcome: &Outcome) -> Vec<(i64, u64, usize, f64, Option<f64>)> {
        let (counts, means) = (outcome.numbers("x_count"), outcome.numbers("x_mean"));
        let maxima = outcome.numbers("x_max");
        let each = outcome.rows.iter().enumerate().map(|(i, row)| {
            let n = counts[i].unwrap();
            (row.time, row.position, n as usize, n * means[i].unwrap_or(0.0), maxima[i])
        });
        let mut windows: Vec<_> = each.collect();
        windows.sort_by_key(|w| (w.0, w.1));
        windows
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, length, every) in [(1, 30, 30), (2, 30, 10), (3, 25, 7), (4, 1, 1), (5, 200, 3)]
        {
            let input = Table::random(seed, 160, TimeDomain::Logical);
            let shape = json!({ "length": length, "every": every });
            let features = json!({ "x": ["count", "mean", "max"] });
            let config = json!({ "sliding": shape, "features": features });
            let (got, want) =
                (windows_of(&sameness("window", &config, &input)), oracle(&input, length, every));
            assert_eq!(got.len(), want.len(), "{config}");
            for (got, want) in got.iter().zip(&want) {
                let same = (got.0, got.1, got.2, got.4) == (want.0, want.1, want.2, want.4);
                assert!(same && (got.3 - want.3).abs() < 1e-9, "{got:?} {want:?} {config}");
            }
        }
    }

    #[test]
    fn rolling_windows_are_shorter_at_the_start_and_keep_the_row_time() {
        let input = logical("m,t,x\na,1,1\na,2,\na,3,5\na,4,3\n");
        let expected = "m,t,x_mean,x_last\na,1,1,1\na,2,1,1\na,3,3,5\na,4,4,3\n";
        let config = json!({ "rolling": { "rows": 3 }, "features": { "x": ["mean", "last"] } });
        check("window", &config, &input, &logical(expected));
        let planned = crate::testing::plan("window", &config, &input.schema);
        let primary_key = PrimaryKey { columns: vec![0, 1], position: true };
        assert_eq!(planned.output.primary_key(), &primary_key);
    }

    #[test]
    fn a_window_over_windows_works() {
        let readings = Table::random(9, 200, TimeDomain::Logical);
        let features = json!({ "x": ["mean"] });
        let inner = json!({ "tumbling": 10, "features": features });
        let planned = crate::testing::plan("window", &inner, &readings.schema);
        let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
        assert_eq!(planned.output.primary_key(), &primary_key);
        let outer = json!({ "rolling": { "rows": 3 }, "features": { "x_mean": ["max"] } });
        let again = crate::testing::plan("window", &outer, &planned.output);
        assert_eq!(again.output.primary_key(), &primary_key);
        assert_eq!(again.output.columns()[1].name, "window_end");
    }

    #[test]
    fn units_follow_from_the_feature() {
        let mut columns = utc("m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let features = json!({ "x": ["mean", "slope", "kurtosis", "count"] });
        let config = json!({ "tumbling": "1s", "features": features });
        let output = crate::testing::plan("window", &config, &input).output;
        let units: Vec<_> = output.columns()[2..].iter().map(|c| c.unit.clone().unwrap()).collect();
        assert_eq!(
            units.iter().map(Unit::code).collect::<Vec<_>>(),
            ["mm/s", "mm/s/s", "1", "{count}"]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let features = json!({ "x": ["mean"] });
        let cases: &[(Value, &[&str])] = &[
            (json!({ "features": features }), &["nothing says which windows"]),
            (
                json!({ "features": features, "tumbling": "1s", "rolling": { "rows": 2 } }),
                &["tumbling, sliding and rolling exclude one another"],
            ),
            (
                json!({ "features": features, "tumbling": 10 }),
                &["tumbling: '10' has no unit, but the event time is a timestamp"],
            ),
            (
                json!({ "features": {}, "tumbling": "0s" }),
                &["tumbling: '0s' is not above zero", "features: no feature is named"],
            ),
            (
                json!({ "features": features, "sliding": { "length": "1s", "every": "2s" } }),
                &["sliding.every: windows of 1s every 2s leave gaps"],
            ),
            (
                json!({ "features": features, "sliding": { "length": "1h", "every": "1ms" } }),
                &["sliding.every: more than 10000 windows would be open at a time"],
            ),
            (
                json!({ "features": features, "rolling": { "rows": 0, "every": 0, "min_rows": 2 } }),
                &[
                    "rolling.rows: '0' is not a number of rows",
                    "rolling.every: a row cannot come out for every 0 rows",
                    "rolling.min_rows: '2' is not between 1 and 'rows'",
                ],
            ),
            (
                json!({ "features": { "x": ["mean", "median"], "y": ["max"] }, "tumbling": "1s" }),
                &[
                    "features.x[1]: there is no feature 'median'",
                    "features.y: there is no column 'y'",
                ],
            ),
            (
                json!({ "features": { "x": ["mean", "mean"] }, "tumbling": "1s" }),
                &["features: column 'x_mean' is there twice"],
            ),
            (
                json!({ "features": features, "tumbling": "1s", "max_rows": 0 }),
                &["max_rows: a window must hold at least one row"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(
                try_plan("window", config, &input.schema).unwrap_err(),
                *expected,
                "{config}"
            );
        }
    }
}
