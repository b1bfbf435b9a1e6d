//! Quality flags: each test from scratch, worked cases, and what the plan refuses.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Table, check, sameness, try_plan};

#[test]
fn agrees_with_tests_from_scratch() {
    let input = Table::parse(UtcNanos, include_str!("../../reference/detect_signals.csv"));
    let config = json!({
        "columns": {
            "x": { "range": { "suspect": [45, 62], "fail": [0, 100] },
                "rate": { "suspect": 0.3, "fail": 0.8 },
                "gap": { "suspect": "20s", "fail": "2m" }, "spike": { "suspect": 4, "fail": 8 } },
            "y": { "flat_line": { "eps": 0.5, "suspect": "100s", "fail": "300s" },
                "rate": { "suspect": 0.04, "fail": 0.08 },
                "spike": { "rows": 3, "suspect": 0.4, "fail": 0.9 } } },
        "max_gap": "125s"
    });
    let expected = include_str!("../../reference/quality.csv");
    check("quality", &config, &input, &Table::parse(UtcNanos, expected));
}

#[test]
fn a_clock_that_is_off_flags_all_columns() {
    let input = "m,t,x,y,clock:int64\na,100,1,1,101\na,110,1,,150\na,200,9,1,90\na,210,1,1,\n";
    let expected = "m,t,x,y,clock:int64,x_flag:int64,x_tests:string,why_flag:int64,why_tests:string
        a,100,1,1,101,1,,1,
        a,110,1,,150,3,device_clock,9,
        a,200,9,1,90,4,range+device_clock,4,device_clock
        a,210,1,1,,1,,2,";
    let config = json!({
        "columns": { "x": { "range": { "fail": [0, 5] } }, "y": {} },
        "device_clock": { "column": "clock", "suspect": 20, "fail": 100 },
        "as": { "y": "why" }
    });
    check("quality", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
}

#[test]
fn a_spike_does_not_flag_its_successor_and_a_step_is_taken_in() {
    let input = Table::parse(
        Logical,
        "m,t,x\na,0,1\na,1,1\na,2,1\na,3,9\na,4,1\na,5,1\na,6,9\na,7,9\na,8,9\na,9,9\n",
    );
    let config = json!({ "columns": { "x": { "spike": { "rows": 3, "fail": 5 } } } });
    let flags = sameness("quality", &config, &input).numbers("x_flag");
    let flags: Vec<f64> = flags.into_iter().flatten().collect();
    assert_eq!(flags, [2.0, 2.0, 2.0, 4.0, 1.0, 1.0, 4.0, 4.0, 1.0, 1.0]);
}

#[test]
fn a_value_that_cannot_be_is_no_measure_for_the_next() {
    let input = Table::parse(Logical, "m,t,x\na,0,1\na,1,-999\na,2,1\n");
    let config = json!({ "columns": { "x": {
        "range": { "fail": [0, 5] }, "rate": { "suspect": 1 } } } });
    let outcome = sameness("quality", &config, &input);
    assert_eq!(outcome.numbers("x_flag"), [Some(1.0), Some(4.0), Some(1.0)]);
}

#[test]
fn random_rows_come_out_the_same_in_all_ways() {
    let input = Table::random(5, 160, UtcNanos);
    let config = json!({
        "columns": {
            "x": { "rate": { "suspect": 1 }, "flat_line": { "eps": 1, "suspect": "700ms" } },
            "y": { "spike": { "fail": 500 }, "gap": { "suspect": "3s" } } },
        "max_gap": "3s"
    });
    let outcome = sameness("quality", &config, &input);
    for flag in [1.0, 2.0, 3.0, 9.0] {
        let both = [outcome.numbers("x_flag"), outcome.numbers("y_flag")].concat();
        assert!(both.contains(&Some(flag)), "no value has the flag {flag}");
    }
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(UtcNanos, "m,t,x,s:string\n");
    let one = |tests: Value| json!({ "columns": { "x": tests } });
    let cases: &[(Value, &[&str])] = &[
        (json!({ "columns": {} }), &["columns: no column is named"]),
        (one(json!({})), &["columns.x: no test is named"]),
        (
            one(json!({ "range": {}, "rate": {}, "gap": {}, "spike": {}, "flat_line": {} })),
            &[
                "columns.x.range: nothing says when a value is flagged",
                "columns.x.rate: nothing says when a value is flagged",
                "columns.x.flat_line: nothing says when a value is flagged",
                "columns.x.gap: nothing says when a value is flagged",
                "columns.x.spike: nothing says when a value is flagged",
            ],
        ),
        (
            one(json!({ "range": { "fail": [2, 1] }, "rate": { "fail": -1 },
                "flat_line": { "eps": -1, "fail": "1s" }, "gap": { "fail": "0s" },
                "spike": { "rows": 4, "fail": 1 } })),
            &[
                "columns.x.range.fail: [2, 1] is not a range",
                "columns.x.rate.fail: '-1' is not a limit",
                "columns.x.flat_line.eps: '-1' is not a distance",
                "columns.x.gap.fail: '0s' is not above zero",
                "columns.x.spike.rows: '4' values have no middle one, or are too many",
            ],
        ),
        (
            one(json!({ "range": { "suspect": [0, 9], "fail": [1, 8] },
                "rate": { "suspect": 2, "fail": 1 }, "gap": { "suspect": "2s", "fail": "1s" } })),
            &[
                "columns.x.range: the range of values that are not suspect goes beyond that of those that do not fail",
                "columns.x.rate.suspect: '2' is beyond 'fail', '1'",
                "columns.x.gap.suspect: '2s' is beyond 'fail', '1s'",
            ],
        ),
        (
            json!({ "columns": { "s": { "rate": { "fail": 1 } } }, "as": { "y": "z" },
                "device_clock": { "column": "x" }, "max_gap": 5 }),
            &[
                "columns.s: column 's' is Utf8, not a number",
                "as.y: column 'y' is not among the columns of this step",
                "device_clock.column: column 'x' is Float64, which cannot be compared with the event time",
                "device_clock: nothing says when a value is flagged",
                "max_gap: '5' has no unit, but the event time is a timestamp",
            ],
        ),
        (
            json!({ "columns": { "x": {} }, "device_clock": { "column": "t", "fail": "1d" } }),
            &["device_clock.column: column 't' is the event time itself"],
        ),
    ];
    for (config, expected) in cases {
        let errors = try_plan("quality", config, &input.schema).unwrap_err();
        assert_eq!(errors, *expected, "{config}");
    }
}
