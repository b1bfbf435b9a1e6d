//! Queries of the real command: every answer is of one epoch while rows flow, also after a death, and of what lies there at the
//! end; what is refused, and in which words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use foreline_tests::live::{Answer, Running, ask, eventually, terminate};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
/// Requests, and rows of each. Every row is of a machine of its own.
const REQUESTS: u64 = 60;
const ROWS: u64 = 20;

/// A view and the stream that it is of: at the end of every epoch both have as many rows.
const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, v: { type: float64, unit: mm/s } }
    key: [machine]
    time: ts
    lateness: 0s
    dedupe: [machine, ts]
steps:
  doubled: { from: readings, derive: { columns: { twice: 2 * v } } }
views:
  latest: { from: doubled, latest: {} }
sinks:
  lake: { from: [doubled, dead_letters], parquet: { path: lake, file_rows: 150 } }
epoch: { interval: 5ms }
snapshot: { interval: 100ms }
serve: { listen: 127.0.0.1:0 }
";

fn batch(request: u64) -> String {
    let row = |i: u64| {
        let m = request * ROWS + i;
        json!({ "machine": format!("M-{m:05}"), "ts": "2026-03-01T00:00:00Z", "v": m as f64 })
    };
    json!((0..ROWS).map(row).collect::<Vec<_>>()).to_string()
}

fn query_with(running: &Running, head: &str, sql: &str) -> Answer {
    let body = json!({ "sql": sql }).to_string();
    let head = format!("content-type: application/json\r\n{head}");
    ask(running.address, "POST /api/v1/query", &head, body.as_bytes()).unwrap()
}

fn query(running: &Running, sql: &str) -> Value {
    let answer = query_with(running, "", sql);
    assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

const BOTH: &str = "SELECT (SELECT count(*) FROM latest) AS a, (SELECT count(*) FROM doubled) AS b, \
                    (SELECT sum(twice) FROM doubled) AS s, (SELECT sum(twice) FROM latest) AS t";

/// Rows and epoch of an answer in which view and stream agree.
fn agreed(running: &Running) -> (u64, u64) {
    let answer = query(running, BOTH);
    let row = &answer["rows"][0];
    assert_eq!((&row[0], &row[2]), (&row[1], &row[3]), "all of one epoch: {answer}");
    (row[0].as_u64().unwrap(), answer["epoch"].as_u64().unwrap())
}

/// What `foreline sql` says of the pipeline.
fn command(running: &Running, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(COMMAND);
    // From beside the file, as people do: its paths are then relative ones.
    command.current_dir(running.folder.path()).args(["sql", "p.yaml"]).args(arguments);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_answer_is_of_one_epoch() {
    let mut running = Running::new(COMMAND, PIPELINE, &[]);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for request in 0..REQUESTS {
                let body = batch(request);
                running.send("POST /api/v1/sources/readings/rows", &body);
            }
            is_done.store(true, Ordering::Release);
        });
        let (mut before, mut asked) = ((0, 0), 0);
        while !is_done.load(Ordering::Acquire) || asked < 20 {
            let now = agreed(&running);
            assert!(now >= before, "{now:?} after {before:?}");
            (before, asked) = (now, asked + 1);
        }
    });
    let all = REQUESTS * ROWS;
    eventually("all rows are there", || agreed(&running).0 == all);
    assert!(running.lake("doubled").rows().len() > 500, "most of them in files by now");
    running.die_and_live();
    eventually("all rows are there again", || {
        let answer = query_with(&running, "", BOTH);
        // The view is not there before it shows what it did.
        assert!([200, 503].contains(&answer.status), "{}", answer.body);
        answer.status == 200 && agreed(&running).0 == all
    });
    let url = format!("http://{}", running.address);
    let sql = "SELECT count(*) AS n, max(twice) AS most FROM latest";
    let (ok, out, err) = command(&running, &["--url", &url, "--format", "csv", sql]);
    assert!(ok && out == format!("n,most\n{all},{}.0\n", 2 * (all - 1)), "{out}{err}");
    assert!(terminate(&mut running.child).success());

    // At rest, from the files alone.
    let sql = "SELECT count(*) AS n, count(DISTINCT machine) AS machines FROM doubled WHERE v >= 0";
    let (ok, out, err) = command(&running, &["--at-rest", "--format", "json", sql]);
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert!(ok && rows == json!([{ "n": all, "machines": all }]), "{out}{err}");
    let (ok, out, _) =
        command(&running, &["SELECT machine, v FROM doubled ORDER BY machine LIMIT 2"]);
    assert!(
        ok && out.starts_with("machine    v\nM-00000  0.0\nM-00001  1.0\n(2 rows, epoch "),
        "{out}"
    );
    let (ok, _, err) = command(&running, &["SELECT * FROM latest"]);
    assert!(!ok && err.contains("there is no table 'latest'") && err.contains("doubled"), "{err}");
    let file = running.folder.path().join("a.parquet");
    let (ok, _, err) = command(
        &running,
        &["-o", file.to_str().unwrap(), "--format", "parquet", "-c", "SELECT 1 AS one"],
    );
    assert!(ok && std::fs::read(&file).unwrap().starts_with(b"PAR1"), "{err}");
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    running.send("POST /api/v1/sources/readings/rows", &batch(0));
    eventually("the rows are there", || agreed(&running).0 == ROWS);
    for (sql, status, said) in [
        ("INSERT INTO latest VALUES (1)", 400, "insert into is refused: queries only read"),
        ("SELECT 1; SELECT 2", 400, "more than one statement"),
        ("SELECT\n 1 FROM lattest", 400, "there is no table 'lattest'; did you mean 'latest'?"),
        ("SELECT vv FROM latest", 400, "there is no column 'vv'; did you mean 'v'?"),
        ("SELECT * FROM '/etc/passwd'", 400, "there is no table '/etc/passwd'"),
        ("SELECT 1/0", 422, "divide by zero"),
    ] {
        let answer = query_with(&running, "", sql);
        assert_eq!(answer.status, status, "{sql}: {}", answer.body);
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        let detail = problem["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains(said), "{sql}: {detail}");
    }
    let answer = query_with(&running, "", "SELECT\n 1 FROM lattest");
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(9)), "{problem}");
    let answer = query_with(&running, "accept: image/png\r\n", "SELECT 1");
    assert_eq!(answer.status, 406, "{}", answer.body);
    let answer = query_with(&running, "accept: text/csv\r\n", "SELECT 1 AS one");
    assert_eq!((answer.status, answer.body.as_str()), (200, "one\n1\n"));
    let large = vec![b' '; 1 << 20];
    let answer = ask(running.address, "POST /api/v1/query", "content-type: text/plain\r\n", &large);
    assert_eq!(answer.unwrap().status, 413);
    let answer = ask(running.address, "GET /api/v1/query", "", b"").unwrap();
    assert_eq!(answer.status, 405, "{}", answer.body);
}

/// Clients that hang up free their places: there are eight of them.
#[test]
fn whoever_hangs_up_cancels() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let endless = "SELECT sum(value) FROM generate_series(1, 1000000000000)";
    let body = json!({ "sql": endless }).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/v1/query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut clients: Vec<TcpStream> = Vec::new();
    // One more each time: a question may itself have the place that a client would have had.
    eventually("there is no place left", || {
        let mut client = TcpStream::connect(running.address).unwrap();
        std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
        clients.push(client);
        let answer = query_with(&running, "", "SELECT 1");
        assert!([200, 429].contains(&answer.status), "{}", answer.body);
        answer.status == 429 && answer.head.contains("retry-after: 1")
    });
    // Rows go on meanwhile.
    running.send("POST /api/v1/sources/readings/rows", &batch(0));
    drop(clients);
    eventually("there is one again", || query_with(&running, "", "SELECT 1").status == 200);
    eventually("the rows are there", || agreed(&running).0 == ROWS);
}

#[test]
fn the_engine_is_asked_about_itself() {
    let pipeline = PIPELINE.replace("from: [doubled, dead_letters]", "from: doubled");
    let mut running = Running::new(COMMAND, &pipeline, &[]);
    let body = json!([
        { "machine": "M-1", "ts": "2026-03-01T00:00:00Z", "v": 1.5 },
        { "machine": "M-2", "ts": "2026-03-01T00:00:00Z", "v": "seven" },
    ]);
    running.send("POST /api/v1/sources/readings/rows", &body.to_string());
    eventually("the row is through", || agreed(&running).0 == 1);
    let metrics = "SELECT labels, value FROM metrics WHERE name = 'foreline_source_rows_in_total'";
    let answer = query(&running, metrics);
    assert_eq!(answer["rows"], json!([["{\"source\":\"readings\"}", 2.0]]), "{answer}");
    let letters = query(&running, "SELECT operator, reason, detail FROM dead_letters");
    assert_eq!(letters["rows"][0][0], "readings", "{letters}");
    let runs = "SELECT outcome, rows, ended_at IS NULL AS open FROM runs ORDER BY run";
    assert_eq!(query(&running, runs)["rows"], json!([["running", null, true]]));
    running.die_and_live();
    let after = json!([["died", null, true], ["running", null, true]]);
    assert_eq!(query(&running, runs)["rows"], after);
    assert!(terminate(&mut running.child).success());
    let (ok, said, _) = command(&running, &["--format", "csv", runs]);
    // Two, where it died before there was a snapshot: the rows are read again.
    let ended = [0, 2].map(|rows| format!("died,,true\nstopped,{rows},false\n"));
    assert!(ok && ended.iter().any(|ended| said.ends_with(ended)), "{said}");
    let (ok, said, _) = command(&running, &["SELECT * FROM metrics"]);
    assert!(!ok, "figures are those of an engine that runs: {said}");
}
