//! Intervals against crepes, their promise, and what keeps them from being made.

use foreline_engine::{TimeDomain::Logical, Unit};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Table, WithFile, check, sameness, try_plan};

fn table(text: &str) -> Table {
    Table::parse(Logical, text)
}

fn train() -> Table {
    table(include_str!("../../reference/conformal_train.csv"))
}

fn fit(config: &Value, rows: &Table) -> Result<WithFile, Vec<String>> {
    let truth = rows.rows.column_by_name("y").cloned();
    WithFile::fit_to("conformal", config, rows, truth.as_ref())
}

#[test]
fn agrees_with_crepes() {
    let live = table(include_str!("../../reference/conformal_live.csv"));
    let expected = table(include_str!("../../reference/conformal.csv"));
    for (name, more) in [
        ("plain", json!({})),
        ("scaled", json!({ "scale": "s" })),
        ("binned", json!({ "bins": 3 })),
        ("cqr", json!({ "interval": { "low": "low", "high": "high" } })),
    ] {
        let mut config = json!({ "column": "p", "coverage": 0.85 });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let fitted = fit(&config, &train()).unwrap();
        let outcome = sameness("conformal", &fitted.config, &live);
        for bound in ["low", "high"] {
            let found = outcome.numbers(&format!("p_{bound}"));
            let wanted = expected.numbers(&format!("{name}_{bound}"));
            assert_eq!(found.len(), 40);
            for (found, wanted) in found.iter().zip(wanted) {
                let (found, wanted) = (found.unwrap(), wanted.unwrap());
                assert!((found - wanted).abs() < 1e-9, "{name} {bound}: {found}, not {wanted}");
            }
        }
    }
}

/// Over many fleets the share of rows held is what was asked for: with `n` rows that calibrate it is at least the coverage, and
/// at most that and 1 / (n + 1).
#[test]
fn the_promise_is_kept() {
    let mut state = 7_u64;
    let mut noise = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1_u64 << 53) as f64).powi(3) * 10.0
    };
    let mut held = 0;
    for _ in 0..4000 {
        let scores: Vec<f64> = (0..19).map(|_| noise()).collect();
        held += u32::from(noise() <= margin(scores, 0.8).unwrap());
    }
    let share = f64::from(held) / 4000.0;
    assert!((0.78..=0.82).contains(&share), "{share}");
}

#[test]
fn one_side_has_a_sign() {
    // Errors y - p: -4, -3, -2, -1, 0, 1, 2, 3, 40.
    let text: String = [-4, -3, -2, -1, 0, 1, 2, 3, 40]
        .iter()
        .enumerate()
        .map(|(i, e)| format!("a,{i},100,{}\n", 100 + e))
        .collect();
    let rows = table(&format!("m,t,p,y\n{text}"));
    let live = table("m,t,p,y\nb,0,50,\nb,1,,\n");
    for (side, expected) in [
        ("low", "m,t,p,y,p_low\nb,0,50,,47\nb,1,,,\n"),
        ("high", "m,t,p,y,p_high\nb,0,50,,53\nb,1,,,\n"),
    ] {
        let fitted = fit(&json!({ "column": "p", "coverage": 0.8, "side": side }), &rows).unwrap();
        check("conformal", &fitted.config, &live, &table(expected));
    }
}

#[test]
fn an_interval_that_is_too_wide_is_narrowed_to_its_middle_at_most() {
    let rows = table("m,t,p,l,h,y\na,0,5,0,10,5\na,1,5,0,10,5\na,2,5,0,10,5\na,3,5,0,10,4\n");
    let config = json!({ "column": "p", "coverage": 0.8, "interval": { "low": "l", "high": "h" },
        "as": { "low": "least", "high": "most" } });
    let fitted = fit(&config, &rows).unwrap();
    let live = table("m,t,p,l,h,y\nb,0,5,0,10,\nb,1,5,4,6,\nb,2,5,,6,\n");
    let expected = table("m,t,p,l,h,y,least,most\nb,0,5,0,10,,4,6\nb,1,5,4,6,,5,5\nb,2,5,,6,,,\n");
    check("conformal", &fitted.config, &live, &expected);
}

#[test]
fn a_scale_that_says_nothing_makes_no_interval() {
    let rows = table("m,t,p,s,y\na,0,5,1,6\na,1,5,2,3\na,2,5,0,9\na,3,5,1,\na,4,5,-1,5\n");
    let fitted = fit(&json!({ "column": "p", "coverage": 0.5, "scale": "s" }), &rows).unwrap();
    assert_eq!(fitted.file["rows"], 2);
    assert_eq!(fitted.fitted.summary, "50 % of 2 rows within a margin of 1.0000 times the scale");
    let live = table("m,t,p,s,y\nb,0,5,3,\nb,1,5,0,\nb,2,5,,\n");
    let expected = table("m,t,p,s,y,p_low,p_high\nb,0,5,3,,2,8\nb,1,5,0,,,\nb,2,5,,,,\n");
    check("conformal", &fitted.config, &live, &expected);
}

#[test]
fn the_unit_is_that_of_the_prediction() {
    let rows = train();
    let fitted = fit(&json!({ "column": "p" }), &rows).unwrap();
    let mut columns = rows.schema.columns().to_vec();
    columns[2].unit = Some(Unit::new("h"));
    let schema = Schema::new(columns, &["m"], "t").unwrap();
    let planned = crate::testing::plan("conformal", &fitted.config, &schema);
    assert_eq!(planned.output.column("p_high").unwrap().unit, Some(Unit::new("h")));
}

#[test]
fn says_what_is_wrong() {
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "column": "z", "coverage": 1, "bins": 0, "scale": "m", "interval": { "low": "low", "high": "t" } }),
            &[
                "coverage: '1' is not a share",
                "bins: '0' is not between 1 and 100",
                ": scale and interval exclude one another",
                "column: there is no column 'z'",
                "scale: column 'm' is part of the key",
                "interval.high: column 't' is the event time",
            ],
        ),
        (
            json!({ "column": "p", "side": "low", "as": { "high": "most" } }),
            &["as.high: with this 'side' there is no bound 'high'"],
        ),
        (json!({ "column": "p", "as": { "low": "s" } }), &["as: column 's' is there twice"]),
    ];
    for (config, expected) in cases {
        let mut config = config.clone();
        config["statistics"] = json!("a.json");
        let errors = try_plan("conformal", &config, &train().schema).unwrap_err();
        let expected: Vec<&str> = expected.iter().map(|e| e.trim_start_matches(": ")).collect();
        assert_eq!(errors, expected, "{config}");
    }
}

#[test]
fn a_file_of_another_step_is_refused() {
    let fitted = fit(&json!({ "column": "p" }), &train()).unwrap();
    for (config, expected) in [
        (json!({ "column": "s" }), "column: the statistics were fitted with 'column: p'"),
        (
            json!({ "column": "p", "coverage": 0.8 }),
            "coverage: the statistics were fitted with 'coverage: 0.9'",
        ),
        (
            json!({ "column": "p", "side": "low" }),
            "side: the statistics were fitted with 'side: both'",
        ),
        (
            json!({ "column": "p", "scale": "s" }),
            "scale: the statistics were fitted with 'scale: null'",
        ),
        (json!({ "column": "p", "bins": 2 }), "bins: the statistics were fitted with 'bins: 1'"),
        (
            json!({ "column": "p", "interval": { "low": "low", "high": "high" } }),
            "interval: the statistics were fitted with 'interval: null'",
        ),
    ] {
        let errors = try_plan("conformal", &fitted.under(config), &train().schema).unwrap_err();
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn too_few_rows_are_said() {
    let rows = table("m,t,p,y\na,0,1,2\na,1,1,3\na,2,1,\n");
    let errors = fit(&json!({ "column": "p" }), &rows).unwrap_err();
    assert_eq!(
        errors,
        [
            "2 rows are too few for a coverage of 0.9: it takes 9 or more in every range of the prediction"
        ]
    );
    assert!(fit(&json!({ "column": "p", "coverage": 0.5 }), &rows).is_ok());
}
