//! The sections `views` and `alerts`: names and columns looked up, relations made of relations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Aggregate, Cell, Column, Function, GONE, LATEST_ROWS_MAX, Relation, SchemaError, StreamId,
    VIEW_ROWS_MAX, ViewKind, latest, type_name,
};

use foreline_operators::alert::{AlertConfig, Level, SeverityConfig, plan_rule};

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{
    AlertEntry, AsOfConfig, AsOfTime, First, GroupConfig, JoinConfig, JoinOn, LatestConfig,
    TopConfig, Unmatched, ViewConfig,
};
use crate::plan::{AlertPlan, StepPlan, ViewPlan};
use crate::planner::{ALERTS, CHANGES, Planner, Stream, from_place};
use crate::read::{Named, PipelineFile, from_config};
use crate::yaml::{Node, Span};

/// The keys that say how a view is made.
const KINDS: [&str; 7] = ["latest", "where", "derive", "join", "asof", "group", "top"];

/// Where mistakes of a view are reported.
#[derive(Clone, Copy)]
struct Place<'n, 'c> {
    view: &'n Named<'c, ViewConfig>,
    key: &'static str,
}

impl Place<'_, '_> {
    fn at(&self, path: &str) -> Span {
        let path =
            if path.is_empty() { self.key.to_owned() } else { format!("{}.{path}", self.key) };
        self.view.node.place(&path, self.view.name_span)
    }
}

impl<'a> Planner<'a> {
    /// Plans views and alerts, each after those it reads: a view may be made of an alert's changes, and an alert may watch
    /// a view.
    pub(super) fn relations(&mut self) {
        let file = self.file;
        let mut open: Vec<Entry<'a>> = file.views.iter().map(Entry::View).collect();
        open.extend(file.alerts.iter().map(Entry::Alert));
        open.extend(self.has_book().then_some(Entry::Book(file)));
        while !open.is_empty() {
            let names: BTreeSet<&str> = open.iter().map(Entry::name).collect();
            let waits = |e: &Entry<'a>| e.reads().iter().any(|name| names.contains(name));
            let (waiting, ready): (Vec<_>, Vec<_>) = open.iter().copied().partition(waits);
            if ready.is_empty() {
                self.circle(&waiting);
                return;
            }
            for entry in ready {
                let planned = match entry {
                    Entry::View(view) => self.view(view).map(|plan| {
                        self.plan.views.push(plan);
                        StreamId::View(self.plan.views.len() - 1)
                    }),
                    Entry::Alert(alert) => self.alert(alert),
                    Entry::Book(_) => self.book(),
                };
                self.streams.insert(entry.name(), planned.map_or(Stream::Broken, Stream::Planned));
            }
            open = waiting;
        }
    }

    fn circle(&mut self, open: &[Entry<'a>]) {
        let names: Vec<&str> = open.iter().map(Entry::name).collect();
        let message = match names.as_slice() {
            [one] => format!("'{one}' is made of itself"),
            _ => format!("these views and alerts are made of one another: {}", names.join(", ")),
        };
        let error = Diagnostic::error(Code::CYCLE, from_place(open[0].node(), 0), message);
        self.out.push(error.help("let one of them be made of a stream"));
        self.streams.extend(names.into_iter().map(|name| (name, Stream::Broken)));
    }

    /// Plans an alert; the stream of its changes.
    fn alert(&mut self, alert: &'a Named<'a, AlertEntry>) -> Option<StreamId> {
        let AlertEntry { from, rule } = &alert.config;
        let from = self.find(from, alert.node.place("from", alert.name_span))?;
        let (input, rule) = match from {
            StreamId::View(i) => (StreamId::Log(i), of_view(rule, &self.plan.views[i].relation)),
            stream => (stream, rule.clone()),
        };
        // First as they are written, so that a mistake is shown where it stands.
        let mistakes = self.out.len();
        for (key, sql) in conditions(&alert.config.rule) {
            self.condition(alert.node, &key, sql, &self.plan.schema(input));
        }
        if self.out.len() > mistakes {
            return None;
        }
        let planned = match plan_rule(alert.name, &rule, &self.plan.schema(input), &self.given) {
            Ok(planned) => planned,
            Err(errors) => {
                for e in &errors {
                    let span = self.precise(alert.node.place(&e.at, alert.name_span), e);
                    self.out.push(from_config(Code::CONFIGURATION, span, e));
                }
                return None;
            }
        };
        self.notes(alert.name_span, &planned.notes);
        let config = alert.node.written(self.text);
        let name = alert.name.to_owned();
        let step =
            StepPlan { name, kind: "alert", inputs: vec![input], config, planned, rekeyed: false };
        self.plan.steps.push(step);
        let stream = StreamId::Step(self.plan.steps.len() - 1);
        let condition = condition_in_words(&alert.config.rule);
        self.plan.alerts.push(AlertPlan { name: alert.name.to_owned(), from, stream, condition });
        Some(stream)
    }

    fn view(&mut self, view: &'a Named<'a, ViewConfig>) -> Option<ViewPlan> {
        let config = &view.config;
        let kinds: Vec<&'static str> =
            KINDS.into_iter().filter(|kind| view.node.entry(kind).is_some()).collect();
        let [kind] = kinds[..] else {
            let message = match kinds.as_slice() {
                [] => format!("the view '{}' does not say how it is made", view.name),
                many => format!("'{}' is made in several ways: {}", view.name, many.join(", ")),
            };
            let error = Diagnostic::error(Code::NO_KIND, view.name_span, message);
            self.out.push(error.help(format!("give it one of {}", KINDS.join(", "))));
            return None;
        };
        let place = Place { view, key: kind };
        let (relation, how) = if let Some(latest) = &config.latest {
            self.latest(place, latest)?
        } else {
            let (of, relation) =
                self.below(view, &config.from, view.node.place("from", view.name_span))?;
            match config {
                ViewConfig { filter: Some(sql), .. } => {
                    let condition = self.condition(view.node, "where", sql, &relation.log())?;
                    (relation, ViewKind::Filter { of, condition })
                }
                ViewConfig { derive: Some(derive), .. } => {
                    self.derive(place, of, &relation, derive)?
                }
                ViewConfig { join: Some(join), .. } => self.join(place, of, &relation, join)?,
                ViewConfig { asof: Some(asof), .. } => self.asof(place, of, &relation, asof)?,
                ViewConfig { group: Some(group), .. } => self.group(place, of, &relation, group)?,
                ViewConfig { top: Some(top), .. } => self.top(place, of, relation, top)?,
                _ => return None,
            }
        };
        Some(ViewPlan {
            name: view.name.to_owned(),
            changes: format!("{}{CHANGES}", view.name),
            kind,
            relation,
            how,
            max_rows: config.max_rows.unwrap_or(VIEW_ROWS_MAX),
            config: view.node.written(self.text),
        })
    }

    /// The view called `name`.
    fn below(
        &mut self,
        view: &Named<'_, ViewConfig>,
        name: &str,
        span: Span,
    ) -> Option<(usize, Relation)> {
        match self.find(name, span)? {
            StreamId::View(i) => Some((i, self.plan.views[i].relation.clone())),
            _ => {
                let message = format!(
                    "'{name}' is a stream: its rows only come, and '{}' is made of what changes",
                    view.name
                );
                let error = Diagnostic::error(Code::SCHEMA, span, message);
                self.out.push(error.help(format!(
                    "make a view of it first: latest_{name}: {{ from: {name}, latest: {{}} }}"
                )));
                None
            }
        }
    }

    fn latest(
        &mut self,
        place: Place<'_, '_>,
        config: &LatestConfig,
    ) -> Option<(Relation, ViewKind)> {
        let view = place.view;
        let span = view.node.place("from", view.name_span);
        let from = self.find(&view.config.from, span)?;
        if matches!(from, StreamId::View(_)) {
            let message =
                format!("'{}' is a view already: it has one row of each key", view.config.from);
            let error = Diagnostic::error(Code::SCHEMA, span, message);
            self.out.push(error.help("name a source or a step"));
            return None;
        }
        let schema = self.plan.schema(from);
        let key: BTreeSet<&str> =
            schema.key().iter().map(|&k| schema.columns()[k].name.as_str()).collect();
        let by = config.by.as_ref().map(|by| by.iter().map(String::as_str).collect());
        if by.is_some_and(|by: BTreeSet<&str>| by != key) {
            let names = key.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("'by' must be the key of '{}': {names}", view.config.from);
            let error = Diagnostic::error(Code::SCHEMA, place.at("by"), message);
            self.out.push(error.help("leave it out, and make a 'top' of the view for less"));
            return None;
        }
        let within = match config.within {
            Some(extent) => Some(self.length(view.node, "latest.within", extent, &schema)?),
            None => None,
        };
        let rows = config.rows.unwrap_or(if within.is_some() { LATEST_ROWS_MAX } else { 1 });
        let relation = self.made(place, Relation::of_latest(&schema, rows))?;
        let planned = latest(&schema, rows, within);
        let config = view.node.written(self.text);
        let name = view.name.to_owned();
        self.plan.steps.push(StepPlan {
            name,
            kind: "latest",
            inputs: vec![from],
            config,
            planned,
            rekeyed: false,
        });
        let step = StreamId::Step(self.plan.steps.len() - 1);
        Some((relation, ViewKind::Standing(step)))
    }

    fn derive(
        &mut self,
        place: Place<'_, '_>,
        of: usize,
        relation: &Relation,
        derive: &BTreeMap<String, String>,
    ) -> Option<(Relation, ViewKind)> {
        let schema = relation.log();
        let mut columns = relation.columns().to_vec();
        let mut cells: Vec<Cell> = (0..columns.len()).map(Cell::Column).collect();
        let mut whole = true;
        for (name, sql) in derive {
            let span = place.at(name);
            let compiled = self.given.sql.compile(sql, &schema);
            let Ok(expression) =
                compiled.map_err(|e| self.out.push(self.expression_error(span, sql, &e)))
            else {
                whole = false;
                continue;
            };
            let column = Column::new(name, expression.data_type()).with_unit(expression.unit());
            let cell = Cell::Computed(Arc::clone(&expression));
            match relation.index_of(name) {
                Some(i) if relation.key().contains(&i) => {
                    let message = format!("'{name}' is part of the key and stays as it is");
                    let error = Diagnostic::error(Code::SCHEMA, span, message);
                    self.out.push(error.help("choose another name"));
                    whole = false;
                }
                Some(i) => (columns[i], cells[i]) = (column, cell),
                None => {
                    columns.push(column);
                    cells.push(cell);
                }
            }
        }
        let relation = self.made(place, Relation::new(columns, relation.key().to_vec()))?;
        whole.then_some((relation, ViewKind::Derive { of, cells }))
    }

    fn join(
        &mut self,
        place: Place<'_, '_>,
        left: usize,
        relation: &Relation,
        config: &JoinConfig,
    ) -> Option<(Relation, ViewKind)> {
        let (right, other) = self.below(place.view, &config.with, place.at("with"))?;
        let on = pairs(&config.on).into_iter();
        let on = on.map(|names| self.pair(place, "on", relation, (&other, &config.with), names));
        let on = on.collect::<Option<Vec<_>>>()?;
        let found_by: BTreeSet<usize> = on.iter().map(|o| o.1).collect();
        let key: BTreeSet<usize> = other.key().iter().copied().collect();
        if found_by != key {
            let name = |i: &usize| other.columns()[*i].name.clone();
            let names = other.key().iter().map(name).collect::<Vec<_>>().join(", ");
            let message = format!("'on' must be the key of '{}': {names}", config.with);
            let error = Diagnostic::error(Code::SCHEMA, place.at("on"), message);
            self.out
                .push(error.help("by less a row would find several others; group that view first"));
            return None;
        }
        let take = self.taken(place, &other, config.columns.as_ref(), &found_by)?;
        let unmatched = config.unmatched == Unmatched::Keep;
        let relation = self.beside(place, relation, &other, &take)?;
        Some((relation, ViewKind::Join { left, right, on, take, unmatched }))
    }

    fn asof(
        &mut self,
        place: Place<'_, '_>,
        left: usize,
        relation: &Relation,
        config: &AsOfConfig,
    ) -> Option<(Relation, ViewKind)> {
        let (right, other) = self.below(place.view, &config.with, place.at("with"))?;
        let theirs = (&other, config.with.as_str());
        let on = pairs(&config.on).into_iter();
        let on = on.map(|names| self.pair(place, "on", relation, theirs, names));
        let on = on.collect::<Option<Vec<_>>>()?;
        let times: Vec<(&str, &str)> = match &config.time {
            AsOfTime::Same(name) => vec![(name, name)],
            AsOfTime::Named(names) => names.iter().map(|(l, r)| (l.as_str(), r.as_str())).collect(),
        };
        let [names] = times[..] else {
            let message = "'time' is one column, or one of this view and one of the other";
            let error = Diagnostic::error(Code::BAD_VALUE, place.at("time"), message);
            self.out.push(error.help("such as { measured_at: valid_from }"));
            return None;
        };
        let time = self.pair(place, "time", relation, theirs, names)?;
        let Column { name, data_type, .. } = &relation.columns()[time.0];
        if !matches!(data_type, DataType::Timestamp(..) | DataType::Int64) {
            let message =
                format!("'{name}' is {}, neither a time nor a whole number", type_name(data_type));
            self.out.push(Diagnostic::error(Code::SCHEMA, place.at("time"), message));
            return None;
        }
        let found_by = on.iter().map(|o| o.1).collect();
        let take = self.taken(place, &other, config.columns.as_ref(), &found_by)?;
        let unmatched = config.unmatched == Unmatched::Keep;
        let relation = self.beside(place, relation, &other, &take)?;
        Some((relation, ViewKind::AsOf { left, right, on, time, take, unmatched }))
    }

    /// A column of this view and one of another that are compared.
    fn pair(
        &mut self,
        place: Place<'_, '_>,
        option: &str,
        relation: &Relation,
        (other, with): (&Relation, &str),
        (here, there): (&str, &str),
    ) -> Option<(usize, usize)> {
        let l = self.column(relation, here, place.at(option));
        let r = self.column(other, there, place.at(option));
        let (l, r) = (l?, r?);
        let types = [&relation.columns()[l].data_type, &other.columns()[r].data_type];
        if types[0] != types[1] {
            let [a, b] = types.map(type_name);
            let message = format!("'{here}' is {a} and '{there}' of '{with}' is {b}");
            self.out.push(Diagnostic::error(Code::SCHEMA, place.at(option), message));
            return None;
        }
        Some((l, r))
    }

    /// The columns of another view that come out.
    fn taken(
        &mut self,
        place: Place<'_, '_>,
        other: &Relation,
        asked: Option<&Vec<String>>,
        found_by: &BTreeSet<usize>,
    ) -> Option<Vec<usize>> {
        let Some(names) = asked else {
            return Some((0..other.columns().len()).filter(|c| !found_by.contains(c)).collect());
        };
        let column = |(i, name): (usize, &String)| {
            self.column(other, name, place.at(&format!("columns[{i}]")))
        };
        names.iter().enumerate().map(column).collect()
    }

    /// The columns of a view, then some of another.
    fn beside(
        &mut self,
        place: Place<'_, '_>,
        relation: &Relation,
        other: &Relation,
        take: &[usize],
    ) -> Option<Relation> {
        let mut columns = relation.columns().to_vec();
        columns.extend(take.iter().map(|&c| other.columns()[c].clone()));
        self.made(place, Relation::new(columns, relation.key().to_vec()))
    }

    fn group(
        &mut self,
        place: Place<'_, '_>,
        of: usize,
        relation: &Relation,
        config: &GroupConfig,
    ) -> Option<(Relation, ViewKind)> {
        let mut by = Vec::with_capacity(config.by.len());
        for (i, name) in config.by.iter().enumerate() {
            by.push(self.column(relation, name, place.at(&format!("by[{i}]")))?);
        }
        let mut asked: Vec<(Function, Option<&str>, &str, String)> = Vec::new();
        asked.extend(
            config.rows.iter().map(|n| (Function::Count, None, n.as_str(), "rows".to_owned())),
        );
        let functions = [
            (Function::Count, "count", &config.count),
            (Function::Sum, "sum", &config.sum),
            (Function::Mean, "mean", &config.mean),
            (Function::Min, "min", &config.min),
            (Function::Max, "max", &config.max),
            (Function::Distinct, "distinct", &config.distinct),
        ];
        for (function, key, columns) in functions {
            for (column, name) in columns {
                asked.push((function, Some(column), name, format!("{key}.{column}")));
            }
        }
        for (column, names) in &config.quantile {
            for (name, &q) in names {
                let path = format!("quantile.{column}.{name}");
                if !(0.0..=1.0).contains(&q) {
                    let message = format!("'{q}' is no share");
                    let error = Diagnostic::error(Code::BAD_VALUE, place.at(&path), message);
                    self.out.push(error.help("give a number from 0 to 1"));
                    return None;
                }
                asked.push((Function::Quantile(q), Some(column), name, path));
            }
        }
        let mut columns: Vec<Column> = by.iter().map(|&c| relation.columns()[c].clone()).collect();
        let mut aggregates = Vec::with_capacity(asked.len());
        for (function, column, name, path) in asked {
            let index = match column {
                Some(column) => Some(self.column(relation, column, place.at(&path))?),
                None => None,
            };
            let input = index.map(|i| &relation.columns()[i]);
            let Some(data_type) = function.data_type(input.map(|c| &c.data_type)) else {
                let found = input.map_or(String::new(), |c| type_name(&c.data_type));
                let message = format!("'{}' is {found}, not a number", column.unwrap_or_default());
                self.out.push(Diagnostic::error(Code::SCHEMA, place.at(&path), message));
                return None;
            };
            let unit = match function {
                Function::Count | Function::Distinct => None,
                _ => input.and_then(|c| c.unit.clone()),
            };
            columns.push(Column::new(name, data_type).with_unit(unit));
            aggregates.push(Aggregate { function, column: index });
        }
        let key = (0..by.len()).collect();
        let relation = self.made(place, Relation::new(columns, key))?;
        Some((relation, ViewKind::Group { of, by, aggregates }))
    }

    fn top(
        &mut self,
        place: Place<'_, '_>,
        of: usize,
        relation: Relation,
        config: &TopConfig,
    ) -> Option<(Relation, ViewKind)> {
        let greatest = config.first == First::Greatest;
        let mut order = Vec::new();
        for name in config.by.list() {
            order.push((self.column(&relation, name, place.at("by"))?, greatest));
        }
        let mut within = Vec::new();
        for (i, name) in config.within.iter().enumerate() {
            within.push(self.column(&relation, name, place.at(&format!("within[{i}]")))?);
        }
        if order.is_empty() {
            let message = "'by' names no column";
            self.out.push(Diagnostic::error(Code::BAD_VALUE, place.at("by"), message));
            return None;
        }
        Some((relation, ViewKind::Top { of, within, order, n: config.rows }))
    }

    /// The place of a column of a view.
    fn column(&mut self, relation: &Relation, name: &str, span: Span) -> Option<usize> {
        let index = relation.index_of(name);
        if index.is_none() {
            let message = format!("there is no column '{name}'");
            let names = relation.columns().iter().map(|c| c.name.as_str());
            let error = Diagnostic::error(Code::UNKNOWN_COLUMN, span, message);
            self.out.push(error.label("unknown column").expected(name, names));
        }
        index
    }

    fn made(
        &mut self,
        place: Place<'_, '_>,
        made: Result<Relation, SchemaError>,
    ) -> Option<Relation> {
        made.map_err(|e| {
            let error = Diagnostic::error(Code::SCHEMA, place.at(""), e.to_string());
            let help = "a view adds 'changed_at' and 'gone' itself, and no name may be there twice";
            self.out.push(match e {
                SchemaError::Duplicate(_) => error.help(help),
                _ => error,
            });
        })
        .ok()
    }
}

/// The columns by which rows find one another: the name here, and there.
fn pairs(on: &JoinOn) -> Vec<(&str, &str)> {
    match on {
        JoinOn::Same(names) => names.iter().map(|n| (n.as_str(), n.as_str())).collect(),
        JoinOn::Named(names) => names.iter().map(|(l, r)| (l.as_str(), r.as_str())).collect(),
    }
}

/// A view or an alert.
#[derive(Clone, Copy)]
enum Entry<'a> {
    View(&'a Named<'a, ViewConfig>),
    Alert(&'a Named<'a, AlertEntry>),
    /// What people do with the alerts of this file.
    Book(&'a PipelineFile<'a>),
}

impl<'a> Entry<'a> {
    fn name(&self) -> &'a str {
        match self {
            Entry::View(view) => view.name,
            Entry::Alert(alert) => alert.name,
            Entry::Book(_) => ALERTS,
        }
    }

    fn node(&self) -> &'a Node {
        match self {
            Entry::View(view) => view.node,
            Entry::Alert(alert) => alert.node,
            Entry::Book(file) => file.alerts[0].node,
        }
    }

    /// What it is made of.
    fn reads(&self) -> Vec<&'a str> {
        match self {
            Entry::View(view) => {
                let ViewConfig { join, asof, from, .. } = &view.config;
                let joined = join.as_ref().map(|join| join.with.as_str());
                let asof = asof.as_ref().map(|asof| asof.with.as_str());
                joined.into_iter().chain(asof).chain([from.as_str()]).collect()
            }
            Entry::Alert(alert) => vec![&alert.config.from],
            Entry::Book(file) => file.alerts.iter().map(|alert| alert.name).collect(),
        }
    }
}

/// The rule for the changes of a view: of a row that has left it no condition holds, and what was raised is cleared.
fn of_view(rule: &AlertConfig, view: &Relation) -> AlertConfig {
    let named: String = conditions(rule).into_iter().map(|(_, sql)| format!("{sql} ")).collect();
    let words: BTreeSet<&str> = named.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let evidence =
        view.columns().iter().map(|c| &c.name).filter(|name| words.contains(name.as_str()));
    let evidence: Vec<String> = evidence.cloned().collect();
    let there = |sql: &String| format!("NOT {GONE} AND ({sql})");
    let mut rule = rule.clone();
    rule.message = rule.message.or_else(|| rule.when.clone());
    rule.evidence = rule.evidence.or(Some(evidence).filter(|names| !names.is_empty()));
    rule.when = rule.when.as_ref().map(there);
    rule.clear = rule.clear.map(|sql| format!("{GONE} OR ({sql})"));
    if let SeverityConfig::ByCondition(levels) = &mut rule.severity {
        levels.values_mut().for_each(|sql| *sql = there(sql));
    }
    rule
}

/// The conditions of a rule, each with its key.
fn conditions(rule: &AlertConfig) -> Vec<(String, &str)> {
    let named = [("when", &rule.when), ("clear", &rule.clear), ("unless", &rule.unless)];
    let named = named.into_iter().filter_map(|(key, sql)| Some((key.to_owned(), sql.as_deref()?)));
    let mut all: Vec<_> = named.collect();
    if let SeverityConfig::ByCondition(levels) = &rule.severity {
        let key = |level: &Level| format!("severity.{}", format!("{level:?}").to_lowercase());
        all.extend(levels.iter().map(|(level, sql)| (key(level), sql.as_str())));
    }
    all
}

/// What raises an alert, in a line.
fn condition_in_words(rule: &AlertConfig) -> String {
    match (&rule.when, &rule.severity, rule.deadman) {
        (Some(when), ..) => when.clone(),
        (None, SeverityConfig::ByCondition(levels), _) => {
            levels.values().map(|sql| format!("({sql})")).collect::<Vec<_>>().join(" OR ")
        }
        (None, _, Some(silence)) => format!("no row for {silence}"),
        (None, _, None) => String::new(),
    }
}
