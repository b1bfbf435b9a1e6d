//! Reads one file: record by record, or in chunks that end at a record's end.
//!
//! Offsets are those of the text: behind decompression, in UTF-8. Lines are physical lines, counted from 1.
//! A record that is too long is handed on cut off one byte behind the limit, so memory stays bounded and the
//! decoder still sees that it was too long.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{Chunk, Partition, Range, SourceError};
use memchr::{memchr, memchr_iter, memrchr};

use super::input;
use super::plan::Plan;
use crate::record::Cut;

/// What is read at least when what is at hand does not hold a whole record.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Largest chunk; enough that handing it on costs nothing, and small enough to spread over workers.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// A file that is being read.
pub(super) struct Reader {
    plan: Arc<Plan>,
    path: PathBuf,
    text: Box<dyn Read + Send>,
    ended: bool,
    /// Whether the text may go on behind its end, so that a last record without a line break is not whole.
    growing: bool,
    /// What was read and not yet handed out, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// Offset of `buffer[at]`.
    offset: u64,
    /// Line of `buffer[at]`.
    line: u64,
}

/// A record and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Its first line.
    pub(super) line: u64,
    /// Its text, without a line break.
    pub(super) text: &'a [u8],
}

/// The record that the buffer begins with.
enum Next {
    Record { end: usize, lines: u64 },
    TooLong,
    Nothing,
}

impl Reader {
    /// Opens `path` at `offset`, where `line` begins; a byte order mark is skipped.
    pub(super) fn open(
        plan: &Arc<Plan>,
        path: &Path,
        offset: u64,
        line: u64,
    ) -> Result<Self, SourceError> {
        let input = input::open(path, plan.compression, plan.encoding, offset)
            .map_err(|e| failed(path, &e))?;
        Ok(Reader {
            plan: Arc::clone(plan),
            path: path.to_owned(),
            text: input.text,
            ended: false,
            growing: plan.follow.is_some(),
            buffer: Vec::new(),
            at: 0,
            offset: input.offset,
            line,
        })
    }

    /// Ends the text at offset `end`.
    pub(super) fn until(mut self, end: u64) -> Self {
        self.text = Box::new(self.text.take(end.saturating_sub(self.offset)));
        self
    }

    /// Takes the text for finished, although its file is followed: its last record is whole without a line break.
    pub(super) fn finished(mut self) -> Self {
        self.growing = false;
        self
    }

    /// Offset of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The line that comes next.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Passes over the configured number of lines at the top.
    pub(super) fn skip_lines(&mut self) -> Result<(), SourceError> {
        for _ in 0..self.plan.skip_lines {
            self.skip_to_line_break()?;
        }
        Ok(())
    }

    /// The next record; empty lines and comments are passed over.
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'_>>, SourceError> {
        loop {
            let line = self.line;
            let text = match self.next()? {
                Next::Nothing => return Ok(None),
                Next::Record { end, lines } => {
                    let start = self.at;
                    let length = without_line_break(&self.buffer[start..start + end]).len();
                    self.advance(end);
                    self.line += lines;
                    start..start + length
                }
                Next::TooLong => {
                    let Some(cut) = self.too_long()? else { return Ok(None) };
                    self.buffer.splice(..self.at, cut);
                    self.at = self.plan.dialect.row_bytes_max + 1;
                    0..self.at
                }
            };
            if !self.plan.dialect.is_skipped(&self.buffer[text.clone()]) {
                return Ok(Some(Record { line, text: &self.buffer[text] }));
            }
        }
    }

    /// Whole records of `partition`, about `budget_bytes` of them but at least one.
    pub(super) fn next_chunk(
        &mut self,
        partition: Partition,
        budget_bytes: usize,
    ) -> Result<Option<Chunk>, SourceError> {
        let target = budget_bytes.clamp(1, CHUNK_BYTES_MAX);
        self.buffer.drain(..self.at);
        self.at = 0;
        self.fill(target)?;
        let (start, first_ordinal) = (self.offset, self.line);
        let mut rest = Vec::new();
        let payload = match self.next()? {
            Next::Nothing => return Ok(None),
            Next::TooLong => {
                let Some(mut cut) = self.too_long()? else { return Ok(None) };
                cut.push(b'\n');
                cut
            }
            Next::Record { end, lines } => {
                let (end, lines) = self.more_records(end, lines);
                rest.reserve(self.buffer.len() - end);
                rest.extend_from_slice(&self.buffer[end..]);
                self.buffer.truncate(end);
                self.offset += end as u64;
                self.line += lines;
                std::mem::replace(&mut self.buffer, rest)
            }
        };
        let range = Range { start, end: self.offset, first_ordinal, end_ordinal: self.line };
        let rows = usize::try_from(self.line - first_ordinal).unwrap_or(usize::MAX);
        Ok(Some(Chunk { partition, range, rows, payload }))
    }

    /// The first record at hand ends at `end`, after `lines`: the same for the last whole one.
    fn more_records(&self, mut end: usize, mut lines: u64) -> (usize, u64) {
        let dialect = &self.plan.dialect;
        let quoted = dialect.quote.is_some_and(|q| memchr(q, &self.buffer).is_some());
        if !quoted && !self.ended {
            // A quote in what follows cannot matter: up to the last line break there is none.
            let more = memrchr(b'\n', &self.buffer[end..]).map_or(0, |at| at + 1);
            lines += memchr_iter(b'\n', &self.buffer[end..end + more]).count() as u64;
            return (end + more, lines);
        }
        while let Cut::Record { end: length, lines: more } =
            dialect.cut(&self.buffer[end..], self.is_whole())
            && length > 0
        {
            end += length;
            lines += more;
        }
        (end, lines)
    }

    /// Whether all of the text is at hand and nothing will be added to it.
    fn is_whole(&self) -> bool {
        self.ended && !self.growing
    }

    /// Finds the end of the record at hand, reading on as far as it takes.
    fn next(&mut self) -> Result<Next, SourceError> {
        loop {
            let text = &self.buffer[self.at..];
            if text.is_empty() && self.ended {
                return Ok(Next::Nothing);
            }
            if !text.is_empty() {
                match self.plan.dialect.cut(text, self.is_whole()) {
                    Cut::Record { end, lines } => return Ok(Next::Record { end, lines }),
                    Cut::TooLong => return Ok(Next::TooLong),
                    Cut::Incomplete if self.ended => return Ok(Next::Nothing),
                    Cut::Incomplete => {}
                }
            }
            let at_hand = self.buffer.len() - self.at;
            self.fill(at_hand + at_hand.max(READ_BYTES_MIN))?;
        }
    }

    /// The start of a record that is too long, up to one byte behind the limit; passes over all of it. `None` where
    /// its end is still to be written.
    fn too_long(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let start = &self.buffer[self.at..];
        let cut = start[..=self.plan.dialect.row_bytes_max].to_vec();
        let ends = self.skip_to_line_break()?;
        Ok((ends || !self.growing).then_some(cut))
    }

    /// Whether there was a line break.
    fn skip_to_line_break(&mut self) -> Result<bool, SourceError> {
        loop {
            let text = &self.buffer[self.at..];
            let found = memchr(b'\n', text);
            self.advance(found.map_or(text.len(), |at| at + 1));
            if found.is_some() || self.ended {
                self.line += 1;
                return Ok(found.is_some());
            }
            self.fill(READ_BYTES_MIN)?;
        }
    }

    fn advance(&mut self, n_bytes: usize) {
        self.at += n_bytes;
        self.offset += n_bytes as u64;
    }

    /// Reads until `n_bytes` are at hand or the text ends.
    fn fill(&mut self, n_bytes: usize) -> Result<(), SourceError> {
        let missing = n_bytes.saturating_sub(self.buffer.len() - self.at);
        if missing == 0 || self.ended {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.reserve(missing);
        let read = self.text.by_ref().take(missing as u64).read_to_end(&mut self.buffer);
        self.ended = read.map_err(|e| failed(&self.path, &e))? < missing;
        Ok(())
    }
}

/// `record` without the `\n` or `\r\n` at its end.
pub(super) fn without_line_break(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

fn failed(path: &Path, error: &std::io::Error) -> SourceError {
    SourceError::Io(format!("cannot read '{}': {error}", path.display()))
}
