//! `cargo xtask torture`: kills the command for as long as is asked, and says what was lost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use foreline_tests::torture::{Options, Outcome, torture};

/// Kills the command again and again while it works.
#[derive(Debug, Parser)]
struct Arguments {
    /// The command, built for debugging.
    #[arg(long)]
    command: PathBuf,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Another sequence of deaths.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let outcome = torture(&Options {
        command: arguments.command,
        kills: 0,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        rows: 20_000,
        seed: arguments.seed,
    })?;
    print(&outcome, arguments.json)?;
    let good = outcome.lost + outcome.duplicated + outcome.different == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn print(outcome: &Outcome, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(outcome)?);
        return Ok(());
    }
    println!(
        "{} kills in {} rounds, {} readings: {} lost, {} duplicated, {} rows different",
        outcome.kills,
        outcome.rounds,
        outcome.acknowledged,
        outcome.lost,
        outcome.duplicated,
        outcome.different
    );
    for (place, n) in &outcome.places {
        println!("  {n:5} at '{place}'");
    }
    Ok(())
}
