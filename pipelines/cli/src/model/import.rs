//! `foreline model import`: a model of another library as weights of `builtin:boosted`, a network as weights of `onnx`.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use foreline_plugins::import::{
    Format, ImportError, NetworkMeta, Scaling, import as convert, import_network,
};
use foreline_plugins::train::ModelMeta;
use foreline_sdk::network::{Activation, Layout, Pad};
use foreline_sdk::weights::{Output, OutputKind};

use crate::failure::{Failure, Outcome};
use crate::train::write_whole;

/// What `foreline model import` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the library wrote: `save_model("m.json")` of XGBoost, `save_model("m.txt")` of LightGBM,
    /// `torch.onnx.export` of PyTorch.
    file: PathBuf,
    /// The library.
    #[arg(long, value_enum)]
    from: Library,
    /// The weights file to write.
    #[arg(long, short)]
    out: PathBuf,
    /// The column of the scores; of a model of classes that of the class. A network with several numbers: several, with
    /// commas.
    #[arg(long, default_value = "score")]
    output: String,
    /// The scores are remaining life in this unit, such as `h` or `cycles`.
    #[arg(long, value_name = "UNIT", conflicts_with = "labels")]
    remaining_life: Option<String>,
    /// The names of the classes, in the library's order: 0, 1, 2 unless given.
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    #[command(flatten)]
    network: NetworkArguments,
}

/// What an ONNX file does not say.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --from onnx")]
struct NetworkArguments {
    /// The features in the network's order.
    #[arg(long, value_delimiter = ',', required_if_eq("from", "onnx"))]
    features: Vec<String>,
    /// Their units as UCUM codes, empty where unknown: `Cel,,bar`.
    #[arg(long, value_delimiter = ',')]
    units: Vec<String>,
    /// Rows of a window, where the file leaves it open.
    #[arg(long)]
    window: Option<u32>,
    /// Which axis is time, where the lengths leave it open.
    #[arg(long, value_enum)]
    layout: Option<Axes>,
    /// What stands for the rows that a key does not have yet; `none`: no score until the window is full.
    #[arg(long, value_enum, default_value = "none")]
    pad: Padding,
    /// What is done with the numbers that come out.
    #[arg(long, value_enum, default_value = "none")]
    activation: Function,
    /// JSON with the scaler's figures: `{"input": {"mean": [..], "scale": [..]}, "output": ..}`.
    #[arg(long, value_name = "FILE")]
    scaling: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Axes {
    /// `[batch, time, feature]`.
    TimeFirst,
    /// `[batch, feature, time]`.
    FeatureFirst,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Padding {
    /// Nothing.
    None,
    /// The key's first row.
    First,
    /// Zeros, after scaling.
    Zero,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Function {
    /// Nothing.
    None,
    /// Each a probability.
    Sigmoid,
    /// All together shares of 1.
    Softmax,
}

/// A library whose models can be read.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Library {
    /// JSON.
    Xgboost,
    /// Text.
    Lightgbm,
    /// A neural network, as PyTorch and Keras export it.
    Onnx,
}

/// Reads the model and writes weights with the same scores.
///
/// # Errors
/// When the file cannot be read, or says what is not known to give the same scores.
#[expect(clippy::print_stdout, reason = "what was written is what the command ends with")]
pub(super) fn import(arguments: &Arguments) -> Outcome {
    let named = || format!("'{}'", arguments.file.display());
    let bytes = std::fs::read(&arguments.file).with_context(named).map_err(Failure::Unreadable)?;
    let name = arguments.file.file_stem().map_or("model".into(), |stem| stem.to_string_lossy());
    let kind = match (&arguments.remaining_life, arguments.labels.is_empty()) {
        (Some(unit), _) => OutputKind::RemainingLife(unit.clone()),
        (None, false) => OutputKind::ClassIndex,
        (None, true) => OutputKind::Value,
    };
    let (name, version) = (name.into_owned(), "1.0.0".to_owned());
    let labels = arguments.labels.clone();
    let output = Output { name: arguments.output.clone(), kind, labels };
    let digest = foreline_plugins::digest(&bytes);
    let annotations = vec![("imported_sha256".to_owned(), digest)];
    let meta = ModelMeta { name, version, output, annotations };
    let refused = |e: ImportError| Failure::Unreadable(anyhow!("{}: {e}", named()));
    let (weights, plugin) = match arguments.from {
        Library::Xgboost => (convert(Format::XgboostJson, &bytes, &meta), "builtin:boosted"),
        Library::Lightgbm => (convert(Format::LightgbmText, &bytes, &meta), "builtin:boosted"),
        Library::Onnx => {
            let meta = network(&arguments.network, meta).map_err(Failure::Unreadable)?;
            (import_network(&bytes, &meta), "plugins/prebuilt/onnx.wasm")
        }
    };
    let weights = weights.map_err(refused)?;
    write_whole(&arguments.out, &weights)?;
    println!(
        "wrote '{}' ({} bytes) for plugin: {plugin}; `foreline model check {plugin} --weights {}` says what it takes",
        arguments.out.display(),
        weights.len(),
        arguments.out.display()
    );
    Ok(())
}

/// What the command says of a network.
fn network(arguments: &NetworkArguments, mut model: ModelMeta) -> anyhow::Result<NetworkMeta> {
    let n_units = arguments.units.len();
    if n_units > 0 && n_units != arguments.features.len() {
        anyhow::bail!("there are {n_units} units for {} features", arguments.features.len());
    }
    let unit = |at: usize| arguments.units.get(at).filter(|unit| !unit.is_empty()).cloned();
    let features = arguments.features.iter().enumerate();
    let scaling = match &arguments.scaling {
        None => Scaling::default(),
        Some(path) => {
            let named = || format!("'{}'", path.display());
            let bytes = std::fs::read(path).with_context(named)?;
            serde_json::from_slice(&bytes).with_context(named)?
        }
    };
    let outputs: Vec<String> = model.output.name.split(',').map(str::to_owned).collect();
    let activation = match arguments.activation {
        Function::None => Activation::Identity,
        Function::Sigmoid => Activation::Sigmoid,
        Function::Softmax => Activation::Softmax,
    };
    if activation != Activation::Identity && model.output.kind == OutputKind::Value {
        model.output.kind = OutputKind::Probability;
    }
    Ok(NetworkMeta {
        model,
        features: features.map(|(at, name)| (name.clone(), unit(at))).collect(),
        outputs,
        window: arguments.window,
        layout: arguments.layout.map(|axes| match axes {
            Axes::TimeFirst => Layout::TimeFirst,
            Axes::FeatureFirst => Layout::FeatureFirst,
        }),
        pad: match arguments.pad {
            Padding::None => Pad::None,
            Padding::First => Pad::First,
            Padding::Zero => Pad::Zero,
        },
        activation,
        scaling,
    })
}
