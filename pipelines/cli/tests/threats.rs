//! What a plugin might try beyond its scores, as the command meets it: flooding the log, machine code under another name, a module
//! that no compiler should be asked to take; and that what a good one keeps by key survives whatever happens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use foreline_tests::evil::{at, component, summing};
use foreline_tests::live::{Lake, Running, eventually, terminate};
use serde_json::json;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

/// A source of rows with one number, and a model over it.
fn pipeline(plugin: &[u8]) -> String {
    let sha256 = foreline_plugins::digest(plugin);
    format!(
        "version: 1
name: p
sources:
  readings:
    http: {{ max_requests_per_s: 100000 }}
    columns: {{ machine: string, ts: timestamp, x: float64 }}
    key: [machine]
    time: ts
    lateness: 0s
    dedupe: [machine, ts]
steps:
  scored: {{ from: readings, model: {{ plugin: plugin.wasm, sha256: \"{sha256}\", limits: {{ fuel_per_row: 1_000_000 }} }} }}
sinks: {{ lake: {{ from: [scored, dead_letters], parquet: {{ path: lake }} }} }}
epoch: {{ interval: 10ms }}
snapshot: {{ interval: 50ms }}
journal: {{ keep: 1h }}
serve: {{ listen: 127.0.0.1:0 }}
"
    )
}

fn row(machine: usize, second: usize, x: f64) -> serde_json::Value {
    json!({ "machine": format!("P-{machine}"), "ts": format!("2026-03-01T00:{:02}:{:02}Z", second / 60, second % 60), "x": x })
}

/// The rows of a sink, in an order that does not depend on epochs.
fn sorted(lake: &Path, columns: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Lake(lake.to_owned()).texts(columns);
    rows.sort();
    rows
}

const MACHINES: usize = 7;
const SECONDS: usize = 120;

/// What is kept by key has the same bits undisturbed, after deaths, on other numbers of workers, and replayed.
#[test]
fn state_of_a_model_survives_deaths_workers_and_replay() {
    let plugin = summing();
    let mut running = Running::with(COMMAND, &pipeline(&plugin), &[("plugin.wasm", &plugin)]);
    // Sums whose bits depend on their order.
    let x = |machine: usize, second: usize| 0.1 * (second * 10 + machine) as f64 + 1e-3;
    let mut expected = Vec::new();
    for machine in 0..MACHINES {
        let mut sum = 0.0;
        for second in 0..SECONDS {
            sum += x(machine, second);
            let row = row(machine, second, sum);
            expected.push((row["machine"].to_string(), row["ts"].to_string(), sum.to_bits()));
        }
    }
    for part in 0..4 {
        for second in part * SECONDS / 4..(part + 1) * SECONDS / 4 {
            let rows: Vec<_> = (0..MACHINES).map(|m| row(m, second, x(m, second))).collect();
            running.send("POST /api/v1/sources/readings/rows", &json!(rows).to_string());
        }
        match part {
            0 => running.die_and_live(),
            1 => {
                running.child.kill().unwrap();
                running.child.wait().unwrap();
                running.again_on(5);
            }
            2 => {
                assert!(terminate(&mut running.child).success());
                running.again_on(1);
            }
            _ => {}
        }
    }
    eventually("all rows are through", || {
        running.lake("scored").rows().len() == MACHINES * SECONDS
    });
    assert!(terminate(&mut running.child).success());
    let found = |folder: &Path| sorted(&folder.join("lake/scored"), &["machine", "ts", "y"]);
    let rows = found(running.folder.path());
    let bits = rows.iter().map(|r| r[2].parse::<f64>().unwrap().to_bits());
    expected.sort();
    assert_eq!(bits.collect::<Vec<_>>(), expected.iter().map(|e| e.2).collect::<Vec<_>>());

    // From the journal alone, by other workers, into a lake of its own.
    let copy = tempfile::tempdir().unwrap();
    let here = running.folder.path().join(".");
    assert!(Command::new("cp").arg("-a").arg(here).arg(copy.path()).status().unwrap().success());
    fs::remove_dir_all(copy.path().join("lake")).unwrap();
    fs::remove_dir_all(copy.path().join(".foreline/p/snapshots")).unwrap();
    let mut replay = Command::new(COMMAND)
        .args(["run", "--quiet", "--workers", "3"])
        .arg(copy.path().join("p.yaml"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(copy.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let lake = copy.path().join("lake/scored");
    eventually("the journal is computed again", || {
        lake.exists() && Lake(lake.clone()).rows().len() == MACHINES * SECONDS
    });
    assert!(terminate(&mut replay).success());
    assert_eq!(found(copy.path()), rows);
}

/// A hundred lines are sixteen, a long one is cut, control characters are gone, and one that is larger than what a call may hand
/// over is the row's fault.
#[test]
fn what_a_plugin_logs_is_little_and_harmless() {
    let import =
        r#"(import "foreline:model/diagnostics@0.2.0" "log" (func $log (param i32 i32 i32)))"#;
    // Text of letters with a line feed and an escape in it.
    let text = "(memory.fill (i32.const 3000) (i32.const 113) (i32.const 200000)) (i32.store8 (i32.const 3001) (i32.const 10)) (i32.store8 (i32.const 3002) (i32.const 27))";
    let log = |times: u32, bytes: u32| {
        format!(
            "{text} (local.set $n (i32.const 0)) (loop $again (call $log (i32.const 2) (i32.const 3000) (i32.const {bytes}))
               (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $again (i32.lt_u (local.get $n) (i32.const {times}))))"
        )
    };
    let kinds = [(1.5, log(100, 300)), (2.5, log(1, 10_000)), (3.5, log(1, 200_000))];
    let code = kinds.map(|(value, code)| at(value, &code)).join(" ");
    let code = format!("(local $i i32) (local $n i32) {code}");
    let plugin = component(&[("IMPORT", import), ("SCORE", &code)]);
    let mut running = Running::with(COMMAND, &pipeline(&plugin), &[("plugin.wasm", &plugin)]);
    for (second, x) in [1.5, 2.5, 3.5, 4.5].into_iter().enumerate() {
        let rows = json!([row(0, second, x)]);
        running.send("POST /api/v1/sources/readings/rows", &rows.to_string());
        // Each in a call of its own.
        eventually("it is through", || {
            let dead = running.folder.path().join("lake/dead_letters");
            let dead = if dead.exists() { Lake(dead).texts(&["reason"]).len() } else { 0 };
            let lake = running.folder.path().join("lake/scored");
            lake.exists() && Lake(lake).rows().len() + dead == second + 1
        });
    }
    assert!(terminate(&mut running.child).success());
    let reasons = running.lake("dead_letters").texts(&["reason"]);
    assert_eq!(reasons, [["plugin_too_much_output"]]);
    let said = fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("qqqq")).collect();
    let lengths = lines.iter().map(|line| line.matches('q').count());
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    lengths.for_each(|length| *counts.entry(length).or_default() += 1);
    // 4 KiB with two characters taken out.
    assert_eq!(counts, BTreeMap::from([(298, 16), (4094, 1)]));
    assert!(lines.iter().all(|line| !line.contains('\u{1b}') && line.contains("plugin")));
}

/// `foreline check` of a pipeline with this plugin.
fn check(folder: &Path, plugin: &[u8], compiler: Option<&Path>) -> Output {
    fs::write(folder.join("plugin.wasm"), plugin).unwrap();
    fs::write(folder.join("p.yaml"), pipeline(plugin)).unwrap();
    let mut command = Command::new(COMMAND);
    command.arg("check").arg(folder.join("p.yaml"));
    command.envs(compiler.map(|compiler| ("FORELINE_COMPILE_CHILD", compiler)));
    command.output().unwrap()
}

#[test]
fn machine_code_is_not_let_in_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = Command::new(COMMAND)
        .arg("compile-plugin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    compiler.stdin.take().unwrap().write_all(&component(&[])).unwrap();
    let code = compiler.wait_with_output().unwrap();
    assert!(code.status.success() && code.stdout.len() > 1000);
    let checked = check(folder.path(), &code.stdout, None);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(78), "{said}");
    assert!(said.contains("a precompiled artefact"), "{said}");
}

/// Modules that pass what is looked at before, and keep a compiler busy: it is stopped, by time or by memory, and nothing else is.
#[test]
fn a_compiler_that_takes_too_much_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut bomb = String::new();
    for n in 0..60 {
        let (locals, nesting) = (400, 400);
        write!(bomb, "(func (export \"f{n}\") {} ", "(local f64)".repeat(locals)).unwrap();
        for at in 0..nesting {
            let (from, to) = ((at * 7) % locals, (at * 13 + 1) % locals);
            write!(bomb, "(loop (local.set {to} (f64.add (local.get {from}) (local.get {to}))) ")
                .unwrap();
            write!(bomb, "(br_if 0 (f64.lt (local.get {to}) (f64.const {at}))) ").unwrap();
        }
        bomb += &")".repeat(nesting);
        bomb += ")";
    }
    let bomb = component(&[("MORE", &bomb)]);
    for limit in ["ulimit -t 1", "ulimit -v 150000"] {
        let compiler = folder.path().join("compiler.sh");
        fs::write(&compiler, format!("#!/bin/sh\n{limit}\nexec {COMMAND} \"$@\"\n")).unwrap();
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
        let checked = check(folder.path(), &bomb, Some(&compiler));
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{limit}: {said}");
        assert!(said.contains("it cannot be compiled"), "{limit}: {said}");
    }
    // A good one is compiled by the same compiler, under the limit of time.
    let compiler = folder.path().join("compiler.sh");
    fs::write(&compiler, format!("#!/bin/sh\nulimit -t 30\nexec {COMMAND} \"$@\"\n")).unwrap();
    let checked = check(folder.path(), &component(&[]), Some(&compiler));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// What a model could not do is in the figures and in the log: a call that only a fresh instance answers, a row that it leaves
/// without a score, and a machine that it fails on again and again.
#[test]
fn what_a_model_cannot_do_shows() {
    let place = "(i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))";
    let nan = at(2.5, &format!("(f64.store {place} (f64.const nan))"));
    let code = format!(
        "(local $i i32) {nan} {}
         (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const 4)) (then unreachable))",
        at(1.5, "unreachable")
    );
    let calls = "(global $calls (mut i32) (i32.const 0))";
    let plugin = component(&[("MORE", calls), ("SCORE", &code)]);
    let text = pipeline(&plugin).replace("limits:", "breaker: { after: 2 }, limits:");
    let mut running = Running::with(COMMAND, &text, &[("plugin.wasm", &plugin)]);
    let figure = |running: &Running, name: &str| -> f64 {
        let page = running.send("GET /metrics", "");
        let line = page.lines().find(|l| l.starts_with(&format!("foreline_model_{name}")));
        line.unwrap_or_else(|| panic!("{page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let acting =
        |name: &str| format!("{name}{{step=\"scored\",version=\"champion\",role=\"acting\"}}");
    // Calls that trap are not the fourth of their instance, which is a fresh one then.
    let values = [10.5, 10.5, 2.5, 10.5, 1.5, 1.5, 10.5];
    for (second, x) in values.into_iter().enumerate() {
        running.send("POST /api/v1/sources/readings/rows", &json!([row(0, second, x)]).to_string());
        // Each in an epoch of its own.
        eventually("it is through", || {
            figure(&running, &acting("rows_total")) == (second + 1) as f64
        });
    }
    let kept_back = "breakers_open{step=\"scored\",version=\"champion\"}";
    // The machine, and its shard, which has no other.
    eventually("the epoch is settled", || figure(&running, kept_back) == 2.0);
    assert_eq!(figure(&running, &acting("rows_failed_total")), 3.0);
    assert_eq!(figure(&running, &acting("rows_unscored_total")), 1.0);
    assert_eq!(figure(&running, "healed_calls_total{step=\"scored\",version=\"champion\"}"), 1.0);
    let said = fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    for line in ["a call went through in a fresh instance only", "plugin_breaker_open"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // It is remembered by the state: one that begins again knows it too.
    running.die_and_live();
    running.send("POST /api/v1/sources/readings/rows", &json!([row(1, 0, 10.5)]).to_string());
    eventually("it is known", || figure(&running, kept_back) == 2.0);
    assert!(terminate(&mut running.child).success());
    let reasons = running.lake("dead_letters").texts(&["reason"]);
    assert_eq!(reasons, [["plugin_trap"], ["plugin_trap"], ["plugin_breaker_open"]]);
}
