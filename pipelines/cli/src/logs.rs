//! What the command says while it works, on standard error: as lines for people, or as JSON for what collects logs.
//!
//! What a reader would get wrong: standard output has reports alone. What a sink of the kind `log` writes is there whatever
//! the level, unless its target is named.

use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// The variable that says what is written: `info`, `warn,foreline_engine=debug`.
const VARIABLE: &str = "FORELINE_LOG";

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// Lines for people.
    #[default]
    Pretty,
    /// One object a line.
    Json,
}

/// Begins to write the log.
///
/// # Errors
/// When the variable says nothing that can be obeyed; what was wrong is said.
#[expect(clippy::print_stderr, reason = "there is no log yet to say it in")]
pub fn begin(form: Form) -> Result<(), ExitCode> {
    let said = std::env::var(VARIABLE).ok().filter(|said| !said.trim().is_empty());
    let filter = filter(said.as_deref()).map_err(|why| {
        eprintln!("error: {why}");
        ExitCode::from(2)
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry();
    match form {
        Form::Pretty => registry.with(lines.with_target(false).with_filter(filter)).init(),
        Form::Json => registry.with(lines.json().flatten_event(true).with_filter(filter)).init(),
    }
    Ok(())
}

/// What is written. Without a word of the user's: what the engine has to say, such as damage that it got round or a full disk.
fn filter(said: Option<&str>) -> Result<Targets, String> {
    let Some(said) = said else {
        let usual = Targets::new().with_default(LevelFilter::WARN);
        // What a sink writes into the log is why it is there.
        return Ok(usual.with_target(foreline_connectors::LOG_TARGET, LevelFilter::DEBUG));
    };
    let filter: Targets = said.parse().map_err(|e| {
        format!("{VARIABLE} is like warn,foreline_engine=debug, not '{said}': {e}")
    })?;
    let sinks = foreline_connectors::LOG_TARGET;
    Ok(match said.contains(sinks) {
        true => filter,
        false => filter.with_target(sinks, LevelFilter::DEBUG),
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::filter;

    #[test]
    fn a_filter_is_obeyed_or_refused() {
        let is_there = |said: Option<&str>, target: &str, level: tracing_subscriber::filter::LevelFilter| {
            let level = level.into_level().unwrap();
            filter(said).unwrap().would_enable(target, &level)
        };
        assert!(is_there(None, "foreline_engine::run", LevelFilter::WARN));
        assert!(!is_there(None, "foreline_engine::run", LevelFilter::INFO));
        assert!(is_there(Some("error"), foreline_connectors::LOG_TARGET, LevelFilter::DEBUG));
        let said = Some("error,foreline_engine=debug");
        assert!(is_there(said, "foreline_engine::run", LevelFilter::DEBUG));
        assert!(!is_there(said, "foreline_server", LevelFilter::WARN));
        assert!(filter(Some("loud")).is_ok(), "a bare word is a target");
        assert!(filter(Some("a=loud")).is_err());
    }
}
