//! Pipelines with their own tests, `tests/cases/*.yaml` and two examples: each must pass at 1 and 3 workers.

use foreline::tests::run_cases;

use super::running;

#[test]
fn the_cases_pass() {
    let root = foreline_tests::root();
    let mut n_cases = 0;
    let cases = std::fs::read_dir(root.join("tests/cases")).unwrap().map(|e| e.unwrap().path());
    let examples = ["model-quality.yaml", "champion-challenger.yaml"];
    let examples = examples.map(|name| root.join("pipelines/examples").join(name));
    for file in cases.chain(examples) {
        if file.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        for workers in [1, 3] {
            for ran in run_cases(&file, "", &running(workers)).expect("the file has no mistakes") {
                let none: [String; 0] = [];
                assert_eq!(ran.differences, none, "{}: {}", file.display(), ran.name);
                n_cases += 1;
            }
        }
    }
    assert!(n_cases >= 6, "only {n_cases} cases ran");
}

#[test]
fn a_wrong_expectation_is_told() {
    let folder = foreline_tests::root().join("tests/cases");
    let text = std::fs::read_to_string(folder.join("features.yaml")).unwrap();
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("features.yaml");
    std::fs::write(&file, text.replace("vibration_mean: 12.5", "vibration_mean: 12.6")).unwrap();
    let ran = run_cases(&file, "mix", &running(1)).expect("the file has no mistakes");
    assert_eq!(ran[0].differences, ["'features' row 2: 'vibration_mean' is 12.5, not 12.6"]);
}
