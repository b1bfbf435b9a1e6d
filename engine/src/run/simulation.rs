//! A run in one thread, one small turn after the other, so that a test can choose the order and pull the plug.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;

use crate::graph::Graph;
use crate::run::conductor::Conductor;
use crate::run::crew::Crew;
use crate::run::hub::Hub;
use crate::run::journalist::Writer;
use crate::run::ledger::Failure;
use crate::run::snapshots::Keeper;
use crate::run::worker::{News, Station};
use crate::run::{Options, Report, RunError, recovery};

/// How many take turns: who polls, who computes, who writes to the sinks, who journals, who writes snapshots.
const ACTORS: usize = 5;

/// Who has the next turn.
pub trait Schedule {
    /// One of `n`, from 0; `None` pulls the plug: nobody gets to do anything any more.
    fn next(&mut self, n: usize) -> Option<usize>;
}

/// Runs `graph` on one worker in this thread. The same schedule, clock, disk and sources give the same run, whatever
/// else the machine does. `None` when the schedule pulled the plug.
///
/// # Errors
/// As [`run`](crate::run).
pub fn simulate(
    graph: Graph,
    options: &Options,
    schedule: &mut dyn Schedule,
) -> Result<Option<Report>, RunError> {
    let options = Options { workers: 1, ..options.clone() };
    let Crew { conductor, mut seats, hub, news, writer, keeper, wiring, failure, .. } =
        Crew::assemble(graph, &options)?;
    let mut worker =
        Worker::new(timely::WorkerConfig::default(), Allocator::Thread(Thread::default()), None);
    let seat = seats.pop().ok_or_else(|| RunError::Engine("a run has a worker".to_owned()))?;
    let station = Station::new(&mut worker, seat, &wiring, &failure);
    let mut stage = Stage {
        conductor: Some(conductor),
        station: Some(station),
        worker,
        hub: Some(hub),
        news,
        writer,
        keeper,
        failure,
        stopped: false,
        report: None,
    };
    while stage.goes_on() {
        match schedule.next(ACTORS) {
            Some(actor) => stage.turn(actor),
            None => {
                // Like a process that is killed: what was not written is not written.
                stage.pull_the_plug();
                return Ok(None);
            }
        }
    }
    if let Some(error) = stage.failure.take() {
        return Err(error);
    }
    let mut report = stage.report.unwrap_or_default();
    report.stopped = stage.stopped;
    if let (Some(durable), false) = (&options.durable, stage.stopped) {
        recovery::finish(durable)?;
    }
    Ok(Some(report))
}

/// Everyone, until they are done.
struct Stage {
    conductor: Option<Conductor>,
    station: Option<Station>,
    worker: Worker,
    hub: Option<Hub>,
    news: Receiver<News>,
    writer: Option<Writer>,
    keeper: Option<Keeper>,
    failure: Arc<Failure>,
    stopped: bool,
    report: Option<Report>,
}

impl Stage {
    fn goes_on(&self) -> bool {
        self.conductor.is_some()
            || self.station.is_some()
            || self.hub.is_some()
            || self.writer.is_some()
            || self.keeper.is_some()
    }

    fn turn(&mut self, actor: usize) {
        match actor {
            0 => self.conduct(),
            1 => self.compute(),
            2 => self.write(),
            3 => self.journal(),
            _ => self.keep(),
        }
    }

    fn conduct(&mut self) {
        if let Some(mut conductor) = self.conductor.take() {
            if conductor.turn(Duration::ZERO) {
                self.conductor = Some(conductor);
            } else {
                self.stopped = conductor.end();
            }
        }
    }

    fn compute(&mut self) {
        if let Some(mut station) = self.station.take() {
            if station.turn(&mut self.worker, Duration::ZERO, Duration::ZERO) {
                self.station = Some(station);
            } else {
                station.leave(&mut self.worker);
                while self.worker.has_dataflows() {
                    self.worker.step();
                }
            }
        }
    }

    fn write(&mut self) {
        let Some(mut hub) = self.hub.take() else { return };
        let ended = match self.news.try_recv() {
            Ok(item) => {
                hub.note(item);
                false
            }
            Err(e) => e == TryRecvError::Disconnected,
        };
        if hub.turn(ended, &self.failure) {
            self.hub = Some(hub);
        } else {
            self.report = Some(hub.end());
        }
    }

    fn journal(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            match writer.turn(false) {
                Ok(true) => self.writer = Some(writer),
                Ok(false) => {}
                Err(error) => self.failure.raise(RunError::Journal(error)),
            }
        }
    }

    fn keep(&mut self) {
        if let Some(mut keeper) = self.keeper.take()
            && keeper.turn()
        {
            self.keeper = Some(keeper);
        }
    }

    /// Lets go of everything without any of the work that ending a run does.
    fn pull_the_plug(&mut self) {
        self.failure.raise(RunError::Engine("the plug was pulled".to_owned()));
        (self.conductor, self.hub, self.writer, self.keeper) = (None, None, None, None);
        if let Some(station) = self.station.take() {
            station.leave(&mut self.worker);
        }
    }
}
