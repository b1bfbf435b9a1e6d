//! `foreline model check`: whether a plugin keeps the contract.

use std::path::PathBuf;

use clap::Args;
use foreline_plugins::author::{self, CheckReport, Facts, Verdict};

use super::{Model, cache};
use crate::failure::{Failure, Outcome};
use crate::train::write_whole;

/// What `foreline model check` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: Model,
    /// Write the component here: what a pipeline file names. A core module is made one.
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Checks a plugin.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn check(arguments: &Arguments) -> Outcome {
    let cache = cache()?;
    let report = author::check(&arguments.model.read(cache.path())?);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", text(&report));
    }
    if !report.passed() {
        return Err(Failure::Answer);
    }
    if let (Some(out), Some(component)) = (&arguments.out, &report.component) {
        write_whole(out, component)?;
    }
    Ok(())
}

fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    let width = report.findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::Pass => "pass",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        };
        text += &format!("{verdict}  {:width$}  {}\n", finding.check, finding.detail);
    }
    if let Some(facts) = &report.model {
        text += &described(facts);
    }
    let digests = [
        ("sha256", &report.sha256),
        ("weights_sha256", &report.weights_sha256),
        ("model_digest", &report.model_sha256),
    ];
    for (name, digest) in digests {
        if let Some(digest) = digest {
            text += &format!("{name}: \"{digest}\"\n");
        }
    }
    text
}

/// What a model says of itself.
fn described(facts: &Facts) -> String {
    let mut text = format!("model '{}' {}\n", facts.name, facts.version);
    for f in &facts.features {
        let unit = f.unit.as_deref().map_or(String::new(), |unit| format!(" in {unit}"));
        let range =
            f.trained_range.map_or(String::new(), |(low, high)| format!(", {low} to {high}"));
        text += &format!("  feature {}{unit}, {}{range}\n", f.name, f.missing);
    }
    for o in &facts.outputs {
        let unit = o.unit.as_deref().map_or(String::new(), |unit| format!(" in {unit}"));
        let labels = match o.labels.as_slice() {
            [] => String::new(),
            labels => format!(": {}", labels.join(", ")),
        };
        text += &format!("  output {}, {}{unit}{labels}\n", o.name, o.kind);
    }
    if facts.state_width > 0 {
        text += &format!(
            "  state {} values a key, version {}\n",
            facts.state_width, facts.state_version
        );
    }
    for (key, value) in &facts.annotations {
        text += &format!("  {key}: {value}\n");
    }
    text
}
