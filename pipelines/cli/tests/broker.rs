//! The real command and brokers: killed, told to stop, thrown out, fed redeliveries, and looked over the shoulder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use foreline_servers::fake_broker::{FakeBroker, publish as packet_of};
use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;
use foreline_tests::live::{Lake, eventually, start, terminate};
use foreline_tests::torture::Options;
use foreline_tests::torture::broker::torture_broker;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

/// A pipeline that runs in a folder of its own.
struct Running {
    folder: tempfile::TempDir,
    child: Child,
}

impl Running {
    /// Starts one that reads from `url`, with more options of the source.
    fn new(url: &str, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.yaml"), pipeline(url, options)).unwrap();
        let child = start(COMMAND, folder.path(), "");
        Running { folder, child }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    fn rows(&self) -> Vec<(String, i64)> {
        Lake(self.folder.path().join("lake/readings")).rows()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn pipeline(url: &str, options: &str) -> String {
    format!(
        "version: 1
name: p
sources:
  readings:
    mqtt: {{ urls: ['{url}'], topics: ['plant/{{machine}}/v'], client_id: foreline-plant, keep_alive: 1s{options} }}
    columns: {{ ts: {{ type: timestamp, format: epoch_ms }}, machine: string, v: float64 }}
    key: [machine]
    time: ts
    dedupe: [machine, ts]
sinks:
  lake: {{ from: readings, parquet: {{ path: lake }} }}
epoch: {{ interval: 20ms }}
"
    )
}

/// Runs a command of `foreline` in a folder; whether it succeeded, and what it said.
fn command(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(COMMAND).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// The payload of a reading.
fn payload(n: i64) -> Vec<u8> {
    format!("{{\"ts\":{},\"v\":{n}.5}}", 1_772_323_200_000 + n * 1000).into_bytes()
}

fn publish(broker: &Mosquitto, numbers: std::ops::Range<i64>) {
    let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
    for n in numbers {
        publisher.publish("plant/P-1/v", &payload(n)).unwrap();
    }
    publisher.settle().unwrap();
}

fn subscribed(broker: &Mosquitto) {
    eventually("the subscription", || broker.log().contains("plant/+/v"));
}

#[test]
fn what_a_broker_has_acknowledged_is_there_once_after_forty_deaths() {
    let outcome = torture_broker(&Options {
        command: PathBuf::from(COMMAND),
        kills: 40,
        time: Duration::ZERO,
        rows: 6_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 40 && outcome.acknowledged == 6_000, "{outcome:?}");
    assert!(outcome.faults.len() == 4, "broker and network have failed in every way: {outcome:?}");
    assert_eq!((outcome.lost, outcome.duplicated), (0, 0), "{outcome:?}");
}

#[test]
fn a_broker_that_forgets_is_named_and_read_again() {
    let mut broker = Mosquitto::start(Setup::default()).unwrap();
    let mut running = Running::new(&broker.url(), "");
    subscribed(&broker);
    publish(&broker, 0..10);
    eventually("rows", || running.rows().len() >= 9);
    broker.stop().unwrap();
    broker.restart().unwrap();
    subscribed(&broker);
    let lost = "has no session for the client id 'foreline-plant' any more";
    eventually("the warning", || running.said().contains(lost));
    publish(&broker, 10..20);
    eventually("more rows", || running.rows().len() >= 19);
    assert!(terminate(&mut running.child).success(), "{}", running.said());
}

#[test]
fn of_two_runs_with_one_client_id_one_ends_and_says_why() {
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let mut both = [(); 2].map(|()| Running::new(&broker.url(), ""));
    let mut ended = None;
    eventually("one of them ends", || {
        ended = both.iter_mut().position(|r| r.child.try_wait().unwrap().is_some());
        ended.is_some()
    });
    let one = &mut both[ended.unwrap()];
    assert_eq!(one.child.wait().unwrap().code(), Some(1), "{}", one.said());
    let said = one.said();
    assert!(said.contains("uses the client id 'foreline-plant'"), "{said}");
    assert!(said.contains("connecting again in"), "it was tried before: {said}");
}

#[test]
fn a_storm_of_redeliveries_counts_once() {
    let message = |id: u16, is_dup| packet_of(b"plant/P-1/v", id, is_dup, &payload(id.into()));
    let mut script: Vec<Vec<u8>> = (1..=50).map(|id| message(id, false)).collect();
    script.extend((0..500).map(|i| message(50 - i * 7 % 50, true)));
    script.push(message(51, false));
    let broker = FakeBroker::start(script.concat()).unwrap();
    let mut running = Running::new(&broker.url(), ", version: '3.1.1'");
    eventually("the last of them is acknowledged", || broker.acknowledged().contains(&51));
    assert!(terminate(&mut running.child).success(), "{}", running.said());
    eventually("rows", || running.rows().len() >= 50);
    let rows = running.rows();
    let distinct: BTreeSet<_> = rows.iter().collect();
    assert_eq!(rows.len(), distinct.len(), "nothing is there twice");
    assert_eq!(broker.connections(), 1);
}

#[test]
fn a_tap_shows_rows_and_takes_none_away() {
    for version in ["5", "3.1.1"] {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let mut running = Running::new(&broker.url(), &format!(", version: '{version}'"));
        subscribed(&broker);
        let mut tap = Command::new(COMMAND);
        tap.args(["tap", "p.yaml", "readings", "--rows", "5", "--json"]);
        tap.current_dir(running.folder.path()).stdout(Stdio::piped());
        let tap = tap.spawn().unwrap();
        let subscriptions = || broker.log().matches("plant/+/v").count();
        eventually("the tap's subscription", || subscriptions() == 2);
        publish(&broker, 0..10);
        let shown = tap.wait_with_output().unwrap();
        assert!(shown.status.success());
        let shown = String::from_utf8(shown.stdout).unwrap();
        let shown: Vec<serde_json::Value> =
            shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(shown.len(), 5, "{shown:?}");
        assert_eq!((&shown[0]["machine"], &shown[0]["v"]), (&"P-1".into(), &0.5.into()));
        publish(&broker, 10..20);
        eventually("all rows", || running.rows().len() >= 19);
        let log = broker.log();
        assert_eq!(log.matches("as foreline-plant ").count(), 1, "one connection: {log}");
        assert_eq!(log.matches("as foreline-tap-").count(), 1, "{log}");
        assert!(terminate(&mut running.child).success(), "{}", running.said());
    }
}

#[test]
fn connections_are_tried_and_what_is_wrong_is_named() {
    const PASSWORD: &str = "canary-5f1e";
    let credentials = Some(("plant".to_owned(), PASSWORD.to_owned()));
    let guarded = Mosquitto::start(Setup { credentials, ..Setup::default() }).unwrap();
    let secure = Mosquitto::start(Setup { has_tls: true, ..Setup::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let check = |url: &str, options: &str| {
        fs::write(folder.path().join("p.yaml"), pipeline(url, options)).unwrap();
        let (ok, found, said) = command(folder.path(), &["check", "p.yaml", "--connect"]);
        assert!(!found.contains("canary") && !said.contains("canary"), "{found}{said}");
        (ok, found + &said)
    };
    let with = |password: &str| format!(", username: plant, password: {password}");
    let (ok, found) = check(&guarded.url(), &with(PASSWORD));
    assert!(ok && found.contains("1 brokers take us, and grant 1 topics"), "{found}");
    for version in ["5", "3.1.1"] {
        let options = format!("{}, version: '{version}'", with("canary-wrong"));
        let (ok, found) = check(&guarded.url(), &options);
        assert!(!ok && found.contains("the broker refuses"), "{found}");
    }
    let port = foreline_servers::free_port().unwrap();
    let (ok, found) = check(&format!("mqtt://127.0.0.1:{port}"), "");
    assert!(!ok && found.contains("refused") && found.contains("look at `urls`"), "{found}");
    let file = |name: &str| secure.file(name).display().to_string();
    let options = format!(
        ", tls: {{ ca: '{}', cert: '{}', key: '{}' }}",
        file("stranger.pem"),
        file("client.pem"),
        file("client.key")
    );
    let (ok, found) = check(&secure.url(), &options);
    assert!(!ok && found.contains("certificate") && found.contains("look at `tls`"), "{found}");
    let (ok, found) = check(&secure.url().replace("mqtts", "mqtt"), "");
    assert!(!ok && found.contains("mqtts://"), "{found}");
}
