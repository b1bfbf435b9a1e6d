//! The source over a network on which things go wrong, each sort of trouble by itself.

use foreline_servers::{Asked, Fault, FaultyWay, Rule};

use super::*;
use crate::s3::source::S3Source;

/// The shortest pause before a request is made again, less what clocks may differ.
const PAUSE: Duration = Duration::from_millis(90);

fn rule(contains: &str, fault: Fault, after: usize, times: usize) -> Rule {
    Rule { method: "GET", contains: contains.to_owned(), fault, after, times }
}

/// A server of small objects, one row each, and the way to it.
fn many(n: u64) -> (S3Server, FaultyWay) {
    let server = server(&[]);
    for i in 0..n {
        server.put("plant", &format!("data/{i:04}.csv"), csv("A", i..i + 1).as_bytes()).unwrap();
    }
    let way = FaultyWay::start(server.port()).unwrap();
    (server, way)
}

/// A source that gives a request up soon, so that what is behind the client's own tries shows.
fn hurried(port: u16, options: &Value) -> S3Source {
    let config = config(port, options).unwrap();
    let mut plan = with_columns(options, |inputs| config.plan(inputs, &Nowhere)).unwrap();
    plan.connection = plan.connection.hurried();
    S3Source::open(&Arc::new(plan)).unwrap()
}

/// Whether every cycle from 0 on is there once, in order.
fn is_whole(rows: &[String], n: u64) -> bool {
    let cycles = rows.iter().map(|r| r.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
    cycles.eq(0..n)
}

/// The time between requests.
fn pauses(asked: &[Asked]) -> Vec<Duration> {
    asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn a_request_that_is_refused_for_now_is_made_again_after_a_pause() {
    for status in [500, 503, 429] {
        let server = server(&[("a.csv", &csv("A", 0..10))]);
        let way = FaultyWay::start(server.port()).unwrap();
        way.rule(rule("a.csv", Fault::Status(status), 0, 5));
        let got = all(&mut *open(way.port(), &json!({}))).unwrap();
        assert!(is_whole(&got.rows, 10), "{status}: {:?}", got.rows);
        let asked = way.asked("a.csv");
        assert_eq!(asked.len(), 6, "{status}: five in vain and one that is answered");
        assert!(pauses(&asked).iter().all(|p| *p >= PAUSE), "{status}: {:?}", pauses(&asked));
    }
}

#[test]
fn a_request_that_is_refused_for_good_is_not_made_again() {
    let server = server(&[("a.csv", &csv("A", 0..10))]);
    let way = FaultyWay::start(server.port()).unwrap();
    way.rule(rule("a.csv", Fault::Status(403), 0, 99));
    let error = all(&mut *open(way.port(), &json!({ "poll": "100ms" }))).unwrap_err().to_string();
    assert!(error.contains("cannot read 's3://plant/data/a.csv'"), "{error}");
    assert!(error.contains("403") && !error.contains("canary"), "{error}");
    assert_eq!(way.asked("a.csv").len(), 1);
}

#[test]
fn a_request_without_an_answer_is_made_again_after_its_time_limit() {
    let server = server(&[("a.csv", &csv("A", 0..10))]);
    let way = FaultyWay::start(server.port()).unwrap();
    way.rule(rule("list-type", Fault::Stall, 0, 1));
    way.rule(rule("a.csv", Fault::Stall, 0, 2));
    let got = all(&mut *open(way.port(), &json!({ "timeout": "2s" }))).unwrap();
    assert!(is_whole(&got.rows, 10), "{:?}", got.rows);
    let asked = way.asked("a.csv");
    assert_eq!(asked.len(), 3);
    assert!(pauses(&asked).iter().all(|p| *p >= Duration::from_secs(2)), "{:?}", pauses(&asked));
}

#[test]
fn a_body_that_breaks_off_goes_on_from_where_it_broke() {
    let server = server(&[("a.csv", &csv("A", 0..200_000)), ("b.csv", &csv("B", 0..10))]);
    let way = FaultyWay::start(server.port()).unwrap();
    way.rule(rule("a.csv", Fault::Truncate(1_000_000), 0, 2));
    way.rule(rule("b.csv", Fault::Truncate(5), 0, 1));
    let got = all(&mut *open(way.port(), &json!({ "parallel": 1 }))).unwrap();
    assert_eq!((got.rows.len(), got.n_dead), (200_010, 0));
    assert!(is_whole(&got.rows[..200_000], 200_000) && is_whole(&got.rows[200_000..], 10));
    let from: Vec<u64> = way.asked("a.csv").iter().filter_map(|a| a.from).take(3).collect();
    assert_eq!(from, [0, 1_000_000, 2_000_000], "nothing is fetched twice");
}

#[test]
fn all_sorts_of_trouble_at_once() {
    let (server, way) = many(120);
    server.put("plant", "data/z.csv", csv("Z", 120..200_000).as_bytes()).unwrap();
    way.by_chance(11, 6);
    let got = all(&mut *open(way.port(), &json!({ "parallel": 4, "timeout": "3s" }))).unwrap();
    assert!(is_whole(&got.rows, 200_000) && got.n_dead == 0, "{} rows", got.rows.len());
    assert!(way.n_faults() >= 10, "{}", way.n_faults());
}

#[test]
fn a_page_that_fails_is_asked_for_again_and_shows_nothing_twice() {
    let (_server, way) = many(2_200);
    way.rule(rule("continuation-token", Fault::Status(503), 0, 2));
    way.rule(rule("continuation-token", Fault::Truncate(3_000), 0, 1));
    way.rule(rule("continuation-token", Fault::LoseAnswer, 1, 1));
    let got = all(&mut *open(way.port(), &json!({ "parallel": 16 }))).unwrap();
    assert!(is_whole(&got.rows, 2_200), "{} rows", got.rows.len());
    assert_eq!(got.known.len(), 2_200);
    assert_eq!(way.asked("continuation-token").len(), 6, "two further pages and four in vain");
}

#[test]
fn a_page_that_cannot_be_had_is_an_error_that_shows_nothing_of_the_others() {
    let (_server, way) = many(1_500);
    way.rule(rule("continuation-token", Fault::Status(400), 0, 1));
    let mut source = open(way.port(), &json!({}));
    let mut got = Got::default();
    let error = got.until(&mut *source, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("cannot list 's3://plant/data'"), "{error}");
    assert!(!error.contains("canary") && got.rows.is_empty(), "{error}");
    assert_eq!(all(&mut *open(way.port(), &json!({}))).unwrap().rows.len(), 1_500);
}

#[test]
fn a_watching_source_lists_again_from_the_first_page_with_growing_pauses() {
    let (_server, way) = many(1_500);
    // A hurried client asks twice before it says that it had no success.
    way.rule(rule("continuation-token", Fault::Status(503), 0, 6));
    let mut source = hurried(way.port(), &json!({ "poll": "100ms" }));
    let mut got = Got::default();
    got.until(&mut source, 1_500).unwrap();
    assert!(is_whole(&got.rows, 1_500), "{} rows", got.rows.len());
    let first = |a: &Asked| !a.line.contains("continuation-token");
    let begun: Vec<Asked> = way.asked("list-type").into_iter().filter(first).collect();
    let pauses = pauses(&begun);
    assert!(pauses.len() >= 3, "{pauses:?}");
    for (pause, seconds) in pauses.iter().zip([1, 2, 4]) {
        assert!(*pause >= Duration::from_secs(seconds), "{pauses:?}");
    }
}

#[test]
fn a_watching_source_outlives_an_outage_in_the_middle_of_an_object() {
    let server = server(&[("a.csv", &csv("A", 0..400_000))]);
    let way = FaultyWay::start(server.port()).unwrap();
    way.rule(rule("a.csv", Fault::Status(503), 1, 6));
    let mut source = hurried(way.port(), &json!({ "poll": "100ms", "parallel": 1 }));
    let mut got = Got::default();
    got.until(&mut source, 400_000).unwrap();
    assert!(is_whole(&got.rows, 400_000) && got.n_dead == 0, "{} rows", got.rows.len());
    let pauses = pauses(&way.asked("a.csv"));
    assert!(pauses.iter().any(|p| *p >= Duration::from_secs(4)), "{pauses:?}");
}

#[test]
fn a_source_that_reads_once_fails_when_the_store_is_away_for_long() {
    let server = server(&[("a.csv", &csv("A", 0..10))]);
    let way = FaultyWay::start(server.port()).unwrap();
    way.rule(rule("a.csv", Fault::Status(503), 0, 99));
    let error = all(&mut hurried(way.port(), &json!({}))).unwrap_err().to_string();
    assert!(error.contains("cannot read 's3://plant/data/a.csv'"), "{error}");
}

#[test]
fn a_watching_source_outlives_an_outage() {
    let server = server(&[("a.csv", &csv("A", 0..2))]);
    let way = FaultyWay::start(server.port()).unwrap();
    let mut source = open(way.port(), &json!({ "poll": "100ms" }));
    let mut got = Got::default();
    got.until(&mut *source, 2).unwrap();
    let (contains, fault) = (String::new(), Fault::Status(503));
    way.rule(Rule { method: "GET", contains, fault, after: 0, times: 6 });
    server.put("plant", "data/b.csv", csv("B", 0..2).as_bytes()).unwrap();
    got.until(&mut *source, 4).unwrap();
    assert_eq!(got.rows[2..], ["B 0 0.5", "B 1 1.5"]);
}

#[test]
fn a_bucket_that_is_not_there_is_an_error_at_once() {
    let server = server(&[]);
    let options = json!({ "url": "s3://nowhere/data/", "poll": "100ms" });
    let error = all(&mut *open(server.port(), &options)).unwrap_err().to_string();
    assert!(error.contains("NoSuchBucket"), "{error}");
}
