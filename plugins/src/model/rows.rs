//! From columns to the matrix a plugin sees, and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::Fault;

/// Rows that are transposed together: their part of the matrix stays in the first-level cache.
const BLOCK_ROWS: usize = 16;

/// The feature columns of a batch. Null and NaN are the same.
#[derive(Debug)]
pub(super) struct FeatureColumns(Vec<Float64Array>);

impl FeatureColumns {
    /// The columns at `indices`, as numbers.
    pub(super) fn new(rows: &RecordBatch, indices: &[usize]) -> Result<Self, Fault> {
        let columns = indices.iter().map(|&index| {
            let column = rows.column(index);
            let column = match column.data_type() {
                DataType::Float64 => Arc::clone(column),
                _ => cast(column, &DataType::Float64)?,
            };
            Ok(column.as_primitive::<Float64Type>().clone())
        });
        Ok(FeatureColumns(columns.collect::<Result<_, Fault>>()?))
    }

    /// Marks the rows in which `feature` is missing.
    pub(super) fn mark_missing(&self, feature: usize, marks: &mut [bool]) {
        let column = &self.0[feature];
        for (mark, value) in marks.iter_mut().zip(column.values()) {
            *mark |= value.is_nan();
        }
        if let Some(nulls) = column.nulls().filter(|n| n.null_count() > 0) {
            for (mark, valid) in marks.iter_mut().zip(nulls) {
                *mark |= !valid;
            }
        }
    }

    /// The rows at `indices` as a row-major matrix.
    pub(super) fn fill(&self, indices: &[u32], matrix: &mut Vec<f64>) {
        let width = self.0.len();
        matrix.clear();
        matrix.resize(indices.len() * width, f64::NAN);
        if width == 0 {
            return;
        }
        let blocks = matrix.chunks_mut(BLOCK_ROWS * width).zip(indices.chunks(BLOCK_ROWS));
        for (block, indices) in blocks {
            for (at, column) in self.0.iter().enumerate() {
                let values = column.values();
                let places = block[at..].iter_mut().step_by(width);
                match column.nulls().filter(|n| n.null_count() > 0) {
                    None => {
                        for (place, &row) in places.zip(indices) {
                            *place = values[row as usize];
                        }
                    }
                    Some(nulls) => {
                        for (place, &row) in places.zip(indices) {
                            if nulls.is_valid(row as usize) {
                                *place = values[row as usize];
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One output of a row-major matrix as a column; NaN is null.
pub(super) fn output_column(matrix: &[f64], output: usize, n_outputs: usize) -> ArrayRef {
    let values = matrix.iter().skip(output).step_by(n_outputs);
    Arc::new(values.map(|&v| (!v.is_nan()).then_some(v)).collect::<Float64Array>())
}

/// The labels of a column of class indices.
pub(super) fn label_column(classes: &ArrayRef, labels: &[String]) -> ArrayRef {
    let classes = classes.as_primitive::<Float64Type>().iter();
    // Class indices were checked when the scores came back.
    let label = |class: Option<f64>| class.and_then(|c| labels.get(c as usize)).map(String::as_str);
    Arc::new(classes.map(label).collect::<StringArray>())
}

/// A text column with one value in every row, kept for the next batch.
#[derive(Debug)]
pub(super) struct Constant {
    value: String,
    column: StringArray,
}

impl Constant {
    pub(super) fn new(value: &str) -> Self {
        Constant { value: value.to_owned(), column: StringArray::from(Vec::<&str>::new()) }
    }

    /// The column of `n_rows`.
    pub(super) fn column(&mut self, n_rows: usize) -> ArrayRef {
        if self.column.len() < n_rows {
            let values = std::iter::repeat_n(&self.value, n_rows);
            self.column = StringArray::from_iter_values(values);
        }
        Arc::new(self.column.slice(0, n_rows))
    }
}
