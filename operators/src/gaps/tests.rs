//! Gaps by example, at random, in recorded data; mistakes.

use arrow::array::AsArray;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::Float64Type;
use foreline_engine::{
    CollectSink, Front, Graph, MemorySource, Options, OrderRules, SinkNode, SourceNode, StepNode,
    StreamId, run,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::recorded::recorded;
use crate::testing::{Cell, Table, check, plan, sameness, try_plan};

fn logical(text: &str) -> Table {
    Table::parse(TimeDomain::Logical, text)
}

#[test]
fn a_gap_is_told_when_it_begins_and_when_it_is_over() {
    let input = logical("m,t,x\na,0,1\na,5,2\na,11,\nb,2,4\na,30,1\n");
    let expected = logical(
        "m,t,gap_start:int64,gap_end:int64,gap_length,over:bool\n\
         a,10,5,,5,false\na,11,5,11,6,true\n\
         a,16,11,,5,false\na,30,11,30,19,true\n\
         a,35,30,,5,false\nb,7,2,,5,false\n",
    );
    check("gaps", &json!({ "longer_than": 5 }), &input, &expected);
    let expected = logical(
        "m,t,gap_start:int64,gap_end:int64,gap_length,over:bool\n\
         a,11,5,11,6,true\na,30,11,30,19,true\n",
    );
    check("gaps", &json!({ "longer_than": 5, "open": false }), &input, &expected);
}

#[test]
fn rows_go_on_with_what_is_before_them() {
    let input = logical("m,t,x\na,0,1\na,0,1\na,5,2\na,11,\nb,2,4\n");
    let expected = logical(
        "m,t,x,after_gap:bool,silence\na,0,1,false,\na,0,1,false,0\na,5,2,false,5\n\
         a,11,,true,6\nb,2,4,false,\n",
    );
    let config = json!({ "longer_than": 5, "mark": "after_gap", "length": "silence" });
    check("gaps", &config, &input, &expected);
    let only_mark = json!({ "longer_than": 5, "mark": "after_gap" });
    assert_eq!(sameness("gaps", &only_mark, &input).schema.columns().len(), 4);
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for seed in 0..3 {
        let input = Table::random(seed, 160, TimeDomain::UtcNanos);
        let outcome = sameness("gaps", &json!({ "longer_than": "2s" }), &input);
        let times = input.times();
        let mut expected = Vec::new();
        for rows in input.by_key().values() {
            for (i, &row) in rows.iter().enumerate() {
                let next = rows.get(i + 1).map(|&next| times[next]);
                if next.is_some_and(|next| next - times[row] <= 2_000_000_000) {
                    continue;
                }
                expected.push((times[row] + 2_000_000_000, Some(2.0)));
                expected.extend(next.map(|n| (n, Some((n - times[row]) as f64 / 1e9))));
            }
        }
        let got = outcome.rows.iter().map(|r| r.time).zip(outcome.numbers("gap_length"));
        let sorted = |mut rows: Vec<(i64, Option<f64>)>| {
            rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
            rows
        };
        assert_eq!(sorted(got.collect()), sorted(expected));
    }
}

/// What the engine says of `input`, all of it in one run.
fn run_over(config: &Value, input: &Table) -> (Schema, foreline_engine::Batch) {
    let planned = plan("gaps", config, &input.schema);
    let output = planned.output.clone();
    let rows = std::slice::from_ref(&input.rows);
    let source = Box::new(MemorySource::new(&input.schema, rows, 1).unwrap());
    let (sink, collected) = CollectSink::new(input.len());
    let (name, schema) = ("rows".to_owned(), input.schema.clone());
    let inputs = vec![StreamId::Source(0)];
    let graph = Graph {
        name: "gaps".to_owned(),
        sources: vec![SourceNode {
            name,
            schema,
            front: Front::Stream(OrderRules::default()),
            source,
        }],
        steps: vec![StepNode {
            name: "gaps".to_owned(),
            kind: "gaps",
            inputs,
            planned,
            rekeyed: false,
        }],
        views: Vec::new(),
        sinks: vec![SinkNode {
            name: "out".to_owned(),
            from: StreamId::Step(0),
            sink: Box::new(sink),
        }],
    };
    run(graph, &Options::default()).unwrap();
    let batch = collected.settled(&output).unwrap();
    (output, batch)
}

#[test]
fn a_recorded_sensor_has_its_known_gaps() {
    let file = "nab/ambient_temperature_system_failure.csv";
    let Some(path) = recorded(file) else { return };
    let mut text = String::from("m,t,x\n");
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let (time, value) = line.split_once(',').unwrap();
        text += &format!("a,{},{value}\n", string_to_timestamp_nanos(time).unwrap());
    }
    let input = Table::parse(TimeDomain::UtcNanos, &text);
    assert_eq!(input.len(), 7_267);
    let config = json!({ "longer_than": "1h", "open": false });
    let (output, gaps) = run_over(&config, &input);
    let length = output.index_of("gap_length").unwrap();
    let hours = gaps.rows.column(length).as_primitive::<Float64Type>();
    let hours: Vec<f64> = hours.values().iter().map(|s| s / 3600.0).collect();
    let longest = hours.iter().copied().fold(0.0, f64::max);
    let shortest = hours.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((hours.len(), shortest, longest), (10, 2.0, 174.0));
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let input = logical(&format!("m,t,x\na,{},1\na,{},2\n", i64::MIN, i64::MAX));
    let outcome = sameness("gaps", &json!({ "longer_than": 3 }), &input);
    assert_eq!(outcome.column("over"), [Cell::Bool(false), Cell::Bool(true)]);
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(TimeDomain::UtcNanos, "m,t,x\n");
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "longer_than": 5 }),
            &["longer_than: '5' has no unit, but the event time is a timestamp"],
        ),
        (
            json!({ "longer_than": "0s", "mark": "x", "open": true }),
            &[
                "longer_than: '0s' is not above zero",
                "open: rows that go on are not told twice",
                "column 'x' is there twice",
            ],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("gaps", config, &input.schema).unwrap_err(), *expected);
    }
    let lengths = sameness("gaps", &json!({ "longer_than": "1s" }), &input).schema;
    assert_eq!(lengths.column("gap_length").unwrap().unit, Some(Unit::new("s")));
}
