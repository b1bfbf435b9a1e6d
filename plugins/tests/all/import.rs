//! Models of other libraries: their raw scores bit for bit, and what is refused.

use foreline_plugins::import::{Format, ImportError, import};
use foreline_plugins::train::ModelMeta;
use foreline_sdk::ensemble::Ensemble;
use foreline_sdk::trees::{Forest, Link, Payload};
use foreline_sdk::weights::{self, Missing, OutputKind};
use serde_json::Value;

/// A model and its scores, both made by `imports/make.py`.
const CASES: [(Format, &str, &str); 6] = [
    (
        Format::XgboostJson,
        include_str!("imports/xgboost_number.json"),
        include_str!("imports/xgboost_number.scores.json"),
    ),
    (
        Format::XgboostJson,
        include_str!("imports/xgboost_two.json"),
        include_str!("imports/xgboost_two.scores.json"),
    ),
    (
        Format::XgboostJson,
        include_str!("imports/xgboost_three.json"),
        include_str!("imports/xgboost_three.scores.json"),
    ),
    (
        Format::LightgbmText,
        include_str!("imports/lightgbm_number.txt"),
        include_str!("imports/lightgbm_number.scores.json"),
    ),
    (
        Format::LightgbmText,
        include_str!("imports/lightgbm_two.txt"),
        include_str!("imports/lightgbm_two.scores.json"),
    ),
    (
        Format::LightgbmText,
        include_str!("imports/lightgbm_three.txt"),
        include_str!("imports/lightgbm_three.scores.json"),
    ),
];

fn meta() -> ModelMeta {
    let mut meta = ModelMeta::remaining_life("pump", "h");
    meta.output.name = "state".to_owned();
    meta
}

/// A number as Python's `float.hex` writes it: `-0x1.8p+3`.
fn hex(text: &str) -> f64 {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mantissa, exponent) = text.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = i64::from_str_radix(&format!("{whole}{fraction}"), 16).unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let shift = exponent - 4 * i32::try_from(fraction.len()).unwrap();
    sign * digits as f64 * 2.0_f64.powi(shift)
}

#[test]
fn raw_scores_have_the_bits_of_the_library() {
    for (case, (format, model, scores)) in CASES.into_iter().enumerate() {
        let scores: Value = serde_json::from_str(scores).unwrap();
        let x: Vec<f64> = scores["x"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .map(|v| v.as_f64().unwrap_or(f64::NAN))
            .collect();
        let rows = x.len() / 3;
        assert!(x.iter().any(|x| x.is_nan()));
        let raw: Vec<f64> =
            scores["raw"].as_array().unwrap().iter().map(|v| hex(v.as_str().unwrap())).collect();
        let width = raw.len() / rows;
        let bytes = import(format, model.as_bytes(), &meta()).unwrap();
        let read = weights::read(&bytes).unwrap();
        let payload: Payload = read.payload().unwrap();
        let sums = Payload { link: Link::Identity, ..payload.clone() };
        let n_sums = sums.outputs as usize;
        let mut out = vec![0.0; rows * n_sums];
        Forest::new(sums, 3).unwrap().score(&x, &mut out);
        // The one sum of two classes belongs to the second.
        let ours = out.chunks_exact(n_sums).flat_map(|row| &row[n_sums - width..]);
        let differ = ours.zip(&raw).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(differ, 0, "case {case}");
        // Links are ours: near, not equal.
        let model = Ensemble::new(payload, &read.header).unwrap();
        let n_outputs = read.header.outputs.len();
        let mut out = vec![0.0; rows * n_outputs];
        model.score(&x, &mut out);
        let expected = scores["out"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
        let ours = out.chunks_exact(n_outputs).flat_map(|row| &row[n_outputs - width..]);
        for (found, expected) in ours.zip(expected) {
            assert!((found - expected).abs() < 1e-6, "case {case}: {found}, not {expected}");
        }
    }
}

/// The library's own contributions, of the class that is answered; of two classes they are to the second's odds.
#[test]
fn contributions_are_those_of_the_library() {
    for (case, (format, model, scores)) in CASES.into_iter().enumerate() {
        let scores: Value = serde_json::from_str(scores).unwrap();
        let list = |name: &str| -> Vec<f64> {
            let flat = |v: &Value| match v {
                Value::Array(row) => row.clone(),
                one => vec![one.clone()],
            };
            let values = scores[name].as_array().unwrap().iter().flat_map(flat);
            values.map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
        };
        let (x, expected) = (list("x"), list("contributions"));
        let rows = x.len() / 3;
        // Three features and the base, an output.
        let n_sums = expected.len() / rows / 4;
        let bytes = import(format, model.as_bytes(), &meta()).unwrap();
        let read = weights::read(&bytes).unwrap();
        let model = Ensemble::new(read.payload().unwrap(), &read.header).unwrap();
        let model = model.explained().unwrap();
        let n_scores = read.header.outputs.len();
        let mut out = vec![0.0; rows * (n_scores + 4)];
        model.score(&x, &mut out);
        for (row, out) in out.chunks_exact(n_scores + 4).enumerate() {
            let (class, sign) = match (n_scores, n_sums) {
                (1, _) => (0, 1.0),
                (_, 1) => (0, 2.0 * out[0] - 1.0),
                _ => (out[0] as usize, 1.0),
            };
            let theirs = &expected[(row * n_sums + class) * 4..][..4];
            let ours = [out[n_scores + 1], out[n_scores + 2], out[n_scores + 3], out[n_scores]];
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                // XGBoost counts in 32 bits.
                let near = 1e-6 * theirs.abs().max(1.0);
                let off = ours - sign * theirs;
                assert!(off.abs() < near, "case {case}, row {row}: {ours}, not {theirs}");
            }
        }
    }
}

#[test]
fn what_a_model_says_of_itself_is_kept() {
    let (format, model, _) = CASES[5];
    let mut meta = meta();
    meta.output.labels = ["good", "worn", "bad"].map(str::to_owned).to_vec();
    let bytes = import(format, model.as_bytes(), &meta).unwrap();
    let header = weights::read(&bytes).unwrap().header;
    assert_eq!(header.features[0].name, "a");
    assert!(header.features.iter().all(|f| f.missing == Missing::PassNan));
    assert!(header.features[0].trained_range.unwrap().0 < 0.0);
    let names: Vec<&str> = header.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["state", "p_good", "p_worn", "p_bad"]);
    assert_eq!(header.outputs[0].kind, OutputKind::ClassIndex);
    meta.output.labels.pop();
    let refused = import(format, model.as_bytes(), &meta);
    assert!(matches!(refused, Err(ImportError::Broken(_))));
}

#[test]
fn what_was_not_checked_is_refused_by_name() {
    for (case, from, to, named) in [
        (0, "reg:squarederror", "count:poisson", "count:poisson"),
        (0, "\"gbtree\"", "\"dart\"", "dart"),
        (0, "\"split_type\":[0", "\"split_type\":[1", "categorical"),
        (0, "\"size_leaf_vector\":\"1\"", "\"size_leaf_vector\":\"3\"", "vectors"),
        (3, "objective=regression", "objective=poisson", "poisson"),
        (3, "objective=regression", "objective=regression sqrt", "sqrt"),
        (3, "version=v4", "version=v9", "v9"),
        (3, "num_cat=0", "num_cat=1", "categorical"),
        (3, "is_linear=0", "is_linear=1", "linear leaves"),
        (4, "sigmoid:1", "sigmoid:2", "sigmoid:2"),
    ] {
        let (format, model, _) = CASES[case];
        assert!(model.contains(from), "{from}");
        match import(format, model.replacen(from, to, 1).as_bytes(), &meta()) {
            Err(ImportError::Refused(what)) => assert!(what.contains(named), "{what}"),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn damaged_files_are_errors() {
    for (format, model, _) in CASES {
        for cut in (0..model.len()).step_by(97) {
            // A text that ends behind its trees is whole.
            if format == Format::LightgbmText && model[..cut].contains("end of trees") {
                continue;
            }
            assert!(import(format, &model.as_bytes()[..cut], &meta()).is_err(), "{cut}");
        }
    }
    for (case, from, to) in [
        (0, "\"left_children\":[1", "\"left_children\":[0"),
        (0, "\"left_children\":[1", "\"left_children\":[9999"),
        (0, "\"split_indices\":[", "\"split_indices\":[77,"),
        (0, "\"num_feature\":\"3\",\"num_target", "\"num_feature\":\"2\",\"num_target"),
        (3, "left_child=", "left_child=0 "),
        (3, "split_feature=", "split_feature=9 "),
        (3, "num_leaves=", "num_leaves=1"),
        (3, "feature_names=a b c", "feature_names=a a c"),
    ] {
        let (format, model, _) = CASES[case];
        assert!(model.contains(from), "{from}");
        assert!(import(format, model.replacen(from, to, 1).as_bytes(), &meta()).is_err(), "{to}");
    }
}
