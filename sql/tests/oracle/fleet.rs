//! A fleet of 10,000 machines: a limit that is lowered raises what it concerns, and nothing else, in the epoch that brings it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, Chunk, Column, Committed, Decoder, Front, Graph, KnownPartition, MemorySource, Observer,
    Options, OrderRules, Partition, Poll, Position, Range, Relation, Replay, Report, RunId, Schema,
    Sink, SinkError, SinkNode, Source, SourceError, SourceNode, StepNode, StreamId, Table,
    ViewKind, ViewNode, latest, run,
};
use foreline_operators::alert::{AlertConfig, plan_rule};

use crate::world::Sql;

const MACHINES: usize = 10_000;
/// Each has one machine in a hundred.
const LINES: usize = 100;
/// The line whose limit is lowered, and to what.
const LOWERED: (usize, f64) = (42, 65.0);

/// Rows of which all but the first chunk come only when `open` says so.
struct Gated {
    rows: MemorySource,
    has_begun: bool,
    open: Arc<AtomicBool>,
}

impl Source for Gated {
    fn replay(&self) -> Replay {
        self.rows.replay()
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        let may = !self.has_begun || self.open.load(Ordering::Acquire);
        self.has_begun = true;
        if may { self.rows.poll(budget_bytes) } else { Ok(Poll::Pending) }
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        self.rows.read(partition, range)
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        self.rows.durable(partition, upto);
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        self.rows.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.rows.partition_name(partition)
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.rows.identity(partition)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.rows.resume(known)
    }
}

/// Opens the gate once all machines are judged by the limits that are there.
#[derive(Debug)]
struct Gatekeeper {
    judged: Arc<Table>,
    gate: Arc<AtomicBool>,
}

impl Observer for Gatekeeper {
    fn epoch(&self, _: u64, report: &Report) {
        if self.judged.len() == MACHINES && report.accounts["limits"].input == LINES as u64 {
            self.gate.store(true, Ordering::Release);
        }
    }
}

/// What came in an epoch: the text of a column.
type Came = Arc<Mutex<Vec<(u64, String)>>>;

/// Keeps the text of a column of each row, with the epoch that brought it.
struct Epochs {
    column: usize,
    came: Came,
}

impl Sink for Epochs {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let mut came = self.came.lock().unwrap();
        for batch in rows {
            let texts = cast(batch.rows.column(self.column), &DataType::Utf8).unwrap();
            let texts = texts.as_string::<i32>().iter().flatten();
            came.extend(texts.map(|text| (epoch, text.to_owned())));
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        false
    }
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn readings() -> (Schema, RecordBatch) {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("at", DataType::Int64),
        Column::new("line", DataType::Utf8),
        Column::new("v", DataType::Float64),
    ];
    let schema = Schema::new(columns, &["machine"], "at").unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("machine", text((0..MACHINES).map(machine))),
        ("at", Arc::new(Int64Array::from(vec![1; MACHINES]))),
        ("line", text((0..MACHINES).map(|m| line(m % LINES)))),
        ("v", Arc::new((0..MACHINES).map(|m| Some(value(m))).collect::<Float64Array>())),
    ];
    (schema, RecordBatch::try_from_iter(columns).unwrap())
}

/// A limit that nothing is above for each line, and then the one that is lowered.
fn limits() -> (Schema, RecordBatch) {
    let columns = vec![
        Column::new("line", DataType::Utf8),
        Column::new("since", DataType::Int64),
        Column::new("most", DataType::Float64),
    ];
    let schema = Schema::new(columns, &["line"], "since").unwrap();
    let all = (0..LINES).map(|line| (line, 1, 99.0)).chain([(LOWERED.0, 2, LOWERED.1)]);
    let all: Vec<(usize, i64, f64)> = all.collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("line", text(all.iter().map(|limit| line(limit.0)))),
        ("since", Arc::new(all.iter().map(|limit| Some(limit.1)).collect::<Int64Array>())),
        ("most", Arc::new(all.iter().map(|limit| Some(limit.2)).collect::<Float64Array>())),
    ];
    (schema, RecordBatch::try_from_iter(columns).unwrap())
}

fn machine(m: usize) -> String {
    format!("M-{m:05}")
}

fn line(line: usize) -> String {
    format!("L-{line:02}")
}

/// From 0 to 99 on each line.
fn value(m: usize) -> f64 {
    (m / LINES) as f64
}

/// The latest readings beside the limit of their line.
fn views(readings: &Schema, limits: &Schema) -> Vec<ViewNode> {
    let latest = Relation::of_latest(readings, 1).unwrap();
    let limit = Relation::of_latest(limits, 1).unwrap();
    let mut columns = latest.columns().to_vec();
    columns.push(limit.columns()[2].clone());
    let judged = Relation::new(columns, vec![0]).unwrap();
    let join =
        ViewKind::Join { left: 0, right: 1, on: vec![(2, 0)], take: vec![2], unmatched: true };
    vec![
        ViewNode::new("latest", latest, ViewKind::Standing(StreamId::Step(0))),
        ViewNode::new("limit", limit, ViewKind::Standing(StreamId::Step(1))),
        ViewNode::new("judged", judged, join),
    ]
}

/// Runs the fleet; what came of the limits (line), and of the alerts (machine, change), each with its epoch.
fn ran(workers: usize) -> [Vec<(u64, String)>; 3] {
    let ((readings, rows), (limits, limit_rows)) = (readings(), limits());
    let views = views(&readings, &limits);
    let gate = Arc::new(AtomicBool::new(false));
    let keeper = Gatekeeper { judged: Arc::clone(&views[2].table), gate: Arc::clone(&gate) };
    let when = Some("NOT gone AND (v > most)".to_owned());
    let config = AlertConfig { when, ..AlertConfig::default() };
    let alert = plan_rule("beyond", &config, &views[2].relation.log(), &Sql::default()).unwrap();
    let change = alert.output.index_of("change").unwrap();
    let memory = |schema: &Schema, rows, chunk| MemorySource::new(schema, &[rows], chunk).unwrap();
    let gated = Gated { rows: memory(&limits, limit_rows, LINES), has_begun: false, open: gate };
    let source = |name: &str, schema: &Schema, source: Box<dyn Source>| SourceNode {
        name: name.to_owned(),
        schema: schema.clone(),
        front: Front::Stream(OrderRules::default()),
        source,
    };
    let step = |name: &str, kind, from, planned| StepNode {
        name: name.to_owned(),
        kind,
        inputs: vec![from],
        planned,
        rekeyed: false,
    };
    let came: [Came; 3] = Default::default();
    let sink = |from, column, came: &Came| SinkNode {
        name: format!("{from:?} {column}"),
        from,
        sink: Box::new(Epochs { column, came: Arc::clone(came) }),
    };
    let graph = Graph {
        name: "fleet".to_owned(),
        sources: vec![
            source("readings", &readings, Box::new(memory(&readings, rows, MACHINES))),
            source("limits", &limits, Box::new(gated)),
        ],
        steps: vec![
            step("latest", "latest", StreamId::Source(0), latest(&readings, 1, None)),
            step("limit", "latest", StreamId::Source(1), latest(&limits, 1, None)),
            step("beyond", "alert", StreamId::Log(2), alert),
        ],
        views,
        sinks: vec![
            sink(StreamId::Source(1), 0, &came[0]),
            sink(StreamId::Step(2), 0, &came[1]),
            sink(StreamId::Step(2), change, &came[2]),
        ],
    };
    run(graph, &Options { workers, observer: Some(Arc::new(keeper)), ..Options::default() })
        .unwrap();
    came.map(|came| std::mem::take(&mut *came.lock().unwrap()))
}

#[test]
fn a_limit_that_is_lowered_raises_what_it_concerns_within_one_epoch() {
    let (lowered, most) = LOWERED;
    let beyond = (0..MACHINES).filter(|&m| m % LINES == lowered && value(m) > most);
    let beyond: Vec<String> = beyond.map(machine).collect();
    assert_eq!(beyond.len(), 34);
    for workers in [1, 2] {
        let [limits, mut machines, changes] = ran(workers);
        let (epoch, last) = limits.last().unwrap();
        assert_eq!((limits.len(), last), (LINES + 1, &line(lowered)));
        assert!(limits[..LINES].iter().all(|(before, _)| before < epoch), "it came by itself");
        machines.sort();
        let expected: Vec<_> = beyond.iter().map(|machine| (*epoch, machine.clone())).collect();
        assert_eq!(machines, expected, "on {workers} workers");
        assert!(changes.iter().all(|(_, change)| change == "raised"), "{changes:?}");
    }
}
