//! Small files become one, old ones go, and no row is any different for it.

use foreline_engine::RunId;
use serde_json::json;

use super::*;
use crate::parquet::sink::Upkeep;

const COMPACT: Upkeep = Upkeep { compact: true, keep: None };

fn kept_up(folder: &Path, upkeep: Upkeep) -> ParquetSink {
    let mut sink = sink(folder, json!({})).with_upkeep(upkeep);
    sink.open(RUN, 1, &schema()).unwrap();
    sink
}

/// Rows and corrections of an epoch: each machine once, and a row of the epoch before corrected or taken back.
fn write(sink: &mut ParquetSink, epoch: u64) {
    let cycle = i64::try_from(epoch).unwrap();
    let new = batch(&[("b", cycle, 0.5), ("a", cycle, 1.5)]);
    let fixed = Batch {
        revision: Some(UInt32Array::from(vec![1])),
        deleted: Some(BooleanArray::from(vec![epoch.is_multiple_of(5)])),
        ..batch(&[("a", cycle - 1, 9.5)])
    };
    sink.write(epoch, &[new, fixed]).unwrap();
    assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch));
}

/// All rows as they stand, sorted.
fn standing(folder: &Path) -> Vec<String> {
    let mut rows = reading::read(folder, "rul");
    rows.sort();
    rows
}

#[test]
fn small_files_become_one_and_no_row_is_any_different() {
    let (folder, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sink = kept_up(folder.path(), COMPACT);
    let mut other = open(plain.path(), json!({}));
    for epoch in 1..=200 {
        write(&mut sink, epoch);
        write(&mut other, epoch);
        let manifest = manifest(folder.path());
        assert!(manifest.files.len() < 48, "{} files at epoch {epoch}", manifest.files.len());
        assert_eq!(manifest.committed, Some(epoch));
    }
    assert_eq!(files(plain.path()).len(), 200);
    assert_eq!(standing(folder.path()), standing(plain.path()));
    // What a glob finds is what the manifest lists, and each file says what is in it.
    let manifest = manifest(folder.path());
    let listed = manifest.files.iter().filter(|f| !f.name.starts_with('_'));
    let mut listed: Vec<_> = listed.map(|f| f.name.clone()).collect();
    listed.sort();
    assert_eq!(files(folder.path()), listed);
    for file in &manifest.files {
        let bytes = fs::read(folder.path().join("rul").join(&file.name)).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let of = rows(folder.path(), &file.name);
        assert_eq!((of.len() as u64, digest), (file.rows, file.sha256.clone()), "{}", file.name);
        assert!(of.is_sorted_by_key(|row| {
            let (machine, rest) = row.split_once(' ').unwrap();
            let cycle: i64 = rest.split(' ').next().unwrap().parse().unwrap();
            (machine.to_owned(), cycle)
        }));
    }
    // It goes on where it was.
    drop(sink);
    let mut again = self::sink(folder.path(), json!({})).with_upkeep(COMPACT);
    assert_eq!(again.open(RunId(2), 1, &schema()).unwrap(), Some(200));
    write(&mut again, 201);
    write(&mut other, 201);
    assert_eq!(standing(folder.path()), standing(plain.path()));
}

#[test]
fn files_go_when_all_their_rows_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = kept_up(folder.path(), Upkeep { compact: false, keep: Some(10) });
    for cycle in 1..=50 {
        let late = if cycle == 42 { 3 } else { cycle };
        sink.write(cycle, &[batch(&[("a", i64::try_from(late).unwrap(), 0.5)])]).unwrap();
        sink.commit(cycle).unwrap();
    }
    let expected: Vec<String> =
        (40..=50).filter(|c| *c != 42).map(|c| format!("a {c} 0.5")).collect();
    assert_eq!(
        all_rows(folder.path()),
        expected,
        "ten behind the newest, and none that came too late"
    );
    // A file that does not say how old it is stays.
    let mut manifest = manifest(folder.path());
    manifest.files[0].latest = None;
    manifest.store(&folder.path().join("rul")).unwrap();
    let mut again = self::sink(folder.path(), json!({})).with_upkeep(sink_upkeep());
    again.open(RunId(2), 1, &schema()).unwrap();
    again.write(51, &[batch(&[("a", 1_000, 0.5)])]).unwrap();
    again.commit(51).unwrap();
    assert_eq!(all_rows(folder.path()), ["a 40 0.5", "a 1000 0.5"]);
}

fn sink_upkeep() -> Upkeep {
    Upkeep { compact: true, keep: Some(10) }
}

#[test]
fn a_damaged_file_stays_as_it_lies_and_rows_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = kept_up(folder.path(), COMPACT);
    for epoch in 1..=7 {
        sink.write(epoch, &[batch(&[("a", 1, 0.5)])]).unwrap();
        sink.commit(epoch).unwrap();
    }
    let damaged = folder.path().join("rul/part-00000003-00000003.parquet");
    fs::write(&damaged, "damage").unwrap();
    for epoch in 8..=20 {
        sink.write(epoch, &[batch(&[("a", 1, 0.5)])]).unwrap();
        assert_eq!(sink.commit(epoch).unwrap(), Committed::Yes(epoch));
    }
    assert_eq!(fs::read(&damaged).unwrap(), b"damage");
    assert!(manifest(folder.path()).lists("part-00000003-00000003.parquet"));
}

#[test]
fn mistakes_of_upkeep() {
    let domain = schema().domain();
    let of = |value: Value| {
        let config: ParquetConfig = parse_config(&value).unwrap();
        crate::parquet::keep(&config, domain)
    };
    assert_eq!(of(json!({ "path": "p", "keep": 10 })), Ok(Some(10)));
    assert_eq!(of(json!({ "path": "p" })), Ok(None));
    let wrong = of(json!({ "path": "p", "keep": "90d" })).unwrap_err();
    assert!(wrong.message.contains("is a duration, but the event time is a count"), "{wrong:?}");
    assert_eq!(of(json!({ "path": "p", "keep": 0 })).unwrap_err().at, "keep");
}
