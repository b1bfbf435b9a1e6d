//! Device clocks: a row whose device's stamp is too far from its arrival gets the arrival as its event time, or dies.
//!
//! Whether a row's clock is off depends on the row alone, or on the row and the journaled clock of its epoch, so neither
//! the number of workers nor a replay shows. Repetitions are told by what the device sent, before its clock is looked
//! at: a row that is sent again has the same stamp and arrives anew. `max_ahead` and lateness come after, for they are
//! about the time that counts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::TimestampNanosecondType;

use super::Place;
use crate::batch::Batch;
use crate::graph::{ClockPolicy, DeviceClock};
use crate::operator::Fault;
use crate::schema::Schema;

/// The stamps of a row whose device's clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Off {
    /// What the device said, if it said anything.
    pub(super) device: Option<i64>,
    pub(super) arrival: i64,
}

/// What is known of the clocks behind the rows of one epoch.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    first_batch: usize,
    /// One a batch, where some row's clock is off.
    stamps: Vec<Option<Stamps>>,
}

/// The stamps of a batch as they came in, and the rows whose clock is off.
#[derive(Debug)]
struct Stamps {
    column: ArrayRef,
    off: Vec<Option<Off>>,
}

impl Clocks {
    /// Looks at the clocks of `batches`, which will be numbered from `first_batch` on, and gives each the columns of
    /// `schema` with the event times that count.
    pub(super) fn look_at(
        batches: &mut [Batch],
        first_batch: usize,
        schema: &Schema,
        clock: Option<&DeviceClock>,
        epoch_clock_ns: i64,
    ) -> Result<Self, Fault> {
        let mut clocks = Clocks { first_batch, stamps: Vec::new() };
        let Some(clock) = clock else { return Ok(clocks) };
        for batch in batches {
            let column = Arc::clone(batch.rows.column(schema.time()));
            let off = clock.off(batch, &column, epoch_clock_ns);
            if clock.otherwise == ClockPolicy::Arrival {
                batch.rows = restamped(&batch.rows, schema, &off)?;
            }
            let some = off.iter().any(Option::is_some);
            clocks.stamps.push(some.then_some(Stamps { column, off }));
        }
        Ok(clocks)
    }

    /// The stamps of a row, if its clock is off.
    pub(super) fn off(&self, place: Place) -> Option<Off> {
        self.stamps(place)?.off[place.row as usize]
    }

    /// The event times of a row's batch as its devices sent them, where they are not those of the batch any more.
    pub(super) fn sent(&self, place: Place) -> Option<&ArrayRef> {
        Some(&self.stamps(place)?.column)
    }

    /// Whether no clock is off.
    pub(super) fn are_right(&self) -> bool {
        self.stamps.iter().all(Option::is_none)
    }

    fn stamps(&self, place: Place) -> Option<&Stamps> {
        self.stamps.get(place.batch as usize - self.first_batch)?.as_ref()
    }
}

impl DeviceClock {
    /// The stamps of each row whose clock is off. Without an arrival there is nothing that a stamp could be far from.
    fn off(&self, batch: &Batch, stamps: &ArrayRef, epoch_clock_ns: i64) -> Vec<Option<Off>> {
        let stamps = stamps.as_primitive::<TimestampNanosecondType>();
        let arrivals = self.arrival.map(|c| batch.rows.column(c));
        let arrivals = arrivals.map(|c| c.as_primitive::<TimestampNanosecondType>());
        let look = |row: usize| {
            let device = stamps.is_valid(row).then(|| stamps.value(row));
            let arrival = match arrivals {
                Some(column) => column.is_valid(row).then(|| column.value(row))?,
                None => epoch_clock_ns,
            };
            let limit = self.max_difference_ns.unsigned_abs();
            let is_near = device.is_some_and(|device| device.abs_diff(arrival) <= limit);
            (!is_near).then_some(Off { device, arrival })
        };
        (0..batch.len()).map(look).collect()
    }
}

/// Rows with the arrival as event time where the clock is off, and in the last column what the device said there.
fn restamped(
    rows: &RecordBatch,
    schema: &Schema,
    off: &[Option<Off>],
) -> Result<RecordBatch, Fault> {
    let column = |times: TimestampNanosecondArray| -> ArrayRef {
        let zone = schema.arrow().field(schema.time()).data_type().clone();
        Arc::new(times.with_data_type(zone))
    };
    let mut columns = rows.columns().to_vec();
    let stamps = columns[schema.time()].as_primitive::<TimestampNanosecondType>();
    let time = |row: usize| off[row].map_or(stamps.value(row), |off| off.arrival);
    let times: TimestampNanosecondArray = (0..rows.num_rows()).map(time).collect::<Vec<_>>().into();
    let said: TimestampNanosecondArray = off.iter().map(|off| off.and_then(|o| o.device)).collect();
    columns[schema.time()] = column(times);
    columns.push(column(said));
    Ok(RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?)
}
