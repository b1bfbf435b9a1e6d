//! Cases of `fill`.

use serde_json::{Value, json};

use crate::testing::{Table, check, check_ahead, sameness_ahead, try_plan};
use foreline_engine::TimeDomain::{Logical, UtcNanos};

fn logical(text: &str) -> Table {
    Table::parse(Logical, text)
}

#[test]
fn agrees_with_pandas() {
    let readings = Table::parse(UtcNanos, include_str!("../../reference/readings.csv"));
    let mut config = json!({ "columns": ["x", "y"], "method": "previous", "max_gap": "8s" });
    let expected = include_str!("../../reference/fill_previous.csv");
    check("fill", &config, &readings, &Table::parse(UtcNanos, expected));
    config["method"] = json!("linear");
    let expected = include_str!("../../reference/fill_linear.csv");
    check_ahead("fill", &config, &readings, &Table::parse(UtcNanos, expected), 8_000_000_000);
}

#[test]
fn the_previous_value_is_filled_in_as_long_as_it_is_near() {
    let input =
        logical("m,t,x,s:string\na,0,,u\na,1,5,v\na,2,,w\na,6,,x\nb,7,,y\na,9,6,z\na,40,,z\n");
    let config = json!({ "columns": ["x"], "method": "previous", "max_gap": 4 });
    let expected = "m,t,x,s:string\na,0,,u\na,1,5,v\na,2,5,w\na,6,,x\nb,7,,y\na,9,6,z\na,40,,z\n";
    check("fill", &config, &input, &logical(expected));
    let config = json!({ "columns": ["x"], "method": "previous", "as": { "x": "y" } });
    let expected =
        "m,t,x,s:string,y\na,0,,u,\na,1,5,v,5\na,2,,w,5\na,6,,x,5\nb,7,,y,\na,9,6,z,6\na,40,,z,6\n";
    check("fill", &config, &input, &logical(expected));
}

#[test]
fn a_row_waits_for_the_next_value_of_all_columns() {
    let input = logical(
        "m,t,x,s:string,y\na,0,0,u,1\na,2,,,\na,2,,v,9\na,4,8,w,\na,5,,w,\na,6,,w,3\na,20,2,,\na,21,,k,4\na,22,,l,6\n",
    );
    let config = json!({ "columns": ["x", "y"], "method": "linear", "max_gap": 10 });
    let expected = "m,t,x,s:string,y\na,0,0,u,1\na,2,4,,9\na,2,4,v,9\na,4,8,w,6\na,5,,w,4.5\na,6,,w,3\na,20,2,,\na,21,,k,4\na,22,,l,6\n";
    check_ahead("fill", &config, &input, &logical(expected), 11);
}

#[test]
fn rows_that_find_no_room_are_dead_letters() {
    let input = logical("m,t,x\na,0,0\na,1,\na,2,\na,3,\na,4,8\na,12,3\na,13,\n");
    let config = json!({ "columns": ["x"], "method": "linear", "max_gap": 8, "max_rows": 2 });
    let outcome = sameness_ahead("fill", &config, &input, 9);
    assert_eq!(outcome.numbers("x"), [Some(0.0), None, None, Some(3.0), None]);
    let dead: Vec<_> = outcome.dead.iter().map(|d| (d.0, d.3)).collect();
    assert_eq!(dead, [(Some(3), "waiting_full"), (Some(4), "waiting_full")]);
    assert_eq!((outcome.account.used, outcome.account.dead, outcome.account.in_flight), (5, 2, 0));
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for (seed, max_gap) in [(1, 15), (2, 60)] {
        let input = Table::random(seed, 80, Logical);
        let config = json!({ "columns": ["x", "y"], "method": "linear", "max_gap": max_gap });
        let outcome = sameness_ahead("fill", &config, &input, max_gap);
        let times = input.times();
        let columns = [input.numbers("x"), input.numbers("y")];
        for rows in input.by_key().values() {
            for (i, &row) in rows.iter().enumerate() {
                let got = outcome.rows.iter().find(|r| r.position == row as u64).unwrap();
                for (c, values) in columns.iter().enumerate() {
                    let before = rows[..=i].iter().rfind(|&&r| values[r].is_some());
                    let after = rows[i..].iter().find(|&&r| values[r].is_some());
                    let want = values[row].or_else(|| {
                        let (&a, &b) = (before?, after?);
                        let (ya, yb, length) = (values[a]?, values[b]?, times[b] - times[a]);
                        let part = (times[row] - times[a]) as f64 / length as f64;
                        (length > 0 && length <= max_gap).then_some(ya + (yb - ya) * part)
                    });
                    assert_eq!(got.cells[2 + c].number(), want, "{row} {config}");
                }
            }
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let input = logical("m,t,x,s:string\n").schema;
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "columns": ["s"], "method": "linear" }),
            &[
                "columns[0]: column 's' is Utf8, not a number",
                "max_gap: nothing says how long a line may be",
            ],
        ),
        (
            json!({ "columns": ["x"], "method": "previous", "max_gap": 0, "max_rows": 0 }),
            &[
                "max_gap: '0' is not above zero",
                "max_rows: at least one row must be able to wait",
                "max_rows: no row waits for the previous value",
            ],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("fill", config, &input).unwrap_err(), *expected, "{config}");
    }
}
