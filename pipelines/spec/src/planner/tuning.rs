//! The `tuning` section: what is searched is there, and every place leads to a setting of the file.

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{Candidates, TuningConfig};
use crate::planner::Planner;
use crate::read::Named;
use crate::setting;

impl Planner<'_> {
    pub(super) fn tuning(&mut self) {
        let file = self.file;
        for tuning in &file.tuning {
            self.one_tuning(tuning);
        }
    }

    fn one_tuning(&mut self, tuning: &Named<'_, TuningConfig>) {
        let (config, node, file) = (&tuning.config, tuning.node, self.file);
        let unknown = |key: &str, name: &str, known: Vec<&str>| {
            let span = node.place(key, tuning.name_span);
            let message = format!("the file has no {key} '{name}'");
            Diagnostic::error(Code::UNKNOWN_STREAM, span, message).expected(name, known)
        };
        match (&config.training, &config.step) {
            (Some(name), None) => {
                let known: Vec<_> = file
                    .training
                    .iter()
                    .filter(|t| t.config.step.is_none())
                    .map(|t| t.name)
                    .collect();
                if !known.contains(&name.as_str()) {
                    self.out.push(unknown("training", name, known));
                }
            }
            (None, Some(name)) => {
                let known: Vec<_> = file.steps.iter().map(|s| s.name).collect();
                if !known.contains(&name.as_str()) {
                    self.out.push(unknown("step", name, known));
                }
            }
            _ => {
                let message = format!("'{}' needs one of 'training' and 'step'", tuning.name);
                let help = "training: whose error is to be small; or step: that smooths";
                let error = Diagnostic::error(Code::MISSING_KEY, tuning.name_span, message);
                self.out.push(error.help(help));
            }
        }
        for (path, candidates) in &config.settings {
            let entry = node.get("try").and_then(|t| t.entry(path));
            let span = entry.map_or(tuning.name_span, |e| e.key_span);
            if let Err(e) = setting::find(self.root, path) {
                self.out.push(Diagnostic::error(Code::BAD_VALUE, span, e.message).help(e.help));
            }
            let empty = match candidates {
                Candidates::List(values) => values.is_empty(),
                Candidates::Range(range) => range.values().is_empty(),
            };
            if empty {
                let message = "there is nothing to try";
                let help =
                    "list values, or write { from: 1, to: 100, scale: log } with 0 < from < to";
                self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message).help(help));
            }
        }
        if config.settings.is_empty() {
            let message = format!("'{}' tries nothing", tuning.name);
            let help = "try: { steps.smooth.moving_average.rows: [5, 10, 20] }";
            self.out
                .push(Diagnostic::error(Code::MISSING_KEY, tuning.name_span, message).help(help));
        }
    }
}
