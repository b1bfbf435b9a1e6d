//! The cases: a step with its configuration, the column that is summed, and the loop that computes it by hand.
//!
//! A file a family of steps.

mod detection;
mod features;
mod quality;
mod scaling;
mod shape;
mod smoothing;
mod spectrum;
mod time;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use foreline_engine::{Batch, Schema};
use serde_json::{Value, json};

use super::rows::Rows;

/// Makes a relation, its rows in one batch.
type Reference = fn() -> Result<(Schema, Batch)>;

/// One line of the report.
pub(super) struct Case {
    pub(super) step: &'static str,
    /// What it is asked to do, for people.
    pub(super) what: &'static str,
    pub(super) config: Value,
    /// The column whose values are compared.
    pub(super) sum: &'static str,
    pub(super) plain: fn(&Rows) -> Counts,
    /// What stands in the file that the step reads when it is planned.
    pub(super) statistics: Option<Value>,
    /// What the step and its loop are given, made of the readings.
    pub(super) input: fn(&Rows) -> Result<Rows>,
    /// The relation in which the step looks rows up.
    pub(super) reference: Option<Reference>,
    /// Why the step takes more than three times as long as its loop; empty where it does not.
    pub(super) why: &'static str,
}

impl Case {
    /// Gives the step a file of statistics of some kind.
    fn fitted(self, kind: &str, fitted: &Value) -> Self {
        let statistics = json!({
            "foreline_statistics": 1, "kind": kind, "name": "bench", "rows": 1000, "fitted": fitted
        });
        Case { statistics: Some(statistics), ..self }
    }

    /// Gives it other rows than the readings.
    fn on(self, input: fn(&Rows) -> Result<Rows>) -> Self {
        Case { input, ..self }
    }

    /// Gives it a relation to look rows up in.
    fn looking_up(self, reference: Reference) -> Self {
        Case { reference: Some(reference), ..self }
    }

    /// Says why the step takes that much longer than its loop.
    fn because(self, why: &'static str) -> Self {
        Case { why, ..self }
    }
}

/// All cases, in the order of the steps' names.
pub(super) fn all() -> Vec<Case> {
    let families = [
        detection::cases(),
        features::cases(),
        quality::cases(),
        scaling::cases(),
        shape::cases(),
        smoothing::cases(),
        spectrum::cases(),
        time::cases(),
    ];
    let mut cases: Vec<Case> = families.into_iter().flatten().collect();
    cases.sort_by_key(|case| case.step);
    cases
}

fn case(
    step: &'static str,
    what: &'static str,
    config: Value,
    sum: &'static str,
    plain: fn(&Rows) -> Counts,
) -> Case {
    let input = |readings: &Rows| Ok(readings.clone());
    Case { step, what, config, sum, plain, input, statistics: None, reference: None, why: "" }
}

/// These options of a step, for column `x`.
fn x(mut options: Value) -> Value {
    options["columns"] = json!(["x"]);
    options
}

/// How many values came out, and their sum.
///
/// Of a text it is its [`weight`] that is summed, of a list its items.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) n: u64,
    pub(super) sum: f64,
}

impl Counts {
    pub(super) fn add(&mut self, values: &[f64]) {
        self.n += values.len() as u64;
        // In lanes, so that what takes time is the step and not the sum.
        let (lanes, rest) = values.as_chunks::<8>();
        let mut sums = [0.0; 8];
        for lane in lanes {
            sums.iter_mut().zip(lane).for_each(|(sum, value)| *sum += value);
        }
        self.sum += sums.iter().chain(rest).sum::<f64>();
    }

    pub(super) fn add_texts(&mut self, texts: &[&str]) {
        self.n += texts.len() as u64;
        self.sum += texts.iter().map(|text| weight(text)).sum::<f64>();
    }

    pub(super) fn add_column(&mut self, column: &ArrayRef) {
        match column.data_type() {
            DataType::Boolean => {
                let set: &BooleanArray = column.as_boolean();
                self.n += (set.len() - set.null_count()) as u64;
                self.sum += set.true_count() as f64;
            }
            DataType::Float64 => self.add_floats(column),
            // Plainer than the cast, which asks of each number whether it fits.
            DataType::Int64 if column.null_count() == 0 => {
                let whole = column.as_primitive::<Int64Type>().values().iter();
                self.add(&whole.map(|v| *v as f64).collect::<Vec<f64>>());
            }
            DataType::Utf8 => {
                let texts: Vec<&str> = column.as_string::<i32>().iter().flatten().collect();
                self.add_texts(&texts);
            }
            DataType::Dictionary(_, _) => self.add_dictionary(column),
            DataType::List(_) => self.add_column(column.as_list::<i32>().values()),
            _ => self.add_floats(&cast(column, &DataType::Float64).expect("a number")),
        }
    }

    fn add_floats(&mut self, floats: &ArrayRef) {
        let floats = floats.as_primitive::<Float64Type>();
        if floats.null_count() == 0 {
            self.add(floats.values());
        } else {
            let values: Vec<f64> = floats.iter().flatten().collect();
            self.add(&values);
        }
    }

    /// Each text of the dictionary is weighed once.
    fn add_dictionary(&mut self, column: &ArrayRef) {
        let dictionary = column.as_any_dictionary();
        let weights: Vec<f64> = match dictionary.values().data_type() {
            DataType::Utf8 => dictionary
                .values()
                .as_string::<i32>()
                .iter()
                .map(|t| t.map_or(0.0, weight))
                .collect(),
            other => unreachable!("a dictionary of {other}"),
        };
        let places = dictionary.normalized_keys();
        let keys = dictionary.keys();
        let present = (0..keys.len()).filter(|&row| keys.is_valid(row));
        let values: Vec<f64> = present.map(|row| weights[places[row]]).collect();
        self.add(&values);
    }

    /// Whether both have computed the same; sums over millions of values in another order differ in their last digits.
    pub(super) fn agree(&self, other: &Self) -> bool {
        let scale = self.sum.abs().max(other.sum.abs()).max(1.0);
        self.n == other.n && (self.sum - other.sum).abs() <= 1e-6 * scale
    }
}

/// A number for a text, which other words hardly have.
pub(super) fn weight(text: &str) -> f64 {
    let ends = text.bytes().next().zip(text.bytes().next_back());
    ends.map_or(0.0, |(first, last)| {
        text.len() as f64 + 31.0 * f64::from(first) + 7.0 * f64::from(last)
    })
}
