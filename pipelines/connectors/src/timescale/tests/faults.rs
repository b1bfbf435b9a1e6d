//! A database that goes away, is slow, or is not what it was. The letters are those of the fault matrix.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

/// Gives up what takes a second, so that nothing here takes long.
fn brief() -> Value {
    json!({ "timeout": "2s" })
}

fn is_retry(error: &SinkError, about: &str) {
    assert!(matches!(error, SinkError::Retry(_)) && said(error).contains(about), "{error:?}");
}

fn is_fatal(error: &SinkError, about: &str) {
    assert!(matches!(error, SinkError::Fatal(_)) && said(error).contains(about), "{error:?}");
}

/// The same rows once more, on a sink that is opened again.
fn again(sink: &mut dyn Sink, has: Option<u64>, epoch: u64, rows: &[Batch]) {
    assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), has);
    if has.is_none_or(|has| has < epoch) {
        commit(sink, epoch, rows);
    }
}

/// Waits until a query answers something.
pub(super) fn until(db: &Postgres, query: &str, answer: &str) {
    for _ in 0..3_000 {
        if db.sql(query).is_ok_and(|found| found == answer) {
            return;
        }
        let (_open, never) = std::sync::mpsc::channel::<()>();
        never.recv_timeout(Duration::from_millis(10)).ok();
    }
    panic!("'{query}' never answers '{answer}'");
}

#[test]
fn d1_a_restart_loses_nothing() {
    let mut db = Postgres::start().unwrap();
    let mut sink = opened(&db, brief());
    let (one, two) = ([batch(&[("a", 1, Some(1.0))])], [batch(&[("a", 2, Some(2.0))])]);
    commit(&mut *sink, 1, &one);
    sink.write(2, &two).unwrap();
    db.stop().unwrap();
    is_retry(&sink.commit(2).unwrap_err(), "");
    is_retry(&sink.open(RunId(1), 1, &schema()).unwrap_err(), "connect to postgresql://127.0.0.1");
    db.start_again().unwrap();
    again(&mut *sink, Some(1), 2, &two);
    assert_eq!(rows(&db), ["a 1 1", "a 2 2"]);
}

#[test]
fn d1_a_backend_that_is_ended_while_it_writes_or_commits() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, json!({}));
    let one = [batch(&[("a", 1, Some(1.0))])];
    // Everybody who writes waits for a lock that is held here; with `deferred` not before COMMIT.
    db.sql(
        "create function wait() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(1); return null; end $$",
    )
    .unwrap();
    for deferred in ["immediate", "deferred"] {
        db.sql(&format!(
            "create constraint trigger wait after insert on rul deferrable initially {deferred}
             for each row execute function wait()"
        ))
        .unwrap();
        sink.open(RunId(1), 1, &schema()).unwrap();
        let mut holder = db.psql(&db.url());
        holder.args(["-c", "select pg_advisory_lock(1)", "-c", "select pg_sleep(600)"]);
        let mut holder = holder.stdout(Stdio::null()).spawn().unwrap();
        until(&db, "select count(*) from pg_locks where locktype = 'advisory' and granted", "1");
        let outcome = std::thread::scope(|scope| {
            sink.write(1, &one).unwrap();
            let committing = scope.spawn(|| sink.commit(1));
            until(
                &db,
                "select count(*) from pg_locks where locktype = 'advisory' and not granted",
                "1",
            );
            assert_eq!(db.terminate("foreline").unwrap(), 1);
            committing.join().unwrap()
        });
        match deferred {
            "immediate" => is_retry(&outcome.unwrap_err(), "57P01"),
            _ => assert_eq!(outcome.unwrap(), Committed::Unknown),
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
        db.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()").unwrap();
        db.sql("drop trigger wait on rul").unwrap();
    }
    again(&mut *sink, None, 1, &one);
    assert_eq!(rows(&db), ["a 1 1"]);
}

/// Stands between client and server, and cuts the line when it has passed `word` on: before, or after, the server has
/// done what was asked, which shows in its answer.
struct Cutter {
    port: u16,
    armed: Arc<AtomicBool>,
}

impl Cutter {
    fn before(db: &Postgres, word: &'static [u8], answered: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), db.port());
        let armed = Arc::new(AtomicBool::new(false));
        let trap = Arc::clone(&armed);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                pass(&client.unwrap(), &server, word, answered, &trap);
            }
        });
        Cutter { port, armed }
    }
}

fn pass(
    client: &TcpStream,
    server: &TcpStream,
    word: &'static [u8],
    answered: bool,
    trap: &Arc<AtomicBool>,
) {
    let sprung = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (trap, seen) = (Arc::clone(trap), Arc::clone(&sprung));
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            let found = bytes[..n].windows(word.len()).any(|w| w == word);
            if found && trap.swap(false, Ordering::AcqRel) {
                seen.store(true, Ordering::Release);
                if !answered {
                    break;
                }
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            if sprung.load(Ordering::Acquire) || to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
}

#[test]
fn d1_a_line_that_is_cut_in_a_copy_or_around_a_commit() {
    let one = [batch(&[("a", 1, Some(1.0))])];
    let cases: [(&[u8], bool, Option<u64>); 3] =
        [(b"PGCOPY", false, None), (b"COMMIT", false, None), (b"COMMIT", true, Some(1))];
    for (word, answered, has) in cases {
        let db = Postgres::start().unwrap();
        let cutter = Cutter::before(&db, word, answered);
        let url = db.url().replace(&format!(":{}", db.port()), &format!(":{}", cutter.port));
        let mut sink = sink_at(&url, json!({}));
        assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), None);
        sink.write(1, &one).unwrap();
        cutter.armed.store(true, Ordering::Release);
        match (word, sink.commit(1)) {
            (b"COMMIT", outcome) => assert_eq!(outcome.unwrap(), Committed::Unknown),
            (_, outcome) => is_retry(&outcome.unwrap_err(), "copy rows"),
        }
        again(&mut *sink, has, 1, &one);
        assert_eq!(rows(&db), ["a 1 1"], "{word:?} {answered}");
    }
}

#[test]
fn d3_a_lock_that_is_held_and_a_server_that_stands_still() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, brief());
    let one = [batch(&[("a", 1, Some(1.0))])];
    let mut holder = db.psql(&db.url());
    holder.args(["-c", "begin; lock table rul; select pg_sleep(600)"]);
    let mut holder = holder.stdout(Stdio::null()).spawn().unwrap();
    until(
        &db,
        "select count(*) from pg_locks where relation = 'rul'::regclass and mode = 'AccessExclusiveLock'",
        "1",
    );
    sink.write(1, &one).unwrap();
    is_retry(&sink.commit(1).unwrap_err(), "55P03");
    db.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%lock table rul%' and pid <> pg_backend_pid()").unwrap();
    holder.wait().unwrap();
    again(&mut *sink, None, 1, &one);
    db.pause().unwrap();
    sink.write(2, &one).unwrap();
    is_retry(&sink.commit(2).unwrap_err(), "does not answer after 2s");
    is_retry(&sink.open(RunId(1), 1, &schema()).unwrap_err(), "");
    db.go_on().unwrap();
    until(&db, "select 1", "1");
    assert!(sink.open(RunId(1), 1, &schema()).unwrap().is_some());
    assert_eq!(rows(&db), ["a 1 1"]);
}

#[test]
fn d4_what_passes_is_told_from_what_does_not() {
    let db = Postgres::start().unwrap();
    let mut sink = opened(&db, json!({}));
    let one = [batch(&[("a", 1, Some(1.0))])];
    for state in ["40001", "40P01"] {
        db.sql(&format!(
            "create or replace function fail() returns trigger language plpgsql as
             $$ begin raise exception 'as a test has it' using errcode = '{state}'; end $$;
             create trigger fail before insert on rul for each row execute function fail()"
        ))
        .unwrap();
        sink.write(1, &one).unwrap();
        is_retry(&sink.commit(1).unwrap_err(), state);
        db.sql("drop trigger fail on rul").unwrap();
        assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), None);
    }
    commit(&mut *sink, 1, &one);
    // A column of another type would take the rows, changed; it is found before they are committed.
    db.sql("alter table rul alter v type text using v::text").unwrap();
    sink.write(2, &one).unwrap();
    is_retry(&sink.commit(2).unwrap_err(), "has other columns");
    let error = sink.open(RunId(1), 1, &schema()).unwrap_err();
    is_fatal(
        &error,
        "column 'v' is text, not double precision: ALTER TABLE \"public\".\"rul\" ALTER COLUMN \"v\"",
    );
    db.sql("alter table rul alter v type double precision using v::double precision").unwrap();
    assert_eq!(sink.open(RunId(1), 1, &schema()).unwrap(), Some(1));
    db.sql("drop table rul").unwrap();
    sink.write(2, &one).unwrap();
    is_fatal(&sink.commit(2).unwrap_err(), "42P01");
    is_fatal(
        &sink.open(RunId(1), 1, &schema()).unwrap_err(),
        "is gone, and with it the rows up to epoch 1",
    );
}

#[test]
fn d4_a_user_needs_no_more_than_the_tables() {
    let db = Postgres::start().unwrap();
    drop(opened(&db, json!({})));
    db.sql(
        "create user writer password 'canary-7c02-of-the-database';
         grant select, insert, update, delete on rul, foreline_commit to writer",
    )
    .unwrap();
    let mut sink = sink_at(&db.url_of("writer", foreline_servers::PASSWORD, "postgres"), json!({}));
    assert_eq!(sink.open(RunId(2), 1, &schema()).unwrap(), None);
    commit(&mut *sink, 1, &[batch(&[("a", 1, Some(1.0))])]);
    db.sql("revoke insert on rul from writer").unwrap();
    sink.write(2, &[batch(&[("a", 2, Some(1.0))])]).unwrap();
    is_fatal(&sink.commit(2).unwrap_err(), "permission denied for table rul (SQLSTATE 42501)");
}

#[test]
fn nobody_gets_in_with_a_wrong_password_and_nobody_reads_it() {
    let db = Postgres::start().unwrap();
    let error = |url: &str| sink_at(url, json!({})).open(RunId(1), 1, &schema()).unwrap_err();
    let wrong = db.url().replace(foreline_servers::PASSWORD, "canary-of-a-wrong-one");
    let refused = error(&wrong);
    is_fatal(&refused, "SQLSTATE 28P01");
    assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    is_fatal(&error(&db.url_of("foreline", foreline_servers::PASSWORD, "elsewhere")), "3D000");
    is_fatal(&error(&format!("{}?sslmode=require", db.url())), "TLS");
    db.sql("create database old encoding 'SQL_ASCII' template template0").unwrap();
    is_fatal(&error(&db.url_of("foreline", foreline_servers::PASSWORD, "old")), "SQL_ASCII");
}

#[test]
fn all_differences_are_told_at_once() {
    let db = Postgres::start().unwrap();
    db.sql(
        "create table rul (machine varchar(9), window_end timestamp, _revision integer, must text not null);
         create table foreline_commit (pipeline text)",
    )
    .unwrap();
    let mut sink = sink(&db, json!({ "partition": "1d" }));
    is_fatal(&sink.open(RunId(1), 1, &schema()).unwrap_err(), "there is no column 'epoch'");
    db.sql("drop table foreline_commit").unwrap();
    let error = sink.open(RunId(1), 1, &schema()).unwrap_err();
    for part in [
        "column 'machine' is character varying(9), not text",
        "column 'window_end' is timestamp without time zone, not timestamp with time zone",
        "there is no column 'v': ALTER TABLE \"public\".\"rul\" ADD COLUMN \"v\" double precision",
        "there is no column '_generation'",
        "column 'must' wants a value",
        "ADD PRIMARY KEY (\"machine\", \"window_end\")",
        "it is not partitioned by 'window_end'",
    ] {
        is_fatal(&error, part);
    }
    assert_eq!(db.sql("select count(*) from foreline_commit").unwrap_or_default(), "");
}
