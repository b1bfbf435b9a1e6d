//! What tells the rows of one key apart: the primary key less the key itself.
//!
//! Nearly always that is the event time, with the position for readings, so both are compared as numbers. Columns
//! of a primary key beyond them are encoded as bytes.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::schema::{Column, PrimaryKey};

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
