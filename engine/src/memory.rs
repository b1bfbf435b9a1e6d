//! A source and a sink that live in memory: for `train`, `test`, and the tests of everything else.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::batch::Batch;
use crate::dead::{DeadLetter, Reason};
use crate::schema::Schema;
use crate::sink::{Committed, RunId, Sink, SinkError};
use crate::source::{
    Chunk, Decoded, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay, Source,
    SourceError,
};

/// A bounded source of rows that are there already, in the order given.
#[derive(Debug)]
pub struct MemorySource {
    schema: SchemaRef,
    chunks: Vec<RecordBatch>,
    next: usize,
    first_ordinal: u64,
}

impl MemorySource {
    /// The rows of `batches`, which are of `schema` or of the same with plain text where the key is
    /// dictionary-encoded; `chunk_rows` at a time.
    ///
    /// # Errors
    /// When a batch has other columns.
    pub fn new(
        schema: &Schema,
        batches: &[RecordBatch],
        chunk_rows: usize,
    ) -> Result<Self, ArrowError> {
        let mut chunks = Vec::new();
        for batch in batches {
            let columns = batch.columns().iter().zip(schema.arrow().fields());
            let columns = columns.map(|(c, f)| arrow::compute::cast(c, f.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
            for start in (0..batch.num_rows()).step_by(chunk_rows.max(1)) {
                let len = chunk_rows.max(1).min(batch.num_rows() - start);
                chunks.push(batch.slice(start, len));
            }
        }
        Ok(MemorySource { schema: Arc::clone(schema.arrow()), chunks, next: 0, first_ordinal: 1 })
    }
}

impl Source for MemorySource {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn poll(&mut self, _budget_bytes: usize) -> Result<Poll, SourceError> {
        let Some(rows) = self.chunks.get(self.next) else { return Ok(Poll::Ended) };
        let io = |e: ArrowError| SourceError::Io(e.to_string());
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema).map_err(io)?;
        writer.write(rows).map_err(io)?;
        let payload = writer.into_inner().map_err(io)?;
        let first_ordinal = self.first_ordinal;
        let n_rows = rows.num_rows() as u64;
        let end = first_ordinal + n_rows;
        let range = Range { start: first_ordinal, end, first_ordinal, end_ordinal: end };
        self.next += 1;
        self.first_ordinal += n_rows;
        Ok(Poll::Ready(Chunk { partition: Partition(0), range, rows: rows.num_rows(), payload }))
    }

    fn read(&mut self, _: Partition, range: Range) -> Result<Chunk, SourceError> {
        Err(SourceError::Io(format!("rows {}.. in memory cannot be read again", range.start)))
    }

    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(IpcDecoder)
    }

    fn partition_name(&self, _: Partition) -> Option<String> {
        Some("memory".to_owned())
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        Vec::new()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let read = known.iter().find_map(|k| k.read);
        while let (Some(read), Some(rows)) = (read, self.chunks.get(self.next)) {
            if self.first_ordinal >= read.end_ordinal {
                break;
            }
            self.first_ordinal += rows.num_rows() as u64;
            self.next += 1;
        }
        Ok(())
    }
}

/// Reads Arrow IPC; a payload that is none becomes one dead letter.
struct IpcDecoder;

impl Decoder for IpcDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let mut ordinal = chunk.range.first_ordinal;
        let batches = StreamReader::try_new(&chunk.payload[..], None).and_then(Iterator::collect);
        let batches: Vec<RecordBatch> = match batches {
            Ok(batches) => batches,
            Err(e) => {
                out.records += 1;
                let position = Some(Position::new(chunk.partition, ordinal).0);
                let letter = DeadLetter::new(Reason::BAD_ENCODING, format!("not Arrow IPC: {e}"));
                out.dead.push(DeadLetter { position, ..letter });
                return;
            }
        };
        for rows in batches {
            let end = ordinal + rows.num_rows() as u64;
            let position = (ordinal..end).map(|o| Position::new(chunk.partition, o).0);
            out.records += rows.num_rows() as u64;
            out.rows.push((rows, position.collect::<Vec<_>>().into()));
            ordinal = end;
        }
    }
}

/// What a [`CollectSink`] was given.
#[derive(Debug, Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<Batch>>>);

impl Collected {
    /// The batches so far, in the order of epochs; within one by key hash and time.
    #[must_use]
    pub fn batches(&self) -> Vec<Batch> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// All rows as one batch, sorted by (key hash, time, position): the same however the run was cut.
    ///
    /// # Errors
    /// When the batches are not of `schema`.
    pub fn sorted(&self, schema: &Schema) -> Result<Batch, ArrowError> {
        let batches = self.batches();
        if batches.is_empty() {
            return Ok(Batch::empty(Arc::clone(schema.arrow())));
        }
        Batch::concat(schema.arrow(), &batches)?.sorted(schema)
    }

    /// The rows that stand at the end, as a sink has them that keeps of each primary key the greatest revision and
    /// takes deleted rows away; sorted as in [`Collected::sorted`], without revisions.
    ///
    /// # Errors
    /// When the batches are not of `schema`.
    pub fn settled(&self, schema: &Schema) -> Result<Batch, ArrowError> {
        self.sorted(schema)?.settled(schema)
    }
}

/// A sink that keeps everything in memory. It grows with the stream: for bounded input only.
pub struct CollectSink {
    to: Collected,
    limit_rows: usize,
    n_rows: usize,
}

impl CollectSink {
    /// A sink and where its rows will be. More than `limit_rows` rows are an error, not an exhausted memory.
    #[must_use]
    pub fn new(limit_rows: usize) -> (Self, Collected) {
        let to = Collected::default();
        (CollectSink { to: to.clone(), limit_rows, n_rows: 0 }, to)
    }
}

impl fmt::Debug for CollectSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectSink").field("n_rows", &self.n_rows).finish_non_exhaustive()
    }
}

impl Sink for CollectSink {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn write(&mut self, _epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        self.n_rows += rows.iter().map(Batch::len).sum::<usize>();
        if self.n_rows > self.limit_rows {
            return Err(SinkError::Fatal(format!(
                "more than {} rows are to be kept in memory",
                self.limit_rows
            )));
        }
        let mut to = self.to.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        to.extend(rows.iter().filter(|b| !b.is_empty()).cloned());
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        false
    }
}
