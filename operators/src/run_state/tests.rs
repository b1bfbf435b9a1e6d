//! What a machine is doing: worked cases, an oracle that goes back from each row, and what the plan refuses.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Cell, Table, check, sameness, try_plan};

#[test]
fn a_machine_starts_runs_and_stops() {
    let input =
        "m,t,v\na,0,100\na,1,280\na,2,301\na,3,260\na,4,\na,5,400\na,9,240\na,10,260\na,11,310\n";
    let expected = "m,t,v,run_state:string,run_state_for
        a,0,100,off,0
        a,1,280,off,1
        a,2,301,starting,0
        a,3,260,starting,1
        a,4,,running,0
        a,5,400,running,1
        a,9,240,off,0
        a,10,260,off,1
        a,11,310,starting,0";
    let config = json!({ "signals": { "v": { "above": 300, "below": 250 } }, "settle": 2 });
    check("run_state", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
}

#[test]
fn what_is_between_the_limits_at_first_is_unknown() {
    let input = "m,t,v\na,0,280\na,1,\na,2,250\nb,0,\n";
    let config = json!({ "signals": { "v": { "above": 300, "below": 250 } }, "as": "is" });
    let outcome = sameness("run_state", &config, &Table::parse(Logical, input));
    let mut states = outcome.column("is");
    states.sort();
    let expected = ["off", "unknown", "unknown", "unknown"].map(|s| Cell::Text(s.to_owned()));
    assert_eq!(states, expected);
}

#[test]
fn a_signal_grows_stale_and_a_gap_begins_anew() {
    let input = "m,t,v,w\na,0,5,1\na,2,5,1\na,4,,1\na,6,,1\na,7,5,1\na,20,5,1\na,22,5,1\n";
    let expected = "m,t,v,w,run_state:string,run_state_for
        a,0,5,1,starting,0
        a,2,5,1,running,0
        a,4,,1,running,2
        a,6,,1,unknown,0
        a,7,5,1,starting,0
        a,20,5,1,starting,0
        a,22,5,1,running,0";
    let config = json!({ "signals": { "v": { "above": 1 }, "w": { "above": 0 } },
        "settle": 2, "max_gap": 3 });
    check("run_state", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
}

#[test]
fn signals_are_combined_as_kleene_has_it() {
    let input = Table::parse(
        Logical,
        "m,t,v,b:bool\na,0,5,\na,1,0,\na,2,0,true\na,3,5,true\na,4,5,false\n",
    );
    let states = |when: &str| {
        let config = json!({ "signals": { "v": { "above": 1 }, "b": {} }, "when": when });
        let column = sameness("run_state", &config, &input).column("run_state");
        column.iter().map(|c| format!("{c:?}").replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(states("all"), ["unknown", "off", "off", "running", "off"]);
    assert_eq!(states("any"), ["running", "unknown", "running", "running", "running"]);
}

#[test]
fn agrees_with_an_oracle_on_random_rows() {
    for seed in 0..3 {
        let input = Table::random(seed, 160, UtcNanos);
        let config = json!({ "signals": { "x": { "above": 20.2, "below": 19.8 } },
            "settle": "600ms", "max_gap": "2s" });
        let outcome = sameness("run_state", &config, &input);
        let (x, times) = (input.numbers("x"), input.times());
        let mut expected = vec![String::new(); input.len()];
        for rows in input.by_key().values() {
            for (i, &row) in rows.iter().enumerate() {
                expected[row] = from_scratch(&rows[..=i], &x, &times);
            }
        }
        for row in &outcome.rows {
            let want = &expected[usize::try_from(row.position).unwrap()];
            assert_eq!(row.cells[5], Cell::Text(want.clone()), "row {}", row.position);
        }
    }
}

/// The state in the last of `rows`, found by going back from it.
fn from_scratch(rows: &[usize], x: &[Option<f64>], times: &[i64]) -> String {
    let on_at = |i: usize| -> Option<bool> {
        let mut later = times[rows[i]];
        for &row in rows[..=i].iter().rev().filter(|&&row| x[row].is_some()) {
            if later - times[row] > 2_000_000_000 {
                return None;
            }
            later = times[row];
            match x[row]? {
                x if x > 20.2 => return Some(true),
                x if x <= 19.8 => return Some(false),
                _ => {}
            }
        }
        None
    };
    let last = rows.len() - 1;
    match on_at(last) {
        None => "unknown".to_owned(),
        Some(false) => "off".to_owned(),
        Some(true) => {
            let joined = |i: usize| times[rows[i + 1]] - times[rows[i]] <= 2_000_000_000;
            let first = (0..last)
                .rev()
                .find(|&i| on_at(i) != Some(true) || !joined(i))
                .map_or(0, |i| i + 1);
            let on_for = times[rows[last]] - times[rows[first]];
            if on_for >= 600_000_000 { "running" } else { "starting" }.to_owned()
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(UtcNanos, "m,t,x,b:bool,s:string\n");
    let cases: &[(Value, &[&str])] = &[
        (json!({ "signals": {} }), &["signals: no signal is named"]),
        (
            json!({ "signals": { "x": {}, "b": { "above": 1 }, "s": { "above": 1 }, "z": {} },
                "settle": 3, "max_gap": "0s" }),
            &[
                "signals.x: nothing says when 'x' is on",
                "signals.b: column 'b' is boolean",
                "signals.s: column 's' is Utf8, not a number",
                "signals.z: there is no column 'z'",
                "settle: '3' has no unit, but the event time is a timestamp",
                "max_gap: '0s' is not above zero",
            ],
        ),
        (
            json!({ "signals": { "x": { "above": 1, "below": 2 } } }),
            &["signals.x.below: '2' is greater than 'above', '1'"],
        ),
        (
            json!({ "signals": { "x": { "above": 1 } }, "as": "s" }),
            &["as: column 's' is there twice"],
        ),
    ];
    for (config, expected) in cases {
        let errors = try_plan("run_state", config, &input.schema).unwrap_err();
        assert_eq!(errors, *expected, "{config}");
    }
}
