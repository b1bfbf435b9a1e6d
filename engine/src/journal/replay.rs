//! Reads epochs back, one segment at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use super::index::InputKey;
use super::record::{EpochHead, PartitionRecord, Record};
use super::segment::{name_of, walk};
use super::{JournalError, io_error};
use crate::disk::Disk;
use crate::epoch::{Epoch, SourceId};
use crate::source::Chunk;

/// What the journal has to say to a run that continues an earlier one, in this order: partitions before what
/// refers to them, epochs one after the other, then what belongs to no epoch.
#[derive(Debug)]
pub enum Replayed {
    /// A partition was met, and its number stands for this. Those that were met before are in
    /// [`Recovered::partitions`](super::Recovered::partitions) or in the snapshot.
    Partition(PartitionRecord),
    /// An epoch was closed.
    Epoch {
        /// As it was fed to the dataflow.
        epoch: Epoch,
        /// One for each of its `inputs`, in the same order.
        inputs: Vec<ReplayedInput>,
    },
    /// Records that are durable and were perhaps acknowledged, but that no epoch has: they belong into the next.
    /// They are in the journal; do not append them again.
    Unmarked {
        /// The source.
        source: SourceId,
        /// The records.
        chunk: Chunk,
    },
}

/// An input of an epoch.
#[derive(Debug)]
pub struct ReplayedInput {
    /// [`digest`](super::digest) of its bytes. A source that reads them again must get the same.
    pub digest: u128,
    /// The bytes; `None` for a source that can hand them out again.
    pub chunk: Option<Chunk>,
}

/// The records of a journal from an epoch on. Holds one segment at a time, and the inputs that wait for their epoch.
#[derive(Debug)]
pub struct JournalReplay {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Segments not yet read: first sequence number and length.
    segments: VecDeque<(u64, u64)>,
    after: Option<u64>,
    /// The last epoch that was handed out, or after which to begin.
    last: Option<u64>,
    waiting: BTreeMap<InputKey, (u64, SourceId, Chunk)>,
    partitions: BTreeMap<(SourceId, u32), PartitionRecord>,
    ready: VecDeque<Replayed>,
    ended: bool,
}

impl JournalReplay {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segments: VecDeque<(u64, u64)>,
        after: Option<u64>,
    ) -> Self {
        JournalReplay {
            disk,
            dir,
            segments,
            after,
            last: after,
            waiting: BTreeMap::new(),
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The epoch before the first that is handed out; 0 when it is the first of all.
    pub(crate) fn after(&self) -> u64 {
        self.after.unwrap_or(0)
    }

    fn read_segment(&mut self, first: u64, len: u64) -> Result<(), JournalError> {
        let file = self.dir.join(name_of(first));
        let mut bytes = self.disk.read(&file).map_err(|e| io_error("read", &file, &e))?;
        // What was appended since is not part of the replay.
        bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        let short = (bytes.len() as u64) < len;
        let mut missing = None;
        let bad = walk(&bytes, first, |sequence, _, record| {
            self.take(sequence, record).map_err(|epoch| {
                missing = Some(epoch);
                String::new()
            })
        });
        match (missing, bad) {
            (Some(epoch), _) => Err(JournalError::Missing { epoch }),
            (None, Some(bad)) => {
                Err(JournalError::Corrupt { file, offset: bad.offset as u64, what: bad.what })
            }
            (None, None) if short => {
                let what = format!("it had {len} bytes when it was opened");
                Err(JournalError::Corrupt { file, offset: bytes.len() as u64, what })
            }
            (None, None) => Ok(()),
        }
    }

    /// Takes a record in; fails with the epoch that cannot be replayed.
    fn take(&mut self, sequence: u64, record: Record<'_>) -> Result<(), u64> {
        match record {
            Record::Input(head, body) => {
                let key = InputKey::of(&head);
                let rows = usize::try_from(head.rows).unwrap_or(usize::MAX);
                let (partition, range) = (head.partition, head.range);
                let chunk = Chunk { partition, range, rows, payload: body.to_vec() };
                self.waiting.insert(key, (sequence, head.source, chunk));
            }
            Record::Partition(partition) => self.take_partition(partition),
            Record::Epoch(head) => return self.take_epoch(head),
            Record::Run(_) => {}
        }
        Ok(())
    }

    /// Trimming repeats what stays; only what is new is said.
    fn take_partition(&mut self, partition: PartitionRecord) {
        let key = (partition.source, partition.partition.0);
        if self.partitions.get(&key) != Some(&partition) {
            self.partitions.insert(key, partition.clone());
            self.ready.push_back(Replayed::Partition(partition));
        }
    }

    fn take_epoch(&mut self, head: EpochHead) -> Result<(), u64> {
        let EpochHead { epoch, digests, kept } = head;
        let past = self.after.is_some_and(|after| epoch.id <= after);
        let next = self.last.map_or(epoch.id, |last| last.wrapping_add(1));
        if !past && epoch.id != next {
            return Err(next);
        }
        let mut inputs = Vec::with_capacity(digests.len());
        for ((input, digest), kept) in epoch.inputs.iter().zip(digests).zip(kept) {
            let key = InputKey::new(input.source, input.partition, input.range);
            let chunk =
                if kept { self.waiting.remove(&key).map(|(_, _, chunk)| chunk) } else { None };
            if kept && chunk.is_none() && !past {
                return Err(epoch.id);
            }
            inputs.push(ReplayedInput { digest, chunk });
        }
        if !past {
            self.last = Some(epoch.id);
            self.ready.push_back(Replayed::Epoch { epoch, inputs });
        }
        Ok(())
    }

    /// What waits for no epoch that follows, in the order in which it came.
    fn end(&mut self) {
        let mut left: Vec<_> = std::mem::take(&mut self.waiting).into_values().collect();
        left.sort_by_key(|(sequence, _, _)| *sequence);
        let unmarked =
            left.into_iter().map(|(_, source, chunk)| Replayed::Unmarked { source, chunk });
        self.ready.extend(unmarked);
        self.ended = true;
    }
}

impl Iterator for JournalReplay {
    type Item = Result<Replayed, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            if self.ended {
                return None;
            }
            let Some((first, len)) = self.segments.pop_front() else {
                self.end();
                continue;
            };
            if let Err(error) = self.read_segment(first, len) {
                // What was read before it is sound, but a caller must not go on as if it were all.
                self.ended = true;
                self.ready.clear();
                return Some(Err(error));
            }
        }
    }
}
