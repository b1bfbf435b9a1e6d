//! What people tell the book to do.

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use chrono::{DateTime, SecondsFormat};
use foreline_engine::{Batch, Column, Reason, Schema, TimeDomain};

/// The command is none.
pub const UNKNOWN_COMMAND: Reason = Reason("unknown_command");
/// The alert of a command is not in the book.
pub const UNKNOWN_ALERT: Reason = Reason("unknown_alert");
/// The rule of a command is none of the pipeline's.
pub const UNKNOWN_RULE: Reason = Reason("unknown_rule");
/// A command lacks what it needs.
pub const MISSING_VALUE: Reason = Reason("missing_value");
/// An alert should be shelved until a time that has passed.
pub const ALREADY_PASSED: Reason = Reason("already_passed");
/// A text of a command is longer than what is kept.
pub const TOO_LONG: Reason = Reason("too_long");

/// Longest text of a command, in bytes: it is kept in the state of the book and in every row of it.
const TEXT_BYTES_MAX: usize = 4_096;

/// Where the columns of a command are.
mod place {
    pub(super) const RULE: usize = 2;
    pub(super) const ALERT: usize = 3;
    pub(super) const COMMAND: usize = 4;
    pub(super) const BY: usize = 5;
    pub(super) const COMMENT: usize = 6;
    pub(super) const UNTIL: usize = 7;
    pub(super) const ID: usize = 8;
}

/// The schema of commands: `machine` (the key, as in the [entries](super::entry_schema)), `at` (when it arrived), `rule`, `alert`
/// (the id), `command`, `by`, `comment`, `until` and `id`. A text that is empty is as good as none.
///
/// `acknowledge`, `unacknowledge` and `comment` need `alert`; `comment` needs `comment`. `shelve`, `unshelve`, `out_of_service` and
/// `in_service` need `rule`, or an `alert` of it that is in the book; `shelve` needs `until`, which lies ahead. Of commands for a
/// machine with one `id` the first is carried out.
///
/// # Panics
/// Never: the columns make a schema.
#[must_use]
pub fn commands_schema() -> Schema {
    let text = |name: &str| Column::new(name, DataType::Utf8);
    let moment = |name: &str| Column::new(name, TimeDomain::UtcNanos.data_type());
    let columns = vec![
        text("machine"),
        moment("at"),
        text("rule"),
        text("alert"),
        text("command"),
        text("by"),
        text("comment"),
        moment("until"),
        text("id"),
    ];
    Schema::new(columns, &["machine"], "at")
        .expect("the columns above are distinct, and `at` is a time")
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Acknowledge,
    Unacknowledge,
    Comment,
    Shelve,
    Unshelve,
    OutOfService,
    InService,
}

impl Verb {
    const ALL: [(&'static str, Verb); 7] = [
        ("acknowledge", Verb::Acknowledge),
        ("unacknowledge", Verb::Unacknowledge),
        ("comment", Verb::Comment),
        ("shelve", Verb::Shelve),
        ("unshelve", Verb::Unshelve),
        ("out_of_service", Verb::OutOfService),
        ("in_service", Verb::InService),
    ];

    fn of(word: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.iter().find(|(name, _)| *name == word);
        found.map(|(_, verb)| *verb).ok_or_else(|| {
            let known = Self::ALL.map(|(name, _)| name).join(", ");
            let what = format!("'{word}' is not a command; give one of {known}");
            Refusal(UNKNOWN_COMMAND, what)
        })
    }
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) Reason, pub(super) String);

/// A command that says what it needs. Whether it can be carried out the book knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command<'a> {
    pub(super) verb: Verb,
    pub(super) at: i64,
    pub(super) rule: Option<&'a str>,
    pub(super) alert: Option<&'a str>,
    pub(super) by: Option<&'a str>,
    pub(super) comment: Option<&'a str>,
    pub(super) until: Option<i64>,
    pub(super) id: Option<&'a str>,
}

impl<'a> Command<'a> {
    /// The command in a row of a batch.
    pub(super) fn of(batch: &'a Batch, row: usize, at: i64) -> Result<Self, Refusal> {
        let text = |column: usize| {
            let texts: &StringArray = batch.rows.column(column).as_string();
            Some(texts).filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row))
        };
        let given = |column: usize| text(column).filter(|text| !text.is_empty());
        let until = batch.rows.column(place::UNTIL).as_primitive::<TimestampNanosecondType>();
        let command = Command {
            verb: Verb::of(text(place::COMMAND).unwrap_or_default())?,
            at,
            rule: given(place::RULE),
            alert: given(place::ALERT),
            by: given(place::BY),
            comment: given(place::COMMENT),
            until: until.is_valid(row).then(|| until.value(row)),
            id: given(place::ID),
        };
        command.is_short()
    }

    /// The same, if none of its texts that are kept is too long.
    fn is_short(self) -> Result<Self, Refusal> {
        let texts = [("by", self.by), ("comment", self.comment), ("id", self.id)];
        for (name, text) in texts {
            let n_bytes = text.map_or(0, str::len);
            if n_bytes > TEXT_BYTES_MAX {
                let what = format!("'{name}' has {n_bytes} bytes; give at most {TEXT_BYTES_MAX}");
                return Err(Refusal(TOO_LONG, what));
            }
        }
        Ok(self)
    }

    /// What a command needs and lacks.
    pub(super) fn lacks(&self, name: &str) -> Refusal {
        let verb = Verb::ALL.iter().find(|(_, verb)| *verb == self.verb);
        let verb = verb.map_or("", |(name, _)| name);
        Refusal(MISSING_VALUE, format!("'{verb}' needs '{name}'; give it"))
    }

    /// Until when to shelve, which lies ahead.
    pub(super) fn until(&self, clock_ns: i64) -> Result<i64, Refusal> {
        let until = self.until.ok_or_else(|| self.lacks("until"))?;
        if until > clock_ns {
            return Ok(until);
        }
        let time = |ns: i64| {
            DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
        };
        let (until, now) = (time(until), time(clock_ns));
        let what = format!("'until' is {until}, and it is {now} already; give a time ahead");
        Err(Refusal(ALREADY_PASSED, what))
    }
}
