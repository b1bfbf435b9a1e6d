//! The cases of steps in time.

use serde_json::json;

use super::super::loops::time as loops;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("difference", "", x(json!({})), "x_difference", loops::difference),
        case("integrate", "", x(json!({})), "x_integral", loops::integrate),
        case("lag", "10 rows", x(json!({ "rows": 10 })), "x_lag", loops::lag),
        case("rate", "", x(json!({})), "x_rate", loops::rate),
    ]
}
