//! A sink that puts rows aside in files, by key hash, so that two streams can be compared a part at a time.
//!
//! All rows of a key are in one part. A part must fit into memory when it is read again; it has about a 64th of the
//! rows.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError};

/// Into how many parts rows are put: few enough that all their files can be open at once.
pub(super) const PARTS: usize = 64;
/// Most rows of a part that are read at once: two gigabytes of thirty columns. A single key may have so many.
const PART_ROWS_MAX: usize = 8_000_000;
/// What is known of a row, behind the columns of its stream.
const FACTS: usize = 4;

/// Rows that were put aside.
#[derive(Debug, Clone)]
pub(super) struct Spilled {
    folder: PathBuf,
    /// That of the stream.
    pub(super) schema: Schema,
}

/// The sink, and where its rows can be read once it is gone.
pub(super) fn pair(folder: &Path, schema: Schema) -> Result<(SpillSink, Spilled)> {
    std::fs::create_dir_all(folder).with_context(|| format!("make '{}'", folder.display()))?;
    let (fields, folder) = (file_schema(&schema), folder.to_owned());
    let sink =
        SpillSink { folder: folder.clone(), fields, files: (0..PARTS).map(|_| None).collect() };
    Ok((sink, Spilled { folder, schema }))
}

/// Puts rows aside.
pub(super) struct SpillSink {
    folder: PathBuf,
    fields: SchemaRef,
    files: Vec<Option<StreamWriter<BufWriter<File>>>>,
}

impl SpillSink {
    fn put(&mut self, rows: &Batch) -> Result<(), ArrowError> {
        let hashes = rows.key_hash.values();
        let mut start = 0;
        // Rows come in the order of their hashes, so each part is one stretch.
        while let Some(&hash) = hashes.get(start) {
            let part = part_of(hash);
            let n = hashes[start..].iter().take_while(|h| part_of(**h) == part).count();
            let row = with_facts(&self.fields, &rows.slice(start, n))?;
            if self.files[part].is_none() {
                let file = File::create(file_of(&self.folder, part))?;
                let writer = StreamWriter::try_new(BufWriter::new(file), &self.fields)?;
                self.files[part] = Some(writer);
            }
            if let Some(writer) = &mut self.files[part] {
                writer.write(&row)?;
            }
            start += n;
        }
        Ok(())
    }
}

impl Sink for SpillSink {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let fatal = |e: ArrowError| SinkError::Fatal(format!("rows cannot be put aside: {e}"));
        rows.iter().try_for_each(|batch| self.put(batch)).map_err(fatal)
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        for file in self.files.iter_mut().flatten() {
            let flushed = file.flush();
            flushed.map_err(|e| SinkError::Fatal(format!("rows cannot be put aside: {e}")))?;
        }
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        false
    }
}

impl Drop for SpillSink {
    fn drop(&mut self) {
        // A stream without its end reads the same; what matters was flushed at the last commit.
        self.files.iter_mut().flatten().for_each(|file| drop(file.finish()));
    }
}

impl Spilled {
    /// The rows of a part that stand at the end, in order of key hash and time.
    ///
    /// # Errors
    /// When it cannot be read, or has too many rows.
    pub(super) fn settled(&self, part: usize) -> Result<Batch> {
        let path = file_of(&self.folder, part);
        if !path.exists() {
            return Ok(Batch::empty(Arc::clone(self.schema.arrow())));
        }
        let file = File::open(&path).with_context(|| format!("open '{}'", path.display()))?;
        let (mut batches, mut n_rows) = (Vec::new(), 0);
        for batch in StreamReader::try_new(BufReader::new(file), None)? {
            let batch = batch?;
            n_rows += batch.num_rows();
            if n_rows > PART_ROWS_MAX {
                bail!("more than {PART_ROWS_MAX} rows of some keys are to be compared at once");
            }
            batches.push(batch);
        }
        let rows = concat_batches(&file_schema(&self.schema), &batches)?;
        Ok(without_facts(&self.schema, &rows)?.settled(&self.schema)?)
    }
}

fn part_of(hash: u64) -> usize {
    const SHIFT: u32 = u64::BITS - PARTS.trailing_zeros();
    usize::try_from(hash >> SHIFT).expect("six bits fit")
}

fn file_of(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("{part:02}.arrows"))
}

/// The columns of the stream, and what is known of each row. Dictionaries are written as plain text: those of two batches
/// may differ, which a stream does not allow.
fn file_schema(schema: &Schema) -> SchemaRef {
    let plain = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    };
    let columns = schema.columns().iter().map(|c| Field::new(&c.name, plain(&c.data_type), true));
    let fact = |name: &str, data_type| Field::new(name, data_type, false);
    let facts: [Field; FACTS] = [
        fact("foreline_hash", DataType::UInt64),
        fact("foreline_position", DataType::UInt64),
        fact("foreline_revision", DataType::UInt32),
        fact("foreline_deleted", DataType::Boolean),
    ];
    Arc::new(ArrowSchema::new(columns.chain(facts).collect::<Vec<_>>()))
}

fn with_facts(fields: &SchemaRef, rows: &Batch) -> Result<RecordBatch, ArrowError> {
    let columns = rows.rows.columns().iter().zip(fields.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    let mut columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    let revision = rows.revision.clone().unwrap_or_else(|| vec![0; rows.len()].into());
    let deleted = rows.deleted.clone().unwrap_or_else(|| vec![false; rows.len()].into());
    columns.push(Arc::new(rows.key_hash.clone()));
    columns.push(Arc::new(rows.position.clone()));
    columns.push(Arc::new(revision));
    columns.push(Arc::new(deleted));
    RecordBatch::try_new(Arc::clone(fields), columns)
}

fn without_facts(schema: &Schema, rows: &RecordBatch) -> Result<Batch, ArrowError> {
    let n = schema.columns().len();
    let columns = rows.columns()[..n].iter().zip(schema.arrow().fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    let own = RecordBatch::try_new(Arc::clone(schema.arrow()), columns.collect::<Result<_, _>>()?)?;
    let hash: UInt64Array = rows.column(n).as_primitive::<UInt64Type>().clone();
    let position: UInt64Array = rows.column(n + 1).as_primitive::<UInt64Type>().clone();
    let revision: UInt32Array = rows.column(n + 2).as_primitive::<UInt32Type>().clone();
    let deleted: BooleanArray = rows.column(n + 3).as_boolean().clone();
    let batch = Batch::new(own, hash, position);
    let batch = batch.map_err(|e| ArrowError::InvalidArgumentError(e.to_string()))?;
    Ok(Batch { revision: Some(revision), deleted: Some(deleted), ..batch })
}
