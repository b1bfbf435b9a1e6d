//! `foreline demo`: the whole thing, with nothing installed and nothing prepared.
//!
//! It does what a user would type, in that order, with the pipeline file that lies in the folder afterwards:
//! `simulate`, `train`, `run`, `evaluate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use arrow::array::AsArray as _;
use clap::Args;
use foreline_engine::OnChange;
use foreline_spec::Plan;

use crate::commands::Running;
use crate::evaluate::{Evaluated, judge_one};
use crate::failure::Outcome;
use crate::fleet;
use crate::learning::key_names;
use crate::progress::Progress;
use crate::run::{carry_out, summary};
use crate::session::{Purpose, keep, load_again};
use crate::simulate::{self, PumpFleet};
use crate::table::{Table, decimal};
use crate::train::fit;

/// The pipeline of the demo, which is the first of the examples.
const PIPELINE: &str = include_str!("../../examples/quickstart.yaml");
/// Its file in the demo's folder.
const FILE: &str = "quickstart.yaml";
/// The entry of `training:`.
const TRAINING: &str = "pump";
/// The entry of `evaluation:`.
const EVALUATION: &str = "live";

/// What `foreline demo` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to work in; what an earlier demo left there is replaced.
    #[arg(long, short, default_value = "foreline-demo")]
    out: PathBuf,
    /// End after the report. (This version has nothing to serve, so it always does.)
    #[arg(long)]
    exit: bool,
    /// Another seed is another fleet.
    #[arg(long, default_value_t = PumpFleet::default().seed)]
    seed: u64,
    #[command(flatten)]
    running: Running,
}

/// Shows the whole thing.
///
/// # Errors
/// When the disk fails, or the demo is broken.
#[expect(clippy::print_stdout, reason = "the demo is what it prints")]
pub fn demo(arguments: &Arguments) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "how long it took is for the last line only")]
    let begun = Instant::now();
    let (out, running) = (&arguments.out, &arguments.running);
    let file = out.join(FILE);
    std::fs::create_dir_all(out).with_context(|| format!("make '{}'", out.display()))?;
    std::fs::write(&file, PIPELINE).with_context(|| format!("write '{}'", file.display()))?;

    step("simulate", &format!("foreline simulate --out {}", out.display()));
    let fleet = PumpFleet { seed: arguments.seed, ..PumpFleet::default() };
    let bar = Progress::detect(running.quiet).bar("simulating", 0, "readings");
    let written = simulate::write(&fleet, out, &|done, total| bar.set(done, total))?;
    bar.finish();
    println!("{}", fleet::summary(&fleet, &written));

    step("train", &format!("foreline train {}", file.display()));
    let outline = foreline_spec::outline(&file).map_err(anyhow::Error::from)?;
    let inputs = outline.trainings.get(TRAINING).cloned().unwrap_or_default();
    println!("{}", fit(&file, TRAINING, inputs, running)?.line());

    step("run", &format!("foreline run {}", file.display()));
    let plan = load_again(&file, Purpose::default())?;
    let (report, time) = carry_out(&plan, running, OnChange::Fresh)?;
    print!("{}", summary(&plan, &report, time));

    step("evaluate", &format!("foreline evaluate {}", file.display()));
    let config = outline.evaluations.get(EVALUATION).context("the demo's evaluation")?;
    let evaluated = judge_one(&file, EVALUATION, config, BTreeMap::new(), running)?;
    print!("{evaluated}");
    let told = told(&plan, running).map_err(|_| anyhow::anyhow!("the alerts of the demo"))?;
    println!("\n{}", machines(&evaluated, &told));
    println!("\n{}\n", told.changes);
    println!("{}", last_words(out, &file, begun.elapsed().as_secs_f64()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the demo is what it prints")]
fn step(name: &str, command: &str) {
    println!("\n== {name}   $ {command}");
}

fn last_words(out: &Path, file: &Path, seconds: f64) -> String {
    format!(
        "everything lies in '{}', the pipeline in '{}': change it and run it again ({seconds:.0} s in all)",
        out.display(),
        file.display()
    )
}

/// Every live machine with its prediction, the truth, and the alerts that are open in the end.
fn machines(evaluated: &Evaluated, told: &Told) -> Table {
    let mut rows: Vec<_> = evaluated.rows.iter().collect();
    rows.sort_by(|a, b| a.truth.total_cmp(&b.truth).then_with(|| a.key.cmp(&b.key)));
    let mut table = Table::new(["machine", "predicted h", "truth h", "off by", "open alerts"]);
    for row in rows {
        let off = row.predicted.map(|p| p - row.truth);
        table.push([
            row.key.clone(),
            decimal(row.predicted, 2),
            decimal(Some(row.truth), 2),
            decimal(off, 2),
            told.open.get(&row.key).map(|rules| rules.join(", ")).unwrap_or_default(),
        ]);
    }
    table
}

/// What the alerts have said.
#[derive(Default)]
struct Told {
    /// The rules of the alerts that are open at the end, by machine.
    open: BTreeMap<String, Vec<String>>,
    /// How many changes of each sort each rule has, in words.
    changes: String,
}

/// Carries the alerts out once more and looks at what they say.
fn told(plan: &Plan, running: &Running) -> Result<Told, crate::failure::Failure> {
    let names: Vec<&str> = plan.alerts.iter().map(|a| a.name.as_str()).collect();
    let kept = keep(plan, &names, running.workers(), None)?;
    let mut told = Told::default();
    for alert in &plan.alerts {
        let (schema, batch) = kept.streams.get(&alert.name).context("the alert's changes")?;
        let change = batch.rows.column_by_name("change").context("what has changed")?;
        let change = change.as_string::<i32>();
        for (group, key) in batch.groups().zip(key_names(batch, schema)) {
            if change.value(group.end - 1) != "cleared" {
                told.open.entry(key).or_default().push(alert.name.clone());
            }
        }
        let count = |word| change.iter().flatten().filter(|c| *c == word).count();
        let (raised, cleared) = (count("raised"), count("cleared"));
        let (name, when) = (&alert.name, &alert.condition);
        let revised = kept.corrections.get(name).copied().unwrap_or_default();
        told.changes += &format!(
            "alert {name} ({when}): {raised} raised, {cleared} cleared, {revised} revised by late readings\n"
        );
    }
    told.changes.truncate(told.changes.trim_end().len());
    Ok(told)
}
