//! Windows of rows that follow one another closely: a session ends when no row has come for a while.
//!
//! A session is `[first row, last row + gap)`, cut at `first row + max_length`: a row inside of that extends it, one
//! at or after its end begins another. Its event time is that end, because only then is it known to be over. A row
//! without room is a dead letter and extends its session all the same: the machine was there.
//!
//! For a key with watermark `w` every session that ends at or before `w` is closed, so the next row out is after
//! `w`: watermarks go on as they are.

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet, Watermarks,
};
use serde::{Deserialize, Serialize};

use super::evaluate::{Emitted, Evaluator, Taken, full};
use super::panes::Cut;
use super::timed::Limits;
use crate::columns::same_version;
use crate::history::History;

/// Raised whenever `Session` changes.
pub(super) const STATE_VERSION: u32 = 1;

/// When a session is over; lengths above 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Time without a row after which it is.
    pub(super) gap: i64,
    /// Time since its first row after which it is.
    pub(super) max_length: Option<i64>,
}

/// The open session of a key; it is none without rows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Session {
    first: i64,
    last: i64,
    /// The position of the last row that had room.
    position: u64,
    rows: History,
}

impl Session {
    fn is_open(&self) -> bool {
        self.rows.len() > 0
    }

    /// The first time that is not in it.
    fn end(&self, rule: Rule) -> i64 {
        let end = self.last.saturating_add(rule.gap);
        rule.max_length.map_or(end, |most| end.min(self.first.saturating_add(most)))
    }

    /// Whether a row at `time`, not before its last, belongs to it.
    fn holds(&self, time: i64, rule: Rule) -> bool {
        let within = |from: i64, length: i64| time.saturating_sub(from) < length;
        within(self.last, rule.gap) && rule.max_length.is_none_or(|most| within(self.first, most))
    }

    /// Emits it, unless it has too few rows, and begins anew.
    fn close(
        &mut self,
        slot: u32,
        end: i64,
        limits: Limits,
        evaluator: &mut Evaluator,
        emitted: &mut Emitted,
    ) {
        if self.rows.len() >= limits.min_rows {
            emitted.row(slot, end, self.position);
            emitted.span(self.first, self.last);
            evaluator.begin_key();
            evaluator.evaluate(&self.rows, 0..self.rows.len(), Cut::Whole, emitted);
        }
        self.rows.clear();
    }
}

/// The operator.
#[derive(Debug)]
pub(super) struct Sessions {
    input: Schema,
    output: Schema,
    rule: Rule,
    limits: Limits,
    evaluator: Evaluator,
    open: Keyed<Session>,
    /// The bound below all watermarks that sessions were closed for.
    low: i64,
}

impl Sessions {
    pub(super) fn new(
        input: Schema,
        output: Schema,
        rule: Rule,
        limits: Limits,
        evaluator: Evaluator,
    ) -> Self {
        let open = Keyed::new(&input);
        Sessions { input, output, rule, limits, evaluator, open, low: i64::MIN }
    }

    /// Takes in the rows of a key. Returns how many it used.
    fn take_in(
        &mut self,
        batch: &Taken<'_>,
        Group { start, end, .. }: Group,
        emitted: &mut Emitted,
        out: &mut dyn Out,
    ) -> Result<usize, Fault> {
        let slot = self.open.slot(batch.rows, self.input.key(), start, Session::default)?;
        let (rule, limits) = (self.rule, self.limits);
        let session = self.open.get_mut(slot);
        let mut surplus = Vec::new();
        let mut at = start;
        while at < end {
            let time = batch.times[at];
            if session.is_open() && !session.holds(time, rule) {
                let end = session.end(rule);
                session.close(slot, end, limits, &mut self.evaluator, emitted);
            }
            if !session.is_open() {
                (session.first, session.last) = (time, time);
            }
            let mut upto = at;
            while upto < end && session.holds(batch.times[upto], rule) {
                session.last = batch.times[upto];
                upto += 1;
            }
            let fits = (upto - at).min(limits.max_rows - session.rows.len());
            session.rows.extend(batch.times, &batch.channels, at, at + fits);
            if fits > 0 {
                session.position = batch.positions[at + fits - 1];
            }
            surplus.extend(at + fits..upto);
            at = upto;
        }
        for &row in &surplus {
            out.dead(full(&self.open, batch, slot, row, limits.max_rows));
        }
        Ok(end - start - surplus.len())
    }

    /// Closes what the watermarks close.
    fn close(&mut self, watermarks: &Watermarks, emitted: &mut Emitted) {
        for (slot, at) in self.open.reached(watermarks, &mut self.low) {
            self.close_key(slot, at, emitted);
        }
    }

    fn close_key(&mut self, slot: u32, watermark: i64, emitted: &mut Emitted) {
        // Looked at first, because a look does not mark the shard as changed.
        let session = self.open.get(slot);
        let end = session.end(self.rule);
        if session.is_open() && end <= watermark {
            let session = self.open.get_mut(slot);
            session.close(slot, end, self.limits, &mut self.evaluator, emitted);
        }
    }
}

impl Operator for Sessions {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let schema = self.input.clone();
        let batch = Taken::new(input.rows, &schema, &self.evaluator)?;
        let mut emitted = self.evaluator.emitted();
        let mut used = 0;
        for group in input.rows.groups() {
            used += self.take_in(&batch, group, &mut emitted, out)?;
        }
        self.close(input.watermarks, &mut emitted);
        out.count(Account { used: used as u64, ..Account::default() });
        if let Some(rows) = self.evaluator.batch(emitted, &mut self.open, &self.output)? {
            out.emit(rows);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.open.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.open.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.open.load(&state)
    }
}
