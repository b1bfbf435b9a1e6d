//! The same with a real PostgreSQL behind the command, which is itself restarted, cut off and stopped for a while.
//!
//! The tables know every row by its key, so nothing can be there twice; what was counted twice, lost or computed from
//! half a state shows as a value that is not that of a run which was left alone.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use foreline_servers::{PASSWORD, Postgres};

use super::{Dice, Options, Outcome, PLACES, WINDOW_S, now, said, start_with, wait, write_input};

/// Places of the sink, beside those of the engine.
const OF_THE_SINK: &[(&str, usize)] =
    &[("copy done", 6), ("commit sent", 6), ("commit answered", 6)];
/// How long a run may take that is left alone.
const PATIENCE: Duration = Duration::from_secs(180);

/// Everything that is in the tables, as one line a table.
const DIGEST: &str = "
select count(*), md5(string_agg(machine || ts || v, ',' order by machine, ts)) from smooth
union all select count(*), md5(string_agg(machine || window_end || v_count || v_mean || v_std || v_slope, ','
    order by machine, window_end)) from counts";

/// Rounds of deaths until there were enough.
///
/// # Errors
/// When the command fails otherwise than by being killed, or the server does.
pub fn torture_database(options: &Options) -> Result<Outcome> {
    let begun = now();
    let folder = tempfile::tempdir().context("a folder to work in")?;
    let mut db = Postgres::start()?;
    let mut dice = Dice(options.seed);
    let expected = write_input(folder.path(), options.rows)?.len() as u64;
    let quiet = Round::new(&db, folder.path(), "quiet")?;
    let status = quiet.run(options, 2, None)?.wait()?;
    ensure!(status.success(), "the run that was left alone: {}", said(&quiet.folder));
    let wanted = quiet.digest(&db)?;
    ensure!(wanted.starts_with(&format!("{expected}|")), "left alone, it wrote {wanted}");
    let places = PLACES.iter().chain(OF_THE_SINK).filter(|(place, _)| !place.contains("parquet"));
    let mut outcome =
        Outcome { places: places.map(|(place, _)| (*place, 0)).collect(), ..Outcome::default() };
    while outcome.kills < options.kills || begun.elapsed() < options.time {
        let name = format!("r{}", outcome.rounds);
        let round = Round::new(&db, folder.path(), &name)?;
        round.live_through(options, &mut db, &mut dice, &mut outcome)?;
        let found = round.digest(&db)?;
        let there: u64 = found.split('|').next().unwrap_or_default().parse()?;
        outcome.acknowledged += expected;
        outcome.lost += expected.saturating_sub(there);
        outcome.duplicated += there.saturating_sub(expected);
        outcome.different += u64::from(found != wanted);
        outcome.rounds += 1;
        round.clear(&db)?;
    }
    Ok(outcome)
}

/// A folder and a database of their own.
struct Round {
    folder: std::path::PathBuf,
    name: String,
    url: String,
}

impl Round {
    fn new(db: &Postgres, above: &Path, name: &str) -> Result<Self> {
        db.sql(&format!("create database {name}"))?;
        let (folder, url) = (above.join(name), db.url_of("foreline", PASSWORD, name));
        fs::create_dir(&folder)?;
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
  warehouse: {{ from: [smooth, counts], postgres: {{ url: '${{env:FORELINE_TEST_DB}}', commit_rows: 900, timeout: 10s }} }}
epoch: {{ rows: 700 }}
snapshot: {{ interval: 40ms, keep: 2 }}
",
            above.display()
        );
        fs::write(folder.join("pump.yaml"), text)?;
        Ok(Round { folder, name: name.to_owned(), url })
    }

    fn clear(self, db: &Postgres) -> Result<()> {
        fs::remove_dir_all(&self.folder)?;
        db.sql(&format!("drop database {} with (force)", self.name)).map(drop)
    }

    fn digest(&self, db: &Postgres) -> Result<String> {
        db.sql_at(&self.url, DIGEST)
    }

    fn run(&self, options: &Options, workers: usize, at: Option<&str>) -> Result<Child> {
        start_with(&options.command, &self.folder, workers, at, &[("FORELINE_TEST_DB", &self.url)])
    }

    /// Starts the command again and again until it comes to its end, while the server has troubles of its own.
    fn live_through(
        &self,
        options: &Options,
        db: &mut Postgres,
        dice: &mut Dice,
        outcome: &mut Outcome,
    ) -> Result<()> {
        for attempt in 0.. {
            ensure!(attempt < 500, "the run does not come to its end");
            let workers = [1, 2, 4][dice.below(3)];
            let named = attempt < 12 && dice.below(3) > 0;
            let all: Vec<_> = PLACES.iter().chain(OF_THE_SINK).collect();
            let (place, upto) = *all[dice.below(all.len())];
            let at = named.then(|| format!("{place}:{}", 1 + dice.below(upto)));
            let mut child = self.run(options, workers, at.as_deref())?;
            trouble(db, dice)?;
            if !named && attempt < 12 {
                wait(Duration::from_millis(dice.below(900) as u64));
                // It may be done by then.
                child.kill().ok();
            }
            let status = self.end_of(&mut child)?;
            if status.success() {
                return Ok(());
            }
            if let Some(code) = status.code() {
                bail!("the command ended with {code}:\n{}", said(&self.folder));
            }
            outcome.kills += 1;
            if named {
                *outcome.places.entry(place).or_default() += 1;
            }
            if super::has_finished(&self.folder) {
                // It died between its last word on disk and its end; another run would begin anew.
                return Ok(());
            }
        }
        Ok(())
    }

    fn end_of(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let begun = now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                child.kill().ok();
                bail!("it does not end:\n{}", said(&self.folder));
            }
            wait(Duration::from_millis(5));
        }
    }
}

/// What may happen to a server while somebody writes to it.
fn trouble(db: &mut Postgres, dice: &mut Dice) -> Result<()> {
    let kind = dice.below(6);
    if kind < 3 {
        wait(Duration::from_millis(dice.below(400) as u64));
    }
    match kind {
        0 => {
            db.stop()?;
            wait(Duration::from_millis(dice.below(600) as u64));
            db.start_again()
        }
        1 => db.terminate("foreline").map(drop),
        2 => {
            db.pause()?;
            wait(Duration::from_millis(dice.below(500) as u64));
            db.go_on()
        }
        _ => Ok(()),
    }
}
