//! Where the workers' rows come together: whole epochs go to the sinks, in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};

use crate::account::Account;
use crate::batch::Batch;
use crate::crash::crash_point;
use crate::dead::DeadLetter;
use crate::graph::{Graph, SinkNode, StreamId};
use crate::late::LateRow;
use crate::run::diagnostics::Origins;
use crate::run::ledger::{Failure, time_into};
use crate::run::snapshots::{Desk, Job, SavedShard};
use crate::run::worker::{Busy, Lane, News, Wiring};
use crate::run::{Observer, Options, Report, RunError};
use crate::sink::{Committed, RunId, Sink, SinkError};
use crate::source::Partition;

/// What a person calls the partitions of each source, as far as they were read.
pub(crate) type Places = Arc<Mutex<BTreeMap<(usize, Partition), String>>>;

/// A sink with the stream it takes.
struct Outlet {
    name: String,
    exit: Option<usize>,
    sink: Box<dyn Sink>,
    written: u64,
    /// The sink has everything up to here from before.
    has: Option<u64>,
    /// The sink has everything up to here.
    committed: Option<u64>,
}

/// Rows of an epoch that is not yet through on all workers.
#[derive(Default)]
struct Pending {
    rows: BTreeMap<(usize, Lane, usize), Vec<Batch>>,
    dead: BTreeMap<usize, Vec<DeadLetter>>,
    corrected: BTreeMap<usize, Vec<LateRow>>,
    accounts: Vec<Vec<Account>>,
    states: Vec<SavedShard>,
}

/// Takes news from the workers until they are gone.
pub(crate) struct Hub {
    outlets: Vec<Outlet>,
    exits: Vec<StreamId>,
    origins: Origins,
    pending: BTreeMap<u64, Pending>,
    through: Vec<u64>,
    accounts: Vec<Account>,
    report: Report,
    observer: Option<Arc<dyn Observer>>,
    busy: Busy,
    /// The epoch that is written next.
    next: u64,
    done: Sender<u64>,
    /// Where snapshots are made, if they are.
    snapshots: Option<Desk>,
}

/// What the sinks have of earlier runs, and what is to be kept of this one.
pub(crate) struct Before {
    /// Names of sources and steps, and for each the source that it reads, if it is only one.
    pub nodes: Vec<(String, Option<usize>)>,
    pub places: Places,
    pub busy: Busy,
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
        let mut outlets = Vec::new();
        let exits = wiring.exits.clone();
        for SinkNode { name, from, mut sink } in std::mem::take(&mut graph.sinks) {
            let has = sink
                .open(before.run, before.generation, &graph.schema(from))
                .map_err(|e| RunError::Sink(name.clone(), e))?;
            let exit = exits.iter().position(|e| *e == from);
            let name = format!("{name}/{}", stream_name(graph, from));
            let snapshot = before.snapshot;
            if has.unwrap_or(0) < snapshot {
                let kept = format!("the snapshot is of epoch {snapshot}");
                return Err(RunError::SinkDiffers { sink: name, has: has.unwrap_or(0), kept });
            }
            if let (Some(has), Some(last)) = (has, before.last_epoch)
                && has > last
            {
                let kept = format!("the journal ends at epoch {last}");
                return Err(RunError::SinkDiffers { sink: name, has, kept });
            }
            outlets.push(Outlet { name, exit, sink, written: 0, has, committed: has });
        }
        let names = before.nodes.iter().map(|(name, _)| name.clone());
        let report = Report {
            before: names.zip(before.accounts.iter().copied()).collect(),
            ..Report::default()
        };
        Ok(Hub {
            outlets,
            exits,
            accounts: before.accounts,
            origins: Origins { nodes: before.nodes, places: before.places },
            pending: BTreeMap::new(),
            through: vec![before.first - 1; options.workers],
            report,
            observer: options.observer.clone(),
            busy: before.busy,
            next: before.first,
            done: before.done,
            snapshots: before.snapshots,
        })
    }

    /// Works until every worker has hung up.
    pub(crate) fn work(mut self, news: &Receiver<News>, failure: &Failure) -> Report {
        for item in news {
            self.take(item, failure);
        }
        self.end(failure)
    }

    /// Takes in what a worker tells, and writes the epochs that are complete by it.
    pub(crate) fn take(&mut self, item: News, failure: &Failure) {
        if failure.is_raised() {
            return;
        }
        self.note(item);
        let complete = self.through.iter().copied().min().unwrap_or(0);
        while self.next <= complete && !failure.is_raised() {
            match self.write(self.next, complete) {
                Ok(()) => {
                    self.done.send(self.next).ok();
                    self.next += 1;
                }
                Err(error) => failure.raise(error),
            }
        }
    }

    /// Commits what is written; what the run did.
    pub(crate) fn end(mut self, failure: &Failure) -> Report {
        if !failure.is_raised()
            && let Err(error) = self.commit_all(self.next - 1)
        {
            failure.raise(error);
        }
        self.sum_up();
        self.report
    }

    fn note(&mut self, item: News) {
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

    /// Gives an epoch to the sinks.
    fn write(&mut self, epoch: u64, complete: u64) -> Result<(), RunError> {
        let Pending { rows, dead, corrected, accounts, states } =
            self.pending.remove(&epoch).unwrap_or_default();
        for accounts in &accounts {
            for (sum, more) in self.accounts.iter_mut().zip(accounts) {
                sum.add(more);
            }
        }
        self.balance()?;
        let letters = self.origins.sorted(dead);
        self.count(&letters);
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
            let stage = format!("{} sink", outlet.name);
            let done = time_into(&self.busy, stage, || outlet.write(epoch, rows));
            done.map_err(|e| RunError::Sink(outlet.name.clone(), e))?;
        }
        self.snapshot(epoch, states)?;
        self.report.epochs += 1;
        if epoch == complete {
            self.sum_up();
            if let Some(observer) = &self.observer {
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

    /// Has a snapshot made as of the end of `epoch`, if one is asked for: the sinks commit first.
    fn snapshot(&mut self, epoch: u64, states: Vec<SavedShard>) -> Result<(), RunError> {
        let facts = self.snapshots.as_ref().and_then(|desk| desk.facts(epoch));
        let Some(facts) = facts else { return Ok(()) };
        self.commit_all(epoch)?;
        let names = self.origins.nodes.iter().map(|(name, _)| name.clone());
        let accounts = names.zip(self.accounts.clone());
        let sinks = self.outlets.iter().filter_map(|o| Some((o.name.clone(), o.committed?)));
        let job =
            Job { epoch, states, facts, accounts: accounts.collect(), sinks: sinks.collect() };
        if let Some(desk) = &self.snapshots {
            desk.make(job);
        }
        Ok(())
    }

    fn commit_all(&mut self, upto: u64) -> Result<(), RunError> {
        for outlet in &mut self.outlets {
            outlet.commit(upto).map_err(|e| RunError::Sink(outlet.name.clone(), e))?;
        }
        Ok(())
    }

    fn sum_up(&mut self) {
        for (account, (name, _)) in self.accounts.iter().zip(&self.origins.nodes) {
            self.report.accounts.insert(name.clone(), *account);
        }
        for outlet in &self.outlets {
            self.report.written.insert(outlet.name.clone(), outlet.written);
        }
    }
}

fn stream_name(graph: &Graph, stream: StreamId) -> &str {
    match stream {
        StreamId::Source(i) => &graph.sources[i].name,
        StreamId::Step(i) => &graph.steps[i].name,
        StreamId::DeadLetters => "dead_letters",
        StreamId::Late => "late",
    }
}

impl Outlet {
    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        if self.has.is_some_and(|has| epoch <= has) {
            return Ok(());
        }
        self.sink.write(epoch, rows)?;
        self.written += rows.iter().map(|b| b.len() as u64).sum::<u64>();
        if self.sink.full() { self.commit(epoch) } else { Ok(()) }
    }

    fn commit(&mut self, upto: u64) -> Result<(), SinkError> {
        crash_point("before sink commit");
        match self.sink.commit(upto)? {
            Committed::Yes(upto) => {
                crash_point("after sink commit");
                self.committed = Some(upto);
                Ok(())
            }
            Committed::Unknown => Err(SinkError::Retry(
                "the reply to a commit was lost; run again to see what the sink has".to_owned(),
            )),
        }
    }
}
