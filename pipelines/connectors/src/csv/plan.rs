//! A checked configuration: everything about a source that does not depend on its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use encoding_rs::{Encoding, UTF_8};
use foreline_engine::{ConfigError, Extent, Resolver, SourceError};

use super::layout::stem;
use super::{Compression, CsvConfig, ExtraFields, FileOrder, Truncated};
use crate::kind::{ColumnConfig, ColumnType, FieldRef, SourceInputs};
use crate::parts::Parts;
use crate::record::{AsWritten, Dialect, Kind, Need, NullWords, Writing};

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The field with this name in the header.
    Named(String),
    /// The field at this place, from 0.
    Placed(usize),
    /// The record's line in its file less the first line that can hold a record.
    Row,
    /// The file's name without folder and extensions.
    File,
    /// This part of an object's key, or of a file's name.
    Key(usize),
}

/// A declared column.
#[derive(Debug, Clone)]
pub(super) struct PlannedColumn {
    /// Its name.
    pub(super) name: String,
    /// Where its values come from.
    pub(super) origin: Origin,
    /// What its values are.
    pub(super) kind: Kind,
    /// What it is needed for.
    pub(super) need: Need,
}

/// What the files are found by.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The path as the user wrote it.
    pub(super) written: String,
    /// The path as it stands.
    pub(super) literal: PathBuf,
    /// The path as a glob; what stands before the user's part is not special.
    pub(super) pattern: String,
}

/// How files are followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FollowRules {
    /// The time between two looks.
    pub(super) poll: Duration,
    /// After so long without a change a last line is whole.
    pub(super) settle: Option<Duration>,
    /// What to do when a file was cut short.
    pub(super) truncated: Truncated,
}

/// A checked configuration.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) place: Place,
    /// The columns that the name of a file gives.
    pub(super) names: Option<Parts>,
    pub(super) order: FileOrder,
    /// How the files are followed, if they are.
    pub(super) follow: Option<FollowRules>,
    pub(super) header: bool,
    pub(super) skip_lines: u32,
    pub(super) extra_fields: ExtraFields,
    pub(super) compression: Compression,
    pub(super) encoding: &'static Encoding,
    pub(super) dialect: Dialect,
    pub(super) writing: Writing,
    pub(super) columns: Vec<PlannedColumn>,
    /// The event time, by column.
    pub(super) time: usize,
    pub(super) schema: SchemaRef,
}

/// Names of encodings that people type and the web's standard does not list.
const ENCODING_ALIASES: &[(&str, &str)] = &[
    ("cp949", "windows-949"),
    ("ms949", "windows-949"),
    ("uhc", "windows-949"),
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp950", "big5"),
    ("utf8", "utf-8"),
    ("utf_8", "utf-8"),
];

/// Collects mistakes, so that all are reported at once.
struct Mistakes(Vec<ConfigError>);

impl Mistakes {
    /// The value, or `instead` of one that is wrong.
    fn or<T>(&mut self, result: Result<T, ConfigError>, instead: T) -> T {
        result.unwrap_or_else(|e| {
            self.0.push(e);
            instead
        })
    }
}

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn new(
        config: &CsvConfig,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes = Mistakes(Vec::new());
        let place = place(&config.path, given, &mut mistakes);
        let what = ("file's name", "{machine}_{sensor}");
        let names = config.names.as_deref();
        let names = names.map(|names| Parts::new("names", names, what, inputs)).transpose();
        let names = names.unwrap_or_else(|wrong| {
            mistakes.0.extend(wrong);
            None
        });
        let keyed = names.as_ref().map(|names| names.columns.clone()).unwrap_or_default();
        let plan = Self::with(config, place, inputs, &keyed, mistakes)?;
        Ok(Plan { names, ..plan })
    }

    /// The values of the columns that the name of a file gives.
    ///
    /// # Errors
    /// When the name is another.
    pub(super) fn parts(&self, path: &Path) -> Result<Vec<String>, SourceError> {
        let Some(names) = &self.names else { return Ok(Vec::new()) };
        match names.of(&stem(path)) {
            Some((parts, "")) => Ok(parts.into_iter().map(str::to_owned).collect()),
            _ => {
                let (path, names) = (path.display(), &names.written);
                Err(SourceError::Io(format!("'{path}' is not called as `names: {names}` says")))
            }
        }
    }

    /// As [`Plan::new`] for text that lies in objects; the columns in `keyed` come from their keys.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn of_objects(
        config: &CsvConfig,
        inputs: &SourceInputs<'_>,
        keyed: &[String],
    ) -> Result<Self, Vec<ConfigError>> {
        let written = config.path.clone();
        let place = Place { literal: PathBuf::from(&written), pattern: String::new(), written };
        Self::with(config, place, inputs, keyed, Mistakes(Vec::new()))
    }

    fn with(
        config: &CsvConfig,
        place: Place,
        inputs: &SourceInputs<'_>,
        keyed: &[String],
        mut mistakes: Mistakes,
    ) -> Result<Self, Vec<ConfigError>> {
        let (dialect, decimal) = as_written(config).dialect(&mut mistakes.0);
        let encoding = mistakes.or(encoding(&config.encoding), UTF_8);
        let null = NullWords::new(&config.null);
        let plan = Plan {
            place,
            names: None,
            order: config.order,
            follow: follow(config, &mut mistakes),
            header: config.header,
            skip_lines: config.skip_lines,
            extra_fields: config.extra_fields,
            compression: config.compression,
            encoding,
            dialect,
            writing: Writing { decimal, null, is_transcoded: encoding != UTF_8 },
            columns: columns(config.header, inputs, keyed, &mut mistakes),
            time: inputs.schema.time(),
            schema: inputs.schema.arrow().clone(),
        };
        if mistakes.0.is_empty() { Ok(plan) } else { Err(mistakes.0) }
    }
}

fn place(written: &str, given: &dyn Resolver, mistakes: &mut Mistakes) -> Place {
    let path = Path::new(written);
    let literal = given.path(path);
    let pattern = if path.is_absolute() {
        written.to_owned()
    } else {
        let folder = given.path(Path::new(""));
        let folder = glob::Pattern::escape(&folder.to_string_lossy());
        if folder.is_empty() {
            written.to_owned()
        } else {
            format!("{}/{written}", folder.trim_end_matches('/'))
        }
    };
    if written.is_empty() {
        mistakes.0.push(ConfigError::new("path", "the path is empty"));
    }
    if let Err(e) = glob::Pattern::new(&pattern) {
        let message = format!("'{written}' is not a path or a glob: {}", e.msg);
        mistakes.0.push(ConfigError::new("path", message.to_lowercase()));
    }
    Place { written: written.to_owned(), literal, pattern }
}

fn follow(config: &CsvConfig, mistakes: &mut Mistakes) -> Option<FollowRules> {
    let options = config.follow.options()?;
    if config.order == FileOrder::Merge {
        mistakes.0.push(
            ConfigError::new(
                "order",
                "files that are followed cannot be merged: what the others will bring is not known",
            )
            .help("use `order: first_time`; `lateness` puts rows of several files in order"),
        );
    }
    if encoding(&config.encoding).is_ok_and(|e| e != UTF_8) {
        let message = format!("files in '{}' cannot be followed", config.encoding);
        let help = "only UTF-8 text can be entered where it was left; have the files written so";
        mistakes.0.push(ConfigError::new("encoding", message).help(help));
    }
    let poll = mistakes.or(length("follow.poll", options.poll), Duration::ZERO);
    let settle = options.settle.map(|s| mistakes.or(length("follow.settle", s), Duration::ZERO));
    Some(FollowRules { poll, settle, truncated: options.truncated })
}

/// A length of the clock's time above zero.
fn length(at: &str, extent: Extent) -> Result<Duration, ConfigError> {
    match extent {
        Extent::Nanos(n @ 1..) => Ok(Duration::from_nanos(n.unsigned_abs())),
        other => {
            Err(ConfigError::new(at, format!("'{other}' is not a length of the clock's time"))
                .help("give a duration above zero, such as 1s"))
        }
    }
}

/// The encoding called `name`.
pub(crate) fn encoding(name: &str) -> Result<&'static Encoding, ConfigError> {
    let label = name.trim().to_ascii_lowercase();
    let alias = ENCODING_ALIASES.iter().find(|(alias, _)| *alias == label);
    let label = alias.map_or(label.as_str(), |(_, label)| label);
    Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
        ConfigError::new("encoding", format!("there is no encoding '{name}'"))
            .help("use a name such as utf-8, cp949, shift_jis, windows-1252 or utf-16le")
    })
}

fn as_written(config: &CsvConfig) -> AsWritten<'_> {
    AsWritten {
        delimiter: &config.delimiter,
        quote: &config.quote,
        decimal: &config.decimal,
        comment: config.comment.as_deref(),
        max_row_bytes: config.max_row_bytes,
    }
}

fn columns(
    header: bool,
    inputs: &SourceInputs<'_>,
    keyed: &[String],
    mistakes: &mut Mistakes,
) -> Vec<PlannedColumn> {
    let mut place = 0;
    let mut found = Vec::new();
    for (index, (name, config)) in inputs.columns.iter().enumerate() {
        let at = |field: &str| format!("columns.{name}.{field}");
        let data_type = &inputs.schema.columns()[index].data_type;
        let kind = match keyed.contains(name) {
            true => Kind::of_envelope(config, data_type),
            false => Kind::new(config, data_type),
        };
        let origin = match keyed.iter().position(|key| key == name) {
            Some(part) => Origin::Key(part),
            None => mistakes.or(origin(name, config, header, place), Origin::Placed(place)),
        };
        place += usize::from(!matches!(origin, Origin::Row | Origin::File | Origin::Key(_)));
        let kind = kind.map_err(|(f, m)| ConfigError::new(at(f), m));
        found.push(PlannedColumn {
            name: name.clone(),
            origin,
            kind: mistakes.or(kind, Kind::Int),
            need: Need::of(inputs.schema, index),
        });
    }
    found
}

fn origin(
    name: &str,
    config: &ColumnConfig,
    header: bool,
    place: usize,
) -> Result<Origin, ConfigError> {
    let error = |message: String| Err(ConfigError::new(format!("columns.{name}.field"), message));
    match &config.field {
        Some(FieldRef::Place(0)) => error("fields are counted from 1".to_owned()),
        Some(FieldRef::Place(n)) => Ok(Origin::Placed(*n as usize - 1)),
        Some(FieldRef::Name(field)) if field == "#row" => match config.data_type {
            ColumnType::Int64 => Ok(Origin::Row),
            _ => error("'#row' is a count: give the column the type int64".to_owned()),
        },
        Some(FieldRef::Name(field)) if field == "#file" => match config.data_type {
            ColumnType::String => Ok(Origin::File),
            _ => error("'#file' is a text: give the column the type string".to_owned()),
        },
        Some(FieldRef::Name(field)) if !header => {
            error(format!("there is no header to find '{field}' in; give the field's place from 1"))
        }
        Some(FieldRef::Name(field)) => Ok(Origin::Named(field.clone())),
        None if header => Ok(Origin::Named(name.to_owned())),
        None => Ok(Origin::Placed(place)),
    }
}

/// The most frequent of some numbers; the least of several such.
pub(super) fn most_frequent(numbers: impl IntoIterator<Item = usize>) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for number in numbers {
        *counts.entry(number).or_default() += 1;
    }
    let best = counts.into_iter().max_by_key(|&(number, count)| (count, std::cmp::Reverse(number)));
    best.map_or(0, |(number, _)| number)
}
