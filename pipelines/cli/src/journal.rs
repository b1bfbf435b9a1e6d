//! `foreline journal`: looks at the journal of a pipeline, and cuts off what is damaged.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use foreline_engine::{Problem, RealDisk, Repaired, Verified, repair_journal, verify_journal};

use crate::failure::{Failure, Outcome};
use crate::table::{Table, grouped};

/// What `foreline journal` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Lists the segments of a journal and says what is wrong with the first that is damaged. Changes nothing.
    Verify {
        /// The data directory of the pipeline, such as `.foreline/pump-rul`.
        data_dir: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cuts a damaged journal off where the damage begins, and keeps what was cut off beside it.
    Repair {
        /// The data directory of the pipeline.
        data_dir: PathBuf,
    },
}

/// Looks at a journal or repairs it.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn journal(arguments: &Arguments) -> Outcome {
    match &arguments.task {
        Task::Verify { data_dir, json } => verify(&data_dir.join("journal"), *json),
        Task::Repair { data_dir } => repair(&data_dir.join("journal")),
    }
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn verify(dir: &std::path::Path, json: bool) -> Outcome {
    exists(dir)?;
    let verified = verify_journal(&RealDisk, dir).map_err(anyhow::Error::from)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&verified).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", listing(&verified));
    }
    if verified.problem.is_some_and(|p| !p.torn) { Err(Failure::Answer) } else { Ok(()) }
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn repair(dir: &std::path::Path) -> Outcome {
    exists(dir)?;
    match repair_journal(&RealDisk, dir).map_err(anyhow::Error::from)? {
        None => println!("the journal is sound"),
        Some(repaired) => {
            let Repaired { file, offset, what, kept } = repaired;
            println!("cut '{}' off at byte {offset}: {what}", file.display());
            for part in kept {
                println!("kept '{}'", part.display());
            }
        }
    }
    Ok(())
}

/// A journal, a line a segment.
fn listing(verified: &Verified) -> String {
    let epochs = |range: Option<(u64, u64)>| {
        range.map_or("-".to_owned(), |(first, last)| format!("{first}..{last}"))
    };
    let mut table = Table::new(["segment", "bytes", "records", "epochs"]);
    for s in &verified.segments {
        table.push([s.file.clone(), grouped(s.bytes), grouped(s.records), epochs(s.epochs)]);
    }
    let mut text = format!("{table}");
    text += &format!("{} inputs belong to no epoch yet\n", verified.unmarked);
    match &verified.problem {
        None => text += "the journal is sound\n",
        Some(Problem { file, offset, what, torn: true }) => {
            text += &format!(
                "'{file}' is torn at byte {offset}: {what}; the next run trims it, nothing is lost\n"
            );
        }
        Some(Problem { file, offset, what, torn: false }) => {
            text += &format!(
                "'{file}' is damaged at byte {offset}: {what}; restore it from a backup, or cut it with `foreline journal repair`\n"
            );
        }
    }
    text
}

fn exists(dir: &std::path::Path) -> anyhow::Result<()> {
    let found = dir.is_dir().then_some(());
    found.with_context(|| {
        format!("there is no journal in '{}': give the data directory", dir.display())
    })
}
