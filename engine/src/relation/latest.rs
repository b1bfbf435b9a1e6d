//! The step that makes a relation of a stream: the latest rows of each key.
//!
//! Input   keyed rows, late ones and corrected ones included
//! Output  changes: rows that came among the latest, and (as deleted) rows that no longer are
//! State   of each key the rows that stand, and behind a source that lets late rows correct those that may stand again
//!         when a later one is deleted
//! Late    takes late, corrected and deleted rows itself
//! Errors  none: every row is used
//!
//! The latest row is that with the greatest event time, and of those the one furthest on in the source. A row with the
//! primary key of one that is there takes its place if its revision is not lower. Where several rows of a key are kept,
//! of those that differ in nothing but their place in the source it is the last that counts. What is emitted in an epoch is the
//! difference between its start and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::batch::Batch;
use crate::epoch::Epoch;
use crate::identity::Identify;
use crate::keyed::{Keyed, ShardSet};
use crate::operator::{Fault, Input, LateSupport, Operator, Out, Planned};
use crate::relation::{Codec, Row, plain};
use crate::schema::Schema;
use crate::watermarks::Watermarks;

/// Raised whenever what is saved of a key changes.
const STATE_VERSION: u32 = 1;
/// Most rows of a key that can be kept.
pub const LATEST_ROWS_MAX: usize = 100_000;

/// The step that stands for the latest `rows` of each key of a stream of `input`, of those no older than `within` (in the
/// unit of the time domain) behind the latest one.
#[must_use]
pub fn latest(input: &Schema, rows: usize, within: Option<i64>) -> Planned {
    let schema = input.clone();
    Planned {
        output: input.clone(),
        late: LateSupport::Itself,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| Ok(Box::new(Latest::new(schema.clone(), rows, within)?))),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// What tells a row of a key from the others; rows sort by it as they follow one another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    time: i64,
    /// 0 where the primary key is without it.
    position: u64,
    rest: Box<[u8]>,
}

/// A row that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    revision: u32,
    position: u64,
    row: Row,
    /// Whether it stands, as far as was told.
    told: bool,
}

/// What is kept of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    rows: BTreeMap<Place, Held>,
    /// No row before this time can change any more.
    settled: i64,
}

#[derive(Debug)]
struct Latest {
    schema: Schema,
    rows: usize,
    within: Option<i64>,
    identify: Identify,
    codec: Codec,
    keys: Keyed<Kept>,
    /// No row of any key before this time can change any more.
    settled: i64,
}

/// A row that is to be emitted, with its key's hash.
type Told = (u64, Held);
/// Rows that stood and were replaced or deleted in this epoch, by slot and place.
type Before = BTreeMap<(u32, Place), Held>;

impl Latest {
    fn new(schema: Schema, rows: usize, within: Option<i64>) -> Result<Self, Fault> {
        let fields = schema.arrow().fields().iter();
        let fields = fields.map(|f| f.as_ref().clone().with_data_type(plain(f.data_type())));
        let of_rows = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
        Ok(Latest {
            identify: Identify::new(&schema)?,
            codec: Codec::new(Arc::new(of_rows))?,
            keys: Keyed::new(&schema),
            schema,
            rows,
            within,
            settled: i64::MAX,
        })
    }

    /// Takes the rows of a lane in; notes the slots of their keys, and what stood.
    fn take(
        &mut self,
        batch: &Batch,
        touched: &mut Vec<u32>,
        before: &mut Before,
    ) -> Result<(), Fault> {
        let rest = self.identify.rest(&batch.rows)?;
        let encoded = self.codec.encode(batch.rows.columns())?;
        let times = batch.times(&self.schema);
        let settled = self.settled;
        for group in batch.groups() {
            let fresh = || Kept { settled, ..Kept::default() };
            let slot = self.keys.slot(batch, self.schema.key(), group.start, fresh)?;
            touched.push(slot);
            let kept = self.keys.get_mut(slot);
            for row in group.start..group.end {
                let position = batch.position.value(row);
                let (_, told_apart_by, rest) =
                    self.identify.identity(times[row], position, &rest[row]);
                let place = Place { time: times[row], position: told_apart_by, rest: rest.into() };
                let revision = batch.revision.as_ref().map_or(0, |r| r.value(row));
                let former = match self.identify.has_time() {
                    true => place.clone(),
                    false => kept.like(&place).unwrap_or_else(|| place.clone()),
                };
                if kept.rows.get(&former).is_some_and(|held| held.revision > revision) {
                    continue;
                }
                if let Some(held) = kept.rows.remove(&former)
                    && held.told
                {
                    before.insert((slot, former), held);
                }
                if batch.deleted.as_ref().is_none_or(|d| !d.value(row)) {
                    let row = encoded[row].clone();
                    kept.rows.insert(place, Held { revision, position, row, told: false });
                }
            }
        }
        Ok(())
    }

    /// Says what has changed of the keys in `slots`.
    fn tell(
        &mut self,
        mut slots: Vec<u32>,
        mut before: Before,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        slots.sort_unstable_by_key(|&slot| self.keys.hash(slot));
        slots.dedup();
        let (mut came, mut went) = (Vec::<Told>::new(), Vec::<Told>::new());
        let (rows, within, settled) = (self.rows, self.within, self.settled);
        for slot in slots {
            let hash = self.keys.hash(slot);
            let kept = self.keys.get_mut(slot);
            let latest = kept.latest(rows, within);
            for (place, held) in &mut kept.rows {
                let stands = latest.contains(place);
                if held.told == stands {
                    continue;
                }
                held.told = stands;
                match before.remove(&(slot, place.clone())) {
                    _ if !stands => went.push((hash, held.clone())),
                    Some(old) if old.row == held.row => {}
                    old => {
                        went.extend(old.map(|old| (hash, old)));
                        came.push((hash, held.clone()));
                    }
                }
            }
            kept.forget(settled);
        }
        let hash = |slot: u32| self.keys.hash(slot);
        went.extend(before.into_iter().map(|((slot, _), held)| (hash(slot), held)));
        out.emit(self.batch(&came)?);
        let mut went = self.batch(&went)?;
        went.revision = Some(UInt32Array::from(vec![0; went.len()]));
        went.deleted = Some(BooleanArray::from(vec![true; went.len()]));
        out.emit(went);
        Ok(())
    }

    /// The rows as a batch of the stream, in its order.
    fn batch(&self, told: &[Told]) -> Result<Batch, Fault> {
        let rows = self.codec.decode(told.iter().map(|(_, held)| &held.row))?;
        let arrow = self.schema.arrow();
        let columns = rows.columns().iter().zip(arrow.fields());
        let columns =
            columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        let rows = RecordBatch::try_new(arrow.clone(), columns.collect::<Result<_, _>>()?)?;
        let hash: UInt64Array = told.iter().map(|(hash, _)| *hash).collect();
        let position: UInt64Array = told.iter().map(|(_, held)| held.position).collect();
        let batch = Batch::new(rows, hash, position).map_err(|e| Fault::new(e.to_string()))?;
        Ok(batch.sorted(&self.schema)?)
    }
}

impl Kept {
    /// The place of the row that has the same primary key, where that is without the time.
    fn like(&self, place: &Place) -> Option<Place> {
        let same = |p: &&Place| (p.position, &p.rest) == (place.position, &place.rest);
        self.rows.keys().find(same).cloned()
    }

    /// The places of the latest rows.
    fn latest(&self, rows: usize, within: Option<i64>) -> BTreeSet<Place> {
        let last = self.rows.keys().next_back().map_or(i64::MIN, |place| place.time);
        let oldest = within.map_or(i64::MIN, |within| last.saturating_sub(within));
        let mut latest = BTreeSet::new();
        for place in self.rows.keys().rev().take_while(|place| place.time >= oldest) {
            if latest.len() == rows {
                break;
            }
            if !self.is_hidden(place) {
                latest.insert(place.clone());
            }
        }
        latest
    }

    /// Whether a row further on in the source differs in nothing but its place there.
    fn is_hidden(&self, place: &Place) -> bool {
        let mut later = self.rows.range((Bound::Excluded(place), Bound::Unbounded));
        let mut same_time = later.by_ref().map(|(p, _)| p).take_while(|p| p.time == place.time);
        same_time.any(|p| p.rest == place.rest)
    }

    /// Drops what can never stand again.
    fn forget(&mut self, settled: i64) {
        self.settled = self.settled.max(settled);
        let settled = self.settled;
        let hidden = |place: &&Place| place.time < settled && self.is_hidden(place);
        let hidden: Vec<Place> = self.rows.keys().filter(hidden).cloned().collect();
        for place in hidden {
            self.rows.remove(&place);
        }
        // As many rows below those that stand may be needed as there are above that can still be deleted.
        let mut spare = self.rows.iter().filter(|(p, held)| held.told && p.time >= settled).count();
        let mut needless = Vec::new();
        for (place, held) in self.rows.iter().rev() {
            if held.told || place.time >= settled {
                continue;
            }
            match spare.checked_sub(1) {
                Some(left) => spare = left,
                None => needless.push(place.clone()),
            }
        }
        for place in needless {
            self.rows.remove(&place);
        }
    }
}

impl Operator for Latest {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let Input { rows, late, revised, .. } = inputs[0];
        let (mut touched, mut before) = (Vec::new(), Before::new());
        for lane in [rows, late, revised].into_iter().filter(|lane| !lane.is_empty()) {
            self.take(lane, &mut touched, &mut before)?;
        }
        let used = (rows.len() + late.len() + revised.len()) as u64;
        out.count(Account { used, ..Account::default() });
        if touched.is_empty() { Ok(()) } else { self.tell(touched, before, out) }
    }

    fn horizon(&mut self, _: usize, horizon: &Watermarks) {
        for (_, hash, at) in horizon.iter() {
            if let Some(slot) = self.keys.find(hash) {
                // What it lets go of is dropped when the key has rows again.
                let kept = &mut self.keys.states_mut()[slot as usize];
                kept.settled = kept.settled.max(at);
            }
        }
        self.settled = horizon.low;
    }

    fn standing(&mut self) -> Result<Vec<Batch>, Fault> {
        let slots = self.keys.slots_by_hash().to_vec();
        let told = slots.into_iter().flat_map(|slot| {
            let rows = self.keys.get(slot).rows.values().filter(|held| held.told);
            rows.map(move |held| (slot, held.clone()))
        });
        let told = told.map(|(slot, held)| (self.keys.hash(slot), held));
        let told: Vec<Told> = told.collect();
        Ok(vec![self.batch(&told)?])
    }

    fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.keys.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        if version != STATE_VERSION {
            return Err(Fault::new(format!("its state is of version {version}")));
        }
        self.keys.load(&state)
    }
}
