//! `cargo xtask torture`: kills the command for as long as is asked, and says what was lost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use foreline_tests::torture::broker::torture_broker;
use foreline_tests::torture::database::torture_database;
use foreline_tests::torture::s3::torture_s3;
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
    /// Where the readings come from.
    #[arg(long, default_value = "csv")]
    source: Source,
    /// Another sequence of deaths.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Where the readings come from.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    /// Files.
    Csv,
    /// A broker.
    Mqtt,
    /// Files, into a database that dies too.
    Postgres,
    /// Objects.
    S3,
}

/// Readings that are published in a minute, with the broker away and the network down now and then.
const MQTT_ROWS_A_MINUTE: f64 = 25_000.0;
/// Readings of the objects that are put in a minute.
const S3_ROWS_A_MINUTE: f64 = 120_000.0;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = |rows| Options {
        command: arguments.command.clone(),
        kills: 0,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        rows,
        seed: arguments.seed,
    };
    let outcome = match arguments.source {
        Source::Csv => torture(&options(20_000))?,
        Source::Postgres => torture_database(&options(9_000))?,
        Source::Mqtt => torture_broker(&options((arguments.minutes * MQTT_ROWS_A_MINUTE) as u64))?,
        Source::S3 => torture_s3(&options((arguments.minutes * S3_ROWS_A_MINUTE) as u64))?,
    };
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
    for missing in &outcome.missing {
        println!("  lost: {missing}");
    }
    for (place, n) in &outcome.places {
        println!("  {n:5} at '{place}'");
    }
    for (fault, n) in &outcome.faults {
        println!("  {n:5} x {fault}");
    }
    Ok(())
}
