//! Kills the real command again and again while it works, and looks at what is there afterwards.
//!
//! A pipeline smooths and counts readings of some machines and writes both to Parquet. The process is ended by SIGKILL
//! at random instants, or by its own hand at a named place, with another number of workers each time, and is started
//! again until it has come to its end. After every death and at the end, every reading must be there at most once; at
//! the end exactly once, and both streams must have the bits of a run that was left alone.

pub mod broker;
pub mod database;
mod deaths;
pub mod s3;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array as _, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

/// Places at which a build for debugging can end itself, and the how manieth time a run surely comes there: one that is
/// told to die later comes to its end, which takes long and shows little.
pub const PLACES: &[(&str, usize)] = &[
    ("before state written", 1),
    ("state written", 1),
    ("before journal append", 6),
    ("journal appended", 6),
    ("journal synced", 6),
    ("before journal trim", 3),
    ("journal trimmed", 3),
    ("epoch replayed", 2),
    ("epoch dispatched", 6),
    ("parquet taken over", 1),
    ("parquet files written", 3),
    ("before sink commit", 6),
    ("after sink commit", 6),
    ("before snapshot write", 3),
    ("snapshot written", 3),
    ("snapshot manifest written", 3),
    ("snapshot manifest renamed", 3),
    ("snapshot published", 3),
];

/// How many machines there are.
const MACHINES: u64 = 12;
/// Seconds of a window.
const WINDOW_S: i64 = 10;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command.
    pub command: PathBuf,
    /// At least so many deaths.
    pub kills: u64,
    /// At least so long; [`broker`] and [`s3`] do one round, however long it takes.
    pub time: Duration,
    /// Readings of a round.
    pub rows: u64,
    /// Another seed is another sequence of deaths, as far as the machine allows.
    pub seed: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// How often the process died.
    pub kills: u64,
    /// How often at each named place, also at those where it never did.
    pub places: BTreeMap<&'static str, u64>,
    /// What else befell it meanwhile, and how often: the broker, the store, the network.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rounds that came to their end.
    pub rounds: u64,
    /// How often the result was read while a run was at work on it.
    pub looks: u64,
    /// Readings that were to be in the result.
    pub acknowledged: u64,
    /// Readings that were not.
    pub lost: u64,
    /// Readings that were there more than once.
    pub duplicated: u64,
    /// Rows that differ from those of a run that was left alone.
    pub different: u64,
    /// Where readings are missing, as far as it is told.
    pub missing: Vec<String>,
}

/// Rounds of deaths until there were enough.
///
/// # Errors
/// When the command fails otherwise than by being killed, or what it left cannot be read.
pub fn torture(options: &Options) -> Result<Outcome> {
    let begun = now();
    let folder = tempfile::tempdir().context("a folder to work in")?;
    let mut dice = Dice(options.seed);
    let expected = write_input(folder.path(), options.rows)?;
    let alone = folder.path().join("alone");
    prepare(&alone, folder.path())?;
    let status = start(&options.command, &alone, 2, None)?.wait()?;
    ensure!(status.success(), "the run that was left alone ended with {status}");
    let quiet = read_result(&alone)?;
    check(&quiet, &expected, true, &mut Outcome::default())?;
    let places = PLACES.iter().map(|(place, _)| (*place, 0)).collect();
    let mut outcome = Outcome { places, ..Outcome::default() };
    while outcome.kills < options.kills || begun.elapsed() < options.time {
        let place = folder.path().join(format!("round-{}", outcome.rounds));
        prepare(&place, folder.path())?;
        live_through(options, &place, &expected, &mut dice, &mut outcome)?;
        let result = read_result(&place)?;
        outcome.acknowledged += expected.len() as u64;
        check(&result, &expected, true, &mut outcome)?;
        outcome.different += differences(&result, &quiet);
        outcome.rounds += 1;
        fs::remove_dir_all(&place)?;
    }
    Ok(outcome)
}

/// Starts the command again and again until it comes to its end.
fn live_through(
    options: &Options,
    folder: &Path,
    expected: &BTreeSet<Reading>,
    dice: &mut Dice,
    outcome: &mut Outcome,
) -> Result<()> {
    // In some rounds it dies five times before it has got anywhere: recovery must itself survive its end.
    let hasty = if dice.below(4) == 0 { 5 } else { 0 };
    for attempt in 0.. {
        ensure!(attempt < 500, "the run does not come to its end in '{}'", folder.display());
        let workers = [1, 2, 4][dice.below(3)];
        let named = dice.below(3) > 0;
        let (place, often) = next_place(dice, &outcome.places);
        let nth = 1 + dice.below(if attempt < hasty { 1 } else { often });
        let at = named.then(|| format!("{place}:{nth}"));
        let mut child = start(&options.command, folder, workers, at.as_deref())?;
        let status = if named {
            child.wait()?
        } else {
            let most = if attempt < hasty { 60 } else { 900 };
            let (begun, time) = (now(), Duration::from_millis(20 + dice.below(most) as u64));
            // Somebody reads meanwhile: every file that a manifest lists is there and whole, and nothing is there twice.
            while begun.elapsed() < time {
                check(&read_result(folder)?, expected, false, outcome)?;
                outcome.looks += 1;
                wait(Duration::from_millis(5));
            }
            // It may be done by then.
            child.kill().ok();
            child.wait()?
        };
        if status.success() {
            return Ok(());
        }
        if let Some(code) = status.code() {
            bail!("the command ended with {code} in '{}':\n{}", folder.display(), said(folder));
        }
        outcome.kills += 1;
        if named {
            *outcome.places.entry(place).or_default() += 1;
        }
        // A reader that comes now sees whole epochs, and nothing twice.
        check(&read_result(folder)?, expected, false, outcome)?;
        if has_finished(folder) {
            // It died between its last word on disk and its end; another run would begin anew.
            return Ok(());
        }
    }
    Ok(())
}

/// Whether the computation has come to its end, as its data directory says.
fn has_finished(folder: &Path) -> bool {
    let state = fs::read(folder.join(".foreline/torture/state.json")).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
    state["finished"] == true
}

/// The one of two places at which it died less often, so that all come to about as many deaths. Always the rarest would
/// be a place that is never come to, once there is one.
fn next_place(dice: &mut Dice, deaths: &BTreeMap<&'static str, u64>) -> (&'static str, usize) {
    let [one, other] = [(); 2].map(|()| PLACES[dice.below(PLACES.len())]);
    if deaths.get(one.0) <= deaths.get(other.0) { one } else { other }
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("stderr")).unwrap_or_default()
}

fn start(command: &Path, folder: &Path, workers: usize, at: Option<&str>) -> Result<Child> {
    start_with(command, folder, workers, at, &[])
}

fn start_with(
    command: &Path,
    folder: &Path,
    workers: usize,
    at: Option<&str>,
    variables: &[(&str, &str)],
) -> Result<Child> {
    let mut child = Command::new(command);
    child.envs(variables.iter().copied());
    child.args(["run", "--quiet", "--workers", &workers.to_string()]).arg(folder.join("pump.yaml"));
    if let Some(at) = at {
        child.env("FORELINE_CRASH_AT", at);
    }
    child
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("stderr"))?)
        .spawn()
        .with_context(|| format!("start '{}'", command.display()))
}

/// The pipeline file of a round.
fn prepare(folder: &Path, data: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let text = format!(
        "version: 1
name: torture
sources:
  readings:
    csv: {{ path: '{}/in/*.csv', order: first_time }}
    columns: {{ ts: timestamp, machine: string, v: {{ type: float64, unit: mm/s }} }}
    key: [machine]
    time: ts
    lateness: 30s
    dedupe: [machine, ts]
steps:
  smooth: {{ from: readings, ema: {{ columns: [v], half_life: 5s }} }}
  counts: {{ from: smooth, window: {{ tumbling: {WINDOW_S}s, features: {{ v: [count, mean, std, slope] }} }} }}
sinks:
  lake: {{ from: [smooth, counts], parquet: {{ path: lake }} }}
epoch: {{ rows: 700 }}
snapshot: {{ interval: 40ms, keep: 2 }}
",
        data.display()
    );
    fs::write(folder.join("pump.yaml"), text)?;
    Ok(())
}

/// A reading: machine and time.
pub(crate) type Reading = (String, i64);

/// Writes the input, some of it out of order, repeated or unreadable; the readings that must come through.
fn write_input(folder: &Path, rows: u64) -> Result<BTreeSet<Reading>> {
    let folder = folder.join("in");
    fs::create_dir_all(&folder)?;
    let mut dice = Dice(7);
    let (mut expected, mut lines) = (BTreeSet::new(), Vec::new());
    for row in 0..rows {
        let (machine, second) = (row % MACHINES, row / MACHINES);
        let name = format!("P-{machine:02}");
        let stamp =
            format!("2026-03-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
        let line = format!("{stamp},{name},{}.{:03}", 1 + dice.below(9), dice.below(1000));
        if dice.below(60) == 0 {
            // The same reading once more, a little later.
            lines.push((row + 20, line.clone()));
        }
        if dice.below(500) == 0 {
            lines.push((row, format!("{stamp},{name}")));
        }
        let swapped = if dice.below(10) == 0 { row + dice.below(40) as u64 } else { row };
        lines.push((swapped, line));
        let base = 1_772_323_200_i64;
        expected.insert((name, (base + i64::try_from(second)?) * 1_000_000_000));
    }
    lines.sort_by_key(|l| l.0);
    for (part, lines) in lines.chunks(lines.len() / 3 + 1).enumerate() {
        let mut text = String::from("ts,machine,v\n");
        for (_, line) in lines {
            writeln!(text, "{line}")?;
        }
        fs::write(folder.join(format!("{part}.csv")), text)?;
    }
    Ok(expected)
}

/// What lies in the sinks.
#[derive(Debug, Default)]
struct Found {
    /// The smoothed readings with the bits of their value.
    readings: Vec<(Reading, u64)>,
    /// By machine and end: how many readings, and the bits of the rest.
    windows: BTreeMap<Reading, (i64, Vec<u64>)>,
    /// Windows that were there before.
    repeated: u64,
}

fn read_result(folder: &Path) -> Result<Found> {
    let mut found = Found::default();
    for batch in rows(&folder.join("lake/smooth"))? {
        let values = floats(&batch, "v")?;
        for (row, key) in keys(&batch, "ts")?.into_iter().enumerate() {
            found.readings.push((key, values[row]));
        }
    }
    for batch in rows(&folder.join("lake/counts"))? {
        let columns = ["v_mean", "v_std", "v_slope"].map(|name| floats(&batch, name));
        let columns = columns.into_iter().collect::<Result<Vec<_>>>()?;
        let counts = batch.column_by_name("v_count").context("there is 'v_count'")?;
        let counts = cast(counts, &DataType::Int64)?;
        let counts = counts.as_primitive::<Int64Type>();
        for (row, key) in keys(&batch, "window_end")?.into_iter().enumerate() {
            let bits = columns.iter().map(|c| c[row]).collect();
            let before = found.windows.insert(key, (counts.value(row), bits));
            found.repeated += u64::from(before.is_some());
        }
    }
    Ok(found)
}

/// The rows that the manifest of a folder lists; none where nothing was committed yet.
pub(crate) fn rows(folder: &Path) -> Result<Vec<RecordBatch>> {
    let path = folder.join("_manifest.json");
    loop {
        let Ok(text) = fs::read(&path) else { return Ok(Vec::new()) };
        match listed_rows(folder, &text) {
            // Small files that became one meanwhile are gone, and a new manifest lists what they became.
            Err(_) if fs::read(&path).is_ok_and(|now| now != text) => {}
            read => return read,
        }
    }
}

fn listed_rows(folder: &Path, manifest: &[u8]) -> Result<Vec<RecordBatch>> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest)?;
    let mut batches = Vec::new();
    for entry in manifest["files"].as_array().context("a manifest lists files")? {
        let name = entry["name"].as_str().context("a file has a name")?;
        let file = File::open(folder.join(name)).with_context(|| format!("'{name}' is listed"))?;
        let before: usize = batches.iter().map(RecordBatch::num_rows).sum();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            batches.push(batch?);
        }
        let after: usize = batches.iter().map(RecordBatch::num_rows).sum();
        ensure!(
            entry["rows"] == (after - before),
            "'{name}' has as many rows as the manifest says"
        );
    }
    Ok(batches)
}

pub(crate) fn keys(batch: &RecordBatch, time: &str) -> Result<Vec<Reading>> {
    let machines = batch.column_by_name("machine").context("there is 'machine'")?;
    let machines = cast(machines, &DataType::Utf8)?;
    let machines = machines.as_string::<i32>();
    let times = batch.column_by_name(time).context("there is a time")?;
    let times = times.as_primitive::<TimestampNanosecondType>();
    Ok((0..batch.num_rows()).map(|r| (machines.value(r).to_owned(), times.value(r))).collect())
}

/// The bits of a column; those of no number for null.
fn floats(batch: &RecordBatch, name: &str) -> Result<Vec<u64>> {
    let column = batch.column_by_name(name).with_context(|| format!("there is '{name}'"))?;
    let column = column.as_primitive::<Float64Type>();
    let bits = |r: usize| if column.is_null(r) { u64::MAX } else { column.value(r).to_bits() };
    Ok((0..batch.num_rows()).map(bits).collect())
}

/// Counts what is lost or there twice. Where the run has not `ended`, what is missing may still come.
fn check(
    found: &Found,
    expected: &BTreeSet<Reading>,
    ended: bool,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (reading, _) in &found.readings {
        ensure!(expected.contains(reading), "{reading:?} was never written");
        outcome.duplicated += u64::from(!seen.insert(reading));
    }
    outcome.duplicated += found.repeated;
    if !ended {
        return whole_epochs(&seen, expected);
    }
    outcome.lost += (expected.len() - seen.len()) as u64;
    // The model, in one loop: how many readings each window has.
    let mut counts: BTreeMap<Reading, i64> = BTreeMap::new();
    let length = WINDOW_S * 1_000_000_000;
    for (machine, time) in expected {
        let end = time - time.rem_euclid(length) + length;
        *counts.entry((machine.clone(), end)).or_default() += 1;
    }
    for (window, count) in &counts {
        let there = found.windows.get(window).map_or(0, |w| w.0);
        outcome.lost += u64::try_from((count - there).max(0))?;
        outcome.duplicated += u64::try_from((there - count).max(0))?;
    }
    ensure!(found.windows.len() == counts.len(), "there are windows of nothing");
    Ok(())
}

/// Machines take turns in the input and an epoch has thousands of rows, so between epochs each machine shows as many readings
/// as any other, but for those that came out of turn. Half an epoch would be hundreds apart.
const APART_MAX: usize = 20;

/// Whether what is seen is what stood between two epochs: of each machine the first readings, and of all about as many.
fn whole_epochs(seen: &BTreeSet<&Reading>, expected: &BTreeSet<Reading>) -> Result<()> {
    let mut shown: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for reading in expected {
        let (count, gap) = shown.entry(&reading.0).or_default();
        let is_there = seen.contains(reading);
        ensure!(!(is_there && *gap), "{reading:?} is there and an earlier one is not");
        *count += usize::from(is_there);
        *gap |= !is_there;
    }
    let counts = || shown.values().map(|(count, _)| *count);
    let apart = counts().max().unwrap_or(0) - counts().min().unwrap_or(0);
    ensure!(apart <= APART_MAX, "an epoch is half there: machines are {apart} readings apart");
    Ok(())
}

/// How many rows differ in a bit from those of another run.
fn differences(one: &Found, other: &Found) -> u64 {
    let sorted = |found: &Found| {
        let mut readings = found.readings.clone();
        readings.sort();
        readings
    };
    let (a, b) = (sorted(one), sorted(other));
    let readings = a.iter().zip(&b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len());
    let windows = one.windows.iter().filter(|(key, w)| other.windows.get(*key) != Some(*w)).count();
    (readings + windows) as u64
}

/// SplitMix64, from a seed.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number from 0 to `n` - 1, where `n` is above 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (n as u64)).unwrap_or(0)
    }
}

pub(crate) fn wait(time: Duration) {
    let (_open, never) = std::sync::mpsc::channel::<()>();
    never.recv_timeout(time).ok();
}

#[expect(clippy::disallowed_methods, reason = "how long to go on is asked in minutes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
