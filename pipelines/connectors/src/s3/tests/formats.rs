//! What is in objects: numbers, lines of JSON, row groups.

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type};

use super::*;

#[test]
fn numbers_are_read_as_from_files() {
    let server = server(&[("a.csv", "machine;cycle;v\nA;1;1,5\nA;x;2,5\n")]);
    let options = json!({ "csv": { "delimiter": ";", "decimal": "," } });
    let mut source = open(server.port(), &options);
    let got = all(&mut *source).unwrap();
    assert_eq!((got.rows.len(), got.n_dead), (1, 1));
    let mut out = Decoded::default();
    source.decoder().decode(&got.chunks[0], &mut out);
    let (rows, positions) = &out.rows[0];
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(rows.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 1.5f64.to_bits());
    assert_eq!((positions.len(), positions.value(0)), (1, 2), "the line in the object");
}

#[test]
fn json_lines_and_parquet_objects_are_read_the_same() {
    let server = server(&[(
        "line=L1/a.ndjson",
        "{\"machine\":\"A\",\"cycle\":1,\"v\":0.5}\n\n{\"machine\":\"A\",\"cycle\":\"x\"}\n{\"machine\":\"A\",\"cycle\":2}",
    )]);
    let options = json!({ "format": "ndjson", "partitions": "line={line}/" });
    let mut source = open(server.port(), &options);
    let got = all(&mut *source).unwrap();
    assert_eq!((got.rows, got.n_dead), (vec!["A 1 0.5 L1".to_owned(), "A 2  L1".to_owned()], 1));
    let mut out = Decoded::default();
    source.decoder().decode(&got.chunks[0], &mut out);
    assert_eq!(foreline_engine::Position(out.dead[0].position.unwrap()).ordinal(), 3, "its line");

    let server = self::server(&[]);
    let rows = arrow::array::RecordBatch::try_from_iter([
        (
            "machine",
            Arc::new(arrow::array::StringArray::from(vec!["A"; 50])) as arrow::array::ArrayRef,
        ),
        ("cycle", Arc::new(arrow::array::Int64Array::from_iter_values(0..50))),
        ("v", Arc::new(arrow::array::Float64Array::from(vec![0.5; 50]))),
    ]);
    let rows = rows.unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(20))
        .build();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))
            .unwrap();
    writer.write(&rows).unwrap();
    server.put("plant", "data/line=L7/x.parquet", &writer.into_inner().unwrap()).unwrap();
    let options = json!({ "format": "parquet", "partitions": "line={line}/" });
    let got = all(&mut *open(server.port(), &options)).unwrap();
    assert_eq!((got.rows.len(), got.chunks.len()), (50, 3), "a chunk is a row group");
    assert_eq!(got.rows[49], "A 49 0.5 L7");
    let mut again = open(server.port(), &options);
    again.resume(&got.known).unwrap();
    for chunk in &got.chunks {
        assert!(again.read(chunk.partition, chunk.range).unwrap().payload == chunk.payload);
    }
    server.put("plant", "data/line=L7/y.parquet", b"not parquet at all").unwrap();
    let error = all(&mut *open(server.port(), &options)).unwrap_err().to_string();
    assert!(error.contains("y.parquet' is not a Parquet file"), "{error}");
}
