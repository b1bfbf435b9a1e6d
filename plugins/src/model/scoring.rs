//! Calls into the plugin, and finding the rows to blame when one fails.
//!
//! A call that breaks the plugin is made once more in a fresh store: what a fresh instance answers is the outcome, so
//! that a guest's history never decides about a row. If it fails again, it is cut at shard borders and then halved
//! within a shard, in key and time order, each part with the state that the part before it left. What happens to a row
//! depends on the rows of its shard in this epoch and on nothing else, so the number of workers does not show.

use std::collections::BTreeMap;
use std::ops::Range;

use foreline_engine::{Fault, Keyed, Reason, shard_of};
use serde::{Deserialize, Serialize};

use super::breaker::Gate;
use super::rows::FeatureColumns;
use crate::sandbox::reasons;
use crate::sandbox::{Call, CallError, Instance, OutputKind, Scored, Shape, SharedPlugin};

/// Fresh stores that finding the rows to blame may take, for a shard in an epoch. Five poison rows of a thousand are
/// found with it.
const MAX_FRESH_STORES: u32 = 32;

/// What the step keeps for a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct KeyState {
    /// The plugin's numbers; empty for a key not seen before.
    pub(super) state: Vec<f64>,
    /// The breaker.
    pub(super) gate: Gate,
}

/// The rows of a batch that are sent.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) features: &'a FeatureColumns,
    /// Their places in the batch, in its order.
    pub(super) sent: &'a [u32],
    /// Hashes of their keys.
    pub(super) hashes: &'a [u64],
    /// Event times of all rows of the batch.
    pub(super) times: &'a [i64],
    /// Slots of their keys; empty when the model is stateless.
    pub(super) slots: &'a [u32],
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Outcome {
    /// rows × outputs, row-major; NaN where there is no score.
    pub(super) outputs: Vec<f64>,
    /// Rows that could not be scored, by their place in the batch.
    pub(super) rejected: BTreeMap<u32, (Reason, String)>,
}

impl Outcome {
    /// Rows of which none is scored.
    pub(super) fn nothing(n_rows: usize, n_outputs: usize) -> Self {
        Outcome { outputs: vec![f64::NAN; n_rows * n_outputs], rejected: BTreeMap::new() }
    }

    /// Takes the rows that are `mine` from another outcome of the same batch.
    pub(super) fn take_rows(&mut self, other: Outcome, mine: &[bool], n_outputs: usize) {
        self.copy_scores(&other, mine, n_outputs);
        self.rejected.extend(other.rejected.into_iter().filter(|(row, _)| mine[*row as usize]));
    }

    /// The same from one that is needed still.
    pub(super) fn copy_rows(&mut self, other: &Outcome, mine: &[bool], n_outputs: usize) {
        self.copy_scores(other, mine, n_outputs);
        let rejected = other.rejected.iter().filter(|(row, _)| mine[**row as usize]);
        self.rejected.extend(rejected.map(|(row, refusal)| (*row, refusal.clone())));
    }

    fn copy_scores(&mut self, other: &Outcome, mine: &[bool], n_outputs: usize) {
        let pairs =
            self.outputs.chunks_exact_mut(n_outputs).zip(other.outputs.chunks_exact(n_outputs));
        for ((to, from), _) in pairs.zip(mine).filter(|(_, mine)| **mine) {
            to.copy_from_slice(from);
        }
    }
}

/// A plugin at work in one step on one worker.
#[derive(Debug)]
pub(super) struct Scorer {
    plugin: SharedPlugin,
    shape: Shape,
    kinds: Vec<(OutputKind, usize)>,
    max_rows: usize,
    instance: Option<Instance>,
    /// Instances made so far.
    started: u32,
    /// Calls that broke an instance and went through in a fresh one.
    healed: u64,
    /// Fresh stores that shards have used up in this epoch.
    spent: BTreeMap<u8, u32>,
    matrix: Vec<f64>,
}

type Refusal = (Reason, String);

impl Scorer {
    /// A scorer; `kinds` are the outputs with the number of labels of each.
    pub(super) fn new(
        plugin: SharedPlugin,
        shape: Shape,
        kinds: Vec<(OutputKind, usize)>,
        max_rows: usize,
    ) -> Result<Self, Fault> {
        let mut scorer = Scorer {
            plugin,
            shape,
            kinds,
            max_rows,
            instance: None,
            started: 0,
            healed: 0,
            spent: BTreeMap::new(),
            matrix: Vec::new(),
        };
        scorer.instance()?;
        Ok(scorer)
    }

    /// Calls that broke an instance and went through in a fresh one.
    pub(super) fn healed(&self) -> u64 {
        self.healed
    }

    /// Forgets what the shards have used up.
    pub(super) fn begin_epoch(&mut self) {
        self.spent.clear();
    }

    /// Scores rows.
    pub(super) fn score(
        &mut self,
        work: &Work<'_>,
        keys: &mut Keyed<KeyState>,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        for call in calls(work.hashes, self.max_rows) {
            if self.attempt(work, call.clone(), keys, outcome)?.is_err() {
                for part in shard_runs(work.hashes, call) {
                    self.isolate(work, part, keys, outcome)?;
                }
            }
        }
        Ok(())
    }

    /// Rewrites state of an older version.
    pub(super) fn migrate(&mut self, from: u32, state: &[f64]) -> Result<Vec<f64>, Fault> {
        let migrated = self.instance()?.migrate(from, state);
        migrated.map_err(|e| {
            self.instance = None;
            Fault::new(format!("state of version {from} cannot be taken over: {e}"))
        })
    }

    /// Finds the rows of one shard that cannot be scored, and scores the others.
    fn isolate(
        &mut self,
        work: &Work<'_>,
        rows: Range<usize>,
        keys: &mut Keyed<KeyState>,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        let shard = shard_of(work.hashes[rows.start]);
        // The same start for the shard whatever was scored before it.
        self.instance = None;
        let mut parts = vec![rows];
        while let Some(part) = parts.pop() {
            if self.spent.get(&shard).is_some_and(|&spent| spent >= MAX_FRESH_STORES) {
                let message = format!("{MAX_FRESH_STORES} failures in the row's shard before it");
                reject(work, part, &(reasons::NOT_ISOLATED, message), outcome);
                continue;
            }
            let before = self.started;
            let answer = self.attempt(work, part.clone(), keys, outcome)?;
            *self.spent.entry(shard).or_default() += self.started - before;
            match answer {
                Ok(()) => {}
                Err(refusal) if part.len() == 1 => reject(work, part, &refusal, outcome),
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
        }
        Ok(())
    }

    /// One call; a second one in a fresh store if an instance that was not fresh breaks.
    fn attempt(
        &mut self,
        work: &Work<'_>,
        rows: Range<usize>,
        keys: &mut Keyed<KeyState>,
        outcome: &mut Outcome,
    ) -> Result<Result<(), Refusal>, Fault> {
        let mut broke: Option<Refusal> = None;
        loop {
            let was_fresh = self.instance.as_ref().is_none_or(Instance::is_fresh);
            match self.call(work, rows.clone(), keys) {
                Ok((scored, slots)) => {
                    if let Some((reason, message)) = broke {
                        self.heal(reason, &message);
                    }
                    self.accept(work, rows, &scored, outcome);
                    keep_state(&scored.state, &slots, self.shape.state_width, keys);
                    return Ok(Ok(()));
                }
                Err(CallError::Host(message)) => return Err(Fault::new(message)),
                Err(CallError::Said(reason, message)) => return Ok(Err((reason, message))),
                Err(CallError::Broke(reason, message)) => {
                    self.instance = None;
                    if was_fresh {
                        return Ok(Err((reason, message)));
                    }
                    broke = Some((reason, message));
                }
            }
        }
    }

    /// Tells of a call that went through in a fresh instance only: no row is to blame, but the plugin remembers something that
    /// it should not. Ever more seldom, as it may happen all the time.
    fn heal(&mut self, reason: Reason, message: &str) {
        self.healed += 1;
        if self.healed.is_power_of_two() {
            let (plugin, times) = (&self.plugin.name, self.healed);
            tracing::warn!(
                plugin,
                times,
                "a call went through in a fresh instance only: {message} ({reason})"
            );
        }
    }

    /// One call; with the scores, the slots that the rows of `state` belong to.
    fn call(
        &mut self,
        work: &Work<'_>,
        rows: Range<usize>,
        keys: &Keyed<KeyState>,
    ) -> Result<(Scored, Vec<u32>), CallError> {
        let mut matrix = std::mem::take(&mut self.matrix);
        work.features.fill(&work.sent[rows.clone()], &mut matrix);
        let (mut slot_of_row, mut slots, mut state) = (Vec::new(), Vec::new(), Vec::new());
        let mut times = Vec::new();
        if self.shape.state_width > 0 {
            times.extend(work.sent[rows.clone()].iter().map(|&row| work.times[row as usize]));
            for &slot in &work.slots[rows.clone()] {
                if slots.last() != Some(&slot) {
                    slots.push(slot);
                    let kept = &keys.get(slot).state;
                    state.extend_from_slice(kept);
                    state.resize(slots.len() * self.shape.state_width, f64::NAN);
                }
                slot_of_row.push(u32::try_from(slots.len() - 1).unwrap_or(u32::MAX));
            }
        }
        let shape = self.shape;
        let scored = match self.instance() {
            Ok(instance) => {
                let (n, slots) = (rows.len(), &slot_of_row);
                let rows = Call { n, features: &matrix, times: &times, slots, state: &state };
                instance.score(rows, shape)
            }
            Err(fault) => Err(CallError::Host(fault.message)),
        };
        self.matrix = matrix;
        Ok((scored?, slots))
    }

    fn instance(&mut self) -> Result<&mut Instance, Fault> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                self.started += 1;
                let started = Instance::start(&self.plugin);
                started.map_err(|e| Fault::new(format!("the plugin cannot start: {e}")))?.0
            }
        };
        Ok(self.instance.insert(instance))
    }

    /// Takes over scores; those that their kind does not allow are the row's fault.
    fn accept(&self, work: &Work<'_>, rows: Range<usize>, scored: &Scored, outcome: &mut Outcome) {
        let n = self.shape.n_outputs;
        for (&row, scores) in work.sent[rows].iter().zip(scored.outputs.chunks_exact(n)) {
            let wrong =
                scores.iter().zip(&self.kinds).find_map(|(s, (kind, n))| check(*s, kind, *n));
            match wrong {
                None => outcome.outputs[row as usize * n..][..n].copy_from_slice(scores),
                Some(message) => {
                    outcome.rejected.insert(row, (reasons::BAD_OUTPUT, message));
                }
            }
        }
    }
}

/// What is wrong with a score, if anything is.
fn check(score: f64, kind: &OutputKind, n_labels: usize) -> Option<String> {
    if score.is_nan() {
        return None;
    }
    if score.is_infinite() {
        return Some(format!("the score is {score}"));
    }
    let fits = match kind {
        OutputKind::Probability => (0.0..=1.0).contains(&score),
        OutputKind::ClassIndex => score.fract() == 0.0 && score >= 0.0 && score < n_labels as f64,
        _ => true,
    };
    (!fits).then(|| match kind {
        OutputKind::Probability => format!("{score} is not a probability"),
        _ => format!("{score} is not the index of one of {n_labels} labels"),
    })
}

fn reject(work: &Work<'_>, rows: Range<usize>, refusal: &Refusal, outcome: &mut Outcome) {
    for &row in &work.sent[rows] {
        outcome.rejected.insert(row, refusal.clone());
    }
}

fn keep_state(state: &[f64], slots: &[u32], width: usize, keys: &mut Keyed<KeyState>) {
    if width > 0 {
        for (&slot, state) in slots.iter().zip(state.chunks_exact(width)) {
            keys.get_mut(slot).state = state.to_vec();
        }
    }
}

/// The parts of `rows` that lie in one shard each.
fn shard_runs(hashes: &[u64], rows: Range<usize>) -> Vec<Range<usize>> {
    let start = rows.start;
    let runs = hashes[rows].chunk_by(|a, b| shard_of(*a) == shard_of(*b));
    runs.scan(start, |at, run| {
        let begin = *at;
        *at += run.len();
        Some(begin..*at)
    })
    .collect()
}

/// The rows of each call: whole shards as far as they fit. A shard that does not fit is cut from its own start, so
/// that its calls are the same with any number of workers.
fn calls(hashes: &[u64], max_rows: usize) -> Vec<Range<usize>> {
    let mut calls: Vec<Range<usize>> = Vec::new();
    for run in shard_runs(hashes, 0..hashes.len()) {
        match calls.last_mut() {
            Some(call) if run.end - call.start <= max_rows => call.end = run.end,
            _ => {
                let starts = run.clone().step_by(max_rows);
                calls.extend(starts.map(|start| start..(start + max_rows).min(run.end)));
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_hold_whole_shards_or_parts_of_one() {
        let hashes: Vec<u64> = [(0, 3), (1, 4), (2, 11), (3, 1), (4, 9)]
            .into_iter()
            .flat_map(|(shard, n)| std::iter::repeat_n(shard << 56, n))
            .collect();
        assert_eq!(calls(&hashes, 8), [0..7, 7..15, 15..19, 19..27, 27..28]);
    }

    #[test]
    fn scores_are_held_to_their_kind() {
        assert_eq!(check(f64::NAN, &OutputKind::Probability, 0), None);
        assert!(check(1.1, &OutputKind::Probability, 0).is_some());
        assert!(check(f64::NEG_INFINITY, &OutputKind::Value, 0).is_some());
        assert_eq!(check(2.0, &OutputKind::ClassIndex, 3), None);
        assert!(check(3.0, &OutputKind::ClassIndex, 3).is_some());
        assert!(check(0.5, &OutputKind::ClassIndex, 3).is_some());
    }
}
