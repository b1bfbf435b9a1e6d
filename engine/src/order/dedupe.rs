//! What a repetition of a row is told by: a hash of its values, remembered for as long as the key's event time asks for.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef};
use hashbrown::HashTable;

/// The rows of a key that a repetition would be compared with.
#[derive(Debug, Default)]
pub(super) struct Seen {
    by_hash: HashTable<u128>,
    pub(super) by_age: VecDeque<(i64, u128)>,
}

impl Seen {
    /// Whether the row is new; remembers it if so.
    pub(super) fn insert(&mut self, time: i64, row: u128) -> bool {
        let bits = |h: &u128| u64::try_from(h & u128::from(u64::MAX)).expect("masked to 64 bits");
        if self.by_hash.find(bits(&row), |h| *h == row).is_some() {
            return false;
        }
        self.by_hash.insert_unique(bits(&row), row, bits);
        self.by_age.push_back((time, row));
        true
    }

    /// Forgets rows with event times before `horizon`, oldest arrivals first.
    pub(super) fn forget(&mut self, horizon: i64) {
        let bits = |h: u128| u64::try_from(h & u128::from(u64::MAX)).expect("masked to 64 bits");
        while let Some(&(time, row)) = self.by_age.front() {
            if time >= horizon {
                break;
            }
            if let Ok(entry) = self.by_hash.find_entry(bits(row), |h| *h == row) {
                entry.remove();
            }
            self.by_age.pop_front();
        }
    }
}

/// Appends a value, with a mark of null and its length, so that different rows give different bytes.
pub(super) fn push_value(bytes: &mut Vec<u8>, column: &ArrayRef, row: usize) {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
    if column.is_null(row) {
        bytes.push(0);
        return;
    }
    bytes.push(1);
    let mut text = |t: &str| {
        bytes.extend_from_slice(&(t.len() as u64).to_le_bytes());
        bytes.extend_from_slice(t.as_bytes());
    };
    match column.data_type() {
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let code = usize::try_from(dictionary.keys().value(row)).unwrap_or(0);
            text(dictionary.values().as_string::<i32>().value(code));
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        DataType::Int64 => {
            bytes.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        DataType::Timestamp(_, _) => {
            let value = column.as_primitive::<TimestampNanosecondType>().value(row);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Boolean => bytes.push(u8::from(column.as_boolean().value(row))),
        _ => text(&arrow::util::display::array_value_to_string(column, row).unwrap_or_default()),
    }
}
