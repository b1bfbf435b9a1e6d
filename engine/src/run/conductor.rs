//! Closes epochs and feeds them to the workers.
//!
//! With a journal an epoch goes to the workers only when the journal has it for certain. What earlier runs left in the
//! journal goes first, cut as it was then, and does not keep the sources waiting. While the sinks take nothing, sources
//! that cannot send again are read on into the journal, and what that gives waits in the [`Backlog`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::crash::crash_point;
use crate::epoch::{Epoch, InputRange, SourceId};
use crate::graph::{Front, SourceNode};
use crate::hold::Hold;
use crate::run::backlog::Backlog;
use crate::run::hub::Places;
use crate::run::journalist::{Durable, Entry, Log};
use crate::run::ledger::{Failure, Snapshot, Told};
use crate::run::recovery::{Blocks, Known, Replayer};
use crate::run::snapshots::{Facts, Gate};
use crate::run::worker::{Order, Share};
use crate::run::{Options, RunError};
use crate::snapshot::{block_of, partitions_in};
use crate::source::{Chunk, KnownPartition, Partition, Poll, Range, ReadUpTo, Replay};
use crate::vitals::{Reading, Vitals};

/// Most bytes asked of a source at a time. Small enough that an epoch has chunks for every worker, large enough
/// that a read costs little beside the parsing of what it brought.
const CHUNK_BYTES: usize = 512 * 1024;
/// Least bytes that are asked for; a disk reads no fewer.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// How many bytes a short record has. Chunks are no longer than an epoch of such, so that small epochs can be had.
const RECORD_BYTES: usize = 64;
/// An epoch closes when it holds so many bytes, however few rows they are. With 8 epochs in flight it bounds what
/// undecoded input takes at 256 MiB.
const EPOCH_BYTES: usize = 32 << 20;
/// Most bytes of records that wait, journaled and undecoded, until their source releases them.
const HELD_BYTES_MAX: u64 = 256 << 20;
/// They take at most this part of the journal, which cannot be trimmed below them.
const HELD_SHARE_OF_JOURNAL: u64 = 4;
/// How long to wait when no source has anything.
const PAUSE: Duration = Duration::from_millis(1);
/// How often it is said that the sinks are behind.
const TELL_EVERY_NS: i64 = 10_000_000_000;
/// A clock that is set back by at most this stands still.
const SET_BACK_NS: i64 = 600_000_000_000;
/// How often silent keys are told of the clock when no rows come.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait for room before looking whether the run is to end.
const PATIENCE: Duration = Duration::from_millis(20);

/// Polls the sources and cuts epochs.
pub(crate) struct Conductor {
    pub sources: Vec<SourceNode>,
    pub orders: Vec<Sender<Order>>,
    pub done: Receiver<u64>,
    pub places: Places,
    pub failure: Arc<Failure>,
    pub vitals: Arc<Vitals>,
    pub options: Options,
    /// What makes epochs durable, if anything does.
    pub keeping: Option<Keeping>,
    pub cut: Cut,
    pub phase: Phase,
}

/// The durable side of a run.
pub(crate) struct Keeping {
    pub log: Log,
    pub snapshots: Gate,
    pub journal_limit_bytes: u64,
}

/// Which epochs there are.
pub(crate) struct Cut {
    /// The last epoch that was closed.
    closed: u64,
    /// The latest time that an epoch was given.
    clock_ns: i64,
    /// The last epoch that is with the sinks.
    through: u64,
    /// The last epoch that is with the workers.
    dispatched: u64,
    /// Closed, but not yet with the workers.
    backlog: Backlog,
    /// When something was last said about the backlog, or it was last empty.
    told_ns: Option<i64>,
    has_told: bool,
    /// By source and partition.
    known: Known,
    /// The blocks of partitions of which the last snapshot does not say what is known.
    news: Blocks,
    ended: BTreeSet<usize>,
    /// Journaled, but held back by their sources, in the order in which they came.
    held: VecDeque<(usize, Arc<Chunk>)>,
    held_bytes: u64,
}

impl Cut {
    /// The epochs of `range` are closed, and the first of them is with the sinks; `ended` sources have nothing more.
    pub(crate) fn after(
        range: RangeInclusive<u64>,
        ended: &BTreeSet<SourceId>,
        known: Known,
        news: Blocks,
        backlog: Backlog,
    ) -> Self {
        Cut {
            closed: *range.end(),
            clock_ns: i64::MIN,
            through: *range.start(),
            dispatched: *range.start(),
            backlog,
            told_ns: None,
            has_told: false,
            known,
            news,
            ended: ended.iter().map(|s| s.0 as usize).collect(),
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// The clock was that far.
    pub(crate) fn goes_on_from(&mut self, clock_ns: i64) {
        self.clock_ns = self.clock_ns.max(clock_ns);
    }

    fn hold(&mut self, source: usize, chunk: Arc<Chunk>) {
        self.held_bytes += chunk.payload.len() as u64;
        self.held.push_back((source, chunk));
    }

    fn hold_no_more(&mut self, at: usize) -> Option<(usize, Arc<Chunk>)> {
        let (source, chunk) = self.held.remove(at)?;
        self.held_bytes -= chunk.payload.len() as u64;
        Some((source, chunk))
    }

    /// Notes how far an epoch has read.
    fn note(&mut self, epoch: &Epoch) {
        self.clock_ns = self.clock_ns.max(epoch.clock_ns);
        for input in &epoch.inputs {
            let key = (input.source.0 as usize, input.partition);
            if let Some(known) = self.known.get_mut(&key) {
                let Range { end, end_ordinal, .. } = input.range;
                known.read = Some(ReadUpTo { end, end_ordinal });
                self.news.insert((key.0, block_of(key.1)));
            }
        }
        self.ended.extend(epoch.ended.iter().map(|s| s.0 as usize));
    }

    /// Notes a partition that was not there before.
    fn meet(&mut self, source: usize, known: KnownPartition) {
        self.news.insert((source, block_of(known.partition)));
        self.known.insert((source, known.partition), known);
    }

    /// The blocks of partitions that the next snapshot has to write.
    fn take_news(&mut self, whole: bool) -> BTreeMap<(usize, u32), Vec<KnownPartition>> {
        if whole {
            self.news = self.known.keys().map(|(source, p)| (*source, block_of(*p))).collect();
        }
        let block = |(source, block): (usize, u32)| {
            let (first, last) = partitions_in(block).into_inner();
            let known = self.known.range((source, first)..=(source, last));
            ((source, block), known.map(|(_, known)| known.clone()).collect())
        };
        std::mem::take(&mut self.news).into_iter().map(block).collect()
    }
}

/// An epoch that is being filled.
#[derive(Default)]
pub(crate) struct Filling {
    rows: usize,
    bytes: usize,
    chunks: Share,
    ended: Vec<SourceId>,
}

impl Filling {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ended.is_empty()
    }

    fn push(&mut self, source: usize, chunk: Arc<Chunk>) {
        self.rows += chunk.rows;
        self.bytes += chunk.payload.len();
        self.chunks.push((source, chunk));
    }
}

/// Which sources are polled.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// All of them.
    Everybody,
    /// With the sinks behind, those whose records would be lost to a broker that forgets them.
    CannotWait,
    /// With a full journal, those that hold something back: what that waits for takes no room, and makes some.
    Holds,
}

/// What the conductor is at.
pub(crate) enum Phase {
    /// Feeds what the journal of another run has.
    Replaying(Replayer),
    /// Takes up what is journaled, but in no epoch yet.
    Beginning(Vec<(usize, Chunk)>),
    /// Fills an epoch, since this time on the clock.
    Filling(Filling, i64),
    /// Waits until all that is closed is with the workers.
    Finishing,
    Done,
}

impl Conductor {
    /// Works until all sources have ended, the run is stopped, or it has failed; whether it was stopped.
    pub(crate) fn work(mut self) -> bool {
        while self.turn(PATIENCE) {}
        self.end()
    }

    /// Tells the workers that nothing follows; whether the run was stopped before all that its sources had was computed.
    pub(crate) fn end(self) -> bool {
        for order in &self.orders {
            order.send(Order::End).ok();
        }
        // Where sources have ended, what they said may still lie in the journal, for the next run.
        self.is_to_stop() && !(self.sources_have_ended() && self.cut.backlog.is_empty())
    }

    /// Does the next thing there is to do, waiting for it as long as `patience`; whether there is more.
    pub(crate) fn turn(&mut self, patience: Duration) -> bool {
        self.advance(patience).unwrap_or_else(|error| {
            self.failure.raise(error);
            false
        }) && !self.failure.is_raised()
    }

    fn advance(&mut self, patience: Duration) -> Result<bool, RunError> {
        self.look_for_fence()?;
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        self.phase = match phase {
            Phase::Replaying(replayer) => self.replay_one(replayer, patience)?,
            Phase::Beginning(unmarked) => self.begin_with(unmarked),
            Phase::Filling(filling, since) => self.fill(filling, since, patience)?,
            Phase::Finishing if self.cut.backlog.is_empty() => Phase::Done,
            // What only the journal has stays there for the next run.
            Phase::Finishing if self.is_to_stop() && self.cut.backlog.is_parked() => Phase::Done,
            Phase::Finishing => {
                self.rest(patience.min(PAUSE))?;
                Phase::Finishing
            }
            Phase::Done => Phase::Done,
        };
        Ok(!matches!(self.phase, Phase::Done))
    }

    fn sources_have_ended(&self) -> bool {
        let mut keep_on = (0..self.sources.len()).filter(|&source| self.keeps_on(source));
        keep_on.all(|source| self.cut.ended.contains(&source))
    }

    /// Whether the run goes on until the source ends. A relation is there for the streams, if there are any.
    fn keeps_on(&self, source: usize) -> bool {
        let serves = |s: &SourceNode| s.front.is_relation() || s.source.serves();
        !serves(&self.sources[source]) || self.sources.iter().all(serves)
    }

    fn is_to_stop(&self) -> bool {
        self.options.stop.load(Ordering::Acquire)
    }

    /// Ends the run when a newer one wants the data directory.
    fn look_for_fence(&mut self) -> Result<(), RunError> {
        let fenced = |hold: &Arc<Mutex<Hold>>| {
            hold.lock().unwrap_or_else(PoisonError::into_inner).fenced_by()
        };
        match self.options.hold.as_ref().and_then(fenced) {
            Some(run) => Err(RunError::Fenced(run)),
            None => Ok(()),
        }
    }

    /// Feeds the next epoch of another run.
    fn replay_one(
        &mut self,
        mut replayer: Replayer,
        patience: Duration,
    ) -> Result<Phase, RunError> {
        if self.is_to_stop() {
            return Ok(Phase::Done);
        }
        if !self.has_room()? {
            self.rest(patience)?;
            return Ok(Phase::Replaying(replayer));
        }
        let Some((epoch, chunks)) = replayer.next(&mut self.sources)? else {
            return Ok(Phase::Done);
        };
        self.cut.closed = epoch.id;
        self.vitals.close(epoch.id, self.options.clock.now_ns());
        self.cut.note(&epoch);
        let told = Told { epoch: Arc::new(epoch), snapshot: Snapshot::No };
        self.dispatch(&told, chunks);
        Ok(Phase::Replaying(replayer))
    }

    /// What is journaled but in no epoch yet begins the next one.
    fn begin_with(&mut self, unmarked: Vec<(usize, Chunk)>) -> Phase {
        let mut filling = Filling::default();
        for (source, chunk) in unmarked {
            if self.sources[source].source.holds_back(chunk.partition) {
                self.cut.hold(source, Arc::new(chunk));
            } else {
                filling.push(source, Arc::new(chunk));
            }
        }
        self.begin(filling)
    }

    fn begin(&self, filling: Filling) -> Phase {
        Phase::Filling(filling, self.options.clock.now_ns())
    }

    /// Whether another epoch may be in flight.
    fn has_room(&mut self) -> Result<bool, RunError> {
        self.settle()?;
        Ok(self.cut.closed - self.cut.through < self.options.epochs_in_flight as u64)
    }

    /// Whether sources are read on though there is no room: into the journal, those that it alone can save from loss.
    fn reads_on(&self) -> bool {
        self.keeping.is_some() && (0..self.sources.len()).any(|source| self.cannot_wait(source))
    }

    fn cannot_wait(&self, source: usize) -> bool {
        !self.cut.ended.contains(&source)
            && self.sources[source].source.replay() == Replay::ByPayload
    }

    /// Whether the journal has reached its limit.
    fn journal_is_full(&self) -> bool {
        self.keeping.as_ref().is_some_and(|k| k.log.full.load(Ordering::Acquire))
    }

    /// Waits for something to happen.
    fn rest(&mut self, patience: Duration) -> Result<(), RunError> {
        self.settle()?;
        // What is closed goes to the workers as soon as it is durable.
        let patience = if self.cut.backlog.is_empty() { patience } else { patience.min(PAUSE) };
        match self.done.recv_timeout(patience) {
            Ok(epoch) => self.cut.through = epoch,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        self.settle()
    }

    /// Takes chunks from the sources in turn until the epoch is full, or they have nothing more at hand and its
    /// time is up. Sources that always have more are never cut by time, so files give the same epochs each run.
    fn fill(
        &mut self,
        mut filling: Filling,
        since: i64,
        patience: Duration,
    ) -> Result<Phase, RunError> {
        let is_over = self.sources_have_ended() && self.cut.held.is_empty();
        if self.is_to_stop() || (is_over && filling.is_empty()) {
            self.finish(filling);
            return Ok(Phase::Finishing);
        }
        let has_room = self.has_room()?;
        self.tell_of_the_backlog();
        if !has_room && !self.reads_on() {
            self.not_reading(Reading::WaitsForSinks);
            self.rest(patience)?;
            return Ok(Phase::Filling(filling, since));
        }
        if self.keeping.as_ref().is_some_and(|k| k.log.is_behind()) {
            self.rest(patience.min(PAUSE))?;
            return Ok(Phase::Filling(filling, since));
        }
        let full = self.journal_is_full();
        if full {
            self.make_room();
        }
        if full && (!has_room || self.cut.held.is_empty()) {
            self.not_reading(Reading::JournalFull);
            self.rest(patience)?;
            return Ok(Phase::Filling(filling, since));
        }
        let turn = match (full, has_room) {
            (true, _) => Turn::Holds,
            (false, true) => Turn::Everybody,
            (false, false) => Turn::CannotWait,
        };
        let had = self.poll_round(&mut filling, turn)?;
        if filling.rows >= self.options.epoch_rows || filling.bytes >= EPOCH_BYTES {
            self.close(filling);
            return Ok(self.begin(Filling::default()));
        }
        if had {
            return Ok(Phase::Filling(filling, since));
        }
        let age = self.options.clock.now_ns().saturating_sub(since).unsigned_abs();
        let due = u128::from(age) >= self.options.epoch_interval.as_nanos();
        if !filling.is_empty() && (due || !filling.ended.is_empty()) {
            self.close(filling);
            return Ok(self.begin(Filling::default()));
        }
        self.rest(patience.min(PAUSE))?;
        if !filling.is_empty() {
            return Ok(Phase::Filling(filling, since));
        }
        if self.snapshot_is_due() {
            self.close(filling);
            return Ok(self.begin(Filling::default()));
        }
        if self.clock_matters() && Duration::from_nanos(age) >= TICK {
            // Silent keys go on with the clock, and an epoch is how they are told of it.
            self.close(filling);
            return Ok(self.begin(Filling::default()));
        }
        let since = if self.clock_matters() { since } else { self.options.clock.now_ns() };
        Ok(Phase::Filling(filling, since))
    }

    /// Whether rows wait in the sinks for a snapshot, and no epoch with more of them is to come by itself.
    fn snapshot_is_due(&self) -> bool {
        let now = self.options.clock.now_ns();
        self.keeping.as_ref().is_some_and(|k| k.snapshots.is_due(self.cut.closed, now))
    }

    /// Whether an epoch without rows may have results.
    fn clock_matters(&self) -> bool {
        let by_clock = |s: &SourceNode| match &s.front {
            Front::Stream(order) => order.idle_timeout_ns.is_some(),
            Front::Relation(rules) => rules.valid_from.is_some(),
        };
        self.sources.iter().any(by_clock)
    }

    /// Has each source that has not ended, and whose turn it is, polled once; whether one of them had something.
    fn poll_round(&mut self, filling: &mut Filling, turn: Turn) -> Result<bool, RunError> {
        // A source that ends must not do so before what it held back.
        if self.release(filling) {
            return Ok(true);
        }
        let mut had = false;
        let must_wait = self.sources.iter().any(|s| s.front.is_relation() && !s.source.is_there());
        for source in 0..self.sources.len() {
            if must_wait && !self.sources[source].front.is_relation() {
                self.vitals.reading(source, Reading::WaitsForReference);
                continue;
            }
            let its = match turn {
                Turn::Everybody => true,
                Turn::CannotWait => self.cannot_wait(source),
                Turn::Holds => self.cut.held.iter().any(|(of, _)| *of == source),
            };
            self.vitals.reading(source, self.reading(source, its, turn));
            if its && !self.cut.ended.contains(&source) {
                had |= self.poll(source, filling)?;
            }
            if filling.rows >= self.options.epoch_rows || filling.bytes >= EPOCH_BYTES {
                break;
            }
        }
        Ok(had)
    }

    /// Whether a source is read, for readers of the vitals.
    fn reading(&self, source: usize, its: bool, turn: Turn) -> Reading {
        match turn {
            _ if self.cut.ended.contains(&source) => Reading::Ended,
            _ if its => Reading::Read,
            Turn::Holds => Reading::JournalFull,
            Turn::Everybody | Turn::CannotWait => Reading::WaitsForSinks,
        }
    }

    /// Says of all sources why they are not read.
    fn not_reading(&self, why: Reading) {
        for source in 0..self.sources.len() {
            let ended = self.cut.ended.contains(&source);
            self.vitals.reading(source, if ended { Reading::Ended } else { why });
        }
    }

    /// Takes what its source no longer holds back into the epoch, until that is full; whether there was something.
    fn release(&mut self, filling: &mut Filling) -> bool {
        let (mut had, mut at) = (false, 0);
        while filling.rows < self.options.epoch_rows
            && filling.bytes < EPOCH_BYTES
            && let Some((source, chunk)) = self.cut.held.get(at)
        {
            if self.sources[*source].source.holds_back(chunk.partition) {
                at += 1;
            } else if let Some((source, chunk)) = self.cut.hold_no_more(at) {
                had = true;
                filling.push(source, chunk);
            }
        }
        had
    }

    /// Bytes that may still be held back.
    fn room_to_hold(&self) -> u64 {
        let limit = self.keeping.as_ref().map_or(u64::MAX, |k| k.journal_limit_bytes);
        let room = HELD_BYTES_MAX.min(limit / HELD_SHARE_OF_JOURNAL);
        if self.journal_is_full() { 0 } else { room.saturating_sub(self.cut.held_bytes) }
    }

    /// Whether the source had something.
    fn poll(&mut self, source: usize, filling: &mut Filling) -> Result<bool, RunError> {
        let room = self.room_to_hold();
        let node = &mut self.sources[source];
        node.source.may_hold_back(room);
        let epoch_bytes = self.options.epoch_rows.saturating_mul(RECORD_BYTES);
        let polled = node.source.poll(epoch_bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES));
        match polled.map_err(|e| RunError::Source(node.name.clone(), e))? {
            Poll::Ready(chunk) => {
                self.vitals.hear(source, self.options.clock.now_ns());
                self.meet(source, chunk.partition);
                let chunk = Arc::new(chunk);
                let from = &self.sources[source].source;
                let held = from.holds_back(chunk.partition);
                if from.replay_of(chunk.partition) == Replay::ByPayload {
                    self.enter(|| Entry::Input(source_id(source), Arc::clone(&chunk)));
                }
                if held {
                    self.cut.hold(source, chunk);
                } else {
                    filling.push(source, chunk);
                }
                Ok(true)
            }
            Poll::Pending => Ok(false),
            Poll::Ended => {
                self.cut.ended.insert(source);
                filling.ended.push(source_id(source));
                Ok(false)
            }
        }
    }

    /// Notes a partition when it is first seen.
    fn meet(&mut self, source: usize, partition: Partition) {
        if self.cut.known.contains_key(&(source, partition)) {
            return;
        }
        let from = &self.sources[source].source;
        let name = from.partition_name(partition).unwrap_or_default();
        let identity = from.identity(partition);
        let known = KnownPartition { partition, name: name.clone(), identity, read: None };
        self.enter(|| Entry::Partition(source_id(source), known.clone()));
        self.cut.meet(source, known);
        let mut places = self.places.lock().unwrap_or_else(|e| e.into_inner());
        places.insert((source, partition), name);
    }

    /// Gives the journal something, if there is one.
    fn enter(&self, entry: impl FnOnce() -> Entry) {
        if let Some(keeping) = &self.keeping {
            // The journal's thread is gone only when the run has failed.
            keeping.log.entries.send(entry()).ok();
        }
    }

    /// Makes it an epoch; it goes to the workers once it is durable.
    fn close(&mut self, filling: Filling) {
        let id = self.cut.closed + 1;
        let inputs = filling.chunks.iter().map(|(source, chunk)| InputRange {
            source: source_id(*source),
            partition: chunk.partition,
            range: chunk.range,
        });
        let epoch = Arc::new(Epoch {
            id,
            clock_ns: self.clock(),
            inputs: inputs.collect(),
            commands: Vec::new(),
            ended: filling.ended,
        });
        self.cut.closed = id;
        self.vitals.close(id, self.options.clock.now_ns());
        self.cut.note(&epoch);
        let snapshot = self.snapshot(&epoch);
        let chunks = filling.chunks.iter().map(|(_, chunk)| Arc::clone(chunk)).collect();
        self.enter(|| Entry::Epoch(Arc::clone(&epoch), chunks));
        let told = Told { epoch, snapshot };
        if self.keeping.is_some() {
            self.cut.backlog.push(told, filling.chunks);
        } else {
            self.dispatch(&told, filling.chunks);
        }
    }

    /// The time of the next epoch. Where the machine's clock was set back a little it stands still until that has caught
    /// up, so that the times of what follows follow, too. One that is set back further was wrong before.
    fn clock(&mut self) -> i64 {
        let now_ns = self.options.clock.now_ns();
        if self.cut.clock_ns.saturating_sub(now_ns) > SET_BACK_NS {
            tracing::warn!(
                "the clock was set back by more than ten minutes; it is believed from now on"
            );
            self.cut.clock_ns = now_ns;
        }
        self.cut.clock_ns = self.cut.clock_ns.max(now_ns);
        self.cut.clock_ns
    }

    /// Whether state is to be saved as of the end of an epoch.
    fn snapshot(&mut self, epoch: &Epoch) -> Snapshot {
        let Some(keeping) = &mut self.keeping else { return Snapshot::No };
        let cut = &mut self.cut;
        let facts = |whole| Facts {
            whole,
            clock_ns: epoch.clock_ns,
            partitions: cut.take_news(whole),
            ended: cut.ended.iter().map(|&s| source_id(s)).collect(),
        };
        keeping.snapshots.at(epoch.id, self.options.clock.now_ns(), facts)
    }

    /// Takes note of what was done, and hands on what has become durable.
    fn settle(&mut self) -> Result<(), RunError> {
        while let Ok(epoch) = self.done.try_recv() {
            self.cut.through = epoch;
        }
        let Some(keeping) = &self.keeping else { return Ok(()) };
        for news in keeping.log.durable.try_iter() {
            match news {
                Durable::Epoch(epoch) => self.cut.backlog.durable(epoch),
                Durable::Input(source, partition, upto) => {
                    self.sources[source.0 as usize].source.durable(partition, upto);
                }
            }
        }
        while self.may_dispatch() {
            let Some(keeping) = &self.keeping else { break };
            match self.cut.backlog.next(&keeping.log, &mut self.sources)? {
                Some((told, chunks)) => self.dispatch(&told, chunks),
                None => break,
            }
        }
        self.cut.backlog.bound();
        Ok(())
    }

    /// Whether the workers get another epoch. A run that is stopped hands on all that it has in memory.
    fn may_dispatch(&self) -> bool {
        let in_flight = self.cut.dispatched - self.cut.through;
        let ends = self.is_to_stop() && !self.cut.backlog.is_parked();
        !self.cut.backlog.is_empty() && (ends || in_flight < self.options.epochs_in_flight as u64)
    }

    /// Says now and then that the sinks are behind, and that they no longer are.
    fn tell_of_the_backlog(&mut self) {
        let Some(keeping) = &self.keeping else { return };
        let waiting = self.cut.closed - self.cut.dispatched;
        let now = self.options.clock.now_ns();
        let told = *self.cut.told_ns.get_or_insert(now);
        if !self.cut.backlog.is_parked() && waiting <= self.options.epochs_in_flight as u64 {
            if self.cut.has_told {
                tracing::warn!("the sinks have caught up with what waited in the journal");
            }
            (self.cut.told_ns, self.cut.has_told) = (None, false);
        } else if now.saturating_sub(told) >= TELL_EVERY_NS {
            let (bytes, limit) =
                (keeping.log.bytes.load(Ordering::Acquire), keeping.journal_limit_bytes);
            tracing::warn!(
                "{waiting} epochs wait in the journal for the sinks; it has {} of {} MiB",
                bytes >> 20,
                limit >> 20
            );
            (self.cut.told_ns, self.cut.has_told) = (Some(now), true);
        }
    }

    /// Hands an epoch to the workers, its chunks in turn.
    fn dispatch(&mut self, told: &Told, chunks: Share) {
        self.cut.dispatched = told.epoch.id;
        self.vitals.close(told.epoch.id, self.options.clock.now_ns());
        self.vitals.dispatch(told.epoch.id);
        let workers = self.orders.len();
        let mut shares = vec![Share::new(); workers];
        for (i, chunk) in chunks.into_iter().enumerate() {
            shares[i % workers].push(chunk);
        }
        for (order, share) in self.orders.iter().zip(shares) {
            // A worker that is gone has raised the failure that the loop above looks for.
            order.send(Order::Epoch(told.clone(), share)).ok();
        }
        crash_point("epoch dispatched");
    }

    /// Closes what is being filled, and a last epoch whose state is saved, so that the next run has nothing to replay;
    /// unless it has, because the sinks are far behind.
    fn finish(&mut self, filling: Filling) {
        if !filling.is_empty() {
            self.close(filling);
        }
        if let Some(keeping) = &mut self.keeping
            && !self.cut.backlog.is_parked()
        {
            keeping.snapshots.demand();
            self.close(Filling::default());
        }
    }

    /// Only a snapshot makes room in the journal: has one made, unless one is under way.
    fn make_room(&mut self) {
        if let Some(keeping) = &mut self.keeping
            && keeping.snapshots.is_free()
        {
            keeping.snapshots.demand();
            self.close(Filling::default());
        }
    }
}

pub(crate) fn source_id(source: usize) -> SourceId {
    SourceId(u32::try_from(source).expect("a pipeline has fewer than 2^32 sources"))
}
