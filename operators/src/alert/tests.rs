//! Alerts by example, at random, late, in recorded data; mistakes.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use foreline_engine::parse_config;
use serde_json::{Value, json};

use super::*;
use crate::detection_data::{dryer, nanos};
use crate::testing::recorded::recorded;
use crate::testing::{Cell, Outcome, Table, check, once, plan, sameness, try_plan};

mod engine;
mod examples;
mod oracle;

fn logical(text: &str) -> Table {
    Table::parse(Logical, text)
}

/// The text of a column.
fn texts(outcome: &Outcome, name: &str) -> Vec<String> {
    let text = |cell: Cell| match cell {
        Cell::Text(text) => text,
        other => format!("{other:?}"),
    };
    outcome.column(name).into_iter().map(text).collect()
}

/// The event times of what was raised.
fn raised(outcome: &Outcome) -> Vec<i64> {
    let changes = texts(outcome, "change");
    let raised = outcome.rows.iter().zip(changes).filter(|(_, change)| change == "raised");
    raised.map(|(row, _)| row.time).collect()
}

#[test]
fn the_history_is_a_table_with_ids_that_stay() {
    // The ids are those of python-xxhash: each part's XXH3 with the hash of the parts before as its seed.
    let input = logical("m,t,x\na,0,20\na,5,95.5\na,9,95\nb,9,99\na,12,70\n");
    let expected = logical(
        "m,t,alert:string,rule:string,severity:int64,change:string,sequence:int64,raised_at:int64,\
         cleared_at:int64,flapping:bool,inhibited:bool,message:string,evidence:string,first_seen:int64\n\
         a,8,595a2d114c05453c,alert,4,raised,0,8,,false,false,too hot,{\"x\":95.5},5\n\
         a,12,595a2d114c05453c,alert,4,cleared,1,8,12,false,false,too hot,{\"x\":70.0},5\n\
         b,12,38fd018063026b36,alert,4,raised,0,12,,false,false,too hot,{\"x\":99.0},9\n",
    );
    let config = json!({
        "when": "x > 90", "clear": "x < 80", "for": 3, "severity": "major", "message": "too hot"
    });
    check("alert", &config, &input, &expected);
    let key = expected.schema;
    let output = plan("alert", &config, &input.schema).output;
    let primary = |c: &usize| output.columns()[*c].name.clone();
    let primary: Vec<_> = output.primary_key().columns.iter().map(primary).collect();
    assert_eq!(primary, ["m", "t", "alert", "sequence"]);
    assert_eq!((output.key(), output.time()), (key.key(), 1));
}

#[test]
fn a_recorded_fan_alarms_when_its_bearing_fails_and_not_before() {
    let Some(path) = recorded("dryer_fan/dryer_3_fan_1_2020.csv") else { return };
    let readings = dryer(&path);
    // ISO 10816-3, group 2, rigid; the fan is damaged on 21 October.
    let before = nanos("2020-10-20 00:00:00");
    let (times, vz) = (readings.times(), readings.numbers("vz"));
    // Two of the rows above 1.4 follow one another, which makes one alert.
    for (limit, n_rows, n_alerts) in [(1.4, 9, 8), (2.8, 1, 1), (4.5, 0, 0)] {
        let above =
            |(at, vz): &(&i64, &Option<f64>)| **at < before && vz.is_some_and(|v| v > limit);
        assert_eq!(times.iter().zip(&vz).filter(above).count(), n_rows, "{limit}");
        let when = format!("vz > {limit}");
        let lasting = json!({ "when": when, "of": { "k": 3, "rows": 3 } });
        let lasting = once("alert", &lasting, &readings);
        assert_eq!(raised(&lasting)[0], nanos("2020-10-21 17:30:00"), "{limit}");
        let first_seen = lasting.column("first_seen")[0].clone();
        assert_eq!(first_seen, Cell::Int(nanos("2020-10-21 16:30:00")), "{limit}");
        let single = once("alert", &json!({ "when": when }), &readings);
        let single = raised(&single).iter().filter(|&&at| at < before).count();
        assert_eq!(single, n_alerts, "{limit}");
    }
}

#[test]
fn the_recorded_fan_has_one_alert_that_gets_worse() {
    let Some(path) = recorded("dryer_fan/dryer_3_fan_1_2020.csv") else { return };
    let config = json!({
        "severity": { "warning": "vz > 1.4", "major": "vz > 2.8", "critical": "vz > 4.5" },
        "of": { "k": 3, "rows": 3 },
    });
    let outcome = once("alert", &config, &dryer(&path));
    assert_eq!(raised(&outcome)[0], nanos("2020-10-21 17:30:00"));
    assert_eq!(outcome.column("severity")[0], Cell::Int(5));
}

#[test]
fn a_row_that_cannot_be_judged_is_a_dead_letter() {
    let input = logical("m,t,l:wave@1,x\na,0,1 2,95\nb,1,3,95\n");
    let outcome = sameness("alert", &json!({ "when": "l > 1" }), &input);
    assert!(outcome.rows.is_empty());
    let dead = outcome.dead.iter().map(|d| (d.0, d.1.as_deref(), d.3)).collect::<Vec<_>>();
    assert_eq!(dead, [(Some(0), Some("a"), "expression"), (Some(1), Some("b"), "expression")]);
}

#[test]
fn the_usual_ways_to_write_an_alert_are_read() {
    let cases = [
        json!({ "when": "rul_hours < 48", "clear": "rul_hours > 72", "for": "3m", "severity": "critical" }),
        json!({ "when": "temperature > 90", "of": { "k": 3, "rows": 5 },
                "unless": "run_state <> 'running'", "message": "too hot" }),
        json!({ "deadman": "10m", "severity": 4 }),
        json!({ "when": "a", "flapping": { "changes": 3, "within": "1h" }, "unless_clears": true }),
        json!({ "severity": { "warning": "rul_hours < 72", "critical": "rul_hours < 24" } }),
    ];
    for case in &cases {
        let config = parse_config::<AlertConfig>(case);
        assert!(config.is_ok(), "{case}: {config:?}");
    }
    let error = parse_config::<AlertConfig>(&json!({ "when": "a", "severity": "bad" }));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("severity: ") && error.contains("info, minor"), "{error}");
    let unknown = parse_config::<AlertConfig>(&json!({ "when": "a", "from": "x" }));
    assert!(unknown.is_err(), "'from' is not part of the rule");
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(UtcNanos, "m,t,x,w:list\n");
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &["nothing says when the alert is raised"]),
        (
            json!({ "deadman": "0s", "when": "x > 1", "clear": "x < 1", "for": "1s", "of": { "k": 1 },
                    "max_gap": "1s", "severity": { "info": "x > 2" } }),
            &[
                "when: silence has no rows to look at",
                "clear: silence has no rows to look at",
                "for: silence has no rows to look at",
                "of: silence has no rows to look at",
                "max_gap: silence has no rows to look at",
                "severity: silence has no rows to look at",
                "deadman: '0s' is not above zero",
                "of: nothing says how far back to look",
            ],
        ),
        (
            json!({ "when": "x", "clear": "z > 1", "unless": "x", "for": 3, "clear_for": "0s",
                    "of": { "k": 0, "rows": 2, "duration": "1s" }, "severity": 7,
                    "flapping": { "changes": 0, "within": 5 }, "max_gap": "0s" }),
            &[
                "max_gap: '0s' is not above zero",
                "for: '3' has no unit, but the event time is a timestamp",
                "clear_for: '0s' is not above zero",
                "of.k: '0' is not a number of rows",
                "of: rows and duration exclude one another",
                "flapping.changes: '0' is not a number of times",
                "flapping.within: '5' has no unit, but the event time is a timestamp",
                "severity: '7' is not a severity",
                "when: the condition is Float64, not true or false",
                "clear: there is no column 'z'",
                "unless: the condition is Float64, not true or false",
            ],
        ),
        (
            json!({ "severity": { "major": "x", "critical": "z > 2" }, "unless_clears": true,
                    "of": { "k": 3, "rows": 2 }, "evidence": ["x", "x", "q", "w"] }),
            &[
                "unless_clears: nothing inhibits the alert",
                "of.rows: of '2' rows there are never 3 that confirm",
                "severity.critical: there is no column 'z'",
                "severity.major: the condition is Float64, not true or false",
                "evidence[1]: column 'x' is there twice",
                "evidence[2]: there is no column 'q'",
                "evidence[3]: column 'w' is a list of numbers",
            ],
        ),
        (json!({ "severity": {} }), &["severity: no level has a condition"]),
    ];
    for (config, expected) in cases {
        let errors = try_plan("alert", config, &input.schema).unwrap_err();
        assert_eq!(errors, *expected, "{config}");
    }
    let clash = Table::parse(UtcNanos, "rule,t,x\n");
    let errors = try_plan("alert", &json!({ "when": "x > 1" }), &clash.schema).unwrap_err();
    assert_eq!(errors, ["column 'rule' is there twice"]);
    let silent = plan("alert", &json!({ "deadman": "10m" }), &input.schema);
    assert!(silent.notes[0].contains("'idle_timeout'"), "{:?}", silent.notes);
}
