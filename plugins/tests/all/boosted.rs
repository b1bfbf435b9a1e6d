//! Boosted trees against those of scikit-learn, LightGBM and XGBoost on one set.

use foreline_plugins::train::{ModelMeta, TrainingSet, train};
use foreline_sdk::ensemble::Ensemble;
use foreline_sdk::weights::{self, OutputKind};
use serde_json::{Value, json};

use crate::good::noise;

const ROWS: usize = 3000;
const LEARNT: usize = 2000;

/// How much larger than the best of the others an error may be.
const MARGIN: f64 = 1.03;

/// The set of `boosted.py`: five features, the fourth missing in every tenth row, and the target.
fn set() -> (Vec<f64>, Vec<f64>) {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for (row, z) in noise(ROWS * 6).chunks_exact(6).enumerate() {
        let target = (z[0] - 4.0).abs() * 3.0 + z[1] * z[2] + (z[5] - 5.0) * 2.0;
        x.extend_from_slice(&z[..5]);
        if row % 10 == 0 {
            x[row * 5 + 3] = f64::NAN;
            y.push(target + 15.0);
        } else {
            y.push(target);
        }
    }
    (x, y)
}

/// Trains on the first rows with the settings of the others, and scores the last ones; how many outputs there are.
fn scored(params: &Value, x: &[f64], y: &[f64], labels: &[&str]) -> (Vec<f64>, usize) {
    let set = TrainingSet {
        feature_names: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        units: vec![None; 5],
        rows: LEARNT,
        x: x[..LEARNT * 5].to_vec(),
        y: y[..LEARNT].to_vec(),
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
        groups: vec![],
    };
    let trained = train("boosted", params, &set, &ModelMeta::remaining_life("m", "h")).unwrap();
    assert_eq!((trained.rows_used, trained.rows_dropped), (LEARNT, 0), "NaN is learnt from");
    let read = weights::read(&trained.weights).unwrap();
    let model = Ensemble::new(read.payload().unwrap(), &read.header).unwrap();
    let n_outputs = read.header.outputs.len();
    let mut out = vec![0.0; (ROWS - LEARNT) * n_outputs];
    model.score(&x[LEARNT * 5..], &mut out);
    (out, n_outputs)
}

/// The smallest error of the others, by `boosted.json`.
fn best(of: &str) -> f64 {
    let reference: Value = serde_json::from_str(include_str!("boosted.json")).unwrap();
    let errors = reference[of].as_object().unwrap().values().map(|v| v.as_f64().unwrap());
    errors.fold(f64::INFINITY, f64::min)
}

fn mean(errors: impl Iterator<Item = f64>) -> f64 {
    errors.sum::<f64>() / (ROWS - LEARNT) as f64
}

fn holds(what: &str, found: f64) {
    let best = best(what);
    assert!(found <= MARGIN * best, "{what}: {found}, the best of the others {best}");
}

#[test]
fn numbers_are_as_near_as_others_get() {
    let (x, y) = set();
    let (out, _) = scored(&json!({}), &x, &y, &[]);
    let errors = out.iter().zip(&y[LEARNT..]).map(|(s, y)| (s - y).powi(2));
    holds("rmse", mean(errors).sqrt());
}

#[test]
fn quantiles_are_as_near_as_others_get() {
    let (x, y) = set();
    let params = json!({ "objective": "quantile", "quantiles": [0.1, 0.5, 0.9] });
    let (out, n_outputs) = scored(&params, &x, &y, &[]);
    let errors = out.chunks_exact(n_outputs).zip(&y[LEARNT..]).map(|(s, y)| {
        let short = y - s[2];
        short * if short < 0.0 { -0.1 } else { 0.9 }
    });
    holds("pinball_0.9", mean(errors));
}

#[test]
fn classes_are_as_sure_as_others_get() {
    let (x, y) = set();
    let level = |y: f64| f64::from(u8::from(y >= 25.0) + u8::from(y >= 45.0));
    let y: Vec<f64> = y.into_iter().map(level).collect();
    let (out, n_outputs) = scored(&json!({}), &x, &y, &["low", "middle", "high"]);
    assert_eq!(n_outputs, 4);
    let shares = out.chunks_exact(4).zip(&y[LEARNT..]);
    assert!(shares.clone().all(|(s, _)| s[1..].iter().all(|p| *p <= s[1 + s[0] as usize])));
    holds("log_loss", mean(shares.map(|(s, y)| -s[1 + *y as usize].ln())));
}

#[test]
fn outputs_are_named_by_quantile_and_class() {
    let (x, y) = set();
    let names = |params: Value, y: Vec<f64>, labels: &[&str]| {
        let set = TrainingSet {
            feature_names: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
            units: vec![None; 5],
            rows: 200,
            x: x[..1000].to_vec(),
            y,
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
            groups: vec![],
        };
        let meta = ModelMeta::remaining_life("m", "h");
        let trained = train("boosted", &params, &set, &meta).unwrap();
        weights::read(&trained.weights).unwrap().header.outputs
    };
    let params = json!({ "objective": "quantile", "quantiles": [0.025, 0.07, 0.5], "trees": 2 });
    let outputs = names(params, y[..200].to_vec(), &[]);
    let found: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
    let expected = ["remaining_life_q2_5", "remaining_life_q7", "remaining_life_q50"];
    assert_eq!(found, expected);
    assert_eq!(outputs[0].kind, OutputKind::RemainingLife("h".to_owned()));
    let classes = y[..200].iter().map(|y| f64::from(u8::from(*y > 30.0))).collect();
    let outputs = names(json!({ "trees": 2 }), classes, &["good", "worn"]);
    let found: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(found, ["remaining_life", "p_good", "p_worn"]);
    assert_eq!(outputs[0].labels, ["good", "worn"]);
    assert_eq!(outputs[1].kind, OutputKind::Probability);
}
