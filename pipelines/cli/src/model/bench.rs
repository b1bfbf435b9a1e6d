//! `foreline model bench`: what a model costs.

use clap::Args;
use foreline_plugins::author::{self, BenchReport};

use super::{Model, cache, unusable};
use crate::failure::Outcome;
use crate::table::{Table, decimal, grouped};

/// What `foreline model bench` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: Model,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures a model.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn bench(arguments: &Arguments) -> Outcome {
    let cache = cache()?;
    let report = author::bench(&arguments.model.read(cache.path())?).map_err(unusable)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn text(report: &BenchReport) -> String {
    let bytes = |n: usize| grouped(n as u64);
    let mut text = format!(
        "component   {} bytes, {} as machine code\n",
        bytes(report.component_bytes),
        bytes(report.machine_code_bytes)
    );
    text += &format!("compile     {:.1} ms\n", report.compile_ms);
    let fuel = grouped(report.start_fuel);
    text += &format!("start       {:.3} ms, {fuel} operators\n", report.start_ms);
    text += &format!("peak memory {} bytes\n\n", bytes(report.peak_memory_bytes));
    let mut table =
        Table::new(["rows a call", "rows/s", "fuel a row", "native rows/s", "of native"]);
    for batch in &report.batches {
        let share = batch.native_rows_per_s.map(|native| batch.rows_per_s / native);
        table.push([
            batch.rows.to_string(),
            decimal(Some(batch.rows_per_s), 0),
            batch.fuel_per_row.to_string(),
            decimal(batch.native_rows_per_s, 0),
            decimal(share, 2),
        ]);
    }
    text + &table.to_string()
}
