//! Files in a folder of this machine. A lock keeps two processes from replacing the manifest at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ::parquet::file::properties::WriterProperties;
use arrow::array::RecordBatch;
use bytes::Bytes;
use foreline_engine::RunId;

use super::files::{self, Written};
use super::manifest::{Manifest, sync_folder};
use super::place::{Place, PlaceError};
use super::sink::CORRECTIONS;

/// Held locked while a manifest is checked and replaced.
const LOCK_NAME: &str = "_lock";

/// A folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Folder(path.to_owned())
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> PlaceError {
    PlaceError::Fatal(format!("cannot {what}: {error}"))
}

impl Place for Folder {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn prepare(&mut self) -> Result<(), PlaceError> {
        let create = || {
            fs::create_dir_all(self.0.join(CORRECTIONS))?;
            let above = self.0.parent().filter(|p| !p.as_os_str().is_empty());
            sync_folder(above.unwrap_or(Path::new(".")))?;
            sync_folder(&self.0)
        };
        create().map_err(|e| failed("create the folder", &e))
    }

    fn lock(&self) -> Result<Option<File>, PlaceError> {
        let lock = || {
            let file = File::create(self.0.join(LOCK_NAME))?;
            file.lock()?;
            Ok(Some(file))
        };
        lock().map_err(|e: io::Error| failed("take the lock", &e))
    }

    fn load(&mut self) -> Result<Option<Manifest>, PlaceError> {
        Manifest::load(&self.0).map_err(|e| failed("read the manifest", &e))
    }

    fn taken_over_by(&mut self) -> Result<Option<RunId>, PlaceError> {
        Ok(self.load()?.map(|found| found.run))
    }

    fn store(&mut self, manifest: &Manifest) -> Result<(), PlaceError> {
        manifest.store(&self.0).map_err(|e| failed("write the manifest", &e))
    }

    fn names(&self) -> Result<Vec<String>, PlaceError> {
        let list = || {
            let mut names = Vec::new();
            for (folder, prefix) in [("", ""), (CORRECTIONS, "_corrections/")] {
                for entry in self.0.join(folder).read_dir()? {
                    names.push(format!("{prefix}{}", entry?.file_name().to_string_lossy()));
                }
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|e: io::Error| failed("list files", &e))
    }

    fn read(&self, name: &str) -> Result<Bytes, PlaceError> {
        let read = fs::read(self.0.join(name)).map(Bytes::from);
        read.map_err(|e| failed(&format!("read '{name}'"), &e))
    }

    fn remove(&self, name: &str) -> Result<(), PlaceError> {
        fs::remove_file(self.0.join(name)).map_err(|e| failed("remove old files", &e))
    }

    /// None: the lock keeps an older run from writing files of the same epochs.
    fn mark(&self, _: RunId) -> String {
        String::new()
    }

    fn write(
        &self,
        name: &str,
        rows: &RecordBatch,
        properties: &WriterProperties,
    ) -> Result<Written, PlaceError> {
        files::write(&self.0.join(name), rows, properties)
            .map_err(|e| failed(&format!("write '{name}'"), &e))
    }
}
