//! What the user writes under `model:`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use foreline_sdk::explain;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::explain::ExplainConfig;
use super::warn::WarnConfig;

/// Scores every row with a model: a plugin and its weights.
///
/// The input's columns are passed through; the model's outputs and `model_name`, `model_version` and `model_digest` are
/// appended.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The plugin: a WebAssembly component, relative to this file, or one that comes with Foreline: `builtin:boosted`,
    /// `builtin:degradation`, `builtin:forest`, `builtin:knn`, `builtin:linear`, `builtin:pca_t2q`.
    pub plugin: String,
    /// The SHA-256 of the plugin. `run` needs it for a plugin that is a file; `check` prints it when it is missing.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Who must have signed the plugin, all of them. It is then a file as `foreline model sign` writes it, and `run` needs
    /// no `sha256` for it.
    #[serde(default)]
    pub signed_by: Vec<String>,
    /// The folder with the public keys of `signed_by`, relative to this file: `<name>.pem`.
    #[serde(default = "keys_folder")]
    pub keys: PathBuf,
    /// The weights, as `foreline train` writes them. Left out where the model is compiled into the plugin, or packed with
    /// its weights.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// The SHA-256 of the weights, to pin them too. They carry a digest of their own against damage.
    #[serde(default)]
    pub weights_sha256: Option<String>,
    /// Feature of the model: column of the input. Only where the names differ.
    #[serde(default)]
    pub features: BTreeMap<String, String>,
    /// What the column of the model's only output is called; the model's own name for it when left out.
    #[serde(default)]
    pub output: Option<String>,
    /// Output of the model: name of its column, where the model has several.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Options of the plugin.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Why a score is what it is: `contributions` for a column a feature, `{ top: 3 }` for a text. `builtin:boosted`,
    /// `builtin:forest` and `builtin:linear` can; others where their descriptor has the columns.
    #[serde(default)]
    pub explain: Option<ExplainConfig>,
    /// Columns that say when a score should not be trusted.
    #[serde(default)]
    pub warn: WarnConfig,
    /// What happens to a row that the model cannot score.
    #[serde(default)]
    pub on_error: OnError,
    /// What the plugin may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// When a key that keeps failing is no longer sent.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// What becomes of what is kept by key when the model is exchanged for one that cannot go on from it.
    #[serde(default)]
    pub state: StatePolicy,
    /// Other versions of the model, by name; what stands above is the version `champion`. Left out of a version is what it has
    /// in common with the champion. `{}` where versions are to come by the HTTP API alone.
    #[serde(default)]
    pub versions: Option<BTreeMap<String, VersionConfig>>,
    /// Versions that score every row beside the one that acts: the outputs of `next` are columns `next_<output>`. A name that is
    /// no version yet is one to come by the HTTP API; its columns are null until then.
    #[serde(default)]
    #[schemars(with = "Names")]
    pub shadow: Names,
    /// Which version acts on which rows, by a column of theirs.
    #[serde(default)]
    pub route: Option<RouteConfig>,
    /// A version that acts on a share of the keys.
    #[serde(default)]
    pub canary: Option<CanaryConfig>,
}

/// What becomes of what a model keeps by key when another takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatePolicy {
    /// It is kept, or rewritten by the new model's `migrate-state`; where that cannot, the run does not start.
    #[default]
    Keep,
    /// The same, but where it cannot be rewritten all keys begin anew.
    Reset,
}

/// What a version of a model has of its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionConfig {
    /// Its plugin; that of the champion when left out.
    #[serde(default)]
    pub plugin: Option<String>,
    /// The SHA-256 of its plugin.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its weights. With a plugin of its own it has those or none; without one it needs them, or a `config`.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// The SHA-256 of its weights.
    #[serde(default)]
    pub weights_sha256: Option<String>,
    /// Feature of the version: column of the input. Those of the champion when left out.
    #[serde(default)]
    pub features: Option<BTreeMap<String, String>>,
    /// Options of its plugin. Those of the champion when left out.
    #[serde(default)]
    pub config: Option<BTreeMap<String, String>>,
}

/// One name or several.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(from = "OneOrMore")]
#[schemars(with = "OneOrMore")]
pub struct Names(pub BTreeSet<String>);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMore {
    /// One name.
    One(String),
    /// Several.
    More(BTreeSet<String>),
}

impl From<OneOrMore> for Names {
    fn from(names: OneOrMore) -> Self {
        match names {
            OneOrMore::One(name) => Names(BTreeSet::from([name])),
            OneOrMore::More(names) => Names(names),
        }
    }
}

/// Which version acts on which rows. Rows that it says nothing of are scored by the version that acts, or the canary.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The column that decides: text, a whole number or a boolean.
    pub by: String,
    /// Value of the column: version. Left out, the value is itself the name of a version.
    #[serde(default)]
    pub to: Option<BTreeMap<String, String>>,
}

/// A version that acts on a share of the keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// The version.
    pub version: String,
    /// The share of the keys, from 0 to 1. It is always whole machines, and those of a smaller share are among those of a
    /// larger one.
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
}

impl ModelConfig {
    /// What a version is, as a step of its own.
    pub(crate) fn version(&self, version: &VersionConfig) -> Self {
        let own_plugin = version.plugin.is_some();
        let mut merged = ModelConfig {
            versions: None,
            shadow: Names::default(),
            route: None,
            canary: None,
            ..self.clone()
        };
        if let Some(plugin) = &version.plugin {
            merged.plugin.clone_from(plugin);
            merged.sha256.clone_from(&version.sha256);
        }
        // Weights are those of a plugin: what the champion's reads is nothing for another one.
        if own_plugin || version.weights.is_some() {
            merged.weights.clone_from(&version.weights);
            merged.weights_sha256.clone_from(&version.weights_sha256);
        }
        if let Some(features) = &version.features {
            merged.features.clone_from(features);
        }
        if let Some(config) = &version.config {
            merged.config.clone_from(config);
        }
        merged
    }

    /// A step of which only the options are set.
    pub(crate) fn of(config: &BTreeMap<String, String>) -> Self {
        ModelConfig {
            plugin: String::new(),
            sha256: None,
            signed_by: Vec::new(),
            keys: keys_folder(),
            weights: None,
            weights_sha256: None,
            features: BTreeMap::new(),
            output: None,
            outputs: BTreeMap::new(),
            config: config.clone(),
            explain: None,
            warn: WarnConfig::default(),
            on_error: OnError::default(),
            limits: LimitsConfig::default(),
            breaker: BreakerConfig::default(),
            state: StatePolicy::default(),
            versions: None,
            shadow: Names::default(),
            route: None,
            canary: None,
        }
    }

    /// The options as the plugin gets them.
    pub(crate) fn options(&self) -> BTreeMap<String, String> {
        let mut options = self.config.clone();
        if self.explain.is_some() {
            options.insert(explain::OPTION.to_owned(), explain::CONTRIBUTIONS.to_owned());
        }
        options
    }
}

fn keys_folder() -> PathBuf {
    PathBuf::from("keys")
}

/// What happens to a row that the model cannot score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It becomes a dead letter and has no row in the output.
    #[default]
    DeadLetter,
    /// It passes with null outputs.
    Null,
    /// The pipeline stops.
    Fail,
}

/// What the plugin may use.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Memory of one instance, of which every worker has one.
    pub memory: Bytes,
    /// Work for a row, in operators. Left out: 20 times what rows within the range of the training data took.
    #[schemars(range(min = 1))]
    pub fuel_per_row: Option<u64>,
    /// Most rows in a call.
    #[schemars(range(min = 1, max = 65536))]
    pub rows: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig { memory: Bytes(128 << 20), fuel_per_row: None, rows: 4096 }
    }
}

/// When a key that keeps failing is no longer sent.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// After this many epochs in a row in which a row of the key was to blame for a failure, its rows go straight to
    /// `on_error` for 16 epochs, then one epoch is tried, then 32, up to 4096. 0: never.
    pub after: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig { after: 5 }
    }
}

/// A number of bytes, written `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

const BYTE_UNITS: [(&str, usize); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BYTE_UNITS.iter().find_map(|(unit, bytes)| {
            text.trim().strip_suffix(unit)?.trim().parse::<usize>().ok()?.checked_mul(*bytes)
        });
        bytes.map(Bytes).ok_or_else(|| {
            D::Error::custom(format!("'{text}' is not a size; write a number and KiB, MiB or GiB"))
        })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of bytes, such as 64MiB",
            "type": "string",
            "pattern": r"^\s*[0-9]+\s*(B|KiB|MiB|GiB)\s*$",
        })
    }
}
