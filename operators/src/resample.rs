//! Puts columns onto a grid of times.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  key, event time, the columns as `Float64` in their units; one row a grid point at which some column has a
//!         value, its primary key the key and the event time
//! State   for each key and column the last value, and the values at grid points where another column is still open: at
//!         most `max_gap / every`, and that is at most 100,000
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in is used
//! Source  pandas `reindex(method="ffill", tolerance=max_gap)` for `hold`; `numpy.interp` between neighbours that are no
//!         further apart than `max_gap` for `linear`: `y0 + (y1 - y0) (g - t0) / (t1 - t0)`
//!
//! Grid points are the multiples of `every` from 1970-01-01T00:00Z, or from 0 of a count, as windows are. A null is no
//! point: the line goes to the next value, if that is near enough. Across more than `max_gap` nothing is said: with
//! `gaps: null_row` one row of nulls marks the beginning of the gap, at the grid point behind the last row. A row goes out
//! when the watermark, or a later row of the key, says that nothing before it can come; with `linear` when the next
//! value is there or `max_gap` has passed without one. Of values of one time the last counts.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Extent, Family, LateSupport, OperatorKind, Planned, PrimaryKey, Resolver,
    Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, only, output};
use crate::gridded::{Feed, Gaps, Grid, Gridded, Method, STATE_VERSION};

/// Puts columns onto a grid of times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResampleConfig {
    /// The columns to put onto the grid; others are left out.
    pub columns: Vec<String>,
    /// How far grid points are apart: `1s`; a number where the event time is a count.
    pub every: Extent,
    /// What is between two values: `hold` the last, or a `linear` line to the next.
    pub method: Method,
    /// The longest stretch that a value is held or a line drawn across; at most 100,000 times `every`.
    pub max_gap: Extent,
    /// What comes out where no value is known: `skip` (unless given) nothing, `null_row` one row of nulls where it begins.
    #[serde(default)]
    pub gaps: Gaps,
}

/// The kind `resample`.
#[derive(Debug, Clone, Copy)]
pub struct Resample;

impl OperatorKind for Resample {
    type Config = ResampleConfig;

    const NAME: &'static str = "resample";
    const SUMMARY: &'static str = "puts columns onto a grid of times";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = "even: { from: readings, resample: { columns: [vibration, temperature], every: 500ms, method: linear, max_gap: 10s } }";

    fn plan(
        config: &ResampleConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let mut places = Vec::new();
        for (i, name) in config.columns.iter().enumerate() {
            match numeric(input, &format!("columns[{i}]"), name) {
                Ok(place) => places.push(place),
                Err(e) => errors.push(e),
            }
        }
        let lengths = (config.every, config.max_gap);
        let grid = Grid::plan(lengths, config.method, config.gaps, input.domain());
        let values = places.iter().map(|&c| {
            let column = &input.columns()[c];
            Column::new(column.name.as_str(), DataType::Float64).with_unit(column.unit.clone())
        });
        let schema = grid_schema(input, values).map_err(|e| e.under("columns"));
        match (grid, schema) {
            (Ok(grid), Ok(schema)) if errors.is_empty() => {
                Ok(planned(input, schema, grid, &Feed::Columns(places)))
            }
            (grid, schema) => {
                errors.extend(grid.err().into_iter().flatten());
                errors.extend(schema.err());
                Err(errors)
            }
        }
    }
}

/// Key, event time and `values`, with one row a key and time.
pub(crate) fn grid_schema(
    input: &Schema,
    values: impl Iterator<Item = Column>,
) -> Result<Schema, ConfigError> {
    let kept = input.key().iter().copied().chain([input.time()]);
    let mut columns: Vec<Column> = kept.map(|c| input.columns()[c].clone()).collect();
    let time = columns.len() - 1;
    columns.extend(values);
    let primary_key = PrimaryKey { columns: (0..=time).collect(), position: false };
    output(columns, (0..time).collect(), time, primary_key)
}

pub(crate) fn planned(input: &Schema, output: Schema, grid: Grid, feed: &Feed) -> Planned {
    let (input, schema, feed) = (input.clone(), output.clone(), feed.clone());
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            Ok(Box::new(Gridded::new(input.clone(), schema.clone(), grid, feed.clone())))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::{TimeDomain, Unit};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, check_ahead, sameness, sameness_ahead, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_pandas_and_numpy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let mut config = json!({ "columns": ["x", "y"], "every": "1s", "max_gap": "5s" });
        config["method"] = json!("hold");
        check("resample", &config, &readings, &utc(include_str!("../reference/resample_hold.csv")));
        config["method"] = json!("linear");
        let expected = utc(include_str!("../reference/resample_linear.csv"));
        check_ahead("resample", &config, &readings, &expected, 6_000_000_000);
    }

    #[test]
    fn the_grid_starts_at_zero_and_holds_until_the_gap() {
        let input = logical("m,t,x\na,-7,1\na,3,2\na,5,3\na,5,4\na,40,5\n");
        let config = json!({ "columns": ["x"], "every": 5, "method": "hold", "max_gap": 12 });
        let expected = "m,t,x\na,-5,1\na,0,1\na,5,4\na,10,4\na,15,4\na,40,5\na,45,5\na,50,5\n";
        check("resample", &config, &input, &logical(expected));
    }

    #[test]
    fn a_line_is_never_drawn_across_a_gap() {
        let input = logical("m,t,x\na,0,0\na,4,8\na,14,28\na,25,0\na,30,\na,35,10\n");
        let mut config = json!({ "columns": ["x"], "every": 2, "method": "linear", "max_gap": 10 });
        let expected = "m,t,x\na,0,0\na,2,4\na,4,8\na,6,12\na,8,16\na,10,20\na,12,24\na,14,28\na,26,1\na,28,3\na,30,5\na,32,7\na,34,9\n";
        check_ahead("resample", &config, &input, &logical(expected), 12);
        config["gaps"] = json!("null_row");
        let expected = expected.replace("a,26", "a,16,\na,26") + "a,36,\n";
        check_ahead("resample", &config, &input, &logical(&expected), 12);
    }

    #[test]
    fn columns_have_gaps_of_their_own() {
        let input = logical("m,t,x,y\na,0,1,5\na,2,2,\na,4,3,\na,6,4,9\nb,1,,2\n");
        let config = json!({ "columns": ["x", "y"], "every": 1, "method": "hold", "max_gap": 2, "gaps": "null_row" });
        let expected = "m,t,x,y\na,0,1,5\na,1,1,5\na,2,2,5\na,3,2,\na,4,3,\na,5,3,\na,6,4,9\na,7,4,9\na,8,4,9\na,9,,\nb,1,,2\nb,2,,2\nb,3,,2\nb,4,,\n";
        check("resample", &config, &input, &logical(expected));
    }

    #[test]
    fn the_line_goes_to_the_first_of_a_time_and_leaves_from_the_last() {
        let input = logical("m,t,x\na,0,0\na,4,4\na,4,10\na,8,2\na,8,0\n");
        let config = json!({ "columns": ["x"], "every": 2, "method": "linear", "max_gap": 9 });
        let expected = "m,t,x\na,0,0\na,2,2\na,4,10\na,6,6\na,8,0\n";
        check_ahead("resample", &config, &input, &logical(expected), 11);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let input = logical(&format!("m,t,x\na,{},1\nb,{},2\n", i64::MIN, i64::MAX));
        for method in ["hold", "linear"] {
            let config = json!({ "columns": ["x"], "every": 7, "method": method, "max_gap": 70 });
            let outcome = sameness("resample", &config, &input);
            assert!(outcome.rows.iter().all(|r| r.time < 0), "{:?}", outcome.rows);
        }
    }

    /// The value of `column` at `g` from scratch.
    fn oracle(points: &[(i64, f64)], g: i64, max_gap: i64, linear: bool) -> Option<f64> {
        let before = points.iter().rfind(|p| p.0 <= g)?;
        if !linear {
            return (g - before.0 <= max_gap).then_some(before.1);
        }
        if before.0 == g {
            return Some(before.1);
        }
        let after = points.iter().find(|p| p.0 > g)?;
        let part = (g - before.0) as f64 / (after.0 - before.0) as f64;
        (after.0 - before.0 <= max_gap).then_some(before.1 + (after.1 - before.1) * part)
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, every, max_gap) in [(1, 3, 30), (3, 13, 40), (4, 50, 20)] {
            for linear in [false, true] {
                let input = Table::random(seed, 70, TimeDomain::Logical);
                let method = if linear { "linear" } else { "hold" };
                let config = json!({ "columns": ["x", "y"], "every": every, "method": method, "max_gap": max_gap });
                let outcome = sameness_ahead(
                    "resample",
                    &config,
                    &input,
                    if linear { max_gap + every } else { 0 },
                );
                let (times, x, y) = (input.times(), input.numbers("x"), input.numbers("y"));
                let mut want = Vec::new();
                for (key, rows) in input.by_key() {
                    let points = |of: &[Option<f64>]| -> Vec<(i64, f64)> {
                        rows.iter().filter_map(|&r| Some((times[r], of[r]?))).collect()
                    };
                    let (x, y) = (points(&x), points(&y));
                    let end = times[rows[rows.len() - 1]] + max_gap + every;
                    for g in (times[rows[0]]..=end).filter(|g| g.rem_euclid(every) == 0) {
                        let at = |points: &[(i64, f64)]| oracle(points, g, max_gap, linear);
                        let (x, y) = (at(&x), at(&y));
                        if x.is_some() || y.is_some() {
                            want.push((key.clone(), g, x, y));
                        }
                    }
                }
                let mut got: Vec<_> = outcome
                    .rows
                    .iter()
                    .map(|r| {
                        let crate::testing::Cell::Text(key) = &r.cells[0] else { panic!("a key") };
                        (key.clone(), r.time, r.cells[2].number(), r.cells[3].number())
                    })
                    .collect();
                got.sort_by(|a, b| a.partial_cmp(b).unwrap());
                assert_eq!(got, want, "{config}");
            }
        }
    }

    #[test]
    fn late_rows_correct_what_is_behind_it() {
        let input = Table::random(21, 120, TimeDomain::Logical);
        let window = json!({ "tumbling": 20, "features": { "x": ["mean", "count"] } });
        for (kind, config) in [
            (
                "resample",
                json!({ "columns": ["x"], "every": 4, "method": "linear", "max_gap": 30, "gaps": "null_row" }),
            ),
            ("fill", json!({ "columns": ["x"], "method": "linear", "max_gap": 30 })),
            ("swinging_door", json!({ "column": "x", "deviation": 0.5, "max_gap": 40 })),
        ] {
            let first = crate::testing::plan(kind, &config, &input.schema);
            let second = crate::testing::plan("window", &window, &first.output);
            crate::testing::late_rows_correct(&[first, second], &input);
        }
    }

    #[test]
    fn units_stay_and_the_key_and_time_tell_rows_apart() {
        let mut columns = utc("m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": ["x"], "every": "1s", "method": "hold", "max_gap": "5s" });
        let output = crate::testing::plan("resample", &config, &input).output;
        assert_eq!(output.column("x").unwrap().unit, Some(Unit::new("mm/s")));
        assert_eq!(output.primary_key(), &PrimaryKey { columns: vec![0, 1], position: false });
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": [], "every": "0s", "method": "hold", "max_gap": 5 }),
                &[
                    "columns: no column is named",
                    "every: '0s' is not above zero",
                    "max_gap: '5' has no unit, but the event time is a timestamp",
                ],
            ),
            (
                json!({ "columns": ["s", "m", "z"], "every": "1ms", "method": "hold", "max_gap": "1h" }),
                &[
                    "columns[0]: column 's' is Utf8, not a number",
                    "columns[1]: column 'm' is part of the key",
                    "columns[2]: there is no column 'z'",
                    "max_gap: more than 100000 times 1ms fit in 1h",
                ],
            ),
            (
                json!({ "columns": ["x", "x"], "every": "1s", "method": "hold", "max_gap": "1s" }),
                &["columns: column 'x' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("resample", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
