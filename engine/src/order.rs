//! The one ordering step of a source: rows as they were read in, rows in event-time order per key out.
//!
//! For each key, in the order of the source: repeated rows go (`dedupe`), then rows too far ahead of the clock
//! (`max_ahead`), then rows behind the key's watermark (late). What is left waits until the watermark has reached it.
//!
//! With `m` the greatest event time a key has shown and `L` the lateness, its watermark is `w = m − L`. A row with
//! time `t < w` is late; held rows with `t ≤ w` are released, sorted by (t, position). Both depend on the rows before
//! in the source alone, so where epochs were cut does not show. The exception is asked for: a key idle for longer than
//! `idle_timeout` has `w` move on with the epochs' clock, and that clock is journaled.

mod saved;

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{interleave, take};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use crate::account::Account;
use crate::batch::Batch;
use crate::dead::{DeadLetter, Reason};
use crate::epoch::Epoch;
use crate::graph::{LatePolicy, OrderRules};
use crate::keyed::Keyed;
use crate::operator::Fault;
use crate::schema::{Schema, TimeDomain};
use crate::watermarks::Watermarks;

/// How many rows the released batches may keep alive beyond twice the held ones before they are copied together.
const SLACK_ROWS: usize = 65_536;

/// What the ordering step says about an epoch.
#[derive(Debug)]
pub(crate) struct Ordered {
    /// Rows in order, sorted by (key hash, time, position).
    pub rows: Option<Batch>,
    /// Late rows that may still correct the result.
    pub late: Option<Batch>,
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

/// The rows of a key that a repetition would be compared with.
#[derive(Debug, Default)]
struct Seen {
    by_hash: HashTable<u128>,
    by_age: VecDeque<(i64, u128)>,
}

impl Seen {
    /// Whether the row is new; remembers it if so.
    fn insert(&mut self, time: i64, row: u128) -> bool {
        let bits = |h: &u128| u64::try_from(h & u128::from(u64::MAX)).expect("masked to 64 bits");
        if self.by_hash.find(bits(&row), |h| *h == row).is_some() {
            return false;
        }
        self.by_hash.insert_unique(bits(&row), row, bits);
        self.by_age.push_back((time, row));
        true
    }

    /// Forgets rows with event times before `horizon`, oldest arrivals first.
    fn forget(&mut self, horizon: i64) {
        let bits = |h: u128| u64::try_from(h & u128::from(u64::MAX)).expect("masked to 64 bits");
        while let Some(&(time, row)) = self.by_age.front() {
            if time >= horizon {
                break;
            }
            if let Ok(entry) = self.by_hash.find_entry(bits(row), |h| *h == row) {
                entry.remove();
            }
            self.by_age.pop_front();
        }
    }
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
        self.batches.append(&mut incoming);
        self.group(first_new)?;
        let mut pass = Pass::new(epoch.clock_ns);
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
        if !self.rules.dedupe.is_empty() || self.rules.max_ahead.is_some() {
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
        if self.is_repeated(state, time, place) {
            pass.account.deduplicated += 1;
        } else if self.is_too_far_ahead(time, pass.clock_ns) {
            pass.dead.push(self.letter(Reason::TOO_FAR_AHEAD, slot, time, position, state));
            pass.account.dead += 1;
        } else if time < state.watermark {
            self.late(slot, time, position, place, state, pass);
        } else {
            state.take_in(Held { time, position, place });
            if time > state.max {
                state.max = time;
                state.watermark = state.watermark.max(time.saturating_sub(self.rules.lateness));
            }
        }
    }

    fn is_repeated(&self, state: &mut KeyState, time: i64, place: Place) -> bool {
        if self.rules.dedupe.is_empty() {
            return false;
        }
        let rows = &self.batches[place.batch as usize].rows;
        let mut bytes = Vec::with_capacity(64);
        for &column in &self.rules.dedupe {
            push_value(&mut bytes, rows.column(column), place.row as usize);
        }
        if !state.seen.insert(time, xxh3_128(&bytes)) {
            return true;
        }
        if state.max != i64::MIN {
            state.seen.forget(state.max.saturating_sub(self.rules.dedupe_within));
        }
        false
    }

    fn is_too_far_ahead(&self, time: i64, clock_ns: i64) -> bool {
        self.rules.max_ahead.is_some_and(|ahead| time > clock_ns.saturating_add(ahead))
    }

    fn late(
        &self,
        slot: u32,
        time: i64,
        position: u64,
        place: Place,
        state: &KeyState,
        pass: &mut Pass,
    ) {
        if let LatePolicy::Correct(within) = self.rules.late
            && time >= state.watermark.saturating_sub(within)
        {
            pass.late.push(place);
            pass.late_slots.push(slot);
            pass.account.used += 1;
        } else {
            pass.dead.push(self.letter(Reason::LATE, slot, time, position, state));
            pass.account.late += 1;
        }
    }

    fn letter(
        &self,
        reason: Reason,
        slot: u32,
        time: i64,
        position: u64,
        state: &KeyState,
    ) -> DeadLetter {
        let show = |t: i64| show_time(t, self.schema.domain());
        let detail = if reason == Reason::LATE {
            format!(
                "event time {} is behind the key's watermark {}",
                show(time),
                show(state.watermark)
            )
        } else {
            format!(
                "event time {} is further ahead of the clock than 'max_ahead' allows",
                show(time)
            )
        };
        DeadLetter {
            key: Some(self.keys.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(reason, detail)
        }
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

    /// The rows at `places` as one batch; their keys are in `slots`.
    fn gather(&mut self, places: &[Place], slots: &[u32]) -> Result<Option<Batch>, Fault> {
        if places.is_empty() {
            return Ok(None);
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.columns().len()];
        let key = self.schema.key().to_vec();
        for (k, column) in key.into_iter().zip(self.keys.key_columns(slots)) {
            columns[k] = Some(column);
        }
        let picker = Picker::new(&self.batches, places);
        let columns = columns.into_iter().enumerate().map(|(c, column)| match column {
            Some(key) => Ok(key),
            None => picker.pick(|b| b.rows.column(c).as_ref()),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.schema.arrow().clone(), columns)?;
        let key_hash: UInt64Array = slots.iter().map(|&s| self.keys.hash(s)).collect();
        let position = places
            .iter()
            .map(|p| self.batches[p.batch as usize].position.value(p.row as usize))
            .collect::<Vec<_>>();
        let batch = Batch::new(rows, key_hash, position.into());
        Ok(Some(batch.map_err(|e| Fault::new(e.to_string()))?))
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

    /// Drops batches that no held row needs, and copies held rows together when they keep too much alive.
    fn tidy(&mut self) -> Result<(), Fault> {
        if self.n_held == 0 {
            self.batches.clear();
            return Ok(());
        }
        let kept: usize = self.batches.iter().map(Batch::len).sum();
        if kept <= 2 * self.n_held + SLACK_ROWS {
            return Ok(());
        }
        let slots = self.keys.slots_by_hash().to_vec();
        let mut places = Vec::with_capacity(self.n_held);
        let mut place_slots = Vec::with_capacity(self.n_held);
        for &slot in &slots {
            for held in &self.keys.get(slot).held {
                places.push(held.place);
                place_slots.push(slot);
            }
        }
        let batch = self.gather(&places, &place_slots)?.expect("some rows are held");
        self.batches = vec![batch];
        let mut row = 0;
        for slot in slots {
            for held in &mut self.keys.get_mut(slot).held {
                held.place = Place { batch: 0, row };
                row += 1;
            }
        }
        Ok(())
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
    released: Vec<Place>,
    released_slots: Vec<u32>,
    late: Vec<Place>,
    late_slots: Vec<u32>,
    risen: Vec<(u32, i64)>,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Pass {
    fn new(clock_ns: i64) -> Self {
        Pass {
            clock_ns,
            released: Vec::new(),
            released_slots: Vec::new(),
            late: Vec::new(),
            late_slots: Vec::new(),
            risen: Vec::new(),
            dead: Vec::new(),
            account: Account::default(),
        }
    }
}

/// Picks rows out of several batches.
struct Picker<'a> {
    batches: &'a [Batch],
    one: Option<(usize, UInt32Array)>,
    many: Vec<(usize, usize)>,
}

impl<'a> Picker<'a> {
    fn new(batches: &'a [Batch], places: &[Place]) -> Self {
        let first = places[0].batch;
        if places.iter().all(|p| p.batch == first) {
            let rows = places.iter().map(|p| p.row).collect::<Vec<_>>();
            return Picker { batches, one: Some((first as usize, rows.into())), many: Vec::new() };
        }
        let many = places.iter().map(|p| (p.batch as usize, p.row as usize)).collect();
        Picker { batches, one: None, many }
    }

    fn pick(&self, column: impl Fn(&'a Batch) -> &'a dyn Array) -> Result<ArrayRef, Fault> {
        Ok(match &self.one {
            Some((batch, rows)) => take(column(&self.batches[*batch]), rows, None)?,
            None => {
                let all: Vec<_> = self.batches.iter().map(column).collect();
                interleave(&all, &self.many)?
            }
        })
    }
}

/// Appends a value, with a mark of null and its length, so that different rows give different bytes.
fn push_value(bytes: &mut Vec<u8>, column: &ArrayRef, row: usize) {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
    if column.is_null(row) {
        bytes.push(0);
        return;
    }
    bytes.push(1);
    let mut text = |t: &str| {
        bytes.extend_from_slice(&(t.len() as u64).to_le_bytes());
        bytes.extend_from_slice(t.as_bytes());
    };
    match column.data_type() {
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let code = usize::try_from(dictionary.keys().value(row)).unwrap_or(0);
            text(dictionary.values().as_string::<i32>().value(code));
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        DataType::Int64 => {
            bytes.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        DataType::Timestamp(_, _) => {
            let value = column.as_primitive::<TimestampNanosecondType>().value(row);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Boolean => bytes.push(u8::from(column.as_boolean().value(row))),
        _ => text(&arrow::util::display::array_value_to_string(column, row).unwrap_or_default()),
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
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::keyed::hash_keys;
    use crate::schema::Column;

    const SECOND: i64 = 1_000_000_000;

    fn schema() -> Schema {
        let columns = vec![
            Column::new("machine", DataType::Utf8),
            Column::new("ts", TimeDomain::UtcNanos.data_type()),
            Column::new("v", DataType::Float64),
        ];
        Schema::new(columns, &["machine"], "ts").unwrap()
    }

    /// Rows (machine, second); positions count up from `first`.
    fn batch(rows: &[(&str, i64)], first: u64) -> Batch {
        let schema = schema();
        let machines: StringArray = rows.iter().map(|(m, _)| Some(*m)).collect();
        let times = rows.iter().map(|(_, s)| s * SECOND).collect::<Vec<_>>();
        let columns: Vec<ArrayRef> = vec![
            arrow::compute::cast(&machines, &crate::schema::dictionary_type()).unwrap(),
            Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![1.0; rows.len()])),
        ];
        let rows = RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
        let hash = hash_keys(&rows, schema.key());
        let n_rows = hash.len() as u64;
        Batch::new(rows, hash, (first..first + n_rows).collect::<Vec<_>>().into()).unwrap()
    }

    fn epoch(id: u64, clock_s: i64) -> Epoch {
        let clock_ns = clock_s * SECOND;
        Epoch { id, clock_ns, inputs: Vec::new(), commands: Vec::new(), ended: Vec::new() }
    }

    /// Event times, in seconds, that left.
    fn seconds(ordered: &Ordered) -> Vec<i64> {
        let Some(rows) = &ordered.rows else { return Vec::new() };
        rows.times(&schema()).iter().map(|t| t / SECOND).collect()
    }

    #[test]
    fn a_key_that_falls_silent_lets_go_with_the_clock() {
        let rules = OrderRules {
            lateness: 10 * SECOND,
            idle_timeout_ns: Some(5 * SECOND),
            ..OrderRules::default()
        };
        let mut order = Orderer::new(schema(), rules);
        let first = order.epoch(&epoch(1, 1_000), vec![batch(&[("a", 100), ("a", 105)], 1)], false);
        assert_eq!(seconds(&first.unwrap()), Vec::<i64>::new());
        let waiting = order.epoch(&epoch(2, 1_004), Vec::new(), false).unwrap();
        assert_eq!((seconds(&waiting), waiting.watermarks.at.len()), (Vec::new(), 0));
        let later = order.epoch(&epoch(3, 1_006), Vec::new(), false).unwrap();
        assert_eq!(seconds(&later), [100]);
        assert_eq!(later.watermarks.at.values(), &[101 * SECOND]);
        let last = order.epoch(&epoch(4, 1_010), Vec::new(), false).unwrap();
        assert_eq!(seconds(&last), [105]);
        let late = order.epoch(&epoch(5, 1_011), vec![batch(&[("a", 104)], 9)], false).unwrap();
        assert_eq!(
            late.account.late, 1,
            "104 is behind the watermark 105 that the clock has brought"
        );
    }

    #[test]
    fn a_clock_far_ahead_drags_nobody() {
        let rules = OrderRules { max_ahead: Some(60 * SECOND), ..OrderRules::default() };
        let mut order = Orderer::new(schema(), rules);
        let rows = batch(&[("a", 1_000), ("a", 9_999), ("a", 1_001), ("a", 1_060)], 1);
        let ordered = order.epoch(&epoch(1, 1_000), vec![rows], false).unwrap();
        assert_eq!(seconds(&ordered), [1_000, 1_001, 1_060]);
        assert_eq!(ordered.dead.len(), 1);
        assert_eq!(ordered.dead[0].reason, Reason::TOO_FAR_AHEAD);
        assert_eq!(ordered.dead[0].key.as_deref(), Some("a"));
        assert_eq!(ordered.account.late, 0);
    }

    #[test]
    fn each_key_has_a_watermark_of_its_own() {
        let mut order = Orderer::new(schema(), OrderRules::default());
        let rows = batch(&[("a", 900), ("b", 10), ("b", 11), ("a", 901)], 1);
        let ordered = order.epoch(&epoch(1, 0), vec![rows], false).unwrap();
        assert_eq!(ordered.account.late, 0);
        let mut marks: Vec<i64> = ordered.watermarks.at.values().to_vec();
        marks.sort_unstable();
        assert_eq!(marks, [11 * SECOND, 901 * SECOND]);
    }

    #[test]
    fn rows_of_one_instant_leave_in_the_order_of_the_source() {
        let rules = OrderRules { lateness: 5 * SECOND, ..OrderRules::default() };
        let mut order = Orderer::new(schema(), rules);
        // The batch that was read later arrives first.
        let parts = vec![batch(&[("a", 7), ("a", 8)], 10), batch(&[("a", 7), ("a", 6)], 1)];
        let ordered = order.epoch(&epoch(1, 0), parts, true).unwrap();
        assert_eq!(seconds(&ordered), [6, 7, 7, 8]);
        assert_eq!(ordered.rows.unwrap().position.values(), &[2, 1, 10, 11]);
        assert!(ordered.watermarks.ended());
    }

    #[test]
    fn late_rows_within_the_bound_are_kept_to_correct() {
        let rules = OrderRules { late: LatePolicy::Correct(10 * SECOND), ..OrderRules::default() };
        let mut order = Orderer::new(schema(), rules);
        let rows = batch(&[("a", 100), ("a", 95), ("a", 80)], 1);
        let ordered = order.epoch(&epoch(1, 0), vec![rows], false).unwrap();
        let late = ordered.late.unwrap();
        assert_eq!(late.times(&schema()), &[95 * SECOND]);
        assert_eq!((ordered.account.late, ordered.dead.len()), (1, 1));
    }

    #[test]
    fn repetitions_are_forgotten_in_time() {
        let rules = OrderRules {
            lateness: 100 * SECOND,
            dedupe: vec![0, 1],
            dedupe_within: 20 * SECOND,
            ..OrderRules::default()
        };
        let mut order = Orderer::new(schema(), rules);
        let rows = batch(&[("a", 1), ("a", 1), ("a", 50), ("a", 51), ("a", 1)], 1);
        let ordered = order.epoch(&epoch(1, 0), vec![rows], true).unwrap();
        assert_eq!(ordered.account.deduplicated, 1);
        assert_eq!(seconds(&ordered), [1, 1, 50, 51], "after 20 s the first row is forgotten");
    }

    #[test]
    fn held_rows_are_copied_out_of_large_batches() {
        let rules = OrderRules { lateness: 1_000 * SECOND, ..OrderRules::default() };
        let mut order = Orderer::new(schema(), rules);
        let mut position = 1;
        for e in 0..400 {
            let rows: Vec<(&str, i64)> = (0..500).map(|r| ("a", e * 500 + r)).collect();
            let part = batch(&rows, position);
            position += 500;
            order.epoch(&epoch(u64::try_from(e).unwrap() + 1, 0), vec![part], false).unwrap();
        }
        let kept: usize = order.batches.iter().map(Batch::len).sum();
        assert!(kept < 3 * 1_000 + SLACK_ROWS + 500, "{kept} rows are kept for 1,000 that wait");
        let rest = order.epoch(&epoch(401, 0), Vec::new(), true).unwrap();
        assert_eq!(seconds(&rest), (199_000..200_000).collect::<Vec<_>>());
    }
}
