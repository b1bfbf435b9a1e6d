//! The real command on a disk that gets full: it takes no more, says so, and goes on by itself when there is space.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use foreline_tests::live::{Lake, address, ask, eventually, start, terminate};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const ROWS: &str = "POST /api/v1/sources/readings/rows";
const JSON: &str = "content-type: application/json\r\n";
const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { ts: { type: timestamp, format: epoch_ms }, machine: string, v: float64, note: string }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
sinks: { lake: { from: readings, parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 200ms }
serve: { listen: 127.0.0.1:0 }
";
/// Bytes of the disk for the data directory.
const DISK: usize = 24 << 20;
/// Rows of a request, about 128 kB.
const BODY_ROWS: i64 = 100;

/// A small disk, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where we may not have one.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let size = format!("size={DISK}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

fn body(first: i64) -> String {
    let note = "x".repeat(1_200);
    let row =
        |n: i64| format!("{{\"ts\":{n},\"machine\":\"P-{}\",\"v\":1,\"note\":\"{note}\"}}", n % 7);
    let rows: Vec<String> = (first..first + BODY_ROWS).map(row).collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn f1_a_full_disk_stops_acknowledging_and_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join(".foreline")) else {
        eprintln!("SKIPPED: a small disk cannot be mounted; this test needs root");
        return;
    };
    fs::write(folder.path().join("p.yaml"), PIPELINE).unwrap();
    let mut child = start(COMMAND, folder.path(), "");
    let status = |at: SocketAddr| ask(at, "GET /readyz", "", b"").map_or(0, |a| a.status);
    eventually("it is ready", || address(folder.path()).is_some_and(|at| status(at) == 200));
    let at = address(folder.path()).unwrap();
    fs::write(disk.0.join("filler"), vec![1; DISK - (2 << 20)]).unwrap();
    let (mut taken, mut next) = (Vec::new(), 0);
    let refused = loop {
        let answer = ask(at, ROWS, JSON, body(next).as_bytes()).unwrap();
        if answer.status != 200 {
            break answer;
        }
        taken.push(next);
        next += BODY_ROWS;
        assert!(taken.len() < 100, "more was taken than the disk has");
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    eventually("it says that it is not ready", || status(at) == 503);
    let said = ask(at, "GET /readyz", "", b"").unwrap().body;
    assert!(said.contains("the journal is full"), "{said}");
    let stderr = fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(stderr.contains("no space is left for"), "{stderr}");
    assert!(child.try_wait().unwrap().is_none(), "it goes on running");
    // Sent again until it is answered, as a gateway does.
    fs::remove_file(disk.0.join("filler")).unwrap();
    eventually("it takes rows again", || {
        ask(at, ROWS, JSON, body(next).as_bytes()).is_ok_and(|a| a.status == 200)
    });
    taken.push(next);
    eventually("it is ready again", || status(at) == 200);
    let lake = Lake(folder.path().join("lake/readings"));
    let rows = taken.iter().flat_map(|first| *first..first + BODY_ROWS);
    let expected: BTreeSet<(String, i64)> =
        rows.map(|n| (format!("P-{}", n % 7), n * 1_000_000)).collect();
    eventually("every row is there", || {
        lake.rows().into_iter().collect::<BTreeSet<_>>().is_superset(&expected)
    });
    assert!(terminate(&mut child).success());
    assert_eq!(lake.rows().len(), expected.len(), "something is there twice");
}
