//! The files of a source: which there are, in which order, and what each is known by.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{Position, SourceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FileOrder;
use super::layout::Layout;
use super::plan::Plan;
use super::reader::Reader;

/// A file is known again by so many bytes at its start.
const HEAD_BYTES: u64 = 4096;

/// A file that was opened once and looked at.
#[derive(Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    /// Where it has its fields.
    pub(super) layout: Layout,
    pub(super) first_time: Option<i64>,
    identity: Identity,
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Where it was found.
    pub(super) path: PathBuf,
    n_bytes: u64,
    /// SHA-256 of its first bytes, [`HEAD_BYTES`] or as many as there were.
    head: [u8; 32],
}

/// All files of a source, in the order in which they are read.
pub(super) fn list(plan: &Arc<Plan>) -> Result<Vec<TextFile>, SourceError> {
    let paths = paths(plan)?;
    if paths.is_empty() {
        return Err(SourceError::Io(format!("no file matches '{}'", plan.place.written)));
    }
    if paths.len() >= Position::MAX_PARTITIONS as usize {
        return Err(SourceError::Limit(format!("'{}' matches too many files", plan.place.written)));
    }
    let mut files =
        paths.iter().map(|path| TextFile::look_at(plan, path)).collect::<Result<Vec<_>, _>>()?;
    if plan.order == FileOrder::FirstTime {
        files.sort_by_key(|f| (f.first_time.is_none(), f.first_time));
    }
    Ok(files)
}

/// The files that match, in the order of their paths.
pub(super) fn paths(plan: &Plan) -> Result<Vec<PathBuf>, SourceError> {
    let place = &plan.place;
    if place.literal.is_file() {
        return Ok(vec![place.literal.clone()]);
    }
    let mut paths = if place.literal.is_dir() { folder(&place.literal)? } else { matches(plan)? };
    paths.sort();
    Ok(paths)
}

/// The files in a folder, hidden ones left out.
pub(super) fn folder(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |e: std::io::Error| {
        SourceError::Io(format!("cannot list folder '{}': {e}", path.display()))
    };
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
        if !hidden && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn matches(plan: &Plan) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |e: &dyn std::fmt::Display| {
        SourceError::Io(format!("cannot search '{}': {e}", plan.place.written))
    };
    let mut found = Vec::new();
    for path in glob::glob(&plan.place.pattern).map_err(|e| failed(&e))? {
        let path = path.map_err(|e| failed(&e))?;
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

impl TextFile {
    pub(super) fn look_at(plan: &Arc<Plan>, path: &Path) -> Result<Self, SourceError> {
        Self::look_at_as(plan, path, path)
    }

    /// The same, called as it was called when it lay at `named`.
    pub(super) fn look_at_as(
        plan: &Arc<Plan>,
        path: &Path,
        named: &Path,
    ) -> Result<Self, SourceError> {
        let identity = Identity::of(path)?;
        let mut reader = Reader::open(plan, path, 0, 1)?;
        let (mut layout, first_time) = Layout::find(plan, path, plan.parts(named)?, &mut reader)?;
        layout.rename(named);
        Ok(TextFile { path: path.to_owned(), layout, first_time, identity })
    }

    /// A reader that stands at the first record.
    pub(super) fn open(&self, plan: &Arc<Plan>) -> Result<Reader, SourceError> {
        let mut reader = Reader::open(plan, &self.path, 0, 1)?;
        self.layout.pass_head(&mut reader)?;
        Ok(reader)
    }

    /// What the file is known by.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Checks that the file still is the one that was looked at; it may have grown.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.identity.check()
    }

    /// The error that says the file is not what it was.
    pub(super) fn changed(&self, how: impl Into<String>) -> SourceError {
        SourceError::Changed { what: self.path.display().to_string(), how: how.into() }
    }
}

impl Identity {
    fn of(path: &Path) -> Result<Self, SourceError> {
        Self::with_head(path, HEAD_BYTES)
    }

    /// What `path` is known by, as far as its first `n_head` bytes tell.
    fn with_head(path: &Path, n_head: u64) -> Result<Self, SourceError> {
        let read = || {
            let file = File::open(path)?;
            let n_bytes = file.metadata()?.len();
            let mut head = Vec::new();
            file.take(n_head).read_to_end(&mut head)?;
            Ok(Identity { path: path.to_owned(), n_bytes, head: Sha256::digest(&head).into() })
        };
        read().map_err(|e: std::io::Error| {
            SourceError::Io(format!("cannot read '{}': {e}", path.display()))
        })
    }

    /// Checks that the file is what it was; it may have grown.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let found = Self::with_head(&self.path, self.n_bytes.min(HEAD_BYTES))?;
        let how = if found.n_bytes < self.n_bytes {
            format!("it had {} bytes and has {}", self.n_bytes, found.n_bytes)
        } else if found.head != self.head {
            "its beginning differs".to_owned()
        } else {
            return Ok(());
        };
        Err(SourceError::Changed { what: self.path.display().to_string(), how })
    }
}
