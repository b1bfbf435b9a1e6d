//! The way out of a view: what has changed of it in an epoch, for readers outside, for steps and for sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt32Array,
    UInt64Array,
};
use arrow::compute::cast;
use arrow::error::ArrowError;
use crossbeam_channel::Sender;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::batch::Batch;
use crate::exchange::ByShard;
use crate::keyed::hash_keys;
use crate::operator::Fault;
use crate::parcel::Parcel;
use crate::relation::{Change, Codec, Relation};
use crate::run::step::{Shared, Turn};
use crate::run::views::{Rows, Updates, ViewWiring, failed};
use crate::run::worker::News;
use crate::schema::Schema;
use crate::watermarks::Watermarks;

/// Who reads a view in the dataflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// Somebody reads what changes of it.
    pub log: bool,
    /// Somebody keeps a table like it.
    pub state: bool,
}

/// The streams of a view that somebody reads.
#[derive(Default)]
pub(crate) struct Leaving<'s> {
    pub log: Option<Stream<'s, u64, Parcel>>,
    pub state: Option<Stream<'s, u64, Parcel>>,
    /// To know when an epoch is through.
    pub probed: Vec<Stream<'s, u64, Batch>>,
}

/// Sends what changes of a view to the outside, and makes streams of it.
pub(crate) fn leave<'s>(
    scope: Scope<'s, u64>,
    rows: Rows<'s>,
    view: usize,
    wiring: &ViewWiring,
    shared: &Shared,
) -> Result<Leaving<'s>, ArrowError> {
    let changes = rows.consolidate().inner;
    let told = tell(scope, changes, view, wiring, shared)?;
    let mut leaving = Leaving { probed: vec![told.clone()], ..Leaving::default() };
    let Read { log, state } = wiring.read;
    if log || state {
        let stream = log_of(scope, told, wiring, shared)?;
        if state {
            leaving.state = Some(state_of(scope, stream.clone(), wiring, shared));
        }
        leaving.log = log.then_some(stream);
    }
    Ok(leaving)
}

/// Decodes changes, tells the outside of them, and sends them on: rows of the relation, deleted where they went.
fn tell<'s>(
    scope: Scope<'s, u64>,
    changes: Stream<'s, u64, Updates>,
    view: usize,
    wiring: &ViewWiring,
    shared: &Shared,
) -> Result<Stream<'s, u64, Batch>, ArrowError> {
    let exit = Exit::new(&wiring.relation)?;
    let news: Sender<News> = shared.news.clone();
    let (name, failure) = (Arc::clone(&wiring.name), Arc::clone(&shared.failure));
    let first = shared.start.first_epoch();
    let mut builder = OperatorBuilder::new(format!("{name} exit"), scope);
    let mut input = builder.new_input(changes, Pipeline);
    let (out, batches) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Batch>>::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, updates| {
                for (epoch, updates) in by_epoch(std::mem::take(updates)) {
                    match exit.read(&updates) {
                        Ok((mut batch, changes)) => {
                            // Who would take it is gone only when the run has failed.
                            news.send(News::Changed { view, epoch, changes }).ok();
                            if epoch >= first {
                                out.activate()
                                    .session_with_builder(&capability.delayed(&epoch, 0))
                                    .give_container(&mut batch);
                            }
                        }
                        Err(e) => failure.raise(failed(&name, &e)),
                    }
                }
            });
        }
    });
    Ok(batches)
}

fn by_epoch(updates: Updates) -> BTreeMap<u64, Updates> {
    let mut by_epoch: BTreeMap<u64, Updates> = BTreeMap::new();
    for update in updates {
        by_epoch.entry(update.1).or_default().push(update);
    }
    by_epoch
}

/// Reads updates.
struct Exit {
    codec: Codec,
    of_key: Codec,
    key: Vec<usize>,
    schema: Schema,
}

impl Exit {
    fn new(relation: &Relation) -> Result<Self, ArrowError> {
        Ok(Exit {
            codec: Codec::new(relation.arrow().clone())?,
            of_key: Codec::of(relation.arrow(), relation.key())?,
            key: relation.key().to_vec(),
            schema: relation.state(),
        })
    }

    /// The updates of one epoch as rows of the relation, and for the table.
    fn read(&self, updates: &Updates) -> Result<(Batch, Vec<Change>), ArrowError> {
        let rows = self.codec.decode(updates.iter().map(|(row, _, _)| row))?;
        let picked: Vec<ArrayRef> = self.key.iter().map(|&k| rows.column(k).clone()).collect();
        let keys = self.of_key.encode(&picked)?;
        let mut changes = Vec::with_capacity(keys.len());
        for ((row, _, n), key) in updates.iter().zip(keys) {
            if n.abs() != 1 {
                let what = "two rows have the same key (a bug in the view)".to_owned();
                return Err(ArrowError::ComputeError(what));
            }
            changes.push(Change { key, row: row.clone(), gone: *n < 0 });
        }
        let fields = &self.schema.arrow().fields()[..rows.num_columns()];
        let columns = rows.columns().iter().zip(fields);
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let schema = arrow::datatypes::Schema::new(fields.to_vec());
        let rows = RecordBatch::try_new(Arc::new(schema), columns.collect::<Result<_, _>>()?)?;
        let key_hash = hash_keys(&rows, &self.key);
        let gone: BooleanArray = changes.iter().map(|c| Some(c.gone)).collect();
        let position = UInt64Array::from(vec![0; rows.num_rows()]);
        let batch = Batch { rows, key_hash, position, revision: None, deleted: Some(gone) };
        Ok((batch, changes))
    }
}

/// The stream of what changes: one row a key and epoch, in the order of the contract.
fn log_of<'s>(
    scope: Scope<'s, u64>,
    told: Stream<'s, u64, Batch>,
    wiring: &ViewWiring,
    shared: &Shared,
) -> Result<Stream<'s, u64, Parcel>, ArrowError> {
    let name = Arc::clone(&wiring.name);
    let (meter, stage) = (shared.meter.clone(), format!("{name} exchange"));
    let mut builder = OperatorBuilder::new(format!("{name} log"), scope);
    let mut input = builder.new_input(told, DistributorPact(move |_| ByShard::new(meter, stage)));
    let (out, parcels) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(out);
    let mut waiting: BTreeMap<u64, Vec<Batch>> = BTreeMap::new();
    let log = Log::new(&wiring.relation)?;
    let shared = shared.clone();
    builder.build(move |capabilities| {
        let mut turn = Turn::new(capabilities, shared.start.first_epoch());
        move |frontiers| {
            input.for_each(|capability, batch| {
                if let Some(&epoch) = capability.least() {
                    waiting.entry(epoch).or_default().push(std::mem::take(batch));
                }
            });
            turn.for_each_complete(frontiers, &shared, |told, capabilities| {
                let (epoch, clock_ns) = (told.epoch.id, told.epoch.clock_ns);
                let batches = waiting.remove(&epoch).unwrap_or_default();
                let rows = log.rows(&batches, epoch, clock_ns)?;
                // The next epoch's clock may be the same.
                let low = clock_ns.saturating_sub(1);
                let watermarks = Watermarks { low, ..Watermarks::none(log.schema.key_arrow()) };
                let parcels = rows.map(Parcel::Rows).into_iter();
                for mut parcel in parcels.chain([Parcel::Watermarks(watermarks)]) {
                    out.activate()
                        .session_with_builder(&capabilities[0])
                        .give_container(&mut parcel);
                }
                Ok(())
            })
            .unwrap_or_else(|fault: Fault| {
                shared.failure.raise(failed(&name, &ArrowError::ComputeError(fault.message)));
            });
        }
    });
    Ok(parcels)
}

/// Makes the log of an epoch.
struct Log {
    schema: Schema,
    of_key: Codec,
}

impl Log {
    fn new(relation: &Relation) -> Result<Self, ArrowError> {
        let of_key = Codec::of(relation.arrow(), relation.key())?;
        Ok(Log { schema: relation.log(), of_key })
    }

    fn rows(
        &self,
        batches: &[Batch],
        epoch: u64,
        clock_ns: i64,
    ) -> Result<Option<Batch>, ArrowError> {
        let Some(first) = batches.first() else { return Ok(None) };
        let all = Batch::concat(&first.rows.schema(), batches)?;
        let Some(gone) = &all.deleted else { return Ok(None) };
        let key: Vec<ArrayRef> =
            self.schema.key().iter().map(|&k| all.rows.column(k).clone()).collect();
        // Of each key what came, if anything did; else what went.
        let mut stands: BTreeMap<_, u32> = BTreeMap::new();
        for (row, key) in (0_u32..).zip(self.of_key.encode(&key)?) {
            let at = (all.key_hash.value(row as usize), key);
            let stood = stands.entry(at).or_insert(row);
            if !gone.value(row as usize) {
                *stood = row;
            }
        }
        let places: UInt32Array = stands.into_values().map(Some).collect();
        let rows = all.take(&places)?;
        let gone = rows.deleted.unwrap_or_else(|| BooleanArray::from(vec![false; places.len()]));
        let n = places.len();
        let mut columns = rows.rows.columns().to_vec();
        let clock = TimestampNanosecondArray::from(vec![clock_ns; n]).with_timezone("UTC");
        columns.push(Arc::new(clock));
        columns.push(Arc::new(gone));
        let rows = Batch {
            rows: RecordBatch::try_new(self.schema.arrow().clone(), columns)?,
            key_hash: rows.key_hash,
            position: UInt64Array::from(vec![epoch; n]),
            revision: None,
            deleted: None,
        };
        Ok(Some(rows))
    }
}

/// The stream that keeps a table like the view: the log as revisions of rows, numbered by their epoch.
fn state_of<'s>(
    scope: Scope<'s, u64>,
    log: Stream<'s, u64, Parcel>,
    wiring: &ViewWiring,
    shared: &Shared,
) -> Stream<'s, u64, Parcel> {
    let (name, failure) = (Arc::clone(&wiring.name), Arc::clone(&shared.failure));
    let schema = wiring.relation.state();
    let mut builder = OperatorBuilder::new(format!("{name} state"), scope);
    let mut input = builder.new_input(log, Pipeline);
    let (out, parcels) = builder.new_output();
    let mut out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|capability, parcel| {
                let Parcel::Rows(rows) = std::mem::take(parcel) else { return };
                let Some(&epoch) = capability.least() else { return };
                match revised(&schema, rows, epoch) {
                    Ok(rows) => {
                        out.activate()
                            .session_with_builder(&capability.delayed(&epoch, 0))
                            .give_container(&mut Parcel::Revised(rows));
                    }
                    Err(e) => failure.raise(failed(&name, &e)),
                }
            });
        }
    });
    parcels
}

fn revised(schema: &Schema, log: Batch, epoch: u64) -> Result<Batch, ArrowError> {
    let revision = u32::try_from(epoch).map_err(|_| {
        ArrowError::ComputeError(
            "a view can be kept for 2^32 epochs; begin with `--fresh`".to_owned(),
        )
    })?;
    let n_columns = schema.columns().len();
    let gone = log.rows.column(n_columns).as_boolean().clone();
    let columns = log.rows.columns()[..n_columns].to_vec();
    let n = log.len();
    Ok(Batch {
        rows: RecordBatch::try_new(schema.arrow().clone(), columns)?,
        revision: Some(UInt32Array::from(vec![revision; n])),
        deleted: Some(gone),
        ..log
    })
}
