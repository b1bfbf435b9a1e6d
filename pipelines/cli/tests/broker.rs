//! The real command reading a real broker: killed at random instants and at every named place, and told to stop.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::PathBuf;
use std::time::Duration;

use foreline_tests::torture::Options;
use foreline_tests::torture::broker::torture_broker;

#[test]
fn what_a_broker_has_acknowledged_is_there_once_after_forty_deaths() {
    let outcome = torture_broker(&Options {
        command: PathBuf::from(env!("CARGO_BIN_EXE_foreline")),
        kills: 40,
        time: Duration::ZERO,
        rows: 6_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 40 && outcome.acknowledged == 6_000, "{outcome:?}");
    assert_eq!((outcome.lost, outcome.duplicated), (0, 0), "{outcome:?}");
}
