//! Reading back what the sink has written, and what others write.

use foreline_engine::{
    Decoded, Expression, ExpressionError, KnownPartition, Poll, ReadUpTo, Resolver, Source,
};
use serde_json::json;

use super::*;
use crate::kind::{ColumnConfig, SourceInputs, SourceKind as _};
use crate::parquet::{ParquetFiles, ParquetSourceConfig};

pub(super) struct Folder0(pub(super) std::path::PathBuf);

impl Resolver for Folder0 {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a source has no expressions")
    }

    fn path(&self, path: &Path) -> std::path::PathBuf {
        self.0.join(path)
    }

    fn cache_dir(&self) -> std::path::PathBuf {
        self.0.clone()
    }

    fn checking(&self) -> bool {
        false
    }
}

fn source(folder: &Path, path: &str) -> Box<dyn Source> {
    let config: ParquetSourceConfig = parse_config(&json!({ "path": path })).unwrap();
    let types = [("machine", "string"), ("cycle", "int64"), ("v", "float64")];
    let column = |t: &str| serde_json::from_value::<ColumnConfig>(json!({ "type": t })).unwrap();
    let columns: Vec<_> = types.iter().map(|(n, t)| ((*n).to_owned(), column(t))).collect();
    let schema = schema();
    let inputs = SourceInputs { columns: &columns, schema: &schema };
    (ParquetFiles::plan(&config, &inputs, &Folder0(folder.to_owned())).unwrap().open)().unwrap()
}

/// The chunks of a source, with what is known of its files.
fn chunks(source: &mut dyn Source) -> (Vec<foreline_engine::Chunk>, Vec<KnownPartition>) {
    let (mut chunks, mut known) = (Vec::new(), Vec::<KnownPartition>::new());
    while let Poll::Ready(chunk) = source.poll(1).unwrap() {
        let read = ReadUpTo { end: chunk.range.end, end_ordinal: chunk.range.end_ordinal };
        known.retain(|k| k.partition != chunk.partition);
        known.push(KnownPartition {
            partition: chunk.partition,
            name: source.partition_name(chunk.partition).unwrap(),
            identity: source.identity(chunk.partition),
            read: Some(read),
        });
        chunks.push(chunk);
    }
    (chunks, known)
}

fn decoded(source: &dyn Source, chunks: &[foreline_engine::Chunk]) -> (Vec<String>, Decoded) {
    let mut out = Decoded::default();
    let mut decoder = source.decoder();
    chunks.iter().for_each(|chunk| decoder.decode(chunk, &mut out));
    let cell = |c: &ArrayRef, row| array_value_to_string(c, row).unwrap();
    let row = |b: &RecordBatch, row| {
        b.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(" ")
    };
    let rows = out.rows.iter().flat_map(|(b, _)| (0..b.num_rows()).map(move |r| row(b, r)));
    (rows.collect(), out)
}

pub(super) fn read(folder: &Path, path: &str) -> Vec<String> {
    let mut source = source(folder, path);
    let (chunks, _) = chunks(&mut *source);
    decoded(&*source, &chunks).0
}

#[test]
fn what_the_sink_wrote_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({ "row_group_rows": 2 }));
    sink.write(1, &[batch(&[("b", 2, 0.5), ("b", 1, 1.5), ("a", 9, f64::NAN)])]).unwrap();
    sink.commit(1).unwrap();
    sink.write(2, &[batch(&[("a", 10, -0.0)])]).unwrap();
    sink.commit(2).unwrap();
    fs::write(folder.path().join("rul/part-00000009-00000009.parquet"), "a leftover").unwrap();
    let rows = read(folder.path(), "rul");
    assert_eq!(rows, ["a 9 ", "b 1 1.5", "b 2 0.5", "a 10 -0.0"], "NaN is null");
}

#[test]
fn a_row_that_was_corrected_is_read_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    sink.write(1, &[batch(&[("a", 1, 0.5), ("a", 2, 0.5), ("a", 3, 0.5), ("a", 4, 0.5)])]).unwrap();
    sink.commit(1).unwrap();
    let corrected = |rows: &[(&str, i64, f64)], revision: u32, deleted: bool| Batch {
        revision: Some(UInt32Array::from(vec![revision; rows.len()])),
        deleted: Some(BooleanArray::from(vec![deleted; rows.len()])),
        ..batch(rows)
    };
    sink.write(2, &[corrected(&[("a", 2, 1.5), ("a", 3, 1.5)], 1, false)]).unwrap();
    sink.commit(2).unwrap();
    sink.write(3, &[corrected(&[("a", 2, 2.5)], 2, false), corrected(&[("a", 3, 2.5)], 2, true)])
        .unwrap();
    sink.commit(3).unwrap();
    assert_eq!(read(folder.path(), "rul"), ["a 1 0.5", "a 4 0.5", "a 2 2.5"]);
}

#[test]
fn rows_of_a_later_generation_stand_for_those_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path(), json!({}));
    first.write(1, &[batch(&[("a", 1, 0.5), ("a", 2, 0.5)])]).unwrap();
    first.commit(1).unwrap();
    let mut second = sink(folder.path(), json!({ "if_exists": "append" }));
    second.open(RunId(2), 2, &schema()).unwrap();
    second.write(1, &[batch(&[("a", 2, 7.5), ("a", 3, 7.5)])]).unwrap();
    second.commit(1).unwrap();
    assert_eq!(read(folder.path(), "rul"), ["a 1 0.5", "a 2 7.5", "a 3 7.5"]);
}

#[test]
fn row_groups_are_read_again_and_a_run_goes_on_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({ "row_group_rows": 2 }));
    for epoch in 1..=2 {
        let rows: Vec<(&str, i64, f64)> =
            (0..5).map(|i| ("a", i + 10 * i64::try_from(epoch).unwrap(), 0.5)).collect();
        sink.write(epoch, &[batch(&rows)]).unwrap();
        sink.commit(epoch).unwrap();
    }
    let mut whole = source(folder.path(), "rul");
    let (all, _) = chunks(&mut *whole);
    assert_eq!(all.len(), 6, "three row groups in each of two files");
    let rows = decoded(&*whole, &all).0;
    for cut in 1..all.len() {
        let mut first = source(folder.path(), "rul");
        let mut known = Vec::<KnownPartition>::new();
        for chunk in &all[..cut] {
            let Poll::Ready(polled) = first.poll(1).unwrap() else { panic!("there is more") };
            assert_eq!(polled.payload, chunk.payload);
            known.retain(|k| k.partition != chunk.partition);
            let read = ReadUpTo { end: chunk.range.end, end_ordinal: chunk.range.end_ordinal };
            let (name, identity) = (String::new(), first.identity(chunk.partition));
            known.push(KnownPartition {
                partition: chunk.partition,
                name,
                identity,
                read: Some(read),
            });
        }
        let mut second = source(folder.path(), "rul");
        second.resume(&known).unwrap();
        let mut got = Vec::new();
        for chunk in &all[..cut] {
            got.push(second.read(chunk.partition, chunk.range).unwrap());
        }
        got.extend(chunks(&mut *second).0);
        assert_eq!(decoded(&*second, &got).0, rows, "{cut}");
    }
}

#[test]
fn a_file_that_became_known_before_anything_of_it_counted_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({ "row_group_rows": 2 }));
    for epoch in 1..=3 {
        let cycle = 10 * i64::try_from(epoch).unwrap();
        sink.write(epoch, &[batch(&[("a", cycle, 0.5), ("a", cycle + 1, 0.5), ("b", cycle, 0.5)])])
            .unwrap();
        sink.commit(epoch).unwrap();
    }
    let (all, mut known) = chunks(&mut *source(folder.path(), "rul"));
    let after_first = ReadUpTo { end: all[0].range.end, end_ordinal: all[0].range.end_ordinal };
    known.iter_mut().for_each(|k| k.read = None);
    for (read, n_had) in [(None, 0), (Some(after_first), 1)] {
        known[0].read = read;
        let mut again = source(folder.path(), "rul");
        again.resume(&known).unwrap();
        let (got, _) = chunks(&mut *again);
        assert_eq!(decoded(&*again, &got).0, decoded(&*again, &all[n_had..]).0);
    }
}

#[test]
fn a_file_without_rows_leaves_no_gap_in_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema();
    for (name, rows) in [("a", None), ("b", Some(batch(&[("x", 1, 0.5)])))] {
        let file = File::create(folder.path().join(format!("{name}.parquet"))).unwrap();
        let mut writer =
            ::parquet::arrow::ArrowWriter::try_new(file, Arc::clone(schema.arrow()), None).unwrap();
        rows.iter().for_each(|rows| writer.write(&rows.rows).unwrap());
        writer.close().unwrap();
    }
    let (chunks, known) = chunks(&mut *source(folder.path(), "*.parquet"));
    assert_eq!((chunks.len(), known[0].partition.0), (1, 0));
}

#[test]
fn a_folder_that_was_written_to_meanwhile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({}));
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    sink.commit(1).unwrap();
    let (_, known) = chunks(&mut *source(folder.path(), "rul"));
    sink.write(2, &[batch(&[("a", 2, 0.5)])]).unwrap();
    sink.commit(2).unwrap();
    let error = source(folder.path(), "rul").resume(&known).unwrap_err().to_string();
    assert!(error.contains("the manifest beside it lists other files"), "{error}");
}

#[test]
fn types_of_other_writers_are_read_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("extra", Arc::new(Int64Array::from(vec![0, 0, 0, 0]))),
        (
            "machine",
            Arc::new(arrow::array::StringArray::from(vec![Some("a"), Some("b"), None, Some("d")])),
        ),
        ("cycle", Arc::new(arrow::array::Int32Array::from(vec![1, 2, 3, 4]))),
        ("v", Arc::new(arrow::array::Float32Array::from(vec![0.5, f32::INFINITY, 1.5, f32::NAN]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let path = folder.path().join("theirs.parquet");
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), None)
            .unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    for path in ["theirs.parquet", "*.parquet", "."] {
        let mut source = source(folder.path(), path);
        let (chunks, _) = chunks(&mut *source);
        let (rows, out) = decoded(&*source, &chunks);
        assert_eq!(rows, ["a 1 0.5", "d 4 "]);
        let reasons: Vec<String> = out.dead.iter().map(|d| d.reason.to_string()).collect();
        assert_eq!(
            (out.records, reasons),
            (4, vec!["non_finite".to_owned(), "missing_key".to_owned()])
        );
    }
}

#[test]
fn damage_in_a_row_group_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(folder.path(), json!({ "compression": "none" }));
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    sink.commit(1).unwrap();
    let path = folder.path().join("rul").join(&files(folder.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4..40].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let mut source = source(folder.path(), "rul");
    let (chunks, _) = chunks(&mut *source);
    let (rows, out) = decoded(&*source, &chunks);
    assert_eq!((rows.len(), out.dead.len(), out.records), (0, 1, 1));
}
