//! A book on some workers, driven epoch by epoch, and what it says held to be a relation.

use std::collections::BTreeMap;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, StringArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Input, Operator, Out, Planned, Schema, Watermarks,
    WorkerContext, hash_keys, shard_of, worker_of,
};

use super::*;

/// A second of the engine's clock.
pub(super) const S: i64 = 1_000_000_000;
/// The rules of every book here.
pub(super) const RULES: [&str; 4] = ["hot", "worn", "cycles", "view"];

/// The same as the book is told; one of them watches a view.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |name: &str| Rule { name: name.to_owned(), watches_view: name == "view" };
    RULES.map(rule).into()
}

/// Which lane an entry comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    #[default]
    New,
    Late,
    Revised,
    Deleted,
}

/// An entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) lane: Lane,
    pub(super) machine: &'static str,
    pub(super) rule: &'static str,
    pub(super) alert: String,
    pub(super) change: &'static str,
    pub(super) sequence: i64,
    /// The event time of the change.
    pub(super) event: i64,
    pub(super) raised: i64,
    pub(super) severity: i64,
    pub(super) inhibited: bool,
    pub(super) evidence: String,
}

/// An alert `rule@machine@raised` of which something is told at `event`; the rule `cycles` counts.
pub(super) fn told(alert: &str, change: &'static str, sequence: i64, event: i64) -> Told {
    let parts: Vec<&str> = alert.split('@').collect();
    let known = |name: &str, names: &[&'static str]| {
        *names.iter().find(|n| **n == name).unwrap_or_else(|| panic!("{name}"))
    };
    Told {
        machine: known(parts[1], &["a", "b", "c"]),
        rule: known(parts[0], &RULES),
        alert: alert.to_owned(),
        change,
        sequence,
        event,
        raised: parts[2].parse().unwrap(),
        severity: 3,
        evidence: format!("{{\"x\":{event}}}"),
        ..Told::default()
    }
}

pub(super) fn raised(alert: &str) -> Told {
    let at = alert.split('@').next_back().unwrap().parse().unwrap();
    told(alert, "raised", 0, at)
}

pub(super) fn cleared(alert: &str, event: i64) -> Told {
    told(alert, "cleared", 1, event)
}

impl Told {
    pub(super) fn lane(self, lane: Lane) -> Told {
        Told { lane, ..self }
    }

    pub(super) fn inhibited(self) -> Told {
        Told { inhibited: true, ..self }
    }
}

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) machine: &'static str,
    pub(super) at: i64,
    pub(super) command: &'static str,
    pub(super) rule: Option<String>,
    pub(super) alert: Option<String>,
    pub(super) by: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) until: Option<i64>,
    pub(super) id: Option<String>,
}

/// A command about an alert `rule@machine@raised`, or about a rule on a machine `rule@machine`.
pub(super) fn asked(command: &'static str, about: &str) -> Asked {
    let parts: Vec<&str> = about.split('@').collect();
    let machine = ["a", "b", "c"].into_iter().find(|m| *m == parts[1]).unwrap();
    let of_alert = parts.len() == 3;
    Asked {
        machine,
        command,
        rule: (!of_alert).then(|| parts[0].to_owned()),
        alert: of_alert.then(|| about.to_owned()),
        by: Some("ann".to_owned()),
        ..Asked::default()
    }
}

impl Asked {
    pub(super) fn until(self, until: i64) -> Asked {
        Asked { until: Some(until), ..self }
    }

    pub(super) fn id(self, id: &str) -> Asked {
        Asked { id: Some(id.to_owned()), ..self }
    }

    pub(super) fn saying(self, comment: &str) -> Asked {
        Asked { comment: Some(comment.to_owned()), ..self }
    }
}

/// A row of the book: its values as text, times as nanoseconds, nothing for null.
pub(super) type Shown = BTreeMap<String, String>;

/// A book on some workers.
pub(super) struct Fleet {
    pub(super) planned: Planned,
    operators: Vec<Box<dyn Operator>>,
    saved: BTreeMap<u8, arrow::array::RecordBatch>,
    /// The book as its changes say.
    pub(super) rows: BTreeMap<String, Shown>,
    /// The same at the end of the epoch before.
    pub(super) rows_before: BTreeMap<String, Shown>,
    pub(super) dead: Vec<DeadLetter>,
    pub(super) account: Account,
    n_epochs: u64,
    position: u64,
}

impl Fleet {
    pub(super) fn new(options: &BookOptions, workers: usize) -> Fleet {
        let planned = book(&rules(), options).unwrap();
        Fleet {
            operators: build(&planned, workers),
            planned,
            saved: BTreeMap::new(),
            rows: BTreeMap::new(),
            rows_before: BTreeMap::new(),
            dead: Vec::new(),
            account: Account::default(),
            n_epochs: 0,
            position: 0,
        }
    }

    /// An epoch that ends at `clock_ns`, on all workers.
    pub(super) fn epoch(&mut self, clock_ns: i64, told: &[Told], asked: &[Asked]) {
        let epoch = Epoch {
            id: self.n_epochs,
            clock_ns,
            inputs: Vec::new(),
            commands: Vec::new(),
            ended: Vec::new(),
        };
        self.n_epochs += 1;
        self.rows_before = self.rows.clone();
        let peers = self.operators.len();
        let mut operators = std::mem::take(&mut self.operators);
        for (worker, operator) in operators.iter_mut().enumerate() {
            let lanes = |rule: &str| {
                let of_rule = |lanes: &[Lane]| -> Vec<&Told> {
                    told.iter().filter(|t| t.rule == rule && lanes.contains(&t.lane)).collect()
                };
                let batch = |lanes: &[Lane]| {
                    part(&entries(&of_rule(lanes), clock_ns, self.position), worker, peers)
                };
                [batch(&[Lane::New]), batch(&[Lane::Late]), batch(&[Lane::Revised, Lane::Deleted])]
            };
            let mut given: Vec<[Batch; 3]> = RULES.iter().map(|rule| lanes(rule)).collect();
            let commands = part(&commands(asked, self.position), worker, peers);
            let none = || Batch::empty(commands_schema().arrow().clone());
            given.push([commands, none(), none()]);
            let watermarks = Watermarks::none(entry_schema().key_arrow());
            let inputs: Vec<Input<'_>> = given
                .iter()
                .map(|[rows, late, revised]| Input { rows, late, revised, watermarks: &watermarks })
                .collect();
            let mut heard = Heard::default();
            operator.epoch(&epoch, &inputs, &mut heard).expect("the book goes on");
            self.listen(heard, given.iter().flatten().map(Batch::len).sum());
        }
        self.operators = operators;
        self.position += (told.len() + asked.len()) as u64;
    }

    fn listen(&mut self, heard: Heard, n_rows: usize) {
        let account = Account { input: n_rows as u64, ..heard.account };
        assert!(account.balances(), "rows are not accounted for: {account:?}");
        self.account.add(&account);
        self.dead.extend(heard.dead);
        // What went was there, bit by bit; then what came was not.
        for is_gone in [true, false] {
            for batch in heard.rows.iter().filter(|batch| batch.deleted.is_some() == is_gone) {
                let schema = book_schema();
                assert_eq!(batch.rows.schema(), *schema.arrow());
                assert_eq!(hash_keys(&batch.rows, schema.key()), batch.key_hash);
                assert!(batch.key_hash.values().is_sorted());
                assert!(batch.deleted.as_ref().is_none_or(|d| d.true_count() == d.len()));
                for row in shown(batch) {
                    let id = row["alert"].clone();
                    if is_gone {
                        assert_eq!(self.rows.remove(&id), Some(row), "what goes is there");
                    } else {
                        assert_eq!(self.rows.insert(id, row), None, "what comes is not there");
                    }
                }
            }
        }
    }

    /// Writes the shards down that say they have changed.
    pub(super) fn snapshot(&mut self) {
        for operator in &mut self.operators {
            for shard in operator.dirty().iter() {
                match operator.save(shard).expect("the state can be saved") {
                    Some(state) => self.saved.insert(shard, state),
                    None => self.saved.remove(&shard),
                };
            }
        }
    }

    /// How many shards have changed since they were written down.
    pub(super) fn dirty(&self) -> usize {
        self.operators.iter().map(|operator| operator.dirty().iter().count()).sum()
    }

    /// How many bytes the state takes.
    pub(super) fn bytes(&mut self) -> usize {
        self.snapshot();
        self.saved.values().map(arrow::array::RecordBatch::get_array_memory_size).sum()
    }

    /// Goes on with fresh operators that know only what was written down.
    pub(super) fn restart(&mut self, workers: usize) {
        self.snapshot();
        self.operators = build(&self.planned, workers);
        for (&shard, state) in &self.saved {
            let operator = &mut self.operators[worker_of(shard, workers)];
            operator.load(shard, self.planned.state_version, state.clone()).unwrap();
        }
        let mut standing = BTreeMap::new();
        for operator in &mut self.operators {
            for batch in operator.standing().unwrap() {
                assert!(batch.key_hash.values().is_sorted());
                standing.extend(shown(&batch).into_iter().map(|row| (row["alert"].clone(), row)));
            }
        }
        assert_eq!(standing, self.rows, "what stands after a restart");
    }

    /// A value of an alert; of one that is not in the book `gone`.
    pub(super) fn value(&self, alert: &str, column: &str) -> String {
        self.rows.get(alert).map_or("gone".to_owned(), |row| row[column].clone())
    }

    /// Some values of an alert, with a space between them.
    pub(super) fn values(&self, alert: &str, columns: &str) -> String {
        let values = columns.split(' ').map(|column| self.value(alert, column));
        values.collect::<Vec<_>>().join(" ")
    }

    /// The reasons of the dead letters since it was asked last.
    pub(super) fn reasons(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.dead).iter().map(|letter| letter.reason.0).collect()
    }
}

/// The rows of a worker, in the order of an edge.
fn part(batch: &Batch, worker: usize, peers: usize) -> Batch {
    let mine = |r: &u32| worker_of(shard_of(batch.key_hash.value(*r as usize)), peers) == worker;
    let mut rows: Vec<u32> = (0..u32::try_from(batch.len()).unwrap()).filter(|r| mine(r)).collect();
    rows.sort_by_key(|&r| (batch.key_hash.value(r as usize), batch.position.value(r as usize)));
    batch.take(&UInt32Array::from(rows)).unwrap()
}

fn build(planned: &Planned, workers: usize) -> Vec<Box<dyn Operator>> {
    let one = |index| (planned.build)(WorkerContext { index, peers: workers });
    (0..workers).map(|w| one(w).expect("the book can be built")).collect()
}

/// The rows of a batch.
pub(super) fn shown(batch: &Batch) -> Vec<Shown> {
    let schema = batch.rows.schema();
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
        _ => Arc::clone(column),
    };
    let columns: Vec<ArrayRef> = batch.rows.columns().iter().map(plain).collect();
    let options = FormatOptions::default();
    let texts = columns.iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap());
    let columns: Vec<_> = schema.fields().iter().zip(texts).collect();
    let row = |row: usize| {
        let values = columns.iter().map(|(field, text)| {
            let value = text.value(row).to_string();
            (field.name().clone(), value)
        });
        values.collect()
    };
    (0..batch.len()).map(row).collect()
}

/// Hears an operator out.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) rows: Vec<Batch>,
    pub(super) late: Vec<Batch>,
    pub(super) dead: Vec<DeadLetter>,
    pub(super) account: Account,
    pub(super) low: Option<i64>,
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        self.rows.push(rows);
    }

    fn emit_late(&mut self, rows: Batch) {
        self.late.push(rows);
    }

    fn watermarks(&mut self, watermarks: Watermarks) {
        self.low = Some(watermarks.low);
    }

    fn dead(&mut self, letter: DeadLetter) {
        self.account.dead += 1;
        self.dead.push(letter);
    }

    fn dead_after_all(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }

    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

fn texts<T>(rows: &[T], of: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<StringArray>())
}

fn moments<T>(rows: &[T], of: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}

fn wholes<T>(rows: &[T], of: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int64Array>())
}

fn truths<T>(rows: &[T], of: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(of(row))).collect::<BooleanArray>())
}

fn machines<T>(rows: &[T], of: impl Fn(&T) -> &'static str) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(of(row))).collect::<DictionaryArray<Int32Type>>())
}

/// Entries as a batch.
fn entries(rows: &[&Told], clock_ns: i64, position: u64) -> Batch {
    if rows.is_empty() {
        return Batch::empty(entry_schema().arrow().clone());
    }
    let counts = |row: &&Told| row.rule == "cycles";
    let utc = |row: &&Told, time: i64| (!counts(row)).then_some(time);
    let count = |row: &&Told, time: i64| counts(row).then_some(time);
    let clearing = |row: &&Told| (row.change == "cleared").then_some(row.event);
    let columns = vec![
        machines(rows, |row| row.machine),
        moments(rows, |_| Some(clock_ns)),
        texts(rows, |row| Some(row.alert.clone())),
        texts(rows, |row| Some(row.rule.to_owned())),
        wholes(rows, |row| Some(row.severity)),
        texts(rows, |row| Some(row.change.to_owned())),
        wholes(rows, |row| Some(row.sequence)),
        moments(rows, |row| utc(row, row.event)),
        wholes(rows, |row| count(row, row.event)),
        moments(rows, |row| utc(row, row.raised)),
        moments(rows, |row| utc(row, clearing(row)?)),
        moments(rows, |row| utc(row, row.raised)),
        wholes(rows, |row| count(row, row.raised)),
        wholes(rows, |row| count(row, clearing(row)?)),
        truths(rows, |_| false),
        truths(rows, |row| row.inhibited),
        texts(rows, |_| Some("too hot".to_owned())),
        texts(rows, |row| Some(row.evidence.clone())),
    ];
    let mut batch = batch(&entry_schema(), columns, position);
    if rows.iter().any(|row| row.lane >= Lane::Revised) {
        batch.revision = Some(vec![1; rows.len()].into());
        batch.deleted = Some(rows.iter().map(|row| Some(row.lane == Lane::Deleted)).collect());
    }
    batch
}

/// Commands as a batch.
fn commands(rows: &[Asked], position: u64) -> Batch {
    let columns = vec![
        machines(rows, |row| row.machine),
        moments(rows, |row| Some(row.at)),
        texts(rows, |row| row.rule.clone()),
        texts(rows, |row| row.alert.clone()),
        texts(rows, |row| Some(row.command.to_owned())),
        texts(rows, |row| row.by.clone()),
        texts(rows, |row| row.comment.clone()),
        moments(rows, |row| row.until),
        texts(rows, |row| row.id.clone()),
    ];
    batch(&commands_schema(), columns, position)
}

fn batch(schema: &Schema, columns: Vec<ArrayRef>, position: u64) -> Batch {
    let rows = arrow::array::RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let hashes = hash_keys(&rows, schema.key());
    let positions = (0..rows.num_rows() as u64).map(|row| position + row);
    Batch::new(rows, hashes, positions.collect::<UInt64Array>()).unwrap()
}
