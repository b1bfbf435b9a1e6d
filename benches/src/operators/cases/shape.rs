//! The cases of steps that shape rows.

use serde_json::json;

use super::super::loops::shape as loops;
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("deadband", "", json!({ "columns": { "x": 0.5 } }), "x", loops::deadband),
        case("rate_limit", "1s", json!({ "every": "1s" }), "x", loops::rate_limit),
    ]
}
