//! What authors of models need: to make a component, check it, test it, measure it, and begin one.
//!
//! What a reader would get wrong: [`check()`] and [`bench()`] call the plugin themselves, but [`test()`] sends its rows through
//! the `model` step, so that what it expects is what `run` gives: rows that are not sent, reason codes and all.

mod bench;
mod cases;
mod check;
mod driver;
mod facts;
mod new;
mod wrap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use bench::{BatchSpeed, BenchReport, bench, bench_on};
pub use cases::{CaseReport, TestReport, test};
pub use check::{CheckReport, Finding, Verdict, check};
pub use facts::{Facts, FeatureFacts, OutputFacts};
pub use new::{NewFile, SDK_SOURCES, files};
pub use wrap::wrap;

use crate::builtin::{BUILTIN_PREFIX, builtin};
use crate::model::{LimitsConfig, TRIAL_FUEL_PER_ROW};
use crate::pack::ModelFile;
use crate::sandbox::{AdmitError, CallLimits, Plugin, Setup, SharedPlugin, read_weights};

/// Why nothing can be said of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// Plugin or weights were not let in.
    #[error(transparent)]
    Refused(#[from] AdmitError),
    /// There is no plugin of that name among those that come with Foreline.
    #[error("there is no plugin '{0}'")]
    NoBuiltin(String),
    /// A core module cannot be made a component.
    #[error("it cannot be made a component: {0}")]
    Wrap(String),
    /// The plugin does not start, or fails where it should not.
    #[error("{0}")]
    Plugin(String),
    /// The file of cases cannot be used.
    #[error("the cases cannot be used: {0}")]
    Cases(String),
}

/// A model to look at: a plugin, its weights and its options.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it is called in messages.
    pub name: String,
    /// The plugin: a component, or a core module to be made one.
    pub plugin: Vec<u8>,
    /// The weights; empty when there are none.
    pub weights: Vec<u8>,
    /// The step's `config:`.
    pub config: BTreeMap<String, String>,
    /// Where compiled plugins are kept; may be a folder that is deleted afterwards.
    pub cache_dir: PathBuf,
}

impl Subject {
    /// Reads a plugin, packed or not, or one that comes with Foreline (`builtin:forest`), and its weights. Without
    /// `weights` those it is packed with are taken.
    ///
    /// # Errors
    /// When a file cannot be read or is larger than it may be.
    pub fn read(
        plugin: &str,
        weights: Option<&Path>,
        config: BTreeMap<String, String>,
        cache_dir: &Path,
    ) -> Result<Self, AuthorError> {
        let file = match builtin(plugin).filter(|_| plugin.starts_with(BUILTIN_PREFIX)) {
            Some(component) => ModelFile::take_apart(component.to_vec())?,
            None if plugin.starts_with(BUILTIN_PREFIX) => {
                return Err(AuthorError::NoBuiltin(plugin.to_owned()));
            }
            None => ModelFile::read(Path::new(plugin))?,
        };
        let weights = match weights {
            Some(path) => read_weights(path)?,
            None => file.weights().map(<[u8]>::to_vec).unwrap_or_default(),
        };
        let plugin_bytes = file.component().to_vec();
        let (name, cache_dir) = (plugin.to_owned(), cache_dir.to_owned());
        Ok(Subject { name, plugin: plugin_bytes, weights, config, cache_dir })
    }

    /// The same with a component for its plugin.
    fn wrapped(&self) -> Result<Self, AuthorError> {
        Ok(Subject { plugin: wrap(&self.plugin)?.0, ..self.clone() })
    }

    /// Lets in and compiles the plugin, which must be a component.
    fn admitted(&self, setup: Setup) -> Result<SharedPlugin, AdmitError> {
        let options = self.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let initial = (self.weights.clone(), options);
        let plugin =
            Plugin::in_setup(setup, &self.name, &self.plugin, &self.cache_dir, initial, limits());
        Ok(SharedPlugin::new(plugin?))
    }
}

/// What a step has that sets no limits, with the fuel of a plugin that was not measured yet.
fn limits() -> CallLimits {
    CallLimits { memory_bytes: LimitsConfig::default().memory.0, fuel_per_row: TRIAL_FUEL_PER_ROW }
}
