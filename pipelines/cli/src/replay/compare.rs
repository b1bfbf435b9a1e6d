//! What differs between the rows of a stream on two sides.
//!
//! Rows meet by primary key. A column is compared when both sides have it with one type; what the primary key is made of
//! and what says which model made a score is not. Values differ when their bits do, except that a null is a null.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Batch, Column, Pair, PrimaryKey, RunId, Schema, Sink, identifies_like, side_by_side,
};
use foreline_plugins::PROVENANCE;
use serde::Serialize;

use super::spill::{PARTS, Spilled};

/// What differs in a stream.
#[derive(Debug, Serialize)]
pub(super) struct Differences {
    /// The stream.
    pub(super) stream: String,
    /// Rows on each side.
    pub(super) rows: Sides,
    /// Rows that are the same on both sides in every column that is compared.
    pub(super) same: u64,
    /// Rows that both sides have, with other values.
    pub(super) changed: u64,
    /// Rows that only one side has.
    pub(super) only: Sides,
    /// The columns that are compared.
    pub(super) columns: Vec<ColumnDifference>,
    /// The columns that are not, but for those of the primary key, with the reason.
    pub(super) not_compared: Vec<String>,
}

/// A count on each side.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Sides {
    pub(super) before: u64,
    pub(super) after: u64,
}

/// What differs in a column, over the rows that both sides have.
#[derive(Debug, Default, Serialize)]
pub(super) struct ColumnDifference {
    pub(super) column: String,
    /// Rows in which it differs.
    pub(super) changed: u64,
    /// Means over the rows with a number on both sides; `None` where there is none.
    pub(super) mean_before: Option<f64>,
    pub(super) mean_after: Option<f64>,
    pub(super) mean_difference: Option<f64>,
    pub(super) mean_absolute_difference: Option<f64>,
    pub(super) max_absolute_difference: Option<f64>,
    /// The row that differs most, or the first that differs where there are no numbers.
    pub(super) most: Option<Example>,
}

/// A row that differs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Example {
    /// Its key and event time.
    pub(super) row: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl Differences {
    pub(super) fn is_none(&self) -> bool {
        self.changed == 0 && self.only.before == 0 && self.only.after == 0
    }
}

/// Compares what was put aside of a stream; with `changes` a table of what differs is written below that folder.
///
/// # Errors
/// When the sides have no primary key in common, or files cannot be read or written.
pub(super) fn compare(
    stream: &str,
    before: &Spilled,
    after: &Spilled,
    changes: Option<&Path>,
) -> Result<Differences> {
    if !identifies_like(&before.schema, &after.schema) {
        bail!(
            "the rows of '{stream}' have different primary keys on the two sides: nothing says which belong together"
        );
    }
    let (shared, not_compared) = shared(&before.schema, &after.schema);
    let mut sums: Vec<Sums> = shared.iter().map(|_| Sums::default()).collect();
    let mut changes =
        changes.map(|to| Changes::open(to, stream, &before.schema, &shared)).transpose()?;
    let mut found = Differences {
        stream: stream.to_owned(),
        rows: Sides::default(),
        same: 0,
        changed: 0,
        only: Sides::default(),
        columns: Vec::new(),
        not_compared,
    };
    for part in 0..PARTS {
        let (one, other) = (before.settled(part)?, after.settled(part)?);
        let pairs = side_by_side((&before.schema, &one), (&after.schema, &other))?;
        let part = Part { schema: &before.schema, one: &one, other: &other, shared: &shared };
        let (both, changed) = part.differences(&pairs, &mut sums)?;
        found.rows.before += one.len() as u64;
        found.rows.after += other.len() as u64;
        found.only.before += one.len() as u64 - both.len() as u64;
        found.only.after += other.len() as u64 - both.len() as u64;
        found.changed += changed.true_count() as u64;
        found.same += (both.len() - changed.true_count()) as u64;
        if let Some(changes) = &mut changes {
            changes.write(&part, &pairs, &both, &changed)?;
        }
    }
    found.columns = shared.iter().zip(sums).map(|(s, sums)| sums.finish(&s.name)).collect();
    Ok(found)
}

/// A column that is compared, and where each side has it.
struct Shared {
    name: String,
    before: usize,
    after: usize,
    numeric: bool,
}

/// The columns that are compared, and those that are not.
fn shared(before: &Schema, after: &Schema) -> (Vec<Shared>, Vec<String>) {
    let (mut shared, mut not) = (Vec::new(), Vec::new());
    let primary = |i: usize| {
        i == before.time() || before.key().contains(&i) || before.primary_key().columns.contains(&i)
    };
    for (i, column) in before.columns().iter().enumerate().filter(|(i, _)| !primary(*i)) {
        let name = &column.name;
        if PROVENANCE.contains(&name.as_str()) {
            not.push(format!("{name} (says which model it was)"));
            continue;
        }
        match after.index_of(name) {
            None => not.push(format!("{name} (only before)")),
            Some(j) if after.columns()[j].data_type != column.data_type => {
                let other = &after.columns()[j].data_type;
                not.push(format!("{name} ({} before, {other} after)", column.data_type));
            }
            Some(j) => shared.push(Shared {
                name: name.clone(),
                before: i,
                after: j,
                numeric: column.data_type.is_numeric(),
            }),
        }
    }
    let only_after = after.columns().iter().filter(|c| before.index_of(&c.name).is_none());
    not.extend(only_after.map(|c| format!("{} (only after)", c.name)));
    (shared, not)
}

/// The rows of both sides that are looked at together.
struct Part<'a> {
    schema: &'a Schema,
    one: &'a Batch,
    other: &'a Batch,
    shared: &'a [Shared],
}

impl Part<'_> {
    /// The rows that both sides have, and which of them differ.
    fn differences(
        &self,
        pairs: &[Pair],
        sums: &mut [Sums],
    ) -> Result<(Vec<(u32, u32)>, BooleanArray), ArrowError> {
        let both: Vec<(u32, u32)> = pairs.iter().filter_map(|p| p.0.zip(p.1)).collect();
        let before: UInt32Array = both.iter().map(|p| p.0).collect::<Vec<_>>().into();
        let after: UInt32Array = both.iter().map(|p| p.1).collect::<Vec<_>>().into();
        let mut any = vec![false; both.len()];
        for (column, sums) in self.shared.iter().zip(sums) {
            let one = take(&plain(self.one.rows.column(column.before))?, &before, None)?;
            let other = take(&plain(self.other.rows.column(column.after))?, &after, None)?;
            let differs = distinct(&one, &other)?;
            any.iter_mut().zip(differs.values()).for_each(|(any, differs)| *any |= differs);
            let at = |row: usize| self.row(before.value(row) as usize);
            sums.add(&one, &other, &differs, column.numeric, at)?;
        }
        Ok((both, any.into()))
    }

    /// The key and the event time of a row, as text.
    fn row(&self, row: usize) -> Result<String, ArrowError> {
        let text = |&c: &usize| array_value_to_string(self.one.rows.column(c), row);
        let key: Vec<String> = self.schema.key().iter().map(text).collect::<Result<_, _>>()?;
        Ok(format!("{} at {}", key.join(" "), text(&self.schema.time())?))
    }
}

/// A column as text where it is a dictionary, which cannot be compared.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values),
        _ => Ok(Arc::clone(column)),
    }
}

/// What the differences of a column add up to.
#[derive(Debug, Default)]
struct Sums {
    changed: u64,
    n: u64,
    before: f64,
    after: f64,
    absolute: f64,
    max: Option<f64>,
    most: Option<Example>,
}

impl Sums {
    fn add(
        &mut self,
        one: &ArrayRef,
        other: &ArrayRef,
        differs: &BooleanArray,
        numeric: bool,
        row: impl Fn(usize) -> Result<String, ArrowError>,
    ) -> Result<(), ArrowError> {
        self.changed += differs.true_count() as u64;
        let mut most = None;
        if numeric {
            let (one, other) = (numbers(one)?, numbers(other)?);
            for i in 0..one.len() {
                if one.is_valid(i) && other.is_valid(i) && self.number(one.value(i), other.value(i))
                {
                    most = Some(i);
                }
            }
        }
        if most.is_none() && self.most.is_none() {
            most = (0..differs.len()).find(|&i| differs.value(i));
        }
        if let Some(i) = most {
            let text = |side: &ArrayRef| match side.is_null(i) {
                true => Ok("null".to_owned()),
                false => array_value_to_string(side, i),
            };
            self.most = Some(Example { row: row(i)?, before: text(one)?, after: text(other)? });
        }
        Ok(())
    }

    /// Takes two numbers in; whether they differ more than any before.
    fn number(&mut self, before: f64, after: f64) -> bool {
        let difference = (after - before).abs();
        if !difference.is_finite() {
            return false;
        }
        self.n += 1;
        self.before += before;
        self.after += after;
        self.absolute += difference;
        let more = difference > self.max.unwrap_or(0.0);
        self.max = Some(self.max.unwrap_or(0.0).max(difference));
        more
    }

    fn finish(self, column: &str) -> ColumnDifference {
        let mean = |sum: f64| (self.n > 0).then(|| sum / self.n as f64);
        ColumnDifference {
            column: column.to_owned(),
            changed: self.changed,
            mean_before: mean(self.before),
            mean_after: mean(self.after),
            mean_difference: mean(self.after - self.before),
            mean_absolute_difference: mean(self.absolute),
            max_absolute_difference: self.max,
            most: self.most,
        }
    }
}

fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// The table of what differs: the primary key, which side has the row, and each compared column of both sides.
struct Changes {
    sink: Box<dyn Sink>,
    schema: Schema,
    /// The columns that tell rows apart, of a side.
    identity: Vec<usize>,
    written: u64,
}

impl Changes {
    fn open(folder: &Path, stream: &str, of: &Schema, shared: &[Shared]) -> Result<Self> {
        let mut identity = of.key().to_vec();
        for column in [of.time()].iter().chain(&of.primary_key().columns) {
            if !identity.contains(column) {
                identity.push(*column);
            }
        }
        let mut columns: Vec<Column> = identity.iter().map(|&i| of.columns()[i].clone()).collect();
        columns.push(Column::new("change", DataType::Utf8));
        for column in shared {
            let like = &of.columns()[column.before];
            for side in ["before", "after"] {
                let name = format!("{side}_{}", column.name);
                columns.push(Column { name, ..like.clone() });
            }
        }
        let place = |c: &usize| identity.iter().position(|i| i == c);
        let key = of.key().iter().filter_map(place).collect();
        let time = place(&of.time()).unwrap_or_default();
        let primary = PrimaryKey {
            columns: of.primary_key().columns.iter().filter_map(place).collect(),
            position: of.primary_key().position,
        };
        let schema = Schema::with_primary_key(columns, key, time, primary)?;
        let mut sink = foreline_connectors::parquet::folder_sink(folder, stream);
        sink.open(RunId(1), 1, &schema)?;
        Ok(Changes { sink, schema, identity, written: 0 })
    }

    fn write(
        &mut self,
        part: &Part<'_>,
        pairs: &[Pair],
        both: &[(u32, u32)],
        changed: &BooleanArray,
    ) -> Result<()> {
        let mut same = both.iter().zip(changed.values()).filter(|(_, changed)| !changed);
        let mut next_same = same.next().map(|(pair, _)| *pair);
        let mut wanted = Vec::new();
        for pair in pairs {
            if pair.0.zip(pair.1).is_some() && pair.0.zip(pair.1) == next_same {
                next_same = same.next().map(|(pair, _)| *pair);
            } else {
                wanted.push(*pair);
            }
        }
        let epoch = self.written + 1;
        self.written = epoch;
        if !wanted.is_empty() {
            self.sink.write(epoch, &[self.rows(part, &wanted)?])?;
        }
        self.sink.commit(epoch)?;
        Ok(())
    }

    fn rows(&self, part: &Part<'_>, pairs: &[Pair]) -> Result<Batch> {
        let n_one = u32::try_from(part.one.len())?;
        let either: UInt32Array =
            pairs.iter().map(|p| p.0.or(p.1.map(|row| n_one + row))).collect();
        let of_either = |one: &dyn Array, other: &dyn Array| {
            concat(&[one, other]).and_then(|all| take(&all, &either, None))
        };
        let mut columns = Vec::new();
        for &c in &self.identity {
            let name = &part.schema.columns()[c].name;
            let other = part.other.rows.column_by_name(name).unwrap_or(part.other.rows.column(c));
            columns.push(of_either(part.one.rows.column(c), other)?);
        }
        let change = pairs.iter().map(|pair| match pair {
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "only_before",
            (None, _) => "only_after",
        });
        columns.push(Arc::new(StringArray::from_iter_values(change)));
        let side = |one: bool| pairs.iter().map(|p| if one { p.0 } else { p.1 }).collect();
        let (before, after): (UInt32Array, UInt32Array) = (side(true), side(false));
        for shared in part.shared {
            columns.push(take(part.one.rows.column(shared.before), &before, None)?);
            columns.push(take(part.other.rows.column(shared.after), &after, None)?);
        }
        let rows = arrow::array::RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns)?;
        let number = |one: &UInt64Array, other: &UInt64Array| {
            of_either(one, other).map(|a| a.as_primitive::<arrow::datatypes::UInt64Type>().clone())
        };
        let hash = number(&part.one.key_hash, &part.other.key_hash)?;
        let position = number(&part.one.position, &part.other.position)?;
        Ok(Batch::new(rows, hash, position)?)
    }
}
