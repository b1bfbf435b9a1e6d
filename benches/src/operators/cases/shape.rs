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
        )
        .because("names and units are written out as text; the loop's are references"),
        case("filter", "a boolean column", json!("on"), "x", loops::filter),
        case(
            "pivot",
            "two series",
            json!({ "by": "sensor", "value": "value", "columns": ["u", "v"] }),
            "u",
            loops::pivot,
        )
        .on(inputs::pairs)
        .because(
            "series are looked up in a list, and rows have key and position; the loop knows two",
        ),
        case("rate_limit", "1s", json!({ "every": "1s" }), "x", loops::rate_limit).because(
            "any columns, key hash and position are chosen from; the loop knows five columns",
        ),
        case("sample", "every tenth", json!({ "every": 10 }), "x", loops::sample_every).because(
            "any columns, key hash and position are chosen from; the loop knows five columns",
        ),
        case("sample", "a share", json!({ "share": 0.1 }), "x", loops::sample_share),
        case(
            "swinging_door",
            "",
            json!({ "column": "x", "deviation": 0.5, "max_gap": "10s" }),
            "x",
            loops::swinging_door,
        )
        .because(
            "rows have a place and a position, and any columns are gathered; the loop knows five",
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
        )
        .because("arrow's cast asks of each value whether it is null; the loop has no nulls"),
        case("convert", "Cel to degF", json!({ "columns": { "y": "degF" } }), "y", loops::convert),
        case("derive", "a sum", json!({ "columns": { "sum": "x + y" } }), "sum", loops::derive)
            .because("every result is asked whether it is a finite number; the loop adds"),
        case("rename", "", json!({ "columns": { "velocity": "x" } }), "velocity", loops::same),
        case(
            "route",
            "three ways",
            json!({ "ways": ways, "otherwise": "low" }),
            "route",
            loops::route,
        )
        .because("the names are written out as text; the loop's are references"),
        case("select", "", json!({ "columns": ["machine", "ts", "x"] }), "x", loops::same),
    ]
}

/// Steps that read two streams, or a stream and a reference.
fn streams() -> Vec<Case> {
    vec![
        case("asof_join", "", json!({ "within": "1s" }), "z", joins::asof_join)
            .on(inputs::beside)
            .because("partners are searched for, and any columns gathered; the loop pops a queue"),
        case(
            "interval_join",
            "two to each row",
            json!({ "before": "100ms", "after": "100ms" }),
            "z",
            joins::interval_join,
        )
        .on(inputs::beside)
        .because("as for asof_join; each row searches for its first and its last partner"),
        case("join", "a limit a machine", json!({ "on": ["machine"] }), "limit", joins::join)
            .looking_up(inputs::machines)
            .because(
                "the key of each row is encoded and looked up; the loop knows whose rows a run has",
            ),
        case("union", "", json!({}), "x", joins::union).on(inputs::twice).because(
            "rows that wait are sorted, and any columns gathered; the loop knows its five",
        ),
    ]
}
