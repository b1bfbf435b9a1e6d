//! What comes of a file without mistakes.

use std::collections::BTreeMap;
use std::path::Path;

use foreline_engine::{ClockPolicy, LatePolicy, StreamId};
use foreline_spec::{
    Checked, Only, Plan, PlanOptions, RenderStyle, SourceOverride, TestRows, TrainingTarget,
    check_text, dot, explain, mermaid, rows_to_csv, svg,
};

use crate::kinds::{TestEnvironment, kinds, options};

const WHOLE: &str = include_str!("../plans/whole.yaml");

fn check(text: &str, options: &PlanOptions) -> Checked {
    check_text(Path::new("dir/whole.yaml"), text, &kinds(), &TestEnvironment, options)
}

fn plan_with(text: &str, options: &PlanOptions) -> Plan {
    let checked = check(text, options);
    let shown = checked.diagnostics.render(RenderStyle::PLAIN);
    checked.plan.unwrap_or_else(|| panic!("{shown}"))
}

fn plan() -> Plan {
    plan_with(WHOLE, &options())
}

fn golden(name: &str, text: &str) {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&own).join("tests/plans").join(name);
    if std::env::var_os("FORELINE_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "FORELINE_UPDATE=1 accepts it");
}

#[test]
fn a_plan_has_everything_the_file_says() {
    let plan = plan();
    assert_eq!((plan.name.as_str(), plan.workers, plan.epoch_rows), ("whole", Some(2), 1000));
    assert_eq!(plan.epoch_interval.as_millis(), 50);
    assert!(plan.bounded());
    let names: Vec<&str> = plan.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["smooth", "features", "high"], "steps come after what they read");
    let order = &plan.sources[0].order().unwrap();
    assert_eq!((order.lateness, order.late), (5_000_000_000, LatePolicy::DeadLetter));
    assert_eq!(
        (order.dedupe.as_slice(), order.max_ahead),
        ([0, 1].as_slice(), Some(3_600_000_000_000))
    );
    assert_eq!(order.idle_timeout_ns, Some(30_000_000_000));
    let sinks: Vec<_> = plan.sinks.iter().map(|s| (s.name.as_str(), s.from)).collect();
    let (smooth, features) = (StreamId::Step(0), StreamId::Step(1));
    assert_eq!(sinks, [("lake", features), ("lake", smooth), ("rejects", StreamId::DeadLetters)]);
    let alert = &plan.alerts[0];
    assert_eq!(
        (alert.condition.as_str(), plan.stream("high")),
        ("vibration_mean > 4.5", Some(alert.stream))
    );
}

#[test]
fn a_device_clock_adds_a_column_that_flows_on() {
    let text =
        WHOLE.replace("bool\n    key", "bool\n      received:    timestamp\n    key").replace(
            "    max_ahead",
            "    device_clock: { arrival: received, max_difference: 90m }\n    max_ahead",
        );
    let plan = plan_with(&text, &options());
    let source = &plan.sources[0];
    let clock = source.order().unwrap().device_clock.as_ref().unwrap();
    assert_eq!((clock.arrival, clock.max_difference_ns), (Some(5), 5_400_000_000_000));
    assert_eq!(clock.otherwise, ClockPolicy::Arrival);
    assert_eq!((source.schema.time(), source.schema.index_of("device_time")), (1, Some(6)));
    assert!(plan.schema(StreamId::Step(0)).column("device_time").is_some());
    let said = explain(&plan);
    let clocks =
        "devices are believed up to 90m from the arrival 'received', then that is the event time";
    assert!(said.contains(clocks), "{said}");
}

#[test]
fn late_rows_are_a_stream_that_a_sink_can_take() {
    let plan = plan_with(
        &WHOLE.replace("dead_letters, parquet", "[late, dead_letters], parquet"),
        &options(),
    );
    let taken: Vec<_> = plan.sinks.iter().map(|s| s.from).collect();
    assert_eq!(taken[2..], [StreamId::Late, StreamId::DeadLetters]);
    assert_eq!(
        (plan.stream("late"), plan.stream_name(StreamId::Late)),
        (Some(StreamId::Late), "late")
    );
    assert!(explain(&plan).contains("readings -> rejects (late, dead_letters): exactly-once"));
    let drawn = mermaid(&plan);
    assert!(drawn.contains("stream_late --> sink_rejects"), "{drawn}");
    assert!(drawn.contains("stream_dead_letters --> sink_rejects"), "{drawn}");
}

#[test]
fn units_flow_through_every_step() {
    let plan = plan();
    let features = plan.schema(plan.stream("features").unwrap());
    let unit =
        |name: &str| features.column(name).unwrap().unit.as_ref().map(|u| u.code().to_owned());
    assert_eq!(unit("vibration_rms").as_deref(), Some("mm/s"));
    assert_eq!(unit("temperature_mean").as_deref(), Some("Cel"));
}

#[test]
fn a_training_learns_from_the_numbers_that_are_left() {
    let plan = plan();
    let training = &plan.training[0];
    assert!(!training.features.iter().any(|f| f == "temperature_slope" || f == "machine"));
    assert!(training.features.iter().any(|f| f == "vibration_rms"));
    let target = &training.target;
    assert!(
        matches!(target, TrainingTarget::Remaining { cap: Some(450_000_000_000_000), ends: None }),
        "{target:?}"
    );
    assert_eq!(training.weights, Path::new("dir/models/pump.weights"));
    assert!(training.filter.is_some());
}

/// The whole pipeline with a step that is fitted, behind the windows and before another training.
fn with_scaler() -> String {
    let step = "  scaled:\n    from: features\n    standard: { columns: [vibration_rms], statistics: nowhere.json }\n";
    WHOLE.replace("alerts:", &format!("{step}alerts:")).replace(
        "training:\n",
        "training:\n  model: { from: scaled, target: { remaining: {} }, plugin: builtin:linear, weights: a.weights }\n  scaling: { step: scaled, where: vibration_rms < 9 }\n",
    )
}

#[test]
fn a_step_is_fitted_on_what_it_reads() {
    let text = with_scaler();
    assert!(check(&text, &options()).plan.is_none(), "the file of statistics is not there");
    let only = PlanOptions { only: Some(Only::Training("scaling".to_owned())), ..options() };
    let plan = plan_with(&text, &only);
    assert_eq!((plan.sources.len(), plan.steps.len(), plan.training.len()), (1, 2, 0));
    let [fitting] = &plan.fittings[..] else { panic!("{:?}", plan.fittings) };
    assert_eq!((fitting.step.as_str(), plan.stream_name(fitting.from)), ("scaled", "features"));
    assert_eq!(fitting.fitting.file, Path::new("dir/nowhere.json"));
    assert!(fitting.filter.is_some() && fitting.target.is_none());
}

#[test]
fn a_step_is_fitted_before_what_is_learnt_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.yaml");
    std::fs::write(&file, with_scaler()).unwrap();
    assert_eq!(foreline_spec::outline(&file).unwrap().order, ["scaling", "model", "pump"]);
}

#[test]
fn only_what_leads_to_a_training_is_planned() {
    // The model's weights are not there, which matters to nobody who trains them.
    let text = WHOLE
        .replace("alerts:", "  rul: { from: features, model: { plugin: nowhere.wasm } }\nalerts:");
    assert!(check(&text, &options()).plan.is_none());
    let only = PlanOptions { only: Some(Only::Training("pump".to_owned())), ..options() };
    let plan = plan_with(&text, &only);
    assert_eq!((plan.sources.len(), plan.steps.len(), plan.training.len()), (1, 2, 1));
    assert_eq!((plan.sinks.len(), plan.alerts.len(), plan.tests.len()), (0, 0, 0));
    let only = PlanOptions { only: Some(Only::Stream("smooth".to_owned())), ..options() };
    assert_eq!(plan_with(&text, &only).steps.len(), 1);
    for missing in [Only::Stream("smoth".to_owned()), Only::Training("pumps".to_owned())] {
        let only = PlanOptions { only: Some(missing), ..options() };
        let checked = check(&text, &only);
        assert!(checked.plan.is_none());
        assert!(checked.diagnostics.all()[0].suggestion.is_some());
    }
}

#[test]
fn the_input_of_a_source_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.csv");
    let plan = plan();
    let TestRows::Rows(given) = &plan.tests[0].input["readings"] else { panic!("rows") };
    let columns = plan.sources[0].columns.iter().map(|(name, _)| name.as_str());
    let text = rows_to_csv(columns, given);
    assert!(text.starts_with(
        "machine,ts,vibration,temperature,running\nP-1,2024-01-01T00:00:00Z,1.5,20,true\n"
    ));
    std::fs::write(&rows, text).unwrap();
    let overrides = BTreeMap::from([("readings".to_owned(), SourceOverride::Rows(rows))]);
    let plan = plan_with(WHOLE, &PlanOptions { overrides, ..options() });
    plan.graph_of(Vec::new()).expect("the rows are there to be opened");
    let column = &plan.sources[0].columns[1].1;
    assert_eq!((&column.format, &column.zone), (&None, &None), "rows are written in one form");
    let overrides = BTreeMap::from([("reading".to_owned(), SourceOverride::Path("x".into()))]);
    assert!(check(WHOLE, &PlanOptions { overrides, ..options() }).plan.is_none());
}

#[test]
fn the_plan_in_words() {
    golden("whole.explain.txt", &explain(&plan()));
}

#[test]
fn the_plan_in_pictures() {
    let plan = plan();
    golden("whole.mmd", &mermaid(&plan));
    golden("whole.dot", &dot(&plan));
    golden("whole.svg", &svg(&plan));
}

#[test]
fn the_order_of_the_file_does_not_matter() {
    let root = foreline_spec_lines(WHOLE);
    assert_eq!(explain(&plan()), explain(&plan_with(&root, &options())));
}

/// The same file with its sections in the opposite order.
fn foreline_spec_lines(text: &str) -> String {
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if !line.starts_with(' ') {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections.reverse();
    sections.concat().join("\n")
}

#[test]
fn a_key_may_be_a_word_that_yaml_takes_for_a_value() {
    let text = WHOLE.replace("csv: {", "csv: { null: [\"-999\"],");
    assert_ne!(text, WHOLE);
    let plan = plan_with(&text, &options());
    assert!(plan.sources[0].config.contains("\"null\":[\"-999\"]"), "{}", plan.sources[0].config);
}
