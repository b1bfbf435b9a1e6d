//! The changes of any rule in one schema.

use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Int32Type};
use foreline_engine::{
    Batch, Column, Epoch, Input, PrimaryKey, SourceId, TimeDomain, Watermarks, WorkerContext,
    hash_keys,
};

use super::fleet::{Heard, shown};
use super::*;
use crate::alert::{AlertConfig, plan_rule};
use crate::testing::{Given, Table};

/// What a rule tells of machines that all are too hot, and its schema.
fn history(domain: TimeDomain, text: &str) -> (Schema, Batch) {
    let table = Table::parse(domain, text);
    history_of(&table.schema, table.rows)
}

fn history_of(schema: &Schema, rows: RecordBatch) -> (Schema, Batch) {
    let config: AlertConfig = parse_config(&json!({ "when": "x > 90" })).unwrap();
    let rule = plan_rule("hot", &config, schema, &Given).unwrap();
    let heard = over(&rule, &batch_of(schema, rows), Lane::New, 0, false);
    (rule.output, heard.rows[0].clone())
}

fn batch_of(schema: &Schema, rows: RecordBatch) -> Batch {
    let hashes = hash_keys(&rows, schema.key());
    let positions = (0..rows.num_rows() as u64).map(|row| 1_000 - row).collect::<Vec<_>>();
    let batch = Batch::new(rows, hashes, positions.into()).unwrap();
    let mut order: Vec<u32> = (0..u32::try_from(batch.len()).unwrap()).collect();
    order.sort_by_key(|&row| batch.key_hash.value(row as usize));
    batch.take(&UInt32Array::from(order)).unwrap()
}

/// What a step says of rows in a lane.
fn over(planned: &Planned, rows: &Batch, lane: Lane, clock_ns: i64, ended: bool) -> Heard {
    let mut operator = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
    let none = rows.slice(0, 0);
    let at = |this: Lane| if lane == this { rows } else { &none };
    let low = if ended { Watermarks::END } else { i64::MIN };
    let watermarks = Watermarks { low, ..Watermarks::none(entry_schema().key_arrow()) };
    let ended = if ended { vec![SourceId(0)] } else { Vec::new() };
    let epoch = Epoch { id: 0, clock_ns, inputs: Vec::new(), commands: Vec::new(), ended };
    let mut heard = Heard::default();
    let input = Input {
        rows: at(Lane::New),
        late: at(Lane::Late),
        revised: at(Lane::Revised),
        watermarks: &watermarks,
    };
    operator.epoch(&epoch, &[input], &mut heard).unwrap();
    heard
}

/// The entries of machines that are too hot at once.
fn entered(domain: TimeDomain, text: &str) -> Batch {
    let (schema, rows) = history(domain, text);
    let planned = entry(&schema).unwrap();
    let heard = over(&planned, &rows, Lane::New, 77, false);
    assert_eq!(heard.account.used, rows.len() as u64);
    assert_eq!(heard.low, Some(76));
    let entries = heard.rows[0].clone();
    assert_eq!(entries.rows.schema(), *entry_schema().arrow());
    assert_eq!(hash_keys(&entries.rows, entry_schema().key()), entries.key_hash);
    entries
}

#[test]
fn times_are_told_as_what_they_are() {
    let text = "m,t,x\na,5,95\na,9,70\n";
    let columns = ["machine", "at", "change", "event_at", "event_count", "raised_at", "cleared_at"];
    let more = ["first_seen", "raised_count", "cleared_count"];
    let values = |domain| -> Vec<String> {
        let rows = shown(&entered(domain, text));
        let values = |row: &fleet::Shown| {
            let values = columns.iter().chain(&more).map(|column| row[*column].as_str());
            values.collect::<Vec<_>>().join(",")
        };
        // The positions of these rows fall, and rows go out by position.
        rows.iter().rev().map(values).collect()
    };
    assert_eq!(values(TimeDomain::UtcNanos), ["a,77,raised,5,,5,,5,,", "a,77,cleared,9,,5,9,5,,"]);
    assert_eq!(values(TimeDomain::Logical), ["a,77,raised,,5,,,,5,", "a,77,cleared,,9,,,,5,9"]);
}

#[test]
fn rows_are_sorted_by_their_new_key() {
    let text = "m,t,x\n1,5,95\n2,5,95\n3,5,95\n4,5,95\n5,5,95\n5,6,70\n6,5,95\n";
    let table = Table::parse(TimeDomain::Logical, text);
    let numbers = arrow::compute::cast(&table.rows.columns()[0], &DataType::Utf8).unwrap();
    let numbers = arrow::compute::cast(&numbers, &DataType::Int64).unwrap();
    let mut columns = table.schema.columns().to_vec();
    columns[0] = Column::new("m", DataType::Int64);
    let schema = Schema::new(columns, &["m"], "t").unwrap();
    let mut arrays = table.rows.columns().to_vec();
    arrays[0] = numbers;
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap();
    let (schema, rows) = history_of(&schema, rows);
    let heard = over(&entry(&schema).unwrap(), &rows, Lane::New, 0, false);
    let entries = &heard.rows[0];
    let place = |row: usize| (entries.key_hash.value(row), entries.position.value(row));
    assert!((0..entries.len()).map(place).is_sorted());
    assert_eq!(hash_keys(&entries.rows, entry_schema().key()), entries.key_hash);
    let mut machines: Vec<String> = shown(entries).iter().map(|r| r["machine"].clone()).collect();
    machines.sort();
    assert_eq!(machines, ["1", "2", "3", "4", "5", "5", "6"]);
}

#[test]
fn different_keys_of_several_columns_are_different_machines() {
    let lines = ["l/1", "l", "l\\", "l\\/1", ""];
    let machines = ["p", "1/p", "1/p", "p", "p"];
    let n = lines.len();
    let columns = vec![
        Column::new("line", DataType::Utf8),
        Column::new("machine", DataType::Utf8),
        Column::new("unit", DataType::Int64),
        Column::new("t", DataType::Int64),
        Column::new("x", DataType::Float64),
    ];
    let schema = Schema::new(columns, &["line", "machine", "unit"], "t").unwrap();
    let text = |values: &[&str]| -> ArrayRef {
        Arc::new(values.iter().copied().map(Some).collect::<DictionaryArray<Int32Type>>())
    };
    let whole = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value; n])) };
    let x: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![95.0; n]));
    let arrays = vec![text(&lines), text(&machines), whole(7), whole(5), x];
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap();
    let (schema, rows) = history_of(&schema, rows);
    let heard = over(&entry(&schema).unwrap(), &rows, Lane::New, 0, false);
    let mut names: Vec<String> =
        shown(&heard.rows[0]).iter().map(|row| row["machine"].clone()).collect();
    names.sort();
    let mut want = [r"l\/1/p/7", r"l/1\/p/7", r"l\\/1\/p/7", r"l\\\/1/p/7", r"/p/7"];
    want.sort_unstable();
    assert_eq!(names, want);
}

#[test]
fn rows_stay_in_their_lane_with_their_revision() {
    let (schema, rows) = history(TimeDomain::Logical, "m,t,x\na,5,95\nb,5,95\nc,5,95\n");
    let planned = entry(&schema).unwrap();
    assert_eq!(planned.late, LateSupport::Stateless);
    let late = over(&planned, &rows, Lane::Late, 0, false);
    assert_eq!((late.rows.len(), late.late[0].len(), late.account.used), (0, 3, 3));
    let revised = Batch {
        revision: Some(vec![3, 4, 5].into()),
        deleted: Some(BooleanArray::from(vec![false, true, false])),
        ..rows.clone()
    };
    let heard = over(&planned, &revised, Lane::Revised, 0, false);
    let entries = &heard.rows[0];
    let alerts: Vec<String> = shown(entries).iter().map(|row| row["alert"].clone()).collect();
    let before = shown(&revised);
    for (row, alert) in alerts.iter().enumerate() {
        let at = before.iter().position(|row| row["alert"] == *alert).unwrap();
        let revision = |batch: &Batch, row| batch.revision.as_ref().unwrap().value(row);
        let deleted = |batch: &Batch, row| batch.deleted.as_ref().unwrap().value(row);
        assert_eq!(revision(entries, row), revision(&revised, at));
        assert_eq!(deleted(entries, row), deleted(&revised, at));
    }
    let ended = over(&planned, &rows, Lane::New, 5, true);
    assert_eq!(ended.low, Some(Watermarks::END));
}

#[test]
fn the_clock_is_no_part_of_the_primary_key() {
    let schema = entry_schema();
    let PrimaryKey { columns, position } = schema.primary_key();
    let names: Vec<&str> = columns.iter().map(|&c| schema.columns()[c].name.as_str()).collect();
    assert_eq!(names, ["machine", "alert", "sequence", "event_at", "event_count"]);
    assert!(!position);
    assert_eq!((schema.key(), schema.time()), ([0].as_slice(), 1));
}

#[test]
fn a_stream_that_is_not_of_a_rule_is_refused() {
    let table = Table::parse(TimeDomain::Logical, "m,t,alert:string,rule:string\n");
    let errors = entry(&table.schema).unwrap_err();
    assert_eq!(errors.len(), 10);
    let first = errors[0].to_string();
    assert_eq!(first, "the stream has no column 'severity', so it is not that of a rule");
}
