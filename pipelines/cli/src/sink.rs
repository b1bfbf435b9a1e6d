//! `foreline sink`: what a sink needs, for those who look after where it writes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::Format;
use crate::failure::Outcome;
use crate::session::{Purpose, load};

/// What `foreline sink` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prints the SQL that creates the tables of a pipeline's sinks. Connects to nothing.
    Sql {
        /// The pipeline file.
        file: PathBuf,
    },
}

/// Prints what was asked for.
///
/// # Errors
/// When the file has mistakes, or has no sink with tables.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn sink(arguments: &Arguments) -> Outcome {
    let Task::Sql { file } = &arguments.task;
    let purpose = Purpose { checking: true, ..Purpose::default() };
    let plan = load(file, Format::Text, purpose)?;
    let mut any = false;
    for sink in &plan.sinks {
        let Some(sql) = &sink.sink.sql else { continue };
        println!(
            "-- '{}' takes '{}' into {}",
            sink.name,
            plan.stream_name(sink.from),
            sink.sink.place
        );
        println!("{sql}");
        any = true;
    }
    if any {
        return Ok(());
    }
    Err(anyhow::anyhow!("no sink of '{}' writes tables", file.display()).into())
}
