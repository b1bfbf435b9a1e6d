//! Records that nobody sends again, while a sink is away: they go into the journal, and all of them get to the sink.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use foreline_engine::{
    Chunk, Decoder, Durable, Identity, KnownPartition, MemorySource, Observer, OnChange, Options,
    Partition, Poll, Position, Range, Replay, Report, RunError, RunId, SimDisk, SinkError, Source,
    SourceError, StreamId, run,
};

use super::sinks::{Place, Scripted, Then};
use super::{graph, pass, rows, schema, step};

/// Readings of a broker that forgets what was acknowledged.
struct Messages {
    inner: MemorySource,
    /// The last that was acknowledged.
    acknowledged: Arc<AtomicU64>,
    /// Whether more may come when all were handed out.
    goes_on: bool,
}

impl Source for Messages {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }
    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        match self.inner.poll(budget_bytes)? {
            Poll::Ended if self.goes_on => Ok(Poll::Pending),
            other => Ok(other),
        }
    }
    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        self.inner.read(partition, range)
    }
    fn durable(&mut self, _: Partition, upto: Position) {
        self.acknowledged.store(upto.ordinal(), Ordering::Release);
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

/// A data directory, a place for rows that nobody can reach yet, and what was acknowledged.
struct World {
    disk: SimDisk,
    place: Arc<Mutex<Place>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Whether the run is to stop when its next epoch is through.
    stop_after_next: Arc<AtomicBool>,
    journal_limit_bytes: u64,
}

/// Stops a run when an epoch is through, if it is asked to.
#[derive(Debug)]
struct Stopping {
    asked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Observer for Stopping {
    fn epoch(&self, _: u64, _: &Report) {
        if self.asked.load(Ordering::Acquire) {
            self.stop.store(true, Ordering::Release);
        }
    }
}

impl World {
    fn new(journal_limit_bytes: u64) -> Self {
        let place = Place { script: [Then::Away; 10_000].into(), ..Place::default() };
        let (disk, place) = (SimDisk::new(1), Arc::new(Mutex::new(place)));
        let (acknowledged, stop, stop_after_next) = Default::default();
        World { disk, place, acknowledged, stop, stop_after_next, journal_limit_bytes }
    }

    /// A run over the first `n` readings, ten an epoch, of which almost none is kept in memory.
    fn run(&self, number: u64, n: i64, goes_on: bool) -> JoinHandle<Result<Report, RunError>> {
        let sink = Scripted { place: Arc::clone(&self.place), waiting: 0, prompt: false };
        let mut graph = graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(sink));
        let inner = MemorySource::new(&schema(), &[rows(n)], 10).unwrap();
        let acknowledged = Arc::clone(&self.acknowledged);
        graph.sources[0].source = Box::new(Messages { inner, acknowledged, goes_on });
        let durable = Durable {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from("/data"),
            snapshot_interval: Duration::from_millis(5),
            snapshots_kept: 2,
            journal_limit_bytes: self.journal_limit_bytes,
            journal_keep_ns: 0,
            journal_segment_bytes: 20_000,
            identity: Identity::default(),
            on_change: OnChange::Refuse,
            bounded: false,
        };
        let options = Options {
            epoch_rows: 10,
            epochs_in_flight: 3,
            backlog_bytes: 5_000,
            run: RunId(number),
            stop: Arc::clone(&self.stop),
            observer: Some(Arc::new(Stopping {
                asked: Arc::clone(&self.stop_after_next),
                stop: Arc::clone(&self.stop),
            })),
            durable: Some(Arc::new(durable)),
            ..Options::default()
        };
        std::thread::spawn(move || run(graph, &options))
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    fn rows(&self) -> u64 {
        self.place.lock().unwrap().rows
    }

    /// Waits until so many are acknowledged; not one of them is where it belongs.
    fn until_acknowledged(&self, n: u64) {
        while self.acknowledged() < n {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        assert_eq!(self.rows(), 0);
    }

    fn mend(&self) {
        self.place.lock().unwrap().script.clear();
    }
}

#[test]
fn while_a_sink_is_away_they_are_acknowledged_out_of_the_journal() {
    let world = World::new(64 << 20);
    let running = world.run(1, 5_000, false);
    world.until_acknowledged(5_000);
    world.mend();
    let report = running.join().unwrap().unwrap();
    assert_eq!((world.rows(), report.accounts["readings"].input), (5_000, 5_000));
}

#[test]
fn a_run_that_begins_without_the_sink_takes_more_while_it_cannot_replay() {
    let world = World::new(64 << 20);
    let running = world.run(1, 3_000, true);
    world.until_acknowledged(3_000);
    world.stop.store(true, Ordering::Release);
    let error = running.join().unwrap().unwrap_err();
    assert!(matches!(error, RunError::Sink(_, SinkError::Retry(_))), "{error}");
    world.stop.store(false, Ordering::Release);
    let running = world.run(2, 5_000, false);
    world.until_acknowledged(5_000);
    world.mend();
    running.join().unwrap().unwrap();
    assert_eq!(world.rows(), 5_000);
}

#[test]
fn a_full_journal_has_the_broker_wait_and_loses_nothing() {
    let world = World::new(200_000);
    let running = world.run(1, 5_000, false);
    world.until_acknowledged(100);
    let journal = || {
        let files = world.disk.files();
        let of = files.iter().filter(|(path, _)| path.starts_with("/data/journal"));
        of.map(|(_, bytes)| bytes.len() as u64).sum::<u64>()
    };
    while journal() < 200_000 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    // Several attempts of the sink later it is no larger than by what was on its way.
    let attempts = world.place.lock().unwrap().script.len();
    while world.place.lock().unwrap().script.len() + 2 > attempts {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(journal() < 800_000, "{} bytes", journal());
    assert!(world.acknowledged() < 5_000, "the broker was not made to wait");
    world.mend();
    running.join().unwrap().unwrap();
    assert_eq!(world.rows(), 5_000);
}

#[test]
fn a_run_that_leaves_rows_in_the_journal_was_stopped_though_its_source_has_ended() {
    let world = World::new(64 << 20);
    let running = world.run(1, 3_000, false);
    world.until_acknowledged(3_000);
    world.stop_after_next.store(true, Ordering::Release);
    world.mend();
    let report = running.join().unwrap().unwrap();
    assert!(report.accounts["readings"].input < 3_000, "{report:?}");
    assert!(report.stopped, "{report:?}");
}
