//! Where a file or an object has its fields: what its header and its first records say.

use std::path::Path;

use foreline_engine::SourceError;
use serde::{Deserialize, Serialize};

use super::plan::{Origin, Plan, most_frequent};
use super::reader::Reader;
use crate::record::{Fields, Kind, value};

/// Records looked at when a file is first opened: for its first event time and its number of fields.
const PROBE_RECORDS: usize = 100;
/// A suggestion is made for names that are at least so similar, 0 to 1.
const SIMILARITY_MIN: f64 = 0.75;

/// Where a column's value stands in the records of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cell {
    /// In the field at this place, from 0.
    Field(usize),
    /// In the record's line.
    Row,
    /// In the file's name.
    File,
    /// In this part of an object's key, or of the file's name.
    Key(usize),
}

/// What decoding the records of one file needs to know beside the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// What a person calls the file.
    pub(super) name: String,
    /// Its name without folder and extensions.
    pub(super) stem: String,
    /// The parts of an object's key, or of the file's name, that are columns.
    pub(super) parts: Vec<String>,
    /// One a declared column.
    pub(super) cells: Vec<Cell>,
    /// How many fields a record has.
    pub(super) n_fields: usize,
    /// The first line that can hold a record.
    pub(super) first_line: u64,
    /// The header as it stands in the file.
    pub(super) header: Option<Vec<u8>>,
}

impl Layout {
    /// Looks at the beginning of a file: its layout, and the first event time in it. The reader stands somewhere
    /// behind its first records then.
    pub(super) fn find(
        plan: &Plan,
        path: &Path,
        parts: Vec<String>,
        reader: &mut Reader,
    ) -> Result<(Self, Option<i64>), SourceError> {
        let mut layout = Layout {
            name: path.display().to_string(),
            stem: stem(path),
            parts,
            cells: vec![Cell::Field(0); plan.columns.len()],
            n_fields: 0,
            first_line: 1,
            header: None,
        };
        reader.skip_lines()?;
        if plan.header {
            let Some(header) = reader.next_record()? else { return Ok((layout, None)) };
            layout.header = Some(header.text.to_vec());
            layout.read_header(plan, header.text)?;
        }
        layout.first_line = reader.line();
        let first_time = layout.probe(plan, reader)?;
        Ok((layout, first_time))
    }

    /// Calls the file as it was called when it lay at `path`.
    pub(super) fn rename(&mut self, path: &Path) {
        self.stem = stem(path);
    }

    /// Passes over what stands before the first record.
    pub(super) fn pass_head(&self, reader: &mut Reader) -> Result<(), SourceError> {
        reader.skip_lines()?;
        if self.header.is_some() {
            reader.next_record()?;
        }
        Ok(())
    }

    fn read_header(&mut self, plan: &Plan, header: &[u8]) -> Result<(), SourceError> {
        let mut fields = Fields::default();
        fields.split(&plan.dialect, header).map_err(|bad| {
            SourceError::Io(format!("the header of '{}' cannot be read: {}", self.name, bad.0))
        })?;
        let text = |i| String::from_utf8_lossy(value::trim(fields.get(header, i))).into_owned();
        let names: Vec<String> = (0..fields.len()).map(text).collect();
        self.n_fields = names.len();
        for (column, cell) in plan.columns.iter().zip(&mut self.cells) {
            *cell = match &column.origin {
                Origin::Named(name) => Cell::Field(find(&names, name).map_err(|problem| {
                    SourceError::Io(format!("file '{}' {problem}", self.name))
                })?),
                Origin::Placed(place) => Cell::Field(*place),
                Origin::Row => Cell::Row,
                Origin::File => Cell::File,
                Origin::Key(part) => Cell::Key(*part),
            };
        }
        self.check_places(plan)
    }

    /// Reads the first records for their number of fields and the first event time.
    fn probe(&mut self, plan: &Plan, reader: &mut Reader) -> Result<Option<i64>, SourceError> {
        if !plan.header {
            for (column, cell) in plan.columns.iter().zip(&mut self.cells) {
                *cell = match column.origin {
                    Origin::Placed(place) => Cell::Field(place),
                    Origin::Named(_) | Origin::Row => Cell::Row,
                    Origin::File => Cell::File,
                    Origin::Key(part) => Cell::Key(part),
                };
            }
        }
        let mut widths = Vec::new();
        let mut first_time = None;
        let mut clock = TimeReader::new(plan);
        while widths.len() < PROBE_RECORDS
            && let Some(record) = reader.next_record()?
        {
            let time = clock.time(plan, self, record.line, record.text);
            widths.push(clock.fields.len());
            first_time = first_time.or(time);
        }
        if !plan.header && !widths.is_empty() {
            self.n_fields = most_frequent(widths);
            self.check_places(plan)?;
        }
        Ok(first_time)
    }

    fn check_places(&self, plan: &Plan) -> Result<(), SourceError> {
        for (column, cell) in plan.columns.iter().zip(&self.cells) {
            if let Cell::Field(place) = cell
                && *place >= self.n_fields
            {
                return Err(SourceError::Io(format!(
                    "file '{}' has {} fields, but column '{}' is read from field {}",
                    self.name,
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

pub(super) fn stem(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let stem = ["gz", "gzip", "zst", "zstd"]
        .iter()
        .find_map(|e| name.strip_suffix(e)?.strip_suffix('.'))
        .unwrap_or(&name);
    stem.rsplit_once('.').map_or(stem, |(stem, _)| stem).to_owned()
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

    /// The event time of a record of a file with this layout, if it has one.
    pub(super) fn time(
        &mut self,
        plan: &Plan,
        layout: &Layout,
        line: u64,
        record: &[u8],
    ) -> Option<i64> {
        self.fields.split(&plan.dialect, record).ok()?;
        let field = match layout.cells[plan.time] {
            Cell::Row => return i64::try_from(line - layout.first_line).ok(),
            Cell::Field(place) if place < self.fields.len() => self.fields.get(record, place),
            _ => return None,
        };
        match &mut self.kind {
            Kind::Time(stamps) => stamps.read(field).ok(),
            _ => value::int(field, plan.writing.decimal),
        }
    }
}
