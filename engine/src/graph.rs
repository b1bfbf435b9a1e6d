//! What is to be run: sources, steps and sinks joined by streams.

use std::fmt;

use crate::operator::Planned;
use crate::relation::ViewNode;
use crate::schema::Schema;
use crate::sink::Sink;
use crate::source::Source;

/// A stream of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamId {
    /// What a source yields, after its ordering step.
    Source(usize),
    /// What a step emits.
    Step(usize),
    /// All rows of a source that is a relation, those too that count from another time on; only what can hear of a
    /// relation reads it ([`Operator::relation`](crate::Operator::relation)).
    Versions(usize),
    /// A table like a view: rows of its key, each time with a higher revision, or deleted.
    View(usize),
    /// What changes of a view.
    Log(usize),
    /// The rows that some source or step could not use.
    DeadLetters,
    /// The rows behind their key's watermark, whatever became of them.
    Late,
}

/// What happens to a row behind its key's watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatePolicy {
    /// It becomes a dead letter.
    DeadLetter,
    /// It corrects the result if it is at most this far behind the watermark, in the unit of the time domain.
    Correct(i64),
}

/// How far a device's clock is believed. UTC time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceClock {
    /// When a row arrived: a timestamp column, which is never null. `None`: the clock of the epoch that has the row.
    pub arrival: Option<usize>,
    /// So far, to either side, may the event time of a row be from its arrival; 0 or more.
    pub max_difference_ns: i64,
    /// What becomes of a row that is further away, or whose device gave no stamp.
    pub otherwise: ClockPolicy,
}

/// What becomes of a row whose device's clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockPolicy {
    /// Its arrival is its event time. The device's stamp is kept in the last column of the source's schema, a timestamp
    /// that the ordering step adds: decoders do not know of it. It is null in all other rows.
    Arrival,
    /// It becomes a dead letter.
    DeadLetter,
}

/// How the ordering step of a source treats its rows. Lengths are in the unit of the time domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRules {
    /// How far a key's watermark stays behind its greatest event time; 0 or more.
    pub lateness: i64,
    /// What happens to rows behind it.
    pub late: LatePolicy,
    /// Columns that tell a row from its repetition; empty: no deduplication. Of rows that agree in them the
    /// first is kept.
    pub dedupe: Vec<usize>,
    /// How far behind the key's greatest event time repetitions are still recognised.
    pub dedupe_within: i64,
    /// How far the event times are believed, where they are those of a device's clock.
    pub device_clock: Option<DeviceClock>,
    /// A row further ahead of the epoch's clock than this is a dead letter (UTC time only).
    pub max_ahead: Option<i64>,
    /// A key silent for this many nanoseconds of the epochs' clock has its watermark move on with the clock.
    pub idle_timeout_ns: Option<i64>,
}

impl Default for OrderRules {
    fn default() -> Self {
        OrderRules {
            lateness: 0,
            late: LatePolicy::DeadLetter,
            dedupe: Vec::new(),
            dedupe_within: 0,
            device_clock: None,
            max_ahead: None,
            idle_timeout_ns: None,
        }
    }
}

impl OrderRules {
    /// How many columns the ordering step adds behind those that a decoder gives.
    pub(crate) fn n_added_columns(&self) -> usize {
        let keeps = |clock: &DeviceClock| clock.otherwise == ClockPolicy::Arrival;
        usize::from(self.device_clock.as_ref().is_some_and(keeps))
    }
}

/// How the rows of a source that is a relation are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationRules {
    /// Whether a chunk is a whole table, each a partition of its own, after which nothing stands but what it has. Otherwise
    /// chunks have changes.
    pub whole: bool,
    /// The column with the time from which a row counts. It may be null: a row of a whole table then counts from the
    /// beginning, one that comes alone from the engine's clock on. Without such a column there is one row a key.
    pub valid_from: Option<usize>,
    /// Most rows on a worker; more is an error that stops the run.
    pub max_rows: usize,
}

/// What is made of a source's rows before anything else sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// A stream: the rows of a key in the order of event time.
    Stream(OrderRules),
    /// A relation: a row takes the place of the one with its key. The last column of the schema, its time, is
    /// [`CHANGED_AT`](crate::CHANGED_AT), which decoders do not know of; they add the column [`GONE`](crate::GONE) instead.
    Relation(RelationRules),
}

impl Front {
    /// The rules of a stream's order.
    #[must_use]
    pub fn order(&self) -> Option<&OrderRules> {
        match self {
            Front::Stream(order) => Some(order),
            Front::Relation(_) => None,
        }
    }

    /// Whether it is a relation.
    #[must_use]
    pub fn is_relation(&self) -> bool {
        matches!(self, Front::Relation(_))
    }
}

/// A source.
pub struct SourceNode {
    /// Its name in the pipeline file.
    pub name: String,
    /// What it yields.
    pub schema: Schema,
    /// What is made of its rows first.
    pub front: Front,
    /// The open source.
    pub source: Box<dyn Source>,
}

/// A step.
#[derive(Debug)]
pub struct StepNode {
    /// Its name in the pipeline file.
    pub name: String,
    /// Its kind, as in the registry.
    pub kind: &'static str,
    /// Streams it reads. Steps are listed after what they read.
    pub inputs: Vec<StreamId>,
    /// What it does.
    pub planned: Planned,
    /// Whether the key of what it emits is another than that of what it reads: rows then go to the workers of theirs, and
    /// nothing is known of their watermarks.
    pub rekeyed: bool,
}

/// A sink of one stream.
pub struct SinkNode {
    /// Its name in the pipeline file; sinks of several streams have one node a stream.
    pub name: String,
    /// The stream.
    pub from: StreamId,
    /// The sink, not yet opened.
    pub sink: Box<dyn Sink>,
}

/// A pipeline that can be run.
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// Its sources.
    pub sources: Vec<SourceNode>,
    /// Its steps, each after those it reads.
    pub steps: Vec<StepNode>,
    /// Its views, each after those it is made of.
    pub views: Vec<ViewNode>,
    /// Its sinks.
    pub sinks: Vec<SinkNode>,
}

impl Graph {
    /// The schema of a stream.
    ///
    /// # Panics
    /// When there is no such stream, which is a bug in whoever made the graph.
    #[must_use]
    pub fn schema(&self, stream: StreamId) -> Schema {
        match stream {
            StreamId::Source(i) | StreamId::Versions(i) => self.sources[i].schema.clone(),
            StreamId::Step(i) => self.steps[i].planned.output.clone(),
            StreamId::View(i) => self.views[i].relation.state(),
            StreamId::Log(i) => self.views[i].relation.log(),
            StreamId::DeadLetters => crate::dead_letter_schema(),
            StreamId::Late => crate::late_schema(),
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|s| &s.name).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|s| (&s.name, s.from)).collect();
        f.debug_struct("Graph")
            .field("name", &self.name)
            .field("sources", &sources)
            .field("steps", &self.steps)
            .field("views", &self.views)
            .field("sinks", &sinks)
            .finish()
    }
}

impl fmt::Debug for SourceNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceNode").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for SinkNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkNode").field("name", &self.name).finish_non_exhaustive()
    }
}
