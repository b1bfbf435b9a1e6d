//! JSON in objects, one object a line: lines are cut as those of text files, and each is decoded as a message is.
//!
//! A chunk is the text, the parts of the object's key, and the length of those in four bytes.

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{Chunk, ConfigError, Decoded, Decoder, Position, ReadUpTo, SourceError};

use super::plan::Plan;
use super::reader::{Reader, without_line_break};
use super::text::{TextRecords, described, undescribed};
use super::{Compression, CsvConfig};
use crate::cut::{Format, Opened, Records};
use crate::format::{self, JsonOptions, PlannedFormat, RecordDecoder};
use crate::kind::SourceInputs;
use crate::record::{Cut, Value};

/// JSON as it lies in objects, one object a line.
#[derive(Debug)]
pub(crate) struct JsonLines {
    plan: Arc<Plan>,
    format: PlannedFormat,
}

impl JsonLines {
    /// Checks the columns. Those in `keyed` come from the key.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn new(
        path: &str,
        options: &JsonOptions,
        compression: Compression,
        inputs: &SourceInputs<'_>,
        keyed: &[String],
    ) -> Result<Self, Vec<ConfigError>> {
        let place = |key: &String| inputs.columns.iter().position(|(name, _)| name == key);
        let given: Vec<usize> = keyed.iter().filter_map(place).collect();
        let format = format::Format::Ndjson(options.clone()).plan(inputs, &given)?;
        let none = "none".to_owned();
        let lines = CsvConfig { compression, header: false, quote: none, ..CsvConfig::at(path) };
        let no_columns = SourceInputs { columns: &[], schema: inputs.schema };
        Ok(JsonLines { plan: Arc::new(Plan::of_objects(&lines, &no_columns, &[])?), format })
    }
}

impl Format for JsonLines {
    fn open(
        &self,
        opened: Opened,
        from: Option<ReadUpTo>,
    ) -> Result<Box<dyn Records>, SourceError> {
        let name = PathBuf::from(&opened.name);
        let (offset, line) = from.map_or((0, 1), |read| (read.end, read.end_ordinal));
        let reader = Reader::over(&self.plan, opened.bytes.clone(), &name, offset, line)?;
        let tail = described(&opened.name, &opened.parts)?;
        let (plan, bytes) = (Arc::clone(&self.plan), opened.bytes);
        Ok(Box::new(TextRecords { plan, name, bytes, reader, tail }))
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(LinesDecoder { plan: Arc::clone(&self.plan), decoder: self.format.decoder() })
    }
}

/// Decodes the chunks of objects.
struct LinesDecoder {
    plan: Arc<Plan>,
    decoder: RecordDecoder,
}

impl Decoder for LinesDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let (mut rest, parts): (_, Vec<String>) = undescribed(chunk);
        let given: Vec<Value<'_>> = parts.iter().map(|part| Value::Text(part)).collect();
        let mut line = chunk.range.first_ordinal;
        while !rest.is_empty() {
            let end = match self.plan.dialect.cut_line(rest, true) {
                Cut::Record { end, .. } => end,
                _ => memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1),
            };
            let (record, after) = rest.split_at(end);
            let record = without_line_break(record);
            if !record.trim_ascii().is_empty() {
                let position = Position::new(chunk.partition, line);
                self.decoder.payload(record, &given, position, out);
            }
            (rest, line) = (after, line + 1);
        }
        self.decoder.finish(out);
    }
}
