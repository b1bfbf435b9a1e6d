//! Where the files of a stream lie: a folder, or a prefix of a bucket.

use std::fmt::Debug;
use std::fs::File;

use ::parquet::file::properties::WriterProperties;
use arrow::array::RecordBatch;
use bytes::Bytes;
use foreline_engine::RunId;

use super::files::Written;
use super::manifest::Manifest;

/// Something that could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum PlaceError {
    /// It may go better later; nothing has changed by it.
    #[error("{0}")]
    Retry(String),
    /// It will not.
    #[error("{0}")]
    Fatal(String),
    /// Somebody else has replaced the manifest since it was loaded.
    #[error("somebody else writes there")]
    Raced,
    /// Whether the manifest was replaced is not known.
    #[error("it is not known whether the manifest was replaced: {0}")]
    Unknown(String),
}

/// Where files lie. Names are below it, with `/`.
pub(super) trait Place: Debug + Send {
    /// What a person calls it.
    fn name(&self) -> String;

    /// Makes it ready to be written to.
    fn prepare(&mut self) -> Result<(), PlaceError>;

    /// Keeps others from replacing the manifest until the answer is dropped, where that can be done.
    fn lock(&self) -> Result<Option<File>, PlaceError>;

    /// The manifest, if there is one. [`Place::store`] replaces this very one.
    fn load(&mut self) -> Result<Option<Manifest>, PlaceError>;

    /// The run that has taken over, where [`Place::store`] would not find out by itself.
    fn taken_over_by(&mut self) -> Result<Option<RunId>, PlaceError>;

    /// Replaces the manifest, durably and at once.
    fn store(&mut self, manifest: &Manifest) -> Result<(), PlaceError>;

    /// The files there, those among the corrections too, sorted.
    fn names(&self) -> Result<Vec<String>, PlaceError>;

    /// All of a file.
    fn read(&self, name: &str) -> Result<Bytes, PlaceError>;

    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), PlaceError>;

    /// What the names of files that `run` writes have beside their epochs.
    fn mark(&self, run: RunId) -> String;

    /// Writes a file that is whole or not there.
    fn write(
        &self,
        name: &str,
        rows: &RecordBatch,
        properties: &WriterProperties,
    ) -> Result<Written, PlaceError>;
}
