//! Runs a step of several inputs by the engine, with a source for each, and demands what the harness says.

use foreline_engine::{
    CollectSink, Front, Graph, MemorySource, Options, OrderRules, Planned, SinkNode, SourceNode,
    StepNode, StreamId, run,
};

use super::table::cells;
use super::{Cell, Outcome, Table};

/// Rows of an epoch, and workers.
const WAYS: [(usize, usize); 3] = [(1_000, 1), (7, 2), (1, 3)];

/// Most rows that a sink of a test takes.
const MAX_ROWS: usize = 1_000_000;

/// Runs `planned` by the engine in some ways.
///
/// # Panics
/// When other rows come out than in `outcome`.
pub(super) fn the_engine_agrees(planned: &Planned, inputs: &[&Table], outcome: &Outcome) {
    let mut want: Vec<&Vec<Cell>> = outcome.rows.iter().map(|r| &r.cells).collect();
    want.sort();
    for (epoch_rows, workers) in WAYS {
        let options = Options { epoch_rows, workers, ..Options::default() };
        let got = collected(planned, inputs, &options);
        let mut got: Vec<&Vec<Cell>> = got.iter().collect();
        got.sort();
        assert_eq!(got, want, "run by the engine, {epoch_rows} rows an epoch, {workers} workers");
    }
}

fn collected(planned: &Planned, inputs: &[&Table], options: &Options) -> Vec<Vec<Cell>> {
    let sources = inputs.iter().zip(0..).map(|(table, number): (&&Table, usize)| {
        let source = MemorySource::new(&table.schema, std::slice::from_ref(&table.rows), 1);
        SourceNode {
            name: format!("rows{number}"),
            schema: table.schema.clone(),
            front: Front::Stream(OrderRules::default()),
            source: Box::new(source.expect("the rows have the table's schema")),
        }
    });
    let (sink, collected) = CollectSink::new(MAX_ROWS);
    let step = StepNode {
        name: "step".to_owned(),
        kind: "tested",
        inputs: (0..inputs.len()).map(StreamId::Source).collect(),
        planned: planned.clone(),
        rekeyed: false,
    };
    let sinks =
        vec![SinkNode { name: "out".to_owned(), from: StreamId::Step(0), sink: Box::new(sink) }];
    let name = "joined".to_owned();
    let graph =
        Graph { name, sources: sources.collect(), steps: vec![step], views: Vec::new(), sinks };
    run(graph, options).expect("the step goes on");
    let batch = collected.settled(&planned.output).expect("the rows have the planned schema");
    cells(&batch.rows)
}
