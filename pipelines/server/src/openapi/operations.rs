//! Every operation of the API, area by area.
//!
//! What a reader would get wrong: a route that is not here fails a test, and so does one that is only here. Who adds a route adds its operation to the
//! function of its area, or a function of its own to [`all`].

use serde_json::{Value, json};

use super::document::{Operation, json_of, schema};

/// Everything.
pub(super) fn all() -> Vec<Operation> {
    let own = [pushed(), tables(), alerts(), models(), query(), health(), site()];
    let areas = own.into_iter().chain([super::watching::all(), super::people::all()]);
    areas.flatten().collect()
}

/// Rows come in.
fn pushed() -> Vec<Operation> {
    let taken = |operation: Operation, unknown: &str| {
        let example = json!({ "accepted": 1, "rejected": 0, "errors": [] });
        operation
            .body(&row_bodies())
            .gives_with(
                200,
                "Durable: the sender may forget the rows.",
                &json_of("Taken", &example),
                &["Foreline-Request"],
            )
            .fails(400, &["malformed", "bad-gzip", "broken-body", "bad-idempotency-key"])
            .fails(404, &[unknown])
            .fails(408, &["too-slow"])
            .fails(409, &["under-way"])
            .fails(413, &["too-large"])
            .fails(415, &["bad-content-type", "bad-encoding"])
            .fails(422, &["nothing-usable", "key-reused"])
            .fails(429, &["too-many-requests"])
            .fails(500, &["internal"])
            .fails(503, &["unavailable", "outcome-unknown"])
    };
    let rows = Operation::new("post /api/v1/sources/{source}/rows", "sources", "pushRows", "Give rows to a source")
        .about("Rows that cannot be used become dead letters and are named in `errors`; the others are used. Sent again with the same `Idempotency-Key`, or to a source with `dedupe`, rows count once.")
        .takes(&["source", "Idempotency-Key", "Content-Encoding"]);
    let wake = Operation::new(
        "post /api/v1/sources/{source}/wake",
        "sources",
        "wakeSource",
        "Have a source look for new objects at once",
    )
    .about("The body does not matter: the notifications of any object store will do.")
    .takes(&["source"])
    .may_have(&json!({ "application/json": { "schema": {} } }))
    .gives(202, "It will look.", &json_of("Status", &json!({ "status": "woken" })))
    .fails(404, &["unknown-source"])
    .fails(503, &["unavailable"]);
    let put = Operation::new(
        "put /api/v1/reference/{reference}",
        "sources",
        "putReference",
        "Put rows in the place of those with their keys",
    )
    .takes(&["reference", "Idempotency-Key", "Content-Encoding"]);
    let delete = Operation::new(
        "delete /api/v1/reference/{reference}",
        "sources",
        "deleteReference",
        "Take the rows with these keys away",
    )
    .takes(&["reference", "Idempotency-Key", "Content-Encoding"]);
    vec![
        taken(rows, "unknown-source"),
        wake,
        taken(put, "unknown-reference"),
        taken(delete, "unknown-reference"),
    ]
}

/// The forms in which rows may come.
fn row_bodies() -> Value {
    let row = json!({ "ts": "2026-03-01T10:00:00Z", "machine": "P-7", "vibration": 2.1 });
    json!({
        "application/json": {
            "schema": { "oneOf": [schema("Row"), { "type": "array", "items": schema("Row") }] },
            "example": [row],
        },
        "application/x-ndjson": { "schema": { "type": "string" }, "example": format!("{row}\n") },
        "text/csv": {
            "schema": { "type": "string" },
            "example": "ts,machine,vibration\n2026-03-01T10:00:00Z,P-7,2.1\n",
        },
        "application/vnd.apache.arrow.stream": { "schema": { "type": "string", "format": "binary" } },
    })
}

/// Tables are read and followed.
fn tables() -> Vec<Operation> {
    let list = Operation::new(
        "get /api/v1/tables",
        "tables",
        "listTables",
        "The tables: columns, key, rows and epoch",
    )
    .gives(200, "All of them.", &json_of("Tables", &json!({ "tables": [table_example()] })))
    .fails(500, &["internal"]);
    vec![
        list,
        rows_of("get /api/v1/tables/{table}/rows", "readRows"),
        rows_of("get /api/v1/tables/{table}/latest", "readLatest"),
        followed(
            "get /api/v1/tables/{table}/stream",
            "tables",
            "followTable",
            "What changes of a table, as it does",
        )
        .takes(&["table", "Last-Event-ID"])
        .fails(404, &["unknown-table"]),
    ]
}

fn table_example() -> Value {
    json!({
        "name": "latest", "kind": "view", "ready": true, "epoch": 6, "rows": 2, "bytes": 431, "arranged": 0, "uncomputed": 0,
        "key": ["machine"],
        "columns": [
            { "name": "machine", "type": "string", "unit": null },
            { "name": "vibration", "type": "float64", "unit": "mm/s" },
        ],
    })
}

fn rows_of(line: &'static str, id: &str) -> Operation {
    let row = json!({ "machine": "M-1", "vibration": 2.1 });
    Operation::new(line, "tables", id, "Rows of a table, a page at a time or by key")
        .about("A page in the order of the key, as of the end of one epoch. With a value for every column of the key: the row that has it.")
        .takes(&["table", "limit", "cursor", "key", "wait", "If-None-Match"])
        .gives_with(200, "Rows, the epoch they are of, and where the next page begins.", &page(&row), &["ETag"])
        .gives_with(304, "Nothing has changed since the tag of `If-None-Match`.", &json!({}), &["ETag"])
        .fails(400, &["bad-request"])
        .fails(404, &["unknown-table"])
        .fails(500, &["internal"])
        .fails(503, &["not-ready", "unavailable"])
}

fn page(row: &Value) -> Value {
    json_of("Page", &json!({ "epoch": 6, "next": null, "rows": [row] }))
}

/// A stream of server-sent events.
fn followed(line: &'static str, tag: &str, id: &str, summary: &str) -> Operation {
    let example = "event: at\nid: g1e7\ndata: {\"epoch\":7}\n\nevent: change\nid: g1e9\ndata: {\"epoch\":9,\"came\":[],\"went\":[]}\n\n";
    let content =
        json!({ "text/event-stream": { "schema": { "type": "string" }, "example": example } });
    Operation::new(line, tag, id, summary)
        .about("Server-sent events: `at` (where the reader begins), `change` (one an epoch, with the rows that came and went) and `reset` (too much was missed: read the table again). With `Last-Event-ID` it goes on where it was.")
        .gives(200, "Events, until one of both goes.", &content)
        .fails(500, &["internal"])
        .fails(503, &["not-ready", "unavailable"])
}

/// Alerts, and what people do with them.
fn alerts() -> Vec<Operation> {
    let row = json!({ "alert": "bb07db4b54f1e2a0", "machine": "P-7", "rule": "hot", "severity": 3, "state": "open", "acknowledged": false });
    let list =
        Operation::new("get /api/v1/alerts", "alerts", "listAlerts", "The alerts of all rules")
            .takes(&[
                "limit",
                "cursor",
                "wait",
                "state",
                "rule_filter",
                "machine_filter",
                "severity",
                "acknowledged",
                "suppressed",
                "If-None-Match",
            ])
            .gives_with(
                200,
                "Alerts, the epoch they are of, and where the next page begins.",
                &page(&row),
                &["ETag"],
            )
            .gives_with(
                304,
                "Nothing has changed since the tag of `If-None-Match`.",
                &json!({}),
                &["ETag"],
            )
            .fails(400, &["bad-request"])
            .fails(404, &["no-alerts"])
            .fails(500, &["internal"])
            .fails(503, &["not-ready", "unavailable"]);
    let stream = followed(
        "get /api/v1/alerts/stream",
        "alerts",
        "followAlerts",
        "What changes of the alerts, as it does",
    )
    .takes(&["Last-Event-ID"])
    .fails(404, &["no-alerts"]);
    let told = |operation: Operation, unknown: &str| {
        let example = json!({ "by": "kim", "comment": "on my way" });
        let taken = json!({ "accepted": 1, "rejected": 0, "errors": [] });
        operation
            .may_have(&json_of("AlertCommand", &example))
            .gives_with(
                200,
                "Durable; carried out some milliseconds later.",
                &json_of("Taken", &taken),
                &["Foreline-Request"],
            )
            .fails(400, &["bad-request", "malformed"])
            .fails(404, &["unknown-command", unknown, "no-alerts"])
            .fails(413, &["too-large"])
            .fails(415, &["bad-content-type"])
            .fails(422, &["bad-command", "nothing-usable"])
            .fails(429, &["too-many-requests"])
            .fails(500, &["internal"])
            .fails(503, &["not-ready", "unavailable", "outcome-unknown"])
    };
    let command = Operation::new(
        "post /api/v1/alerts/{alert}/{command}",
        "alerts",
        "tellAlert",
        "Acknowledge, comment or shelve an alert",
    )
    .about("`comment` needs a comment, `shelve` needs `until`.")
    .takes(&["alert", "alert_command"]);
    let rule = Operation::new(
        "post /api/v1/rules/{rule}/{machine}/{command}",
        "alerts",
        "tellRule",
        "Shelve a rule on a machine, or take it out of service",
    )
    .about("Whether or not it has an alert there. `shelve` needs `until`.")
    .takes(&["rule", "machine", "rule_command"]);
    vec![list, stream, told(command, "unknown-alert"), told(rule, "unknown-rule")]
}

/// Models that can be changed while they run.
fn models() -> Vec<Operation> {
    let model = json!({
        "step": "rul", "acts": "champion", "previous": null, "canary": null, "by": null, "comment": null, "since_epoch": 1,
        "routed": false, "shadow": [], "versions": { "champion": { "from": "file" } },
    });
    let list = Operation::new(
        "get /api/v1/models",
        "models",
        "listModels",
        "The models that can be changed",
    )
    .gives(200, "All of them.", &json_of("Models", &json!({ "models": [model] })))
    .fails(500, &["internal"])
    .fails(503, &["not-ready"]);
    let one = |operation: Operation| {
        operation
            .gives(200, "The model as it is.", &json_of("Model", &model))
            .fails(404, &["unknown-model", "unknown-command", "unknown-version", "no-models"])
            .fails(500, &["internal"])
    };
    let changed = |operation: Operation| {
        one(operation)
            .fails(429, &["too-many-requests"])
            .fails(503, &["not-ready", "unavailable", "outcome-unknown"])
    };
    let read = Operation::new(
        "get /api/v1/models/{step}",
        "models",
        "readModel",
        "A model: versions, which acts, what each did",
    )
    .takes(&["step"])
    .fails(503, &["not-ready"]);
    let command = Operation::new("post /api/v1/models/{step}/{command}", "models", "tellModel", "Have another version act")
        .about("200 says that the change is durable; all workers obey it from one epoch on (`since_epoch`).")
        .takes(&["step", "model_command"])
        .may_have(&json_of("ModelCommand", &json!({ "version": "challenger", "share": 0.1, "by": "kim" })))
        .fails(400, &["bad-request", "malformed"])
        .fails(409, &["nothing-to-roll-back"])
        .fails(413, &["too-large"])
        .fails(415, &["bad-content-type"])
        .fails(422, &["bad-command", "nothing-usable"]);
    let put = Operation::new("put /api/v1/models/{step}/versions/{version}", "models", "putVersion", "Give a model a new version")
        .about("The bytes of a weights file, or of a packed model where the step has `signed_by`. It is tried before anything hears of it.")
        .takes(&["step", "version"])
        .body(&json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } }))
        .fails(400, &["bad-request", "broken-body", "malformed"])
        .fails(408, &["too-slow"])
        .fails(409, &["in-use", "too-many-versions"])
        .fails(413, &["too-large"])
        .fails(422, &["bad-name", "not-admitted", "nothing-usable"])
        .fails(507, &["not-kept"]);
    let delete = Operation::new(
        "delete /api/v1/models/{step}/versions/{version}",
        "models",
        "deleteVersion",
        "Have a version go that came while it ran",
    )
    .takes(&["step", "version"])
    .fails(400, &["bad-request", "malformed"])
    .fails(409, &["in-use"])
    .fails(422, &["nothing-usable"]);
    vec![list, one(read), changed(command), changed(put), changed(delete)]
}

/// SQL.
fn query() -> Vec<Operation> {
    let sql = "SELECT machine, vibration FROM latest ORDER BY vibration DESC LIMIT 5";
    let found = json!({
        "epoch": 812,
        "columns": [{ "name": "machine", "type": "string" }, { "name": "vibration", "type": "float64" }],
        "truncated": false, "seconds": 0.004, "rows": [["P-7", 2.1]],
    });
    let text = json!({ "schema": { "type": "string" }, "example": sql });
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    let query = Operation::new("post /api/v1/query", "query", "query", "SQL over views and streams")
        .about("One statement that reads. All tables are read at the end of one epoch. The form of the answer is that of `accept`.")
        .body(&json!({
            "application/json": { "schema": schema("Query"), "example": { "sql": sql, "limit": 500 } },
            "text/plain": text, "application/sql": text,
        }))
        .gives_with(200, "Rows.", &json!({
            "application/json": { "schema": schema("Found"), "example": found },
            "application/x-ndjson": { "schema": { "type": "string" } },
            "text/csv": { "schema": { "type": "string" } },
            "application/vnd.apache.arrow.stream": binary,
            "application/vnd.apache.parquet": binary,
        }), &["Foreline-Epoch", "Foreline-Truncated"])
        .fails(400, &["bad-query", "bad-request"])
        .fails(404, &["not-found"])
        .fails(406, &["not-acceptable"])
        .fails(413, &["too-large"])
        .fails(415, &["bad-content-type"])
        .fails(422, &["query-limit", "query-failed"])
        .fails(429, &["busy"])
        .fails(500, &["internal"])
        .fails(503, &["not-ready"]);
    vec![query]
}

/// Whether it is well.
fn health() -> Vec<Operation> {
    let well = json_of("Status", &json!({ "status": "ok" }));
    vec![
        Operation::new("get /livez", "health", "live", "Whether the process serves")
            .open()
            .gives(200, "It does.", &well),
        Operation::new(
            "get /readyz",
            "health",
            "ready",
            "Whether every source takes rows and every table can be read",
        )
        .open()
        .gives(200, "They do.", &well)
        .fails(503, &["not-ready"]),
    ]
}

/// The dashboard, this document, and its viewer.
fn site() -> Vec<Operation> {
    let file = |line, id, summary, content: &Value| {
        Operation::new(line, "site", id, summary)
            .open()
            .takes(&["If-None-Match"])
            .gives_with(200, "The file.", content, &["ETag"])
            .gives_with(304, "It is what the tag of `If-None-Match` names.", &json!({}), &["ETag"])
    };
    let html = json!({ "text/html": { "schema": { "type": "string" } } });
    let script = json!({ "text/javascript": { "schema": { "type": "string" } } });
    let assets = json!({
        "text/html": { "schema": { "type": "string" } },
        "text/css": { "schema": { "type": "string" } },
        "text/javascript": { "schema": { "type": "string" } },
        "image/svg+xml": { "schema": { "type": "string" } },
    });
    let document = json!({ "application/json": { "schema": { "type": "object" } } });
    vec![
        file("get /", "dashboard", "The dashboard", &html),
        file("get /assets/{file}", "asset", "A file of the dashboard", &assets)
            .takes(&["file", "If-None-Match"])
            .fails(404, &["not-found"]),
        file("get /openapi.json", "openapi", "This document", &document)
            .about("Whoever may use the API is shown the names of this pipeline's sources, tables, rules and models as what parameters may be."),
        file("get /docs", "viewer", "This document for people", &html),
        file("get /docs/viewer.js", "viewerScript", "The script of the viewer", &script),
    ]
}
