//! The examples of the manual: each fits the streams that it is written for.

use std::path::Path;

use foreline_engine::{Family, Registration};
use foreline_spec::{Kinds, RenderStyle, check_text};

use crate::kinds::{TestEnvironment, options};

const STREAMS: &str = include_str!("../../../../operators/examples/streams.yaml");

/// The errors of a pipeline that has the example as its steps.
fn errors(kind: &Registration) -> Vec<String> {
    let steps: String = kind.example.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("{STREAMS}steps:\n{steps}");
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&own).join("../../operators/examples/streams.yaml");
    let checked = check_text(&path, &text, &Kinds::all(), &TestEnvironment, &options());
    let shown = checked.diagnostics.render(RenderStyle::PLAIN);
    if checked.plan.is_some() { vec![] } else { vec![format!("{}: {shown}", kind.name)] }
}

#[test]
fn every_example_fits_the_streams_it_is_written_for() {
    let kinds = Kinds::all().steps;
    // A model is a file beside the pipeline, which the manual does not ship.
    let found: Vec<String> =
        kinds.iter().filter(|k| k.family != Family::Models).flat_map(errors).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for kind in &kinds {
        let names_itself = kind.example.contains(&format!("{}:", kind.name));
        assert!(names_itself, "the example of '{}' does not use it: {}", kind.name, kind.example);
    }
}
