//! From the rows of a stream to what a model is fitted on or judged by.
//!
//! What a reader would get wrong: the features come from the same steps that run live, through the same dataflow;
//! nothing here computes one. Remaining life is counted in hours, or in steps of a logical clock.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, AsArray as _, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use foreline_engine::{Batch, Schema, TimeDomain};

pub mod samples;
pub mod split;

/// Nanoseconds of an hour.
const HOUR_NS: f64 = 3.6e12;

/// A length of event time as users count remaining life: hours, or steps of a logical clock.
#[must_use]
pub fn life(extent: i64, domain: TimeDomain) -> f64 {
    match domain {
        TimeDomain::UtcNanos => extent as f64 / HOUR_NS,
        TimeDomain::Logical => extent as f64,
    }
}

/// The unit of [`life`].
#[must_use]
pub fn life_unit(domain: TimeDomain) -> &'static str {
    match domain {
        TimeDomain::UtcNanos => "h",
        TimeDomain::Logical => "{cycles}",
    }
}

/// A numeric column as `f64`, null as NaN.
///
/// # Errors
/// When there is no such column, or it is not numeric.
pub fn numbers(batch: &Batch, schema: &Schema, name: &str) -> Result<Vec<f64>> {
    let index = schema.index_of(name).with_context(|| format!("there is no column '{name}'"))?;
    let column = cast(batch.rows.column(index), &DataType::Float64)
        .with_context(|| format!("column '{name}' is not numeric"))?;
    let column: &Float64Array = column.as_primitive::<Float64Type>();
    Ok(column.iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

/// A column that names classes: the index of every row's class, null as NaN, and the classes in rising order (whole
/// numbers by value, text by its bytes).
///
/// # Errors
/// When there is no such column, or it is neither text nor whole numbers nor booleans.
pub fn classes(batch: &Batch, schema: &Schema, name: &str) -> Result<(Vec<f64>, Vec<String>)> {
    let index = schema.index_of(name).with_context(|| format!("there is no column '{name}'"))?;
    let column = batch.rows.column(index);
    if column.data_type() == &DataType::Int64 {
        let values = column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        return Ok(indexed(&values, i64::to_string));
    }
    let text = cast(column, &DataType::Utf8)
        .with_context(|| format!("column '{name}' does not name classes"))?;
    let values: Vec<Option<&str>> = text.as_string::<i32>().iter().collect();
    Ok(indexed(&values, |text| (*text).to_owned()))
}

/// The place of every value among the distinct ones, and the names of these.
fn indexed<T: Ord + Copy>(
    values: &[Option<T>],
    name: impl Fn(&T) -> String,
) -> (Vec<f64>, Vec<String>) {
    let distinct: Vec<T> =
        values.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let place = |value: &T| distinct.partition_point(|known| known < value) as f64;
    let indices = values.iter().map(|value| value.as_ref().map_or(f64::NAN, place)).collect();
    (indices, distinct.iter().map(name).collect())
}

/// One life of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Event time of its first row.
    pub start: i64,
    /// Event time of its last row, at which it ended; `None` where it goes on beyond the data.
    pub end: Option<i64>,
}

/// Which life each row belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lives {
    /// For each row, the place of its life in `lives`.
    pub of_row: Vec<u32>,
    /// In the order of their rows.
    pub lives: Vec<Life>,
}

impl Lives {
    /// Cuts every key's rows behind those in which `ends` is true; without it, a key has one life, which ends with its
    /// last row. The batch is sorted by key and time.
    #[must_use]
    pub fn of(batch: &Batch, schema: &Schema, ends: Option<&BooleanArray>) -> Self {
        let times = batch.times(schema);
        let mut found = Lives::default();
        for group in batch.groups() {
            let mut start = group.start;
            for row in group.start..group.end {
                let last = row + 1 == group.end;
                let ended = ends.map_or(last, |ends| ends.is_valid(row) && ends.value(row));
                if ended || last {
                    let number = u32::try_from(found.lives.len()).unwrap_or(u32::MAX);
                    let end = ended.then_some(times[row]);
                    found.lives.push(Life { start: times[start], end });
                    found.of_row.extend(std::iter::repeat_n(number, row + 1 - start));
                    start = row + 1;
                }
            }
        }
        found
    }

    /// How much life each row has left, at most `cap`; NaN where nobody knows.
    #[must_use]
    pub fn remaining(&self, batch: &Batch, schema: &Schema, cap: Option<f64>) -> Vec<f64> {
        let left = |(&life_of, &time): (&u32, &i64)| match self.lives[life_of as usize].end {
            None => f64::NAN,
            Some(end) => {
                let left = life(end - time, schema.domain());
                cap.map_or(left, |cap| left.min(cap))
            }
        };
        self.of_row.iter().zip(batch.times(schema)).map(left).collect()
    }
}

/// The columns `names` of every row, row by row, null as NaN.
///
/// # Errors
/// When a column is missing or not numeric.
pub fn matrix(batch: &Batch, schema: &Schema, names: &[String]) -> Result<Vec<f64>> {
    let columns = names.iter().map(|n| numbers(batch, schema, n)).collect::<Result<Vec<_>>>()?;
    Ok((0..batch.len()).flat_map(|row| columns.iter().map(move |c| c[row])).collect())
}

/// The key of each group as a person reads it: its columns joined by `,`.
#[must_use]
pub fn key_names(batch: &Batch, schema: &Schema) -> Vec<String> {
    let text = |row: usize| {
        let parts = schema.key().iter().map(|&k| {
            arrow::util::display::array_value_to_string(batch.rows.column(k), row)
                .unwrap_or_default()
        });
        parts.collect::<Vec<_>>().join(",")
    };
    batch.groups().map(|g| text(g.start)).collect()
}

/// How much life each machine had left at its last row, by key.
pub type Truth = BTreeMap<String, f64>;

/// Truth as one number a line, line `i` belonging to key `i` (the C-MAPSS way).
///
/// # Errors
/// When a line is not a number.
pub fn truth_by_line(text: &str) -> Result<Truth> {
    let mut truth = Truth::new();
    for (line, value) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let value: f64 = value
            .trim()
            .parse()
            .with_context(|| format!("line {}: '{}' is not a number", line + 1, value.trim()))?;
        truth.insert((line + 1).to_string(), value);
    }
    Ok(truth)
}

/// Truth as a comma-separated table with a header: the columns called `key` and `remaining`.
///
/// # Errors
/// When a column is missing, or a value is not a number.
pub fn truth_from_table(text: &str, key: &str, remaining: &str) -> Result<Truth> {
    let mut lines = text.lines().enumerate();
    let (_, header) = lines.next().context("the table of truth is empty")?;
    let fields: Vec<&str> = header.split(',').map(str::trim).collect();
    let place = |name: &str| {
        fields.iter().position(|f| *f == name).with_context(|| {
            format!("the table of truth has no column '{name}'; it has {}", fields.join(", "))
        })
    };
    let (key, remaining) = (place(key)?, place(remaining)?);
    let mut truth = Truth::new();
    for (line, text) in lines.filter(|(_, l)| !l.trim().is_empty()) {
        let values: Vec<&str> = text.split(',').map(str::trim).collect();
        let (Some(k), Some(r)) = (values.get(key), values.get(remaining)) else {
            bail!("line {}: it has {} fields, not {}", line + 1, values.len(), fields.len());
        };
        let left: f64 =
            r.parse().with_context(|| format!("line {}: '{r}' is not a number", line + 1))?;
        truth.insert((*k).to_owned(), left);
    }
    Ok(truth)
}

/// A prediction and what was true.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Judged {
    /// The key.
    pub key: String,
    /// Life left in truth.
    pub truth: f64,
    /// Life left as predicted; `None` where the model gave no answer.
    pub predicted: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_indexed_in_rising_order() {
        let words = [Some("worn"), None, Some("good"), Some("worn")];
        let (indices, names) = indexed(&words, |word| (*word).to_owned());
        assert_eq!(names, ["good", "worn"]);
        assert_eq!((indices[0], indices[2], indices[3]), (1.0, 0.0, 1.0));
        assert!(indices[1].is_nan());
        assert_eq!(indexed(&[Some(10), Some(9)], i64::to_string).1, ["9", "10"]);
    }
    use foreline_engine::{Column, hash_keys};
    use std::sync::Arc;

    fn stream() -> (Schema, Batch) {
        let columns = vec![
            Column::new("unit", DataType::Int64),
            Column::new("cycle", DataType::Int64),
            Column::new("rul", DataType::Float64),
        ];
        let schema = Schema::new(columns, &["unit"], "cycle").unwrap();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(arrow::array::Int64Array::from(vec![1, 1, 1, 2, 2])),
            Arc::new(arrow::array::Int64Array::from(vec![1, 2, 4, 7, 8])),
            Arc::new(Float64Array::from(vec![Some(5.0), None, Some(1.5), Some(9.0), Some(8.0)])),
        ];
        let rows = arrow::array::RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
        let hash = hash_keys(&rows, schema.key());
        let positions = vec![1, 2, 3, 4, 5];
        (schema.clone(), Batch::new(rows, hash, positions.into()).unwrap())
    }

    #[test]
    fn remaining_life_counts_down_to_the_last_row_and_is_capped() {
        let (schema, batch) = stream();
        let lives = Lives::of(&batch, &schema, None);
        assert_eq!(lives.remaining(&batch, &schema, None), [3.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!(lives.remaining(&batch, &schema, Some(2.5)), [2.5, 2.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_key_may_have_several_lives_and_one_that_goes_on() {
        let (schema, batch) = stream();
        let ends = BooleanArray::from(vec![Some(false), Some(true), None, Some(true), Some(true)]);
        let lives = Lives::of(&batch, &schema, Some(&ends));
        assert_eq!(lives.of_row, [0, 0, 1, 2, 3]);
        assert_eq!(lives.lives[1], Life { start: 4, end: None });
        let left = lives.remaining(&batch, &schema, None);
        assert!(left[2].is_nan());
        assert_eq!((left[0], left[1], left[3], left[4]), (1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn a_table_of_truth_says_what_it_lacks() {
        let text = "machine,remaining_hours\nP-1, 2.5\n";
        let truth = truth_from_table(text, "machine", "remaining_hours").unwrap();
        assert_eq!(truth["P-1"], 2.5);
        let error = truth_from_table(text, "machine", "left").unwrap_err().to_string();
        assert!(error.contains("'left'") && error.contains("remaining_hours"), "{error}");
        let error = truth_by_line("1\nx\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
