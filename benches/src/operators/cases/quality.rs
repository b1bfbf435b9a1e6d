//! The cases of steps that judge values and machines.

use serde_json::json;

use super::super::loops::quality as loops;
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "quality",
            "range and rate",
            json!({ "columns": { "x": {
                "range": { "suspect": [1.2, 2.8], "fail": [0.5, 3.5] },
                "rate": { "suspect": 10, "fail": 15 },
            } } }),
            "x_flag",
            loops::quality,
        )
        .because("any of six tests may be asked for, and names are text; the loop has two tests"),
        case(
            "run_state",
            "one signal",
            json!({ "signals": { "x": { "above": 2.0, "below": 1.2 } }, "settle": "500ms" }),
            "run_state_for",
            loops::run_state,
        ),
    ]
}
