//! The book of alerts: what people do with the alerts of all rules. It is there where there are alerts and something to reach it
//! by: the section `serve`, or `alert_book`.

use foreline_connectors::commands;
use foreline_engine::{Front, LatePolicy, OrderRules, Relation, StreamId, VIEW_ROWS_MAX, ViewKind};
use foreline_operators::alert_book::{Rule, book, commands_schema, entry};

use crate::diagnostic::{Code, Diagnostic};
use crate::plan::{AlertPlan, SourcePlan, StepPlan, ViewPlan};
use crate::planner::{CHANGES, Planner};
use crate::read::from_config;
use crate::yaml::Span;

/// The name of the book, and of the relation that it is.
pub(crate) const ALERTS: &str = "alerts";
/// How often an epoch tells the book of the time when nothing else does.
const TICK_NS: i64 = 1_000_000_000;
/// Commands are obeyed in the order in which they come, whatever their stamps.
const ANY_TIME_NS: i64 = i64::MAX / 4;

impl<'a> Planner<'a> {
    /// Whether there is to be a book. There is none where something else has its name, which is reported.
    pub(super) fn has_book(&self) -> bool {
        self.wants_book() && !self.own_names().iter().any(|(name, _)| *name == ALERTS)
    }

    fn wants_book(&self) -> bool {
        let file = self.file;
        !file.alerts.is_empty() && (file.serve.is_some() || file.alert_book.is_some())
    }

    /// The names of the file.
    pub(super) fn own_names(&self) -> Vec<(&'a str, Span)> {
        let file = self.file;
        let sources = file.sources.iter().map(|s| (s.name, s.name_span));
        let references = file.references.iter().map(|r| (r.name, r.name_span));
        let steps = file.steps.iter().map(|s| (s.name, s.name_span));
        let views = file.views.iter().map(|v| (v.name, v.name_span));
        let rules = file.alerts.iter().map(|a| (a.name, a.name_span));
        sources.chain(references).chain(steps).chain(views).chain(rules).collect()
    }

    /// Plans the book of the alerts that are planned; the view of it.
    pub(super) fn book(&mut self) -> Option<StreamId> {
        let alerts: Vec<(String, StreamId)> =
            self.plan.alerts.iter().map(|a| (a.name.clone(), a.stream)).collect();
        if alerts.len() < self.file.alerts.len() {
            // A rule with a mistake is reported already.
            return None;
        }
        let mut inputs = Vec::with_capacity(alerts.len() + 1);
        for (name, stream) in &alerts {
            let planned = entry(&self.plan.schema(*stream)).map_err(|e| self.refused(&e)).ok()?;
            self.plan.steps.push(StepPlan {
                name: format!("{ALERTS}.{name}"),
                kind: "alert_entry",
                inputs: vec![*stream],
                config: String::new(),
                planned,
                rekeyed: true,
            });
            inputs.push(StreamId::Step(self.plan.steps.len() - 1));
        }
        let options = self.file.alert_book.clone().unwrap_or_default();
        let rule = |alert: &AlertPlan| Rule {
            name: alert.name.clone(),
            watches_view: matches!(alert.from, StreamId::View(_)),
        };
        let rules: Vec<Rule> = self.plan.alerts.iter().map(rule).collect();
        let planned = book(&rules, &options).map_err(|e| self.refused(&e)).ok()?;
        let schema = commands_schema();
        let (columns, source) = commands(&schema);
        self.plan.sources.push(SourcePlan {
            name: format!("{ALERTS}.commands"),
            kind: SourcePlan::COMMANDS,
            schema,
            columns,
            config: String::new(),
            front: Front::Stream(OrderRules {
                late: LatePolicy::Correct(ANY_TIME_NS),
                idle_timeout_ns: Some(TICK_NS),
                ..OrderRules::default()
            }),
            source,
        });
        inputs.push(StreamId::Source(self.plan.sources.len() - 1));
        let relation = Relation::of_latest(&planned.output, 1).ok()?;
        let config = format!("{options:?} {rules:?}");
        let kind = "alert_book";
        self.plan.steps.push(StepPlan {
            name: ALERTS.to_owned(),
            kind,
            inputs,
            config: config.clone(),
            planned,
            rekeyed: false,
        });
        let how = ViewKind::Standing(StreamId::Step(self.plan.steps.len() - 1));
        let (name, changes) = (ALERTS.to_owned(), format!("{ALERTS}{CHANGES}"));
        let max_rows = VIEW_ROWS_MAX;
        self.plan.views.push(ViewPlan { name, changes, kind, relation, how, max_rows, config });
        Some(StreamId::View(self.plan.views.len() - 1))
    }

    fn refused(&mut self, errors: &[foreline_engine::ConfigError]) {
        for e in errors {
            let (node, span) = match self.file.alert_book_entry {
                Some(entry) => (Some(&entry.value), entry.key_span),
                None => (None, Span::default()),
            };
            let span = node.map_or(span, |node| node.place(&e.at, span));
            self.out.push(from_config(Code::CONFIGURATION, span, e));
        }
    }

    /// The name of the book is its own.
    pub(super) fn reserve_book(&mut self) {
        if self.wants_book() {
            self.reserve(ALERTS, "the table of the alerts of all rules");
        }
    }

    /// Nothing of the file has a name that is that of something else.
    pub(super) fn reserve(&mut self, name: &str, what: &str) {
        let taken = self.own_names().into_iter().filter(|(own, _)| *own == name);
        for (_, span) in taken {
            let message = format!("'{name}' is {what}");
            let error = Diagnostic::error(Code::BAD_NAME, span, message);
            self.out.push(error.help("choose another name"));
        }
    }
}
