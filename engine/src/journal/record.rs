//! A record of the journal, as bytes and back.
//!
//! ```text
//! segment  "foreline" · format u32 · 0 u32 · first sequence u64 · checksum u64           record …
//! record   magic u32 · kind u32 · length u32 · head u32 · sequence u64 · synced u64 · checksum u64
//!          head (postcard) · body (raw) · checksum u64
//! ```
//!
//! Numbers are little-endian; `length` is that of head and body. The checksums are XXH3, 64 bits: it is at hand for the
//! hash of keys, runs at the speed of memory, and misses one damage in 2^64 where CRC-32C misses one in 2^32. Both
//! depend on the segment and the sequence number, so that what was in a block before is never taken for a record.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::epoch::{Epoch, SourceId};
use crate::sink::RunId;
use crate::source::{Partition, Range, ReadUpTo};

/// First bytes of a segment.
const SEGMENT_MAGIC: &[u8; 8] = b"foreline";
/// The format that this code writes, and the only one that it reads.
pub(super) const FORMAT: u32 = 2;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 32;
/// First bytes of a record.
const RECORD_MAGIC: [u8; 4] = [0xf0, b'J', b'r', 0x1e];
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 40;
/// Bytes of the checksum behind a payload.
pub(super) const TRAILER: usize = 8;
/// Longest head and body of a record. Sources hand out a few megabytes at a time; what is longer is damage or a
/// mistake, and must not be allocated.
pub(super) const MAX_RECORD_BYTES: usize = 256 << 20;

/// Raw records of a source that cannot hand them out again; the payload is the record's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputHead {
    pub(super) source: SourceId,
    pub(super) partition: Partition,
    pub(super) range: Range,
    pub(super) rows: u64,
}

/// What a partition's number stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// The source.
    pub source: SourceId,
    /// The number.
    pub partition: Partition,
    /// What a person calls it: the file's path, the object's key, the topic.
    pub name: String,
    /// What the source knows it by again: size and digest of a file, the ETag of an object.
    pub identity: Vec<u8>,
    /// How far it was read by epochs that the journal does not have; `None` when it has all that read from it.
    pub read: Option<ReadUpTo>,
}

/// A run of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its number.
    pub run: RunId,
    /// How many workers it had.
    pub workers: u32,
    /// The digest of the plan that it carried out.
    pub plan: String,
}

/// The marker that closes an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochHead {
    pub(super) epoch: Epoch,
    /// XXH3, 128 bits, of the raw bytes of each input.
    pub(super) digests: Vec<u128>,
    /// Whether the bytes of each input are in the journal.
    pub(super) kept: Vec<bool>,
}

/// A record that was read.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Input(InputHead, &'a [u8]),
    Partition(PartitionRecord),
    Epoch(EpochHead),
    Run(RunRecord),
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    Input(&'a InputHead, &'a [u8]),
    Partition(&'a PartitionRecord),
    Epoch(&'a EpochHead),
    Run(&'a RunRecord),
}

impl Record<'_> {
    pub(super) fn entry(&self) -> Entry<'_> {
        match self {
            Record::Input(head, body) => Entry::Input(head, body),
            Record::Partition(partition) => Entry::Partition(partition),
            Record::Epoch(head) => Entry::Epoch(head),
            Record::Run(run) => Entry::Run(run),
        }
    }
}

impl Entry<'_> {
    fn kind(&self) -> u32 {
        match self {
            Entry::Input(..) => 1,
            Entry::Partition(_) => 2,
            Entry::Epoch(_) => 3,
            Entry::Run(_) => 4,
        }
    }

    fn head(&self) -> Result<Vec<u8>, postcard::Error> {
        match self {
            Entry::Input(head, _) => postcard::to_allocvec(head),
            Entry::Partition(head) => postcard::to_allocvec(head),
            Entry::Epoch(head) => postcard::to_allocvec(head),
            Entry::Run(head) => postcard::to_allocvec(head),
        }
    }

    /// Adds the record to `out`; what is wrong with it when it cannot be written.
    pub(super) fn write(&self, mark: Mark, out: &mut Vec<u8>) -> Result<(), String> {
        let head = self.head().map_err(|e| e.to_string())?;
        let body = if let Entry::Input(_, body) = self { body } else { &[][..] };
        let length = head.len() + body.len();
        if length > MAX_RECORD_BYTES {
            return Err(format!("it has {length} bytes and the limit is {MAX_RECORD_BYTES}"));
        }
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        for number in [self.kind(), short(length), short(head.len())] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&mark.sequence.to_le_bytes());
        out.extend_from_slice(&mark.synced.to_le_bytes());
        let check = xxh3_64_with_seed(&out[start..], mark.segment);
        out.extend_from_slice(&check.to_le_bytes());
        let payload = out.len();
        out.extend_from_slice(&head);
        out.extend_from_slice(body);
        let check = xxh3_64_with_seed(&out[payload..], mark.sequence ^ mark.segment);
        out.extend_from_slice(&check.to_le_bytes());
        Ok(())
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// First sequence number of its segment.
    pub(super) segment: u64,
    /// Its own.
    pub(super) sequence: u64,
    /// All up to this one were durable when it was written. This tells damage from what a power loss tore.
    pub(super) synced: u64,
}

/// A record whose checksums hold, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u64,
    pub(super) synced: u64,
    kind: u32,
    head: &'a [u8],
    body: &'a [u8],
    /// Bytes of all of it.
    pub(super) len: usize,
}

impl<'a> Frame<'a> {
    /// The record at the start of `bytes`; what is wrong when there is none.
    pub(super) fn parse(bytes: &'a [u8], segment: u64) -> Result<Self, &'static str> {
        let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else {
            return Err("a record's header is cut off");
        };
        if header[..4] != RECORD_MAGIC {
            return Err("no record begins here");
        }
        if u64_at(header, 32) != xxh3_64_with_seed(&header[..32], segment) {
            return Err("the checksum of a record's header does not hold");
        }
        let (length, head) = (size_at(header, 8), size_at(header, 12));
        if length > MAX_RECORD_BYTES || head > length {
            return Err("a record's length is beyond the limit");
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Err("a record is cut off");
        };
        let sequence = u64_at(header, 16);
        if rest.len() < TRAILER {
            return Err("a record is cut off");
        }
        if u64_at(rest, 0) != xxh3_64_with_seed(payload, sequence ^ segment) {
            return Err("the checksum of a record's payload does not hold");
        }
        Ok(Frame {
            sequence,
            synced: u64_at(header, 24),
            kind: u32_at(header, 4),
            head: &payload[..head],
            body: &payload[head..],
            len: RECORD_HEADER + length + TRAILER,
        })
    }

    /// What it says.
    pub(super) fn record(&self) -> Result<Record<'a>, &'static str> {
        const UNREADABLE: &str = "a record has another shape than its kind";
        let read = match self.kind {
            1 => Record::Input(self.decode().ok_or(UNREADABLE)?, self.body),
            2 => Record::Partition(self.decode().ok_or(UNREADABLE)?),
            3 => Record::Epoch(self.decode().ok_or(UNREADABLE)?),
            4 => Record::Run(self.decode().ok_or(UNREADABLE)?),
            _ => return Err("a record is of a kind that this version does not know"),
        };
        match &read {
            Record::Epoch(e)
                if e.digests.len() != e.epoch.inputs.len() || e.kept.len() != e.digests.len() =>
            {
                Err(UNREADABLE)
            }
            _ => Ok(read),
        }
    }

    fn decode<T: Deserialize<'a>>(&self) -> Option<T> {
        postcard::from_bytes(self.head).ok()
    }
}

/// The places in `bytes` from `from` on where a record may begin.
pub(super) fn candidates(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> + '_ {
    let tail = bytes.get(from..).unwrap_or_default();
    let begins = move |&(_, four): &(usize, &[u8])| four == RECORD_MAGIC;
    tail.windows(RECORD_MAGIC.len()).enumerate().filter(begins).map(move |(at, _)| from + at)
}

/// The header of the segment that begins with record `first`.
pub(super) fn segment_header(first: u64) -> Vec<u8> {
    let mut header = SEGMENT_MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&first.to_le_bytes());
    let check = xxh3_64_with_seed(&header, first);
    header.extend_from_slice(&check.to_le_bytes());
    header
}

/// What is wrong with a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    /// It was written by another version, in this format.
    Format(u32),
}

/// Checks the header of a segment whose name says that it begins with record `first`.
pub(super) fn check_segment_header(bytes: &[u8], first: u64) -> Result<(), BadHeader> {
    let Some(header) = bytes.get(..SEGMENT_HEADER) else {
        return Err(BadHeader::Damaged("the segment's header is cut off"));
    };
    if header[..8] != *SEGMENT_MAGIC
        || u64_at(header, 24) != xxh3_64_with_seed(&header[..24], first)
    {
        return Err(BadHeader::Damaged("the segment's header is damaged or not this file's"));
    }
    match u32_at(header, 8) {
        FORMAT if u64_at(header, 16) == first => Ok(()),
        FORMAT => Err(BadHeader::Damaged("the segment's header is not this file's")),
        other => Err(BadHeader::Format(other)),
    }
}

fn short(n: usize) -> u32 {
    u32::try_from(n).expect("lengths are at most MAX_RECORD_BYTES")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has 8 bytes"))
}

fn size_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}
