//! Parquet files in a folder or a bucket, one folder a stream, readable as they lie.
//!
//! What a reader would get wrong:
//!
//! * Rows appear whole commits at a time. A file gets its name only when all of it is on disk, and it counts
//!   only when the manifest lists it: `write → fsync → rename → fsync folder → manifest`. A file that a crash
//!   left between rename and manifest is removed when the sink is opened again. In a bucket an object is whole when it
//!   is there, and the manifest is replaced only while nobody else has replaced it: `put files → put manifest if its
//!   ETag is still that one`.
//! * Within a file rows are sorted by the key columns, then by time. Files overlap in both.
//! * A generation is one computation over the input from its start. The same generation goes on where it was;
//!   rows of an earlier one are kept, replaced or refused as `if_exists` says. Only files that the manifest
//!   lists are ever removed.
//! * Rows that correct earlier ones, or make them vanish, lie apart in the folder `_corrections` with the
//!   columns `_revision` and `_deleted`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use foreline_engine::{ConfigError, Extent, Resolver, Sink, SinkError, Tail, TimeDomain};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{PlannedSink, Probe, SinkInputs, SinkKind};
use crate::objects::{self, Connection, Objects};

mod bucket;
mod columns;
mod files;
mod folder;
mod groups;
mod lake;
mod manifest;
mod place;
mod resolve;
mod rows;
mod sink;
mod sorted;
mod source;
#[cfg(test)]
mod tests;
mod upkeep;

pub(crate) use groups::Groups;
pub use lake::{Lake, LakePart, Seen};
use sink::Upkeep;
pub use source::{ParquetFiles, ParquetSourceConfig};

/// Writes Parquet files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// The folder, relative to the pipeline file, or `s3://bucket/prefix`. The rows of a stream lie in its sub-folder of
    /// that name.
    pub path: PathBuf,
    /// How the store is reached, where the path is that of a bucket.
    #[serde(default)]
    pub s3: Option<Connection>,
    /// What becomes of rows that an earlier run over the same input left there.
    #[serde(default)]
    pub if_exists: IfExists,
    /// How pages are compressed.
    #[serde(default)]
    pub compression: Codec,
    /// How hard zstd tries, 1 (fast) to 22. Default 3.
    #[serde(default)]
    pub level: Option<i32>,
    /// Rows in a row group. Default 131072.
    #[serde(default = "row_group_rows")]
    pub row_group_rows: usize,
    /// A file is written when so many rows have come together, and at the end. They are held in memory until
    /// then. Default 524288.
    #[serde(default = "file_rows")]
    pub file_rows: usize,
    /// Whether small files that lie side by side become one of at most `file_rows`, behind a commit. Default: in a folder, yes, in a
    /// bucket, no, where others may follow the objects.
    #[serde(default)]
    pub compact: Option<bool>,
    /// How long rows are kept, in event time behind the newest row: a file goes when all its rows are older. Default: for ever.
    #[serde(default)]
    pub keep: Option<Extent>,
}

/// What becomes of rows that an earlier run over the same input left in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfExists {
    /// The run ends before it begins.
    #[default]
    Error,
    /// They are removed; files that Foreline did not write stay.
    Replace,
    /// They stay, and the new rows lie beside them.
    Append,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Zstandard.
    #[default]
    Zstd,
    /// Snappy, for readers that know nothing else.
    Snappy,
    /// Not at all.
    None,
}

fn row_group_rows() -> usize {
    1 << 17
}

fn file_rows() -> usize {
    1 << 19
}

/// Most rows of a file: row numbers are 32 bits while a file is sorted.
const FILE_ROWS_MAX: usize = 1 << 28;
/// The greatest zstd level.
const LEVEL_MAX: i32 = 22;

/// The kind of sink that writes Parquet files.
#[derive(Debug)]
pub struct Parquet;

impl SinkKind for Parquet {
    type Config = ParquetConfig;
    const NAME: &'static str = "parquet";
    const SUMMARY: &'static str = "writes Parquet files into a folder or a bucket";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        let mut mistakes = mistakes(config);
        let domain = inputs.schema.domain();
        let kept = keep(config, domain).map_err(|e| mistakes.push(e));
        let (Ok(keep), []) = (kept, &mistakes[..]) else { return Err(mistakes) };
        let config = config.clone();
        if let Some(place) = bucket(&config) {
            let upkeep = Upkeep { compact: config.compact.unwrap_or(false), keep };
            return in_bucket(config, upkeep, inputs.stream, &place, given);
        }
        let upkeep = Upkeep { compact: config.compact.unwrap_or(true), keep };
        let folder = given.path(&config.path).join(inputs.stream);
        let place = folder.display().to_string();
        let probed = given.path(&config.path);
        let stream = inputs.stream.to_owned();
        let tail = Arc::new(Tail::default());
        let lake = Lake::new(&folder, inputs.schema, Arc::clone(&tail));
        let make = move || {
            let folder = Box::new(folder::Folder::new(&folder));
            let sink = sink::ParquetSink::new(folder, &stream, config.clone());
            let sink = sink.with_upkeep(upkeep);
            Ok(Box::new(sink.watched(Arc::clone(&tail))) as Box<dyn Sink>)
        };
        let probe: Probe = Arc::new(move || probe(&probed));
        Ok(PlannedSink {
            make: Arc::new(make),
            place,
            transactional: true,
            sql: None,
            notes: Vec::new(),
            probe: Some(probe),
            lake: Some(lake),
        })
    }
}

/// Whether the folder can be written to. Where it does not exist yet, the nearest that does is asked.
fn probe(folder: &Path) -> Result<String, String> {
    let here = |path: &&Path| path.is_dir();
    let found = folder.ancestors().find(here).unwrap_or(Path::new("."));
    let failed = |e: std::io::Error| format!("cannot write to '{}': {e}", found.display());
    let name = found.join(format!("._foreline_probe_{}", std::process::id()));
    std::fs::write(&name, b"").map_err(failed)?;
    std::fs::remove_file(&name).map_err(failed)?;
    if found == folder {
        return Ok(format!("folder '{}' can be written to", folder.display()));
    }
    Ok(format!("folder '{}' can be made in '{}'", folder.display(), found.display()))
}

/// The bucket that the path names, if it names one.
fn bucket(config: &ParquetConfig) -> Option<Result<objects::Place, String>> {
    let path = config.path.to_str().filter(|path| path.starts_with("s3://"))?;
    Some(objects::Place::parse(path))
}

/// How far behind the newest row rows are kept, in the unit of the event time.
fn keep(config: &ParquetConfig, domain: TimeDomain) -> Result<Option<i64>, ConfigError> {
    let Some(keep) = config.keep else { return Ok(None) };
    let length = keep.in_domain(domain).map_err(|e| e.under("keep"))?;
    match length > 0 {
        true => Ok(Some(length)),
        false => Err(ConfigError::new("keep", "it must be longer than nothing")),
    }
}

fn in_bucket(
    config: ParquetConfig,
    upkeep: Upkeep,
    stream: &str,
    place: &Result<objects::Place, String>,
    given: &dyn Resolver,
) -> Result<PlannedSink, Vec<ConfigError>> {
    let above = place.as_ref().map_err(|e| vec![ConfigError::new("path", e)])?;
    let place = objects::Place { bucket: above.bucket.clone(), prefix: above.key(stream) };
    let mut connection = config.s3.clone().unwrap_or_default();
    connection.ca_file = connection.ca_file.map(|file| given.path(&file));
    let (stream, written) = (stream.to_owned(), place.to_string());
    let (probed, hurried) = (place.clone(), connection.hurried());
    let probe: Probe =
        Arc::new(move || bucket::Bucket::new(Objects::open(&probed, &hurried)?).probe());
    let make = move || {
        let objects = Objects::open(&place, &connection)
            .map_err(|e| SinkError::Fatal(format!("cannot use '{place}': {e}")))?;
        let bucket = Box::new(bucket::Bucket::new(objects));
        let sink = sink::ParquetSink::new(bucket, &stream, config.clone()).with_upkeep(upkeep);
        Ok(Box::new(sink) as Box<dyn Sink>)
    };
    Ok(PlannedSink {
        make: Arc::new(make),
        place: written,
        transactional: true,
        sql: None,
        notes: Vec::new(),
        probe: Some(probe),
        lake: None,
    })
}

/// Rows as the bytes of one Parquet file.
///
/// # Errors
/// When a column has a type that no file has.
pub fn parquet_bytes(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    Ok(writer.into_inner()?)
}

/// A sink that writes `stream` below `folder` and replaces what an earlier one has written there.
#[must_use]
pub fn folder_sink(folder: &Path, stream: &str) -> Box<dyn Sink> {
    let config = ParquetConfig {
        path: folder.to_owned(),
        s3: None,
        if_exists: IfExists::Replace,
        compression: Codec::default(),
        level: None,
        row_group_rows: row_group_rows(),
        file_rows: file_rows(),
        compact: None,
        keep: None,
    };
    let folder = Box::new(folder::Folder::new(&folder.join(stream)));
    Box::new(sink::ParquetSink::new(folder, stream, config))
}

fn mistakes(config: &ParquetConfig) -> Vec<ConfigError> {
    let mut found = Vec::new();
    if config.path.as_os_str().is_empty() {
        found.push(ConfigError::new("path", "the path is empty"));
    }
    match (bucket(config), &config.s3) {
        (Some(Err(message)), _) => found.push(ConfigError::new("path", message)),
        (None, Some(_)) => found.push(
            ConfigError::new("s3", "the path is a folder of this machine")
                .help("write path: s3://bucket/prefix, or remove `s3`"),
        ),
        _ => {}
    }
    let connection = config.s3.iter().flat_map(objects::mistakes);
    found.extend(connection.map(|e| e.under("s3")));
    for (name, rows) in [("row_group_rows", config.row_group_rows), ("file_rows", config.file_rows)]
    {
        if !(1..=FILE_ROWS_MAX).contains(&rows) {
            found.push(ConfigError::new(
                name,
                format!("{rows} is not between 1 and {FILE_ROWS_MAX}"),
            ));
        }
    }
    match (config.level, config.compression) {
        (Some(_), Codec::Snappy | Codec::None) => {
            found.push(ConfigError::new("level", "only zstd has a level"));
        }
        (Some(level), Codec::Zstd) if !(1..=LEVEL_MAX).contains(&level) => {
            found.push(ConfigError::new(
                "level",
                format!("{level} is not between 1 and {LEVEL_MAX}"),
            ));
        }
        _ => {}
    }
    found
}
