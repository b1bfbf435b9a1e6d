//! The sink against Mosquitto.

use foreline_servers::subscriber::Subscriber;

use super::*;
use crate::notify::tests::{commit, left_out, opened, planned_kind, raised};

fn told(subscriber: &mut Subscriber) -> (String, Value) {
    let (topic, payload) = subscriber.next_message().unwrap();
    (topic, serde_json::from_slice(&payload).unwrap())
}

fn sink_config(url: &str, version: &str, more: Value) -> Value {
    let mut config = json!({ "url": url, "topic": "alerts/{machine}/x", "version": version });
    let Value::Object(more) = more else { panic!("options are an object") };
    config.as_object_mut().unwrap().extend(more);
    config
}

#[test]
fn rows_are_published_where_the_topic_says() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let mut subscriber = Subscriber::connect(broker.plain_port(), "alerts/#").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = sink_config(&broker.url(), version, json!({}));
        let mut sink = opened(folder.path(), "mqtt", config, 1);
        let rows = [("p1", 5, false), ("a/b+#", 4, false), ("", 4, false)];
        commit(&mut *sink, 1, &[raised(0, &rows)]);
        let (topic, row) = told(&mut subscriber);
        assert_eq!(topic, "alerts/p1/x");
        assert_eq!((&row["machine"], &row["severity"]), (&json!("p1"), &json!(5)));
        assert_eq!(row["id"].as_str().unwrap().len(), 32);
        assert_eq!(told(&mut subscriber).0, "alerts/a_b__/x");
        assert_eq!(told(&mut subscriber).0, "alerts/_/x");
        assert_eq!(sink.left_out(), []);
    }
}

#[test]
fn a_broker_that_is_away_gets_everything_when_it_is_back() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start(Setup::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config =
            sink_config(&broker.url(), version, json!({ "payload": "envelope", "retain": true }));
        let mut sink = opened(folder.path(), "mqtt", config, 1);
        commit(&mut *sink, 1, &[raised(0, &[("p0", 5, false)])]);
        let mut subscriber = Subscriber::connect(broker.plain_port(), "alerts/#").unwrap();
        assert_eq!(told(&mut subscriber).0, "alerts/p0/x");
        broker.kill();
        commit(&mut *sink, 2, &[raised(1, &[("p1", 5, false), ("p2", 5, false)])]);
        broker.restart().unwrap();
        // They are retained: whoever comes later gets them as well.
        let mut found = std::collections::BTreeSet::new();
        let mut subscriber = Subscriber::connect(broker.plain_port(), "alerts/#").unwrap();
        while !(found.contains("alerts/p1/x") && found.contains("alerts/p2/x")) {
            let (topic, body) = told(&mut subscriber);
            assert_eq!(body["stream"], "hot");
            found.insert(topic);
        }
        assert_eq!(left_out(&*sink, "refused"), 0);
    }
}

#[test]
fn quality_0_and_certificates_will_do() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup { has_tls: true, ..Setup::default() }).unwrap();
        let mut subscriber = Subscriber::connect(broker.plain_port(), "alerts/#").unwrap();
        let file = |name: &str| broker.file(name).display().to_string();
        let tls =
            json!({ "ca": file("ca.pem"), "cert": file("client.pem"), "key": file("client.key") });
        let folder = tempfile::tempdir().unwrap();
        let config = sink_config(&broker.url(), version, json!({ "qos": 0, "tls": tls }));
        let mut sink = opened(folder.path(), "mqtt", config, 1);
        commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false)])]);
        assert_eq!(told(&mut subscriber).0, "alerts/p1/x");
    }
}

#[test]
fn what_cannot_be_published_to_is_found_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let found = |more: Value| {
        let config = sink_config("mqtt://broker.example", "5", more);
        match planned_kind(folder.path(), "mqtt", config) {
            Ok(planned) => planned.notes,
            Err(found) => found.iter().map(ToString::to_string).collect(),
        }
    };
    assert!(found(json!({ "topic": "alerts/+/{machine}" }))[0].contains("wildcards"));
    assert!(found(json!({ "topic": "alerts/{machin}" }))[0].contains("topic: the stream has no"));
    assert!(found(json!({ "topic": "" }))[0].contains("not a topic"));
    assert!(found(json!({ "qos": 2 }))[0].contains("qos: 2 is not 0 or 1"));
    assert!(found(json!({ "url": "mqtt://me:canary@b" })).iter().all(|e| !e.contains("canary")));
    let notes = found(json!({ "username": "u", "password": "canary", "qos": 0 }));
    assert!(notes.iter().any(|n| n.contains("plain text")), "{notes:?}");
    assert!(notes[0].starts_with("at least once"), "{notes:?}");
    assert!(!format!("{notes:?}").contains("canary"));
}
