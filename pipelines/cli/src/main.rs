//! The `foreline` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    foreline::commands::main()
}
