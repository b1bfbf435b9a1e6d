//! Hands a benchmark to the `benches` crate, built for release.

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::outside;
use crate::test::workspace;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The benchmark: `w1` is the reference workload; a wrong name lists all.
    name: String,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Options of the benchmark itself, after `--`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Builds and runs the benchmark.
///
/// # Errors
/// When it cannot be built, or fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cargo = outside::command("cargo");
    cargo.args(["run", "--quiet", "--release", "--package", "foreline-benches", "--"]);
    cargo.arg(&options.name);
    if options.json {
        cargo.arg("--json");
    }
    cargo.args(&options.more).current_dir(workspace());
    let status = cargo.status().context("cargo cannot be started")?;
    ensure!(status.success(), "benchmark '{}' ended with {status}", options.name);
    Ok(())
}
