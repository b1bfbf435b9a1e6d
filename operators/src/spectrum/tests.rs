//! Spectra against SciPy's, and the mistakes of a configuration.

use serde_json::{Value, json};

use crate::testing::{Cell, plan, sameness, try_plan};
use crate::waveforms::tests::{agrees, in_unit, utc, waves};

#[test]
fn agrees_with_scipy() {
    let cases = [
        (
            json!({ "segment": 256, "keep": "density" }),
            include_str!("../../reference/spectrum_hann.csv"),
        ),
        (
            json!({ "window": "blackman", "segment": 175, "overlap": 0.25, "keep": "amplitude" }),
            include_str!("../../reference/spectrum_blackman.csv"),
        ),
        (
            json!({ "window": "rectangular", "segment": 801, "overlap": 0, "keep": "density" }),
            include_str!("../../reference/spectrum_rectangular.csv"),
        ),
    ];
    for (mut config, expected) in cases {
        config["column"] = json!("w");
        config["bands"] = json!({ "low": [10, 100], "high": [100, 1000] });
        config["orders"] = json!({ "mesh": [4.5, 5.5] });
        config["speed"] = json!("speed");
        config["peaks"] = json!(3);
        agrees("spectrum", &config, &waves(), expected);
    }
}

#[test]
fn a_sine_has_its_amplitude_and_its_band_its_rms() {
    // 250 Hz of amplitude 3 at 1000 Hz: 0, 3, 0, -3.
    let input = utc(&format!("m,t,w:wave@1000\na,0,{}\n", "0 3 0 -3 ".repeat(64)));
    let input = in_unit(&input, "w", "mm/s");
    let config = json!({ "column": "w", "segment": 128, "bands": { "all": [0, 500], "none": [300, 400] }, "as": "v" });
    let outcome = sameness("spectrum", &config, &input);
    let number = |name: &str| outcome.numbers(name)[0].unwrap();
    assert!((number("v_peak1_hz") - 250.0).abs() < 1e-12);
    assert!((number("v_peak1") - 3.0).abs() < 1e-12);
    assert!((number("v_all_rms") - 4.5_f64.sqrt()).abs() < 1e-12);
    assert!((number("v_all_energy") - 1.0).abs() < 1e-12);
    assert!(number("v_none_energy") < 1e-20);
    let unit = |name: &str| outcome.schema.column(name).unwrap().unit.clone().unwrap().to_string();
    assert_eq!(["v_peak1_hz", "v_peak1", "v_all_energy"].map(unit), ["Hz", "mm/s", "1"]);
}

#[test]
fn orders_beyond_half_the_rate_are_null() {
    let wave = (0..64).map(|k| format!("{} ", k % 5)).collect::<String>();
    let input = utc(&format!("m,t,w:wave@100,s\na,0,{wave},600\na,1,{wave},60\na,2,{wave},0\n"));
    let config =
        json!({ "column": "w", "segment": 64, "orders": { "high": [4, 6] }, "speed": "s" });
    let energy = sameness("spectrum", &config, &input).numbers("w_high_energy");
    assert_eq!(energy.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn what_is_kept_is_a_list() {
    let input = in_unit(&waves(), "w", "g");
    let config = json!({ "column": "w", "segment": 64, "keep": "density", "peaks": 0 });
    let output = plan("spectrum", &config, &input.schema).output;
    assert_eq!(output.column("w_spectrum").unwrap().unit.as_ref().unwrap().code(), "(g)2/Hz");
    let outcome = sameness("spectrum", &config, &input);
    let Cell::List(lines) = &outcome.column("w_spectrum")[0] else { panic!("no list") };
    assert_eq!(lines.len(), 33);
    assert_eq!(outcome.numbers("w_spectrum_step")[0], Some(31.25));
}

#[test]
fn says_what_is_wrong() {
    let input = utc("m,t,w:wave@2000,s\n");
    let cases: &[(Value, &[&str])] = &[
        (
            json!({ "segment": 4, "overlap": 1, "peaks": 21, "orders": { "x": [2, 1] }, "bands": { "a": [5, 5], "b": [10, 1001] } }),
            &[
                "segment: '4' is not a number of samples of a segment",
                "overlap: '1' is not a share of a segment",
                "peaks: '21' is more than 20",
                "orders.x: '2' to '1' is no band",
                "orders: orders are multiples of a speed, and none is given",
                "bands.a: '5' to '5' is no band",
                "bands.b: '1001' Hz is above half the sample rate of 2000 Hz",
            ],
        ),
        (
            json!({ "bands": { "a": [1, 2] }, "orders": { "a": [1, 2] }, "speed": 60 }),
            &["as: column 'w_a_rms' is there twice"],
        ),
    ];
    for (config, expected) in cases {
        let mut config = config.clone();
        config["column"] = json!("w");
        assert_eq!(try_plan("spectrum", &config, &input.schema).unwrap_err(), *expected);
    }
}
