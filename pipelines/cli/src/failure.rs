//! How a command ends when it does not end well.

use std::process::ExitCode;

use foreline_engine::RunError;

/// Why a command failed, with the exit code that says so.
#[derive(Debug)]
pub enum Failure {
    /// The pipeline file cannot be; what is wrong was printed.
    Configuration,
    /// The pipeline file cannot be read.
    Unreadable(anyhow::Error),
    /// Something failed while running.
    Running(anyhow::Error),
    /// What was asked for was done, and the answer is no: a test failed. It was printed.
    Answer,
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

/// sysexits' EX_CONFIG.
const EXIT_CONFIGURATION: u8 = 78;

impl Failure {
    /// Prints what was not printed yet; the exit code.
    #[expect(clippy::print_stderr, reason = "the last word of the command")]
    pub fn report(self) -> ExitCode {
        match self {
            Failure::Configuration => ExitCode::from(EXIT_CONFIGURATION),
            Failure::Answer => ExitCode::FAILURE,
            Failure::Unreadable(error) => {
                eprintln!("error: {error:#}");
                ExitCode::from(EXIT_CONFIGURATION)
            }
            Failure::Running(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Running(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Failure::Running(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Running(error.into())
    }
}
