//! `cargo xtask torture`: builds the command for debugging, and has it killed.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::outside;
use crate::test::workspace;

/// How long, and what to print.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Where the readings come from: `csv`, `mqtt` for a real broker, `postgres` for files into a database that dies too,
    /// or `s3` for objects that come by a bad network.
    #[arg(long, default_value = "csv")]
    source: String,
    /// Another seed is another sequence of deaths.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Builds and runs it.
///
/// # Errors
/// When it cannot be built, or something was lost.
pub(crate) fn run(options: &Options) -> Result<()> {
    // All of it, so that what the tests have built is used again. Only this profile can end itself at a named place.
    let mut build = outside::command("cargo");
    build.args(["build", "--quiet", "--workspace", "--bins", "--locked"]).current_dir(workspace());
    ensure!(build.status().context("cargo cannot be started")?.success(), "it cannot be built");
    let here = std::env::current_exe().context("where this program is")?;
    let mut torture = Command::new(here.with_file_name("torture"));
    torture.arg("--command").arg(here.with_file_name("foreline"));
    torture.args(["--minutes", &options.minutes.to_string(), "--seed", &options.seed.to_string()]);
    torture.args(["--source", &options.source]);
    if options.json {
        torture.arg("--json");
    }
    let status = torture.status().context("the torture cannot be started")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
