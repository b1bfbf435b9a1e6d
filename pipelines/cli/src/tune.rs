//! `foreline tune`: searches settings of a pipeline file.
//!
//! What a reader would get wrong: a trial plans the file anew with other values in some places and carries out what a run
//! would, so that nothing is searched that does not exist. What a trial gave is kept under a digest of all that it depends
//! on, rows included; a search that is begun again does only what is new.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use foreline_engine::Schema;
use foreline_spec::{Figure, Only, Outline, SourceOverride, TrainingPlan, TuningConfig};
use foreline_spec::{ValidateConfig, with_settings};
use serde::Serialize;
use serde_json::Value;

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::learning::samples::Samples;
use crate::learning::split::{describe, usual};
use crate::mlflow::{Run, Tracking};
use crate::progress::{Bar, Progress};
use crate::session::{Purpose, load, load_again, stop_on_signal};
use crate::table::{Table, decimal};
use crate::train::{given_inputs, samples_of, source_path, statistics, write_whole};
use crate::validate::error_of;

mod one_step;
mod store;
mod trials;

use store::Store;
pub use trials::Settings;

/// Trials that the table shows, the best first.
const MOST_SHOWN: usize = 10;

/// What a search that was stopped says.
const STOPPED: &str = "stopped; begin the search again and it goes on from here";

/// What `foreline tune` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    pub file: PathBuf,
    /// Only this entry of `tuning:`; default: all of them.
    #[arg(long)]
    pub only: Option<String>,
    /// How many trials, whatever the file says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub trials: Option<u32>,
    /// What a source reads instead of what the file says: SOURCE=PATH. May be given several times.
    #[arg(long, value_name = "SOURCE=PATH", value_parser = source_path)]
    pub input: Vec<(String, PathBuf)>,
    /// Write the best settings into the pipeline file, in the places that were searched; all else stays as it is.
    #[arg(long)]
    pub apply: bool,
    /// Forget what earlier searches found.
    #[arg(long)]
    pub fresh: bool,
    /// Where the trials are logged.
    #[command(flatten)]
    pub tracking: Tracking,
    /// Workers and progress. As many trials run at once as there are workers.
    #[command(flatten)]
    pub running: Running,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a search found.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// The entry of `tuning:`.
    pub name: String,
    /// What was made small, in words.
    pub objective: String,
    /// Every trial; that of the file itself first.
    pub trials: Vec<Trial>,
    /// The place of the chosen one.
    pub best: Option<usize>,
    /// How many trials were known from an earlier search.
    pub known: usize,
}

/// Settings and what came of them.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The values, by place.
    pub settings: Settings,
    /// What they gave; nothing where the settings cannot be, or the figure is not defined.
    pub figure: Option<f64>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The figure by column, where columns are judged.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, f64>,
}

/// Carries out the searches of a file and prints what came of them.
///
/// # Errors
/// When the file has mistakes, has nothing to tune, or no trial could be carried out.
#[expect(clippy::print_stdout, reason = "the report is what the command ends with")]
pub fn tune(arguments: &Arguments) -> Outcome {
    let file = &arguments.file;
    let outline = foreline_spec::outline(file).map_err(anyhow::Error::from)?;
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let tunings: Vec<_> = outline.tunings.iter().filter(|(name, _)| wanted(name)).collect();
    if tunings.is_empty() {
        load(file, Format::Text, Purpose { checking: true, ..Purpose::default() })?;
        let what = arguments.only.as_ref().map_or(String::new(), |name| format!(" '{name}'"));
        return Err(anyhow!("'{}' has no 'tuning'{what}", file.display()).into());
    }
    let tracker = arguments.tracking.open(file)?;
    let stop = stop_on_signal()?;
    let mut all = Vec::new();
    for (name, config) in tunings {
        let search = Search { arguments, outline: &outline, name, config, stop: &stop };
        let tuned = search.carry_out()?;
        if !arguments.json {
            println!("{tuned}");
        }
        for run in tuned.runs() {
            tracker.log(&run)?;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(anyhow!(STOPPED).into());
        }
        if arguments.apply {
            apply(file, &tuned)?;
        }
        all.push(tuned);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    } else {
        tracker.say();
    }
    Ok(())
}

/// Writes the best settings into the file.
#[expect(clippy::print_stderr, reason = "what was changed is told beside a report in JSON too")]
fn apply(file: &Path, tuned: &Tuned) -> Result<()> {
    let Some(best) = tuned.best.and_then(|best| tuned.trials.get(best)) else { return Ok(()) };
    let text = std::fs::read_to_string(file).context("read the pipeline file")?;
    let written = with_settings(&text, &best.settings).map_err(|e| anyhow!(e))?;
    if written == text {
        eprintln!("'{}' has the best settings already", file.display());
        return Ok(());
    }
    write_whole(file, written.as_bytes())?;
    for (path, value) in &best.settings {
        eprintln!("wrote {path}: {value}");
    }
    Ok(())
}

/// One search.
struct Search<'a> {
    arguments: &'a Arguments,
    outline: &'a Outline,
    name: &'a str,
    config: &'a TuningConfig,
    stop: &'a AtomicBool,
}

impl Search<'_> {
    fn carry_out(&self) -> Result<Tuned, Failure> {
        let most = self.arguments.trials.map(|n| n as usize).or(self.config.trials);
        let trials = trials::trials(self.config, &self.outline.settings, most)?;
        match (&self.config.training, &self.config.step) {
            (Some(training), _) => self.of_training(training, &trials),
            (None, Some(step)) => one_step::search(self, step, &trials),
            (None, None) => {
                // The check says what is missing.
                let purpose = Purpose { checking: true, ..Purpose::default() };
                load(&self.arguments.file, Format::Text, purpose)?;
                Err(anyhow!("tuning '{}' has neither 'training' nor 'step'", self.name).into())
            }
        }
    }

    fn progress(&self, total: usize) -> Bar {
        let progress = Progress::detect(self.arguments.running.quiet);
        progress.bar(&format!("tuning '{}'", self.name), total as u64, "trials")
    }

    /// What a source reads in a trial.
    fn inputs(
        &self,
        own: BTreeMap<String, SourceOverride>,
    ) -> Result<BTreeMap<String, SourceOverride>> {
        let mut inputs = own;
        inputs.extend(given_inputs(&self.arguments.input)?);
        Ok(inputs)
    }

    /// Trials whose features are the same share the rows; within such a group they run at once.
    fn of_training(&self, training: &str, trials: &[Settings]) -> Result<Tuned, Failure> {
        let own = format!("training.{training}.params.");
        let features = |trial: &Settings| -> Settings {
            let kept = trial.iter().filter(|(path, _)| !path.starts_with(&own));
            kept.map(|(path, value)| (path.clone(), value.clone())).collect()
        };
        let mut groups: Vec<(Settings, Vec<usize>)> = Vec::new();
        for (n, trial) in trials.iter().enumerate() {
            let of = features(trial);
            match groups.iter_mut().find(|(settings, _)| *settings == of) {
                Some((_, members)) => members.push(n),
                None => groups.push((of, vec![n])),
            }
        }
        let store = Store::open(&self.arguments.file, self.name, self.arguments.fresh)?;
        let (bar, done, known) =
            (self.progress(trials.len()), AtomicUsize::new(0), AtomicUsize::new(0));
        let mut split = None;
        let mut results: Vec<Trial> = trials.iter().map(Trial::new).collect();
        for (settings, members) in &groups {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let group = Group::prepare(self, training, settings);
            let group = match group {
                Ok(group) => group,
                Err(e) => {
                    let why = failed(e)?;
                    members.iter().for_each(|&n| results[n].failed = Some(why.clone()));
                    continue;
                }
            };
            split.get_or_insert_with(|| group.split.clone());
            let tick = || {
                bar.set(done.fetch_add(1, Ordering::Relaxed) as u64 + 1, trials.len() as u64);
            };
            let work = Work { search: self, training, group: &group, store: &store, known: &known };
            let found = work.all(members, trials, &tick);
            for (n, outcome) in found {
                match outcome {
                    Ok(figure) => results[n].figure = figure,
                    Err(e) => results[n].failed = Some(format!("{e:#}")),
                }
            }
        }
        bar.finish();
        let figure = self.config.best.map_or("error", figure_name);
        let way = split.as_ref().map_or_else(String::new, |s| format!(", {}", describe(s)));
        let tuned = Tuned {
            name: self.name.to_owned(),
            objective: format!("{figure} of training '{training}'{way}"),
            best: smallest(&results),
            trials: results,
            known: known.into_inner(),
        };
        tuned.with_a_figure()
    }
}

/// The rows of one choice of features.
struct Group {
    settings: Settings,
    schema: Schema,
    samples: Samples,
    split: ValidateConfig,
    digest: String,
    inputs: BTreeMap<String, SourceOverride>,
    /// Statistics that belong to these settings.
    _fitted: Option<tempfile::TempDir>,
}

impl Group {
    fn prepare(search: &Search<'_>, training: &str, settings: &Settings) -> Result<Self, Failure> {
        let (file, running) = (&search.arguments.file, &search.arguments.running);
        let outline = search.outline;
        let quiet = Running { quiet: true, ..*running };
        let mut settings = settings.clone();
        let as_it_is =
            settings.iter().all(|(path, value)| outline.settings.get(path) == Some(value));
        let fitted = if as_it_is { None } else { Some(tempfile::tempdir().context("a folder")?) };
        // Other settings make other statistics of the steps behind them.
        for before in outline.before.get(training).into_iter().flatten() {
            let (Some(folder), Some(place)) = (&fitted, outline.statistics.get(before)) else {
                continue;
            };
            let path = folder.path().join(format!("{before}.json"));
            settings.insert(place.clone(), Value::from(path.display().to_string()));
            let inputs =
                search.inputs(outline.trainings.get(before).cloned().unwrap_or_default())?;
            let purpose = Purpose {
                settings: settings.clone(),
                ..Purpose::part(Only::Training(before.clone()), inputs)
            };
            statistics::fit_step(&load_again(file, purpose)?, before, &quiet)?;
        }
        let inputs = search.inputs(outline.trainings.get(training).cloned().unwrap_or_default())?;
        let purpose = Purpose {
            settings: settings.clone(),
            ..Purpose::part(Only::Training(training.to_owned()), inputs.clone())
        };
        let plan = load_again(file, purpose)?;
        let (planned, samples, schema) = samples_of(&plan, training, &quiet)?;
        let split = planned.validate.first().cloned().unwrap_or_else(|| usual(&samples));
        let digest = store::digest_of(&samples);
        Ok(Group { settings, schema, samples, split, digest, inputs, _fitted: fitted })
    }
}

/// The trials of one group.
struct Work<'a> {
    search: &'a Search<'a>,
    training: &'a str,
    group: &'a Group,
    store: &'a Store<Option<f64>>,
    known: &'a AtomicUsize,
}

impl Work<'_> {
    /// What each of `members` gave, by its number; nothing of those that were not begun when the user stopped.
    fn all(
        &self,
        members: &[usize],
        trials: &[Settings],
        tick: &(dyn Fn() + Sync),
    ) -> BTreeMap<usize, Result<Option<f64>>> {
        at_once(self.search.arguments.running.workers(), self.search.stop, members, |n| {
            let outcome = self.one(&trials[n]);
            tick();
            outcome
        })
    }

    fn one(&self, trial: &Settings) -> Result<Option<f64>> {
        let mut settings = self.group.settings.clone();
        settings.extend(trial.iter().map(|(path, value)| (path.clone(), value.clone())));
        let only = Only::Training(self.training.to_owned());
        let purpose = Purpose { settings, ..Purpose::part(only, self.group.inputs.clone()) };
        let plan = load_again(&self.search.arguments.file, purpose)
            .map_err(|_| anyhow!("the file cannot be with these settings"))?;
        let planned = plan.training.iter().find(|t| t.name == self.training);
        let planned: &TrainingPlan = planned.context("the training that was asked for")?;
        let (figure, group) = (self.search.config.best, self.group);
        let key = store::key(planned, &group.split, figure, &group.digest);
        if let Some(known) = self.store.get(&key) {
            self.known.fetch_add(1, Ordering::Relaxed);
            return Ok(known);
        }
        let found = error_of(planned, &group.schema, &group.samples, &group.split, figure)?;
        self.store.put(&key, trial, &found)?;
        Ok(found)
    }
}

/// What each of the tasks `wanted` gave, by its number, as many at once as there are `threads`; nothing of those that were
/// not begun when the user stopped.
fn at_once<T: Send>(
    threads: usize,
    stop: &AtomicBool,
    wanted: &[usize],
    task: impl Fn(usize) -> T + Sync,
) -> BTreeMap<usize, T> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(&n) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let outcome = task(n);
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(n, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(wanted.len()) {
            scope.spawn(work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Why a group could not be prepared, in words; a mistake of the file was printed and ends the search.
fn failed(failure: Failure) -> Result<String, Failure> {
    match failure {
        Failure::Running(e) => Ok(format!("{e:#}")),
        other => Err(other),
    }
}

fn figure_name(figure: Figure) -> &'static str {
    match figure {
        Figure::Rmse => "RMSE",
        Figure::Mae => "MAE",
        Figure::Score => "mean PHM08 score",
        Figure::WeightedRmse => "weighted RMSE",
        Figure::MinMaxRmse => "min-max RMSE",
        Figure::Pinball => "pinball loss",
        Figure::LogLoss => "log loss",
        Figure::ErrorRate => "error rate",
    }
}

/// The trial with the smallest figure, of equal ones the first.
fn smallest(trials: &[Trial]) -> Option<usize> {
    let with = trials.iter().enumerate().filter_map(|(n, t)| Some((n, t.figure?)));
    with.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))).map(|(n, _)| n)
}

impl Trial {
    fn new(settings: &Settings) -> Self {
        Trial { settings: settings.clone(), figure: None, failed: None, columns: BTreeMap::new() }
    }
}

impl Tuned {
    /// A search in which every trial failed says why.
    fn with_a_figure(self) -> Result<Self, Failure> {
        match self.trials.iter().find_map(|t| t.failed.as_ref()) {
            Some(why) if self.best.is_none() => {
                Err(anyhow!("no trial of tuning '{}' gave a figure: {why}", self.name).into())
            }
            _ => Ok(self),
        }
    }

    /// What is logged: a run a trial.
    fn runs(&self) -> Vec<Run> {
        let run = |(n, trial): (usize, &Trial)| {
            let mut run = Run::new(&format!("{} trial {n}", self.name), "tune");
            run.tag("objective", &self.objective);
            for (path, value) in &trial.settings {
                run.param(path, value);
            }
            if let Some(figure) = trial.figure {
                run.metric("objective", figure);
            }
            run
        };
        self.trials.iter().enumerate().map(run).collect()
    }
}

impl std::fmt::Display for Tuned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n_failed = self.trials.iter().filter(|t| t.failed.is_some()).count();
        let known = match self.known {
            0 => String::new(),
            n => format!(", {n} known from before"),
        };
        let failed = match n_failed {
            0 => String::new(),
            n => format!(", {n} failed"),
        };
        writeln!(
            f,
            "tuning '{}': {}\n{} trials{known}{failed}",
            self.name,
            self.objective,
            self.trials.len()
        )?;
        let paths: Vec<&String> =
            self.trials.first().map(|t| t.settings.keys().collect()).unwrap_or_default();
        let header = ["".to_owned(), "figure".to_owned()];
        let mut table = Table::new(header.into_iter().chain(paths.iter().map(|p| (*p).clone())));
        let mut order: Vec<usize> = (0..self.trials.len()).collect();
        let curve = self.trials.iter().any(|t| !t.columns.is_empty());
        if !curve {
            let figure = |n: &usize| self.trials[*n].figure.unwrap_or(f64::INFINITY);
            order.sort_by(|a, b| figure(a).total_cmp(&figure(b)).then(a.cmp(b)));
            order.truncate(MOST_SHOWN);
            if !order.contains(&0) {
                order.push(0);
            }
        }
        for n in order {
            let trial = &self.trials[n];
            let mark = match n {
                _ if Some(n) == self.best => "best",
                0 => "file",
                _ => "",
            };
            let cells = [mark.to_owned(), decimal(trial.figure, 5)];
            table.push(cells.into_iter().chain(trial.settings.values().map(ToString::to_string)));
        }
        write!(f, "{table}")?;
        if let Some(why) = self.trials.iter().find_map(|t| t.failed.as_ref()) {
            writeln!(f, "a trial that failed: {why}")?;
        }
        Ok(())
    }
}
