//! Ensemble: makes one value of several columns, such as the predictions of several models.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows and the column `as`: the least, mean, median or greatest of the values, in the columns' unit,
//!         `Float64`. Where a value is missing, `missing` says whether the others speak or the answer is null
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  NumPy `nanmin`, `nanmedian`, `nanmax`; `average` with weights
//!
//! The median of an even number of values is the mean of the two in the middle. Where a value with a weight is missing,
//! the weights of the others are scaled to sum to what they should.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, numeric, only, output};
use crate::mistakes::Mistakes;
use crate::stateless::{Fate, PerRow, planned};

/// Makes one value of several columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsembleConfig {
    /// The columns, two or more, all in one unit.
    pub columns: Vec<String>,
    /// What is made of them.
    pub by: By,
    /// Weights for `mean`, one a column, each 0 or above and one of them above 0. Left out: all columns weigh the same.
    #[serde(default)]
    pub weights: Vec<f64>,
    /// What happens in a row in which some of the values are missing. Where all are, the answer is null.
    #[serde(default)]
    pub missing: MissingValues,
    /// The name of the new column.
    #[serde(rename = "as")]
    pub name: String,
}

/// What is made of several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The least: the most careful of several remaining lives.
    Min,
    /// The mean, by `weights` where they are given.
    Mean,
    /// The value in the middle, which one model that errs cannot move far.
    Median,
    /// The greatest.
    Max,
}

/// What happens in a row in which some of the values are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingValues {
    /// The others speak.
    #[default]
    Skip,
    /// The answer is null.
    Null,
}

/// The kind `ensemble`.
#[derive(Debug, Clone, Copy)]
pub struct Ensemble;

impl OperatorKind for Ensemble {
    type Config = EnsembleConfig;

    const NAME: &'static str = "ensemble";
    const SUMMARY: &'static str = "makes one value of the predictions of several models";
    const FAMILY: Family = Family::Models;
    const EXAMPLE: &'static str = "calm: { from: readings, moving_median: { columns: [vibration], rows: 9, as: { vibration: calm } } }\nworst: { from: calm, ensemble: { columns: [vibration, calm], by: max, as: worst } }";

    fn plan(
        config: &EnsembleConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let named = config.columns.iter().enumerate();
        let found = named.map(|(i, name)| numeric(input, &format!("columns[{i}]"), name));
        let from: Vec<usize> = found.filter_map(|place| mistakes.one(place)).collect();
        let weights = mistakes.one(weights(config));
        if config.columns.len() < 2 {
            let error = ConfigError::new("columns", "an ensemble has two columns or more");
            mistakes.push(error.help("name the columns of all predictions"));
        }
        let unit = mistakes.one(unit(input, &from));
        let schema = unit.and_then(|unit| {
            let mut columns = input.columns().to_vec();
            columns.push(Column::new(config.name.clone(), DataType::Float64).with_unit(unit));
            let (key, primary) = (input.key().to_vec(), input.primary_key().clone());
            let schema = output(columns, key, input.time(), primary);
            mistakes.one(schema.map_err(|e| e.under("as")))
        });
        let (weights, schema) = mistakes.or(weights.zip(schema))?;
        let EnsembleConfig { by, missing, .. } = *config;
        let combined = Combined { from, by, weights, missing, schema: schema.clone() };
        Ok(planned(input, schema, combined))
    }
}

/// The weights of the columns, 1 where none are given.
fn weights(config: &EnsembleConfig) -> Result<Vec<f64>, ConfigError> {
    let wrong = |what: String| Err(ConfigError::new("weights", what));
    let (given, n) = (&config.weights, config.columns.len());
    if given.is_empty() {
        return Ok(vec![1.0; n]);
    }
    if config.by != By::Mean {
        return wrong("only a mean has weights".to_owned())
            .map_err(|e| e.help("leave 'weights' out, or take by: mean"));
    }
    if given.len() != n {
        return wrong(format!("{} weights do not fit {n} columns", given.len()));
    }
    if let Some(weight) = given.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return wrong(format!("'{weight}' is not 0 or above"));
    }
    if given.iter().all(|&w| w == 0.0) {
        return wrong("all of them are 0".to_owned());
    }
    Ok(given.clone())
}

/// The one unit of the columns; those without one say nothing.
fn unit(input: &Schema, from: &[usize]) -> Result<Option<foreline_engine::Unit>, ConfigError> {
    let mut units = from.iter().filter_map(|&at| input.columns()[at].unit.as_ref());
    let Some(first) = units.next() else { return Ok(None) };
    match units.find(|unit| *unit != first) {
        None => Ok(Some(first.clone())),
        Some(other) => {
            let message = format!("the columns are in '{}' and '{}'", first.code(), other.code());
            Err(ConfigError::new("columns", message).help("bring them to one unit with `convert`"))
        }
    }
}

#[derive(Debug, Clone)]
struct Combined {
    from: Vec<usize>,
    by: By,
    weights: Vec<f64>,
    missing: MissingValues,
    schema: Schema,
}

impl PerRow for Combined {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let from = self.from.iter();
        let channels = from.map(|&c| channel(rows.column(c))).collect::<Result<Vec<_>, _>>()?;
        // The values of a row that are there, with their weights.
        let mut there: Vec<(f64, f64)> = Vec::with_capacity(channels.len());
        let answers = (0..rows.num_rows()).map(|row| {
            there.clear();
            let values =
                channels.iter().map(|values| values[row]).zip(self.weights.iter().copied());
            there.extend(values.filter(|(value, _)| !value.is_nan()));
            let enough = self.missing == MissingValues::Skip || there.len() == channels.len();
            if enough { self.by.of(&mut there) } else { f64::NAN }
        });
        let answers = nullable(answers.collect());
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(answers));
        Ok((RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?, None))
    }
}

impl By {
    /// What is made of values with weights; NaN of none, and of those that weigh nothing.
    fn of(self, values: &mut [(f64, f64)]) -> f64 {
        match self {
            By::Min => values.iter().fold(f64::NAN, |least, (v, _)| least.min(*v)),
            By::Max => values.iter().fold(f64::NAN, |most, (v, _)| most.max(*v)),
            By::Mean => {
                let total: f64 = values.iter().map(|(_, w)| w).sum();
                values.iter().map(|(v, w)| v * w).sum::<f64>() / total
            }
            By::Median => {
                values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
                let middle = values.len() / 2;
                match (values.get(middle), values.len() % 2) {
                    (None, _) => f64::NAN,
                    (Some((value, _)), 1) => *value,
                    (Some((value, _)), _) => f64::midpoint(values[middle - 1].0, *value),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::{Schema, TimeDomain::Logical, Unit};
    use serde_json::{Value, json};

    use crate::testing::{Table, check, plan, try_plan};

    fn table(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    #[test]
    fn agrees_with_numpy() {
        let expected = table(include_str!("../reference/ensemble.csv"));
        let input = table(include_str!("../reference/predictions.csv"));
        let answers = ["min", "mean", "median", "max", "weighted"];
        for answer in answers {
            let weighted = answer == "weighted";
            let mut config = json!({ "columns": ["a", "b", "c"], "as": "answer",
                "by": if weighted { "mean" } else { answer } });
            if weighted {
                config["weights"] = json!([0.5, 2, 1]);
            }
            let outcome = crate::testing::sameness("ensemble", &config, &input);
            let wanted = expected.numbers(answer);
            for row in &outcome.rows {
                let found = row.cells[5].number();
                let wanted = wanted[usize::try_from(row.position).unwrap()];
                assert_eq!(found.is_some(), wanted.is_some(), "{answer}");
                let off = found.unwrap_or(0.0) - wanted.unwrap_or(0.0);
                assert!(off.abs() < 1e-12, "{answer}: {found:?}, not {wanted:?}");
            }
        }
    }

    #[test]
    fn a_missing_value_makes_no_answer_where_all_must_speak() {
        let input = table("m,t,a,b:int64\na,0,3,5\na,1,,5\nb,2,3,\n");
        let config = json!({ "columns": ["a", "b"], "by": "median", "missing": "null", "as": "y" });
        let expected = table("m,t,a,b:int64,y\na,0,3,5,4\na,1,,5,\nb,2,3,,\n");
        check("ensemble", &config, &input, &expected);
    }

    #[test]
    fn what_weighs_nothing_says_nothing() {
        let input = table("m,t,a,b\na,0,3,5\na,1,3,\n");
        let config = json!({ "columns": ["a", "b"], "by": "mean", "weights": [0, 1], "as": "y" });
        check("ensemble", &config, &input, &table("m,t,a,b,y\na,0,3,5,5\na,1,3,,\n"));
    }

    #[test]
    fn the_unit_is_that_of_the_columns() {
        let with = |units: [&str; 2]| {
            let mut columns = table("m,t,a,b\n").schema.columns().to_vec();
            columns[2].unit = Some(Unit::new(units[0]));
            columns[3].unit = Some(Unit::new(units[1]));
            Schema::new(columns, &["m"], "t").unwrap()
        };
        let config = json!({ "columns": ["a", "b"], "by": "min", "as": "y" });
        let output = plan("ensemble", &config, &with(["h", "h"])).output;
        assert_eq!(output.column("y").unwrap().unit, Some(Unit::new("h")));
        let errors = try_plan("ensemble", &config, &with(["h", "d"])).unwrap_err();
        assert_eq!(errors, ["columns: the columns are in 'h' and 'd'"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = table("m,t,a,b,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["s", "z"], "by": "min", "weights": [1, 1], "as": "y" }),
                &[
                    "columns[0]: column 's' is Utf8, not a number",
                    "columns[1]: there is no column 'z'",
                    "weights: only a mean has weights",
                ],
            ),
            (
                json!({ "columns": ["a"], "by": "mean", "as": "y" }),
                &["columns: an ensemble has two columns or more"],
            ),
            (
                json!({ "columns": ["a", "b"], "by": "mean", "weights": [1], "as": "a" }),
                &["weights: 1 weights do not fit 2 columns", "as: column 'a' is there twice"],
            ),
            (
                json!({ "columns": ["a", "b"], "by": "mean", "weights": [1, -1], "as": "y" }),
                &["weights: '-1' is not 0 or above"],
            ),
            (
                json!({ "columns": ["a", "b"], "by": "mean", "weights": [0, 0], "as": "y" }),
                &["weights: all of them are 0"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("ensemble", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
