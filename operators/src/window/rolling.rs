//! The last so many rows of a key, for every row or every so many.
//!
//! Rows are counted, not values: a null takes a place in the window and is left out of its features. A row
//! out keeps the event time and position of the row it ends with. Windows of so many rows one after the other are the
//! same with another choice of rows that something comes out for.

use std::ops::Range;

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet,
};
use serde::{Deserialize, Serialize};

use super::evaluate::{Emitted, Evaluator, Taken};
use super::panes::Cut;
use crate::columns::same_version;
use crate::history::History;

/// Raised whenever `Last` changes.
pub(super) const STATE_VERSION: u32 = 2;

/// Which rows make a window, and for which something comes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Rows of a window.
    pub(super) rows: usize,
    /// A row comes out for every so many.
    pub(super) every: usize,
    /// Nothing comes out before so many.
    pub(super) min_rows: usize,
    /// The number of a row that one comes out for; the others are multiples of `every` away from it.
    pub(super) phase: usize,
    /// Time between two rows beyond which a key begins anew.
    pub(super) max_gap: Option<i64>,
}

impl Rule {
    /// Whether a row comes out for the `n`-th of a key, counted from 1.
    fn due(&self, n: u64) -> bool {
        let (every, phase) = (self.every as u64, self.phase as u64);
        n >= self.min_rows as u64 && n.abs_diff(phase).is_multiple_of(every)
    }

    fn is_gap(&self, from: i64, to: i64) -> bool {
        self.max_gap.is_some_and(|gap| to.saturating_sub(from) > gap)
    }

    /// One past the last row from `start` on that no gap is before.
    fn end_of_run(&self, times: &[i64], start: usize, end: usize) -> usize {
        if self.max_gap.is_none() {
            return end;
        }
        let gap = times[start..end].windows(2).position(|pair| self.is_gap(pair[0], pair[1]));
        gap.map_or(end, |at| start + at + 1)
    }
}

/// The last rows of a key since its last gap, how many it has had since, and when the last one was.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    n_rows: u64,
    at: i64,
    rows: History,
}

/// The operator.
#[derive(Debug)]
pub(super) struct LastRows {
    input: Schema,
    output: Schema,
    rule: Rule,
    evaluator: Evaluator,
    last: Keyed<Last>,
}

impl LastRows {
    pub(super) fn new(input: Schema, output: Schema, rule: Rule, evaluator: Evaluator) -> Self {
        let last = Keyed::new(&input);
        LastRows { input, output, rule, evaluator, last }
    }

    /// Takes in the rows `start..end` of a key, between which there is no gap.
    fn take_in(&mut self, batch: &Taken<'_>, slot: u32, run: Range<usize>, emitted: &mut Emitted) {
        let (rule, times) = (self.rule, batch.times);
        let last = self.last.get_mut(slot);
        if last.n_rows > 0 && rule.is_gap(last.at, times[run.start]) {
            *last = Last::default();
            self.evaluator.begin_key();
        }
        let kept = last.rows.len();
        last.rows.extend(times, &batch.channels, run.start, run.end);
        for (i, row) in run.clone().enumerate() {
            if rule.due(last.n_rows + 1 + i as u64) {
                let upto = kept + i + 1;
                emitted.row(slot, times[row], batch.positions[row]);
                let from = upto.saturating_sub(rule.rows);
                self.evaluator.evaluate(&last.rows, from..upto, Cut::Whole, emitted);
            }
        }
        last.n_rows += run.len() as u64;
        last.at = times[run.end - 1];
        let surplus = last.rows.len().saturating_sub(rule.rows - 1);
        self.evaluator.before_drop(&last.rows, surplus);
        last.rows.drop_first(surplus);
    }
}

impl Operator for LastRows {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let rows = inputs[0].rows;
        let schema = self.input.clone();
        let batch = Taken::new(rows, &schema, &self.evaluator)?;
        let mut emitted = self.evaluator.emitted();
        for Group { start, end, .. } in rows.groups() {
            let slot = self.last.slot(rows, self.input.key(), start, Last::default)?;
            self.evaluator.begin_key();
            let mut at = start;
            while at < end {
                let run = at..self.rule.end_of_run(batch.times, at, end);
                at = run.end;
                self.take_in(&batch, slot, run, &mut emitted);
            }
        }
        out.count(Account { used: rows.len() as u64, ..Account::default() });
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
