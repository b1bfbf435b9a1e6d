//! Samples that come in time, too late, twice, or not at all.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Dice, Table, check, late_rows_correct, plan, sameness, try_plan};

fn utc(text: &str) -> Table {
    Table::parse(UtcNanos, text)
}

/// Times in milliseconds, for 100 Hz: a sample every 10.
fn at_100_hz(rows: &[(i64, &str)]) -> Table {
    let rows = rows.iter().map(|(ms, rest)| format!("a,{},{rest}\n", ms * 1_000_000));
    utc(&format!("m,t,x,s\n{}", rows.collect::<String>()))
}

#[test]
fn rows_become_waveforms() {
    let rows = [(0, "1,5"), (10, "2,7"), (19, "3,"), (30, "4,1"), (40, "5,2"), (52, "6,4")];
    let config = json!({ "columns": ["x"], "sample_rate": 100, "samples": 3, "mean": ["s"], "as": { "x": "burst" } });
    let expected = "m,t,burst:wave@100,s\na,0,1 2 3,6\na,30000000,4 5 6,2.3333333333333335\n";
    check("waveform", &config, &at_100_hz(&rows), &utc(expected));
}

#[test]
fn waveforms_overlap_or_leave_out() {
    let rows: Vec<(i64, String)> = (0..8).map(|i| (10 * i, format!("{i},0"))).collect();
    let rows: Vec<(i64, &str)> = rows.iter().map(|(t, r)| (*t, r.as_str())).collect();
    let config = json!({ "columns": ["x"], "sample_rate": 100, "samples": 4, "every": 2 });
    let expected = "m,t,x:wave@100\na,0,0 1 2 3\na,20000000,2 3 4 5\na,40000000,4 5 6 7\n";
    check("waveform", &config, &at_100_hz(&rows), &utc(expected));
    let config = json!({ "columns": ["x"], "sample_rate": 100, "samples": 2, "every": 3 });
    let expected = "m,t,x:wave@100\na,0,0 1\na,30000000,3 4\na,60000000,6 7\n";
    let outcome = sameness("waveform", &config, &at_100_hz(&rows));
    outcome.assert_close(&utc(expected));
    assert_eq!((outcome.account.used, outcome.account.filtered), (6, 2));
}

#[test]
fn a_gap_or_a_null_starts_anew() {
    let rows = [
        (0, "1,"),
        (10, "2,"),
        // 4 ms are within half an interval, 6 are not.
        (24, "3,"),
        (36, "4,"),
        (46, "5,"),
        (56, ","),
        (66, "6,"),
        (76, "7,"),
        (86, "8,"),
        (99, "9,"),
    ];
    let config = json!({ "columns": ["x"], "sample_rate": 100, "samples": 3, "every": 1 });
    let outcome = sameness("waveform", &config, &at_100_hz(&rows));
    outcome.assert_close(&utc("m,t,x:wave@100\na,0,1 2 3\na,66000000,6 7 8\na,76000000,7 8 9\n"));
    let account = outcome.account;
    assert_eq!((account.used, account.filtered, account.in_flight), (7, 3, 0));
}

#[test]
fn a_sample_that_cannot_be_used_is_a_dead_letter() {
    let rows =
        [(0, "1,"), (10, "2,"), (10, "2,"), (20, "3,"), (30, "1e39,"), (40, "4,"), (40, "4,")];
    let config = json!({ "columns": ["x"], "sample_rate": 100, "samples": 2 });
    let outcome = sameness("waveform", &config, &at_100_hz(&rows));
    outcome.assert_close(&utc("m,t,x:wave@100\na,0,1 2\n"));
    let reasons: Vec<_> = outcome.dead.iter().map(|d| (d.0.unwrap() / 1_000_000, d.3)).collect();
    assert_eq!(reasons, [(10, "same_time"), (30, "non_finite"), (40, "same_time")]);
    let account = outcome.account;
    assert_eq!((account.used, account.filtered, account.dead), (2, 2, 3));
}

#[test]
fn stamps_in_whole_nanoseconds_need_none() {
    // 12 kHz and 32,768 Hz do not divide a second into whole nanoseconds.
    for rate in [12_000_i64, 32_768] {
        let rows =
            (0..23).map(|i| format!("a,{},{i}\n", ((7 + i) * 1_000_000_000 + rate / 2) / rate));
        let input = utc(&format!("m,t,x\n{}", rows.collect::<String>()));
        let config = json!({ "columns": ["x"], "sample_rate": rate, "samples": 5, "tolerance": 0 });
        let account = sameness("waveform", &config, &input).account;
        assert_eq!((account.emitted, account.used, account.filtered), (4, 20, 3), "{rate} Hz");
    }
}

#[test]
fn late_samples_correct_what_is_found_in_waveforms() {
    let input = random(9, 120);
    let waveform = json!({ "columns": ["x"], "sample_rate": 10, "samples": 9, "every": 4 });
    let waveform = plan("waveform", &waveform, &input.schema);
    let spectrum = json!({ "column": "x", "segment": 8, "peaks": 2, "keep": "density" });
    let spectrum = plan("spectrum", &spectrum, &waveform.output);
    let window = json!({ "tumbling": "5s", "features": { "x_centroid": ["mean", "count"] } });
    let window = plan("window", &window, &spectrum.output);
    late_rows_correct(&[waveform, spectrum, window], &input);
}

#[test]
fn coarse_stamps_need_tolerance() {
    // 400 Hz in whole milliseconds of four samples each.
    let rows: Vec<(i64, String)> = (0..16).map(|i| (i / 4 * 10, format!("{i},0"))).collect();
    let rows: Vec<(i64, &str)> = rows.iter().map(|(t, r)| (*t, r.as_str())).collect();
    let config =
        json!({ "columns": ["x"], "sample_rate": 400, "samples": 8, "every": 4, "tolerance": 4 });
    let outcome = sameness("waveform", &config, &at_100_hz(&rows));
    assert_eq!(outcome.rows.len(), 3);
    assert!(outcome.dead.is_empty());
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for seed in 0..4 {
        let input = random(seed, 150);
        let (samples, every) = [(3, 3), (4, 1), (5, 3), (2, 5)][usize::try_from(seed).unwrap()];
        let config =
            json!({ "columns": ["x"], "sample_rate": 10, "samples": samples, "every": every });
        let outcome = sameness("waveform", &config, &input);
        let (times, x) = (input.times(), input.numbers("x"));
        let mut expected = Vec::new();
        for rows in input.by_key().values() {
            for run in runs(rows, &times, &x) {
                let starts = (0..run.len()).step_by(every).filter(|s| s + samples <= run.len());
                expected.extend(starts.map(|s| (times[run[s]], x[run[s]].unwrap())));
            }
        }
        let got = outcome.rows.iter().map(|row| {
            let crate::testing::Cell::List(wave) = &row.cells[2] else { panic!("no waveform") };
            (row.time, f64::from_bits(wave[0]))
        });
        let mut got: Vec<_> = got.collect();
        got.sort_by(|a, b| a.partial_cmp(b).unwrap());
        expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(got, expected, "{config}");
    }
}

/// The rows of a key in runs without a null or a gap.
fn runs(rows: &[usize], times: &[i64], x: &[Option<f64>]) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = vec![Vec::new()];
    for &row in rows {
        let open = runs.last_mut().unwrap();
        if x[row].is_none() {
            runs.push(Vec::new());
        } else if open.last().is_some_and(|&last| times[row] - times[last] > 150_000_000) {
            runs.push(vec![row]);
        } else {
            open.push(row);
        }
    }
    runs
}

/// Some machines with samples of 10 Hz of which some are missing or null.
fn random(seed: u64, n_rows: usize) -> Table {
    let mut dice = Dice::new(seed);
    let mut text = String::from("m,t,x\n");
    let mut times = [0_i64; 3];
    for row in 0..n_rows {
        let machine = usize::try_from(dice.below(3)).unwrap();
        times[machine] += match dice.below(12) {
            0 => 300_000_000,
            _ => 100_000_000,
        };
        let value = if dice.below(15) == 0 { String::new() } else { format!("{row}") };
        text.push_str(&format!("m{machine},{},{value}\n", times[machine]));
    }
    utc(&text)
}

#[test]
fn says_what_is_wrong() {
    let input = utc("m,t,x,s:string\n");
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "columns": ["x", "x", "y"], "sample_rate": 0, "samples": 1, "every": 0, "tolerance": 2, "mean": ["s"] }),
            &[
                "columns[1]: column 'x' is there twice",
                "columns[2]: there is no column 'y'",
                "mean[0]: column 's' is Utf8, not a number",
                "sample_rate: '0' is not a rate",
                "samples: '1' is not a number of samples of a waveform",
                "every: waveforms that start every 0 samples do not end",
                "tolerance: '2' is not a number of sample intervals",
            ],
        ),
        (
            json!({ "columns": [], "sample_rate": 10, "samples": 4, "as": { "x": "y" } }),
            &["columns: no column is named", "as.x: column 'x' is not among the columns to cut"],
        ),
        (
            json!({ "columns": ["x"], "sample_rate": 10, "samples": 4, "mean": ["x"] }),
            &["as: column 'x' is there twice"],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("waveform", config, &input.schema).unwrap_err(), *expected, "{config}");
    }
    let logical = Table::parse(Logical, "m,t,x\n");
    let config = json!({ "columns": ["x"], "sample_rate": 10, "samples": 4 });
    let errors = try_plan("waveform", &config, &logical.schema).unwrap_err();
    assert_eq!(
        errors,
        ["sample_rate: the event time is a count, and samples a second need timestamps"]
    );
}
