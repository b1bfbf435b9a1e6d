//! Puts the values of several sensors, each with a rate of its own, onto one grid of times.
//!
//! Input   keyed rows, each with one value and the name of the sensor it is from
//! Output  key, event time, a `Float64` column for each sensor in the unit of the value; one row a grid point at which
//!         some sensor has a value, its primary key the key and the event time
//! State   for each key and sensor the last value, and the values at grid points where another sensor is still open: at
//!         most `max_gap / every`, and that is at most 100,000
//! Late    honours `late: { correct }`
//! Errors  none: a row of a sensor that is not listed, or of none, is left out and counted as `filtered`
//! Source  `numpy.interp` for each sensor, but never across more than `max_gap`:
//!         `y0 + (y1 - y0) (g - t0) / (t1 - t0)`; for `hold` pandas `reindex(method="ffill", tolerance=max_gap)`
//!
//! All is as in `resample`, with the sensors in place of the columns: the grid counts from 1970-01-01T00:00Z (or 0), a
//! null is no value, a row goes out when it is known for all sensors. A sensor that is silent keeps the others waiting
//! until its watermark, which is the key's, says that `max_gap` has passed; its column is null then.

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::gridded::{Feed, Gaps, Grid, Method};
use crate::long::{Long, Series};
use crate::resample::{grid_schema, planned};

/// Puts the values of several sensors onto one grid of times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlignConfig {
    /// The column that names the sensor of a row; it is not part of the key.
    pub by: String,
    /// The column of the values.
    pub value: String,
    /// The sensors that become columns: a list of their names, or names by column, such as `drive_end: "sensor 1"`.
    pub columns: Series,
    /// How far grid points are apart: `1ms`; a number where the event time is a count.
    pub every: Extent,
    /// What is between two values of a sensor: `hold` the last, or a `linear` line to the next.
    pub method: Method,
    /// The longest stretch that a value is held or a line drawn across; at most 100,000 times `every`.
    pub max_gap: Extent,
    /// What comes out where no sensor has a value: `skip` (unless given) nothing, `null_row` one row of nulls where that
    /// begins.
    #[serde(default)]
    pub gaps: Gaps,
}

/// The kind `align`.
#[derive(Debug, Clone, Copy)]
pub struct Align;

impl OperatorKind for Align {
    type Config = AlignConfig;

    const NAME: &'static str = "align";
    const SUMMARY: &'static str = "puts sensors of different rates onto one grid of times";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = r#"aligned:
  from: sensors
  align:
    by: sensor
    value: value
    columns: { drive_end: "sensor 1", fan_end: "sensor 2" }
    every: 1ms
    method: linear
    max_gap: 10ms"#;

    fn plan(
        config: &AlignConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let long = Long::plan(input, &config.by, &config.value, &config.columns);
        let long = long.map_err(|e| errors.extend(e));
        let lengths = (config.every, config.max_gap);
        let grid = Grid::plan(lengths, config.method, config.gaps, input.domain());
        let grid = grid.map_err(|e| errors.extend(e));
        let (Ok(long), Ok(grid)) = (long, grid) else { return Err(errors) };
        let schema = grid_schema(input, long.columns.into_iter());
        let schema = schema.map_err(|e| vec![e.under("columns")])?;
        let feed = Feed::Long { by: long.by, value: long.value, names: long.names };
        Ok(planned(input, schema, grid, &feed))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::{TimeDomain, Unit};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, check_ahead, sameness_ahead, try_plan};

    const MS: i64 = 1_000_000;

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn four_sensors_with_rates_of_their_own_agree_with_numpy() {
        let input = include_str!("../reference/align_sensors.csv");
        let input = Table::parse(TimeDomain::UtcNanos, input);
        let config = json!({
            "by": "sensor", "value": "value", "columns": ["1", "2", "3", "4"],
            "every": "1ms", "method": "linear", "max_gap": "5ms",
        });
        let expected = include_str!("../reference/align_linear.csv");
        let expected = Table::parse(TimeDomain::UtcNanos, expected);
        check_ahead("align", &config, &input, &expected, 6 * MS);
    }

    #[test]
    fn a_sensor_that_is_not_listed_is_left_out() {
        let input =
            logical("m,t,who:string,x\na,0,u,1\na,1,v,2\na,2,w,3\na,2,,4\na,4,u,5\nb,4,w,6\n");
        let config = json!({ "by": "who", "value": "x", "columns": { "first": "u", "second": "v" },
                             "every": 1, "method": "hold", "max_gap": 2 });
        let expected =
            "m,t,first,second\na,0,1,\na,1,1,2\na,2,1,2\na,3,,2\na,4,5,\na,5,5,\na,6,5,\n";
        check("align", &config, &input, &logical(expected));
        let outcome = sameness_ahead("align", &config, &input, 0);
        assert_eq!((outcome.account.used, outcome.account.filtered), (3, 3));
    }

    #[test]
    fn a_silent_sensor_keeps_the_others_waiting_no_longer_than_the_gap() {
        let input =
            logical("m,t,who:int64,x\na,0,1,0\na,0,2,7\na,2,1,2\na,4,1,4\na,9,1,9\na,10,2,17\n");
        let config = json!({ "by": "who", "value": "x", "columns": { "u": "1", "v": "2" },
                             "every": 1, "method": "linear", "max_gap": 5, "gaps": "null_row" });
        let expected = "m,t,u,v\na,0,0,7\na,1,1,\na,2,2,\na,3,3,\na,4,4,\na,5,5,\na,6,6,\na,7,7,\na,8,8,\na,9,9,\na,10,,17\na,11,,\n";
        check_ahead("align", &config, &input, &logical(expected), 7);
    }

    #[test]
    fn the_columns_are_in_the_unit_of_the_value() {
        let mut columns = logical("m,t,who:string,x\n").schema.columns().to_vec();
        columns[3].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "by": "who", "value": "x", "columns": ["u"],
                             "every": 1, "method": "hold", "max_gap": 2 });
        let output = crate::testing::plan("align", &config, &input).output;
        assert_eq!(output.column("u").unwrap().unit, Some(Unit::new("mm/s")));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = logical("m,t,who:string,x,ok:bool\n");
        let lengths = |rest: Value| {
            let mut config = json!({ "every": 1, "method": "hold", "max_gap": 2 });
            config.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            config
        };
        let cases: &[(Value, &[&str])] = &[
            (
                lengths(json!({ "by": "ok", "value": "who", "columns": [], "every": "1s" })),
                &[
                    "by: column 'ok' names nothing",
                    "value: column 'who' is Utf8, not a number",
                    "columns: no column is named",
                    "every: '1s' is a duration, but the event time is a count",
                ],
            ),
            (
                lengths(json!({ "by": "m", "value": "x", "columns": { "a": "u", "b": "u" } })),
                &[
                    "by: column 'm' is part of the key, so its values never meet",
                    "columns.b: 'u' is there twice",
                ],
            ),
            (
                lengths(json!({ "by": "who", "value": "x", "columns": ["m"] })),
                &["columns: column 'm' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("align", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
