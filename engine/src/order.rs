//! The one ordering step of a source: rows as they were read in, rows in event-time order per key out.
//!
//! For each key, in the order of the source: repeated rows go (`dedupe`), then clocks are set right (`device_clock`), then
//! rows too far ahead of the clock go (`max_ahead`), then rows behind the key's watermark (late). What is left waits
//! until the watermark has reached it.
//!
//! With `m` the greatest event time a key has shown and `L` the lateness, its watermark is `w = m − L`. A row with
//! time `t < w` is late; held rows with `t ≤ w` are released, sorted by (t, position). Both depend on the rows before
//! in the source alone, so where epochs were cut does not show. The exceptions are asked for: a key idle for longer than
//! `idle_timeout` has `w` move on with the epochs' clock, and `max_ahead` and a `device_clock` without a column of
//! arrivals compare with it. That clock is journaled.

mod clock;
mod dedupe;
mod rows;
mod saved;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use xxhash_rust::xxh3::xxh3_128;

use self::clock::{Clocks, Off};
use self::dedupe::{Seen, push_value};
use crate::account::Account;
use crate::batch::Batch;
use crate::dead::{DeadLetter, Reason};
use crate::epoch::Epoch;
use crate::graph::{ClockPolicy, LatePolicy, OrderRules};
use crate::keyed::Keyed;
use crate::late::{LateRow, Outcome};
use crate::operator::Fault;
use crate::schema::{Schema, TimeDomain};
use crate::watermarks::Watermarks;

/// What the ordering step says about an epoch.
#[derive(Debug)]
pub(crate) struct Ordered {
    /// Rows in order, sorted by (key hash, time, position).
    pub rows: Option<Batch>,
    /// Late rows that may still correct the result.
    pub late: Option<Batch>,
    /// The same rows, with what each was behind.
    pub corrected: Vec<LateRow>,
    /// Progress of the keys.
    pub watermarks: Watermarks,
    /// Up to where no late row of a later epoch can correct; `None` when that has not moved.
    pub horizon: Option<Watermarks>,
    /// Rows that could not be used.
    pub dead: Vec<DeadLetter>,
    /// What became of the rows.
    pub account: Account,
}

/// Where a row lies among the batches that are kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    batch: u32,
    row: u32,
}

/// A row that waits for its watermark.
#[derive(Debug, Clone, Copy)]
struct Held {
    time: i64,
    position: u64,
    place: Place,
}

/// A row that has just come in.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    slot: u32,
    place: Place,
    /// The event time that counts.
    time: i64,
    position: u64,
}

/// What is known of a key.
#[derive(Debug)]
struct KeyState {
    /// Greatest event time so far.
    max: i64,
    watermark: i64,
    /// Clock of the epoch that last had a row.
    seen_ns: i64,
    held: Vec<Held>,
    seen: Seen,
}

/// The ordering step of one source on one worker.
#[derive(Debug)]
pub(crate) struct Orderer {
    schema: Schema,
    rules: OrderRules,
    keys: Keyed<KeyState>,
    batches: Vec<Batch>,
    n_held: usize,
    ended: bool,
    scratch: Scratch,
}

/// Buffers kept from epoch to epoch.
#[derive(Debug, Default)]
struct Scratch {
    slot_of_row: Vec<u32>,
    count: Vec<u32>,
    touched: Vec<u32>,
    rows: Vec<Place>,
}

impl Orderer {
    pub(crate) fn new(schema: Schema, rules: OrderRules) -> Self {
        Orderer {
            keys: Keyed::new(&schema),
            schema,
            rules,
            batches: Vec::new(),
            n_held: 0,
            ended: false,
            scratch: Scratch::default(),
        }
    }

    /// Takes the rows of an epoch in, in any order of batches; `ended` says that nothing follows.
    pub(crate) fn epoch(
        &mut self,
        epoch: &Epoch,
        mut incoming: Vec<Batch>,
        ended: bool,
    ) -> Result<Ordered, Fault> {
        incoming.retain(|b| !b.is_empty());
        incoming.sort_by_key(|b| b.position.value(0));
        let n_before = self.n_held;
        let first_new = self.batches.len();
        let clock = self.rules.device_clock.as_ref();
        let clocks =
            Clocks::look_at(&mut incoming, first_new, &self.schema, clock, epoch.clock_ns)?;
        self.batches.append(&mut incoming);
        self.group(first_new)?;
        let mut pass = Pass::new(epoch.clock_ns, clocks);
        self.sift(&mut pass);
        if let Some(timeout) = self.rules.idle_timeout_ns {
            self.advance_idle(timeout, &mut pass);
        }
        if ended && !self.ended {
            self.ended = true;
            self.release_all(&mut pass);
        }
        let n_released = pass.released.len();
        let mut account = pass.account;
        account.used += n_released as u64;
        account.in_flight += self.n_held as i64 - n_before as i64;
        let watermarks = self.watermarks(&pass.risen);
        let ordered = Ordered {
            rows: self.gather(&pass.released, &pass.released_slots)?,
            late: self.gather(&pass.late, &pass.late_slots)?,
            corrected: pass.corrected,
            horizon: self.horizon(&watermarks),
            watermarks,
            dead: pass.dead,
            account,
        };
        self.tidy()?;
        Ok(ordered)
    }

    /// Groups the rows of the batches from `first_new` on by key, keeping their order: a counting sort whose
    /// result lies in `scratch.rows`, the keys in `scratch.touched`, sorted by hash.
    fn group(&mut self, first_new: usize) -> Result<(), Fault> {
        let Scratch { slot_of_row, count, touched, rows } = &mut self.scratch;
        slot_of_row.clear();
        touched.clear();
        let key = self.schema.key();
        for batch in &self.batches[first_new..] {
            let mut last: Option<(u64, u32)> = None;
            for (row, &hash) in batch.key_hash.values().iter().enumerate() {
                let slot = match last {
                    Some((h, slot)) if h == hash => slot,
                    _ => match self.keys.find(hash) {
                        Some(slot) => slot,
                        None => self.keys.slot(batch, key, row, KeyState::new)?,
                    },
                };
                last = Some((hash, slot));
                if slot as usize >= count.len() {
                    count.resize(slot as usize + 1, 0);
                }
                if count[slot as usize] == 0 {
                    touched.push(slot);
                }
                count[slot as usize] += 1;
                slot_of_row.push(slot);
            }
        }
        touched.sort_unstable_by_key(|&s| self.keys.hash(s));
        // From counts to where each key's rows begin, and from there to where they end.
        let mut begin = 0;
        for &slot in touched.iter() {
            begin += std::mem::replace(&mut count[slot as usize], begin);
        }
        rows.clear();
        rows.resize(slot_of_row.len(), Place { batch: 0, row: 0 });
        let mut slots = slot_of_row.iter();
        for (b, batch) in self.batches.iter().enumerate().skip(first_new) {
            let batch_id = u32::try_from(b).expect("fewer than 2^32 batches are kept");
            for (row, &slot) in (0..batch.len()).zip(&mut slots) {
                let at = &mut count[slot as usize];
                let row = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
                rows[*at as usize] = Place { batch: batch_id, row };
                *at += 1;
            }
        }
        Ok(())
    }

    /// Goes through the new rows key by key and lets each wait, pass or go.
    fn sift(&mut self, pass: &mut Pass) {
        let touched = std::mem::take(&mut self.scratch.touched);
        let rows = std::mem::take(&mut self.scratch.rows);
        let mut begin = 0;
        for &slot in &touched {
            let end = std::mem::take(&mut self.scratch.count[slot as usize]) as usize;
            self.sift_key(slot, &rows[begin..end], pass);
            begin = end;
        }
        self.scratch.touched = touched;
        self.scratch.rows = rows;
    }

    fn sift_key(&mut self, slot: u32, rows: &[Place], pass: &mut Pass) {
        let mut state = std::mem::replace(self.keys.get_mut(slot), KeyState::new());
        let before = state.watermark;
        state.seen_ns = pass.clock_ns;
        let n_held = state.held.len();
        if !self.sift_in_order(slot, rows, &mut state, pass) {
            for &place in rows {
                self.sift_row(slot, place, &mut state, pass);
            }
        }
        state.release(slot, pass);
        self.n_held = self.n_held - n_held + state.held.len();
        if state.watermark > before {
            pass.risen.push((slot, state.watermark));
        }
        *self.keys.get_mut(slot) = state;
    }

    fn time(&self, place: Place) -> i64 {
        let column = self.batches[place.batch as usize].rows.column(self.schema.time());
        crate::batch::times_of(column, self.schema.domain())[place.row as usize]
    }

    /// The short way for rows that are in order already and need no look at each: what the watermark passes is
    /// released without ever being held. Does nothing and says `false` where it does not apply.
    fn sift_in_order(
        &self,
        slot: u32,
        rows: &[Place],
        state: &mut KeyState,
        pass: &mut Pass,
    ) -> bool {
        let by_row = !self.rules.dedupe.is_empty() || self.rules.max_ahead.is_some();
        if by_row || !pass.clocks.are_right() {
            return false;
        }
        let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return true };
        if self.time(first) < state.max.max(state.watermark) || !self.are_in_order(rows) {
            return false;
        }
        state.max = self.time(last);
        state.watermark = state.watermark.max(state.max.saturating_sub(self.rules.lateness));
        // What was held before comes first: it is older.
        let n_held = state.held.partition_point(|h| h.time <= state.watermark);
        let n_new = if n_held == state.held.len() {
            rows.partition_point(|&p| self.time(p) <= state.watermark)
        } else {
            0
        };
        if n_new > 0 {
            state.release(slot, pass);
            pass.released.extend_from_slice(&rows[..n_new]);
            pass.released_slots.extend(std::iter::repeat_n(slot, n_new));
        }
        state.held.extend(rows[n_new..].iter().map(|&place| {
            let position = self.batches[place.batch as usize].position.value(place.row as usize);
            Held { time: self.time(place), position, place }
        }));
        true
    }

    fn are_in_order(&self, rows: &[Place]) -> bool {
        let mut last = i64::MIN;
        rows.iter().all(|&place| {
            let time = self.time(place);
            time >= std::mem::replace(&mut last, time)
        })
    }

    /// The long way: row by row.
    fn sift_row(&self, slot: u32, place: Place, state: &mut KeyState, pass: &mut Pass) {
        let time = self.time(place);
        let position = self.batches[place.batch as usize].position.value(place.row as usize);
        let row = Incoming { slot, place, time, position };
        let off = pass.clocks.off(place);
        let is_dead = off.is_some_and(|_| self.refuses_clocks());
        if self.is_repeated(&row, state, pass) {
            pass.account.deduplicated += 1;
            return;
        }
        pass.account.restamped += u64::from(off.is_some() && !is_dead);
        if let (Some(off), true) = (off, is_dead) {
            let letter = self.letter(&row, Reason::CLOCK_OFF, self.clock_off(off));
            pass.dead.push(DeadLetter { time: off.device, ..letter });
            pass.account.dead += 1;
        } else if time > self.latest(pass.clock_ns) {
            let time = self.show(time);
            let detail =
                format!("event time {time} is further ahead of the clock than 'max_ahead' allows");
            pass.dead.push(self.letter(&row, Reason::TOO_FAR_AHEAD, detail));
            pass.account.dead += 1;
        } else if time < state.watermark {
            self.late(&row, state, pass);
        } else {
            state.take_in(Held { time, position, place });
            if time > state.max {
                state.max = time;
                state.watermark = state.watermark.max(time.saturating_sub(self.rules.lateness));
            }
        }
    }

    fn is_repeated(&self, row: &Incoming, state: &mut KeyState, pass: &Pass) -> bool {
        if self.rules.dedupe.is_empty() {
            return false;
        }
        let place = row.place;
        let rows = &self.batches[place.batch as usize].rows;
        let mut bytes = Vec::with_capacity(64);
        for &column in &self.rules.dedupe {
            let sent = pass.clocks.sent(place).filter(|_| column == self.schema.time());
            push_value(&mut bytes, sent.unwrap_or(rows.column(column)), place.row as usize);
        }
        // A time that is not believed must not keep what came after it from being forgotten.
        let believed = match pass.clocks.off(place).map_or(row.time, |off| off.arrival) {
            time if time <= self.latest(pass.clock_ns) => time,
            _ if state.max == i64::MIN => pass.clock_ns,
            _ => state.max,
        };
        if !state.seen.insert(believed, xxh3_128(&bytes)) {
            return true;
        }
        if state.max != i64::MIN {
            state.seen.forget(state.max.saturating_sub(self.rules.dedupe_within));
        }
        false
    }

    fn refuses_clocks(&self) -> bool {
        let clock = self.rules.device_clock.as_ref();
        clock.is_some_and(|clock| clock.otherwise == ClockPolicy::DeadLetter)
    }

    /// The latest event time that `max_ahead` allows.
    fn latest(&self, clock_ns: i64) -> i64 {
        self.rules.max_ahead.map_or(i64::MAX, |ahead| clock_ns.saturating_add(ahead))
    }

    fn late(&self, row: &Incoming, state: &KeyState, pass: &mut Pass) {
        if let LatePolicy::Correct(within) = self.rules.late
            && row.time >= state.watermark.saturating_sub(within)
        {
            pass.late.push(row.place);
            pass.late_slots.push(row.slot);
            pass.corrected.push(LateRow {
                operator: Arc::from(""),
                key: self.keys.key_text(row.slot),
                time: row.time,
                watermark: state.watermark,
                outcome: Outcome::Corrected,
                position: row.position,
            });
            pass.account.used += 1;
            pass.account.corrected += 1;
        } else {
            let (time, watermark) = (self.show(row.time), self.show(state.watermark));
            let detail = format!("event time {time} is behind the key's watermark {watermark}");
            let letter = self.letter(row, Reason::LATE, detail);
            pass.dead.push(DeadLetter { watermark: Some(state.watermark), ..letter });
            pass.account.late += 1;
        }
    }

    fn letter(&self, row: &Incoming, reason: Reason, detail: String) -> DeadLetter {
        DeadLetter {
            key: Some(self.keys.key_text(row.slot)),
            time: Some(row.time),
            position: Some(row.position),
            ..DeadLetter::new(reason, detail)
        }
    }

    fn clock_off(&self, off: Off) -> String {
        let arrival = self.show(off.arrival);
        match off.device {
            Some(device) => format!(
                "the device's stamp {} and the arrival {arrival} are further apart than 'device_clock' allows",
                self.show(device)
            ),
            None => format!("the device gave no stamp to the row that arrived at {arrival}"),
        }
    }

    fn show(&self, time: i64) -> String {
        show_time(time, self.schema.domain())
    }

    /// Lets the watermark of silent keys move on with the clock.
    fn advance_idle(&mut self, timeout_ns: i64, pass: &mut Pass) {
        let slots = self.keys.slots_by_hash().to_vec();
        let mut released = 0;
        for slot in slots {
            let state = self.keys.get(slot);
            let silent = pass.clock_ns.saturating_sub(state.seen_ns);
            if silent < timeout_ns || state.max == i64::MIN {
                continue;
            }
            let mark = state.max.saturating_add(silent).saturating_sub(self.rules.lateness);
            if mark <= state.watermark {
                continue;
            }
            let state = self.keys.get_mut(slot);
            state.watermark = mark;
            released += state.release(slot, pass);
            pass.risen.push((slot, mark));
        }
        self.n_held -= released;
        self.sort_by_hash(pass);
    }

    fn release_all(&mut self, pass: &mut Pass) {
        for slot in self.keys.slots_by_hash().to_vec() {
            if !self.keys.get(slot).held.is_empty() {
                let state = self.keys.get_mut(slot);
                state.watermark = Watermarks::END;
                self.n_held -= state.release(slot, pass);
            }
        }
        self.sort_by_hash(pass);
    }

    /// Restores the order by key hash after rows of some keys were appended; the order within a key stays.
    fn sort_by_hash(&self, pass: &mut Pass) {
        let mut both: Vec<_> =
            pass.released_slots.iter().copied().zip(pass.released.iter().copied()).collect();
        both.sort_by_key(|&(slot, _)| self.keys.hash(slot));
        (pass.released_slots, pass.released) = both.into_iter().unzip();
        pass.risen.sort_by_key(|&(slot, at)| (self.keys.hash(slot), at));
        pass.risen.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
    }

    fn watermarks(&mut self, risen: &[(u32, i64)]) -> Watermarks {
        let slots: Vec<u32> = risen.iter().map(|&(slot, _)| slot).collect();
        let columns = self.keys.key_columns(&slots);
        Watermarks {
            keys: RecordBatch::try_new(self.schema.key_arrow(), columns)
                .expect("key columns are made from the schema"),
            key_hash: slots.iter().map(|&s| self.keys.hash(s)).collect(),
            at: risen.iter().map(|&(_, at)| at).collect::<Int64Array>(),
            low: if self.ended { Watermarks::END } else { i64::MIN },
        }
    }

    /// Late rows of the next epoch are at or after this: they are compared with watermarks that never fall.
    fn horizon(&self, watermarks: &Watermarks) -> Option<Watermarks> {
        let LatePolicy::Correct(within) = self.rules.late else { return None };
        if watermarks.key_hash.is_empty() {
            return None;
        }
        let at = watermarks.at.values().iter().map(|at| at.saturating_sub(within));
        Some(Watermarks { at: at.collect::<Int64Array>(), low: i64::MIN, ..watermarks.clone() })
    }
}

impl KeyState {
    fn new() -> Self {
        KeyState {
            max: i64::MIN,
            watermark: i64::MIN,
            seen_ns: 0,
            held: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Puts a row among those that wait, in its place by (time, position).
    fn take_in(&mut self, row: Held) {
        let after = |h: &Held| (h.time, h.position) > (row.time, row.position);
        if self.held.last().is_none_or(|last| !after(last)) {
            self.held.push(row);
        } else {
            let at = self.held.partition_point(|h| !after(h));
            self.held.insert(at, row);
        }
    }

    /// Lets go what the watermark has reached; how many rows.
    fn release(&mut self, slot: u32, pass: &mut Pass) -> usize {
        let n = self.held.partition_point(|h| h.time <= self.watermark);
        pass.released.extend(self.held.drain(..n).map(|h| h.place));
        pass.released_slots.extend(std::iter::repeat_n(slot, n));
        n
    }
}

/// What one epoch has brought about so far.
#[derive(Debug)]
struct Pass {
    clock_ns: i64,
    clocks: Clocks,
    released: Vec<Place>,
    released_slots: Vec<u32>,
    late: Vec<Place>,
    late_slots: Vec<u32>,
    corrected: Vec<LateRow>,
    risen: Vec<(u32, i64)>,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Pass {
    fn new(clock_ns: i64, clocks: Clocks) -> Self {
        Pass {
            clock_ns,
            clocks,
            released: Vec::new(),
            released_slots: Vec::new(),
            late: Vec::new(),
            late_slots: Vec::new(),
            corrected: Vec::new(),
            risen: Vec::new(),
            dead: Vec::new(),
            account: Account::default(),
        }
    }
}

/// An event time as a person reads it.
pub(crate) fn show_time(time: i64, domain: TimeDomain) -> String {
    match domain {
        TimeDomain::Logical => time.to_string(),
        TimeDomain::UtcNanos => arrow::temporal_conversions::timestamp_ns_to_datetime(time)
            .map_or_else(|| time.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string()),
    }
}

#[cfg(test)]
mod tests;
