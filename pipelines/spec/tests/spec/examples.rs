//! The examples of the manual: each fits the streams that it is written for.

use std::path::Path;

use foreline_engine::{Family, Registration};
use foreline_spec::{Checked, Environment, Kinds, RenderStyle, check_text, explain};

use crate::kinds::{TestEnvironment, options};

const STREAMS: &str = include_str!("../../../../operators/examples/streams.yaml");

/// A pipeline that has the example as its steps.
fn checked(kind: &Registration) -> Checked {
    let steps: String = kind.example.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("{STREAMS}steps:\n{steps}");
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&own).join("../../operators/examples/streams.yaml");
    check_text(&path, &text, &Kinds::all(), &TestEnvironment, &options())
}

fn errors(kind: &Registration) -> Option<String> {
    let checked = checked(kind);
    let shown = checked.diagnostics.render(RenderStyle::PLAIN);
    checked.plan.is_none().then(|| format!("{}: {shown}", kind.name))
}

/// What the example of bursts wants to know of its surroundings.
#[derive(Debug)]
struct Plant;

impl Environment for Plant {
    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "MQTT_URL" => "mqtt://localhost:1883",
            "DATABASE_URL" => "postgresql://localhost:5432/plant",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn file(&self, _: &Path) -> Result<String, String> {
        Err("it is not there".to_owned())
    }
}

#[test]
fn the_pipeline_of_bursts_has_no_mistakes() {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&own).join("../examples/vibration-bursts.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let checked = check_text(&path, &text, &Kinds::all(), &Plant, &options());
    let shown = checked.diagnostics.render(RenderStyle::PLAIN);
    let plan = checked.plan.unwrap_or_else(|| panic!("{shown}"));
    let said = explain(&plan);
    assert!(said.contains("waveform of 25600 Hz  g"), "{said}");
    let sql: Vec<&str> = plan.sinks.iter().filter_map(|s| s.sink.sql.as_deref()).collect();
    assert!(sql.iter().any(|s| s.contains("\"acceleration\" real[]")), "{sql:?}");
    assert!(
        sql.iter().any(|s| s.contains("\"acceleration_spectrum\" double precision[]")),
        "{sql:?}"
    );
}

#[test]
fn waveforms_and_spectra_are_named_in_words() {
    let kinds = Kinds::all().steps;
    let spectrum = kinds.iter().find(|k| k.name == "spectrum").unwrap();
    let said = explain(&checked(spectrum).plan.unwrap());
    assert!(said.contains("waveform of 12000 Hz  g"), "{said}");
    assert!(said.contains("list of float64"), "{said}");
}

#[test]
fn every_example_fits_the_streams_it_is_written_for() {
    let kinds = Kinds::all().steps;
    // A model is a file beside the pipeline, which the manual does not ship.
    let found: Vec<String> =
        kinds.iter().filter(|k| k.family != Family::Models).filter_map(errors).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for kind in &kinds {
        let names_itself = kind.example.contains(&format!("{}:", kind.name));
        assert!(names_itself, "the example of '{}' does not use it: {}", kind.name, kind.example);
    }
}
