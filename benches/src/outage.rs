//! `outage`: a database that is away for a day while readings are pushed in, with the day's readings in minutes.
//!
//! The source is `http`, whose records nobody sends again, the sink `postgres`, with journal and snapshots, as a user would
//! have them. First as many readings as a day has at [`DAY_RATE`] are pushed as fast as they are taken while the server
//! is stopped. Then it is started, readings go on coming at [`LIVE_RATE`], and what is measured is how fast the table
//! catches up. `ratio` is that over the live rate. At the end every reading is counted in the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foreline_connectors::{Door, Refused};
use foreline_engine::{Durable, Observer, OnChange, Options, RealDisk, Report, RunId};
use foreline_servers::Postgres;
use foreline_spec::{Kinds, Plan, PlanOptions, ProcessEnvironment, RenderStyle, check_text};
use serde::Serialize;

use crate::memory;

/// Readings a second of the day that is lived through.
const DAY_RATE: u64 = 100;
/// Readings a second that go on coming while the table catches up.
const LIVE_RATE: u64 = 10_000;
/// Readings of a day.
pub(crate) const ROWS: u64 = DAY_RATE * 86_400;
/// Readings in a request.
const BODY_ROWS: u64 = 1_000;
/// Machines that take turns.
const MACHINES: u64 = 1_000;
/// 2026-03-01T00:00:00Z.
const START_S: u64 = 1_772_323_200;
/// How long nothing may move before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    rows: u64,
    away_s: f64,
    taken_rows_per_s: f64,
    journal_mib: u64,
    caught_up_s: f64,
    caught_up_rows: u64,
    caught_up_rows_per_s: f64,
    live_rows_per_s: u64,
    ratio: f64,
    peak_away_mib: Option<u64>,
    peak_mib: Option<u64>,
}

/// Measures and prints.
///
/// # Errors
/// When PostgreSQL is not installed, or a reading is missing.
pub(crate) fn run(rows: u64, json: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
    let mut db = Postgres::start_with(&[("shared_buffers", "256MB"), ("max_wal_size", "4GB")])?;
    let plan = plan(folder.path(), &db.url())?;
    let door = plan.sources.iter().find_map(|s| s.source.door.clone()).context("a way in")?;
    let written = Arc::new(Written::default());
    let stop = Arc::new(AtomicBool::new(false));
    let options = options(&plan, folder.path(), &stop, &written);
    let graph = plan.graph(Vec::new()).context("the graph")?;
    let data = folder.path().join("data");
    let measured = std::thread::scope(|scope| {
        let running = scope.spawn(|| foreline_engine::run(graph, &options));
        let measured = live_through(&mut db, &door, &written, rows, &data);
        stop.store(true, Ordering::Release);
        let ended = running.join().map_err(|_| anyhow::anyhow!("the run panicked"))?;
        measured.and_then(|figures| Ok(ended.map(|_| figures)?))
    })?;
    let pushed = (rows + measured.1).to_string();
    let found = db.sql("select count(*) from readings")?;
    ensure!(found == pushed, "{found} readings in the table, of {pushed}");
    print(&measured.0, json)
}

/// The day, and the catching up; the figures, and how many readings were pushed behind the day's.
fn live_through(
    db: &mut Postgres,
    door: &Door,
    written: &Written,
    rows: u64,
    data: &Path,
) -> Result<(Figures, u64)> {
    let mut clients = Clients { door, next: 0 };
    // It has been at work before.
    clients.push_upto(BODY_ROWS)?;
    written.reach(BODY_ROWS)?;
    db.stop()?;
    memory::forget_peak();
    let away = timed(|| clients.push_upto(rows))?;
    ensure!(written.rows() <= BODY_ROWS, "the database was not away");
    let journal_mib = size(&data.join("journal"))? >> 20;
    let peak_away_mib = memory::peak_mib();
    db.start_again()?;
    let begun = now();
    let live = |clients: &mut Clients<'_>| {
        let due = rows + (begun.elapsed().as_secs_f64() * LIVE_RATE as f64) as u64;
        clients.push_upto(due / BODY_ROWS * BODY_ROWS)
    };
    // Caught up: what was pushed until a moment ago is there.
    let mut before = rows;
    loop {
        live(&mut clients)?;
        if written.rows() >= before {
            break;
        }
        before = before.max(clients.next.saturating_sub(LIVE_RATE));
        ensure!(begun.elapsed() < 10 * PATIENCE, "the table does not catch up");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (caught_up, caught_up_rows) = (begun.elapsed(), written.rows() - BODY_ROWS);
    written.reach(clients.next)?;
    let rate = caught_up_rows as f64 / caught_up.as_secs_f64();
    let figures = Figures {
        rows,
        away_s: away.as_secs_f64(),
        taken_rows_per_s: rows as f64 / away.as_secs_f64(),
        journal_mib,
        caught_up_s: caught_up.as_secs_f64(),
        caught_up_rows,
        caught_up_rows_per_s: rate,
        live_rows_per_s: LIVE_RATE,
        ratio: rate / LIVE_RATE as f64,
        peak_away_mib,
        peak_mib: memory::peak_mib(),
    };
    Ok((figures, clients.next - rows))
}

/// Those who push readings.
struct Clients<'a> {
    door: &'a Door,
    next: u64,
}

impl Clients<'_> {
    /// Pushes all readings up to `end`, as fast as they are taken.
    fn push_upto(&mut self, end: u64) -> Result<()> {
        let mut body = String::new();
        while self.next < end {
            body.clear();
            let last = end.min(self.next + BODY_ROWS);
            for n in self.next..last {
                let millis = START_S * 1000 + n * 1000 / MACHINES;
                writeln!(
                    body,
                    "{{\"ts\":{millis},\"machine\":\"P-{:04}\",\"vibration\":{}.25}}",
                    n % MACHINES,
                    n % 97
                )?;
            }
            self.push(&body)?;
            self.next = last;
        }
        Ok(())
    }

    fn push(&self, body: &str) -> Result<()> {
        let begun = now();
        loop {
            let examined = self.door.examine("application/x-ndjson", body.as_bytes())?;
            match self.door.push(examined, None) {
                Ok(_) => return Ok(()),
                Err(Refused::Full | Refused::Closed) => {}
                Err(refused) => bail!(refused),
            }
            ensure!(begun.elapsed() < PATIENCE, "no reading is taken for {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// How many readings are in the table.
#[derive(Debug, Default)]
struct Written(AtomicU64);

impl Written {
    fn rows(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until so many are there.
    fn reach(&self, rows: u64) -> Result<()> {
        let begun = now();
        while self.rows() < rows {
            ensure!(begun.elapsed() < PATIENCE, "{} of {rows} readings came", self.rows());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Observer for Written {
    fn epoch(&self, _: u64, report: &Report) {
        self.0.store(report.written.values().sum(), Ordering::Release);
    }
}

fn plan(folder: &Path, url: &str) -> Result<Plan> {
    let text = format!(
        "version: 1
sources:
  readings:
    http: {{}}
    columns: {{ ts: {{ type: timestamp, format: epoch_ms }}, machine: string, vibration: float64 }}
    key: [machine]
    time: ts
sinks:
  table: {{ from: readings, postgres: {{ url: '{url}', key: [machine, ts] }} }}
serve: {{ listen: 127.0.0.1:0 }}
"
    );
    let options = PlanOptions {
        checking: false,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: folder.join("cache"),
    };
    let path = folder.join("outage.yaml");
    let checked = check_text(&path, &text, &Kinds::all(), &ProcessEnvironment, &options);
    match checked.plan {
        Some(plan) => Ok(plan),
        None => bail!("{}", checked.diagnostics.render(RenderStyle::PLAIN)),
    }
}

fn options(plan: &Plan, folder: &Path, stop: &Arc<AtomicBool>, written: &Arc<Written>) -> Options {
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: folder.join("data"),
        snapshot_interval: plan.snapshot_interval,
        snapshots_kept: plan.snapshots_kept,
        journal_limit_bytes: plan.journal_limit_bytes,
        journal_keep_ns: 0,
        journal_segment_bytes: 16 << 20,
        identity: plan.identity(),
        on_change: OnChange::Fresh,
        bounded: false,
    };
    Options {
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        run: RunId(1),
        durable: Some(Arc::new(durable)),
        stop: Arc::clone(stop),
        observer: Some(Arc::clone(written) as Arc<dyn Observer>),
        ..Options::default()
    }
}

fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = now();
    work()?;
    Ok(begun.elapsed())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn print(f: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(f)?);
        return Ok(());
    }
    let mib = |peak: Option<u64>| peak.map_or("?".to_owned(), |n| n.to_string());
    println!("outage, {} rows pushed in while the database was away", f.rows);
    println!(
        "  away       {:8.1} s {:12.0} rows/s into the journal, {} MiB",
        f.away_s, f.taken_rows_per_s, f.journal_mib
    );
    println!(
        "  caught up  {:8.1} s {:12.0} rows/s, with {} rows/s still coming",
        f.caught_up_s, f.caught_up_rows_per_s, f.live_rows_per_s
    );
    println!("  ratio      {:8.2}", f.ratio);
    println!(
        "  peak memory {} MiB while away, {} MiB in all",
        mib(f.peak_away_mib),
        mib(f.peak_mib)
    );
    Ok(())
}
