//! A relation in a file that people edit.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use encoding_rs::Encoding;
use foreline_engine::{ConfigError, Extent, Replay, Resolver, Source};
use schemars::JsonSchema;
use serde::Deserialize;

use super::table::{Found, Look, Tables};
use crate::csv::encoding;
use crate::format::{CsvOptions, Format};
use crate::http::{Body, Examiner};
use crate::kind::{PlannedSource, SourceInputs, SourceKind, Tap};
use crate::record::default_null_words;

/// Reads a relation from a delimited text file with a header, and again whenever it changes. The file is the whole relation: a
/// row that is no longer in it is no longer there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvTable {
    /// The file, relative to the pipeline file.
    pub path: String,
    /// How often it is looked at. A change is taken once the file has been the same at two looks. Default `1s`.
    #[serde(default = "second")]
    pub every: Extent,
    /// What stands between fields: one character, or `blank` for any run of spaces and tabs. Default `,`.
    #[serde(default = "comma")]
    pub delimiter: String,
    /// What a field may be wrapped in, one character or `none`. Default `"`.
    #[serde(default = "double_quote")]
    pub quote: String,
    /// The decimal point of numbers, `.` or `,`. Default `.`.
    #[serde(default = "point")]
    pub decimal: String,
    /// The text encoding by name, such as `utf-8` (default), `cp949`, `windows-1252`.
    #[serde(default = "utf_8")]
    pub encoding: String,
    /// Fields that mean "no value". Default: the empty field, `NULL`, `null`, `NaN`, `nan` and `NA`.
    #[serde(default = "default_null_words")]
    pub null: Vec<String>,
    /// Lines that begin with this are passed over, such as `#`. Default: no line is a comment.
    #[serde(default)]
    pub comment: Option<String>,
}

fn second() -> Extent {
    Extent::Nanos(1_000_000_000)
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

/// The kind of relation that is read from a file.
#[derive(Debug)]
pub struct Csv;

impl SourceKind for Csv {
    type Config = CsvTable;
    const NAME: &'static str = "csv";
    const SUMMARY: &'static str = "reads a relation from a file, and again whenever it changes";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let mut mistakes = Vec::new();
        if config.path.is_empty() {
            mistakes.push(ConfigError::new("path", "the path is empty"));
        }
        let encoding = encoding(&config.encoding).map_err(|e| mistakes.push(e)).ok();
        let every = interval(config.every).map_err(|e| mistakes.push(e)).ok();
        let options = CsvOptions {
            header: true,
            delimiter: config.delimiter.clone(),
            quote: config.quote.clone(),
            decimal: config.decimal.clone(),
            null: config.null.clone(),
            comment: config.comment.clone(),
            ..CsvOptions::default()
        };
        let examiner = Examiner::of(vec![(Body::Csv, Format::Csv(options))], inputs);
        let examiner = examiner.map_err(|errors| mistakes.extend(errors)).ok();
        let (Some(encoding), Some(every), Some(examiner), true) =
            (encoding, every, examiner, mistakes.is_empty())
        else {
            return Err(mistakes);
        };
        let path = given.path(config.path.as_ref());
        let name = config.path.clone();
        let open = move || {
            let look = File {
                path: path.clone(),
                name: name.clone(),
                encoding,
                every,
                looked: None,
                seen: None,
                coming: None,
                missing: false,
            };
            let tables = Tables::new(Box::new(look), examiner.clone(), Body::Csv);
            Ok(Box::new(tables) as Box<dyn Source>)
        };
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded: false,
            replay: Replay::ByPayload,
            notes: Vec::new(),
            probe: None,
            door: None,
            bell: None,
            tap: Tap::Refused("a relation is not a stream; look at its table"),
        })
    }
}

/// The time between two looks.
pub(super) fn interval(every: Extent) -> Result<Duration, ConfigError> {
    match every {
        Extent::Nanos(n) if n > 0 => Ok(Duration::from_nanos(n.unsigned_abs())),
        other => {
            let message = format!("'{other}' is no time to wait");
            Err(ConfigError::new("every", message).help("give a duration above zero, such as 5s"))
        }
    }
}

/// What tells a file from what it was before, short of reading it.
type Stamp = (Option<SystemTime>, u64);

/// A file that is looked at now and then.
#[derive(Debug)]
struct File {
    path: PathBuf,
    name: String,
    encoding: &'static Encoding,
    every: Duration,
    looked: Option<Instant>,
    /// The file that was read.
    seen: Option<Stamp>,
    /// A change that may not be complete.
    coming: Option<Stamp>,
    missing: bool,
}

/// The stamp of no file.
const NO_FILE: Stamp = (None, u64::MAX);

impl Look for File {
    fn goes_on(&mut self) {
        self.seen = Some(NO_FILE);
    }

    fn look(&mut self) -> Result<Option<Found>, String> {
        let now = now();
        if self.looked.is_some_and(|looked| now.duration_since(looked) < self.every) {
            return Ok(None);
        }
        self.looked = Some(now);
        let stamp = match fs::metadata(&self.path) {
            Ok(file) => (file.modified().ok(), file.len()),
            // Said once; the file may be on its way to another place.
            Err(_) if std::mem::replace(&mut self.missing, true) => return Ok(None),
            Err(e) => return Err(format!("cannot read '{}': {e}", self.path.display())),
        };
        self.missing = false;
        let is_new = self.seen.is_some_and(|seen| seen != stamp);
        if is_new && self.coming.replace(stamp) != Some(stamp) {
            return Ok(None);
        }
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        let bytes = fs::read(&self.path)
            .map_err(|e| format!("cannot read '{}': {e}", self.path.display()))?;
        self.seen = Some(stamp);
        let (text, _, broken) = self.encoding.decode(&bytes);
        if broken {
            let (name, encoding) = (&self.name, self.encoding.name());
            return Err(format!("'{name}' is not all text in {encoding}"));
        }
        Ok(Some(Found { name: self.name.clone(), text: text.into_owned().into_bytes() }))
    }
}

#[expect(clippy::disallowed_methods, reason = "when a file is looked at is no part of a result")]
fn now() -> Instant {
    Instant::now()
}
