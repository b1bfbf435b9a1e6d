//! Keeps a folder small: many small files become one, and rows that nobody wants any more go.
//!
//! What a reader would get wrong: no row changes by it, and nothing of it is needed for a commit. What takes part in a merge is
//! listed until what it becomes is; a crash in between leaves a file that no manifest lists, which goes when the sink is opened.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{Array as _, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, max, take};
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use foreline_engine::Schema;
use sha2::{Digest as _, Sha256};

use super::manifest::{FileEntry, FileKind, Manifest};
use super::sorted::file_schema;

/// So many files of a kind lie side by side before they become one.
const FILES_MIN: usize = 8;
/// A merge takes no more bytes of files: in memory they are several times as many.
const BYTES_MAX: u64 = 32 << 20;

/// The files that are to become one, neighbours in time and of one kind and computation: the longest such row that ends with the
/// newest file, of which none is larger than all others together. So a row is written a few times in its life, however many
/// commits there are.
pub(super) fn mergeable(manifest: &Manifest, rows_max: usize) -> Option<Vec<usize>> {
    [FileKind::Rows, FileKind::Corrections].into_iter().find_map(|kind| {
        let of_kind =
            |(_, f): &(usize, &FileEntry)| f.kind == kind && f.generation == manifest.generation;
        let all: Vec<(usize, &FileEntry)> =
            manifest.files.iter().enumerate().filter(of_kind).collect();
        let (mut rows, mut bytes, mut largest, mut best) = (0, 0, 0, None);
        for (n, (_, file)) in all.iter().rev().enumerate() {
            rows += file.rows;
            bytes += file.bytes;
            largest = largest.max(file.rows);
            if rows > rows_max as u64 || bytes > BYTES_MAX {
                break;
            }
            if n + 1 >= FILES_MIN && largest <= rows - largest {
                best = Some(all.len() - 1 - n..all.len());
            }
        }
        best.map(|found: Range<usize>| all[found].iter().map(|(at, _)| *at).collect())
    })
}

/// The rows of files, in the order of one; the files come oldest first.
pub(super) fn merged(
    schema: &Schema,
    kind: FileKind,
    files: Vec<(&FileEntry, Bytes)>,
) -> Result<RecordBatch, String> {
    let arrow = file_schema(schema, kind == FileKind::Corrections);
    let mut batches = Vec::new();
    for (entry, bytes) in files {
        let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        if digest != entry.sha256 {
            return Err(format!("'{}' is not what was written: it is damaged", entry.name));
        }
        let failed = |e: &dyn std::fmt::Display| format!("'{}' cannot be read: {e}", entry.name);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(&e))?;
        for batch in reader.build().map_err(|e| failed(&e))? {
            let batch = batch.map_err(|e| failed(&e))?;
            let columns = arrow.fields().iter().map(|field| {
                let column = batch.column_by_name(field.name());
                let column = column.filter(|c| c.data_type() == field.data_type());
                column.cloned().ok_or_else(|| failed(&format!("its '{}' is another", field.name())))
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let made = RecordBatch::try_new(Arc::clone(&arrow), columns);
            batches.push(made.map_err(|e| failed(&e))?);
        }
    }
    sorted(schema, &concat_batches(&arrow, &batches).map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())
}

/// Rows by key and time, ties as they came.
fn sorted(schema: &Schema, rows: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let n = u32::try_from(rows.num_rows()).map_err(|_| {
        arrow::error::ArrowError::ComputeError("too many rows for a file".to_owned())
    })?;
    let came: UInt32Array = (0..n).collect::<Vec<_>>().into();
    let by =
        schema.key().iter().copied().chain([schema.time()]).map(|i| Arc::clone(rows.column(i)));
    let by = by.chain([Arc::new(came) as _]);
    let by: Vec<SortColumn> = by.map(|values| SortColumn { values, options: None }).collect();
    let order = lexsort_to_indices(&by, None)?;
    let columns = rows.columns().iter().map(|c| take(c, &order, None)).collect::<Result<_, _>>()?;
    RecordBatch::try_new(rows.schema(), columns)
}

/// The greatest event time of rows, in its unit.
pub(super) fn latest(schema: &Schema, rows: &RecordBatch) -> Option<i64> {
    let column = rows.column(schema.time());
    match column.data_type() {
        DataType::Timestamp(..) => max(column.as_primitive_opt::<TimestampNanosecondType>()?),
        DataType::Int64 => max(column.as_primitive_opt::<Int64Type>()?),
        _ => None,
    }
}

/// Takes the files off the list whose rows are all older than `keep`, counted back from the newest row that there is; their names.
pub(super) fn expire(manifest: &mut Manifest, keep: i64) -> Vec<String> {
    let Some(newest) = manifest.files.iter().filter_map(|f| f.latest).max() else {
        return Vec::new();
    };
    let oldest = newest.saturating_sub(keep);
    let mut gone = Vec::new();
    manifest.files.retain(|file| {
        let stays = file.latest.is_none_or(|latest| latest >= oldest);
        if !stays {
            gone.push(file.name.clone());
        }
        stays
    });
    gone
}

#[cfg(test)]
mod tests {
    use foreline_engine::RunId;

    use super::*;

    fn manifest(sizes: &[u64]) -> Manifest {
        let mut manifest = Manifest::new("rul", RunId(1), 1);
        manifest.files = sizes
            .iter()
            .zip(1..)
            .map(|(&rows, at)| FileEntry {
                name: format!("{at}"),
                kind: FileKind::Rows,
                generation: 1,
                from: at,
                to: at,
                rows,
                bytes: rows,
                sha256: String::new(),
                latest: None,
            })
            .collect();
        manifest
    }

    #[test]
    fn neighbours_are_merged_when_none_outweighs_the_others() {
        let of = |sizes: &[u64]| mergeable(&manifest(sizes), 1_000).map(|found| found.len());
        assert_eq!(of(&[1; 7]), None, "too few");
        assert_eq!(of(&[1; 8]), Some(8));
        assert_eq!(of(&[100, 1, 1, 1, 1, 1, 1, 1, 1, 1]), Some(9), "the large one stays");
        assert_eq!(of(&[100, 1, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(of(&[600, 100, 100, 100, 100, 100, 100, 100, 100, 100]), Some(9), "rows_max");
        assert_eq!(of(&[1, 1, 1, 1, 1, 1, 1, 1, 700]), None);
    }

    /// Whatever the number of commits, few files stay and a row is written again a few times.
    #[test]
    fn files_stay_few_and_rows_are_seldom_written_again() {
        let mut manifest = manifest(&[]);
        let (mut written, commits) = (0, 10_000);
        for at in 1..=commits {
            manifest.files.push(FileEntry {
                from: at,
                to: at,
                rows: 10,
                ..self::manifest(&[10]).files.remove(0)
            });
            while let Some(found) = mergeable(&manifest, 500_000) {
                let rows = found.iter().map(|&i| manifest.files[i].rows).sum();
                written += rows;
                let first = found[0];
                assert_eq!(
                    found.last(),
                    Some(&(manifest.files.len() - 1)),
                    "neighbours, the newest"
                );
                manifest.files.truncate(first + 1);
                manifest.files[first].rows = rows;
            }
            assert!(manifest.files.len() < 64, "{} files", manifest.files.len());
        }
        let times = written as f64 / (10.0 * commits as f64);
        assert!(times < 8.0, "every row was written again {times} times");
    }
}
