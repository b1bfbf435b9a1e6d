//! Moving median: the middle value of the last rows, or of the rows of the last so much time.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its median (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   the rows of the window of each key: `rows - 1`, or those of `duration`, at most `max_rows`; beside them, in
//!         memory only, the same values in order of size
//! Late    honours `late: { correct }`
//! Errors  with `duration`, a row whose window holds `max_rows` already goes to the dead letters as `window_full`
//! Source  pandas `rolling(rows, min_periods).median()` and `rolling(duration, min_periods).median()`, but a null
//!         stays null
//!
//! The window trails: `rows` rows up to this one, or the rows in `(t - duration, t]` that came before this one.
//! Nulls in it are skipped: `rows` counts rows, `min_rows` values that are not null. Of an even number of values the
//! median is the mean of the two in the middle. A single spike leaves no trace, where a moving average smears it
//! over its window.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::flags::Flagged;
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;
use crate::sorted::Sorted;
use crate::trailing::{Reach, Trail, View, Windowed, planned};

/// Smooths columns by the median of a trailing window. Exactly one of `rows` and `duration` says how long it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovingMedianConfig {
    /// The columns to smooth.
    pub columns: Vec<String>,
    /// The number of rows of the window, the current one included; from 1 to 100,000.
    #[serde(default)]
    pub rows: Option<usize>,
    /// The length of the window, such as `30s`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// The median is null where the window has fewer values than this; 1 unless given.
    #[serde(default = "one")]
    pub min_rows: usize,
    /// Most rows that a window of `duration` may hold; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the medians, by column. Left out: the median replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn one() -> usize {
    1
}

/// The kind `moving_median`.
#[derive(Debug, Clone, Copy)]
pub struct MovingMedian;

impl OperatorKind for MovingMedian {
    type Config = MovingMedianConfig;

    const NAME: &'static str = "moving_median";
    const SUMMARY: &'static str =
        "smooths columns by the median of the last rows or the last so much time";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str =
        "smooth: { from: readings, moving_median: { columns: [vibration], rows: 9 } }";

    fn plan(
        config: &MovingMedianConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let MovingMedianConfig { rows, duration, max_rows, min_rows, .. } = *config;
        let reach = Reach { rows, duration, max_rows, min_rows };
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let trail = mistakes.all(Trail::plan(reach, input.domain()));
        let (columns, trail) = mistakes.or(columns.zip(trail))?;
        let flags = Flagged::none(&columns);
        Ok(planned(input, columns, flags, trail, Median { min_rows }))
    }
}

/// The median of the values that are not missing.
#[derive(Debug)]
struct Median {
    min_rows: usize,
}

impl Windowed for Median {
    type Digest = Sorted;

    fn enter(&self, sorted: &mut Sorted, value: f64) {
        sorted.insert(value);
    }

    fn leave(&self, sorted: &mut Sorted, value: f64) {
        sorted.remove(value);
    }

    fn result(&self, sorted: &Sorted, view: View<'_>) -> (f64, bool) {
        let there = !view.current().is_nan() && sorted.len() >= self.min_rows;
        (if there { sorted.median() } else { f64::NAN }, false)
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
        let config = json!({ "columns": columns, "rows": 6, "min_rows": 2 });
        let expected = include_str!("../reference/moving_median_rows.csv");
        check("moving_median", &config, &readings, &utc(expected));
        let config = json!({ "columns": columns, "duration": "10s" });
        let expected = include_str!("../reference/moving_median_duration.csv");
        check("moving_median", &config, &readings, &utc(expected));
    }

    #[test]
    fn a_spike_leaves_no_trace_and_ties_in_time_come_in_turn() {
        let input =
            Table::parse(TimeDomain::Logical, "m,t,x\na,0,1\na,1,9e9\na,1,2\na,1,\na,2,3\n");
        let expected = "m,t,x\na,0,1\na,1,4500000000.5\na,1,2\na,1,\na,2,3\n";
        let config = json!({ "columns": ["x"], "duration": 2 });
        check("moving_median", &config, &input, &Table::parse(TimeDomain::Logical, expected));
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,1\na,0,3\na,0,5\na,1,7\na,9,4\n");
        let config = json!({ "columns": ["x"], "duration": 2, "max_rows": 2 });
        let outcome = sameness("moving_median", &config, &input);
        assert_eq!(outcome.numbers("x"), [Some(1.0), Some(2.0), Some(4.0)]);
        let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.2, d.3)).collect();
        assert_eq!(dead, [(Some(0), Some(2), "window_full"), (Some(1), Some(3), "window_full")]);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..3 {
            let input = Table::random(seed, 160, TimeDomain::UtcNanos);
            let config = json!({ "columns": ["x"], "duration": "1500ms", "min_rows": 2, "as": { "x": "m" } });
            let outcome = sameness("moving_median", &config, &input);
            let (x, times) = (input.numbers("x"), input.times());
            let mut expected = vec![None; input.len()];
            for rows in input.by_key().values() {
                for (i, &row) in rows.iter().enumerate() {
                    let inside =
                        rows[..=i].iter().filter(|&&r| times[r] > times[row] - 1_500_000_000);
                    let mut values: Vec<f64> = inside.filter_map(|&r| x[r]).collect();
                    values.sort_by(f64::total_cmp);
                    let n = values.len();
                    let there = x[row].is_some() && n >= 2;
                    expected[row] = there.then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0);
                }
            }
            let got = outcome.numbers("m");
            for (row, got) in outcome.rows.iter().zip(got) {
                assert_eq!(got, expected[usize::try_from(row.position).unwrap()]);
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says how long the window is"]),
            (
                json!({ "columns": ["q"], "rows": 0 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "rows: '0' is not a number of rows of a window",
                ],
            ),
            (
                json!({ "columns": ["x"], "duration": "0s", "max_rows": 200_000 }),
                &[
                    "duration: '0s' is not above zero",
                    "max_rows: '200000' is not a number of rows of a window",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 2, "min_rows": 3 }),
                &["min_rows: a window of 2 rows never has 3 values"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("moving_median", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
