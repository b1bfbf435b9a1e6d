//! How the input is cut into files and epochs does not show in the result.

use std::fmt::Write as _;
use std::path::Path;

use foreline_engine::Batch;

use super::rows_of;

/// Readings of 7 machines, one of which has most of them; some are out of order by up to 3 s.
fn lines(n_rows: u64) -> Vec<String> {
    let mut seed = 3_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        seed >> 35
    };
    let line = |row: u64, a: u64, b: u64, c: u64| {
        let machine = if a.is_multiple_of(4) { a % 7 } else { 0 };
        let second = row / 2 + 3 - if b.is_multiple_of(5) { b % 4 } else { 0 };
        let (m, s) = (second / 60 % 60, second % 60);
        format!(
            "2026-01-05T{:02}:{m:02}:{s:02}Z,m{machine},{}.{:02}",
            second / 3600,
            c % 90,
            b % 100
        )
    };
    (0..n_rows).map(|row| line(row, next(), next(), next())).collect()
}

fn write(folder: &Path, lines: &[String], files: usize) {
    let per_file = lines.len().div_ceil(files);
    for (n, part) in lines.chunks(per_file).enumerate() {
        let mut text = "ts,machine,v\n".to_owned();
        part.iter().for_each(|l| writeln!(text, "{l}").unwrap());
        std::fs::write(folder.join(format!("part-{n:03}.csv")), text).unwrap();
    }
}

fn pipeline(folder: &Path, epoch_rows: usize) -> String {
    format!(
        "version: 1
epoch: {{ rows: {epoch_rows} }}
sources:
  readings:
    csv: {{ path: '{}/*.csv', order: name }}
    columns: {{ ts: timestamp, machine: string, v: float64 }}
    key: [machine]
    time: ts
    lateness: 3s
steps:
  smooth: {{ from: readings, ema: {{ columns: [v], half_life: 20s }} }}
  level: {{ from: smooth, moving_average: {{ columns: [v], duration: 30s, as: {{ v: level }} }} }}
  busy: {{ from: level, filter: 'v > 20' }}
  shifted: {{ from: busy, derive: {{ columns: {{ twice: 'v * 2 + level' }} }} }}
  features: {{ from: shifted, window: {{ sliding: {{ length: 1m, every: 20s }}, features: {{ v: [mean, std, kurtosis, slope], twice: [last, count] }} }} }}
  recent: {{ from: level, window: {{ rolling: {{ rows: 9 }}, features: {{ v: [mean, skewness] }} }} }}
sinks: {{ lake: {{ from: [features, recent], parquet: {{ path: lake }} }} }}
",
        folder.display()
    )
}

fn check_same(what: &str, one: &Batch, other: &Batch) {
    assert!(one.len() > 100, "{what}: only {} rows", one.len());
    assert_eq!(one.key_hash, other.key_hash, "{what}");
    // Null and value alike, and every bit: -0 and 0 would differ, and so would NaNs.
    assert_eq!(one.rows.num_columns(), other.rows.num_columns());
    for (a, b) in one.rows.columns().iter().zip(other.rows.columns()) {
        let plain = |c: &arrow::array::ArrayRef| match c.data_type() {
            arrow::datatypes::DataType::Dictionary(_, values) => {
                arrow::compute::cast(c, values).unwrap()
            }
            _ => c.clone(),
        };
        assert_eq!(plain(a).to_data(), plain(b).to_data(), "{what}");
    }
}

#[test]
fn cuts_of_files_and_epochs_and_workers_do_not_show() {
    let lines = lines(6_000);
    let whole = tempfile::tempdir().unwrap();
    write(whole.path(), &lines, 1);
    let streams = ["features", "recent"];
    let first = rows_of(&pipeline(whole.path(), 65_536), &streams, 1);
    for (files, epoch_rows, workers) in [(1, 500, 2), (9, 65_536, 1), (23, 700, 3), (4, 40, 2)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &lines, files);
        let other = rows_of(&pipeline(folder.path(), epoch_rows), &streams, workers);
        for stream in streams {
            let what = format!("'{stream}': {files} files, {epoch_rows} rows, {workers} workers");
            check_same(&what, &first.streams[stream].1, &other.streams[stream].1);
        }
        for (name, account) in &first.report.accounts {
            assert_eq!(account, &other.report.accounts[name], "{name}");
        }
    }
}

#[test]
fn a_machine_in_every_file_is_one_machine() {
    let lines = lines(600);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &lines, 50);
    let kept = rows_of(&pipeline(folder.path(), 10), &["recent"], 3);
    let (_, recent) = &kept.streams["recent"];
    assert_eq!(recent.groups().count(), 7);
}
