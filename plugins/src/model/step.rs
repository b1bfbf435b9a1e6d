//! The step at work: which rows are sent, what comes out, and the state between epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Input, Keyed, Operator, Out, SHARDS, Schema,
    ShardSet, shard_of,
};

use super::breaker::Gate;
use super::config::OnError;
use super::explain::{Parts, because};
use super::rows::{Constant, FeatureColumns, label_column, output_column};
use super::scoring::{KeyState, Outcome, Scorer, Work};
use super::warn::{Range, outside};
use crate::sandbox::reasons;

/// Name of the column of saved state that holds the shard's breaker, the same in every row.
const GATE_COLUMN: &str = "foreline_shard_gate";

/// What a step of a model is made of; the same on all workers.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) input: Schema,
    pub(super) output: Schema,
    /// The input column of each feature.
    pub(super) features: Vec<usize>,
    /// Features without which a row is not sent.
    pub(super) required: Vec<usize>,
    /// The labels of each output; `None` for an output that is not a class.
    pub(super) labels: Vec<Option<Vec<String>>>,
    /// Where the outputs are that explain others.
    pub(super) explained: Vec<Parts>,
    /// How many contributions a text has; `None` where they are columns.
    pub(super) top: Option<usize>,
    /// The trained ranges of the features, where the step warns of them.
    pub(super) ranges: Option<Vec<Range>>,
    /// The input column's name for each feature.
    pub(super) column_names: Vec<String>,
    pub(super) state_width: usize,
    pub(super) state_version: u32,
    pub(super) on_error: OnError,
    pub(super) breaker_after: u32,
    pub(super) name: String,
    pub(super) version: String,
    /// SHA-256 of plugin, weights and config.
    pub(super) digest: String,
}

/// A model on one worker.
#[derive(Debug)]
pub(super) struct ModelStep {
    recipe: Arc<Recipe>,
    scorer: Scorer,
    keys: Keyed<KeyState>,
    shard_gates: Vec<Gate>,
    dirty_gates: ShardSet,
    provenance: [Constant; 3],
}

/// How rows go on.
#[derive(Debug, Clone, Copy)]
enum Lane {
    /// New rows, and those with a revision.
    New,
    /// Rows behind their key's watermark, for steps below that correct.
    Late,
}

/// How the epoch went for the keys and shards that were sent; the breaker's business.
#[derive(Debug, Default)]
struct Tally {
    /// Keys with a row that was to blame.
    failed: BTreeMap<u64, u32>,
    /// Keys that were sent and remember a failure.
    tried: BTreeMap<u64, u32>,
    /// Rows sent and rows to blame, by shard.
    shards: BTreeMap<u8, (u64, u64)>,
}

impl ModelStep {
    pub(super) fn new(recipe: Arc<Recipe>, scorer: Scorer) -> Self {
        ModelStep {
            keys: Keyed::new(&recipe.input),
            scorer,
            shard_gates: vec![Gate::default(); SHARDS],
            dirty_gates: ShardSet::none(),
            provenance: [&recipe.name, &recipe.version, &recipe.digest].map(|v| Constant::new(v)),
            recipe,
        }
    }

    fn score(&mut self, epoch: u64, batch: &Batch, tally: &mut Tally) -> Result<Outcome, Fault> {
        let features = FeatureColumns::new(&batch.rows, &self.recipe.features)?;
        let n_outputs = self.recipe.labels.len();
        let mut outcome =
            Outcome { outputs: vec![f64::NAN; batch.len() * n_outputs], rejected: BTreeMap::new() };
        let sent = self.rows_to_send(epoch, batch, &features, &mut outcome);
        let hashes: Vec<u64> = sent.iter().map(|&row| batch.key_hash.value(row as usize)).collect();
        let slots = self.slots(batch, &sent)?;
        let work = Work { features: &features, sent: &sent, hashes: &hashes, slots: &slots };
        self.scorer.score(&work, &mut self.keys, &mut outcome)?;
        self.tally(batch, &sent, &outcome, tally)?;
        Ok(outcome)
    }

    /// The rows that are neither deleted, nor lack a feature, nor held back by the breaker.
    fn rows_to_send(
        &self,
        epoch: u64,
        batch: &Batch,
        features: &FeatureColumns,
        outcome: &mut Outcome,
    ) -> Vec<u32> {
        let mut kept_back = match &batch.deleted {
            Some(deleted) => deleted.iter().map(|d| d == Some(true)).collect(),
            None => vec![false; batch.len()],
        };
        for &feature in &self.recipe.required {
            features.mark_missing(feature, &mut kept_back);
        }
        for group in batch.groups() {
            let shard_is_shut = self.shard_gates[usize::from(shard_of(group.hash))].is_shut(epoch);
            let key_is_shut =
                self.keys.find(group.hash).is_some_and(|s| self.keys.get(s).gate.is_shut(epoch));
            if shard_is_shut || key_is_shut {
                let what = if shard_is_shut { "shard" } else { "key" };
                let message = format!("the model failed for this {what} too often");
                for row in (group.start..group.end).filter(|&row| !kept_back[row]) {
                    let refusal = (reasons::BREAKER_OPEN, message.clone());
                    outcome.rejected.insert(row_number(row), refusal);
                }
                kept_back[group.start..group.end].fill(true);
            }
        }
        (0..batch.len()).filter(|&row| !kept_back[row]).map(row_number).collect()
    }

    /// The slots of the rows' keys, where the model has state.
    fn slots(&mut self, batch: &Batch, sent: &[u32]) -> Result<Vec<u32>, Fault> {
        let mut slots = Vec::new();
        if self.recipe.state_width > 0 {
            for &row in sent {
                slots.push(self.slot(batch, row)?);
            }
        }
        Ok(slots)
    }

    fn slot(&mut self, batch: &Batch, row: u32) -> Result<u32, Fault> {
        self.keys.slot(batch, self.recipe.input.key(), row as usize, KeyState::default)
    }

    fn tally(
        &mut self,
        batch: &Batch,
        sent: &[u32],
        outcome: &Outcome,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        for &row in sent {
            let hash = batch.key_hash.value(row as usize);
            let to_blame = outcome.rejected.get(&row).is_some_and(|(reason, _)| {
                *reason != reasons::INVALID_INPUT && *reason != reasons::BAD_OUTPUT
            });
            let (sent, failed) = tally.shards.entry(shard_of(hash)).or_default();
            *sent += 1;
            *failed += u64::from(to_blame);
            if to_blame {
                let slot = self.slot(batch, row)?;
                tally.failed.insert(hash, slot);
            } else if let Some(slot) = self.keys.find(hash)
                && !self.keys.get(slot).gate.is_clear()
            {
                tally.tried.insert(hash, slot);
            }
        }
        Ok(())
    }

    /// Moves the breakers on, once all rows of the epoch are through.
    fn settle(&mut self, epoch: u64, tally: &Tally) {
        let after = self.recipe.breaker_after;
        for &slot in tally.failed.values() {
            self.keys.get_mut(slot).gate.settle(epoch, true, after);
        }
        for (hash, &slot) in &tally.tried {
            if !tally.failed.contains_key(hash) {
                self.keys.get_mut(slot).gate.settle(epoch, false, after);
            }
        }
        for (&shard, &(sent, failed)) in &tally.shards {
            let gate = &mut self.shard_gates[usize::from(shard)];
            if failed == sent || !gate.is_clear() {
                gate.settle(epoch, failed == sent, after);
                self.dirty_gates.insert(shard);
            }
        }
    }

    /// Sends on what was scored, and what was not as `on_error` says.
    fn emit(
        &mut self,
        lane: Lane,
        batch: &Batch,
        outcome: Outcome,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let columns = self.columns(batch, &outcome)?;
        let mut scored = batch.with_columns(self.recipe.output.arrow(), columns)?;
        if let Some((row, (reason, message))) = outcome.rejected.first_key_value() {
            match self.recipe.on_error {
                OnError::Null => {}
                OnError::Fail => {
                    let letter = self.letter(batch, *row, *reason, message.clone());
                    let key = letter.key.unwrap_or_default();
                    return Err(Fault::new(format!(
                        "key '{key}' cannot be scored: {message} ({reason})"
                    )));
                }
                OnError::DeadLetter => {
                    let keep = (0..batch.len())
                        .map(|row| Some(!outcome.rejected.contains_key(&row_number(row))));
                    scored = scored.filter(&keep.collect::<BooleanArray>())?;
                    for (row, (reason, message)) in outcome.rejected {
                        out.dead(self.letter(batch, row, reason, message));
                    }
                }
            }
        }
        out.count(Account { used: scored.len() as u64, ..Account::default() });
        match lane {
            _ if scored.is_empty() => {}
            Lane::New => out.emit(scored),
            Lane::Late => out.emit_late(scored),
        }
        Ok(())
    }

    fn columns(&mut self, batch: &Batch, outcome: &Outcome) -> Result<Vec<ArrayRef>, Fault> {
        let recipe = &self.recipe;
        let mut columns = batch.rows.columns().to_vec();
        let n_outputs = recipe.labels.len();
        let is_part = |at: usize| recipe.explained.iter().any(|parts| parts.has(at));
        for output in (0..n_outputs).filter(|&at| !is_part(at)) {
            let column = output_column(&outcome.outputs, output, n_outputs);
            let labels = recipe.labels[output].as_ref();
            let label = labels.map(|labels| label_column(&column, labels));
            columns.push(column);
            columns.extend(label);
        }
        for parts in &recipe.explained {
            if let Some(top) = recipe.top {
                let names = &recipe.column_names;
                let text = because(&outcome.outputs, n_outputs, parts, names, top);
                columns.push(Arc::new(text));
            } else {
                let places = std::iter::once(&parts.base).chain(&parts.by);
                columns.extend(places.map(|&at| output_column(&outcome.outputs, at, n_outputs)));
            }
        }
        if let Some(ranges) = &recipe.ranges {
            let features = FeatureColumns::new(&batch.rows, &recipe.features)?;
            let is_deleted =
                |row: usize| batch.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
            columns.push(Arc::new(outside(&features, ranges, is_deleted, batch.len())));
        }
        columns.extend(self.provenance.iter_mut().map(|constant| constant.column(batch.len())));
        Ok(columns)
    }

    fn letter(
        &self,
        batch: &Batch,
        row: u32,
        reason: foreline_engine::Reason,
        message: String,
    ) -> DeadLetter {
        let row = row as usize;
        let key = self.recipe.input.key().iter();
        let key =
            key.map(|&k| array_value_to_string(batch.rows.column(k), row).unwrap_or_default());
        DeadLetter {
            key: Some(key.collect::<Vec<_>>().join(",")),
            time: Some(batch.times(&self.recipe.input)[row]),
            position: Some(batch.position.value(row)),
            ..DeadLetter::new(reason, message)
        }
    }

    /// Brings state of an older version to this one, key by key in the order it was saved.
    fn migrate(&mut self, from: u32, shard: u8) -> Result<(), Fault> {
        let slots: Vec<u32> = self.keys.slots_by_hash().to_vec();
        let of_shard = |s: &u32| shard_of(self.keys.hash(*s)) == shard;
        let slots: Vec<u32> = slots.into_iter().filter(of_shard).collect();
        let slots: Vec<u32> =
            slots.into_iter().filter(|&s| !self.keys.get(s).state.is_empty()).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let old: Vec<f64> = slots.iter().flat_map(|&s| self.keys.get(s).state.clone()).collect();
        let new = self.scorer.migrate(from, &old)?;
        let width = self.recipe.state_width;
        if new.len() != slots.len() * width {
            return Err(Fault::new("'migrate-state' answered a wrong number of values"));
        }
        for (slot, state) in slots.into_iter().zip(new.chunks_exact(width)) {
            self.keys.get_mut(slot).state = state.to_vec();
        }
        Ok(())
    }
}

impl Operator for ModelStep {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let mut tally = Tally::default();
        self.scorer.begin_epoch();
        for input in inputs {
            for (lane, batch) in
                [(Lane::New, input.rows), (Lane::Late, input.late), (Lane::New, input.revised)]
            {
                if !batch.is_empty() {
                    let outcome = self.score(epoch.id, batch, &mut tally)?;
                    self.emit(lane, batch, outcome, out)?;
                }
            }
        }
        self.settle(epoch.id, &tally);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        let mut dirty = self.keys.dirty();
        for shard in self.dirty_gates.iter() {
            dirty.insert(shard);
        }
        dirty
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.dirty_gates.remove(shard);
        let Some(saved) = self.keys.save(shard)? else { return Ok(None) };
        let gate = postcard::to_allocvec(&self.shard_gates[usize::from(shard)])
            .map_err(|e| Fault::new(format!("state cannot be written: {e}")))?;
        let gates = BinaryArray::from_iter_values(std::iter::repeat_n(&gate, saved.num_rows()));
        let mut fields = saved.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(GATE_COLUMN, gates.data_type().clone(), false)));
        let mut columns = saved.columns().to_vec();
        columns.push(Arc::new(gates));
        Ok(Some(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?))
    }

    fn load(&mut self, shard: u8, state_version: u32, state: RecordBatch) -> Result<(), Fault> {
        let bad = || Fault::new("saved state cannot be read: it has no breaker");
        let gate = state.num_columns().checked_sub(1).ok_or_else(bad)?;
        let gates = state.column(gate).as_binary_opt::<i32>().ok_or_else(bad)?;
        if !gates.is_empty() {
            self.shard_gates[usize::from(shard)] =
                postcard::from_bytes(gates.value(0)).map_err(|_| bad())?;
        }
        let keys = state.project(&(0..gate).collect::<Vec<_>>())?;
        self.keys.load(&keys)?;
        if state_version != self.recipe.state_version {
            self.migrate(state_version, shard)?;
        }
        self.check_width()
    }
}

impl ModelStep {
    fn check_width(&self) -> Result<(), Fault> {
        let width = self.recipe.state_width;
        let slots = 0..u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let found = slots.map(|s| self.keys.get(s).state.len()).find(|&n| n != 0 && n != width);
        found.map_or(Ok(()), |found| {
            Err(Fault::new(format!("saved state has {found} values a key, the model {width}")))
        })
    }
}

/// A place in a batch. Arrow's `take` counts in `u32`, and an epoch has far fewer rows.
fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
