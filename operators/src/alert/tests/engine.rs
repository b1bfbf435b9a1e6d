//! Alerts in the engine: ids, late rows, and the clock of epochs.

use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::AsArray;
use foreline_engine::{
    Batch, Clock, CollectSink, Front, Graph, LatePolicy, MemorySource, Options, OrderRules,
    SinkNode, SourceNode, StepNode, StreamId, run,
};

use super::*;
use crate::testing::Given;

const SECOND: i64 = 1_000_000_000;

/// An epoch a row.
fn row_by_row() -> Options {
    Options { epoch_rows: 1, ..Options::default() }
}

#[test]
fn ids_differ_by_rule_and_by_kind_of_time() {
    let config: AlertConfig = parse_config(&json!({ "when": "x > 90" })).unwrap();
    let id = |rule: &str, domain| {
        let input = Table::parse(domain, "m,t,x\na,5,95\n");
        let planned = plan_rule(rule, &config, &input.schema, &Given).unwrap();
        let (_, batch) = run_over(&planned, &input, OrderRules::default(), &Options::default());
        let ids = batch.rows.column_by_name("alert").unwrap().as_string::<i32>();
        ids.value(0).to_owned()
    };
    let ids = [id("hot", Logical), id("hot", UtcNanos), id("warm", Logical), id("hot", Logical)];
    assert_eq!(ids[0], ids[3]);
    assert!(ids[0] != ids[1] && ids[0] != ids[2], "{ids:?}");
}

/// What the engine says of `input`: all that was sent, and what stands at the end.
fn run_over(
    planned: &Planned,
    input: &Table,
    order: OrderRules,
    options: &Options,
) -> (Vec<Batch>, Batch) {
    let output = planned.output.clone();
    let source = MemorySource::new(&input.schema, std::slice::from_ref(&input.rows), 1).unwrap();
    let (sink, collected) = CollectSink::new(1_000);
    let (name, schema) = ("rows".to_owned(), input.schema.clone());
    let graph = Graph {
        name: "alerts".to_owned(),
        sources: vec![SourceNode {
            name,
            schema,
            front: Front::Stream(order),
            source: Box::new(source),
        }],
        steps: vec![StepNode {
            name: "hot".to_owned(),
            kind: "alert",
            inputs: vec![StreamId::Source(0)],
            planned: planned.clone(),
            rekeyed: false,
        }],
        views: Vec::new(),
        sinks: vec![SinkNode {
            name: "out".to_owned(),
            from: StreamId::Step(0),
            sink: Box::new(sink),
        }],
    };
    run(graph, options).unwrap();
    (collected.batches(), collected.settled(&output).unwrap())
}

#[test]
fn a_late_row_takes_back_an_alert_that_should_not_have_been() {
    // At 3 it was not hot: it is hot for 5 only from 7 on.
    let input = logical("m,t,x\na,0,95\na,7,95\na,3,20\na,9,95\n");
    let planned = plan("alert", &json!({ "when": "x > 90", "for": 5 }), &input.schema);
    let order = OrderRules { late: LatePolicy::Correct(100), ..OrderRules::default() };
    let output = planned.output.clone();
    let (sent, stands) = run_over(&planned, &input, order, &row_by_row());
    let deleted =
        |batch: &Batch, row| batch.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
    let all = sent.iter().flat_map(|batch| {
        let times = batch.times(&output).to_vec();
        (0..batch.len()).map(move |row| (times[row], deleted(batch, row)))
    });
    assert_eq!(all.collect::<Vec<_>>(), [(5, false), (5, true), (12, false)]);
    assert_eq!(stands.times(&output), [12]);
}

#[test]
fn the_example_of_the_manual_has_its_id() {
    let minute = 60 * SECOND;
    let begin = nanos("2026-01-05 10:00:00");
    let at = |i: i64| begin + i * minute;
    let rows = (0..8).map(|i| format!("p1,{},{}\n", at(i), if i < 7 { 95 } else { 70 }));
    let input =
        Table::parse(UtcNanos, &format!("machine,ts,temperature\n{}", rows.collect::<String>()));
    let config = json!({ "when": "temperature > 90", "for": "3m" });
    let config: AlertConfig = parse_config(&config).unwrap();
    let planned = plan_rule("hot", &config, &input.schema, &Given).unwrap();
    let output = planned.output.clone();
    let (_, stands) = run_over(&planned, &input, OrderRules::default(), &row_by_row());
    assert_eq!(stands.times(&output), [at(3), at(7)]);
    let ids = stands.rows.column_by_name("alert").unwrap().as_string::<i32>();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["bb07db4b313416ad"; 2]);
}

/// A second later each time it is asked.
#[derive(Debug, Default)]
struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(SECOND, Ordering::Relaxed)
    }
}

#[test]
fn silence_is_noticed_by_the_clock_while_others_go_on() {
    let others = (1..60).map(|i| format!("b,{},1\n", i * SECOND)).collect::<String>();
    let input = Table::parse(UtcNanos, &format!("m,t,x\na,0,1\n{others}"));
    let planned = plan("alert", &json!({ "deadman": "10s" }), &input.schema);
    let output = planned.output.clone();
    let order = OrderRules { idle_timeout_ns: Some(5 * SECOND), ..OrderRules::default() };
    let options = Options { clock: Arc::new(Ticks::default()), ..row_by_row() };
    let (sent, stands) = run_over(&planned, &input, order, &options);
    // That of `b` is told when the stream has ended.
    let times: Vec<_> = sent.iter().map(|batch| batch.times(&output).to_vec()).collect();
    assert_eq!(times, [[10 * SECOND], [69 * SECOND]]);
    assert_eq!(stands.len(), 2);
}
