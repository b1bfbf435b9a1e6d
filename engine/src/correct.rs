//! Lets late rows correct what a step said before, whatever the step.
//!
//! [`Correcting`] is put around a step that knows nothing of corrections. Of each key it holds
//!
//! ```text
//! base   the step's saved state after the rows before some time b, told b as the watermark
//! rows   what came in since, in order                              (times at or after b)
//! said   what went out since, each row with its revision
//! live   the step itself, which new rows go through as always:  live = base + rows + watermark
//! ```
//!
//! A late row is put in its place among `rows`, or a row that was revised or deleted above takes the place of its
//! former version. Then a fresh instance of the step is given the base of that key, all of its `rows` and its
//! watermark anew, and what it emits is compared with `said` by primary key, bit by bit. The difference goes out: rows
//! that were not there before as *late* rows, others with the next revision, rows that are gone as *deleted*. At last
//! the fresh instance's state of the key takes the place of the live one's. Because rows are folded in order from a
//! state that was reached in order, the corrected rows have the bits that they would have if nothing had been late.
//!
//! What a reader would get wrong:
//!
//! * Everything that a refold brings up goes out late, even if it is ahead of the step's own watermark: `live` has it in
//!   its state then and will not emit it again.
//! * The base may go as far as nothing comes any more that corrects. That is not the watermark less the policy's
//!   bound, except right below the source: a window moves watermarks up to its end. So the bound travels with the
//!   data, as the *horizon* ([`Operator::horizon`]), and what the base says of its own watermark when it is folded up
//!   to the horizon is the horizon of the next step.
//! * A key that is folded again in an epoch is not given to the live step in that epoch, so that each row goes out once
//!   an epoch, as it stands at its end. How often a row is revised depends on which rows share an epoch. The last
//!   revision of each does not.

mod compare;
mod fold;
mod kept;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};

use crate::account::Account;
use crate::batch::Batch;
use crate::correct::kept::{History, Kept, Pool, Reported, Version};
use crate::dead::{DeadLetter, Reason};
use crate::epoch::Epoch;
use crate::keyed::{Keyed, ShardSet};
use crate::operator::{Build, Fault, Input, Operator, Out, Planned, WorkerContext};
use crate::order::show_time;
use crate::schema::Schema;
use crate::watermarks::Watermarks;

/// How much a step on one worker keeps to correct its results with, in rows that came in and rows that went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows that may be kept beyond twice what was needed when the base was last moved up.
    pub slack_rows: usize,
    /// Most rows. When they are reached the oldest are made final before their time, and what would correct them is a
    /// dead letter.
    pub most_rows: usize,
}

impl Default for Bounds {
    /// 4 million rows: some 200 bytes each with ten columns, so below 1 GB.
    fn default() -> Self {
        Bounds { slack_rows: 8_192, most_rows: 4_000_000 }
    }
}

/// A step, corrected by late rows.
///
/// Takes in all three lanes of its one input and emits all three. Its account counts a late or revised row as used, or
/// as late where the result that it would correct is final. A refold is silent but for rows that it finds unusable and
/// that were not reported before: each is reported once.
pub struct Correcting {
    maker: Maker,
    bounds: Bounds,
    live: Box<dyn Operator>,
    /// Saved states of the step, by shard.
    base: BTreeMap<u8, RecordBatch>,
    keys: Keyed<History>,
    rows: Pool,
    said: Pool,
    /// Bounds below all watermarks of what comes in and of what goes out.
    low: i64,
    told_low: i64,
    /// How many rows are kept, and how many were left when the base was last moved up.
    n_kept: usize,
    n_needed: usize,
}

/// Makes instances of the step.
struct Maker {
    build: Build,
    context: WorkerContext,
    version: u32,
}

impl fmt::Debug for Correcting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.len();
        f.debug_struct("Correcting").field("keys", &keys).field("n_kept", &self.n_kept).finish()
    }
}

impl Correcting {
    /// The step `planned`, which reads a stream of `input`, on a worker.
    ///
    /// # Errors
    /// When the step cannot be built.
    pub fn new(
        planned: &Planned,
        input: &Schema,
        context: WorkerContext,
        bounds: Bounds,
    ) -> Result<Self, Fault> {
        let version = planned.state_version;
        let maker = Maker { build: Arc::clone(&planned.build), context, version };
        Ok(Correcting {
            live: maker.make()?,
            maker,
            bounds,
            base: BTreeMap::new(),
            keys: Keyed::new(input),
            rows: Pool::new(input.clone())?,
            said: Pool::new(planned.output.clone())?,
            low: i64::MIN,
            told_low: i64::MIN,
            n_kept: 0,
            n_needed: 0,
        })
    }

    /// What builds `planned` so that it is corrected.
    pub(crate) fn around(planned: Planned, input: Schema) -> Build {
        Arc::new(move |context| {
            Ok(Box::new(Correcting::new(&planned, &input, context, Bounds::default())?))
        })
    }
}

impl Maker {
    fn make(&self) -> Result<Box<dyn Operator>, Fault> {
        (self.build)(self.context)
    }
}

/// What one epoch has brought about.
#[derive(Debug, Default)]
struct Pass {
    /// The keys to be folded again, by hash.
    refold: BTreeMap<u64, u32>,
    /// Rows of this epoch that the live step was not given, by time and position.
    incoming: BTreeSet<(i64, u64)>,
    rows: Vec<Batch>,
    late: Vec<Batch>,
    revised: Vec<Batch>,
    account: Account,
}

impl Pass {
    fn speak(self, schema: &Schema, out: &mut dyn Out) -> Result<(), Fault> {
        out.emit(Batch::merge(schema, self.rows)?);
        if !self.late.is_empty() {
            out.emit_late(Batch::merge(schema, self.late)?);
        }
        if !self.revised.is_empty() {
            out.emit(Batch::merge(schema, self.revised)?);
        }
        out.count(self.account);
        Ok(())
    }
}

/// What an instance of the step says, held back.
#[derive(Debug, Default)]
struct Heard {
    rows: Vec<Batch>,
    watermarks: Option<Watermarks>,
    dead: Vec<DeadLetter>,
    account: Account,
    /// It sent rows in a lane that is not its own.
    corrected: bool,
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        self.corrected |= rows.revision.is_some() || rows.deleted.is_some();
        if !rows.is_empty() {
            self.rows.push(rows);
        }
    }

    fn emit_late(&mut self, rows: Batch) {
        self.corrected |= !rows.is_empty();
    }

    fn watermarks(&mut self, watermarks: Watermarks) {
        self.watermarks = Some(watermarks);
    }

    fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }

    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

/// Lets an instance of the step take new rows in.
fn feed(
    step: &mut dyn Operator,
    epoch: &Epoch,
    rows: &Batch,
    watermarks: &Watermarks,
) -> Result<Heard, Fault> {
    let none = Batch::empty(rows.rows.schema());
    let mut heard = Heard::default();
    step.epoch(epoch, &[Input { rows, late: &none, revised: &none, watermarks }], &mut heard)?;
    if heard.corrected {
        return Err(Fault::new("the step sent corrections of its own (a bug in it)"));
    }
    Ok(heard)
}

impl Operator for Correcting {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let [input] = inputs else {
            return Err(Fault::new("a step that late rows correct has one input"));
        };
        self.advance(input.watermarks);
        let mut pass = Pass::default();
        self.keep(input.rows, &mut pass)?;
        self.take_in(input.late, &mut pass, out)?;
        self.take_in(input.revised, &mut pass, out)?;
        self.go_on(epoch, input, &mut pass, out)?;
        self.refold(epoch, &mut pass, out)?;
        pass.speak(self.said.schema(), out)?;
        self.move_base(epoch, out)?;
        self.tidy()
    }

    fn horizon(&mut self, _: usize, horizon: &Watermarks) {
        self.each_named(horizon, |history, at| {
            let rises = at > history.horizon;
            rises.then(|| history.horizon = at);
        });
    }

    fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.save_shard(shard)
    }

    /// Takes over what [`Operator::save`] wrote; the live state is made from it by folding.
    fn load(&mut self, shard: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        self.load_shard(shard, version, &state)
    }
}

impl Correcting {
    /// Calls `change` with every key that is named.
    fn each_named(&mut self, named: &Watermarks, mut change: impl FnMut(&mut History, i64)) {
        let columns: Vec<&ArrayRef> = named.keys.columns().iter().collect();
        for (row, hash, at) in named.iter() {
            let slot = self.keys.slot_of(hash, &columns, row, History::new);
            change(self.keys.get_mut(slot), at);
        }
    }

    fn advance(&mut self, watermarks: &Watermarks) {
        self.low = self.low.max(watermarks.low);
        self.each_named(watermarks, |history, at| history.at = history.at.max(at));
    }

    /// Lets the live step take the new rows in, but for those of keys that are folded again, and notes what it says.
    fn go_on(
        &mut self,
        epoch: &Epoch,
        input: &Input<'_>,
        pass: &mut Pass,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let fresh = self.without_refolded(input.rows, pass)?;
        let heard = feed(&mut *self.live, epoch, &fresh, input.watermarks)?;
        self.note_letters(&fresh, &heard.dead)?;
        for rows in &heard.rows {
            self.say(rows, pass)?;
        }
        pass.account.add(&at_once(heard.account));
        for letter in heard.dead {
            out.dead(letter);
        }
        let told = heard.watermarks.as_ref().unwrap_or(input.watermarks);
        self.told_low = self.told_low.max(told.low);
        self.each_named(told, |history, at| history.told = history.told.max(at));
        if let Some(told) = heard.watermarks {
            out.watermarks(told);
        }
        Ok(())
    }

    /// The rows of keys that the live step goes on with. The others are counted: a refold takes them in.
    fn without_refolded(&self, rows: &Batch, pass: &mut Pass) -> Result<Batch, Fault> {
        if pass.refold.is_empty() {
            return Ok(rows.clone());
        }
        let goes_on = |hash| !pass.refold.contains_key(&hash);
        let fresh: BooleanArray =
            rows.key_hash.values().iter().map(|&hash| Some(goes_on(hash))).collect();
        let times = rows.times(self.rows.schema());
        for row in (0..rows.len()).filter(|&row| !fresh.value(row)) {
            pass.incoming.insert((times[row], rows.position.value(row)));
            pass.account.used += 1;
        }
        Ok(rows.filter(&fresh)?)
    }

    /// Remembers which rows of a batch that was just kept were reported as dead letters.
    fn note_letters(&mut self, fresh: &Batch, dead: &[DeadLetter]) -> Result<(), Fault> {
        let letters: BTreeSet<(i64, u64)> =
            dead.iter().filter_map(|l| Some((l.time?, l.position?))).collect();
        if letters.is_empty() {
            return Ok(());
        }
        for group in fresh.groups() {
            let slot = self.keys.find(group.hash).ok_or_else(unknown_key)?;
            // They came in order, or the key would be folded again.
            let rows = self.keys.get_mut(slot).rows.iter_mut().rev();
            for kept in rows.take(group.end - group.start) {
                kept.note.0 = letters.contains(&kept.order());
            }
        }
        Ok(())
    }

    /// Keeps new rows. Those of a stale key have to be folded, and so have the rows of a key that are not in order:
    /// late ones, sent by a step above whose watermark they are ahead of, may have come before them.
    fn keep(&mut self, rows: &Batch, pass: &mut Pass) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut added = self.rows.add(rows)?;
        for group in rows.groups() {
            let key = self.rows.schema().key();
            let slot = self.keys.slot(rows, key, group.start, History::new)?;
            let history = self.keys.get_mut(slot);
            for row in group.start..group.end {
                if !history.insert(added.row(row, Reported(false))) || history.stale {
                    pass.refold.insert(group.hash, slot);
                }
            }
        }
        self.n_kept += rows.len();
        Ok(())
    }

    /// Notes what the live step says and sends each row on in its lane.
    fn say(&mut self, rows: &Batch, pass: &mut Pass) -> Result<(), Fault> {
        let mut added = self.said.add(rows)?;
        let (mut ordinary, mut late, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let mut revisions = Vec::new();
        for group in rows.groups() {
            let slot = self.keys.find(group.hash).ok_or_else(unknown_key)?;
            let history = self.keys.get_mut(slot);
            if history.stale || pass.refold.contains_key(&group.hash) {
                continue;
            }
            let told = history.told.max(self.told_low);
            for row in group.start..group.end {
                let mut kept = added.row(row, Version::default());
                let lane = if let Some(revision) = history.comes_back(&self.said, &kept) {
                    kept.note.revision = revision;
                    revisions.push(revision);
                    self.n_kept -= 1;
                    &mut back
                } else if kept.time < told {
                    &mut late
                } else {
                    &mut ordinary
                };
                lane.push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
                history.said.push(kept);
                self.n_kept += 1;
            }
        }
        if ordinary.len() == rows.len() {
            pass.rows.push(rows.clone());
            return Ok(());
        }
        pass.rows.push(rows.take(&UInt32Array::from(ordinary))?);
        if !late.is_empty() {
            pass.late.push(rows.take(&UInt32Array::from(late))?);
        }
        if !back.is_empty() {
            let revision = Some(UInt32Array::from(revisions));
            pass.revised.push(Batch { revision, ..rows.take(&UInt32Array::from(back))? });
        }
        Ok(())
    }

    /// Puts late and revised rows in their places.
    fn take_in(&mut self, rows: &Batch, pass: &mut Pass, out: &mut dyn Out) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut added = self.rows.add(rows)?;
        for group in rows.groups() {
            let key = self.rows.schema().key();
            let slot = self.keys.slot(rows, key, group.start, History::new)?;
            for row in group.start..group.end {
                let mut kept = added.row(row, Reported(false));
                if kept.time < self.keys.get(slot).base {
                    out.dead(self.too_late(slot, &kept));
                    pass.account.late += 1;
                    continue;
                }
                let history = self.keys.get_mut(slot);
                let former = history.take(&self.rows.identify, &kept);
                self.n_kept -= usize::from(former.is_some());
                if !rows.deleted.as_ref().is_some_and(|d| d.value(row)) {
                    kept.note = former.map_or(Reported(false), |f| f.note);
                    pass.incoming.insert(kept.order());
                    history.insert(kept);
                    self.n_kept += 1;
                }
                pass.account.used += 1;
                pass.refold.insert(group.hash, slot);
            }
        }
        Ok(())
    }

    fn too_late(&self, slot: u32, row: &Kept<Reported>) -> DeadLetter {
        let show = |time| show_time(time, self.rows.schema().domain());
        let detail = format!(
            "event time {} would correct results of the key that are final up to {}: the step keeps at most {} rows",
            show(row.time),
            show(self.keys.get(slot).base),
            self.bounds.most_rows
        );
        DeadLetter {
            key: Some(self.keys.key_text(slot)),
            time: Some(row.time),
            position: Some(row.position),
            watermark: Some(self.keys.get(slot).base),
            ..DeadLetter::new(Reason::LATE, detail)
        }
    }

    /// What is said of the keys in `slots`, which are sorted by hash.
    fn watermarks(
        &mut self,
        slots: &[u32],
        at: impl Fn(&History) -> i64,
        low: i64,
    ) -> Result<Watermarks, Fault> {
        let columns = self.keys.key_columns(slots);
        Ok(Watermarks {
            keys: RecordBatch::try_new(self.rows.schema().key_arrow(), columns)?,
            key_hash: slots.iter().map(|&s| self.keys.hash(s)).collect(),
            at: slots.iter().map(|&s| at(self.keys.get(s))).collect::<Int64Array>(),
            low,
        })
    }
}

/// Counts rows that the step holds back as used when they come: a refold cannot tell which of its rows were counted as held
/// back before.
fn at_once(account: Account) -> Account {
    let used = i128::from(account.used) + i128::from(account.in_flight);
    let (used, in_flight) = match u64::try_from(used) {
        Ok(used) => (used, 0),
        // More were let go as left out than came.
        Err(_) => (0, i64::try_from(used).unwrap_or(i64::MIN)),
    };
    Account { used, in_flight, ..account }
}

impl History {
    /// The revision with which a row that was deleted is there again.
    fn comes_back(&mut self, said: &Pool, row: &Kept<Version>) -> Option<u32> {
        if self.n_deleted == 0 {
            return None;
        }
        let wanted = row.identity(&said.identify);
        let is_it = |s: &Kept<Version>| s.note.deleted && s.identity(&said.identify) == wanted;
        let was = self.said.iter().position(is_it)?;
        self.n_deleted -= 1;
        Some(self.said.remove(was).note.revision + 1)
    }
}

fn unknown_key() -> Fault {
    Fault::new("the step emitted a row of a key that it was not given (a bug in it)")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::correct::kept::Place;
    use crate::schema::Column;

    fn schema() -> Schema {
        let columns = vec![Column::new("m", DataType::Utf8), Column::new("t", DataType::Int64)];
        Schema::new(columns, &["m"], "t").unwrap()
    }

    fn epoch() -> Epoch {
        Epoch { id: 1, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] }
    }

    /// Sends a revision whatever it is given.
    struct Meddling;

    impl Operator for Meddling {
        fn epoch(&mut self, _: &Epoch, _: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
            let rows = Batch::empty(Arc::clone(schema().arrow()));
            out.emit(Batch { revision: Some(Vec::<u32>::new().into()), ..rows });
            Ok(())
        }
    }

    #[test]
    fn a_row_that_comes_back_goes_on_with_its_revision() {
        let pool = Pool::new(schema()).unwrap();
        let row = |time, note| {
            let place = Place::new(0, 0);
            Kept { time, position: 7, place, rest: Box::default(), note }
        };
        let mut history = History::new();
        history.said.push(row(5, Version { revision: 3, deleted: true }));
        history.said.push(row(6, Version { revision: 2, deleted: false }));
        history.n_deleted = 1;
        assert_eq!(history.comes_back(&pool, &row(6, Version::default())), None);
        assert_eq!(history.comes_back(&pool, &row(5, Version::default())), Some(4));
        assert_eq!((history.n_deleted, history.said.len()), (0, 1));
        assert_eq!(history.comes_back(&pool, &row(5, Version::default())), None);
    }

    #[test]
    fn a_step_that_corrects_by_itself_is_found_out() {
        let rows = Batch::empty(Arc::clone(schema().arrow()));
        let watermarks = Watermarks::none(schema().key_arrow());
        let fault = feed(&mut Meddling, &epoch(), &rows, &watermarks).unwrap_err();
        assert!(fault.message.contains("corrections of its own"), "{fault}");
    }
}
