//! Detection and quality flags on recorded machines: counts and times that the description of the data demands.
//!
//! The files are not part of the project: `FORELINE_DATA` names their folder, otherwise `shared/data` beside the
//! checkout is looked for, and these tests say that they were skipped.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use foreline_engine::TimeDomain::UtcNanos;
use serde_json::json;

use crate::testing::recorded::recorded;
use crate::testing::{Cell, Outcome, Table, once};

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds of `2020-10-21 17:30:00`, taken for UTC.
pub(crate) fn nanos(stamp: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| stamp[range].parse::<i64>().expect("digits");
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    // Days since 1970-03-01, counting years from March so that a leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    (days * 86_400 + part(11..13) * 3_600 + part(14..16) * 60 + part(17..19)) * SECOND
}

/// The dryer fan of 2020: `vz` is the velocity along Z in mm/s.
pub(crate) fn dryer(path: &Path) -> Table {
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let mut table = String::from("machine,ts,vz\n");
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.trim().split(';').collect();
        let value = fields[5].replace(',', ".");
        writeln!(table, "fan,{},{value}", nanos(fields[1])).expect("text takes text");
    }
    Table::parse(UtcNanos, &table)
}

/// The columns of `outcome` that are called `names`, for the next step.
fn next(outcome: &Outcome, names: &[&str]) -> Table {
    let header: Vec<String> = names.iter().map(|name| format!("{name}:bool")).collect();
    let mut text = format!("machine,ts,{}\n", header.join(","));
    for row in &outcome.rows {
        let values = names.iter().map(|name| {
            let place = outcome.schema.index_of(name).expect("the column is there");
            format!("{:?}", row.cells[place])
        });
        let values = values.collect::<Vec<_>>().join(",");
        writeln!(text, "fan,{},{values}", row.time).expect("text takes text");
    }
    Table::parse(UtcNanos, &text)
}

/// The times of the rows in which a column is true.
fn raised(outcome: &Outcome, name: &str) -> Vec<i64> {
    let is_true = outcome.column(name).into_iter().map(|cell| cell == Cell::Bool(true));
    let times = outcome.rows.iter().zip(is_true).filter(|(_, is_true)| *is_true);
    times.map(|(row, _)| row.time).collect()
}

#[test]
fn the_dryer_fan_alarms_when_its_bearing_fails_and_not_before() {
    let Some(path) = recorded("dryer_fan/dryer_3_fan_1_2020.csv") else { return };
    let readings = dryer(&path);
    assert_eq!(readings.len(), 2_695);
    // ISO 10816-3, group 2, rigid.
    let levels = json!({ "columns": { "vz": {
        "b": { "above": 1.4 }, "c": { "above": 2.8 }, "d": { "above": 4.5 } } } });
    let levels = once("threshold", &levels, &readings);
    let before = |outcome: &Outcome, name: &str, stamp: &str| {
        raised(outcome, name).iter().filter(|&&at| at < nanos(stamp)).count()
    };
    let exceeded = ["vz_b", "vz_c", "vz_d"].map(|c| before(&levels, c, "2020-10-20 00:00:00"));
    assert_eq!(exceeded, [9, 1, 0], "single rows above the limits before the damage");

    let columns = ["vz_b", "vz_c", "vz_d"];
    let lasting = json!({ "columns": columns, "k": 3, "rows": 3 });
    let lasting = once("k_of_n", &lasting, &next(&levels, &columns));
    for column in columns {
        assert_eq!(raised(&lasting, column)[0], nanos("2020-10-21 17:30:00"), "{column}");
    }
}

#[test]
fn what_has_learnt_the_dryer_fan_finds_its_damage_within_the_hour_and_nothing_before() {
    let Some(path) = recorded("dryer_fan/dryer_3_fan_1_2020.csv") else { return };
    let readings = dryer(&path);
    let learn = json!({ "rows": 1000 });
    for (kind, config, alarm) in [
        (
            "cusum",
            json!({ "columns": ["vz"], "learn": learn, "slack": 1, "limit": 20 }),
            "vz_cusum_alarm",
        ),
        ("ewma_chart", json!({ "columns": ["vz"], "learn": learn, "sigmas": 6 }), "vz_ewma_alarm"),
        (
            "page_hinkley",
            json!({ "columns": ["vz"], "limit": 10, "delta": 0.3 }),
            "vz_page_hinkley_drift",
        ),
    ] {
        let first = raised(&once(kind, &config, &readings), alarm)[0];
        let hour = nanos("2020-10-21 16:30:00")..=nanos("2020-10-21 17:30:00");
        assert!(hour.contains(&first), "{kind} alarms at {first}");
    }
}

/// The wireless sensors: rows of each sensor by arrival, `rms` (whole mg) and velocity `v` (whole 0.01 mm/s) along X,
/// and the device's clock.
fn xep(folder: &Path) -> Table {
    let mut sensors: BTreeMap<String, Vec<(i64, String, String, i64)>> = BTreeMap::new();
    for week in ["06032023_12032023", "08052023_14052023", "05062023_11062023", "04092023_10092023"]
    {
        let path = folder.join(format!("vibrationdata_{week}.csv"));
        let text = std::fs::read_to_string(path).expect("the file can be read");
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            // Repeated headers and stubs are malformed; a source has them as dead letters.
            let (Ok(at), Ok(clock)) = (fields[0].parse::<i64>(), fields[40].parse::<i64>()) else {
                continue;
            };
            let rows = sensors.entry(fields[1].to_owned()).or_default();
            let (rms, v) = (fields[12].to_owned(), fields[10].to_owned());
            rows.push((at * 1_000_000, rms, v, clock * SECOND));
        }
    }
    let mut table = String::from("sensor,ts,rms,v,clock:time\n");
    for (sensor, mut rows) in sensors {
        rows.sort_by_key(|row| row.0);
        for (at, rms, v, clock) in rows {
            writeln!(table, "{sensor},{at},{rms},{v},{clock}").expect("text takes text");
        }
    }
    Table::parse(UtcNanos, &table)
}

/// How many values each of the tests has flagged.
fn n_flagged(outcome: &Outcome, column: &str, test: &str) -> usize {
    let has = |cell: &Cell| matches!(cell, Cell::Text(t) if t.split('+').any(|t| t == test));
    outcome.column(&format!("{column}_tests")).iter().filter(|cell| has(cell)).count()
}

#[test]
fn the_clocks_of_wireless_sensors_are_found_to_be_years_behind() {
    let Some(folder) = recorded("xep_vibration") else { return };
    let readings = xep(&folder);
    let config = json!({
        "columns": { "rms": {} },
        "device_clock": { "column": "clock", "suspect": "30m", "fail": "1d" }
    });
    let outcome = once("quality", &config, &readings);
    assert_eq!((outcome.rows.len(), outcome.dead.len()), (6_476, 0));
    assert_eq!(n_flagged(&outcome, "rms", "device_clock"), 3_415);
    let failed = outcome.numbers("rms_flag").iter().filter(|&&f| f == Some(4.0)).count();
    assert_eq!(failed, 3_415);
}

#[test]
fn a_sensor_in_steps_seems_to_stick_where_a_finer_one_does_not() {
    let Some(folder) = recorded("xep_vibration") else { return };
    let flat = json!({ "flat_line": { "suspect": "6h", "fail": "24h" } });
    let config = json!({ "columns": { "rms": flat, "v": flat }, "max_gap": "2h" });
    let outcome = once("quality", &config, &xep(&folder));
    let failed = outcome.numbers("rms_flag").iter().filter(|&&f| f == Some(4.0)).count();
    // At the noise floor two thirds of the values along X are 4 mg: a flat line that is no fault.
    assert_eq!((n_flagged(&outcome, "rms", "flat_line"), failed), (2_438, 1_237));
    assert_eq!(n_flagged(&outcome, "v", "flat_line"), 0);
}
