//! Runs a pipeline in one of the many ways there are: cut anywhere, on some workers, stopped or killed and begun again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, Clock, Column, Committed, Durable, Expression, ExpressionError, Front, GONE, Graph,
    Identity, LatePolicy, MemorySource, Observer, OnChange, Options, OrderRules, Planned, Relation,
    RelationRules, Report, Resolver, RunId, Schedule, Schema, SimDisk, Sink, SinkError, SinkNode,
    SourceNode, StepNode, StreamId, Table, ViewKind, ViewNode, run, simulate,
};
use foreline_sql::SqlExpressions;

use crate::Dice;

/// Late rows find their place however late they come.
const LATENESS: i64 = 10_000;
/// Most times that a run is looked at in the middle.
const LOOKS_MAX: usize = 2;

/// Compiles the expressions of alerts.
#[derive(Debug, Default)]
pub(crate) struct Sql(SqlExpressions);

impl Resolver for Sql {
    fn expression(
        &self,
        sql: &str,
        schema: &Schema,
    ) -> Result<Arc<dyn Expression>, ExpressionError> {
        self.0.compile(sql, schema)
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn cache_dir(&self) -> PathBuf {
        unreachable!("an alert keeps nothing there")
    }

    fn checking(&self) -> bool {
        false
    }
}

/// A step of a [`Pipeline`].
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) from: StreamId,
    /// The relation that it looks rows up in.
    pub(crate) beside: Option<StreamId>,
    pub(crate) planned: Planned,
}

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    /// By name: the schema and all rows, in the order of the source.
    pub(crate) sources: Vec<(&'static str, Schema, RecordBatch)>,
    /// Relations, behind the sources: by name, the schema and all changes, with the column of those that are gone.
    pub(crate) relations: Vec<(&'static str, Schema, RecordBatch)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) views: Vec<(String, Relation, ViewKind)>,
    /// The streams that a sink keeps.
    pub(crate) kept: Vec<StreamId>,
}

/// The tables in the middle of a run or at its end.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// How many rows of each source are in it.
    pub(crate) inputs: Vec<usize>,
    /// The rows of each view.
    pub(crate) views: Vec<RecordBatch>,
}

/// What came of a pipeline.
#[derive(Debug)]
pub(crate) struct Lived {
    /// What was seen, the end last.
    pub(crate) seen: Vec<Seen>,
    /// What the sinks have, as [`Pipeline::kept`].
    pub(crate) kept: Vec<Vec<Batch>>,
    /// The epoch of each of those batches.
    pub(crate) epochs: Vec<Vec<u64>>,
    /// How often it was stopped or killed.
    pub(crate) n_ends: u64,
}

/// A sink that outlives a run.
#[derive(Debug, Default)]
struct Store {
    generation: u64,
    epoch: Option<u64>,
    rows: Vec<(u64, Batch)>,
}

/// A connection to it.
struct Connection {
    store: Arc<Mutex<Store>>,
    waiting: Vec<(u64, Batch)>,
}

impl Sink for Connection {
    fn open(&mut self, _: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        let mut store = self.store.lock().unwrap();
        if store.generation != generation {
            *store = Store { generation, ..Store::default() };
        }
        self.waiting.clear();
        Ok(store.epoch)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        self.waiting.extend(rows.iter().filter(|b| !b.is_empty()).map(|b| (epoch, b.clone())));
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut store = self.store.lock().unwrap();
        if store.epoch.is_none_or(|has| has < upto) {
            store.epoch = Some(upto);
            let waiting = std::mem::take(&mut self.waiting);
            store.rows.extend(waiting);
        }
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        self.waiting.len() > 10
    }
}

/// Looks at the tables at the ends of some epochs.
#[derive(Debug)]
struct Looks {
    sources: Vec<&'static str>,
    tables: Vec<Arc<Table>>,
    dice: Mutex<Dice>,
    seen: Mutex<Vec<Seen>>,
    /// The run is to stop when it has been asked so often.
    stop_in: Option<AtomicI64>,
    stop: Arc<AtomicBool>,
}

impl Looks {
    fn see(&self, epoch: u64, report: &Report) -> Seen {
        let input = |name: &&str| usize::try_from(report.accounts[*name].input).unwrap();
        let rows = |table: &Arc<Table>| {
            let page = table.all().unwrap();
            assert_eq!(page.epoch, epoch, "all views show the end of one epoch");
            page.rows
        };
        Seen {
            inputs: self.sources.iter().map(input).collect(),
            views: self.tables.iter().map(rows).collect(),
        }
    }
}

impl Observer for Looks {
    fn epoch(&self, epoch: u64, report: &Report) {
        let mut seen = self.seen.lock().unwrap();
        if seen.len() < LOOKS_MAX && self.dice.lock().unwrap().one_in(4) {
            seen.push(self.see(epoch, report));
        }
        if self.stop_in.as_ref().is_some_and(|left| left.fetch_sub(1, Ordering::Relaxed) <= 0) {
            self.stop.store(true, Ordering::Release);
        }
    }
}

/// Time that goes on by itself.
#[derive(Debug, Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// Turns at random, until the plug is pulled.
struct Turns {
    dice: Dice,
    left: Option<usize>,
}

impl Schedule for Turns {
    fn next(&mut self, n: usize) -> Option<usize> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some(self.dice.below(n))
    }
}

/// How a run ends.
enum End {
    /// With its sources.
    Natural,
    /// It is stopped at the end of an epoch.
    Stopped,
    /// Nobody gets to do anything any more.
    Killed,
}

/// What is told of a relation: not when it changed, but what is gone.
fn told_of(relation: &Schema) -> Schema {
    let mut columns = relation.columns().to_vec();
    columns.pop();
    columns.push(Column::new(GONE, DataType::Boolean));
    Schema::new(columns, &["line"], "since").unwrap()
}

struct World<'p> {
    pipeline: &'p Pipeline,
    dice: Dice,
    disk: SimDisk,
    stores: Vec<Arc<Mutex<Store>>>,
    clock: Arc<Ticking>,
    chunk_rows: usize,
    run: u64,
    is_durable: bool,
}

/// Runs `pipeline` in a way that follows from `dice`, to its end.
pub(crate) fn live(pipeline: &Pipeline, mut dice: Dice) -> Lived {
    let mut world = World {
        pipeline,
        disk: SimDisk::new(dice.roll()),
        stores: pipeline.kept.iter().map(|_| Arc::default()).collect(),
        clock: Arc::default(),
        chunk_rows: 1 + dice.below(8),
        run: 0,
        is_durable: false,
        dice,
    };
    let (mut seen, mut n_ends) = (Vec::new(), 0);
    let interruptions = [0, 0, 1, 2, 3][world.dice.below(5)];
    world.is_durable = interruptions > 0;
    let mut ended = false;
    for _ in 0..interruptions {
        let end = if world.dice.one_in(2) { End::Stopped } else { End::Killed };
        (ended, seen) = world.go(&end, seen);
        if ended {
            break;
        }
        n_ends += 1;
        if matches!(end, End::Killed) && world.dice.one_in(2) {
            world.disk.crash();
        }
    }
    while !ended {
        (ended, seen) = world.go(&End::Natural, seen);
    }
    let rows = |store: &Arc<Mutex<Store>>| store.lock().unwrap().rows.clone();
    let stored = world.stores.iter().map(rows).map(|rows| rows.into_iter().unzip());
    let (epochs, kept) = stored.unzip();
    Lived { seen, kept, epochs, n_ends }
}

impl World<'_> {
    /// A run: whether it came to its end, and what was seen in it beside `seen`.
    fn go(&mut self, end: &End, mut seen: Vec<Seen>) -> (bool, Vec<Seen>) {
        self.run += 1;
        let graph = self.graph();
        let stop = Arc::new(AtomicBool::new(false));
        let epochs = i64::try_from(self.dice.below(6)).unwrap();
        let looks = Arc::new(Looks {
            sources: self.pipeline.sources.iter().map(|s| s.0).collect(),
            tables: graph.views.iter().map(|v| Arc::clone(&v.table)).collect(),
            dice: Mutex::new(Dice(self.dice.roll())),
            seen: Mutex::default(),
            stop_in: matches!(end, End::Stopped).then(|| AtomicI64::new(epochs)),
            stop: Arc::clone(&stop),
        });
        let options = self.options(stop, Arc::clone(&looks) as Arc<dyn Observer>);
        let killed_in = matches!(end, End::Killed).then(|| self.dice.below(1_000));
        let report = if killed_in.is_some() || self.dice.one_in(3) {
            let mut turns = Turns { dice: Dice(self.dice.roll()), left: killed_in };
            simulate(graph, &options, &mut turns).unwrap()
        } else {
            Some(run(graph, &options).unwrap())
        };
        let ended = report.as_ref().filter(|report| !report.stopped);
        seen.extend(std::mem::take(&mut *looks.seen.lock().unwrap()));
        if let Some(report) = ended {
            seen.push(looks.see(looks.tables.first().map_or(0, |t| t.epoch()), report));
        }
        (ended.is_some(), seen)
    }

    fn graph(&self) -> Graph {
        let order = OrderRules { late: LatePolicy::Correct(LATENESS), ..OrderRules::default() };
        let source = |(name, schema, rows): &(&str, Schema, RecordBatch)| SourceNode {
            name: (*name).to_owned(),
            schema: schema.clone(),
            front: Front::Stream(order.clone()),
            source: Box::new(
                MemorySource::new(schema, std::slice::from_ref(rows), self.chunk_rows).unwrap(),
            ),
        };
        let relation = |(name, schema, rows): &(&str, Schema, RecordBatch)| {
            let rules = RelationRules { whole: false, valid_from: None, max_rows: 1_000 };
            let told = std::slice::from_ref(rows);
            SourceNode {
                name: (*name).to_owned(),
                schema: schema.clone(),
                front: Front::Relation(rules),
                source: Box::new(
                    MemorySource::new(&told_of(schema), told, self.chunk_rows).unwrap(),
                ),
            }
        };
        let step = |step: &Step| StepNode {
            name: step.name.clone(),
            kind: step.kind,
            inputs: [step.from].into_iter().chain(step.beside).collect(),
            planned: step.planned.clone(),
            rekeyed: false,
        };
        let view = |(name, relation, kind): &(String, Relation, ViewKind)| {
            ViewNode::new(name, relation.clone(), kind.clone())
        };
        let sink = |(i, (&from, store)): (usize, (&StreamId, &Arc<Mutex<Store>>))| SinkNode {
            name: format!("kept{i}"),
            from,
            sink: Box::new(Connection { store: Arc::clone(store), waiting: Vec::new() }),
        };
        Graph {
            name: "world".to_owned(),
            sources: self
                .pipeline
                .sources
                .iter()
                .map(source)
                .chain(self.pipeline.relations.iter().map(relation))
                .collect(),
            steps: self.pipeline.steps.iter().map(step).collect(),
            views: self.pipeline.views.iter().map(view).collect(),
            sinks: self.pipeline.kept.iter().zip(&self.stores).enumerate().map(sink).collect(),
        }
    }

    fn options(&mut self, stop: Arc<AtomicBool>, observer: Arc<dyn Observer>) -> Options {
        let names = self.pipeline.sources.iter().map(|s| s.0.to_owned());
        let names = names.chain(self.pipeline.relations.iter().map(|s| s.0.to_owned()));
        let names = names.chain(self.pipeline.steps.iter().map(|s| s.name.clone()));
        let nodes: BTreeMap<_, _> = names.map(|name| (name, String::new())).collect();
        let durable = Durable {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from("/data"),
            snapshot_interval: Duration::from_millis(30),
            snapshots_kept: 2,
            journal_limit_bytes: 16 << 20,
            journal_keep_ns: 0,
            journal_segment_bytes: 20_000,
            identity: Identity { nodes },
            on_change: OnChange::Refuse,
            bounded: false,
        };
        Options {
            workers: 1 + self.dice.below(3),
            epoch_rows: 1 + self.dice.below(20),
            epoch_interval: Duration::from_millis(5),
            epochs_in_flight: 1 + self.dice.below(3),
            backlog_bytes: [0, 2_000, 64 << 20][self.dice.below(3)],
            run: RunId(self.run),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            stop,
            observer: Some(observer),
            durable: self.is_durable.then(|| Arc::new(durable)),
            ..Options::default()
        }
    }
}
