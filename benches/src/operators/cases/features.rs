//! The cases of features of windows.

use serde_json::json;

use super::super::loops::features as loops;
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    vec![case(
        "window",
        "tumbling 10s, mean and std",
        json!({ "tumbling": "10s", "features": { "x": ["mean", "std"] } }),
        "x_std",
        loops::window,
    )]
}
