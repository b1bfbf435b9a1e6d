//! The sink over a real S3 server: the same promises, with a network on which things go wrong.

use foreline_servers::{ACCESS_KEY, Fault, FaultyWay, Rule, S3Server, SECRET_KEY};
use serde_json::{Value, json};

use super::*;
use crate::objects::{Connection, Objects, Place};
use crate::parquet::bucket::Bucket;

pub(super) fn bucket_sink(port: u16, config: Value) -> ParquetSink {
    sink_with(port, config, "30s")
}

/// A sink whose requests may take so long.
fn sink_with(port: u16, mut config: Value, timeout: &str) -> ParquetSink {
    config["path"] = json!("s3://lake/out");
    let config: ParquetConfig = parse_config(&config).unwrap();
    assert_eq!(mistakes(&config), []);
    ParquetSink::new(Box::new(Bucket::new(objects(port, timeout))), "rul", config)
}

pub(super) fn objects(port: u16, timeout: &str) -> Objects {
    let connection = json!({
        "endpoint": format!("http://127.0.0.1:{port}"), "allow_http": true, "timeout": timeout,
        "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
    });
    let connection: Connection = parse_config(&connection).unwrap();
    let place = Place::parse("s3://lake/out/rul").unwrap();
    Objects::open(&place, &connection).unwrap()
}

fn server() -> S3Server {
    S3Server::start(&["lake"]).unwrap()
}

/// The Parquet objects that the manifest lists.
fn listed(server: &S3Server) -> Vec<String> {
    let text = fs::read(server.file("lake", "out/rul/_manifest.json")).unwrap();
    Manifest::parse(&text).unwrap().files.into_iter().map(|f| f.name).collect()
}

/// The Parquet objects there, and how many rows the listed ones have together.
fn there(server: &S3Server) -> (Vec<String>, usize) {
    let keys = server.keys("lake").unwrap();
    let names = keys.iter().filter_map(|k| k.strip_prefix("out/rul/"));
    let names = names.filter(|n| n.ends_with(".parquet")).map(str::to_owned).collect();
    let n_rows = |name: &String| {
        let file = File::open(server.file("lake", &format!("out/rul/{name}"))).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        reader.build().unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>()
    };
    (names, listed(server).iter().map(n_rows).sum())
}

fn rule(method: &'static str, contains: &str, fault: Fault, times: usize) -> Rule {
    Rule { method, contains: contains.to_owned(), fault, after: 0, times }
}

#[test]
fn rows_appear_with_the_manifest() {
    let server = server();
    let mut sink = bucket_sink(server.port(), json!({}));
    assert_eq!(sink.open(RUN, 1, &schema()).unwrap(), None);
    sink.write(1, &[batch(&[("b", 2, 0.5), ("a", 9, 2.5)])]).unwrap();
    assert_eq!(there(&server).1, 0);
    assert_eq!(sink.commit(3).unwrap(), Committed::Yes(3));
    assert_eq!(there(&server), (vec!["part-00000001-00000003-r1.parquet".to_owned()], 2));
    assert_eq!(sink.open(RunId(2), 1, &schema()).unwrap(), Some(3));
}

#[test]
fn a_probe_tries_the_conditions_and_leaves_nothing() {
    let server = server();
    let probe = || Bucket::new(objects(server.port(), "30s")).probe().unwrap();
    assert!(probe().ends_with("honours conditions and has 0 objects"), "{}", probe());
    bucket_sink(server.port(), json!({})).open(RUN, 1, &schema()).unwrap();
    assert!(probe().ends_with("has 2 objects"), "{}", probe());
}

#[test]
fn a_manifest_that_somebody_removes_ends_the_run() {
    let server = server();
    let mut sink = bucket_sink(server.port(), json!({}));
    sink.open(RUN, 1, &schema()).unwrap();
    fs::remove_file(server.file("lake", "out/rul/_manifest.json")).unwrap();
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    let error = sink.commit(1).unwrap_err();
    assert!(matches!(&error, SinkError::Fatal(_)), "{error}");
}

#[test]
fn an_older_run_is_fenced_by_the_manifest() {
    let server = server();
    let mut old = bucket_sink(server.port(), json!({}));
    old.open(RUN, 1, &schema()).unwrap();
    old.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    old.commit(1).unwrap();
    let mut new = bucket_sink(server.port(), json!({}));
    assert_eq!(new.open(RunId(2), 1, &schema()).unwrap(), Some(1));
    new.write(2, &[batch(&[("a", 2, 1.5)])]).unwrap();
    new.commit(2).unwrap();
    old.write(2, &[batch(&[("a", 2, 9.5), ("a", 3, 9.5)])]).unwrap();
    assert!(matches!(old.commit(2), Err(SinkError::Fenced(RunId(2)))));
    assert!(matches!(old.open(RUN, 1, &schema()), Err(SinkError::Fenced(RunId(2)))));
    assert_eq!(there(&server).1, 2, "what the older run has put does not count");
    assert_eq!(there(&server).0.len(), 3);
    assert_eq!(new.open(RunId(3), 1, &schema()).unwrap(), Some(2));
    assert_eq!(there(&server).0, listed(&server), "and is removed by the next run");
}

#[test]
fn two_runs_of_the_same_number_do_not_both_commit() {
    let server = server();
    let mut one = bucket_sink(server.port(), json!({}));
    one.open(RUN, 1, &schema()).unwrap();
    let mut other = bucket_sink(server.port(), json!({}));
    other.open(RUN, 1, &schema()).unwrap();
    other.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    other.commit(1).unwrap();
    one.write(1, &[batch(&[("z", 1, 0.5)])]).unwrap();
    assert!(one.commit(1).is_err());
}

#[test]
fn a_lost_answer_is_settled_by_what_is_there() {
    let server = server();
    let way = FaultyWay::start(server.port()).unwrap();
    let mut sink = bucket_sink(way.port(), json!({}));
    way.rule(rule("PUT", "_manifest.json", Fault::LoseAnswer, 1));
    sink.open(RUN, 1, &schema()).unwrap();
    for epoch in 1..=6 {
        way.rule(rule("PUT", "_manifest.json", Fault::LoseAnswer, 1));
        way.rule(rule("PUT", ".parquet", Fault::Status(500), 1));
        sink.write(epoch, &[batch(&[("a", i64::try_from(epoch).unwrap(), 0.5)])]).unwrap();
        assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch));
    }
    assert_eq!(there(&server).1, 6);
    assert_eq!(there(&server).0, listed(&server));
}

#[test]
fn an_answer_that_stays_unknown_is_asked_for_when_the_sink_is_opened_again() {
    let server = server();
    let way = FaultyWay::start(server.port()).unwrap();
    let mut sink = bucket_sink(way.port(), json!({}));
    sink.open(RUN, 1, &schema()).unwrap();
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    way.rule(rule("PUT", "_manifest.json", Fault::LoseAnswer, 1));
    way.rule(rule("GET", "_manifest.json", Fault::Status(403), 1));
    assert_eq!(sink.commit(1).unwrap(), Committed::Unknown);
    way.heal();
    assert_eq!(sink.open(RunId(2), 1, &schema()).unwrap(), Some(1), "it had been taken");
    assert_eq!(there(&server).1, 1);
}

#[test]
fn a_file_that_may_not_be_put_is_an_error_and_shows_nothing() {
    let server = server();
    let way = FaultyWay::start(server.port()).unwrap();
    let mut sink = bucket_sink(way.port(), json!({}));
    sink.open(RUN, 1, &schema()).unwrap();
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    way.rule(rule("PUT", ".parquet", Fault::Status(403), 1));
    assert!(
        matches!(sink.commit(1), Err(SinkError::Fatal(_))),
        "no permission is no matter of time"
    );
    assert_eq!(there(&server), (Vec::new(), 0));
}

#[test]
fn rows_of_an_earlier_generation_in_a_bucket() {
    let server = server();
    let mut sink = bucket_sink(server.port(), json!({}));
    sink.open(RUN, 1, &schema()).unwrap();
    sink.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    sink.commit(1).unwrap();
    let refused = bucket_sink(server.port(), json!({})).open(RunId(2), 2, &schema()).unwrap_err();
    assert!(refused.to_string().contains("already has 1 rows of an earlier run"), "{refused}");
    let mut again = bucket_sink(server.port(), json!({ "if_exists": "replace" }));
    assert_eq!(again.open(RunId(2), 2, &schema()).unwrap(), None);
    assert_eq!(there(&server), (Vec::new(), 0));
}

#[test]
fn mistakes_in_a_bucket() {
    let at = |config: Value| -> Vec<String> {
        let config: ParquetConfig = parse_config(&config).unwrap();
        mistakes(&config).into_iter().map(|e| e.at).collect()
    };
    assert_eq!(at(json!({ "path": "s3://" })), ["path"]);
    assert_eq!(at(json!({ "path": "lake", "s3": {} })), ["s3"]);
    let endpoint = json!({ "endpoint": "http://minio:9000" });
    assert_eq!(at(json!({ "path": "s3://lake/x", "s3": endpoint })), ["s3.endpoint"]);
}

#[test]
fn a_store_that_stalls_and_breaks_off_is_written_to_all_the_same() {
    let server = server();
    let way = FaultyWay::start(server.port()).unwrap();
    let mut sink = sink_with(way.port(), json!({}), "2s");
    sink.open(RUN, 1, &schema()).unwrap();
    let troubles = [Fault::Stall, Fault::Truncate(0), Fault::LoseAnswer, Fault::Status(503)];
    for (epoch, trouble) in (1..).zip(troubles) {
        way.rule(rule("PUT", ".parquet", trouble, 1));
        way.rule(rule("PUT", "_manifest.json", trouble, 1));
        way.rule(rule("GET", "_manifest.json", Fault::Truncate(40), 1));
        sink.write(epoch, &[batch(&[("a", i64::try_from(epoch).unwrap(), 0.5)])]).unwrap();
        assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch), "{trouble:?}");
        way.heal();
    }
    assert_eq!(there(&server).1, troubles.len());
    assert_eq!(there(&server).0, listed(&server));
}

#[test]
fn a_large_file_goes_up_in_parts_and_is_there_whole_or_not_at_all() {
    let server = server();
    let way = FaultyWay::start(server.port()).unwrap();
    let objects = objects(way.port(), "30s");
    let bytes: Vec<u8> = (0..(33_u32 << 20)).map(|i| (i / 7).to_le_bytes()[0]).collect();
    way.rule(rule("PUT", "partNumber=2", Fault::Status(500), 1));
    objects.put("out/rul/large", bytes.clone().into()).unwrap();
    assert!(fs::read(server.file("lake", "out/rul/large")).unwrap() == bytes);
    assert_eq!(way.asked("partNumber").len(), 4, "three parts, one of them twice");

    way.rule(rule("PUT", "partNumber=3", Fault::Status(403), 1));
    objects.put("out/rul/refused", bytes.into()).unwrap_err();
    assert!(!server.file("lake", "out/rul/refused").exists());
    assert_eq!(
        way.requests().iter().filter(|l| l.starts_with("DELETE")).count(),
        1,
        "no parts stay"
    );
}
