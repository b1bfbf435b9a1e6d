//! Rows that wait until the lines through them are known.
//!
//! A row of a key waits behind those before it. Of each column a number of the waiting rows, from the front, is decided:
//! their value is there, or known to be missing. The rows that are decided in all columns go out.

use std::collections::VecDeque;

use arrow::array::{Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Input, Keyed, Operator, Out, Schema, ShardSet,
    Watermarks,
};
use serde::{Deserialize, Serialize};

use super::{Point, STATE_VERSION};
use crate::columns::same_version;
use crate::held::{Body, Codec, Held, Marks, WAITING_FULL};
use crate::smoothing::Smoothed;

/// What is known of a column of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Line {
    last: Option<Point>,
    /// How many of the waiting rows are decided.
    decided: usize,
    /// The values of the waiting rows, NaN where missing.
    values: VecDeque<f64>,
}

impl Line {
    /// Decides what can be when all values before `frontier` are known.
    fn advance(&mut self, frontier: i64, max_gap: i64) {
        if self.last.is_none_or(|last| frontier > last.at.saturating_add(max_gap)) {
            self.decided = self.values.len();
        }
    }

    /// Takes in the value of a row that waits behind those at `times`.
    #[expect(clippy::cast_precision_loss, reason = "a gap beyond 104 days loses nanoseconds")]
    fn push(&mut self, at: i64, y: f64, times: &VecDeque<Held>, max_gap: i64) {
        if y.is_nan() {
            self.values.push_back(y);
            self.advance(at, max_gap);
            return;
        }
        if let Some(last) = self.last {
            let length = at.saturating_sub(last.at);
            let waiting = self.values.iter_mut().zip(times).skip(self.decided);
            for (value, row) in waiting.filter(|_| length <= max_gap && length > 0) {
                let part = row.at.saturating_sub(last.at) as f64 / length as f64;
                *value = last.y + (y - last.y) * part;
            }
        }
        self.last = Some(Point { at, y });
        self.values.push_back(y);
        self.decided = self.values.len();
    }
}

/// The rows of a key that wait.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Waiting {
    rows: VecDeque<Held>,
    lines: Vec<Line>,
}

impl Waiting {
    fn advance(&mut self, frontier: i64, max_gap: i64) {
        for line in &mut self.lines {
            line.advance(frontier, max_gap);
        }
    }

    /// Moves the rows that are decided to `out`.
    fn release(&mut self, hash: u64, out: &mut Released) {
        let n = self.lines.iter().map(|l| l.decided).min().unwrap_or(0);
        for row in self.rows.drain(..n) {
            out.marks.push(hash, row.position);
            out.bodies.push(row.body);
        }
        for (line, values) in self.lines.iter_mut().zip(&mut out.values) {
            values.extend(line.values.drain(..n));
            line.decided -= n;
        }
    }
}

/// Rows that go out.
#[derive(Debug, Default)]
struct Released {
    marks: Marks,
    bodies: Vec<Body>,
    values: Vec<Vec<f64>>,
}

/// The operator that fills in what is on a line.
#[derive(Debug)]
pub(super) struct Lines {
    input: Schema,
    columns: Smoothed,
    max_gap: i64,
    max_rows: usize,
    codec: Codec,
    keys: Keyed<Waiting>,
    /// The bound below all watermarks that rows were released for.
    low: i64,
}

impl Lines {
    pub(super) fn new(
        input: Schema,
        columns: Smoothed,
        max_gap: i64,
        max_rows: usize,
    ) -> Result<Self, Fault> {
        let (codec, keys) = (Codec::new(input.columns())?, Keyed::new(&input));
        Ok(Lines { input, columns, max_gap, max_rows, codec, keys, low: i64::MIN })
    }

    /// Takes in the rows of a batch; the slots of their keys, and how many found no room.
    fn take_in(
        &mut self,
        batch: &Batch,
        channels: &[ScalarBuffer<f64>],
        released: &mut Released,
        out: &mut dyn Out,
    ) -> Result<(Vec<u32>, u64), Fault> {
        let times = batch.times(&self.input);
        let (mut slots, mut dead) = (Vec::new(), 0);
        for group in batch.groups() {
            let n = channels.len();
            let none = || Waiting { lines: vec![Line::default(); n], ..Waiting::default() };
            let slot = self.keys.slot(batch, self.input.key(), group.start, none)?;
            let waiting = self.keys.get_mut(slot);
            let mut surplus = Vec::new();
            for row in group.start..group.end {
                waiting.advance(times[row], self.max_gap);
                waiting.release(group.hash, released);
                if waiting.rows.len() >= self.max_rows {
                    surplus.push(row);
                    continue;
                }
                for (line, values) in waiting.lines.iter_mut().zip(channels) {
                    line.push(times[row], values[row], &waiting.rows, self.max_gap);
                }
                let body =
                    Body::Fresh(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
                let position = batch.position.value(row);
                waiting.rows.push_back(Held { at: times[row], position, body });
            }
            waiting.release(group.hash, released);
            for &row in &surplus {
                out.dead(self.full(slot, times[row], batch.position.value(row)));
            }
            dead += surplus.len() as u64;
            slots.push(slot);
        }
        Ok((slots, dead))
    }

    fn full(&self, slot: u32, time: i64, position: u64) -> DeadLetter {
        let detail = format!("{} rows of the key wait for their next value already", self.max_rows);
        DeadLetter {
            key: Some(self.keys.key_text(slot)),
            time: Some(time),
            position: Some(position),
            ..DeadLetter::new(WAITING_FULL, detail)
        }
    }

    /// Releases what the watermarks decide.
    fn advance(&mut self, watermarks: &Watermarks, released: &mut Released) {
        for (slot, at) in self.keys.reached(watermarks, &mut self.low) {
            self.advance_key(slot, at, released);
        }
    }

    fn advance_key(&mut self, slot: u32, frontier: i64, released: &mut Released) {
        // Looked at first, because a look does not mark the shard as changed.
        if !self.keys.get(slot).rows.is_empty() {
            let hash = self.keys.hash(slot);
            let waiting = self.keys.get_mut(slot);
            waiting.advance(frontier, self.max_gap);
            waiting.release(hash, released);
        }
    }

    /// The rows that go out, as a batch.
    fn finished(&self, batch: &Batch, released: Released) -> Result<Batch, Fault> {
        let rows: Vec<_> = released.bodies.iter().map(|b| Some((0, b))).collect();
        let columns = self.codec.columns(&[batch.rows.columns()], &rows)?;
        // Sorting comes last, so the filled values are columns by then.
        let unsorted = RecordBatch::try_new(self.input.arrow().clone(), columns)?;
        let n = unsorted.num_rows();
        let zeros = || vec![0_u64; n].into();
        let unsorted =
            Batch::new(unsorted, zeros(), zeros()).map_err(|e| Fault::new(e.to_string()))?;
        let filled = self.columns.with(&unsorted, released.values)?;
        released.marks.batch(&self.columns.schema, filled.rows.columns().to_vec())
    }

    /// What comes out is complete up to the first row that waits.
    fn watermarks(&self, input: &Watermarks) -> Watermarks {
        let at = |hash: u64, at: i64| {
            let first = self.keys.find(hash).and_then(|slot| self.keys.get(slot).rows.front());
            first.map_or(at, |row| row.at.min(at))
        };
        let low = match input.low {
            i64::MIN | Watermarks::END => input.low,
            low => low.saturating_sub(self.max_gap),
        };
        let at = input.iter().map(|(_, hash, mark)| at(hash, mark)).collect::<Int64Array>();
        Watermarks { at, low, ..input.clone() }
    }
}

impl Operator for Lines {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        let channels = self.columns.channels(batch)?;
        let mut released =
            Released { values: vec![Vec::new(); channels.len()], ..Released::default() };
        let (slots, dead) = self.take_in(batch, &channels, &mut released, out)?;
        self.advance(inputs[0].watermarks, &mut released);
        let n_released = released.bodies.len() as u64;
        let came = i64::try_from(batch.len() as u64 - dead).unwrap_or(i64::MAX);
        let went = i64::try_from(n_released).unwrap_or(i64::MAX);
        out.count(Account { used: n_released, in_flight: came - went, ..Account::default() });
        if n_released > 0 {
            out.emit(self.finished(batch, released)?);
        }
        for slot in slots {
            let bodies = self.keys.get_mut(slot).rows.iter_mut().map(|r| &mut r.body);
            self.codec.keep(batch.rows.columns(), bodies)?;
        }
        out.watermarks(self.watermarks(inputs[0].watermarks));
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
