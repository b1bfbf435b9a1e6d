//! Whether a plugin keeps the contract: everything that `run` would refuse, and what would make replay differ.

use serde::Serialize;

use super::facts::Facts;
use super::{AuthorError, Subject, wrap};
use crate::model::{
    FUEL_HEADROOM, Files, LimitsConfig, MIN_FUEL_PER_ROW, ModelConfig, TRIAL_ROWS,
    check_descriptor, model_digest, trial_rows,
};
use crate::sandbox::{
    AdmitError, Call, CallError, Descriptor, Instance, MAX_PLUGIN_BYTES, MissingPolicy, PRESENT,
    Setup, Shape, SharedPlugin, digest, survey,
};

/// How far beyond the trained range the second batch goes, in ranges.
const BEYOND: f64 = 3.0;

/// What one look at a plugin found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It works, and the author should know.
    Note,
    /// `run` would refuse it, or replay would differ.
    Fail,
}

/// Everything that was found; it ends where nothing more can be known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// What was checked, in order.
    pub findings: Vec<Finding>,
    /// What the plugin says of itself, once it has started.
    pub model: Option<Facts>,
    /// SHA-256 of the component: what a pipeline file pins.
    pub sha256: Option<String>,
    /// SHA-256 of the weights.
    pub weights_sha256: Option<String>,
    /// What tells this model from another: plugin, weights and options.
    pub model_sha256: Option<String>,
    /// Operators a row, within the trained range.
    pub fuel_per_row: Option<u64>,
    /// The component, made of the core module where it was one.
    #[serde(skip)]
    pub component: Option<Vec<u8>>,
}

impl CheckReport {
    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.verdict != Verdict::Fail)
    }

    fn say(&mut self, check: &'static str, verdict: Verdict, detail: impl Into<String>) {
        self.findings.push(Finding { check, verdict, detail: detail.into() });
    }

    fn pass(&mut self, check: &'static str, detail: impl Into<String>) {
        self.say(check, Verdict::Pass, detail);
    }

    fn fail(&mut self, check: &'static str, detail: impl Into<String>) {
        self.say(check, Verdict::Fail, detail);
    }
}

/// Looks at everything a pipeline would, and more.
#[must_use]
pub fn check(subject: &Subject) -> CheckReport {
    let mut report = CheckReport {
        findings: Vec::new(),
        model: None,
        sha256: None,
        weights_sha256: (!subject.weights.is_empty()).then(|| digest(&subject.weights)),
        model_sha256: None,
        fuel_per_row: None,
        component: None,
    };
    let Some(subject) = admit(subject, &mut report) else { return report };
    let Some((plugin, descriptor)) = start(&subject, &mut report) else { return report };
    behave(&subject, &plugin, &descriptor, &mut report);
    report
}

/// What can be seen before any code of the plugin runs.
fn admit(subject: &Subject, report: &mut CheckReport) -> Option<Subject> {
    let size = subject.plugin.len();
    let (component, form) = match wrap(&subject.plugin) {
        Ok(wrapped) => wrapped,
        Err(e) => {
            let what = match &e {
                AuthorError::Refused(AdmitError::Import(_)) => "imports",
                AuthorError::Refused(AdmitError::TooLarge { .. }) => "size",
                _ => "form",
            };
            report.fail(what, e.to_string());
            return None;
        }
    };
    report.pass("size", format!("{size} bytes, the limit is {MAX_PLUGIN_BYTES}"));
    let seen = match survey(&component) {
        Ok(seen) => seen,
        Err(e) => {
            report.fail("form", e.to_string());
            return None;
        }
    };
    report.pass("form", format!("{form}, with {} functions", seen.functions));
    match seen.forbidden() {
        Some(imports) => report.fail("imports", AdmitError::Import(imports).to_string()),
        None if seen.imports.is_empty() => report.pass("imports", "none"),
        None => report.pass("imports", format!("the log alone: '{}'", seen.imports.join("', '"))),
    }
    match seen.scorer {
        Some((contract, name)) if contract == PRESENT => report.pass("contract", name),
        Some((_, name)) => report.say(
            "contract",
            Verdict::Note,
            format!("{name}: the one before '{}x', which runs still", PRESENT.scorer),
        ),
        None => report.fail("contract", AdmitError::NoScorer.to_string()),
    }
    if !report.passed() {
        return None;
    }
    let sha256 = digest(&component);
    report.sha256 = Some(sha256);
    report.component = Some(component.clone());
    let files = Files { component, weights: subject.weights.clone() };
    report.model_sha256 = Some(model_digest(&files, &ModelConfig::of(&subject.config)));
    Some(Subject { plugin: files.component, ..subject.clone() })
}

/// Compiles and initialises.
fn start(subject: &Subject, report: &mut CheckReport) -> Option<(SharedPlugin, Descriptor)> {
    let plugin = match subject.admitted(Setup::Usual) {
        Ok(plugin) => plugin,
        Err(e) => {
            report.fail("compile", e.to_string());
            return None;
        }
    };
    report.pass("compile", "within the limits on time and memory");
    let (instance, descriptor) = match Instance::start(&plugin) {
        Ok(started) => started,
        Err(e) => {
            let hint =
                if subject.weights.is_empty() { "; it was given none: --weights" } else { "" };
            report.fail("init", format!("{e}{hint}"));
            return None;
        }
    };
    let memory = LimitsConfig::default().memory.0;
    report.pass(
        "init",
        format!(
            "{} operators, {} bytes of memory of {memory}",
            instance.init_fuel_used(),
            instance.memory_bytes()
        ),
    );
    match check_descriptor(&descriptor) {
        Ok(()) => report.pass(
            "descriptor",
            format!(
                "'{}' {}: {} features, {} outputs, {} state values a key",
                descriptor.name,
                descriptor.version,
                descriptor.features.len(),
                descriptor.outputs.len(),
                descriptor.state_width
            ),
        ),
        Err(e) => {
            report.fail("descriptor", e);
            return None;
        }
    }
    report.model = Some(Facts::of(&descriptor));
    Some((plugin, descriptor))
}

/// What a call came to: the bits of outputs and state, or the reason why there are none.
type Answer = Result<Vec<u64>, String>;

/// Whether the same rows always score the same.
fn behave(
    subject: &Subject,
    plugin: &SharedPlugin,
    descriptor: &Descriptor,
    report: &mut CheckReport,
) {
    let rows = Rows::new(descriptor);
    let (first, fuel) = match rows.calls(plugin, &[&rows.usual, &rows.usual, &rows.wild]) {
        Ok(answers) => answers,
        Err(e) => return report.fail("score", e),
    };
    if let Err(e) = &first[0] {
        return report.fail("score", format!("rows within the trained range fail: {e}"));
    }
    let per_row = fuel.div_ceil(TRIAL_ROWS as u64);
    let limit = (per_row * FUEL_HEADROOM).max(MIN_FUEL_PER_ROW);
    report.fuel_per_row = Some(per_row);
    report.pass("score", format!("{per_row} operators a row; the limit will be {limit}"));
    match first[0] == first[1] {
        true => report.pass("same call twice", "the same bits"),
        false => report.fail(
            "same call twice",
            "other bits the second time: the plugin remembers something that is not in its state",
        ),
    }
    match rows.calls(plugin, &[&rows.wild, &rows.usual]) {
        Ok((other, _)) if other[0] == first[2] && other[1] == first[0] => {
            report.pass("two instances", "the same bits whatever each was sent before");
        }
        Ok(_) => report.fail("two instances", "other bits in an instance that was sent other rows"),
        Err(e) => report.fail("two instances", e),
    }
    let contrary = subject.admitted(Setup::Contrary).map_err(|e| e.to_string());
    match contrary.and_then(|p| rows.calls(&p, &[&rows.usual, &rows.wild])) {
        Ok((other, cost)) if other[0] == first[0] && other[1] == first[2] => match cost == fuel {
            true => {
                report.pass("two engines", "the same bits and the same work in other machine code")
            }
            false => report.fail("two engines", format!("{cost} operators instead of {fuel}")),
        },
        Ok(_) => report.fail("two engines", "other bits in other machine code"),
        Err(e) => report.fail("two engines", e),
    }
    if let Err(e) = &first[2] {
        report.say("rows beyond the range", Verdict::Note, format!("they are not scored: {e}"));
    }
    shape(plugin, descriptor, report);
}

/// A call that is wrong should be told from one that ends the plugin. `run` makes none, so it is only a note.
fn shape(plugin: &SharedPlugin, descriptor: &Descriptor, report: &mut CheckReport) {
    let width = descriptor.features.len();
    if width == 0 {
        return;
    }
    let Ok((mut instance, _)) = Instance::start(plugin) else { return };
    let shape =
        Shape { n_outputs: descriptor.outputs.len(), state_width: descriptor.state_width as usize };
    let features = vec![0.0; width];
    let rows = Call { n: 2, features: &features, times: &[], slots: &[], state: &[] };
    match instance.score(rows, shape) {
        Err(CallError::Said(..)) => {
            report.pass("a call of the wrong shape", "is answered with an error")
        }
        _ => report.say(
            "a call of the wrong shape",
            Verdict::Note,
            "is not answered with an error; compare the lengths with the number of rows",
        ),
    }
}

/// Rows to try a plugin with.
struct Rows {
    shape: Shape,
    /// Within the trained range.
    usual: Vec<f64>,
    /// Beyond it, some values missing where the model takes that.
    wild: Vec<f64>,
}

impl Rows {
    fn new(descriptor: &Descriptor) -> Self {
        let features = &descriptor.features;
        let usual = trial_rows(features);
        let width = features.len().max(1);
        let wild = usual.iter().enumerate().map(|(at, value)| {
            let (row, feature) = (at / width, &features[at % width]);
            let passes = matches!(feature.missing, MissingPolicy::PassNan);
            if passes && row % 5 == at % width % 5 { f64::NAN } else { (value - 0.5) * BEYOND }
        });
        Rows {
            shape: Shape {
                n_outputs: descriptor.outputs.len(),
                state_width: descriptor.state_width as usize,
            },
            wild: wild.collect(),
            usual,
        }
    }

    /// Makes calls in one instance, and a new one after a failure; what they answered, and the fuel of the first.
    fn calls(
        &self,
        plugin: &SharedPlugin,
        batches: &[&Vec<f64>],
    ) -> Result<(Vec<Answer>, u64), String> {
        let mut instance = None;
        let (mut answers, mut fuel) = (Vec::new(), 0);
        for (index, batch) in batches.iter().enumerate() {
            let mut at_work = match instance.take() {
                Some(instance) => instance,
                None => Instance::start(plugin).map_err(|e| format!("'init' failed: {e}"))?.0,
            };
            let answer = self.call(&mut at_work, batch);
            if index == 0 {
                fuel = at_work.fuel_used(TRIAL_ROWS);
            }
            if !matches!(answer, Err(CallError::Broke(..))) {
                instance = Some(at_work);
            }
            answers.push(match answer {
                Err(CallError::Host(e)) => return Err(e),
                Err(CallError::Said(reason, _) | CallError::Broke(reason, _)) => {
                    Err(reason.0.to_owned())
                }
                Ok(bits) => Ok(bits),
            });
        }
        Ok((answers, fuel))
    }

    /// Two calls: the second goes on with the state of the first, as keys do that have been seen.
    fn call(&self, instance: &mut Instance, rows: &[f64]) -> Result<Vec<u64>, CallError> {
        let width = self.shape.state_width;
        let n_rows = u32::try_from(TRIAL_ROWS).map_err(|e| CallError::Host(e.to_string()))?;
        let slots: Vec<u32> = if width == 0 { Vec::new() } else { (0..n_rows).collect() };
        let mut state = vec![f64::NAN; TRIAL_ROWS * width];
        let mut bits = Vec::new();
        for call in 0..if width == 0 { 1 } else { 2 } {
            let times = vec![call; slots.len()];
            let (n, features) = (TRIAL_ROWS, rows);
            let rows = Call { n, features, times: &times, slots: &slots, state: &state };
            let scored = instance.score(rows, self.shape)?;
            bits.extend(scored.outputs.iter().chain(&scored.state).map(|v| v.to_bits()));
            state = scored.state;
        }
        Ok(bits)
    }
}
