//! Monotone: the running minimum or maximum of a column, until it is reset.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`; the column of `reset_on` is true or false
//! Output  the same rows, each column replaced by its least (or greatest) value so far, or joined by it under the name
//!         in `as`, `Float64`, in the column's unit; a null stays null
//! State   the extreme of each column and the event time of its last value, for each key
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  pandas `cummin` and `cummax`
//!
//! `y = min(x, y before)` or `y = max(x, y before)`. A remaining life that only falls, or a wear that only grows, is
//! told so; a repair has to begin it anew, else it stays at the bottom: where `reset_on` is true, what was
//! before the row is forgotten, and the row counts for what follows. A flag that stays up for a while thus
//! lets every value through, and the last row under it is where the new run begins.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::{Filter, planned};
use crate::columns::only;
use crate::flags::flag;
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;

/// The running minimum or maximum of columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonotoneConfig {
    /// The columns to hold.
    pub columns: Vec<String>,
    /// Which extreme: `minimum` for what may only fall, `maximum` for what may only rise.
    pub running: Extreme,
    /// A column of true and false, such as a maintenance flag: a row where it is true begins anew. Null is false.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// It begins anew when the last value is longer ago than this, such as `30d`.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// Which extreme is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Extreme {
    /// The least value.
    Minimum,
    /// The greatest value.
    Maximum,
}

/// The kind `monotone`.
#[derive(Debug, Clone, Copy)]
pub struct Monotone;

impl OperatorKind for Monotone {
    type Config = MonotoneConfig;

    const NAME: &'static str = "monotone";
    const SUMMARY: &'static str = "the running minimum or maximum of columns, until a repair";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "worst: { from: readings, monotone: { columns: [vibration], running: maximum, max_gap: 7d, as: { vibration: worst_vibration } } }";

    fn plan(
        config: &MonotoneConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let reset_on = config.reset_on.as_ref();
        let resets = reset_on.and_then(|name| mistakes.one(flag(input, "reset_on", name)));
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        let columns = mistakes.or(columns)?;
        let running = Running { extreme: config.running, max_gap };
        Ok(planned(input, columns, resets, running))
    }
}

#[derive(Debug)]
struct Running {
    extreme: Extreme,
    max_gap: Option<i64>,
}

/// The extreme so far and when the last value was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Held {
    at: i64,
    y: f64,
}

impl Filter for Running {
    type State = Option<Held>;
    const STATE_VERSION: u32 = 1;

    fn filter(
        &self,
        times: &[i64],
        values: &[f64],
        state: &mut Option<Held>,
        results: &mut Vec<f64>,
    ) {
        let rows = times.iter().zip(values);
        match self.extreme {
            Extreme::Minimum => self.hold(rows, state, results, |x, y| x < y),
            Extreme::Maximum => self.hold(rows, state, results, |x, y| x > y),
        }
    }
}

impl Running {
    fn hold<'a>(
        &self,
        rows: impl Iterator<Item = (&'a i64, &'a f64)>,
        state: &mut Option<Held>,
        results: &mut Vec<f64>,
        beats: impl Fn(f64, f64) -> bool,
    ) {
        let mut held = *state;
        let max_gap = self.max_gap.unwrap_or(i64::MAX);
        results.extend(rows.map(|(&at, &x)| {
            if x.is_nan() {
                return x;
            }
            let kept = held.filter(|h| at.saturating_sub(h.at) <= max_gap && !beats(x, h.y));
            let y = kept.map_or(x, |h| h.y);
            held = Some(Held { at, y });
            y
        }));
        *state = held;
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, late_rows_correct, plan, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let config = json!({ "columns": ["x", "y"], "running": "minimum" });
        let expected = include_str!("../reference/monotone_minimum.csv");
        check("monotone", &config, &readings, &utc(expected));
        let config = json!({ "columns": ["x", "y"], "running": "maximum", "max_gap": "6s" });
        let expected = include_str!("../reference/monotone_max_gap.csv");
        check("monotone", &config, &readings, &utc(expected));
    }

    #[test]
    fn a_repair_begins_anew_even_where_the_value_is_missing() {
        let input = logical(
            "m,t,x,fixed:bool\na,0,5,false\na,1,3,\na,2,4,false\na,2,8,true\na,3,9,false\n\
             b,3,7,true\na,4,,true\na,5,11,false\na,6,2,true\na,7,6,true\na,8,7,false\n",
        );
        let expected = logical(
            "m,t,x,fixed:bool\na,0,5,false\na,1,3,\na,2,3,false\na,2,8,true\na,3,8,false\n\
             b,3,7,true\na,4,,true\na,5,11,false\na,6,2,true\na,7,6,true\na,8,6,false\n",
        );
        let config = json!({ "columns": ["x"], "running": "minimum", "reset_on": "fixed" });
        check("monotone", &config, &input, &expected);
    }

    /// The remaining life of a pump: a moving average of predictions, that never rises and never falls below zero.
    #[test]
    fn post_processing_of_predictions_as_worked_out_by_hand() {
        let (mut table, mut planned) = (
            logical(
                "m,t,rul,fixed:bool\na,0,60,\na,1,70,\na,2,40,\na,3,50,\na,4,-100,\na,5,90,true\na,6,96,\n",
            ),
            Vec::new(),
        );
        let input = table.clone();
        let steps = [
            ("moving_average", json!({ "columns": ["rul"], "rows": 3 })),
            ("monotone", json!({ "columns": ["rul"], "running": "minimum", "reset_on": "fixed" })),
            ("clip", json!({ "columns": ["rul"], "lower": 0 })),
        ];
        let averages = [60.0, 65.0, 170.0 / 3.0, 160.0 / 3.0, -10.0 / 3.0, 40.0 / 3.0, 86.0 / 3.0];
        let minima = [60.0, 60.0, 170.0 / 3.0, 160.0 / 3.0, -10.0 / 3.0, 40.0 / 3.0, 40.0 / 3.0];
        let clipped = [60.0, 60.0, 170.0 / 3.0, 160.0 / 3.0, 0.0, 40.0 / 3.0, 40.0 / 3.0];
        for ((kind, config), expected) in steps.into_iter().zip([averages, minima, clipped]) {
            planned.push(plan(kind, &config, &table.schema));
            let outcome = sameness(kind, &config, &table);
            let got = outcome.numbers("rul");
            for (got, want) in got.iter().zip(expected) {
                assert!((got.unwrap() - want).abs() < 1e-9, "{kind}: {got:?} is not {want}");
            }
            let flags = ["", "", "", "", "", "true", ""];
            let rows = got.iter().enumerate().zip(flags);
            let rows = rows.map(|((t, rul), flag)| format!("a,{t},{:?},{flag}\n", rul.unwrap()));
            table = logical(&format!("m,t,rul,fixed:bool\n{}", rows.collect::<String>()));
        }
        late_rows_correct(&planned, &input);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..3 {
            let input = Table::random(seed, 160, TimeDomain::Logical);
            let config = json!({ "columns": ["y"], "running": "maximum", "max_gap": 30, "as": { "y": "top" } });
            let outcome = sameness("monotone", &config, &input);
            let (y, times) = (input.numbers("y"), input.times());
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                let mut run: Vec<(i64, f64)> = Vec::new();
                for &row in rows.iter().filter(|&&row| y[row].is_some()) {
                    if run.last().is_some_and(|last| times[row] - last.0 > 30) {
                        run.clear();
                    }
                    run.push((times[row], y[row].unwrap()));
                    expected[row] = run.iter().map(|r| r.1).reduce(f64::max);
                }
            }
            for (row, got) in outcome.rows.iter().zip(outcome.numbers("top")) {
                assert_eq!(got, expected[usize::try_from(row.position).unwrap()]);
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["q"], "running": "minimum", "reset_on": "x", "max_gap": "0s" }),
                &[
                    "columns[0]: there is no column 'q'",
                    "reset_on: column 'x' is Float64, not true or false",
                    "max_gap: '0s' is not above zero",
                ],
            ),
            (
                json!({ "columns": ["x"], "running": "minimum", "reset_on": "repair" }),
                &["reset_on: there is no column 'repair'"],
            ),
            (
                json!({ "columns": ["x"], "running": "least" }),
                &["running: unknown variant `least`, expected `minimum` or `maximum`"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("monotone", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
