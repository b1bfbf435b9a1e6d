//! A step that fails stops its pipeline, with its name; it never yields wrong rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Batch, CollectSink, Collected, Column, Committed, DeadLetter, Epoch, Fault, Front,
    Graph, Input, LateSupport, MemorySource, Observer, Operator, Options, OrderRules, Out, Planned,
    Reason, Report, RunError, RunId, Schema, Sink, SinkError, SinkNode, SourceNode, StepNode,
    StreamId, run,
};

#[path = "faults/backlog.rs"]
mod backlog;
#[path = "faults/sinks.rs"]
mod sinks;

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

fn rows(n: i64) -> RecordBatch {
    let machines: StringArray = (0..n).map(|r| Some(format!("m{}", r % 3))).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", Arc::new(machines)),
        ("cycle", Arc::new(Int64Array::from_iter_values(0..n))),
        ("v", Arc::new(Float64Array::from_iter_values((0..n).map(|v| v as f64)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

type Behaviour = fn(&Epoch, &Input<'_>, &mut dyn Out) -> Result<(), Fault>;

struct Does(Behaviour);

impl Operator for Does {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        (self.0)(epoch, &inputs[0], out)
    }
}

fn step(name: &str, from: StreamId, behaviour: Behaviour) -> StepNode {
    StepNode {
        name: name.to_owned(),
        kind: "custom",
        inputs: vec![from],
        planned: Planned {
            output: schema(),
            late: LateSupport::Stateless,
            state_version: 1,
            build: Arc::new(move |_| Ok(Box::new(Does(behaviour)))),
            notes: Vec::new(),
            depends_on: Vec::new(),
        },
        rekeyed: false,
    }
}

fn pass(_: &Epoch, input: &Input<'_>, out: &mut dyn Out) -> Result<(), Fault> {
    out.count(Account { used: input.rows.len() as u64, ..Account::default() });
    out.emit(input.rows.clone());
    Ok(())
}

fn graph(steps: Vec<StepNode>, sink: Box<dyn Sink>) -> Graph {
    let schema = schema();
    let source = MemorySource::new(&schema, &[rows(100)], 10).unwrap();
    let from = steps.len().checked_sub(1).map_or(StreamId::Source(0), StreamId::Step);
    Graph {
        name: "faults".to_owned(),
        sources: vec![SourceNode {
            name: "readings".to_owned(),
            schema,
            front: Front::Stream(OrderRules::default()),
            source: Box::new(source),
        }],
        steps,
        views: Vec::new(),
        sinks: vec![SinkNode { name: "out".to_owned(), from, sink }],
    }
}

fn outcome(steps: Vec<StepNode>) -> (Result<Report, RunError>, Collected) {
    let (sink, collected) = CollectSink::new(10_000);
    let options = Options { workers: 2, epoch_rows: 10, ..Options::default() };
    (run(graph(steps, Box::new(sink)), &options), collected)
}

fn message(result: Result<Report, RunError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_panic_names_the_step() {
    let boom: Behaviour = |epoch, input, out| {
        assert!(epoch.id < 4, "the fourth epoch is one too many");
        pass(epoch, input, out)
    };
    let (result, collected) = outcome(vec![
        step("calm", StreamId::Source(0), pass),
        step("boom", StreamId::Step(0), boom),
    ]);
    let message = message(result);
    assert!(message.contains("'boom'") && message.contains("one too many"), "{message}");
    let n_rows: usize = collected.batches().iter().map(Batch::len).sum();
    assert!(n_rows <= 30, "{n_rows} rows of epochs from the fourth on were let through");
}

#[test]
fn a_fault_names_the_step_and_says_why() {
    let (result, _) = outcome(vec![step("picky", StreamId::Source(0), |_, _, _| {
        Err(Fault::new("the weights are gone"))
    })]);
    assert_eq!(message(result), "step 'picky' (custom): the weights are gone");
}

#[test]
fn a_step_that_loses_a_row_is_found_out() {
    let (result, _) = outcome(vec![step("leaky", StreamId::Source(0), |_, input, out| {
        let used = (input.rows.len() as u64).saturating_sub(1);
        out.count(Account { used, ..Account::default() });
        Ok(())
    })]);
    let message = message(result);
    assert!(message.contains("'leaky'") && message.contains("account for every row"), "{message}");
}

#[test]
fn dead_letters_say_who_and_where() {
    let (sink, collected) = CollectSink::new(1_000);
    let picky: Behaviour = |_, input, out| {
        for row in 0..input.rows.len() {
            let position = Some(input.rows.position.value(row));
            out.dead(DeadLetter { position, ..DeadLetter::new(Reason("too_odd"), "it is odd") });
        }
        Ok(())
    };
    let mut graph = graph(vec![step("picky", StreamId::Source(0), picky)], Box::new(sink));
    graph.sinks[0].from = StreamId::DeadLetters;
    let report = run(graph, &Options { epoch_rows: 10, ..Options::default() }).unwrap();
    assert_eq!(report.dead["picky"]["too_odd"], 100);
    assert_eq!(report.accounts["picky"].dead, 100);
    let all = collected.sorted(&foreline_engine::dead_letter_schema()).unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&[all.rows.slice(0, 1)]).unwrap();
    let text = text.to_string();
    assert!(
        text.contains("picky") && text.contains("too_odd") && text.contains("memory"),
        "{text}"
    );
}

struct Failing;

impl Sink for Failing {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }
    fn write(&mut self, epoch: u64, _: &[Batch]) -> Result<(), SinkError> {
        if epoch < 3 { Ok(()) } else { Err(SinkError::Fatal("the disk is full".to_owned())) }
    }
    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        Ok(Committed::Yes(upto))
    }
    fn full(&self) -> bool {
        false
    }
}

#[test]
fn a_sink_that_fails_stops_the_run() {
    let result = run(
        graph(Vec::new(), Box::new(Failing)),
        &Options { epoch_rows: 10, ..Options::default() },
    );
    assert_eq!(message(result), "sink 'out/readings': the disk is full");
}

#[derive(Debug)]
struct StopAfter(u64, Arc<AtomicBool>);

impl Observer for StopAfter {
    fn epoch(&self, epoch: u64, _: &Report) {
        if epoch >= self.0 {
            self.1.store(true, Ordering::Release);
        }
    }
}

#[test]
fn a_stopped_run_ends_at_an_epoch_boundary() {
    let (sink, collected) = CollectSink::new(10_000);
    let stop = Arc::new(AtomicBool::new(false));
    let options = Options {
        epoch_rows: 10,
        epochs_in_flight: 1,
        observer: Some(Arc::new(StopAfter(2, Arc::clone(&stop)))),
        stop,
        ..Options::default()
    };
    let report =
        run(graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(sink)), &options)
            .unwrap();
    assert!(report.stopped);
    assert!((2..10).contains(&report.epochs), "{} epochs", report.epochs);
    let n_rows: usize = collected.batches().iter().map(Batch::len).sum();
    assert_eq!(n_rows as u64, report.epochs * 10);
    assert!(report.accounts.values().all(Account::balances));
}

#[test]
fn a_worker_count_out_of_range_is_refused() {
    let (sink, _) = CollectSink::new(1);
    let options = Options { workers: 257, ..Options::default() };
    let result = run(graph(Vec::new(), Box::new(sink)), &options);
    assert_eq!(message(result), "the number of workers is 1 to 256, not 257");
}
