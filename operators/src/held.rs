//! Whole rows that wait in the state of a step, and rows that go out, some of which waited.
//!
//! A row that comes and goes in one epoch is not copied into the state: it is *fresh*, a place in the epoch's batch.
//! What still waits at the end of the epoch is *kept* as bytes in Arrow's row format, which gives every value back bit
//! by bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use foreline_engine::{Batch, Column, Fault, Reason, Schema};
use serde::{Deserialize, Serialize};

use crate::emitted::sorted;

/// A row came when its key held as many waiting rows as it may.
pub(crate) const WAITING_FULL: Reason = Reason("waiting_full");

/// The values of a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Body {
    /// A row of a batch of this epoch. It is kept before the epoch ends.
    Fresh(u32),
    /// The row as bytes.
    Kept(Vec<u8>),
}

/// A row that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) at: i64,
    pub(crate) position: u64,
    pub(crate) body: Body,
}

/// Turns rows into bytes and back.
#[derive(Debug)]
pub(crate) struct Codec {
    converter: RowConverter,
    types: Vec<DataType>,
}

impl Codec {
    /// For rows of these columns.
    pub(crate) fn new(columns: &[Column]) -> Result<Self, Fault> {
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type.clone()).collect();
        let fields = types.iter().map(|t| SortField::new(plain(t)));
        Ok(Codec { converter: RowConverter::new(fields.collect())?, types })
    }

    /// Keeps the rows that are still fresh.
    pub(crate) fn keep<'a>(
        &self,
        columns: &[ArrayRef],
        bodies: impl Iterator<Item = &'a mut Body>,
    ) -> Result<(), Fault> {
        let fresh = |body: &'a mut Body| match body {
            Body::Fresh(row) => Some((*row, body)),
            Body::Kept(_) => None,
        };
        let (rows, bodies): (Vec<u32>, Vec<&mut Body>) = bodies.filter_map(fresh).unzip();
        if rows.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        let columns = columns.iter().zip(&self.types).map(|(column, data_type)| {
            let column = take(column, &rows, None)?;
            Ok(cast(&column, &plain(data_type))?)
        });
        let encoded =
            self.converter.convert_columns(&columns.collect::<Result<Vec<_>, Fault>>()?)?;
        for (body, row) in bodies.into_iter().zip(encoded.iter()) {
            *body = Body::Kept(row.as_ref().to_vec());
        }
        Ok(())
    }

    /// The columns of rows, each kept or in one of the `batches` of this epoch; `None` is a row of nulls.
    pub(crate) fn columns(
        &self,
        batches: &[&[ArrayRef]],
        rows: &[Option<(usize, &Body)>],
    ) -> Result<Vec<ArrayRef>, Fault> {
        let parser = self.converter.parser();
        let kept = rows.iter().flatten().filter_map(|(_, body)| match body {
            Body::Kept(bytes) => Some(parser.parse(bytes)),
            Body::Fresh(_) => None,
        });
        let kept = self.converter.convert_rows(kept)?;
        // The places of a row: none, kept, then one part for each batch.
        let mut n_kept = 0;
        let places: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| match row {
                None => (0, 0),
                Some((_, Body::Kept(_))) => {
                    n_kept += 1;
                    (1, n_kept - 1)
                }
                Some((batch, Body::Fresh(row))) => (2 + batch, *row as usize),
            })
            .collect();
        let columns = self.types.iter().zip(kept).enumerate().map(|(c, (data_type, kept))| {
            let (null, kept) = (new_null_array(data_type, 1), cast(&kept, data_type)?);
            let fresh = batches.iter().map(|b| b[c].as_ref());
            let parts: Vec<_> = [null.as_ref(), kept.as_ref()].into_iter().chain(fresh).collect();
            Ok(interleave(&parts, &places)?)
        });
        columns.collect()
    }
}

/// The type without a dictionary: its words would be those of one batch.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// What the rows that go out have beside their columns.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    hashes: Vec<u64>,
    positions: Vec<u64>,
}

impl Marks {
    pub(crate) fn push(&mut self, hash: u64, position: u64) {
        self.hashes.push(hash);
        self.positions.push(position);
    }

    /// A batch of `schema` of the rows with these columns, by key hash; rows of one key stay in the order they are in.
    pub(crate) fn batch(self, schema: &Schema, columns: Vec<ArrayRef>) -> Result<Batch, Fault> {
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
        sorted(rows, self.hashes, self.positions)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, ListArray};
    use arrow::datatypes::{Float32Type, Float64Type};
    use foreline_engine::TimeDomain::UtcNanos;

    use super::*;
    use crate::testing::Table;

    #[test]
    fn what_was_kept_is_what_comes_back() {
        let text =
            "m,t,x,n:int64,s:string,ok:bool\na,5,-0.0,3,u,true\nb,-6,,,,\nc,7,1e-300,-9,,false\n";
        let table = Table::parse(UtcNanos, text);
        let mut columns = table.schema.columns().to_vec();
        let waves = [Some(vec![Some(1.5_f32), Some(-0.0)]), None, Some(vec![])];
        let waves = ListArray::from_iter_primitive::<Float32Type, _, _>(waves);
        columns.push(Column::new("wave", waves.data_type().clone()));
        let mut arrays = table.rows.columns().to_vec();
        arrays.push(Arc::new(waves));
        let codec = Codec::new(&columns).unwrap();
        let mut bodies = [Body::Fresh(2), Body::Fresh(0), Body::Fresh(1)];
        codec.keep(&arrays, bodies.iter_mut()).unwrap();
        assert!(bodies.iter().all(|b| matches!(b, Body::Kept(_))));
        let fresh = Body::Fresh(0);
        let rows = [Some((0, &bodies[1])), None, Some((0, &bodies[2])), Some((0, &fresh))];
        let back = codec.columns(&[&arrays], &rows).unwrap();
        let want = UInt32Array::from(vec![Some(0), None, Some(1), Some(0)]);
        for (back, given) in back.iter().zip(&arrays) {
            assert_eq!(back.data_type(), given.data_type());
            let want = take(given, &want, None).unwrap();
            let plain = plain(given.data_type());
            assert_eq!(&cast(back, &plain).unwrap(), &cast(&want, &plain).unwrap());
        }
        assert!(back[2].as_primitive::<Float64Type>().value(0).is_sign_negative());
    }
}
