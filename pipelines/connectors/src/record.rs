//! What text files and the formats of messages share: text becomes fields, fields become values, values become columns.
//!
//! The rules about values stand here and only here, so that a number, a stamp or a missing value means the same
//! whatever brought it: NaN is null, an infinite value and a missing time or key make the record a dead letter, whole
//! numbers never pass through floating point, a waveform is whole or its record is a dead letter.

mod column;
mod dictionary;
mod options;
mod samples;
mod split;
mod stamp;
pub(crate) mod value;

pub(crate) use column::{Column, Kind, Need, Unfit, Value, Writing};
pub(crate) use options::{AsWritten, NullWords, default_null_words};
pub(crate) use samples::{Burst, Form, List, Packed, SAMPLES_MAX, Samples, narrow};
pub(crate) use split::{Cut, Delimiter, Dialect, Fields};
pub(crate) use stamp::Stamps;

use foreline_engine::Reason;

/// Most bytes of a record that a dead letter keeps.
pub(crate) const ORIGINAL_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a value that a message quotes.
const QUOTED_BYTES_MAX: usize = 64;

/// Why a record cannot be used.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// In a word.
    pub(crate) reason: Reason,
    /// The offending value and what was expected.
    pub(crate) detail: String,
}

impl Rejected {
    /// `field`, meant for `column`, cannot be used.
    #[cold]
    pub(crate) fn field(column: &str, field: &[u8], unfit: Unfit) -> Self {
        let shown = &field[..field.len().min(QUOTED_BYTES_MAX)];
        let text = String::from_utf8_lossy(shown);
        let detail = match unfit.sample {
            None => format!("column '{column}': '{text}' {}", unfit.what),
            Some(at) => format!("column '{column}': sample {at} of '{text}' {}", unfit.what),
        };
        Rejected { reason: unfit.reason, detail }
    }

    /// The record has another number of fields than it should.
    #[cold]
    pub(crate) fn field_count(found: usize, expected: usize) -> Self {
        let detail = format!("the row has {found} fields, not {expected}");
        Rejected { reason: Reason::FIELD_COUNT, detail }
    }

    /// The record is longer than the option `max_row_bytes` allows.
    #[cold]
    pub(crate) fn too_long(row_bytes_max: usize) -> Self {
        let detail = format!("the row is longer than {row_bytes_max} bytes (see `max_row_bytes`)");
        Rejected { reason: Reason::ROW_TOO_LONG, detail }
    }

    /// Something is wrong with how the record is written.
    #[cold]
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Rejected { reason: Reason::BAD_VALUE, detail: detail.into() }
    }
}
