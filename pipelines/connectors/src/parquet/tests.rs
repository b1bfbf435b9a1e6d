//! Tests of the whole sink, read back with a Parquet reader as any other program would.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, UInt32Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Batch, Column, Committed, RunId, Schema, Sink, SinkError, hash_keys, parse_config,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::folder::Folder;
use super::manifest::Manifest;
use super::sink::ParquetSink;
use super::{ParquetConfig, mistakes};

mod bucket;
mod moto;
mod reading;
mod upkeep;
mod waveforms;

const RUN: RunId = RunId(1);

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// Rows of machine, cycle and value, in this order; their positions count from 1.
fn batch(rows: &[(&str, i64, f64)]) -> Batch {
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|r| r.0).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machines),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Float64Array>()),
    ];
    let schema = schema();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let positions: Vec<u64> = (1..=rows.num_rows() as u64).collect();
    Batch::new(rows.clone(), hash_keys(&rows, schema.key()), positions.into()).unwrap()
}

fn sink(folder: &Path, mut config: Value) -> ParquetSink {
    config["path"] = json!("lake");
    let config: ParquetConfig = parse_config(&config).unwrap();
    assert_eq!(mistakes(&config), []);
    let place = Box::new(Folder::new(&folder.join("rul")));
    ParquetSink::new(place, "rul", config)
}

fn open(folder: &Path, config: Value) -> ParquetSink {
    let mut sink = sink(folder, config);
    assert_eq!(sink.open(RUN, 1, &schema()).unwrap(), None);
    sink
}

/// The Parquet files that a glob finds, in order.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder.join("rul")).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".parquet")).collect();
    names.sort();
    names
}

/// The rows of a file, each as text.
fn rows(folder: &Path, name: &str) -> Vec<String> {
    let file = File::open(folder.join("rul").join(name)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.schema().field(0).data_type(), &DataType::Utf8);
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let all = concat_batches(&schema, &batches).unwrap();
    let cell = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
    let row = |row| all.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(" ");
    (0..all.num_rows()).map(row).collect()
}

/// All rows that a glob finds.
fn all_rows(folder: &Path) -> Vec<String> {
    files(folder).iter().flat_map(|name| rows(folder, name)).collect()
}

fn manifest(folder: &Path) -> Manifest {
    Manifest::load(&folder.join("rul")).unwrap().unwrap()
}

#[test]
fn rows_are_sorted_and_appear_with_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    sink.write(1, &[batch(&[("b", 2, 0.5), ("b", 1, 1.5), ("a", 9, 2.5)])]).unwrap();
    sink.write(2, &[batch(&[("a", 3, 3.5)]), batch(&[("a", 3, 4.5)])]).unwrap();
    assert_eq!(files(folder.path()), [""; 0]);
    assert_eq!(sink.commit(3).unwrap(), Committed::Yes(3));
    assert_eq!(files(folder.path()), ["part-00000001-00000003.parquet"]);
    let expected = ["a 3 3.5", "a 3 4.5", "a 9 2.5", "b 1 1.5", "b 2 0.5"];
    assert_eq!(all_rows(folder.path()), expected);
}

#[test]
fn the_manifest_describes_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    sink.write(4, &[batch(&[("a", 1, 0.5)])]).unwrap();
    sink.commit(5).unwrap();
    sink.commit(6).unwrap();
    assert_eq!(sink.commit(6).unwrap(), Committed::Yes(6));
    let found = manifest(folder.path());
    let [file] = &found.files[..] else { panic!("there is one file") };
    let bytes = fs::read(folder.path().join("rul").join(&file.name)).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((file.from, file.to, file.rows, file.bytes), (4, 5, 1, bytes.len() as u64));
    assert_eq!((&file.sha256, found.committed), (&digest, Some(6)));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let bytes = || {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), json!({ "row_group_rows": 2 }));
        sink.write(1, &[batch(&[("b", 2, 0.5), ("b", 3, 1.5), ("a", 9, 2.5)])]).unwrap();
        sink.commit(1).unwrap();
        fs::read(folder.path().join("rul").join(&files(folder.path())[0])).unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn every_codec_can_be_read() {
    for config in [
        json!({ "level": 9 }),
        json!({ "compression": "snappy" }),
        json!({ "compression": "none" }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), config);
        sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
        sink.commit(1).unwrap();
        assert_eq!(all_rows(folder.path()), ["a 1 0.5"]);
    }
}

#[test]
fn a_sink_is_full_when_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({ "file_rows": 2 }));
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    assert!(!sink.full());
    sink.write(2, &[batch(&[("a", 2, 0.5)])]).unwrap();
    assert!(sink.full());
    sink.commit(2).unwrap();
    assert!(!sink.full());
}

#[test]
fn corrections_lie_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    let corrected = Batch {
        revision: Some(UInt32Array::from(vec![0, 1, 2])),
        deleted: Some(BooleanArray::from(vec![false, false, true])),
        ..batch(&[("a", 1, 0.5), ("a", 2, 1.5), ("a", 3, 2.5)])
    };
    sink.write(1, &[corrected]).unwrap();
    sink.commit(1).unwrap();
    assert_eq!(all_rows(folder.path()), ["a 1 0.5"]);
    let found = rows(folder.path(), "_corrections/part-00000001-00000001.parquet");
    assert_eq!(found, ["a 2 1.5 1 false", "a 3 2.5 2 true"]);
}

#[test]
fn the_same_generation_goes_on_and_a_newer_run_fences() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(folder.path(), json!({}));
    old.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    old.commit(1).unwrap();
    let mut new = sink(folder.path(), json!({}));
    assert_eq!(new.open(RunId(2), 1, &schema()).unwrap(), Some(1));
    old.write(2, &[batch(&[("a", 2, 9.5)])]).unwrap();
    assert!(matches!(old.commit(2), Err(SinkError::Fenced(RunId(2)))));
    assert!(matches!(old.open(RUN, 1, &schema()), Err(SinkError::Fenced(RunId(2)))));
    new.write(2, &[batch(&[("a", 2, 1.5)])]).unwrap();
    new.commit(2).unwrap();
    assert_eq!(all_rows(folder.path()), ["a 1 0.5", "a 2 1.5"]);
}

#[test]
fn rows_of_an_earlier_generation() {
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), json!({}));
        sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
        sink.commit(1).unwrap();
        fs::write(folder.path().join("rul/mine.parquet"), "not ours").unwrap();
        folder
    };
    let folder = start();
    let refused = sink(folder.path(), json!({})).open(RunId(2), 2, &schema()).unwrap_err();
    assert!(refused.to_string().contains("already has 1 rows of an earlier run"), "{refused}");
    assert_eq!(manifest(folder.path()).run, RUN);
    for (how, expected) in [
        ("replace", &["mine.parquet", "part-00000001-00000001.parquet"][..]),
        (
            "append",
            &["mine.parquet", "part-00000001-00000001.parquet", "part-2-00000001-00000001.parquet"],
        ),
    ] {
        let folder = start();
        let mut sink = sink(folder.path(), json!({ "if_exists": how }));
        assert_eq!(sink.open(RunId(2), 2, &schema()).unwrap(), None);
        sink.write(1, &[batch(&[("b", 1, 7.5)])]).unwrap();
        sink.commit(1).unwrap();
        assert_eq!(files(folder.path()), expected);
        assert_eq!(rows(folder.path(), expected.last().unwrap()), ["b 1 7.5"]);
        assert_eq!(fs::read(folder.path().join("rul/mine.parquet")).unwrap(), b"not ours");
    }
}

#[test]
fn files_like_ours_without_a_manifest_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rul")).unwrap();
    let stranger = folder.path().join("rul/part-00000001-00000001.parquet");
    fs::write(&stranger, "not ours").unwrap();
    let error = sink(folder.path(), json!({ "if_exists": "replace" })).open(RUN, 1, &schema());
    assert!(error.unwrap_err().to_string().contains("but no manifest"));
    assert!(stranger.exists());
}

/// A crash can stop a commit between any two of its steps; what each leaves behind is built here by hand.
#[test]
fn a_crash_between_any_two_steps_leaves_a_readable_folder() {
    let leave = |step: &str, folder: &Path| {
        let at = |name: &str| folder.join("rul").join(name);
        match step {
            "half a file" => {
                fs::write(at(".part-00000002-00000002.parquet.tmp"), "PAR1 half").unwrap()
            }
            "a file that is not listed" => {
                fs::copy(
                    at("part-00000001-00000001.parquet"),
                    at("part-00000002-00000002.parquet"),
                )
                .map(|_| ())
                .unwrap();
            }
            _ => fs::write(at("._manifest.json.tmp"), "{ \"version\"").unwrap(),
        }
    };
    for step in ["half a file", "a file that is not listed", "half a manifest"] {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), json!({}));
        sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
        sink.commit(1).unwrap();
        leave(step, folder.path());
        for name in files(folder.path()) {
            assert_eq!(rows(folder.path(), &name), ["a 1 0.5"], "{step}: '{name}' can be read");
        }
        assert_eq!(sink.open(RunId(2), 1, &schema()).unwrap(), Some(1), "{step}");
        assert_eq!(files(folder.path()), ["part-00000001-00000001.parquet"], "{step}");
        sink.write(2, &[batch(&[("a", 2, 1.5)])]).unwrap();
        sink.commit(2).unwrap();
        assert_eq!(all_rows(folder.path()), ["a 1 0.5", "a 2 1.5"], "{step}");
    }
}

#[test]
fn a_commit_that_fails_shows_nothing_and_can_be_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    let blocked = folder.path().join("rul/._manifest.json.tmp");
    fs::create_dir(&blocked).unwrap();
    assert!(matches!(sink.commit(1), Err(SinkError::Fatal(_))));
    fs::remove_dir(&blocked).unwrap();
    assert_eq!(sink.open(RunId(2), 1, &schema()).unwrap(), None);
    assert_eq!(files(folder.path()), [""; 0]);
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    sink.commit(1).unwrap();
    assert_eq!(all_rows(folder.path()), ["a 1 0.5"]);
}

#[test]
fn mistakes_in_the_configuration() {
    let at = |config: Value| -> Vec<String> {
        let config: ParquetConfig = parse_config(&config).unwrap();
        mistakes(&config).into_iter().map(|e| e.at).collect()
    };
    assert_eq!(
        at(json!({ "path": "", "row_group_rows": 0, "file_rows": 0, "level": 23 })),
        ["path", "row_group_rows", "file_rows", "level",]
    );
    assert_eq!(at(json!({ "path": "x", "compression": "snappy", "level": 3 })), ["level"]);
}
