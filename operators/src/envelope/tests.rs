//! Envelope spectra against SciPy's, recorded bearings, and the mistakes of a configuration.

use serde_json::{Value, json};

use crate::signal::kurtogram::Kurtogram;
use crate::testing::recorded::recorded;
use crate::testing::{Cell, Dice, Outcome, once, sameness, try_plan};
use crate::waveforms::tests::{agrees, utc, waves};

fn config(band: Option<[f64; 2]>) -> Value {
    let mut config = json!({
        "column": "w", "speed": "speed", "threshold": 8, "keep": 120,
        "lines": { "shocks": 3.7, "other": 5.2 },
    });
    if let Some(band) = band {
        config["band"] = json!(band);
    }
    config
}

#[test]
fn agrees_with_scipy() {
    let expected = include_str!("../../reference/envelope_band.csv");
    agrees("envelope", &config(Some([500.0, 800.0])), &waves(), expected);
    let expected = include_str!("../../reference/envelope_chosen.csv");
    agrees("envelope", &config(None), &waves(), expected);
}

#[test]
fn harmonics_and_sidebands_are_counted() {
    let mut config = config(Some([500.0, 800.0]));
    config["harmonics"] = json!(3);
    config["sidebands"] = json!(2);
    let outcome = sameness("envelope", &config, &waves());
    let shocks = outcome.numbers("w_shocks_harmonics");
    assert!(shocks.contains(&Some(3.0)) && shocks.contains(&None), "{shocks:?}");
    // What is not found has neither.
    let other = outcome.numbers("w_other_harmonics");
    assert!(other.iter().all(|n| n.is_none_or(|n| n == 0.0)), "{other:?}");
    let sidebands = outcome.numbers("w_shocks_sidebands");
    assert!(sidebands.contains(&Some(0.0)), "{sidebands:?}");
}

#[test]
fn sidebands_of_a_line_that_is_modulated_are_found() {
    // A carrier of 300 Hz whose amplitude has a line at 40 Hz with sidebands 10 Hz apart.
    let mut dice = Dice::new(1);
    let samples = (0..4000).map(|k| {
        let turn = |hz: f64| libm::sin(2.0 * std::f64::consts::PI * hz * f64::from(k) / 1000.0);
        let amplitude = 2.0 + turn(40.0) * (1.0 + 0.5 * turn(10.0));
        format!("{:.6} ", amplitude * turn(300.0) + 0.1 * dice.unit())
    });
    let input = utc(&format!("m,t,w:wave@1000\na,0,{}\n", samples.collect::<String>()));
    let config = json!({ "column": "w", "speed": 600, "lines": { "a": 4 }, "band": [200, 400], "sidebands": 3 });
    let outcome = once("envelope", &config, &input);
    assert_eq!(outcome.column("w_a_found"), [Cell::Bool(true)]);
    assert_eq!(outcome.numbers("w_a_sidebands"), [Some(2.0)]);
    // Hann's window puts half of an amplitude into each neighbour: of the squares two thirds stay in the line.
    let energy = outcome.numbers("w_a_energy")[0].unwrap();
    assert!((energy - 2.0 / 3.0).abs() < 0.02, "{energy}");
}

#[test]
fn too_few_samples_have_no_band() {
    let n = Kurtogram::MIN_SAMPLES;
    let wave = |n: usize| (0..n).map(|k| format!("{} ", k * k % 7)).collect::<String>();
    let input = utc(&format!("m,t,w:wave@100\na,0,{}\na,1,{}\n", wave(n - 1), wave(n)));
    let outcome =
        sameness("envelope", &json!({ "column": "w", "speed": 60, "lines": { "a": 3 } }), &input);
    assert_eq!((outcome.rows.len(), outcome.dead.len()), (1, 1));
    assert!(outcome.dead[0].4.contains("264 are needed"), "{}", outcome.dead[0].4);
}

#[test]
fn says_what_is_wrong() {
    let input = utc("m,t,w:wave@2000\n");
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &["nothing says which lines to look for"]),
        (
            json!({ "lines": { "a": 0 }, "tolerance": 0, "background": -1, "threshold": 1, "harmonics": 21, "band": [100, 2000], "keep": 1200 }),
            &[
                "tolerance: '0' is out of range",
                "background: '-1' is out of range",
                "threshold: '1' is out of range",
                "harmonics: '21' is out of range",
                "lines.a: '0' is no order",
                "band: '2000' Hz is above half the sample rate of 2000 Hz",
                "keep: '1200' Hz is above half the sample rate of 2000 Hz",
            ],
        ),
        (
            json!({ "bearing": { "balls": 9, "ball_diameter": 40, "pitch_diameter": 39 } }),
            &["bearing: there is no such bearing"],
        ),
    ];
    for (config, expected) in cases {
        let mut config = config.clone();
        config["column"] = json!("w");
        config["speed"] = json!(1500);
        assert_eq!(try_plan("envelope", &config, &input.schema).unwrap_err(), *expected);
    }
}

/// A recording of Case Western Reserve University's bearing data center; `None`, said loudly, where it is not there.
fn recording(name: &str) -> Option<Vec<f64>> {
    let text =
        std::fs::read_to_string(recorded(&format!("cwru/{name}.csv"))?).expect("it is a file");
    Some(text.lines().skip(1).map(|line| line.parse().expect("a number")).collect())
}

/// The bearing SKF 6205 at 1,797 rpm, in the band that is usual for it.
fn bearing() -> Value {
    json!({
        "column": "w", "speed": 1797, "band": [2000, 5000],
        "bearing": { "balls": 9, "ball_diameter": 7.94, "pitch_diameter": 39.04 },
    })
}

fn look(config: &Value, rate: u32, samples: &[&[f64]]) -> Outcome {
    let row = |(t, samples): (usize, &&[f64])| {
        let samples: Vec<String> = samples.iter().map(ToString::to_string).collect();
        format!("a,{t},{}\n", samples.join(" "))
    };
    let rows: String = samples.iter().enumerate().map(row).collect();
    once("envelope", config, &utc(&format!("m,t,w:wave@{rate}\n{rows}")))
}

#[test]
fn race_damage_is_found_in_recordings() {
    let files = [
        ("IR007_0", "bpfi"),
        ("IR014_0", "bpfi"),
        ("IR021_0", "bpfi"),
        ("OR007_at6_0", "bpfo"),
        ("OR021_at6_0", "bpfo"),
    ];
    for (name, line) in files {
        let Some(samples) = recording(name) else { return };
        let whole = look(&bearing(), 12_000, &[&samples]);
        let number = |what: &str| whole.numbers(&format!("w_{line}_{what}"))[0].unwrap();
        let (error, ratio) = (number("error"), number("ratio"));
        println!(
            "{name}: {line} at {:.2} Hz, {:+.2} %, ratio {ratio:.0}",
            number("hz"),
            error * 100.0
        );
        assert_eq!(whole.column(&format!("w_{line}_found")), [Cell::Bool(true)], "{name}");
        assert!(error.abs() < 0.005, "{name}: {error}");
        assert!(ratio > 80.0, "{name}: {ratio}");
        let windows: Vec<&[f64]> = samples.windows(48_000).step_by(24_000).collect();
        let parts = look(&bearing(), 12_000, &windows);
        for ratio in parts.numbers(&format!("w_{line}_ratio")) {
            assert!(ratio.unwrap() > 40.0, "{name}: four seconds have {ratio:?}");
        }
    }
}

#[test]
fn race_damage_is_found_in_the_band_of_greatest_kurtosis() {
    let mut config = bearing();
    config.as_object_mut().unwrap().remove("band");
    for (name, line) in [
        ("IR007_0", "bpfi"),
        ("IR014_0", "bpfi"),
        ("IR021_0", "bpfi"),
        ("OR007_at6_0", "bpfo"),
        ("OR021_at6_0", "bpfo"),
    ] {
        let Some(samples) = recording(name) else { return };
        let whole = look(&config, 12_000, &[&samples[..96_000]]);
        let number = |what: &str| whole.numbers(&format!("w_{what}"))[0].unwrap();
        let (error, ratio) = (number(&format!("{line}_error")), number(&format!("{line}_ratio")));
        println!("{name}: {} to {} Hz, ratio {ratio:.0}", number("band_low"), number("band_high"));
        assert!(error.abs() < 0.005 && ratio > 40.0, "{name}: {error} {ratio}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let races = ["bpfo", "bpfi", "bsf2", "ftf"];
    for (name, rate) in [("OR014_at6_0", 12_000), ("Normal_0", 48_000)] {
        let Some(samples) = recording(name) else { return };
        let outcome = look(&bearing(), rate, &[&samples]);
        for line in races {
            assert_eq!(outcome.column(&format!("w_{line}_found")), [Cell::Bool(false)], "{name}");
            assert_eq!(outcome.numbers(&format!("w_{line}_hz")), [None], "{name} {line}");
            let ratio = outcome.numbers(&format!("w_{line}_ratio"))[0].unwrap();
            assert!(ratio < if name == "Normal_0" { 10.0 } else { 20.0 }, "{name} {line}: {ratio}");
        }
    }
}
