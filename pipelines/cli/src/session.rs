//! From a pipeline file to a plan, a graph, a run: what the commands share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use foreline_engine::{
    Account, Batch, CollectSink, Durable, Hold, Observer, OnChange, Options, RealDisk, Report,
    RunId, Schema, SystemClock, run,
};
use foreline_spec::{
    Checked, Diagnostics, ExtraSink, Only, Plan, PlanOptions, RenderStyle, SourceOverride,
    check_file,
};

use crate::commands::Format;
use crate::failure::Failure;
use crate::progress::Bar;

/// Most rows that `train`, `evaluate` and `test` keep in memory: two gigabytes of thirty columns.
pub const MAX_ROWS_IN_MEMORY: usize = 8_000_000;

/// Where the engine keeps what it can make again, such as compiled plugins: beside the pipeline file.
fn cache_dir(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new(""));
    folder.join(".foreline").join("cache")
}

/// What a file is planned for.
#[derive(Debug, Clone, Default)]
pub struct Purpose {
    /// Only to look at it.
    pub checking: bool,
    /// Only what leads to a stream.
    pub only: Option<Only>,
    /// Other inputs, by source.
    pub inputs: BTreeMap<String, SourceOverride>,
    /// Other weights, by `model` step.
    pub weights: BTreeMap<String, PathBuf>,
    /// Other settings, by place in the file.
    pub settings: BTreeMap<String, serde_json::Value>,
}

impl Purpose {
    /// For a part of the pipeline on other inputs.
    #[must_use]
    pub fn part(only: Only, inputs: BTreeMap<String, SourceOverride>) -> Self {
        Purpose { checking: true, only: Some(only), inputs, ..Purpose::default() }
    }
}

/// Plans a file and prints what is wrong with it.
///
/// # Errors
/// When it cannot be read, or has mistakes, which were printed.
pub fn load(file: &Path, format: Format, purpose: Purpose) -> Result<Plan, Failure> {
    let Checked { plan, diagnostics } = checked(file, purpose)?;
    print_diagnostics(&diagnostics, format);
    plan.ok_or(Failure::Configuration)
}

/// As [`load`], without warnings: for a file, or a part of it, that the user was told of already.
///
/// # Errors
/// When it cannot be read, or has mistakes, which were printed.
pub fn load_again(file: &Path, purpose: Purpose) -> Result<Plan, Failure> {
    let Checked { plan, diagnostics } = checked(file, purpose)?;
    if diagnostics.has_errors() {
        print_diagnostics(&diagnostics, Format::Text);
    }
    plan.ok_or(Failure::Configuration)
}

fn checked(file: &Path, purpose: Purpose) -> Result<Checked, Failure> {
    let Purpose { checking, only, inputs, weights, settings } = purpose;
    let cache_dir = cache_dir(file);
    let options = PlanOptions { checking, only, overrides: inputs, weights, settings, cache_dir };
    check_file(file, &options).map_err(|e| Failure::Unreadable(e.into()))
}

/// Prints errors and warnings to standard error, or as JSON to standard output.
#[expect(clippy::print_stderr, clippy::print_stdout, reason = "mistakes are told to the user")]
pub fn print_diagnostics(diagnostics: &Diagnostics, format: Format) {
    match format {
        Format::Json => println!("{:#}", diagnostics.to_json()),
        Format::Text => {
            eprint!("{}", diagnostics.render(RenderStyle::of_stderr()));
        }
    }
}

/// Set by the first ctrl-C or SIGTERM; the second ends the process at once.
///
/// # Errors
/// When the system does not let us listen for signals.
pub fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("listen for signals")?;
    }
    Ok(stop)
}

/// How long a run waits for the one before it to end.
const HAND_OVER: Duration = Duration::from_secs(30);
/// A segment of the journal is closed at this size: small enough that trimming keeps the journal near what is needed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Adds to `options` that progress is kept in the plan's data directory.
///
/// # Errors
/// When another run works there and does not end.
pub fn keep_progress(
    plan: &Plan,
    on_change: OnChange,
    options: Options,
) -> Result<Options, Failure> {
    let hold = Hold::take(&plan.data_dir, options.run, HAND_OVER).map_err(anyhow::Error::from)?;
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: plan.data_dir.clone(),
        snapshot_interval: plan.snapshot_interval,
        snapshots_kept: plan.snapshots_kept,
        journal_limit_bytes: plan.journal_limit_bytes,
        journal_keep_ns: i64::try_from(plan.journal_keep.as_nanos()).unwrap_or(i64::MAX),
        journal_segment_bytes: SEGMENT_BYTES,
        identity: plan.identity(),
        on_change,
        bounded: plan.can_begin_anew(),
    };
    Ok(Options {
        run: hold.run(),
        durable: Some(Arc::new(durable)),
        hold: Some(Arc::new(Mutex::new(hold))),
        ..options
    })
}

/// How a plan is run.
#[must_use]
pub fn options(plan: &Plan, workers: usize) -> Options {
    Options {
        workers,
        epoch_rows: plan.epoch_rows,
        epoch_interval: plan.epoch_interval,
        run: run_id(),
        ..Options::default()
    }
}

/// A number greater than that of every run before: the time it began, in milliseconds.
fn run_id() -> RunId {
    use foreline_engine::Clock as _;
    RunId(u64::try_from(SystemClock.now_ns() / 1_000_000).unwrap_or(1))
}

/// Moves a bar with the rows that the sources have handed on in this run.
#[derive(Debug)]
pub struct RowBar {
    bar: Bar,
    sources: Vec<String>,
}

impl RowBar {
    /// A bar for a run of `plan`.
    #[must_use]
    pub fn of(bar: Bar, plan: &Plan) -> Arc<dyn Observer> {
        Arc::new(RowBar { bar, sources: plan.sources.iter().map(|s| s.name.clone()).collect() })
    }
}

impl Observer for RowBar {
    fn epoch(&self, _: u64, report: &Report) {
        let rows = |accounts: &BTreeMap<String, Account>| -> u64 {
            self.sources.iter().filter_map(|s| accounts.get(s)).map(|a| a.input).sum()
        };
        self.bar.count(rows(&report.accounts) - rows(&report.before));
    }
}

/// The rows of some streams of a run, kept in memory.
#[derive(Debug)]
pub struct Kept {
    /// By stream: its schema and the rows that stand at the end, sorted by key hash and event time: of corrected rows the
    /// last revision.
    pub streams: BTreeMap<String, (Schema, Batch)>,
    /// By stream: how many of its rows took the place of one that was there before, or took it back.
    pub corrections: BTreeMap<String, usize>,
    /// What the run did.
    pub report: Report,
}

/// Runs a plan without its own sinks and keeps the rows of `streams`.
///
/// # Errors
/// When a source cannot be opened, the run fails, or there are too many rows to keep.
pub fn keep(
    plan: &Plan,
    streams: &[&str],
    workers: usize,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Kept, Failure> {
    let mut sinks = Vec::new();
    let mut collected = Vec::new();
    for stream in streams {
        let (sink, rows) = CollectSink::new(MAX_ROWS_IN_MEMORY);
        let name = format!("rows of {stream}");
        sinks.push(ExtraSink { name, stream: (*stream).to_owned(), sink: Box::new(sink) });
        collected.push(((*stream).to_owned(), rows));
    }
    let graph = plan.graph_of(sinks).map_err(anyhow::Error::from)?;
    let options = Options { observer, ..options(plan, workers) };
    let report = run(graph, &options)?;
    let (mut streams, mut corrections) = (BTreeMap::new(), BTreeMap::new());
    for (name, rows) in collected {
        let id = plan.stream(&name).with_context(|| format!("there is no stream '{name}'"))?;
        let schema = plan.schema(id);
        let all = rows.sorted(&schema).map_err(anyhow::Error::from)?;
        let revised = all.revision.iter().flat_map(|revision| revision.values());
        corrections.insert(name.clone(), revised.filter(|revision| **revision > 0).count());
        let batch = all.settled(&schema).map_err(anyhow::Error::from)?;
        streams.insert(name, (schema, batch));
    }
    Ok(Kept { streams, corrections, report })
}
