//! Features of the rows of one window, and the rows that carry them.
//!
//! A feature that is NaN or infinite is null: both mean that it is not defined there.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{Batch, Fault, Keyed, Schema, TimeDomain};

use super::{Feature, Needs, UnitRule};
use crate::columns::{channel, has_missing, nullable, time_column};
use crate::features::Sample;
use crate::history::History;
use crate::moments::{Central, Moments};

/// The features of one column.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The column, by index in the input.
    pub(super) column: usize,
    /// Its features.
    pub(super) features: Vec<&'static Feature>,
    central: Central,
}

impl Wanted {
    pub(super) fn new(column: usize, features: Vec<&'static Feature>, remove_mean: bool) -> Self {
        let central = remove_mean || features.iter().any(|f| f.needs == Needs::Central);
        let central = if central { Central::Wanted } else { Central::Unwanted };
        Wanted { column, features, central }
    }
}

/// Computes features.
#[derive(Debug, Clone)]
pub(super) struct Evaluator {
    columns: Vec<Wanted>,
    remove_mean: bool,
    ticks: f64,
    /// The values of a window that has nulls, without them.
    kept: (Vec<f64>, Vec<i64>),
}

impl Evaluator {
    pub(super) fn new(columns: Vec<Wanted>, remove_mean: bool, domain: TimeDomain) -> Self {
        let ticks = match domain {
            TimeDomain::UtcNanos => 1e9,
            TimeDomain::Logical => 1.0,
        };
        Evaluator { columns, remove_mean, ticks, kept: Default::default() }
    }

    /// The channels of a batch, one for each column that has features.
    pub(super) fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.columns.iter().map(|c| channel(batch.rows.column(c.column))).collect()
    }

    /// No rows yet.
    pub(super) fn emitted(&self) -> Emitted {
        let n_features = self.columns.iter().map(|c| c.features.len()).sum();
        Emitted { features: vec![Vec::new(); n_features], ..Emitted::default() }
    }

    /// Appends the features of the rows `start..end` to `out`.
    pub(super) fn evaluate(&mut self, rows: &History, start: usize, end: usize, out: &mut Emitted) {
        let mut features = out.features.iter_mut();
        for (wanted, channel) in self.columns.iter().zip(rows.channels()) {
            let (values, times) =
                present(&channel[start..end], &rows.times()[start..end], &mut self.kept);
            let sample = Sample {
                values,
                times,
                moments: Moments::of(values, wanted.central),
                remove_mean: self.remove_mean,
                ticks: self.ticks,
            };
            for (feature, out) in wanted.features.iter().zip(&mut features) {
                out.push((feature.value)(&sample).filter(|v| v.is_finite()).unwrap_or(f64::NAN));
            }
        }
    }

    /// The rows of `emitted`, sorted by key hash, as a batch of `schema`.
    pub(super) fn batch<S>(
        &self,
        emitted: Emitted,
        keyed: &mut Keyed<S>,
        schema: &Schema,
    ) -> Result<Option<Batch>, Fault> {
        if emitted.slots.is_empty() {
            return Ok(None);
        }
        let hashes: Vec<u64> = emitted.slots.iter().map(|&s| keyed.hash(s)).collect();
        let mut columns = keyed.key_columns(&emitted.slots);
        columns.push(time_column(emitted.times, schema.domain()));
        let features = self.columns.iter().flat_map(|c| &c.features);
        columns.extend(features.zip(emitted.features).map(|(feature, v)| finished(feature, v)));
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
        let sorted = hashes.is_sorted();
        let order: Option<Vec<u32>> = (!sorted).then(|| by_hash(&hashes));
        let batch = Batch::new(rows, hashes.into(), emitted.positions.into())
            .map_err(|e| Fault::new(e.to_string()))?;
        Ok(Some(match order {
            Some(order) => batch.take(&UInt32Array::from(order))?,
            None => batch,
        }))
    }
}

/// Rows by key hash; rows of one key stay in the order they are in.
fn by_hash(hashes: &[u64]) -> Vec<u32> {
    let n_rows = u32::try_from(hashes.len()).expect("an epoch emits fewer than 2^32 rows");
    let mut order: Vec<u32> = (0..n_rows).collect();
    order.sort_by_key(|&row| hashes[row as usize]);
    order
}

fn finished(feature: &Feature, values: Vec<f64>) -> ArrayRef {
    if feature.unit != UnitRule::Count {
        return Arc::new(nullable(values));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a count is whole and small")]
    let counts: Int64Array =
        values.into_iter().map(|v| (!v.is_nan()).then_some(v as i64)).collect();
    Arc::new(counts)
}

/// The values that are there and their times; copied to `kept` only when some are not.
fn present<'a>(
    values: &'a [f64],
    times: &'a [i64],
    kept: &'a mut (Vec<f64>, Vec<i64>),
) -> (&'a [f64], &'a [i64]) {
    if !has_missing(values) {
        return (values, times);
    }
    kept.0.clear();
    kept.1.clear();
    for (&value, &time) in values.iter().zip(times).filter(|(v, _)| !v.is_nan()) {
        kept.0.push(value);
        kept.1.push(time);
    }
    (&kept.0, &kept.1)
}

/// Rows to emit, column by column.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    slots: Vec<u32>,
    times: Vec<i64>,
    positions: Vec<u64>,
    features: Vec<Vec<f64>>,
}

impl Emitted {
    /// Starts a row; [`Evaluator::evaluate`] completes it.
    pub(super) fn row(&mut self, slot: u32, time: i64, position: u64) {
        self.slots.push(slot);
        self.times.push(time);
        self.positions.push(position);
    }
}
