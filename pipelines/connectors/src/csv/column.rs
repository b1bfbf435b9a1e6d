//! The values of one column, parsed from fields straight into what an Arrow array is made of.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use foreline_engine::Reason;

use super::dictionary::Dictionary;
use super::plan::Plan;
use super::stamp::Stamps;
use super::value;

/// What the values of a column are.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
    Time(Stamps),
    Text,
    /// Text that belongs to the key.
    Key,
}

/// Why a field cannot be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfit {
    /// In a word.
    pub(super) reason: Reason,
    /// To be read after the quoted field.
    pub(super) what: &'static str,
}

impl Unfit {
    fn bad(what: &'static str) -> Self {
        Unfit { reason: Reason::BAD_VALUE, what }
    }
}

const NOT_UTF8: Unfit =
    Unfit { reason: Reason::BAD_ENCODING, what: "is not valid in the declared encoding" };
const INFINITE: Unfit = Unfit { reason: Reason::NON_FINITE, what: "is infinite" };

#[derive(Debug)]
enum Values {
    Float(Vec<f64>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Time(Vec<i64>, Stamps),
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Key(Vec<i32>, Dictionary),
}

/// A column that grows by one value a record.
#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    /// The rows without a value, in order.
    nulls: Vec<usize>,
    /// Why a record without a value cannot be used, where that is so.
    required: Option<Unfit>,
    scratch: Vec<u8>,
}

impl Column {
    /// The empty column `index` of `plan`.
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        let column = &plan.columns[index];
        let missing = |reason, what| Some(Unfit { reason, what });
        let required = if index == plan.time {
            missing(Reason::MISSING_TIME, "is no value, but the event time is needed")
        } else if column.is_key {
            missing(Reason::MISSING_KEY, "is no value, but the key is needed")
        } else {
            None
        };
        let values = match &column.kind {
            Kind::Float => Values::Float(Vec::new()),
            Kind::Int => Values::Int(Vec::new()),
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Time(stamps) => Values::Time(Vec::new(), stamps.clone()),
            Kind::Text => Values::Text { bytes: Vec::new(), ends: vec![0] },
            Kind::Key => Values::Key(Vec::new(), Dictionary::new()),
        };
        Column { values, nulls: Vec::new(), required, scratch: Vec::new() }
    }

    /// Adds the value that `field` writes.
    ///
    /// # Errors
    /// Why it cannot be used; nothing was added then.
    #[inline]
    pub(super) fn push(&mut self, field: &[u8], plan: &Plan) -> Result<(), Unfit> {
        if plan.null.like_values && plan.null.contain(value::trim(field)) {
            return self.push_null();
        }
        let fitted = match &mut self.values {
            Values::Float(values) => match value::float(field, plan.decimal, &mut self.scratch) {
                Some(v) if v.is_finite() => add(values, v),
                Some(v) if v.is_nan() => return self.push_null(),
                Some(_) => Err(INFINITE),
                None => Err(Unfit::bad("is not a number")),
            },
            Values::Int(values) => match value::int(field, plan.decimal) {
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
                None => return self.push_text(field, plan),
            },
            Values::Text { .. } => return self.push_text(field, plan),
        };
        match fitted {
            Err(_) if plan.null.contain(value::trim(field)) => self.push_null(),
            fitted => fitted,
        }
    }

    /// Adds a count; the column must be one of whole numbers.
    pub(super) fn push_count(&mut self, count: u64) {
        if let Values::Int(values) = &mut self.values {
            values.push(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn push_text(&mut self, field: &[u8], plan: &Plan) -> Result<(), Unfit> {
        if plan.null.contain(field) {
            return self.push_null();
        }
        let text = std::str::from_utf8(field).map_err(|_| NOT_UTF8)?;
        if plan.is_transcoded() && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(NOT_UTF8);
        }
        match &mut self.values {
            Values::Key(numbers, texts) => numbers.push(texts.insert(text)),
            Values::Text { bytes, ends } => {
                bytes.extend_from_slice(field);
                ends.push(end(bytes));
            }
            _ => {}
        }
        Ok(())
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
        }
    }

    /// Takes back all but the first `n_rows` values.
    pub(super) fn truncate(&mut self, n_rows: usize) {
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
        }
    }

    /// All values as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
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
