//! Clients of PostgreSQL on the real command, while rows flow in: psql, a driver of Python, and what Grafana asks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use foreline_tests::live::{Running, eventually};
use serde_json::json;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const ROWS: u64 = 200;

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, vibration: { type: float64, unit: mm/s } }
    key: [machine]
    time: ts
    lateness: 0s
    dedupe: [machine, ts]
views:
  latest: { from: readings, latest: {} }
sinks:
  lake: { from: [readings], parquet: { path: lake, file_rows: 1000 } }
epoch: { interval: 5ms }
serve: { listen: 127.0.0.1:0, postgres: 127.0.0.1:0 }
";

/// The port that the wire listens on.
fn port(running: &Running) -> String {
    let said = std::fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    let line = said.lines().rev().find_map(|l| l.strip_prefix("listening on postgresql://"));
    line.unwrap().rsplit(':').next().unwrap().to_owned()
}

fn psql() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = all.map(|version| version.path().join("bin/psql")).find(|psql| psql.exists());
    found.unwrap_or_else(|| PathBuf::from("psql"))
}

/// What psql prints, without ornaments.
fn ask(port: &str, commands: &[&str]) -> (bool, String) {
    let mut psql = Command::new(psql());
    psql.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "ann", "-d", "foreline"]);
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn batch(request: u64) -> String {
    let row = |i: u64| {
        let (m, minute) = (request * ROWS + i, i % 60);
        json!({ "machine": format!("M-{m:06}"), "ts": format!("2026-03-01T00:{minute:02}:00Z"), "vibration": m as f64 })
    };
    json!((0..ROWS).map(row).collect::<Vec<_>>()).to_string()
}

#[test]
fn psql_python_and_grafana_ask_while_rows_flow() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let port = port(&running);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut sent = 0;
            while !is_done.load(Ordering::Acquire) && sent < 2_000 {
                running.send("POST /api/v1/sources/readings/rows", &batch(sent));
                sent += 1;
            }
            sent * ROWS
        });
        eventually("rows are there", || {
            ask(&port, &["SELECT count(*) > 0 FROM latest"]).1 == "t\n"
        });
        // One epoch: view and stream agree in every answer.
        let both = "SELECT (SELECT count(*) FROM latest) = (SELECT count(*) FROM readings), \
                    (SELECT sum(vibration) FROM latest) = (SELECT sum(vibration) FROM readings)";
        for _ in 0..10 {
            let (ok, said) = ask(&port, &[both, "SHOW foreline.epoch"]);
            let mut lines = said.lines();
            assert!(ok && lines.next() == Some("t|t"), "{said}");
            assert!(lines.next().is_some_and(|epoch| epoch.parse::<u64>().is_ok()), "{said}");
        }
        let (ok, said) = ask(&port, &["\\d"]);
        assert!(
            ok && said.contains("public|latest|") && said.contains("public|readings|"),
            "{said}"
        );
        let (ok, said) = ask(&port, &["\\d latest"]);
        assert!(ok && said.contains("vibration|double precision"), "{said}");
        let (ok, said) = ask(&port, &["DELETE FROM latest"]);
        assert!(!ok && said.contains("queries only read"), "{said}");
        grafana(&port);
        python(&port);
        is_done.store(true, Ordering::Release);
        let all = sent.join().unwrap();
        eventually("all rows are there", || {
            ask(&port, &["SELECT count(*) FROM latest"]).1 == format!("{all}\n")
        });
    });
}

/// What Grafana's PostgreSQL source makes of `$__timeGroupAlias` and `$__timeFilter`, and what its editor asks.
fn grafana(port: &str) {
    let (ok, said) = ask(
        port,
        &[
            "SELECT floor(extract(epoch from ts)/60)*60 AS \"time\", 'all' AS metric, avg(vibration) AS vibration \
         FROM readings WHERE ts BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-01T00:09:59Z' GROUP BY 1, 2 ORDER BY 1",
        ],
    );
    assert!(ok && said.lines().count() == 10 && said.starts_with("1772323200.0|all|"), "{said}");
    let (ok, said) = ask(
        port,
        &[
            "SELECT time_bucket('60.000s', ts) AS \"time\", max(vibration) FROM readings GROUP BY 1 ORDER BY 1 LIMIT 2",
        ],
    );
    assert!(ok && said.starts_with("2026-03-01 00:00:00.000000+00|"), "{said}");
    let (ok, said) =
        ask(port, &["SELECT current_setting('server_version_num')::int/100 as version"]);
    assert!(ok && said == "1600\n", "{said}");
    let (ok, said) = ask(
        port,
        &[
            "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns \
         WHERE quote_ident(table_name) = 'latest' ORDER BY 1",
        ],
    );
    assert!(ok && said.contains("vibration|"), "{said}");
}

/// psycopg, with values apart from the text, in text and in binary.
#[expect(clippy::print_stderr, reason = "what is left out is said")]
fn python(port: &str) {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let python = cache.or(home).unwrap().join("foreline-psycopg/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: the driver of Python: '{}' is not there", python.display());
        return;
    }
    let script = "import psycopg, sys, datetime\n\
        with psycopg.connect(host='127.0.0.1', port=sys.argv[1], user='ann', dbname='foreline') as db:\n\
        \x20   for binary in (False, True):\n\
        \x20       with db.cursor(binary=binary) as c:\n\
        \x20           c.execute('SELECT machine, ts, vibration FROM latest WHERE machine = %s AND vibration >= %s', ('M-000007', 6.5))\n\
        \x20           row = c.fetchone()\n\
        \x20           assert row == ('M-000007', datetime.datetime(2026, 3, 1, 0, 7, tzinfo=datetime.timezone.utc), 7.0), row\n\
        \x20           c.execute('SELECT count(*) FROM latest WHERE machine = ANY(%s)', (['M-000001', 'M-000002'],))\n\
        \x20           assert c.fetchone() == (2,)\n\
        \x20   try:\n\
        \x20       db.execute('SELECT nothing FROM latest')\n\
        \x20       raise SystemExit('no error')\n\
        \x20   except psycopg.errors.UndefinedColumn as e:\n\
        \x20       assert 'there is no column' in str(e), e\n\
        print('ok')\n";
    let output = Command::new(python).args(["-c", script, port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}
