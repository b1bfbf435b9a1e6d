//! The section `reference`: relations that come from outside, each a source and the view of what stands of it.

use arrow::datatypes::DataType;
use foreline_connectors::{SourceConfig, SourceInputs};
use foreline_engine::{
    CHANGED_AT, Column, Front, PrimaryKey, Relation, RelationRules, Schema, SchemaError, StreamId,
    TimeDomain, VIEW_ROWS_MAX, ViewKind, type_name,
};

use crate::diagnostic::{Code, Diagnostic};
use crate::file::ReferenceCommon;
use crate::plan::{SourcePlan, ViewPlan};
use crate::planner::{CHANGES, Planner};
use crate::read::{Block, from_config};
use crate::yaml::Node;

impl<'a> Planner<'a> {
    /// Plans a relation; the view of what stands of it.
    pub(super) fn reference(
        &mut self,
        reference: &'a Block<'a, ReferenceCommon, dyn SourceConfig>,
    ) -> Option<StreamId> {
        let common = reference.common.as_ref()?;
        let node = reference.node;
        let (schema, relation, valid_from) = self.shape(common, node)?;
        let kind = reference.kind.as_ref()?;
        let inputs = SourceInputs { columns: &common.columns.0, schema: &schema };
        let planned = kind.config.plan(&inputs, &self.given).map_err(|errors| {
            for e in &errors {
                let place = match e.at.starts_with("columns.") {
                    true => node.place(&e.at, reference.name_span),
                    false => kind.entry.value.place(&e.at, kind.entry.key_span),
                };
                let span = self.precise(place, e);
                self.out.push(from_config(Code::CONFIGURATION, span, e));
            }
        });
        let planned = planned.ok()?;
        self.notes(kind.entry.key_span, &planned.notes);
        let max_rows = common.max_rows.unwrap_or(VIEW_ROWS_MAX);
        let whole = planned.door.is_none();
        // What its rows depend on; where they come from and how many there may be changes nothing of them.
        let written = |key: &str| node.get(key).map(|n| n.written(self.text)).unwrap_or_default();
        let config = ["columns", "key", "valid_from"].map(written).join(" ");
        let config = format!("{} {config}", if planned.door.is_some() { "http" } else { "table" });
        let name = reference.name.to_owned();
        self.plan.sources.push(SourcePlan {
            name: name.clone(),
            kind: kind.name,
            columns: common.columns.0.clone(),
            config: config.clone(),
            front: Front::Relation(RelationRules { whole, valid_from, max_rows }),
            schema,
            source: planned,
        });
        let source = StreamId::Source(self.plan.sources.len() - 1);
        self.plan.views.push(ViewPlan {
            changes: format!("{name}{CHANGES}"),
            name,
            kind: "reference",
            relation,
            how: ViewKind::Standing(source),
            max_rows,
            config,
        });
        Some(StreamId::View(self.plan.views.len() - 1))
    }

    /// The stream of a relation, what stands of it, and the column of times from which rows count.
    fn shape(
        &mut self,
        common: &ReferenceCommon,
        node: &Node,
    ) -> Option<(Schema, Relation, Option<usize>)> {
        let before = self.out.len();
        let names: Vec<&str> = common.columns.0.iter().map(|(name, _)| name.as_str()).collect();
        for (i, name) in common.key.iter().enumerate() {
            let span = node.place(&format!("key[{i}]"), node.span);
            self.known_column(name, &names, span);
            self.no_waveform(&common.columns, name, span);
        }
        if let Some(name) = &common.valid_from {
            self.known_column(name, &names, node.place("valid_from", node.span));
        }
        for (name, column) in &common.columns.0 {
            self.column_options(name, column, node);
        }
        let columns = self.declared(&common.columns, node);
        if self.out.len() > before {
            return None;
        }
        let index = |name: &String| names.iter().position(|n| n == name);
        let key: Vec<usize> = common.key.iter().filter_map(index).collect();
        let valid_from = common.valid_from.as_ref().and_then(index);
        if let Some(at) = valid_from {
            self.is_a_time(&columns[at], &key, at, node)?;
        }
        let relation = Relation::new(columns.clone(), key.clone());
        let relation = relation.map_err(|e| self.out.push(misshapen(&e, node))).ok()?;
        let time = columns.len();
        let mut all = columns;
        all.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
        let primary = key.iter().copied().chain(valid_from).collect();
        let primary_key = PrimaryKey { columns: primary, position: false };
        let schema = Schema::with_primary_key(all, key, time, primary_key);
        let schema = schema.map_err(|e| self.out.push(misshapen(&e, node))).ok()?;
        Some((schema, relation, valid_from))
    }

    fn is_a_time(&mut self, column: &Column, key: &[usize], at: usize, node: &Node) -> Option<()> {
        let is_time = matches!(column.data_type, DataType::Timestamp(..) | DataType::Int64);
        if is_time && !key.contains(&at) {
            return Some(());
        }
        let span = node.place("valid_from", node.span);
        let (message, help) = if is_time {
            let message = format!("'{}' is part of the key", column.name);
            (
                message,
                "the key tells machines apart, and 'valid_from' the rows of one: leave it out of 'key'",
            )
        } else {
            let found = type_name(&column.data_type);
            let message =
                format!("'{}' cannot say from when a row counts: it is a {found}", column.name);
            (message, "give it 'type: timestamp', or 'type: int64' for a count such as a cycle")
        };
        self.out.push(Diagnostic::error(Code::SCHEMA, span, message).help(help));
        None
    }
}

fn misshapen(error: &SchemaError, node: &Node) -> Diagnostic {
    let (key, help) = match error {
        SchemaError::NoKey => ("key", "name the column that tells one row from another"),
        _ => ("columns", "'changed_at' and 'gone' are added, so choose another name"),
    };
    Diagnostic::error(Code::SCHEMA, node.place(key, node.span), error.to_string()).help(help)
}
