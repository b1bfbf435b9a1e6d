//! Training: the same bytes in every run, references from scikit-learn, and what is refused.

use foreline_plugins::train::{ModelMeta, TrainError, TrainingSet, train};
use foreline_sdk::weights;
use serde_json::{Value, json};

use crate::good::training_set;

fn meta() -> ModelMeta {
    ModelMeta::remaining_life("pump", "h")
}

#[test]
fn a_forest_learns_and_is_the_same_twice() {
    let set = training_set(2000, 5);
    let params = json!({ "trees": 20, "seed": 3 });
    let trained = train("forest", &params, &set, &meta()).unwrap();
    assert_eq!(trained.rows_used, 2000);
    assert_eq!(train("forest", &params, &set, &meta()).unwrap(), trained);
    let read = weights::read(&trained.weights).unwrap();
    assert_eq!(read.header.features[0].unit.as_deref(), Some("Cel"));
    let (low, high) = read.header.features[1].trained_range.unwrap();
    assert!(low >= 0.0 && high <= 10.0 && high - low > 9.0);
    let forest = foreline_sdk::trees::Forest::new(read.payload().unwrap(), 5).unwrap();
    let mut scores = vec![0.0; 2000];
    forest.score(&set.x, &mut scores);
    let error: f64 = scores.iter().zip(&set.y).map(|(s, y)| (s - y).powi(2)).sum();
    let mean = set.y.iter().sum::<f64>() / 2000.0;
    let spread: f64 = set.y.iter().map(|y| (y - mean).powi(2)).sum();
    assert!(error < 0.1 * spread, "the forest explains {} of it", 1.0 - error / spread);
}

/// `ridge.json` is made by `ridge.py` with scikit-learn.
#[test]
fn ridge_agrees_with_scikit_learn() {
    let reference: Value = serde_json::from_str(include_str!("ridge.json")).unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        reference[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let set = TrainingSet {
        feature_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        units: vec![None; 3],
        rows: numbers("y").len(),
        x: numbers("x"),
        y: numbers("y"),
        ..TrainingSet::default()
    };
    let params = json!({ "alpha": reference["alpha"] });
    let trained = train("linear", &params, &set, &meta()).unwrap();
    let read = weights::read(&trained.weights).unwrap();
    let linear: foreline_sdk::linear::Payload = read.payload().unwrap();
    for (found, expected) in linear.coefficients.iter().zip(numbers("coefficients")) {
        assert!((found - expected).abs() < 1e-10, "{found} instead of {expected}");
    }
    let intercept = reference["intercept"].as_f64().unwrap();
    assert!((linear.intercepts[0] - intercept).abs() < 1e-9);
}

#[test]
fn rows_with_something_missing_are_left_out_and_counted() {
    let mut set = training_set(100, 4);
    set.x[9] = f64::NAN;
    set.y[50] = f64::NAN;
    let trained = train("linear", &Value::Null, &set, &meta()).unwrap();
    assert_eq!((trained.rows_used, trained.rows_dropped), (98, 2));
    set.y.fill(f64::NAN);
    let none = train("linear", &Value::Null, &set, &meta());
    assert_eq!(none, Err(TrainError::NoRows(100)));
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let set = training_set(50, 3);
    let refused = |family: &str, params: Value| train(family, &params, &set, &meta()).unwrap_err();
    assert_eq!(refused("boostd", Value::Null), TrainError::UnknownFamily("boostd".to_owned()));
    for (family, params, at) in [
        ("forest", json!({ "trees": 0 }), "trees"),
        ("forest", json!({ "features_per_split": 4 }), "features_per_split"),
        ("forest", json!({ "min_samples_leaf": 0 }), "min_samples_leaf"),
        ("boosted", json!({ "trees": 10_001 }), "trees"),
        ("boosted", json!({ "learning_rate": 0.0 }), "learning_rate"),
        ("boosted", json!({ "max_depth": 65 }), "max_depth"),
        ("boosted", json!({ "max_leaves": 1 }), "max_leaves"),
        ("boosted", json!({ "min_child_weight": -1.0 }), "min_child_weight"),
        ("boosted", json!({ "subsample": 1.5 }), "subsample"),
        ("boosted", json!({ "features_per_tree": 4 }), "features_per_tree"),
        ("boosted", json!({ "bins": 256 }), "bins"),
        ("boosted", json!({ "quantiles": [0.5, 0.1] }), "quantiles"),
        ("boosted", json!({ "quantiles": [] }), "quantiles"),
        ("boosted", json!({ "objective": "softmax" }), "objective"),
        ("boosted", json!({ "validation_share": 1.0 }), "validation_share"),
        ("linear", json!({ "alpha": 0.0 }), "alpha"),
        ("linear", json!({ "alpha": "much" }), "alpha"),
    ] {
        match refused(family, params) {
            TrainError::Parameters { at: found, .. } => assert_eq!(found, at),
            other => panic!("{other}"),
        }
    }
    assert!(refused("forest", json!({ "tres": 3 })).to_string().contains("tres"));
    let classes = TrainingSet {
        y: (0..50_u8).map(|row| f64::from(row % 2)).collect(),
        labels: vec!["good".to_owned(), "worn".to_owned()],
        ..set.clone()
    };
    let of_classes = |family: &str, set: &TrainingSet| {
        train(family, &Value::Null, set, &meta()).map(|trained| trained.rows_used)
    };
    assert_eq!(of_classes("forest", &classes), Ok(50));
    assert_eq!(of_classes("linear", &classes), Ok(50));
    let one = TrainingSet { labels: vec!["good".to_owned()], y: vec![0.0; 50], ..classes.clone() };
    assert!(matches!(of_classes("linear", &one), Err(TrainError::Target(_))));
    let twice = TrainingSet { labels: vec!["a".to_owned(); 2], ..classes.clone() };
    assert!(matches!(of_classes("forest", &twice), Err(TrainError::Target(_))));
    let beyond = TrainingSet { y: vec![2.0; 50], ..classes };
    assert!(matches!(of_classes("forest", &beyond), Err(TrainError::Shape(_))));
    let short = TrainingSet { y: vec![1.0], ..set.clone() };
    assert!(matches!(train("linear", &Value::Null, &short, &meta()), Err(TrainError::Shape(_))));
}
