//! The fleet of the benchmark of views: its rows, its pipeline, and who looks at the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use foreline_engine::{
    Chunk, Decoder, Graph, KnownPartition, MemorySource, Observer, Options, Partition, Poll,
    Position, Range, Replay, Report, Schema, Source, SourceError, Table, run,
};
use foreline_spec::{Kinds, Plan, PlanOptions, ProcessEnvironment, RenderStyle, check_text};

/// Machines of a line.
const LINE: usize = 100;
/// No reading is above it, and every one is above the limits that are lowered.
const HIGH: f64 = 1e6;

const PIPELINE: &str = "version: 1
sources:
  readings:
    csv: { path: none.csv }
    columns: { machine: string, at: int64, line: string, v: float64 }
    key: [machine]
    time: at
  limits:
    csv: { path: none.csv }
    columns: { machine: string, since: int64, most: float64 }
    key: [machine]
    time: since
views:
  latest:  { from: readings, latest: {} }
  limit:   { from: limits, latest: {} }
  judged:  { from: latest, join: { with: limit, on: [machine], columns: [most] } }
  over:    { from: judged, where: \"v > most\" }
  by_line: { from: judged, group: { by: [line], rows: machines, mean: { v: mean }, max: { v: greatest }, min: { most: least } } }
  worst:   { from: judged, top: { rows: 10, by: most } }
sinks:
  lake: { from: over, parquet: { path: lake } }
";

/// When a source hands its rows over.
#[derive(Debug, Default)]
struct Gate {
    /// How many chunks it may hand over.
    open: AtomicU64,
    handed: AtomicU64,
    /// When it handed the last one over.
    at: Mutex<Option<Instant>>,
}

/// Rows that come a chunk at a time.
struct Gated {
    rows: MemorySource,
    gate: Arc<Gate>,
}

impl Source for Gated {
    fn replay(&self) -> Replay {
        self.rows.replay()
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        if self.gate.handed.load(Ordering::Acquire) >= self.gate.open.load(Ordering::Acquire) {
            return Ok(Poll::Pending);
        }
        let polled = self.rows.poll(budget_bytes)?;
        self.gate.handed.fetch_add(1, Ordering::AcqRel);
        *self.gate.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(polled)
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        self.rows.read(partition, range)
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        self.rows.durable(partition, upto);
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        self.rows.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.rows.partition_name(partition)
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.rows.identity(partition)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.rows.resume(known)
    }
}

/// A limit that was lowered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// From the row to the tables.
    pub time: Duration,
    /// Records that were gone through.
    pub touched: u64,
    /// The epochs until all tables showed it.
    pub epochs: u64,
}

/// How much the views hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub arranged: usize,
    pub arranged_after: usize,
}

/// Looks at the tables at the end of each epoch.
#[derive(Debug)]
struct Watch {
    machines: usize,
    gate: Arc<Gate>,
    tables: BTreeMap<String, Arc<Table>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The epoch that brought the last row of the limits, and how many it has seen.
    brought: (u64, u64),
    touched: u64,
    /// When all rows were in the tables for the first time.
    fresh: Option<(Duration, u64)>,
    changes: Vec<Change>,
    sizes: Sizes,
}

impl Watch {
    fn touched(&self) -> u64 {
        self.tables.values().map(|table| table.touched()).sum()
    }

    fn sum(&self, of: impl Fn(&Table) -> usize) -> usize {
        self.tables.values().map(|table| of(table)).sum()
    }
}

impl Observer for Watch {
    fn epoch(&self, epoch: u64, report: &Report) {
        let begun = *self.gate.at.lock().unwrap_or_else(PoisonError::into_inner);
        let time = begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let n_limits = report.accounts["limits"].input;
        if n_limits > seen.brought.1 {
            seen.brought = (epoch, n_limits);
        }
        let whole = self.tables["judged"].len() == self.machines
            && n_limits >= self.machines as u64
            && report.accounts["readings"].input == self.machines as u64;
        if !whole {
            return;
        }
        let touched = self.touched();
        if seen.fresh.is_none() {
            seen.fresh = Some((time, touched));
            (seen.sizes.rows, seen.sizes.arranged) =
                (self.sum(Table::len), self.sum(Table::arranged));
        } else if self.tables["over"].len() == seen.changes.len() + 1 {
            let (epochs, touched) = (epoch + 1 - seen.brought.0, touched - seen.touched);
            seen.changes.push(Change { time, touched, epochs });
        } else {
            return;
        }
        seen.sizes.arranged_after = self.sum(Table::arranged);
        seen.touched = touched;
        self.gate.open.fetch_add(1, Ordering::AcqRel);
    }
}

/// The rows: a reading and a limit of each machine, and the limits that are lowered.
#[derive(Debug)]
pub(crate) struct Fleet {
    readings: RecordBatch,
    limits: RecordBatch,
    lowered: Vec<RecordBatch>,
}

impl Fleet {
    pub(crate) fn new(machines: usize, changes: usize) -> Self {
        let names = || (0..machines).map(name);
        let lines = (0..machines).map(|m| format!("L-{:03}", m / LINE));
        let values = (0..machines).map(|m| Some(((m * 7_919) % 10_007) as f64 / 8.0));
        let readings: [(&str, ArrayRef); 4] = [
            ("machine", text(names())),
            ("at", Arc::new(Int64Array::from(vec![1; machines]))),
            ("line", text(lines)),
            ("v", Arc::new(values.collect::<Float64Array>())),
        ];
        // All over the fleet, no machine twice.
        let lowered: BTreeSet<usize> =
            (0..changes).map(|c| (c * 7_907 + 3) % machines.max(1)).collect();
        let high = (0..machines).map(|m| HIGH + ((m * 31) % 10_009) as f64);
        let lower = |m: usize| limit(std::iter::once(m), 2, [-1.0 - m as f64].into_iter());
        Fleet {
            readings: RecordBatch::try_from_iter(readings).expect("columns of one length"),
            limits: limit(0..machines, 1, high),
            lowered: lowered.into_iter().map(lower).collect(),
        }
    }

    pub(crate) fn machines(&self) -> usize {
        self.readings.num_rows()
    }

    /// The time of a new dataflow that is given all rows in one epoch, less that of decoding, ordering and the steps; and
    /// how many records it touches.
    pub(crate) fn afresh(&self) -> Result<(Duration, u64)> {
        let batches = std::slice::from_ref(&self.limits);
        let (seen, report) = self.run(batches, 2 * self.machines())?;
        let (time, touched) = seen.fresh.context("the tables were filled")?;
        let busy: Duration = report.busy.values().sum();
        Ok((time.saturating_sub(busy), touched))
    }

    /// Lowers one limit after the other.
    pub(crate) fn changed(&self) -> Result<(Vec<Change>, Sizes)> {
        let batches = [std::slice::from_ref(&self.limits), &self.lowered].concat();
        let (seen, _) = self.run(&batches, 1)?;
        let (n, all) = (seen.changes.len(), self.lowered.len());
        ensure!(n == all, "{n} of {all} changes were seen");
        Ok((seen.changes, seen.sizes))
    }

    fn run(&self, limits: &[RecordBatch], epoch_rows: usize) -> Result<(Seen, Report)> {
        let folder = tempfile::tempdir().context("a folder for the benchmark's files")?;
        // Looked at when the pipeline is planned, and never read.
        std::fs::write(folder.path().join("none.csv"), "machine,at,line,v,since,most\n")?;
        let mut graph = plan(folder.path())?.graph_of(Vec::new())?;
        graph.sinks.clear();
        let gate = Arc::new(Gate { open: AtomicU64::new(1), ..Gate::default() });
        let whole = self.machines();
        graph.sources[0].source = Box::new(MemorySource::new(
            &schema(&graph, 0),
            std::slice::from_ref(&self.readings),
            whole,
        )?);
        let rows = MemorySource::new(&schema(&graph, 1), limits, whole)?;
        graph.sources[1].source = Box::new(Gated { rows, gate: Arc::clone(&gate) });
        let tables = graph.views.iter().map(|v| (v.name.clone(), Arc::clone(&v.table))).collect();
        let watch = Arc::new(Watch { machines: whole, gate, tables, seen: Mutex::default() });
        let observer = Some(Arc::clone(&watch) as Arc<dyn Observer>);
        let report = run(graph, &Options { epoch_rows, observer, ..Options::default() })?;
        let mut seen = watch.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((std::mem::take(&mut seen), report))
    }
}

fn schema(graph: &Graph, source: usize) -> Schema {
    graph.sources[source].schema.clone()
}

fn name(machine: usize) -> String {
    format!("M-{machine:05}")
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn limit(
    machines: impl Iterator<Item = usize> + Clone,
    since: i64,
    most: impl Iterator<Item = f64>,
) -> RecordBatch {
    let since = machines.clone().map(|_| Some(since));
    let columns: [(&str, ArrayRef); 3] = [
        ("machine", text(machines.map(name))),
        ("since", Arc::new(since.collect::<Int64Array>())),
        ("most", Arc::new(most.map(Some).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn plan(folder: &Path) -> Result<Plan> {
    let options = PlanOptions {
        checking: true,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: folder.join("cache"),
    };
    let file = folder.join("views.yaml");
    let checked = check_text(&file, PIPELINE, &Kinds::all(), &ProcessEnvironment, &options);
    checked.plan.with_context(|| checked.diagnostics.render(RenderStyle::PLAIN).to_string())
}
