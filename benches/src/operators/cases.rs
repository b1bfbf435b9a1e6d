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
    let x = |mut config: Value| {
        config["columns"] = json!(["x"]);
        config
    };
    vec![
        case("clip", "", x(json!({ "lower": 1.5, "upper": 2.5 })), "x", loops::clip),
        case(
            "cusum",
            "",
            x(json!({ "target": 2, "slack": 0.1, "limit": 5 })),
            "x_cusum_high",
            loops::cusum,
        ),
        case("deadband", "", json!({ "columns": { "x": 0.5 } }), "x", loops::deadband),
        case("difference", "", x(json!({})), "x_difference", loops::difference),
        case("ema", "alpha", x(json!({ "alpha": 0.1 })), "x", loops::ema),
        case("ema", "half-life", x(json!({ "half_life": "3s" })), "x", loops::ema_timed),
        case(
            "ewma_chart",
            "",
            x(json!({ "target": 2, "sigma": 0.5, "lambda": 0.1, "sigmas": 2.7 })),
            "x_ewma",
            loops::ewma_chart,
        ),
        case("hampel", "15 rows", x(json!({ "rows": 15 })), "x", loops::hampel),
        case("integrate", "", x(json!({})), "x_integral", loops::integrate),
        case(
            "kalman_1d",
            "",
            x(json!({ "process_variance": 0.01, "measurement_variance": 0.25 })),
            "x",
            loops::kalman,
        ),
        case(
            "k_of_n",
            "3 of 5",
            json!({ "columns": ["on"], "k": 3, "rows": 5 }),
            "on",
            loops::k_of_n,
        ),
        case("lag", "10 rows", x(json!({ "rows": 10 })), "x_lag", loops::lag),
        case(
            "low_pass",
            "order 4",
            x(json!({ "cutoff_hz": 1, "every": "100ms", "order": 4, "start": "zero" })),
            "x",
            loops::low_pass,
        ),
        case("monotone", "", x(json!({ "running": "maximum" })), "x", loops::monotone),
        case("moving_average", "20 rows", x(json!({ "rows": 20 })), "x", loops::moving_average),
        case("moving_median", "9 rows", x(json!({ "rows": 9 })), "x", loops::moving_median),
        case(
            "page_hinkley",
            "",
            x(json!({ "delta": 0.005, "limit": 50 })),
            "x_page_hinkley_up",
            loops::page_hinkley,
        ),
        case("rate", "", x(json!({})), "x_rate", loops::rate),
        case("rate_limit", "1s", json!({ "every": "1s" }), "x", loops::rate_limit),
        case(
            "threshold",
            "one level",
            json!({ "columns": { "x": { "high": { "above": 2.5, "hysteresis": 0.5 } } } }),
            "x_high",
            loops::threshold,
        ),
        case(
            "window",
            "tumbling 10s, mean and std",
            json!({ "tumbling": "10s", "features": { "x": ["mean", "std"] } }),
            "x_std",
            loops::window,
        ),
    ]
}
