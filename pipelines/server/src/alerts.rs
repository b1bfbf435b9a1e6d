//! `GET /api/v1/alerts`, and `POST /api/v1/alerts/{id}/ack` and its like: what people see of alerts, and do with them.
//!
//! What a reader would get wrong: 200 says that a command is durable, not that it is done. It is carried out in the epoch that it
//! becomes part of, some milliseconds later; the table and its stream show that. A command that cannot be carried out by then is a
//! dead letter.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use foreline_connectors::Door;
use foreline_engine::{Page, Table};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Who;
use crate::intake;
use crate::intake::What;
use crate::problem::Problem;
use crate::routes::Site;
use crate::tables::{bad, broken, cursor, follow, limit, page_body, tagged};
use crate::{body, wait};

/// The table of alerts.
pub(crate) const ALERTS: &str = "alerts";

/// What is done with an alert: the last part of the path, and the command.
const COMMANDS: [(&str, &str); 7] = [
    ("ack", "acknowledge"),
    ("unack", "unacknowledge"),
    ("comment", "comment"),
    ("shelve", "shelve"),
    ("unshelve", "unshelve"),
    ("out_of_service", "out_of_service"),
    ("in_service", "in_service"),
];

/// The names of severities, from 1 on.
const SEVERITIES: [&str; 5] = ["info", "minor", "warning", "major", "critical"];

/// Most bytes of a text of a command; the book takes no longer one.
const TEXT_BYTES_MAX: usize = 4_096;

/// Columns that a list of alerts can be narrowed by.
const FILTERS: [&str; 6] = ["state", "rule", "machine", "severity", "acknowledged", "suppressed"];

/// Alerts: all, or those whose columns have the values that are asked for.
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(mut query) = query.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let (table, edition) = table(&site)?;
    let wait = wait::asked(query.remove("wait"))?;
    if let Some(same) = wait::not_modified(&site, table, edition, &headers, wait).await? {
        return Ok(same);
    }
    let limit = limit(query.remove("limit"))?;
    let cursor = query.remove("cursor").map(|text| cursor(&text)).transpose()?;
    for (name, value) in &mut query {
        *value = filter(name, value, &site.rules)?;
    }
    let table = Arc::clone(table);
    let look = move || narrowed(&table, cursor.as_deref(), limit, &query);
    let page = tokio::task::spawn_blocking(look).await.map_err(|_| {
        let detail = "the alerts could not be looked through (a bug)";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?;
    let page = page.map_err(|e| broken(&e))?;
    let body = page_body(&page).map_err(|e| broken(&e))?;
    let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    Ok(tagged(response, edition, page.changed))
}

/// How many alerts are open, by severity, and how many of them nobody has acknowledged; `null` where there are no rules, or the
/// table is not there yet.
pub(crate) fn open_alerts(site: &Site) -> Value {
    let Some(rows) = table(site).ok().and_then(|(table, _)| table.all().ok()) else {
        return Value::Null;
    };
    let text = |name: &str| {
        let column = rows.rows.column_by_name(name)?;
        cast(column, &DataType::Utf8).ok()
    };
    let (Some(state), Some(severity), Some(seen)) =
        (text("state"), text("severity"), text("acknowledged"))
    else {
        return Value::Null;
    };
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unseen = 0_u64;
    let columns = state.as_string::<i32>().iter().zip(severity.as_string::<i32>());
    for ((state, severity), seen) in columns.zip(seen.as_string::<i32>()) {
        if state == Some("open") {
            let number = severity.and_then(|s| s.parse::<usize>().ok()).unwrap_or(0);
            let name = SEVERITIES.get(number.wrapping_sub(1)).copied().unwrap_or("unknown");
            *open.entry(name).or_default() += 1;
            unseen += u64::from(seen != Some("true"));
        }
    }
    json!({ "open": open.values().sum::<u64>(), "by_severity": open, "unacknowledged": unseen })
}

/// The text that a column has where it is what is asked for.
fn filter(name: &str, value: &str, rules: &[String]) -> Result<String, Problem> {
    let of = |known: &[&str]| match known.contains(&value) {
        true => Ok(value.to_owned()),
        false => Err(bad(format!("'{name}' is one of {}, not '{value}'", known.join(", ")))),
    };
    match name {
        "machine" => Ok(value.to_owned()),
        "state" => of(&["open", "cleared"]),
        "acknowledged" | "suppressed" => of(&["true", "false"]),
        "rule" => of(&rules.iter().map(String::as_str).collect::<Vec<_>>()),
        "severity" => {
            let named = SEVERITIES.iter().zip(1..).find(|(name, _)| **name == value);
            match (named, value.parse::<u8>()) {
                (Some((_, number)), _) | (None, Ok(number @ 1..=5)) => Ok(number.to_string()),
                _ => Err(bad(format!(
                    "'severity' is a number from 1 to 5 or one of {}, not '{value}'",
                    SEVERITIES.join(", ")
                ))),
            }
        }
        other => {
            let names = FILTERS.join(", ");
            Err(bad(format!(
                "'{other}' is neither 'limit', 'cursor' nor 'wait' nor one of {names}"
            )))
        }
    }
}

/// A page of the rows that are asked for, all of one epoch.
fn narrowed(
    table: &Table,
    after: Option<&[u8]>,
    limit: usize,
    wanted: &BTreeMap<String, String>,
) -> Result<Page, ArrowError> {
    if wanted.is_empty() {
        return table.page(after, limit);
    }
    let all = table.page(after, usize::MAX)?;
    let found = chosen(&all.rows, wanted)?;
    let rows = found.slice(0, limit.min(found.num_rows()));
    let last = |rows: &RecordBatch| {
        let key = table.relation().key().iter();
        let key = key.map(|&k| rows.column(k).slice(rows.num_rows() - 1, 1));
        table.behind(&key.collect::<Vec<_>>())
    };
    let next = (found.num_rows() > limit).then(|| last(&rows)).transpose()?;
    Ok(Page { rows, next, ..all })
}

fn chosen(
    rows: &RecordBatch,
    wanted: &BTreeMap<String, String>,
) -> Result<RecordBatch, ArrowError> {
    let mut keep = vec![true; rows.num_rows()];
    for (name, value) in wanted {
        let Some(column) = rows.column_by_name(name) else { continue };
        let texts = cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter();
        keep.iter_mut().zip(texts).for_each(|(keep, text)| *keep &= text == Some(value));
    }
    filter_record_batch(rows, &BooleanArray::from(keep))
}

/// What changes of the alerts, as it does.
pub(crate) async fn stream(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    table(&site)?;
    follow(&site, ALERTS, &headers)
}

/// What somebody says with a command.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    by: Option<String>,
    comment: Option<String>,
    until: Option<String>,
    id: Option<String>,
}

/// Does something with an alert.
pub(crate) async fn command(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path((alert, verb)) = path.map_err(|_| bad("the path is not text"))?;
    let command = COMMANDS.iter().find(|(name, _)| *name == verb).map(|(_, command)| *command);
    let command = command.ok_or_else(|| unknown_verb(&verb, &COMMANDS))?;
    let said = said(&headers, body, &who)?;
    let (machine, rule) = named(table(&site)?.0, &alert)?;
    tell(&site, command, [&machine, &rule], Some(&alert), said).await
}

/// Does something with a rule on a machine, whether or not it has an alert.
pub(crate) async fn rule_command(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path((rule, machine, verb)) = path.map_err(|_| bad("the path is not text"))?;
    let marks = &COMMANDS[3..];
    let command = marks.iter().find(|(name, _)| *name == verb).map(|(_, command)| *command);
    let command = command.ok_or_else(|| unknown_verb(&verb, marks))?;
    table(&site)?;
    if !site.rules.contains(&rule) {
        let shown: String = rule.chars().take(64).flat_map(char::escape_debug).collect();
        let detail = format!("there is no rule '{shown}'; there is: {}", site.rules.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-rule", detail));
    }
    tell(&site, command, [&machine, &rule], None, said(&headers, body, &who)?).await
}

fn said(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    who: &Who,
) -> Result<Said, Problem> {
    let body = body::json(headers, body)?;
    let said = match body.trim_ascii() {
        [] => Ok(Said::default()),
        // A struct could be read from a list, too.
        text => serde_json::from_slice(text)
            .and_then(|map: serde_json::Map<String, Value>| serde_json::from_value(map.into()))
            .map_err(|e| {
                let what = "the body is an object with by, comment, until, id, all of them text";
                let detail = format!("{what}: {e}");
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-command", detail)
            }),
    };
    // Whoever is logged in speaks for themselves.
    said.map(|said| Said { by: who.author(said.by), ..said })
}

/// Hands a command in.
async fn tell(
    site: &Site,
    command: &str,
    [machine, rule]: [&str; 2],
    alert: Option<&str>,
    said: Said,
) -> Result<Response, Problem> {
    said.suits(command)?;
    let at = DateTime::<Utc>::from(now()).to_rfc3339_opts(SecondsFormat::Nanos, true);
    let Said { by, comment, until, id } = said;
    let row = json!({
        "machine": machine, "at": at, "rule": rule, "alert": alert, "command": command,
        "by": by, "comment": comment, "until": until, "id": id,
    });
    let door: Arc<Door> = site.commands.clone().ok_or_else(no_alerts)?;
    intake::hand_in(door, What::Rows, "application/x-ndjson", row.to_string().into_bytes()).await
}

impl Said {
    /// What can be seen to be wrong before it is journaled.
    fn suits(&self, command: &str) -> Result<(), Problem> {
        let wrong = |detail: String| {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-command", detail))
        };
        let texts = [("by", &self.by), ("comment", &self.comment), ("id", &self.id)];
        for (name, text) in texts {
            let n_bytes = text.as_ref().map_or(0, String::len);
            if n_bytes > TEXT_BYTES_MAX {
                return wrong(format!(
                    "'{name}' has {n_bytes} bytes; give at most {TEXT_BYTES_MAX}"
                ));
            }
        }
        if command == "comment" && self.comment.as_ref().is_none_or(|c| c.trim().is_empty()) {
            return wrong("'comment' needs a comment".to_owned());
        }
        if command != "shelve" {
            return Ok(());
        }
        let Some(until) = &self.until else {
            return wrong("'shelve' needs 'until', such as 2026-03-01T18:00:00Z".to_owned());
        };
        match DateTime::parse_from_rfc3339(until) {
            Ok(time) if time > DateTime::<Utc>::from(now()) => Ok(()),
            Ok(_) => wrong(format!("'{until}' has passed")),
            Err(e) => wrong(format!("'{until}' is no time with a zone: {e}")),
        }
    }
}

/// The machine and the rule of an alert.
fn named(table: &Table, alert: &str) -> Result<(String, String), Problem> {
    let key: ArrayRef = Arc::new(StringArray::from(vec![alert]));
    let page = table.get(&[key]).map_err(|e| broken(&e))?;
    let text = |name: &str| {
        let column = page.rows.column_by_name(name)?.as_string_opt::<i32>()?;
        (!column.is_empty()).then(|| column.value(0).to_owned())
    };
    text("machine").zip(text("rule")).ok_or_else(|| {
        let shown: String = alert.chars().take(64).flat_map(char::escape_debug).collect();
        let detail = format!("there is no alert '{shown}', or it has left the table");
        Problem::new(StatusCode::NOT_FOUND, "unknown-alert", detail)
    })
}

fn unknown_verb(verb: &str, known: &[(&str, &str)]) -> Problem {
    let shown: String = verb.chars().take(64).flat_map(char::escape_debug).collect();
    let known = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let detail =
        format!("nothing is called '{shown}' that can be done with an alert; there is: {known}");
    Problem::new(StatusCode::NOT_FOUND, "unknown-command", detail)
}

fn no_alerts() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-alerts", "the pipeline has no alerts")
}

fn table(site: &Site) -> Result<(&Arc<Table>, u64), Problem> {
    site.commands.as_ref().ok_or_else(no_alerts)?;
    site.table(ALERTS)
}

#[expect(clippy::disallowed_methods, reason = "when a command came is what people see of it")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
