//! A server that others can reach speaks TLS: to openssl, to psql and to our own commands, and shows a renewed certificate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use foreline_servers::certificates;
use foreline_tests::live::{eventually, start};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");
const TOKEN: &str = "a-token-of-the-file";

/// A free port. Somebody else could take it before the command does, and the test would say so.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn pipeline(http: u16, postgres: u16, cert: &str) -> String {
    format!(
        "version: 1
name: p
sources:
  readings:
    http: {{}}
    columns: {{ machine: string, ts: timestamp, v: float64 }}
    key: [machine]
    time: ts
    lateness: 0s
views:
  latest: {{ from: readings, latest: {{}} }}
sinks:
  lake: {{ from: [readings], parquet: {{ path: lake }} }}
serve:
  listen: 0.0.0.0:{http}
  tokens: [{TOKEN}]
  tls: {{ cert: {cert}, key: server.key }}
  postgres: 0.0.0.0:{postgres}
"
    )
}

struct Served {
    folder: tempfile::TempDir,
    child: Child,
    http: u16,
    postgres: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path()).unwrap();
        let (http, postgres) = (free_port(), free_port());
        std::fs::write(folder.path().join("p.yaml"), pipeline(http, postgres, "server.pem"))
            .unwrap();
        let child = start(COMMAND, folder.path(), "");
        let served = Served { folder, child, http, postgres };
        eventually("it listens", || {
            let said = std::fs::read_to_string(served.folder.path().join("stderr"));
            said.is_ok_and(|said| said.contains("listening on postgresql://"))
        });
        served
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What `openssl` reads after it has asked, where it trusts an authority.
    fn ask(&self, ca: &Path, request: &str, body: &str) -> String {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-verify_ip",
                "127.0.0.1",
                "-CAfile",
            ])
            .arg(ca)
            .args(["-connect", &format!("127.0.0.1:{}", self.http)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        // It ends at once where it does not trust the server.
        client.stdin.as_ref().unwrap().write_all(head.as_bytes()).ok();
        let mut said = String::new();
        client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        client.wait().unwrap();
        said
    }

    fn psql(&self, how: &str) -> (bool, String) {
        let how = format!("host=localhost port={} user=ann dbname=foreline {how}", self.postgres);
        let mut psql = Command::new(psql());
        psql.args(["-X", "-A", "-t", "-d", &how, "-c", "SELECT 40 + 2 AS answer"]);
        said(psql.env("PGPASSWORD", TOKEN))
    }

    fn foreline(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(COMMAND);
        command.current_dir(self.path()).args(arguments).env("FORELINE_TOKEN", TOKEN);
        said(&mut command)
    }
}

fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn psql() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = all.map(|version| version.path().join("bin/psql")).find(|psql| psql.exists());
    found.unwrap_or_else(|| PathBuf::from("psql"))
}

#[test]
fn others_are_served_by_tls_alone() {
    let served = Served::new();
    let ca = served.path().join("ca.pem");
    let tables = served.ask(&ca, "GET /api/v1/tables", "");
    assert!(tables.starts_with("HTTP/1.1 200") && tables.contains("\"latest\""), "{tables}");
    let stranger = served.path().join("stranger.pem");
    assert_eq!(served.ask(&stranger, "GET /api/v1/tables", ""), "", "whom it does not know");

    let mut bare = TcpStream::connect(("127.0.0.1", served.http)).unwrap();
    bare.write_all(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    // What it sent is not read, so the connection may end rudely after the answer.
    bare.read_to_string(&mut answer).ok();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks https"), "{answer}");

    let verified = format!("sslmode=verify-full sslrootcert={}", ca.display());
    assert_eq!(served.psql(&verified), (true, "42\n".to_owned()));
    let (ok, refused) = served.psql("sslmode=disable");
    assert!(!ok && refused.contains("the connection must be encrypted"), "{refused}");
    let distrusted = format!("sslmode=verify-full sslrootcert={}", stranger.display());
    assert!(!served.psql(&distrusted).0);

    // A view is nowhere but in the engine that runs.
    let (ok, rows) = served.foreline(&["sql", "p.yaml", "SELECT count(*) AS n FROM latest"]);
    assert!(ok && rows.contains("(1 row, epoch"), "{rows}");
    let (ok, why) = served.foreline(&["why-stuck", "p.yaml"]);
    assert!(ok, "{why}");
    // Whoever sits on the port and has not the certificate of the file is not shown the token.
    std::fs::write(
        served.path().join("q.yaml"),
        pipeline(served.http, served.postgres, "stranger.pem"),
    )
    .unwrap();
    let (ok, why) = served.foreline(&["why-stuck", "q.yaml"]);
    assert!(!ok && why.contains("certificate"), "{why}");
}

#[test]
fn a_session_is_for_encrypted_connections_alone() {
    let served = Served::new();
    let mut add = Command::new(COMMAND);
    add.current_dir(served.path())
        .args(["user", "add", "p.yaml", "ann", "--role", "admin", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut add = add.spawn().unwrap();
    add.stdin.take().unwrap().write_all(b"a password of ann\n").unwrap();
    assert!(add.wait().unwrap().success());
    let login = "{\"name\":\"ann\",\"password\":\"a password of ann\"}";
    let answer = served.ask(&served.path().join("ca.pem"), "POST /api/v1/auth/login", login);
    let cookie = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie:"));
    assert!(cookie.is_some_and(|cookie| cookie.ends_with("; Secure")), "{answer}");
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let served = Served::new();
    let other = tempfile::tempdir().unwrap();
    certificates::make(other.path()).unwrap();
    let ca = other.path().join("ca.pem");
    assert_eq!(served.ask(&ca, "GET /livez", ""), "");
    // Half of it is renewed first, as by a program that writes one file after the other: the one before goes on.
    std::fs::copy(other.path().join("server.pem"), served.path().join("server.pem")).unwrap();
    eventually("it says that they do not fit", || {
        let said = std::fs::read_to_string(served.path().join("stderr"));
        said.is_ok_and(|said| said.contains("do not fit together"))
    });
    let before = served.ask(&served.path().join("ca.pem"), "GET /livez", "");
    assert!(before.starts_with("HTTP/1.1 200"), "{before}");
    std::fs::copy(other.path().join("server.key"), served.path().join("server.key")).unwrap();
    eventually("the new certificate is shown", || {
        served.ask(&ca, "GET /livez", "").starts_with("HTTP/1.1 200")
    });
}

#[test]
fn files_that_do_not_fit_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    certificates::make(folder.path()).unwrap();
    let run = |cert: &str| {
        std::fs::write(folder.path().join("p.yaml"), pipeline(0, 0, cert)).unwrap();
        said(Command::new(COMMAND).current_dir(folder.path()).args(["run", "p.yaml"]))
    };
    let (ok, why) = run("stranger.pem");
    assert!(!ok && why.contains("stranger.pem") && why.contains("do not fit together"), "{why}");
    let (ok, why) = run("nowhere.pem");
    assert!(!ok && why.contains("nowhere.pem") && why.contains("cannot be read"), "{why}");
    let (ok, why) = run("server.key");
    assert!(!ok && why.contains("no certificate"), "{why}");
}
