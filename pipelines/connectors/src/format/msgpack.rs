//! MessagePack payloads: a map, or an array of maps.
//!
//! Maps have text as keys. Whole numbers stay whole, a timestamp (extension -1) is an instant, a `bin` is taken for text
//! where a column of text is declared. A waveform is an array of numbers, or a `bin` of little-endian 32-bit floats.

use std::sync::Arc;

use foreline_engine::ConfigError;
use rmpv::ValueRef;
use rmpv::decode::read_value_ref_with_max_depth;

use super::fields::{DEPTH_MAX, Node};
use super::json::JsonOptions;
use super::{Layout, Taker, Wanted};
use crate::csv::ExtraFields;
use crate::record::{Burst, Form, List, Packed, Rejected, Samples, Unfit, Value, Writing, narrow};

/// Options of MessagePack payloads: those of JSON.
pub type MsgpackOptions = JsonOptions;

/// The reader counts the length and the bytes of a text as two levels below the value that has it.
const LEVELS_MAX: usize = 2 * DEPTH_MAX + 4;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// The extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// What is wanted of MessagePack payloads.
#[derive(Debug)]
struct Msgpack {
    root: Node,
    extra_fields: ExtraFields,
    n_columns: usize,
}

pub(super) fn plan(
    options: &MsgpackOptions,
    wanted: &[Wanted<'_>],
    mistakes: &mut Vec<ConfigError>,
) -> Option<(Arc<dyn Layout>, Writing)> {
    let root = Node::of("MessagePack", wanted, mistakes);
    let n_columns = wanted.iter().map(|w| w.index + 1).max().unwrap_or(0);
    let msgpack = Msgpack { root, extra_fields: options.extra_fields, n_columns };
    Some((Arc::new(msgpack), options.writing()))
}

impl Layout for Msgpack {
    fn records(&self, payload: &[u8]) -> u64 {
        // A length may claim more than there can be: an item takes a byte at least.
        array(payload).map_or(1, |(n, rest)| n.min(rest.len() as u64))
    }

    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        let (n, mut rest) = array(payload).unwrap_or((1, payload));
        for _ in 0..n {
            let start = rest;
            let value = read_value_ref_with_max_depth(&mut rest, LEVELS_MAX)
                .map_err(|e| not_msgpack(payload.len() - rest.len(), &e))?;
            let original = &start[..start.len() - rest.len()];
            match self.record(&value) {
                Ok(found) => to.record(original, |column| *found.get(column)?),
                Err(problem) => to.reject(original, Rejected::malformed(problem)),
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let at = payload.len() - rest.len();
        Err(Rejected::malformed(format!("not MessagePack at byte {at}: something follows")))
    }
}

impl Msgpack {
    /// The values of one record by column, or why it cannot be used.
    fn record<'v>(&self, record: &'v ValueRef<'v>) -> Result<Vec<Option<Value<'v>>>, String> {
        let mut found = vec![None; self.n_columns];
        if !matches!(record, ValueRef::Map(_)) && self.root.columns.is_empty() {
            return Err("the record is no map".to_owned());
        }
        pick(Some(&self.root), record, self.extra_fields == ExtraFields::Error, &mut found)?;
        Ok(found)
    }
}

/// Notes what `node` wants of `value`. Every map below is looked at, wanted or not, for names that come twice.
fn pick<'v>(
    node: Option<&Node>,
    value: &'v ValueRef<'v>,
    strict: bool,
    found: &mut [Option<Value<'v>>],
) -> Result<(), String> {
    for &column in node.map_or(&[][..], |n| &n.columns) {
        found[column] = Some(plain(value));
    }
    match value {
        ValueRef::Map(members) => {
            let mut hint = 0;
            let mut names = Vec::with_capacity(members.len());
            for (name, value) in members {
                let ValueRef::String(name) = name else {
                    return Err("a member's name is no text".to_owned());
                };
                let name = name.into_str().ok_or("a member's name is not valid UTF-8")?;
                let child = node.and_then(|n| n.member(name, &mut hint));
                if strict && child.is_none() {
                    return Err(format!("no column is read from member '{name:.64}'"));
                }
                names.push(name);
                pick(child, value, false, found)?;
            }
            names.sort_unstable();
            match names.windows(2).find(|pair| pair[0] == pair[1]) {
                Some(pair) => Err(format!("member '{:.64}' is there twice", pair[0])),
                None => Ok(()),
            }
        }
        ValueRef::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| pick(node.and_then(|n| n.item(i)), item, false, found)),
        _ => Ok(()),
    }
}

fn plain<'v>(value: &'v ValueRef<'v>) -> Value<'v> {
    match value {
        ValueRef::Nil => Value::Null,
        ValueRef::Boolean(v) => Value::Bool(*v),
        ValueRef::Integer(v) => match (v.as_i64(), v.as_u64()) {
            (Some(v), _) => Value::Int(v),
            (None, Some(v)) => Value::Unsigned(v),
            (None, None) => Value::Nested(b"(a number)"),
        },
        ValueRef::F32(v) => Value::Float(f64::from(*v)),
        ValueRef::F64(v) => Value::Float(*v),
        ValueRef::String(text) => Value::Bytes(text.as_bytes()),
        ValueRef::Binary(bytes) => Value::Samples(Samples::Packed(Packed::alone(bytes, Form::F32))),
        ValueRef::Array(items) => Value::Samples(Samples::List(items)),
        ValueRef::Map(_) => Value::Nested(b"(a map)"),
        ValueRef::Ext(TIMESTAMP, bytes) => {
            timestamp(bytes).map_or(Value::Nested(b"(a timestamp)"), Value::Time)
        }
        ValueRef::Ext(..) => Value::Nested(b"(an extension)"),
    }
}

impl List for Vec<ValueRef<'_>> {
    #[expect(clippy::cast_precision_loss, reason = "samples have the precision of 32 bits")]
    fn read(&self, to: &mut Burst<'_>) -> Result<(), Unfit> {
        self.iter().try_for_each(|item| {
            to.push(match item {
                ValueRef::F32(v) => Some(*v),
                ValueRef::F64(v) => Some(narrow(*v)),
                ValueRef::Integer(v) => match (v.as_i64(), v.as_u64()) {
                    (Some(v), _) => Some(v as f32),
                    (None, v) => v.map(|v| v as f32),
                },
                _ => None,
            })
        })
    }
}

/// The instant of a timestamp; `None` when it is none, or none that 64 bits of nanoseconds can say.
fn timestamp(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            (i64::try_from(both & ((1 << 34) - 1)).ok()?, i64::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanos, seconds) = bytes.split_first_chunk::<4>()?;
            let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
            (seconds, i64::from(u32::from_be_bytes(*nanos)))
        }
        _ => return None,
    };
    let nanos = (nanos < NANOS_PER_SECOND).then_some(nanos)?;
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos)
}

/// The number of items of an array, and what follows its head; `None` when the payload is no array.
fn array(payload: &[u8]) -> Option<(u64, &[u8])> {
    match payload {
        [head @ 0x90..=0x9f, rest @ ..] => Some((u64::from(head & 0x0f), rest)),
        [0xdc, a, b, rest @ ..] => Some((u64::from(u16::from_be_bytes([*a, *b])), rest)),
        [0xdd, a, b, c, d, rest @ ..] => {
            Some((u64::from(u32::from_be_bytes([*a, *b, *c, *d])), rest))
        }
        _ => None,
    }
}

#[cold]
fn not_msgpack(at: usize, error: &rmpv::decode::Error) -> Rejected {
    use rmpv::decode::Error;
    let what = match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "it ends too early",
        Error::DepthLimitExceeded => "it is nested too deep",
    };
    Rejected::malformed(format!("not MessagePack at byte {at}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_each_length() {
        assert_eq!(timestamp(&[0, 0, 0, 1]), Some(NANOS_PER_SECOND));
        assert_eq!(timestamp(&((5_u64 << 34) | 1).to_be_bytes()), Some(NANOS_PER_SECOND + 5));
        let long = |nanos: u32, seconds: i64| {
            timestamp(&[&nanos.to_be_bytes()[..], &seconds.to_be_bytes()[..]].concat())
        };
        assert_eq!(long(7, -1), Some(7 - NANOS_PER_SECOND));
        assert_eq!(long(1_000_000_000, 0), None);
        assert_eq!(long(0, i64::MAX), None);
        assert_eq!(timestamp(&[]), None);
    }
}
