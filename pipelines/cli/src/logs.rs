//! What the command says while it works, on standard error: as lines for people, or as JSON for what collects logs.
//!
//! What a reader would get wrong: standard output has reports alone. What a sink of the kind `log` writes is there whatever
//! the level, unless its target is named.

use std::fmt as text;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use foreline_engine::{Clock as _, SystemClock};
use foreline_server::{Line, Logs};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

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
    let registry = tracing_subscriber::registry().with(Collected.with_filter(filter.clone()));
    match form {
        Form::Pretty => registry.with(lines.with_target(false).with_filter(filter)).init(),
        Form::Json => registry.with(lines.event_format(Json).with_filter(filter)).init(),
    }
    Ok(())
}

/// The lines that collectors are sent, where there is one.
static COLLECTED: OnceLock<Arc<Logs>> = OnceLock::new();

/// Where lines wait that a collector is to have.
pub(crate) fn for_collectors() -> Arc<Logs> {
    Arc::clone(COLLECTED.get_or_init(Arc::default))
}

/// Hands the lines of the log to a collector, too.
struct Collected;

impl<S: Subscriber> Layer<S> for Collected {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(logs) = COLLECTED.get().filter(|logs| logs.is_on()) else { return };
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let said = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let message = fields.0.remove("message").map(said).unwrap_or_default();
        logs.push(Line {
            time_ns: SystemClock.now_ns(),
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message,
            fields: fields.0.into_iter().map(|(name, value)| (name, said(value))).collect(),
        });
    }
}

/// What is written. Without a word of the user's: what the engine has to say, such as damage that it got round or a full disk.
fn filter(said: Option<&str>) -> Result<Targets, String> {
    let Some(said) = said else {
        let usual = Targets::new().with_default(LevelFilter::WARN);
        // What a sink writes into the log is why it is there.
        return Ok(usual.with_target(foreline_connectors::LOG_TARGET, LevelFilter::DEBUG));
    };
    let filter: Targets = said
        .parse()
        .map_err(|e| format!("{VARIABLE} is like warn,foreline_engine=debug, not '{said}': {e}"))?;
    let sinks = foreline_connectors::LOG_TARGET;
    Ok(match said.contains(sinks) {
        true => filter,
        false => filter.with_target(sinks, LevelFilter::DEBUG),
    })
}

/// An event as one object on a line: its time, level and target, and all its fields by name.
#[derive(Debug)]
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> text::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        let time = chrono::DateTime::from_timestamp_nanos(SystemClock.now_ns());
        fields.0.insert(
            "time".to_owned(),
            json!(time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        );
        fields.0.insert("level".to_owned(), json!(metadata.level().as_str()));
        fields.0.insert("target".to_owned(), json!(metadata.target()));
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn text::Debug) {
        self.0.insert(field.name().to_owned(), json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::filter;

    #[test]
    fn a_filter_is_obeyed_or_refused() {
        let is_there =
            |said: Option<&str>, target: &str, level: tracing_subscriber::filter::LevelFilter| {
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
