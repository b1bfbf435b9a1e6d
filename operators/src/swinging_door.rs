//! Leaves rows out that lie on the line between those that go on: compression by a swinging door.
//!
//! Input   keyed rows; the column is `Float64` or `Int64`
//! Output  the rows that go on, unchanged
//! State   for each key the time and value of the last row that went on, the two slopes of the door, and one row that
//!         waits
//! Late    honours `late: { correct }`; a late row changes which of those behind it go on
//! Errors  none: a row that does not go on is counted as `filtered`
//! Source  Bristol, US patent 4,669,097, with the test of the *line* in place of the doors' crossing, as data historians
//!         do it: so no value that is left out is further than `deviation` from the line
//!
//! ```text
//! (t0, y0)      the last row that went on
//! upper, lower  the least and greatest of (y + deviation - y0) / (t - t0) and (y - deviation - y0) / (t - t0)
//!               over the rows since
//! ```
//!
//! A row waits, in place of the one before it, as long as the slope of the line to it is within `lower` and `upper`.
//! When it is not, the row before it goes on and is where the door is hinged. The row that waits goes on, too, when a
//! later row or the watermark shows that the last is longer ago than `max_gap`, so at the end of the stream the last row
//! of each key goes on. The first row of a run of nulls goes on, with the row that waits before it; the value after it
//! goes on and starts anew. Of values of one time the others go on if they are further than `deviation` away.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use foreline_engine::{
    Account, Batch, ConfigError, Epoch, Extent, Family, Fault, Group, Input, Keyed, LateSupport,
    Operator, OperatorKind, Out, Planned, Resolver, Schema, ShardSet, Watermarks,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{channel, numeric, only, positive, same_version};
use crate::held::{Body, Codec, Held, Marks};

/// Raised whenever `Door` changes.
const STATE_VERSION: u32 = 1;

/// Leaves rows out that lie on the line between those that go on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwingingDoorConfig {
    /// The column whose values decide.
    pub column: String,
    /// How far a value may be from the line, in the column's unit; 0 or more.
    pub deviation: f64,
    /// A row goes on anyway when the last that did is longer ago than this: `10m`. So long may a row wait.
    pub max_gap: Extent,
}

/// The kind `swinging_door`.
#[derive(Debug, Clone, Copy)]
pub struct SwingingDoor;

impl OperatorKind for SwingingDoor {
    type Config = SwingingDoorConfig;

    const NAME: &'static str = "swinging_door";
    const SUMMARY: &'static str = "leaves rows out that lie on the line between those that go on";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "compact: { from: readings, swinging_door: { column: temperature, deviation: 0.5, max_gap: 10m } }";

    fn plan(
        config: &SwingingDoorConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let column = numeric(input, "column", &config.column).map_err(|e| errors.push(e));
        let deviation = config.deviation;
        if !(deviation >= 0.0 && deviation.is_finite()) {
            let error = ConfigError::new("deviation", format!("'{deviation}' is not a distance"));
            errors.push(error.help("give a number of 0 or more"));
        }
        let gap = positive("max_gap", config.max_gap, input.domain()).map_err(|e| errors.push(e));
        let (Ok(column), Ok(max_gap), true) = (column, gap, errors.is_empty()) else {
            return Err(errors);
        };
        let (limits, schema) = (Limits { deviation, max_gap }, input.clone());
        Ok(Planned {
            output: input.clone(),
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let codec = Codec::new(schema.columns())?;
                let (input, doors, low) = (schema.clone(), Keyed::new(&schema), i64::MIN);
                Ok(Box::new(Doors { input, column, limits, codec, doors, low }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    deviation: f64,
    max_gap: i64,
}

/// A row and its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Candidate {
    row: Held,
    y: f64,
}

/// The door of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Door {
    /// Time and value of the last row that went on; none after a null.
    hinge: Option<(i64, f64)>,
    lower: f64,
    upper: f64,
    waits: Option<Candidate>,
    /// The last row was null.
    is_null: bool,
}

/// Rows that go on, and how many do not.
#[derive(Debug, Default)]
struct Passed {
    marks: Marks,
    bodies: Vec<Body>,
    n_filtered: u64,
}

impl Passed {
    fn push(&mut self, hash: u64, row: Held) {
        self.marks.push(hash, row.position);
        self.bodies.push(row.body);
    }
}

impl Door {
    fn take(&mut self, next: Candidate, limits: Limits, hash: u64, out: &mut Passed) {
        let (at, y) = (next.row.at, next.y);
        self.advance(at, limits, hash, out);
        if y.is_nan() {
            self.release(hash, out);
            self.hinge = None;
            if std::mem::replace(&mut self.is_null, true) {
                out.n_filtered += 1;
            } else {
                out.push(hash, next.row);
            }
            return;
        }
        self.is_null = false;
        if self.waits.is_some() && !self.is_on_line(at, y) {
            self.release(hash, out);
        }
        match self.hinge {
            Some((t0, y0)) if at == t0 && (y - y0).abs() <= limits.deviation => {
                out.n_filtered += 1;
            }
            Some((t0, _)) if at > t0 && at.saturating_sub(t0) <= limits.max_gap => {
                self.narrow(at, y, limits.deviation);
                out.n_filtered += u64::from(self.waits.replace(next).is_some());
            }
            _ => {
                self.hang(at, y);
                out.push(hash, next.row);
            }
        }
    }

    /// Whether the line to a value is within the door.
    fn is_on_line(&self, at: i64, y: f64) -> bool {
        let Some((t0, y0)) = self.hinge else { return false };
        let slope = (y - y0) / length(t0, at);
        slope >= self.lower && slope <= self.upper
    }

    /// Lets the door swing as far as this value allows.
    fn narrow(&mut self, at: i64, y: f64, deviation: f64) {
        let Some((t0, y0)) = self.hinge else { return };
        let length = length(t0, at);
        self.lower = self.lower.max((y - deviation - y0) / length);
        self.upper = self.upper.min((y + deviation - y0) / length);
    }

    fn hang(&mut self, at: i64, y: f64) {
        self.hinge = Some((at, y));
        (self.lower, self.upper) = (f64::NEG_INFINITY, f64::INFINITY);
    }

    /// Sends the row that waits.
    fn release(&mut self, hash: u64, out: &mut Passed) {
        if let Some(Candidate { row, y }) = self.waits.take() {
            self.hang(row.at, y);
            out.push(hash, row);
        }
    }

    /// Sends the row that waits if all rows before `frontier` are known and that is too long after the hinge.
    fn advance(&mut self, frontier: i64, limits: Limits, hash: u64, out: &mut Passed) {
        if self.hinge.is_some_and(|(t0, _)| frontier > t0.saturating_add(limits.max_gap)) {
            self.release(hash, out);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gap beyond 104 days loses nanoseconds")]
fn length(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64
}

/// The operator.
#[derive(Debug)]
struct Doors {
    input: Schema,
    column: usize,
    limits: Limits,
    codec: Codec,
    doors: Keyed<Door>,
    /// The bound below all watermarks that rows were sent for.
    low: i64,
}

impl Doors {
    /// Takes in the rows of a key; returns its slot.
    fn take_in(
        &mut self,
        batch: &Batch,
        values: &[f64],
        group: Group,
        out: &mut Passed,
    ) -> Result<u32, Fault> {
        let times = batch.times(&self.input);
        let slot = self.doors.slot(batch, self.input.key(), group.start, Door::default)?;
        let door = self.doors.get_mut(slot);
        for row in group.start..group.end {
            let body = Body::Fresh(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
            let held = Held { at: times[row], position: batch.position.value(row), body };
            let next = Candidate { row: held, y: values[row] };
            door.take(next, self.limits, group.hash, out);
        }
        Ok(slot)
    }

    /// Sends what the watermarks decide.
    fn advance(&mut self, watermarks: &Watermarks, out: &mut Passed) {
        for (slot, at) in self.doors.reached(watermarks, &mut self.low) {
            self.advance_key(slot, at, out);
        }
    }

    fn advance_key(&mut self, slot: u32, frontier: i64, out: &mut Passed) {
        // Looked at first, because a look does not mark the shard as changed.
        if self.doors.get(slot).waits.is_some() {
            let hash = self.doors.hash(slot);
            self.doors.get_mut(slot).advance(frontier, self.limits, hash, out);
        }
    }

    /// What comes out is complete up to the row that waits.
    fn watermarks(&self, input: &Watermarks) -> Watermarks {
        let at = |hash: u64, at: i64| {
            let waits = self.doors.find(hash).and_then(|slot| self.doors.get(slot).waits.as_ref());
            waits.map_or(at, |candidate| candidate.row.at.min(at))
        };
        let low = match input.low {
            i64::MIN | Watermarks::END => input.low,
            low => low.saturating_sub(self.limits.max_gap),
        };
        let at = input.iter().map(|(_, hash, mark)| at(hash, mark)).collect::<Int64Array>();
        Watermarks { at, low, ..input.clone() }
    }
}

impl Operator for Doors {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        let values = channel(batch.rows.column(self.column))?;
        let (mut passed, mut slots) = (Passed::default(), Vec::new());
        for group in batch.groups() {
            slots.push(self.take_in(batch, &values, group, &mut passed)?);
        }
        self.advance(inputs[0].watermarks, &mut passed);
        let (used, filtered) = (passed.bodies.len() as u64, passed.n_filtered);
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let in_flight = whole(batch.len() as u64) - whole(used) - whole(filtered);
        out.count(Account { used, filtered, in_flight, ..Account::default() });
        if used > 0 {
            let rows: Vec<_> = passed.bodies.iter().map(|b| Some((0, b))).collect();
            let columns = self.codec.columns(&[batch.rows.columns()], &rows)?;
            out.emit(passed.marks.batch(&self.input, columns)?);
        }
        for slot in slots {
            let waits = self.doors.get_mut(slot).waits.iter_mut();
            self.codec.keep(batch.rows.columns(), waits.map(|c| &mut c.row.body))?;
        }
        out.watermarks(self.watermarks(inputs[0].watermarks));
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.doors.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.doors.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.doors.load(&state)
    }
}

#[cfg(test)]
mod tests;
