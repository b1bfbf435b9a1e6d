//! The cases of features of windows.

use serde_json::{Value, json};

use super::super::inputs;
use super::super::loops::features as loops;
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let spread = |mut options: Value| {
        options["features"] = json!({ "x": ["mean", "std"] });
        options
    };
    let mean = json!({ "x": ["mean"] });
    vec![
        case(
            "window",
            "tumbling 10s, mean and std",
            spread(json!({ "tumbling": "10s" })),
            "x_std",
            loops::count,
        ),
        case(
            "window",
            "count 100, mean and std",
            spread(json!({ "count": { "rows": 100 } })),
            "x_std",
            loops::count,
        ),
        case(
            "window",
            "session, mean and std",
            spread(json!({ "session": { "gap": "10s" } })),
            "x_std",
            loops::session,
        )
        .on(inputs::bursts),
        case(
            "window",
            "sliding 10s every 1s, mean",
            json!({ "sliding": { "length": "10s", "every": "1s" }, "features": mean }),
            "x_mean",
            loops::sliding,
        ),
        case(
            "window",
            "rolling 20 rows, mean",
            json!({ "rolling": { "rows": 20 }, "features": mean }),
            "x_mean",
            loops::rolling,
        ),
    ]
}
