//! `foreline retrain`: new weights, judged beside those that are there, and proposed if they are not worse.
//!
//! What a reader would get wrong:
//!
//! * Nothing that runs is changed unless that is asked for: the new weights lie beside the old ones as `<weights>.candidate`.
//!   `--accept` puts them in their place, and `--swap` gives them to a pipeline that runs.
//! * Both are judged by the same evaluations, on the same rows. Weights that leave more rows without a usable prediction are
//!   worse, whatever the others are like.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use foreline_spec::{Outline, TrainedModel};
use serde::Serialize;

use crate::commands::{Format, Running};
use crate::evaluate::{Evaluated, judge_weights};
use crate::failure::{Failure, Outcome};
use crate::metrics::Report;
use crate::remote::Engine;
use crate::session::{Purpose, load};
use crate::train::card::card_of;
use crate::train::{fit_unwritten, given_inputs, source_path, write_whole};

/// What `foreline retrain` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    file: PathBuf,
    /// Only this entry of `training:`; default: all that train a model.
    #[arg(long)]
    only: Option<String>,
    /// What a source reads while it is learnt from, instead of what the file says: SOURCE=PATH. May be given several times.
    #[arg(long, value_name = "SOURCE=PATH", value_parser = source_path)]
    input: Vec<(String, PathBuf)>,
    /// Judge by this entry of `evaluation:`; may be given several times. Default: all of them.
    #[arg(long)]
    evaluation: Vec<String>,
    /// What must not get worse.
    #[arg(long, value_enum, default_value_t = Gate::Rmse)]
    gate: Gate,
    /// By how many per cent it may get worse all the same.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = per_cent)]
    worse_by: f64,
    /// Put the weights in the place of those that are there, which stay as `<weights>.previous`.
    #[arg(long)]
    accept: bool,
    /// Give the weights to the pipeline that runs there, such as http://127.0.0.1:8080, as a version of its model. A token is taken
    /// from the environment variable FORELINE_TOKEN.
    #[arg(long, value_name = "URL")]
    swap: Option<String>,
    /// What the version is called there.
    #[arg(long = "as", value_name = "NAME", default_value = "challenger", requires = "swap")]
    version: String,
    /// Have the version act there at once.
    #[arg(long, requires = "swap")]
    activate: bool,
    /// Workers and progress.
    #[command(flatten)]
    running: Running,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What is compared. Less is better of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Gate {
    /// Root mean square error.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// Mean of the PHM08 score, to which predictions that are too long count for more.
    ScoreMean,
}

impl Gate {
    fn name(self) -> &'static str {
        match self {
            Gate::Rmse => "RMSE",
            Gate::Mae => "MAE",
            Gate::ScoreMean => "mean score",
        }
    }

    /// What is compared of an evaluation: against capped labels where it has a cap.
    fn judges(self, evaluated: &Evaluated) -> Judgement {
        if let Some(classes) = &evaluated.classes {
            // Of classes the share of wrong ones is compared, whatever the gate.
            let value = classes.accuracy.map(|right| 1.0 - right);
            return Judgement { value, predictions: classes.rows, unusable: classes.unusable };
        }
        let Some(figures) = &evaluated.figures else {
            return Judgement { value: None, predictions: 0, unusable: 0 };
        };
        let report: &Report = figures.capped.as_ref().unwrap_or(&figures.uncapped);
        let value = match self {
            Gate::Rmse => report.rmse,
            Gate::Mae => report.mae,
            Gate::ScoreMean => report.score_mean,
        };
        Judgement { value, predictions: report.pairs, unusable: report.unusable }
    }
}

fn per_cent(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(format!("'{text}' is not a number of per cent, 0 or more"))
}

/// How good weights are in one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Judgement {
    value: Option<f64>,
    predictions: u64,
    unusable: u64,
}

/// One evaluation of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Compared {
    evaluation: String,
    /// Of the weights that are there; `None` where there are none yet.
    current: Option<Judgement>,
    candidate: Judgement,
    /// Why the candidate does not pass.
    refused: Option<String>,
}

/// What came of one entry of `training:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Retrained {
    name: String,
    candidate: PathBuf,
    sha256: String,
    rows: usize,
    gate: Gate,
    worse_by_per_cent: f64,
    evaluations: Vec<Compared>,
    /// Whether the weights are the ones that are there already.
    unchanged: bool,
    /// Whether the candidate passed every evaluation.
    proposed: bool,
    /// Whether it is in the place of the weights.
    accepted: bool,
    /// The steps that have it as a version now.
    swapped: Vec<String>,
}

/// Trains, judges and proposes what the file says.
///
/// # Errors
/// When the file has mistakes, there is nothing to train or to judge by, a candidate is refused, or a swap fails.
#[expect(clippy::print_stdout, reason = "the report is what the command ends with")]
pub fn retrain(arguments: &Arguments) -> Outcome {
    let outline = foreline_spec::outline(&arguments.file).map_err(anyhow::Error::from)?;
    let mut all = Vec::new();
    for (name, model) in chosen(arguments, &outline)? {
        let retrained = one(arguments, &outline, name, model)?;
        if !arguments.json {
            print!("{retrained}");
        }
        all.push(retrained);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    }
    if all.iter().all(|retrained| retrained.proposed) { Ok(()) } else { Err(Failure::Answer) }
}

/// The trainings of models that are asked for.
fn chosen<'o>(
    arguments: &Arguments,
    outline: &'o Outline,
) -> Result<Vec<(&'o String, &'o TrainedModel)>, Failure> {
    let file = arguments.file.display();
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = outline.models.iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        // A file with mistakes is said to have them, before it is said to have nothing to train.
        load(&arguments.file, Format::Text, Purpose { checking: true, ..Purpose::default() })?;
        let what = arguments.only.as_ref().map_or(String::new(), |name| format!(" '{name}'"));
        return Err(anyhow!("'{file}' has no 'training'{what} of a model").into());
    }
    if outline.evaluations.is_empty() {
        let error =
            anyhow!("'{file}' has no 'evaluation', so nothing says whether weights are good");
        return Err(error.into());
    }
    for name in &arguments.evaluation {
        if !outline.evaluations.contains_key(name) {
            return Err(anyhow!("'{file}' has no 'evaluation' '{name}'").into());
        }
    }
    if let Some((name, _)) = chosen.iter().find(|(_, model)| model.steps.is_empty()) {
        let error =
            anyhow!("no 'model' step reads the weights of '{name}', so they cannot be judged");
        return Err(error.into());
    }
    Ok(chosen)
}

/// Retrains one model.
fn one(
    arguments: &Arguments,
    outline: &Outline,
    name: &str,
    model: &TrainedModel,
) -> Result<Retrained, Failure> {
    let mut inputs = outline.trainings.get(name).cloned().unwrap_or_default();
    inputs.extend(given_inputs(&arguments.input)?);
    let fitted = fit_unwritten(&arguments.file, name, inputs, &arguments.running)?;
    let bytes = fitted.trained.weights;
    let candidate = beside(&model.weights, ".candidate");
    write_whole(&candidate, &bytes)?;
    fitted.card.write(&candidate, &arguments.file)?;
    let current = match std::fs::read(&model.weights) {
        Ok(current) => Some(current),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(anyhow!(e).context(model.weights.display().to_string()).into()),
    };
    let unchanged = current.as_ref() == Some(&bytes);
    let evaluations = compared(arguments, outline, model, &candidate, current.is_some())?;
    let mut retrained = Retrained {
        name: name.to_owned(),
        sha256: foreline_plugins::digest(&bytes),
        rows: fitted.trained.rows_used,
        gate: arguments.gate,
        worse_by_per_cent: arguments.worse_by,
        proposed: evaluations.iter().all(|e| e.refused.is_none()),
        evaluations,
        unchanged,
        candidate,
        accepted: false,
        swapped: Vec::new(),
    };
    let report = beside(&retrained.candidate, ".json");
    let text = serde_json::to_string_pretty(&retrained).map_err(anyhow::Error::from)?;
    write_whole(&report, text.as_bytes())?;
    if retrained.proposed {
        if let Some(url) = &arguments.swap {
            let engine = Engine::at(url)?;
            for step in &model.steps {
                engine.give(step, &arguments.version, &bytes)?;
                if arguments.activate {
                    engine.activate(step, &arguments.version)?;
                }
                retrained.swapped.push(step.clone());
            }
        }
        if arguments.accept {
            accept(&model.weights, &retrained.candidate, current.as_deref())?;
            retrained.accepted = true;
        }
    }
    Ok(retrained)
}

/// Both weights in every evaluation that is asked for.
fn compared(
    arguments: &Arguments,
    outline: &Outline,
    model: &TrainedModel,
    candidate: &Path,
    has_current: bool,
) -> Result<Vec<Compared>, Failure> {
    let asked = &arguments.evaluation;
    let mut all = Vec::new();
    let candidate = std::path::absolute(candidate).context("the working folder is gone")?;
    for (name, config) in &outline.evaluations {
        if !asked.is_empty() && !asked.contains(name) {
            continue;
        }
        let judge = |weights: BTreeMap<String, PathBuf>| {
            let evaluated = judge_weights(
                &arguments.file,
                name,
                config,
                BTreeMap::new(),
                weights,
                &arguments.running,
            )?;
            Ok::<_, Failure>(arguments.gate.judges(&evaluated))
        };
        let new = model.steps.iter().map(|step| (step.clone(), candidate.clone())).collect();
        let candidate = judge(new)?;
        let current = if has_current { Some(judge(BTreeMap::new())?) } else { None };
        let refused = refusal(current.as_ref(), &candidate, arguments.gate, arguments.worse_by);
        all.push(Compared { evaluation: name.clone(), current, candidate, refused });
    }
    Ok(all)
}

/// Why a candidate does not pass.
fn refusal(
    current: Option<&Judgement>,
    candidate: &Judgement,
    gate: Gate,
    worse_by: f64,
) -> Option<String> {
    let what = gate.name();
    let Some(value) = candidate.value else {
        return Some(format!("the candidate has no {what}: no prediction could be judged"));
    };
    let current = current?;
    if candidate.unusable > current.unusable {
        return Some(format!(
            "the candidate leaves {} rows without a usable prediction, the current weights {}",
            candidate.unusable, current.unusable
        ));
    }
    let most = current.value? * (1.0 + worse_by / 100.0);
    (value > most).then(|| format!("{what} {value:.4} is above {most:.4}"))
}

/// Puts the candidate in the place of the weights; those stay as `.previous`. Whoever reads the weights sees the old ones or the
/// new ones, also when the machine stops in between.
fn accept(weights: &Path, candidate: &Path, current: Option<&[u8]>) -> anyhow::Result<()> {
    if let Some(current) = current {
        write_whole(&beside(weights, ".previous"), current)?;
    }
    let what = || format!("put '{}' in its place", candidate.display());
    std::fs::rename(candidate, weights).with_context(what)?;
    // It names the weights that it is of, so one that is left behind by a death is not taken for theirs.
    std::fs::rename(card_of(candidate), card_of(weights)).with_context(what)?;
    let folder = weights.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).with_context(what)?;
    folder.sync_all().with_context(what)
}

/// A file beside another, of its name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

impl std::fmt::Display for Retrained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |judgement: Option<&Judgement>| {
            judgement.and_then(|j| j.value).map_or("-".to_owned(), |value| format!("{value:.4}"))
        };
        writeln!(
            f,
            "retrained '{}' on {} rows: {}",
            self.name,
            self.rows,
            self.candidate.display()
        )?;
        writeln!(f, "  sha256 {}", self.sha256)?;
        for e in &self.evaluations {
            let (now, new) = (number(e.current.as_ref()), number(Some(&e.candidate)));
            writeln!(f, "  {}: {} {now} now, {new} new", e.evaluation, self.gate.name())?;
            if let Some(why) = &e.refused {
                writeln!(f, "    {why}")?;
            }
        }
        for step in &self.swapped {
            writeln!(f, "  given to step '{step}' of the pipeline that runs")?;
        }
        let end = match self {
            Retrained { proposed: false, .. } => "refused: what is there stays",
            Retrained { accepted: true, .. } => "accepted: the weights are in place",
            Retrained { unchanged: true, .. } => "proposed, and the same as what is there",
            _ => {
                "proposed: put it in place with --accept, or give it to a pipeline that runs with --swap"
            }
        };
        writeln!(f, "  {end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(value: Option<f64>, unusable: u64) -> Judgement {
        Judgement { value, predictions: 100, unusable }
    }

    #[test]
    fn what_is_worse_does_not_pass() {
        let current = judged(Some(10.0), 2);
        let refused = |value, unusable, worse_by| {
            refusal(Some(&current), &judged(value, unusable), Gate::Rmse, worse_by).is_some()
        };
        assert!(!refused(Some(10.0), 2, 0.0), "as good is not worse");
        assert!(!refused(Some(9.0), 0, 0.0));
        assert!(refused(Some(10.01), 2, 0.0));
        assert!(!refused(Some(10.4), 2, 5.0) && refused(Some(10.6), 2, 5.0));
        assert!(refused(Some(1.0), 3, 0.0), "better on fewer rows is not better");
        assert!(refused(None, 0, 0.0));
        assert_eq!(refusal(None, &judged(Some(99.0), 9), Gate::Mae, 0.0), None, "the first ones");
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        assert_eq!(per_cent("2.5"), Ok(2.5));
        for wrong in ["-1", "NaN", "inf", "x"] {
            assert!(per_cent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn accepting_keeps_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("pump.weights");
        let candidate = beside(&weights, ".candidate");
        assert!(candidate.ends_with("pump.weights.candidate"));
        std::fs::write(&weights, "old").unwrap();
        std::fs::write(&candidate, "new").unwrap();
        std::fs::write(card_of(&candidate), "its card").unwrap();
        accept(&weights, &candidate, Some(b"old")).unwrap();
        assert_eq!(std::fs::read_to_string(&weights).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(beside(&weights, ".previous")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(card_of(&weights)).unwrap(), "its card");
        assert!(!candidate.exists());
    }
}
