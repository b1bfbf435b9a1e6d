//! The rows that a correction may need, by key, without a batch a row.
//!
//! A row stays in the batch that it came in, and its key remembers the place. Batches are copied together when there
//! are many of them or when most of their rows are not needed any more.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::interleave;
use arrow::error::ArrowError;

use crate::batch::Batch;
use crate::identity::{Identify, Identity};
use crate::keyed::Keyed;
use crate::operator::Fault;
use crate::schema::Schema;

/// Batches that a pool has before they are copied into one: picking rows looks at every batch.
const MAX_BATCHES: usize = 256;

/// Rows that may lie in a pool beyond twice those in use before the others are dropped.
const SLACK_ROWS: usize = 65_536;

/// Rows of a batch that others were copied into, so that its text fits in Arrow's 32-bit offsets.
const COPIED_ROWS: usize = 1 << 20;

/// Where a row lies in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) row: u32,
}

impl Place {
    pub(super) fn new(batch: usize, row: usize) -> Self {
        let small = |n: usize| u32::try_from(n).expect("a pool has fewer than 2^32 rows");
        Place { batch: small(batch), row: small(row) }
    }
}

/// A row that is kept, and what there is to remember of it.
#[derive(Debug, Clone)]
pub(super) struct Kept<N> {
    pub(super) time: i64,
    pub(super) position: u64,
    pub(super) place: Place,
    /// The part of its identity that is neither time nor position.
    pub(super) rest: Box<[u8]>,
    pub(super) note: N,
}

impl<N> Kept<N> {
    pub(super) fn identity(&self, identify: &Identify) -> Identity<'_> {
        identify.identity(self.time, self.position, &self.rest)
    }

    pub(super) fn order(&self) -> (i64, u64) {
        (self.time, self.position)
    }
}

/// What is remembered of a row that came in: whether it was reported as a dead letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reported(pub(super) bool);

/// What is remembered of a row that went out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) revision: u32,
    /// Remembered so that the revision goes on should the row come back.
    pub(super) deleted: bool,
}

/// What is kept of a key.
#[derive(Debug)]
pub(super) struct History {
    /// The rows that came in since `base`, by (time, position).
    pub(super) rows: Vec<Kept<Reported>>,
    /// The rows that went out since `base`, mostly by (time, position).
    pub(super) said: Vec<Kept<Version>>,
    /// How many of them are deleted.
    pub(super) n_deleted: usize,
    /// The watermark of the rows that come in, and of those that go out.
    pub(super) at: i64,
    pub(super) told: i64,
    /// Up to here nothing comes that corrects.
    pub(super) horizon: i64,
    /// Rows before this are in the base, and the base was told this as its watermark.
    pub(super) base: i64,
    /// The live step has a state of a key that should have none.
    pub(super) stale: bool,
}

impl History {
    pub(super) fn new() -> Self {
        History {
            rows: Vec::new(),
            said: Vec::new(),
            n_deleted: 0,
            at: i64::MIN,
            told: i64::MIN,
            horizon: i64::MIN,
            base: i64::MIN,
            stale: false,
        }
    }

    /// How many rows are kept of the key.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.said.len()
    }

    /// How many of the rows that came in are before `time`.
    pub(super) fn before(&self, time: i64) -> usize {
        self.rows.partition_point(|r| r.time < time)
    }

    /// Puts a row in its order; whether it is the last.
    pub(super) fn insert(&mut self, row: Kept<Reported>) -> bool {
        if self.rows.last().is_none_or(|last| last.order() <= row.order()) {
            self.rows.push(row);
            return true;
        }
        let at = self.rows.partition_point(|r| r.order() <= row.order());
        self.rows.insert(at, row);
        false
    }

    /// Takes out the row that `like` is another version of.
    pub(super) fn take(
        &mut self,
        identify: &Identify,
        like: &Kept<Reported>,
    ) -> Option<Kept<Reported>> {
        let (mut from, mut to) = (0, self.rows.len());
        if identify.has_time() {
            from = self.before(like.time);
            to = from + self.rows[from..].partition_point(|r| r.time == like.time);
        }
        let wanted = like.identity(identify);
        let found = self.rows[from..to].iter().position(|r| r.identity(identify) == wanted)?;
        Some(self.rows.remove(from + found))
    }
}

/// A row to be taken out of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    pub(super) slot: u32,
    pub(super) place: Place,
    pub(super) position: u64,
}

impl Pick {
    pub(super) fn of<N>(slot: u32, row: &Kept<N>) -> Self {
        Pick { slot, place: row.place, position: row.position }
    }
}

/// Rows of one schema, without their keys: those are kept once a key.
#[derive(Debug)]
pub(super) struct Pool {
    schema: Schema,
    pub(super) identify: Identify,
    /// The columns that are not part of the key.
    columns: Vec<usize>,
    batches: Vec<RecordBatch>,
}

impl Pool {
    pub(super) fn new(schema: Schema) -> Result<Self, ArrowError> {
        let identify = Identify::new(&schema)?;
        let columns = (0..schema.columns().len()).filter(|c| !schema.key().contains(c)).collect();
        Ok(Pool { schema, identify, columns, batches: Vec::new() })
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Keeps a batch.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<Added, ArrowError> {
        let place = self.batches.len();
        self.batches.push(batch.rows.project(&self.columns)?);
        let (times, positions) = (batch.times(&self.schema).to_vec(), batch.position.clone());
        Ok(Added { place, times, positions, rest: self.identify.rest(&batch.rows)? })
    }

    /// Keeps rows without their keys, as [`Pool::bare`] gives them; other columns may follow.
    pub(super) fn add_bare(&mut self, rows: &RecordBatch) -> Result<usize, ArrowError> {
        let n_columns = self.columns.len().min(rows.num_columns());
        self.batches.push(rows.project(&(0..n_columns).collect::<Vec<_>>())?);
        Ok(self.batches.len() - 1)
    }

    /// Rows without their keys.
    pub(super) fn bare(&self, places: &[Place]) -> Result<RecordBatch, ArrowError> {
        let schema = Arc::new(self.schema.arrow().project(&self.columns)?);
        let picks: Vec<(usize, usize)> =
            places.iter().map(|p| (p.batch as usize, p.row as usize)).collect();
        let column = |c: usize| {
            let all: Vec<&dyn Array> = self.batches.iter().map(|b| b.column(c).as_ref()).collect();
            match picks.is_empty() {
                true => Ok(arrow::array::new_empty_array(schema.field(c).data_type())),
                false => interleave(&all, &picks),
            }
        };
        let columns: Vec<ArrayRef> =
            (0..self.columns.len()).map(column).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
    }

    /// Rows as a batch, in the order of `picks`.
    pub(super) fn gather<S>(&self, keys: &mut Keyed<S>, picks: &[Pick]) -> Result<Batch, Fault> {
        let slots: Vec<u32> = picks.iter().map(|p| p.slot).collect();
        let places: Vec<Place> = picks.iter().map(|p| p.place).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.columns().len()];
        for (&k, column) in self.schema.key().iter().zip(keys.key_columns(&slots)) {
            columns[k] = Some(column);
        }
        for (&c, column) in self.columns.iter().zip(self.bare(&places)?.columns()) {
            columns[c] = Some(Arc::clone(column));
        }
        let columns = columns.into_iter().map(|c| c.expect("a column is key or not")).collect();
        let rows = RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?;
        let hashes: UInt64Array = slots.iter().map(|&s| keys.hash(s)).collect();
        let positions: UInt64Array = picks.iter().map(|p| p.position).collect();
        Batch::new(rows, hashes, positions).map_err(|e| Fault::new(e.to_string()))
    }

    /// Whether it is time to [`tidy`](Pool::tidy) when `n_used` rows are in use.
    pub(super) fn is_untidy(&self, n_used: usize) -> bool {
        let n_rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        self.batches.len() > MAX_BATCHES + n_used / COPIED_ROWS || n_rows > 2 * n_used + SLACK_ROWS
    }

    /// Drops all rows but those at `places`, which are changed to where they lie afterwards.
    pub(super) fn tidy(&mut self, places: &mut [&mut Place]) -> Result<(), ArrowError> {
        let mut batches = Vec::new();
        for (b, part) in places.chunks_mut(COPIED_ROWS).enumerate() {
            let old: Vec<Place> = part.iter().map(|p| **p).collect();
            batches.push(self.bare(&old)?);
            for (row, place) in part.iter_mut().enumerate() {
                **place = Place::new(b, row);
            }
        }
        self.batches = batches;
        Ok(())
    }
}

/// A batch that was kept, and what its rows are told apart by.
pub(super) struct Added {
    place: usize,
    times: Vec<i64>,
    positions: UInt64Array,
    rest: Vec<Box<[u8]>>,
}

impl Added {
    /// A row of it.
    pub(super) fn row<N>(&mut self, row: usize, note: N) -> Kept<N> {
        Kept {
            time: self.times[row],
            position: self.positions.value(row),
            place: Place::new(self.place, row),
            rest: std::mem::take(&mut self.rest[row]),
            note,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::keyed::hash_keys;
    use crate::schema::{Column, dictionary_type};

    fn schema() -> Schema {
        let columns = vec![
            Column::new("t", DataType::Int64),
            Column::new("m", DataType::Utf8),
            Column::new("v", DataType::Float64),
        ];
        Schema::new(columns, &["m"], "t").unwrap()
    }

    fn batch(rows: &[(&str, i64, f64)]) -> Batch {
        let machines = StringArray::from_iter_values(rows.iter().map(|r| r.0));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
            arrow::compute::cast(&machines, &dictionary_type()).unwrap(),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))),
        ];
        let rows = RecordBatch::try_new(schema().arrow().clone(), columns).unwrap();
        let hash = hash_keys(&rows, schema().key());
        let positions = (0..hash.len() as u64).collect::<Vec<_>>();
        Batch::new(rows, hash, positions.into()).unwrap()
    }

    #[test]
    fn rows_are_found_again_after_the_pool_was_tidied() {
        let mut keys = Keyed::<()>::new(&schema());
        let mut pool = Pool::new(schema()).unwrap();
        let first = batch(&[("a", 1, 0.5), ("a", 2, -0.0)]);
        let slot = keys.slot(&first, schema().key(), 0, || ()).unwrap();
        let mut kept = Vec::new();
        for time in [0, 10, 20] {
            let mut added =
                pool.add(&batch(&[("a", time, time as f64), ("a", time + 1, 0.0)])).unwrap();
            added.row(0, ());
            kept.push(added.row(1, ()));
        }
        pool.tidy(&mut kept.iter_mut().map(|k| &mut k.place).collect::<Vec<_>>()).unwrap();
        assert_eq!(pool.batches.len(), 1);
        let picks: Vec<Pick> = kept.iter().rev().map(|k| Pick::of(slot, k)).collect();
        let gathered = pool.gather(&mut keys, &picks).unwrap();
        assert_eq!(gathered.times(&schema()), [21, 11, 1]);
        assert_eq!(gathered.key_hash.values(), &[first.key_hash.value(0); 3]);
    }

    #[test]
    fn a_version_of_a_row_is_found_by_its_primary_key() {
        let identify = Identify::new(&schema()).unwrap();
        let row = |time, position| Kept {
            time,
            position,
            place: Place::new(0, 0),
            rest: Box::default(),
            note: Reported(false),
        };
        let mut history = History::new();
        assert!(history.insert(row(5, 1)) && history.insert(row(5, 2)));
        assert!(!history.insert(row(4, 9)));
        assert!(history.take(&identify, &row(5, 3)).is_none());
        assert_eq!(history.take(&identify, &row(5, 2)).unwrap().order(), (5, 2));
        assert_eq!(history.rows.iter().map(Kept::order).collect::<Vec<_>>(), [(4, 9), (5, 1)]);
    }
}
