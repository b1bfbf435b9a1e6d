//! Benchmarks: what Foreline takes, beside a baseline that is measured in the same run.
//!
//! `cargo xtask bench NAME [--json]` runs one. Every benchmark prints the figures and `ratio`, our time over the
//! baseline's; the absolute figures belong to the machine, the ratio travels.

mod api;
mod cpu;
mod generate;
mod load;
mod memory;
mod mqtt;
mod operators;
mod outage;
mod recovery;
mod score;
mod sql;
mod views;
mod w1;

use std::process::ExitCode;

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
    /// Rows of input; as many as the benchmark is defined with unless given.
    #[arg(long)]
    rows: Option<u64>,
    /// How often everything is measured; the best of each counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Of the benchmark `operators`, the cases of this step alone.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// Pollers and queries over the PostgreSQL wire while readings come in, of which `--rows` gives the number a second.
    Api,
    /// CSV with repeated readings into a table of PostgreSQL, beside `psql`.
    Load,
    /// CSV, smoothing, windowed features, a score in the sandbox, Parquet.
    W1,
    /// Restart to first commit, with 10,000 machines and a journal of 100 MB.
    Recovery,
    /// Every step alone, beside a plain loop over the same rows.
    Operators,
    /// Forest and boosted trees in the sandbox, beside the same trees in native code and smartcore's own; `--rows` gives how
    /// many different rows there are.
    Score,
    /// Queries over a history in Parquet files, beside DuckDB and DataFusion alone on the same files.
    Sql,
    /// A day's readings while PostgreSQL is away, and the catching up.
    Outage,
    /// A limit of one machine of 10,000 is lowered, beside computing all views afresh; `--rows` gives the machines.
    Views,
    /// Messages of a real Mosquitto, of which `--rows` gives the number (at most 1,000,000).
    Mqtt,
}

/// More messages would take minutes and show nothing else.
const MQTT_MESSAGES_MAX: u64 = 1_000_000;

fn main() -> Result<ExitCode> {
    // A benchmark that needs the command in a process of its own starts itself by that name.
    if std::env::args().next().as_deref() == Some(api::COMMAND) {
        return Ok(foreline::commands::main());
    }
    let Arguments { name, json, rows, rounds, only } = Arguments::parse();
    match name {
        Name::Api => api::run(rows.unwrap_or(api::READINGS_PER_S), json),
        Name::Load => load::run(rows.unwrap_or(load::ROWS), rounds, json),
        Name::Mqtt => {
            let messages = rows.unwrap_or(MQTT_MESSAGES_MAX).min(MQTT_MESSAGES_MAX);
            mqtt::run(messages, json)
        }
        Name::Operators => {
            operators::run(rows.unwrap_or(operators::ROWS), rounds, only.as_deref(), json)
        }
        Name::Outage => outage::run(rows.unwrap_or(outage::ROWS), json),
        Name::Score => score::run(rows.unwrap_or(score::ROWS), rounds, json),
        Name::Sql => sql::run(rows.unwrap_or(sql::ROWS), rounds, json),
        Name::Views => views::run(rows.unwrap_or(views::MACHINES), rounds, json),
        Name::W1 => w1::run(rows.unwrap_or(w1::ROWS), rounds, json),
        Name::Recovery => recovery::run(rows.unwrap_or(recovery::ROWS), rounds, json),
    }?;
    Ok(ExitCode::SUCCESS)
}
