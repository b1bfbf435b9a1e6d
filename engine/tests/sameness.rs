//! The same rows come out whatever the number of workers, the size of epochs and the cuts of the input.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, CollectSink, Column, Front, Graph, LatePolicy, MemorySource, Options, OrderRules,
    Report, Schema, SinkNode, SourceNode, StreamId, run,
};

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// Readings of `n_keys` machines; some are a few cycles late, some far too late, some repeated. Machine 0 has
/// half of all rows, so one worker has more to do than the others.
fn readings(n_rows: u64, n_keys: u64) -> RecordBatch {
    let mut seed = 7_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let (mut machines, mut cycles, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..n_rows {
        let machine = if next().is_multiple_of(2) { 0 } else { next() % n_keys };
        let back = match next() % 50 {
            0 => 40,
            1..10 => next() % 5,
            _ => 0,
        };
        machines.push(format!("m{machine}"));
        cycles.push(i64::try_from((row / 3).saturating_sub(back)).unwrap());
        values.push((next() % 1000) as f64 / 8.0);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", Arc::new(StringArray::from(machines))),
        ("cycle", Arc::new(Int64Array::from(cycles))),
        ("v", Arc::new(Float64Array::from(values))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn carry_out(
    rows: &RecordBatch,
    order: OrderRules,
    chunk_rows: usize,
    epoch_rows: usize,
    workers: usize,
) -> (Batch, Batch, Report) {
    let schema = schema();
    let source = MemorySource::new(&schema, std::slice::from_ref(rows), chunk_rows).unwrap();
    let (sink, collected) = CollectSink::new(1_000_000);
    let (dead_sink, dead) = CollectSink::new(1_000_000);
    let graph = Graph {
        name: "sameness".to_owned(),
        sources: vec![SourceNode {
            name: "readings".to_owned(),
            schema: schema.clone(),
            front: Front::Stream(order),
            source: Box::new(source),
        }],
        steps: Vec::new(),
        views: Vec::new(),
        sinks: vec![
            SinkNode { name: "out".into(), from: StreamId::Source(0), sink: Box::new(sink) },
            SinkNode {
                name: "dead".into(),
                from: StreamId::DeadLetters,
                sink: Box::new(dead_sink),
            },
        ],
    };
    let options = Options { workers, epoch_rows, ..Options::default() };
    let report = run(graph, &options).unwrap();
    let dead = dead.sorted(&foreline_engine::dead_letter_schema()).unwrap();
    (collected.sorted(&schema).unwrap(), dead, report)
}

/// The ordering step, written down plainly: row by row, per key.
fn expected(
    rows: &RecordBatch,
    lateness: i64,
    dedupe: bool,
) -> (Vec<(String, i64, u64)>, usize, usize) {
    use std::collections::{BTreeMap, BTreeSet};
    let machines = rows.column(0).as_any().downcast_ref::<StringArray>().unwrap();
    let cycles = rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
    let values = rows.column(2).as_any().downcast_ref::<Float64Array>().unwrap();
    let mut max: BTreeMap<&str, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let (mut out, mut late, mut repeated) = (Vec::new(), 0, 0);
    for row in 0..rows.num_rows() {
        let (machine, cycle) = (machines.value(row), cycles.value(row));
        if dedupe && !seen.insert((machine, cycle, values.value(row).to_bits())) {
            repeated += 1;
            continue;
        }
        let top = max.entry(machine).or_insert(i64::MIN);
        if *top != i64::MIN && cycle < *top - lateness {
            late += 1;
            continue;
        }
        *top = cycle.max(*top);
        out.push((machine.to_owned(), cycle, row as u64 + 1));
    }
    out.sort();
    (out, late, repeated)
}

fn plain(batch: &Batch) -> Vec<(String, i64, u64)> {
    let machines = arrow::compute::cast(batch.rows.column(0), &DataType::Utf8).unwrap();
    let machines = machines.as_any().downcast_ref::<StringArray>().unwrap();
    let cycles = batch.rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
    let mut rows: Vec<_> = (0..batch.len())
        .map(|r| (machines.value(r).to_owned(), cycles.value(r), batch.position.value(r)))
        .collect();
    rows.sort();
    rows
}

#[test]
fn workers_epochs_and_cuts_do_not_show() {
    let rows = readings(2_000, 23);
    for (lateness, dedupe) in [(0, false), (4, false), (4, true), (100, false)] {
        let order = OrderRules {
            lateness,
            late: LatePolicy::DeadLetter,
            dedupe: if dedupe { vec![0, 1, 2] } else { Vec::new() },
            dedupe_within: i64::MAX,
            ..OrderRules::default()
        };
        let (want, want_late, want_repeated) = expected(&rows, lateness, dedupe);
        let (first, first_dead, _) = carry_out(&rows, order.clone(), 2_000, 100_000, 1);
        for (chunk, epoch, workers) in [
            (2_000, 100_000, 1),
            (64, 64, 1),
            (1, 7, 2),
            (333, 1_000, 3),
            (10, 4_000, 2),
            (9, 1, 3),
        ] {
            let (out, dead, report) = carry_out(&rows, order.clone(), chunk, epoch, workers);
            let what =
                format!("lateness {lateness}, chunk {chunk}, epoch {epoch}, {workers} workers");
            assert_eq!(plain(&out), want, "{what}");
            assert_eq!(plain(&out), plain(&first), "{what}");
            assert_eq!(out.key_hash, first.key_hash, "{what}");
            assert_eq!(out.rows.column(2), first.rows.column(2), "{what}");
            assert_eq!(dead.len(), first_dead.len(), "{what}");
            let account = report.accounts["readings"];
            assert_eq!(account.late as usize, want_late, "{what}");
            assert_eq!(account.deduplicated as usize, want_repeated, "{what}");
            assert_eq!(account.input, 2_000, "{what}");
            assert_eq!(account.in_flight, 0, "{what}");
            assert!(account.balances(), "{what}");
        }
    }
}

#[test]
fn rows_of_a_key_leave_in_event_time_order() {
    let rows = readings(2_000, 5);
    let order = OrderRules { lateness: 5, ..OrderRules::default() };
    let schema = schema();
    let source = MemorySource::new(&schema, &[rows], 50).unwrap();
    let (sink, collected) = CollectSink::new(10_000);
    let graph = Graph {
        name: "order".to_owned(),
        sources: vec![SourceNode {
            name: "readings".to_owned(),
            schema: schema.clone(),
            front: Front::Stream(order),
            source: Box::new(source),
        }],
        steps: Vec::new(),
        views: Vec::new(),
        sinks: vec![SinkNode {
            name: "out".into(),
            from: StreamId::Source(0),
            sink: Box::new(sink),
        }],
    };
    run(graph, &Options { workers: 2, epoch_rows: 100, ..Options::default() }).unwrap();
    let mut last: std::collections::BTreeMap<u64, (i64, u64)> = std::collections::BTreeMap::new();
    for batch in collected.batches() {
        let times = batch.times(&schema).to_vec();
        for (row, &time) in times.iter().enumerate() {
            let now = (time, batch.position.value(row));
            let before = last.insert(batch.key_hash.value(row), now);
            assert!(before.is_none_or(|b| b < now), "{before:?} then {now:?}");
        }
    }
    assert!(!last.is_empty());
}
