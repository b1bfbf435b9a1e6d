//! `foreline check`: every mistake at once, and the plan.

use clap::Args;

use crate::commands::{File, Format};
use crate::connect::connect;
use crate::failure::Outcome;
use crate::session::{Purpose, load};

/// What `foreline check` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
    /// Print mistakes only, not the plan.
    #[arg(long, short)]
    quiet: bool,
    /// Try everything that the pipeline connects to as well: files, folders, servers.
    #[arg(long)]
    connect: bool,
}

/// Checks a file.
///
/// # Errors
/// When it has mistakes.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn check(arguments: &Arguments) -> Outcome {
    let file = &arguments.file;
    let purpose = Purpose { checking: true, ..Purpose::default() };
    let plan = load(&file.file, file.format, purpose)?;
    if file.format == Format::Text && !arguments.quiet {
        print!("{}", foreline_spec::explain(&plan));
    }
    if arguments.connect {
        return connect(&plan);
    }
    Ok(())
}
