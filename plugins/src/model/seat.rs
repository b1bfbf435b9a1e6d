//! One version of a model at work on one worker: which rows it is sent, what came of them, and its state between epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use foreline_engine::{Batch, Fault, Keyed, SHARDS, Schema, ShardSet, shard_of};

use super::breaker::Gate;
use super::drift::Yardstick;
use super::explain::Parts;
use super::ledger::Share;
use super::plan::Version;
use super::rows::{Constant, FeatureColumns};
use super::scoring::{KeyState, Outcome, Scorer, Work};
use super::warn::Range;
use crate::sandbox::reasons;

/// Name of the column of saved state that holds the shard's breaker, the same in every row.
pub(super) const GATE_COLUMN: &str = "foreline_shard_gate";

/// What a version is made of; the same on all workers.
#[derive(Debug)]
pub(super) struct Recipe {
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
    /// What the features are compared with, where the step warns of drift.
    pub(super) drift: Option<Arc<Yardstick>>,
    /// The input column's name for each feature.
    pub(super) column_names: Vec<String>,
    pub(super) state_width: usize,
    pub(super) state_version: u32,
    pub(super) breaker_after: u32,
    /// Whether keys begin anew where their state cannot be gone on from.
    pub(super) resets_state: bool,
    pub(super) name: String,
    pub(super) version: String,
    /// SHA-256 of plugin, weights and config.
    pub(super) digest: String,
}

/// A version on one worker.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) version: Arc<Version>,
    scorer: Scorer,
    input: Schema,
    keys: Keyed<KeyState>,
    shard_gates: Vec<Gate>,
    dirty_gates: ShardSet,
    tally: Tally,
    /// Keys whose gate was shut, and through which no row went well since.
    shut_keys: u64,
    share: Share,
    /// Whether state was thrown away at the start.
    was_reset: bool,
    /// The columns that say which model made a score.
    pub(super) provenance: [Constant; 3],
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

impl Seat {
    pub(super) fn new(version: Arc<Version>, input: &Schema, share: Share) -> Result<Self, Fault> {
        let kinds = version.outputs.iter().map(|(_, kind, labels)| (kind.clone(), labels.len()));
        let plugin = Arc::clone(&version.plugin);
        let scorer = Scorer::new(plugin, version.shape(), kinds.collect(), version.max_rows)?;
        let recipe = &version.recipe;
        Ok(Seat {
            scorer,
            input: input.clone(),
            keys: Keyed::new(input),
            shard_gates: vec![Gate::default(); SHARDS],
            dirty_gates: ShardSet::none(),
            tally: Tally::default(),
            shut_keys: 0,
            share,
            was_reset: false,
            provenance: [&recipe.name, &recipe.version, &recipe.digest].map(|v| Constant::new(v)),
            version,
        })
    }

    pub(super) fn begin_epoch(&mut self) {
        self.scorer.begin_epoch();
    }

    /// Scores the rows of a batch that are `mine`; all of them where that is `None`.
    pub(super) fn score(
        &mut self,
        epoch: u64,
        batch: &Batch,
        mine: Option<&[bool]>,
    ) -> Result<Outcome, Fault> {
        let features = FeatureColumns::new(&batch.rows, &self.version.recipe.features)?;
        let mut outcome = Outcome::nothing(batch.len(), self.version.outputs.len());
        let sent = self.rows_to_send(epoch, batch, mine, &features, &mut outcome);
        let hashes: Vec<u64> = sent.iter().map(|&row| batch.key_hash.value(row as usize)).collect();
        let slots = self.slots(batch, &sent)?;
        let (features, sent, hashes, slots) = (&features, &sent, &hashes, &slots);
        let work = Work { features, sent, hashes, times: batch.times(&self.input), slots };
        self.scorer.score(&work, &mut self.keys, &mut outcome)?;
        self.tally(batch, sent, &outcome)?;
        Ok(outcome)
    }

    /// The rows that are neither another's, nor deleted, nor lack a feature, nor held back by the breaker.
    fn rows_to_send(
        &self,
        epoch: u64,
        batch: &Batch,
        mine: Option<&[bool]>,
        features: &FeatureColumns,
        outcome: &mut Outcome,
    ) -> Vec<u32> {
        let mut kept_back = match mine {
            Some(mine) => mine.iter().map(|mine| !mine).collect(),
            None => vec![false; batch.len()],
        };
        for (kept_back, deleted) in kept_back.iter_mut().zip(batch.deleted.iter().flatten()) {
            *kept_back |= deleted == Some(true);
        }
        for &feature in &self.version.recipe.required {
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
        if self.version.recipe.state_width > 0 {
            for &row in sent {
                slots.push(self.slot(batch, row)?);
            }
        }
        Ok(slots)
    }

    fn slot(&mut self, batch: &Batch, row: u32) -> Result<u32, Fault> {
        self.keys.slot(batch, self.input.key(), row as usize, KeyState::default)
    }

    fn tally(&mut self, batch: &Batch, sent: &[u32], outcome: &Outcome) -> Result<(), Fault> {
        for &row in sent {
            let hash = batch.key_hash.value(row as usize);
            let to_blame = outcome.rejected.get(&row).is_some_and(|(reason, _)| {
                *reason != reasons::INVALID_INPUT && *reason != reasons::BAD_OUTPUT
            });
            let (sent, failed) = self.tally.shards.entry(shard_of(hash)).or_default();
            *sent += 1;
            *failed += u64::from(to_blame);
            if to_blame {
                let slot = self.slot(batch, row)?;
                self.tally.failed.insert(hash, slot);
            } else if let Some(slot) = self.keys.find(hash)
                && !self.keys.get(slot).gate.is_clear()
            {
                self.tally.tried.insert(hash, slot);
            }
        }
        Ok(())
    }

    /// Moves the breakers on, once all rows of the epoch are through.
    pub(super) fn settle(&mut self, epoch: u64) {
        let tally = std::mem::take(&mut self.tally);
        let after = self.version.recipe.breaker_after;
        let mut shut = None;
        let failed = tally.failed.values().map(|slot| (*slot, true));
        let went_well = tally.tried.iter().filter(|(hash, _)| !tally.failed.contains_key(hash));
        for (slot, failed) in failed.chain(went_well.map(|(_, slot)| (*slot, false))) {
            let gate = &mut self.keys.get_mut(slot).gate;
            let was_shut = gate.was_shut();
            shut = shut.max(gate.settle(epoch, failed, after));
            self.shut_keys += u64::from(gate.was_shut());
            self.shut_keys -= u64::from(was_shut);
        }
        for (&shard, &(sent, failed)) in &tally.shards {
            let gate = &mut self.shard_gates[usize::from(shard)];
            if failed == sent || !gate.is_clear() {
                shut = shut.max(gate.settle(epoch, failed == sent, after));
                self.dirty_gates.insert(shard);
            }
        }
        if let Some(epochs) = shut {
            let (plugin, failed) = (&self.version.plugin.name, tally.failed.len());
            tracing::warn!(
                plugin,
                failed,
                "a key or shard that keeps failing is not sent for up to {epochs} epochs: plugin_breaker_open"
            );
        }
        let shut_shards = self.shard_gates.iter().filter(|gate| gate.was_shut()).count();
        self.share.is(self.scorer.healed(), self.shut_keys + shut_shards as u64);
    }

    pub(super) fn dirty(&self) -> ShardSet {
        let mut dirty = self.keys.dirty();
        for shard in self.dirty_gates.iter() {
            dirty.insert(shard);
        }
        dirty
    }

    pub(super) fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
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

    pub(super) fn load(
        &mut self,
        shard: u8,
        state_version: u32,
        state: &RecordBatch,
    ) -> Result<(), Fault> {
        let bad = || Fault::new("saved state cannot be read: it has no breaker");
        let gate = state.num_columns().checked_sub(1).ok_or_else(bad)?;
        let gates = state.column(gate).as_binary_opt::<i32>().ok_or_else(bad)?;
        if !gates.is_empty() {
            self.shard_gates[usize::from(shard)] =
                postcard::from_bytes(gates.value(0)).map_err(|_| bad())?;
        }
        let keys = state.project(&(0..gate).collect::<Vec<_>>())?;
        self.keys.load(&keys)?;
        let slots = 0..u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.shut_keys = slots.filter(|&s| self.keys.get(s).gate.was_shut()).count() as u64;
        let is_of_old = state_version != self.version.recipe.state_version;
        let kept = if is_of_old { self.migrate(state_version, shard) } else { Ok(()) };
        match kept.and_then(|()| self.check_width()) {
            Err(fault) if self.version.recipe.resets_state => {
                self.forget(shard);
                if !std::mem::replace(&mut self.was_reset, true) {
                    tracing::warn!("keys begin without state, as 'state: reset' says: {fault}");
                }
                Ok(())
            }
            Err(fault) => Err(Fault::new(format!(
                "{}; 'state: reset' lets all keys begin anew",
                fault.message
            ))),
            Ok(()) => Ok(()),
        }
    }

    /// Lets the keys of a shard begin anew.
    fn forget(&mut self, shard: u8) {
        for slot in self.keys.slots_by_hash().to_vec() {
            if shard_of(self.keys.hash(slot)) == shard {
                self.keys.get_mut(slot).state.clear();
            }
        }
    }

    /// Brings state of an older version to this one, key by key in the order it was saved.
    fn migrate(&mut self, from: u32, shard: u8) -> Result<(), Fault> {
        let slots: Vec<u32> = self.keys.slots_by_hash().to_vec();
        let of_shard = |s: &u32| shard_of(self.keys.hash(*s)) == shard;
        let slots: Vec<u32> = slots.into_iter().filter(of_shard).collect();
        let slots: Vec<u32> =
            slots.into_iter().filter(|&s| !self.keys.get(s).state.is_empty()).collect();
        let old: Vec<f64> = slots.iter().flat_map(|&s| self.keys.get(s).state.clone()).collect();
        let new = self.migrated(from, slots.len(), &old)?;
        for (slot, state) in slots.into_iter().zip(new) {
            self.keys.get_mut(slot).state = state;
        }
        Ok(())
    }

    /// State of `n_keys` of an older version, as this one has it.
    fn migrated(&mut self, from: u32, n_keys: usize, old: &[f64]) -> Result<Vec<Vec<f64>>, Fault> {
        if n_keys == 0 {
            return Ok(Vec::new());
        }
        let new = self.scorer.migrate(from, old)?;
        let width = self.version.recipe.state_width;
        if new.len() != n_keys * width {
            return Err(Fault::new("'migrate-state' answered a wrong number of values"));
        }
        Ok(new.chunks_exact(width).map(<[f64]>::to_vec).collect())
    }

    /// Goes on from the state that `other` has of keys which are handed over and of which this version has none: as it is
    /// where both mean the same by it, else as `migrate-state` rewrites it. A shard of which that cannot be done begins
    /// without state, as every key does that is new: the version was let in, so the pipeline goes on.
    pub(super) fn take_over(&mut self, other: &mut Seat, is_handed_over: impl Fn(u64) -> bool) {
        let (from, to) = (&other.version.recipe, &self.version.recipe);
        let (from_width, from_version) = (from.state_width, from.state_version);
        let same = from_width == to.state_width && from_version == to.state_version;
        if from_width == 0 || to.state_width == 0 || (!same && from_version == to.state_version) {
            return;
        }
        let mut by_shard: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        for slot in other.keys.slots_by_hash().to_vec() {
            let hash = other.keys.hash(slot);
            let is_new = self.keys.find(hash).is_none_or(|s| self.keys.get(s).state.is_empty());
            if is_new && !other.keys.get(slot).state.is_empty() && is_handed_over(hash) {
                by_shard.entry(shard_of(hash)).or_default().push(slot);
            }
        }
        for (shard, slots) in by_shard {
            let old = slots.iter().map(|&s| other.keys.get(s).state.clone());
            let states = if same {
                Ok(old.collect())
            } else {
                self.migrated(from_version, slots.len(), &old.flatten().collect::<Vec<_>>())
            };
            match states {
                Ok(states) => {
                    for (slot, state) in slots.into_iter().zip(states) {
                        let own = self.keys.slot_from(&mut other.keys, slot, KeyState::default);
                        self.keys.get_mut(own).state = state;
                    }
                }
                Err(fault) => tracing::warn!(shard, "a version begins without state: {fault}"),
            }
        }
    }

    fn check_width(&self) -> Result<(), Fault> {
        let width = self.version.recipe.state_width;
        let slots = 0..u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let found = slots.map(|s| self.keys.get(s).state.len()).find(|&n| n != 0 && n != width);
        found.map_or(Ok(()), |found| {
            Err(Fault::new(format!("saved state has {found} values a key, the model {width}")))
        })
    }
}

/// A place in a batch. Arrow's `take` counts in `u32`, and an epoch has far fewer rows.
pub(super) fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
