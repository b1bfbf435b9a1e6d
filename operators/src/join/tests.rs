//! What rows find in a reference, against a plain table; what is kept of it; and what is wrong with a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use foreline_engine::TimeDomain::{Logical, UtcNanos};
use foreline_engine::{
    Account, Batch, CHANGED_AT, Column, ConfigError, DeadLetter, Epoch, Input, Operator,
    OperatorKind, Out, PrimaryKey, Schema, TimeDomain, Unit, Watermarks, WorkerContext, hash_keys,
};
use serde_json::{Value, json};

use super::{CHUNKS_MAX, IDLE_ROWS_MAX, Join, JoinConfig, Joined, NOTHING, Shape};
use crate::testing::{Dice, Given, Table};

fn batch(schema: &Schema, rows: &RecordBatch) -> Batch {
    let typed = rows.columns().iter().zip(schema.arrow().fields());
    let typed: Vec<ArrayRef> = typed.map(|(c, f)| cast(c, f.data_type()).unwrap()).collect();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), typed).unwrap();
    let (hash, n) = (hash_keys(&rows, schema.key()), rows.num_rows() as u64);
    Batch::new(rows, hash, (0..n).collect::<UInt64Array>()).unwrap()
}

/// A stream: the first column is the key, the second the event time.
fn stream(domain: TimeDomain, text: &str) -> (Schema, Batch) {
    let table = Table::parse(domain, text);
    let batch = batch(&table.schema, &table.rows);
    (table.schema, batch)
}

/// A reference as the planner makes it. The text is that of a table without an event time.
fn reference(key: &[&str], valid_from: Option<&str>, text: &str) -> (Schema, Batch) {
    // The second column of a table is a time; here it becomes the last one.
    let lines = text.lines().enumerate().map(|(i, line)| {
        let (first, rest) = line.split_once(',').unwrap();
        let changed = if i == 0 { CHANGED_AT } else { "7" };
        format!("{first},{changed},{rest}\n")
    });
    let table = Table::parse(UtcNanos, &lines.collect::<String>());
    let n = table.schema.columns().len();
    let order: Vec<usize> = std::iter::once(0).chain(2..n).chain([1]).collect();
    let limit = |c: &Column| (c.name == "limit").then(|| Unit::new("mm/s"));
    let columns = order.iter().map(|&c| {
        let column = table.schema.columns()[c].clone();
        let unit = limit(&column);
        let plain = super::plain(&column.data_type);
        Column { data_type: plain, ..column }.with_unit(unit)
    });
    let columns: Vec<Column> = columns.collect();
    let place = |name: &str| columns.iter().position(|c| c.name == name).unwrap();
    let key: Vec<usize> = key.iter().map(|name| place(name)).collect();
    let primary = key.iter().copied().chain(valid_from.map(place)).collect();
    let primary = PrimaryKey { columns: primary, position: false };
    let schema = Schema::with_primary_key(columns, key, n - 1, primary).unwrap();
    let rows = table.rows.project(&order).unwrap();
    let batch = batch(&schema, &rows);
    (schema, batch)
}

#[derive(Default)]
struct Heard {
    rows: Vec<Batch>,
    late: Vec<Batch>,
    account: Account,
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        self.rows.push(rows);
    }
    fn emit_late(&mut self, rows: Batch) {
        self.late.push(rows);
    }
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, letter: DeadLetter) {
        panic!("a join has no dead letters: {letter:?}");
    }
    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

/// The rows as lines of text, nulls as `-`.
fn lines(batch: &Batch) -> Vec<String> {
    let cell = |column: &ArrayRef, row: usize| match column.data_type() {
        _ if column.is_null(row) => "-".to_owned(),
        DataType::Timestamp(..) => {
            array_value_to_string(&cast(column, &DataType::Int64).unwrap(), row).unwrap()
        }
        _ => array_value_to_string(column, row).unwrap(),
    };
    let columns = batch.rows.columns();
    let line = |row| columns.iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(",");
    (0..batch.len()).map(line).collect()
}

/// A join at work.
struct Bench {
    operator: Box<dyn Operator>,
    stream: Schema,
    reference: Schema,
}

impl Bench {
    fn new(config: &Value, stream: &Schema, reference: &Schema) -> Self {
        let planned = planned(config, &[stream, reference]).unwrap();
        let operator = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
        Bench { operator, stream: stream.clone(), reference: reference.clone() }
    }

    fn change(&mut self, went: &Batch, came: &Batch) {
        self.operator.relation(1, went, came).unwrap();
    }

    fn came(&mut self, came: &Batch) {
        self.change(&came.slice(0, 0), came);
    }

    fn went(&mut self, went: &Batch) {
        self.change(went, &went.slice(0, 0));
    }

    fn epoch(&mut self, clock_ns: i64, rows: &Batch, late: &Batch, revised: &Batch) -> Heard {
        let known = Watermarks::none(self.stream.key_arrow());
        let none = Batch::empty(Arc::clone(self.reference.arrow()));
        let unknown = Watermarks::none(self.reference.key_arrow());
        let looked_up = Input { rows: &none, late: &none, revised: &none, watermarks: &unknown };
        let epoch = Epoch { id: 1, clock_ns, inputs: vec![], commands: vec![], ended: vec![] };
        let mut heard = Heard::default();
        let input = Input { rows, late, revised, watermarks: &known };
        self.operator.epoch(&epoch, &[input, looked_up], &mut heard).unwrap();
        heard
    }

    /// What comes out of new rows.
    fn rows(&mut self, clock_ns: i64, rows: &Batch) -> Vec<String> {
        let none = rows.slice(0, 0);
        let heard = self.epoch(clock_ns, rows, &none, &none);
        let kept: usize = heard.rows.iter().map(Batch::len).sum();
        let account = heard.account;
        assert_eq!((account.used, account.filtered), (kept as u64, (rows.len() - kept) as u64));
        heard.rows.iter().flat_map(lines).collect()
    }
}

fn planned(
    config: &Value,
    inputs: &[&Schema],
) -> Result<foreline_engine::Planned, Vec<ConfigError>> {
    let config: JoinConfig = foreline_engine::parse_config(config).map_err(|e| vec![e])?;
    let inputs: Vec<Schema> = inputs.iter().copied().cloned().collect();
    Join::plan(&config, &inputs, &Given)
}

const MACHINES: &str = "m,limit,line:string\na,3,L1\nb,4,L2\nc,,L1\n";

#[test]
fn rows_get_the_columns_of_the_row_with_their_key() {
    let (schema, machines) = reference(&["m"], None, MACHINES);
    let (stream, rows) = stream(Logical, "m,t,x\na,1,0.5\nb,1,1.5\nd,2,2.5\nc,3,3.5\n");
    let mut bench = Bench::new(&json!({ "on": ["m"] }), &stream, &schema);
    assert_eq!(bench.rows(0, &rows), ["a,1,0.5,-,-", "b,1,1.5,-,-", "d,2,2.5,-,-", "c,3,3.5,-,-"]);
    bench.came(&machines);
    let found = ["a,1,0.5,3.0,L1", "b,1,1.5,4.0,L2", "d,2,2.5,-,-", "c,3,3.5,-,L1"];
    assert_eq!(bench.rows(0, &rows), found);
    // A row takes the place of the one before, and one that is gone is found no more.
    let (_, other) = reference(&["m"], None, "m,limit,line:string\na,9,L3\n");
    bench.change(&machines.slice(0, 2), &other);
    let found = ["a,1,0.5,9.0,L3", "b,1,1.5,-,-", "d,2,2.5,-,-", "c,3,3.5,-,L1"];
    assert_eq!(bench.rows(0, &rows), found);
}

#[test]
fn the_columns_keep_their_units_and_get_the_names_that_were_asked_for() {
    let (schema, machines) = reference(&["m"], None, MACHINES);
    let (stream, rows) = stream(Logical, "m,t,limit\na,1,0.5\nd,2,2.5\n");
    let config = json!({ "on": ["m"], "columns": { "at_most": "limit", "who": "m" } });
    let output = planned(&config, &[&stream, &schema]).unwrap().output;
    let names: Vec<_> = output.columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["m", "t", "limit", "at_most", "who"]);
    assert_eq!(output.column("at_most").unwrap().unit, Some(Unit::new("mm/s")));
    assert_eq!((output.key(), output.primary_key()), (stream.key(), stream.primary_key()));
    let mut bench = Bench::new(&config, &stream, &schema);
    bench.came(&machines);
    assert_eq!(bench.rows(0, &rows), ["a,1,0.5,3.0,a", "d,2,2.5,-,-"]);
    let mut bench = Bench::new(&json!({ "on": ["m"], "columns": [] }), &stream, &schema);
    bench.came(&machines);
    assert_eq!(bench.rows(0, &rows), ["a,1,0.5", "d,2,2.5"]);
}

#[test]
fn keys_of_several_columns_are_named_in_any_order_and_nulls_agree_with_nothing() {
    let text = "m,n:int64,limit\na,1,3\na,2,4\nb,1,5\n";
    let (schema, machines) = reference(&["m", "n"], None, text);
    // The text of a key is dictionary-encoded, that of another column is not.
    let text = "k,t,site:string,slot:int64\nq,1,a,2\nq,2,b,1\nq,3,b,2\nq,4,,1\nq,5,a,\n";
    let (stream, rows) = stream(Logical, text);
    let config = json!({ "on": { "slot": "n", "site": "m" } });
    let mut bench = Bench::new(&config, &stream, &schema);
    bench.came(&machines);
    let found = ["q,1,a,2,4.0", "q,2,b,1,5.0", "q,3,b,2,-", "q,4,-,1,-", "q,5,a,-,-"];
    assert_eq!(bench.rows(0, &rows), found);
    let config = json!({ "on": { "slot": "n", "site": "m" }, "unmatched": "drop" });
    let mut bench = Bench::new(&config, &stream, &schema);
    bench.came(&machines);
    assert_eq!(bench.rows(0, &rows), found[..2]);
    bench.went(&machines.slice(1, 1));
    assert_eq!(bench.rows(0, &rows), found[1..2]);
}

#[test]
fn now_is_what_the_clock_says_and_a_count_knows_no_clock() {
    let timed = "m,since:time,limit\na,,1\na,100,2\na,200,3\n";
    let (schema, machines) = reference(&["m"], Some("since"), timed);
    let (timed, rows) = stream(UtcNanos, "m,t,x\na,150,0\n");
    let mut bench = Bench::new(&json!({ "on": ["m"], "at": "now" }), &timed, &schema);
    bench.came(&machines);
    let limits: Vec<String> = [99, 100, 199, 200, 1_000]
        .iter()
        .map(|&clock| bench.rows(clock, &rows)[0].rsplit(',').next().unwrap().to_owned())
        .collect();
    assert_eq!(limits, ["1.0", "2.0", "2.0", "3.0", "3.0"]);
    let counted = "m,since:int64,limit\na,5,1\na,9,2\n";
    let (schema, machines) = reference(&["m"], Some("since"), counted);
    let mut bench = Bench::new(&json!({ "on": ["m"], "at": "now" }), &timed, &schema);
    bench.came(&machines);
    assert!(bench.rows(0, &rows)[0].ends_with(",2.0"), "the last count stands");
    let (counted, rows) = stream(Logical, "m,t,x\na,4,0\na,5,0\na,8,0\na,9,0\n");
    let mut bench = Bench::new(&json!({ "on": ["m"] }), &counted, &schema);
    bench.came(&machines);
    assert_eq!(bench.rows(0, &rows), ["a,4,0.0,-", "a,5,0.0,1.0", "a,8,0.0,1.0", "a,9,0.0,2.0"]);
}

#[test]
fn late_rows_stay_late_and_revised_ones_find_what_is_there_when_they_come() {
    let (schema, machines) = reference(&["m"], None, MACHINES);
    let (stream, rows) = stream(Logical, "m,t,x\na,1,1\nd,2,2\nb,3,3\n");
    let config = json!({ "on": ["m"], "columns": ["line"], "unmatched": "drop" });
    let mut bench = Bench::new(&config, &stream, &schema);
    bench.came(&machines);
    let none = rows.slice(0, 0);
    let heard = bench.epoch(0, &none, &rows, &none);
    assert!(heard.rows.is_empty());
    assert_eq!(lines(&heard.late[0]), ["a,1,1.0,L1", "b,3,3.0,L2"]);
    // One that finds nothing any more takes back what was said; one that was deleted stays so.
    let revised = Batch {
        revision: Some(UInt32Array::from(vec![1, 2, 1])),
        deleted: Some(BooleanArray::from(vec![false, false, true])),
        ..rows
    };
    let heard = bench.epoch(0, &none, &none, &revised);
    let out = &heard.rows[0];
    assert_eq!(lines(out), ["a,1,1.0,L1", "d,2,2.0,-", "b,3,3.0,L2"]);
    assert_eq!(out.deleted, Some(BooleanArray::from(vec![false, true, true])));
    assert_eq!(out.revision, revised.revision);
    assert_eq!((heard.account.used, heard.account.filtered), (2, 1));
}

/// How a random reference counts, and which row is asked for.
#[derive(Debug, Clone, Copy)]
struct Way {
    domain: TimeDomain,
    valid_from: bool,
    now: bool,
    drop: bool,
}

/// What is known: by machine and number, the limit by the time from which it counts.
type Plain = BTreeMap<(u64, i64), BTreeMap<i64, i64>>;

/// Random changes of a reference of `m` and `n`, and random rows between them; how many found something.
fn agrees(seed: u64, way: Way) -> u64 {
    let mut dice = Dice::new(seed);
    let int = |n: u64| i64::try_from(n).unwrap();
    let since_type = if way.domain == Logical { "int64" } else { "time" };
    let header = format!("m,n:int64,since:{since_type},limit:int64\n");
    let valid_from = way.valid_from.then_some("since");
    let of = |rows: &[(u64, i64, Option<i64>, i64)]| {
        let line = |&(m, n, since, limit): &(u64, i64, Option<i64>, i64)| {
            let since = since.map_or(String::new(), |since| since.to_string());
            format!("m{m},{n},{since},{limit}\n")
        };
        reference(
            &["n", "m"],
            valid_from,
            &(header.clone() + &rows.iter().map(line).collect::<String>()),
        )
    };
    let (schema, _) = of(&[]);
    let (stream_schema, _) = stream(way.domain, "m,t,n:int64\n");
    let at = if way.now { "now" } else { "event_time" };
    let mut config = json!({ "on": ["m", "n"], "columns": ["limit"] });
    if way.valid_from {
        config["at"] = json!(at);
    }
    if way.drop {
        config["unmatched"] = json!("drop");
    }
    let mut bench = Bench::new(&config, &stream_schema, &schema);
    let (mut plain, mut limit, mut n_found) = (Plain::new(), 0, 0);
    for clock in 0..40 {
        let (mut went, mut came) = (Vec::new(), Vec::new());
        for _ in 0..dice.below(6) {
            let key = (dice.below(4), int(dice.below(3)));
            let since = (way.valid_from && dice.below(4) > 0).then(|| int(dice.below(40)));
            let known = plain.entry(key).or_default();
            let from = since.unwrap_or(i64::MIN);
            if let Some(limit) = known.remove(&from) {
                let row = (key.0, key.1, since, limit);
                // What came and went within a change is not told.
                match came.iter().position(|came| *came == row) {
                    Some(told) => drop(came.remove(told)),
                    None => went.push(row),
                }
            }
            if dice.below(3) > 0 {
                limit += 1;
                known.insert(from, limit);
                came.push((key.0, key.1, since, limit));
            }
        }
        bench.change(&of(&went).1, &of(&came).1);
        let mut text = "m,t,n:int64\n".to_owned();
        let mut want = Vec::new();
        for _ in 0..dice.below(12) {
            let (m, t) = (dice.below(5), int(dice.below(40)));
            let n = (dice.below(8) > 0).then(|| int(dice.below(3)));
            let shown = n.map_or(String::new(), |n| n.to_string());
            text += &format!("m{m},{t},{shown}\n");
            let until = match (way.valid_from, way.now, way.domain) {
                (false, ..) | (_, true, Logical) => i64::MAX,
                (true, true, UtcNanos) => clock,
                (true, false, _) => t,
            };
            let known = n.and_then(|n| plain.get(&(m, n)));
            let found = known.and_then(|known| known.range(..=until).next_back());
            n_found += u64::from(found.is_some());
            if found.is_some() || !way.drop {
                want.push(found.map_or("-".to_owned(), |(_, limit)| limit.to_string()));
            }
        }
        let rows = stream(way.domain, &text).1;
        let found = bench.rows(clock, &rows);
        let found: Vec<&str> = found.iter().map(|l| l.rsplit(',').next().unwrap()).collect();
        assert_eq!(found, want, "seed {seed}, clock {clock}, {way:?}");
    }
    n_found
}

#[test]
fn agrees_with_a_plain_table_on_random_changes() {
    let mut n_found = 0;
    for seed in 0..48 {
        let bit = |place: u64| seed >> place & 1 == 1;
        let domain = if bit(0) { Logical } else { UtcNanos };
        n_found += agrees(seed, Way { domain, valid_from: bit(1), now: bit(2), drop: bit(3) });
    }
    assert!(n_found > 1_000, "only {n_found} rows found something");
}

fn joined(config: &Value, stream: &Schema, reference: &Schema) -> Joined {
    let config: JoinConfig = foreline_engine::parse_config(config).unwrap();
    let shape = Shape::plan(&config, &[stream.clone(), reference.clone()]).unwrap();
    Joined(shape.operator().unwrap())
}

impl Joined {
    /// How many chunks, and how many rows they have.
    fn held(&self) -> (usize, usize) {
        let chunks = &self.0.function.chunks;
        (chunks.len(), chunks.iter().map(|chunk| chunk[0].len()).sum())
    }

    fn limit_of(&self, rows: &Batch) -> String {
        let places = self.0.function.found(&rows.rows).unwrap();
        assert_ne!(places[0], NOTHING, "there is a row");
        array_value_to_string(&self.0.function.gather(&places).unwrap()[0], 0).unwrap()
    }
}

#[test]
fn a_row_that_is_replaced_for_ever_takes_no_more_room() {
    let (stream, rows) = stream(Logical, "m,t,x\na,1,0.5\n");
    let row = |limit: usize| {
        let other = format!("m,limit:int64\na,{limit}\nb,{limit}\n");
        reference(&["m"], None, &other)
    };
    let schema = row(0).0;
    let mut joined = joined(&json!({ "on": ["m"] }), &stream, &schema);
    let mut last = row(0).1.slice(0, 0);
    for limit in 0..3_000 {
        let next = row(limit).1;
        joined.relation(1, &last, &next).unwrap();
        last = next;
        let (n_chunks, n_rows) = joined.held();
        assert!(n_rows <= IDLE_ROWS_MAX + 2 + 2 + 1, "{n_rows} rows for two");
        assert!(n_chunks <= CHUNKS_MAX + 1, "{n_chunks} chunks for two rows");
    }
    assert_eq!(joined.limit_of(&rows), "2999");
}

#[test]
fn rows_that_come_one_by_one_are_put_together() {
    let (stream, rows) = stream(Logical, "m,t,x\nm700,1,0.5\n");
    let row = |i: usize| reference(&["m"], None, &format!("m,limit:int64\nm{i},{i}\n"));
    let schema = row(0).0;
    let mut joined = joined(&json!({ "on": ["m"] }), &stream, &schema);
    for i in 0..1_500 {
        let next = row(i).1;
        joined.relation(1, &next.slice(0, 0), &next).unwrap();
        let (n_chunks, n_rows) = joined.held();
        assert_eq!(n_rows, i + 2);
        assert!(n_chunks <= CHUNKS_MAX + i / CHUNKS_MAX + 1, "{n_chunks} chunks for {i} rows");
    }
    assert_eq!(joined.limit_of(&rows), "700");
}

/// Every mistake: where, what, what to do about it, and the names there are where one was not found.
fn mistakes(config: &Value, inputs: &[&Schema]) -> Vec<String> {
    let errors = planned(config, inputs).unwrap_err();
    let text = |e: ConfigError| {
        let known = e.unknown.map(|(name, known)| format!("{name}? {}", known.join(" ")));
        format!("{} | {} | {}", e.at, e.message, e.help.or(known).unwrap_or_default())
    };
    errors.into_iter().map(text).collect()
}

#[test]
fn says_what_is_wrong_with_the_inputs() {
    let (machines, _) = reference(&["m"], None, MACHINES);
    let (stream, _) = stream(Logical, "m,t,x\n");
    let config = json!({ "on": ["m"] });
    let want = [
        " | a join reads a stream and a reference | name both, the stream first: from: [readings, machines]",
    ];
    assert_eq!(mistakes(&config, &[&stream]), want);
    assert_eq!(mistakes(&config, &[&stream, &machines, &machines]), want);
}

#[test]
fn says_what_is_wrong_with_the_columns_that_must_agree() {
    let (machines, _) = reference(&["m", "n"], None, "m,n:int64,limit\n");
    let (stream, _) = stream(Logical, "m,t,x,n:int64,s:string\n");
    let of = |config: Value| mistakes(&config, &[&stream, &machines]);
    let key = "on | 'on' must be the key of the reference: m, n | by less a row would find several";
    assert_eq!(of(json!({ "on": [] })), [key]);
    assert_eq!(of(json!({ "on": ["m"] })), [key]);
    assert_eq!(of(json!({ "on": { "m": "m", "n": "n", "x": "limit" } })), [key]);
    assert_eq!(
        of(json!({ "on": ["k", "n", "t"] })),
        [
            "on[0] | the stream has no column 'k' | k? m t x n s",
            "on[0] | the reference has no column 'k' | k? m n limit",
            "on[2] | the reference has no column 't' | t? m n limit",
        ]
    );
    assert_eq!(
        of(json!({ "on": { "m": "m", "x": "n" } })),
        [
            "on.x | 'x' is float64 and 'n' is int64 | declare them with the same type, or convert one with 'cast'"
        ]
    );
    let twice = "is there twice | one column of the stream agrees with one of the reference";
    assert_eq!(of(json!({ "on": ["m", "n", "m"] })), [format!("on[2] | 'm' {twice}")]);
    let config = json!({ "on": { "m": "m", "s": "m", "n": "n" } });
    assert_eq!(of(config), [format!("on.s | 'm' {twice}")]);
    let shape = of(json!({ "on": 3 }));
    assert!(shape[0].contains("a list of columns, or a map from the stream's names"), "{shape:?}");
}

#[test]
fn says_what_is_wrong_with_the_time_and_with_the_columns_to_add() {
    let (always, _) = reference(&["m"], None, MACHINES);
    let (timed, _) = reference(&["m"], Some("since"), "m,since:time,x\n");
    let (counted, _) = reference(&["m"], Some("since"), "m,since:int64,limit\n");
    let (logical, _) = stream(Logical, "m,t,x\n");
    let (clocked, _) = stream(UtcNanos, "m,t,x\n");
    assert_eq!(
        mistakes(&json!({ "on": ["m"], "at": "event_time" }), &[&logical, &always]),
        [
            "at | the reference does not say from when its rows count | give the reference a 'valid_from', or leave 'at' out"
        ]
    );
    let other = "at | 'since' is not in the time of the stream | one is a timestamp and the other a count: write at: now, or give both the same";
    assert_eq!(mistakes(&json!({ "on": ["m"] }), &[&logical, &timed]), [other]);
    assert_eq!(mistakes(&json!({ "on": ["m"] }), &[&clocked, &counted]), [other]);
    // When the engine heard of a row is nothing that the reference says.
    assert_eq!(
        mistakes(&json!({ "on": ["m"], "columns": ["limits", CHANGED_AT] }), &[&logical, &always]),
        [
            "columns[0] | the reference has no column 'limits' | limits? m limit line",
            "columns[1] | the reference has no column 'changed_at' | changed_at? m limit line",
        ]
    );
    let config = json!({ "on": ["m"], "columns": { "a": "limit", "b": "lime" } });
    assert_eq!(
        mistakes(&config, &[&logical, &always]),
        ["columns.b | the reference has no column 'lime' | lime? m limit line"]
    );
    let help = "choose other names, as in columns: { machine_line: line }";
    assert_eq!(
        mistakes(&json!({ "on": ["m"] }), &[&clocked, &timed]),
        [format!("columns | column 'x' is there twice | {help}")]
    );
    // All at once.
    let config = json!({ "on": ["k"], "at": "event_time", "columns": ["y"] });
    assert_eq!(mistakes(&config, &[&logical, &always]).len(), 4);
}
