//! `GET /api/v1/tables` and `GET /api/v1/tables/{table}/rows`: the views of the pipeline, as of the end of an epoch.
//!
//! What a reader would get wrong: the epoch is the version of everything, within an edition: a pipeline that is computed anew begins another. The
//! last one that changed a table is its `ETag`, so that a client that polls is told in a few bytes that nothing has changed; a page that follows
//! another may be of a later epoch, and says of which. After a restart a table is not there until it shows no less than it did before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use foreline_engine::{Page, Table};
use serde_json::{Value, json};

use crate::limits::{PAGE_ROWS, PAGE_ROWS_MAX, RETRY_AFTER};
use crate::pages::Written;
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::{follow, recent, wait};

/// The views and what is kept of streams: their columns, how many rows they have, and as of which epoch.
pub(crate) async fn tables(State(site): State<Arc<Site>>) -> Response {
    let views = site.tables.iter().map(|(name, table)| about(name, table));
    let kept = site.watch.about.kept.iter();
    let kept = kept.map(|(name, recent)| recent::about(&site, name, recent));
    let tables: Vec<Value> = views.chain(kept).collect();
    as_json(&json!({ "tables": tables }))
}

fn about(name: &str, table: &Table) -> Value {
    let relation = table.relation();
    let column = |c: &foreline_engine::Column| {
        json!({
            "name": c.name,
            "type": foreline_engine::type_name(&c.data_type),
            "unit": c.unit.as_ref().map(foreline_engine::Unit::code),
        })
    };
    json!({
        "name": name,
        "kind": "view",
        "ready": table.edition().is_some(),
        "epoch": table.epoch(),
        "rows": table.len(),
        "bytes": table.bytes(),
        "arranged": table.arranged(),
        "uncomputed": table.uncomputed(),
        "key": relation.key().iter().map(|&k| &relation.columns()[k].name).collect::<Vec<_>>(),
        "columns": relation.columns().iter().map(column).collect::<Vec<_>>(),
    })
}

/// Rows of a view: a page in the order of the key, or with a value for each column of the key the row that has it.
pub(crate) async fn rows(
    State(site): State<Arc<Site>>,
    table: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(mut query) = query.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let name = table.map(|Path(name)| name).unwrap_or_default();
    if let Some(kept) = site.watch.kept(&name) {
        let is_latest = uri.path().ends_with("/latest");
        return recent::rows(&site, kept, query, is_latest).await;
    }
    let (table, edition) = site.table(&name)?;
    let wait = wait::asked(query.remove("wait"))?;
    if let Some(same) = wait::not_modified(&site, table, edition, &headers, wait).await? {
        return Ok(same);
    }
    let limit = limit(query.remove("limit"))?;
    let cursor = query.remove("cursor").map(|text| cursor(&text)).transpose()?;
    if !query.is_empty() {
        let row = table.get(&key(table, &query)?).map_err(|e| broken(&e))?;
        let body = page_body(&row).map_err(|e| broken(&e))?;
        return Ok(answered(body.into(), edition, row.changed));
    }
    let asked = (name, limit, cursor);
    let written = match site.pages.get(&asked, edition, table.epoch()) {
        Some(written) => written,
        None => {
            let page = table.page(asked.2.as_deref(), limit).map_err(|e| broken(&e))?;
            let body = page_body(&page).map_err(|e| broken(&e))?.into();
            let Page { epoch, changed, .. } = page;
            let written = Written { edition, epoch, changed, body };
            site.pages.keep(asked, written.clone());
            written
        }
    };
    Ok(answered(written.body, edition, written.changed))
}

fn answered(body: Bytes, edition: u64, changed: u64) -> Response {
    let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    tagged(response, edition, changed)
}

impl Site {
    /// A table that can be read, and its edition.
    ///
    /// # Errors
    /// When there is none of that name, or it does not yet show what it did before a restart.
    pub(crate) fn table(&self, name: &str) -> Result<(&Arc<Table>, u64), Problem> {
        let table = self.tables.get(name).ok_or_else(|| unknown(name, self.tables.keys()))?;
        let edition = table.edition().ok_or_else(|| {
            let detail = format!("'{name}' is not there yet: the run catches up with what was");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail).after(RETRY_AFTER)
        })?;
        Ok((table, edition))
    }
}

/// What names an epoch among those of all editions.
pub(crate) fn version(edition: u64, epoch: u64) -> String {
    format!("g{edition:x}e{epoch}")
}

/// Whether an `If-None-Match` names `tag`: several may be there, and a proxy that compresses makes them weak.
pub(crate) fn names(known: &str, tag: &str) -> bool {
    known.split(',').map(str::trim).any(|k| k == "*" || k.trim_start_matches("W/") == tag)
}

/// Says which epoch has changed the table last.
pub(crate) fn tagged(mut response: Response, edition: u64, epoch: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", version(edition, epoch))) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What changes of a view, as it does.
pub(crate) async fn stream(
    State(site): State<Arc<Site>>,
    table: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = table.map(|Path(name)| name).unwrap_or_default();
    follow(&site, &name, &headers)
}

/// Follows a view.
pub(crate) fn follow(site: &Site, name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let (table, edition) = site.table(name)?;
    let known = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let events = follow::changes(site, Arc::clone(table), edition, known)?;
    Ok(events.into_response())
}

fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> Problem {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    let known: Vec<&str> = known.map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let detail = format!("there is no view '{shown}'; there is: {known}");
    Problem::new(StatusCode::NOT_FOUND, "unknown-table", detail)
}

pub(crate) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
}

pub(crate) fn broken(error: &ArrowError) -> Problem {
    let detail = format!("the rows cannot be written: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

pub(crate) fn limit(text: Option<String>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(PAGE_ROWS) };
    match text.parse() {
        Ok(n) if (1..=PAGE_ROWS_MAX).contains(&n) => Ok(n),
        _ => Err(bad(format!("'limit' is a number from 1 to {PAGE_ROWS_MAX}, not '{text}'"))),
    }
}

/// What a page said was its `next`: bytes in hexadecimal.
pub(crate) fn cursor(text: &str) -> Result<Vec<u8>, Problem> {
    let wrong = || bad(format!("'{text}' is not the 'next' of a page"));
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong());
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The key that is asked for: a column of one value for each of the view's.
fn key(table: &Table, query: &BTreeMap<String, String>) -> Result<Vec<ArrayRef>, Problem> {
    let relation = table.relation();
    let columns: Vec<_> = relation.key().iter().map(|&k| &relation.columns()[k]).collect();
    let names = columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(other) = query.keys().find(|name| columns.iter().all(|c| c.name != **name)) {
        return Err(bad(format!(
            "'{other}' is neither 'limit', 'cursor' nor 'wait' nor a column of the key: {names}"
        )));
    }
    let of = |column: &&foreline_engine::Column| {
        let text = query.get(&column.name);
        let text = text.ok_or_else(|| bad(format!("a row is found by its whole key: {names}")))?;
        value(text, &column.data_type)
            .ok_or_else(|| bad(format!("'{}' is no {}", column.name, column.data_type)))
    };
    columns.iter().map(of).collect()
}

/// A text as a value of a column.
pub(crate) fn value(text: &str, of: &DataType) -> Option<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    cast(&text, of).ok().filter(|value| value.null_count() == 0)
}

/// A page as JSON.
pub(crate) fn page_body(page: &Page) -> Result<Vec<u8>, ArrowError> {
    let next = page
        .next
        .as_ref()
        .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut body =
        format!("{{\"epoch\":{},\"next\":{},\"rows\":", page.epoch, json!(next)).into_bytes();
    body.extend(written(&page.rows)?);
    body.push(b'}');
    Ok(body)
}

/// Rows as JSON.
pub(crate) fn written(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    if rows.num_rows() == 0 {
        return Ok(b"[]".to_vec());
    }
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, JsonArray>(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_several_and_when_it_is_weak() {
        let tag = "\"g1fe7\"";
        for known in ["\"g1fe7\"", "W/\"g1fe7\"", "\"g1fe6\", \"g1fe7\"", "*"] {
            assert!(names(known, tag), "{known}");
        }
        for known in ["", "g1fe7", "\"g1fe6\"", "\"g2fe7\""] {
            assert!(!names(known, tag), "{known}");
        }
    }

    #[test]
    fn a_cursor_is_hexadecimal() {
        assert_eq!(cursor("00ff10").unwrap(), [0, 255, 16]);
        for wrong in ["0", "zz", "é0", "0x"] {
            assert!(cursor(wrong).is_err(), "{wrong}");
        }
        assert_eq!((limit(None).unwrap(), limit(Some("7".to_owned())).unwrap()), (PAGE_ROWS, 7));
        for wrong in ["0", "-1", "many", "10001"] {
            assert!(limit(Some(wrong.to_owned())).is_err(), "{wrong}");
        }
    }
}
