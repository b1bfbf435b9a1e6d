//! Difference: how much a column has changed since some rows ago.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column joined by `<column>_difference` (or the name in `as`): its value less that of `rows`
//!         rows back, `Float64`, in the column's unit; null where either is null or there is no such row, or where
//!         it is longer ago than `max_gap`
//! State   the last `rows` values of each column, for each key
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  pandas `diff(rows)`
//!
//! Rows are counted whether their value is null or not, and however much time is between them: for a change by time
//! take `rate`.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::channelwise::planned;
use crate::columns::only;
use crate::mistakes::Mistakes;
use crate::shift::{Shift, Wanted};
use crate::smoothing::Smoothed;
use crate::trailing::in_bounds;

/// How much columns have changed since some rows ago.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DifferenceConfig {
    /// The columns to look at.
    pub columns: Vec<String>,
    /// How many rows back the other value is: from 1 to 100,000, 1 unless given.
    #[serde(default = "one")]
    pub rows: usize,
    /// The difference is null where the other row is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the differences, by column; `<column>_difference` unless given.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn one() -> usize {
    1
}

/// The kind `difference`.
#[derive(Debug, Clone, Copy)]
pub struct Difference;

impl OperatorKind for Difference {
    type Config = DifferenceConfig;

    const NAME: &'static str = "difference";
    const SUMMARY: &'static str = "how much columns have changed since some rows ago";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str =
        "steps: { from: readings, difference: { columns: [load], max_gap: 5s } }";

    fn plan(
        config: &DifferenceConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let DifferenceConfig { columns, rename, .. } = config;
        let mut mistakes = Mistakes::default();
        let columns =
            mistakes.all(Smoothed::appended(input, columns, rename, "difference", Unit::clone));
        let rows = mistakes.one(in_bounds("rows", config.rows));
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        let (columns, rows) = mistakes.or(columns.zip(rows))?;
        Ok(planned(input, columns, None, Shift { wanted: Wanted::Difference, rows, max_gap }))
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
        let config = json!({ "columns": ["x", "y"], "rows": 2 });
        let expected = include_str!("../reference/difference.csv");
        check("difference", &config, &readings, &utc(expected));
    }

    #[test]
    fn ties_nulls_and_gaps() {
        let input = Table::parse(
            TimeDomain::Logical,
            "m,t,x,n:int64\na,0,1,7\na,0,2.5,\na,1,,5\na,2,3,4\na,2,4,1\nb,3,9,2\na,9,5,0\n",
        );
        let expected = Table::parse(
            TimeDomain::Logical,
            "m,t,x,n:int64,x_difference,dn\na,0,1,7,,\na,0,2.5,,1.5,\na,1,,5,,\na,2,3,4,,-1\n\
             a,2,4,1,1,-3\nb,3,9,2,,\na,9,5,0,,\n",
        );
        let config = json!({ "columns": ["x", "n"], "max_gap": 4, "as": { "n": "dn" } });
        check("difference", &config, &input, &expected);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(9, 200, TimeDomain::UtcNanos);
        let (y, times) = (input.numbers("y"), input.times());
        let config = json!({ "columns": ["y"], "rows": 3, "max_gap": "6s" });
        let outcome = sameness("difference", &config, &input);
        let mut expected = vec![None; input.len()];
        for rows in input.by_key().values() {
            for window in rows.windows(4).filter(|w| times[w[3]] - times[w[0]] <= 6_000_000_000) {
                expected[window[3]] = y[window[3]].zip(y[window[0]]).map(|(a, b)| a - b);
            }
        }
        for (row, got) in outcome.rows.iter().zip(outcome.numbers("y_difference")) {
            assert_eq!(got, expected[usize::try_from(row.position).unwrap()]);
        }
        assert!(expected.iter().flatten().count() > 30);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[(
            json!({ "columns": ["t"], "rows": 100_001, "max_gap": 3, "as": { "x": "y" } }),
            &[
                "columns[0]: column 't' is the event time",
                "as.x: column 'x' is not among 'columns'",
                "rows: '100001' is not a number of rows of a window",
                "max_gap: '3' has no unit, but the event time is a timestamp",
            ],
        )];
        for (config, expected) in cases {
            let errors = try_plan("difference", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
