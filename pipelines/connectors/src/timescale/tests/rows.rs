//! What becomes of rows: written once, corrected, deleted, counted.

use foreline_engine::{DeadLetter, Reason, dead_letter_schema, dead_letters_to_batch};

use super::*;

#[test]
fn rows_and_epoch_are_there_together() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, json!({}));
    sink.write(3, &[batch(&[("a", 10, Some(0.5)), ("b", 10, None)])]).unwrap();
    assert!(rows(&db).is_empty());
    assert_eq!(sink.commit(4).unwrap(), Committed::Yes(4));
    assert_eq!(rows(&db), ["a 10 0.5", "b 10 "]);
    let state = "select pipeline, sink, stream, epoch, run_id, generation, committed_at is not null from foreline_commit";
    assert_eq!(db.sql(state).unwrap(), "pump|warehouse|rul|4|1|1|t");
    // An epoch without rows is an epoch all the same, and one that is there is not written again.
    assert_eq!(sink.commit(5).unwrap(), Committed::Yes(5));
    assert_eq!(sink.commit(5).unwrap(), Committed::Yes(5));
    // The next run goes on, the older one is out.
    let mut next = super::sink(&db, json!({}));
    assert_eq!(next.open(RunId(2), 1, &schema()).unwrap(), Some(5));
    sink.write(6, &[batch(&[("c", 1, None)])]).unwrap();
    assert!(matches!(sink.commit(6), Err(SinkError::Fenced(RunId(2)))));
    assert!(matches!(sink.open(RunId(1), 1, &schema()), Err(SinkError::Fenced(RunId(2)))));
    commit(&mut *next, 6, &[batch(&[("c", 1, Some(1.0))])]);
    assert_eq!(rows(&db), ["a 10 0.5", "b 10 ", "c 1 1"]);
    // A computation that begins anew takes the place of what was there.
    let mut anew = super::sink(&db, json!({}));
    assert_eq!(anew.open(RunId(3), 3, &schema()).unwrap(), None);
    commit(&mut *anew, 1, &[batch(&[("a", 10, Some(7.0))])]);
    assert_eq!(rows(&db), ["a 10 7", "b 10 ", "c 1 1"]);
}

#[test]
fn corrections_replace_and_deletions_remove() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, json!({}));
    let first = batch(&[("a", 1, Some(1.0)), ("a", 2, Some(2.0)), ("a", 3, Some(3.0))]);
    // In one commit: a row, its first correction and its second; a row that comes and goes.
    let once = revised(batch(&[("a", 1, Some(1.5)), ("a", 3, None)]), &[1, 1], &[false, true]);
    let twice = revised(batch(&[("a", 1, Some(1.75))]), &[2], &[false]);
    commit(&mut *sink, 1, &[first, once, twice]);
    assert_eq!(rows(&db), ["a 1 1.75", "a 2 2"]);
    // Between commits: one is corrected, one vanishes, one comes back.
    let more = revised(
        batch(&[("a", 2, Some(2.5)), ("a", 1, None), ("a", 3, Some(3.5))]),
        &[1, 3, 2],
        &[false, true, false],
    );
    commit(&mut *sink, 2, &[more]);
    assert_eq!(rows(&db), ["a 2 2.5", "a 3 3.5"]);
    // What is older than what is there changes nothing.
    let older = revised(batch(&[("a", 2, Some(9.0)), ("a", 3, None)]), &[0, 1], &[false, true]);
    commit(&mut *sink, 3, &[older]);
    assert_eq!(rows(&db), ["a 2 2.5", "a 3 3.5"]);
    assert_eq!(left_out(&*sink, "same_key"), 1);
}

/// Of two rows with one key the first stays, whether a commit is between them or not.
#[test]
fn rows_with_one_key_are_counted_and_no_cut_shows() {
    let (one, two) =
        (nanos(&[("a", START + 300, Some(1.0))]), nanos(&[("a", START + 900, Some(2.0))]));
    for apart in [false, true] {
        let db = Postgres::start().unwrap();
        let mut sink = opened(&db, json!({}));
        if apart {
            commit(&mut *sink, 1, std::slice::from_ref(&one));
            commit(&mut *sink, 2, std::slice::from_ref(&two));
        } else {
            commit(&mut *sink, 2, &[one.clone(), two.clone()]);
        }
        assert_eq!(rows(&db), ["a 0 1"]);
        assert_eq!(left_out(&*sink, "same_key"), 1);
    }
}

#[test]
fn what_the_database_would_refuse_is_left_out_and_the_rest_goes_on() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, json!({ "partition": "1d" }));
    let long = "x".repeat(5_000);
    let strange = [("a\0b", 1, Some(f64::MAX)), (&long, 1, None), ("c'\"\\", 1, Some(-0.0))];
    commit(&mut *sink, 1, &[batch(&strange)]);
    assert_eq!(db.sql("select machine from rul order by 1").unwrap(), "a\u{fffd}b\nc'\"\\");
    assert_eq!((left_out(&*sink, "key_too_long"), left_out(&*sink, "nul_replaced")), (1, 1));
}

#[test]
fn readings_keep_their_position_and_dead_letters_their_number() {
    let db = Postgres::start().unwrap();
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("window_end", stamp),
        Column::new("v", DataType::Float64).with_unit(Some(foreline_engine::Unit::new("mm/s"))),
    ];
    let readings = Schema::new(columns, &["machine"], "window_end").unwrap();
    let mut sink =
        (planned(&db.url(), json!({}), &readings, Extension::Never).unwrap().make)().unwrap();
    sink.open(RunId(1), 1, &readings).unwrap();
    commit(&mut *sink, 1, &[batch(&[("a", 1, Some(1.0)), ("a", 1, Some(2.0))])]);
    assert_eq!(db.sql("select v, _position from rul order by 2").unwrap(), "1|1\n2|2");
    assert_eq!(db.sql("select col_description('rul'::regclass, 3)").unwrap(), "mm/s");

    db.sql("delete from foreline_commit").unwrap();
    let letters = dead_letter_schema();
    let config = json!({ "table": "dead", "key": ["machine"], "partition": "1d" });
    let letter = planned(&db.url(), config, &letters, Extension::WhereThere).unwrap();
    assert!(letter.notes.iter().any(|n| n.contains("numbered")), "{:?}", letter.notes);
    let mut sink = (letter.make)().unwrap();
    sink.open(RunId(1), 1, &letters).unwrap();
    let letter = |detail: &str| DeadLetter {
        operator: "readings".into(),
        original: Some(b"1,\xff".to_vec()),
        ..DeadLetter::new(Reason::BAD_VALUE, detail)
    };
    let rows =
        dead_letters_to_batch(&[letter("one"), letter("one")], &|_| Some(("f.csv".to_owned(), 7)));
    commit(&mut *sink, 5, &[rows]);
    assert_eq!(
        db.sql("select _epoch, _row, operator, reason, event_time is null, file, line, original from dead order by 2").unwrap(),
        "5|0|readings|bad_value|t|f.csv|7|\\x312cff\n5|1|readings|bad_value|t|f.csv|7|\\x312cff"
    );
}

/// Days before the start that lie behind every retention.
const LONG_AGO: i64 = 4_000;

#[test]
fn partitions_come_ahead_of_rows_and_go_with_their_age() {
    let db = Postgres::start().unwrap();
    let days = |sink: &mut dyn Sink, epoch, days: &[i64]| {
        let rows: Vec<_> =
            days.iter().map(|d| ("a", (d - LONG_AGO) * 86_400, Some(*d as f64))).collect();
        commit(sink, epoch, &[batch(&rows)]);
    };
    let partitions = || {
        db.sql("select c.relname from pg_inherits join pg_class c on c.oid = inhrelid where relkind = 'r' order by 1")
            .unwrap()
    };
    let mut sink = opened(&db, json!({ "partition": "1d" }));
    days(&mut *sink, 1, &[0, 1]);
    days(&mut *sink, 2, &[1, 31]);
    assert_eq!(partitions(), "rul_p20150319\nrul_p20150320\nrul_p20150419");
    assert_eq!(left_out(&*sink, "same_key"), 1);
    // Somebody removed one; its rows find another.
    db.sql("drop table rul_p20150320").unwrap();
    days(&mut *sink, 3, &[1]);
    assert_eq!(db.sql("select v from rul order by 1").unwrap(), "0\n1\n31");
    drop(sink);
    // By the clock of the database all of it is older than a month, but for what comes now.
    let now: i64 = db.sql("select extract(epoch from now())::bigint").unwrap().parse().unwrap();
    let today = (now - START / SECOND) / 86_400 + LONG_AGO;
    let mut sink = super::sink(&db, json!({ "partition": "1d", "retention": "30d" }));
    sink.open(RunId(2), 1, &schema()).unwrap();
    days(&mut *sink, 4, &[0, 2, today]);
    assert_eq!(partitions().lines().count(), 1);
    assert_eq!((rows(&db).len(), left_out(&*sink, "beyond_retention")), (1, 2));
    assert_eq!(left_out(&*sink, "same_key"), 0);
}
