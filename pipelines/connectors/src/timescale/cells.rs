//! The values of a batch, one at a time, as binary COPY has them.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Float32Array, Float64Array,
    Int64Array, ListArray, PrimitiveArray, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType};
use foreline_engine::{Batch, TimeDomain};

use super::table::{Origin, Table};

/// Microseconds from 1970 to 2000, where PostgreSQL's time begins.
const PG_EPOCH_MICROS: i64 = 946_684_800 * 1_000_000;
/// The bytes of a length, which go before each value.
const LENGTH: usize = 4;

/// The types `real` and `double precision`, by number, which an array names.
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
/// Most bytes of an array besides its items.
const ARRAY_HEAD: usize = 6 * LENGTH;

/// The values of a column.
pub(super) enum Cells<'a> {
    Text(&'a StringArray),
    Coded(&'a PrimitiveArray<Int32Type>, &'a StringArray),
    Double(&'a Float64Array),
    BigInt(&'a Int64Array),
    Unsigned(&'a UInt64Array),
    Boolean(&'a BooleanArray),
    Time(&'a TimestampNanosecondArray),
    Bytes(&'a BinaryArray),
    Reals(&'a ListArray, &'a Float32Array),
    Doubles(&'a ListArray, &'a Float64Array),
    Same(i64),
    Row,
}

/// The event times of a batch, in the unit of the table.
pub(super) struct Times<'a> {
    times: Option<&'a [i64]>,
    domain: TimeDomain,
}

impl<'a> Times<'a> {
    pub(super) fn of(batch: &'a Batch, table: &Table) -> Self {
        let column = batch.rows.column(table.time.0);
        let times = match table.domain {
            TimeDomain::UtcNanos => {
                column.as_primitive_opt::<TimestampNanosecondType>().map(|t| &t.values()[..])
            }
            TimeDomain::Logical => {
                column.as_primitive_opt().map(|t: &PrimitiveArray<Int64Type>| &t.values()[..])
            }
        };
        Times { times, domain: table.domain }
    }

    pub(super) fn at(&self, row: usize) -> i64 {
        let time = self.times.map_or(0, |t| t[row]);
        if self.domain == TimeDomain::UtcNanos { time.div_euclid(1000) } else { time }
    }
}

/// The values of one column.
///
/// # Errors
/// When the batch is not of the table's stream.
pub(super) fn cells<'a>(
    batch: &'a Batch,
    origin: Origin,
    generation: i64,
    epoch: u64,
) -> Result<Cells<'a>, String> {
    let index = match origin {
        Origin::Stream(index) => index,
        Origin::Position => return Ok(Cells::Unsigned(&batch.position)),
        Origin::Generation => return Ok(Cells::Same(generation)),
        Origin::Epoch => {
            return i64::try_from(epoch)
                .map(Cells::Same)
                .map_err(|_| "no epoch is so great".into());
        }
        Origin::Row => return Ok(Cells::Row),
    };
    let column = batch.rows.column(index);
    let strange = || format!("column {index} is {}, which it was not to be", column.data_type());
    Ok(match column.data_type() {
        DataType::Utf8 => Cells::Text(column.as_string()),
        DataType::Dictionary(..) => {
            let coded = column.as_dictionary_opt::<Int32Type>().ok_or_else(strange)?;
            Cells::Coded(coded.keys(), coded.values().as_string_opt().ok_or_else(strange)?)
        }
        DataType::Float64 => Cells::Double(column.as_primitive()),
        DataType::Int64 => Cells::BigInt(column.as_primitive()),
        DataType::UInt64 => Cells::Unsigned(column.as_primitive()),
        DataType::Boolean => Cells::Boolean(column.as_boolean()),
        DataType::Timestamp(..) => Cells::Time(column.as_primitive_opt().ok_or_else(strange)?),
        DataType::Binary => Cells::Bytes(column.as_binary()),
        DataType::List(item) => {
            let lists = column.as_list::<i32>();
            match item.data_type() {
                DataType::Float32 => Cells::Reals(lists, lists.values().as_primitive()),
                DataType::Float64 => Cells::Doubles(lists, lists.values().as_primitive()),
                _ => return Err(strange()),
            }
        }
        _ => return Err(strange()),
    })
}

/// Adds a value with its length before it; whether it is not null.
pub(super) fn put(
    into: &mut Vec<u8>,
    cells: &Cells<'_>,
    row: usize,
    place: i64,
    replaced: &mut bool,
) -> Result<bool, String> {
    let null = match cells {
        Cells::Text(a) => a.is_null(row),
        Cells::Coded(codes, values) => {
            codes.is_null(row) || values.is_null(usize::try_from(codes.value(row)).unwrap_or(0))
        }
        Cells::Double(a) => a.is_null(row),
        Cells::BigInt(a) => a.is_null(row),
        Cells::Unsigned(a) => a.is_null(row),
        Cells::Boolean(a) => a.is_null(row),
        Cells::Time(a) => a.is_null(row),
        Cells::Bytes(a) => a.is_null(row),
        Cells::Reals(lists, _) | Cells::Doubles(lists, _) => lists.is_null(row),
        Cells::Same(_) | Cells::Row => false,
    };
    if null {
        into.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(false);
    }
    match cells {
        Cells::Text(a) => put_text(into, a.value(row), replaced),
        Cells::Coded(codes, values) => {
            let code = usize::try_from(codes.value(row)).map_err(|_| "a code is below zero")?;
            put_text(into, values.value(code), replaced);
        }
        Cells::Double(a) => put_value(into, &a.value(row).to_be_bytes()),
        Cells::BigInt(a) => put_value(into, &a.value(row).to_be_bytes()),
        // The position in a partition above 2^23 comes out below zero, and tells rows apart all the same.
        Cells::Unsigned(a) => put_value(into, &a.value(row).to_be_bytes()),
        Cells::Boolean(a) => put_value(into, &[u8::from(a.value(row))]),
        Cells::Time(a) => {
            let micros = a.value(row).div_euclid(1000) - PG_EPOCH_MICROS;
            put_value(into, &micros.to_be_bytes());
        }
        Cells::Bytes(a) => put_value(into, a.value(row)),
        Cells::Reals(lists, items) => {
            put_array(into, FLOAT4, lists, *items, row, f32::to_be_bytes)?;
        }
        Cells::Doubles(lists, items) => {
            put_array(into, FLOAT8, lists, *items, row, f64::to_be_bytes)?;
        }
        Cells::Same(value) => put_value(into, &value.to_be_bytes()),
        Cells::Row => put_value(into, &place.to_be_bytes()),
    }
    Ok(true)
}

/// Adds an array of one dimension, or of none where it has no items: length; dimensions, whether there are nulls, the
/// items' type; of each dimension the length and the first index; each item as a value.
fn put_array<T: ArrowPrimitiveType, const N: usize>(
    into: &mut Vec<u8>,
    item_type: u32,
    lists: &ListArray,
    items: &PrimitiveArray<T>,
    row: usize,
    bytes: impl Fn(T::Native) -> [u8; N],
) -> Result<(), String> {
    let at = |i: usize| usize::try_from(lists.value_offsets()[i]).unwrap_or_default();
    let (start, end) = (at(row), at(row + 1));
    let has_nulls = items.null_count() > 0 && (start..end).any(|i| items.is_null(i));
    let n_items = i32::try_from(end - start).map_err(|_| "an array has 2^31 items")?;
    let length_at = into.len();
    let head = [0, i32::from(n_items > 0), i32::from(has_nulls)];
    into.reserve((end - start) * (LENGTH + N) + ARRAY_HEAD);
    into.extend(head.iter().flat_map(|word| word.to_be_bytes()));
    into.extend_from_slice(&item_type.to_be_bytes());
    if n_items > 0 {
        into.extend([n_items, 1].iter().flat_map(|word| word.to_be_bytes()));
    }
    for i in start..end {
        if items.is_null(i) {
            into.extend_from_slice(&(-1_i32).to_be_bytes());
        } else {
            put_value(into, &bytes(items.value(i)));
        }
    }
    let length = into.len() - length_at - LENGTH;
    let length = i32::try_from(length).map_err(|_| "an array has more than 2 GiB")?;
    into[length_at..length_at + LENGTH].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_text(into: &mut Vec<u8>, text: &str, replaced: &mut bool) {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        *replaced = true;
        put_value(into, text.replace('\0', "\u{fffd}").as_bytes());
    } else {
        put_value(into, text.as_bytes());
    }
}

pub(super) fn put_value(into: &mut Vec<u8>, value: &[u8]) {
    // A value comes from a record, which sources limit to far less than the 1 GiB that a field may have.
    let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
    into.reserve(LENGTH + value.len());
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(value);
}
