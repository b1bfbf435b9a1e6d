//! Orders against SciPy's, and the mistakes of a configuration.

use serde_json::{Value, json};

use crate::testing::{Table, sameness, try_plan};
use crate::waveforms::tests::{agrees, in_unit, utc};

fn tracked() -> Table {
    utc(include_str!("../../reference/tracked.csv"))
}

#[test]
fn agrees_with_scipy() {
    let orders = json!({ "first": 1, "half": 3.5 });
    let config = json!({ "column": "w", "tachometer": { "column": "tacho", "level": 2.5 }, "orders": orders, "samples_per_turn": 128, "keep": 4 });
    agrees("orders", &config, &tracked(), include_str!("../../reference/orders_pulses.csv"));
    let config = json!({ "column": "w", "speed": "rpm", "orders": orders, "samples_per_turn": 32, "keep": 4 });
    agrees("orders", &config, &tracked(), include_str!("../../reference/orders_speed.csv"));
}

#[test]
fn an_even_speed_is_a_frequency() {
    // 100 Hz at 1000 Hz, and a shaft of 20 Hz: order 5.
    let wave = "0 0.587785 0.951057 0.951057 0.587785 0 -0.587785 -0.951057 -0.951057 -0.587785 ";
    let input = utc(&format!("m,t,w:wave@1000,s\na,0,{},1200\na,1,1 2 3,\n", wave.repeat(51)));
    for speed in [json!(1200), json!("s")] {
        let config = json!({ "column": "w", "speed": speed, "orders": { "five": 5, "six": 6 }, "samples_per_turn": 100 });
        let outcome = sameness("orders", &config, &input);
        assert_eq!(outcome.numbers("w_turns")[0], Some(10.0));
        let [five, six] = ["w_five", "w_six"].map(|name| outcome.numbers(name)[0].unwrap());
        assert!((five - 1.0).abs() < 0.02 && six < 0.02, "{five} {six}");
        let alone = outcome.rows.len() == 2;
        assert_eq!(alone, speed.is_string(), "without a speed there is nothing to say");
    }
}

#[test]
fn a_tachometer_must_go_with_its_signal() {
    let input = utc("m,t,w:wave@1000,p:wave@1000\na,0,1 2 3,0 1\na,1,1 2 3,0 0 1\na,2,1 2 3,\n");
    let config = json!({ "column": "w", "tachometer": { "column": "p", "level": 0.5 }, "orders": { "a": 1 } });
    let outcome = sameness("orders", &config, &input);
    let reasons: Vec<_> = outcome.dead.iter().map(|d| d.3).collect();
    assert_eq!(reasons, ["waveform_mismatch", "too_few_turns"]);
    assert_eq!((outcome.rows.len(), outcome.numbers("w_a")[0]), (1, None));
}

#[test]
fn says_what_is_wrong() {
    let input = in_unit(&utc("m,t,w:wave@2000,p:wave@1000,s:wave@2000\n"), "s", "g");
    let cases: &[(Value, &[&str])] = &[
        (json!({ "orders": { "a": 1 } }), &["nothing says how the shaft turned"]),
        (
            json!({ "orders": { "a": 1 }, "speed": 60, "tachometer": { "column": "p", "level": 1 } }),
            &["speed and tachometer say the same thing"],
        ),
        (
            json!({ "orders": { "a": 1 }, "speed": "s" }),
            &["speed: column 's' is in 'g', which is no speed"],
        ),
        (
            json!({ "orders": {}, "tachometer": { "column": "p", "level": 1, "hysteresis": -1, "pulses_per_turn": 0 } }),
            &[
                "tachometer.column: column 'p' has 1000 Hz, the signal 2000 Hz",
                "tachometer.hysteresis: '-1' is out of range",
                "tachometer.pulses_per_turn: '0' is out of range",
                "orders: no order is named",
            ],
        ),
        (
            json!({ "orders": { "a": 32, "b": 0 }, "speed": 60, "samples_per_turn": 64, "tolerance": 1, "min_turns": 0, "keep": 33 }),
            &[
                "tolerance: '1' is out of range",
                "min_turns: '0' is out of range",
                "orders.a: '32' is out of range",
                "orders.b: '0' is out of range",
                "keep: '33' is out of range",
            ],
        ),
    ];
    for (config, expected) in cases {
        let mut config = config.clone();
        config["column"] = json!("w");
        assert_eq!(try_plan("orders", &config, &input.schema).unwrap_err(), *expected, "{config}");
    }
}
