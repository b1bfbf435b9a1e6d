//! Windows of event time, one after the other or overlapping.
//!
//! A key's rows are kept once, in order, for as long as an open window holds them; a window is a slice of
//! them. Windows close in the order of their ends, and rows that no open window holds are dropped.
//!
//! For a key with watermark `w` every window that ends at or before `w` is closed, so the next row out has
//! `window_end >= grid.end_after(w)`: that is the watermark that goes on.

use arrow::array::{Int64Array, RecordBatch};
use foreline_engine::{
    Account, Epoch, Fault, Group, Input, Keyed, Operator, Out, Schema, ShardSet, Watermarks,
};
use serde::{Deserialize, Serialize};

use super::evaluate::{Emitted, Evaluator, Taken, full};
use super::panes::{Cut, MAX_PANES};
use crate::columns::same_version;
use crate::history::History;

/// Raised whenever `Open` changes.
pub(super) const STATE_VERSION: u32 = 1;

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

    /// How the window that starts at `start` is cut.
    fn cut(self, start: i64) -> Cut {
        let (n, rest) = (self.length / self.every, self.length % self.every);
        let ends = start.checked_add(self.length).is_some();
        if rest != 0 || !(2..=MAX_PANES).contains(&n) || !ends {
            return Cut::Whole;
        }
        let n = usize::try_from(n).expect("it is at most `MAX_PANES`");
        Cut::Panes { start, every: self.every, n }
    }
}

fn clamp(time: i128) -> i64 {
    let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(time.clamp(bounds.0, bounds.1)).expect("it was clamped to the bounds of i64")
}

/// How many rows a window may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most rows of the open windows of a key.
    pub(super) max_rows: usize,
    /// A window with fewer does not come out. At least 1.
    pub(super) min_rows: usize,
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
    limits: Limits,
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
        limits: Limits,
        evaluator: Evaluator,
    ) -> Self {
        let open = Keyed::new(&input);
        Timed { input, output, grid, limits, evaluator, open, low: i64::MIN }
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
        self.evaluator.begin_key();
        let mut surplus = Vec::new();
        let mut at = group.start;
        while at < group.end {
            let time = batch.times[at];
            open.close(slot, time, self.grid, self.limits, &mut self.evaluator, emitted);
            if open.positions.is_empty() {
                open.start = self.grid.start_after(time);
            }
            let end = self.grid.end(open.start);
            let inside = batch.times[at..group.end].partition_point(|&t| t < end).max(1);
            let fits = inside.min(self.limits.max_rows.saturating_sub(open.positions.len()));
            open.positions.extend_from_slice(&batch.positions[at..at + fits]);
            open.rows.extend(batch.times, &batch.channels, at, at + fits);
            surplus.extend(at + fits..at + inside);
            at += inside;
        }
        for &row in &surplus {
            out.dead(full(&self.open, batch, slot, row, self.limits.max_rows));
        }
        Ok(group.end - group.start - surplus.len())
    }

    /// Closes what the watermarks close.
    fn close(&mut self, watermarks: &Watermarks, emitted: &mut Emitted) {
        for (slot, at) in self.open.reached(watermarks, &mut self.low) {
            self.close_key(slot, at, emitted);
        }
    }

    fn close_key(&mut self, slot: u32, watermark: i64, emitted: &mut Emitted) {
        // Looked at first, because a look does not mark the shard as changed.
        let open = self.open.get(slot);
        if open.positions.is_empty() || self.grid.end(open.start) > watermark {
            return;
        }
        let open = self.open.get_mut(slot);
        self.evaluator.begin_key();
        open.close(slot, watermark, self.grid, self.limits, &mut self.evaluator, emitted);
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
        limits: Limits,
        evaluator: &mut Evaluator,
        emitted: &mut Emitted,
    ) {
        while !self.positions.is_empty() && grid.end(self.start) <= watermark {
            let end = grid.end(self.start);
            if self.positions.len() >= limits.min_rows {
                emitted.row(slot, end, self.positions[self.positions.len() - 1]);
                let cut = grid.cut(self.start);
                evaluator.evaluate(&self.rows, 0..self.positions.len(), cut, emitted);
            }
            self.start = self.start.saturating_add(grid.every);
            let gone = match self.start {
                i64::MAX => self.positions.len(),
                start => self.rows.times().partition_point(|&t| t < start),
            };
            self.positions.drain(..gone);
            evaluator.before_drop(&self.rows, gone);
            self.rows.drop_first(gone);
        }
    }
}

impl Operator for Timed {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let schema = self.input.clone();
        let batch = Taken::new(input.rows, &schema, &self.evaluator)?;
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
