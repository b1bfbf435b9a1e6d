//! Rate: how fast a column changes, from value to value.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column joined by `<column>_rate` (or the name in `as`): its change since its last value
//!         that was not null, by the time between, `Float64`, in the column's unit per second, minute or hour (per count
//!         where the event time is a count); null for the first value, for a null, where no time has passed, and
//!         where the last value is longer ago than `max_gap`
//! State   the last value of each column and its event time, for each key
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  `(x - x_last) / (t - t_last)`; NumPy `diff(x) / diff(t)`; for counters Prometheus `rate`, not extrapolated
//!
//! A counter only grows. With `counter: resets`, a value below the last one means that it began again at 0, and the change
//! is the value itself; with `counter: { wraps_at: n }`, that it went from `n - 1` on to 0, and the change is
//! `x - x_last + n`. Of rows with equal time the first has a rate, and the next rate counts from the last of them.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::{Filter, planned};
use crate::columns::only;
use crate::mistakes::Mistakes;
use crate::per::{Per, Span};
use crate::smoothing::Smoothed;

/// How fast columns change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// The columns to look at.
    pub columns: Vec<String>,
    /// What the rate is per: `second` unless given. Not where the event time is a count.
    #[serde(default)]
    pub per: Option<Per>,
    /// What it means that a value is below the last: `resets` or `{ wraps_at: 65536 }`. Left out: a negative rate.
    #[serde(default)]
    pub counter: Option<Counter>,
    /// The rate is null where the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the rates, by column; `<column>_rate` unless given.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// What a counter does at its end.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// It begins again at 0, at any time.
    Resets,
    /// It goes on at 0 after the greatest value; how many values it has.
    WrapsAt(f64),
}

/// The kind `rate`.
#[derive(Debug, Clone, Copy)]
pub struct Rate;

impl OperatorKind for Rate {
    type Config = RateConfig;

    const NAME: &'static str = "rate";
    const SUMMARY: &'static str = "how fast columns change; knows counters that wrap or reset";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str =
        "heating: { from: readings, rate: { columns: [temperature], per: minute, max_gap: 1m } }";

    fn plan(
        config: &RateConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let RateConfig { columns, rename, .. } = config;
        let mut mistakes = Mistakes::default();
        let span = mistakes.one(Span::plan(input, config.per));
        let unit = |unit: &Unit| span.as_ref().map_or_else(|| unit.clone(), |span| span.per(unit));
        let columns = mistakes.all(Smoothed::appended(input, columns, rename, "rate", unit));
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        if let Some(Counter::WrapsAt(n)) = config.counter
            && !(n > 0.0 && n.is_finite())
        {
            let error = ConfigError::new("counter.wraps_at", format!("no counter has {n} values"));
            mistakes.push(error.help("give how many values it has: 256 for one that ends at 255"));
        }
        let (columns, span) = mistakes.or(columns.zip(span))?;
        let max_gap = max_gap.unwrap_or(i64::MAX);
        let change = Change { ticks: span.ticks, counter: config.counter, max_gap };
        Ok(planned(input, columns, None, change))
    }
}

#[derive(Debug)]
struct Change {
    /// Event time in what the rate is per.
    ticks: f64,
    counter: Option<Counter>,
    max_gap: i64,
}

/// The last value and when it was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Last {
    at: i64,
    x: f64,
}

impl Filter for Change {
    type State = Option<Last>;
    const STATE_VERSION: u32 = 1;

    fn filter(
        &self,
        times: &[i64],
        values: &[f64],
        state: &mut Option<Last>,
        results: &mut Vec<f64>,
    ) {
        let mut last = *state;
        results.extend(times.iter().zip(values).map(|(&at, &x)| {
            if x.is_nan() {
                return x;
            }
            let rate = last.map_or(f64::NAN, |last| self.rate(last, at, x));
            last = Some(Last { at, x });
            rate
        }));
        *state = last;
    }
}

impl Change {
    fn rate(&self, last: Last, at: i64, x: f64) -> f64 {
        let dt = at.saturating_sub(last.at);
        if dt == 0 || dt > self.max_gap {
            return f64::NAN;
        }
        let change = match self.counter {
            Some(counter) if x < last.x => counter.change(last.x, x),
            _ => x - last.x,
        };
        #[expect(clippy::cast_precision_loss, reason = "beyond 104 days nanoseconds are lost")]
        let dt = dt as f64;
        change / (dt / self.ticks)
    }
}

impl Counter {
    /// How far it went from `last` to `x`, which is less; NaN where `last` is a value that it cannot have.
    fn change(self, last: f64, x: f64) -> f64 {
        match self {
            Counter::Resets => x,
            Counter::WrapsAt(n) if last < n => x - last + n,
            Counter::WrapsAt(_) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, plan, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_numpy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({}), include_str!("../reference/rate_second.csv")),
            (json!({ "per": "hour", "max_gap": "6s" }), include_str!("../reference/rate_hour.csv")),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("rate", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn counters_wrap_or_reset() {
        let input = logical("m,t,x\na,0,250\na,2,254\na,4,4\na,5,\na,8,2\nb,8,7\na,8,6\na,10,8\n");
        let rates = |counter: Value| {
            let config = json!({ "columns": ["x"], "counter": counter, "as": { "x": "r" } });
            let mut outcome = sameness("rate", &config, &input);
            outcome.rows.sort_by_key(|row| row.position);
            outcome.numbers("r")
        };
        let some = |rates: [f64; 3]| {
            let [up, down, again] = rates.map(Some);
            vec![None, up, down, None, again, None, None, Some(1.0)]
        };
        assert_eq!(rates(json!(null)), some([2.0, -125.0, -0.5]));
        assert_eq!(rates(json!("resets")), some([2.0, 2.0, 0.5]));
        assert_eq!(rates(json!({ "wraps_at": 256 })), some([2.0, 3.0, 63.5]));
        let mut beyond = some([2.0, 0.0, 24.5]);
        beyond[2] = None;
        assert_eq!(rates(json!({ "wraps_at": 100 })), beyond);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(10, 200, TimeDomain::Logical);
        let (x, times) = (input.numbers("x"), input.times());
        let config = json!({ "columns": ["x"], "max_gap": 40 });
        let outcome = sameness("rate", &config, &input);
        let mut expected = vec![None; input.len()];
        for rows in input.by_key().values() {
            let there: Vec<usize> = rows.iter().copied().filter(|&r| x[r].is_some()).collect();
            for pair in there.windows(2) {
                let dt = times[pair[1]] - times[pair[0]];
                let change = x[pair[1]].unwrap() - x[pair[0]].unwrap();
                expected[pair[1]] = (dt > 0 && dt <= 40).then(|| change / dt as f64);
            }
        }
        for (row, got) in outcome.rows.iter().zip(outcome.numbers("x_rate")) {
            assert_eq!(got, expected[usize::try_from(row.position).unwrap()]);
        }
    }

    #[test]
    fn the_unit_is_by_time() {
        let mut columns = utc("m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("kW.h"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let unit = |config: Value| {
            let output = plan("rate", &config, &input).output;
            output.column("x_rate").unwrap().unit.clone().unwrap().code().to_owned()
        };
        assert_eq!(unit(json!({ "columns": ["x"] })), "kW.h/s");
        assert_eq!(unit(json!({ "columns": ["x"], "per": "hour" })), "kW");
    }

    #[test]
    fn says_what_is_wrong() {
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["q"], "per": "minute", "max_gap": "1s",
                    "counter": { "wraps_at": 0 } }),
                &[
                    "per: the event time is a count",
                    "columns[0]: there is no column 'q'",
                    "max_gap: '1s' is a duration, but the event time is a count",
                    "counter.wraps_at: no counter has 0 values",
                ],
            ),
            (json!({ "columns": [] }), &["columns: no column is named"]),
        ];
        let input = logical("m,t,x\n");
        for (config, expected) in cases {
            assert_eq!(try_plan("rate", config, &input.schema).unwrap_err(), *expected, "{config}");
        }
    }
}
