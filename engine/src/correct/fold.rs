//! Folding rows anew: to correct what was said, and to move the base up.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::UInt64Type;

use super::kept::{History, Kept, Pick, Pool, Version};
use super::{Correcting, Heard, Pass, feed, unknown_key};
use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::epoch::Epoch;
use crate::identity::Identity;
use crate::keyed::{HASH_COLUMN, shard_of};
use crate::operator::{Fault, Operator, Out};
use crate::watermarks::Watermarks;

/// About how many rows are folded at a time, to bound what a copy of them takes.
const FOLD_ROWS: usize = 262_144;

impl Correcting {
    /// Folds the keys anew that got rows out of order.
    pub(super) fn refold(
        &mut self,
        epoch: &Epoch,
        pass: &mut Pass,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let slots: Vec<u32> = std::mem::take(&mut pass.refold).into_values().collect();
        let epoch = quiet(epoch);
        for part in self.parts(&slots, |history| history.rows.len()) {
            let (mut scratch, heard) = self.fold_again(&epoch, part)?;
            self.report(part, heard.dead, pass, out);
            let emitted = Batch::merge(self.said.schema(), heard.rows)?;
            self.compare(part, &emitted, pass)?;
            self.adopt(part, &mut *scratch)?;
        }
        Ok(())
    }

    /// A fresh instance that has taken in all kept rows of some keys, and what it said.
    pub(super) fn fold_again(
        &mut self,
        epoch: &Epoch,
        slots: &[u32],
    ) -> Result<(Box<dyn Operator>, Heard), Fault> {
        let low = self.low;
        let watermarks = self.watermarks(slots, |history| history.at.max(low), low)?;
        self.fold(epoch, slots, |history| history.rows.len(), &watermarks)
    }

    /// Gives a fresh instance the base of some keys and the first rows of each.
    fn fold(
        &mut self,
        epoch: &Epoch,
        slots: &[u32],
        n_rows: impl Fn(&History) -> usize,
        watermarks: &Watermarks,
    ) -> Result<(Box<dyn Operator>, Heard), Fault> {
        let mut picks = Vec::new();
        for &slot in slots {
            let history = self.keys.get(slot);
            picks.extend(history.rows[..n_rows(history)].iter().map(|r| Pick::of(slot, r)));
        }
        let rows = self.rows.gather(&mut self.keys, &picks)?;
        let mut scratch = self.maker.make()?;
        for (shard, slots) in self.by_shard(slots) {
            let Some(base) = self.base.get(&shard) else { continue };
            let (base, _) = split(base, &self.hashes(&slots))?;
            if base.num_rows() > 0 {
                scratch.load(shard, self.maker.version, base)?;
            }
        }
        let heard = feed(&mut *scratch, epoch, &rows, watermarks)?;
        Ok((scratch, heard))
    }

    /// Reports the rows of some keys that a refold could not use, unless that was known.
    fn report(&mut self, slots: &[u32], dead: Vec<DeadLetter>, pass: &mut Pass, out: &mut dyn Out) {
        // A letter that names no row is about the state, and was sent when that came about.
        let named = dead.into_iter().filter_map(|l| Some(((l.time?, l.position?), l)));
        let mut letters: BTreeMap<(i64, u64), DeadLetter> = named.collect();
        for &slot in slots {
            if letters.is_empty() {
                return;
            }
            for row in &mut self.keys.get_mut(slot).rows {
                let Some(letter) = letters.remove(&row.order()) else { continue };
                if std::mem::replace(&mut row.note.0, true) {
                    continue;
                }
                if pass.incoming.remove(&row.order()) {
                    pass.account.used -= 1;
                    out.dead(letter);
                } else {
                    out.dead_after_all(letter);
                }
            }
        }
    }

    /// Lets the live step go on from the state of an instance that was folded anew.
    pub(super) fn adopt(&mut self, slots: &[u32], scratch: &mut dyn Operator) -> Result<(), Fault> {
        for (shard, slots) in self.by_shard(slots) {
            let saved = scratch.save(shard)?;
            let known: BTreeSet<u64> = match &saved {
                Some(saved) => hashes_of(saved)?.values().iter().copied().collect(),
                None => BTreeSet::new(),
            };
            if let Some(saved) = saved {
                self.live.load(shard, self.maker.version, saved)?;
            }
            for slot in slots {
                let stale = !known.contains(&self.keys.hash(slot));
                if stale != self.keys.get(slot).stale {
                    self.keys.get_mut(slot).stale = stale;
                }
            }
        }
        Ok(())
    }

    /// Moves the base up when enough can be dropped by it, or when too much is kept.
    pub(super) fn move_base(&mut self, epoch: &Epoch, out: &mut dyn Out) -> Result<(), Fault> {
        let Bounded { due, full } = self.is_due();
        if !due || self.low == Watermarks::END {
            return Ok(());
        }
        let epoch = Epoch { ended: Vec::new(), ..quiet(epoch) };
        let low = self.low;
        let mut moved = Moved::new();
        self.fold_base(&epoch, |history| history.horizon.min(history.at.max(low)), &mut moved)?;
        if full {
            for cut in [self.median_time(), Watermarks::END] {
                if self.n_kept > self.bounds.most_rows {
                    self.fold_base(&epoch, |history| cut.min(history.at.max(low)), &mut moved)?;
                }
            }
        }
        self.n_needed = self.n_kept;
        if !moved.is_empty() {
            let slots: Vec<u32> = moved.values().map(|(slot, _)| *slot).collect();
            let mut horizon = self.watermarks(&slots, |_| i64::MIN, i64::MIN)?;
            horizon.at = moved.into_values().map(|(_, at)| at).collect::<Vec<_>>().into();
            out.horizon(horizon);
        }
        Ok(())
    }

    fn is_due(&self) -> Bounded {
        let full = self.n_kept > self.bounds.most_rows;
        Bounded { due: full || self.n_kept > 2 * self.n_needed + self.bounds.slack_rows, full }
    }

    /// A time with half of the kept rows before it.
    fn median_time(&mut self) -> i64 {
        let slots = self.keys.slots_by_hash().to_vec();
        let rows = slots.iter().flat_map(|&slot| &self.keys.get(slot).rows);
        let mut times: Vec<i64> = rows.map(|r| r.time).collect();
        let middle = times.len() / 2;
        if times.is_empty() { i64::MIN } else { *times.select_nth_unstable(middle).1 }
    }

    /// Moves the base of every key up to a time of its own.
    fn fold_base(
        &mut self,
        epoch: &Epoch,
        upto: impl Fn(&History) -> i64,
        moved: &mut Moved,
    ) -> Result<(), Fault> {
        let mut slots = self.keys.slots_by_hash().to_vec();
        slots.retain(|&slot| {
            let history = self.keys.get(slot);
            let upto = upto(history);
            upto > history.base && (history.before(upto) > 0 || !history.said.is_empty())
        });
        for part in self.parts(&slots, |history| history.before(upto(history))) {
            let watermarks = self.watermarks(part, &upto, i64::MIN)?;
            let n_rows = |history: &History| history.before(upto(history));
            let (mut scratch, heard) = self.fold(epoch, part, n_rows, &watermarks)?;
            let final_rows = Batch::merge(self.said.schema(), heard.rows)?;
            let settled = heard.watermarks.unwrap_or(watermarks);
            for (_, hash, at) in settled.iter() {
                let slot = self.keys.find(hash).ok_or_else(unknown_key)?;
                moved.insert(hash, (slot, at));
            }
            self.forget(part, &upto, &final_rows, moved)?;
            self.replace_base(part, &mut *scratch)?;
        }
        Ok(())
    }

    /// Forgets what is in the base by now: the rows folded into it, and what it said.
    fn forget(
        &mut self,
        slots: &[u32],
        upto: impl Fn(&History) -> i64,
        final_rows: &Batch,
        moved: &Moved,
    ) -> Result<(), Fault> {
        let rest = self.said.identify.rest(&final_rows.rows)?;
        let times = final_rows.times(self.said.schema());
        let mut groups = final_rows.groups().peekable();
        for &slot in slots {
            let hash = self.keys.hash(slot);
            let group = groups.next_if(|g| g.hash == hash);
            let identity = |r: usize| {
                self.said.identify.identity(times[r], final_rows.position.value(r), &rest[r])
            };
            let said: BTreeSet<Identity<'_>> =
                group.map(|g| (g.start..g.end).map(identity).collect()).unwrap_or_default();
            let history = self.keys.get_mut(slot);
            let before = history.len();
            history.base = upto(history);
            history.rows.drain(..history.before(history.base));
            let settled = moved.get(&hash).map_or(i64::MIN, |(_, at)| *at);
            if !history.forget_said(&self.said, &said, settled) {
                return Err(Fault::new(
                    "what the step emits depends on how its rows were cut (a bug in it)",
                ));
            }
            self.n_kept -= before - history.len();
        }
        if groups.next().is_some() { Err(unknown_key()) } else { Ok(()) }
    }

    fn replace_base(&mut self, slots: &[u32], scratch: &mut dyn Operator) -> Result<(), Fault> {
        for (shard, slots) in self.by_shard(slots) {
            let mut parts: Vec<RecordBatch> = Vec::new();
            if let Some(base) = self.base.remove(&shard) {
                parts.push(split(&base, &self.hashes(&slots))?.1);
            }
            parts.extend(scratch.save(shard)?);
            parts.retain(|p| p.num_rows() > 0);
            if let Some(first) = parts.first() {
                let base = concat_batches(&first.schema(), &parts)?;
                self.base.insert(shard, base);
            }
        }
        Ok(())
    }

    /// Copies the kept rows together where that frees enough.
    pub(super) fn tidy(&mut self) -> Result<(), Fault> {
        let n_kept = self.n_kept;
        if !self.rows.is_untidy(n_kept) && !self.said.is_untidy(n_kept) {
            return Ok(());
        }
        let histories = self.keys.states_mut();
        let rows = histories.iter_mut().flat_map(|h| &mut h.rows).map(|r| &mut r.place);
        self.rows.tidy(&mut rows.collect::<Vec<_>>())?;
        let said = histories.iter_mut().flat_map(|h| &mut h.said).map(|r| &mut r.place);
        self.said.tidy(&mut said.collect::<Vec<_>>())?;
        Ok(())
    }

    /// `slots` in parts that are not too large to be folded at once.
    fn parts<'a>(&self, slots: &'a [u32], n_rows: impl Fn(&History) -> usize) -> Vec<&'a [u32]> {
        let mut parts = Vec::new();
        let (mut start, mut n) = (0, 0);
        for (i, &slot) in slots.iter().enumerate() {
            n += n_rows(self.keys.get(slot));
            if n >= FOLD_ROWS || i + 1 == slots.len() {
                parts.push(&slots[start..=i]);
                (start, n) = (i + 1, 0);
            }
        }
        parts
    }

    fn by_shard(&self, slots: &[u32]) -> BTreeMap<u8, Vec<u32>> {
        let mut by_shard: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        for &slot in slots {
            by_shard.entry(shard_of(self.keys.hash(slot))).or_default().push(slot);
        }
        by_shard
    }

    fn hashes(&self, slots: &[u32]) -> BTreeSet<u64> {
        slots.iter().map(|&slot| self.keys.hash(slot)).collect()
    }
}

/// Whether the base is to be moved up.
struct Bounded {
    due: bool,
    /// More is kept than may be.
    full: bool,
}

/// Keys whose base was moved up, by hash, and up to where what they said is final.
type Moved = BTreeMap<u64, (u32, i64)>;

impl History {
    /// Forgets the rows that are final, and deleted ones that cannot come back; whether all of them were said.
    fn forget_said(
        &mut self,
        pool: &Pool,
        final_rows: &BTreeSet<Identity<'_>>,
        settled: i64,
    ) -> bool {
        let mut n_found = 0;
        let stays = |row: &Kept<Version>| {
            if row.note.deleted {
                return row.time >= settled;
            }
            let found = final_rows.contains(&row.identity(&pool.identify));
            n_found += usize::from(found);
            !found
        };
        self.said.retain(stays);
        self.n_deleted = self.said.iter().filter(|s| s.note.deleted).count();
        n_found == final_rows.len()
    }
}

/// The epoch as an instance sees it whose emissions are compared: without commands, which were carried out before.
fn quiet(epoch: &Epoch) -> Epoch {
    Epoch {
        id: epoch.id,
        clock_ns: epoch.clock_ns,
        inputs: Vec::new(),
        commands: Vec::new(),
        ended: epoch.ended.clone(),
    }
}

/// The rows of saved state whose key is among `hashes`, and the others.
fn split(state: &RecordBatch, hashes: &BTreeSet<u64>) -> Result<(RecordBatch, RecordBatch), Fault> {
    let is_in: Vec<bool> =
        hashes_of(state)?.values().iter().map(|hash| hashes.contains(hash)).collect();
    let not_in = is_in.iter().map(|found| !found).collect::<Vec<_>>();
    let (is_in, not_in) = (BooleanArray::from(is_in), BooleanArray::from(not_in));
    Ok((filter_record_batch(state, &is_in)?, filter_record_batch(state, &not_in)?))
}

/// The hashes of the keys that saved state is of.
pub(super) fn hashes_of(state: &RecordBatch) -> Result<&UInt64Array, Fault> {
    state
        .column_by_name(HASH_COLUMN)
        .and_then(|c| c.as_primitive_opt::<UInt64Type>())
        .ok_or_else(|| Fault::new(format!("the saved state has no column '{HASH_COLUMN}'")))
}
