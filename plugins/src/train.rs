//! Training: rows with a target become weights for a plugin.
//!
//! Training runs natively, scoring in the sandbox, and both give the same bits: the weights hold what was trained in
//! the form that the plugin evaluates, and `foreline-sdk` holds the one evaluator.
//!
//! The result depends on the rows, the parameters and the seed; never on the number of threads.

mod boosted;
mod degradation;
mod forest;
mod knn;
mod linear;
mod pca_t2q;
mod quantile;
mod random;
mod scaling;

use foreline_sdk::weights::{self, Family, Feature, Header, Missing, Output, OutputKind, Profile};
use schemars::{Schema, SchemaGenerator};

pub use boosted::{BoostedParameters, Objective};
pub use degradation::{Course, DegradationParameters, Direction};
pub use forest::{ForestParameters, smartcore_forest};
pub use knn::{KnnParameters, Scale, Weighting};
pub use linear::LinearParameters;
pub use pca_t2q::PcaT2qParameters;

/// Classes of a target: a model has an output a class, and a host takes 4096 columns.
const MAX_CLASSES: usize = 1000;
/// Bins of a feature's profile: deciles, as the population stability index is commonly measured.
const PROFILE_BINS: usize = 10;

/// Rows to learn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingSet {
    /// The features' names: columns of the stream that is scored later.
    pub feature_names: Vec<String>,
    /// Their units, where they are known; as many as names.
    pub units: Vec<Option<String>>,
    /// How many rows.
    pub rows: usize,
    /// rows × features, row-major; NaN where a value is missing.
    pub x: Vec<f64>,
    /// The target of every row: a number, or the index of a label; NaN where it is missing.
    pub y: Vec<f64>,
    /// The names of the classes where the target is one; empty where it is a number.
    pub labels: Vec<String>,
    /// Which rows belong together, such as those of a machine: one number a row, or empty where none do.
    pub groups: Vec<u32>,
}

/// What is said of the model in its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMeta {
    /// The model's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// What comes out. Where the target is a class, the index of the likeliest gets this name, and the probabilities
    /// that follow it are called `p_<label>`; quantiles are called `<name>_q10`.
    pub output: Output,
    /// Facts worth keeping: the training data's digest, the recipe.
    pub annotations: Vec<(String, String)>,
}

impl ModelMeta {
    /// A model of remaining useful life in `unit`.
    #[must_use]
    pub fn remaining_life(name: &str, unit: &str) -> Self {
        ModelMeta {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            output: Output {
                name: "remaining_life".to_owned(),
                kind: OutputKind::RemainingLife(unit.to_owned()),
                labels: Vec::new(),
            },
            annotations: Vec::new(),
        }
    }
}

/// What training gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The bytes of the weights file.
    pub weights: Vec<u8>,
    /// Rows that were learned from.
    pub rows_used: usize,
    /// Rows left out because the target is missing, or a feature that the family cannot do without.
    pub rows_dropped: usize,
}

/// Why nothing could be trained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// There is no trainer for the family.
    #[error("'{0}' cannot be trained here; there is {known}", known = family_names())]
    UnknownFamily(String),
    /// A parameter is not known or has a value that cannot be.
    #[error("parameter '{at}': {message}")]
    Parameters {
        /// Which, as a path.
        at: String,
        /// What is wrong with it.
        message: String,
    },
    /// The family cannot learn the target.
    #[error("the target does not fit: {0}")]
    Target(String),
    /// The parts of the training set do not fit together.
    #[error("the training set does not fit together: {0}")]
    Shape(String),
    /// No row is left to learn from.
    #[error(
        "none of {0} rows has the target and all features it needs; see which one is always missing"
    )]
    NoRows(usize),
    /// The algorithm failed.
    #[error("training failed: {0}")]
    Failed(String),
}

impl TrainError {
    fn parameter(at: &str, message: impl Into<String>) -> Self {
        TrainError::Parameters { at: at.to_owned(), message: message.into() }
    }
}

/// A parameter that counts something lies in a range.
fn within<T: PartialOrd + Copy + std::fmt::Display>(
    at: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), TrainError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(TrainError::parameter(at, format!("'{value}' is not between {low} and {high}")))
}

/// Trains weights of one family.
#[derive(Debug, Clone, Copy)]
pub struct Trainer {
    /// The family of the weights; the plugin that scores them reads the same.
    pub family: Family,
    /// One sentence.
    pub summary: &'static str,
    /// The JSON schema of its parameters.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Whether it learns from a target; the others learn what is there.
    pub needs_target: bool,
    missing: Missing,
    fit: fn(&serde_json::Value, &Matrix) -> Result<Fitted, TrainError>,
}

/// All trainers.
pub const TRAINERS: &[Trainer] = &[
    Trainer {
        family: Family::Forest,
        summary: "A random forest of regression or classification trees.",
        schema: |generator| generator.subschema_for::<ForestParameters>(),
        needs_target: true,
        missing: Missing::SkipRow,
        fit: forest::fit,
    },
    Trainer {
        family: Family::Trees,
        summary: "Gradient-boosted trees: a number, its quantiles, or a class.",
        schema: |generator| generator.subschema_for::<BoostedParameters>(),
        needs_target: true,
        missing: Missing::PassNan,
        fit: boosted::fit,
    },
    Trainer {
        family: Family::Linear,
        summary: "A weighted sum of the features: ridge, lasso, elastic net; of classes, logistic regression.",
        schema: |generator| generator.subschema_for::<LinearParameters>(),
        needs_target: true,
        missing: Missing::SkipRow,
        fit: linear::fit,
    },
    Trainer {
        family: Family::Knn,
        summary: "What the nearest rows of the training say: a number or a class.",
        schema: |generator| generator.subschema_for::<KnnParameters>(),
        needs_target: true,
        missing: Missing::SkipRow,
        fit: knn::fit,
    },
    Trainer {
        family: Family::PcaT2q,
        summary: "How far a row is from what is normal, by Hotelling's T² and Q.",
        schema: |generator| generator.subschema_for::<PcaT2qParameters>(),
        needs_target: false,
        missing: Missing::SkipRow,
        fit: pca_t2q::fit,
    },
    Trainer {
        family: Family::Degradation,
        summary: "Remaining life from the drift of a health index, with an interval; no failure need have been seen.",
        schema: |generator| generator.subschema_for::<DegradationParameters>(),
        needs_target: false,
        missing: Missing::SkipRow,
        fit: degradation::fit,
    },
];

/// What a trainer hands back: the payload, and who made it.
struct Fitted {
    payload: Payload,
    format: u16,
    library: &'static str,
    columns: Columns,
}

/// What the columns are that come out.
enum Columns {
    /// The target.
    One,
    /// These quantiles of the target.
    Quantiles(Vec<f64>),
    /// The class, and a probability for each.
    Classes,
    /// T², Q and the anomaly.
    Anomaly,
    /// The target, and the ends of an interval.
    Life,
}

enum Payload {
    Trees(foreline_sdk::trees::Payload),
    Linear(foreline_sdk::linear::Payload),
    Knn(foreline_sdk::knn::Payload),
    PcaT2q(foreline_sdk::pca_t2q::Payload),
    Degradation(foreline_sdk::degradation::Payload),
}

impl Payload {
    /// Numbers that the host keeps for a key, and the version of their meaning.
    fn state(&self) -> (u32, u32) {
        match self {
            Payload::Degradation(_) => (foreline_sdk::degradation::STATE_WIDTH, 1),
            Payload::Trees(_) | Payload::Linear(_) | Payload::Knn(_) | Payload::PcaT2q(_) => (0, 0),
        }
    }
}

/// The rows that are learned from: finite, or NaN in features where the family can do without.
struct Matrix {
    rows: usize,
    width: usize,
    x: Vec<f64>,
    /// Numbers, or indices below `n_classes`.
    y: Vec<f64>,
    /// One a row, or empty.
    groups: Vec<u32>,
    /// 0 where the target is a number.
    n_classes: usize,
}

/// Trains a model of `family` (`forest`, `boosted`, `linear`, `knn`, `pca_t2q`, `degradation`; see [`crate::family_of`] for that of a plugin). `params` is a map of
/// the family's parameters; what it leaves out has its default.
///
/// # Errors
/// When family, parameters or rows cannot be used.
pub fn train(
    family: &str,
    params: &serde_json::Value,
    set: &TrainingSet,
    meta: &ModelMeta,
) -> Result<Trained, TrainError> {
    let unknown = || TrainError::UnknownFamily(family.to_owned());
    let trainer = TRAINERS.iter().find(|t| t.family.name() == family).ok_or_else(unknown)?;
    let matrix = usable_rows(set, trainer)?;
    let fitted = (trainer.fit)(params, &matrix)?;
    let mut annotations = meta.annotations.clone();
    annotations.push(("training_rows".to_owned(), matrix.rows.to_string()));
    annotations.push(("parameters".to_owned(), params.to_string()));
    let (state_width, state_version) = fitted.payload.state();
    let header = Header {
        format: fitted.format,
        name: meta.name.clone(),
        version: meta.version.clone(),
        library: fitted.library.to_owned(),
        features: features(set, &matrix, trainer.missing),
        outputs: outputs(&fitted.columns, &meta.output, &set.labels)?,
        state_width,
        state_version,
        annotations,
    };
    let profiles: Vec<Profile> = (0..matrix.width).map(|at| profile(&matrix, at)).collect();
    let weights = match &fitted.payload {
        Payload::Trees(trees) => weights::write_profiled(trainer.family, &header, &profiles, trees),
        Payload::Linear(sum) => weights::write_profiled(trainer.family, &header, &profiles, sum),
        Payload::Knn(knn) => weights::write_profiled(trainer.family, &header, &profiles, knn),
        Payload::PcaT2q(pca) => weights::write_profiled(trainer.family, &header, &profiles, pca),
        Payload::Degradation(model) => {
            weights::write_profiled(trainer.family, &header, &profiles, model)
        }
    };
    Ok(Trained {
        weights: weights.map_err(|e| TrainError::Failed(e.to_string()))?,
        rows_used: matrix.rows,
        rows_dropped: set.rows - matrix.rows,
    })
}

/// Whether a plugin's weights are learnt from a target: `false` for the families that learn what is there. A plugin that does
/// not say what it reads is taken to need one.
#[must_use]
pub fn needs_target(plugin: &[u8]) -> bool {
    let family = crate::family_of(plugin);
    TRAINERS.iter().find(|t| Some(t.family) == family).is_none_or(|t| t.needs_target)
}

/// Reads the parameters of a family; null is an empty map.
fn parameters<P: foreline_engine::Described>(params: &serde_json::Value) -> Result<P, TrainError> {
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let params = if params.is_null() { &empty } else { params };
    foreline_engine::parse_config(params)
        .map_err(|e| TrainError::Parameters { at: e.at, message: e.message })
}

/// The rows in which nothing is missing that the family needs.
fn usable_rows(set: &TrainingSet, trainer: &Trainer) -> Result<Matrix, TrainError> {
    let missing = trainer.missing;
    let width = set.feature_names.len();
    if width == 0 {
        return Err(TrainError::Shape("there are no features".to_owned()));
    }
    for (what, found, expected) in [
        ("units", set.units.len(), width),
        ("values", set.x.len(), set.rows * width),
        ("targets", set.y.len(), set.rows),
    ] {
        if found != expected {
            return Err(TrainError::Shape(format!("{found} {what} instead of {expected}")));
        }
    }
    if !set.groups.is_empty() && set.groups.len() != set.rows {
        let message = format!("{} groups instead of {}", set.groups.len(), set.rows);
        return Err(TrainError::Shape(message));
    }
    check_classes(set)?;
    let n_classes = set.labels.len();
    let mut matrix =
        Matrix { rows: 0, width, x: Vec::new(), y: Vec::new(), groups: Vec::new(), n_classes };
    let fits = |x: &f64| x.is_finite() || (x.is_nan() && missing == Missing::PassNan);
    for (at, (row, &target)) in set.x.chunks_exact(width).zip(&set.y).enumerate() {
        if (target.is_finite() || !trainer.needs_target) && row.iter().all(fits) {
            matrix.rows += 1;
            matrix.x.extend_from_slice(row);
            matrix.y.push(target);
            matrix.groups.extend(set.groups.get(at));
        }
    }
    if matrix.rows == 0 { Err(TrainError::NoRows(set.rows)) } else { Ok(matrix) }
}

/// Classes are few, have names of their own, and every target names one.
fn check_classes(set: &TrainingSet) -> Result<(), TrainError> {
    if set.labels.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&String> = set.labels.iter().collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(TrainError::Target("two classes have one name".to_owned()));
    }
    match set.labels.len() {
        1 => return Err(TrainError::Target(format!("'{}' is the only class", set.labels[0]))),
        n if n > MAX_CLASSES => {
            let message = format!("{n} classes are more than {MAX_CLASSES}");
            return Err(TrainError::Target(message));
        }
        _ => {}
    }
    let fits = |y: f64| y.is_nan() || (y >= 0.0 && y < set.labels.len() as f64 && y.fract() == 0.0);
    match set.y.iter().find(|y| !fits(**y)) {
        None => Ok(()),
        Some(y) => Err(TrainError::Shape(format!("{y} is not the index of a label"))),
    }
}

/// The columns that come out.
fn outputs(
    columns: &Columns,
    target: &Output,
    labels: &[String],
) -> Result<Vec<Output>, TrainError> {
    let output = |name, kind| Output { name, kind, labels: Vec::new() };
    let outputs: Vec<Output> = match columns {
        Columns::One => vec![target.clone()],
        Columns::Quantiles(quantiles) => {
            let name = |q: f64| format!("{}_q{}", target.name, percent(q));
            quantiles.iter().map(|&q| output(name(q), target.kind.clone())).collect()
        }
        Columns::Classes => {
            let class = Output {
                name: target.name.clone(),
                kind: OutputKind::ClassIndex,
                labels: labels.to_vec(),
            };
            let share = |label: &String| output(format!("p_{label}"), OutputKind::Probability);
            std::iter::once(class).chain(labels.iter().map(share)).collect()
        }
        Columns::Anomaly => ["t2", "q", "anomaly"]
            .map(|name| output(name.to_owned(), OutputKind::AnomalyScore))
            .to_vec(),
        Columns::Life => ["", "_low", "_high"]
            .map(|end| output(format!("{}{end}", target.name), target.kind.clone()))
            .to_vec(),
    };
    let mut names: Vec<&String> = outputs.iter().map(|o| &o.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(outputs),
        Some(pair) => Err(TrainError::Target(format!("two outputs would be called '{}'", pair[0]))),
    }
}

/// A quantile as column names write it: `10` of 0.1, `2_5` of 0.025.
fn percent(q: f64) -> String {
    // Ten digits, so that 0.07 times 100 is 7.
    let text = format!("{:.10}", q * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').replace('.', "_")
}

fn features(set: &TrainingSet, matrix: &Matrix, missing: Missing) -> Vec<Feature> {
    let named = set.feature_names.iter().zip(&set.units).enumerate();
    named
        .map(|(at, (name, unit))| {
            let values = matrix.x.iter().skip(at).step_by(matrix.width);
            // `min` and `max` pass over NaN.
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
                (low.min(x), high.max(x))
            });
            Feature {
                name: name.clone(),
                unit: unit.clone(),
                missing,
                trained_range: (low <= high).then_some((low, high)),
            }
        })
        .collect()
}

/// The mean of a feature, and its deciles: nine values that stand at tenths of the rows, of equal ones one.
fn profile(matrix: &Matrix, at: usize) -> Profile {
    let values = matrix.x.iter().skip(at).step_by(matrix.width).copied();
    let mut values: Vec<f64> = values.filter(|x| !x.is_nan()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return Profile { shares: vec![0.0], ..Profile::default() };
    };
    let n = values.len() as f64;
    // Shrunk first, so that a sum of large values does not overflow.
    let mean = values.iter().map(|x| x / n).sum();
    let mut edges: Vec<f64> =
        (1..PROFILE_BINS).map(|i| values[i * values.len() / PROFILE_BINS]).collect();
    edges.dedup();
    // Behind an edge that is the largest value there is no row.
    edges.retain(|&edge| edge < values[last]);
    let below = edges.iter().map(|&edge| values.partition_point(|&x| x <= edge) as f64 / n);
    let ends: Vec<f64> = below.chain([1.0]).collect();
    let starts = std::iter::once(0.0).chain(ends.iter().copied());
    let shares = ends.iter().zip(starts).map(|(end, start)| end - start).collect();
    Profile { mean, edges, shares }
}

fn family_names() -> String {
    TRAINERS.iter().map(|t| format!("'{}'", t.family.name())).collect::<Vec<_>>().join(", ")
}
