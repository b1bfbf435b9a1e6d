//! Turns chunks of text into rows; every worker has one.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use foreline_engine::{Chunk, DeadLetter, Decoded, Decoder, Position};
use memchr::memchr;

use super::files::{Cell, TextFile};
use super::merge;
use super::plan::Plan;
use super::reader::without_line_break;
use super::{ExtraFields, FileOrder};
use crate::record::{Column, Cut, Fields, ORIGINAL_BYTES_MAX, Rejected};

/// Decodes the chunks of one source.
#[derive(Debug)]
pub(super) struct CsvDecoder {
    plan: Arc<Plan>,
    files: Arc<[TextFile]>,
    columns: Vec<Column>,
    positions: Vec<u64>,
    fields: Fields,
}

/// A record, where it stands, and whether it may hold quotes.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    line: u64,
    position: u64,
    text: &'a [u8],
    quoted: bool,
}

impl CsvDecoder {
    pub(super) fn new(plan: Arc<Plan>, files: Arc<[TextFile]>) -> Self {
        let columns = plan.columns.iter().map(|c| Column::new(&c.kind, c.need)).collect();
        CsvDecoder { plan, files, columns, positions: Vec::new(), fields: Fields::default() }
    }

    /// Decodes records that follow one another in `file`.
    pub(super) fn decode_text(&mut self, file: &TextFile, chunk: &Chunk, out: &mut Decoded) {
        let text = &chunk.payload[..];
        let quoted = self.plan.dialect.quote.is_some_and(|q| memchr(q, text).is_some());
        let mut at = 0;
        let mut line = chunk.range.first_ordinal;
        while at < text.len() {
            let rest = &text[at..];
            let dialect = &self.plan.dialect;
            let cut = if quoted { dialect.cut(rest, true) } else { dialect.cut_line(rest, true) };
            let (end, lines) = match cut {
                Cut::Record { end, lines } => (end, lines),
                _ => (memchr(b'\n', rest).map_or(rest.len(), |i| i + 1), 1),
            };
            let position = Position::new(chunk.partition, line).0;
            let text = without_line_break(&rest[..end]);
            self.record(file, Line { line, position, text, quoted }, out);
            at += end;
            line += lines;
        }
        self.finish(out);
    }

    fn decode_merged(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let files = Arc::clone(&self.files);
        let frames = merge::frames(&chunk.payload);
        for (ordinal, (file, line, text)) in (chunk.range.first_ordinal..).zip(frames) {
            let position = Position::new(chunk.partition, ordinal).0;
            let line = Line { line, position, text, quoted: true };
            self.record(&files[file], line, out);
        }
        self.finish(out);
    }

    #[inline]
    fn record(&mut self, file: &TextFile, line: Line<'_>, out: &mut Decoded) {
        if self.plan.dialect.is_skipped(line.text) {
            return;
        }
        out.records += 1;
        match self.row(file, line) {
            Ok(()) => self.positions.push(line.position),
            Err(rejected) => {
                let n_rows = self.positions.len();
                self.columns.iter_mut().for_each(|c| c.truncate(n_rows));
                out.dead.push(self.dead_letter(file, line, rejected));
            }
        }
    }

    /// Adds a value to each column. After an error some columns may have one too many.
    #[inline]
    fn row(&mut self, file: &TextFile, line: Line<'_>) -> Result<(), Rejected> {
        let CsvDecoder { plan, columns, fields, .. } = self;
        if line.text.len() > plan.dialect.row_bytes_max {
            return Err(Rejected::too_long(plan.dialect.row_bytes_max));
        }
        if line.quoted {
            fields.split(&plan.dialect, line.text).map_err(|bad| Rejected::malformed(bad.0))?;
        } else {
            fields.split_plain(&plan.dialect, line.text);
        }
        let n_fields = fields.len();
        if n_fields != file.n_fields
            && (n_fields < file.n_fields || plan.extra_fields == ExtraFields::Error)
        {
            return Err(Rejected::field_count(n_fields, file.n_fields));
        }
        for (index, (column, cell)) in columns.iter_mut().zip(&file.cells).enumerate() {
            let field = match *cell {
                Cell::Field(place) => fields.get(line.text, place),
                Cell::File => file.stem.as_bytes(),
                Cell::Row => {
                    column.push_count(line.line - file.first_line);
                    continue;
                }
            };
            column
                .push(field, &plan.writing)
                .map_err(|unfit| Rejected::field(&plan.columns[index].name, field, unfit))?;
        }
        Ok(())
    }

    #[cold]
    fn dead_letter(&self, file: &TextFile, line: Line<'_>, rejected: Rejected) -> DeadLetter {
        let mut detail = rejected.detail;
        if file.header.as_deref() == Some(line.text) {
            detail = "the header is repeated".to_owned();
        }
        if self.plan.order == FileOrder::Merge {
            detail = format!("{}:{}: {detail}", file.path.display(), line.line);
        }
        let kept = ORIGINAL_BYTES_MAX.min(self.plan.dialect.row_bytes_max).min(line.text.len());
        DeadLetter {
            position: Some(line.position),
            original: Some(line.text[..kept].to_vec()),
            ..DeadLetter::new(rejected.reason, detail)
        }
    }

    fn finish(&mut self, out: &mut Decoded) {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let positions = std::mem::take(&mut self.positions);
        if positions.is_empty() {
            return;
        }
        self.positions.reserve(positions.len());
        let rows = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)
            .expect("columns are built from the schema, one value a row");
        out.rows.push((rows, UInt64Array::from(positions)));
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        match self.plan.order {
            FileOrder::Merge => self.decode_merged(chunk, out),
            FileOrder::Name | FileOrder::FirstTime => {
                let files = Arc::clone(&self.files);
                self.decode_text(&files[chunk.partition.0 as usize], chunk, out);
            }
        }
    }
}
