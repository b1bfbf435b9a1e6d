//! What a file can be trained and judged on, before its pipeline is planned.
//!
//! `foreline train` and `foreline evaluate` plan a file once for every entry, with that entry's inputs and only as far
//! as its stream; this tells them what entries there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use foreline_plugins::ModelConfig;

use crate::check::{ReadError, SourceOverride, read_text};
use crate::file::{EvaluationConfig, TrainingConfig, TuningConfig};
use crate::kinds::{Kinds, Language};
use crate::read::{Named, PipelineFile, Reader, StepBlock};
use crate::secret::{ProcessEnvironment, Secrets};
use crate::setting;
use crate::yaml::{Node, parse};

/// The entries of `training` and `evaluation` that can be read; what is wrong with others is for a check to say.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The inputs of each training, by name.
    pub trainings: BTreeMap<String, BTreeMap<String, SourceOverride>>,
    /// The names of the trainings in the order in which they can be carried out: a step is fitted before what is learnt
    /// from what comes out of it; else that of the file.
    pub order: Vec<String>,
    /// The models that are trained, by the name of the training.
    pub models: BTreeMap<String, TrainedModel>,
    /// Each evaluation, by name.
    pub evaluations: BTreeMap<String, EvaluationConfig>,
    /// Each search, by name.
    pub tunings: BTreeMap<String, TuningConfig>,
    /// By training of a step: the place of its file of statistics.
    pub statistics: BTreeMap<String, String>,
    /// By training: the fittings of steps that lead to it, in their order.
    pub before: BTreeMap<String, Vec<String>>,
    /// The settings of the file that searches change, by place, as they are.
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// A model that is trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainedModel {
    /// Where its weights are written.
    pub weights: PathBuf,
    /// The `model` steps that read them.
    pub steps: Vec<String>,
}

/// Reads the outline of a file; empty where the file is not YAML.
///
/// # Errors
/// When the file cannot be read.
pub fn outline(file: &Path) -> Result<Outline, ReadError> {
    let text = read_text(file)?;
    let Ok((mut root, _)) = parse(&text) else { return Ok(Outline::default()) };
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut out = Vec::new();
    Secrets::new(&ProcessEnvironment, folder).resolve(&mut root, &mut out);
    let kinds = Kinds::all();
    let language = Language::new(&kinds);
    let read = Reader { kinds: &kinds, language: &language, out: &mut out }.file(&root);
    let Some(read) = read else { return Ok(Outline::default()) };
    let inputs = |input: &BTreeMap<String, String>| {
        let paths = input.iter().map(|(source, path)| (source.clone(), PathBuf::from(path)));
        paths.map(|(source, path)| (source, SourceOverride::Path(path))).collect()
    };
    Ok(Outline {
        trainings: read
            .training
            .iter()
            .map(|t| (t.name.to_owned(), inputs(&t.config.input)))
            .collect(),
        statistics: statistics(&read),
        before: before(&read),
        order: in_order(&read),
        settings: settings(&read, &root),
        models: models(&read, folder),
        tunings: read.tuning.into_iter().map(|t| (t.name.to_owned(), t.config)).collect(),
        evaluations: read.evaluation.into_iter().map(|e| (e.name.to_owned(), e.config)).collect(),
    })
}

fn statistics(file: &PipelineFile<'_>) -> BTreeMap<String, String> {
    let place = |t: &Named<'_, TrainingConfig>| {
        let step = file.steps.iter().find(|s| Some(s.name) == t.config.step.as_deref())?;
        let entry = step.kind.as_ref()?.entry;
        entry.value.get("statistics")?;
        Some((t.name.to_owned(), format!("steps.{}.{}.statistics", step.name, entry.key)))
    };
    file.training.iter().filter_map(place).collect()
}

fn before(file: &PipelineFile<'_>) -> BTreeMap<String, Vec<String>> {
    let order = in_order(file);
    let of = |t: &Named<'_, TrainingConfig>| {
        let streams = leading_to(file, file.learns_from(&t.config));
        let fits = |name: &&String| {
            let other = file.training.iter().find(|o| o.name == **name);
            other.and_then(|o| o.config.step.as_deref()).is_some_and(|step| streams.contains(step))
        };
        (t.name.to_owned(), order.iter().filter(fits).cloned().collect())
    };
    file.training.iter().map(of).collect()
}

/// What stands at the places that searches try; places that lead nowhere are for a check to report.
fn settings(file: &PipelineFile<'_>, root: &Node) -> BTreeMap<String, serde_json::Value> {
    let places = file.tuning.iter().flat_map(|t| t.config.settings.keys());
    places
        .filter_map(|path| Some((path.clone(), setting::find(root, path).ok()?.to_json())))
        .collect()
}

/// The models that are trained; a training of which a key is missing is none.
fn models(file: &PipelineFile<'_>, folder: &Path) -> BTreeMap<String, TrainedModel> {
    let reads = |step: &&StepBlock<'_>, weights: &Path| {
        let config = step.kind.as_ref().and_then(|kind| kind.config.as_any().downcast_ref());
        config.is_some_and(|c: &ModelConfig| {
            c.weights.as_ref().is_some_and(|path| folder.join(path) == weights)
        })
    };
    let trainings = file.training.iter().filter(|t| t.config.step.is_none());
    let models = trainings.filter_map(|t| {
        let weights = folder.join(t.config.weights.as_ref()?);
        let steps = file.steps.iter().filter(|step| reads(step, &weights));
        let steps = steps.map(|step| step.name.to_owned()).collect();
        Some((t.name.to_owned(), TrainedModel { weights, steps }))
    });
    models.collect()
}

/// The trainings, each behind the fittings of the steps that lead to it.
fn in_order(file: &PipelineFile<'_>) -> Vec<String> {
    let mut left: Vec<_> = file.training.iter().collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |at: &usize| {
            let before = leading_to(file, file.learns_from(&left[*at].config));
            let fits = |t: &&str| before.contains(*t);
            left.iter().filter_map(|t| t.config.step.as_deref()).any(|step| fits(&step))
        };
        // Steps in a circle are for a check to report; the order of the file is as good as any.
        let next = (0..left.len()).find(|at| !waits(at)).unwrap_or(0);
        order.push(left.remove(next).name.to_owned());
    }
    order
}

/// The names of `streams` and of all that leads to them.
fn leading_to<'f>(file: &'f PipelineFile<'_>, streams: Vec<&'f str>) -> BTreeSet<&'f str> {
    let mut open = streams;
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if found.insert(name)
            && let Some(step) = file.steps.iter().find(|s| s.name == name)
            && let Some(common) = &step.common
        {
            open.extend(common.from.list().iter().map(String::as_str));
        }
    }
    found
}
