//! The turbofan examples on C-MAPSS, as published: they must reach what forests reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreline::evaluate::judge_one;
use foreline::train::{fit, statistics};

use super::{example, real_data, running};

/// An example in `folder`, told where the data lie. No environment variable is set, since other tests run beside this one.
fn written(folder: &Path, name: &str, data: &Path) -> PathBuf {
    let file = folder.join(name);
    let text = std::fs::read_to_string(example(name)).unwrap();
    std::fs::write(&file, text.replace("${env:CMAPSS}", &data.display().to_string())).unwrap();
    file
}

/// What an evaluation says of all engines: RMSE with capped and with uncapped truth.
fn judged(file: &Path, name: &str, n_engines: usize) -> (f64, f64) {
    let outline = foreline_spec::outline(file).unwrap();
    let config = &outline.evaluations[name];
    let judged = judge_one(file, name, config, BTreeMap::new(), &running(2)).expect("it runs");
    assert_eq!(judged.rows.len(), n_engines, "every test engine has one prediction");
    assert!(judged.without_prediction.is_empty() && judged.without_truth.is_empty());
    let capped = judged.figures.as_ref().unwrap().capped.as_ref().unwrap().rmse.unwrap();
    (capped, judged.figures.as_ref().unwrap().uncapped.rmse.unwrap())
}

#[test]
fn fd002_needs_each_regime_scaled_by_itself() {
    let Some(data) = real_data("cmapss") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "turbofan-regimes.yaml", &data);
    // Half the trees take half the time, and cost 0.1 of RMSE.
    let text = std::fs::read_to_string(&file).unwrap().replace("trees: 60", "trees: 30");
    std::fs::write(&file, &text).unwrap();

    let outline = foreline_spec::outline(&file).unwrap();
    assert_eq!(outline.order, ["scaling", "turbofan"]);
    let scaling = statistics::fit(&file, "scaling", BTreeMap::new(), &running(2));
    let scaling = scaling.expect("the scaler can be fitted");
    assert_eq!(scaling.summary, "14 columns of 53759 rows in 6 regimes");
    fit(&file, "turbofan", BTreeMap::new(), &running(2)).expect("training works");
    let (capped, uncapped) = judged(&file, "FD002", 259);

    std::fs::write(&file, text.replace("from: scaled", "from: flights")).unwrap();
    fit(&file, "turbofan", BTreeMap::new(), &running(2)).expect("training works");
    let (without, _) = judged(&file, "FD002", 259);

    println!(
        "FD002: RMSE {capped:.2} capped, {uncapped:.2} uncapped; {without:.2} without scaling"
    );
    assert!(capped <= 15.0, "capped RMSE {capped}");
    assert!(uncapped <= 27.5, "uncapped RMSE {uncapped}");
    assert!(without - capped >= 2.5, "without scaling the capped RMSE is {without}");
}

#[test]
fn fd001_is_predicted_as_well_as_forests_can() {
    let Some(data) = real_data("cmapss") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "turbofan-rul.yaml", &data);

    // The first flight of each engine has no standard deviation and no slope yet, which boosted trees can do without.
    let fitted = fit(&file, "turbofan", BTreeMap::new(), &running(2)).expect("training works");
    assert_eq!((fitted.trained.rows_used, fitted.features), (20_631, 56));

    let outline = foreline_spec::outline(&file).unwrap();
    let config = &outline.evaluations["FD001"];
    let judged = judge_one(&file, "FD001", config, BTreeMap::new(), &running(2)).expect("it runs");
    assert_eq!(judged.rows.len(), 100, "every test engine has one prediction");
    assert!(judged.without_prediction.is_empty() && judged.without_truth.is_empty());
    let capped = judged.figures.as_ref().unwrap().capped.as_ref().unwrap();
    let (capped_rmse, rmse) =
        (capped.rmse.unwrap(), judged.figures.as_ref().unwrap().uncapped.rmse.unwrap());
    println!("FD001: RMSE {capped_rmse:.2} capped, {rmse:.2} uncapped");
    assert!(capped_rmse <= 14.0, "capped RMSE {capped_rmse}");
    assert!(rmse <= 15.3, "uncapped RMSE {rmse}");
    assert!(capped.score_sum.unwrap() <= 350.0, "capped score {:?}", capped.score_sum);
}
