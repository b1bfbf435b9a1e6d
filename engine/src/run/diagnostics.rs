//! The streams that say what became of rows, `dead_letters` and `late`, sorted so that the number of workers does not show.

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::dead::{DeadLetter, dead_letters_to_batch};
use crate::late::{LateRow, late_rows_to_batch};
use crate::run::hub::Places;
use crate::source::Position;
use crate::vitals::About;

/// What is known of where rows come from.
pub(crate) struct Origins {
    /// Names of sources and steps, and for each the source that it reads, if it is only one.
    pub nodes: Vec<(String, Option<usize>)>,
    pub places: Places,
}

impl Origins {
    /// Dead letters in the order of operators and positions.
    pub(crate) fn sorted(&self, by_worker: BTreeMap<usize, Vec<DeadLetter>>) -> Vec<DeadLetter> {
        let mut letters: Vec<DeadLetter> = by_worker.into_values().flatten().collect();
        letters.sort_by_key(|l| (self.rank(&l.operator), l.position, l.reason));
        letters
    }

    /// Dead letters as rows, if there are any.
    pub(crate) fn dead_letters(&self, letters: &[DeadLetter]) -> Option<Batch> {
        let place = |letter: &DeadLetter| self.place(&letter.operator, letter.position?);
        (!letters.is_empty()).then(|| dead_letters_to_batch(letters, &place))
    }

    /// Late rows as rows, if there are any: those that corrected the result, and those among the dead letters.
    pub(crate) fn late(
        &self,
        epoch: u64,
        corrected: BTreeMap<usize, Vec<LateRow>>,
        letters: &[DeadLetter],
    ) -> Option<Batch> {
        let mut late: Vec<LateRow> = corrected.into_values().flatten().collect();
        late.extend(letters.iter().filter_map(LateRow::of_letter));
        late.sort_by_key(|l| (self.rank(&l.operator), l.position));
        let places: Vec<_> = late.iter().map(|l| self.place(&l.operator, l.position)).collect();
        (!late.is_empty()).then(|| late_rows_to_batch(&late, &places, epoch))
    }

    /// The source of a dead letter, and there the file and line.
    pub(crate) fn about(&self, letter: &DeadLetter) -> About {
        let node = self.nodes.iter().find(|(name, _)| **name == *letter.operator);
        let source = node.and_then(|(_, source)| self.nodes.get((*source)?));
        let place = letter.position.and_then(|at| self.place(&letter.operator, at));
        (source.map(|(name, _)| name.clone()), place)
    }

    fn rank(&self, operator: &str) -> Option<usize> {
        self.nodes.iter().position(|(name, _)| name == operator)
    }

    /// The file and line of a row that `operator` has seen.
    fn place(&self, operator: &str, position: u64) -> Option<(String, u64)> {
        let position = Position(position);
        let (_, source) = self.nodes.iter().find(|(name, _)| name == operator)?;
        let places = self.places.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = places.get(&((*source)?, position.partition()))?;
        Some((name.clone(), position.ordinal()))
    }
}
