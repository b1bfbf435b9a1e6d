//! CSV payloads: delimited text, one record a line, read as the CSV source reads its files.
//!
//! A message mostly has no header: then fields are known by their place, or by the names in `fields`. With `header: true`
//! every payload begins with one.

use std::sync::Arc;

use foreline_engine::ConfigError;
use memchr::{memchr, memchr_iter};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Layout, Taker, Wanted};
use crate::csv::ExtraFields;
use crate::kind::FieldRef;
use crate::record::{
    AsWritten, Cut, Dialect, Fields, NullWords, Rejected, Value, Writing, default_null_words,
};

/// Options of CSV payloads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    /// Whether every payload begins with a record that names the fields. Default false.
    pub header: bool,
    /// The names of the fields in their order, for payloads without a header. Left out: a column is read from the field
    /// at its `field`'s place, or from the next one in the order of the columns.
    pub fields: Vec<String>,
    /// What stands between fields: one character, or `blank` for any run of spaces and tabs. Default `,`.
    pub delimiter: String,
    /// What a field may be wrapped in, one character or `none`. Default `"`.
    pub quote: String,
    /// The decimal point of numbers, `.` or `,`. Default `.`.
    pub decimal: String,
    /// Fields that mean "no value". Default: the empty field, `NULL`, `null`, `NaN`, `nan` and `NA`.
    pub null: Vec<String>,
    /// Lines that begin with this are passed over. Default: no line is a comment.
    pub comment: Option<String>,
    /// What becomes of a record with more fields than there should be. Default `error`.
    pub extra_fields: ExtraFields,
    /// Longest record in bytes; a longer one becomes a dead letter. Default 1048576.
    pub max_row_bytes: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            header: false,
            fields: Vec::new(),
            delimiter: ",".to_owned(),
            quote: "\"".to_owned(),
            decimal: ".".to_owned(),
            null: default_null_words(),
            comment: None,
            extra_fields: ExtraFields::Error,
            max_row_bytes: 1 << 20,
        }
    }
}

/// What is wanted of CSV payloads.
#[derive(Debug)]
struct Csv {
    dialect: Dialect,
    /// By column: its place among the fields, or for payloads with a header its name there.
    places: Vec<Option<usize>>,
    names: Vec<Option<String>>,
    header: bool,
    n_fields: usize,
    extra_fields: ExtraFields,
    null: NullWords,
}

pub(super) fn plan(
    options: &CsvOptions,
    wanted: &[Wanted<'_>],
    mistakes: &mut Vec<ConfigError>,
) -> Option<(Arc<dyn Layout>, Writing)> {
    let as_written = AsWritten {
        delimiter: &options.delimiter,
        quote: &options.quote,
        decimal: &options.decimal,
        comment: options.comment.as_deref(),
        max_row_bytes: options.max_row_bytes,
    };
    let mut wrong = Vec::new();
    let (dialect, decimal) = as_written.dialect(&mut wrong);
    if options.header && !options.fields.is_empty() {
        let e = ConfigError::new("fields", "a payload with a header names its fields itself");
        wrong.push(e.help("remove `fields`, or set `header: false`"));
    }
    mistakes.extend(wrong.into_iter().map(|e| e.under("csv")));
    let null = NullWords::new(&options.null);
    let mut csv = Csv {
        dialect,
        places: Vec::new(),
        names: Vec::new(),
        header: options.header,
        n_fields: options.fields.len(),
        extra_fields: options.extra_fields,
        null: null.clone(),
    };
    let mut next = 0;
    for column in wanted {
        if let Err(e) = csv.find(column, &options.fields, &mut next) {
            mistakes.push(e);
        }
    }
    if options.fields.is_empty() {
        csv.n_fields = csv.places.iter().flatten().map(|place| place + 1).max().unwrap_or(0);
    }
    Some((Arc::new(csv), Writing { decimal, null, is_transcoded: false }))
}

impl Csv {
    /// Notes where `column` is read from; `next` is the place behind that of the column before.
    fn find(
        &mut self,
        column: &Wanted<'_>,
        fields: &[String],
        next: &mut usize,
    ) -> Result<(), ConfigError> {
        let n = column.index + 1;
        self.places.resize(self.places.len().max(n), None);
        self.names.resize(self.names.len().max(n), None);
        let name = match &column.config.field {
            Some(FieldRef::Place(0)) => {
                return Err(column.error("field", "fields are counted from 1"));
            }
            Some(FieldRef::Place(place)) => {
                *next = *place as usize;
                self.places[column.index] = Some(*next - 1);
                return Ok(());
            }
            Some(FieldRef::Name(_)) => column.field_name("CSV")?,
            None if self.header || !fields.is_empty() => column.name,
            None => {
                self.places[column.index] = Some(*next);
                *next += 1;
                return Ok(());
            }
        };
        if self.header {
            self.names[column.index] = Some(name.to_owned());
            return Ok(());
        }
        let place = fields.iter().position(|field| field == name).ok_or_else(|| {
            column
                .error("field", format!("there is no field '{name}'"))
                .help("name all fields in `fields`, or give the field's place from 1")
                .unknown(name, fields)
        })?;
        self.places[column.index] = Some(place);
        Ok(())
    }

    /// The record at the start of `text`, without its line break, and what follows it.
    fn cut<'a>(&self, text: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let end = match self.dialect.cut(text, true) {
            Cut::Record { end, .. } => end,
            Cut::TooLong | Cut::Incomplete => memchr(b'\n', text).map_or(text.len(), |at| at + 1),
        };
        let (record, rest) = text.split_at(end);
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        (record.strip_suffix(b"\r").unwrap_or(record), rest)
    }

    /// The places of the columns that a header names, and how many fields it has.
    fn header(&self, record: &[u8]) -> Result<(Vec<Option<usize>>, usize), Rejected> {
        let mut fields = Fields::default();
        fields.split(&self.dialect, record).map_err(|bad| Rejected::malformed(bad.0))?;
        let mut places = self.places.clone();
        for (place, name) in places.iter_mut().zip(&self.names) {
            let Some(name) = name else { continue };
            let found = (0..fields.len()).find(|&i| fields.get(record, i) == name.as_bytes());
            *place = Some(found.ok_or_else(|| {
                Rejected::malformed(format!("the header does not name field '{name}'"))
            })?);
        }
        Ok((places, fields.len()))
    }

    fn fields(&self, fields: &mut Fields, record: &[u8], n_fields: usize) -> Result<(), Rejected> {
        if record.len() > self.dialect.row_bytes_max {
            return Err(Rejected::too_long(self.dialect.row_bytes_max));
        }
        fields.split(&self.dialect, record).map_err(|bad| Rejected::malformed(bad.0))?;
        let n = fields.len();
        if n < n_fields || (n > n_fields && self.extra_fields == ExtraFields::Error) {
            return Err(Rejected::field_count(n, n_fields));
        }
        Ok(())
    }
}

impl Layout for Csv {
    fn records(&self, payload: &[u8]) -> u64 {
        memchr_iter(b'\n', payload).count() as u64 + 1
    }

    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        let mut rest = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
        let mut named = None;
        let mut fields = Fields::default();
        while !rest.is_empty() {
            let (record, after) = self.cut(rest);
            rest = after;
            if self.dialect.is_skipped(record) {
                continue;
            }
            if self.header && named.is_none() {
                named = Some(self.header(record)?);
                continue;
            }
            let (places, n_fields) =
                named.as_ref().map_or((&self.places, self.n_fields), |(p, n)| (p, *n));
            if let Err(rejected) = self.fields(&mut fields, record, n_fields) {
                to.reject(record, rejected);
                continue;
            }
            to.record(record, |column| {
                let field = fields.get(record, (*places.get(column)?)?);
                Some(if self.null.contain(field) { Value::Null } else { Value::Bytes(field) })
            });
        }
        Ok(())
    }
}
