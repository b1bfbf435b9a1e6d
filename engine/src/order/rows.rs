//! The rows that wait: kept in the batches they came in, gathered when they leave, copied together when they keep too much.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{interleave, take};

use super::{Orderer, Place};
use crate::batch::Batch;
use crate::operator::Fault;

/// How many rows the released batches may keep alive beyond twice the held ones before they are copied together.
pub(super) const SLACK_ROWS: usize = 65_536;

impl Orderer {
    /// The rows at `places` as one batch; their keys are in `slots`.
    pub(super) fn gather(
        &mut self,
        places: &[Place],
        slots: &[u32],
    ) -> Result<Option<Batch>, Fault> {
        if places.is_empty() {
            return Ok(None);
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.columns().len()];
        let key = self.schema.key().to_vec();
        for (k, column) in key.into_iter().zip(self.keys.key_columns(slots)) {
            columns[k] = Some(column);
        }
        let picker = Picker::new(&self.batches, places);
        let columns = columns.into_iter().enumerate().map(|(c, column)| match column {
            Some(key) => Ok(key),
            None => picker.pick(|b| b.rows.column(c).as_ref()),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.schema.arrow().clone(), columns)?;
        let key_hash: UInt64Array = slots.iter().map(|&s| self.keys.hash(s)).collect();
        let position = places
            .iter()
            .map(|p| self.batches[p.batch as usize].position.value(p.row as usize))
            .collect::<Vec<_>>();
        let batch = Batch::new(rows, key_hash, position.into());
        Ok(Some(batch.map_err(|e| Fault::new(e.to_string()))?))
    }

    /// Drops batches that no held row needs, and copies held rows together when they keep too much alive.
    pub(super) fn tidy(&mut self) -> Result<(), Fault> {
        if self.n_held == 0 {
            self.batches.clear();
            return Ok(());
        }
        let kept: usize = self.batches.iter().map(Batch::len).sum();
        if kept <= 2 * self.n_held + SLACK_ROWS {
            return Ok(());
        }
        let slots = self.keys.slots_by_hash().to_vec();
        let mut places = Vec::with_capacity(self.n_held);
        let mut place_slots = Vec::with_capacity(self.n_held);
        for &slot in &slots {
            for held in &self.keys.get(slot).held {
                places.push(held.place);
                place_slots.push(slot);
            }
        }
        let batch = self.gather(&places, &place_slots)?.expect("some rows are held");
        self.batches = vec![batch];
        let mut row = 0;
        for slot in slots {
            for held in &mut self.keys.get_mut(slot).held {
                held.place = Place { batch: 0, row };
                row += 1;
            }
        }
        Ok(())
    }
}

/// Picks rows out of several batches.
struct Picker<'a> {
    batches: &'a [Batch],
    one: Option<(usize, UInt32Array)>,
    many: Vec<(usize, usize)>,
}

impl<'a> Picker<'a> {
    fn new(batches: &'a [Batch], places: &[Place]) -> Self {
        let first = places[0].batch;
        if places.iter().all(|p| p.batch == first) {
            let rows = places.iter().map(|p| p.row).collect::<Vec<_>>();
            return Picker { batches, one: Some((first as usize, rows.into())), many: Vec::new() };
        }
        let many = places.iter().map(|p| (p.batch as usize, p.row as usize)).collect();
        Picker { batches, one: None, many }
    }

    fn pick(&self, column: impl Fn(&'a Batch) -> &'a dyn Array) -> Result<ArrayRef, Fault> {
        Ok(match &self.one {
            Some((batch, rows)) => take(column(&self.batches[*batch]), rows, None)?,
            None => {
                let all: Vec<_> = self.batches.iter().map(column).collect();
                interleave(&all, &self.many)?
            }
        })
    }
}
