//! Diagnosis of rotors and bearings: what holds for the next machine, beside what rows at random pretend.

use std::fs;
use std::path::Path;

use foreline::learning::split::describe;
use foreline::progress::Progress;
use foreline::simulate::rotor::{RotorRigs, write};
use foreline::train::{part, samples_of};
use foreline::validate::{Figures, Validated, validate};

use super::{example, real_data, running};

/// The shares of right classes of a training, by way of parting, and by class where they are grouped.
fn accuracies(file: &Path, training: &str) -> Vec<(String, f64, Validated)> {
    let plan = part(file, training, std::collections::BTreeMap::new()).expect("the file is right");
    let (planned, samples, schema) =
        samples_of(&plan, training, &running(2)).expect("the features are there");
    let splits = planned.validate.iter();
    let judged = splits.map(|split| {
        let validated = validate(planned, &schema, &samples, split, Progress::silent());
        let validated = validated.expect("the rows can be parted so");
        let Figures::Classes(report) = &validated.figures else { panic!("classes") };
        (describe(split), report.accuracy.expect("there are rows"), validated)
    });
    judged.collect()
}

#[test]
fn a_rotor_is_diagnosed_on_rigs_that_were_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rotor-diagnosis.yaml");
    fs::copy(example("rotor-diagnosis.yaml"), &file).unwrap();
    let rigs = RotorRigs { rigs: 6, seconds: 16, ..RotorRigs::default() };
    write(&rigs, &folder.path().join("rotor")).unwrap();
    let found = accuracies(&file, "rotor");
    let [(by_rig, grouped, judged), (_, random, leak)] = &found[..] else { panic!("two ways") };
    println!("rotor: {grouped:.3} {by_rig}, {random:.3} at random");
    assert_eq!(judged.folds.len(), 6, "a part a rig");
    assert!(*grouped >= 0.75, "{grouped} on rigs that were not seen; chance is 0.25");
    assert!(random > grouped, "{random} at random, {grouped} by rig");
    assert!(judged.warning.is_none() && leak.warning.is_some());
}

#[test]
fn bearings_show_how_much_rows_at_random_pretend() {
    let Some(data) = real_data("cwru") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for (defect, files) in [
        ("B", ["B007_0", "B014_0", "B021_0"]),
        ("IR", ["IR007_0", "IR014_0", "IR021_0"]),
        ("OR", ["OR007_at6_0", "OR014_at6_0", "OR021_at6_0"]),
    ] {
        for (name, size) in files.into_iter().zip([7, 14, 21]) {
            let text = fs::read_to_string(data.join(format!("{name}.csv"))).unwrap();
            for (n, value) in text.lines().skip(1).enumerate() {
                rows += &format!("{name},{defect},{size},{n},{}\n", value.trim());
            }
        }
    }
    fs::write(folder.path().join("bearings.csv"), rows).unwrap();
    let file = folder.path().join("bearing-diagnosis.yaml");
    let text = fs::read_to_string(example("bearing-diagnosis.yaml")).unwrap();
    let here = folder.path().display().to_string();
    fs::write(&file, text.replace("${env:CWRU}", &here).replace("trees: 200", "trees: 60"))
        .unwrap();
    let found = accuracies(&file, "bearings");
    let [(by_size, grouped, judged), (_, random, _)] = &found[..] else { panic!("two ways") };
    println!("bearings: {grouped:.3} {by_size}, {random:.3} at random; chance is 0.333");
    assert_eq!(judged.folds.len(), 3, "a part a size");
    assert!(*random > 0.97, "{random} at random");
    assert!(random - grouped > 0.2, "the leak shows: {random} at random, {grouped} by size");
}
