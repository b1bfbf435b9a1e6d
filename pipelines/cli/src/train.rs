//! `foreline train`: weights from the rows of a stream, statistics from the rows that a step reads.
//!
//! The rows come through the same steps that run live, so that a model never sees a feature computed in another way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use arrow::array::{AsArray as _, BooleanArray};
use clap::Args;
use foreline_engine::{Batch, Schema};
use foreline_plugins::train::{ModelMeta, Trained, TrainingSet};
use foreline_plugins::{builtin, family_of};
use foreline_sdk::weights::{Output, OutputKind};
use foreline_spec::{Only, Plan, SourceOverride, TrainingPlan, TrainingTarget};
use serde_json::{Value, json};

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::learning::{classes, life, life_unit, matrix, numbers, remaining};
use crate::progress::Progress;
use crate::session::{Purpose, RowBar, keep, load, load_again};
use crate::table::grouped;

pub mod statistics;

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
    let mut reports = Vec::new();
    for name in names {
        let mut inputs = outline.trainings.get(name).cloned().unwrap_or_default();
        inputs.extend(given_inputs(&arguments.input)?);
        let (line, report) = one(&arguments.file, name, inputs, &arguments.running)?;
        if !arguments.json {
            println!("{line}");
        }
        reports.push(report);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports).map_err(anyhow::Error::from)?);
    }
    Ok(())
}

/// Carries out one entry of `training:`, whatever it makes; a line about it, and the same as JSON.
fn one(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<(String, Value), Failure> {
    let plan = part(file, name, inputs)?;
    if plan.fittings.is_empty() {
        let fitted = fit_model(&plan, name, running)?;
        return Ok((fitted.line(), fitted.to_json()));
    }
    let fitted = statistics::fit_step(&plan, name, running)?;
    Ok((fitted.line(), fitted.to_json()))
}

/// What leads to the training `name`.
fn part(
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
    fit_model(&part(file, name, inputs)?, name, running)
}

/// Trains one entry of `training:` and writes nothing.
///
/// # Errors
/// As [`fit`].
pub fn learn(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<Fitted, Failure> {
    learnt(&part(file, name, inputs)?, name, running)
}

fn fit_model(plan: &Plan, name: &str, running: &Running) -> Result<Fitted, Failure> {
    let fitted = learnt(plan, name, running)?;
    write_whole(&fitted.weights, &fitted.trained.weights)?;
    Ok(fitted)
}

fn learnt(plan: &Plan, name: &str, running: &Running) -> Result<Fitted, Failure> {
    let training = plan.training.iter().find(|t| t.name == name);
    let training = training.with_context(|| format!("there is no training '{name}'"))?;
    let progress = Progress::detect(running.quiet);
    let stream = plan.stream_name(training.from);
    let observer = RowBar::of(progress.counter("reading", "rows"), plan);
    let kept = keep(plan, &[stream], running.workers(), Some(observer))?;
    let (schema, batch) = kept.streams.get(stream).context("the stream that was asked for")?;
    let set = training_set(training, schema, batch)?;
    let bar = progress.spinner(&format!("training '{name}'"));
    let params = serde_json::Value::Object(training.params.clone());
    let meta = meta(training, schema);
    let trained = foreline_plugins::train::train(family(&training.plugin)?, &params, &set, &meta)
        .map_err(|e| anyhow!("training '{name}': {e}"))?;
    bar.finish();
    let features = training.features.len();
    Ok(Fitted { name: name.to_owned(), weights: training.weights.clone(), trained, features })
}

/// The rows of the stream as a matrix and a target.
fn training_set(
    training: &TrainingPlan,
    schema: &Schema,
    batch: &Batch,
) -> anyhow::Result<TrainingSet> {
    let keep = match &training.filter {
        None => vec![true; batch.len()],
        Some(filter) => {
            let keep = filter.evaluate(&batch.rows).context("the 'where' of the training")?;
            // Null is not true, as everywhere else in SQL.
            keep.as_boolean().iter().map(|keep| keep == Some(true)).collect()
        }
    };
    // A machine's rows resemble one another, so a trainer holds back all of them or none.
    let numbered = (0_u32..).zip(batch.groups());
    let groups = numbered.flat_map(|(n, group)| (group.start..group.end).map(move |_| n)).collect();
    let rows = batch.filter(&BooleanArray::from(keep.clone()))?;
    let (y, labels) = match &training.target {
        // Counted to the last row of the key, which the filter may leave out.
        TrainingTarget::Remaining { cap } => {
            let cap = cap.map(|c| life(c, schema.domain()));
            (kept(remaining(batch, schema, cap), &keep), vec![])
        }
        TrainingTarget::Column(name) => (numbers(&rows, schema, name)?, vec![]),
        TrainingTarget::Class(name) => classes(&rows, schema, name)?,
    };
    let unit = |name: &String| {
        let column = schema.column(name);
        column.and_then(|c| c.unit.as_ref()).map(|u| u.code().to_owned())
    };
    Ok(TrainingSet {
        feature_names: training.features.clone(),
        units: training.features.iter().map(unit).collect(),
        rows: rows.len(),
        x: matrix(&rows, schema, &training.features)?,
        y,
        labels,
        groups: kept(groups, &keep),
    })
}

/// The values of the rows that are learnt from.
fn kept<T>(values: Vec<T>, keep: &[bool]) -> Vec<T> {
    values.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| value).collect()
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
        TrainingTarget::Remaining { .. } => return meta,
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
