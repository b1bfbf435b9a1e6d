//! Files below a prefix of a bucket.
//!
//! An object is there whole or not at all, so a file is written to its final key. The manifest is replaced only while
//! it still has the ETag that it had when it was loaded or last replaced (`If-Match`): that is the fence, and no lock
//! is needed. A run's files carry its number, so an older run that still writes cannot overwrite them.

use std::fs::File;

use ::parquet::file::properties::WriterProperties;
use arrow::array::RecordBatch;
use bytes::Bytes;
use foreline_engine::{RunId, crash_point};

use super::files::{self, Written};
use super::manifest::{Manifest, NAME};
use super::place::{Place, PlaceError};
use crate::objects::{ObjectError, Objects};

/// How often the manifest is put again when the store did not take it and says so.
const STORES_MAX: usize = 3;
/// An object that is only there to see whether the store honours conditions.
const PROBE: &str = "_conditions";
/// An ETag that no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

/// A prefix of a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    objects: Objects,
    /// The ETag of the manifest that is replaced next.
    etag: Option<String>,
}

impl Bucket {
    pub(super) fn new(objects: Objects) -> Self {
        Bucket { objects, etag: None }
    }

    /// Tries what the sink needs of the store, without a change; what was found.
    pub(super) fn probe(&self) -> Result<String, String> {
        let failed = |e: PlaceError| format!("'{}': {e}", self.name());
        // A store that honours the condition refuses it, but only to those who may write.
        self.refuses(Some(NO_ETAG)).map_err(failed)?;
        let n = self.names().map_err(failed)?.len();
        Ok(format!("'{}' can be written to, honours conditions and has {n} objects", self.name()))
    }

    fn key(&self, name: &str) -> String {
        self.objects.place().key(name)
    }

    /// Stores that take no notice of conditions would let two runs overwrite each other's manifest.
    fn check_conditions(&self) -> Result<(), PlaceError> {
        // The object is there from the first time on, so that there is something to refuse.
        match self.objects.put_over(&self.key(PROBE), Bytes::from_static(b"{}\n"), None) {
            Ok(_) => self.refuses(None)?,
            Err(ObjectError::Changed(_)) => {}
            Err(error) => return Err(failed("write", &error)),
        }
        self.refuses(Some(NO_ETAG))
    }

    /// Whether the store refuses to write an object over another one than there is.
    fn refuses(&self, over: Option<&str>) -> Result<(), PlaceError> {
        match self.objects.put_over(&self.key(PROBE), Bytes::from_static(b"{}\n"), over) {
            // Where nothing is there yet, `If-Match` is refused as what cannot be found.
            Err(ObjectError::Changed(_) | ObjectError::Gone) => Ok(()),
            Err(error) => Err(failed("write", &error)),
            Ok(_) => Err(PlaceError::Fatal(
                "the store does not honour conditional writes (If-None-Match, If-Match), which keep two runs from overwriting each other; use a release of it that does"
                    .to_owned(),
            )),
        }
    }

    /// The manifest that is there, and its ETag.
    fn fetch(&self) -> Result<Option<(Manifest, String)>, ObjectError> {
        let Some((bytes, etag)) = self.objects.get_whole(&self.key(NAME))? else { return Ok(None) };
        let manifest = Manifest::parse(&bytes).map_err(|e| ObjectError::Definite(e.to_string()))?;
        Ok(Some((manifest, etag)))
    }
}

fn failed(what: &str, error: &ObjectError) -> PlaceError {
    let text = format!("cannot {what}: {error}");
    match error {
        ObjectError::Transient(_) => PlaceError::Retry(text),
        _ => PlaceError::Fatal(text),
    }
}

impl Place for Bucket {
    fn name(&self) -> String {
        self.objects.place().to_string()
    }

    fn prepare(&mut self) -> Result<(), PlaceError> {
        self.check_conditions()
    }

    fn lock(&self) -> Result<Option<File>, PlaceError> {
        Ok(None)
    }

    fn load(&mut self) -> Result<Option<Manifest>, PlaceError> {
        let found = self.fetch().map_err(|e| failed("read the manifest", &e))?;
        let (manifest, etag) = found.unzip();
        self.etag = etag;
        Ok(manifest)
    }

    /// [`Place::store`] finds out by itself.
    fn taken_over_by(&mut self) -> Result<Option<RunId>, PlaceError> {
        Ok(None)
    }

    fn store(&mut self, manifest: &Manifest) -> Result<(), PlaceError> {
        let text = Bytes::from(manifest.text().map_err(|e| PlaceError::Fatal(e.to_string()))?);
        let mut why = String::new();
        for _ in 0..STORES_MAX {
            let put = self.objects.put_over(&self.key(NAME), text.clone(), self.etag.as_deref());
            match put {
                Ok(etag) => {
                    crash_point("manifest put");
                    self.etag = Some(etag);
                    return Ok(());
                }
                Err(error @ ObjectError::Definite(_)) => {
                    return Err(failed("write the manifest", &error));
                }
                Err(error) => why = error.to_string(),
            }
            // The answer may have been lost, or may be that to an earlier try: what is there decides.
            let found = self.fetch().map_err(|e| PlaceError::Unknown(e.to_string()))?;
            match found {
                Some((found, etag)) if found == *manifest => {
                    self.etag = Some(etag);
                    return Ok(());
                }
                Some((_, etag)) if self.etag.as_ref() != Some(&etag) => {
                    return Err(PlaceError::Raced);
                }
                None if self.etag.is_some() => return Err(PlaceError::Raced),
                _ => {}
            }
        }
        Err(PlaceError::Retry(format!("cannot write the manifest: {why}")))
    }

    fn names(&self) -> Result<Vec<String>, PlaceError> {
        let prefix = self.key("");
        let mut names = Vec::new();
        let mut listed = self.objects.list(&self.objects.place().prefix);
        while let Some(next) = listed.blocking_recv() {
            let found = next.map_err(|e| failed("list files", &e))?;
            names.extend(found.key.strip_prefix(&*prefix).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Bytes, PlaceError> {
        let what = || format!("read '{name}'");
        let found = self.objects.get_whole(&self.key(name)).map_err(|e| failed(&what(), &e))?;
        let found =
            found.ok_or_else(|| PlaceError::Fatal(format!("cannot {}: it is gone", what())));
        found.map(|(bytes, _)| bytes)
    }

    fn remove(&self, name: &str) -> Result<(), PlaceError> {
        self.objects.delete(&self.key(name)).map_err(|e| failed("remove old files", &e))
    }

    fn mark(&self, run: RunId) -> String {
        format!("-r{run}")
    }

    fn write(
        &self,
        name: &str,
        rows: &RecordBatch,
        properties: &WriterProperties,
    ) -> Result<Written, PlaceError> {
        let (bytes, written) = files::encode(rows, properties)
            .map_err(|e| PlaceError::Fatal(format!("cannot encode '{name}': {e}")))?;
        self.objects
            .put(&self.key(name), Bytes::from(bytes))
            .map_err(|e| failed(&format!("write '{name}'"), &e))?;
        Ok(written)
    }
}
