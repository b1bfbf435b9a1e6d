//! Adds to each row columns of the reference row that it finds.
//!
//! Input   a keyed stream, and behind it in `from` a relation of the section `reference`
//! Output  the rows of the stream with columns of the relation behind them, in their units; null where there is none
//! State   the whole relation on every worker, which is not saved: the relation itself is
//! Late    any: a late or corrected row finds what is there when it comes
//! Errors  none: with `unmatched: drop` a row that finds nothing is counted as `filtered`
//! Source  SQL `LEFT JOIN`; with times from which rows count that of SQL:2011, `FOR valid_time AS OF`
//!
//! A change of the relation holds for the rows of the epoch that brings it and of those behind it. What went out before stays as
//! it was; `foreline run --from-journal` computes it anew. What must follow a change by itself is a view.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use foreline_engine::{
    Batch, Column, ConfigError, Epoch, Family, Fault, Input, LateSupport, Operator, OperatorKind,
    Out, Planned, Resolver, Schema, TimeDomain, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::asof_join::Unmatched;
use crate::columns::output;
use crate::entries::Entries;
use crate::select::Selection;
use crate::stateless::{Fate, PerRow, Stateless};

/// Rows that are no longer there are tidied away when they are more than those that are, and than this.
const IDLE_ROWS_MAX: usize = 1024;
/// So many chunks may there be whatever their size, and then one for so many rows: each batch looks at all of them, and
/// rows that are put one by one would be as many chunks.
const CHUNKS_MAX: usize = 64;

/// Adds to each row columns of the reference row that it finds. `from` names the stream, then the reference.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The columns that must agree: a list, or a map from the stream's names to the reference's. They are the whole key of the
    /// reference, so that a row finds at most one. A null agrees with nothing.
    pub on: On,
    /// Which row counts, where the reference has a `valid_from`: that of the row's own event time, or the one that stands when
    /// the row comes. Default `event_time`; a reference without `valid_from` only knows what stands.
    #[serde(default)]
    pub at: Option<At>,
    /// The columns of the reference to add: a list, or a map from new to old names. Left out: all but its key and `valid_from`.
    #[serde(default)]
    pub columns: Option<Selection>,
    /// What becomes of a row that finds nothing: `keep` (unless given), with nulls, or `drop`.
    #[serde(default)]
    pub unmatched: Unmatched,
}

/// Columns that must agree.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a list of columns, or a map from the stream's names to the reference's"
)]
pub enum On {
    /// They have the same names in both.
    Same(Vec<String>),
    /// The reference's names by the stream's.
    Named(Entries<String>),
}

/// Which row of a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The one that counts at the event time of the stream's row.
    EventTime,
    /// The one that stands when the row comes.
    Now,
}

/// The kind `join`.
#[derive(Debug, Clone, Copy)]
pub struct Join;

impl OperatorKind for Join {
    type Config = JoinConfig;

    const NAME: &'static str = "join";
    const SUMMARY: &'static str =
        "adds columns of a reference, such as each machine's line and limits";
    const FAMILY: Family = Family::Shape;
    const LOOKS_UP: bool = true;
    const EXAMPLE: &'static str = "placed: { from: [readings, machines], join: { on: [machine] } }";

    fn plan(
        config: &JoinConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let shape = Shape::plan(config, inputs)?;
        Ok(Planned {
            output: shape.output.clone(),
            late: LateSupport::Stateless,
            state_version: 0,
            build: Arc::new(move |_| Ok(Box::new(Joined(shape.operator()?)))),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// The columns that must agree, stream and reference, in the order of the reference's key.
fn on(on: &On, stream: &Schema, reference: &Schema) -> Result<Vec<usize>, Vec<ConfigError>> {
    let pairs: Vec<(String, &str, &str)> = match on {
        On::Same(names) => {
            let each = names.iter().enumerate();
            each.map(|(i, n)| (format!("on[{i}]"), n.as_str(), n.as_str())).collect()
        }
        On::Named(names) => names.iter().map(|(l, r)| (format!("on.{l}"), l, r.as_str())).collect(),
    };
    let mut errors = Vec::new();
    let mut found = BTreeMap::new();
    for (at, ours, theirs) in pairs {
        let left = here(stream, ours, &at).map_err(|e| errors.push(e)).ok();
        let right = there(reference, theirs, &at).map_err(|e| errors.push(e)).ok();
        let (Some(left), Some(right)) = (left, right) else { continue };
        let types = [stream, reference].map(|s| s.columns());
        let types = [&types[0][left].data_type, &types[1][right].data_type].map(plain);
        if types[0] != types[1] {
            let [a, b] = [&types[0], &types[1]].map(type_name);
            let what = format!("'{ours}' is {a} and '{theirs}' is {b}");
            let error = ConfigError::new(at, what);
            errors.push(error.help("declare them with the same type, or convert one with 'cast'"));
            continue;
        }
        if found.insert(right, left).is_some() {
            let error = ConfigError::new(at, format!("'{theirs}' is there twice"));
            errors.push(error.help("one column of the stream agrees with one of the reference"));
        }
    }
    let is_key = found.keys().eq(reference.key().iter().collect::<BTreeSet<_>>());
    if errors.is_empty() && !is_key {
        let key = reference.key().iter().map(|&k| reference.columns()[k].name.as_str());
        let key = key.collect::<Vec<_>>().join(", ");
        let error = ConfigError::new("on", format!("'on' must be the key of the reference: {key}"));
        errors.push(error.help("by less a row would find several"));
    }
    if errors.is_empty() {
        Ok(reference.key().iter().map(|k| found[k]).collect())
    } else {
        Err(errors)
    }
}

/// The place of a column of the stream.
fn here(stream: &Schema, name: &str, at: &str) -> Result<usize, ConfigError> {
    find(stream.columns(), name, at, "the stream")
}

/// The place of a column that the reference declares. The last one, which it does not, is when the engine heard of a row:
/// after a restart it is another.
fn there(reference: &Schema, name: &str, at: &str) -> Result<usize, ConfigError> {
    find(&reference.columns()[..reference.columns().len() - 1], name, at, "the reference")
}

fn find(columns: &[Column], name: &str, at: &str, of: &str) -> Result<usize, ConfigError> {
    columns.iter().position(|c| c.name == name).ok_or_else(|| {
        let known = columns.iter().map(|c| &c.name);
        ConfigError::new(at, format!("{of} has no column '{name}'")).unknown(name, known)
    })
}

/// The column of the times from which rows of a reference count.
fn valid_from(reference: &Schema) -> Option<usize> {
    reference.primary_key().columns.iter().copied().find(|c| !reference.key().contains(c))
}

fn at(at: Option<At>, stream: &Schema, reference: &Schema) -> Result<At, ConfigError> {
    let Some(from) = valid_from(reference) else {
        return match at {
            None | Some(At::Now) => Ok(At::Now),
            Some(At::EventTime) => {
                let what = "the reference does not say from when its rows count";
                let help = "give the reference a 'valid_from', or leave 'at' out";
                Err(ConfigError::new("at", what).help(help))
            }
        };
    };
    let column = &reference.columns()[from];
    let at = at.unwrap_or(At::EventTime);
    let counts = column.data_type == DataType::Int64;
    if at == At::EventTime && counts != (stream.domain() == TimeDomain::Logical) {
        let what = format!("'{}' is not in the time of the stream", column.name);
        let help = "one is a timestamp and the other a count: write at: now, or give both the same";
        return Err(ConfigError::new("at", what).help(help));
    }
    Ok(at)
}

/// The columns of the reference that come out, with the names that they get.
fn taken(
    columns: Option<&Selection>,
    reference: &Schema,
) -> Result<Vec<(usize, Column)>, Vec<ConfigError>> {
    let own = |i: usize, name: &str| {
        let column = &reference.columns()[i];
        let data_type = plain(&column.data_type);
        (i, Column { name: name.to_owned(), data_type, ..column.clone() })
    };
    let Some(columns) = columns else {
        let from = valid_from(reference);
        let rest = (0..reference.columns().len() - 1)
            .filter(|i| !reference.key().contains(i) && Some(*i) != from);
        return Ok(rest.map(|i| own(i, &reference.columns()[i].name)).collect());
    };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for (at, new, old) in columns.pairs() {
        match there(reference, old, &at) {
            Ok(i) => found.push(own(i, new)),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// Text is text, dictionary-encoded or not.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// What is joined and how.
#[derive(Debug, Clone)]
struct Shape {
    /// The stream's columns, in the order of the reference's key.
    on: Vec<usize>,
    at: At,
    /// The reference's columns that come out.
    taken: Vec<usize>,
    unmatched: Unmatched,
    stream: Schema,
    reference: Schema,
    output: Schema,
}

impl Shape {
    /// What the configuration says of a stream and a reference, or everything that is wrong with it.
    fn plan(config: &JoinConfig, inputs: &[Schema]) -> Result<Self, Vec<ConfigError>> {
        let [stream, reference] = inputs else {
            let error = ConfigError::new("", "a join reads a stream and a reference");
            return Err(vec![
                error.help("name both, the stream first: from: [readings, machines]"),
            ]);
        };
        let mut errors = Vec::new();
        let on = on(&config.on, stream, reference).map_err(|e| errors.extend(e)).ok();
        let at = at(config.at, stream, reference).map_err(|e| errors.push(e)).ok();
        let taken = taken(config.columns.as_ref(), reference).map_err(|e| errors.extend(e)).ok();
        let (Some(on), Some(at), Some(taken)) = (on, at, taken) else { return Err(errors) };
        let mut columns = stream.columns().to_vec();
        columns.extend(taken.iter().map(|(_, column)| column.clone()));
        let (key, time) = (stream.key().to_vec(), stream.time());
        let output = output(columns, key, time, stream.primary_key().clone());
        let output = output.map_err(|e| {
            let help = "choose other names, as in columns: { machine_line: line }";
            vec![e.under("columns").help(help)]
        })?;
        Ok(Shape {
            on,
            at,
            taken: taken.into_iter().map(|(i, _)| i).collect(),
            unmatched: config.unmatched,
            stream: stream.clone(),
            reference: reference.clone(),
            output,
        })
    }

    fn operator(&self) -> Result<Stateless<Lookup>, Fault> {
        let key = self.reference.key().iter().map(|&k| &self.reference.columns()[k].data_type);
        let key = RowConverter::new(key.map(|t| SortField::new(plain(t))).collect())?;
        let taken = self.taken.iter().map(|&c| plain(&self.reference.columns()[c].data_type));
        let none = taken.map(|t| new_null_array(&t, 1)).collect();
        let function = Lookup {
            shape: self.clone(),
            key,
            from: valid_from(&self.reference),
            rows: BTreeMap::new(),
            chunks: vec![none],
            n_rows: 0,
            n_idle: 0,
            clock_ns: Cell::new(i64::MIN),
        };
        Ok(Stateless { input: self.stream.clone(), function })
    }
}

/// Where a row lies among the chunks.
type Place = (usize, usize);

/// The relation, to look rows up in.
#[derive(Debug)]
struct Lookup {
    shape: Shape,
    key: RowConverter,
    from: Option<usize>,
    /// By key, and the time from which the row counts.
    rows: BTreeMap<OwnedRow, BTreeMap<i64, Place>>,
    /// The columns that come out, in chunks; the first has one row of nulls.
    chunks: Vec<Vec<ArrayRef>>,
    n_rows: usize,
    /// Rows of the chunks that are no longer there.
    n_idle: usize,
    clock_ns: Cell<i64>,
}

/// The row that finds nothing.
const NOTHING: Place = (0, 0);

impl Lookup {
    fn keys(&self, columns: &[ArrayRef], of: &[usize]) -> Result<arrow::row::Rows, Fault> {
        let picked = of.iter().map(|&c| cast(&columns[c], &plain(columns[c].data_type())));
        Ok(self.key.convert_columns(&picked.collect::<Result<Vec<_>, _>>()?)?)
    }

    /// The time from which each row counts.
    fn times(&self, rows: &RecordBatch) -> Vec<i64> {
        let Some(from) = self.from else { return vec![i64::MIN; rows.num_rows()] };
        let column = rows.column(from);
        let values = match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().values(),
            _ => column.as_primitive::<TimestampNanosecondType>().values(),
        };
        let time = |(i, &at): (usize, &i64)| if column.is_valid(i) { at } else { i64::MIN };
        values.iter().enumerate().map(time).collect()
    }

    /// Takes a change of the relation in.
    fn change(&mut self, went: &Batch, came: &Batch) -> Result<(), Fault> {
        let key = self.shape.reference.key().to_vec();
        let keys = self.keys(went.rows.columns(), &key)?;
        for (key, from) in keys.iter().zip(self.times(&went.rows)) {
            let key = key.owned();
            if let Some(rows) = self.rows.get_mut(&key) {
                let removed = usize::from(rows.remove(&from).is_some());
                (self.n_rows, self.n_idle) = (self.n_rows - removed, self.n_idle + removed);
                if rows.is_empty() {
                    self.rows.remove(&key);
                }
            }
        }
        if came.is_empty() {
            return self.tidy();
        }
        let keys = self.keys(came.rows.columns(), &key)?;
        let chunk = self.chunks.len();
        for (row, (key, from)) in keys.iter().zip(self.times(&came.rows)).enumerate() {
            let rows = self.rows.entry(key.owned()).or_default();
            match rows.insert(from, (chunk, row)) {
                Some(_) => self.n_idle += 1,
                None => self.n_rows += 1,
            }
        }
        let columns = self.shape.taken.iter().map(|&c| {
            let column = came.rows.column(c);
            cast(column, &plain(column.data_type()))
        });
        self.chunks.push(columns.collect::<Result<_, _>>()?);
        self.tidy()
    }

    /// Puts the rows that are there into one chunk, when most are not, or the chunks are small.
    fn tidy(&mut self) -> Result<(), Fault> {
        let few_chunks = self.chunks.len() <= CHUNKS_MAX + self.n_rows / CHUNKS_MAX;
        if self.n_idle <= self.n_rows.max(IDLE_ROWS_MAX) && few_chunks {
            return Ok(());
        }
        let places: Vec<Place> = self.rows.values().flat_map(|r| r.values().copied()).collect();
        let whole = self.gather(&places)?;
        let all = self.rows.values_mut().flat_map(BTreeMap::values_mut);
        for (row, place) in all.enumerate() {
            *place = (1, row);
        }
        self.chunks.truncate(1);
        self.chunks.push(whole);
        self.n_idle = 0;
        Ok(())
    }

    fn gather(&self, places: &[Place]) -> Result<Vec<ArrayRef>, Fault> {
        let column = |c: usize| {
            let chunks: Vec<&dyn Array> = self.chunks.iter().map(|chunk| &*chunk[c]).collect();
            Ok(interleave(&chunks, places)?)
        };
        (0..self.shape.taken.len()).map(column).collect()
    }

    /// The row that is found by each row of the stream.
    fn found(&self, rows: &RecordBatch) -> Result<Vec<Place>, Fault> {
        let keys = self.keys(rows.columns(), &self.shape.on)?;
        let time = rows.column(self.shape.stream.time());
        let times = match self.shape.stream.domain() {
            TimeDomain::Logical => time.as_primitive::<Int64Type>().values(),
            TimeDomain::UtcNanos => time.as_primitive::<TimestampNanosecondType>().values(),
        };
        let is_whole = |row: usize| self.shape.on.iter().all(|&c| rows.column(c).is_valid(row));
        let found = |(row, key): (usize, arrow::row::Row<'_>)| {
            let known = self.rows.get(&key.owned()).filter(|_| is_whole(row));
            let until = match self.shape.at {
                At::EventTime => times[row],
                At::Now if self.counts() => i64::MAX,
                At::Now => self.clock_ns.get(),
            };
            let place = known.and_then(|known| known.range(..=until).next_back());
            place.map_or(NOTHING, |(_, place)| *place)
        };
        Ok(keys.iter().enumerate().map(found).collect())
    }

    /// Whether the reference's times are counts, which the clock says nothing of.
    fn counts(&self) -> bool {
        self.from.is_some_and(|c| self.shape.reference.columns()[c].data_type == DataType::Int64)
    }
}

impl PerRow for Lookup {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let places = self.found(rows)?;
        let mut columns = rows.columns().to_vec();
        columns.extend(self.gather(&places)?);
        let joined = RecordBatch::try_new(self.shape.output.arrow().clone(), columns)?;
        let fate = |place: &Place| match *place {
            NOTHING => Fate::Filtered,
            _ => Fate::Kept,
        };
        let drops = self.shape.unmatched == Unmatched::Drop;
        Ok((joined, drops.then(|| places.iter().map(fate).collect())))
    }
}

/// The operator.
#[derive(Debug)]
struct Joined(Stateless<Lookup>);

impl Operator for Joined {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        self.0.function.clock_ns.set(epoch.clock_ns);
        self.0.epoch(epoch, &inputs[..1], out)
    }

    fn relation(&mut self, _: usize, went: &Batch, came: &Batch) -> Result<(), Fault> {
        self.0.function.change(went, came)
    }
}

#[cfg(test)]
mod tests;
