//! A pipeline in which everything fits: names are found, and schemas and units have flowed through every edge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use foreline_connectors::{ColumnConfig, PlannedSink, PlannedSource};
use foreline_engine::{
    Expression, Fitting, Front, Graph, Identity, LatePolicy, OrderRules, Planned, Relation, Schema,
    Sink, SinkError, SinkNode, SourceError, SourceNode, StepNode, StreamId, ViewKind, ViewNode,
    dead_letter_schema, late_schema,
};

use foreline_plugins::{Ledger, Switchboard};

use crate::file::{Comparison, Signal, Signup, TestConfig, ValidateConfig};
use crate::read::{DEAD_LETTERS, LATE, diagnostic};
use crate::secret::Secret;

/// A pipeline that can be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its sources, in the order of the file.
    pub sources: Vec<SourcePlan>,
    /// Its steps, each after those it reads.
    pub steps: Vec<StepPlan>,
    /// Its views, each after those it is made of. The step of a view of the latest rows is among the steps, with its name.
    pub views: Vec<ViewPlan>,
    /// Its sinks, one entry a stream.
    pub sinks: Vec<SinkPlan>,
    /// Its alerts. The step of each is among the steps, with its name.
    pub alerts: Vec<AlertPlan>,
    /// The models that can be trained.
    pub training: Vec<TrainingPlan>,
    /// The steps that can be fitted.
    pub fittings: Vec<FittingPlan>,
    /// The cases of `foreline test`.
    pub tests: Vec<TestConfig>,
    /// An epoch closes after this long.
    pub epoch_interval: Duration,
    /// An epoch closes after this many rows.
    pub epoch_rows: usize,
    /// Worker threads, if the file says.
    pub workers: Option<usize>,
    /// Where journal and snapshots lie.
    pub data_dir: PathBuf,
    /// The time between two snapshots.
    pub snapshot_interval: Duration,
    /// How many snapshots are kept.
    pub snapshots_kept: usize,
    /// Most bytes that the journal may take.
    pub journal_limit_bytes: u64,
    /// How far back the journal goes beyond what a restart needs.
    pub journal_keep: Duration,
    /// The HTTP server, if there is to be one.
    pub serve: Option<ServePlan>,
    /// What the models do while they run.
    pub ledgers: Vec<Arc<Ledger>>,
    /// The models that can be changed while they run; they read the [swaps](Plan::swaps).
    pub models: Vec<Arc<Switchboard>>,
    /// The streams whose last rows are kept in memory.
    pub kept: Vec<KeptPlan>,
}

/// A stream of a [`Plan`] whose last rows are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptPlan {
    /// The stream.
    pub stream: StreamId,
    /// How far behind its newest row, in the unit of its time.
    pub length: i64,
}

/// The HTTP server of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServePlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may use it; anybody where there is none, which only an address of this machine may have.
    pub tokens: Vec<Secret>,
    /// How people without an account get one.
    pub signup: Signup,
    /// A collector of telemetry.
    pub otlp: Option<OtlpPlan>,
    /// Certificate and private key, if it speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where the PostgreSQL wire listens, if it does.
    pub postgres: Option<SocketAddr>,
    /// The origins whose pages may use it from a browser.
    pub origins: Vec<String>,
    /// The paths that the API has beside its own.
    pub routes: Vec<RoutePlan>,
}

/// A path of the API that a pipeline adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlan {
    /// The path.
    pub path: String,
    /// The source that takes the rows of a POST.
    pub post: Option<String>,
    /// What a GET is answered.
    pub get: Option<ListPlan>,
}

/// Rows of a query, a page at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPlan {
    /// The query.
    pub sql: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The places of columns that rows are in the order of, and whether the greatest come first.
    pub order: Vec<(usize, bool)>,
    /// How many of them tell where a page ends.
    pub marks: usize,
    /// The parameters of a request.
    pub filters: Vec<FilterPlan>,
    /// Rows of a page where a request does not say.
    pub limit: usize,
}

/// A parameter of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPlan {
    /// Its name.
    pub name: String,
    /// The place of the column that it is compared with.
    pub column: usize,
    /// How.
    pub is: Comparison,
    /// What it is where a request does not have it.
    pub default: Option<String>,
}

/// A collector of telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpPlan {
    /// Its address.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(String, Secret)>,
    /// Between two requests of a kind.
    pub interval: Duration,
    /// What is sent.
    pub signals: Vec<Signal>,
}

/// A source of a [`Plan`].
#[derive(Debug, Clone)]
pub struct SourcePlan {
    /// Its name, which is that of its stream.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// What it yields.
    pub schema: Schema,
    /// The columns as declared.
    pub columns: Vec<(String, ColumnConfig)>,
    /// What the file says of it, on one line and without secrets, to tell whether it has changed.
    pub config: String,
    /// What is made of its rows first: a stream, or a relation.
    pub front: Front,
    /// Opens it.
    pub source: PlannedSource,
}

/// A step of a [`Plan`].
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// Its name, which is that of its stream.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The streams it reads.
    pub inputs: Vec<StreamId>,
    /// What the file says of it, on one line and without secrets, to tell whether it has changed.
    pub config: String,
    /// What it emits and how it is built.
    pub planned: Planned,
    /// Whether the key of what it emits is another than that of what it reads.
    pub rekeyed: bool,
}

/// A view of a [`Plan`].
#[derive(Debug, Clone)]
pub struct ViewPlan {
    /// Its name.
    pub name: String,
    /// The name of the stream of its changes.
    pub changes: String,
    /// How it is made, in a word: the key in the file.
    pub kind: &'static str,
    /// What it holds.
    pub relation: Relation,
    /// How it is made.
    pub how: ViewKind,
    /// Most rows it may have.
    pub max_rows: usize,
    /// What the file says of it, on one line and without secrets, to tell whether it has changed.
    pub config: String,
}

/// A sink of a [`Plan`], for one stream.
#[derive(Debug, Clone)]
pub struct SinkPlan {
    /// The name in the file; a sink of several streams is there once for each.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The stream it takes.
    pub from: StreamId,
    /// What the file says of it, on one line and without secrets, to tell whether it has changed.
    pub config: String,
    /// Makes it.
    pub sink: PlannedSink,
}

/// An alert of a [`Plan`].
#[derive(Debug, Clone)]
pub struct AlertPlan {
    /// Its name, which is that of the stream of its changes.
    pub name: String,
    /// What it watches.
    pub from: StreamId,
    /// The stream of its changes.
    pub stream: StreamId,
    /// What raises it, for reports.
    pub condition: String,
}

/// What a model is to predict.
#[derive(Debug, Clone)]
pub enum TrainingTarget {
    /// How long until the life ends, at most `cap`, in the unit of the stream's time.
    Remaining {
        /// Longer lives count as this.
        cap: Option<i64>,
        /// The rows at which a life ends; without it, the last row of each key.
        ends: Option<Arc<dyn Expression>>,
    },
    /// A numeric column.
    Column(String),
    /// A column that names a class, of text, whole numbers or booleans.
    Class(String),
    /// Nothing: the family learns what is there.
    Nothing,
}

/// A training of a [`Plan`].
#[derive(Debug, Clone)]
pub struct TrainingPlan {
    /// Its name.
    pub name: String,
    /// The stream whose rows are learnt from.
    pub from: StreamId,
    /// What is to be predicted.
    pub target: TrainingTarget,
    /// The columns learnt from, in the order of the stream or as listed.
    pub features: Vec<String>,
    /// The plugin the weights are for.
    pub plugin: PathBuf,
    /// Where the weights are written.
    pub weights: PathBuf,
    /// Settings of the trainer.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Only rows for which it is true are learnt from.
    pub filter: Option<Arc<dyn Expression>>,
    /// How it is judged; empty where the file does not say.
    pub validate: Vec<ValidateConfig>,
}

/// The fitting of a step of a [`Plan`].
#[derive(Debug, Clone)]
pub struct FittingPlan {
    /// Its name in the section `training`.
    pub name: String,
    /// The step that is fitted.
    pub step: String,
    /// The stream that the step reads.
    pub from: StreamId,
    /// From its rows to the file of statistics.
    pub fitting: Fitting,
    /// What the step chooses by, if it does; a column may be of any type.
    pub target: Option<TrainingTarget>,
    /// Only rows for which it is true are looked at.
    pub filter: Option<Arc<dyn Expression>>,
}

/// A sink that is not in the file, such as one that keeps rows in memory.
pub struct ExtraSink {
    /// What reports call it.
    pub name: String,
    /// The stream it takes: a source, a step, `dead_letters` or `late`.
    pub stream: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
}

impl std::fmt::Debug for ExtraSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtraSink")
            .field("name", &self.name)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// A plan could not be made ready to run.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A source could not be opened.
    #[error("source '{0}': {1}")]
    Source(String, SourceError),
    /// A sink could not be made.
    #[error("sink '{0}': {1}")]
    Sink(String, SinkError),
    /// There is no such stream.
    #[error("there is no stream '{0}'")]
    Stream(String),
}

impl Plan {
    /// The stream called `name`.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<StreamId> {
        let stream = |s: &SourcePlan| s.name == name && !s.front.is_relation();
        let source = self.sources.iter().position(stream).map(StreamId::Source);
        // First, because the step of a view of the latest rows has its name.
        let source = source.or(self.views.iter().position(|v| v.name == name).map(StreamId::View));
        let source =
            source.or(self.views.iter().position(|v| v.changes == name).map(StreamId::Log));
        let step = || self.steps.iter().position(|s| s.name == name).map(StreamId::Step);
        source.or_else(step).or_else(|| diagnostic(name))
    }

    /// The name of a stream.
    #[must_use]
    pub fn stream_name(&self, stream: StreamId) -> &str {
        match stream {
            StreamId::Source(i) | StreamId::Versions(i) => &self.sources[i].name,
            StreamId::Step(i) => &self.steps[i].name,
            StreamId::View(i) => &self.views[i].name,
            StreamId::Log(i) => &self.views[i].changes,
            StreamId::DeadLetters => DEAD_LETTERS,
            StreamId::Late => LATE,
        }
    }

    /// Whether a step is one of the file. A view of the latest rows and an alert each have a step of their name.
    #[must_use]
    pub fn is_own(&self, step: &StepPlan) -> bool {
        let is_entry = step.kind == "alert_entry";
        !is_entry
            && self.views.iter().all(|v| v.name != step.name)
            && self.alerts.iter().all(|a| a.name != step.name)
    }

    /// Where people do something with alerts, if they can.
    #[must_use]
    pub fn commands(&self) -> Option<&SourcePlan> {
        self.sources.iter().find(|s| s.kind == SourcePlan::COMMANDS)
    }

    /// The relation that says which models act, if people can change that.
    #[must_use]
    pub fn swaps(&self) -> Option<&SourcePlan> {
        self.sources.iter().find(|s| s.kind == SourcePlan::SWAPS)
    }

    /// Whether a stream is one of the file, or made of one.
    pub(crate) fn is_shown(&self, stream: StreamId) -> bool {
        match stream {
            StreamId::Source(i) | StreamId::Versions(i) => self.sources[i].is_own(),
            _ => true,
        }
    }

    /// The schema of a stream.
    #[must_use]
    pub fn schema(&self, stream: StreamId) -> Schema {
        match stream {
            StreamId::Source(i) | StreamId::Versions(i) => self.sources[i].schema.clone(),
            StreamId::Step(i) => self.steps[i].planned.output.clone(),
            StreamId::View(i) => self.views[i].relation.state(),
            StreamId::Log(i) => self.views[i].relation.log(),
            StreamId::DeadLetters => dead_letter_schema(),
            StreamId::Late => late_schema(),
        }
    }

    /// What the pipeline is: all that its rows depend on.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let mut nodes = BTreeMap::new();
        for s in &self.sources {
            nodes.insert(s.name.clone(), s.config.clone());
        }
        for (i, s) in self.steps.iter().enumerate() {
            let mut text = s.config.clone();
            text.extend(s.planned.depends_on.iter().map(|d| format!(", {d}")));
            // Below a source that corrects, a step's state holds what it corrects with.
            for above in self.leading_to([StreamId::Step(i)]) {
                if let StreamId::Source(i) = above
                    && let Some(LatePolicy::Correct(within)) =
                        self.sources[i].order().map(|o| o.late)
                {
                    text += &format!(", corrected by '{}' within {within}", self.sources[i].name);
                }
            }
            nodes.insert(s.name.clone(), text);
        }
        // What a view of the latest rows is made by is among the steps.
        for v in self.views.iter().filter(|v| !matches!(v.how, ViewKind::Standing(_))) {
            nodes.insert(v.name.clone(), v.config.clone());
        }
        for s in &self.sinks {
            let name = format!("{}/{}", s.name, self.stream_name(s.from));
            nodes.insert(name, s.config.clone());
        }
        Identity { nodes }
    }

    /// Whether every source ends by itself; relations are there for the streams.
    #[must_use]
    pub fn bounded(&self) -> bool {
        self.sources.iter().all(|s| s.source.bounded || s.front.is_relation())
    }

    /// Whether a run that has ended may begin anew, as one that reads the same files again: nothing was told to it that nobody
    /// tells it again.
    #[must_use]
    pub fn can_begin_anew(&self) -> bool {
        self.bounded() && self.sources.iter().all(|s| s.source.door.is_none())
    }

    /// The whole pipeline, with its sinks and `extra` ones. Sources are opened here.
    ///
    /// # Errors
    /// When a source cannot be opened, a sink not be made, or an extra sink names no stream.
    pub fn graph(&self, extra: Vec<ExtraSink>) -> Result<Graph, GraphError> {
        let mut graph = self.part(&self.everything())?;
        for sink in &self.sinks {
            let made = (sink.sink.make)().map_err(|e| GraphError::Sink(sink.name.clone(), e))?;
            graph.sinks.push(SinkNode { name: sink.name.clone(), from: sink.from, sink: made });
        }
        for sink in extra {
            let from = self.stream(&sink.stream).ok_or(GraphError::Stream(sink.stream))?;
            graph.sinks.push(SinkNode { name: sink.name, from, sink: sink.sink });
        }
        Ok(graph)
    }

    /// What leads to the streams of `sinks`, with these sinks and none of the file's. Sources that none of them
    /// needs are not opened. If only `dead_letters` or `late` is asked for, it is the whole pipeline.
    ///
    /// # Errors
    /// As [`Plan::graph`].
    pub fn graph_of(&self, sinks: Vec<ExtraSink>) -> Result<Graph, GraphError> {
        let mut wanted = Vec::with_capacity(sinks.len());
        for sink in sinks {
            let from = self.stream(&sink.stream).ok_or(GraphError::Stream(sink.stream))?;
            wanted.push((from, sink.name, sink.sink));
        }
        let made = |s: &StreamId| !matches!(s, StreamId::DeadLetters | StreamId::Late);
        let named = wanted.iter().map(|w| w.0).filter(made);
        let mut needed = self.leading_to(named);
        // Relations alone would never end: they are there for the streams.
        let is_stream = |s: &StreamId| match *s {
            StreamId::Source(i) => self.sources[i].is_own() && !self.sources[i].front.is_relation(),
            _ => false,
        };
        if !needed.iter().any(is_stream) {
            needed = self.everything();
        }
        let mut graph = self.part(&needed)?;
        for (from, name, sink) in wanted {
            graph.sinks.push(SinkNode { name, from: renumber(&needed, from), sink });
        }
        Ok(graph)
    }

    fn everything(&self) -> BTreeSet<StreamId> {
        let sources = (0..self.sources.len()).map(StreamId::Source);
        let steps = (0..self.steps.len()).map(StreamId::Step);
        sources.chain(steps).chain((0..self.views.len()).map(StreamId::View)).collect()
    }

    /// `streams` and everything they are made from; of the changes of a view, the view.
    pub(crate) fn leading_to(
        &self,
        streams: impl IntoIterator<Item = StreamId>,
    ) -> BTreeSet<StreamId> {
        let mut open: Vec<StreamId> = streams.into_iter().collect();
        let mut needed = BTreeSet::new();
        while let Some(stream) = open.pop() {
            let stream = match stream {
                StreamId::Log(i) => StreamId::View(i),
                StreamId::Versions(i) => StreamId::Source(i),
                other => other,
            };
            match stream {
                _ if !needed.insert(stream) => {}
                StreamId::Step(i) => open.extend(&self.steps[i].inputs),
                StreamId::View(i) => open.extend(self.views[i].streams()),
                _ => {}
            }
        }
        needed
    }

    /// The sources and steps of `needed`, without sinks.
    fn part(&self, needed: &BTreeSet<StreamId>) -> Result<Graph, GraphError> {
        let mut graph = Graph {
            name: self.name.clone(),
            sources: Vec::new(),
            steps: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
        };
        for stream in needed {
            match *stream {
                StreamId::Source(i) => graph.sources.push(self.sources[i].open()?),
                StreamId::Step(i) => {
                    let step = &self.steps[i];
                    graph.steps.push(StepNode {
                        name: step.name.clone(),
                        kind: step.kind,
                        inputs: step.inputs.iter().map(|s| renumber(needed, *s)).collect(),
                        planned: step.planned.clone(),
                        rekeyed: step.rekeyed,
                    });
                }
                StreamId::View(i) => {
                    let view = &self.views[i];
                    let how = renumbered(&view.how, |stream| renumber(needed, stream));
                    let mut node = ViewNode::new(&view.name, view.relation.clone(), how);
                    node.max_rows = view.max_rows;
                    graph.views.push(node);
                }
                StreamId::Log(_) | StreamId::Versions(_) => {}
                StreamId::DeadLetters | StreamId::Late => {}
            }
        }
        Ok(graph)
    }
}

impl ViewPlan {
    /// The views and the step that it is made of.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        match self.how {
            ViewKind::Standing(stream) => vec![stream],
            ref how => how.views().into_iter().map(StreamId::View).collect(),
        }
    }

    /// What it is made of, as people see it: of a view of the latest rows the stream that they are of.
    #[must_use]
    pub fn made_of(&self, plan: &Plan) -> Vec<StreamId> {
        match self.how {
            ViewKind::Standing(StreamId::Step(i)) if plan.steps[i].kind == "alert_book" => {
                plan.alerts.iter().map(|alert| alert.stream).collect()
            }
            ViewKind::Standing(StreamId::Step(i)) => plan.steps[i].inputs.clone(),
            // A relation and what stands of it are one to people, and so are the commands of the book and the book.
            ViewKind::Standing(_) => Vec::new(),
            _ => self.streams(),
        }
    }
}

impl SourcePlan {
    /// The kind of the source of what people do with alerts, which no file names.
    pub(crate) const COMMANDS: &'static str = "alert_commands";
    /// The kind of the relation that says which models act, which no file names.
    pub(crate) const SWAPS: &'static str = "model_swaps";

    /// Whether it is one of the file.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.kind != SourcePlan::COMMANDS && self.kind != SourcePlan::SWAPS
    }

    /// How its rows are put in order, if it is a stream.
    #[must_use]
    pub fn order(&self) -> Option<&OrderRules> {
        self.front.order()
    }

    fn open(&self) -> Result<SourceNode, GraphError> {
        let source = (self.source.open)().map_err(|e| GraphError::Source(self.name.clone(), e))?;
        Ok(SourceNode {
            name: self.name.clone(),
            schema: self.schema.clone(),
            front: self.front.clone(),
            source,
        })
    }
}

/// The number of `stream` among those of `needed`, which keep their order.
fn renumber(needed: &BTreeSet<StreamId>, stream: StreamId) -> StreamId {
    let before =
        |same: fn(&StreamId) -> bool| needed.iter().filter(|s| same(s) && **s < stream).count();
    match stream {
        StreamId::Source(_) => StreamId::Source(before(|s| matches!(s, StreamId::Source(_)))),
        StreamId::Step(_) => StreamId::Step(before(|s| matches!(s, StreamId::Step(_)))),
        StreamId::View(_) => StreamId::View(before(|s| matches!(s, StreamId::View(_)))),
        StreamId::Log(i) => match renumber(needed, StreamId::View(i)) {
            StreamId::View(i) => StreamId::Log(i),
            other => other,
        },
        StreamId::Versions(i) => match renumber(needed, StreamId::Source(i)) {
            StreamId::Source(i) => StreamId::Versions(i),
            other => other,
        },
        diagnostic @ (StreamId::DeadLetters | StreamId::Late) => diagnostic,
    }
}

/// How a view is made, of streams and views with other numbers.
fn renumbered(how: &ViewKind, number: impl Fn(StreamId) -> StreamId) -> ViewKind {
    let view = |i: usize| match number(StreamId::View(i)) {
        StreamId::View(i) => i,
        _ => i,
    };
    let mut how = how.clone();
    match &mut how {
        ViewKind::Standing(stream) => *stream = number(*stream),
        ViewKind::Filter { of, .. }
        | ViewKind::Derive { of, .. }
        | ViewKind::Group { of, .. }
        | ViewKind::Top { of, .. } => *of = view(*of),
        ViewKind::Join { left, right, .. } | ViewKind::AsOf { left, right, .. } => {
            (*left, *right) = (view(*left), view(*right));
        }
    }
    how
}
