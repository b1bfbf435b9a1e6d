//! One connection for all tables of a database.

use super::*;

const CONNECTIONS: &str =
    "select count(*) from pg_stat_activity where application_name = 'foreline'";

/// A sink of [`schema`] into a table of its own.
fn into_table(db: &Postgres, table: &str) -> Box<dyn Sink> {
    let schema = schema();
    let config: TableConfig = parse_config(&json!({ "url": db.url(), "table": table })).unwrap();
    let inputs = SinkInputs { pipeline: "pump", sink: "warehouse", stream: table, schema: &schema };
    (plan(&config, &inputs, &Nothing, Extension::Never).unwrap().make)().unwrap()
}

fn count(db: &Postgres, table: &str) -> String {
    db.sql(&format!("select count(*) from {table}")).unwrap()
}

#[test]
fn many_tables_take_one_connection() {
    let db = Postgres::start().unwrap();
    let names: Vec<String> = (0..12).map(|n| format!("table_{n}")).collect();
    let mut sinks: Vec<_> = names.iter().map(|name| into_table(&db, name)).collect();
    for sink in &mut sinks {
        assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), None);
    }
    for epoch in 1..4 {
        let seconds = i64::try_from(epoch).unwrap();
        for sink in &mut sinks {
            commit(&mut **sink, epoch, &[batch(&[("a", seconds, Some(1.0))])]);
        }
    }
    assert_eq!(db.sql(CONNECTIONS).unwrap(), "1");
    assert!(names.iter().all(|name| count(&db, name) == "3"));
    drop(sinks);
    faults::until(&db, CONNECTIONS, "0");
}

#[test]
fn a_connection_that_breaks_under_one_table_does_no_harm_to_the_next() {
    let db = Postgres::start().unwrap();
    let [mut one, mut two] = ["one", "two"].map(|name| into_table(&db, name));
    for sink in [&mut one, &mut two] {
        sink.open(RunId(1), 1, &schema()).unwrap();
        commit(&mut **sink, 1, &[batch(&[("a", 1, Some(1.0))])]);
    }
    db.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'foreline'")
        .unwrap();
    let rows = [batch(&[("a", 2, Some(2.0))])];
    one.write(2, &rows).unwrap();
    assert!(matches!(one.commit(2), Err(SinkError::Retry(_))));
    // The other is still open: it goes on over a new connection, with a staging table of its own.
    commit(&mut *two, 2, &rows);
    assert_eq!(one.open(RunId(1), 1, &schema()).unwrap(), Some(1));
    commit(&mut *one, 2, &rows);
    assert_eq!((count(&db, "one"), count(&db, "two")), ("2".to_owned(), "2".to_owned()));
}
