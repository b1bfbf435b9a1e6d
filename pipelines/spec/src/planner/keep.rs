//! The streams of which rows are kept in memory (`keep`).
//!
//! What a reader would get wrong: it changes no result, so it is no part of what tells whether a pipeline has changed.

use foreline_engine::Extent;

use crate::diagnostic::{Code, Diagnostic};
use crate::plan::KeptPlan;
use crate::planner::Planner;
use crate::yaml::Node;

impl<'a> Planner<'a> {
    pub(super) fn keeps(&mut self) {
        let file = self.file;
        let sources = file.sources.iter();
        let sources = sources.filter_map(|s| Some((s.name, s.node, s.common.as_ref()?.keep?)));
        let steps = file.steps.iter();
        let steps = steps.filter_map(|s| Some((s.name, s.node, s.common.as_ref()?.keep?)));
        let all: Vec<(&'a str, &'a Node, Extent)> = sources.chain(steps).collect();
        for (name, node, keep) in all {
            self.used.insert(name);
            // What could not be planned has its own mistake.
            let Some(stream) = self.plan.stream(name) else { continue };
            let schema = self.plan.schema(stream);
            match self.length(node, "keep", keep, &schema) {
                Some(0) => {
                    let message = format!("nothing of '{name}' is kept for no time at all");
                    let span = node.place("keep", node.span);
                    let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                    self.out.push(error.help("give a length, such as 1h, or leave 'keep' out"));
                }
                Some(length) => self.plan.kept.push(KeptPlan { stream, length }),
                None => {}
            }
        }
    }
}
