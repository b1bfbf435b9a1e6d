//! The real command, working for authors of models: exit codes, what is printed, and what is written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::fs;
use std::path::Path;
use std::process::Command;

use foreline_plugins::digest;
use foreline_plugins::train::{ModelMeta, TrainingSet, train};
use serde_json::{Value, json};

/// A core module without its world: it echoes its one feature `x` as `y`.
fn echo(marks: &[(&str, &str)]) -> Vec<u8> {
    let mut text = include_str!("../../../plugins/tests/all/evil.wat").to_owned();
    for (mark, filling) in marks {
        text = text.replace(&format!("(;{mark};)"), filling);
    }
    wat::parse_str(&text).unwrap()
}

/// Runs the command; its exit code, and what it printed.
fn foreline(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a command prints that must succeed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = foreline(folder, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

/// A folder with `core.wasm` and the component that the command makes of it, `echo.wasm`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("core.wasm"), echo(&[])).unwrap();
    done(folder.path(), &["model", "check", "core.wasm", "-o", "echo.wasm"]);
    folder
}

#[test]
fn a_plugin_is_checked_and_wrapped() {
    let folder = folder();
    let out = done(folder.path(), &["model", "check", "echo.wasm"]);
    let component = fs::read(folder.path().join("echo.wasm")).unwrap();
    assert!(out.contains(&format!("sha256: \"{}\"", digest(&component))), "{out}");
    assert!(out.lines().any(|l| l.starts_with("pass  two engines")), "{out}");
    assert!(out.contains("feature x, pass_nan") || out.contains("feature x, skip_row"), "{out}");
    let out = done(folder.path(), &["model", "check", "core.wasm", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sha256"], digest(&component));
    assert_eq!(report["model"]["outputs"][0]["kind"], "value");
    assert!(report["findings"].as_array().unwrap().iter().all(|f| f["verdict"] != "fail"));
}

#[test]
fn what_cannot_be_is_said_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let wasi = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#;
    write("wasi.wasm", &wat::parse_str(wasi).unwrap());
    write("text.wasm", b"hello");
    let (code, out, _) =
        foreline(folder.path(), &["model", "check", "wasi.wasm", "-o", "out.wasm"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("FAIL  imports  it imports 'wasi_snapshot_preview1.fd_write'"), "{out}");
    assert!(!folder.path().join("out.wasm").exists());
    let (code, out, _) = foreline(folder.path(), &["model", "check", "text.wasm"]);
    assert!(code == Some(1) && out.contains("FAIL  form"), "{out}");
    let (code, _, err) = foreline(folder.path(), &["model", "check", "nothing.wasm"]);
    assert!(code == Some(78) && err.contains("nothing.wasm"), "{err}");
    let (code, _, err) = foreline(folder.path(), &["model", "check", "builtin:fores"]);
    assert!(code == Some(78) && err.contains("builtin:fores"), "{err}");
    let (code, out, _) = foreline(folder.path(), &["model", "check", "builtin:linear"]);
    assert!(code == Some(1) && out.contains("FAIL  init"), "{out}");
    assert!(out.contains("given none: --weights"), "{out}");
    let (code, _, _) = foreline(folder.path(), &["model", "check", "x", "--config", "y"]);
    assert_eq!(code, Some(2));
}

const CASES: &str = "# why these
cases:
- name: echo   # gone after an update
  rows:
  - { key: a, features: { x: 0.1 }, expect: { y: 0.1 } }
  - { key: b, features: { x: inf }, error: plugin_bad_output }
";

#[test]
fn cases_are_compared_and_updated() {
    let folder = folder();
    let path = folder.path().join("cases.yaml");
    let test = ["model", "test", "echo.wasm", "--cases", "cases.yaml"];
    fs::write(&path, CASES).unwrap();
    let out = done(folder.path(), &test);
    assert!(out.starts_with("pass  echo: 2 rows in "), "{out}");
    fs::write(&path, CASES.replace("y: 0.1", "y: 0.2")).unwrap();
    let (code, out, _) = foreline(folder.path(), &test);
    assert_eq!(code, Some(1));
    assert!(out.contains("row 1: 'y' is 0.1, and 0.2 was expected"), "{out}");
    done(folder.path(), &[&test[..], &["--update"]].concat());
    let updated = fs::read_to_string(&path).unwrap();
    assert!(updated.starts_with("# why these\ncases:\n- name: \"echo\"\n"), "{updated}");
    assert!(updated.contains(r#""expect":{"y":0.1}}"#), "{updated}");
    done(folder.path(), &test);
    done(folder.path(), &[&test[..], &["--update"]].concat());
    assert_eq!(fs::read_to_string(&path).unwrap(), updated, "nothing to update");
    fs::write(&path, CASES.replace("rows:", "row:")).unwrap();
    let (code, _, err) = foreline(folder.path(), &test);
    assert!(code == Some(78) && err.contains("row"), "{err}");
    fs::write(&path, "cases: [").unwrap();
    let (code, _, err) = foreline(folder.path(), &test);
    assert!(code == Some(78) && err.contains("line "), "{err}");
}

#[test]
fn hidden_state_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let score = "(if (f64.gt (f64.load (local.get $f)) (f64.const 50)) (then (global.set $n (f64.const 1))))
         (f64.store (local.get $f) (f64.add (f64.load (local.get $f)) (global.get $n)))";
    let marks = [("MORE", "(global $n (mut f64) (f64.const 0))"), ("SCORE", score)];
    fs::write(folder.path().join("sly.wasm"), echo(&marks)).unwrap();
    let row = |key: &str, x: u32| json!({ "key": key, "features": { "x": x } });
    let cases =
        json!({ "cases": [{ "name": "a", "rows": [row("a", 1), row("b", 60), row("c", 2)] }] });
    fs::write(folder.path().join("cases.json"), cases.to_string()).unwrap();
    let arguments = ["model", "test", "sly.wasm", "--cases", "cases.json", "--update"];
    let (code, out, _) = foreline(folder.path(), &arguments);
    assert_eq!(code, Some(1));
    assert!(out.contains("remembers something that is not in its state"), "{out}");
    let after = fs::read_to_string(folder.path().join("cases.json")).unwrap();
    assert_eq!(after, cases.to_string(), "what cannot be relied on is not written down");
}

#[test]
fn costs_stand_beside_native() {
    let folder = tempfile::tempdir().unwrap();
    let x: Vec<f64> = (0..200).map(|i| f64::from(i * 7919 % 101)).collect();
    let set = TrainingSet {
        feature_names: vec!["a".to_owned(), "b".to_owned()],
        units: vec![None, None],
        rows: 100,
        y: x.chunks(2).map(|r| r[0] - 2.0 * r[1]).collect(),
        x,
        ..TrainingSet::default()
    };
    let meta = ModelMeta::remaining_life("pump", "h");
    let weights = train("linear", &Value::Null, &set, &meta).unwrap().weights;
    fs::write(folder.path().join("w"), weights).unwrap();
    let bench = ["model", "bench", "builtin:linear", "--weights", "w"];
    let report = done(folder.path(), &[&bench[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    for (batch, rows) in report["batches"].as_array().unwrap().iter().zip([256, 1024, 4096]) {
        assert_eq!(batch["rows"], rows);
        assert!(batch["native_rows_per_s"].as_f64().unwrap() > 0.0);
    }
    assert!(done(folder.path(), &bench).contains("native rows/s"));
}

#[test]
fn a_new_plugin_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), &["model", "new", "pump-drift", "--dir", "models"]);
    let plugin = folder.path().join("models/pump-drift");
    for file in
        ["Cargo.toml", "README.md", "cases.yaml", "card.yaml", "src/lib.rs", "sdk/src/own.rs"]
    {
        assert!(plugin.join(file).is_file(), "{file}");
    }
    let (code, _, err) =
        foreline(folder.path(), &["model", "new", "pump-drift", "--dir", "models"]);
    assert!(code == Some(1) && err.contains("is there already"), "{err}");
    let (code, _, err) = foreline(folder.path(), &["model", "new", "../up"]);
    assert!(code == Some(1) && err.contains("cannot be a plugin's name"), "{err}");
}

const CARD: &str =
    "data: pumps of 2025\nfeatures: x\nmetrics: { rmse: 1.5 }\ndate: 2026-01-01\ncommit: abc\n";

fn pipeline(folder: &Path, model: &str) {
    let text = format!(
        "version: 1
name: p
sources:
  readings:
    csv: {{ path: in.csv }}
    columns: {{ t: timestamp, machine: string, x: float64 }}
    key: [machine]
    time: t
steps:
  scored: {{ from: readings, model: {{ {model} }} }}
sinks: {{ lake: {{ from: scored, parquet: {{ path: lake, if_exists: replace }} }} }}
"
    );
    fs::write(folder.join("p.yaml"), text).unwrap();
}

#[test]
fn a_packed_and_signed_model_runs() {
    let folder = folder();
    let at = folder.path();
    let csv = "t,machine,x\n2026-03-01T00:00:00Z,P-1,1.5\n";
    fs::write(at.join("in.csv"), csv).unwrap();
    fs::write(at.join("card.yaml"), CARD.replace("commit", "comment")).unwrap();
    let pack = ["model", "pack", "echo.wasm", "--card", "card.yaml", "-o", "m.wasm"];
    let (code, _, err) = foreline(at, &pack);
    assert!(code == Some(78) && err.contains("does not say 'commit'"), "{err}");
    fs::write(at.join("card.yaml"), CARD).unwrap();
    done(at, &pack);
    let packed = fs::read(at.join("m.wasm")).unwrap();
    done(at, &pack);
    assert_eq!(fs::read(at.join("m.wasm")).unwrap(), packed, "the same parts, the same bytes");
    let (code, _, err) =
        foreline(at, &["model", "pack", "m.wasm", "--card", "card.yaml", "-o", "n.wasm"]);
    assert!(code == Some(78) && err.contains("packed already"), "{err}");
    let shown = done(at, &["model", "show", "m.wasm", "--extract", "parts"]);
    assert!(shown.ends_with(CARD) && shown.contains("signed    by nobody"), "{shown}");
    assert_eq!(
        fs::read(at.join("parts/plugin.wasm")).unwrap(),
        fs::read(at.join("echo.wasm")).unwrap()
    );
    assert_eq!(fs::read_to_string(at.join("parts/card.yaml")).unwrap(), CARD);

    pipeline(at, &format!("plugin: m.wasm, sha256: \"{}\"", digest(&packed)));
    done(at, &["run", "p.yaml", "--quiet"]);
    pipeline(at, "plugin: m.wasm, signed_by: [release]");
    let (code, _, err) = foreline(at, &["check", "p.yaml"]);
    assert!(code == Some(78) && err.contains("no public key of 'release'"), "{err}");
    done(at, &["model", "key", "release", "--dir", "keys"]);
    let (code, _, err) = foreline(at, &["model", "key", "release", "--dir", "keys"]);
    assert!(code == Some(1) && err.contains("must not be there yet"), "{err}");
    for command in [&["check", "p.yaml"][..], &["run", "p.yaml", "--quiet"]] {
        let (code, _, err) = foreline(at, command);
        assert!(code == Some(78) && err.contains("not signed by 'release'"), "{err}");
    }
    let sign = ["model", "sign", "m.wasm", "--name", "release", "--key", "keys/release.key"];
    done(at, &sign);
    done(at, &["check", "p.yaml"]);
    done(at, &["run", "p.yaml", "--quiet"]);
    let shown: Value =
        serde_json::from_str(&done(at, &["model", "show", "m.wasm", "--json"])).unwrap();
    assert_eq!(shown["signatures"], json!(["release"]));
    assert_eq!(shown["card"]["metrics"]["rmse"], 1.5);

    let mut changed = fs::read(at.join("m.wasm")).unwrap();
    let card = packed.len() - 3;
    changed[card] ^= 1;
    fs::write(at.join("m.wasm"), &changed).unwrap();
    for command in [&["check", "p.yaml"][..], &["run", "p.yaml", "--quiet"]] {
        let (code, _, err) = foreline(at, command);
        assert!(code == Some(78) && err.contains("the signature by 'release' is wrong"), "{err}");
    }
    let (code, _, err) = foreline(
        at,
        &["model", "sign", "m.wasm", "--name", "release", "--key", "keys/release.pem"],
    );
    assert!(code == Some(78) && err.contains("the key cannot be read"), "{err}");
}

#[test]
fn a_model_of_another_library_becomes_weights() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/tests/all/imports");
    for (from, name) in [("xgboost", "xgboost_three.json"), ("lightgbm", "lightgbm_three.txt")] {
        let file = models.join(name);
        let file = file.to_str().unwrap();
        let import = ["model", "import", file, "--from", from, "-o", "w", "--output", "state"];
        let labels = ["--labels", "normal,unbalance,looseness"];
        done(folder.path(), &[&import[..], &labels].concat());
        let said = done(folder.path(), &["model", "check", "builtin:boosted", "--weights", "w"]);
        for word in ["state", "p_normal", "p_unbalance", "p_looseness"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        let (code, _, err) = foreline(folder.path(), &[&import[..], &["--labels", "a,b"]].concat());
        assert_eq!(code, Some(78), "{err}");
        assert!(err.contains("the model has 3 classes, not 2"), "{err}");
        let other = if from == "xgboost" { "lightgbm" } else { "xgboost" };
        let (code, _, err) =
            foreline(folder.path(), &["model", "import", file, "--from", other, "-o", "v"]);
        assert_eq!(code, Some(78), "{err}");
        assert!(err.contains("this is not a model in the format"), "{err}");
        assert!(!folder.path().join("v").exists());
    }
}
