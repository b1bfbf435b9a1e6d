//! Training: rows with a target become weights for a plugin.
//!
//! Training runs natively, scoring in the sandbox, and both give the same bits: the weights hold what was trained in
//! the form that the plugin evaluates, and `foreline-sdk` holds the one evaluator.
//!
//! The result depends on the rows, the parameters and the seed; never on the number of threads.

mod forest;
mod linear;

use foreline_sdk::weights::{Family, Feature, Header, Missing, Output, OutputKind};
use schemars::{Schema, SchemaGenerator};

pub use forest::ForestParameters;
pub use linear::LinearParameters;

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
    /// The target of every row; NaN where it is missing.
    pub y: Vec<f64>,
}

/// What is said of the model in its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMeta {
    /// The model's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// What comes out.
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
    /// Rows left out because a feature or the target is missing.
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
    /// The parts of the training set do not fit together.
    #[error("the training set does not fit together: {0}")]
    Shape(String),
    /// No row is left to learn from.
    #[error(
        "none of {0} rows has all features and the target; see which feature is always missing"
    )]
    NoRows(usize),
    /// The algorithm failed.
    #[error("training failed: {0}")]
    Failed(String),
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
    fit: fn(&serde_json::Value, &Matrix) -> Result<Fitted, TrainError>,
}

/// All trainers.
pub const TRAINERS: &[Trainer] = &[
    Trainer {
        family: Family::Forest,
        summary: "A random forest of regression trees.",
        schema: |generator| generator.subschema_for::<ForestParameters>(),
        fit: forest::fit,
    },
    Trainer {
        family: Family::Linear,
        summary: "A weighted sum of the features (ridge regression).",
        schema: |generator| generator.subschema_for::<LinearParameters>(),
        fit: linear::fit,
    },
];

/// What a trainer hands back: the payload, and who made it.
struct Fitted {
    payload: Payload,
    format: u16,
    library: &'static str,
}

enum Payload {
    Trees(foreline_sdk::trees::Payload),
    Linear(foreline_sdk::linear::Payload),
}

/// The rows that are learned from: whole and finite.
struct Matrix {
    rows: usize,
    width: usize,
    x: Vec<f64>,
    y: Vec<f64>,
}

/// Trains a model of `family` (`forest`, `linear`; see [`crate::family_of`] for that of a plugin). `params` is a map of
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
    let matrix = whole_rows(set)?;
    let fitted = (trainer.fit)(params, &matrix)?;
    let mut annotations = meta.annotations.clone();
    annotations.push(("training_rows".to_owned(), matrix.rows.to_string()));
    annotations.push(("parameters".to_owned(), params.to_string()));
    let header = Header {
        format: fitted.format,
        name: meta.name.clone(),
        version: meta.version.clone(),
        library: fitted.library.to_owned(),
        features: features(set, &matrix),
        outputs: vec![meta.output.clone()],
        state_width: 0,
        state_version: 0,
        annotations,
    };
    let weights = match &fitted.payload {
        Payload::Trees(trees) => foreline_sdk::weights::write(trainer.family, &header, trees),
        Payload::Linear(linear) => foreline_sdk::weights::write(trainer.family, &header, linear),
    };
    Ok(Trained {
        weights: weights.map_err(|e| TrainError::Failed(e.to_string()))?,
        rows_used: matrix.rows,
        rows_dropped: set.rows - matrix.rows,
    })
}

/// Reads the parameters of a family; null is an empty map.
fn parameters<P: foreline_engine::Described>(params: &serde_json::Value) -> Result<P, TrainError> {
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let params = if params.is_null() { &empty } else { params };
    foreline_engine::parse_config(params)
        .map_err(|e| TrainError::Parameters { at: e.at, message: e.message })
}

/// The rows in which nothing is missing.
fn whole_rows(set: &TrainingSet) -> Result<Matrix, TrainError> {
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
    let mut matrix = Matrix { rows: 0, width, x: Vec::new(), y: Vec::new() };
    for (row, &target) in set.x.chunks_exact(width).zip(&set.y) {
        if target.is_finite() && row.iter().all(|x| x.is_finite()) {
            matrix.rows += 1;
            matrix.x.extend_from_slice(row);
            matrix.y.push(target);
        }
    }
    if matrix.rows == 0 { Err(TrainError::NoRows(set.rows)) } else { Ok(matrix) }
}

fn features(set: &TrainingSet, matrix: &Matrix) -> Vec<Feature> {
    let named = set.feature_names.iter().zip(&set.units).enumerate();
    named
        .map(|(at, (name, unit))| {
            let values = matrix.x.iter().skip(at).step_by(matrix.width);
            let range = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
                (low.min(x), high.max(x))
            });
            Feature {
                name: name.clone(),
                unit: unit.clone(),
                missing: Missing::SkipRow,
                trained_range: Some(range),
            }
        })
        .collect()
}

fn family_names() -> String {
    TRAINERS.iter().map(|t| format!("'{}'", t.family.name())).collect::<Vec<_>>().join(", ")
}
