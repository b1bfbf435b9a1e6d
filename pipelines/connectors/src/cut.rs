//! Records in files and objects, cut into chunks that can be read again by their range.
//!
//! A chunk of these formats says itself where its fields are, so that a decoder needs to know nothing of the object
//! that the chunk came from: objects are found while the decoders are at work.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use foreline_engine::{Chunk, Decoder, Partition, Range, ReadUpTo, SourceError};

/// Bytes that can be entered anywhere.
pub(crate) trait Bytes: Read + Seek + Send {}
impl<T: Read + Seek + Send> Bytes for T {}

/// A file or an object that was opened.
pub(crate) struct Opened {
    /// What a person calls it; its extension says what it is compressed with.
    pub(crate) name: String,
    /// The parts of its name that are columns.
    pub(crate) parts: Vec<String>,
    /// How many bytes it has.
    pub(crate) size: u64,
    /// The bytes.
    pub(crate) bytes: Shared,
}

/// How records lie in files or objects.
pub(crate) trait Format: Send + Sync {
    /// The records of `opened`, from the first one or from where an earlier run has left off.
    fn open(&self, opened: Opened, from: Option<ReadUpTo>)
    -> Result<Box<dyn Records>, SourceError>;

    /// A decoder of their chunks.
    fn decoder(&self) -> Box<dyn Decoder>;
}

/// The records of one file or object.
pub(crate) trait Records: Send {
    /// The next chunk; none at the end.
    fn next_chunk(&mut self, partition: Partition) -> Result<Option<Chunk>, SourceError>;

    /// The chunk that had this range, with the same bytes.
    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError>;
}

/// Bytes that several readers take turns with.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Box<dyn Bytes>>>);

impl Shared {
    /// Shares `bytes`.
    pub(crate) fn new(bytes: impl Bytes + 'static) -> Self {
        Shared(Arc::new(Mutex::new(Box::new(bytes))))
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seek(to)
    }
}
