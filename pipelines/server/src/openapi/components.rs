//! What operations share: parameters, headers and schemas.

use serde_json::{Value, json};

use crate::limits::{
    PAGE_ROWS, PAGE_ROWS_MAX, QUERY_ROWS, QUERY_ROWS_MAX, SERIES_POINTS, SERIES_POINTS_MAX,
    WAIT_TIME,
};

/// `components` of the document.
pub(super) fn components() -> Value {
    json!({
        "securitySchemes": {
            "bearer": { "type": "http", "scheme": "bearer", "description": "A token of `foreline token create`, or one of `serve: { tokens: [...] }`. A pipeline without tokens and accounts asks for none." },
            "session": { "type": "apiKey", "in": "cookie", "name": "foreline_session", "description": "Of `/api/v1/auth/login`. What changes something needs the header `x-foreline-request: 1` as well." },
        },
        "parameters": parameters(),
        "headers": headers(),
        "schemas": schemas(),
    })
}

fn parameters() -> Value {
    let mut all = in_path();
    let of_query = in_query();
    let of_head = in_head();
    for more in [of_query, of_head] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

/// A part of the path.
fn part(name: &str, about: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
}

fn in_path() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let one_of = |names: &[&str]| json!({ "type": "string", "enum": names });
    let marks = ["shelve", "unshelve", "out_of_service", "in_service"];
    json!({
        "source": part("source", "A source of the pipeline.", &text),
        "reference": part("reference", "A reference that is kept up over HTTP.", &text),
        "table": part("table", "A view, `alerts` or `models`.", &text),
        "alert": part("alert", "The id of an alert: its column `alert`.", &text),
        "rule": part("rule", "A rule of `alerts`.", &text),
        "machine": part("machine", "The key as text; several columns are joined by `/`.", &text),
        "step": part("step", "A step whose model has `versions`.", &text),
        "version": part("version", "The name of a version.", &text),
        "user": part("name", "The name of a user.", &text),
        "token": part("id", "The id of a token, as the list shows it.", &text),
        "file": part("file", "The file's path.", &text),
        "alert_command": part("command", "What is done.", &one_of(&[&["ack", "unack", "comment"][..], &marks].concat())),
        "rule_command": part("command", "What is done.", &one_of(&marks)),
        "model_command": part("command", "What is done.", &one_of(&["activate", "canary", "rollback", "reset"])),
    })
}

/// A parameter of the query.
fn asked(name: &str, about: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

fn in_query() -> Value {
    let truth = json!({ "type": "boolean" });
    let rows =
        json!({ "type": "integer", "minimum": 1, "maximum": PAGE_ROWS_MAX, "default": PAGE_ROWS });
    let severity = json!({ "oneOf": [
        { "type": "integer", "minimum": 1, "maximum": 5 },
        { "type": "string", "enum": ["info", "minor", "warning", "major", "critical"] },
    ] });
    let longest = WAIT_TIME.as_secs();
    json!({
        "limit": asked("limit", "Most rows of the page.", &rows),
        "cursor": asked("cursor", "The `next` of the page before.", &json!({ "type": "string", "pattern": "^([0-9a-f]{2})+$" })),
        "wait": asked(
            "wait",
            &format!("With `If-None-Match`: how long to wait for a change before the answer is 304, such as `30s`; {longest}s at most."),
            &json!({ "type": "string", "pattern": "^[1-9][0-9]{0,3}(ms|s)$" }),
        ),
        "key": {
            "name": "key", "in": "query", "style": "form", "explode": true,
            "description": "A parameter for every column of the key, by the column's name: the row that has these values.",
            "schema": { "type": "object", "additionalProperties": { "type": "string" } },
        },
        "skip": asked("cursor", "The `next` of the page before.", &json!({ "type": "string", "pattern": "^[0-9]{1,9}$" })),
        "columns": {
            "name": "columns", "in": "query", "required": true, "description": "Columns of numbers, with commas between them.",
            "schema": { "type": "string", "minLength": 1 },
        },
        "points": asked("points", "Stretches into which the time is divided; each gives its least and its greatest.", &json!({ "type": "integer", "minimum": 1, "maximum": SERIES_POINTS_MAX, "default": SERIES_POINTS })),
        "time": asked("time", "Of a view with several columns of times: the one that is meant.", &json!({ "type": "string" })),
        "from": asked("from", "Not before this time.", &json!({ "type": "string" })),
        "to": asked("to", "Not after this time.", &json!({ "type": "string" })),
        "of_source": asked("source", "Only those of this source.", &json!({ "type": "string" })),
        "of_operator": asked("operator", "Only those of this operator.", &json!({ "type": "string" })),
        "of_reason": asked("reason", "Only those for this reason.", &json!({ "type": "string" })),
        "state": asked("state", "Only these.", &json!({ "type": "string", "enum": ["open", "cleared"] })),
        "rule_filter": asked("rule", "Only those of this rule.", &json!({ "type": "string" })),
        "machine_filter": asked("machine", "Only those of this machine.", &json!({ "type": "string" })),
        "severity": asked("severity", "Only these: 1 to 5, or a name.", &severity),
        "acknowledged": asked("acknowledged", "Only these.", &truth),
        "suppressed": asked("suppressed", "Only these.", &truth),
    })
}

fn in_head() -> Value {
    let head = |name: &str, about: &str, schema: &Value| json!({ "name": name, "in": "header", "description": about, "schema": schema });
    let text = json!({ "type": "string" });
    json!({
        "If-None-Match": head("If-None-Match", "The `ETag` of what is known: 304 if that is all there is.", &text),
        "Last-Event-ID": head("Last-Event-ID", "The id of the last event that was seen.", &text),
        "Idempotency-Key": head(
            "Idempotency-Key",
            "Names the request, so that it counts once however often it is sent.",
            &json!({ "type": "string", "pattern": "^[!-~]{1,255}$" }),
        ),
        "Content-Encoding": head(
            "Content-Encoding",
            "How the body is packed.",
            &json!({ "type": "string", "enum": ["identity", "gzip"] }),
        ),
    })
}

fn headers() -> Value {
    let head = |about: &str, schema: &Value| json!({ "description": about, "schema": schema });
    let tag = json!({ "type": "string" });
    json!({
        "ETag": head("The last epoch that has changed it, of this edition of the pipeline; a file's digest.", &tag),
        "Set-Cookie": head("The session, or that there is none any more.", &tag),
        "Retry-After": head("Seconds after which it is worth another try.", &json!({ "type": "integer", "minimum": 1 })),
        "Foreline-Request": head("Whether it was known by its idempotency key.", &json!({ "type": "string", "enum": ["new", "replayed"] })),
        "Foreline-Epoch": head("The epoch at whose end the tables were read.", &json!({ "type": "integer", "minimum": 0 })),
        "Foreline-Truncated": head("There if there were more rows.", &json!({ "type": "string", "enum": ["true"] })),
    })
}

/// An object all of whose members are there.
fn object(properties: &Value) -> Value {
    let required: Vec<&String> =
        properties.as_object().into_iter().flatten().map(|(k, _)| k).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// An object of members that may be left out, and no others.
fn options(properties: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn schemas() -> Value {
    let mut all = of_rows();
    for more in [of_commands(), of_models(), of_people()] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

fn of_rows() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    let text = json!({ "type": "string" });
    let row = json!({ "$ref": "#/components/schemas/Row" });
    let column =
        object(&json!({ "name": text, "type": text, "unit": { "type": ["string", "null"] } }));
    let found_column = object(&json!({ "name": text, "type": text }));
    let error = object(&json!({ "index": count, "reason": text, "detail": text }));
    json!({
        "Problem": {
            "description": "RFC 9457. `type` is for programs, `detail` for people.",
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": { "type": "string", "pattern": "^urn:foreline:problem:[a-z-]+$" },
                "title": text, "status": { "type": "integer" }, "detail": text,
                "line": { "type": "integer", "description": "Of a query: where it is wrong." },
                "column": { "type": "integer" },
                "rejected": count,
                "errors": { "type": "array", "items": { "$ref": "#/components/schemas/RowError" } },
            },
        },
        "Status": object(&json!({ "status": { "type": "string", "enum": ["ok", "woken", "logged out", "revoked"] } })),
        "Row": { "type": "object", "description": "A value for each column, by its name.", "additionalProperties": true },
        "RowError": error,
        "Taken": object(&json!({
            "accepted": count, "rejected": count,
            "errors": { "type": "array", "maxItems": 100, "items": { "$ref": "#/components/schemas/RowError" } },
        })),
        "Tables": object(&json!({ "tables": { "type": "array", "items": { "$ref": "#/components/schemas/Table" } } })),
        "Table": object(&json!({
            "name": text, "kind": { "type": "string", "enum": ["view", "stream"] }, "ready": { "type": "boolean" }, "epoch": count, "rows": count,
            "bytes": count, "arranged": count, "uncomputed": count,
            "key": { "type": "array", "items": text }, "columns": { "type": "array", "items": column },
        })),
        "Page": object(&json!({
            "epoch": count,
            "next": { "type": ["string", "null"], "pattern": "^[0-9a-f]*$" },
            "rows": { "type": "array", "maxItems": PAGE_ROWS_MAX, "items": row },
        })),
        "Query": {
            "type": "object", "required": ["sql"], "additionalProperties": false,
            "properties": {
                "sql": text,
                "limit": { "type": ["integer", "null"], "minimum": 1, "maximum": QUERY_ROWS_MAX, "default": QUERY_ROWS },
            },
        },
        "Found": object(&json!({
            "epoch": { "type": ["integer", "null"] },
            "columns": { "type": "array", "items": found_column },
            "truncated": { "type": "boolean" }, "seconds": { "type": "number", "minimum": 0 },
            "rows": { "type": "array", "items": { "type": "array" } },
        })),
    })
}

fn of_commands() -> Value {
    let text = json!({ "type": ["string", "null"], "maxLength": 4096 });
    json!({
        "AlertCommand": options(&json!({
            "by": text, "comment": text, "id": text,
            "until": { "type": ["string", "null"], "format": "date-time" },
        })),
        "ModelCommand": options(&json!({
            "version": { "type": ["string", "null"] },
            "share": { "type": ["number", "null"], "minimum": 0, "maximum": 1 },
            "by": text, "comment": text,
        })),
    })
}

fn of_people() -> Value {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let role = json!({ "type": "string", "enum": ["viewer", "operator", "engineer", "admin"] });
    let scopes = json!({ "type": "array", "minItems": 1, "items": { "type": "string", "enum": ["read", "ack", "write", "swap", "admin"] } });
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 64 });
    let password = json!({ "type": "string", "minLength": 10, "maxLength": 512 });
    let asked = |properties: Value, required: &[&str]| {
        let mut schema = options(&properties);
        schema["required"] = json!(required);
        schema
    };
    let user = object(
        &json!({ "name": text, "role": role, "created": count, "disabled": { "type": "boolean" } }),
    );
    let token = json!({
        "type": "object", "required": ["id", "name", "scopes", "created", "expires"],
        "properties": {
            "id": text, "name": text, "scopes": scopes, "created": count,
            "expires": { "type": ["integer", "null"] },
            "token": { "type": "string", "description": "Shown when it is made, and never again." },
        },
    });
    let event = object(
        &json!({ "at": count, "who": text, "from": text, "what": text, "object": text, "outcome": text }),
    );
    json!({
        "Login": asked(json!({ "name": text, "password": text }), &["name", "password"]),
        "SignUp": asked(json!({ "name": name, "password": password, "invitation": { "type": ["string", "null"] } }), &["name", "password"]),
        "NewPassword": asked(json!({ "old": text, "new": password }), &["old", "new"]),
        "Welcome": object(&json!({ "user": object(&json!({ "name": text, "role": role })) })),
        "Me": object(&json!({
            "accounts": { "type": "boolean" }, "signup": { "type": "string", "enum": ["closed", "invited", "open"] },
            "user": { "oneOf": [{ "type": "null" }, object(&json!({ "name": text, "role": role }))] },
            "scopes": { "type": "array", "items": text },
        })),
        "NewUser": asked(json!({ "name": name, "password": password, "role": role }), &["name", "password", "role"]),
        "ChangedUser": asked(json!({
            "role": { "oneOf": [{ "type": "null" }, role] }, "disabled": { "type": ["boolean", "null"] },
            "password": { "oneOf": [{ "type": "null" }, password] },
        }), &[]),
        "User": user,
        "Users": object(&json!({ "users": { "type": "array", "items": { "$ref": "#/components/schemas/User" } } })),
        "Invite": asked(json!({ "role": role }), &["role"]),
        "Invitation": object(&json!({ "invitation": text, "role": role, "expires": count })),
        "NewToken": asked(json!({ "name": name, "scopes": scopes, "expires_days": { "type": ["integer", "null"], "minimum": 0, "maximum": 36500 } }), &["name", "scopes"]),
        "Token": token,
        "Tokens": object(&json!({ "tokens": { "type": "array", "items": { "$ref": "#/components/schemas/Token" } } })),
        "Audit": object(&json!({ "events": { "type": "array", "items": event }, "next": { "type": ["string", "null"] } })),
    })
}

fn of_models() -> Value {
    let text = json!({ "type": ["string", "null"] });
    let canary = object(
        &json!({ "version": { "type": "string" }, "share": { "type": ["number", "null"] } }),
    );
    json!({
        "Models": object(&json!({ "models": { "type": "array", "items": { "$ref": "#/components/schemas/Model" } } })),
        "Model": object(&json!({
            "step": { "type": "string" }, "acts": text, "previous": text,
            "canary": { "oneOf": [{ "type": "null" }, canary] },
            "by": text, "comment": text,
            "since_epoch": { "type": ["integer", "null"] },
            "routed": { "type": "boolean" },
            "shadow": { "type": "array", "items": { "type": "string" } },
            "versions": { "type": "object", "additionalProperties": { "type": "object" } },
        })),
    })
}
