//! Writes one Parquet file so that it is whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::SortingColumn;
use ::parquet::file::properties::WriterProperties;
use ::parquet::schema::types::ColumnPath;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use foreline_engine::Schema;
use sha2::{Digest, Sha256};

use super::manifest::sync_folder;
use super::{Codec, ParquetConfig};

/// What files say wrote them; no version, so that the same rows give the same bytes.
const CREATED_BY: &str = "foreline";
const LEVEL_DEFAULT: i32 = 3;
/// How often a filter says that a key is there which is not.
const FILTER_WRONG: f64 = 0.01;
/// The keys that a filter has room for, 12 KiB; it is folded down to what is there, and with more it says yes more often.
const FILTER_KEYS: u64 = 10_000;

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// How files of `schema` are written.
pub(super) fn properties(
    config: &ParquetConfig,
    schema: &Schema,
) -> Result<WriterProperties, ParquetError> {
    let compression = match config.compression {
        Codec::Zstd => {
            Compression::ZSTD(ZstdLevel::try_new(config.level.unwrap_or(LEVEL_DEFAULT))?)
        }
        Codec::Snappy => Compression::SNAPPY,
        Codec::None => Compression::UNCOMPRESSED,
    };
    let sorting = schema.key().iter().copied().chain([schema.time()]).filter_map(|i| {
        let column_idx = i32::try_from(i).ok()?;
        Some(SortingColumn { column_idx, descending: false, nulls_first: true })
    });
    // Statistics of a group tell the least and the greatest key; a filter tells which of those between are not in it.
    let texts =
        schema.key().iter().map(|&i| &schema.columns()[i]).filter(|c| is_text(&c.data_type));
    let builder = texts.fold(WriterProperties::builder(), |builder, column| {
        let path = ColumnPath::from(column.name.as_str());
        builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), FILTER_WRONG)
            .set_column_bloom_filter_max_ndv(path, FILTER_KEYS)
    });
    Ok(builder
        .set_compression(compression)
        .set_created_by(CREATED_BY.to_owned())
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_sorting_columns(Some(sorting.collect()))
        .build())
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8),
    }
}

/// Writes `rows` to `path`: under another name first, renamed when all of it is on disk.
pub(super) fn write(
    path: &Path,
    rows: &RecordBatch,
    properties: &WriterProperties,
) -> Result<Written, ParquetError> {
    let temporary = temporary(path);
    let buffered = encode_into(BufWriter::new(File::create(&temporary)?), rows, properties)?;
    let written = buffered.written();
    let file = buffered.to.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(written)
}

/// The bytes of a file of `rows`.
pub(super) fn encode(
    rows: &RecordBatch,
    properties: &WriterProperties,
) -> Result<(Vec<u8>, Written), ParquetError> {
    let encoded = encode_into(Vec::new(), rows, properties)?;
    let written = encoded.written();
    Ok((encoded.to, written))
}

fn encode_into<W: Write + Send>(
    to: W,
    rows: &RecordBatch,
    properties: &WriterProperties,
) -> Result<Hashed<W>, ParquetError> {
    let hashed = Hashed { to, digest: Sha256::new(), bytes: 0 };
    let schema = Arc::clone(rows.schema_ref());
    let mut writer = ArrowWriter::try_new(hashed, schema, Some(properties.clone()))?;
    writer.write(rows)?;
    writer.into_inner()
}

/// The name of a file that is not yet whole: hidden, and not matched by `*.parquet`.
fn temporary(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Counts and digests what is written.
struct Hashed<W> {
    to: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn written(&self) -> Written {
        let sha256 = self.digest.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
        Written { bytes: self.bytes, sha256 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.to.write(buffer)?;
        self.digest.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
