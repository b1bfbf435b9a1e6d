//! All files of a source at once, the record with the least event time next.
//!
//! The merged records form one partition; a record's ordinal is its place in the merged order, from 1. A chunk
//! is a run of frames: file (4 bytes), line (8), length (4), all little-endian, and the record's text.
//! A record without a readable time goes out behind the one before it in its file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foreline_engine::{Chunk, Partition, Range, SourceError};

use super::files::TextFile;
use super::layout::TimeReader;
use super::plan::Plan;
use super::reader::Reader;

/// Most files that are merged: each is kept open, and 1024 open files is what a process may usually have.
const FILES_MAX: usize = 512;
const FRAME_HEAD_BYTES: usize = 16;
/// Largest chunk.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// The merge of all files.
pub(super) struct Merge {
    plan: Arc<Plan>,
    files: Arc<[TextFile]>,
    clock: TimeReader,
    heads: Vec<Head>,
    /// The files that have a record, by its time.
    next: BinaryHeap<Reverse<(i64, usize)>>,
    /// Ordinal of the next record.
    ordinal: u64,
}

/// The next record of a file.
struct Head {
    reader: Reader,
    line: u64,
    text: Vec<u8>,
    time: i64,
}

impl Merge {
    /// Opens all files.
    pub(super) fn open(plan: &Arc<Plan>, files: &Arc<[TextFile]>) -> Result<Self, SourceError> {
        if files.len() > FILES_MAX {
            return Err(SourceError::Limit(format!(
                "'{}' matches {} files, and at most {FILES_MAX} can be merged: use `order: first_time`",
                plan.place.written,
                files.len(),
            )));
        }
        let mut merge = Merge {
            plan: Arc::clone(plan),
            files: Arc::clone(files),
            clock: TimeReader::new(plan),
            heads: Vec::new(),
            next: BinaryHeap::new(),
            ordinal: 1,
        };
        for (index, file) in files.iter().enumerate() {
            let reader = file.open(plan)?;
            merge.heads.push(Head { reader, line: 0, text: Vec::new(), time: i64::MIN });
            merge.advance(index)?;
        }
        Ok(merge)
    }

    /// Passes over the records before `ordinal` of a merge that was just opened; whether there are so many.
    pub(super) fn pass_over(&mut self, ordinal: u64) -> Result<bool, SourceError> {
        let mut passed = Vec::new();
        while self.ordinal < ordinal && self.pop(&mut passed)? {
            passed.clear();
        }
        Ok(self.ordinal >= ordinal)
    }

    /// The next records, about `budget_bytes` of them but at least one.
    pub(super) fn next_chunk(&mut self, budget_bytes: usize) -> Result<Option<Chunk>, SourceError> {
        self.chunk_until(budget_bytes.min(CHUNK_BYTES_MAX), u64::MAX)
    }

    /// The records from `range.start` up to `range.end` of a merge that was just opened.
    pub(super) fn read(&mut self, range: Range) -> Result<Option<Chunk>, SourceError> {
        while self.ordinal < range.start && self.pop(&mut Vec::new())? {}
        self.chunk_until(usize::MAX, range.end)
    }

    fn chunk_until(&mut self, n_bytes: usize, end: u64) -> Result<Option<Chunk>, SourceError> {
        let start = self.ordinal;
        let mut payload = Vec::new();
        while self.ordinal < end && self.pop(&mut payload)? {
            if payload.len() >= n_bytes {
                break;
            }
        }
        let rows = usize::try_from(self.ordinal - start).unwrap_or(usize::MAX);
        let end = self.ordinal;
        let range = Range { start, end, first_ordinal: start, end_ordinal: end };
        Ok((rows > 0).then_some(Chunk { partition: Partition(0), range, rows, payload }))
    }

    /// Moves the next record into `payload`; false when there is none.
    fn pop(&mut self, payload: &mut Vec<u8>) -> Result<bool, SourceError> {
        let Some(Reverse((_, index))) = self.next.pop() else { return Ok(false) };
        let head = &self.heads[index];
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        payload.extend_from_slice(&number(index));
        payload.extend_from_slice(&head.line.to_le_bytes());
        payload.extend_from_slice(&number(head.text.len()));
        payload.extend_from_slice(&head.text);
        self.ordinal += 1;
        self.advance(index)?;
        Ok(true)
    }

    fn advance(&mut self, index: usize) -> Result<(), SourceError> {
        let head = &mut self.heads[index];
        let Some(record) = head.reader.next_record()? else { return Ok(()) };
        head.line = record.line;
        head.text.clear();
        head.text.extend_from_slice(record.text);
        let time = self.clock.time(&self.plan, &self.files[index].layout, head.line, &head.text);
        head.time = time.unwrap_or(head.time);
        self.next.push(Reverse((head.time, index)));
        Ok(())
    }
}

/// The frames of a chunk: file, line and text of each record.
pub(super) fn frames(mut payload: &[u8]) -> impl Iterator<Item = (usize, u64, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = payload.split_first_chunk::<FRAME_HEAD_BYTES>()?;
        let (file, head) = head.split_first_chunk::<4>()?;
        let (line, head) = head.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(*head.first_chunk()?) as usize;
        let (text, rest) = rest.split_at_checked(length)?;
        payload = rest;
        Some((u32::from_le_bytes(*file) as usize, u64::from_le_bytes(*line), text))
    })
}
