//! Steps small enough to be checked by eye, which know nothing of corrections (but for the stateless one).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::{
    Account, Batch, Build, Column, DeadLetter, Epoch, Fault, Input, Keyed, LateSupport, Operator,
    Out, Planned, PrimaryKey, Reason, Schema, ShardSet, Watermarks,
};
use serde::{Deserialize, Serialize};

/// Readings, and what the toys emit: machine, time, value.
pub(crate) fn schema() -> Schema {
    Schema::new(columns(), &["machine"], "t").unwrap()
}

/// The same, told apart by machine and time alone.
pub(crate) fn window_schema() -> Schema {
    let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
    Schema::with_primary_key(columns(), vec![0], 1, primary_key).unwrap()
}

fn columns() -> Vec<Column> {
    vec![
        Column::new("machine", DataType::Utf8),
        Column::new("t", DataType::Int64),
        Column::new("v", DataType::Float64),
    ]
}

/// What a toy does to the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Toy {
    /// The sum so far, for every row. It depends on the order of its rows, in the last bits too.
    Sum,
    /// Lets every third row pass: a row in between changes which.
    Thirds,
    /// The sum of windows of this length, at their ends.
    Window(i64),
    /// The sum of rows less than this apart, at the end of the gap. A row in between merges two.
    Session(i64),
    /// The sum so far, but a row above this sum is a dead letter.
    Limit(f64),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    n: u64,
    sum: f64,
    end: i64,
    position: u64,
}

struct Folding {
    toy: Toy,
    states: Keyed<State>,
    low: i64,
    out: Schema,
}

struct Emitted(Vec<(u32, u64, i64, u64, f64)>);

impl Emitted {
    fn row(&mut self, slot: u32, hash: u64, time: i64, position: u64, v: f64) {
        self.0.push((slot, hash, time, position, v));
    }
}

impl State {
    /// Ends the window or session if it ends at or before `at`.
    fn close(&mut self, slot: u32, hash: u64, at: i64, out: &mut Emitted) {
        if self.n > 0 && self.end <= at {
            out.row(slot, hash, self.end, self.position, self.sum);
            *self = State::default();
        }
    }

    fn take(&mut self, position: u64, v: f64) {
        self.n += 1;
        self.sum += v;
        self.position = position;
    }
}

impl Toy {
    fn row(
        self,
        state: &mut State,
        (slot, hash): (u32, u64),
        (t, position, v): (i64, u64, f64),
        out: &mut Emitted,
    ) -> bool {
        match self {
            Toy::Sum => {
                state.take(position, v);
                out.row(slot, hash, t, position, state.sum);
            }
            Toy::Thirds => {
                state.take(position, v);
                if state.n.is_multiple_of(3) {
                    out.row(slot, hash, t, position, v);
                }
            }
            Toy::Window(length) => {
                state.close(slot, hash, t, out);
                state.end = (t.div_euclid(length) + 1) * length;
                state.take(position, v);
            }
            Toy::Session(gap) => {
                state.close(slot, hash, t, out);
                state.end = t + gap;
                state.take(position, v);
            }
            Toy::Limit(limit) => {
                if state.sum + v > limit {
                    return false;
                }
                state.take(position, v);
                out.row(slot, hash, t, position, state.sum);
            }
        }
        true
    }

    fn is_timed(self) -> bool {
        matches!(self, Toy::Window(_) | Toy::Session(_))
    }

    fn watermarks(self, told: &Watermarks) -> Watermarks {
        let at = |at: i64| match (self, at) {
            (Toy::Window(length), at) if at > i64::MIN && at < i64::MAX => {
                (at.div_euclid(length) + 1) * length
            }
            (_, at) => at,
        };
        let each = told.at.values().iter().map(|&t| at(t));
        Watermarks { at: each.collect::<Int64Array>(), low: at(told.low), ..told.clone() }
    }

    pub(crate) fn planned(self) -> Planned {
        let output = if self.is_timed() { window_schema() } else { schema() };
        let out = output.clone();
        let build: Build = Arc::new(move |_| {
            let (states, out) = (Keyed::new(&schema()), out.clone());
            Ok(Box::new(Folding { toy: self, states, low: i64::MIN, out }))
        });
        let late = LateSupport::Corrects;
        Planned { output, late, state_version: 1, build, notes: Vec::new(), depends_on: Vec::new() }
    }
}

impl Operator for Folding {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        assert!(input.late.is_empty() && input.revised.is_empty(), "a toy is given new rows only");
        let rows = input.rows;
        let values = rows.rows.column(2).as_primitive::<Float64Type>().values();
        let readings = rows.times(&schema()).iter().zip(rows.position.values()).zip(values);
        let readings: Vec<_> = readings.map(|((&t, &position), &v)| (t, position, v)).collect();
        let mut emitted = Emitted(Vec::new());
        let mut used = 0;
        for group in rows.groups() {
            let slot = self.states.slot(rows, &[0], group.start, State::default)?;
            for &reading in &readings[group.start..group.end] {
                let state = self.states.get_mut(slot);
                if self.toy.row(state, (slot, group.hash), reading, &mut emitted) {
                    used += 1;
                } else {
                    let detail = format!("{} is too much", reading.2);
                    out.dead(DeadLetter {
                        time: Some(reading.0),
                        position: Some(reading.1),
                        ..DeadLetter::new(Reason("limit"), detail)
                    });
                }
            }
        }
        if self.toy.is_timed() {
            for (_, hash, at) in input.watermarks.iter() {
                if let Some(slot) = self.states.find(hash) {
                    self.states.get_mut(slot).close(slot, hash, at, &mut emitted);
                }
            }
            if input.watermarks.low > self.low {
                self.low = input.watermarks.low;
                for slot in self.states.slots_by_hash().to_vec() {
                    let hash = self.states.hash(slot);
                    self.states.get_mut(slot).close(slot, hash, self.low, &mut emitted);
                }
            }
            out.watermarks(self.toy.watermarks(input.watermarks));
        }
        out.count(Account { used, ..Account::default() });
        emitted.0.sort_by_key(|&(_, hash, time, position, _)| (hash, time, position));
        let slots: Vec<u32> = emitted.0.iter().map(|r| r.0).collect();
        let columns: Vec<ArrayRef> = vec![
            self.states.key_columns(&slots).remove(0),
            Arc::new(emitted.0.iter().map(|r| r.2).collect::<Int64Array>()),
            Arc::new(emitted.0.iter().map(|r| r.4).collect::<Float64Array>()),
        ];
        let rows = RecordBatch::try_new(Arc::clone(self.out.arrow()), columns)?;
        let hashes = emitted.0.iter().map(|r| r.1).collect::<UInt64Array>();
        let positions = emitted.0.iter().map(|r| r.3).collect::<UInt64Array>();
        out.emit(Batch::new(rows, hashes, positions).unwrap());
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.states.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.states.save(shard)
    }

    fn load(&mut self, _: u8, _: u32, state: RecordBatch) -> Result<(), Fault> {
        self.states.load(&state)
    }
}

/// Lets rows pass whose value has an even whole part.
struct Even;

impl Even {
    fn passes(rows: &RecordBatch) -> BooleanArray {
        let values = rows.column(2).as_primitive::<Float64Type>();
        values.iter().map(|v| v.map(|v| (v.floor() as i64).rem_euclid(2) == 0)).collect()
    }
}

impl Operator for Even {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let Input { rows, late, revised, .. } = inputs[0];
        let (new, behind) =
            (rows.filter(&Self::passes(&rows.rows))?, late.filter(&Self::passes(&late.rows))?);
        let n_kept = (new.len() + behind.len() + revised.len()) as u64;
        let n_rows = (rows.len() + late.len() + revised.len()) as u64;
        out.count(Account { used: n_kept, filtered: n_rows - n_kept, ..Account::default() });
        out.emit(new);
        if !behind.is_empty() {
            out.emit_late(behind);
        }
        if !revised.is_empty() {
            let passes = Self::passes(&revised.rows);
            let was = |row| revised.deleted.as_ref().is_some_and(|d| d.value(row));
            let deleted = (0..revised.len()).map(|row| Some(was(row) || !passes.value(row)));
            out.emit(Batch { deleted: Some(deleted.collect()), ..revised.clone() });
        }
        Ok(())
    }
}

pub(crate) fn even(output: Schema) -> Planned {
    Planned {
        output,
        late: LateSupport::Stateless,
        state_version: 1,
        build: Arc::new(|_| Ok(Box::new(Even))),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// Bits of all rows, for a comparison.
pub(crate) fn bits(batch: &Batch, schema: &Schema) -> Vec<(u64, i64, u64, u64)> {
    let values = batch.rows.column(2).as_primitive::<Float64Type>();
    let times = batch.times(schema);
    (0..batch.len())
        .map(|r| {
            assert!(values.is_valid(r));
            (batch.key_hash.value(r), times[r], batch.position.value(r), values.value(r).to_bits())
        })
        .collect()
}
