//! Benchmarks: what Foreline takes, beside a baseline that is measured in the same run.
//!
//! `cargo xtask bench NAME [--json]` runs one. Every benchmark prints the figures and `ratio`, our time over the
//! baseline's; the absolute figures belong to the machine, the ratio travels.

mod memory;
mod mqtt;
mod w1;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Which benchmark, and how much of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// The benchmark.
    name: Name,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Rows of input.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// How often everything is measured; the best of each counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// CSV, smoothing, windowed features, a score in the sandbox, Parquet.
    W1,
    /// Messages of a real Mosquitto, of which `--rows` gives the number (at most 1,000,000).
    Mqtt,
}

/// More messages would take minutes and show nothing else.
const MQTT_MESSAGES_MAX: u64 = 1_000_000;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.name {
        Name::Mqtt => mqtt::run(arguments.rows.min(MQTT_MESSAGES_MAX), arguments.json),
        Name::W1 => w1::run(arguments.rows, arguments.rounds, arguments.json),
    }
}
