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
