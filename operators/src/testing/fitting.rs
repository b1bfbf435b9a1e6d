//! Fits a step in a test, as `foreline train` does, and leaves its file where the step looks for it.

use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use foreline_engine::{FitRows, Fitted};
use serde_json::{Value, json};

use super::{Given, Table};
use crate::OPERATORS;

/// A configuration with its file of statistics, which lies in a folder of its own.
#[derive(Debug)]
pub(crate) struct WithFile {
    /// The configuration, its `statistics` named.
    pub(crate) config: Value,
    /// What was learnt.
    pub(crate) fitted: Fitted,
    /// The file as JSON.
    pub(crate) file: Value,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl WithFile {
    /// Fits `config` on `rows`.
    ///
    /// # Errors
    /// What the fitting says; each mistake of the configuration.
    pub(crate) fn fit(kind: &str, config: &Value, rows: &Table) -> Result<Self, Vec<String>> {
        Self::fit_to(kind, config, rows, None)
    }

    /// Fits `config` on `rows`, each with a target.
    pub(crate) fn fit_to(
        kind: &str,
        config: &Value,
        rows: &Table,
        target: Option<&ArrayRef>,
    ) -> Result<Self, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("fitted.json");
        let mut config = config.clone();
        config["statistics"] = json!(path);
        let registration = OPERATORS.iter().find(|r| r.name == kind).expect("it is registered");
        let parsed = (registration.parse)(&config).map_err(|e| vec![e.to_string()])?;
        let fitting = parsed.fitting(std::slice::from_ref(&rows.schema), &Given);
        let errors = |e: Vec<foreline_engine::ConfigError>| -> Vec<String> {
            e.iter().map(ToString::to_string).collect()
        };
        let fitting = fitting.map_err(errors)?.expect("a step with a file is fitted");
        assert_eq!(fitting.file, path, "the file that the step reads");
        let from = FitRows { name: "test", rows: &rows.rows, target };
        let fitted = (fitting.fit)(&from).map_err(|e| vec![e])?;
        let again = (fitting.fit)(&from).map_err(|e| vec![e])?;
        assert_eq!(fitted, again, "the same rows give the same file");
        std::fs::write(&path, &fitted.text).expect("the file can be written");
        let file = serde_json::from_str(&fitted.text).expect("it is JSON");
        Ok(WithFile { config, fitted, file, path, _folder: folder })
    }

    /// Fits `config` on `rows`.
    ///
    /// # Panics
    /// When it cannot be fitted.
    pub(crate) fn new(kind: &str, config: &Value, rows: &Table) -> Self {
        match Self::fit(kind, config, rows) {
            Ok(fitted) => fitted,
            Err(errors) => panic!("{kind} {config} cannot be fitted: {errors:?}"),
        }
    }

    /// The same file under another configuration.
    pub(crate) fn under(&self, mut config: Value) -> Value {
        config["statistics"] = json!(self.path);
        config
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
