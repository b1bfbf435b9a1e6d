//! Reading Parquet: row groups are the ranges, and workers decode them.
//!
//! A chunk is a row group: the bytes of the columns that are wanted, the file's metadata less all other row groups, and
//! where the bytes stood. Its range counts rows from 0, its ordinals from 1.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use ::parquet::basic::Type as PhysicalType;
use ::parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData,
};
use foreline_engine::{Chunk, ConfigError, Decoder, Partition, Range, ReadUpTo, SourceError};
use serde::{Deserialize, Serialize};

use super::columns::{Origin, Wanted};
use super::resolve::{Resolution, Standing};
use super::rows::GroupDecoder;
use crate::cut::{Format, Opened, Records, Shared};
use crate::kind::SourceInputs;
use crate::record::Kind;

/// The largest row group that is read: it is held whole, undecoded, with a few others.
const GROUP_BYTES_MAX: u64 = 256 << 20;
/// The largest metadata of a file: it takes about 100 bytes a column and row group.
const METADATA_BYTES_MAX: u64 = 64 << 20;
/// The length of the metadata and the mark behind it.
const FOOTER_BYTES: u64 = 8;

/// Parquet as it lies in files and objects.
#[derive(Debug)]
pub(crate) struct Groups {
    wanted: Arc<[Wanted]>,
    plan: Arc<super::rows::Plan>,
    /// Which rows stand where several have the same key and time.
    resolution: Arc<Resolution>,
}

/// What a decoder needs to know of a chunk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tail {
    /// The metadata of a file with this one row group.
    pub(super) metadata: Vec<u8>,
    /// Where the bytes of the payload stood in the file, in order: offset and length.
    pub(super) pieces: Vec<(u64, u64)>,
    /// The file's name without folder and extensions.
    pub(super) stem: String,
    /// The parts of the name that are columns.
    pub(super) parts: Vec<String>,
    /// Which computation its rows are of, where that matters.
    pub(super) standing: Standing,
}

impl Groups {
    /// Checks the columns. Those in `keyed` come from the name.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn new(
        inputs: &SourceInputs<'_>,
        keyed: &[String],
    ) -> Result<Self, Vec<ConfigError>> {
        let wanted: Arc<[Wanted]> = super::columns::wanted(inputs, keyed)?.into();
        let plan = super::rows::Plan::new(inputs, Arc::clone(&wanted));
        Ok(Groups { wanted, plan: Arc::new(plan), resolution: Arc::new(Resolution::default()) })
    }

    /// The same, with rows left out that others stand for.
    pub(super) fn resolved(&self, resolution: Resolution) -> Self {
        let (wanted, plan) = (Arc::clone(&self.wanted), Arc::clone(&self.plan));
        Groups { wanted, plan, resolution: Arc::new(resolution) }
    }

    /// Notes what the rows of a chunk stand for; false when they are too many.
    pub(super) fn note(&self, chunk: &Chunk, into: &mut Resolution) -> Result<bool, String> {
        super::rows::note_standings(&self.plan, chunk, into)
    }

    /// The row groups of a file whose rows have this standing.
    pub(super) fn open_as(
        &self,
        opened: Opened,
        from: Option<ReadUpTo>,
        standing: Standing,
    ) -> Result<GroupRecords, SourceError> {
        let Opened { name, parts, size, mut bytes } = opened;
        let metadata = read_metadata(&name, size, &mut bytes)?;
        let mut columns = Vec::new();
        for wanted in &*self.wanted {
            if let Origin::Field(field) = &wanted.origin {
                let is_list = matches!(wanted.kind, Kind::Waveform);
                columns.push(find(&name, metadata.file_metadata().schema_descr(), field, is_list)?);
            }
        }
        columns.extend(standing.columns(metadata.file_metadata().schema_descr()));
        columns.sort_unstable();
        columns.dedup();
        let stem = std::path::Path::new(&name).file_stem().unwrap_or_default();
        let stem = stem.to_string_lossy().into_owned();
        let tail = Tail { metadata: Vec::new(), pieces: Vec::new(), stem, parts, standing };
        let next = from.map_or(0, |read| read.end);
        Ok(GroupRecords { name, bytes, metadata, columns, tail, next })
    }
}

impl Format for Groups {
    fn open(
        &self,
        opened: Opened,
        from: Option<ReadUpTo>,
    ) -> Result<Box<dyn Records>, SourceError> {
        Ok(Box::new(self.open_as(opened, from, Standing::Alone)?))
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(GroupDecoder::new(Arc::clone(&self.plan), Arc::clone(&self.resolution)))
    }
}

/// The leaf that the column `field` is; of a list its items.
fn find(
    name: &str,
    schema: &::parquet::schema::types::SchemaDescriptor,
    field: &str,
    is_list: bool,
) -> Result<usize, SourceError> {
    let named: Vec<&str> = schema.columns().iter().map(|c| c.path().parts()[0].as_str()).collect();
    let leaf = named.iter().position(|n| *n == field).ok_or_else(|| {
        let shown: Vec<String> = named.iter().map(|n| format!("'{n}'")).collect();
        let shown = shown.join(", ");
        SourceError::Io(format!("file '{name}' has no column '{field}'; it has {shown}"))
    })?;
    let column = schema.column(leaf);
    if is_list {
        if column.max_rep_level() == 1 && is_number(column.physical_type()) {
            return Ok(leaf);
        }
        let message = format!("column '{field}' of '{name}' is not one list of numbers a row");
        return Err(SourceError::Io(message));
    }
    if column.max_rep_level() > 0
        || column.path().parts().len() > 1
        || column.physical_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY
            && column.logical_type_ref().is_none()
            && column.converted_type() == ::parquet::basic::ConvertedType::NONE
    {
        let message = format!("column '{field}' of '{name}' is not one plain value a row");
        return Err(SourceError::Io(message));
    }
    Ok(leaf)
}

fn is_number(physical: PhysicalType) -> bool {
    use PhysicalType as P;
    matches!(physical, P::FLOAT | P::DOUBLE | P::INT32 | P::INT64)
}

fn read_metadata(
    name: &str,
    size: u64,
    bytes: &mut Shared,
) -> Result<ParquetMetaData, SourceError> {
    let no_parquet = || SourceError::Io(format!("'{name}' is not a Parquet file"));
    let start = size.checked_sub(FOOTER_BYTES).ok_or_else(no_parquet)?;
    let footer = read_at(name, bytes, start, FOOTER_BYTES)?;
    let (length, mark) = footer.split_first_chunk::<4>().ok_or_else(no_parquet)?;
    let length = u64::from(u32::from_le_bytes(*length));
    let start = start.checked_sub(length).ok_or_else(no_parquet)?;
    if mark != b"PAR1" || length > METADATA_BYTES_MAX {
        return Err(no_parquet());
    }
    let text = read_at(name, bytes, start, length)?;
    ParquetMetaDataReader::decode_metadata(&text)
        .map_err(|e| SourceError::Io(format!("the metadata of '{name}' cannot be read: {e}")))
}

/// `length` bytes from `start` on.
fn read_at(
    name: &str,
    bytes: &mut Shared,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, SourceError> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = bytes.seek(SeekFrom::Start(start)).and_then(|_| bytes.read_exact(&mut buffer));
    read.map_err(|e| match e.get_ref().and_then(|e| e.downcast_ref::<SourceError>()) {
        Some(known) => known.clone(),
        None => SourceError::Io(format!("cannot read '{name}': {e}")),
    })?;
    Ok(buffer)
}

/// The row groups of one file.
pub(super) struct GroupRecords {
    name: String,
    bytes: Shared,
    metadata: ParquetMetaData,
    /// The leaves that are wanted, in order.
    columns: Vec<usize>,
    tail: Tail,
    /// The row that comes next.
    next: u64,
}

impl GroupRecords {
    /// The row group that begins with row `start`, if one does, and how many rows it has.
    fn group_at(&self, start: u64) -> Option<(usize, u64)> {
        let mut at = 0;
        for (index, group) in self.metadata.row_groups().iter().enumerate() {
            let n_rows = u64::try_from(group.num_rows()).unwrap_or(0);
            if at == start && n_rows > 0 {
                return Some((index, n_rows));
            }
            at += n_rows;
        }
        None
    }

    fn chunk(
        &mut self,
        partition: Partition,
        index: usize,
        n_rows: u64,
        start: u64,
    ) -> Result<Chunk, SourceError> {
        let group = self.metadata.row_group(index).clone();
        let pieces: Vec<(u64, u64)> =
            self.columns.iter().map(|&c| group.column(c).byte_range()).collect();
        let n_bytes: u64 = pieces.iter().map(|(_, length)| length).sum();
        if n_bytes > GROUP_BYTES_MAX {
            return Err(SourceError::Limit(format!(
                "row group {index} of '{}' has {n_bytes} bytes in the columns that are read, and at most {GROUP_BYTES_MAX} can be: write smaller row groups",
                self.name
            )));
        }
        let mut payload = Vec::with_capacity(usize::try_from(n_bytes).unwrap_or(0));
        for &(at, length) in &pieces {
            payload.extend(read_at(&self.name, &mut self.bytes, at, length)?);
        }
        self.tail.pieces = pieces;
        self.tail.metadata = self.metadata_of(group)?;
        payload.extend(crate::csv::described(&self.name, &self.tail)?);
        let end = start + n_rows;
        let range = Range { start, end, first_ordinal: start + 1, end_ordinal: end + 1 };
        let rows = usize::try_from(n_rows).unwrap_or(usize::MAX);
        Ok(Chunk { partition, range, rows, payload })
    }

    /// The metadata of a file that had this row group only.
    fn metadata_of(&self, group: RowGroupMetaData) -> Result<Vec<u8>, SourceError> {
        let one = self.metadata.clone().into_builder().set_row_groups(vec![group]);
        let one = one.set_column_index(None).set_offset_index(None).build();
        let mut text = Vec::new();
        ParquetMetaDataWriter::new(&mut text, &one)
            .finish()
            .map_err(|e| SourceError::Io(format!("cannot describe '{}': {e}", self.name)))?;
        text.truncate(text.len().saturating_sub(FOOTER_BYTES as usize));
        Ok(text)
    }
}

impl Records for GroupRecords {
    fn next_chunk(&mut self, partition: Partition) -> Result<Option<Chunk>, SourceError> {
        let Some((index, n_rows)) = self.group_at(self.next) else { return Ok(None) };
        let chunk = self.chunk(partition, index, n_rows, self.next)?;
        self.next = chunk.range.end;
        Ok(Some(chunk))
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        match self.group_at(range.start) {
            Some((index, n_rows)) if range.start + n_rows == range.end => {
                self.chunk(partition, index, n_rows, range.start)
            }
            _ => Err(SourceError::Changed {
                what: self.name.clone(),
                how: format!("no row group has the rows {} to {}", range.start, range.end),
            }),
        }
    }
}
