//! `foreline simulate`: a pump fleet on disk.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Outcome;
use crate::progress::Progress;
use crate::simulate::{self, PumpFleet, Written};
use crate::table::grouped;

/// What `foreline simulate` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to write to; it is made where it is missing.
    #[arg(long, short, default_value = "foreline-demo")]
    out: PathBuf,
    /// Another seed is another fleet; the same seed is the same bytes.
    #[arg(long, default_value_t = PumpFleet::default().seed)]
    seed: u64,
    /// Machines that are recorded until they fail.
    #[arg(long, default_value_t = PumpFleet::default().training)]
    training: u32,
    /// Machines that are cut off somewhere in their life.
    #[arg(long, default_value_t = PumpFleet::default().live)]
    live: u32,
    /// Mean life of a machine, in hours.
    #[arg(long, default_value_t = PumpFleet::default().mean_life_hours)]
    mean_life_hours: f64,
    /// Milliseconds between two readings of a machine.
    #[arg(long, default_value_t = PumpFleet::default().interval_ms)]
    interval_ms: u32,
    /// Print no progress.
    #[arg(long, short)]
    quiet: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes a fleet.
///
/// # Errors
/// When the fleet cannot be, or the disk fails.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn simulate(arguments: &Arguments) -> Outcome {
    let fleet = PumpFleet {
        seed: arguments.seed,
        training: arguments.training,
        live: arguments.live,
        interval_ms: arguments.interval_ms,
        mean_life_hours: arguments.mean_life_hours,
        ..PumpFleet::default()
    };
    let bar = Progress::detect(arguments.quiet).bar("simulating", 0, "readings");
    let written = simulate::write(&fleet, &arguments.out, &|done, total| bar.set(done, total))?;
    bar.finish();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&written).map_err(anyhow::Error::from)?);
    } else {
        println!("{}", summary(&fleet, &written));
    }
    Ok(())
}

/// One line about a fleet.
#[must_use]
pub fn summary(fleet: &PumpFleet, written: &Written) -> String {
    format!(
        "{} pumps run to failure ({} readings), {} live ones ({} readings), truth in {}",
        fleet.training,
        grouped(written.train_rows),
        fleet.live,
        grouped(written.live_rows),
        written.truth.display()
    )
}
