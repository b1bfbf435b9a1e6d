//! Lag: what a column was some rows, or some time, ago.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column joined by `<column>_lag` (or the name in `as`): its value `rows` rows back, or that
//!         of the newest row at or before `t - duration`; `Float64`, in the column's unit; null where there is no such
//!         row, where its value is null, or where it is longer ago than `max_gap`
//! State   the last `rows` rows of each key, or those of `duration` and one more, at most `max_rows`
//! Late    honours `late: { correct }`
//! Errors  with `duration`, a row whose window holds `max_rows` already goes to the dead letters as `window_full`
//! Source  pandas `shift(rows)`; pandas `merge_asof` of the stream with itself, `duration` later
//!
//! Rows are counted whether their value is null or not. Of rows with equal time the last that has come counts.

use std::collections::BTreeMap;

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::flags::Flagged;
use crate::mistakes::Mistakes;
use crate::shift::{Shift, Wanted};
use crate::smoothing::Smoothed;
use crate::trailing::{Trail, View, Windowed, in_bounds, in_time};
use crate::{channelwise, trailing};

/// What columns were some rows, or some time, ago. Exactly one of `rows` and `duration` says how long.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LagConfig {
    /// The columns to look back at.
    pub columns: Vec<String>,
    /// How many rows back: from 1 to 100,000.
    #[serde(default)]
    pub rows: Option<usize>,
    /// How long ago, such as `1h`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// The result is null where the row found is longer ago than this; with `duration`, at least that.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Most rows that are kept for a `duration`; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the results, by column; `<column>_lag` unless given.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `lag`.
#[derive(Debug, Clone, Copy)]
pub struct Lag;

impl OperatorKind for Lag {
    type Config = LagConfig;

    const NAME: &'static str = "lag";
    const SUMMARY: &'static str = "what columns were some rows, or some time, ago";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = "before: { from: readings, lag: { columns: [temperature], duration: 5m, max_gap: 6m, as: { temperature: temperature_5m } } }";

    fn plan(
        config: &LagConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let LagConfig { columns, rename, .. } = config;
        let columns = mistakes.all(Smoothed::appended(input, columns, rename, "lag", Unit::clone));
        let back = mistakes.all(Back::plan(config, input.domain()));
        let (columns, back) = mistakes.or(columns.zip(back))?;
        Ok(match back {
            Back::Rows(shift) => channelwise::planned(input, columns, None, shift),
            Back::Time(ago, max_rows) => {
                let (flags, trail) =
                    (Flagged::none(&columns), Trail::Behind { length: ago.length, max_rows });
                trailing::planned(input, columns, flags, trail, ago)
            }
        })
    }
}

/// How far to look back.
#[derive(Debug)]
enum Back {
    Rows(Shift),
    Time(Ago, usize),
}

impl Back {
    fn plan(config: &LagConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes = Mistakes::default();
        let max_gap = mistakes.length("max_gap", config.max_gap, domain);
        let back = match (config.rows, config.duration) {
            (Some(rows), None) => {
                let rows = mistakes.one(in_bounds("rows", rows));
                rows.map(|rows| Back::Rows(Shift { wanted: Wanted::Lag, rows, max_gap }))
            }
            (None, Some(duration)) => {
                let in_time = mistakes.all(in_time(duration, config.max_rows, domain));
                if let (Some((length, _)), Some(gap)) = (in_time, max_gap)
                    && gap < length
                {
                    let what = format!("no row at least {duration} old is so new");
                    let error = ConfigError::new("max_gap", what);
                    mistakes.push(error.help("make 'max_gap' at least 'duration'"));
                }
                let max_gap = max_gap.unwrap_or(i64::MAX);
                in_time.map(|(length, rows)| Back::Time(Ago { length, max_gap }, rows))
            }
            (None, None) => {
                let error = ConfigError::new("", "nothing says how far to look back");
                mistakes.push(error.help("add one of rows, duration"));
                None
            }
            (Some(_), Some(_)) => {
                let error = ConfigError::new("", "rows and duration exclude one another");
                mistakes.push(error.help("keep one of them"));
                None
            }
        };
        mistakes.or(back)
    }
}

/// The value so long ago, but not longer than `max_gap`.
#[derive(Debug)]
struct Ago {
    length: i64,
    max_gap: i64,
}

impl Windowed for Ago {
    type Digest = ();

    fn result(&self, (): &(), view: View<'_>) -> (f64, bool) {
        let now = view.times[view.times.len() - 1];
        let age = now.saturating_sub(view.times[0]);
        let found = (self.length..=self.max_gap).contains(&age);
        (if found { view.values[0] } else { f64::NAN }, false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({ "rows": 3 }), include_str!("../reference/lag_rows.csv")),
            (
                json!({ "duration": "5s", "max_gap": "9s" }),
                include_str!("../reference/lag_duration.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("lag", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn ties_nulls_and_gaps() {
        let input = logical("m,t,x\na,0,1\na,1,2\na,1,\na,1,3\na,2,4\nb,3,9\na,9,5\na,11,6\n");
        let by_rows =
            "m,t,x,x_lag\na,0,1,\na,1,2,\na,1,,1\na,1,3,2\na,2,4,\nb,3,9,\na,9,5,\na,11,6,\n";
        let config = json!({ "columns": ["x"], "rows": 2, "max_gap": 4 });
        check("lag", &config, &input, &logical(by_rows));
        let by_time =
            "m,t,x,b\na,0,1,\na,1,2,1\na,1,,1\na,1,3,1\na,2,4,3\nb,3,9,\na,9,5,4\na,11,6,5\n";
        let config = json!({ "columns": ["x"], "duration": 1, "as": { "x": "b" } });
        check("lag", &config, &input, &logical(by_time));
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter() {
        let input = logical("m,t,x\na,0,1\na,5,3\na,6,5\na,7,7\na,11,4\n");
        let config = json!({ "columns": ["x"], "duration": 5, "max_rows": 3 });
        let outcome = sameness("lag", &config, &input);
        assert_eq!(outcome.numbers("x_lag"), [None, Some(1.0), Some(1.0), Some(5.0)]);
        let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.2, d.3)).collect();
        assert_eq!(dead, [(Some(7), Some(3), "window_full")]);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(8, 200, TimeDomain::Logical);
        let (x, times) = (input.numbers("x"), input.times());
        for (config, by_time) in [
            (json!({ "columns": ["x"], "rows": 5, "max_gap": 90 }), false),
            (json!({ "columns": ["x"], "duration": 17, "max_gap": 60 }), true),
        ] {
            let outcome = sameness("lag", &config, &input);
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                for (i, &row) in rows.iter().enumerate() {
                    let age = |r: &usize| times[row] - times[*r];
                    let found = match by_time {
                        false => i.checked_sub(5).map(|i| rows[i]).filter(|r| age(r) <= 90),
                        true => rows[..i].iter().copied().rfind(|r| age(r) >= 17),
                    };
                    let found = found.filter(|r| !by_time || age(r) <= 60);
                    expected[row] = found.and_then(|r| x[r]);
                }
            }
            for (row, got) in outcome.rows.iter().zip(outcome.numbers("x_lag")) {
                assert_eq!(got, expected[usize::try_from(row.position).unwrap()]);
            }
            assert!(expected.iter().flatten().count() > 50);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,x_lag\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["q"] }),
                &["columns[0]: there is no column 'q'", "nothing says how far to look back"],
            ),
            (
                json!({ "columns": ["x"], "rows": 0 }),
                &[
                    "as: column 'x_lag' is there twice",
                    "rows: '0' is not a number of rows of a window",
                ],
            ),
            (
                json!({ "columns": ["x_lag"], "rows": 1, "duration": "1s", "max_gap": "0s" }),
                &["max_gap: '0s' is not above zero", "rows and duration exclude one another"],
            ),
            (
                json!({ "columns": ["x_lag"], "duration": "1h", "max_gap": "5m" }),
                &["max_gap: no row at least 1h old is so new"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("lag", config, &input.schema).unwrap_err(), *expected, "{config}");
        }
    }
}
