//! From the sections of a file to a [`Plan`]: names are looked up, schemas flow along every edge.
//!
//! What could not be read or planned is *broken*. Nothing that depends on a broken stream is looked at, so that one
//! mistake is one message.

mod book;
mod clock;
mod evaluation;
mod fitting;
mod keep;
mod models;
mod order;
mod reference;
mod routes;
mod serve;
mod source;
mod tests;
mod training;
mod tuning;
mod views;

pub(crate) use book::ALERTS;
use models::MODELS;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use foreline_connectors::SinkInputs;
use foreline_engine::{
    Expression, ExpressionError, Extent, LatePolicy, Resolver, Schema, StreamId, ViewKind,
    type_name,
};
use foreline_sql::SqlExpressions;

use crate::check::{Only, PlanOptions};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::plan::{Plan, SinkPlan, StepPlan};
use crate::read::{Block, PipelineFile, StepBlock, diagnostic, from_config};
use crate::yaml::{Node, Span, Value};

/// What the plan of a kind may ask for.
pub(crate) struct Given<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) options: &'a PlanOptions,
    pub(crate) sql: SqlExpressions,
}

impl Resolver for Given<'_> {
    fn expression(
        &self,
        sql: &str,
        schema: &Schema,
    ) -> Result<Arc<dyn Expression>, ExpressionError> {
        self.sql.compile(sql, schema)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.options.cache_dir.clone()
    }

    fn checking(&self) -> bool {
        self.options.checking
    }
}

/// What follows the name of a view in that of the stream of its changes.
const CHANGES: &str = ".changes";

/// What stands behind the name of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Planned(StreamId),
    /// Its own mistake is reported already.
    Broken,
    /// Not asked for.
    Left,
}

/// Makes a plan of one file.
pub(crate) struct Planner<'a> {
    text: &'a str,
    root: &'a Node,
    file: &'a PipelineFile<'a>,
    given: Given<'a>,
    out: &'a mut Vec<Diagnostic>,
    streams: BTreeMap<&'a str, Stream>,
    used: BTreeSet<&'a str>,
    /// The relation that models read which are operated while they run.
    swaps: Option<StreamId>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        text: &'a str,
        root: &'a Node,
        name: &str,
        file: &'a PipelineFile<'a>,
        given: Given<'a>,
        out: &'a mut Vec<Diagnostic>,
    ) -> Self {
        let length = |interval| match interval {
            Extent::Nanos(n) => Duration::from_nanos(n.unsigned_abs()),
            Extent::Count(_) => Duration::ZERO,
        };
        let name = file.name.clone().unwrap_or_else(|| name.to_owned());
        let default_dir = || format!(".foreline/{name}");
        let data_dir = given.folder.join(file.data_dir.clone().unwrap_or_else(default_dir));
        let plan = Plan {
            name,
            sources: Vec::new(),
            steps: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            alerts: Vec::new(),
            training: Vec::new(),
            fittings: Vec::new(),
            tests: Vec::new(),
            epoch_interval: length(file.epoch.interval),
            epoch_rows: file.epoch.rows,
            workers: file.workers,
            data_dir,
            snapshot_interval: length(file.snapshot.interval),
            snapshots_kept: file.snapshot.keep,
            journal_limit_bytes: file.journal.limit_mib << 20,
            journal_keep: file.journal.keep.map_or(Duration::ZERO, length),
            serve: None,
            ledgers: Vec::new(),
            models: Vec::new(),
            kept: Vec::new(),
        };
        let (streams, used) = (BTreeMap::new(), BTreeSet::new());
        Planner { text, root, file, given, out, streams, used, swaps: None, plan }
    }

    /// The plan; what is wrong is with the diagnostics.
    pub(crate) fn plan(mut self) -> Plan {
        let file = self.file;
        self.streams.extend(file.later.iter().map(|name| (*name, Stream::Broken)));
        self.names();
        self.reserve_book();
        self.reserve_models();
        let wanted = self.wanted();
        for source in &file.sources {
            let planned = match &wanted {
                Some(wanted) if !wanted.contains(source.name) => Stream::Left,
                _ => self.source(source).map_or(Stream::Broken, |plan| {
                    self.plan.sources.push(plan);
                    Stream::Planned(StreamId::Source(self.plan.sources.len() - 1))
                }),
            };
            self.streams.insert(source.name, planned);
        }
        for reference in &file.references {
            let planned = match &wanted {
                Some(wanted) if !wanted.contains(reference.name) => Stream::Left,
                _ => self.reference(reference).map_or(Stream::Broken, Stream::Planned),
            };
            self.streams.insert(reference.name, planned);
        }
        if wanted.is_none() {
            self.swaps = self.plan_swaps();
        }
        for index in self.order() {
            let step = &file.steps[index];
            let planned = match &wanted {
                Some(wanted) if !wanted.contains(step.name) => Stream::Left,
                _ => self.step(step).map_or(Stream::Broken, |plan| {
                    self.plan.steps.push(plan);
                    Stream::Planned(StreamId::Step(self.plan.steps.len() - 1))
                }),
            };
            self.streams.insert(step.name, planned);
        }
        if wanted.is_none() {
            self.relations();
        }
        self.corrections();
        self.training(wanted.is_some());
        if wanted.is_none() {
            self.sinks();
            self.keeps();
            self.evaluation();
            self.tuning();
            self.tests();
            self.serve();
            self.unused();
        }
        self.plan
    }

    /// Reports names that sources, references, steps, views and alerts share.
    fn names(&mut self) {
        let file = self.file;
        let sources = file.sources.iter().map(|s| (s.name, s.name_span, "source"));
        let steps = file.steps.iter().map(|s| (s.name, s.name_span, "step"));
        let views = file.views.iter().map(|v| (v.name, v.name_span, "view"));
        let alerts = file.alerts.iter().map(|a| (a.name, a.name_span, "alert"));
        let references = file.references.iter().map(|r| (r.name, r.name_span, "reference"));
        let sources = sources.chain(references);
        let all: Vec<_> = sources.chain(steps).chain(views).chain(alerts).collect();
        for (i, (name, span, _)) in all.iter().enumerate() {
            if let Some((_, first, what)) = all[..i].iter().find(|other| other.0 == *name) {
                let message = format!("'{name}' is the name of a {what} already");
                let error = Diagnostic::error(Code::NAME_TWICE, *span, message)
                    .label("used again")
                    .related(*first, format!("the {what}"))
                    .help("sources, references, steps, views and alerts share their names: choose another one");
                self.out.push(error);
            }
        }
    }

    /// The names of all streams that are to be planned, if not all are.
    fn wanted(&mut self) -> Option<BTreeSet<&'a str>> {
        let file = self.file;
        let targets = match self.given.options.only.as_ref()? {
            Only::Stream(name) => vec![name.as_str()],
            Only::Training(name) => match file.training.iter().find(|t| t.name == name) {
                Some(training) => file.learns_from(&training.config),
                None => {
                    let known = file.training.iter().map(|t| t.name);
                    let message = format!("the file has no training '{name}'");
                    let error = Diagnostic::error(Code::UNKNOWN_STREAM, Span::default(), message);
                    self.out.push(error.expected(name, known));
                    return Some(BTreeSet::new());
                }
            },
        };
        let mut open = targets.clone();
        let mut wanted = BTreeSet::new();
        while let Some(name) = open.pop() {
            let step = file.steps.iter().find(|s| s.name == name);
            let from = step.and_then(|s| s.common.as_ref()).map(|c| c.from.list());
            let source = file.sources.iter().find(|s| s.name == name).map(|s| s.name);
            let reference = || file.references.iter().find(|r| r.name == name).map(|r| r.name);
            let source = source.or_else(reference);
            if let Some(name) = step.map(|s| s.name).or(source)
                && wanted.insert(name)
            {
                open.extend(from.unwrap_or_default().iter().map(String::as_str));
            }
        }
        if let ([target], true) = (&targets[..], wanted.is_empty()) {
            self.find(target, Span::default());
        }
        Some(wanted)
    }

    /// The stream called `name`; an unknown one is reported at `span`.
    fn find(&mut self, name: &str, span: Span) -> Option<StreamId> {
        let file = self.file;
        let (has_book, has_swaps) = (self.has_book(), self.has_swaps());
        let names = || {
            let sources = file.sources.iter().map(|s| s.name);
            let sources = sources.chain(file.references.iter().map(|r| r.name));
            let steps = sources.chain(file.steps.iter().map(|s| s.name));
            let views = steps.chain(file.views.iter().map(|v| v.name));
            let rules = views.chain(file.alerts.iter().map(|a| a.name));
            rules.chain(has_book.then_some(ALERTS)).chain(has_swaps.then_some(MODELS))
        };
        if let Some(known) = names().find(|n| *n == name) {
            self.used.insert(known);
        }
        match self.streams.get(name) {
            Some(Stream::Planned(id)) => return Some(*id),
            Some(Stream::Broken | Stream::Left) => return None,
            None if names().any(|n| n == name) => return None,
            None => {}
        }
        let error = if diagnostic(name).is_some() {
            let message = format!("'{name}' can only go to a sink");
            Diagnostic::error(Code::UNKNOWN_STREAM, span, message)
                .help("name it in the 'from' of a sink")
        } else {
            let are_views = !(file.views.is_empty() && file.references.is_empty());
            let what = if are_views { "source, step or view" } else { "source or step" };
            let message = format!("there is no {what} '{name}'");
            Diagnostic::error(Code::UNKNOWN_STREAM, span, message)
                .label("unknown stream")
                .expected(name, names())
        };
        self.out.push(error);
        None
    }

    /// The streams of a `from`, each found; nothing when one is not.
    fn inputs(&mut self, names: &[String], node: &Node) -> Option<Vec<(String, StreamId)>> {
        let mut inputs = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let span = from_place(node, i);
            let found = match diagnostic(name) {
                Some(id) if self.is_sink(node) => Some(id),
                _ => self.input(name, node, span),
            };
            if names[..i].contains(name) {
                let message = format!("'{name}' is there twice");
                let error = Diagnostic::error(Code::NAME_TWICE, span, message);
                self.out.push(error.help("leave one of them out"));
            }
            inputs.push(found.map(|id| (name.clone(), id)));
        }
        if names.is_empty() {
            let span = node.entry("from").map_or(node.span, |e| e.key_span);
            let error = Diagnostic::error(Code::BAD_VALUE, span, "'from' names no stream");
            self.out.push(error.help("name a source or a step"));
            return None;
        }
        inputs.into_iter().collect()
    }

    /// One stream of a `from`. Of a view sinks may take the changes, `<view>.changes`, and steps nothing.
    fn input(&mut self, name: &str, node: &Node, span: Span) -> Option<StreamId> {
        let changes = name.strip_suffix(CHANGES).filter(|_| self.is_sink(node));
        let is_table = name == ALERTS && self.has_book() || name == MODELS && self.has_swaps();
        if !self.is_sink(node) && (is_table || self.file.views.iter().any(|v| v.name == name)) {
            let message = format!("'{name}' is a view, and steps read streams");
            let error = Diagnostic::error(Code::UNKNOWN_STREAM, span, message);
            self.out.push(error.help("compute it in a view, or name what the view is made of"));
            return None;
        }
        match (self.find(changes.unwrap_or(name), span)?, changes) {
            // A step looks up all rows, those too that counted at another time.
            (StreamId::View(i), None) if !self.is_sink(node) => match self.plan.views[i].how {
                ViewKind::Standing(StreamId::Source(i)) => Some(StreamId::Versions(i)),
                _ => Some(StreamId::View(i)),
            },
            (StreamId::View(i), Some(_)) => Some(StreamId::Log(i)),
            (_, Some(of)) => {
                let message = format!("'{of}' is no view, so it has no changes");
                let error = Diagnostic::error(Code::UNKNOWN_STREAM, span, message);
                self.out.push(error.help(format!("write '{of}'")));
                None
            }
            (stream, None) => Some(stream),
        }
    }

    fn is_sink(&self, node: &Node) -> bool {
        self.file.sinks.iter().any(|s| std::ptr::eq(s.node, node))
    }

    fn step(
        &mut self,
        step: &'a Block<'a, crate::file::StepCommon, dyn foreline_engine::StepConfig>,
    ) -> Option<StepPlan> {
        let common = step.common.as_ref()?;
        let inputs = self.inputs(common.from.list(), step.node)?;
        let kind = step.kind.as_ref()?;
        self.looks_up(kind.config.looks_up(), &inputs, step)?;
        let mut ids: Vec<StreamId> = inputs.into_iter().map(|(_, id)| id).collect();
        let schemas: Vec<Schema> = ids.iter().map(|id| self.plan.schema(*id)).collect();
        let planned = match self.model_step(step.name, kind.config.as_ref(), &schemas) {
            Some(planned) => planned.map(|(planned, is_operated)| {
                ids.extend(self.swaps.filter(|_| is_operated));
                planned
            }),
            None => kind.config.plan(&schemas, &self.given),
        };
        match planned {
            Ok(planned) => {
                self.notes(kind.entry.key_span, &planned.notes);
                let name = step.name.to_owned();
                let config = step.node.written_without(self.text, "keep");
                Some(StepPlan {
                    name,
                    kind: kind.name,
                    inputs: ids,
                    config,
                    planned,
                    rekeyed: false,
                })
            }
            Err(errors) => {
                for e in &errors {
                    let span = self.precise(kind.entry.value.place(&e.at, kind.entry.key_span), e);
                    self.out.push(from_config(Code::CONFIGURATION, span, e));
                }
                None
            }
        }
    }

    /// A step that looks rows up reads a stream and then references; any other reads streams alone.
    fn looks_up(
        &mut self,
        looks_up: bool,
        inputs: &[(String, StreamId)],
        step: &StepBlock<'a>,
    ) -> Option<()> {
        let is_reference = |id: StreamId| matches!(id, StreamId::Versions(_));
        let wrong =
            |(i, (_, id)): &(usize, &(String, StreamId))| is_reference(*id) != (looks_up && *i > 0);
        let Some((i, (name, id))) = inputs.iter().enumerate().find(wrong) else { return Some(()) };
        let kind = step.kind.as_ref().map_or("", |kind| kind.name);
        let (message, help) = match (is_reference(*id), i) {
            (true, 0) if looks_up => (
                format!("'{name}' is a reference, and '{kind}' begins with a stream"),
                format!("name the stream first: from: [readings, {name}]"),
            ),
            (true, _) => (
                format!("'{name}' is a reference, and '{kind}' reads streams"),
                format!("join it to a stream: from: [<stream>, {name}], join: {{ on: [...] }}"),
            ),
            (false, _) => (
                format!("'{name}' is no reference, and '{kind}' looks rows up in one"),
                "declare it in the section 'reference', or use 'asof_join' for a stream".to_owned(),
            ),
        };
        let error = Diagnostic::error(Code::SCHEMA, from_place(step.node, i), message);
        self.out.push(error.help(help));
        None
    }

    /// The name that was not found, where it stands inside `span`.
    fn precise(&self, span: Span, error: &foreline_engine::ConfigError) -> Span {
        let found = error.unknown.as_ref().and_then(|(name, _)| {
            let at = self.text.get(span.start..span.end)?.find(name.as_str())?;
            Some(Span { start: span.start + at, end: span.start + at + name.len() })
        });
        found.unwrap_or(span)
    }

    fn notes(&mut self, span: Span, notes: &[String]) {
        for note in notes {
            self.out.push(Diagnostic::warning(Code::NOTE, span, note.clone()));
        }
    }

    /// Refuses `late: correct` upstream of a step that cannot correct what it said.
    fn corrections(&mut self) {
        for (i, source) in self.plan.sources.iter().enumerate() {
            if source.order().is_none_or(|order| order.late == LatePolicy::DeadLetter) {
                continue;
            }
            let mut reached = BTreeSet::from([StreamId::Source(i)]);
            for (s, step) in self.plan.steps.iter().enumerate() {
                if !step.inputs.iter().any(|input| reached.contains(input)) {
                    continue;
                }
                let Some(reason) = step.planned.late.refusal(step.inputs.len()) else {
                    reached.insert(StreamId::Step(s));
                    continue;
                };
                let block = self.file.sources.iter().find(|b| b.name == source.name);
                let refusing = self.file.steps.iter().find(|b| b.name == step.name);
                let (Some(block), Some(refusing)) = (block, refusing) else { continue };
                let (name, kind) = (&step.name, step.kind);
                let message = format!("late rows cannot correct '{name}' ({kind}): {reason}");
                let error = Diagnostic::error(
                    Code::LATE,
                    block.node.place("late", block.name_span),
                    message,
                )
                .related(refusing.name_span, "the step that cannot correct its results")
                .help("write 'late: dead_letter', or a 'lateness' long enough to wait for them");
                self.out.push(error);
            }
        }
    }

    fn sinks(&mut self) {
        let file = self.file;
        for sink in &file.sinks {
            let (Some(common), Some(kind)) = (&sink.common, &sink.kind) else {
                // What it names is used all the same, if this much could be read.
                self.mention(sink.node);
                continue;
            };
            let Some(inputs) = self.inputs(common.from.list(), sink.node) else { continue };
            for (stream, from) in inputs {
                let inputs = SinkInputs {
                    pipeline: &self.plan.name,
                    sink: sink.name,
                    stream: &stream,
                    schema: &self.plan.schema(from),
                };
                match kind.config.plan(&inputs, &self.given) {
                    Ok(planned) => {
                        self.notes(kind.entry.key_span, &planned.notes);
                        let name = sink.name.to_owned();
                        self.plan.sinks.push(SinkPlan {
                            name,
                            kind: kind.name,
                            from,
                            config: sink.node.written(self.text),
                            sink: planned,
                        });
                    }
                    Err(errors) => {
                        for e in &errors {
                            let place = kind.entry.value.place(&e.at, kind.entry.key_span);
                            let span = self.precise(place, e);
                            self.out.push(from_config(Code::CONFIGURATION, span, e));
                        }
                    }
                }
            }
        }
    }

    fn mention(&mut self, node: &Node) {
        let from = node.get("from");
        let texts = from.into_iter().flat_map(|n| match n.items() {
            [] => std::slice::from_ref(n),
            items => items,
        });
        for node in texts {
            if let Value::Text(name) = &node.value
                && diagnostic(name).is_none()
            {
                self.find(name, node.span);
            }
        }
    }

    /// A SQL condition under `key`.
    fn condition(
        &mut self,
        node: &Node,
        key: &str,
        sql: &str,
        schema: &Schema,
    ) -> Option<Arc<dyn Expression>> {
        let span = node.place(key, node.span);
        match self.given.sql.compile(sql, schema) {
            Ok(expression) if expression.data_type() == DataType::Boolean => Some(expression),
            Ok(expression) => {
                let found = type_name(&expression.data_type());
                let message = format!("'{key}' must be true or false, but '{sql}' is {found}");
                let error = Diagnostic::error(Code::EXPRESSION, span, message);
                self.out.push(error.help("compare it with something, such as '... > 48'"));
                None
            }
            Err(e) => {
                self.out.push(self.expression_error(span, sql, &e));
                None
            }
        }
    }

    fn expression_error(&self, span: Span, sql: &str, error: &ExpressionError) -> Diagnostic {
        // Folded and escaped text does not stand in the file as it is: then all of it is marked.
        let base = self.text.get(span.start..span.end).and_then(|raw| raw.find(sql));
        let span = match (base, &error.at) {
            (Some(base), Some(at)) if !at.is_empty() => {
                let base = span.start + base;
                Span { start: base + at.start, end: base + at.end }
            }
            _ => span,
        };
        let code = match &error.unknown {
            Some(_) if error.message.contains("column") => Code::UNKNOWN_COLUMN,
            _ => Code::EXPRESSION,
        };
        let diagnostic = Diagnostic::error(code, span, error.message.clone());
        match &error.unknown {
            Some((name, known)) => diagnostic.expected(name, known.iter().map(String::as_str)),
            None => diagnostic,
        }
    }

    /// A length of event time under `key`, 0 or more, in the unit of the stream's time.
    fn length(&mut self, node: &Node, key: &str, extent: Extent, schema: &Schema) -> Option<i64> {
        let span = node.place(key, node.span);
        match extent.in_domain(schema.domain()) {
            Ok(n) if n >= 0 => Some(n),
            Ok(_) => {
                let message = format!("'{extent}' is below zero");
                let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                self.out.push(error.help("give a length of 0 or more"));
                None
            }
            Err(e) => {
                self.out.push(from_config(Code::TIME_DOMAIN, span, &e));
                None
            }
        }
    }

    /// Warns of streams that nothing reads, and of a pipeline that writes nothing.
    fn unused(&mut self) {
        let file = self.file;
        if self.out.iter().any(|d| d.severity == Severity::Error) {
            // What could not be read may be what uses a stream.
            return;
        }
        let can_write =
            !file.sinks.is_empty() || !file.training.is_empty() || !file.tests.is_empty();
        if !can_write && let Some(first) = file.sources.first() {
            let message = "the pipeline writes nothing: it has no sink";
            let warning = Diagnostic::warning(Code::UNUSED, first.name_span, message);
            self.out.push(
                warning.help("add one: sinks: { lake: { from: ..., parquet: { path: lake } } }"),
            );
            return;
        }
        let sources = file.sources.iter().map(|s| (s.name, s.name_span));
        // A view is read from outside.
        for (name, span) in sources.chain(file.steps.iter().map(|s| (s.name, s.name_span))) {
            if !self.used.contains(name) {
                let message = format!("nothing reads '{name}'");
                let warning = Diagnostic::warning(Code::UNUSED, span, message);
                self.out
                    .push(warning.help("remove it, or name it in the 'from' of a step or a sink"));
            }
        }
    }
}

/// Where member `index` of a `from` stands.
fn from_place(node: &Node, index: usize) -> Span {
    match node.get("from") {
        Some(from) => from.items().get(index).map_or(from.span, |n| n.span),
        None => node.span,
    }
}
