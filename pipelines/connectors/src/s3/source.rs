//! The source as the engine sees it: takes what the reading thread hands over, and reads ranges again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use foreline_engine::{
    Chunk, Decoder, KnownPartition, Partition, Poll, Position, Range, ReadUpTo, Replay, Source,
    SourceError,
};

use super::Plan;
use super::reading::{News, Reading, Unfinished, open_records};
use super::seen::{Identity, Seen};
use crate::cut::Records;
use crate::objects::{Found, ObjectReader, Objects};

/// What the thread may be ahead of the engine: text comes in chunks of up to 512 KiB.
const NEWS_MAX: usize = 8;

/// An opened source.
pub(super) struct S3Source {
    plan: Arc<Plan>,
    objects: Arc<Objects>,
    begin: Begin,
    thread: Option<Thread>,
    /// All objects: any range may be asked for again, also while others are read.
    known: BTreeMap<Partition, Arc<Found>>,
    /// The object that ranges are read from again.
    again: Option<(Partition, Box<dyn Records>)>,
    ended: bool,
}

/// Where reading begins.
#[derive(Default)]
struct Begin {
    seen: Seen,
    next: u32,
    unfinished: Vec<Unfinished>,
}

/// The thread that reads.
struct Thread {
    news: Receiver<News>,
    handle: JoinHandle<()>,
}

/// Most objects that a probe looks at.
const PROBED_MAX: usize = 1_000;

/// Lists the beginning of the prefix; what was found, and how much of it would be read.
pub(super) fn probe(plan: &Plan) -> Result<String, String> {
    let place = &plan.place;
    let objects = Objects::open(place, &plan.connection.hurried())?;
    let mut listed = objects.list(&place.prefix);
    let (mut n_objects, mut n_read) = (0, 0);
    while n_objects < PROBED_MAX
        && let Some(found) = listed.blocking_recv()
    {
        let found = found.map_err(|e| format!("cannot list '{place}': {e}"))?;
        n_objects += 1;
        if plan.reads(&found) {
            let unlike = |how| format!("cannot read '{}': {how}", objects.name(&found.key));
            plan.parts(&found).map_err(unlike)?;
            n_read += 1;
        }
    }
    let more = if n_objects == PROBED_MAX { "at least " } else { "" };
    Ok(format!("'{place}' can be listed: {more}{n_objects} objects, {n_read} of them to read"))
}

impl S3Source {
    /// Prepares the source; nothing is asked of the store yet.
    pub(super) fn open(plan: &Arc<Plan>) -> Result<Self, SourceError> {
        let objects = Objects::open(&plan.place, &plan.connection)
            .map_err(|e| SourceError::Io(format!("cannot use '{}': {e}", plan.place)))?;
        Ok(S3Source {
            plan: Arc::clone(plan),
            objects: Arc::new(objects),
            begin: Begin::default(),
            thread: None,
            known: BTreeMap::new(),
            again: None,
            ended: false,
        })
    }

    fn start(&mut self) -> Result<Thread, SourceError> {
        let Begin { seen, next, unfinished } = std::mem::take(&mut self.begin);
        let (news, receiver) = sync_channel(NEWS_MAX);
        let rings = self.plan.bell.listen();
        let (plan, objects) = (Arc::clone(&self.plan), Arc::clone(&self.objects));
        let reading = Reading { plan, objects, seen, next, unfinished, news, rings };
        let handle = std::thread::Builder::new()
            .name("s3 reading".to_owned())
            .spawn(move || reading.work())
            .map_err(|e| SourceError::Io(format!("cannot start a thread: {e}")))?;
        Ok(Thread { news: receiver, handle })
    }

    /// The records of an object that is read again.
    fn open_again(
        &self,
        partition: Partition,
        range: Range,
    ) -> Result<Box<dyn Records>, SourceError> {
        let found = self.known.get(&partition).ok_or_else(|| {
            SourceError::Io(format!("'{}' has no object {}", self.plan.place, partition.0))
        })?;
        let reader = ObjectReader::open(&self.objects, found, 0, self.plan.patience());
        let from = ReadUpTo { end: range.start, end_ordinal: range.first_ordinal };
        open_records(&self.plan, &self.objects, found, reader, Some(from))
    }
}

impl Source for S3Source {
    fn replay(&self) -> Replay {
        Replay::ByRange
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        if self.ended {
            return Ok(Poll::Ended);
        }
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.start()?,
        };
        let thread = self.thread.insert(thread);
        loop {
            match thread.news.try_recv() {
                Ok(News::Chunk(chunk)) => return Ok(Poll::Ready(chunk)),
                Ok(News::Object(partition, found)) => {
                    self.known.insert(partition, found);
                }
                Ok(News::Ended) => {
                    self.ended = true;
                    return Ok(Poll::Ended);
                }
                Ok(News::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(Poll::Pending),
                Err(TryRecvError::Disconnected) => {
                    let place = &self.plan.place;
                    return Err(SourceError::Io(format!("nothing reads '{place}' any more")));
                }
            }
        }
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        if self.again.as_ref().is_none_or(|(of, _)| *of != partition) {
            self.again = Some((partition, self.open_again(partition, range)?));
        }
        let (_, records) = self.again.as_mut().expect("it was just opened");
        let read = records.read(partition, range);
        if read.is_err() {
            self.again = None;
        }
        read
    }

    /// Objects stay where they are, so there is nobody to tell.
    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        self.plan.format.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.known.get(&partition).map(|found| self.objects.name(&found.key))
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        let identity = self.known.get(&partition).map(|found| Identity::of(found));
        identity.and_then(|i| postcard::to_allocvec(&i).ok()).unwrap_or_default()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        for one in known {
            let identity: Identity = postcard::from_bytes(&one.identity).map_err(|_| {
                SourceError::Io(format!("what is known of '{}' cannot be read", one.name))
            })?;
            let found = Arc::new(identity.found());
            self.begin.seen.note(&found);
            self.begin.next = self.begin.next.max(one.partition.0 + 1);
            self.known.insert(one.partition, found);
        }
        // Objects are read one after the other, so those before the last that was read from have no more. They become
        // known before anything of them counts, so nothing may have been read of those behind it.
        let last = known.iter().filter(|k| k.read.is_some()).map(|k| k.partition).max();
        let unfinished = known.iter().filter(|k| Some(k.partition) >= last);
        self.begin.unfinished = unfinished
            .filter_map(|k| {
                let found = Arc::clone(self.known.get(&k.partition)?);
                Some(Unfinished { partition: k.partition, found, read: k.read })
            })
            .collect();
        Ok(())
    }
}

impl Drop for S3Source {
    fn drop(&mut self) {
        let Some(Thread { news, handle }) = self.thread.take() else { return };
        // With nobody to answer it and nobody to listen the thread ends wherever it is.
        drop(news);
        self.plan.bell.silence();
        self.objects.network().stop();
        handle.join().ok();
    }
}
