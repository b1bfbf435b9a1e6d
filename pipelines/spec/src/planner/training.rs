//! The `training` section: streams and columns looked up, lengths in the stream's unit.

use std::path::Path;

use arrow::datatypes::DataType;
use foreline_engine::{Column, Resolver, Schema, type_name};

use crate::check::Only;
use crate::diagnostic::{Code, Diagnostic};
use crate::file::{SplitBy, TargetConfig, TrainingConfig, ValidateConfig};
use crate::plan::{TrainingPlan, TrainingTarget};
use crate::planner::Planner;
use crate::read::Named;
use crate::yaml::{Node, Span};

/// A plugin that comes with Foreline is named, not a file.
const BUILTIN: &str = "builtin:";

/// What the training of a model needs.
struct Model<'c> {
    from: &'c str,
    target: Option<&'c TargetConfig>,
    plugin: &'c str,
    weights: &'c str,
}

/// What a target is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetUse {
    /// A model predicts it, so it is a number.
    Predicted,
    /// Columns are chosen by it, so it may be the name of a class.
    Chosen,
}

impl Planner<'_> {
    /// Plans the trainings; of a plan of one stream only the one that was asked for.
    pub(super) fn training(&mut self, one_stream: bool) {
        let file = self.file;
        for training in &file.training {
            let asked = match &self.given.options.only {
                Some(Only::Training(name)) => name == training.name,
                Some(Only::Stream(_)) | None => !one_stream,
            };
            match &training.config.step {
                _ if !asked => {}
                Some(step) => {
                    let plan = self.one_fitting(training, step);
                    self.plan.fittings.extend(plan);
                }
                None => {
                    let plan = self.one_training(training);
                    self.plan.training.extend(plan);
                }
            }
        }
    }

    fn one_training(&mut self, training: &Named<'_, TrainingConfig>) -> Option<TrainingPlan> {
        let (config, node) = (&training.config, training.node);
        let Model { from, target, plugin, weights } = self.model(training)?;
        let from = self.find(from, node.place("from", training.name_span))?;
        let schema = self.plan.schema(from);
        let before = self.out.len();
        let features = self.features(config, target, node, training.name_span, &schema);
        let target = match target {
            Some(target) => self.target(target, TargetUse::Predicted, node, &schema),
            None => Some(TrainingTarget::Nothing),
        };
        let filter = config.filter.as_ref().map(|sql| self.condition(node, "where", sql, &schema));
        self.splits(config.validate.as_slice(), node, &schema);
        if self.out.len() > before {
            return None;
        }
        Some(TrainingPlan {
            name: training.name.to_owned(),
            from,
            target: target?,
            features,
            plugin: if plugin.starts_with(BUILTIN) {
                plugin.into()
            } else {
                self.given.path(Path::new(plugin))
            },
            weights: self.given.path(Path::new(weights)),
            params: config.params.clone(),
            filter: filter.flatten(),
            validate: config.validate.as_slice().to_vec(),
        })
    }

    /// Columns that rows are parted by are there, and options fit the way of parting.
    fn splits(&mut self, splits: &[ValidateConfig], node: &Node, schema: &Schema) {
        let one = node.get("validate").is_some_and(|n| n.items().is_empty());
        for (i, split) in splits.iter().enumerate() {
            let at = if one { "validate".to_owned() } else { format!("validate[{i}]") };
            if let SplitBy::Column(name) = &split.by
                && schema.index_of(name).is_none()
            {
                let span = node.place(&format!("{at}.by.column"), node.span);
                self.out.push(no_column(name, schema, span));
            }
            if split.look_back.is_some() && split.by != SplitBy::Interval {
                let span = node.place(&format!("{at}.look_back"), node.span);
                let message = "'look_back' is for splits by interval";
                let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                self.out.push(error.help("leave it out, or write 'by: interval'"));
            }
            let fewest = match split.by {
                SplitBy::Interval | SplitBy::Time => 1,
                SplitBy::Machine | SplitBy::Column(_) | SplitBy::Row => 2,
            };
            if split.folds.is_some_and(|folds| !(fewest..=1000).contains(&folds)) {
                let span = node.place(&format!("{at}.folds"), node.span);
                let message = format!("'folds' is not between {fewest} and 1000");
                self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
            }
        }
    }

    /// The keys that the training of a model needs; those that are missing are reported.
    fn model<'c>(&mut self, training: &'c Named<'_, TrainingConfig>) -> Option<Model<'c>> {
        let c = &training.config;
        let needed = [
            (
                "from",
                c.from.is_some(),
                "the stream whose rows are learnt from; or name the 'step' that is to be fitted",
            ),
            (
                "target",
                c.target.is_some() || !self.needs_target(c.plugin.as_deref()),
                "what is to be predicted",
            ),
            ("plugin", c.plugin.is_some(), "the plugin the weights are for"),
            ("weights", c.weights.is_some(), "where the weights are written"),
        ];
        for (key, _, what) in needed.iter().filter(|(_, there, _)| !there) {
            let message = format!("'{}' needs the key '{key}'", training.name);
            let error = Diagnostic::error(Code::MISSING_KEY, training.name_span, message);
            self.out
                .push(error.label(format!("'{key}' is missing")).help(format!("{key}: {what}")));
        }
        Some(Model {
            from: c.from.as_ref()?,
            target: c.target.as_ref(),
            plugin: c.plugin.as_ref()?,
            weights: c.weights.as_ref()?,
        })
    }

    /// Whether the weights of a plugin are learnt from a target. A file that cannot be read is for the training to report.
    fn needs_target(&self, plugin: Option<&str>) -> bool {
        let Some(plugin) = plugin else { return true };
        match foreline_plugins::builtin(plugin).filter(|_| plugin.starts_with(BUILTIN)) {
            Some(bytes) => foreline_plugins::train::needs_target(bytes),
            None => std::fs::read(self.given.path(Path::new(plugin)))
                .map_or(true, |bytes| foreline_plugins::train::needs_target(&bytes)),
        }
    }

    /// The target of a training, whose column is a number where it is to be predicted.
    pub(super) fn target(
        &mut self,
        target: &TargetConfig,
        used: TargetUse,
        node: &Node,
        schema: &Schema,
    ) -> Option<TrainingTarget> {
        match target {
            TargetConfig::Remaining(remaining) => {
                let cap = match remaining.cap {
                    Some(extent) => {
                        Some(self.length(node, "target.remaining.cap", extent, schema)?)
                    }
                    None => None,
                };
                let ends = match &remaining.ends {
                    Some(sql) => {
                        Some(self.condition(node, "target.remaining.ends", sql, schema)?)
                    }
                    None => None,
                };
                Some(TrainingTarget::Remaining { cap, ends })
            }
            TargetConfig::Column(name) => {
                let span = node.place("target.column", node.span);
                match used {
                    TargetUse::Predicted => self.numeric(name, schema, span)?,
                    TargetUse::Chosen if schema.index_of(name).is_some() => {}
                    TargetUse::Chosen => {
                        self.out.push(no_column(name, schema, span));
                        return None;
                    }
                }
                Some(TrainingTarget::Column(name.clone()))
            }
            TargetConfig::Class(name) => {
                self.class(name, schema, node.place("target.class", node.span))?;
                Some(TrainingTarget::Class(name.clone()))
            }
        }
    }

    /// A column whose values are few enough to be names: not a measurement, not a time.
    fn class(&mut self, name: &str, schema: &Schema, span: Span) -> Option<()> {
        let Some(column) = schema.column(name) else {
            self.out.push(no_column(name, schema, span));
            return None;
        };
        let fits = match &column.data_type {
            DataType::Utf8 | DataType::Int64 | DataType::Boolean => true,
            // Text of a key is kept so.
            DataType::Dictionary(_, values) => **values == DataType::Utf8,
            _ => false,
        };
        if fits {
            return Some(());
        }
        let message = format!("column '{name}' is a {}, not a class", type_name(&column.data_type));
        let error = Diagnostic::error(Code::SCHEMA, span, message);
        self.out.push(
            error.help("name a column of text, whole numbers or booleans; `derive` makes one"),
        );
        None
    }

    fn features(
        &mut self,
        config: &TrainingConfig,
        target: Option<&TargetConfig>,
        node: &Node,
        owner: Span,
        schema: &Schema,
    ) -> Vec<String> {
        let target = match target {
            Some(TargetConfig::Column(name) | TargetConfig::Class(name)) => Some(name),
            Some(TargetConfig::Remaining(_)) | None => None,
        };
        for (i, name) in config.exclude.iter().enumerate() {
            if schema.index_of(name).is_none() {
                let span = node.place(&format!("exclude[{i}]"), node.span);
                self.out.push(no_column(name, schema, span));
            }
        }
        let mut features = Vec::new();
        let fits = |i: usize, c: &Column| {
            is_number(&c.data_type) && i != schema.time() && !schema.key().contains(&i)
        };
        match &config.features {
            Some(names) => {
                for (i, name) in names.iter().enumerate() {
                    let span = node.place(&format!("features[{i}]"), node.span);
                    self.numeric(name, schema, span);
                    if Some(name) == target {
                        let message =
                            format!("'{name}' is the target, so it cannot be learnt from");
                        let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                        self.out.push(error.help("leave it out of 'features'"));
                    }
                    features.push(name.clone());
                }
            }
            None => {
                let all = schema.columns().iter().enumerate().filter(|(i, c)| fits(*i, c));
                features.extend(all.map(|(_, c)| c.name.clone()).filter(|n| Some(n) != target));
            }
        }
        features.retain(|name| !config.exclude.contains(name));
        if features.is_empty() {
            let message = "no numeric column is left to learn from";
            let span = node.entry("from").map_or(owner, |e| e.value.span);
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out.push(error.help("name a stream with features, such as that of a 'window'"));
        }
        features
    }

    pub(super) fn numeric(&mut self, name: &str, schema: &Schema, span: Span) -> Option<()> {
        match schema.column(name) {
            Some(column) if is_number(&column.data_type) => Some(()),
            Some(column) => {
                let message =
                    format!("column '{name}' is a {}, not a number", type_name(&column.data_type));
                let error = Diagnostic::error(Code::SCHEMA, span, message);
                self.out.push(error.help("name a numeric column"));
                None
            }
            None => {
                self.out.push(no_column(name, schema, span));
                None
            }
        }
    }
}

pub(super) fn no_column(name: &str, schema: &Schema, span: Span) -> Diagnostic {
    Diagnostic::error(Code::UNKNOWN_COLUMN, span, format!("there is no column '{name}'"))
        .label("unknown column")
        .expected(name, schema.columns().iter().map(|c| c.name.as_str()))
}

fn is_number(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float64 | DataType::Int64)
}
