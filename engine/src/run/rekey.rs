//! A step whose rows have another key than those it reads: what it emits goes to the workers of the new keys.
//!
//! Rows that are late or not are the same behind it: the event time of such a step is one that has no late rows.

use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::batch::Batch;
use crate::exchange::ByShard;
use crate::parcel::Parcel;
use crate::run::step::Shared;

/// The rows of `parcels`, each on the worker of its key.
pub(crate) fn rekey<'s>(
    scope: Scope<'s, u64>,
    name: &str,
    parcels: Stream<'s, u64, Parcel>,
    shared: &Shared,
) -> Stream<'s, u64, Parcel> {
    let batches = rows_of(scope, name, parcels);
    let (meter, stage) = (shared.meter.clone(), format!("{name} exchange"));
    let mut builder = OperatorBuilder::new(format!("{name} rekey"), scope);
    let mut input =
        builder.new_input(batches, DistributorPact(move |_| ByShard::new(meter, stage)));
    let (out, parcels) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, batch| {
                let Some(&epoch) = capability.least() else { return };
                let batch = std::mem::take(batch);
                let revised = batch.revision.is_some() || batch.deleted.is_some();
                let mut parcel = if revised { Parcel::Revised(batch) } else { Parcel::Rows(batch) };
                out.activate()
                    .session_with_builder(&capability.delayed(&epoch, 0))
                    .give_container(&mut parcel);
            });
        }
    });
    parcels
}

/// The rows alone: what is known of event time is known by the old key.
fn rows_of<'s>(
    scope: Scope<'s, u64>,
    name: &str,
    parcels: Stream<'s, u64, Parcel>,
) -> Stream<'s, u64, Batch> {
    let mut builder = OperatorBuilder::new(format!("{name} rows"), scope);
    let mut input = builder.new_input(parcels, Pipeline);
    let (out, batches) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Batch>>::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, parcel| {
                let Some(&epoch) = capability.least() else { return };
                let (Parcel::Rows(mut rows) | Parcel::Late(mut rows) | Parcel::Revised(mut rows)) =
                    std::mem::take(parcel)
                else {
                    return;
                };
                out.activate()
                    .session_with_builder(&capability.delayed(&epoch, 0))
                    .give_container(&mut rows);
            });
        }
    });
    batches
}
