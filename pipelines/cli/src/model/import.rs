//! `foreline model import`: a model of another library as weights of `builtin:boosted`.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use foreline_plugins::import::{Format, import as convert};
use foreline_plugins::train::ModelMeta;
use foreline_sdk::weights::{Output, OutputKind};

use crate::failure::{Failure, Outcome};
use crate::train::write_whole;

/// What `foreline model import` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the library wrote: `save_model("m.json")` of XGBoost, `save_model("m.txt")` of LightGBM.
    file: PathBuf,
    /// The library.
    #[arg(long, value_enum)]
    from: Library,
    /// The weights file to write.
    #[arg(long, short)]
    out: PathBuf,
    /// The column of the scores; of a model of classes that of the class.
    #[arg(long, default_value = "score")]
    output: String,
    /// The scores are remaining life in this unit, such as `h` or `cycles`.
    #[arg(long, value_name = "UNIT", conflicts_with = "labels")]
    remaining_life: Option<String>,
    /// The names of the classes, in the library's order: 0, 1, 2 unless given.
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
}

/// A library whose models can be read.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Library {
    /// JSON.
    Xgboost,
    /// Text.
    Lightgbm,
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
    let format = match arguments.from {
        Library::Xgboost => Format::XgboostJson,
        Library::Lightgbm => Format::LightgbmText,
    };
    let weights = convert(format, &bytes, &ModelMeta { name, version, output, annotations })
        .map_err(|e| Failure::Unreadable(anyhow!("{}: {e}", named())))?;
    write_whole(&arguments.out, &weights)?;
    println!(
        "wrote '{}' ({} bytes) for plugin: builtin:boosted; `foreline model check builtin:boosted --weights {}` says what it takes",
        arguments.out.display(),
        weights.len(),
        arguments.out.display()
    );
    Ok(())
}
