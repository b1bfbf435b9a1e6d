//! Relations that are kept up from outside: whole tables that are looked at now and then, and changes that are pushed.
//!
//! What a reader would get wrong:
//!
//! * The first byte of a payload says whether its rows stand or are gone; behind it is a body as [`http`](crate::http) has it, so that
//!   values obey the same rules whatever brought them.
//! * A table is a partition of its own and one chunk. It is in the journal, so a replay sees what was there then, whatever the
//!   file or the database says now.
//! * A table of which nothing can be used, or that cannot be read any more, changes nothing: what was there stays. Only an empty
//!   table that is well-formed empties a relation.

mod csv;
mod http;
mod postgres;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use foreline_engine::{Chunk, Decoded, Decoder, GONE, Position};

use crate::http::HttpDecoder;

pub use csv::Csv;
pub use http::{Http, swaps};
pub use postgres::Postgres;

/// What the rows of a payload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// Each takes the place of the one with its key.
    Stands,
    /// Those with their keys are no longer there.
    Gone,
}

impl Say {
    /// What stands before the body in the journal.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Say::Stands => b'+',
            Say::Gone => b'-',
        }
    }
}

/// Decodes bodies and marks their rows.
struct RelationDecoder(HttpDecoder);

impl Decoder for RelationDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let Some((say, body)) = chunk.payload.split_first() else { return };
        let before = out.rows.len();
        let first = Position::new(chunk.partition, chunk.range.first_ordinal);
        self.0.body(body, first, out);
        let gone = *say == Say::Gone.tag();
        for (rows, _) in &mut out.rows[before..] {
            *rows = marked(rows, gone);
        }
    }
}

/// The rows with the column that says whether they are gone.
fn marked(rows: &RecordBatch, gone: bool) -> RecordBatch {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(GONE, DataType::Boolean, true)));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(BooleanArray::from(vec![gone; rows.num_rows()])));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("one value a row was added")
}
