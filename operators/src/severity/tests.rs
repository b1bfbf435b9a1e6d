//! Velocities against NumPy's, units, zones, and the mistakes of a configuration.

use foreline_engine::TimeDomain::UtcNanos;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Cell, Table, plan, sameness, try_plan};
use crate::waveforms::tests::{agrees, in_unit, utc, waves};

#[test]
fn agrees_with_numpy() {
    let config = json!({ "column": "w", "band": [10, 900], "limits": [0.5, 1.5, 400] });
    let expected = include_str!("../../reference/severity_g.csv");
    agrees("severity", &config, &in_unit(&waves(), "w", "g"), expected);
    let expected = include_str!("../../reference/severity_inch.csv");
    agrees("severity", &config, &in_unit(&waves(), "w", "in/s"), expected);
}

/// A second at 4096 Hz of a sine of 64 Hz, whose Hann window smears nothing out of the band.
fn sine(amplitude: f64) -> Table {
    let samples = (0..4096).map(|k| amplitude * libm::sin(2.0 * PI * 64.0 * f64::from(k) / 4096.0));
    let samples: Vec<String> = samples.map(|x| format!("{x}")).collect();
    utc(&format!("m,t,w:wave@4096\na,0,{}\n", samples.join(" ")))
}

#[test]
fn one_vibration_is_as_severe_in_every_unit() {
    // 10 m/s2 at 64 Hz move at 10,000 / (2 pi 64) / sqrt 2 mm/s RMS.
    let velocity = 1e4 / (2.0 * PI * 64.0) / 2.0_f64.sqrt();
    let peak = velocity * 2.0_f64.sqrt();
    let cases = [
        (10.0, "m/s2"),
        (1e4, "mm/s2"),
        (1e4 / GRAVITY, "g"),
        (1e4 / GRAVITY, "g_n"),
        (1e7 / GRAVITY, "mg"),
        (peak, "mm/s"),
        (peak / 1e3, "m/s"),
        (peak * 1e3, "um/s"),
        (peak / 25.4, "in/s"),
    ];
    for (amplitude, unit) in cases {
        let input = in_unit(&sine(amplitude), "w", unit);
        let outcome = sameness("severity", &json!({ "column": "w" }), &input);
        let found = outcome.numbers("w_velocity_rms")[0].unwrap();
        // Half of the line's power is in its neighbours, at a frequency a little lower and a little higher.
        assert!((found / velocity - 1.0).abs() < 2e-4, "{unit}: {found} should be {velocity}");
    }
}

#[test]
fn zones_follow_the_table() {
    let zone = |v: f64, mut config: Value| {
        let input = in_unit(&sine(v * 2.0_f64.sqrt()), "w", "mm/s");
        config["column"] = json!("w");
        sameness("severity", &config, &input).column("w_zone")[0].clone()
    };
    let edition = |group: u8, mounting: Option<&str>| match mounting {
        Some(m) => json!({ "edition": "ISO 10816-3:2009", "group": group, "mounting": m }),
        None => json!({ "edition": "ISO 10816-1:1995", "group": group }),
    };
    let cases = [
        (1.3, edition(2, Some("rigid")), "A"),
        (1.5, edition(2, Some("rigid")), "B"),
        (2.9, edition(2, Some("rigid")), "C"),
        (4.6, edition(2, Some("rigid")), "D"),
        (4.6, edition(2, Some("flexible")), "C"),
        (4.6, edition(1, Some("flexible")), "B"),
        (4.6, edition(4, None), "B"),
        (0.7, edition(1, None), "A"),
        (4.6, json!({ "edition": "ISO 20816-3:2022", "limits": [1, 2, 5] }), "C"),
    ];
    for (v, config, expected) in cases {
        assert_eq!(zone(v, config.clone()), Cell::Text(expected.to_owned()), "{v} {config}");
    }
}

#[test]
fn who_uses_the_table_is_told_to_check_it() {
    let schema = in_unit(&utc("m,t,w:wave@4096\n"), "w", "g").schema;
    let notes = |config: Value| plan("severity", &config, &schema).notes.len();
    assert_eq!(notes(json!({ "column": "w", "edition": "ISO 10816-1:1995", "group": 1 })), 1);
    assert_eq!(notes(json!({ "column": "w", "limits": [1, 2, 3] })), 0);
    assert_eq!(notes(json!({ "column": "w" })), 0);
}

#[test]
fn without_limits_there_is_no_zone() {
    let input = in_unit(&sine(1.0), "w", "mm/s");
    let outcome = sameness("severity", &json!({ "column": "w" }), &input);
    assert_eq!(outcome.schema.index_of("w_zone"), None);
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(UtcNanos, "m,t,w:wave@2000,v:wave@1000\n");
    let cases: &[(Value, &str, &[&str])] = &[
        (
            json!({ "band": [0, 500] }),
            "Cel",
            &[
                "column: column 'w' is in 'Cel', neither acceleration nor velocity",
                "band: a velocity has no lines down to 0 Hz",
            ],
        ),
        (
            json!({ "column": "v" }),
            "g",
            &[
                "column: column 'v' has no unit, so it is neither acceleration nor velocity",
                "band: '1000' Hz is above half the sample rate of 1000 Hz",
            ],
        ),
        (json!({ "limits": [1, 3, 2] }), "g", &["limits: limits must rise, and begin above 0"]),
        (json!({ "group": 2 }), "g", &["a group or mounting means nothing without an edition"]),
        (
            json!({ "edition": "ISO 10816-3:2009", "group": 2 }),
            "g",
            &["edition: the edition has no limits for this group and mounting"],
        ),
        (
            json!({ "edition": "ISO 20816-3:2022", "group": 2, "mounting": "rigid" }),
            "g",
            &["edition: the limits of ISO 20816-3:2022 are not built in"],
        ),
    ];
    for (config, unit, expected) in cases {
        let mut config = config.clone();
        if config["column"].is_null() {
            config["column"] = json!("w");
        }
        let schema = in_unit(&input, "w", unit).schema;
        assert_eq!(try_plan("severity", &config, &schema).unwrap_err(), *expected, "{config}");
    }
}
