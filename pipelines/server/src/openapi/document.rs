//! One operation of the document: what is written of a method on a path, and how it becomes OpenAPI.
//!
//! What a reader would get wrong: an answer is declared with the words that its `type` may have, so a test that compares answers with the document
//! sees a problem of another kind as well as another status.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// A method on a path.
#[derive(Debug)]
pub(super) struct Operation {
    /// The path as the document has it, with `{name}` for what varies.
    pub(super) path: &'static str,
    /// In lower case.
    pub(super) method: &'static str,
    object: Map<String, Value>,
    answers: Map<String, Value>,
    is_open: bool,
}

impl Operation {
    /// `line` is a method and a path, `id` a name that clients may be generated with.
    pub(super) fn new(line: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        let (method, path) = line.split_once(' ').unwrap_or(("get", line));
        let mut object = Map::new();
        object.insert("operationId".to_owned(), json!(id));
        object.insert("tags".to_owned(), json!([tag]));
        object.insert("summary".to_owned(), json!(summary));
        Operation { path, method, object, answers: Map::new(), is_open: false }
    }

    /// What one must know to use it.
    pub(super) fn about(mut self, text: &str) -> Self {
        self.object.insert("description".to_owned(), json!(text));
        self
    }

    /// Asks for no token.
    pub(super) fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Parameters, by their names among the components.
    pub(super) fn takes(mut self, names: &[&str]) -> Self {
        let named = |name| json!({ "$ref": format!("#/components/parameters/{name}") });
        let named: Vec<Value> = names.iter().map(named).collect();
        self.object.insert("parameters".to_owned(), json!(named));
        self
    }

    /// A body, by media type.
    pub(super) fn body(mut self, content: &Value) -> Self {
        let body = json!({ "required": true, "content": content });
        self.object.insert("requestBody".to_owned(), body);
        self
    }

    /// A body that may be left out.
    pub(super) fn may_have(mut self, content: &Value) -> Self {
        let body = json!({ "required": false, "content": content });
        self.object.insert("requestBody".to_owned(), body);
        self
    }

    /// A success, by media type; an empty object where it has no body.
    pub(super) fn gives(self, status: u16, text: &str, content: &Value) -> Self {
        self.gives_with(status, text, content, &[])
    }

    /// A success with headers, by their names among the components.
    pub(super) fn gives_with(
        mut self,
        status: u16,
        text: &str,
        content: &Value,
        headers: &[&str],
    ) -> Self {
        let mut answer = json!({ "description": text });
        if content.as_object().is_some_and(|forms| !forms.is_empty()) {
            answer["content"] = content.clone();
        }
        for name in headers {
            answer["headers"][*name] = json!({ "$ref": format!("#/components/headers/{name}") });
        }
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// An answer that is not a success, with the words that its `type` ends in.
    pub(super) fn fails(mut self, status: u16, kinds: &[&str]) -> Self {
        let types: Vec<String> =
            kinds.iter().map(|kind| format!("urn:foreline:problem:{kind}")).collect();
        let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
        let words = kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
        let schema = json!({
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "type": { "enum": types }, "status": { "const": status } },
        });
        let mut answer = json!({
            "description": format!("{}: {words}", reason.unwrap_or("error")),
            "content": { "application/problem+json": { "schema": schema } },
        });
        if matches!(status, 409 | 429 | 503) {
            answer["headers"]["Retry-After"] =
                json!({ "$ref": "#/components/headers/Retry-After" });
        }
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// The object of the document.
    pub(super) fn written(mut self) -> Value {
        // Without accounts a server answers to no name but its own.
        self = self.fails(421, &["wrong-host"]);
        if self.is_open {
            self.object.insert("security".to_owned(), json!([]));
        } else {
            self = self.fails(401, &["unauthorized"]);
        }
        if !self.is_open || self.method != "get" {
            self = self.fails(403, &["forbidden"]);
        }
        let mut answers: Vec<(String, Value)> = self.answers.into_iter().collect();
        answers.sort_by(|(a, _), (b, _)| a.cmp(b));
        let answers: Map<String, Value> = answers.into_iter().collect();
        self.object.insert("responses".to_owned(), answers.into());
        self.object.into()
    }
}

/// A reference to a schema.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// JSON of a named schema, with an example.
pub(super) fn json_of(name: &str, example: &Value) -> Value {
    json!({ "application/json": { "schema": schema(name), "example": example } })
}
