//! State by key, in 256 virtual shards.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, Int32Array, RecordBatch, UInt32Array,
    UInt64Array, make_comparator,
};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType, Field, Int32Type, Schema as ArrowSchema, SchemaRef, UInt64Type};
use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::batch::Batch;
use crate::operator::Fault;
use crate::schema::Schema;
use crate::watermarks::Watermarks;

/// How many virtual shards keyed state is kept in. State moves between workers by shard, so this is also the
/// most workers a pipeline can use; 256 keeps a shard of a million keys near 4,000.
pub const SHARDS: usize = 256;

/// The shard of a key: the top byte of its hash.
#[must_use]
pub fn shard_of(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

/// The worker that owns a shard. Every worker owns a contiguous run, so rows sorted by hash on each worker,
/// taken in the order of the workers, are sorted by hash.
#[must_use]
pub fn worker_of(shard: u8, peers: usize) -> usize {
    usize::from(shard) * peers / SHARDS
}

/// A set of shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet([u64; 4]);

impl ShardSet {
    /// The empty set.
    #[must_use]
    pub const fn none() -> Self {
        ShardSet([0; 4])
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: u8) {
        self.0[usize::from(shard >> 6)] |= 1 << (shard & 63);
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: u8) {
        self.0[usize::from(shard >> 6)] &= !(1 << (shard & 63));
    }

    /// Whether the shard is in it.
    #[must_use]
    pub fn contains(&self, shard: u8) -> bool {
        self.0[usize::from(shard >> 6)] & (1 << (shard & 63)) != 0
    }

    /// The shards, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&s| self.contains(s))
    }
}

/// The hash of the key columns of every row. The same key has the same hash on every machine and in every
/// version: snapshots and the journal depend on it.
///
/// # Panics
/// When a key column has a type that [`Schema`] does not let into a key.
#[must_use]
pub fn hash_keys(rows: &RecordBatch, key: &[usize]) -> UInt64Array {
    let mut hashes = vec![0_u64; rows.num_rows()];
    for &column in key {
        hash_into(rows.column(column), &mut hashes);
    }
    hashes.into()
}

/// Chains the hash of each value onto `hashes`; the first column's seed is 0.
fn hash_into(column: &ArrayRef, hashes: &mut [u64]) {
    fn each<'a>(hashes: &mut [u64], values: impl Iterator<Item = Option<&'a [u8]>>) {
        for (hash, value) in hashes.iter_mut().zip(values) {
            *hash = match value {
                Some(bytes) => xxh3_64_with_seed(bytes, *hash),
                None => xxh3_64_with_seed(&[0xff], hash.wrapping_add(1)),
            };
        }
    }
    match column.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let words = dictionary.values().as_string::<i32>();
            let codes = dictionary.keys();
            if hashes.iter().all(|&h| h == 0) {
                // One column, as nearly always: hash each word once instead of once a row.
                let of_word: Vec<u64> = words
                    .iter()
                    .map(|w| xxh3_64_with_seed(w.unwrap_or("").as_bytes(), 0))
                    .collect();
                let null = xxh3_64_with_seed(&[0xff], 1);
                for (hash, code) in hashes.iter_mut().zip(codes.iter()) {
                    *hash = code.map_or(null, |c| of_word[usize::try_from(c).unwrap_or(0)]);
                }
            } else {
                let word = |c: i32| words.value(usize::try_from(c).unwrap_or(0)).as_bytes();
                each(hashes, codes.iter().map(|c| c.map(word)));
            }
        }
        DataType::Utf8 => {
            each(hashes, column.as_string::<i32>().iter().map(|v| v.map(str::as_bytes)));
        }
        other => {
            let ints = arrow::compute::cast(column, &DataType::Int64)
                .unwrap_or_else(|_| panic!("a key column is text or a whole number, not {other}"));
            let ints = ints.as_primitive::<arrow::datatypes::Int64Type>();
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = if ints.is_null(row) {
                    xxh3_64_with_seed(&[0xff], hash.wrapping_add(1))
                } else {
                    xxh3_64_with_seed(&ints.value(row).to_le_bytes(), *hash)
                };
            }
        }
    }
}

/// State of type `S` for every key, with the keys' columns and the shards.
///
/// A key gets a *slot*, a small number that stays the same for the life of this value but means nothing
/// outside it. Never let slot order show in a result: use [`Keyed::slots_by_hash`].
#[derive(Debug)]
pub struct Keyed<S> {
    slot_of: HashTable<u32>,
    hashes: Vec<u64>,
    states: Vec<S>,
    keys: KeyColumns,
    by_hash: Vec<u32>,
    dirty: ShardSet,
}

impl<S> Keyed<S> {
    /// No keys of a stream of `schema`.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        Keyed {
            slot_of: HashTable::new(),
            hashes: Vec::new(),
            states: Vec::new(),
            keys: KeyColumns::new(schema.key_arrow()),
            by_hash: Vec::new(),
            dirty: ShardSet::none(),
        }
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The slot of a key that is known.
    #[must_use]
    pub fn find(&self, hash: u64) -> Option<u32> {
        self.slot_of.find(hash, |&s| self.hashes[s as usize] == hash).copied()
    }

    /// The slot of the key of `row` in `batch`, whose schema has its key at `key`; made if it is new.
    ///
    /// # Errors
    /// When another key has the same 64-bit hash (one chance in 4·10⁷ among a million keys).
    pub fn slot(
        &mut self,
        batch: &Batch,
        key: &[usize],
        row: usize,
        make: impl FnOnce() -> S,
    ) -> Result<u32, Fault> {
        let hash = batch.key_hash.value(row);
        if let Some(slot) = self.find(hash) {
            return self.keys.same(slot, &batch.rows, key, row).then_some(slot).ok_or_else(|| {
                Fault::new("two keys have the same 64-bit hash; rename one of the keys")
            });
        }
        let columns: Vec<&ArrayRef> = key.iter().map(|&k| batch.rows.column(k)).collect();
        Ok(self.insert(hash, &columns, row, make()))
    }

    /// The slot of a key that `other` has in `slot`, made with `make` where it is not there yet.
    pub fn slot_from<T>(
        &mut self,
        other: &mut Keyed<T>,
        slot: u32,
        make: impl FnOnce() -> S,
    ) -> u32 {
        let hash = other.hash(slot);
        let columns = other.key_columns(&[slot]);
        self.slot_of(hash, &columns.iter().collect::<Vec<_>>(), 0, make)
    }

    /// The slot of the key in `row` of the key columns, for a caller that has no batch; made if it is new.
    pub(crate) fn slot_of(
        &mut self,
        hash: u64,
        columns: &[&ArrayRef],
        row: usize,
        make: impl FnOnce() -> S,
    ) -> u32 {
        self.find(hash).unwrap_or_else(|| self.insert(hash, columns, row, make()))
    }

    /// Puts a key's state there, in place of the one it had.
    pub(crate) fn put(&mut self, hash: u64, columns: &[&ArrayRef], row: usize, state: S) -> u32 {
        match self.find(hash) {
            Some(slot) => {
                self.states[slot as usize] = state;
                slot
            }
            None => self.insert(hash, columns, row, state),
        }
    }

    /// The key columns of `slots` and their hashes, with names for a saved state; no dictionaries, which would
    /// bring the words of all shards along.
    pub(crate) fn saved_keys(&mut self, slots: &[u32]) -> (Vec<Arc<Field>>, Vec<ArrayRef>) {
        let mut columns = self.keys.plain_columns(slots);
        let fields = self.keys.schema.fields().iter().zip(&columns);
        let mut fields: Vec<_> = fields
            .map(|(f, c)| Arc::new(Field::new(f.name(), c.data_type().clone(), true)))
            .collect();
        fields.push(Arc::new(Field::new(HASH_COLUMN, DataType::UInt64, false)));
        let hashes: UInt64Array = slots.iter().map(|&s| self.hashes[s as usize]).collect();
        columns.push(Arc::new(hashes));
        (fields, columns)
    }

    fn insert(&mut self, hash: u64, columns: &[&ArrayRef], row: usize, state: S) -> u32 {
        let slot = u32::try_from(self.states.len()).expect("fewer than 2^32 keys fit in memory");
        let hashes = &mut self.hashes;
        hashes.push(hash);
        self.slot_of.insert_unique(hash, slot, |&s| hashes[s as usize]);
        self.states.push(state);
        self.keys.push(columns, row);
        slot
    }

    /// The state in a slot, to look at.
    #[must_use]
    pub fn get(&self, slot: u32) -> &S {
        &self.states[slot as usize]
    }

    /// The state in a slot, to change; its shard is marked.
    pub fn get_mut(&mut self, slot: u32) -> &mut S {
        self.dirty.insert(shard_of(self.hashes[slot as usize]));
        &mut self.states[slot as usize]
    }

    /// All states, for a change that does not show in what is saved: no shard is marked.
    pub(crate) fn states_mut(&mut self) -> &mut [S] {
        &mut self.states
    }

    /// The hash of the key in a slot.
    #[must_use]
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// All slots, sorted by hash: the order in which rows are emitted.
    pub fn slots_by_hash(&mut self) -> &[u32] {
        if self.by_hash.len() != self.states.len() {
            self.by_hash = (0..u32::try_from(self.states.len()).expect("slots are u32")).collect();
            self.by_hash.sort_unstable_by_key(|&s| self.hashes[s as usize]);
        }
        &self.by_hash
    }

    /// The keys of which `watermarks` say something, each with how far it is complete: first those that are named, then,
    /// where the bound below all keys is above `low`, every key by hash; `low` is raised to it. A key may be there twice.
    pub fn reached(&mut self, watermarks: &Watermarks, low: &mut i64) -> Vec<(u32, i64)> {
        let named = watermarks.iter().filter_map(|(_, hash, at)| Some((self.find(hash)?, at)));
        let mut reached: Vec<(u32, i64)> = named.collect();
        if watermarks.low > *low {
            *low = watermarks.low;
            reached.extend(self.slots_by_hash().iter().map(|&slot| (slot, watermarks.low)));
        }
        reached
    }

    /// The key columns of `slots`, one row a slot, in key order; text stays dictionary-encoded.
    pub fn key_columns(&mut self, slots: &[u32]) -> Vec<ArrayRef> {
        self.keys.columns(slots)
    }

    /// The key in a slot as a person reads it: its columns joined by `,`.
    #[must_use]
    pub fn key_text(&self, slot: u32) -> String {
        self.keys.text(slot)
    }

    /// All slots of a shard, sorted by hash.
    pub(crate) fn slots_of_shard(&mut self, shard: u8) -> Vec<u32> {
        let slots = self.slots_by_hash().to_vec();
        let begin = slots.partition_point(|&s| shard_of(self.hashes[s as usize]) < shard);
        let end = slots.partition_point(|&s| shard_of(self.hashes[s as usize]) <= shard);
        slots[begin..end].to_vec()
    }

    /// Notes that a shard was saved.
    pub(crate) fn saved(&mut self, shard: u8) {
        self.dirty.remove(shard);
    }

    /// The shards whose state was touched since they were saved.
    #[must_use]
    pub fn dirty(&self) -> ShardSet {
        self.dirty
    }
}

/// Name of the column that holds a key's hash in saved state.
pub const HASH_COLUMN: &str = "foreline_key_hash";
/// Name of the column that holds a key's state, as postcard bytes.
pub(crate) const STATE_COLUMN: &str = "foreline_state";

impl<S: Serialize + DeserializeOwned> Keyed<S> {
    /// The keys of a shard with their states: the key columns, the hash, the state as postcard bytes.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.saved(shard);
        let slots = self.slots_of_shard(shard);
        if slots.is_empty() {
            return Ok(None);
        }
        let states = slots
            .iter()
            .map(|&s| postcard::to_allocvec(&self.states[s as usize]))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Fault::new(format!("state cannot be written: {e}")))?;
        let states = BinaryArray::from_iter_values(states);
        let (mut fields, mut columns) = self.saved_keys(&slots);
        fields.push(Arc::new(Field::new(STATE_COLUMN, DataType::Binary, false)));
        columns.push(Arc::new(states));
        Ok(Some(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?))
    }

    /// Takes over what [`Keyed::save`] wrote, all of it or some rows. The state of a key that is there already is
    /// replaced, in its slot.
    ///
    /// # Errors
    /// When it does not have that shape.
    pub fn load(&mut self, saved: &RecordBatch) -> Result<(), Fault> {
        let n_key = self.keys.schema.fields().len();
        let bad = |what: &str| Fault::new(format!("saved state cannot be read: {what}"));
        if saved.num_columns() != n_key + 2 {
            return Err(bad("it has another number of columns"));
        }
        let hashes = saved.column(n_key);
        let hashes = hashes.as_primitive_opt::<UInt64Type>().ok_or_else(|| bad("no hashes"))?;
        let states = saved.column(n_key + 1);
        let states = states.as_binary_opt::<i32>().ok_or_else(|| bad("no states"))?;
        let columns: Vec<&ArrayRef> = (0..n_key).map(|c| saved.column(c)).collect();
        for row in 0..saved.num_rows() {
            let state = postcard::from_bytes(states.value(row)).map_err(|e| bad(&e.to_string()))?;
            self.put(hashes.value(row), &columns, row, state);
        }
        Ok(())
    }
}

/// The key columns of all slots, one row a slot.
#[derive(Debug)]
struct KeyColumns {
    schema: SchemaRef,
    /// Done: one array a column, plain text instead of a dictionary.
    stored: Vec<ArrayRef>,
    /// Rows that are not in `stored` yet: (columns, row).
    pending: Vec<(Vec<ArrayRef>, usize)>,
}

impl KeyColumns {
    fn new(schema: SchemaRef) -> Self {
        let stored =
            schema.fields().iter().map(|f| arrow::array::new_empty_array(&plain(f.data_type())));
        KeyColumns { stored: stored.collect(), schema, pending: Vec::new() }
    }

    fn push(&mut self, columns: &[&ArrayRef], row: usize) {
        let one: Vec<ArrayRef> = columns.iter().map(|c| plain_row(c, row)).collect();
        self.pending.push((one, 0));
        if self.pending.len() > 1024 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        for (c, stored) in self.stored.iter_mut().enumerate() {
            let mut parts: Vec<&dyn Array> = vec![stored.as_ref()];
            parts.extend(self.pending.iter().map(|(columns, _)| columns[c].as_ref()));
            *stored = concat(&parts).expect("all parts have the column's type");
        }
        self.pending.clear();
    }

    /// The one-row arrays of a slot.
    fn row(&self, slot: u32) -> (Vec<&ArrayRef>, usize) {
        let settled = self.stored.first().map_or(0, |s| s.len());
        let slot = slot as usize;
        if slot < settled {
            (self.stored.iter().collect(), slot)
        } else {
            let (columns, row) = &self.pending[slot - settled];
            (columns.iter().collect(), *row)
        }
    }

    fn same(&self, slot: u32, rows: &RecordBatch, key: &[usize], row: usize) -> bool {
        let (mine, at) = self.row(slot);
        mine.iter().zip(key).all(|(mine, &k)| equal(mine, at, rows.column(k), row))
    }

    fn columns(&mut self, slots: &[u32]) -> Vec<ArrayRef> {
        self.settle();
        let fields = self.schema.fields().clone();
        let one = |(stored, field): (&ArrayRef, &Arc<Field>)| -> ArrayRef {
            if let DataType::Dictionary(_, _) = field.data_type() {
                let codes: Int32Array =
                    slots.iter().map(|&s| i32::try_from(s).expect("keys fit in i32")).collect();
                Arc::new(
                    DictionaryArray::<Int32Type>::try_new(codes, Arc::clone(stored))
                        .expect("every slot has a stored key"),
                )
            } else {
                let slots = UInt32Array::from(slots.to_vec());
                take(stored, &slots, None).expect("every slot has a stored key")
            }
        };
        self.stored.iter().zip(fields.iter()).map(one).collect()
    }

    /// The columns of `slots`, dictionaries decoded.
    fn plain_columns(&mut self, slots: &[u32]) -> Vec<ArrayRef> {
        self.settle();
        let slots = UInt32Array::from(slots.to_vec());
        let one =
            |stored: &ArrayRef| take(stored, &slots, None).expect("every slot has a stored key");
        self.stored.iter().map(one).collect()
    }

    fn text(&self, slot: u32) -> String {
        let (columns, row) = self.row(slot);
        let texts = columns
            .iter()
            .map(|c| arrow::util::display::array_value_to_string(c, row).unwrap_or_default());
        texts.collect::<Vec<_>>().join(",")
    }
}

/// The type that a key column is stored in.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// One row of a column, a dictionary decoded.
fn plain_row(column: &ArrayRef, row: usize) -> ArrayRef {
    let one = column.slice(row, 1);
    match column.data_type() {
        DataType::Dictionary(_, values) => {
            arrow::compute::cast(&one, values).expect("a dictionary casts to its values")
        }
        // A slice would keep the whole batch alive.
        _ => take(&one, &UInt32Array::from(vec![0]), None).expect("row 0 of one row"),
    }
}

/// Whether two values are equal; `theirs` may be a dictionary.
fn equal(mine: &ArrayRef, at: usize, theirs: &ArrayRef, row: usize) -> bool {
    match (mine.data_type(), theirs.data_type()) {
        (DataType::Utf8, DataType::Dictionary(_, _)) => {
            let theirs = theirs.as_dictionary::<Int32Type>();
            let mine = mine.as_string::<i32>();
            if theirs.is_null(row) || mine.is_null(at) {
                return theirs.is_null(row) && mine.is_null(at);
            }
            let code = usize::try_from(theirs.keys().value(row)).unwrap_or(0);
            theirs.values().as_string::<i32>().value(code) == mine.value(at)
        }
        (DataType::Utf8, DataType::Utf8) => {
            let (mine, theirs) = (mine.as_string::<i32>(), theirs.as_string::<i32>());
            mine.is_null(at) == theirs.is_null(row) && mine.value(at) == theirs.value(row)
        }
        (DataType::Int64, DataType::Int64) => {
            let ints = |a: &ArrayRef, i: usize| {
                let a = a.as_primitive::<arrow::datatypes::Int64Type>();
                a.is_valid(i).then(|| a.value(i))
            };
            ints(mine, at) == ints(theirs, row)
        }
        _ => make_comparator(mine, theirs, SortOptions::default())
            .is_ok_and(|compare| compare(at, row).is_eq()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::schema::Column;

    fn batch(machines: &[&str], lines: &[i64]) -> (Schema, Batch) {
        let columns = vec![
            Column::new("machine", DataType::Utf8),
            Column::new("line", DataType::Int64),
            Column::new("at", DataType::Int64),
        ];
        let schema = Schema::new(columns, &["machine", "line"], "at").unwrap();
        let machines = StringArray::from(machines.to_vec());
        let columns: Vec<ArrayRef> = vec![
            arrow::compute::cast(&machines, &crate::schema::dictionary_type()).unwrap(),
            Arc::new(Int64Array::from(lines.to_vec())),
            Arc::new(Int64Array::from(vec![0; lines.len()])),
        ];
        let rows = RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
        let hash = hash_keys(&rows, schema.key());
        let position = vec![0; lines.len()];
        (schema, Batch::new(rows, hash, position.into()).unwrap())
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // Snapshots and journals of earlier versions depend on these values.
        let (_, batch) = batch(&["P-1", "P-1", ""], &[1, 2, -1]);
        let hashes: Vec<String> =
            batch.key_hash.values().iter().map(|h| format!("{h:016x}")).collect();
        // XXH3 of the text with seed 0, then of the number's 8 bytes with that as seed; checked with Python's xxhash.
        assert_eq!(hashes, ["74697240379d8a95", "86031232c08191c6", "36f62bb75f73b071"]);
    }

    #[test]
    fn a_dictionary_hashes_like_its_text() {
        let words = StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]);
        let coded = arrow::compute::cast(&words, &crate::schema::dictionary_type()).unwrap();
        let hash = |column: ArrayRef| {
            hash_keys(&RecordBatch::try_from_iter([("k", column)]).unwrap(), &[0])
        };
        let hashes = hash(Arc::new(words));
        assert_eq!(hashes, hash(coded));
        assert_eq!(hashes.value(0), hashes.value(3));
        assert_ne!(hashes.value(0), hashes.value(1));
    }

    #[test]
    fn state_moves_by_shard_and_keeps_every_bit() {
        let names: Vec<String> = (0..500).map(|i| format!("m{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (schema, batch) = batch(&names, &vec![7; 500]);
        let mut all = Keyed::<f64>::new(&schema);
        for row in 0..batch.len() {
            let slot = all.slot(&batch, schema.key(), row, || 0.1 * row as f64).unwrap();
            all.get_mut(slot);
        }
        let dirty: Vec<u8> = all.dirty().iter().collect();
        assert!(dirty.len() > 100);
        let mut other = Keyed::<f64>::new(&schema);
        for shard in dirty {
            other.load(&all.save(shard).unwrap().unwrap()).unwrap();
        }
        assert_eq!(all.dirty(), ShardSet::none());
        assert_eq!(other.len(), 500);
        for row in 0..batch.len() {
            let slot = other.find(batch.key_hash.value(row)).unwrap();
            assert_eq!(other.get(slot).to_bits(), (0.1 * row as f64).to_bits());
            assert_eq!(other.key_text(slot), format!("m{row},7"));
        }
        let slots = other.slots_by_hash().to_vec();
        assert!(slots.windows(2).all(|w| other.hash(w[0]) < other.hash(w[1])));
    }

    #[test]
    fn what_is_loaded_replaces_the_state_of_its_keys_alone() {
        let (schema, batch) = batch(&["a", "b"], &[1, 1]);
        let mut old = Keyed::<f64>::new(&schema);
        let mut new = Keyed::<f64>::new(&schema);
        let slots = [0, 1].map(|row| old.slot(&batch, schema.key(), row, || 1.0).unwrap());
        new.slot(&batch, schema.key(), 0, || 2.0).unwrap();
        let saved = new.save(shard_of(batch.key_hash.value(0))).unwrap().unwrap();
        old.load(&saved).unwrap();
        assert_eq!((old.len(), old.key_text(slots[0])), (2, "a,1".to_owned()));
        assert_eq!(slots.map(|slot| *old.get(slot)), [2.0, 1.0]);
    }

    #[test]
    fn two_keys_with_one_hash_are_refused() {
        let (schema, mut batch) = batch(&["a", "b"], &[1, 1]);
        batch.key_hash = UInt64Array::from(vec![5, 5]);
        let mut keyed = Keyed::<u8>::new(&schema);
        keyed.slot(&batch, schema.key(), 0, || 0).unwrap();
        let fault = keyed.slot(&batch, schema.key(), 1, || 0).unwrap_err();
        assert!(fault.message.contains("same 64-bit hash"), "{fault}");
    }

    #[test]
    fn workers_own_contiguous_shards() {
        for peers in 1..=8 {
            let owners: Vec<usize> = (0..=u8::MAX).map(|s| worker_of(s, peers)).collect();
            assert!(owners.is_sorted());
            assert_eq!(owners.last(), Some(&(peers - 1)));
        }
    }

    #[test]
    fn saved_state_of_another_shape_is_refused() {
        let (schema, batch) = batch(&["a"], &[1]);
        let mut keyed = Keyed::<f64>::new(&schema);
        let fault = keyed.load(&batch.rows).unwrap_err();
        assert!(fault.message.contains("cannot be read"), "{fault}");
    }
}
