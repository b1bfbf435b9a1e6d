//! Levels: where they are raised and cleared, and what the plan refuses.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Cell, Table, check, sameness, try_plan};

#[test]
fn a_level_is_cleared_further_down_than_it_is_raised() {
    let input = Table::parse(Logical, "m,t,x\na,0,1\na,1,3\na,2,\na,3,2.5\na,4,5\na,5,2.4\n");
    let config = json!({ "columns": { "x": {
        "warning": { "above": 2.8, "hysteresis": 0.4 }, "alarm": { "above": 4.5 } } } });
    let expected = "m,t,x,x_warning:bool,x_alarm:bool,x_level:string
        a,0,1,false,false,normal
        a,1,3,true,false,warning
        a,2,,,,
        a,3,2.5,true,false,warning
        a,4,5,true,true,alarm
        a,5,2.4,false,false,normal";
    check("threshold", &config, &input, &Table::parse(Logical, expected));
}

#[test]
fn limits_hold_as_written() {
    let input = Table::parse(Logical, "m,t,x\na,0,1\na,1,2\na,2,3\na,3,4\na,4,5\n");
    let cases = [
        (json!({ "above": 3 }), [false, false, false, true, true]),
        (json!({ "below": 3 }), [true, true, false, false, false]),
        (json!({ "outside": [2, 4] }), [true, false, false, false, true]),
        (json!({ "outside": [2, 4], "hysteresis": 1 }), [true, true, false, false, true]),
        (json!({ "inside": [2, 3] }), [false, true, true, false, false]),
        (json!({ "inside": [2, 3], "hysteresis": 1 }), [false, true, true, true, false]),
    ];
    for (level, expected) in cases {
        let config = json!({ "columns": { "x": { "odd": level } }, "as": { "x": "is" } });
        let outcome = sameness("threshold", &config, &input);
        assert_eq!(outcome.column("is_odd"), expected.map(Cell::Bool), "{config}");
    }
}

#[test]
fn a_gap_clears() {
    let second = 1_000_000_000_i64;
    let text = format!("m,t,x\na,0,5\na,{second},3\na,{},3\n", 3 * second);
    let config = json!({ "max_gap": "1s",
        "columns": { "x": { "alarm": { "above": 4, "hysteresis": 2 } } } });
    let outcome = sameness("threshold", &config, &Table::parse(UtcNanos, &text));
    let expected = [true, true, false].map(Cell::Bool);
    assert_eq!(outcome.column("x_alarm"), expected);
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for seed in 0..3 {
        let input = Table::random(seed, 160, Logical);
        let config = json!({ "columns": { "x": {
            "high": { "above": 20.3, "hysteresis": 0.5 },
            "odd": { "outside": [19.5, 20.5], "hysteresis": 0.25 } } } });
        let outcome = sameness("threshold", &config, &input);
        let (x, mut expected) = (input.numbers("x"), vec![Cell::Null; input.len()]);
        for rows in input.by_key().values() {
            let (mut high, mut odd) = (false, false);
            for (row, x) in rows.iter().filter_map(|&row| Some((row, x[row]?))) {
                high = if high { x > 20.3 - 0.5 } else { x > 20.3 };
                let inner = !(19.75..=20.25).contains(&x);
                odd = !(19.5..=20.5).contains(&x) || (odd && inner);
                let level = if odd {
                    "odd"
                } else if high {
                    "high"
                } else {
                    "normal"
                };
                expected[row] = Cell::Text(level.to_owned());
            }
        }
        for row in &outcome.rows {
            assert_eq!(row.cells[7], expected[usize::try_from(row.position).unwrap()]);
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(UtcNanos, "m,t,x,s:string\n");
    let one = |level: Value| json!({ "columns": { "x": { "alarm": level } } });
    let cases: &[(Value, &[&str])] = &[
        (json!({ "columns": {} }), &["columns: no column is named"]),
        (json!({ "columns": { "x": {} } }), &["columns.x: no level is named"]),
        (one(json!({})), &["columns.x.alarm: nothing says when the level is raised"]),
        (
            one(json!({ "above": 1, "below": 2 })),
            &["columns.x.alarm: above, below, outside and inside exclude one another"],
        ),
        (
            one(json!({ "above": 1, "hysteresis": -1 })),
            &["columns.x.alarm.hysteresis: '-1' is not a distance"],
        ),
        (one(json!({ "inside": [2, 1] })), &["columns.x.alarm.inside: [2, 1] is not a range"]),
        (
            one(json!({ "outside": [1, 2], "hysteresis": 0.6 })),
            &[
                "columns.x.alarm.hysteresis: the level would never be cleared: [1, 2] less '0.6' at both ends is nothing",
            ],
        ),
        (
            json!({ "columns": { "s": { "normal": { "above": 1 } },
                "x": { "warning": { "above": 5 }, "alarm": { "above": 4 } } },
                "as": { "y": "z" }, "max_gap": "0s" }),
            &[
                "columns.s: column 's' is Utf8, not a number",
                "columns.s.normal: a level cannot be called 'normal'",
                "columns.x.alarm.above: level 'alarm' at '4' would be raised before 'warning' at '5'",
                "as.y: column 'y' is not among the columns of this step",
                "max_gap: '0s' is not above zero",
            ],
        ),
    ];
    for (config, expected) in cases {
        let errors = try_plan("threshold", config, &input.schema).unwrap_err();
        assert_eq!(errors, *expected, "{config}");
    }
}
