//! EWMA control chart: an exponentially weighted average and the limits it stays within while nothing changes.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_ewma`, `<column>_ewma_lower` and `<column>_ewma_upper` (in
//!         the column's unit) and `<column>_ewma_alarm` (boolean): whether the average is outside of the limits
//! State   the average, the weight of its start, the time of the last value, and what was learnt, of each column of
//!         each key
//! Late    honours `late: { correct }`; a late row changes the averages that follow, and what was learnt if it belongs
//!         there
//! Errors  none: a row that came in goes out
//! Source  Montgomery, Introduction to Statistical Quality Control, 9.2: `z = lambda x + (1 - lambda) z'`, `z` before
//!         the first value is the target; limits `target ± sigmas * sigma * sqrt(lambda / (2 - lambda) *
//!         (1 - (1 - lambda)^(2 i)))` at the `i`-th value
//!
//! A null or an infinite value gives nulls and changes nothing. Results are null while a key learns. After more than
//! `max_gap` without a value the chart begins anew at the target; what was learnt stays.

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

/// Charts an exponentially weighted average. Either `target` with `sigma`, or `learn`, says what is usual.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EwmaChartConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// The usual value, in the columns' unit.
    #[serde(default)]
    pub target: Option<f64>,
    /// The usual standard deviation of a value, above 0, in the columns' unit.
    #[serde(default)]
    pub sigma: Option<f64>,
    /// The period from which each key learns mean and standard deviation: `{ rows: 200 }`, `{ duration: 7d }`.
    #[serde(default)]
    pub learn: Option<Learn>,
    /// The weight of a new value, above 0 and at most 1; 0.2 unless given. The less, the smaller the shifts that are
    /// found, and the later.
    #[serde(default = "lambda")]
    pub lambda: f64,
    /// How many standard deviations of the average the limits are from the target, above 0; 3 unless given.
    #[serde(default = "sigmas")]
    pub sigmas: f64,
    /// The chart begins anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn lambda() -> f64 {
    0.2
}

fn sigmas() -> f64 {
    3.0
}

/// The kind `ewma_chart`.
#[derive(Debug, Clone, Copy)]
pub struct EwmaChart;

impl OperatorKind for EwmaChart {
    type Config = EwmaChartConfig;

    const NAME: &'static str = "ewma_chart";
    const SUMMARY: &'static str =
        "holds an exponentially weighted average against its control limits";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "chart: { from: readings, ewma_chart: { columns: [vibration], learn: { rows: 500 }, lambda: 0.1, sigmas: 2.7 } }";

    fn plan(
        config: &EwmaChartConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let watched = both(watched, reset(input, config.reset_on.as_deref()));
        let ((watched, resets), chart) = both(watched, Chart::plan(config, input.domain()))?;
        planned_each(input, watched, chart, resets)
    }
}

#[derive(Debug, Clone)]
struct Chart {
    usual: Usual,
    lambda: f64,
    sigmas: f64,
    max_gap: Option<i64>,
}

impl Chart {
    fn plan(config: &EwmaChartConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let EwmaChartConfig { lambda, sigmas, .. } = *config;
        let (above, upto) = ("give a number above 0", "give a number above 0 and at most 1");
        let lambda = fit("lambda", lambda, lambda > 0.0 && lambda <= 1.0, upto);
        let sigmas = fit("sigmas", sigmas, sigmas > 0.0, above);
        let usual = match (config.target, config.sigma, config.learn) {
            (Some(target), Some(sigma), None) => {
                fit("sigma", sigma, sigma > 0.0, above).map(|sigma| Usual::Given(target, sigma))
            }
            (None, None, Some(learn)) => learn.plan("learn", domain).map(Usual::Learnt),
            (_, _, Some(_)) => {
                let what = "learn excludes target and sigma";
                Err(ConfigError::new("", what).help("keep 'learn' or the other two"))
            }
            (_, _, None) => Err(ConfigError::new("", "nothing says what is usual")
                .help("add 'learn', or 'target' and 'sigma'")),
        };
        let numbers = both(lambda.map_err(|e| vec![e]), sigmas.map_err(|e| vec![e]));
        let rest = both(numbers, gap(config.max_gap, domain));
        let (usual, ((lambda, sigmas), max_gap)) = both(usual.map_err(|e| vec![e]), rest)?;
        Ok(Chart { usual, lambda, sigmas, max_gap })
    }
}

/// The chart of a column of a key.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Past {
    learnt: Learnt,
    at: Option<i64>,
    /// The average less the target: what is left of the values' distances.
    off: f64,
    /// The weight that the values have by now: `1 - (1 - lambda)^i`.
    weight: f64,
}

impl Detector for Chart {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, unit: Option<&Unit>) -> Vec<Added> {
        let number = |name| Added::new(name, Holds::Number).with_unit(unit.cloned());
        vec![
            number("ewma"),
            number("ewma_lower"),
            number("ewma_upper"),
            Added::new("ewma_alarm", Holds::Flag),
        ]
    }

    fn follow(&self, times: &[i64], values: &[f64], past: &mut Past, out: &mut [Vec<f64>]) {
        let [ewma, lower, upper, alarm] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            let [z, lo, hi, is_alarm] = self.next(at, x, past).unwrap_or([f64::NAN; 4]);
            ewma.push(z);
            lower.push(lo);
            upper.push(hi);
            alarm.push(is_alarm);
        }
    }
}

impl Chart {
    /// Average, limits and alarm after `x`, where there are any.
    #[inline]
    fn next(&self, at: i64, x: f64, past: &mut Past) -> Option<[f64; 4]> {
        if !x.is_finite() {
            return None;
        }
        let (target, sigma) = self.usual.when(&mut past.learnt, at, x)?;
        if is_gap(self.max_gap, past.at, at) {
            (past.off, past.weight) = (0.0, 0.0);
        }
        past.at = Some(at);
        past.off += self.lambda * ((x - target) - past.off);
        past.weight += self.lambda * (1.0 - past.weight);
        let rest = 1.0 - past.weight;
        let variance = self.lambda / (2.0 - self.lambda) * (1.0 - rest * rest);
        let reach = self.sigmas * sigma * variance.sqrt();
        let is_alarm = truth(past.off.abs() > reach);
        Some([target + past.off, target - reach, target + reach, is_alarm])
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::UtcNanos;
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_the_formula_written_out() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let cases = [
            (
                json!({ "target": 50, "sigma": 1, "lambda": 0.1, "sigmas": 2.7, "max_gap": "125s" }),
                include_str!("../reference/ewma_chart_target.csv"),
            ),
            (
                json!({ "learn": { "duration": "300s" } }),
                include_str!("../reference/ewma_chart_learn.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x"]);
            check("ewma_chart", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn a_constant_does_not_alarm_though_its_limits_are_its_own_value() {
        let input = Table::parse(UtcNanos, "m,t,x\na,0,0.1\na,1,0.1\na,2,0.1\na,3,0.1\na,4,0.2\n");
        let config = json!({ "columns": ["x"], "learn": { "rows": 2 } });
        let alarm = sameness("ewma_chart", &config, &input).column("x_ewma_alarm");
        let expected = [None, None, Some(false), Some(false), Some(true)];
        assert_eq!(alarm, expected.map(|a| a.map_or(Cell::Null, Cell::Bool)));
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(4, 120, UtcNanos);
        let config = json!({ "columns": ["x", "n"], "learn": { "rows": 5 }, "sigmas": 1,
            "max_gap": "2s" });
        let outcome = sameness("ewma_chart", &config, &input);
        assert!(outcome.column("n_ewma_alarm").contains(&Cell::Bool(true)));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"], "target": 1 }), &["nothing says what is usual"]),
            (
                json!({ "columns": ["x"], "target": 1, "sigma": 1, "learn": { "rows": 9 } }),
                &["learn excludes target and sigma"],
            ),
            (
                json!({ "columns": ["z"], "target": 1, "sigma": 0, "lambda": 0, "sigmas": -1,
                    "max_gap": "0s" }),
                &[
                    "columns[0]: there is no column 'z'",
                    "sigma: '0' is out of range",
                    "lambda: '0' is out of range",
                    "sigmas: '-1' is out of range",
                    "max_gap: '0s' is not above zero",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("ewma_chart", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
