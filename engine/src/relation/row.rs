//! Rows of a relation as bytes.
//!
//! The encoding is Arrow's row format: bytes compare like the values, column by column, so differential may sort them
//! without knowing a type. It has a property that views are built on: the row of some columns and then others is the one's
//! bytes followed by the other's.

use std::fmt;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};

/// One row, encoded.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Row(Vec<u8>);

impl Row {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Row(bytes.to_vec())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The row of this one's columns and then those of `more`.
    pub(crate) fn followed_by(&self, more: &Row) -> Row {
        Row([&self.0[..], &more.0[..]].concat())
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.0.len())
    }
}

/// Encodes and decodes rows of some columns.
#[derive(Debug)]
pub(crate) struct Codec {
    schema: SchemaRef,
    converter: RowConverter,
}

impl Codec {
    /// For rows of `schema`, whose text is not dictionary-encoded.
    pub(crate) fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        Ok(Codec { schema, converter })
    }

    /// For some of the columns of `schema`.
    pub(crate) fn of(schema: &SchemaRef, columns: &[usize]) -> Result<Self, ArrowError> {
        Codec::new(schema.project(columns)?.into())
    }

    /// The rows of `columns`, whose types are those of the schema but for dictionaries.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Vec<Row>, ArrowError> {
        if columns.is_empty() {
            return Err(ArrowError::InvalidArgumentError("a row has a column".to_owned()));
        }
        let fields = self.schema.fields();
        let plain = |(column, field): (&ArrayRef, &arrow::datatypes::FieldRef)| {
            if column.data_type() == field.data_type() {
                Ok(column.clone())
            } else {
                cast(column, field.data_type())
            }
        };
        let columns: Vec<ArrayRef> =
            columns.iter().zip(fields).map(plain).collect::<Result<_, _>>()?;
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| Row(row.as_ref().to_vec())).collect())
    }

    /// The columns of `rows`.
    pub(crate) fn decode<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<RecordBatch, ArrowError> {
        let parser = self.converter.parser();
        let mut n_rows = 0;
        let parsed = rows.into_iter().map(|row| {
            n_rows += 1;
            parser.parse(&row.0)
        });
        let columns = self.converter.convert_rows(parsed)?;
        let fields = self.schema.fields();
        // Nested types come back with fields of the converter's own making.
        let typed = columns.into_iter().zip(fields).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column)
            } else {
                cast(&column, field.data_type())
            }
        });
        let columns = typed.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, t): &(&str, DataType)| Field::new(*name, t.clone(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn rows_come_back_and_can_be_put_together(
            texts in prop::collection::vec(prop::option::of("\\PC{0,40}"), 1..20),
            seed in any::<u64>(),
        ) {
            let n = texts.len() as u64;
            let bits = (0..n).map(|i| f64::from_bits(seed.rotate_left(i as u32)));
            let numbers: Float64Array = bits.map(|x| (!x.is_nan()).then_some(x)).collect();
            let left = schema(&[("text", DataType::Utf8)]);
            let right = schema(&[("number", DataType::Float64)]);
            let both = schema(&[("text", DataType::Utf8), ("number", DataType::Float64)]);
            let columns: [ArrayRef; 2] = [Arc::new(StringArray::from(texts)), Arc::new(numbers)];
            let all = Codec::new(both).unwrap();
            let whole = all.encode(&columns).unwrap();
            let one = Codec::new(left).unwrap().encode(&columns[..1]).unwrap();
            let other = Codec::new(right).unwrap().encode(&columns[1..]).unwrap();
            let joined: Vec<Row> = one.iter().zip(&other).map(|(l, r)| l.followed_by(r)).collect();
            prop_assert_eq!(&joined, &whole);
            let back = all.decode(&whole).unwrap();
            prop_assert_eq!(back.columns(), &columns[..]);
        }
    }
}
