//! Plugins that mean harm in a pipeline that goes on: every one of them in a step of its own, on one source, beside steps that do
//! their work, while somebody asks the API all the time and the command is killed in the middle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foreline_tests::evil::{EVIL, when};
use foreline_tests::live::{Lake, Running, ask, eventually, terminate};
use serde_json::json;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const MACHINES: usize = 10;
const SECONDS: usize = 40;

/// Code for places of `evil.wat`.
type Places = &'static [(&'static str, &'static str)];

/// What each does with a row whose value is [`EVIL`], in the places of `evil.wat`, and how that row ends.
const KINDS: &[(&str, Places, &str)] = &[
    ("endless", &[("SCORE", "(loop (br 0))")], "plugin_fuel"),
    (
        "memory",
        &[("SCORE", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))")],
        "plugin_memory",
    ),
    (
        "table",
        &[
            ("MORE", "(table $t 0 funcref)"),
            ("SCORE", "(drop (table.grow $t (ref.null func) (i32.const 200000)))"),
        ],
        "plugin_memory",
    ),
    (
        "stack",
        &[
            (
                "MORE",
                "(func $r (param i32) (result i32) (i32.add (call $r (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))",
            ),
            ("SCORE", "(drop (call $r (local.get 0)))"),
        ],
        "plugin_trap",
    ),
    ("trap", &[("SCORE", "unreachable")], "plugin_trap"),
    (
        "outside",
        &[("SCORE", "(return (call $ok (i32.const 8) (i32.const 0x7fffffff)))")],
        "plugin_broken_rule",
    ),
    (
        "huge",
        &[(
            "SCORE",
            "(drop (memory.grow (i32.const 192))) (return (call $ok (i32.const 0) (i32.const 0x180000)))",
        )],
        "plugin_too_much_output",
    ),
    (
        "infinite",
        &[(
            "SCORE",
            "(f64.store (i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3))) (f64.const inf))",
        )],
        "plugin_bad_output",
    ),
];

/// The plugin; what stands for `SCORE` runs where some row is the evil one.
fn component(places: &[(&str, &str)]) -> Vec<u8> {
    let code = |(place, code): &(&str, &str)| match *place {
        "SCORE" => when(EVIL, code),
        _ => (*code).to_owned(),
    };
    let codes: Vec<String> = places.iter().map(code).collect();
    let places: Vec<_> = places.iter().zip(&codes).map(|(p, code)| (p.0, &**code)).collect();
    foreline_tests::evil::component(&places)
}

/// All of them on one source, beside a good one and a smoothing step.
fn pipeline() -> (String, Vec<(String, Vec<u8>)>) {
    let mut files = vec![("good.wasm".to_owned(), component(&[]))];
    let mut steps = String::from("  calm: { from: readings, ema: { columns: [x], alpha: 0.5 } }\n");
    let mut names = vec!["calm".to_owned()];
    let all = KINDS.iter().map(|(name, places, _)| (*name, component(places)));
    for (name, bytes) in std::iter::once(("good", component(&[]))).chain(all) {
        steps += &format!(
            "  {name}: {{ from: readings, model: {{ plugin: {name}.wasm, sha256: \"{}\", breaker: {{ after: 1000 }}, limits: {{ fuel_per_row: 100_000, memory: 16MiB }} }} }}\n",
            foreline_plugins::digest(&bytes)
        );
        names.push(name.to_owned());
        files.push((format!("{name}.wasm"), bytes));
    }
    names.push("dead_letters".to_owned());
    let text = format!(
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
{steps}views: {{ latest: {{ from: good, latest: {{}} }} }}
sinks: {{ lake: {{ from: [{}], parquet: {{ path: lake }} }} }}
epoch: {{ interval: 10ms }}
snapshot: {{ interval: 100ms }}
journal: {{ keep: 1h }}
serve: {{ listen: 127.0.0.1:0 }}
",
        names.join(", ")
    );
    (text, files)
}

/// A reading a machine; every second another machine's is the evil one.
fn readings(second: usize) -> String {
    let row = |machine: usize| {
        let x = if machine == second % MACHINES { EVIL } else { (second * 10 + machine) as f64 };
        json!({ "machine": format!("P-{machine}"), "ts": format!("2026-03-01T00:00:{second:02}Z"), "x": x })
    };
    json!((0..MACHINES).map(row).collect::<Vec<_>>()).to_string()
}

/// Everything that the sinks have, in an order that does not depend on epochs.
fn everything(folder: &Path) -> BTreeMap<String, Vec<Vec<String>>> {
    let of = |name: &str, columns: &[&str]| {
        let mut rows = Lake(folder.join("lake").join(name)).texts(columns);
        rows.sort();
        (name.to_owned(), rows)
    };
    let models = KINDS.iter().map(|k| k.0).chain(["good"]);
    models
        .map(|name| of(name, &["machine", "ts", "x", "y", "model_digest"]))
        .chain([of("calm", &["machine", "ts", "x"])])
        .chain([of("dead_letters", &["operator", "reason", "key", "event_time"])])
        .collect()
}

/// How many rows the sinks have.
fn rows(folder: &Path) -> usize {
    everything(folder).values().map(Vec::len).sum()
}

const GOOD: usize = MACHINES * SECONDS;
const ALL: usize = 2 * GOOD + KINDS.len() * GOOD;

#[test]
fn the_others_go_on_and_a_replay_has_the_same_bits() {
    let (text, files) = pipeline();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let mut running = Running::with(COMMAND, &text, &files);
    for half in [0..SECONDS / 2, SECONDS / 2..SECONDS] {
        let (address, is_done, asked) =
            (running.address, AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    for path in ["/livez", "/api/v1/tables", "/api/v1/tables/latest/rows"] {
                        let answer = ask(address, &format!("GET {path}"), "", b"").unwrap();
                        // After a restart the table is there once it shows what it did before.
                        let fine = [200, if path.ends_with("rows") { 503 } else { 200 }];
                        assert!(fine.contains(&answer.status), "{path}: {}", answer.body);
                    }
                    asked.fetch_add(1, Ordering::Release);
                }
            });
            for second in half.clone() {
                running.send("POST /api/v1/sources/readings/rows", &readings(second));
            }
            is_done.store(true, Ordering::Release);
        });
        assert!(asked.load(Ordering::Acquire) > 0, "somebody was answered meanwhile");
        if half.start == 0 {
            running.die_and_live();
        }
    }
    eventually("all rows are through", || {
        ask(running.address, "GET /api/v1/tables/latest/rows", "", b"")
            .is_ok_and(|a| a.status == 200 && a.body.contains("00:00:39"))
    });
    assert!(terminate(&mut running.child).success());
    let found = everything(running.folder.path());
    assert_eq!((found["good"].len(), found["calm"].len()), (GOOD, GOOD));
    for (name, _, reason) in KINDS {
        assert_eq!(found[*name].len(), GOOD - SECONDS, "{name}: all rows but the evil ones");
        let letters = found["dead_letters"].iter().filter(|l| l[0] == *name);
        assert!(letters.clone().all(|l| l[1] == *reason), "{name}");
        assert_eq!(letters.count(), SECONDS, "{name}: each of the evil rows, once");
    }
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), ALL);

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
    let folders = || fs::read_dir(copy.path().join("lake")).map_or(0, Iterator::count);
    eventually("the journal is computed again", || {
        folders() == KINDS.len() + 3 && rows(copy.path()) == ALL
    });
    assert!(terminate(&mut replay).success());
    assert_eq!(everything(copy.path()), found);
}
