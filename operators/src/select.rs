//! Keeps, orders and renames columns.
//!
//! Input   keyed rows
//! Output  the same rows with the columns that are named, in that order; units stay
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  SQL `SELECT a, b AS c`
//!
//! The key, the event time and whatever else tells rows apart must stay; they may be renamed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use foreline_engine::{
    Column, ConfigError, Family, Fault, OperatorKind, Planned, PrimaryKey, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, output, place};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, planned};

/// Keeps, orders and renames columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    /// The columns to keep, in order; key and event time must be among them.
    pub columns: Selection,
}

/// Columns, with or without new names.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of columns, or a map from new to old names")]
pub enum Selection {
    /// They keep their names.
    Names(Vec<String>),
    /// Old names by new ones.
    Renamed(Entries<String>),
}

impl Selection {
    /// (where, new name, old name) of each column.
    pub(crate) fn pairs(&self) -> Vec<(String, &str, &str)> {
        match self {
            Selection::Names(names) => {
                let each = names.iter().enumerate();
                each.map(|(i, n)| (format!("columns[{i}]"), n.as_str(), n.as_str())).collect()
            }
            Selection::Renamed(entries) => {
                let each = entries.iter();
                each.map(|(new, old)| (format!("columns.{new}"), new, old.as_str())).collect()
            }
        }
    }
}

/// The kind `select`.
#[derive(Debug, Clone, Copy)]
pub struct Select;

impl OperatorKind for Select {
    type Config = SelectConfig;

    const NAME: &'static str = "select";
    const SUMMARY: &'static str = "keeps, orders and renames columns";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str =
        "few: { from: readings, select: { columns: [machine, ts, vibration] } }";

    fn plan(
        config: &SelectConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let (mut from, mut columns) = (Vec::new(), Vec::new());
        for (at, new, old) in config.columns.pairs() {
            match place(input, &at, old) {
                Ok(index) => {
                    from.push(index);
                    columns.push(Column { name: new.to_owned(), ..input.columns()[index].clone() });
                }
                Err(e) => errors.push(e),
            }
        }
        let schema = chosen(input, &from, columns).map_err(|e| errors.extend(e));
        let Ok(schema) = schema else { return Err(errors) };
        if !errors.is_empty() {
            return Err(errors);
        }
        let function = Chosen { from, output: schema.clone() };
        Ok(planned(input, schema, function))
    }
}

/// The schema of the columns `from`, under the names they have in `columns`.
fn chosen(
    input: &Schema,
    from: &[usize],
    columns: Vec<Column>,
) -> Result<Schema, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut kept = |index: usize, what: &str| {
        from.iter().position(|&f| f == index).unwrap_or_else(|| {
            let name = &input.columns()[index].name;
            let error =
                ConfigError::new("columns", format!("column '{name}' is {what} and must stay"));
            errors.push(error.help(format!("add '{name}'")));
            0
        })
    };
    let key = input.key().iter().map(|&k| kept(k, "part of the key")).collect();
    let time = kept(input.time(), "the event time");
    let primary = &input.primary_key().columns;
    let rest = |c: &usize| input.key().contains(c) || *c == input.time();
    for &other in primary.iter().filter(|c| !rest(c)) {
        kept(other, "part of what tells rows apart");
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let place = |c: &usize| from.iter().position(|f| f == c);
    let primary_key = PrimaryKey {
        columns: primary.iter().filter_map(place).collect(),
        position: input.primary_key().position,
    };
    output(columns, key, time, primary_key).map_err(|e| vec![e.under("columns")])
}

/// Some of the columns.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) from: Vec<usize>,
    pub(crate) output: Schema,
}

impl PerRow for Chosen {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let columns = self.from.iter().map(|&c| Arc::clone(rows.column(c))).collect();
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?, None))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, plan, try_plan};

    #[test]
    fn keeps_orders_and_renames() {
        let input = Table::parse(Logical, "m,t,x,s:string,ok:bool\na,0,1,u,true\nb,1,,,\n");
        let config = json!({ "columns": ["m", "t", "ok", "x"] });
        let expected = "m,t,ok:bool,x\na,0,true,1\nb,1,,\n";
        check("select", &config, &input, &Table::parse(Logical, expected));
        let config = json!({ "columns": { "machine": "m", "cycle": "t", "x": "x" } });
        let expected = "machine,cycle,x\na,0,1\nb,1,\n";
        check("select", &config, &input, &Table::parse(Logical, expected));
    }

    #[test]
    fn key_and_time_are_found_in_their_new_places() {
        let input = Table::parse(Logical, "m,t,x\n");
        let config = json!({ "columns": { "x": "x", "at": "t", "who": "m" } });
        let output = plan("select", &config, &input.schema).output;
        assert_eq!((output.key(), output.time()), ([2].as_slice(), 1));
        assert_eq!(output.primary_key().columns, [2, 1]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["x"] }),
                &[
                    "columns: column 'm' is part of the key and must stay",
                    "columns: column 't' is the event time and must stay",
                ],
            ),
            (json!({ "columns": ["m", "t", "y"] }), &["columns[2]: there is no column 'y'"]),
            (json!({ "columns": ["m", "t", "t"] }), &["columns: column 't' is there twice"]),
            (
                json!({ "columns": { "m": "m", "t": "t", "a": "y" } }),
                &["columns.a: there is no column 'y'"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(
                try_plan("select", config, &input.schema).unwrap_err(),
                *expected,
                "{config}"
            );
        }
    }
}
