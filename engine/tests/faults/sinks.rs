//! Sinks that are away for a while, or do not say what became of a commit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use foreline_engine::{
    Batch, Chunk, Committed, Decoder, KnownPartition, MemorySource, Options, Partition, Poll,
    Position, Range, Replay, RunError, RunId, Schema, Sink, SinkError, Source, SourceError,
    StreamId, run,
};

use super::{graph, pass, rows, schema, step};

/// What happens at the next call that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing is there to open.
    Away,
    /// The rows do not get there.
    Refused,
    /// The commit is done, and the reply is lost.
    DoneUnheard,
    /// The commit is not done, and the reply is lost.
    LostUnheard,
    /// All is well.
    Fine,
}

/// A place that keeps rows and epoch in one step, and fails as it is told to.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) script: VecDeque<Then>,
    pub(crate) rows: u64,
    pub(crate) epoch: Option<u64>,
    pub(crate) opened: u64,
    pub(crate) commits: u64,
}

pub(crate) struct Scripted {
    pub(crate) place: Arc<Mutex<Place>>,
    pub(crate) waiting: u64,
    pub(crate) prompt: bool,
}

impl Scripted {
    fn new(script: &[Then], prompt: bool) -> (Self, Arc<Mutex<Place>>) {
        let place = Place { script: script.iter().copied().collect(), ..Place::default() };
        let place = Arc::new(Mutex::new(place));
        (Scripted { place: Arc::clone(&place), waiting: 0, prompt }, place)
    }
}

impl Sink for Scripted {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        let mut place = self.place.lock().unwrap();
        self.waiting = 0;
        if place.script.front() == Some(&Then::Away) {
            place.script.pop_front();
            return Err(SinkError::Retry("nobody is there".to_owned()));
        }
        place.opened += 1;
        Ok(place.epoch)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let place = self.place.lock().unwrap();
        assert!(place.epoch.is_none_or(|has| epoch > has), "epoch {epoch} is there already");
        self.waiting += rows.iter().map(|b| b.len() as u64).sum::<u64>();
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut place = self.place.lock().unwrap();
        place.commits += 1;
        let then = place.script.pop_front().unwrap_or(Then::Fine);
        if then == Then::Refused {
            return Err(SinkError::Retry("not now".to_owned()));
        }
        if then != Then::LostUnheard {
            place.rows += std::mem::take(&mut self.waiting);
            place.epoch = Some(upto);
        }
        match then {
            Then::DoneUnheard | Then::LostUnheard => Ok(Committed::Unknown),
            _ => Ok(Committed::Yes(upto)),
        }
    }

    fn full(&self) -> bool {
        !self.prompt && self.waiting >= 30
    }

    fn prompt(&self) -> bool {
        self.prompt && self.waiting > 0
    }
}

/// The report of a run over a hundred rows in ten epochs, and what the place has at its end.
fn outcome(script: &[Then], prompt: bool) -> (foreline_engine::Report, Place) {
    outcome_of(script, prompt, 8)
}

/// The same with so many epochs on their way.
fn outcome_of(
    script: &[Then],
    prompt: bool,
    epochs_in_flight: usize,
) -> (foreline_engine::Report, Place) {
    let (sink, place) = Scripted::new(script, prompt);
    let graph = graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(sink));
    let options = Options { workers: 2, epoch_rows: 10, epochs_in_flight, ..Options::default() };
    let report = run(graph, &options).unwrap();
    let place = std::mem::take(&mut *place.lock().unwrap());
    (report, place)
}

#[test]
fn every_row_is_there_once_whatever_a_commit_says() {
    use Then::{Away, DoneUnheard, Fine, LostUnheard, Refused};
    for script in [
        &[Refused, Away, Fine][..],
        &[DoneUnheard, Fine],
        &[LostUnheard, Fine],
        &[DoneUnheard, Away, LostUnheard],
        &[Fine, Refused],
    ] {
        for prompt in [false, true] {
            let (report, place) = outcome(script, prompt);
            assert_eq!((place.rows, place.epoch), (100, Some(report.epochs)), "{script:?}");
            assert_eq!(report.written["out/calm"], 100, "{script:?}");
            assert!(report.retries["out/calm"] > 0, "{script:?}");
        }
    }
}

#[test]
fn a_run_begins_without_the_sink_and_waits_for_it() {
    let (report, place) = outcome(&[Then::Away, Then::Away], false);
    assert_eq!((place.rows, report.retries["out/calm"]), (100, 2));
}

#[test]
fn rows_that_people_look_at_are_committed_as_they_come() {
    // With one epoch on its way at a time nothing ever follows an epoch for now.
    let (_, place) = outcome_of(&[], true, 1);
    assert_eq!(place.commits, 11, "ten, and one at the end");
    let (_, place) = outcome_of(&[], false, 1);
    assert_eq!(place.commits, 4, "three when it was full, one at the end");
}

#[test]
fn whoever_ends_a_run_does_not_wait_for_its_sink() {
    let (sink, place) = Scripted::new(&[Then::Away; 10_000], false);
    let graph = graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(sink));
    let stop = Arc::new(AtomicBool::new(false));
    let options = Options { epoch_rows: 10, stop: Arc::clone(&stop), ..Options::default() };
    let running = std::thread::spawn(move || run(graph, &options));
    while place.lock().unwrap().script.len() > 9_998 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Release);
    let error = running.join().unwrap().unwrap_err();
    assert!(matches!(error, RunError::Sink(_, SinkError::Retry(_))), "{error}");
    assert_eq!(place.lock().unwrap().rows, 0);
}

#[test]
fn a_sink_that_has_less_than_it_said_is_another_one() {
    struct Forgetful(u64);
    impl Sink for Forgetful {
        fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
            Ok(None)
        }
        fn write(&mut self, _: u64, _: &[Batch]) -> Result<(), SinkError> {
            Ok(())
        }
        fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
            self.0 += 1;
            if self.0 == 1 { Ok(Committed::Yes(upto)) } else { Ok(Committed::Unknown) }
        }
        fn full(&self) -> bool {
            true
        }
    }
    let graph = graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(Forgetful(0)));
    let error = run(graph, &Options { epoch_rows: 10, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("this run has committed epoch 1"), "{error}");
}

/// Ten rows at a time, and how often it was asked for them.
struct Counted(MemorySource, Arc<AtomicUsize>);

impl Source for Counted {
    fn replay(&self) -> Replay {
        self.0.replay()
    }
    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        self.1.fetch_add(1, Ordering::AcqRel);
        self.0.poll(budget_bytes)
    }
    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        self.0.read(partition, range)
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

/// However long a sink is away, only so many epochs are in memory; when it is back, all of it gets there.
#[test]
fn while_a_sink_is_away_the_sources_are_not_read() {
    const AWAY: usize = 6;
    let (sink, place) = Scripted::new(&[Then::Away; AWAY], false);
    let mut graph = graph(vec![step("calm", StreamId::Source(0), pass)], Box::new(sink));
    let polled = Arc::new(AtomicUsize::new(0));
    let memory = MemorySource::new(&schema(), &[rows(2_000)], 10).unwrap();
    graph.sources[0].source = Box::new(Counted(memory, Arc::clone(&polled)));
    let options = Options { epoch_rows: 10, epochs_in_flight: 5, ..Options::default() };
    let running = std::thread::spawn(move || run(graph, &options));
    // By the last of these attempts everybody who could go on has long done so.
    while !place.lock().unwrap().script.is_empty() {
        assert!(polled.load(Ordering::Acquire) <= 5, "more than five epochs were read");
        std::thread::yield_now();
    }
    let report = running.join().unwrap().unwrap();
    // The last epoch only says that the source has ended.
    assert_eq!((place.lock().unwrap().rows, report.epochs), (2_000, 201));
}
