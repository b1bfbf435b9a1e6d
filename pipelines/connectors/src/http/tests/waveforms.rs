//! Waveforms that are pushed, as each kind of body has them.

use arrow::array::{
    Array as _, FixedSizeListArray, Float32Array, Int16Array, LargeListArray, ListArray,
};
use arrow::datatypes::Float32Type;

use super::*;

const SAMPLES: [f32; 5] = [0.1, -0.0, f32::MAX, 1e-45, 16_777_217.0];

/// A source of bursts that runs, and its door.
fn bursts() -> (Box<dyn Source>, Arc<Door>) {
    let columns = json!({
        "t": { "type": "timestamp" },
        "k": { "type": "string" },
        "v": { "type": "waveform", "sample_rate": 25600 },
    });
    let parse = |c: &Value| serde_json::from_value::<ColumnConfig>(c.clone()).unwrap();
    let columns: Vec<(String, ColumnConfig)> =
        columns.as_object().unwrap().iter().map(|(n, c)| (n.clone(), parse(c))).collect();
    let declared = columns.iter().map(|(n, c)| c.declared(n).unwrap()).collect();
    let schema = Schema::new(declared, &["k"], "t").unwrap();
    let config: HttpConfig = parse_config(&json!({})).unwrap();
    let inputs = SourceInputs { columns: &columns, schema: &schema };
    let planned = Http::plan(&config, &inputs, &Nothing).unwrap();
    let mut source = (planned.open)().unwrap();
    assert!(matches!(source.poll(1), Ok(Poll::Pending)), "the first poll opens the door");
    (source, planned.door.unwrap())
}

/// The bits of the waveforms of a body, and why others are none.
fn pushed(content_type: &str, body: &[u8]) -> (Vec<Option<Vec<u32>>>, Vec<String>) {
    let (mut source, door) = bursts();
    let examined = door.examine(content_type, body).unwrap_or_else(|e| panic!("{e:?}"));
    let errors = examined.errors.iter().map(|e| format!("{}: {}", e.reason, e.detail)).collect();
    door.push(examined, None).unwrap();
    let Poll::Ready(chunk) = source.poll(1).unwrap() else { panic!("it waits") };
    let mut out = Decoded::default();
    source.decoder().decode(&chunk, &mut out);
    let waves: &ListArray = out.rows[0].0.column(2).as_list();
    let bits = |row| {
        let samples = waves.value(row);
        let bits = samples.as_primitive::<Float32Type>().values().iter().map(|s| s.to_bits());
        waves.is_valid(row).then(|| bits.collect())
    };
    ((0..waves.len()).map(bits).collect(), errors)
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

/// An Arrow stream of rows with these lists.
fn arrow(lists: ArrayRef) -> Vec<u8> {
    let n = i64::try_from(lists.len()).unwrap();
    let stamps: TimestampMillisecondArray = (0..n).map(Some).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("t", Arc::new(stamps)),
        ("k", Arc::new((0..n).map(|_| Some("a")).collect::<StringArray>())),
        ("v", lists),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    body
}

#[test]
fn text_bodies_carry_waveforms() {
    let samples = json!(SAMPLES).to_string();
    let row = format!(r#"{{"t":"2026-01-01T00:00:00Z","k":"a","v":{samples}}}"#);
    let expected = (vec![Some(bits(&SAMPLES))], vec![]);
    assert_eq!(pushed("application/json", row.as_bytes()), expected);
    assert_eq!(pushed("application/x-ndjson", row.as_bytes()), expected);
    let cell: Vec<String> = SAMPLES.iter().map(f32::to_string).collect();
    let csv = format!("k,v,t\na,{},2026-01-01T00:00:00Z\n", cell.join(";"));
    assert_eq!(pushed("text/csv", csv.as_bytes()), expected);
}

#[test]
fn arrow_lists_are_waveforms() {
    let stream = Body::Arrow.media_type();
    let singles = SAMPLES.map(Some).to_vec();
    let doubles = SAMPLES.map(|s| Some(f64::from(s))).to_vec();
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(singles), None]);
    assert_eq!(pushed(stream, &arrow(Arc::new(lists))), (vec![Some(bits(&SAMPLES)), None], vec![]));
    let lists = LargeListArray::from_iter_primitive::<Float64Type, _, _>([Some(doubles)]);
    assert_eq!(pushed(stream, &arrow(Arc::new(lists))), (vec![Some(bits(&SAMPLES))], vec![]));
    let item = Arc::new(Field::new_list_field(DataType::Int16, false));
    let counts = Arc::new(Int16Array::from(vec![1, -2, 3, -4]));
    let lists = FixedSizeListArray::try_new(item, 2, counts, None).unwrap();
    let expected = vec![Some(bits(&[1.0, -2.0])), Some(bits(&[3.0, -4.0]))];
    assert_eq!(pushed(stream, &arrow(Arc::new(lists))), (expected, vec![]));
}

#[test]
fn a_list_of_arrow_that_is_no_waveform_is_named() {
    let long = vec![Some(0.0); crate::record::SAMPLES_MAX + 2];
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(1.0), None]),
        Some(vec![Some(f32::NAN)]),
        Some(vec![Some(1.0), Some(f32::INFINITY)]),
        Some(vec![]),
        Some(long),
        Some(vec![Some(2.0)]),
    ]);
    let (rows, errors) = pushed(Body::Arrow.media_type(), &arrow(Arc::new(lists)));
    assert_eq!(rows, [Some(bits(&[2.0]))]);
    let begin = |text: &str| text.split(" of '").next().unwrap().to_owned();
    let begin: Vec<String> = errors.iter().map(|e| begin(e)).collect();
    assert_eq!(
        begin[..3],
        [
            "bad_value: column 'v': sample 1",
            "non_finite: column 'v': sample 0",
            "non_finite: column 'v': sample 1"
        ]
    );
    assert!(errors[3].contains("'[]' has no samples"), "{}", errors[3]);
    assert!(errors[4].starts_with("waveform_too_long"), "{}", errors[4]);
    let errors = refused(&arrow(Arc::new(Float32Array::from(vec![1.5]))));
    assert_eq!(errors, ["bad_value: column 'v': '1.5' is no list of numbers"]);
}

/// Why nothing of a body can be used.
fn refused(body: &[u8]) -> Vec<String> {
    let (_source, door) = bursts();
    let Err(BadBody::NothingUsable { errors, .. }) = door.examine(Body::Arrow.media_type(), body)
    else {
        panic!("it is refused")
    };
    errors.iter().map(|e| format!("{}: {}", e.reason, e.detail)).collect()
}
