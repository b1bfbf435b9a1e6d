//! A training judged on rows that it did not learn from.
//!
//! What a reader would get wrong: only the model is fitted anew for every part. Steps before it that read statistics from a
//! file have them from all the rows they were fitted on; fit them on rows that are not predicted where that matters.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use foreline_engine::Schema;
use foreline_plugins::Native;
use foreline_plugins::train::TrainingSet;
use foreline_sdk::weights::OutputKind;
use foreline_spec::{Figure, SplitBy, TrainingPlan, TrainingTarget, ValidateConfig};
use serde::Serialize;

use crate::learning::samples::Samples;
use crate::learning::split::{Fold, deal, describe, folds};
use crate::metrics::classes::{ClassReport, Classes};
use crate::metrics::prognosis::{Course, IntervalReport, Point, intervals};
use crate::metrics::{Comparison, ComparisonReport};
use crate::mlflow::Run;
use crate::progress::Progress;
use crate::report::Page;
use crate::table::{Table, decimal, grouped};
use crate::train::learn;

/// What rows at random do to figures.
const LEAK: &str =
    "rows at random: neighbouring rows lie on both sides, so these figures are too good";
/// Features whose worth a table shows; a report has all of them.
const MOST_SHOWN: usize = 10;

/// How well a training predicts what it did not learn from.
#[derive(Debug, Clone, Serialize)]
pub struct Validated {
    /// The entry of `training:`.
    pub training: String,
    /// How rows were parted.
    pub split: String,
    /// Why the figures are not to be believed, if they are not.
    pub warning: Option<String>,
    /// Every part.
    pub folds: Vec<FoldFigures>,
    /// All predicted rows.
    #[serde(flatten)]
    pub figures: Figures,
    /// Mean pinball loss of the quantiles of the model, if it has any.
    pub pinball: Option<f64>,
    /// What its outermost quantiles cover.
    pub interval: Option<IntervalReport>,
    /// What each feature is worth, the most first.
    pub importance: Vec<Importance>,
    /// Truth and prediction of every predicted row, by machine and life.
    #[serde(skip)]
    pub courses: Vec<Course>,
}

/// One part.
#[derive(Debug, Clone, Serialize)]
pub struct FoldFigures {
    /// What was predicted.
    pub name: String,
    /// Rows that were learnt from.
    pub learnt: usize,
    /// Rows that were predicted.
    pub predicted: usize,
    /// RMSE, or the share of right classes.
    pub figure: Option<f64>,
}

/// What a feature is worth: how much the error grows when its values are dealt among the predicted rows of a part.
#[derive(Debug, Clone, Serialize)]
pub struct Importance {
    /// The feature.
    pub feature: String,
    /// By how much the RMSE (of classes, the share of wrong ones) is greater.
    pub increase: f64,
}

/// Figures by the kind of target.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figures {
    /// The target is a number.
    Numbers(ComparisonReport),
    /// The target is a class.
    Classes(ClassReport),
}

/// What a part's model says of the rows it did not learn from.
struct Predicted<'f> {
    fold: &'f Fold,
    model: Native,
    scores: Vec<f64>,
}

/// Carries out one way of parting.
///
/// # Errors
/// When the rows cannot be parted so, or a part cannot be learnt from.
pub fn validate(
    training: &TrainingPlan,
    schema: &Schema,
    samples: &Samples,
    split: &ValidateConfig,
    progress: Progress,
) -> Result<Validated> {
    if matches!(training.target, TrainingTarget::Nothing) {
        bail!("training '{}' has no target, so there is nothing to compare with", training.name);
    }
    let bar = progress.spinner(&format!("validating '{}'", training.name));
    let folds = folds(split, samples)
        .with_context(|| format!("'validate' of training '{}'", training.name))?;
    let mut predicted = Vec::with_capacity(folds.len());
    for (n, fold) in folds.iter().enumerate() {
        bar.say(format!("{} of {}", n + 1, folds.len()));
        predicted.push(predict(training, schema, samples, fold)?);
    }
    bar.say("what features are worth");
    let judge = Judge { samples, predicted: &predicted };
    let figures = judge.figures();
    let importance = judge.importance();
    Ok(Validated {
        training: training.name.clone(),
        split: describe(split),
        warning: (split.by == SplitBy::Row).then(|| LEAK.to_owned()),
        folds: predicted.iter().map(|p| judge.of_fold(p)).collect(),
        figures,
        pinball: judge.pinball(),
        interval: judge.interval(),
        importance,
        courses: judge.courses(),
    })
}

/// The figure of one way of parting that a search makes small; nothing else is computed.
///
/// # Errors
/// As [`validate`].
pub fn error_of(
    training: &TrainingPlan,
    schema: &Schema,
    samples: &Samples,
    split: &ValidateConfig,
    figure: Option<Figure>,
) -> Result<Option<f64>> {
    let folds = folds(split, samples)
        .with_context(|| format!("'validate' of training '{}'", training.name))?;
    let mut predicted = Vec::with_capacity(folds.len());
    for fold in &folds {
        predicted.push(predict(training, schema, samples, fold)?);
    }
    let judge = Judge { samples, predicted: &predicted };
    let of_numbers = figure.unwrap_or(Figure::Rmse);
    Ok(match judge.figures() {
        Figures::Classes(report) => match figure.unwrap_or(Figure::LogLoss) {
            Figure::ErrorRate => report.accuracy.map(|right| 1.0 - right),
            _ => report.log_loss,
        },
        Figures::Numbers(report) => {
            let report = report.capped.unwrap_or(report.uncapped);
            match of_numbers {
                Figure::Mae => report.mae,
                Figure::Score => report.score_mean,
                Figure::WeightedRmse => report.weighted_rmse,
                Figure::MinMaxRmse => report.min_max_rmse,
                Figure::Pinball => judge.pinball(),
                Figure::Rmse | Figure::LogLoss | Figure::ErrorRate => report.rmse,
            }
        }
    })
}

fn predict<'f>(
    training: &TrainingPlan,
    schema: &Schema,
    samples: &Samples,
    fold: &'f Fold,
) -> Result<Predicted<'f>> {
    let set: TrainingSet = samples.part(&fold.learn);
    let trained = learn(training, schema, &set)
        .with_context(|| format!("part '{}' of the validation", fold.name))?;
    let model = Native::load(&trained.weights)
        .map_err(|e| anyhow::anyhow!("the weights of part '{}': {e}", fold.name))?;
    let scores = model.score(&samples.features(&fold.predict));
    Ok(Predicted { fold, model, scores })
}

/// Puts predictions beside the truth.
struct Judge<'a> {
    samples: &'a Samples,
    predicted: &'a [Predicted<'a>],
}

impl Judge<'_> {
    fn is_class(&self) -> bool {
        !self.samples.set.labels.is_empty()
    }

    /// The output that stands for the prediction: the only one, the class, or the middle quantile.
    fn main_output(model: &Native) -> usize {
        let header = model.header();
        match header.outputs.first() {
            Some(first) if first.kind == OutputKind::ClassIndex => 0,
            _ => header.outputs.len() / 2,
        }
    }

    fn figures(&self) -> Figures {
        if self.is_class() {
            let mut classes = Classes::new(self.samples.set.labels.clone());
            for part in self.predicted {
                self.push_classes(&mut classes, part, &part.scores);
            }
            return Figures::Classes(classes.report());
        }
        let mut all = self.comparison();
        for part in self.predicted {
            self.push_numbers(&mut all, part, &part.scores);
        }
        Figures::Numbers(all.report())
    }

    fn comparison(&self) -> Comparison {
        let truths = self.truths();
        match self.samples.cap {
            Some(cap) => Comparison::capped(cap),
            None => Comparison::uncapped(truths.iter().copied().fold(0.0, f64::max)),
        }
    }

    /// The targets, lives without their cap.
    fn truths(&self) -> &[f64] {
        let samples = self.samples;
        if samples.uncapped.is_empty() { &samples.set.y } else { &samples.uncapped }
    }

    fn push_numbers(&self, to: &mut Comparison, part: &Predicted<'_>, scores: &[f64]) {
        let (n, main) = (part.model.header().outputs.len(), Self::main_output(&part.model));
        for (&row, outputs) in part.fold.predict.iter().zip(scores.chunks_exact(n)) {
            // What has no target, such as a life that goes on, is not judged.
            if !self.truths()[row].is_nan() {
                to.push(self.truths()[row], outputs[main]);
            }
        }
    }

    fn push_classes(&self, to: &mut Classes, part: &Predicted<'_>, scores: &[f64]) {
        let n = part.model.header().outputs.len();
        for (&row, outputs) in part.fold.predict.iter().zip(scores.chunks_exact(n)) {
            let place = |x: f64| (x.is_finite() && x >= 0.0).then_some(x as usize);
            to.push(place(self.samples.set.y[row]), place(outputs[0]), Some(&outputs[1..]));
        }
    }

    fn of_fold(&self, part: &Predicted<'_>) -> FoldFigures {
        FoldFigures {
            name: part.fold.name.clone(),
            learnt: part.fold.learn.len(),
            predicted: part.fold.predict.len(),
            figure: self.figure(std::iter::once((part, &part.scores))),
        }
    }

    /// RMSE, or the share of right classes.
    fn figure<'p>(
        &self,
        parts: impl Iterator<Item = (&'p Predicted<'p>, &'p Vec<f64>)>,
    ) -> Option<f64> {
        if self.is_class() {
            let mut classes = Classes::new(self.samples.set.labels.clone());
            parts.for_each(|(part, scores)| self.push_classes(&mut classes, part, scores));
            return classes.report().accuracy;
        }
        let mut all = self.comparison();
        parts.for_each(|(part, scores)| self.push_numbers(&mut all, part, scores));
        let report = all.report();
        report.capped.unwrap_or(report.uncapped).rmse
    }

    fn importance(&self) -> Vec<Importance> {
        let names = &self.samples.set.feature_names;
        let whole = self.figure(self.predicted.iter().map(|p| (p, &p.scores)));
        let Some(whole) = whole else { return Vec::new() };
        let mut found: Vec<Importance> = names
            .iter()
            .enumerate()
            .filter_map(|(feature, name)| {
                let scores: Vec<Vec<f64>> =
                    self.predicted.iter().map(|p| self.without(p, feature)).collect();
                let figure = self.figure(self.predicted.iter().zip(&scores))?;
                let increase = if self.is_class() { whole - figure } else { figure - whole };
                Some(Importance { feature: name.clone(), increase })
            })
            .collect();
        found.sort_by(|a, b| {
            b.increase.total_cmp(&a.increase).then_with(|| a.feature.cmp(&b.feature))
        });
        found
    }

    /// The scores of a part with the values of one feature dealt among its rows.
    fn without(&self, part: &Predicted<'_>, feature: usize) -> Vec<f64> {
        let width = self.samples.set.feature_names.len();
        let mut x = self.samples.features(&part.fold.predict);
        let n_rows = part.fold.predict.len();
        let place = |row: usize| row * width + feature;
        deal(n_rows, feature as u64, |a, b| x.swap(place(a), place(b)));
        part.model.score(&x)
    }

    /// The quantiles that the outputs are, as their names say.
    fn quantiles(&self) -> Vec<f64> {
        let Some(part) = self.predicted.first() else { return Vec::new() };
        let outputs = &part.model.header().outputs;
        let quantile = |name: &str| {
            let (_, percent) = name.rsplit_once("_q")?;
            Some(percent.replace('_', ".").parse::<f64>().ok()? / 100.0)
        };
        let found: Option<Vec<f64>> = outputs.iter().map(|o| quantile(&o.name)).collect();
        found.filter(|q| !self.is_class() && q.len() == outputs.len()).unwrap_or_default()
    }

    fn pinball(&self) -> Option<f64> {
        let quantiles = self.quantiles();
        let (mut sum, mut count) = (0.0, 0_u64);
        for part in self.predicted.iter().filter(|_| !quantiles.is_empty()) {
            let rows = part.fold.predict.iter().zip(part.scores.chunks_exact(quantiles.len()));
            for (&row, outputs) in rows {
                let y = self.samples.set.y[row];
                for (q, p) in quantiles.iter().zip(outputs) {
                    let loss = (q * (y - p)).max((q - 1.0) * (y - p));
                    if loss.is_finite() {
                        sum += loss;
                        count += 1;
                    }
                }
            }
        }
        (count > 0).then(|| sum / count as f64)
    }

    fn interval(&self) -> Option<IntervalReport> {
        let quantiles = self.quantiles();
        let (low, high) = (quantiles.first()?, quantiles.last()?);
        (quantiles.len() > 1).then(|| intervals(&self.courses(), high - low, self.samples.cap))
    }

    /// Truth and prediction of the predicted rows, life by life; of classes nothing.
    fn courses(&self) -> Vec<Course> {
        let samples = self.samples;
        if self.is_class() {
            return Vec::new();
        }
        let mut points: Vec<Option<Point>> = vec![None; samples.set.rows];
        for part in self.predicted {
            let (n, main) = (part.model.header().outputs.len(), Self::main_output(&part.model));
            for (&row, outputs) in part.fold.predict.iter().zip(part.scores.chunks_exact(n)) {
                points[row] = Some(Point {
                    truth: self.truths()[row],
                    predicted: outputs[main],
                    between: (outputs[0], outputs[n - 1]),
                });
            }
        }
        let mut courses: Vec<Course> = Vec::new();
        let mut last = None;
        for (row, point) in points.iter().enumerate() {
            let Some(point) = point.filter(|p| p.truth.is_finite()) else { continue };
            if last != Some(samples.life_of[row]) {
                last = Some(samples.life_of[row]);
                let name = samples.machines[samples.set.groups[row] as usize].clone();
                courses.push(Course { name, points: Vec::new() });
            }
            if let Some(course) = courses.last_mut() {
                course.points.push(point);
            }
        }
        courses
    }
}

impl Validated {
    /// The figures for a log of runs.
    pub fn log(&self, run: &mut Run) {
        let prefix = self.split.replace(' ', "_").replace(['\'', ','], "");
        let mut metric = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                run.metric(&format!("{prefix}.{name}"), value);
            }
        };
        match &self.figures {
            Figures::Numbers(report) => {
                let report = report.capped.as_ref().unwrap_or(&report.uncapped);
                metric("rmse", report.rmse);
                metric("mae", report.mae);
                metric("score_mean", report.score_mean);
                metric("weighted_rmse", report.weighted_rmse);
                metric("min_max_rmse", report.min_max_rmse);
            }
            Figures::Classes(report) => {
                metric("accuracy", report.accuracy);
                metric("macro_f1", report.macro_f1);
                metric("log_loss", report.log_loss);
            }
        }
        metric("pinball", self.pinball);
        metric("coverage", self.interval.as_ref().and_then(|i| i.coverage));
    }

    /// Its page of a report.
    #[must_use]
    pub fn page(&self) -> Page {
        let mut page = Page::new(format!("Training '{}', validated {}", self.training, self.split));
        if let Some(warning) = &self.warning {
            page.warn(warning);
        }
        match &self.figures {
            Figures::Numbers(report) => {
                page.numbers(report);
                page.courses(&self.courses, report.cap);
            }
            Figures::Classes(report) => page.classes(report),
        }
        if let Some(interval) = &self.interval {
            page.text(&interval.to_string());
        }
        page.importance("how much the error grows", &self.importance);
        page.data(self);
        page
    }
}

impl fmt::Display for Validated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "training '{}', validated {}", self.training, self.split)?;
        if let Some(warning) = &self.warning {
            writeln!(f, "warning: {warning}")?;
        }
        let what = match &self.figures {
            Figures::Numbers(_) => "RMSE",
            Figures::Classes(_) => "accuracy",
        };
        let mut table = Table::new(["part", "learnt from", "predicted", what]);
        for fold in &self.folds {
            let (learnt, predicted) = (grouped(fold.learnt as u64), grouped(fold.predicted as u64));
            table.push([fold.name.clone(), learnt, predicted, decimal(fold.figure, 4)]);
        }
        writeln!(f, "{table}")?;
        match &self.figures {
            Figures::Numbers(report) => writeln!(f, "{report}")?,
            Figures::Classes(report) => writeln!(f, "{report}")?,
        }
        if let Some(pinball) = self.pinball {
            writeln!(f, "mean pinball loss: {pinball:.4}")?;
        }
        if let Some(interval) = &self.interval {
            writeln!(f, "{interval}")?;
        }
        let worse = format!("worth in {what}");
        let mut table = Table::new(["feature", &worse]);
        for one in self.importance.iter().take(MOST_SHOWN) {
            table.push([one.feature.clone(), decimal(Some(one.increase), 4)]);
        }
        write!(f, "{table}")
    }
}
