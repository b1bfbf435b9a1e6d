//! Late rows, as a stream of their own: how far each was behind, and what became of it.
//!
//! Every row that its source found late is in it once, whether it corrected the result or became a dead letter. A row that
//! was to correct the result but came to a step that keeps no rows that old is in it once more, with that step's name.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Int32Type};

use crate::batch::Batch;
use crate::dead::{DeadLetter, Reason};
use crate::keyed::hash_keys;
use crate::schema::{Column, Schema};

/// What became of a late row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It went on, to correct what was computed without it.
    Corrected,
    /// It was not used.
    DeadLetter,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Corrected => "corrected",
            Outcome::DeadLetter => "dead_letter",
        })
    }
}

/// A row that was behind its key's watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateRow {
    /// The source that found it late, or the step that could not use it any more.
    pub operator: Arc<str>,
    /// The key, its columns joined by `,`.
    pub key: String,
    /// The event time, in the unit of the stream's domain.
    pub time: i64,
    /// What it was behind.
    pub watermark: i64,
    pub outcome: Outcome,
    /// Where the row came from ([`Position`](crate::Position)).
    pub position: u64,
}

impl LateRow {
    /// The late row that a dead letter is about, if it is about one.
    pub(crate) fn of_letter(letter: &DeadLetter) -> Option<Self> {
        if letter.reason != Reason::LATE {
            return None;
        }
        Some(LateRow {
            operator: Arc::clone(&letter.operator),
            key: letter.key.clone()?,
            time: letter.time?,
            watermark: letter.watermark?,
            outcome: Outcome::DeadLetter,
            position: letter.position?,
        })
    }
}

/// The stream of late rows: keyed by the operator that found them late.
///
/// `event_time`, `watermark` and `behind` (the one less the other) are in the unit of the source's time: nanoseconds of
/// UTC, or a count. `outcome` is `corrected` or `dead_letter`.
#[must_use]
pub fn late_schema() -> Schema {
    let columns = vec![
        Column::new("operator", DataType::Utf8),
        Column::new("key", DataType::Utf8),
        Column::new("event_time", DataType::Int64),
        Column::new("watermark", DataType::Int64),
        Column::new("behind", DataType::Int64),
        Column::new("outcome", DataType::Utf8),
        Column::new("file", DataType::Utf8),
        Column::new("line", DataType::UInt64),
        Column::new("epoch", DataType::UInt64),
    ];
    Schema::new(columns, &["operator"], "event_time").expect("the columns above are distinct")
}

/// The late rows of an epoch as rows of [`late_schema`]; `place` has the file and line of each.
pub(crate) fn late_rows_to_batch(
    late: &[LateRow],
    places: &[Option<(String, u64)>],
    epoch: u64,
) -> Batch {
    let operators: DictionaryArray<Int32Type> = late.iter().map(|l| &*l.operator).collect();
    let outcomes = late.iter().map(|l| l.outcome.to_string());
    let behind = late.iter().map(|l| l.watermark.saturating_sub(l.time));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(operators),
        Arc::new(StringArray::from_iter_values(late.iter().map(|l| &l.key))),
        Arc::new(late.iter().map(|l| l.time).collect::<Int64Array>()),
        Arc::new(late.iter().map(|l| l.watermark).collect::<Int64Array>()),
        Arc::new(behind.collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values(outcomes)),
        Arc::new(places.iter().map(|p| p.as_ref().map(|p| &*p.0)).collect::<StringArray>()),
        Arc::new(places.iter().map(|p| p.as_ref().map(|p| p.1)).collect::<UInt64Array>()),
        Arc::new(UInt64Array::from_value(epoch, late.len())),
    ];
    let schema = late_schema();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)
        .expect("columns are built from the schema");
    let key_hash = hash_keys(&rows, schema.key());
    let position = late.iter().map(|l| l.position).collect::<Vec<_>>();
    Batch::new(rows, key_hash, position.into()).expect("one hash and one position a row")
}
