//! Collects rows and writes them at each commit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ::parquet::file::properties::WriterProperties;
use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError, crash_point};

use super::manifest::{FileEntry, FileKind, Manifest, sync_folder};
use super::sorted::{Split, sorted, split};
use super::{IfExists, ParquetConfig, files};

/// Held locked while a manifest is checked and replaced.
const LOCK_NAME: &str = "_lock";
/// The folder of rows that correct others; readers of Parquet folders ignore names that begin with `_`.
const CORRECTIONS: &str = "_corrections";

/// A file is written when so many bytes of values wait, however few rows they are: sorting and writing take several
/// times as much.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The files of one stream.
#[derive(Debug)]
pub(super) struct ParquetSink {
    folder: PathBuf,
    stream: String,
    config: ParquetConfig,
    opened: Option<Opened>,
}

/// What is known once the folder was taken over.
#[derive(Debug)]
struct Opened {
    schema: Schema,
    properties: WriterProperties,
    manifest: Manifest,
    waiting: Split,
    n_waiting: usize,
    /// The first epoch that has rows waiting.
    from: Option<u64>,
}

impl ParquetSink {
    pub(super) fn new(folder: &Path, stream: &str, config: ParquetConfig) -> Self {
        ParquetSink { folder: folder.to_owned(), stream: stream.to_owned(), config, opened: None }
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> SinkError {
        SinkError::Fatal(format!("cannot {what} in '{}': {error}", self.folder.display()))
    }

    /// Locks the folder against other processes until the answer is dropped.
    fn lock(&self) -> Result<File, SinkError> {
        let lock = || {
            let file = File::create(self.folder.join(LOCK_NAME))?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|e: io::Error| self.failed("take the lock", &e))
    }

    fn load(&self) -> Result<Option<Manifest>, SinkError> {
        Manifest::load(&self.folder).map_err(|e| self.failed("read the manifest", &e))
    }

    fn store(&self, manifest: &Manifest) -> Result<(), SinkError> {
        manifest.store(&self.folder).map_err(|e| self.failed("write the manifest", &e))
    }

    fn create_folders(&self) -> Result<(), SinkError> {
        let create = || {
            fs::create_dir_all(self.folder.join(CORRECTIONS))?;
            let above = self.folder.parent().filter(|p| !p.as_os_str().is_empty());
            sync_folder(above.unwrap_or(Path::new(".")))?;
            sync_folder(&self.folder)
        };
        create().map_err(|e| self.failed("create the folder", &e))
    }

    /// The manifest for this run, made from the one that was found.
    fn take_over(
        &self,
        found: Option<Manifest>,
        run: RunId,
        generation: u64,
    ) -> Result<Manifest, SinkError> {
        let Some(found) = found else {
            self.refuse_strangers()?;
            return Ok(Manifest::new(&self.stream, run, generation));
        };
        if found.run > run || found.generation > generation {
            return Err(SinkError::Fenced(found.run));
        }
        if found.stream != self.stream {
            return Err(self.failed("write", &format!("it holds the stream '{}'", found.stream)));
        }
        if found.generation == generation {
            return Ok(Manifest { run, ..found });
        }
        let fresh = Manifest::new(&self.stream, run, generation);
        match self.config.if_exists {
            _ if found.files.is_empty() => Ok(fresh),
            IfExists::Replace => Ok(fresh),
            IfExists::Append => Ok(Manifest { files: found.files, ..fresh }),
            IfExists::Error => Err(SinkError::Fatal(format!(
                "'{}' already has {} rows of an earlier run; set `if_exists: replace` or `if_exists: append`, or remove the folder",
                self.folder.display(),
                found.files.iter().map(|f| f.rows).sum::<u64>(),
            ))),
        }
    }

    /// Without a manifest, files named like ours are someone else's.
    fn refuse_strangers(&self) -> Result<(), SinkError> {
        let names = self.names().map_err(|e| self.failed("list files", &e))?;
        match names.iter().find(|name| is_ours(name)) {
            None => Ok(()),
            Some(name) => {
                Err(self.failed("write", &format!("there is a file '{name}' but no manifest")))
            }
        }
    }

    /// Removes what crashed runs left behind: files that are not whole, or that no manifest lists.
    fn remove_leftovers(&self, manifest: &Manifest) -> io::Result<()> {
        for name in self.names()? {
            let unfinished =
                name.rsplit('/').next().is_some_and(|n| n.starts_with('.') && n.ends_with(".tmp"));
            if unfinished || (is_ours(&name) && !manifest.lists(&name)) {
                fs::remove_file(self.folder.join(&name))?;
            }
        }
        Ok(())
    }

    /// The files in the folder and among the corrections, as the manifest names them.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (folder, prefix) in [("", ""), (CORRECTIONS, "_corrections/")] {
            for entry in self.folder.join(folder).read_dir()? {
                names.push(format!("{prefix}{}", entry?.file_name().to_string_lossy()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Writes what waits as files of the epochs up to `to` and adds them to `manifest`.
    fn write_files(
        &self,
        opened: &Opened,
        to: u64,
        manifest: &mut Manifest,
    ) -> Result<(), SinkError> {
        let from = opened.from.unwrap_or(to);
        let both = [
            (FileKind::Rows, &opened.waiting.rows),
            (FileKind::Corrections, &opened.waiting.corrections),
        ];
        for (kind, batches) in both {
            let rows = batches.iter().map(|b| b.len() as u64).sum();
            if rows == 0 {
                continue;
            }
            let name = file_name(kind, manifest, from, to);
            let written = sorted(&opened.schema, batches, kind == FileKind::Corrections)
                .map_err(|e| self.failed("sort rows", &e))
                .and_then(|sorted| {
                    files::write(&self.folder.join(&name), &sorted, &opened.properties)
                        .map_err(|e| self.failed(&format!("write '{name}'"), &e))
                })?;
            let (generation, bytes, sha256) = (manifest.generation, written.bytes, written.sha256);
            manifest.files.push(FileEntry {
                name,
                kind,
                generation,
                from,
                to,
                rows,
                bytes,
                sha256,
            });
        }
        Ok(())
    }
}

impl Sink for ParquetSink {
    fn open(
        &mut self,
        run: RunId,
        generation: u64,
        schema: &Schema,
    ) -> Result<Option<u64>, SinkError> {
        self.opened = None;
        let properties = files::properties(&self.config, schema)
            .map_err(|e| self.failed("prepare files", &e))?;
        self.create_folders()?;
        let _lock = self.lock()?;
        let manifest = self.take_over(self.load()?, run, generation)?;
        self.store(&manifest)?;
        // Files that are replaced are no longer listed, so they are leftovers, too.
        self.remove_leftovers(&manifest).map_err(|e| self.failed("remove old files", &e))?;
        let committed = manifest.committed;
        self.opened = Some(Opened {
            schema: schema.clone(),
            properties,
            manifest,
            waiting: Split::default(),
            n_waiting: 0,
            from: None,
        });
        Ok(committed)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        for batch in rows.iter().filter(|b| !b.is_empty()) {
            split(batch, &mut opened.waiting)
                .map_err(|e| SinkError::Fatal(format!("cannot tell corrections apart: {e}")))?;
            opened.n_waiting += batch.len();
            opened.from.get_or_insert(epoch);
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let mut opened = self.opened.take().ok_or_else(not_open)?;
        if let Some(has) = opened.manifest.committed.filter(|&has| has >= upto) {
            self.opened = Some(opened);
            return Ok(Committed::Yes(has));
        }
        let _lock = self.lock()?;
        let found = self.load()?;
        if let Some(newer) = found.filter(|found| found.run > opened.manifest.run) {
            return Err(SinkError::Fenced(newer.run));
        }
        let mut manifest = opened.manifest.clone();
        self.write_files(&opened, upto, &mut manifest)?;
        crash_point("parquet files written");
        manifest.committed = Some(upto);
        self.store(&manifest)?;
        opened.manifest = manifest;
        opened.waiting = Split::default();
        (opened.n_waiting, opened.from) = (0, None);
        self.opened = Some(opened);
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        self.opened.as_ref().is_some_and(|o| {
            let bytes = o.n_waiting * o.schema.columns().len() * size_of::<u64>();
            o.n_waiting >= self.config.file_rows || bytes >= WAITING_BYTES_MAX
        })
    }
}

/// The name of the file with the rows of the epochs `from` to `to`. Beside rows of an earlier generation it
/// carries the generation, too.
fn file_name(kind: FileKind, manifest: &Manifest, from: u64, to: u64) -> String {
    let generation = manifest.generation;
    let appends = manifest.files.iter().any(|f| f.generation != generation);
    let generation = if appends { format!("{generation}-") } else { String::new() };
    let name = format!("part-{generation}{from:08}-{to:08}.parquet");
    match kind {
        FileKind::Rows => name,
        FileKind::Corrections => format!("{CORRECTIONS}/{name}"),
    }
}

/// Whether a name is one that [`file_name`] gives.
fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix("_corrections/").unwrap_or(name);
    let numbers = name.strip_prefix("part-").and_then(|n| n.strip_suffix(".parquet"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|n| matches!(n.split('-').count(), 2 | 3) && n.split('-').all(is_number))
}

fn not_open() -> SinkError {
    SinkError::Fatal("the sink is not open".to_owned())
}
