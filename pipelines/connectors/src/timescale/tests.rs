//! The sink against a real PostgreSQL, and against a stand-in for what TimescaleDB adds.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray,
    UInt32Array,
};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use foreline_engine::{
    Batch, Column, Committed, Expression, ExpressionError, PrimaryKey, Resolver, RunId, Schema,
    Sink, SinkError, hash_keys, parse_config,
};
use foreline_servers::Postgres;
use serde_json::{Value, json};

use super::{Extension, TableConfig, plan};
use crate::kind::{PlannedSink, SinkInputs};

mod arrays;
mod encryption;
mod faults;
mod hypertable;
mod mistakes;
mod pool;
mod rows;

/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Windows of a machine: key, end, a value.
fn schema() -> Schema {
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("window_end", stamp),
        Column::new("v", DataType::Float64),
    ];
    let key = PrimaryKey { columns: vec![0, 1], position: false };
    Schema::with_primary_key(columns, vec![0], 1, key).unwrap()
}

/// Rows of [`schema`]: machine, seconds after the start, value.
fn batch(rows: &[(&str, i64, Option<f64>)]) -> Batch {
    nanos(&rows.iter().map(|r| (r.0, START + r.1 * SECOND, r.2)).collect::<Vec<_>>())
}

/// Rows of [`schema`]: machine, time in nanoseconds, value.
fn nanos(rows: &[(&str, i64, Option<f64>)]) -> Batch {
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|r| r.0).collect();
    let times: TimestampNanosecondArray = rows.iter().map(|r| Some(r.1)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machines),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.2).collect::<Float64Array>()),
    ];
    let schema = schema();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let positions: Vec<u64> = (1..=rows.num_rows() as u64).collect();
    Batch::new(rows.clone(), hash_keys(&rows, schema.key()), positions.into()).unwrap()
}

/// The same rows as corrections.
fn revised(batch: Batch, revisions: &[u32], deleted: &[bool]) -> Batch {
    Batch {
        revision: Some(UInt32Array::from(revisions.to_vec())),
        deleted: Some(BooleanArray::from(deleted.to_vec())),
        ..batch
    }
}

struct Nothing;

impl Resolver for Nothing {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a sink has no expressions")
    }
    fn path(&self, path: &std::path::Path) -> std::path::PathBuf {
        path.to_owned()
    }
    fn cache_dir(&self) -> std::path::PathBuf {
        unreachable!("a sink keeps nothing")
    }
    fn checking(&self) -> bool {
        false
    }
}

fn planned(
    url: &str,
    mut config: Value,
    schema: &Schema,
    extension: Extension,
) -> Result<PlannedSink, Vec<foreline_engine::ConfigError>> {
    config["url"] = json!(url);
    let config: TableConfig = parse_config(&config).unwrap();
    let inputs = SinkInputs { pipeline: "pump", sink: "warehouse", stream: "rul", schema };
    plan(&config, &inputs, &Nothing, extension)
}

/// A sink of [`schema`] that is not yet open.
fn sink_at(url: &str, config: Value) -> Box<dyn Sink> {
    (planned(url, config, &schema(), Extension::Never).unwrap().make)().unwrap()
}

fn sink(db: &Postgres, config: Value) -> Box<dyn Sink> {
    sink_at(&db.url(), config)
}

/// A sink that is open for the first run.
fn opened(db: &Postgres, config: Value) -> Box<dyn Sink> {
    let mut sink = sink(db, config);
    assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), None);
    sink
}

fn commit(sink: &mut dyn Sink, epoch: u64, rows: &[Batch]) {
    sink.write(epoch, rows).unwrap();
    assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch));
}

/// The rows of the table: machine, seconds after the start, value.
fn rows(db: &Postgres) -> Vec<String> {
    let seconds = "extract(epoch from window_end)::bigint - 1772323200";
    let rows = db.sql(&format!("select machine, {seconds}, v from rul order by 1, 2")).unwrap();
    rows.lines().map(|line| line.replace('|', " ")).collect()
}

fn left_out(sink: &dyn Sink, reason: &str) -> u64 {
    sink.left_out().into_iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| n)
}

/// What an error says, which is never the password.
fn said(error: &SinkError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(foreline_servers::PASSWORD), "{text}");
    error.to_string()
}
