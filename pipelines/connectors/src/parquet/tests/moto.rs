//! The sink against a second store, which another has written.

use foreline_servers::{Fault, FaultyWay, Moto, Rule};
use serde_json::json;

use super::bucket::{bucket_sink, objects};
use super::*;
use crate::objects::ObjectError;
use crate::parquet::bucket::Bucket;

const MANIFEST: &str = "out/rul/_manifest.json";

fn manifest(moto: &Moto) -> Manifest {
    Manifest::parse(&moto.get("lake", MANIFEST).unwrap()).unwrap()
}

#[test]
fn a_second_store_honours_the_conditions_that_fence() {
    let Some(moto) = Moto::start(&["lake"]).unwrap() else { return };
    let objects = objects(moto.port(), "30s");
    let text = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    let one = objects.put_over("out/rul/x", text("1"), None).unwrap();
    let refused = objects.put_over("out/rul/x", text("2"), None);
    assert!(matches!(refused, Err(ObjectError::Changed(_))), "{refused:?}");
    let two = objects.put_over("out/rul/x", text("3"), Some(&one)).unwrap();
    let refused = objects.put_over("out/rul/x", text("4"), Some(&one));
    assert!(matches!(refused, Err(ObjectError::Changed(_))), "{refused:?}");
    assert_eq!(objects.get_whole("out/rul/x").unwrap().unwrap(), (text("3"), two));
    let large = vec![7; 17 << 20];
    objects.put("out/rul/large", large.clone().into()).unwrap();
    assert!(moto.get("lake", "out/rul/large").unwrap() == large, "in two parts");
    assert_eq!(objects.get_whole("out/rul/none").unwrap(), None);
    objects.delete("out/rul/none").unwrap();
}

#[test]
fn two_runs_on_a_second_store() {
    let Some(moto) = Moto::start(&["lake"]).unwrap() else { return };
    let way = FaultyWay::start(moto.port()).unwrap();
    let said = Bucket::new(objects(moto.port(), "30s")).probe().unwrap();
    assert!(said.ends_with("honours conditions and has 0 objects"), "{said}");
    let mut old = bucket_sink(way.port(), json!({}));
    assert_eq!(old.open(RUN, 1, &schema()).unwrap(), None);
    old.write(1, &[batch(&[("a", 1, 0.5)])]).unwrap();
    let (contains, fault) = ("_manifest.json".to_owned(), Fault::LoseAnswer);
    way.rule(Rule { method: "PUT", contains, fault, after: 0, times: 1 });
    assert_eq!(old.commit(1).unwrap(), Committed::Yes(1), "what is there settles it");

    let mut new = bucket_sink(moto.port(), json!({}));
    assert_eq!(new.open(RunId(2), 1, &schema()).unwrap(), Some(1));
    new.write(2, &[batch(&[("a", 2, 1.5)])]).unwrap();
    new.commit(2).unwrap();
    old.write(2, &[batch(&[("a", 2, 9.5), ("a", 3, 9.5)])]).unwrap();
    assert!(matches!(old.commit(2), Err(SinkError::Fenced(RunId(2)))));
    let names: Vec<String> = manifest(&moto).files.into_iter().map(|f| f.name).collect();
    let expected = ["part-00000001-00000001-r1.parquet", "part-00000002-00000002-r2.parquet"];
    assert_eq!(names, expected);
    let left = "out/rul/part-00000002-00000002-r1.parquet";
    assert!(moto.get("lake", left).is_ok(), "the older run has put it");
    assert_eq!(new.open(RunId(3), 1, &schema()).unwrap(), Some(2));
    assert!(moto.get("lake", left).is_err(), "the next run removes it");
    for name in expected {
        let bytes = moto.get("lake", &format!("out/rul/{name}")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.build().unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>(), 1);
    }
}
