//! Puts the rows of several streams into one.
//!
//! Input   two or more keyed streams with the same columns in the same units, in any order of the columns
//! Output  all rows, with the columns in the order of the first stream and a column with the number of the stream that
//!         the row is from, counted from 0 in the order of `from`; the number tells rows apart, beside what does so in
//!         the streams
//! State   for each key the rows that wait for the other streams, at most `max_rows`, and how far each stream is
//! Late    refuses `late: { correct }`: it reads several streams
//! Errors  a row that comes when `max_rows` rows of its key wait goes to the dead letters as `waiting_full`
//! Source  SQL `UNION ALL`
//!
//! The rows of a key go out in the order of their event time; of rows of one time by position, then by stream. So a row
//! waits until no earlier one can follow in any stream: the watermark of what comes out is the least of theirs. A key
//! that one of the streams does not have waits for the bound below all keys of that stream, which only an idle timeout
//! or the end moves past the slowest of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Batch, Column, ConfigError, DeadLetter, Epoch, Family, Fault, Input, Keyed,
    LateSupport, Operator, OperatorKind, Out, Planned, Resolver, Schema, ShardSet, Unit,
    Watermarks, identifies_like,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::asof_join::room;
use crate::columns::{output, same_version};
use crate::held::{Body, Codec, Held, Marks, WAITING_FULL};
use crate::joining::{REFUSAL, can_meet};

/// Raised whenever `Waiting` changes.
const STATE_VERSION: u32 = 1;

/// Puts the rows of several streams into one. `from` names them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnionConfig {
    /// The new column with the number of the stream that a row is from; `input` unless given.
    #[serde(default = "input", rename = "as")]
    pub name: String,
    /// Most rows of a key that may wait; 100,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

fn input() -> String {
    "input".to_owned()
}

/// The kind `union`.
#[derive(Debug, Clone, Copy)]
pub struct Union;

impl OperatorKind for Union {
    type Config = UnionConfig;

    const NAME: &'static str = "union";
    const SUMMARY: &'static str = "puts the rows of several streams into one";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = r#"fast: { from: readings, filter: "speed > 1500" }
slow: { from: readings, filter: "speed < 300" }
both: { from: [fast, slow], union: {} }"#;

    fn plan(
        config: &UnionConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let [first, others @ ..] = inputs else { return Err(vec![too_few(0)]) };
        if others.is_empty() {
            return Err(vec![too_few(1)]);
        }
        let mut errors = Vec::new();
        let mut orders = vec![(0..first.columns().len()).collect::<Vec<_>>()];
        for (other, number) in others.iter().zip(2..) {
            match order(first, other, number) {
                Ok(order) => orders.push(order),
                Err(e) => errors.extend(e),
            }
        }
        let max_rows = room(config.max_rows).map_err(|e| errors.push(e));
        let mut columns = first.columns().to_vec();
        let mut primary_key = first.primary_key().clone();
        primary_key.columns.push(columns.len());
        columns.push(Column::new(config.name.as_str(), DataType::Int64));
        let schema = output(columns, first.key().to_vec(), first.time(), primary_key);
        let schema = schema.map_err(|e| errors.push(e.under("as")));
        let (Ok(max_rows), Ok(output), true) = (max_rows, schema, errors.is_empty()) else {
            return Err(errors);
        };
        let (inputs, schema) = (inputs.to_vec(), output.clone());
        Ok(Planned {
            output,
            late: LateSupport::Refuses(REFUSAL),
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let codec = Codec::new(inputs[0].columns())?;
                let keys = Keyed::new(&inputs[0]);
                let lows = vec![i64::MIN; inputs.len()];
                let (inputs, orders, output) = (inputs.clone(), orders.clone(), schema.clone());
                Ok(Box::new(Together { inputs, orders, output, max_rows, codec, keys, lows }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

fn too_few(n: usize) -> ConfigError {
    let what = format!("this step reads two streams or more, not {n}");
    ConfigError::new("", what).help("name them in 'from': 'from: [line_1, line_2]'")
}

/// Where the columns of `first` are in `other`, the `number`-th stream.
fn order(first: &Schema, other: &Schema, number: usize) -> Result<Vec<usize>, Vec<ConfigError>> {
    let mut errors = can_meet(first, other);
    let mut order = Vec::new();
    for column in first.columns() {
        match other.index_of(&column.name) {
            Some(index) => {
                errors.extend(difference(column, &other.columns()[index], number));
                order.push(index);
            }
            None => {
                let what = format!("stream {number} has no column '{}'", column.name);
                let help = "leave it out of the others with 'select', or add it with 'derive'";
                errors.push(ConfigError::new("", what).help(help));
            }
        }
    }
    for column in other.columns().iter().filter(|c| first.index_of(&c.name).is_none()) {
        let what = format!("stream {number} has a column '{}', the first has not", column.name);
        errors.push(ConfigError::new("", what).help("leave it out with 'select'"));
    }
    if errors.is_empty() && !identifies_like(first, other) {
        let what = format!("rows of stream {number} are told apart by other columns");
        errors.push(ConfigError::new("", what).help("put streams of one kind together"));
    }
    if errors.is_empty() { Ok(order) } else { Err(errors) }
}

/// What keeps the values of two columns of one name apart.
fn difference(here: &Column, there: &Column, number: usize) -> Option<ConfigError> {
    let name = &here.name;
    if here.data_type != there.data_type {
        let (a, b) = (&here.data_type, &there.data_type);
        let what = format!("column '{name}' is {a} in the first stream and {b} in stream {number}");
        return Some(ConfigError::new("", what).help("change one of them with 'cast'"));
    }
    if here.sample_rate != there.sample_rate {
        let what = format!("the waveforms '{name}' have another rate in stream {number}");
        return Some(ConfigError::new("", what).help("give one of them another name"));
    }
    let same = match (&here.unit, &there.unit) {
        (Some(a), Some(b)) => a.is_same(b),
        (None, None) => true,
        _ => false,
    };
    let told = |u: &Option<Unit>| u.as_ref().map_or("no unit".to_owned(), |u| format!("'{u}'"));
    let (a, b) = (told(&here.unit), told(&there.unit));
    let what =
        format!("column '{name}' is in {a} in the first stream and in {b} in stream {number}");
    (!same).then(|| ConfigError::new("", what).help("change one of them with 'convert'"))
}

/// A row that waits, and the stream it is from.
#[derive(Debug, Serialize, Deserialize)]
struct From {
    row: Held,
    input: usize,
}

/// The rows of a key that wait.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    /// In the order in which they go out.
    rows: VecDeque<From>,
    /// No row before these follows in each stream, as far as is known of this key alone.
    fronts: Vec<i64>,
    /// The watermark that was sent on.
    told: i64,
}

impl Waiting {
    fn new(n_inputs: usize) -> Self {
        Waiting { rows: VecDeque::new(), fronts: vec![i64::MIN; n_inputs], told: i64::MIN }
    }

    fn pass(&mut self, input: usize, front: i64) {
        self.fronts[input] = self.fronts[input].max(front);
    }

    /// No row before this follows in any stream.
    fn front(&self, lows: &[i64]) -> i64 {
        let fronts = self.fronts.iter().zip(lows).map(|(&front, &low)| front.max(low));
        fronts.min().unwrap_or(i64::MIN)
    }

    /// Puts the rows in the order in which they go out. Those of each stream were in it already.
    fn sort(&mut self) {
        let rows = self.rows.make_contiguous();
        rows.sort_by_key(|from| (from.row.at, from.row.position, from.input));
    }
}

/// What an epoch has touched, in the order of keys, and the rows that go out.
#[derive(Debug, Default)]
struct Touched {
    slots: BTreeSet<(u64, u32)>,
    marks: Marks,
    rows: Vec<(usize, Body)>,
}

/// The operator.
#[derive(Debug)]
struct Together {
    inputs: Vec<Schema>,
    /// Where the columns of the first stream are in each.
    orders: Vec<Vec<usize>>,
    output: Schema,
    max_rows: usize,
    codec: Codec,
    keys: Keyed<Waiting>,
    /// Bounds below all watermarks of the inputs.
    lows: Vec<i64>,
}

impl Together {
    fn take_in(&mut self, input: usize, batch: &Batch, touched: &mut Touched) -> Result<(), Fault> {
        let (schema, n_inputs) = (self.inputs[input].clone(), self.inputs.len());
        let times = batch.times(&schema);
        for group in batch.groups() {
            let make = || Waiting::new(n_inputs);
            let slot = self.keys.slot(batch, schema.key(), group.start, make)?;
            touched.slots.insert((group.hash, slot));
            let waiting = self.keys.get_mut(slot);
            waiting.pass(input, times[group.end - 1]);
            for (row, &at) in times[..group.end].iter().enumerate().skip(group.start) {
                let body =
                    Body::Fresh(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
                let row = Held { at, position: batch.position.value(row), body };
                waiting.rows.push_back(From { row, input });
            }
        }
        Ok(())
    }

    /// Notes how far each key of a stream is complete.
    fn note(
        &mut self,
        input: usize,
        watermarks: &Watermarks,
        touched: &mut Touched,
    ) -> Result<(), Fault> {
        let none: UInt64Array = vec![0; watermarks.key_hash.len()].into();
        let keys = Batch::new(watermarks.keys.clone(), watermarks.key_hash.clone(), none)
            .map_err(|e| Fault::new(e.to_string()))?;
        let key: Vec<usize> = (0..keys.rows.num_columns()).collect();
        let n_inputs = self.inputs.len();
        for (row, hash, at) in watermarks.iter() {
            let slot = self.keys.slot(&keys, &key, row, || Waiting::new(n_inputs))?;
            self.keys.get_mut(slot).pass(input, at);
            touched.slots.insert((hash, slot));
        }
        if watermarks.low > self.lows[input] {
            self.lows[input] = watermarks.low;
            let slots = self.keys.slots_by_hash().to_vec();
            touched.slots.extend(slots.into_iter().map(|s| (self.keys.hash(s), s)));
        }
        Ok(())
    }

    /// Lets the rows go that nothing can come before; how many found no room.
    fn release(&mut self, touched: &mut Touched, out: &mut dyn Out) -> u64 {
        let mut n_surplus = 0;
        for &(hash, slot) in &touched.slots {
            if self.keys.get(slot).rows.is_empty() {
                continue;
            }
            let waiting = self.keys.get_mut(slot);
            waiting.sort();
            let front = waiting.front(&self.lows);
            let goes = |from: &mut From| from.row.at < front || front == Watermarks::END;
            while let Some(From { row, input }) = waiting.rows.pop_front_if(goes) {
                touched.marks.push(hash, row.position);
                touched.rows.push((input, row.body));
            }
            let room = waiting.rows.len().min(self.max_rows);
            for From { row, .. } in waiting.rows.split_off(room) {
                n_surplus += 1;
                out.dead(self.full(slot, row.at, row.position));
            }
        }
        n_surplus
    }

    fn full(&self, slot: u32, time: i64, position: u64) -> DeadLetter {
        let n = self.max_rows;
        let detail = format!("{n} rows of the key wait already for another stream to come as far");
        DeadLetter {
            key: Some(self.keys.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(WAITING_FULL, detail)
        }
    }

    /// The rows that go out, and the columns of each stream for those of this epoch.
    fn rows(&self, touched: Touched, columns: &[Vec<ArrayRef>]) -> Result<Batch, Fault> {
        let batches: Vec<&[ArrayRef]> = columns.iter().map(Vec::as_slice).collect();
        let rows: Vec<_> = touched.rows.iter().map(|(input, body)| Some((*input, body))).collect();
        let mut all = self.codec.columns(&batches, &rows)?;
        let numbers = touched.rows.iter().map(|(input, _)| i64::try_from(*input).ok());
        all.push(Arc::new(numbers.collect::<Int64Array>()));
        touched.marks.batch(&self.output, all)
    }

    /// Keeps the rows of this epoch that still wait.
    fn keep(&mut self, columns: &[Vec<ArrayRef>], touched: &Touched) -> Result<(), Fault> {
        for &(_, slot) in &touched.slots {
            if self.keys.get(slot).rows.is_empty() {
                continue;
            }
            for (input, columns) in columns.iter().enumerate() {
                let rows = self.keys.get_mut(slot).rows.iter_mut();
                let bodies = rows.filter(|f| f.input == input).map(|f| &mut f.row.body);
                self.codec.keep(columns, bodies)?;
            }
        }
        Ok(())
    }

    fn watermarks(&mut self, touched: &Touched) -> Watermarks {
        let (mut slots, mut hashes, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for &(hash, slot) in &touched.slots {
            let at = self.keys.get(slot).front(&self.lows);
            if at > self.keys.get(slot).told {
                self.keys.get_mut(slot).told = at;
                slots.push(slot);
                hashes.push(hash);
                marks.push(at);
            }
        }
        let keys = RecordBatch::try_new(self.output.key_arrow(), self.keys.key_columns(&slots));
        Watermarks {
            keys: keys.expect("the key columns have the types of the schema"),
            key_hash: hashes.into(),
            at: marks.into(),
            low: self.lows.iter().copied().min().unwrap_or(i64::MIN),
        }
    }
}

impl Operator for Together {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let mut touched = Touched::default();
        let (mut columns, mut n_rows) = (Vec::new(), 0);
        for (input, given) in inputs.iter().enumerate() {
            self.take_in(input, given.rows, &mut touched)?;
            let order = &self.orders[input];
            let own: Vec<ArrayRef> =
                order.iter().map(|&c| given.rows.rows.column(c).clone()).collect();
            columns.push(own);
            n_rows += given.rows.len() as u64;
        }
        for (input, given) in inputs.iter().enumerate() {
            self.note(input, given.watermarks, &mut touched)?;
        }
        let n_surplus = self.release(&mut touched, out);
        self.keep(&columns, &touched)?;
        let watermarks = self.watermarks(&touched);
        let used = touched.rows.len() as u64;
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let in_flight = whole(n_rows) - whole(used + n_surplus);
        out.count(Account { used, in_flight, ..Account::default() });
        if used > 0 {
            out.emit(self.rows(touched, &columns)?);
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
mod tests;
