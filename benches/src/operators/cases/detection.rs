//! The cases of steps that detect.

use serde_json::json;

use super::super::loops::detection as loops;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "cusum",
            "",
            x(json!({ "target": 2, "slack": 0.1, "limit": 5 })),
            "x_cusum_high",
            loops::cusum,
        ),
        case(
            "ewma_chart",
            "",
            x(json!({ "target": 2, "sigma": 0.5, "lambda": 0.1, "sigmas": 2.7 })),
            "x_ewma",
            loops::ewma_chart,
        ),
        case(
            "k_of_n",
            "3 of 5",
            json!({ "columns": ["on"], "k": 3, "rows": 5 }),
            "on",
            loops::k_of_n,
        ),
        case(
            "page_hinkley",
            "",
            x(json!({ "delta": 0.005, "limit": 50 })),
            "x_page_hinkley_up",
            loops::page_hinkley,
        ),
        case(
            "threshold",
            "one level",
            json!({ "columns": { "x": { "high": { "above": 2.5, "hysteresis": 0.5 } } } }),
            "x_high",
            loops::threshold,
        ),
    ]
}
