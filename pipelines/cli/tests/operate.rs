//! The real command while its models are changed: swaps, canaries and versions that come over HTTP, under load and around deaths;
//! and `foreline retrain`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use foreline_plugins::train::{ModelMeta, TrainingSet, train};
use foreline_tests::live::{Answer, Lake, Running, ask, eventually, terminate};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, a: float64 }
    key: [machine]
    time: ts
    dedupe: [machine, ts]
reference:
  assignments:
    http: {}
    columns: { machine: string, model: string }
    key: [machine]
steps:
  assigned: { from: [readings, assignments], join: { on: [machine] } }
  rul:
    from: assigned
    model:
      plugin: builtin:linear
      weights: champion.weights
      output: rul
      versions: { next: { weights: next.weights } }
      shadow: [challenger]
      route: { by: model }
sinks: { lake: { from: [rul, models.changes], parquet: { path: lake } } }
epoch: { interval: 10ms }
snapshot: { interval: 50ms }
journal: { keep: 1h }
serve: { listen: 127.0.0.1:0 }
";

/// Weights of a model that answers nearly `slope` times `a`.
fn weights(slope: f64) -> Vec<u8> {
    weights_of("a", slope)
}

fn weights_of(feature: &str, slope: f64) -> Vec<u8> {
    let x: Vec<f64> = (0..200).map(|i| f64::from(i) / 10.0).collect();
    let y = x.iter().map(|x| x * slope).collect();
    let feature_names = vec![feature.to_owned()];
    let units = vec![None];
    let set = TrainingSet { feature_names, units, rows: 200, x, y, ..TrainingSet::default() };
    train("linear", &Value::Null, &set, &ModelMeta::remaining_life("pump", "h")).unwrap().weights
}

fn start() -> Running {
    let (champion, next) = (weights(1.0), weights(2.0));
    let files: [(&str, &[u8]); 2] = [("champion.weights", &champion), ("next.weights", &next)];
    Running::with(COMMAND, PIPELINE, &files)
}

/// Sends a reading of each of twenty machines.
fn read(running: &Running, second: u32) {
    let (minute, second) = (second / 60, second % 60);
    let rows: Vec<Value> = (0..20)
        .map(|machine| {
            let ts = format!("2026-03-01T00:{minute:02}:{second:02}Z");
            json!({ "machine": format!("P-{machine}"), "ts": ts, "a": 10 })
        })
        .collect();
    running.send("POST /api/v1/sources/readings/rows", &Value::from(rows).to_string());
}

/// The rows of a second as they came out: machine, the thousands of the score, the digest of the model, what the shadow said.
fn scored(lake: &Lake, second: u32) -> Vec<[String; 4]> {
    let at = format!("00:{:02}:{:02}", second / 60, second % 60);
    let rows = lake.texts(&["machine", "rul", "model_digest", "challenger_rul", "ts"]);
    let of = rows.into_iter().filter(|row| row[4].contains(&at));
    let mut of: Vec<[String; 4]> = of.map(|row| [0, 1, 2, 3].map(|i| row[i].clone())).collect();
    of.sort();
    of
}

/// Sends the readings of a second and waits for their scores.
fn at(running: &Running, second: u32) -> Vec<[String; 4]> {
    read(running, second);
    let lake = running.lake("rul");
    let mut rows = Vec::new();
    eventually("the readings are scored", || {
        rows = scored(&lake, second);
        rows.len() == 20
    });
    rows
}

/// The models that acted on the readings of a second.
fn acted(running: &Running, second: u32) -> BTreeSet<String> {
    at(running, second).into_iter().map(|[_, _, digest, _]| digest).collect()
}

fn told(running: &Running, command: &str, said: &Value) -> Answer {
    let line = format!("POST /api/v1/models/rul/{command}");
    ask(running.address, &line, "", said.to_string().as_bytes()).unwrap()
}

/// Gives a command that must be obeyed; what stands then.
fn obeyed(running: &Running, command: &str, said: &Value) -> Value {
    let answer = told(running, command, said);
    assert_eq!(answer.status, 200, "{command}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn put(running: &Running, name: &str, bytes: &[u8]) -> Answer {
    ask(running.address, &format!("PUT /api/v1/models/rul/versions/{name}"), "", bytes).unwrap()
}

fn model(running: &Running) -> Value {
    let answer = ask(running.address, "GET /api/v1/models/rul", "", b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn digest(model: &Value, version: &str) -> String {
    model["versions"][version]["model_digest"].as_str().unwrap().to_owned()
}

/// Everything that the sinks have, in an order that does not depend on epochs.
fn everything(folder: &Path) -> Vec<Vec<String>> {
    let columns = ["machine", "ts", "rul", "model_digest", "challenger_rul"];
    let mut rows = Lake(folder.join("lake/rul")).texts(&columns);
    rows.sort();
    rows
}

/// Goes through all that can be done with a model, dying in between; the folder then has a journal of it.
fn operated() -> Running {
    let mut running = start();
    let before = model(&running);
    let only = |of: &str, model: &Value| BTreeSet::from([digest(model, of)]);
    assert_eq!((&before["acts"], &before["routed"]), (&json!("champion"), &json!(true)));
    assert_eq!(acted(&running, 1), only("champion", &before));

    // What cannot act is refused while rows go on, and changes nothing.
    let damaged = {
        let mut w = weights(3.0);
        w[100] ^= 1;
        w
    };
    let bad: [(&[u8], &str); 4] = [
        (&damaged, "weights"),
        (b"\0asm\x0d\0\x01\0", "must be signed"),
        (b"nonsense", "neither weights"),
        (&weights_of("b", 1.0), "needs a column 'b'"),
    ];
    for (second, (bytes, why)) in (2..).zip(bad) {
        let refused = put(&running, "challenger", bytes);
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(
            refused.body.contains("not-admitted") && refused.body.contains(why),
            "{}",
            refused.body
        );
        assert_eq!(acted(&running, second), only("champion", &before));
    }
    // What comes looks on first.
    assert_eq!(put(&running, "challenger", &weights(3.0)).status, 200);
    let came = model(&running);
    assert_eq!(came["versions"]["challenger"]["from"], "http");
    let looked_on = at(&running, 10);
    assert!(looked_on.iter().all(|row| row[1].starts_with("10.0") || row[1].starts_with("9.9")));
    assert!(
        looked_on.iter().all(|row| row[3].starts_with("30.0") || row[3].starts_with("29.9")),
        "{looked_on:?}"
    );
    let said = json!({ "version": "challenger", "by": "ada", "comment": "better since May" });
    let active = obeyed(&running, "activate", &said);
    assert_eq!((&active["acts"], &active["previous"]), (&json!("challenger"), &json!("champion")));
    running.die_and_live();
    assert_eq!(
        acted(&running, 11),
        only("challenger", &came),
        "a death after the answer changes nothing"
    );
    let again = model(&running);
    assert_eq!((&again["acts"], &again["by"]), (&json!("challenger"), &json!("ada")));
    assert_eq!(again["versions"]["challenger"]["rows"]["acted"], 20);
    obeyed(&running, "rollback", &json!({}));
    assert_eq!(acted(&running, 12), only("champion", &came));

    // A canary: whole machines, and those of a small one are in a large one.
    let mut inside = BTreeSet::new();
    for (second, share) in [(13, 0.2), (14, 0.6)] {
        obeyed(&running, "canary", &json!({ "version": "next", "share": share }));
        if second == 14 {
            running.die_and_live();
        }
        let next = digest(&came, "next");
        let rows = at(&running, second).into_iter();
        let on: BTreeSet<String> =
            rows.filter(|row| row[2] == next).map(|[machine, ..]| machine).collect();
        assert!(on.is_superset(&inside) && on.len() < 20, "{on:?}");
        inside = on;
    }
    assert!(!inside.is_empty());
    obeyed(&running, "rollback", &json!({}));
    assert_eq!(acted(&running, 15), only("champion", &came));

    // A model of its own for one machine, from a relation.
    let assignment = json!({ "machine": "P-3", "model": "next" });
    running.send("PUT /api/v1/reference/assignments", &assignment.to_string());
    let rows = at(&running, 16);
    for [machine, _, acted, _] in &rows {
        let of = if machine == "P-3" { "next" } else { "champion" };
        assert_eq!(*acted, digest(&came, of), "{machine}");
    }
    obeyed(&running, "activate", &json!({ "version": "next" }));
    assert_eq!(acted(&running, 17), only("next", &came));
    obeyed(&running, "reset", &json!({}));
    let rows = at(&running, 18);
    assert_eq!(rows.iter().filter(|row| row[2] == digest(&came, "champion")).count(), 19);
    running
}

#[test]
fn models_are_swapped_while_rows_go_on_and_a_replay_has_the_same_bytes() {
    let mut running = operated();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    // Without snapshots all of it is computed again from the journal, into a lake of its own.
    let copy = tempfile::tempdir().unwrap();
    let here = running.folder.path().join(".");
    let copied = Command::new("cp").arg("-a").arg(here).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(copy.path().join("lake")).unwrap();
    fs::remove_dir_all(copy.path().join(".foreline/p/snapshots")).unwrap();
    let expected = everything(running.folder.path());
    assert_eq!(expected.len(), 20 * 14);
    let mut replay = Command::new(COMMAND)
        .args(["run", "--quiet", "--workers", "3"])
        .arg(copy.path().join("p.yaml"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(copy.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    eventually("the journal is computed again", || {
        copy.path().join("lake/rul").exists() && everything(copy.path()).len() == expected.len()
    });
    assert!(terminate(&mut replay).success());
    assert_eq!(everything(copy.path()), expected);
}

#[test]
fn what_stands_is_in_snapshots() {
    let mut running = operated();
    obeyed(&running, "activate", &json!({ "version": "challenger" }));
    let came = model(&running);
    assert!(terminate(&mut running.child).success());
    running.again();
    assert_eq!(
        acted(&running, 30),
        BTreeSet::from([digest(&came, "challenger"), digest(&came, "next")])
    );
    let changes = running.lake("models.changes").texts(&["acts", "by"]);
    assert!(changes.contains(&vec!["challenger".to_owned(), "ada".to_owned()]), "{changes:?}");
}

#[test]
fn what_cannot_be_done_with_a_model_is_said() {
    let running = start();
    let status = |line: &str, body: &[u8]| ask(running.address, line, "", body).unwrap().status;
    assert_eq!(status("GET /api/v1/models/nobody", b""), 404);
    assert_eq!(status("GET /api/v1/models", b""), 200);
    let refused: [(&str, Value, u16, &str); 6] = [
        ("explode", json!({}), 404, "unknown-command"),
        ("activate", json!({}), 422, "bad-command"),
        ("activate", json!({ "version": "challenger" }), 404, "unknown-version"),
        ("canary", json!({ "version": "next", "share": 2 }), 422, "bad-command"),
        ("activate", json!({ "verzion": "next" }), 422, "bad-command"),
        ("rollback", json!({}), 409, "nothing-to-roll-back"),
    ];
    for (command, said, status, kind) in refused {
        let answer = told(&running, command, &said);
        assert!(
            answer.status == status && answer.body.contains(kind),
            "{command}: {}",
            answer.body
        );
    }
    for name in ["champion", "next", "Big"] {
        assert_eq!(put(&running, name, &weights(4.0)).status, 422, "{name}");
    }
    for n in 0..16 {
        let answer = put(&running, &format!("v{n}"), &weights(4.0));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let answer = put(&running, "v16", &weights(4.0));
    assert!(answer.status == 409 && answer.body.contains("too-many-versions"), "{}", answer.body);
    obeyed(&running, "activate", &json!({ "version": "v0" }));
    let answer = put(&running, "v0", &weights(5.0));
    assert!(answer.status == 409 && answer.body.contains("in-use"), "{}", answer.body);
    assert_eq!(put(&running, "v0", &weights(4.0)).status, 200, "the same bytes change nothing");
    assert_eq!(status("DELETE /api/v1/models/rul/versions/v0", b""), 409);
    assert_eq!(status("DELETE /api/v1/models/rul/versions/v1", b""), 200);
    assert_eq!(status("DELETE /api/v1/models/rul/versions/v1", b""), 404);
    assert_eq!(put(&running, "v16", &weights(4.0)).status, 200);
}

/// Lives of pumps whose reading `a` is nearly what is left of them.
fn lives(machines: u32, cycles: u32, slope: f64) -> String {
    let mut text = "machine,cycle,a\n".to_owned();
    for machine in 0..machines {
        for cycle in 1..=cycles {
            let wobble = f64::from((machine * 7 + cycle * 13) % 5) / 10.0;
            let a = f64::from(cycles - cycle) * slope + wobble;
            text += &format!("T-{machine},{cycle},{a}\n");
        }
    }
    text
}

const RETRAINED: &str = "version: 1
name: r
sources:
  readings:
    csv: { path: live.csv }
    columns: { machine: string, cycle: int64, a: float64 }
    key: [machine]
    time: cycle
steps:
  rul:
    from: readings
    model: { plugin: builtin:linear, weights: pump.weights, output: rul }
training:
  pump:
    from: readings
    input: { readings: train.csv }
    target: { remaining: {} }
    plugin: builtin:linear
    weights: pump.weights
evaluation:
  kept_back:
    from: rul
    input: { readings: test.csv }
    predicted: rul
    truth: { table: { path: truth.csv, key: machine, remaining: left } }
sinks: { lake: { from: rul, parquet: { path: lake } } }
";

fn foreline(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(COMMAND).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn new_weights_are_proposed_when_they_are_not_worse() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let test: String = lives(4, 30, 1.0)
        .lines()
        .filter(|line| line.split(',').nth(1).unwrap().parse().map_or(true, |c: u32| c <= 18))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(path("p.yaml"), RETRAINED).unwrap();
    fs::write(path("train.csv"), lives(6, 40, 1.0)).unwrap();
    fs::write(path("worse.csv"), lives(6, 40, 3.0)).unwrap();
    fs::write(path("live.csv"), "machine,cycle,a\n").unwrap();
    fs::write(path("test.csv"), test).unwrap();
    fs::write(path("truth.csv"), "machine,left\nT-0,12\nT-1,12\nT-2,12\nT-3,12\n").unwrap();
    let retrain = |more: &[&str]| {
        let arguments = [&["retrain", "p.yaml", "--quiet", "--json"], more].concat();
        let (code, out, err) = foreline(folder.path(), &arguments);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        (code, report[0].clone())
    };
    // The first ones are judged and proposed; nothing is put anywhere.
    let (code, first) = retrain(&[]);
    assert_eq!(
        (code, &first["proposed"], &first["accepted"]),
        (Some(0), &json!(true), &json!(false))
    );
    assert_eq!(first["evaluations"][0]["current"], Value::Null);
    let rmse = first["evaluations"][0]["candidate"]["value"].as_f64().unwrap();
    assert!(rmse < 0.5, "{rmse}");
    assert!(
        path("pump.weights.candidate").exists() && path("pump.weights.candidate.json").exists()
    );
    assert!(!path("pump.weights").exists());
    let (code, accepted) = retrain(&["--accept"]);
    assert_eq!((code, &accepted["accepted"]), (Some(0), &json!(true)));
    let good = fs::read(path("pump.weights")).unwrap();
    assert_eq!(accepted["sha256"], foreline_plugins::digest(&good));
    // Worse ones are refused, also where they are to be accepted.
    let (code, worse) = retrain(&["--input", "readings=worse.csv", "--accept"]);
    assert_eq!(
        (code, &worse["proposed"], &worse["accepted"]),
        (Some(1), &json!(false), &json!(false))
    );
    let compared = &worse["evaluations"][0];
    assert_eq!(compared["current"]["value"].as_f64(), Some(rmse));
    assert!(compared["refused"].as_str().unwrap().contains("is above"), "{compared}");
    assert_eq!(fs::read(path("pump.weights")).unwrap(), good);
    // So much worse is let pass where that is said.
    let (code, _) = retrain(&[
        "--input",
        "readings=worse.csv",
        "--worse-by",
        "1e9",
        "--gate",
        "mae",
        "--accept",
    ]);
    assert_eq!(code, Some(0));
    assert_eq!(fs::read(path("pump.weights.previous")).unwrap(), good);
    assert_ne!(fs::read(path("pump.weights")).unwrap(), good);
    let (code, out, err) = foreline(folder.path(), &["retrain", "p.yaml", "--only", "nothing"]);
    assert!(code == Some(1) && err.contains("no 'training' 'nothing'"), "{out}{err}");

    swapped(folder.path());
}

/// The same file with rows pushed into it, running: it is given the weights, and they act when that is said.
fn swapped(folder: &Path) {
    let live = RETRAINED
        .replace("csv: { path: live.csv }", "http: {}")
        .replace("output: rul }", "output: rul, versions: {}, shadow: challenger }")
        + "serve: { listen: 127.0.0.1:0 }\nepoch: { interval: 10ms }\n";
    let weights = fs::read(folder.join("pump.weights")).unwrap();
    let running = Running::with(COMMAND, &live, &[("pump.weights", &weights)]);
    let url = format!("http://{}", running.address);
    let arguments = ["retrain", "p.yaml", "--quiet", "--swap", &url];
    let (code, out, err) = foreline(folder, &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("given to step 'rul'"), "{out}");
    let there = model(&running);
    assert_eq!(there["acts"], "champion", "it looks on until somebody says more");
    assert!(there["versions"]["challenger"].is_object());
    let arguments = [&arguments[..], &["--as", "v2", "--activate"]].concat();
    let (code, out, err) = foreline(folder, &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    let there = model(&running);
    assert_eq!((&there["acts"], &there["by"]), (&json!("v2"), &json!("foreline retrain")));
    let known: BTreeMap<String, Value> = serde_json::from_value(there["versions"].clone()).unwrap();
    assert_eq!(known.keys().collect::<Vec<_>>(), ["challenger", "champion", "v2"]);
    let (code, _, err) =
        foreline(folder, &["retrain", "p.yaml", "--quiet", "--swap", &url, "--as", "champion"]);
    assert!(code == Some(1) && err.contains("choose another name"), "{err}");
}
