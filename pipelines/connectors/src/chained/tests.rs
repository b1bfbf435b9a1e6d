//! Backfill, then live, through the engine: in order, nothing lost, nothing twice.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Batch, Column, Committed, Durable, Expression, ExpressionError, Front, Graph, Identity,
    OnChange, Options, OrderRules, RealDisk, Report, RunId, Schema, Sink, SinkError, SinkNode,
    SourceNode, StreamId, parse_config, run,
};
use serde_json::json;

use super::*;
use crate::kind::{ColumnConfig, SourceInputs};

struct Here(PathBuf);

impl Resolver for Here {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a source has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.0.clone()
    }

    fn checking(&self) -> bool {
        false
    }
}

fn schema() -> Schema {
    let columns =
        vec![Column::new("machine", DataType::Utf8), Column::new("cycle", DataType::Int64)];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// A broker with messages of one cycle each, which forgets what is durable with us.
#[derive(Default)]
struct Broker {
    messages: VecDeque<u64>,
    durable: Vec<u64>,
}

struct Live {
    broker: Arc<Mutex<Broker>>,
    /// Where the next message stands, by this run's count.
    next: u64,
    /// Once the messages have run out, the run is to end.
    ends: bool,
}

struct LiveDecoder(Schema);

impl Decoder for LiveDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        assert!(chunk.partition.0 < LIVE, "it is told its own numbers");
        let cycle = i64::from_le_bytes(chunk.payload[..8].try_into().unwrap());
        let machine: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let machine = cast(&machine, self.0.arrow().field(0).data_type()).unwrap();
        let columns = vec![machine, Arc::new(Int64Array::from(vec![cycle])) as ArrayRef];
        let rows = RecordBatch::try_new(Arc::clone(self.0.arrow()), columns).unwrap();
        let position = Position::new(chunk.partition, chunk.range.first_ordinal);
        out.rows.push((rows, UInt64Array::from(vec![position.0])));
        out.records += 1;
    }
}

impl Source for Live {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cycle) = broker.messages.pop_front() else {
            return Ok(if self.ends { Poll::Ended } else { Poll::Pending });
        };
        self.next += 1;
        let range = Range {
            start: self.next,
            end: self.next + 1,
            first_ordinal: self.next,
            end_ordinal: self.next + 1,
        };
        let payload = cycle.to_le_bytes().to_vec();
        Ok(Poll::Ready(Chunk { partition: Partition(0), range, rows: 1, payload }))
    }

    fn read(&mut self, _: Partition, _: Range) -> Result<Chunk, SourceError> {
        unreachable!("its payloads are journaled")
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        assert_eq!((partition, upto.partition()), (Partition(0), Partition(0)));
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        broker.durable.push(upto.ordinal());
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(LiveDecoder(schema()))
    }

    fn partition_name(&self, _: Partition) -> Option<String> {
        Some("live".to_owned())
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        Vec::new()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let read = known.iter().filter_map(|k| k.read).map(|r| r.end_ordinal).max();
        self.next = read.map_or(0, |end| end - 1);
        Ok(())
    }
}

/// A history that has nothing more at hand until it is let go on.
struct Slow {
    inner: Box<dyn Source>,
    go_on: Arc<AtomicBool>,
    n_given: usize,
}

impl Source for Slow {
    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        if self.n_given > 0 && !self.go_on.load(Ordering::Acquire) {
            return Ok(Poll::Pending);
        }
        self.n_given += 1;
        self.inner.poll(2_000)
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        self.inner.read(partition, range)
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        self.inner.durable(partition, upto);
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        self.inner.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.inner.partition_name(partition)
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.inner.identity(partition)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.inner.resume(known)
    }
}

/// The cycles 0 to 9999 of machine `a` in a file, more than is read at a time.
fn history(folder: &Path) -> Box<dyn Source> {
    let rows: String = (0..10_000).map(|c| format!("a,{c}\n")).collect();
    std::fs::write(folder.join("history.csv"), format!("machine,cycle\n{rows}")).unwrap();
    let history: History = parse_config(&json!({ "csv": { "path": "history.csv" } })).unwrap();
    let column = |t: &str| serde_json::from_value::<ColumnConfig>(json!({ "type": t })).unwrap();
    let columns = [("machine".to_owned(), column("string")), ("cycle".to_owned(), column("int64"))];
    let inputs = SourceInputs { columns: &columns, schema: &schema() };
    (history.plan(&inputs, &Here(folder.to_owned())).unwrap().open)().unwrap()
}

/// What a sink has, which outlives the runs.
#[derive(Default)]
struct Kept {
    committed: Option<u64>,
    written: Vec<i64>,
    cycles: Vec<i64>,
}

struct Keeping(Arc<Mutex<Kept>>);

impl Sink for Keeping {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.written.clear();
        Ok(kept.committed)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let cell = |b: &Batch, row| {
            array_value_to_string(b.rows.column(1), row).unwrap().parse::<i64>().unwrap()
        };
        let cycles = rows.iter().flat_map(|b| (0..b.len()).map(move |row| cell(b, row)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).written.extend(cycles);
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = std::mem::take(&mut kept.written);
        kept.cycles.extend(written);
        kept.committed = Some(upto);
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        false
    }
}

fn go(source: Box<dyn Source>, kept: &Arc<Mutex<Kept>>, options: &Options) -> (Report, Vec<i64>) {
    let sink = Keeping(Arc::clone(kept));
    let order = OrderRules { dedupe: vec![0, 1], dedupe_within: 100_000, ..OrderRules::default() };
    let source = SourceNode {
        name: "readings".to_owned(),
        schema: schema(),
        front: Front::Stream(order),
        source,
    };
    let sink =
        SinkNode { name: "rows".to_owned(), from: StreamId::Source(0), sink: Box::new(sink) };
    let graph = Graph {
        name: "chained".to_owned(),
        sources: vec![source],
        steps: Vec::new(),
        views: Vec::new(),
        sinks: vec![sink],
    };
    let report = run(graph, options).unwrap();
    let cycles = kept.lock().unwrap_or_else(PoisonError::into_inner).cycles.clone();
    (report, cycles)
}

fn broker(cycles: std::ops::Range<u64>) -> Arc<Mutex<Broker>> {
    Arc::new(Mutex::new(Broker { messages: cycles.collect(), durable: Vec::new() }))
}

#[test]
fn live_records_come_behind_the_history_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker(9_900..10_100);
    let live = Live { broker: Arc::clone(&broker), next: 0, ends: true };
    let slow = Slow { inner: history(folder.path()), go_on: Arc::new(true.into()), n_given: 0 };
    let chained = Box::new(Chained::new(Box::new(slow), Box::new(live)));
    let (report, cycles) =
        go(chained, &Arc::default(), &Options { epoch_rows: 50, ..Options::default() });
    assert!(cycles.iter().copied().eq(0..10_100), "{}", cycles.len());
    let account = report.accounts["readings"];
    assert_eq!((account.deduplicated, account.late, account.dead), (100, 0, 0));
}

#[test]
fn what_was_held_back_outlives_a_stop_in_the_middle_of_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker(9_950..10_050);
    let durable = Durable {
        disk: Arc::new(RealDisk),
        dir: folder.path().join("data"),
        snapshot_interval: Duration::from_millis(20),
        snapshots_kept: 2,
        journal_limit_bytes: 64 << 20,
        journal_keep_ns: 0,
        journal_segment_bytes: 4_000,
        identity: Identity::default(),
        on_change: OnChange::Refuse,
        bounded: false,
    };
    let durable = Arc::new(durable);
    let chained = |go_on: bool, ends: bool| {
        let live = Live { broker: Arc::clone(&broker), next: 0, ends };
        let go_on = Arc::new(AtomicBool::new(go_on));
        let slow = Slow { inner: history(folder.path()), go_on, n_given: 0 };
        Box::new(Chained::new(Box::new(slow), Box::new(live)))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, stopper) = (Arc::clone(&broker), Arc::clone(&stop));
    // The first run is stopped once every live record is durable, and the history has given its first chunk only.
    let watcher = std::thread::spawn(move || {
        let mut left = 12_000;
        let last = || seen.lock().unwrap_or_else(PoisonError::into_inner).durable.last().copied();
        while last() != Some(100) && left > 0 {
            left -= 1;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        stopper.store(true, Ordering::Release);
        last()
    });
    let base = Options { epoch_rows: 50, durable: Some(durable), ..Options::default() };
    let first = Options { run: RunId(1), stop, ..base.clone() };
    let kept = Arc::default();
    let (_, before) = go(chained(false, false), &kept, &first);
    assert_eq!(watcher.join().unwrap(), Some(100), "live records are durable before their turn");
    assert!(before.len() < 9_950, "{} rows before the stop", before.len());
    let second = Options { run: RunId(2), ..base };
    let (report, after) = go(chained(true, true), &kept, &second);
    assert!(after.iter().copied().eq(0..10_050), "{} rows after it", after.len());
    let account = report.accounts["readings"];
    assert_eq!((account.deduplicated, account.late), (50, 0));
}
