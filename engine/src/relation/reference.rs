//! What is made of the rows of a source that is a relation: a row takes the place of the one with its key.
//!
//! Input   chunks: whole tables, after which nothing stands but what the chunk has, or changes, row by row
//! Output  changes of what stands now, and of all that is known ([`Versions`](crate::StreamId::Versions))
//! State   of each key its rows by the time from which they count
//!
//! What a reader would get wrong:
//!
//! * Where a chunk is a whole table, a worker that has no row of it learns of it from the epoch's list of inputs, so that each
//!   worker can take away what is no longer there.
//! * Without a column of times from which rows count there is one row a key. With one, the row that stands *now*, by the
//!   epoch's clock, is what views see, and the others wait for their time, or are kept for rows of streams that are older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, TimestampNanosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{
    DataType, Field, Schema as ArrowSchema, TimestampNanosecondType, UInt64Type,
};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::batch::{Batch, times_of};
use crate::dead::{DeadLetter, Reason};
use crate::epoch::{Epoch, SourceId};
use crate::graph::RelationRules;
use crate::keyed::{HASH_COLUMN, STATE_COLUMN, ShardSet, shard_of};
use crate::operator::Fault;
use crate::relation::{Codec, Row, plain};
use crate::schema::{Schema, TimeDomain};
use crate::source::{Partition, Position};

/// A key: its hash, and its columns.
type Key = (u64, Row);
/// The rows of a key by the time from which they count; the least time where there is only one.
type ByTime = BTreeMap<i64, Row>;

/// What is known of a key.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    rows: ByTime,
    /// The row that stands, as far as was told.
    told: Option<Row>,
}

/// What came and what went.
#[derive(Debug)]
pub(crate) struct Difference {
    pub went: Batch,
    pub came: Batch,
}

/// What an epoch has changed.
#[derive(Debug)]
pub(crate) struct Changed {
    /// Of the rows that stand now.
    pub now: Difference,
    /// Of all rows.
    pub all: Difference,
    pub dead: Vec<DeadLetter>,
    pub account: Account,
}

/// A relation that is a source, on one worker: the keys of its shards.
#[derive(Debug)]
pub(crate) struct Reference {
    source: SourceId,
    /// The declared columns, then the time of the change.
    schema: Schema,
    rules: RelationRules,
    codec: Codec,
    of_key: Codec,
    keys: BTreeMap<Key, Known>,
    n_rows: usize,
    /// Rows that begin to count later, by that time.
    to_come: BTreeSet<(i64, Key)>,
    dirty: ShardSet,
}

/// A chunk of an epoch.
#[derive(Debug, Clone, Copy)]
struct Part {
    partition: Partition,
    first: u64,
    end: u64,
}

impl Part {
    fn has(&self, position: u64) -> bool {
        let position = Position(position);
        position.partition() == self.partition
            && (self.first..self.end).contains(&position.ordinal())
    }
}

impl Reference {
    /// Raised whenever the meaning of what [`Reference::save`] writes changes.
    pub(crate) const STATE_VERSION: u32 = 1;

    /// The relation of `source`, whose stream has `schema`.
    pub(crate) fn new(
        source: SourceId,
        schema: Schema,
        rules: RelationRules,
    ) -> Result<Self, Fault> {
        let n = schema.columns().len() - 1;
        let fields = schema.arrow().fields()[..n].iter();
        let fields = fields.map(|f| f.as_ref().clone().with_data_type(plain(f.data_type())));
        let declared = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        Ok(Reference {
            of_key: Codec::of(&declared, schema.key())?,
            codec: Codec::new(declared)?,
            source,
            schema,
            rules,
            keys: BTreeMap::new(),
            n_rows: 0,
            to_come: BTreeSet::new(),
            dirty: ShardSet::none(),
        })
    }

    /// Takes the rows of an epoch in, in any order of batches; none has rows of two chunks.
    pub(crate) fn epoch(
        &mut self,
        epoch: &Epoch,
        mut incoming: Vec<Batch>,
    ) -> Result<Changed, Fault> {
        incoming.retain(|b| !b.is_empty());
        let mut pass = Pass { clock_ns: epoch.clock_ns, ..Pass::default() };
        let source = self.source;
        let own = epoch.inputs.iter().filter(|input| input.source == source);
        let parts = own.map(|input| Part {
            partition: input.partition,
            first: input.range.first_ordinal,
            end: input.range.end_ordinal,
        });
        for part in parts {
            let its = |batch: &Batch| part.has(batch.position.value(0));
            let (mut batches, others): (Vec<_>, Vec<_>) = incoming.into_iter().partition(its);
            incoming = others;
            batches.sort_by_key(|batch| batch.position.value(0));
            self.take(&batches, &mut pass)?;
        }
        if !incoming.is_empty() {
            return Err(Fault::new("rows came that are of no chunk of the epoch (a bug)"));
        }
        self.begin_to_count(epoch.clock_ns, &mut pass);
        if self.n_rows > self.rules.max_rows {
            return Err(Fault::new(format!(
                "it has more than {} rows; raise its 'max_rows', or let less into it",
                self.rules.max_rows
            )));
        }
        self.tell(pass)
    }

    /// Takes a chunk in.
    fn take(&mut self, batches: &[Batch], pass: &mut Pass) -> Result<(), Fault> {
        let mut there = BTreeSet::new();
        for batch in batches {
            self.take_batch(batch, &mut there, pass)?;
        }
        if self.rules.whole {
            let gone = self.keys.iter().flat_map(|(key, known)| {
                let from = known.rows.keys().filter(|from| !there.contains(&(key.clone(), **from)));
                from.map(|from| (key.clone(), *from))
            });
            for (key, from) in gone.collect::<Vec<_>>() {
                self.remove(&key, Some(from), pass);
            }
        }
        Ok(())
    }

    fn take_batch(
        &mut self,
        batch: &Batch,
        there: &mut BTreeSet<(Key, i64)>,
        pass: &mut Pass,
    ) -> Result<(), Fault> {
        let n = self.codec_columns();
        let gone = batch.rows.column(n).as_boolean();
        let rows = self.codec.encode(&self.dated(batch, pass.clock_ns)?)?;
        let picked: Vec<ArrayRef> =
            self.schema.key().iter().map(|&k| batch.rows.column(k).clone()).collect();
        let keys = self.of_key.encode(&picked)?;
        let from = self.rules.valid_from.map(|c| batch.rows.column(c).clone());
        let domain = self.domain();
        pass.account.used += batch.len() as u64;
        for (i, (row, key)) in rows.into_iter().zip(keys).enumerate() {
            let key = (batch.key_hash.value(i), key);
            let given = from.as_ref().filter(|c| c.is_valid(i)).map(|c| times_of(c, domain)[i]);
            if gone.value(i) {
                self.remove(&key, given, pass);
                continue;
            }
            let now = self.counts_from(pass.clock_ns).filter(|_| from.is_some());
            let from = given.or(now).unwrap_or(i64::MIN);
            if self.rules.whole && !there.insert((key.clone(), from)) {
                pass.repeated(&batch.slice(i, 1), &self.schema);
                continue;
            }
            self.put(key, from, row, pass);
        }
        Ok(())
    }

    /// From when a row counts that does not say so: a table says what has always been so, a change is one from now on.
    fn counts_from(&self, clock_ns: i64) -> Option<i64> {
        let is_time = self.domain() == TimeDomain::UtcNanos;
        (is_time && !self.rules.whole).then_some(clock_ns)
    }

    /// The declared columns, with the time from which each row counts filled in.
    fn dated(&self, batch: &Batch, clock_ns: i64) -> Result<Vec<ArrayRef>, Fault> {
        let mut columns = batch.rows.columns()[..self.codec_columns()].to_vec();
        if let (Some(c), Some(now)) = (self.rules.valid_from, self.counts_from(clock_ns))
            && columns[c].null_count() > 0
        {
            let times = columns[c].as_primitive::<TimestampNanosecondType>();
            let times = times.iter().map(|time| time.or(Some(now)));
            let times: TimestampNanosecondArray = times.collect();
            columns[c] = Arc::new(times.with_timezone("UTC"));
        }
        Ok(columns)
    }

    fn codec_columns(&self) -> usize {
        self.schema.columns().len() - 1
    }

    fn domain(&self) -> TimeDomain {
        let column = self.rules.valid_from.map(|c| &self.schema.columns()[c].data_type);
        match column {
            Some(DataType::Int64) => TimeDomain::Logical,
            _ => TimeDomain::UtcNanos,
        }
    }

    fn put(&mut self, key: Key, from: i64, row: Row, pass: &mut Pass) {
        let known = self.keys.entry(key.clone()).or_default();
        if known.rows.get(&from) == Some(&row) {
            return;
        }
        pass.touch(&key, known);
        self.n_rows += usize::from(known.rows.insert(from, row).is_none());
        if self.rules.valid_from.is_some() {
            self.to_come.insert((from, key));
        }
    }

    /// Takes the row away that counts from that time on; all rows of the key where none is named.
    fn remove(&mut self, key: &Key, from: Option<i64>, pass: &mut Pass) {
        let Some(known) = self.keys.get_mut(key) else { return };
        pass.touch(key, known);
        let gone: ByTime = match from {
            Some(from) => known.rows.remove_entry(&from).into_iter().collect(),
            None => std::mem::take(&mut known.rows),
        };
        self.n_rows -= gone.len();
        // Or times that lie far ahead would gather here, change after change.
        for from in gone.into_keys() {
            self.to_come.remove(&(from, key.clone()));
        }
    }

    /// Notes the keys of which another row counts from now on.
    fn begin_to_count(&mut self, clock_ns: i64, pass: &mut Pass) {
        let now = self.now(clock_ns);
        while let Some((from, _)) = self.to_come.first()
            && *from <= now
            && let Some((_, key)) = self.to_come.pop_first()
        {
            if let Some(known) = self.keys.get(&key) {
                pass.touch(&key, known);
            }
        }
    }

    /// Up to when rows count; counts are no times of the clock's.
    fn now(&self, clock_ns: i64) -> i64 {
        if self.domain() == TimeDomain::Logical { i64::MAX } else { clock_ns }
    }

    /// Says what has changed of the keys that were touched.
    fn tell(&mut self, pass: Pass) -> Result<Changed, Fault> {
        let now = self.now(pass.clock_ns);
        let mut rows = [const { Vec::new() }; 4];
        let [went_now, came_now, went, came] = &mut rows;
        for (key, before) in &pass.before {
            let Some(known) = self.keys.get_mut(key) else { continue };
            let stands = known.rows.range(..=now).next_back().map(|(_, row)| row.clone());
            if known.told != stands {
                went_now.extend(known.told.take().map(|row| (key.0, row)));
                came_now.extend(stands.clone().map(|row| (key.0, row)));
                known.told = stands;
            }
            let lost = before.rows.iter().filter(|(from, row)| known.rows.get(from) != Some(row));
            went.extend(lost.map(|(_, row)| (key.0, row.clone())));
            let new = known.rows.iter().filter(|(from, row)| before.rows.get(from) != Some(row));
            came.extend(new.map(|(_, row)| (key.0, row.clone())));
            if *known != *before {
                self.dirty.insert(shard_of(key.0));
            }
            if known.rows.is_empty() {
                self.keys.remove(key);
            }
        }
        let [went_now, came_now, went, came] = rows;
        let batch = |rows: &[(u64, Row)]| self.batch(rows, pass.clock_ns);
        let mut account = pass.account;
        account.emitted += (went_now.len() + came_now.len()) as u64;
        Ok(Changed {
            now: Difference { went: batch(&went_now)?, came: batch(&came_now)? },
            all: Difference { went: batch(&went)?, came: batch(&came)? },
            dead: pass.dead,
            account,
        })
    }

    /// Rows as a batch of the stream, in its order.
    fn batch(&self, rows: &[(u64, Row)], clock_ns: i64) -> Result<Batch, Fault> {
        let arrow = self.schema.arrow();
        let decoded = self.codec.decode(rows.iter().map(|(_, row)| row))?;
        let columns = decoded.columns().iter().zip(arrow.fields());
        let columns =
            columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        let clock = TimestampNanosecondArray::from(vec![clock_ns; rows.len()]);
        columns.push(Arc::new(clock.with_timezone("UTC")));
        let hash: UInt64Array = rows.iter().map(|(hash, _)| *hash).collect();
        let position = UInt64Array::from(vec![0; rows.len()]);
        let rows = RecordBatch::try_new(arrow.clone(), columns)?;
        Batch::new(rows, hash, position).map_err(|e| Fault::new(e.to_string()))
    }

    /// The rows that stand now, and all rows.
    pub(crate) fn standing(&self) -> Result<(Batch, Batch), Fault> {
        let told = self.keys.iter().filter_map(|(key, known)| Some((key.0, known.told.clone()?)));
        let all = self
            .keys
            .iter()
            .flat_map(|(key, known)| known.rows.values().map(move |row| (key.0, row.clone())));
        let (told, all): (Vec<_>, Vec<_>) = (told.collect(), all.collect());
        Ok((self.batch(&told, 0)?, self.batch(&all, 0)?))
    }

    pub(crate) fn dirty(&self) -> ShardSet {
        self.dirty
    }

    /// The state of a shard; `None` when it has no rows.
    pub(crate) fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.dirty.remove(shard);
        let own = |(key, _): &(&Key, &Known)| shard_of(key.0) == shard;
        let least = (u64::from(shard) << 56, Row::default());
        let own: Vec<_> = self.keys.range(least..).take_while(own).collect();
        if own.is_empty() {
            return Ok(None);
        }
        let hashes: UInt64Array = own.iter().map(|(key, _)| key.0).collect();
        let bytes = own.iter().map(|(key, known)| postcard::to_allocvec(&(&key.1, known)));
        let bytes = bytes.collect::<Result<Vec<_>, _>>().map_err(|e| Fault::new(e.to_string()))?;
        let fields = vec![
            Field::new(HASH_COLUMN, DataType::UInt64, false),
            Field::new(STATE_COLUMN, DataType::Binary, false),
        ];
        let columns: Vec<ArrayRef> =
            vec![Arc::new(hashes), Arc::new(BinaryArray::from_iter_values(bytes))];
        Ok(Some(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?))
    }

    /// Takes over the state of a shard, written by `version` of this code.
    pub(crate) fn load(&mut self, version: u32, saved: &RecordBatch) -> Result<(), Fault> {
        let bad = || Fault::new("the saved rows of the relation cannot be read");
        if version != Self::STATE_VERSION || saved.num_columns() != 2 {
            return Err(bad());
        }
        let hashes = saved.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(bad)?;
        let states = saved.column(1).as_binary_opt::<i32>().ok_or_else(bad)?;
        for row in 0..saved.num_rows() {
            let (key, known): (Row, Known) =
                postcard::from_bytes(states.value(row)).map_err(|_| bad())?;
            let key = (hashes.value(row), key);
            self.n_rows += known.rows.len();
            if self.rules.valid_from.is_some() {
                // What counts already is passed over at the next epoch.
                self.to_come.extend(known.rows.keys().map(|from| (*from, key.clone())));
            }
            self.keys.insert(key, known);
        }
        Ok(())
    }
}

/// What an epoch does.
#[derive(Debug, Default)]
struct Pass {
    clock_ns: i64,
    /// The keys that were touched, as they were.
    before: BTreeMap<Key, Known>,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Pass {
    fn touch(&mut self, key: &Key, known: &Known) {
        if !self.before.contains_key(key) {
            self.before.insert(key.clone(), known.clone());
        }
    }

    /// A row of a whole table whose key the table had before.
    fn repeated(&mut self, row: &Batch, schema: &Schema) {
        let detail = "another row of the table has its key; the first one counts";
        let key = schema.key().iter().map(|&k| {
            arrow::util::display::array_value_to_string(row.rows.column(k), 0).unwrap_or_default()
        });
        self.account.used -= 1;
        self.account.dead += 1;
        self.dead.push(DeadLetter {
            key: Some(key.collect::<Vec<_>>().join(",")),
            position: Some(row.position.value(0)),
            ..DeadLetter::new(Reason::REPEATED_KEY, detail)
        });
    }
}

impl Difference {
    /// The rows as the contract has them: what came, and what went as deleted rows.
    pub(crate) fn marked(self) -> [Batch; 2] {
        let n = self.went.len();
        let went = Batch {
            revision: Some(UInt32Array::from(vec![0; n])),
            deleted: Some(BooleanArray::from(vec![true; n])),
            ..self.went
        };
        [went, self.came]
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::keyed::hash_keys;
    use crate::relation::CHANGED_AT;
    use crate::schema::{Column, PrimaryKey};
    use crate::source::Range;
    use crate::{GONE, InputRange};

    fn schema() -> Schema {
        let columns = vec![
            Column::new("n", DataType::Int64),
            Column::new("since", TimeDomain::UtcNanos.data_type()),
            Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()),
        ];
        let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
        Schema::with_primary_key(columns, vec![0], 2, primary_key).unwrap()
    }

    /// Row 7 that counts from a time on comes, or goes, in an epoch of its own.
    fn epoch(reference: &mut Reference, id: u64, since: Option<i64>, gone: bool) -> Changed {
        let times: TimestampNanosecondArray = [since].into_iter().collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![7]))),
            ("since", Arc::new(times.with_timezone("UTC"))),
            (GONE, Arc::new(BooleanArray::from(vec![gone]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let position = UInt64Array::from(vec![Position::new(Partition(0), id).0]);
        let batch = Batch::new(rows.clone(), hash_keys(&rows, &[0]), position).unwrap();
        let range = Range { start: id, end: id + 1, first_ordinal: id, end_ordinal: id + 1 };
        let input = InputRange { source: SourceId(0), partition: Partition(0), range };
        let (inputs, clock_ns) = (vec![input], i64::try_from(id).unwrap());
        let epoch = Epoch { id, clock_ns, inputs, commands: vec![], ended: vec![] };
        reference.epoch(&epoch, vec![batch]).unwrap()
    }

    #[test]
    fn rows_that_are_to_count_later_and_go_before_leave_nothing_behind() {
        let rules = RelationRules { whole: false, valid_from: Some(1), max_rows: 3 };
        let mut reference = Reference::new(SourceId(0), schema(), rules).unwrap();
        for id in (1..400).step_by(2) {
            let far = 1_000_000 + i64::try_from(id).unwrap();
            let changed = epoch(&mut reference, id, Some(far), false);
            assert_eq!((changed.now.came.len(), changed.all.came.len()), (0, 1));
            // All of them go, or the one that counts from then on.
            let since = (id % 4 == 1).then_some(far);
            let changed = epoch(&mut reference, id + 1, since, true);
            assert_eq!((changed.now.went.len(), changed.all.went.len()), (0, 1));
            assert_eq!(
                (reference.to_come.len(), reference.keys.len(), reference.n_rows),
                (0, 0, 0)
            );
        }
    }
}
