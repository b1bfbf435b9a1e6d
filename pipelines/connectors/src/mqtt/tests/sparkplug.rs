//! Sparkplug edge nodes behind a real broker: they are asked for births that are missing, and only for those.

use foreline_servers::subscriber::Subscriber;
use prost::Message as _;

use super::*;
use crate::format::sparkplug_testing::*;

/// The edge nodes' side of the broker.
struct Plant {
    publisher: Publisher,
    commands: Subscriber,
}

impl Plant {
    fn at(broker: &Mosquitto) -> Self {
        let port = broker.plain_port();
        let commands = Subscriber::connect(port, "spBv1.0/plant/NCMD/#").unwrap();
        Plant { publisher: Publisher::connect(port, None).unwrap(), commands }
    }

    /// A birth that gives `$` the alias 7.
    fn birth(&mut self, node: &str) {
        self.send("NBIRTH", node, 0, metric("$", Some(7), MetricValue::Int(0)));
    }

    fn data(&mut self, node: &str, seq: u64, value: u32) {
        self.send("NDATA", node, seq, metric("", Some(7), MetricValue::Int(value)));
    }

    fn send(&mut self, kind: &str, node: &str, seq: u64, metric: Metric) {
        let payload = Payload { seq: Some(seq), ..payload(1000, vec![metric]) };
        let topic = format!("spBv1.0/plant/{kind}/{node}");
        self.publisher.publish(&topic, &payload.encode_to_vec()).unwrap();
        self.publisher.settle().unwrap();
    }

    /// Who is asked next.
    fn asked(&mut self) -> String {
        let (topic, payload) = self.commands.next_message().unwrap();
        let metric = Payload::decode(&payload[..]).unwrap().metrics.remove(0);
        assert_eq!(metric.name.as_deref(), Some("Node Control/Rebirth"));
        assert_eq!((metric.datatype, metric.value), (Some(11), Some(MetricValue::Boolean(true))));
        topic.rsplit('/').next().unwrap().to_owned()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is called")]
fn sparkplug(broker: &Mosquitto, version: &str, format: Value) -> Rig {
    let topics = json!({ "topics": ["spBv1.0/plant/+/{machine}/#"], "format": format });
    Rig::subscribed(config(&broker.url(), version, topics))
}

#[test]
fn births_that_are_missing_are_asked_for_once() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let mut plant = Plant::at(&broker);
        let mut rig = sparkplug(&broker, version, json!("sparkplug"));
        for seq in 4..6 {
            plant.data("P-1", seq, 5);
        }
        rig.until("two dead letters", |rig| rig.dead.len() == 2);
        assert!(rig.dead[0].contains("no birth has said which metric has the alias 7"));
        assert_eq!(plant.asked(), "P-1");
        plant.birth("P-1");
        plant.data("P-1", 1, 8);
        plant.birth("P-2");
        plant.data("P-2", 2, 9);
        rig.until("rows", |rig| rig.numbers() == [0, 8, 9]);
        // Another command to P-1 would come before it.
        assert_eq!(plant.asked(), "P-2", "its message 1 is missing");
        assert_eq!(rig.source.counts().rebirths, 2);
    }
}

#[test]
fn who_hears_no_births_asks_for_none() {
    let about = |topic: &str| {
        let config = config("mqtt://a", "5", json!({ "topics": [topic], "format": "sparkplug" }));
        plan(config).unwrap_or_else(|e| panic!("{e:?}"))
    };
    let deaf = about("spBv1.0/plant/NDATA/{machine}");
    assert!(!deaf.asks_for_births && deaf.notes()[0].contains("births are not among the topics"));
    for topic in ["spBv1.0/plant/+/{machine}/#", "#", "spBv1.0/#", "spBv1.0/+/{machine}/+/+"] {
        let plan = about(topic);
        assert!(plan.asks_for_births && plan.notes()[0].contains("asked for births"), "{topic}");
        assert!(!plan.apart("tap", 0).asks_for_births);
    }
}

#[test]
fn nobody_is_asked_where_that_is_switched_off() {
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let mut plant = Plant::at(&broker);
    let mut rig = sparkplug(&broker, "5", json!({ "sparkplug": { "rebirth": false } }));
    plant.data("P-1", 4, 5);
    rig.until("a dead letter", |rig| rig.dead.len() == 1);
    plant.publisher.publish("spBv1.0/plant/NCMD/nobody", &[]).unwrap();
    let (topic, _) = plant.commands.next_message().unwrap();
    assert_eq!(topic, "spBv1.0/plant/NCMD/nobody");
    assert_eq!(rig.source.counts().rebirths, 0);
}
