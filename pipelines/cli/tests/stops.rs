//! The real command told to stop while rows come, stopped by the system in the middle, and started on what an earlier version left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;
use foreline_tests::live::{Running, ask, eventually, terminate};
use serde_json::Value;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const JSON: &str = "content-type: application/json\r\n";

const PUSHED: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: { type: timestamp, format: epoch_ms }, v: float64 }
    key: [machine]
    time: ts
    lateness: 1h
    dedupe: [machine, ts]
steps:
  smooth: { from: readings, ema: { columns: [v], alpha: 0.5 } }
sinks: { lake: { from: [readings, smooth], parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";

/// Milliseconds of the reading `n`.
fn time(n: u64) -> u64 {
    1_772_323_200_000 + n * 1000
}

fn body(first: u64, n: u64) -> String {
    let row = |n| format!("{{\"machine\":\"M-{}\",\"ts\":{},\"v\":{n}}}", n % 7, time(n));
    format!("[{}]", (first..first + n).map(row).collect::<Vec<_>>().join(","))
}

fn pipeline(running: &Running) -> Value {
    serde_json::from_str(&running.send("GET /api/v1/pipeline", "")).unwrap()
}

/// What a figure has, with its labels as they are written.
fn metric(running: &Running, name: &str) -> f64 {
    let page = running.send("GET /metrics", "");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
}

#[test]
fn g1_told_to_stop_under_load_it_drains_and_the_next_run_replays_nothing() {
    let mut running = Running::new(COMMAND, PUSHED, &[]);
    let (next, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = (0..3).map(|_| {
        let (address, next, over) = (running.address, Arc::clone(&next), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut acknowledged = BTreeSet::new();
            while !over.load(Ordering::Acquire) {
                let first = next.fetch_add(20, Ordering::AcqRel);
                let rows = body(first, 20);
                let line = "POST /api/v1/sources/readings/rows";
                let sent = ask(address, line, JSON, rows.as_bytes());
                match sent {
                    Ok(answer) if answer.status == 200 => acknowledged.extend(first..first + 20),
                    // It ends, or has ended.
                    _ => break,
                }
            }
            acknowledged
        })
    });
    let clients: Vec<_> = clients.collect();
    eventually("rows are taken", || next.load(Ordering::Acquire) > 2_000);
    let ended = terminate(&mut running.child);
    over.store(true, Ordering::Release);
    assert_eq!(ended.code(), Some(0));
    let acknowledged: BTreeSet<u64> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    assert!(acknowledged.len() > 1_000, "only {} rows", acknowledged.len());

    running.again();
    assert_eq!(metric(&running, "foreline_source_rows_in_total{source=\"readings\"}"), 0.0);
    assert_eq!(metric(&running, "foreline_step_rows_in_total{step=\"smooth\",kind=\"ema\"}"), 0.0);
    // What was taken and not answered may be there, too.
    let taken = pipeline(&running)["sources"][0]["rows"].as_u64().unwrap();
    assert!(taken >= acknowledged.len() as u64, "{taken}");
    // A reading of every machine long after brings out what waits for its time.
    running.send("POST /api/v1/sources/readings/rows", &body(7 * 100_000, 7));
    let lake = running.lake("readings");
    eventually("all that was answered is there", || lake.rows().len() as u64 >= taken);
    assert!(terminate(&mut running.child).success());
    let rows = lake.rows();
    let distinct: BTreeSet<_> = rows.iter().collect();
    assert_eq!(rows.len(), distinct.len(), "nothing is there twice");
    let has = |n: &u64| {
        let at = i64::try_from(time(*n)).unwrap() * 1_000_000;
        distinct.contains(&(format!("M-{}", n % 7), at))
    };
    assert!(acknowledged.iter().all(has), "nothing is missing");
}

#[test]
fn g2_stopped_by_the_system_it_connects_again_and_its_watermark_is_sane() {
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let source = format!(
        "    mqtt: {{ urls: ['{}'], topics: ['plant/{{machine}}/v'], client_id: foreline-g2, keep_alive: 1s }}",
        broker.url()
    );
    let text = PUSHED
        .replace("    http: { max_requests_per_s: 100000 }", &source)
        .replace("    lateness: 1h\n", "    idle_timeout: 30s\n");
    let mut running = Running::new(COMMAND, &text, &[]);
    eventually("the subscription", || broker.log().contains("plant/+/v"));
    let publish = |numbers: std::ops::Range<u64>| {
        let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
        for n in numbers {
            let payload = format!("{{\"ts\":{},\"v\":{n}}}", time(n));
            publisher.publish("plant/M-0/v", payload.as_bytes()).unwrap();
        }
        publisher.settle().unwrap();
    };
    let rows = |running: &Running| pipeline(running)["sources"][0]["rows"].as_u64().unwrap();
    publish(0..20);
    eventually("the first rows", || rows(&running) == 20);
    let watermark = pipeline(&running)["sources"][0]["watermark"].clone();
    assert_eq!(watermark, "2026-03-01T00:00:19Z");

    foreline_servers::signal("STOP", running.child.id()).unwrap();
    // The broker gives it up after one and a half times the keep-alive, and keeps what comes for its session.
    eventually("it is given up", || broker.log().contains("foreline-g2 has exceeded timeout"));
    publish(20..40);
    foreline_servers::signal("CONT", running.child.id()).unwrap();
    eventually("all rows", || rows(&running) == 40);
    eventually("the watermark of the last one", || {
        pipeline(&running)["sources"][0]["watermark"] == "2026-03-01T00:00:39Z"
    });
    let source = pipeline(&running)["sources"][0].clone();
    assert_eq!((source["late"].as_u64(), source["dead"].as_u64()), (Some(0), Some(0)), "{source}");
    assert!(terminate(&mut running.child).success());
    assert_eq!(running.lake("readings").rows().len(), 40);
}

/// Where what an earlier version left is kept: the folder of a pipeline that was killed in the middle.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1")
}

/// Readings of the golden run: so many in its snapshot, and so many behind it in the journal.
const GOLDEN_ROWS: u64 = 60;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &there),
            false => drop(fs::copy(entry.path(), there).unwrap()),
        }
    }
}

/// Makes the golden run: rows that a snapshot has, rows behind it, and a death.
fn make_golden() {
    // Rows are in the orderer's state and in the step's: most are through, and the last of each machine wait.
    let pipeline = PUSHED.replace("lateness: 1h", "lateness: 2s");
    let mut running = Running::new(COMMAND, &pipeline, &[]);
    running.send("POST /api/v1/sources/readings/rows", &body(0, GOLDEN_ROWS / 2));
    let snapshots = running.folder.path().join(".foreline/p/snapshots");
    eventually("a snapshot", || {
        let named = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|e| e.path().extension().is_some_and(|e| e == "json"))
        };
        fs::read_dir(&snapshots).is_ok_and(|mut entries| entries.any(named))
    });
    running.send("POST /api/v1/sources/readings/rows", &body(GOLDEN_ROWS / 2, GOLDEN_ROWS / 2));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    for name in ["stdout", "stderr"] {
        fs::remove_file(running.folder.path().join(name)).unwrap();
    }
    copy(running.folder.path(), &golden());
}

#[test]
fn g3_what_an_earlier_version_left_is_opened_and_gone_on_with() {
    if std::env::var_os("FORELINE_UPDATE").is_some() && !golden().exists() {
        make_golden();
    }
    let mut running = Running::new(COMMAND, PUSHED, &[]);
    // A new folder in place of the one that it began with.
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    for entry in fs::read_dir(running.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    copy(&golden(), running.folder.path());
    running.again();
    eventually("what was journaled is there", || {
        pipeline(&running)["sources"][0]["rows"] == GOLDEN_ROWS
    });
    running.send("POST /api/v1/sources/readings/rows", &body(7 * 100_000, 7));
    let lake = running.lake("smooth");
    eventually("what waited for its time is there", || lake.rows().len() as u64 == GOLDEN_ROWS);
    assert!(terminate(&mut running.child).success());
    let rows = lake.rows();
    let distinct: BTreeSet<_> = rows.iter().collect();
    assert_eq!(distinct.len() as u64, GOLDEN_ROWS, "each once");
    // What each machine had shown before is in the snapshot: without it the first value behind it would be its own.
    let smoothed = lake.texts(&["machine", "v"]);
    for machine in 0..7 {
        let mut expected = Vec::new();
        for n in (0..GOLDEN_ROWS).filter(|n| n % 7 == machine) {
            let before = expected.last().copied();
            expected
                .push(before.map_or(n as f64, |before: f64| before + 0.5 * (n as f64 - before)));
        }
        let of = |row: &&Vec<String>| row[0] == format!("M-{machine}");
        let mut found: Vec<f64> =
            smoothed.iter().filter(of).map(|row| row[1].parse().unwrap()).collect();
        found.sort_by(f64::total_cmp);
        assert_eq!(found, expected, "M-{machine}");
    }
}
