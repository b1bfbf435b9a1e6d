//! Carries a [`Graph`] out.
//!
//! The thread that calls [`run`] polls the sources and closes epochs; worker threads carry them through the
//! dataflow; one thread brings whole epochs to the sinks. An epoch is on its way from the moment it is closed until
//! the sinks have it, and only so many are: when the sinks are slow the sources are not read.

mod backlog;
mod conductor;
mod crew;
mod diagnostics;
mod hub;
mod input;
mod journalist;
mod ledger;
mod outlet;
mod recovery;
mod reference;
mod rekey;
mod simulation;
mod snapshots;
mod start;
mod step;
mod views;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use crate::account::Account;
use crate::clock::{Clock, SystemClock};
use crate::correct::Correcting;
use crate::durable::Durable;
use crate::graph::{Graph, LatePolicy, SourceNode, StepNode, StreamId};
use crate::history::History;
use crate::hold::Hold;
use crate::journal::JournalError;
use crate::operator::{Build, LateSupport, Planned};
use crate::relation::{ViewKind, ViewNode};
use crate::run::conductor::source_id;
use crate::run::crew::Crew;
use crate::run::input::SourceWiring;
pub(crate) use crate::run::ledger::Meter;
use crate::run::ledger::{Failure, NodeId};
pub(crate) use crate::run::recovery::read_identity;
pub use crate::run::simulation::{Schedule, simulate};
use crate::run::views::{Read, ViewWiring};
use crate::run::worker::{Seat, StepWiring, Wiring};
use crate::sink::{RunId, SinkError};
use crate::snapshot::SnapshotError;
use crate::source::SourceError;
use crate::vitals::Vitals;
use crate::watermarks::Watermarks;

/// How a graph is run. None of it changes a result.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker threads, 1 to 256.
    pub workers: usize,
    /// An epoch closes after this many records.
    pub epoch_rows: usize,
    /// An epoch that is not empty closes after this long when the sources have nothing more at hand.
    pub epoch_interval: Duration,
    /// Most epochs between the sources and the sinks. When there are more, only sources that cannot send again are
    /// read, into the journal.
    pub epochs_in_flight: usize,
    /// Most undecoded bytes of such epochs in memory; what is more is read back from the journal in time.
    pub backlog_bytes: usize,
    /// The number of this run, greater than that of every run before it.
    pub run: RunId,
    /// Where epochs get their time.
    pub clock: Arc<dyn Clock>,
    /// Set from outside to end at the next epoch boundary. Open windows are not flushed.
    pub stop: Arc<AtomicBool>,
    /// Told about each epoch once its rows are with the sinks.
    pub observer: Option<Arc<dyn Observer>>,
    /// Where progress is kept, so that the next run goes on from there; without it every run begins anew.
    pub durable: Option<Arc<Durable>>,
    /// The data directory, held against other runs.
    pub hold: Option<Arc<Mutex<Hold>>>,
    /// The run is to carry out what the journal of another one has, and nothing else: sources are read where the
    /// journal says, never polled. It keeps no progress of its own.
    pub history: Option<History>,
    /// Where the run says how it goes, for readers outside it.
    pub vitals: Option<Arc<Vitals>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workers: 1,
            epoch_rows: 65_536,
            epoch_interval: Duration::from_millis(100),
            epochs_in_flight: 8,
            backlog_bytes: 64 << 20,
            run: RunId(1),
            clock: Arc::new(SystemClock),
            stop: Arc::default(),
            observer: None,
            durable: None,
            hold: None,
            history: None,
            vitals: None,
        }
    }
}

/// Someone who wants to know how a run goes: a progress bar, a metrics registry.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// An epoch is through; `report` is the sum so far.
    fn epoch(&self, epoch: u64, report: &Report);
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Epochs carried out.
    pub epochs: u64,
    /// The account of every source and step, by name, since the computation began: also of the runs that this one goes
    /// on from.
    pub accounts: BTreeMap<String, Account>,
    /// What of it earlier runs have done; all that follows is of this run alone.
    pub before: BTreeMap<String, Account>,
    /// Dead letters by operator and reason.
    pub dead: BTreeMap<String, BTreeMap<String, u64>>,
    /// Rows written, by sink and stream: `lake/features`.
    pub written: BTreeMap<String, u64>,
    /// How often each sink was tried again after it had failed, by sink and stream.
    pub retries: BTreeMap<String, u64>,
    /// Rows that a sink took and did not write, by sink and stream, and reason.
    pub left_out: BTreeMap<String, BTreeMap<String, u64>>,
    /// How long each stage was at work, summed over the workers: decoding, exchange and ordering of each source,
    /// each step, each sink.
    pub busy: BTreeMap<String, Duration>,
    /// Whether the run was stopped from outside before its sources had ended and all that they said was computed.
    pub stopped: bool,
}

/// A run failed. Nothing of the epoch it failed in was committed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A step failed in a way no row can be blamed for.
    #[error("step '{step}' ({kind}): {message}")]
    Step {
        /// The step's name.
        step: String,
        /// Its kind.
        kind: String,
        /// What happened.
        message: String,
    },
    /// A source could not be read.
    #[error("source '{0}': {1}")]
    Source(String, SourceError),
    /// A sink could not be written.
    #[error("sink '{0}': {1}")]
    Sink(String, SinkError),
    /// A view has more rows than it may.
    #[error(
        "view '{view}' has {rows} rows and may have {limit}; raise its 'max_rows', or let less into it"
    )]
    View {
        /// The view.
        view: String,
        /// How many rows it has.
        rows: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A newer run of the pipeline has taken over.
    #[error("fenced by run {0}: a newer run of this pipeline has taken over its data directory")]
    Fenced(RunId),
    /// The journal failed.
    #[error(transparent)]
    Journal(JournalError),
    /// The snapshots cannot be used.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// The progress that was kept is that of another pipeline.
    #[error(
        "the progress in '{}' is that of another pipeline:\n  {}\nchoose: `--migrate` goes on and keeps the state of what \
         has not changed, `--from-journal` computes everything anew from the journal, `--fresh` begins anew",
        .dir.display(),
        .differences.join("\n  ")
    )]
    Changed {
        /// The data directory.
        dir: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// A sink has less than the snapshot counts on, or more than the journal knows of.
    #[error(
        "sink '{sink}' has the rows up to epoch {has}, but {kept}: it is not the sink of this progress; start with `--fresh`"
    )]
    SinkDiffers {
        /// The sink.
        sink: String,
        /// What it has.
        has: u64,
        /// What was to be expected.
        kept: String,
    },
    /// The engine could not start.
    #[error("{0}")]
    Engine(String),
}

/// Runs `graph` until its sources have ended or `options.stop` is set.
///
/// # Errors
/// When a source, a step or a sink fails in a way that no row can be blamed for. Sinks then hold what they had
/// committed before.
pub fn run(graph: Graph, options: &Options) -> Result<Report, RunError> {
    let Crew { conductor, seats, hub, news, writer, keeper, wiring, failure, busy } =
        Crew::assemble(graph, options)?;
    let workers = start(seats, &wiring, &failure, options.workers)?;
    let keeper = keeper.map(|k| thread("snapshots", move || k.work())).transpose()?;
    let own = Arc::clone(&failure);
    let writer = writer.map(|w| thread("journal", move || w.work(&own))).transpose()?;
    let own = Arc::clone(&failure);
    let hub = thread("sinks", move || hub.work(&news, &own))?;
    let stopped = conductor.work();
    for worker in workers.join() {
        if let Err(panic) = worker {
            failure.raise(RunError::Engine(format!("a worker panicked (a bug): {panic}")));
        }
    }
    let report = hub.join();
    for (thread, what) in [(keeper, "the snapshots' thread"), (writer, "the journal's thread")] {
        if thread.is_some_and(|t| t.join().is_err()) {
            failure.raise(RunError::Engine(format!("{what} panicked (a bug)")));
        }
    }
    if let Some(error) = failure.take() {
        return Err(error);
    }
    let mut report = report.map_err(|_| RunError::Engine("a sink panicked (a bug)".to_owned()))?;
    report.stopped = stopped;
    report.busy = busy.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    if let (Some(durable), false) = (&options.durable, stopped) {
        recovery::finish(durable)?;
    }
    Ok(report)
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, RunError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|e| RunError::Engine(format!("cannot start the thread '{name}': {e}")))
}

fn start(
    seats: Vec<Seat>,
    wiring: &Arc<Wiring>,
    failure: &Arc<Failure>,
    workers: usize,
) -> Result<timely::communication::WorkerGuards<()>, RunError> {
    let seats = Mutex::new(seats.into_iter().map(Some).collect::<Vec<_>>());
    let (wiring, failure) = (Arc::clone(wiring), Arc::clone(failure));
    timely::execute(timely::Config::process(workers), move |timely| {
        let seat = {
            let mut seats = seats.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            seats[timely.index()].take().expect("every worker starts once")
        };
        worker::work(timely, seat, &wiring, &failure);
    })
    .map_err(|e| RunError::Engine(format!("cannot start the workers: {e}")))
}

/// The dataflow of a graph, and which of its steps are fused.
fn wire(graph: &Graph) -> Result<Wiring, RunError> {
    let sources = graph.sources.iter().enumerate().map(|(i, source)| SourceWiring {
        id: source_id(i),
        node: NodeId(i),
        name: source.name.as_str().into(),
        schema: source.schema.clone(),
        front: source.front.clone(),
    });
    let mut exits: Vec<StreamId> = graph.sinks.iter().map(|s| s.from).collect();
    exits.sort_unstable();
    exits.dedup();
    let stands = |view: &ViewNode| match view.kind {
        ViewKind::Standing(stream) => Some(stream),
        _ => None,
    };
    let readers = |stream: StreamId| {
        let steps = graph.steps.iter().flat_map(|s| &s.inputs).filter(|i| **i == stream).count();
        let views = graph.views.iter().filter(|v| stands(v) == Some(stream)).count();
        steps + views + usize::from(exits.contains(&stream))
    };
    let builds = builds(graph)?;
    let steps = graph.steps.iter().zip(builds).enumerate().map(|(i, (step, build))| {
        let behind = i.checked_sub(1).map(StreamId::Step);
        let fused = step.planned.late == LateSupport::Stateless
            && behind.is_some_and(|b| step.inputs == [b] && readers(b) == 1)
            && !graph.steps[i - 1].rekeyed;
        StepWiring {
            node: NodeId(graph.sources.len() + i),
            name: step.name.as_str().into(),
            kind: step.kind,
            inputs: step.inputs.clone(),
            output: step.planned.output.clone(),
            build,
            stateless: step.planned.late == LateSupport::Stateless,
            rekeyed: step.rekeyed,
            fused,
        }
    });
    let views = graph.views.iter().enumerate().map(|(i, view)| ViewWiring {
        name: view.name.as_str().into(),
        relation: view.relation.clone(),
        kind: view.kind.clone(),
        table: Arc::clone(&view.table),
        read: Read { log: readers(StreamId::Log(i)) > 0, state: readers(StreamId::View(i)) > 0 },
    });
    Ok(Wiring {
        sources: sources.collect(),
        steps: steps.collect(),
        views: views.collect(),
        exits: exits.clone(),
    })
}

/// How each step is built: where late rows of a source above may correct it, inside of what corrects it.
fn builds(graph: &Graph) -> Result<Vec<Build>, RunError> {
    let corrects =
        |s: &SourceNode| s.front.order().is_some_and(|order| order.late != LatePolicy::DeadLetter);
    let sources = graph.sources.iter().enumerate().filter(|(_, s)| corrects(s));
    let mut corrected: BTreeSet<StreamId> = sources.map(|(i, _)| StreamId::Source(i)).collect();
    let mut builds = Vec::with_capacity(graph.steps.len());
    for (i, step) in graph.steps.iter().enumerate() {
        let planned = &step.planned;
        let mut build = Arc::clone(&planned.build);
        if step.inputs.iter().any(|input| corrected.contains(input)) {
            corrected.insert(StreamId::Step(i));
            if let Some(why) = planned.late.refusal(step.inputs.len()) {
                let (name, kind) = (&step.name, step.kind);
                let message = format!("late rows cannot correct '{name}' ({kind}): {why}");
                return Err(RunError::Engine(message));
            }
            match planned.late {
                LateSupport::Corrects => {
                    build = Correcting::around(planned.clone(), graph.schema(step.inputs[0]));
                }
                LateSupport::Itself => build = told_that_rows_change(planned, graph, step),
                LateSupport::Stateless | LateSupport::Refuses(_) => {}
            }
        }
        builds.push(build);
    }
    Ok(builds)
}

/// Builds a step that takes corrections itself, and tells it that nothing is settled yet.
fn told_that_rows_change(planned: &Planned, graph: &Graph, step: &StepNode) -> Build {
    let build = Arc::clone(&planned.build);
    let keys: Vec<_> = step.inputs.iter().map(|i| graph.schema(*i).key_arrow()).collect();
    Arc::new(move |context| {
        let mut operator = build(context)?;
        for (input, keys) in keys.iter().enumerate() {
            operator.horizon(input, &Watermarks::none(Arc::clone(keys)));
        }
        Ok(operator)
    })
}

/// The names of sources and steps, each with the source it reads, if that is only one.
fn node_names(graph: &Graph) -> Vec<(String, Option<usize>)> {
    let mut nodes: Vec<(String, Option<usize>)> =
        graph.sources.iter().enumerate().map(|(i, s)| (s.name.clone(), Some(i))).collect();
    for step in &graph.steps {
        // What is looked up does not say where a row came from.
        let read = step.inputs.iter().filter(|input| !matches!(input, StreamId::Versions(_)));
        let mut from = read.map(|input| match input {
            StreamId::Source(i) => Some(*i),
            StreamId::Step(i) => nodes[graph.sources.len() + i].1,
            StreamId::Versions(_)
            | StreamId::View(_)
            | StreamId::Log(_)
            | StreamId::DeadLetters
            | StreamId::Late => None,
        });
        let first = from.next().flatten();
        let one = from.all(|other| other == first);
        nodes.push((step.name.clone(), first.filter(|_| one)));
    }
    nodes
}
