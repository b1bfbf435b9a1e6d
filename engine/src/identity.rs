//! What tells the rows of one key apart: the primary key less the key itself.
//!
//! Nearly always that is the event time, with the position for readings, so both are compared as numbers. Columns
//! of a primary key beyond them are encoded as bytes.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::batch::Batch;
use crate::schema::Schema;

/// How rows of a schema are identified within their key.
#[derive(Debug)]
pub(crate) struct Identify {
    time: bool,
    position: bool,
    rest: Vec<usize>,
    converter: RowConverter,
}

/// What tells a row from the others of its key.
pub(crate) type Identity<'a> = (i64, u64, &'a [u8]);

impl Identify {
    pub(crate) fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let primary = schema.primary_key();
        let is_rest = |c: &usize| !schema.key().contains(c) && *c != schema.time();
        let rest: Vec<usize> = primary.columns.iter().copied().filter(is_rest).collect();
        let fields = rest.iter().map(|&c| SortField::new(schema.columns()[c].data_type.clone()));
        Ok(Identify {
            time: primary.columns.contains(&schema.time()),
            position: primary.position,
            converter: RowConverter::new(fields.collect())?,
            rest,
        })
    }

    /// The part of each row's identity that is neither time nor position; mostly nothing.
    pub(crate) fn rest(&self, rows: &RecordBatch) -> Result<Vec<Box<[u8]>>, ArrowError> {
        if self.rest.is_empty() {
            return Ok(vec![Box::default(); rows.num_rows()]);
        }
        let columns: Vec<ArrayRef> = self.rest.iter().map(|&c| rows.column(c).clone()).collect();
        let encoded = self.converter.convert_columns(&columns)?;
        Ok(encoded.iter().map(|row| row.as_ref().into()).collect())
    }

    /// The identity of a row.
    pub(crate) fn identity<'a>(&self, time: i64, position: u64, rest: &'a [u8]) -> Identity<'a> {
        (if self.time { time } else { 0 }, if self.position { position } else { 0 }, rest)
    }

    /// Whether rows that differ in time differ in identity.
    pub(crate) fn has_time(&self) -> bool {
        self.time
    }
}

/// Whether the rows of two schemas can be told to be the same: keys, event time and primary key have the same columns.
#[must_use]
pub fn identifies_like(one: &Schema, other: &Schema) -> bool {
    let named = |schema: &Schema, columns: &[usize]| {
        let column = |&c: &usize| {
            let column = &schema.columns()[c];
            (column.name.clone(), column.data_type.clone())
        };
        columns.iter().map(column).collect::<Vec<_>>()
    };
    let all = |schema: &Schema| {
        let primary = schema.primary_key();
        (
            named(schema, schema.key()),
            named(schema, &[schema.time()]),
            named(schema, &primary.columns),
            primary.position,
        )
    };
    all(one) == all(other)
}

/// Where a row lies in either of two batches that have it.
pub type Pair = (Option<u32>, Option<u32>);

/// The rows of two [settled](Batch::settled) batches side by side, by primary key, in order of key hash and time.
///
/// # Errors
/// When a batch is not of its schema.
pub fn side_by_side(
    one: (&Schema, &Batch),
    other: (&Schema, &Batch),
) -> Result<Vec<Pair>, ArrowError> {
    let identify = (Identify::new(one.0)?, Identify::new(other.0)?);
    let rest = (identify.0.rest(&one.1.rows)?, identify.1.rest(&other.1.rows)?);
    let mut pairs: BTreeMap<(u64, Identity<'_>), Pair> = BTreeMap::new();
    for row in 0..one.1.len() {
        let at = identified(&identify.0, one, row, &rest.0[row]);
        pairs.entry(at).or_default().0 = u32::try_from(row).ok();
    }
    for row in 0..other.1.len() {
        let at = identified(&identify.1, other, row, &rest.1[row]);
        pairs.entry(at).or_default().1 = u32::try_from(row).ok();
    }
    Ok(pairs.into_values().collect())
}

fn identified<'a>(
    identify: &Identify,
    (schema, batch): (&Schema, &Batch),
    row: usize,
    rest: &'a [u8],
) -> (u64, Identity<'a>) {
    let (time, position) = (batch.times(schema)[row], batch.position.value(row));
    (batch.key_hash.value(row), identify.identity(time, position, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::schema::{Column, PrimaryKey};

    #[test]
    fn rows_of_two_batches_meet_by_primary_key() {
        let (schema, rows) = rows();
        let batch = |rows: &RecordBatch, hashes: Vec<u64>| {
            let position = (0..hashes.len() as u64).collect::<Vec<_>>().into();
            Batch::new(rows.clone(), hashes.into(), position).unwrap()
        };
        let one = batch(&rows.slice(0, 2), vec![7, 7]);
        let other = batch(&rows.slice(1, 1), vec![7]);
        let pairs = side_by_side((&schema, &one), (&schema, &other)).unwrap();
        assert_eq!(pairs, [(Some(0), None), (Some(1), Some(0))]);
        let elsewhere = batch(&rows.slice(1, 1), vec![9]);
        let pairs = side_by_side((&schema, &other), (&schema, &elsewhere)).unwrap();
        assert_eq!(pairs, [(Some(0), None), (None, Some(0))]);
        let readings = Schema::new(schema.columns().to_vec(), &["machine"], "t").unwrap();
        assert!(identifies_like(&schema, &schema) && !identifies_like(&schema, &readings));
    }

    fn rows() -> (Schema, RecordBatch) {
        let columns = vec![
            Column::new("machine", DataType::Int64),
            Column::new("t", DataType::Int64),
            Column::new("channel", DataType::Utf8),
        ];
        let primary_key = PrimaryKey { columns: vec![0, 1, 2], position: false };
        let schema = Schema::with_primary_key(columns, vec![0], 1, primary_key).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 1, 1])),
            Arc::new(Int64Array::from(vec![5, 5, 5])),
            Arc::new(StringArray::from(vec!["x", "y", "x"])),
        ];
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
        (schema, rows)
    }

    #[test]
    fn other_columns_of_the_primary_key_tell_rows_apart() {
        let (schema, rows) = rows();
        let identify = Identify::new(&schema).unwrap();
        let rest = identify.rest(&rows).unwrap();
        let identity = |row: usize, position| identify.identity(5, position, &rest[row]);
        assert_ne!(identity(0, 1), identity(1, 1));
        assert_eq!(identity(0, 1), identity(2, 9), "the position does not belong to it");
    }

    #[test]
    fn a_reading_is_told_apart_by_its_position() {
        let (schema, rows) = rows();
        let readings = Schema::new(schema.columns().to_vec(), &["machine"], "t").unwrap();
        let identify = Identify::new(&readings).unwrap();
        assert!(identify.rest(&rows).unwrap().iter().all(|r| r.is_empty()));
        assert_ne!(identify.identity(5, 1, &[]), identify.identity(5, 2, &[]));
    }
}
