//! The values of one column, parsed from fields straight into what an Arrow array is made of.
//!
//! A text file gives each value as text ([`Column::push`]); a message format knows more about its values and gives
//! them as what they are ([`Column::push_value`]), and text in them is read as a file's would be.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Int32Type};
use foreline_engine::Reason;

use super::dictionary::Dictionary;
use super::samples::{NO_SAMPLES, Samples, Waveforms};
use super::{NullWords, Stamps, value};
use crate::kind::{ColumnConfig, ColumnType};

/// What the values of a column are.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Float,
    Int,
    Bool,
    Time(Stamps),
    Text,
    /// Text that belongs to the key.
    Key,
    Waveform,
}

impl Kind {
    /// What the values of a declared column are, whose Arrow type is `data_type`.
    ///
    /// # Errors
    /// The option that is wrong and what is wrong with it.
    pub(crate) fn new(
        config: &ColumnConfig,
        data_type: &DataType,
    ) -> Result<Self, (&'static str, String)> {
        let is_time = config.data_type == ColumnType::Timestamp;
        if config.format.is_some() && !is_time {
            return Err(("format", "only a timestamp has a format".to_owned()));
        }
        if config.zone.is_some() && !is_time {
            return Err(("zone", "only a timestamp has a time zone".to_owned()));
        }
        Ok(match config.data_type {
            ColumnType::String if matches!(data_type, DataType::Dictionary(..)) => Kind::Key,
            ColumnType::String => Kind::Text,
            ColumnType::Float64 => Kind::Float,
            ColumnType::Int64 => Kind::Int,
            ColumnType::Bool => Kind::Bool,
            ColumnType::Timestamp => {
                Kind::Time(Stamps::new(config.format.as_deref(), config.zone.as_deref())?)
            }
            ColumnType::Waveform => Kind::Waveform,
        })
    }

    /// The same for a column whose values do not stand in the payload but come with it: in a topic, or the name of a file.
    ///
    /// # Errors
    /// As [`Kind::new`]; and a waveform does not come so.
    pub(crate) fn of_envelope(
        config: &ColumnConfig,
        data_type: &DataType,
    ) -> Result<Self, (&'static str, String)> {
        match Kind::new(config, data_type)? {
            Kind::Waveform => {
                let message =
                    "a waveform is read from the payload, not from a topic, a property or a name";
                Err(("type", message.to_owned()))
            }
            kind => Ok(kind),
        }
    }
}

/// What a column is needed for: a record without its value is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    None,
    /// It is the event time.
    Time,
    /// It belongs to the key.
    Key,
}

impl Need {
    /// What column `index` of `schema` is needed for.
    pub(crate) fn of(schema: &foreline_engine::Schema, index: usize) -> Self {
        match () {
            () if index == schema.time() => Need::Time,
            () if schema.key().contains(&index) => Need::Key,
            () => Need::None,
        }
    }

    fn unfit(self) -> Option<Unfit> {
        let missing = |reason, what| Some(Unfit::of(reason, what));
        match self {
            Need::None => None,
            Need::Time => {
                missing(Reason::MISSING_TIME, "is no value, but the event time is needed")
            }
            Need::Key => missing(Reason::MISSING_KEY, "is no value, but the key is needed"),
        }
    }
}

/// How values are written as text.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    /// The decimal point of numbers.
    pub(crate) decimal: u8,
    /// Fields that mean "no value".
    pub(crate) null: NullWords,
    /// Whether the text was made from another encoding.
    pub(crate) is_transcoded: bool,
}

/// A value as a message holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// None.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above what 64 bits with a sign can say, or not.
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// A number as the message writes it.
    Number(&'a str),
    /// An instant, in nanoseconds of UTC.
    Time(i64),
    /// Text.
    Text(&'a str),
    /// Bytes that may be text.
    Bytes(&'a [u8]),
    /// Something that holds values, as it is written: an array of numbers is so a waveform.
    Nested(&'a [u8]),
    /// What can be a waveform.
    Samples(Samples<'a>),
}

// A value goes by value from the payload to the column, for every field of every record.
const _: () = assert!(size_of::<Option<Value<'_>>>() <= 32);

impl Value<'_> {
    /// The value as text: what a message about it quotes.
    pub(crate) fn shown(&self) -> Cow<'_, [u8]> {
        match self {
            Value::Null => Cow::Borrowed(b"null"),
            Value::Bool(v) => Cow::Borrowed(if *v { b"true" } else { b"false" }),
            Value::Int(v) | Value::Time(v) => Cow::Owned(v.to_string().into_bytes()),
            Value::Unsigned(v) => Cow::Owned(v.to_string().into_bytes()),
            Value::Float(v) => Cow::Owned(v.to_string().into_bytes()),
            Value::Number(v) | Value::Text(v) => Cow::Borrowed(v.as_bytes()),
            Value::Bytes(v) | Value::Nested(v) => Cow::Borrowed(v),
            Value::Samples(samples) => samples.shown(),
        }
    }
}

/// Why a field cannot be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfit {
    /// In a word.
    pub(crate) reason: Reason,
    /// To be read after the quoted field.
    pub(crate) what: &'static str,
    /// Which sample of a waveform it is about, from 0.
    pub(crate) sample: Option<usize>,
}

impl Unfit {
    const fn of(reason: Reason, what: &'static str) -> Self {
        Unfit { reason, what, sample: None }
    }

    pub(super) const fn bad(what: &'static str) -> Self {
        Unfit::of(Reason::BAD_VALUE, what)
    }
}

const NOT_UTF8: Unfit = Unfit::of(Reason::BAD_ENCODING, "is not valid in the declared encoding");
const INFINITE: Unfit = Unfit::of(Reason::NON_FINITE, "is infinite");
const NOT_ONE: Unfit = Unfit::bad("is not one value");

#[derive(Debug)]
enum Values {
    Float(Vec<f64>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Time(Vec<i64>, Stamps),
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Key(Vec<i32>, Dictionary),
    Waveforms(Waveforms),
}

/// A column that grows by one value a record.
#[derive(Debug)]
pub(crate) struct Column {
    values: Values,
    /// The rows without a value, in order.
    nulls: Vec<usize>,
    /// Why a record without a value cannot be used, where that is so.
    required: Option<Unfit>,
    scratch: Vec<u8>,
}

impl Column {
    /// An empty column.
    pub(crate) fn new(kind: &Kind, need: Need) -> Self {
        let values = match kind {
            Kind::Float => Values::Float(Vec::new()),
            Kind::Int => Values::Int(Vec::new()),
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Time(stamps) => Values::Time(Vec::new(), stamps.clone()),
            Kind::Text => Values::Text { bytes: Vec::new(), ends: vec![0] },
            Kind::Key => Values::Key(Vec::new(), Dictionary::new()),
            Kind::Waveform => Values::Waveforms(Waveforms::new()),
        };
        Column { values, nulls: Vec::new(), required: need.unfit(), scratch: Vec::new() }
    }

    /// Adds the value that `field` writes.
    ///
    /// # Errors
    /// Why it cannot be used; nothing was added then.
    #[inline]
    pub(crate) fn push(&mut self, field: &[u8], writing: &Writing) -> Result<(), Unfit> {
        if writing.null.like_values && writing.null.contain(value::trim(field)) {
            return self.push_null();
        }
        let fitted = match &mut self.values {
            Values::Float(values) => {
                match value::float(field, writing.decimal, &mut self.scratch) {
                    Some(v) if v.is_finite() => add(values, v),
                    Some(v) if v.is_nan() => return self.push_null(),
                    Some(_) => Err(INFINITE),
                    None => Err(Unfit::bad("is not a number")),
                }
            }
            Values::Int(values) => match value::int(field, writing.decimal) {
                Some(v) => add(values, v),
                None => Err(Unfit::bad("is not a whole number of 64 bits")),
            },
            Values::Bool(values) => match value::truth(field) {
                Some(v) => add(values, v),
                None => Err(Unfit::bad("is neither true nor false")),
            },
            Values::Time(values, stamps) => match stamps.read(field) {
                Ok(v) => add(values, v),
                Err(what) => Err(Unfit::bad(what)),
            },
            Values::Key(numbers, texts) => match texts.find(field) {
                Some(number) => add(numbers, number),
                None => return self.push_text(field, writing),
            },
            Values::Text { .. } => return self.push_text(field, writing),
            Values::Waveforms(waveforms) => {
                waveforms.push_field(field, writing.decimal, &mut self.scratch)
            }
        };
        match fitted {
            Err(_) if writing.null.contain(value::trim(field)) => self.push_null(),
            fitted => fitted,
        }
    }

    /// Adds a count; the column must be one of whole numbers.
    pub(crate) fn push_count(&mut self, count: u64) {
        if let Values::Int(values) = &mut self.values {
            values.push(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Adds a value of a message. Text is kept as it is in a column of texts, and read as a field's otherwise.
    ///
    /// # Errors
    /// Why it cannot be used; nothing was added then.
    pub(crate) fn push_value(&mut self, value: Value<'_>, writing: &Writing) -> Result<(), Unfit> {
        if let Values::Waveforms(waveforms) = &mut self.values {
            match value {
                Value::Samples(samples) => return waveforms.push(&samples),
                Value::Nested(text) => return waveforms.push_json(text),
                Value::Null | Value::Text(_) | Value::Bytes(_) => {}
                _ => return Err(NO_SAMPLES),
            }
        }
        let text = match value {
            Value::Null => return self.push_null(),
            Value::Nested(_) => return Err(NOT_ONE),
            Value::Samples(samples) => samples.text().ok_or(NOT_ONE)?.map_err(|_| NOT_UTF8)?,
            Value::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?,
            Value::Text(text) | Value::Number(text) => text,
            plain => return self.push_plain(plain, writing),
        };
        if self.is_text() {
            self.add_text(text);
            return Ok(());
        }
        self.push(text.as_bytes(), writing)
    }

    /// Adds a value that has no text of its own: as it is where the types agree, else by way of its text.
    fn push_plain(&mut self, value: Value<'_>, writing: &Writing) -> Result<(), Unfit> {
        let as_it_is = !writing.null.like_values;
        match (value, &mut self.values) {
            (Value::Time(at), Values::Time(values, _)) => return add(values, at),
            (Value::Time(_), _) => {
                return Err(Unfit::bad("is an instant, and the column is no timestamp"));
            }
            (Value::Float(v), Values::Float(values)) if as_it_is && v.is_finite() => {
                return add(values, v);
            }
            (Value::Int(v), Values::Int(values)) if as_it_is => return add(values, v),
            (Value::Bool(v), Values::Bool(values)) if as_it_is => return add(values, v),
            _ => {}
        }
        let text = value.shown();
        if self.is_text() {
            self.add_text(&String::from_utf8_lossy(&text));
            return Ok(());
        }
        self.push(&text, writing)
    }

    fn is_text(&self) -> bool {
        matches!(self.values, Values::Text { .. } | Values::Key(..))
    }

    fn push_text(&mut self, field: &[u8], writing: &Writing) -> Result<(), Unfit> {
        if writing.null.contain(field) {
            return self.push_null();
        }
        let text = std::str::from_utf8(field).map_err(|_| NOT_UTF8)?;
        if writing.is_transcoded && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(NOT_UTF8);
        }
        self.add_text(text);
        Ok(())
    }

    /// Adds a text to a column of texts.
    fn add_text(&mut self, text: &str) {
        match &mut self.values {
            Values::Key(numbers, texts) => {
                let known = texts.find(text.as_bytes());
                numbers.push(known.unwrap_or_else(|| texts.insert(text)));
            }
            Values::Text { bytes, ends } => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(end(bytes));
            }
            _ => {}
        }
    }

    fn push_null(&mut self) -> Result<(), Unfit> {
        if let Some(missing) = self.required {
            return Err(missing);
        }
        self.nulls.push(self.len());
        match &mut self.values {
            Values::Float(values) => values.push(0.0),
            Values::Int(values) | Values::Time(values, _) => values.push(0),
            Values::Bool(values) => values.push(false),
            Values::Text { bytes, ends } => ends.push(end(bytes)),
            Values::Key(numbers, _) => numbers.push(0),
            Values::Waveforms(waveforms) => waveforms.push_null(),
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Int(values) | Values::Time(values, _) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Text { ends, .. } => ends.len() - 1,
            Values::Key(numbers, _) => numbers.len(),
            Values::Waveforms(waveforms) => waveforms.len(),
        }
    }

    /// Takes back all but the first `n_rows` values.
    pub(crate) fn truncate(&mut self, n_rows: usize) {
        while self.nulls.last().is_some_and(|&row| row >= n_rows) {
            self.nulls.pop();
        }
        match &mut self.values {
            Values::Float(values) => values.truncate(n_rows),
            Values::Int(values) | Values::Time(values, _) => values.truncate(n_rows),
            Values::Bool(values) => values.truncate(n_rows),
            Values::Text { bytes, ends } => {
                ends.truncate(n_rows + 1);
                let end = ends.last().and_then(|&e| usize::try_from(e).ok());
                bytes.truncate(end.unwrap_or_default());
            }
            Values::Key(numbers, _) => numbers.truncate(n_rows),
            Values::Waveforms(waveforms) => waveforms.truncate(n_rows),
        }
    }

    /// All values as an array; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        let nulls = null_buffer(self.len(), &std::mem::take(&mut self.nulls));
        match &mut self.values {
            Values::Float(values) => Arc::new(Float64Array::new(taken(values).into(), nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(taken(values).into(), nulls)),
            Values::Bool(values) => Arc::new(BooleanArray::new(taken(values).into(), nulls)),
            Values::Time(values, _) => Arc::new(
                TimestampNanosecondArray::new(taken(values).into(), nulls).with_timezone("UTC"),
            ),
            Values::Text { bytes, ends } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(taken(ends)));
                ends.push(0);
                let texts = StringArray::try_new(offsets, Buffer::from(taken(bytes)), nulls);
                Arc::new(texts.expect("only whole texts are added"))
            }
            Values::Key(numbers, texts) => {
                let keys = arrow::array::Int32Array::new(taken(numbers).into(), nulls);
                let array = DictionaryArray::<Int32Type>::try_new(keys, texts.array());
                texts.shrink();
                Arc::new(array.expect("every number is that of a text"))
            }
            Values::Waveforms(waveforms) => waveforms.finish(nulls),
        }
    }
}

#[inline]
fn add<T>(values: &mut Vec<T>, value: T) -> Result<(), Unfit> {
    values.push(value);
    Ok(())
}

/// The values, leaving room for as many again: chunks are alike.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn null_buffer(n_rows: usize, nulls: &[usize]) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; n_rows];
    for &row in nulls {
        valid[row] = false;
    }
    Some(NullBuffer::from(valid))
}

fn end(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("a chunk holds far less than 2 GiB")
}
