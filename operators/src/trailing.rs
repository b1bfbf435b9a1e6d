//! A step that says of every row something about a window that trails behind it, column by column.
//!
//! The window has so many rows or reaches so far back. What a function keeps of a window beside its rows is made
//! anew from them after a restart, so it must not depend on how the window came about.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Group, Input, Keyed, LateSupport, Operator, Out,
    Planned, Schema, ShardSet,
};
use serde::{Deserialize, Serialize};

use crate::columns::same_version;
use crate::flags::Flagged;
use crate::history::{History, WINDOW_FULL};
use crate::smoothing::Smoothed;
pub(crate) use trail::{Reach, Trail, in_bounds, in_time};

mod trail;

/// Raised whenever `Kept` changes.
const STATE_VERSION: u32 = 1;

/// A column's part of a window; the last row is the current one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// The event times.
    pub(crate) times: &'a [i64],
    /// The values, NaN where missing.
    pub(crate) values: &'a [f64],
}

impl View<'_> {
    /// The value of the current row; NaN where missing.
    pub(crate) fn current(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }
}

/// What is said of a window.
pub(crate) trait Windowed: Debug + Send + Sync + 'static {
    /// What is kept of the values of a window, beside them.
    type Digest: Debug + Default;

    /// A value that is not missing came into the window.
    fn enter(&self, _: &mut Self::Digest, _: f64) {}

    /// A value that is not missing went out of the window.
    fn leave(&self, _: &mut Self::Digest, _: f64) {}

    /// The result for the current row, NaN for null, and whether its flag is up.
    fn result(&self, digest: &Self::Digest, view: View<'_>) -> (f64, bool);
}

/// The plan of a step that is such a function.
pub(crate) fn planned<F: Windowed>(
    input: &Schema,
    columns: Smoothed,
    flags: Flagged,
    trail: Trail,
    function: F,
) -> Planned {
    let (input, function) = (input.clone(), Arc::new(function));
    Planned {
        output: flags.schema.clone(),
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let (input, columns, flags) = (input.clone(), columns.clone(), flags.clone());
            let (function, kept) = (Arc::clone(&function), Keyed::new(&input));
            Ok(Box::new(Trailing { input, columns, flags, trail, function, kept }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// The rows of a key that windows still need, and what the function has made of them.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<D> {
    history: History,
    #[serde(skip)]
    digests: Vec<D>,
}

impl<D> Default for Kept<D> {
    fn default() -> Self {
        Kept { history: History::default(), digests: Vec::new() }
    }
}

#[derive(Debug)]
struct Trailing<F: Windowed> {
    input: Schema,
    columns: Smoothed,
    flags: Flagged,
    trail: Trail,
    function: Arc<F>,
    kept: Keyed<Kept<F::Digest>>,
}

/// What came of a batch.
#[derive(Debug)]
struct Results {
    values: Vec<Vec<f64>>,
    flags: Vec<Vec<bool>>,
    /// Rows that found no room.
    surplus: Vec<usize>,
}

impl<F: Windowed> Trailing<F> {
    /// The digest of each channel; after a restart they are made from the rows.
    fn digest(&self, kept: &mut Kept<F::Digest>, n_channels: usize) {
        if kept.digests.len() == n_channels {
            return;
        }
        kept.digests.resize_with(n_channels, F::Digest::default);
        for (digest, values) in kept.digests.iter_mut().zip(kept.history.channels()) {
            values.iter().filter(|v| !v.is_nan()).for_each(|&v| self.function.enter(digest, v));
        }
    }

    /// Takes in the rows of a key.
    fn take_in(
        &self,
        kept: &mut Kept<F::Digest>,
        times: &[i64],
        channels: &[ScalarBuffer<f64>],
        group: Group,
        to: &mut Results,
    ) {
        self.digest(kept, channels.len());
        let Kept { history, digests } = kept;
        let (mut first, mut left) = (0, 0);
        for row in group.start..group.end {
            first = self.trail.first(history.times(), times[row]);
            if !self.trail.has_room(history.len() - first) {
                to.surplus.push(row);
                continue;
            }
            history.extend(times, channels, row, row + 1);
            for (c, values) in history.channels().iter().enumerate() {
                self.slide(&mut digests[c], values, left..first);
                let view = View { times: &history.times()[first..], values: &values[first..] };
                let (value, flag) = self.function.result(&digests[c], view);
                to.values[c].push(value);
                if let Some(place) = self.flags.of.iter().position(|&of| of == c) {
                    to.flags[place].push(flag);
                }
            }
            left = first;
        }
        if left < first {
            for (digest, values) in digests.iter_mut().zip(history.channels()) {
                let gone = values[left..first].iter().filter(|v| !v.is_nan());
                gone.for_each(|&v| self.function.leave(digest, v));
            }
        }
        history.drop_first(first);
    }

    /// The last of `values` comes in, those at `gone` go out.
    fn slide(&self, digest: &mut F::Digest, values: &[f64], gone: std::ops::Range<usize>) {
        for &value in values[gone].iter().filter(|v| !v.is_nan()) {
            self.function.leave(digest, value);
        }
        if let Some(&value) = values.last().filter(|v| !v.is_nan()) {
            self.function.enter(digest, value);
        }
    }

    fn full(&self, slot: u32, time: i64, position: u64) -> DeadLetter {
        let detail = "the window of the key holds 'max_rows' rows already";
        DeadLetter {
            key: Some(self.kept.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(WINDOW_FULL, detail)
        }
    }

    fn results(&mut self, batch: &Batch, out: &mut dyn Out) -> Result<Results, Fault> {
        let schema = self.input.clone();
        let times = batch.times(&schema);
        let channels = self.columns.channels(batch)?;
        let mut results = Results {
            values: channels.iter().map(|_| Vec::with_capacity(batch.len())).collect(),
            flags: self.flags.of.iter().map(|_| Vec::with_capacity(batch.len())).collect(),
            surplus: Vec::new(),
        };
        for group in batch.groups() {
            let slot = self.kept.slot(batch, schema.key(), group.start, Kept::default)?;
            let mut kept = std::mem::take(self.kept.get_mut(slot));
            let before = results.surplus.len();
            self.take_in(&mut kept, times, &channels, group, &mut results);
            *self.kept.get_mut(slot) = kept;
            for &row in &results.surplus[before..] {
                out.dead(self.full(slot, times[row], batch.position.value(row)));
            }
        }
        Ok(results)
    }
}

impl<F: Windowed> Operator for Trailing<F> {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let Results { values, flags, surplus } = self.results(batch, out)?;
        let n_used = batch.len() - surplus.len();
        out.count(Account { used: n_used as u64, ..Account::default() });
        if surplus.is_empty() {
            out.emit(self.flags.with(self.columns.with(batch, values)?, flags)?);
        } else if n_used > 0 {
            let rest = without(batch, &surplus)?;
            out.emit(self.flags.with(self.columns.with(&rest, values)?, flags)?);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.kept.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.kept.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.kept.load(&state)
    }
}

/// `batch` without the rows `gone`, which are in order.
fn without(batch: &Batch, gone: &[usize]) -> Result<Batch, Fault> {
    let stay = (0..batch.len()).filter(|row| gone.binary_search(row).is_err());
    let stay: UInt32Array = stay.map(|row| u32::try_from(row).ok()).collect();
    Ok(batch.take(&stay)?)
}
