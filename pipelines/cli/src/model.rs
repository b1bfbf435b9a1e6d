//! `foreline model`: what authors of models need, from the first file to a signed one.

mod bench;
mod check;
mod import;
mod new;
mod pack;
mod test;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use foreline_plugins::author::{AuthorError, Subject};

use crate::failure::{Failure, Outcome};

/// What `foreline model` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says whether a plugin keeps the contract, and makes a component of a core module.
    Check(check::Arguments),
    /// Scores rows and compares with the scores that they must have.
    Test(test::Arguments),
    /// Measures what a model costs.
    Bench(bench::Arguments),
    /// Makes weights of a model that XGBoost or LightGBM has trained.
    Import(import::Arguments),
    /// Begins a plugin in Rust.
    New(new::Arguments),
    /// Puts a plugin, its weights and a card into one file.
    Pack(pack::PackArguments),
    /// Says what is in a packed file.
    Show(pack::ShowArguments),
    /// Makes a key to sign models with.
    Key(pack::KeyArguments),
    /// Signs a plugin, packed or not.
    Sign(pack::SignArguments),
}

/// A model: a plugin with its weights and options.
#[derive(Debug, Args)]
struct Model {
    /// The plugin: a component, a core module, a packed file, or one of ours such as `builtin:forest`.
    plugin: String,
    /// The weights; default: those that the plugin is packed with.
    #[arg(long, short)]
    weights: Option<PathBuf>,
    /// An option of the plugin, as in the step's `config:`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = option)]
    config: Vec<(String, String)>,
}

fn option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Model {
    /// Reads it. What is compiled is kept in `cache` as long as the command runs.
    fn read(&self, cache: &Path) -> Result<Subject, Failure> {
        let config: BTreeMap<String, String> = self.config.iter().cloned().collect();
        Subject::read(&self.plugin, self.weights.as_deref(), config, cache).map_err(unusable)
    }
}

/// What was given cannot be used: as wrong as a pipeline file that cannot be.
fn unusable(error: AuthorError) -> Failure {
    Failure::Unreadable(error.into())
}

/// A folder for what is compiled on the way.
fn cache() -> Result<tempfile::TempDir, Failure> {
    Ok(tempfile::tempdir().context("a folder for compiled plugins")?)
}

/// A file's text.
fn text_of(path: &Path) -> Result<String, Failure> {
    /// More than any card, key or file of cases has.
    const MAX_TEXT_BYTES: u64 = 1 << 20;
    let named = || format!("'{}'", path.display());
    let size = std::fs::metadata(path).with_context(named).map_err(Failure::Unreadable)?.len();
    if size > MAX_TEXT_BYTES {
        let message = anyhow!("{} has {size} bytes, the limit is {MAX_TEXT_BYTES}", named());
        return Err(Failure::Unreadable(message));
    }
    std::fs::read_to_string(path).with_context(named).map_err(Failure::Unreadable)
}

/// Does what was asked.
///
/// # Errors
/// When something cannot be read or written (with the exit code of a wrong pipeline file), or the answer is no.
pub fn model(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Check(a) => check::check(a),
        Command::Test(a) => test::test(a),
        Command::Bench(a) => bench::bench(a),
        Command::Import(a) => import::import(a),
        Command::New(a) => new::new(a),
        Command::Pack(a) => pack::pack(a),
        Command::Show(a) => pack::show(a),
        Command::Key(a) => pack::key(a),
        Command::Sign(a) => pack::sign(a),
    }
}
