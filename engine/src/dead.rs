//! Rows that could not be used, as a stream of their own.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type};
use serde::Serialize;

use crate::batch::Batch;
use crate::keyed::hash_keys;
use crate::schema::{Column, Schema};

/// Why a row could not be used: a short word, the same in the table, the metric label and the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Reason(pub &'static str);

impl Reason {
    /// The row has another number of fields than the source declares.
    pub const FIELD_COUNT: Reason = Reason("field_count");
    /// A field does not parse as its column's type.
    pub const BAD_VALUE: Reason = Reason("bad_value");
    /// The text is not valid in the declared encoding.
    pub const BAD_ENCODING: Reason = Reason("bad_encoding");
    /// The row is longer than the source's limit.
    pub const ROW_TOO_LONG: Reason = Reason("row_too_long");
    /// A value is infinite.
    pub const NON_FINITE: Reason = Reason("non_finite");
    /// The event time is null.
    pub const MISSING_TIME: Reason = Reason("missing_time");
    /// A key column is null.
    pub const MISSING_KEY: Reason = Reason("missing_key");
    /// The device's stamp and the arrival differ by more than `device_clock` allows.
    pub const CLOCK_OFF: Reason = Reason("clock_off");
    /// The event time is further ahead of the clock than `max_ahead`.
    pub const TOO_FAR_AHEAD: Reason = Reason("too_far_ahead");
    /// The event time is behind the key's watermark.
    pub const LATE: Reason = Reason("late");
    /// Another row of the table has the same key.
    pub const REPEATED_KEY: Reason = Reason("repeated_key");
    /// An expression could not be computed for this row.
    pub const EXPRESSION: Reason = Reason("expression");
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A row that could not be used, and why. An operator fills in what it knows; the engine adds its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source or step that could not use it; empty until the engine has filled it in.
    pub operator: Arc<str>,
    /// The key, its columns joined by `,`.
    pub key: Option<String>,
    /// The event time, in the unit of the stream's domain.
    pub time: Option<i64>,
    /// Why.
    pub reason: Reason,
    /// The offending value and what was expected.
    pub detail: String,
    /// Where the row came from ([`Position`](crate::Position)).
    pub position: Option<u64>,
    /// The bytes as they came, where the operator still has them.
    pub original: Option<Vec<u8>>,
    /// What a late row is behind: the key's watermark, or the time up to which a step's results are final.
    pub watermark: Option<i64>,
}

impl DeadLetter {
    /// A dead letter that says only why.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        DeadLetter {
            operator: Arc::from(""),
            key: None,
            time: None,
            reason,
            detail: detail.into(),
            position: None,
            original: None,
            watermark: None,
        }
    }
}

/// The stream of dead letters: keyed by the operator that could not use the row.
#[must_use]
pub fn dead_letter_schema() -> Schema {
    let columns = vec![
        Column::new("operator", DataType::Utf8),
        Column::new("reason", DataType::Utf8),
        Column::new("detail", DataType::Utf8),
        Column::new("key", DataType::Utf8),
        Column::new("event_time", DataType::Int64),
        Column::new("file", DataType::Utf8),
        Column::new("line", DataType::UInt64),
        Column::new("original", DataType::Binary),
    ];
    Schema::new(columns, &["operator"], "event_time").expect("the columns above are distinct")
}

/// Dead letters as rows of [`dead_letter_schema`]; `place` turns a position into file and line.
#[must_use]
pub fn dead_letters_to_batch(
    letters: &[DeadLetter],
    place: &dyn Fn(&DeadLetter) -> Option<(String, u64)>,
) -> Batch {
    let places: Vec<_> = letters.iter().map(place).collect();
    let operators: DictionaryArray<Int32Type> = letters.iter().map(|d| &*d.operator).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(operators),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|d| d.reason.0))),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|d| &d.detail))),
        Arc::new(letters.iter().map(|d| d.key.as_deref()).collect::<StringArray>()),
        Arc::new(letters.iter().map(|d| d.time).collect::<Int64Array>()),
        Arc::new(places.iter().map(|p| p.as_ref().map(|p| &*p.0)).collect::<StringArray>()),
        Arc::new(places.iter().map(|p| p.as_ref().map(|p| p.1)).collect::<UInt64Array>()),
        Arc::new(letters.iter().map(|d| d.original.as_deref()).collect::<BinaryArray>()),
    ];
    let schema = dead_letter_schema();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)
        .expect("columns are built from the schema");
    let key_hash = hash_keys(&rows, schema.key());
    let position = letters.iter().map(|d| d.position.unwrap_or(0)).collect::<Vec<_>>();
    Batch::new(rows, key_hash, position.into()).expect("one hash and one position a letter")
}
