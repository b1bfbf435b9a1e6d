//! The real command as a server: killed under load, told to end, abused. What was answered 200 counts exactly once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use foreline_tests::live::{Answer, Running, ask, eventually, read_answer, terminate};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const ROWS: &str = "POST /api/v1/sources/readings/rows";
const JSON: &str = "content-type: application/json\r\n";

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_body_mib: 1, max_requests_per_s: 100000 }
    columns: { ts: timestamp, machine: string, v: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
steps:
  smooth: { from: readings, ema: { columns: [v], half_life: 5s } }
sinks: { lake: { from: smooth, parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";

fn run(pipeline: &str) -> Running {
    Running::new(COMMAND, pipeline, &[])
}

fn post(running: &Running, head: &str, body: &str) -> Answer {
    ask(running.address, ROWS, head, body.as_bytes()).unwrap()
}

/// Row `n`; each machine has one a second.
fn row(n: u64) -> (String, (String, i64)) {
    let (machine, second) = (format!("P-{}", n % 7), n / 7);
    let stamp = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let json = format!("{{\"ts\":\"2026-03-01T{stamp}Z\",\"machine\":\"{machine}\",\"v\":{n}}}");
    let base = 1_772_323_200_i64;
    (json, (machine, (base + i64::try_from(second).unwrap()) * 1_000_000_000))
}

fn body(first: u64, n: u64) -> String {
    let rows: Vec<String> = (first..first + n).map(|n| row(n).0).collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn what_was_answered_counts_once_whatever_dies() {
    // Several clients are out of order among themselves.
    let pipeline = PIPELINE.replace("    time: ts\n", "    time: ts\n    lateness: 1h\n");
    let mut running = run(&pipeline);
    let address = Arc::new(Mutex::new(running.address));
    let (next, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = (0..4).map(|_| {
        let (address, next, over) = (Arc::clone(&address), Arc::clone(&next), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            while !over.load(Ordering::Acquire) {
                let first = next.fetch_add(20, Ordering::AcqRel);
                // Sent until it is answered, as a gateway does.
                while !over.load(Ordering::Acquire) {
                    let to = *address.lock().unwrap();
                    let sent = ask(to, ROWS, JSON, body(first, 20).as_bytes());
                    if sent.is_ok_and(|answer| answer.status == 200) {
                        acknowledged.extend(first..first + 20);
                        break;
                    }
                }
            }
            acknowledged
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut reached = 0;
    for _ in 0..5 {
        reached += 400;
        eventually("rows are taken", || next.load(Ordering::Acquire) > reached);
        running.die_and_live();
        *address.lock().unwrap() = running.address;
    }
    over.store(true, Ordering::Release);
    let acknowledged: Vec<u64> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    assert!(acknowledged.len() > 1000, "only {} rows", acknowledged.len());
    let expected: BTreeSet<(String, i64)> = acknowledged.iter().map(|n| row(*n).1).collect();
    // A reading of every machine long after brings out what waits for its time.
    assert_eq!(post(&running, JSON, &body(7 * 20_000, 7)).status, 200);
    let lake = running.lake("smooth");
    eventually("everything acknowledged is there", || {
        let found: BTreeSet<(String, i64)> = lake.rows().into_iter().collect();
        expected.is_subset(&found)
    });
    assert!(terminate(&mut running.child).success());
    let mut counts: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for row in lake.rows() {
        *counts.entry(row).or_default() += 1;
    }
    assert!(counts.values().all(|n| *n == 1), "nothing is there twice");
}

#[test]
fn a_key_counts_once_across_a_death_and_answers_the_same() {
    let mut running = run(&PIPELINE.replace("    dedupe: [machine, ts]\n", ""));
    let head = format!("{JSON}idempotency-key: 5f1e-1\r\n");
    let text = body(0, 5).replace("\"v\":3", "\"v\":\"x\"");
    let first = post(&running, &head, &text);
    assert_eq!(first.status, 200, "{}", first.body);
    running.die_and_live();
    let again = post(&running, &head, &text);
    assert_eq!((again.status, again.body), (200, first.body));
    assert!(again.head.contains("foreline-request: replayed"), "{}", again.head);
    let other = post(&running, &head, &body(5, 1));
    assert_eq!(other.status, 422, "{}", other.body);
    let lake = running.lake("smooth");
    eventually("the rows are there", || lake.rows().len() == 4);
    assert_eq!(post(&running, JSON, &body(100, 1)).status, 200);
    eventually("what came later is there", || lake.rows().len() == 5);
}

#[test]
fn rows_come_as_csv_ndjson_and_compressed_and_errors_are_named() {
    let running = run(PIPELINE);
    let csv = "ts,machine,v\n2026-03-01T00:00:00Z,A,1\n2026-03-01T00:00:01Z,A,nonsense\n";
    let answer = post(&running, "content-type: text/csv\r\n", csv);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&said["accepted"], &said["rejected"]), (&1.into(), &1.into()));
    assert_eq!(said["errors"][0]["index"], 1);
    assert_eq!(said["errors"][0]["reason"], "bad_value");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(format!("{}\n{}\n", row(0).0, row(1).0).as_bytes()).unwrap();
    let head = "content-type: application/x-ndjson\r\ncontent-encoding: gzip\r\n";
    let answer = ask(running.address, ROWS, head, &packed.finish().unwrap()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lake = running.lake("smooth");
    eventually("three rows are there", || lake.rows().len() == 3);
}

/// The status of an answer that is a problem, with what it says.
fn problem(answer: &Answer) -> (u16, String) {
    assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(said["status"], answer.status);
    (answer.status, said["type"].as_str().unwrap().to_owned())
}

#[test]
fn abuse_is_answered_and_hurts_nobody() {
    let running = run(PIPELINE);
    let expect = |line: &str, head: &str, body: &[u8], status: u16, kind: &str| {
        let answer = ask(running.address, line, head, body).unwrap();
        assert_eq!(problem(&answer), (status, format!("urn:foreline:problem:{kind}")));
    };
    expect(ROWS, JSON, b"{\"ts\":", 422, "nothing-usable");
    expect(ROWS, JSON, "[".repeat(500_000).as_bytes(), 422, "nothing-usable");
    expect(ROWS, JSON, "{\"a\":".repeat(100_000).as_bytes(), 422, "nothing-usable");
    expect(ROWS, "content-type: image/png\r\n", b"x", 415, "bad-content-type");
    expect(ROWS, "", b"x", 415, "bad-content-type");
    expect(ROWS, &format!("{JSON}content-encoding: br\r\n"), b"x", 415, "bad-encoding");
    expect(ROWS, &format!("{JSON}content-encoding: gzip\r\n"), b"x", 400, "bad-gzip");
    expect(ROWS, &format!("{JSON}idempotency-key: \r\n"), b"[]", 400, "bad-idempotency-key");
    expect("GET /api/v1/sources/readings/rows", "", b"", 405, "method-not-allowed");
    expect("POST /api/v1/sources/other/rows", JSON, b"[]", 404, "unknown-source");
    expect("POST /api/v1/sources/..%2f..%2fetc/rows", JSON, b"[]", 404, "unknown-source");
    expect("GET /etc/passwd", "", b"", 404, "not-found");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 50 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    expect(ROWS, &format!("{JSON}content-encoding: gzip\r\n"), &bomb, 413, "too-large");
    // 100 MB that are said, and 100 MB that are only sent.
    let head = "POST /api/v1/sources/readings/rows HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut said = TcpStream::connect(running.address).unwrap();
    write!(said, "{head}connection: close\r\ncontent-length: 104857600\r\n\r\n").unwrap();
    assert_eq!(problem(&read_answer(said).unwrap()).0, 413);
    let mut sent = TcpStream::connect(running.address).unwrap();
    write!(sent, "{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
    let n_sent = (0..1600).take_while(|_| sent.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(n_sent < 1600, "the server does not take all of it");
    assert_eq!(post(&running, JSON, &body(0, 1)).status, 200, "others are served");
}

#[test]
fn slow_clients_and_many_connections_do_not_keep_others_out() {
    let running = run(PIPELINE);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        // Beyond what the server accepts they wait in the system's queue, and beyond that they are refused.
        let timeout = Duration::from_secs(2);
        let Ok(mut stream) = TcpStream::connect_timeout(&running.address, timeout) else { break };
        stream.write_all(b"POST /api/v1/sources/readings/rows HTTP/1.1\r\nhost:").unwrap();
        idle.push(stream);
    }
    assert!(idle.len() >= 500, "{} connections", idle.len());
    let open = fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap().count();
    assert!(open < 700, "{open} open files");
    // Who does not finish the head in time is let go, and others come in.
    let answer = post(&running, JSON, &body(0, 1));
    assert_eq!(answer.status, 200, "{}", answer.body);
    drop(idle);
    let lake = running.lake("smooth");
    eventually("the row is there", || lake.rows().len() == 1);
}

#[test]
fn a_token_is_asked_for_and_never_said() {
    let token = "canary-5f1e-5f1e-5f1e";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), token).unwrap();
    let written = format!("127.0.0.1:0, tokens: ['${{file:{}}}'] }}", file.path().display());
    let pipeline = PIPELINE.replace("127.0.0.1:0 }", &written);
    let running = run(&pipeline);
    let none = post(&running, JSON, &body(0, 1));
    assert_eq!(problem(&none), (401, "urn:foreline:problem:unauthorized".to_owned()));
    assert!(none.head.contains("www-authenticate: bearer"), "{}", none.head);
    let with = |token: &str| {
        post(&running, &format!("{JSON}authorization: Bearer {token}\r\n"), &body(0, 1))
    };
    assert_eq!(with("canary-5f1e-5f1e-5f1f").status, 401);
    assert_eq!(with(token).status, 200);
    let said = fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn more_requests_than_allowed_are_told_when_to_come_back() {
    let running = run(&PIPELINE.replace("max_requests_per_s: 100000", "max_requests_per_s: 1"));
    let answers: Vec<Answer> = (0..5).map(|n| post(&running, JSON, &body(n, 1))).collect();
    let refused = answers.iter().find(|a| a.status == 429).expect("five at once are too many");
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
}

#[test]
fn requests_under_way_are_answered_when_the_run_is_told_to_end() {
    let mut running = run(PIPELINE);
    let (address, over) = (running.address, Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&over);
    let client = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            match ask(address, ROWS, JSON, body(n, 1).as_bytes()) {
                Ok(answer) if answer.status == 200 => acknowledged.push(row(n).1),
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                Err(_) if done.load(Ordering::Acquire) => break,
                // The listener closes a moment before the process is gone.
                Err(_) => std::thread::yield_now(),
            }
        }
        acknowledged
    });
    let lake = running.lake("smooth");
    eventually("rows come through", || lake.rows().len() > 20);
    assert!(terminate(&mut running.child).success());
    over.store(true, Ordering::Release);
    let acknowledged = client.join().unwrap();
    running.again();
    eventually("what was acknowledged is there", || {
        let found: BTreeSet<(String, i64)> = lake.rows().into_iter().collect();
        acknowledged.iter().all(|row| found.contains(row))
    });
}

#[test]
fn taps_and_probes() {
    let running = run(PIPELINE);
    let folder = running.folder.path();
    let command = |arguments: &[&str]| {
        let output =
            std::process::Command::new(COMMAND).args(arguments).current_dir(folder).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (ok, _, said) = command(&["tap", "p.yaml", "readings"]);
    assert!(!ok && said.contains("cannot be tapped"), "{said}");
    let csv = PIPELINE.replace(
        "http: { max_body_mib: 1, max_requests_per_s: 100000 }",
        "csv: { path: in.csv, follow: true }",
    );
    fs::write(folder.join("c.yaml"), csv).unwrap();
    fs::write(
        folder.join("in.csv"),
        "ts,machine,v\n2026-03-01T00:00:00Z,A,1.5\n2026-03-01T00:00:01Z,A,x\n",
    )
    .unwrap();
    let (ok, rows, said) = command(&["tap", "c.yaml", "readings", "--rows", "2", "--json"]);
    assert!(ok, "{said}");
    let rows: Vec<serde_json::Value> =
        rows.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&rows[0]["machine"], &rows[0]["v"]), (&"A".into(), &1.5.into()));
    assert_eq!(rows[1]["dead_letter"]["reason"], "bad_value");
    let (ok, found, said) = command(&["check", "c.yaml", "--connect"]);
    assert!(ok, "{said}");
    assert!(found.contains("source readings (csv): 1 files can be read"), "{found}");
    assert!(found.contains("sink lake (parquet): folder"), "{found}");
    let away = fs::read_to_string(folder.join("c.yaml"))
        .unwrap()
        .replace("in.csv, follow: true", "away.csv");
    fs::write(folder.join("c.yaml"), away).unwrap();
    let (ok, found, _) = command(&["check", "c.yaml", "--connect"]);
    assert!(!ok && found.contains("FAILED: no file matches 'away.csv'"), "{found}");
}
