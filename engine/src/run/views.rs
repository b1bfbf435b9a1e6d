//! Views in the dataflow: collections of differential dataflow, kept up by the changes of what feeds them.
//!
//! A collection's element is a whole row, encoded ([`Row`]); its time is the epoch. What stands at the start of a run is fed
//! at the epoch before the first one. Changes of that time reach the table that is read from outside, and nobody else.

mod arranged;
mod asof;
mod group;
mod leave;
mod part;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::error::ArrowError;
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::batch::Batch;
use crate::expression::Expression;
use crate::parcel::Parcel;
use crate::relation::{Cell, Codec, Relation, Row, Table, ViewKind};
use crate::run::RunError;
use crate::run::step::Shared;

pub(crate) use arranged::Arranged;
pub(crate) use leave::{Read, leave};

/// Rows and by how much their number changes.
pub(crate) type Updates = Vec<(Row, u64, isize)>;
/// A view as differential sees it.
pub(crate) type Rows<'s> = VecCollection<'s, u64, Row, isize>;

/// What the dataflow needs to know of a view.
#[derive(Debug, Clone)]
pub(crate) struct ViewWiring {
    pub name: Arc<str>,
    pub relation: Relation,
    pub kind: ViewKind,
    pub table: Arc<Table>,
    /// Who reads it in the dataflow.
    pub read: Read,
}

/// What fails in a view fails the run.
pub(crate) fn failed(name: &str, error: &ArrowError) -> RunError {
    let (step, message) = (name.to_owned(), error.to_string());
    RunError::Step { step, kind: "view".to_owned(), message }
}

/// The collection of what a step or a source stands for: `standing` to begin with, then what it says has changed.
pub(crate) fn standing<'s>(
    scope: Scope<'s, u64>,
    changes: Stream<'s, u64, Parcel>,
    mut standing: Vec<Batch>,
    view: &ViewWiring,
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let codec = Codec::new(view.relation.arrow().clone())?;
    let n_columns = view.relation.columns().len();
    let encode = move |batch: &Batch| codec.encode(&batch.rows.columns()[..n_columns]);
    let mut builder = OperatorBuilder::new(format!("{} changes", view.name), scope);
    let mut input = builder.new_input(changes, Pipeline);
    let (out, updates) = builder.new_output();
    let mut out = OutputBuilder::<_, CapacityContainerBuilder<Updates>>::from(out);
    let (name, shared) = (Arc::clone(&view.name), shared.clone());
    let before_first = shared.start.first_epoch() - 1;
    builder.build(move |mut capabilities| {
        let mut first = capabilities.pop();
        move |_| {
            let failed = |e: ArrowError| shared.failure.raise(failed(&name, &e));
            if let Some(mut capability) = first.take() {
                capability.downgrade(&before_first);
                for batch in standing.drain(..) {
                    let rows = encode(&batch).unwrap_or_else(|e| {
                        failed(e);
                        Vec::new()
                    });
                    let mut out = out.activate();
                    let mut session = out.session(&capability);
                    rows.into_iter().for_each(|row| session.give((row, before_first, 1)));
                }
            }
            input.for_each(|capability, parcel| {
                let Some(&epoch) = capability.least() else { return };
                let (rows, diff) = match std::mem::take(parcel) {
                    Parcel::Rows(rows) => (rows, 1),
                    Parcel::Revised(rows) => (rows, -1),
                    // What stands for a relation says only what came and went.
                    Parcel::Late(_) | Parcel::Watermarks(_) | Parcel::Horizon(_) => return,
                    Parcel::Stood(_) | Parcel::Went(_) | Parcel::Came(_) => return,
                };
                match encode(&rows) {
                    Ok(rows) => {
                        let mut out = out.activate();
                        let capability = capability.delayed(&epoch, 0);
                        let mut session = out.session(&capability);
                        rows.into_iter().for_each(|row| session.give((row, epoch, diff)));
                    }
                    Err(e) => failed(e),
                }
            });
        }
    });
    Ok(updates.as_collection())
}

/// Elements and by how much their number changes.
type Many<D> = Vec<(D, u64, isize)>;

/// A collection made of another, many elements at a time.
fn each<'s, C: Clone + 'static, D: Clone + 'static>(
    name: String,
    rows: VecCollection<'s, u64, C, isize>,
    shared: &Shared,
    mut make: impl FnMut(Many<C>) -> Result<Many<D>, ArrowError> + 'static,
) -> VecCollection<'s, u64, D, isize> {
    let mut builder = OperatorBuilder::new(name.clone(), rows.inner.scope());
    let mut input = builder.new_input(rows.inner, Pipeline);
    let (out, made) = builder.new_output();
    let mut out = OutputBuilder::<_, CapacityContainerBuilder<Many<D>>>::from(out);
    let failure = Arc::clone(&shared.failure);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, updates| {
                let Some(&least) = capability.least() else { return };
                match make(std::mem::take(updates)) {
                    Ok(mut made) => {
                        let mut out = out.activate();
                        let capability = capability.delayed(&least, 0);
                        let mut session = out.session(&capability);
                        made.drain(..).for_each(|update| session.give(update));
                    }
                    Err(e) => failure.raise(failed(&name, &e)),
                }
            });
        }
    });
    made.as_collection()
}

/// The collection of a view that is made of others, `below`.
pub(crate) fn view<'s>(
    wiring: &ViewWiring,
    below: &[(Rows<'s>, Relation)],
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let name = wiring.name.to_string();
    match &wiring.kind {
        ViewKind::Standing(_) => unreachable!("it is made of a stream"),
        ViewKind::Filter { condition, .. } => {
            let (rows, relation) = &below[0];
            let codec = Codec::new(relation.arrow().clone())?;
            let (condition, table) = (Arc::clone(condition), Arc::clone(&wiring.table));
            Ok(each(name, rows.clone(), shared, move |updates| {
                let columns = codec.decode(updates.iter().map(|(row, _, _)| row))?;
                let holds = holds(&*condition, &columns, &table)?;
                let mut holds = holds.into_iter();
                Ok(updates.into_iter().filter(|_| holds.next().unwrap_or(false)).collect())
            }))
        }
        ViewKind::Derive { cells, .. } => {
            let (rows, relation) = &below[0];
            let from = Codec::new(relation.arrow().clone())?;
            let to = Codec::new(wiring.relation.arrow().clone())?;
            let (cells, table) = (cells.clone(), Arc::clone(&wiring.table));
            Ok(each(name, rows.clone(), shared, move |updates| {
                let columns = from.decode(updates.iter().map(|(row, _, _)| row))?;
                let made = cells.iter().map(|cell| match cell {
                    Cell::Column(c) => Ok(columns.column(*c).clone()),
                    Cell::Computed(expression) => computed(&**expression, &columns, &table),
                });
                let made = to.encode(&made.collect::<Result<Vec<_>, _>>()?)?;
                Ok(made.into_iter().zip(updates).map(|(row, (_, t, n))| (row, t, n)).collect())
            }))
        }
        ViewKind::Join { on, take, unmatched, .. } => {
            join(wiring, [&below[0], &below[1]], on, take, *unmatched, shared)
        }
        ViewKind::AsOf { on, time, take, unmatched, .. } => {
            asof::asof(wiring, [&below[0], &below[1]], on, *time, (take, *unmatched), shared)
        }
        ViewKind::Group { by, aggregates, .. } => {
            group::group(wiring, &below[0], by, aggregates, shared)
        }
        ViewKind::Top { within, order, n, .. } => {
            group::top(wiring, &below[0], within, order, *n, shared)
        }
    }
}

/// Where a condition holds. A row for which it cannot be computed is one for which it does not.
fn holds(
    condition: &dyn Expression,
    columns: &RecordBatch,
    table: &Table,
) -> Result<Vec<bool>, ArrowError> {
    let holds = computed(condition, columns, table)?;
    let holds: &BooleanArray = holds
        .as_boolean_opt()
        .ok_or_else(|| ArrowError::CastError("a condition is neither true nor false".to_owned()))?;
    Ok(holds.iter().map(|holds| holds == Some(true)).collect())
}

/// The values of an expression; null where it cannot be computed, which is counted.
fn computed(
    expression: &dyn Expression,
    columns: &RecordBatch,
    table: &Table,
) -> Result<ArrayRef, ArrowError> {
    if let Ok(values) = expression.evaluate(columns) {
        return Ok(values);
    }
    let null = || arrow::array::new_null_array(&expression.data_type(), 1);
    let each = (0..columns.num_rows()).map(|row| {
        expression.evaluate(&columns.slice(row, 1)).unwrap_or_else(|_| {
            table.count_uncomputed();
            null()
        })
    });
    let each: Vec<ArrayRef> = each.collect();
    arrow::compute::concat(&each.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// Rows by the values of some columns. With `take` only those columns of each row, of rows in whose key there is no
/// null: it agrees with nothing.
fn keyed<'s>(
    name: String,
    (rows, relation): &(Rows<'s>, Relation),
    key: &[usize],
    take: Option<&[usize]>,
    shared: &Shared,
) -> Result<VecCollection<'s, u64, (Row, Row), isize>, ArrowError> {
    let codec = Codec::new(relation.arrow().clone())?;
    let of_key = Codec::of(relation.arrow(), key)?;
    let of_rest = Codec::of(relation.arrow(), take.unwrap_or_default())?;
    let (key, take) = (key.to_vec(), take.map(<[usize]>::to_vec));
    Ok(each(name, rows.clone(), shared, move |updates: Updates| {
        let columns = codec.decode(updates.iter().map(|(row, _, _)| row))?;
        let pick = |of: &[usize]| of.iter().map(|&c| columns.column(c).clone()).collect::<Vec<_>>();
        let picked = pick(&key);
        let keys = of_key.encode(&picked)?;
        let rests = match take.as_deref() {
            None => None,
            Some([]) => Some(vec![Row::default(); updates.len()]),
            Some(take) => Some(of_rest.encode(&pick(take))?),
        };
        let all = updates.into_iter().zip(keys).enumerate();
        Ok(all
            .filter(|(i, _)| rests.is_none() || picked.iter().all(|column| column.is_valid(*i)))
            .map(|(i, ((row, time, n), key))| {
                let row = rests.as_ref().map_or(row, |rests| rests[i].clone());
                ((key, row), time, n)
            })
            .collect())
    }))
}

fn join<'s>(
    wiring: &ViewWiring,
    [left, right]: [&(Rows<'s>, Relation); 2],
    on: &[(usize, usize)],
    take: &[usize],
    unmatched: bool,
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let (name, table) = (&wiring.name, Arc::clone(&wiring.table));
    let (on_left, on_right): (Vec<usize>, Vec<usize>) = on.iter().copied().unzip();
    let lefts = keyed(format!("{name} left"), left, &on_left, None, shared)?;
    let rights = keyed(format!("{name} right"), right, &on_right, Some(take), shared)?;
    let lefts = lefts.arrange_by_key_named(&format!("{name} left"));
    let rights = rights.arrange_by_key_named(&format!("{name} right"));
    let matched = lefts.clone().join_core(rights.clone(), move |_, left, right| {
        table.count_touched(1);
        Some(left.followed_by(right))
    });
    if !unmatched {
        return Ok(matched);
    }
    let nulls = nulls(&right.1, take)?;
    let there = rights.as_collection(|key, _| key.clone()).distinct();
    let found = lefts.clone().join_core(there.arrange_by_self(), |_, left, ()| Some(left.clone()));
    let all = lefts.as_collection(|_, left| left.clone());
    let alone = all.concat(found.negate()).map(move |left| left.followed_by(&nulls));
    Ok(matched.concat(alone))
}

/// What stands for the columns `take` of a view where no row of it is found.
fn nulls(relation: &Relation, take: &[usize]) -> Result<Row, ArrowError> {
    let fields = relation.arrow().project(take)?;
    let nulls = fields.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), 1));
    let nulls: Vec<ArrayRef> = nulls.collect();
    match take {
        [] => Ok(Row::default()),
        _ => Ok(Codec::new(Arc::new(fields))?.encode(&nulls)?.remove(0)),
    }
}
