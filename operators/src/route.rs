//! Says of each row which of several ways it goes: the name of the first condition that holds.
//!
//! Input   keyed rows
//! Output  the same rows with a text column more, called as `as` says
//! State   none
//! Late    any: a late or corrected row is like any other, and may go another way than before
//! Errors  a row for which a condition fails goes to the dead letters as `expression`
//! Source  SQL `CASE WHEN c1 THEN 'n1' WHEN c2 THEN 'n2' ELSE otherwise END`
//!
//! A step has one output, so a stream is split in two parts: `route` decides once, and a `filter` for each way takes its
//! rows: `filter: "route = 'hot'"`. So conditions are written once and no row goes two ways. A condition that is
//! null does not hold. A row that no condition holds for has the name in `otherwise`, or null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output};
use crate::entries::Entries;
use crate::evaluate::{Fates, Typed, compile};
use crate::stateless::{Fate, PerRow, planned};
use crate::words::spelt;

/// Names the way that each row goes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// SQL conditions by the name of the way: `hot: "temperature > 80"`. The first that holds counts.
    pub ways: Entries<String>,
    /// The way of rows that no condition holds for. Left out: null.
    #[serde(default)]
    pub otherwise: Option<String>,
    /// The name of the new column; `route` unless given.
    #[serde(default = "route", rename = "as")]
    pub name: String,
}

fn route() -> String {
    "route".to_owned()
}

/// The kind `route`.
#[derive(Debug, Clone, Copy)]
pub struct Route;

impl OperatorKind for Route {
    type Config = RouteConfig;

    const NAME: &'static str = "route";
    const SUMMARY: &'static str = "names the first condition that holds for each row";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = r#"routed: { from: readings, route: { ways: { idle: "NOT running", hot: "temperature > 80" }, otherwise: normal } }
hot: { from: routed, filter: "route = 'hot'" }
normal: { from: routed, filter: "route = 'normal'" }"#;

    fn plan(
        config: &RouteConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.ways.is_empty() {
            errors.push(ConfigError::new("ways", "no way is named"));
        }
        if let Some(name) = config.otherwise.as_ref().filter(|n| config.ways.get(n).is_some()) {
            let what = format!("'{name}' is the name of a condition already");
            errors.push(ConfigError::new("otherwise", what).help("choose another name"));
        }
        let mut ways = Vec::new();
        for (name, sql) in config.ways.iter() {
            match condition(input, name, sql, given) {
                Ok(condition) => ways.push((name.to_owned(), condition)),
                Err(e) => errors.push(e),
            }
        }
        let mut columns = input.columns().to_vec();
        columns.push(Column::new(config.name.as_str(), DataType::Utf8));
        let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
        match output(columns, key, input.time(), primary_key) {
            Ok(schema) if errors.is_empty() => {
                let routes = Routes { ways, otherwise: config.otherwise.clone(), output: schema };
                Ok(planned(input, routes.output.clone(), routes))
            }
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under("as"));
                Err(errors)
            }
        }
    }
}

fn condition(
    input: &Schema,
    name: &str,
    sql: &str,
    given: &dyn Resolver,
) -> Result<Typed, ConfigError> {
    let at = format!("ways.{name}");
    let expression = compile(sql, input, &at, given)?;
    if expression.data_type() == DataType::Boolean {
        return Ok(Typed { expression, data_type: DataType::Boolean });
    }
    let what = format!("the condition is {}, not true or false", expression.data_type());
    Err(ConfigError::new(at, what).help("compare it with something, such as 'rpm > 10'"))
}

#[derive(Debug, Clone)]
struct Routes {
    ways: Vec<(String, Typed)>,
    otherwise: Option<String>,
    output: Schema,
}

impl PerRow for Routes {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let ways = self.ways.iter().map(|(name, _)| name.as_str());
        let words: Vec<&str> = ways.chain(self.otherwise.as_deref()).collect();
        // Behind the ways is `otherwise`, or nothing.
        let mut places = vec![place(self.ways.len()); rows.num_rows()];
        // From the last to the first, so that the first that holds is what stays.
        for (way, (_, condition)) in self.ways.iter().enumerate().rev() {
            let holds = condition.values(rows, &mut fates)?;
            let way = place(way);
            for (place, holds) in places.iter_mut().zip(true_values(holds.as_boolean()).iter()) {
                *place = if holds { way } else { *place };
            }
        }
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(spelt(&words, &places)));
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, fates.into_inner()))
    }
}

fn place(way: usize) -> u32 {
    u32::try_from(way).expect("a file names fewer ways")
}

/// Whether each is true, and not null.
fn true_values(conditions: &BooleanArray) -> BooleanBuffer {
    match conditions.nulls() {
        Some(there) => conditions.values() & there.inner(),
        None => conditions.values().clone(),
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn the_first_condition_that_holds_counts() {
        let input = Table::parse(Logical, "m,t,x\na,0,5\na,1,2\nb,2,0\nb,3,\n");
        let config = json!({ "ways": { "high": "x > 4", "some": "x > 1" }, "otherwise": "none" });
        let expected = "m,t,x,route:string\na,0,5,high\na,1,2,some\nb,2,0,none\nb,3,,none\n";
        check("route", &config, &input, &Table::parse(Logical, expected));
        let config = json!({ "ways": { "high": "x > 4" }, "as": "way" });
        let expected = "m,t,x,way:string\na,0,5,high\na,1,2,\nb,2,0,\nb,3,,\n";
        check("route", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn a_truth_value_is_a_condition() {
        let input = Table::parse(Logical, "m,t,ok:bool\na,0,true\na,1,false\na,2,\n");
        let config = json!({ "ways": { "yes": "ok" }, "otherwise": "no" });
        let ways = sameness("route", &config, &input).column("route");
        let text = |t: &str| crate::testing::Cell::Text(t.to_owned());
        assert_eq!(ways, [text("yes"), text("no"), text("no")]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "ways": {} }), &["ways: no way is named"]),
            (
                json!({ "ways": { "a": "y > 1", "b": "x" }, "otherwise": "a", "as": "x" }),
                &[
                    "otherwise: 'a' is the name of a condition already",
                    "ways.a: there is no column 'y'",
                    "ways.b: the condition is Float64, not true or false",
                    "as: column 'x' is there twice",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("route", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
