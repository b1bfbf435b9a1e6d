//! Turns row groups into rows of a source; every worker has a decoder.
//!
//! Values obey the rules of the module `record`, whatever their type in the file: whole numbers, instants, texts and
//! decimals are read into the declared type or make the row a dead letter. A waveform is a list of numbers.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ParquetMetaDataReader;
use ::parquet::file::reader::{ChunkReader, Length};
use arrow::array::{
    Array, ArrayRef, AsArray as _, Float32Array, Float64Array, ListArray, RecordBatch, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit,
    TimestampNanosecondType, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use bytes::Bytes;
use bytes::buf::{Buf as _, Reader};
use foreline_engine::{Chunk, DeadLetter, Decoded, Decoder, Position, Reason};
use xxhash_rust::xxh3::xxh3_128;

use super::columns::{Origin, Wanted};
use super::groups::Tail;
use super::resolve::{Resolution, Standing};
use super::sorted::{DELETED, REVISION};
use crate::kind::SourceInputs;
use crate::record::{Column, NullWords, Rejected, Samples, Value, Writing};

/// Rows that are taken out of a row group at a time.
const BATCH_ROWS: usize = 8_192;

/// What decoding needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    wanted: Arc<[Wanted]>,
    schema: SchemaRef,
    /// The columns of key and event time.
    identity: Vec<usize>,
    writing: Writing,
}

impl Plan {
    pub(super) fn new(inputs: &SourceInputs<'_>, wanted: Arc<[Wanted]>) -> Self {
        let identity = inputs.schema.key().iter().copied().chain([inputs.schema.time()]).collect();
        let null = NullWords::new(&["NaN".to_owned()]);
        let writing = Writing { decimal: b'.', null, is_transcoded: false };
        Plan { wanted, schema: Arc::clone(inputs.schema.arrow()), identity, writing }
    }
}

/// Decodes row groups.
pub(super) struct GroupDecoder {
    plan: Arc<Plan>,
    resolution: Arc<Resolution>,
    columns: Vec<Column>,
    positions: Vec<u64>,
}

/// The values of a column, in a type that rows are read from.
enum Cells<'a> {
    /// The same for all.
    One(Value<'a>),
    /// The row's number.
    Row,
    Bool(&'a arrow::array::BooleanArray),
    Int(&'a arrow::array::Int64Array),
    Unsigned(&'a UInt64Array),
    Float(&'a arrow::array::Float64Array),
    Time(&'a arrow::array::TimestampNanosecondArray),
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
    F32s(&'a ListArray, &'a [f32]),
    F64s(&'a ListArray, &'a [f64]),
}

impl GroupDecoder {
    pub(super) fn new(plan: Arc<Plan>, resolution: Arc<Resolution>) -> Self {
        let columns = plan.wanted.iter().map(|w| Column::new(&w.kind, w.need)).collect();
        GroupDecoder { plan, resolution, columns, positions: Vec::new() }
    }

    /// Decodes one batch, whose first row is `first` of the file.
    fn batch(
        &mut self,
        chunk: &Chunk,
        batch: &RecordBatch,
        tail: &Tail,
        first: u64,
        out: &mut Decoded,
    ) -> Result<(), String> {
        let plan = Arc::clone(&self.plan);
        let arrays = arrays(&plan, batch)?;
        let cells: Vec<Cells<'_>> = plan
            .wanted
            .iter()
            .zip(&arrays)
            .map(|(wanted, array)| match (&wanted.origin, array) {
                (Origin::Key(part), _) => Cells::One(Value::Text(&tail.parts[*part])),
                (Origin::File, _) => Cells::One(Value::Text(&tail.stem)),
                (Origin::Row, _) | (_, None) => Cells::Row,
                (_, Some(array)) => cells(array),
            })
            .collect();
        let standings = Standings::new(tail.standing, batch)?;
        for row in 0..batch.num_rows() {
            let at = first + row as u64;
            let stands = self.resolution.is_empty()
                || self.resolution.stands(identity(&plan, &cells, row, at), standings.of(row));
            if stands {
                self.row(chunk, &cells, row, at, out);
            }
        }
        Ok(())
    }

    fn row(&mut self, chunk: &Chunk, cells: &[Cells<'_>], row: usize, at: u64, out: &mut Decoded) {
        out.records += 1;
        let position = Position::new(chunk.partition, at + 1).0;
        for (index, (column, cells)) in self.columns.iter_mut().zip(cells).enumerate() {
            let value = cells.value(row, at);
            if let Err(unfit) = column.push_value(value, &self.plan.writing) {
                let name = &self.plan.wanted[index].name;
                let rejected = Rejected::field(name, &value.shown(), unfit);
                let n_rows = self.positions.len();
                self.columns.iter_mut().for_each(|c| c.truncate(n_rows));
                out.dead.push(DeadLetter {
                    position: Some(position),
                    ..DeadLetter::new(rejected.reason, rejected.detail)
                });
                return;
            }
        }
        self.positions.push(position);
    }

    fn finish(&mut self, out: &mut Decoded) {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let positions = std::mem::take(&mut self.positions);
        if positions.is_empty() {
            return;
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)
            .expect("columns are built from the schema, one value a row");
        out.rows.push((rows, UInt64Array::from(positions)));
    }

    fn decode_group(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), String> {
        let (bytes, tail): (_, Tail) = crate::csv::undescribed(chunk);
        let mut first = chunk.range.start;
        for batch in read_group(bytes, &tail).map_err(|e| e.to_string())? {
            let batch = batch.map_err(|e| e.to_string())?;
            self.batch(chunk, &batch, &tail, first, out)?;
            first += batch.num_rows() as u64;
        }
        Ok(())
    }
}

impl Decoder for GroupDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let (n_dead, n_records) = (out.dead.len(), out.records);
        if let Err(problem) = self.decode_group(chunk, out) {
            // Damage within a page cannot be laid at the door of one row: all of the group are lost, and said to be.
            self.positions.clear();
            self.columns.iter_mut().for_each(|c| c.truncate(0));
            let position = Some(Position::new(chunk.partition, chunk.range.first_ordinal).0);
            let detail = format!(
                "rows {} to {} cannot be read: {problem}",
                chunk.range.first_ordinal,
                chunk.range.end_ordinal - 1
            );
            out.dead.truncate(n_dead);
            out.dead.push(DeadLetter { position, ..DeadLetter::new(Reason::BAD_VALUE, detail) });
            out.records = n_records + 1;
        }
        self.finish(out);
    }
}

/// The rows of a row group, in batches.
pub(super) fn read_group(
    bytes: &[u8],
    tail: &Tail,
) -> ParquetResult<::parquet::arrow::arrow_reader::ParquetRecordBatchReader> {
    let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(&tail.metadata)?);
    // The types are those of the file, whatever program's memory they came from.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let offsets: Vec<u64> = tail.pieces.iter().map(|(offset, _)| *offset).collect();
    let group = metadata.row_group(0);
    let leaves = (0..group.num_columns())
        .filter(|&leaf| offsets.contains(&group.column(leaf).byte_range().0));
    let mask = ProjectionMask::leaves(group.schema_descr(), leaves);
    let pieces = Pieces { bytes: Bytes::copy_from_slice(bytes), at: tail.pieces.clone() };
    let metadata = ArrowReaderMetadata::try_new(metadata, options)?;
    ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
}

/// Parts of a file, by the places where they stood.
struct Pieces {
    bytes: Bytes,
    at: Vec<(u64, u64)>,
}

impl Pieces {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let mut before = 0;
        for &(offset, length) in &self.at {
            if (offset..offset + length).contains(&start) {
                let from = usize::try_from(before + start - offset)?;
                let to = usize::try_from(before + length)?;
                return Ok(self.bytes.slice(from..to));
            }
            before += length;
        }
        Err(ParquetError::General(format!("byte {start} is not in a column that is read")))
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.at.iter().map(|(offset, length)| offset + length).max().unwrap_or(0)
    }
}

impl ChunkReader for Pieces {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let rest = self.from(start)?;
        if rest.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are not there")));
        }
        Ok(rest.slice(..length))
    }
}

/// The columns of a batch in types that rows are read from, one a declared column.
fn arrays(plan: &Plan, batch: &RecordBatch) -> Result<Vec<Option<ArrayRef>>, String> {
    let named = |field: &String| batch.column_by_name(field);
    let array = |wanted: &Wanted| match &wanted.origin {
        Origin::Field(field) => named(field).map(readable).transpose(),
        Origin::Row | Origin::File | Origin::Key(_) => Ok(None),
    };
    plan.wanted.iter().map(array).collect()
}

fn readable(array: &ArrayRef) -> Result<ArrayRef, String> {
    use DataType as D;
    let to = match array.data_type() {
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => D::Int64,
        D::UInt64 => D::UInt64,
        D::Float16 | D::Float32 | D::Float64 => D::Float64,
        D::Boolean => D::Boolean,
        D::Timestamp(..) => D::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        D::Date32 | D::Date64 => D::Timestamp(TimeUnit::Nanosecond, None),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => D::Binary,
        D::List(item) => return samples(array, item.data_type()).map_err(|e| e.to_string()),
        _ => D::Utf8,
    };
    cast(array, &to).map_err(|e| e.to_string())
}

/// A list of numbers with 32-bit floats as items, or else 64-bit ones, none of which is null.
fn samples(array: &ArrayRef, item: &DataType) -> Result<ArrayRef, ArrowError> {
    let is_short = matches!(item, DataType::Float32 | DataType::Float16);
    let to = if is_short { DataType::Float32 } else { DataType::Float64 };
    let field = Arc::new(Field::new_list_field(to, true));
    let lists = cast(array, &DataType::List(Arc::clone(&field)))?;
    let lists = lists.as_list::<i32>();
    let values = lists.values();
    if values.null_count() == 0 {
        return Ok(Arc::new(lists.clone()));
    }
    // A sample that is missing is as bad as one that is no number.
    let values: ArrayRef = match is_short {
        true => Arc::new(Float32Array::from_iter_values(
            values.as_primitive::<Float32Type>().iter().map(|v| v.unwrap_or(f32::NAN)),
        )),
        false => Arc::new(Float64Array::from_iter_values(
            values.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)),
        )),
    };
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
}

/// The items of a row.
fn items<'a, T>(lists: &ListArray, items: &'a [T], row: usize) -> &'a [T] {
    let at = |i: usize| usize::try_from(lists.value_offsets()[i]).unwrap_or_default();
    &items[at(row)..at(row + 1)]
}

fn cells(array: &ArrayRef) -> Cells<'_> {
    match array.data_type() {
        DataType::Int64 => Cells::Int(array.as_primitive::<Int64Type>()),
        DataType::UInt64 => Cells::Unsigned(array.as_primitive::<UInt64Type>()),
        DataType::Float64 => Cells::Float(array.as_primitive::<Float64Type>()),
        DataType::Boolean => Cells::Bool(array.as_boolean()),
        DataType::Timestamp(..) => Cells::Time(array.as_primitive::<TimestampNanosecondType>()),
        DataType::Binary => Cells::Bytes(array.as_binary()),
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            match item.data_type() {
                DataType::Float32 => {
                    Cells::F32s(lists, lists.values().as_primitive::<Float32Type>().values())
                }
                _ => Cells::F64s(lists, lists.values().as_primitive::<Float64Type>().values()),
            }
        }
        _ => Cells::Text(array.as_string()),
    }
}

impl Cells<'_> {
    fn value(&self, row: usize, at: u64) -> Value<'_> {
        let null = match self {
            Cells::One(_) | Cells::Row => false,
            Cells::Bool(a) => a.is_null(row),
            Cells::Int(a) => a.is_null(row),
            Cells::Unsigned(a) => a.is_null(row),
            Cells::Float(a) => a.is_null(row),
            Cells::Time(a) => a.is_null(row),
            Cells::Text(a) => a.is_null(row),
            Cells::Bytes(a) => a.is_null(row),
            Cells::F32s(lists, _) | Cells::F64s(lists, _) => lists.is_null(row),
        };
        match self {
            _ if null => Value::Null,
            Cells::One(value) => *value,
            Cells::Row => Value::Unsigned(at),
            Cells::Bool(a) => Value::Bool(a.value(row)),
            Cells::Int(a) => Value::Int(a.value(row)),
            Cells::Unsigned(a) => Value::Unsigned(a.value(row)),
            Cells::Float(a) => Value::Float(a.value(row)),
            Cells::Time(a) => Value::Time(a.value(row)),
            Cells::Text(a) => Value::Text(a.value(row)),
            Cells::Bytes(a) => Value::Bytes(a.value(row)),
            Cells::F32s(lists, all) => Value::Samples(Samples::F32(items(lists, all, row))),
            Cells::F64s(lists, all) => Value::Samples(Samples::F64(items(lists, all, row))),
        }
    }
}

/// What tells a row from others: key and event time.
fn identity(plan: &Plan, cells: &[Cells<'_>], row: usize, at: u64) -> u128 {
    let mut text = Vec::new();
    for &column in &plan.identity {
        let value = cells[column].value(row, at);
        let shown = value.shown();
        text.extend_from_slice(&(shown.len() as u64).to_le_bytes());
        text.extend_from_slice(&shown);
    }
    xxh3_128(&text)
}

/// Generation, revision and deletion of the rows of a batch.
struct Standings {
    generation: u64,
    corrections: Option<(arrow::array::UInt32Array, arrow::array::BooleanArray)>,
}

impl Standings {
    fn new(standing: Standing, batch: &RecordBatch) -> Result<Self, String> {
        let generation = match standing {
            Standing::Alone => 0,
            Standing::Rows(generation) => generation,
            Standing::Corrections(generation) => {
                let missing = || "it has no `_revision` and `_deleted`".to_owned();
                let revision = batch.column_by_name(REVISION).ok_or_else(missing)?;
                let revision = cast(revision, &DataType::UInt32).map_err(|e| e.to_string())?;
                let deleted = batch.column_by_name(DELETED).ok_or_else(missing)?;
                let deleted = deleted.as_boolean_opt().ok_or_else(missing)?.clone();
                let revision = revision.as_primitive::<UInt32Type>().clone();
                return Ok(Standings { generation, corrections: Some((revision, deleted)) });
            }
        };
        Ok(Standings { generation, corrections: None })
    }

    fn of(&self, row: usize) -> (u64, u32, bool) {
        match &self.corrections {
            Some((revision, deleted)) => (self.generation, revision.value(row), deleted.value(row)),
            None => (self.generation, 0, false),
        }
    }
}

/// Notes what the rows of a chunk stand for.
pub(super) fn note_standings(
    plan: &Plan,
    chunk: &Chunk,
    into: &mut Resolution,
) -> Result<bool, String> {
    let (bytes, tail): (_, Tail) = crate::csv::undescribed(chunk);
    for batch in read_group(bytes, &tail).map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let arrays = arrays(plan, &batch)?;
        let cells: Vec<Cells<'_>> =
            arrays.iter().map(|a| a.as_ref().map_or(Cells::Row, cells)).collect();
        let standings = Standings::new(tail.standing, &batch)?;
        for row in 0..batch.num_rows() {
            if !into.note(identity(plan, &cells, row, 0), standings.of(row)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
