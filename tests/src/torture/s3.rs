//! The same between two prefixes of an S3 server: objects that keep arriving, a network on which anything goes wrong
//! now and then, and a command that dies.
//!
//! Every row of every object must be in the sink once, and every line that cannot be read among the dead letters once.
//! Each object has a machine of its own and nothing is deduplicated, so one that is read twice shows as rows that are
//! there twice, or late: no row may be late. Keys sort in no order of time. At the end the command is told to stop, and
//! the run after that must find nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foreline_servers::{ACCESS_KEY, FaultyWay, S3Server, SECRET_KEY};

use super::deaths::{Deaths, await_that, duplicates, stop};
use super::{Dice, Options, Outcome, PLACES, Reading, keys, rows, said, start, wait};

/// Places that only a sink in a bucket comes to, or only one behind which something was left.
const BUCKET_PLACES: &[(&str, usize)] = &[("manifest put", 4), ("leftover removed", 1)];
/// The time between two objects.
const PAUSE: Duration = Duration::from_millis(200);
/// Fewest rows of an object, and how many more it may have.
const ROWS: (usize, usize) = (20, 380);
/// Every so manieth object is so large that it is read in several ranges of two megabytes.
const LARGE_EVERY: u64 = 300;
/// Which of them that is.
const LARGE_AT: u64 = 37;
/// Rows of a large object.
const LARGE_ROWS: usize = 66_000;
/// Every so manieth object has a line that cannot be read.
const DEAD_EVERY: u64 = 5;
/// Something goes wrong with one request in so many.
const FAULT_ONE_IN: u64 = 25;
/// Between so many deaths the whole sink is read, which takes long.
const LOOK_EVERY: u64 = 8;
/// Where time begins.
const BASE_S: i64 = 1_772_323_200;
/// The row that moves a machine's watermark behind all others.
const LATER: &str = "2027-03-01T00:00:00Z";

/// What was put.
#[derive(Debug, Default)]
struct Put {
    /// Rows of each machine, one a second.
    rows: BTreeMap<String, usize>,
    /// Lines that cannot be read.
    dead: u64,
}

impl Put {
    fn n_rows(&self) -> u64 {
        self.rows.values().map(|n| *n as u64).sum()
    }
}

/// The server, the way to it and what they are used by.
struct Place {
    server: S3Server,
    way: FaultyWay,
    folder: PathBuf,
}

/// One round: objects are put while the command is killed and started again.
///
/// # Errors
/// When the server or the command fails otherwise than by being killed.
pub fn torture_s3(options: &Options) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("a folder to work in")?;
    let server = S3Server::start(&["plant"])?;
    let way = FaultyWay::start(server.port())?;
    way.by_chance(options.seed, FAULT_ONE_IN);
    fs::write(folder.path().join("pump.yaml"), pipeline(way.port()))?;
    let place = Place { server, way, folder: folder.path().to_owned() };
    let mut outcome = Outcome::default();
    let all_put = AtomicBool::new(false);
    let put = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let put = write_objects(&place.server, options);
            all_put.store(true, Ordering::Release);
            put
        });
        let died = place.kill_until(&all_put, options, &mut outcome);
        let put = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        died.and(put)
    })?;
    outcome.rounds = 1;
    outcome.acknowledged = put.n_rows();
    place.finish(options, &put, &mut outcome)?;
    outcome.faults.insert("a request went wrong", place.way.n_faults());
    Ok(outcome)
}

fn pipeline(port: u16) -> String {
    let store = format!(
        "endpoint: 'http://127.0.0.1:{port}', allow_http: true, timeout: 3s, \
         access_key_id: {ACCESS_KEY}, secret_access_key: {SECRET_KEY}"
    );
    format!(
        "version: 1
name: torture
sources:
  readings:
    s3: {{ url: 's3://plant/raw/', format: csv, poll: 300ms, parallel: 4, {store} }}
    columns: {{ ts: timestamp, machine: string, v: float64 }}
    key: [machine]
    time: ts
sinks:
  lake:
    from: [readings, late, dead_letters]
    parquet: {{ path: 's3://plant/lake', file_rows: 1000, s3: {{ {store} }} }}
epoch: {{ rows: 500, interval: 20ms }}
snapshot: {{ interval: 40ms, keep: 2 }}
"
    )
}

/// Puts objects one after the other until they have enough rows; what they have.
fn write_objects(server: &S3Server, options: &Options) -> Result<Put> {
    let mut dice = Dice(options.seed ^ 0x5eed);
    let mut put = Put::default();
    for i in 0.. {
        if put.n_rows() >= options.rows {
            break;
        }
        let machine = format!("P-{i:05}");
        let is_large = i % LARGE_EVERY == LARGE_AT;
        let n_rows = if is_large { LARGE_ROWS } else { ROWS.0 + dice.below(ROWS.1) };
        let mut text = String::from("ts,machine,v\n");
        for row in 0..n_rows {
            let (hour, minute, second) = (row / 3600, row / 60 % 60, row % 60);
            let value = row % 89;
            writeln!(text, "2026-03-01T{hour:02}:{minute:02}:{second:02}Z,{machine},{value}.5")?;
        }
        if i % DEAD_EVERY == 0 {
            text.push_str("no time at all\n");
            put.dead += 1;
        }
        // What comes first in the key is by chance, so most objects sort before some that were read.
        server.put("plant", &format!("raw/{:04x}-{i}.csv", dice.below(65_536)), text.as_bytes())?;
        put.rows.insert(machine, n_rows);
        wait(PAUSE);
    }
    Ok(put)
}

impl Place {
    fn kill_until(
        &self,
        all_put: &AtomicBool,
        options: &Options,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let places = [PLACES, BUCKET_PLACES].concat();
        let deaths = Deaths {
            options,
            folder: &self.folder,
            places: &places,
            most_ms: 2_000,
            named_ms: 8_000,
        };
        let done = || all_put.load(Ordering::Acquire);
        deaths.until(done, outcome, |outcome| {
            if outcome.kills % LOOK_EVERY == 0 {
                duplicates(&self.rows()?, outcome);
                outcome.looks += 1;
            }
            Ok(())
        })
    }

    /// Lets everything come through, has the command stop, and looks at what is there.
    fn finish(&self, options: &Options, put: &Put, outcome: &mut Outcome) -> Result<()> {
        self.way.heal();
        let mut last = String::from("ts,machine,v\n");
        for machine in put.rows.keys() {
            writeln!(last, "{LATER},{machine},0")?;
        }
        self.server.put("plant", "raw/last.csv", last.as_bytes())?;
        let child = start(&options.command, &self.folder, 2, None)?;
        // What does not come in all that time is lost, and counted below.
        let all = await_that("all rows", || {
            let enough = self.listed("readings")? >= put.n_rows();
            Ok(enough && self.missing(put, &self.rows()?)?.is_empty())
        });
        stop(child, &self.folder)?;
        self.count(put, outcome)?;
        if let Err(late) = &all {
            let may_be = "what follows may have been on its way still";
            outcome.missing.insert(0, format!("{late:#}: {may_be}"));
        }
        ensure!(all.is_ok() == (outcome.lost == 0), "rows came only when the command stopped");
        let before = self.sorted()?;
        let child = start(&options.command, &self.folder, 2, None)?;
        let listings = || self.way.asked("list-type").len();
        let n_before = listings();
        // Listings of the sink among them: after so many the source has compared at least one with what it knows.
        await_that("a few listings", || Ok(listings() >= n_before + 6))?;
        stop(child, &self.folder)?;
        duplicates(&self.rows()?, outcome);
        ensure!(self.sorted()? == before, "a run after a clean end found something to do");
        Ok(())
    }

    /// Counts what is lost, there twice, or late.
    fn count(&self, put: &Put, outcome: &mut Outcome) -> Result<()> {
        let found = self.rows()?;
        duplicates(&found, outcome);
        for (what, n) in self.missing(put, &found)? {
            outcome.lost += n;
            outcome.missing.push(format!("{n} of {what}"));
        }
        let dead = self.listed("dead_letters")?;
        outcome.duplicated += dead.saturating_sub(put.dead) + self.listed("late")?;
        ensure!(!said(&self.folder).contains(SECRET_KEY), "the secret key was printed");
        Ok(())
    }

    /// What is not there, and how many rows of it.
    fn missing(&self, put: &Put, found: &[Reading]) -> Result<Vec<(String, u64)>> {
        let mut there: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (machine, time) in found {
            ensure!(put.rows.contains_key(machine), "nobody put {machine}");
            there.entry(machine).or_default().insert(time / 1_000_000_000 - BASE_S);
        }
        let none = BTreeSet::new();
        let mut missing = Vec::new();
        for (machine, n_rows) in &put.rows {
            let there = there.get(&**machine).unwrap_or(&none);
            let lost: Vec<i64> =
                (0..i64::try_from(*n_rows)?).filter(|row| !there.contains(row)).collect();
            if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
                missing.push((format!("{machine}, {first} to {last}"), lost.len() as u64));
            }
        }
        let dead = put.dead.saturating_sub(self.listed("dead_letters")?);
        if dead > 0 {
            missing.push(("dead letters".to_owned(), dead));
        }
        Ok(missing)
    }

    fn stream(&self, stream: &str) -> PathBuf {
        self.server.file("plant", &format!("lake/{stream}"))
    }

    /// How many rows a manifest lists.
    fn listed(&self, stream: &str) -> Result<u64> {
        listed(&self.stream(stream).join("_manifest.json"))
    }

    /// The readings in the sink.
    fn rows(&self) -> Result<Vec<Reading>> {
        let mut all = Vec::new();
        for batch in rows(&self.stream("readings"))? {
            all.extend(keys(&batch, "ts")?);
        }
        Ok(all)
    }

    /// The same in order, without the last row of each machine, which comes with whatever epoch is next.
    fn sorted(&self) -> Result<Vec<Reading>> {
        let mut all = self.rows()?;
        all.retain(|(_, time)| *time < (BASE_S + LARGE_ROWS as i64) * 1_000_000_000);
        all.sort();
        Ok(all)
    }
}

fn listed(manifest: &Path) -> Result<u64> {
    let Ok(text) = fs::read(manifest) else { return Ok(0) };
    let manifest: serde_json::Value = serde_json::from_slice(&text)?;
    let files = manifest["files"].as_array().context("a manifest lists files")?;
    Ok(files.iter().filter_map(|file| file["rows"].as_u64()).sum())
}
