//! The real command with views: a limit that is lowered over HTTP raises the alerts it concerns, also after a death.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use foreline_tests::live::{Running, ask, eventually, terminate};
use serde_json::Value;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
/// Machines of the fleet; every tenth belongs to line 0.
const MACHINES: u64 = 2_000;

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, line: string, v: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
  limits:
    http: {}
    columns: { line: string, since: timestamp, most: float64 }
    key: [line]
    time: since
    dedupe: [line, since]
views:
  latest: { from: readings, latest: {} }
  limit: { from: limits, latest: {} }
  judged: { from: latest, join: { with: limit, on: [line], columns: [most] } }
  over: { from: judged, where: \"v > most\" }
  by_line: { from: judged, group: { by: [line], rows: n, max: { v: worst } } }
alerts:
  high: { from: judged, when: \"v > most\" }
sinks: { lake: { from: [high, over], parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";

fn post(running: &Running, source: &str, body: &str) {
    running.send(&format!("POST /api/v1/sources/{source}/rows"), body);
}

fn get(running: &Running, path: &str) -> Value {
    serde_json::from_str(&running.send(&format!("GET /api/v1/tables{path}"), "")).unwrap()
}

/// The machines of a view, a page at a time.
fn machines(running: &Running, view: &str) -> Vec<String> {
    let (mut machines, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(running, &format!("/{view}/rows?limit=150{cursor}"));
        let rows = page["rows"].as_array().unwrap();
        machines.extend(rows.iter().map(|r| r["machine"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return machines,
        }
    }
}

fn machine(m: u64) -> String {
    format!("M-{m:05}")
}

/// One reading a machine: `m % 100`.
fn fleet() -> String {
    let row = |m| {
        let (name, line, v) = (machine(m), m % 10, m % 100);
        format!(
            "{{\"machine\":\"{name}\",\"ts\":\"2026-03-01T00:00:00Z\",\"line\":\"L{line}\",\"v\":{v}}}"
        )
    };
    format!("[{}]", (0..MACHINES).map(row).collect::<Vec<_>>().join(","))
}

fn limit(line: u64, day: u64, most: u64) -> String {
    format!("[{{\"line\":\"L{line}\",\"since\":\"2026-03-{day:02}T00:00:00Z\",\"most\":{most}}}]")
}

/// Those of line 0 above a limit.
fn above(most: u64) -> Vec<String> {
    (0..MACHINES).filter(|m| m % 10 == 0 && m % 100 > most).map(machine).collect()
}

#[test]
fn a_lowered_limit_raises_the_alerts_it_concerns() {
    let mut running = Running::new(COMMAND, PIPELINE, &[]);
    post(&running, "readings", &fleet());
    for line in 0..10 {
        post(&running, "limits", &limit(line, 1, 100));
    }
    eventually("all machines are judged", || {
        let tables = get(&running, "");
        let judged = tables["tables"].as_array().unwrap().iter().find(|t| t["name"] == "judged");
        judged.unwrap()["rows"] == MACHINES && machines(&running, "over").is_empty()
    });
    post(&running, "limits", &limit(0, 2, 65));
    eventually("those above the new limit are over it", || machines(&running, "over") == above(65));
    let before = get(&running, "/by_line/rows?line=L0");
    assert_eq!(before["rows"][0]["worst"], 90.0);
    assert_eq!(before["rows"][0]["n"], MACHINES / 10);

    running.die_and_live();
    eventually("the views are as they were", || machines(&running, "over") == above(65));
    assert_eq!(get(&running, "/by_line/rows?line=L0")["rows"], before["rows"]);
    post(&running, "limits", &limit(0, 3, 75));
    eventually("some are over no more", || machines(&running, "over") == above(75));
    let answer = ask(running.address, "GET /api/v1/tables/over/rows?v=1", "", b"").unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    let answer = ask(running.address, "GET /api/v1/tables/nobody/rows", "", b"").unwrap();
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(terminate(&mut running.child).success());

    let alerts = running.lake("high");
    let changes = alerts.texts(&["machine", "change"]);
    let of = |change: &str| {
        let mut machines: Vec<String> =
            changes.iter().filter(|c| c[1] == change).map(|c| c[0].clone()).collect();
        machines.sort();
        machines
    };
    assert_eq!(of("raised"), above(65), "each once, though the command died in between");
    let cleared: Vec<String> = above(65).into_iter().filter(|m| !above(75).contains(m)).collect();
    assert_eq!(of("cleared"), cleared);
}

#[test]
fn the_dashboard_is_served_with_nothing_from_elsewhere() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let get =
        |path: &str, head: &str| ask(running.address, &format!("GET {path}"), head, b"").unwrap();
    let page = get("/", "");
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    let asked: Vec<&str> = page.body.split("=\"/assets/").skip(1).collect();
    assert!(asked.len() > 4, "{}", page.body);
    for rest in asked {
        let file = rest.split('"').next().unwrap();
        let answer = get(&format!("/assets/{file}"), "");
        assert_eq!(answer.status, 200, "{file}");
        let tag = answer.head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap();
        let again = get(&format!("/assets/{file}"), &format!("if-none-match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{file}");
    }
    for outside in ["/assets/../Cargo.toml", "/assets/%2e%2e/p.yaml", "/assets/", "/assets/none.js"]
    {
        assert_eq!(get(outside, "").status, 404, "{outside}");
    }
    assert_eq!(ask(running.address, "POST /", "", b"").unwrap().status, 405);
}
