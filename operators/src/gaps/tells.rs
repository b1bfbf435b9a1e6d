//! A row for each gap: when it begins, and when it is over.
//!
//! For a key with watermark `w` every gap that begins before `w` was told, so the next row out is at or after `w`:
//! watermarks go on as they are.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, new_null_array};
use arrow::compute::kernels::zip::zip;
use foreline_engine::{
    Account, Batch, Epoch, Fault, Group, Input, Operator, Out, ShardSet, Watermarks,
};

use super::{Common, Last, STATE_VERSION};
use crate::columns::{nullable, same_version, time_column};

/// Emits a row a gap.
#[derive(Debug)]
pub(super) struct Tells {
    common: Common,
    /// The bound below all watermarks that gaps were told for.
    low: i64,
}

/// A row of a gap.
#[derive(Debug)]
struct Told {
    slot: u32,
    at: i64,
    position: u64,
    start: i64,
    length: f64,
    over: bool,
}

impl Tells {
    pub(super) fn new(common: Common) -> Self {
        Tells { common, low: i64::MIN }
    }

    /// The row that says that a gap has begun after the last row of a key, where that has not been said.
    fn begun(&self, slot: u32, was: Last) -> Option<Told> {
        let rule = self.common.rule;
        let begins = rule.begins(was.at);
        let row = || {
            let length = self.common.length(was.at, begins);
            Told { slot, at: begins, position: was.position, start: was.at, length, over: false }
        };
        (rule.open && !was.told).then(row)
    }

    /// Takes in the rows of a key.
    fn take_in(&mut self, batch: &Batch, group: Group, told: &mut Vec<Told>) -> Result<(), Fault> {
        let schema = self.common.input.clone();
        let slot = self.common.last.slot(batch, schema.key(), group.start, || None)?;
        let (times, rule) = (batch.times(&schema), self.common.rule);
        let mut before: Option<Last> = *self.common.last.get(slot);
        let rows = times[..group.end].iter().enumerate().skip(group.start);
        for (row, &at) in rows {
            let position = batch.position.value(row);
            if let Some(was) = before.filter(|was| rule.is_gap(was.at, at)) {
                told.extend(self.begun(slot, was));
                let length = self.common.length(was.at, at);
                told.push(Told { slot, at, position, start: was.at, length, over: true });
            }
            before = Some(Last { at, position, told: false });
        }
        *self.common.last.get_mut(slot) = before;
        Ok(())
    }

    /// Tells that a gap has begun after the last row of a key, if nothing comes before `watermark` any more.
    fn begin(&mut self, slot: u32, watermark: i64, told: &mut Vec<Told>) {
        // Looked at first, because a look does not mark the shard as changed.
        let Some(was) = *self.common.last.get(slot) else { return };
        if self.common.rule.begins(was.at) >= watermark {
            return;
        }
        if let Some(row) = self.begun(slot, was) {
            *self.common.last.get_mut(slot) = Some(Last { told: true, ..was });
            told.push(row);
        }
    }

    fn watermarks(&mut self, watermarks: &Watermarks, told: &mut Vec<Told>) {
        for (slot, at) in self.common.last.reached(watermarks, &mut self.low) {
            self.begin(slot, at, told);
        }
    }

    fn batch(&mut self, mut told: Vec<Told>) -> Result<Batch, Fault> {
        let Common { output, last, .. } = &mut self.common;
        // Rows of a key are in order already, and a sort that is stable keeps them so.
        told.sort_by_key(|row| last.hash(row.slot));
        let slots: Vec<u32> = told.iter().map(|row| row.slot).collect();
        let times: Vec<i64> = told.iter().map(|row| row.at).collect();
        let starts = told.iter().map(|row| row.start).collect();
        let ends = time_column(times.clone(), output.domain());
        let closed: BooleanArray = told.iter().map(|row| Some(row.over)).collect();
        let never = new_null_array(ends.data_type(), told.len());
        let mut columns = last.key_columns(&slots);
        columns.push(time_column(times, output.domain()));
        columns.push(time_column(starts, output.domain()));
        columns.push(zip(&closed, &ends, &never)?);
        columns.push(Arc::new(nullable(told.iter().map(|row| row.length).collect())));
        columns.push(Arc::new(closed));
        let rows = RecordBatch::try_new(Arc::clone(output.arrow()), columns)?;
        let hashes: Vec<u64> = slots.iter().map(|&s| last.hash(s)).collect();
        let positions: Vec<u64> = told.iter().map(|row| row.position).collect();
        Batch::new(rows, hashes.into(), positions.into()).map_err(|e| Fault::new(e.to_string()))
    }
}

impl Operator for Tells {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let mut told = Vec::new();
        for group in input.rows.groups() {
            self.take_in(input.rows, group, &mut told)?;
        }
        self.watermarks(input.watermarks, &mut told);
        out.count(Account { used: input.rows.len() as u64, ..Account::default() });
        if !told.is_empty() {
            out.emit(self.batch(told)?);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.common.last.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.common.last.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.common.last.load(&state)
    }
}
