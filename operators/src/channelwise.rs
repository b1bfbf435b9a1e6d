//! A step that carries each of its columns through a filter of its own: a result for every row, from what the rows
//! before it of the same key have left behind.
//!
//! The state of a filter belongs to one key and one column. Where a column of flags says so, it is forgotten before
//! the row is looked at.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, Batch, Epoch, Fault, Group, Input, Keyed, LateSupport, Operator, Out, Planned, Schema,
    ShardSet,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::same_version;
use crate::flags::{piece, raised};
use crate::smoothing::Smoothed;

/// What becomes of a column, row by row.
pub(crate) trait Filter: Debug + Send + Sync + 'static {
    /// What the rows so far have left behind; the default: there were none.
    type State: Debug + Default + Serialize + DeserializeOwned;

    /// Raised whenever the meaning of `State` changes.
    const STATE_VERSION: u32;

    /// Appends to `results` one for each value; NaN is a value or result that is missing.
    fn filter(
        &self,
        times: &[i64],
        values: &[f64],
        state: &mut Self::State,
        results: &mut Vec<f64>,
    );
}

/// The plan of a step that is such a filter. `resets` is the place of the flag that has it begin anew.
pub(crate) fn planned<F: Filter>(
    input: &Schema,
    columns: Smoothed,
    resets: Option<usize>,
    filter: F,
) -> Planned {
    let (input, filter) = (input.clone(), Arc::new(filter));
    Planned {
        output: columns.schema.clone(),
        late: LateSupport::Corrects,
        state_version: F::STATE_VERSION,
        build: Arc::new(move |_| {
            let (input, columns, filter) = (input.clone(), columns.clone(), Arc::clone(&filter));
            let states = Keyed::new(&input);
            Ok(Box::new(Channelwise { input, columns, resets, filter, states }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[derive(Debug)]
struct Channelwise<F: Filter> {
    input: Schema,
    columns: Smoothed,
    resets: Option<usize>,
    filter: Arc<F>,
    states: Keyed<Vec<F::State>>,
}

impl<F: Filter> Channelwise<F> {
    fn results(&mut self, batch: &Batch) -> Result<Vec<Vec<f64>>, Fault> {
        let times = batch.times(&self.input);
        let channels = self.columns.channels(batch)?;
        let resets = self.resets.map(|column| raised(batch, column));
        let mut results: Vec<_> =
            channels.iter().map(|_| Vec::with_capacity(batch.len())).collect();
        for Group { start, end, .. } in batch.groups() {
            let none = || channels.iter().map(|_| F::State::default()).collect();
            let slot = self.states.slot(batch, self.input.key(), start, none)?;
            let states = self.states.get_mut(slot);
            for ((state, values), results) in states.iter_mut().zip(&channels).zip(&mut results) {
                let mut from = start;
                while from < end {
                    let to = piece(resets.as_deref(), from, end);
                    if resets.as_ref().is_some_and(|r| r[from]) {
                        *state = F::State::default();
                    }
                    self.filter.filter(&times[from..to], &values[from..to], state, results);
                    from = to;
                }
            }
        }
        Ok(results)
    }
}

impl<F: Filter> Operator for Channelwise<F> {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let results = self.results(batch)?;
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(self.columns.with(batch, results)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.states.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.states.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, F::STATE_VERSION)?;
        self.states.load(&state)
    }
}
