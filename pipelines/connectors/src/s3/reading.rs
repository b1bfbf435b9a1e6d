//! The thread that lists the prefix and reads the objects, so that a slow store keeps no other source waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use foreline_engine::{Chunk, Partition, Position, ReadUpTo, SourceError};
use tokio::time::Instant;

use super::seen::{Look, Seen};
use super::{ObjectOrder, OnChange, Plan};
use crate::cut::{Opened, Records, Shared};
use crate::objects::{
    Found, ObjectError, ObjectReader, Objects, Patience, RETRY_TIME_MAX, source_error,
};

/// Objects whose first block is fetched while the one before is read.
const AHEAD_MAX: usize = 8;
/// Rings that come within this time are answered by one listing, so that a store that tells of each object is not listed
/// for each.
const RINGS_TOGETHER: Duration = Duration::from_millis(250);
/// The longest pause before a listing that has failed is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the thread hands over.
pub(super) enum News {
    /// The chunks that follow are of this object.
    Object(Partition, Arc<Found>),
    /// The next records.
    Chunk(Chunk),
    /// There is nothing more, for good.
    Ended,
    /// It cannot go on.
    Failed(SourceError),
}

/// Where the thread begins.
pub(super) struct Reading {
    pub(super) plan: Arc<Plan>,
    pub(super) objects: Arc<Objects>,
    pub(super) seen: Seen,
    /// The number of the next object.
    pub(super) next: u32,
    /// What an earlier run has not read to its end.
    pub(super) unfinished: Vec<Unfinished>,
    pub(super) news: SyncSender<News>,
    /// What the bell says; closed when the source is.
    pub(super) rings: Receiver<()>,
}

/// An object that an earlier run knew, with more than it has read.
pub(super) struct Unfinished {
    pub(super) partition: Partition,
    pub(super) found: Arc<Found>,
    pub(super) read: Option<ReadUpTo>,
}

/// Why the thread ends.
enum End {
    /// Nobody listens any more.
    Closed,
    Failed(SourceError),
}

impl From<SourceError> for End {
    fn from(error: SourceError) -> Self {
        End::Failed(error)
    }
}

impl Reading {
    /// Works until all is read, or the source is closed.
    pub(super) fn work(mut self) {
        let last = match self.read_all() {
            Ok(()) => News::Ended,
            Err(End::Failed(error)) => News::Failed(error),
            Err(End::Closed) => return,
        };
        self.news.send(last).ok();
    }

    fn read_all(&mut self) -> Result<(), End> {
        for unfinished in std::mem::take(&mut self.unfinished) {
            let done = self.go_on(&unfinished);
            self.unless_found_again(done)?;
        }
        loop {
            let new = self.list()?;
            self.read(new)?;
            let Some(poll) = self.plan.poll else { break };
            self.wait_for_news(poll)?;
        }
        if self.next == 0 {
            let place = self.objects.place();
            tracing::warn!(
                "'{place}' has no object to read: none, or all are empty, hidden or not included"
            );
        }
        Ok(())
    }

    /// Waits, unless the source is closed.
    fn rest(&self, pause: Duration) -> Result<(), End> {
        let until = Instant::now() + pause;
        while self.rung_until(until)? {}
        Ok(())
    }

    /// Waits until the next listing is due, or the bell rings and those who ring with it have had time to.
    fn wait_for_news(&self, poll: Duration) -> Result<(), End> {
        if self.rung_until(Instant::now() + poll)? {
            self.rest(poll.min(RINGS_TOGETHER))?;
        }
        Ok(())
    }

    /// Waits for a ring; whether there was one.
    fn rung_until(&self, until: Instant) -> Result<bool, End> {
        match self.rings.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(End::Closed),
        }
    }

    /// The objects that were not seen before, in the order in which they are read.
    fn list(&mut self) -> Result<VecDeque<Arc<Found>>, End> {
        let mut pause = Duration::from_secs(1);
        let begun = Instant::now();
        loop {
            match self.list_once()? {
                Ok(new) => return Ok(new),
                // A page that breaks off is not asked for again by the client, as what fails otherwise is.
                Err(ObjectError::Transient(why))
                    if self.plan.patience() == Patience::Endless
                        || begun.elapsed() < RETRY_TIME_MAX =>
                {
                    let place = self.objects.place();
                    tracing::warn!("'{place}' cannot be listed, trying again in {pause:?}: {why}");
                    self.rest(pause)?;
                    pause = PAUSE_MAX.min(pause * 2);
                }
                Err(error) => {
                    let place = self.objects.place();
                    let failed = format!("cannot list '{place}': {error}");
                    return Err(SourceError::Io(failed).into());
                }
            }
        }
    }

    /// One listing. What it shows counts only when it is whole.
    fn list_once(&mut self) -> Result<Result<VecDeque<Arc<Found>>, ObjectError>, End> {
        let mut all = Vec::new();
        let mut listed = self.objects.list(&self.objects.place().prefix);
        while let Some(next) = listed.blocking_recv() {
            match next {
                Ok(found) => all.extend(self.wanted(found)),
                Err(error) => return Ok(Err(error)),
            }
        }
        let mut new = Vec::new();
        for found in all {
            match self.seen.look(&found, self.plan.on_change) {
                Look::New => new.push(Arc::new(found)),
                Look::Known => {}
                Look::Changed => return Err(changed(&self.objects.name(&found.key)).into()),
                Look::Ignored => {
                    let name = self.objects.name(&found.key);
                    tracing::warn!("'{name}' was overwritten; what was read of it stays");
                }
            }
        }
        match self.plan.order {
            ObjectOrder::Key => new.sort_by(|a, b| a.key.cmp(&b.key)),
            ObjectOrder::Modified => {
                new.sort_by(|a, b| (a.modified_ns, &a.key).cmp(&(b.modified_ns, &b.key)));
            }
        }
        Ok(Ok(new.into()))
    }

    /// The object, if it is one to read and not as it was seen before.
    fn wanted(&self, found: Found) -> Option<Found> {
        (self.plan.reads(&found) && !self.seen.has(&found)).then_some(found)
    }

    fn fetch(&self, found: &Arc<Found>, from: u64) -> ObjectReader {
        ObjectReader::open(&self.objects, found, from, self.plan.patience())
    }

    /// Reads objects one after the other, the next ones being fetched meanwhile.
    fn read(&mut self, mut new: VecDeque<Arc<Found>>) -> Result<(), End> {
        let mut ahead: VecDeque<(Arc<Found>, ObjectReader)> = VecDeque::new();
        let n_ahead = AHEAD_MAX.min(self.plan.parallel);
        loop {
            while ahead.len() < n_ahead
                && let Some(found) = new.pop_front()
            {
                let reader = self.fetch(&found, 0);
                ahead.push_back((found, reader));
            }
            let Some((found, mut reader)) = ahead.pop_front() else { return Ok(()) };
            reader.widen(self.plan.parallel);
            let done = self.read_one(&found, reader);
            self.unless_found_again(done)?;
        }
    }

    /// An object that was overwritten while it was read is no failure where the next listing shows the new one.
    fn unless_found_again(&self, done: Result<(), End>) -> Result<(), End> {
        match done {
            Err(End::Failed(SourceError::Changed { what, how }))
                if self.plan.on_change == OnChange::Reprocess =>
            {
                tracing::warn!("'{what}' was overwritten while it was read: {how}");
                Ok(())
            }
            done => done,
        }
    }

    /// Reads what an earlier run has left of an object.
    fn go_on(&self, unfinished: &Unfinished) -> Result<(), End> {
        let Unfinished { partition, found, read } = unfinished;
        let mut reader = self.fetch(found, 0);
        reader.widen(self.plan.parallel);
        let mut records = self.records(found, reader, *read)?;
        self.tell(News::Object(*partition, Arc::clone(found)))?;
        self.hand_on(*partition, &mut *records)
    }

    fn read_one(&mut self, found: &Arc<Found>, reader: ObjectReader) -> Result<(), End> {
        if self.next >= Position::MAX_PARTITIONS {
            let place = self.objects.place();
            let message = format!("'{place}' has more than {} objects", Position::MAX_PARTITIONS);
            return Err(SourceError::Limit(message).into());
        }
        let partition = Partition(self.next);
        let mut records = self.records(found, reader, None)?;
        // Nobody hears of an object without records, and there may be no gap in the numbers of those one hears of.
        let Some(first) = records.next_chunk(partition)? else { return Ok(()) };
        self.next += 1;
        self.tell(News::Object(partition, Arc::clone(found)))?;
        self.tell(News::Chunk(first))?;
        self.hand_on(partition, &mut *records)
    }

    fn records(
        &self,
        found: &Found,
        reader: ObjectReader,
        from: Option<ReadUpTo>,
    ) -> Result<Box<dyn Records>, SourceError> {
        open_records(&self.plan, &self.objects, found, reader, from)
    }

    fn hand_on(&self, partition: Partition, records: &mut dyn Records) -> Result<(), End> {
        while let Some(chunk) = records.next_chunk(partition)? {
            self.tell(News::Chunk(chunk))?;
        }
        Ok(())
    }

    fn tell(&self, news: News) -> Result<(), End> {
        self.news.send(news).map_err(|_| End::Closed)
    }
}

/// The records of an object.
pub(super) fn open_records(
    plan: &Plan,
    objects: &Objects,
    found: &Found,
    reader: ObjectReader,
    from: Option<ReadUpTo>,
) -> Result<Box<dyn Records>, SourceError> {
    let name = objects.name(&found.key);
    let parts = plan.parts(found);
    let parts = parts.map_err(|how| SourceError::Io(format!("cannot read '{name}': {how}")))?;
    let opened = Opened { name, parts, size: found.size, bytes: Shared::new(reader) };
    plan.format.open(opened, from)
}

fn changed(name: &str) -> SourceError {
    let how = "it was overwritten; `on_change` says what else may happen then".to_owned();
    source_error(name, &ObjectError::Changed(how))
}
