//! What is kept, as Arrow by shard.
//!
//! One row a key: the key, its hash, its times, the base as a struct of the columns that the step saved (null where it
//! has none), and two lists of structs, the rows that came in and those that went out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, ListArray, RecordBatch,
    StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{filter_record_batch, is_not_null, take};
use arrow::datatypes::{Field, Int64Type, Schema as ArrowSchema, UInt32Type, UInt64Type};

use super::Correcting;
use super::fold::hashes_of;
use super::kept::{History, Kept, Place, Pool, Reported, Version};
use crate::epoch::Epoch;
use crate::keyed::HASH_COLUMN;
use crate::operator::Fault;

const TIMES: [&str; 4] = ["foreline_at", "foreline_told", "foreline_horizon", "foreline_base_at"];
const BASE: &str = "foreline_base";
const ROWS: &str = "foreline_rows";
const SAID: &str = "foreline_said";

impl Correcting {
    pub(super) fn save_shard(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.keys.saved(shard);
        let slots = self.keys.slots_of_shard(shard);
        if slots.is_empty() {
            return Ok(None);
        }
        let key_schema = self.rows.schema().key_arrow();
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (field, column) in key_schema.fields().iter().zip(self.keys.key_columns(&slots)) {
            columns.push((field.name().clone(), column));
        }
        let histories: Vec<&History> = slots.iter().map(|&s| self.keys.get(s)).collect();
        let hashes: UInt64Array = slots.iter().map(|&s| self.keys.hash(s)).collect();
        let base = self.base.get(&shard).map(|base| base_column(base, &hashes)).transpose()?;
        columns.push((HASH_COLUMN.to_owned(), Arc::new(hashes)));
        let low = self.low;
        let times: [&dyn Fn(&History) -> i64; 4] =
            [&|h| h.at.max(low), &|h| h.told.max(self.told_low), &|h| h.horizon, &|h| h.base];
        for (name, time) in TIMES.iter().zip(times) {
            let times: Int64Array = histories.iter().map(|h| Some(time(h))).collect();
            columns.push(((*name).to_owned(), Arc::new(times)));
        }
        columns.extend(base.map(|base| (BASE.to_owned(), base)));
        let rows: Vec<&[Kept<Reported>]> = histories.iter().map(|h| &*h.rows).collect();
        columns.push((ROWS.to_owned(), lists(&self.rows, &rows)?));
        let said: Vec<&[Kept<Version>]> = histories.iter().map(|h| &*h.said).collect();
        columns.push((SAID.to_owned(), lists(&self.said, &said)?));
        Ok(Some(batch_of(columns)?))
    }

    pub(super) fn load_shard(
        &mut self,
        shard: u8,
        version: u32,
        state: &RecordBatch,
    ) -> Result<(), Fault> {
        if version != self.maker.version {
            let known = self.maker.version;
            let what = format!("the saved state has version {version}, this build reads {known}");
            return Err(Fault::new(what));
        }
        let n_key = self.rows.schema().key().len();
        let hashes = hashes_of(state)?.clone();
        let [at, told, horizon, base_at] = TIMES.map(|name| {
            let times = column(state, name)?.as_primitive_opt::<Int64Type>().cloned();
            times.ok_or_else(|| unreadable(name))
        });
        let (at, told, horizon, base_at) = (at?, told?, horizon?, base_at?);
        let mut rows = kept_rows::<Reported>(&mut self.rows, column(state, ROWS)?)?;
        let mut said = kept_rows::<Version>(&mut self.said, column(state, SAID)?)?;
        let base = state.column_by_name(BASE).map(|base| base.as_struct().clone());
        if let Some(base) = &base {
            let is_there = is_not_null(base)?;
            let columns = RecordBatch::try_new(
                Arc::new(ArrowSchema::new(base.fields().clone())),
                base.columns().to_vec(),
            );
            self.base.insert(shard, filter_record_batch(&columns?, &is_there)?);
        }
        let keys: Vec<&ArrayRef> = (0..n_key).map(|c| state.column(c)).collect();
        let mut slots = Vec::new();
        for row in 0..state.num_rows() {
            let history = History {
                rows: std::mem::take(&mut rows[row]),
                said: std::mem::take(&mut said[row]),
                at: at.value(row),
                told: told.value(row),
                horizon: horizon.value(row),
                base: base_at.value(row),
                ..History::new()
            };
            let has_base = base.as_ref().is_some_and(|base| base.is_valid(row));
            let has_state = has_base || !history.rows.is_empty();
            if let Some(slot) = self.put(hashes.value(row), &keys, row, history, has_state) {
                slots.push(slot);
            }
        }
        slots.sort_unstable_by_key(|&slot| self.keys.hash(slot));
        let epoch = Epoch { id: 0, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
        let (mut scratch, _) = self.fold_again(&epoch, &slots)?;
        self.adopt(&slots, &mut *scratch)
    }

    /// Takes a key's history over; its slot when the live step has or is to have a state of it.
    fn put(
        &mut self,
        hash: u64,
        keys: &[&ArrayRef],
        row: usize,
        mut history: History,
        has_state: bool,
    ) -> Option<u32> {
        history.n_deleted = history.said.iter().filter(|s| s.note.deleted).count();
        self.n_kept += history.len();
        let before = self.keys.find(hash);
        if let Some(slot) = before {
            let before = self.keys.get(slot);
            self.n_kept -= before.len();
            history.stale = before.stale;
        }
        let slot = self.keys.put(hash, keys, row, history);
        (has_state || before.is_some()).then_some(slot)
    }
}

/// What is noted of a row, as columns.
trait Note: Sized {
    fn columns(notes: &[Self]) -> Vec<(&'static str, ArrayRef)>;
    fn read(rows: &RecordBatch) -> Result<Vec<Self>, Fault>;
}

impl Note for Reported {
    fn columns(notes: &[Self]) -> Vec<(&'static str, ArrayRef)> {
        let reported: BooleanArray = notes.iter().map(|n| Some(n.0)).collect();
        vec![("foreline_reported", Arc::new(reported))]
    }

    fn read(rows: &RecordBatch) -> Result<Vec<Self>, Fault> {
        let reported = column(rows, "foreline_reported")?.as_boolean();
        Ok((0..rows.num_rows()).map(|row| Reported(reported.value(row))).collect())
    }
}

impl Note for Version {
    fn columns(notes: &[Self]) -> Vec<(&'static str, ArrayRef)> {
        let revision: UInt32Array = notes.iter().map(|n| Some(n.revision)).collect();
        let deleted: BooleanArray = notes.iter().map(|n| Some(n.deleted)).collect();
        vec![
            ("foreline_revision", Arc::new(revision) as ArrayRef),
            ("foreline_deleted", Arc::new(deleted)),
        ]
    }

    fn read(rows: &RecordBatch) -> Result<Vec<Self>, Fault> {
        let revision = column(rows, "foreline_revision")?.as_primitive::<UInt32Type>();
        let deleted = column(rows, "foreline_deleted")?.as_boolean();
        let version = |row| Version { revision: revision.value(row), deleted: deleted.value(row) };
        Ok((0..rows.num_rows()).map(version).collect())
    }
}

/// Kept rows as a list a key.
fn lists<N: Note + Copy>(pool: &Pool, keys: &[&[Kept<N>]]) -> Result<ArrayRef, Fault> {
    let rows = || keys.iter().copied().flatten();
    let bare = pool.bare(&rows().map(|r| r.place).collect::<Vec<_>>())?;
    let times: Int64Array = rows().map(|r| Some(r.time)).collect();
    let positions: UInt64Array = rows().map(|r| Some(r.position)).collect();
    let rest: BinaryArray = rows().map(|r| Some(&*r.rest)).collect();
    let notes: Vec<N> = rows().map(|r| r.note).collect();
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in bare.schema().fields().iter().zip(bare.columns()) {
        columns.push((field.name().clone(), Arc::clone(column)));
    }
    columns.push(("foreline_time".to_owned(), Arc::new(times)));
    columns.push(("foreline_position".to_owned(), Arc::new(positions)));
    columns.push(("foreline_rest".to_owned(), Arc::new(rest)));
    columns.extend(N::columns(&notes).into_iter().map(|(name, c)| (name.to_owned(), c)));
    let values = StructArray::from(batch_of(columns)?);
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(keys.iter().map(|rows| rows.len()));
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(values), None)?))
}

/// What [`lists`] was made from; the rows are kept in `pool`.
fn kept_rows<N: Note + Copy>(
    pool: &mut Pool,
    lists: &ArrayRef,
) -> Result<Vec<Vec<Kept<N>>>, Fault> {
    let lists = lists.as_list_opt::<i32>().ok_or_else(|| unreadable(ROWS))?;
    let values = lists.values().as_struct_opt().ok_or_else(|| unreadable(ROWS))?;
    let rows = RecordBatch::from(values.clone());
    let times = column(&rows, "foreline_time")?.as_primitive::<Int64Type>().clone();
    let positions = column(&rows, "foreline_position")?.as_primitive::<UInt64Type>().clone();
    let rest = column(&rows, "foreline_rest")?.as_binary::<i32>().clone();
    let notes = N::read(&rows)?;
    let batch = pool.add_bare(&rows)?;
    let mut all = Vec::with_capacity(lists.len());
    for ends in lists.value_offsets().windows(2) {
        let place = |offset: i32| usize::try_from(offset).expect("an offset is not negative");
        let kept = (place(ends[0])..place(ends[1])).map(|row| Kept {
            time: times.value(row),
            position: positions.value(row),
            place: Place::new(batch, row),
            rest: rest.value(row).into(),
            note: notes[row],
        });
        all.push(kept.collect());
    }
    Ok(all)
}

/// The base of each key, null where it has none.
fn base_column(base: &RecordBatch, hashes: &UInt64Array) -> Result<ArrayRef, Fault> {
    let mut places: Vec<(u64, u32)> =
        hashes_of(base)?.values().iter().copied().zip(0_u32..).collect();
    places.sort_unstable();
    let place = |hash: &u64| {
        let at = places.binary_search_by_key(hash, |(hash, _)| *hash).ok()?;
        Some(places[at].1)
    };
    let places: UInt32Array = hashes.values().iter().map(place).collect();
    Ok(take(&StructArray::from(base.clone()), &places, None)?)
}

fn batch_of(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch, Fault> {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, column)| (Field::new(name, column.data_type().clone(), true), column))
        .unzip();
    Ok(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Fault> {
    batch.column_by_name(name).ok_or_else(|| unreadable(name))
}

fn unreadable(name: &str) -> Fault {
    Fault::new(format!(
        "the saved state cannot be read: it has no fitting column '{name}'; it may be of a run without 'late: correct'"
    ))
}
