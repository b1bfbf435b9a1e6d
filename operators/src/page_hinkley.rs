//! Page-Hinkley test: a mean that has changed, found by sums of the distance from the mean so far.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_page_hinkley_up` and `<column>_page_hinkley_down` (in the
//!         column's unit) and `<column>_page_hinkley_drift` (boolean)
//! State   the mean so far, two sums with their extremes, and the time of the last value, of each column of each key
//! Late    honours `late: { correct }`; a late row changes all that follows up to the next drift
//! Errors  none: a row that came in goes out
//! Source  river `drift.PageHinkley`: `mean` over all values since the last drift, `U = alpha U' + x - mean - delta`,
//!         `D = alpha D' + x - mean + delta`; `up = U - min U`, `down = max D - D`; drift when one of those that
//!         `direction` names is above `limit` and there were `min_rows` values. The value after a drift is the first
//!         of a new test
//!
//! river shows no statistic; here it is shown from the first value on, whatever `min_rows` is. A null or an infinite
//! value gives nulls and changes nothing. After more than `max_gap` without a value the test begins anew.

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
use crate::learning::Running;

/// Tests whether the mean has changed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageHinkleyConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// What a value may be off the mean without counting, at least 0, in the columns' unit; 0.005 unless given.
    #[serde(default = "delta")]
    pub delta: f64,
    /// The statistic that means drift (lambda), above 0, in the columns' unit; 50 unless given.
    #[serde(default = "limit")]
    pub limit: f64,
    /// How much of a sum is kept at each value, above 0 and at most 1; 0.9999 unless given.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// No drift is found before so many values; 30 unless given.
    #[serde(default = "min_rows")]
    pub min_rows: u64,
    /// Which changes count: `up`, `down`, or `both`, as they do unless given.
    #[serde(default)]
    pub direction: Direction,
    /// The test begins anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn delta() -> f64 {
    0.005
}

fn limit() -> f64 {
    50.0
}

fn alpha() -> f64 {
    0.9999
}

fn min_rows() -> u64 {
    30
}

/// Which changes count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A mean that has grown.
    Up,
    /// A mean that has fallen.
    Down,
    /// Either.
    #[default]
    Both,
}

/// The kind `page_hinkley`.
#[derive(Debug, Clone, Copy)]
pub struct PageHinkley;

impl OperatorKind for PageHinkley {
    type Config = PageHinkleyConfig;

    const NAME: &'static str = "page_hinkley";
    const SUMMARY: &'static str = "finds that a mean has changed by the Page-Hinkley test";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "changed: { from: readings, page_hinkley: { columns: [temperature], delta: 0.5, limit: 40, direction: up } }";

    fn plan(
        config: &PageHinkleyConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let watched = both(watched, reset(input, config.reset_on.as_deref()));
        let ((watched, resets), test) = both(watched, Test::plan(config, input.domain()))?;
        planned_each(input, watched, test, resets)
    }
}

#[derive(Debug, Clone)]
struct Test {
    delta: f64,
    limit: f64,
    alpha: f64,
    min_rows: u64,
    direction: Direction,
    max_gap: Option<i64>,
}

impl Test {
    fn plan(config: &PageHinkleyConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let PageHinkleyConfig { delta, limit, alpha, min_rows, direction, .. } = *config;
        let numbers = [
            fit("delta", delta, delta >= 0.0, "give a number of at least 0"),
            fit("limit", limit, limit > 0.0, "give a number above 0"),
            fit("alpha", alpha, alpha > 0.0 && alpha <= 1.0, "give a number above 0 and at most 1"),
        ];
        let errors: Vec<ConfigError> = numbers.into_iter().filter_map(Result::err).collect();
        let numbers = if errors.is_empty() { Ok(()) } else { Err(errors) };
        let ((), max_gap) = both(numbers, gap(config.max_gap, domain))?;
        Ok(Test { delta, limit, alpha, min_rows, direction, max_gap })
    }
}

/// The test of a column of a key.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Past {
    at: Option<i64>,
    values: Running,
    up: f64,
    least: f64,
    down: f64,
    greatest: f64,
    has_drifted: bool,
}

impl Detector for Test {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, unit: Option<&Unit>) -> Vec<Added> {
        vec![
            Added::new("page_hinkley_up", Holds::Number).with_unit(unit.cloned()),
            Added::new("page_hinkley_down", Holds::Number).with_unit(unit.cloned()),
            Added::new("page_hinkley_drift", Holds::Flag),
        ]
    }

    fn follow(&self, times: &[i64], values: &[f64], past: &mut Past, out: &mut [Vec<f64>]) {
        let [up, down, drift] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            if !x.is_finite() {
                up.push(f64::NAN);
                down.push(f64::NAN);
                drift.push(f64::NAN);
                continue;
            }
            let (above, below) = self.next(at, x, past);
            up.push(above);
            down.push(below);
            drift.push(truth(past.has_drifted));
        }
    }
}

impl Test {
    /// How far the mean seems to have grown and to have fallen.
    #[inline]
    fn next(&self, at: i64, x: f64, past: &mut Past) -> (f64, f64) {
        if past.has_drifted || is_gap(self.max_gap, past.at, at) {
            *past = Past::default();
        }
        let is_first = past.values.n == 0;
        past.at = Some(at);
        past.values.add(x);
        let off = x - past.values.mean;
        past.up = self.alpha * past.up + off - self.delta;
        past.down = self.alpha * past.down + off + self.delta;
        past.least = if is_first { past.up } else { past.least.min(past.up) };
        past.greatest = if is_first { past.down } else { past.greatest.max(past.down) };
        let (up, down) = (past.up - past.least, past.greatest - past.down);
        let is_up = self.direction != Direction::Down && up > self.limit;
        let is_down = self.direction != Direction::Up && down > self.limit;
        past.has_drifted = (is_up || is_down) && past.values.n >= self.min_rows;
        (up, down)
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::UtcNanos;
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_river() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let cases = [
            (
                json!({ "columns": ["x", "y"], "limit": 20, "delta": 0.1, "min_rows": 10 }),
                include_str!("../reference/page_hinkley_both.csv"),
            ),
            (
                json!({ "columns": ["y"], "limit": 4, "alpha": 0.95, "direction": "up" }),
                include_str!("../reference/page_hinkley_up.csv"),
            ),
        ];
        for (config, expected) in cases {
            check("page_hinkley", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn finds_only_the_direction_that_is_asked_for() {
        let rows = (0..60).map(|t| format!("a,{t},{}\n", if t < 40 { 0 } else { -9 }));
        let input = Table::parse(UtcNanos, &format!("m,t,x\n{}", rows.collect::<String>()));
        for (direction, n_drifts) in [("up", 0), ("down", 1), ("both", 1)] {
            let config = json!({ "columns": ["x"], "limit": 20, "direction": direction });
            let drift = sameness("page_hinkley", &config, &input).column("x_page_hinkley_drift");
            let n = drift.iter().filter(|&c| *c == Cell::Bool(true)).count();
            assert_eq!(n, n_drifts, "{direction}");
        }
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(3, 120, UtcNanos);
        let config = json!({ "columns": ["y"], "limit": 800, "min_rows": 3, "max_gap": "3s" });
        let drift = sameness("page_hinkley", &config, &input).column("y_page_hinkley_drift");
        assert!(drift.contains(&Cell::Bool(true)));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["z"], "delta": -1, "limit": 0, "alpha": 1.5, "max_gap": 1 }),
                &[
                    "columns[0]: there is no column 'z'",
                    "delta: '-1' is out of range",
                    "limit: '0' is out of range",
                    "alpha: '1.5' is out of range",
                    "max_gap: '1' has no unit, but the event time is a timestamp",
                ],
            ),
            (
                json!({ "columns": ["x"], "direction": "left" }),
                &["direction: unknown variant `left`, expected one of `up`, `down`, `both`"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("page_hinkley", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
