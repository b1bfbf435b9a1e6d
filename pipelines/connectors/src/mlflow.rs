//! Runs of training and evaluation for MLflow: sent to a tracking server, or kept as files that `mlflow ui` opens.
//!
//! What a reader would get wrong: a run is sent when it is over, in a few requests, and its artifacts only where the server
//! stores them itself (`mlflow server --serve-artifacts`, the default); a server that hands out another place keeps
//! everything else. Files are MLflow's file store, which its versions from 3 on open when MLFLOW_ALLOW_FILE_STORE is true.
//!
//! Source  MLflow's REST API 2.0, and the files that mlflow 3.17 writes

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a parameter or tag; MLflow takes 6,000 and 8,000.
const MAX_VALUE_BYTES: usize = 5_000;
/// Parameters in a request, and tags; MLflow takes 100.
const MAX_PARAMS: usize = 100;
/// Metrics in a request; MLflow takes 1,000 things in all.
const MAX_METRICS: usize = 500;
/// Bytes of an answer that are looked at.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What there is to say of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970.
    pub ended_ms: i64,
    /// Settings.
    pub params: BTreeMap<String, String>,
    /// Figures; only finite ones are kept.
    pub metrics: BTreeMap<String, f64>,
    /// Facts.
    pub tags: BTreeMap<String, String>,
    /// Files, by name.
    pub artifacts: BTreeMap<String, Vec<u8>>,
}

impl Run {
    /// A run without facts.
    #[must_use]
    pub fn new(name: &str, command: &str) -> Self {
        let mut run = Run { name: name.to_owned(), ..Run::default() };
        run.tag("foreline.command", command);
        run
    }

    /// Adds a setting.
    pub fn param(&mut self, name: &str, value: impl Display) {
        self.params.insert(usable(name), short(&value.to_string()));
    }

    /// Adds a figure.
    pub fn metric(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.metrics.insert(usable(name), value);
        }
    }

    /// Adds a fact.
    pub fn tag(&mut self, name: &str, value: impl Display) {
        self.tags.insert(usable(name), short(&value.to_string()));
    }
}

/// A name with the characters that MLflow takes and that are no path of another folder.
fn usable(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    match name.trim_matches('.') {
        "" => "_".to_owned(),
        name => name.to_owned(),
    }
}

fn short(value: &str) -> String {
    let mut end = value.len().min(MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].to_owned()
}

/// Why a run was not logged.
#[derive(Debug, thiserror::Error)]
pub enum MlflowError {
    /// The server's address is none.
    #[error("'{0}' is not the address of a tracking server, such as http://127.0.0.1:5000")]
    Address(String),
    /// The server did not answer.
    #[error("the tracking server '{server}' does not answer: {why}")]
    Unreachable {
        /// Its address, without a password.
        server: String,
        /// The client's reason.
        why: String,
    },
    /// The server refused.
    #[error("the tracking server refused '{path}' with {status}: {said}")]
    Refused {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// The files could not be written.
    #[error("write the run to '{}': {why}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
}

/// Sends a run to a tracking server; the address of its page. User name and password may stand in the address.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn log_to_server(server: &str, experiment: &str, run: &Run) -> Result<String, MlflowError> {
    let address = || MlflowError::Address(without_password(server));
    let url = Url::parse(server).map_err(|_| address())?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(address());
    }
    let unreachable = |why: &dyn Display| MlflowError::Unreachable {
        server: without_password(server),
        why: why.to_string(),
    };
    let client = Client::builder().timeout(PATIENCE).build().map_err(|e| unreachable(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| unreachable(&e))?;
    runtime.block_on(Server { client, url }.log(experiment, run))
}

fn without_password(server: &str) -> String {
    Url::parse(server).map_or_else(
        |_| server.to_owned(),
        |mut url| {
            let _ = url.set_password(None);
            let _ = url.set_username("");
            url.to_string()
        },
    )
}

struct Server {
    client: Client,
    url: Url,
}

impl Server {
    async fn log(&self, experiment: &str, run: &Run) -> Result<String, MlflowError> {
        let experiment = self.experiment(experiment).await?;
        let tags: Vec<Value> = pairs(&run.tags);
        let created = json!({
            "experiment_id": experiment,
            "run_name": run.name,
            "start_time": run.started_ms,
            "tags": tags,
        });
        let created = self.post("runs/create", &created).await?;
        let info = &created["run"]["info"];
        let id = info["run_id"].as_str().unwrap_or_default().to_owned();
        let params = pairs(&run.params);
        for part in params.chunks(MAX_PARAMS) {
            self.post("runs/log-batch", &json!({ "run_id": id, "params": part })).await?;
        }
        let metrics: Vec<Value> = run
            .metrics
            .iter()
            .map(|(name, value)| {
                json!({ "key": name, "value": value, "timestamp": run.ended_ms, "step": 0 })
            })
            .collect();
        for part in metrics.chunks(MAX_METRICS) {
            self.post("runs/log-batch", &json!({ "run_id": id, "metrics": part })).await?;
        }
        if let Some(place) = info["artifact_uri"].as_str() {
            self.artifacts(place, run).await?;
        }
        let end = json!({ "run_id": id, "status": "FINISHED", "end_time": run.ended_ms });
        self.post("runs/update", &end).await?;
        let root = without_password(self.url.as_str());
        Ok(format!("{}/#/experiments/{experiment}/runs/{id}", root.trim_end_matches('/')))
    }

    /// The id of the experiment called `name`, which is made where there is none.
    async fn experiment(&self, name: &str) -> Result<String, MlflowError> {
        let mut url = self.api("experiments/get-by-name");
        url.query_pairs_mut().append_pair("experiment_name", name);
        let found = self.ask(Method::GET, url, None).await;
        let id = match found {
            Ok(found) => found["experiment"]["experiment_id"].as_str().map(str::to_owned),
            Err(MlflowError::Refused { status: 404, .. }) => {
                let made = self.post("experiments/create", &json!({ "name": name })).await?;
                made["experiment_id"].as_str().map(str::to_owned)
            }
            Err(e) => return Err(e),
        };
        id.ok_or_else(|| MlflowError::Refused {
            path: "experiments/get-by-name".to_owned(),
            status: StatusCode::OK.as_u16(),
            said: "there is no 'experiment_id' in the answer; is this MLflow?".to_owned(),
        })
    }

    /// Sends the files of a run where the server keeps artifacts itself.
    async fn artifacts(&self, place: &str, run: &Run) -> Result<(), MlflowError> {
        let Some(path) = place.strip_prefix("mlflow-artifacts:/") else {
            if !run.artifacts.is_empty() {
                tracing::warn!(
                    "the tracking server keeps artifacts at '{place}'; the report is not sent there"
                );
            }
            return Ok(());
        };
        for (name, bytes) in &run.artifacts {
            let path = path.trim_start_matches('/');
            let mut url = self.url.clone();
            let joined = format!(
                "{}/api/2.0/mlflow-artifacts/artifacts/{path}/{name}",
                url.path().trim_end_matches('/')
            );
            url.set_path(&joined);
            let body = (bytes.clone(), "application/octet-stream");
            self.ask(Method::PUT, url, Some(body)).await?;
        }
        Ok(())
    }

    fn api(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let joined = format!("{}/api/2.0/mlflow/{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        url
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, MlflowError> {
        let body = (body.to_string().into_bytes(), "application/json");
        self.ask(Method::POST, self.api(path), Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<(Vec<u8>, &'static str)>,
    ) -> Result<Value, MlflowError> {
        let unreachable = |e: reqwest::Error| MlflowError::Unreachable {
            server: without_password(self.url.as_str()),
            why: e.without_url().to_string(),
        };
        let path = url.path().to_owned();
        let mut request = self.client.request(method, url);
        if let Some((bytes, kind)) = body {
            request = request.header("Content-Type", kind).body(bytes);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        let bytes = &bytes[..bytes.len().min(MAX_ANSWER_BYTES)];
        let value = serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        let said = match value["message"].as_str() {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(bytes).chars().take(200).collect(),
        };
        Err(MlflowError::Refused { path, status: status.as_u16(), said })
    }
}

fn pairs(of: &BTreeMap<String, String>) -> Vec<Value> {
    of.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// Writes a run as files below `folder`; the folder of the run. Ids are made of what the run says.
///
/// # Errors
/// When the files cannot be written.
pub fn log_to_folder(folder: &Path, experiment: &str, run: &Run) -> Result<PathBuf, MlflowError> {
    let folder = std::path::absolute(folder)
        .map_err(|why| MlflowError::File { path: folder.to_owned(), why })?;
    // MLflow counts experiments by numbers of 18 digits.
    let number = u64::from_le_bytes(first(&Sha256::digest(experiment.as_bytes())));
    let experiment_id = (100_000_000_000_000_000 + number % 900_000_000_000_000_000).to_string();
    let home = folder.join(&experiment_id);
    let seed = format!("{experiment}\n{run:?}");
    let id: String =
        Sha256::digest(seed.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect();
    let run_home = home.join(&id);
    let text = |text: &str| json!(text).to_string();
    if !home.join("meta.yaml").exists() {
        let meta = format!(
            "artifact_location: {}\ncreation_time: {started}\nexperiment_id: '{experiment_id}'\nlast_update_time: {started}\nlifecycle_stage: active\nname: {}\n",
            text(&home.display().to_string()),
            text(experiment),
            started = run.started_ms,
        );
        write(&home.join("meta.yaml"), meta.as_bytes())?;
    }
    let metric = |value: &f64| format!("{} {value} 0\n", run.ended_ms).into_bytes();
    for (name, value) in &run.metrics {
        write(&run_home.join("metrics").join(name), &metric(value))?;
    }
    let mut tags = run.tags.clone();
    tags.insert("mlflow.runName".to_owned(), run.name.clone());
    for (kind, values) in [("params", &run.params), ("tags", &tags)] {
        for (name, value) in values {
            write(&run_home.join(kind).join(name), value.as_bytes())?;
        }
    }
    for (name, bytes) in &run.artifacts {
        write(&run_home.join("artifacts").join(name), bytes)?;
    }
    // Last: without it the run is not there.
    let meta = format!(
        "artifact_uri: {}\nend_time: {}\nentry_point_name: ''\nexperiment_id: '{experiment_id}'\nlifecycle_stage: active\nrun_id: {id}\nrun_name: {}\nrun_uuid: {id}\nsource_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {}\nstatus: 3\ntags: []\nuser_id: foreline\n",
        text(&run_home.join("artifacts").display().to_string()),
        run.ended_ms,
        text(&run.name),
        run.started_ms,
    );
    write(&run_home.join("meta.yaml"), meta.as_bytes())?;
    Ok(run_home)
}

fn first(digest: &[u8]) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), MlflowError> {
    let failed = |why| MlflowError::File { path: path.to_owned(), why };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(usable("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(usable(".."), "_");
        assert_eq!(usable("by machine.rmse"), "by machine.rmse");
    }

    #[test]
    fn a_password_is_not_told() {
        assert_eq!(without_password("http://me:secret@host:5000/x"), "http://host:5000/x");
        let error = log_to_server("ftp://me:secret@host", "x", &Run::default()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn values_are_cut_at_a_character() {
        let long = "ä".repeat(MAX_VALUE_BYTES);
        assert!(short(&long).len() <= MAX_VALUE_BYTES);
    }
}
