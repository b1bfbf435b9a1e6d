//! What authors are told: good plugins pass, evil ones are named for what they do, and packed ones run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use foreline_plugins::author::{AuthorError, CheckReport, Subject, Verdict, bench, check, test};
use foreline_plugins::pack::{ModelFile, new_key, pack, sign};
use foreline_plugins::train::{ModelMeta, train};
use foreline_plugins::{builtin, digest};
use serde_json::{Value, json};

use crate::bench::{Folder, batch, schema};
use crate::evil::{component, core};
use crate::good::training_set;

/// A model, and the folder that its machine code is kept in.
fn subject(plugin: &[u8], weights: &[u8]) -> (Subject, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let subject = Subject {
        name: "it".to_owned(),
        plugin: plugin.to_vec(),
        weights: weights.to_vec(),
        config: BTreeMap::new(),
        cache_dir: cache.path().to_owned(),
    };
    (subject, cache)
}

fn checked(plugin: &[u8]) -> CheckReport {
    let (subject, _cache) = subject(plugin, &[]);
    check(&subject)
}

/// The only check that failed, with what was found.
fn failure(report: &CheckReport) -> (&'static str, String) {
    let failed: Vec<_> = report.findings.iter().filter(|f| f.verdict == Verdict::Fail).collect();
    assert_eq!(failed.len(), 1, "{:#?}", report.findings);
    (failed[0].check, failed[0].detail.clone())
}

fn linear() -> Vec<u8> {
    let meta = ModelMeta::remaining_life("pump", "h");
    train("linear", &Value::Null, &training_set(200, 4), &meta).unwrap().weights
}

#[test]
fn a_good_plugin_passes_every_check() {
    let weights = linear();
    let plugin = builtin("linear").unwrap();
    let (subject, _cache) = subject(plugin, &weights);
    let report = check(&subject);
    assert!(report.passed(), "{:#?}", report.findings);
    assert!(report.findings.iter().all(|f| f.verdict == Verdict::Pass), "{:#?}", report.findings);
    let model = report.model.unwrap();
    assert_eq!(model.features[0].unit.as_deref(), Some("Cel"));
    assert_eq!(
        (model.outputs[0].kind, model.outputs[0].unit.as_deref()),
        ("remaining_life", Some("h"))
    );
    assert_eq!(report.sha256, Some(digest(plugin)));
    assert!(report.fuel_per_row.unwrap() > 0);
}

#[test]
fn a_core_module_becomes_a_component_that_runs() {
    let module = core(&[]);
    let report = checked(&module);
    assert!(report.passed(), "{:#?}", report.findings);
    let made = report.component.unwrap();
    assert_eq!(report.sha256, Some(digest(&made)));
    let again = checked(&made);
    assert_eq!(again.component.unwrap(), made, "a component stays as it is");
    let note = again.findings.iter().find(|f| f.verdict == Verdict::Note).unwrap();
    assert_eq!(note.check, "a call of the wrong shape", "this one looks at no length");
}

#[test]
fn imports_are_all_named() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
        (import "env" "rand" (func (result i32))))"#;
    let (check, detail) = failure(&checked(&wat::parse_str(text).unwrap()));
    assert_eq!(check, "imports");
    assert!(detail.contains("wasi_snapshot_preview1.clock_time_get', 'env.rand"), "{detail}");
    let text = r#"(component
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64)))))
        (import "wasi:random/random@0.2.0" (instance)))"#;
    let report = checked(&wat::parse_str(text).unwrap());
    let imports = report.findings.iter().find(|f| f.check == "imports").unwrap();
    assert!(imports.detail.contains("monotonic-clock@0.2.0', 'wasi:random"), "{}", imports.detail);
}

#[test]
fn what_run_would_refuse_fails() {
    let state = r#"(data (i32.const 1060) "\ff\ff\ff\ff")"#;
    for (plugin, expected) in [
        (b"MZ".to_vec(), "form"),
        (vec![0; (32 << 20) + 1], "size"),
        (component(&[("INIT", "unreachable")]), "init"),
        (component(&[("LAST", state)]), "descriptor"),
        (component(&[("SCORE", "unreachable")]), "score"),
        (component(&[("MORE", "(memory i64 1)")]), "compile"),
    ] {
        let (check, detail) = failure(&checked(&plugin));
        assert_eq!(check, expected, "{detail}");
    }
}

/// Scores the number of calls so far instead.
fn remembering() -> Vec<u8> {
    component(&[
        ("MORE", "(global $n (mut f64) (f64.const 0))"),
        (
            "SCORE",
            "(global.set $n (f64.add (global.get $n) (f64.const 1))) (f64.store (local.get $f) (global.get $n))",
        ),
    ])
}

#[test]
fn a_plugin_that_remembers_fails_the_check() {
    let report = checked(&remembering());
    let failed: Vec<_> =
        report.findings.iter().filter(|f| f.verdict == Verdict::Fail).map(|f| f.check).collect();
    assert_eq!(failed[0], "same call twice");
}

/// A single row of `x`, and what is expected of it.
fn row(key: &str, x: &Value, expected: &Value) -> Value {
    json!({ "key": key, "features": { "x": x }, "expect": { "y": expected } })
}

fn tested(plugin: &[u8], rows: &Value) -> Vec<String> {
    let (subject, _cache) = subject(plugin, &[]);
    let file = json!({ "cases": [{ "name": "rows", "rows": rows }] });
    let report = test(&subject, Path::new(""), &file, false).unwrap();
    report.cases[0].failures.clone()
}

#[test]
fn cases_pass_or_say_what_differs() {
    let plugin = component(&[]);
    let good = json!([row("a", &json!(0.1), &json!(0.1)), row("b", &json!(null), &json!(null))]);
    assert_eq!(tested(&plugin, &good), [""; 0]);
    let bad = json!([row("a", &json!(0.1), &json!(0.2)), row("b", &json!(null), &json!(1.5))]);
    assert_eq!(
        tested(&plugin, &bad),
        ["row 1: 'y' is 0.1, and 0.2 was expected", "row 2: 'y' is no score, and 1.5 was expected"]
    );
    let poison = component(&[(
        "SCORE",
        "(if (f64.eq (f64.load (local.get $f)) (f64.const 99)) (then unreachable))",
    )]);
    let mut rows = json!([row("a", &json!(1), &json!(1)), row("b", &json!(99), &json!(99))]);
    assert_eq!(tested(&poison, &rows), ["row 2: refused with 'plugin_trap'"]);
    rows[1] = json!({ "key": "b", "features": { "x": 99 }, "error": "plugin_trap" });
    assert_eq!(tested(&poison, &rows), [""; 0]);
}

#[test]
fn cases_that_cannot_be_are_refused() {
    let (subject, _cache) = subject(&component(&[]), &[]);
    let case = |rows: Value| json!({ "cases": [{ "name": "a", "rows": rows }] });
    for (file, said) in [
        (json!({ "cases": [] }), "0 cases"),
        (case(json!([])), "either 'rows' or an 'error'"),
        (case(json!([{ "features": {} }])), "'x' is not there"),
        (case(json!([{ "features": { "x": 1, "z": 1 } }])), "no feature 'z'"),
        (case(json!([{ "features": { "x": "1" } }])), "not a number"),
        (case(json!([{ "features": { "x": 1 }, "expect": { "z": 1 } }])), "no output 'z'"),
        (case(json!([{ "features": { "x": 1 }, "expects": {} }])), "expects"),
    ] {
        match test(&subject, Path::new(""), &file, false) {
            Err(AuthorError::Cases(message)) => assert!(message.contains(said), "{message}"),
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn update_writes_what_comes_out() {
    let (subject, _cache) = subject(&component(&[]), &[]);
    let third = 1.0 / 3.0;
    let file = json!({ "cases": [{ "name": "a", "rows": [
        { "features": { "x": third } },
        { "features": { "x": "inf" }, "expect": { "y": 1 } },
        { "features": { "x": null }, "error": "plugin_trap" },
    ] }] });
    let updated = test(&subject, Path::new(""), &file, true).unwrap().updated.unwrap();
    let rows = &updated["cases"][0]["rows"];
    assert_eq!(rows[0]["expect"], json!({ "y": third }));
    assert_eq!(rows[1], json!({ "features": { "x": "inf" }, "error": "plugin_bad_output" }));
    assert_eq!(rows[2], json!({ "features": { "x": null }, "expect": { "y": null } }));
    assert!(test(&subject, Path::new(""), &updated, false).unwrap().passed());
}

/// The plugin of the table of evil plugins, and one that only some rows make remember: the trial of `run` does not
/// find that one.
#[test]
fn hidden_state_is_found() {
    let rows = json!([row("a", &json!(1), &json!(1)), row("b", &json!(2), &json!(2))]);
    let failures = tested(&remembering(), &rows);
    assert!(failures[0].contains("differently the second time"), "{failures:?}");
    let sly = component(&[
        ("MORE", "(global $n (mut f64) (f64.const 0))"),
        (
            "SCORE",
            "(if (f64.gt (f64.load (local.get $f)) (f64.const 50)) (then (global.set $n (f64.const 1))))
             (f64.store (local.get $f) (f64.add (f64.load (local.get $f)) (global.get $n)))",
        ),
    ]);
    let rows = json!([
        { "key": "a", "features": { "x": 1 } },
        { "key": "b", "features": { "x": 60 } },
        { "key": "c", "features": { "x": 2 } },
    ]);
    let failures = tested(&sly, &rows);
    assert!(failures[0].contains("remembers something that is not in its state"), "{failures:?}");
}

#[test]
fn costs_are_measured_beside_native() {
    let weights = linear();
    let (subject, _cache) = subject(builtin("linear").unwrap(), &weights);
    let report = bench(&subject).unwrap();
    let rows: Vec<usize> = report.batches.iter().map(|b| b.rows).collect();
    assert_eq!(rows, [256, 1024, 4096]);
    for batch in &report.batches {
        assert!(batch.rows_per_s > 1.0 && batch.fuel_per_row > 0);
        assert!(batch.native_rows_per_s.unwrap() > 1.0);
    }
    assert!(report.compile_ms > 0.0 && report.start_ms > 0.0 && report.start_fuel > 0);
    assert!(report.peak_memory_bytes >= 1 << 16 && report.machine_code_bytes > 0);
    assert!(bench(&self::subject(&component(&[("SCORE", "unreachable")]), &[]).0).is_err());
}

fn input() -> foreline_engine::Schema {
    schema(&[("f0", Some("degC")), ("f1", None), ("f2", None), ("f3", None)])
}

#[test]
fn a_packed_model_is_the_same_model() {
    let weights = linear();
    let packed = pack(builtin("linear").unwrap(), Some(&weights), "data: pumps\n").unwrap();
    let folder = Folder::new();
    folder.write("pump.weights", &weights);
    folder.write("pump.model.wasm", &packed);
    let rows = batch(&input(), &[("m", vec![Some(1.0), Some(2.0), Some(3.0), Some(4.0)])]);
    let mut apart =
        folder.step(&json!({ "plugin": "builtin:linear", "weights": "pump.weights" }), &input());
    let config = json!({ "plugin": "pump.model.wasm", "sha256": digest(&packed) });
    let mut together = folder.step(&config, &input());
    assert_eq!(
        together.feed(&rows).numbers("remaining_life"),
        apart.feed(&rows).numbers("remaining_life")
    );
    assert_eq!(
        together.planned.depends_on, apart.planned.depends_on,
        "packing makes no other model"
    );
    let both = json!({
        "plugin": "pump.model.wasm", "sha256": digest(&packed), "weights": "pump.weights"
    });
    let errors = folder.plan(&both, &input()).unwrap_err();
    assert!(errors[0].message.contains("weights of its own"), "{errors:?}");
}

#[test]
fn a_model_runs_only_when_all_have_signed_who_must() {
    let (release, other) = (new_key().unwrap(), new_key().unwrap());
    let packed = pack(builtin("linear").unwrap(), Some(&linear()), "card").unwrap();
    let signed = sign(&packed, "release", &release.private_pem).unwrap();
    let folder = Folder::new();
    std::fs::create_dir(folder.write("x", b"").with_file_name("keys")).unwrap();
    folder.write("keys/release.pem", release.public_pem.as_bytes());
    folder.write("keys/plant.pem", other.public_pem.as_bytes());
    folder.write("good.wasm", &signed);
    folder.write("unsigned.wasm", &packed);
    folder.write("foreign.wasm", &sign(&packed, "release", &other.private_pem).unwrap());
    let mut changed = signed.clone();
    changed[packed.len() - 1] ^= 1;
    folder.write("changed.wasm", &changed);
    folder.write("pump.weights", &linear());
    let config = |plugin: &str, by: &[&str]| json!({ "plugin": plugin, "signed_by": by });
    let rows = batch(&input(), &[("m", vec![Some(1.0); 4])]);
    let mut step = folder.step(&config("good.wasm", &["release"]), &input());
    assert_eq!(step.feed(&rows).numbers("remaining_life").len(), 1, "and no digest was asked for");
    let errors = |config: &Value| folder.plan(config, &input()).unwrap_err();
    for (plugin, by, at, said) in [
        ("unsigned.wasm", &["release"][..], "signed_by[0]", "not signed by 'release'"),
        ("foreign.wasm", &["release"], "signed_by[0]", "is wrong"),
        ("changed.wasm", &["release"], "signed_by[0]", "is wrong"),
        ("good.wasm", &["release", "plant"], "signed_by[1]", "not signed by 'plant'"),
        ("good.wasm", &["nobody"], "signed_by[0]", "no public key of 'nobody'"),
        ("good.wasm", &["../release"], "signed_by[0]", "not a signer's name"),
        ("builtin:linear", &["release"], "signed_by[0]", "not signed by"),
    ] {
        let errors = errors(&config(plugin, by));
        assert_eq!(errors[0].at, at, "{errors:?}");
        assert!(errors[0].message.contains(said), "{errors:?}");
    }
    let beside = json!({
        "plugin": "good.wasm", "signed_by": ["release"], "weights": "pump.weights"
    });
    assert!(errors(&beside)[0].message.contains("not signed"));
    let file = ModelFile::take_apart(signed).unwrap();
    assert_eq!(file.component(), builtin("linear").unwrap());
}

/// The example in C, built as its manual says.
#[test]
fn the_example_in_c_passes() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/ema-c");
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).current_dir(folder.path()).status()
    };
    let c = source.join("ema.c");
    let compiled = run(
        "clang",
        &[
            "--target=wasm32",
            "-O3",
            "-msimd128",
            "-ffreestanding",
            "-Wall",
            "-Werror",
            "-c",
            &c.to_string_lossy(),
        ],
    );
    let linked = run("wasm-ld", &["--no-entry", "ema.o", "-o", "core.wasm"]);
    let (Ok(compiled), Ok(linked)) = (compiled, linked) else {
        eprintln!("SKIPPED: there is no clang or wasm-ld; apt install clang lld");
        return;
    };
    assert!(compiled.success() && linked.success());
    let module = std::fs::read(folder.path().join("core.wasm")).unwrap();
    let (subject, _cache) = subject(&module, &[]);
    let report = check(&subject);
    assert!(report.findings.iter().all(|f| f.verdict == Verdict::Pass), "{:#?}", report.findings);
    assert_eq!(report.model.unwrap().state_width, 1);
    let cases: PathBuf = source.join("cases.yaml");
    let file = cases_as_json(&std::fs::read_to_string(cases).unwrap());
    let tested = test(&subject, &source, &file, false).unwrap();
    assert!(tested.passed(), "{:#?}", tested.cases);
    assert!(tested.cases.len() >= 5);
}

/// A file of cases in the form that `--update` writes: a line a key or a row, each of them JSON. This crate has no YAML.
fn cases_as_json(text: &str) -> Value {
    let mut cases: Vec<Value> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && *l != "cases:") {
        if let Some(row) = line.strip_prefix("  - ") {
            let rows = cases.last_mut().unwrap()["rows"].as_array_mut().unwrap();
            rows.push(serde_json::from_str(row).unwrap());
            continue;
        }
        if line.starts_with("- ") {
            cases.push(json!({}));
        }
        let (key, value) = line[2..].split_once(':').unwrap();
        let value = if key == "rows" { json!([]) } else { serde_json::from_str(value).unwrap() };
        cases.last_mut().unwrap()[key] = value;
    }
    json!({ "cases": cases })
}
