//! Answers that are not a success: `application/problem+json`, RFC 9457.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A successful answer.
pub(crate) fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// A request that is not carried out, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The kind, as a word that programs may compare.
    kind: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    /// Members of its own.
    more: Vec<(String, Value)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, kind, detail: detail.into(), retry_after: None, more: Vec::new() }
    }

    /// With when it is worth another try.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// With a member of its own.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.push((name.to_owned(), value));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let mut body = json!({
            "type": format!("urn:foreline:problem:{}", self.kind),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.more);
        }
        let kind = (header::CONTENT_TYPE, "application/problem+json");
        let mut response = (self.status, [kind], body.to_string()).into_response();
        if let Some(time) = self.retry_after {
            // Whole seconds, and never none.
            let seconds = time.as_millis().div_ceil(1000).max(1).to_string();
            if let Ok(value) = HeaderValue::from_str(&seconds) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}
