//! Operations about how the pipeline goes.

use serde_json::{Value, json};

use super::document::Operation;

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    let looked = |line, id, summary: &str, about: &str, answer: &Value| {
        Operation::new(line, "watch", id, summary)
            .about(about)
            .gives(200, "As of now.", answer)
            .fails(500, &["internal"])
    };
    let state = json!({ "type": "string", "enum": ["starting", "running", "held_up"] });
    let list = json!({ "type": "array", "items": { "type": "object" } });
    let pipeline = object(
        &json!({ "name": { "type": "string" }, "state": state, "sources": list, "steps": list, "sinks": list }),
    );
    let graph = object(&json!({ "nodes": list, "edges": list }));
    let stuck = object(
        &json!({ "stuck": { "type": "boolean" }, "held_up_by": list, "silent": { "type": "array" } }),
    );
    let letters = object(&json!({
        "counts": { "type": "object" }, "kept_at_most": { "type": "integer" },
        "next": { "type": ["string", "null"] }, "dead_letters": list,
    }));
    let series = object(&json!({
        "epoch": { "type": "integer" }, "time": { "type": "string" }, "rows": { "type": "integer" },
        "series": { "type": ["object", "array"] },
    }));
    let page = json!({ "text/plain": { "schema": { "type": "string" } } });
    vec![
        looked("get /api/v1/pipeline", "readPipeline", "How the pipeline goes", "Sources, steps and sinks with rows, rates and lags; what holds it up, if anything does.", &pipeline),
        looked("get /api/v1/graph", "readGraph", "What the pipeline is made of, and how much flows", "Nodes and edges, with rows a second.", &graph),
        looked("get /api/v1/why-stuck", "whyStuck", "What holds the pipeline up", "The first cause first, and sources that are silent.", &stuck),
        looked("get /metrics", "metrics", "The figures for Prometheus", "Names and units are in docs/observability.md.", &page),
        looked("get /api/v1/dead_letters", "readDeadLetters", "The last rows that could not be used", "Newest first, of this run.", &letters)
            .takes(&["limit", "skip", "of_source", "of_operator", "of_reason"])
            .fails(400, &["bad-request"]),
        looked("get /api/v1/tables/{table}/series", "readSeries", "Columns of numbers over time, thinned out", "Of each stretch of time the least and the greatest value, so that no spike is lost. Columns of the key narrow the rows down.", &series)
            .takes(&["table", "columns", "points", "time", "from", "to", "key"])
            .fails(400, &["bad-request"])
            .fails(404, &["unknown-table"])
            .fails(503, &["not-ready", "unavailable"]),
    ]
}

/// JSON with these members, and others.
fn object(properties: &Value) -> Value {
    let required: Vec<&String> =
        properties.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let schema = json!({ "type": "object", "required": required, "properties": properties });
    json!({ "application/json": { "schema": schema } })
}
