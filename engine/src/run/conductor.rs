//! Closes epochs and feeds them to the workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::epoch::{Epoch, InputRange, SourceId};
use crate::graph::SourceNode;
use crate::run::hub::Places;
use crate::run::ledger::Failure;
use crate::run::worker::Order;
use crate::run::{Options, RunError};
use crate::source::{Chunk, Poll};

/// Most bytes asked of a source at a time. Small enough that an epoch has chunks for every worker, large enough
/// that a read costs little beside the parsing of what it brought.
const CHUNK_BYTES: usize = 512 * 1024;
/// An epoch closes when it holds so many bytes, however few rows they are. With 8 epochs in flight it bounds what
/// undecoded input takes at 256 MiB.
const EPOCH_BYTES: usize = 32 << 20;
/// How long to wait when no source has anything.
const PAUSE: Duration = Duration::from_millis(1);

/// Polls the sources and cuts epochs.
pub(crate) struct Conductor<'a> {
    pub sources: Vec<SourceNode>,
    pub orders: Vec<Sender<Order>>,
    pub done: Receiver<u64>,
    pub places: Places,
    pub failure: &'a Failure,
    pub options: &'a Options,
}

/// An epoch that is being filled.
#[derive(Default)]
struct Filling {
    rows: usize,
    bytes: usize,
    chunks: Vec<(usize, Arc<Chunk>)>,
    ended: Vec<SourceId>,
}

impl Conductor<'_> {
    /// Works until all sources have ended, the run is stopped, or it has failed; whether it was stopped.
    pub(crate) fn work(mut self) -> bool {
        let mut open: Vec<bool> = vec![true; self.sources.len()];
        let mut turn = 0;
        let (mut closed, mut through) = (0, 0);
        let mut stopped = false;
        while open.contains(&true) && !self.failure.is_raised() {
            if self.options.stop.load(Ordering::Acquire) {
                stopped = true;
                break;
            }
            if !self.has_room(closed, &mut through) {
                continue;
            }
            match self.fill(&mut open, &mut turn) {
                Ok(filling) if filling.chunks.is_empty() && filling.ended.is_empty() => {}
                Ok(filling) => {
                    closed += 1;
                    self.close(closed, filling);
                }
                Err(error) => self.failure.raise(error),
            }
        }
        for order in &self.orders {
            order.send(Order::End).ok();
        }
        stopped
    }

    /// Whether another epoch may be in flight; waits a while for it.
    fn has_room(&self, closed: u64, through: &mut u64) -> bool {
        while let Ok(epoch) = self.done.try_recv() {
            *through = epoch;
        }
        if closed - *through < self.options.epochs_in_flight as u64 {
            return true;
        }
        match self.done.recv_timeout(Duration::from_millis(20)) {
            Ok(epoch) => *through = epoch,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        false
    }

    /// Takes chunks from the sources in turn until the epoch is full, or they have nothing more at hand and its
    /// time is up. Sources that always have more are never cut by time, so files give the same epochs each run.
    fn fill(&mut self, open: &mut [bool], turn: &mut usize) -> Result<Filling, RunError> {
        let mut filling = Filling::default();
        let epoch_rows = self.options.epoch_rows;
        #[expect(
            clippy::disallowed_methods,
            reason = "when to close an epoch is not part of a result"
        )]
        let begun = Instant::now();
        let mut idle = 0;
        let full = move |f: &Filling| f.rows >= epoch_rows || f.bytes >= EPOCH_BYTES;
        while !full(&filling) && open.contains(&true) {
            if self.options.stop.load(Ordering::Acquire) || self.failure.is_raised() {
                break;
            }
            let source = *turn % self.sources.len();
            *turn += 1;
            if open[source] && self.poll(source, &mut filling, open)? {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle >= self.sources.len() {
                let due = begun.elapsed() >= self.options.epoch_interval;
                if due || !filling.ended.is_empty() {
                    break;
                }
                self.done.recv_timeout(PAUSE).ok();
                idle = 0;
            }
        }
        Ok(filling)
    }

    /// Whether the source had something.
    fn poll(
        &mut self,
        source: usize,
        filling: &mut Filling,
        open: &mut [bool],
    ) -> Result<bool, RunError> {
        let node = &mut self.sources[source];
        let polled = node.source.poll(CHUNK_BYTES);
        match polled.map_err(|e| RunError::Source(node.name.clone(), e))? {
            Poll::Ready(chunk) => {
                let mut places = self.places.lock().unwrap_or_else(|e| e.into_inner());
                if let std::collections::btree_map::Entry::Vacant(vacant) =
                    places.entry((source, chunk.partition))
                    && let Some(name) = node.source.partition_name(chunk.partition)
                {
                    vacant.insert(name);
                }
                filling.rows += chunk.rows;
                filling.bytes += chunk.payload.len();
                filling.chunks.push((source, Arc::new(chunk)));
                Ok(true)
            }
            Poll::Pending => Ok(false),
            Poll::Ended => {
                open[source] = false;
                filling.ended.push(source_id(source));
                Ok(false)
            }
        }
    }

    /// Makes it an epoch and hands it to the workers, the chunks in turn.
    fn close(&self, id: u64, filling: Filling) {
        let inputs = filling.chunks.iter().map(|(source, chunk)| InputRange {
            source: source_id(*source),
            partition: chunk.partition,
            range: chunk.range,
        });
        let epoch = Arc::new(Epoch {
            id,
            clock_ns: self.options.clock.now_ns(),
            inputs: inputs.collect(),
            commands: Vec::new(),
            ended: filling.ended,
        });
        let workers = self.orders.len();
        let mut shares: Vec<Vec<(usize, Arc<Chunk>)>> = vec![Vec::new(); workers];
        for (i, chunk) in filling.chunks.into_iter().enumerate() {
            shares[i % workers].push(chunk);
        }
        for (order, share) in self.orders.iter().zip(shares) {
            // A worker that is gone has raised the failure that the loop above looks for.
            order.send(Order::Epoch(Arc::clone(&epoch), share)).ok();
        }
    }
}

pub(crate) fn source_id(source: usize) -> SourceId {
    SourceId(u32::try_from(source).expect("a pipeline has fewer than 2^32 sources"))
}
