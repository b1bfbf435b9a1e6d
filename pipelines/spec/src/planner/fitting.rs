//! The fittings of the `training` section: the step is found, and asked how it is fitted to what it reads.

use foreline_engine::{FitTarget, Schema, StreamId};

use crate::diagnostic::{Code, Diagnostic};
use crate::file::TrainingConfig;
use crate::plan::{FittingPlan, TrainingTarget};
use crate::planner::training::TargetUse;
use crate::planner::{Planner, Stream};
use crate::read::{Named, PipelineFile, StepBlock, from_config};

/// Keys that are for models.
const OF_MODELS: [&str; 7] =
    ["from", "plugin", "weights", "features", "exclude", "params", "validate"];

impl PipelineFile<'_> {
    /// The names of the streams that a training learns from.
    pub(crate) fn learns_from<'t>(&'t self, training: &'t TrainingConfig) -> Vec<&'t str> {
        let step = training.step.as_ref().and_then(|name| {
            self.steps.iter().find(|s| s.name == name).and_then(|s| s.common.as_ref())
        });
        match step {
            Some(common) => common.from.list().iter().map(String::as_str).collect(),
            None => training.from.iter().map(String::as_str).collect(),
        }
    }
}

impl Planner<'_> {
    pub(super) fn one_fitting(
        &mut self,
        training: &Named<'_, TrainingConfig>,
        name: &str,
    ) -> Option<FittingPlan> {
        let (file, node) = (self.file, training.node);
        let span = node.place("step", training.name_span);
        for entry in node.entries().iter().filter(|e| OF_MODELS.contains(&e.key.as_str())) {
            let message = format!("'{}' is for models, but this training fits a step", entry.key);
            let error = Diagnostic::error(Code::BAD_VALUE, entry.key_span, message);
            self.out.push(error.help("leave it out, or train a model under another name"));
        }
        let Some(step) = file.steps.iter().find(|s| s.name == name) else {
            let message = format!("there is no step '{name}'");
            let error = Diagnostic::error(Code::UNKNOWN_STREAM, span, message);
            self.out.push(error.expected(name, file.steps.iter().map(|s| s.name)));
            return None;
        };
        let ids: Vec<StreamId> = step
            .common
            .as_ref()?
            .from
            .list()
            .iter()
            .map(|name| match self.streams.get(name.as_str()) {
                Some(Stream::Planned(id)) => Some(*id),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let schemas: Vec<Schema> = ids.iter().map(|id| self.plan.schema(*id)).collect();
        let fitting = self.how(step, &schemas)?;
        let Some(fitting) = fitting else {
            let message = format!("there is nothing to fit in step '{name}'");
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            let help = "give the step a file of 'statistics', or leave this training out";
            self.out.push(error.help(help));
            return None;
        };
        let (from, schema) = (*ids.first()?, schemas.first()?);
        let config = &training.config;
        let before = self.out.len();
        let target = self.fitting_target(training, name, fitting.target, schema);
        let filter = config.filter.as_ref().map(|sql| self.condition(node, "where", sql, schema));
        (self.out.len() == before).then(|| FittingPlan {
            name: training.name.to_owned(),
            step: name.to_owned(),
            from,
            fitting,
            target,
            filter: filter.flatten(),
        })
    }

    /// What the step chooses by; what is missing or too much is reported.
    fn fitting_target(
        &mut self,
        training: &Named<'_, TrainingConfig>,
        step: &str,
        wanted: FitTarget,
        schema: &Schema,
    ) -> Option<TrainingTarget> {
        let node = training.node;
        let error = match (&training.config.target, wanted) {
            (Some(target), FitTarget::Needed) => {
                return self.target(target, TargetUse::Chosen, node, schema);
            }
            (None, FitTarget::Unused) => return None,
            (Some(_), FitTarget::Unused) => {
                let message = format!("step '{step}' looks at no target");
                let at = node.place("target", training.name_span);
                Diagnostic::error(Code::BAD_VALUE, at, message).help("leave 'target' out")
            }
            (None, FitTarget::Needed) => {
                let message = format!("'{}' needs the key 'target'", training.name);
                let help = format!(
                    "target: what step '{step}' chooses by, {{ column: ... }} or {{ remaining: {{}} }}"
                );
                Diagnostic::error(Code::MISSING_KEY, training.name_span, message)
                    .label("'target' is missing")
                    .help(help)
            }
        };
        self.out.push(error);
        None
    }

    /// How the step is fitted. What is wrong with the step is said here only if the step itself is not planned.
    fn how(
        &mut self,
        step: &StepBlock<'_>,
        schemas: &[Schema],
    ) -> Option<Option<foreline_engine::Fitting>> {
        let kind = step.kind.as_ref()?;
        match kind.config.fitting(schemas, &self.given) {
            Ok(fitting) => Some(fitting),
            Err(errors) => {
                if self.streams.get(step.name) != Some(&Stream::Broken) {
                    for e in &errors {
                        let place = kind.entry.value.place(&e.at, kind.entry.key_span);
                        let span = self.precise(place, e);
                        self.out.push(from_config(Code::CONFIGURATION, span, e));
                    }
                }
                None
            }
        }
    }
}
