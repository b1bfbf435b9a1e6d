//! W1: 10 M rows of CSV, 1,000 machines; EMA of three sensors; tumbling windows of 10 s; eight features of each
//! smoothed sensor; a linear score in the sandbox; one row a window to Parquet.
//!
//! Beside it, in the same run, the same job by hand ([`floor`]): one thread, no Parquet. `ratio` is our time on one
//! worker over the floor's. Scaling compares two workers with two floors at once, since two virtual cores may share
//! one piece of hardware.

mod floor;
mod pipeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::generate::{self, Fleet};
use crate::{cpu, memory};

/// Rows of input.
pub(crate) const ROWS: u64 = 10_000_000;
/// 1,000 machines, ten readings a second of each.
pub(crate) const FLEET: Fleet = Fleet { machines: 1_000, step_ms: 100 };

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
    /// Its time over that of one worker without, which ran right before or after it: the median of the rounds.
    kept_ratio: f64,
    /// That of every round.
    kept_ratios: Vec<f64>,
    /// The same of the processor's time instead of the clock's, which other programs on the machine disturb less; it also
    /// counts what a second core does beside.
    kept_cpu_ratio: Option<f64>,
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
    generate::write(&csv, rows, FLEET)?;
    generate::write(&tenth, rows / 10, FLEET)?;
    let weights = pipeline::write_weights(folder.path())?;
    // Once for the caches: of the disk, and of the compiled plugin.
    pipeline::agrees(folder.path(), &tenth, floor::run(&tenth, &weights)?)?;
    memory::forget_peak();
    pipeline::run(folder.path(), &tenth, 1)?;
    let peak_mib_tenth = memory::peak_mib();
    let mut peak_mib = None;
    let (mut floor_best, mut two_best) = (Duration::MAX, Duration::MAX);
    let (mut one_best, mut both_best) = (Duration::MAX, Duration::MAX);
    let (mut kept_best, mut kept_ratios, mut cpu_ratios) = (Duration::MAX, vec![], vec![]);
    let mut stages = BTreeMap::new();
    let data = folder.path().join("data");
    let kept = || cpu::of(|| timed(|| pipeline::run_kept(folder.path(), &csv, &data)));
    for round in 0..rounds.max(1) {
        let (time, found) = timed(|| floor::run(&csv, &weights))?;
        floor_best = floor_best.min(time);
        two_best = two_best.min(timed(|| two_floors(&csv, &weights))?.0);
        // Now the one first and now the other, so that a machine that becomes slower or faster favours neither.
        let kept_first = if round % 2 == 1 { Some(kept()?) } else { None };
        memory::forget_peak();
        let ((time, report), cpu) = cpu::of(|| timed(|| pipeline::run(folder.path(), &csv, 1)))?;
        peak_mib = memory::peak_mib();
        let ((kept_time, _), kept_cpu) = kept_first.map_or_else(kept, Ok)?;
        kept_best = kept_best.min(kept_time);
        kept_ratios.push(ratio(kept_time, time));
        cpu_ratios.extend(kept_cpu.zip(cpu).map(|(kept, alone)| kept as f64 / alone as f64));
        if time < one_best {
            one_best = time;
            stages = report.busy.iter().map(|(s, t)| (s.clone(), t.as_secs_f64())).collect();
        }
        ensure!(found.rows == rows, "the floor read {} rows of {rows}", found.rows);
        let read = report.accounts["readings"].input;
        ensure!(read == rows, "the engine read {read} rows of {rows}");
        both_best = both_best.min(timed(|| pipeline::run(folder.path(), &csv, 2))?.0);
    }
    let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
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
        kept_ratio: median(&kept_ratios),
        kept_ratios,
        kept_cpu_ratio: (!cpu_ratios.is_empty()).then(|| median(&cpu_ratios)),
        two_workers_s: both_best.as_secs_f64(),
        two_workers_rows_per_s: per_second(both_best),
        scaling: ratio(one_best, both_best),
        stages,
        peak_mib,
        peak_mib_tenth,
    };
    print(&figures, json)
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// The one in the middle; of an even number, the smaller of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
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
        "  journal and snapshots {:8.3} s              {:.2} times one worker without (median; {})",
        figures.kept_s,
        figures.kept_ratio,
        figures.kept_ratios.iter().map(|r| format!("{r:.2}")).collect::<Vec<_>>().join(" ")
    );
    if let Some(cpu) = figures.kept_cpu_ratio {
        println!("    processor's time    {cpu:8.2} times that without (median)");
    }
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
