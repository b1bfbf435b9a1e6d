//! The last so many rows of a key, for every row or every so many.
//!
//! Rows are counted, not values: a null takes a place in the window and is left out of its features. A row
//! out keeps the event time and position of the row it ends with.

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet,
};
use serde::{Deserialize, Serialize};

use super::evaluate::Evaluator;
use super::{Rolling, STATE_VERSION};
use crate::columns::same_version;
use crate::history::History;

/// The last rows of a key, and how many it has had in all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    n_rows: u64,
    rows: History,
}

/// The operator.
#[derive(Debug)]
pub(super) struct LastRows {
    input: Schema,
    output: Schema,
    rolling: Rolling,
    evaluator: Evaluator,
    last: Keyed<Last>,
}

impl LastRows {
    pub(super) fn new(
        input: Schema,
        output: Schema,
        rolling: Rolling,
        evaluator: Evaluator,
    ) -> Self {
        let last = Keyed::new(&input);
        LastRows { input, output, rolling, evaluator, last }
    }

    /// Whether a row comes out for the `n`-th of a key, counted from 1.
    fn due(&self, n: u64) -> bool {
        n >= self.rolling.min_rows as u64 && n.is_multiple_of(self.rolling.every as u64)
    }
}

impl Operator for LastRows {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        let times = batch.times(&self.input);
        let channels = self.evaluator.channels(batch)?;
        let mut emitted = self.evaluator.emitted();
        for Group { start, end, .. } in batch.groups() {
            let slot = self.last.slot(batch, self.input.key(), start, Last::default)?;
            let before = self.last.get(slot).n_rows;
            let due: Vec<usize> =
                (start..end).filter(|row| self.due(before + (row - start + 1) as u64)).collect();
            let last = self.last.get_mut(slot);
            let kept = last.rows.len();
            last.rows.extend(times, &channels, start, end);
            for row in due {
                let upto = kept + row - start + 1;
                emitted.row(slot, times[row], batch.position.value(row));
                let from = upto.saturating_sub(self.rolling.rows);
                self.evaluator.evaluate(&last.rows, from, upto, &mut emitted);
            }
            last.n_rows += (end - start) as u64;
            let surplus = last.rows.len().saturating_sub(self.rolling.rows - 1);
            last.rows.drop_first(surplus);
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        if let Some(rows) = self.evaluator.batch(emitted, &mut self.last, &self.output)? {
            out.emit(rows);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.last.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.last.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.last.load(&state)
    }
}
