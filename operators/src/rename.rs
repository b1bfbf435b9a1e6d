//! Gives columns other names.
//!
//! Input   keyed rows
//! Output  the same rows; types, units and order of the columns stay
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  SQL `SELECT a AS b`, all other columns as they are
//!
//! Key and event time may be renamed too. To leave columns out or put them in another order use `select`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use foreline_engine::{ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output, place};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, planned};

/// Gives columns other names.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameConfig {
    /// Old names by new ones: `speed: rpm` calls the column `rpm` `speed`, as in `select`.
    pub columns: Entries<String>,
}

/// The kind `rename`.
#[derive(Debug, Clone, Copy)]
pub struct Rename;

impl OperatorKind for Rename {
    type Config = RenameConfig;

    const NAME: &'static str = "rename";
    const SUMMARY: &'static str = "gives columns other names";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str =
        "named: { from: readings, rename: { columns: { velocity: vibration } } }";

    fn plan(
        config: &RenameConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let (mut columns, mut renamed) = (input.columns().to_vec(), BTreeSet::new());
        for (new, old) in config.columns.iter() {
            let at = format!("columns.{new}");
            match place(input, &at, old) {
                Ok(index) if renamed.insert(index) => new.clone_into(&mut columns[index].name),
                Ok(_) => {
                    let what = format!("column '{old}' gets two names");
                    let help = "keep one of them; 'derive' makes a copy of a column";
                    errors.push(ConfigError::new(at, what).help(help));
                }
                Err(e) => errors.push(e),
            }
        }
        let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
        match output(columns, key, input.time(), primary_key) {
            Ok(schema) if errors.is_empty() => {
                let function = Renamed { output: schema.clone() };
                Ok(planned(input, schema, function))
            }
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under("columns"));
                Err(errors)
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Renamed {
    output: Schema,
}

impl PerRow for Renamed {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let columns = rows.columns().to_vec();
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?, None))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use foreline_engine::Unit;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, plan, try_plan};

    #[test]
    fn renames_key_time_and_values() {
        let input = Table::parse(Logical, "m,t,x,s:string\na,0,1,u\nb,1,,\n");
        let config = json!({ "columns": { "machine": "m", "cycle": "t", "s": "x", "x": "s" } });
        let expected = "machine,cycle,s,x:string\na,0,1,u\nb,1,,\n";
        check("rename", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn the_unit_stays() {
        let mut columns = Table::parse(Logical, "m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let output = plan("rename", &json!({ "columns": { "v": "x" } }), &input).output;
        assert_eq!(output.column("v").unwrap().unit, Some(Unit::new("mm/s")));
        assert_eq!(output.primary_key(), input.primary_key());
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x,y\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": {} }), &["columns: no column is named"]),
            (
                json!({ "columns": { "a": "x", "b": "x", "c": "z" } }),
                &["columns.b: column 'x' gets two names", "columns.c: there is no column 'z'"],
            ),
            (json!({ "columns": { "y": "x" } }), &["columns: column 'y' is there twice"]),
        ];
        for (config, expected) in cases {
            let errors = try_plan("rename", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
