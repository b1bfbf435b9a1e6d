//! `foreline simulate`: a pump fleet or rotor rigs, on disk, and from there to a broker, a bucket or a source.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};
use foreline_connectors::Feed;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::progress::Progress;
use crate::simulate::rotor::sensors::{self, Bench};
use crate::simulate::rotor::{self, RotorRigs};
use crate::simulate::{self, FaultRates, PumpFleet, Written};
use crate::table::grouped;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Pumps that wear until they fail.
    Pumps,
    /// Rotor rigs with unbalance, a loose support, both or neither.
    Rotor,
}

/// How rotor rigs are laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// One file, a sample a row, with names of columns: what a pipeline reads.
    Rows,
    /// A file a sensor, each with a rate of its own and without names of columns, the states side by side: what a recorder
    /// leaves.
    Sensors,
}

/// What `foreline simulate` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What is simulated.
    #[arg(value_enum, default_value_t = Kind::Pumps)]
    kind: Kind,
    /// The folder to write to; it is made where it is missing.
    #[arg(long, short, default_value = "foreline-demo")]
    out: PathBuf,
    /// Another seed is another fleet; the same seed is the same bytes.
    #[arg(long, default_value_t = PumpFleet::default().seed)]
    seed: u64,
    /// Of pumps: machines that are recorded until they fail.
    #[arg(long, default_value_t = PumpFleet::default().training)]
    training: u32,
    /// Of pumps: machines that are cut off somewhere in their life.
    #[arg(long, default_value_t = PumpFleet::default().live)]
    live: u32,
    /// Of pumps: mean life of a machine, in hours.
    #[arg(long, default_value_t = PumpFleet::default().mean_life_hours)]
    mean_life_hours: f64,
    /// Of pumps: milliseconds between two readings of a machine.
    #[arg(long, default_value_t = PumpFleet::default().interval_ms)]
    interval_ms: u32,
    /// Of pumps: every reading arrives, once, in time and whole.
    #[arg(long)]
    no_faults: bool,
    /// Of rotor rigs: how they are laid down.
    #[arg(long, value_enum, default_value_t = Layout::Rows)]
    layout: Layout,
    /// Of rotor rigs: how many; default 8, in files by sensor 2.
    #[arg(long)]
    rigs: Option<u32>,
    /// Of rotor rigs: the length of a run, in seconds; default 25, in files by sensor 140.
    #[arg(long)]
    seconds: Option<u32>,
    /// Send what was written, too: of pumps the live ones, to a bucket all of them. One of
    /// mqtt://host:1883/plant/{machine}, http://host:8080/api/v1/sources/NAME/rows, s3://bucket/prefix.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// With `--to s3://…`: the address of a store other than AWS.
    #[arg(long, value_name = "URL", requires = "to")]
    endpoint: Option<String>,
    /// With `--to`: how many rows go out a second; default: as fast as they are taken.
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_s: Option<u32>,
    /// Print no progress.
    #[arg(long, short)]
    quiet: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// What was simulated.
struct Simulated {
    /// In words.
    line: String,
    report: Value,
    /// The files with rows, those that are sent line by line first.
    files: Vec<PathBuf>,
    /// How many of them are.
    live: usize,
    /// The rows of these.
    rows: u64,
}

/// Writes a fleet, and sends it where that is asked for.
///
/// # Errors
/// When the fleet cannot be, the disk fails, or the receiver does not take it.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn simulate(arguments: &Arguments) -> Outcome {
    // A mistake in the address is told before anything is written.
    let feed = arguments.to.as_deref().map(|to| {
        if arguments.kind == Kind::Rotor
            && arguments.layout == Layout::Sensors
            && !to.starts_with("s3://")
        {
            return Err(anyhow!("files by sensor have no names of columns; send them to a bucket"));
        }
        let feed = Feed::open(to, arguments.endpoint.as_deref(), arguments.rows_per_s);
        feed.map_err(|e| anyhow!(e))
    });
    let mut feed = feed.transpose()?;
    let mut simulated = match (arguments.kind, arguments.layout) {
        (Kind::Pumps, _) => pumps(arguments)?,
        (Kind::Rotor, Layout::Rows) => rows(arguments)?,
        (Kind::Rotor, Layout::Sensors) => by_sensor(arguments)?,
    };
    if let (Some(feed), Some(to)) = (&mut feed, &arguments.to) {
        let (sent, what) = send(feed, to, arguments, &simulated)?;
        simulated.line += &format!("\nsent to {to}: {} {what}", grouped(sent));
        simulated.report["sent"] = json!({ "to": to, what: sent });
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&simulated.report).map_err(anyhow::Error::from)?;
        println!("{text}");
    } else {
        println!("{}", simulated.line);
    }
    Ok(())
}

fn pumps(arguments: &Arguments) -> Result<Simulated> {
    let faults = if arguments.no_faults { FaultRates::none() } else { FaultRates::default() };
    let fleet = PumpFleet {
        seed: arguments.seed,
        training: arguments.training,
        live: arguments.live,
        interval_ms: arguments.interval_ms,
        mean_life_hours: arguments.mean_life_hours,
        faults,
    };
    let bar = Progress::detect(arguments.quiet).bar("simulating", 0, "readings");
    let written = simulate::write(&fleet, &arguments.out, &|done, total| bar.set(done, total))?;
    bar.finish();
    Ok(Simulated {
        line: summary(&fleet, &written),
        report: report(&written)?,
        live: written.live.len(),
        rows: written.live_rows,
        files: written.live.into_iter().chain(written.train).chain([written.truth]).collect(),
    })
}

fn rows(arguments: &Arguments) -> Result<Simulated> {
    let usual = RotorRigs::default();
    let (rigs, seconds) =
        (arguments.rigs.unwrap_or(usual.rigs), arguments.seconds.unwrap_or(usual.seconds));
    let config = RotorRigs { seed: arguments.seed, rigs, seconds, ..usual };
    let written = rotor::write(&config, &arguments.out)?;
    let (runs, samples) = (config.runs, grouped(written.rows));
    let file = written.file.display();
    Ok(Simulated {
        line: format!("{rigs} rigs in four states, {runs} runs each ({samples} samples): {file}"),
        report: report(&written)?,
        live: 1,
        rows: written.rows,
        files: vec![written.file],
    })
}

fn by_sensor(arguments: &Arguments) -> Result<Simulated> {
    let usual = Bench::default();
    let (groups, seconds) =
        (arguments.rigs.unwrap_or(usual.groups), arguments.seconds.unwrap_or(usual.seconds));
    let config = Bench { seed: arguments.seed, groups, seconds };
    let written = sensors::write(&config, &arguments.out)?;
    let (files, samples) = (written.files.len(), grouped(written.rows));
    let out = arguments.out.display();
    Ok(Simulated {
        line: format!("{groups} rigs in four states, {files} files ({samples} rows) in '{out}'"),
        report: report(&written)?,
        live: 0,
        rows: 0,
        files: written.files.into_iter().chain([written.truth]).collect(),
    })
}

fn report(written: &impl Serialize) -> Result<Value> {
    serde_json::to_value(written).context("a report in JSON")
}

/// Sends the files; how much of what that was.
fn send(
    feed: &mut Feed,
    to: &str,
    arguments: &Arguments,
    what: &Simulated,
) -> Result<(u64, &'static str)> {
    let is_bucket = to.starts_with("s3://");
    let files = if is_bucket { &what.files[..] } else { &what.files[..what.live] };
    let (total, unit) =
        if is_bucket { (files.len() as u64, "objects") } else { (what.rows, "rows") };
    let bar = Progress::detect(arguments.quiet).bar("sending", total, unit);
    let mut sent = 0;
    for file in files {
        let name = file.strip_prefix(&arguments.out).unwrap_or(file);
        let name = key(name).with_context(|| format!("'{}' is no key", name.display()))?;
        let progress = |n| bar.set(if is_bucket { sent } else { sent + n }, total);
        let lines = feed.file(file, &name, &progress).map_err(|e| anyhow!(e))?;
        sent += if is_bucket { 1 } else { lines };
    }
    bar.finish();
    Ok((sent, unit))
}

/// A path below the folder as the key of an object.
fn key(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> =
        path.components().map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
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
