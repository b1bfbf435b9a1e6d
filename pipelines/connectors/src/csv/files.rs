//! The files of a source: which there are, in which order, and where each has its fields.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{Position, SourceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FileOrder;
use super::plan::{Origin, Plan, most_frequent};
use super::reader::Reader;
use crate::record::{Fields, Kind, value};

/// Records looked at when a file is first opened: for its first event time and its number of fields.
const PROBE_RECORDS: usize = 100;
/// A file is known again by so many bytes at its start.
const HEAD_BYTES: u64 = 4096;
/// A suggestion is made for names that are at least so similar, 0 to 1.
const SIMILARITY_MIN: f64 = 0.75;

/// Where a column's value stands in the records of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// In the field at this place, from 0.
    Field(usize),
    /// In the record's line.
    Row,
    /// In the file's name.
    File,
}

/// A file that was opened once and looked at.
#[derive(Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    /// Its name without folder and extensions.
    pub(super) stem: String,
    /// One a declared column.
    pub(super) cells: Vec<Cell>,
    /// How many fields a record has.
    pub(super) n_fields: usize,
    /// The first line that can hold a record.
    pub(super) first_line: u64,
    /// The header as it stands in the file.
    pub(super) header: Option<Vec<u8>>,
    pub(super) first_time: Option<i64>,
    identity: Identity,
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Where it was found.
    pub(super) path: PathBuf,
    n_bytes: u64,
    /// SHA-256 of its first bytes, [`HEAD_BYTES`] or as many as there were.
    head: [u8; 32],
}

/// All files of a source, in the order in which they are read.
pub(super) fn list(plan: &Arc<Plan>) -> Result<Vec<TextFile>, SourceError> {
    let paths = paths(plan)?;
    if paths.is_empty() {
        return Err(SourceError::Io(format!("no file matches '{}'", plan.place.written)));
    }
    if paths.len() >= Position::MAX_PARTITIONS as usize {
        return Err(SourceError::Limit(format!("'{}' matches too many files", plan.place.written)));
    }
    let mut files =
        paths.iter().map(|path| TextFile::look_at(plan, path)).collect::<Result<Vec<_>, _>>()?;
    if plan.order == FileOrder::FirstTime {
        files.sort_by_key(|f| (f.first_time.is_none(), f.first_time));
    }
    Ok(files)
}

/// The files that match, in the order of their paths.
pub(super) fn paths(plan: &Plan) -> Result<Vec<PathBuf>, SourceError> {
    let place = &plan.place;
    if place.literal.is_file() {
        return Ok(vec![place.literal.clone()]);
    }
    let mut paths = if place.literal.is_dir() { folder(&place.literal)? } else { matches(plan)? };
    paths.sort();
    Ok(paths)
}

/// The files in a folder, hidden ones left out.
pub(super) fn folder(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |e: std::io::Error| {
        SourceError::Io(format!("cannot list folder '{}': {e}", path.display()))
    };
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
        if !hidden && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn matches(plan: &Plan) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |e: &dyn std::fmt::Display| {
        SourceError::Io(format!("cannot search '{}': {e}", plan.place.written))
    };
    let mut found = Vec::new();
    for path in glob::glob(&plan.place.pattern).map_err(|e| failed(&e))? {
        let path = path.map_err(|e| failed(&e))?;
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

impl TextFile {
    pub(super) fn look_at(plan: &Arc<Plan>, path: &Path) -> Result<Self, SourceError> {
        let mut file = TextFile {
            path: path.to_owned(),
            stem: stem(path),
            cells: vec![Cell::Field(0); plan.columns.len()],
            n_fields: 0,
            first_line: 1,
            header: None,
            first_time: None,
            identity: Identity::of(path)?,
        };
        let mut reader = Reader::open(plan, path, 0, 1)?;
        reader.skip_lines()?;
        if plan.header {
            let Some(header) = reader.next_record()? else { return Ok(file) };
            file.header = Some(header.text.to_vec());
            file.read_header(plan, header.text)?;
        }
        file.first_line = reader.line();
        file.probe(plan, &mut reader)?;
        Ok(file)
    }

    /// A reader that stands at the first record.
    pub(super) fn open(&self, plan: &Arc<Plan>) -> Result<Reader, SourceError> {
        let mut reader = Reader::open(plan, &self.path, 0, 1)?;
        reader.skip_lines()?;
        if self.header.is_some() {
            reader.next_record()?;
        }
        Ok(reader)
    }

    /// Calls the file as it was called when it lay at `path`.
    pub(super) fn rename(&mut self, path: &Path) {
        self.stem = stem(path);
    }

    /// What the file is known by.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Checks that the file still is the one that was looked at; it may have grown.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.identity.check()
    }

    /// The error that says the file is not what it was.
    pub(super) fn changed(&self, how: impl Into<String>) -> SourceError {
        SourceError::Changed { what: self.path.display().to_string(), how: how.into() }
    }

    fn read_header(&mut self, plan: &Plan, header: &[u8]) -> Result<(), SourceError> {
        let mut fields = Fields::default();
        fields.split(&plan.dialect, header).map_err(|bad| {
            SourceError::Io(format!(
                "the header of '{}' cannot be read: {}",
                self.path.display(),
                bad.0
            ))
        })?;
        let text = |i| String::from_utf8_lossy(value::trim(fields.get(header, i))).into_owned();
        let names: Vec<String> = (0..fields.len()).map(text).collect();
        self.n_fields = names.len();
        for (column, cell) in plan.columns.iter().zip(&mut self.cells) {
            *cell = match &column.origin {
                Origin::Named(name) => Cell::Field(find(&names, name).map_err(|problem| {
                    SourceError::Io(format!("file '{}' {problem}", self.path.display()))
                })?),
                Origin::Placed(place) => Cell::Field(*place),
                Origin::Row => Cell::Row,
                Origin::File => Cell::File,
            };
        }
        self.check_places(plan)
    }

    /// Reads the first records for their number of fields and the first event time.
    fn probe(&mut self, plan: &Plan, reader: &mut Reader) -> Result<(), SourceError> {
        if !plan.header {
            for (column, cell) in plan.columns.iter().zip(&mut self.cells) {
                *cell = match column.origin {
                    Origin::Placed(place) => Cell::Field(place),
                    Origin::Named(_) | Origin::Row => Cell::Row,
                    Origin::File => Cell::File,
                };
            }
        }
        let mut widths = Vec::new();
        let mut clock = TimeReader::new(plan);
        while widths.len() < PROBE_RECORDS
            && let Some(record) = reader.next_record()?
        {
            let time = clock.time(plan, self, record.line, record.text);
            widths.push(clock.fields.len());
            self.first_time = self.first_time.or(time);
        }
        if !plan.header && !widths.is_empty() {
            self.n_fields = most_frequent(widths);
            self.check_places(plan)?;
        }
        Ok(())
    }

    fn check_places(&self, plan: &Plan) -> Result<(), SourceError> {
        for (column, cell) in plan.columns.iter().zip(&self.cells) {
            if let Cell::Field(place) = cell
                && *place >= self.n_fields
            {
                return Err(SourceError::Io(format!(
                    "file '{}' has {} fields, but column '{}' is read from field {}",
                    self.path.display(),
                    self.n_fields,
                    column.name,
                    place + 1,
                )));
            }
        }
        Ok(())
    }
}

/// The place of `name` among the fields of a header, or what is wrong.
fn find(names: &[String], name: &str) -> Result<usize, String> {
    let mut found = names.iter().enumerate().filter(|(_, n)| *n == name).map(|(i, _)| i);
    match (found.next(), found.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => {
            Err(format!("has the field '{name}' twice; declare it by its place, as in `field: 3`"))
        }
        (None, _) => {
            let closest = names
                .iter()
                .map(|n| (strsim::jaro_winkler(&n.to_lowercase(), &name.to_lowercase()), n))
                .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = closest.map(|(_, n)| format!(" (did you mean '{n}'?)")).unwrap_or_default();
            Err(format!("has no field '{name}'{hint}; its header has {}", shown(names)))
        }
    }
}

/// Names as they may go to a terminal: what is in a file is not to be trusted.
fn shown(names: &[String]) -> String {
    const NAMES_MAX: usize = 20;
    const LENGTH_MAX: usize = 40;
    let one = |name: &String| {
        let short: String = name.chars().take(LENGTH_MAX).flat_map(char::escape_debug).collect();
        format!("'{short}'")
    };
    let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
    let listed: Vec<String> = names.iter().take(NAMES_MAX).map(one).collect();
    format!("{}{more}", listed.join(", "))
}

fn stem(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let stem = ["gz", "gzip", "zst", "zstd"]
        .iter()
        .find_map(|e| name.strip_suffix(e)?.strip_suffix('.'))
        .unwrap_or(&name);
    stem.rsplit_once('.').map_or(stem, |(stem, _)| stem).to_owned()
}

impl Identity {
    fn of(path: &Path) -> Result<Self, SourceError> {
        Self::with_head(path, HEAD_BYTES)
    }

    /// What `path` is known by, as far as its first `n_head` bytes tell.
    fn with_head(path: &Path, n_head: u64) -> Result<Self, SourceError> {
        let read = || {
            let file = File::open(path)?;
            let n_bytes = file.metadata()?.len();
            let mut head = Vec::new();
            file.take(n_head).read_to_end(&mut head)?;
            Ok(Identity { path: path.to_owned(), n_bytes, head: Sha256::digest(&head).into() })
        };
        read().map_err(|e: std::io::Error| {
            SourceError::Io(format!("cannot read '{}': {e}", path.display()))
        })
    }

    /// Checks that the file is what it was; it may have grown.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let found = Self::with_head(&self.path, self.n_bytes.min(HEAD_BYTES))?;
        let how = if found.n_bytes < self.n_bytes {
            format!("it had {} bytes and has {}", self.n_bytes, found.n_bytes)
        } else if found.head != self.head {
            "its beginning differs".to_owned()
        } else {
            return Ok(());
        };
        Err(SourceError::Changed { what: self.path.display().to_string(), how })
    }
}

/// Reads the event time of single records, for putting files and records in order.
#[derive(Debug)]
pub(super) struct TimeReader {
    kind: Kind,
    fields: Fields,
}

impl TimeReader {
    pub(super) fn new(plan: &Plan) -> Self {
        TimeReader { kind: plan.columns[plan.time].kind.clone(), fields: Fields::default() }
    }

    /// The event time of a record of `file`, if it has one.
    pub(super) fn time(
        &mut self,
        plan: &Plan,
        file: &TextFile,
        line: u64,
        record: &[u8],
    ) -> Option<i64> {
        self.fields.split(&plan.dialect, record).ok()?;
        let field = match file.cells[plan.time] {
            Cell::Row => return i64::try_from(line - file.first_line).ok(),
            Cell::Field(place) if place < self.fields.len() => self.fields.get(record, place),
            _ => return None,
        };
        match &mut self.kind {
            Kind::Time(stamps) => stamps.read(field).ok(),
            _ => value::int(field, plan.writing.decimal),
        }
    }
}
