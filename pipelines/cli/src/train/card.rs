//! The card of trained weights: what they were made from, in YAML beside them, so that nobody has to remember.
//!
//! It is no part of the weights: the same rows give the same weights on another day. `foreline model pack` takes it along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::{DateTime, SecondsFormat, Utc};
use foreline_engine::{Schema, TimeDomain};
use foreline_plugins::digest;
use foreline_plugins::train::Trained;
use foreline_spec::{Plan, SourceOverride, TrainingPlan};
use serde_json::{Map, Value, json};

use super::write_whole;
use crate::learning::samples::Samples;
use crate::validate::Validated;

/// The key under which a card names the weights that it belongs to.
pub const WEIGHTS_KEY: &str = "weights_sha256";

/// What a card says.
#[derive(Debug, Clone)]
pub struct Card(Map<String, Value>);

impl Card {
    /// What is known of weights once they are made. Of sources it has what the file says, which is without secrets.
    pub(super) fn of(
        plan: &Plan,
        training: &TrainingPlan,
        samples: &Samples,
        schema: &Schema,
        trained: &Trained,
    ) -> Self {
        let time = |at: Option<&i64>| match (at, schema.domain()) {
            (None, _) => Value::Null,
            (Some(&at), TimeDomain::Logical) => json!(at),
            (Some(&at), TimeDomain::UtcNanos) => {
                let at = DateTime::from_timestamp_nanos(at);
                json!(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
        };
        let sources = plan.sources.iter().filter(|source| !source.config.is_empty());
        let sources = sources.map(|source| (source.name.clone(), json!(source.config)));
        let data = json!({
            "sources": sources.collect::<Map<_, _>>(),
            "rows": trained.rows_used,
            "left_out": trained.rows_dropped,
            "machines": samples.machines.len(),
            "from": time(samples.times.iter().min()),
            "to": time(samples.times.iter().max()),
        });
        let params = (!training.params.is_empty()).then(|| Value::Object(training.params.clone()));
        let all = [
            ("model", json!(training.name)),
            ("plugin", json!(training.plugin.display().to_string())),
            ("params", params.unwrap_or(Value::Null)),
            ("data", data),
            ("features", json!(training.features)),
            ("metrics", json!("not judged: `foreline train --validate` does")),
            (WEIGHTS_KEY, json!(digest(&trained.weights))),
        ];
        Card(all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Adds what the sources read instead of what the file says.
    pub(super) fn inputs(&mut self, inputs: BTreeMap<String, SourceOverride>) {
        let paths = inputs.into_iter().filter_map(|(source, instead)| match instead {
            SourceOverride::Path(path) => Some((source, json!(path.display().to_string()))),
            SourceOverride::Rows(_) => None,
        });
        let paths: Map<String, Value> = paths.collect();
        if !paths.is_empty() {
            self.0["data"]["inputs"] = Value::Object(paths);
        }
    }

    /// Adds how the model was judged.
    pub(super) fn metrics(&mut self, validated: &[Validated]) {
        if !validated.is_empty() {
            let of = |one: &Validated| {
                let mut run = crate::mlflow::Run::new("", "");
                one.log(&mut run);
                run.metrics.into_iter().map(|(name, value)| (name, json!(value)))
            };
            let all: Map<String, Value> = validated.iter().flat_map(of).collect();
            self.0["metrics"] = Value::Object(all);
        }
    }

    /// Writes it beside the weights.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, weights: &Path, file: &Path) -> anyhow::Result<()> {
        write_whole(&card_of(weights), self.text(file, Utc::now()).as_bytes())
    }

    /// The card as YAML: a key a line, its value as JSON, which YAML reads too.
    fn text(&self, file: &Path, now: DateTime<Utc>) -> String {
        let commit = commit_of(file).unwrap_or_else(|| "the pipeline file is in no git".to_owned());
        let mut all = self.0.clone();
        all.insert("pipeline".to_owned(), json!(file.file_name().map(|n| n.to_string_lossy())));
        all.insert("date".to_owned(), json!(now.format("%Y-%m-%d").to_string()));
        all.insert("commit".to_owned(), json!(commit));
        all.insert("foreline".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        let lines = all.iter().filter(|(_, value)| !value.is_null());
        lines.map(|(key, value)| format!("{key}: {value}\n")).collect()
    }
}

/// Where the card of these weights lies.
#[must_use]
pub fn card_of(weights: &Path) -> PathBuf {
    let mut name = weights.as_os_str().to_owned();
    name.push(".card.yaml");
    PathBuf::from(name)
}

/// The commit of the repository that a file lies in; with `-dirty` where something in it is changed.
fn commit_of(file: &Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])
        .current_dir(folder.unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|said| output.status.success() && !said.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_yaml_and_says_what_a_card_must() {
        let folder = tempfile::tempdir().unwrap();
        let all = json!({ "data": { "rows": 3 }, "features": ["a: b", "c"], "metrics": "x", "params": null });
        let Value::Object(all) = all else { panic!() };
        let now = DateTime::from_timestamp_nanos(0);
        let text = Card(all).text(&folder.path().join("p.yaml"), now);
        let read = foreline_spec::read_values(&text).unwrap();
        assert_eq!(read["features"][0], "a: b");
        assert_eq!((&read["date"], &read["pipeline"]), (&json!("1970-01-01"), &json!("p.yaml")));
        assert_eq!(read["commit"], "the pipeline file is in no git");
        assert!(read.get("params").is_none());
    }
}
