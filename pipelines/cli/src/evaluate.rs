//! `foreline evaluate`: predictions beside the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use arrow::array::AsArray as _;
use clap::Args;
use foreline_engine::{Batch, Schema, TimeDomain};
use foreline_spec::{EvaluationConfig, JudgedRows, Only, Outline, SourceOverride, TruthConfig};
use serde::Serialize;
use serde_json::json;

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::learning::{
    Judged, Lives, Truth, key_names, life, numbers, truth_by_line, truth_from_table,
};
use crate::metrics::alarms::{AlarmReport, alarms};
use crate::metrics::classes::ClassReport;
use crate::metrics::prognosis::{
    Course, IntervalReport, Point, PrognosisReport, intervals, prognosis,
};
use crate::metrics::{Comparison, ComparisonReport};
use crate::mlflow::{Run, Tracking};
use crate::progress::Progress;
use crate::report::{self, Page};
use crate::session::{Purpose, RowBar, keep, load, load_again};
use crate::table::{Table, decimal};
use crate::train::{given_inputs, source_path};

mod classes;
mod importance;
mod seeds;

pub use seeds::{Seeds, judge_seeds};

/// How far off a prediction may be where the file does not say, as a share of the life left.
const ALPHA: f64 = 0.2;
/// Hours of a day.
const DAY: f64 = 24.0;

/// What `foreline evaluate` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    pub file: PathBuf,
    /// Only this entry of `evaluation:`; default: all of them.
    #[arg(long)]
    pub only: Option<String>,
    /// What a source reads instead of what the file says: SOURCE=PATH. May be given several times.
    #[arg(long, value_name = "SOURCE=PATH", value_parser = source_path)]
    pub input: Vec<(String, PathBuf)>,
    /// Print every prediction too.
    #[arg(long)]
    pub rows: bool,
    /// Train the model anew with each of the `seeds:` that the entry declares, judge each, and print the spread. The weights
    /// of the file stay as they are.
    #[arg(long)]
    pub seeds: bool,
    /// Write the figures and plots as one HTML page, or as JSON where the name ends so.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where the run is logged.
    #[command(flatten)]
    pub tracking: Tracking,
    /// Workers and progress.
    #[command(flatten)]
    pub running: Running,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How good the predictions of one evaluation are.
#[derive(Debug, Serialize)]
pub struct Evaluated {
    /// The entry of `evaluation:`.
    pub name: String,
    /// What the predictions are in.
    pub unit: String,
    /// The figures of numbers, with capped and uncapped truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<ComparisonReport>,
    /// The figures of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassReport>,
    /// How predictions fare over lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prognosis: Option<PrognosisReport>,
    /// How far intervals keep their word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalReport>,
    /// What alarms would have been worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<AlarmReport>,
    /// The spread over seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Seeds>,
    /// Every prediction of a number with its truth, by key.
    pub rows: Vec<Judged>,
    /// Machines without a truth.
    pub without_truth: Vec<String>,
    /// Machines of the truth that no prediction was made for.
    pub without_prediction: Vec<String>,
    /// Truth and prediction over lives.
    #[serde(skip)]
    pub courses: Vec<Course>,
    /// The rows that were judged, for what else is asked of them.
    #[serde(skip)]
    stream: Option<(Schema, Batch)>,
}

/// Evaluates what the file says and prints the figures.
///
/// # Errors
/// When the file has mistakes, has nothing to evaluate, or the run fails.
#[expect(clippy::print_stdout, reason = "the report is what the command ends with")]
pub fn evaluate(arguments: &Arguments) -> Outcome {
    let outline = foreline_spec::outline(&arguments.file).map_err(anyhow::Error::from)?;
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let evaluations: Vec<_> = outline.evaluations.iter().filter(|(n, _)| wanted(n)).collect();
    if evaluations.is_empty() {
        load(&arguments.file, Format::Text, Purpose { checking: true, ..Purpose::default() })?;
        let what = arguments.only.as_ref().map_or(String::new(), |name| format!(" '{name}'"));
        return Err(anyhow!("'{}' has no 'evaluation'{what}", arguments.file.display()).into());
    }
    let tracker = arguments.tracking.open(&arguments.file)?;
    let (mut all, mut pages) = (Vec::new(), Vec::new());
    for (name, config) in evaluations {
        let evaluated = whole(arguments, &outline, name, config)?;
        if !arguments.json {
            print!("{evaluated}");
            if arguments.rows {
                print!("\n{}", evaluated.table());
            }
        }
        if arguments.report.is_some() {
            pages.push(evaluated.page(&outline, config)?);
        }
        let mut run = evaluated.run();
        if let Some(page) = pages.last() {
            let html = report::html(name, std::slice::from_ref(page));
            run.artifacts.insert("report.html".to_owned(), html.into_bytes());
        }
        tracker.log(&run)?;
        all.push(evaluated);
    }
    if let Some(path) = &arguments.report {
        report::write(path, &format!("Evaluation of {}", arguments.file.display()), &pages)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    } else {
        tracker.say();
    }
    Ok(())
}

/// One evaluation, with its seeds where they are asked for.
fn whole(
    arguments: &Arguments,
    outline: &Outline,
    name: &str,
    config: &EvaluationConfig,
) -> Result<Evaluated, Failure> {
    let (file, running) = (&arguments.file, &arguments.running);
    let inputs = given_inputs(&arguments.input)?;
    if !arguments.seeds {
        return judge_one(file, name, config, inputs, running);
    }
    let (seeds, mut last) = judge_seeds(file, outline, name, config, &inputs, running)?;
    last.seeds = Some(seeds);
    Ok(last)
}

/// Carries one evaluation out.
///
/// # Errors
/// When the file has mistakes, the truth cannot be read, or the run fails.
pub fn judge_one(
    file: &Path,
    name: &str,
    config: &EvaluationConfig,
    given: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<Evaluated, Failure> {
    judge_weights(file, name, config, given, BTreeMap::new(), running)
}

/// Carries one evaluation out with other weights, by `model` step.
///
/// # Errors
/// As [`judge_one`].
pub fn judge_weights(
    file: &Path,
    name: &str,
    config: &EvaluationConfig,
    given: BTreeMap<String, SourceOverride>,
    weights: BTreeMap<String, PathBuf>,
    running: &Running,
) -> Result<Evaluated, Failure> {
    let mut inputs: BTreeMap<_, _> = config
        .input
        .iter()
        .map(|(source, path)| (source.clone(), SourceOverride::Path(PathBuf::from(path))))
        .collect();
    inputs.extend(given);
    let purpose = Purpose { weights, ..Purpose::part(Only::Stream(config.from.clone()), inputs) };
    let plan = load_again(file, purpose)?;
    let observer = RowBar::of(Progress::detect(running.quiet).counter("evaluating", "rows"), &plan);
    let mut kept = keep(&plan, &[&config.from], running.workers(), Some(observer))?;
    let (schema, batch) =
        kept.streams.remove(&config.from).context("the stream that was asked for")?;
    let what = || format!("evaluation '{name}'");
    let mut evaluated = Evaluated::empty(name, config, &schema);
    if let TruthConfig::Column(truth) = &config.truth
        && let Some(classes) =
            classes::compare(&schema, &batch, truth, &config.predicted).with_context(what)?
    {
        evaluated.classes = Some(classes);
        evaluated.stream = Some((schema, batch));
        return Ok(evaluated);
    }
    let truth = Known::of(file, config, &schema, &batch).with_context(what)?;
    evaluated.numbers(config, &schema, &batch, &truth).with_context(what)?;
    evaluated.stream = Some((schema, batch));
    Ok(evaluated)
}

/// The truth of every row of a stream.
struct Known {
    /// NaN where nobody knows.
    of_row: Vec<f64>,
    /// The life of every row, where the truth is one.
    life_of: Option<Vec<u32>>,
    without_truth: Vec<String>,
    without_prediction: Vec<String>,
    /// Whether only the last row of each key is judged where the file does not say.
    at_the_end: bool,
}

impl Known {
    fn of(
        file: &Path,
        config: &EvaluationConfig,
        schema: &Schema,
        batch: &Batch,
    ) -> anyhow::Result<Self> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let plain = |of_row, life_of| Known {
            of_row,
            life_of,
            without_truth: Vec::new(),
            without_prediction: Vec::new(),
            at_the_end: false,
        };
        match &config.truth {
            TruthConfig::Column(name) => Ok(plain(numbers(batch, schema, name)?, None)),
            TruthConfig::Remaining(remaining) => {
                let ends = match &remaining.ends {
                    Some(sql) => Some(condition(sql, schema, batch)?),
                    None => None,
                };
                let lives = Lives::of(batch, schema, ends.as_ref());
                let left = lives.remaining(batch, schema, None);
                Ok(plain(left, Some(lives.of_row)))
            }
            TruthConfig::Lines(_) | TruthConfig::Table(_) => {
                Ok(Known::at_the_end(&read_truth(folder, &config.truth)?, schema, batch))
            }
        }
    }

    /// Earlier rows had that much more life left than the last one.
    fn at_the_end(truth: &Truth, schema: &Schema, batch: &Batch) -> Self {
        let times = batch.times(schema);
        let mut of_row = vec![f64::NAN; batch.len()];
        let mut life_of = Vec::with_capacity(batch.len());
        let keys = key_names(batch, schema);
        let mut without_truth = Vec::new();
        for ((n, group), key) in (0_u32..).zip(batch.groups()).zip(&keys) {
            life_of.extend(std::iter::repeat_n(n, group.end - group.start));
            let Some(&at_end) = truth.get(key) else {
                without_truth.push(key.clone());
                continue;
            };
            for row in group.start..group.end {
                of_row[row] = at_end + life(times[group.end - 1] - times[row], schema.domain());
            }
        }
        let without_prediction = truth.keys().filter(|k| !keys.contains(k)).cloned().collect();
        let life_of = Some(life_of);
        Known { of_row, life_of, without_truth, without_prediction, at_the_end: true }
    }
}

/// Which rows fulfil a condition.
fn condition(
    sql: &str,
    schema: &Schema,
    batch: &Batch,
) -> anyhow::Result<arrow::array::BooleanArray> {
    use foreline_spec::compile;
    let expression = compile(sql, schema).map_err(|e| anyhow!("'{sql}': {e}"))?;
    let found = expression.evaluate(&batch.rows).with_context(|| format!("'{sql}'"))?;
    match found.as_boolean_opt() {
        Some(found) => Ok(found.clone()),
        None => bail!("'{sql}' is neither true nor false"),
    }
}

fn read_truth(folder: &Path, config: &TruthConfig) -> anyhow::Result<Truth> {
    let read = |path: &String| {
        let path = folder.join(path);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the truth '{}'", path.display()))?;
        Ok::<_, anyhow::Error>((text, format!("the truth '{}'", path.display())))
    };
    match config {
        TruthConfig::Table(table) => {
            let (text, what) = read(&table.path)?;
            truth_from_table(&text, &table.key, &table.remaining).context(what)
        }
        TruthConfig::Lines(path) => {
            let (text, what) = read(path)?;
            truth_by_line(&text).context(what)
        }
        TruthConfig::Column(_) | TruthConfig::Remaining(_) => Ok(Truth::new()),
    }
}

impl Evaluated {
    fn empty(name: &str, config: &EvaluationConfig, schema: &Schema) -> Self {
        let unit = schema.column(&config.predicted).and_then(|c| c.unit.as_ref());
        Evaluated {
            name: name.to_owned(),
            unit: unit.map_or(String::new(), ToString::to_string),
            figures: None,
            classes: None,
            prognosis: None,
            interval: None,
            alarms: None,
            seeds: None,
            rows: Vec::new(),
            without_truth: Vec::new(),
            without_prediction: Vec::new(),
            courses: Vec::new(),
            stream: None,
        }
    }

    /// RMSE of the labels that the file means: capped ones where there is a cap.
    #[must_use]
    pub fn rmse(&self) -> Option<f64> {
        let figures = self.figures.as_ref()?;
        figures.capped.as_ref().unwrap_or(&figures.uncapped).rmse
    }

    fn numbers(
        &mut self,
        config: &EvaluationConfig,
        schema: &Schema,
        batch: &Batch,
        truth: &Known,
    ) -> anyhow::Result<()> {
        let usual = if truth.at_the_end { JudgedRows::Last } else { JudgedRows::All };
        let last_only = config.at.unwrap_or(usual) == JudgedRows::Last;
        self.courses = courses(config, schema, batch, truth)?;
        for course in &self.courses {
            let skip = if last_only { course.points.len().saturating_sub(1) } else { 0 };
            self.rows.extend(course.points[skip..].iter().map(|p| Judged {
                key: course.name.clone(),
                truth: p.truth,
                predicted: Some(p.predicted).filter(|p| p.is_finite()),
            }));
        }
        let highest = self.rows.iter().map(|r| r.truth).fold(0.0, f64::max);
        let mut figures = match config.cap {
            Some(cap) => Comparison::capped(cap),
            None => Comparison::uncapped(highest),
        };
        for row in &self.rows {
            figures.push(row.truth, row.predicted.unwrap_or(f64::NAN));
        }
        self.figures = Some(figures.report());
        self.without_truth.clone_from(&truth.without_truth);
        self.without_prediction.clone_from(&truth.without_prediction);
        if let Some(interval) = &config.interval {
            let judged = if last_only { last_points(&self.courses) } else { self.courses.clone() };
            self.interval = Some(intervals(&judged, interval.nominal, config.cap));
        }
        if truth.life_of.is_some() {
            let alpha = config.alpha.unwrap_or(ALPHA);
            self.prognosis = Some(prognosis(&self.courses, alpha, config.cap));
            self.alarms = config.alarm.as_ref().map(|alarm| {
                let days = watched(&self.courses, schema.domain());
                alarms(&self.courses, alarm, config.cost.as_ref(), days)
            });
        }
        Ok(())
    }

    /// Every prediction, worst first.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut rows: Vec<&Judged> = self.rows.iter().collect();
        let off = |j: &Judged| j.predicted.map_or(f64::INFINITY, |p| (p - j.truth).abs());
        rows.sort_by(|a, b| off(b).total_cmp(&off(a)).then_with(|| a.key.cmp(&b.key)));
        let mut table = Table::new(["key", "predicted", "truth", "off by"]);
        for row in rows {
            let off = row.predicted.map(|p| p - row.truth);
            table.push([
                row.key.clone(),
                decimal(row.predicted, 2),
                decimal(Some(row.truth), 2),
                decimal(off, 2),
            ]);
        }
        table
    }

    /// What is logged of it.
    fn run(&self) -> Run {
        let mut run = Run::new(&self.name, "evaluate");
        let mut metric = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                run.metric(name, value);
            }
        };
        if let Some(figures) = &self.figures {
            for (prefix, report) in
                [("capped.", figures.capped.as_ref()), ("", Some(&figures.uncapped))]
            {
                let Some(report) = report else { continue };
                metric(&format!("{prefix}rmse"), report.rmse);
                metric(&format!("{prefix}mae"), report.mae);
                metric(&format!("{prefix}mse"), report.rmse.map(|rmse| rmse * rmse));
                metric(&format!("{prefix}bias"), report.bias);
                metric(&format!("{prefix}late"), Some(report.late as f64));
                metric(&format!("{prefix}early"), Some(report.early as f64));
                metric(&format!("{prefix}score_sum"), report.score_sum);
                metric(&format!("{prefix}score_mean"), report.score_mean);
                metric(&format!("{prefix}weighted_rmse"), report.weighted_rmse);
                metric(&format!("{prefix}min_max_rmse"), report.min_max_rmse);
            }
        }
        if let Some(classes) = &self.classes {
            metric("accuracy", classes.accuracy);
            metric("balanced_accuracy", classes.balanced_accuracy);
            metric("macro_f1", classes.macro_f1);
            metric("log_loss", classes.log_loss);
        }
        metric("coverage", self.interval.as_ref().and_then(|i| i.coverage));
        metric("horizon_median", self.prognosis.as_ref().and_then(|p| p.horizon_median));
        metric("cost_per_machine_day", self.alarms.as_ref().and_then(|a| a.cost));
        metric("lead_median", self.alarms.as_ref().and_then(|a| a.lead_median));
        run
    }

    /// Its page of a report.
    fn page(&self, outline: &Outline, config: &EvaluationConfig) -> Result<Page, Failure> {
        let mut page = Page::new(format!("Evaluation '{}'", self.name));
        if let Some(seeds) = &self.seeds {
            page.text(&seeds.to_string());
        }
        if let Some(figures) = &self.figures {
            page.numbers(figures);
        }
        if let Some(classes) = &self.classes {
            page.classes(classes);
        }
        page.courses(&self.courses, config.cap);
        for text in self.others() {
            page.text(&text);
        }
        let importance = importance::of(self, outline, config)?;
        page.importance("how far the model's answers move", &importance);
        page.data(json!({ "evaluation": self, "importance": importance }));
        Ok(page)
    }

    /// What there is beside the figures, as a terminal shows it.
    fn others(&self) -> Vec<String> {
        let mut texts = Vec::new();
        texts.extend(self.interval.as_ref().map(ToString::to_string));
        // A course of single rows says nothing of lives.
        let told = |p: &&PrognosisReport| p.horizon_mean.is_some();
        texts.extend(self.prognosis.as_ref().filter(told).map(ToString::to_string));
        texts.extend(self.alarms.as_ref().map(ToString::to_string));
        texts
    }
}

/// The rows that have a truth, life by life.
fn courses(
    config: &EvaluationConfig,
    schema: &Schema,
    batch: &Batch,
    truth: &Known,
) -> anyhow::Result<Vec<Course>> {
    let predicted = numbers(batch, schema, &config.predicted)?;
    let between = match &config.interval {
        Some(i) => Some((numbers(batch, schema, &i.low)?, numbers(batch, schema, &i.high)?)),
        None => None,
    };
    let mut courses: Vec<Course> = Vec::new();
    for (group, key) in batch.groups().zip(key_names(batch, schema)) {
        let mut last = None;
        for row in (group.start..group.end).filter(|&row| truth.of_row[row].is_finite()) {
            let life = truth.life_of.as_ref().map_or(0, |life_of| life_of[row]);
            if last != Some(life) {
                last = Some(life);
                courses.push(Course { name: key.clone(), points: Vec::new() });
            }
            let between =
                between.as_ref().map_or((f64::NAN, f64::NAN), |(low, high)| (low[row], high[row]));
            if let Some(course) = courses.last_mut() {
                let (truth, predicted) = (truth.of_row[row], predicted[row]);
                course.points.push(Point { truth, predicted, between });
            }
        }
    }
    Ok(courses)
}

/// The last point of each course.
fn last_points(courses: &[Course]) -> Vec<Course> {
    let last = |c: &Course| Course {
        name: c.name.clone(),
        points: c.points.last().copied().into_iter().collect(),
    };
    courses.iter().map(last).collect()
}

/// How long lives were watched: days, or steps of a count.
fn watched(courses: &[Course], domain: TimeDomain) -> f64 {
    let length = |c: &Course| match (c.points.first(), c.points.last()) {
        (Some(first), Some(last)) => first.truth - last.truth,
        _ => 0.0,
    };
    let sum: f64 = courses.iter().map(length).sum();
    match domain {
        TimeDomain::UtcNanos => sum / DAY,
        TimeDomain::Logical => sum,
    }
}

impl std::fmt::Display for Evaluated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(classes) = &self.classes {
            writeln!(f, "evaluation '{}': {} rows\n{classes}", self.name, classes.rows)?;
        }
        if let Some(figures) = &self.figures {
            let keys: std::collections::BTreeSet<&String> =
                self.rows.iter().map(|r| &r.key).collect();
            let unit =
                if self.unit.is_empty() { String::new() } else { format!(", in {}", self.unit) };
            writeln!(
                f,
                "evaluation '{}': {} predictions for {} keys{unit}",
                self.name,
                self.rows.len(),
                keys.len(),
            )?;
            writeln!(f, "{figures}")?;
        }
        for text in self.others() {
            writeln!(f, "{text}")?;
        }
        if let Some(seeds) = &self.seeds {
            writeln!(f, "{seeds}")?;
        }
        if !self.without_truth.is_empty() {
            writeln!(f, "without truth: {}", self.without_truth.join(", "))?;
        }
        if !self.without_prediction.is_empty() {
            writeln!(
                f,
                "keys of the truth without a prediction: {}",
                self.without_prediction.len()
            )?;
        }
        Ok(())
    }
}
