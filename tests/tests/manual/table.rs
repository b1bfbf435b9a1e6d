//! A few rows of what came out, as a table.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use foreline_engine::{Batch, Schema};

/// How many rows are shown.
const ROWS: usize = 5;
/// Columns beyond this would not fit a page.
const COLUMNS: usize = 10;
/// Samples of a waveform that are shown.
const SAMPLES: usize = 3;

/// Rows from the middle of the first key.
pub(super) fn of((schema, batch): &(Schema, Batch)) -> String {
    let n_columns = schema.columns().len().min(COLUMNS);
    let mut text = String::new();
    let named = schema.columns()[..n_columns].iter().map(|c| match &c.unit {
        Some(unit) => format!("{} ({unit})", c.name),
        None => c.name.clone(),
    });
    writeln!(text, "| {} |", named.collect::<Vec<_>>().join(" | ")).unwrap();
    writeln!(text, "|{}", "---|".repeat(n_columns)).unwrap();
    let end = batch.groups().next().map_or(0, |g| g.end);
    let start = (end / 2).min(end.saturating_sub(ROWS));
    for row in start..end.min(start + ROWS) {
        let cells = batch.rows.columns()[..n_columns].iter().map(|column| cell(column, row));
        writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | ")).unwrap();
    }
    text
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Float64 => number(column.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::Timestamp(..) => {
            let shown = display(column, row);
            let time = shown.split('T').nth(1).unwrap_or(&shown);
            let time = time.trim_end_matches('Z');
            match time.split_once('.') {
                Some(_) => time.trim_end_matches('0').trim_end_matches('.').to_owned(),
                None => time.to_owned(),
            }
        }
        _ => display(column, row).replace('|', "\\|"),
    }
}

fn display(column: &ArrayRef, row: usize) -> String {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap();
    formatter.value(row).to_string()
}

fn list(values: &ArrayRef) -> String {
    let value = |i: usize| match values.data_type() {
        DataType::Float32 => number(f64::from(values.as_primitive::<Float32Type>().value(i))),
        _ => cell(values, i),
    };
    let shown: Vec<String> = (0..values.len().min(SAMPLES)).map(value).collect();
    format!("{} … ({} values)", shown.join(", "), values.len())
}

/// Four digits, and no more zeros than it has.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (3.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to 9"
    )]
    let shown = format!("{value:.*}", digits as usize);
    match shown.split_once('.') {
        Some(_) => shown.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => shown,
    }
}
