//! `foreline evaluate`: predictions beside the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_spec::{EvaluationConfig, JudgedRows, Only, SourceOverride, TruthConfig};
use serde::Serialize;

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::learning::{Judged, Rows, Truth, judge, truth_by_line, truth_from_table};
use crate::metrics::{Comparison, ComparisonReport};
use crate::progress::Progress;
use crate::session::{Purpose, RowBar, keep, load, load_again};
use crate::train::{given_inputs, source_path};

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
    /// The figures, with capped and uncapped truth.
    pub figures: ComparisonReport,
    /// Every prediction with its truth, by key.
    pub rows: Vec<Judged>,
    /// Machines without a truth.
    pub without_truth: Vec<String>,
    /// Machines of the truth that no prediction was made for.
    pub without_prediction: Vec<String>,
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
    let mut all = Vec::new();
    for (name, config) in evaluations {
        let inputs = given_inputs(&arguments.input)?;
        let evaluated = judge_one(&arguments.file, name, config, inputs, &arguments.running)?;
        if !arguments.json {
            print!("{evaluated}");
            if arguments.rows {
                print!("\n{}", evaluated.table());
            }
        }
        all.push(evaluated);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    }
    Ok(())
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

/// The same with other weights, by `model` step.
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
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut inputs: BTreeMap<_, _> = config
        .input
        .iter()
        .map(|(source, path)| (source.clone(), SourceOverride::Path(PathBuf::from(path))))
        .collect();
    inputs.extend(given);
    let purpose = Purpose::part(Only::Stream(config.from.clone()), inputs);
    let purpose = Purpose { weights, ..purpose };
    let plan = load_again(file, purpose)?;
    let truth = read_truth(folder, &config.truth)?;
    let observer = RowBar::of(Progress::detect(running.quiet).counter("evaluating", "rows"), &plan);
    let kept = keep(&plan, &[&config.from], running.workers(), Some(observer))?;
    let (schema, batch) =
        kept.streams.get(&config.from).context("the stream that was asked for")?;
    let which = match config.at {
        JudgedRows::Last => Rows::Last,
        JudgedRows::All => Rows::All,
    };
    let (rows, without_truth) = judge(batch, schema, &config.predicted, &truth, which)
        .with_context(|| format!("evaluation '{name}'"))?;
    let judged = |key: &String| rows.iter().any(|r| r.key == *key);
    let without_prediction = truth.keys().filter(|k| !judged(k)).cloned().collect();
    let highest = rows.iter().map(|r| r.truth).fold(0.0, f64::max);
    let mut figures = match config.cap {
        Some(cap) => Comparison::capped(cap),
        None => Comparison::uncapped(highest),
    };
    for row in &rows {
        figures.push(row.truth, row.predicted.unwrap_or(f64::NAN));
    }
    let unit = schema.column(&config.predicted).and_then(|c| c.unit.as_ref());
    Ok(Evaluated {
        name: name.to_owned(),
        unit: unit.map_or(String::new(), ToString::to_string),
        figures: figures.report(),
        rows,
        without_truth,
        without_prediction,
    })
}

fn read_truth(folder: &Path, config: &TruthConfig) -> anyhow::Result<Truth> {
    let (path, by_line) = match config {
        TruthConfig::Lines(path) => (path, true),
        TruthConfig::Table(table) => (&table.path, false),
    };
    let path = folder.join(path);
    let what = || format!("the truth '{}'", path.display());
    let text = std::fs::read_to_string(&path).with_context(what)?;
    match config {
        TruthConfig::Table(table) if !by_line => {
            truth_from_table(&text, &table.key, &table.remaining).with_context(what)
        }
        _ => truth_by_line(&text).with_context(what),
    }
}

impl Evaluated {
    /// Every prediction, worst first.
    #[must_use]
    pub fn table(&self) -> crate::table::Table {
        let mut rows: Vec<&Judged> = self.rows.iter().collect();
        let off = |j: &Judged| j.predicted.map_or(f64::INFINITY, |p| (p - j.truth).abs());
        rows.sort_by(|a, b| off(b).total_cmp(&off(a)).then_with(|| a.key.cmp(&b.key)));
        let mut table = crate::table::Table::new(["key", "predicted", "truth", "off by"]);
        for row in rows {
            let number = |v: Option<f64>| crate::table::decimal(v, 2);
            let off = row.predicted.map(|p| p - row.truth);
            table.push([
                row.key.clone(),
                number(row.predicted),
                number(Some(row.truth)),
                number(off),
            ]);
        }
        table
    }
}

impl std::fmt::Display for Evaluated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: std::collections::BTreeSet<&String> = self.rows.iter().map(|r| &r.key).collect();
        writeln!(
            f,
            "evaluation '{}': {} predictions for {} keys, in {}",
            self.name,
            self.rows.len(),
            keys.len(),
            self.unit
        )?;
        writeln!(f, "{}", self.figures)?;
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
