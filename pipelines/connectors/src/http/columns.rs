//! Arrow IPC streams as objects a line, so that their values obey the rules that all others do.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::Body;
use crate::kind::{ColumnConfig, FieldRef};
use crate::record::SAMPLES_MAX;

/// The declared columns as a body of this kind has them: an Arrow stream has stamps that need no format.
pub(super) fn of(body: Body, columns: &[(String, ColumnConfig)]) -> Vec<(String, ColumnConfig)> {
    let plain = |config: &ColumnConfig| ColumnConfig {
        field: None,
        format: None,
        zone: None,
        ..config.clone()
    };
    match body {
        Body::Arrow => columns.iter().map(|(name, c)| (name.clone(), plain(c))).collect(),
        Body::Json | Body::Ndjson | Body::Csv => columns.to_vec(),
    }
}

/// What a column is called by us, and in an Arrow stream.
pub(super) fn name_in_arrow((name, config): &(String, ColumnConfig)) -> (String, String) {
    match &config.field {
        Some(FieldRef::Name(field)) => (name.clone(), field.clone()),
        Some(FieldRef::Place(_)) | None => (name.clone(), name.clone()),
    }
}

/// Most rows of a stream: a few bytes can stand for any number of nulls.
const ROWS_MAX: usize = 1 << 20;
/// What a stream may become as text; a dictionary repeats its values.
const TEXT_BYTES_MAX: usize = 128 << 20;

/// Shows the value of a row as JSON; nothing where it is null.
type Show<'a> = Box<dyn Fn(usize) -> Option<String> + 'a>;

/// Writes the rows of an Arrow IPC stream; columns that nobody declared are left out.
///
/// # Errors
/// When it is none, a column cannot be shown as text, or it is more than the limits allow.
pub(super) fn to_ndjson(
    body: &[u8],
    columns: &[(String, String)],
    to: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    check_lengths(body)?;
    let mut n_rows = 0;
    for batch in StreamReader::try_new(body, None)? {
        let batch = batch?;
        n_rows += batch.num_rows();
        if n_rows > ROWS_MAX {
            return Err(ArrowError::IpcError(format!("it has more than {ROWS_MAX} rows")));
        }
        let mut prepared = Vec::new();
        for (name, field) in columns {
            if let Some(column) = batch.column_by_name(field) {
                prepared.push((serde_json::Value::from(name.as_str()).to_string(), plain(column)?));
            }
        }
        rows(batch.num_rows(), &prepared, to)?;
    }
    Ok(())
}

/// Whether every message is as long as it says. The reader makes room for what a message says before it looks.
fn check_lengths(mut rest: &[u8]) -> Result<(), ArrowError> {
    let cut_off = || ArrowError::IpcError("a message is longer than the body".to_owned());
    let word = |rest: &mut &[u8]| {
        let (word, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        *rest = after;
        Ok::<u32, ArrowError>(u32::from_le_bytes(*word))
    };
    while !rest.is_empty() {
        let mut n_head = word(&mut rest)?;
        if n_head == u32::MAX {
            n_head = word(&mut rest)?;
        }
        if n_head == 0 {
            break;
        }
        let (head, after) = rest.split_at_checked(n_head as usize).ok_or_else(cut_off)?;
        let message = root_as_message(head).map_err(|e| ArrowError::IpcError(e.to_string()))?;
        let n_body = usize::try_from(message.bodyLength()).map_err(|_| cut_off())?;
        rest = after.split_at_checked(n_body).ok_or_else(cut_off)?.1;
    }
    Ok(())
}

fn rows(n_rows: usize, columns: &[(String, ArrayRef)], to: &mut Vec<u8>) -> Result<(), ArrowError> {
    let format = FormatOptions::default();
    let mut shows = Vec::new();
    for (name, column) in columns {
        shows.push((name, show(column, &format)?));
    }
    for row in 0..n_rows {
        let mut line = String::from("{");
        for (name, show) in &shows {
            if let Some(value) = show(row) {
                let comma = if line.len() > 1 { "," } else { "" };
                // Writing to a text cannot fail.
                write!(line, "{comma}{name}:{value}").ok();
            }
        }
        line.push_str("}\n");
        if to.len() + line.len() > TEXT_BYTES_MAX {
            let message = format!("its values take more than {TEXT_BYTES_MAX} bytes");
            return Err(ArrowError::IpcError(message));
        }
        to.extend_from_slice(line.as_bytes());
    }
    Ok(())
}

/// The column as one of the few types that [`show`] tells apart; stamps in UTC.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Float16 | DataType::Float32 => cast(column, &DataType::Float64),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())))
        }
        DataType::Dictionary(_, values) => cast(column, values).and_then(|c| plain(&c)),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            cast(column, &DataType::List(Arc::clone(item))).and_then(|c| plain(&c))
        }
        DataType::List(item) if item.data_type().is_numeric() => {
            // What 32 bits hold stays so, for samples to be written as short as they are.
            let is_short = matches!(item.data_type(), DataType::Float32 | DataType::Float16);
            let to = if is_short { DataType::Float32 } else { DataType::Float64 };
            cast(column, &DataType::List(Arc::new(Field::new_list_field(to, true))))
        }
        _ => Ok(ArrayRef::clone(column)),
    }
}

fn show<'a>(column: &'a ArrayRef, format: &'a FormatOptions<'a>) -> Result<Show<'a>, ArrowError> {
    if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
        // Infinite values keep their name, so that they become dead letters and not nothing.
        let shown = |x: f64| match x {
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            x => format!("{x:?}"),
        };
        return Ok(Box::new(move |row| floats.is_valid(row).then(|| shown(floats.value(row)))));
    }
    if let Some(lists) = column.as_list_opt::<i32>() {
        let values = lists.values();
        if let Some(values) = values.as_primitive_opt::<Float32Type>() {
            return Ok(show_list(lists, values));
        }
        if let Some(values) = values.as_primitive_opt::<Float64Type>() {
            return Ok(show_list(lists, values));
        }
    }
    let data_type = column.data_type();
    let bare = data_type.is_integer() || *data_type == DataType::Boolean;
    let formatter = ArrayFormatter::try_new(column, format)?;
    Ok(Box::new(move |row| {
        let text = column.is_valid(row).then(|| formatter.value(row).to_string())?;
        Some(if bare { text } else { serde_json::Value::from(text).to_string() })
    }))
}

/// Lists of numbers as arrays; of one that is too long for any column as much as shows that.
fn show_list<'a, T>(lists: &'a ListArray, values: &'a PrimitiveArray<T>) -> Show<'a>
where
    T: ArrowPrimitiveType<Native: fmt::Debug + Into<f64>>,
{
    Box::new(move |row| {
        if lists.is_null(row) {
            return None;
        }
        let at = |i: usize| usize::try_from(lists.value_offsets()[i]).unwrap_or_default();
        let (start, end) = (at(row), at(row + 1));
        let mut text = String::from("[");
        for i in start..end.min(start + SAMPLES_MAX + 1) {
            let value = values.value(i);
            let comma = if i > start { "," } else { "" };
            // Writing to a text cannot fail.
            match value.into() {
                _ if values.is_null(i) => write!(text, "{comma}null").ok(),
                f64::INFINITY => write!(text, "{comma}Infinity").ok(),
                f64::NEG_INFINITY => write!(text, "{comma}-Infinity").ok(),
                _ => write!(text, "{comma}{value:?}").ok(),
            };
        }
        text.push(']');
        Some(text)
    })
}
