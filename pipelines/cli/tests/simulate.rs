//! A simulated fleet on its way: to a broker, to a source over HTTP, to a bucket, and what refuses it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::{ACCESS_KEY, S3Server, SECRET_KEY};
use foreline_tests::live::{Lake, Running, eventually, terminate};
use serde_json::Value;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

/// A small fleet: some minutes of three pumps.
const FLEET: [&str; 8] =
    ["simulate", "pumps", "--training", "1", "--live", "3", "--mean-life-hours", "0.1"];

fn simulate(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(COMMAND);
    command.args(FLEET).args(["--out", "fleet", "--json"]).args(more).current_dir(folder);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.output().unwrap()
}

fn done(folder: &Path, more: &[&str]) -> Value {
    let output = simulate(folder, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A pipeline that keeps the readings of a source.
fn pipeline(source: &str) -> String {
    format!(
        "version: 1
name: p
sources:
  readings:
    {source}
    columns: {{ ts: timestamp, machine: string, condition: string, vibration: float64, temperature: float64, current: float64, pressure: float64, speed: float64 }}
    key: [machine]
    time: ts
    lateness: 0s
    dedupe: [machine, ts]
sinks: {{ lake: {{ from: [readings, dead_letters], parquet: {{ path: lake }} }} }}
epoch: {{ interval: 20ms }}
serve: {{ listen: 127.0.0.1:0 }}
"
    )
}

/// The live readings of a folder, a machine and a vibration each.
fn written(folder: &Path) -> BTreeSet<(String, String, u64)> {
    let files = fs::read_dir(folder.join("fleet/live")).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let rows = texts.flat_map(|text| {
        let rows = text.lines().skip(1).map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            row(fields[1], fields[2], fields[3])
        });
        rows.collect::<Vec<_>>()
    });
    rows.collect()
}

fn row(machine: &str, condition: &str, vibration: &str) -> (String, String, u64) {
    let vibration: f64 = vibration.parse().unwrap();
    (machine.to_owned(), condition.to_owned(), vibration.to_bits())
}

fn arrived(lake: &Lake) -> BTreeSet<(String, String, u64)> {
    if !lake.0.exists() {
        return BTreeSet::new();
    }
    let rows = lake.texts(&["machine", "condition", "vibration"]);
    rows.iter().map(|fields| row(&fields[0], &fields[1], &fields[2])).collect()
}

#[test]
fn a_broker_takes_what_is_simulated() {
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let source = format!(
        "mqtt: {{ urls: ['{}'], topics: ['plant/{{machine}}/readings'], client_id: foreline-plant }}",
        broker.url()
    );
    let mut running = Running::new(COMMAND, &pipeline(&source), &[]);
    // What is published before is not for it.
    eventually("the subscription", || broker.log().contains("plant/+/readings"));
    let folder = running.folder.path().to_owned();
    let to = format!("{}/plant/{{machine}}/readings", broker.url());
    let report = done(&folder, &["--no-faults", "--to", &to]);
    assert_eq!(report["sent"]["rows"], report["live_rows"]);
    let written = written(&folder);
    assert!(written.len() > 100);
    eventually("all readings", || arrived(&running.lake("readings")).len() == written.len());
    assert_eq!(arrived(&running.lake("readings")), written);
    assert!(terminate(&mut running.child).success());
}

#[test]
fn a_source_over_http_takes_what_is_simulated_once() {
    let mut running = Running::new(COMMAND, &pipeline("http: {}"), &[]);
    let folder = running.folder.path().to_owned();
    let to = format!("http://{}/api/v1/sources/readings/rows", running.address);
    let report = done(&folder, &["--to", &to, "--rows-per-s", "20000"]);
    let faults = |name: &str| report["faults"][name].as_u64().unwrap();
    let live = report["live_rows"].as_u64().unwrap();
    assert_eq!(report["sent"]["rows"].as_u64(), Some(live));
    let count = |outcome: &str| -> u64 {
        let page = running.send("GET /metrics", "");
        let name =
            format!("foreline_source_rows_total{{source=\"readings\",outcome=\"{outcome}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    };
    let all = ["used", "late", "deduplicated", "dead"];
    let looked_at = || all.iter().map(|outcome| count(outcome)).sum::<u64>();
    // A request of which no line can be used leaves nothing behind.
    eventually("all readings", || looked_at() + faults("malformed") >= live);
    let before = looked_at();
    // The same bodies once more are nothing new.
    done(&folder, &["--to", &to]);
    assert_eq!(looked_at(), before);
    assert!(terminate(&mut running.child).success());
}

#[test]
fn a_bucket_gets_the_files() {
    let server = S3Server::start(&["plant"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://127.0.0.1:{}", server.port());
    let to = ["--to", "s3://plant/raw", "--endpoint", &endpoint];
    let report = done(folder.path(), &to);
    let keys = server.keys("plant").unwrap();
    assert_eq!(Some(keys.len() as u64), report["sent"]["objects"].as_u64());
    for key in ["raw/live/readings-00.csv", "raw/train/readings-00.csv", "raw/truth.csv"] {
        let file = folder.path().join("fleet").join(key.strip_prefix("raw/").unwrap());
        assert_eq!(fs::read(server.file("plant", key)).unwrap(), fs::read(file).unwrap(), "{key}");
    }
    let rotor = ["simulate", "rotor", "--layout", "sensors", "--seconds", "2", "--out", "bench"];
    let output = Command::new(COMMAND)
        .args(rotor)
        .args(["--to", "s3://plant/bench", "--endpoint", &endpoint])
        .envs([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("9 objects"), "{output:?}");
    assert!(server.keys("plant").unwrap().contains(&"bench/g2_sensor4.csv".to_owned()));
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (to, said) in [
        ("ftp://host/x", "is no receiver"),
        ("mqtt://127.0.0.1:1883", "is not a topic"),
        ("mqtt://user:word@127.0.0.1/x", "user name or a password"),
        ("mqtt://127.0.0.1/plant/#", "wildcards"),
        ("http://user:word@127.0.0.1/x", "FORELINE_TOKEN"),
        ("s3:///x", "name of a bucket"),
    ] {
        let output = simulate(folder.path(), &["--to", to]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && err.contains(said) && !err.contains("word@"),
            "{to}: {err}"
        );
    }
    assert!(!folder.path().join("fleet").exists());
}
