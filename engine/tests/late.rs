//! Late rows correct what was said: the rows that stand at the end are those of a run in which nothing was late.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use foreline_engine::{
    Batch, CollectSink, Collected, Front, Graph, LatePolicy, LateSupport, MemorySource, Options,
    OrderRules, Planned, Relation, Report, RunError, Schema, SinkNode, SourceNode, StepNode,
    StreamId, ViewKind, ViewNode, dead_letter_schema, late_schema, latest, run,
};
use proptest::prelude::*;

#[path = "late/driven.rs"]
mod driven;
#[path = "late/toys.rs"]
mod toys;

use toys::{Toy, bits, even, schema};

/// A row: machine, event time, value.
type Row = (u8, i64, f64);

fn table(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0.to_string())))),
        ("t", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)))),
        ("v", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows that are at most `within` behind, in the order in which they arrive.
fn rows(n_keys: u8, within: i64, n_rows: usize) -> impl Strategy<Value = Vec<Row>> {
    let one = (0..n_keys, 0..4_i64, prop_oneof![Just(0), 0..=within], -50.0..50.0_f64);
    proptest::collection::vec(one, 0..n_rows).prop_map(|steps| {
        let mut clock = 0;
        let row = |(key, step, back, v): (u8, i64, i64, f64)| {
            clock += step;
            (key, clock - back, v)
        };
        steps.into_iter().map(row).collect()
    })
}

/// A chain of steps below one source, with a sink for each stream, then one for dead letters and one for late rows.
fn chain(
    rows: &[Row],
    order: OrderRules,
    chunk: usize,
    steps: Vec<Planned>,
) -> (Graph, Vec<Collected>) {
    let source = MemorySource::new(&schema(), &[table(rows)], chunk).unwrap();
    let n_steps = steps.len();
    let from = |i: usize| i.checked_sub(1).map_or(StreamId::Source(0), StreamId::Step);
    let steps = steps.into_iter().enumerate().map(|(i, planned)| StepNode {
        name: format!("step{i}"),
        kind: "toy",
        inputs: vec![from(i)],
        planned,
        rekeyed: false,
    });
    let streams = (0..=n_steps).map(from).chain([StreamId::DeadLetters, StreamId::Late]);
    let (sinks, collected) = streams
        .map(|from| {
            let (sink, collected) = CollectSink::new(10_000_000);
            (SinkNode { name: "out".to_owned(), from, sink: Box::new(sink) }, collected)
        })
        .unzip();
    let sources = vec![SourceNode {
        name: "readings".to_owned(),
        schema: schema(),
        front: Front::Stream(order),
        source: Box::new(source),
    }];
    (
        Graph {
            name: "late".to_owned(),
            sources,
            steps: steps.collect(),
            views: Vec::new(),
            sinks,
        },
        collected,
    )
}

fn correct(within: i64) -> OrderRules {
    OrderRules { late: LatePolicy::Correct(within), ..OrderRules::default() }
}

fn ordered() -> OrderRules {
    OrderRules { lateness: 1_000_000, ..OrderRules::default() }
}

/// The rows that stand at the end of each stream of a chain.
type Settled = Vec<Vec<(u64, i64, u64, u64)>>;

fn carry_out(
    rows: &[Row],
    order: OrderRules,
    steps: Vec<Planned>,
    (workers, epoch_rows, chunk): (usize, usize, usize),
) -> (Settled, Report) {
    let schemas: Vec<_> =
        std::iter::once(schema()).chain(steps.iter().map(|s| s.output.clone())).collect();
    let (graph, collected) = chain(rows, order, chunk, steps);
    let report = run(graph, &Options { workers, epoch_rows, ..Options::default() }).unwrap();
    let settled = collected.iter().zip(&schemas);
    let settled = settled.map(|(c, schema)| bits(&c.settled(schema).unwrap(), schema)).collect();
    (settled, report)
}

fn sum_then_windows() -> Vec<Planned> {
    vec![
        Toy::Sum.planned(),
        even(schema()),
        Toy::Window(10).planned(),
        even(toys::window_schema()),
        Toy::Thirds.planned(),
    ]
}

fn sessions_then_sum() -> Vec<Planned> {
    vec![
        even(schema()),
        Toy::Session(3).planned(),
        even(toys::window_schema()),
        Toy::Sum.planned(),
        Toy::Window(4).planned(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_stands_at_the_end_is_what_an_ordered_run_says(
        rows in rows(4, 25, 150),
        way in (1_usize..4, 1_usize..60, 1_usize..20),
        sessions in any::<bool>(),
    ) {
        let steps = || if sessions { sessions_then_sum() } else { sum_then_windows() };
        let (want, _) = carry_out(&rows, ordered(), steps(), (1, 1_000, 1_000));
        let (got, report) = carry_out(&rows, correct(25), steps(), way);
        prop_assert_eq!(got, want);
        prop_assert_eq!(report.accounts["readings"].late, 0);
    }
}

#[test]
fn many_rows_are_folded_into_the_base_without_a_trace() {
    let mut seed = 3_u64;
    let mut next = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let rows: Vec<Row> = (0..16_000_i64)
        .map(|i| {
            let back = if next(20) == 0 { next(200) } else { 0 };
            (next(5) as u8, i / 2 - back as i64, next(1_000) as f64 / 8.0)
        })
        .collect();
    let (want, _) = carry_out(&rows, ordered(), sum_then_windows(), (1, 20_000, 20_000));
    for way in [(1, 1_000, 500), (3, 333, 50)] {
        let (got, _) = carry_out(&rows, correct(200), sum_then_windows(), way);
        assert!(got == want, "{way:?}");
    }
}

#[test]
fn a_row_behind_the_horizon_is_a_dead_letter() {
    let rows = [(0, 100, 1.0), (0, 95, 2.0), (0, 80, 3.0), (0, 90, 4.0)];
    let (graph, collected) = chain(&rows, correct(10), 1, vec![Toy::Sum.planned()]);
    let report = run(graph, &Options { epoch_rows: 1, ..Options::default() }).unwrap();
    assert_eq!((report.accounts["readings"].late, report.accounts["readings"].used), (1, 3));
    assert_eq!(report.dead["readings"]["late"], 1);
    assert_eq!(report.accounts["step0"].used, 3);
    let sums = bits(&collected[1].settled(&schema()).unwrap(), &schema());
    let sums: Vec<(i64, f64)> = sums.iter().map(|r| (r.1, f64::from_bits(r.3))).collect();
    assert_eq!(sums, [(90, 4.0), (95, 6.0), (100, 7.0)]);
}

#[test]
fn every_lane_reaches_the_sinks() {
    let rows = [(0, 1, 1.0), (0, 11, 2.0), (0, 21, 4.0), (0, 12, 1.0), (0, 2, 1.0)];
    let steps = vec![Toy::Window(10).planned(), even(toys::window_schema())];
    let (graph, collected) = chain(&rows, correct(30), 1, steps.clone());
    let options = Options { epoch_rows: 1, ..Options::default() };
    run(graph, &options).unwrap();
    // Without a sink of its own the window has one reader, and the filter is fused with it.
    let (mut graph, fused) = chain(&rows, correct(30), 1, steps);
    graph.sinks.remove(1);
    run(graph, &options).unwrap();
    let said = |c: &Collected| {
        let mut said = Vec::new();
        for batch in c.batches() {
            for (row, (_, time, _, v)) in
                bits(&batch, &toys::window_schema()).into_iter().enumerate()
            {
                let revision = batch.revision.as_ref().map_or(0, |r| r.value(row));
                let deleted = batch.deleted.as_ref().is_some_and(|d| d.value(row));
                said.push((time, f64::from_bits(v), revision, deleted));
            }
        }
        said
    };
    assert_eq!(collected[0].batches().iter().map(foreline_engine::Batch::len).sum::<usize>(), 5);
    assert_eq!(
        said(&collected[1]),
        [
            (10, 1.0, 0, false),
            (20, 2.0, 0, false),
            (20, 3.0, 1, false),
            (10, 2.0, 1, false),
            (30, 4.0, 0, false)
        ]
    );
    // The filter takes back what does not pass any more, and lets through what passes only after the correction.
    assert_eq!(
        said(&collected[2]),
        [(20, 2.0, 0, false), (20, 3.0, 1, true), (10, 2.0, 1, false), (30, 4.0, 0, false)]
    );
    assert_eq!(said(&fused[2]), said(&collected[2]));
}

#[test]
fn a_step_that_cannot_be_corrected_is_not_run_below_late_rows() {
    let refusing =
        Planned { late: LateSupport::Refuses("it has its reasons"), ..Toy::Sum.planned() };
    let steps = vec![even(schema()), refusing];
    let (graph, _) = chain(&[], correct(10), 1, steps.clone());
    let error = run(graph, &Options::default()).unwrap_err();
    assert!(matches!(error, RunError::Engine(_)));
    assert_eq!(error.to_string(), "late rows cannot correct 'step1' (toy): it has its reasons");
    let (graph, _) = chain(&[], ordered(), 1, steps);
    run(graph, &Options::default()).unwrap();
}

#[test]
fn a_row_that_a_correction_makes_unusable_is_reported_once() {
    // With the limit 10: 6, then 3, then 4 is too much. A late 2 lets the 3 pass no more, but the 4 still does not.
    let rows = [(0, 10, 6.0), (0, 20, 3.0), (0, 30, 4.0), (0, 15, 2.0), (0, 16, 9.0), (0, 5, 0.0)];
    let steps = vec![Toy::Limit(10.0).planned()];
    let (graph, collected) = chain(&rows, correct(100), 1, steps);
    let report = run(graph, &Options { epoch_rows: 1, ..Options::default() }).unwrap();
    let letters = collected[2].sorted(&dead_letter_schema()).unwrap();
    let mut times: Vec<i64> = letters.times(&dead_letter_schema()).to_vec();
    times.sort_unstable();
    assert_eq!(times, [16, 20, 30]);
    // The row at 20 was used when it came in, so that is how it stays accounted for.
    let account = report.accounts["step0"];
    assert_eq!((account.input, account.used, account.dead), (6, 4, 2));
}

#[test]
fn every_late_row_is_told_with_what_became_of_it() {
    // Of machine 0 the watermark is 30, then 40: 25 is 5 behind, 19 is 11 behind, 38 is 2 behind.
    let rows = [(0, 30, 1.0), (0, 25, 2.0), (1, 5, 3.0), (0, 19, 4.0), (0, 40, 5.0), (0, 38, 6.0)];
    for workers in [1, 3] {
        let (graph, collected) = chain(&rows, correct(10), 1, vec![Toy::Sum.planned()]);
        let options = Options { workers, epoch_rows: 2, ..Options::default() };
        let report = run(graph, &options).unwrap();
        let account = report.accounts["readings"];
        assert_eq!((account.late, account.corrected, account.used), (1, 2, 5));
        let late = collected[3].sorted(&late_schema()).unwrap();
        let numbers = |name: &str| -> Vec<i64> {
            let column = late.rows.column_by_name(name).unwrap();
            column.as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(numbers("event_time"), [19, 25, 38]);
        assert_eq!(numbers("watermark"), [30, 30, 40]);
        assert_eq!(numbers("behind"), [11, 5, 2]);
        let texts = |name: &str| -> Vec<String> {
            let column = late.rows.column_by_name(name).unwrap().as_string::<i32>();
            column.iter().map(|t| t.unwrap_or("").to_owned()).collect()
        };
        assert_eq!(texts("outcome"), ["dead_letter", "corrected", "corrected"]);
        assert_eq!(
            (texts("key"), texts("file")),
            (vec!["0".to_owned(); 3], vec!["memory".to_owned(); 3])
        );
        let line = late.rows.column_by_name("line").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(line.values(), &[4, 2, 6]);
        let epoch = late.rows.column_by_name("epoch").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(epoch.values(), &[2, 1, 3]);
        assert_eq!(collected[2].sorted(&dead_letter_schema()).unwrap().len(), 1);
    }
}

#[test]
fn a_step_of_several_inputs_is_not_run_below_late_rows() {
    let steps = || vec![Toy::Sum.planned(), Toy::Sum.planned()];
    let (mut graph, _) = chain(&[], correct(10), 1, steps());
    graph.steps[1].inputs.push(StreamId::Source(0));
    let error = run(graph, &Options::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("late rows cannot correct 'step1' (toy): it reads several"),
        "{error}"
    );
}

/// Machine, event time and value.
type Standing = (String, i64, f64);

fn standing(rows: &RecordBatch) -> Vec<Standing> {
    let machines = cast(rows.column(0), &DataType::Utf8).unwrap();
    let machines = machines.as_string::<i32>();
    let times = rows.column(1).as_primitive::<Int64Type>();
    let values = rows.column(2).as_primitive::<Float64Type>();
    let row = |r| (machines.value(r).to_owned(), times.value(r), values.value(r));
    let mut all: Vec<Standing> = (0..rows.num_rows()).map(row).collect();
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)).then_with(|| a.2.total_cmp(&b.2)));
    all
}

/// The latest rows of each key of what stands at the end, by a plain walk.
fn last(settled: &Batch, schema: &Schema, n: usize, within: Option<i64>) -> Vec<Standing> {
    let times = settled.times(schema);
    let mut picked = Vec::new();
    for group in settled.groups() {
        // In order of time and position: of equal times the last one counts.
        let mut of_key: Vec<usize> = Vec::new();
        for row in group.start..group.end {
            of_key.retain(|&other| times[other] != times[row]);
            of_key.push(row);
        }
        let newest = times[group.end - 1];
        of_key.retain(|&row| within.is_none_or(|within| times[row] >= newest - within));
        picked.extend(of_key.into_iter().rev().take(n).map(|row| u32::try_from(row).unwrap()));
    }
    standing(&settled.take(&picked.into()).unwrap().rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_view_of_the_latest_rows_follows_every_correction(
        rows in rows(4, 20, 150),
        toy in prop_oneof![
            Just(Toy::Sum), Just(Toy::Thirds), Just(Toy::Window(10)), Just(Toy::Session(3))],
        n in 1_usize..4,
        within in proptest::option::of(0..12_i64),
        cut in (1_usize..4, 1_usize..40, 1_usize..20),
    ) {
        let (workers, epoch_rows, chunk) = cut;
        let step = toy.planned();
        let schema = step.output.clone();
        let (mut graph, collected) = chain(&rows, correct(25), chunk, vec![step]);
        graph.steps.push(StepNode {
            name: "latest".to_owned(),
            kind: "latest",
            inputs: vec![StreamId::Step(0)],
            planned: latest(&schema, n, within), rekeyed: false });
        let relation = Relation::of_latest(&schema, n).unwrap();
        let view = ViewNode::new("latest", relation, ViewKind::Standing(StreamId::Step(1)));
        let table = Arc::clone(&view.table);
        graph.views.push(view);
        run(graph, &Options { workers, epoch_rows, ..Options::default() }).unwrap();
        let settled = collected[1].settled(&schema).unwrap();
        prop_assert_eq!(standing(&table.all().unwrap().rows), last(&settled, &schema, n, within));
    }
}
