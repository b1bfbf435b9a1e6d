//! Parquet files of this machine as a source: a folder that the sink has written, a folder or a glob of others.
//!
//! In a folder with a manifest only the files that it lists are read, in the order of their epochs, and of rows with the
//! same key and event time only the one that stands: of the greatest generation and revision, none where that one says
//! deleted. A correction comes where it was made, which may be as late as the pipeline that made it allowed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{
    Chunk, ConfigError, Decoder, KnownPartition, Partition, Poll, Position, Range, ReadUpTo,
    Replay, Resolver, Source, SourceError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::groups::{GroupRecords, Groups};
use super::manifest::{FileKind, Manifest};
use super::resolve::{RESOLVED_ROWS_MAX, Resolution, Standing};
use crate::cut::{Format as _, Opened, Records as _, Shared};
use crate::kind::{PlannedSource, SourceInputs, SourceKind, Tap};

/// A file is known again by so many bytes at its end, where its metadata lies.
const END_BYTES: u64 = 64 << 10;

/// Reads Parquet files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetSourceConfig {
    /// A folder that a Parquet sink of Foreline has written (`lake/features`), another folder (every `*.parquet` file in
    /// it whose name does not begin with `.` or `_`), a file or a glob, relative to the pipeline file. Files that no
    /// manifest lists are read in the order of their paths.
    pub path: String,
}

/// The kind of source that reads Parquet files.
#[derive(Debug)]
pub struct ParquetFiles;

impl SourceKind for ParquetFiles {
    type Config = ParquetSourceConfig;
    const NAME: &'static str = "parquet";
    const SUMMARY: &'static str = "reads Parquet files, such as those that a sink has written";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let mut found = Vec::new();
        if config.path.is_empty() {
            found.push(ConfigError::new("path", "the path is empty"));
        }
        if config.path.starts_with("s3://") {
            found.push(
                ConfigError::new("path", "it is the address of a bucket, not a path")
                    .help("write s3: { url: …, format: parquet }"),
            );
        }
        let groups = Groups::new(inputs, &[]).map_err(|errors| found.extend(errors));
        let Ok(groups) = groups else { return Err(found) };
        if !found.is_empty() {
            return Err(found);
        }
        let (path, groups) = (given.path(Path::new(&config.path)), Arc::new(groups));
        let open = move || Ok(Box::new(ParquetSource::open(&path, &groups)?) as Box<dyn Source>);
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded: true,
            replay: Replay::ByRange,
            notes: Vec::new(),
            probe: None,
            door: None,
            bell: None,
            tap: Tap::Opened,
        })
    }
}

/// A file to read.
#[derive(Debug, Clone)]
struct Entry {
    identity: Identity,
    standing: Standing,
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    path: PathBuf,
    size: u64,
    /// Digest of its end.
    end: u128,
    /// Digest of the manifest that lists it, since that decides which of its rows stand.
    manifest: Option<u128>,
}

/// An opened source.
struct ParquetSource {
    groups: Groups,
    entries: Vec<Entry>,
    /// The file that is read, and the next one.
    current: Option<(Partition, GroupRecords)>,
    next: usize,
    /// The file that row groups are read from again.
    again: Option<(Partition, GroupRecords)>,
}

impl ParquetSource {
    fn open(path: &Path, groups: &Groups) -> Result<Self, SourceError> {
        let entries = entries(path)?;
        if entries.len() >= Position::MAX_PARTITIONS as usize {
            return Err(SourceError::Limit(format!("'{}' has too many files", path.display())));
        }
        let groups = groups.resolved(resolution(groups, &entries)?);
        Ok(ParquetSource { groups, entries, current: None, next: 0, again: None })
    }

    fn records(
        &self,
        partition: Partition,
        from: Option<ReadUpTo>,
    ) -> Result<GroupRecords, SourceError> {
        let entry = self
            .entries
            .get(partition.0 as usize)
            .ok_or_else(|| SourceError::Io(format!("the source has no file {}", partition.0)))?;
        open_entry(&self.groups, entry, from)
    }
}

fn open_entry(
    groups: &Groups,
    entry: &Entry,
    from: Option<ReadUpTo>,
) -> Result<GroupRecords, SourceError> {
    let Identity { path, size, .. } = &entry.identity;
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    let name = path.display().to_string();
    let opened = Opened { name, parts: Vec::new(), size: *size, bytes: Shared::new(file) };
    groups.open_as(opened, from, entry.standing)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Io(format!("cannot read '{}': {error}", path.display()))
}

/// The files that `path` stands for, in the order in which they are read.
fn entries(path: &Path) -> Result<Vec<Entry>, SourceError> {
    if path.is_dir()
        && let Some(manifest) = Manifest::load(path).map_err(|e| failed(path, &e))?
    {
        return listed(path, manifest);
    }
    let paths = if path.is_file() { vec![path.to_owned()] } else { found(path)? };
    let alone = |path: PathBuf| {
        Ok(Entry { identity: Identity::of(path, None)?, standing: Standing::Alone })
    };
    let entries: Vec<Entry> = paths.into_iter().map(alone).collect::<Result<_, SourceError>>()?;
    if entries.is_empty() {
        return Err(SourceError::Io(format!("no Parquet file matches '{}'", path.display())));
    }
    Ok(entries)
}

fn found(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let pattern = match path.is_dir() {
        true => format!("{}/*.parquet", glob::Pattern::escape(&path.to_string_lossy())),
        false => path.to_string_lossy().into_owned(),
    };
    let mut found = Vec::new();
    for path in glob::glob(&pattern).map_err(|e| failed(path, &e))? {
        let path = path.map_err(|e| failed(Path::new(&pattern), &e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(['.', '_']) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The files that a manifest lists: rows and corrections in the order of their epochs.
fn listed(folder: &Path, mut manifest: Manifest) -> Result<Vec<Entry>, SourceError> {
    let text = manifest.text().map_err(|e| failed(folder, &e))?;
    let digest = Some(xxh3_128(&text));
    manifest.files.sort_by_key(|f| (f.generation, f.from, f.kind == FileKind::Corrections));
    let entry = |file: super::manifest::FileEntry| {
        let standing = match file.kind {
            FileKind::Rows => Standing::Rows(file.generation),
            FileKind::Corrections => Standing::Corrections(file.generation),
        };
        Ok(Entry { identity: Identity::of(folder.join(&file.name), digest)?, standing })
    };
    manifest.files.into_iter().map(entry).collect()
}

/// What corrections and later generations say; nothing where there are none.
fn resolution(groups: &Groups, entries: &[Entry]) -> Result<Resolution, SourceError> {
    let generation = |entry: &Entry| match entry.standing {
        Standing::Alone => 0,
        Standing::Rows(g) | Standing::Corrections(g) => g,
    };
    let first = entries.iter().map(generation).min().unwrap_or(0);
    let stands_for_others =
        |e: &&Entry| matches!(e.standing, Standing::Corrections(_)) || generation(e) > first;
    let mut resolution = Resolution::default();
    for entry in entries.iter().filter(stands_for_others) {
        let mut records = open_entry(groups, entry, None)?;
        while let Some(chunk) = records.next_chunk(Partition(0))? {
            let noted = groups.note(&chunk, &mut resolution);
            if !noted.map_err(|e| failed(&entry.identity.path, &e))? {
                return Err(SourceError::Limit(format!(
                    "'{}' is among files with more than {RESOLVED_ROWS_MAX} rows that stand for others; write the folder anew without corrections",
                    entry.identity.path.display()
                )));
            }
        }
    }
    Ok(resolution)
}

impl Identity {
    fn of(path: PathBuf, manifest: Option<u128>) -> Result<Self, SourceError> {
        let read = || -> io::Result<(u64, u128)> {
            let mut file = File::open(&path)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(END_BYTES)))?;
            let mut end = Vec::new();
            file.take(END_BYTES).read_to_end(&mut end)?;
            Ok((size, xxh3_128(&end)))
        };
        let (size, end) = read().map_err(|e| failed(&path, &e))?;
        Ok(Identity { path, size, end, manifest })
    }
}

impl Source for ParquetSource {
    fn replay(&self) -> Replay {
        Replay::ByRange
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        loop {
            if let Some((partition, records)) = &mut self.current
                && let Some(chunk) = records.next_chunk(*partition)?
            {
                return Ok(Poll::Ready(chunk));
            }
            self.current = None;
            if self.next >= self.entries.len() {
                return Ok(Poll::Ended);
            }
            let partition = numbered(self.next);
            let mut records = self.records(partition, None)?;
            let Some(chunk) = records.next_chunk(partition)? else {
                // Nobody hears of a file without rows, and there may be no gap in the numbers of those one hears of.
                self.entries.remove(self.next);
                continue;
            };
            self.current = Some((partition, records));
            self.next += 1;
            return Ok(Poll::Ready(chunk));
        }
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        if self.again.as_ref().is_none_or(|(of, _)| *of != partition) {
            self.again = Some((partition, self.records(partition, None)?));
        }
        let (_, records) = self.again.as_mut().expect("it was just opened");
        records.read(partition, range)
    }

    /// Files stay where they are, so there is nobody to tell.
    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        self.groups.decoder()
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        let entry = self.entries.get(partition.0 as usize)?;
        Some(entry.identity.path.display().to_string())
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        let entry = self.entries.get(partition.0 as usize);
        entry.and_then(|e| postcard::to_allocvec(&e.identity).ok()).unwrap_or_default()
    }

    /// The files that were known keep their numbers; what was found since comes behind them.
    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let mut found = std::mem::take(&mut self.entries);
        for one in known {
            let was: Identity = postcard::from_bytes(&one.identity).map_err(|_| {
                SourceError::Io(format!("what is known of '{}' cannot be read", one.name))
            })?;
            let changed = |how: &str| SourceError::Changed {
                what: was.path.display().to_string(),
                how: how.to_owned(),
            };
            let at = found.iter().position(|e| e.identity.path == was.path);
            let entry =
                found.remove(at.ok_or_else(|| changed("the source does not find it any more"))?);
            if entry.identity.manifest != was.manifest {
                return Err(changed("the manifest beside it lists other files than before"));
            }
            if entry.identity != was {
                return Err(changed("its end differs"));
            }
            self.entries.push(entry);
        }
        self.entries.append(&mut found);
        // Files become known before anything of them counts: those behind the last that was read from are still to be read.
        let read = known.iter().filter_map(|k| Some((k.partition, k.read?)));
        if let Some((last, read)) = read.max_by_key(|(partition, _)| *partition) {
            self.next = last.0 as usize + 1;
            self.current = Some((last, self.records(last, Some(read))?));
        }
        Ok(())
    }
}

fn numbered(index: usize) -> Partition {
    Partition(u32::try_from(index).expect("the number of files was checked"))
}
