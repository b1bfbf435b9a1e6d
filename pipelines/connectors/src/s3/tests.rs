//! Tests of the source against a real S3 server, with a network on which things go wrong.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Chunk, Column, ConfigError, Decoded, Expression, ExpressionError, KnownPartition, Poll, Range,
    ReadUpTo, Resolver, Schema, Source, SourceError, parse_config,
};
use foreline_servers::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::{Value, json};

mod faults;
mod formats;
mod moto;

use super::{S3, S3Config};
use crate::kind::{ColumnConfig, PlannedSource, SourceInputs, SourceKind as _};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

struct Nowhere;

impl Resolver for Nowhere {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a source has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn cache_dir(&self) -> PathBuf {
        PathBuf::new()
    }

    fn checking(&self) -> bool {
        false
    }
}

/// The configuration of a source with these options beside those that reach the server.
fn config(port: u16, options: &Value) -> Result<S3Config, ConfigError> {
    let mut config = json!({
        "url": "s3://plant/data/", "format": "csv", "poll": "once", "timeout": "30s",
        "endpoint": format!("http://127.0.0.1:{port}"), "allow_http": true,
        "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
    });
    for (name, value) in options.as_object().unwrap() {
        config[name] = value.clone();
    }
    let config: S3Config = parse_config(&config)?;
    assert!(!format!("{config:?}").contains("canary"), "keys are not printed");
    Ok(config)
}

/// Has `plan` work on the columns machine, cycle and value, and line where the options name it.
fn with_columns<T>(options: &Value, plan: impl FnOnce(&SourceInputs<'_>) -> T) -> T {
    let named = |name: &str, data_type: DataType| Column::new(name, data_type);
    let mut columns = vec![
        named("machine", DataType::Utf8),
        named("cycle", DataType::Int64),
        named("v", DataType::Float64),
    ];
    let mut types = vec![("machine", "string"), ("cycle", "int64"), ("v", "float64")];
    if options["partitions"].as_str().is_some_and(|p| p.contains("{line}")) {
        columns.push(named("line", DataType::Utf8));
        types.push(("line", "string"));
    }
    let schema = Schema::new(columns, &["machine"], "cycle").unwrap();
    let column = |t: &str| serde_json::from_value::<ColumnConfig>(json!({ "type": t })).unwrap();
    let columns: Vec<_> = types.iter().map(|(n, t)| ((*n).to_owned(), column(t))).collect();
    plan(&SourceInputs { columns: &columns, schema: &schema })
}

fn plan(port: u16, options: &Value) -> Result<PlannedSource, Vec<ConfigError>> {
    let config = config(port, options).map_err(|e| vec![e])?;
    with_columns(options, |inputs| S3::plan(&config, inputs, &Nowhere))
}

fn open(port: u16, options: &Value) -> Box<dyn Source> {
    (plan(port, options).unwrap().open)().unwrap()
}

/// What a source gave.
#[derive(Debug, Default)]
struct Got {
    chunks: Vec<Chunk>,
    known: Vec<KnownPartition>,
    rows: Vec<String>,
    n_dead: usize,
    ended: bool,
}

impl Got {
    /// Polls until `n` rows are there, or the source has ended.
    #[expect(clippy::disallowed_methods, reason = "a test that waits must give up some time")]
    fn until(&mut self, source: &mut dyn Source, n: usize) -> Result<(), SourceError> {
        let deadline = Instant::now() + PATIENCE;
        while self.rows.len() < n && !self.ended {
            assert!(Instant::now() < deadline, "{} rows came of {n}", self.rows.len());
            match source.poll(1 << 20)? {
                Poll::Ready(chunk) => self.take(source, chunk),
                Poll::Pending => std::thread::park_timeout(Duration::from_millis(1)),
                Poll::Ended => self.ended = true,
            }
        }
        Ok(())
    }

    fn take(&mut self, source: &dyn Source, chunk: Chunk) {
        let read = ReadUpTo { end: chunk.range.end, end_ordinal: chunk.range.end_ordinal };
        match self.known.iter_mut().find(|k| k.partition == chunk.partition) {
            Some(known) => known.read = Some(read),
            None => self.known.push(KnownPartition {
                partition: chunk.partition,
                name: source.partition_name(chunk.partition).unwrap(),
                identity: source.identity(chunk.partition),
                read: Some(read),
            }),
        }
        self.decode(source, &chunk);
        self.chunks.push(chunk);
    }

    fn decode(&mut self, source: &dyn Source, chunk: &Chunk) {
        let mut out = Decoded::default();
        source.decoder().decode(chunk, &mut out);
        self.n_dead += out.dead.len();
        for (rows, _) in &out.rows {
            for row in 0..rows.num_rows() {
                let cell =
                    |c: &Arc<dyn arrow::array::Array>| array_value_to_string(c, row).unwrap();
                let cells: Vec<String> = rows.columns().iter().map(cell).collect();
                self.rows.push(cells.join(" "));
            }
        }
    }
}

fn all(source: &mut dyn Source) -> Result<Got, SourceError> {
    let mut got = Got::default();
    got.until(source, usize::MAX)?;
    Ok(got)
}

fn csv(machine: &str, cycles: std::ops::Range<u64>) -> String {
    let rows = cycles.map(|c| format!("{machine},{c},{c}.5\n"));
    format!("machine,cycle,v\n{}", rows.collect::<String>())
}

fn server(objects: &[(&str, &str)]) -> S3Server {
    let server = S3Server::start(&["plant"]).unwrap();
    for (key, text) in objects {
        server.put("plant", &format!("data/{key}"), text.as_bytes()).unwrap();
    }
    server
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn objects_are_read_in_the_order_of_their_keys() {
    let server = server(&[
        ("b.csv", &csv("B", 0..2)),
        ("a/x.csv", &csv("A", 0..2)),
        ("_SUCCESS", "not data"),
        ("empty.csv", ""),
    ]);
    let got = all(&mut *open(server.port(), &json!({}))).unwrap();
    assert_eq!(got.rows, ["A 0 0.5", "A 1 1.5", "B 0 0.5", "B 1 1.5"]);
    let names: Vec<&str> = got.known.iter().map(|k| &*k.name).collect();
    assert_eq!(names, ["s3://plant/data/a/x.csv", "s3://plant/data/b.csv"]);
}

#[test]
fn parts_of_keys_are_columns_and_compressed_objects_are_read() {
    let server = server(&[("line=L1/a.csv", &csv("A", 0..1))]);
    server.put("plant", "data/line=L2/b.csv.gz", &gzip(&csv("B", 5..6))).unwrap();
    let zstd = zstd::encode_all(csv("C", 7..8).as_bytes(), 1).unwrap();
    server.put("plant", "data/line=L%203/c.csv.zst", &zstd).unwrap();
    let options = json!({ "partitions": "line={line}/" });
    let got = all(&mut *open(server.port(), &options)).unwrap();
    let mut rows = got.rows;
    rows.sort();
    assert_eq!(rows, ["A 0 0.5 L1", "B 5 5.5 L2", "C 7 7.5 L 3"]);
    server.put("plant", "data/stray.csv", csv("S", 0..1).as_bytes()).unwrap();
    let error = all(&mut *open(server.port(), &options)).unwrap_err().to_string();
    assert!(error.contains("s3://plant/data/stray.csv"), "{error}");
    let included = json!({ "partitions": "line={line}/", "include": "line=*/**" });
    assert_eq!(all(&mut *open(server.port(), &included)).unwrap().rows.len(), 3);
}

#[test]
fn more_keys_than_a_page_has_and_a_large_object() {
    let server = server(&[("z.csv", &csv("Z", 0..150_000))]);
    for i in 0..1_100 {
        server.put("plant", &format!("data/{i:04}.csv"), csv("A", i..i + 1).as_bytes()).unwrap();
    }
    let got = all(&mut *open(server.port(), &json!({ "parallel": 16 }))).unwrap();
    assert_eq!((got.rows.len(), got.known.len()), (151_100, 1_101));
    let in_order = |rows: &[String]| {
        let cycles = rows.iter().map(|r| r.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
        cycles.eq(0..rows.len() as u64)
    };
    assert!(in_order(&got.rows[..1_100]) && in_order(&got.rows[1_100..]));
}

#[test]
fn a_late_key_is_found_once_wherever_it_sorts() {
    let server = server(&[("m.csv", &csv("M", 0..2))]);
    let mut source = open(server.port(), &json!({ "poll": "100ms" }));
    let mut got = Got::default();
    got.until(&mut *source, 2).unwrap();
    for (i, key) in ["data/a.csv", "data/z.csv", "data/c.csv"].iter().enumerate() {
        server.put("plant", key, csv("L", i as u64..i as u64 + 1).as_bytes()).unwrap();
        got.until(&mut *source, 3 + i).unwrap();
    }
    assert_eq!(got.rows[2..], ["L 0 0.5", "L 1 1.5", "L 2 2.5"]);
    assert_eq!(got.known.len(), 4);
}

#[test]
fn an_overwritten_object_by_policy() {
    for (on_change, expected) in [("error", None), ("reprocess", Some(4)), ("ignore", Some(3))] {
        let server = server(&[("a.csv", &csv("A", 0..2))]);
        let mut source = open(server.port(), &json!({ "poll": "100ms", "on_change": on_change }));
        let mut got = Got::default();
        got.until(&mut *source, 2).unwrap();
        server.put("plant", "data/a.csv", csv("X", 0..1).as_bytes()).unwrap();
        server.put("plant", "data/b.csv", csv("B", 0..1).as_bytes()).unwrap();
        let more = got.until(&mut *source, expected.unwrap_or(usize::MAX));
        match expected {
            None => {
                let error = more.unwrap_err();
                assert!(matches!(error, SourceError::Changed { .. }), "{error}");
                assert!(error.to_string().contains("s3://plant/data/a.csv"), "{error}");
            }
            Some(_) => {
                let read_anew = got.rows.contains(&"X 0 0.5".to_owned());
                assert_eq!(read_anew, on_change == "reprocess", "{:?}", got.rows);
            }
        }
    }
}

#[test]
fn an_object_that_changes_while_it_is_read_is_an_error() {
    let server = server(&[("a.csv", &csv("A", 0..600_000))]);
    let mut source = open(server.port(), &json!({ "parallel": 1 }));
    let mut got = Got::default();
    got.until(&mut *source, 1).unwrap();
    server.put("plant", "data/a.csv", csv("B", 0..700_000).as_bytes()).unwrap();
    let error = got.until(&mut *source, usize::MAX).unwrap_err();
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
}

#[test]
fn a_run_goes_on_where_it_was_left_and_reads_ranges_again() {
    let server = server(&[
        ("a.csv", &csv("A", 0..90_000)),
        ("b.csv", &csv("B", 0..90_000)),
        ("c.csv", &csv("C", 0..10)),
    ]);
    server.put("plant", "data/d.csv.gz", &gzip(&csv("D", 0..90_000))).unwrap();
    let whole = all(&mut *open(server.port(), &json!({}))).unwrap();
    assert_eq!(whole.rows.len(), 270_010);
    for cut in [1, 3, whole.chunks.len() - 2, whole.chunks.len()] {
        let mut first = open(server.port(), &json!({}));
        let mut got = Got::default();
        while got.chunks.len() < cut {
            let n = got.rows.len() + 1;
            got.until(&mut *first, n).unwrap();
        }
        drop(first);
        let mut second = open(server.port(), &json!({}));
        second.resume(&got.known).unwrap();
        for chunk in &got.chunks {
            let again = second.read(chunk.partition, chunk.range).unwrap();
            assert!(again.payload == chunk.payload, "the bytes are those of before");
        }
        let more = all(&mut *second).unwrap();
        got.rows.extend(more.rows);
        assert!(got.rows == whole.rows, "{cut}: {} rows", got.rows.len());
    }
}

#[test]
fn ranges_are_read_again_while_others_are_read() {
    let server = server(&[
        ("a.csv", &csv("A", 0..60_000)),
        ("b.csv", &csv("B", 0..60_000)),
        ("c.csv", &csv("C", 0..10)),
    ]);
    let mut first = open(server.port(), &json!({}));
    let mut got = Got::default();
    got.until(&mut *first, 60_001).unwrap();
    let mut second = open(server.port(), &json!({}));
    second.resume(&got.known).unwrap();
    let had = got.chunks.clone();
    for source in [&mut first, &mut second] {
        let mut more = Got::default();
        while !more.ended {
            let n = more.rows.len() + 1;
            more.until(&mut **source, n).unwrap();
            for chunk in had.iter().chain(&more.chunks) {
                let again = source.read(chunk.partition, chunk.range).unwrap();
                assert!(again.payload == chunk.payload, "the bytes are those of before");
            }
        }
        assert_eq!(got.rows.len() + more.rows.len(), 120_010);
    }
}

#[test]
fn a_range_of_an_object_that_was_overwritten_is_refused() {
    let server = server(&[("a.csv", &csv("A", 0..10))]);
    let got = all(&mut *open(server.port(), &json!({}))).unwrap();
    server.put("plant", "data/a.csv", csv("B", 0..10).as_bytes()).unwrap();
    let mut source = open(server.port(), &json!({}));
    source.resume(&got.known).unwrap();
    let range: Range = got.chunks[0].range;
    let error = source.read(got.chunks[0].partition, range).unwrap_err();
    assert!(
        matches!(&error, SourceError::Changed { what, .. } if what.ends_with("a.csv")),
        "{error}"
    );
}

#[test]
fn mistakes_in_the_configuration() {
    let at = |options: Value| -> Vec<String> {
        plan(1, &options).unwrap_err().into_iter().map(|e| e.at).collect()
    };
    assert_eq!(at(json!({ "url": "http://plant" })), ["url"]);
    assert_eq!(at(json!({ "allow_http": false })), ["endpoint"]);
    assert_eq!(at(json!({ "poll": "0s", "parallel": 0 })), ["poll", "parallel"]);
    assert_eq!(at(json!({ "partitions": "{lane}/" })), ["partitions"]);
    assert_eq!(at(json!({ "csv": { "delimiter": "::" } })), ["csv.delimiter"]);
    assert_eq!(at(json!({ "secret_access_key": null })), [""]);
}

#[test]
fn a_probe_says_what_would_be_read() {
    let server = server(&[("a.csv", "machine\n"), ("_SUCCESS", "x"), ("empty.csv", "")]);
    let probe = |options: &Value| (plan(server.port(), options).unwrap().probe.unwrap())();
    let said = probe(&json!({})).unwrap();
    assert_eq!(said, "'s3://plant/data' can be listed: 3 objects, 1 of them to read");
    let said = probe(&json!({ "partitions": "line={line}/" })).unwrap_err();
    assert!(said.contains("'s3://plant/data/a.csv'") && said.contains("line={line}/"), "{said}");
}

#[test]
fn objects_that_became_known_before_anything_of_them_counted_are_read() {
    let server = server(&[
        ("a.csv", &csv("A", 0..90_000)),
        ("b.csv", &csv("B", 0..10)),
        ("c.csv", &csv("C", 0..10)),
        ("d.csv", &csv("D", 0..10)),
    ]);
    let whole = all(&mut *open(server.port(), &json!({}))).unwrap();
    let first = whole.chunks[0].range;
    let read = ReadUpTo { end: first.end, end_ordinal: first.end_ordinal };
    let mut rest = Got::default();
    for chunk in &whole.chunks[1..] {
        rest.decode(&*open(server.port(), &json!({})), chunk);
    }
    for n_known in 1..=4 {
        for (read, expected) in [(None, &whole.rows), (Some(read), &rest.rows)] {
            let mut known = whole.known[..n_known].to_vec();
            known.iter_mut().for_each(|k| k.read = None);
            known[0].read = read;
            let mut source = open(server.port(), &json!({}));
            source.resume(&known).unwrap();
            let got = all(&mut *source).unwrap();
            assert!(got.rows == *expected, "{n_known} known, {} rows", got.rows.len());
            let numbers: Vec<u32> = got.chunks.iter().map(|c| c.partition.0).collect();
            assert!(numbers.is_sorted() && numbers.last() == Some(&3), "{numbers:?}");
        }
    }
}

#[test]
fn an_object_without_records_leaves_no_gap_in_the_numbers() {
    let server = server(&[("a.ndjson", "\n\n"), ("b.ndjson", "{\"machine\":\"A\",\"cycle\":1}")]);
    let got = all(&mut *open(server.port(), &json!({ "format": "ndjson" }))).unwrap();
    let numbers: Vec<u32> = got.known.iter().map(|k| k.partition.0).collect();
    assert_eq!(numbers, (0..got.known.len() as u32).collect::<Vec<_>>());
}
