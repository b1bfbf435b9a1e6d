//! A relation beside a stream: what stands of it, what rows find in it, and what follows from it are those of a plain
//! recomputation, whatever is scheduled, torn or lost.
//!
//! One seed is one run of the world, as in `recovery.rs`: `FORELINE_SEED` is that of one world, `FORELINE_SEEDS` how many
//! there are. What a world with threads does follows from its seed only so far as threads do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use foreline_engine::{
    Clock, CollectSink, Collected, Durable, Front, Graph, Identity, MemorySource, OnChange,
    Options, OrderRules, Planned, Replay, Report, RunError, RunId, Schedule, SimDisk, SinkNode,
    SourceId, SourceNode, StepNode, StreamId, Table, ViewKind, ViewNode, latest, run, simulate,
};

#[path = "reference/book.rs"]
mod book;
#[path = "reference/feed.rs"]
mod feed;
#[path = "reference/oracle.rs"]
mod oracle;
#[path = "reference/toys.rs"]
mod toys;

use book::{Book, Clerk};
use feed::{Counts, Feed, Kind, N_MACHINES, Outside, Reading, Readings, readings_schema};
use toys::{Seen, finder, found_schema, group_sum, regroup};

/// A small generator, so that a seed is all there is to a run.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Time that goes on by itself.
#[derive(Debug, Default)]
pub(crate) struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// Turns at random, until the plug is pulled.
struct Turns {
    dice: Dice,
    left: Option<u64>,
}

impl Schedule for Turns {
    fn next(&mut self, n: usize) -> Option<usize> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some(usize::try_from(self.dice.below(n as u64)).unwrap())
    }
}

/// The streams that have a sink, by its name.
const SINKS: [(&str, StreamId); 6] = [
    ("found", StreamId::Step(0)),
    ("sums", StreamId::Step(2)),
    ("log", StreamId::Log(0)),
    ("joined", StreamId::Log(2)),
    ("state", StreamId::View(0)),
    ("dead", StreamId::DeadLetters),
];

/// One run of the world.
pub(crate) struct World {
    dice: Dice,
    disk: SimDisk,
    clock: Arc<Ticking>,
    replay: Replay,
    run: u64,
    /// The next run is one of threads, with this many workers.
    workers: Option<usize>,
    /// One world in three has views: they take many times as many turns.
    pub(crate) has_views: bool,
    pub(crate) kind: Kind,
    pub(crate) outside: Arc<Mutex<Outside>>,
    pub(crate) readings: Arc<Vec<Reading>>,
    pub(crate) books: BTreeMap<&'static str, Arc<Mutex<Book>>>,
    pub(crate) seen: Seen,
    /// The views of the last run.
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) report: Option<Report>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let counts = [Counts::Always, Counts::Time, Counts::Time, Counts::Cycle];
        let counts = counts[usize::try_from(dice.below(4)).unwrap()];
        let kind = Kind { whole: dice.one_in(2), counts };
        let reading = |cycle| {
            let cycle = i64::try_from(cycle).unwrap();
            (dice.below(N_MACHINES), cycle, dice.below(64) as f64 / 8.0)
        };
        let n_readings = 20 + seed % 7 * 30;
        let readings: Vec<Reading> = (0..n_readings).map(reading).collect();
        let outside = Outside { left: 3 + dice.below(25), ..Outside::default() };
        World {
            disk: SimDisk::new(dice.roll()),
            clock: Arc::default(),
            replay: if dice.one_in(2) { Replay::ByRange } else { Replay::ByPayload },
            run: 0,
            workers: None,
            has_views: dice.one_in(3),
            kind,
            outside: Arc::new(Mutex::new(outside)),
            readings: Arc::new(readings),
            books: SINKS.iter().map(|(name, _)| (*name, Arc::default())).collect(),
            seen: Seen::default(),
            tables: Vec::new(),
            report: None,
            dice,
        }
    }

    fn sources(&mut self) -> Vec<SourceNode> {
        let readings = Readings {
            all: Arc::clone(&self.readings),
            next: 0,
            replay: self.replay,
            dice: Dice(self.dice.roll()),
        };
        let feed = Feed::new(&self.outside, self.kind, &self.clock, Dice(self.dice.roll()));
        vec![
            SourceNode {
                name: "readings".to_owned(),
                schema: readings_schema(),
                front: Front::Stream(OrderRules::default()),
                source: Box::new(readings),
            },
            SourceNode {
                name: "machines".to_owned(),
                schema: self.kind.schema(),
                front: Front::Relation(self.kind.rules()),
                source: Box::new(feed),
            },
        ]
    }

    fn views(&self) -> Vec<ViewNode> {
        let machines = self.kind.relation();
        let latest = foreline_engine::Relation::of_latest(&found_schema(), 1).unwrap();
        let mut columns = latest.columns().to_vec();
        columns.push(machines.columns()[2].clone());
        let joined = foreline_engine::Relation::new(columns, vec![0]).unwrap();
        let (on, take) = (vec![(0, 0)], vec![2]);
        let join = ViewKind::Join { left: 1, right: 0, on, take, unmatched: true };
        vec![
            ViewNode::new("machines", machines, ViewKind::Standing(StreamId::Source(1))),
            ViewNode::new("latest", latest, ViewKind::Standing(StreamId::Step(3))),
            ViewNode::new("joined", joined, join),
        ]
    }

    fn graph(&mut self, faults: bool) -> Graph {
        let inputs = vec![StreamId::Source(0), StreamId::Versions(1)];
        let regroup =
            StepNode { rekeyed: true, ..step("regroup", vec![StreamId::Step(0)], regroup()) };
        let steps = vec![
            step("find", inputs, finder(&self.seen)),
            regroup,
            step("sum", vec![StreamId::Step(1)], group_sum()),
            step("latest", vec![StreamId::Step(0)], latest(&found_schema(), 1, None)),
        ];
        let is_view = |stream: &StreamId| matches!(stream, StreamId::View(_) | StreamId::Log(_));
        let sinks = SINKS.iter().filter(|(_, from)| self.has_views || !is_view(from));
        let sinks = sinks.map(|(name, from)| {
            let (book, dice) = (Arc::clone(&self.books[name]), Dice(self.dice.roll()));
            let clerk = Clerk { book, waiting: BTreeMap::new(), dice, faults };
            SinkNode { name: (*name).to_owned(), from: *from, sink: Box::new(clerk) }
        });
        let sinks = sinks.collect();
        let views = if self.has_views { self.views() } else { Vec::new() };
        self.tables = views.iter().map(|view| Arc::clone(&view.table)).collect();
        Graph { name: "world".to_owned(), sources: self.sources(), steps, views, sinks }
    }

    fn options(&mut self) -> Options {
        let nodes = ["readings", "machines", "find", "regroup", "sum", "latest"];
        let nodes = nodes.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let durable = Durable {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from("/data"),
            snapshot_interval: Duration::from_millis(50),
            snapshots_kept: 2,
            journal_limit_bytes: 1 << 20,
            journal_keep_ns: 0,
            journal_segment_bytes: 2_000,
            identity: Identity { nodes },
            on_change: OnChange::Refuse,
            bounded: false,
        };
        Options {
            workers: self.workers.unwrap_or(1),
            epoch_rows: usize::try_from(1 + self.dice.below(30)).unwrap(),
            epoch_interval: Duration::from_millis(5),
            epochs_in_flight: usize::try_from(1 + self.dice.below(8)).unwrap(),
            backlog_bytes: [0, 2_000, 64 << 20][usize::try_from(self.dice.below(3)).unwrap()],
            run: RunId(self.run),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            stop: Arc::new(AtomicBool::new(false)),
            durable: Some(Arc::new(durable)),
            ..Options::default()
        }
    }

    /// A run; `faults` says whether anything may go wrong. Whether it came to its end.
    fn run(&mut self, faults: bool) -> Result<bool, RunError> {
        self.run += 1;
        if faults && self.dice.one_in(4) {
            // Somebody sets the clock, back or on.
            let set = i64::try_from(self.dice.below(2_000_000_000)).unwrap();
            self.clock.0.store(set, Ordering::Relaxed);
        }
        let (graph, options) = (self.graph(faults), self.options());
        let mut turns = Turns { dice: Dice(self.dice.roll()), left: None };
        if faults {
            turns.left = Some(self.dice.below(1_200));
            match self.dice.below(6) {
                0 => self.disk.crash_nth(self.dice.below(300)),
                1 => self.disk.fail_nth(self.dice.below(300)),
                _ => {}
            }
        }
        let report = match self.workers {
            Some(_) => Some(run(graph, &options)?),
            None => simulate(graph, &options, &mut turns)?,
        };
        self.report = report;
        Ok(self.report.is_some())
    }
}

fn step(name: &str, inputs: Vec<StreamId>, planned: Planned) -> StepNode {
    StepNode { name: name.to_owned(), kind: "toy", inputs, planned, rekeyed: false }
}

/// Errors that a fault may bring about. Anything else is a mistake.
fn check_error(error: &RunError) -> Result<(), String> {
    match error {
        RunError::Journal(_) | RunError::Snapshot(_) => Ok(()),
        RunError::Sink(_, e) if e.to_string().contains("has burned") => Ok(()),
        RunError::Engine(text) if text.contains("data directory cannot be used") => Ok(()),
        other => Err(format!("a fault led to: {other}")),
    }
}

/// Lives through faults, then without any to the end; how many runs there were, and how often something changed.
fn live(seed: u64, threads: bool) -> Result<(u64, u64), String> {
    let mut world = World::new(seed);
    let n_faults = world.dice.below(6);
    let mut ended = false;
    for _ in 0..n_faults {
        world.workers = threads.then(|| usize::try_from(1 + world.dice.below(3)).unwrap());
        ended = match world.run(true) {
            Ok(ended) => ended,
            Err(error) => check_error(&error).map(|()| false)?,
        };
        if ended {
            break;
        }
        // Where the power stays, only the process dies: what it wrote is there, synced or not.
        if world.dice.one_in(2) {
            world.disk.crash();
        } else {
            world.disk.fail_nth(u64::MAX / 2);
        }
    }
    if !ended {
        world.disk.crash();
        world.workers = threads.then(|| usize::try_from(1 + world.dice.below(3)).unwrap());
        world.run(false).map_err(|e| format!("after the faults: {e}"))?;
    }
    Ok((world.run, oracle::check(&world)?))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Has so many worlds live, unless the environment says otherwise; what there was to see.
fn lives(threads: bool, n_seeds: u64) -> String {
    let seeds = match number("FORELINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FORELINE_SEEDS").unwrap_or(n_seeds),
    };
    let (mut n_runs, mut n_changes, mut failed) = (0, 0, Vec::new());
    for seed in seeds.clone() {
        let lived = std::panic::catch_unwind(|| live(seed, threads));
        match lived.unwrap_or_else(|_| Err("a panic".to_owned())) {
            Ok((runs, changes)) => (n_runs, n_changes) = (n_runs + runs, n_changes + changes),
            Err(what) => failed.push(format!("seed {seed}: {what}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed; FORELINE_SEED=<seed> cargo test -p foreline-engine --test reference\n{}",
        failed.len(),
        failed.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
    format!("{} seeds, {n_runs} runs, {n_changes} epochs with changes", seeds.end - seeds.start)
}

#[test]
fn a_relation_is_what_was_told_of_it_and_rows_find_what_it_was() {
    println!("{}", lives(false, 120));
}

#[test]
fn workers_come_and_go_and_nothing_shows_of_it() {
    println!("{}", lives(true, 20));
}

/// A graph of one step that gives all rows the same key, event time and position, and of one that sums them in their order.
fn alike(n_machines: u64) -> (Graph, Collected, Collected) {
    let machines: StringArray = (0..n_machines).map(|m| Some(format!("m{m}"))).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", Arc::new(machines)),
        ("cycle", Arc::new((0..n_machines).map(|_| Some(5)).collect::<Int64Array>())),
        ("v", Arc::new((0..n_machines).map(|m| Some(m as f64)).collect::<Float64Array>())),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let source = MemorySource::new(&readings_schema(), &[rows], 7).unwrap();
    let (sent, sent_rows) = CollectSink::new(1_000);
    let (sums, sum_rows) = CollectSink::new(1_000);
    let regroup = step("regroup", vec![StreamId::Source(0)], toys::regroup_alike());
    let graph = Graph {
        name: "alike".to_owned(),
        sources: vec![SourceNode {
            name: "readings".to_owned(),
            schema: readings_schema(),
            front: Front::Stream(OrderRules::default()),
            source: Box::new(source),
        }],
        steps: vec![
            StepNode { rekeyed: true, ..regroup },
            step("sum", vec![StreamId::Step(0)], group_sum()),
        ],
        views: Vec::new(),
        sinks: vec![
            SinkNode { name: "sent".into(), from: StreamId::Step(0), sink: Box::new(sent) },
            SinkNode { name: "sums".into(), from: StreamId::Step(1), sink: Box::new(sums) },
        ],
    };
    (graph, sent_rows, sum_rows)
}

#[test]
fn rows_that_agree_under_their_new_key_come_in_the_order_of_the_old_ones() {
    let mut first: Option<(Vec<String>, Vec<f64>)> = None;
    for workers in [1, 2, 3, 2, 3, 1, 3, 2] {
        let (graph, sent, sums) = alike(40);
        run(graph, &Options { workers, ..Options::default() }).unwrap();
        let machines = sent.batches().into_iter().flat_map(|b| toys::texts(b.rows.column(2)));
        let machines = machines.flatten();
        let sums = sums
            .batches()
            .into_iter()
            .flat_map(|batch| batch.rows.column(3).as_primitive::<Float64Type>().values().to_vec());
        let (machines, sums): (Vec<String>, Vec<f64>) = (machines.collect(), sums.collect());
        assert_eq!((machines.len(), sums.len()), (40, 40));
        let (want, want_sums) = first.get_or_insert_with(|| (machines.clone(), sums.clone()));
        assert_eq!((&machines, &sums), (&*want, &*want_sums), "{workers} workers");
    }
}

/// A world without faults in which one table comes, and then nothing.
fn quiet(whole: bool) -> World {
    let mut world = World::new(1);
    world.kind = Kind { whole, counts: Counts::Cycle };
    world.outside.lock().unwrap().left = 1;
    world
}

#[test]
fn streams_end_the_run_and_the_relation_which_they_waited_for_does_not() {
    for whole in [true, false] {
        let mut world = quiet(whole);
        assert!(world.run(false).unwrap());
        let seen = world.seen.lock().unwrap();
        let of = |source| {
            let has = move |inputs: &[foreline_engine::InputRange]| {
                inputs.iter().any(|i| i.source == SourceId(source))
            };
            seen.iter().find(|(_, (_, inputs))| has(inputs)).map(|(epoch, _)| *epoch)
        };
        let (readings, machines) = (of(0).unwrap(), of(1).unwrap());
        assert!(machines <= readings, "epoch {machines}, and readings from {readings} on");
    }
}

#[test]
fn a_relation_that_outgrows_its_limit_stops_the_run_by_name() {
    let mut world = quiet(false);
    world.outside.lock().unwrap().left = 50;
    let mut graph = world.graph(false);
    let Front::Relation(rules) = &mut graph.sources[1].front else { panic!("a relation") };
    rules.max_rows = 2;
    let options = Options { durable: None, ..world.options() };
    let mut turns = Turns { dice: Dice(1), left: None };
    let error = simulate(graph, &options, &mut turns).unwrap_err().to_string();
    assert!(error.contains("'machines'") && error.contains("more than 2 rows"), "{error}");
    assert!(error.contains("raise its 'max_rows'"), "{error}");
}
