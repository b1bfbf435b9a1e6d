//! The alert book: what people do with the alerts of all rules, and what becomes of those that nobody looks at.
//!
//! Input   of [`entry`]: the stream of a rule. Of [`book`]: the entries of each rule, then commands ([`commands_schema`])
//! Output  of [`entry`]: the same changes in one schema for all rules ([`entry_schema`]). Of [`book`]: a relation, a row an
//!         alert ([`book_schema`]): rows that came as new ones, rows that are no longer so as deleted ones
//! State   of each machine its alerts: those that are open, at most `closed` that are cleared, and of each at most
//!         100 changes; the marks of its rules (shelved, out of service); the ids of its last 100 commands; and what was
//!         told of its last 100 alerts that a correction took back
//! Late    takes late, corrected and deleted changes itself: the book is what it would be had an alert that is deleted
//!         never been told; its acknowledgement goes with it
//! Errors  a command that cannot be carried out goes to the dead letters as `unknown_command`, `unknown_alert`,
//!         `unknown_rule`, `missing_value`, `already_passed` or `too_long`, and changes nothing. An alert that leaves before its time,
//!         because more than `closed` of its machine are cleared, is told there as `book_full`
//! Source  ISA-18.2: acknowledge, shelve, out of service, suppression; first-out alarms
//!
//! ```text
//!             +------------------------+    cleared     +-------------------------+  `keep_unacknowledged`
//!   raised -> | open, unacknowledged   | -------------> | cleared, unacknowledged | ---------------------> leaves
//!             | escalates              |                |                         |
//!             +------------------------+                +-------------------------+
//!          acknowledge |    ^ unacknowledge          acknowledge |    ^ unacknowledge
//!                      v    |                                    v    |
//!             +------------------------+    cleared     +-------------------------+  `keep`
//!             | open, acknowledged     | -------------> | cleared, acknowledged   | ---------------------> leaves
//!             +------------------------+                +-------------------------+
//!
//!   a rule on a machine:   in service  -- out_of_service -->  out of service  -- in_service -->  in service
//!                          not shelved -- shelve, until -->   shelved -- unshelve, or `until` -->  not shelved
//! ```
//!
//! What a reader would get wrong:
//!
//! * The book lives by the engine's clock: an alert escalates so long after the epoch that told of it, wherever its event
//!   times are. The clock is part of the journal, so a replay says the same.
//! * Within an epoch the changes of alerts come first, then the commands by position, then what the clock brings about. What
//!   goes out is the difference between the start and the end of the epoch; `changes` counts all that was in between.
//! * Marks belong to a rule on a machine and show in its open alerts. A cleared alert shows them as they were when it was
//!   cleared: a shelving is not news of what is long over.
//! * Late rows may bring a change back that they took away; it comes as a revised row then. So a revised row begins an
//!   alert only where the book remembers that it was taken back: of any other it is a change of something that has left.

use std::sync::Arc;

use foreline_engine::{ConfigError, Extent, Keyed, LateSupport, Planned, Schema, TimeDomain};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::positive;
use crate::mistakes::Mistakes;

mod command;
mod desk;
mod entry;
mod keeper;
mod machine;
mod row;
#[cfg(test)]
mod tests;

pub use command::{ALREADY_PASSED, MISSING_VALUE, TOO_LONG, UNKNOWN_ALERT, UNKNOWN_COMMAND};
pub use command::{UNKNOWN_RULE, commands_schema};
pub use desk::BOOK_FULL;
pub use entry::{entry, entry_schema};
pub use row::book_schema;

/// Raised whenever `machine::Machine` changes.
const STATE_VERSION: u32 = 1;

/// Most entries of `escalate`: nobody has more levels of people to tell.
const ESCALATIONS_MAX: usize = 10;

/// Most cleared alerts of a machine that can be kept; each takes some hundred bytes of state.
const CLOSED_MAX: usize = 10_000;

/// What becomes of alerts that are raised. All lengths of time are durations of the engine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BookOptions {
    /// How long after it was raised an alert escalates that is open, unacknowledged and not suppressed, such as `[15m, 1h]`: its
    /// `escalation` is 1 after the first, 2 after the second and so on. Ascending, at most 10. None unless given.
    #[serde(default)]
    pub escalate: Vec<Extent>,
    /// How long an alert that is cleared and acknowledged stays in the book. `7d` unless given.
    #[serde(default = "keep")]
    pub keep: Extent,
    /// How long a cleared alert stays in the book that nobody has acknowledged. `30d` unless given.
    #[serde(default = "keep_unacknowledged")]
    pub keep_unacknowledged: Extent,
    /// Most cleared alerts of a machine: 1 to 10,000; 100 unless given. With more the oldest leaves, which the dead letters tell
    /// as `book_full`.
    #[serde(default = "closed")]
    pub closed: usize,
}

const DAY_NS: i64 = 86_400_000_000_000;

fn keep() -> Extent {
    Extent::Nanos(7 * DAY_NS)
}

fn keep_unacknowledged() -> Extent {
    Extent::Nanos(30 * DAY_NS)
}

fn closed() -> usize {
    100
}

impl Default for BookOptions {
    fn default() -> Self {
        let (keep, keep_unacknowledged, closed) = (keep(), keep_unacknowledged(), closed());
        BookOptions { escalate: Vec::new(), keep, keep_unacknowledged, closed }
    }
}

impl BookOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(&self) -> Result<(), Vec<ConfigError>> {
        self.terms().map(drop)
    }

    fn terms(&self) -> Result<Terms, Vec<ConfigError>> {
        let mut mistakes = Mistakes::default();
        let mut escalate_ns = Vec::new();
        for (i, &after) in self.escalate.iter().enumerate() {
            let at = format!("escalate[{i}]");
            let Some(length) = mistakes.one(duration(&at, after)) else { continue };
            if escalate_ns.last().is_some_and(|before| length <= *before) {
                let error = ConfigError::new(at, format!("'{after}' is not after the one before"));
                mistakes.push(error.help("put them in ascending order, such as [15m, 1h]"));
            }
            escalate_ns.push(length);
        }
        if self.escalate.len() > ESCALATIONS_MAX {
            let what = format!("'{}' times are too many", self.escalate.len());
            let error = ConfigError::new("escalate", what);
            mistakes.push(error.help(format!("give at most {ESCALATIONS_MAX}")));
        }
        let keep_ns = mistakes.one(duration("keep", self.keep));
        let keep_unacknowledged_ns =
            mistakes.one(duration("keep_unacknowledged", self.keep_unacknowledged));
        if !(1..=CLOSED_MAX).contains(&self.closed) {
            let what = format!("'{}' is not a number of alerts", self.closed);
            let error = ConfigError::new("closed", what);
            mistakes.push(error.help(format!("give a number from 1 to {CLOSED_MAX}")));
        }
        let terms = keep_ns.zip(keep_unacknowledged_ns).map(|(keep_ns, keep_unacknowledged_ns)| {
            Terms { escalate_ns, keep_ns, keep_unacknowledged_ns, closed: self.closed }
        });
        mistakes.or(terms)
    }
}

/// A length of the engine's clock, above zero.
fn duration(at: &str, length: Extent) -> Result<i64, ConfigError> {
    match length {
        Extent::Count(n) => Err(ConfigError::new(at, format!("'{n}' has no unit"))
            .help(format!("give a duration, such as {n}m or {n}d"))),
        Extent::Nanos(_) => positive(at, length, TimeDomain::UtcNanos),
    }
}

/// A rule whose alerts are in the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Whether it watches a view, so that its event times are the engine's clock: which alert of a machine was the first is
    /// asked among those of one clock.
    pub watches_view: bool,
}

/// Options that hold.
#[derive(Debug, Clone)]
struct Terms {
    /// Ascending, above 0.
    escalate_ns: Vec<i64>,
    keep_ns: i64,
    keep_unacknowledged_ns: i64,
    closed: usize,
}

/// Whether a pipeline with such a book needs epochs when no rows come, so that its clock goes on. It always does: shelvings
/// end, and alerts leave.
#[must_use]
pub fn wants_clock(_: &BookOptions) -> bool {
    true
}

/// The book of alerts of `rules`. Its inputs are the [entries](entry) of each rule, in that order and
/// by machine, then the commands ([`commands_schema`]). What it emits is a relation ([`book_schema`]), whose key is not that
/// of its inputs.
///
/// # Errors
/// Everything that is wrong with the options, not only the first.
pub fn book(rules: &[Rule], options: &BookOptions) -> Result<Planned, Vec<ConfigError>> {
    let terms = options.terms()?;
    let rules: Arc<[Rule]> = rules.into();
    let output = book_schema();
    Ok(Planned {
        output,
        late: LateSupport::Itself,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let keys = Keyed::new(&entry_schema());
            Ok(Box::new(keeper::Keeper::new(Arc::clone(&rules), terms.clone(), keys)))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

/// The entries of a rule are in one schema: what [`book`] needs of them, checked where the rule is planned.
fn needs(stream: &Schema, name: &str) -> Result<usize, ConfigError> {
    stream.index_of(name).ok_or_else(|| {
        let what = format!("the stream has no column '{name}', so it is not that of a rule");
        ConfigError::new("", what).help("give the stream of an alert")
    })
}
