//! The ordering step's state by shard: what is known of each key, and the rows that wait.
//!
//! One row a key: the key columns, the hash, what is known of the key as postcard bytes, and the waiting rows as a
//! list of structs of all columns but the key's, with the position of each.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StructArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, UInt64Type};
use serde::{Deserialize, Serialize};

use super::{Held, KeyState, Orderer, Place, Seen};
use crate::batch::Batch;
use crate::keyed::{STATE_COLUMN, ShardSet, shard_of};
use crate::operator::Fault;

/// Name of the column with the rows that wait.
const HELD_COLUMN: &str = "foreline_held";
/// Name of the column with their positions.
const POSITION_COLUMN: &str = "foreline_position";

/// What is known of a key, without the rows that wait.
#[derive(Debug, Serialize, Deserialize)]
struct SavedKey {
    max: i64,
    watermark: i64,
    seen_ns: i64,
    /// Rows that a repetition would be compared with, in the order in which they came.
    seen: Vec<(i64, u128)>,
}

impl Orderer {
    /// Raised whenever the meaning of what [`Orderer::save`] writes changes.
    pub(crate) const STATE_VERSION: u32 = 1;

    /// The shards that have changed since they were saved.
    pub(crate) fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    /// Notes that the source has ended before.
    pub(crate) fn set_ended(&mut self) {
        self.ended = true;
    }

    /// The state of a shard; `None` when it has no keys.
    pub(crate) fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.keys.saved(shard);
        let slots = self.keys.slots_of_shard(shard);
        if slots.is_empty() {
            return Ok(None);
        }
        let mut states = Vec::with_capacity(slots.len());
        let (mut places, mut place_slots) = (Vec::new(), Vec::new());
        let mut lengths = Vec::with_capacity(slots.len());
        for &slot in &slots {
            let state = self.keys.get(slot);
            let KeyState { max, watermark, seen_ns, held, seen } = state;
            let seen = seen.by_age.iter().copied().collect();
            let saved = SavedKey { max: *max, watermark: *watermark, seen_ns: *seen_ns, seen };
            states.push(postcard::to_allocvec(&saved).map_err(|e| Fault::new(e.to_string()))?);
            places.extend(held.iter().map(|h| h.place));
            place_slots.extend(std::iter::repeat_n(slot, held.len()));
            lengths.push(held.len());
        }
        let waiting = self.gather(&places, &place_slots)?;
        let waiting = waiting.unwrap_or_else(|| Batch::empty(self.schema.arrow().clone()));
        let (mut fields, mut columns) = self.keys.saved_keys(&slots);
        fields.push(Arc::new(Field::new(STATE_COLUMN, DataType::Binary, false)));
        columns.push(Arc::new(BinaryArray::from_iter_values(states)));
        let held = self.as_lists(&waiting, &lengths)?;
        fields.push(Arc::new(Field::new(HELD_COLUMN, held.data_type().clone(), false)));
        columns.push(Arc::new(held));
        Ok(Some(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?))
    }

    /// Takes over the state of a shard, written by `version` of this code.
    pub(crate) fn load(&mut self, version: u32, saved: &RecordBatch) -> Result<(), Fault> {
        let bad = || Fault::new("the saved state of the ordering step cannot be read");
        if version != Self::STATE_VERSION {
            return Err(bad());
        }
        let n_key = self.schema.key().len();
        if saved.num_columns() != n_key + 3 {
            return Err(bad());
        }
        let columns: Vec<&ArrayRef> = (0..n_key).map(|c| saved.column(c)).collect();
        let hashes = saved.column(n_key).as_primitive_opt::<UInt64Type>().ok_or_else(bad)?;
        let states = saved.column(n_key + 1).as_binary_opt::<i32>().ok_or_else(bad)?;
        let held = saved.column(n_key + 2).as_list_opt::<i32>().ok_or_else(bad)?;
        let mut slots = Vec::with_capacity(saved.num_rows());
        for row in 0..saved.num_rows() {
            let key: SavedKey = postcard::from_bytes(states.value(row)).map_err(|_| bad())?;
            let state = key.into_state();
            slots.push(self.keys.put(hashes.value(row), &columns, row, state));
        }
        let offsets: Vec<usize> =
            held.value_offsets().iter().map(|&o| usize::try_from(o).unwrap_or(0)).collect();
        let of_row = |row: usize| offsets[row]..offsets[row + 1];
        let row_slots: Vec<u32> = (0..slots.len())
            .flat_map(|r| of_row(r).map(|_| slots[r]).collect::<Vec<_>>())
            .collect();
        if !row_slots.is_empty() {
            let rows = held.values().as_struct_opt().ok_or_else(bad)?;
            let waiting = self.waiting_rows(rows, &row_slots)?;
            self.wait_again(waiting, &row_slots);
        }
        for &hash in hashes.values() {
            self.keys.saved(shard_of(hash));
        }
        Ok(())
    }

    /// Puts rows back among those that wait; they come key by key, each in order.
    fn wait_again(&mut self, waiting: Batch, slots: &[u32]) {
        let batch = u32::try_from(self.batches.len()).expect("fewer than 2^32 batches are kept");
        let times = waiting.times(&self.schema).to_vec();
        for (row, (&slot, time)) in slots.iter().zip(times).enumerate() {
            let position = waiting.position.value(row);
            let row = u32::try_from(row).expect("a shard has fewer than 2^32 rows");
            let held = Held { time, position, place: Place { batch, row } };
            self.keys.get_mut(slot).held.push(held);
        }
        self.n_held += waiting.len();
        self.batches.push(waiting);
    }

    /// The columns that are not part of the key.
    fn rest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.schema.columns().len()).filter(|c| !self.schema.key().contains(c))
    }

    /// Rows as one list a key; `lengths` says how many belong to each.
    fn as_lists(&self, waiting: &Batch, lengths: &[usize]) -> Result<ListArray, Fault> {
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for c in self.rest() {
            fields.push(Arc::clone(&self.schema.arrow().fields()[c]));
            columns.push(Arc::clone(waiting.rows.column(c)));
        }
        fields.push(Arc::new(Field::new(POSITION_COLUMN, DataType::UInt64, false)));
        columns.push(Arc::new(waiting.position.clone()));
        let fields = Fields::from(fields);
        let rows = StructArray::try_new(fields.clone(), columns, None)?;
        let item = Arc::new(Field::new("item", DataType::Struct(fields), false));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Ok(ListArray::try_new(item, offsets, Arc::new(rows), None)?)
    }

    /// The rows of [`Orderer::as_lists`] again; `slots` has the key of each.
    fn waiting_rows(&mut self, rows: &StructArray, slots: &[u32]) -> Result<Batch, Fault> {
        let n_rest = self.rest().count();
        if rows.num_columns() != n_rest + 1 || rows.len() != slots.len() {
            return Err(Fault::new("the rows that wait do not fit the source's columns"));
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.columns().len()];
        let rest: Vec<usize> = self.rest().collect();
        for (place, column) in rest.into_iter().zip(rows.columns()) {
            columns[place] = Some(Arc::clone(column));
        }
        let key = self.schema.key().to_vec();
        for (place, column) in key.into_iter().zip(self.keys.key_columns(slots)) {
            columns[place] = Some(column);
        }
        let columns = columns.into_iter().flatten().collect();
        let all = RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?;
        let position = rows.column(n_rest).as_primitive_opt::<UInt64Type>();
        let position =
            position.ok_or_else(|| Fault::new("the rows that wait have no positions"))?;
        let hashes: UInt64Array = slots.iter().map(|&s| self.keys.hash(s)).collect();
        Batch::new(all, hashes, position.clone()).map_err(|e| Fault::new(e.to_string()))
    }
}

impl SavedKey {
    fn into_state(self) -> KeyState {
        let mut seen = Seen::default();
        for (time, row) in self.seen {
            seen.insert(time, row);
        }
        let SavedKey { max, watermark, seen_ns, .. } = self;
        KeyState { max, watermark, seen_ns, held: Vec::new(), seen }
    }
}
