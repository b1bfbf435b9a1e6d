//! Models of other libraries as weights of `builtin:boosted`, and networks as weights of the plugin `onnx`.
//!
//! The sums of the trees have the bits of the library that trained them. Links (sigmoid, softmax) are Foreline's own,
//! in `f64`: they agree with the libraries' to about 1e-6. What a rule here was not checked for is refused by name,
//! never guessed.

mod layout;
mod lightgbm;
mod onnx;
mod xgboost;

use foreline_sdk::ensemble::Ensemble;
use foreline_sdk::trees::{FORMAT, Link, Payload};
use foreline_sdk::weights::{self, Family, Feature, Header, Missing, Output, OutputKind};

use crate::train::ModelMeta;

pub use onnx::{Columns, NetworkMeta, Scaling, import_network};

/// Bytes of a model file: a thousand trees of a thousand leaves take about 100 MiB.
const MAX_BYTES: usize = 256 << 20;

/// A file format of another library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// XGBoost's JSON, as `save_model("m.json")` writes it.
    XgboostJson,
    /// LightGBM's text, as `save_model("m.txt")` writes it.
    LightgbmText,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 2] = [Format::XgboostJson, Format::LightgbmText];

    /// The word users type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::XgboostJson => "xgboost",
            Format::LightgbmText => "lightgbm",
        }
    }

    /// The format called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Why a model was not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file is not what its format says.
    #[error("this is not a model in the format '{format}': {why}", format = .format.name())]
    Unreadable {
        /// The format that was expected.
        format: Format,
        /// What does not fit.
        why: String,
    },
    /// The file is no network in ONNX.
    #[error("this is not a network in ONNX: {0}")]
    NoNetwork(String),
    /// The model is of a kind whose rules were not checked.
    #[error("{0} cannot be imported")]
    Refused(String),
    /// The file is larger than any model that fits the sandbox.
    #[error("the file has {0} bytes, more than {max} MiB", max = MAX_BYTES >> 20)]
    TooLarge(usize),
    /// The trees do not fit together, or do not fit what is said of the model.
    #[error("the model does not fit together: {0}")]
    Broken(String),
}

/// Names, and the range seen in training where the file has it.
type Features = Vec<(String, Option<(f64, f64)>)>;

/// What a model is in the words of both formats.
struct Foreign {
    /// Trees without a link; for two classes the sums belong to output 1.
    payload: Payload,
    target: Target,
    features: Features,
    library: String,
    notes: Vec<(String, String)>,
}

/// What the trees were trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Number,
    Classes(usize),
}

impl Target {
    /// Outputs of the trees. Two classes are softmax over a score that stays 0 and the sum: the logistic function.
    fn n_outputs(self) -> usize {
        match self {
            Target::Number => 1,
            Target::Classes(n) => n,
        }
    }
}

/// The weights file of a model of another library. The scores of a number are `meta.output`; of classes there is the
/// index, named like `meta.output` and with its labels (`0`, `1` … where it has none), and the probabilities
/// `p_<label>`. Rows with missing features are scored, as the library does.
///
/// # Errors
/// When the file cannot be read, or says what was not checked against its library.
pub fn import(format: Format, bytes: &[u8], meta: &ModelMeta) -> Result<Vec<u8>, ImportError> {
    if bytes.len() > MAX_BYTES {
        return Err(ImportError::TooLarge(bytes.len()));
    }
    let Foreign { mut payload, target, features, library, notes } = match format {
        Format::XgboostJson => xgboost::read(bytes)?,
        Format::LightgbmText => lightgbm::read(bytes)?,
    };
    if let Target::Classes(_) = target {
        payload.link = Link::Softmax;
    }
    let feature = |(name, trained_range)| Feature {
        name,
        unit: None,
        missing: Missing::PassNan,
        trained_range,
    };
    let mut annotations = meta.annotations.clone();
    annotations.extend(notes);
    let header = Header {
        format: FORMAT,
        name: meta.name.clone(),
        version: meta.version.clone(),
        library,
        features: features.into_iter().map(feature).collect(),
        outputs: outputs(target, &meta.output)?,
        state_width: 0,
        state_version: 0,
        annotations,
    };
    check_names(&header)?;
    let broken = |e: &dyn std::fmt::Display| ImportError::Broken(e.to_string());
    // A file without covers scores all the same; only explaining asks for them.
    if payload.covers.len() != payload.nodes.len() {
        payload.covers.clear();
    }
    Ensemble::new(payload.clone(), &header).map_err(|e| broken(&e))?;
    weights::write(Family::Trees, &header, &payload).map_err(|e| broken(&e))
}

fn outputs(target: Target, output: &Output) -> Result<Vec<Output>, ImportError> {
    let Target::Classes(n) = target else {
        return match output.kind {
            OutputKind::ClassIndex => {
                let message = "the model predicts a number, not a class";
                Err(ImportError::Broken(message.to_owned()))
            }
            _ => Ok(vec![output.clone()]),
        };
    };
    let labels = match output.labels.len() {
        0 => (0..n).map(|class| class.to_string()).collect(),
        given if given == n => output.labels.clone(),
        given => {
            return Err(ImportError::Broken(format!("the model has {n} classes, not {given}")));
        }
    };
    let share = |label: &String| Output {
        name: format!("p_{label}"),
        kind: OutputKind::Probability,
        labels: vec![],
    };
    let shares: Vec<Output> = labels.iter().map(share).collect();
    let class = Output { name: output.name.clone(), kind: OutputKind::ClassIndex, labels };
    Ok(std::iter::once(class).chain(shares).collect())
}

/// The host takes no descriptor in which a name is there twice; better said before the model runs.
fn check_names(header: &Header) -> Result<(), ImportError> {
    let features = header.features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>();
    let outputs = header.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>();
    for mut names in [features, outputs] {
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ImportError::Broken(format!("the name '{}' is there twice", pair[0])));
        }
    }
    Ok(())
}

/// Trees without any, which start from `base`; two classes have a first output that stays 0.
fn empty(target: Target, base: Vec<f64>) -> Payload {
    Payload {
        input_f32: false,
        strict: false,
        acc_f32: false,
        outputs: target.n_outputs() as u32,
        base,
        average: false,
        link: Link::Identity,
        tree_output: vec![],
        tree_start: vec![],
        nodes: vec![],
        values: vec![],
        value_width: 1,
        covers: vec![],
    }
}
