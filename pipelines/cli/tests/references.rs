//! The real command with relations from a file, over HTTP and from PostgreSQL: what changes there changes what is joined, also
//! after a death.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::fs;

use foreline_servers::Postgres;
use foreline_tests::live::{Running, ask, eventually, terminate};
use serde_json::Value;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
reference:
  machines:
    csv: { path: machines.csv, every: 50ms }
    columns: { machine: string, line: string }
    key: [machine]
  limits:
    http: {}
    columns: { line: string, most: float64, since: timestamp }
    key: [line]
    valid_from: since
steps:
  placed: { from: [readings, machines], join: { on: [machine] } }
  judged: { from: [placed, limits], join: { on: [line] } }
views:
  latest: { from: readings, latest: {} }
  line: { from: latest, join: { with: machines, on: [machine] } }
  limit: { from: line, join: { with: limits, on: [line], columns: [most] } }
alerts:
  high: { from: limit, when: \"v > most\" }
sinks: { lake: { from: [judged, high, machines.changes], parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";

fn rows(running: &Running, table: &str) -> Vec<Value> {
    let path = format!("GET /api/v1/tables/{table}/rows");
    let page: Value = serde_json::from_str(&running.send(&path, "")).unwrap();
    page["rows"].as_array().unwrap().clone()
}

/// A column of a table, in the order of the key.
fn column(running: &Running, table: &str, name: &str) -> Vec<String> {
    let text = |row: &Value| match &row[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows(running, table).iter().map(text).collect()
}

fn read(running: &Running, machine: &str, second: u32, v: f64) {
    let row =
        format!("{{\"machine\":\"{machine}\",\"ts\":\"2026-03-01T00:00:{second:02}Z\",\"v\":{v}}}");
    running.send("POST /api/v1/sources/readings/rows", &row);
}

#[test]
fn a_file_and_rows_that_are_put_are_joined_as_they_change() {
    let machines = "machine,line\nM-1,A\nM-2,A\nM-3,B\n";
    let mut running = Running::new(COMMAND, PIPELINE, &[("machines.csv", machines)]);
    let file = running.folder.path().join("machines.csv");
    eventually("the file is read", || column(&running, "machines", "line") == ["A", "A", "B"]);
    let limits = "PUT /api/v1/reference/limits";
    running.send(
        limits,
        "[{\"line\":\"A\",\"most\":5,\"since\":\"2026-01-01T00:00:00Z\"},
          {\"line\":\"A\",\"most\":9,\"since\":\"2026-03-01T00:00:02Z\"},
          {\"line\":\"B\",\"most\":7,\"since\":\"2026-01-01T00:00:00Z\"}]",
    );
    eventually("the limits are there", || column(&running, "limits", "most") == ["9.0", "7.0"]);
    for second in 1..4 {
        read(&running, "M-1", second, 6.0);
    }
    read(&running, "M-9", 1, 6.0);
    // Each reading is judged by the limit of its own time.
    let judged = || {
        let mut judged = running.lake("judged").texts(&["machine", "ts", "line", "most"]);
        judged.iter_mut().for_each(|row| row[1] = row[1][17..19].to_owned());
        judged.sort();
        judged.into_iter().map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    let expected = ["M-1 01 A 5.0", "M-1 02 A 9.0", "M-1 03 A 9.0", "M-9 01  "];
    eventually("the readings are judged", || judged() == expected);

    running.send(limits, "{\"line\":\"A\",\"most\":4}");
    eventually("the new limit counts from now on", || {
        column(&running, "limits", "most")[0] == "4.0"
    });
    eventually("and the view follows", || column(&running, "limit", "most") == ["4.0", "null"]);
    running.die_and_live();
    eventually("it survives a death", || column(&running, "limits", "most") == ["4.0", "7.0"]);
    eventually("and so does the file", || column(&running, "machines", "line") == ["A", "A", "B"]);

    fs::write(&file, "machine,line\nM-1,B\nM-3,B\n").unwrap();
    eventually("M-2 is gone", || column(&running, "machines", "machine") == ["M-1", "M-3"]);
    eventually("and M-1 has moved", || column(&running, "limit", "most") == ["7.0", "null"]);
    for broken in ["", "nothing\nhere\n", "machine,line\n,\n"] {
        fs::write(&file, broken).unwrap();
        eventually("the broken file was looked at", || {
            let said = fs::read_to_string(running.folder.path().join("stderr")).unwrap();
            said.matches("what was there stays").count() > 0
        });
        fs::write(running.folder.path().join("stderr"), "").unwrap();
        assert_eq!(column(&running, "machines", "machine"), ["M-1", "M-3"]);
    }
    running.send("DELETE /api/v1/reference/limits", "[{\"line\":\"B\"}]");
    eventually("the limit is gone", || column(&running, "limits", "line") == ["A"]);
    eventually("and nothing is judged", || column(&running, "limit", "most") == ["null", "null"]);
    let nowhere = ask(running.address, "PUT /api/v1/reference/machines", "", b"{}").unwrap();
    assert_eq!(nowhere.status, 404, "{}", nowhere.body);
    let stream = ask(running.address, "POST /api/v1/sources/limits/rows", "", b"{}").unwrap();
    assert_eq!(stream.status, 404, "a relation takes no rows as a stream does: {}", stream.body);
    assert!(terminate(&mut running.child).success());

    let mut alerts: Vec<String> = running
        .lake("high")
        .texts(&["machine", "change"])
        .iter()
        .map(|row| row.join(" "))
        .collect();
    alerts.sort();
    assert_eq!(
        alerts,
        ["M-1 cleared", "M-1 raised"],
        "by the limit of 4, until M-1 moved to line B"
    );
    let changes = running.lake("machines.changes").texts(&["machine", "line", "gone"]);
    let changes: Vec<String> = changes.iter().map(|row| row.join(" ")).collect();
    assert_eq!(changes.len(), 5, "{changes:?}");
    assert!(changes.contains(&"M-2 A true".to_owned()), "{changes:?}");
}

#[test]
fn a_table_of_a_database_is_joined_as_it_changes() {
    let mut postgres = Postgres::start().unwrap();
    let table = "CREATE TABLE machines (id text PRIMARY KEY, line text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
                 INSERT INTO machines VALUES ('M-1', 'A'), ('M-2', 'Zeile \"ä\"')";
    postgres.sql(table).unwrap();
    let reference = format!(
        "    postgres: {{ url: \"{}\", table: machines, change_column: updated_at, every: 50ms }}\n    \
             columns: {{ machine: {{ type: string, field: id }}, line: string }}\n",
        postgres.url()
    );
    let file = "    csv: { path: machines.csv, every: 50ms }\n    columns: { machine: string, line: string }\n";
    let pipeline = PIPELINE.replace(file, &reference);
    assert_ne!(pipeline, PIPELINE);
    let mut running = Running::new(COMMAND, &pipeline, &[]);
    eventually("it is read", || column(&running, "machines", "line") == ["A", "Zeile \"ä\""]);
    let update = "UPDATE machines SET line = 'B', updated_at = clock_timestamp() WHERE id = 'M-1'";
    postgres.sql(update).unwrap();
    eventually("an update is seen", || column(&running, "machines", "line")[0] == "B");
    postgres.sql("DELETE FROM machines WHERE id = 'M-2'").unwrap();
    eventually("a deletion is seen", || column(&running, "machines", "line") == ["B"]);
    postgres.stop().unwrap();
    read(&running, "M-1", 1, 1.0);
    eventually("the database is gone and rows go on", || {
        running.lake("judged").texts(&["line"]) == [["B"]]
    });
    running.die_and_live();
    eventually("what was read is kept", || column(&running, "machines", "line") == ["B"]);
    postgres.start_again().unwrap();
    postgres.sql("INSERT INTO machines VALUES ('M-3', 'C')").unwrap();
    eventually("it is read again", || column(&running, "machines", "line") == ["B", "C"]);
    assert!(terminate(&mut running.child).success());
    let said = fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    assert!(!said.contains(foreline_servers::PASSWORD), "{said}");
}

/// Ten thousand machines on ten lines, each line with a limit.
const FLEET: &str = "version: 1
name: fleet
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, line: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
reference:
  limits:
    http: {}
    columns: { line: string, most: float64 }
    key: [line]
views:
  latest: { from: readings, latest: {} }
  judged: { from: latest, join: { with: limits, on: [line] } }
  over: { from: judged, where: \"v > most\" }
alerts:
  high: { from: judged, when: \"v > most\" }
sinks: { lake: { from: [high], parquet: { path: lake } } }
epoch: { interval: 10ms }
serve: { listen: 127.0.0.1:0 }
";

/// The epoch that has changed a table last, by its tag.
fn changed(running: &Running, table: &str) -> u64 {
    let path = format!("GET /api/v1/tables/{table}/rows?limit=1");
    let answer = ask(running.address, &path, "", b"").unwrap();
    let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    tag.trim_matches('"').rsplit('e').next().unwrap().parse().unwrap()
}

#[test]
fn a_lowered_limit_raises_the_alerts_of_ten_thousand_machines_in_its_epoch() {
    let running = Running::new(COMMAND, FLEET, &[]);
    let limits = "PUT /api/v1/reference/limits";
    let lines: Vec<String> =
        (0..10).map(|line| format!("{{\"line\":\"L{line}\",\"most\":10}}")).collect();
    running.send(limits, &format!("[{}]", lines.join(",")));
    // Of each line: 0.00, 0.01 ... 9.99.
    let row = |n: u32| {
        let (line, v) = (n % 10, f64::from(n / 10) / 100.0);
        format!(
            "{{\"machine\":\"M{n:05}\",\"line\":\"L{line}\",\"ts\":\"2026-03-01T00:00:00Z\",\"v\":{v}}}"
        )
    };
    for first in (0..10_000).step_by(2_500) {
        let rows: Vec<String> = (first..first + 2_500).map(row).collect();
        running.send("POST /api/v1/sources/readings/rows", &format!("[{}]", rows.join(",")));
    }
    let judged = || {
        let tables: Value = serde_json::from_str(&running.send("GET /api/v1/tables", "")).unwrap();
        let tables = tables["tables"].as_array().unwrap().clone();
        tables.iter().find(|table| table["name"] == "judged").unwrap()["rows"].clone()
    };
    eventually("all machines are there", || judged() == 10_000);
    assert!(rows(&running, "alerts").is_empty(), "and none is beyond its limit");
    let mut expected = Vec::new();
    for (line, most, beyond) in [(3, 9.75, 976..1_000), (7, 9.985, 999..1_000), (3, 9.70, 971..976)]
    {
        running.send(limits, &format!("{{\"line\":\"L{line}\",\"most\":{most}}}"));
        expected.extend(beyond.map(|of_line: u32| format!("M{:05}", of_line * 10 + line)));
        expected.sort();
        eventually("what is beyond it is raised", || {
            let mut raised = column(&running, "alerts", "machine");
            raised.sort();
            raised == expected
        });
        assert_eq!(column(&running, "over", "machine"), expected);
        let epochs = ["limits", "over", "alerts"].map(|table| changed(&running, table));
        assert_eq!(epochs, [epochs[0]; 3], "all of it in the epoch of the limit");
    }
}
