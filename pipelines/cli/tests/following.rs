//! The real command on files that grow and are rotated, killed and ended in between: every line counts once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use foreline_tests::live::{Lake, eventually, start, terminate};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    csv: { path: 'in/*.csv*', follow: { poll: 10ms } }
    columns: { ts: timestamp, machine: string, v: float64 }
    key: [machine]
    time: ts
steps:
  smooth: { from: readings, ema: { columns: [v], half_life: 5s } }
sinks: { lake: { from: smooth, parquet: { path: lake } } }
epoch: { rows: 300, interval: 10ms }
snapshot: { interval: 50ms }
";

/// Writes readings to a file and rotates it.
struct Writer {
    path: PathBuf,
    written: i64,
    rotated: u32,
}

impl Writer {
    /// Appends so many lines, the last of them in two halves.
    fn write(&mut self, n: i64) {
        let new = !self.path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        if new {
            file.write_all(b"ts,machine,v\n").unwrap();
        }
        for _ in 0..n {
            let i = self.written;
            let (second, machine) = (i / 3, i % 3);
            let time = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
            let line = format!("2026-03-01T{time}Z,P-{machine},{}.5\n", i % 89);
            let (one, other) = line.as_bytes().split_at(line.len() / 2);
            file.write_all(one).unwrap();
            file.write_all(other).unwrap();
            self.written += 1;
        }
    }

    fn rotate(&mut self) {
        self.rotated += 1;
        fs::rename(&self.path, self.path.with_extension(format!("csv.{}", self.rotated))).unwrap();
    }
}

#[test]
fn every_line_counts_once_whatever_dies_and_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("p.yaml"), PIPELINE).unwrap();
    let path = folder.path().join("in/a.csv");
    let mut writer = Writer { path, written: 0, rotated: 0 };
    let lake = Lake(folder.path().join("lake/smooth"));
    for round in 0..12 {
        let mut child = start(COMMAND, folder.path(), "");
        writer.write(400);
        if round % 3 == 1 {
            writer.rotate();
            writer.write(100);
        }
        if round % 2 == 0 {
            // Killed when it has committed something new, or has at least tried.
            let before = lake.rows().len();
            eventually("rows are committed", || lake.rows().len() > before);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        writer.write(50);
        if round % 4 == 2 {
            writer.rotate();
        }
    }
    let mut child = start(COMMAND, folder.path(), "");
    // Each key's last rows wait for its watermark, which needs no later row where the lateness is nothing.
    let all = usize::try_from(writer.written).unwrap();
    let said = || fs::read_to_string(folder.path().join("stderr")).unwrap();
    eventually("all rows are committed", || {
        assert!(child.try_wait().unwrap().is_none(), "{}", said());
        lake.rows().len() >= all
    });
    assert!(terminate(&mut child).success(), "{}", said());
    let mut counts: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for row in lake.rows() {
        *counts.entry(row).or_default() += 1;
    }
    assert_eq!(counts.len(), all, "every line is there");
    assert!(counts.values().all(|n| *n == 1), "and once");

    // The run that was told to end has left nothing to replay: this one would die of it.
    let mut child = start(COMMAND, folder.path(), "epoch replayed");
    let marker = folder.path().join("in/b.csv");
    fs::write(marker, "ts,machine,v\n2026-03-02T00:00:00Z,P-9,1\n").unwrap();
    eventually("a new file is read", || lake.rows().len() > all);
    assert!(terminate(&mut child).success(), "{}", said());
    let report = fs::read(folder.path().join("stdout")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["stopped"], true);
    assert_eq!(lake.rows().len(), all + 1);
}
