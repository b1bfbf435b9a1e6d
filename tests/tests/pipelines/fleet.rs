//! The demo's pipeline on a small fleet: simulate, train, run, evaluate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow::array::{AsArray as _, Float64Array};
use arrow::datatypes::Float64Type;
use foreline::evaluate::judge_one;
use foreline::run::carry_out;
use foreline::session::{Purpose, keep, load};
use foreline::simulate::{self, FaultRates, PumpFleet};
use foreline::train::fit;
use foreline_engine::OnChange;
use foreline_sdk::trees;
use foreline_spec::Only;
use tempfile::TempDir;

use super::{Format, files_below, plan, running};

/// A folder with a simulated fleet and trained weights, made once.
fn trained() -> &'static Path {
    static FLEET: OnceLock<TempDir> = OnceLock::new();
    let made = FLEET.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let fleet = PumpFleet {
            training: 6,
            live: 4,
            mean_life_hours: 0.8,
            faults: FaultRates { malformed: 0.002, duplicate: 0.002, ..FaultRates::default() },
            ..PumpFleet::default()
        };
        simulate::write(&fleet, folder.path(), &|_, _| {}).unwrap();
        let file = copy_of_quickstart(folder.path());
        let inputs = foreline_spec::outline(&file).unwrap().trainings["pump"].clone();
        fit(&file, "pump", inputs, &running(2)).expect("training works");
        folder
    });
    made.path()
}

fn copy_of_quickstart(folder: &Path) -> PathBuf {
    let file = folder.join("quickstart.yaml");
    std::fs::copy(super::example("quickstart.yaml"), &file).unwrap();
    file
}

/// The same pipeline and inputs in a folder of its own, so that tests do not share an output.
fn own_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files_below(trained()) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let file = folder.path().join("quickstart.yaml");
    (folder, file)
}

#[test]
fn the_files_have_the_same_bytes_at_1_2_and_3_workers() {
    let mut first: Option<BTreeMap<PathBuf, Vec<u8>>> = None;
    // In one folder: dead letters name the file they come from.
    let (folder, file) = own_folder();
    for workers in [1, 2, 3] {
        let (report, _) =
            carry_out(&plan(&file), &running(workers), OnChange::Fresh).expect("the run works");
        assert!(report.accounts.values().all(foreline_engine::Account::balances));
        let mut files = files_below(&folder.path().join("lake"));
        files.retain(|name, _| name.extension().is_some_and(|e| e == "parquet"));
        assert!(files.len() >= 3, "features, rul and dead letters: {:?}", files.keys());
        match &first {
            None => first = Some(files),
            Some(first) => {
                assert_eq!(first.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
                for (name, bytes) in &files {
                    assert!(
                        first[name] == *bytes,
                        "{} differs at {workers} workers",
                        name.display()
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_trained_on_is_what_is_scored_bit_by_bit() {
    let (folder, file) = own_folder();
    // The same readings once as training sees them and once as the live run does.
    let live = folder.path().join("live/*.csv");
    let inputs =
        BTreeMap::from([("readings".to_owned(), foreline_spec::SourceOverride::Path(live))]);
    let purpose = Purpose::part(Only::Training("pump".to_owned()), inputs);
    let training = load(&file, Format::Text, purpose).expect("no mistakes");
    let trained_on = keep(&training, &["features"], 3, None).expect("runs");
    let scored = keep(&plan(&file), &["features", "rul"], 2, None).expect("runs");
    assert_eq!(trained_on.streams["features"].1.rows, scored.streams["features"].1.rows);

    // And what the sandbox answers is what the trained trees answer natively.
    let weights = std::fs::read(folder.path().join("models/pump.weights")).unwrap();
    let weights = foreline_sdk::weights::read(&weights).unwrap();
    let names: Vec<String> = weights.header.features.iter().map(|f| f.name.clone()).collect();
    let forest = trees::Forest::new(weights.payload().unwrap(), names.len()).unwrap();
    let (schema, rul) = &scored.streams["rul"];
    let matrix = foreline::learning::matrix(rul, schema, &names).unwrap();
    let predicted: &Float64Array =
        rul.rows.column_by_name("rul_hours").unwrap().as_primitive::<Float64Type>();
    let mut compared = 0;
    for (row, features) in matrix.chunks_exact(names.len()).enumerate() {
        if features.iter().any(|f| f.is_nan()) {
            assert!(arrow::array::Array::is_null(predicted, row));
            continue;
        }
        let mut native = [0.0];
        forest.score(features, &mut native);
        assert_eq!(predicted.value(row).to_bits(), native[0].to_bits(), "row {row}");
        compared += 1;
    }
    assert!(compared > 50, "only {compared} rows were compared");
}

#[test]
fn the_model_is_better_than_guessing_the_mean() {
    let (_folder, file) = own_folder();
    let outline = foreline_spec::outline(&file).unwrap();
    let config = &outline.evaluations["live"];
    let evaluated = judge_one(&file, "live", config, BTreeMap::new(), &running(2)).expect("runs");
    assert_eq!(evaluated.rows.len(), 4);
    assert!(evaluated.without_truth.is_empty());
    assert_eq!(evaluated.without_prediction.len(), 6, "the training machines");
    let truths: Vec<f64> = evaluated.rows.iter().map(|r| r.truth).collect();
    let mean = truths.iter().sum::<f64>() / truths.len() as f64;
    let guess = (truths.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
    let rmse = evaluated.figures.as_ref().unwrap().uncapped.rmse.unwrap();
    assert!(rmse < guess, "RMSE {rmse}, guessing the mean {guess}");
}

#[test]
fn faults_of_the_fleet_end_up_where_they_belong() {
    let (_folder, file) = own_folder();
    let (report, _) = carry_out(&plan(&file), &running(2), OnChange::Fresh).expect("the run works");
    let readings = report.accounts["readings"];
    let reasons = &report.dead["readings"];
    assert!(reasons["field_count"] > 0 && reasons["bad_value"] > 0, "{reasons:?}");
    assert!(readings.deduplicated > 0, "{readings:?}");
    assert_eq!(readings.dead + readings.late, reasons.values().sum::<u64>());
    assert_eq!(report.written["rejects/dead_letters"], reasons.values().sum::<u64>());
}
