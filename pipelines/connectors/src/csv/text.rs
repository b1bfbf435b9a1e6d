//! Delimited text in objects: the reader and the decoder of files, for chunks that carry their layout along.
//!
//! A chunk is the text, the layout of its object, and the length of that in four bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{
    Chunk, ConfigError, Decoded, Decoder, Partition, Range, ReadUpTo, SourceError,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decoder::CsvDecoder;
use super::layout::Layout;
use super::plan::Plan;
use super::reader::Reader;
use super::{Compression, CsvConfig};
use crate::cut::{Format, Opened, Records, Shared};
use crate::kind::SourceInputs;

/// Delimited text as it lies in objects.
#[derive(Debug)]
pub(crate) struct Text {
    plan: Arc<Plan>,
}

impl Text {
    /// Checks how text is written, apart from where it lies. The columns in `keyed` come from the key.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn new(
        config: &CsvConfig,
        compression: Compression,
        inputs: &SourceInputs<'_>,
        keyed: &[String],
    ) -> Result<Self, Vec<ConfigError>> {
        let config = CsvConfig { compression, ..config.clone() };
        Ok(Text { plan: Arc::new(Plan::of_objects(&config, inputs, keyed)?) })
    }
}

impl Format for Text {
    fn open(
        &self,
        opened: Opened,
        from: Option<ReadUpTo>,
    ) -> Result<Box<dyn Records>, SourceError> {
        let name = PathBuf::from(&opened.name);
        let mut reader = Reader::over(&self.plan, opened.bytes.clone(), &name, 0, 1)?;
        let (layout, _) = Layout::find(&self.plan, &name, opened.parts, &mut reader)?;
        let reader = match from {
            Some(read) => self.enter(&opened.bytes, &name, read.end, read.end_ordinal)?,
            None => {
                let mut reader = self.enter(&opened.bytes, &name, 0, 1)?;
                layout.pass_head(&mut reader)?;
                reader
            }
        };
        let tail = described(&opened.name, &layout)?;
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(TextRecords { plan, name, bytes: opened.bytes, reader, tail }))
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(TextDecoder { decoder: CsvDecoder::new(Arc::clone(&self.plan), Arc::new([])) })
    }
}

impl Text {
    fn enter(
        &self,
        bytes: &Shared,
        name: &Path,
        offset: u64,
        line: u64,
    ) -> Result<Reader, SourceError> {
        Reader::over(&self.plan, bytes.clone(), name, offset, line)
    }
}

/// What follows the text of a chunk: `what` a decoder needs to know, and the length of that.
pub(crate) fn described(name: &str, what: &impl Serialize) -> Result<Vec<u8>, SourceError> {
    let mut tail = postcard::to_allocvec(what)
        .map_err(|e| SourceError::Io(format!("cannot describe '{name}': {e}")))?;
    let length = u32::try_from(tail.len()).unwrap_or(u32::MAX);
    tail.extend_from_slice(&length.to_le_bytes());
    Ok(tail)
}

/// The text of a chunk, and what [`described`] has put behind it.
pub(crate) fn undescribed<T: DeserializeOwned>(chunk: &Chunk) -> (&[u8], T) {
    let (rest, length) = chunk.payload.split_last_chunk::<4>().expect("a chunk has a tail");
    let (text, what) = rest.split_at(rest.len() - u32::from_le_bytes(*length) as usize);
    (text, postcard::from_bytes(what).expect("the source wrote it"))
}

/// The records of one object.
pub(super) struct TextRecords {
    pub(super) plan: Arc<Plan>,
    pub(super) name: PathBuf,
    pub(super) bytes: Shared,
    pub(super) reader: Reader,
    /// What follows the text of a chunk.
    pub(super) tail: Vec<u8>,
}

impl Records for TextRecords {
    fn next_chunk(&mut self, partition: Partition) -> Result<Option<Chunk>, SourceError> {
        let Some(mut chunk) = self.reader.next_chunk(partition, usize::MAX)? else {
            return Ok(None);
        };
        chunk.payload.extend_from_slice(&self.tail);
        Ok(Some(chunk))
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        if !self.reader.go_on(range.start, range.end) {
            let (offset, line) = (range.start, range.first_ordinal);
            let bytes = self.bytes.clone();
            let reader = Reader::over(&self.plan, bytes, &self.name, offset, line)?;
            self.reader = reader.until(range.end);
        }
        let mut whole = Chunk { partition, range, rows: 0, payload: Vec::new() };
        let mut end = range.start;
        while let Some(chunk) = self.reader.next_chunk(partition, usize::MAX)? {
            whole.payload.extend_from_slice(&chunk.payload);
            whole.rows += chunk.rows;
            end = chunk.range.end;
        }
        if end != range.end {
            return Err(SourceError::Changed {
                what: self.name.display().to_string(),
                how: format!("its text ends at byte {end}, before {}", range.end),
            });
        }
        whole.payload.extend_from_slice(&self.tail);
        Ok(whole)
    }
}

/// Decodes the chunks of objects.
struct TextDecoder {
    decoder: CsvDecoder,
}

impl Decoder for TextDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let (text, layout): (_, Layout) = undescribed(chunk);
        self.decoder.decode_text(&layout, chunk, text, out);
    }
}
