//! Clip: keeps values between a lower and an upper limit.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows; in each column (or beside it under the name in `as`) a value below `lower` becomes `lower`
//!         and one above `upper` becomes `upper`, `Float64`, in the column's unit; a null stays null. `flag` adds a
//!         column that is true where a value was clipped, to be counted
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  NumPy `clip`
//!
//! A value at a limit is not clipped. A remaining life that must not fall below zero is `{ columns: [rul], lower: 0 }`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use foreline_engine::{ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, only};
use crate::flags::Flagged;
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;
use crate::stateless::{Fate, PerRow, planned};

/// Keeps values between limits. At least one of `lower` and `upper` is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// The columns to clip.
    pub columns: Vec<String>,
    /// The least value, of each column in its own unit. Left out: there is none.
    #[serde(default)]
    pub lower: Option<f64>,
    /// The greatest value, of each column in its own unit; at least `lower`. Left out: there is none.
    #[serde(default)]
    pub upper: Option<f64>,
    /// Names for the clipped values, by column. Left out: they replace their column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
    /// Names for columns that are true where a value was clipped, by column. Left out: there are none.
    #[serde(default)]
    pub flag: BTreeMap<String, String>,
}

/// The kind `clip`.
#[derive(Debug, Clone, Copy)]
pub struct Clip;

impl OperatorKind for Clip {
    type Config = ClipConfig;

    const NAME: &'static str = "clip";
    const SUMMARY: &'static str = "keeps values between a lower and an upper limit";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str =
        "limited: { from: readings, clip: { columns: [load], lower: 0, upper: 100 } }";

    fn plan(
        config: &ClipConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let flags = columns.as_ref().and_then(|columns| {
            mistakes.all(Flagged::plan(columns, &config.columns, &config.flag))
        });
        let limits = mistakes.one(Limits::plan(config));
        let ((columns, flags), limits) = mistakes.or(columns.zip(flags).zip(limits))?;
        let clipped = Clipped { columns, flags, limits };
        Ok(planned(input, clipped.flags.schema.clone(), clipped))
    }
}

/// Infinite where there is no limit.
#[derive(Debug, Clone, Copy)]
struct Limits {
    lower: f64,
    upper: f64,
}

impl Limits {
    fn plan(config: &ClipConfig) -> Result<Self, ConfigError> {
        let limits = Limits {
            lower: config.lower.unwrap_or(f64::NEG_INFINITY),
            upper: config.upper.unwrap_or(f64::INFINITY),
        };
        if config.lower.is_none() && config.upper.is_none() {
            let error = ConfigError::new("", "nothing says where to clip");
            return Err(error.help("add one of lower, upper, or both"));
        }
        if limits.lower <= limits.upper {
            return Ok(limits);
        }
        let Limits { lower, upper } = limits;
        let error = ConfigError::new("upper", format!("'{upper}' is below 'lower', '{lower}'"));
        Err(error.help("make 'upper' at least 'lower'"))
    }

    /// A NaN stays one. Two choices of a number each, which need no jump: which values are clipped is not foreseen.
    #[inline]
    fn clip(self, value: f64) -> f64 {
        let raised = if value < self.lower { self.lower } else { value };
        if raised > self.upper { self.upper } else { raised }
    }

    fn clips(self, value: f64) -> bool {
        value < self.lower || value > self.upper
    }
}

#[derive(Debug, Clone)]
struct Clipped {
    columns: Smoothed,
    flags: Flagged,
    limits: Limits,
}

impl PerRow for Clipped {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let from = self.columns.from.iter();
        let channels = from.map(|&c| channel(rows.column(c))).collect::<Result<Vec<_>, _>>()?;
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (values, &to) in channels.iter().zip(&self.columns.to) {
            let limits = self.limits;
            let clipped = values.iter().map(|&v| limits.clip(v)).collect();
            let column: ArrayRef = Arc::new(nullable(clipped));
            if to < columns.len() {
                columns[to] = column;
            } else {
                columns.push(column);
            }
        }
        for &of in &self.flags.of {
            let flags = channels[of].iter().map(|&v| Some(self.limits.clips(v)));
            columns.push(Arc::new(flags.collect::<BooleanArray>()));
        }
        let schema = Arc::clone(self.flags.schema.arrow());
        Ok((RecordBatch::try_new(schema, columns)?, None))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, plan, sameness, try_plan};

    fn table(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    #[test]
    fn agrees_with_numpy() {
        let readings = include_str!("../reference/readings.csv");
        let readings = Table::parse(foreline_engine::TimeDomain::UtcNanos, readings);
        let config = json!({ "columns": ["x", "y"], "lower": -0.5, "upper": 1.25,
            "as": { "y": "y_clipped" }, "flag": { "x": "x_flag", "y": "y_flag" } });
        let expected = include_str!("../reference/clip.csv");
        let expected = Table::parse(foreline_engine::TimeDomain::UtcNanos, expected);
        check("clip", &config, &readings, &expected);
    }

    #[test]
    fn a_value_at_a_limit_is_not_clipped_and_a_null_stays_null() {
        let input = table("m,t,x,n:int64\na,0,-1,5\na,1,0,6\na,1,,7\nb,2,3.5,8\nb,3,4,\n");
        let config = json!({ "columns": ["x", "n"], "lower": 0, "upper": 6, "flag": { "n": "c" } });
        let expected = table(
            "m,t,x,n,c:bool\na,0,0,5,false\na,1,0,6,false\na,1,,6,true\nb,2,3.5,6,true\nb,3,4,,false\n",
        );
        check("clip", &config, &input, &expected);
    }

    #[test]
    fn one_limit_is_enough() {
        let input = Table::random(1, 80, Logical);
        let outcome = sameness("clip", &json!({ "columns": ["x"], "upper": 20 }), &input);
        let x = input.numbers("x");
        for row in &outcome.rows {
            let was = x[usize::try_from(row.position).unwrap()];
            assert_eq!(row.cells[2].number(), was.map(|v| if v > 20.0 { 20.0 } else { v }));
        }
    }

    #[test]
    fn the_unit_stays() {
        let mut columns = table("m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(foreline_engine::Unit::new("h"));
        let input = foreline_engine::Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": ["x"], "lower": 0, "as": { "x": "y" } });
        let output = plan("clip", &config, &input).output;
        assert_eq!(output.column("y").unwrap().unit, output.column("x").unwrap().unit);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = table("m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says where to clip"]),
            (
                json!({ "columns": ["s", "z"], "lower": 2, "upper": 1 }),
                &[
                    "columns[0]: column 's' is Utf8, not a number",
                    "columns[1]: there is no column 'z'",
                    "upper: '1' is below 'lower', '2'",
                ],
            ),
            (
                json!({ "columns": ["x"], "lower": 2, "flag": { "x": "s" } }),
                &["flag: column 's' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("clip", config, &input.schema).unwrap_err(), *expected, "{config}");
        }
    }
}
