//! A step that lets rows of a key through or leaves them out, by what it let through before.

use std::fmt::Debug;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, Epoch, Fault, Input, Keyed, LateSupport, Operator, Out, Planned, Schema, ShardSet,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::{channel, same_version};

/// Raised whenever the state of a gate changes.
const STATE_VERSION: u32 = 1;

/// Decides about the rows of a key, one after the other.
pub(crate) trait Gate: Debug + Clone + Send + Sync + 'static {
    /// What it remembers of a key.
    type State: Debug + Default + Serialize + DeserializeOwned;

    /// The columns it looks at, by index.
    fn columns(&self) -> &[usize];

    /// Whether `row`, whose channels are NaN where missing, goes on.
    fn passes(
        &self,
        state: &mut Self::State,
        time: i64,
        channels: &[ScalarBuffer<f64>],
        row: usize,
    ) -> bool;
}

/// The step that a gate makes of a stream of `input`.
pub(crate) fn planned<G: Gate>(input: &Schema, gate: G) -> Planned {
    let schema = input.clone();
    Planned {
        output: input.clone(),
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: std::sync::Arc::new(move |_| {
            let states = Keyed::new(&schema);
            Ok(Box::new(Gated { input: schema.clone(), gate: gate.clone(), states }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[derive(Debug)]
struct Gated<G: Gate> {
    input: Schema,
    gate: G,
    states: Keyed<G::State>,
}

impl<G: Gate> Operator for Gated<G> {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let times = batch.times(&self.input);
        let channels = self.gate.columns().iter().map(|&c| channel(batch.rows.column(c)));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let mut passes = Vec::with_capacity(batch.len());
        for group in batch.groups() {
            let key = self.input.key();
            let slot = self.states.slot(batch, key, group.start, G::State::default)?;
            let state = self.states.get_mut(slot);
            passes.extend(
                (group.start..group.end)
                    .map(|row| self.gate.passes(state, times[row], &channels, row)),
            );
        }
        let passes = BooleanArray::from(passes);
        let used = passes.true_count() as u64;
        let filtered = batch.len() as u64 - used;
        out.count(Account { used, filtered, ..Account::default() });
        out.emit(batch.filter(&passes)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.states.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.states.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.states.load(&state)
    }
}
