//! A source of many objects, each read once and known for ever: what that costs in the data directory, and that a run
//! which goes on knows every one of them.
//!
//! `FORELINE_OBJECTS` sets how many there are, for figures; the test prints the bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use foreline_engine::{
    AppendFile, Batch, Chunk, Clock, Column, Committed, Decoded, Decoder, Disk, Durable, Front,
    Graph, Identity, KnownPartition, OnChange, Options, OrderRules, Partition, Poll, Position,
    Range, ReadUpTo, Replay, RunId, Schedule, Schema, SimDisk, Sink, SinkError, SinkNode, Source,
    SourceError, SourceNode, StreamId, simulate,
};

/// A segment of the journal is small, so that there are many.
const SEGMENT_BYTES: u64 = 64 << 10;

fn name_of(object: u32) -> String {
    format!("readings/2026/03/01/machine-{object:08}.csv")
}

/// As long as a digest.
fn identity_of(object: u32) -> Vec<u8> {
    [object.to_be_bytes(); 8].concat()
}

/// A bucket that is read in order, one record an object.
struct Bucket {
    objects: u32,
    next: u32,
    /// How many it was told of.
    known: Arc<AtomicU64>,
}

fn chunk(object: u32) -> Chunk {
    let range = Range { start: 0, end: 100, first_ordinal: 1, end_ordinal: 2 };
    let payload = object.to_le_bytes().to_vec();
    Chunk { partition: Partition(object), range, rows: 1, payload }
}

impl Source for Bucket {
    fn replay(&self) -> Replay {
        Replay::ByRange
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        if self.next == self.objects {
            return Ok(Poll::Ended);
        }
        self.next += 1;
        Ok(Poll::Ready(chunk(self.next - 1)))
    }

    fn read(&mut self, partition: Partition, _: Range) -> Result<Chunk, SourceError> {
        Ok(chunk(partition.0))
    }

    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(Number)
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        Some(name_of(partition.0))
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        identity_of(partition.0)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        for (object, known) in (0..).zip(known) {
            let read = Some(ReadUpTo { end: 100, end_ordinal: 2 });
            let (name, identity) = (name_of(object), identity_of(object));
            let expected = KnownPartition { partition: Partition(object), name, identity, read };
            // The last ones may have been met and not read when the power went.
            assert!(*known == expected || known.read.is_none(), "{known:?}");
        }
        let read = known.iter().take_while(|k| k.read.is_some()).count();
        assert!(known[read..].iter().all(|k| k.read.is_none()), "they are read in order");
        self.next = u32::try_from(read).unwrap();
        self.known.store(known.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

struct Number;

impl Decoder for Number {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let number = u32::from_le_bytes(chunk.payload[..].try_into().unwrap());
        let machine = StringArray::from(vec![format!("m{}", number % 5)]);
        let machine = arrow::compute::cast(&machine, schema().arrow().field(0).data_type());
        let cycle = Arc::new(Int64Array::from(vec![i64::from(number)])) as ArrayRef;
        let rows =
            RecordBatch::try_new(Arc::clone(schema().arrow()), vec![machine.unwrap(), cycle]);
        out.records = 1;
        out.rows.push((rows.unwrap(), vec![Position::new(chunk.partition, 1).0].into()));
    }
}

fn schema() -> Schema {
    let columns = ["machine", "cycle"].into_iter().zip([DataType::Utf8, DataType::Int64]);
    let columns = columns.map(|(name, kind)| Column::new(name, kind)).collect();
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// How often each object was committed, and up to which epoch.
#[derive(Debug, Default)]
struct Table {
    epoch: Option<u64>,
    seen: BTreeMap<i64, u64>,
}

struct Connection(Arc<Mutex<Table>>, Vec<i64>);

impl Sink for Connection {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(self.0.lock().unwrap().epoch)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        for batch in rows {
            self.1.extend(batch.rows.column(1).as_primitive::<Int64Type>().values());
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut table = self.0.lock().unwrap();
        table.epoch = Some(upto);
        for object in self.1.drain(..) {
            *table.seen.entry(object).or_default() += 1;
        }
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        true
    }
}

/// A disk that counts what is written to journal and snapshots.
#[derive(Debug, Clone)]
struct Counting {
    disk: SimDisk,
    journal: Arc<AtomicU64>,
    snapshots: Arc<AtomicU64>,
}

impl Counting {
    fn counter(&self, path: &Path) -> Arc<AtomicU64> {
        let journal = path.components().any(|c| c.as_os_str() == "journal");
        Arc::clone(if journal { &self.journal } else { &self.snapshots })
    }
}

impl Disk for Counting {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(CountingFile(self.disk.open_append(path)?, self.counter(path))))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(path, offset, length)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.disk.len(path)
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.counter(path).fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.disk.write_whole(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.disk.truncate(path, len)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

#[derive(Debug)]
struct CountingFile(Box<dyn AppendFile>, Arc<AtomicU64>);

impl AppendFile for CountingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

#[derive(Debug, Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// Everyone in turn, until the plug is pulled.
struct InTurn {
    turn: usize,
    left: u64,
}

impl Schedule for InTurn {
    fn next(&mut self, n: usize) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        self.turn += 1;
        Some(self.turn % n)
    }
}

/// What a bucket came to.
struct World {
    disk: Counting,
    table: Arc<Mutex<Table>>,
    clock: Arc<Ticking>,
    known: Arc<AtomicU64>,
    objects: u32,
    runs: u64,
}

impl World {
    fn new(objects: u32) -> Self {
        let counters = (Arc::default(), Arc::default());
        World {
            disk: Counting { disk: SimDisk::new(9), journal: counters.0, snapshots: counters.1 },
            table: Arc::default(),
            clock: Arc::default(),
            known: Arc::default(),
            objects,
            runs: 0,
        }
    }

    /// A run of so many turns; whether it came to its end.
    fn run(&mut self, on_change: OnChange, turns: u64) -> bool {
        self.runs += 1;
        let source = Bucket { objects: self.objects, next: 0, known: Arc::clone(&self.known) };
        let graph = Graph {
            name: "bucket".to_owned(),
            sources: vec![SourceNode {
                name: "objects".to_owned(),
                schema: schema(),
                front: Front::Stream(OrderRules::default()),
                source: Box::new(source),
            }],
            steps: Vec::new(),
            views: Vec::new(),
            sinks: vec![SinkNode {
                name: "table".to_owned(),
                from: StreamId::Source(0),
                sink: Box::new(Connection(Arc::clone(&self.table), Vec::new())),
            }],
        };
        let durable = Durable {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from("/data"),
            snapshot_interval: Duration::from_millis(20),
            snapshots_kept: 2,
            journal_limit_bytes: 1 << 30,
            journal_segment_bytes: SEGMENT_BYTES,
            journal_keep_ns: 0,
            identity: Identity {
                nodes: BTreeMap::from([("objects".to_owned(), "bucket".to_owned())]),
            },
            on_change,
            bounded: true,
        };
        let options = Options {
            epoch_rows: 100,
            run: RunId(self.runs),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            durable: Some(Arc::new(durable)),
            ..Options::default()
        };
        let mut turns = InTurn { turn: 0, left: turns };
        simulate(graph, &options, &mut turns).unwrap().is_some()
    }

    fn written(&self) -> (u64, u64) {
        let bytes = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (bytes(&self.disk.journal), bytes(&self.disk.snapshots))
    }
}

#[test]
fn the_cost_of_an_object_does_not_grow_with_their_number() {
    let most = std::env::var("FORELINE_OBJECTS").ok().and_then(|n| n.parse().ok());
    let cost = |objects: u32| {
        let mut world = World::new(objects);
        assert!(world.run(OnChange::Refuse, u64::MAX));
        let (journal, snapshots) = world.written();
        println!("{objects} objects: {journal} bytes of journal, {snapshots} of snapshots");
        let each = |bytes: u64| bytes as f64 / f64::from(objects);
        (each(journal), each(snapshots))
    };
    let (few, many) = (cost(2_000), cost(most.unwrap_or(10_000)));
    assert!(many.0 < 1.2 * few.0 && many.0 < 300.0, "{few:?} {many:?}");
    assert!(many.1 < 2.0 * few.1, "{few:?} {many:?}");
}

#[test]
fn a_run_that_goes_on_knows_every_object() {
    let mut world = World::new(6_000);
    let mut deaths = 0;
    while !world.run(OnChange::Refuse, 12_000) {
        world.disk.disk.crash();
        deaths += 1;
    }
    assert!(deaths > 1 && world.known.load(Ordering::Relaxed) > 3_000, "{deaths}");
    let table = world.table.lock().unwrap();
    assert_eq!(table.seen.len(), 6_000);
    assert!(table.seen.values().all(|n| *n == 1), "each object counts once");
}

#[test]
fn computing_anew_from_the_journal_reads_no_object_that_was_read() {
    let mut world = World::new(6_000);
    assert!(!world.run(OnChange::Refuse, 20_000));
    let before = world.table.lock().unwrap().seen.len();
    assert!(before > 2_000, "the journal was trimmed by then: {before}");
    // The results begin with what the journal has; the table is another one.
    *world.table.lock().unwrap() = Table::default();
    assert!(world.run(OnChange::FromJournal, u64::MAX));
    assert!(world.known.load(Ordering::Relaxed) >= before as u64);
    let table = world.table.lock().unwrap();
    assert!(table.seen.len() < 6_000, "what was trimmed has no part in the new results");
    assert!(table.seen.values().all(|n| *n == 1) && table.seen.contains_key(&5_999));
}
