//! Drift of the mean: how far values, and their mean since the learning period, are from what was usual in it.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_z` (the value in standard deviations), `<column>_mean` and
//!         `<column>_std` of the values since the learning period (in the column's unit), `<column>_shift` (that mean
//!         in standard deviations) and `<column>_drift` (boolean)
//! State   count, mean and sum of squares of the learning period and of the values since, and the time of the last
//!         value, of each column of each key
//! Late    honours `late: { correct }`; a late row changes all that follows
//! Errors  none: a row that came in goes out
//! Source  Welford 1962 for mean and variance of a sample; `z = (x - mean0) / std0`, `shift = (mean - mean0) / std0`,
//!         drift when `|shift| > limit`
//!
//! The mean is of all values since the learning period, so it follows the slower the longer it runs: for the last
//! values only, take `ewma_chart`. A null or an infinite value gives nulls and changes nothing; results are null while a
//! key learns, and `z` and `shift` ever after where the period had no spread. After more than `max_gap` without a value
//! the mean begins anew; what was learnt stays.

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
use crate::learning::{Learn, Learnt, Period, Running};

/// Compares values with a learning period.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// The period from which each key learns mean and standard deviation: `{ rows: 200 }`, `{ duration: 7d }`.
    pub learn: Learn,
    /// The shift of the mean that is a drift, above 0, in standard deviations of the learning period; 3 unless given.
    #[serde(default = "limit")]
    pub limit: f64,
    /// The mean begins anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn limit() -> f64 {
    3.0
}

/// The kind `drift`.
#[derive(Debug, Clone, Copy)]
pub struct Drift;

impl OperatorKind for Drift {
    type Config = DriftConfig;

    const NAME: &'static str = "drift";
    const SUMMARY: &'static str =
        "says how far values and their mean are from those of a learning period";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "drifted: { from: readings, drift: { columns: [temperature], learn: { duration: 10m }, limit: 2 } }";

    fn plan(
        config: &DriftConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let watched = both(watched, reset(input, config.reset_on.as_deref()));
        let ((watched, resets), compared) = both(watched, Compared::plan(config, input.domain()))?;
        planned_each(input, watched, compared, resets)
    }
}

#[derive(Debug, Clone)]
struct Compared {
    period: Period,
    limit: f64,
    max_gap: Option<i64>,
}

impl Compared {
    fn plan(config: &DriftConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let period = config.learn.plan("learn", domain).map_err(|e| vec![e]);
        let limit = fit("limit", config.limit, config.limit > 0.0, "give a number above 0");
        let rest = both(limit.map_err(|e| vec![e]), gap(config.max_gap, domain));
        let (period, (limit, max_gap)) = both(period, rest)?;
        Ok(Compared { period, limit, max_gap })
    }
}

/// What is remembered of a column of a key.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Past {
    learnt: Learnt,
    since: Running,
    at: Option<i64>,
}

impl Detector for Compared {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, unit: Option<&Unit>) -> Vec<Added> {
        let number =
            |name, unit: Option<&Unit>| Added::new(name, Holds::Number).with_unit(unit.cloned());
        let one = Unit::new("1");
        vec![
            number("z", Some(&one)),
            number("mean", unit),
            number("std", unit),
            number("shift", Some(&one)),
            Added::new("drift", Holds::Flag),
        ]
    }

    fn follow(&self, times: &[i64], values: &[f64], past: &mut Past, out: &mut [Vec<f64>]) {
        let [z, mean, std, shift, drift] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            let said = self.next(at, x, past).unwrap_or([f64::NAN; 4]);
            z.push(said[0]);
            mean.push(said[1]);
            std.push(said[2]);
            shift.push(said[3]);
            let is_drift = truth(said[3].abs() > self.limit);
            drift.push(if said[3].is_nan() { f64::NAN } else { is_drift });
        }
    }
}

impl Compared {
    /// `z`, mean, standard deviation and shift after `x`, where there are any.
    #[inline]
    fn next(&self, at: i64, x: f64, past: &mut Past) -> Option<[f64; 4]> {
        if !x.is_finite() || past.learnt.takes(self.period, at, x) {
            return None;
        }
        if is_gap(self.max_gap, past.at, at) {
            past.since = Running::default();
        }
        past.at = Some(at);
        past.since.add(x);
        let usual = past.learnt.values;
        let spread = usual.std();
        // No spread: nothing can be said in terms of it, and infinity would be a lie for the usual value itself.
        let spread = if spread == 0.0 { f64::NAN } else { spread };
        let distance = |value: f64| (value - usual.mean) / spread;
        Some([distance(x), past.since.mean, past.since.std(), distance(past.since.mean)])
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::UtcNanos;
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_numpy() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let config = json!({ "columns": ["x"], "learn": { "rows": 20 }, "limit": 1,
            "max_gap": "125s" });
        let expected = include_str!("../reference/drift.csv");
        check("drift", &config, &input, &Table::parse(UtcNanos, expected));
    }

    #[test]
    fn a_constant_has_a_mean_but_no_distance() {
        let input = Table::parse(UtcNanos, "m,t,x\na,0,2\na,1,2\na,2,4\n");
        let config = json!({ "columns": ["x"], "learn": { "rows": 2 } });
        let outcome = sameness("drift", &config, &input);
        assert_eq!(outcome.numbers("x_mean"), [None, None, Some(4.0)]);
        assert_eq!(outcome.numbers("x_z"), [None; 3]);
        assert_eq!(outcome.column("x_drift"), [Cell::Null, Cell::Null, Cell::Null]);
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(6, 120, UtcNanos);
        let config = json!({ "columns": ["x", "n"], "learn": { "duration": "2s" }, "limit": 0.5 });
        let outcome = sameness("drift", &config, &input);
        assert!(outcome.column("n_drift").contains(&Cell::Bool(true)));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["missing field `learn`"]),
            (
                json!({ "columns": ["z"], "learn": {}, "limit": 0, "max_gap": "0s" }),
                &[
                    "columns[0]: there is no column 'z'",
                    "learn: nothing says how long to learn",
                    "limit: '0' is out of range",
                    "max_gap: '0s' is not above zero",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("drift", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
