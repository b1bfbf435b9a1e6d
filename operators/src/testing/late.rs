//! Runs steps by the engine with late rows that correct, and demands what a run in order says.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use foreline_engine::{
    Bounds, Build, CollectSink, Correcting, Front, Graph, LatePolicy, LateSupport, MemorySource,
    Options, OrderRules, Planned, SinkNode, SourceNode, StepNode, StreamId, hash_keys, run,
};

use super::table::cells;
use super::{Dice, Row, Table};

/// How the rows of a case are disturbed and run.
struct Disorder {
    /// How far rows are shuffled.
    reach: u64,
    epoch_rows: usize,
    workers: usize,
    /// How soon what is final is folded away; `None`: as the engine does, which is after more rows than a case has.
    slack_rows: Option<usize>,
}

const WAYS: [Disorder; 3] = [
    Disorder { reach: 3, epoch_rows: 4, workers: 1, slack_rows: Some(0) },
    Disorder { reach: 12, epoch_rows: 1, workers: 2, slack_rows: None },
    Disorder { reach: 60, epoch_rows: 17, workers: 3, slack_rows: Some(16) },
];

/// Most rows that a sink of a test takes.
const MAX_ROWS: usize = 1_000_000;

/// Shuffles the rows of `input`, runs `steps` one behind the other with a bound that lets every late row correct, and
/// demands that in every stream the rows stand at the end that a run says which waits until it has all rows.
///
/// # Panics
/// When they differ.
pub fn late_rows_correct(steps: &[Planned], input: &Table) {
    for (seed, Disorder { reach, epoch_rows, workers, slack_rows }) in (0..).zip(WAYS) {
        let (rows, within) = shuffled(input, reach, seed);
        let options = Options { epoch_rows, workers, ..Options::default() };
        let corrected = slack_rows.map(|slack_rows| folded_soon(steps, input, slack_rows));
        let corrected = corrected.as_deref().unwrap_or(steps);
        let correct = OrderRules { late: LatePolicy::Correct(within), ..OrderRules::default() };
        let wait = OrderRules { lateness: i64::MAX, ..OrderRules::default() };
        let got = settled(corrected, input, &rows, correct, &options);
        let want = settled(steps, input, &rows, wait, &Options::default());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got, want, "step {i}, rows out of order by {within}, {options:?}");
        }
    }
}

/// The steps, those with state inside of what corrects them. To the engine they are stateless then: it gives them all
/// rows and leaves them as they are.
fn folded_soon(steps: &[Planned], input: &Table, slack_rows: usize) -> Vec<Planned> {
    let bounds = Bounds { slack_rows, ..Bounds::default() };
    let mut from = input.schema.clone();
    let wrapped = steps.iter().map(|step| {
        let (inner, input) = (step.clone(), std::mem::replace(&mut from, step.output.clone()));
        if inner.late != LateSupport::Corrects {
            return inner;
        }
        let build: Build = Arc::new(move |context| {
            Ok(Box::new(Correcting::new(&inner, &input, context, bounds)?))
        });
        Planned { late: LateSupport::Stateless, build, ..step.clone() }
    });
    wrapped.collect()
}

/// The rows in an order in which some are late, and by how much at most.
fn shuffled(input: &Table, reach: u64, seed: u64) -> (RecordBatch, i64) {
    let mut dice = Dice::new(seed);
    let mut order: Vec<(u64, u32)> =
        (0..input.len() as u64).zip(0..).map(|(at, row)| (at + dice.below(reach), row)).collect();
    order.sort_unstable();
    let hashes: UInt64Array = hash_keys(&input.rows, input.schema.key());
    let times = input.times();
    let (mut within, mut max) = (0, BTreeMap::new());
    for &(_, row) in &order {
        let time = times[row as usize];
        let max = max.entry(hashes.value(row as usize)).or_insert(time);
        within = within.max(max.saturating_sub(time));
        *max = time.max(*max);
    }
    let order: UInt32Array = order.into_iter().map(|(_, row)| Some(row)).collect();
    let rows = take_record_batch(&input.rows, &order).expect("the rows are in the table");
    (rows, within)
}

/// What stands at the end in the stream of each step.
fn settled(
    steps: &[Planned],
    input: &Table,
    rows: &RecordBatch,
    order: OrderRules,
    options: &Options,
) -> Vec<Vec<Row>> {
    let source = MemorySource::new(&input.schema, std::slice::from_ref(rows), 1);
    let sources = vec![SourceNode {
        name: "rows".to_owned(),
        schema: input.schema.clone(),
        front: Front::Stream(order),
        source: Box::new(source.expect("the rows have the table's schema")),
    }];
    let (mut nodes, mut sinks, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut from = StreamId::Source(0);
    for (i, planned) in steps.iter().enumerate() {
        let name = format!("step{i}");
        nodes.push(StepNode {
            name,
            kind: "tested",
            inputs: vec![from],
            planned: planned.clone(),
            rekeyed: false,
        });
        from = StreamId::Step(i);
        let (sink, collected) = CollectSink::new(MAX_ROWS);
        sinks.push(SinkNode { name: "out".to_owned(), from, sink: Box::new(sink) });
        all.push((collected, &planned.output));
    }
    let graph = Graph { name: "late".to_owned(), sources, steps: nodes, views: Vec::new(), sinks };
    run(graph, options).expect("the steps go on");
    let stands = all.into_iter().map(|(collected, schema)| {
        let batch = collected.settled(schema).expect("the rows have the planned schema");
        let times = batch.times(schema).to_vec();
        let rows = cells(&batch.rows).into_iter().enumerate().map(|(row, cells)| Row {
            hash: batch.key_hash.value(row),
            time: times[row],
            position: batch.position.value(row),
            cells,
        });
        rows.collect()
    });
    stands.collect()
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::json;

    use super::*;
    use crate::testing::plan;

    #[test]
    fn late_rows_correct_steps_behind_one_another() {
        let input = Table::random(11, 250, TimeDomain::UtcNanos);
        let mut schema = input.schema.clone();
        let steps = [
            ("ema", json!({ "columns": ["x"], "half_life": "700ms" })),
            ("filter", json!("x > 20")),
            ("moving_average", json!({ "columns": ["y"], "rows": 3 })),
            (
                "window",
                json!({ "sliding": { "length": "5s", "every": "1s" },
                        "features": { "x": ["mean", "slope"], "y": ["count"] } }),
            ),
            ("filter", json!("x_mean > 20.2")),
            (
                "window",
                json!({ "rolling": { "rows": 4, "every": 2 }, "features": { "x_mean": ["rms"] } }),
            ),
            ("window", json!({ "tumbling": "3s", "features": { "x_mean_rms": ["max"] } })),
        ];
        let planned: Vec<Planned> = steps
            .iter()
            .map(|(kind, config)| {
                let planned = plan(kind, config, &schema);
                schema = planned.output.clone();
                planned
            })
            .collect();
        late_rows_correct(&planned, &input);
    }
}
