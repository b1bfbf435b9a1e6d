//! The real command, killed at random instants and at every named place: nothing is lost, nothing counts twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::PathBuf;
use std::time::Duration;

use foreline_tests::torture::{Options, torture};

#[test]
fn a_hundred_deaths_leave_no_trace() {
    let outcome = torture(&Options {
        command: PathBuf::from(env!("CARGO_BIN_EXE_foreline")),
        kills: 100,
        time: Duration::ZERO,
        rows: 12_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 100);
    assert_eq!((outcome.lost, outcome.duplicated, outcome.different), (0, 0, 0), "{outcome:?}");
}

/// A pipeline over one file, whose name and null word come from outside.
const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    csv: { path: in.csv, 'null': ['${env:FORELINE_TEST_CANARY}'] }
    columns: { ts: timestamp, machine: string, v: float64 }
    key: [machine]
    time: ts
steps:
  smooth: { from: readings, ema: { columns: [v], half_life: 5s } }
sinks: { lake: { from: smooth, parquet: { path: lake } } }
epoch: { rows: 200 }
snapshot: { interval: 1ms }
";
const CANARY: &str = "canary-5f1e";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..60_000).map(|i| {
        format!(
            "2026-03-01T{:02}:{:02}:{:02}Z,P-{},{}.5\n",
            i / 3600,
            i / 60 % 60,
            i % 60,
            i % 3,
            i % 89
        )
    });
    let text = std::iter::once("ts,machine,v\n".to_owned()).chain(rows).collect::<String>();
    std::fs::write(folder.path().join("in.csv"), text).unwrap();
    std::fs::write(folder.path().join("p.yaml"), PIPELINE).unwrap();
    folder
}

/// Runs it; whether it came to its end, and what it said.
fn run(folder: &std::path::Path, crash_at: &str) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(["run", "--workers", "2"])
        .arg(folder.join("p.yaml"))
        .env("FORELINE_TEST_CANARY", CANARY)
        .env("FORELINE_CRASH_AT", crash_at)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn damage_that_is_got_round_is_said() {
    let folder = folder();
    assert!(!run(folder.path(), "snapshot published:2").0);
    let snapshots = folder.path().join(".foreline/p/snapshots");
    let names = std::fs::read_dir(&snapshots).unwrap().map(|e| e.unwrap().path());
    let newest = names.filter(|p| p.extension().is_some_and(|e| e == "json")).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let (ended, said) = run(folder.path(), "");
    assert!(ended, "{said}");
    assert!(said.contains("a snapshot is damaged, an older one is used"), "{said}");
}

#[test]
fn a_run_that_goes_on_tells_its_own_rows_from_those_before() {
    let folder = folder();
    assert!(!run(folder.path(), "snapshot published:2").0);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(["run", "--json", "--quiet"])
        .arg(folder.path().join("p.yaml"))
        .env("FORELINE_TEST_CANARY", CANARY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (own, before) = (&report["rows"], &report["rows_of_earlier_runs"]);
    let (own, before) = (own.as_u64().unwrap(), before.as_u64().unwrap());
    assert!(before > 0 && own > 0, "{own} {before}");
    assert_eq!((own + before, &report["accounts"]["readings"]["input"]), (60_000, &60_000.into()));
}

#[test]
fn a_change_is_shown_as_the_file_has_it_and_secrets_stay_outside() {
    let folder = folder();
    assert!(!run(folder.path(), "snapshot published:2").0);
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, PIPELINE.replace("half_life: 5s", "half_life: 6s")).unwrap();
    let (ended, said) = run(folder.path(), "");
    assert!(!ended);
    for line in ["- smooth: ", "+ smooth: ", "\"half_life\":\"6s\"", "--migrate", "--fresh"] {
        assert!(said.contains(line), "'{line}' is not in: {said}");
    }
    assert!(!said.contains(CANARY), "{said}");
    let state = std::fs::read_to_string(folder.path().join(".foreline/p/state.json")).unwrap();
    assert!(state.contains("${env:FORELINE_TEST_CANARY}") && !state.contains(CANARY), "{state}");
}
