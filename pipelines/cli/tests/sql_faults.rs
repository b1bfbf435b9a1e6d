//! Queries that mean harm, against the real command: what is refused, what ends by a limit, and how much memory that takes.
//!
//! What a reader would get wrong: the limit on memory is one for what queries hold together. What the process takes beside it is read before the
//! first query, and a quarter of the limit is allowed for what an operator holds before it has told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use foreline_tests::live::{Answer, Running, ask, eventually};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
/// What queries may hold together, as docs/sql.md says.
const MEMORY_KIB: u64 = 256 << 10;

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: {}
    columns: { machine: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
views:
  latest: { from: readings, latest: {} }
sinks:
  lake: { from: readings, parquet: { path: lake } }
epoch: { interval: 10ms }
serve: { listen: 127.0.0.1:0 }
";

fn start() -> Running {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let rows: Vec<Value> = (0..100)
        .map(|i| json!({ "machine": format!("P-{i}"), "ts": "2026-03-01T00:00:00Z", "v": i }))
        .collect();
    running.send("POST /api/v1/sources/readings/rows", &Value::from(rows).to_string());
    eventually("the rows are there", || {
        query(&running, "SELECT * FROM latest").body.contains("P-99")
    });
    running
}

fn query(running: &Running, sql: &str) -> Answer {
    let head = "content-type: text/plain\r\n";
    ask(running.address, "POST /api/v1/query", head, sql.as_bytes()).unwrap()
}

/// The kind of a problem, and what it says.
fn problem(answer: &Answer) -> (String, String) {
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    let kind = problem["type"].as_str().unwrap().trim_start_matches("urn:foreline:problem:");
    (kind.to_owned(), problem["detail"].as_str().unwrap().to_owned())
}

/// Resident memory of the pipeline.
fn resident_kib(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn only_reading_is_let_in() {
    let mut running = start();
    let secret = running.folder.path().join("secret.csv");
    std::fs::write(&secret, "word\nxyzzy\n").unwrap();
    let secret = secret.to_str().unwrap();
    let out = running.folder.path().join("out");
    let out = out.to_str().unwrap();
    for sql in [
        format!("COPY latest TO '{out}.csv'"),
        format!("COPY (SELECT 1) TO '{out}.parquet' STORED AS PARQUET"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "SET datafusion.execution.target_partitions = 100000".to_owned(),
        "INSERT INTO latest SELECT * FROM latest".to_owned(),
        "SELECT * INTO t FROM latest".to_owned(),
        "SELECT 1; DROP TABLE latest".to_owned(),
        "DELETE FROM latest".to_owned(),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM 'file://{secret}'"),
        "SELECT * FROM '../secret.csv'".to_owned(),
        "SELECT * FROM 'lake/readings'".to_owned(),
        format!("EXPLAIN ANALYZE COPY latest TO '{out}.csv'"),
    ] {
        let answer = query(&running, &sql);
        assert_eq!(answer.status, 400, "{sql}: {}", answer.body);
        assert_eq!(problem(&answer).0, "bad-query", "{sql}");
        assert!(!answer.body.contains("xyzzy"), "{sql}: {}", answer.body);
    }
    assert!(!std::fs::exists(format!("{out}.csv")).unwrap());
    assert!(!std::fs::exists(format!("{out}.parquet")).unwrap());
    assert!(running.child.try_wait().unwrap().is_none());
}

/// What ends by a limit: each with the kind of its problem.
fn bombs() -> Vec<(String, &'static str)> {
    let many = "generate_series(1, 1000000000000)";
    let wide: String = (0..50).map(|i| format!("value + {i} AS c{i}, ")).collect();
    let names: String = (0..40_000).map(|i| format!("'P-{i}',")).collect();
    let bombs: [(String, &str); 12] = [
        (format!("SELECT count(*) FROM {many} a, {many} b"), "query-limit"),
        (format!("SELECT sum(value) FROM {many}"), "query-limit"),
        (format!("SELECT {wide} value FROM {many} ORDER BY c7 DESC, c3"), "query-limit"),
        (format!("SELECT max(n) FROM (SELECT value, count(*) AS n FROM {many} GROUP BY value)"), "query-limit"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
                .to_owned(),
            "query-limit",
        ),
        (format!("SELECT count(*) FROM {many} a JOIN {many} b ON a.value > b.value * 2"), "bad-query"),
        (format!("SELECT 1 WHERE 'x' IN ({names}'y')"), "bad-query"),
        (format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "bad-query"),
        (format!("SELECT '{}'", "a".repeat(400_000)), "bad-query"),
        ("SELECT 'aaaa' ~ '(a{1000}){1000}{1000}'".to_owned(), "query-failed"),
        ("SELECT repeat('a', 1000000000)".to_owned(), "bad-query"),
        ("SELECT array_agg(value) FROM generate_series(1, 1000000000)".to_owned(), "query-limit"),
    ];
    bombs.into()
}

#[test]
fn what_is_too_large_ends_by_a_limit_and_takes_no_more_memory_than_that() {
    let mut running = start();
    let before = resident_kib(&running);
    let bombs = bombs();
    let most = AtomicU64::new(0);
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let running = &running;
        let most = &most;
        scope.spawn(move || {
            let tick = Duration::from_millis(20);
            while is_done.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                most.fetch_max(resident_kib(running), Ordering::Relaxed);
            }
        });
        let asked: Vec<_> = bombs
            .iter()
            .map(|(sql, _)| {
                scope.spawn(move || {
                    // There are eight places; who finds none asks again.
                    let mut answer = query(running, sql);
                    eventually("there is a place", || {
                        if answer.status == 429 {
                            answer = query(running, sql);
                        }
                        answer.status != 429
                    });
                    answer
                })
            })
            .collect();
        let answers: Vec<Answer> = asked.into_iter().map(|a| a.join().unwrap()).collect();
        drop(done);
        for ((sql, kind), answer) in bombs.iter().zip(answers) {
            let sql: String = sql.chars().take(80).collect();
            assert!([400, 422].contains(&answer.status), "{sql}: {}", answer.status);
            let (found, detail) = problem(&answer);
            assert!(found == *kind && !detail.is_empty(), "{sql}: {found}: {detail}");
        }
    });
    assert!(running.child.try_wait().unwrap().is_none(), "it lives");
    let most = most.into_inner();
    let allowed = before + MEMORY_KIB + MEMORY_KIB / 4;
    assert!(most <= allowed, "{most} KiB of {allowed}; {before} before");
    // Longer than a query may be is not even read.
    let answer = query(&running, &format!("SELECT '{}'", "a".repeat(10 << 20)));
    assert_eq!((answer.status, problem(&answer).0.as_str()), (413, "too-large"));
    // A pattern that other engines never end with, and a list of names, are answered.
    for (sql, found) in [
        ("SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' ~ '^(a+)+$' AS x", "[[false]]"),
        ("SELECT count(*) AS n FROM latest", "[[100]]"),
    ] {
        let answer = query(&running, sql);
        assert!(answer.status == 200 && answer.body.contains(found), "{sql}: {}", answer.body);
    }
}

/// Clients that go away in the middle: their queries end, and what they held is there for others.
///
/// Resident memory is bounded and does not grow with their number; that it shrinks is for the system's allocator to decide, which keeps some for the next.
#[test]
fn whoever_goes_away_leaves_nothing_behind() {
    let running = start();
    let before = resident_kib(&running);
    let wide: String = (0..20).map(|i| format!("value + {i} AS c{i}, ")).collect();
    let sql =
        format!("SELECT {wide} value FROM generate_series(1, 1000000000000) ORDER BY c7 DESC");
    let length = sql.len();
    let request = format!(
        "POST /api/v1/query HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{sql}"
    );
    let quarter = MEMORY_KIB / 4;
    // A quarter of all memory at least, so with another one's share left over it would not be answered.
    let large = "SELECT count(*) AS n FROM (SELECT value, count(*) FROM generate_series(1, 1000000) GROUP BY value)";
    for _ in 0..4 {
        let mut client = TcpStream::connect(running.address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        eventually("it has taken memory", || resident_kib(&running) > before + quarter);
        drop(client);
        eventually("there is room again", || {
            let answer = query(&running, large);
            assert!([200, 422, 429].contains(&answer.status), "{}", answer.body);
            answer.status == 200 && answer.body.contains("[[1000000]]")
        });
    }
    let (now, allowed) = (resident_kib(&running), before + MEMORY_KIB + quarter);
    assert!(now <= allowed, "{now} KiB of {allowed}; {before} before");
}
