//! A step whose rows have another key than those it reads: what it emits goes to the workers of the new keys.
//!
//! What a reader would get wrong:
//!
//! * Rows that are late or not are the same behind it: the event time of such a step is one that has no late rows.
//! * Rows of several old keys may agree in new key, event time and position, as the changes of a view do. They are in the
//!   order of the workers that they come from, which is that of the old keys' hashes, so that neither the number of workers
//!   nor which of them is first shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, UInt32Type};
use arrow::error::ArrowError;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::batch::Batch;
use crate::exchange::ByShard;
use crate::parcel::Parcel;
use crate::run::RunError;
use crate::run::step::{Shared, Turn};
use crate::run::worker::StepWiring;

/// The last column of rows on their way: the worker that they come from.
const FROM_COLUMN: &str = "foreline_from";

/// The rows of `parcels`, which `step` emits, each on the worker of its key; an epoch at a time, sorted.
pub(crate) fn rekey<'s>(
    scope: Scope<'s, u64>,
    step: &StepWiring,
    parcels: Stream<'s, u64, Parcel>,
    shared: &Shared,
) -> Stream<'s, u64, Parcel> {
    let batches = rows_of(scope, step, parcels, shared);
    let (meter, stage) = (shared.meter.clone(), format!("{} exchange", step.name));
    let mut builder = OperatorBuilder::new(format!("{} rekey", step.name), scope);
    let mut input =
        builder.new_input(batches, DistributorPact(move |_| ByShard::new(meter, stage)));
    let (out, parcels) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(out);
    let mut waiting: BTreeMap<u64, Vec<Batch>> = BTreeMap::new();
    let (step, shared) = (step.clone(), shared.clone());
    builder.build(move |capabilities| {
        let mut turn = Turn::new(capabilities, shared.start.first_epoch());
        move |frontiers| {
            input.for_each(|capability, batch| {
                if let Some(&epoch) = capability.least() {
                    waiting.entry(epoch).or_default().push(std::mem::take(batch));
                }
            });
            turn.for_each_complete(frontiers, &shared, |told, capabilities| {
                let batches = waiting.remove(&told.epoch.id).unwrap_or_default();
                for mut parcel in merged(&step, batches)? {
                    out.activate()
                        .session_with_builder(&capabilities[0])
                        .give_container(&mut parcel);
                }
                Ok(())
            })
            .unwrap_or_else(|e: ArrowError| shared.failure.raise(failed(&step, &e)));
        }
    });
    parcels
}

fn failed(step: &StepWiring, error: &ArrowError) -> RunError {
    let (name, kind) = (step.name.to_string(), step.kind.to_owned());
    RunError::Step { step: name, kind, message: error.to_string() }
}

/// The batches of an epoch, in any order, as one of new rows and one of revised ones.
fn merged(step: &StepWiring, mut batches: Vec<Batch>) -> Result<Vec<Parcel>, ArrowError> {
    batches.retain(|batch| !batch.is_empty());
    let n_columns = step.output.columns().len();
    // Those of one worker stay in the order in which it sent them.
    batches.sort_by_key(|batch| batch.rows.column(n_columns).as_primitive::<UInt32Type>().value(0));
    let (mut new, mut revised) = (Vec::new(), Vec::new());
    for batch in batches {
        let rows = batch.rows.project(&(0..n_columns).collect::<Vec<_>>())?;
        let is_revised = batch.revision.is_some() || batch.deleted.is_some();
        let lane = if is_revised { &mut revised } else { &mut new };
        lane.push(Batch { rows, ..batch });
    }
    let lanes = [(new, Parcel::Rows as fn(Batch) -> Parcel), (revised, Parcel::Revised)];
    let lanes = lanes.into_iter().filter(|(lane, _)| !lane.is_empty());
    lanes.map(|(lane, wrap)| Ok(wrap(Batch::merge(&step.output, lane)?))).collect()
}

/// The rows alone, with the worker that they come from: what is known of event time is known by the old key.
fn rows_of<'s>(
    scope: Scope<'s, u64>,
    step: &StepWiring,
    parcels: Stream<'s, u64, Parcel>,
    shared: &Shared,
) -> Stream<'s, u64, Batch> {
    let mut builder = OperatorBuilder::new(format!("{} rows", step.name), scope);
    let mut input = builder.new_input(parcels, Pipeline);
    let (out, batches) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Batch>>::from(out);
    let mut fields = step.output.arrow().fields().to_vec();
    fields.push(Arc::new(Field::new(FROM_COLUMN, DataType::UInt32, false)));
    let schema = Arc::new(ArrowSchema::new(fields));
    // There are 256 workers at most.
    let worker = u32::try_from(shared.start.worker()).unwrap_or(u32::MAX);
    let (step, failure) = (step.clone(), Arc::clone(&shared.failure));
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, parcel| {
                let Some(&epoch) = capability.least() else { return };
                let (Parcel::Rows(rows) | Parcel::Late(rows) | Parcel::Revised(rows)) =
                    std::mem::take(parcel)
                else {
                    return;
                };
                let from: ArrayRef = Arc::new(UInt32Array::from(vec![worker; rows.len()]));
                let columns = rows.rows.columns().iter().cloned().chain([from]).collect();
                match RecordBatch::try_new(Arc::clone(&schema), columns) {
                    Ok(columns) => out
                        .activate()
                        .session_with_builder(&capability.delayed(&epoch, 0))
                        .give_container(&mut Batch { rows: columns, ..rows }),
                    Err(e) => failure.raise(failed(&step, &e)),
                }
            });
        }
    });
    batches
}
