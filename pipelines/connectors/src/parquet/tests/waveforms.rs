//! Waveforms in Parquet files: what the sink wrote, and lists as others write them.

use arrow::array::{
    Array as _, AsArray as _, FixedSizeListArray, Int16Array, LargeListArray, ListArray,
    StringArray,
};
use arrow::datatypes::{Field, Float32Type, Float64Type};
use foreline_engine::{Decoded, Poll, Resolver, SampleRate, Source, SourceError, waveform_type};

use super::reading::Folder0;
use super::*;
use crate::kind::{ColumnConfig, SourceInputs, SourceKind as _};
use crate::parquet::{ParquetFiles, ParquetSourceConfig};

const SAMPLES: [f32; 5] = [0.1, -0.0, f32::MAX, 1e-45, 16_777_216.0];

fn waves() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::waveform("v", SampleRate::new(1000.0).unwrap()),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// Rows of machine `a`: cycle and waveform.
fn bursts(rows: &[(i64, Option<&[f32]>)]) -> Batch {
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|_| "a").collect();
    let DataType::List(item) = waveform_type() else { panic!("a waveform is a list") };
    let mut builder = arrow::array::ListBuilder::new(arrow::array::Float32Builder::new());
    builder = builder.with_field(item);
    for (_, samples) in rows {
        builder.append_option(samples.map(|s| s.iter().map(|x| Some(*x))));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machines),
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(builder.finish()),
    ];
    let schema = waves();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let positions: Vec<u64> = (1..=rows.num_rows() as u64).collect();
    Batch::new(rows.clone(), hash_keys(&rows, schema.key()), positions.into()).unwrap()
}

fn open_source(folder: &Path, path: &str) -> Box<dyn Source> {
    let config: ParquetSourceConfig = parse_config(&json!({ "path": path })).unwrap();
    let columns = json!({
        "machine": { "type": "string" },
        "cycle": { "type": "int64" },
        "v": { "type": "waveform", "sample_rate": 1000 },
    });
    let parse = |c: &Value| serde_json::from_value::<ColumnConfig>(c.clone()).unwrap();
    let columns: Vec<_> =
        columns.as_object().unwrap().iter().map(|(n, c)| (n.clone(), parse(c))).collect();
    let schema = waves();
    let inputs = SourceInputs { columns: &columns, schema: &schema };
    let given: &dyn Resolver = &Folder0(folder.to_owned());
    (ParquetFiles::plan(&config, &inputs, given).unwrap().open)().unwrap()
}

/// Cycle and bits of each row, and dead letters.
type Yield = (Vec<(i64, Option<Vec<u32>>)>, Vec<String>);

/// What a source yields.
fn read(folder: &Path, path: &str) -> Result<Yield, SourceError> {
    let mut source = open_source(folder, path);
    let mut decoder = source.decoder();
    let mut out = Decoded::default();
    while let Poll::Ready(chunk) = source.poll(1)? {
        decoder.decode(&chunk, &mut out);
    }
    let dead = out.dead.iter().map(|d| format!("{}: {}", d.reason, d.detail)).collect();
    let mut rows = Vec::new();
    for (batch, _) in &out.rows {
        assert_eq!(*batch.column(2).data_type(), waveform_type());
        let cycles = batch.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        let waves: &ListArray = batch.column(2).as_list();
        for row in 0..batch.num_rows() {
            let samples = waves.value(row);
            let samples = samples.as_primitive::<Float32Type>().values();
            let bits = samples.iter().map(|s| s.to_bits()).collect();
            rows.push((cycles.value(row), waves.is_valid(row).then_some(bits)));
        }
    }
    Ok((rows, dead))
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

#[test]
fn a_waveform_comes_back_bit_for_bit_as_it_was_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), json!({ "row_group_rows": 2 }));
    assert_eq!(sink.open(RUN, 1, &waves()).unwrap(), None);
    sink.write(
        1,
        &[bursts(&[(1, Some(&SAMPLES)), (2, None), (3, Some(&[1.0])), (4, Some(&[2.0, 3.0]))])],
    )
    .unwrap();
    sink.commit(1).unwrap();
    let corrected = Batch {
        revision: Some(UInt32Array::from(vec![1])),
        deleted: Some(BooleanArray::from(vec![false])),
        ..bursts(&[(3, Some(&[0.5, -0.5]))])
    };
    sink.write(2, &[corrected]).unwrap();
    sink.commit(2).unwrap();
    let (rows, dead) = read(folder.path(), "rul").unwrap();
    let expected = [
        (1, Some(bits(&SAMPLES))),
        (2, None),
        (4, Some(bits(&[2.0, 3.0]))),
        (3, Some(bits(&[0.5, -0.5]))),
    ];
    assert_eq!((rows, dead), (expected.to_vec(), vec![]));
}

/// Writes lists of machine `a` as another program would, cycles from 1.
fn theirs(folder: &Path, lists: ArrayRef) {
    let n = i64::try_from(lists.len()).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("machine", Arc::new((0..n).map(|_| Some("a")).collect::<StringArray>())),
        ("cycle", Arc::new((1..=n).collect::<Int64Array>())),
        ("v", lists),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(folder.join("theirs.parquet")).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn lists_of_other_writers_are_waveforms() {
    let folder = tempfile::tempdir().unwrap();
    let doubles = SAMPLES.map(|s| Some(f64::from(s))).to_vec();
    let large = LargeListArray::from_iter_primitive::<Float64Type, _, _>([Some(doubles), None]);
    theirs(folder.path(), Arc::new(large));
    let (rows, dead) = read(folder.path(), "theirs.parquet").unwrap();
    assert_eq!((rows, dead), (vec![(1, Some(bits(&SAMPLES))), (2, None)], vec![]));

    let item = Arc::new(Field::new_list_field(DataType::Int16, false));
    let counts = Arc::new(Int16Array::from(vec![1, -2, 3, -4]));
    theirs(folder.path(), Arc::new(FixedSizeListArray::try_new(item, 2, counts, None).unwrap()));
    let (rows, dead) = read(folder.path(), "*.parquet").unwrap();
    assert_eq!(
        (rows, dead),
        (vec![(1, Some(bits(&[1.0, -2.0]))), (2, Some(bits(&[3.0, -4.0])))], vec![])
    );
}

#[test]
fn a_list_that_is_no_waveform_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![Some(0.0); crate::record::SAMPLES_MAX + 1];
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(1.0), None]),
        Some(vec![]),
        Some(vec![Some(1.0), Some(2.0), Some(f32::INFINITY)]),
        Some(long),
        Some(vec![Some(4.0)]),
    ]);
    theirs(folder.path(), Arc::new(lists));
    let (rows, dead) = read(folder.path(), "theirs.parquet").unwrap();
    assert_eq!(rows, [(5, Some(bits(&[4.0])))]);
    assert_eq!(
        dead,
        [
            "non_finite: column 'v': sample 1 of '(an array)' is no finite number of 32 bits",
            "bad_value: column 'v': '(an array)' has no samples; null stands for a waveform that is missing",
            "non_finite: column 'v': sample 2 of '(an array)' is no finite number of 32 bits",
            "waveform_too_long: column 'v': '(an array)' has more than 1048576 samples: split it",
        ]
    );
}

#[test]
fn a_column_that_is_no_list_of_numbers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    theirs(folder.path(), Arc::new(Float64Array::from(vec![1.5])));
    let error = read(folder.path(), "theirs.parquet").unwrap_err().to_string();
    assert!(error.contains("is not one list of numbers a row"), "{error}");
    let mut texts = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    texts.append_value([Some("1")]);
    theirs(folder.path(), Arc::new(texts.finish()));
    let error = read(folder.path(), "theirs.parquet").unwrap_err().to_string();
    assert!(error.contains("is not one list of numbers a row"), "{error}");
}
