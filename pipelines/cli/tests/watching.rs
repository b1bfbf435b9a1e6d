//! The real command watched from outside: metrics, how it goes, dead letters, rows that are kept, and what holds it up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::process::Command;

use foreline_tests::live::{Answer, Running, ask, eventually, terminate};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: plant
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
    keep: 1h
steps:
  hot: { from: readings, filter: \"v >= 50\" }
views:
  now: { from: readings, latest: {} }
alerts:
  high: { from: readings, when: \"v > 98\" }
sinks: { lake: { from: [hot, high], parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";

fn get(running: &Running, path: &str) -> Answer {
    ask(running.address, &format!("GET {path}"), "", b"").unwrap()
}

fn value(running: &Running, path: &str) -> Value {
    let answer = get(running, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// What a figure has, with these labels as they are written.
fn metric(running: &Running, name: &str) -> Option<f64> {
    let page = get(running, "/metrics").body;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// So many rows of two machines, one a second, whose values go from 0 to 99 and around; one that cannot be used.
fn fill(running: &Running, n: usize) {
    let row = |i: usize| {
        let (minute, second) = (i / 60, i % 60);
        format!(
            "{{\"machine\":\"M-{}\",\"ts\":\"2026-03-01T00:{minute:02}:{second:02}Z\",\"v\":{}}}",
            i % 2,
            i % 100
        )
    };
    let mut rows: Vec<String> = (0..n).map(row).collect();
    rows.push("{\"machine\":\"M-0\",\"ts\":\"never\",\"v\":1}".to_owned());
    running.send("POST /api/v1/sources/readings/rows", &format!("[{}]", rows.join(",")));
    eventually("all rows are through", || {
        metric(running, "foreline_source_rows_in_total{source=\"readings\"}")
            == Some(n as f64 + 1.0)
    });
}

#[test]
fn figures_are_those_of_the_run() {
    let mut running = Running::new(COMMAND, PIPELINE, &[]);
    fill(&running, 1_000);
    let metric = |name: &str| metric(&running, name);
    let of = |outcome: &str| {
        metric(&format!("foreline_source_rows_total{{source=\"readings\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((of("used"), of("dead"), of("late")), (Some(1_000.0), Some(1.0), Some(0.0)));
    assert_eq!(metric("foreline_step_rows_out_total{step=\"hot\",kind=\"filter\"}"), Some(500.0));
    let filtered = "foreline_step_rows_total{step=\"hot\",kind=\"filter\",outcome=\"filtered\"}";
    assert_eq!(metric(filtered), Some(500.0));
    let dead = "foreline_dead_letters_total{operator=\"readings\",reason=\"bad_value\"}";
    assert_eq!(metric(dead), Some(1.0));
    assert_eq!(metric("foreline_sink_rows_total{sink=\"lake\",stream=\"hot\"}"), Some(500.0));
    assert_eq!(metric("foreline_sink_up{sink=\"lake\",stream=\"hot\"}"), Some(1.0));
    assert_eq!(metric("foreline_view_rows{view=\"now\"}"), Some(2.0));
    assert_eq!(metric("foreline_kept_rows{stream=\"readings\"}"), Some(1_000.0));
    assert!(metric("foreline_resident_bytes").unwrap() > 1e6);
    assert!(metric("foreline_journal_bytes").unwrap() > 1e4);
    assert!(metric("foreline_busy_seconds_total{stage=\"hot\"}").unwrap() > 0.0);
    assert!(metric("foreline_source_watermark_lag_seconds{source=\"readings\"}").is_some());
    let route = "route=\"/api/v1/sources/{source}/rows\",method=\"POST\",status=\"200\"";
    assert_eq!(metric(&format!("foreline_http_requests_total{{{route}}}")), Some(1.0));
    running.send("POST /api/v1/query", r#"{"sql":"SELECT 1"}"#);
    assert_eq!(metric("foreline_queries_total{outcome=\"answered\"}"), Some(1.0));
    let page = get(&running, "/metrics");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    for name in page.body.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap();
        assert!(foreline_server::METRICS.iter().any(|m| m.name == name), "{name} is in the table");
    }

    // The accounts go on over a restart, and the counters of a process do not.
    assert!(terminate(&mut running.child).success());
    running.again();
    let pipeline = value(&running, "/api/v1/pipeline");
    assert_eq!(pipeline["sources"][0]["rows"], 1_001);
    let rows = "foreline_source_rows_in_total{source=\"readings\"}";
    assert_eq!(self::metric(&running, rows), Some(0.0));
}

#[test]
fn the_pipeline_says_how_it_goes() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    fill(&running, 1_000);
    let pipeline = value(&running, "/api/v1/pipeline");
    assert_eq!((&pipeline["name"], &pipeline["state"]), (&json!("plant"), &json!("running")));
    let source = &pipeline["sources"][0];
    assert_eq!((&source["name"], &source["kind"]), (&json!("readings"), &json!("http")));
    assert_eq!(source["watermark"], "2026-03-01T00:16:39Z");
    assert!(source["lag_seconds"].as_f64().unwrap() > 0.0, "{source}");
    let step = |name: &str| {
        pipeline["steps"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap()
    };
    assert_eq!((&step("hot")["in"], &step("hot")["out"]), (&json!(1_000), &json!(500)));
    assert_eq!(step("high")["kind"], "alert");
    let sinks = pipeline["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), 2, "what is kept in memory is no sink of the file: {sinks:?}");
    assert_eq!(pipeline["alerts"]["open"], 1, "the last value of M-1 is 99");
    assert_eq!(pipeline["held_up_by"], json!([]));

    let graph = value(&running, "/api/v1/graph");
    let edges: Vec<(&str, &str)> = graph["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["from"].as_str().unwrap(), e["to"].as_str().unwrap()))
        .collect();
    for edge in [
        ("source/readings", "step/hot"),
        ("source/readings", "view/now"),
        ("source/readings", "alert/high"),
        ("step/hot", "sink/lake"),
        ("alert/high", "sink/lake"),
    ] {
        assert!(edges.contains(&edge), "{edge:?}: {edges:?}");
    }

    let dead = value(&running, "/api/v1/dead_letters");
    assert_eq!(dead["counts"], json!({ "readings": { "bad_value": 1 } }));
    let letter = &dead["dead_letters"][0];
    assert_eq!((&letter["source"], &letter["reason"]), (&json!("readings"), &json!("bad_value")));
    assert!(letter["detail"].as_str().unwrap().contains("never"), "{letter}");
    let none = value(&running, "/api/v1/dead_letters?reason=late");
    assert_eq!(none["dead_letters"], json!([]));
    for wrong in ["limit=0", "cursor=x", "colour=red"] {
        assert_eq!(get(&running, &format!("/api/v1/dead_letters?{wrong}")).status, 400, "{wrong}");
    }

    let top = Command::new(COMMAND)
        .args(["top", "--once", &format!("http://{}", running.address)])
        .output()
        .unwrap();
    let text = String::from_utf8(top.stdout).unwrap();
    for said in ["plant", "running", "readings", "1,001", "hot", "lake/high"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let top = Command::new(COMMAND)
        .args(["top", "--json", &format!("http://{}", running.address)])
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&top.stdout).unwrap();
    assert_eq!(said["sources"][0]["rows"], 1_001);
}

#[test]
fn rows_that_are_kept_are_a_table() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    fill(&running, 3_000);
    let tables = value(&running, "/api/v1/tables");
    let table = tables["tables"].as_array().unwrap().iter().find(|t| t["name"] == "readings");
    assert_eq!(table.unwrap()["rows"], 3_000);
    let read = |rows: &str| value(&running, &format!("/api/v1/tables/readings/{rows}"));
    let page = read("rows?machine=M-1&limit=2");
    assert_eq!(page["rows"][0]["ts"], "2026-03-01T00:49:59Z");
    assert_eq!(page["rows"][1]["ts"], "2026-03-01T00:49:57Z");
    let next = page["next"].as_str().unwrap();
    let behind = read(&format!("rows?machine=M-1&limit=2&cursor={next}"));
    assert_eq!(behind["rows"][0]["ts"], "2026-03-01T00:49:55Z");
    let stretch = read("rows?from=2026-03-01T00:00:10Z&to=2026-03-01T00:00:20Z");
    assert_eq!(stretch["rows"].as_array().unwrap().len(), 10);
    assert_eq!(read("latest")["rows"].as_array().unwrap().len(), 2);
    assert_eq!(read("latest?machine=M-0")["rows"][0]["ts"], "2026-03-01T00:49:58Z");

    let series = read("series?columns=v&machine=M-1&points=10");
    assert_eq!(series["rows"], 1_500);
    let points = series["series"]["v"].as_array().unwrap();
    assert_eq!(points.len(), 20, "{points:?}");
    assert_eq!(points.iter().filter(|p| p[1] == 99.0).count(), 10, "the greatest of each");
    let view = value(&running, "/api/v1/tables/now/series?columns=v");
    assert_eq!(view["series"]["v"].as_array().unwrap().len(), 2);
    for wrong in ["columns=w", "columns=machine", "points=0&columns=v", "colour=red&columns=v", ""]
    {
        let answer = get(&running, &format!("/api/v1/tables/readings/series?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }

    let sql = r#"{"sql":"SELECT r.machine, count(*), max(r.v), max(n.v) FROM readings r JOIN now n ON r.machine = n.machine GROUP BY 1 ORDER BY 1"}"#;
    let found: Value = serde_json::from_str(&running.send("POST /api/v1/query", sql)).unwrap();
    assert_eq!(found["rows"], json!([["M-0", 1_500, 98.0, 98.0], ["M-1", 1_500, 99.0, 99.0]]));
}

#[test]
fn what_holds_it_up_is_named() {
    // Nobody listens there: a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sinks = format!(
        "sinks: {{ db: {{ from: hot, postgres: {{ url: \"postgres://u@127.0.0.1:{port}/d?connect_timeout=1\" }} }} }}"
    );
    let pipeline =
        PIPELINE.replace("sinks: { lake: { from: [hot, high], parquet: { path: lake } } }", &sinks);
    let running = Running::new(COMMAND, &pipeline, &[]);
    let rows = r#"[{"machine":"M","ts":"2026-03-01T00:00:00Z","v":99}]"#;
    running.send("POST /api/v1/sources/readings/rows", rows);
    eventually("the sink is named", || {
        let why = value(&running, "/api/v1/why-stuck");
        let first = &why["held_up_by"][0];
        why["stuck"] == true && first["what"] == "sink" && first["name"] == "db/hot"
    });
    assert_eq!(metric(&running, "foreline_sink_up{sink=\"db\",stream=\"hot\"}"), Some(0.0));
    assert_eq!(value(&running, "/api/v1/pipeline")["state"], "held_up");
    let said = Command::new(COMMAND)
        .args(["why-stuck", &format!("http://{}", running.address)])
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("sink 'db/hot'"), "{text}");
    let file = running.folder.path().join("p.yaml");
    let said = Command::new(COMMAND).arg("why-stuck").arg(file).output().unwrap();
    assert!(!said.status.success(), "port 0 tells nobody where it listens");
}

#[test]
fn logs_are_lines_or_objects() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let pipeline = "version: 1
name: p
sources:
  readings:
    csv: { path: in.csv }
    columns: { machine: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
sinks: { told: { from: readings, log: {} } }
";
    std::fs::write(&file, pipeline).unwrap();
    std::fs::write(folder.path().join("in.csv"), "machine,ts,v\nM,2026-03-01T00:00:00Z,1\n")
        .unwrap();
    let run = |log: &str| {
        let output = Command::new(COMMAND)
            .args(["--log", log, "run", "--quiet", "--fresh"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run("json");
    // Warnings of the file come first, as they are drawn for people.
    let objects: Vec<Value> = said.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let row = objects.iter().find(|o| o["target"] == "foreline_connectors::log");
    let row = row.unwrap_or_else(|| panic!("{said}"));
    assert_eq!((&row["level"], &row["stream"]), (&json!("INFO"), &json!("readings")), "{said}");
    assert!(run("pretty").lines().all(|l| serde_json::from_str::<Value>(l).is_err()));
    let output =
        Command::new(COMMAND).arg("schema").env("FORELINE_LOG", "a=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
