//! The dashboard of a real pipeline in a real browser: logging in, what is live, alerts, waveforms, diagnoses, costs, who may do
//! what, SQL; and that nobody is kept out by how it is made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use foreline_tests::live::Running;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const PASSWORD: &str = "correct horse battery";

const PIPELINE: &str = "version: 1
name: plant
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    keep: 24h
    columns:
      machine: string
      ts: timestamp
      vibration: { type: float64, unit: mm/s }
      diagnosis: string
      downtime_cost: float64
      rul_hours: { type: float64, unit: h }
      rul_hours_low: { type: float64, unit: h }
      rul_hours_high: { type: float64, unit: h }
      rul_hours_because: string
    key: [machine]
    time: ts
    lateness: 0s
    dedupe: [machine, ts]
  wave:
    http: { max_requests_per_s: 100000 }
    keep: 1h
    columns: { machine: string, ts: timestamp, acceleration: { type: float64, unit: m/s2 } }
    key: [machine]
    time: ts
    lateness: 0s
alerts:
  hot: { from: readings, when: vibration > 8, severity: critical }
views:
  latest: { from: readings, latest: {} }
sinks:
  lake: { from: [readings], parquet: { path: lake } }
epoch: { interval: 10ms }
serve: { listen: 127.0.0.1:0 }
";

/// `foreline` in the folder of the pipeline, with something on standard input; its first line.
fn foreline(running: &Running, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(COMMAND)
        .current_dir(running.folder.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
}

/// Where `cargo xtask test` puts the modules.
fn modules() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty());
    let at = named.map(PathBuf::from).or_else(home)?.join("foreline-browser");
    Some(at).filter(|at| at.join("node_modules/playwright-core").exists())
}

#[test]
fn the_dashboard_is_used() {
    let (Some(modules), true) = (modules(), Path::new("/usr/bin/chromium").exists()) else {
        eprintln!(
            "SKIPPED: chromium or playwright-core is not installed; `cargo xtask test` installs them"
        );
        return;
    };
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let add = ["user", "add", "p.yaml", "ann", "--role", "admin", "--password-stdin"];
    foreline(&running, &add, &format!("{PASSWORD}\n"));
    let token = foreline(&running, &["token", "create", "p.yaml", "pump", "--scope", "write"], "");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/browser/dashboard.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(format!("http://{}", running.address)).args([&token, "ann", PASSWORD]);
    // Whoever wants pictures says where.
    node.args(std::env::var_os("FORELINE_PICTURES")).env("FORELINE_MODULES", modules);
    let output = node.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
