//! Where rows come from.

use serde::{Deserialize, Serialize};

use arrow::array::{RecordBatch, UInt64Array};

use crate::dead::DeadLetter;

/// A file, object, topic or connection of a source; numbered in the order in which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub u32);

/// Where a record stands in its source: the partition in the top 24 bits, its ordinal in the rest.
///
/// For a text file the ordinal is the line, counted from 1. Positions of one source are in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    const ORDINAL_BITS: u32 = 40;
    /// Most partitions of a source, 16.7 million.
    pub const MAX_PARTITIONS: u32 = 1 << (64 - Self::ORDINAL_BITS);
    /// A source numbers its partitions from 0, or some from 0 and some from here, without gaps.
    pub const SECOND_PARTITIONS: u32 = Self::MAX_PARTITIONS / 2;

    /// The position of record `ordinal` in `partition`.
    #[must_use]
    pub fn new(partition: Partition, ordinal: u64) -> Self {
        debug_assert!(partition.0 < Self::MAX_PARTITIONS, "sources refuse more partitions");
        Position((u64::from(partition.0) << Self::ORDINAL_BITS) | ordinal)
    }

    /// The partition.
    #[must_use]
    pub fn partition(self) -> Partition {
        Partition(u32::try_from(self.0 >> Self::ORDINAL_BITS).expect("24 bits fit in 32"))
    }

    /// The record's place in its partition; the line of a text file.
    #[must_use]
    pub fn ordinal(self) -> u64 {
        self.0 & ((1 << Self::ORDINAL_BITS) - 1)
    }
}

/// A stretch of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First byte (of a file, before decompression) or first record.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Ordinal of the first record in it.
    pub first_ordinal: u64,
    /// Ordinal of the record that follows it.
    pub end_ordinal: u64,
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadUpTo {
    /// [`Range::end`] of the last stretch.
    pub end: u64,
    /// [`Range::end_ordinal`] of the last stretch.
    pub end_ordinal: u64,
}

/// A partition that an earlier run of the pipeline has read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPartition {
    /// Its number, which it keeps.
    pub partition: Partition,
    /// What a person calls it.
    pub name: String,
    /// What the source knows it by ([`Source::identity`]).
    pub identity: Vec<u8>,
    /// How far it was read; `None` when nothing was.
    pub read: Option<ReadUpTo>,
}

/// Raw records as a source hands them to the engine: a run of one partition, not yet decoded.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The partition.
    pub partition: Partition,
    /// Which part of it.
    pub range: Range,
    /// How many records it holds, as far as is known before decoding; epochs are cut by it.
    pub rows: usize,
    /// The bytes. They end at a record's end.
    pub payload: Vec<u8>,
}

/// What became of a [`Chunk`].
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows of the source's schema with the position of each, in source order.
    pub rows: Vec<(RecordBatch, UInt64Array)>,
    /// Records that could not be read.
    pub dead: Vec<DeadLetter>,
    /// Records that were in the chunk: rows + dead letters.
    pub records: u64,
}

/// Turns raw records into rows. Every worker has its own; the work of parsing is done there.
///
/// A decoder is a pure function of the chunk. NaN becomes null; an infinite value, a null time or a null key
/// makes the record a dead letter.
pub trait Decoder: Send {
    /// Decodes `chunk` into `out`.
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded);
}

/// Whether a source can hand out the same records again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// By range: a file or an object.
    ByRange,
    /// No, but the engine keeps the payloads: MQTT, HTTP.
    ByPayload,
    /// No, and nothing is kept.
    Never,
}

/// What a source has.
#[derive(Debug)]
pub enum Poll {
    /// Records.
    Ready(Chunk),
    /// None at the moment.
    Pending,
    /// None, for good.
    Ended,
}

/// A source could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The outside world failed; the text names the file, object or address.
    #[error("{0}")]
    Io(String),
    /// What lies there is no longer what was read before.
    #[error("'{what}' has changed since it was read: {how}")]
    Changed {
        /// The file or object.
        what: String,
        /// What differs.
        how: String,
    },
    /// A stated limit was reached.
    #[error("{0}")]
    Limit(String),
}

/// Where rows come from. The engine polls it from one thread; decoding is done by the workers.
pub trait Source: Send {
    /// Whether it can hand out the same records again.
    fn replay(&self) -> Replay;

    /// The same for the records of one partition, where a source has several kinds of them.
    fn replay_of(&self, _: Partition) -> Replay {
        self.replay()
    }

    /// Whether records of `partition` wait, durable, until others of the source were read: they are part of no epoch
    /// before this is false. They must be of [`Replay::ByPayload`].
    fn holds_back(&self, _: Partition) -> bool {
        false
    }

    /// Room for so many bytes more that are held back. Said before each poll; with none of it, the source hands out
    /// none of them.
    fn may_hold_back(&mut self, _bytes: u64) {}

    /// Of a relation: whether it was read, by this run or one before. Until then no stream is.
    fn is_there(&self) -> bool {
        true
    }

    /// Whether it is there for other sources: the run does not wait for its end.
    fn serves(&self) -> bool {
        false
    }

    /// The next records, at most about `budget_bytes`.
    ///
    /// # Errors
    /// When the outside world fails in a way that waiting does not mend.
    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError>;

    /// The records of `range` once more.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when what lies there is not what was read before.
    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError>;

    /// All records of `partition` up to `upto` are durable with us: acknowledge them.
    fn durable(&mut self, partition: Partition, upto: Position);

    /// A decoder for one worker.
    fn decoder(&self) -> Box<dyn Decoder>;

    /// What a person calls the partition: the file's path, the object's key.
    fn partition_name(&self, partition: Partition) -> Option<String>;

    /// What the source knows the partition by, for itself to read when it is handed to [`Source::resume`].
    fn identity(&self, partition: Partition) -> Vec<u8>;

    /// Goes on behind what an earlier run has read. Called before anything is polled or read.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when a partition is gone or is not what it was.
    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError>;
}
