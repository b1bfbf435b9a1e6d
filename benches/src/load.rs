//! `load`: a CSV of vibration readings, two in a hundred of them repeated, into a table of PostgreSQL that holds each once.
//!
//! Ours is a pipeline as a user would write it: CSV, `dedupe`, the sink `postgres`, with journal and snapshots. Beside it, in
//! the same run on the same server, what a person would do by hand with `psql`: `COPY` the file into a staging table,
//! then `INSERT .. ON CONFLICT DO NOTHING` into the table. Both tables are compared row by row at the end. `ratio` is
//! our time over psql's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foreline_engine::{Durable, OnChange, Options, RealDisk, RunId};
use foreline_servers::Postgres;
use foreline_spec::{Kinds, PlanOptions, ProcessEnvironment, RenderStyle, check_text};
use serde::Serialize;

use crate::memory;

/// Machines that take turns.
const MACHINES: u64 = 1_000;
/// One reading in so many is there once more.
const REPEATED: u64 = 50;
/// How many rows later it is repeated; less than the lateness covers.
const LATER: u64 = 3 * MACHINES;
/// 2026-03-01T00:00:00Z.
const START_S: u64 = 1_772_323_200;

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    rows: u64,
    distinct: u64,
    rounds: u32,
    psql_s: f64,
    psql_rows_per_s: f64,
    ours_s: f64,
    ours_rows_per_s: f64,
    ratio: f64,
    peak_mib: Option<u64>,
}

/// Rows unless it is told otherwise: as many as the vibration readings of a plant that was looked at.
pub(crate) const ROWS: u64 = 1_500_000;

pub(crate) fn run(rows: u64, rounds: u32, json: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
    let csv = folder.path().join("vibration.csv");
    let distinct = generate(&csv, rows)?;
    // As somebody sets up a database that is loaded into; it does wait for the disk.
    let db = Postgres::start_with(&[
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("checkpoint_timeout", "30min"),
    ])?;
    let (mut psql, mut ours) = (Duration::MAX, Duration::MAX);
    let mut peak_mib = None;
    for round in 0..rounds.max(1) {
        db.sql("drop table if exists by_hand, readings, foreline_commit; checkpoint")?;
        psql = psql.min(timed(|| by_hand(&db, &csv))?);
        db.sql("checkpoint")?;
        memory::forget_peak();
        let data = folder.path().join(format!("data-{round}"));
        ours = ours.min(timed(|| by_pipeline(&db, folder.path(), &csv, &data))?);
        peak_mib = memory::peak_mib().max(peak_mib);
        compare(&db, distinct)?;
    }
    let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
    print(
        &Figures {
            rows,
            distinct,
            rounds,
            psql_s: psql.as_secs_f64(),
            psql_rows_per_s: per_second(psql),
            ours_s: ours.as_secs_f64(),
            ours_rows_per_s: per_second(ours),
            ratio: ours.as_secs_f64() / psql.as_secs_f64(),
            peak_mib,
        },
        json,
    )
}

/// Writes `rows` readings; how many of them are distinct.
fn generate(csv: &Path, rows: u64) -> Result<u64> {
    let mut out = BufWriter::new(File::create(csv)?);
    writeln!(out, "ts,machine,vibration,temperature,speed_rpm")?;
    let mut line = String::new();
    let mut repeated: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut written, mut reading) = (0, 0);
    while written < rows {
        let next = match repeated.first_entry().filter(|first| *first.key() <= written) {
            Some(due) => due.remove(),
            None => {
                reading += 1;
                if reading % REPEATED == 0 {
                    repeated.insert(written + LATER, reading - 1);
                }
                reading - 1
            }
        };
        line.clear();
        let second = START_S % 86_400 + next / MACHINES;
        let (day, second) = (1 + second / 86_400, second % 86_400);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        // Digits that look like a sensor's and are the same each time.
        let noise = next.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        writeln!(
            line,
            "2026-03-{day:02}T{h:02}:{m:02}:{s:02}Z,P-{:04},{}.{:03},{}.{:02},{}",
            next % MACHINES,
            1 + noise % 9,
            noise % 997,
            40 + noise % 31,
            noise % 89,
            1400 + noise % 200
        )?;
        out.write_all(line.as_bytes())?;
        written += 1;
    }
    out.flush()?;
    Ok(reading)
}

/// What a person would do with `psql`.
fn by_hand(db: &Postgres, csv: &Path) -> Result<()> {
    let columns =
        "ts timestamptz, machine text, vibration float8, temperature float8, speed_rpm float8";
    let copy = format!("\\copy staging from '{}' (format csv, header)", csv.display());
    let mut psql = db.psql(&db.url());
    psql.args(["-c", &format!("create table by_hand ({columns}, primary key (machine, ts))")]);
    psql.args(["-c", &format!("create temporary table staging ({columns})"), "-c", &copy]);
    psql.args(["-c", "insert into by_hand select * from staging on conflict do nothing"]);
    let output = psql.output().context("psql cannot be started")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The same as a pipeline.
fn by_pipeline(db: &Postgres, folder: &Path, csv: &Path, data: &Path) -> Result<()> {
    let text = format!(
        "version: 1
sources:
  readings:
    csv: {{ path: '{}' }}
    columns: {{ ts: timestamp, machine: string, vibration: float64, temperature: float64, speed_rpm: float64 }}
    key: [machine]
    time: ts
    lateness: 10s
    dedupe: [machine, ts]
sinks:
  table: {{ from: readings, postgres: {{ url: '{}', key: [machine, ts] }} }}
",
        csv.display(),
        db.url()
    );
    let options = PlanOptions {
        checking: false,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: folder.join("cache"),
    };
    let path = folder.join("load.yaml");
    let checked = check_text(&path, &text, &Kinds::all(), &ProcessEnvironment, &options);
    let Some(plan) = checked.plan else {
        bail!("{}", checked.diagnostics.render(RenderStyle::PLAIN));
    };
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: data.to_owned(),
        snapshot_interval: plan.snapshot_interval,
        snapshots_kept: plan.snapshots_kept,
        journal_limit_bytes: plan.journal_limit_bytes,
        journal_keep_ns: 0,
        journal_segment_bytes: 16 << 20,
        identity: plan.identity(),
        on_change: OnChange::Fresh,
        bounded: true,
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let options =
        Options { workers, run: RunId(1), durable: Some(Arc::new(durable)), ..Options::default() };
    foreline_engine::run(plan.graph(Vec::new()).context("the graph")?, &options)?;
    Ok(())
}

/// That both did the same job.
fn compare(db: &Postgres, distinct: u64) -> Result<()> {
    let columns = "machine, ts, vibration, temperature, speed_rpm";
    let count = db.sql("select count(*) from readings")?;
    ensure!(count == distinct.to_string(), "{count} rows instead of {distinct}");
    let [ours, theirs] = ["readings", "by_hand"].map(|t| format!("select {columns} from {t}"));
    let differences = db.sql(&format!(
        "select count(*) from (({ours} except {theirs}) union all ({theirs} except {ours})) d"
    ))?;
    ensure!(differences == "0", "{differences} rows differ from those of psql");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn print(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    let Figures { rows, distinct, rounds, psql_s, ours_s, ratio, .. } = figures;
    println!("load, {rows} rows, {distinct} distinct, best of {rounds}");
    println!("  psql       {psql_s:8.3} s {:12.0} rows/s", figures.psql_rows_per_s);
    println!("  foreline   {ours_s:8.3} s {:12.0} rows/s", figures.ours_rows_per_s);
    println!("  ratio      {ratio:8.2}");
    if let Some(peak) = figures.peak_mib {
        println!("  peak memory {peak:7} MiB");
    }
    Ok(())
}
