//! `POST /api/v1/sources/{source}/rows`, and `PUT` and `DELETE` of `/api/v1/reference/{name}`: from a request to rows that are
//! durable.
//!
//! What a reader would get wrong: the answer 503 comes in two meanings, told apart by `type`. `unavailable`: nothing was
//! taken. `outcome-unknown`: it may have been; sent again with the same idempotency key, or to a source with `dedupe`, it
//! counts once.

use std::io::Read as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use foreline_connectors::http::{BadBody, Examined, RowError};
use foreline_connectors::{Door, Fate, KEY_BYTES_MAX, Receipt, Refused, Taken};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::{BODY_TIME, DURABLE_TIME, RETRY_AFTER};
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;

/// The header that names a request, so that it counts once however often it is sent.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the answer says of rows that were taken.
#[derive(Debug, Clone)]
struct Counted {
    accepted: u64,
    rejected: u64,
    errors: Vec<RowError>,
}

/// A body as it came.
struct Posted {
    what: What,
    content_type: String,
    body: Vec<u8>,
    gzip: bool,
}

/// A body that was looked at and offered to its source.
struct Offered {
    counted: Counted,
    taken: Option<Taken>,
}

/// Takes rows.
pub(crate) async fn rows(
    State(site): State<Arc<Site>>,
    source: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // A name that is not text is none of ours.
    let source = source.map(|Path(name)| name).unwrap_or_default();
    into_source(&site, &source, &headers, body).await
}

/// Takes rows for a source.
pub(crate) async fn into_source(
    site: &Site,
    source: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let door = site.doors.get(source).cloned().ok_or_else(|| unknown(site, source))?;
    take(site, door, What::Rows, headers, body).await
}

/// What the rows of a body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Rows of a stream.
    Rows,
    /// Rows of a relation.
    Relation {
        /// Whether they are no longer there.
        gone: bool,
    },
}

/// Puts rows into a relation.
pub(crate) async fn put(
    State(site): State<Arc<Site>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    relation(&site, name, false, &headers, body).await
}

/// Takes rows out of a relation.
pub(crate) async fn delete(
    State(site): State<Arc<Site>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    relation(&site, name, true, &headers, body).await
}

async fn relation(
    site: &Site,
    name: Result<Path<String>, PathRejection>,
    gone: bool,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let door = site.references.get(&name).cloned().ok_or_else(|| {
        let there = site.references.keys();
        unknown_name("reference", "unknown-reference", &name, "is kept up over HTTP", there)
    })?;
    take(site, door, What::Relation { gone }, headers, body).await
}

/// Takes what a body has.
async fn take(
    site: &Site,
    door: Arc<Door>,
    what: What,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if let Some(wait) = door.allow() {
        let refused = Refused::TooMany(door.limits().requests_per_s);
        return Err(refusal(&refused).after(wait));
    }
    let key = key(headers)?;
    let gzip = is_gzip(headers)?;
    let content_type = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let (memory, body) = read(site, door.limits().body_bytes, headers, body).await?;
    let body = Posted { what, content_type, body, gzip };
    let offered = offer(Arc::clone(&door), body, key.clone()).await?;
    drop(memory);
    match offered.taken {
        None => Ok(answer(&offered.counted, "new")),
        Some(Taken::Before) => Ok(answer(&offered.counted, "replayed")),
        Some(Taken::Now(receipt)) => {
            wait(&door, receipt, key.is_some()).await?;
            Ok(answer(&offered.counted, "new"))
        }
    }
}

fn unknown(site: &Site, source: &str) -> Problem {
    unknown_source(source, "takes rows", site.doors.keys())
}

/// There is no such source among those that are there.
pub(crate) fn unknown_source<'a>(
    source: &str,
    what: &str,
    there: impl Iterator<Item = &'a String>,
) -> Problem {
    unknown_name("source", "unknown-source", source, what, there)
}

fn unknown_name<'a>(
    sort: &str,
    kind: &'static str,
    source: &str,
    what: &str,
    there: impl Iterator<Item = &'a String>,
) -> Problem {
    let shown: String = source.chars().take(64).flat_map(char::escape_debug).collect();
    let there: Vec<&str> = there.map(String::as_str).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let detail = format!("no {sort} '{shown}' {what}; there is: {there}");
    Problem::new(StatusCode::NOT_FOUND, kind, detail)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The idempotency key, if there is one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    if !headers.contains_key(IDEMPOTENCY_KEY) {
        return Ok(None);
    }
    let fits = |key: &String| {
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    };
    let detail = format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
    match text(headers, IDEMPOTENCY_KEY).filter(fits) {
        Some(key) => Ok(Some(key)),
        None => Err(Problem::new(StatusCode::BAD_REQUEST, "bad-idempotency-key", detail)),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    match text(headers, header::CONTENT_ENCODING.as_str()).as_deref() {
        None | Some("identity") => Ok(false),
        Some("gzip") => Ok(true),
        Some(other) => {
            let shown: String = other.chars().take(64).flat_map(char::escape_debug).collect();
            let detail = format!("the content encoding '{shown}' is not taken; use gzip or none");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-encoding", detail))
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body has more than {limit} bytes; send it in parts");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

/// Reads a body of at most `limit` bytes, with the memory for it set aside first.
pub(crate) async fn read(
    site: &Site,
    limit: usize,
    headers: &HeaderMap,
    body: Body,
) -> Result<(OwnedSemaphorePermit, Vec<u8>), Problem> {
    let said = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|n| n.parse().ok());
    if said.is_some_and(|n: usize| n > limit) {
        return Err(too_large(limit));
    }
    let kib = u32::try_from(2 * said.unwrap_or(limit) / 1024 + 1).unwrap_or(u32::MAX);
    let memory = Arc::clone(&site.memory).try_acquire_many_owned(kib).map_err(|_| {
        let detail = "the server has its hands full of other requests";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).after(RETRY_AFTER)
    })?;
    let read = async {
        let mut whole: Vec<u8> = Vec::with_capacity(said.unwrap_or(0));
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part: Bytes = part.map_err(|_| {
                let detail = "the body ends before it should";
                Problem::new(StatusCode::BAD_REQUEST, "broken-body", detail)
            })?;
            if whole.len() + part.len() > limit {
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    };
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(whole) => Ok((memory, whole?)),
        Err(_) => {
            let detail = format!("the body did not come within {} s", BODY_TIME.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail))
        }
    }
}

/// Decodes a body and hands it in, on a thread that may wait.
async fn offer(door: Arc<Door>, posted: Posted, key: Option<String>) -> Result<Offered, Problem> {
    let work = move || {
        let Posted { what, content_type, body, gzip } = posted;
        let body = if gzip { unpacked(&body, door.limits().body_bytes)? } else { body };
        let examined = door.examine(&content_type, &body).map_err(bad_body)?;
        drop(body);
        let Examined { accepted, rejected, errors, .. } = &examined;
        let (accepted, rejected, errors) = (*accepted, *rejected, errors.clone());
        let counted = Counted { accepted, rejected, errors };
        if accepted + rejected == 0 {
            return Ok(Offered { counted, taken: None });
        }
        let examined = match what {
            What::Rows => examined,
            What::Relation { gone } => examined.for_relation(gone),
        };
        let taken = door.push(examined, key.as_deref()).map_err(|e| refusal(&e))?;
        Ok(Offered { counted, taken: Some(taken) })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let detail = "the body could not be looked at (a bug)";
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
    })
}

fn unpacked(body: &[u8], limit: usize) -> Result<Vec<u8>, Problem> {
    let mut whole = Vec::new();
    let mut text = MultiGzDecoder::new(body).take(limit as u64 + 1);
    text.read_to_end(&mut whole).map_err(|e| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-gzip", format!("the body is not gzip: {e}"))
    })?;
    if whole.len() > limit { Err(too_large(limit)) } else { Ok(whole) }
}

fn bad_body(error: BadBody) -> Problem {
    let detail = error.to_string();
    match error {
        BadBody::MediaType { .. } => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-content-type", detail)
        }
        BadBody::Malformed(_) => Problem::new(StatusCode::BAD_REQUEST, "malformed", detail),
        BadBody::NothingUsable { rejected, errors } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing-usable", detail)
                .with("rejected", json!(rejected))
                .with("errors", json!(errors))
        }
    }
}

fn refusal(refused: &Refused) -> Problem {
    let (status, kind) = match refused {
        Refused::Closed | Refused::Full | Refused::Keys(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        Refused::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests"),
        Refused::UnderWay => (StatusCode::CONFLICT, "under-way"),
        Refused::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key-reused"),
    };
    let problem = Problem::new(status, kind, refused.to_string());
    if *refused == Refused::KeyReused { problem } else { problem.after(RETRY_AFTER) }
}

/// Hands a body in that was made here; the answer once it is durable.
pub(crate) async fn hand_in(
    door: Arc<Door>,
    what: What,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Response, Problem> {
    if let Some(wait) = door.allow() {
        let refused = Refused::TooMany(door.limits().requests_per_s);
        return Err(refusal(&refused).after(wait));
    }
    let content_type = content_type.to_owned();
    let posted = Posted { what, content_type, body, gzip: false };
    let offered = offer(Arc::clone(&door), posted, None).await?;
    if let Some(Taken::Now(receipt)) = offered.taken {
        wait(&door, receipt, false).await?;
    }
    Ok(answer(&offered.counted, "new"))
}

/// Waits until the rows are durable.
async fn wait(door: &Door, mut receipt: Receipt, keyed: bool) -> Result<(), Problem> {
    let fate = tokio::time::timeout(DURABLE_TIME, receipt.settled()).await;
    if fate == Ok(Fate::Durable) {
        return Ok(());
    }
    if fate == Ok(Fate::NotTaken) || door.take_back(&receipt) {
        let detail =
            "the pipeline is ending, or its journal or sinks are behind; nothing of it was taken";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        return Err(problem.after(RETRY_AFTER));
    }
    let detail = match keyed {
        true => {
            "whether the rows are kept is not known; send them again with the same idempotency key"
        }
        false => {
            "whether the rows are kept is not known; sent again they may count twice without 'dedupe'"
        }
    };
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", detail);
    Err(problem.after(RETRY_AFTER))
}

fn answer(counted: &Counted, how: &'static str) -> Response {
    let body = json!({
        "accepted": counted.accepted,
        "rejected": counted.rejected,
        "errors": counted.errors,
    });
    ([("foreline-request", how)], as_json(&body)).into_response()
}
