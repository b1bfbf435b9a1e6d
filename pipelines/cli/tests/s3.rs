//! The real command between two buckets, killed on the way, over a network on which things go wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreline_servers::{ACCESS_KEY, Fault, FaultyWay, Rule, S3Server, SECRET_KEY};
use foreline_tests::live::{Lake, ask, eventually, start, terminate};
use foreline_tests::torture::Options;
use foreline_tests::torture::s3::torture_s3;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
/// Rows of one object.
const ROWS: usize = 6_000;

fn pipeline(port: u16, poll: &str) -> String {
    let store = format!(
        "endpoint: 'http://127.0.0.1:{port}', allow_http: true, timeout: 5s, \
         access_key_id: {ACCESS_KEY}, secret_access_key: {SECRET_KEY}"
    );
    format!(
        "version: 1
name: p
sources:
  readings:
    s3: {{ url: 's3://plant/raw/', format: csv, poll: {poll}, {store} }}
    columns: {{ ts: timestamp, machine: string, v: float64 }}
    key: [machine]
    time: ts
sinks:
  lake: {{ from: readings, parquet: {{ path: 's3://lake/out', file_rows: 2000, s3: {{ {store} }} }} }}
epoch: {{ rows: 500 }}
snapshot: {{ interval: 20ms }}
"
    )
}

/// An object whose machine no other has.
fn object(machine: usize) -> String {
    let stamp = |i: usize| format!("2026-03-01T{:02}:{:02}:{:02}Z", i / 3600, i / 60 % 60, i % 60);
    let rows = (0..ROWS).map(|i| format!("{},P-{machine},{}.5\n", stamp(i), i % 89));
    std::iter::once("ts,machine,v\n".to_owned()).chain(rows).collect()
}

fn prepared(n_objects: usize, poll: &str) -> (S3Server, FaultyWay, tempfile::TempDir) {
    let server = S3Server::start(&["plant", "lake"]).unwrap();
    for i in 0..n_objects {
        server.put("plant", &format!("raw/{i}.csv"), object(i).as_bytes()).unwrap();
    }
    let way = FaultyWay::start(server.port()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), pipeline(way.port(), poll)).unwrap();
    (server, way, folder)
}

/// The rows that the manifest in the bucket lists; none of them twice.
fn rows(server: &S3Server) -> usize {
    let rows = Lake(server.file("lake", "out/readings")).rows();
    let n_rows = rows.len();
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>().len(), n_rows, "a row is there twice");
    n_rows
}

fn said(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr")).unwrap_or_default()
}

#[test]
fn deaths_between_two_buckets_leave_no_trace() {
    let (server, way, folder) = prepared(4, "once");
    let rule = |method, contains: &str, fault| Rule {
        method,
        contains: contains.to_owned(),
        fault,
        after: 1,
        times: 2,
    };
    way.rule(rule("GET", "raw/", Fault::Truncate(10_000)));
    way.rule(rule("GET", "list-type", Fault::Status(503)));
    way.rule(rule("PUT", "_manifest.json", Fault::LoseAnswer));
    way.rule(rule("PUT", ".parquet", Fault::Status(500)));
    let places = [
        "journal synced:5",
        "parquet files written:2",
        "after sink commit:2",
        "snapshot published:1",
        "epoch replayed:1",
        "before sink commit:2",
    ];
    for place in places {
        let ended = start(COMMAND, folder.path(), place).wait().unwrap();
        assert!(!ended.success() || rows(&server) == 4 * ROWS, "{place}: {}", said(folder.path()));
        rows(&server);
    }
    let mut killed = start(COMMAND, folder.path(), "");
    eventually("it has gone on", || rows(&server) > 0);
    killed.kill().unwrap();
    killed.wait().unwrap();
    rows(&server);
    if rows(&server) < 4 * ROWS {
        let ended = start(COMMAND, folder.path(), "").wait().unwrap();
        assert!(ended.success(), "{}", said(folder.path()));
    }
    assert_eq!(rows(&server), 4 * ROWS);
    let said = said(folder.path());
    assert!(!said.contains(SECRET_KEY), "{said}");
}

#[test]
fn a_late_object_is_found_after_a_death_and_once() {
    let (server, way, folder) = prepared(2, "200ms");
    let mut first = start(COMMAND, folder.path(), "");
    eventually("it has listed the bucket", || {
        way.requests().iter().filter(|line| line.contains("list-type")).count() > 2
    });
    first.kill().unwrap();
    first.wait().unwrap();
    // Its key sorts before those that were read.
    server.put("plant", "raw/+late.csv", object(7).as_bytes()).unwrap();
    let mut second = start(COMMAND, folder.path(), "");
    let read = |key: &str| way.requests().iter().any(|l| l.starts_with("GET") && l.contains(key));
    eventually("the late object is read", || read("late.csv"));
    let lists = || way.requests().iter().filter(|line| line.contains("list-type")).count();
    let before = lists();
    eventually("it has looked again", || lists() > before + 2);
    let ended = terminate(&mut second);
    assert!(ended.success(), "{}", said(folder.path()));
    // The last row of each machine may wait for the one behind it.
    let n_rows = rows(&server);
    assert!((3 * ROWS - 3..=3 * ROWS).contains(&n_rows), "{n_rows}");
}

#[test]
fn a_notification_has_it_look_at_once() {
    let (server, way, folder) = prepared(1, "1h");
    let path = folder.path().join("p.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}serve: {{ listen: 127.0.0.1:0 }}\n")).unwrap();
    let mut running = start(COMMAND, folder.path(), "");
    let mut address = None;
    eventually("it listens", || {
        address = foreline_tests::live::address(folder.path());
        address.is_some()
    });
    let wake = |source: &str| {
        let line = format!("POST /api/v1/sources/{source}/wake");
        ask(address.unwrap(), &line, "", br#"{"EventName":"s3:ObjectCreated:Put"}"#).unwrap()
    };
    let lists =
        || way.requests().iter().filter(|l| l.contains("plant") && l.contains("list-type")).count();
    eventually("it has listed once", || lists() == 1);
    server.put("plant", "raw/new.csv", object(1).as_bytes()).unwrap();
    assert_eq!(wake("readings").status, 202);
    let read = || way.requests().iter().any(|l| l.starts_with("GET") && l.contains("new.csv"));
    eventually("the new object is read", read);
    for _ in 0..50 {
        assert_eq!(wake("readings").status, 202);
    }
    let unknown = wake("nobody");
    assert!(unknown.status == 404 && unknown.body.contains("there is: readings"), "{unknown:?}");
    assert!(terminate(&mut running).success(), "{}", said(folder.path()));
    assert!(lists() < 20, "rings that come together are answered together: {}", lists());
}

#[test]
fn rows_of_objects_that_keep_arriving_are_there_once_after_forty_deaths() {
    let outcome = torture_s3(&Options {
        command: PathBuf::from(COMMAND),
        kills: 40,
        time: Duration::ZERO,
        rows: 80_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 40 && outcome.looks >= 5, "{outcome:?}");
    assert!(
        outcome.acknowledged >= 80_000 && outcome.faults.values().sum::<u64>() >= 10,
        "{outcome:?}"
    );
    assert_eq!((outcome.lost, outcome.duplicated), (0, 0), "{outcome:?}");
}
