//! The same evaluation with models that differ by their seed alone: how much of a figure is luck.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use foreline_spec::{EvaluationConfig, Outline, SourceOverride};
use serde::Serialize;

use super::{Evaluated, judge_weights};
use crate::commands::Running;
use crate::failure::Failure;
use crate::metrics::Report;
use crate::progress::Progress;
use crate::table::{Table, decimal};
use crate::train::{learn, part, samples_of};

/// Figures by seed.
#[derive(Debug, Clone, Serialize)]
pub struct Seeds {
    /// The training.
    pub training: String,
    /// One a seed, in the order of the file.
    pub figures: Vec<OfSeed>,
    /// Mean RMSE, of capped truth where there is a cap.
    pub rmse_mean: Option<f64>,
    /// Standard deviation of the RMSE over seeds (n - 1).
    pub rmse_deviation: Option<f64>,
    /// Mean RMSE against the truth as it is.
    pub uncapped_rmse_mean: Option<f64>,
}

/// The figures of one seed.
#[derive(Debug, Clone, Serialize)]
pub struct OfSeed {
    /// The seed.
    pub seed: u64,
    /// Against capped truth.
    pub capped: Option<Report>,
    /// Against the truth as it is.
    pub uncapped: Option<Report>,
    /// Share of right classes, where classes are judged.
    pub accuracy: Option<f64>,
}

/// Trains and judges with every seed; their figures, and the evaluation with the last.
///
/// # Errors
/// When the evaluation declares no seeds, no step reads the weights, or training or judging fails.
pub fn judge_seeds(
    file: &Path,
    outline: &Outline,
    name: &str,
    config: &EvaluationConfig,
    given: &BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<(Seeds, Evaluated), Failure> {
    let training = config.training.as_ref().filter(|_| !config.seeds.is_empty());
    let training = training.with_context(|| {
        format!(
            "evaluation '{name}' declares no seeds; add 'training: NAME' and 'seeds: [1, 2, 3]'"
        )
    })?;
    let inputs = outline.trainings.get(training).cloned().unwrap_or_default();
    let plan = part(file, training, inputs)?;
    let (planned, samples, schema) = samples_of(&plan, training, running)?;
    let steps = outline.models.get(training).map(|m| m.steps.clone()).unwrap_or_default();
    if steps.is_empty() {
        return Err(anyhow!("no 'model' step reads the weights of training '{training}'").into());
    }
    let folder = tempfile::tempdir().context("a folder for weights")?;
    let path = folder.path().join("seed.weights");
    let bar = Progress::detect(running.quiet).spinner("seeds");
    let (mut figures, mut last) = (Vec::new(), None);
    for (n, &seed) in config.seeds.iter().enumerate() {
        bar.say(format!("{seed}, {} of {}", n + 1, config.seeds.len()));
        let mut planned = planned.clone();
        planned.params.insert("seed".to_owned(), seed.into());
        let trained = learn(&planned, &schema, &samples.set)?;
        std::fs::write(&path, &trained.weights).context("write weights")?;
        let weights = steps.iter().map(|step| (step.clone(), path.clone())).collect();
        let quiet = Running { quiet: true, ..*running };
        let evaluated = judge_weights(file, name, config, given.clone(), weights, &quiet)?;
        let of = evaluated.figures.as_ref();
        figures.push(OfSeed {
            seed,
            capped: of.and_then(|f| f.capped.clone()),
            uncapped: of.map(|f| f.uncapped.clone()),
            accuracy: evaluated.classes.as_ref().and_then(|c| c.accuracy),
        });
        last = Some(evaluated);
    }
    let seeds = Seeds::of(training, figures);
    Ok((seeds, last.context("there are seeds")?))
}

impl Seeds {
    fn of(training: &str, figures: Vec<OfSeed>) -> Self {
        let main = |f: &OfSeed| f.capped.as_ref().or(f.uncapped.as_ref()).and_then(|r| r.rmse);
        let rmse: Vec<f64> = figures.iter().filter_map(main).collect();
        let uncapped: Vec<f64> =
            figures.iter().filter_map(|f| f.uncapped.as_ref().and_then(|r| r.rmse)).collect();
        let rmse_mean = mean(&rmse);
        let rmse_deviation = rmse_mean.filter(|_| rmse.len() > 1).map(|mean| {
            let squares: f64 = rmse.iter().map(|r| (r - mean) * (r - mean)).sum();
            (squares / (rmse.len() - 1) as f64).sqrt()
        });
        Seeds {
            training: training.to_owned(),
            uncapped_rmse_mean: mean(&uncapped),
            figures,
            rmse_mean,
            rmse_deviation,
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capped = self.figures.iter().any(|f| f.capped.is_some());
        let classes = self.figures.iter().any(|f| f.accuracy.is_some());
        let mut header = vec!["seed"];
        if capped {
            header.extend(["capped RMSE", "capped PHM08 sum"]);
        }
        header.extend(if classes { vec!["accuracy"] } else { vec!["RMSE", "PHM08 sum"] });
        let mut table = Table::new(header);
        for one in &self.figures {
            let mut cells = vec![one.seed.to_string()];
            let both = |report: &Option<Report>| {
                let of = |f: fn(&Report) -> Option<f64>| report.as_ref().and_then(f);
                [decimal(of(|r| r.rmse), 3), decimal(of(|r| r.score_sum), 1)]
            };
            if capped {
                cells.extend(both(&one.capped));
            }
            if classes {
                cells.push(decimal(one.accuracy, 4));
            } else {
                cells.extend(both(&one.uncapped));
            }
            table.push(cells);
        }
        write!(f, "training '{}' by seed\n{table}", self.training)?;
        if let (Some(mean), Some(deviation)) = (self.rmse_mean, self.rmse_deviation) {
            let uncapped = match self.uncapped_rmse_mean.filter(|_| capped) {
                Some(uncapped) => format!("; labels as they are: {uncapped:.3}"),
                None => String::new(),
            };
            writeln!(f, "mean RMSE {mean:.3}, deviation {deviation:.3}{uncapped}")?;
        }
        Ok(())
    }
}
