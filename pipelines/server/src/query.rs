//! `POST /api/v1/query`: SQL over the tables of the pipeline, answered in the form that is asked for.
//!
//! What a reader would get wrong: nothing of a query runs on the server's thread but the writing of its answer, and that on one
//! of the threads that may wait. A client that hangs up cancels its query.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::json::{StructMode, WriterBuilder};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use foreline_connectors::parquet::parquet_bytes;
use serde::Deserialize;
use serde_json::json;

use crate::access::Who;
use crate::accounts::Scope;
use crate::body;
use crate::limits::{QUERY_ROWS, QUERY_ROWS_MAX, RETRY_AFTER};
use crate::problem::Problem;
use crate::routes::Site;
use crate::tables::{bad, broken, written};

/// The cursor of the page behind.
pub(crate) const NEXT: HeaderName = HeaderName::from_static("foreline-next");

/// Carries queries out.
pub trait Ask: Debug + Send + Sync {
    /// Answers with at most `rows` rows, of tables for administrators, too, if whoever asks is one; `values`, of one row each, are those
    /// of `$1`, `$2` ... Dropping the future cancels the query.
    fn ask<'a>(
        &'a self,
        sql: &'a str,
        values: &'a [ArrayRef],
        rows: usize,
        is_admin: bool,
    ) -> Asking<'a>;
}

/// A query that is under way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send + 'a>>;

/// What a query found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The epoch at whose end the tables were read.
    pub epoch: Option<u64>,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// Whether there are more.
    pub is_truncated: bool,
    /// How long it took.
    pub time: Duration,
}

/// Why a query found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// It is refused, or wrong: what, where (line and column), and what to do.
    Refused(String, Option<(usize, usize)>, Option<String>),
    /// It reached a limit.
    Limit(String),
    /// Too many are under way.
    Busy(String),
    /// A table cannot be read now.
    Unavailable(String),
    /// It failed on the way.
    Failed(String),
}

impl From<NotFound> for Problem {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Refused(message, at, help) => {
                let mut detail = message;
                if let Some(help) = &help {
                    detail = format!("{detail}; {help}");
                }
                let mut problem = Problem::new(StatusCode::BAD_REQUEST, "bad-query", detail);
                if let Some((line, column)) = at {
                    problem = problem.with("line", json!(line)).with("column", json!(column));
                }
                problem
            }
            NotFound::Limit(detail) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-limit", detail)
            }
            NotFound::Busy(detail) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).after(RETRY_AFTER)
            }
            NotFound::Unavailable(detail) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail)
                    .after(RETRY_AFTER)
            }
            NotFound::Failed(detail) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-failed", detail)
            }
        }
    }
}

/// What is asked, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
    limit: Option<usize>,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Lines,
    Csv,
    Arrow,
    Parquet,
}

impl Form {
    const ALL: [Form; 5] = [Form::Json, Form::Lines, Form::Csv, Form::Arrow, Form::Parquet];

    fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Lines => "application/x-ndjson",
            Form::Csv => "text/csv",
            Form::Arrow => "application/vnd.apache.arrow.stream",
            Form::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The first of those that are accepted which there is.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let accepted = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
        for part in accepted.split(',') {
            let wanted = part.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if wanted == "*/*" || wanted == "application/*" {
                return Ok(Form::Json);
            }
            if let Some(form) = Form::ALL.into_iter().find(|f| f.media_type() == wanted) {
                return Ok(form);
            }
        }
        let there: Vec<&str> = Form::ALL.iter().map(|f| f.media_type()).collect();
        let detail = format!("there is no answer as '{accepted}'; there is: {}", there.join(", "));
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail))
    }
}

/// Answers a query.
pub(crate) async fn query(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Some(ask) = &site.queries else {
        let detail = "queries are switched off for this pipeline";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", detail));
    };
    let body = body::read(body)?;
    let form = Form::accepted(&headers)?;
    let (sql, rows) = asked(&headers, &body)?;
    let found = ask.ask(&sql, &[], rows, who.scopes.contains(&Scope::Admin)).await;
    site.watch.requests.query(found.is_ok());
    let found = found?;
    let written = tokio::task::spawn_blocking(move || answer(form, &found)).await;
    let internal = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a bug");
    written.map_err(|_| internal())?.map_err(|e| broken(&e))
}

/// The query of a request, and how many rows it may have.
fn asked(headers: &HeaderMap, body: &[u8]) -> Result<(String, usize), Problem> {
    let kind = body::media_type(headers);
    let text = std::str::from_utf8(body).map_err(|_| bad("the body is no UTF-8 text"))?;
    let asked = match kind.as_str() {
        "text/plain" | "application/sql" => Asked { sql: text.to_owned(), limit: None },
        "" | "application/json" => serde_json::from_str(text).map_err(|e| {
            bad(format!("the body is no query: {e}; send {{\"sql\": \"SELECT …\"}} or text/plain"))
        })?,
        other => {
            return Err(body::wrong_type(other, "application/json, text/plain, application/sql"));
        }
    };
    let limit = asked.limit.unwrap_or(QUERY_ROWS);
    if !(1..=QUERY_ROWS_MAX).contains(&limit) {
        return Err(bad(format!("'limit' is a number from 1 to {QUERY_ROWS_MAX}, not '{limit}'")));
    }
    Ok((asked.sql, limit))
}

/// An answer in a form.
fn answer(form: Form, found: &Found) -> Result<Response, ArrowError> {
    let body = match form {
        Form::Json => as_json(found)?,
        Form::Lines => lines(&found.rows)?,
        Form::Csv => csv(found)?,
        Form::Arrow => arrow_stream(found)?,
        Form::Parquet => parquet_bytes(&found.schema, &found.rows)?,
    };
    Ok(with_headers(form, found, body))
}

/// The same, but that rows are objects in a list where they are JSON, and nothing is around them.
pub(crate) fn objects(form: Form, found: &Found) -> Result<Response, ArrowError> {
    if form != Form::Json {
        return answer(form, found);
    }
    let body = written(&concat_batches(&found.schema, &found.rows)?)?;
    Ok(with_headers(form, found, body))
}

fn with_headers(form: Form, found: &Found, body: Vec<u8>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, form.media_type())], body).into_response();
    let headers = response.headers_mut();
    if let Some(epoch) = found.epoch {
        headers.insert("foreline-epoch", HeaderValue::from(epoch));
    }
    if found.is_truncated {
        headers.insert("foreline-truncated", HeaderValue::from_static("true"));
    }
    response
}

fn as_json(found: &Found) -> Result<Vec<u8>, ArrowError> {
    let columns = found.schema.fields().iter();
    let columns = columns
        .map(|f| json!({ "name": f.name(), "type": foreline_engine::type_name(f.data_type()) }));
    let head = json!({
        "epoch": found.epoch,
        "columns": columns.collect::<Vec<_>>(),
        "truncated": found.is_truncated,
        "seconds": found.time.as_secs_f64(),
    });
    let mut body = head.to_string().into_bytes();
    // The rows are the last member of the object.
    body.pop();
    body.extend(b",\"rows\":");
    if found.rows.iter().all(|b| b.num_rows() == 0 || b.num_columns() == 0) {
        body.extend(b"[]");
    } else {
        let builder =
            WriterBuilder::new().with_explicit_nulls(true).with_struct_mode(StructMode::ListOnly);
        let mut writer = builder.build::<_, JsonArray>(Vec::new());
        found.rows.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        body.extend(writer.into_inner());
    }
    body.push(b'}');
    Ok(body)
}

fn lines(rows: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(Vec::new());
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn csv(found: &Found) -> Result<Vec<u8>, ArrowError> {
    let mut body = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut body);
    if found.rows.is_empty() {
        writer.write(&RecordBatch::new_empty(Arc::clone(&found.schema)))?;
    }
    found.rows.iter().try_for_each(|batch| writer.write(batch))?;
    drop(writer);
    Ok(body)
}

fn arrow_stream(found: &Found) -> Result<Vec<u8>, ArrowError> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &found.schema)?;
    found.rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray};

    use super::*;

    fn found() -> Found {
        let columns: [(&str, ArrayRef); 3] = [
            ("machine", Arc::new(StringArray::from(vec!["P-1", "P,2"]))),
            ("ts", Arc::new(TimestampNanosecondArray::from(vec![0, 1]).with_timezone("UTC"))),
            ("v", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let schema = rows.schema();
        Found {
            epoch: Some(7),
            schema,
            rows: vec![rows],
            is_truncated: false,
            time: Duration::ZERO,
        }
    }

    #[test]
    fn an_answer_has_the_form_that_is_accepted() {
        let form = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            Form::accepted(&headers).ok()
        };
        assert_eq!(Form::accepted(&HeaderMap::new()).ok(), Some(Form::Json));
        assert_eq!(form("text/html, text/csv;q=0.9"), Some(Form::Csv));
        assert_eq!(form("application/vnd.apache.parquet"), Some(Form::Parquet));
        assert_eq!(form("text/html,*/*"), Some(Form::Json));
        assert_eq!(form("image/png"), None);
    }

    #[test]
    fn rows_are_written_in_every_form() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&as_json(&found()).unwrap()).unwrap();
        assert_eq!(json["epoch"], 7);
        assert_eq!(json["columns"][2], json!({ "name": "v", "type": "float64" }));
        assert_eq!(json["rows"][0], json!(["P-1", "1970-01-01T00:00:00Z", 0.5]));
        assert_eq!(json["rows"][1][2], serde_json::Value::Null);
        let lines = text(lines(&found().rows).unwrap());
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.starts_with("{\"machine\":\"P-1\","), "{lines}");
        let csv = text(csv(&found()).unwrap());
        assert!(csv.starts_with("machine,ts,v\nP-1,1970-01-01T00:00:00Z,0.5\n\"P,2\","), "{csv}");
        let stream = arrow_stream(&found()).unwrap();
        let mut read = arrow::ipc::reader::StreamReader::try_new(&stream[..], None).unwrap();
        assert_eq!(read.next().unwrap().unwrap(), found().rows[0]);
        assert_eq!(&parquet_bytes(&found().schema, &found().rows).unwrap()[..4], b"PAR1");
        let nothing = Found { rows: Vec::new(), ..found() };
        let json: serde_json::Value = serde_json::from_slice(&as_json(&nothing).unwrap()).unwrap();
        assert_eq!(json["rows"], json!([]));
    }

    #[test]
    fn a_query_is_json_or_text() {
        let of = |kind: &str, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            asked(&headers, body.as_bytes()).ok()
        };
        let sql = "SELECT 1".to_owned();
        assert_eq!(
            of("application/json", r#"{"sql":"SELECT 1","limit":5}"#),
            Some((sql.clone(), 5))
        );
        assert_eq!(of("text/plain; charset=utf-8", "SELECT 1"), Some((sql, QUERY_ROWS)));
        for wrong in [r#"{"sql":"x","limit":0}"#, r#"{"query":"x"}"#, "SELECT 1", ""] {
            assert_eq!(of("application/json", wrong), None, "{wrong}");
        }
    }
}
