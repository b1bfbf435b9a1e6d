//! A source that is a relation in the dataflow: what it says of its rows to those that see what stands, each worker for its
//! own keys, and to steps that look rows up, on every worker for all keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, UInt32Array};
use timely::communication::Push;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::Stamp;

use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::exchange::ByShard;
use crate::graph::RelationRules;
use crate::operator::Fault;
use crate::parcel::Parcel;
use crate::relation::{Difference, Reference};
use crate::run::input::{SourceWiring, failed};
use crate::run::step::{Shared, Turn};

/// The streams of a source that is a relation.
pub(crate) struct Outputs<'s> {
    /// What came and went of what stands now.
    pub rows: Stream<'s, u64, Parcel>,
    /// What came and went of all rows, on every worker.
    pub versions: Stream<'s, u64, Parcel>,
    pub dead: Stream<'s, u64, Vec<DeadLetter>>,
    /// What stood at the start.
    pub standing: Vec<Batch>,
}

/// Sends rows to the workers of their keys and takes them in there.
pub(crate) fn relation<'s>(
    scope: Scope<'s, u64>,
    batches: Stream<'s, u64, Batch>,
    wiring: SourceWiring,
    rules: &RelationRules,
    shared: &Shared,
) -> Result<Outputs<'s>, Fault> {
    let mut reference = restored(&wiring, rules, shared)?;
    let (standing, all) = reference.standing()?;
    let mut stood = Some(all);
    let mut builder = OperatorBuilder::new(format!("{} relation", wiring.name), scope);
    let (meter, exchange) = (shared.meter.clone(), format!("{} exchange", wiring.name));
    let mut input =
        builder.new_input(batches, DistributorPact(move |_| ByShard::new(meter, exchange)));
    let (rows_out, rows) = builder.new_output();
    let (versions_out, versions) = builder.new_output();
    let (dead_out, dead) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(rows_out);
    let mut versions_out = OutputBuilder::<_, NoopBuilder<Batch>>::from(versions_out);
    let mut dead_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<DeadLetter>>>::from(dead_out);
    let mut waiting: BTreeMap<u64, Vec<Batch>> = BTreeMap::new();
    let stage = format!("{} relation", wiring.name);
    let inner = shared.clone();
    builder.build(move |capabilities| {
        let shared = inner;
        let mut turn = Turn::new(capabilities, shared.start.first_epoch());
        move |frontiers| {
            input.for_each(|capability, batch| {
                if let Some(&epoch) = capability.least() {
                    waiting.entry(epoch).or_default().push(std::mem::take(batch));
                }
            });
            turn.for_each_complete(frontiers, &shared, |told, capabilities| {
                let epoch = &told.epoch;
                let batches = waiting.remove(&epoch.id).unwrap_or_default();
                let mut changed = shared.meter.time(&stage, || reference.epoch(epoch, batches))?;
                shared.ledger.add(epoch.id, wiring.node, &changed.account);
                shared.reach(epoch.id, wiring.node);
                let [went, came] = changed.now.marked();
                for (batch, wrap) in
                    [(went, Parcel::Revised as fn(Batch) -> Parcel), (came, Parcel::Rows)]
                {
                    if !batch.is_empty() {
                        rows_out
                            .activate()
                            .session_with_builder(&capabilities[0])
                            .give_container(&mut wrap(batch));
                    }
                }
                for mut batch in versions_of(stood.take(), changed.all) {
                    versions_out
                        .activate()
                        .session_with_builder(&capabilities[1])
                        .give_container(&mut batch);
                }
                for letter in &mut changed.dead {
                    letter.operator = Arc::clone(&wiring.name);
                }
                if !changed.dead.is_empty() {
                    let mut dead = dead_out.activate();
                    dead.session(&capabilities[2]).give_container(&mut changed.dead);
                }
                let dirty = reference.dirty();
                shared.save(told, wiring.node, dirty, |shard| reference.save(shard))
            })
            .unwrap_or_else(|fault: Fault| shared.failure.raise(failed(&wiring, fault)));
        }
    });
    let versions = everywhere(scope, versions);
    Ok(Outputs { rows, versions, dead, standing: vec![standing] })
}

/// The mark of rows that stood at the start, and of those that came or went since.
const STOOD: u32 = 0;
const CHANGED: u32 = 1;

/// Rows for steps that look them up, marked.
fn versions_of(stood: Option<Batch>, changed: Difference) -> impl Iterator<Item = Batch> {
    let marked = |batch: Batch, mark: u32, gone: bool| Batch {
        revision: Some(UInt32Array::from(vec![mark; batch.len()])),
        deleted: Some(BooleanArray::from(vec![gone; batch.len()])),
        ..batch
    };
    let stood = stood.map(|batch| marked(batch, STOOD, false));
    let changed = [marked(changed.went, CHANGED, true), marked(changed.came, CHANGED, false)];
    stood.into_iter().chain(changed).filter(|batch| !batch.is_empty())
}

/// The same rows on every worker.
fn everywhere<'s>(
    scope: Scope<'s, u64>,
    versions: Stream<'s, u64, Batch>,
) -> Stream<'s, u64, Parcel> {
    let mut builder = OperatorBuilder::new("relation everywhere".to_owned(), scope);
    let mut input = builder.new_input(versions, DistributorPact(move |_| ToAll));
    let (out, parcels) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, batch| {
                let Some(&epoch) = capability.least() else { return };
                out.activate()
                    .session_with_builder(&capability.delayed(&epoch, 0))
                    .give_container(&mut unmarked(std::mem::take(batch)));
            });
        }
    });
    parcels
}

/// What a batch of marked rows says. All its rows have the same marks.
fn unmarked(batch: Batch) -> Parcel {
    let gone = batch.deleted.as_ref().is_some_and(|gone| gone.value(0));
    let stood = batch.revision.as_ref().is_some_and(|mark| mark.value(0) == STOOD);
    let rows = Batch { revision: None, deleted: None, ..batch };
    match (gone, stood) {
        (true, _) => Parcel::Went(rows),
        (false, true) => Parcel::Stood(rows),
        (false, false) => Parcel::Came(rows),
    }
}

/// Sends all of a batch to every worker.
struct ToAll;

impl Distributor<Batch> for ToAll {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(
        &mut self,
        container: &mut Batch,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let batch = std::mem::take(container);
        for pusher in pushers {
            Message::push_at(&mut batch.clone(), stamp.clone(), pusher);
        }
    }

    /// Nothing is held back.
    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

/// The relation with the rows that this worker's shards had.
fn restored(
    wiring: &SourceWiring,
    rules: &RelationRules,
    shared: &Shared,
) -> Result<Reference, Fault> {
    let mut reference = Reference::new(wiring.id, wiring.schema.clone(), rules.clone())?;
    shared.start.states(&wiring.name, |_, version, state| reference.load(version, &state))?;
    Ok(reference)
}
