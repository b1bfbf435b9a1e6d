//! The cases of steps that detect.

use serde_json::json;

use super::super::loops::detection as loops;
use super::super::rows::Rows;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("adwin", "", x(json!({})), "x_adwin_mean", loops::adwin),
        case(
            "cusum",
            "",
            x(json!({ "target": 2, "slack": 0.1, "limit": 5 })),
            "x_cusum_high",
            loops::cusum,
        ),
        case("drift", "", x(json!({ "learn": { "rows": 200 } })), "x_shift", loops::drift),
        case(
            "ewma_chart",
            "",
            x(json!({ "target": 2, "sigma": 0.5, "lambda": 0.1, "sigmas": 2.7 })),
            "x_ewma",
            loops::ewma_chart,
        ),
        case(
            "half_space_trees",
            "10 trees of depth 8, 2 columns",
            json!({ "columns": ["x", "y"], "ranges": { "x": [1, 3], "y": [50, 70] } }),
            "anomaly_score",
            loops::half_space_trees,
        )
        .on(Rows::few),
        case(
            "k_of_n",
            "3 of 5",
            json!({ "columns": ["on"], "k": 3, "rows": 5 }),
            "on",
            loops::k_of_n,
        )
        .because("where the last k true values were is kept, for any k; the loop keeps five bits"),
        case(
            "matrix_profile",
            "30 rows among 1,000",
            x(json!({ "rows": 30, "history": 1000 })),
            "x_matrix_profile",
            loops::matrix_profile,
        )
        .on(Rows::few),
        case(
            "page_hinkley",
            "",
            x(json!({ "delta": 0.005, "limit": 50 })),
            "x_page_hinkley_up",
            loops::page_hinkley,
        ),
        case(
            "pca_t2q",
            "2 columns",
            json!({ "columns": ["x", "y"], "learn": { "rows": 200 }, "components": 1 }),
            "pca_t2",
            loops::pca_t2q,
        )
        .because("it is for any number of columns, its loop for two"),
        case(
            "threshold",
            "one level",
            json!({ "columns": { "x": { "high": { "above": 2.5, "hysteresis": 0.5 } } } }),
            "x_high",
            loops::threshold,
        )
        .because("it also writes the name of the level as text, and leaves nulls out"),
    ]
}
