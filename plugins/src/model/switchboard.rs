//! What can be changed of a model while it runs: versions come, another one acts, a canary grows.
//!
//! What is to be true stands in a relation, which all workers hear of before an epoch: so a swap is in the journal, is obeyed
//! from the same row on whatever the number of workers, and is there again after a restart. The bytes of a version are too
//! large for that. They lie in a folder under their SHA-256, durable before the relation names them, and are never changed.
//!
//! What a reader would get wrong:
//!
//! * A version is let in ([`Switchboard::admit`]) before anybody is told of it: read, initialised, bound and tried as one of
//!   the file is. A worker that is told of it finds it in memory, or after a restart under its digest.
//! * Files of versions are not deleted with them: a replay needs those that acted then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::{
    CHANGED_AT, Column, ConfigError, Expression, ExpressionError, Fault, PrimaryKey, Resolver,
    Schema, SchemaError, TimeDomain,
};
use foreline_sdk::weights::MAGIC;
use serde::Serialize;

use super::config::ModelConfig;
use super::operation::{CHAMPION, MAX_VERSIONS, Operation, Standing, check_version_name};
use super::plan::{Files, Version, check_signatures};
use crate::pack::ModelFile;
use crate::sandbox;

/// Most files of versions in the folder of a pipeline. They are kept for replays; this many retrained weights of some megabytes
/// are a few gigabytes.
const MAX_FILES: usize = 1024;

/// What every module and component begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// The columns of the relation of swaps, without the engine's own; the key is the first two.
const COLUMNS: [(&str, DataType); 9] = [
    // The step.
    ("step", DataType::Utf8),
    // The version that the row is about; empty: which version acts.
    ("version", DataType::Utf8),
    // Of a version its file.
    ("digest", DataType::Utf8),
    // Of what acts: the version, the one before, and the canary with its share.
    ("acts", DataType::Utf8),
    ("previous", DataType::Utf8),
    ("canary", DataType::Utf8),
    ("share", DataType::Float64),
    // Who said so, and why.
    ("by", DataType::Utf8),
    ("comment", DataType::Utf8),
];

/// The schema of the relation of swaps.
///
/// # Errors
/// Never: what it is made of fits together.
pub fn swaps_schema() -> Result<Schema, SchemaError> {
    let mut columns: Vec<Column> =
        COLUMNS.iter().map(|(name, of)| Column::new(*name, of.clone())).collect();
    let time = columns.len();
    columns.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
    let primary = PrimaryKey { columns: vec![0, 1], position: false };
    Schema::with_primary_key(columns, vec![0, 1], time, primary)
}

/// What the relation says of one step.
#[derive(Debug, Default)]
pub(super) struct Told {
    standing: Option<Standing>,
    versions: BTreeMap<String, String>,
}

impl Told {
    /// Takes in what went and what came.
    pub(super) fn change(
        &mut self,
        step: &str,
        went: &RecordBatch,
        came: &RecordBatch,
    ) -> Result<(), Fault> {
        for version in rows_of(step, went)?.into_iter().map(|row| row.version) {
            if version.is_empty() {
                self.standing = None;
            } else {
                self.versions.remove(&version);
            }
        }
        for row in rows_of(step, came)? {
            if row.version.is_empty() {
                self.standing = Some(Standing { acts: row.acts, canary: row.canary });
            } else {
                self.versions.insert(row.version, row.digest);
            }
        }
        Ok(())
    }

    pub(super) fn standing(&self) -> Option<Standing> {
        self.standing.clone()
    }

    /// The versions that came while it ran, and their files.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&String, &String)> {
        self.versions.iter()
    }

    pub(super) fn has(&self, version: &str) -> bool {
        self.versions.contains_key(version)
    }
}

struct Row {
    version: String,
    digest: String,
    acts: String,
    canary: Option<(String, f64)>,
}

/// The rows of a step.
fn rows_of(step: &str, rows: &RecordBatch) -> Result<Vec<Row>, Fault> {
    let column = |name: &str| {
        let column = rows.column_by_name(name);
        column.ok_or_else(|| Fault::new(format!("the relation of swaps has no column '{name}'")))
    };
    let text = |name: &str| {
        let column = arrow::compute::cast(column(name)?, &DataType::Utf8)?;
        Ok::<_, Fault>(column.as_string::<i32>().clone())
    };
    let (steps, versions) = (text("step")?, text("version")?);
    let (digests, acts, canaries) = (text("digest")?, text("acts")?, text("canary")?);
    let shares = column("share")?.as_primitive::<Float64Type>();
    let row = |at: usize| Row {
        version: versions.value(at).to_owned(),
        digest: digests.value(at).to_owned(),
        acts: acts.value(at).to_owned(),
        canary: (canaries.is_valid(at) && shares.is_valid(at))
            .then(|| (canaries.value(at).to_owned(), shares.value(at))),
    };
    Ok((0..rows.num_rows()).filter(|&at| steps.value(at) == step).map(row).collect())
}

/// What a version is, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionFacts {
    /// Name of the model, as it says itself.
    pub model_name: String,
    /// Version of the model, as it says itself.
    pub model_version: String,
    /// SHA-256 of plugin, weights and config: what rows have as `model_digest`.
    pub model_digest: String,
    /// Values of state that it keeps for a key.
    pub state_width: usize,
}

impl VersionFacts {
    fn of(version: &Version) -> Self {
        let recipe = &version.recipe;
        VersionFacts {
            model_name: recipe.name.clone(),
            model_version: recipe.version.clone(),
            model_digest: recipe.digest.clone(),
            state_width: recipe.state_width,
        }
    }
}

/// Why a version is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// It is not what the step takes.
    #[error("{0}")]
    Refused(String),
    /// It cannot be kept.
    #[error("the version cannot be kept: {0}")]
    Kept(String),
}

/// The way to change a model while it runs.
#[derive(Debug)]
pub struct Switchboard {
    step: String,
    config: ModelConfig,
    operation: Arc<Operation>,
    /// The champion's, for which weights alone are.
    component: Vec<u8>,
    given: Kept,
    folder: PathBuf,
    /// Versions by the digest of their file.
    admitted: Mutex<BTreeMap<String, Arc<Version>>>,
    /// The epoch from which on the present standing holds, as far as this run knows.
    since: Mutex<Option<u64>>,
}

/// What is left of the resolver once all is planned.
#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    cache_dir: PathBuf,
}

impl Resolver for Kept {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a model has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.cache_dir.clone()
    }

    fn checking(&self) -> bool {
        false
    }
}

impl Switchboard {
    /// That of the step called `step`; versions that come are kept in `folder`.
    pub(super) fn new(
        step: &str,
        config: &ModelConfig,
        operation: Arc<Operation>,
        given: &dyn Resolver,
        folder: PathBuf,
    ) -> Result<Self, Vec<ConfigError>> {
        let files = Files::read(config, given, &mut Vec::new())?;
        Ok(Switchboard {
            step: step.to_owned(),
            config: config.clone(),
            operation,
            component: files.component,
            given: Kept { folder: given.path(Path::new("")), cache_dir: given.cache_dir() },
            folder,
            admitted: Mutex::default(),
            since: Mutex::default(),
        })
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The versions of the file.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, VersionFacts> {
        let versions = self.operation.versions.iter();
        versions.map(|(name, v)| (name.clone(), VersionFacts::of(v))).collect()
    }

    /// The versions that score beside the one that acts.
    #[must_use]
    pub fn shadows(&self) -> &[String] {
        &self.operation.shadows
    }

    /// Whether rows are routed by a column.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.operation.route.is_some()
    }

    /// The canary of the file and its share.
    #[must_use]
    pub fn canary(&self) -> Option<(&str, f64)> {
        self.operation.standing.canary.as_ref().map(|(name, share)| (name.as_str(), *share))
    }

    /// The epoch from which on what stands has stood; a restart is where this run begins.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        *self.noted()
    }

    /// Whether a version that comes may have that name.
    ///
    /// # Errors
    /// When it is one of the file's, or no name; says why.
    pub fn check_name(&self, name: &str) -> Result<(), String> {
        if self.operation.versions.contains_key(name) {
            return Err(match name {
                CHAMPION => format!("'{CHAMPION}' is the model of the file; choose another name"),
                _ => format!("'{name}' is a version of the file; choose another name"),
            });
        }
        check_version_name(name).map_err(|e| said(&e))
    }

    /// Lets a version in and keeps it: weights for the step's plugin, or, where `signed_by` says who must have signed it, a packed
    /// model. The digest of its file and what it is.
    ///
    /// # Errors
    /// When it is not what the step takes, or cannot be kept. Nothing has changed then.
    pub fn admit(&self, bytes: &[u8]) -> Result<(String, VersionFacts), NotAdmitted> {
        let refused = |errors: Vec<ConfigError>| {
            let each: Vec<String> = errors.iter().map(said).collect();
            NotAdmitted::Refused(each.join("; "))
        };
        let digest = sandbox::digest(bytes);
        let version = self.opened(bytes.to_vec()).map_err(refused)?;
        self.keep(&digest, bytes).map_err(NotAdmitted::Kept)?;
        let facts = VersionFacts::of(&version);
        // One that is there stays, so that a worker which has it goes on with it.
        self.admitted().entry(digest.clone()).or_insert(version);
        Ok((digest, facts))
    }

    /// What the version with that file is, if it was let in.
    ///
    /// # Errors
    /// When its file is gone or damaged.
    pub fn facts(&self, digest: &str) -> Result<VersionFacts, Fault> {
        Ok(VersionFacts::of(&*self.version(digest)?))
    }

    /// The version with that file.
    pub(super) fn version(&self, digest: &str) -> Result<Arc<Version>, Fault> {
        if let Some(version) = self.admitted().get(digest) {
            return Ok(Arc::clone(version));
        }
        let path = self.folder.join(digest);
        let gone = |what: String| {
            let path = path.display();
            Fault::new(format!("the version that was let in is gone: '{path}': {what}"))
        };
        let bytes = std::fs::read(&path).map_err(|e| gone(e.to_string()))?;
        if sandbox::digest(&bytes) != digest {
            return Err(gone("it is damaged".to_owned()));
        }
        let opened = self
            .opened(bytes)
            .map_err(|errors| gone(errors.iter().map(said).collect::<Vec<_>>().join("; ")))?;
        Ok(Arc::clone(self.admitted().entry(digest.to_owned()).or_insert(opened)))
    }

    /// A version from its file, as one of the pipeline file is opened.
    fn opened(&self, bytes: Vec<u8>) -> Result<Arc<Version>, Vec<ConfigError>> {
        let config = &self.config;
        let alone = ModelConfig { weights: None, ..config.clone() };
        let (config, files) = if bytes.starts_with(&MAGIC) {
            if !config.signed_by.is_empty() {
                let what = "weights alone are not signed, and 'signed_by' says who must have";
                return Err(vec![ConfigError::new("", what).help("pack and sign the model")]);
            }
            (config, Files { component: self.component.clone(), weights: bytes })
        } else {
            if !bytes.starts_with(WASM_MAGIC) {
                let what = "it is neither weights of Foreline nor a WebAssembly component";
                return Err(vec![
                    ConfigError::new("", what).help("`foreline train` writes weights"),
                ]);
            }
            let file = ModelFile::take_apart(bytes)
                .map_err(|e| vec![ConfigError::new("", format!("it is no model: {e}"))])?;
            if config.signed_by.is_empty() {
                let what = "a plugin that comes over HTTP must be signed";
                return Err(vec![ConfigError::new("", what).help(
                    "send weights for the step's plugin, or say in the file who signs: signed_by",
                )]);
            }
            let errors = check_signatures(&alone, &file, &self.given);
            if !errors.is_empty() {
                return Err(errors);
            }
            let weights = file.weights().map(<[u8]>::to_vec).unwrap_or_default();
            (&alone, Files { component: file.component().to_vec(), weights })
        };
        let version = Version::new(config, &files, &self.operation.input, &self.given)?;
        self.operation.accepts(&version).map_err(|e| vec![e])?;
        Ok(Arc::new(version))
    }

    /// Writes a file under its digest, durably.
    fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.folder.join(digest);
        let failed = |e: std::io::Error| format!("'{}': {e}", path.display());
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        if path.exists() {
            return Ok(());
        }
        if std::fs::read_dir(&self.folder).map_err(failed)?.count() >= MAX_FILES {
            return Err(format!(
                "'{}' has {MAX_FILES} files; move away those that no replay needs",
                self.folder.display()
            ));
        }
        let part = self.folder.join(format!("{digest}.part"));
        let mut file = File::create(&part).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&part, &path).map_err(failed)?;
        // The name must be durable too.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        if let Some(above) = self.folder.parent() {
            File::open(above).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes note of what stands from an epoch on.
    pub(super) fn stands(&self, epoch: u64, standing: &Standing) {
        tracing::info!(step = self.step, epoch, acts = standing.acts, "a version acts");
        let mut since = self.noted();
        *since = (*since).max(Some(epoch));
    }

    fn noted(&self) -> MutexGuard<'_, Option<u64>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admitted(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Version>>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most versions that may come while it runs.
    #[must_use]
    pub const fn most_versions(&self) -> usize {
        MAX_VERSIONS
    }

    /// Most bytes of a version.
    #[must_use]
    pub const fn most_bytes(&self) -> u64 {
        sandbox::MAX_WEIGHTS_BYTES
    }
}

/// An error with its help, on one line.
fn said(error: &ConfigError) -> String {
    match &error.help {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}
