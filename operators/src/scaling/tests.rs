//! What holds for every scaler.

use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::{Value, json};

use crate::testing::{Cell, Table, WithFile, plan, sameness, try_plan};

fn train() -> Table {
    Table::parse(UtcNanos, include_str!("../../reference/scaling_train.csv"))
}

fn live() -> Table {
    Table::parse(UtcNanos, include_str!("../../reference/scaling_live.csv"))
}

#[test]
fn one_file_serves_all_scalers() {
    let config = json!({ "columns": ["y", "x"], "by": ["mode"] });
    let fitted = WithFile::new("standard", &config, &train());
    assert_eq!(fitted.fitted.summary, "2 columns of 300 rows in 3 regimes");
    for kind in ["minmax", "robust", "standard"] {
        let config = fitted.under(json!({ "columns": ["x"], "by": ["mode"] }));
        let planned = plan(kind, &config, &train().schema);
        let [digest] = &planned.depends_on[..] else { panic!("{:?}", planned.depends_on) };
        assert!(digest.starts_with("statistics "), "{digest}");
        let own = WithFile::new(kind, &json!({ "columns": ["x"], "by": ["mode"] }), &train());
        let columns = |config: &Value| sameness(kind, config, &live()).column("x");
        assert_eq!(columns(&config), columns(&own.config), "{kind}");
    }
}

#[test]
fn scaled_values_have_no_unit_and_the_flag_is_last() {
    let config = json!({ "columns": ["x"], "by": ["mode"], "as": { "x": "score" }, "flag": "odd" });
    let fitted = WithFile::new("standard", &config, &train());
    let output = plan("standard", &fitted.config, &train().schema).output;
    let names: Vec<_> = output.columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["machine", "ts", "x", "y", "mode", "shift", "score", "odd"]);
    assert_eq!(output.column("score").unwrap().unit.as_ref().unwrap().code(), "1");
}

#[test]
fn a_regime_of_training_without_a_value_takes_the_figures_of_all() {
    let train = Table::parse(Logical, "m,t,x,r:string\na,0,1,p\na,1,3,p\na,2,,q\n");
    let fitted = WithFile::new("minmax", &json!({ "columns": ["x"], "by": ["r"] }), &train);
    let live = Table::parse(Logical, "m,t,x,r:string\na,0,2,q\na,1,2,new\n");
    let outcome = sameness("minmax", &fitted.config, &live);
    assert_eq!(outcome.numbers("x"), [Some(0.5), Some(0.5)]);
    assert_eq!(outcome.column("regime_unknown"), [Cell::Bool(false), Cell::Bool(true)]);
}

#[test]
fn next_to_no_spread_is_none_unless_asked_for() {
    let train = Table::parse(Logical, "m,t,x\na,0,1e-12\na,1,3e-12\n");
    let fitted = WithFile::new("standard", &json!({ "columns": ["x"] }), &train);
    let outcome = sameness("standard", &fitted.config, &train);
    assert_eq!(outcome.numbers("x"), [Some(0.0), Some(0.0)]);
    let config = fitted.under(json!({ "columns": ["x"], "constant": 0.0 }));
    let scores = sameness("standard", &config, &train).numbers("x");
    assert!((scores[0].unwrap() + 1.0).abs() < 1e-9 && (scores[1].unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn online_agrees_with_an_oracle_on_random_rows() {
    for seed in 0..3 {
        let input = Table::random(seed, 120, UtcNanos);
        let outcome =
            sameness("standard", &json!({ "columns": ["x"], "online": { "rows": 5 } }), &input);
        let (x, mut expected) = (input.numbers("x"), vec![None; input.len()]);
        for rows in input.by_key().values() {
            let mut learnt = Vec::new();
            for &row in rows {
                let Some(x) = x[row] else { continue };
                if learnt.len() < 5 {
                    learnt.push(x);
                }
                let n = learnt.len() as f64;
                let mean = learnt.iter().sum::<f64>() / n;
                let std = (learnt.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
                expected[row] = Some(if std < 1e-9 { 0.0 } else { (x - mean) / std });
            }
        }
        for row in &outcome.rows {
            let got = row.cells[2].number();
            let want = expected[usize::try_from(row.position).unwrap()];
            assert_eq!(got.is_some(), want.is_some());
            assert!(got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {want:?}");
        }
    }
}

#[test]
fn a_key_of_too_many_regimes_goes_on_with_the_figures_of_all() {
    let mut text = String::from("m,t,x,n:int64\n");
    for i in 0..80 {
        text += &format!("a,{i},{i},{i}\n");
    }
    let input = Table::parse(Logical, &text);
    let config = json!({ "columns": ["x"], "by": ["n"], "online": true });
    let outcome = sameness("minmax", &config, &input);
    let flags = outcome.column("regime_unknown");
    assert_eq!(flags.iter().filter(|f| **f == Cell::Bool(true)).count(), 80 - 64);
    let x = outcome.numbers("x");
    assert_eq!((x[63], x[64], x[79]), (Some(0.0), Some(1.0), Some(1.0)));
}

#[test]
fn too_many_regimes_are_not_fitted() {
    let mut text = String::from("m,t,x,n:int64\n");
    for i in 0..1100 {
        text += &format!("a,{i},{i},{i}\n");
    }
    let config = json!({ "columns": ["x"], "by": ["n"] });
    let errors = WithFile::fit("standard", &config, &Table::parse(Logical, &text)).unwrap_err();
    assert_eq!(
        errors,
        ["there are 1100 regimes, but at most 1024 can be fitted: round more coarsely"]
    );
}

#[test]
fn a_column_without_a_value_is_not_fitted() {
    let rows = Table::parse(Logical, "m,t,x,y\na,0,,1\na,1,,2\n");
    let errors = WithFile::fit("robust", &json!({ "columns": ["y", "x"] }), &rows).unwrap_err();
    assert_eq!(errors, ["column 'x' has no value in 2 rows"]);
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(Logical, "m,t,x,f,s:string\n");
    let cases: &[(Value, &[&str])] = &[
        (json!({ "columns": ["x"] }), &["nothing says where the statistics are from"]),
        (
            json!({ "columns": ["x"], "online": false }),
            &["nothing says where the statistics are from"],
        ),
        (
            json!({ "columns": ["x"], "online": true, "statistics": "a.json" }),
            &["statistics and online exclude one another"],
        ),
        (
            json!({ "columns": ["z", "s", "x", "x"], "by": ["f", "t", "s", "s"], "constant": -1, "as": { "y": "z" } }),
            &[
                "constant: '-1' is not a spread",
                "by[0]: column 'f' has fractions, so few rows have the same value",
                "by[1]: column 't' is the event time, which is never the same again",
                "by[3]: column 's' is there twice",
                "columns[0]: there is no column 'z'",
                "columns[1]: column 's' is Utf8, not a number",
                "columns[3]: column 'x' is there twice",
                "as.y: column 'y' is not among the columns to scale",
            ],
        ),
        (
            json!({ "columns": ["x"], "online": true, "flag": "odd" }),
            &["flag: without 'by' there is no regime to be unknown"],
        ),
        (
            json!({ "columns": ["x"], "online": true, "by": ["s"], "flag": "f" }),
            &["flag: column 'f' is there twice"],
        ),
        (
            json!({ "columns": ["x"], "online": true, "as": { "x": "f" } }),
            &["as: column 'f' is there twice"],
        ),
        (
            json!({ "columns": ["x"], "online": { "rows": 5, "duration": 5 } }),
            &["online: rows and duration exclude one another"],
        ),
        (
            json!({ "columns": ["x"], "online": { "rows": 1 } }),
            &["online.rows: nothing is learnt from '1' values"],
        ),
        (json!({ "columns": ["x"], "online": {} }), &["online: nothing says how long to learn"]),
        (
            json!({ "columns": ["x"], "online": { "duration": "5s" } }),
            &["online.duration: '5s' is a duration, but the event time is a count"],
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("standard", config, &input.schema).unwrap_err(), *expected, "{config}");
    }
}

#[test]
fn says_where_a_file_does_not_fit() {
    let fitted = WithFile::new("standard", &json!({ "columns": ["x"], "by": ["mode"] }), &train());
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "columns": ["x", "y"], "by": ["mode"] }),
            &["columns[1]: the statistics know no column 'y'"],
        ),
        (
            json!({ "columns": ["x"], "by": ["shift"] }),
            &["by: the statistics are by [mode], but the step is by [shift]"],
        ),
    ];
    for (config, expected) in cases {
        let config = fitted.under(config.clone());
        assert_eq!(try_plan("standard", &config, &train().schema).unwrap_err(), *expected);
    }
    let regimes = fitted.under(json!({ "round": { "x": 0 } }));
    let [error] = &try_plan("regime", &regimes, &train().schema).unwrap_err()[..] else { panic!() };
    assert!(error.ends_with("holds 'summary', but this step needs 'regimes'"), "{error}");
    assert!(fitted.path().exists());
}

#[test]
fn another_unit_than_in_training_is_refused() {
    let schema = |unit: &str| {
        let mut columns = train().schema.columns().to_vec();
        columns[2].unit = Some(foreline_engine::Unit::new(unit));
        foreline_engine::Schema::new(columns, &["machine"], "ts").unwrap()
    };
    let in_mm = Table { schema: schema("mm/s"), ..train() };
    let rows = arrow::array::RecordBatch::try_new(
        std::sync::Arc::clone(in_mm.schema.arrow()),
        in_mm.rows.columns().to_vec(),
    );
    let in_mm = Table { rows: rows.unwrap(), ..in_mm };
    let fitted = WithFile::new("standard", &json!({ "columns": ["x"] }), &in_mm);
    let errors = try_plan("standard", &fitted.config, &schema("[in_i]/s")).unwrap_err();
    let expected = "columns[0]: the unit of column 'x' is [in_i]/s, but its statistics have mm/s";
    assert_eq!(errors, [expected]);
}
