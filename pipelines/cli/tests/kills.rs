//! The real command, killed at random instants and at every named place: nothing is lost, nothing counts twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::PathBuf;
use std::time::Duration;

use foreline_tests::torture::{Options, torture};

#[test]
fn a_hundred_deaths_leave_no_trace() {
    let outcome = torture(&Options {
        command: PathBuf::from(env!("CARGO_BIN_EXE_foreline")),
        kills: 100,
        time: Duration::ZERO,
        rows: 12_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 100);
    assert_eq!((outcome.lost, outcome.duplicated, outcome.different), (0, 0, 0), "{outcome:?}");
}
