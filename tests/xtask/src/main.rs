//! Tasks of the repository: `cargo xtask test`, `cargo xtask plugins`, `cargo xtask bench`.
//!
//! It builds in seconds and without the engine, because it runs before anything else is built.

mod bench;
mod needs;
mod outside;
mod plugins;
mod test;
mod torture;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Checks everything: format, lints, tests, documentation. Installs what is missing where it may.
    Test,
    /// Rebuilds the plugins in `plugins/prebuilt` from their source.
    Plugins(plugins::Options),
    /// Measures something and prints the figures.
    Bench(bench::Options),
    /// Kills the command again and again while it works; what was lost, and what is there twice.
    Torture(torture::Options),
}

fn main() -> ExitCode {
    let done = match Command::parse().task {
        Task::Test => test::run(),
        Task::Plugins(options) => plugins::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Torture(options) => torture::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that `main -> Result` would print where RUST_BACKTRACE is set for the tests.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
