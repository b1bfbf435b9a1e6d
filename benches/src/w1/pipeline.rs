//! W1 as a user would write it: a pipeline file, planned and run like any other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::AsArray as _;
use arrow::datatypes::Float64Type;
use foreline_engine::{CollectSink, Durable, OnChange, Options, RealDisk, Report, RunId};
use foreline_sdk::linear;
use foreline_sdk::weights::{self, Family, Feature, Header, Missing, Output, OutputKind};
use foreline_spec::{ExtraSink, Kinds, PlanOptions, ProcessEnvironment, RenderStyle, check_text};

use crate::w1::floor::Found;

const CHANNELS: [&str; 3] = ["vibration", "temperature", "pressure"];
/// In the order in which the floor computes them.
const FEATURES: [&str; 8] = ["count", "mean", "std", "min", "max", "rms", "skewness", "kurtosis"];
const WEIGHTS: &str = "w1.weights";

/// Writes the weights of the linear model; the coefficients, channel by channel.
pub(crate) fn write_weights(folder: &Path) -> Result<Vec<f64>> {
    let names = CHANNELS.iter().flat_map(|c| FEATURES.iter().map(move |f| format!("{c}_{f}")));
    let features = names.map(|name| Feature {
        name,
        unit: None,
        missing: Missing::SkipRow,
        trained_range: None,
    });
    let features: Vec<Feature> = features.collect();
    let coefficients: Vec<f64> = (1..=features.len()).map(|i| 0.01 * i as f64).collect();
    let header = Header {
        format: linear::FORMAT,
        name: "w1".to_owned(),
        version: "1.0.0".to_owned(),
        library: "by hand".to_owned(),
        features,
        outputs: vec![Output {
            name: "score".to_owned(),
            kind: OutputKind::AnomalyScore,
            labels: Vec::new(),
        }],
        state_width: 0,
        state_version: 0,
        annotations: Vec::new(),
    };
    let payload = linear::Payload { intercepts: vec![0.0], coefficients: coefficients.clone() };
    let bytes = weights::write(Family::Linear, &header, &payload)
        .map_err(|e| anyhow::anyhow!("the weights: {e}"))?;
    fs::write(folder.join(WEIGHTS), bytes)?;
    Ok(coefficients)
}

fn file(csv: &Path) -> String {
    let features = FEATURES.join(", ");
    let channels = CHANNELS.map(|c| format!("{c}: [{features}]")).join(", ");
    format!(
        "version: 1
sources:
  readings:
    csv: {{ path: '{}' }}
    columns: {{ ts: timestamp, machine: string, vibration: float64, temperature: float64, pressure: float64 }}
    key: [machine]
    time: ts
steps:
  smooth: {{ from: readings, ema: {{ columns: [{}], alpha: 0.1 }} }}
  features: {{ from: smooth, window: {{ tumbling: 10s, features: {{ {channels} }} }} }}
  score: {{ from: features, model: {{ plugin: 'builtin:linear', weights: {WEIGHTS}, output: score }} }}
sinks:
  lake: {{ from: score, parquet: {{ path: lake, if_exists: replace }} }}
",
        csv.display(),
        CHANNELS.join(", ")
    )
}

/// Carries W1 out with so many workers.
pub(crate) fn run(folder: &Path, csv: &Path, workers: usize) -> Result<Report> {
    run_with(folder, csv, workers, Vec::new(), None)
}

/// As [`run`] on one worker, with a journal and a snapshot every second in `data`.
pub(crate) fn run_kept(folder: &Path, csv: &Path, data: &Path) -> Result<Report> {
    run_with(folder, csv, 1, Vec::new(), Some(data))
}

/// Carries W1 out on one worker; how many windows it finds, and the sum of their scores.
pub(crate) fn scores(folder: &Path, csv: &Path) -> Result<(u64, f64)> {
    let (sink, kept) = CollectSink::new(usize::MAX);
    let sink = ExtraSink { name: "kept".into(), stream: "score".into(), sink: Box::new(sink) };
    run_with(folder, csv, 1, vec![sink], None)?;
    let (mut windows, mut sum) = (0, 0.0);
    for batch in kept.batches() {
        let column = batch.rows.column_by_name("score").context("the column 'score'")?;
        windows += batch.len() as u64;
        sum += arrow::compute::sum(column.as_primitive::<Float64Type>()).unwrap_or(0.0);
    }
    Ok((windows, sum))
}

fn run_with(
    folder: &Path,
    csv: &Path,
    workers: usize,
    extra: Vec<ExtraSink>,
    data: Option<&Path>,
) -> Result<Report> {
    let options = PlanOptions {
        checking: false,
        only: None,
        overrides: BTreeMap::new(),
        weights: BTreeMap::new(),
        settings: BTreeMap::new(),
        cache_dir: folder.join("cache"),
    };
    let path = folder.join("w1.yaml");
    let checked = check_text(&path, &file(csv), &Kinds::all(), &ProcessEnvironment, &options);
    let Some(plan) = checked.plan else {
        bail!("{}", checked.diagnostics.render(RenderStyle::PLAIN));
    };
    let graph = plan.graph(extra).context("W1's graph")?;
    let run = RunId(next_run());
    let durable = data.map(|dir| {
        Arc::new(Durable {
            disk: Arc::new(RealDisk),
            dir: dir.to_owned(),
            snapshot_interval: Duration::from_secs(1),
            snapshots_kept: 3,
            journal_limit_bytes: 4 << 30,
            journal_keep_ns: 0,
            journal_segment_bytes: 16 << 20,
            identity: plan.identity(),
            on_change: OnChange::Fresh,
            bounded: true,
        })
    });
    Ok(foreline_engine::run(graph, &Options { workers, run, durable, ..Options::default() })?)
}

/// Runs of one process are numbered.
fn next_run() -> u64 {
    static RUN: AtomicU64 = AtomicU64::new(1);
    RUN.fetch_add(1, Ordering::Relaxed)
}

/// That the engine found what the floor found, so that both did the same job. Their sums run in another order, so
/// the scores agree to nine digits, not in every bit.
pub(crate) fn agrees(folder: &Path, csv: &Path, found: Found) -> Result<()> {
    let (windows, sum) = scores(folder, csv)?;
    ensure!(windows == found.windows, "{windows} windows, the floor has {}", found.windows);
    let off = (sum - found.score_sum).abs() / found.score_sum.abs();
    ensure!(off < 1e-9, "the scores sum to {sum}, those of the floor to {}", found.score_sum);
    Ok(())
}
