//! A pipeline in one thread on a disk that forgets: whatever is scheduled, torn or lost, every acknowledged reading is
//! in the result exactly once.
//!
//! One seed is one run of the world: the order of turns, the faults of the disk, when the power goes, what the database
//! does. A seed that fails says so and is tried again with `FORELINE_SEED=<seed> cargo test -p foreline-engine --test
//! recovery`. `FORELINE_SEEDS` sets how many there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};
use foreline_engine::{
    Account, Batch, Chunk, Clock, Column, Committed, Decoded, Decoder, Durable, Epoch, Fault,
    Front, Graph, Identity, Input, Keyed, KnownPartition, LateSupport, OnChange, Operator, Options,
    OrderRules, Out, Partition, Planned, Poll, Position, Range, Relation, Replay, Report, RunError,
    RunId, Schedule, Schema, ShardSet, SimDisk, Sink, SinkError, SinkNode, Source, SourceError,
    SourceNode, StepNode, StreamId, ViewKind, ViewNode, latest, simulate,
};

/// A small generator, so that a seed is all there is to a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A reading: machine, cycle, value; the value follows from the rest.
type Reading = (u64, i64, f64);

fn value_of(machine: u64, cycle: i64) -> f64 {
    (machine * 1000) as f64 + (cycle % 97) as f64 / 8.0
}

/// A broker that delivers what was not acknowledged, again after every reconnect.
#[derive(Debug, Default)]
struct Broker {
    readings: Vec<Reading>,
    acknowledged: BTreeSet<usize>,
}

/// A connection to the broker. It keeps nothing that the next connection could use.
struct Subscription {
    broker: Arc<Mutex<Broker>>,
    /// Readings that this connection has still to deliver.
    queue: Vec<usize>,
    /// The reading of each ordinal that this connection gave out.
    given: BTreeMap<u64, usize>,
    next_ordinal: u64,
    replay: Replay,
    dice: Dice,
}

impl Subscription {
    fn new(broker: &Arc<Mutex<Broker>>, replay: Replay, dice: Dice) -> Self {
        let state = broker.lock().unwrap();
        let mut queue: Vec<usize> = (0..state.readings.len())
            .filter(|i| replay == Replay::ByRange || !state.acknowledged.contains(i))
            .collect();
        queue.reverse();
        let (given, next_ordinal) = (BTreeMap::new(), 1);
        Subscription { broker: Arc::clone(broker), queue, given, next_ordinal, replay, dice }
    }

    fn payload(&self, readings: &[usize]) -> Vec<u8> {
        let state = self.broker.lock().unwrap();
        let lines = readings.iter().map(|&i| {
            let (machine, cycle, value) = state.readings[i];
            format!("{machine},{cycle},{value}\n")
        });
        lines.collect::<String>().into_bytes()
    }
}

impl Source for Subscription {
    fn replay(&self) -> Replay {
        self.replay
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        if self.queue.is_empty() {
            return Ok(Poll::Ended);
        }
        if self.dice.one_in(3) {
            return Ok(Poll::Pending);
        }
        let n = usize::try_from(1 + self.dice.below(7)).unwrap().min(self.queue.len());
        let readings: Vec<usize> =
            self.queue.split_off(self.queue.len() - n).into_iter().rev().collect();
        let start = self.next_ordinal;
        for reading in &readings {
            self.given.insert(self.next_ordinal, *reading);
            self.next_ordinal += 1;
        }
        let end = self.next_ordinal;
        let range = Range { start, end, first_ordinal: start, end_ordinal: end };
        let payload = self.payload(&readings);
        Ok(Poll::Ready(Chunk { partition: Partition(0), range, rows: readings.len(), payload }))
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        assert_eq!(self.replay, Replay::ByRange, "a broker cannot be read again");
        let all = (range.start..range.end).map(|o| usize::try_from(o - 1).unwrap());
        let payload = self.payload(&all.collect::<Vec<_>>());
        let rows = usize::try_from(range.end - range.start).unwrap();
        Ok(Chunk { partition, range, rows, payload })
    }

    fn durable(&mut self, _: Partition, upto: Position) {
        let upto: Vec<usize> = self.given.range(..=upto.ordinal()).map(|(_, i)| *i).collect();
        self.broker.lock().unwrap().acknowledged.extend(upto);
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(Lines)
    }

    fn partition_name(&self, _: Partition) -> Option<String> {
        Some("broker".to_owned())
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        b"broker".to_vec()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].identity, b"broker");
        if let Some(read) = known[0].read {
            self.next_ordinal = read.end_ordinal;
            if self.replay == Replay::ByRange {
                let left = self.queue.len() + 1 - usize::try_from(read.end).unwrap();
                self.queue.truncate(left);
            }
        }
        Ok(())
    }
}

struct Lines;

impl Decoder for Lines {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let text = std::str::from_utf8(&chunk.payload).unwrap();
        let (mut machines, mut cycles, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            let fields: Vec<&str> = line.split(',').collect();
            machines.push(format!("m{}", fields[0]));
            cycles.push(fields[1].parse::<i64>().unwrap());
            values.push(fields[2].parse::<f64>().unwrap());
        }
        out.records = machines.len() as u64;
        let machines = StringArray::from(machines);
        let machines = arrow::compute::cast(&machines, schema().arrow().field(0).data_type());
        let columns: Vec<ArrayRef> = vec![
            machines.unwrap(),
            Arc::new(Int64Array::from(cycles)),
            Arc::new(Float64Array::from(values)),
        ];
        let rows = RecordBatch::try_new(Arc::clone(schema().arrow()), columns).unwrap();
        let ordinals = chunk.range.first_ordinal..chunk.range.end_ordinal;
        let position = ordinals.map(|o| Position::new(chunk.partition, o).0);
        out.rows.push((rows, position.collect::<Vec<_>>().into()));
    }
}

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// The sum of all values of a machine so far, for each reading.
struct RunningSum(Keyed<f64>);

impl Operator for RunningSum {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let rows = inputs[0].rows;
        let schema = schema();
        let values = rows.rows.column(2).as_primitive::<Float64Type>();
        let mut sums = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let slot = self.0.slot(rows, schema.key(), row, || 0.0)?;
            let sum = self.0.get_mut(slot);
            *sum += values.value(row);
            sums.push(*sum);
        }
        let columns = vec![
            Arc::clone(rows.rows.column(0)),
            Arc::clone(rows.rows.column(1)),
            Arc::new(Float64Array::from(sums)) as ArrayRef,
        ];
        out.count(Account { used: rows.len() as u64, ..Account::default() });
        out.emit(rows.with_columns(schema.arrow(), columns)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.0.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.0.save(shard)
    }

    fn load(&mut self, _: u8, _: u32, state: RecordBatch) -> Result<(), Fault> {
        self.0.load(&state)
    }
}

/// A database that keeps rows and epoch in one transaction.
#[derive(Debug, Default)]
struct Database {
    /// So many attempts find nobody there.
    away: u64,
    run: Option<RunId>,
    generation: u64,
    epoch: Option<u64>,
    rows: Vec<(String, i64, f64)>,
    /// Of a table that is kept like a view: revision and row, which is gone where there is none.
    kept: BTreeMap<String, (u32, Option<(i64, f64)>)>,
    /// The latest time of a change.
    changed_ns: i64,
}

/// A row of a table that is kept like a view: machine, revision, when it changed, cycle and value, and whether it is gone.
type Revised = (String, u32, i64, (i64, f64), bool);

/// A connection to the database.
struct Table {
    database: Arc<Mutex<Database>>,
    run: RunId,
    waiting: Vec<(String, i64, f64)>,
    revised: Vec<Revised>,
    dice: Dice,
    faults: bool,
}

impl Sink for Table {
    fn open(&mut self, run: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        let mut database = self.database.lock().unwrap();
        if database.away > 0 {
            database.away -= 1;
            return Err(SinkError::Retry("nobody is there".to_owned()));
        }
        // A run that fails opens it again; what it had not committed is gone.
        assert!(database.run.is_none_or(|before| before <= run), "no run has a smaller number");
        self.waiting.clear();
        self.revised.clear();
        database.run = Some(run);
        self.run = run;
        if database.generation != generation {
            // Everything is computed anew, and takes the place of what was there.
            (database.generation, database.epoch) = (generation, None);
            database.rows.clear();
            database.kept.clear();
            database.changed_ns = 0;
        }
        Ok(database.epoch)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        for batch in rows {
            let machines = arrow::compute::cast(batch.rows.column(0), &DataType::Utf8).unwrap();
            let machines = machines.as_string::<i32>();
            let cycles = batch.rows.column(1).as_primitive::<Int64Type>();
            let sums = batch.rows.column(2).as_primitive::<Float64Type>();
            for row in 0..batch.len() {
                let machine = machines.value(row).to_owned();
                if let (Some(revision), Some(deleted)) = (&batch.revision, &batch.deleted) {
                    let values = (cycles.value(row), sums.value(row));
                    let (revision, gone) = (revision.value(row), deleted.value(row));
                    let changed = batch.rows.column(3).as_primitive::<TimestampNanosecondType>();
                    self.revised.push((machine, revision, changed.value(row), values, gone));
                    continue;
                }
                self.waiting.push((machine, cycles.value(row), sums.value(row)));
            }
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut database = self.database.lock().unwrap();
        assert_eq!(database.run, Some(self.run), "there is one run at a time");
        if self.dice.one_in(30) {
            // What is read meanwhile must wait in the journal.
            database.away = self.dice.below(4);
            return Err(SinkError::Retry("it has gone away".to_owned()));
        }
        if self.faults && self.dice.one_in(40) {
            return Err(SinkError::Retry("the connection was cut".to_owned()));
        }
        if database.epoch.is_none_or(|has| has < upto) {
            database.epoch = Some(upto);
            let waiting = std::mem::take(&mut self.waiting);
            database.rows.extend(waiting);
            for (machine, revision, changed_ns, row, gone) in std::mem::take(&mut self.revised) {
                assert!(
                    database.changed_ns <= changed_ns,
                    "times of changes go on, whatever the clock does"
                );
                database.changed_ns = changed_ns;
                let kept = database.kept.entry(machine).or_default();
                assert!(kept.0 < revision, "a revision is one of an epoch that it does not have");
                *kept = (revision, (!gone).then_some(row));
            }
        }
        // The transaction is there, but nobody hears of it.
        if self.faults && self.dice.one_in(40) {
            return Ok(Committed::Unknown);
        }
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        self.waiting.len() > 40
    }
}

/// Time that goes on by itself.
#[derive(Debug, Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// Turns at random, until the plug is pulled.
struct Turns {
    dice: Dice,
    left: Option<u64>,
}

impl Schedule for Turns {
    fn next(&mut self, n: usize) -> Option<usize> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some(usize::try_from(self.dice.below(n as u64)).unwrap())
    }
}

/// One run of the world.
struct World {
    dice: Dice,
    disk: SimDisk,
    broker: Arc<Mutex<Broker>>,
    database: Arc<Mutex<Database>>,
    /// The table that is kept like the view of the greatest sums.
    mirror: Arc<Mutex<Database>>,
    /// One world in eight has views: they take ten times as many turns.
    has_views: bool,
    /// The view of the last run.
    view: Option<Arc<foreline_engine::Table>>,
    clock: Arc<Ticking>,
    replay: Replay,
    run: u64,
    /// The last run was to end with the power going.
    power_goes: bool,
    /// The turns of the next run.
    pull_after: Option<Turns>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let n_machines = 1 + dice.below(6);
        let n_readings = 20 + dice.below(300);
        let mut readings: Vec<Reading> = Vec::new();
        for i in 0..n_readings {
            let machine = dice.below(n_machines);
            let cycle = i64::try_from(i).unwrap();
            readings.push((machine, cycle, value_of(machine, cycle)));
        }
        // Neighbours change places, within the lateness.
        for i in 1..readings.len() {
            if dice.one_in(4) {
                readings.swap(i - 1, i);
            }
        }
        let has_views = dice.one_in(8);
        let replay = if dice.one_in(3) { Replay::ByRange } else { Replay::ByPayload };
        let disk = SimDisk::new(dice.roll());
        World {
            dice,
            disk,
            broker: Arc::new(Mutex::new(Broker { readings, acknowledged: BTreeSet::new() })),
            database: Arc::default(),
            mirror: Arc::default(),
            has_views,
            view: None,
            clock: Arc::default(),
            replay,
            run: 0,
            power_goes: false,
            pull_after: None,
        }
    }

    /// A run; `faults` says whether anything may go wrong. Whether it came to its end.
    fn run(&mut self, faults: bool) -> Result<Option<Report>, RunError> {
        self.run_as("sum", OnChange::Refuse, faults)
    }

    /// A run whose step is configured as `config`.
    fn run_as(
        &mut self,
        config: &str,
        on_change: OnChange,
        faults: bool,
    ) -> Result<Option<Report>, RunError> {
        self.run += 1;
        if faults && self.dice.one_in(3) {
            // Somebody sets the clock, back or on.
            self.clock
                .0
                .store(i64::try_from(self.dice.below(2_000_000_000)).unwrap(), Ordering::Relaxed);
        }
        let mut table = |database: &Arc<Mutex<Database>>| Table {
            database: Arc::clone(database),
            run: RunId(0),
            waiting: Vec::new(),
            revised: Vec::new(),
            dice: Dice(self.dice.roll()),
            faults,
        };
        let (table, mirror) = (table(&self.database), table(&self.mirror));
        let relation = Relation::of_latest(&schema(), 1).unwrap();
        let greatest = ViewKind::Top { of: 0, within: Vec::new(), order: vec![(2, true)], n: 3 };
        let views = vec![
            ViewNode::new("latest", relation.clone(), ViewKind::Standing(StreamId::Step(1))),
            ViewNode::new("greatest", relation, greatest),
        ];
        self.view = Some(Arc::clone(&views[1].table));
        let source = Subscription::new(&self.broker, self.replay, Dice(self.dice.roll()));
        let order = OrderRules {
            lateness: 30,
            dedupe: vec![0, 1],
            dedupe_within: 10_000,
            ..OrderRules::default()
        };
        let step = Planned {
            output: schema(),
            late: LateSupport::Refuses("this test has no late rows"),
            state_version: 1,
            build: Arc::new(|_| Ok(Box::new(RunningSum(Keyed::new(&schema()))))),
            notes: Vec::new(),
            depends_on: Vec::new(),
        };
        let graph = Graph {
            name: "world".to_owned(),
            sources: vec![SourceNode {
                name: "readings".to_owned(),
                schema: schema(),
                front: Front::Stream(order),
                source: Box::new(source),
            }],
            steps: vec![
                StepNode {
                    name: "sum".to_owned(),
                    kind: "sum",
                    inputs: vec![StreamId::Source(0)],
                    planned: step,
                    rekeyed: false,
                },
                StepNode {
                    name: "latest".to_owned(),
                    kind: "latest",
                    inputs: vec![StreamId::Step(0)],
                    planned: latest(&schema(), 1, None),
                    rekeyed: false,
                },
            ],
            views,
            sinks: vec![
                SinkNode {
                    name: "table".to_owned(),
                    from: StreamId::Step(0),
                    sink: Box::new(table),
                },
                SinkNode {
                    name: "mirror".to_owned(),
                    from: StreamId::View(1),
                    sink: Box::new(mirror),
                },
            ],
        };
        let mut graph = graph;
        if !self.has_views {
            graph.views.clear();
            graph.sinks.truncate(1);
            graph.steps.truncate(1);
        }
        let durable = Durable {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from("/data"),
            snapshot_interval: Duration::from_millis(50),
            snapshots_kept: 2,
            journal_limit_bytes: 1 << 20,
            journal_keep_ns: 0,
            journal_segment_bytes: 2_000,
            identity: Identity {
                nodes: BTreeMap::from([
                    ("readings".to_owned(), "broker".to_owned()),
                    ("sum".to_owned(), config.to_owned()),
                    ("latest".to_owned(), String::new()),
                ]),
            },
            on_change,
            // What was acknowledged does not come again, so such a pipeline never begins anew by itself.
            bounded: self.replay == Replay::ByRange,
        };
        let options = Options {
            epoch_rows: usize::try_from(1 + self.dice.below(30)).unwrap(),
            epoch_interval: Duration::from_millis(5),
            epochs_in_flight: usize::try_from(1 + self.dice.below(8)).unwrap(),
            backlog_bytes: [0, 2_000, 64 << 20][usize::try_from(self.dice.below(3)).unwrap()],
            run: RunId(self.run),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            stop: Arc::new(AtomicBool::new(false)),
            durable: Some(Arc::new(durable)),
            ..Options::default()
        };
        let mut turns = Turns { dice: Dice(self.dice.roll()), left: None };
        if faults {
            turns.left = Some(self.dice.below(1_500));
            let fault = self.dice.below(6);
            self.power_goes = fault == 0;
            match fault {
                0 => self.disk.crash_nth(self.dice.below(300)),
                1 => self.disk.fail_nth(self.dice.below(300)),
                2 => self.disk.limit(Some(self.dice.below(20_000))),
                _ => {}
            }
        }
        let mut turns = self.pull_after.take().unwrap_or(turns);
        simulate(graph, &options, &mut turns)
    }

    /// What must be in the table: the running sums of all readings in order.
    fn expected(&self) -> Vec<(String, i64, f64)> {
        let mut readings = self.broker.lock().unwrap().readings.clone();
        readings.sort_by_key(|r| (r.0, r.1));
        let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
        let sum = |(machine, cycle, value): Reading| {
            let sum = sums.entry(machine).or_default();
            *sum += value;
            (format!("m{machine}"), cycle, *sum)
        };
        readings.into_iter().map(sum).collect()
    }
}

/// The three greatest sums of the last readings, from what must be in the table.
fn greatest(expected: &[(String, i64, f64)]) -> BTreeMap<String, (i64, f64)> {
    let last: BTreeMap<&String, (i64, f64)> =
        expected.iter().map(|(machine, cycle, sum)| (machine, (*cycle, *sum))).collect();
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_by(|a, b| b.1.1.total_cmp(&a.1.1).then_with(|| a.0.cmp(b.0)));
    last.into_iter().take(3).map(|(machine, row)| (machine.clone(), row)).collect()
}

/// What is wrong with the view at the end, and with the table that is kept like it.
fn check_view(world: &World, expected: &[(String, i64, f64)]) -> Result<(), String> {
    let want = greatest(expected);
    let view = world.view.as_ref().ok_or("there was a run")?.all().map_err(|e| e.to_string())?;
    let machines = view.rows.column(0).as_string::<i32>();
    let cycles = view.rows.column(1).as_primitive::<Int64Type>();
    let sums = view.rows.column(2).as_primitive::<Float64Type>();
    let row = |r| (machines.value(r).to_owned(), (cycles.value(r), sums.value(r)));
    let found: BTreeMap<_, _> = (0..view.rows.num_rows()).map(row).collect();
    if found != want {
        return Err(format!("the view has {found:?}, not {want:?}"));
    }
    let kept = &world.mirror.lock().unwrap().kept;
    let kept: BTreeMap<_, _> =
        kept.iter().filter_map(|(machine, (_, row))| Some((machine.clone(), (*row)?))).collect();
    if kept != want {
        return Err(format!("the table kept like the view has {kept:?}, not {want:?}"));
    }
    Ok(())
}

/// Lives through faults, then without any to the end; what is wrong with the result.
fn live(seed: u64) -> Result<u64, String> {
    let mut world = World::new(seed);
    let n_faults = world.dice.below(6);
    let mut ended = false;
    for _ in 0..n_faults {
        match world.run(true) {
            Ok(None) => {}
            Ok(Some(_)) => {
                ended = true;
                break;
            }
            Err(error) => check_error(&error)?,
        }
        // Where the power stays, only the process dies: what it wrote is there, synced or not.
        if world.power_goes || world.dice.one_in(2) {
            world.disk.crash();
        } else {
            world.disk.limit(None);
            world.disk.fail_nth(u64::MAX / 2);
        }
        let acknowledged = world.broker.lock().unwrap().acknowledged.len();
        let rows = world.database.lock().unwrap().rows.len();
        if rows > world.broker.lock().unwrap().readings.len() {
            return Err(format!("{rows} rows, {acknowledged} acknowledged"));
        }
    }
    if !ended {
        let report = world.run(false).map_err(|e| format!("after the faults: {e}"))?;
        let report = report.ok_or("nobody pulled the plug")?;
        for (name, account) in &report.accounts {
            if !account.balances() || account.in_flight != 0 {
                return Err(format!("'{name}' does not account for every row: {account:?}"));
            }
        }
    }
    let mut rows = std::mem::take(&mut world.database.lock().unwrap().rows);
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let expected = world.expected();
    if rows != expected {
        let lost = expected.iter().filter(|r| !rows.contains(r)).count();
        let strange = rows.iter().filter(|r| !expected.contains(r)).count();
        return Err(format!(
            "{} rows of {}: {lost} lost or wrong, {strange} that must not be there",
            rows.len(),
            expected.len()
        ));
    }
    if world.has_views {
        check_view(&world, &expected)?;
    }
    Ok(n_faults)
}

/// Errors that a fault may bring about. Anything else is a mistake.
fn check_error(error: &RunError) -> Result<(), String> {
    match error {
        RunError::Journal(_) => Ok(()),
        RunError::Snapshot(_) => Ok(()),
        RunError::Engine(text) if text.contains("data directory cannot be used") => Ok(()),
        other => Err(format!("a fault led to: {other}")),
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("FORELINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FORELINE_SEEDS").unwrap_or(2_000),
    };
    let (mut n_runs, mut failed) = (0, Vec::new());
    for seed in seeds.clone() {
        let lived = std::panic::catch_unwind(|| live(seed));
        match lived.unwrap_or_else(|_| Err("a panic".to_owned())) {
            Ok(faults) => n_runs += faults,
            Err(what) => failed.push(format!("seed {seed}: {what}")),
        }
    }
    println!("{} seeds, {n_runs} runs with faults", seeds.end - seeds.start);
    assert!(
        failed.is_empty(),
        "{} seeds failed; FORELINE_SEED=<seed> cargo test -p foreline-engine --test recovery\n{}",
        failed.len(),
        failed.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// A world of files that was stopped in the middle, with a snapshot and rows in the table.
fn stopped() -> World {
    for seed in 0.. {
        let mut world = World::new(seed);
        world.replay = Replay::ByRange;
        let turns = Turns { dice: Dice(seed), left: Some(200 + seed % 10 * 100) };
        world.pull_after = Some(turns);
        if world.run(false).unwrap().is_some() {
            continue;
        }
        let snapshots = PathBuf::from("/data/snapshots");
        let has_snapshot = world.disk.files().keys().any(|path| {
            path.starts_with(&snapshots) && path.extension().is_some_and(|e| e == "json")
        });
        if has_snapshot && !world.database.lock().unwrap().rows.is_empty() {
            return world;
        }
    }
    unreachable!("some seed stops in the middle")
}

impl World {
    fn rows(&self) -> Vec<(String, i64, f64)> {
        let mut rows = self.database.lock().unwrap().rows.clone();
        rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        rows
    }
}

#[test]
fn a_changed_pipeline_is_named_and_begins_nothing() {
    let mut world = stopped();
    let before = world.rows();
    let error = world.run_as("another sum", OnChange::Refuse, false).unwrap_err();
    let RunError::Changed { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences, &["- sum: sum", "+ sum: another sum"]);
    for choice in ["--migrate", "--from-journal", "--fresh"] {
        assert!(error.to_string().contains(choice), "{error}");
    }
    assert_eq!(world.rows(), before);
    // As it was, it goes on.
    world.run(false).unwrap().unwrap();
    assert_eq!(world.rows(), world.expected());
}

#[test]
fn a_migrated_pipeline_keeps_the_state_of_what_has_not_changed() {
    let mut world = stopped();
    world.run_as("another sum", OnChange::Migrate, false).unwrap().unwrap();
    let (rows, expected) = (world.rows(), world.expected());
    // The source's step was kept: no reading is lost and none is there twice. The sum began anew.
    let keys = |rows: &[(String, i64, f64)]| -> Vec<(String, i64)> {
        rows.iter().map(|r| (r.0.clone(), r.1)).collect()
    };
    assert_eq!(keys(&rows), keys(&expected));
    assert_ne!(rows, expected);
}

#[test]
fn a_fresh_start_and_one_from_the_journal_compute_everything_anew() {
    for choice in [OnChange::Fresh, OnChange::FromJournal] {
        let mut world = stopped();
        world.run_as("another sum", choice, false).unwrap().unwrap();
        let (rows, expected) = (world.rows(), world.expected());
        if choice == OnChange::Fresh {
            assert_eq!(rows, expected);
        }
        // The journal may have been trimmed: then the new results begin where it begins.
        assert!(rows.len() <= expected.len() && !rows.is_empty());
        assert_eq!(rows.last().map(|r| (&r.0, r.1)), expected.last().map(|r| (&r.0, r.1)));
    }
}
