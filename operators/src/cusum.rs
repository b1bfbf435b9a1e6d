//! Two-sided tabular CUSUM: small shifts of the mean that last.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_cusum_high` and `<column>_cusum_low` (in the column's unit;
//!         in standard deviations where the target is learnt) and `<column>_cusum_alarm` (boolean)
//! State   the two sums, the time of the last value, and what was learnt, of each column of each key
//! Late    honours `late: { correct }`; a late row changes the sums that follow, and what was learnt if it belongs there
//! Errors  none: a row that came in goes out
//! Source  Montgomery, Introduction to Statistical Quality Control, 9.1: `H = max(0, H' + x - (target + slack))`,
//!         `L = max(0, L' + (target - slack) - x)`, alarm when `H > limit` or `L > limit`; with `learn`, `x` is
//!         `(x - mean) / std` and the target 0
//!
//! A null or an infinite value gives nulls and changes nothing. Results are null while a key learns, and ever after
//! where the period had no spread. After more than `max_gap` without a value the sums begin at 0; what was learnt stays.

use std::collections::BTreeMap;

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{
    Added, Detector, Holds, Watched, both, fit, gap, is_gap, planned_each, reset, truth,
};
use crate::columns::only;
use crate::learning::{Learn, Learnt, Usual};

/// Slack and limit in standard deviations: a shift of one is found after about ten rows, a false alarm comes in 465.
const DEFAULT_SLACK: f64 = 0.5;
const DEFAULT_LIMIT: f64 = 5.0;

/// Sums up how far values are from a target. Exactly one of `target` and `learn` says what is usual.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CusumConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// The usual value, in the columns' unit. `slack` and `limit` are in that unit too, and must be given.
    #[serde(default)]
    pub target: Option<f64>,
    /// The period from which each key learns mean and standard deviation: `{ rows: 200 }`, `{ duration: 7d }`.
    #[serde(default)]
    pub learn: Option<Learn>,
    /// What a value may be off without counting (k), at least 0; half the shift to be found. With `learn` in standard
    /// deviations, and 0.5 unless given.
    #[serde(default)]
    pub slack: Option<f64>,
    /// The sum that raises an alarm (h), above 0. With `learn` in standard deviations, and 5 unless given.
    #[serde(default)]
    pub limit: Option<f64>,
    /// Whether both sums begin at 0 after an alarm. Otherwise the alarm lasts until the sum has come down; so unless
    /// given.
    #[serde(default)]
    pub reset: bool,
    /// The sums begin at 0 when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `cusum`.
#[derive(Debug, Clone, Copy)]
pub struct Cusum;

impl OperatorKind for Cusum {
    type Config = CusumConfig;

    const NAME: &'static str = "cusum";
    const SUMMARY: &'static str =
        "finds small shifts of a mean that last by two-sided cumulative sums";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "shift: { from: readings, cusum: { columns: [temperature], learn: { duration: 10m }, slack: 0.5, limit: 5 } }";

    fn plan(
        config: &CusumConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let watched = both(watched, reset(input, config.reset_on.as_deref()));
        let ((watched, resets), sums) = both(watched, Sums::plan(config, input.domain()))?;
        planned_each(input, watched, sums, resets)
    }
}

#[derive(Debug, Clone)]
struct Sums {
    usual: Usual,
    slack: f64,
    limit: f64,
    reset: bool,
    max_gap: Option<i64>,
}

impl Sums {
    fn plan(config: &CusumConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let usual = match (config.target, config.learn) {
            // The values are in the unit of the sums already.
            (Some(target), None) => Ok(Usual::Given(target, 1.0)),
            (None, Some(learn)) => learn.plan("learn", domain).map(Usual::Learnt),
            (None, None) => {
                Err(ConfigError::new("", "nothing says what is usual")
                    .help("add one of target, learn"))
            }
            (Some(_), Some(_)) => Err(ConfigError::new("", "target and learn exclude one another")
                .help("keep one of them")),
        };
        let defaults = config.learn.map(|_| (DEFAULT_SLACK, DEFAULT_LIMIT)).unzip();
        let slack = given("slack", config.slack.or(defaults.0))
            .and_then(|k| fit("slack", k, k >= 0.0, "give a number of at least 0"));
        let limit = given("limit", config.limit.or(defaults.1))
            .and_then(|h| fit("limit", h, h > 0.0, "give a number above 0"));
        let numbers = both(slack.map_err(|e| vec![e]), limit.map_err(|e| vec![e]));
        let rest = both(numbers, gap(config.max_gap, domain));
        let (usual, ((slack, limit), max_gap)) = both(usual.map_err(|e| vec![e]), rest)?;
        Ok(Sums { usual, slack, limit, reset: config.reset, max_gap })
    }
}

/// A number that has no default beside `target`.
fn given(at: &str, value: Option<f64>) -> Result<f64, ConfigError> {
    value.ok_or_else(|| {
        ConfigError::new("", format!("'{at}' is missing"))
            .help(format!("add '{at}', in the unit of 'target'"))
    })
}

/// What is remembered of a column of a key.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Past {
    learnt: Learnt,
    at: Option<i64>,
    high: f64,
    low: f64,
}

impl Detector for Sums {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, unit: Option<&Unit>) -> Vec<Added> {
        let unit = match self.usual {
            Usual::Given(..) => unit.cloned(),
            Usual::Learnt(_) => Some(Unit::new("1")),
        };
        vec![
            Added::new("cusum_high", Holds::Number).with_unit(unit.clone()),
            Added::new("cusum_low", Holds::Number).with_unit(unit),
            Added::new("cusum_alarm", Holds::Flag),
        ]
    }

    fn follow(&self, times: &[i64], values: &[f64], past: &mut Past, out: &mut [Vec<f64>]) {
        let [high, low, alarm] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            let sums = self.next(at, x, past);
            let (h, l) = sums.unwrap_or((f64::NAN, f64::NAN));
            high.push(h);
            low.push(l);
            alarm.push(sums.map_or(f64::NAN, |(h, l)| truth(h > self.limit || l > self.limit)));
        }
    }
}

impl Sums {
    /// The sums after `x`, where there are any.
    #[inline]
    fn next(&self, at: i64, x: f64, past: &mut Past) -> Option<(f64, f64)> {
        if !x.is_finite() {
            return None;
        }
        let (mean, std) = self.usual.when(&mut past.learnt, at, x)?;
        if std == 0.0 {
            return None;
        }
        if is_gap(self.max_gap, past.at, at) {
            (past.high, past.low) = (0.0, 0.0);
        }
        past.at = Some(at);
        let off = (x - mean) / std;
        let high = (past.high + (off - self.slack)).max(0.0);
        let low = (past.low - (off + self.slack)).max(0.0);
        let is_alarm = high > self.limit || low > self.limit;
        (past.high, past.low) = if is_alarm && self.reset { (0.0, 0.0) } else { (high, low) };
        Some((high, low))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_the_formula_written_out() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let cases = [
            (
                json!({ "target": 50.5, "slack": 0.75, "limit": 8, "reset": true, "max_gap": "125s" }),
                include_str!("../reference/cusum_target.csv"),
            ),
            (json!({ "learn": { "rows": 30 } }), include_str!("../reference/cusum_learn.csv")),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x"]);
            check("cusum", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn sums_grow_beyond_the_slack_and_no_further_than_to_zero() {
        let input = "m,t,x\na,0,12\na,1,13\na,2,\na,3,10\na,4,5\n";
        let expected = "m,t,x,x_cusum_high,x_cusum_low,x_cusum_alarm:bool
            a,0,12,1,0,false
            a,1,13,3,0,true
            a,2,,,,
            a,3,10,2,0,false
            a,4,5,0,4,true";
        let config = json!({ "columns": ["x"], "target": 10, "slack": 1, "limit": 2.5 });
        check("cusum", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
    }

    #[test]
    fn nothing_is_said_of_a_column_that_never_moved() {
        let input = Table::parse(Logical, "m,t,x\na,0,1\na,1,1\na,2,1\na,3,2\n");
        let config = json!({ "columns": ["x"], "learn": { "rows": 2 } });
        assert_eq!(sameness("cusum", &config, &input).numbers("x_cusum_high"), [None; 4]);
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(3, 120, UtcNanos);
        let config = json!({ "columns": ["x", "n"], "learn": { "duration": "3s" },
            "max_gap": "2s", "as": { "n": "count" } });
        let outcome = sameness("cusum", &config, &input);
        assert!(outcome.numbers("count_cusum_low").iter().flatten().any(|&l| l > 0.0));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["x"] }),
                &["nothing says what is usual", "'slack' is missing", "'limit' is missing"],
            ),
            (
                json!({ "columns": ["x"], "target": 1, "learn": { "rows": 9 } }),
                &["target and learn exclude one another"],
            ),
            (
                json!({ "columns": ["x"], "learn": { "rows": 1 }, "slack": -1, "limit": 0 }),
                &[
                    "learn.rows: nothing is learnt from '1' values",
                    "slack: '-1' is out of range",
                    "limit: '0' is out of range",
                ],
            ),
            (json!({ "columns": ["x"], "learn": {} }), &["learn: nothing says how long to learn"]),
            (
                json!({ "columns": ["x"], "learn": { "rows": 3, "duration": "1s" } }),
                &["learn: rows and duration exclude one another"],
            ),
            (
                json!({ "columns": ["s", "x", "x"], "learn": { "duration": "0s" },
                    "as": { "y": "z" }, "max_gap": 3 }),
                &[
                    "columns[0]: column 's' is Utf8, not a number",
                    "columns[2]: column 'x' is there twice",
                    "as.y: column 'y' is not among the columns of this step",
                    "learn.duration: '0s' is not above zero",
                    "max_gap: '3' has no unit, but the event time is a timestamp",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("cusum", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
