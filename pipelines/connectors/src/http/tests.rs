//! Bodies at the door, and the way of records from a request to the source and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::array::{AsArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema as ArrowSchema, TimeUnit};
use arrow::ipc::writer::StreamWriter;
use foreline_engine::{
    Column, Decoded, Expression, ExpressionError, ReadUpTo, Schema, TimeDomain, parse_config,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::door::{Fate, Refused, Taken};
use crate::kind::ColumnConfig;

mod waveforms;

struct Nothing;

impl Resolver for Nothing {
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

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is called")]
fn planned(config: Value) -> Result<PlannedSource, Vec<ConfigError>> {
    let config: HttpConfig = parse_config(&config).map_err(|e| vec![e])?;
    let column =
        |t: &str| -> ColumnConfig { serde_json::from_value(json!({ "type": t })).unwrap() };
    let columns: Vec<(String, ColumnConfig)> =
        [("t", "timestamp"), ("k", "string"), ("v", "float64")]
            .map(|(name, t)| (name.to_owned(), column(t)))
            .to_vec();
    let types = [TimeDomain::UtcNanos.data_type(), DataType::Utf8, DataType::Float64];
    let schema = columns.iter().zip(types).map(|((n, _), t)| Column::new(n, t)).collect();
    let schema = Schema::new(schema, &["k"], "t").unwrap();
    Http::plan(&config, &SourceInputs { columns: &columns, schema: &schema }, &Nothing)
}

/// A source that runs, and its door.
fn running(config: Value) -> (Box<dyn Source>, Arc<Door>) {
    let planned = planned(config).unwrap();
    let mut source = (planned.open)().unwrap();
    assert!(matches!(source.poll(1), Ok(Poll::Pending)), "the first poll opens the door");
    (source, planned.door.unwrap())
}

fn examine(door: &Door, content_type: &str, body: &str) -> Result<Examined, BadBody> {
    door.examine(content_type, body.as_bytes())
}

const ROWS: &str =
    r#"[{"t":"2026-01-01T00:00:00Z","k":"a","v":1.5},{"t":"2026-01-01T00:00:01Z","k":"a"}]"#;

#[test]
fn every_kind_of_body_gives_the_same_rows() {
    let (mut source, door) = running(json!({}));
    let stamps = TimestampMillisecondArray::from(vec![1_767_225_600_000, 1_767_225_601_000]);
    let fields = vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("v", DataType::Float64, true),
        Field::new("more", DataType::Int32, true),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a", "a"])),
        Arc::new(stamps),
        Arc::new(Float64Array::from(vec![Some(1.5), None])),
        Arc::new(Int32Array::from(vec![1, 2])),
    ];
    let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).unwrap();
    let mut arrow = Vec::new();
    let mut writer = StreamWriter::try_new(&mut arrow, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let ndjson = ROWS.trim_matches(['[', ']']).replace("},{", "}\n{");
    let csv = "k,t,v\na,2026-01-01T00:00:00Z,1.5\na,2026-01-01T00:00:01Z,\n";
    let bodies: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("application/json; charset=utf-8", ROWS.as_bytes().to_vec()),
        ("application/x-ndjson", ndjson.into_bytes()),
        ("text/csv", csv.as_bytes().to_vec()),
        ("application/vnd.apache.arrow.stream", arrow),
    ]);
    let mut expected: Option<RecordBatch> = None;
    for (content_type, body) in bodies {
        let examined = door.examine(content_type, &body).unwrap();
        assert_eq!((examined.accepted, examined.rejected), (2, 0), "{content_type}");
        door.push(examined, None).unwrap();
        let Poll::Ready(chunk) = source.poll(1).unwrap() else { panic!("it waits") };
        let mut out = Decoded::default();
        source.decoder().decode(&chunk, &mut out);
        let rows = &out.rows[0].0;
        assert_eq!(rows, expected.get_or_insert_with(|| rows.clone()), "{content_type}");
        assert_eq!(rows.column(2).as_primitive::<Float64Type>().value(0), 1.5);
    }
}

#[test]
fn rows_that_cannot_be_used_are_named_by_their_place() {
    let (mut source, door) = running(json!({}));
    let body = r#"[{"t":"nonsense","k":"a","v":1},{"t":"2026-01-01T00:00:00Z","k":"a","v":2},{"t":"2026-01-01T00:00:00Z","v":3}]"#;
    let examined = examine(&door, "application/json", body).unwrap();
    assert_eq!((examined.accepted, examined.rejected), (1, 2));
    let places: Vec<u64> = examined.errors.iter().map(|e| e.index).collect();
    assert_eq!(places, [0, 2]);
    assert_eq!(examined.errors[1].reason, "missing_key");
    door.push(examined, None).unwrap();
    let Poll::Ready(chunk) = source.poll(1).unwrap() else { panic!("it waits") };
    let mut out = Decoded::default();
    source.decoder().decode(&chunk, &mut out);
    assert_eq!((out.records, out.dead.len()), (3, 2), "they become dead letters");
}

#[test]
fn what_cannot_be_used_at_all_is_refused() {
    let (_, door) = running(json!({ "formats": ["json"] }));
    let refused =
        |content_type, body: &str| examine(&door, content_type, body).unwrap_err().to_string();
    assert!(refused("text/csv", "t,k,v\n").contains("application/json"));
    assert!(refused("application/json", "{\"t\":").contains("none of the 1 rows"));
    let deep = "[".repeat(100_000);
    assert!(refused("application/json", &deep).contains("none of the 1 rows"));
    let infinite = r#"{"t":"2026-01-01T00:00:00Z","k":"a","v":Infinity}"#;
    let Err(BadBody::NothingUsable { errors, .. }) = examine(&door, "application/json", infinite)
    else {
        panic!("it is refused")
    };
    assert_eq!(errors[0].reason, "non_finite");
    let empty = examine(&door, "application/json", "[]").unwrap();
    assert_eq!((empty.accepted, empty.rejected), (0, 0));
}

#[test]
fn a_receipt_is_settled_when_its_records_are_durable() {
    let (mut source, door) = running(json!({}));
    let taken = [0, 1].map(|_| {
        let examined = examine(&door, "application/json", ROWS).unwrap();
        match door.push(examined, None).unwrap() {
            Taken::Now(receipt) => receipt,
            Taken::Before => panic!("nothing came before"),
        }
    });
    let [mut first, mut second] = taken;
    let mut upto = Vec::new();
    while let Poll::Ready(chunk) = source.poll(1).unwrap() {
        upto.push(Position::new(chunk.partition, chunk.range.end_ordinal - 1));
    }
    let examined = examine(&door, "application/json", ROWS).unwrap();
    let Ok(Taken::Now(mut third)) = door.push(examined, None) else { panic!("it is taken") };
    source.durable(REQUESTS, upto[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(first.settled()), Fate::Durable);
    assert!(!door.take_back(&second), "it was handed on");
    drop(source);
    assert_eq!(runtime.block_on(second.settled()), Fate::Unknown, "the run ended before");
    assert_eq!(runtime.block_on(third.settled()), Fate::NotTaken, "it was not even handed on");
    let examined = examine(&door, "application/json", ROWS).unwrap();
    assert_eq!(door.push(examined, None).unwrap_err(), Refused::Closed);
}

#[test]
fn what_waits_is_bounded_and_can_be_taken_back() {
    let (mut source, door) = running(json!({ "inbox_mib": 1 }));
    let row = r#"{"t":"2026-01-01T00:00:00Z","k":"a","v":1},"#;
    let body = format!("[{}]", row.repeat(12_000).trim_end_matches(','));
    let push = || door.push(examine(&door, "application/json", &body).unwrap(), None);
    let Ok(Taken::Now(_)) = push() else { panic!("there is room") };
    let Ok(Taken::Now(second)) = push() else { panic!("there is room") };
    assert_eq!(push().unwrap_err(), Refused::Full);
    assert!(door.take_back(&second));
    assert!(push().is_ok());
    let Poll::Ready(first) = source.poll(1).unwrap() else { panic!("it waits") };
    let Poll::Ready(third) = source.poll(1).unwrap() else { panic!("it waits") };
    assert!(third.range.start >= first.range.end, "ordinals go up");
    assert!(matches!(source.poll(1).unwrap(), Poll::Pending));
}

#[test]
fn a_key_stands_for_one_body_across_runs() {
    let folder = tempfile::tempdir().unwrap();
    let open = |next: Option<u64>| {
        let planned = planned(json!({})).unwrap();
        let door = planned.door.unwrap();
        door.keep_keys_in(folder.path().join("keys"));
        let mut source = (planned.open)().unwrap();
        let read = next.map(|n| ReadUpTo { end: n, end_ordinal: n });
        let (name, identity) = (String::new(), Vec::new());
        source.resume(&[KnownPartition { partition: REQUESTS, name, identity, read }]).unwrap();
        source.poll(1).unwrap();
        (source, door)
    };
    let push = |door: &Door, body: &str, key| {
        door.push(examine(door, "application/json", body).unwrap(), Some(key))
    };
    let (mut source, door) = open(None);
    let Ok(Taken::Now(receipt)) = push(&door, ROWS, "one") else { panic!("it is new") };
    assert!(!door.take_back(&receipt), "what has a key stays");
    assert_eq!(push(&door, ROWS, "one").unwrap_err(), Refused::UnderWay);
    let Poll::Ready(chunk) = source.poll(1).unwrap() else { panic!("it waits") };
    let end = chunk.range.end_ordinal;
    assert_eq!(push(&door, ROWS, "one").unwrap_err(), Refused::UnderWay);
    source.durable(REQUESTS, Position::new(REQUESTS, end - 1));
    assert!(matches!(push(&door, ROWS, "one"), Ok(Taken::Before)));
    let other = ROWS.replace("1.5", "2.5");
    assert_eq!(push(&door, &other, "one").unwrap_err(), Refused::KeyReused);
    assert!(matches!(push(&door, &other, "two"), Ok(Taken::Now(_))));
    drop(source);
    let (_source, door) = open(Some(end));
    assert!(matches!(push(&door, ROWS, "one"), Ok(Taken::Before)), "it is known in the next run");
    assert!(matches!(push(&door, &other, "two"), Ok(Taken::Now(_))), "it was never journaled");
}

#[test]
fn requests_are_rationed() {
    let (_, door) = running(json!({ "max_requests_per_s": 2 }));
    assert_eq!((door.allow(), door.allow()), (None, None));
    assert!(door.allow().is_some_and(|wait| wait.as_millis() <= 500));
}

#[test]
fn an_arrow_message_is_not_believed_how_long_it_is() {
    let (_source, door) = running(json!({}));
    let arrow = Body::Arrow.media_type();
    for body in [&b"\xff\xff\xff\xff\xff\xff\xff\x7f"[..], b"\xff\xff\xff\x7f1234"] {
        let error = door.examine(arrow, body).unwrap_err().to_string();
        assert!(error.contains("a message is longer than the body"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_body_causes_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0..4_usize,
        head in prop::sample::select(vec!["", "[{\"t\":\"", "t,k,v\n", "{\"k\":[[["]),
    ) {
        let (_source, door) = running(json!({}));
        let body = [head.as_bytes(), &bytes].concat();
        door.examine(ALL[kind].media_type(), &body).ok();
    }
}
