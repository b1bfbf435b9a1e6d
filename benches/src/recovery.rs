//! Recovery: how long it takes from starting a pipeline that died to its first commit behind what it had.
//!
//! 10,000 machines with three smoothed sensors and the open windows of each in the snapshot; behind it so many rows that
//! their text is 100 MB. Once the journal holds that text (a source that cannot send again), once only which bytes of a
//! file belong to which epoch. The sink commits every epoch and has all but the last, so all of it is computed again
//! before there is something to commit.
//!
//! Beside it, in the same run: reading and decoding the same rows in one loop, without an engine. `ratio` is the time of
//! the restart over that. Neither counts starting the process.

mod pipeline;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::generate::{self, Fleet};
use pipeline::{Kind, Place};

/// Rows to replay: 52 bytes each.
pub(crate) const ROWS: u64 = 2_000_000;
/// Machines, and milliseconds between two readings of each.
const FLEET: Fleet = Fleet { machines: 10_000, step_ms: 1_000 };
/// Rows before the snapshot, 50 of each machine.
const ROWS_BEFORE: u64 = 500_000;
/// Rows behind those that are replayed: what is on its way when the run dies, and what the next one goes on with.
const ROWS_BEHIND: u64 = 2_000_000;

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    machines: u64,
    /// Rows between the snapshot and the first commit.
    rows: u64,
    rounds: u32,
    workers: usize,
    /// The same rows, read and decoded in one loop.
    decode_s: f64,
    /// The journal holds the rows.
    payload: Restart,
    /// The journal says where they are.
    range: Restart,
    /// That of `payload`.
    ratio: f64,
}

/// A restart.
#[derive(Debug, Serialize)]
struct Restart {
    journal_bytes: u64,
    snapshot_bytes: u64,
    /// To the first commit, the best and the worst of the rounds.
    first_commit_s: f64,
    worst_s: f64,
    /// Its time over that of decoding.
    ratio: f64,
}

pub(crate) fn run(rows: u64, rounds: u32, json: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
    let workers = std::thread::available_parallelism()?.get();
    let place = Place { folder: folder.path().to_owned(), workers };
    generate::write(&place.csv(), ROWS_BEFORE + rows + ROWS_BEHIND, FLEET)?;
    let decode = best(rounds, || pipeline::decode(&place, ROWS_BEFORE, rows))?.0;
    let payload = restart(&place, Kind::Payload, rows, rounds, decode)?;
    let range = restart(&place, Kind::Range, rows, rounds, decode)?;
    let figures = Figures {
        machines: FLEET.machines,
        rows,
        rounds,
        workers,
        decode_s: decode.as_secs_f64(),
        ratio: payload.ratio,
        payload,
        range,
    };
    print(&figures, json)
}

/// Lets a run die, and measures how the next one comes back.
fn restart(place: &Place, kind: Kind, rows: u64, rounds: u32, decode: Duration) -> Result<Restart> {
    let (dead, data) = (place.folder.join("dead"), place.folder.join("data"));
    let has = pipeline::live_and_die(place, kind, &dead, ROWS_BEFORE, rows)?;
    let (best, worst) = best(rounds, || {
        // Every round finds what the first one died with.
        copy(&dead, &data)?;
        let time = pipeline::first_commit(place, kind, &data, has)?;
        fs::remove_dir_all(&data)?;
        Ok(time)
    })?;
    let restart = Restart {
        journal_bytes: size(&dead.join("journal"))?,
        snapshot_bytes: size(&dead.join("snapshots"))?,
        first_commit_s: best.as_secs_f64(),
        worst_s: worst.as_secs_f64(),
        ratio: best.as_secs_f64() / decode.as_secs_f64(),
    };
    fs::remove_dir_all(&dead)?;
    Ok(restart)
}

/// The shortest and the longest of so many rounds.
fn best(rounds: u32, mut round: impl FnMut() -> Result<Duration>) -> Result<(Duration, Duration)> {
    let (mut best, mut worst) = (Duration::MAX, Duration::ZERO);
    for _ in 0..rounds.max(1) {
        let time = round()?;
        (best, worst) = (best.min(time), worst.max(time));
    }
    Ok((best, worst))
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    ensure!(bytes > 0, "'{}' holds nothing", folder.display());
    Ok(bytes)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn print(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    let Figures { machines, rows, rounds, workers, .. } = figures;
    println!(
        "recovery, {machines} machines, {rows} rows to replay, {workers} workers, best of {rounds}"
    );
    println!("  decoding alone        {:8.3} s", figures.decode_s);
    for (what, restart) in [("rows", &figures.payload), ("ranges", &figures.range)] {
        println!(
            "  a journal of {what:8} {:8.3} s to the first commit, {:.2} times decoding (worst {:.3} s; journal {:.1} \
             MB, snapshot {:.1} MB)",
            restart.first_commit_s,
            restart.ratio,
            restart.worst_s,
            restart.journal_bytes as f64 / 1e6,
            restart.snapshot_bytes as f64 / 1e6,
        );
    }
    Ok(())
}
