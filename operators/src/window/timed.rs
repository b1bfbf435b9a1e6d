//! Windows of event time, one after the other or overlapping.
//!
//! A key's rows are kept once, in order, for as long as an open window holds them; a window is a slice of
//! them. Windows close in the order of their ends, and rows that no open window holds are dropped.
//!
//! For a key with watermark `w` every window that ends at or before `w` is closed, so the next row out has
//! `window_end >= grid.end_after(w)`: that is the watermark that goes on.

use arrow::array::{Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet,
    Watermarks,
};
use serde::{Deserialize, Serialize};

use super::STATE_VERSION;
use super::evaluate::{Emitted, Evaluator};
use crate::columns::same_version;
use crate::history::{History, WINDOW_FULL};

/// Where windows start and how long they are: `[k * every, k * every + length)` for every whole `k`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// At least 1.
    pub(super) length: i64,
    /// At least 1 and at most `length`.
    pub(super) every: i64,
}

impl Grid {
    /// The start of the first window that ends after `time`, which is also the first that holds it.
    fn start_after(self, time: i64) -> i64 {
        let before = i128::from(time) - i128::from(self.length);
        let every = i128::from(self.every);
        clamp((before.div_euclid(every) + 1) * every)
    }

    /// The end of that window.
    fn end_after(self, time: i64) -> i64 {
        self.end(self.start_after(time))
    }

    fn end(self, start: i64) -> i64 {
        start.saturating_add(self.length)
    }
}

fn clamp(time: i128) -> i64 {
    let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(time.clamp(bounds.0, bounds.1)).expect("it was clamped to the bounds of i64")
}

/// The open windows of a key. All rows are at or after `start`, the start of the first of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Open {
    start: i64,
    positions: Vec<u64>,
    rows: History,
}

/// The operator.
#[derive(Debug)]
pub(super) struct Timed {
    input: Schema,
    output: Schema,
    grid: Grid,
    max_rows: usize,
    evaluator: Evaluator,
    open: Keyed<Open>,
    /// The bound below all watermarks that windows were closed for.
    low: i64,
}

impl Timed {
    pub(super) fn new(
        input: Schema,
        output: Schema,
        grid: Grid,
        max_rows: usize,
        evaluator: Evaluator,
    ) -> Self {
        let open = Keyed::new(&input);
        Timed { input, output, grid, max_rows, evaluator, open, low: i64::MIN }
    }

    /// Takes in the rows of a key, closing on the way the windows that end before them. Returns how many it used.
    fn take_in(
        &mut self,
        batch: &Taken<'_>,
        group: Group,
        emitted: &mut Emitted,
        out: &mut dyn Out,
    ) -> Result<usize, Fault> {
        let slot = self.open.slot(batch.rows, self.input.key(), group.start, Open::default)?;
        let open = self.open.get_mut(slot);
        let mut surplus = Vec::new();
        let mut at = group.start;
        while at < group.end {
            let time = batch.times[at];
            open.close(slot, time, self.grid, &mut self.evaluator, emitted);
            if open.positions.is_empty() {
                open.start = self.grid.start_after(time);
            }
            let end = self.grid.end(open.start);
            let inside = batch.times[at..group.end].partition_point(|&t| t < end).max(1);
            let fits = inside.min(self.max_rows.saturating_sub(open.positions.len()));
            open.positions.extend_from_slice(&batch.positions[at..at + fits]);
            open.rows.extend(batch.times, &batch.channels, at, at + fits);
            surplus.extend(at + fits..at + inside);
            at += inside;
        }
        for &row in &surplus {
            out.dead(self.full(batch, slot, row));
        }
        Ok(group.end - group.start - surplus.len())
    }

    fn full(&self, batch: &Taken<'_>, slot: u32, row: usize) -> DeadLetter {
        let detail = format!("the open windows of the key hold {} rows already", self.max_rows);
        DeadLetter {
            key: Some(self.open.key_text(slot)),
            time: Some(batch.times[row]),
            position: Some(batch.positions[row]),
            ..DeadLetter::new(WINDOW_FULL, detail)
        }
    }

    /// Closes what the watermarks close.
    fn close(&mut self, watermarks: &Watermarks, emitted: &mut Emitted) {
        for (_, hash, at) in watermarks.iter() {
            if let Some(slot) = self.open.find(hash) {
                self.close_key(slot, at, emitted);
            }
        }
        if watermarks.low > self.low {
            self.low = watermarks.low;
            for slot in self.open.slots_by_hash().to_vec() {
                self.close_key(slot, self.low, emitted);
            }
        }
    }

    fn close_key(&mut self, slot: u32, watermark: i64, emitted: &mut Emitted) {
        // Looked at first, because a look does not mark the shard as changed.
        let open = self.open.get(slot);
        if open.positions.is_empty() || self.grid.end(open.start) > watermark {
            return;
        }
        let open = self.open.get_mut(slot);
        open.close(slot, watermark, self.grid, &mut self.evaluator, emitted);
    }

    fn watermarks(&self, input: &Watermarks) -> Watermarks {
        let end_after = |at: i64| match at {
            i64::MIN | Watermarks::END => at,
            at => self.grid.end_after(at),
        };
        Watermarks {
            keys: input.keys.clone(),
            key_hash: input.key_hash.clone(),
            at: input.at.values().iter().map(|&at| end_after(at)).collect::<Int64Array>(),
            low: end_after(input.low),
        }
    }
}

impl Open {
    /// Closes the windows that end at or before `watermark`. One that is open holds the key's last row, so
    /// none of them is empty.
    fn close(
        &mut self,
        slot: u32,
        watermark: i64,
        grid: Grid,
        evaluator: &mut Evaluator,
        emitted: &mut Emitted,
    ) {
        while !self.positions.is_empty() && grid.end(self.start) <= watermark {
            let end = grid.end(self.start);
            emitted.row(slot, end, self.positions[self.positions.len() - 1]);
            evaluator.evaluate(&self.rows, 0, self.positions.len(), emitted);
            self.start = self.start.saturating_add(grid.every);
            let gone = match self.start {
                i64::MAX => self.positions.len(),
                start => self.rows.times().partition_point(|&t| t < start),
            };
            self.positions.drain(..gone);
            self.rows.drop_first(gone);
        }
    }
}

/// A batch and what is read of it often.
struct Taken<'a> {
    rows: &'a Batch,
    times: &'a [i64],
    positions: &'a [u64],
    channels: Vec<ScalarBuffer<f64>>,
}

impl Operator for Timed {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let schema = self.input.clone();
        let batch = Taken {
            rows: input.rows,
            times: input.rows.times(&schema),
            positions: input.rows.position.values(),
            channels: self.evaluator.channels(input.rows)?,
        };
        let mut emitted = self.evaluator.emitted();
        let mut used = 0;
        for group in input.rows.groups() {
            used += self.take_in(&batch, group, &mut emitted, out)?;
        }
        self.close(input.watermarks, &mut emitted);
        out.count(Account { used: used as u64, ..Account::default() });
        if let Some(rows) = self.evaluator.batch(emitted, &mut self.open, &self.output)? {
            out.emit(rows);
        }
        out.watermarks(self.watermarks(input.watermarks));
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.open.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.open.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.open.load(&state)
    }
}
