//! Brokers that restart and networks that fail: nothing that the broker has acknowledged is missing afterwards.

use foreline_servers::proxy::Proxy;

use super::*;

/// Publishes numbers as long as something else is done.
fn behind(proxy: &Proxy, version: &str) -> Value {
    config(&format!("mqtt://127.0.0.1:{}", proxy.port()), version, json!({}))
}

#[test]
fn a_broker_that_remembers_restarts_without_a_gap() {
    for version in VERSIONS {
        let setup = Setup { persists: true, is_wide: true, ..Setup::default() };
        let mut broker = Mosquitto::start(setup).unwrap();
        let mut rig = Rig::subscribed(config(&broker.url(), version, json!({})));
        publish(&broker, 0..50);
        rig.until("the first part", |rig| rig.numbers().len() == 50);
        broker.stop().unwrap();
        broker.restart().unwrap();
        publish(&broker, 50..100);
        rig.until("both parts", |rig| rig.numbers().len() == 100);
        let counts = rig.source.counts();
        assert!(counts.connections >= 2 && counts.gaps == 0, "{counts:?}");
    }
}

#[test]
fn a_broker_that_forgets_is_subscribed_to_again_and_the_gap_is_said() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start(Setup::default()).unwrap();
        let mut rig = Rig::subscribed(config(&broker.url(), version, json!({})));
        broker.kill();
        broker.restart().unwrap();
        rig.until("a new subscription", |rig| rig.source.counts().subscriptions == 2);
        assert_eq!(rig.source.counts().gaps, 1);
        publish(&broker, 0..10);
        rig.until("what came after", |rig| rig.numbers().len() == 10);
    }
}

#[test]
fn a_connection_is_cut_in_the_middle_of_messages() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup { is_wide: true, ..Setup::default() }).unwrap();
        let proxy = Proxy::before(broker.port()).unwrap();
        let mut rig = Rig::subscribed(behind(&proxy, version));
        for part in 0..4 {
            proxy.cut_after(1000 + 37 * u64::try_from(part).unwrap());
            publish(&broker, part * 200..(part + 1) * 200);
            rig.until("the part", |rig| rig.numbers().len() as i64 == (part + 1) * 200);
        }
        let counts = rig.source.counts();
        assert!(counts.connections >= 4 && counts.gaps == 0, "{counts:?}");
    }
}

#[test]
fn a_half_open_connection_is_noticed() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup { is_wide: true, ..Setup::default() }).unwrap();
        let proxy = Proxy::before(broker.port()).unwrap();
        let mut rig = Rig::subscribed(behind(&proxy, version));
        proxy.stall();
        publish(&broker, 0..50);
        rig.until("another try", |_| proxy.connections() > 1);
        proxy.go_on();
        rig.until("everything", |rig| rig.numbers().len() == 50);
    }
}

#[test]
fn thirty_seconds_of_silence_are_noticed_and_lose_nothing() {
    const SILENCE: Duration = Duration::from_secs(30);
    let broker = Mosquitto::start(Setup { is_wide: true, ..Setup::default() }).unwrap();
    let proxies = VERSIONS.map(|_| Proxy::before(broker.port()).unwrap());
    let mut rigs = [0, 1].map(|i| {
        let mut config = behind(&proxies[i], VERSIONS[i]);
        config["client_id"] = json!(format!("foreline-test-{i}"));
        config["keep_alive"] = json!("10s");
        Rig::subscribed(config)
    });
    proxies.iter().for_each(Proxy::stall);
    let begun = Instant::now();
    publish(&broker, 0..50);
    while begun.elapsed() < SILENCE {
        rigs.iter_mut().for_each(Rig::poll);
    }
    // Within two keep-alives it is noticed; then somebody tries again.
    assert!(proxies.iter().all(|p| p.connections() > 1));
    proxies.iter().for_each(Proxy::go_on);
    for rig in &mut rigs {
        rig.until("everything", |rig| rig.numbers().len() == 50);
        assert_eq!(rig.source.counts().gaps, 0);
    }
}

#[test]
fn a_broker_that_stands_still_for_a_while_is_waited_for() {
    let broker = Mosquitto::start(Setup::default()).unwrap();
    let mut rig = Rig::subscribed(config(&broker.url(), "5", json!({ "keep_alive": "60s" })));
    broker.pause().unwrap();
    for _ in 0..100 {
        rig.poll();
    }
    broker.resume().unwrap();
    publish(&broker, 0..10);
    rig.until("everything", |rig| rig.numbers().len() == 10);
    assert_eq!(rig.source.counts().connections, 1);
}

#[test]
fn two_clients_with_one_id_end_with_its_name() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let config = || config(&broker.url(), version, json!({}));
        let mut rigs = [Rig::subscribed(config()), Rig::open(config())];
        let begun = Instant::now();
        while rigs.iter().all(|rig| rig.error.is_none()) {
            assert!(begun.elapsed() < PATIENCE, "they throw each other out for ever");
            rigs.iter_mut().for_each(Rig::poll);
        }
        let error = rigs.iter().find_map(|rig| rig.error.clone()).unwrap();
        // Version 3.1.1 has no word for it.
        assert!(error.contains("uses the client id 'foreline-test'"), "{error}");
    }
}

#[test]
fn a_full_queue_leaves_messages_with_the_broker() {
    let broker = Mosquitto::start(Setup { is_wide: true, ..Setup::default() }).unwrap();
    let small = json!({ "queue_bytes": 400_000, "max_packet_bytes": 400_000, "max_message_bytes": 100_000 });
    let mut rig = Rig::subscribed(config(&broker.url(), "5", small));
    let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
    for n in 0..40 {
        let payload = format!("{n}{}", " ".repeat(30_000));
        publisher.publish("plant/P-1/n", payload.as_bytes()).unwrap();
    }
    publisher.settle().unwrap();
    // Nobody polls meanwhile, so that the queue must fill up.
    let begun = Instant::now();
    while rig.source.counts().overflows == 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "the queue takes everything: {:?}",
            rig.source.counts()
        );
        pause();
    }
    rig.until("everything", |rig| rig.numbers().len() == 40);
}
