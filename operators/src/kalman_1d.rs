//! Kalman filter of one dimension: a level that wanders, seen through noise.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its level (or joined by it under the name in `as`), `Float64`, in the
//!         column's unit; a null stays null
//! State   the level of each column, its variance and the event time of the last value, for each key
//! Late    honours `late: { correct }`; a late row changes every level of its key that follows
//! Errors  none: a row that came in goes out
//! Source  the local level model, Durbin and Koopman 2012, 2.2; statsmodels `UnobservedComponents(level='llevel')` with
//!         known variances and an exact diffuse start
//!
//! With `Q` the process variance and `R` the measurement variance: `P += Q` from row to row (with `per`,
//! `P += Q dt / per`), then `K = P / (P + R)`, `level += K (x - level)`, `P = K R`. The first value is its own level,
//! with `P = R`. A null tells nothing, so that the variance grows over it and the next value counts more. With a
//! constant rate of rows `K` settles at the weight of an exponential moving average; it is larger at first and after
//! gaps, where an average would go on as if nothing had been missed.

use std::collections::BTreeMap;

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::{Filter, planned};
use crate::columns::only;
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;

/// Estimates the level of columns that wander and are measured with noise.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kalman1dConfig {
    /// The columns to estimate.
    pub columns: Vec<String>,
    /// How much the level itself wanders from row to row, or in the time `per`: a variance, in the square of the
    /// column's unit; 0 or above.
    pub process_variance: f64,
    /// How much a measurement is off: a variance, in the square of the column's unit; above 0.
    pub measurement_variance: f64,
    /// The time in which the level wanders by `process_variance`, such as `1s`. Left out: each row counts the same,
    /// however much time has passed.
    #[serde(default)]
    pub per: Option<Extent>,
    /// The level starts anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the levels, by column. Left out: the level replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `kalman_1d`.
#[derive(Debug, Clone, Copy)]
pub struct Kalman1d;

impl OperatorKind for Kalman1d {
    type Config = Kalman1dConfig;

    const NAME: &'static str = "kalman_1d";
    const SUMMARY: &'static str = "estimates the level of columns that wander, by a Kalman filter";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "level: { from: readings, kalman_1d: { columns: [temperature], process_variance: 0.01, per: 1m, measurement_variance: 0.25 } }";

    fn plan(
        config: &Kalman1dConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let model = mistakes.all(LocalLevel::plan(config, input.domain()));
        let (columns, model) = mistakes.or(columns.zip(model))?;
        Ok(planned(input, columns, None, model))
    }
}

/// The model, and when it is given up.
#[derive(Debug, Clone, Copy)]
struct LocalLevel {
    /// Growth of the variance from row to row.
    per_row: f64,
    /// Growth of the variance in a nanosecond or count.
    per_tick: f64,
    measurement: f64,
    max_gap: i64,
}

impl LocalLevel {
    fn plan(config: &Kalman1dConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let Kalman1dConfig { process_variance: process, measurement_variance: measurement, .. } =
            *config;
        let mut mistakes = Mistakes::default();
        if !(process >= 0.0 && process.is_finite()) {
            let error = ConfigError::new("process_variance", format!("'{process}' is no variance"));
            mistakes.push(error.help("give a number of at least 0"));
        }
        if !(measurement > 0.0 && measurement.is_finite()) {
            let what = format!("'{measurement}' is no variance of a measurement");
            let error = ConfigError::new("measurement_variance", what);
            mistakes.push(error.help("give a number above 0"));
        }
        let per = mistakes.length("per", config.per, domain);
        let max_gap = mistakes.length("max_gap", config.max_gap, domain).unwrap_or(i64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "beyond 104 days nanoseconds are lost")]
        let (per_row, per_tick) = match per {
            None => (process, 0.0),
            Some(per) => (0.0, process / per as f64),
        };
        mistakes.or(Some(LocalLevel { per_row, per_tick, measurement, max_gap }))
    }
}

/// What is known of the level.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Known {
    /// The event time of the last value.
    at: i64,
    level: f64,
    variance: f64,
}

impl Filter for LocalLevel {
    type State = Option<Known>;
    const STATE_VERSION: u32 = 1;

    fn filter(
        &self,
        times: &[i64],
        values: &[f64],
        state: &mut Option<Known>,
        results: &mut Vec<f64>,
    ) {
        let mut known = *state;
        results.extend(times.iter().zip(values).map(|(&at, &x)| {
            if let Some(known) = &mut known {
                known.variance += self.per_row;
            }
            if x.is_nan() {
                return x;
            }
            let before = known.filter(|k| at.saturating_sub(k.at) <= self.max_gap);
            let after = before.map_or_else(|| self.first(at, x), |before| self.next(before, at, x));
            known = Some(after);
            after.level
        }));
        *state = known;
    }
}

impl LocalLevel {
    fn first(&self, at: i64, x: f64) -> Known {
        Known { at, level: x, variance: self.measurement }
    }

    fn next(&self, before: Known, at: i64, x: f64) -> Known {
        #[expect(clippy::cast_precision_loss, reason = "beyond 104 days nanoseconds are lost")]
        let dt = at.saturating_sub(before.at) as f64;
        let variance = before.variance + self.per_tick * dt;
        let gain = variance / (variance + self.measurement);
        let level = before.level + gain * (x - before.level);
        Known { at, level, variance: gain * self.measurement }
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    #[test]
    fn agrees_with_statsmodels_and_numpy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({ "process_variance": 0.05 }), include_str!("../reference/kalman_1d_rows.csv")),
            (
                json!({ "process_variance": 0.3, "per": "2s", "max_gap": "12s" }),
                include_str!("../reference/kalman_1d_per.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            config["measurement_variance"] = json!(0.8);
            check("kalman_1d", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn a_level_that_stands_still_is_the_mean() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,8\na,2,0\na,2,\na,6,1\nb,6,5\n");
        let expected = "m,t,x\na,0,8\na,2,4\na,2,\na,6,3\nb,6,5\n";
        let config = json!({ "columns": ["x"], "process_variance": 0, "measurement_variance": 2 });
        check("kalman_1d", &config, &input, &Table::parse(TimeDomain::Logical, expected));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, per) in [(1, None), (2, Some(4)), (3, None)] {
            let input = Table::random(seed, 160, TimeDomain::Logical);
            let config = json!({ "columns": ["y"], "process_variance": 3, "per": per,
                "measurement_variance": 50, "max_gap": 40, "as": { "y": "level" } });
            let outcome = sameness("kalman_1d", &config, &input);
            let (y, times) = (input.numbers("y"), input.times());
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                // In the form of a precision: 1/P = 1/P' + 1/R.
                let mut known: Option<(i64, f64, f64)> = None;
                for &row in rows {
                    if let (Some(k), None) = (&mut known, per) {
                        k.2 += 3.0;
                    }
                    let Some(x) = y[row] else { continue };
                    known = Some(match known.filter(|k| times[row] - k.0 <= 40) {
                        None => (times[row], x, 50.0),
                        Some((at, level, p)) => {
                            let dt = (times[row] - at) as f64;
                            let p = p + per.map_or(0.0, |per| 3.0 * dt / f64::from(per));
                            let precision = 1.0 / p + 1.0 / 50.0;
                            (times[row], (level / p + x / 50.0) / precision, 1.0 / precision)
                        }
                    });
                    expected[row] = known.map(|k| k.1);
                }
            }
            for (row, got) in outcome.rows.iter().zip(outcome.numbers("level")) {
                let want = expected[usize::try_from(row.position).unwrap()];
                assert_eq!(got.is_some(), want.is_some());
                assert!(
                    got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9),
                    "{got:?} {want:?}"
                );
            }
        }
    }

    #[test]
    fn a_constant_stays_what_it_is() {
        let input = utc("m,t,x\na,0,0.1\na,1,0.1\na,2,0.1\n");
        let config = json!({ "columns": ["x"], "process_variance": 1, "measurement_variance": 3 });
        assert_eq!(sameness("kalman_1d", &config, &input).numbers("x"), [Some(0.1); 3]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[(
            json!({ "columns": ["s", "x"], "process_variance": -1, "measurement_variance": 0,
                "per": 3, "max_gap": "0s", "as": { "x": "t" } }),
            &[
                "columns[0]: column 's' is Utf8, not a number",
                "as: column 't' is there twice",
                "process_variance: '-1' is no variance",
                "measurement_variance: '0' is no variance of a measurement",
                "per: '3' has no unit, but the event time is a timestamp",
                "max_gap: '0s' is not above zero",
            ],
        )];
        for (config, expected) in cases {
            let errors = try_plan("kalman_1d", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
