//! The alerts of the book as rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Int32Type};
use foreline_engine::{Batch, Column, Fault, PrimaryKey, Schema, TimeDomain, hash_keys};

use super::machine::{Acknowledged, Alert, Change, Marks};
use crate::emitted::sorted;

/// The schema of the book: a row an alert, whose key and primary key is `alert`. Its event time is `change_at`, the engine's
/// clock at its last change. `changes` counts the changes of an alert and never goes back, so `alert` and `changes` together
/// are a name for what is to be told of it.
///
/// # Panics
/// Never: the columns make a schema.
#[must_use]
pub fn book_schema() -> Schema {
    let text = |name: &str| Column::new(name, DataType::Utf8);
    let whole = |name: &str| Column::new(name, DataType::Int64);
    let truth = |name: &str| Column::new(name, DataType::Boolean);
    let moment = |name: &str| Column::new(name, TimeDomain::UtcNanos.data_type());
    let columns = vec![
        text("alert"),
        text("machine"),
        text("rule"),
        whole("severity"),
        text("state"),
        truth("acknowledged"),
        text("acknowledged_by"),
        moment("acknowledged_at"),
        whole("comments"),
        text("comment"),
        moment("shelved_until"),
        truth("out_of_service"),
        truth("suppressed"),
        whole("escalation"),
        truth("first_out"),
        moment("raised_at"),
        moment("cleared_at"),
        moment("first_seen"),
        whole("raised_count"),
        whole("cleared_count"),
        truth("flapping"),
        truth("inhibited"),
        text("message"),
        text("evidence"),
        text("change"),
        text("by"),
        whole("changes"),
        moment("change_at"),
    ];
    let time = columns.len() - 1;
    let primary_key = PrimaryKey { columns: vec![0], position: false };
    Schema::with_primary_key(columns, vec![0], time, primary_key)
        .expect("the columns above are distinct, and the last is a time")
}

/// An alert as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    rule: String,
    severity: i64,
    is_open: bool,
    acknowledged: Option<Acknowledged>,
    comments: i64,
    comment: Option<String>,
    marks: Marks,
    suppressed: bool,
    escalation: i64,
    first_out: bool,
    counts: bool,
    raised_at: i64,
    cleared_at: Option<i64>,
    first_seen: Option<i64>,
    flapping: bool,
    inhibited: bool,
    message: Option<String>,
    evidence: Option<String>,
    change: Change,
    by: Option<String>,
    pub(super) changes: i64,
    change_clock_ns: i64,
}

impl Alert {
    /// How it is shown.
    pub(super) fn shown(&self) -> Shown {
        let told = self.last().map(|(_, told)| told);
        Shown {
            rule: self.rule.clone(),
            severity: told.map_or(0, |told| told.severity),
            is_open: self.is_open(),
            acknowledged: self.acknowledged.clone(),
            comments: self.comments,
            comment: self.comment.clone(),
            marks: self.marks,
            suppressed: self.is_suppressed(),
            escalation: i64::try_from(self.escalation).unwrap_or(i64::MAX),
            first_out: self.first_out,
            counts: self.counts(),
            raised_at: told.map_or(0, |told| told.raised_at),
            cleared_at: told.and_then(|told| told.cleared_at),
            first_seen: told.and_then(|told| told.first_seen),
            flapping: told.is_some_and(|told| told.flapping),
            inhibited: told.is_some_and(|told| told.inhibited),
            message: told.and_then(|told| told.message.clone()),
            evidence: told.and_then(|told| told.evidence.clone()),
            change: self.change,
            by: self.by.clone(),
            changes: self.changes,
            change_clock_ns: self.change_clock_ns,
        }
    }
}

/// A row of the book.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) alert: String,
    pub(super) machine: String,
    pub(super) shown: Shown,
}

impl Line {
    fn state(&self) -> &'static str {
        if self.shown.is_open { "open" } else { "cleared" }
    }

    /// A time of the rule's domain, where that is UTC.
    fn in_utc(&self, time: Option<i64>) -> Option<i64> {
        time.filter(|_| !self.shown.counts)
    }

    /// A time of the rule's domain, where that counts.
    fn as_count(&self, time: Option<i64>) -> Option<i64> {
        time.filter(|_| self.shown.counts)
    }
}

/// Rows of the book as a batch of `schema`, in its order. No two are of the same alert.
pub(super) fn batch(schema: &Schema, lines: &[Line]) -> Result<Batch, Fault> {
    let text = |of: &dyn for<'a> Fn(&'a Line) -> Option<&'a str>| -> ArrayRef {
        Arc::new(lines.iter().map(of).collect::<StringArray>())
    };
    let whole = |of: &dyn Fn(&Line) -> Option<i64>| -> ArrayRef {
        Arc::new(lines.iter().map(of).collect::<Int64Array>())
    };
    let truth = |of: &dyn Fn(&Line) -> bool| -> ArrayRef {
        Arc::new(lines.iter().map(|line| Some(of(line))).collect::<BooleanArray>())
    };
    let moment = |of: &dyn Fn(&Line) -> Option<i64>| -> ArrayRef {
        Arc::new(lines.iter().map(of).collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let ids: DictionaryArray<Int32Type> = lines.iter().map(|line| line.alert.as_str()).collect();
    let acknowledged = |line: &Line| line.shown.acknowledged.as_ref().map(|by| by.at);
    let raised = |line: &Line| Some(line.shown.raised_at);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        text(&|line| Some(&line.machine)),
        text(&|line| Some(&line.shown.rule)),
        whole(&|line| Some(line.shown.severity)),
        text(&|line| Some(line.state())),
        truth(&|line| line.shown.acknowledged.is_some()),
        text(&|line| line.shown.acknowledged.as_ref()?.by.as_deref()),
        moment(&acknowledged),
        whole(&|line| Some(line.shown.comments)),
        text(&|line| line.shown.comment.as_deref()),
        moment(&|line| line.shown.marks.shelved_until),
        truth(&|line| line.shown.marks.out_of_service),
        truth(&|line| line.shown.suppressed),
        whole(&|line| Some(line.shown.escalation)),
        truth(&|line| line.shown.first_out),
        moment(&|line| line.in_utc(raised(line))),
        moment(&|line| line.in_utc(line.shown.cleared_at)),
        moment(&|line| line.in_utc(line.shown.first_seen)),
        whole(&|line| line.as_count(raised(line))),
        whole(&|line| line.as_count(line.shown.cleared_at)),
        truth(&|line| line.shown.flapping),
        truth(&|line| line.shown.inhibited),
        text(&|line| line.shown.message.as_deref()),
        text(&|line| line.shown.evidence.as_deref()),
        text(&|line| Some(line.shown.change.name())),
        text(&|line| line.shown.by.as_deref()),
        whole(&|line| Some(line.shown.changes)),
        moment(&|line| Some(line.shown.change_clock_ns)),
    ];
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns)?;
    let hashes = hash_keys(&rows, schema.key()).values().to_vec();
    // An alert has one row an epoch, so there is nothing that positions would put in order.
    sorted(rows, hashes, vec![0; lines.len()])
}
