//! A source in the dataflow: raw records are decoded where they arrive, sent to the worker of their key, and put
//! in event-time order there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::account::Account;
use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::epoch::SourceId;
use crate::exchange::ByShard;
use crate::graph::{Front, OrderRules};
use crate::keyed::hash_keys;
use crate::late::LateRow;
use crate::operator::Fault;
use crate::order::Orderer;
use crate::parcel::Parcel;
use crate::relation::GONE;
use crate::run::RunError;
use crate::run::ledger::NodeId;
use crate::run::step::{Outputs, Shared, Turn};
use crate::run::worker::News;
use crate::schema::Schema;
use crate::source::{Chunk, Decoded, Decoder};

/// What the dataflow needs to know of a source.
#[derive(Debug, Clone)]
pub(crate) struct SourceWiring {
    pub id: SourceId,
    pub node: NodeId,
    pub name: Arc<str>,
    pub schema: Schema,
    pub front: Front,
}

impl SourceWiring {
    /// The columns that its decoder gives.
    fn decoded(&self) -> Vec<FieldRef> {
        let fields = self.schema.arrow().fields();
        match &self.front {
            Front::Stream(order) => fields[..fields.len() - order.n_added_columns()].to_vec(),
            Front::Relation(_) => {
                let gone = Arc::new(Field::new(GONE, DataType::Boolean, true));
                fields[..fields.len() - 1].iter().cloned().chain([gone]).collect()
            }
        }
    }
}

/// Raw records of one source, on their way to a decoder.
pub(crate) type Chunks = Vec<Arc<Chunk>>;

/// Decodes chunks into batches in source order, keys hashed.
pub(crate) fn decode<'s>(
    scope: Scope<'s, u64>,
    chunks: Stream<'s, u64, Chunks>,
    mut decoder: Box<dyn Decoder>,
    wiring: SourceWiring,
    shared: Shared,
) -> (Stream<'s, u64, Batch>, Stream<'s, u64, Vec<DeadLetter>>) {
    let mut builder = OperatorBuilder::new(format!("{} decode", wiring.name), scope);
    let mut input = builder.new_input(chunks, Pipeline);
    let (rows_out, rows) = builder.new_output();
    let (dead_out, dead) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, NoopBuilder<Batch>>::from(rows_out);
    let mut dead_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<DeadLetter>>>::from(dead_out);
    let stage = format!("{} decode", wiring.name);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_frontiers| {
            input.for_each(|capability, chunks| {
                let Some(&epoch) = capability.least() else { return };
                let (to_rows, to_dead) =
                    (capability.delayed(&epoch, 0), capability.delayed(&epoch, 1));
                for chunk in chunks.drain(..) {
                    let done = shared.meter.time(&stage, || {
                        let mut decoded = Decoded::default();
                        decoder.decode(&chunk, &mut decoded);
                        finish(epoch, decoded, &wiring, &shared)
                    });
                    match done {
                        Ok((batches, mut letters)) => {
                            for mut batch in batches {
                                rows_out
                                    .activate()
                                    .session_with_builder(&to_rows)
                                    .give_container(&mut batch);
                            }
                            if !letters.is_empty() {
                                let mut dead = dead_out.activate();
                                dead.session(&to_dead).give_container(&mut letters);
                            }
                        }
                        Err(fault) => shared.failure.raise(failed(&wiring, fault)),
                    }
                }
            });
        }
    });
    (rows, dead)
}

pub(crate) fn failed(wiring: &SourceWiring, fault: Fault) -> RunError {
    RunError::Step {
        step: wiring.name.to_string(),
        kind: "source".to_owned(),
        message: fault.message,
    }
}

/// Hashes keys, counts records, signs dead letters.
fn finish(
    epoch: u64,
    mut decoded: Decoded,
    wiring: &SourceWiring,
    shared: &Shared,
) -> Result<(Vec<Batch>, Vec<DeadLetter>), Fault> {
    let declared = wiring.decoded();
    let mut batches = Vec::with_capacity(decoded.rows.len());
    for (rows, position) in decoded.rows.drain(..) {
        if rows.num_rows() == 0 {
            continue;
        }
        if rows.schema().fields()[..] != declared[..] {
            return Err(Fault::new("the decoder gave rows of another schema (a bug in it)"));
        }
        let key_hash = hash_keys(&rows, wiring.schema.key());
        batches.push(Batch::new(rows, key_hash, position).map_err(|e| Fault::new(e.to_string()))?);
    }
    for letter in &mut decoded.dead {
        letter.operator = Arc::clone(&wiring.name);
    }
    let account =
        Account { input: decoded.records, dead: decoded.dead.len() as u64, ..Account::default() };
    shared.ledger.add(epoch, wiring.node, &account);
    Ok((batches, decoded.dead))
}

/// Sends batches to the workers of their keys and puts their rows in event-time order.
pub(crate) fn order<'s>(
    scope: Scope<'s, u64>,
    batches: Stream<'s, u64, Batch>,
    wiring: SourceWiring,
    rules: &OrderRules,
    shared: Shared,
) -> Outputs<'s> {
    let mut builder = OperatorBuilder::new(format!("{} order", wiring.name), scope);
    let (meter, exchange) = (shared.meter.clone(), format!("{} exchange", wiring.name));
    let mut input =
        builder.new_input(batches, DistributorPact(move |_| ByShard::new(meter, exchange)));
    let (rows_out, rows) = builder.new_output();
    let (dead_out, dead) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(rows_out);
    let mut dead_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<DeadLetter>>>::from(dead_out);
    let mut orderer = restored(&wiring, rules, &shared);
    let mut waiting: BTreeMap<u64, Vec<Batch>> = BTreeMap::new();
    let stage = format!("{} order", wiring.name);
    builder.build(move |capabilities| {
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
                let ended = epoch.ended.contains(&wiring.id);
                let mut ordered =
                    shared.meter.time(&stage, || orderer.epoch(epoch, batches, ended))?;
                let rows = ordered.rows.as_ref().map_or(0, Batch::len);
                let late = ordered.late.as_ref().map_or(0, Batch::len);
                ordered.account.emitted = (rows + late) as u64;
                shared.ledger.add(epoch.id, wiring.node, &ordered.account);
                shared.reach(epoch.id, wiring.node);
                if let Some(at) = ordered.watermarks.at.values().iter().max() {
                    shared.vitals.watermark(wiring.node.0, *at);
                }
                let news = !ordered.watermarks.key_hash.is_empty() || ordered.watermarks.ended();
                let parcels = ordered
                    .rows
                    .map(Parcel::Rows)
                    .into_iter()
                    .chain(ordered.late.map(Parcel::Late))
                    .chain(news.then_some(Parcel::Watermarks(ordered.watermarks)))
                    .chain(ordered.horizon.map(Parcel::Horizon));
                for mut parcel in parcels {
                    rows_out
                        .activate()
                        .session_with_builder(&capabilities[0])
                        .give_container(&mut parcel);
                }
                for letter in &mut ordered.dead {
                    letter.operator = Arc::clone(&wiring.name);
                }
                if !ordered.dead.is_empty() {
                    let mut dead = dead_out.activate();
                    dead.session(&capabilities[1]).give_container(&mut ordered.dead);
                }
                tell(epoch.id, ordered.corrected, &wiring, &shared);
                let dirty = orderer.dirty();
                shared.save(told, wiring.node, dirty, |shard| orderer.save(shard))
            })
            .unwrap_or_else(|fault: Fault| shared.failure.raise(failed(&wiring, fault)));
        }
    });
    Outputs { rows, dead }
}

/// Tells of late rows that correct the result, if somebody wants to hear of them.
fn tell(epoch: u64, mut rows: Vec<LateRow>, wiring: &SourceWiring, shared: &Shared) {
    if rows.is_empty() || !shared.tells_late {
        return;
    }
    for row in &mut rows {
        row.operator = Arc::clone(&wiring.name);
    }
    let worker = shared.start.worker();
    // Who would take it is gone only when the run has failed.
    shared.news.send(News::Corrected { epoch, worker, rows }).ok();
}

/// The ordering step with the state that this worker's shards had.
fn restored(wiring: &SourceWiring, rules: &OrderRules, shared: &Shared) -> Orderer {
    let mut orderer = Orderer::new(wiring.schema.clone(), rules.clone());
    if shared.start.has_ended(wiring.id) {
        orderer.set_ended();
    }
    let loaded =
        shared.start.states(&wiring.name, |_, version, state| orderer.load(version, &state));
    if let Err(fault) = loaded {
        shared.failure.raise(failed(wiring, fault));
    }
    orderer
}
