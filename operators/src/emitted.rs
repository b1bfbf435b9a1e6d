//! Rows that a step makes for its keys, gathered column by column.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use foreline_engine::{Batch, Fault, Keyed, Schema};

use crate::columns::{nullable, time_column};

/// Rows to emit: their keys, times and positions, and channels of numbers, NaN where missing.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    slots: Vec<u32>,
    times: Vec<i64>,
    positions: Vec<u64>,
    /// One value a row each.
    pub(crate) channels: Vec<Vec<f64>>,
}

impl Emitted {
    /// No rows yet, of so many channels.
    pub(crate) fn new(n_channels: usize) -> Self {
        Emitted { channels: vec![Vec::new(); n_channels], ..Emitted::default() }
    }

    /// Starts a row; the caller pushes a value to each channel.
    pub(crate) fn row(&mut self, slot: u32, time: i64, position: u64) {
        self.slots.push(slot);
        self.times.push(time);
        self.positions.push(position);
    }

    /// The rows in order, as a batch of `schema`: key, event time, channels. The rows of a key were pushed in order.
    pub(crate) fn batch<S>(
        self,
        keyed: &mut Keyed<S>,
        schema: &Schema,
    ) -> Result<Option<Batch>, Fault> {
        if self.slots.is_empty() {
            return Ok(None);
        }
        let hashes: Vec<u64> = self.slots.iter().map(|&s| keyed.hash(s)).collect();
        let mut columns = keyed.key_columns(&self.slots);
        columns.push(time_column(self.times, schema.domain()));
        columns.extend(self.channels.into_iter().map(|v| Arc::new(nullable(v)) as ArrayRef));
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
        sorted(rows, hashes, self.positions).map(Some)
    }
}

/// A batch of rows with their key hashes and positions, in the order of the hashes.
pub(crate) fn sorted(
    rows: RecordBatch,
    hashes: Vec<u64>,
    positions: Vec<u64>,
) -> Result<Batch, Fault> {
    let order = (!hashes.is_sorted()).then(|| by_hash(&hashes));
    let batch = Batch::new(rows, hashes.into(), positions.into());
    let batch = batch.map_err(|e| Fault::new(e.to_string()))?;
    match order {
        Some(order) => Ok(batch.take(&UInt32Array::from(order))?),
        None => Ok(batch),
    }
}

/// Rows by key hash; rows of one key stay in the order they are in.
fn by_hash(hashes: &[u64]) -> Vec<u32> {
    let n_rows = u32::try_from(hashes.len()).expect("an epoch emits fewer than 2^32 rows");
    let mut order: Vec<u32> = (0..n_rows).collect();
    order.sort_by_key(|&row| hashes[row as usize]);
    order
}
