//! What a refold says, against what was said before.

use std::cmp::Ordering;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::SortOptions;

use super::kept::{Kept, Pick, Version};
use super::{Correcting, Pass, unknown_key};
use crate::batch::Batch;
use crate::identity::Identity;
use crate::operator::Fault;

/// A row that was said, or is said now.
#[derive(Debug)]
enum Said {
    /// It is said for the first time.
    New(Kept<Version>),
    /// It is said again.
    Again { now: Kept<Version>, before: Kept<Version> },
    /// It is not said any more.
    Gone(Kept<Version>),
}

/// What is to be sent, by the places of the rows.
#[derive(Debug, Default)]
struct Changes {
    /// Rows of the refold.
    late: Vec<u32>,
    /// Rows of the refold with their revisions.
    changed: (Vec<u32>, Vec<u32>),
    /// Rows that were said before, with the revisions of their deletion.
    gone: (Vec<Pick>, Vec<u32>),
}

impl Correcting {
    /// Compares what a refold of some keys has emitted with what was said of them, notes it as said, and leaves the
    /// difference in `pass`.
    pub(super) fn compare(
        &mut self,
        slots: &[u32],
        emitted: &Batch,
        pass: &mut Pass,
    ) -> Result<(), Fault> {
        let matched = self.match_up(slots, emitted)?;
        let changed = self.changed(&matched)?;
        let mut changes = Changes::default();
        let mut changed = changed.into_iter();
        for (slot, said) in matched {
            let is_changed = matches!(said, Said::Again { .. }) && changed.next() == Some(true);
            let kept = changes.settle(slot, said, is_changed);
            let history = self.keys.get_mut(slot);
            history.n_deleted += usize::from(kept.note.deleted);
            history.said.push(kept);
            self.n_kept += 1;
        }
        self.send(emitted, changes, pass)
    }

    /// Pairs the rows of a refold with those said before, by primary key; takes the latter from their keys.
    fn match_up(&mut self, slots: &[u32], emitted: &Batch) -> Result<Vec<(u32, Said)>, Fault> {
        let mut added = self.said.add(emitted)?;
        let mut groups = emitted.groups().peekable();
        let mut matched = Vec::with_capacity(emitted.len());
        for &slot in slots {
            let hash = self.keys.hash(slot);
            let group = groups.next_if(|g| g.hash == hash);
            let rows = group.map_or(0..0, |g| g.start..g.end);
            let mut now: Vec<Kept<Version>> =
                rows.map(|row| added.row(row, Version::default())).collect();
            let history = self.keys.get_mut(slot);
            history.n_deleted = 0;
            let mut before = std::mem::take(&mut history.said);
            self.n_kept -= before.len();
            now.sort_by(|a, b| identity(self, a).cmp(&identity(self, b)));
            before.sort_by(|a, b| identity(self, a).cmp(&identity(self, b)));
            let (mut now, mut before) = (now.into_iter().peekable(), before.into_iter().peekable());
            loop {
                let order = match (now.peek(), before.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(a), Some(b)) => identity(self, a).cmp(&identity(self, b)),
                };
                let said = match (order, now.next_if(|_| order.is_le())) {
                    (Ordering::Less, Some(now)) => Said::New(now),
                    (_, now) => {
                        let before = before.next().expect("it was peeked at");
                        match now {
                            Some(now) => Said::Again { now, before },
                            None => Said::Gone(before),
                        }
                    }
                };
                matched.push((slot, said));
            }
        }
        if groups.next().is_some() { Err(unknown_key()) } else { Ok(matched) }
    }

    /// Of every row that is said again, whether it has other bits than before.
    fn changed(&self, matched: &[(u32, Said)]) -> Result<Vec<bool>, Fault> {
        let pairs = matched.iter().filter_map(|(_, said)| match said {
            Said::Again { now, before } => Some((now, before)),
            _ => None,
        });
        let (now, before): (Vec<_>, Vec<_>) = pairs.unzip();
        let mut changed: Vec<bool> = now
            .iter()
            .zip(&before)
            .map(|(now, before)| before.note.deleted || now.order() != before.order())
            .collect();
        let rows = |kept: &[&Kept<Version>]| -> Result<_, Fault> {
            Ok(self.said.bare(&kept.iter().map(|r| r.place).collect::<Vec<_>>())?)
        };
        mark_different(&rows(&now)?, &rows(&before)?, &mut changed)?;
        Ok(changed)
    }

    /// Puts what is to be sent in its lanes.
    fn send(&mut self, emitted: &Batch, changes: Changes, pass: &mut Pass) -> Result<(), Fault> {
        let Changes { late, changed: (changed, revisions), gone: (gone, deletions) } = changes;
        if !late.is_empty() {
            pass.late.push(emitted.take(&UInt32Array::from(late))?.sorted(self.said.schema())?);
        }
        let mut revised = Vec::new();
        if !changed.is_empty() {
            let rows = emitted.take(&UInt32Array::from(changed))?;
            let deleted = BooleanArray::from(vec![false; rows.len()]);
            let revision = Some(UInt32Array::from(revisions));
            revised.push(Batch { revision, deleted: Some(deleted), ..rows });
        }
        if !gone.is_empty() {
            let rows = self.said.gather(&mut self.keys, &gone)?;
            let deleted = BooleanArray::from(vec![true; rows.len()]);
            let revision = Some(UInt32Array::from(deletions));
            revised.push(Batch { revision, deleted: Some(deleted), ..rows });
        }
        if !revised.is_empty() {
            let schema = self.said.schema();
            pass.revised.push(Batch::concat(schema.arrow(), &revised)?.sorted(schema)?);
        }
        Ok(())
    }
}

fn identity<'a>(step: &Correcting, row: &'a Kept<Version>) -> Identity<'a> {
    row.identity(&step.said.identify)
}

impl Changes {
    /// Notes what is to be sent of a row; what is kept of it.
    fn settle(&mut self, slot: u32, said: Said, is_changed: bool) -> Kept<Version> {
        match said {
            Said::New(now) => {
                self.late.push(now.place.row);
                now
            }
            Said::Again { before, .. } if !is_changed => before,
            Said::Again { mut now, before } => {
                now.note.revision = before.note.revision + 1;
                self.changed.0.push(now.place.row);
                self.changed.1.push(now.note.revision);
                now
            }
            Said::Gone(before) if before.note.deleted => before,
            Said::Gone(mut before) => {
                before.note = Version { revision: before.note.revision + 1, deleted: true };
                self.gone.0.push(Pick::of(slot, &before));
                self.gone.1.push(before.note.revision);
                before
            }
        }
    }
}

/// Marks the rows in which two batches of one schema differ, floats by their bits.
fn mark_different(a: &RecordBatch, b: &RecordBatch, marks: &mut [bool]) -> Result<(), Fault> {
    for (a, b) in a.columns().iter().zip(b.columns()) {
        // It orders floats by IEEE 754's totalOrder, in which values are equal when their bits are.
        let compare = make_comparator(a, b, SortOptions::default())?;
        for (row, mark) in marks.iter_mut().enumerate() {
            *mark = *mark || compare(row, row).is_ne();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    fn differ(a: impl Into<ArrayRef>, b: impl Into<ArrayRef>) -> Vec<bool> {
        let [a, b] = [a.into(), b.into()].map(|c| RecordBatch::try_from_iter([("v", c)]).unwrap());
        let mut marks = vec![false; a.num_rows()];
        mark_different(&a, &b, &mut marks).unwrap();
        marks
    }

    #[test]
    fn floats_are_compared_by_their_bits() {
        let nan = |payload: u64| f64::from_bits(0x7ff8_0000_0000_0000 | payload);
        let a = [Some(0.0), Some(nan(0)), Some(nan(0)), None, None, Some(1.0)];
        let b = [Some(-0.0), Some(nan(0)), Some(nan(1)), None, Some(0.0), Some(1.0)];
        let column = |v: [Option<f64>; 6]| Arc::new(Float64Array::from(v.to_vec())) as ArrayRef;
        assert_eq!(differ(column(a), column(b)), [true, false, true, false, true, false]);
    }

    #[test]
    fn text_is_compared_by_value() {
        let column = |v: [Option<&str>; 3]| Arc::new(StringArray::from(v.to_vec())) as ArrayRef;
        let (a, b) = ([Some("x"), None, Some("")], [Some("x"), Some("y"), None]);
        assert_eq!(differ(column(a), column(b)), [false, true, true]);
    }
}
