//! What a rule tells, in the one schema that the book reads.
//!
//! The machine is the key as text. A key of one column is its text as it is. Several are joined by `/`; a `/` of a value is
//! written `\/` then, and a `\` is `\\`: so different keys of a rule are different machines. No value of a key is missing.
//!
//! The event time of an entry, `at`, is the engine's clock when it was told, because event times of rules that count
//! (cycles) and of those that do not cannot be in one column. So it is no part of the primary key: the same change that is
//! told again, corrected, has another. What tells changes apart beside alert and sequence is their own event time: a late
//! row may take away what a change said and put another, with the same sequence, elsewhere.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use foreline_engine::{
    Account, Batch, Column, ConfigError, Epoch, Fault, Input, LateSupport, Operator, Out, Planned,
    PrimaryKey, Schema, TimeDomain, Watermarks, hash_keys,
};

use super::machine::{Change, Told};
use super::needs;
use crate::columns::time_column;
use crate::mistakes::Mistakes;

/// Where the columns of an entry are.
mod place {
    pub(super) const MACHINE: usize = 0;
    pub(super) const AT: usize = 1;
    pub(super) const ALERT: usize = 2;
    pub(super) const RULE: usize = 3;
    pub(super) const SEVERITY: usize = 4;
    pub(super) const CHANGE: usize = 5;
    pub(super) const SEQUENCE: usize = 6;
    pub(super) const EVENT_AT: usize = 7;
    pub(super) const EVENT_COUNT: usize = 8;
    pub(super) const RAISED_AT: usize = 9;
    pub(super) const CLEARED_AT: usize = 10;
    pub(super) const FIRST_SEEN: usize = 11;
    pub(super) const RAISED_COUNT: usize = 12;
    pub(super) const CLEARED_COUNT: usize = 13;
    pub(super) const FLAPPING: usize = 14;
    pub(super) const INHIBITED: usize = 15;
    pub(super) const MESSAGE: usize = 16;
    pub(super) const EVIDENCE: usize = 17;
}

/// The schema of the entries of any rule: `machine` (the key), `at` (the engine's clock when it was told), then what the
/// stream of the rule says. `event_at` is the event time of the change; where the rule counts, `event_count` is, and the
/// timestamps are null. The primary key is machine, alert, sequence and the event time of the change.
///
/// # Panics
/// Never: the columns make a schema.
#[must_use]
pub fn entry_schema() -> Schema {
    let text = |name: &str| Column::new(name, DataType::Utf8);
    let whole = |name: &str| Column::new(name, DataType::Int64);
    let truth = |name: &str| Column::new(name, DataType::Boolean);
    let moment = |name: &str| Column::new(name, TimeDomain::UtcNanos.data_type());
    let columns = vec![
        text("machine"),
        moment("at"),
        text("alert"),
        text("rule"),
        whole("severity"),
        text("change"),
        whole("sequence"),
        moment("event_at"),
        whole("event_count"),
        moment("raised_at"),
        moment("cleared_at"),
        moment("first_seen"),
        whole("raised_count"),
        whole("cleared_count"),
        truth("flapping"),
        truth("inhibited"),
        text("message"),
        text("evidence"),
    ];
    let primary =
        vec![place::MACHINE, place::ALERT, place::SEQUENCE, place::EVENT_AT, place::EVENT_COUNT];
    let primary_key = PrimaryKey { columns: primary, position: false };
    Schema::with_primary_key(columns, vec![place::MACHINE], place::AT, primary_key)
        .expect("the columns above are distinct, and `at` is a time")
}

/// The step that says what `rule_stream`, the stream of a rule, says as [entries](entry_schema). Rows stay in their lane. Their
/// key is another, so a row may belong to another worker then.
///
/// # Errors
/// When it is not the stream of a rule.
pub fn entry(rule_stream: &Schema) -> Result<Planned, Vec<ConfigError>> {
    let mut mistakes = Mistakes::default();
    let names = [
        "alert",
        "rule",
        "severity",
        "change",
        "sequence",
        "raised_at",
        "cleared_at",
        "first_seen",
        "flapping",
        "inhibited",
        "message",
        "evidence",
    ];
    let found = names.map(|name| mistakes.one(needs(rule_stream, name)));
    let places = found.into_iter().collect::<Option<Vec<usize>>>();
    let places = mistakes.or(places)?;
    let input = rule_stream.clone();
    Ok(Planned {
        output: entry_schema(),
        late: LateSupport::Stateless,
        state_version: 0,
        build: Arc::new(move |_| {
            let (input, places, output) = (input.clone(), places.clone(), entry_schema());
            Ok(Box::new(Entering { input, places, output }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

/// The operator of [`entry`].
#[derive(Debug)]
struct Entering {
    input: Schema,
    /// Where the columns are that are named in [`entry`].
    places: Vec<usize>,
    output: Schema,
}

impl Entering {
    /// Rows of a lane as entries.
    fn entries(&self, batch: &Batch, clock_ns: i64) -> Result<Batch, Fault> {
        let columns = self.columns(&batch.rows, clock_ns)?;
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        let key_hash = hash_keys(&rows, self.output.key());
        let entries = Batch { rows, key_hash, ..batch.clone() };
        let place = |row: &u32| {
            let row = *row as usize;
            (entries.key_hash.value(row), entries.position.value(row))
        };
        let n_rows = u32::try_from(entries.len()).expect("a batch has fewer than 2^32 rows");
        let mut order: Vec<u32> = (0..n_rows).collect();
        order.sort_by_key(place);
        Ok(entries.take(&UInt32Array::from(order))?)
    }

    fn columns(&self, rows: &RecordBatch, clock_ns: i64) -> Result<Vec<ArrayRef>, Fault> {
        let column = |i: usize| Arc::clone(rows.column(self.places[i]));
        let n = rows.num_rows();
        let none = |domain: TimeDomain| new_null_array(&domain.data_type(), n);
        let counts = self.input.domain() == TimeDomain::Logical;
        let in_utc = |c: ArrayRef| if counts { none(TimeDomain::UtcNanos) } else { c };
        let as_count = |c: ArrayRef| if counts { c } else { none(TimeDomain::Logical) };
        let event = || Arc::clone(rows.column(self.input.time()));
        Ok(vec![
            self.machines(rows)?,
            time_column(vec![clock_ns; n], TimeDomain::UtcNanos),
            column(0),
            column(1),
            column(2),
            column(3),
            column(4),
            in_utc(event()),
            as_count(event()),
            in_utc(column(5)),
            in_utc(column(6)),
            in_utc(column(7)),
            as_count(column(5)),
            as_count(column(6)),
            column(8),
            column(9),
            column(10),
            column(11),
        ])
    }

    fn machines(&self, rows: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<&ArrayRef> = self.input.key().iter().map(|&k| rows.column(k)).collect();
        if let [only] = columns[..]
            && *only.data_type() == self.output.columns()[place::MACHINE].data_type
        {
            return Ok(Arc::clone(only));
        }
        let options = FormatOptions::default();
        let texts = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let machine = |row: usize| match &texts[..] {
            [text] => text.value(row).to_string(),
            texts => {
                let parts = texts.iter().map(|text| escaped(&text.value(row).to_string()));
                parts.collect::<Vec<_>>().join("/")
            }
        };
        let machines: Vec<String> = (0..rows.num_rows()).map(machine).collect();
        let machines = machines.iter().map(|text| Some(text.as_str()));
        Ok(Arc::new(machines.collect::<DictionaryArray<Int32Type>>()))
    }
}

/// One of several values of a key, such that a `/` between two of them is no part of either.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('/', "\\/")
}

impl Operator for Entering {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let Input { rows, late, revised, watermarks } = inputs[0];
        let clock_ns = epoch.clock_ns;
        if !rows.is_empty() {
            out.emit(self.entries(rows, clock_ns)?);
        }
        if !late.is_empty() {
            out.emit_late(self.entries(late, clock_ns)?);
        }
        if !revised.is_empty() {
            out.emit(self.entries(revised, clock_ns)?);
        }
        let used = (rows.len() + late.len() + revised.len()) as u64;
        out.count(Account { used, ..Account::default() });
        out.watermarks(by_clock(&self.output, clock_ns, watermarks.ended()));
        Ok(())
    }
}

/// How far a stream is complete whose event time is the engine's clock.
pub(super) fn by_clock(schema: &Schema, clock_ns: i64, has_ended: bool) -> Watermarks {
    // The next epoch's clock may be the same.
    let low = if has_ended { Watermarks::END } else { clock_ns.saturating_sub(1) };
    Watermarks { low, ..Watermarks::none(schema.key_arrow()) }
}

/// Entries, to be read.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    rows: &'a RecordBatch,
}

impl<'a> Entries<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        Entries { rows: &batch.rows }
    }

    pub(super) fn alert(&self, row: usize) -> &'a str {
        self.texts(place::ALERT).value(row)
    }

    pub(super) fn rule(&self, row: usize) -> &'a str {
        self.texts(place::RULE).value(row)
    }

    /// Whether the event times of the rule are counts.
    pub(super) fn counts(&self, row: usize) -> bool {
        self.rows.column(place::EVENT_COUNT).is_valid(row)
    }

    /// What tells the change from others of its alert: sequence and event time. They sort as they follow one another.
    pub(super) fn place(&self, row: usize) -> (i64, i64) {
        let sequence = self.whole(place::SEQUENCE).value(row);
        (sequence, self.time(place::EVENT_AT, place::EVENT_COUNT, row).unwrap_or(i64::MIN))
    }

    pub(super) fn told(&self, row: usize) -> Told {
        let time = |at, count| self.time(at, count, row);
        Told {
            change: Change::of_rule(self.texts(place::CHANGE).value(row)),
            severity: self.whole(place::SEVERITY).value(row),
            raised_at: time(place::RAISED_AT, place::RAISED_COUNT).unwrap_or(i64::MIN),
            cleared_at: time(place::CLEARED_AT, place::CLEARED_COUNT),
            first_seen: self.moment(place::FIRST_SEEN, row),
            flapping: self.truths(place::FLAPPING).value(row),
            inhibited: self.truths(place::INHIBITED).value(row),
            message: self.text(place::MESSAGE, row),
            evidence: self.text(place::EVIDENCE, row),
        }
    }

    fn texts(&self, column: usize) -> &'a StringArray {
        self.rows.column(column).as_string()
    }

    fn text(&self, column: usize, row: usize) -> Option<String> {
        let texts = self.texts(column);
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    }

    fn whole(&self, column: usize) -> &'a Int64Array {
        self.rows.column(column).as_primitive::<Int64Type>()
    }

    fn truths(&self, column: usize) -> &'a BooleanArray {
        self.rows.column(column).as_boolean()
    }

    fn moment(&self, column: usize, row: usize) -> Option<i64> {
        let times: &TimestampNanosecondArray =
            self.rows.column(column).as_primitive::<TimestampNanosecondType>();
        times.is_valid(row).then(|| times.value(row))
    }

    /// A time that is in one column where it is a timestamp, and in another where it is a count.
    fn time(&self, at: usize, count: usize, row: usize) -> Option<i64> {
        let counts = self.whole(count);
        self.moment(at, row).or_else(|| counts.is_valid(row).then(|| counts.value(row)))
    }
}
