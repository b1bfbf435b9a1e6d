//! Steps without any use of their own: one looks rows up, one gives rows another key, one sums by that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use foreline_engine::{
    Account, Batch, Column, Epoch, Fault, Input, InputRange, Keyed, LateSupport, Operator, Out,
    Planned, Schema, ShardSet, WorkerContext, hash_keys, shard_of, worker_of,
};

use crate::feed::readings_schema;

/// The clock and the inputs of every epoch that a step saw.
pub(crate) type Seen = Arc<Mutex<BTreeMap<u64, (i64, Vec<InputRange>)>>>;

fn planned(
    output: Schema,
    build: impl Fn(WorkerContext) -> Box<dyn Operator> + Send + Sync + 'static,
) -> Planned {
    Planned {
        output,
        late: LateSupport::Refuses("this test has no late rows"),
        state_version: 1,
        build: Arc::new(move |context| Ok(build(context))),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

pub(crate) fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let texts = cast(column, &DataType::Utf8).unwrap();
    texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

pub(crate) fn numbers(column: &ArrayRef) -> Vec<Option<i64>> {
    let numbers = cast(column, &DataType::Int64).unwrap();
    numbers.as_primitive::<Int64Type>().iter().collect()
}

/// What is known of a machine: from when, limit, how often.
type Known = BTreeMap<(Option<i64>, i64), u32>;

/// Adds to each row all that the relation has of its machine.
struct Finder {
    known: BTreeMap<String, Known>,
    seen: Seen,
}

pub(crate) fn found_schema() -> Schema {
    let mut columns = readings_schema().columns().to_vec();
    columns.push(Column::new("found", DataType::Utf8));
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

pub(crate) fn finder(seen: &Seen) -> Planned {
    let seen = Arc::clone(seen);
    planned(found_schema(), move |_| {
        Box::new(Finder { known: BTreeMap::new(), seen: Arc::clone(&seen) })
    })
}

/// All that is known of a machine, as text.
pub(crate) fn said(rows: impl IntoIterator<Item = (Option<i64>, i64)>) -> String {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable();
    rows.iter().map(|(since, limit)| format!("{since:?} {limit}; ")).collect()
}

impl Operator for Finder {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let now = (epoch.clock_ns, epoch.inputs.clone());
        let before = self.seen.lock().unwrap().insert(epoch.id, now.clone());
        if before.is_some_and(|before| before != now) {
            return Err(Fault::new(format!("epoch {} is another one than before", epoch.id)));
        }
        if !inputs[1].rows.is_empty() || !inputs[1].revised.is_empty() {
            return Err(Fault::new("rows of a relation came like those of a stream"));
        }
        let rows = inputs[0].rows;
        let found = texts(rows.rows.column(0)).into_iter().flatten().map(|machine| {
            let known = self.known.get(&machine);
            Some(said(known.into_iter().flat_map(|known| known.keys().copied())))
        });
        let mut columns = rows.rows.columns().to_vec();
        columns.push(Arc::new(found.collect::<StringArray>()));
        out.count(Account { used: rows.len() as u64, ..Account::default() });
        out.emit(rows.with_columns(found_schema().arrow(), columns)?);
        Ok(())
    }

    fn relation(&mut self, input: usize, went: &Batch, came: &Batch) -> Result<(), Fault> {
        if input != 1 {
            return Err(Fault::new("the relation is the second input"));
        }
        for (batch, is_there) in [(went, false), (came, true)] {
            let columns = batch.rows.columns();
            let rows = texts(&columns[0]).into_iter().zip(numbers(&columns[1]));
            for ((machine, since), limit) in rows.zip(numbers(&columns[2])) {
                let (machine, limit) = (machine.unwrap_or_default(), limit.unwrap_or_default());
                let known = self.known.entry(machine.clone()).or_default();
                let n = known.entry((since, limit)).or_default();
                if (*n == 1) == is_there {
                    let what = format!("{machine} {since:?} {limit}: came is {is_there}, but {n}");
                    return Err(Fault::new(what));
                }
                *n = u32::from(is_there);
                known.retain(|_, n| *n > 0);
            }
        }
        Ok(())
    }
}

/// The group of a reading.
pub(crate) fn group_of(cycle: i64) -> String {
    format!("g{}", cycle % 5)
}

/// Gives the rows another key.
struct Regroup {
    /// They are all of one group, and of one event time and position.
    alike: bool,
}

pub(crate) fn grouped_schema() -> Schema {
    let columns = vec![
        Column::new("group", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("machine", DataType::Utf8),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["group"], "cycle").unwrap()
}

pub(crate) fn regroup() -> Planned {
    planned(grouped_schema(), |_| Box::new(Regroup { alike: false }))
}

/// As [`regroup`], and nothing tells the rows apart but their order, as with the changes of a view.
pub(crate) fn regroup_alike() -> Planned {
    planned(grouped_schema(), |_| Box::new(Regroup { alike: true }))
}

/// The rows in the order of the contract.
pub(crate) fn sorted(batch: &Batch, schema: &Schema) -> Result<Batch, Fault> {
    let times = batch.times(schema);
    let mut places: Vec<usize> = (0..batch.len()).collect();
    places.sort_by_key(|&r| (batch.key_hash.value(r), times[r], batch.position.value(r)));
    let places: UInt32Array = places.into_iter().map(|r| u32::try_from(r).ok()).collect();
    Ok(batch.take(&places)?)
}

impl Operator for Regroup {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let (rows, schema) = (inputs[0].rows, grouped_schema());
        let groups = numbers(rows.rows.column(1)).into_iter().flatten();
        let groups: StringArray = groups.map(|cycle| Some(group_of(cycle))).collect();
        let columns = vec![
            cast(&groups, schema.arrow().field(0).data_type())?,
            rows.rows.column(1).clone(),
            cast(rows.rows.column(0), &DataType::Utf8)?,
            rows.rows.column(2).clone(),
        ];
        let keyed = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
        let key_hash = hash_keys(&keyed, schema.key());
        let position = rows.position.iter().map(|p| p.filter(|_| !self.alike).or(Some(0)));
        let batch = Batch::new(keyed, key_hash, position.collect());
        out.count(Account { used: rows.len() as u64, ..Account::default() });
        out.emit(sorted(&batch.map_err(|e| Fault::new(e.to_string()))?, &schema)?);
        Ok(())
    }
}

/// The sum of all values of a group so far, for each row; it knows whose keys it is to see.
struct GroupSum {
    sums: Keyed<f64>,
    context: WorkerContext,
}

pub(crate) fn group_sum() -> Planned {
    planned(grouped_schema(), |context| {
        Box::new(GroupSum { sums: Keyed::new(&grouped_schema()), context })
    })
}

impl Operator for GroupSum {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let (rows, schema) = (inputs[0].rows, grouped_schema());
        let values = rows.rows.column(3).as_primitive::<Float64Type>();
        let hashes = rows.key_hash.values().iter();
        let mut owners = hashes.map(|h| worker_of(shard_of(*h), self.context.peers));
        if owners.any(|owner| owner != self.context.index) {
            return Err(Fault::new("a row is on the worker of another key"));
        }
        let mut sums = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let slot = self.sums.slot(rows, schema.key(), row, || 0.0)?;
            let sum = self.sums.get_mut(slot);
            *sum += values.value(row);
            sums.push(*sum);
        }
        let mut columns = rows.rows.columns().to_vec();
        columns[3] = Arc::new(Float64Array::from(sums));
        out.count(Account { used: rows.len() as u64, ..Account::default() });
        out.emit(rows.with_columns(schema.arrow(), columns)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.sums.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.sums.save(shard)
    }

    fn load(&mut self, _: u8, _: u32, state: RecordBatch) -> Result<(), Fault> {
        self.sums.load(&state)
    }
}
