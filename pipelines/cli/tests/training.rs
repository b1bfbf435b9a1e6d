//! The real command, judging, tuning and logging models: what is printed, what is written, what is kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use foreline_servers::Mlflow;
use serde_json::Value;

/// Machines that wear: vibration rises as life ends, and each has a level of its own that gives it away.
const PIPELINE: &str = r#"
version: 1
name: wear
sources:
  readings:
    csv: { path: wear.csv }
    columns:
      machine: string
      hour: int64
      vibration: float64
      level: float64
      temperature: float64
      state: string
      failed: bool
    key: [machine]
    time: hour
steps:
  smooth: { from: readings, moving_average: { columns: [vibration], rows: 1 } }
  calm: { from: readings, moving_average: { columns: [temperature], rows: 1 } }
  life:
    from: smooth
    model: { plugin: "builtin:boosted", weights: life.weights, output: life_left }
  spread:
    from: smooth
    model: { plugin: "builtin:boosted", weights: spread.weights }
  diagnosis:
    from: smooth
    model: { plugin: "builtin:forest", weights: state.weights, outputs: { state: said } }
training:
  life:
    from: smooth
    target: { remaining: { cap: 30, ends: failed } }
    plugin: builtin:boosted
    weights: life.weights
    features: [vibration, level]
    params: { trees: 20, learning_rate: 0.2 }
    validate: [{ by: machine, folds: 4 }, { by: row }]
  spread:
    from: smooth
    target: { remaining: { cap: 30, ends: failed } }
    plugin: builtin:boosted
    weights: spread.weights
    features: [vibration, level]
    params: { trees: 30, objective: quantile }
  state:
    from: smooth
    target: { class: state }
    plugin: builtin:forest
    weights: state.weights
    features: [vibration]
    params: { trees: 10 }
tuning:
  window:
    step: calm
    try: { steps.calm.moving_average.rows: [1, 2, 4, 8] }
  life:
    training: life
    try:
      steps.smooth.moving_average.rows: [1, 5]
      training.life.params.trees: [10, 20]   # the rest of this line stays
evaluation:
  life:
    from: life
    predicted: life_left
    truth: { remaining: { ends: failed } }
    cap: 30
    alarm: { below: 8, rows: 2, earliest: 20, latest: 1 }
    cost: {}
    training: life
    seeds: [3, 5]
  spread:
    from: spread
    predicted: remaining_life_q50
    truth: { remaining: { ends: failed } }
    interval: { low: remaining_life_q10, high: remaining_life_q90, nominal: 0.8 }
    cap: 30
  state:
    from: diagnosis
    predicted: said_label
    truth: { column: state }
    training: state
"#;

/// A number between 0 and 1 that looks random.
fn noise(n: u64) -> f64 {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A folder with the pipeline and ten machines of two lives each.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wear.yaml"), PIPELINE).unwrap();
    let mut rows = "machine,hour,vibration,level,temperature,state,failed\n".to_owned();
    let mut n = 0;
    for machine in 0..10_u64 {
        let mut hour = 0;
        for life in 0..2 {
            let long = 40 + (machine * 7 + life * 11) % 20;
            for age in 0..=long {
                n += 1;
                let left = (long - age) as f64;
                let vibration = 1.0 + 4.0 * (-left / 12.0).exp() + 0.8 * (noise(n) - 0.5);
                let state = if left > 25.0 {
                    "good"
                } else if left > 8.0 {
                    "worn"
                } else {
                    "bad"
                };
                let failed = age == long;
                let temperature = 20.0 + noise(n + 100_000);
                let measured = format!("{vibration},{machine}.5,{temperature}");
                writeln!(rows, "P-{machine},{hour},{measured},{state},{failed}").unwrap();
                hour += 1;
            }
        }
    }
    fs::write(folder.path().join("wear.csv"), rows).unwrap();
    folder
}

/// Runs the command; its exit code, and what it printed.
fn foreline(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_foreline"))
        .args(arguments)
        .env_remove("MLFLOW_TRACKING_URI")
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

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(folder, arguments)).unwrap()
}

#[test]
fn machines_are_held_back_and_random_rows_are_warned_of() {
    let folder = folder();
    let folder = folder.path();
    let out = done(folder, &["train", "wear.yaml", "--only", "life", "--report", "out.html"]);
    assert!(
        out.contains("validated by machine") && out.contains("warning: rows at random"),
        "{out}"
    );
    the_card_goes_along(folder);
    let html = fs::read_to_string(folder.join("out.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("vibration") && !html.contains("<script"));
    let caption = "What features are worth: how much the error grows when a feature&#39;s values";
    assert!(html.contains(caption) || html.contains(&caption.replace("&#39;", "'")));
    let report = json(folder, &["train", "wear.yaml", "--only", "life", "--json"]);
    let ways = report[0]["validated"].as_array().unwrap();
    let rmse = |way: &Value| way["numbers"]["capped"]["rmse"].as_f64().unwrap();
    let predicted = |way: &Value| -> u64 {
        way["folds"].as_array().unwrap().iter().map(|f| f["predicted"].as_u64().unwrap()).sum()
    };
    let rows = report[0]["rows"].as_u64().unwrap();
    assert_eq!((predicted(&ways[0]), predicted(&ways[1])), (rows, rows), "each row once");
    assert!(rmse(&ways[0]) < 8.0, "{}", rmse(&ways[0]));
    assert_eq!(ways[0]["importance"][0]["feature"], "vibration");
    // Without 'validate' nothing is held back unless it is asked for.
    let plain = json(folder, &["train", "wear.yaml", "--only", "state", "--json"]);
    assert_eq!(plain[0]["validated"], serde_json::json!([]));
    let asked = json(folder, &["train", "wear.yaml", "--only", "state", "--validate", "--json"]);
    let accuracy = asked[0]["validated"][0]["classes"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6, "{accuracy}");
}

/// What was learnt from stands beside the weights and is packed with them, and with no others.
fn the_card_goes_along(folder: &Path) {
    let card = fs::read_to_string(folder.join("life.weights.card.yaml")).unwrap();
    let read = foreline_spec::read_values(&card).unwrap();
    assert!(read["data"]["rows"].as_u64().unwrap() > 100 && !read["data"]["from"].is_null());
    let sources = read["data"]["sources"].as_object().unwrap();
    assert!(
        sources.len() == 1 && sources["readings"].as_str().unwrap().contains("wear.csv"),
        "{card}"
    );
    assert!(read["features"].as_array().unwrap().iter().any(|name| name == "vibration"));
    assert!(read["metrics"]["by_machine.rmse"].as_f64().unwrap() < 8.0, "{card}");
    let pack = ["model", "pack", "builtin:boosted", "--weights", "life.weights", "-o", "m.wasm"];
    done(folder, &pack);
    assert!(done(folder, &["model", "show", "m.wasm"]).contains(&card));
    fs::write(folder.join("other.weights"), b"others").unwrap();
    fs::write(folder.join("other.weights.card.yaml"), &card).unwrap();
    let other = pack.map(|word| if word == "life.weights" { "other.weights" } else { word });
    let (code, _, err) = foreline(folder, &other);
    assert!(code == Some(78) && err.contains("other weights"), "{err}");
}

#[test]
fn a_model_is_judged_over_lives_by_alarms_and_by_cost() {
    let folder = folder();
    let folder = folder.path();
    done(folder, &["train", "wear.yaml"]);
    let all = json(folder, &["evaluate", "wear.yaml", "--json"]);
    let of =
        |name: &str| all.as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    let life = of("life");
    assert_eq!(life["alarms"]["missed"].as_u64(), Some(0), "{}", life["alarms"]);
    assert_eq!(life["prognosis"]["alpha_lambda"][0]["machines"], 20);
    assert!(life["alarms"]["cost"].as_f64().unwrap() > 3.0);
    let spread = of("spread");
    let coverage = spread["interval"]["coverage"].as_f64().unwrap();
    assert!((0.6..=1.0).contains(&coverage), "{coverage}");
    let state = of("state");
    assert!(state["classes"]["accuracy"].as_f64().unwrap() > 0.7);
    assert!(state["classes"]["log_loss"].as_f64().is_some(), "probabilities are judged too");
    let out = done(
        folder,
        &["evaluate", "wear.yaml", "--only", "life", "--seeds", "--report", "life.json"],
    );
    assert!(out.contains("mean RMSE"), "{out}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("life.json")).unwrap()).unwrap();
    assert_eq!(report[0]["evaluation"]["seeds"]["figures"].as_array().unwrap().len(), 2);
    assert_eq!(report[0]["importance"][0]["feature"], "vibration");
    done(folder, &["evaluate", "wear.yaml", "--only", "life", "--report", "life.html"]);
    let html = fs::read_to_string(folder.join("life.html")).unwrap();
    assert!(
        html.contains("What features are worth: how far the model"),
        "no truth is asked for it"
    );
    assert!(html.contains("late, share") && html.contains("predictions"));
}

#[test]
fn a_search_goes_on_where_it_was_and_writes_what_it_found() {
    let folder = folder();
    let folder = folder.path();
    let first = json(folder, &["tune", "wear.yaml", "--only", "life", "--json"]);
    assert_eq!(
        (first[0]["trials"].as_array().unwrap().len(), first[0]["known"].as_u64()),
        (4, Some(0))
    );
    let again = json(folder, &["tune", "wear.yaml", "--only", "life", "--json"]);
    assert_eq!(again[0]["known"].as_u64(), Some(4));
    assert_eq!(first[0]["trials"], again[0]["trials"], "the same figures");
    // Other data are other trials.
    let text = fs::read_to_string(folder.join("wear.csv")).unwrap();
    fs::write(folder.join("wear.csv"), text.replace("P-9,", "P-8x,")).unwrap();
    assert_eq!(json(folder, &["tune", "wear.yaml", "--only", "life", "--json"])[0]["known"], 0);

    let window = json(folder, &["tune", "wear.yaml", "--only", "window", "--json"]);
    assert_eq!(window[0]["known"], 0);
    let on_one = ["tune", "wear.yaml", "--only", "window", "--json", "--fresh", "--workers", "1"];
    assert_eq!(json(folder, &on_one), window, "one after another");
    // What one that was killed had found is known, the others are not.
    let found = folder.join(".foreline/tune/wear.window.jsonl");
    let text = fs::read_to_string(&found).unwrap();
    assert_eq!(text.lines().count(), 4);
    fs::write(&found, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    let rest = json(folder, &["tune", "wear.yaml", "--only", "window", "--json"]);
    assert_eq!((&rest[0]["known"], &rest[0]["trials"]), (&Value::from(2), &window[0]["trials"]));
    let window = json(folder, &["tune", "wear.yaml", "--only", "window", "--apply", "--json"]);
    assert_eq!((&window[0]["known"], &window[0]["trials"]), (&Value::from(4), &rest[0]["trials"]));
    let best = &window[0]["trials"][window[0]["best"].as_u64().unwrap() as usize]["settings"];
    let rows = best["steps.calm.moving_average.rows"].as_u64().unwrap();
    let written = fs::read_to_string(folder.join("wear.yaml")).unwrap();
    assert_eq!(
        written,
        PIPELINE.replace("[temperature], rows: 1 }", &format!("[temperature], rows: {rows} }}"))
    );
    assert!(rows > 1, "noise is worth smoothing");
}

#[test]
fn mistakes_are_told_before_anything_is_searched() {
    let folder = folder();
    let folder = folder.path();
    let wrong = PIPELINE
        .replace(
            "steps.calm.moving_average.rows: [1, 2, 4, 8]",
            "steps.calm.moving_average.row: [1]",
        )
        .replace("by: machine, folds: 4", "by: machine, look_back: 4");
    fs::write(folder.join("wrong.yaml"), wrong).unwrap();
    let (code, _, err) = foreline(folder, &["check", "wrong.yaml"]);
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains("leads to no setting") && err.contains("'look_back'"), "{err}");
    done(folder, &["train", "wear.yaml"]);
    let (code, _, err) = foreline(folder, &["tune", "wear.yaml", "--only", "none"]);
    assert_eq!(code, Some(1), "{err}");
}

#[test]
fn runs_are_logged_to_a_tracking_server_and_as_files_that_it_opens() {
    let folder = folder();
    let folder = folder.path();
    let Some(server) = Mlflow::start().unwrap() else { return };
    let url = server.url();
    let logged = done(folder, &["train", "wear.yaml", "--only", "life", "--mlflow", &url]);
    assert!(logged.contains("logged: http://127.0.0.1"), "{logged}");
    let report = ["--report", "out.html", "--mlflow", &url];
    let evaluate = [&["evaluate", "wear.yaml", "--only", "life"], &report[..]].concat();
    done(folder, &evaluate);
    let runs = runs(&server);
    assert_eq!(runs.len(), 2, "{runs:?}");
    let run = |command: &str| {
        runs.iter().find(|r| has(r, "tags", "foreline.command", command)).unwrap().clone()
    };
    assert!(has(&run("train"), "params", "trees", "20"));
    assert!(run("train")["data"]["metrics"].to_string().contains("by_machine.rmse"));
    assert!(run("evaluate")["data"]["metrics"].to_string().contains("cost_per_machine_day"));
    let id = run("evaluate")["info"]["run_id"].as_str().unwrap().to_owned();
    let artifacts = server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={id}")).unwrap();
    assert!(artifacts.contains("report.html"), "{artifacts}");
    drop(server);

    // Without a server the same is in files.
    done(folder, &["train", "wear.yaml", "--only", "state"]);
    done(folder, &["tune", "wear.yaml", "--only", "window"]);
    let files = folder.join(".foreline/mlruns");
    let server = Mlflow::on_files(&files).unwrap().unwrap();
    let runs = self::runs(&server);
    assert_eq!(runs.len(), 1 + 4, "a training and four trials");
    assert!(runs.iter().any(|r| has(r, "params", "trees", "10")));
}

/// All runs of the experiment `wear`.
fn runs(server: &Mlflow) -> Vec<Value> {
    let found = server.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=wear").unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let id = found["experiment"]["experiment_id"].as_str().unwrap();
    let body = format!("{{\"experiment_ids\":[\"{id}\"]}}");
    let answer = server.post("/api/2.0/mlflow/runs/search", &body).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["runs"].as_array().cloned().unwrap_or_default()
}

fn has(run: &Value, kind: &str, key: &str, value: &str) -> bool {
    let pairs = run["data"][kind].as_array();
    pairs.is_some_and(|p| p.iter().any(|p| p["key"] == key && p["value"] == value))
}
