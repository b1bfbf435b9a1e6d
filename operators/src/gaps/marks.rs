//! The rows themselves, with what is before each.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use foreline_engine::{Account, Epoch, Fault, Group, Input, Operator, Out, ShardSet};

use super::{Common, Last, STATE_VERSION};
use crate::columns::{nullable, same_version};

/// Sends the rows on with what is before each.
#[derive(Debug)]
pub(super) struct Marks {
    common: Common,
    /// Whether a mark and a length are wanted.
    columns: (bool, bool),
}

impl Marks {
    /// `columns` says whether a mark and a length are wanted.
    pub(super) fn new(common: Common, columns: (bool, bool)) -> Self {
        Marks { common, columns }
    }
}

impl Operator for Marks {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        let schema = self.common.input.clone();
        let times = batch.times(&schema);
        let mut marks = Vec::with_capacity(batch.len());
        let mut lengths = Vec::with_capacity(batch.len());
        for Group { start, end, .. } in batch.groups() {
            let slot = self.common.last.slot(batch, schema.key(), start, || None)?;
            let mut before = self.common.last.get(slot).map(|last| last.at);
            for &at in &times[start..end] {
                marks.push(before.is_some_and(|before| self.common.rule.is_gap(before, at)));
                lengths.push(before.map_or(f64::NAN, |before| self.common.length(before, at)));
                before = Some(at);
            }
            let position = batch.position.value(end - 1);
            let last = Last { at: times[end - 1], position, told: false };
            *self.common.last.get_mut(slot) = Some(last);
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        if batch.is_empty() {
            return Ok(());
        }
        let mut columns = batch.rows.columns().to_vec();
        let (mark, length) = self.columns;
        columns.extend(mark.then(|| Arc::new(BooleanArray::from(marks)) as ArrayRef));
        columns.extend(length.then(|| Arc::new(nullable(lengths)) as ArrayRef));
        out.emit(batch.with_columns(self.common.output.arrow(), columns)?);
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
