//! Pages of other origins, if the pipeline's file names them.
//!
//! What a reader would get wrong: a browser that is not told that it may still sends a request; it only hides the answer. What protects is that anything that changes
//! something needs a token, or a content type that a browser asks about first. Cookies are not let through: who comes from elsewhere shows a token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Methods that the API has.
const METHODS: &str = "GET, POST, PUT, DELETE";
/// Headers that a page may send beside those that need no permission.
const TAKEN: &str =
    "authorization, content-type, content-encoding, idempotency-key, if-none-match, last-event-id";
/// Headers of answers that a page may read beside those that need no permission.
const SHOWN: &str = "etag, retry-after, foreline-epoch, foreline-request, foreline-truncated";
/// Seconds for which a browser need not ask again.
const MAX_AGE_S: &str = "600";

/// Lets pages of `origins` use the API.
pub(crate) async fn cors(
    State(origins): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    if origins.is_empty() {
        return next.run(request).await;
    }
    let origin = allowed(&origins, request.headers());
    let is_question = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if is_question => permission(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SHOWN));
    }
    response
}

/// The origin of a request, if it is one of ours.
fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn permission() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
