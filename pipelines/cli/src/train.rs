//! `foreline train`: weights from the rows of a stream, statistics from the rows that a step reads.
//!
//! The rows come through the same steps that run live, so that a model never sees a feature computed in another way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_engine::Schema;
use foreline_plugins::train::{ModelMeta, Trained, TrainingSet};
use foreline_plugins::{builtin, family_of};
use foreline_sdk::weights::{Output, OutputKind};
use foreline_spec::{Only, Plan, SourceOverride, TrainingPlan, TrainingTarget};
use serde_json::{Value, json};

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::learning::life_unit;
use crate::learning::samples::Samples;
use crate::learning::split::usual;
use crate::mlflow::{Run, Tracking};
use crate::progress::Progress;
use crate::report;
use crate::session::{Purpose, RowBar, keep, load, load_again};
use crate::table::grouped;
use crate::validate::{Validated, validate};

pub mod card;
pub mod statistics;

use card::Card;

/// What `foreline train` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    pub file: PathBuf,
    /// Only this entry of `training:`; default: all of them.
    #[arg(long)]
    pub only: Option<String>,
    /// What a source reads instead of what the file says: SOURCE=PATH. May be given several times.
    #[arg(long, value_name = "SOURCE=PATH", value_parser = source_path)]
    pub input: Vec<(String, PathBuf)>,
    /// Judge models first: fit them on some of the rows and predict the others, as `validate:` says, without it by whole
    /// machines. Entries that have a `validate:` are judged in any case.
    #[arg(long)]
    pub validate: bool,
    /// Write what the validation found as one HTML page, or as JSON where the name ends so. Implies `--validate`.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where the run is logged.
    #[command(flatten)]
    pub tracking: Tracking,
    /// Workers and progress.
    #[command(flatten)]
    pub running: Running,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads `SOURCE=PATH`.
///
/// # Errors
/// When there is no `=`.
pub fn source_path(text: &str) -> Result<(String, PathBuf), String> {
    let (source, path) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not SOURCE=PATH"))?;
    Ok((source.to_owned(), PathBuf::from(path)))
}

/// Where inputs given on the command line lie: relative to the working folder, unlike those in the file.
///
/// # Errors
/// When the working folder is gone.
pub fn given_inputs(
    given: &[(String, PathBuf)],
) -> anyhow::Result<BTreeMap<String, SourceOverride>> {
    given
        .iter()
        .map(|(source, path)| {
            let path = std::path::absolute(path)
                .with_context(|| format!("the path '{}'", path.display()))?;
            Ok((source.clone(), SourceOverride::Path(path)))
        })
        .collect()
}

/// What was trained.
#[derive(Debug)]
pub struct Fitted {
    /// The entry of `training:`.
    pub name: String,
    /// Where the weights lie.
    pub weights: PathBuf,
    /// What the trainer says.
    pub trained: Trained,
    /// How many columns it learnt from.
    pub features: usize,
    /// What there is to know of it.
    pub card: Card,
}

/// Trains what the file says and prints what came of it.
///
/// # Errors
/// When the file has mistakes, has nothing to train, or training fails.
#[expect(clippy::print_stdout, reason = "the report is what the command ends with")]
pub fn train(arguments: &Arguments) -> Outcome {
    let outline = foreline_spec::outline(&arguments.file).map_err(anyhow::Error::from)?;
    let names: Vec<&String> = match &arguments.only {
        Some(name) => vec![name],
        None => outline.order.iter().collect(),
    };
    if names.is_empty() {
        // A file with mistakes is said to have them, before it is said to have nothing to train.
        load(&arguments.file, Format::Text, Purpose { checking: true, ..Purpose::default() })?;
        return Err(anyhow!("'{}' has no 'training'", arguments.file.display()).into());
    }
    let tracker = arguments.tracking.open(&arguments.file)?;
    let (mut reports, mut pages) = (Vec::new(), Vec::new());
    for name in names {
        let mut inputs = outline.trainings.get(name).cloned().unwrap_or_default();
        inputs.extend(given_inputs(&arguments.input)?);
        let done = one(arguments, name, inputs)?;
        if !arguments.json {
            for validated in &done.validated {
                println!("{validated}");
            }
            println!("{}", done.line);
        }
        if let Some(run) = &done.run {
            tracker.log(run)?;
        }
        reports.push(done.report);
        pages.extend(done.validated.iter().map(Validated::page));
    }
    if let Some(path) = &arguments.report {
        report::write(path, &format!("Training of {}", arguments.file.display()), &pages)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports).map_err(anyhow::Error::from)?);
    } else {
        tracker.say();
    }
    Ok(())
}

/// What came of one entry of `training:`.
struct Done {
    line: String,
    report: Value,
    validated: Vec<Validated>,
    run: Option<Run>,
}

/// Carries out one entry of `training:`, whatever it makes.
fn one(
    arguments: &Arguments,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
) -> Result<Done, Failure> {
    let running = &arguments.running;
    let plan = part(&arguments.file, name, inputs.clone())?;
    if !plan.fittings.is_empty() {
        let fitted = statistics::fit_step(&plan, name, running)?;
        let (line, report) = (fitted.line(), fitted.to_json());
        return Ok(Done { line, report, validated: Vec::new(), run: None });
    }
    let (training, samples, schema) = samples_of(&plan, name, running)?;
    let mut splits = training.validate.clone();
    let judged = !matches!(training.target, TrainingTarget::Nothing);
    if judged && splits.is_empty() && (arguments.validate || arguments.report.is_some()) {
        splits.push(usual(&samples));
    }
    let progress = Progress::detect(running.quiet);
    let mut validated = Vec::new();
    for split in &splits {
        validated.push(validate(training, &schema, &samples, split, progress)?);
    }
    let mut fitted = fitted(&plan, training, &samples, &schema, running)?;
    fitted.card.inputs(inputs);
    fitted.card.metrics(&validated);
    fitted.write(&arguments.file)?;
    let run = run_of(training, &fitted, &validated);
    let mut report = fitted.to_json();
    report["validated"] = serde_json::to_value(&validated).map_err(anyhow::Error::from)?;
    Ok(Done { line: fitted.line(), report, validated, run: Some(run) })
}

/// What is logged of a training.
fn run_of(training: &TrainingPlan, fitted: &Fitted, validated: &[Validated]) -> Run {
    let mut run = Run::new(&training.name, "train");
    run.param("plugin", training.plugin.display());
    run.param("features", training.features.join(","));
    for (name, value) in &training.params {
        run.param(name, value);
    }
    run.tag("weights_sha256", foreline_plugins::digest(&fitted.trained.weights));
    run.metric("rows", fitted.trained.rows_used as f64);
    for one in validated {
        one.log(&mut run);
    }
    run
}

/// Plans what leads to the training `name`.
///
/// # Errors
/// When the file has mistakes.
pub fn part(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
) -> Result<Plan, Failure> {
    load_again(file, Purpose::part(Only::Training(name.to_owned()), inputs))
}

/// Trains one entry of `training:` and writes its weights.
///
/// # Errors
/// When the file has mistakes or training fails.
pub fn fit(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<Fitted, Failure> {
    let fitted = fit_unwritten(file, name, inputs, running)?;
    fitted.write(file)?;
    Ok(fitted)
}

/// Trains one entry of `training:` and writes nothing.
///
/// # Errors
/// As [`fit`].
pub fn fit_unwritten(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<Fitted, Failure> {
    let plan = part(file, name, inputs.clone())?;
    let (training, samples, schema) = samples_of(&plan, name, running)?;
    let mut fitted = fitted(&plan, training, &samples, &schema, running)?;
    fitted.card.inputs(inputs);
    Ok(fitted)
}

/// Fits the weights of a training on all its rows.
fn fitted(
    plan: &Plan,
    training: &TrainingPlan,
    samples: &Samples,
    schema: &Schema,
    running: &Running,
) -> anyhow::Result<Fitted> {
    let name = training.name.clone();
    let bar = Progress::detect(running.quiet).spinner(&format!("training '{name}'"));
    let trained = learn(training, schema, &samples.set)?;
    bar.finish();
    let (weights, features) = (training.weights.clone(), training.features.len());
    let card = Card::of(plan, training, samples, schema, &trained);
    Ok(Fitted { name, weights, trained, features, card })
}

/// Runs what leads to the training `name` and keeps the rows that it learns from.
///
/// # Errors
/// When the plan has no such training, or the run fails.
pub fn samples_of<'p>(
    plan: &'p Plan,
    name: &str,
    running: &Running,
) -> Result<(&'p TrainingPlan, Samples, Schema), Failure> {
    let training = plan.training.iter().find(|t| t.name == name);
    let training = training.with_context(|| format!("there is no training '{name}'"))?;
    let stream = plan.stream_name(training.from);
    let counter = Progress::detect(running.quiet).counter("reading", "rows");
    let observer = RowBar::of(counter, plan);
    let kept = keep(plan, &[stream], running.workers(), Some(observer))?;
    let (schema, batch) = kept.streams.get(stream).context("the stream that was asked for")?;
    Ok((training, Samples::of(training, schema, batch)?, schema.clone()))
}

/// Fits the weights of a training on `set`.
///
/// # Errors
/// When the plugin's family cannot be trained, or not on these rows.
pub fn learn(
    training: &TrainingPlan,
    schema: &Schema,
    set: &TrainingSet,
) -> anyhow::Result<Trained> {
    let params = Value::Object(training.params.clone());
    let meta = meta(training, schema);
    foreline_plugins::train::train(family(&training.plugin)?, &params, set, &meta)
        .map_err(|e| anyhow!("training '{}': {e}", training.name))
}

/// The family of weights that a plugin reads.
fn family(plugin: &Path) -> anyhow::Result<&'static str> {
    let name = plugin.to_string_lossy();
    let bytes = match builtin(&name).filter(|_| name.starts_with("builtin:")) {
        Some(bytes) => bytes.to_vec(),
        None => std::fs::read(plugin).with_context(|| format!("read the plugin '{name}'"))?,
    };
    let family = family_of(&bytes).with_context(|| {
        format!(
            "the plugin '{name}' does not say what weights it reads; train them with its own tools"
        )
    })?;
    Ok(family.name())
}

fn meta(training: &TrainingPlan, schema: &Schema) -> ModelMeta {
    let mut meta = ModelMeta::remaining_life(&training.name, life_unit(schema.domain()));
    let (name, kind) = match &training.target {
        TrainingTarget::Remaining { .. } | TrainingTarget::Nothing => return meta,
        TrainingTarget::Column(name) => (name, OutputKind::Value),
        TrainingTarget::Class(name) => (name, OutputKind::ClassIndex),
    };
    meta.output = Output { name: name.clone(), kind, labels: Vec::new() };
    meta
}

/// Writes a file so that a reader sees all of it or the old one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let what = || format!("write '{}'", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(what)?;
    }
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).with_context(what)?;
    std::fs::File::open(&part).and_then(|f| f.sync_all()).with_context(what)?;
    std::fs::rename(&part, path).with_context(what)
}

impl Fitted {
    /// Writes the weights, and the card beside them.
    fn write(&self, file: &Path) -> anyhow::Result<()> {
        write_whole(&self.weights, &self.trained.weights)?;
        self.card.write(&self.weights, file)
    }

    /// One line about it.
    #[must_use]
    pub fn line(&self) -> String {
        let left_out = match self.trained.rows_dropped {
            0 => String::new(),
            n => format!(" ({} left out for missing values)", grouped(n as u64)),
        };
        format!(
            "trained '{}' on {} rows{left_out}, {} features: {} ({} bytes)",
            self.name,
            grouped(self.trained.rows_used as u64),
            self.features,
            self.weights.display(),
            grouped(self.trained.weights.len() as u64)
        )
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "weights": self.weights,
            "sha256": foreline_plugins::digest(&self.trained.weights),
            "rows": self.trained.rows_used,
            "left_out": self.trained.rows_dropped,
            "features": self.features,
        })
    }
}
