//! `POST /api/v1/sources/{source}/wake`: the store, or whoever has put something there, tells a source to look.
//!
//! What a reader would get wrong: the body does not matter, so that the notifications of any store will do as they are. What
//! they say is not believed; the source lists the prefix as it always does, only now.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::intake::unknown_source;
use crate::limits::{BODY_TIME, RETRY_AFTER, WAKE_BYTES};
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;

/// Wakes a source.
pub(crate) async fn wake(
    State(site): State<Arc<Site>>,
    source: Result<Path<String>, PathRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let source = source.map(|Path(name)| name).unwrap_or_default();
    let bell = site.bells.get(&source);
    let bell =
        bell.ok_or_else(|| unknown_source(&source, "looks for objects", site.bells.keys()))?;
    // Read so that the connection can be used again; what does not end soon is not waited for.
    let read = axum::body::to_bytes(body, WAKE_BYTES);
    tokio::time::timeout(BODY_TIME, read).await.ok();
    if !bell.ring() {
        let detail = format!("source '{source}' is not at work yet");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        return Err(problem.after(RETRY_AFTER));
    }
    Ok((StatusCode::ACCEPTED, as_json(&json!({ "status": "woken" }))).into_response())
}
