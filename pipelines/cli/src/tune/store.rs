//! What trials gave, kept beside the pipeline file, so that a search goes on where it was stopped.
//!
//! A line a trial, under the digest of all that its figure depends on: the rows themselves, the parameters, the way rows are
//! parted, the figure, this program's version. A line that cannot be read, such as the last one of a search that was killed,
//! counts as not there.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use foreline_plugins::digest;
use foreline_spec::{Figure, TrainingPlan, ValidateConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::learning::samples::Samples;

/// The file of a search; `T` is what a trial gives.
pub(super) struct Store<T> {
    path: PathBuf,
    known: BTreeMap<String, T>,
    write: Mutex<()>,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<T> {
    key: String,
    settings: Settings,
    found: T,
}

impl<T: Clone + Serialize + DeserializeOwned> Store<T> {
    /// The file of search `name`, emptied where `fresh`.
    pub(super) fn open(file: &Path, name: &str, fresh: bool) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("")).join(".foreline").join("tune");
        std::fs::create_dir_all(&folder).with_context(|| format!("make '{}'", folder.display()))?;
        let stem = file.file_stem().map_or_else(|| "pipeline".into(), |s| s.to_string_lossy());
        let path = folder.join(format!("{stem}.{}.jsonl", digest_name(name)));
        if fresh && path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("remove '{}'", path.display()))?;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line<T>>(line).ok());
        let known = lines.map(|line| (line.key, line.found)).collect();
        Ok(Store { path, known, write: Mutex::new(()) })
    }

    pub(super) fn get(&self, key: &str) -> Option<T> {
        self.known.get(key).cloned()
    }

    pub(super) fn put(&self, key: &str, settings: &Settings, found: &T) -> Result<()> {
        let line = Line { key: key.to_owned(), settings: settings.clone(), found };
        let line = serde_json::to_string(&line)? + "\n";
        let _one_at_a_time = self.write.lock();
        let opened = OpenOptions::new().create(true).append(true).open(&self.path);
        opened
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("write '{}'", self.path.display()))
    }
}

/// A name as part of a file's name.
fn digest_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(plain) { name.to_owned() } else { digest(name.as_bytes())[..16].to_owned() }
}

/// The digest of rows to learn from.
pub(super) fn digest_of(samples: &Samples) -> String {
    let mut bytes = Vec::new();
    let set = &samples.set;
    for x in set.x.iter().chain(&set.y) {
        bytes.extend_from_slice(&x.to_bits().to_le_bytes());
    }
    for group in set.groups.iter().chain(&samples.life_of) {
        bytes.extend_from_slice(&group.to_le_bytes());
    }
    for time in &samples.times {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    bytes.extend(format!("{:?}{:?}", set.feature_names, set.labels).bytes());
    digest(&bytes)
}

/// The digest of all that a trial's figure depends on.
pub(super) fn key(
    training: &TrainingPlan,
    split: &ValidateConfig,
    figure: Option<Figure>,
    rows: &str,
) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let plugin = training.plugin.display();
    let params = serde_json::Value::Object(training.params.clone());
    digest(format!("{version}\n{plugin}\n{params}\n{split:?}\n{figure:?}\n{rows}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_on_where_it_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let settings = Settings::from([("a".to_owned(), 1.into())]);
        let store = Store::open(&file, "s", false).unwrap();
        store.put("one", &settings, &Some(0.1)).unwrap();
        store.put("two", &settings, &None).unwrap();
        let half = "{\"key\":\"three\",\"sett";
        let mut text = std::fs::read_to_string(&store.path).unwrap();
        text.push_str(half);
        std::fs::write(&store.path, text).unwrap();
        let again: Store<Option<f64>> = Store::open(&file, "s", false).unwrap();
        assert_eq!((again.get("one"), again.get("two")), (Some(Some(0.1)), Some(None)));
        assert_eq!(again.get("three"), None);
        let fresh: Store<Option<f64>> = Store::open(&file, "s", true).unwrap();
        assert_eq!(fresh.get("one"), None);
    }
}
