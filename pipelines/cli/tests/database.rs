//! The real command with a real PostgreSQL behind it, either of which dies, goes away or is taken over: every row is there
//! once, with the bits of a run that was left alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use foreline_servers::{PASSWORD, Postgres};
use foreline_tests::live::{address, ask, start_with, terminate};
use foreline_tests::torture::Options;
use foreline_tests::torture::database::torture_database;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

/// Readings of the input, repeated ones not counted.
const READINGS: u64 = 9_000;
/// Places at which the command ends itself; the first run of a round dies at one of them.
const PLACES: &[&str] = &[
    "before sink commit",
    "copy done",
    "commit sent",
    "commit answered",
    "after sink commit",
    "epoch replayed",
    "snapshot written",
    "journal synced",
];
/// How long anything here may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

const PIPELINE: &str = "version: 1
name: plant
sources:
  readings:
    csv: { path: ../in.csv }
    columns: { ts: timestamp, machine: string, v: float64 }
    key: [machine]
    time: ts
    lateness: 10s
    dedupe: [machine, ts]
steps:
  smooth: { from: readings, ema: { columns: [v], half_life: 5s } }
  counts: { from: smooth, window: { tumbling: 10s, features: { v: [count, mean] } } }
sinks:
  warehouse: { from: [smooth, counts, dead_letters], postgres: { url: '${env:FORELINE_TEST_DB}', commit_rows: 700, timeout: 20s } }
epoch: { rows: 300 }
snapshot: { interval: 30ms, keep: 2 }
";

/// Everything that is in the tables, as one number a table.
const DIGEST: &str = "
select count(*), md5(string_agg(machine || ts || v, ',' order by machine, ts)) from smooth
union all select count(*), md5(string_agg(machine || window_end || v_count || v_mean, ',' order by machine, window_end)) from counts
union all select count(*), md5(string_agg(line || reason, ',' order by line)) from dead_letters";

struct World {
    db: Postgres,
    folder: tempfile::TempDir,
    /// What a run that was left alone leaves in the tables.
    quiet: String,
}

impl World {
    fn new() -> Self {
        let db = Postgres::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut text = "ts,machine,v\n".to_owned();
        for i in 0..READINGS {
            let (machine, second) = (i % 7, i / 7);
            let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
            let line = format!("2026-03-01T{h:02}:{m:02}:{s:02}Z,P-{machine},{}.25\n", i % 89);
            text += &line;
            if i % 50 == 0 {
                text += &line;
            }
            if i % 500 == 0 {
                text += "2026-03-01T00:00:00Z,P-1,much\n";
            }
        }
        fs::write(folder.path().join("in.csv"), text).unwrap();
        let mut world = World { db, folder, quiet: String::new() };
        world.place("quiet");
        let output = world.command("quiet", 2).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        world.quiet = world.digest("quiet");
        assert!(world.quiet.starts_with(&format!("{READINGS}|")), "{}", world.quiet);
        world
    }

    /// A folder and a database of their own.
    fn place(&self, name: &str) {
        self.db.sql(&format!("create database {name}")).unwrap();
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("plant.yaml"), PIPELINE).unwrap();
    }

    /// Creates the tables by hand, as `sink sql` prints them, and has every commit take a while.
    fn slow(&self, name: &str) {
        let file = self.folder.path().join(name).join("plant.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreline"));
        command.args(["sink", "sql"]).arg(file).env("FORELINE_TEST_DB", self.url(name));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let sql = String::from_utf8(output.stdout).unwrap();
        let slow = "create function slow() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.1); return new; end $$;
            create trigger slow before update on foreline_commit for each row execute function slow()";
        self.db.sql_at(&self.url(name), &format!("{sql}{slow}")).unwrap();
    }

    fn url(&self, name: &str) -> String {
        self.db.url_of("foreline", PASSWORD, name)
    }

    fn command(&self, name: &str, workers: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreline"));
        command.args(["run", "--quiet", "--workers", &workers.to_string()]);
        command.arg(self.folder.path().join(name).join("plant.yaml"));
        command.env("FORELINE_TEST_DB", self.url(name)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn digest(&self, name: &str) -> String {
        self.db.sql_at(&self.url(name), DIGEST).unwrap()
    }

    /// How many rows are there, as far as the table is.
    fn rows(&self, name: &str) -> u64 {
        let count = self.db.sql_at(&self.url(name), "select count(*) from smooth");
        count.ok().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[expect(clippy::disallowed_methods, reason = "a test that waits must give up some time")]
fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it takes too long");
        let (_open, never) = std::sync::mpsc::channel::<()>();
        never.recv_timeout(Duration::from_millis(5)).ok();
    }
}

/// Its end, which must be a good one.
fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn k_wherever_the_command_dies_the_tables_are_as_if_it_had_not() {
    let world = World::new();
    let mut deaths = 0;
    for (i, place) in PLACES.iter().enumerate() {
        let name = format!("k{i}");
        world.place(&name);
        // Dies at the place, at the first or a later time; then five times in a row while it recovers.
        for n in [1 + i, 1, 1, 1, 1, 1] {
            let mut command = world.command(&name, 1 + n % 3);
            let output = command.env("FORELINE_CRASH_AT", format!("{place}:{n}")).output().unwrap();
            assert!(output.status.success() || output.status.code().is_none(), "{}", said(&output));
            deaths += u64::from(output.status.code().is_none());
            if output.status.success() {
                break;
            }
        }
        // And at an instant that nobody has chosen.
        let mut child = world.command(&name, 2).spawn().unwrap();
        let before = world.rows(&name);
        until(|| world.rows(&name) > before || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        deaths += u64::from(child.wait().unwrap().code().is_none());
        finish(world.command(&name, 2).spawn().unwrap());
        assert_eq!(world.digest(&name), world.quiet, "{place}");
    }
    println!("{deaths} deaths");
    assert!(deaths >= PLACES.len() as u64 * 2, "only {deaths} deaths");
}

#[test]
fn kd_twenty_deaths_of_the_command_and_troubles_of_the_server_leave_no_trace() {
    let outcome = torture_database(&Options {
        command: COMMAND.into(),
        kills: 20,
        time: Duration::ZERO,
        rows: 3_000,
        seed: 1,
    })
    .unwrap();
    println!("{outcome:?}");
    assert!(outcome.kills >= 20, "{outcome:?}");
    let bad = (outcome.lost, outcome.duplicated, outcome.different);
    assert_eq!(bad, (0, 0, 0), "{outcome:?}");
}

#[test]
fn d_the_command_waits_for_a_database_that_is_away_and_says_so_once() {
    let mut world = World::new();
    // There when it starts, away in between, and once more with every connection cut.
    world.place("away");
    world.slow("away");
    let child = world.command("away", 2).spawn().unwrap();
    until(|| world.rows("away") > 0);
    world.db.stop().unwrap();
    world.db.start_again().unwrap();
    until(|| world.db.terminate("foreline").is_ok());
    let text = finish(child);
    assert_eq!(world.digest("away"), world.quiet, "{text}");
    // Not there when it starts.
    world.place("late");
    world.db.stop().unwrap();
    let child = world.command("late", 2).spawn().unwrap();
    let state = world.folder.path().join("late/.foreline/plant/state.json");
    until(|| state.exists());
    world.db.start_again().unwrap();
    let text = finish(child);
    assert_eq!(world.digest("late"), world.quiet);
    assert!(text.matches("cannot take rows; nothing is lost").count() <= 6, "{text}");
}

/// Rows that are pushed in, and that nobody sends again.
const PUSHED: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { ts: { type: timestamp, format: epoch_ms }, machine: string, v: float64 }
    key: [machine]
    time: ts
sinks:
  warehouse: { from: readings, postgres: { url: '${env:FORELINE_TEST_DB}', key: [machine, ts], timeout: 20s } }
epoch: { interval: 10ms }
serve: { listen: 127.0.0.1:0 }
";

#[test]
fn d2_what_is_pushed_while_the_database_is_away_is_taken_and_gets_there() {
    const ROWS: u64 = 200_000;
    let mut db = Postgres::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.yaml"), PUSHED).unwrap();
    let url = db.url();
    let mut child = start_with(COMMAND, folder.path(), &[("FORELINE_TEST_DB", &url)]);
    until(|| address(folder.path()).is_some_and(|a| ask(a, "GET /readyz", "", b"").is_ok()));
    let mut at = address(folder.path()).unwrap();
    let rows = "POST /api/v1/sources/readings/rows";
    let push = |at, first: u64, end: u64| {
        for first in (first..end).step_by(500) {
            let line =
                |n: u64| format!("{{\"ts\":{},\"machine\":\"P-{}\",\"v\":{n}}}\n", n / 7, n % 7);
            let body: String = (first..first + 500).map(line).collect();
            let head = "content-type: application/x-ndjson\r\n";
            until(|| ask(at, rows, head, body.as_bytes()).is_ok_and(|a| a.status == 200));
        }
    };
    let there = |db: &Postgres| db.sql("select count(*) from readings").unwrap_or_default();
    push(at, 0, 500);
    until(|| there(&db) == "500");
    db.stop().unwrap();
    push(at, 500, ROWS / 2);
    let before = resident_mib(child.id());
    push(at, ROWS / 2, ROWS * 3 / 4);
    let grown = resident_mib(child.id()).saturating_sub(before);
    assert!(grown < 64, "{grown} MiB more for as many rows again");
    // It dies, and what comes while it cannot replay is taken as well.
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(folder.path().join("stderr"), "").unwrap();
    let mut child = start_with(COMMAND, folder.path(), &[("FORELINE_TEST_DB", &url)]);
    until(|| address(folder.path()).is_some());
    at = address(folder.path()).unwrap();
    push(at, ROWS * 3 / 4, ROWS);
    db.start_again().unwrap();
    until(|| there(&db) == ROWS.to_string());
    assert!(terminate(&mut child).success());
    assert_eq!(there(&db), ROWS.to_string());
}

/// Resident memory of a process.
fn resident_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
}

#[test]
fn d5_of_two_engines_one_proceeds_and_the_other_says_by_whom_it_was_fenced() {
    let world = World::new();
    world.place("one");
    // The same pipeline on another machine: its own data directory, the same database.
    fs::create_dir(world.folder.path().join("two")).unwrap();
    fs::copy(
        world.folder.path().join("one/plant.yaml"),
        world.folder.path().join("two/plant.yaml"),
    )
    .unwrap();
    world.slow("one");
    let first = world.command("one", 1).spawn().unwrap();
    until(|| world.rows("one") > 0);
    send("STOP", first.id());
    let second = world.command("two", 1).env("FORELINE_TEST_DB", world.url("one")).spawn().unwrap();
    finish(second);
    send("CONT", first.id());
    let output = first.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fenced by run"), "{text}");
    assert_eq!(world.digest("one"), world.quiet);
}

fn send(signal: &str, process: u32) {
    foreline_servers::signal(signal, process).unwrap();
}

#[test]
fn d4_a_permanent_failure_ends_the_run_with_its_reason() {
    let world = World::new();
    world.place("broken");
    let url = world.url("broken");
    world.db.sql_at(&url, "create table smooth (machine integer)").unwrap();
    let output = world.command("broken", 1).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("column 'machine' is integer, not text: ALTER TABLE"), "{text}");
    assert!(text.contains("there is no column 'v'"), "{text}");
    assert_eq!(world.db.sql_at(&url, "select count(*) from smooth").unwrap(), "0");
}

/// Streams by the names that the dashboards know.
const BOARDS: &str = "version: 1
sources:
  readings:
    csv: { path: in.csv }
    columns: { ts: timestamp, machine: string, vibration: float64 }
    key: [machine]
    time: ts
steps:
  features: { from: readings, window: { tumbling: 1m, features: { vibration: [rms, kurtosis] } } }
  rul: { from: features, derive: { columns: { rul_hours: 'vibration_rms * 10' } } }
sinks:
  warehouse: { from: [features, rul, dead_letters], postgres: { url: '${env:FORELINE_TEST_DB}' } }
";

#[test]
fn the_dashboards_ask_for_what_the_tables_have() {
    let db = Postgres::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("boards.yaml");
    fs::write(&file, BOARDS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreline"));
    command.args(["sink", "sql"]).arg(file).env("FORELINE_TEST_DB", db.url());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let sql = String::from_utf8(output.stdout).unwrap();
    assert!(!sql.contains(PASSWORD), "{sql}");
    db.sql(&sql).unwrap();
    let mut asked = 0;
    for board in ["machines", "pipeline"] {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let path = Path::new(&own).join(format!("../../docs/timescale/{board}.json"));
        let board: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            let query = panel["targets"][0]["rawSql"].as_str().unwrap();
            db.sql(&expanded(query)).unwrap_or_else(|e| panic!("{query}: {e}"));
            asked += 1;
        }
    }
    assert!(asked > 8, "only {asked} panels");
}

/// A query of Grafana with its macros and variables filled in.
fn expanded(query: &str) -> String {
    let mut query = query.replace("$machine", "'P-1'");
    while let Some(at) = query.find("$__") {
        let (open, close) =
            (query[at..].find('(').unwrap() + at, query[at..].find(')').unwrap() + at);
        let column = query[open + 1..close].split(',').next().unwrap().to_owned();
        let with = match &query[at..open] {
            "$__timeFilter" => format!("{column} > now() - interval '1 day'"),
            _ => format!("date_trunc('hour', {column}) AS time"),
        };
        query.replace_range(at..=close, &with);
    }
    query
}
