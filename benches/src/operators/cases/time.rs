//! The cases of steps in time.

use serde_json::json;

use super::super::inputs;
use super::super::loops::time as loops;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    let aligned = json!({ "by": "sensor", "value": "value", "columns": ["u", "v"],
                          "every": "100ms", "method": "linear", "max_gap": "1s" });
    vec![
        case("align", "two sensors", aligned, "u", loops::align).on(inputs::sensors),
        case("difference", "", x(json!({})), "x_difference", loops::difference),
        case(
            "fill",
            "linear",
            x(json!({ "method": "linear", "max_gap": "1s" })),
            "x",
            loops::fill_linear,
        )
        .on(inputs::holes)
        .because("rows wait whole, and all their columns are gathered; the loop passes x alone on"),
        case("fill", "previous", x(json!({ "method": "previous" })), "x", loops::fill_previous)
            .on(inputs::holes),
        case(
            "gaps",
            "a row each",
            json!({ "longer_than": "10s", "open": false }),
            "gap_length",
            loops::gaps,
        )
        .on(inputs::bursts)
        .because(
            "a row's position is remembered, and if its gap was told; the loop remembers a time",
        ),
        case(
            "gaps",
            "time since",
            json!({ "longer_than": "10s", "length": "since" }),
            "since",
            loops::gap_lengths,
        ),
        case("integrate", "", x(json!({})), "x_integral", loops::integrate),
        case("lag", "10 rows", x(json!({ "rows": 10 })), "x_lag", loops::lag).because(
            "a key's rows are found by hash, and nulls looked for; the loop copies slices",
        ),
        case("rate", "", x(json!({})), "x_rate", loops::rate),
        case(
            "resample",
            "linear, 250ms",
            x(json!({ "every": "250ms", "method": "linear", "max_gap": "1s" })),
            "x",
            loops::resample,
        )
        .because("points wait in a queue until the grid is decided; the loop writes them at once"),
        case("time_features", "hour", json!({ "calendar": ["hour"] }), "hour", loops::hour)
            .because("each row's day is found as well as its time of day; the loop is a division"),
        case(
            "time_features",
            "day_sin",
            json!({ "calendar": ["day_sin"] }),
            "day_sin",
            loops::day_circle,
        )
        .because("as for the hour; and the sine has the same bits on every platform"),
        case(
            "time_features",
            "operating hours",
            json!({ "operating": { "hours": "on" } }),
            "hours",
            loops::operating_hours,
        ),
    ]
}
