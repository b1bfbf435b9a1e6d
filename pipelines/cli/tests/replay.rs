//! The real command, replaying: what differs between two pipelines is found, and counted right.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::Path;

use serde_json::Value;

/// Readings in the file.
const ROWS: u64 = 30_000;
/// Machines that take turns.
const MACHINES: u64 = 3;

/// `smooth` passes what it is told to pass.
fn pipeline(derived: &str, passes: &str) -> String {
    format!(
        "version: 1
name: p
sources:
  readings:
    csv: {{ path: in.csv }}
    columns: {{ ts: timestamp, machine: string, v: float64 }}
    key: [machine]
    time: ts
steps:
  changed: {{ from: readings, derive: {{ columns: {{ w: \"{derived}\" }} }} }}
  smooth: {{ from: changed, filter: \"{passes}\" }}
sinks: {{ lake: {{ from: smooth, parquet: {{ path: lake, if_exists: replace }} }} }}
epoch: {{ rows: 500 }}
snapshot: {{ interval: 1ms }}
journal: {{ keep: 24h }}
"
    )
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: u64| {
        let (machine, v) = (i % MACHINES, i % 100);
        format!("2026-03-01T{:02}:{:02}:{:02}Z,P-{machine},{v}\n", i / 3600, i / 60 % 60, i % 60)
    };
    let text = std::iter::once("ts,machine,v\n".to_owned()).chain((0..ROWS).map(row));
    std::fs::write(folder.path().join("in.csv"), text.collect::<String>()).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("before.yaml", pipeline("v", "true"));
    // P-1 gets 2 more, and what is at least 90 goes.
    let more = "CASE WHEN machine = 'P-1' THEN v + 2 ELSE v END";
    write("after.yaml", pipeline(more, "v < 90"));
    folder
}

/// Runs the command; its exit code, and what it printed.
fn foreline(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn replayed(folder: &Path, arguments: &[&str]) -> Value {
    let all = [&["replay", "--json", "--quiet"], arguments].concat();
    let (code, out, err) = foreline(folder, &all);
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap()
}

/// What must differ between `before.yaml` and `after.yaml` over the first `rows` readings.
fn assert_differs(stream: &Value, rows: u64) {
    let passes = |i: &u64| i % 100 < 90;
    let changed: Vec<u64> = (0..rows).filter(|i| passes(i) && i % MACHINES == 1).collect();
    let both = (0..rows).filter(passes).count() as u64;
    let counts = [
        (&stream["rows"]["before"], rows),
        (&stream["rows"]["after"], both),
        (&stream["only"]["before"], rows - both),
        (&stream["only"]["after"], 0),
        (&stream["changed"], changed.len() as u64),
        (&stream["same"], both - changed.len() as u64),
    ];
    for (found, expected) in counts {
        assert_eq!(found, &Value::from(expected), "{stream:#}");
    }
    let columns = stream["columns"].as_array().unwrap();
    let column = |name: &str| columns.iter().find(|c| c["column"] == name).unwrap();
    assert_eq!(column("v")["changed"], 0);
    let w = column("w");
    assert_eq!(w["changed"], changed.len() as u64);
    assert_eq!(w["max_absolute_difference"], 2.0);
    let mean = |sum: u64| sum as f64 / both as f64;
    let near = |found: &Value, expected: f64| {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-9, "{found} is not {expected}");
    };
    near(&w["mean_before"], mean((0..rows).filter(passes).map(|i| i % 100).sum()));
    near(&w["mean_absolute_difference"], mean(2 * changed.len() as u64));
    near(&w["mean_difference"], mean(2 * changed.len() as u64));
    assert!(w["most"]["row"].as_str().unwrap().starts_with("P-1 at "), "{w}");
}

#[test]
fn what_differs_is_counted() {
    let folder = folder();
    for workers in ["1", "3"] {
        let arguments = ["before.yaml", "after.yaml", "--out", "out", "--workers", workers];
        let report = replayed(folder.path(), &arguments);
        assert_eq!(report["before"]["rows"], ROWS);
        assert_differs(&report["streams"][0], ROWS);
    }
    for table in ["before/smooth", "after/smooth", "changes/smooth"] {
        let folder = folder.path().join("out").join(table);
        assert!(std::fs::read_dir(&folder).unwrap().count() > 1, "{}", folder.display());
    }
    assert!(!folder.path().join(".foreline/p").exists(), "a replay keeps nothing");
    assert!(!folder.path().join("lake").exists(), "the pipeline's own sinks are left alone");
}

#[test]
fn nothing_differs_from_itself() {
    let folder = folder();
    let same = ["replay", "before.yaml", "before.yaml", "--exit-code"];
    let (code, out, err) = foreline(folder.path(), &same);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("30,000 the same, 0 changed, 0 only before, 0 only after"), "{out}");
    let changed = ["replay", "before.yaml", "after.yaml", "--exit-code"];
    let (code, out, _) = foreline(folder.path(), &changed);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("9,000 changed, 3,000 only before"), "{out}");
}

#[test]
fn a_journal_is_replayed_while_nobody_is_disturbed() {
    let folder = folder();
    let killed = std::process::Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(["run", "before.yaml"])
        .current_dir(folder.path())
        .env("FORELINE_CRASH_AT", "snapshot published:1")
        .output()
        .unwrap();
    assert!(!killed.status.success());
    let state = |name: &str| std::fs::read(folder.path().join(".foreline/p").join(name)).unwrap();
    let before = state("state.json");
    let report = replayed(folder.path(), &["before.yaml", "after.yaml", "--journal"]);
    let rows = report["before"]["rows"].as_u64().unwrap();
    // As far as the run had come, from its beginning on, although snapshots were taken meanwhile.
    assert!((500..=ROWS).contains(&rows), "{rows}");
    assert_eq!(report["after"]["rows"], rows);
    assert_differs(&report["streams"][0], rows);
    assert_eq!(state("state.json"), before);
    // The run goes on as if nothing had been.
    let (code, _, err) = foreline(folder.path(), &["run", "before.yaml", "--quiet"]);
    assert_eq!(code, Some(0), "{err}");
    let report = replayed(folder.path(), &["before.yaml", "after.yaml", "--journal"]);
    assert_differs(&report["streams"][0], ROWS);
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = folder();
    let refused = |arguments: &[&str], why: &str| {
        let (code, _, err) = foreline(folder.path(), &[&["replay"], arguments].concat());
        assert!(matches!(code, Some(1 | 2 | 78)), "{code:?}");
        assert!(err.contains(why), "'{why}' is not in: {err}");
    };
    refused(&["before.yaml", "after.yaml", "--journal"], "there is no journal in");
    refused(&["before.yaml"], "<AFTER>");
    refused(&["before.yaml", "after.yaml", "--stream", "none"], "has no stream 'none'");
    refused(&["before.yaml", "--weights", "smooth=x"], "there is no 'model' step 'smooth'");
    let by_time = pipeline("v", "true").replace("key: [machine]", "key: [machine, ts]");
    std::fs::write(folder.path().join("other.yaml"), by_time).unwrap();
    refused(&["before.yaml", "other.yaml"], "different primary keys");
}
