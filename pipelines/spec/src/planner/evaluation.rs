//! The `evaluation` section: the stream and its column are there, and every input belongs to a source.

use arrow::datatypes::DataType;
use foreline_engine::Schema;

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{EvaluationConfig, TruthConfig};
use crate::planner::Planner;
use crate::planner::training::no_column;
use crate::yaml::{Node, Span};

impl Planner<'_> {
    pub(super) fn evaluation(&mut self) {
        let file = self.file;
        for evaluation in &file.evaluation {
            let (config, node) = (&evaluation.config, evaluation.node);
            for name in config.input.keys() {
                if !file.sources.iter().any(|s| s.name == name) {
                    let place = node.get("input").and_then(|n| n.entry(name));
                    let span = place.map_or(evaluation.name_span, |e| e.key_span);
                    let known = file.sources.iter().map(|s| s.name);
                    let message = format!("there is no source '{name}'");
                    let error = Diagnostic::error(Code::UNKNOWN_STREAM, span, message);
                    self.out.push(error.label("unknown source").expected(name, known));
                }
            }
            let from = self.find(&config.from, node.place("from", evaluation.name_span));
            if let Some(from) = from {
                let schema = self.plan.schema(from);
                self.judged(config, node, evaluation.name_span, &schema);
            }
            if let Some(training) = &config.training
                && !file.training.iter().any(|t| t.name == training)
            {
                let span = node.place("training", evaluation.name_span);
                let known = file.training.iter().map(|t| t.name);
                let message = format!("the file has no training '{training}'");
                self.out.push(
                    Diagnostic::error(Code::UNKNOWN_STREAM, span, message)
                        .expected(training, known),
                );
            }
            if !config.seeds.is_empty() && config.training.is_none() {
                let span = node.place("seeds", evaluation.name_span);
                let message = "'seeds' needs the training that they are for";
                self.out.push(
                    Diagnostic::error(Code::MISSING_KEY, span, message)
                        .help("name it in 'training'"),
                );
            }
            if config.cost.is_some() && config.alarm.is_none() {
                let span = node.place("cost", evaluation.name_span);
                let message = "'cost' needs to know what an alarm is";
                self.out.push(
                    Diagnostic::error(Code::MISSING_KEY, span, message)
                        .help("add 'alarm: { below: ... }'"),
                );
            }
        }
    }

    /// The columns that are compared are there, and of a kind.
    fn judged(&mut self, config: &EvaluationConfig, node: &Node, owner: Span, schema: &Schema) {
        let span = node.place("predicted", owner);
        let truth_of_class = match &config.truth {
            TruthConfig::Column(name) => {
                let at = node.place("truth.column", owner);
                let Some(column) = schema.column(name) else {
                    self.out.push(no_column(name, schema, at));
                    return;
                };
                !matches!(column.data_type, DataType::Float64)
            }
            TruthConfig::Remaining(remaining) => {
                if let Some(sql) = &remaining.ends {
                    self.condition(node, "truth.remaining.ends", sql, schema);
                }
                false
            }
            TruthConfig::Lines(_) | TruthConfig::Table(_) => false,
        };
        match schema.column(&config.predicted) {
            Some(column) if truth_of_class && column.data_type == DataType::Utf8 => {}
            _ => {
                self.numeric(&config.predicted, schema, span);
            }
        }
        if let Some(interval) = &config.interval {
            for (key, name) in [("low", &interval.low), ("high", &interval.high)] {
                self.numeric(name, schema, node.place(&format!("interval.{key}"), owner));
            }
            if !(interval.nominal > 0.0 && interval.nominal < 1.0) {
                let span = node.place("interval.nominal", owner);
                let message = "'nominal' is a share between 0 and 1, such as 0.8";
                self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
            }
        }
        if config.alpha.is_some_and(|alpha| !(alpha > 0.0 && alpha < 1.0)) {
            let span = node.place("alpha", owner);
            let message = "'alpha' is a share between 0 and 1, such as 0.2";
            self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
        }
        let cases = config.cost.iter().flat_map(|c| [&c.missed, &c.early, &c.right]);
        if cases.into_iter().any(|case| case.days.is_nan() || case.days <= 0.0) {
            let span = node.place("cost", owner);
            let message = "'days' is above 0";
            self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
        }
    }
}
