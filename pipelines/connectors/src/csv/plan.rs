//! A checked configuration: everything about a source that does not depend on its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef};
use encoding_rs::{Encoding, UTF_8};
use foreline_engine::{ConfigError, Resolver};

use super::column::Kind;
use super::split::{Delimiter, Dialect};
use super::stamp::Stamps;
use super::value;
use super::{Compression, CsvConfig, ExtraFields, FileOrder};
use crate::kind::{ColumnConfig, ColumnType, FieldRef, SourceInputs};

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
    /// This part of an object's key.
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
    /// Whether it is part of the key.
    pub(super) is_key: bool,
}

/// Words that mean "no value".
#[derive(Debug, Clone, Default)]
pub(super) struct NullWords {
    words: Vec<Vec<u8>>,
    /// Whether some word could be read as a value, such as `-999`, and has to be looked for first.
    pub(super) like_values: bool,
}

impl NullWords {
    fn new(words: &[String]) -> Self {
        let like_value = |w: &[u8]| w.iter().any(u8::is_ascii_digit) || value::truth(w).is_some();
        let like_values = words.iter().any(|w| like_value(w.as_bytes()));
        NullWords { words: words.iter().map(|w| w.clone().into_bytes()).collect(), like_values }
    }

    /// Whether `field` is one of them.
    pub(super) fn contain(&self, field: &[u8]) -> bool {
        self.words.iter().any(|word| word == field)
    }
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

/// A checked configuration.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) place: Place,
    pub(super) order: FileOrder,
    pub(super) header: bool,
    pub(super) skip_lines: u32,
    pub(super) extra_fields: ExtraFields,
    pub(super) compression: Compression,
    pub(super) encoding: &'static Encoding,
    pub(super) dialect: Dialect,
    pub(super) decimal: u8,
    pub(super) null: NullWords,
    pub(super) columns: Vec<PlannedColumn>,
    /// The event time, by column.
    pub(super) time: usize,
    pub(super) schema: SchemaRef,
}

/// Longest row that may be configured; a reader and every worker hold a few of them.
const ROW_BYTES_MAX: usize = 64 << 20;
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
        Self::with(config, place, inputs, &[], mistakes)
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
        let plan = Plan {
            place,
            order: config.order,
            header: config.header,
            skip_lines: config.skip_lines,
            extra_fields: config.extra_fields,
            compression: config.compression,
            encoding: mistakes.or(encoding(&config.encoding), UTF_8),
            dialect: dialect(config, &mut mistakes),
            decimal: mistakes.or(decimal(config), b'.'),
            null: NullWords::new(&config.null),
            columns: columns(config.header, inputs, keyed, &mut mistakes),
            time: inputs.schema.time(),
            schema: inputs.schema.arrow().clone(),
        };
        if mistakes.0.is_empty() { Ok(plan) } else { Err(mistakes.0) }
    }

    /// Whether the text that the decoder sees was made from another encoding.
    pub(super) fn is_transcoded(&self) -> bool {
        self.encoding != UTF_8
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

fn encoding(name: &str) -> Result<&'static Encoding, ConfigError> {
    let label = name.trim().to_ascii_lowercase();
    let alias = ENCODING_ALIASES.iter().find(|(alias, _)| *alias == label);
    let label = alias.map_or(label.as_str(), |(_, label)| label);
    Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
        ConfigError::new("encoding", format!("there is no encoding '{name}'"))
            .help("use a name such as utf-8, cp949, shift_jis, windows-1252 or utf-16le")
    })
}

fn dialect(config: &CsvConfig, mistakes: &mut Mistakes) -> Dialect {
    let delimiter = mistakes.or(delimiter(&config.delimiter), Delimiter::Byte(b','));
    let quote = mistakes.or(quote(&config.quote), None);
    if quote.is_some_and(|q| delimiter == Delimiter::Byte(q)) {
        mistakes.0.push(ConfigError::new("quote", "the quote is also the delimiter"));
    }
    let comment = config.comment.clone().map(String::into_bytes);
    if comment.as_ref().is_some_and(Vec::is_empty) {
        mistakes.0.push(
            ConfigError::new("comment", "every line begins with nothing")
                .help("leave `comment` out when there are no comments"),
        );
    }
    let row_bytes_max = config.max_row_bytes;
    if !(1..=ROW_BYTES_MAX).contains(&row_bytes_max) {
        let message = format!("{row_bytes_max} is not between 1 and {ROW_BYTES_MAX}");
        mistakes.0.push(ConfigError::new("max_row_bytes", message));
    }
    Dialect { delimiter, quote, comment, row_bytes_max }
}

fn delimiter(text: &str) -> Result<Delimiter, ConfigError> {
    match text.as_bytes() {
        b"blank" => Ok(Delimiter::Blank),
        b"tab" | b"\\t" => Ok(Delimiter::Byte(b'\t')),
        &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Delimiter::Byte(byte)),
        _ => Err(ConfigError::new("delimiter", format!("'{text}' is not a delimiter"))
            .help("use one ASCII character such as , ; | or the words tab and blank")),
    }
}

fn quote(text: &str) -> Result<Option<u8>, ConfigError> {
    match text.as_bytes() {
        b"none" => Ok(None),
        &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(byte)),
        _ => Err(ConfigError::new("quote", format!("'{text}' is not a quote"))
            .help("use one ASCII character such as \" or ', or the word none")),
    }
}

fn decimal(config: &CsvConfig) -> Result<u8, ConfigError> {
    match config.decimal.as_bytes() {
        b"." => Ok(b'.'),
        b"," if config.delimiter == "," && config.quote == "none" => {
            Err(ConfigError::new("decimal", "the decimal point is also the delimiter"))
        }
        b"," => Ok(b','),
        _ => {
            Err(ConfigError::new("decimal", format!("'{}' is not a decimal point", config.decimal))
                .help("use . or ,"))
        }
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
        let origin = match keyed.iter().position(|key| key == name) {
            Some(part) => Origin::Key(part),
            None => mistakes.or(origin(name, config, header, place), Origin::Placed(place)),
        };
        place += usize::from(!matches!(origin, Origin::Row | Origin::File | Origin::Key(_)));
        let data_type = &inputs.schema.columns()[index].data_type;
        let kind = kind(config, data_type).map_err(|(field, m)| ConfigError::new(at(field), m));
        let is_key = inputs.schema.key().contains(&index);
        found.push(PlannedColumn {
            name: name.clone(),
            origin,
            kind: mistakes.or(kind, Kind::Int),
            is_key,
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

fn kind(config: &ColumnConfig, data_type: &DataType) -> Result<Kind, (&'static str, String)> {
    let is_time = config.data_type == ColumnType::Timestamp;
    if config.format.is_some() && !is_time {
        return Err(("format", "only a timestamp has a format".to_owned()));
    }
    if config.zone.is_some() && !is_time {
        return Err(("zone", "only a timestamp has a time zone".to_owned()));
    }
    Ok(match config.data_type {
        ColumnType::String if matches!(data_type, DataType::Dictionary(..)) => Kind::Key,
        ColumnType::String => Kind::Text,
        ColumnType::Float64 => Kind::Float,
        ColumnType::Int64 => Kind::Int,
        ColumnType::Bool => Kind::Bool,
        ColumnType::Timestamp => {
            Kind::Time(Stamps::new(config.format.as_deref(), config.zone.as_deref())?)
        }
    })
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
