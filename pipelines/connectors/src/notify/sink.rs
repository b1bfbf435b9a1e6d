//! The engine's side: rows become messages, and a commit brings them into the spool.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreline_engine::{
    Batch, Clock, Committed, RealDisk, RunId, Schema, Sink, SinkError, SystemClock,
};

use super::courier::{Channel, Courier, Shared};
use super::message::{Composer, Message, Passed};
use super::options::Rules;
use super::spool::{Locking, Place, Spool};

/// Messages are committed when so many bytes of them have come together, at most; a small spool is given less at a time.
const COMMIT_BYTES_MAX: u64 = 4 << 20;

/// A sink whose rows are messages.
#[derive(Debug)]
pub(crate) struct NotifySink {
    composer: Composer,
    rules: Rules,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// While no thread has it.
    channel: Option<Box<dyn Channel>>,
    open: Option<Open>,
    waiting: Vec<Message>,
    waiting_bytes: u64,
    /// Rows of `waiting`'s epochs that are no messages.
    passed: Passed,
    /// The same of what is committed.
    passed_before: Passed,
    /// What earlier threads of this sink refused and gave up.
    dropped_before: (u64, u64),
}

#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    courier: Courier,
}

impl NotifySink {
    pub(crate) fn new(
        composer: Composer,
        rules: Rules,
        folder: PathBuf,
        channel: Box<dyn Channel>,
    ) -> Self {
        NotifySink {
            composer,
            rules,
            folder,
            clock: Arc::new(SystemClock),
            channel: Some(channel),
            open: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            passed: Passed::default(),
            passed_before: Passed::default(),
            dropped_before: (0, 0),
        }
    }

    /// Drops the sink as a crash would: nothing more is sent or marked.
    #[cfg(test)]
    pub(crate) fn die(mut self) {
        if let Some(open) = self.open.take() {
            open.courier.die();
        }
    }

    /// How many messages wait for the receiver.
    #[cfg(test)]
    pub(crate) fn n_waiting(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.shared.spool().n_waiting())
    }

    fn forget(&mut self) {
        self.waiting.clear();
        (self.waiting_bytes, self.passed) = (0, Passed::default());
    }

    /// Ends the thread of an earlier opening, and keeps its channel and its counts.
    fn close(&mut self) {
        let Some(Open { shared, courier }) = self.open.take() else { return };
        self.channel = courier.die().or(self.channel.take());
        self.dropped_before.0 += shared.refused.load(Ordering::Relaxed);
        self.dropped_before.1 += shared.given_up.load(Ordering::Relaxed);
    }
}

impl Sink for NotifySink {
    fn open(&mut self, run: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        self.forget();
        if let Some(open) = &self.open
            && open.shared.failure().is_none()
        {
            let spool = open.shared.spool();
            if spool.is_of(run, generation) {
                // A spool that was full: what delivers goes on meanwhile.
                return Ok(spool.committed());
            }
        }
        self.close();
        let place =
            Place { disk: Arc::new(RealDisk), folder: self.folder.clone(), locking: Locking::File };
        let origin = &self.composer.origin;
        let spool = Spool::open(place, origin, self.rules.spool_bytes, run, generation)?;
        let committed = spool.committed();
        let shared = Arc::new(Shared::new(spool));
        let channel = self.channel.take();
        let channel =
            channel.ok_or_else(|| SinkError::Fatal("the thread for notices died".to_owned()))?;
        let courier = Courier::start(&shared, channel, &self.rules, &origin.sink, &self.clock)
            .map_err(|e| SinkError::Fatal(format!("no thread for notices: {e}")))?;
        self.open = Some(Open { shared, courier });
        Ok(committed)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let from = self.waiting.len();
        for batch in rows {
            let passed = self.composer.compose(batch, &mut self.waiting);
            self.passed.add(passed);
        }
        self.waiting_bytes += self.waiting[from..].iter().map(|m| m.bytes() as u64).sum::<u64>();
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        if let Some(failure) = open.shared.failure() {
            return Err(failure);
        }
        if open.courier.is_dead() {
            let text = "the thread that delivers has died; what waits is in the spool";
            return Err(SinkError::Fatal(text.to_owned()));
        }
        let now_ns = self.clock.now_ns();
        let messages = std::mem::take(&mut self.waiting);
        let mut spool = open.shared.spool();
        if let Some(has) = spool.committed().filter(|&has| has >= upto) {
            drop(spool);
            self.forget();
            return Ok(Committed::Yes(has));
        }
        spool.commit(upto, messages, now_ns)?;
        drop(spool);
        open.shared.wake();
        self.passed_before.add(self.passed);
        self.forget();
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        self.waiting_bytes >= COMMIT_BYTES_MAX.min(self.rules.spool_bytes / 4)
    }

    fn prompt(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn left_out(&self) -> Vec<(&'static str, u64)> {
        let now = |counter: fn(&Shared) -> &std::sync::atomic::AtomicU64| {
            self.open.as_ref().map_or(0, |o| counter(&o.shared).load(Ordering::Relaxed))
        };
        let Passed { deleted, gone, too_large } = self.passed_before;
        let refused = self.dropped_before.0 + now(|s| &s.refused);
        let given_up = self.dropped_before.1 + now(|s| &s.given_up);
        let all = [
            ("deleted", deleted),
            ("gone", gone),
            ("too_large", too_large),
            ("refused", refused),
            ("given_up", given_up),
        ];
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

fn not_open() -> SinkError {
    SinkError::Retry("the sink is not open".to_owned())
}
