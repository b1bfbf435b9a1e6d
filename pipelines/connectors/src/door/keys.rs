//! Idempotency keys in a file that only grows: one JSON object a line, durable before the key counts.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FILE: &str = "keys.ndjson";

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// SHA-256 of the body, in hexadecimal.
    pub(super) digest: String,
    /// Ordinal of its first record.
    pub(super) first: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    known: Known,
}

/// The latest keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: BTreeMap<String, Known>,
    /// Oldest first.
    order: VecDeque<String>,
    /// Without it keys are known as long as the process lives.
    file: Option<Log>,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    n_bytes: u64,
    n_lines: usize,
    /// Why nothing more can be appended.
    broken: Option<String>,
}

impl Keys {
    /// Reads the keys in `folder` that stand for records before ordinal `next`, and forgets the others for good.
    pub(super) fn open(folder: &Path, next: u64, limit: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let mut keys = Keys::default();
        // What a crash has torn off the end stood for nothing yet.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| line.known.first < next) {
            keys.insert(line.key, line.known, limit);
        }
        keys.file = Some(keys.rewrite(path)?);
        Ok(keys)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Known> {
        self.by_key.get(key)
    }

    /// Adds a key, durably; beyond `limit` the oldest is forgotten.
    pub(super) fn add(
        &mut self,
        key: &str,
        digest: String,
        first: u64,
        limit: usize,
    ) -> Result<(), String> {
        let known = Known { digest, first };
        if let Some(log) = &mut self.file {
            log.append(&Line { key: key.to_owned(), known: known.clone() })?;
        }
        self.insert(key.to_owned(), known, limit);
        if let Some(log) = self.file.take_if(|log| log.n_lines > 2 * limit + 1000) {
            self.file = Some(self.rewrite(log.path).map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    fn insert(&mut self, key: String, known: Known, limit: usize) {
        if self.by_key.insert(key.clone(), known).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
    }

    /// Replaces the file by one that has what is known, durably and at once.
    fn rewrite(&self, path: PathBuf) -> io::Result<Log> {
        let temporary = path.with_extension("tmp");
        let mut text = Vec::new();
        for key in &self.order {
            if let Some(known) = self.by_key.get(key) {
                let line = Line { key: key.clone(), known: known.clone() };
                serde_json::to_writer(&mut text, &line)?;
                text.push(b'\n');
            }
        }
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let (n_bytes, n_lines) = (text.len() as u64, self.order.len());
        Ok(Log { path, file, n_bytes, n_lines, broken: None })
    }
}

impl Log {
    fn append(&mut self, line: &Line) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let mut text = serde_json::to_vec(line).map_err(|e| e.to_string())?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // What fitted is taken back; a line that is torn would swallow the next one.
            if let Err(error) = self.file.set_len(self.n_bytes) {
                self.broken = Some(error.to_string());
            }
            return Err(error.to_string());
        }
        if let Err(error) = self.file.sync_data() {
            // After a failed fsync nobody knows what is on the disk.
            self.broken = Some(error.to_string());
            return Err(error.to_string());
        }
        self.n_bytes += text.len() as u64;
        self.n_lines += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u64) -> String {
        format!("{n:064x}")
    }

    #[test]
    fn keys_outlive_the_process_as_far_as_the_journal_has_their_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(folder.path(), 1, 10).unwrap();
        for n in 1..=4 {
            keys.add(&format!("k{n}"), digest(n), n * 10, 10).unwrap();
        }
        drop(keys);
        let torn = folder.path().join(FILE);
        let mut text = fs::read(&torn).unwrap();
        text.extend_from_slice(b"{\"key\":\"k5\",\"dig");
        fs::write(&torn, text).unwrap();
        let keys = Keys::open(folder.path(), 30, 10).unwrap();
        assert_eq!(keys.get("k2"), Some(&Known { digest: digest(2), first: 20 }));
        assert_eq!(keys.get("k3"), None, "its records were never journaled");
        drop(keys);
        let keys = Keys::open(folder.path(), 1000, 10).unwrap();
        assert_eq!(keys.get("k3"), None, "and it does not come back when others have its ordinals");
    }

    #[test]
    fn only_the_latest_keys_are_kept_and_the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(folder.path(), 1, 3).unwrap();
        for n in 1..=1100 {
            keys.add(&format!("k{n}"), digest(n), n, 3).unwrap();
        }
        assert_eq!((keys.by_key.len(), keys.order.len()), (3, 3));
        assert!(keys.get("k1097").is_none() && keys.get("k1100").is_some());
        let lines = fs::read_to_string(folder.path().join(FILE)).unwrap().lines().count();
        assert!(lines < 1010, "{lines} lines");
    }
}
