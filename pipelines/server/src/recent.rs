//! The streams with `keep` as tables: `rows`, `latest`, and the series of a chart, which views have, too.
//!
//! What a reader would get wrong: rows come newest first, since that is what is asked for of a stream, and a page that follows
//! another is of the same epoch. A series keeps of each stretch of time the least and the greatest value of each column, so that
//! a spike of one row in a million is seen; it never has more than two points a stretch and column.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use foreline_engine::{Column, Page, Recent, Table, Unit, type_name};
use serde_json::{Value, json};

use crate::limits::{SERIES_COLUMNS, SERIES_POINTS, SERIES_POINTS_MAX};
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::tables::{bad, broken, limit, page_body, tagged};

/// What `GET /api/v1/tables` says of a stream with `keep`.
pub(crate) fn about(site: &Site, name: &str, recent: &Recent) -> Value {
    let schema = recent.schema();
    let (rows, bytes) = recent.size();
    let column = |c: &Column| {
        json!({
            "name": c.name,
            "type": type_name(&c.data_type),
            "unit": c.unit.as_ref().map(Unit::code),
        })
    };
    json!({
        "name": name,
        "kind": "stream",
        "ready": true,
        "epoch": site.watch.about.vitals.through(),
        "rows": rows,
        "bytes": bytes,
        "forgotten": recent.forgotten(),
        "time": schema.columns()[schema.time()].name,
        "key": schema.key().iter().map(|&k| &schema.columns()[k].name).collect::<Vec<_>>(),
        "columns": schema.columns().iter().map(column).collect::<Vec<_>>(),
    })
}

/// Rows of a stream, newest first; with `is_latest` the last one of each key.
pub(crate) async fn rows(
    site: &Site,
    recent: &Arc<Recent>,
    mut query: BTreeMap<String, String>,
    is_latest: bool,
) -> Result<Response, Problem> {
    let limit = limit(query.remove("limit"))?;
    let cursor = query.remove("cursor").map(|text| place(&text)).transpose()?;
    let (from, to) = (query.remove("from"), query.remove("to"));
    let (upto, skip) = cursor.unwrap_or((site.watch.about.vitals.through(), 0));
    let recent = Arc::clone(recent);
    let look = move || -> Result<(u64, Vec<u8>), Problem> {
        let schema = recent.schema();
        let key = key(schema.key().iter().map(|&k| &schema.columns()[k]), &query)?;
        let stood = match is_latest && key.is_none() {
            true => recent.latest(upto),
            false => recent.rows(upto, key.as_deref()),
        };
        let stood = stood.map_err(|e| broken(&e))?;
        let times = stood.rows.times(schema);
        let within = Within::new(from.as_deref(), to.as_deref(), &schema.domain().data_type())?;
        let mut order: Vec<usize> = (0..times.len()).filter(|&r| within.has(times[r])).collect();
        order.sort_by_key(|&r| std::cmp::Reverse((times[r], stood.rows.position.value(r))));
        let most = if is_latest && key.is_some() { 1 } else { limit };
        let page = order.iter().skip(skip).take(most).filter_map(|&r| u32::try_from(r).ok());
        let page = take_record_batch(&stood.rows.rows, &UInt32Array::from_iter_values(page));
        let is_more = most == limit && order.len() > skip + most;
        let next = is_more.then(|| place_of(upto, skip + most));
        let page = Page { epoch: upto, changed: upto, rows: page.map_err(|e| broken(&e))?, next };
        Ok((stood.generation, page_body(&page).map_err(|e| broken(&e))?))
    };
    let (generation, body) = aside(look).await?;
    let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    Ok(tagged(response, generation, upto))
}

/// Where a page of a stream begins: behind so many rows, as of an epoch.
fn place_of(upto: u64, skip: usize) -> Vec<u8> {
    let skip = skip as u64;
    upto.to_be_bytes().into_iter().chain(skip.to_be_bytes()).collect()
}

fn place(text: &str) -> Result<(u64, usize), Problem> {
    let bytes = crate::tables::cursor(text)?;
    let number = |at: usize| {
        let eight = bytes.get(at..at + 8)?;
        eight.try_into().ok().map(u64::from_be_bytes)
    };
    match (number(0), number(8).and_then(|skip| usize::try_from(skip).ok()), bytes.len()) {
        (Some(upto), Some(skip), 16) => Ok((upto, skip)),
        _ => Err(bad(format!("'{text}' is not the 'next' of a page"))),
    }
}

/// Does what takes its time where the server does not wait for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::bug("the rows could not be looked at"))?
}

/// The key that is asked for, if one is: a column of one value for each of its columns.
fn key<'c>(
    columns: impl Iterator<Item = &'c Column> + Clone,
    query: &BTreeMap<String, String>,
) -> Result<Option<Vec<ArrayRef>>, Problem> {
    let names = columns.clone().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(other) = query.keys().find(|name| columns.clone().all(|c| c.name != **name)) {
        return Err(bad(format!(
            "'{other}' is no column of the key ({names}), nor 'limit', 'cursor', 'from' or 'to'"
        )));
    }
    if query.is_empty() {
        return Ok(None);
    }
    let value = |column: &Column| {
        let text = query.get(&column.name);
        let text =
            text.ok_or_else(|| bad(format!("rows are found by their whole key: {names}")))?;
        let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
        let value = cast(&text, &column.data_type).ok().filter(|value| value.null_count() == 0);
        value
            .ok_or_else(|| bad(format!("'{}' is no {}", column.name, type_name(&column.data_type))))
    };
    columns.map(value).collect::<Result<_, _>>().map(Some)
}

/// A stretch of time.
#[derive(Debug, Clone, Copy)]
struct Within {
    from: i64,
    to: i64,
}

impl Within {
    /// From `from`, up to and without `to`, as texts of the type of the time.
    fn new(from: Option<&str>, to: Option<&str>, time: &DataType) -> Result<Self, Problem> {
        let read = |name: &str, text: &str| {
            let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let value = cast(&array, time).and_then(|v| cast(&v, &DataType::Int64));
            let value = value.ok().filter(|v| v.null_count() == 0);
            let value = value.map(|v| v.as_primitive::<Int64Type>().value(0));
            let like = if *time == DataType::Int64 { "120" } else { "2026-03-01T10:00:00Z" };
            value.ok_or_else(|| bad(format!("'{name}' is a time such as {like}, not '{text}'")))
        };
        Ok(Within {
            from: from.map_or(Ok(i64::MIN), |text| read("from", text))?,
            to: to.map_or(Ok(i64::MAX), |text| read("to", text))?,
        })
    }

    fn has(self, time: i64) -> bool {
        self.from <= time && time < self.to
    }
}

/// Rows as of the end of an epoch, and which column is their time.
type Timed = (u64, RecordBatch, usize);

/// Looks rows up.
type Look = Box<dyn FnOnce() -> Result<Timed, Problem> + Send>;

/// `GET /api/v1/tables/{table}/series`: numeric columns over time, thinned out.
pub(crate) async fn series(
    State(site): State<Arc<Site>>,
    table: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) = query.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let name = table.map(|Path(name)| name).unwrap_or_default();
    let points = points(query.remove("points"))?;
    let columns = query
        .remove("columns")
        .ok_or_else(|| bad("name the columns that are wanted: columns=vibration,temperature"))?;
    let columns: Vec<String> = columns.split(',').map(|c| c.trim().to_owned()).collect();
    if columns.len() > SERIES_COLUMNS {
        return Err(bad(format!("a series has at most {SERIES_COLUMNS} columns")));
    }
    let time = query.remove("time");
    let (from, to) = (query.remove("from"), query.remove("to"));
    let upto = site.watch.about.vitals.through();
    let look: Look = match site.watch.kept(&name) {
        Some(recent) => {
            let recent = Arc::clone(recent);
            Box::new(move || of_stream(&recent, upto, &query))
        }
        None => {
            let (table, _) = site.table(&name)?;
            let table = Arc::clone(table);
            Box::new(move || of_view(&table, time.as_deref(), &query))
        }
    };
    let body = aside(move || {
        let (epoch, rows, time) = look()?;
        let within =
            Within::new(from.as_deref(), to.as_deref(), rows.schema().field(time).data_type())?;
        let series = thinned(&rows, time, &columns, within, points)?;
        let time = rows.schema().field(time).name().clone();
        Ok(json!({ "epoch": epoch, "time": time, "rows": rows.num_rows(), "series": series }))
    });
    Ok(as_json(&body.await?))
}

fn points(text: Option<String>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(SERIES_POINTS) };
    match text.parse() {
        Ok(n) if (1..=SERIES_POINTS_MAX).contains(&n) => Ok(n),
        _ => Err(bad(format!("'points' is a number from 1 to {SERIES_POINTS_MAX}, not '{text}'"))),
    }
}

/// The rows of a stream with `keep`, and which column is their time.
fn of_stream(
    recent: &Recent,
    upto: u64,
    query: &BTreeMap<String, String>,
) -> Result<Timed, Problem> {
    let schema = recent.schema();
    let key = key(schema.key().iter().map(|&k| &schema.columns()[k]), query)?;
    let stood = recent.rows(upto, key.as_deref()).map_err(|e| broken(&e))?;
    Ok((upto, stood.rows.rows, schema.time()))
}

/// The rows of a view that have the values that are asked for, and which column is their time.
fn of_view(
    table: &Table,
    time: Option<&str>,
    query: &BTreeMap<String, String>,
) -> Result<Timed, Problem> {
    let relation = table.relation();
    let columns = relation.columns();
    let is_time = |c: &Column| matches!(c.data_type, DataType::Timestamp(TimeUnit::Nanosecond, _));
    let at = match time {
        None => columns.iter().position(is_time),
        Some(name) => columns
            .iter()
            .position(|c| c.name == name && (is_time(c) || c.data_type == DataType::Int64)),
    };
    let at = at.ok_or_else(|| {
        bad("the view has no such column of times: name one of times or whole numbers as 'time'")
    })?;
    let page = table.all().map_err(|e| broken(&e))?;
    let mut rows = page.rows;
    for (name, wanted) in query {
        let column = rows.column_by_name(name).ok_or_else(|| {
            let names = columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            bad(format!("there is no column '{name}'; there is: {names}"))
        })?;
        let text = cast(column, &DataType::Utf8).map_err(|e| broken(&e))?;
        let keep: BooleanArray =
            text.as_string::<i32>().iter().map(|v| Some(v == Some(wanted.as_str()))).collect();
        rows = filter_record_batch(&rows, &keep).map_err(|e| broken(&e))?;
    }
    Ok((page.epoch, rows, at))
}

/// Of each stretch of time and each column the least and the greatest value, in the order of time.
fn thinned(
    rows: &RecordBatch,
    time: usize,
    columns: &[String],
    within: Within,
    points: usize,
) -> Result<BTreeMap<String, Vec<(Value, f64)>>, Problem> {
    let internal = |e: &ArrowError| broken(e);
    let is_utc = *rows.column(time).data_type() != DataType::Int64;
    let times = match is_utc {
        true => rows.column(time).as_primitive::<TimestampNanosecondType>().values().to_vec(),
        false => rows.column(time).as_primitive::<Int64Type>().values().to_vec(),
    };
    let at = |time: i64| match is_utc {
        // Milliseconds since 1970, as charts take them.
        true => json!(time as f64 / 1e6),
        false => json!(time),
    };
    let mut series = BTreeMap::new();
    for name in columns {
        let column = rows.column_by_name(name);
        let column = column.ok_or_else(|| bad(format!("there is no column '{name}'")))?;
        if !column.data_type().is_numeric() {
            let found = type_name(column.data_type());
            return Err(bad(format!("'{name}' is a {found}, and a series is of numbers")));
        }
        let values = cast(column, &DataType::Float64).map_err(|e| internal(&e))?;
        let values = values.as_primitive::<Float64Type>();
        let there = (0..times.len()).filter(|&r| within.has(times[r]) && values.is_valid(r));
        let mut rows: Vec<(i64, f64)> = there.map(|r| (times[r], values.value(r))).collect();
        rows.sort_by_key(|(time, _)| *time);
        let thin = extremes(&rows, points).into_iter().map(|(time, value)| (at(time), value));
        series.insert(name.clone(), thin.collect());
    }
    Ok(series)
}

/// Of each of `points` equal stretches of time the least and the greatest value, each once and in the order of time; all where
/// there are no more. Of equal ones the first counts. `rows` are in the order of time.
fn extremes(rows: &[(i64, f64)], points: usize) -> Vec<(i64, f64)> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Vec::new() };
    if rows.len() <= 2 * points {
        return rows.to_vec();
    }
    let span = i128::from(last.0) - i128::from(first.0) + 1;
    let stretch = |time: i64| (i128::from(time) - i128::from(first.0)) * points as i128 / span;
    let mut thin = Vec::with_capacity(2 * points);
    for run in rows.chunk_by(|a, b| stretch(a.0) == stretch(b.0)) {
        let by_value =
            |a: &&(usize, &(i64, f64)), b: &&(usize, &(i64, f64))| a.1.1.total_cmp(&b.1.1);
        let numbered: Vec<(usize, &(i64, f64))> = run.iter().enumerate().collect();
        let least = numbered.iter().min_by(by_value);
        // The last of equal ones is what `max_by` says; from behind it is the first.
        let greatest = numbered.iter().rev().max_by(by_value);
        if let (Some(least), Some(greatest)) = (least, greatest) {
            let mut ends = vec![*least, *greatest];
            ends.sort_by_key(|(at, _)| *at);
            ends.dedup_by_key(|(at, _)| *at);
            thin.extend(ends.into_iter().map(|(_, row)| *row));
        }
    }
    thin
}

impl Problem {
    /// What cannot be, and is our doing.
    pub(crate) fn bug(detail: &str) -> Self {
        let detail = format!("{detail} (a bug)");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_rows_are_answered_with_few_and_no_spike_is_lost() {
        let spike = |t: i64| if t == 777_777 { 1e6 } else { (t % 100) as f64 };
        let rows: Vec<_> = (0..1_000_000).map(|t| (t, spike(t))).collect();
        let thin = extremes(&rows, 500);
        assert_eq!(thin.len(), 1_000);
        assert!(thin.contains(&(777_777, 1e6)));
        assert!(thin.is_sorted_by_key(|(time, _)| *time));
        // Each stretch of 2,000 has each of the values 0 to 99.
        let others = thin.iter().filter(|(time, _)| *time != 777_777);
        assert!(others.clone().all(|(_, v)| *v == 0.0 || *v == 99.0));
    }

    #[test]
    fn few_rows_are_answered_as_they_are() {
        let rows = [(5, 1.0), (5, 2.0), (9, 0.0)];
        assert_eq!(extremes(&rows, 2), rows);
        assert_eq!(extremes(&[], 2), []);
        let same: Vec<_> = (0..9).map(|_| (5, 1.0)).collect();
        assert_eq!(extremes(&same, 2), [(5, 1.0)], "one stretch, whose least is its greatest");
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let text: String = place_of(7, 1_000).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(place(&text).unwrap(), (7, 1_000));
        assert!(place("00").is_err() && place("zz").is_err());
    }

    #[test]
    fn a_stretch_of_time_is_read() {
        let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let within =
            Within::new(Some("1970-01-01T00:00:01Z"), Some("1970-01-01T00:00:02Z"), &utc).unwrap();
        assert!(within.has(1_000_000_000) && !within.has(2_000_000_000) && !within.has(0));
        assert!(Within::new(Some("yesterday"), None, &utc).is_err());
        assert!(Within::new(Some("3"), None, &DataType::Int64).unwrap().has(3));
    }
}
