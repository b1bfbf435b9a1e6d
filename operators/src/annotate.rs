//! Steps that send every row on with columns added, each made from what the key has brought so far.
//!
//! What a reader would get wrong: inside, every value is an `f64` with NaN where it is missing, a truth value 0 or
//! 1 and a text its place in a list; the columns get their types on the way out. A step says what it reads and
//! what it makes of the rows of a key ([`Annotate`]); state by key, the account and the columns are here.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Batch, Column, ConfigError, Epoch, Extent, Fault, Group, Input, Keyed, LateSupport,
    Operator, Out, Planned, Schema, ShardSet, TimeDomain, Unit,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::{has_missing, nullable, output, positive, same_version};
use crate::flags::{flag, piece, raised};
use crate::words::spelt;

mod each;

pub(crate) use each::{Detector, Watched, places, planned_each, renamed_unknown};

/// What an added column holds; the step gives numbers.
#[derive(Debug, Clone)]
pub(crate) enum Holds {
    /// `Float64`.
    Number,
    /// `Int64`.
    Whole,
    /// `Boolean`: 0 or 1.
    Flag,
    /// `Utf8`: a place in the list.
    Text(Arc<[String]>),
}

/// A column that a step adds.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub(crate) name: String,
    pub(crate) holds: Holds,
    pub(crate) unit: Option<Unit>,
    /// The column whose place it takes; `None`: it comes behind all others.
    pub(crate) replaces: Option<usize>,
}

impl Added {
    /// A column behind all others, without a unit.
    pub(crate) fn new(name: impl Into<String>, holds: Holds) -> Self {
        Added { name: name.into(), holds, unit: None, replaces: None }
    }

    /// The same in `unit`.
    pub(crate) fn with_unit(self, unit: Option<Unit>) -> Self {
        Added { unit, ..self }
    }

    fn column(&self) -> Column {
        let data_type = match self.holds {
            Holds::Number => DataType::Float64,
            Holds::Whole => DataType::Int64,
            Holds::Flag => DataType::Boolean,
            Holds::Text(_) => DataType::Utf8,
        };
        Column::new(self.name.as_str(), data_type).with_unit(self.unit.clone())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a step gives whole numbers and places where it says so"
    )]
    fn array(&self, values: Vec<f64>) -> ArrayRef {
        match &self.holds {
            Holds::Number => Arc::new(nullable(values)),
            Holds::Whole => {
                let whole = values.iter().map(|&v| v as i64).collect();
                Arc::new(Int64Array::new(whole, there(&values)))
            }
            Holds::Flag => {
                let flags = BooleanBuffer::collect_bool(values.len(), |row| values[row] != 0.0);
                Arc::new(BooleanArray::new(flags, there(&values)))
            }
            Holds::Text(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let place = |&v: &f64| if v.is_nan() { u32::MAX } else { v as u32 };
                Arc::new(spelt(&words, &values.iter().map(place).collect::<Vec<u32>>()))
            }
        }
    }
}

/// Which values are there; `None`: all.
fn there(values: &[f64]) -> Option<NullBuffer> {
    let is_there = |row: usize| !values[row].is_nan();
    has_missing(values).then(|| BooleanBuffer::collect_bool(values.len(), is_there).into())
}

/// What a step makes of the rows of a key.
pub(crate) trait Annotate: fmt::Debug + Clone + Send + Sync + 'static {
    /// What it has to remember of a key.
    type State: fmt::Debug + Serialize + DeserializeOwned + 'static;

    /// Raised whenever the meaning of `State` changes.
    const STATE_VERSION: u32;

    /// The channels that [`Annotate::follow`] is given.
    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault>;

    /// The state of a key that was not there.
    fn start(&self) -> Self::State;

    /// Takes in rows of a key, in order, and appends one value a row to each of `out`, the added columns.
    fn follow(
        &self,
        times: &[i64],
        channels: &[&[f64]],
        state: &mut Self::State,
        out: &mut [Vec<f64>],
    );
}

/// The plan of a step that adds `added` to the rows of `input`.
///
/// # Errors
/// When two columns have one name.
pub(crate) fn planned<A: Annotate>(
    input: &Schema,
    annotate: A,
    added: Vec<Added>,
) -> Result<Planned, Vec<ConfigError>> {
    planned_until(input, annotate, added, None)
}

/// The same; a key begins anew with each row whose flag at the place `resets` is up.
///
/// # Errors
/// When two columns have one name.
pub(crate) fn planned_until<A: Annotate>(
    input: &Schema,
    annotate: A,
    added: Vec<Added>,
    resets: Option<usize>,
) -> Result<Planned, Vec<ConfigError>> {
    let mut columns = input.columns().to_vec();
    for new in &added {
        match new.replaces {
            Some(place) => columns[place] = new.column(),
            None => columns.push(new.column()),
        }
    }
    let key = input.key().to_vec();
    let schema = output(columns, key, input.time(), input.primary_key().clone());
    let output = schema.map_err(|e| vec![e.under("as")])?;
    let (input, schema) = (input.clone(), output.clone());
    Ok(Planned {
        output,
        late: LateSupport::Corrects,
        state_version: A::STATE_VERSION,
        build: Arc::new(move |_| {
            Ok(Box::new(Annotated {
                states: Keyed::new(&input),
                input: input.clone(),
                output: schema.clone(),
                annotate: annotate.clone(),
                added: added.clone(),
                resets,
            }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

#[derive(Debug)]
struct Annotated<A: Annotate> {
    input: Schema,
    output: Schema,
    annotate: A,
    added: Vec<Added>,
    resets: Option<usize>,
    states: Keyed<A::State>,
}

impl<A: Annotate> Operator for Annotated<A> {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let times = batch.times(&self.input);
        let channels = self.annotate.channels(batch)?;
        let resets = self.resets.map(|column| raised(batch, column));
        let column = |_: &Added| Vec::with_capacity(batch.len());
        let mut results: Vec<Vec<f64>> = self.added.iter().map(column).collect();
        let mut parts: Vec<&[f64]> = Vec::with_capacity(channels.len());
        for Group { start, end, .. } in batch.groups() {
            let slot =
                self.states.slot(batch, self.input.key(), start, || self.annotate.start())?;
            let state = self.states.get_mut(slot);
            let mut from = start;
            while from < end {
                let to = piece(resets.as_deref(), from, end);
                if resets.as_ref().is_some_and(|flags| flags[from]) {
                    *state = self.annotate.start();
                }
                parts.clear();
                parts.extend(channels.iter().map(|values| &values[from..to]));
                self.annotate.follow(&times[from..to], &parts, state, &mut results);
                from = to;
            }
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(self.with(batch, results)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.states.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.states.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, A::STATE_VERSION)?;
        self.states.load(&state)
    }
}

impl<A: Annotate> Annotated<A> {
    fn with(&self, batch: &Batch, results: Vec<Vec<f64>>) -> Result<Batch, Fault> {
        let mut columns = batch.rows.columns().to_vec();
        for (added, values) in self.added.iter().zip(results) {
            match added.replaces {
                Some(place) => columns[place] = added.array(values),
                None => columns.push(added.array(values)),
            }
        }
        Ok(batch.with_columns(self.output.arrow(), columns)?)
    }
}

/// Both, or the mistakes of both.
///
/// # Errors
/// When one of them is an error.
pub(crate) fn both<A, B>(
    a: Result<A, Vec<ConfigError>>,
    b: Result<B, Vec<ConfigError>>,
) -> Result<(A, B), Vec<ConfigError>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => Err([a.err(), b.err()].into_iter().flatten().flatten().collect()),
    }
}

/// The place of the flag `reset_on`, where there is one.
///
/// # Errors
/// When there is no such column or it is something else.
pub(crate) fn reset(input: &Schema, name: Option<&str>) -> Result<Option<usize>, Vec<ConfigError>> {
    name.map(|name| flag(input, "reset_on", name)).transpose().map_err(|e| vec![e])
}

/// The length `max_gap`, where there is one.
///
/// # Errors
/// When it is not above zero or not of the domain.
pub(crate) fn gap(
    max_gap: Option<Extent>,
    domain: TimeDomain,
) -> Result<Option<i64>, Vec<ConfigError>> {
    max_gap.map(|gap| positive("max_gap", gap, domain)).transpose().map_err(|e| vec![e])
}

/// A number that has to be `fit`.
///
/// # Errors
/// When it is not, at `at`; `help` says what would be.
pub(crate) fn fit(at: &str, value: f64, fit: bool, help: &str) -> Result<f64, ConfigError> {
    let error = || ConfigError::new(at, format!("'{value}' is out of range")).help(help);
    if fit { Ok(value) } else { Err(error()) }
}

/// Whether more than `max_gap` lies between the last value and this one.
#[inline]
pub(crate) fn is_gap(max_gap: Option<i64>, last: Option<i64>, at: i64) -> bool {
    max_gap.zip(last).is_some_and(|(gap, last)| at.saturating_sub(last) > gap)
}

/// A truth value as a result.
#[inline]
pub(crate) fn truth(is_true: bool) -> f64 {
    f64::from(u8::from(is_true))
}

/// Event times in a second, or in a count where the time is one; and the unit of that.
pub(crate) fn ticks(input: &Schema) -> (f64, Option<Unit>) {
    match input.domain() {
        TimeDomain::UtcNanos => (1e9, Some(Unit::new("s"))),
        TimeDomain::Logical => (1.0, input.columns()[input.time()].unit.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Table, sameness, try_plan};

    /// With a repair a key is one that nothing was known of; before it, it is as without.
    #[test]
    fn a_repair_has_a_key_begin_anew() {
        let rows = |from: i64, to: i64, flags: bool| {
            let each = (from..to).map(|t| {
                let (x, y, f) = (t * t % 7 + t / 9, t % 5 + t * 3 % 4, flags && t == 18);
                format!("a,{t},{x},{y},{f}\n")
            });
            let text = format!("m,t,x,y,f:bool\n{}", each.collect::<String>());
            Table::parse(TimeDomain::Logical, &text)
        };
        for (kind, result, config) in [
            ("adwin", "x_adwin_mean", json!({ "columns": ["x"], "clock": 2 })),
            ("cusum", "x_cusum_high", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            ("drift", "x_mean", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            ("ewma_chart", "x_ewma", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            (
                "page_hinkley",
                "x_page_hinkley_up",
                json!({ "columns": ["x"], "limit": 50, "min_rows": 4 }),
            ),
            (
                "half_space_trees",
                "anomaly_score",
                json!({ "columns": ["x", "y"], "learn": { "rows": 8 }, "window": 5 }),
            ),
            ("pca_t2q", "pca_t2", json!({ "columns": ["x", "y"], "learn": { "rows": 8 } })),
        ] {
            let of = |config: &serde_json::Value, rows: &Table| {
                sameness(kind, config, rows).numbers(result)
            };
            let mut resets = config.clone();
            resets["reset_on"] = json!("f");
            let found = of(&resets, &rows(0, 36, true));
            let (before, after) = found.split_at(18);
            assert_eq!(before, of(&config, &rows(0, 18, false)), "{kind}");
            assert_eq!(after, of(&config, &rows(18, 36, false)), "{kind}");
            assert_ne!(
                after,
                &of(&config, &rows(0, 36, false))[18..],
                "{kind} had something to forget"
            );
            let mut wrong = config;
            wrong["reset_on"] = json!("x");
            let errors = try_plan(kind, &wrong, &rows(0, 1, false).schema).unwrap_err();
            assert_eq!(errors, ["reset_on: column 'x' is Float64, not true or false"], "{kind}");
        }
    }

    /// Detectors with a sum or a mean that one infinite value would spoil for ever.
    #[test]
    fn an_infinite_value_is_as_if_it_were_not_there() {
        let rows = |odd: &str| {
            let each = (0..24).map(|t| match t {
                7 | 15 => format!("a,{t},{odd},{t}\n"),
                _ => format!("a,{t},{},{}\n", t * t % 7, t % 5),
            });
            Table::parse(TimeDomain::Logical, &format!("m,t,x,y\n{}", each.collect::<String>()))
        };
        for (kind, config) in [
            ("adwin", json!({ "columns": ["x"], "clock": 2 })),
            ("cusum", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            ("drift", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            ("ewma_chart", json!({ "columns": ["x"], "learn": { "rows": 8 } })),
            (
                "half_space_trees",
                json!({ "columns": ["x", "y"], "learn": { "rows": 8 }, "window": 4, "depth": 2 }),
            ),
            ("matrix_profile", json!({ "columns": ["x"], "rows": 3 })),
            ("page_hinkley", json!({ "columns": ["x"] })),
            ("pca_t2q", json!({ "columns": ["x", "y"], "learn": { "rows": 8 } })),
        ] {
            let said = |odd: &str| -> Vec<_> {
                let rows = sameness(kind, &config, &rows(odd)).rows;
                rows.into_iter().map(|row| row.cells[4..].to_vec()).collect()
            };
            assert_eq!(said("inf"), said(""), "{kind}");
            assert_ne!(said(""), said("3"), "{kind}");
        }
    }
}
