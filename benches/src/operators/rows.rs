//! The rows that steps are given, and the same as plain slices for the loops.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Float64Type, Int32Type, TimeUnit, TimestampNanosecondType};
use foreline_engine::{Batch, Column, Schema, Unit, Watermarks, hash_keys};
use foreline_operators::testing::Dice;

/// Machines; each has a reading every 100 ms.
pub(super) const MACHINES: usize = 100;
/// Nanoseconds between two readings of a machine.
pub(super) const STEP: i64 = 100_000_000;
/// Rows of an epoch, as the engine closes it.
const EPOCH: usize = 65_536;
/// 2026-03-01T00:00:00Z.
pub(super) const START: i64 = 1_772_323_200_000_000_000;

/// All rows.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) schema: Schema,
    pub(super) epochs: Vec<Part>,
    pub(super) n_rows: usize,
    /// The streams behind the first, for a step that reads several: in as many epochs.
    pub(super) beside: Vec<Rows>,
}

/// The rows of an epoch.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) batch: Batch,
    pub(super) watermarks: Watermarks,
    pub(super) low: i64,
    /// First and last row of each machine, with its number.
    pub(super) groups: Vec<(usize, usize, usize)>,
}

impl Part {
    /// The values of `x` (2) or `y` (3).
    pub(super) fn values(&self, column: usize) -> &[f64] {
        self.batch.rows.column(column).as_primitive::<Float64Type>().values()
    }

    /// The event times.
    pub(super) fn times(&self) -> &[i64] {
        self.batch.rows.column(1).as_primitive::<TimestampNanosecondType>().values()
    }

    /// The column `on`.
    pub(super) fn on(&self) -> &BooleanArray {
        self.batch.rows.column(4).as_boolean()
    }
}

impl Rows {
    /// Readings of a hundred machines.
    pub(super) fn new(n_rows: usize) -> Result<Self> {
        Self::of(n_rows, MACHINES)
    }

    /// A tenth of these readings, of two machines: for steps that take a microsecond or more for a row.
    pub(super) fn few(&self) -> Result<Self> {
        Self::of(self.n_rows / 10, 2)
    }

    fn of(n_rows: usize, machines: usize) -> Result<Self> {
        let schema = schema()?;
        let per_machine = (n_rows / machines).max(1);
        let per_epoch = (EPOCH / machines).max(1);
        let mut dice = Dice::new(1);
        let mut epochs = Vec::new();
        for first in (0..per_machine).step_by(per_epoch) {
            let steps = first..(first + per_epoch).min(per_machine);
            epochs.push(epoch(&schema, machines, steps, &mut dice)?);
        }
        Ok(Rows { schema, epochs, n_rows: per_machine * machines, beside: Vec::new() })
    }
}

fn schema() -> Result<Schema> {
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("ts", stamp),
        Column::new("x", DataType::Float64).with_unit(Some(Unit::new("mm/s"))),
        Column::new("y", DataType::Float64).with_unit(Some(Unit::new("Cel"))),
        Column::new("on", DataType::Boolean),
    ];
    Ok(Schema::new(columns, &["machine"], "ts")?)
}

/// Readings `steps` of every machine.
fn epoch(
    schema: &Schema,
    machines: usize,
    steps: std::ops::Range<usize>,
    dice: &mut Dice,
) -> Result<Part> {
    let n = steps.len();
    let time = |i: usize| START + i64::try_from(i).expect("a number of readings") * STEP;
    let times = (0..machines).flat_map(|_| steps.clone().map(time));
    let x: Vec<f64> = (0..machines * n).map(|_| dice.unit() + 2.0).collect();
    let y: Vec<f64> = (0..machines * n).map(|_| dice.unit() * 10.0 + 60.0).collect();
    let on: BooleanArray = x.iter().map(|x| Some(*x > 1.5)).collect();
    let columns: Vec<ArrayRef> = vec![
        named(machines, n),
        stamps(times),
        Arc::new(Float64Array::from(x)),
        Arc::new(Float64Array::from(y)),
        Arc::new(on),
    ];
    part(schema, columns, time(steps.end - 1))
}

/// The machines, each `n` times.
pub(super) fn named(machines: usize, n: usize) -> ArrayRef {
    let names: Vec<String> = (0..machines).map(|m| format!("M-{m:03}")).collect();
    let each = names.iter().flat_map(|name| std::iter::repeat_n(name.as_str(), n));
    Arc::new(each.collect::<DictionaryArray<Int32Type>>())
}

pub(super) fn stamps(times: impl Iterator<Item = i64>) -> ArrayRef {
    let times: Vec<i64> = times.collect();
    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
}

/// An epoch of rows that are in the order of time, machine by machine; `at` is the last time.
pub(super) fn part(schema: &Schema, columns: Vec<ArrayRef>, at: i64) -> Result<Part> {
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
    let hash = hash_keys(&rows, schema.key());
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows())?).collect();
    order.sort_by_key(|&row| hash.value(row as usize));
    let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
    let hash = hash_keys(&rows, schema.key());
    let positions: UInt64Array = (0..rows.num_rows() as u64).collect();
    let batch = Batch::new(rows, hash, positions)?;
    let groups: Vec<(usize, usize, usize)> = batch
        .groups()
        .map(|g| {
            let keys = batch.rows.column(0).as_dictionary::<Int32Type>().keys();
            (usize::try_from(keys.value(g.start)).expect("a machine"), g.start, g.end)
        })
        .collect();
    let ends: Vec<u32> = groups.iter().map(|g| u32::try_from(g.1).expect("a row")).collect();
    let samples = batch.take(&ends.into())?;
    let watermarks = Watermarks {
        keys: samples.rows.project(&[0])?,
        key_hash: samples.key_hash.clone(),
        at: Int64Array::from(vec![at; groups.len()]),
        low: i64::MIN,
    };
    Ok(Part { batch, watermarks, low: at, groups })
}
