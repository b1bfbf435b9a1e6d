//! Devices whose clocks are years off: what `device_clock` does to recorded sensors, counted by pandas.

use arrow::array::Array as _;

use super::{real_data, rows_of};

/// `tests/reference/device_clock.csv`, made by the script beside it.
const REFERENCE: &str = include_str!("../../reference/device_clock.csv");

fn pipeline(folder: &std::path::Path, limit_s: u64, otherwise: &str) -> String {
    format!(
        "version: 1
sources:
  vibration:
    csv: {{ path: '{}/vibrationdata_*.csv', extra_fields: ignore }}
    columns:
      Timestamp: {{ type: timestamp, format: epoch_ms }}
      SensorID: string
      DeviceTime: {{ type: timestamp, format: epoch_s }}
      XRMSmg: float64
    key: [SensorID]
    time: DeviceTime
    device_clock: {{ arrival: Timestamp, max_difference: {limit_s}s, otherwise: {otherwise} }}
steps:
  level: {{ from: vibration, moving_average: {{ columns: [XRMSmg], rows: 4 }} }}
sinks: {{ lake: {{ from: level, parquet: {{ path: lake }} }} }}
",
        folder.display()
    )
}

#[test]
fn wireless_sensors_that_live_years_in_the_past() {
    let Some(data) = real_data("xep_vibration") else { return };
    let lines = REFERENCE.lines().skip(1);
    for (n, line) in lines.enumerate() {
        let numbers: Vec<u64> = line.split(',').map(|n| n.parse().unwrap()).collect();
        let [limit_s, n_rows, off, late, marked, late_of_believed] = numbers[..] else {
            panic!("'{line}' has not six numbers")
        };
        let workers = 1 + n % 3;
        let streams = ["vibration", "late", "dead_letters"];
        let kept = rows_of(&pipeline(&data, limit_s, "arrival"), &streams, workers);
        let account = kept.report.accounts["vibration"];
        assert_eq!((account.input, account.dead), (6_500, 24), "{limit_s} s");
        assert_eq!((account.restamped, account.late), (off, late), "{limit_s} s");
        assert_eq!(kept.streams["late"].1.len() as u64, late, "{limit_s} s");
        assert_eq!(kept.streams["dead_letters"].1.len() as u64, 24 + late, "{limit_s} s");
        let rows = &kept.streams["vibration"].1.rows;
        let stamps = rows.column_by_name("device_time").unwrap();
        let found = (stamps.len() - stamps.null_count()) as u64;
        assert_eq!((rows.num_rows() as u64, found), (n_rows - late, marked), "{limit_s} s");

        let kept = rows_of(&pipeline(&data, limit_s, "dead_letter"), &["level"], workers);
        let account = kept.report.accounts["vibration"];
        assert_eq!((account.restamped, account.dead), (0, 24 + off), "{limit_s} s");
        assert_eq!(account.late, late_of_believed, "{limit_s} s");
        let reasons = &kept.report.dead["vibration"];
        assert_eq!(reasons.get("clock_off").copied().unwrap_or(0), off, "{limit_s} s");
    }
}
