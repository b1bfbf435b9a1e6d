//! What is the same for all steps over waveforms, and the waveforms that they are tested with.

use arrow::array::RecordBatch;
use foreline_engine::{TimeDomain, Unit};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Cell, Table, plan, sameness, try_plan};

/// A table of UTC times.
pub(crate) fn utc(text: &str) -> Table {
    Table::parse(TimeDomain::UtcNanos, text)
}

/// Three waveforms `w` of 2000 Hz with a `speed`.
pub(crate) fn waves() -> Table {
    utc(include_str!("../../reference/waves.csv"))
}

/// The table with the column `name` in `unit`.
pub(crate) fn in_unit(table: &Table, name: &str, unit: &str) -> Table {
    let mut columns = table.schema.columns().to_vec();
    let column = columns.iter_mut().find(|c| c.name == name).expect("the column is there");
    column.unit = Some(Unit::new(unit));
    let key = columns[table.schema.key()[0]].name.clone();
    let time = columns[table.schema.time()].name.clone();
    let schema = Schema::new(columns, &[&key], &time).expect("it was a schema before");
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), table.rows.columns().to_vec());
    Table { schema, rows: rows.expect("the types are the same") }
}

/// Runs `kind` over `input` in all ways and compares the columns that `expected` has.
pub(crate) fn agrees(kind: &str, config: &Value, input: &Table, expected: &str) {
    sameness(kind, config, input).assert_columns_close(&utc(expected));
}

/// Each step with a configuration that suits short waveforms of 2000 Hz.
fn steps() -> [(&'static str, Value, usize); 5] {
    let (w, lines) = ("w", json!({ "a": 3 }));
    [
        ("cepstrum", json!({ "column": w, "from": 0.002, "to": 0.01 }), 43),
        ("envelope", json!({ "column": w, "speed": 600, "lines": lines, "band": [100, 900] }), 534),
        ("orders", json!({ "column": w, "speed": 6000, "orders": lines }), 81),
        ("severity", json!({ "column": w, "band": [100, 900] }), 80),
        ("spectrum", json!({ "column": w, "segment": 64 }), 64),
    ]
}

#[test]
fn a_waveform_that_cannot_be_used_is_a_dead_letter_and_a_null_is_null() {
    let samples = |n: usize| (0..n).map(|k| format!("{} ", k * k % 17)).collect::<String>();
    for (kind, config, n) in steps() {
        let waves = [
            samples(n),
            String::new(),
            samples(n - 1),
            "[]".to_owned(),
            samples(n) + "NaN",
            "inf ".to_owned() + &samples(n),
        ];
        let rows: String = (0..).zip(&waves).map(|(t, w)| format!("a,{t},{w},0\n")).collect();
        let input = utc(&format!("m,t,w:wave@2000,v\n{rows}"));
        let input = in_unit(&input, "w", "mm/s");
        let outcome = sameness(kind, &config, &input);
        let times: Vec<_> = outcome.rows.iter().map(|row| row.time).collect();
        assert_eq!(times, [0, 1], "{kind}");
        assert!(outcome.rows[0].cells[4..].iter().any(|c| *c != Cell::Null), "{kind}");
        assert!(outcome.rows[1].cells[4..].iter().all(|c| *c == Cell::Null), "{kind}");
        let short = if kind == "orders" { "too_few_turns" } else { "waveform_too_short" };
        let reasons: Vec<_> = outcome.dead.iter().map(|d| d.3).collect();
        assert_eq!(reasons, [short, "waveform_too_short", "non_finite", "non_finite"], "{kind}");
    }
}

#[test]
fn a_waveform_that_does_not_move_is_no_fault() {
    for (kind, config, _) in steps() {
        let input = utc(&format!("m,t,w:wave@2000\na,0,{}\n", "1 ".repeat(600)));
        let outcome = sameness(kind, &config, &in_unit(&input, "w", "mm/s"));
        assert_eq!((outcome.rows.len(), outcome.dead.len()), (1, 0), "{kind}");
    }
}

#[test]
fn every_step_wants_waveforms() {
    let input = utc("m,t,x,w:wave@2000\n");
    for (kind, mut config, _) in steps() {
        let input = in_unit(&input, "w", "mm/s");
        config["column"] = json!("x");
        let errors = try_plan(kind, &config, &input.schema).unwrap_err();
        assert_eq!(errors[0], "column: column 'x' has no waveforms but Float64", "{kind}");
        config["column"] = json!("y");
        let errors = try_plan(kind, &config, &input.schema).unwrap_err();
        assert_eq!(errors[0], "column: there is no column 'y'", "{kind}");
    }
}

#[test]
fn new_columns_are_called_as_the_user_says() {
    let input = in_unit(&utc("m,t,w:wave@2000\n"), "w", "mm/s");
    for (kind, mut config, _) in steps() {
        config["as"] = json!("drive");
        let output = plan(kind, &config, &input.schema).output;
        let added = &output.columns()[3..];
        assert!(!added.is_empty() && added.iter().all(|c| c.name.starts_with("drive_")), "{kind}");
        assert!(added.iter().all(|c| c.unit.is_some() || !c.data_type.is_numeric()), "{kind}");
    }
}

#[test]
fn a_speed_has_a_unit_of_speed() {
    let input = utc("m,t,w:wave@2000,s,k:string\n");
    let config = |speed: Value| json!({ "column": "w", "speed": speed, "lines": { "a": 1 } });
    for unit in ["rpm", "Hz", "1/min"] {
        let input = in_unit(&input, "s", unit);
        let _ = plan("envelope", &config(json!("s")), &input.schema);
    }
    let cases = [
        (json!("s"), "speed: column 's' is in '%', which is no speed"),
        (json!("k"), "speed: column 'k' is Utf8, not a number"),
        (json!(-5), "speed: '-5' is no speed"),
    ];
    for (speed, expected) in cases {
        let errors = try_plan("envelope", &config(speed), &in_unit(&input, "s", "%").schema);
        assert_eq!(errors.unwrap_err(), [expected]);
    }
}

#[test]
fn the_transforms_agree_with_scipy() {
    use crate::signal::envelope::Envelope;
    use crate::signal::taper::Taper;
    let numbers = |text: &str| -> Vec<Vec<f64>> {
        let row = |line: &str| line.split(',').map(|v| v.parse().unwrap()).collect();
        text.lines().skip(1).map(row).collect()
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} should be {b}");
    for text in [
        include_str!("../../reference/signal_hilbert_even.csv"),
        include_str!("../../reference/signal_hilbert_odd.csv"),
    ] {
        let rows = numbers(text);
        let x: Vec<f64> = rows.iter().map(|row| row[0]).collect();
        let mut envelope = Envelope::new(Taper::Hann);
        envelope.hilbert(&x).iter().zip(&rows).for_each(|(&got, row)| close(got, row[1]));
    }
    let rows = numbers(include_str!("../../reference/signal_tapers.csv"));
    for (i, taper) in [Taper::Hann, Taper::Blackman, Taper::Rectangular].into_iter().enumerate() {
        taper.weights(rows.len()).iter().zip(&rows).for_each(|(&got, row)| close(got, row[i]));
    }
}
