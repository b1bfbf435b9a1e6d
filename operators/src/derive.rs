//! Computes columns from others by SQL expressions.
//!
//! Input   keyed rows
//! Output  the same rows; each result replaces the column of its name or is appended, as `Float64`, `Int64`,
//!         `Boolean`, `Utf8` or a timestamp, whichever the expression gives
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a row for which an expression fails goes to the dead letters as `expression`, one with an infinite
//!         result as `non_finite`; NaN is null
//! Source  SQL `SELECT *, e AS name`
//!
//! All expressions see the columns of the input, not each other's results. Key and event time stay as they
//! are. The unit of a result is what `units` says, or else follows from the expression where that is plain: a column, a
//! sum or difference of columns of one unit (but not of degrees, whose zero is a convention), `abs`, `greatest`, `least`,
//! `coalesce`, `round`. A product or quotient has none, because it may be a conversion. Columns of different units are not
//! added or compared: that is an error of the plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use foreline_engine::{
    Column, ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output};
use crate::entries::Entries;
use crate::evaluate::{Fates, Typed, column_type, compile};
use crate::stateless::{Fate, PerRow, planned};

/// Computes columns by SQL expressions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeriveConfig {
    /// SQL expressions over the columns of the input, by the name of the result: `power: "torque * speed"`.
    pub columns: Entries<String>,
    /// Units of the results, by name; UCUM codes such as `W`. Left out: what follows from the expression, or none.
    #[serde(default)]
    pub units: Entries<String>,
}

/// The kind `derive`.
#[derive(Debug, Clone, Copy)]
pub struct Derive;

impl OperatorKind for Derive {
    type Config = DeriveConfig;

    const NAME: &'static str = "derive";
    const SUMMARY: &'static str = "computes columns from others by SQL expressions";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str =
        r#"with_power: { from: readings, derive: { columns: { load_per_turn: "load / speed" } } }"#;

    fn plan(
        config: &DeriveConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        for (name, _) in config.units.iter().filter(|(n, _)| config.columns.get(n).is_none()) {
            let known = config.columns.iter().map(|(name, _)| name);
            let what = format!("column '{name}' is not among those computed here");
            errors.push(ConfigError::new(format!("units.{name}"), what).unknown(name, known));
        }
        let (mut columns, mut derived) = (input.columns().to_vec(), Vec::new());
        for (name, sql) in config.columns.iter() {
            match one(input, name, sql, given) {
                Ok(value) => {
                    let told = config.units.get(name).map(|unit| Unit::new(unit));
                    let follows = value.expression.unit();
                    errors
                        .extend(told.as_ref().zip(follows.as_ref()).and_then(contradiction(name)));
                    let unit = told.or(follows);
                    let column = Column::new(name, value.data_type.clone()).with_unit(unit);
                    derived.push((put(&mut columns, column), value));
                }
                Err(e) => errors.push(e),
            }
        }
        let primary_key = input.primary_key().clone();
        let output = output(columns, input.key().to_vec(), input.time(), primary_key);
        match output.map_err(|e| errors.push(e)) {
            Ok(output) if errors.is_empty() => {
                let function = Derived { derived, output: output.clone() };
                Ok(planned(input, output, function))
            }
            _ => Err(errors),
        }
    }
}

/// Refuses a unit that the expression does not have.
fn contradiction(name: &str) -> impl Fn((&Unit, &Unit)) -> Option<ConfigError> {
    move |(told, follows)| {
        let what = format!("the expression of '{name}' is in '{follows}', not in '{told}'");
        let error = ConfigError::new(format!("units.{name}"), what);
        let error = error.help("leave the unit out, and use the step 'convert' for another one");
        (!told.is_same(follows)).then_some(error)
    }
}

/// Puts a column in the place of the one with its name, or last; returns where.
fn put(columns: &mut Vec<Column>, column: Column) -> usize {
    if let Some(place) = columns.iter().position(|c| c.name == column.name) {
        columns[place] = column;
        return place;
    }
    columns.push(column);
    columns.len() - 1
}

fn one(input: &Schema, name: &str, sql: &str, given: &dyn Resolver) -> Result<Typed, ConfigError> {
    let at = format!("columns.{name}");
    if let Some(index) = input.index_of(name)
        && (index == input.time()
            || input.key().contains(&index)
            || input.primary_key().columns.contains(&index))
    {
        let what =
            format!("column '{name}' is part of the key or the event time and must stay as it is");
        return Err(ConfigError::new(at, what).help("choose another name"));
    }
    let expression = compile(sql, input, &at, given)?;
    let data_type = column_type(&expression.data_type()).ok_or_else(|| {
        let what =
            format!("the expression gives {}, which no column can hold", expression.data_type());
        ConfigError::new(at, what).help("convert it, such as with 'cast(... as double)'")
    })?;
    Ok(Typed { expression, data_type })
}

#[derive(Debug, Clone)]
struct Derived {
    /// The place of each result in the output, those appended in order.
    derived: Vec<(usize, Typed)>,
    output: Schema,
}

impl PerRow for Derived {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (place, typed) in &self.derived {
            let values = typed.values(rows, &mut fates)?;
            if *place < columns.len() {
                columns[*place] = values;
            } else {
                columns.push(values);
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, fates.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use super::{Schema, Unit};
    use crate::testing::{Table, check, plan, sameness, try_plan};

    #[test]
    fn appends_and_replaces() {
        let input = Table::parse(Logical, "m,t,x,n:int64\na,0,2,6\nb,1,,7\n");
        let config = json!({ "columns": { "p": "x * n", "x": "x + 1", "who": "m", "k": "n" } });
        let expected = "m,t,x,n:int64,p,who:string,k:int64\na,0,3,6,12,a,6\nb,1,,7,,b,7\n";
        check("derive", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn a_row_that_fails_is_a_dead_letter_and_the_others_go_on() {
        let input = Table::parse(
            Logical,
            "m,t,a:int64,b:int64,x\na,0,6,3,1\nb,1,6,0,1\na,2,6,2,0\na,3,6,0,1\nc,4,6,6,1\n",
        );
        let config = json!({ "columns": { "q": "a / b", "r": "1 / x" } });
        let outcome = sameness("derive", &config, &input);
        let mut quotients = outcome.numbers("q");
        quotients.sort_by(f64_order);
        assert_eq!(quotients, [Some(1.0), Some(2.0)]);
        let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.1.as_deref(), d.3)).collect();
        assert_eq!(
            dead,
            [
                (Some(1), Some("b"), "expression"),
                (Some(2), Some("a"), "non_finite"),
                (Some(3), Some("a"), "expression"),
            ]
        );
        assert_eq!((outcome.account.used, outcome.account.dead), (2, 3));
    }

    fn f64_order(a: &Option<f64>, b: &Option<f64>) -> std::cmp::Ordering {
        a.partial_cmp(b).unwrap()
    }

    #[test]
    fn units_are_what_the_file_says() {
        let input = Table::parse(Logical, "m,t,x\n");
        let config = json!({ "columns": { "p": "x * 2", "q": "x" }, "units": { "p": "W" } });
        let output = plan("derive", &config, &input.schema).output;
        let unit = |name| output.column(name).unwrap().unit.as_ref().map(|u| u.code().to_owned());
        assert_eq!((unit("p").as_deref(), unit("q")), (Some("W"), None));
    }

    #[test]
    fn a_unit_follows_from_the_expression_and_is_not_contradicted() {
        let mut columns = Table::parse(Logical, "m,t,x\n").schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": { "p": "x", "q": "x * 2" }, "units": { "q": "W" } });
        let output = plan("derive", &config, &input).output;
        let unit = |name| output.column(name).unwrap().unit.clone();
        assert_eq!((unit("p"), unit("q")), (Some(Unit::new("mm/s")), Some(Unit::new("W"))));
        let config = json!({ "columns": { "p": "x" }, "units": { "p": "in/s" } });
        let errors = try_plan("derive", &config, &input).unwrap_err();
        assert_eq!(errors, ["units.p: the expression of 'p' is in 'mm/s', not in '[in_i]/s'"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": {} }), &["columns: no column is named"]),
            (
                json!({ "columns": { "m": "x", "t": "x", "p": "y + 1" }, "units": { "q": "W" } }),
                &[
                    "units.q: column 'q' is not among those computed here",
                    "columns.m: column 'm' is part of the key or the event time and must stay as it is",
                    "columns.t: column 't' is part of the key or the event time and must stay as it is",
                    "columns.p: there is no column 'y'",
                ],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(
                try_plan("derive", config, &input.schema).unwrap_err(),
                *expected,
                "{config}"
            );
        }
    }
}
