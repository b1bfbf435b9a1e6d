//! Collects rows and writes them at each commit.

use std::sync::Arc;

use ::parquet::file::properties::WriterProperties;
use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError, Tail, crash_point};

use super::manifest::{FileEntry, FileKind, Manifest};
use super::place::{Place, PlaceError};
use super::sorted::{Split, sorted, split};
use super::{IfExists, ParquetConfig, files, upkeep};

/// How often taking over is tried while others do the same.
const TAKE_OVERS_MAX: usize = 5;
/// The folder of rows that correct others; readers of Parquet folders ignore names that begin with `_`.
pub(super) const CORRECTIONS: &str = "_corrections";

/// A file is written when so many bytes of values wait, however few rows they are: sorting and writing take several
/// times as much.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The files of one stream.
#[derive(Debug)]
pub(super) struct ParquetSink {
    place: Box<dyn Place>,
    stream: String,
    config: ParquetConfig,
    upkeep: Upkeep,
    opened: Option<Opened>,
    /// Where readers look for what is not committed yet.
    tail: Option<Arc<Tail>>,
}

/// What is done besides writing what comes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Upkeep {
    /// Whether many small files become one.
    pub(super) compact: bool,
    /// How far behind the newest row of all a file goes, in the unit of its event time.
    pub(super) keep: Option<i64>,
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
    pub(super) fn new(place: Box<dyn Place>, stream: &str, config: ParquetConfig) -> Self {
        let upkeep = Upkeep::default();
        ParquetSink { place, stream: stream.to_owned(), config, upkeep, opened: None, tail: None }
    }

    /// The same sink, which keeps its files few or its rows young.
    pub(super) fn with_upkeep(self, upkeep: Upkeep) -> Self {
        ParquetSink { upkeep, ..self }
    }

    /// The same sink, what it has not committed being looked at by others.
    pub(super) fn watched(self, tail: Arc<Tail>) -> Self {
        ParquetSink { tail: Some(tail), ..self }
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> SinkError {
        SinkError::Fatal(format!("cannot {what} in '{}': {error}", self.place.name()))
    }

    fn told(&self, error: &PlaceError) -> SinkError {
        let text = format!("'{}': {error}", self.place.name());
        match error {
            PlaceError::Retry(_) | PlaceError::Unknown(_) => SinkError::Retry(text),
            PlaceError::Fatal(_) | PlaceError::Raced => SinkError::Fatal(text),
        }
    }

    /// Makes the manifest this run's, and says what it is then.
    fn take(&mut self, run: RunId, generation: u64) -> Result<Manifest, SinkError> {
        for _ in 0..TAKE_OVERS_MAX {
            let found = self.place.load().map_err(|e| self.told(&e))?;
            let manifest = self.take_over(found, run, generation)?;
            match self.place.store(&manifest) {
                Ok(()) => return Ok(manifest),
                // Another run takes over at the same time; which is newer shows in what it has left.
                Err(PlaceError::Raced) => {}
                Err(error) => return Err(self.told(&error)),
            }
        }
        Err(self.told(&PlaceError::Raced))
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
                "'{}' already has {} rows of an earlier run; set `if_exists: replace` or `if_exists: append`, or remove what is there",
                self.place.name(),
                found.files.iter().map(|f| f.rows).sum::<u64>(),
            ))),
        }
    }

    /// Without a manifest, files named like ours are someone else's.
    fn refuse_strangers(&self) -> Result<(), SinkError> {
        let names = self.place.names().map_err(|e| self.told(&e))?;
        match names.iter().find(|name| is_ours(name)) {
            None => Ok(()),
            Some(name) => {
                Err(self.failed("write", &format!("there is a file '{name}' but no manifest")))
            }
        }
    }

    /// Removes what crashed runs left behind: files that are not whole, or that no manifest lists. Files of a newer run
    /// are its own business.
    fn remove_leftovers(&self, manifest: &Manifest) -> Result<(), PlaceError> {
        for name in self.place.names()? {
            let unfinished =
                name.rsplit('/').next().is_some_and(|n| n.starts_with('.') && n.ends_with(".tmp"));
            let older = run_of(&name).is_none_or(|run| run <= manifest.run);
            if unfinished || (is_ours(&name) && older && !manifest.lists(&name)) {
                self.place.remove(&name)?;
                crash_point("leftover removed");
            }
        }
        Ok(())
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
            let name = file_name(kind, manifest, from, to, &self.place.mark(manifest.run));
            let sorted = sorted(&opened.schema, batches, kind == FileKind::Corrections)
                .map_err(|e| self.failed("sort rows", &e))?;
            let written =
                self.place.write(&name, &sorted, &opened.properties).map_err(|e| self.told(&e))?;
            let latest = upkeep::latest(&opened.schema, &sorted);
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
                latest,
            });
        }
        Ok(())
    }

    /// Writes what waits and has the manifest list it.
    fn commit_new(&mut self, opened: &mut Opened, upto: u64) -> Result<Committed, SinkError> {
        let _lock = self.place.lock().map_err(|e| self.told(&e))?;
        let found = self.place.taken_over_by().map_err(|e| self.told(&e))?;
        if let Some(newer) = found.filter(|run| *run > opened.manifest.run) {
            return Err(SinkError::Fenced(newer));
        }
        let mut manifest = opened.manifest.clone();
        self.write_files(opened, upto, &mut manifest)?;
        crash_point("parquet files written");
        manifest.committed = Some(upto);
        match self.place.store(&manifest) {
            Ok(()) => {}
            Err(PlaceError::Unknown(_)) => return Ok(Committed::Unknown),
            Err(PlaceError::Raced) => return Err(self.fenced(opened.manifest.run)),
            Err(error) => return Err(self.told(&error)),
        }
        opened.manifest = manifest;
        opened.waiting = Split::default();
        (opened.n_waiting, opened.from) = (0, None);
        self.keep_up(opened)?;
        Ok(Committed::Yes(upto))
    }

    /// Has fewer files and younger rows, where that is wanted and something is due. The commit stands whatever becomes of it.
    fn keep_up(&mut self, opened: &mut Opened) -> Result<(), SinkError> {
        let mut manifest = opened.manifest.clone();
        let mut gone = match self.upkeep.keep {
            Some(keep) => upkeep::expire(&mut manifest, keep),
            None => Vec::new(),
        };
        if self.upkeep.compact
            && let Some(found) = upkeep::mergeable(&manifest, self.config.file_rows)
        {
            match self.merge(opened, &mut manifest, &found) {
                Ok(names) => gone.extend(names),
                // What lies there is not touched: who looks after the disk will want to see it.
                Err(why) => tracing::error!("files in '{}' stay apart: {why}", self.place.name()),
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        crash_point("parquet files merged");
        match self.place.store(&manifest) {
            Ok(()) => opened.manifest = manifest,
            Err(PlaceError::Raced) => return Err(self.fenced(opened.manifest.run)),
            // Opened again, it sees which of both there is: they have the same rows.
            Err(error) => {
                return Err(SinkError::Retry(format!("'{}': {error}", self.place.name())));
            }
        }
        crash_point("parquet upkeep listed");
        for name in gone {
            self.place.remove(&name).map_err(|e| self.told(&e))?;
        }
        Ok(())
    }

    /// Makes one file of several, and has `manifest` list it in their place; their names.
    fn merge(
        &self,
        opened: &Opened,
        manifest: &mut Manifest,
        found: &[usize],
    ) -> Result<Vec<String>, String> {
        let entries: Vec<FileEntry> = found.iter().map(|&i| manifest.files[i].clone()).collect();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(Vec::new());
        };
        let mut files = Vec::with_capacity(entries.len());
        for entry in &entries {
            files.push((entry, self.place.read(&entry.name).map_err(|e| e.to_string())?));
        }
        let rows = upkeep::merged(&opened.schema, first.kind, files)?;
        let mark = self.place.mark(manifest.run);
        let name = file_name(first.kind, manifest, first.from, last.to, &mark);
        let written = self.place.write(&name, &rows, &opened.properties);
        let written = written.map_err(|e| e.to_string())?;
        let merged = FileEntry {
            name,
            to: last.to,
            rows: rows.num_rows() as u64,
            bytes: written.bytes,
            sha256: written.sha256,
            latest: entries.iter().map(|e| e.latest).max().flatten(),
            ..first.clone()
        };
        let at = found[0];
        let mut place = 0..;
        manifest.files.retain(|_| place.next().is_none_or(|i| !found.contains(&i)));
        manifest.files.insert(at, merged);
        Ok(entries.into_iter().map(|e| e.name).collect())
    }

    /// Who has replaced the manifest.
    fn fenced(&mut self, run: RunId) -> SinkError {
        match self.place.load() {
            Ok(Some(found)) if found.run > run => SinkError::Fenced(found.run),
            Ok(_) => self.told(&PlaceError::Raced),
            Err(error) => self.told(&error),
        }
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
        self.place.prepare().map_err(|e| self.told(&e))?;
        let _lock = self.place.lock().map_err(|e| self.told(&e))?;
        let manifest = self.take(run, generation)?;
        crash_point("parquet taken over");
        // Files that are replaced are no longer listed, so they are leftovers, too.
        self.remove_leftovers(&manifest).map_err(|e| self.told(&e))?;
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
        let committed = self.commit_new(&mut opened, upto);
        // After anything else it is opened again and asked what it has, and given the rest again.
        if matches!(committed, Ok(Committed::Yes(_))) {
            self.opened = Some(opened);
        }
        committed
    }

    fn full(&self) -> bool {
        self.opened.as_ref().is_some_and(|o| {
            let bytes = o.n_waiting * o.schema.columns().len() * size_of::<u64>();
            o.n_waiting >= self.config.file_rows || bytes >= WAITING_BYTES_MAX
        })
    }

    fn tail(&self) -> Option<Arc<Tail>> {
        self.tail.clone()
    }
}

/// The name of the file with the rows of the epochs `from` to `to`. Beside rows of an earlier generation it
/// carries the generation, too.
fn file_name(kind: FileKind, manifest: &Manifest, from: u64, to: u64, mark: &str) -> String {
    let generation = manifest.generation;
    let appends = manifest.files.iter().any(|f| f.generation != generation);
    let generation = if appends { format!("{generation}-") } else { String::new() };
    let name = format!("part-{generation}{from:08}-{to:08}{mark}.parquet");
    match kind {
        FileKind::Rows => name,
        FileKind::Corrections => format!("{CORRECTIONS}/{name}"),
    }
}

/// Whether a name is one that [`file_name`] gives.
fn is_ours(name: &str) -> bool {
    let Some((numbers, _)) = numbers_and_run(name) else { return false };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    matches!(numbers.split('-').count(), 2 | 3) && numbers.split('-').all(is_number)
}

/// The run that a file's name carries.
fn run_of(name: &str) -> Option<RunId> {
    numbers_and_run(name)?.1.map(RunId)
}

/// What stands between `part-` and the extension: generation and epochs, and the run if it is there.
fn numbers_and_run(name: &str) -> Option<(&str, Option<u64>)> {
    let name = name.strip_prefix("_corrections/").unwrap_or(name);
    let numbers = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
    match numbers.rsplit_once("-r") {
        Some((numbers, run)) => Some((numbers, Some(run.parse().ok()?))),
        None => Some((numbers, None)),
    }
}

fn not_open() -> SinkError {
    SinkError::Fatal("the sink is not open".to_owned())
}
