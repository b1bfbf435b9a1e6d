//! Hampel filter: replaces values that are far from the median of a trailing window.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows; in each column (or beside it under the name in `as`) an outlier is replaced by the median,
//!         every other value is what it was, `Float64`, in the column's unit; a null stays null. `flag` adds a
//!         column that is true where a value was replaced
//! State   the rows of the window of each key: `rows - 1`, or those of `duration`, at most `max_rows`; beside them, in
//!         memory only, the same values in order of size
//! Late    honours `late: { correct }`
//! Errors  with `duration`, a row whose window holds `max_rows` already goes to the dead letters as `window_full`
//! Source  Hampel 1974; the identifier of Pearson 2002, trailing instead of centred
//!
//! With `m` the median of the window and `s = scale * median(|x_i - m|)`, a value `x` is an outlier where
//! `|x - m| > n_sigmas * s` and `|x - m| > min_deviation`. The scale 1.4826 makes `s` the standard deviation of
//! normal values. The window holds the values as they came, the current one included, not their replacements; nulls
//! in it are skipped. Where more than half of its values are equal, `s` is 0 and any other value an outlier: give a
//! quantised or resting sensor a `min_deviation` of a step or two.

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

/// Replaces outliers by the median of a trailing window. Exactly one of `rows` and `duration` says how long it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HampelConfig {
    /// The columns to clean.
    pub columns: Vec<String>,
    /// The number of rows of the window, the current one included; from 1 to 100,000.
    #[serde(default)]
    pub rows: Option<usize>,
    /// The length of the window, such as `30s`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// How many standard deviations from the median are too many; 0 or above, 3 unless given.
    #[serde(default = "three_sigmas")]
    pub n_sigmas: f64,
    /// What makes the median distance a standard deviation; above 0, 1.4826 unless given, which is right for normal
    /// values.
    #[serde(default = "normal_scale")]
    pub scale: f64,
    /// A value this near to the median, in the column's unit, is no outlier; 0 or above, 0 unless given.
    #[serde(default)]
    pub min_deviation: f64,
    /// Nothing is an outlier where the window has fewer values than this; 3 unless given.
    #[serde(default = "three")]
    pub min_rows: usize,
    /// Most rows that a window of `duration` may hold; 10,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
    /// Names for the cleaned values, by column. Left out: they replace their column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
    /// Names for columns that are true where a value was replaced, by column. Left out: there are none.
    #[serde(default)]
    pub flag: BTreeMap<String, String>,
}

fn three_sigmas() -> f64 {
    3.0
}

fn normal_scale() -> f64 {
    1.4826
}

fn three() -> usize {
    3
}

/// The kind `hampel`.
#[derive(Debug, Clone, Copy)]
pub struct Hampel;

impl OperatorKind for Hampel {
    type Config = HampelConfig;

    const NAME: &'static str = "hampel";
    const SUMMARY: &'static str = "replaces outliers by the median of a trailing window";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "clean: { from: readings, hampel: { columns: [vibration], rows: 15, flag: { vibration: spike } } }";

    fn plan(
        config: &HampelConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let HampelConfig { rows, duration, max_rows, min_rows, .. } = *config;
        let reach = Reach { rows, duration, max_rows, min_rows };
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let flags = columns.as_ref().and_then(|columns| {
            mistakes.all(Flagged::plan(columns, &config.columns, &config.flag))
        });
        let trail = mistakes.all(Trail::plan(reach, input.domain()));
        let limits = mistakes.all(Limits::plan(config));
        let planned_parts = columns.zip(flags).zip(trail).zip(limits);
        let (((columns, flags), trail), limits) = mistakes.or(planned_parts)?;
        Ok(planned(input, columns, flags, trail, limits))
    }
}

/// What is too far.
#[derive(Debug)]
struct Limits {
    /// `n_sigmas * scale`: times the median distance.
    times_distance: f64,
    min_deviation: f64,
    min_rows: usize,
}

impl Limits {
    fn plan(config: &HampelConfig) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes = Mistakes::default();
        let mut at_least_zero = |at: &str, value: f64| {
            if !(value >= 0.0 && value.is_finite()) {
                let error = ConfigError::new(at, format!("'{value}' is not a distance"));
                mistakes.push(error.help("give a number of at least 0"));
            }
        };
        at_least_zero("n_sigmas", config.n_sigmas);
        at_least_zero("min_deviation", config.min_deviation);
        if !(config.scale > 0.0 && config.scale.is_finite()) {
            let error = ConfigError::new("scale", format!("'{}' is not a scale", config.scale));
            mistakes.push(error.help("give a number above 0; 1.4826 is right for normal values"));
        }
        mistakes.or(Some(Limits {
            times_distance: config.n_sigmas * config.scale,
            min_deviation: config.min_deviation,
            min_rows: config.min_rows,
        }))
    }
}

impl Windowed for Limits {
    type Digest = Sorted;

    fn enter(&self, sorted: &mut Sorted, value: f64) {
        sorted.insert(value);
    }

    fn leave(&self, sorted: &mut Sorted, value: f64) {
        sorted.remove(value);
    }

    fn result(&self, sorted: &Sorted, view: View<'_>) -> (f64, bool) {
        let x = view.current();
        if x.is_nan() || sorted.len() < self.min_rows {
            return (x, false);
        }
        let median = sorted.median();
        let distance = (x - median).abs();
        let outlier = distance > self.min_deviation
            && distance > self.times_distance * sorted.median_distance(median);
        (if outlier { median } else { x }, outlier)
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_numpy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let config = json!({ "columns": ["x", "y"], "rows": 7, "n_sigmas": 1.5, "flag": { "x": "x_outlier", "y": "y_outlier" } });
        let expected = include_str!("../reference/hampel_rows.csv");
        check("hampel", &config, &readings, &utc(expected));
        let config = json!({ "columns": ["x", "y"], "duration": "10s", "n_sigmas": 1, "scale": 1.2,
            "min_rows": 4, "min_deviation": 0.75, "flag": { "y": "y_outlier" } });
        let expected = include_str!("../reference/hampel_duration.csv");
        check("hampel", &config, &readings, &utc(expected));
    }

    #[test]
    fn a_spike_is_replaced_and_flagged() {
        let input = logical("m,t,x,y\na,0,1,0\na,1,1.5,0\na,1,2,1\na,2,90,0\na,3,,1\na,4,1.75,0\n");
        let expected = "m,t,x,y,clean,spike:bool\na,0,1,0,1,false\na,1,1.5,0,1.5,false\na,1,2,1,2,false\n\
                        a,2,90,0,1.75,true\na,3,,1,,false\na,4,1.75,0,1.75,false\n";
        let config = json!({ "columns": ["x"], "rows": 5, "as": { "x": "clean" }, "flag": { "x": "spike" } });
        check("hampel", &config, &input, &logical(expected));
    }

    #[test]
    fn a_step_of_a_resting_sensor_is_no_outlier_with_min_deviation() {
        let input = logical("m,t,x\na,0,4\na,1,4\na,2,4\na,3,5\n");
        let replaced = |config: Value| sameness("hampel", &config, &input).numbers("x")[3];
        assert_eq!(replaced(json!({ "columns": ["x"], "rows": 4 })), Some(4.0));
        let config = json!({ "columns": ["x"], "rows": 4, "min_deviation": 1 });
        assert_eq!(replaced(config), Some(5.0));
    }

    #[test]
    fn a_row_without_room_is_a_dead_letter_and_has_no_flag() {
        let input = logical("m,t,x\na,0,1\na,0,3\na,0,5\na,9,4\n");
        let config =
            json!({ "columns": ["x"], "duration": 2, "max_rows": 2, "flag": { "x": "f" } });
        let outcome = sameness("hampel", &config, &input);
        assert_eq!(outcome.column("f"), vec![Cell::Bool(false); 3]);
        assert_eq!(outcome.dead.len(), 1);
        assert_eq!(outcome.dead[0].3, "window_full");
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(5, 200, TimeDomain::UtcNanos);
        let config = json!({ "columns": ["y"], "rows": 6, "n_sigmas": 1, "flag": { "y": "f" } });
        let outcome = sameness("hampel", &config, &input);
        let y = input.numbers("y");
        let median = |mut v: Vec<f64>| {
            v.sort_by(f64::total_cmp);
            (v[(v.len() - 1) / 2] + v[v.len() / 2]) / 2.0
        };
        let mut expected = vec![(None, false); input.len()];
        for rows in input.by_key().values() {
            for (i, &row) in rows.iter().enumerate() {
                let window = &rows[(i + 1).saturating_sub(6)..=i];
                let values: Vec<f64> = window.iter().filter_map(|&r| y[r]).collect();
                let Some(x) = y[row] else { continue };
                let m = median(values.clone());
                let s = 1.4826 * median(values.iter().map(|v| (v - m).abs()).collect());
                let out = values.len() >= 3 && (x - m).abs() > s;
                expected[row] = (Some(if out { m } else { x }), out);
            }
        }
        assert!(expected.iter().filter(|e| e.1).count() > 20);
        let got = outcome.numbers("y").into_iter().zip(outcome.column("f"));
        for (row, (value, flag)) in outcome.rows.iter().zip(got) {
            let want = expected[usize::try_from(row.position).unwrap()];
            assert_eq!((value, flag), (want.0, Cell::Bool(want.1)));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,y\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["x", "q"], "n_sigmas": -1, "scale": 0, "min_deviation": -0.5 }),
                &[
                    "columns[1]: there is no column 'q'",
                    "nothing says how long the window is",
                    "n_sigmas: '-1' is not a distance",
                    "min_deviation: '-0.5' is not a distance",
                    "scale: '0' is not a scale",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 5, "flag": { "y": "f" } }),
                &["flag.y: column 'y' is not among 'columns'"],
            ),
            (
                json!({ "columns": ["x"], "rows": 5, "flag": { "x": "y" } }),
                &["flag: column 'y' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("hampel", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
