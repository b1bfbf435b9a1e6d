//! 100 trees of depth 8 over 24 features, 1,024 rows a call: a forest and boosted trees.
//!
//! Each is scored by its plugin with every safety setting on (fuel, memory limit, bounds), by the same evaluator compiled into
//! this program, and the forest by smartcore's own `predict`. `ratio` is the plugin's time over native's. All on one thread; the
//! rows are different ones, so that branches are not learnt by heart.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use foreline_plugins::author::{Subject, bench_on};
use foreline_plugins::builtin;
use foreline_plugins::train::{ModelMeta, TrainingSet, smartcore_forest, train};
use serde::Serialize;
use serde_json::{Value, json};

/// Different rows, learnt from and scored.
pub(crate) const ROWS: u64 = 16_384;
/// Features of a row.
const FEATURES: usize = 24;
/// Rows of a call.
const CALL: usize = 1_024;
/// How long smartcore is measured.
const MEASURED: Duration = Duration::from_millis(500);

/// The figures of one model.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    rows_per_call: usize,
    rows_per_s: f64,
    native_rows_per_s: f64,
    smartcore_rows_per_s: Option<f64>,
    ratio: f64,
    fuel_per_row: u64,
    weights_bytes: usize,
}

pub(crate) fn run(rows: u64, rounds: u32, json: bool) -> Result<()> {
    let set = rows_of(usize::try_from(rows)?.max(CALL));
    let forest = json!({ "trees": 100, "max_depth": 8, "min_samples_leaf": 1 });
    let boosted = json!({ "trees": 100, "max_depth": 8, "max_leaves": 256, "min_samples_leaf": 1 });
    let mut all = Vec::new();
    for (family, params) in [("forest", &forest), ("boosted", &boosted)] {
        let mut best: Option<Figures> = None;
        for _ in 0..rounds.max(1) {
            let found = measure(family, params, &set)?;
            if best.as_ref().is_none_or(|b| found.rows_per_s > b.rows_per_s) {
                best = Some(found);
            }
        }
        all.extend(best);
    }
    report(&all, json)
}

fn measure(family: &str, params: &Value, set: &TrainingSet) -> Result<Figures> {
    let meta = ModelMeta::remaining_life("score", "h");
    let weights = train(family, params, set, &meta)?.weights;
    let cache = tempfile::tempdir().context("a folder for compiled plugins")?;
    let subject = Subject {
        name: format!("builtin:{family}"),
        plugin: builtin(family).context("the plugin comes with Foreline")?.to_vec(),
        weights: weights.clone(),
        config: BTreeMap::new(),
        cache_dir: cache.path().to_owned(),
    };
    let report = bench_on(&subject, &set.x)?;
    let speed = report.batches.iter().find(|b| b.rows == CALL).context("calls of 1,024 rows")?;
    let native = speed.native_rows_per_s.context("the family is one of ours")?;
    let smartcore = if family == "forest" { Some(smartcore(params, set)?) } else { None };
    Ok(Figures {
        model: family.to_owned(),
        rows_per_call: CALL,
        rows_per_s: speed.rows_per_s,
        native_rows_per_s: native,
        smartcore_rows_per_s: smartcore,
        ratio: native / speed.rows_per_s,
        fuel_per_row: speed.fuel_per_row,
        weights_bytes: weights.len(),
    })
}

/// Rows a second of smartcore's own forest, the best call.
#[expect(clippy::disallowed_methods, reason = "measures outside any dataflow")]
fn smartcore(params: &Value, set: &TrainingSet) -> Result<f64> {
    let predict = smartcore_forest(params, set)?;
    let rows = set.x.get(..CALL * FEATURES).ok_or_else(|| anyhow!("too few rows"))?;
    let (mut best, begun) = (Duration::MAX, Instant::now());
    while begun.elapsed() < MEASURED {
        let start = Instant::now();
        std::hint::black_box(predict(rows)?);
        best = best.min(start.elapsed());
    }
    Ok(CALL as f64 / best.as_secs_f64())
}

/// Rows with a target that takes deep trees to learn, the same in every run.
fn rows_of(n: usize) -> TrainingSet {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let x: Vec<f64> = (0..n * FEATURES).map(|_| next() * 10.0).collect();
    let target =
        |row: &[f64]| row.chunks_exact(2).map(|pair| (pair[0] * 0.7).sin() * pair[1]).sum::<f64>();
    TrainingSet {
        feature_names: (0..FEATURES).map(|i| format!("f{i}")).collect(),
        units: vec![None; FEATURES],
        rows: n,
        y: x.chunks_exact(FEATURES).map(target).collect(),
        x,
        ..TrainingSet::default()
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark is what it prints")]
fn report(all: &[Figures], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(all)?);
        return Ok(());
    }
    println!("100 trees of depth 8, {FEATURES} features, {CALL} rows a call, one thread");
    for f in all {
        let smartcore = match f.smartcore_rows_per_s {
            Some(rows) => format!("; smartcore's predict {rows:.0}"),
            None => String::new(),
        };
        println!(
            "{:<8} {:>9.0} rows/s in the sandbox, {:>9.0} native{smartcore}; ratio {:.2}; {} operators a row; weights {} bytes",
            f.model, f.rows_per_s, f.native_rows_per_s, f.ratio, f.fuel_per_row, f.weights_bytes
        );
    }
    Ok(())
}
