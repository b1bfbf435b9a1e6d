//! The one adaptor between timely and the operator contract.
//!
//! It gathers what arrives for an epoch, waits until nothing more can, and hands the operator the epoch whole. It
//! carries out a chain of steps: a step and the stateless ones fused behind it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use crossbeam_channel::Sender;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;

use crate::account::Account;
use crate::batch::Batch;
use crate::dead::{DeadLetter, Reason};
use crate::epoch::Epoch;
use crate::keyed::ShardSet;
use crate::operator::{Fault, Input, Operator, Out};
use crate::parcel::Parcel;
use crate::run::RunError;
use crate::run::ledger::{EpochBook, Failure, Ledger, Meter, NodeId, Snapshot, Told};
use crate::run::start::WorkerStart;
use crate::run::worker::News;
use crate::schema::Schema;
use crate::vitals::Vitals;
use crate::watermarks::Watermarks;

/// What all operators of a worker share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub book: EpochBook,
    pub ledger: Ledger,
    pub meter: Meter,
    pub failure: Arc<Failure>,
    pub start: Arc<WorkerStart>,
    pub news: Sender<News>,
    pub vitals: Arc<Vitals>,
    /// Whether somebody wants to hear of late rows.
    pub tells_late: bool,
}

impl Shared {
    /// Says that this worker is through with an epoch in a source or step.
    pub(crate) fn reach(&self, epoch: u64, node: NodeId) {
        self.vitals.reach(self.start.worker(), node.0, epoch);
    }

    /// Sends off state of a source or step as of the end of an epoch, if it is asked for.
    pub(crate) fn save(
        &self,
        told: &Told,
        node: NodeId,
        dirty: ShardSet,
        mut save: impl FnMut(u8) -> Result<Option<RecordBatch>, Fault>,
    ) -> Result<(), Fault> {
        let epoch = told.epoch.id;
        let shards = match told.snapshot {
            Snapshot::No => return Ok(()),
            Snapshot::Changed => dirty,
            Snapshot::Whole => self.start.shards(),
        };
        for shard in shards.iter() {
            let state = save(shard)?;
            // Who would take it is gone only when the run has failed.
            self.news.send(News::State { epoch, node, shard, state }).ok();
        }
        Ok(())
    }
}

/// One step of a chain.
pub(crate) struct Link {
    pub node: NodeId,
    pub name: Arc<str>,
    pub kind: &'static str,
    pub operator: Box<dyn Operator>,
    pub output: Schema,
    /// Whether what it was told cannot be corrected any more holds for what it says, too.
    pub stateless: bool,
    /// Sum of what it reported, to check that no row went missing.
    pub total: Account,
}

/// Makes a parcel of a batch.
type Wrap = fn(Batch) -> Parcel;

/// Rows of an epoch and of one edge, gathered.
#[derive(Debug)]
pub(crate) struct Gathered {
    rows: Batch,
    late: Batch,
    revised: Batch,
    watermarks: Watermarks,
    horizon: Option<Watermarks>,
    /// Of a relation: what stood at the start, what went and what came.
    relation: Option<Box<[Batch; 3]>>,
}

impl Gathered {
    fn nothing(schema: &Schema, low: i64) -> Self {
        let none = || Batch::empty(Arc::clone(schema.arrow()));
        let watermarks = Watermarks { low, ..Watermarks::none(schema.key_arrow()) };
        Gathered {
            rows: none(),
            late: none(),
            revised: none(),
            watermarks,
            horizon: None,
            relation: None,
        }
    }

    /// Puts parcels of one epoch together; several of a lane are merged into the order of the contract.
    fn of(schema: &Schema, low: i64, parcels: Vec<Parcel>) -> Result<Self, Fault> {
        let mut gathered = Gathered::nothing(schema, low);
        let mut lanes: [Vec<Batch>; 3] = Default::default();
        let mut relation: [Vec<Batch>; 3] = Default::default();
        for parcel in parcels {
            match parcel {
                Parcel::Rows(b) => lanes[0].push(b),
                Parcel::Late(b) => lanes[1].push(b),
                Parcel::Revised(b) => lanes[2].push(b),
                Parcel::Watermarks(w) => gathered.watermarks = w,
                Parcel::Horizon(h) => gathered.horizon = Some(h),
                Parcel::Stood(b) => relation[0].push(b),
                Parcel::Went(b) => relation[1].push(b),
                Parcel::Came(b) => relation[2].push(b),
            }
        }
        gathered.watermarks.low = gathered.watermarks.low.max(low);
        if relation.iter().any(|lane| !lane.is_empty()) {
            let [stood, went, came] = relation.map(|lane| Batch::merge(schema, lane));
            gathered.relation = Some(Box::new([stood?, went?, came?]));
        }
        let [rows, late, revised] = lanes;
        for (lane, to) in [
            (rows, &mut gathered.rows),
            (late, &mut gathered.late),
            (revised, &mut gathered.revised),
        ] {
            if !lane.is_empty() {
                *to = Batch::merge(schema, lane)?;
            }
        }
        Ok(gathered)
    }

    fn input(&self) -> Input<'_> {
        Input {
            rows: &self.rows,
            late: &self.late,
            revised: &self.revised,
            watermarks: &self.watermarks,
        }
    }

    fn n_rows(&self) -> u64 {
        (self.rows.len() + self.late.len() + self.revised.len()) as u64
    }

    fn into_parcels(self, low_before: i64) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        let lanes: [(Batch, Wrap); 3] =
            [(self.rows, Parcel::Rows), (self.late, Parcel::Late), (self.revised, Parcel::Revised)];
        for (batch, wrap) in lanes {
            if !batch.is_empty() {
                parcels.push(wrap(batch));
            }
        }
        if !self.watermarks.key_hash.is_empty() || self.watermarks.low > low_before {
            parcels.push(Parcel::Watermarks(self.watermarks));
        }
        parcels.extend(self.horizon.map(Parcel::Horizon));
        parcels
    }
}

/// What one step says about an epoch.
#[derive(Debug, Default)]
struct Said {
    rows: Vec<Batch>,
    late: Vec<Batch>,
    revised: Vec<Batch>,
    watermarks: Option<Watermarks>,
    horizon: Option<Watermarks>,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Out for Said {
    fn emit(&mut self, rows: Batch) {
        if rows.is_empty() {
            return;
        }
        self.account.emitted += rows.len() as u64;
        let revised = rows.revision.is_some() || rows.deleted.is_some();
        if revised { self.revised.push(rows) } else { self.rows.push(rows) }
    }

    fn emit_late(&mut self, rows: Batch) {
        if !rows.is_empty() {
            self.account.emitted += rows.len() as u64;
            self.late.push(rows);
        }
    }

    fn watermarks(&mut self, watermarks: Watermarks) {
        self.watermarks = Some(watermarks);
    }

    fn dead(&mut self, letter: DeadLetter) {
        // A late row has its own count; it is not also a dead one.
        self.account.dead += u64::from(letter.reason != Reason::LATE);
        self.dead.push(letter);
    }

    fn dead_after_all(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }

    fn horizon(&mut self, horizon: Watermarks) {
        self.horizon = Some(horizon);
    }

    fn count(&mut self, account: Account) {
        let own = Account { input: 0, dead: 0, emitted: 0, ..account };
        self.account.add(&own);
    }
}

impl Link {
    /// Carries the step out on one epoch; what it emits, and its dead letters.
    fn carry_out(
        &mut self,
        epoch: &Epoch,
        inputs: &[Gathered],
        shared: &Shared,
    ) -> Result<(Gathered, Vec<DeadLetter>), Fault> {
        let mut said = Said::default();
        let views: Vec<Input<'_>> = inputs.iter().map(Gathered::input).collect();
        let operator = &mut self.operator;
        let done = shared.meter.time(&self.name, || {
            catch_unwind(AssertUnwindSafe(|| {
                for (i, input) in inputs.iter().enumerate() {
                    if let Some(horizon) = &input.horizon {
                        operator.horizon(i, horizon);
                    }
                    if let Some(relation) = &input.relation {
                        let [stood, went, came] = &**relation;
                        let nothing = Batch::empty(Arc::clone(&stood.rows.schema()));
                        operator.relation(i, &nothing, stood)?;
                        operator.relation(i, went, came)?;
                    }
                }
                operator.epoch(epoch, &views, &mut said)
            }))
        });
        done.map_err(|panic| Fault::new(panic_text(&*panic)))??;
        said.account.input = inputs.iter().map(Gathered::n_rows).sum();
        self.total.add(&said.account);
        if !self.total.balances() {
            return Err(Fault::new(format!(
                "the step does not account for every row (a bug in it): {:?}",
                self.total
            )));
        }
        shared.ledger.add(epoch.id, self.node, &said.account);
        shared.reach(epoch.id, self.node);
        for letter in &mut said.dead {
            letter.operator = Arc::clone(&self.name);
        }
        let low = inputs[0].watermarks.low;
        let mut gathered = Gathered::nothing(&self.output, low);
        for (lane, to) in [
            (said.rows, &mut gathered.rows),
            (said.late, &mut gathered.late),
            (said.revised, &mut gathered.revised),
        ] {
            if !lane.is_empty() {
                *to = Batch::merge(&self.output, lane)?;
            }
        }
        // A step that says something of its own about event time may have moved it.
        let passes_on = self.stateless && said.watermarks.is_none();
        gathered.horizon = if passes_on { inputs[0].horizon.clone() } else { said.horizon };
        gathered.watermarks = said.watermarks.unwrap_or_else(|| inputs[0].watermarks.clone());
        Ok((gathered, said.dead))
    }
}

impl Link {
    /// Sends off what has changed of the step's state.
    fn save(&mut self, told: &Told, shared: &Shared) -> Result<(), Fault> {
        let (node, dirty) = (self.node, self.operator.dirty());
        shared.save(told, node, dirty, |shard| self.operator.save(shard))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|t| (*t).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("it panicked (a bug in it): {text}")
}

/// The streams that come out of an operator.
pub(crate) struct Outputs<'s> {
    pub rows: Stream<'s, u64, Parcel>,
    pub dead: Stream<'s, u64, Vec<DeadLetter>>,
}

/// What is gathered until its epoch is complete.
struct Waiting {
    inputs: Vec<Schema>,
    parcels: BTreeMap<u64, Vec<(usize, Parcel)>>,
    lows: Vec<i64>,
}

impl Waiting {
    fn take(&mut self, epoch: u64) -> Result<Vec<Gathered>, Fault> {
        let mut by_input: Vec<Vec<Parcel>> = self.inputs.iter().map(|_| Vec::new()).collect();
        for (input, parcel) in self.parcels.remove(&epoch).unwrap_or_default() {
            by_input[input].push(parcel);
        }
        let mut all = Vec::with_capacity(by_input.len());
        for (i, parcels) in by_input.into_iter().enumerate() {
            let gathered = Gathered::of(&self.inputs[i], self.lows[i], parcels)?;
            self.lows[i] = gathered.watermarks.low;
            all.push(gathered);
        }
        Ok(all)
    }
}

/// Puts a chain of steps into the dataflow.
pub(crate) fn chain<'s>(
    scope: Scope<'s, u64>,
    inputs: Vec<(Stream<'s, u64, Parcel>, Schema)>,
    mut links: Vec<Link>,
    shared: Shared,
) -> Outputs<'s> {
    let name = links.iter().map(|l| &*l.name).collect::<Vec<_>>().join("+");
    let mut builder = OperatorBuilder::new(name, scope);
    let (streams, schemas): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
    let mut handles: Vec<_> = streams.into_iter().map(|s| builder.new_input(s, Pipeline)).collect();
    let (rows_out, rows) = builder.new_output();
    let (dead_out, dead) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, NoopBuilder<Parcel>>::from(rows_out);
    let mut dead_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<DeadLetter>>>::from(dead_out);
    let lows = vec![i64::MIN; schemas.len()];
    let mut waiting = Waiting { inputs: schemas, parcels: BTreeMap::new(), lows };
    let mut low_out = i64::MIN;
    builder.build(move |capabilities| {
        let mut turn = Turn::new(capabilities, shared.start.first_epoch());
        move |frontiers| {
            for (input, handle) in handles.iter_mut().enumerate() {
                handle.for_each(|capability, parcel| {
                    if let Some(&epoch) = capability.least() {
                        let parcel = std::mem::take(parcel);
                        waiting.parcels.entry(epoch).or_default().push((input, parcel));
                    }
                });
            }
            turn.for_each_complete(frontiers, &shared, |told, capabilities| {
                let epoch = &told.epoch;
                let mut given = waiting.take(epoch.id).map_err(|f| (0, f))?;
                let mut letters = Vec::new();
                for (l, link) in links.iter_mut().enumerate() {
                    let (said, dead) =
                        link.carry_out(epoch, &given, &shared).map_err(|f| (l, f))?;
                    letters.extend(dead);
                    given = vec![said];
                }
                let said = given.remove(0);
                let low = said.watermarks.low;
                for mut parcel in said.into_parcels(low_out) {
                    rows_out
                        .activate()
                        .session_with_builder(&capabilities[0])
                        .give_container(&mut parcel);
                }
                low_out = low_out.max(low);
                if !letters.is_empty() {
                    dead_out.activate().session(&capabilities[1]).give_container(&mut letters);
                }
                for (l, link) in links.iter_mut().enumerate() {
                    link.save(told, &shared).map_err(|f| (l, f))?;
                }
                Ok(())
            })
            .unwrap_or_else(|(l, fault): (usize, Fault)| {
                shared.failure.raise(RunError::Step {
                    step: links[l].name.to_string(),
                    kind: links[l].kind.to_owned(),
                    message: fault.message,
                });
            });
        }
    });
    Outputs { rows, dead }
}

/// Which epoch is next, and the right to emit in it.
pub(crate) struct Turn {
    capabilities: Option<Vec<Capability<u64>>>,
    next: u64,
}

impl Turn {
    pub(crate) fn new(mut capabilities: Vec<Capability<u64>>, first: u64) -> Self {
        for capability in &mut capabilities {
            capability.downgrade(&first);
        }
        Turn { capabilities: Some(capabilities), next: first }
    }

    /// Calls `carry_out` for every epoch that is complete on all inputs, in order, whether or not anything arrived.
    /// After a failure of the run it does nothing.
    pub(crate) fn for_each_complete<E>(
        &mut self,
        frontiers: &[MutableAntichain<u64>],
        shared: &Shared,
        mut carry_out: impl FnMut(&Told, &[Capability<u64>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(capabilities) = self.capabilities.as_mut() else { return Ok(()) };
        let open = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min();
        while !shared.failure.is_raised()
            && open.is_none_or(|open| self.next < open)
            && let Some(told) = shared.book.get(self.next)
        {
            for capability in capabilities.iter_mut() {
                capability.downgrade(&told.epoch.id);
            }
            carry_out(&told, capabilities)?;
            self.next += 1;
        }
        match open {
            _ if shared.failure.is_raised() => self.capabilities = None,
            None => self.capabilities = None,
            Some(open) => {
                for capability in capabilities.iter_mut() {
                    if *capability.time() < open {
                        capability.downgrade(&open);
                    }
                }
            }
        }
        Ok(())
    }
}
