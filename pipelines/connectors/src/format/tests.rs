//! Formats against payloads: rows, dead letters, positions; and that no payload whatever makes a decoder panic.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use foreline_engine::{Partition, Schema};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::SAMPLES_MAX;

mod waveforms;

/// Columns as the pipeline file declares them; the first is the key, the second the event time.
fn planned(format: serde_json::Value, columns: serde_json::Value, given: &[usize]) -> Planned {
    plan(format, columns, given).unwrap_or_else(|errors| panic!("{errors:?}"))
}

struct Planned(PlannedFormat);

#[expect(clippy::needless_pass_by_value, reason = "tests write the values where they are used")]
fn plan(
    format: serde_json::Value,
    columns: serde_json::Value,
    given: &[usize],
) -> Result<Planned, Vec<ConfigError>> {
    let format: Format = foreline_engine::parse_config(&format).map_err(|e| vec![e])?;
    let columns: Vec<(String, ColumnConfig)> = columns
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, c)| (name.clone(), serde_json::from_value(c.clone()).unwrap()))
        .collect();
    let schema = schema(&columns);
    Ok(Planned(format.plan(&SourceInputs { columns: &columns, schema: &schema }, given)?))
}

fn schema(columns: &[(String, ColumnConfig)]) -> Schema {
    let all = columns.iter().map(|(name, c)| c.declared(name).unwrap()).collect();
    Schema::new(all, &[&columns[0].0], &columns[1].0).unwrap()
}

impl Planned {
    fn decode(&self, payload: &[u8], given: &[Value<'_>]) -> Decoded {
        let mut out = Decoded::default();
        let mut decoder = self.0.decoder();
        decoder.payload(payload, given, Position::new(Partition(2), 10), &mut out);
        decoder.finish(&mut out);
        out
    }

    /// Rows as text, a line each, and dead letters as their reason and detail.
    fn shown(&self, payload: &[u8], given: &[Value<'_>]) -> (Vec<String>, Vec<String>) {
        let out = self.decode(payload, given);
        let mut rows = Vec::new();
        for (batch, positions) in &out.rows {
            for row in 0..batch.num_rows() {
                let cell = |c: &arrow::array::ArrayRef| match c.is_null(row) {
                    true => "-".to_owned(),
                    false => array_value_to_string(c, row).unwrap(),
                };
                let cells: Vec<String> = batch.columns().iter().map(cell).collect();
                rows.push(format!(
                    "{}: {}",
                    Position(positions.value(row)).ordinal(),
                    cells.join(" ")
                ));
            }
        }
        let dead = out.dead.iter().map(|d| format!("{}: {}", d.reason, d.detail)).collect();
        (rows, dead)
    }

    fn check(&self, payload: &str, rows: &[&str], dead: &[&str]) {
        let (found_rows, found_dead) = self.shown(payload.as_bytes(), &[]);
        assert_eq!(found_rows, rows, "{payload}");
        assert_eq!(found_dead, dead, "{payload}");
    }
}

fn readings() -> serde_json::Value {
    json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp", "format": "epoch_ms" },
        "v": { "type": "float64", "field": "values.v[1]" },
        "n": { "type": "int64" },
    })
}

const NOT_JSON: &str = "bad_value: not JSON at byte ";

#[test]
fn json_objects_and_lists_of_them() {
    let json = planned(json!("json"), readings(), &[]);
    json.check(
        r#"{"machine":"P-7","ts":1000,"values":{"v":[0,1.5]},"n":9007199254740993,"more":[{}]}"#,
        &["10: P-7 1970-01-01T00:00:01Z 1.5 9007199254740993"],
        &[],
    );
    json.check(
        r#" [ {"machine":"a\u00e9\ud83d\ude00\n","ts":"1"}, {"ts":2,"machine":7,"n":null} ] "#,
        &["10: aé😀\n 1970-01-01T00:00:00.001Z - -", "11: 7 1970-01-01T00:00:00.002Z - -"],
        &[],
    );
    json.check("[]", &[], &[]);
}

#[test]
fn one_record_of_a_list_may_be_bad() {
    let json = planned(json!("json"), readings(), &[]);
    let (rows, dead) = json.shown(
        br#"[{"machine":"a","ts":1},{"machine":"b"},{"ts":1},7,{"machine":"c","ts":1,"n":1.5},{"machine":"d","ts":2}]"#,
        &[],
    );
    assert_eq!(rows, ["10: a 1970-01-01T00:00:00.001Z - -", "15: d 1970-01-01T00:00:00.002Z - -"]);
    assert_eq!(
        dead,
        [
            "missing_time: column 'ts': 'null' is no value, but the event time is needed",
            "missing_key: column 'machine': 'null' is no value, but the key is needed",
            "bad_value: the record is no object",
            "bad_value: column 'n': '1.5' is not a whole number of 64 bits",
        ]
    );
    let out = json.decode(br#"[{"machine":"a","ts":1},  {"machine":"b"}]"#, &[]);
    assert_eq!(out.dead[0].original.as_deref(), Some(&br#"{"machine":"b"}"#[..]));
    assert_eq!(out.dead[0].position, Some(Position::new(Partition(2), 11).0));
    assert_eq!(out.records, 2);
}

#[test]
fn what_is_not_json_is_one_dead_letter() {
    let json = planned(json!("json"), readings(), &[]);
    for (payload, at) in [
        ("", "0: expected a value"),
        ("{", "1: expected a member's name in quotes"),
        ("[{\"machine\":\"a\",\"ts\":1},", "24: expected a value"),
        ("{\"a\":1 \"b\":2}", "7: expected ',' or '}'"),
        ("{\"a\":01}", "5: expected a value"),
        ("{\"a\":1}}", "7: something follows"),
        ("{\"a\":\"\\q\"}", "6: there is no such escape"),
        ("{\"a\":\"\\ud800\"}", "12: half of a surrogate pair"),
        ("{\"a\":\"x", "7: a text is not closed"),
        ("{'a':1}", "1: expected a member's name in quotes"),
    ] {
        json.check(payload, &[], &[&format!("{NOT_JSON}{at}")]);
    }
    json.check("\u{feff}7", &[], &["bad_value: the record is no object"]);
    let (_, dead) = json.shown(b"{\"a\":\"\xff\"}", &[]);
    assert_eq!(dead, ["bad_encoding: the text is not valid UTF-8 at byte 6"]);
}

#[test]
fn members_twice_deep_nesting_and_huge_numbers_are_dead_letters() {
    let json = planned(json!("json"), readings(), &[]);
    let twice = ["bad_value: member 'n' is there twice"];
    json.check(r#"{"machine":"a","ts":1,"n":1,"n":2}"#, &[], &twice);
    json.check(r#"{"machine":"a","ts":1,"x":{"n":1,"\u006e":2}}"#, &[], &twice);
    let many: Vec<String> = (0..40).map(|i| format!("\"m{i}\":0")).collect();
    let many = format!("{{{},\"m3\":1}}", many.join(","));
    json.check(&many, &[], &["bad_value: member 'm3' is there twice"]);
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    json.check(&deep, &[], &["bad_value: not JSON at byte 68: nested more than 64 deep"]);
    let number = |n: &str| format!("{{\"machine\":\"a\",\"ts\":1,{n}}}");
    json.check(
        &number("\"values\":{\"v\":[0,1e999]}"),
        &[],
        &["non_finite: column 'v': '1e999' is infinite"],
    );
    json.check(
        &number("\"n\":99999999999999999999"),
        &[],
        &["bad_value: column 'n': '99999999999999999999' is not a whole number of 64 bits"],
    );
    json.check(
        &number("\"values\":{\"v\":[0,-Infinity]}"),
        &[],
        &["non_finite: column 'v': '-inf' is infinite"],
    );
    json.check(
        &number("\"values\":{\"v\":[0,NaN]},\"n\":\"NaN\""),
        &["10: a 1970-01-01T00:00:00.001Z - -"],
        &[],
    );
}

#[test]
fn members_that_no_column_takes_may_be_refused() {
    let format = json!({ "json": { "extra_fields": "error" } });
    let json = planned(format, readings(), &[]);
    json.check(
        r#"{"machine":"a","ts":1,"values":{"other":1},"x":2}"#,
        &[],
        &["bad_value: no column is read from member 'x'"],
    );
}

#[test]
fn a_bare_value_and_what_the_envelope_knows() {
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "line": { "type": "int64" },
        "v": { "type": "float64", "field": "$" },
    });
    let json = planned(json!("json"), columns, &[0, 1, 2]);
    let given = |line| [Value::Text("P-7"), Value::Time(5), Value::Text(line)];
    let (rows, dead) = json.shown(b"23.5", &given("4"));
    assert_eq!(
        (rows, dead.len()),
        (vec!["10: P-7 1970-01-01T00:00:00.000000005Z 4 23.5".to_owned()], 0)
    );
    let (rows, dead) = json.shown(b"[1, 2]", &given("x"));
    let bad = "bad_value: column 'line': 'x' is not a whole number of 64 bits";
    assert_eq!((rows.len(), dead), (0, vec![bad.to_owned(); 2]));
}

#[test]
fn ndjson_lines_stand_for_themselves() {
    let json = planned(json!("ndjson"), readings(), &[]);
    json.check(
        "{\"machine\":\"a\",\"ts\":1}\r\n\n{\"machine\":\n{\"machine\":\"b\",\"ts\":2} {}\n{\"machine\":\"c\",\"ts\":3}",
        &["10: a 1970-01-01T00:00:00.001Z - -", "13: c 1970-01-01T00:00:00.003Z - -"],
        &[&format!("{NOT_JSON}11: expected a value"), &format!("{NOT_JSON}23: something follows")],
    );
}

#[test]
fn csv_by_place_by_name_and_with_a_header() {
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp", "format": "epoch_s" },
        "v": { "type": "float64" },
    });
    let row = ["10: P-7 1970-01-01T00:00:01Z 0.5"];
    planned(json!("csv"), columns.clone(), &[]).check("P-7,1,0.5", &row, &[]);
    let named = json!({ "csv": { "fields": ["v", "x", "machine", "ts"], "delimiter": ";" } });
    planned(named, columns.clone(), &[]).check("0.5;;\"P-7\";1\r\n", &row, &[]);
    let header = planned(json!({ "csv": { "header": true } }), columns.clone(), &[]);
    header.check(
        "ts,v,machine\n1,0.5,P-7\n2,x,P-7\n3,NaN,P-7\n4\n",
        &[row[0], "12: P-7 1970-01-01T00:00:03Z -"],
        &["bad_value: column 'v': 'x' is not a number", "field_count: the row has 1 fields, not 3"],
    );
    header.check("ts,machine\n1,P-7", &[], &["bad_value: the header does not name field 'v'"]);
    let wrong = json!({ "csv": { "fields": ["ts", "w", "machine"], "quote": "''" } });
    let errors = plan(wrong, columns, &[]).err().unwrap();
    let places: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(places, ["csv.quote", "columns.v.field"]);
}

#[test]
fn msgpack_maps_and_lists_of_them() {
    use rmpv::Value as Packed;
    let packed = |value: Packed| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &value).unwrap();
        bytes
    };
    let map = |members: Vec<(&str, Packed)>| {
        Packed::Map(members.into_iter().map(|(k, v)| (k.into(), v)).collect())
    };
    let inner = map(vec![("v", Packed::Array(vec![0.into(), 1.5.into()]))]);
    let good = map(vec![
        ("machine", "P-7".into()),
        ("ts", Packed::Ext(-1, vec![0, 0, 0, 1])),
        ("values", inner),
        ("n", 9_007_199_254_740_993_i64.into()),
    ]);
    let twice = map(vec![("n", 1.into()), ("n", 2.into())]);
    let huge = map(vec![("machine", 1.into()), ("ts", 5.into()), ("n", u64::MAX.into())]);
    let msgpack = planned(json!("msgpack"), readings(), &[]);
    let row = "10: P-7 1970-01-01T00:00:01Z 1.5 9007199254740993";
    assert_eq!(msgpack.shown(&packed(good.clone()), &[]).0, [row]);
    let all = packed(Packed::Array(vec![good, twice, huge, Packed::Nil]));
    assert_eq!(msgpack.0.records(&all), 4);
    let (rows, dead) = msgpack.shown(&all, &[]);
    assert_eq!(rows, [row]);
    assert_eq!(
        dead,
        [
            "bad_value: member 'n' is there twice",
            "bad_value: column 'n': '18446744073709551615' is not a whole number of 64 bits",
            "bad_value: the record is no map",
        ]
    );
    let (rows, dead) = msgpack.shown(&all[..all.len() - 2], &[]);
    assert!(
        rows.is_empty() && dead.len() == 1 && dead[0].contains("it ends too early"),
        "{dead:?}"
    );
    let deep = vec![0x91; 100_000];
    assert!(msgpack.shown(&deep, &[]).1[0].contains("nested too deep"));
}

#[test]
fn a_burst_is_a_row_a_sample() {
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "x": { "type": "float64" },
        "i": { "type": "int64", "field": "#sample" },
        "y": { "type": "float64" },
    });
    let bytes = |samples: &[f32]| samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    let raw = planned(json!({ "raw": { "sample_rate": 1000 } }), columns.clone(), &[0, 1]);
    let given = [Value::Text("P-7"), Value::Time(10_000_000)];
    let burst = bytes(&[1.0, 2.0, f32::NAN, 4.0, 5.0, f32::INFINITY]);
    assert_eq!(raw.0.records(&burst), 3);
    let (rows, dead) = raw.shown(&burst, &given);
    assert_eq!(
        rows,
        ["10: P-7 1970-01-01T00:00:00.008Z 1.0 0 2.0", "11: P-7 1970-01-01T00:00:00.009Z - 1 4.0",]
    );
    assert_eq!(dead, ["non_finite: column 'y': 'inf' is infinite"]);
    let (_, dead) = raw.shown(&burst[..10], &given);
    assert_eq!(dead, ["bad_value: 10 bytes are no whole number of samples of 8 bytes"]);
    let stamped = json!({ "raw": { "sample_rate": 3, "stamp": "epoch_ns", "stamped": "first" } });
    let raw = planned(stamped, columns.clone(), &[0]);
    let burst = [&7_i64.to_le_bytes()[..], &bytes(&[1.0, 2.0, 3.0, 4.0])].concat();
    let (rows, _) = raw.shown(&burst, &[Value::Text("P-7")]);
    assert!(rows[1].contains("00:00:00.333333340Z"), "{rows:?}");
    let errors = plan(json!({ "raw": { "sample_rate": 0 } }), columns, &[0]).err().unwrap();
    let places: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(places, ["raw.sample_rate", "columns.ts.field"]);
}

#[test]
fn sparkplug_metrics_are_columns() {
    use super::sparkplug::testing::*;
    use prost::Message as _;
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "v": { "type": "float64", "field": "Motor/Vibration" },
        "n": { "type": "int64", "field": "Count" },
    });
    let sparkplug = planned(json!("sparkplug"), columns, &[0]);
    let given = [Value::Text("P-7")];
    let vibration = |v| metric("Motor/Vibration", None, MetricValue::Float(v));
    let count = |v: i32| Metric {
        datatype: Some(3),
        ..metric("Count", None, MetricValue::Int(v.cast_unsigned()))
    };
    let payload = payload(
        1000,
        vec![
            vibration(0.5),
            metric("Other", None, MetricValue::Boolean(true)),
            count(-2),
            vibration(1.5),
            Metric { timestamp: Some(2000), ..count(7) },
        ],
    )
    .encode_to_vec();
    assert_eq!(sparkplug.0.records(&payload), 5);
    let (rows, dead) = sparkplug.shown(&payload, &given);
    assert_eq!(
        rows,
        [
            "10: P-7 1970-01-01T00:00:01Z 0.5 -2",
            "11: P-7 1970-01-01T00:00:01Z 1.5 -",
            "12: P-7 1970-01-01T00:00:02Z - 7",
        ]
    );
    assert!(dead.is_empty());
    let (rows, dead) = sparkplug.shown(&payload[..9], &given);
    assert!(
        rows.is_empty() && dead[0].starts_with("bad_value: not a Sparkplug payload"),
        "{dead:?}"
    );
}

#[test]
fn births_give_names_to_aliases() {
    use super::sparkplug::testing::*;
    use prost::Message as _;
    let mut births = Births::default();
    let first = Arrival { received_ns: 0, is_repeated: false };
    let later = Arrival { received_ns: 60_000_000_000, ..first };
    let bytes = |seq, metrics| Payload { seq: Some(seq), ..payload(1, metrics) }.encode_to_vec();
    let data = |seq| bytes(seq, vec![metric("", Some(7), MetricValue::Int(3))]);
    let topic = |kind: &str| format!("spBv1.0/plant/{kind}/node/dev");
    let (resolved, asked) = births.resolve(&topic("DDATA"), &data(5), first);
    assert_eq!(resolved, Resolved::AsItIs);
    let asked = asked.expect("no birth is known");
    assert_eq!(asked.topic, "spBv1.0/plant/NCMD/node");
    let command = Payload::decode(&asked.payload[..]).unwrap().metrics.remove(0);
    assert_eq!(command.name.as_deref(), Some("Node Control/Rebirth"));
    assert_eq!(command.value, Some(MetricValue::Boolean(true)));
    assert!(births.resolve(&topic("DDATA"), &data(6), first).1.is_none(), "it was just asked");
    let node = bytes(0, Vec::new());
    assert!(births.resolve("spBv1.0/plant/NBIRTH/node", &node, later).1.is_none());
    let born = Metric { datatype: Some(1), ..metric("Count", Some(7), MetricValue::Int(0)) };
    assert!(births.resolve(&topic("DBIRTH"), &bytes(1, vec![born]), later).1.is_none());
    let (resolved, asked) = births.resolve(&topic("DDATA"), &data(2), later);
    let (Resolved::Filled(filled), None) = (resolved, asked) else { panic!() };
    let filled = Payload::decode(&filled[..]).unwrap();
    assert_eq!(filled.metrics[0].name.as_deref(), Some("Count"));
    assert_eq!(filled.metrics[0].datatype, Some(1));
    assert!(births.resolve("spBv1.0/plant/NBIRTH/node", &node, later).1.is_none());
    let (resolved, asked) = births.resolve(&topic("DDATA"), &data(1), later);
    assert_eq!(resolved, Resolved::AsItIs);
    assert!(asked.is_some(), "the device has not been born since its edge node was");
    assert_eq!(births.resolve("too/short", b"x", later), (Resolved::AsItIs, None));
}

#[test]
fn mistakes_in_the_format() {
    let errors = plan(json!("jsn"), readings(), &[]).err().unwrap();
    assert!(errors[0].message.contains("unknown variant `jsn`"), "{errors:?}");
    let errors = plan(json!({ "json": { "extra": 1 } }), readings(), &[]).err().unwrap();
    assert_eq!(errors[0].at, "json.extra");
    let columns = json!({
        "machine": { "type": "string", "field": 3 },
        "ts": { "type": "timestamp", "format": "%H" },
        "v": { "type": "float64", "field": "a..b" },
        "w": { "type": "float64", "field": "#row" },
    });
    let errors = plan(json!("json"), columns, &[]).err().unwrap();
    let mut places: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        ["columns.machine.field", "columns.ts.format", "columns.v.field", "columns.w.field"]
    );
}

/// Every format with columns of every type.
fn formats() -> Vec<Planned> {
    let columns = || {
        json!({
            "machine": { "type": "string" },
            "ts": { "type": "timestamp" },
            "v": { "type": "float64" },
            "n": { "type": "int64", "field": "a" },
            "b": { "type": "bool", "field": "b" },
            "w": { "type": "waveform", "sample_rate": 10, "field": "w" },
        })
    };
    let raw = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "v": { "type": "float64" },
    });
    let mut all: Vec<Planned> = ["json", "ndjson", "msgpack", "sparkplug"]
        .map(|name| planned(json!(name), columns(), &[]))
        .into();
    let fields = json!({ "csv": { "fields": ["machine", "ts", "v", "a", "b", "w"] } });
    all.push(planned(fields, columns(), &[]));
    all.push(planned(json!({ "csv": { "header": true, "quote": "'" } }), columns(), &[]));
    all.push(planned(json!({ "raw": { "sample_rate": 10 } }), raw, &[0, 1]));
    let whole = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "w": { "type": "waveform", "sample_rate": 10 },
    });
    all.push(planned(json!("raw"), whole, &[0, 1]));
    all
}

/// Holds of every payload: all records are accounted for and stand at positions that the payload was given.
fn holds_together(format: &Planned, payload: &[u8]) {
    let given = [Value::Text("P-7"), Value::Time(5)];
    let out = format.decode(payload, &given);
    let rows: usize = out.rows.iter().map(|(batch, _)| batch.num_rows()).sum();
    assert_eq!(out.records, (rows + out.dead.len()) as u64);
    assert!(out.records <= format.0.records(payload), "{format:?} {payload:?}", format = format.0);
    let of_rows = out.rows.iter().flat_map(|(_, p)| p.values().iter().copied());
    let mut positions: Vec<u64> =
        of_rows.chain(out.dead.iter().filter_map(|d| d.position)).collect();
    positions.sort_unstable();
    let first = Position::new(Partition(2), 10).0;
    assert_eq!(positions, (first..first + out.records).collect::<Vec<u64>>());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        formats().iter().for_each(|format| holds_together(format, &bytes));
    }

    #[test]
    fn no_text_makes_a_decoder_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u12", "\"a\"", "\"ts\"", "\"machine\"", "1", "-", "e9", "null",
            "true", "NaN", "\n", "'", "é", " ", "2026-01-01", "machine", "ts", "v", "a", "b", "0.5", "\u{0}", "\"w\":[", "w",
            ";",
        ]), 0..60)
    ) {
        let text = words.concat();
        formats().iter().for_each(|format| holds_together(format, text.as_bytes()));
    }

    #[test]
    fn numbers_of_json_are_exact(n in any::<i64>(), v in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let json = planned(json!("json"), readings(), &[]);
        let text = json!({ "machine": "a", "ts": 1, "n": n, "values": { "v": [0, v] } }).to_string();
        let out = json.decode(text.as_bytes(), &[]);
        let rows = &out.rows[0].0;
        prop_assert_eq!(rows.column(3).as_primitive::<Int64Type>().value(0), n);
        prop_assert_eq!(rows.column(2).as_primitive::<Float64Type>().value(0).to_bits(), v.to_bits());
        prop_assert_eq!(rows.column(1).as_primitive::<TimestampNanosecondType>().value(0), 1_000_000);
    }
}
