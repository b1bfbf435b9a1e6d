//! A folder that a sink writes, for readers: which files count, and which rows are on their way there.
//!
//! What a reader would get wrong: the rows on their way are looked at before the manifest, so that none is missed; those that
//! a file has by then are left out by their epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use foreline_engine::{Batch, Schema, Tail, Tailed};

use super::manifest::{FileKind, Manifest};
use super::sorted::{Split, file_schema, revision_columns, split};

/// The rows of one stream in a folder of this machine.
#[derive(Clone)]
pub struct Lake {
    folder: PathBuf,
    schema: Schema,
    tail: Arc<Tail>,
}

/// What a [`Lake`] had when it was looked at.
#[derive(Debug, Clone)]
pub struct Seen {
    manifest: Option<Manifest>,
    folder: PathBuf,
    schema: Schema,
    tailed: Tailed,
}

/// The rows of one computation: files with those that first came and with those that stand for others, and what is in no file yet.
#[derive(Debug, Clone, Default)]
pub struct LakePart {
    /// Files of rows as they first came.
    pub rows: Vec<PathBuf>,
    /// Files of rows that stand for others, with `_revision` and `_deleted`.
    pub corrections: Vec<PathBuf>,
    /// Rows that are in no file yet.
    pub recent: Vec<RecordBatch>,
    /// Corrections that are in no file yet.
    pub recent_corrections: Vec<RecordBatch>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Lake {
    pub(super) fn new(folder: &Path, schema: &Schema, tail: Arc<Tail>) -> Self {
        Lake { folder: folder.to_owned(), schema: schema.clone(), tail }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The stream's columns.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The columns as files have them: plain text in place of dictionaries.
    #[must_use]
    pub fn file_schema(&self) -> SchemaRef {
        file_schema(&self.schema, false)
    }

    /// What it has now.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn look(&self) -> io::Result<Seen> {
        let tailed = self.tail.look();
        let manifest = Manifest::load(&self.folder)?;
        let (folder, schema) = (self.folder.clone(), self.schema.clone());
        Ok(Seen { manifest, folder, schema, tailed })
    }
}

impl Seen {
    /// The last epoch of the computation under way that is in files.
    #[must_use]
    pub fn committed(&self) -> Option<u64> {
        self.manifest.as_ref().and_then(|m| m.committed)
    }

    /// The last epoch that is known of: in files, or on its way. `None` before there is any.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.committed().max(Some(self.tailed.epoch).filter(|&epoch| epoch > 0))
    }

    /// The rows up to the end of `epoch`, which is not before what is in files, by computation.
    ///
    /// # Errors
    /// When rows cannot be brought into the form that files have.
    pub fn rows(self, epoch: Option<u64>) -> Result<BTreeMap<u64, LakePart>, ArrowError> {
        let committed = self.committed();
        let mut parts: BTreeMap<u64, LakePart> = BTreeMap::new();
        let mut of = self.tailed.generation;
        if let Some(manifest) = self.manifest {
            if self.tailed.epoch == 0 {
                of = manifest.generation;
            }
            for file in manifest.files {
                let part = parts.entry(file.generation).or_default();
                let path = self.folder.join(file.name);
                match file.kind {
                    FileKind::Rows => part.rows.push(path),
                    FileKind::Corrections => part.corrections.push(path),
                }
            }
        }
        let is_new = |e: u64| committed.is_none_or(|c| e > c) && epoch.is_none_or(|most| e <= most);
        let mut recent = Split::default();
        for (_, batches) in self.tailed.rows.iter().filter(|(e, _)| is_new(*e)) {
            for batch in batches {
                split(batch, &mut recent)?;
            }
        }
        let plain = |batches: &[Batch], revisions: bool| {
            let filled = batches.iter().filter(|b| !b.is_empty());
            filled.map(|b| plain(&self.schema, b, revisions)).collect::<Result<Vec<_>, _>>()
        };
        let (rows, corrections) = (plain(&recent.rows, false)?, plain(&recent.corrections, true)?);
        if !rows.is_empty() || !corrections.is_empty() {
            let part = parts.entry(of).or_default();
            (part.recent, part.recent_corrections) = (rows, corrections);
        }
        Ok(parts)
    }
}

/// A batch in the form that files have.
fn plain(schema: &Schema, batch: &Batch, revisions: bool) -> Result<RecordBatch, ArrowError> {
    let arrow = file_schema(schema, revisions);
    let columns = batch.rows.columns().iter().zip(arrow.fields());
    let mut columns: Vec<ArrayRef> =
        columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    if revisions {
        columns.extend(revision_columns(std::slice::from_ref(batch))?);
    }
    RecordBatch::try_new(arrow, columns)
}
