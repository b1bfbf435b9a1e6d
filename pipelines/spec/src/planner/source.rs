//! Sources: the schema from the declared columns, the rules of order, the kind's own check.

use foreline_connectors::{
    ColumnConfig, ColumnType, PlannedSource, SourceConfig, SourceInputs, chained,
};
use foreline_engine::{
    Column, Extent, Front, LatePolicy, OrderRules, Schema, SchemaError, TimeDomain, type_name,
};

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{Columns, Late, SourceCommon};
use crate::plan::SourcePlan;
use crate::planner::Planner;
use crate::planner::clock::Clocked;
use crate::read::{Block, from_config};
use crate::yaml::{Node, Span};

impl<'a> Planner<'a> {
    pub(super) fn source(
        &mut self,
        source: &'a Block<'a, SourceCommon, dyn SourceConfig>,
    ) -> Option<SourcePlan> {
        let common = source.common.as_ref()?;
        let declared = self.source_schema(common, source.node)?;
        let order = self.order_rules(common, source.node, &declared);
        let clocked = self.clocked(common, source.node, &declared);
        let kind = source.kind.as_ref()?;
        let read = clocked.as_ref().map_or(&declared, |c| &c.read);
        let inputs = SourceInputs { columns: &common.columns.0, schema: read };
        let planned = kind.config.plan(&inputs, &self.given).map_err(|errors| {
            for e in &errors {
                let place = match e.at.starts_with("columns.") {
                    true => source.node.place(&e.at, source.name_span),
                    false => kind.entry.value.place(&e.at, kind.entry.key_span),
                };
                let span = self.precise(place, e);
                self.out.push(from_config(Code::CONFIGURATION, span, e));
            }
        });
        let history = self.history(common, source.node, &inputs);
        let (Ok(planned), Ok(history)) = (planned, history) else { return None };
        let planned = match history {
            Some(history) => chained(history, planned),
            None => planned,
        };
        self.notes(kind.entry.key_span, &planned.notes);
        let Clocked { clock, out, .. } = clocked?;
        let by_clock = clock.as_ref().is_some_and(|c| c.arrival.is_none());
        if planned.bounded && by_clock {
            self.arrives_when_read(source.node, kind.name);
        }
        Some(SourcePlan {
            name: source.name.to_owned(),
            kind: kind.name,
            columns: common.columns.0.clone(),
            config: source.node.written_without(self.text, "keep"),
            front: Front::Stream(OrderRules { device_clock: clock, ..order? }),
            schema: out,
            source: planned,
        })
    }

    /// What is read before the source's own records, if anything is.
    fn history(
        &mut self,
        common: &SourceCommon,
        node: &Node,
        inputs: &SourceInputs<'_>,
    ) -> Result<Option<PlannedSource>, ()> {
        let Some(history) = &common.history else { return Ok(None) };
        let span = node.entry("history").map_or(node.span, |e| e.key_span);
        let mut wrong = false;
        if common.dedupe.is_empty() {
            wrong = true;
            let message = "the history and the source's own records overlap, and nothing tells a row that comes both ways";
            let error = Diagnostic::error(Code::CONFIGURATION, span, message);
            self.out.push(error.help("name the columns that do, as in dedupe: [machine, ts]"));
        }
        let planned = history.plan(inputs, &self.given).map_err(|errors| {
            for e in &errors {
                let span = self.precise(node.place(&e.at, span), e);
                self.out.push(from_config(Code::CONFIGURATION, span, e));
            }
        })?;
        if wrong { Err(()) } else { Ok(Some(planned)) }
    }

    /// Warns of rows that were there before they are read.
    fn arrives_when_read(&mut self, node: &Node, kind: &str) {
        let span = node.entry("device_clock").map_or(node.span, |e| e.key_span);
        let message = format!(
            "'{kind}' reads rows that are there already: they all arrive when they are read"
        );
        let warning = Diagnostic::warning(Code::NOTE, span, message);
        self.out.push(warning.help("name the column with the receiver's stamp under 'arrival'"));
    }

    fn source_schema(&mut self, common: &SourceCommon, node: &Node) -> Option<Schema> {
        let before = self.out.len();
        let names: Vec<&str> = common.columns.0.iter().map(|(name, _)| name.as_str()).collect();
        for (list, key) in [(&common.key, "key"), (&common.dedupe, "dedupe")] {
            for (i, name) in list.iter().enumerate() {
                let span = node.place(&format!("{key}[{i}]"), node.span);
                self.known_column(name, &names, span);
                self.no_waveform(&common.columns, name, span);
            }
        }
        self.known_column(&common.time, &names, node.place("time", node.span));
        if let Some(arrival) = common.device_clock.as_ref().and_then(|c| c.arrival.as_ref()) {
            self.known_column(arrival, &names, node.place("device_clock.arrival", node.span));
        }
        for (name, column) in &common.columns.0 {
            self.column_options(name, column, node);
        }
        let columns = self.declared(&common.columns, node);
        let key: Vec<&str> = common.key.iter().map(String::as_str).collect();
        if self.out.len() > before {
            return None;
        }
        match Schema::new(columns, &key, &common.time) {
            Ok(schema) => Some(schema),
            Err(e) => {
                self.out.push(schema_error(&e, node));
                None
            }
        }
    }

    /// The columns as declared, but for those that are wrong.
    pub(super) fn declared(&mut self, declared: &Columns, node: &Node) -> Vec<Column> {
        let mut columns = Vec::with_capacity(declared.0.len());
        for (name, column) in &declared.0 {
            match column.declared(name) {
                Ok(declared) => columns.push(declared),
                Err(e) => {
                    let span = node.place(&e.at, node.span);
                    self.out.push(from_config(Code::BAD_VALUE, span, &e));
                }
            }
        }
        columns
    }

    /// A waveform tells nothing apart, neither machines nor rows.
    pub(super) fn no_waveform(&mut self, declared: &Columns, name: &str, span: Span) {
        let mut columns = declared.0.iter();
        if columns.any(|(n, c)| n == name && c.data_type == ColumnType::Waveform) {
            let message = format!("'{name}' is a waveform, which tells no row from another");
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out.push(error.help("name columns of text, numbers or time"));
        }
    }

    pub(super) fn known_column(&mut self, name: &str, names: &[&str], span: Span) {
        if !names.contains(&name) {
            let message = format!("there is no column '{name}'");
            let error = Diagnostic::error(Code::UNKNOWN_COLUMN, span, message);
            self.out.push(error.label("not under 'columns'").expected(name, names.iter().copied()));
        }
    }

    /// Options that belong to another type of column.
    pub(super) fn column_options(&mut self, name: &str, column: &ColumnConfig, node: &Node) {
        let stamp = column.data_type == ColumnType::Timestamp;
        let measured = matches!(
            column.data_type,
            ColumnType::Float64 | ColumnType::Int64 | ColumnType::Waveform
        );
        let wrong = [
            ("format", column.format.is_some() && !stamp, "a timestamp"),
            ("zone", column.zone.is_some() && !stamp, "a timestamp"),
            ("unit", column.unit.is_some() && !measured, "a number"),
        ];
        for (option, _, owner) in wrong.iter().filter(|(_, wrong, _)| *wrong) {
            let span = node.place(&format!("columns.{name}.{option}"), node.span);
            let message = format!("'{option}' belongs to {owner}, and column '{name}' is none");
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out
                .push(error.help(format!("remove it, or change the column's 'type' to {owner}'s")));
        }
    }

    fn order_rules(
        &mut self,
        common: &SourceCommon,
        node: &Node,
        schema: &Schema,
    ) -> Option<OrderRules> {
        let before = self.out.len();
        let lateness = common.lateness.map(|e| self.length(node, "lateness", e, schema));
        let late = match common.late {
            Some(Late::Correct(e)) => {
                self.length(node, "late.correct", e, schema).map(LatePolicy::Correct)
            }
            Some(Late::DeadLetter) | None => Some(LatePolicy::DeadLetter),
        };
        if common.max_ahead.is_some() && schema.domain() == TimeDomain::Logical {
            let span = node.entry("max_ahead").map_or(node.span, |e| e.key_span);
            let message = "'max_ahead' compares with the clock, but the event time is a count";
            let error = Diagnostic::error(Code::TIME_DOMAIN, span, message);
            self.out.push(error.help("remove it"));
            return None;
        }
        let within = common.dedupe_within.map(|e| self.length(node, "dedupe_within", e, schema));
        let max_ahead = common.max_ahead.map(|e| self.length(node, "max_ahead", e, schema));
        let idle = common.idle_timeout.map(|e| self.clock_length(node, "idle_timeout", e));
        let dedupe = common.dedupe.iter().filter_map(|name| schema.index_of(name)).collect();
        if self.out.len() > before {
            return None;
        }
        let (lateness, late) = (lateness.flatten().unwrap_or(0), late?);
        let usable = match late {
            LatePolicy::DeadLetter => lateness,
            LatePolicy::Correct(further) => lateness.saturating_add(further),
        };
        Some(OrderRules {
            lateness,
            late,
            dedupe,
            dedupe_within: within.flatten().unwrap_or(0).max(usable),
            device_clock: None,
            max_ahead: max_ahead.flatten(),
            idle_timeout_ns: idle.flatten(),
        })
    }

    /// A length of the clock's time, which is a duration whatever the event time counts.
    fn clock_length(&mut self, node: &Node, key: &str, extent: Extent) -> Option<i64> {
        match extent {
            Extent::Nanos(n) if n > 0 => Some(n),
            _ => {
                let message = format!("'{extent}' is not a length of the clock's time");
                let span = node.place(key, node.span);
                let error = Diagnostic::error(Code::TIME_DOMAIN, span, message);
                self.out.push(error.help("give a duration above zero, such as 30s"));
                None
            }
        }
    }
}

fn schema_error(error: &SchemaError, node: &Node) -> Diagnostic {
    let (key, help) = match error {
        SchemaError::NoKey => (
            "key",
            "name the column that tells one machine from another; where each file is one machine, declare it as \
             machine: { type: string, field: \"#file\" }",
        ),
        SchemaError::NotATime { .. } => (
            "time",
            "give the column 'type: timestamp', or 'type: int64' for a count such as a cycle",
        ),
        SchemaError::Duplicate(_) | SchemaError::Missing(_) => ("columns", "choose another name"),
    };
    let message = match error {
        SchemaError::NotATime { name, found } => {
            let found = type_name(found);
            format!("column '{name}' cannot be the event time: it is a {found}")
        }
        other => other.to_string(),
    };
    Diagnostic::error(Code::SCHEMA, node.place(key, node.span), message).help(help)
}
