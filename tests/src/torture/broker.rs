//! The same with messages of a real broker: a publisher that knows what was acknowledged, and a command that dies.
//!
//! Every reading that the broker has acknowledged to the publisher must be in the sink once. The broker itself is left
//! alone: what it loses is not the command's. At the end the command is told to stop, and the run after that must find
//! nothing to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;

use super::deaths::{Deaths, await_that, duplicates, stop};
use super::{MACHINES, Options, Outcome, PLACES, Reading, keys, rows, said, start, wait};

/// Where time begins.
const BASE_MS: u64 = 1_772_323_200_000;
/// So much later than all others that it moves every watermark behind them.
const LATER_MS: u64 = 100 * 3_600_000;

/// One round: readings are published while the command is killed and started again.
///
/// # Errors
/// When the broker or the command fails otherwise than by being killed.
pub fn torture_broker(options: &Options) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("a folder to work in")?;
    let folder = folder.path();
    let setup = Setup { is_wide: true, ..Setup::default() };
    let broker = Mosquitto::start(setup)?;
    fs::write(folder.join("pump.yaml"), pipeline(&broker.url()))?;
    let mut outcome = Outcome::default();
    subscribe(options, folder, &broker)?;
    let published = AtomicBool::new(false);
    let expected = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let expected = publish(&broker, options.rows);
            published.store(true, Ordering::Release);
            expected
        });
        let places = [PLACES, &[("acknowledged", 6)]].concat();
        let deaths = Deaths { options, folder, places: &places, most_ms: 900, named_ms: 900 };
        let done = || published.load(Ordering::Acquire);
        let died = deaths.until(done, &mut outcome, |outcome| {
            duplicates(&rows_of(folder)?, outcome);
            Ok(())
        });
        let expected = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?;
        died.and(expected)
    })?;
    outcome.rounds = 1;
    outcome.acknowledged = expected.len() as u64;
    finish(options, folder, &broker, &expected, &mut outcome)?;
    Ok(outcome)
}

fn pipeline(url: &str) -> String {
    format!(
        "version: 1
name: torture
sources:
  readings:
    mqtt: {{ urls: ['{url}'], topics: ['plant/{{machine}}/v'], client_id: foreline-torture }}
    columns: {{ ts: {{ type: timestamp, format: epoch_ms }}, machine: string, v: float64 }}
    key: [machine]
    time: ts
    lateness: 50h
    dedupe: [machine, ts]
sinks:
  lake: {{ from: readings, parquet: {{ path: lake }} }}
epoch: {{ rows: 200, interval: 20ms }}
snapshot: {{ interval: 40ms, keep: 2 }}
"
    )
}

/// Runs the command until the broker knows its subscription: only from then on does the broker keep anything for it.
fn subscribe(options: &Options, folder: &Path, broker: &Mosquitto) -> Result<()> {
    let child = start(&options.command, folder, 1, None)?;
    await_that("a subscription", || Ok(broker.log().contains("plant/+/v")))
        .with_context(|| said(folder))?;
    stop(child, folder)
}

/// Publishes readings in bursts; those that the broker has acknowledged.
fn publish(broker: &Mosquitto, n_rows: u64) -> Result<BTreeSet<Reading>> {
    let mut publisher = Publisher::connect(broker.plain_port(), None)?;
    let mut expected = BTreeSet::new();
    for row in 0..n_rows {
        let name = format!("P-{:02}", row % MACHINES);
        let millis = BASE_MS + row / MACHINES * 1000;
        send(&mut publisher, &name, millis)?;
        expected.insert((name, i64::try_from(millis)? * 1_000_000));
        if row % 20 == 19 {
            publisher.settle()?;
            wait(Duration::from_millis(10));
        }
    }
    publisher.settle()?;
    Ok(expected)
}

fn send(publisher: &mut Publisher, machine: &str, millis: u64) -> Result<()> {
    let payload = format!("{{\"ts\":{millis},\"v\":{}.5}}", millis % 97);
    publisher.publish(&format!("plant/{machine}/v"), payload.as_bytes())
}

/// Lets everything come through, has the command stop, and looks at what is there.
fn finish(
    options: &Options,
    folder: &Path,
    broker: &Mosquitto,
    expected: &BTreeSet<Reading>,
    outcome: &mut Outcome,
) -> Result<()> {
    let child = start(&options.command, folder, 2, None)?;
    let mut publisher = Publisher::connect(broker.plain_port(), None)?;
    for machine in 0..MACHINES {
        send(&mut publisher, &format!("P-{machine:02}"), BASE_MS + LATER_MS)?;
    }
    publisher.settle()?;
    // What does not come in all that time is lost, and counted below.
    let all = await_that("all readings", || {
        let found: BTreeSet<Reading> = rows_of(folder)?.into_iter().collect();
        Ok(expected.is_subset(&found))
    });
    stop(child, folder)?;
    let found = rows_of(folder)?;
    duplicates(&found, outcome);
    let there: BTreeSet<Reading> = found.into_iter().collect();
    outcome.lost = expected.difference(&there).count() as u64;
    ensure!(all.is_ok() == (outcome.lost == 0), "readings came only when the command stopped");
    let before = manifest(folder)?;
    let child = start(&options.command, folder, 2, None)?;
    wait(Duration::from_millis(500));
    stop(child, folder)?;
    ensure!(manifest(folder)? == before, "a run after a clean end found something to do");
    Ok(())
}

/// The readings in the sink.
fn rows_of(folder: &Path) -> Result<Vec<Reading>> {
    let mut all = Vec::new();
    for batch in rows(&folder.join("lake/readings"))? {
        all.extend(keys(&batch, "ts")?);
    }
    Ok(all)
}

fn manifest(folder: &Path) -> Result<Vec<Reading>> {
    let mut all = rows_of(folder)?;
    all.sort();
    Ok(all)
}
