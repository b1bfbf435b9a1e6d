//! The last rows of a stream in memory, for readers that want more than a view and sooner than a file.
//!
//! What a reader would get wrong:
//!
//! * They go by event time: what is further behind the newest row of the stream than the length is forgotten, an epoch at a
//!   time. Nothing is forgotten by the clock, so that a stream that stops is still there.
//! * A reader sees the end of one epoch. Epochs that are not with all sinks are there already and are not shown, so that a
//!   stream never is ahead of the views that are made of it.
//! * It is memory alone: after a restart there is what was computed again, from the last snapshot on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::error::ArrowError;

use crate::batch::Batch;
use crate::keyed::hash_keys;
use crate::schema::Schema;
use crate::sink::{Committed, RunId, Sink, SinkError};

/// Most rows that are kept of a stream: a thousand machines at one row a second for half an hour.
pub const RECENT_ROWS_MAX: usize = 2_000_000;
/// Most bytes that the rows of a stream take.
pub const RECENT_BYTES_MAX: usize = 256 << 20;

/// The last rows of a stream.
#[derive(Debug)]
pub struct Recent {
    schema: Schema,
    /// How far behind the newest row, in the unit of the stream's time.
    keep: i64,
    contents: RwLock<Contents>,
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Contents {
    generation: u64,
    epochs: VecDeque<Held>,
    rows: usize,
    bytes: usize,
    newest: Option<i64>,
}

/// The rows of an epoch.
#[derive(Debug)]
struct Held {
    epoch: u64,
    batches: Vec<Batch>,
    rows: usize,
    bytes: usize,
    newest: i64,
}

/// Rows of a [`Recent`] that stand at the end of an epoch, by key hash, event time and position.
#[derive(Debug, Clone)]
pub struct Stood {
    /// Which computation of the pipeline they are of.
    pub generation: u64,
    /// The rows.
    pub rows: Batch,
}

impl Recent {
    /// An empty one for rows of `schema`, which keeps those no further behind the newest than `keep`.
    #[must_use]
    pub fn new(schema: Schema, keep: i64) -> Self {
        Recent { schema, keep, contents: RwLock::default(), forgotten: AtomicU64::new(0) }
    }

    /// The columns, key and time.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows and bytes that it has.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let contents = self.read();
        (contents.rows, contents.bytes)
    }

    /// Rows that were forgotten in this run before their time, because there were too many or they took too much.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The rows as of the end of the epoch `upto`: those of one key, where there is one column for each of the key's; of a row
    /// that was corrected what stands.
    ///
    /// # Errors
    /// When the columns are not those of the key.
    pub fn rows(&self, upto: u64, key: Option<&[ArrayRef]>) -> Result<Stood, ArrowError> {
        let hash = key.map(|key| self.hash(key)).transpose()?;
        let (generation, batches) = {
            let contents = self.read();
            let epochs = contents.epochs.iter().take_while(|held| held.epoch <= upto);
            let batches: Vec<Batch> = epochs.flat_map(|held| held.batches.clone()).collect();
            (contents.generation, batches)
        };
        // What follows takes its time, and no writer waits for it.
        let mut wanted = Vec::with_capacity(batches.len());
        for batch in batches {
            match hash {
                None => wanted.push(batch),
                Some(hash) => {
                    let keep: BooleanArray =
                        batch.key_hash.values().iter().map(|h| Some(*h == hash)).collect();
                    if keep.true_count() > 0 {
                        wanted.push(batch.filter(&keep)?);
                    }
                }
            }
        }
        let rows = match wanted.is_empty() {
            true => Batch::empty(Arc::clone(self.schema.arrow())),
            false => Batch::concat(self.schema.arrow(), &wanted)?.settled(&self.schema)?,
        };
        Ok(Stood { generation, rows })
    }

    /// The last row of each key as of the end of the epoch `upto`.
    ///
    /// # Errors
    /// When a batch is of another schema, which is a bug.
    pub fn latest(&self, upto: u64) -> Result<Stood, ArrowError> {
        let stood = self.rows(upto, None)?;
        let last: BTreeMap<u64, usize> = stood.rows.groups().map(|g| (g.hash, g.end - 1)).collect();
        let rows: UInt32Array = last.into_values().map(|row| u32::try_from(row).ok()).collect();
        Ok(Stood { rows: stood.rows.take(&rows)?, ..stood })
    }

    /// A sink that fills it.
    #[must_use]
    pub fn sink(self: &Arc<Self>) -> Box<dyn Sink> {
        Box::new(Filler(Arc::clone(self)))
    }

    fn hash(&self, key: &[ArrayRef]) -> Result<u64, ArrowError> {
        let fields = self.schema.key_arrow();
        let columns = key.iter().zip(fields.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let row = RecordBatch::try_new(Arc::clone(&fields), columns.collect::<Result<_, _>>()?)?;
        let all: Vec<usize> = (0..row.num_columns()).collect();
        let hashes = hash_keys(&row, &all);
        let none = || ArrowError::InvalidArgumentError("there is no row".to_owned());
        hashes.values().first().copied().ok_or_else(none)
    }

    fn take(&self, epoch: u64, rows: &[Batch]) {
        let batches: Vec<Batch> = rows.iter().filter(|b| !b.is_empty()).cloned().collect();
        let newest = batches.iter().flat_map(|b| b.times(&self.schema)).max().copied();
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        // What is given again after a failure of another sink is there already.
        if contents.epochs.back().is_some_and(|last| last.epoch >= epoch) {
            return;
        }
        let Some(newest) = newest else { return };
        let held = Held {
            epoch,
            rows: batches.iter().map(Batch::len).sum(),
            bytes: batches.iter().map(bytes_of).sum(),
            newest,
            batches,
        };
        contents.newest = contents.newest.max(Some(newest));
        contents.rows += held.rows;
        contents.bytes += held.bytes;
        contents.epochs.push_back(held);
        let oldest = contents.newest.map_or(i64::MIN, |newest| newest.saturating_sub(self.keep));
        while let Some(first) = contents.epochs.front() {
            let is_old = first.newest < oldest;
            if !is_old && contents.rows <= RECENT_ROWS_MAX && contents.bytes <= RECENT_BYTES_MAX {
                break;
            }
            if !is_old {
                self.forgotten.fetch_add(first.rows as u64, Ordering::Relaxed);
            }
            let (rows, bytes) = (first.rows, first.bytes);
            contents.rows -= rows;
            contents.bytes -= bytes;
            contents.epochs.pop_front();
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the rows themselves take; buffers that they share with others are not theirs.
fn bytes_of(batch: &Batch) -> usize {
    let column = |c: &ArrayRef| {
        c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size())
    };
    batch.rows.columns().iter().map(column).sum::<usize>() + 16 * batch.len()
}

/// Fills a [`Recent`].
#[derive(Debug)]
struct Filler(Arc<Recent>);

impl Sink for Filler {
    fn open(&mut self, _: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        self.0.contents.write().unwrap_or_else(PoisonError::into_inner).generation = generation;
        Ok(None)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        self.0.take(epoch, rows);
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        Ok(Committed::Yes(upto))
    }

    fn remembers(&self) -> bool {
        false
    }

    /// Nothing is to be gained from holding rows back.
    fn full(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray, UInt64Array};
    use arrow::datatypes::{DataType, Float64Type, Int64Type};

    use super::*;
    use crate::schema::Column;

    fn schema() -> Schema {
        let columns = vec![
            Column::new("machine", DataType::Utf8),
            Column::new("cycle", DataType::Int64),
            Column::new("v", DataType::Float64),
        ];
        Schema::new(columns, &["machine"], "cycle").unwrap()
    }

    fn batch(rows: &[(&str, i64, f64)]) -> Batch {
        let schema = schema();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))),
        ];
        let columns = columns.iter().zip(schema.arrow().fields());
        let columns = columns.map(|(c, f)| cast(c, f.data_type()).unwrap()).collect();
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
        let hash = hash_keys(&rows, schema.key());
        let position: UInt64Array = (0..rows.num_rows() as u64).collect::<Vec<_>>().into();
        Batch::new(rows, hash, position).unwrap()
    }

    fn values(stood: &Stood) -> Vec<(i64, f64)> {
        use arrow::array::AsArray as _;
        let times = stood.rows.rows.column(1).as_primitive::<Int64Type>();
        let values = stood.rows.rows.column(2).as_primitive::<Float64Type>();
        let mut all: Vec<_> =
            times.values().iter().copied().zip(values.values().iter().copied()).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all
    }

    #[test]
    fn rows_are_kept_by_event_time_and_shown_up_to_an_epoch() {
        let recent = Arc::new(Recent::new(schema(), 10));
        let mut sink = recent.sink();
        sink.write(1, &[batch(&[("a", 1, 0.1), ("b", 2, 0.2)])]).unwrap();
        sink.write(2, &[batch(&[("a", 11, 0.3)])]).unwrap();
        sink.write(2, &[batch(&[("a", 11, 0.3)])]).unwrap();
        assert_eq!(recent.size().0, 3, "an epoch that comes again is there once");
        assert_eq!(values(&recent.rows(1, None).unwrap()), [(1, 0.1), (2, 0.2)]);
        let key: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert_eq!(values(&recent.rows(2, Some(&[key])).unwrap()), [(1, 0.1), (11, 0.3)]);
        assert_eq!(values(&recent.latest(2).unwrap()), [(2, 0.2), (11, 0.3)]);
        sink.write(3, &[batch(&[("b", 13, 0.4)])]).unwrap();
        assert_eq!(values(&recent.rows(3, None).unwrap()), [(11, 0.3), (13, 0.4)]);
        assert_eq!(recent.forgotten(), 0, "they were as old as they may be");
    }

    #[test]
    fn a_corrected_row_is_there_as_it_stands() {
        let recent = Arc::new(Recent::new(schema(), 100));
        let mut sink = recent.sink();
        sink.write(1, &[batch(&[("a", 1, 0.1), ("a", 2, 0.2)])]).unwrap();
        let mut revised = batch(&[("a", 2, 0.9)]);
        revised.position = UInt64Array::from(vec![1]);
        revised.revision = Some(UInt32Array::from(vec![1]));
        sink.write(2, &[revised]).unwrap();
        assert_eq!(values(&recent.rows(1, None).unwrap()), [(1, 0.1), (2, 0.2)]);
        assert_eq!(values(&recent.rows(2, None).unwrap()), [(1, 0.1), (2, 0.9)]);
    }

    #[test]
    fn too_many_rows_are_forgotten_and_counted() {
        let recent = Arc::new(Recent::new(schema(), i64::MAX));
        let mut sink = recent.sink();
        let rows: Vec<_> = (0..RECENT_ROWS_MAX as i64 / 4).map(|t| ("a", t, 0.0)).collect();
        let big = batch(&rows);
        for epoch in 1..=5 {
            sink.write(epoch, std::slice::from_ref(&big)).unwrap();
        }
        assert_eq!(recent.size().0, RECENT_ROWS_MAX);
        assert_eq!(recent.forgotten(), RECENT_ROWS_MAX as u64 / 4);
    }
}
