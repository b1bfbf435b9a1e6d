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

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{
    ConfigError, Fault, LateSupport, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::evaluate::{Fates, Typed, compile};
use crate::stateless::{Fate, PerRow, Stateless};

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
        let schema = input.clone();
        Ok(Planned {
            output: input.clone(),
            late: LateSupport::Stateless,
            state_version: 0,
            build: Arc::new(move |_| {
                let function = Condition(condition.clone());
                Ok(Box::new(Stateless { input: schema.clone(), function }))
            }),
            notes: Vec::new(),
        })
    }
}

#[derive(Debug)]
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
}
