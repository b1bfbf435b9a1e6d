//! The rows of one epoch on one edge.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{
    concat, concat_batches, filter, filter_record_batch, take, take_record_batch,
};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;

use crate::identity::Identify;
use crate::schema::{Schema, TimeDomain};

/// Rows of a stream, with what the engine knows of each.
///
/// Every operator sees its input sorted by (`key_hash`, event time, position); the top byte of the hash is
/// the shard, so this is also the order by shard. What an operator emits must be in that order again.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The columns of the stream's schema.
    pub rows: RecordBatch,
    /// Hash of the key columns, one a row ([`hash_keys`](crate::hash_keys)).
    pub key_hash: UInt64Array,
    /// Where each row came from; ties of event time are broken by it. A row that sums up many (a window)
    /// has the position of the last of them.
    pub position: UInt64Array,
    /// How often the row with this primary key was corrected; `None` means 0 for all.
    pub revision: Option<UInt32Array>,
    /// Whether a correction made the row vanish; `None` means no row did.
    pub deleted: Option<BooleanArray>,
}

/// Rows and what is known of them do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("a batch of {rows} rows was given {given} values of '{what}'")]
pub struct BatchError {
    rows: usize,
    given: usize,
    what: &'static str,
}

/// A run of rows that share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Hash of the key.
    pub hash: u64,
    /// The first row.
    pub start: usize,
    /// One past the last row.
    pub end: usize,
}

impl Batch {
    /// Rows at revision 0, none deleted.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn new(
        rows: RecordBatch,
        key_hash: UInt64Array,
        position: UInt64Array,
    ) -> Result<Self, BatchError> {
        let n_rows = rows.num_rows();
        for (what, given) in [("key_hash", key_hash.len()), ("position", position.len())] {
            if given != n_rows {
                return Err(BatchError { rows: n_rows, given, what });
            }
        }
        Ok(Batch { rows, key_hash, position, revision: None, deleted: None })
    }

    /// No rows of `schema`.
    #[must_use]
    pub fn empty(schema: SchemaRef) -> Self {
        let none = || UInt64Array::from(Vec::<u64>::new());
        Batch {
            rows: RecordBatch::new_empty(schema),
            key_hash: none(),
            position: none(),
            revision: None,
            deleted: None,
        }
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs of equal keys, in order.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        let hashes = self.key_hash.values();
        let mut start = 0;
        std::iter::from_fn(move || {
            let &hash = hashes.get(start)?;
            let run = hashes[start..].iter().take_while(|&&h| h == hash).count();
            let group = Group { hash, start, end: start + run };
            start = group.end;
            Some(group)
        })
    }

    /// The event times, in the unit of the schema's domain.
    ///
    /// # Panics
    /// When the batch is not of `schema`, which is a bug in the caller.
    #[must_use]
    pub fn times<'a>(&'a self, schema: &Schema) -> &'a [i64] {
        times_of(self.rows.column(schema.time()), schema.domain())
    }

    /// The rows that stand at the end, as a sink has them that keeps of each primary key the greatest revision and
    /// takes deleted rows away; in order of (key hash, time, position), without revisions. Of two rows with the same
    /// revision the later one stands.
    ///
    /// # Errors
    /// When the batch is not of `schema`.
    pub fn settled(&self, schema: &Schema) -> Result<Batch, ArrowError> {
        if self.revision.is_none() && self.deleted.is_none() {
            return self.sorted(schema);
        }
        let identify = Identify::new(schema)?;
        let rest = identify.rest(&self.rows)?;
        let times = self.times(schema);
        let mut last: BTreeMap<_, usize> = BTreeMap::new();
        let revision = |row: usize| self.revision.as_ref().map_or(0, |r| r.value(row));
        for row in 0..self.len() {
            let identity = identify.identity(times[row], self.position.value(row), &rest[row]);
            let stands = last.entry((self.key_hash.value(row), identity)).or_insert(row);
            if revision(row) >= revision(*stands) {
                *stands = row;
            }
        }
        let deleted = |row: &usize| self.deleted.as_ref().is_some_and(|d| d.value(*row));
        let rows = last.into_values().filter(|row| !deleted(row));
        let rows: UInt32Array = rows.map(|row| u32::try_from(row).ok()).collect();
        Batch { revision: None, deleted: None, ..self.take(&rows)? }.sorted(schema)
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let pick = |a: &dyn Array| take(a, indices, None);
        Ok(Batch {
            rows: take_record_batch(&self.rows, indices)?,
            key_hash: pick(&self.key_hash)?.as_primitive().clone(),
            position: pick(&self.position)?.as_primitive().clone(),
            revision: self
                .revision
                .as_ref()
                .map(|r| Ok::<_, ArrowError>(pick(r)?.as_primitive().clone()))
                .transpose()?,
            deleted: self
                .deleted
                .as_ref()
                .map(|d| Ok::<_, ArrowError>(pick(d)?.as_boolean().clone()))
                .transpose()?,
        })
    }

    /// The rows where `keep` is true; null is false.
    ///
    /// # Errors
    /// When the mask has another length.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, ArrowError> {
        let pick = |a: &dyn Array| filter(a, keep);
        Ok(Batch {
            rows: filter_record_batch(&self.rows, keep)?,
            key_hash: pick(&self.key_hash)?.as_primitive().clone(),
            position: pick(&self.position)?.as_primitive().clone(),
            revision: self
                .revision
                .as_ref()
                .map(|r| Ok::<_, ArrowError>(pick(r)?.as_primitive().clone()))
                .transpose()?,
            deleted: self
                .deleted
                .as_ref()
                .map(|d| Ok::<_, ArrowError>(pick(d)?.as_boolean().clone()))
                .transpose()?,
        })
    }

    /// The rows `start .. start + len`, without a copy.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        Batch {
            rows: self.rows.slice(start, len),
            key_hash: self.key_hash.slice(start, len),
            position: self.position.slice(start, len),
            revision: self.revision.as_ref().map(|r| r.slice(start, len)),
            deleted: self.deleted.as_ref().map(|d| d.slice(start, len)),
        }
    }

    /// Batches one after the other; a revision or deletion mark of one is filled in for all.
    ///
    /// # Errors
    /// When they are not all of `schema`.
    pub fn concat(schema: &SchemaRef, batches: &[Batch]) -> Result<Self, ArrowError> {
        let own = |column: &dyn Fn(&Batch) -> ArrayRef| {
            let all: Vec<ArrayRef> = batches.iter().map(column).collect();
            concat(&all.iter().map(AsRef::as_ref).collect::<Vec<_>>())
        };
        let revised = batches.iter().any(|b| b.revision.is_some());
        let deleted = batches.iter().any(|b| b.deleted.is_some());
        let zero = |b: &Batch| UInt32Array::from(vec![0; b.len()]);
        let kept = |b: &Batch| BooleanArray::from(vec![false; b.len()]);
        let revision = own(&|b| Arc::new(b.revision.clone().unwrap_or_else(|| zero(b))))?;
        let deletion = own(&|b| Arc::new(b.deleted.clone().unwrap_or_else(|| kept(b))))?;
        Ok(Batch {
            rows: concat_batches(schema, batches.iter().map(|b| &b.rows))?,
            key_hash: own(&|b| Arc::new(b.key_hash.clone()))?.as_primitive().clone(),
            position: own(&|b| Arc::new(b.position.clone()))?.as_primitive().clone(),
            revision: revised.then(|| revision.as_primitive().clone()),
            deleted: deleted.then(|| deletion.as_boolean().clone()),
        })
    }

    /// Batches as one in the order of the contract: by key hash, event time and position.
    pub(crate) fn merge(schema: &Schema, mut batches: Vec<Batch>) -> Result<Self, ArrowError> {
        if batches.len() == 1 {
            return Ok(batches.remove(0));
        }
        if batches.is_empty() {
            return Ok(Batch::empty(Arc::clone(schema.arrow())));
        }
        Batch::concat(schema.arrow(), &batches)?.sorted(schema)
    }

    /// The same rows by key hash, event time and position; rows that agree in all three stay as they are.
    pub(crate) fn sorted(&self, schema: &Schema) -> Result<Self, ArrowError> {
        let times = self.times(schema);
        let place = |r: &u32| {
            let r = *r as usize;
            (self.key_hash.value(r), times[r], self.position.value(r))
        };
        let n_rows = u32::try_from(self.len()).expect("a batch has fewer than 2^32 rows");
        let mut order: Vec<u32> = (0..n_rows).collect();
        if order.is_sorted_by_key(place) {
            return Ok(self.clone());
        }
        order.sort_by_key(place);
        self.take(&UInt32Array::from(order))
    }

    /// The same rows with other columns: one value a row, of `schema`.
    ///
    /// # Errors
    /// When the columns do not fit the schema or the number of rows.
    pub fn with_columns(
        &self,
        schema: &SchemaRef,
        columns: Vec<ArrayRef>,
    ) -> Result<Self, ArrowError> {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        Ok(Batch { rows, ..self.clone() })
    }
}

/// The values of a time column.
pub(crate) fn times_of(column: &ArrayRef, domain: TimeDomain) -> &[i64] {
    match domain {
        TimeDomain::UtcNanos => column.as_primitive::<TimestampNanosecondType>().values(),
        TimeDomain::Logical => column.as_primitive::<Int64Type>().values(),
    }
}
