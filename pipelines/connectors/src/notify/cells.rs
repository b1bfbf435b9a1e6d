//! Values of a row as JSON and as text for people.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

/// What stands for a value that is not there, in texts.
const NOTHING: &str = "-";

/// The value as JSON: a timestamp as RFC 3339, a waveform as a list, what is no number as null.
pub(super) fn json(values: &ArrayRef, row: usize) -> Value {
    if values.is_null(row) {
        return Value::Null;
    }
    match values.data_type() {
        DataType::Boolean => values.as_boolean().value(row).into(),
        DataType::Utf8 => values.as_string::<i32>().value(row).into(),
        DataType::Int32 => values.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => values.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt32 => values.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => values.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => values.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => values.as_primitive::<Float64Type>().value(row).into(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            stamp(values.as_primitive::<TimestampNanosecondType>().value(row)).into()
        }
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            let encoded = values.as_dictionary::<Int32Type>();
            match encoded.key(row) {
                Some(at) => json(encoded.values(), at),
                None => Value::Null,
            }
        }
        DataType::List(_) => {
            let list = values.as_list::<i32>().value(row);
            (0..list.len()).map(|i| json(&list, i)).collect()
        }
        _ => array_value_to_string(values, row).map_or(Value::Null, Value::from),
    }
}

/// The value for people; a list is said by its length.
pub(super) fn text(values: &ArrayRef, row: usize) -> String {
    match json(values, row) {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text,
        Value::Array(list) => format!("({} values)", list.len()),
        other => other.to_string(),
    }
}

/// The value where it is a whole number.
pub(super) fn whole(values: &ArrayRef, row: usize) -> Option<i64> {
    json(values, row).as_i64()
}

/// Whether the value is true.
pub(super) fn is_true(values: &ArrayRef, row: usize) -> bool {
    json(values, row) == Value::Bool(true)
}

fn stamp(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
