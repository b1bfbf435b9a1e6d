//! The source against a second store, which another has written.

use foreline_servers::{FaultyWay, Moto, PAGE_MAX};

use super::*;

#[test]
fn pages_ranges_and_etags_of_a_second_store() {
    let Some(moto) = Moto::start(&["plant"]).unwrap() else { return };
    let n_small = 3 * PAGE_MAX as u64 + 5;
    for i in 0..n_small {
        moto.put("plant", &format!("data/{i:04}.csv"), csv("A", i..i + 1).as_bytes()).unwrap();
    }
    moto.put("plant", "data/line%20one/z.csv", csv("Z", 0..300_000).as_bytes()).unwrap();
    let way = FaultyWay::start(moto.port()).unwrap();
    let got = all(&mut *open(way.port(), &json!({}))).unwrap();
    assert_eq!((got.rows.len() as u64, got.n_dead), (n_small + 300_000, 0));
    assert_eq!(got.known.last().unwrap().name, "s3://plant/data/line one/z.csv");
    assert_eq!(way.asked("continuation-token").len(), 3, "pages behind the first");
    let ranges = way.asked("z.csv");
    assert!(ranges.len() > 2 && ranges.iter().all(|a| a.from.is_some()), "{ranges:?}");

    // A second run knows what the first has read, reads its ranges again, and finds nothing new.
    let mut second = open(way.port(), &json!({}));
    second.resume(&got.known).unwrap();
    for chunk in &got.chunks {
        assert!(second.read(chunk.partition, chunk.range).unwrap().payload == chunk.payload);
    }
    assert_eq!(all(&mut *second).unwrap().rows, Vec::<String>::new());

    // What was overwritten is not what was read.
    moto.put("plant", "data/0000.csv", csv("B", 0..1).as_bytes()).unwrap();
    let mut third = open(way.port(), &json!({}));
    third.resume(&got.known).unwrap();
    let error = third.read(got.chunks[0].partition, got.chunks[0].range).unwrap_err();
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
}

#[test]
fn a_second_store_is_watched() {
    let Some(moto) = Moto::start(&["plant"]).unwrap() else { return };
    moto.put("plant", "data/m.csv", csv("M", 0..2).as_bytes()).unwrap();
    let mut source = open(moto.port(), &json!({ "poll": "100ms", "on_change": "reprocess" }));
    let mut got = Got::default();
    got.until(&mut *source, 2).unwrap();
    moto.put("plant", "data/a.csv", csv("L", 0..1).as_bytes()).unwrap();
    got.until(&mut *source, 3).unwrap();
    moto.put("plant", "data/m.csv", csv("N", 5..6).as_bytes()).unwrap();
    got.until(&mut *source, 4).unwrap();
    assert_eq!(got.rows, ["M 0 0.5", "M 1 1.5", "L 0 0.5", "N 5 5.5"]);
}
