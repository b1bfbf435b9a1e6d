//! Models that behave: the same bits as natively, however rows are cut; missing values; files that changed.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use foreline_engine::{Batch, LateSupport, Schema};
use foreline_plugins::train::{ModelMeta, TrainingSet, train};
use foreline_plugins::{Native, builtin, digest, family_of};
use foreline_sdk::weights::{self, Family};
use serde_json::{Value, json};

use crate::bench::{Folder, batch, schema};

/// The same numbers in every run.
pub(crate) fn noise(n: usize) -> Vec<f64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64 * 10.0
    };
    (0..n).map(|_| next()).collect()
}

pub(crate) fn training_set(rows: usize, width: usize) -> TrainingSet {
    let x = noise(rows * width);
    let y = x.chunks_exact(width).map(|r| (r[0] - 4.0).abs() * 20.0 + r[1] * r[2]).collect();
    TrainingSet {
        feature_names: (0..width).map(|i| format!("f{i}")).collect(),
        units: (0..width).map(|i| (i == 0).then(|| "Cel".to_owned())).collect(),
        rows,
        x,
        y,
        ..TrainingSet::default()
    }
}

pub(crate) fn input() -> Schema {
    schema(&[("f0", Some("degC")), ("f1", None), ("f2", None), ("f3", None)])
}

pub(crate) fn trained(family: &str) -> Vec<u8> {
    let meta = ModelMeta::remaining_life("pump", "h");
    let has_trees = matches!(family, "boosted" | "forest");
    let params = if has_trees { json!({ "trees": 12 }) } else { Value::Null };
    train(family, &params, &training_set(800, 4), &meta).unwrap().weights
}

/// What code compiled into this test says, row by row.
pub(crate) fn native(weights: &[u8], x: &[f64]) -> Vec<f64> {
    let model = Native::load(weights).unwrap();
    x.chunks_exact(4).flat_map(|row| model.score(row)).collect()
}

/// Rows of five machines.
pub(crate) fn rows(x: &[f64]) -> Batch {
    let names: Vec<String> = (0..x.len() / 4).map(|i| format!("m{}", i % 5)).collect();
    let rows = names.iter().zip(x.chunks_exact(4));
    let rows: Vec<_> = rows
        .map(|(m, x)| (m.as_str(), x.iter().map(|&v| (!v.is_nan()).then_some(v)).collect()))
        .collect();
    batch(&input(), &rows)
}

fn model(family: &str) -> (Folder, Value) {
    let folder = Folder::new();
    folder.write("weights", &trained(family));
    let config =
        json!({ "plugin": format!("builtin:{family}"), "weights": "weights", "output": "rul" });
    (folder, config)
}

#[test]
fn the_sandbox_has_the_bits_of_native_code() {
    for family in ["boosted", "forest", "knn", "linear"] {
        let (folder, config) = model(family);
        let x = noise(3001 * 4);
        let expected = native(&trained(family), &x);
        let said = folder.step(&config, &input()).feed(&rows(&x));
        let scores = said.numbers("rul");
        assert_eq!(scores.len(), 3001);
        let differ = scores.iter().filter(|((_, t), bits)| {
            **bits != Some(expected[usize::try_from(*t).unwrap()].to_bits())
        });
        assert_eq!(differ.count(), 0, "{family}");
    }
}

#[test]
fn classes_and_distances_have_the_bits_of_native_code() {
    let x = noise(700 * 4);
    let mut classes = training_set(400, 4);
    classes.labels = ["bad", "good", "worn"].map(str::to_owned).to_vec();
    classes.y = classes.x.chunks_exact(4).map(|r| (r[0] / 3.4).floor().min(2.0)).collect();
    let plain = training_set(400, 4);
    for (family, set, outputs) in [
        ("linear", &classes, &["state", "p_bad", "p_good", "p_worn"][..]),
        ("knn", &classes, &["state", "p_bad", "p_good", "p_worn"]),
        ("pca_t2q", &plain, &["t2", "q", "anomaly"]),
    ] {
        let mut meta = ModelMeta::remaining_life("pump", "h");
        if set.labels.len() > 1 {
            meta.output.name = "state".to_owned();
            meta.output.kind = weights::OutputKind::ClassIndex;
        }
        let trained = train(family, &Value::Null, set, &meta).unwrap();
        let expected = native(&trained.weights, &x);
        let folder = Folder::new();
        folder.write("weights", &trained.weights);
        let config = json!({ "plugin": format!("builtin:{family}"), "weights": "weights" });
        let said = folder.step(&config, &input()).feed(&rows(&x));
        for (output, name) in outputs.iter().enumerate() {
            let scores = said.numbers(name);
            assert_eq!(scores.len(), 700);
            for ((_, t), bits) in scores {
                let at = usize::try_from(t).unwrap() * outputs.len() + output;
                assert_eq!(bits, Some(expected[at].to_bits()), "{family} {name} {t}");
            }
        }
    }
}

#[test]
fn a_drifting_machine_is_answered_with_the_bits_of_native_code() {
    let names = ["health", "age"];
    let steps = noise(400);
    let mut fleet = TrainingSet {
        feature_names: names.map(str::to_owned).to_vec(),
        units: vec![None; 2],
        ..TrainingSet::default()
    };
    let mut level = 0.0;
    for (n, step) in steps.iter().enumerate() {
        level = if n % 40 == 0 { 0.0 } else { level + step / 10.0 };
        fleet.x.extend([level, (n % 40) as f64]);
        fleet.groups.push(u32::try_from(n / 40).unwrap());
    }
    fleet.rows = steps.len();
    fleet.y = vec![f64::NAN; fleet.rows];
    let meta = ModelMeta::remaining_life("pump", "h");
    let trained = train("degradation", &json!({ "threshold": 40 }), &fleet, &meta).unwrap();
    let payload = weights::read(&trained.weights).unwrap().payload().unwrap();
    let model = foreline_sdk::degradation::Degradation::new(payload).unwrap();
    let input = schema(&[("health", None), ("age", None)]);
    // Rows of machine m0 alone, whose age falls ten times: it is repaired.
    let all: Vec<_> =
        fleet.x.chunks_exact(2).map(|x| ("m0", vec![Some(x[0]), Some(x[1])])).collect();
    let all = batch(&input, &all);
    let mut state = vec![f64::NAN; 6];
    let mut expected = vec![f64::NAN; fleet.rows * 3];
    model.score(&fleet.x, &vec![0; fleet.rows], &mut state, &mut expected);
    let folder = Folder::new();
    folder.write("weights", &trained.weights);
    let config = json!({ "plugin": "builtin:degradation", "weights": "weights" });
    for cut in [400, 1, 33] {
        let mut step = folder.step(&config, &input);
        let mut answered = 0;
        for start in (0..fleet.rows).step_by(cut) {
            let said = step.feed(&all.slice(start, cut.min(fleet.rows - start)));
            for ((_, t), bits) in said.numbers("remaining_life") {
                let median = expected[usize::try_from(t).unwrap() * 3];
                assert_eq!(bits, (!median.is_nan()).then_some(median.to_bits()), "{cut} {t}");
                answered += usize::from(bits.is_some());
            }
        }
        assert!(answered > 200, "{answered} rows have an answer");
    }
}

#[test]
fn how_rows_are_cut_does_not_show() {
    let (folder, mut config) = model("forest");
    let x = noise(300 * 4);
    let whole = folder.step(&config, &input()).feed(&rows(&x)).numbers("rul");
    config["limits"] = json!({ "rows": 7 });
    assert_eq!(folder.step(&config, &input()).feed(&rows(&x)).numbers("rul"), whole);
    let mut step = folder.step(&config, &input());
    let mut parts = std::collections::BTreeMap::new();
    let all = rows(&x);
    for start in (0..300).step_by(37) {
        let part = all.slice(start, 37.min(300 - start));
        parts.extend(step.feed(&part).numbers("rul"));
    }
    assert_eq!(parts, whole);
}

#[test]
fn a_row_without_a_feature_passes_without_a_score() {
    let (folder, config) = model("forest");
    let mut x = noise(20);
    x[5] = f64::NAN;
    let said = folder.step(&config, &input()).feed(&rows(&x));
    let scores = said.numbers("rul");
    assert_eq!(scores.values().filter(|s| s.is_none()).count(), 1);
    assert_eq!(scores[&("m1".to_owned(), 1)], None);
    assert!(said.dead.is_empty());
}

#[test]
fn boosted_trees_score_rows_without_a_feature() {
    let (folder, config) = model("boosted");
    let mut x = noise(400);
    x.iter_mut().step_by(7).for_each(|x| *x = f64::NAN);
    let expected = native(&trained("boosted"), &x);
    let scores = folder.step(&config, &input()).feed(&rows(&x)).numbers("rul");
    let same = |at: i64, bits: Option<u64>| bits == Some(expected[at as usize].to_bits());
    assert!(scores.iter().all(|((_, at), bits)| same(*at, *bits)));
}

#[test]
fn a_class_comes_with_its_name_and_probabilities() {
    let set = training_set(800, 4);
    let y = set.y.iter().map(|y| f64::from(u8::from(*y > 60.0) + u8::from(*y > 90.0))).collect();
    let labels = ["good", "worn", "bad"].map(str::to_owned).to_vec();
    let set = TrainingSet { y, labels, ..set };
    let mut meta = ModelMeta::remaining_life("pump", "h");
    meta.output.name = "state".to_owned();
    for family in ["boosted", "forest"] {
        let trained = train(family, &json!({ "trees": 12 }), &set, &meta).unwrap();
        let (folder, _) = model(family);
        folder.write("weights", &trained.weights);
        let config = json!({
            "plugin": format!("builtin:{family}"),
            "weights": "weights",
            "outputs": { "p_bad": "risk" },
        });
        let said = folder.step(&config, &input()).feed(&rows(&set.x[..400]));
        let (state, risk) = (said.numbers("state"), said.numbers("risk"));
        let of = |at: usize| state[&(format!("m{}", at % 5), at as i64)].map(f64::from_bits);
        let hits = (0..100).filter(|&at| of(at) == Some(set.y[at])).count();
        assert!(hits > 80, "{family}: {hits} of 100");
        assert!(risk.values().all(|p| p.is_some_and(|p| f64::from_bits(p) <= 1.0)));
        let words = said.rows[0].rows.column_by_name("state_label").unwrap();
        assert!(
            words.as_string::<i32>().iter().all(|w| ["good", "worn", "bad"].contains(&w.unwrap()))
        );
    }
}

/// In the sandbox, from training to columns: base and contributions sum to the score.
#[test]
fn contributions_sum_to_the_score() {
    for family in ["boosted", "forest", "linear"] {
        let (folder, mut config) = model(family);
        let x = noise(100 * 4);
        let plain = folder.step(&config, &input()).feed(&rows(&x)).numbers("rul");
        config["explain"] = json!("contributions");
        let mut step = folder.step(&config, &input());
        let columns = step.planned.output.columns().iter();
        let names: Vec<String> = columns.map(|c| c.name.clone()).collect();
        let parts = ["rul_base", "rul_by_f0", "rul_by_f1", "rul_by_f2", "rul_by_f3"];
        assert_eq!(names[6], "rul");
        assert_eq!(names[7..12], parts);
        let said = step.feed(&rows(&x));
        let scores = said.numbers("rul");
        assert_eq!(scores, plain, "explaining changes no score");
        let columns = parts.map(|part| said.numbers(part));
        for (at, score) in &scores {
            let sum: f64 = columns.iter().map(|c| f64::from_bits(c[at].unwrap())).sum();
            let score = f64::from_bits(score.unwrap());
            assert!((sum - score).abs() < 1e-9, "{family}: {sum}, not {score}");
        }
        let bases: std::collections::BTreeSet<_> = columns[0].values().collect();
        assert_eq!(bases.len(), 1, "all rows start from one base");
    }
}

/// Of distances from normal and of classes: the parts sum to T², Q and the anomaly, and to the class's own score.
#[test]
fn contributions_of_distances_and_classes_sum_up() {
    let x = noise(100 * 4);
    let plain = training_set(400, 4);
    let trained_on = train("pca_t2q", &Value::Null, &plain, &ModelMeta::remaining_life("p", "h"));
    let folder = Folder::new();
    folder.write("weights", &trained_on.unwrap().weights);
    let config =
        json!({ "plugin": "builtin:pca_t2q", "weights": "weights", "explain": "contributions" });
    let said = folder.step(&config, &input()).feed(&rows(&x));
    for output in ["t2", "q", "anomaly"] {
        sums_to(&said, output);
    }
    let mut classes = training_set(400, 4);
    classes.labels = ["bad", "good"].map(str::to_owned).to_vec();
    classes.y = classes.x.chunks_exact(4).map(|r| f64::from(u8::from(r[0] > 5.0))).collect();
    let mut meta = ModelMeta::remaining_life("pump", "h");
    meta.output.name = "state".to_owned();
    meta.output.kind = weights::OutputKind::ClassIndex;
    let trained = train("linear", &Value::Null, &classes, &meta).unwrap();
    folder.write("weights", &trained.weights);
    let config =
        json!({ "plugin": "builtin:linear", "weights": "weights", "explain": "contributions" });
    let said = folder.step(&config, &input()).feed(&rows(&x));
    let (state, good) = (said.numbers("state"), said.numbers("p_good"));
    let parts = ["base", "by_f0", "by_f1", "by_f2", "by_f3"]
        .map(|part| said.numbers(&format!("state_{part}")));
    for (at, state) in &state {
        let p = f64::from_bits(good[at].unwrap());
        let p = if f64::from_bits(state.unwrap()) == 1.0 { p } else { 1.0 - p };
        let sum: f64 = parts.iter().map(|c| f64::from_bits(c[at].unwrap())).sum();
        // The answered class is the likelier one.
        assert!(sum >= 0.0 && (sum - (p / (1.0 - p)).ln()).abs() < 1e-6, "{sum}, {p}");
    }
}

/// Base and contributions of an output sum to its score, in every row.
fn sums_to(said: &crate::bench::Said, output: &str) {
    let parts = ["base", "by_f0", "by_f1", "by_f2", "by_f3"]
        .map(|part| said.numbers(&format!("{output}_{part}")));
    let scores = said.numbers(output);
    assert_eq!(scores.len(), 100);
    for (at, score) in scores {
        let sum: f64 = parts.iter().map(|c| f64::from_bits(c[&at].unwrap())).sum();
        let score = f64::from_bits(score.unwrap());
        assert!((sum - score).abs() < 1e-9 * score.abs().max(1.0), "{output}: {sum}, not {score}");
    }
}

#[test]
fn the_largest_contributions_are_a_text() {
    let (folder, mut config) = model("boosted");
    config["explain"] = json!({ "top": 2 });
    let mut step = folder.step(&config, &input());
    let columns = step.planned.output.columns().iter();
    let names: Vec<String> = columns.map(|c| c.name.clone()).collect();
    assert_eq!(names[6..9], ["rul", "rul_because", "model_name"]);
    let said = step.feed(&rows(&[9.9, 0.1, 0.1, 5.0]));
    let column = said.rows[0].rows.column_by_name("rul_because").unwrap();
    let text = column.as_string::<i32>().value(0);
    // `|f0 − 4| · 20` is nearly as large as it gets.
    assert!(text.starts_with("f0 +"), "{text}");
    assert_eq!(text.split(", ").count(), 2, "{text}");
    config["explain"] = json!({ "top": 0 });
    assert_eq!(folder.plan(&config, &input()).unwrap_err()[0].at, "explain.top");
}

#[test]
fn features_outside_their_trained_range_are_named() {
    let (folder, mut config) = model("boosted");
    config["warn"] = json!({ "range": true });
    let said = folder.step(&config, &input()).feed(&rows(&[
        5.0,
        5.0,
        5.0,
        5.0,
        5.0,
        -1.0,
        f64::NAN,
        11.0,
        5.0,
        5.0,
        5.0,
        1e9,
    ]));
    let batch = &said.rows[0].rows;
    let column = batch.column_by_name("outside_range").unwrap().as_string::<i32>();
    let times = batch.column(1).as_primitive::<arrow::datatypes::Int64Type>();
    let mut found: Vec<_> =
        times.values().iter().copied().zip(column.iter().map(|t| t.map(str::to_owned))).collect();
    found.sort();
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(found, [(0, None), (1, text("f1,f3")), (2, text("f3"))]);
}

/// The greatest index and the features that drifted, of the last row of each machine.
fn drift_of(said: &crate::bench::Said) -> BTreeMap<String, (Option<f64>, Option<String>)> {
    let rows = &said.rows[0].rows;
    let machines = arrow::compute::cast(rows.column(0), &DataType::Utf8).unwrap();
    let psi = rows.column_by_name("drift_psi").unwrap().as_primitive::<Float64Type>();
    let names = rows.column_by_name("drifted").unwrap().as_string::<i32>();
    let each = machines.as_string::<i32>().iter().zip(psi).zip(names);
    each.map(|((m, psi), names)| (m.unwrap().to_owned(), (psi, names.map(str::to_owned)))).collect()
}

#[test]
fn features_that_drift_are_named_whatever_the_cuts() {
    let (folder, mut config) = model("boosted");
    config["warn"] = json!({ "drift": { "rows": 100, "above": 0.5 } });
    let mut step = folder.step(&config, &input());
    assert!(matches!(step.planned.late, LateSupport::Refuses(_)));
    // 99 rows a machine say nothing yet, the next one does; the model learnt from rows like these.
    let mut x = noise(4 * 5 * 100);
    let last = x.split_off(4 * 5 * 99);
    let said = drift_of(&step.feed(&rows(&x)));
    assert!(said.values().all(|said| *said == (None, None)), "{said:?}");
    let said = drift_of(&step.feed(&rows(&last)));
    assert!(said.values().all(|(psi, names)| psi.unwrap() < 0.5 && names.is_none()), "{said:?}");
    // f2 is now in the upper half, f3 missing: the one drifts, of the other nothing is known.
    let other: Vec<f64> = noise(4 * 5 * 130)
        .chunks_exact(4)
        .flat_map(|r| [r[0], r[1], 5.0 + r[2] / 2.0, f64::NAN])
        .collect();
    let (first, second) = other.split_at(4 * 5 * 60);
    let whole = drift_of(&folder.step(&config, &input()).feed(&rows(&other)));
    let mut before = folder.step(&config, &input());
    before.feed(&rows(first));
    let mut after = folder.step(&config, &input());
    before.hand_over(&mut after);
    let cut = drift_of(&after.feed(&rows(second)));
    assert_eq!(whole, cut, "a restart in the middle of a block changes nothing");
    for (machine, (psi, names)) in whole {
        assert_eq!(names.as_deref(), Some("f2"), "{machine}");
        // Half of the deciles are empty, the others have twice their share: 5 (0.1 ln 2) + 5 (0.1 ln 1000), and chance.
        assert!((3.0..6.0).contains(&psi.unwrap()), "{machine}: {psi:?}");
    }
}

#[test]
fn drift_needs_weights_that_know_the_training() {
    let (folder, mut config) = model("boosted");
    config["warn"] = json!({ "drift": { "rows": 10, "above": 0 } });
    let errors = folder.plan(&config, &input()).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "warn.drift.rows: '10' is not between 100 and 10000000",
            "warn.drift.above: '0' is not above zero",
        ]
    );
    let bytes = trained("linear");
    let read = weights::read(&bytes).unwrap();
    let sum: foreline_sdk::linear::Payload = read.payload().unwrap();
    folder.write("old", &weights::write(Family::Linear, &read.header, &sum).unwrap());
    let config = json!({ "plugin": "builtin:linear", "weights": "old", "warn": { "drift": {} } });
    let errors = folder.plan(&config, &input()).unwrap_err();
    assert_eq!(errors[0].at, "warn.drift");
    assert!(
        errors[0].to_string().contains("do not say how the features were spread"),
        "{errors:?}"
    );
}

#[test]
fn what_was_corrected_is_scored_with_its_revision() {
    let (folder, config) = model("linear");
    let x = noise(40);
    let all = rows(&x);
    let mut step = folder.step(&config, &input());
    assert_eq!(step.planned.late, LateSupport::Stateless);
    let mut revised = all.slice(0, 4);
    revised.revision = Some(vec![1_u32, 2, 1, 1].into());
    revised.deleted = Some(vec![false, true, false, false].into());
    let said = step.epoch(&all.slice(4, 3), &all.slice(7, 3), &revised).unwrap();
    assert_eq!((said.rows.len(), said.late.len()), (2, 1));
    assert_eq!((said.rows[0].len(), said.late[0].len()), (3, 3));
    assert_eq!(said.late[0].rows.column_by_name("rul").unwrap().null_count(), 0);
    assert_eq!(said.rows[1].revision, revised.revision);
    let scores = said.rows[1].rows.column_by_name("rul").unwrap();
    assert!(scores.is_null(1) && scores.null_count() == 1, "a deleted row has no score");
}

#[test]
fn scores_say_which_model_made_them() {
    let (folder, config) = model("linear");
    let planned = folder.plan(&config, &input()).unwrap();
    let names: Vec<&str> = planned.output.columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names[6..], ["rul", "model_name", "model_version", "model_digest"]);
    assert_eq!(planned.output.column("rul").unwrap().unit.as_ref().unwrap().code(), "h");
    let said = folder.step(&config, &input()).feed(&rows(&noise(8)));
    let text = |name: &str| {
        said.rows[0].rows.column_by_name(name).unwrap().as_string::<i32>().value(1).to_owned()
    };
    assert_eq!(text("model_name"), "pump");
    assert_eq!(text("model_digest").len(), 64);
    let mut other = config.clone();
    folder.write("weights", &trained("linear").to_vec());
    other["output"] = json!("other");
    let again = folder.step(&other, &input()).feed(&rows(&noise(8)));
    let again = again.rows[0].rows.column_by_name("model_digest").unwrap();
    assert_eq!(again.as_string::<i32>().value(0), text("model_digest"), "names do not matter");
}

#[test]
fn everything_that_does_not_fit_is_said_at_once() {
    let (folder, mut config) = model("linear");
    config["features"] = json!({ "f9": "f1", "f2": "f22" });
    config["outputs"] = json!({ "nothing": "x" });
    config["output"] = json!("f1");
    let wrong = schema(&[("f0", Some("K")), ("f1", None), ("f2", None)]);
    let errors = folder.plan(&config, &wrong).unwrap_err();
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for expected in [
        "features: the model was trained with 'f0' in 'Cel', and the column is in 'K'",
        "features.f2: the model needs a column 'f22', and the input has none",
        "features: the model needs a column 'f3', and the input has none",
        "features.f9: the model has no feature 'f9'",
        "outputs.nothing: the model has no output 'nothing'",
        "output: the input has a column 'f1' already",
    ] {
        assert!(said.iter().any(|s| s == expected), "{expected} is not in {said:#?}");
    }
    assert_eq!(errors.len(), 6);
}

#[test]
fn a_file_is_pinned_by_its_digest() {
    let mut folder = Folder::new();
    let forest = builtin("forest").unwrap();
    folder.write("forest.wasm", forest);
    folder.write("weights", &trained("forest"));
    let mut config = json!({ "plugin": "forest.wasm", "weights": "weights" });
    let errors = folder.plan(&config, &input()).unwrap_err();
    assert!(errors[0].help.as_ref().unwrap().contains(&digest(forest)), "{errors:?}");
    folder.checking = true;
    let planned = folder.plan(&config, &input()).unwrap();
    assert!(planned.notes[0].contains(&digest(forest)));
    folder.checking = false;
    config["sha256"] = json!("00");
    config["weights_sha256"] = json!("00");
    let errors = folder.plan(&config, &input()).unwrap_err();
    let at: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(at, ["sha256", "weights_sha256"]);
    config["sha256"] = json!(digest(forest));
    config["weights_sha256"] = json!(digest(&trained("forest")));
    folder.plan(&config, &input()).unwrap();
}

#[test]
fn damaged_or_foreign_weights_are_refused() {
    let (folder, config) = model("forest");
    let mut damaged = trained("forest");
    damaged[200] ^= 1;
    folder.write("weights", &damaged);
    let errors = folder.plan(&config, &input()).unwrap_err();
    assert_eq!(errors[0].at, "weights");
    assert!(errors[0].message.contains("damaged"), "{errors:?}");
    folder.write("weights", &trained("linear"));
    let errors = folder.plan(&config, &input()).unwrap_err();
    assert!(errors[0].message.contains("weights of family 'linear'"), "{errors:?}");
}

#[test]
fn a_damaged_artefact_is_compiled_again() {
    // A plugin of its own, so that no other test has it in memory: the same component with another custom section.
    let compiled_here = |folder: &Folder, salt: u8| {
        let mut plugin = builtin("linear").unwrap().to_vec();
        plugin.extend_from_slice(&[0, 3, 1, b'x', salt]);
        folder.write("linear.wasm", &plugin);
        json!({ "plugin": "linear.wasm", "weights": "weights", "sha256": digest(&plugin) })
    };
    let folder = Folder::new();
    folder.write("weights", &trained("linear"));
    let config = compiled_here(&folder, 1);
    folder.plan(&config, &input()).unwrap();
    let cache = foreline_engine::Resolver::cache_dir(&folder).join("plugins");
    let files =
        || -> Vec<_> { std::fs::read_dir(&cache).unwrap().map(|f| f.unwrap().path()).collect() };
    let [artefact] = &files()[..] else { panic!("one plugin was compiled") };
    let good = std::fs::read(artefact).unwrap();
    // Under another plugin's name it is a file that this process has not loaded yet.
    let other = compiled_here(&folder, 2);
    let digest = other["sha256"].as_str().unwrap();
    let name = artefact.file_name().unwrap().to_str().unwrap();
    let place = cache.join(format!("{digest}{}", &name[64..]));
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(&place, &flipped).unwrap();
    folder.plan(&other, &input()).unwrap();
    assert_ne!(std::fs::read(&place).unwrap(), flipped, "it was compiled again");
}

#[test]
fn a_plugin_says_what_family_it_reads() {
    assert_eq!(family_of(builtin("forest").unwrap()), Some(Family::Forest));
    assert_eq!(family_of(builtin("builtin:linear").unwrap()), Some(Family::Linear));
    assert_eq!(family_of(builtin("builtin:boosted").unwrap()), Some(Family::Trees));
    assert_eq!(family_of(b"something"), None);
}

#[test]
fn prebuilt_plugins_are_the_ones_with_the_noted_digests() {
    for line in include_str!("../../prebuilt/digests.txt").lines() {
        let (expected, name) = line.split_once("  ").unwrap();
        assert_eq!(digest(builtin(name.trim_end_matches(".wasm")).unwrap()), expected, "{name}");
    }
}

/// The folder of the plugins that `cargo xtask plugins --compare` built, below Cargo's, wherever that is.
fn rebuilt() -> Option<std::path::PathBuf> {
    let this = std::env::current_exe().unwrap();
    let mut above = this.ancestors().skip(1).map(|folder| folder.join("guests-rebuilt"));
    above.find(|folder| folder.is_dir())
}

#[test]
fn prebuilt_plugins_score_as_those_built_from_source() {
    let Some(folder_of_rebuilt) = rebuilt() else {
        eprintln!("SKIPPED: no plugin was built from source; `cargo xtask plugins --compare`");
        return;
    };
    let x = noise(500 * 4);
    for family in ["boosted", "forest", "knn", "linear", "pca_t2q"] {
        let (folder, mut config) = model(family);
        if family == "pca_t2q" {
            config.as_object_mut().unwrap().remove("output");
        }
        let output = if family == "pca_t2q" { "t2" } else { "rul" };
        let expected = folder.step(&config, &input()).feed(&rows(&x)).numbers(output);
        let component = std::fs::read(folder_of_rebuilt.join(format!("{family}.wasm"))).unwrap();
        folder.write("rebuilt.wasm", &component);
        config["plugin"] = json!("rebuilt.wasm");
        config["sha256"] = json!(digest(&component));
        let found = folder.step(&config, &input()).feed(&rows(&x)).numbers(output);
        assert_eq!(found, expected, "{family}");
        assert_eq!(family_of(&component), family_of(builtin(family).unwrap()), "{family}");
    }
    assert!(folder_of_rebuilt.join("degradation.wasm").exists());
}

#[test]
fn a_plugin_that_is_not_there_is_suggested() {
    let (folder, mut config) = model("linear");
    config["plugin"] = json!("builtin:lienar");
    let errors = folder.plan(&config, &input()).unwrap_err();
    let (name, known) = errors[0].unknown.clone().unwrap();
    assert_eq!(name, "builtin:lienar");
    assert!(known.contains(&"builtin:linear".to_owned()));
}
