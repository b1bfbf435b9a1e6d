//! The cases: a step with its configuration, the column that is summed, and the loop that computes it by hand.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use serde_json::{Value, json};

use super::loops;
use super::rows::Rows;

/// One line of the report.
pub(super) struct Case {
    pub(super) step: &'static str,
    /// What it is asked to do, for people.
    pub(super) what: &'static str,
    pub(super) config: Value,
    /// The column whose values are compared.
    pub(super) sum: &'static str,
    pub(super) plain: fn(&Rows) -> Counts,
}

/// How many values came out, and their sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) n: u64,
    pub(super) sum: f64,
}

impl Counts {
    pub(super) fn add(&mut self, values: &[f64]) {
        self.n += values.len() as u64;
        self.sum += values.iter().sum::<f64>();
    }

    pub(super) fn add_column(&mut self, column: &ArrayRef) {
        let floats = match column.data_type() {
            DataType::Boolean => {
                let set: &BooleanArray = column.as_boolean();
                self.n += (set.len() - set.null_count()) as u64;
                self.sum += set.true_count() as f64;
                return;
            }
            DataType::Float64 => column.clone(),
            _ => cast(column, &DataType::Float64).expect("a number"),
        };
        let floats = floats.as_primitive::<Float64Type>();
        if floats.null_count() == 0 {
            self.add(floats.values());
        } else {
            let values: Vec<f64> = floats.iter().flatten().collect();
            self.add(&values);
        }
    }

    /// Whether both have computed the same; sums over millions of values in another order differ in their last digits.
    pub(super) fn agree(&self, other: &Self) -> bool {
        let scale = self.sum.abs().max(other.sum.abs()).max(1.0);
        self.n == other.n && (self.sum - other.sum).abs() <= 1e-6 * scale
    }
}

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let case = |step, what, config, sum, plain| Case { step, what, config, sum, plain };
    vec![
        case("ema", "alpha 0.1", json!({ "columns": ["x"], "alpha": 0.1 }), "x", loops::ema),
        case(
            "ema",
            "half_life 3s",
            json!({ "columns": ["x"], "half_life": "3s" }),
            "x",
            loops::ema_timed,
        ),
        case(
            "moving_average",
            "20 rows",
            json!({ "columns": ["x"], "rows": 20 }),
            "x",
            loops::moving_average,
        ),
    ]
}
