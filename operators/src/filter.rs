//! Lets through the rows for which a SQL condition holds.
//!
//! Input   keyed rows
//! Output  the rows for which the condition is true, unchanged
//! State   none
//! Late    any; a corrected row that no longer passes goes out as deleted
//! Errors  a row for which the condition fails goes to the dead letters as `expression`
//! Source  SQL `WHERE`
//!
//! Null is not true: a row whose condition is null is left out, and counted as `filtered`.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::evaluate::{Fates, Typed, compile};
use crate::stateless::{Fate, PerRow, planned};

/// A SQL condition such as `rpm > 10`; rows for which it is false or null are left out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FilterConfig(pub String);

/// The kind `filter`.
#[derive(Debug, Clone, Copy)]
pub struct Filter;

impl OperatorKind for Filter {
    type Config = FilterConfig;

    const NAME: &'static str = "filter";
    const SUMMARY: &'static str = "lets through the rows for which a SQL condition holds";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = r#"only: { from: readings, filter: "running AND speed > 600" }"#;

    fn plan(
        config: &FilterConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let expression = compile(&config.0, input, "", given).map_err(|e| vec![e])?;
        if expression.data_type() != DataType::Boolean {
            let what = format!("the condition is {}, not true or false", expression.data_type());
            return Err(vec![
                ConfigError::new("", what).help("compare it with something, such as 'rpm > 10'"),
            ]);
        }
        let condition = Typed { expression, data_type: DataType::Boolean };
        Ok(planned(input, input.clone(), Condition(condition)))
    }
}

#[derive(Debug, Clone)]
struct Condition(Typed);

impl PerRow for Condition {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let holds = self.0.values(rows, &mut fates)?;
        let holds = holds.as_boolean();
        if holds.true_count() < rows.num_rows() {
            for row in (0..rows.num_rows()).filter(|&r| holds.is_null(r) || !holds.value(r)) {
                fates.filter(row);
            }
        }
        Ok((rows.clone(), fates.into_inner()))
    }

    fn chosen(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>, Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let holds = self.0.values(rows, &mut fates)?;
        // Where the condition fails for a row, `apply` says why; where it is null, the row is left out.
        Ok(fates.into_inner().is_none().then(|| holds.as_boolean().clone()))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::json;

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn null_does_not_pass() {
        let input = Table::parse(Logical, "m,t,x\na,0,2\nb,1,\na,2,0.5\nb,3,1.5\n");
        let expected = Table::parse(Logical, "m,t,x\na,0,2\nb,3,1.5\n");
        check("filter", &json!("x > 1"), &input, &expected);
        let account = sameness("filter", &json!("x > 1"), &input).account;
        assert_eq!((account.input, account.used, account.filtered), (4, 2, 2));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(3, 400, Logical);
        let outcome = sameness("filter", &json!("x > 20"), &input);
        let x = input.numbers("x");
        let mut places: Vec<u64> = outcome.rows.iter().map(|r| r.position).collect();
        places.sort_unstable();
        let pass = (0..400).filter(|&r| x[r].is_some_and(|x| x > 20.0)).map(|r| r as u64);
        assert_eq!(places, pass.collect::<Vec<_>>());
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n").schema;
        let errors = |sql: &str| try_plan("filter", &json!(sql), &input).unwrap_err();
        assert_eq!(errors("x + 1"), ["the condition is Float64, not true or false"]);
        assert_eq!(errors("z > 1"), ["there is no column 'z'"]);
    }
}
