//! The source against Mosquitto, against a broker that misbehaves, and behind a network that does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{DataType, Int64Type};
use foreline_engine::{
    Column, Decoded, Expression, ExpressionError, KnownPartition, Partition, ReadUpTo, Schema,
    TimeDomain,
};
use foreline_servers::mosquitto::{Mosquitto, Setup};
use foreline_servers::publisher::Publisher;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::kind::ColumnConfig;
use source::MqttSource;

mod faults;
mod misbehaving;
mod publishing;
mod secured;
mod sparkplug;
mod waveforms;

/// How long something may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A resolver that knows where files lie and nothing else.
struct Folder;

impl Resolver for Folder {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a source has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn cache_dir(&self) -> PathBuf {
        PathBuf::new()
    }

    fn checking(&self) -> bool {
        false
    }
}

/// Columns from every part of a message: machine and line from the topic, a number from the payload.
fn columns() -> Vec<(String, ColumnConfig)> {
    let columns = json!({
        "machine": { "type": "string" },
        "ts": { "type": "timestamp", "field": "#received" },
        "n": { "type": "int64", "field": "$" },
        "kept": { "type": "bool", "field": "#retained" },
    });
    let parse = |c: &Value| serde_json::from_value(c.clone()).unwrap();
    columns.as_object().unwrap().iter().map(|(name, c)| (name.clone(), parse(c))).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "tests write the values where they are used")]
fn plan(config: Value) -> Result<Plan, Vec<ConfigError>> {
    let columns = columns();
    let types =
        [DataType::Utf8, TimeDomain::UtcNanos.data_type(), DataType::Int64, DataType::Boolean];
    let named = columns.iter().zip(types).map(|((name, _), t)| Column::new(name, t));
    let schema = Schema::new(named.collect(), &["machine"], "ts").unwrap();
    let config: MqttConfig = foreline_engine::parse_config(&config).map_err(|e| vec![e])?;
    Plan::new(&config, &SourceInputs { columns: &columns, schema: &schema }, &Folder)
}

/// A configuration for a broker, with more options.
#[expect(clippy::needless_pass_by_value, reason = "tests write the values where they are used")]
fn config(url: &str, version: &str, more: Value) -> Value {
    let mut config = json!({
        "urls": [url], "topics": ["plant/{machine}/n"], "client_id": "foreline-test", "version": version,
        "keep_alive": "1s",
    });
    let own = config.as_object_mut().unwrap();
    own.extend(more.as_object().unwrap().clone());
    config
}

/// A source that a test polls, with what came out of it.
struct Rig {
    source: MqttSource,
    decoder: Box<dyn foreline_engine::Decoder>,
    /// Machine and number of each row.
    rows: Vec<(String, i64)>,
    dead: Vec<String>,
    /// Where the last chunk ended, by partition.
    ends: Vec<(Partition, u64)>,
    error: Option<String>,
    /// Whether chunks are made durable at once.
    acknowledges: bool,
}

impl Rig {
    fn open(config: Value) -> Self {
        Self::resume(config, &[])
    }

    fn resume(config: Value, known: &[KnownPartition]) -> Self {
        let plan = Arc::new(plan(config).unwrap_or_else(|e| panic!("{e:?}")));
        let mut source = MqttSource::open(&plan).unwrap();
        source.resume(known).unwrap();
        let decoder = source.decoder();
        let (rows, dead, ends) = (Vec::new(), Vec::new(), Vec::new());
        Rig { source, decoder, rows, dead, ends, error: None, acknowledges: true }
    }

    /// A source that has a subscription.
    fn subscribed(config: Value) -> Self {
        let mut rig = Rig::open(config);
        rig.until("the subscription", |rig| rig.source.counts().subscriptions > 0);
        rig
    }

    /// Polls once.
    fn poll(&mut self) {
        match self.source.poll(64 * 1024) {
            Ok(foreline_engine::Poll::Ready(chunk)) => self.take(&chunk),
            Ok(_) => pause(),
            Err(e) => self.error = Some(e.to_string()),
        }
    }

    fn take(&mut self, chunk: &foreline_engine::Chunk) {
        let mut out = Decoded::default();
        self.decoder.decode(chunk, &mut out);
        for (batch, _) in &out.rows {
            let machines = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
            let numbers = batch.column(2).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let n = if numbers.is_null(row) { -1 } else { numbers.value(row) };
                self.rows.push((machines.as_string::<i32>().value(row).to_owned(), n));
            }
        }
        self.dead.extend(out.dead.iter().map(|d| format!("{}: {}", d.reason, d.detail)));
        self.ends.retain(|(partition, _)| *partition != chunk.partition);
        self.ends.push((chunk.partition, chunk.range.end_ordinal));
        if self.acknowledges {
            self.acknowledge();
        }
    }

    /// Says that everything that came is durable.
    fn acknowledge(&mut self) {
        for (partition, end) in &self.ends {
            self.source.durable(*partition, foreline_engine::Position::new(*partition, end - 1));
        }
    }

    /// Polls until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Rig) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            if let Some(error) = &self.error {
                panic!("waiting for {what}: {error}");
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no {what}: {:?} {:?}",
                self.source.counts(),
                self.rows
            );
            self.poll();
        }
    }

    /// Polls until the source gives up; why it did.
    fn until_error(&mut self) -> String {
        let begun = Instant::now();
        while self.error.is_none() {
            assert!(begun.elapsed() < PATIENCE, "no error: {:?}", self.source.counts());
            self.poll();
        }
        self.error.clone().unwrap()
    }

    /// The numbers so far, each once, sorted.
    fn numbers(&self) -> Vec<i64> {
        let mut numbers: Vec<i64> = self.rows.iter().map(|(_, n)| *n).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// What the journal would know of its partitions.
    fn known(&self) -> Vec<KnownPartition> {
        let of = |(partition, end): &(Partition, u64)| KnownPartition {
            partition: *partition,
            name: self.source.partition_name(*partition).unwrap(),
            identity: self.source.identity(*partition),
            read: Some(ReadUpTo { end: *end, end_ordinal: *end }),
        };
        self.ends.iter().map(of).collect()
    }
}

/// A moment in which others may work. Tests wait for what is to be, with a deadline, and not for time to pass.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(1));
}

fn publish(broker: &Mosquitto, numbers: std::ops::Range<i64>) {
    let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
    for n in numbers {
        publisher.publish(&format!("plant/P-{}/n", n % 3), n.to_string().as_bytes()).unwrap();
    }
    publisher.settle().unwrap();
}

const VERSIONS: [&str; 2] = ["5", "3.1.1"];

#[test]
fn what_is_not_durable_is_not_acknowledged_and_comes_again() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let config = || config(&broker.url(), version, json!({ "receive_maximum": 20 }));
        let mut rig = Rig::subscribed(config());
        rig.acknowledges = false;
        publish(&broker, 0..100);
        rig.until("a full window", |rig| rig.rows.len() == 20);
        for _ in 0..50 {
            rig.poll();
        }
        assert_eq!(
            rig.numbers(),
            (0..20).collect::<Vec<_>>(),
            "the window is 20, version {version}"
        );
        let known = rig.known();
        drop(rig);
        let mut rig = Rig::resume(config(), &known);
        rig.until("everything", |rig| rig.numbers().len() == 100);
        assert_eq!(rig.rows.len(), 100, "what was not acknowledged came once more, the rest once");
        assert_eq!(rig.ends, [(Partition(0), 121)]);
        let known = rig.known();
        drop(rig);
        let mut rig = Rig::resume(config(), &known);
        publish(&broker, 100..101);
        rig.until("the new message", |rig| !rig.rows.is_empty());
        assert_eq!(
            rig.rows,
            [("P-1".to_owned(), 100)],
            "what was acknowledged does not come again"
        );
        assert_eq!(rig.source.counts().gaps, 0);
    }
}

#[test]
fn several_brokers_are_partitions_that_keep_their_numbers() {
    let brokers = [Setup::default(), Setup::default()].map(|s| Mosquitto::start(s).unwrap());
    let both = |order: [usize; 2]| {
        let urls = order.map(|i| brokers[i].url());
        config("", "5", json!({ "urls": urls }))
    };
    let mut rig = Rig::open(both([0, 1]));
    rig.until("subscriptions", |rig| rig.source.counts().subscriptions == 2);
    publish(&brokers[0], 0..3);
    publish(&brokers[1], 3..5);
    rig.until("all of both", |rig| rig.rows.len() == 5);
    let known = rig.known();
    drop(rig);
    let mut rig = Rig::resume(both([1, 0]), &known);
    publish(&brokers[1], 5..6);
    rig.until("one more", |rig| rig.rows.len() == 1);
    assert_eq!(rig.ends, [(Partition(1), 4)]);
}

#[test]
fn retained_messages_are_old_values() {
    for (version, option) in [("5", "ignore"), ("3.1.1", "ignore"), ("5", "keep")] {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
        publisher.retain("plant/P-7/n", b"1").unwrap();
        publisher.settle().unwrap();
        let mut rig =
            Rig::subscribed(config(&broker.url(), version, json!({ "retained": option })));
        publish(&broker, 2..3);
        let expected = if option == "keep" { vec![1, 2] } else { vec![2] };
        rig.until("the fresh one", |rig| rig.numbers() == expected);
        let ignored = u64::from(option == "ignore");
        rig.until("the old one", |rig| rig.source.counts().retained == ignored);
    }
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let places = |config: Value| -> Vec<String> {
        plan(config).err().unwrap_or_default().into_iter().map(|e| e.at).collect()
    };
    let bad = json!({
        "urls": ["broker", "mqtt://a", "mqtt://a"], "topics": ["a/{line}", "x/#/y"], "qos": 2, "receive_maximum": 0,
        "keep_alive": "10ms", "max_message_bytes": 0, "password": "x", "tls": { "cert": "c" }, "queue_bytes": 1,
    });
    assert_eq!(
        places(bad),
        [
            "urls[0]",
            "urls[2]",
            "topics[0]",
            "topics[1]",
            "client_id",
            "qos",
            "receive_maximum",
            "max_message_bytes",
            "queue_bytes",
            "password",
            "tls",
            "tls.cert",
            "keep_alive",
        ]
    );
    assert_eq!(
        places(config("mqtt://a", "5", json!({ "format": { "csv": { "quote": "xx" } } }))),
        ["format.csv.quote", "columns.n.field",]
    );
    let notes = plan(config("mqtt://a", "3.1.1", json!({}))).unwrap().notes();
    assert!(notes[0].contains("at most 4000 messages/s"), "{notes:?}");
    let secret = config("mqtt://far", "5", json!({ "username": "u", "password": "hidden-5f1e" }));
    let secret = plan(secret).unwrap();
    assert!(!format!("{secret:?}").contains("hidden-5f1e"));
    assert!(secret.notes()[0].contains("in plain text"), "{:?}", secret.notes());
    let narrow = plan(config("mqtt://a", "5", json!({ "receive_maximum": 100 }))).unwrap().notes();
    assert!(narrow[0].contains("at most 20000 messages/s"), "{narrow:?}");
}
