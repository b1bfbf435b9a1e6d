//! What a folder of the Parquet sink holds, as a reader has it who follows its manifest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::display::array_value_to_string;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// A row by column; a floating-point number is its bits.
pub type Row = BTreeMap<String, String>;

/// All rows there are, corrections among them, each with the generation that wrote it.
///
/// # Errors
/// When the folder is not one of the Parquet sink.
pub fn rows(folder: &Path) -> Result<Vec<(u64, Row)>> {
    let text = fs::read(folder.join("_manifest.json"))
        .with_context(|| format!("the manifest of '{}'", folder.display()))?;
    let manifest: Value = serde_json::from_slice(&text)?;
    let mut rows = Vec::new();
    for entry in manifest["files"].as_array().context("a manifest lists files")? {
        let name = entry["name"].as_str().context("a file has a name")?;
        let generation = entry["generation"].as_u64().context("a file has a generation")?;
        let file = File::open(folder.join(name)).with_context(|| format!("'{name}' is listed"))?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                rows.push((generation, read(&batch, row)?));
            }
        }
    }
    Ok(rows)
}

/// The rows that stand: those with the greatest generation and revision of each `id`, unless that one is deleted.
///
/// # Errors
/// As [`rows`], and when a revision is there twice.
pub fn settled(folder: &Path, id: &[&str]) -> Result<BTreeMap<Vec<String>, Row>> {
    let mut last: BTreeMap<Vec<String>, ((u64, u64), bool, Row)> = BTreeMap::new();
    for (generation, mut row) in rows(folder)? {
        let revision = row.remove("_revision").map_or(Ok(0), |r| r.parse())?;
        let deleted = row.remove("_deleted").is_some_and(|d| d == "true");
        let key: Vec<String> = id.iter().filter_map(|name| row.get(*name)).cloned().collect();
        let version = (generation, revision);
        let before = last.get(&key).map(|(version, ..)| *version);
        ensure!(before != Some(version), "revision {revision} of {key:?} is there twice");
        if before < Some(version) {
            last.insert(key, (version, deleted, row));
        }
    }
    let stands = last.into_iter().filter(|(_, (_, deleted, _))| !deleted);
    Ok(stands.map(|(key, (_, _, row))| (key, row)).collect())
}

fn read(batch: &RecordBatch, row: usize) -> Result<Row> {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.zip(batch.columns()).map(|(name, column)| Ok((name, cell(column, row)?))).collect()
}

fn cell(column: &ArrayRef, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("null".to_owned());
    }
    Ok(match column.as_primitive_opt::<Float64Type>() {
        Some(numbers) => format!("{:016x}", numbers.value(row).to_bits()),
        None => array_value_to_string(column, row)?,
    })
}
