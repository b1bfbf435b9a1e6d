//! The families that are not trees against scikit-learn, SciPy and NumPy: `families.json` is made by `families.py`.

use foreline_plugins::Native;
use foreline_plugins::train::{ModelMeta, TrainError, TrainingSet, needs_target, train};
use foreline_sdk::weights::{self, OutputKind};
use serde_json::{Value, json};

fn reference() -> Value {
    serde_json::from_str(include_str!("families.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The rows of the reference with the target called `y`; three labels make it classes.
fn set(reference: &Value, y: &str, labels: &[&str]) -> TrainingSet {
    TrainingSet {
        feature_names: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        units: vec![None; 4],
        rows: usize::try_from(reference["rows"].as_u64().unwrap()).unwrap(),
        x: numbers(&reference["x"]),
        y: numbers(&reference[y]),
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
        ..TrainingSet::default()
    }
}

fn meta() -> ModelMeta {
    ModelMeta::remaining_life("pump", "h")
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.0), "{what} {at}: {found}, not {expected}");
    }
}

#[test]
fn lasso_and_elastic_net_are_those_of_scikit_learn() {
    let reference = reference();
    for (name, params) in [
        ("lasso", json!({ "alpha": 0.2, "l1_ratio": 1 })),
        ("elastic_net", json!({ "alpha": 0.3, "l1_ratio": 0.4 })),
    ] {
        let trained = train("linear", &params, &set(&reference, "y", &[]), &meta()).unwrap();
        let read = weights::read(&trained.weights).unwrap();
        let model: foreline_sdk::linear::Payload = read.payload().unwrap();
        close(&model.coefficients, &numbers(&reference[name]["coefficients"]), 1e-10, name);
        close(&model.intercepts, &numbers(&reference[name]["intercepts"]), 1e-10, name);
        if name == "lasso" {
            assert!(model.coefficients.contains(&0.0), "a useless feature is left out");
        }
    }
}

#[test]
fn logistic_regression_is_that_of_scikit_learn() {
    let reference = reference();
    let test = numbers(&reference["test"]);
    for (name, labels) in [("two", &["good", "worn"][..]), ("three", &["bad", "good", "worn"])] {
        let set = set(&reference, name, labels);
        let trained = train("linear", &json!({ "c": 0.7 }), &set, &meta()).unwrap();
        let scores = Native::load(&trained.weights).unwrap().score(&test);
        let width = labels.len() + 1;
        let shares: Vec<f64> = scores.chunks(width).flat_map(|row| row[1..].to_vec()).collect();
        close(&shares, &numbers(&reference[&format!("logistic_{name}")]), 1e-7, name);
        for row in scores.chunks(width) {
            let best = row[1..].iter().copied().fold(0.0, f64::max);
            assert_eq!(row[1 + row[0] as usize], best);
        }
    }
}

#[test]
fn features_that_repeat_one_another_have_a_solution() {
    let reference = reference();
    let mut twice = set(&reference, "three", &["bad", "good", "worn"]);
    for row in twice.x.chunks_mut(4) {
        row[1] = row[0];
        row[3] = 7.0;
    }
    let trained = train("linear", &Value::Null, &twice, &meta()).unwrap();
    let read = weights::read(&trained.weights).unwrap();
    let model: foreline_sdk::linear::Payload = read.payload().unwrap();
    close(&model.coefficients[..1], &model.coefficients[1..2], 1e-9, "equal features count alike");
    assert_eq!(model.coefficients[3], 0.0, "one that never changes does not count");
    twice.labels.clear();
    for l1_ratio in [0.0, 0.5, 1.0] {
        train("linear", &json!({ "l1_ratio": l1_ratio }), &twice, &meta()).unwrap();
    }
}

#[test]
fn nearest_neighbours_are_those_of_scikit_learn() {
    let reference = reference();
    let mut test = numbers(&reference["test"]);
    test.extend(&numbers(&reference["x"])[..20]);
    for way in ["uniform", "distance"] {
        let params = json!({ "k": 7, "weights": way });
        let trained = train("knn", &params, &set(&reference, "y", &[]), &meta()).unwrap();
        let scores = Native::load(&trained.weights).unwrap().score(&test);
        close(&scores, &numbers(&reference[&format!("knn_{way}")]), 1e-12, way);
        let classes = set(&reference, "three", &["bad", "good", "worn"]);
        let trained = train("knn", &params, &classes, &meta()).unwrap();
        let scores = Native::load(&trained.weights).unwrap().score(&test);
        let shares: Vec<f64> = scores.chunks(4).flat_map(|row| row[1..].to_vec()).collect();
        close(&shares, &numbers(&reference[&format!("knn_classes_{way}")]), 1e-12, way);
    }
}

#[test]
fn neighbours_are_thinned_evenly_and_bounded() {
    let reference = reference();
    let set = set(&reference, "y", &[]);
    let trained = train("knn", &json!({ "max_rows": 60 }), &set, &meta()).unwrap();
    let model: foreline_sdk::knn::Payload =
        weights::read(&trained.weights).unwrap().payload().unwrap();
    let every_second: Vec<f64> = set.y.iter().step_by(2).copied().collect();
    assert_eq!(model.targets, every_second);
    for wrong in [json!({ "k": 0 }), json!({ "k": 121 }), json!({ "max_rows": 60_000 })] {
        let error = train("knn", &wrong, &set, &meta()).unwrap_err();
        assert!(matches!(error, TrainError::Parameters { .. }), "{error}");
    }
}

#[test]
fn t2_and_q_are_those_of_a_pca() {
    let reference = reference();
    let mut normal = set(&reference, "y", &[]);
    normal.y.fill(f64::NAN);
    let params = json!({ "components": 2, "quantile": 0.95 });
    let trained = train("pca_t2q", &params, &normal, &meta()).unwrap();
    assert_eq!(trained.rows_used, normal.rows, "no target is needed");
    let read = weights::read(&trained.weights).unwrap();
    let model: foreline_sdk::pca_t2q::Payload = read.payload().unwrap();
    let pca = &reference["pca"];
    close(&[model.t2_limit, model.q_limit], &numbers(&pca["limits"]), 1e-9, "limits");
    let scores = Native::load(&trained.weights).unwrap().score(&numbers(&reference["test"]));
    for (output, name) in ["t2", "q", "anomaly"].into_iter().enumerate() {
        let found: Vec<f64> = scores.iter().skip(output).step_by(3).copied().collect();
        close(&found, &numbers(&pca[name]), 1e-9, name);
        assert_eq!(read.header.outputs[output].kind, OutputKind::AnomalyScore);
    }
    let explained = foreline_sdk::pca_t2q::PcaT2q::new(model, 4).unwrap();
    let mut outputs = vec![0.0; 30 * 18];
    explained.explain(&numbers(&reference["test"]), &mut outputs);
    for (first, name) in [(4, "t2_by"), (9, "q_by")] {
        let found: Vec<f64> =
            outputs.chunks_exact(18).flat_map(|row| row[first..first + 4].to_vec()).collect();
        close(&found, &numbers(&pca[name]), 1e-9, name);
    }
    let by_share = train("pca_t2q", &json!({ "components": 0.5 }), &normal, &meta()).unwrap();
    let by_share: foreline_sdk::pca_t2q::Payload =
        weights::read(&by_share.weights).unwrap().payload().unwrap();
    assert!((1..=2).contains(&by_share.variances.len()));
    for wrong in
        [json!({ "components": 4 }), json!({ "components": 1.5 }), json!({ "quantile": 1 })]
    {
        let error = train("pca_t2q", &wrong, &normal, &meta()).unwrap_err();
        assert!(matches!(error, TrainError::Parameters { .. }), "{error}");
    }
}

/// The fleet of the reference as a training set.
fn fleet(reference: &Value) -> TrainingSet {
    let of = &reference["degradation"];
    let (health, age) = (numbers(&of["health"]), numbers(&of["age"]));
    TrainingSet {
        feature_names: ["health", "age"].map(str::to_owned).to_vec(),
        units: vec![None; 2],
        rows: health.len(),
        x: health.iter().zip(&age).flat_map(|(h, a)| [*h, *a]).collect(),
        y: vec![f64::NAN; health.len()],
        groups: numbers(&of["machines"]).iter().map(|&m| m as u32).collect(),
        ..TrainingSet::default()
    }
}

#[test]
fn a_fleets_drift_is_its_maximum_likelihood() {
    let reference = reference();
    let set = fleet(&reference);
    let trained = train("degradation", &json!({ "threshold": 50 }), &set, &meta()).unwrap();
    let read = weights::read(&trained.weights).unwrap();
    let model: foreline_sdk::degradation::Payload = read.payload().unwrap();
    let of = &reference["degradation"];
    for (found, name) in [
        (model.drift, "drift"),
        (model.drift_variance, "drift_variance"),
        (model.diffusion, "diffusion"),
    ] {
        close(&[found], &[of[name].as_f64().unwrap()], 1e-9, name);
    }
    assert_eq!(read.header.state_width, 6);
    let names: Vec<&str> = read.header.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["remaining_life", "remaining_life_low", "remaining_life_high"]);
    let error = train("degradation", &Value::Null, &set, &meta()).unwrap_err().to_string();
    assert!(error.contains("threshold"), "{error}");
    let twisted = TrainingSet { feature_names: vec!["h".into()], ..set.clone() };
    assert!(train("degradation", &json!({ "threshold": 5 }), &twisted, &meta()).is_err());
    let noiseless = TrainingSet {
        x: (0..set.rows).flat_map(|n| [n as f64, n as f64]).collect(),
        groups: vec![0; set.rows],
        ..set
    };
    let error = train("degradation", &json!({ "threshold": 5 }), &noiseless, &meta()).unwrap_err();
    assert!(error.to_string().contains("without any noise"), "{error}");
}

/// Uniform numbers in (0, 1), the same on every machine.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + 1e-17
    }

    /// A standard normal number.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

/// Of 500 machines that are watched for a while and then run to their end, intervals of 80 % hold 80 % of the lives that were
/// left: within three deviations of a count of 500.
#[test]
fn intervals_of_machines_that_have_not_failed_keep_their_word() {
    let (threshold, dt, noise) = (30.0, 0.02, 1.0_f64);
    let model = foreline_sdk::degradation::Payload {
        exponential: false,
        offset: 0.0,
        falling: false,
        threshold,
        drift: 1.0,
        drift_variance: 0.04,
        diffusion: noise,
        low: 0.1,
        high: 0.9,
        min_rows: 5,
        sure: 0.5,
    };
    let model = foreline_sdk::degradation::Degradation::new(model).unwrap();
    let mut draws = Draws(42);
    let (mut inside, mut judged) = (0_u32, 0_u32);
    for _ in 0..500 {
        let drift = 1.0 + 0.2 * draws.normal();
        let mut state = vec![f64::NAN; 6];
        let (mut level, mut age) = (0.0, 0.0);
        let mut said = [f64::NAN; 3];
        // Watched every full unit of age up to 10.
        for watched in 0..=10 {
            model.score(&[level, age], &[0], &mut state, &mut said);
            if watched < 10 {
                for _ in 0..50 {
                    level += drift * dt + (noise * dt).sqrt() * draws.normal();
                }
                age = f64::from(watched) + 1.0;
            }
        }
        if !said[1].is_finite() || !said[2].is_finite() || level >= threshold {
            continue;
        }
        let mut left = 0.0;
        while level < threshold && left < 500.0 {
            level += drift * dt + (noise * dt).sqrt() * draws.normal();
            left += dt;
        }
        judged += 1;
        inside += u32::from((said[1]..=said[2]).contains(&left));
    }
    let coverage = f64::from(inside) / f64::from(judged);
    assert!(judged > 480, "{judged}");
    assert!((coverage - 0.8).abs() < 3.0 * (0.8_f64 * 0.2 / 500.0).sqrt(), "{coverage}");
}

#[test]
fn plugins_say_whether_they_learn_from_a_target() {
    for (name, needed) in [
        ("forest", true),
        ("boosted", true),
        ("linear", true),
        ("knn", true),
        ("pca_t2q", false),
        ("degradation", false),
    ] {
        let plugin = foreline_plugins::builtin(name).unwrap();
        assert_eq!(needs_target(plugin), needed, "{name}");
    }
    assert!(needs_target(b"something else"));
}
