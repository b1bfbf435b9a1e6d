//! The lines of the log, on their way to a collector.

use super::queue::Queue;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in nanoseconds since 1970.
    pub time_ns: i64,
    /// How bad it is.
    pub level: tracing::Level,
    /// What part of the program says it.
    pub target: String,
    /// What it says.
    pub message: String,
    /// All else that it says, by name.
    pub fields: Vec<(String, String)>,
}

/// Lines that wait. Nothing is kept before a collector is to have them.
#[derive(Debug, Default)]
pub struct Logs {
    pub(super) queue: Queue<Line>,
}

impl Logs {
    pub(super) fn begin(&self) {
        self.queue.begin();
    }

    /// Whether anybody takes them.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_on()
    }

    /// One more.
    pub fn push(&self, line: Line) {
        self.queue.push(line);
    }
}
