//! W1: 10 M rows of CSV, 1,000 machines; EMA of three sensors; tumbling windows of 10 s; eight features of each
//! smoothed sensor; a linear score in the sandbox; one row a window to Parquet.
//!
//! Beside it, in the same run, the same job by hand ([`floor`]): one thread, no Parquet. `ratio` is our time on one
//! worker over the floor's. Scaling compares two workers with two floors at once, since two virtual cores may share
//! one piece of hardware.

mod floor;
mod generate;
mod pipeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::memory;

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    rows: u64,
    rounds: u32,
    floor_s: f64,
    floor_rows_per_s: f64,
    two_floors_scaling: f64,
    one_worker_s: f64,
    one_worker_rows_per_s: f64,
    ratio: f64,
    /// One worker with a journal and a snapshot every second.
    kept_s: f64,
    /// Its time over that of one worker without.
    kept_ratio: f64,
    two_workers_s: f64,
    two_workers_rows_per_s: f64,
    scaling: f64,
    /// Seconds of work by stage, on one worker.
    stages: BTreeMap<String, f64>,
    peak_mib: Option<u64>,
    peak_mib_tenth: Option<u64>,
}

pub(crate) fn run(rows: u64, rounds: u32, json: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
    let csv = folder.path().join("w1.csv");
    let tenth = folder.path().join("w1-tenth.csv");
    generate::write(&csv, rows)?;
    generate::write(&tenth, rows / 10)?;
    let weights = pipeline::write_weights(folder.path())?;
    // Once for the caches: of the disk, and of the compiled plugin.
    pipeline::agrees(folder.path(), &tenth, floor::run(&tenth, &weights)?)?;
    memory::forget_peak();
    pipeline::run(folder.path(), &tenth, 1)?;
    let peak_mib_tenth = memory::peak_mib();
    let mut peak_mib = None;
    let (mut floor_best, mut two_best) = (Duration::MAX, Duration::MAX);
    let (mut one_best, mut both_best) = (Duration::MAX, Duration::MAX);
    let mut kept_best = Duration::MAX;
    let mut stages = BTreeMap::new();
    for _ in 0..rounds.max(1) {
        let (time, found) = timed(|| floor::run(&csv, &weights))?;
        floor_best = floor_best.min(time);
        two_best = two_best.min(timed(|| two_floors(&csv, &weights))?.0);
        memory::forget_peak();
        let (time, report) = timed(|| pipeline::run(folder.path(), &csv, 1))?;
        peak_mib = memory::peak_mib();
        if time < one_best {
            one_best = time;
            stages = report.busy.iter().map(|(s, t)| (s.clone(), t.as_secs_f64())).collect();
        }
        ensure!(found.rows == rows, "the floor read {} rows of {rows}", found.rows);
        let read = report.accounts["readings"].input;
        ensure!(read == rows, "the engine read {read} rows of {rows}");
        let data = folder.path().join("data");
        kept_best = kept_best.min(timed(|| pipeline::run_kept(folder.path(), &csv, &data))?.0);
        both_best = both_best.min(timed(|| pipeline::run(folder.path(), &csv, 2))?.0);
    }
    let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let figures = Figures {
        rows,
        rounds,
        floor_s: floor_best.as_secs_f64(),
        floor_rows_per_s: per_second(floor_best),
        two_floors_scaling: 2.0 * ratio(floor_best, two_best),
        one_worker_s: one_best.as_secs_f64(),
        one_worker_rows_per_s: per_second(one_best),
        ratio: ratio(one_best, floor_best),
        kept_s: kept_best.as_secs_f64(),
        kept_ratio: ratio(kept_best, one_best),
        two_workers_s: both_best.as_secs_f64(),
        two_workers_rows_per_s: per_second(both_best),
        scaling: ratio(one_best, both_best),
        stages,
        peak_mib,
        peak_mib_tenth,
    };
    print(&figures, json)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begun = Instant::now();
    let done = work()?;
    Ok((begun.elapsed(), done))
}

/// Two floors at once, each over the whole file: how much two threads are worth on this machine.
fn two_floors(csv: &Path, weights: &[f64]) -> Result<()> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| floor::run(csv, weights));
        floor::run(csv, weights)?;
        other.join().map_err(|_| anyhow::anyhow!("the second floor panicked"))??;
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn print(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    println!("W1, {} rows, best of {}", figures.rows, figures.rounds);
    println!(
        "  by hand, one thread   {:8.3} s {:12.0} rows/s",
        figures.floor_s, figures.floor_rows_per_s
    );
    println!(
        "  one worker            {:8.3} s {:12.0} rows/s",
        figures.one_worker_s, figures.one_worker_rows_per_s
    );
    println!(
        "  two workers           {:8.3} s {:12.0} rows/s",
        figures.two_workers_s, figures.two_workers_rows_per_s
    );
    println!("  ratio to by hand      {:8.2}", figures.ratio);
    println!(
        "  journal and snapshots {:8.3} s              {:.2} times one worker without",
        figures.kept_s, figures.kept_ratio
    );
    println!(
        "  scaling to two        {:8.2}   (two by hand at once: {:.2})",
        figures.scaling, figures.two_floors_scaling
    );
    if let (Some(all), Some(tenth)) = (figures.peak_mib, figures.peak_mib_tenth) {
        println!("  peak memory           {all:8} MiB (with a tenth of the rows: {tenth} MiB)");
    }
    println!("  where the time goes, one worker, seconds of work");
    let total: f64 = figures.stages.values().sum();
    for (stage, seconds) in &figures.stages {
        println!("    {stage:24} {seconds:8.3} {:5.1} %", 100.0 * seconds / total);
    }
    Ok(())
}
