//! Waveforms in every format: bit for bit, and each way in which a burst is none.

use super::*;

/// A machine, a time and a waveform.
fn burst(more: serde_json::Value) -> serde_json::Value {
    let mut columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp", "format": "epoch_ms" },
        "v": { "type": "waveform", "sample_rate": 1000, "unit": "g" },
    });
    let serde_json::Value::Object(more) = more else { panic!("columns are an object") };
    columns.as_object_mut().unwrap().extend(more);
    columns
}

fn none() -> serde_json::Value {
    json!({})
}

/// The bits of each sample of each row's third column; `None` where that is null.
fn bits(out: &Decoded) -> Vec<Option<Vec<u32>>> {
    let mut all = Vec::new();
    for (rows, _) in &out.rows {
        assert_eq!(*rows.column(2).data_type(), foreline_engine::waveform_type());
        let waves = rows.column(2).as_list::<i32>();
        for row in 0..rows.num_rows() {
            let samples = waves.value(row);
            let samples = samples.as_primitive::<Float32Type>();
            let samples = samples.values().iter().map(|s| s.to_bits()).collect();
            all.push(waves.is_valid(row).then_some(samples));
        }
    }
    all
}

fn of(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

/// Samples whose bits show whether they were rounded once.
const SAMPLES: [f32; 6] = [0.1, -0.0, f32::MIN_POSITIVE, 16_777_217.0, f32::MAX, -1e-45];

const EMPTY: &str = "has no samples; null stands for a waveform that is missing";
const NO_NUMBER: &str = "is no number";
const NOT_FINITE: &str = "is no finite number of 32 bits";
const NO_LIST: &str = "is no list of numbers";
const NOT_WHOLE: &str = "is no whole number of samples";
const TOO_LONG: &str = "has more than 1048576 samples: split it";

/// What is said of a burst in column `v`, of which one sample may be to blame.
fn refused(shown: &str, sample: Option<usize>, what: &str) -> String {
    let reason = match what {
        NOT_FINITE => "non_finite",
        TOO_LONG => "waveform_too_long",
        _ => "bad_value",
    };
    let sample = sample.map_or(String::new(), |at| format!("sample {at} of "));
    format!("{reason}: column 'v': {sample}'{shown}' {what}")
}

fn dead_of(out: &Decoded) -> Vec<String> {
    out.dead.iter().map(|d| format!("{}: {}", d.reason, d.detail)).collect()
}

fn bytes(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

#[test]
fn a_json_array_is_a_waveform() {
    for (format, wrap) in [("json", "[]"), ("ndjson", "  ")] {
        let json = planned(json!(format), burst(none()), &[]);
        let text = json!(SAMPLES).to_string();
        let payload =
            format!("{}{{\"machine\":\"a\",\"ts\":1,\"v\":{text}}}{}", &wrap[..1], &wrap[1..]);
        let out = json.decode(payload.as_bytes(), &[]);
        assert_eq!(bits(&out), [Some(of(&SAMPLES))], "{text}: {:?}", out.dead);
    }
    let json = planned(json!("json"), burst(none()), &[]);
    json.check(
        r#"[{"machine":"a","ts":1,"v":[1, -2.5e-1 ,3]},{"machine":"a","ts":2,"v":null},{"machine":"a","ts":3},
            {"machine":"a","ts":4,"v":"1;2"},{"machine":"a","ts":5,"v":"NaN"}]"#,
        &[
            "10: a 1970-01-01T00:00:00.001Z [1.0, -0.25, 3.0]",
            "11: a 1970-01-01T00:00:00.002Z -",
            "12: a 1970-01-01T00:00:00.003Z -",
            "13: a 1970-01-01T00:00:00.004Z [1.0, 2.0]",
            "14: a 1970-01-01T00:00:00.005Z -",
        ],
        &[],
    );
}

#[test]
fn a_waveform_of_json_is_whole_or_a_dead_letter() {
    let json = planned(json!("json"), burst(none()), &[]);
    let long = format!("[{}0]", "0,".repeat(SAMPLES_MAX));
    for (value, sample, what) in [
        ("[]", None, EMPTY),
        ("[1,\"2\"]", Some(1), NO_NUMBER),
        ("[1,null,2]", Some(1), NO_NUMBER),
        ("[1,true]", Some(1), NO_NUMBER),
        ("[[1,2],[3]]", Some(0), NO_NUMBER),
        ("[{\"a\":1}]", Some(0), NO_NUMBER),
        ("[1,NaN]", Some(1), NOT_FINITE),
        ("[1e39]", Some(0), NOT_FINITE),
        ("[0,-Infinity]", Some(1), NOT_FINITE),
        ("7", None, NO_LIST),
        ("{\"a\":1}", None, NO_LIST),
        ("\"x\"", Some(0), NO_NUMBER),
        (&long, None, TOO_LONG),
    ] {
        let good = r#"{"machine":"a","ts":1,"v":[0.5]}"#;
        let payload = format!("[{good},{{\"machine\":\"a\",\"ts\":2,\"v\":{value}}},{good}]");
        let row = |n: u32| format!("{n}: a 1970-01-01T00:00:00.001Z [0.5]");
        let (rows, found) = json.shown(payload.as_bytes(), &[]);
        let text = value.trim_matches('"');
        let shown = &text[..text.len().min(64)];
        assert_eq!((rows, found), (vec![row(10), row(12)], vec![refused(shown, sample, what)]));
    }
    let limit = format!(r#"{{"machine":"a","ts":1,"v":[{}0]}}"#, "0,".repeat(SAMPLES_MAX - 1));
    assert_eq!(
        bits(&json.decode(limit.as_bytes(), &[]))[0].as_ref().map(Vec::len),
        Some(SAMPLES_MAX)
    );
    json.check(
        "{\"machine\":\"a\",\"ts\":1,\"v\":[1,]}",
        &[],
        &[&format!("{NOT_JSON}29: expected a value")],
    );
}

#[test]
fn a_messagepack_array_or_bin_is_a_waveform() {
    use rmpv::Value as Packed;
    let msgpack = planned(json!("msgpack"), burst(none()), &[]);
    let decode = |value: Packed| {
        let members =
            vec![("machine".into(), "a".into()), ("ts".into(), 1.into()), ("v".into(), value)];
        let mut payload = Vec::new();
        rmpv::encode::write_value(&mut payload, &Packed::Map(members)).unwrap();
        msgpack.decode(&payload, &[])
    };
    let singles = SAMPLES.map(Packed::F32).to_vec();
    let doubles = SAMPLES.map(|s| Packed::F64(f64::from(s))).to_vec();
    for value in [Packed::Array(singles), Packed::Array(doubles), Packed::Binary(bytes(&SAMPLES))] {
        assert_eq!(bits(&decode(value)), [Some(of(&SAMPLES))]);
    }
    let mixed = vec![(-3).into(), u64::MAX.into(), 0.5.into()];
    assert_eq!(
        bits(&decode(Packed::Array(mixed))),
        [Some(of(&[-3.0, 18_446_744_073_709_551_615.0, 0.5]))]
    );
    assert_eq!(bits(&decode(Packed::Nil)), [None]);
    assert_eq!(
        bits(&decode("1 2".into())),
        [Some(of(&[1.0, 2.0]))],
        "text is read as a field of CSV"
    );
    let nested = Packed::Array(vec![Packed::Array(vec![1.into()])]);
    let array = "(an array)";
    for (value, shown, sample, what) in [
        (Packed::Array(vec![]), array, None, EMPTY),
        (Packed::Array(vec![1.into(), "x".into()]), array, Some(1), NO_NUMBER),
        (Packed::Array(vec![1.into(), Packed::Nil]), array, Some(1), NO_NUMBER),
        (nested, array, Some(0), NO_NUMBER),
        (Packed::Array(vec![1e300.into()]), array, Some(0), NOT_FINITE),
        (Packed::Binary(vec![0; 7]), "(7 bytes)", None, NOT_WHOLE),
        (Packed::Binary(vec![]), "(0 bytes)", None, EMPTY),
        (Packed::Binary(bytes(&[1.0, f32::NAN])), "(8 bytes)", Some(1), NOT_FINITE),
        (Packed::Binary(vec![0; 4 * (SAMPLES_MAX + 1)]), "(4194308 bytes)", None, TOO_LONG),
        (Packed::Array(vec![0.into(); SAMPLES_MAX + 1]), array, None, TOO_LONG),
        (1.5.into(), "1.5", None, NO_LIST),
    ] {
        let out = decode(value);
        assert_eq!((out.rows.len(), dead_of(&out)), (0, vec![refused(shown, sample, what)]));
    }
}

#[test]
fn what_is_a_waveform_elsewhere_is_a_text_as_before() {
    use rmpv::Value as Packed;
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp" },
        "t": { "type": "string" },
    });
    let msgpack = planned(json!("msgpack"), columns, &[1]);
    let shown = |value: Packed| {
        let mut payload = Vec::new();
        let members = vec![("machine".into(), "a".into()), ("t".into(), value)];
        rmpv::encode::write_value(&mut payload, &Packed::Map(members)).unwrap();
        msgpack.shown(&payload, &[Value::Time(0)])
    };
    assert_eq!(shown(Packed::Binary(b"x".to_vec())).0, ["10: a 1970-01-01T00:00:00Z x"]);
    assert_eq!(shown(Packed::Binary(b"\xff".to_vec())).1.len(), 1);
    assert_eq!(
        shown(Packed::Array(vec![])).1,
        ["bad_value: column 't': '(an array)' is not one value"]
    );
}

#[test]
fn a_field_of_csv_is_a_waveform() {
    let csv = planned(json!("csv"), burst(none()), &[]);
    csv.check(
        "a,1,0.5;-1; 2e-1\na,2, 1  2\t3 \na,3,4\na,4,\na,5,NULL\na,6,  ",
        &[
            "10: a 1970-01-01T00:00:00.001Z [0.5, -1.0, 0.2]",
            "11: a 1970-01-01T00:00:00.002Z [1.0, 2.0, 3.0]",
            "12: a 1970-01-01T00:00:00.003Z [4.0]",
            "13: a 1970-01-01T00:00:00.004Z -",
            "14: a 1970-01-01T00:00:00.005Z -",
            "15: a 1970-01-01T00:00:00.006Z -",
        ],
        &[],
    );
    csv.check(
        "a,1,1;x\na,1,1;;2\na,1,1 inf\na,1,1|2",
        &[],
        &[
            "bad_value: column 'v': sample 1 of '1;x' is no number",
            "bad_value: column 'v': sample 1 of '1;;2' is no number",
            "non_finite: column 'v': sample 1 of '1 inf' is no finite number of 32 bits",
            "bad_value: column 'v': sample 0 of '1|2' is no number",
        ],
    );
    let german = json!({ "csv": { "delimiter": ";", "decimal": "," } });
    planned(german, burst(none()), &[]).check(
        "a;1;0,5 1,25\na;2;\"0,5;2\"",
        &[
            "10: a 1970-01-01T00:00:00.001Z [0.5, 1.25]",
            "11: a 1970-01-01T00:00:00.002Z [0.5, 2.0]",
        ],
        &[],
    );
    let text: Vec<String> = SAMPLES.iter().map(f32::to_string).collect();
    let out = csv.decode(format!("a,1,{}", text.join(";")).as_bytes(), &[]);
    assert_eq!(bits(&out), [Some(of(&SAMPLES))]);
}

/// The columns of a burst over MQTT: machine and time are known before the payload.
fn raw(channels: serde_json::Value) -> serde_json::Value {
    let mut columns = json!({ "machine": { "type": "string" }, "ts": { "type": "timestamp" } });
    let serde_json::Value::Object(channels) = channels else { panic!("columns are an object") };
    columns.as_object_mut().unwrap().extend(channels);
    columns
}

fn channel() -> serde_json::Value {
    json!({ "type": "waveform", "sample_rate": 1000 })
}

#[test]
fn a_raw_payload_is_one_row() {
    let given = [Value::Text("P-7"), Value::Time(10_000_000)];
    let one = planned(json!("raw"), raw(json!({ "v": channel() })), &[0, 1]);
    let out = one.decode(&bytes(&SAMPLES), &given);
    assert_eq!(bits(&out), [Some(of(&SAMPLES))]);
    let (rows, dead) = one.shown(&bytes(&[1.0, 2.0, 3.0]), &given);
    // The stamp is that of the last sample, the row's time that of the first.
    assert_eq!(
        (rows, dead),
        (vec!["10: P-7 1970-01-01T00:00:00.008Z [1.0, 2.0, 3.0]".to_owned()], vec![])
    );
    assert_eq!(one.0.records(&bytes(&SAMPLES)), 1);
    let first = json!({ "raw": { "stamped": "first", "sample_rate": 1000 } });
    let two = planned(first.clone(), raw(json!({ "x": channel(), "y": channel() })), &[0, 1]);
    let (rows, _) = two.shown(&bytes(&[1.0, 10.0, 2.0, 20.0]), &given);
    assert_eq!(rows, ["10: P-7 1970-01-01T00:00:00.010Z [1.0, 2.0] [10.0, 20.0]"]);
    // A stamp that is text is read by its column.
    let (rows, _) =
        two.shown(&bytes(&[1.0, 10.0]), &[Value::Text("a"), Value::Text("2026-03-01T10:00:00Z")]);
    assert_eq!(rows, ["10: a 2026-03-01T10:00:00Z [1.0] [10.0]"]);
    let stamped = json!({ "raw": { "stamp": "epoch_ns" } });
    let stamped = planned(stamped, raw(json!({ "v": channel() })), &[0]);
    let burst = [&5_000_000_i64.to_le_bytes()[..], &bytes(&[1.0, 2.0])].concat();
    let (rows, _) = stamped.shown(&burst, &[Value::Text("a")]);
    assert_eq!(rows, ["10: a 1970-01-01T00:00:00.004Z [1.0, 2.0]"]);
}

#[test]
fn a_raw_payload_is_whole_or_a_dead_letter() {
    let given = [Value::Text("P-7"), Value::Time(10_000_000)];
    let two = planned(json!("raw"), raw(json!({ "x": channel(), "y": channel() })), &[0, 1]);
    for (payload, dead) in [
        (vec![0; 12], "bad_value: 12 bytes are no whole number of samples of 8 bytes"),
        (vec![], "bad_value: 0 bytes are no whole number of samples of 8 bytes"),
        (
            bytes(&[1.0, 2.0, 3.0, f32::NAN]),
            "non_finite: column 'y': sample 1 of '(16 bytes)' is no finite number of 32 bits",
        ),
        (
            vec![0; 8 * (SAMPLES_MAX + 1)],
            "waveform_too_long: column 'x': '(8388616 bytes)' has more than 1048576 samples: split it",
        ),
    ] {
        let (rows, found) = two.shown(&payload, &given);
        assert_eq!((rows.len(), found), (0, vec![dead.to_owned()]));
    }
    let (_, dead) = two.shown(&[0; 8], &[Value::Text("a"), Value::Text("2026-03-01T10:00:00Z")]);
    assert_eq!(dead, ["bad_value: the burst has no stamp"], "the stamp is that of the last sample");
    let out = two.decode(&[0; 12], &given);
    assert_eq!(out.dead[0].original.as_deref(), Some(&[0; 12][..]));
}

#[test]
fn mistakes_in_the_columns_of_a_raw_payload() {
    let places = |format, channels| -> Vec<String> {
        let errors = plan(format, raw(channels), &[0, 1]).err().unwrap_or_default();
        errors.into_iter().map(|e| e.at).collect()
    };
    let float = json!({ "type": "float64" });
    let other = json!({ "type": "waveform", "sample_rate": 2000 });
    let number = json!({ "type": "int64", "field": "#sample" });
    assert_eq!(places(json!("raw"), json!({ "x": channel(), "y": float })), ["columns.y.type"]);
    assert_eq!(
        places(json!("raw"), json!({ "x": channel(), "y": other })),
        ["columns.y.sample_rate"]
    );
    assert_eq!(places(json!("raw"), json!({ "x": channel(), "n": number })), ["columns.n.type"]);
    assert_eq!(places(json!("raw"), json!({ "v": float })), ["raw.sample_rate"]);
    let format = json!({ "raw": { "sample_rate": 2000 } });
    assert_eq!(places(format, json!({ "v": channel() })), ["columns.v.sample_rate"]);
    let field = json!({ "type": "waveform", "sample_rate": 1, "field": "x" });
    assert_eq!(places(json!("raw"), json!({ "v": field })), ["columns.v.field"]);
}

#[test]
fn a_sparkplug_array_is_a_waveform() {
    use super::super::sparkplug::testing::*;
    use prost::Message as _;
    let columns =
        json!({ "machine": { "type": "string" }, "ts": { "type": "timestamp" }, "v": channel() });
    let sparkplug = planned(json!("sparkplug"), columns, &[0]);
    let decode = |datatype: Option<u32>, bytes: Vec<u8>| {
        let v = Metric { datatype, ..metric("v", None, MetricValue::Bytes(bytes)) };
        sparkplug.decode(&payload(1000, vec![v]).encode_to_vec(), &[Value::Text("a")])
    };
    for datatype in [None, Some(17), Some(30)] {
        assert_eq!(bits(&decode(datatype, bytes(&SAMPLES))), [Some(of(&SAMPLES))]);
    }
    let doubles = SAMPLES.iter().flat_map(|s| f64::from(*s).to_le_bytes()).collect();
    assert_eq!(bits(&decode(Some(31), doubles)), [Some(of(&SAMPLES))]);
    // Numbers of the specification's examples.
    assert_eq!(bits(&decode(Some(22), vec![0xe9, 0x7b])), [Some(of(&[-23.0, 123.0]))]);
    let counts = vec![0x15, 0xcd, 0x5b, 0x07, 0xb1, 0x68, 0xde, 0x3a];
    assert_eq!(bits(&decode(Some(24), counts)), [Some(of(&[123_456_790.0, 987_654_340.0]))]);
    assert_eq!(bits(&decode(Some(23), vec![0xff, 0xff])), [Some(of(&[-1.0]))]);
    assert_eq!(bits(&decode(Some(27), vec![0xff, 0xff])), [Some(of(&[65_535.0]))]);
    for (datatype, bytes, dead) in [
        (Some(30), vec![0; 6], "bad_value: column 'v': '(6 bytes)' is no whole number of samples"),
        (Some(32), vec![0; 6], "bad_value: column 'v': '(an array)' is no list of numbers"),
    ] {
        let out = decode(datatype, bytes);
        assert_eq!(format!("{}: {}", out.dead[0].reason, out.dead[0].detail), dead);
    }
}

#[test]
fn mistakes_in_the_declaration() {
    let declared = |column: serde_json::Value| {
        let column: ColumnConfig = serde_json::from_value(column).unwrap();
        column.declared("v").map_err(|e| (e.at, e.message))
    };
    let wave = declared(json!({ "type": "waveform", "sample_rate": 25600, "unit": "g" })).unwrap();
    assert_eq!(wave.sample_rate.map(foreline_engine::SampleRate::hertz), Some(25_600.0));
    assert_eq!(wave.unit, Some(foreline_engine::Unit::new("g")));
    for (column, message) in [
        (json!({ "type": "waveform" }), "the waveform 'v' has no 'sample_rate'"),
        (json!({ "type": "waveform", "sample_rate": 0 }), "0 samples a second cannot be"),
        (json!({ "type": "waveform", "sample_rate": -1.5 }), "-1.5 samples a second cannot be"),
        (
            json!({ "type": "float64", "sample_rate": 1 }),
            "'sample_rate' belongs to a waveform, and column 'v' is none",
        ),
    ] {
        let at = "columns.v.sample_rate".to_owned();
        assert_eq!(declared(column).unwrap_err(), (at, message.to_owned()));
    }
    let format =
        burst(json!({ "v": { "type": "waveform", "sample_rate": 1, "format": "epoch_s" } }));
    let errors = plan(json!("json"), format, &[]).err().unwrap();
    assert_eq!(errors[0].at, "columns.v.format");
    // What a topic or a property says is text.
    let errors = plan(json!("json"), burst(none()), &[0, 2]).err().unwrap();
    assert_eq!((errors[0].at.as_str(), errors.len()), ("columns.v.type", 1));
}

proptest! {
    #[test]
    fn samples_of_json_are_exact(samples in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 1..50)) {
        let json = planned(json!("json"), burst(none()), &[]);
        for text in [json!(samples).to_string(), format!("{samples:?}")] {
            let text = format!(r#"{{"machine":"a","ts":1,"v":{text}}}"#);
            prop_assert_eq!(bits(&json.decode(text.as_bytes(), &[])), [Some(of(&samples))]);
        }
    }
}
