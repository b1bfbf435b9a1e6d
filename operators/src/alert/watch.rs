//! The operator: rows and watermarks in, changes of alerts out.
//!
//! For a key with watermark `w` all that elapses before `w` was told, so the next change is at or after `w`: watermarks
//! go on as they are. A key that is calm costs nothing but a look at what the conditions say: it has no state until
//! `when` holds.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet,
    Watermarks,
};

use super::STATE_VERSION;
use super::evidence::Evidence;
use super::history::{Entry, Told};
use super::judge::{Judge, Looked};
use super::life::{Event, Life, Rule};
use crate::columns::same_version;
use crate::stateless::Fate;

/// Watches the rows of a worker.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) input: Schema,
    pub(super) rule: Rule,
    pub(super) judge: Judge,
    pub(super) evidence: Evidence,
    pub(super) told: Told,
    pub(super) lives: Keyed<Life>,
    /// The bound below all watermarks that delays have elapsed for.
    pub(super) low: i64,
}

impl Watch {
    /// Takes in the rows of a key.
    fn take_in(
        &mut self,
        batch: &Batch,
        looked: &Looked,
        group: Group,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Fault> {
        let Some(first) = self.first_of_note(looked, group) else { return Ok(()) };
        let slot = self.lives.slot(batch, self.input.key(), group.start, Life::default)?;
        let times = batch.times(&self.input);
        let (rule, life) = (&self.rule, self.lives.get_mut(slot));
        let mut events = Vec::new();
        let mut before = None;
        let mut tell = |events: &mut Vec<Event>, evidence: &dyn Fn() -> Option<String>| {
            let told = events.drain(..);
            entries.extend(told.map(|event| Entry { slot, event, evidence: evidence() }));
        };
        for (row, &time) in (first..group.end).zip(&times[first..group.end]) {
            let is_calm = !rule.delays.is_deadman && life.is_calm() && !looked.alarms(row);
            if is_calm || looked.is_dead(row) {
                continue;
            }
            life.advance(rule, time, &mut events);
            tell(&mut events, &|| match before {
                Some(before) => Some(self.evidence.json(&batch.rows, before)),
                None => life.evidence.clone(),
            });
            let place = (time, batch.position.value(row));
            life.row(rule, place, &looked.says(row), &mut events);
            tell(&mut events, &|| Some(self.evidence.json(&batch.rows, row)));
            before = Some(row);
        }
        if let Some(row) = before {
            let waits = life.next(rule).is_some();
            life.evidence = waits.then(|| self.evidence.json(&batch.rows, row));
        }
        Ok(())
    }

    /// The first row of a key that may change something.
    fn first_of_note(&self, looked: &Looked, group: Group) -> Option<usize> {
        let life = self.lives.find(group.hash).map(|slot| self.lives.get(slot));
        if self.rule.delays.is_deadman || life.is_some_and(|life| !life.is_calm()) {
            return Some(group.start);
        }
        (group.start..group.end).find(|&row| looked.alarms(row))
    }

    /// Tells what elapses where nothing comes before the watermarks any more.
    fn advance(&mut self, watermarks: &Watermarks, entries: &mut Vec<Entry>) {
        let mut events = Vec::new();
        for (slot, at) in self.lives.reached(watermarks, &mut self.low) {
            // Looked at first, because a look does not mark the shard as changed.
            if self.lives.get(slot).next(&self.rule).is_none_or(|next| next >= at) {
                continue;
            }
            let life = self.lives.get_mut(slot);
            life.advance(&self.rule, at, &mut events);
            let told = events.drain(..);
            entries.extend(told.map(|event| {
                let evidence = life.evidence.clone();
                Entry { slot, event, evidence }
            }));
            if life.next(&self.rule).is_none() {
                life.evidence = None;
            }
        }
    }

    /// Says which rows cannot be used; how many.
    fn report(&self, batch: &Batch, looked: &Looked, out: &mut dyn Out) -> u64 {
        let mut dead = 0;
        for (row, fate) in looked.dead() {
            let Fate::Dead(reason, detail) = fate else { continue };
            out.dead(DeadLetter {
                key: Some(self.key_text(&batch.rows, row)),
                time: Some(batch.times(&self.input)[row]),
                position: Some(batch.position.value(row)),
                ..DeadLetter::new(*reason, detail.as_str())
            });
            dead += 1;
        }
        dead
    }

    fn key_text(&self, rows: &RecordBatch, row: usize) -> String {
        let texts = self.input.key().iter().map(|&k| {
            // The display of a key column, which is text or a whole number, does not fail.
            array_value_to_string(rows.column(k), row).unwrap_or_default()
        });
        texts.collect::<Vec<_>>().join(",")
    }
}

impl Operator for Watch {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let (batch, mut entries) = (inputs[0].rows, Vec::new());
        if !batch.is_empty() {
            let looked = self.judge.look(&batch.rows)?;
            let used = batch.len() as u64 - self.report(batch, &looked, out);
            out.count(Account { used, ..Account::default() });
            for group in batch.groups() {
                self.take_in(batch, &looked, group, &mut entries)?;
            }
        }
        self.advance(inputs[0].watermarks, &mut entries);
        if !entries.is_empty() {
            out.emit(self.told.batch(&entries, &mut self.lives)?);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.lives.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.lives.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.lives.load(&state)
    }
}
