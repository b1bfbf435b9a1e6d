//! The `evaluation` section: the stream and its column are there, and every input belongs to a source.

use crate::diagnostic::{Code, Diagnostic};
use crate::planner::Planner;

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
                let span = node.place("predicted", evaluation.name_span);
                self.numeric(&config.predicted, &schema, span);
            }
        }
    }
}
