//! The cases of steps that shape rows.

use serde_json::json;

use super::super::inputs;
use super::super::loops::{joins, shape as loops};
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = rows();
    cases.extend(columns());
    cases.extend(streams());
    cases
}

/// Steps that choose rows, or make others of them.
fn rows() -> Vec<Case> {
    vec![
        case("deadband", "", json!({ "columns": { "x": 0.5 } }), "x", loops::deadband),
        case(
            "explode",
            "two columns",
            json!({ "columns": ["x", "y"], "unit": "unit" }),
            "value",
            loops::explode,
        ).because("names and units are written as text, and rows keep hash and position; the loop's are references"),
        case("filter", "a boolean column", json!("on"), "x", loops::filter),
        case(
            "pivot",
            "two series",
            json!({ "by": "sensor", "value": "value", "columns": ["u", "v"] }),
            "u",
            loops::pivot,
        )
        .on(inputs::pairs).because("any number of series is looked up by name, and rows go out with key and position; the loop knows two"),
        case("rate_limit", "1s", json!({ "every": "1s" }), "x", loops::rate_limit),
        case("sample", "every tenth", json!({ "every": 10 }), "x", loops::sample_every),
        case("sample", "a share", json!({ "share": 0.1 }), "x", loops::sample_share),
        case(
            "swinging_door",
            "",
            json!({ "column": "x", "deviation": 0.5, "max_gap": "10s" }),
            "x",
            loops::swinging_door,
        ),
    ]
}

/// Steps that make columns.
fn columns() -> Vec<Case> {
    let ways = json!({ "high": "x > 2.5", "middle": "x > 1.5" });
    vec![
        case(
            "cast",
            "text to number",
            json!({ "columns": { "text": "float64" } }),
            "text",
            loops::cast_text,
        )
        .on(inputs::texts),
        case(
            "cast",
            "boolean to number",
            json!({ "columns": { "on": "int64" } }),
            "on",
            loops::cast_bool,
        ),
        case("convert", "Cel to degF", json!({ "columns": { "y": "degF" } }), "y", loops::convert),
        case("derive", "a sum", json!({ "columns": { "sum": "x + y" } }), "sum", loops::derive),
        case("rename", "", json!({ "columns": { "velocity": "x" } }), "velocity", loops::same),
        case(
            "route",
            "three ways",
            json!({ "ways": ways, "otherwise": "low" }),
            "route",
            loops::route,
        ),
        case("select", "", json!({ "columns": ["machine", "ts", "x"] }), "x", loops::same),
    ]
}

/// Steps that read two streams.
fn streams() -> Vec<Case> {
    vec![
        case("asof_join", "", json!({ "within": "1s" }), "z", joins::asof_join).on(inputs::beside).because("any columns of both rows are gathered by place, and partners searched for; the loop pops a queue"),
        case(
            "interval_join",
            "two to each row",
            json!({ "before": "100ms", "after": "100ms" }),
            "z",
            joins::interval_join,
        )
        .on(inputs::beside).because("as for asof_join; each row searches for its first and its last partner"),
        case("union", "", json!({}), "x", joins::union).on(inputs::twice).because("rows that wait are sorted, and any columns gathered by place from both streams; the loop knows five"),
    ]
}
