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
        )
        .because("extremes and higher moments come out of the same passes; the loop finds two"),
        case(
            "window",
            "count 100, mean and std",
            spread(json!({ "count": { "rows": 100 } })),
            "x_std",
            loops::count,
        )
        .because("as for tumbling windows"),
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
        )
        .because("a window is joined from panes with extremes and squares; the loop adds numbers"),
        case(
            "window",
            "rolling 20 rows, mean",
            json!({ "rolling": { "rows": 20 }, "features": mean }),
            "x_mean",
            loops::rolling,
        )
        .because("nulls, extremes and squares are looked for in each; the loop adds 20 numbers"),
    ]
}
