//! `foreline simulate`: a pump fleet on disk, or rotor rigs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::failure::Outcome;
use crate::progress::Progress;
use crate::simulate::rotor::RotorRigs;
use crate::simulate::{self, PumpFleet, Written};
use crate::table::grouped;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Pumps that wear until they fail.
    Pumps,
    /// Rotor rigs with unbalance, a loose support, both or neither.
    Rotor,
}

/// What `foreline simulate` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Kind::Pumps)]
    kind: Kind,
    /// Of `rotor`: how many rigs.
    #[arg(long, default_value_t = RotorRigs::default().rigs)]
    rigs: u32,
    /// Of `rotor`: the length of a run, in seconds.
    #[arg(long, default_value_t = RotorRigs::default().seconds)]
    seconds: u32,
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
    if arguments.kind == Kind::Rotor {
        return rotor(arguments);
    }
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

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn rotor(arguments: &Arguments) -> Outcome {
    let (seed, rigs, seconds) = (arguments.seed, arguments.rigs, arguments.seconds);
    let config = RotorRigs { seed, rigs, seconds, ..RotorRigs::default() };
    let written = simulate::rotor::write(&config, &arguments.out)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&written).map_err(anyhow::Error::from)?);
    } else {
        let rows = grouped(written.rows);
        println!(
            "{rigs} rigs in four states, {} runs each ({rows} samples): {}",
            config.runs,
            written.file.display()
        );
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
