//! Windows of each kind: reference values, oracles, bounds, mistakes.

use serde_json::{Value, json};

use crate::testing::{Outcome, Table, check, sameness, try_plan};
use foreline_engine::{PrimaryKey, Schema, TimeDomain, Unit};

fn utc(text: &str) -> Table {
    Table::parse(TimeDomain::UtcNanos, text)
}

fn logical(text: &str) -> Table {
    Table::parse(TimeDomain::Logical, text)
}

#[test]
fn agrees_with_numpy_and_scipy() {
    let readings = utc(include_str!("../../reference/readings.csv"));
    let all = [
        "count",
        "mean",
        "std",
        "min",
        "max",
        "range",
        "rms",
        "skewness",
        "kurtosis",
        "crest_factor",
        "slope",
        "first",
        "last",
    ];
    let cases = [
        (json!({ "tumbling": "1m" }), include_str!("../../reference/window_tumbling.csv")),
        (
            json!({ "sliding": { "length": "50s", "every": "20s" }, "remove_mean": true }),
            include_str!("../../reference/window_sliding.csv"),
        ),
        (
            json!({ "sliding": { "length": "48s", "every": "16s" } }),
            include_str!("../../reference/window_panes.csv"),
        ),
        (
            json!({ "rolling": { "rows": 12, "every": 5, "min_rows": 4 } }),
            include_str!("../../reference/window_rolling.csv"),
        ),
    ];
    for (mut config, expected) in cases {
        config["features"] = json!({ "x": all, "y": all });
        check("window", &config, &readings, &utc(expected));
    }
}

#[test]
fn windows_are_aligned_to_zero_and_half_open() {
    let input = logical("m,t,x\na,-1,1\na,0,2\na,9,3\na,10,4\nb,35,5\n");
    let expected = "m,window_end,x_first,x_count:int64\na,0,1,1\na,10,2,2\na,20,4,1\nb,40,5,1\n";
    let config = json!({ "tumbling": 10, "features": { "x": ["first", "count"] } });
    check("window", &config, &input, &logical(expected));
}

#[test]
fn nulls_are_left_out_and_a_window_of_nulls_is_null() {
    let input = logical("m,t,x\na,0,\na,1,7\na,12,\n");
    let expected = "m,window_end,x_count:int64,x_last,x_std\na,10,1,7,\na,20,0,,\n";
    let config = json!({ "tumbling": 10, "features": { "x": ["count", "last", "std"] } });
    check("window", &config, &input, &logical(expected));
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let input = logical(&format!("m,t,x\na,{},1\nb,{},2\n", i64::MIN, i64::MAX));
    for shape in [json!({ "tumbling": 7 }), json!({ "sliding": { "length": 9, "every": 4 } })] {
        let mut config = shape;
        config["features"] = json!({ "x": ["last"] });
        let mut seen: Vec<_> = sameness("window", &config, &input).numbers("x_last");
        seen.dedup();
        seen.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(seen, [Some(1.0), Some(2.0)], "{config}");
    }
}

#[test]
fn a_row_without_room_is_a_dead_letter() {
    let input = logical("m,t,x\na,0,1\na,1,2\na,2,3\na,10,4\n");
    let config = json!({ "tumbling": 10, "max_rows": 2, "features": { "x": ["max"] } });
    let outcome = sameness("window", &config, &input);
    assert_eq!(outcome.numbers("x_max"), [Some(2.0), Some(4.0)]);
    assert_eq!(outcome.dead.len(), 1);
    assert_eq!((outcome.dead[0].0, outcome.dead[0].3), (Some(2), "window_full"));
    assert_eq!((outcome.account.used, outcome.account.dead), (3, 1));
}

#[test]
fn a_window_has_the_position_of_its_last_row() {
    let input = logical("m,t,x\na,0,1\nb,0,1\na,1,2\na,11,3\n");
    let config = json!({ "tumbling": 10, "features": { "x": ["last"] } });
    let outcome = sameness("window", &config, &input);
    let mut rows: Vec<_> = outcome.rows.iter().map(|r| (r.time, r.position)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(10, 1), (10, 2), (20, 3)]);
}

/// Every window of every key from scratch: its end, and count, sum and maximum of `x`.
fn oracle(input: &Table, length: i64, every: i64) -> Vec<(i64, u64, usize, f64, Option<f64>)> {
    let (x, times) = (input.numbers("x"), input.times());
    let mut windows = Vec::new();
    for rows in input.by_key().values() {
        let (first, last) = (times[rows[0]], times[rows[rows.len() - 1]]);
        let mut start = (first - length).div_euclid(every) * every;
        while start <= last {
            let inside = |&&r: &&usize| times[r] >= start && times[r] < start + length;
            let inside: Vec<usize> = rows.iter().filter(inside).copied().collect();
            if let Some(&position) = inside.last() {
                let values: Vec<f64> = inside.iter().filter_map(|&r| x[r]).collect();
                let max = values.iter().copied().reduce(f64::max);
                let sum = values.iter().sum();
                windows.push((start + length, position as u64, values.len(), sum, max));
            }
            start += every;
        }
    }
    windows.sort_by_key(|w| (w.0, w.1));
    windows
}

fn windows_of(outcome: &Outcome) -> Vec<(i64, u64, usize, f64, Option<f64>)> {
    let (counts, means) = (outcome.numbers("x_count"), outcome.numbers("x_mean"));
    let maxima = outcome.numbers("x_max");
    let each = outcome.rows.iter().enumerate().map(|(i, row)| {
        let n = counts[i].unwrap();
        (row.time, row.position, n as usize, n * means[i].unwrap_or(0.0), maxima[i])
    });
    let mut windows: Vec<_> = each.collect();
    windows.sort_by_key(|w| (w.0, w.1));
    windows
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for (seed, length, every) in [(1, 30, 30), (2, 30, 10), (3, 25, 7), (4, 1, 1), (5, 200, 3)] {
        let input = Table::random(seed, 160, TimeDomain::Logical);
        let shape = json!({ "length": length, "every": every });
        let features = json!({ "x": ["count", "mean", "max"] });
        let config = json!({ "sliding": shape, "features": features });
        let (got, want) =
            (windows_of(&sameness("window", &config, &input)), oracle(&input, length, every));
        assert_eq!(got.len(), want.len(), "{config}");
        for (got, want) in got.iter().zip(&want) {
            let same = (got.0, got.1, got.2, got.4) == (want.0, want.1, want.2, want.4);
            assert!(same && (got.3 - want.3).abs() < 1e-9, "{got:?} {want:?} {config}");
        }
    }
}

#[test]
fn rolling_windows_are_shorter_at_the_start_and_keep_the_row_time() {
    let input = logical("m,t,x\na,1,1\na,2,\na,3,5\na,4,3\n");
    let expected = "m,t,x_mean,x_last\na,1,1,1\na,2,1,1\na,3,3,5\na,4,4,3\n";
    let config = json!({ "rolling": { "rows": 3 }, "features": { "x": ["mean", "last"] } });
    check("window", &config, &input, &logical(expected));
    let planned = crate::testing::plan("window", &config, &input.schema);
    let primary_key = PrimaryKey { columns: vec![0, 1], position: true };
    assert_eq!(planned.output.primary_key(), &primary_key);
}

#[test]
fn a_window_over_windows_works() {
    let readings = Table::random(9, 200, TimeDomain::Logical);
    let features = json!({ "x": ["mean"] });
    let inner = json!({ "tumbling": 10, "features": features });
    let planned = crate::testing::plan("window", &inner, &readings.schema);
    let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
    assert_eq!(planned.output.primary_key(), &primary_key);
    let outer = json!({ "rolling": { "rows": 3 }, "features": { "x_mean": ["max"] } });
    let again = crate::testing::plan("window", &outer, &planned.output);
    assert_eq!(again.output.primary_key(), &primary_key);
    assert_eq!(again.output.columns()[1].name, "window_end");
}

#[test]
fn units_follow_from_the_feature() {
    let mut columns = utc("m,t,x\n").schema.columns().to_vec();
    columns[2].unit = Some(Unit::new("mm/s"));
    let input = Schema::new(columns, &["m"], "t").unwrap();
    let features = json!({ "x": ["mean", "slope", "kurtosis", "count"] });
    let config = json!({ "tumbling": "1s", "features": features });
    let output = crate::testing::plan("window", &config, &input).output;
    let units: Vec<_> = output.columns()[2..].iter().map(|c| c.unit.clone().unwrap()).collect();
    assert_eq!(
        units.iter().map(Unit::code).collect::<Vec<_>>(),
        ["mm/s", "mm/s/s", "1", "{count}"]
    );
}

#[test]
fn says_what_is_wrong() {
    let input = utc("m,t,x\n");
    let features = json!({ "x": ["mean"] });
    let cases: &[(Value, &[&str])] = &[
        (json!({ "features": features }), &["nothing says which windows"]),
        (
            json!({ "features": features, "tumbling": "1s", "rolling": { "rows": 2 } }),
            &["tumbling, sliding, rolling, count and session exclude one another"],
        ),
        (
            json!({ "features": features, "tumbling": 10 }),
            &["tumbling: '10' has no unit, but the event time is a timestamp"],
        ),
        (
            json!({ "features": {}, "tumbling": "0s" }),
            &["tumbling: '0s' is not above zero", "features: no feature is named"],
        ),
        (
            json!({ "features": features, "sliding": { "length": "1s", "every": "2s" } }),
            &["sliding.every: windows of 1s every 2s leave gaps"],
        ),
        (
            json!({ "features": features, "sliding": { "length": "1h", "every": "1ms" } }),
            &["sliding.every: more than 10000 windows would be open at a time"],
        ),
        (
            json!({ "features": features, "rolling": { "rows": 0, "every": 0, "min_rows": 2 } }),
            &[
                "rolling.rows: '0' is not a number of rows",
                "rolling.every: a row cannot come out for every 0 rows",
                "rolling.min_rows: '2' is not between 1 and 'rows'",
            ],
        ),
        (
            json!({ "features": { "x": ["mean", "medina"], "y": ["max"] }, "tumbling": "1s" }),
            &["features.x[1]: there is no feature 'medina'", "features.y: there is no column 'y'"],
        ),
        (
            json!({ "features": { "x": ["mean", "mean"] }, "tumbling": "1s" }),
            &["features: column 'x_mean' is there twice"],
        ),
        (
            json!({ "features": features, "tumbling": "1s", "max_rows": 0 }),
            &["max_rows: a window must hold at least one row"],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("window", config, &input.schema).unwrap_err(), *expected, "{config}");
    }
}

#[test]
fn windows_of_so_many_rows_follow_one_another() {
    let input = logical("m,t,x\na,1,1\na,2,\na,3,5\nb,3,7\na,4,3\na,5,8\n");
    let config = json!({ "count": { "rows": 2 }, "features": { "x": ["sum_values", "missing"] } });
    let expected = logical("m,t,x_sum_values,x_missing:int64\na,2,1,1\na,4,8,0\n");
    check("window", &config, &input, &expected);
    let config = json!({ "count": { "rows": 3, "every": 1 }, "features": { "x": ["last"] } });
    check("window", &config, &input, &logical("m,t,x_last\na,3,5\na,4,3\na,5,8\n"));
    let config = json!({ "count": { "rows": 2, "every": 3 }, "features": { "x": ["last"] } });
    check("window", &config, &input, &logical("m,t,x_last\na,2,1\na,5,8\n"));
}

#[test]
fn a_gap_begins_windows_of_rows_anew() {
    let input = logical("m,t,x\na,1,1\na,2,2\na,3,3\na,9,4\na,10,5\na,16,6\n");
    let features = json!({ "x": ["sum_values"] });
    let config = json!({ "count": { "rows": 2, "max_gap": 5 }, "features": features });
    check("window", &config, &input, &logical("m,t,x_sum_values\na,2,3\na,10,9\n"));
    let rolling = json!({ "rows": 2, "max_gap": 5 });
    let config = json!({ "rolling": rolling, "features": features });
    let expected = logical("m,t,x_sum_values\na,1,1\na,2,3\na,3,5\na,9,4\na,10,9\na,16,6\n");
    check("window", &config, &input, &expected);
}

#[test]
fn a_session_ends_after_its_gap_and_is_cut_at_its_greatest_length() {
    let input = logical("m,t,x\na,0,1\na,3,\na,3,2\na,8,4\nb,1,9\na,12,5\na,15,6\na,40,7\n");
    let features = json!({ "x": ["count", "sum_values"] });
    let config = json!({ "session": { "gap": 5 }, "features": features });
    let expected = logical(
        "m,window_end,window_first:int64,window_last:int64,x_count:int64,x_sum_values\n\
         a,8,0,3,2,3\na,20,8,15,3,15\na,45,40,40,1,7\nb,6,1,1,1,9\n",
    );
    check("window", &config, &input, &expected);
    let config = json!({ "session": { "gap": 6, "max_length": 10 }, "features": features });
    let expected = logical(
        "m,window_end,window_first:int64,window_last:int64,x_count:int64,x_sum_values\n\
         a,10,0,8,3,7\na,21,12,15,2,11\na,46,40,40,1,7\nb,7,1,1,1,9\n",
    );
    check("window", &config, &input, &expected);
    let planned = crate::testing::plan("window", &config, &input.schema);
    let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
    assert_eq!(planned.output.primary_key(), &primary_key);
}

#[test]
fn sessions_agree_with_an_oracle_on_random_rows() {
    for (seed, gap, most) in [(1, 12, None), (2, 20, Some(45)), (3, 1, None), (4, 9, Some(9))] {
        let input = Table::random(seed, 160, TimeDomain::Logical);
        let mut session = json!({ "gap": gap });
        if let Some(most) = most {
            session["max_length"] = json!(most);
        }
        let config = json!({ "session": session, "features": { "x": ["count", "first"] } });
        let outcome = sameness("window", &config, &input);
        let (x, times) = (input.numbers("x"), input.times());
        let mut expected = Vec::new();
        for rows in input.by_key().values() {
            let mut open: Vec<usize> = Vec::new();
            for row in rows.iter().copied().map(Some).chain([None]) {
                let goes_on = |row: usize| {
                    let (first, last) = (times[open[0]], times[*open.last().unwrap()]);
                    times[row] - last < gap && most.is_none_or(|most| times[row] - first < most)
                };
                if !open.is_empty() && !row.is_some_and(goes_on) {
                    let (first, last) = (times[open[0]], times[*open.last().unwrap()]);
                    let end = most.map_or(last + gap, |most| (first + most).min(last + gap));
                    let values: Vec<f64> = open.iter().filter_map(|&r| x[r]).collect();
                    let position = *open.last().unwrap() as u64;
                    expected.push((end, position, values.len() as f64, values.first().copied()));
                    open.clear();
                }
                open.extend(row);
            }
        }
        let counts = outcome.numbers("x_count").into_iter().map(Option::unwrap);
        let rows = outcome.rows.iter().map(|r| (r.time, r.position));
        let got = rows.zip(counts).zip(outcome.numbers("x_first"));
        let mut got: Vec<_> = got.map(|(((end, at), n), first)| (end, at, n, first)).collect();
        got.sort_by_key(|w| (w.0, w.1));
        expected.sort_by_key(|w| (w.0, w.1));
        assert_eq!(got, expected, "{config}");
    }
}

#[test]
fn a_session_without_room_goes_on_without_rows() {
    let input = logical("m,t,x\na,0,1\na,1,2\na,2,3\na,5,4\na,9,5\n");
    let config = json!({ "session": { "gap": 4 }, "max_rows": 2, "features": { "x": ["max"] } });
    let outcome = sameness("window", &config, &input);
    assert_eq!(outcome.numbers("x_max"), [Some(2.0), Some(5.0)]);
    assert_eq!(outcome.numbers("window_last"), [Some(5.0), Some(9.0)]);
    assert_eq!((outcome.account.used, outcome.account.dead), (3, 2));
    assert_eq!(outcome.dead[0].3, "window_full");
}

#[test]
fn sessions_at_the_ends_of_time_do_not_overflow() {
    let input = logical(&format!("m,t,x\na,{},1\na,{},2\n", i64::MIN, i64::MAX));
    let config = json!({ "session": { "gap": 7 }, "features": { "x": ["last"] } });
    assert_eq!(sameness("window", &config, &input).numbers("x_last"), [Some(1.0), Some(2.0)]);
}

#[test]
fn windows_of_few_rows_do_not_come_out() {
    let input = logical("m,t,x\na,0,1\na,1,\na,10,3\na,25,\na,26,\n");
    let features = json!({ "x": ["count"] });
    let config = json!({ "tumbling": 10, "min_rows": 2, "features": features });
    check("window", &config, &input, &logical("m,window_end,x_count:int64\na,10,1\na,30,0\n"));
    let config = json!({ "session": { "gap": 5 }, "min_rows": 2, "features": features });
    let outcome = sameness("window", &config, &input);
    assert_eq!(outcome.rows.iter().map(|r| r.time).collect::<Vec<_>>(), [6, 31]);
}

#[test]
fn powers_of_units_follow_from_the_feature() {
    let mut columns = utc("m,t,x\n").schema.columns().to_vec();
    columns[2].unit = Some(Unit::new("mm/s"));
    let input = Schema::new(columns, &["m"], "t").unwrap();
    let features = json!({ "x": [
        "var", "c3", "has_duplicate",
        { "fft_coefficient_angle": { "coeff": 1 } },
        { "change_quantiles": { "ql": 0, "qh": 1 } },
        { "change_quantiles": { "ql": 0, "qh": 1, "f_agg": "var" } },
        { "ar_coefficient": { "coeff": 0 } },
        { "ar_coefficient": { "coeff": 1 } },
    ] });
    let config = json!({ "session": { "gap": "1s" }, "features": features });
    let output = crate::testing::plan("window", &config, &input).output;
    let units: Vec<_> = output.columns()[4..].iter().map(|c| c.unit.clone().unwrap()).collect();
    let known = ["mm2/s2", "mm3/s3", "1", "deg", "mm/s", "mm2/s2", "mm/s", "1"];
    assert_eq!(units.iter().map(Unit::code).collect::<Vec<_>>(), known);
}

#[test]
fn says_what_is_wrong_with_rows_and_sessions() {
    let input = utc("m,t,x\n");
    let features = json!({ "x": ["mean"] });
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "features": features, "count": { "rows": 0, "every": 0, "max_gap": 5 } }),
            &[
                "count.rows: '0' is not a number of rows",
                "count.every: a row cannot come out for every 0 rows",
                "count.max_gap: '5' has no unit, but the event time is a timestamp",
            ],
        ),
        (
            json!({ "features": features, "session": { "gap": "0s", "max_length": 3 } }),
            &[
                "session.gap: '0s' is not above zero",
                "session.max_length: '3' has no unit, but the event time is a timestamp",
            ],
        ),
        (
            json!({ "features": features, "rolling": { "rows": 2, "max_gap": "0s" }, "min_rows": 2 }),
            &["rolling.max_gap: '0s' is not above zero"],
        ),
        (
            json!({ "features": features, "count": { "rows": 2 }, "min_rows": 2, "min_values": 0 }),
            &[
                "min_rows: 'min_rows' is for windows of time",
                "min_values: features need at least one value",
            ],
        ),
        (
            json!({ "features": features, "tumbling": "1s", "min_rows": 3, "max_rows": 2 }),
            &["min_rows: '3' is not between 1 and 'max_rows', which is 2"],
        ),
        (
            json!({ "features": { "x": [{ "quantile": { "q": 2 } }, { "c3": { "log": 1 } }] }, "tumbling": "1s" }),
            &[
                "features.x[0].quantile.q: '2' is not a 'q'",
                "features.x[1].c3.log: feature 'c3' has no parameter 'log'",
            ],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("window", config, &input.schema).unwrap_err(), *expected, "{config}");
    }
}

#[test]
fn late_rows_join_sessions_that_others_look_at() {
    let input = Table::random(17, 150, TimeDomain::Logical);
    let mut schema = input.schema.clone();
    let steps = [
        ("window", json!({ "session": { "gap": 12 }, "features": { "x": ["count", "median"] } })),
        ("gaps", json!({ "longer_than": 30, "mark": "rested" })),
        (
            "window",
            json!({ "count": { "rows": 2, "every": 1 }, "features": { "x_median": ["last"] } }),
        ),
        ("gaps", json!({ "longer_than": 20 })),
    ];
    let planned: Vec<_> = steps
        .iter()
        .map(|(kind, config)| {
            let planned = crate::testing::plan(kind, config, &schema);
            schema = planned.output.clone();
            planned
        })
        .collect();
    crate::testing::late_rows_correct(&planned, &input);
}
