//! Moving average: the mean of the last rows, or of the rows of the last so much time.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its average (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   the rows of the window of each key: `rows - 1`, or those of `duration`, at most `max_rows`
//! Late    honours `late: { correct }`
//! Errors  with `duration`, a row whose window holds `max_rows` already goes to the dead letters as `window_full`
//! Source  pandas `rolling(rows, min_periods)` and `rolling(duration, min_periods)`, but a null stays null
//!
//! The window trails: `rows` rows up to this one, or the rows in `(t - duration, t]` that came before this one.
//! `rows` counts rows, `min_rows` values that are not null. The window is summed anew for every row, in order:
//! a running sum would be faster and depend on its past by rounding.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::flags::Flagged;
use crate::mistakes::Mistakes;
use crate::moments::mean_of;
use crate::smoothing::Smoothed;
use crate::trailing::{Reach, Trail, View, Windowed, planned};

/// Smooths columns by the mean of a trailing window. Exactly one of `rows` and `duration` says how long it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovingAverageConfig {
    /// The columns to smooth.
    pub columns: Vec<String>,
    /// The number of rows of the window, the current one included.
    #[serde(default)]
    pub rows: Option<usize>,
    /// The length of the window, such as `30s`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// The average is null where the window has fewer values than this; 1 unless given.
    #[serde(default = "one")]
    pub min_rows: usize,
    /// Most rows that a window of `duration` may hold; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the averages, by column. Left out: the average replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn one() -> usize {
    1
}

/// The kind `moving_average`.
#[derive(Debug, Clone, Copy)]
pub struct MovingAverage;

impl OperatorKind for MovingAverage {
    type Config = MovingAverageConfig;

    const NAME: &'static str = "moving_average";
    const SUMMARY: &'static str =
        "smooths columns by the mean of the last rows or the last so much time";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str =
        "smooth: { from: readings, moving_average: { columns: [vibration], rows: 20 } }";

    fn plan(
        config: &MovingAverageConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let trail = mistakes.all(Trail::plan(config.reach(), input.domain()));
        let (columns, trail) = mistakes.or(columns.zip(trail))?;
        let flags = Flagged::none(&columns);
        let mean = Mean { min_rows: config.min_rows };
        Ok(planned(input, columns, flags, trail, mean))
    }
}

impl MovingAverageConfig {
    fn reach(&self) -> Reach {
        let MovingAverageConfig { rows, duration, max_rows, min_rows, .. } = *self;
        Reach { rows, duration, max_rows, min_rows }
    }
}

/// The mean of the values that are not missing.
#[derive(Debug)]
struct Mean {
    min_rows: usize,
}

impl Windowed for Mean {
    type Digest = ();

    fn result(&self, (): &(), view: View<'_>) -> (f64, bool) {
        if view.current().is_nan() {
            return (f64::NAN, false);
        }
        let (mean, n) = mean_of(view.values);
        (if n >= self.min_rows { mean } else { f64::NAN }, false)
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
    fn agrees_with_pandas() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let columns = ["x", "y"];
        let config = json!({ "columns": columns, "rows": 5, "min_rows": 2 });
        let expected = include_str!("../reference/moving_average_rows.csv");
        check("moving_average", &config, &readings, &utc(expected));
        let config = json!({ "columns": columns, "duration": "10s" });
        let expected = include_str!("../reference/moving_average_duration.csv");
        check("moving_average", &config, &readings, &utc(expected));
    }

    #[test]
    fn the_window_is_open_at_its_start() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,3\na,1,5\na,2,7\na,2,1\na,9,4\n");
        let expected = "m,t,x,y\na,0,3,3\na,1,5,4\na,2,7,6\na,2,1,4.333333333333333\na,9,4,4\n";
        let config = json!({ "columns": ["x"], "duration": 2, "as": { "x": "y" } });
        check("moving_average", &config, &input, &Table::parse(TimeDomain::Logical, expected));
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,1\na,0,3\na,0,5\na,1,7\na,9,4\n");
        let config = json!({ "columns": ["x"], "duration": 2, "max_rows": 2 });
        let outcome = sameness("moving_average", &config, &input);
        assert_eq!(outcome.numbers("x"), [Some(1.0), Some(2.0), Some(4.0)]);
        let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.2, d.3)).collect();
        assert_eq!(dead, [(Some(0), Some(2), "window_full"), (Some(1), Some(3), "window_full")]);
        assert_eq!((outcome.account.used, outcome.account.dead), (3, 2));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..4 {
            let input = Table::random(seed, 160, TimeDomain::UtcNanos);
            let config = json!({ "columns": ["x"], "duration": "1500ms", "min_rows": 2 });
            let outcome = sameness("moving_average", &config, &input);
            let (x, times) = (input.numbers("x"), input.times());
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                for (i, &row) in rows.iter().enumerate() {
                    let inside =
                        rows[..=i].iter().filter(|&&r| times[r] > times[row] - 1_500_000_000);
                    let values: Vec<f64> = inside.filter_map(|&r| x[r]).collect();
                    let mean = || values.iter().sum::<f64>() / values.len() as f64;
                    expected[row] = (x[row].is_some() && values.len() >= 2).then(mean);
                }
            }
            for row in &outcome.rows {
                let (got, want) =
                    (row.cells[2].number(), expected[usize::try_from(row.position).unwrap()]);
                assert!(
                    got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9),
                    "{got:?} {want:?}"
                );
                assert_eq!(got.is_some(), want.is_some());
            }
        }
    }

    #[test]
    fn a_huge_value_leaves_nothing_behind() {
        let input = utc("m,t,x\na,0,1e300\na,1,0.1\na,2,0.2\na,3,0.3\n");
        let config = json!({ "columns": ["x"], "rows": 2 });
        let outcome = sameness("moving_average", &config, &input);
        assert_eq!(outcome.numbers("x")[3], Some((0.2 + 0.3) / 2.0));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says how long the window is"]),
            (
                json!({ "columns": ["x"], "rows": 3, "duration": "3s" }),
                &["rows and duration exclude one another"],
            ),
            (
                json!({ "columns": ["q"], "rows": 0 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "rows: '0' is not a number of rows of a window",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 2, "min_rows": 3 }),
                &["min_rows: a window of 2 rows never has 3 values"],
            ),
            (
                json!({ "columns": ["x"], "duration": "1s", "max_rows": 200_000 }),
                &["max_rows: '200000' is not a number of rows of a window"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("moving_average", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
