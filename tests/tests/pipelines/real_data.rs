//! Files as plants have them: what is wrong with them is counted and named, and the rest is used.

use super::{real_data, rows_of};

#[test]
fn wireless_sensors_with_malformed_and_late_rows() {
    let Some(data) = real_data("xep_vibration") else { return };
    let text = format!(
        "version: 1
sources:
  vibration:
    csv: {{ path: '{}/vibrationdata_*.csv', extra_fields: ignore }}
    columns:
      Timestamp: {{ type: timestamp, format: epoch_ms }}
      SensorID: string
      TempHumiSenVal: float64
      XRMSmg: float64
    key: [SensorID]
    time: Timestamp
steps:
  level: {{ from: vibration, moving_average: {{ columns: [XRMSmg], rows: 4 }} }}
sinks: {{ lake: {{ from: level, parquet: {{ path: lake }} }} }}
",
        data.display()
    );
    for workers in [1, 2] {
        let kept = rows_of(&text, &["level", "dead_letters"], workers);
        let vibration = kept.report.accounts["vibration"];
        assert_eq!((vibration.input, vibration.dead), (6_500, 24));
        assert_eq!(vibration.late, 108, "late by its own sensor's clock");
        assert_eq!(kept.streams["level"].1.len(), 6_500 - 24 - 108);
        assert_eq!(kept.streams["dead_letters"].1.len(), 24 + 108);
    }
}

#[test]
fn a_dryer_fan_with_decimal_commas_and_a_repeated_hour() {
    let Some(data) = real_data("dryer_fan") else { return };
    let text = format!(
        "version: 1
sources:
  fan:
    csv: {{ path: '{}/dryer_3_fan_1_2020.csv', delimiter: ';', decimal: ',', header: false, skip_lines: 1 }}
    columns:
      speed: {{ type: float64, unit: Hz }}
      ts: {{ type: timestamp, format: '%Y-%m-%d %H:%M:%S', zone: Europe/Rome }}
      x_acc: float64
      x_vel: {{ type: float64, unit: mm/s }}
      z_acc: float64
      z_vel: {{ type: float64, unit: mm/s }}
      machine: {{ type: string, field: '#file' }}
    key: [machine]
    time: ts
    dedupe: [machine, ts, speed, x_acc, x_vel, z_acc, z_vel]
steps:
  high: {{ from: fan, filter: 'z_vel > 1.4' }}
sinks: {{ lake: {{ from: high, parquet: {{ path: lake }} }} }}
",
        data.display()
    );
    let kept = rows_of(&text, &["fan", "high"], 2);
    let fan = kept.report.accounts["fan"];
    assert_eq!((fan.input, fan.dead), (2_695, 0));
    assert_eq!(fan.deduplicated, 4, "the repeated hour was written twice");
    assert!(kept.streams["high"].1.len() > 100);
}
