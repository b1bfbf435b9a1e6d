//! From files to a broker: the real command reads a history while the broker's messages come in, dies in between, and every
//! reading is there once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;
use foreline_tests::live::{Lake, eventually, start, terminate};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const MACHINES: i64 = 6;
/// Seconds that the files have.
const FILES_UPTO: i64 = 10_000;
/// The first second that comes from the broker, and the one behind the last.
const LIVE: std::ops::Range<i64> = 9_900..10_200;
/// Where time begins.
const BASE_MS: i64 = 1_772_323_200_000;

fn write_history(folder: &Path) {
    let mut text = "ts,machine,v\n".to_owned();
    for second in 0..FILES_UPTO {
        for machine in 0..MACHINES {
            text += &format!("{},P-{machine},{}.5\n", BASE_MS + second * 1000, second % 97);
        }
    }
    fs::write(folder.join("history.csv"), text).unwrap();
}

fn publish(publisher: &mut Publisher, second: i64) {
    for machine in 0..MACHINES {
        let payload = format!("{{\"ts\":{},\"v\":{}.5}}", BASE_MS + second * 1000, second % 97);
        publisher.publish(&format!("plant/P-{machine}/v"), payload.as_bytes()).unwrap();
    }
}

#[test]
fn between_history_and_live_there_is_no_gap_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(Setup { is_wide: true, ..Setup::default() }).unwrap();
    write_history(folder.path());
    let pipeline = format!(
        "version: 1
name: p
sources:
  readings:
    mqtt: {{ urls: ['{}'], topics: ['plant/{{machine}}/v'], client_id: handover }}
    history: {{ csv: {{ path: history.csv }} }}
    columns: {{ ts: {{ type: timestamp, format: epoch_ms }}, machine: string, v: float64 }}
    key: [machine]
    time: ts
    lateness: 10m
    dedupe: [machine, ts]
sinks: {{ lake: {{ from: readings, parquet: {{ path: lake }} }} }}
epoch: {{ rows: 500, interval: 20ms }}
snapshot: {{ interval: 50ms }}
",
        broker.url()
    );
    fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let lake = Lake(folder.path().join("lake/readings"));
    let mut child = start(COMMAND, folder.path(), "");
    eventually("a subscription", || broker.log().contains("plant/+/v"));
    let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
    let half = (LIVE.start + LIVE.end) / 2;
    (LIVE.start..half).for_each(|second| publish(&mut publisher, second));
    publisher.settle().unwrap();
    // What was acknowledged waits for the history, and it dies with it.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = lake.rows().len();
    assert!(before < (FILES_UPTO * MACHINES) as usize, "the history was over: {before} rows");
    (half..LIVE.end).for_each(|second| publish(&mut publisher, second));
    publisher.settle().unwrap();
    let mut child = start(COMMAND, folder.path(), "");
    // Much later ones move the watermarks, so that nothing waits for its time.
    publish(&mut publisher, LIVE.end + 3_600);
    publisher.settle().unwrap();
    let all = 0..LIVE.end;
    let expected: BTreeSet<(String, i64)> = all
        .flat_map(|second| (0..MACHINES).map(move |m| (m, second)))
        .map(|(m, second)| (format!("P-{m}"), (BASE_MS + second * 1000) * 1_000_000))
        .collect();
    eventually("all readings are there", || {
        let found: BTreeSet<(String, i64)> = lake.rows().into_iter().collect();
        expected.is_subset(&found)
    });
    assert!(terminate(&mut child).success());
    let found = lake.rows();
    let distinct: BTreeSet<&(String, i64)> = found.iter().collect();
    assert_eq!(found.len(), distinct.len(), "something is there twice");
}
