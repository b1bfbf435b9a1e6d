//! What is told of random rows, in all ways and with late rows, against a walk from first principles.

use std::collections::BTreeSet;

use super::*;
use walk::{Case, Change, Seen};

mod walk;

/// What was told, by key.
fn told(outcome: &Outcome) -> BTreeMap<String, Vec<Change>> {
    let whole = |cell: &Cell| match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        other => panic!("{other:?} is no text"),
    };
    let mut by_key: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for row in &outcome.rows {
        let cell = |name: &str| &row.cells[outcome.schema.index_of(name).unwrap()];
        let sure = |name: &str| whole(cell(name)).unwrap();
        let is = |name: &str| *cell(name) == Cell::Bool(true);
        by_key.entry(text(&row.cells[0])).or_default().push((
            row.time,
            row.position,
            text(cell("change")),
            sure("sequence"),
            sure("severity"),
            sure("first_seen"),
            sure("raised_at"),
            whole(cell("cleared_at")),
            is("flapping"),
            is("inhibited"),
            text(cell("evidence")),
        ));
    }
    by_key
}

/// An id stands for one alert, and an alert has one id.
fn ids_tell_alerts_apart(outcome: &Outcome) {
    let (ids, changes) = (texts(outcome, "alert"), texts(outcome, "change"));
    let mut open = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for ((row, id), change) in outcome.rows.iter().zip(ids).zip(changes) {
        if change == "raised" {
            assert!(seen.insert(id.clone()), "{id} is raised twice");
            assert_eq!(open.insert(row.hash, id), None, "two are open at once");
        } else if change == "updated" {
            assert_eq!(open.get(&row.hash), Some(&id));
        } else {
            assert_eq!(open.remove(&row.hash), Some(id));
        }
    }
}

/// Whether what is told of random rows, in all ways and with late rows, is what the walk finds.
fn agrees(case: &Case, seeds: std::ops::Range<u64>) {
    let mut n_changes = 0;
    for seed in seeds {
        let input = Table::random(seed, 110, Logical);
        let outcome = sameness("alert", &case.config(), &input);
        ids_tell_alerts_apart(&outcome);
        let mut expected = BTreeMap::new();
        for (key, rows) in input.by_key() {
            let rows: Vec<Seen> = rows.into_iter().map(|row| case.seen(&input, row)).collect();
            let history = case.history(&rows);
            n_changes += history.len();
            if !history.is_empty() {
                expected.insert(key, history);
            }
        }
        assert_eq!(told(&outcome), expected, "seed {seed}, {case:?}");
    }
    assert!(n_changes > 10, "{n_changes} changes say little of {case:?}");
}

#[test]
fn agrees_on_delays() {
    let case = Case { hold: 10, clear_for: 14, ..Case::default() };
    agrees(&case, 0..1);
    agrees(&Case { clear: Some(19.6), ..case.clone() }, 2..3);
    let gaps = Case { hold: 22, clear_for: 8, max_gap: Some(20), ..Case::default() };
    agrees(&gaps, 3..5);
    agrees(&Case { hold: 0, clear: Some(19.8), clear_for: 0, ..case }, 4..5);
}

#[test]
fn agrees_on_counts() {
    let rows = Case { of_rows: Some((2, 3)), ..Case::default() };
    agrees(&rows, 10..11);
    agrees(&Case { hold: 12, max_gap: Some(30), clear: Some(19.6), ..rows }, 11..13);
    let time = Case { of_time: Some((2, 40)), hold: 5, clear_for: 9, ..Case::default() };
    agrees(&time, 13..15);
}

#[test]
fn agrees_on_severities_and_what_inhibits() {
    let levels = vec![(2, 19.8), (4, 20.2), (5, 20.7)];
    let case = Case { levels, unless: Some(600.0), ..Case::default() };
    agrees(&case, 20..21);
    agrees(&Case { hold: 9, clear_for: 9, unless_clears: true, ..case.clone() }, 22..24);
    agrees(&Case { clear: Some(19.2), of_rows: Some((2, 4)), ..case }, 24..26);
}

#[test]
fn agrees_on_what_flaps() {
    let case = Case { flapping: Some((1, 60)), ..Case::default() };
    agrees(&case, 30..31);
    let levels = vec![(1, 19.8), (3, 20.4)];
    let case = Case { levels, unless: Some(800.0), hold: 4, ..case };
    agrees(&case, 32..34);
    agrees(&Case { clear_for: 20, unless_clears: true, ..case }, 34..36);
}

#[test]
fn agrees_on_silence() {
    let case = Case { deadman: Some(20), ..Case::default() };
    agrees(&case, 40..41);
    agrees(&Case { clear_for: 15, unless: Some(300.0), ..case.clone() }, 42..44);
    agrees(&Case { flapping: Some((1, 90)), ..case }, 44..46);
}
