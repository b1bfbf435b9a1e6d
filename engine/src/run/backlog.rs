//! Epochs that are closed and not yet with the workers: they wait for the disk, or for a sink that takes no rows.
//!
//! What a reader would get wrong:
//!
//! * A sink that is away for a day must not cost the records of a broker that keeps a minute of them. So sources that
//!   cannot send again are read on into the journal, up to its limit, and their epochs gather here.
//! * Only so many bytes of them stay in memory. When there are more, all that is durable is forgotten but for the numbers
//!   of its epochs, and read back from the journal when its turn comes. What was forgotten is older than what was not.
//! * What earlier runs have left in the journal begins as such a part that is forgotten.
//! * Reading back is asked of the thread that writes the journal, which alone knows what is in it; nobody waits for the
//!   answer.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::crash::crash_point;
use crate::graph::SourceNode;
use crate::journal::JournalReplay;
use crate::run::RunError;
use crate::run::journalist::{Entry, Log};
use crate::run::ledger::{Snapshot, Told};
use crate::run::recovery::Replayer;
use crate::run::worker::Share;

/// What an epoch takes beside its records, roughly.
const EPOCH_BYTES: usize = 512;

/// What was forgotten, on its way back.
enum Reader {
    /// Nobody was asked.
    Idle,
    /// The journal's thread was.
    Asked(Receiver<JournalReplay>),
    /// It is being read.
    Reading(Box<Replayer>),
}

/// Epochs in the order of their numbers.
pub(crate) struct Backlog {
    /// Numbers of the epochs that only the journal has.
    parked: Range<u64>,
    /// Those of them at whose end state is to be saved.
    snapshots: BTreeMap<u64, Snapshot>,
    reader: Reader,
    /// In memory, behind those that are parked.
    waiting: VecDeque<(Told, Share)>,
    /// Undecoded bytes of what is in memory.
    bytes: usize,
    /// Most of them.
    bytes_max: usize,
    /// The last epoch that is durable.
    durable: u64,
}

impl Backlog {
    /// The epochs `left` by earlier runs, which the journal has; `bytes_max` of others may be in memory.
    pub(crate) fn new(left: Range<u64>, bytes_max: usize) -> Self {
        Backlog {
            parked: left,
            snapshots: BTreeMap::new(),
            reader: Reader::Idle,
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
            durable: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.waiting.is_empty()
    }

    /// Whether a part of it is in the journal only.
    pub(crate) fn is_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Takes the next epoch in.
    pub(crate) fn push(&mut self, told: Told, chunks: Share) {
        self.bytes += bytes_of(&chunks);
        self.waiting.push_back((told, chunks));
    }

    /// Everything up to `epoch` is in the journal for certain.
    pub(crate) fn durable(&mut self, epoch: u64) {
        self.durable = epoch;
    }

    /// Forgets what the journal has, if there is too much.
    pub(crate) fn bound(&mut self) {
        if self.bytes <= self.bytes_max {
            return;
        }
        while let Some((told, chunks)) = self.take_durable() {
            let id = told.epoch.id;
            if self.parked.is_empty() {
                self.parked = id..id;
            }
            self.parked.end = id + 1;
            if told.snapshot != Snapshot::No {
                self.snapshots.insert(id, told.snapshot);
            }
            drop(chunks);
        }
    }

    fn take_durable(&mut self) -> Option<(Told, Share)> {
        let durable = self.waiting.front().is_some_and(|(told, _)| told.epoch.id <= self.durable);
        let (told, chunks) = durable.then(|| self.waiting.pop_front()).flatten()?;
        self.bytes -= bytes_of(&chunks);
        Some((told, chunks))
    }

    /// The oldest epoch with its chunks, once they are at hand.
    ///
    /// # Errors
    /// When the journal cannot be read, or a source no longer has what it had.
    pub(crate) fn next(
        &mut self,
        log: &Log,
        sources: &mut [SourceNode],
    ) -> Result<Option<(Told, Share)>, RunError> {
        if self.parked.is_empty() {
            self.reader = Reader::Idle;
            return Ok(self.take_durable());
        }
        let first = self.parked.start;
        let (mut replayer, is_new) = match std::mem::replace(&mut self.reader, Reader::Idle) {
            Reader::Reading(replayer) => (replayer, false),
            Reader::Idle => {
                let (sender, receiver) = bounded(1);
                // The journal's thread is gone only when the run has failed.
                log.entries.send(Entry::ReadBack(first - 1, sender)).ok();
                self.reader = Reader::Asked(receiver);
                return Ok(None);
            }
            Reader::Asked(receiver) => match receiver.try_recv() {
                Ok(replay) => (Box::new(Replayer::new(replay)), true),
                Err(TryRecvError::Empty) => {
                    self.reader = Reader::Asked(receiver);
                    return Ok(None);
                }
                Err(TryRecvError::Disconnected) => return Ok(None),
            },
        };
        let found = replayer.next(sources)?;
        if found.is_none() && !is_new {
            // What was appended since the journal was asked is not part of its answer.
            return Ok(None);
        }
        let Some((epoch, chunks)) = found.filter(|(epoch, _)| epoch.id == first) else {
            return Err(RunError::Engine(format!("the journal has lost epoch {first} (a bug)")));
        };
        crash_point("epoch replayed");
        self.reader = Reader::Reading(replayer);
        self.parked.start += 1;
        let snapshot = self.snapshots.remove(&first).unwrap_or(Snapshot::No);
        Ok(Some((Told { epoch: Arc::new(epoch), snapshot }, chunks)))
    }
}

fn bytes_of(chunks: &Share) -> usize {
    EPOCH_BYTES + chunks.iter().map(|(_, chunk)| chunk.payload.len()).sum::<usize>()
}
