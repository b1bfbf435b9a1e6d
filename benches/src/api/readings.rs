//! Readings of a thousand machines, in Arrow, at a pace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::ipc::writer::StreamWriter;

use super::client::Client;
use super::now;

pub(super) const MACHINES: u64 = 1_000;

/// Readings in a request.
const BODY: u64 = 5_000;
/// 2026-03-01T00:00:00Z.
const START_NS: i64 = 1_772_323_200_000_000_000;
/// Between two readings, so that a machine has a hundred a second.
const STEP_NS: i64 = 10_000;

pub(super) fn machine(n: u64) -> String {
    format!("P-{:04}", n % MACHINES)
}

/// Whoever sends them.
pub(super) struct Readings {
    at: SocketAddr,
    sent: u64,
}

impl Readings {
    pub(super) fn new(at: SocketAddr) -> Self {
        Readings { at, sent: 0 }
    }

    /// How many were taken so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends so many at once.
    pub(super) fn send(&mut self, n: u64) -> Result<()> {
        let mut client = Client::connect(self.at)?;
        self.push(&mut client, n)
    }

    /// Sends so many a second, for so long; how many were taken a second.
    pub(super) fn flow(&mut self, per_s: u64, time: Duration) -> Result<f64> {
        let mut client = Client::connect(self.at)?;
        let (begun, before) = (now(), self.sent);
        while begun.elapsed() < time {
            let due = before + (begun.elapsed().as_secs_f64() * per_s as f64) as u64;
            match due.saturating_sub(self.sent) {
                late if late >= BODY => self.push(&mut client, BODY)?,
                _ => std::thread::park_timeout(Duration::from_millis(2)),
            }
        }
        Ok((self.sent - before) as f64 / begun.elapsed().as_secs_f64())
    }

    fn push(&mut self, client: &mut Client, n: u64) -> Result<()> {
        let body = body(self.sent, n)?;
        loop {
            let kind = "application/vnd.apache.arrow.stream";
            let answer = client.post("/api/v1/sources/readings/rows", kind, &body)?;
            match answer.status {
                200 => break,
                // It is behind, and says so.
                429 | 503 => std::thread::park_timeout(Duration::from_millis(5)),
                status => bail!("{status}: {}", String::from_utf8_lossy(&answer.body)),
            }
        }
        self.sent += n;
        Ok(())
    }
}

fn body(from: u64, n: u64) -> Result<Vec<u8>> {
    let numbers: Vec<i64> = (from..from + n).map(i64::try_from).collect::<Result<_, _>>()?;
    let times = numbers.iter().map(|n| START_NS + n * STEP_NS);
    let times = TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC");
    let value = |m: i64| numbers.iter().map(move |n| (n % m) as f64 / 16.0);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(times)),
        ("machine", Arc::new(StringArray::from_iter_values((from..from + n).map(machine)))),
        ("n", Arc::new(Int64Array::from(numbers.clone()))),
        ("vibration", Arc::new(Float64Array::from_iter_values(value(97)))),
        ("temperature", Arc::new(Float64Array::from_iter_values(value(389)))),
    ];
    let rows = RecordBatch::try_from_iter(columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(&rows)?;
    Ok(writer.into_inner()?)
}
