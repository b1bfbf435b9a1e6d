//! Messages of a real Mosquitto, as it comes and with wide limits: how many a second, and how long from publishing a
//! message to its committed row.
//!
//! The event time is the time of publishing, and the sink is one in memory that is asked to commit every epoch: what is
//! measured is the broker, the source, the journal with its fsync, and the dataflow. A database adds its own commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use foreline_engine::{
    Batch, Clock as _, Committed, Durable, OnChange, Options, RealDisk, RunId, Schema, Sink,
    SinkError, SystemClock,
};
use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;
use foreline_spec::{
    ExtraSink, Kinds, Plan, PlanOptions, ProcessEnvironment, RenderStyle, check_text,
};
use serde::Serialize;

/// Machines that take turns in publishing.
const MACHINES: u64 = 20;
/// An epoch is at most so long.
const EPOCH_INTERVAL: Duration = Duration::from_millis(10);
/// Messages a second at which the times are taken; a saturated pipeline shows its queues and not its work.
const CALM_RATE: u64 = 1_000;
/// Messages at that rate.
const CALM_MESSAGES: u64 = 5_000;
/// Messages that are published and not yet rows: as many as a broker keeps for a client by default, with some to spare. What
/// is more it drops, though the publisher has its acknowledgement.
const UNDERWAY_DEFAULT: u64 = 800;
/// The same with wide limits.
const UNDERWAY_WIDE: u64 = 50_000;
/// Without any message for so long the run is at its end, whatever is missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured with one broker.
#[derive(Debug, Serialize)]
struct Figures {
    broker: &'static str,
    version: &'static str,
    messages_per_second: f64,
    saturated_p50_ms: f64,
    saturated_p99_ms: f64,
    calm_p50_ms: f64,
    calm_p99_ms: f64,
}

/// Measures and prints.
///
/// # Errors
/// When Mosquitto is not installed, or messages are missing.
pub(crate) fn run(messages: u64, json: bool) -> Result<()> {
    let mut all = Vec::new();
    for (broker, is_wide) in [("defaults", false), ("wide limits", true)] {
        for version in ["5", "3.1.1"] {
            let (saturated, seconds) = measure(is_wide, version, messages, None)?;
            let (calm, _) = measure(is_wide, version, CALM_MESSAGES, Some(CALM_RATE))?;
            all.push(Figures {
                broker,
                version,
                messages_per_second: messages as f64 / seconds,
                saturated_p50_ms: quantile(&saturated, 0.5),
                saturated_p99_ms: quantile(&saturated, 0.99),
                calm_p50_ms: quantile(&calm, 0.5),
                calm_p99_ms: quantile(&calm, 0.99),
            });
        }
    }
    print(&all, json)
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn print(all: &[Figures], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(all)?);
        return Ok(());
    }
    println!(
        "publish -> committed row, epochs of {EPOCH_INTERVAL:?}; saturated, and at {CALM_RATE} messages/s"
    );
    for f in all {
        println!(
            "{:12} MQTT {:5} {:9.0} messages/s  p50 {:7.1} ms  p99 {:7.1} ms | p50 {:6.1} ms  p99 {:6.1} ms",
            f.broker,
            f.version,
            f.messages_per_second,
            f.saturated_p50_ms,
            f.saturated_p99_ms,
            f.calm_p50_ms,
            f.calm_p99_ms
        );
    }
    Ok(())
}

/// Times from publishing to commit in milliseconds, sorted, and the seconds from the first message to the last row.
fn measure(
    is_wide: bool,
    version: &str,
    messages: u64,
    rate: Option<u64>,
) -> Result<(Vec<f64>, f64)> {
    let folder = tempfile::tempdir()?;
    let broker = Mosquitto::start(Setup { is_wide, ..Setup::default() })?;
    let plan = plan(folder.path(), &broker.url(), version)?;
    let rows = Rows::default();
    let stop = Arc::new(AtomicBool::new(false));
    let sink = Box::new(TimedSink { rows: Arc::clone(&rows), pending: Vec::new() });
    let sink = ExtraSink { name: "timed".into(), stream: "readings".into(), sink };
    let graph = plan.graph_of(vec![sink]).context("the graph")?;
    let options = options(&plan, folder.path(), &stop);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| foreline_engine::run(graph, &options));
        let underway = if is_wide { UNDERWAY_WIDE } else { UNDERWAY_DEFAULT };
        let measured = feed(&broker, messages, rate, underway, &rows);
        stop.store(true, Ordering::Release);
        let ended = running.join().map_err(|_| anyhow::anyhow!("the run panicked"))?;
        let report = ended?;
        let seconds =
            measured.with_context(|| format!("of the rows became {:?}", report.accounts))?;
        let mut times = rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_by(f64::total_cmp);
        Ok((times, seconds))
    })
}

/// Publishes, and waits until every message is a committed row; the seconds from the first message to the last row.
fn feed(
    broker: &Mosquitto,
    messages: u64,
    rate: Option<u64>,
    underway: u64,
    rows: &Rows,
) -> Result<f64> {
    let there = || rows.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    let mut waited = Wait::default();
    while !broker.log().contains("plant/+/v") {
        waited.a_moment("the subscription")?;
    }
    let mut publisher = Publisher::connect(broker.plain_port(), None)?;
    let begun = SystemClock.now_ns();
    let mut stamp = begun;
    for n in 0..messages {
        if let Some(rate) = rate {
            let due = begun + i64::try_from(n * 1_000_000_000 / rate)?;
            while SystemClock.now_ns() < due {
                std::thread::park_timeout(Duration::from_micros(200));
            }
        }
        let mut waited = Wait::default();
        while n >= there() + underway {
            waited.a_moment("room")?;
        }
        // A clock that is set back would make rows late.
        stamp = SystemClock.now_ns().max(stamp + 1);
        let payload = format!(
            "{{\"ts\":{},\"v\":{n}.25,\"unit\":\"mm/s\",\"state\":\"running\",\"quality\":192}}",
            stamp
        );
        publisher.publish(&format!("plant/P-{:02}/v", n % MACHINES), payload.as_bytes())?;
    }
    publisher.settle()?;
    let mut waited = Wait::default();
    while there() < messages {
        let missing = || format!("with {} of {messages} rows there: the last", there());
        waited.a_moment("a row").with_context(missing)?;
    }
    ensure!(there() == messages, "{} rows of {messages} messages", there());
    Ok((SystemClock.now_ns() - begun) as f64 / 1e9)
}

/// Waits for something, but not for ever.
#[derive(Default)]
struct Wait(Duration);

impl Wait {
    fn a_moment(&mut self, what: &str) -> Result<()> {
        const MOMENT: Duration = Duration::from_millis(1);
        self.0 += MOMENT;
        if self.0 > PATIENCE {
            bail!("{what} did not come");
        }
        std::thread::park_timeout(MOMENT);
        Ok(())
    }
}

fn plan(folder: &Path, url: &str, version: &str) -> Result<Plan> {
    let text = format!(
        "version: 1
sources:
  readings:
    mqtt: {{ urls: ['{url}'], topics: ['plant/{{machine}}/v'], client_id: foreline-bench, version: '{version}' }}
    columns: {{ ts: {{ type: timestamp, format: epoch_ns }}, machine: string, v: float64 }}
    key: [machine]
    time: ts
    dedupe: [machine, ts]
sinks:
  lake: {{ from: readings, parquet: {{ path: lake }} }}
"
    );
    fs::create_dir_all(folder.join("cache"))?;
    let options = PlanOptions {
        checking: false,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: folder.join("cache"),
    };
    let path = folder.join("mqtt.yaml");
    let checked = check_text(&path, &text, &Kinds::all(), &ProcessEnvironment, &options);
    match checked.plan {
        Some(plan) => Ok(plan),
        None => bail!("{}", checked.diagnostics.render(RenderStyle::PLAIN)),
    }
}

fn options(plan: &Plan, folder: &Path, stop: &Arc<AtomicBool>) -> Options {
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: folder.join("data"),
        snapshot_interval: Duration::from_secs(10),
        snapshots_kept: 2,
        journal_limit_bytes: 4 << 30,
        journal_keep_ns: 0,
        journal_segment_bytes: 16 << 20,
        identity: plan.identity(),
        on_change: OnChange::Fresh,
        bounded: false,
    };
    Options {
        workers: 1,
        run: RunId(1),
        epoch_interval: EPOCH_INTERVAL,
        durable: Some(Arc::new(durable)),
        stop: Arc::clone(stop),
        ..Options::default()
    }
}

/// Milliseconds from publishing to commit.
type Rows = Arc<Mutex<Vec<f64>>>;

/// A sink that commits every epoch and notes how old its rows are then.
struct TimedSink {
    rows: Rows,
    pending: Vec<i64>,
}

impl Sink for TimedSink {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        use arrow::array::AsArray as _;
        use arrow::datatypes::TimestampNanosecondType;
        for batch in rows {
            let published = batch.rows.column(0).as_primitive::<TimestampNanosecondType>();
            self.pending.extend(published.values());
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let now = SystemClock.now_ns();
        let ages = self.pending.drain(..).map(|published| (now - published) as f64 / 1e6);
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).extend(ages);
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        true
    }
}

/// The value below which a part of the sorted `values` lies.
fn quantile(values: &[f64], part: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}
