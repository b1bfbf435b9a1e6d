//! Bodies of commands and queries: of the type that they say, and no longer than they may be.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};

use crate::problem::Problem;

/// The media type of a body, without its parameters and in lower case; empty where it has none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A body as it came.
pub(crate) fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|e| {
        let detail = format!("the body cannot be read: {}", e.body_text());
        match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail),
        }
    })
}

/// A body that is JSON or nothing. One that says that it is something else is not looked at: a page of another origin may send a form unasked.
pub(crate) fn json(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Bytes, Problem> {
    let body = read(body)?;
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(body),
        _ if body.is_empty() => Ok(body),
        other => Err(wrong_type(other, "application/json")),
    }
}

/// The body is of a type that is not taken here.
pub(crate) fn wrong_type(found: &str, taken: &str) -> Problem {
    let shown: String = found.chars().take(64).flat_map(char::escape_debug).collect();
    let detail = format!("the content type '{shown}' is not taken; use one of: {taken}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-content-type", detail)
}
