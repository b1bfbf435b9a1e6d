//! Tests of what the sinks that tell people share, with a receiver that does what it is told.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Int32Type};
use foreline_engine::{
    Batch, Column, Committed, ConfigError, Expression, ExpressionError, PrimaryKey, Resolver,
    RunId, Schema, Sink, SinkError, TimeDomain, hash_keys,
};
use serde_json::{Value, json};

use super::courier::pause;
use super::message::{Message, Notice};
use super::*;
use crate::kind::{PlannedSink, SinkInputs};

mod pacing;
mod spooling;

/// 5 January 2026, 10:00 UTC.
pub(crate) const TEN: i64 = 1_767_607_200_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// A resolver that knows where files lie and nothing else.
pub(crate) struct Below(pub(crate) PathBuf);

impl Resolver for Below {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a sink has no expressions")
    }
    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
    fn cache_dir(&self) -> PathBuf {
        unreachable!("a sink keeps nothing")
    }
    fn checking(&self) -> bool {
        false
    }
}

/// Changes of alerts, as a rule sends them, with the `gone` of a view's changes.
pub(crate) fn alerts() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("ts", TimeDomain::UtcNanos.data_type()),
        Column::new("alert", DataType::Utf8),
        Column::new("rule", DataType::Utf8),
        Column::new("severity", DataType::Int64),
        Column::new("change", DataType::Utf8),
        Column::new("message", DataType::Utf8),
        Column::new("gone", DataType::Boolean),
    ];
    let primary = PrimaryKey { columns: vec![0, 1, 2], position: false };
    Schema::with_primary_key(columns, vec![0], 1, primary).unwrap()
}

/// One alert a row: machine, severity, and whether it is gone; the alert's id is counted from `first`.
pub(crate) fn raised(first: i64, rows: &[(&str, i64, bool)]) -> Batch {
    let n = i64::try_from(rows.len()).unwrap();
    let text = |text: &str| Arc::new(StringArray::from(vec![text; rows.len()])) as ArrayRef;
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|r| r.0).collect();
    let stamps =
        TimestampNanosecondArray::from_iter_values((0..n).map(|i| TEN + (first + i) * SECOND));
    let ids: StringArray = (first..first + n).map(|i| Some(format!("a{i}"))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machines),
        Arc::new(stamps.with_timezone("UTC")),
        Arc::new(ids),
        text("hot"),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
        text("raised"),
        text("too hot"),
        Arc::new(rows.iter().map(|r| Some(r.2)).collect::<BooleanArray>()),
    ];
    let schema = alerts();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let positions: Vec<u64> = (1..=rows.num_rows() as u64).collect();
    Batch::new(rows.clone(), hash_keys(&rows, schema.key()), positions.into()).unwrap()
}

/// The plan of a sink of the kind `kind` for [`alerts`], with a spool below `folder`.
pub(crate) fn planned_kind(
    folder: &Path,
    kind: &str,
    mut config: Value,
) -> Result<PlannedSink, Vec<ConfigError>> {
    if kind != "log" && config.get("spool").is_none() {
        config["spool"] = json!("spool");
    }
    let entry = crate::SINKS.iter().find(|entry| entry.name == kind).unwrap();
    let parsed = (entry.parse)(&config).map_err(|e| vec![e])?;
    let schema = alerts();
    let inputs = SinkInputs { pipeline: "pump", sink: "tell", stream: "hot", schema: &schema };
    parsed.plan(&inputs, &Below(folder.to_owned()))
}

/// A sink of that kind, open for a run.
pub(crate) fn opened(folder: &Path, kind: &str, config: Value, run: u64) -> Box<dyn Sink> {
    let mut sink = (planned_kind(folder, kind, config).unwrap().make)().unwrap();
    sink.open(RunId(run), 1, &alerts()).unwrap();
    sink
}

/// Gives a sink an epoch and commits it.
pub(crate) fn commit(sink: &mut dyn Sink, epoch: u64, rows: &[Batch]) {
    sink.write(epoch, rows).unwrap();
    assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch));
}

pub(crate) fn left_out(sink: &dyn Sink, reason: &str) -> u64 {
    sink.left_out().into_iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| n)
}

/// Waits for something that a thread of the sink does.
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let (_open, never) = mpsc::channel::<()>();
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        never.recv_timeout(Duration::from_millis(10)).ok();
    }
    panic!("it did not come to this in a minute: {what}");
}

/// A receiver: gives these outcomes in turn, then `Delivered`; notes every notice.
struct Told {
    outcomes: VecDeque<Option<Outcome>>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Channel for Told {
    fn deliver(&mut self, notices: &[Notice]) -> Vec<Outcome> {
        self.notices.lock().unwrap().extend_from_slice(notices);
        let next = |_: &Notice| match self.outcomes.pop_front() {
            Some(None) => panic!("the process dies here"),
            Some(Some(outcome)) => outcome,
            None => Outcome::Delivered,
        };
        notices.iter().map(next).collect()
    }
}

struct Rig {
    folder: tempfile::TempDir,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Rig {
    fn new() -> Self {
        Rig { folder: tempfile::tempdir().unwrap(), notices: Arc::default() }
    }

    /// A sink whose receiver gives these outcomes, where `None` is the death of the process behind the answer.
    fn sink(&self, options: &Value, outcomes: Vec<Option<Outcome>>) -> NotifySink {
        let mut config = json!({ "url": "http://127.0.0.1:1/", "spool": "spool" });
        config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let config: crate::webhook::WebhookConfig = foreline_engine::parse_config(&config).unwrap();
        let schema = alerts();
        let rules = config.common().check(&schema).unwrap();
        let inputs = SinkInputs { pipeline: "pump", sink: "tell", stream: "hot", schema: &schema };
        let channel = Told { outcomes: outcomes.into(), notices: Arc::clone(&self.notices) };
        let folder = self.folder.path().join("spool");
        NotifySink::new(composer(&inputs, &rules), rules, folder, Box::new(channel))
    }

    fn opened(&self, options: &Value, outcomes: Vec<Option<Outcome>>, run: u64) -> NotifySink {
        let mut sink = self.sink(options, outcomes);
        sink.open(RunId(run), 1, &alerts()).unwrap();
        sink
    }

    fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }

    fn await_notices(&self, n: usize) -> Vec<Notice> {
        wait_for(&format!("{n} notices"), || self.notices().len() >= n);
        self.notices()
    }
}

fn retry(after: Option<Duration>) -> Option<Outcome> {
    Some(Outcome::Retry("it is down".to_owned(), after))
}

#[test]
fn a_row_is_a_message_for_machines_and_for_people() {
    let rig = Rig::new();
    let mut sink = rig.opened(&json!({}), vec![], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false)])]);
    let notice = &rig.await_notices(1)[0];
    assert_eq!(notice.subject(), "[critical] hot raised: p1");
    assert_eq!(notice.text(), "hot raised (critical), machine p1: too hot");
    let origin = Origin { pipeline: "pump".into(), sink: "tell".into(), stream: "hot".into() };
    let body: Value = serde_json::from_str(&notice.json(&origin)).unwrap();
    assert_eq!(
        body,
        json!({
            "id": notice.id, "pipeline": "pump", "sink": "tell", "stream": "hot",
            "rows": [{
                "machine": "p1", "ts": "2026-01-05T10:00:00Z", "alert": "a0", "rule": "hot",
                "severity": 5, "change": "raised", "message": "too hot", "gone": false,
            }],
            "ids": [notice.id], "text": "hot raised (critical), machine p1: too hot",
        })
    );
}

#[test]
fn rows_that_are_gone_or_deleted_are_no_messages() {
    let rig = Rig::new();
    let mut sink = rig.opened(&json!({}), vec![], 1);
    let deleted = Batch {
        revision: Some(UInt32Array::from(vec![1, 1])),
        deleted: Some(BooleanArray::from(vec![true, false])),
        ..raised(2, &[("p3", 3, false), ("p4", 3, false)])
    };
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, true), ("p2", 5, false)]), deleted]);
    let notices = rig.await_notices(2);
    assert_eq!(
        [&notices[0], &notices[1]].map(|n| n.subject()),
        ["[critical] hot raised: p2", "[warning] hot raised: p4"]
    );
    assert_eq!((left_out(&sink, "gone"), left_out(&sink, "deleted")), (1, 1));
}

#[test]
fn an_id_is_that_of_the_row_and_of_nothing_else() {
    let ids = |epoch: u64, revision: Option<u32>, machine: &str| {
        let rig = Rig::new();
        let mut sink = rig.opened(&json!({}), vec![], 7);
        let revision = revision.map(|r| UInt32Array::from(vec![r]));
        let batch = Batch { revision, ..raised(0, &[(machine, 5, false)]) };
        commit(&mut sink, epoch, &[batch]);
        rig.await_notices(1)[0].id.clone()
    };
    let id = ids(1, None, "p1");
    assert_eq!(id.len(), 32);
    assert_eq!(id, ids(9, Some(0), "p1"));
    assert_ne!(id, ids(1, Some(1), "p1"));
    assert_ne!(id, ids(1, None, "p2"));
}

#[test]
fn a_crash_behind_the_answer_brings_the_message_again_with_its_id() {
    let rig = Rig::new();
    let mut sink = rig.opened(&json!({}), vec![None], 1);
    commit(&mut sink, 4, &[raised(0, &[("p1", 5, false), ("p2", 5, false)])]);
    let first = rig.await_notices(1)[0].clone();
    sink.die();
    let mut sink = rig.sink(&json!({}), vec![]);
    assert_eq!(sink.open(RunId(2), 1, &alerts()).unwrap(), Some(4));
    let notices = rig.await_notices(3);
    assert_eq!((&notices[1], notices[2].messages.len()), (&first, 1));
    wait_for("all is marked", || sink.n_waiting() == 0);
    sink.die();
    // What is marked does not come again.
    let mut sink = rig.opened(&json!({}), vec![], 3);
    commit(&mut sink, 5, &[raised(9, &[("p9", 5, false)])]);
    assert_eq!(rig.await_notices(4)[3].subject(), "[critical] hot raised: p9");
}

#[test]
fn what_went_out_together_comes_again_together() {
    let rig = Rig::new();
    let grouped = json!({ "group": { "by": ["machine"], "within": "50ms" } });
    let mut sink = rig.opened(&grouped, vec![None], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false), ("p1", 4, false)])]);
    let first = rig.await_notices(1)[0].clone();
    assert_eq!(first.messages.len(), 2);
    assert!(first.text().starts_with("2 messages:\n- hot raised (critical)"), "{}", first.text());
    sink.die();
    let mut sink = rig.opened(&grouped, vec![], 2);
    commit(&mut sink, 2, &[raised(5, &[("p1", 3, false)])]);
    let notices = rig.await_notices(3);
    assert_eq!(notices[1], first);
    assert_eq!(notices[2].subject(), "[warning] hot raised: p1");
}

#[test]
fn a_thread_that_has_died_is_said() {
    let rig = Rig::new();
    let mut sink = rig.opened(&json!({}), vec![None], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false)])]);
    rig.await_notices(1);
    let mut died = None;
    for epoch in 2..6_000 {
        match sink.commit(epoch) {
            Ok(_) => wait_for("a moment", || true),
            Err(error) => {
                died = Some(error.to_string());
                break;
            }
        }
    }
    assert!(died.unwrap().contains("has died"));
}

#[test]
fn what_is_refused_is_counted_and_the_rest_goes_on() {
    let rig = Rig::new();
    let refused = Some(Outcome::Refused("'x' answers 400".to_owned()));
    let mut sink = rig.opened(&json!({}), vec![refused], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false), ("p2", 5, false)])]);
    assert_eq!(rig.await_notices(2).len(), 2);
    wait_for("both are marked", || sink.n_waiting() == 0);
    assert_eq!(left_out(&sink, "refused"), 1);
}

#[test]
fn what_cannot_be_delivered_is_given_up_after_its_time_and_its_tries() {
    let rig = Rig::new();
    let short = json!({ "give_up_after": "1ms" });
    let mut sink = rig.opened(&short, vec![retry(None), retry(None), retry(None)], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false)])]);
    wait_for("it is given up", || sink.n_waiting() == 0);
    assert_eq!((left_out(&sink, "given_up"), rig.notices().len()), (1, 3));
}

#[test]
fn a_receiver_that_is_down_holds_up_nothing_until_the_spool_is_full() {
    let rig = Rig::new();
    let small = json!({ "spool_limit": 1_048_576, "template": { "body": "x".repeat(16_000) } });
    let down = vec![retry(Some(Duration::from_secs(3600)))];
    let mut sink = rig.opened(&small, down, 1);
    let many = |first| raised(first, &[("p1", 5, false); 20]);
    let mut full = None;
    for epoch in 1..=10 {
        sink.write(epoch, &[many(epoch as i64 * 100)]).unwrap();
        if let Err(error) = sink.commit(epoch) {
            full = Some((epoch, error));
            break;
        }
    }
    let (epoch, error) = full.unwrap();
    assert_eq!(epoch, 4, "about 320 kB a commit");
    let text = error.to_string();
    assert!(matches!(error, SinkError::Retry(_)), "{error:?}");
    assert!(text.contains("is full: 60 messages of") && text.contains("spool_limit"), "{text}");
    // It is opened again, as the engine does, and knows what it has.
    assert_eq!(sink.open(RunId(1), 1, &alerts()).unwrap(), Some(3));
    sink.die();
    let mut sink = rig.sink(&small, vec![]);
    assert_eq!(sink.open(RunId(2), 1, &alerts()).unwrap(), Some(3));
    wait_for("the spool is empty", || sink.n_waiting() == 0);
    commit(&mut sink, 4, &[many(400)]);
}

#[test]
fn the_end_of_a_run_waits_a_moment_for_what_is_due() {
    let rig = Rig::new();
    let grouped = json!({ "group": { "within": "1h" } });
    let mut sink = rig.opened(&grouped, vec![], 1);
    commit(&mut sink, 1, &[raised(0, &[("p1", 5, false), ("p2", 4, false)])]);
    drop(sink);
    assert_eq!(rig.notices().len(), 1);
    assert_eq!(rig.notices()[0].messages.len(), 2);
}

#[test]
fn an_older_run_is_fenced() {
    let rig = Rig::new();
    let mut old = rig.opened(&json!({}), vec![], 1);
    let mut new = rig.opened(&json!({}), vec![], 2);
    old.write(1, &[raised(0, &[("p1", 5, false)])]).unwrap();
    assert!(matches!(old.commit(1), Err(SinkError::Fenced(RunId(2)))));
    commit(&mut new, 1, &[raised(0, &[("p1", 5, false)])]);
    assert!(matches!(old.open(RunId(1), 1, &alerts()), Err(SinkError::Fenced(RunId(2)))));
}

#[test]
fn pauses_grow_and_have_jitter() {
    for (failures, most_ms) in [(1, 500), (2, 1_000), (5, 8_000), (10, 256_000), (99, 300_000)] {
        let is = pause(failures, None).as_millis();
        assert!((most_ms / 2..=most_ms).contains(&is), "{failures}: {is}");
    }
    assert_eq!(pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
    assert_eq!(pause(9, Some(Duration::ZERO)), Duration::from_millis(500));
    assert_eq!(pause(1, Some(Duration::MAX)), Duration::from_secs(3600));
}

#[test]
fn mistakes_are_found_all_at_once_and_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "url": "https://hook.example/x",
        "rate": { "messages": 0, "per": "1m" },
        "group": { "by": ["machin"], "within": "0s" },
        "quiet": { "from": "25:00", "to": "06:00", "zone": "UTC" },
        "template": { "subject": "{sevrity}", "body": "{machine" },
        "give_up_after": 5,
        "spool_limit": 10,
    });
    let found = planned_kind(folder.path(), "webhook", config).unwrap_err();
    let at: Vec<&str> = found.iter().map(|e| e.at.as_str()).collect();
    let wanted = [
        "rate.messages",
        "quiet.from",
        "group.within",
        "group.by[0]",
        "template.subject",
        "template.body",
        "give_up_after",
        "spool_limit",
    ];
    assert_eq!(at, wanted);
    let (name, known) = found[4].unknown.clone().unwrap();
    assert_eq!(name, "sevrity");
    assert!(known.contains(&"severity".to_owned()));
    let wrong = |option: Value| {
        let mut config = json!({ "url": "https://hook.example/x" });
        config.as_object_mut().unwrap().extend(option.as_object().unwrap().clone());
        planned_kind(folder.path(), "webhook", config).unwrap_err()[0].to_string()
    };
    let quiet = |except: &str| json!({ "quiet": { "from": "22:00", "to": "06:00", "zone": "UTC", "except": except } });
    assert!(wrong(quiet("terrible")).contains("'terrible' is not a severity"));
    assert!(wrong(json!({ "spol": "x" })).contains("unknown field `spol`"));
    let zone = json!({ "quiet": { "from": "22:00", "to": "06:00", "zone": "Mars" } });
    assert!(wrong(zone).contains("quiet.zone: 'Mars' is not a time zone"));
}

#[test]
fn a_log_says_that_it_remembers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = opened(folder.path(), "log", json!({ "level": "warn" }), 1);
    assert!(!sink.remembers());
    commit(&mut *sink, 3, &[raised(0, &[("p1", 5, false), ("p2", 5, true)])]);
    assert_eq!(left_out(&*sink, "gone"), 1);
    assert!(!sink.prompt());
}
