//! One run of a step over a table, as the engine would drive it.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Input, Operator, Out, Planned, Schema, SourceId, Watermarks,
    WorkerContext, hash_keys, shard_of, worker_of,
};

use super::table::cells;
use super::{Cell, Dice, Outcome, Saved, Table};

/// A row that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The hash of its key.
    pub hash: u64,
    /// Its event time.
    pub time: i64,
    /// Its position.
    pub position: u64,
    /// Its values.
    pub cells: Vec<Cell>,
}

/// A dead letter: event time, key, position, reason, detail.
pub type Dead = (Option<i64>, Option<String>, Option<u64>, &'static str, String);

/// How a case is run.
#[derive(Debug, Clone)]
pub struct Way {
    /// Each epoch ends before these rows, of each input; ascending.
    cuts: Vec<Vec<usize>>,
    /// Workers of each epoch. Where the number changes, or `saves` says so, state moves to fresh operators.
    workers: Vec<usize>,
    /// Whether the state moves before the epoch.
    moves: Vec<bool>,
    /// Decides which watermarks are told; `None`: none before the end.
    watermarks: Option<u64>,
}

impl Way {
    /// One epoch, one worker.
    #[must_use]
    pub fn whole(n_inputs: usize) -> Self {
        let cuts = vec![Vec::new(); n_inputs];
        Way { cuts, workers: vec![1], moves: vec![false], watermarks: None }
    }

    /// An epoch a row; which input is next is random.
    #[must_use]
    pub fn row_by_row(n_rows: &[usize], workers: usize) -> Self {
        let n_epochs = n_rows.iter().sum::<usize>().max(1);
        let mut dice = Dice::new(n_epochs as u64);
        let (mut cuts, mut at) = (vec![Vec::new(); n_rows.len()], vec![0; n_rows.len()]);
        for _ in 1..n_epochs {
            let mut input = place(dice.below(n_rows.len() as u64));
            while at[input] == n_rows[input] {
                input = (input + 1) % n_rows.len();
            }
            at[input] += 1;
            cuts.iter_mut().zip(&at).for_each(|(cuts, &at)| cuts.push(at));
        }
        Way {
            cuts,
            workers: vec![workers; n_epochs],
            moves: vec![false; n_epochs],
            watermarks: Some(0),
        }
    }

    /// Cuts, workers, moves and watermarks from a seed.
    #[must_use]
    pub fn random(seed: u64, n_rows: &[usize]) -> Self {
        let mut dice = Dice::new(seed);
        let most = n_rows.iter().copied().max().unwrap_or(0) as u64;
        let n_cuts = dice.below(most.min(40));
        let mut cuts_of = |&n: &usize| {
            let cuts = (0..n_cuts).map(|_| place(dice.below(n as u64 + 1)));
            let mut cuts: Vec<usize> = cuts.collect();
            cuts.sort_unstable();
            cuts
        };
        let cuts: Vec<Vec<usize>> = n_rows.iter().map(&mut cuts_of).collect();
        let (mut workers, mut moves) = (vec![place(1 + dice.below(3))], vec![false]);
        for _ in 0..n_cuts {
            let moved = dice.below(4) == 0;
            let same = workers[workers.len() - 1];
            workers.push(if moved { place(1 + dice.below(3)) } else { same });
            moves.push(moved);
        }
        Way { cuts, workers, moves, watermarks: Some(dice.next_u64()) }
    }

    /// The rows of each input that epoch `e` has.
    fn ranges(&self, e: usize, inputs: &[&Table]) -> Vec<Range<usize>> {
        let range = |(cuts, table): (&Vec<usize>, &&Table)| {
            let start = e.checked_sub(1).map_or(0, |before| cuts[before]);
            start..cuts.get(e).copied().unwrap_or(table.len())
        };
        self.cuts.iter().zip(inputs).map(range).collect()
    }
}

fn place(v: u64) -> usize {
    usize::try_from(v).expect("a place in a table")
}

/// Runs `planned` over `inputs`, and checks the contract on the way.
pub(super) fn run(planned: &Planned, inputs: &[&Table], way: &Way) -> Outcome {
    let mut fleet = Fleet::new(planned, inputs, way.workers[0]);
    let mut dice = way.watermarks.map(Dice::new);
    for e in 0..way.workers.len() {
        if way.moves[e] {
            fleet.restart(way.workers[e]);
        } else if e % 3 == 1 {
            fleet.snapshot();
        }
        let ranges = way.ranges(e, inputs).into_iter().zip(&fleet.sources);
        let brings = ranges.map(|(range, source)| Brings {
            told: source.told(range.end, dice.as_mut()),
            low: match source.low(range.end, dice.as_mut()) {
                // One of several inputs may end before the others.
                i64::MIN if inputs.len() > 1 && range.end == source.table.len() => {
                    let ends = dice.as_mut().is_some_and(|dice| dice.below(2) == 0);
                    if ends { Watermarks::END } else { i64::MIN }
                }
                low => low,
            },
            range,
        });
        let brings = brings.collect::<Vec<_>>();
        fleet.epoch(&brings);
    }
    let end = |table: &&Table| Brings {
        range: table.len()..table.len(),
        told: Told::new(),
        low: Watermarks::END,
    };
    fleet.epoch(&inputs.iter().map(end).collect::<Vec<_>>());
    fleet.outcome()
}

/// What an input brings in an epoch.
struct Brings {
    range: Range<usize>,
    told: Told,
    low: i64,
}

/// The rows of a case with their keys, hashes and times.
struct Source<'a> {
    table: &'a Table,
    hashes: UInt64Array,
    times: Vec<i64>,
}

/// Watermarks by key hash: a row that has the key, and how far it is complete.
type Told = BTreeMap<u64, (usize, i64)>;

impl<'a> Source<'a> {
    fn new(table: &'a Table) -> Self {
        let hashes = hash_keys(&table.rows, table.schema.key());
        let source = Source { table, hashes, times: table.times() };
        let in_order = (0..table.len()).all(|row| {
            let earlier = (0..row).rfind(|&r| source.hashes.value(r) == source.hashes.value(row));
            earlier.is_none_or(|r| source.times[r] <= source.times[row])
        });
        assert!(in_order, "the rows of a key must be in the order of their event time");
        source
    }

    /// Watermarks after the rows before `upto`: of some keys, at their last row's time or their next one's.
    fn told(&self, upto: usize, dice: Option<&mut Dice>) -> Told {
        let mut told = Told::new();
        let Some(dice) = dice else { return told };
        for row in 0..upto {
            told.insert(self.hashes.value(row), (row, self.times[row]));
        }
        told.retain(|_, _| dice.below(3) > 0);
        for (hash, (_, at)) in &mut told {
            let next = (upto..self.times.len()).find(|&r| self.hashes.value(r) == *hash);
            if let (Some(next), 0) = (next, dice.below(2)) {
                *at = self.times[next];
            }
        }
        told
    }

    /// A bound below all that follows the rows before `upto`, or none.
    fn low(&self, upto: usize, dice: Option<&mut Dice>) -> i64 {
        let told = dice.is_some_and(|dice| dice.below(2) == 0);
        let bound = self.times[upto..].iter().min().filter(|_| told);
        // `END` says that nothing follows, not even a row at the end of time.
        bound.copied().filter(|&low| low < Watermarks::END).unwrap_or(i64::MIN)
    }

    /// The rows of a worker, in the order of an edge.
    fn batch(&self, range: Range<usize>, worker: usize, peers: usize) -> Batch {
        let mut places: Vec<usize> =
            range.filter(|&r| worker_of(shard_of(self.hashes.value(r)), peers) == worker).collect();
        places.sort_by_key(|&r| (self.hashes.value(r), self.times[r], r));
        let rows = take(&self.table.rows, &places);
        let hashes = places.iter().map(|&r| self.hashes.value(r)).collect();
        let positions = places.iter().map(|&r| r as u64).collect();
        Batch::new(rows, hashes, positions).expect("one hash and one position a row")
    }

    fn watermarks(&self, told: &Told, low: i64, worker: usize, peers: usize) -> Watermarks {
        let mine = |hash: &u64| worker_of(shard_of(*hash), peers) == worker;
        let mine: Vec<_> = told.iter().filter(|(hash, _)| mine(hash)).collect();
        let places: Vec<usize> = mine.iter().map(|(_, (row, _))| *row).collect();
        let keys = take(&self.table.rows, &places).project(self.table.schema.key());
        Watermarks {
            keys: keys.expect("the key columns are there"),
            key_hash: mine.iter().map(|(hash, _)| **hash).collect(),
            at: mine.iter().map(|(_, (_, at))| *at).collect::<Int64Array>(),
            low,
        }
    }
}

fn take(rows: &RecordBatch, places: &[usize]) -> RecordBatch {
    let places: UInt32Array = places.iter().map(|&p| u32::try_from(p).ok()).collect();
    take_record_batch(rows, &places).expect("the places are in the table")
}

/// A step on some workers.
struct Fleet<'a> {
    planned: &'a Planned,
    sources: Vec<Source<'a>>,
    operators: Vec<Box<dyn Operator>>,
    saved: Saved,
    heard: Heard,
    n_epochs: u64,
    account: Account,
}

impl<'a> Fleet<'a> {
    fn new(planned: &'a Planned, tables: &[&'a Table], workers: usize) -> Self {
        Fleet {
            planned,
            operators: build(planned, workers),
            sources: tables.iter().map(|table| Source::new(table)).collect(),
            saved: Saved::new(),
            heard: Heard::new(planned.output.clone()),
            n_epochs: 0,
            account: Account::default(),
        }
    }

    /// Writes the shards down that say they have changed.
    fn snapshot(&mut self) {
        for operator in &mut self.operators {
            for shard in operator.dirty().iter() {
                match operator.save(shard).expect("the state can be saved") {
                    Some(state) => self.saved.insert(shard, state),
                    None => self.saved.remove(&shard),
                };
            }
        }
    }

    /// Goes on with fresh operators that know only what was written down.
    fn restart(&mut self, workers: usize) {
        self.snapshot();
        self.operators = build(self.planned, workers);
        for (&shard, state) in &self.saved {
            let operator = &mut self.operators[worker_of(shard, workers)];
            let loaded = operator.load(shard, self.planned.state_version, state.clone());
            loaded.expect("the state can be loaded");
        }
    }

    fn epoch(&mut self, brings: &[Brings]) {
        let ids = (0..).map(SourceId).zip(brings);
        let ended = ids.filter(|(_, b)| b.low == Watermarks::END).map(|(id, _)| id).collect();
        let epoch = Epoch {
            id: self.n_epochs,
            clock_ns: 0,
            inputs: Vec::new(),
            commands: Vec::new(),
            ended,
        };
        self.n_epochs += 1;
        let peers = self.operators.len();
        for worker in 0..peers {
            let each = self.sources.iter().zip(brings);
            let given = each.map(|(source, brings)| {
                let rows = source.batch(brings.range.clone(), worker, peers);
                let watermarks = source.watermarks(&brings.told, brings.low, worker, peers);
                (rows, Batch::empty(source.table.schema.arrow().clone()), watermarks)
            });
            let given = given.collect::<Vec<_>>();
            let inputs = given.iter().map(|(rows, none, watermarks)| Input {
                rows,
                late: none,
                revised: none,
                watermarks,
            });
            let inputs = inputs.collect::<Vec<_>>();
            self.heard.begin(given.iter().map(|(rows, ..)| rows.len() as u64).sum());
            let operator = &mut self.operators[worker];
            operator.epoch(&epoch, &inputs, &mut self.heard).expect("the step goes on");
            self.account.add(&self.heard.end(&given[0].2));
        }
        self.heard.end_epoch();
    }

    fn outcome(self) -> Outcome {
        let Heard { schema, mut rows, mut dead, .. } = self.heard;
        rows.sort_by_key(|row| (row.hash, row.time, row.position));
        dead.sort();
        Outcome { schema, rows, dead, account: self.account }
    }
}

fn build(planned: &Planned, workers: usize) -> Vec<Box<dyn Operator>> {
    let one = |index| (planned.build)(WorkerContext { index, peers: workers });
    (0..workers).map(|w| one(w).expect("the step can be built")).collect()
}

/// Listens to a step and holds it to its contract.
struct Heard {
    schema: Schema,
    rows: Vec<Row>,
    dead: Vec<Dead>,
    /// Below these no row of the key may come, and no row of any key below `low`.
    complete: BTreeMap<u64, i64>,
    low: i64,
    told_low: i64,
    account: Account,
    watermarks: Option<Watermarks>,
}

impl Heard {
    fn new(schema: Schema) -> Self {
        Heard {
            schema,
            rows: Vec::new(),
            dead: Vec::new(),
            complete: BTreeMap::new(),
            low: i64::MIN,
            told_low: i64::MIN,
            account: Account::default(),
            watermarks: None,
        }
    }

    fn begin(&mut self, n_rows: u64) {
        self.account = Account { input: n_rows, ..Account::default() };
        self.watermarks = None;
    }

    /// The account of the epoch. A step that says nothing of watermarks passes them on.
    fn end(&mut self, passed_on: &Watermarks) -> Account {
        assert!(self.account.balances(), "rows are not accounted for: {:?}", self.account);
        let told = self.watermarks.take().unwrap_or_else(|| passed_on.clone());
        for (_, hash, at) in told.iter() {
            let known = self.complete.entry(hash).or_insert(at);
            *known = at.max(*known);
        }
        self.told_low = told.low;
        self.account
    }

    /// The epoch has ended on all workers. What one said of all keys did not bind the next within the epoch.
    fn end_epoch(&mut self) {
        self.low = self.low.max(self.told_low);
    }
}

impl Out for Heard {
    fn emit(&mut self, batch: Batch) {
        assert_eq!(batch.rows.schema(), *self.schema.arrow(), "the schema that was planned");
        assert_eq!(hash_keys(&batch.rows, self.schema.key()), batch.key_hash, "the hashes");
        let times = batch.times(&self.schema);
        let first = self.rows.len();
        for (row, cells) in cells(&batch.rows).into_iter().enumerate() {
            let (hash, time) = (batch.key_hash.value(row), times[row]);
            let complete = self.complete.get(&hash).copied().unwrap_or(i64::MIN).max(self.low);
            assert!(time >= complete, "a row at {time} after a watermark of {complete}");
            self.rows.push(Row { hash, time, position: batch.position.value(row), cells });
        }
        let sorted = self.rows[first..].is_sorted_by_key(|r| (r.hash, r.time, r.position));
        assert!(sorted, "rows must come by key hash, time and position");
        self.account.emitted += batch.len() as u64;
        for row in &self.rows[first..] {
            self.complete.insert(row.hash, row.time);
        }
    }

    fn emit_late(&mut self, _: Batch) {
        panic!("a late row came out though none came in");
    }

    fn watermarks(&mut self, watermarks: Watermarks) {
        self.watermarks = Some(watermarks);
    }

    fn dead(&mut self, d: DeadLetter) {
        self.account.dead += 1;
        self.dead.push((d.time, d.key, d.position, d.reason.0, d.detail));
    }

    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}
