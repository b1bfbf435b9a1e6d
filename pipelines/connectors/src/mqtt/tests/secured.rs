//! TLS, client certificates and passwords.

use super::*;

fn files(broker: &Mosquitto, ca: &str, who: &str) -> Value {
    let file = |name: &str| broker.file(name).display().to_string();
    json!({ "tls": { "ca": file(ca), "cert": file(&format!("{who}.pem")), "key": file(&format!("{who}.key")) } })
}

#[test]
fn a_certificate_opens_the_connection() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup { has_tls: true, ..Setup::default() }).unwrap();
        let tls = files(&broker, "ca.pem", "client");
        let mut rig = Rig::subscribed(config(&broker.url(), version, tls));
        publish(&broker, 0..10);
        rig.until("everything", |rig| rig.numbers().len() == 10);
    }
}

#[test]
fn a_broker_that_nobody_vouches_for_is_not_spoken_to() {
    let broker = Mosquitto::start(Setup { has_tls: true, ..Setup::default() }).unwrap();
    let tls = files(&broker, "stranger.pem", "client");
    let error = Rig::open(config(&broker.url(), "5", tls)).until_error();
    assert!(error.contains("look at `tls`") && error.contains("certificate"), "{error}");
}

#[test]
fn certificates_that_are_not_there_are_named() {
    let config = config("mqtts://127.0.0.1:1", "5", json!({ "tls": { "ca": "/no/such/ca.pem" } }));
    let error = MqttSource::open(&Arc::new(plan(config).unwrap())).unwrap_err().to_string();
    assert!(error.contains("'/no/such/ca.pem' cannot be read"), "{error}");
}

#[test]
fn a_password_opens_the_connection_and_is_never_told() {
    const PASSWORD: &str = "canary-77ab";
    for version in VERSIONS {
        let credentials = Some(("plant".to_owned(), PASSWORD.to_owned()));
        let broker = Mosquitto::start(Setup { credentials, ..Setup::default() }).unwrap();
        let with = |password: &str| {
            config(&broker.url(), version, json!({ "username": "plant", "password": password }))
        };
        let mut rig = Rig::subscribed(with(PASSWORD));
        let port = broker.plain_port();
        let mut publisher = Publisher::connect(port, Some(("plant", PASSWORD))).unwrap();
        publisher.publish("plant/P-1/n", b"7").unwrap();
        publisher.settle().unwrap();
        rig.until("the message", |rig| rig.numbers() == [7]);
        assert!(!format!("{:?}", rig.source).contains(PASSWORD));
        drop(rig);
        let error = Rig::open(with("wrong-77ab")).until_error();
        assert!(error.contains("refuses the connection"), "{error}");
        assert!(!error.contains("wrong-77ab"), "{error}");
    }
}
