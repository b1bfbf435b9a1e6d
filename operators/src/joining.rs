//! Rows of a left stream with rows of a right one of the same key: what the joins have in common.
//!
//! ```text
//! a left row at t is paired with right rows at t - before ..= t + after: with all of them, or with the latest
//! ```
//!
//! It waits until no right row at or before `t + after` can follow, so what comes out depends on the rows alone and not
//! on which stream was read faster. A right row is kept as long as a left row may come that it is to be paired with.
//! Both are bounded by `max_rows` a key: that alone depends on how far one stream is behind the other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::cast;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet,
    Watermarks,
};
use serde::{Deserialize, Serialize};

use crate::columns::same_version;
use crate::held::{Body, Codec, Held, Marks, WAITING_FULL};

pub(crate) use plan::{REFUSAL, Taking, both, can_meet, planned};

mod plan;

/// Raised whenever `Sides` changes.
pub(crate) const STATE_VERSION: u32 = 1;

/// Rows of a key that either side may keep unless `max_rows` says otherwise: a quarter of an hour at 100 Hz.
pub(crate) const DEFAULT_MAX_ROWS: usize = 100_000;

/// Which right rows a left row is paired with; lengths in the unit of the time domain.
#[derive(Debug, Clone)]
pub(crate) struct Pairing {
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) which: Which,
    /// Whether a left row without a right one goes out, with nulls.
    pub(crate) unmatched: bool,
    pub(crate) max_rows: usize,
}

/// Which of the right rows that are near enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Latest,
    /// All, numbered in a column of the output.
    All,
}

/// What the two sides of a join are and what comes out.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) left: Schema,
    pub(crate) right: Schema,
    pub(crate) output: Schema,
    /// The columns taken from the right.
    pub(crate) taken: Vec<usize>,
    /// Whether the event time of the right row is the column behind them.
    pub(crate) right_time: bool,
}

/// The rows of a key that wait or are waited for.
#[derive(Debug, Serialize, Deserialize)]
struct Sides {
    left: VecDeque<Held>,
    right: VecDeque<Held>,
    /// No row before these follows on either side, as far as is known of this key alone.
    fronts: [i64; 2],
    /// The watermark that was sent on.
    told: i64,
}

impl Default for Sides {
    fn default() -> Self {
        let (left, right) = (VecDeque::new(), VecDeque::new());
        Sides { left, right, fronts: [i64::MIN; 2], told: i64::MIN }
    }
}

impl Sides {
    fn pass(&mut self, side: usize, front: i64) {
        self.fronts[side] = self.fronts[side].max(front);
    }

    /// Pairs the left rows that all right rows are known for, and drops the right rows that none can need any more.
    fn settle(&mut self, hash: u64, lows: [i64; 2], pairing: &Pairing, out: &mut Paired) {
        let front = self.fronts[1].max(lows[1]);
        let known = |at: i64| front > at.saturating_add(pairing.after) || front == Watermarks::END;
        let mut last = None;
        while let Some(left) = self.left.pop_front_if(|left| known(left.at)) {
            self.pair(hash, left, pairing, &mut last, out);
        }
        let next = self.left.front().map_or(i64::MAX, |left| left.at);
        let next = next.min(self.fronts[0].max(lows[0]));
        let needed = match pairing.which {
            Which::All => 0,
            Which::Latest => self.right.partition_point(|r| r.at <= next).saturating_sub(1),
        };
        let oldest = next.saturating_sub(pairing.before);
        let gone = self.right.partition_point(|r| r.at < oldest).max(needed);
        self.right.drain(..gone);
    }

    fn pair(
        &self,
        hash: u64,
        left: Held,
        pairing: &Pairing,
        last: &mut Option<(usize, usize)>,
        out: &mut Paired,
    ) {
        let from = left.at.saturating_sub(pairing.before);
        let first = self.right.partition_point(|r| r.at < from);
        let end = self.right.partition_point(|r| r.at <= left.at.saturating_add(pairing.after));
        let first =
            if pairing.which == Which::Latest { first.max(end.saturating_sub(1)) } else { first };
        let end = end.max(first);
        if first == end && !pairing.unmatched {
            out.n_unmatched += 1;
            return;
        }
        out.n_paired += 1;
        let (at, position) = (left.at, left.position);
        let left = out.add_left(left.body);
        if first == end {
            out.push(hash, (at, position), left, (None, None));
        }
        for (number, right) in (0..).zip(first..end) {
            // Rows that share a right row are mostly neighbours.
            let place = match *last {
                Some((known, place)) if known == right => place,
                _ => out.add_right(&self.right[right]),
            };
            *last = Some((right, place));
            out.push(hash, (at, position), left, (Some(place), Some(number)));
        }
    }
}

/// Pairs that go out.
#[derive(Debug, Default)]
struct Paired {
    marks: Marks,
    lefts: Vec<Body>,
    rights: Vec<(Body, i64)>,
    /// The places of the two rows of each pair.
    pairs: Vec<(usize, Option<usize>)>,
    numbers: Vec<Option<i64>>,
    n_paired: u64,
    n_unmatched: u64,
}

impl Paired {
    fn add_left(&mut self, body: Body) -> usize {
        self.lefts.push(body);
        self.lefts.len() - 1
    }

    fn add_right(&mut self, row: &Held) -> usize {
        self.rights.push((row.body.clone(), row.at));
        self.rights.len() - 1
    }

    fn push(
        &mut self,
        hash: u64,
        (_, position): (i64, u64),
        left: usize,
        (right, number): (Option<usize>, Option<i64>),
    ) {
        self.marks.push(hash, position);
        self.pairs.push((left, right));
        self.numbers.push(number);
    }
}

/// The operator.
#[derive(Debug)]
pub(crate) struct Joining {
    shape: Shape,
    pairing: Pairing,
    codecs: [Codec; 2],
    keys: Keyed<Sides>,
    /// Bounds below all watermarks of the two inputs.
    lows: [i64; 2],
}

impl Joining {
    pub(crate) fn new(shape: Shape, pairing: Pairing) -> Result<Self, Fault> {
        let right: Vec<_> = shape.taken.iter().map(|&c| shape.right.columns()[c].clone()).collect();
        let codecs = [Codec::new(shape.left.columns())?, Codec::new(&right)?];
        let keys = Keyed::new(&shape.left);
        Ok(Joining { shape, pairing, codecs, keys, lows: [i64::MIN; 2] })
    }

    /// Takes in the rows of a side; how many of them found no room. The slots of their keys are added to `touched`.
    fn take_in(
        &mut self,
        side: usize,
        batch: &Batch,
        touched: &mut Touched,
        out: &mut dyn Out,
    ) -> Result<u64, Fault> {
        let schema = if side == 0 { self.shape.left.clone() } else { self.shape.right.clone() };
        let times = batch.times(&schema);
        let mut n_surplus = 0;
        for group in batch.groups() {
            let slot = self.keys.slot(batch, schema.key(), group.start, Sides::default)?;
            touched.slots.insert((group.hash, slot));
            let surplus = self.take_rows(side, slot, batch, times, group, &mut touched.paired);
            n_surplus += surplus.len() as u64;
            for row in surplus {
                out.dead(self.full(slot, times[row], batch.position.value(row)));
            }
        }
        Ok(n_surplus)
    }

    /// Takes in the rows of a key; those that found no room.
    fn take_rows(
        &mut self,
        side: usize,
        slot: u32,
        batch: &Batch,
        times: &[i64],
        group: Group,
        paired: &mut Paired,
    ) -> Vec<usize> {
        let mut surplus = Vec::new();
        let sides = self.keys.get_mut(slot);
        for (row, &at) in times[..group.end].iter().enumerate().skip(group.start) {
            sides.pass(side, at);
            let body = Body::Fresh(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
            let held = Held { at, position: batch.position.value(row), body };
            if side == 0 {
                sides.left.push_back(held);
                continue;
            }
            if sides.right.len() >= self.pairing.max_rows {
                sides.settle(group.hash, self.lows, &self.pairing, paired);
            }
            if sides.right.len() >= self.pairing.max_rows {
                surplus.push(row);
            } else {
                sides.right.push_back(held);
            }
        }
        surplus
    }

    fn full(&self, slot: u32, time: i64, position: u64) -> DeadLetter {
        let n = self.pairing.max_rows;
        let detail =
            format!("{n} rows of the key wait already for the other stream to come as far");
        DeadLetter {
            key: Some(self.keys.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(WAITING_FULL, detail)
        }
    }

    /// Notes how far each key of a side is complete.
    fn note(
        &mut self,
        side: usize,
        watermarks: &Watermarks,
        touched: &mut Touched,
    ) -> Result<(), Fault> {
        let n_keys = watermarks.key_hash.len();
        let none: UInt64Array = vec![0; n_keys].into();
        let keys = Batch::new(watermarks.keys.clone(), watermarks.key_hash.clone(), none)
            .map_err(|e| Fault::new(e.to_string()))?;
        let key: Vec<usize> = (0..keys.rows.num_columns()).collect();
        for (row, hash, at) in watermarks.iter() {
            let slot = self.keys.slot(&keys, &key, row, Sides::default)?;
            self.keys.get_mut(slot).pass(side, at);
            touched.slots.insert((hash, slot));
        }
        if watermarks.low > self.lows[side] {
            self.lows[side] = watermarks.low;
            let slots = self.keys.slots_by_hash().to_vec();
            touched.slots.extend(slots.into_iter().map(|s| (self.keys.hash(s), s)));
        }
        Ok(())
    }

    /// Pairs what can be, and lets go of left rows beyond what may wait; how many.
    fn settle(&mut self, touched: &mut Touched, out: &mut dyn Out) -> u64 {
        let mut n_surplus = 0;
        for &(hash, slot) in &touched.slots {
            let sides = self.keys.get(slot);
            if sides.left.is_empty() && sides.right.is_empty() {
                continue;
            }
            let sides = self.keys.get_mut(slot);
            sides.settle(hash, self.lows, &self.pairing, &mut touched.paired);
            let room = sides.left.len().min(self.pairing.max_rows);
            for row in sides.left.split_off(room) {
                n_surplus += 1;
                out.dead(self.full(slot, row.at, row.position));
            }
        }
        n_surplus
    }

    /// Keeps the rows of this epoch that still wait.
    fn keep(&mut self, columns: [&[ArrayRef]; 2], touched: &Touched) -> Result<(), Fault> {
        for &(_, slot) in &touched.slots {
            if self.keys.get(slot).left.is_empty() && self.keys.get(slot).right.is_empty() {
                continue;
            }
            let sides = self.keys.get_mut(slot);
            let lefts = sides.left.iter_mut().map(|row| &mut row.body);
            self.codecs[0].keep(columns[0], lefts)?;
            let rights = sides.right.iter_mut().map(|row| &mut row.body);
            self.codecs[1].keep(columns[1], rights)?;
        }
        Ok(())
    }

    /// The pairs as rows.
    fn rows(&self, paired: Paired, columns: [&[ArrayRef]; 2]) -> Result<Batch, Fault> {
        let lefts: Vec<_> = paired.pairs.iter().map(|p| Some((0, &paired.lefts[p.0]))).collect();
        let rights = paired.pairs.iter().map(|p| p.1.map(|right| &paired.rights[right]));
        let rights: Vec<_> = rights.collect();
        let mut all = self.codecs[0].columns(&[columns[0]], &lefts)?;
        let bodies: Vec<_> = rights.iter().map(|r| r.map(|(body, _)| (0, body))).collect();
        all.extend(self.codecs[1].columns(&[columns[1]], &bodies)?);
        if self.shape.right_time {
            let times = rights.iter().map(|r| r.map(|(_, at)| *at));
            let times: ArrayRef = Arc::new(times.collect::<Int64Array>());
            all.push(cast(&times, &self.shape.right.domain().data_type())?);
        }
        if self.pairing.which == Which::All {
            all.push(Arc::new(paired.numbers.into_iter().collect::<Int64Array>()));
        }
        paired.marks.batch(&self.shape.output, all)
    }

    /// What comes out is complete up to the first left row that waits.
    fn watermarks(&mut self, touched: &Touched) -> Watermarks {
        let [left, right] = self.lows;
        let low = match right {
            i64::MIN | Watermarks::END => left.min(right),
            right => left.min(right.saturating_sub(self.pairing.after)),
        };
        let (mut slots, mut hashes, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for &(hash, slot) in &touched.slots {
            let sides = self.keys.get(slot);
            let first = sides.left.front().map_or(i64::MAX, |row| row.at);
            let at = sides.fronts[0].max(left).min(first);
            if at > sides.told {
                self.keys.get_mut(slot).told = at;
                slots.push(slot);
                hashes.push(hash);
                marks.push(at);
            }
        }
        let keys =
            RecordBatch::try_new(self.shape.output.key_arrow(), self.keys.key_columns(&slots));
        Watermarks {
            keys: keys.expect("the key columns have the types of the schema"),
            key_hash: hashes.into(),
            at: marks.into(),
            low,
        }
    }
}

/// What an epoch has touched, in the order of keys, and the pairs that it made.
#[derive(Debug, Default)]
struct Touched {
    slots: BTreeSet<(u64, u32)>,
    paired: Paired,
}

impl Operator for Joining {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let (left, right) = (inputs[0].rows, inputs[1].rows);
        let taken: Vec<ArrayRef> =
            self.shape.taken.iter().map(|&c| right.rows.column(c).clone()).collect();
        let columns = [left.rows.columns(), taken.as_slice()];
        let mut touched = Touched::default();
        self.take_in(0, left, &mut touched, out)?;
        let lost = self.take_in(1, right, &mut touched, out)?;
        self.note(0, inputs[0].watermarks, &mut touched)?;
        self.note(1, inputs[1].watermarks, &mut touched)?;
        let n_surplus = self.settle(&mut touched, out);
        self.keep(columns, &touched)?;
        let watermarks = self.watermarks(&touched);
        let paired = std::mem::take(&mut touched.paired);
        let (used, filtered) = (paired.n_paired, paired.n_unmatched);
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let in_flight = whole(left.len() as u64) - whole(used + filtered + n_surplus);
        let used = used + right.len() as u64 - lost;
        out.count(Account { used, filtered, in_flight, ..Account::default() });
        if !paired.pairs.is_empty() {
            out.emit(self.rows(paired, columns)?);
        }
        out.watermarks(watermarks);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.keys.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.keys.load(&state)
    }
}

#[cfg(test)]
pub(crate) mod tests;
