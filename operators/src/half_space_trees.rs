//! Half-space trees: how alone a row is among those of the last window, in several columns at once.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with `anomaly_score` (from 0 to 1, no unit), or the name in `as`; the higher, the more alone
//! State   two counts for each of the `trees * (2^(depth + 1) - 1)` nodes of each key, and the ranges it has learnt
//! Late    honours `late: { correct }`; a late row shifts where windows end, and so the scores of all that follow
//! Errors  none: a row that came in goes out
//! Source  Tan, Ting, Liu 2011, as river `anomaly.HalfSpaceTrees` has it: each tree halves a column's range at random,
//!         `depth` times; a row counts in the nodes it passes. The score is
//!         `1 - sum(r * 2^d) / (trees * window * (2^(depth + 1) - 1))` over the nodes that the row passes at depth `d`
//!         down to the first with `r < 0.1 window`, where `r` is the count of the window before
//!
//! A row is scored before it is counted. Trees are drawn as river draws them (a column by the width of its range, a
//! split within the middle 70 %), but by splitmix64 of `seed`, the same for all keys. Scores are null, not 0 as in river,
//! while a key learns and in its first window, and where a column is null or infinite; such a row is not counted either.

use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Batch, ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::annotate::{Added, Annotate, Holds, both, places, planned_until, reset};
use crate::columns::{channel, numeric, only};
use crate::entries::Entries;
use crate::learning::{Learn, Period};
use forest::{Past, Shape};

mod forest;

/// Most nodes of the trees of a key: 800 kB of counts.
const MAX_NODES: usize = 100_000;

/// Scores rows by how alone they are. Exactly one of `ranges` and `learn` says where values are to be expected.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HalfSpaceTreesConfig {
    /// The columns to look at together.
    pub columns: Vec<String>,
    /// Least and greatest value to be expected of each column, in its unit: `{ vibration: [0, 20] }`.
    #[serde(default)]
    pub ranges: Option<Entries<[f64; 2]>>,
    /// The period from which each key learns them: `{ rows: 500 }`, `{ duration: 7d }`.
    #[serde(default)]
    pub learn: Option<Learn>,
    /// How many trees; 10 unless given. All trees together have at most 100,000 nodes.
    #[serde(default = "ten")]
    pub trees: usize,
    /// How often a tree halves; 8 unless given, 15 at most.
    #[serde(default = "eight")]
    pub depth: u32,
    /// How many rows a row is compared with, which are those of the window before; 250 unless given.
    #[serde(default = "window")]
    pub window: u32,
    /// Another number draws other trees; 0 unless given.
    #[serde(default)]
    pub seed: u64,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// The name of the score; `anomaly_score` unless given.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
}

fn ten() -> usize {
    10
}

fn eight() -> u32 {
    8
}

fn window() -> u32 {
    250
}

/// The kind `half_space_trees`.
#[derive(Debug, Clone, Copy)]
pub struct HalfSpaceTrees;

impl OperatorKind for HalfSpaceTrees {
    type Config = HalfSpaceTreesConfig;

    const NAME: &'static str = "half_space_trees";
    const SUMMARY: &'static str = "scores rows by how alone they are in several columns at once";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "odd: { from: readings, half_space_trees: { columns: [vibration, temperature, load], learn: { duration: 10m } } }";

    fn plan(
        config: &HalfSpaceTreesConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let from = places(input, &config.columns, numeric);
        let from = both(from, reset(input, config.reset_on.as_deref()));
        let rest = both(shape(config), expected(config, input.domain()));
        let ((from, resets), (shape, expected)) = both(from, rest)?;
        let name = config.name.as_deref().unwrap_or("anomaly_score");
        let score = Added::new(name, Holds::Number).with_unit(Some(Unit::new("1")));
        planned_until(input, Scores { from, shape, expected }, vec![score], resets)
    }
}

/// Where values are to be expected.
#[derive(Debug, Clone)]
enum Expected {
    /// In these ranges, one a column.
    In(Vec<[f64; 2]>),
    /// Where they were in this period.
    Learnt(Period),
}

fn shape(config: &HalfSpaceTreesConfig) -> Result<Shape, Vec<ConfigError>> {
    let HalfSpaceTreesConfig { trees, depth, window, seed, .. } = *config;
    let mut errors = Vec::new();
    if !(1..=15).contains(&depth) {
        let error = ConfigError::new("depth", format!("'{depth}' is out of range"));
        errors.push(error.help("give a number from 1 to 15"));
    } else if trees == 0 || trees > MAX_NODES >> (depth + 1) {
        let what = format!("'{trees}' trees of depth {depth} are none, or too many");
        let help = format!("give a number from 1 to {}", MAX_NODES >> (depth + 1));
        errors.push(ConfigError::new("trees", what).help(help));
    }
    if window == 0 {
        let error = ConfigError::new("window", "a window of '0' rows has none to compare with");
        errors.push(error.help("give a number of at least 1"));
    }
    if errors.is_empty() { Ok(Shape { trees, depth, window, seed }) } else { Err(errors) }
}

fn expected(
    config: &HalfSpaceTreesConfig,
    domain: TimeDomain,
) -> Result<Expected, Vec<ConfigError>> {
    let ranges = match (&config.ranges, config.learn) {
        (Some(ranges), None) => ranges,
        (None, Some(learn)) => {
            return learn.plan("learn", domain).map(Expected::Learnt).map_err(|e| vec![e]);
        }
        (None, None) => {
            let error = ConfigError::new("", "nothing says where values are to be expected");
            return Err(vec![error.help("add one of ranges, learn")]);
        }
        (Some(_), Some(_)) => {
            let error = ConfigError::new("", "ranges and learn exclude one another");
            return Err(vec![error.help("keep one of them")]);
        }
    };
    let (mut expected, mut errors) = (Vec::new(), Vec::new());
    for name in &config.columns {
        match ranges.get(name) {
            Some([lo, hi]) if lo < hi => expected.push([*lo, *hi]),
            Some([lo, hi]) => {
                let what = format!("[{lo}, {hi}] is not a range");
                let error = ConfigError::new(format!("ranges.{name}"), what);
                errors.push(error.help("give the lesser number first"));
            }
            None => {
                let error = ConfigError::new("ranges", format!("column '{name}' has no range"));
                errors.push(error.help(format!("add '{name}'")));
            }
        }
    }
    for (name, _) in ranges.iter().filter(|(name, _)| !config.columns.iter().any(|c| c == name)) {
        let what = format!("column '{name}' is not among the columns of this step");
        errors
            .push(ConfigError::new(format!("ranges.{name}"), what).unknown(name, &config.columns));
    }
    if errors.is_empty() { Ok(Expected::In(expected)) } else { Err(errors) }
}

#[derive(Debug, Clone)]
struct Scores {
    from: Vec<usize>,
    shape: Shape,
    expected: Expected,
}

impl Annotate for Scores {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.from.iter().map(|&c| channel(batch.rows.column(c))).collect()
    }

    fn start(&self) -> Past {
        match &self.expected {
            Expected::In(ranges) => Past::of(ranges.clone()),
            Expected::Learnt(_) => {
                Past::of(vec![[f64::INFINITY, f64::NEG_INFINITY]; self.from.len()])
            }
        }
    }

    fn follow(&self, times: &[i64], channels: &[&[f64]], past: &mut Past, out: &mut [Vec<f64>]) {
        let [scores] = out else { return };
        let mut row = vec![0.0; channels.len()];
        for (i, &at) in times.iter().enumerate() {
            for (to, values) in row.iter_mut().zip(channels) {
                *to = values[i];
            }
            scores.push(self.score(at, &row, past).unwrap_or(f64::NAN));
        }
    }
}

impl Scores {
    fn score(&self, at: i64, row: &[f64], past: &mut Past) -> Option<f64> {
        if row.iter().any(|x| !x.is_finite()) {
            return None;
        }
        if let Expected::Learnt(period) = self.expected
            && past.learns(period, at, row)
        {
            return None;
        }
        past.score(&self.shape, row)
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_river() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let cases = [
            (
                json!({ "ranges": { "x": [45, 60], "y": [-4, 5] }, "depth": 4, "trees": 7,
                    "window": 20, "seed": 5, "as": "odd" }),
                include_str!("../reference/half_space_trees.csv"),
            ),
            (
                json!({ "learn": { "rows": 25 }, "depth": 6, "trees": 3, "window": 30 }),
                include_str!("../reference/half_space_trees_learn.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("half_space_trees", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn a_row_that_is_alone_scores_high() {
        let rows = (0..80_u32).map(|t| format!("a,{t},{}\n", if t == 70 { 9 } else { t % 3 }));
        let input = Table::parse(Logical, &format!("m,t,x\n{}", rows.collect::<String>()));
        let config = json!({ "columns": ["x"], "ranges": { "x": [0, 10] }, "window": 30 });
        let scores = sameness("half_space_trees", &config, &input).numbers("anomaly_score");
        assert_eq!(scores[..30], [None; 30]);
        let usual = scores[30..70].iter().flatten().fold(0.0_f64, |a, &b| a.max(b));
        assert!(scores[70].unwrap() > usual + 0.2, "{:?} {usual}", scores[70]);
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(8, 120, UtcNanos);
        let config = json!({ "columns": ["x", "y", "n"], "learn": { "duration": "1s" },
            "trees": 2, "depth": 3, "window": 4 });
        let outcome = sameness("half_space_trees", &config, &input);
        assert!(outcome.numbers("anomaly_score").iter().flatten().count() > 20);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x,y,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says where values are to be expected"]),
            (
                json!({ "columns": ["x"], "ranges": { "x": [0, 1] }, "learn": { "rows": 9 } }),
                &["ranges and learn exclude one another"],
            ),
            (
                json!({ "columns": ["x", "y", "s"], "ranges": { "x": [1, 1], "z": [0, 1] },
                    "trees": 4000, "window": 0 }),
                &[
                    "columns[2]: column 's' is Utf8, not a number",
                    "trees: '4000' trees of depth 8 are none, or too many",
                    "window: a window of '0' rows has none to compare with",
                    "ranges.x: [1, 1] is not a range",
                    "ranges: column 'y' has no range",
                    "ranges: column 's' has no range",
                    "ranges.z: column 'z' is not among the columns of this step",
                ],
            ),
            (
                json!({ "columns": ["x"], "learn": { "rows": 9 }, "depth": 16 }),
                &["depth: '16' is out of range"],
            ),
            (
                json!({ "columns": ["x"], "learn": { "rows": 9 }, "as": "s" }),
                &["as: column 's' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("half_space_trees", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
