//! How many rows of a key were in each regime so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use foreline_engine::{
    Account, Batch, Epoch, Fault, Input, Keyed, Operator, Out, Schema, ShardSet,
};

use super::STATE_VERSION;
use super::label::Label;
use crate::columns::same_version;

/// The step with counters.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) input: Schema,
    pub(super) output: Schema,
    pub(super) label: Label,
    /// The regimes that are counted.
    pub(super) names: Vec<String>,
    /// The rows of each, by key.
    pub(super) counts: Keyed<Vec<i64>>,
}

impl Counters {
    fn counted(&mut self, batch: &Batch) -> Result<RecordBatch, Fault> {
        let labels = self.label.of(&batch.rows)?;
        let places: BTreeMap<&str, usize> =
            self.names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let places: Vec<Option<usize>> =
            labels.names.iter().map(|name| places.get(name.as_str()).copied()).collect();
        let n_counted = self.names.len();
        let column = |_| Vec::with_capacity(batch.len());
        let mut columns: Vec<Vec<i64>> = (0..n_counted).map(column).collect();
        for group in batch.groups() {
            let none = || vec![0; n_counted];
            let slot = self.counts.slot(batch, self.input.key(), group.start, none)?;
            let counts = self.counts.get_mut(slot);
            for regime in &labels.of_row[group.start..group.end] {
                if let Some(place) = regime.and_then(|r| places[r as usize]) {
                    counts[place] += 1;
                }
                for (column, &count) in columns.iter_mut().zip(counts.iter()) {
                    column.push(count);
                }
            }
        }
        let mut all = batch.rows.columns().to_vec();
        all.push(labels.texts()?);
        all.extend(columns.into_iter().map(|c| Arc::new(Int64Array::from(c)) as ArrayRef));
        Ok(RecordBatch::try_new(Arc::clone(self.output.arrow()), all)?)
    }
}

impl Operator for Counters {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let rows = self.counted(batch)?;
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(Batch { rows, ..batch.clone() });
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.counts.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.counts.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.counts.load(&state)
    }
}
