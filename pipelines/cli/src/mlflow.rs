//! Where runs of `train`, `tune` and `evaluate` are logged: on an MLflow server, or as files that `mlflow ui` opens.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
pub use foreline_connectors::mlflow::Run;
use foreline_connectors::mlflow::{log_to_folder, log_to_server};

/// Where runs are logged.
#[derive(Debug, Clone, Args)]
pub struct Tracking {
    /// Log the run to this MLflow tracking server, such as http://127.0.0.1:5000, or as files to this folder. Default: the
    /// folder `.foreline/mlruns` beside the pipeline file. `off` logs nothing.
    #[arg(long, value_name = "URL|FOLDER|off", env = "MLFLOW_TRACKING_URI")]
    pub mlflow: Option<String>,
    /// The experiment that runs are logged to; default: the name of the pipeline file.
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
}

impl Tracking {
    /// A place that logs nothing.
    #[must_use]
    pub fn off() -> Self {
        Tracking { mlflow: Some("off".to_owned()), experiment: None }
    }

    /// The place for the runs of a pipeline file.
    ///
    /// # Errors
    /// When the address names a store that only MLflow itself can write.
    pub fn open(&self, file: &Path) -> Result<Tracker> {
        let beside = || file.parent().unwrap_or(Path::new("")).join(".foreline").join("mlruns");
        let to = match self.mlflow.as_deref().map(str::trim) {
            None | Some("") => Place::Folder(beside()),
            Some("off") => Place::Nowhere,
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                Place::Server(url.to_owned())
            }
            Some(path) => {
                let path = path.strip_prefix("file://").unwrap_or(path);
                if let Some((store, _)) = path.split_once("://") {
                    anyhow::bail!(
                        "runs cannot be logged to '{store}://…'; start `mlflow server` on it and give its address, or name a folder"
                    );
                }
                Place::Folder(PathBuf::from(path))
            }
        };
        let name = || file.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into());
        let experiment = self.experiment.clone().unwrap_or_else(name);
        Ok(Tracker { to, experiment, begun_ms: now_ms(), said: RefCell::default() })
    }
}

#[derive(Debug)]
enum Place {
    Nowhere,
    Folder(PathBuf),
    Server(String),
}

/// The place for runs.
#[derive(Debug)]
pub struct Tracker {
    to: Place,
    experiment: String,
    begun_ms: i64,
    said: RefCell<Vec<String>>,
}

impl Tracker {
    /// Logs a run.
    ///
    /// # Errors
    /// When the server refuses, or the files cannot be written.
    pub fn log(&self, run: &Run) -> Result<()> {
        let run = Run { started_ms: self.begun_ms, ended_ms: now_ms(), ..run.clone() };
        let place = match &self.to {
            Place::Nowhere => return Ok(()),
            Place::Server(url) => {
                log_to_server(url, &self.experiment, &run).context("log the run")?
            }
            Place::Folder(folder) => {
                log_to_folder(folder, &self.experiment, &run).context("log the run")?;
                format!(
                    "{} (MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri '{}')",
                    folder.display(),
                    folder.display()
                )
            }
        };
        let mut said = self.said.borrow_mut();
        if !said.contains(&place) {
            said.push(place);
        }
        Ok(())
    }

    /// Tells where runs were logged.
    #[expect(clippy::print_stdout, reason = "part of the report")]
    pub fn say(&self) {
        for place in self.said.borrow().iter() {
            println!("logged: {place}");
        }
    }
}

fn now_ms() -> i64 {
    use foreline_engine::Clock as _;
    foreline_engine::SystemClock.now_ns() / 1_000_000
}
