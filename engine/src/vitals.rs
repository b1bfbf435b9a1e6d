//! What a run says of itself while it goes on: counts, how far each part is, what could not be used.
//!
//! What a reader would get wrong:
//!
//! * Nothing is counted here. The accounts are those that the hub balances, the times those of the workers' meters, the
//!   epochs those that the parts of the run go by; this is the place where they can be looked at from outside.
//! * It says how things stand *now*, while tables say how they stood at the end of an epoch. A sink that is away leaves the
//!   accounts at the epoch that waits for it.
//! * No part of a run waits for a reader: what is written is a few numbers under a lock that is held for no longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::account::Account;
use crate::dead::DeadLetter;
use crate::graph::{Front, Graph, StreamId};
use crate::run::Report;
use crate::schema::TimeDomain;

/// Most dead letters that are kept to be looked at: some screens full of each reason, and a table of all of them is a sink's.
pub const DEAD_LETTERS_MAX: usize = 10_000;
/// Most bytes that they take.
const DEAD_LETTERS_BYTES: usize = 8 << 20;
/// What is kept of the record that a dead letter was.
const ORIGINAL_BYTES: usize = 1_024;
/// What is kept of what is said about it.
const DETAIL_BYTES: usize = 1_024;

/// How a run goes, for readers outside it. One belongs to one run.
#[derive(Debug, Default)]
pub struct Vitals {
    shape: OnceLock<Shape>,
    /// The last epoch that was closed, and that the workers were handed.
    closed: AtomicU64,
    dispatched: AtomicU64,
    /// The last epoch that the sinks were given, and when.
    through: AtomicU64,
    through_ns: AtomicI64,
    /// Since when an epoch waits to get through that could not yet.
    waiting_since_ns: AtomicI64,
    generation: AtomicU64,
    /// Bytes of the journal, as its writer says, and its limit.
    journal: OnceLock<(Arc<AtomicU64>, u64)>,
    pub(crate) busy: Arc<Mutex<BTreeMap<String, Duration>>>,
    progress: Mutex<Progress>,
    at_work: Mutex<Option<AtWork>>,
    dead: Mutex<Letters>,
    epochs: Mutex<Epochs>,
}

/// Epochs on their way, where somebody wants to know how long each took.
#[derive(Debug, Default)]
struct Epochs {
    is_traced: bool,
    /// Those that are closed, and when.
    closed: VecDeque<(u64, i64)>,
    /// Those that got through and were not taken yet.
    through: VecDeque<EpochVitals>,
}

/// An epoch that got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochVitals {
    /// Its number.
    pub epoch: u64,
    /// When it was cut from the sources.
    pub closed_ns: i64,
    /// When the sinks had been given it.
    pub through_ns: i64,
}

/// The parts of a run.
#[derive(Debug)]
struct Shape {
    /// Sources first, then steps, as accounts are numbered.
    nodes: Vec<Node>,
    sources: Vec<SourceState>,
    /// By worker and node: the last epoch that it is through with.
    reached: Vec<Vec<AtomicU64>>,
    first: u64,
}

/// A source or a step.
#[derive(Debug, Clone)]
struct Node {
    name: String,
    kind: &'static str,
    inputs: Vec<usize>,
}

#[derive(Debug)]
struct SourceState {
    domain: TimeDomain,
    is_relation: bool,
    watermark: AtomicI64,
    /// When it last had something.
    heard_ns: AtomicI64,
    state: AtomicU64,
}

/// What a source is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It is asked for records.
    Read,
    /// It is not asked: a reference was not read yet.
    WaitsForReference,
    /// It is not asked: the epochs before are not with the sinks.
    WaitsForSinks,
    /// It is not asked: the journal has reached its limit.
    JournalFull,
    /// It has nothing more.
    Ended,
}

impl Reading {
    const ALL: [Reading; 5] = [
        Reading::Read,
        Reading::WaitsForReference,
        Reading::WaitsForSinks,
        Reading::JournalFull,
        Reading::Ended,
    ];
}

/// What the hub says.
#[derive(Debug, Clone, Default)]
struct Progress {
    report: Report,
    sinks: Vec<SinkVitals>,
}

/// A sink that was handed rows and has not come back.
#[derive(Debug, Clone)]
struct AtWork {
    name: String,
    since_ns: i64,
}

/// How a source goes.
#[derive(Debug, Clone, Serialize)]
pub struct SourceVitals {
    /// Its name.
    pub name: String,
    /// The greatest watermark of any key that it has said in this run, in the unit of its time.
    pub watermark: Option<i64>,
    /// Whether its time is a clock's, in nanoseconds; else a count.
    pub is_utc: bool,
    /// Whether it is a reference, which has no watermark.
    pub is_relation: bool,
    /// When it last had records, in nanoseconds since 1970, in this run.
    pub heard_ns: Option<i64>,
    /// Whether it is read.
    pub reading: Reading,
}

/// How a sink of one stream goes.
#[derive(Debug, Clone, Serialize)]
pub struct SinkVitals {
    /// Its name and stream: `lake/features`.
    pub name: String,
    /// Rows that it was given in this run.
    pub rows: u64,
    /// It has everything up to this epoch for certain.
    pub committed: Option<u64>,
    /// Epochs that it was handed or waits for, and that are not committed.
    pub held: usize,
    /// How often it was tried again in this run.
    pub retries: u64,
    /// Why it takes no rows at the moment.
    pub trouble: Option<String>,
}

/// A place in the dataflow where epochs wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The source or step.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The worker.
    pub worker: usize,
    /// The first epoch that it is not through with.
    pub epoch: u64,
}

/// How a run goes, as one look shows it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The last epoch that was closed.
    pub closed: u64,
    /// The last that the workers were handed.
    pub dispatched: u64,
    /// The last that the sinks were given.
    pub through: u64,
    /// When that was.
    pub through_ns: Option<i64>,
    /// For how long nothing has got through though epochs wait; zero where none waits.
    pub waiting: Duration,
    /// Which computation of the pipeline it is.
    pub generation: u64,
    /// The sources.
    pub sources: Vec<SourceVitals>,
    /// The sinks.
    pub sinks: Vec<SinkVitals>,
    /// What the run did so far. Its times are those of [`busy`](Seen::busy).
    pub report: Report,
    /// How long each stage was at work.
    pub busy: BTreeMap<String, Duration>,
    /// Bytes of the journal and its limit, where there is one.
    pub journal: Option<(u64, u64)>,
    /// The sink that was handed rows and has not come back, and since when.
    pub at_work: Option<(String, Duration)>,
    /// Where in the dataflow the first epoch waits that the workers are not through with.
    pub held: Option<Held>,
}

impl Vitals {
    /// Looks at it; `now_ns` is the time of the clock that the run goes by.
    #[must_use]
    pub fn look(&self, now_ns: i64) -> Seen {
        let since = |ns: i64| Duration::from_nanos(now_ns.saturating_sub(ns).max(0).unsigned_abs());
        let Progress { report, sinks } = lock(&self.progress).clone();
        let through = self.through.load(Ordering::Acquire);
        let (closed, dispatched) =
            (self.closed.load(Ordering::Acquire), self.dispatched.load(Ordering::Acquire));
        let waits = closed > through;
        let at_work = lock(&self.at_work).clone();
        Seen {
            closed,
            dispatched,
            through,
            through_ns: some(self.through_ns.load(Ordering::Acquire)),
            waiting: match some(self.waiting_since_ns.load(Ordering::Acquire)) {
                Some(ns) if waits => since(ns),
                _ => Duration::ZERO,
            },
            generation: self.generation.load(Ordering::Acquire),
            sources: self.sources(),
            sinks,
            report,
            busy: lock(&self.busy).clone(),
            journal: self.journal.get().map(|(b, limit)| (b.load(Ordering::Acquire), *limit)),
            at_work: at_work.map(|w| (w.name, since(w.since_ns))),
            held: self.held(dispatched),
        }
    }

    /// The last epoch that the sinks were given.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through.load(Ordering::Acquire)
    }

    /// The dead letters `of` which it is true, newest first, behind the one with the number `before`; at most `limit`.
    #[must_use]
    pub fn dead_letters(
        &self,
        before: Option<u64>,
        limit: usize,
        of: impl Fn(&Dead) -> bool,
    ) -> Vec<Dead> {
        let letters = lock(&self.dead);
        let behind = letters.kept.iter().rev().filter(|d| before.is_none_or(|n| d.number < n));
        behind.filter(|d| of(d)).take(limit).cloned().collect()
    }

    /// From now on it is kept how long each epoch takes, for [`Vitals::take_epochs`].
    pub fn trace(&self) {
        lock(&self.epochs).is_traced = true;
    }

    /// The epochs that got through since this was called last, oldest first; of many the last ones.
    pub fn take_epochs(&self) -> Vec<EpochVitals> {
        lock(&self.epochs).through.drain(..).collect()
    }

    fn sources(&self) -> Vec<SourceVitals> {
        let Some(shape) = self.shape.get() else { return Vec::new() };
        let of = |(node, s): (&Node, &SourceState)| SourceVitals {
            name: node.name.clone(),
            // A count may well be 0.
            watermark: Some(s.watermark.load(Ordering::Acquire)).filter(|at| *at != i64::MIN),
            is_utc: s.domain == TimeDomain::UtcNanos,
            is_relation: s.is_relation,
            heard_ns: some(s.heard_ns.load(Ordering::Acquire)),
            reading: usize::try_from(s.state.load(Ordering::Acquire))
                .ok()
                .and_then(|at| Reading::ALL.get(at).copied())
                .unwrap_or(Reading::Read),
        };
        shape.nodes.iter().zip(&shape.sources).map(of).collect()
    }

    /// The node that the first epoch waits in. On a worker everything below a node waits with it, and other workers wait for
    /// its rows with a later epoch; so it is the first in the order of the graph among those that are furthest behind.
    fn held(&self, dispatched: u64) -> Option<Held> {
        let shape = self.shape.get()?;
        let mut held: Option<(u64, usize, usize)> = None;
        for (worker, reached) in shape.reached.iter().enumerate() {
            for (node, epoch) in reached.iter().enumerate() {
                let place = (epoch.load(Ordering::Acquire).max(shape.first - 1), node, worker);
                // Steps are listed behind what they read.
                if held.is_none_or(|h| (place.0, place.1) < (h.0, h.1)) {
                    held = Some(place);
                }
            }
        }
        let (epoch, node, worker) = held.filter(|(epoch, ..)| *epoch < dispatched)?;
        let Node { name, kind, .. } = shape.nodes[node].clone();
        Some(Held { name, kind, worker, epoch: epoch + 1 })
    }

    /// What each source and step reads, by name, in the order of the graph.
    #[must_use]
    pub fn reads(&self) -> Vec<(String, Vec<String>)> {
        let Some(shape) = self.shape.get() else { return Vec::new() };
        let names = |inputs: &[usize]| -> Vec<String> {
            inputs.iter().map(|&i| shape.nodes[i].name.clone()).collect()
        };
        shape.nodes.iter().map(|n| (n.name.clone(), names(&n.inputs))).collect()
    }
}

/// What the parts of a run say.
impl Vitals {
    /// A run begins behind the epoch `after`.
    pub(crate) fn begin(&self, graph: &Graph, workers: usize, after: u64, generation: u64) {
        let sources = graph.sources.len();
        let input = |stream: &StreamId| match stream {
            StreamId::Source(i) | StreamId::Versions(i) => Some(*i),
            StreamId::Step(i) => Some(sources + i),
            _ => None,
        };
        let nodes = graph.sources.iter().map(|s| (&s.name, "source", Vec::new()));
        let steps = graph
            .steps
            .iter()
            .map(|s| (&s.name, s.kind, s.inputs.iter().filter_map(input).collect()));
        let nodes: Vec<Node> = nodes
            .chain(steps)
            .map(|(name, kind, inputs)| Node { name: name.clone(), kind, inputs })
            .collect();
        let reached = (0..workers).map(|_| nodes.iter().map(|_| AtomicU64::new(after)).collect());
        let states = graph.sources.iter().map(|s| SourceState {
            domain: s.schema.domain(),
            is_relation: matches!(s.front, Front::Relation(_)),
            watermark: AtomicI64::new(i64::MIN),
            heard_ns: AtomicI64::new(i64::MIN),
            state: AtomicU64::new(0),
        });
        let shape = Shape {
            sources: states.collect(),
            reached: reached.collect(),
            nodes,
            first: after + 1,
        };
        self.through.store(after, Ordering::Release);
        self.through_ns.store(i64::MIN, Ordering::Release);
        self.waiting_since_ns.store(i64::MIN, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        // One belongs to one run: of a second only the first is shown.
        self.shape.set(shape).ok();
    }

    pub(crate) fn keeps_journal(&self, bytes: &Arc<AtomicU64>, limit: u64) {
        self.journal.get_or_init(|| (Arc::clone(bytes), limit));
    }

    /// The epoch `id` is closed.
    pub(crate) fn close(&self, id: u64, now_ns: i64) {
        let before = self.closed.fetch_max(id, Ordering::AcqRel);
        if before <= self.through.load(Ordering::Acquire) {
            self.waiting_since_ns.store(now_ns, Ordering::Release);
        }
        let mut epochs = lock(&self.epochs);
        if epochs.is_traced && id > before {
            bounded(&mut epochs.closed, (id, now_ns));
        }
    }

    pub(crate) fn dispatch(&self, id: u64) {
        self.dispatched.fetch_max(id, Ordering::AcqRel);
    }

    /// A worker is through with `epoch` in a source's ordering, or in a step.
    pub(crate) fn reach(&self, worker: usize, node: usize, epoch: u64) {
        let cell = self.shape.get().and_then(|s| s.reached.get(worker)).and_then(|w| w.get(node));
        if let Some(cell) = cell {
            cell.fetch_max(epoch, Ordering::AcqRel);
        }
    }

    pub(crate) fn watermark(&self, source: usize, at: i64) {
        if at != i64::MAX
            && let Some(state) = self.shape.get().and_then(|s| s.sources.get(source))
        {
            state.watermark.fetch_max(at, Ordering::AcqRel);
        }
    }

    pub(crate) fn hear(&self, source: usize, now_ns: i64) {
        if let Some(state) = self.shape.get().and_then(|s| s.sources.get(source)) {
            state.heard_ns.store(now_ns, Ordering::Release);
        }
    }

    pub(crate) fn reading(&self, source: usize, reading: Reading) {
        if let Some(state) = self.shape.get().and_then(|s| s.sources.get(source)) {
            let at = Reading::ALL.iter().position(|r| *r == reading).unwrap_or(0);
            state.state.store(at as u64, Ordering::Release);
        }
    }

    /// A sink is handed something, or has come back.
    pub(crate) fn hands(&self, sink: Option<&str>, now_ns: i64) {
        let work = sink.map(|name| AtWork { name: name.to_owned(), since_ns: now_ns });
        *lock(&self.at_work) = work;
    }

    /// The sinks were given an epoch.
    pub(crate) fn conclude(&self, epoch: u64, now_ns: i64) {
        self.through.fetch_max(epoch, Ordering::AcqRel);
        self.through_ns.store(now_ns, Ordering::Release);
        self.waiting_since_ns.store(now_ns, Ordering::Release);
        let mut epochs = lock(&self.epochs);
        while let Some(&(id, closed_ns)) = epochs.closed.front().filter(|(id, _)| *id <= epoch) {
            epochs.closed.pop_front();
            let through = EpochVitals { epoch: id, closed_ns, through_ns: now_ns };
            bounded(&mut epochs.through, through);
        }
    }

    pub(crate) fn tell(&self, report: &Report, sinks: Vec<SinkVitals>) {
        *lock(&self.progress) = Progress { report: report.clone(), sinks };
    }

    /// Rows of `epoch` could not be used; `about` says the source and the place of each.
    pub(crate) fn bury(
        &self,
        epoch: u64,
        letters: &[DeadLetter],
        about: impl Fn(&DeadLetter) -> About,
    ) {
        if letters.is_empty() {
            return;
        }
        let skipped = letters.len().saturating_sub(DEAD_LETTERS_MAX);
        let mut kept = lock(&self.dead);
        kept.next += skipped as u64;
        for letter in &letters[skipped..] {
            kept.push(epoch, letter, about(letter));
        }
    }
}

/// Epochs that are kept while nobody takes them: a minute of short ones.
const EPOCHS_MAX: usize = 8_192;

/// Adds one, in place of the oldest where there is no room.
fn bounded<T>(to: &mut VecDeque<T>, one: T) {
    if to.len() == EPOCHS_MAX {
        to.pop_front();
    }
    to.push_back(one);
}

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dead {
    /// Its number: later ones have greater.
    #[serde(skip)]
    pub number: u64,
    /// The epoch that it came in.
    pub epoch: u64,
    /// The source or step that could not use it.
    pub operator: String,
    /// The source that it came from, if there is only one that it can be.
    pub source: Option<String>,
    /// Why, as a word.
    pub reason: &'static str,
    /// Why, as a sentence.
    pub detail: String,
    /// Its key.
    pub key: Option<String>,
    /// Its event time, in the unit of the source's.
    pub event_time: Option<i64>,
    /// The file, object or topic that it came from.
    pub file: Option<String>,
    /// Its line or number there.
    pub line: Option<u64>,
    /// The first bytes of it as it came, as text.
    pub original: Option<String>,
}

/// Where a dead letter came from: its source, and there the file and line.
pub(crate) type About = (Option<String>, Option<(String, u64)>);

/// The last dead letters.
#[derive(Debug, Default)]
struct Letters {
    kept: VecDeque<Dead>,
    bytes: usize,
    next: u64,
}

impl Letters {
    fn push(&mut self, epoch: u64, letter: &DeadLetter, (source, place): About) {
        let (file, line) = place.unzip();
        let original = letter.original.as_deref();
        let original = original.map(|o| &o[..o.len().min(ORIGINAL_BYTES)]);
        let mut detail = letter.detail.clone();
        if detail.len() > DETAIL_BYTES {
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES));
        }
        let dead = Dead {
            number: self.next,
            epoch,
            operator: letter.operator.to_string(),
            source,
            reason: letter.reason.0,
            detail,
            key: letter.key.clone(),
            event_time: letter.time,
            file,
            line,
            original: original.map(|o| String::from_utf8_lossy(o).into_owned()),
        };
        self.next += 1;
        self.bytes += dead.bytes();
        self.kept.push_back(dead);
        while self.kept.len() > DEAD_LETTERS_MAX || self.bytes > DEAD_LETTERS_BYTES {
            match self.kept.pop_front() {
                Some(gone) => self.bytes -= gone.bytes(),
                None => break,
            }
        }
    }
}

impl Dead {
    fn bytes(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        size_of::<Dead>()
            + self.operator.len()
            + self.detail.len()
            + text(&self.source)
            + text(&self.key)
            + text(&self.file)
            + text(&self.original)
    }
}

impl Seen {
    /// What a source or step did in this run.
    #[must_use]
    pub fn of_run(&self, name: &str) -> Account {
        let total = self.report.accounts.get(name).copied().unwrap_or_default();
        let before = self.report.before.get(name).copied().unwrap_or_default();
        total.since(&before)
    }
}

fn some(ns: i64) -> Option<i64> {
    // Zero is what was never written, and a time that no run has.
    (ns != i64::MIN && ns != 0).then_some(ns)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dead::Reason;

    fn letter(n: usize) -> DeadLetter {
        DeadLetter {
            operator: Arc::from("readings"),
            original: Some(vec![b'x'; 5_000]),
            ..DeadLetter::new(Reason::BAD_VALUE, format!("value {n}"))
        }
    }

    #[test]
    fn epochs_are_traced_where_somebody_wants_it() {
        let vitals = Vitals::default();
        vitals.close(1, 1_000);
        vitals.conclude(1, 2_000);
        assert_eq!(vitals.take_epochs(), []);
        vitals.trace();
        (2..5).for_each(|id| vitals.close(id, 1_000 * i64::try_from(id).unwrap()));
        // Told again, by whoever dispatches it.
        vitals.close(2, 5_000);
        vitals.conclude(3, 9_000);
        let of = |epoch, closed_ns| EpochVitals { epoch, closed_ns, through_ns: 9_000 };
        assert_eq!(vitals.take_epochs(), [of(2, 2_000), of(3, 3_000)]);
        assert_eq!(vitals.take_epochs(), [], "once");
    }

    #[test]
    fn the_last_dead_letters_are_kept_newest_first() {
        let vitals = Vitals::default();
        let letters: Vec<_> = (0..DEAD_LETTERS_MAX + 5).map(letter).collect();
        vitals.bury(1, &letters[..3], |_| (None, None));
        vitals.bury(2, &letters, |_| (Some("readings".to_owned()), Some(("a.csv".to_owned(), 7))));
        let page = vitals.dead_letters(None, 2, |_| true);
        assert_eq!(page[0].detail, format!("value {}", DEAD_LETTERS_MAX + 4));
        assert_eq!(page[0].original.as_ref().unwrap().len(), ORIGINAL_BYTES);
        let behind = vitals.dead_letters(Some(page[1].number), 1, |_| true);
        assert_eq!(behind[0].number, page[1].number - 1);
        assert_eq!(vitals.dead_letters(None, 9, |d| d.epoch == 1), []);
        let all = vitals.dead_letters(None, usize::MAX, |_| true);
        assert!(all.iter().map(Dead::bytes).sum::<usize>() <= DEAD_LETTERS_BYTES);
        assert!(!all.is_empty() && all.len() <= DEAD_LETTERS_MAX);
    }

    #[test]
    fn what_holds_the_frontier_back_is_the_first_that_is_furthest_behind() {
        let node = |name: &str, kind, inputs: &[usize]| Node {
            name: name.to_owned(),
            kind,
            inputs: inputs.to_vec(),
        };
        let at = |epochs: [u64; 3]| epochs.map(AtomicU64::new).into_iter().collect();
        let vitals = Vitals::default();
        let nodes = vec![
            node("readings", "source", &[]),
            node("rms", "window", &[0]),
            node("rul", "model", &[1]),
        ];
        // Worker 1 is in its model; worker 0 waits for what it would send of the next epoch.
        let reached = vec![at([8, 8, 8]), at([8, 8, 7])];
        vitals.shape.set(Shape { nodes, sources: Vec::new(), reached, first: 5 }).unwrap();
        vitals.dispatch(9);
        let held = vitals.look(0).held.unwrap();
        assert_eq!((&*held.name, held.kind, held.worker, held.epoch), ("rul", "model", 1, 8));
        // All that follows a step waits with it, and the step is what is named.
        vitals.dispatch(10);
        for (worker, node) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)] {
            vitals.reach(worker, node, 10);
        }
        assert_eq!(vitals.look(0).held.unwrap().name, "rms");
        vitals.reach(1, 1, 10);
        assert_eq!(vitals.look(0).held, None);
        let reads: Vec<_> =
            vitals.reads().into_iter().map(|(name, reads)| (name, reads.join(","))).collect();
        assert_eq!(reads[2], ("rul".to_owned(), "rms".to_owned()));
    }

    #[test]
    fn nothing_waits_where_all_that_is_closed_is_through() {
        let vitals = Vitals::default();
        vitals.close(1, 1_000);
        assert_eq!(vitals.look(4_000).waiting, Duration::from_nanos(3_000));
        vitals.conclude(1, 5_000);
        assert_eq!(vitals.look(9_000).waiting, Duration::ZERO);
        vitals.close(2, 9_000);
        vitals.close(3, 9_500);
        assert_eq!(vitals.look(10_000).waiting, Duration::from_nanos(1_000));
    }
}
