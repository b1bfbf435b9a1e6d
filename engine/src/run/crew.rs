//! Everyone who takes part in a run, put together but not yet at work: threads do that, or a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Receiver, unbounded};

use crate::account::Account;
use crate::durable::Durable;
use crate::epoch::SourceId;
use crate::graph::{Front, Graph, SourceNode, StepNode};
use crate::keyed::SHARDS;
use crate::order::Orderer;
use crate::relation::Reference;
use crate::run::backlog::Backlog;
use crate::run::conductor::{Conductor, Cut, Keeping, Phase};
use crate::run::hub::{Before, Hub, Places};
use crate::run::journalist::{self, Writer};
use crate::run::ledger::Failure;
use crate::run::recovery::{Blocks, Known, Replayer, recover};
use crate::run::snapshots::{self, Begin, Desk, Keeper};
use crate::run::start::Start;
use crate::run::worker::{Busy, News, Seat, Wiring};
use crate::run::{Options, RunError, node_names, wire};
use crate::snapshot::{Facts, NodeFacts};
use crate::source::{Chunk, KnownPartition, Partition};

/// Everyone who takes part in a run.
pub(crate) struct Crew {
    pub conductor: Conductor,
    pub seats: Vec<Seat>,
    pub hub: Hub,
    pub news: Receiver<News>,
    pub writer: Option<Writer>,
    pub keeper: Option<Keeper>,
    pub wiring: Arc<Wiring>,
    pub failure: Arc<Failure>,
    pub busy: Busy,
}

/// Those who make progress durable, and what they have found.
struct Kept {
    generation: u64,
    start: Start,
    accounts: BTreeMap<String, Account>,
    known: Known,
    news: Blocks,
    last_epoch: Option<u64>,
    clock_ns: i64,
    ended: BTreeSet<SourceId>,
    unmarked: Vec<(usize, Chunk)>,
    history: Option<Replayer>,
    keeping: Option<Keeping>,
    desk: Option<Desk>,
    writer: Option<Writer>,
    keeper: Option<Keeper>,
}

impl Crew {
    /// Opens everything; what an earlier run has left is taken over.
    pub(crate) fn assemble(mut graph: Graph, options: &Options) -> Result<Self, RunError> {
        if !(1..=SHARDS).contains(&options.workers) {
            return Err(RunError::Engine(format!(
                "the number of workers is 1 to {SHARDS}, not {}",
                options.workers
            )));
        }
        let wiring = Arc::new(wire(&graph)?);
        let kept = keep(&graph, options)?;
        resume(&mut graph, &kept.known, &kept.start)?;
        let (places, failure) = (Places::default(), Arc::default());
        let vitals = options.vitals.clone().unwrap_or_default();
        vitals.begin(&graph, options.workers, kept.start.after, kept.generation);
        if let Some(keeping) = &kept.keeping {
            vitals.keeps_journal(&keeping.log.bytes, keeping.journal_limit_bytes);
        }
        let busy: Busy = Arc::clone(&vitals.busy);
        note_places(&places, &kept.known);
        let (news_sender, news) = unbounded();
        let (done_sender, done) = unbounded();
        let nodes = node_names(&graph);
        let account =
            |(name, _): &(String, _)| kept.accounts.get(name).copied().unwrap_or_default();
        let before = Before {
            run: options.run,
            generation: kept.generation,
            first: kept.start.first_epoch(),
            snapshot: kept.start.snapshot,
            last_epoch: kept.last_epoch,
            accounts: nodes.iter().map(account).collect(),
            snapshots: kept.desk,
            nodes,
            places: Arc::clone(&places),
            busy: Arc::clone(&busy),
            vitals: Arc::clone(&vitals),
            done: done_sender,
        };
        let hub = Hub::open(&mut graph, &wiring, options, before)?;
        let (after, last) = (kept.start.after, kept.last_epoch.unwrap_or(kept.start.after));
        let backlog = Backlog::new(after + 1..last + 1, options.backlog_bytes);
        let mut cut = Cut::after(after..=last, &kept.ended, kept.known, kept.news, backlog);
        cut.goes_on_from(kept.clock_ns);
        let start = Arc::new(kept.start);
        let (mut orders, mut seats) = (Vec::new(), Vec::new());
        for _ in 0..options.workers {
            let (sender, receiver) = unbounded();
            orders.push(sender);
            seats.push(Seat {
                orders: receiver,
                news: news_sender.clone(),
                busy: Arc::clone(&busy),
                vitals: Arc::clone(&vitals),
                decoders: graph.sources.iter().map(|s| s.source.decoder()).collect(),
                start: Arc::clone(&start),
            });
        }
        let conductor = Conductor {
            sources: graph.sources,
            orders,
            done,
            places,
            failure: Arc::clone(&failure),
            vitals,
            options: options.clone(),
            keeping: kept.keeping,
            phase: match kept.history {
                Some(replayer) => Phase::Replaying(replayer),
                None => Phase::Beginning(kept.unmarked),
            },
            cut,
        };
        let (writer, keeper) = (kept.writer, kept.keeper);
        Ok(Crew { conductor, seats, hub, news, writer, keeper, wiring, failure, busy })
    }
}

/// What is kept of earlier runs, and who keeps this one.
fn keep(graph: &Graph, options: &Options) -> Result<Kept, RunError> {
    let Some(durable) = &options.durable else {
        let history = options.history.as_ref();
        let replayed = history.map(|h| Replayer::of_history(h, &graph.sources)).transpose()?;
        let (replayer, known) = replayed.unzip();
        let after = replayer.as_ref().map_or(0, Replayer::after);
        return Ok(Kept {
            generation: options.run.0,
            start: Start { after, ..Start::default() },
            accounts: BTreeMap::new(),
            known: known.unwrap_or_default(),
            news: Blocks::new(),
            last_epoch: None,
            clock_ns: i64::MIN,
            ended: BTreeSet::new(),
            unmarked: Vec::new(),
            history: replayer,
            keeping: None,
            desk: None,
            writer: None,
            keeper: None,
        });
    };
    let found = recover(durable, &graph.sources, options.run, options.workers)?;
    for note in &found.notes {
        tracing::warn!("{note}");
    }
    let (log, writer) = journalist::pair(found.journal);
    let (gate, desk, keeper) = snapshots::ends(Begin {
        store: found.store,
        facts: Facts {
            plan: found.plan,
            pipeline: graph.name.clone(),
            run: options.run,
            nodes: BTreeMap::new(),
            ended: Vec::new(),
            committed: BTreeMap::new(),
            accounts: BTreeMap::new(),
            clock_ns: 0,
        },
        nodes: node_facts(graph, durable),
        n_sources: graph.sources.len(),
        journal: log.entries.clone(),
        interval: durable.snapshot_interval,
        now_ns: options.clock.now_ns(),
        whole: found.whole,
    });
    Ok(Kept {
        generation: found.generation,
        start: found.start,
        accounts: found.accounts,
        known: found.known,
        news: found.news,
        last_epoch: Some(found.last_epoch),
        clock_ns: found.clock_ns,
        ended: found.ended,
        unmarked: found.unmarked,
        history: None,
        keeping: Some(Keeping {
            log,
            snapshots: gate,
            journal_limit_bytes: durable.journal_limit_bytes,
        }),
        desk: Some(desk),
        writer: Some(writer),
        keeper: Some(keeper),
    })
}

/// Tells each source what an earlier run has read of it. A table whose rows are not among the state that is taken over was
/// read for nothing: it is to be read again.
fn resume(graph: &mut Graph, known: &Known, start: &Start) -> Result<(), RunError> {
    let nodes = start.nodes.lock().unwrap_or_else(PoisonError::into_inner);
    for (source, node) in graph.sources.iter_mut().enumerate() {
        let all = known.range((source, Partition(0))..=(source, Partition(u32::MAX)));
        let mut known: Vec<KnownPartition> = all.map(|(_, k)| k.clone()).collect();
        let is_table = matches!(&node.front, Front::Relation(rules) if rules.whole);
        if is_table && nodes.get(&node.name).is_none_or(|saved| saved.shards.is_empty()) {
            known.iter_mut().for_each(|k| k.read = None);
        }
        if !known.is_empty() {
            let resumed = node.source.resume(&known);
            resumed.map_err(|e| RunError::Source(node.name.clone(), e))?;
        }
    }
    Ok(())
}

fn note_places(places: &Places, known: &Known) {
    let mut places = places.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    places.extend(known.iter().map(|(key, k)| (*key, k.name.clone())));
}

/// What each source and step is, in the order of their numbers.
fn node_facts(graph: &Graph, durable: &Durable) -> Vec<(String, NodeFacts)> {
    let config = |name: &str| durable.identity.nodes.get(name).cloned().unwrap_or_default();
    let source = |s: &SourceNode| {
        let kind = "source".to_owned();
        let config = config(&s.name);
        let state_version = match s.front {
            Front::Stream(_) => Orderer::STATE_VERSION,
            Front::Relation(_) => Reference::STATE_VERSION,
        };
        (s.name.clone(), NodeFacts { kind, state_version, config, models: Vec::new() })
    };
    let step = |s: &StepNode| {
        let (kind, config) = (s.kind.to_owned(), config(&s.name));
        let (state_version, models) = (s.planned.state_version, s.planned.depends_on.clone());
        (s.name.clone(), NodeFacts { kind, state_version, config, models })
    };
    graph.sources.iter().map(source).chain(graph.steps.iter().map(step)).collect()
}
