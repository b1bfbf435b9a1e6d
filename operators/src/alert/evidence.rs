//! The values of a row that are kept with a change, as JSON.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use foreline_engine::{ConfigError, Schema};
use serde_json::{Map, Value};

use super::{AlertConfig, SeverityConfig};
use crate::columns::place;
use crate::mistakes::Mistakes;

/// Columns with their names.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    columns: Vec<(String, usize)>,
}

impl Evidence {
    pub(super) fn plan(
        config: &AlertConfig,
        input: &Schema,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let columns = match &config.evidence {
            Some(names) => chosen(names, input, mistakes)?,
            None => usual(config, input),
        };
        let named = columns.into_iter().map(|c| (input.columns()[c].name.clone(), c));
        Some(Evidence { columns: named.collect() })
    }

    /// The values of a row. Numbers have the fewest digits that give them back, what is missing is null.
    pub(super) fn json(&self, rows: &RecordBatch, row: usize) -> String {
        let values = self
            .columns
            .iter()
            .map(|(name, column)| (name.clone(), value(rows.column(*column).as_ref(), row)));
        Value::Object(values.collect::<Map<_, _>>()).to_string()
    }
}

fn value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Float64 => Value::from(column.as_primitive::<Float64Type>().value(row)),
        DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => Value::from(column.as_boolean().value(row)),
        // Text and times can be displayed.
        _ => array_value_to_string(column, row).map_or(Value::Null, Value::from),
    }
}

fn chosen(names: &[String], input: &Schema, mistakes: &mut Mistakes) -> Option<Vec<usize>> {
    let mut columns = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let at = format!("evidence[{i}]");
        let column = mistakes.one(place(input, &at, name));
        if let Some(column) = column {
            if columns.contains(&column) {
                mistakes.push(ConfigError::new(at, format!("column '{name}' is there twice")));
            } else if matches!(input.columns()[column].data_type, DataType::List(_)) {
                let error = ConfigError::new(at, format!("column '{name}' is a list of numbers"));
                mistakes.push(error.help("name a column with one value a row"));
            }
            columns.push(column);
        }
    }
    (columns.len() == names.len()).then_some(columns)
}

/// The columns that the conditions name; where they name none, all numbers.
fn usual(config: &AlertConfig, input: &Schema) -> Vec<usize> {
    let mut words = BTreeSet::new();
    if let Some(sql) = &config.when {
        names_in(sql, &mut words);
    }
    if let SeverityConfig::ByCondition(levels) = &config.severity {
        levels.values().for_each(|sql| names_in(sql, &mut words));
    }
    let values =
        || (0..input.columns().len()).filter(|c| !input.key().contains(c) && *c != input.time());
    let data_type = |c: usize| &input.columns()[c].data_type;
    let is_named = |c: &usize| {
        words.contains(&input.columns()[*c].name) && !matches!(data_type(*c), DataType::List(_))
    };
    let named: Vec<usize> = values().filter(is_named).collect();
    if !named.is_empty() {
        return named;
    }
    let is_number = |c: &usize| matches!(data_type(*c), DataType::Float64 | DataType::Int64);
    values().filter(is_number).collect()
}

/// The words of an expression that may name columns: all but those in quoted text. One too many does no harm.
fn names_in(sql: &str, words: &mut BTreeSet<String>) {
    let mut quote = None;
    let mut word = String::new();
    for c in sql.chars().chain([' ']) {
        let ends = match quote {
            Some(quote) => c == quote,
            None => !(c.is_alphanumeric() || c == '_' || c == '$'),
        };
        if !ends {
            word.push(c);
            continue;
        }
        let word = std::mem::take(&mut word);
        if quote != Some('\'') && !word.is_empty() {
            words.insert(word);
        }
        quote = match quote {
            None => Some(c).filter(|c| "'\"".contains(*c)),
            Some(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_outside_of_quoted_text() {
        let mut words = BTreeSet::new();
        names_in("x1>90 AND \"run state\" <> 'off; y' OR ABS(z_2)<3", &mut words);
        let found: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(found, ["3", "90", "ABS", "AND", "OR", "run state", "x1", "z_2"]);
    }
}
