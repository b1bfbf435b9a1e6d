//! The thread that makes inputs and epochs durable, many with one fsync, while the next are gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::crash::crash_point;
use crate::epoch::{Epoch, SourceId};
use crate::journal::{Journal, JournalError, JournalReplay, PartitionRecord, digest};
use crate::run::RunError;
use crate::run::ledger::Failure;
use crate::source::{Chunk, KnownPartition, Partition, Position};

/// Most entries that wait for the journal; a source is not polled while it is that far behind.
const ENTRIES_MAX: usize = 256;

/// How long to wait for space on a full disk before trying again.
const DISK_FULL_PAUSE: Duration = Duration::from_millis(200);

/// What is to be made durable.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A partition, before anything from it.
    Partition(SourceId, KnownPartition),
    /// Records of a source that cannot hand them out again.
    Input(SourceId, Arc<Chunk>),
    /// An epoch with its chunks, in the order of its inputs.
    Epoch(Arc<Epoch>, Vec<Arc<Chunk>>),
    /// A snapshot as of the end of this epoch is the oldest that is kept.
    Trim(u64),
    /// Somebody wants to read what follows this epoch.
    ReadBack(u64, Sender<JournalReplay>),
}

/// What is durable.
#[derive(Debug)]
pub(crate) enum Durable {
    /// Everything of a partition up to here.
    Input(SourceId, Partition, Position),
    /// Every epoch up to here.
    Epoch(u64),
}

/// The conductor's end.
#[derive(Debug)]
pub(crate) struct Log {
    pub entries: Sender<Entry>,
    pub durable: Receiver<Durable>,
    /// The journal has reached its limit: no more is to be read.
    pub full: Arc<AtomicBool>,
    /// How many bytes the journal has.
    pub bytes: Arc<AtomicU64>,
}

impl Log {
    /// Whether so much waits for the journal that nothing more should be read.
    pub(crate) fn is_behind(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX / 2
    }
}

/// The two ends of a journal: that of the conductor, and the one that writes.
pub(crate) fn pair(journal: Journal) -> (Log, Writer) {
    let (entries, received) = bounded(ENTRIES_MAX);
    let (durable_sender, durable) = unbounded();
    let full = Arc::new(AtomicBool::new(journal.is_full()));
    let bytes = Arc::new(AtomicU64::new(journal.bytes()));
    let writer = Writer {
        journal,
        entries: received,
        durable: durable_sender,
        full: Arc::clone(&full),
        bytes: Arc::clone(&bytes),
        pending: None,
        batch: Batch::default(),
    };
    (Log { entries, durable, full, bytes }, writer)
}

/// Makes entries durable.
pub(crate) struct Writer {
    journal: Journal,
    entries: Receiver<Entry>,
    durable: Sender<Durable>,
    full: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    /// What did not fit on the disk.
    pending: Option<Entry>,
    batch: Batch,
}

/// What the next fsync makes durable.
#[derive(Debug, Default)]
struct Batch {
    inputs: BTreeMap<(SourceId, Partition), Position>,
    epoch: Option<u64>,
    trim: Option<u64>,
}

impl Writer {
    /// Works until the other end is gone.
    pub(crate) fn work(mut self, failure: &Failure) {
        while !failure.is_raised() {
            match self.turn(true) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => failure.raise(RunError::Journal(error)),
            }
        }
    }

    /// Takes what waits, makes all of it durable at once, and says so; whether more may come.
    pub(crate) fn turn(&mut self, wait: bool) -> Result<bool, JournalError> {
        let first = match self.pending.take() {
            Some(entry) => entry,
            None if wait => match self.entries.recv() {
                Ok(entry) => entry,
                Err(_) => return Ok(false),
            },
            None => match self.entries.try_recv() {
                Ok(entry) => entry,
                Err(e) => return Ok(e == crossbeam_channel::TryRecvError::Empty),
            },
        };
        crash_point("before journal append");
        self.append(first)?;
        // The channel's length bounds what one fsync may wait for.
        for _ in 0..ENTRIES_MAX {
            let Some(next) = self.pending.is_none().then(|| self.entries.try_recv().ok()).flatten()
            else {
                break;
            };
            self.append(next)?;
        }
        self.settle()?;
        if wait && self.pending.is_some() {
            crossbeam_channel::after(DISK_FULL_PAUSE).recv().ok();
        }
        Ok(true)
    }

    fn settle(&mut self) -> Result<(), JournalError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.epoch.is_some() || !batch.inputs.is_empty() {
            crash_point("journal appended");
            self.journal.sync()?;
            crash_point("journal synced");
        }
        if let Some(epoch) = batch.trim {
            crash_point("before journal trim");
            self.journal.trim_below(epoch)?;
            crash_point("journal trimmed");
        }
        let full = self.pending.is_some() || self.journal.is_full();
        self.full.store(full, Ordering::Release);
        self.bytes.store(self.journal.bytes(), Ordering::Release);
        for ((source, partition), upto) in batch.inputs {
            self.durable.send(Durable::Input(source, partition, upto)).ok();
        }
        if let Some(epoch) = batch.epoch {
            self.durable.send(Durable::Epoch(epoch)).ok();
        }
        Ok(())
    }

    /// Appends an entry; one that does not fit on the disk is kept until there is space.
    fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        let appended = match &entry {
            Entry::Partition(source, known) => self.journal.append_partition(&PartitionRecord {
                source: *source,
                partition: known.partition,
                name: known.name.clone(),
                identity: known.identity.clone(),
                read: None,
            }),
            Entry::Input(source, chunk) => self.journal.append_input(chunk, *source),
            Entry::Epoch(epoch, chunks) => {
                let digests: Vec<_> = chunks.iter().map(|c| digest(&c.payload)).collect();
                self.journal.append_epoch(epoch, &digests)
            }
            Entry::ReadBack(after, asker) => {
                asker.send(self.journal.replay_after(Some(*after))).ok();
                Ok(())
            }
            Entry::Trim(_) => Ok(()),
        };
        match appended {
            Err(error @ JournalError::DiskFull { .. }) => {
                tracing::warn!("{error}");
                self.pending = Some(entry);
                return Ok(());
            }
            appended => appended?,
        }
        match entry {
            Entry::Partition(..) | Entry::ReadBack(..) => {}
            Entry::Input(source, chunk) => {
                let last = chunk.range.end_ordinal.saturating_sub(1);
                let upto = Position::new(chunk.partition, last);
                self.batch.inputs.insert((source, chunk.partition), upto);
            }
            Entry::Epoch(epoch, _) => self.batch.epoch = Some(epoch.id),
            Entry::Trim(epoch) => self.batch.trim = Some(epoch),
        }
        Ok(())
    }
}
