//! A file as a stream of UTF-8 text, whatever it is compressed with and encoded in.
//!
//! A byte order mark is dropped. In an encoding other than UTF-8, bytes that mean nothing come out as U+FFFD;
//! UTF-8 itself passes through unchecked, since the decoder checks the fields that it keeps as text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8};

use super::Compression;

/// Bytes read from a file at a time; larger reads were not faster.
const READ_BYTES: usize = 256 * 1024;
/// So many times its size may a compressed file become; sensor text reaches about 30.
const EXPANSION_MAX: u64 = 2_000;
/// What a compressed file may become in any case.
const EXPANSION_FREE_BYTES: u64 = 64 << 20;
/// The window that zstd may ask for, as a power of two: what `zstd --long` needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF16_MARKS: [(&[u8], &str); 2] = [(&[0xff, 0xfe], "utf-16le"), (&[0xfe, 0xff], "utf-16be")];

/// An open file and the bytes of its text that were dropped from the front.
pub(super) struct Input {
    /// The text.
    pub(super) text: Box<dyn Read + Send>,
    /// Where the text begins: behind a byte order mark.
    pub(super) offset: u64,
}

/// Opens `path` and goes to byte `from` of its text.
pub(super) fn open(
    path: &Path,
    compression: Compression,
    encoding: &'static Encoding,
    from: u64,
) -> io::Result<Input> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let n_magic = read_up_to(&mut file, &mut magic)?;
    file.rewind()?;
    match compression.of(path, &magic[..n_magic]) {
        Compression::Gzip => {
            let (raw, consumed) = Counted::new(file);
            let text = flate2::bufread::MultiGzDecoder::new(raw);
            decoded(Limited { text, consumed, produced: 0 }, encoding, from)
        }
        Compression::Zstd => {
            let (raw, consumed) = Counted::new(file);
            let mut text = zstd::stream::read::Decoder::with_buffer(raw)?;
            text.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            decoded(Limited { text, consumed, produced: 0 }, encoding, from)
        }
        Compression::Auto | Compression::None => plain(file, encoding, from),
    }
}

impl Compression {
    /// What a file is compressed with: as configured, or else by its first bytes.
    pub(super) fn of(self, path: &Path, magic: &[u8]) -> Self {
        if self != Compression::Auto {
            return self;
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Compression::Gzip,
            "zst" | "zstd" => Compression::Zstd,
            _ if magic.starts_with(GZIP_MAGIC) => Compression::Gzip,
            _ if magic.starts_with(ZSTD_MAGIC) => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// UTF-8 in a plain file needs no copy and can be entered anywhere.
fn plain(mut file: File, encoding: &'static Encoding, from: u64) -> io::Result<Input> {
    if encoding != UTF_8 || from == 0 {
        return decoded(file, encoding, from);
    }
    file.seek(SeekFrom::Start(from))?;
    Ok(Input { text: Box::new(file), offset: from })
}

fn decoded(
    raw: impl Read + Send + 'static,
    encoding: &'static Encoding,
    from: u64,
) -> io::Result<Input> {
    let mut input = if encoding == UTF_8 {
        without_mark(raw)?
    } else {
        let raw = BufReader::with_capacity(READ_BYTES, raw);
        let decoder = encoding.new_decoder_with_bom_removal();
        Input { text: Box::new(Transcoded { raw, decoder, ended: false }), offset: 0 }
    };
    if from > input.offset {
        io::copy(&mut input.text.by_ref().take(from - input.offset), &mut io::sink())?;
        input.offset = from;
    }
    Ok(input)
}

fn without_mark(mut raw: impl Read + Send + 'static) -> io::Result<Input> {
    let mut head = [0; 3];
    let n_head = read_up_to(&mut raw, &mut head)?;
    let head = &head[..n_head];
    if let Some((_, name)) = UTF16_MARKS.iter().find(|(mark, _)| head.starts_with(mark)) {
        let problem = format!("it is not UTF-8: set `encoding: {name}`");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let n_mark = if head == UTF8_MARK { head.len() } else { 0 };
    let start = io::Cursor::new(head[n_mark..].to_vec());
    Ok(Input { text: Box::new(start.chain(raw)), offset: n_mark as u64 })
}

/// Fills `buffer` as far as the file goes.
fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < buffer.len() {
        match file.read(&mut buffer[n_read..]) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n_read)
}

/// Counts the bytes of a compressed file as they are read.
struct Counted {
    file: File,
    n_bytes: Arc<AtomicU64>,
}

impl Counted {
    fn new(file: File) -> (BufReader<Counted>, Arc<AtomicU64>) {
        let n_bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted { file, n_bytes: Arc::clone(&n_bytes) };
        (BufReader::with_capacity(READ_BYTES, counted), n_bytes)
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.n_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Refuses a compressed file that becomes absurdly large.
struct Limited<R> {
    text: R,
    consumed: Arc<AtomicU64>,
    produced: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.text.read(buffer)?;
        self.produced += n as u64;
        let consumed = self.consumed.load(Ordering::Relaxed);
        if self.produced > EXPANSION_FREE_BYTES.max(consumed.saturating_mul(EXPANSION_MAX)) {
            let problem = format!("it expands to more than {EXPANSION_MAX} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(n)
    }
}

/// Turns text in some encoding into UTF-8.
struct Transcoded<R> {
    raw: BufReader<R>,
    decoder: Decoder,
    ended: bool,
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let block = self.raw.fill_buf()?;
            let last = block.is_empty();
            let (result, n_read, n_written, _) = self.decoder.decode_to_utf8(block, buffer, last);
            self.raw.consume(n_read);
            self.ended = last && result == CoderResult::InputEmpty;
            if n_written > 0 || (result == CoderResult::OutputFull && n_read == 0) {
                return Ok(n_written);
            }
        }
        Ok(0)
    }
}
