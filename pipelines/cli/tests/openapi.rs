//! The API of a real pipeline against its own document: asked at random by schemathesis, and what the document cannot say.
//!
//! What a reader would get wrong: schemathesis does not follow streams of events, which never end. They are looked at here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use foreline_plugins::train::{ModelMeta, TrainingSet, train};
use foreline_tests::live::{Answer, PATIENCE, Running, ask, eventually};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
/// What is asked of each operation beside its examples and the borders of its parameters.
const EXAMPLES: &str = "15";

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, v: { type: float64, unit: mm/s } }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
reference:
  limits: { http: {}, columns: { machine: string, most: float64 }, key: [machine] }
steps:
  rul:
    from: readings
    model: { plugin: builtin:linear, weights: champion.weights, output: rul_h, versions: {} }
views:
  latest: { from: rul, latest: {} }
alerts:
  high: { from: readings, when: \"v > 5\" }
sinks:
  lake: { from: rul, parquet: { path: lake } }
epoch: { interval: 10ms }
snapshot: { interval: 1s }
serve:
  listen: 127.0.0.1:0
  cors: [\"https://board.example\"]
  routes:
    /readings:
      post: readings
      get:
        sql: SELECT machine, ts, v FROM rul
        order: [machine, ts]
        filters: { machine: machine, from: { column: ts, is: \">=\" }, v: { column: v, is: \"<\" } }
";

/// How bodies are written of which schemathesis knows only that they are text.
const HOOKS: &str = "import schemathesis

@schemathesis.serializer('application/x-ndjson', 'application/sql')
def as_text(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
";

fn weights() -> Vec<u8> {
    let x: Vec<f64> = (0..200).map(|i| f64::from(i) / 10.0).collect();
    let y = x.clone();
    let feature_names = vec!["v".to_owned()];
    let units = vec![Some("mm/s".to_owned())];
    let set = TrainingSet { feature_names, units, rows: 200, x, y, ..TrainingSet::default() };
    train("linear", &Value::Null, &set, &ModelMeta::remaining_life("pump", "h")).unwrap().weights
}

fn start() -> Running {
    let weights = weights();
    let running = Running::with(COMMAND, PIPELINE, &[("champion.weights", &weights)]);
    read(&running, 0, 9.0);
    eventually("there is an alert and a row", || {
        [get(&running, "alerts", ""), get(&running, "tables/latest/rows", "")]
            .iter()
            .all(|answer| answer.status == 200 && !answer.body.contains("\"rows\":[]"))
    });
    running
}

fn read(running: &Running, second: u32, v: f64) {
    let row = json!({ "machine": "P-7", "ts": format!("2026-03-01T00:00:{second:02}Z"), "v": v });
    running.send("POST /api/v1/sources/readings/rows", &row.to_string());
}

fn get(running: &Running, path: &str, head: &str) -> Answer {
    ask(running.address, &format!("GET /api/v1/{path}"), head, b"").unwrap()
}

/// The value of a header of an answer.
fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Where `cargo xtask test` installs it.
fn schemathesis() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty());
    let cache = named.map(PathBuf::from).or_else(home)?;
    Some(cache.join("foreline-schemathesis/bin/schemathesis")).filter(|path| path.exists())
}

#[test]
#[allow(
    clippy::print_stderr,
    reason = "that a test was left out is said where its failure would be"
)]
fn whatever_is_asked_is_answered_as_declared() {
    let Some(schemathesis) = schemathesis() else {
        eprintln!(
            "SKIPPED: schemathesis is not installed; `cargo xtask test` installs it with python3-venv"
        );
        return;
    };
    let mut running = start();
    std::fs::write(running.folder.path().join("hooks.py"), HOOKS).unwrap();
    // Of somebody who may do everything: without it the first account that is made would shut the others out.
    let token = Command::new(COMMAND)
        .current_dir(running.folder.path())
        .args(["token", "create", "p.yaml", "random", "--scope", "read,ack,write,swap,admin"])
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method,allow_header_conformance";
    let output = Command::new(schemathesis)
        .args(["run", "--checks", checks, "--phases", "examples,coverage,fuzzing"])
        .args(["--seed", "7", "--generation-deterministic", "--max-examples", EXAMPLES])
        // Streams do not end. Every request waits on its own, and there are two cores.
        .args(["--exclude-path-regex", "/stream$", "--workers", "2", "--request-timeout", "60"])
        // It finds the ids of tokens in answers, and its own among them.
        .args(["--exclude-operation-id", "revokeToken"])
        .args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"])
        .args(["--header", &bearer])
        .arg(format!("http://{}/openapi.json", running.address))
        .current_dir(running.folder.path())
        .envs([("NO_COLOR", "1"), ("SCHEMATHESIS_HOOKS", "hooks"), ("PYTHONPATH", ".")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(running.child.try_wait().unwrap().is_none(), "it lives");
    // And it is as well as before.
    // Of a machine of its own: what was sent at random may be of a later time.
    let row = json!({ "machine": "after", "ts": "2026-03-01T00:00:00Z", "v": 9.5 });
    let head = format!("{bearer}\r\ncontent-type: application/json\r\n");
    let path = "POST /api/v1/sources/readings/rows";
    assert_eq!(ask(running.address, path, &head, row.to_string().as_bytes()).unwrap().status, 200);
    eventually("the row is there", || {
        get(&running, "tables/latest/rows?machine=after", &head).body.contains("9.5")
    });
}

#[test]
fn a_stream_is_one_and_is_not_compressed() {
    let running = start();
    for path in ["tables/latest/stream", "alerts/stream"] {
        let mut client = TcpStream::connect(running.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip, zstd\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        let mut bytes = [0; 4096];
        while !said.contains("event: at") {
            let n = client.read(&mut bytes).unwrap();
            assert!(n > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        assert!(
            said.contains("content-type: text/event-stream") && !said.contains("content-encoding"),
            "{said}"
        );
    }
}

#[test]
fn a_request_waits_for_what_is_new() {
    let running = start();
    let paths = ["tables/latest/rows", "tables/latest/latest", "alerts"];
    for (second, path) in (10..).step_by(10).zip(paths) {
        let mut head = String::new();
        eventually("nothing happens", || {
            let seen = get(&running, path, "");
            head = format!("if-none-match: {}\r\n", header(&seen, "etag").unwrap());
            get(&running, &format!("{path}?wait=100ms"), &head).status == 304
        });
        assert_eq!(get(&running, &format!("{path}?wait=56s"), &head).status, 400, "{path}");
        // Something does.
        let new = thread::scope(|scope| {
            let waiting = scope.spawn(|| get(&running, &format!("{path}?wait=55s"), &head));
            // One is calm and one is not, so that rows and alerts change.
            for (second, v) in (second..).zip([1.0, 9.0]) {
                read(&running, second, v);
            }
            waiting.join().unwrap()
        });
        assert_eq!(new.status, 200, "{path}: {}", new.body);
        assert!(!head.contains(header(&new, "etag").unwrap()), "{path}: {head}");
        // Who does not say what is known is answered at once.
        assert_eq!(get(&running, &format!("{path}?wait=55s"), "").status, 200, "{path}");
    }
}

/// Clients that wait and go away give their places back.
#[test]
fn whoever_waits_and_goes_away_leaves_the_place() {
    let running = start();
    let seen = get(&running, "tables/latest/rows", "");
    let tag = header(&seen, "etag").unwrap().to_owned();
    let request = format!(
        "GET /api/v1/tables/latest/rows?wait=55s HTTP/1.1\r\nhost: localhost\r\nif-none-match: {tag}\r\n\r\n"
    );
    let mut clients = Vec::new();
    eventually("there is no place left", || {
        for _ in 0..64 {
            let mut client = TcpStream::connect(running.address).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            clients.push(client);
        }
        let head = format!("if-none-match: {tag}\r\n");
        let answer = get(&running, "tables/latest/rows?wait=1ms", &head);
        assert!([304, 503].contains(&answer.status), "{}", answer.body);
        answer.status == 503 && answer.body.contains("unavailable")
    });
    drop(clients);
    let head = format!("if-none-match: {tag}\r\n");
    eventually("there is one again", || {
        get(&running, "tables/latest/rows?wait=1ms", &head).status == 304
    });
}

#[test]
fn what_is_asked_wrongly_has_its_own_answer() {
    let running = start();
    let of = |line: &str, head: &str, body: &str| {
        let answer = ask(running.address, line, head, body.as_bytes()).unwrap();
        assert!(
            answer.head.contains("content-type: application/problem+json"),
            "{line}: {}",
            answer.head
        );
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["status"], answer.status, "{line}");
        let kind = problem["type"].as_str().unwrap().to_owned();
        (answer, kind.trim_start_matches("urn:foreline:problem:").to_owned())
    };
    for (line, allowed) in [
        ("POST /api/v1/tables", "get,head"),
        ("GET /api/v1/query", "post"),
        ("PATCH /api/v1/reference/limits", "put,delete"),
        ("DELETE /livez", "get,head"),
        ("OPTIONS /api/v1/query", "post"),
    ] {
        let (answer, kind) = of(line, "", "");
        assert_eq!((answer.status, kind.as_str()), (405, "method-not-allowed"), "{line}");
        assert_eq!(header(&answer, "allow"), Some(allowed), "{line}: {}", answer.head);
    }
    let text = "content-type: text/plain\r\n";
    let json = "content-type: application/json\r\n";
    let large = format!("{{\"comment\":\"{}\"}}", "a".repeat(20_000));
    for (line, head, body, status, kind) in [
        ("GET /api/v1/nothing", "", "", 404, "not-found"),
        ("GET /api/v1/tables/%ff/rows", "", "", 404, "unknown-table"),
        ("GET /assets/%ff", "", "", 404, "not-found"),
        ("GET /api/v1/tables/latest/rows?wait=soon", "", "", 400, "bad-request"),
        ("POST /api/v1/alerts/x/ack", text, "{}", 415, "bad-content-type"),
        ("POST /api/v1/models/rul/reset", text, "{}", 415, "bad-content-type"),
        ("POST /api/v1/query", "content-type: image/png\r\n", "SELECT 1", 415, "bad-content-type"),
        ("POST /api/v1/sources/readings/rows", text, "x", 415, "bad-content-type"),
        ("POST /api/v1/alerts/x/comment", json, large.as_str(), 413, "too-large"),
    ] {
        let (answer, found) = of(line, head, body);
        assert_eq!((answer.status, found.as_str()), (status, kind), "{line}: {}", answer.body);
    }
}

#[test]
fn answers_are_compressed_for_whoever_takes_that() {
    let running = start();
    let at =
        |path: &str, head: &str| ask(running.address, &format!("GET {path}"), head, b"").unwrap();
    let plain = at("/openapi.json", "");
    assert!(header(&plain, "content-encoding").is_none() && plain.body.starts_with('{'));
    let length =
        |answer: &Answer| header(answer, "content-length").unwrap().parse::<usize>().unwrap();
    for (accepted, packing) in [("gzip", "gzip"), ("gzip, zstd", "zstd"), ("br, gzip;q=0", "")] {
        let packed = at("/openapi.json", &format!("accept-encoding: {accepted}\r\n"));
        assert_eq!(header(&packed, "content-encoding").unwrap_or_default(), packing);
        assert_eq!(packing.is_empty(), length(&packed) == length(&plain), "{}", packed.head);
        assert!(packed.head.contains("vary: accept-encoding"), "{}", packed.head);
        // Its tag stands for it, packed or not.
        let tag = header(&packed, "etag").unwrap().replace("w/", "W/");
        assert_eq!(at("/openapi.json", &format!("if-none-match: {tag}\r\n")).status, 304);
    }
    let small = at("/livez", "accept-encoding: gzip\r\n");
    assert!(header(&small, "content-encoding").is_none(), "{}", small.head);
}

#[test]
fn pages_of_named_origins_may_ask() {
    let running = start();
    let question = |origin: &str| {
        let head = format!("origin: {origin}\r\naccess-control-request-method: POST\r\n");
        ask(running.address, "OPTIONS /api/v1/query", &head, b"").unwrap()
    };
    let yes = question("https://board.example");
    assert_eq!(yes.status, 204);
    assert_eq!(header(&yes, "access-control-allow-origin"), Some("https://board.example"));
    assert!(header(&yes, "access-control-allow-headers").unwrap().contains("authorization"));
    let no = question("https://elsewhere.example");
    assert_eq!(no.status, 405);
    for (origin, is_shown) in
        [("https://board.example", true), ("https://elsewhere.example", false)]
    {
        let answer = get(&running, "tables", &format!("origin: {origin}\r\n"));
        assert_eq!(answer.status, 200);
        assert_eq!(header(&answer, "access-control-allow-origin").is_some(), is_shown, "{origin}");
        assert!(answer.head.contains("vary: origin"), "{}", answer.head);
        assert!(header(&answer, "access-control-allow-credentials").is_none());
    }
}

#[test]
fn the_document_names_what_the_pipeline_has() {
    let running = start();
    let answer = ask(running.address, "GET /openapi.json", "", b"").unwrap();
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    let of = |name: &str| document["components"]["parameters"][name]["schema"]["enum"].clone();
    assert_eq!(of("source"), json!(["readings"]));
    assert_eq!(of("reference"), json!(["limits"]));
    assert_eq!(of("rule"), json!(["high"]));
    assert_eq!(of("step"), json!(["rul"]));
    assert!(of("table").as_array().unwrap().contains(&json!("latest")));
    let page = ask(running.address, "GET /docs", "", b"").unwrap();
    assert!(page.status == 200 && page.head.contains("script-src 'self';"), "{}", page.head);
    assert!(!page.body.contains("https://"), "nothing from elsewhere");
}

#[test]
fn a_document_names_nothing_to_strangers() {
    let token = "0123456789abcdef";
    let pipeline = PIPELINE.replace("  cors:", &format!("  tokens: [{token:?}]\n  cors:"));
    let running = Running::with(COMMAND, &pipeline, &[("champion.weights", &weights())]);
    let of = |head: &str| ask(running.address, "GET /openapi.json", head, b"").unwrap();
    let stranger = of("");
    assert!(stranger.status == 200 && !stranger.body.contains("readings\"]"), "{}", stranger.body);
    assert!(!stranger.body.contains("\"/readings\""), "{}", stranger.body);
    let known = of(&format!("authorization: Bearer {token}\r\n"));
    assert!(known.status == 200 && known.body.contains("[\"readings\"]"));
    assert!(known.body.contains("\"/readings\""));
    assert!(!known.body.contains(token));
    assert_eq!(get(&running, "tables", "").status, 401);
}
