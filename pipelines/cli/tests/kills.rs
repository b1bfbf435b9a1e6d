//! The real command, killed at random instants and at every named place: nothing is lost, nothing counts twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use foreline_tests::lake;
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
    assert!(outcome.kills >= 100 && outcome.looks >= 100, "{outcome:?}");
    assert_eq!((outcome.lost, outcome.duplicated, outcome.different), (0, 0, 0), "{outcome:?}");
}

/// A pipeline over one file, whose name and null word come from outside.
const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    csv: { path: in.csv, null: ['${env:FORELINE_TEST_CANARY}'] }
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
fn run(folder: &Path, crash_at: &str) -> (bool, String) {
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
    assert!(!run(folder.path(), "snapshot published:1").0);
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
    // How far the first run had come by then is a matter of how busy the machine is.
    assert!(before > 0, "{report:#}");
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

/// Late rows, some of which correct the result, and whose table is a sink's.
const LATE: &str = "version: 1
name: p
sources:
  readings:
    csv: { path: in.csv }
    columns: { ts: timestamp, machine: string, v: float64 }
    key: [machine]
    time: ts
    late: { correct: 20s }
steps:
  smooth: { from: readings, ema: { columns: [v], half_life: 5s } }
  counts: { from: smooth, window: { tumbling: 10s, features: { v: [count, mean] } } }
sinks: { lake: { from: [smooth, counts, late, dead_letters], parquet: { path: lake } } }
epoch: { rows: 200 }
snapshot: { interval: 1ms }
";

/// A reading a second, one in 11 of which comes 12 s late, and one in 7 comes 33 s late.
fn late_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let late = |i: u32| u32::from(i.is_multiple_of(11)) * 12 + u32::from(i.is_multiple_of(7)) * 33;
    let mut seconds: Vec<u32> = (0..12_000).collect();
    seconds.sort_by_key(|&i| i + late(i));
    let line = |i: &u32| {
        let (h, m, s) = (i / 3600, i / 60 % 60, i % 60);
        format!("2026-03-01T{h:02}:{m:02}:{s:02}Z,P-{},{}.5\n", i % 3, i % 89)
    };
    let text: String = seconds.iter().map(line).collect();
    std::fs::write(folder.path().join("in.csv"), format!("ts,machine,v\n{text}")).unwrap();
    std::fs::write(folder.path().join("p.yaml"), LATE).unwrap();
    folder
}

/// What stands in the sinks; where epochs were cut, and which folder it was, aside.
fn stands(folder: &Path) -> Vec<Vec<lake::Row>> {
    let lake = folder.join("lake");
    let mut found = Vec::new();
    for (stream, time) in [("smooth", "ts"), ("counts", "window_end")] {
        let rows = lake::settled(&lake.join(stream), &["machine", time]).unwrap();
        found.push(rows.into_values().collect());
    }
    for stream in ["late", "dead_letters"] {
        let mut rows: Vec<lake::Row> =
            lake::rows(&lake.join(stream)).unwrap().into_iter().map(|(_, row)| row).collect();
        for row in &mut rows {
            row.remove("epoch");
            row.remove("file");
        }
        rows.sort();
        found.push(rows);
    }
    found
}

#[test]
fn deaths_leave_every_late_row_once_and_every_correction() {
    let calm = late_folder();
    let (ended, said) = run(calm.path(), "");
    assert!(ended, "{said}");
    let folder = late_folder();
    let mut n_deaths = 0;
    let mut ended = false;
    for place in [
        "before sink commit:3",
        "parquet files written:2",
        "after sink commit:3",
        "snapshot published:1",
        "epoch replayed:1",
        "state written:1",
        "",
    ] {
        if !ended {
            ended = run(folder.path(), place).0;
            n_deaths += u32::from(!ended);
        }
    }
    assert!(ended && n_deaths >= 3, "{n_deaths} deaths");
    let (want, found) = (stands(calm.path()), stands(folder.path()));
    assert!(want.iter().all(|rows| rows.len() > 200), "{:?}", want.iter().map(Vec::len));
    assert_eq!(
        want[2].len(),
        want[3].len() + want[2].iter().filter(|r| r["outcome"] == "corrected").count()
    );
    assert_eq!(want, found);
}
