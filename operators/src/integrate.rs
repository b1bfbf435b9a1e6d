//! Integral: the area under a column since the start of its key, or since a reset.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`; the column of `reset_on` is true or false
//! Output  the same rows, each column joined by `<column>_integral` (or the name in `as`), `Float64`, in the column's unit
//!         times seconds, minutes or hours (times counts where the event time is a count); null where the
//!         value is null
//! State   the integral of each column, its last value and the event time of it, for each key
//! Late    honours `late: { correct }`; a late row changes every integral of its key that follows
//! Errors  none: a row that came in goes out
//! Source  the trapezoidal rule; SciPy `cumulative_trapezoid(x, t, initial=0)`
//!
//! From value to value `(t - t_last) (x + x_last) / 2` is added; the first value has the integral 0. Over a null the line
//! goes on to the next value. What lies between values that are further apart than `max_gap` is not known and adds
//! nothing. A row where `reset_on` is true begins at 0 again.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::{Filter, planned};
use crate::columns::only;
use crate::flags::flag;
use crate::mistakes::Mistakes;
use crate::per::{Per, Span};
use crate::smoothing::Smoothed;

/// The area under columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntegrateConfig {
    /// The columns to integrate.
    pub columns: Vec<String>,
    /// What time is counted in: `second` unless given; `hour` makes kWh of kW. Not where the event time is a count.
    #[serde(default)]
    pub per: Option<Per>,
    /// Nothing is added where the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false, such as a maintenance flag: a row where it is true begins at 0. Null is false.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names for the integrals, by column; `<column>_integral` unless given.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `integrate`.
#[derive(Debug, Clone, Copy)]
pub struct Integrate;

impl OperatorKind for Integrate {
    type Config = IntegrateConfig;

    const NAME: &'static str = "integrate";
    const SUMMARY: &'static str = "the area under columns over time, until a reset";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = "work: { from: vacuum, integrate: { columns: [current], per: hour, max_gap: 1m, as: { current: charge } } }";

    fn plan(
        config: &IntegrateConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let IntegrateConfig { columns, rename, .. } = config;
        let mut mistakes = Mistakes::default();
        let span = mistakes.one(Span::plan(input, config.per));
        let unit =
            |unit: &Unit| span.as_ref().map_or_else(|| unit.clone(), |span| span.times(unit));
        let columns = mistakes.all(Smoothed::appended(input, columns, rename, "integral", unit));
        let reset_on = config.reset_on.as_ref();
        let resets = reset_on.and_then(|name| mistakes.one(flag(input, "reset_on", name)));
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        let (columns, span) = mistakes.or(columns.zip(span))?;
        let area = Area { ticks: span.ticks, max_gap: max_gap.unwrap_or(i64::MAX) };
        Ok(planned(input, columns, resets, area))
    }
}

#[derive(Debug)]
struct Area {
    /// Event time in what it is counted in.
    ticks: f64,
    max_gap: i64,
}

/// The integral up to the last value.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sum {
    at: i64,
    x: f64,
    area: f64,
}

impl Filter for Area {
    type State = Option<Sum>;
    const STATE_VERSION: u32 = 1;

    fn filter(
        &self,
        times: &[i64],
        values: &[f64],
        state: &mut Option<Sum>,
        results: &mut Vec<f64>,
    ) {
        let mut sum = *state;
        results.extend(times.iter().zip(values).map(|(&at, &x)| {
            if x.is_nan() {
                return x;
            }
            let area = sum.map_or(0.0, |sum| self.add(sum, at, x));
            sum = Some(Sum { at, x, area });
            area
        }));
        *state = sum;
    }
}

impl Area {
    fn add(&self, sum: Sum, at: i64, x: f64) -> f64 {
        let dt = at.saturating_sub(sum.at);
        if dt > self.max_gap {
            return sum.area;
        }
        #[expect(clippy::cast_precision_loss, reason = "beyond 104 days nanoseconds are lost")]
        let dt = dt as f64;
        sum.area + dt / self.ticks * f64::midpoint(sum.x, x)
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
    fn agrees_with_scipy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({}), include_str!("../reference/integrate_second.csv")),
            (
                json!({ "per": "minute", "max_gap": "6s" }),
                include_str!("../reference/integrate_max_gap.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("integrate", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn ties_nulls_gaps_and_resets() {
        let input = logical(
            "m,t,x,f:bool\na,0,1,true\na,2,3,\na,2,5,false\na,3,,\na,4,1,\nb,5,9,\na,9,1,\n\
             a,10,3,true\na,11,5,false\na,12,,true\na,13,7,\na,14,7,\n",
        );
        let expected = logical(
            "m,t,x,f:bool,area\na,0,1,true,0\na,2,3,,4\na,2,5,false,4\na,3,,,\na,4,1,,10\nb,5,9,,0\n\
             a,9,1,,10\na,10,3,true,0\na,11,5,false,4\na,12,,true,\na,13,7,,0\na,14,7,,7\n",
        );
        let config =
            json!({ "columns": ["x"], "max_gap": 3, "reset_on": "f", "as": { "x": "area" } });
        check("integrate", &config, &input, &expected);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(11, 200, TimeDomain::Logical);
        let (y, times) = (input.numbers("y"), input.times());
        let config = json!({ "columns": ["y"], "max_gap": 40 });
        let outcome = sameness("integrate", &config, &input);
        let mut expected = vec![None; input.len()];
        for rows in input.by_key().values() {
            let there: Vec<usize> = rows.iter().copied().filter(|&r| y[r].is_some()).collect();
            for (i, &row) in there.iter().enumerate() {
                let pairs = there[..=i].windows(2).map(|p| (times[p[1]] - times[p[0]], p));
                let near = pairs.filter(|(dt, _)| *dt <= 40);
                let areas =
                    near.map(|(dt, p)| dt as f64 * (y[p[0]].unwrap() + y[p[1]].unwrap()) / 2.0);
                expected[row] = Some(areas.sum::<f64>());
            }
        }
        for (row, got) in outcome.rows.iter().zip(outcome.numbers("y_integral")) {
            let want = expected[usize::try_from(row.position).unwrap()];
            assert_eq!(got.is_some(), want.is_some());
            let close = |(a, b): (f64, f64)| (a - b).abs() <= 1e-9 * b.abs().max(1e3);
            assert!(got.zip(want).is_none_or(close), "{got:?} {want:?}");
        }
    }

    #[test]
    fn the_unit_is_times_time() {
        let mut columns = utc("m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("kW"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": ["x"], "per": "hour" });
        let output = plan("integrate", &config, &input).output;
        assert_eq!(output.column("x_integral").unwrap().unit, Some(Unit::new("kW.h")));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,x_integral\n");
        let cases: &[(Value, &[&str])] = &[(
            json!({ "columns": ["x"], "reset_on": "repair", "max_gap": 7 }),
            &[
                "as: column 'x_integral' is there twice",
                "reset_on: there is no column 'repair'",
                "max_gap: '7' has no unit, but the event time is a timestamp",
            ],
        )];
        for (config, expected) in cases {
            let errors = try_plan("integrate", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
