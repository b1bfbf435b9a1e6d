//! What TimescaleDB adds, on a stand-in for it, or on the real one where `FORELINE_TIMESCALE_URL` names a database.
//!
//! The stand-in has the functions and the view that the sink uses, and keeps what they were called with. What only the
//! real one has (compression, the statement that creates an aggregate) is looked at as text, and tried on the real one.

use super::*;

/// The part of TimescaleDB that PostgreSQL can be taught.
const STAND_IN: &str = r#"
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    values (99001, 'timescaledb', 10, 'public'::regnamespace, false, '2.26.4');
create schema timescaledb_information;
create table timescaledb_information.hypertables
    (hypertable_schema name, hypertable_name name, num_dimensions int default 1, compression_enabled bool default false);
create table calls (call text);
create type dimension as (col name, length text);
create function by_range(col name, length interval) returns dimension language sql as $$ select col, length::text $$;
create function by_range(col name, length bigint) returns dimension language sql as $$ select col, length::text $$;
create function create_hypertable(t regclass, d dimension, if_not_exists bool default false, migrate_data bool default false)
    returns record language plpgsql as $$
declare r record;
begin
    if not exists (select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
                   where i.indrelid = t and i.indisunique and a.attname = (d).col) then
        raise exception 'cannot create a unique index without the column "%" (used in partitioning)', (d).col using errcode = 'TS103';
    end if;
    insert into calls values (format('create_hypertable %s by %s every %s', t, (d).col, (d).length));
    insert into timescaledb_information.hypertables (hypertable_schema, hypertable_name)
        select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = t;
    select 1, true into r;
    return r;
end $$;
create function add_retention_policy(t regclass, age interval, if_not_exists bool default false) returns int
    language sql as $$ insert into calls values (format('add_retention_policy %s %s', t, age)); select 1 $$;
create procedure refresh_continuous_aggregate(v regclass, f timestamptz, u timestamptz)
    language plpgsql as $$ begin insert into calls values (format('refresh %s %s %s', v, f, u)); commit; end $$;
"#;

fn timescale(url: &str, config: Value) -> Box<dyn Sink> {
    (planned(url, config, &schema(), Extension::WhereThere).unwrap().make)().unwrap()
}

fn calls(db: &Postgres) -> Vec<String> {
    db.sql("select call from calls").unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_hypertable_is_made_with_what_belongs_to_it() {
    let db = Postgres::start().unwrap();
    db.sql(STAND_IN).unwrap();
    // The statement that creates an aggregate is not PostgreSQL's; the view is there already.
    db.sql("create view rul_hourly as select 1 as bucket").unwrap();
    let config = json!({
        "retention": "36500d",
        "aggregates": { "hourly": { "every": "1h", "columns": { "v": ["avg"] } } },
    });
    let mut sink = timescale(&db.url(), config.clone());
    assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), None);
    assert_eq!(
        calls(&db),
        ["create_hypertable rul by window_end every 1 day", "add_retention_policy rul 36500 days"]
    );
    commit(&mut *sink, 1, &[batch(&[("a", 10, Some(1.0)), ("a", 7_200, Some(2.0))])]);
    assert_eq!(calls(&db).len(), 2, "rows that are new are left to the policy");
    let corrected =
        revised(batch(&[("a", 10, Some(1.5)), ("a", 7_200, None)]), &[1, 1], &[false, true]);
    commit(&mut *sink, 2, &[corrected]);
    assert_eq!(rows(&db), ["a 10 1.5"]);
    assert_eq!(calls(&db)[2], "refresh rul_hourly 2026-03-01 00:00:00+00 2026-03-01 03:00:00+00");
    let mut next = timescale(&db.url(), config);
    assert_eq!(next.open(RunId(2), 1, &schema()).unwrap(), Some(2));
}

#[test]
fn a_table_that_is_no_hypertable_is_told_how_to_become_one() {
    let db = Postgres::start().unwrap();
    drop(opened(&db, json!({})));
    db.sql(STAND_IN).unwrap();
    let error = timescale(&db.url(), json!({})).open(RunId(2), 1, &schema()).unwrap_err();
    let mend = "SELECT create_hypertable('\"public\".\"rul\"', by_range('window_end', interval '1 day'), if_not_exists => true, migrate_data => true)";
    assert!(said(&error).contains(mend), "{error}");
    db.sql(mend).unwrap();
    assert_eq!(timescale(&db.url(), json!({})).open(RunId(2), 1, &schema()).unwrap(), None);
}

#[test]
fn without_the_extension_the_table_is_partitioned() {
    let db = Postgres::start().unwrap();
    let mut sink = timescale(&db.url(), json!({ "compress_after": "7d" }));
    sink.open(RunId(1), 1, &schema()).unwrap();
    commit(&mut *sink, 1, &[batch(&[("a", 10, Some(1.0))])]);
    assert_eq!(db.sql("select count(*) from rul_p20260301").unwrap(), "1");
}

#[test]
fn the_sql_is_what_a_person_would_write() {
    let config = json!({
        "compress_after": "7d",
        "retention": "90d",
        "aggregates": { "hourly": { "every": "1h", "columns": { "v": ["avg", "max"] } } },
    });
    let plan =
        planned("postgresql://db.example/plant", config, &schema(), Extension::WhereThere).unwrap();
    let golden = include_str!("hypertable.sql");
    let sql = plan.sql.unwrap();
    assert_eq!(sql, golden, "{sql}");
    assert_eq!(plan.place, "table \"public\".\"rul\" of postgresql://db.example:5432/plant");
}

#[test]
fn the_real_extension_takes_rows_corrections_and_policies() {
    let Ok(url) = std::env::var("FORELINE_TIMESCALE_URL") else {
        eprintln!("SKIPPED: FORELINE_TIMESCALE_URL names no database with TimescaleDB");
        return;
    };
    let config = json!({
        "table": format!("foreline_test_{}", std::process::id()),
        "compress_after": "7d",
        "retention": "3650d",
        "aggregates": { "hourly": { "every": "1h", "columns": { "v": ["avg"] } } },
    });
    let mut sink = timescale(&url, config.clone());
    let run = RunId(u64::from(std::process::id()));
    sink.open(run, run.0, &schema()).unwrap();
    let many: Vec<_> = (0..5_000).map(|i| ("a", i * 60, Some(i as f64))).collect();
    commit(&mut *sink, 1, &[batch(&many)]);
    commit(&mut *sink, 2, &[revised(batch(&many), &[1; 5_000], &[false; 5_000])]);
    let again: Result<Option<u64>, SinkError> = timescale(&url, config).open(run, run.0, &schema());
    assert_eq!(again.unwrap(), Some(2));
    assert_eq!(left_out(&*sink, "same_key"), 0);
}
