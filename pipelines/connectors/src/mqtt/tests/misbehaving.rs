//! Brokers and devices that send what they should not: dead letters and named errors, no loop and no panic.

use foreline_servers::fake_broker::{FakeBroker, publish as packet_of};

use super::*;

fn fake(script: &[Vec<u8>]) -> FakeBroker {
    FakeBroker::start(script.concat()).unwrap()
}

/// Where connections are counted, none may be lost to a machine that is busy for a second.
fn patient() -> Value {
    json!({ "keep_alive": "60s" })
}

#[test]
fn a_storm_of_redeliveries_and_an_unknown_release() {
    let again = |id, n: &str| packet_of(b"plant/P-1/n", id, true, n.as_bytes());
    let mut script: Vec<Vec<u8>> =
        (0..200).map(|i| again(i % 5 + 1, &(i % 5).to_string())).collect();
    script.insert(100, vec![0x62, 2, 0, 99]);
    script.push(packet_of(b"plant/P-1/n", 6, false, b"6"));
    let broker = fake(&script);
    let mut rig = Rig::open(config(&broker.url(), "3.1.1", patient()));
    rig.until("the last one", |rig| rig.numbers().contains(&6));
    assert_eq!(rig.numbers(), [0, 1, 2, 3, 4, 6]);
    rig.until("its acknowledgement", |_| broker.acknowledged().contains(&6));
    assert_eq!(broker.connections(), 1, "none of it is worth a new connection");
}

#[test]
fn redelivery_in_another_order_is_taken_as_it_comes() {
    let message =
        |id: u16, is_dup| packet_of(b"plant/P-1/n", id, is_dup, id.to_string().as_bytes());
    let first = (1..=5).map(|id| message(id, false));
    let again = [4, 2, 5, 1, 3].map(|id| message(id, true));
    let broker = fake(&first.chain(again).chain([message(6, false)]).collect::<Vec<_>>());
    let mut rig = Rig::open(config(&broker.url(), "3.1.1", patient()));
    rig.acknowledges = false;
    rig.until("all of it", |rig| rig.rows.len() == 11);
    let order: Vec<i64> = rig.rows.iter().map(|(_, n)| *n).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 4, 2, 5, 1, 3, 6]);
    rig.acknowledge();
    rig.until("acknowledgements", |_| broker.acknowledged().len() == 6);
    assert_eq!(broker.acknowledged(), [4, 2, 5, 1, 3, 6], "one each, after the last of its id");
    assert_eq!(broker.connections(), 1);
}

#[test]
fn acknowledgements_are_in_the_order_of_arrival() {
    let script: Vec<Vec<u8>> =
        (1..=50).map(|i| packet_of(b"plant/P-1/n", 51 - i, false, b"1")).collect();
    let broker = fake(&script);
    let mut rig = Rig::open(config(&broker.url(), "3.1.1", patient()));
    rig.acknowledges = false;
    rig.until("all", |rig| rig.rows.len() == 50);
    assert_eq!(broker.acknowledged(), Vec::<u16>::new());
    rig.acknowledge();
    rig.until("acknowledgements", |_| broker.acknowledged().len() == 50);
    assert_eq!(broker.acknowledged(), (1..=50).rev().collect::<Vec<u16>>());
}

#[test]
fn a_broken_packet_is_tried_a_few_times() {
    for broken in [
        vec![0x3e, 3, 0, 1, b'a'],
        packet_of(b"plant/\xff\xfe/n", 1, false, b"1"),
        vec![0x20, 2, 0, 0],
        vec![0x32, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ] {
        let broker = fake(std::slice::from_ref(&broken));
        let error = Rig::open(config(&broker.url(), "3.1.1", patient())).until_error();
        assert!(error.contains("does not keep to the protocol"), "{broken:?}: {error}");
        assert_eq!(broker.connections(), 5, "{broken:?}");
    }
}

#[test]
fn a_packet_beyond_the_limit_ends_with_its_name() {
    let large = packet_of(b"plant/P-1/n", 1, false, &vec![b' '; 200_000]);
    let broker = fake(&[large]);
    let small = json!({ "max_packet_bytes": 150_000, "max_message_bytes": 1000 });
    let error = Rig::open(config(&broker.url(), "3.1.1", small)).until_error();
    assert!(error.contains("raise `max_packet_bytes`"), "{error}");
}

#[test]
fn a_message_of_ten_megabytes_is_a_dead_letter() {
    for version in VERSIONS {
        let broker = Mosquitto::start(Setup::default()).unwrap();
        let mut rig = Rig::subscribed(config(&broker.url(), version, json!({})));
        let mut publisher = Publisher::connect(broker.plain_port(), None).unwrap();
        publisher.publish("plant/P-1/n", &vec![b'7'; 10 << 20]).unwrap();
        publisher.publish("plant/P-1/n", b"{\"n\": 1, \"n\": 2}").unwrap();
        publisher.publish("plant/P-1/n", b"\xff").unwrap();
        publisher.publish("plant/P-1/n", b"8").unwrap();
        publisher.settle().unwrap();
        rig.until("the good one", |rig| rig.numbers() == [8]);
        assert_eq!(
            rig.dead,
            [
                "row_too_long: the message has 10485760 bytes, and 1048576 are the limit (see `max_message_bytes`)",
                "bad_value: member 'n' is there twice",
                "bad_encoding: the text is not valid UTF-8 at byte 0",
            ]
        );
        assert_eq!(rig.source.counts().connections, 1);
    }
}
