//! Other rows made of the readings, for steps that need them: text, nulls, pauses, one value a row, a second stream, a
//! reference.
//!
//! All have the machine and the event time in front, and the value that matters as the third column.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, CHANGED_AT, Column, PrimaryKey, Schema, TimeDomain, Unit, Watermarks, hash_keys,
};

use super::rows::{MACHINES, Part, Rows, START, STEP, named, stamps};

/// Rows of a machine between two pauses.
pub(super) const BURST: i64 = 100;
/// How long a pause is.
pub(super) const PAUSE: i64 = 60_000_000_000;

/// `text`: `x` with three digits.
pub(super) fn texts(rows: &Rows) -> Result<Rows> {
    with(rows, &[Column::new("text", DataType::Utf8)], |part| {
        let texts = part.values(2).iter().map(|x| Some(format!("{x:.3}")));
        vec![Arc::new(texts.collect::<StringArray>())]
    })
}

/// `x`, every tenth null; below a null is a NaN, for the loop.
pub(super) fn holes(rows: &Rows) -> Result<Rows> {
    let x = Column::new("x", DataType::Float64).with_unit(Some(Unit::new("mm/s")));
    with(rows, &[x], |part| {
        let is_there = |&at: &i64| (at / STEP) % 10 != 5;
        let there: NullBuffer = part.times().iter().map(is_there).collect();
        let values = part.times().iter().zip(part.values(2));
        let values: Vec<f64> =
            values.map(|(at, &x)| if is_there(at) { x } else { f64::NAN }).collect();
        vec![Arc::new(Float64Array::new(values.into(), Some(there)))]
    })
}

/// `value` and the `sensor` it is from: `u` and `v` in turns.
pub(super) fn sensors(rows: &Rows) -> Result<Rows> {
    let columns = [Column::new("value", DataType::Float64), Column::new("sensor", DataType::Utf8)];
    with(rows, &columns, |part| {
        let sensors = part.times().iter().map(|&at| Some(sensor(at)));
        vec![part.batch.rows.column(2).clone(), Arc::new(sensors.collect::<StringArray>())]
    })
}

/// The sensor that a value at this time is from.
pub(super) fn sensor(at: i64) -> &'static str {
    if (at / STEP) % 2 == 0 { "u" } else { "v" }
}

/// As [`sensors`], two rows at a time.
pub(super) fn pairs(rows: &Rows) -> Result<Rows> {
    Ok(moved(&sensors(rows)?, &|at| at - at % (2 * STEP)))
}

/// The readings with a pause after every so many.
pub(super) fn bursts(rows: &Rows) -> Result<Rows> {
    let start = rows.epochs[0].times()[0];
    Ok(moved(rows, &|at| at + (at - start) / STEP / BURST * PAUSE))
}

/// The readings, and beside them the same half a step later.
pub(super) fn twice(rows: &Rows) -> Result<Rows> {
    let beside = vec![moved(rows, &|at| at + STEP / 2)];
    Ok(Rows { beside, ..rows.clone() })
}

/// The readings, and beside them `z`, which is `x` half a step earlier.
pub(super) fn beside(rows: &Rows) -> Result<Rows> {
    let z = with(rows, &[Column::new("z", DataType::Float64)], |part| {
        vec![part.batch.rows.column(2).clone()]
    })?;
    Ok(Rows { beside: vec![moved(&z, &|at| at - STEP / 2)], ..rows.clone() })
}

/// A reference: the limit of each machine, which is its number.
pub(super) fn machines() -> Result<(Schema, Batch)> {
    let changed_at = TimeDomain::UtcNanos.data_type();
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("limit", DataType::Float64).with_unit(Some(Unit::new("mm/s"))),
        Column::new(CHANGED_AT, changed_at),
    ];
    let primary_key = PrimaryKey { columns: vec![0], position: false };
    let schema = Schema::with_primary_key(columns, vec![0], 2, primary_key)?;
    let columns: Vec<ArrayRef> = vec![
        named(MACHINES, 1),
        Arc::new((0..MACHINES).map(|machine| Some(limit_of(machine))).collect::<Float64Array>()),
        stamps(std::iter::repeat_n(START, MACHINES)),
    ];
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
    let hash = hash_keys(&rows, schema.key());
    let batch = Batch::new(rows, hash, UInt64Array::from(vec![0; MACHINES]))?;
    Ok((schema, batch))
}

/// The limit of a machine.
pub(super) fn limit_of(machine: usize) -> f64 {
    machine as f64
}

/// The rows with these columns in place of all but machine and event time.
fn with(rows: &Rows, columns: &[Column], values: impl Fn(&Part) -> Vec<ArrayRef>) -> Result<Rows> {
    let kept = rows.schema.columns()[..2].iter().chain(columns).cloned();
    let schema = Schema::new(kept.collect(), &["machine"], "ts")?;
    let mut epochs = Vec::new();
    for part in &rows.epochs {
        let mut all = part.batch.rows.columns()[..2].to_vec();
        all.extend(values(part));
        let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), all)?;
        epochs.push(Part { batch: Batch { rows: batch, ..part.batch.clone() }, ..part.clone() });
    }
    Ok(Rows { schema, epochs, ..rows.clone() })
}

/// The rows at other times, in the same order.
fn moved(rows: &Rows, to: &impl Fn(i64) -> i64) -> Rows {
    let epochs = rows.epochs.iter().map(|part| moved_part(part, to)).collect();
    Rows { epochs, ..rows.clone() }
}

fn moved_part(part: &Part, to: &impl Fn(i64) -> i64) -> Part {
    let times: Vec<i64> = part.times().iter().map(|&at| to(at)).collect();
    let times = TimestampNanosecondArray::from(times).with_timezone("UTC");
    let mut columns = part.batch.rows.columns().to_vec();
    columns[1] = Arc::new(times);
    let schema = part.batch.rows.schema();
    let rows = RecordBatch::try_new(schema, columns).expect("only times are others");
    let at: Int64Array = part.watermarks.at.iter().map(|at| at.map(to)).collect();
    let watermarks = Watermarks { at, ..part.watermarks.clone() };
    let batch = Batch { rows, ..part.batch.clone() };
    Part { batch, watermarks, low: to(part.low), groups: part.groups.clone() }
}
