//! Tests of the source against a real S3 server, with a network on which things go wrong.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Chunk, Column, ConfigError, Decoded, Expression, ExpressionError, KnownPartition, Poll, Range,
    ReadUpTo, Resolver, Schema, Source, SourceError, parse_config,
};
use foreline_servers::{ACCESS_KEY, Fault, FaultyWay, Rule, S3Server, SECRET_KEY};
use serde_json::{Value, json};

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

/// A source of machine, cycle and value, with these options beside those that reach the server.
fn plan(port: u16, options: &Value) -> Result<PlannedSource, Vec<ConfigError>> {
    let mut config = json!({
        "url": "s3://plant/data/", "format": "csv", "poll": "once", "timeout": "30s",
        "endpoint": format!("http://127.0.0.1:{port}"), "allow_http": true,
        "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
    });
    for (name, value) in options.as_object().unwrap() {
        config[name] = value.clone();
    }
    let config: S3Config = parse_config(&config).map_err(|e| vec![e])?;
    assert!(!format!("{config:?}").contains("canary"), "keys are not printed");
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
    S3::plan(&config, &SourceInputs { columns: &columns, schema: &schema }, &Nowhere)
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
        let mut out = Decoded::default();
        source.decoder().decode(&chunk, &mut out);
        self.n_dead += out.dead.len();
        for (rows, _) in &out.rows {
            for row in 0..rows.num_rows() {
                let cell =
                    |c: &Arc<dyn arrow::array::Array>| array_value_to_string(c, row).unwrap();
                let cells: Vec<String> = rows.columns().iter().map(cell).collect();
                self.rows.push(cells.join(" "));
            }
        }
        self.chunks.push(chunk);
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
fn what_goes_wrong_on_the_way_is_tried_again() {
    let server = server(&[("a.csv", &csv("A", 0..200_000)), ("b.csv", &csv("B", 0..10))]);
    let way = FaultyWay::start(server.port()).unwrap();
    let rule = |contains: &str, fault, after, times| Rule {
        method: "GET",
        contains: contains.to_owned(),
        fault,
        after,
        times,
    };
    way.rule(rule("list-type", Fault::Status(503), 0, 2));
    way.rule(rule("a.csv", Fault::Status(500), 0, 1));
    way.rule(rule("a.csv", Fault::Truncate(1_000_000), 1, 2));
    way.rule(rule("a.csv", Fault::Stall, 0, 1));
    way.rule(rule("b.csv", Fault::Truncate(5), 0, 1));
    let got = all(&mut *open(way.port(), &json!({ "parallel": 2, "timeout": "5s" }))).unwrap();
    assert_eq!((got.rows.len(), got.n_dead), (200_010, 0));
    assert!(got.rows.windows(2).take(199_999).all(|w| w[0] != w[1]));
    assert_eq!(got.rows[199_999], "A 199999 199999.5");
}

#[test]
fn a_broken_listing_shows_nothing_twice_and_nothing_less() {
    let server = server(&[]);
    for i in 0..1_500 {
        server.put("plant", &format!("data/{i:04}.csv"), csv("A", i..i + 1).as_bytes()).unwrap();
    }
    let way = FaultyWay::start(server.port()).unwrap();
    // The second page breaks off for longer than a request is tried.
    way.rule(Rule {
        method: "GET",
        contains: "continuation-token".to_owned(),
        fault: Fault::Status(400),
        after: 0,
        times: 1,
    });
    let error = all(&mut *open(way.port(), &json!({}))).unwrap_err().to_string();
    assert!(error.contains("cannot list 's3://plant/data'"), "{error}");
    assert!(!error.contains("canary"));
    assert_eq!(all(&mut *open(way.port(), &json!({}))).unwrap().rows.len(), 1_500);
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
fn a_watching_source_outlives_an_outage() {
    let server = server(&[("a.csv", &csv("A", 0..2))]);
    let way = FaultyWay::start(server.port()).unwrap();
    let mut source = open(way.port(), &json!({ "poll": "100ms" }));
    let mut got = Got::default();
    got.until(&mut *source, 2).unwrap();
    let (contains, fault) = (String::new(), Fault::Status(503));
    way.rule(Rule { method: "GET", contains, fault, after: 0, times: 6 });
    server.put("plant", "data/b.csv", csv("B", 0..2).as_bytes()).unwrap();
    got.until(&mut *source, 4).unwrap();
    assert_eq!(got.rows[2..], ["B 0 0.5", "B 1 1.5"]);
}

#[test]
fn a_bucket_that_is_not_there_is_an_error_at_once() {
    let server = server(&[]);
    let options = json!({ "url": "s3://nowhere/data/", "poll": "100ms" });
    let error = all(&mut *open(server.port(), &options)).unwrap_err().to_string();
    assert!(error.contains("NoSuchBucket"), "{error}");
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
fn numbers_are_read_as_from_files() {
    let server = server(&[("a.csv", "machine;cycle;v\nA;1;1,5\nA;x;2,5\n")]);
    let options = json!({ "csv": { "delimiter": ";", "decimal": "," } });
    let mut source = open(server.port(), &options);
    let got = all(&mut *source).unwrap();
    assert_eq!((got.rows.len(), got.n_dead), (1, 1));
    let mut out = Decoded::default();
    source.decoder().decode(&got.chunks[0], &mut out);
    let (rows, positions) = &out.rows[0];
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(rows.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 1.5f64.to_bits());
    assert_eq!((positions.len(), positions.value(0)), (1, 2), "the line in the object");
}

#[test]
fn json_lines_and_parquet_objects_are_read_the_same() {
    let server = server(&[(
        "line=L1/a.ndjson",
        "{\"machine\":\"A\",\"cycle\":1,\"v\":0.5}\n\n{\"machine\":\"A\",\"cycle\":\"x\"}\n{\"machine\":\"A\",\"cycle\":2}",
    )]);
    let options = json!({ "format": "ndjson", "partitions": "line={line}/" });
    let mut source = open(server.port(), &options);
    let got = all(&mut *source).unwrap();
    assert_eq!((got.rows, got.n_dead), (vec!["A 1 0.5 L1".to_owned(), "A 2  L1".to_owned()], 1));
    let mut out = Decoded::default();
    source.decoder().decode(&got.chunks[0], &mut out);
    assert_eq!(foreline_engine::Position(out.dead[0].position.unwrap()).ordinal(), 3, "its line");

    let server = self::server(&[]);
    let rows = arrow::array::RecordBatch::try_from_iter([
        (
            "machine",
            Arc::new(arrow::array::StringArray::from(vec!["A"; 50])) as arrow::array::ArrayRef,
        ),
        ("cycle", Arc::new(arrow::array::Int64Array::from_iter_values(0..50))),
        ("v", Arc::new(arrow::array::Float64Array::from(vec![0.5; 50]))),
    ]);
    let rows = rows.unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(20))
        .build();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))
            .unwrap();
    writer.write(&rows).unwrap();
    server.put("plant", "data/line=L7/x.parquet", &writer.into_inner().unwrap()).unwrap();
    let options = json!({ "format": "parquet", "partitions": "line={line}/" });
    let got = all(&mut *open(server.port(), &options)).unwrap();
    assert_eq!((got.rows.len(), got.chunks.len()), (50, 3), "a chunk is a row group");
    assert_eq!(got.rows[49], "A 49 0.5 L7");
    let mut again = open(server.port(), &options);
    again.resume(&got.known).unwrap();
    for chunk in &got.chunks {
        assert!(again.read(chunk.partition, chunk.range).unwrap().payload == chunk.payload);
    }
    server.put("plant", "data/line=L7/y.parquet", b"not parquet at all").unwrap();
    let error = all(&mut *open(server.port(), &options)).unwrap_err().to_string();
    assert!(error.contains("y.parquet' is not a Parquet file"), "{error}");
}
