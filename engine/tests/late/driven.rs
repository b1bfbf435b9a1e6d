//! Corrected steps driven by hand, epoch by epoch: with small bounds, and with state that moves between workers.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::Int64Array;
use foreline_engine::{
    Account, Batch, Bounds, Correcting, DeadLetter, Epoch, Input, Operator, Out, Planned, Reason,
    SHARDS, Schema, SourceId, Watermarks, WorkerContext, hash_keys, shard_of, worker_of,
};
use proptest::prelude::*;

use super::toys::{Toy, bits, even, schema, window_schema};
use super::{Row, Settled, carry_out, ordered, rows, table};

/// What a step said in an epoch.
#[derive(Default)]
struct Heard {
    new: Vec<Batch>,
    late: Vec<Batch>,
    revised: Vec<Batch>,
    watermarks: Option<Watermarks>,
    horizon: Option<Watermarks>,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        let revised = rows.revision.is_some() || rows.deleted.is_some();
        if revised { self.revised.push(rows) } else { self.new.push(rows) }
    }
    fn emit_late(&mut self, rows: Batch) {
        self.late.push(rows);
    }
    fn watermarks(&mut self, watermarks: Watermarks) {
        self.watermarks = Some(watermarks);
    }
    fn dead(&mut self, letter: DeadLetter) {
        self.account.dead += u64::from(letter.reason != Reason::LATE);
        self.dead.push(letter);
    }
    fn dead_after_all(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }
    fn horizon(&mut self, horizon: Watermarks) {
        self.horizon = Some(horizon);
    }
    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

/// The lanes of an edge in an epoch.
struct Edge {
    new: Batch,
    late: Batch,
    revised: Batch,
    watermarks: Watermarks,
    horizon: Option<Watermarks>,
}

/// A step on each worker.
struct Stage {
    planned: Planned,
    input: Schema,
    corrects: bool,
    operators: Vec<Box<dyn Operator>>,
}

impl Stage {
    fn new(
        planned: &Planned,
        input: &Schema,
        corrects: bool,
        workers: usize,
        bounds: Bounds,
    ) -> Self {
        let operators = (0..workers).map(|index| {
            let context = WorkerContext { index, peers: workers };
            if corrects {
                Box::new(Correcting::new(planned, input, context, bounds).unwrap())
                    as Box<dyn Operator>
            } else {
                (planned.build)(context).unwrap()
            }
        });
        let operators = operators.collect();
        Stage { planned: planned.clone(), input: input.clone(), corrects, operators }
    }

    /// Goes on with other instances that know what these have saved.
    fn restart(&mut self, workers: usize, bounds: Bounds) {
        let mut next = Stage::new(&self.planned, &self.input, self.corrects, workers, bounds);
        for shard in (0..SHARDS).map(|s| u8::try_from(s).unwrap()) {
            let from = worker_of(shard, self.operators.len());
            if let Some(state) = self.operators[from].save(shard).unwrap() {
                assert!(self.corrects);
                next.operators[worker_of(shard, workers)].load(shard, 1, state).unwrap();
            }
        }
        *self = next;
    }

    fn epoch(
        &mut self,
        epoch: &Epoch,
        worker: usize,
        edge: Edge,
    ) -> (Edge, Vec<DeadLetter>, Account) {
        let Edge { new, late, revised, watermarks, horizon } = edge;
        let operator = &mut self.operators[worker];
        if let Some(horizon) = &horizon {
            operator.horizon(0, horizon);
        }
        let n_rows = (new.len() + late.len() + revised.len()) as u64;
        let input = Input { rows: &new, late: &late, revised: &revised, watermarks: &watermarks };
        let mut heard = Heard::default();
        operator.epoch(epoch, &[input], &mut heard).unwrap();
        let account = Account { input: n_rows, ..heard.account };
        assert!(account.balances(), "{account:?}");
        let one = |mut lane: Vec<Batch>| {
            lane.retain(|b| !b.is_empty());
            assert!(lane.len() <= 1, "a lane is emitted once an epoch");
            lane.pop().unwrap_or_else(|| Batch::empty(self.planned.output.arrow().clone()))
        };
        let edge = Edge {
            new: one(heard.new),
            late: one(heard.late),
            revised: one(heard.revised),
            watermarks: heard.watermarks.unwrap_or(watermarks),
            horizon: if self.corrects { heard.horizon } else { horizon },
        };
        (edge, heard.dead, account)
    }
}

/// How far the watermark of a silent key moves on by itself, at most.
const IDLE: i64 = 9;

/// The ordering step with no lateness. Watermarks of keys that are silent in an epoch move on at times.
struct Order {
    /// How far behind the watermark a row may be.
    within: i64,
    keys: BTreeMap<u64, Key>,
}

struct Key {
    max: i64,
    watermark: i64,
    /// A row of the key.
    row: Batch,
}

impl Order {
    fn new(within: i64) -> Self {
        Order { within: within + IDLE, keys: BTreeMap::new() }
    }

    /// The rows of an epoch that are of shards of a worker.
    fn edge(&mut self, rows: &[Row], first: usize, low: i64, mine: impl Fn(u64) -> bool) -> Edge {
        let schema = schema();
        let table = table(rows);
        let key = arrow::compute::cast(table.column(0), schema.arrow().field(0).data_type());
        let columns = vec![key.unwrap(), table.column(1).clone(), table.column(2).clone()];
        let all = arrow::array::RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
        let hash = hash_keys(&all, &[0]);
        let positions: Vec<u64> = (0..rows.len()).map(|r| (first + r) as u64).collect();
        let all = Batch::new(all, hash, positions.into()).unwrap();
        let (mut new, mut late) = (Vec::new(), Vec::new());
        let mut risen = BTreeSet::new();
        for (r, &(_, t, _)) in rows.iter().enumerate() {
            let hash = all.key_hash.value(r);
            if !mine(hash) {
                continue;
            }
            let fresh = || Key { max: t, watermark: t, row: all.slice(r, 1) };
            let key = self.keys.entry(hash).or_insert_with(fresh);
            if t < key.watermark {
                late.push(r)
            } else {
                new.push(r)
            }
            key.max = t.max(key.max);
            key.watermark = t.max(key.watermark);
            risen.insert(hash);
        }
        for (&hash, key) in self.keys.iter_mut().filter(|(hash, _)| mine(**hash)) {
            if (hash ^ first as u64).is_multiple_of(3) && risen.insert(hash) {
                key.watermark = (key.watermark + 4).min(key.max + IDLE);
            }
        }
        let lane = |mut lane: Vec<usize>| {
            lane.sort_by_key(|&r| (all.key_hash.value(r), rows[r].1, r));
            all.take(&lane.into_iter().map(|r| r as u32).collect::<Vec<_>>().into()).unwrap()
        };
        let samples: Vec<Batch> = risen.iter().map(|hash| self.keys[hash].row.clone()).collect();
        let named = match samples.is_empty() {
            true => Batch::empty(schema.arrow().clone()),
            false => Batch::concat(schema.arrow(), &samples).unwrap(),
        };
        let marks = |back: i64, low: i64| Watermarks {
            keys: named.rows.project(&[0]).unwrap(),
            key_hash: named.key_hash.clone(),
            at: risen.iter().map(|h| self.keys[h].watermark - back).collect::<Int64Array>(),
            low,
        };
        let (watermarks, horizon) = (marks(0, low), Some(marks(self.within, i64::MIN)));
        let revised = Batch::empty(schema.arrow().clone());
        Edge { new: lane(new), late: lane(late), revised, watermarks, horizon }
    }
}

/// A row that went out: key, time, position, bits, revision, deleted.
type Sent = (u64, i64, u64, u64, u32, bool);

struct Outcome {
    settled: Vec<(u64, i64, u64, u64)>,
    /// What went out in each epoch.
    sent: Vec<Vec<Sent>>,
    letters: Vec<DeadLetter>,
    late: u64,
}

/// When the end of the stream is told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    WithTheLastRows,
    Afterwards,
}

/// When a chain is restarted: before which epoch, and with how many workers.
type Restarts = BTreeMap<usize, usize>;

fn drive(
    steps: &[(Planned, bool)],
    epochs: &[&[Row]],
    within: i64,
    bounds: Bounds,
    restarts: &Restarts,
    end: End,
) -> Outcome {
    let mut workers = 1;
    let mut input = schema();
    let mut stages = Vec::new();
    for (planned, corrects) in steps {
        stages.push(Stage::new(planned, &input, *corrects, workers, bounds));
        input = planned.output.clone();
    }
    let mut order = Order::new(within);
    let mut outcome = Outcome { settled: vec![], sent: vec![], letters: vec![], late: 0 };
    let mut first = 0;
    for e in 0..=epochs.len() {
        if let Some(&n) = restarts.get(&e) {
            workers = n;
            stages.iter_mut().for_each(|stage| stage.restart(workers, bounds));
        }
        let rows = epochs.get(e).copied().unwrap_or_default();
        let ended = e + usize::from(end == End::WithTheLastRows) >= epochs.len();
        let low = if ended { Watermarks::END } else { i64::MIN };
        let epoch = Epoch {
            id: e as u64,
            clock_ns: 0,
            inputs: vec![],
            commands: vec![],
            ended: if ended { vec![SourceId(0)] } else { vec![] },
        };
        let mut sent = Vec::new();
        for worker in 0..workers {
            let mine = |hash| worker_of(shard_of(hash), workers) == worker;
            let mut edge = order.edge(rows, first, low, mine);
            for stage in &mut stages {
                let (next, letters, account) = stage.epoch(&epoch, worker, edge);
                outcome.letters.extend(letters);
                outcome.late += account.late;
                edge = next;
            }
            for batch in [&edge.new, &edge.late, &edge.revised] {
                sent.extend(bits(batch, &input).into_iter().enumerate().map(|(row, r)| {
                    let revision = batch.revision.as_ref().map_or(0, |v| v.value(row));
                    let deleted = batch.deleted.as_ref().is_some_and(|d| d.value(row));
                    (r.0, r.1, r.2, r.3, revision, deleted)
                }));
            }
        }
        sent.sort_unstable();
        outcome.sent.push(sent);
        first += rows.len();
    }
    outcome.settle(&input);
    outcome
}

impl Outcome {
    fn settle(&mut self, schema: &Schema) {
        let mut last: BTreeMap<_, (u32, Sent)> = BTreeMap::new();
        for &row in self.sent.iter().flatten() {
            let position = if schema.primary_key().position { row.2 } else { 0 };
            let stands = last.entry((row.0, row.1, position)).or_insert((row.4, row));
            if row.4 >= stands.0 {
                *stands = (row.4, row);
            }
        }
        let rows = last.into_values().map(|(_, r)| r).filter(|r| !r.5);
        self.settled = rows.map(|r| (r.0, r.1, r.2, r.3)).collect();
        self.settled.sort_unstable();
    }
}

/// Whether no row is there in two versions; a window's rows have no two of one key and time.
fn each_once(epoch: &[Sent]) -> bool {
    let rows: BTreeSet<_> = epoch.iter().map(|r| (r.0, r.1, r.2)).collect();
    rows.len() == epoch.len()
}

const TIGHT: Bounds = Bounds { slack_rows: 4, most_rows: 1_000_000 };

fn steps(which: usize) -> Vec<(Planned, bool)> {
    let (r, w) = (even(schema()), even(window_schema()));
    let toy = |toy: Toy| (toy.planned(), true);
    match which {
        0 => vec![toy(Toy::Sum), (r, false), toy(Toy::Window(10)), (w, false), toy(Toy::Thirds)],
        1 => vec![(r, false), toy(Toy::Session(3)), (w, false), toy(Toy::Sum), toy(Toy::Window(4))],
        2 => vec![toy(Toy::Thirds), toy(Toy::Window(7)), toy(Toy::Session(15)), (w, false)],
        _ => vec![toy(Toy::Limit(100.0)), toy(Toy::Window(5))],
    }
}

fn want(rows: &[Row], steps: &[(Planned, bool)]) -> Vec<(u64, i64, u64, u64)> {
    let planned = steps.iter().map(|(planned, _)| planned.clone()).collect();
    let (mut settled, _): (Settled, _) = carry_out(rows, ordered(), planned, (1, 10_000, 10_000));
    // In memory positions count from 1 and have the partition in them; here they count from 0.
    let last = settled.pop().unwrap();
    last.into_iter().map(|(hash, t, position, v)| (hash, t, ordinal(position) - 1, v)).collect()
}

fn ordinal(position: u64) -> u64 {
    foreline_engine::Position(position).ordinal()
}

fn cut<'a>(rows: &'a [Row], cuts: &[usize]) -> Vec<&'a [Row]> {
    let mut bounds: Vec<usize> = cuts.iter().map(|c| c % (rows.len() + 1)).collect();
    bounds.extend([0, rows.len()]);
    bounds.sort_unstable();
    bounds.windows(2).map(|w| &rows[w[0]..w[1]]).collect()
}

#[test]
fn state_of_a_run_without_late_rows_is_refused() {
    let planned = Toy::Sum.planned();
    let context = WorkerContext { index: 0, peers: 1 };
    let mut plain = (planned.build)(context).unwrap();
    let mut order = Order::new(0);
    let Edge { new, late, revised, watermarks, .. } =
        order.edge(&[(0, 1, 1.0)], 0, i64::MIN, |_| true);
    let input = Input { rows: &new, late: &late, revised: &revised, watermarks: &watermarks };
    let epoch = Epoch { id: 1, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
    plain.epoch(&epoch, &[input], &mut Heard::default()).unwrap();
    let shard = shard_of(new.key_hash.value(0));
    let state = plain.save(shard).unwrap().unwrap();
    let mut correcting = Correcting::new(&planned, &schema(), context, TIGHT).unwrap();
    let fault = correcting.load(shard, 1, state.clone()).unwrap_err();
    assert!(fault.message.contains("without 'late: correct'"), "{fault}");
    let fault = correcting.load(shard, 2, state).unwrap_err();
    assert!(fault.message.contains("version 2"), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn neither_moving_the_base_nor_moving_the_state_shows(
        rows in rows(4, 25, 160),
        cuts in proptest::collection::vec(0_usize..1_000, 0..50),
        restarts in proptest::collection::vec((0_usize..50, 1_usize..4), 0..4),
        which in 0_usize..4,
        end in prop_oneof![Just(End::WithTheLastRows), Just(End::Afterwards)],
    ) {
        let steps = steps(which);
        let epochs = cut(&rows, &cuts);
        let calm = drive(&steps, &epochs, 25, Bounds::default(), &Restarts::new(), end);
        let restarts = restarts.into_iter().collect();
        let moved = drive(&steps, &epochs, 25, TIGHT, &restarts, end);
        let want = want(&rows, &steps);
        prop_assert_eq!(&calm.settled, &want);
        prop_assert_eq!(&moved.settled, &want);
        prop_assert_eq!(&calm.sent, &moved.sent);
        prop_assert!(calm.sent.iter().all(|epoch| each_once(epoch)));
        prop_assert_eq!(calm.letters.len(), moved.letters.len());
        prop_assert_eq!((calm.late, moved.late), (0, 0));
    }

    #[test]
    fn full_memory_makes_results_final_early_and_says_so(
        rows in rows(3, 40, 120),
        cuts in proptest::collection::vec(0_usize..1_000, 0..50),
        which in 0_usize..4,
    ) {
        let bounds = Bounds { slack_rows: 4, most_rows: 20 };
        let outcome = drive(&steps(which), &cut(&rows, &cuts), 40, bounds, &Restarts::new(), End::Afterwards);
        let late = outcome.letters.iter().filter(|l| l.reason == Reason::LATE);
        prop_assert!(late.clone().all(|l| l.detail.contains("at most 20 rows")));
        prop_assert_eq!(late.count() as u64, outcome.late);
    }
}
