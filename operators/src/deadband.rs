//! Leaves rows out whose values are hardly different from those of the last row that went on.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the rows that go on, unchanged
//! State   for each key the event time and the values of the last row that went on
//! Late    honours `late: { correct }`; a late row that goes on changes which of those behind it do
//! Errors  none: a row that does not go on is counted as `filtered`
//! Source  a row goes on if `abs(x - x_last) > band` in some column (`ISA-18.2` calls such a limit a deadband)
//!
//! The first row of a key goes on, and so does a row in which a value is missing that was there or the other way round.
//! What is left out is within `band` of the last row that went on: holding values (`resample` with `method: hold`) is
//! off by no more than `band`. For a bound on the error of *lines* between rows see `swinging_door`.

use arrow::buffer::ScalarBuffer;
use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{numeric, only, positive};
use crate::entries::Entries;
use crate::gate::{Gate, planned};

/// Leaves rows out whose values are hardly different from those of the last row that went on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadbandConfig {
    /// By how much a column must differ, in its unit, for the row to go on: `temperature: 0.5`; 0 or more.
    pub columns: Entries<f64>,
    /// A row goes on anyway when the last that did is longer ago than this. Left out: however long.
    #[serde(default)]
    pub max_gap: Option<Extent>,
}

/// The kind `deadband`.
#[derive(Debug, Clone, Copy)]
pub struct Deadband;

impl OperatorKind for Deadband {
    type Config = DeadbandConfig;

    const NAME: &'static str = "deadband";
    const SUMMARY: &'static str = "leaves rows out that hardly differ from the last that went on";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "changes: { from: readings, deadband: { columns: { temperature: 0.5, speed: 10 }, max_gap: 10m } }";

    fn plan(
        config: &DeadbandConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let (mut columns, mut bands) = (Vec::new(), Vec::new());
        for (name, &band) in config.columns.iter() {
            let at = format!("columns.{name}");
            if !(band >= 0.0 && band.is_finite()) {
                let what = format!("'{band}' is not a difference");
                errors.push(ConfigError::new(at.as_str(), what).help("give a number of 0 or more"));
            }
            match numeric(input, &at, name) {
                Ok(column) => columns.push(column),
                Err(e) => errors.push(e),
            }
            bands.push(band);
        }
        let gap = config.max_gap.map(|gap| positive("max_gap", gap, input.domain())).transpose();
        let max_gap = gap.map_err(|e| errors.push(e));
        match max_gap {
            Ok(max_gap) if errors.is_empty() => {
                Ok(planned(input, Band { columns, bands, max_gap }))
            }
            _ => Err(errors),
        }
    }
}

#[derive(Debug, Clone)]
struct Band {
    columns: Vec<usize>,
    bands: Vec<f64>,
    max_gap: Option<i64>,
}

/// The last row that went on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    at: Option<i64>,
    values: Vec<f64>,
}

impl Gate for Band {
    type State = Last;

    fn columns(&self) -> &[usize] {
        &self.columns
    }

    fn passes(
        &self,
        last: &mut Last,
        time: i64,
        channels: &[ScalarBuffer<f64>],
        row: usize,
    ) -> bool {
        let too_long = |at: i64| self.max_gap.is_some_and(|gap| time.saturating_sub(at) > gap);
        let values = || channels.iter().map(|c| c[row]);
        let passes = last.at.is_none_or(too_long)
            || last.values.iter().zip(values()).zip(&self.bands).any(|((&old, new), &band)| {
                old.is_nan() != new.is_nan() || (new - old).abs() > band
            });
        if passes {
            last.at = Some(time);
            last.values.clear();
            last.values.extend(values());
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn what_differs_goes_on() {
        let input = Table::parse(
            Logical,
            "m,t,x,n:int64\na,0,1,5\na,1,1.5,5\na,2,1.6,5\na,3,,5\na,4,,5\na,5,1.6,5\na,6,1.6,7\na,7,1.2,6\nb,7,0,0\n",
        );
        let expected = "m,t,x,n:int64\na,0,1,5\na,2,1.6,5\na,3,,5\na,5,1.6,5\na,6,1.6,7\nb,7,0,0\n";
        let config = json!({ "columns": { "x": 0.5, "n": 1 } });
        check("deadband", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn a_long_silence_is_broken() {
        let input = Table::parse(Logical, "m,t,x\na,0,1\na,5,1\na,10,1\na,11,1\na,21,1\na,22,1\n");
        let expected = "m,t,x\na,0,1\na,11,1\na,22,1\n";
        let config = json!({ "columns": { "x": 0 }, "max_gap": 10 });
        check("deadband", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn what_is_left_out_is_within_the_band() {
        let input = Table::random(5, 200, Logical);
        let outcome = sameness("deadband", &json!({ "columns": { "x": 0.7, "y": 900 } }), &input);
        let (x, y) = (input.numbers("x"), input.numbers("y"));
        let passed: Vec<u64> = outcome.rows.iter().map(|r| r.position).collect();
        assert!(passed.len() > 50 && passed.len() < 190, "{}", passed.len());
        for rows in input.by_key().values() {
            let mut last = None;
            for &row in rows {
                if passed.contains(&(row as u64)) {
                    last = Some(row);
                    continue;
                }
                let last: usize = last.unwrap();
                for (values, band) in [(&x, 0.7), (&y, 900.0)] {
                    let off = values[row].zip(values[last]).map(|(a, b)| (a - b).abs());
                    assert!(off.is_none_or(|off| off <= band), "{off:?} {band}");
                    assert_eq!(values[row].is_some(), values[last].is_some());
                }
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x,s:string\n").schema;
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": {} }), &["columns: no column is named"]),
            (
                json!({ "columns": { "x": -1, "s": 1, "z": 1 }, "max_gap": "1s" }),
                &[
                    "columns.x: '-1' is not a difference",
                    "columns.s: column 's' is Utf8, not a number",
                    "columns.z: there is no column 'z'",
                    "max_gap: '1s' is a duration, but the event time is a count",
                ],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("deadband", config, &input).unwrap_err(), *expected, "{config}");
        }
    }
}
