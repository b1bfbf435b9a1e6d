//! Rows in the form of binary COPY, one a key.
//!
//! What a reader would get wrong:
//!
//! * The columns of the key come first, so that a run of bytes is the key of a row, and two rows have one key when these
//!   bytes are the same. The last of the checks is on bytes, never on a hash alone.
//! * PostgreSQL takes no NUL in a text and no key of some thousand bytes, and would refuse a whole commit for one of
//!   them. A NUL becomes U+FFFD; a row without a key that fits is left out. Both are counted.
//! * Nanoseconds are cut to microseconds, towards the past.

use bytes::Bytes;
use foreline_engine::Batch;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::cells::{Cells, Times, cells, put, put_value};
use super::partition::{Cut, Part};
use super::table::Table;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();
/// An entry of an index has at most a third of a page of 8 KiB; what it needs besides the key is less than the rest.
const KEY_BYTES_MAX: usize = 2_400;
/// Most bytes of a commit: they are in memory twice, as rows and as they are sent.
const BYTES_MAX: usize = 32 << 20;

/// Rows that were taken and not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Another row has the same key and no smaller revision.
    pub(super) same_key: u64,
    /// A column of the key is null.
    pub(super) null_in_key: u64,
    /// The key has more bytes than an index takes.
    pub(super) key_too_long: u64,
    /// The time is in no partition that there can be.
    pub(super) time_out_of_range: u64,
    /// The row is older than the retention.
    pub(super) beyond_retention: u64,
    /// Rows that were written, with U+FFFD for the NUL in a text.
    pub(super) nul_replaced: u64,
}

impl LeftOut {
    pub(super) fn add(&mut self, more: LeftOut) {
        self.same_key += more.same_key;
        self.null_in_key += more.null_in_key;
        self.key_too_long += more.key_too_long;
        self.time_out_of_range += more.time_out_of_range;
        self.beyond_retention += more.beyond_retention;
        self.nul_replaced += more.nul_replaced;
    }

    pub(super) fn by_reason(self) -> Vec<(&'static str, u64)> {
        vec![
            ("same_key", self.same_key),
            ("null_in_key", self.null_in_key),
            ("key_too_long", self.key_too_long),
            ("time_out_of_range", self.time_out_of_range),
            ("beyond_retention", self.beyond_retention),
            ("nul_replaced", self.nul_replaced),
        ]
    }
}

/// A row that is encoded.
#[derive(Debug)]
struct Row {
    hash: u64,
    start: usize,
    key_end: usize,
    end: usize,
    revision: u32,
    deleted: bool,
    kept: bool,
    /// In the unit of the table's time.
    time: i64,
}

/// What is committed together.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    by_key: HashTable<u32>,
    pub(super) left_out: LeftOut,
    /// The next row's place in its epoch.
    epoch: (u64, i64),
}

/// What the rows of a buffer are, once none is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Rows to be written.
    pub(super) live: u64,
    /// Rows to be deleted.
    pub(super) deleted: u64,
    /// The partitions that rows to be written lie in, in order.
    pub(super) parts: Vec<Part>,
    /// First and last time of what corrects earlier rows.
    pub(super) corrected: Option<(i64, i64)>,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_full(&self, rows: usize) -> bool {
        self.rows.len() >= rows || self.bytes.len() >= BYTES_MAX
    }

    /// Takes the rows of a batch of `epoch`.
    ///
    /// # Errors
    /// When the batch is not of the table's stream.
    pub(super) fn push(
        &mut self,
        table: &Table,
        generation: i64,
        epoch: u64,
        batch: &Batch,
    ) -> Result<(), String> {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(HEADER);
        }
        if self.epoch.0 != epoch {
            self.epoch = (epoch, 0);
        }
        let cells = table
            .columns
            .iter()
            .map(|c| cells(batch, c.origin, generation, epoch))
            .collect::<Result<Vec<_>, _>>()?;
        let times = Times::of(batch, table);
        for row in 0..batch.len() {
            self.push_row(table, &cells, batch, row, times.at(row))?;
            self.epoch.1 += 1;
        }
        Ok(())
    }

    fn push_row(
        &mut self,
        table: &Table,
        cells: &[Cells<'_>],
        batch: &Batch,
        row: usize,
        time: i64,
    ) -> Result<(), String> {
        let start = self.bytes.len();
        let count =
            i16::try_from(cells.len() + 2).map_err(|_| "a table has 1600 columns at most")?;
        self.bytes.extend_from_slice(&count.to_be_bytes());
        let key_start = self.bytes.len();
        let mut replaced = false;
        for cell in &cells[..table.n_key] {
            if !put(&mut self.bytes, cell, row, self.epoch.1, &mut replaced)? {
                self.left_out.null_in_key += 1;
                self.bytes.truncate(start);
                return Ok(());
            }
        }
        let key_end = self.bytes.len();
        let out_of_range = table.cut.is_some_and(|cut| cut.part(time).is_none());
        if key_end - key_start > KEY_BYTES_MAX || out_of_range {
            let count = if out_of_range {
                &mut self.left_out.time_out_of_range
            } else {
                &mut self.left_out.key_too_long
            };
            *count += 1;
            self.bytes.truncate(start);
            return Ok(());
        }
        for cell in &cells[table.n_key..] {
            put(&mut self.bytes, cell, row, self.epoch.1, &mut replaced)?;
        }
        let revision = batch.revision.as_ref().map_or(0, |r| r.value(row));
        let deleted = batch.deleted.as_ref().is_some_and(|d| d.value(row));
        let signed = i32::try_from(revision).map_err(|_| "a row was revised too often")?;
        put_value(&mut self.bytes, &signed.to_be_bytes());
        put_value(&mut self.bytes, &[u8::from(deleted)]);
        self.left_out.nul_replaced += u64::from(replaced);
        let hash = xxh3_64(&self.bytes[key_start..key_end]);
        let end = self.bytes.len();
        self.keep(Row { hash, start, key_end, end, revision, deleted, kept: true, time });
        Ok(())
    }

    /// Keeps a row unless one with its key and no smaller revision is there; one of a smaller revision goes.
    fn keep(&mut self, mut row: Row) {
        let place = u32::try_from(self.rows.len()).expect("a commit has fewer than 2^32 rows");
        let (bytes, rows) = (&self.bytes, &mut self.rows);
        let key = |r: &Row| &bytes[r.start + 2..r.key_end];
        let same = |&other: &u32| key(&rows[other as usize]) == key(&row);
        match self.by_key.entry(row.hash, same, |&other| rows[other as usize].hash) {
            Entry::Vacant(free) => {
                free.insert(place);
            }
            Entry::Occupied(mut taken) => {
                let other = &mut rows[*taken.get() as usize];
                if row.revision > other.revision {
                    other.kept = false;
                    *taken.get_mut() = place;
                } else {
                    row.kept = false;
                    self.left_out.same_key += u64::from(row.revision == other.revision);
                }
            }
        }
        self.rows.push(row);
    }

    /// What there is to be written.
    pub(super) fn contents(&self, cut: Option<Cut>) -> Contents {
        let mut contents = Contents::default();
        let mut last: Option<Part> = None;
        for row in self.rows.iter().filter(|r| r.kept) {
            if row.deleted {
                contents.deleted += 1;
            } else {
                contents.live += 1;
                let known = last.is_some_and(|p| (p.from..p.to).contains(&row.time));
                if let (Some(cut), false) = (cut, known) {
                    last = cut.part(row.time);
                    contents.parts.extend(last);
                }
            }
            if row.revision > 0 || row.deleted {
                let (first, last) = contents.corrected.unwrap_or((row.time, row.time));
                contents.corrected = Some((first.min(row.time), last.max(row.time)));
            }
        }
        contents.parts.sort_unstable();
        contents.parts.dedup();
        contents
    }

    /// The rows that are kept, as COPY takes them, in pieces that follow one another.
    pub(super) fn take_copy(&mut self) -> Vec<Bytes> {
        self.bytes.extend_from_slice(TRAILER);
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let mut pieces = Vec::new();
        let mut from = 0;
        for row in self.rows.iter().filter(|r| !r.kept) {
            if row.start > from {
                pieces.push(bytes.slice(from..row.start));
            }
            from = row.end;
        }
        pieces.push(bytes.slice(from..));
        pieces
    }
}
