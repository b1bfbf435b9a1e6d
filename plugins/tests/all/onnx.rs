//! Networks that PyTorch exported, against onnxruntime; what is refused, by the importer and by the plugin.
//!
//! The plugin is too large for the repository: `cargo xtask plugins onnx` builds it, and `cargo xtask test` does that first.
//! Compiling it takes half a minute, so that one test does everything that needs it, with a cache that outlives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreline_plugins::author::{Subject, Verdict, bench, check, test};
use foreline_plugins::import::{Columns, ImportError, NetworkMeta, Scaling, import_network};
use foreline_plugins::train::ModelMeta;
use foreline_sdk::network::{Activation, FORMAT, Layout, Pad, Payload, onnx, state_width};
use foreline_sdk::own;
use foreline_sdk::weights::{self, Family, Missing, OutputKind};
use serde_json::{Value, json};

const MLP: &[u8] = include_bytes!("networks/mlp.onnx");
const LSTM: &[u8] = include_bytes!("networks/lstm.onnx");
const CNN: &[u8] = include_bytes!("networks/cnn.onnx");
const UNSUPPORTED: &[u8] = include_bytes!("networks/unsupported.onnx");
const HALF: &[u8] = include_bytes!("networks/half.onnx");

/// Features of a row of the sequences.
const WIDTH: usize = 6;
/// How far a score may be off from onnxruntime's, of the score where it is above 1.
const TOLERANCE: f64 = 1e-5;

fn meta(n_features: usize, outputs: &[&str]) -> NetworkMeta {
    let mut model = ModelMeta::remaining_life("pump", "h");
    model.output.kind = OutputKind::Value;
    NetworkMeta {
        model,
        features: (0..n_features).map(|i| (format!("f{i}"), None)).collect(),
        outputs: outputs.iter().map(|&o| o.to_owned()).collect(),
        window: None,
        layout: None,
        pad: Pad::None,
        activation: Activation::Identity,
        scaling: Scaling::default(),
    }
}

fn network(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/networks");
    std::fs::read(folder.join(format!("{name}.onnx"))).unwrap()
}

/// What onnxruntime says, made by `networks/make.py`.
fn reference() -> Value {
    serde_json::from_str(include_str!("networks/onnxruntime.json")).unwrap()
}

/// The plugin, where it was built.
fn plugin() -> Option<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("prebuilt/onnx.wasm")).ok()
}

fn subject(plugin: &[u8], weights: Vec<u8>) -> Subject {
    Subject {
        name: "onnx".to_owned(),
        plugin: plugin.to_vec(),
        weights,
        config: BTreeMap::new(),
        cache_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("onnx-cache"),
    }
}

fn row(key: Option<&str>, features: &Value, outputs: &[&str], expected: &Value) -> Value {
    let features = features.as_array().unwrap().iter().enumerate();
    let features: BTreeMap<_, _> = features.map(|(i, v)| (format!("f{i}"), v.clone())).collect();
    let expect = outputs.iter().enumerate();
    let expect: BTreeMap<_, _> = expect.map(|(i, o)| (*o, expected[i].clone())).collect();
    json!({ "key": key, "features": features, "expect": expect })
}

/// Scores rows in eleven ways that must agree to the bit, and once with onnxruntime.
fn holds(plugin: &[u8], name: &str, meta: &NetworkMeta, rows: &[Value]) {
    let weights = import_network(&network(name), meta).unwrap();
    let file = json!({ "tolerance": TOLERANCE, "cases": [{ "name": name, "rows": rows }] });
    let report = test(&subject(plugin, weights), Path::new(""), &file, false)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(report.cases[0].failures, [""; 0], "{name}, {:?}", meta.pad);
    assert!(report.cases[0].variations > 10);
}

fn rows_as_onnxruntime_scores_them(plugin: &[u8], reference: &Value) {
    for name in ["mlp", "mlp_dynamo", "mlp_fixed"] {
        let rows = reference["mlp_rows"].as_array().unwrap().iter();
        let scores = reference[name].as_array().unwrap();
        let rows = rows.zip(scores).map(|(x, y)| row(None, x, &["y"], y));
        holds(plugin, name, &meta(24, &["y"]), &rows.collect::<Vec<_>>());
    }
}

/// Two machines, their rows by turns.
fn windows_as_onnxruntime_scores_them(plugin: &[u8], reference: &Value) {
    let series = reference["series"].as_array().unwrap();
    for name in ["cnn", "cnn_dynamo", "lstm", "lstm_dynamo", "gru"] {
        let outputs: &[&str] = if name == "gru" { &["a", "b", "c"] } else { &["y"] };
        for (pad, word) in [(Pad::None, "none"), (Pad::First, "first"), (Pad::Zero, "zero")] {
            let scores = reference[name][word].as_array().unwrap();
            let length = series[0].as_array().unwrap().len();
            let by_turns = (0..length).flat_map(|at| [(0, at), (1, at)]);
            let rows = by_turns.map(|(machine, at)| {
                let expected = &scores[machine * length + at];
                let none = json!([null, null, null]);
                let expected = if expected.is_null() { &none } else { expected };
                row(Some(&format!("m{machine}")), &series[machine][at], outputs, expected)
            });
            let rows: Vec<_> = rows.collect();
            holds(plugin, name, &NetworkMeta { pad, ..meta(WIDTH, outputs) }, &rows);
        }
    }
}

/// Weights that the importer would not write.
fn forced(onnx: &[u8], n_features: usize) -> Vec<u8> {
    let features = (0..n_features).map(|i| own::feature(&format!("f{i}"), "", Missing::SkipRow));
    let outputs = vec![own::output("y", OutputKind::Value)];
    let mut header = own::header("n", "1.0.0", features.collect(), outputs);
    header.format = FORMAT;
    let payload = Payload {
        onnx: onnx.to_vec(),
        layout: Layout::Row,
        window: 1,
        pad: Pad::None,
        input: vec![],
        output: vec![],
        activation: Activation::Identity,
    };
    weights::write(Family::Network, &header, &payload).unwrap()
}

fn the_plugin_refuses_by_name(plugin: &[u8]) {
    for (weights, named) in [
        (forced(UNSUPPORTED, 4), "operator 'Det'"),
        (forced(HALF, 4), "float16"),
        (forced(&network("mlp_int8"), 24), "operator 'DynamicQuantizeLinear'"),
        (forced(&MLP[..MLP.len() / 2], 24), "cut off"),
        (forced(b"nonsense", 24), "ONNX file"),
        (forced(MLP, 23), "cannot be run"),
    ] {
        let report = check(&subject(plugin, weights));
        let failed = report.findings.iter().find(|f| f.verdict == Verdict::Fail).unwrap();
        assert_eq!(failed.check, "init", "{}", failed.detail);
        assert!(failed.detail.contains("invalid weights"), "{}", failed.detail);
        assert!(failed.detail.contains(named), "{}", failed.detail);
    }
}

fn the_plugin_keeps_the_contract(plugin: &[u8]) {
    for (name, n_features) in [("mlp", 24), ("cnn", WIDTH), ("lstm", WIDTH)] {
        let weights = import_network(
            &network(name),
            &NetworkMeta { pad: Pad::First, ..meta(n_features, &["y"]) },
        );
        let subject = subject(plugin, weights.unwrap());
        if name == "lstm" {
            let report = check(&subject);
            assert!(report.passed(), "{:#?}", report.findings);
        }
        let report = bench(&subject).unwrap();
        assert!(report.batches.iter().all(|b| b.rows_per_s > 0.0), "{name}: {report:#?}");
    }
}

#[test]
fn the_plugin_scores_as_onnxruntime() {
    let Some(plugin) = plugin() else {
        eprintln!("SKIPPED: the plugin 'onnx' is not built; `cargo xtask plugins onnx`");
        return;
    };
    let reference = reference();
    rows_as_onnxruntime_scores_them(&plugin, &reference);
    windows_as_onnxruntime_scores_them(&plugin, &reference);
    the_plugin_refuses_by_name(&plugin);
    the_plugin_keeps_the_contract(&plugin);
}

#[test]
fn a_file_says_what_its_network_takes() {
    let summary = onnx::read(LSTM).unwrap();
    assert!(summary.producer.starts_with("pytorch 2."), "{}", summary.producer);
    assert_eq!(summary.inputs[0].shape, [None, Some(30), Some(6)]);
    assert_eq!((summary.inputs[0].name.as_str(), summary.inputs[0].elem), ("x", onnx::FLOAT));
    assert!(summary.operators.contains("LSTM"));
    for cut in 0..LSTM.len() {
        // No panic, whatever is cut off.
        let _ = onnx::read(&LSTM[..cut]);
    }
}

#[test]
fn the_importer_finds_window_and_state() {
    let bytes = import_network(CNN, &meta(WIDTH, &["y"])).unwrap();
    let read = weights::read(&bytes).unwrap();
    assert_eq!(read.family, Family::Network);
    assert_eq!((read.header.state_width, read.header.state_version), (29 * 6, 1));
    let payload: Payload = read.payload().unwrap();
    assert_eq!((payload.layout, payload.window), (Layout::FeatureFirst, 30));
    assert_eq!(payload.onnx, CNN);
    let bytes = import_network(MLP, &meta(24, &["y"])).unwrap();
    assert_eq!(weights::read(&bytes).unwrap().header.state_width, 0);
}

#[test]
fn the_importer_names_what_it_refuses() {
    let with = |change: &dyn Fn(&mut NetworkMeta)| {
        let mut meta = meta(WIDTH, &["y"]);
        change(&mut meta);
        import_network(LSTM, &meta).unwrap_err().to_string()
    };
    let columns = |n: usize| Some(Columns { mean: vec![0.0; n], scale: vec![1.0; n] });
    for (said, named) in [
        (import_network(UNSUPPORTED, &meta(4, &["y"])).unwrap_err().to_string(), "operator 'Det'"),
        (import_network(HALF, &meta(4, &["y"])).unwrap_err().to_string(), "float16"),
        (import_network(b"nonsense", &meta(4, &["y"])).unwrap_err().to_string(), "ONNX"),
        (with(&|m| m.features.truncate(5)), "[?, 30, 6], which 5 features"),
        (with(&|m| m.window = Some(31)), "window do not fit"),
        (with(&|m| m.layout = Some(Layout::FeatureFirst)), "do not fit"),
        (with(&|m| m.outputs = vec!["a".into(), "b".into()]), "answers 1 numbers, and 2"),
        (with(&|m| m.outputs = vec![]), "at least one feature and one output"),
        (with(&|m| m.features[1].0 = "f0".into()), "'f0' is there twice"),
        (with(&|m| m.scaling.input = columns(5)), "5 scales of features for 6"),
    ] {
        assert!(said.contains(named), "{said}");
    }
    assert!(matches!(import_network(UNSUPPORTED, &meta(4, &["y"])), Err(ImportError::Refused(_))));
    assert!(state_width(100_000, 24).unwrap_err().contains("65536"));
}
