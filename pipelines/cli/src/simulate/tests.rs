//! What a simulated fleet must keep to.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;

/// A fleet that is simulated in a blink: lives of about 12 minutes.
fn small() -> PumpFleet {
    PumpFleet { training: 3, live: 4, mean_life_hours: 0.2, ..PumpFleet::default() }
}

/// Faults often enough that a small fleet has each of them.
fn faulty() -> PumpFleet {
    let faults = FaultRates {
        dropout: 0.005,
        stuck: 0.002,
        spike: 0.01,
        empty: 0.01,
        nan: 0.01,
        malformed: 0.01,
        duplicate: 0.01,
        late: 0.05,
        late_s: 4,
        backfill: 0.002,
        backfill_s: 60,
    };
    PumpFleet { faults, ..small() }
}

fn simulate(config: &PumpFleet) -> (TempDir, Written) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let written = write(config, dir.path(), &|_, _| {}).expect("the configuration is valid");
    (dir, written)
}

/// The lines of files, headers checked and left out.
fn lines(files: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("the file was written");
        let rows = text.strip_prefix(HEADER).expect("every file has the header");
        all.extend(rows.lines().map(str::to_owned));
    }
    all
}

/// The fields of the lines that are readings, though perhaps with fields empty or NaN.
fn readings(lines: &[String]) -> Vec<Vec<&str>> {
    let rows = lines.iter().map(|line| line.split(',').collect::<Vec<_>>());
    rows.filter(|row| row.len() == 8 && !row.contains(&"ERR")).collect()
}

/// The rows of the truth by machine, without the header.
fn truth(written: &Written) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(&written.truth).expect("the file was written");
    let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect());
    rows.map(|row: Vec<String>| (row[0].clone(), row)).collect()
}

#[test]
fn equal_configurations_give_equal_bytes_and_other_seeds_do_not() {
    let (_a, one) = simulate(&faulty());
    let (_b, two) = simulate(&faulty());
    let (_c, other) = simulate(&PumpFleet { seed: 8, ..faulty() });
    assert_eq!(lines(&one.train), lines(&two.train));
    assert_eq!(lines(&one.live), lines(&two.live));
    assert_eq!(fs::read(&one.truth).expect("written"), fs::read(&two.truth).expect("written"));
    assert_eq!(one.faults, two.faults);
    assert_ne!(lines(&one.train), lines(&other.train));
}

#[test]
fn the_bytes_stay_what_they_are() {
    let (_dir, written) = simulate(&small());
    let first = lines(&written.train)[0].clone();
    assert_eq!(first, "2026-03-02T06:01:19.249Z,P-002,etch,1.073,44.81,10.315,1.1917,5405");
}

#[test]
fn every_machine_gives_its_readings() {
    let config = PumpFleet { faults: FaultRates::none(), ..small() };
    let (_dir, written) = simulate(&config);
    assert_eq!(written.faults, FaultCounts::default());
    let (train, live) = (lines(&written.train), lines(&written.live));
    assert_eq!((written.train_rows, written.live_rows), (train.len() as u64, live.len() as u64));
    let truth = truth(&written);
    assert_eq!(truth.len(), 7);
    for (machine, row) in &truth {
        let (fleet, last) = (&row[1], &row[3]);
        let rows = readings(if fleet == "train" { &train } else { &live });
        let own: Vec<_> = rows.iter().filter(|reading| reading[1] == machine).collect();
        let hours: f64 =
            row[5].parse::<f64>().expect("a number") - row[4].parse::<f64>().expect("a number");
        assert_eq!(own.len() as f64, (hours * 3_600.0).round(), "{machine}");
        assert_eq!(own.last().map(|reading| reading[0]), Some(last.as_str()));
    }
}

#[test]
fn training_machines_fail_and_live_ones_are_cut_off() {
    let (_dir, written) = simulate(&small());
    for (machine, row) in truth(&written) {
        let failed = ["P-001", "P-002", "P-003", "P-007"].contains(&machine.as_str());
        assert_eq!(row[4] == "0.0000", failed, "{row:?}");
        assert_eq!(row[2] == row[3], failed, "{row:?}");
    }
}

#[test]
fn rows_are_in_order_of_time_when_none_is_late() {
    let config =
        PumpFleet { faults: FaultRates { late: 0.0, backfill: 0.0, ..faulty().faults }, ..small() };
    let (_dir, written) = simulate(&config);
    let lines = lines(&written.train);
    assert!(lines.is_sorted_by(|a, b| a[..24] <= b[..24]));
}

#[test]
fn faults_are_in_the_files_as_often_as_counted() {
    let (_dir, written) = simulate(&faulty());
    let mut all = lines(&written.train);
    all.extend(lines(&written.live));
    let faults = &written.faults;
    let readings = readings(&all);
    let with = |field: &str| readings.iter().filter(|row| row.contains(&field)).count() as u64;
    let malformed = (all.len() - readings.len()) as u64;
    let FaultCounts { dropped, stuck, spikes, empty, nan, duplicates, late, .. } = *faults;
    assert!(
        [dropped, stuck, spikes, empty, nan, malformed, duplicates, late].iter().all(|n| *n > 0)
    );
    // A line that is there twice may be one of these, hence "at least".
    assert!(with("") >= empty && with("") <= empty + duplicates);
    assert!(with("NaN") >= nan && with("NaN") <= nan + duplicates);
    assert!(malformed >= faults.malformed && malformed <= faults.malformed + duplicates);
    let mut times: Vec<&str> = all.iter().map(|line| &line[..30]).collect();
    times.sort_unstable();
    let twice = times.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert_eq!(twice, duplicates);
    let lives: f64 = truth(&written)
        .values()
        .map(|row| {
            row[5].parse::<f64>().expect("a number") - row[4].parse::<f64>().expect("a number")
        })
        .sum();
    let expected = (lives * 3_600.0).round() as u64 - dropped + duplicates;
    assert_eq!(written.train_rows + written.live_rows, expected);
}

#[test]
fn late_rows_are_behind_by_at_most_what_was_asked_for() {
    assert!(behind(&FaultRates { backfill: 0.0, ..faulty().faults }, 4_000) > 10);
}

#[test]
fn what_a_gateway_has_recorded_comes_when_its_network_is_back() {
    let faults = FaultRates { late: 0.0, ..faulty().faults };
    let (_dir, written) = simulate(&PumpFleet { faults: faults.clone(), ..small() });
    assert!(written.faults.backfilled > 100, "{:?}", written.faults);
    assert!(behind(&faults, 200_000) > 20);
}

/// How many lines of the training fleet are behind one of their machine; none by more than `most_ms`.
fn behind(faults: &FaultRates, most_ms: i64) -> u64 {
    let (_dir, written) = simulate(&PumpFleet { faults: faults.clone(), ..small() });
    let second = |row: &str| {
        let part = |at: usize, len: usize| row[at..at + len].parse::<i64>().expect("digits");
        (part(11, 2) * 3_600 + part(14, 2) * 60 + part(17, 2)) * 1_000 + part(20, 3)
    };
    let mut newest = BTreeMap::new();
    let mut behind = 0;
    for line in lines(&written.train) {
        let machine = line[25..30].to_owned();
        let at = second(&line);
        let newest = newest.entry(machine).or_insert(at);
        assert!(*newest - at <= most_ms, "{line}");
        behind += u64::from(at < *newest);
        *newest = at.max(*newest);
    }
    behind
}

#[test]
fn progress_ends_at_the_total() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let calls = std::cell::RefCell::new(Vec::new());
    write(&small(), dir.path(), &|done, total| calls.borrow_mut().push((done, total)))
        .expect("the configuration is valid");
    let calls = calls.into_inner();
    assert!(calls.is_sorted());
    let (done, total) = *calls.last().expect("it is told at least the end");
    assert_eq!(done, total);
    assert!(total > 3_000, "{total}");
}

#[test]
fn files_of_an_earlier_simulation_go_and_others_stay() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir_all(dir.path().join("train")).expect("it can be made");
    let (stale, foreign) =
        (dir.path().join("train/readings-99.csv"), dir.path().join("train/notes.csv"));
    fs::write(&stale, "x").expect("it can be written");
    fs::write(&foreign, "x").expect("it can be written");
    write(&small(), dir.path(), &|_, _| {}).expect("the configuration is valid");
    assert!(!stale.exists() && foreign.exists());
}

#[test]
fn a_configuration_that_cannot_be_says_why() {
    let none = PumpFleet { training: 0, live: 0, ..small() };
    let crowd = PumpFleet { training: u32::MAX, ..small() };
    let still = PumpFleet { interval_ms: 0, ..small() };
    let eternal = PumpFleet { mean_life_hours: f64::NAN, ..small() };
    let dense = PumpFleet { mean_life_hours: 1_000.0, interval_ms: 1, ..small() };
    let certain = PumpFleet { faults: FaultRates { nan: 1.5, ..FaultRates::none() }, ..small() };
    let tardy = PumpFleet { faults: FaultRates { late_s: 4_000, ..FaultRates::none() }, ..small() };
    let cases = [
        (none, "no machine"),
        (crowd, "4294967299 machines"),
        (still, "'interval_ms' is 0"),
        (eternal, "'mean_life_hours' is NaN"),
        (dense, "longer 'interval_ms'"),
        (certain, "'nan' is 1.5"),
        (tardy, "'late_s' is 4000"),
    ];
    for (config, expected) in cases {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let error = write(&config, dir.path(), &|_, _| {}).expect_err("it cannot be");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(
            fs::read_dir(dir.path()).expect("it is there").count(),
            0,
            "nothing was written"
        );
    }
}

#[test]
fn a_configuration_is_read_with_its_defaults_and_without_surprises() {
    let config: PumpFleet =
        serde_json::from_str(r#"{ "live": 5, "faults": { "nan": 0 } }"#).expect("valid");
    assert_eq!((config.live, config.training, config.faults.nan), (5, 40, 0.0));
    assert_eq!(config.faults.late_s, 4);
    assert!(serde_json::from_str::<PumpFleet>(r#"{ "machines": 5 }"#).is_err());
}
