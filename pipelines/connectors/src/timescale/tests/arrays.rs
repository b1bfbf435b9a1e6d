//! Lists of numbers as arrays of PostgreSQL: waveforms and spectra, corrected, null and empty.

use arrow::array::{Float32Builder, Float64Builder, ListBuilder};
use arrow::datatypes::Field;
use foreline_engine::{SampleRate, Unit, waveform_type};

use super::*;

/// Samples of all sorts: those that text would round, and both ends.
const SAMPLES: [f32; 6] = [0.1, -0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, -16_777_215.0];
const LINES: [f64; 3] = [0.1, f64::MIN_POSITIVE, -1e300];

/// Windows of a machine with a waveform and its spectrum.
fn waves() -> Schema {
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let lines = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
    let wave = Column::waveform("v", SampleRate::new(25_600.0).unwrap());
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("window_end", stamp),
        wave.with_unit(Some(Unit::new("g"))),
        Column::new("v_spectrum", lines),
    ];
    let key = PrimaryKey { columns: vec![0, 1], position: false };
    Schema::with_primary_key(columns, vec![0], 1, key).unwrap()
}

type Row<'a> = (i64, Option<&'a [f32]>, Option<&'a [Option<f64>]>);

/// Rows of machine `a`: seconds after the start, waveform, spectrum.
fn bursts(rows: &[Row<'_>]) -> Batch {
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|_| "a").collect();
    let times: TimestampNanosecondArray = rows.iter().map(|r| Some(START + r.0 * SECOND)).collect();
    let DataType::List(item) = waveform_type() else { panic!("a waveform is a list") };
    let mut waveforms = ListBuilder::new(Float32Builder::new()).with_field(item);
    let mut spectra = ListBuilder::new(Float64Builder::new());
    for (_, samples, lines) in rows {
        waveforms.append_option(samples.map(|s| s.iter().map(|x| Some(*x))));
        spectra.append_option(lines.map(|l| l.iter().copied()));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machines),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(waveforms.finish()),
        Arc::new(spectra.finish()),
    ];
    let schema = waves();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let positions: Vec<u64> = (1..=rows.num_rows() as u64).collect();
    Batch::new(rows.clone(), hash_keys(&rows, schema.key()), positions.into()).unwrap()
}

fn open(db: &Postgres, run: u64, config: Value) -> Result<Box<dyn Sink>, SinkError> {
    let planned = planned(&db.url(), config, &waves(), Extension::Never).unwrap();
    let mut sink = (planned.make)().unwrap();
    sink.open(RunId(run), 1, &waves())?;
    Ok(sink)
}

/// The bits of each item, as PostgreSQL sends them, of each row in the order of time.
fn sent(db: &Postgres, column: &str, send: &str) -> Vec<String> {
    let items = format!(
        "select string_agg(coalesce(encode({send}(x), 'hex'), 'null'), ' ' order by i) from unnest({column}) with ordinality u(x, i)"
    );
    let whole =
        format!("case when {column} is null then 'none' else coalesce(({items}), 'empty') end");
    let rows = db.sql(&format!("select {whole} from rul order by window_end")).unwrap();
    rows.lines().map(str::to_owned).collect()
}

fn reals(samples: &[f32]) -> String {
    samples.iter().map(|s| format!("{:08x}", s.to_bits())).collect::<Vec<_>>().join(" ")
}

fn doubles(lines: &[f64]) -> String {
    lines.iter().map(|s| format!("{:016x}", s.to_bits())).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_waveform_is_there_bit_for_bit_and_as_it_was_corrected() {
    let db = Postgres::start().unwrap();
    let mut sink = open(&db, 1, json!({ "partition": "1d" })).unwrap();
    let long: Vec<f32> = (0..100_000_u32).map(|i| f32::from_bits(0x3f00_0000 ^ i)).collect();
    let lines = LINES.map(Some);
    let first = bursts(&[
        (1, Some(&SAMPLES), Some(&lines)),
        (2, Some(&long), None),
        (3, None, Some(&[Some(0.5), None])),
        (4, Some(&[]), Some(&[])),
    ]);
    commit(&mut *sink, 1, &[first]);
    assert_eq!(
        sent(&db, "v", "float4send"),
        [reals(&SAMPLES), reals(&long), "none".to_owned(), "empty".to_owned()]
    );
    let half = format!("{} null", doubles(&[0.5]));
    assert_eq!(
        sent(&db, "v_spectrum", "float8send"),
        [doubles(&LINES), "none".to_owned(), half, "empty".to_owned()]
    );
    let shape = "select array_lower(v, 1), array_ndims(v), cardinality(v), v[1] from rul order by window_end limit 1";
    assert_eq!(db.sql(shape).unwrap(), "1|1|6|0.1");
    // A burst is corrected, one gets samples that it had not, one loses them, one vanishes.
    let corrected = bursts(&[
        (1, Some(&[2.5, -0.0]), Some(&lines[..1])),
        (3, Some(&SAMPLES), None),
        (4, None, None),
        (2, None, None),
    ]);
    let more = revised(corrected, &[1; 4], &[false, false, false, true]);
    commit(&mut *sink, 2, &[more]);
    let none = || "none".to_owned();
    assert_eq!(sent(&db, "v", "float4send"), [reals(&[2.5, -0.0]), reals(&SAMPLES), none()]);
    assert_eq!(sent(&db, "v_spectrum", "float8send"), [doubles(&LINES[..1]), none(), none()]);
    // What is older changes nothing.
    commit(&mut *sink, 3, &[bursts(&[(1, Some(&SAMPLES), None)])]);
    assert_eq!(sent(&db, "v", "float4send")[0], reals(&[2.5, -0.0]));
}

#[test]
fn a_table_of_arrays_is_created_as_it_is_said_and_recognised() {
    let db = Postgres::start().unwrap();
    let planned = planned(&db.url(), json!({}), &waves(), Extension::Never).unwrap();
    let sql = planned.sql.unwrap();
    assert!(sql.contains("\"v\" real[],\n    \"v_spectrum\" double precision[],"), "{sql}");
    db.sql(&sql).unwrap();
    drop(open(&db, 1, json!({})).unwrap());
    assert_eq!(db.sql("select col_description('rul'::regclass, 3)").unwrap(), "g");
    db.sql("alter table rul alter column v type double precision[]").unwrap();
    let error = open(&db, 2, json!({})).err().expect("the table is another");
    let mend = "ALTER TABLE \"public\".\"rul\" ALTER COLUMN \"v\" TYPE real[] USING \"v\"::real[]";
    assert!(said(&error).contains("column 'v' is double precision[], not real[]"), "{error}");
    assert!(said(&error).contains(mend), "{error}");
    db.sql(mend).unwrap();
    let mut sink = open(&db, 2, json!({})).unwrap();
    commit(&mut *sink, 1, &[bursts(&[(1, Some(&SAMPLES), None)])]);
    assert_eq!(sent(&db, "v", "float4send"), [reals(&SAMPLES)]);
}

#[test]
fn a_waveform_is_no_part_of_a_key_and_nothing_to_aggregate() {
    let about = |config: Value| {
        let planned = planned("postgresql://localhost/db", config, &waves(), Extension::WhereThere);
        planned
            .unwrap_err()
            .into_iter()
            .map(|e| format!("{}: {}", e.at, e.message))
            .collect::<Vec<_>>()
    };
    let key = about(json!({ "key": ["machine", "window_end", "v"] }));
    assert_eq!(key, ["key: 'v' is floating point, which is no part of a key"]);
    let hourly = json!({ "hourly": { "every": "1h", "columns": { "v": ["avg"] } } });
    let found = about(json!({ "aggregates": hourly }));
    assert_eq!(found[0], "aggregates.hourly.columns.v: 'v' is not a number");
}
