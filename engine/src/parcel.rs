//! What timely carries: Arrow batches and what belongs to them, never rows.
//!
//! Edges inside a worker carry [`Parcel`]s. The one edge that crosses workers, from a source's decoder to its
//! ordering step, carries [`Batch`]es, which can also be written as Arrow IPC for another process.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema as ArrowSchema, UInt32Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::batch::Batch;
use crate::watermarks::Watermarks;

/// What one step hands to the next.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    /// New rows, sorted.
    Rows(Batch),
    /// Rows that correct earlier ones: late at the source.
    Late(Batch),
    /// Rows that were corrected upstream.
    Revised(Batch),
    /// Event-time progress.
    Watermarks(Watermarks),
    /// Up to where nothing is corrected any more.
    Horizon(Watermarks),
    /// Rows of a relation that stood at the start of the run.
    Stood(Batch),
    /// Rows of a relation that are no longer there.
    Went(Batch),
    /// Rows of a relation that were not there before.
    Came(Batch),
}

impl Default for Parcel {
    fn default() -> Self {
        Parcel::Rows(Batch::default())
    }
}

impl Accountable for Parcel {
    fn record_count(&self) -> i64 {
        let rows = match self {
            Parcel::Rows(b) | Parcel::Late(b) | Parcel::Revised(b) => b.len(),
            Parcel::Stood(b) | Parcel::Went(b) | Parcel::Came(b) => b.len(),
            // Never zero: an end without keys must travel too.
            Parcel::Watermarks(w) | Parcel::Horizon(w) => w.key_hash.len() + 1,
        };
        i64::try_from(rows).expect("an epoch has fewer than 2^63 rows")
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::empty(Arc::new(ArrowSchema::empty()))
    }
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        i64::try_from(self.len()).expect("an epoch has fewer than 2^63 rows")
    }
}

/// Names of the engine's own columns beside the stream's.
const OWN: [&str; 4] =
    ["foreline_key_hash", "foreline_position", "foreline_revision", "foreline_deleted"];

impl Batch {
    /// The rows with the engine's own columns after the stream's, as one record batch.
    fn to_flat(&self) -> RecordBatch {
        let own: [Option<ArrayRef>; 4] = [
            Some(Arc::new(self.key_hash.clone())),
            Some(Arc::new(self.position.clone())),
            self.revision.clone().map(|r| Arc::new(r) as ArrayRef),
            self.deleted.clone().map(|d| Arc::new(d) as ArrayRef),
        ];
        let schema = self.rows.schema();
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let mut columns = self.rows.columns().to_vec();
        for (name, column) in OWN.iter().zip(own) {
            if let Some(column) = column {
                fields.push(Arc::new(Field::new(*name, column.data_type().clone(), true)));
                columns.push(column);
            }
        }
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
            .expect("all columns have the batch's length")
    }

    /// What [`Batch::to_flat`] was made from.
    fn from_flat(flat: &RecordBatch) -> Self {
        let own = |name: &str| flat.column_by_name(name);
        let n_own = OWN.iter().filter(|n| own(n).is_some()).count();
        let theirs: Vec<usize> = (0..flat.num_columns() - n_own).collect();
        let u64s = |name: &str| {
            own(name).expect("every batch has hash and position").as_primitive::<UInt64Type>()
        };
        Batch {
            rows: flat.project(&theirs).expect("the columns are there"),
            key_hash: u64s(OWN[0]).clone(),
            position: u64s(OWN[1]).clone(),
            revision: own(OWN[2]).map(|c| c.as_primitive::<UInt32Type>().clone()),
            deleted: own(OWN[3]).map(|c| c.as_boolean().clone()),
        }
    }

    fn to_ipc(&self) -> Vec<u8> {
        let flat = self.to_flat();
        let mut writer = StreamWriter::try_new(Vec::new(), &flat.schema())
            .expect("memory takes an Arrow schema");
        writer.write(&flat).expect("memory takes a batch");
        let mut bytes = writer.into_inner().expect("memory takes the end mark");
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

impl ContainerBytes for Batch {
    fn from_bytes(bytes: Bytes) -> Self {
        let mut reader = StreamReader::try_new(&bytes[..], None)
            .expect("another worker of the same cluster wrote Arrow IPC");
        let flat = reader.next().expect("one batch follows").expect("the batch is whole");
        Batch::from_flat(&flat)
    }

    fn length_in_bytes(&self) -> usize {
        self.to_ipc().len()
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        writer.write_all(&self.to_ipc()).expect("timely reserved the length it was told");
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array};
    use timely::bytes::arc::BytesMut;

    use super::*;

    fn sample() -> Batch {
        let rows = RecordBatch::try_from_iter([
            ("machine", Arc::new(StringArray::from(vec!["a", "b", "b"])) as ArrayRef),
            ("v", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(1e-300)]))),
        ]);
        let (hash, position) = (vec![1, 2, 2], vec![7, 8, 9]);
        Batch::new(rows.unwrap(), hash.into(), position.into()).unwrap()
    }

    fn through_bytes(batch: &Batch) -> Batch {
        let mut bytes = Vec::new();
        batch.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), batch.length_in_bytes());
        assert_eq!(bytes.len() % 8, 0);
        Batch::from_bytes(BytesMut::from(bytes).freeze())
    }

    #[test]
    fn a_batch_survives_the_way_to_another_process() {
        let batch = sample();
        let back = through_bytes(&batch);
        assert_eq!(back.rows, batch.rows);
        assert_eq!((back.key_hash, back.position), (batch.key_hash, batch.position));
        assert!(back.revision.is_none() && back.deleted.is_none());
    }

    #[test]
    fn revisions_and_deletions_travel_with_their_rows() {
        let mut batch = sample();
        batch.revision = Some(UInt32Array::from(vec![0, 3, 1]));
        batch.deleted = Some(BooleanArray::from(vec![false, true, false]));
        let back = through_bytes(&batch);
        assert_eq!(back.revision, batch.revision);
        assert_eq!(back.deleted, batch.deleted);
    }

    #[test]
    fn an_end_without_keys_is_not_an_empty_parcel() {
        let keys = Arc::new(ArrowSchema::empty());
        let parcel = Parcel::Watermarks(Watermarks::none(keys));
        assert!(parcel.record_count() > 0);
        let none = UInt64Array::from(Vec::<u64>::new());
        assert_eq!(none.len(), 0);
    }
}
