//! One worker thread: builds its part of the dataflow and steps it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::input::Handle as InputHandle;
use timely::dataflow::operators::core::{Concatenate, Input, Probe};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, Stream};
use timely::worker::Worker;

use crate::account::Account;
use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::graph::{Front, RelationRules, StreamId};
use crate::late::LateRow;
use crate::operator::{Build, Fault, Operator, WorkerContext};
use crate::parcel::Parcel;
use crate::relation::{Change, ViewKind};
use crate::run::RunError;
use crate::run::input::{self, Chunks, SourceWiring};
use crate::run::ledger::{EpochBook, Failure, Ledger, Meter, NodeId, Told};
use crate::run::reference;
use crate::run::rekey::rekey;
use crate::run::start::Start;
use crate::run::step::{self, Link, Shared};
use crate::run::views::{self, Arranged, Rows, ViewWiring};
use crate::schema::Schema;
use crate::source::{Chunk, Decoder};
use crate::vitals::Vitals;

/// How long a worker waits for other workers before it looks for new epochs again.
const PARK: Duration = Duration::from_micros(200);
/// How long an idle worker waits for an epoch before it looks whether the run has failed.
const IDLE: Duration = Duration::from_millis(20);

/// What the dataflow needs to know of a step.
#[derive(Clone)]
pub(crate) struct StepWiring {
    pub node: NodeId,
    pub name: Arc<str>,
    pub kind: &'static str,
    pub inputs: Vec<StreamId>,
    pub output: Schema,
    pub build: Build,
    pub stateless: bool,
    /// Whether its rows have another key than those it reads.
    pub rekeyed: bool,
    /// Whether it is carried out right behind the step it reads, in one dataflow operator.
    pub fused: bool,
}

impl fmt::Debug for StepWiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepWiring").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The whole dataflow, the same on every worker.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub sources: Vec<SourceWiring>,
    pub steps: Vec<StepWiring>,
    pub views: Vec<ViewWiring>,
    /// The streams that somebody outside wants, each once.
    pub exits: Vec<StreamId>,
}

impl Wiring {
    pub(crate) fn nodes(&self) -> usize {
        self.sources.len() + self.steps.len()
    }

    fn schema(&self, stream: StreamId) -> Schema {
        match stream {
            StreamId::Source(i) | StreamId::Versions(i) => self.sources[i].schema.clone(),
            StreamId::Step(i) => self.steps[i].output.clone(),
            StreamId::View(i) => self.views[i].relation.state(),
            StreamId::Log(i) => self.views[i].relation.log(),
            StreamId::DeadLetters => crate::dead_letter_schema(),
            StreamId::Late => crate::late_schema(),
        }
    }
}

/// Chunks, each with its source.
pub(crate) type Share = Vec<(usize, Arc<Chunk>)>;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// An epoch, with the chunks that this worker is to decode.
    Epoch(Told, Share),
    /// Nothing follows.
    End,
}

/// What a worker tells.
#[derive(Debug)]
pub(crate) enum News {
    /// Rows of an exit, by its place in [`Wiring::exits`].
    Rows { exit: usize, epoch: u64, worker: usize, lane: Lane, rows: Box<Batch> },
    /// Rows that could not be used.
    Dead { epoch: u64, worker: usize, letters: Vec<DeadLetter> },
    /// What has changed of a view in an epoch, or stood at the start of the run, which is of the epoch before.
    Changed { view: usize, epoch: u64, changes: Vec<Change> },
    /// All that stood at the start of the run has left this worker.
    Stood,
    /// Late rows that correct the result, where somebody wants to hear of them.
    Corrected { epoch: u64, worker: usize, rows: Vec<LateRow> },
    /// What has changed of a shard's state as of the end of an epoch; `None`: it is empty.
    State { epoch: u64, node: NodeId, shard: u8, state: Option<RecordBatch> },
    /// This worker has seen everything up to an epoch; its accounts of the epochs since it last said so.
    Through { upto: u64, worker: usize, accounts: BTreeMap<u64, Vec<Account>> },
}

/// Whether rows are new or correct earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    New,
    Revised,
}

/// What one worker starts with.
pub(crate) struct Seat {
    pub orders: Receiver<Order>,
    pub news: Sender<News>,
    pub decoders: Vec<Box<dyn Decoder>>,
    pub busy: Busy,
    pub vitals: Arc<Vitals>,
    pub start: Arc<Start>,
}

/// How long each stage was at work, summed over the workers.
pub(crate) type Busy = Arc<Mutex<BTreeMap<String, Duration>>>;

/// The work of a worker thread, from the first epoch to the last or to the first failure.
pub(crate) fn work(worker: &mut Worker, seat: Seat, wiring: &Wiring, failure: &Arc<Failure>) {
    let mut station = Station::new(worker, seat, wiring, failure);
    while station.turn(worker, IDLE, PARK) {}
    station.leave(worker);
}

/// A worker with its part of the dataflow.
pub(crate) struct Station {
    desk: Desk,
    inputs: Inputs,
    orders: Receiver<Order>,
    busy: Busy,
}

impl Station {
    /// Builds the dataflow of a worker, with the state that its shards had.
    pub(crate) fn new(
        worker: &mut Worker,
        seat: Seat,
        wiring: &Wiring,
        failure: &Arc<Failure>,
    ) -> Self {
        let context = WorkerContext { index: worker.index(), peers: worker.peers() };
        let Seat { orders, news, decoders, busy, vitals, start } = seat;
        let before = start.after;
        let shared = Shared {
            book: EpochBook::default(),
            ledger: Ledger::new(wiring.nodes()),
            meter: Meter::default(),
            failure: Arc::clone(failure),
            start: Arc::new(start.of_worker(context)),
            news: news.clone(),
            vitals,
            tells_late: wiring.exits.contains(&StreamId::Late),
        };
        let probe = ProbeHandle::new();
        let arranged = Arranged::listen(worker);
        let inputs = worker.dataflow::<u64, _, _>(|scope| {
            build(scope, wiring, decoders, context, &shared, &probe, arranged)
        });
        let index = context.index;
        let desk = Desk {
            shared,
            probe,
            news,
            worker: index,
            first: before + 1,
            seen: before,
            told: before,
            stood: false,
            ended: false,
        };
        Station { desk, inputs, orders, busy }
    }

    /// Does what there is to do, waiting for it that long; whether more may come.
    pub(crate) fn turn(&mut self, worker: &mut Worker, idle: Duration, park: Duration) -> bool {
        if self.desk.shared.failure.is_raised() {
            return false;
        }
        self.desk.take_orders(&self.orders, &mut self.inputs, idle);
        if self.desk.waits() {
            worker.step_or_park(Some(park));
        } else if self.desk.ended {
            // What views stand for at the start is of no epoch of this run, and is told all the same.
            if self.desk.probe.done() {
                return false;
            }
            worker.step_or_park(Some(park));
        }
        if self.desk.tell() {
            self.desk.shared.meter.hand_in(&self.busy);
        }
        true
    }

    /// Takes the dataflow down.
    pub(crate) fn leave(self, worker: &mut Worker) {
        drop(self.inputs);
        self.desk.shared.meter.hand_in(&self.busy);
        if self.desk.shared.failure.is_raised() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
    }
}

type Inputs = Vec<InputHandle<u64, CapacityContainerBuilder<Chunks>>>;

/// Where a worker keeps track of its epochs.
struct Desk {
    shared: Shared,
    probe: ProbeHandle<u64>,
    news: Sender<News>,
    worker: usize,
    /// The first epoch of the run. What is of the one before stood at the start.
    first: u64,
    /// The last epoch that was fed in.
    seen: u64,
    /// The last epoch that was reported as through.
    told: u64,
    /// Whether it was reported that what stood at the start is there.
    stood: bool,
    ended: bool,
}

impl Desk {
    fn waits(&self) -> bool {
        self.told < self.seen || !self.stood
    }

    /// Feeds in what has come; waits for it when there is nothing else to do.
    fn take_orders(&mut self, orders: &Receiver<Order>, inputs: &mut Inputs, idle: Duration) {
        let mut patience = if self.waits() || self.ended { Duration::ZERO } else { idle };
        while !self.ended {
            match orders.recv_timeout(std::mem::take(&mut patience)) {
                Ok(Order::Epoch(told, chunks)) => {
                    let id = told.epoch.id;
                    self.seen = id;
                    self.shared.book.insert(told);
                    for (source, chunk) in chunks {
                        inputs[source].send(chunk);
                    }
                    for input in inputs.iter_mut() {
                        input.advance_to(id + 1);
                    }
                }
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => {
                    inputs.clear();
                    self.ended = true;
                }
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }

    /// Reports the epochs that are through; whether there were any.
    fn tell(&mut self) -> bool {
        if !self.stood && !self.probe.less_than(&self.first) {
            self.stood = true;
            self.news.send(News::Stood).ok();
        }
        let open = self.probe.with_frontier(|f| f.first().copied()).unwrap_or(self.seen + 1);
        let upto = open.saturating_sub(1).min(self.seen);
        let is_news = upto > self.told && !self.shared.failure.is_raised();
        if is_news {
            self.told = upto;
            self.shared.book.forget_before(upto + 1);
            let accounts = self.shared.ledger.take(upto);
            // The other end is gone only when the run has failed, and then this thread ends too.
            self.news.send(News::Through { upto, worker: self.worker, accounts }).ok();
        }
        is_news
    }
}

/// A worker's part of the dataflow, being built.
struct Builder<'s, 'w> {
    scope: Scope<'s, u64>,
    wiring: &'w Wiring,
    shared: &'w Shared,
    probe: &'w ProbeHandle<u64>,
    streams: BTreeMap<StreamId, Stream<'s, u64, Parcel>>,
    dead: Vec<Stream<'s, u64, Vec<DeadLetter>>>,
    /// What steps and sources stand for at the start of the run.
    standing: BTreeMap<StreamId, Vec<Batch>>,
    /// The views, as far as they are built.
    views: BTreeMap<usize, Rows<'s>>,
    arranged: Arranged,
}

/// Builds a worker's part of the dataflow; its inputs, one a source.
fn build<'s>(
    scope: Scope<'s, u64>,
    wiring: &Wiring,
    decoders: Vec<Box<dyn Decoder>>,
    context: WorkerContext,
    shared: &Shared,
    probe: &ProbeHandle<u64>,
    arranged: Arranged,
) -> Inputs {
    let news = &shared.news;
    let mut builder = Builder {
        scope,
        wiring,
        shared,
        probe,
        streams: BTreeMap::new(),
        dead: Vec::new(),
        standing: BTreeMap::new(),
        views: BTreeMap::new(),
        arranged,
    };
    let inputs = builder.sources(decoders);
    builder.views();
    for (first, last) in chains(&wiring.steps) {
        builder.chain(first, last, context);
        builder.views();
    }
    for (exit, &stream) in wiring.exits.iter().enumerate() {
        if let Some(rows) = builder.streams.get(&stream) {
            leave(scope, rows.clone(), exit, context.index, news.clone());
        }
    }
    let dead = scope.concatenate(builder.dead).probe_with(probe);
    leave_dead(scope, dead, context.index, news.clone());
    inputs
}

impl<'s> Builder<'s, '_> {
    /// The sources; their inputs.
    fn sources(&mut self, decoders: Vec<Box<dyn Decoder>>) -> Inputs {
        let (scope, shared) = (self.scope, self.shared);
        let mut inputs = Vec::new();
        for ((i, source), decoder) in self.wiring.sources.iter().enumerate().zip(decoders) {
            let (mut handle, chunks) = scope.new_input::<Chunks>();
            handle.advance_to(shared.start.first_epoch());
            inputs.push(handle);
            let (batches, letters) =
                input::decode(scope, chunks, decoder, source.clone(), shared.clone());
            self.dead.push(letters);
            match &source.front {
                Front::Stream(rules) => {
                    let out = input::order(scope, batches, source.clone(), rules, shared.clone());
                    self.dead.push(out.dead);
                    self.streams.insert(StreamId::Source(i), out.rows.probe_with(self.probe));
                }
                Front::Relation(rules) => self.relation(i, batches, source, rules),
            }
        }
        inputs
    }

    /// A source that is a relation.
    fn relation(
        &mut self,
        i: usize,
        batches: Stream<'s, u64, Batch>,
        source: &SourceWiring,
        rules: &RelationRules,
    ) {
        match reference::relation(self.scope, batches, source.clone(), rules, self.shared) {
            Ok(out) => {
                self.dead.push(out.dead);
                self.standing.insert(StreamId::Source(i), out.standing);
                self.streams.insert(StreamId::Source(i), out.rows.probe_with(self.probe));
                self.streams.insert(StreamId::Versions(i), out.versions.probe_with(self.probe));
            }
            Err(fault) => self.shared.failure.raise(input::failed(source, fault)),
        }
    }

    /// The steps from `first` to `last`, which are carried out together.
    fn chain(&mut self, first: usize, last: usize, context: WorkerContext) {
        let (wiring, shared) = (self.wiring, self.shared);
        let Some(mut links) = links(&wiring.steps[first..=last], context, shared) else { return };
        let from = wiring.steps[first].inputs.iter();
        let from = from.map(|&s| (self.streams[&s].clone(), wiring.schema(s))).collect();
        if let Some(link) = links.last_mut() {
            match link.operator.standing() {
                Ok(standing) => drop(self.standing.insert(StreamId::Step(last), standing)),
                Err(fault) => shared.failure.raise(RunError::Step {
                    step: link.name.to_string(),
                    kind: link.kind.to_owned(),
                    message: fault.message,
                }),
            }
        }
        let out = step::chain(self.scope, from, links, shared.clone());
        self.dead.push(out.dead);
        let step = &wiring.steps[last];
        let rows = match step.rekeyed {
            true => rekey(self.scope, step, out.rows, shared),
            false => out.rows,
        };
        self.streams.insert(StreamId::Step(last), rows.probe_with(self.probe));
    }

    /// The views of which all that they are made of is there.
    fn views(&mut self) {
        let wiring = self.wiring;
        for (i, view) in wiring.views.iter().enumerate() {
            let ready = match view.kind {
                ViewKind::Standing(stream) => self.streams.contains_key(&stream),
                _ => view.kind.views().iter().all(|v| self.views.contains_key(v)),
            };
            if !ready || self.views.contains_key(&i) {
                continue;
            }
            if let Err(e) = self.view(i, view) {
                self.shared.failure.raise(views::failed(&view.name, &e));
            }
        }
    }

    fn view(&mut self, i: usize, view: &ViewWiring) -> Result<(), ArrowError> {
        let (scope, shared) = (self.scope, self.shared);
        let first = scope.worker().peek_identifier();
        let rows = match view.kind {
            ViewKind::Standing(stream) => {
                let standing = self.standing.remove(&stream).unwrap_or_default();
                views::standing(scope, self.streams[&stream].clone(), standing, view, shared)?
            }
            _ => {
                let below = view.kind.views().into_iter();
                let below =
                    below.map(|v| (self.views[&v].clone(), self.wiring.views[v].relation.clone()));
                views::view(view, &below.collect::<Vec<_>>(), shared)?
            }
        };
        let leaving = views::leave(scope, rows.clone(), i, view, shared)?;
        for probed in leaving.probed {
            probed.probe_with(self.probe);
        }
        let streams = [(StreamId::Log(i), leaving.log), (StreamId::View(i), leaving.state)];
        for (id, stream) in streams {
            if let Some(stream) = stream {
                self.streams.insert(id, stream.probe_with(self.probe));
            }
        }
        self.arranged.belong(first..scope.worker().peek_identifier(), &view.table);
        self.views.insert(i, rows);
        Ok(())
    }
}

/// The steps that are carried out together, as (first, last).
fn chains(steps: &[StepWiring]) -> Vec<(usize, usize)> {
    let mut chains: Vec<(usize, usize)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        match chains.last_mut() {
            Some((_, last)) if step.fused && *last + 1 == i => *last = i,
            _ => chains.push((i, i)),
        }
    }
    chains
}

/// The operators of a chain; `None` when one cannot be built, which fails the run.
fn links(steps: &[StepWiring], context: WorkerContext, shared: &Shared) -> Option<Vec<Link>> {
    let link = |step: &StepWiring| match restored(step, context, shared) {
        Ok(operator) => Some(Link {
            node: step.node,
            name: Arc::clone(&step.name),
            kind: step.kind,
            operator,
            output: step.output.clone(),
            stateless: step.stateless,
            total: Account::default(),
        }),
        Err(fault) => {
            shared.failure.raise(RunError::Step {
                step: step.name.to_string(),
                kind: step.kind.to_owned(),
                message: fault.message,
            });
            None
        }
    };
    steps.iter().map(link).collect()
}

/// The operator of a step with the state that this worker's shards had.
fn restored(
    step: &StepWiring,
    context: WorkerContext,
    shared: &Shared,
) -> Result<Box<dyn Operator>, Fault> {
    let mut operator = (step.build)(context)?;
    let load = |shard, version, state| operator.load(shard, version, state);
    shared.start.states(&step.name, load)?;
    Ok(operator)
}

/// Hands the rows of a stream to whoever wants them outside.
fn leave<'s>(
    scope: Scope<'s, u64>,
    rows: Stream<'s, u64, Parcel>,
    exit: usize,
    worker: usize,
    news: Sender<News>,
) {
    let mut builder = OperatorBuilder::new("exit".to_owned(), scope);
    let mut input = builder.new_input(rows, Pipeline);
    builder.build(move |_| {
        move |_| {
            input.for_each(|capability, parcel| {
                let Some(&epoch) = capability.least() else { return };
                let (lane, rows) = match std::mem::take(parcel) {
                    // A late row is one that was not there before: to the outside it is new.
                    Parcel::Rows(rows) | Parcel::Late(rows) => (Lane::New, rows),
                    Parcel::Revised(rows) => (Lane::Revised, rows),
                    Parcel::Watermarks(_) | Parcel::Horizon(_) => return,
                    Parcel::Stood(_) | Parcel::Went(_) | Parcel::Came(_) => return,
                };
                let rows = Box::new(rows);
                news.send(News::Rows { exit, epoch, worker, lane, rows }).ok();
            });
        }
    });
}

/// Hands dead letters to the outside.
fn leave_dead<'s>(
    scope: Scope<'s, u64>,
    dead: Stream<'s, u64, Vec<DeadLetter>>,
    worker: usize,
    news: Sender<News>,
) {
    let mut builder = OperatorBuilder::new("dead letters".to_owned(), scope);
    let mut input = builder.new_input(dead, Pipeline);
    builder.build(move |_| {
        move |_| {
            input.for_each(|capability, letters| {
                let Some(&epoch) = capability.least() else { return };
                let letters = std::mem::take(letters);
                news.send(News::Dead { epoch, worker, letters }).ok();
            });
        }
    });
}
