//! A pipeline that dies, and comes back: the parts of the recovery benchmark that deal with the engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foreline_engine::{
    Batch, Chunk, Committed, Decoded, Decoder, Durable, Graph, KnownPartition, OnChange, Options,
    Partition, Poll, Position, Range, RealDisk, Replay, Report, RunError, RunId, Schema, Sink,
    SinkError, Source, SourceError, SourceNode,
};
use foreline_spec::{
    ExtraSink, Kinds, Plan, PlanOptions, ProcessEnvironment, RenderStyle, check_text,
};

/// Rows of an epoch.
const EPOCH_ROWS: u64 = 65_536;
/// Bytes asked of the source at a time, as the engine does.
const CHUNK_BYTES: usize = 512 << 10;
/// Longer than any run: there is the snapshot with which a run that is stopped ends, and no other.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// Where everything lies, and how many workers there are.
#[derive(Debug)]
pub(crate) struct Place {
    pub folder: PathBuf,
    pub workers: usize,
}

impl Place {
    pub(crate) fn csv(&self) -> PathBuf {
        self.folder.join("readings.csv")
    }
}

/// What the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The rows themselves.
    Payload,
    /// Where they are.
    Range,
}

/// Reads `before` rows, and then reads and decodes `rows`: how long the latter took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn decode(place: &Place, before: u64, rows: u64) -> Result<Duration> {
    let mut graph = plan(place)?.graph_of(Vec::new())?;
    let source = &mut graph.sources[0].source;
    let mut decoder = source.decoder();
    let (mut passed, mut begun, mut decoded) = (0, None, 0);
    while passed < before + rows {
        let begun = (passed >= before).then(|| *begun.get_or_insert_with(Instant::now));
        let Poll::Ready(chunk) = source.poll(CHUNK_BYTES)? else { bail!("the file is too short") };
        passed += chunk.rows as u64;
        if begun.is_some() {
            let mut out = Decoded::default();
            decoder.decode(&chunk, &mut out);
            decoded += out.rows.iter().map(|(rows, _)| rows.num_rows()).sum::<usize>();
        }
    }
    ensure!(decoded > 0, "nothing was decoded");
    Ok(begun.context("the rows were reached")?.elapsed())
}

/// Runs until a snapshot has the first `before` rows, then on until `rows` more are journaled, and dies; the last epoch
/// that its sink has.
pub(crate) fn live_and_die(
    place: &Place,
    kind: Kind,
    data: &Path,
    before: u64,
    rows: u64,
) -> Result<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let end = End::Stop(before.div_ceil(EPOCH_ROWS), Arc::clone(&stop));
    let (sink, database) = Database::opened(None, end);
    run(place, kind, data, sink, stop)?.context("the first run is stopped")?;
    let snapshot = database.has().context("the first run commits")?;
    let (sink, database) =
        Database::opened(Some(snapshot), End::Refuse(snapshot + rows.div_ceil(EPOCH_ROWS)));
    let died = run(place, kind, data, sink, Arc::default())?;
    ensure!(matches!(died, Err(RunError::Sink(..))), "the second run dies of its sink: {died:?}");
    database.has().context("the second run commits")
}

/// How long it takes to commit what comes behind epoch `has`; then it dies.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn first_commit(place: &Place, kind: Kind, data: &Path, has: u64) -> Result<Duration> {
    let begun = Instant::now();
    let (sink, database) = Database::opened(Some(has), End::Refuse(has + 1));
    let died = run(place, kind, data, sink, Arc::default())?;
    let refused = database.refused().with_context(|| format!("nothing was committed: {died:?}"))?;
    Ok(refused - begun)
}

fn run(
    place: &Place,
    kind: Kind,
    data: &Path,
    sink: Box<dyn Sink>,
    stop: Arc<AtomicBool>,
) -> Result<Result<Report, RunError>> {
    static RUN: AtomicU64 = AtomicU64::new(1);
    let plan = plan(place)?;
    let sink = ExtraSink { name: "database".to_owned(), stream: "features".to_owned(), sink };
    let graph = of_kind(plan.graph_of(vec![sink])?, kind);
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: data.to_owned(),
        snapshot_interval: NEVER,
        snapshots_kept: 3,
        journal_limit_bytes: 4 << 30,
        journal_segment_bytes: 16 << 20,
        journal_keep_ns: 0,
        identity: plan.identity(),
        on_change: OnChange::Refuse,
        bounded: true,
    };
    let options = Options {
        workers: place.workers,
        run: RunId(RUN.fetch_add(1, Ordering::Relaxed)),
        stop,
        durable: Some(Arc::new(durable)),
        ..Options::default()
    };
    Ok(foreline_engine::run(graph, &options))
}

fn plan(place: &Place) -> Result<Plan> {
    let text = format!(
        "version: 1
sources:
  readings:
    csv: {{ path: '{}' }}
    columns: {{ ts: timestamp, machine: string, vibration: float64, temperature: float64, pressure: float64 }}
    key: [machine]
    time: ts
    lateness: 2s
steps:
  smooth: {{ from: readings, ema: {{ columns: [vibration, temperature, pressure], half_life: 30s }} }}
  features:
    from: smooth
    window:
      tumbling: 1m
      features: {{ vibration: [mean, rms, kurtosis], temperature: [mean, slope], pressure: [min, max] }}
sinks:
  lake: {{ from: features, parquet: {{ path: lake }} }}
",
        place.csv().display()
    );
    let options = PlanOptions {
        checking: false,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: place.folder.join("cache"),
    };
    let file = place.folder.join("recovery.yaml");
    let checked = check_text(&file, &text, &Kinds::all(), &ProcessEnvironment, &options);
    checked.plan.with_context(|| checked.diagnostics.render(RenderStyle::PLAIN).to_string())
}

/// The graph with a source that can send again, or cannot.
fn of_kind(graph: Graph, kind: Kind) -> Graph {
    let of_kind = |node: SourceNode| match kind {
        Kind::Payload => SourceNode { source: Box::new(Once(node.source)), ..node },
        Kind::Range => node,
    };
    Graph { sources: graph.sources.into_iter().map(of_kind).collect(), ..graph }
}

/// A source of which the journal keeps what it sent.
struct Once(Box<dyn Source>);

impl Source for Once {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        self.0.poll(budget_bytes)
    }

    fn read(&mut self, _: Partition, _: Range) -> Result<Chunk, SourceError> {
        Err(SourceError::Io("it does not send again".to_owned()))
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        self.0.durable(partition, upto);
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        self.0.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.0.partition_name(partition)
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.0.identity(partition)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.0.resume(known)
    }
}

/// When a run ends.
#[derive(Debug)]
enum End {
    /// It is stopped once this epoch is committed.
    Stop(u64, Arc<AtomicBool>),
    /// The commit of this epoch is refused.
    Refuse(u64),
}

/// What a database has, whoever writes to it.
#[derive(Debug, Default)]
struct Has {
    epoch: Option<u64>,
    refused: Option<Instant>,
}

/// A handle on what a [`Database`] has.
#[derive(Debug, Clone, Default)]
struct Shown(Arc<Mutex<Has>>);

impl Shown {
    fn has(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).epoch
    }

    fn refused(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

/// A sink that commits every epoch and keeps no row.
struct Database {
    shown: Shown,
    end: End,
}

impl Database {
    fn opened(epoch: Option<u64>, end: End) -> (Box<dyn Sink>, Shown) {
        let shown = Shown(Arc::new(Mutex::new(Has { epoch, refused: None })));
        (Box::new(Database { shown: shown.clone(), end }), shown)
    }
}

impl Sink for Database {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(self.shown.has())
    }

    fn write(&mut self, _: u64, _: &[Batch]) -> Result<(), SinkError> {
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut has = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.end {
            End::Refuse(epoch) if upto >= *epoch => {
                has.refused.get_or_insert_with(Instant::now);
                return Err(SinkError::Fatal("the benchmark ends the run here".to_owned()));
            }
            End::Stop(epoch, stop) if upto >= *epoch => stop.store(true, Ordering::Release),
            End::Refuse(_) | End::Stop(..) => {}
        }
        has.epoch = Some(upto);
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        true
    }
}
