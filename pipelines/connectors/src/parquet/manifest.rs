//! Which files of a folder count, and up to which epoch they have the rows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use foreline_engine::RunId;
use serde::{Deserialize, Serialize};

/// The manifest's file name; readers of Parquet folders ignore names that begin with `_`.
pub(super) const NAME: &str = "_manifest.json";
/// The layout of the manifest.
const VERSION: u32 = 1;
/// A manifest beyond this is not one of ours: a file takes about 200 bytes of it.
const BYTES_MAX: u64 = 256 << 20;

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileKind {
    /// Rows as they first came.
    Rows,
    /// Rows that correct others.
    Corrections,
}

/// A file that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// Its path below the folder, with `/`.
    pub(super) name: String,
    /// What its rows are.
    pub(super) kind: FileKind,
    /// The computation that wrote it.
    pub(super) generation: u64,
    /// Its first epoch.
    pub(super) from: u64,
    /// Its last epoch.
    pub(super) to: u64,
    /// How many rows it has.
    pub(super) rows: u64,
    /// How large it is.
    pub(super) bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: String,
    /// The greatest event time in it, in its unit. Files of earlier versions do not say it, and stay for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latest: Option<i64>,
}

/// What is in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The layout.
    pub(super) version: u32,
    /// The stream whose rows these are.
    pub(super) stream: String,
    /// The newest run that took over; an older one may no longer write.
    pub(super) run: RunId,
    /// The computation that is under way.
    pub(super) generation: u64,
    /// The last epoch of this generation whose rows are all there.
    pub(super) committed: Option<u64>,
    /// The files, oldest first.
    pub(super) files: Vec<FileEntry>,
}

impl Manifest {
    /// The manifest of a folder without rows.
    pub(super) fn new(stream: &str, run: RunId, generation: u64) -> Self {
        Manifest {
            version: VERSION,
            stream: stream.to_owned(),
            run,
            generation,
            committed: None,
            files: Vec::new(),
        }
    }

    /// The manifest of `folder`, if it has one.
    ///
    /// # Errors
    /// When it cannot be read or is of a version that is not known.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(NAME);
        let bytes = match fs::metadata(&path) {
            Ok(found) if found.len() > BYTES_MAX => return Err(invalid("it is too large")),
            Ok(_) => fs::read(&path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Manifest::parse(&bytes).map(Some)
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// When it is not one, or of a version that is not known.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| invalid(&e.to_string()))?;
        if manifest.version != VERSION {
            return Err(invalid(&format!("version {} is not known", manifest.version)));
        }
        Ok(manifest)
    }

    /// The text of the manifest.
    pub(super) fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::from)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Replaces the manifest of `folder` by this one, durably and at once.
    pub(super) fn store(&self, folder: &Path) -> io::Result<()> {
        let temporary = folder.join(format!(".{NAME}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(&self.text()?)?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(NAME))?;
        sync_folder(folder)
    }

    /// Whether `name` is a file that counts.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.files.iter().any(|f| f.name == name)
    }
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn invalid(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("'{NAME}' cannot be read: {how}"))
}
