//! Views hold what a query over everything that came in would find, whatever the number of workers and the cuts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use foreline_engine::{
    Aggregate, Batch, CollectSink, Collected, Column, EvaluateError, Expression, Front, Function,
    Graph, LatePolicy, MemorySource, Observer, Options, OrderRules, Relation, Report, RunError,
    Schema, SinkNode, SourceNode, StepNode, StreamId, Table, ViewKind, ViewNode, latest, run,
};
use proptest::prelude::*;

/// A prediction: machine, cycle, remaining life.
type Prediction = (u8, i64, Option<i64>);
/// Of a machine from a cycle on: the limit, and the line.
type Limit = (u8, i64, Option<i64>, u8);

fn predictions() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("rul", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

fn limits() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("since", DataType::Int64),
        Column::new("limit", DataType::Float64),
        Column::new("line", DataType::Utf8),
    ];
    Schema::new(columns, &["machine"], "since").unwrap()
}

fn name(machine: u8) -> String {
    format!("m{machine}")
}

fn source(name: &str, schema: Schema, rows: RecordBatch, chunk_rows: usize) -> SourceNode {
    let source = Box::new(MemorySource::new(&schema, &[rows], chunk_rows).unwrap());
    let order = OrderRules { late: LatePolicy::Correct(10_000), ..OrderRules::default() };
    SourceNode { name: name.to_owned(), schema, front: Front::Stream(order), source }
}

/// Whether the life of a machine is below its limit.
#[derive(Debug)]
struct BelowLimit;

impl Expression for BelowLimit {
    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Float64Type>();
        let pairs = column("rul").iter().zip(column("limit"));
        let below = pairs.map(|(rul, limit)| Some(rul? < limit?));
        Ok(Arc::new(below.collect::<BooleanArray>()))
    }
}

struct Ran {
    tables: BTreeMap<String, Arc<Table>>,
    state: Collected,
    log: Collected,
}

/// The views, by name: the latest of both streams, joined, those at risk, by line, the worst three.
fn views() -> Vec<ViewNode> {
    let latest_rul = Relation::of_latest(&predictions(), 1).unwrap();
    let latest_limit = Relation::of_latest(&limits(), 1).unwrap();
    let mut columns = latest_rul.columns().to_vec();
    columns.extend([2, 3].map(|c| latest_limit.columns()[c].clone()));
    let joined = Relation::new(columns, vec![0]).unwrap();
    let aggregates = vec![
        Aggregate { function: Function::Count, column: None },
        Aggregate { function: Function::Sum, column: Some(2) },
        Aggregate { function: Function::Min, column: Some(2) },
        Aggregate { function: Function::Max, column: Some(2) },
        Aggregate { function: Function::Distinct, column: Some(2) },
        Aggregate { function: Function::Quantile(0.5), column: Some(2) },
    ];
    let mut columns = vec![joined.columns()[4].clone()];
    let names = ["machines", "sum", "least", "greatest", "different", "median"];
    for (aggregate, name) in aggregates.iter().zip(names) {
        let input = aggregate.column.map(|c| &joined.columns()[c].data_type);
        columns.push(Column::new(name, aggregate.function.data_type(input).unwrap()));
    }
    let by_line = Relation::new(columns, vec![0]).unwrap();
    let risk = ViewKind::Filter { of: 2, condition: Arc::new(BelowLimit) };
    let (on, take) = (vec![(0, 0)], vec![2, 3]);
    let join = ViewKind::Join { left: 0, right: 1, on, take, unmatched: true };
    let worst = ViewKind::Top { of: 2, within: vec![4], order: vec![(2, false)], n: 2 };
    vec![
        ViewNode::new("latest", latest_rul, ViewKind::Standing(StreamId::Step(0))),
        ViewNode::new("limits", latest_limit, ViewKind::Standing(StreamId::Step(1))),
        ViewNode::new("joined", joined.clone(), join),
        ViewNode::new("risk", joined.clone(), risk),
        ViewNode::new("by_line", by_line, ViewKind::Group { of: 2, by: vec![4], aggregates }),
        ViewNode::new("worst", joined, worst),
    ]
}

fn graph(first: &[Prediction], second: &[Limit], chunk_rows: usize) -> (Graph, Ran) {
    let machines: StringArray = first.iter().map(|p| Some(name(p.0))).collect();
    let rul: Float64Array = first.iter().map(|p| p.2.map(|v| v as f64 / 4.0)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", Arc::new(machines)),
        ("cycle", Arc::new(Int64Array::from_iter_values(first.iter().map(|p| p.1)))),
        ("rul", Arc::new(rul)),
    ];
    let first = RecordBatch::try_from_iter(columns).unwrap();
    let machines: StringArray = second.iter().map(|p| Some(name(p.0))).collect();
    let limit: Float64Array = second.iter().map(|p| p.2.map(|v| v as f64 / 4.0)).collect();
    let lines: StringArray = second.iter().map(|p| Some(format!("L{}", p.3))).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("machine", Arc::new(machines)),
        ("since", Arc::new(Int64Array::from_iter_values(second.iter().map(|p| p.1)))),
        ("limit", Arc::new(limit)),
        ("line", Arc::new(lines)),
    ];
    let second = RecordBatch::try_from_iter(columns).unwrap();
    let (state_sink, state) = CollectSink::new(1_000_000);
    let (log_sink, log) = CollectSink::new(1_000_000);
    let step = |name: &str, i: usize, schema: &Schema| StepNode {
        name: name.to_owned(),
        kind: "latest",
        inputs: vec![StreamId::Source(i)],
        planned: latest(schema, 1, None),
        rekeyed: false,
    };
    let views = views();
    let tables = views.iter().map(|v| (v.name.clone(), Arc::clone(&v.table))).collect();
    let graph = Graph {
        name: "views".to_owned(),
        sources: vec![
            source("predictions", predictions(), first, chunk_rows),
            source("limits", limits(), second, chunk_rows),
        ],
        steps: vec![step("latest", 0, &predictions()), step("limit", 1, &limits())],
        views,
        sinks: vec![
            SinkNode { name: "state".into(), from: StreamId::View(3), sink: Box::new(state_sink) },
            SinkNode { name: "log".into(), from: StreamId::Log(3), sink: Box::new(log_sink) },
        ],
    };
    (graph, Ran { tables, state, log })
}

/// A row as text, floats by their bits.
fn texts(rows: &RecordBatch) -> Vec<Vec<String>> {
    let cell = |column: &ArrayRef, row: usize| {
        if column.is_null(row) {
            return "-".to_owned();
        }
        match column.data_type() {
            DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Timestamp(..) => "a time".to_owned(),
            DataType::Boolean => column.as_boolean().value(row).to_string(),
            _ => {
                let text = cast(column, &DataType::Utf8).unwrap();
                text.as_string::<i32>().value(row).to_owned()
            }
        }
    };
    (0..rows.num_rows())
        .map(|row| rows.columns().iter().map(|column| cell(column, row)).collect())
        .collect()
}

fn held(ran: &Ran, view: &str) -> Vec<Vec<String>> {
    texts(&ran.tables[view].all().unwrap().rows)
}

type Joined = (String, i64, Option<f64>, Option<f64>, Option<String>);

/// The joined view, written down plainly.
fn joined(first: &[Prediction], second: &[Limit]) -> Vec<Joined> {
    let mut limits: BTreeMap<u8, &Limit> = BTreeMap::new();
    for limit in second {
        let last = limits.entry(limit.0).or_insert(limit);
        if limit.1 >= last.1 {
            *last = limit;
        }
    }
    let mut latest: BTreeMap<u8, &Prediction> = BTreeMap::new();
    for prediction in first {
        let last = latest.entry(prediction.0).or_insert(prediction);
        if prediction.1 >= last.1 {
            *last = prediction;
        }
    }
    let quarter = |v: Option<i64>| v.map(|v| v as f64 / 4.0);
    let rows = latest.into_values().map(|&(machine, cycle, rul)| {
        let limit = limits.get(&machine);
        let line = limit.map(|l| format!("L{}", l.3));
        (name(machine), cycle, quarter(rul), limit.and_then(|l| quarter(l.2)), line)
    });
    let mut rows: Vec<Joined> = rows.collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn show(x: Option<f64>) -> String {
    x.map_or("-".to_owned(), |x| format!("{x:?}"))
}

fn row(j: &Joined) -> Vec<String> {
    let line = j.4.clone().unwrap_or("-".to_owned());
    vec![j.0.clone(), j.1.to_string(), show(j.2), show(j.3), line]
}

fn below(j: &&Joined) -> bool {
    j.2.zip(j.3).is_some_and(|(rul, limit)| rul < limit)
}

fn by_line(all: &[Joined]) -> Vec<Vec<String>> {
    let mut lines: BTreeMap<Option<String>, Vec<&Joined>> = BTreeMap::new();
    all.iter().for_each(|j| lines.entry(j.4.clone()).or_default().push(j));
    let rows = lines.into_iter().map(|(line, members)| {
        let mut values: Vec<f64> = members.iter().filter_map(|j| j.2).collect();
        values.sort_by(f64::total_cmp);
        let known = |x: f64| if values.is_empty() { "-".to_owned() } else { format!("{x:?}") };
        let middle = (values.len().max(1) - 1) as f64 / 2.0;
        let at = |i: f64| values.get(i as usize).copied().unwrap_or(0.0);
        let median = f64::midpoint(at(middle.floor()), at(middle.ceil()));
        let mut different = values.clone();
        different.dedup();
        vec![
            line.unwrap_or("-".to_owned()),
            members.len().to_string(),
            known(values.iter().sum()),
            known(at(0.0)),
            known(values.last().copied().unwrap_or(0.0)),
            different.len().to_string(),
            known(median),
        ]
    });
    rows.collect()
}

fn worst(all: &[Joined]) -> Vec<Vec<String>> {
    let mut lines: BTreeMap<Option<String>, Vec<&Joined>> = BTreeMap::new();
    all.iter().for_each(|j| lines.entry(j.4.clone()).or_default().push(j));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for members in lines.values_mut() {
        let rank = |j: &&Joined| (j.2.is_none(), j.2.map_or(0, |v| (v * 4.0) as i64), j.0.clone());
        members.sort_by_key(rank);
        rows.extend(members.iter().take(2).map(|j| row(j)));
    }
    rows.sort();
    rows
}

/// What stands when a log is read to its end.
fn replayed(log: &Collected) -> Vec<Vec<String>> {
    let mut stands: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for batch in log.batches() {
        for mut row in texts(&batch.rows) {
            let gone = row.pop().unwrap();
            row.pop();
            let before = stands.remove(&row[0]);
            assert!(gone != "true" || before.is_some(), "what was not there has gone: {row:?}");
            if gone != "true" {
                assert_ne!(before.as_ref(), Some(&row), "nothing has changed");
                stands.insert(row[0].clone(), row);
            }
        }
    }
    stands.into_values().collect()
}

fn settled(state: &Collected) -> Vec<Vec<String>> {
    let schema = views()[3].relation.state();
    let batch: Batch = state.settled(&schema).unwrap();
    let mut rows = texts(&batch.rows);
    rows.iter_mut().for_each(|row| drop(row.pop()));
    rows.sort();
    rows
}

fn compare(
    first: &[Prediction],
    second: &[Limit],
    chunk_rows: usize,
    options: &Options,
) -> Result<(), TestCaseError> {
    let (graph, ran) = graph(first, second, chunk_rows);
    run(graph, options).unwrap();
    let all = joined(first, second);
    prop_assert_eq!(held(&ran, "joined"), all.iter().map(row).collect::<Vec<_>>());
    let risk: Vec<_> = all.iter().filter(below).map(row).collect();
    prop_assert_eq!(held(&ran, "risk"), risk.clone());
    prop_assert_eq!(held(&ran, "by_line"), by_line(&all));
    prop_assert_eq!(held(&ran, "worst"), worst(&all));
    prop_assert_eq!(replayed(&ran.log), risk.clone());
    prop_assert_eq!(settled(&ran.state), risk);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn views_hold_what_a_query_over_all_rows_finds(
        first in prop::collection::vec(
            (0_u8..9, 0_i64..40, prop::option::weighted(0.9, -20_i64..80)), 0..120),
        second in prop::collection::vec(
            (0_u8..9, 0_i64..40, prop::option::weighted(0.9, -20_i64..80), 0_u8..3), 0..40),
        chunk_rows in 1_usize..20,
        epoch_rows in 1_usize..60,
        workers in 1_usize..4,
    ) {
        let options = Options { workers, epoch_rows, ..Options::default() };
        compare(&first, &second, chunk_rows, &options)?;
    }
}

#[test]
fn a_view_that_outgrows_its_limit_stops_the_run_by_name() {
    let first: Vec<Prediction> = (0..9).map(|m| (m, 1, Some(1))).collect();
    let (mut graph, _) = graph(&first, &[], 100);
    graph.views[2].max_rows = 8;
    let error = run(graph, &Options::default()).unwrap_err();
    assert!(matches!(&error, RunError::View { view, rows: 9, limit: 8 } if view == "joined"));
    assert!(error.to_string().contains("'max_rows'"), "{error}");
}

#[test]
fn a_table_is_read_a_page_at_a_time_and_by_key() {
    let first: Vec<Prediction> = (0..9).map(|m| (m, 1, Some(i64::from(m)))).collect();
    let (graph, ran) = graph(&first, &[], 100);
    run(graph, &Options::default()).unwrap();
    let table = &ran.tables["latest"];
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let page = table.page(after.as_deref(), 4).unwrap();
        read.extend(texts(&page.rows));
        assert!(page.epoch > 0 && page.rows.num_rows() <= 4);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!((read.clone(), table.len()), (held(&ran, "latest"), 9));
    let key: ArrayRef = Arc::new(StringArray::from(vec!["m3", "nobody", "m5"]));
    let found = texts(&table.get(&[key]).unwrap().rows);
    assert_eq!(found, [read[3].clone(), read[5].clone()]);
}

/// Notes how many records the arrangements of views hold, epoch by epoch.
#[derive(Debug, Default)]
struct Held {
    tables: Vec<(&'static str, Arc<Table>)>,
    held: Mutex<BTreeMap<&'static str, Vec<usize>>>,
}

impl Observer for Held {
    fn epoch(&self, _: u64, _: &Report) {
        let mut held = self.held.lock().unwrap();
        for (name, table) in &self.tables {
            held.entry(name).or_default().push(table.arranged());
        }
    }
}

#[test]
fn what_arrangements_hold_does_not_grow_with_the_number_of_changes() {
    let first: Vec<Prediction> = (0..4_000).map(|i| ((i % 9) as u8, i, Some(i % 70))).collect();
    let second: Vec<Limit> = (0..9).map(|m| (m, 1, Some(30), m % 3)).collect();
    let (graph, ran) = graph(&first, &second, 10);
    let tables = ["risk", "joined", "by_line", "worst"].map(|v| (v, Arc::clone(&ran.tables[v])));
    let held = Arc::new(Held { tables: tables.into(), ..Held::default() });
    let observer = Some(Arc::clone(&held) as Arc<dyn Observer>);
    run(graph, &Options { epoch_rows: 20, observer, ..Options::default() }).unwrap();
    let held = held.held.lock().unwrap();
    assert!(ran.tables["joined"].touched() > 4_000, "{}", ran.tables["joined"].touched());
    assert!(held["risk"].iter().all(|n| *n == 0), "a view that filters keeps nothing");
    for view in ["joined", "by_line", "worst"] {
        let quarters: Vec<usize> = held[view]
            .chunks(held[view].len().div_ceil(4))
            .map(|quarter| quarter.iter().copied().max().unwrap_or(0))
            .collect();
        // With nothing merged the last would have four times as many as the first.
        assert!(quarters[0] >= 9 && quarters[3] <= 2 * quarters[0], "'{view}': {quarters:?}");
        println!("'{view}' holds at most {quarters:?} records");
    }
}
