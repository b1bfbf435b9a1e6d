//! The public data sets: counts are those of their description, sums those that pandas gives.
//!
//! `real_data.md` beside this file has the commands. The files are not part of the project: set
//! `FORELINE_DATA` to their folder, otherwise these tests say that they were skipped.

use super::*;

/// The folder `set`, or nothing and a notice when the data is not there.
fn data(set: &str) -> Option<PathBuf> {
    let given = std::env::var_os("FORELINE_DATA").map(PathBuf::from);
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let beside = || Path::new(&own).join("../../../shared/data");
    let folder = given.unwrap_or_else(beside).join(set);
    if !folder.is_dir() {
        println!("SKIPPED: there is no '{}' (FORELINE_DATA)", folder.display());
        return None;
    }
    Some(folder)
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found}, not {expected}");
}

#[test]
fn cmapss() {
    let Some(folder) = data("cmapss") else { return };
    let mut columns = json!({ "unit": "int64", "cycle": "int64" });
    for i in 1..=24 {
        columns[format!("c{i}")] = json!("float64");
    }
    for (file, n_rows) in [
        ("train_FD001", 20_631),
        ("test_FD001", 13_096),
        ("train_FD002", 53_759),
        ("test_FD002", 33_991),
    ] {
        let csv = json!({ "path": format!("{file}.txt"), "header": false, "delimiter": "blank" });
        let found = Declared::new(&folder, csv, &columns, &["unit"], "cycle").read();
        assert_eq!((found.positions.len(), found.dead.len()), (n_rows, 0), "{file}");
        if file == "train_FD001" {
            let cycles = found.rows.column(1).as_primitive::<Int64Type>();
            assert_eq!(arrow::compute::sum(cycles), Some(2_244_815));
            close(found.sum("c7"), 29_067_712.85);
        }
    }
}

#[test]
fn cmapss_labels() {
    let Some(folder) = data("cmapss") else { return };
    let columns = json!({
        "unit": { "type": "int64", "field": "#row" },
        "file": { "type": "string", "field": "#file" },
        "rul": { "type": "int64", "field": 1 },
    });
    for (file, n_rows) in [("RUL_FD001.txt", 100), ("RUL_FD002.txt", 259)] {
        let csv = json!({ "path": file, "header": false, "delimiter": "blank" });
        let found = Declared::new(&folder, csv, &columns, &["file"], "unit").read();
        assert_eq!((found.positions.len(), found.dead.len()), (n_rows, 0), "{file}");
    }
}

#[test]
fn dryer_fan() {
    let Some(folder) = data("dryer_fan") else { return };
    let files = [
        ("dryer_3_fan_1_2020.csv", 2_695, "Timestamp", "Z_Axis_RMS_Velocity"),
        ("dryer_3_fan_1_2021.csv", 1_902, "time_local", "Z_Axis_RMS_Velocity_mm_sec"),
        ("Ess_3_Basso_2021.csv", 4_128, "time_local", "Z_Axis_RMS_Velocity_mm_sec"),
    ];
    for (file, n_rows, time, velocity) in files {
        let columns = json!({
            "machine": { "type": "string", "field": "#file" },
            "ts": { "type": "timestamp", "field": time, "zone": "Europe/Rome" },
            "z_velocity": { "type": "float64", "field": velocity, "unit": "mm/s" },
        });
        let csv = json!({ "path": file, "delimiter": ";", "decimal": "," });
        let found = Declared::new(&folder, csv, &columns, &["machine"], "ts").read();
        assert_eq!((found.positions.len(), found.dead.len()), (n_rows, 0), "{file}");
        if file == "dryer_3_fan_1_2020.csv" {
            let stamps = found.rows.column(1).as_primitive::<TimestampNanosecondType>();
            assert_eq!(stamps.value(0), 1_597_665_600_000_000_000, "2020-08-17T12:00:00Z");
            close(found.sum("z_velocity"), 2_528.268);
        }
    }
}

#[test]
fn xep_vibration() {
    let Some(folder) = data("xep_vibration") else { return };
    let malformed: [(&str, &[u64]); 4] = [
        ("06032023_12032023", &[721, 722, 770, 771]),
        ("08052023_14052023", &[853, 854, 943, 944, 1033, 1034, 1123, 1124]),
        ("05062023_11062023", &[70, 71, 139, 140]),
        ("04092023_10092023", &[100, 101, 285, 286, 299, 300, 381, 382]),
    ];
    let columns = json!({
        "ts": { "type": "timestamp", "field": "Timestamp", "format": "epoch_ms" },
        "sensor": { "type": "string", "field": "SensorID" },
        "seq": { "type": "int64", "field": "SequenceNumber" },
        "x_rms": { "type": "float64", "field": "XRMSmg" },
        "device_time": { "type": "timestamp", "field": "DeviceTime", "format": "epoch_s" },
    });
    let csv = json!({ "path": "vibrationdata_*.csv" });
    let source = Declared::new(&folder, csv, &columns, &["sensor"], "ts");
    let found = source.read();
    assert_eq!((found.positions.len(), found.dead.len()), (6_476, 24));
    // The files are read in the order of their first event time, not of their names.
    let expected: Vec<u64> =
        malformed.iter().flat_map(|(_, lines)| lines.iter().copied()).collect();
    assert_eq!(found.dead_lines(), expected);
    let names = source.open();
    for letter in &found.dead {
        let partition = Position(letter.position.unwrap()).partition();
        let (file, _) = malformed[partition.0 as usize];
        assert!(names.partition_name(partition).unwrap().contains(file));
    }
    close(found.sum("x_rms"), 133_716.0);
    assert_eq!(found, source.read_by(1_000));
}

#[test]
fn machinestatus() {
    let Some(folder) = data("xep_vibration") else { return };
    let columns = json!({
        "ts": { "type": "timestamp", "field": "Timestamp", "format": "epoch_ms" },
        "uid": { "type": "string", "field": "UID" },
        "machine1": "int64",
        "machine21": "float64",
    });
    let csv = json!({ "path": "machinestatus_08052023_14052023.csv" });
    let found = Declared::new(&folder, csv, &columns, &["uid"], "ts").read();
    assert_eq!((found.positions.len(), found.dead.len()), (30_291, 0));
    assert_eq!(found.rows.column(2).null_count(), 30_291 - 10_094);
}

#[test]
fn nab() {
    let Some(folder) = data("nab") else { return };
    let columns = json!({
        "series": { "type": "string", "field": "#file" }, "timestamp": "timestamp", "value": "float64",
    });
    for (name, n_rows) in [("machine", 22_695), ("ambient", 7_267)] {
        let csv = json!({ "path": format!("{name}_temperature_system_failure.csv") });
        let found = Declared::new(&folder, csv, &columns, &["series"], "timestamp").read();
        assert_eq!((found.positions.len(), found.dead.len()), (n_rows, 0), "{name}");
    }
}

#[test]
fn cwru() {
    let Some(folder) = data("cwru") else { return };
    let columns = json!({
        "n": { "type": "int64", "field": "#row" },
        "bearing": { "type": "string", "field": "#file" },
        "de_g": "float64",
    });
    let csv = json!({ "path": "*.csv", "order": "name" });
    let found = Declared::new(&folder, csv, &columns, &["bearing"], "n").read();
    assert_eq!((found.positions.len(), found.dead.len()), (1_341_856, 0));
}
