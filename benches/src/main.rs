//! Benchmarks: what Foreline takes, beside a baseline that is measured in the same run.
//!
//! `cargo xtask bench NAME [--json]` runs one. Every benchmark prints the figures and `ratio`, our time over the
//! baseline's; the absolute figures belong to the machine, the ratio travels.

mod load;
mod memory;
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
    /// Rows of input; each benchmark has its own number.
    #[arg(long)]
    rows: Option<u64>,
    /// How often everything is measured; the best of each counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// CSV with repeated readings into a table of PostgreSQL, beside `psql`.
    Load,
    /// CSV, smoothing, windowed features, a score in the sandbox, Parquet.
    W1,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.name {
        Name::Load => {
            load::run(arguments.rows.unwrap_or(1_500_000), arguments.rounds, arguments.json)
        }
        Name::W1 => w1::run(arguments.rows.unwrap_or(10_000_000), arguments.rounds, arguments.json),
    }
}
