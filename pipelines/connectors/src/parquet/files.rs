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
use arrow::array::RecordBatch;
use foreline_engine::Schema;
use sha2::{Digest, Sha256};

use super::manifest::sync_folder;
use super::{Codec, ParquetConfig};

/// What files say wrote them; no version, so that the same rows give the same bytes.
const CREATED_BY: &str = "foreline";
const LEVEL_DEFAULT: i32 = 3;

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
    Ok(WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(CREATED_BY.to_owned())
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_sorting_columns(Some(sorting.collect()))
        .build())
}

/// Writes `rows` to `path`: under another name first, renamed when all of it is on disk.
pub(super) fn write(
    path: &Path,
    rows: &RecordBatch,
    properties: &WriterProperties,
) -> Result<Written, ParquetError> {
    let temporary = temporary(path);
    let file = Hashed { file: File::create(&temporary)?, digest: Sha256::new(), bytes: 0 };
    let mut writer = ArrowWriter::try_new(
        BufWriter::new(file),
        Arc::clone(rows.schema_ref()),
        Some(properties.clone()),
    )?;
    writer.write(rows)?;
    let buffered = writer.into_inner()?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    let sha256 = file.digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Written { bytes: file.bytes, sha256 })
}

/// The name of a file that is not yet whole: hidden, and not matched by `*.parquet`.
fn temporary(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Counts and digests what is written.
struct Hashed {
    file: File,
    digest: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buffer)?;
        self.digest.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
