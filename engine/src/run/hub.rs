//! Where the workers' rows come together: whole epochs go to the sinks, in order.
//!
//! An epoch is done when every sink has taken it. Where one cannot, all that follows waits: so few epochs are on their
//! way that the sources are soon no longer read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::account::Account;
use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::graph::{Graph, SinkNode, StreamId};
use crate::late::LateRow;
use crate::relation::{Change, ViewNode};
use crate::run::diagnostics::Origins;
use crate::run::ledger::{Failure, time_into};
use crate::run::outlet::{Expected, Outlet};
use crate::run::snapshots::{Desk, Facts, Job, SavedShard};
use crate::run::worker::{Busy, Lane, News, Wiring};
use crate::run::{Options, Report, RunError};
use crate::sink::RunId;
use crate::source::Partition;
use crate::vitals::{SinkVitals, Vitals};

/// What a person calls the partitions of each source, as far as they were read.
pub(crate) type Places = Arc<Mutex<BTreeMap<(usize, Partition), String>>>;

/// How long the hub waits for a sink before it looks whether the run is to end.
const PATIENCE: Duration = Duration::from_millis(20);

/// Rows of an epoch that is not yet through on all workers.
#[derive(Default)]
struct Pending {
    rows: BTreeMap<(usize, Lane, usize), Vec<Batch>>,
    dead: BTreeMap<usize, Vec<DeadLetter>>,
    corrected: BTreeMap<usize, Vec<LateRow>>,
    changed: BTreeMap<usize, Vec<Change>>,
    accounts: Vec<Vec<Account>>,
    states: Vec<SavedShard>,
}

/// An epoch on its way to the sinks.
struct UnderWay {
    epoch: u64,
    /// What has changed of views.
    changed: BTreeMap<usize, Vec<Change>>,
    /// What a snapshot as of its end is made from, if there is to be one.
    snapshot: Option<(Facts, Vec<SavedShard>)>,
}

/// Takes news from the workers until they are gone.
pub(crate) struct Hub {
    outlets: Vec<Outlet>,
    exits: Vec<StreamId>,
    views: Vec<ViewNode>,
    origins: Origins,
    pending: BTreeMap<u64, Pending>,
    through: Vec<u64>,
    accounts: Vec<Account>,
    report: Report,
    options: Options,
    busy: Busy,
    vitals: Arc<Vitals>,
    /// The epoch that is written next.
    next: u64,
    under_way: Option<UnderWay>,
    done: Sender<u64>,
    /// Where snapshots are made, if they are.
    snapshots: Option<Desk>,
    doorman: Doorman,
}

/// Lets readers look at the tables once they show no less than the run before did.
#[derive(Clone, Copy)]
struct Doorman {
    /// Workers whose views do not yet have what stood at the start of the run.
    waited_for: usize,
    /// The last epoch that the run before has begun.
    last_epoch: u64,
    edition: u64,
    is_open: bool,
}

/// What the sinks have of earlier runs, and what is to be kept of this one.
pub(crate) struct Before {
    /// Names of sources and steps, and for each the source that it reads, if it is only one.
    pub nodes: Vec<(String, Option<usize>)>,
    pub places: Places,
    pub busy: Busy,
    pub vitals: Arc<Vitals>,
    /// Told each epoch that is with the sinks.
    pub done: Sender<u64>,
    pub run: RunId,
    pub generation: u64,
    pub first: u64,
    /// The epoch whose state this run begins with, which every sink must have; 0 where it begins without.
    pub snapshot: u64,
    /// The last epoch that is journaled, if there is a journal.
    pub last_epoch: Option<u64>,
    pub accounts: Vec<Account>,
    pub snapshots: Option<Desk>,
}

impl Hub {
    /// Opens the sinks of `graph`, which it takes out of it.
    pub(crate) fn open(
        graph: &mut Graph,
        wiring: &Wiring,
        options: &Options,
        before: Before,
    ) -> Result<Self, RunError> {
        let expected = Expected {
            run: before.run,
            generation: before.generation,
            snapshot: before.snapshot,
            last_epoch: before.last_epoch,
        };
        let exits = wiring.exits.clone();
        let mut outlets = Vec::new();
        for SinkNode { name, from, sink } in std::mem::take(&mut graph.sinks) {
            let exit = exits.iter().position(|e| *e == from);
            let name = format!("{name}/{}", stream_name(graph, from));
            let mut outlet = Outlet::new(name, exit, sink, graph.schema(from), expected);
            // One that is not there yet is waited for when there is something to write.
            outlet.advance(options.clock.now_ns())?;
            outlets.push(outlet);
        }
        let names = before.nodes.iter().map(|(name, _)| name.clone());
        let report = Report {
            before: names.zip(before.accounts.iter().copied()).collect(),
            ..Report::default()
        };
        let mut hub = Hub {
            outlets,
            exits,
            views: graph.views.clone(),
            accounts: before.accounts,
            origins: Origins { nodes: before.nodes, places: before.places },
            pending: BTreeMap::new(),
            through: vec![before.first - 1; options.workers],
            report,
            options: options.clone(),
            busy: before.busy,
            vitals: before.vitals,
            next: before.first,
            under_way: None,
            done: before.done,
            snapshots: before.snapshots,
            doorman: Doorman {
                waited_for: options.workers,
                last_epoch: before.last_epoch.unwrap_or(0),
                edition: before.generation,
                is_open: false,
            },
        };
        // Whoever looks before the first epoch is through sees what earlier runs have done.
        hub.sum_up();
        Ok(hub)
    }

    /// Works until every worker has hung up and the sinks have everything; what the run did.
    pub(crate) fn work(mut self, news: &Receiver<News>, failure: &Failure) -> Report {
        let mut ended = false;
        loop {
            match if self.waits() { news.recv_timeout(PATIENCE) } else { wait_for(news) } {
                Ok(item) => {
                    self.note(item);
                    // All that is at hand, so that sinks get as much as there is in one commit.
                    news.try_iter().for_each(|item| self.note(item));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if ended => pause(),
                Err(RecvTimeoutError::Disconnected) => ended = true,
            }
            if !self.turn(ended, failure) {
                return self.end();
            }
        }
    }

    /// Whether a sink is waited for.
    fn waits(&self) -> bool {
        self.outlets.iter().any(|o| o.trouble().is_some())
    }

    /// Does what can be done without waiting; whether there may be more. With `ended` no more news come.
    pub(crate) fn turn(&mut self, ended: bool, failure: &Failure) -> bool {
        if failure.is_raised() {
            return !ended;
        }
        let done = self.write_complete().and_then(|all| Ok(all && ended && self.finish()?));
        self.let_readers_in();
        match done {
            Ok(true) => false,
            Ok(false) => {
                if let Some(trouble) = self.outlets.iter().find_map(Outlet::trouble)
                    && ended
                    && self.options.stop.load(Ordering::Acquire)
                {
                    // Whoever ends the run does not wait for the sink; the journal has what it lacks.
                    failure.raise(trouble);
                }
                !(ended && failure.is_raised())
            }
            Err(error) => {
                failure.raise(error);
                !ended
            }
        }
    }

    /// Brings the epochs that all workers are through with to the sinks; whether all of them got there.
    fn write_complete(&mut self) -> Result<bool, RunError> {
        let complete = self.through.iter().copied().min().unwrap_or(0);
        loop {
            let under_way = match self.under_way.take() {
                Some(under_way) => under_way,
                None if self.next > complete => return Ok(true),
                None => self.begin(self.next)?,
            };
            let epoch = under_way.epoch;
            if !self.advance(epoch, epoch == complete, under_way.snapshot.is_some())? {
                self.under_way = Some(under_way);
                self.sum_up();
                return Ok(false);
            }
            self.conclude(under_way, complete)?;
            self.done.send(epoch).ok();
            self.next += 1;
        }
    }

    /// Has the tables appear when they have what stood at the start, and all epochs of the run before. Where a sink holds those
    /// up, readers would wait as long as it is away: they see what there is.
    fn let_readers_in(&mut self) {
        let Doorman { waited_for, last_epoch, edition, is_open } = self.doorman;
        if !is_open && waited_for == 0 && (self.next > last_epoch || self.waits()) {
            self.views.iter().for_each(|view| view.table.appear(edition));
            self.doorman.is_open = true;
        }
    }

    /// Commits what is written; whether the sinks have it.
    fn finish(&mut self) -> Result<bool, RunError> {
        self.advance(self.next - 1, false, true)
    }

    /// What the run did.
    pub(crate) fn end(mut self) -> Report {
        self.sum_up();
        self.report
    }

    /// Takes in what a worker tells.
    pub(crate) fn note(&mut self, item: News) {
        match item {
            News::Rows { exit, epoch, worker, lane, rows } => {
                let pending = self.pending.entry(epoch).or_default();
                pending.rows.entry((exit, lane, worker)).or_default().push(*rows);
            }
            News::Dead { epoch, worker, letters } => {
                let pending = self.pending.entry(epoch).or_default();
                pending.dead.entry(worker).or_default().extend(letters);
            }
            News::Corrected { epoch, worker, rows } => {
                let pending = self.pending.entry(epoch).or_default();
                pending.corrected.entry(worker).or_default().extend(rows);
            }
            News::Changed { view, epoch, changes } if epoch < self.next => {
                // What stood at the start: nobody reads it before the first epoch is through.
                self.views[view].table.stand(epoch, changes);
            }
            News::Changed { view, epoch, changes } => {
                let pending = self.pending.entry(epoch).or_default();
                pending.changed.entry(view).or_default().extend(changes);
            }
            News::Stood => self.doorman.waited_for -= 1,
            News::State { epoch, node, shard, state } => {
                let pending = self.pending.entry(epoch).or_default();
                pending.states.push(SavedShard { node, shard, state });
            }
            News::Through { upto, worker, accounts } => {
                self.through[worker] = upto;
                for (epoch, accounts) in accounts {
                    let pending = self.pending.entry(epoch).or_default();
                    pending.accounts.push(accounts);
                }
            }
        }
    }

    /// Takes an epoch up: counts its rows and queues them for the sinks.
    fn begin(&mut self, epoch: u64) -> Result<UnderWay, RunError> {
        let Pending { rows, dead, corrected, changed, accounts, states } =
            self.pending.remove(&epoch).unwrap_or_default();
        for accounts in &accounts {
            for (sum, more) in self.accounts.iter_mut().zip(accounts) {
                sum.add(more);
            }
        }
        self.balance()?;
        let letters = self.origins.sorted(dead);
        self.count(&letters);
        self.vitals.bury(epoch, &letters, |letter| self.origins.about(letter));
        let mut by_exit: Vec<Vec<Batch>> = self.exits.iter().map(|_| Vec::new()).collect();
        // In the order of the map: new before revised, and by worker, which is by key hash.
        for ((exit, _, _), batches) in rows {
            by_exit[exit].extend(batches);
        }
        if let Some(exit) = self.exit(StreamId::DeadLetters) {
            by_exit[exit].extend(self.origins.dead_letters(&letters));
        }
        if let Some(exit) = self.exit(StreamId::Late) {
            by_exit[exit].extend(self.origins.late(epoch, corrected, &letters));
        }
        for outlet in &mut self.outlets {
            let rows = outlet.exit.map_or(&[] as &[Batch], |e| &by_exit[e]);
            outlet.take(epoch, rows);
        }
        let facts = self.snapshots.as_ref().and_then(|desk| desk.facts(epoch));
        Ok(UnderWay { epoch, changed, snapshot: facts.map(|facts| (facts, states)) })
    }

    /// Brings what is queued to the sinks; whether all of them have taken it, and committed it where that is due: always
    /// with `commit`, and with `last`, when nothing more is at hand, where people look at the rows.
    fn advance(&mut self, epoch: u64, last: bool, commit: bool) -> Result<bool, RunError> {
        let mut all = true;
        for outlet in &mut self.outlets {
            if commit {
                outlet.want(epoch);
            }
            if last {
                outlet.pause_after(epoch);
            }
            let stage = format!("{} sink", outlet.name);
            let now_ns = self.options.clock.now_ns();
            self.vitals.hands(Some(&outlet.name), now_ns);
            let done = time_into(&self.busy, stage, || outlet.advance(now_ns));
            self.vitals.hands(None, now_ns);
            all &= done?;
        }
        Ok(all)
    }

    /// What follows when the sinks have an epoch.
    fn conclude(&mut self, under_way: UnderWay, complete: u64) -> Result<(), RunError> {
        let UnderWay { epoch, mut changed, snapshot } = under_way;
        for (i, view) in self.views.iter().enumerate() {
            view.table.apply(epoch, changed.remove(&i).unwrap_or_default());
            let (rows, limit) = (view.table.len(), view.max_rows);
            if rows > limit {
                return Err(RunError::View { view: view.name.clone(), rows, limit });
            }
        }
        if let Some((facts, states)) = snapshot {
            self.snapshot(epoch, facts, states);
        }
        self.report.epochs += 1;
        self.vitals.conclude(epoch, self.options.clock.now_ns());
        if epoch == complete {
            self.sum_up();
            if let Some(observer) = &self.options.observer {
                observer.epoch(epoch, &self.report);
            }
        }
        Ok(())
    }

    /// Every row that came into a source or step is accounted for, over all workers.
    fn balance(&self) -> Result<(), RunError> {
        for (account, (name, _)) in self.accounts.iter().zip(&self.origins.nodes) {
            if !account.balances() {
                return Err(RunError::Engine(format!(
                    "'{name}' does not account for every row (a bug): {account:?}"
                )));
            }
        }
        Ok(())
    }

    fn exit(&self, stream: StreamId) -> Option<usize> {
        self.exits.iter().position(|e| *e == stream)
    }

    /// Counts dead letters by operator and reason.
    fn count(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            let reasons = self.report.dead.entry(letter.operator.to_string()).or_default();
            *reasons.entry(letter.reason.to_string()).or_default() += 1;
        }
    }

    /// Has a snapshot made as of the end of `epoch`, which the sinks have committed.
    fn snapshot(&self, epoch: u64, facts: Facts, states: Vec<SavedShard>) {
        let names = self.origins.nodes.iter().map(|(name, _)| name.clone());
        let accounts = names.zip(self.accounts.clone());
        let sinks = self.outlets.iter().filter_map(|o| Some((o.name.clone(), o.committed?)));
        let job =
            Job { epoch, states, facts, accounts: accounts.collect(), sinks: sinks.collect() };
        if let Some(desk) = &self.snapshots {
            desk.make(job);
        }
    }

    fn sum_up(&mut self) {
        for (account, (name, _)) in self.accounts.iter().zip(&self.origins.nodes) {
            self.report.accounts.insert(name.clone(), *account);
        }
        for outlet in &self.outlets {
            self.report.written.insert(outlet.name.clone(), outlet.written);
            self.report.retries.insert(outlet.name.clone(), outlet.retries);
            let reasons = outlet.left_out().into_iter().filter(|(_, n)| *n > 0);
            let reasons: BTreeMap<String, u64> =
                reasons.map(|(reason, n)| (reason.to_owned(), n)).collect();
            if !reasons.is_empty() {
                self.report.left_out.insert(outlet.name.clone(), reasons);
            }
        }
        self.vitals.tell(&self.report, self.outlets.iter().map(vitals_of).collect());
    }
}

fn vitals_of(outlet: &Outlet) -> SinkVitals {
    SinkVitals {
        name: outlet.name.clone(),
        rows: outlet.written,
        committed: outlet.committed,
        held: outlet.held(),
        retries: outlet.retries,
        trouble: outlet.trouble_text(),
    }
}

fn stream_name(graph: &Graph, stream: StreamId) -> String {
    match stream {
        StreamId::Source(i) | StreamId::Versions(i) => graph.sources[i].name.clone(),
        StreamId::Step(i) => graph.steps[i].name.clone(),
        StreamId::View(i) => graph.views[i].name.clone(),
        StreamId::Log(i) => format!("{}.changes", graph.views[i].name),
        StreamId::DeadLetters => "dead_letters".to_owned(),
        StreamId::Late => "late".to_owned(),
    }
}

fn wait_for(news: &Receiver<News>) -> Result<News, RecvTimeoutError> {
    news.recv().map_err(|_| RecvTimeoutError::Disconnected)
}

/// Waits a little while when there is nobody who could tell of anything.
fn pause() {
    crossbeam_channel::never::<()>().recv_timeout(PATIENCE).ok();
}
