//! How the bytes of a message, a request's body or an object become rows; what a source's `format:` says.
//!
//! What a reader would get wrong:
//!
//! * A payload holds any number of records. One record that cannot be used is a dead letter with its own bytes; a payload
//!   that is not what its format says is one dead letter, and nothing of it is used.
//! * Values obey the rules of the CSV source (the module `record`): types, stamps, zones, NaN, infinities, missing keys.
//! * What the envelope knows (a topic's level, the time of arrival) is handed in with each payload and belongs to every
//!   row of it. Which columns those are is decided when the source is planned.
//! * Decoding depends on nothing but its arguments: no clock, no payload before this one.
//! * [`PlannedFormat::records`] is cheap and may count too many, never too few: positions are handed out by it before
//!   anything is decoded.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use foreline_engine::{ConfigError, DeadLetter, Decoded, Position, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};

use crate::kind::{ColumnConfig, FieldRef, SourceInputs};
use crate::record::{Column, Kind, Need, ORIGINAL_BYTES_MAX, Rejected, Value, Writing};

mod csv;
mod fields;
mod json;
mod msgpack;
mod raw;
mod sparkplug;
#[cfg(test)]
mod tests;

pub use self::csv::CsvOptions;
pub use self::json::JsonOptions;
pub use self::msgpack::MsgpackOptions;
pub use self::raw::{RawOptions, Stamped, StampedBy};
pub use self::sparkplug::SparkplugOptions;
#[cfg(test)]
pub(crate) use self::sparkplug::testing as sparkplug_testing;
pub(crate) use self::sparkplug::{Arrival, Births, Resolved};

/// How payloads are written: the name of a format, or the name with its options as in `{ csv: { header: true } }`.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// One JSON object, or an array of them.
    Json(JsonOptions),
    /// One JSON object a line.
    Ndjson(JsonOptions),
    /// Delimited text, one record a line.
    Csv(CsvOptions),
    /// One MessagePack map, or an array of them.
    Msgpack(MsgpackOptions),
    /// A burst of samples: little-endian 32-bit floats, nothing between them. One row a sample, or, where its columns are
    /// waveforms, one row a burst.
    Raw(RawOptions),
    /// Sparkplug B: a column takes the metric of its name.
    Sparkplug(SparkplugOptions),
}

/// [`Format`] as a map of one key.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Written {
    /// One JSON object, or an array of them.
    Json(JsonOptions),
    /// One JSON object a line.
    Ndjson(JsonOptions),
    /// Delimited text, one record a line.
    Csv(CsvOptions),
    /// One MessagePack map, or an array of them.
    Msgpack(MsgpackOptions),
    /// A burst of samples: little-endian 32-bit floats, nothing between them. One row a sample, or, where its columns are
    /// waveforms, one row a burst.
    Raw(RawOptions),
    /// Sparkplug B: a column takes the metric of its name.
    Sparkplug(SparkplugOptions),
}

impl JsonSchema for Format {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let written = generator.subschema_for::<Written>();
        schemars::json_schema!({
            "description": "how payloads are written: the name of a format, or the name with its options as in { csv: { header: true } }",
            "anyOf": [
                { "enum": ["json", "ndjson", "csv", "msgpack", "raw", "sparkplug"] },
                written,
            ]
        })
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMap;
        impl<'de> Visitor<'de> for NameOrMap {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a format such as json, or a format with options such as { csv: { header: true } }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Written, E> {
                Written::deserialize(serde_json::json!({ name: {} })).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                Written::deserialize(MapAccessDeserializer::new(map)).map_err(A::Error::custom)
            }
        }
        Ok(match deserializer.deserialize_any(NameOrMap)? {
            Written::Json(options) => Format::Json(options),
            Written::Ndjson(options) => Format::Ndjson(options),
            Written::Csv(options) => Format::Csv(options),
            Written::Msgpack(options) => Format::Msgpack(options),
            Written::Raw(options) => Format::Raw(options),
            Written::Sparkplug(options) => Format::Sparkplug(options),
        })
    }
}

impl Default for Format {
    fn default() -> Self {
        Format::Json(JsonOptions::default())
    }
}

/// A column whose values stand in the payload.
struct Wanted<'a> {
    /// Its place among the source's columns.
    index: usize,
    name: &'a str,
    config: &'a ColumnConfig,
    need: Need,
}

impl Wanted<'_> {
    fn error(&self, option: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(format!("columns.{}.{option}", self.name), message)
    }

    /// The name by which the record has it, for formats whose records have names and no order.
    fn field_name(&self, format: &str) -> Result<&str, ConfigError> {
        match &self.config.field {
            None => Ok(self.name),
            Some(FieldRef::Name(name)) if name.starts_with('#') => {
                Err(self.error("field", format!("there is no '{name}' in a {format} payload")))
            }
            Some(FieldRef::Name(name)) => Ok(name),
            Some(FieldRef::Place(_)) => Err(self
                .error("field", format!("fields of a {format} payload have no order"))
                .help("give the field's name")),
        }
    }
}

/// How the records of one format are found in a payload.
trait Layout: fmt::Debug + Send + Sync {
    /// At least as many as [`Layout::read`] finds, and one at least.
    fn records(&self, payload: &[u8]) -> u64;

    /// Finds the records of `payload` and hands each to `to`.
    ///
    /// # Errors
    /// When the payload is not what the format says: nothing of it is used then.
    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected>;
}

impl Format {
    /// Checks the format against the declared columns. The values of the columns `given`, by index, come with each
    /// payload; the others are looked for in it.
    ///
    /// # Errors
    /// Everything that is wrong. An error `at` a declared column starts with `columns.`, every other with the format's
    /// name: put it `under("format")`.
    pub fn plan(
        &self,
        inputs: &SourceInputs<'_>,
        given: &[usize],
    ) -> Result<PlannedFormat, Vec<ConfigError>> {
        let mut mistakes = Vec::new();
        let wanted: Vec<Wanted<'_>> = inputs
            .columns
            .iter()
            .enumerate()
            .filter(|(index, _)| !given.contains(index))
            .map(|(index, (name, config))| Wanted {
                index,
                name,
                config,
                need: Need::of(inputs.schema, index),
            })
            .collect();
        let mut sheet = Vec::new();
        for (index, (name, config)) in inputs.columns.iter().enumerate() {
            let data_type = &inputs.schema.columns()[index].data_type;
            let given = given.iter().position(|g| *g == index);
            let kind = match given {
                Some(_) => Kind::of_envelope(config, data_type),
                None => Kind::new(config, data_type),
            };
            match kind {
                Ok(kind) => {
                    let need = Need::of(inputs.schema, index);
                    sheet.push(SheetColumn { name: name.clone(), kind, need, given });
                }
                Err((option, m)) => {
                    mistakes.push(ConfigError::new(format!("columns.{name}.{option}"), m));
                }
            }
        }
        let layout = self.layout(inputs.schema, &wanted, &mut mistakes);
        match layout {
            Some((layout, writing)) if mistakes.is_empty() => {
                let schema = inputs.arrow();
                Ok(PlannedFormat { layout, columns: sheet.into(), writing, schema })
            }
            _ => Err(mistakes),
        }
    }

    fn layout(
        &self,
        schema: &Schema,
        wanted: &[Wanted<'_>],
        mistakes: &mut Vec<ConfigError>,
    ) -> Option<(Arc<dyn Layout>, Writing)> {
        match self {
            Format::Json(options) => json::plan(options, json::Whole::Payload, wanted, mistakes),
            Format::Ndjson(options) => json::plan(options, json::Whole::Line, wanted, mistakes),
            Format::Csv(options) => csv::plan(options, wanted, mistakes),
            Format::Msgpack(options) => msgpack::plan(options, wanted, mistakes),
            Format::Raw(options) => raw::plan(options, schema, wanted, mistakes),
            Format::Sparkplug(_) => sparkplug::plan(wanted, mistakes),
        }
    }
}

/// A column as the decoder builds it.
#[derive(Debug)]
struct SheetColumn {
    name: String,
    kind: Kind,
    need: Need,
    /// Where among the values that come with a payload its own is.
    given: Option<usize>,
}

/// A format that fits its columns.
#[derive(Debug, Clone)]
pub struct PlannedFormat {
    layout: Arc<dyn Layout>,
    columns: Arc<[SheetColumn]>,
    writing: Writing,
    schema: SchemaRef,
}

impl PlannedFormat {
    /// How many positions `payload` takes: at least as many as it has records, and at least one. Its cost is small beside
    /// that of decoding.
    #[must_use]
    pub fn records(&self, payload: &[u8]) -> u64 {
        self.layout.records(payload).max(1)
    }

    /// A decoder; every worker needs its own.
    #[must_use]
    pub fn decoder(&self) -> RecordDecoder {
        let columns = self.columns.iter().map(|c| Column::new(&c.kind, c.need)).collect();
        RecordDecoder { format: self.clone(), columns, positions: Vec::new() }
    }
}

/// Turns payloads into rows.
#[derive(Debug)]
pub struct RecordDecoder {
    format: PlannedFormat,
    columns: Vec<Column>,
    positions: Vec<u64>,
}

impl RecordDecoder {
    /// Decodes one payload. `given` are the values of the columns that were planned as given, in that order; the first
    /// record stands at `first`, the others behind it. Rows are handed out by [`RecordDecoder::finish`], dead letters at
    /// once.
    pub(crate) fn payload(
        &mut self,
        payload: &[u8],
        given: &[Value<'_>],
        first: Position,
        out: &mut Decoded,
    ) {
        let layout = Arc::clone(&self.format.layout);
        let before =
            Mark { rows: self.positions.len(), dead: out.dead.len(), records: out.records };
        let mut to = Taker { sheet: self, given, first: first.0, next: 0, out };
        if let Err(rejected) = layout.read(payload, &mut to) {
            to.take_back(&before);
            to.reject(payload, rejected);
        }
    }

    /// Adds one dead letter for a payload that its source cannot use.
    pub(crate) fn refuse(
        &mut self,
        payload: &[u8],
        rejected: Rejected,
        first: Position,
        out: &mut Decoded,
    ) {
        Taker { sheet: self, given: &[], first: first.0, next: 0, out }.reject(payload, rejected);
    }

    /// Hands out the rows since the last call.
    pub fn finish(&mut self, out: &mut Decoded) {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let positions = std::mem::take(&mut self.positions);
        if positions.is_empty() {
            return;
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.format.schema), columns)
            .expect("columns are built from the schema, one value a row");
        out.rows.push((rows, UInt64Array::from(positions)));
    }
}

/// What there was before a payload.
struct Mark {
    rows: usize,
    dead: usize,
    records: u64,
}

/// Takes the records of one payload in turn.
struct Taker<'a> {
    sheet: &'a mut RecordDecoder,
    given: &'a [Value<'a>],
    first: u64,
    next: u64,
    out: &'a mut Decoded,
}

impl Taker<'_> {
    /// A record; `value` has its value for a column, `None` where the envelope has it. `original` is what a dead letter
    /// keeps.
    fn record<'v>(&mut self, original: &[u8], value: impl Fn(usize) -> Option<Value<'v>>) {
        match self.row(value) {
            Ok(()) => {
                self.sheet.positions.push(self.first + self.next);
                self.next += 1;
                self.out.records += 1;
            }
            Err(rejected) => {
                let n_rows = self.sheet.positions.len();
                self.sheet.columns.iter_mut().for_each(|c| c.truncate(n_rows));
                self.reject(original, rejected);
            }
        }
    }

    /// Adds a value to each column. After an error some columns may have one too many.
    fn row<'v>(&mut self, value: impl Fn(usize) -> Option<Value<'v>>) -> Result<(), Rejected> {
        let RecordDecoder { format, columns, .. } = &mut *self.sheet;
        for (index, (column, planned)) in columns.iter_mut().zip(&*format.columns).enumerate() {
            let given = || planned.given.and_then(|g| self.given.get(g).copied());
            let value = value(index).or_else(given).unwrap_or(Value::Null);
            column
                .push_value(value, &format.writing)
                .map_err(|unfit| Rejected::field(&planned.name, &value.shown(), unfit))?;
        }
        Ok(())
    }

    /// The value of column `index` that came with the payload.
    fn given(&self, index: usize) -> Option<Value<'_>> {
        self.given.get(self.sheet.format.columns[index].given?).copied()
    }

    /// A record that cannot be used.
    #[cold]
    fn reject(&mut self, original: &[u8], rejected: Rejected) {
        let kept = original.len().min(ORIGINAL_BYTES_MAX);
        self.out.dead.push(DeadLetter {
            position: Some(self.first + self.next),
            original: Some(original[..kept].to_vec()),
            ..DeadLetter::new(rejected.reason, rejected.detail)
        });
        self.next += 1;
        self.out.records += 1;
    }

    fn take_back(&mut self, before: &Mark) {
        self.sheet.positions.truncate(before.rows);
        self.sheet.columns.iter_mut().for_each(|c| c.truncate(before.rows));
        self.out.dead.truncate(before.dead);
        self.out.records = before.records;
        self.next = 0;
    }
}
