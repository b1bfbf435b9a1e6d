//! Parts of small fleets, followed by hand.

use foreline_plugins::train::TrainingSet;

use super::*;
use crate::learning::Life;

/// Machines with lives that end at given times; rows at every whole time from the start on.
fn samples(machines: &[&[(i64, Option<i64>)]], to: i64) -> Samples {
    let (mut groups, mut times, mut life_of, mut lives) = (vec![], vec![], vec![], vec![]);
    let mut uncapped = vec![];
    for (machine, of_machine) in (0..).zip(machines) {
        for &(start, end) in *of_machine {
            let number = u32::try_from(lives.len()).unwrap();
            lives.push(Life { start, end });
            for time in start..=end.unwrap_or(to) {
                groups.push(machine);
                times.push(time);
                life_of.push(number);
                uncapped.push(end.map_or(f64::NAN, |end| (end - time) as f64));
            }
        }
    }
    let rows = times.len();
    let set = TrainingSet {
        feature_names: vec!["x".to_owned()],
        units: vec![None],
        rows,
        x: vec![0.0; rows],
        y: uncapped.clone(),
        labels: vec![],
        groups,
    };
    let names = (0..machines.len()).map(|n| format!("P-{n}")).collect();
    Samples::by_hand(set, names, times, life_of, lives, uncapped)
}

fn split(by: SplitBy) -> ValidateConfig {
    ValidateConfig { by, folds: None, look_back: None, seed: 0 }
}

/// Twelve machines of one life each.
fn fleet() -> Samples {
    let lives: Vec<[(i64, Option<i64>); 1]> = (0..12).map(|n| [(0, Some(5 + n))]).collect();
    let lives: Vec<&[(i64, Option<i64>)]> = lives.iter().map(|l| &l[..]).collect();
    samples(&lives, 0)
}

/// One machine that failed at 9, 19, 29 and goes on to 35.
fn one() -> Samples {
    samples(&[&[(0, Some(9)), (10, Some(19)), (20, Some(29)), (30, None)]], 35)
}

#[test]
fn machines_stay_whole_and_each_is_predicted_once() {
    let samples = fleet();
    let folds = folds(&split(SplitBy::Machine), &samples).unwrap();
    assert_eq!(folds.len(), 5);
    let mut predicted: Vec<usize> = folds.iter().flat_map(|f| f.predict.clone()).collect();
    predicted.sort_unstable();
    assert_eq!(predicted, (0..samples.set.rows).collect::<Vec<_>>());
    for fold in &folds {
        let of = |rows: &[usize]| -> std::collections::BTreeSet<u32> {
            rows.iter().map(|&row| samples.set.groups[row]).collect()
        };
        assert!(of(&fold.learn).is_disjoint(&of(&fold.predict)), "{}", fold.name);
        assert_eq!(fold.learn.len() + fold.predict.len(), samples.set.rows);
    }
}

#[test]
fn another_seed_deals_otherwise_and_the_same_one_does_not() {
    let samples = fleet();
    let of = |seed| folds(&ValidateConfig { seed, ..split(SplitBy::Machine) }, &samples).unwrap();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn a_life_is_predicted_from_those_that_had_ended() {
    let samples = one();
    let found = folds(&split(SplitBy::Interval), &samples).unwrap();
    let names: Vec<&str> = found.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["life 2 of P-0", "life 3 of P-0"], "nothing comes before the first");
    assert_eq!(found[1].learn, (0..20).collect::<Vec<_>>());
    assert_eq!(found[1].predict, (20..30).collect::<Vec<_>>());
    let short = ValidateConfig { look_back: Some(1), ..split(SplitBy::Interval) };
    assert_eq!(folds(&short, &samples).unwrap()[1].learn, (10..20).collect::<Vec<_>>());
    let last = ValidateConfig { folds: Some(1), ..split(SplitBy::Interval) };
    assert_eq!(folds(&last, &samples).unwrap().len(), 1);
}

#[test]
fn machines_that_live_at_once_have_no_order() {
    let error = folds(&split(SplitBy::Interval), &fleet()).unwrap_err().to_string();
    assert!(error.contains("by: machine"), "{error}");
}

#[test]
fn in_the_order_of_time_a_row_counts_once_its_life_has_ended() {
    let samples = one();
    let folds = folds(&split(SplitBy::Time), &samples).unwrap();
    for fold in &folds {
        let begins = fold.predict.iter().map(|&row| samples.times[row]).min().unwrap();
        for &row in &fold.learn {
            let end = samples.lives[samples.life_of[row] as usize].end;
            assert!(end.is_some_and(|end| end < begins), "{}: row {row}", fold.name);
        }
    }
    // Of six stretches of six rows the first that is predicted begins at 12, when one life had ended.
    assert_eq!(folds[0].learn, (0..10).collect::<Vec<_>>());
}

#[test]
fn one_machine_cannot_be_held_back() {
    let error = folds(&split(SplitBy::Machine), &one()).unwrap_err().to_string();
    assert!(error.contains("one machine only") && error.contains("by: time"), "{error}");
}

#[test]
fn the_usual_way_fits_the_data() {
    assert_eq!(usual(&fleet()).by, SplitBy::Machine);
    assert_eq!(usual(&one()).by, SplitBy::Interval);
    assert_eq!(usual(&samples(&[&[(0, None)]], 9)).by, SplitBy::Time);
}

#[test]
fn rows_at_random_are_on_both_sides() {
    let samples = fleet();
    let folds = folds(&split(SplitBy::Row), &samples).unwrap();
    let machines = |rows: &[usize]| -> std::collections::BTreeSet<u32> {
        rows.iter().map(|&row| samples.set.groups[row]).collect()
    };
    assert!(!machines(&folds[0].learn).is_disjoint(&machines(&folds[0].predict)));
}
