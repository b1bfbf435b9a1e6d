//! `api`: dashboards that poll, and queries over the PostgreSQL wire, without and with 100,000 readings a second that come in.
//!
//! The command itself runs in a process of its own, with journal and lake, and is reached as anybody reaches it: over sockets of
//! this machine. The pollers keep to a timetable, and a time counts from when a request was due, so that a server that stalls
//! cannot hide it. They share the processors with what they measure. `ratio` is how fast readings are taken while everybody
//! asks, over how fast while nobody does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

mod client;
mod readings;

use client::Client;
use readings::{MACHINES, Readings};

/// By this name the benchmark starts itself as the command.
pub(crate) const COMMAND: &str = "foreline";

/// Pollers at a time.
const POLLERS: usize = 200;
/// Every poller asks so often a second.
const POLLS_PER_S: u32 = 5;
/// How long each part is measured.
const MEASURED: Duration = Duration::from_secs(15);
/// Readings a second that come in.
pub(crate) const READINGS_PER_S: u64 = 100_000;
/// Requests one after the other.
const LOOKUPS: usize = 5_000;

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns:
      ts: { type: timestamp }
      machine: string
      n: int64
      vibration: { type: float64, unit: mm/s }
      temperature: { type: float64, unit: degC }
    key: [machine]
    time: ts
    lateness: 0s
views:
  latest: { from: readings, latest: {} }
sinks:
  lake: { from: [readings], parquet: { path: lake } }
epoch: { interval: 200ms }
serve: { listen: 127.0.0.1:0, postgres: 127.0.0.1:0 }
";

/// One question, with how long the answers took, in ms.
#[derive(Debug, Serialize)]
struct Asked {
    what: &'static str,
    requests: usize,
    answer_bytes: usize,
    p50_ms: f64,
    p99_ms: f64,
    most_ms: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    pollers: usize,
    polls_per_s: u32,
    readings_per_s: u64,
    asked: Vec<Asked>,
    taken_alone_per_s: f64,
    taken_per_s: f64,
    consistent_answers: usize,
    ratio: f64,
}

pub(crate) fn run(readings_per_s: u64, json: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
    let engine = Engine::start(folder.path())?;
    let mut readings = Readings::new(engine.http);
    // Every machine is in the view.
    readings.send(MACHINES)?;
    engine.wait_for(MACHINES)?;
    let row = format!("/api/v1/tables/latest/rows?machine={}", readings::machine(MACHINES / 2));
    let mut asked = vec![lookups("one row, one client", engine.http, &row)?];
    let whole = "/api/v1/tables/latest/rows?limit=1000";
    asked.push(poll("200 pollers, unchanged (304)", engine.http, whole, true)?);
    asked.push(poll("200 pollers, 1,000 rows", engine.http, whole, false)?);

    let taken_alone_per_s = readings.flow(readings_per_s, MEASURED)?;
    let is_over = AtomicBool::new(false);
    let consistent = AtomicU64::new(0);
    let (taken_per_s, polled, queried) = std::thread::scope(|scope| {
        let polled = scope.spawn(|| {
            let what = "200 pollers, 1,000 rows, readings come in";
            poll(what, engine.http, whole, false)
        });
        let queried = scope.spawn(|| queries(engine.postgres, &is_over, &consistent));
        let taken = readings.flow(readings_per_s, MEASURED);
        is_over.store(true, Ordering::Release);
        let failed = || anyhow::anyhow!("a client panicked");
        let polled = polled.join().map_err(|_| failed())?;
        let queried = queried.join().map_err(|_| failed())?;
        anyhow::Ok((taken?, polled?, queried?))
    })?;
    asked.push(polled);
    asked.extend(queried);
    engine.wait_for(readings.sent())?;
    let figures = Figures {
        pollers: POLLERS,
        polls_per_s: POLLS_PER_S,
        readings_per_s,
        asked,
        taken_alone_per_s,
        taken_per_s,
        consistent_answers: usize::try_from(consistent.into_inner())?,
        ratio: taken_per_s / taken_alone_per_s,
    };
    print(&figures, json)
}

/// The command, in a process of its own.
struct Engine {
    child: Child,
    http: SocketAddr,
    postgres: SocketAddr,
}

impl Engine {
    fn start(folder: &Path) -> Result<Self> {
        std::fs::write(folder.join("p.yaml"), PIPELINE)?;
        let mut command = Command::new(std::env::current_exe()?);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::arg0(&mut command, COMMAND);
        let mut child = command
            .args(["run", "--quiet", "p.yaml"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the command cannot be started")?;
        let said = child.stderr.take().context("it was piped")?;
        let mut at = BTreeMap::new();
        let mut lines = BufReader::new(said).lines();
        while at.len() < 2 {
            let line = lines.next().context("the command ended before it listened")??;
            if let Some((scheme, address)) =
                line.strip_prefix("listening on ").and_then(|rest| rest.split_once("://"))
            {
                at.insert(scheme.to_owned(), address.parse::<SocketAddr>()?);
            }
        }
        // What it says later is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let place = |scheme| at.get(scheme).copied().context("it listens on both");
        Ok(Engine { http: place("http")?, postgres: place("postgresql")?, child })
    }

    /// Waits until so many readings are in the lake or on their way to it.
    fn wait_for(&self, readings: u64) -> Result<()> {
        let begun = now();
        loop {
            let mut client = Client::connect(self.http)?;
            let body = r#"{"sql":"SELECT max(n) AS n FROM latest"}"#;
            let answer = client.post("/api/v1/query", "application/json", body.as_bytes());
            if let Ok(answer) = answer {
                let said: serde_json::Value = serde_json::from_slice(&answer.body)?;
                if said["rows"][0][0].as_u64() == Some(readings - 1) {
                    return Ok(());
                }
            }
            ensure!(begun.elapsed() < 4 * MEASURED, "{readings} readings did not come through");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "measures outside any dataflow")]
fn now() -> Instant {
    Instant::now()
}

/// Requests one after the other, over one connection.
fn lookups(what: &'static str, at: SocketAddr, path: &str) -> Result<Asked> {
    let mut client = Client::connect(at)?;
    let mut times = Vec::with_capacity(LOOKUPS);
    let mut bytes = 0;
    for _ in 0..LOOKUPS {
        let begun = now();
        let answer = client.get(path, None)?;
        times.push(begun.elapsed());
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        bytes = answer.body.len();
    }
    Ok(summary(what, times, bytes))
}

/// All pollers for [`MEASURED`], each over a connection of its own.
fn poll(what: &'static str, at: SocketAddr, path: &str, has_tag: bool) -> Result<Asked> {
    let polled = std::thread::scope(|scope| {
        let pollers: Vec<_> =
            (0..POLLERS).map(|i| scope.spawn(move || poller(i, at, path, has_tag))).collect();
        let ended = pollers.into_iter().map(|poller| {
            poller.join().map_err(|_| anyhow::anyhow!("a poller panicked")).and_then(|found| found)
        });
        ended.collect::<Result<Vec<_>>>()
    })?;
    let bytes = polled.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    Ok(summary(what, polled.into_iter().flat_map(|(times, _)| times).collect(), bytes))
}

fn poller(i: usize, at: SocketAddr, path: &str, has_tag: bool) -> Result<(Vec<Duration>, usize)> {
    let mut client = Client::connect(at)?;
    let tag = if has_tag { client.get(path, None)?.tag } else { None };
    let expected = if has_tag { 304 } else { 200 };
    let every = Duration::from_secs(1) / POLLS_PER_S;
    // They do not all ask at once.
    let mut due = now() + every * u32::try_from(i)? / u32::try_from(POLLERS)?;
    let end = now() + MEASURED;
    let (mut times, mut bytes) = (Vec::new(), 0);
    while due < end {
        std::thread::park_timeout(due.saturating_duration_since(now()));
        let answer = client.get(path, tag.as_deref())?;
        times.push(now() - due);
        ensure!(answer.status == expected, "{path}: {}, not {expected}", answer.status);
        bytes = answer.body.len();
        due += every;
    }
    Ok((times, bytes))
}

/// Queries over the wire, one after the other, until the readings end.
fn queries(at: SocketAddr, is_over: &AtomicBool, consistent: &AtomicU64) -> Result<Vec<Asked>> {
    const TOGETHER: &str = "SELECT v.n AS of_view, r.n AS of_history FROM (SELECT max(n) AS n FROM latest) v, (SELECT max(n) AS n FROM readings) r";
    const BUCKETS: &str = "SELECT time_bucket(INTERVAL '1 second', ts) AS t, avg(vibration) AS v FROM readings WHERE machine = 'P-0500' GROUP BY t";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let how = format!("host={} port={} user=bench", at.ip(), at.port());
        let (client, connection) = tokio_postgres::connect(&how, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let (mut together, mut buckets) = (Vec::new(), Vec::new());
        while !is_over.load(Ordering::Acquire) {
            let begun = now();
            let row = client.query_one(TOGETHER, &[]).await?;
            together.push(begun.elapsed());
            let (view, history): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            ensure!(view == history, "the view is at {view}, the history at {history}");
            consistent.fetch_add(1, Ordering::Relaxed);
            let begun = now();
            client.query(BUCKETS, &[]).await?;
            buckets.push(begun.elapsed());
        }
        drop(client);
        connection.await??;
        Ok(vec![
            summary("wire: view and whole history at one epoch, readings come in", together, 0),
            summary("wire: seconds of one machine, readings come in", buckets, 0),
        ])
    })
}

fn summary(what: &'static str, mut times: Vec<Duration>, answer_bytes: usize) -> Asked {
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    let (p50_ms, p99_ms, most_ms) = (at(0.5), at(0.99), at(1.0));
    Asked { what, requests: times.len(), answer_bytes, p50_ms, p99_ms, most_ms }
}

#[expect(clippy::print_stdout, reason = "a benchmark is what it prints")]
fn print(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    println!(
        "{:58} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "", "requests", "bytes", "p50 ms", "p99 ms", "most ms"
    );
    for asked in &figures.asked {
        let Asked { what, requests, answer_bytes, p50_ms, p99_ms, most_ms } = asked;
        println!(
            "{what:58} {requests:>9} {answer_bytes:>8} {p50_ms:>9.3} {p99_ms:>9.3} {most_ms:>9.3}"
        );
    }
    let Figures {
        readings_per_s, taken_alone_per_s, taken_per_s, consistent_answers, ratio, ..
    } = figures;
    println!(
        "readings/s: {readings_per_s} offered, {taken_alone_per_s:.0} taken while nobody asks, {taken_per_s:.0} while all do"
    );
    println!("{consistent_answers} answers over view and history, each of one epoch");
    println!("ratio {ratio:.2}");
    Ok(())
}
