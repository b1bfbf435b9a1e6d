//! Delimited text files: one file, a folder or a glob, plain or compressed.
//!
//! What a reader would get wrong:
//!
//! * A record that cannot be used is a dead letter with its file, line and bytes, and reading goes on. A file
//!   that lacks a declared field is an error, raised before the first record is read.
//! * A record has as many fields as the header or, without one, as most of the file's first records. Fewer are
//!   always a dead letter, more unless `extra_fields: ignore`.
//! * Empty lines and comments are passed over and are not records. A line may end in `\n` or `\r\n`, the last
//!   one in nothing; a byte order mark is dropped.
//! * With `follow` a line counts when its line break is there, and the source has no end.
//! * The file is read once, by one thread that only looks for the ends of records; the workers parse.

use std::sync::Arc;

use foreline_engine::{ConfigError, Extent, Replay, Resolver, Source};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{PlannedSource, Probe, SourceInputs, SourceKind, Tap};
use crate::record::default_null_words;

mod decoder;
mod files;
mod follow;
mod input;
mod layout;
mod lines;
mod merge;
mod plan;
mod probe;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use lines::JsonLines;
pub(crate) use plan::encoding;
pub(crate) use text::{Text, described, undescribed};

/// Reads delimited text files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    /// A file, a folder (every file in it whose name does not begin with `.` or `_`) or a glob such as
    /// `data/*.csv`, relative to the pipeline file.
    pub path: String,
    /// The columns that a file's name gives, such as `{machine}_{sensor}`; it is the name without folder and extensions. Default:
    /// none.
    #[serde(default)]
    pub names: Option<String>,
    /// In which order several files are read.
    #[serde(default)]
    pub order: FileOrder,
    /// Whether to read on as files grow, are rotated and appear: `true`, or a block of options. The source then has
    /// no end. Default `false`.
    #[serde(default)]
    pub follow: Follow,
    /// Whether the first record names the fields. Files may name them in different orders.
    #[serde(default = "yes")]
    pub header: bool,
    /// What stands between fields: one character, or `blank` for any run of spaces and tabs. Default `,`.
    #[serde(default = "comma")]
    pub delimiter: String,
    /// What a field may be wrapped in, one character or `none`. Inside, a doubled quote stands for one. Default `"`.
    #[serde(default = "double_quote")]
    pub quote: String,
    /// The decimal point of numbers, `.` or `,`. Default `.`.
    #[serde(default = "point")]
    pub decimal: String,
    /// The text encoding by name, such as `utf-8` (default), `cp949`, `windows-1252`, `utf-16le`.
    #[serde(default = "utf_8")]
    pub encoding: String,
    /// What the files are compressed with.
    #[serde(default)]
    pub compression: Compression,
    /// Fields that mean "no value". Default: the empty field, `NULL`, `null`, `NaN`, `nan` and `NA`. A lone `-` is
    /// not among them. NaN is null in a float64 column, whatever is listed.
    #[serde(default = "default_null_words")]
    pub null: Vec<String>,
    /// Lines that begin with this are passed over, such as `#`. Default: no line is a comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// Lines at the top of every file that are passed over, before the header. Default 0.
    #[serde(default)]
    pub skip_lines: u32,
    /// What becomes of a record with more fields than there should be.
    #[serde(default)]
    pub extra_fields: ExtraFields,
    /// Longest record in bytes; a longer one becomes a dead letter. Default 1048576.
    #[serde(default = "one_mebibyte")]
    pub max_row_bytes: usize,
}

impl CsvConfig {
    /// All that is not said is as usual.
    pub(crate) fn at(path: &str) -> Self {
        CsvConfig {
            path: path.to_owned(),
            names: None,
            order: FileOrder::Name,
            follow: Follow::default(),
            header: yes(),
            delimiter: comma(),
            quote: double_quote(),
            decimal: point(),
            encoding: utf_8(),
            compression: Compression::default(),
            null: default_null_words(),
            comment: None,
            skip_lines: 0,
            extra_fields: ExtraFields::default(),
            max_row_bytes: one_mebibyte(),
        }
    }
}

/// Whether files are read on as they grow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Follow {
    /// `true`: with the usual options.
    Whether(bool),
    /// With these options.
    With(FollowConfig),
}

impl Default for Follow {
    fn default() -> Self {
        Follow::Whether(false)
    }
}

impl Follow {
    /// The options, if files are followed.
    fn options(&self) -> Option<FollowConfig> {
        match self {
            Follow::Whether(false) => None,
            Follow::Whether(true) => Some(FollowConfig::default()),
            Follow::With(options) => Some(options.clone()),
        }
    }
}

/// How files are followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowConfig {
    /// How often to look for what is new. Default `1s`.
    #[serde(default = "one_second")]
    pub poll: Extent,
    /// A last line without its line break is taken for whole when its file has not changed for so long. Default: only
    /// when the file was rotated away.
    #[serde(default)]
    pub settle: Option<Extent>,
    /// What to do when a file was cut short in its place.
    #[serde(default)]
    pub truncated: Truncated,
}

impl Default for FollowConfig {
    fn default() -> Self {
        FollowConfig { poll: one_second(), settle: None, truncated: Truncated::default() }
    }
}

/// What to do when a file was cut short in its place, as `copytruncate` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// It is a new file from its beginning on. What was written between the last look and the cut is read from the
    /// copy where the path matches it too, and is lost otherwise; a warning says so.
    #[default]
    Begin,
    /// The pipeline stops.
    Error,
}

/// In which order several files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileOrder {
    /// One after the other, in the order of their paths.
    Name,
    /// One after the other, in the order of the first event time in each, or of the first arrival where `device_clock`
    /// names a column of arrivals; ties in the order of their paths.
    #[default]
    FirstTime,
    /// All at once: the record with the least event time (or arrival) comes next; ties in the order of paths and lines.
    /// The `line` of a dead letter is then its place in the merged order, and its `detail` names file and line.
    Merge,
}

/// What files are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As the extension (`.gz`, `.zst`) or the first bytes of each file say.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
    /// With Zstandard.
    Zstd,
}

/// What becomes of a record with more fields than there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtraFields {
    /// It becomes a dead letter.
    #[default]
    Error,
    /// It is used without them.
    Ignore,
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".to_owned()
}

fn double_quote() -> String {
    "\"".to_owned()
}

fn point() -> String {
    ".".to_owned()
}

fn utf_8() -> String {
    "utf-8".to_owned()
}

fn one_second() -> Extent {
    Extent::Nanos(1_000_000_000)
}

fn one_mebibyte() -> usize {
    1 << 20
}

/// The kind of source that reads delimited text files.
#[derive(Debug)]
pub struct Csv;

impl SourceKind for Csv {
    type Config = CsvConfig;
    const NAME: &'static str = "csv";
    const SUMMARY: &'static str = "reads delimited text files, plain or compressed";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let plan = Arc::new(plan::Plan::new(config, inputs, given)?);
        let mut notes = Vec::new();
        if config.order == FileOrder::Merge {
            notes.push("files are merged by time: reading one again from the middle reads all from the start".to_owned());
        }
        let bounded = plan.follow.is_none();
        let probed = Arc::clone(&plan);
        let open = move || {
            Ok(match &plan.follow {
                Some(rules) => {
                    Box::new(follow::FollowSource::open(&plan, *rules)) as Box<dyn Source>
                }
                None => Box::new(source::CsvSource::open(&plan)?),
            })
        };
        let probe: Probe = Arc::new(move || probe::probe(&probed));
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded,
            replay: Replay::ByRange,
            notes,
            probe: Some(probe),
            door: None,
            bell: None,
            tap: Tap::Opened,
        })
    }
}
