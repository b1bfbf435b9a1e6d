//! Rows as lines of the log of this process.
//!
//! What a reader would get wrong: nothing is kept, so after a crash the lines since the last snapshot come again; a line is
//! written when its epoch is committed, not before.

use foreline_engine::{Batch, Committed, ConfigError, Resolver, RunId, Schema, Sink, SinkError};
use schemars::JsonSchema;
use serde::Deserialize;

use std::sync::Arc;

use crate::kind::{PlannedSink, SinkInputs, SinkKind};
use crate::notify::message::{Message, Passed, gone_column, severity_column};
use crate::notify::{Composer, TemplateConfig, origin, texts};

/// The target of the lines.
pub const TARGET: &str = "foreline_connectors::log";
/// Lines are written when so many bytes of them have come together, at the latest.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Writes rows into the log.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How important the lines are.
    #[serde(default)]
    pub level: Level,
    /// The text of a line.
    #[serde(default)]
    pub template: TemplateConfig,
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is something somebody should do something about.
    Error,
    /// It may become one.
    Warn,
    /// It is worth knowing.
    #[default]
    Info,
    /// It is for those who look for a fault.
    Debug,
}

/// The kind of sink that writes into the log.
#[derive(Debug)]
pub struct Log;

impl SinkKind for Log {
    type Config = LogConfig;
    const NAME: &'static str = "log";
    const SUMMARY: &'static str = "writes rows as lines into the log of the process";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        _: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        let composer = Composer {
            origin: origin(inputs),
            schema: inputs.schema.clone(),
            texts: texts(&config.template, inputs.schema)?,
            group_by: Vec::new(),
            severity: severity_column(inputs.schema),
            gone: gone_column(inputs.schema),
        };
        let level = config.level;
        let make = move || Ok(Box::new(LogSink::new(composer.clone(), level)) as Box<dyn Sink>);
        let note = "at least once: after a crash the lines since the last snapshot come again";
        Ok(PlannedSink {
            make: Arc::new(make),
            place: "the log".to_owned(),
            transactional: false,
            sql: None,
            notes: vec![note.to_owned()],
            probe: None,
            lake: None,
        })
    }
}

#[derive(Debug)]
struct LogSink {
    composer: Composer,
    level: Level,
    waiting: Vec<Message>,
    waiting_bytes: usize,
    passed: Passed,
    passed_before: Passed,
}

impl LogSink {
    fn new(composer: Composer, level: Level) -> Self {
        LogSink {
            composer,
            level,
            waiting: Vec::new(),
            waiting_bytes: 0,
            passed: Passed::default(),
            passed_before: Passed::default(),
        }
    }

    fn say(&self, message: &Message) {
        let (sink, stream) = (&self.composer.origin.sink, &self.composer.origin.stream);
        let Message { id, text, row, .. } = message;
        match self.level {
            Level::Error => tracing::error!(target: TARGET, sink, stream, id, row, "{text}"),
            Level::Warn => tracing::warn!(target: TARGET, sink, stream, id, row, "{text}"),
            Level::Info => tracing::info!(target: TARGET, sink, stream, id, row, "{text}"),
            Level::Debug => tracing::debug!(target: TARGET, sink, stream, id, row, "{text}"),
        }
    }
}

impl Sink for LogSink {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        self.waiting.clear();
        (self.waiting_bytes, self.passed) = (0, Passed::default());
        Ok(None)
    }

    fn write(&mut self, _: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let from = self.waiting.len();
        for batch in rows {
            let passed = self.composer.compose(batch, &mut self.waiting);
            self.passed.add(passed);
        }
        self.waiting_bytes += self.waiting[from..].iter().map(Message::bytes).sum::<usize>();
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        self.waiting.iter().for_each(|message| self.say(message));
        self.waiting.clear();
        self.passed_before.add(self.passed);
        (self.waiting_bytes, self.passed) = (0, Passed::default());
        Ok(Committed::Yes(upto))
    }

    fn remembers(&self) -> bool {
        false
    }

    fn full(&self) -> bool {
        self.waiting_bytes >= WAITING_BYTES_MAX
    }

    fn prompt(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn left_out(&self) -> Vec<(&'static str, u64)> {
        let Passed { deleted, gone, too_large } = self.passed_before;
        let all = [("deleted", deleted), ("gone", gone), ("too_large", too_large)];
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}
