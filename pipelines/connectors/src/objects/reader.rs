//! An object as a stream of bytes, its blocks fetched ahead and several at a time.
//!
//! Blocks come in order, however their requests overtake one another. A block counts against the reader's share
//! from its request until it is taken, so what lies in memory is bounded: [`BLOCK_BYTES`] times the share.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foreline_engine::SourceError;
use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};

use super::{Found, ObjectError, Objects, get_range};

/// What is asked for at a time: large enough that a request's delay costs little, small enough to have many under way.
const BLOCK_BYTES: u64 = 2 << 20;
/// Bytes that are passed over rather than asked for anew.
const SKIPPED_BYTES_MAX: u64 = 4 * BLOCK_BYTES;
/// Most requests of one reader under way.
const REQUESTS_MAX: usize = 64;
/// The longest pause before a request that has failed for good is made again by a patient reader.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What to do when a store cannot be reached for longer than a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Go on trying, and say so: a pipeline that runs for a year outlives an outage.
    Endless,
    /// Fail.
    None,
}

/// An object that is being read.
///
/// Seeking costs nothing by itself. What is read next is taken from the block at hand, the first block (which is kept:
/// readers come back to it for headers), or the blocks under way; else requests begin anew from there.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    objects: Arc<Objects>,
    object: Arc<Found>,
    patience: Patience,
    requests: usize,
    blocks: Option<Blocks>,
    head: Bytes,
    /// The block at hand, and where it begins.
    block: Bytes,
    block_at: u64,
    /// What comes next.
    at: u64,
}

/// Blocks under way, in order.
#[derive(Debug)]
struct Blocks {
    received: mpsc::UnboundedReceiver<Result<Bytes, ObjectError>>,
    share: Arc<Semaphore>,
    /// Where the next of them begins.
    next_at: u64,
}

impl ObjectReader {
    /// Begins to fetch an object from byte `from` on, one block at first.
    pub(crate) fn open(
        objects: &Arc<Objects>,
        object: &Arc<Found>,
        from: u64,
        patience: Patience,
    ) -> Self {
        let mut reader = ObjectReader {
            objects: Arc::clone(objects),
            object: Arc::clone(object),
            patience,
            requests: 1,
            blocks: None,
            head: Bytes::new(),
            block: Bytes::new(),
            block_at: 0,
            at: 0,
        };
        reader.request(from);
        reader
    }

    /// Has `requests` blocks fetched at a time from here on.
    pub(crate) fn widen(&mut self, requests: usize) {
        if let Some(blocks) = &self.blocks {
            blocks.share.add_permits(requests.saturating_sub(self.requests));
        }
        self.requests = self.requests.max(requests);
    }

    /// Asks for the blocks from `from` on.
    fn request(&mut self, from: u64) {
        let (sender, received) = mpsc::unbounded_channel();
        let share = Arc::new(Semaphore::new(self.requests));
        let (object, store) = (Arc::clone(&self.object), Arc::clone(&self.objects.store));
        let (patience, permits) = (self.patience, Arc::clone(&share));
        let name = self.objects.name(&object.key);
        self.objects.network().spawn(async move {
            let size = object.size;
            let starts = (0..).map(|i| from + i * BLOCK_BYTES).take_while(move |&at| at < size);
            let started = stream::iter(starts).then(|at| {
                let permits = Arc::clone(&permits);
                async move {
                    // The share is never closed; its permits come back when blocks are taken.
                    if let Ok(permit) = permits.acquire().await {
                        permit.forget();
                    }
                    at
                }
            });
            let fetched = started.map(|at| {
                let range = at..size.min(at + BLOCK_BYTES);
                fetch_block(&store, &object, range, patience, &name)
            });
            let mut fetched = std::pin::pin!(fetched.buffered(REQUESTS_MAX));
            while let Some(block) = fetched.next().await {
                if sender.send(block).is_err() {
                    break;
                }
            }
        });
        self.blocks = Some(Blocks { received, share, next_at: from });
    }

    /// Brings the block at hand that holds the next byte; false at the end.
    fn bring(&mut self) -> io::Result<bool> {
        if self.at >= self.object.size {
            return Ok(false);
        }
        if self.at < self.head.len() as u64 {
            (self.block, self.block_at) = (self.head.clone(), 0);
            return Ok(true);
        }
        let near = |b: &Blocks| (b.next_at..b.next_at + SKIPPED_BYTES_MAX).contains(&self.at);
        if !self.blocks.as_ref().is_some_and(near) {
            self.request(self.at);
        }
        while !self.has_next() {
            self.receive()?;
        }
        Ok(true)
    }

    /// Whether the next byte is in the block at hand.
    fn has_next(&self) -> bool {
        (self.block_at..self.block_at + self.block.len() as u64).contains(&self.at)
    }

    /// Takes the next of the blocks under way.
    fn receive(&mut self) -> io::Result<()> {
        let closed = || io::Error::other("the source is being closed");
        let blocks = self.blocks.as_mut().ok_or_else(closed)?;
        match blocks.received.blocking_recv().ok_or_else(closed)? {
            Ok(block) => {
                blocks.share.add_permits(1);
                (self.block, self.block_at) = (block, blocks.next_at);
                blocks.next_at += self.block.len() as u64;
                if self.block_at == 0 {
                    self.head = self.block.clone();
                }
                Ok(())
            }
            Err(error) => {
                self.blocks = None;
                let name = self.objects.name(&self.object.key);
                Err(io::Error::other(source_error(&name, &error)))
            }
        }
    }
}

/// What a source says when `name` cannot be read.
pub(crate) fn source_error(name: &str, error: &ObjectError) -> SourceError {
    match error {
        ObjectError::Changed(how) => {
            SourceError::Changed { what: name.to_owned(), how: how.clone() }
        }
        ObjectError::Gone => SourceError::Changed { what: name.to_owned(), how: error.to_string() },
        other => SourceError::Io(format!("cannot read '{name}': {other}")),
    }
}

async fn fetch_block(
    store: &object_store::aws::AmazonS3,
    object: &Found,
    range: std::ops::Range<u64>,
    patience: Patience,
    name: &str,
) -> Result<Bytes, ObjectError> {
    let mut pause = Duration::from_secs(1);
    loop {
        let got = get_range(store, &object.key, range.clone(), object.etag.as_deref()).await;
        match got {
            Err(ObjectError::Transient(why)) if patience == Patience::Endless => {
                tracing::warn!("'{name}' cannot be read, trying again in {pause:?}: {why}");
                tokio::time::sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
            }
            got => return got,
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_next() && !self.bring()? {
            return Ok(0);
        }
        let offset = usize::try_from(self.at - self.block_at).map_err(io::Error::other)?;
        let rest = &self.block[offset..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.object.size.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
