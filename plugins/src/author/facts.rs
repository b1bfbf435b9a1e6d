//! What a plugin says of itself, for people and programs.

use serde::Serialize;

use crate::sandbox::{Descriptor, MissingPolicy, OutputKind};

/// A model's description of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// The model's name.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// The columns it needs.
    pub features: Vec<FeatureFacts>,
    /// The columns that come out.
    pub outputs: Vec<OutputFacts>,
    /// Numbers that are kept for every key; 0 is stateless.
    pub state_width: u32,
    /// The version of those numbers.
    pub state_version: u32,
    /// Most rows in a call; 0 is as the host likes.
    pub max_rows: u32,
    /// Other facts.
    pub annotations: Vec<(String, String)>,
}

/// A column that a model needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureFacts {
    /// The column's name.
    pub name: String,
    /// UCUM code, where it is known.
    pub unit: Option<String>,
    /// `skip_row` or `pass_nan`.
    pub missing: &'static str,
    /// Smallest and largest value seen in training.
    pub trained_range: Option<(f64, f64)>,
}

/// A column that comes out of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputFacts {
    /// The column's name.
    pub name: String,
    /// `remaining_life`, `probability`, `anomaly_score`, `class_index` or `value`.
    pub kind: &'static str,
    /// The unit of a `remaining_life`.
    pub unit: Option<String>,
    /// Class names of a `class_index`.
    pub labels: Vec<String>,
}

impl Facts {
    pub(super) fn of(d: &Descriptor) -> Self {
        let features = d.features.iter().map(|f| FeatureFacts {
            name: f.name.clone(),
            unit: f.unit.clone(),
            missing: match f.missing {
                MissingPolicy::SkipRow => "skip_row",
                MissingPolicy::PassNan => "pass_nan",
            },
            trained_range: f.trained_range,
        });
        let outputs = d.outputs.iter().map(|o| {
            let (kind, unit) = match &o.kind {
                OutputKind::RemainingLife(unit) => ("remaining_life", Some(unit.clone())),
                OutputKind::Probability => ("probability", None),
                OutputKind::AnomalyScore => ("anomaly_score", None),
                OutputKind::ClassIndex => ("class_index", None),
                OutputKind::Value => ("value", None),
            };
            OutputFacts { name: o.name.clone(), kind, unit, labels: o.labels.clone() }
        });
        Facts {
            name: d.name.clone(),
            version: d.version.clone(),
            features: features.collect(),
            outputs: outputs.collect(),
            state_width: d.state_width,
            state_version: d.state_version,
            max_rows: d.max_rows,
            annotations: d.annotations.clone(),
        }
    }
}
