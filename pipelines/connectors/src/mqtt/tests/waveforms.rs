//! Bursts of an accelerometer behind a real broker: every sample arrives with its bits.

use arrow::array::ListArray;
use arrow::datatypes::Float32Type;

use super::*;

/// A burst that no rounding leaves alone, longer than one packet of the network.
fn burst() -> Vec<f32> {
    let wave = |i: u16| f32::from_bits(0x3dcc_cccd ^ (u32::from(i) << 7) ^ u32::from(i));
    (0..30_000).map(wave).filter(|s| s.is_finite()).collect()
}

/// The rows that come of the payloads, published in this order: stamp in nanoseconds and samples.
#[expect(clippy::needless_pass_by_value, reason = "tests write the values where they are used")]
fn arrived(format: Value, payloads: &[Vec<u8>]) -> (Vec<(i64, Vec<u32>)>, Vec<String>) {
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp", "format": "epoch_ns" },
        "v": { "type": "waveform", "sample_rate": 25600, "unit": "g" },
    });
    let parse = |(name, c): (&String, &Value)| {
        let config: ColumnConfig = serde_json::from_value(c.clone()).unwrap();
        (name.clone(), config)
    };
    let columns: Vec<(String, ColumnConfig)> =
        columns.as_object().unwrap().iter().map(parse).collect();
    let named = columns.iter().map(|(name, c)| c.declared(name).unwrap());
    let schema = Schema::new(named.collect(), &["machine"], "ts").unwrap();
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let own = json!({ "topics": ["plant/{machine}/vib"], "format": format });
    let config = foreline_engine::parse_config(&config(&broker.url(), "5", own)).unwrap();
    let inputs = SourceInputs { columns: &columns, schema: &schema };
    let plan = Plan::new(&config, &inputs, &Folder).unwrap_or_else(|e| panic!("{e:?}"));
    let mut source = MqttSource::open(&Arc::new(plan)).unwrap();
    let mut decoder = source.decoder();
    let mut out = Decoded::default();
    let mut sent = false;
    let begun = Instant::now();
    while out.records < payloads.len() as u64 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", source.counts());
        match source.poll(64 * 1024).unwrap() {
            foreline_engine::Poll::Ready(chunk) => decoder.decode(&chunk, &mut out),
            _ => pause(),
        }
        if !sent && source.counts().subscriptions > 0 {
            sent = true;
            let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
            for payload in payloads {
                publisher.publish("plant/P-7/vib", payload).unwrap();
            }
            publisher.settle().unwrap();
        }
    }
    let dead = out.dead.iter().map(|d| format!("{}: {}", d.reason, d.detail)).collect();
    (out.rows.iter().flat_map(|(rows, _)| rows_of(rows)).collect(), dead)
}

fn rows_of(rows: &arrow::array::RecordBatch) -> Vec<(i64, Vec<u32>)> {
    let times = arrow::compute::cast(rows.column(1), &DataType::Int64).unwrap();
    let times = times.as_primitive::<Int64Type>();
    let waves: &ListArray = rows.column(2).as_list();
    let samples = |row| {
        let samples = waves.value(row);
        samples.as_primitive::<Float32Type>().values().iter().map(|s| s.to_bits()).collect()
    };
    (0..rows.num_rows()).map(|row| (times.value(row), samples(row))).collect()
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

#[test]
fn a_burst_of_raw_floats_arrives_bit_for_bit() {
    let burst = burst();
    let bytes: Vec<u8> = burst.iter().flat_map(|s| s.to_le_bytes()).collect();
    let stamped = |ns: i64, samples: &[u8]| [&ns.to_le_bytes()[..], samples].concat();
    let format = json!({ "raw": { "stamp": "epoch_ns", "stamped": "first" } });
    let payloads = [stamped(7, &bytes), stamped(8, &bytes[..5]), stamped(9, &bytes[..8])];
    let (rows, dead) = arrived(format, &payloads);
    assert_eq!(rows, [(7, bits(&burst)), (9, bits(&burst[..2]))]);
    assert_eq!(dead, ["bad_value: 5 bytes are no whole number of samples of 4 bytes"]);
}

#[test]
fn a_burst_of_json_arrives_bit_for_bit() {
    let burst = burst();
    let whole = json!({ "ts": 1_772_323_200_000_000_001_i64, "v": burst }).to_string().into_bytes();
    let broken = br#"{"ts": 5, "v": [0.5, null]}"#.to_vec();
    let (rows, dead) = arrived(json!("json"), &[whole, broken]);
    assert_eq!(rows, [(1_772_323_200_000_000_001, bits(&burst))]);
    assert_eq!(dead, ["bad_value: column 'v': sample 1 of '[0.5, null]' is no number"]);
}
