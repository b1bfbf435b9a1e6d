//! Cases of `swinging_door`.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Table, check_ahead, sameness_ahead, try_plan};

fn logical(text: &str) -> Table {
    Table::parse(Logical, text)
}

#[test]
fn agrees_with_a_search_over_all_rows_between() {
    let readings = Table::parse(UtcNanos, include_str!("../../reference/readings.csv"));
    let config = json!({ "column": "x", "deviation": 0.8, "max_gap": "20s" });
    let expected = include_str!("../../reference/swinging_door_x.csv");
    let expected = Table::parse(UtcNanos, expected);
    check_ahead("swinging_door", &config, &readings, &expected, 20_000_000_000);
}

#[test]
fn what_is_on_a_line_is_left_out_and_the_last_row_goes_on() {
    let input =
        logical("m,t,x,s:string\na,0,0,p\na,1,1,q\na,2,2,r\na,3,3,s\na,4,0,t\na,5,-3,u\nb,5,1,v\n");
    let config = json!({ "column": "x", "deviation": 0.1, "max_gap": 100 });
    let expected = "m,t,x,s:string\na,0,0,p\na,3,3,s\na,5,-3,u\nb,5,1,v\n";
    check_ahead("swinging_door", &config, &input, &logical(expected), 101);
}

#[test]
fn a_long_silence_nulls_and_ties_are_told() {
    let input = logical(
        "m,t,x\na,0,1\na,4,1\na,9,1\na,11,1\na,12,1\na,30,1\na,31,\na,32,\na,33,1\na,33,1\na,33,2\na,34,2\n",
    );
    let config = json!({ "column": "x", "deviation": 0.5, "max_gap": 10 });
    let expected = "m,t,x\na,0,1\na,9,1\na,12,1\na,30,1\na,31,\na,33,1\na,33,2\na,34,2\n";
    check_ahead("swinging_door", &config, &input, &logical(expected), 11);
}

#[test]
fn no_value_is_further_from_the_line_than_the_deviation() {
    let input = Table::random(6, 100, Logical);
    let config = json!({ "column": "x", "deviation": 0.7, "max_gap": 300 });
    let outcome = sameness_ahead("swinging_door", &config, &input, 301);
    let account = outcome.account;
    assert_eq!((account.in_flight, account.used + account.filtered), (0, 100));
    assert!(account.filtered > 20, "{account:?}");
    let (x, times) = (input.numbers("x"), input.times());
    let passed: Vec<usize> =
        outcome.rows.iter().map(|r| usize::try_from(r.position).unwrap()).collect();
    for rows in input.by_key().values() {
        for &row in rows.iter().filter(|r| x[**r].is_some() && !passed.contains(r)) {
            let goes_on = |r: &&usize| passed.contains(r);
            let before = *rows.iter().filter(goes_on).rfind(|r| **r < row).unwrap();
            let after = *rows.iter().filter(goes_on).find(|r| **r > row).unwrap();
            let (y0, y1) = (x[before].unwrap(), x[after].unwrap());
            let length = (times[after] - times[before]) as f64;
            let part =
                if length > 0.0 { (times[row] - times[before]) as f64 / length } else { 0.0 };
            let off = (y0 + (y1 - y0) * part - x[row].unwrap()).abs();
            assert!(off <= 0.7 + 1e-9, "{off}");
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let input = logical("m,t,x,s:string\n").schema;
    let cases: &[(Value, &[&str])] = &[(
        json!({ "column": "s", "deviation": -1, "max_gap": "1s" }),
        &[
            "column: column 's' is Utf8, not a number",
            "deviation: '-1' is not a distance",
            "max_gap: '1s' is a duration, but the event time is a count",
        ],
    )];
    for (config, expected) in cases {
        assert_eq!(try_plan("swinging_door", config, &input).unwrap_err(), *expected, "{config}");
    }
}
