//! The turbofan example on C-MAPSS FD001, as published: it must reach what forests reach.

use std::collections::BTreeMap;

use foreline::evaluate::judge_one;
use foreline::train::fit;

use super::{example, real_data, running};

#[test]
fn fd001_is_predicted_as_well_as_forests_can() {
    let Some(data) = real_data("cmapss") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("turbofan-rul.yaml");
    let text = std::fs::read_to_string(example("turbofan-rul.yaml")).unwrap();
    // The test sets no environment variable: other tests run beside it.
    std::fs::write(&file, text.replace("${env:CMAPSS}", &data.display().to_string())).unwrap();

    // The first flight of each of the 100 engines has no standard deviation and no slope yet.
    let fitted = fit(&file, "turbofan", BTreeMap::new(), &running(2)).expect("training works");
    assert_eq!((fitted.trained.rows_used, fitted.features), (20_531, 56));

    let outline = foreline_spec::outline(&file).unwrap();
    let config = &outline.evaluations["FD001"];
    let judged = judge_one(&file, "FD001", config, BTreeMap::new(), &running(2)).expect("it runs");
    assert_eq!(judged.rows.len(), 100, "every test engine has one prediction");
    assert!(judged.without_prediction.is_empty() && judged.without_truth.is_empty());
    let capped = judged.figures.capped.as_ref().unwrap();
    let (capped_rmse, rmse) = (capped.rmse.unwrap(), judged.figures.uncapped.rmse.unwrap());
    println!("FD001: RMSE {capped_rmse:.2} capped, {rmse:.2} uncapped");
    assert!(capped_rmse <= 14.0, "capped RMSE {capped_rmse}");
    assert!(rmse <= 15.3, "uncapped RMSE {rmse}");
    assert!(capped.score_sum.unwrap() <= 350.0, "capped score {:?}", capped.score_sum);
}
