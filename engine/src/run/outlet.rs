//! A sink as the hub sees it: it has a queue of rows that are not committed, and is opened again when it fails.
//!
//! What a reader would get wrong:
//!
//! * Nothing is tried blindly. After [`SinkError::Retry`] and after [`Committed::Unknown`] the sink is opened again and
//!   asked what it has; only what it does not have is given to it again, and nothing it has is.
//! * An outlet never waits by itself. It says until when there is nothing to be done, so that a simulation can have the
//!   time pass, and the epochs behind it wait: the sources are not read, and nothing is dropped.
//! * The steps of the back-off are fixed. There is one writer a stream, so there is no herd that jitter would spread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::crash::crash_point;
use crate::run::RunError;
use crate::schema::Schema;
use crate::sink::{Committed, RunId, Sink, SinkError};
use crate::tail::Tail;

/// How long is waited after the first failure in a row, the second, and so on; the last holds from then on. A restart of
/// a database takes seconds, and a minute-long one is noticed five seconds after its end.
const BACK_OFF_MS: &[u64] = &[100, 200, 500, 1_000, 2_000, 5_000];

/// What a sink is opened with, and what is known of it from before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub run: RunId,
    pub generation: u64,
    /// The epoch of the snapshot that the run begins with: the sink has committed it. 0 where there is none.
    pub snapshot: u64,
    /// The last epoch that is journaled, if there is a journal.
    pub last_epoch: Option<u64>,
}

/// Rows of an epoch.
#[derive(Debug)]
struct Held {
    epoch: u64,
    rows: Vec<Batch>,
}

/// A failure that is waited out.
#[derive(Debug)]
struct Waiting {
    since_ns: i64,
    time: Duration,
}

/// A sink with the stream it takes.
pub(crate) struct Outlet {
    pub name: String,
    /// The place of its stream among the exits.
    pub exit: Option<usize>,
    /// Rows written in this run.
    pub written: u64,
    /// How often it was tried again.
    pub retries: u64,
    /// The sink has everything up to here.
    pub committed: Option<u64>,
    sink: Box<dyn Sink>,
    tail: Option<Arc<Tail>>,
    schema: Schema,
    expected: Expected,
    opened: bool,
    /// Whether it was open at any time in this run.
    met: bool,
    /// What is not known to be committed, oldest first.
    held: VecDeque<Held>,
    /// How many of those it was given since it was opened.
    given: usize,
    /// The last epoch that it was ever given.
    given_upto: u64,
    /// Everything up to here is to be committed without waiting for more.
    wanted: u64,
    /// The last epoch after which nothing followed for a while.
    pause: u64,
    /// Failures since something last went well.
    failures: usize,
    waiting: Option<Waiting>,
    last_error: Option<SinkError>,
}

impl Outlet {
    pub(crate) fn new(
        name: String,
        exit: Option<usize>,
        sink: Box<dyn Sink>,
        schema: Schema,
        expected: Expected,
    ) -> Self {
        let tail = sink.tail();
        tail.iter().for_each(|tail| tail.begin(expected.generation));
        Outlet {
            name,
            exit,
            written: 0,
            retries: 0,
            committed: None,
            sink,
            tail,
            schema,
            expected,
            opened: false,
            met: false,
            held: VecDeque::new(),
            given: 0,
            given_upto: 0,
            wanted: 0,
            pause: 0,
            failures: 0,
            waiting: None,
            last_error: None,
        }
    }

    /// Takes the rows of the next epoch; [`Outlet::advance`] brings them to the sink.
    pub(crate) fn take(&mut self, epoch: u64, rows: &[Batch]) {
        if self.committed.is_none_or(|has| epoch > has) {
            self.held.push_back(Held { epoch, rows: rows.to_vec() });
            self.tail.iter().for_each(|tail| tail.push(epoch, rows));
        }
    }

    /// Asks for everything up to `epoch` to be committed.
    pub(crate) fn want(&mut self, epoch: u64) {
        self.wanted = self.wanted.max(epoch);
    }

    /// Says that nothing follows `epoch` for now: where people look at the rows they are committed.
    pub(crate) fn pause_after(&mut self, epoch: u64) {
        self.pause = epoch;
    }

    /// Rows that the sink did not write, by reason.
    pub(crate) fn left_out(&self) -> Vec<(&'static str, u64)> {
        self.sink.left_out()
    }

    /// Epochs that are not known to be committed.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The same as [`Outlet::trouble`], in words, and also while it is tried again.
    pub(crate) fn trouble_text(&self) -> Option<String> {
        self.last_error.as_ref().map(ToString::to_string)
    }

    /// Why the sink does not take rows at the moment, if it does not.
    pub(crate) fn trouble(&self) -> Option<RunError> {
        self.waiting.as_ref()?;
        self.last_error.clone().map(|e| RunError::Sink(self.name.clone(), e))
    }

    /// Brings to the sink what waits for it; whether all of it got there. If not, there is a time to wait.
    ///
    /// # Errors
    /// When the sink fails in a way that waiting does not mend.
    pub(crate) fn advance(&mut self, now_ns: i64) -> Result<bool, RunError> {
        if let Some(waiting) = &self.waiting {
            // A clock that is set back ends the wait rather than making it an hour.
            let age = now_ns.saturating_sub(waiting.since_ns).unsigned_abs();
            if u128::from(age) < waiting.time.as_nanos() {
                return Ok(false);
            }
            self.waiting = None;
            self.retries += 1;
        }
        match self.go_on()? {
            Ok(()) => Ok(true),
            Err(error @ SinkError::Retry(_)) => {
                self.wait(error, now_ns);
                Ok(false)
            }
            Err(error) => Err(RunError::Sink(self.name.clone(), error)),
        }
    }

    /// Opens the sink if need be, gives it what it was not given, and commits what is due.
    fn go_on(&mut self) -> Result<Result<(), SinkError>, RunError> {
        if !self.opened {
            match self.sink.open(self.expected.run, self.expected.generation, &self.schema) {
                Ok(has) => self.look_at(has)?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(self.give_and_commit())
    }

    /// Takes note of what a sink has that was just opened.
    fn look_at(&mut self, has: Option<u64>) -> Result<(), RunError> {
        let Expected { snapshot, last_epoch, .. } = self.expected;
        let has = if self.sink.remembers() { has } else { self.taken_for_granted() };
        let n = has.unwrap_or(0);
        let differs =
            |kept: String| Err(RunError::SinkDiffers { sink: self.name.clone(), has: n, kept });
        let committed = self.committed.unwrap_or(0);
        if n < snapshot {
            return differs(format!("the snapshot is of epoch {snapshot}"));
        }
        if n < committed {
            return differs(format!("this run has committed epoch {committed}"));
        }
        match last_epoch {
            Some(last) if !self.met && n > last => {
                return differs(format!("the journal ends at epoch {last}"));
            }
            _ => {}
        }
        (self.opened, self.met, self.given) = (true, true, 0);
        self.note_committed(has);
        Ok(())
    }

    /// What a sink has that does not know itself.
    fn taken_for_granted(&self) -> Option<u64> {
        let at = self.expected.snapshot.max(self.committed.unwrap_or(0));
        (at > 0).then_some(at)
    }

    fn note_committed(&mut self, has: Option<u64>) {
        self.committed = has;
        if let (Some(tail), Some(has)) = (&self.tail, has) {
            tail.forget(has);
        }
        while let (Some(has), Some(first)) = (has, self.held.front()) {
            if first.epoch > has {
                break;
            }
            self.held.pop_front();
            self.given = self.given.saturating_sub(1);
        }
    }

    fn give_and_commit(&mut self) -> Result<(), SinkError> {
        while let Some(Held { epoch, rows }) = self.held.get(self.given) {
            let epoch = *epoch;
            self.sink.write(epoch, rows)?;
            if epoch > self.given_upto {
                self.written += rows.iter().map(|b| b.len() as u64).sum::<u64>();
                self.given_upto = epoch;
            }
            self.given += 1;
            if self.sink.full() {
                self.commit(epoch)?;
            }
        }
        if self.pause >= self.given_upto && self.sink.prompt() {
            self.wanted = self.wanted.max(self.given_upto);
        }
        let wanted = self.wanted;
        if self.committed.is_none_or(|has| has < wanted) && wanted > 0 {
            self.commit(wanted)?;
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<(), SinkError> {
        crash_point("before sink commit");
        match self.sink.commit(upto)? {
            Committed::Yes(upto) => {
                crash_point("after sink commit");
                self.note_committed(Some(upto));
                self.recovered();
                Ok(())
            }
            Committed::Unknown => {
                Err(SinkError::Retry("the reply to a commit was lost".to_owned()))
            }
        }
    }

    /// Says that it goes on, if it was said that it did not.
    fn recovered(&mut self) {
        if self.failures > 0 {
            tracing::warn!(
                "sink '{}' takes rows again, at attempt {}",
                self.name,
                self.failures + 1
            );
        }
        self.failures = 0;
        self.last_error = None;
    }

    /// Has the sink opened again after a while. Said once for each thing that is wrong, not at each attempt.
    fn wait(&mut self, error: SinkError, now_ns: i64) {
        let said = self.last_error.as_ref().is_some_and(|e| e.to_string() == error.to_string());
        if !said {
            let name = &self.name;
            tracing::warn!(
                "sink '{name}' cannot take rows; nothing is lost, it is tried again until it can: {error}"
            );
        }
        let step = BACK_OFF_MS[self.failures.min(BACK_OFF_MS.len() - 1)];
        self.failures += 1;
        self.opened = false;
        self.waiting = Some(Waiting { since_ns: now_ns, time: Duration::from_millis(step) });
        self.last_error = Some(error);
    }
}
