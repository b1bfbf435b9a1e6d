//! Features of the rows of one window, and the rows that carry them.
//!
//! A feature that is NaN or infinite is null: both mean that it is not defined there.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{Batch, DeadLetter, Fault, Keyed, Schema, TimeDomain};

use super::panes::{Cut, Panes};
use super::ranked::Ranked;
use crate::columns::{channel, has_missing, nullable, time_column};
use crate::emitted::sorted;
use crate::features::{Call, Feature, Needs, Passes, Sample};
use crate::history::{History, WINDOW_FULL};

/// The features of one column.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The column, by index in the input.
    pub(super) column: usize,
    /// Its features.
    pub(super) features: Vec<Call>,
    passes: Passes,
    ranked: Ranked,
    panes: Panes,
}

impl Wanted {
    pub(super) fn new(column: usize, features: Vec<Call>, remove_mean: bool) -> Self {
        let needs = features.iter().map(|call| call.feature.needs);
        let passes = Passes::of(&needs, remove_mean);
        Wanted { column, features, passes, ranked: Ranked::default(), panes: Panes::default() }
    }
}

/// How features are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whether amplitudes are of the values less their mean.
    pub(super) remove_mean: bool,
    /// Below so many values, features are null. At least 1.
    pub(super) min_values: usize,
}

/// Computes features.
#[derive(Debug, Clone)]
pub(super) struct Evaluator {
    columns: Vec<Wanted>,
    rules: Rules,
    ticks: f64,
    /// The values of a window that has nulls, without them.
    kept: Kept,
}

/// Values that are there, and their times.
pub(super) type Kept = (Vec<f64>, Vec<i64>);

impl Evaluator {
    pub(super) fn new(columns: Vec<Wanted>, rules: Rules, domain: TimeDomain) -> Self {
        let ticks = match domain {
            TimeDomain::UtcNanos => 1e9,
            TimeDomain::Logical => 1.0,
        };
        Evaluator { columns, rules, ticks, kept: Default::default() }
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

    /// The rows of another key follow.
    pub(super) fn begin_key(&mut self) {
        for wanted in &mut self.columns {
            wanted.ranked.clear();
            wanted.panes.clear();
        }
    }

    /// The first `n` rows are about to be dropped.
    pub(super) fn before_drop(&mut self, rows: &History, n: usize) {
        for (wanted, channel) in self.columns.iter_mut().zip(rows.channels()) {
            wanted.ranked.before_drop(channel, n);
        }
    }

    /// Appends the features of the rows `start..end`, a window that is cut like `cut`, to `out`.
    pub(super) fn evaluate(
        &mut self,
        rows: &History,
        Range { start, end }: Range<usize>,
        cut: Cut,
        out: &mut Emitted,
    ) {
        let Rules { remove_mean, min_values } = self.rules;
        let mut features = out.features.iter_mut();
        for (wanted, channel) in self.columns.iter_mut().zip(rows.channels()) {
            let (passes, kept) = (wanted.passes, &mut self.kept);
            let (all, times) = (&channel[start..end], &rows.times()[start..end]);
            let moments = wanted.panes.moments(cut, passes, all, times, kept);
            let (values, times) = present(all, times, kept);
            let centre = if remove_mean { moments.mean } else { 0.0 };
            let sample = Sample {
                values,
                times,
                n_rows: end - start,
                moments,
                absolute: passes.absolute(values, centre),
                sorted: if passes.sorted() { wanted.ranked.of(channel, start, end) } else { &[] },
                remove_mean,
                ticks: self.ticks,
            };
            let enough = values.len() >= min_values;
            for (Call { feature, args, .. }, out) in wanted.features.iter().zip(&mut features) {
                let defined = enough || feature.needs == Needs::Rows;
                let value = if defined { (feature.value)(&sample, args) } else { None };
                out.push(value.filter(|v| v.is_finite()).unwrap_or(f64::NAN));
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
        let spans = emitted.spans.into_iter().flatten();
        columns.extend(spans.map(|times| time_column(times, schema.domain())));
        let features = self.columns.iter().flat_map(|c| &c.features);
        columns.extend(features.zip(emitted.features).map(|(c, v)| finished(c.feature, v)));
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
        sorted(rows, hashes, emitted.positions).map(Some)
    }
}

fn finished(feature: &Feature, values: Vec<f64>) -> ArrayRef {
    if !feature.unit.is_whole() {
        return Arc::new(nullable(values));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a count is whole and small")]
    let counts: Int64Array =
        values.into_iter().map(|v| (!v.is_nan()).then_some(v as i64)).collect();
    Arc::new(counts)
}

/// The values that are there and their times; copied to `kept` only when some are not.
pub(super) fn present<'a>(
    values: &'a [f64],
    times: &'a [i64],
    kept: &'a mut Kept,
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
    /// First and last event time, of windows that say theirs.
    spans: Option<[Vec<i64>; 2]>,
    features: Vec<Vec<f64>>,
}

impl Emitted {
    /// Starts a row; [`Evaluator::evaluate`] completes it.
    pub(super) fn row(&mut self, slot: u32, time: i64, position: u64) {
        self.slots.push(slot);
        self.times.push(time);
        self.positions.push(position);
    }

    /// Says the event times of the first and the last row of the window of the row that was started.
    pub(super) fn span(&mut self, first: i64, last: i64) {
        let [firsts, lasts] = self.spans.get_or_insert_default();
        firsts.push(first);
        lasts.push(last);
    }
}

/// A batch and what is read of it often.
pub(super) struct Taken<'a> {
    pub(super) rows: &'a Batch,
    pub(super) times: &'a [i64],
    pub(super) positions: &'a [u64],
    pub(super) channels: Vec<ScalarBuffer<f64>>,
}

impl<'a> Taken<'a> {
    /// What is read of `rows`, a batch of `input`.
    pub(super) fn new(
        rows: &'a Batch,
        input: &Schema,
        evaluator: &Evaluator,
    ) -> Result<Self, Fault> {
        let (times, positions) = (rows.times(input), rows.position.values().as_ref());
        Ok(Taken { rows, times, positions, channels: evaluator.channels(rows)? })
    }
}

/// The dead letter of a row that finds no room.
pub(super) fn full<S>(
    keyed: &Keyed<S>,
    batch: &Taken<'_>,
    slot: u32,
    row: usize,
    max_rows: usize,
) -> DeadLetter {
    let detail = format!("the open windows of the key hold {max_rows} rows already");
    DeadLetter {
        key: Some(keyed.key_text(slot)),
        time: Some(batch.times[row]),
        position: Some(batch.positions[row]),
        ..DeadLetter::new(WINDOW_FULL, detail)
    }
}
