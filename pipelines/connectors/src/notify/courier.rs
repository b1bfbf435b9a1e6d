//! The thread that delivers what is in the spool.
//!
//! What a reader would get wrong:
//!
//! * There is one receiver, so a failure holds up all that waits, not one message: order is kept, and a receiver that is
//!   down is not asked once for each message.
//! * The pauses have jitter: many pipelines may share a receiver that comes back.
//! * When the run ends, what is due is delivered for a moment longer. The rest goes out with the next run.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use foreline_engine::{Clock, SinkError};

use super::message::Notice;
use super::options::Rules;
use super::pace::{Haste, Next, Unit};
use super::spool::Spool;

/// The pause after the first failure in a row; it doubles from then on.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause: a receiver that is back is noticed within five minutes.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest pause that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Nothing is given up before so many failures in a row in this run: what waited through a long stop gets its tries.
const FAILURES_MIN: u32 = 3;
/// How long what is due is delivered when the run ends.
const LINGER: Duration = Duration::from_secs(5);
/// The longest sleep: the clock may have been set.
const NAP_MAX: Duration = Duration::from_secs(60);

/// What became of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver does not want it, now or later.
    Refused(String),
    /// It may go better later; after this time, where the receiver said so.
    Retry(String, Option<Duration>),
}

/// The way to a receiver. Blocks; never longer than the timeout that it was made with.
pub(crate) trait Channel: Send {
    /// How many notices it takes at a time.
    fn batch(&self) -> usize {
        1
    }

    /// Sends notices, at most [`Channel::batch`]; what became of each, in order.
    fn deliver(&mut self, notices: &[Notice]) -> Vec<Outcome>;
}

/// What sink and thread share.
#[derive(Debug)]
pub(super) struct Shared {
    spool: Mutex<Spool>,
    changed: Condvar,
    stops: AtomicBool,
    /// It stops at once, as if it had died.
    dies: AtomicBool,
    pub(super) refused: AtomicU64,
    pub(super) given_up: AtomicU64,
    /// Why nothing is delivered any more.
    failure: Mutex<Option<SinkError>>,
}

impl Shared {
    pub(super) fn new(spool: Spool) -> Self {
        Shared {
            spool: Mutex::new(spool),
            changed: Condvar::new(),
            stops: AtomicBool::new(false),
            dies: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }

    pub(super) fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look again.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(super) fn failure(&self) -> Option<SinkError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, error: SinkError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// The thread, as the sink holds it.
#[derive(Debug)]
pub(super) struct Courier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Box<dyn Channel>>>,
}

impl std::fmt::Debug for dyn Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel")
    }
}

impl Courier {
    /// Starts to deliver.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn start(
        shared: &Arc<Shared>,
        channel: Box<dyn Channel>,
        rules: &Rules,
        sink: &str,
        clock: &Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let round = Round {
            shared: Arc::clone(shared),
            rules: rules.clone(),
            sink: sink.to_owned(),
            clock: Arc::clone(clock),
            sent: VecDeque::new(),
            failures: 0,
            not_before_ns: i64::MIN,
            ends_ns: None,
        };
        let thread = std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || round.run(channel))?;
        Ok(Courier { shared: Arc::clone(shared), thread: Some(thread) })
    }

    /// Whether the thread has ended by itself.
    pub(super) fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread as its death would: nothing more is sent or marked. The channel can be used again.
    pub(super) fn die(mut self) -> Option<Box<dyn Channel>> {
        self.shared.dies.store(true, Ordering::Release);
        self.shared.wake();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the thread knows.
struct Round {
    shared: Arc<Shared>,
    rules: Rules,
    sink: String,
    clock: Arc<dyn Clock>,
    /// When notices were delivered, as many as the rate looks at.
    sent: VecDeque<i64>,
    /// Failures since something last went well.
    failures: u32,
    /// Nothing is sent before.
    not_before_ns: i64,
    /// When the thread ends, once it was told to.
    ends_ns: Option<i64>,
}

impl Round {
    fn run(mut self, mut channel: Box<dyn Channel>) -> Box<dyn Channel> {
        while let Some(units) = self.wait_for_work(channel.batch().max(1)) {
            if let Err(error) = self.send(&units, &mut *channel) {
                tracing::warn!("sink '{}': nothing more is delivered: {error}", self.sink);
                self.shared.fail(error);
                return channel;
            }
        }
        let n = self.shared.spool().n_waiting();
        if n > 0 && !self.shared.dies.load(Ordering::Acquire) {
            tracing::warn!("sink '{}': {n} messages wait in the spool for the next run", self.sink);
        }
        channel
    }

    /// Waits until something is due; `None` when the thread is to end.
    fn wait_for_work(&mut self, batch: usize) -> Option<Vec<Unit>> {
        let shared = Arc::clone(&self.shared);
        let mut spool = shared.spool();
        loop {
            if shared.dies.load(Ordering::Acquire) {
                return None;
            }
            let now_ns = self.clock.now_ns();
            let stops = shared.stops.load(Ordering::Acquire);
            if stops {
                let linger = i64::try_from(LINGER.as_nanos()).unwrap_or(i64::MAX);
                let ends_ns = *self.ends_ns.get_or_insert(now_ns.saturating_add(linger));
                if now_ns >= ends_ns || self.failures > 0 {
                    return None;
                }
            }
            let next = self.next(&spool, now_ns, batch, stops);
            let until_ns = match next {
                Next::Send(units) => return Some(units),
                Next::Idle if stops => return None,
                Next::Idle => i64::MAX,
                Next::WaitUntil(at) if self.ends_ns.is_some_and(|ends| at >= ends) => return None,
                Next::WaitUntil(at) => at,
            };
            let nanos = until_ns.saturating_sub(now_ns).max(1_000_000).unsigned_abs();
            let nap = Duration::from_nanos(nanos).min(NAP_MAX);
            let woken = shared.changed.wait_timeout(spool, nap);
            spool = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn next(&self, spool: &Spool, now_ns: i64, batch: usize, stops: bool) -> Next {
        if now_ns < self.not_before_ns {
            return Next::WaitUntil(self.not_before_ns);
        }
        if let Some(bundle) = spool.bundle() {
            let messages = spool.messages(&bundle.numbers);
            return match self.rules.pace.held_until(messages.iter(), now_ns) {
                Some(end) => Next::WaitUntil(end),
                None => Next::Send(vec![bundle.clone()]),
            };
        }
        let sent: Vec<i64> = self.sent.iter().copied().collect();
        let haste = if stops { Haste::Ending } else { Haste::None };
        let next = self.rules.pace.next(spool.waiting(), &sent, now_ns, batch, haste);
        match next {
            // A notice of several is noted before it is sent, and then goes alone.
            Next::Send(mut units) => {
                let first_bundle = units.iter().position(|u| u.numbers.len() > 1);
                units.truncate(first_bundle.map_or(units.len(), |at| at.max(1)));
                Next::Send(units)
            }
            next => next,
        }
    }

    fn send(&mut self, units: &[Unit], channel: &mut dyn Channel) -> Result<(), SinkError> {
        let notices: Vec<Notice> = {
            let mut spool = self.shared.spool();
            if let [unit] = units
                && unit.numbers.len() > 1
                && spool.bundle() != Some(unit)
            {
                spool.note_bundle(unit).or_else(passing)?;
            }
            units.iter().map(|u| Notice::of(spool.messages(&u.numbers))).collect()
        };
        let outcomes = channel.deliver(&notices);
        if self.shared.dies.load(Ordering::Acquire) {
            return Ok(());
        }
        self.settle(units, &notices, outcomes)
    }

    /// Notes what became of notices.
    fn settle(
        &mut self,
        units: &[Unit],
        notices: &[Notice],
        outcomes: Vec<Outcome>,
    ) -> Result<(), SinkError> {
        let now_ns = self.clock.now_ns();
        let (mut done, mut failure) = (Vec::new(), None);
        for ((unit, notice), outcome) in units.iter().zip(notices).zip(outcomes) {
            match outcome {
                Outcome::Delivered => {
                    done.extend(&unit.numbers);
                    self.note_sent(now_ns);
                }
                Outcome::Refused(why) => {
                    done.extend(&unit.numbers);
                    self.drop_messages(&self.shared.refused, notice, "refused", &why);
                }
                Outcome::Retry(why, after) => {
                    failure.get_or_insert((why, after));
                }
            }
        }
        match failure {
            None => (self.failures, self.not_before_ns) = (0, i64::MIN),
            Some((why, after)) => {
                self.failures = if done.is_empty() { self.failures.saturating_add(1) } else { 1 };
                let pause = pause(self.failures, after);
                tracing::warn!("sink '{}': {why}; tried again in {pause:.1?}", self.sink);
                let pause_ns = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
                self.not_before_ns = now_ns.saturating_add(pause_ns);
                if self.failures >= FAILURES_MIN {
                    done.extend(self.give_up(now_ns, &why));
                }
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        let marked = self.shared.spool().done(&done);
        if matches!(marked, Err(SinkError::Retry(_))) {
            // They would go out again at once, as long as they cannot be marked.
            self.failures = self.failures.saturating_add(1);
            let pause_ns = i64::try_from(pause(self.failures, None).as_nanos()).unwrap_or(i64::MAX);
            self.not_before_ns = self.not_before_ns.max(now_ns.saturating_add(pause_ns));
        }
        marked.or_else(passing)
    }

    fn note_sent(&mut self, now_ns: i64) {
        let Some(rate) = self.rules.pace.rate else { return };
        self.sent.push_back(now_ns);
        while self.sent.len() > rate.notices {
            self.sent.pop_front();
        }
    }

    /// The messages that have been due for too long.
    fn give_up(&self, now_ns: i64, why: &str) -> Vec<u64> {
        let spool = self.shared.spool();
        let patience = i64::try_from(self.rules.give_up_after.as_nanos()).unwrap_or(i64::MAX);
        let is_over = |due_ns: i64| now_ns.saturating_sub(due_ns) >= patience;
        let bundle = spool.bundle();
        let due_of = |m: &super::message::Message| match bundle {
            Some(unit) if unit.numbers.contains(&m.number) => unit.due_ns,
            _ => self.rules.pace.due(m),
        };
        let over: Vec<_> = spool.waiting().filter(|m| is_over(due_of(m))).cloned().collect();
        for message in &over {
            let notice = Notice::of(vec![Arc::clone(message)]);
            self.drop_messages(&self.shared.given_up, &notice, "given up", why);
        }
        over.iter().map(|m| m.number).collect()
    }

    /// Counts and logs messages that nobody will get.
    fn drop_messages(&self, counter: &AtomicU64, notice: &Notice, what: &str, why: &str) {
        counter.fetch_add(notice.messages.len() as u64, Ordering::Relaxed);
        for message in &notice.messages {
            tracing::warn!("sink '{}': message {} is {what}: {why}", self.sink, message.id);
        }
    }
}

/// A disk that is full does not end the deliveries: what could not be noted goes out again.
fn passing(error: SinkError) -> Result<(), SinkError> {
    match error {
        SinkError::Retry(why) => {
            tracing::warn!("{why}");
            Ok(())
        }
        error => Err(error),
    }
}

/// How long to wait after so many failures in a row, between half of the step and all of it; or as long as the receiver asks.
pub(super) fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let step = doubled.min(PAUSE_MAX);
    let chance = u32::try_from(RandomState::new().hash_one(failures) >> 32).unwrap_or(0);
    let jittered = step / 2 + (step / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX));
    asked.map_or(jittered, |asked| asked.clamp(PAUSE_FIRST, RETRY_AFTER_MAX))
}
