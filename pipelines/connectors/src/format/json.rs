//! JSON payloads: an object, an array of objects, or an object a line.
//!
//! Read by hand, because the usual readers lose what matters here: a number keeps its digits until its column's type is
//! known, a member that comes twice is a mistake, and a record that cannot be used keeps its own bytes. Strict JSON, but
//! for the bare `NaN`, `Infinity` and `-Infinity` that Python writes.

use std::sync::Arc;

use foreline_engine::{ConfigError, Reason};
use memchr::memchr_iter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::Node;
use super::{Layout, Taker, Wanted};
use crate::csv::ExtraFields;
use crate::record::{NullWords, Rejected, Writing, default_null_words};

mod scan;

use scan::{Malformed, Record, Scan};

/// Options of payloads whose records have named fields, which may be nested: JSON and MessagePack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonOptions {
    /// What becomes of a record with a member that no column is read from. Default `ignore`.
    #[serde(default = "ignore")]
    pub extra_fields: ExtraFields,
    /// Texts that mean "no value" where another type than text is declared. Default: the empty text, `NULL`, `null`,
    /// `NaN`, `nan` and `NA`. JSON's own null and a member that is missing always do.
    #[serde(default = "default_null_words")]
    pub null: Vec<String>,
}

fn ignore() -> ExtraFields {
    ExtraFields::Ignore
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions { extra_fields: ignore(), null: default_null_words() }
    }
}

impl JsonOptions {
    /// How text inside values is read.
    pub(super) fn writing(&self) -> Writing {
        Writing { decimal: b'.', null: NullWords::new(&self.null), is_transcoded: false }
    }
}

/// What one JSON text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    Payload,
    Line,
}

/// What is wanted of JSON payloads.
#[derive(Debug)]
struct Json {
    whole: Whole,
    root: Node,
    extra_fields: ExtraFields,
    n_columns: usize,
}

pub(super) fn plan(
    options: &JsonOptions,
    whole: Whole,
    wanted: &[Wanted<'_>],
    mistakes: &mut Vec<ConfigError>,
) -> Option<(Arc<dyn Layout>, Writing)> {
    let root = Node::of("JSON", wanted, mistakes);
    let n_columns = wanted.iter().map(|w| w.index + 1).max().unwrap_or(0);
    let json = Json { whole, root, extra_fields: options.extra_fields, n_columns };
    Some((Arc::new(json), options.writing()))
}

impl Layout for Json {
    fn records(&self, payload: &[u8]) -> u64 {
        match self.whole {
            Whole::Line => memchr_iter(b'\n', payload).count() as u64 + 1,
            Whole::Payload => items(payload),
        }
    }

    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        match self.whole {
            Whole::Payload => self.payload(payload, to),
            Whole::Line => {
                for line in payload.split(|b| *b == b'\n') {
                    self.line(line.trim_ascii(), to);
                }
                Ok(())
            }
        }
    }
}

impl Json {
    fn payload(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        let mut scan = Scan::new(text(payload)?);
        let mut record = Record::new(self.n_columns);
        if !scan.opens_list() {
            return self.alone(&mut scan, &mut record, to);
        }
        let mut first = true;
        while scan.next_item(&mut first).map_err(not_json)? {
            self.record(&mut scan, &mut record, to).map_err(not_json)?;
        }
        scan.end().map_err(not_json)
    }

    fn line(&self, line: &[u8], to: &mut Taker<'_>) {
        if line.is_empty() {
            return;
        }
        let read = text(line).and_then(|text| {
            // The record is handed on only when nothing follows it, so that a line is one record or one dead letter.
            Scan::new(text).whole().map_err(not_json)?;
            let mut record = Record::new(self.n_columns);
            self.alone(&mut Scan::new(text), &mut record, to)
        });
        if let Err(rejected) = read {
            to.reject(line, rejected);
        }
    }

    /// The one record that `scan` is to hold.
    fn alone<'a>(
        &self,
        scan: &mut Scan<'a>,
        record: &mut Record<'a>,
        to: &mut Taker<'_>,
    ) -> Result<(), Rejected> {
        self.record(scan, record, to).map_err(not_json)?;
        scan.end().map_err(not_json)
    }

    fn record<'a>(
        &self,
        scan: &mut Scan<'a>,
        record: &mut Record<'a>,
        to: &mut Taker<'_>,
    ) -> Result<(), Malformed> {
        record.clear();
        let strict = self.extra_fields == ExtraFields::Error;
        let original = scan.record(&self.root, strict, record)?.as_bytes();
        let is_object = original.first() == Some(&b'{');
        match record.take_problem() {
            Some(problem) => to.reject(original, Rejected::malformed(problem)),
            None if !is_object && self.root.columns.is_empty() => {
                to.reject(original, Rejected::malformed("the record is no object"));
            }
            None => to.record(original, |column| record.value(column)),
        }
        Ok(())
    }
}

/// At least the number of items of a list, or one.
fn items(payload: &[u8]) -> u64 {
    let start = payload.iter().position(|b| !b.is_ascii_whitespace() && !BOM.contains(b));
    let Some(b'[') = start.map(|at| payload[at]) else { return 1 };
    let (mut items, mut depth, mut quoted, mut escaped) = (1, 0_usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => items += u64::from(depth <= 1),
            _ => {}
        }
    }
    items
}

const BOM: &[u8] = b"\xef\xbb\xbf";

fn text(bytes: &[u8]) -> Result<&str, Rejected> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|e| Rejected {
        reason: Reason::BAD_ENCODING,
        detail: format!("the text is not valid UTF-8 at byte {}", e.valid_up_to()),
    })
}

#[cold]
fn not_json(malformed: Malformed) -> Rejected {
    Rejected::malformed(format!("not JSON at byte {}: {}", malformed.at, malformed.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_without_parsing() {
        for (text, n) in [
            ("{\"a\": [1, 2]}", 1),
            ("[]", 1),
            ("\u{feff} [1, 2, 3]", 3),
            ("[{\"a\": \"x,y]\\\",\"}, {\"b\": [1, 2]}]", 2),
            ("", 1),
        ] {
            assert_eq!(items(text.as_bytes()), n, "{text}");
        }
    }
}
