//! The same with messages of a real broker: a publisher that knows what was acknowledged, a command that dies, a broker
//! that restarts, and a network that is cut and stalls.
//!
//! Every reading that the broker has acknowledged to the publisher must be in the sink once. The broker keeps what it has
//! and is only ever told to stop: what it loses when it is killed is not the command's. At the end the command is told to
//! stop, and the run after that must find nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::proxy::Proxy;
use foreline_servers::publisher::Publisher;

use super::deaths::{Deaths, PATIENCE, await_that, duplicates, stop};
use super::{
    Dice, MACHINES, Options, Outcome, PLACES, Reading, keys, now, rows, said, start, wait,
};

/// Where time begins.
const BASE_MS: u64 = 1_772_323_200_000;
/// So much later than all others that it moves every watermark behind them.
const LATER_MS: u64 = 100 * 3_600_000;

/// How long the network stands still at most: longer than it takes to notice that, which is twice the `keep_alive`.
const STALL_MAX: Duration = Duration::from_millis(2500);
/// Most bytes from the broker before the connection is cut: some hundred messages.
const CUT_BYTES_MAX: usize = 20_000;

/// One round: readings are published while the command is killed and started again, and broker and network have faults.
///
/// # Errors
/// When the broker or the command fails otherwise than by being killed.
pub fn torture_broker(options: &Options) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("a folder to work in")?;
    let folder = folder.path();
    let setup = Setup { is_wide: true, persists: true, ..Setup::default() };
    let mut broker = Mosquitto::start(setup)?;
    let proxy = Proxy::before(broker.port())?;
    fs::write(folder.join("pump.yaml"), pipeline(proxy.port()))?;
    let mut outcome = Outcome::default();
    subscribe(options, folder, &broker)?;
    let (published, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let port = broker.plain_port();
    let (expected, faults) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let expected = publish(port, options.rows);
            published.store(true, Ordering::Release);
            expected
        });
        let mischief = scope.spawn(|| make_mischief(&mut broker, &proxy, options.seed, &over));
        let places = [PLACES, &[("acknowledged", 6)]].concat();
        let deaths = Deaths { options, folder, places: &places, most_ms: 900, named_ms: 900 };
        let done = || published.load(Ordering::Acquire);
        let died = deaths.until(done, &mut outcome, |outcome| {
            duplicates(&rows_of(folder)?, outcome);
            Ok(())
        });
        let expected = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"));
        over.store(true, Ordering::Release);
        let faults = mischief.join().map_err(|_| anyhow::anyhow!("the mischief panicked"))?;
        died.and(Ok((expected??, faults?)))
    })?;
    outcome.faults = faults;
    outcome.rounds = 1;
    outcome.acknowledged = expected.len() as u64;
    finish(options, folder, &broker, &expected, &mut outcome)?;
    Ok(outcome)
}

fn pipeline(port: u16) -> String {
    format!(
        "version: 1
name: torture
sources:
  readings:
    mqtt:
      urls: ['mqtt://127.0.0.1:{port}']
      topics: ['plant/{{machine}}/v']
      client_id: foreline-torture
      keep_alive: 1s
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

/// Restarts the broker and disturbs the network until it is `over`; how often each was done.
fn make_mischief(
    broker: &mut Mosquitto,
    proxy: &Proxy,
    seed: u64,
    over: &AtomicBool,
) -> Result<BTreeMap<&'static str, u64>> {
    // Others than those of the deaths, or both would always come together.
    let mut dice = Dice(!seed);
    let mut faults = BTreeMap::new();
    for turn in 0_u64.. {
        if over.load(Ordering::Acquire) {
            break;
        }
        let fault = match turn % 4 {
            0 => {
                broker.stop()?;
                pass(over, dice.below(500));
                broker.restart()?;
                "the broker restarted"
            }
            1 => {
                proxy.cut();
                "the connection was cut"
            }
            2 => {
                proxy.cut_after(1 + dice.below(CUT_BYTES_MAX) as u64);
                "the connection was cut within a message"
            }
            _ => {
                proxy.stall();
                pass(over, dice.below(STALL_MAX.as_millis() as usize));
                proxy.go_on();
                "the network stood still"
            }
        };
        *faults.entry(fault).or_default() += 1;
        pass(over, 100 + dice.below(400));
    }
    Ok(faults)
}

/// Waits so many milliseconds, or until it is `over`.
fn pass(over: &AtomicBool, millis: usize) {
    let (begun, time) = (now(), Duration::from_millis(millis as u64));
    while begun.elapsed() < time && !over.load(Ordering::Acquire) {
        wait(Duration::from_millis(10));
    }
}

/// Readings that are published at once.
const BURST: u64 = 20;

/// Publishes readings in bursts, each until the broker has acknowledged all of it; the readings.
fn publish(port: u16, n_rows: u64) -> Result<BTreeSet<Reading>> {
    let mut publisher = None;
    let mut expected = BTreeSet::new();
    for first in (0..n_rows).step_by(usize::try_from(BURST)?) {
        let burst = first..n_rows.min(first + BURST);
        let begun = now();
        while let Err(e) = publish_burst(&mut publisher, port, burst.clone()) {
            // The broker restarts; what it has not acknowledged it may or may not have.
            publisher = None;
            ensure!(begun.elapsed() < PATIENCE, "nothing is published: {e:#}");
            wait(Duration::from_millis(20));
        }
        for row in burst {
            let (name, millis) = reading(row);
            expected.insert((name, i64::try_from(millis)? * 1_000_000));
        }
        wait(Duration::from_millis(10));
    }
    Ok(expected)
}

fn publish_burst(
    publisher: &mut Option<Publisher>,
    port: u16,
    rows: std::ops::Range<u64>,
) -> Result<()> {
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => publisher.insert(Publisher::connect(port, None)?),
    };
    for row in rows {
        let (name, millis) = reading(row);
        send(publisher, &name, millis)?;
    }
    publisher.settle().map(drop)
}

/// Machine and time of a reading.
fn reading(row: u64) -> (String, u64) {
    (format!("P-{:02}", row % MACHINES), BASE_MS + row / MACHINES * 1000)
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
