//! Files as plants have them: what is wrong with them is counted and named, and the rest is used.

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use foreline_engine::{Account, Batch, Schema};

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

#[test]
fn the_dryer_fan_raises_its_alerts_when_its_bearing_fails_and_not_before() {
    let Some(data) = real_data("dryer_fan") else { return };
    let text = format!(
        "version: 1
sources:
  fan:
    csv: {{ path: '{}/dryer_3_fan_1_2020.csv', delimiter: ';', decimal: ',', header: false, skip_lines: 1 }}
    columns:
      speed: {{ type: float64, unit: Hz }}
      ts: {{ type: timestamp, format: '%Y-%m-%d %H:%M:%S' }}
      x_acc: float64
      x_vel: {{ type: float64, unit: mm/s }}
      z_acc: float64
      z_vel: {{ type: float64, unit: mm/s }}
      machine: {{ type: string, field: '#file' }}
    key: [machine]
    time: ts
alerts:
  zone_b: {{ from: fan, when: 'z_vel > 1.4', of: {{ k: 3, rows: 3 }}, severity: minor }}
  zone_c: {{ from: fan, when: 'z_vel > 2.8', of: {{ k: 3, rows: 3 }}, severity: warning }}
  zone_d: {{ from: fan, when: 'z_vel > 4.5', of: {{ k: 3, rows: 3 }}, severity: critical }}
sinks: {{ lake: {{ from: [zone_b, zone_c, zone_d], parquet: {{ path: lake }} }} }}
",
        data.display()
    );
    for rule in ["zone_b", "zone_c", "zone_d"] {
        let kept = rows_of(&text, &[rule], 2);
        let (schema, changes) = &kept.streams[rule];
        let changes = changes.settled(schema).unwrap();
        let first = changes.times(schema)[0];
        assert_eq!(first, 1_603_301_400_000_000_000, "{rule}: 2020-10-21T17:30:00Z");
        let change = changes.rows.column_by_name("change").unwrap().as_string::<i32>();
        assert_eq!(change.value(0), "raised");
    }
}

/// How many rows of a stream hold `value` in a whole column.
fn count((schema, batch): &(Schema, Batch), column: &str, value: i64) -> usize {
    let index = schema.index_of(column).unwrap();
    let numbers = batch.rows.column(index).as_primitive::<Int64Type>();
    numbers.iter().flatten().filter(|n| *n == value).count()
}

#[test]
fn wireless_sensors_through_flags_a_grid_and_both_policies_for_late_rows() {
    let Some(data) = real_data("xep_vibration") else { return };
    for (late, n_late, n_corrected) in [("{ correct: 24h }", 0, 108), ("dead_letter", 108, 0)] {
        let text = format!(
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
    time: Timestamp
    late: {late}
steps:
  flagged:
    from: vibration
    quality:
      columns: {{ XRMSmg: {{ flat_line: {{ suspect: 6h, fail: 24h }}, gap: {{ suspect: 1h }} }} }}
      device_clock: {{ column: DeviceTime, fail: 1d }}
  even: {{ from: flagged, resample: {{ columns: [XRMSmg], every: 15m, method: linear, max_gap: 1h }} }}
  smooth: {{ from: even, ema: {{ columns: [XRMSmg], half_life: 1h }} }}
sinks: {{ lake: {{ from: smooth, parquet: {{ path: lake }} }} }}
",
            data.display()
        );
        let mut first = None;
        for workers in [1, 3] {
            let kept = rows_of(&text, &["flagged", "even", "smooth", "dead_letters"], workers);
            let vibration = kept.report.accounts["vibration"];
            assert_eq!((vibration.input, vibration.dead, vibration.late), (6_500, 24, n_late));
            assert_eq!(vibration.corrected, n_corrected, "{late}");
            assert!(kept.report.accounts.values().all(Account::balances), "{late}");
            let flagged = &kept.streams["flagged"];
            let n_rows = 6_476 - usize::try_from(n_late).unwrap();
            assert_eq!(flagged.1.len(), n_rows, "no value is deleted");
            if n_late == 0 {
                assert!(count(flagged, "XRMSmg_flag", 4) >= 3_415, "clocks a day off");
            }
            let even = &kept.streams["even"];
            assert!(even.1.times(&even.0).iter().all(|t| t % 900_000_000_000 == 0));
            assert!(even.1.len() > 4_000, "{} points of the grid", even.1.len());
            assert_eq!(kept.streams["smooth"].1.len(), even.1.len());
            let rows = kept.streams["smooth"].1.rows.clone();
            assert_eq!(&rows, first.get_or_insert_with(|| rows.clone()), "{workers} workers");
        }
    }
}

#[test]
fn a_dryer_fan_raises_its_levels_when_its_bearing_fails_and_not_before() {
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
    late: {{ correct: 2h }}
steps:
  flagged: {{ from: fan, quality: {{ columns: {{ z_vel: {{ range: {{ fail: [0, 100] }}, gap: {{ suspect: 1h }} }} }} }} }}
  even: {{ from: flagged, resample: {{ columns: [z_vel], every: 30m, method: hold, max_gap: 2h }} }}
  levels:
    from: flagged
    threshold: {{ columns: {{ z_vel: {{ b: {{ above: 1.4 }}, c: {{ above: 2.8 }}, d: {{ above: 4.5 }} }} }} }}
  lasting: {{ from: levels, k_of_n: {{ columns: [z_vel_b, z_vel_c, z_vel_d], k: 3, rows: 3 }} }}
sinks: {{ lake: {{ from: [even, lasting], parquet: {{ path: lake }} }} }}
",
        data.display()
    );
    let kept = rows_of(&text, &["flagged", "even", "lasting"], 2);
    assert_eq!(kept.streams["flagged"].1.len(), 2_695 - 4);
    assert!(kept.report.accounts.values().all(Account::balances));
    assert!(kept.streams["even"].1.len() > 2_000);
    let (schema, batch) = &kept.streams["lasting"];
    let times = batch.times(schema);
    for level in ["z_vel_b", "z_vel_c", "z_vel_d"] {
        let raised = batch.rows.column_by_name(level).unwrap().as_boolean();
        let first = (0..batch.len()).find(|&row| raised.is_valid(row) && raised.value(row));
        // 17:30 in Rome.
        assert_eq!(first.map(|row| times[row]), Some(1_603_294_200_000_000_000), "{level}");
    }
}
