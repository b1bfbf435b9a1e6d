//! Who gets in, what each may do, and that strangers with odd requests get no further than an answer: the real command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use foreline_tests::live::{Answer, Running, ask, eventually};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: p
sources:
  readings:
    http: { max_requests_per_s: 100000 }
    columns: { machine: string, ts: timestamp, v: float64 }
    key: [machine]
    time: ts
    lateness: 0s
views:
  latest: { from: readings, latest: {} }
alerts:
  hot: { from: readings, when: v > 80, severity: warning }
sinks:
  lake: { from: [readings, dead_letters], parquet: { path: lake } }
epoch: { interval: 5ms }
serve: { listen: 127.0.0.1:0, tokens: [\"a-token-of-the-file\"] }
";

/// `foreline` with a password, and whether it succeeded.
fn foreline(running: &Running, arguments: &[&str], password: &str) -> (bool, String) {
    let mut child = Command::new(COMMAND)
        .current_dir(running.folder.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no password does not read it.
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn add(running: &Running, name: &str, role: &str) {
    let arguments = ["user", "add", "p.yaml", name, "--role", role, "--password-stdin"];
    let (ok, said) = foreline(running, &arguments, &format!("password of {name}"));
    assert!(ok, "{said}");
}

const SAFE: &str = "x-foreline-request: 1\r\n";

fn post(running: &Running, path: &str, head: &str, body: &Value) -> Answer {
    let head = format!("content-type: application/json\r\n{head}");
    ask(running.address, &format!("POST {path}"), &head, body.to_string().as_bytes()).unwrap()
}

/// Logs in; the head that shows the session.
fn login(running: &Running, name: &str) -> String {
    let body = json!({ "name": name, "password": format!("password of {name}") });
    let answer = post(running, "/api/v1/auth/login", "", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let cookie = answer.head.lines().find(|line| line.starts_with("set-cookie:"));
    let cookie = cookie.unwrap().split_once(':').unwrap().1.trim();
    for part in ["httponly", "samesite=strict", "path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    format!("cookie: {}\r\n", cookie.split(';').next().unwrap())
}

fn get(running: &Running, path: &str, head: &str) -> Answer {
    ask(running.address, &format!("GET {path}"), head, b"").unwrap()
}

#[test]
fn each_role_does_what_it_may() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    for role in ["viewer", "operator", "engineer", "admin"] {
        add(&running, role, role);
    }
    let reading = json!([{ "machine": "M-1", "ts": "2026-03-01T00:00:00Z", "v": 99.0 }]);
    let rows = "/api/v1/sources/readings/rows";
    assert_eq!(post(&running, rows, "", &reading).status, 401);
    let roles = ["viewer", "operator", "engineer", "admin"];
    let heads = roles.map(|role| login(&running, role) + SAFE);
    assert_eq!(post(&running, rows, &heads[2], &reading).status, 200);
    let mut alert = String::new();
    eventually("the alert is there", || {
        let all: Value =
            serde_json::from_str(&get(&running, "/api/v1/alerts", &heads[0]).body).unwrap();
        alert = all["rows"][0]["alert"].as_str().unwrap_or_default().to_owned();
        !alert.is_empty()
    });
    let ack = format!("/api/v1/alerts/{alert}/ack");
    let statuses = |path: &str, body: &Value| {
        heads.clone().map(|head| post(&running, path, &head, body).status)
    };
    assert_eq!(statuses(&ack, &json!({ "by": "somebody else" })), [403, 200, 200, 200]);
    assert_eq!(statuses(rows, &reading), [403, 403, 200, 200]);
    let token = json!({ "name": "t", "scopes": ["read"] });
    assert_eq!(statuses("/api/v1/tokens", &token), [403, 403, 403, 201]);
    assert_eq!(statuses("/api/v1/query", &json!({ "sql": "SELECT 1" })), [200; 4]);
    for path in ["/api/v1/users", "/api/v1/tokens", "/api/v1/audit"] {
        assert_eq!(
            heads.clone().map(|head| get(&running, path, &head).status),
            [403, 403, 403, 200],
            "{path}"
        );
    }
    // Whoever is logged in speaks for themselves.
    eventually("it is acknowledged by its operator", || {
        let all: Value =
            serde_json::from_str(&get(&running, "/api/v1/alerts", &heads[0]).body).unwrap();
        all["rows"][0]["acknowledged_by"] == "operator"
    });
    let audit = get(&running, "/api/v1/audit?limit=1000", &heads[3]).body;
    for said in ["user.add", "login", &ack, "/api/v1/tokens"] {
        assert!(audit.contains(said), "{said}: {audit}");
    }
    assert!(!audit.contains("password of") && !audit.contains("flt_"), "{audit}");
    let audit = json!({ "sql": "SELECT who, outcome FROM audit WHERE object LIKE '%/ack' AND who = 'operator'" });
    assert_eq!(statuses("/api/v1/query", &audit), [400, 400, 400, 200], "for administrators");
    let told = post(&running, "/api/v1/query", &heads[3], &audit).body;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["rows"][0], json!(["operator", "done"]), "{told}");
    let me: Value =
        serde_json::from_str(&get(&running, "/api/v1/auth/me", &heads[1]).body).unwrap();
    assert_eq!(me["user"], json!({ "name": "operator", "role": "operator" }));
    let file = "authorization: Bearer a-token-of-the-file\r\n";
    assert_eq!(post(&running, rows, file, &reading).status, 200, "as before there were accounts");
    assert_eq!(get(&running, "/api/v1/users", file).status, 403);
}

#[test]
fn sessions_and_tokens_end() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    add(&running, "ann", "admin");
    let head = login(&running, "ann");
    assert_eq!(get(&running, "/api/v1/tables", &head).status, 200);
    // A form of another site sends the cookie, and no header of ours.
    let without =
        post(&running, "/api/v1/tokens", &head, &json!({ "name": "x", "scopes": ["read"] }));
    assert_eq!(without.status, 403, "{}", without.body);
    let other = format!("{head}{SAFE}origin: http://evil.example\r\n");
    assert_eq!(post(&running, "/api/v1/auth/password", &other, &json!({})).status, 403);
    assert_eq!(
        post(&running, "/api/v1/auth/logout", &(head.clone() + SAFE), &json!({})).status,
        200
    );
    assert_eq!(get(&running, "/api/v1/tables", &head).status, 401, "a session is not replayed");

    let (ok, said) =
        foreline(&running, &["token", "create", "p.yaml", "grafana", "--expires", "90d"], "");
    assert!(ok, "{said}");
    let token = said.lines().next().unwrap().to_owned();
    let bearer = format!("authorization: Bearer {token}\r\n");
    assert_eq!(get(&running, "/api/v1/tables", &bearer).status, 200, "seen without a restart");
    assert_eq!(post(&running, "/api/v1/sources/readings/rows", &bearer, &json!([])).status, 403);
    let (_, list) = foreline(&running, &["token", "list", "p.yaml", "--json"], "");
    assert!(!list.contains(&token), "{list}");
    // What follows is a note that a token stands in the file.
    let mut list = serde_json::Deserializer::from_str(&list).into_iter::<Value>();
    let list = list.next().unwrap().unwrap();
    let id = list[0]["id"].as_str().unwrap();
    assert!(foreline(&running, &["token", "revoke", "p.yaml", id], "").0);
    assert_eq!(get(&running, "/api/v1/tables", &bearer).status, 401);
    let wrong = get(&running, "/api/v1/tables", "authorization: Bearer flt_0\r\n");
    assert!(
        wrong.status == 401 && wrong.head.contains("www-authenticate: bearer"),
        "{}",
        wrong.head
    );

    // Somebody signs up with a code, once.
    let (_, code) = foreline(&running, &["user", "invite", "p.yaml", "--role", "operator"], "");
    let code = code.lines().next().unwrap();
    let signup = |name: &str| {
        let body = json!({ "name": name, "password": "a long password", "invitation": code });
        post(&running, "/api/v1/auth/signup", "", &body)
    };
    assert_eq!(signup("bob").status, 200);
    assert_eq!(signup("eve").status, 409);
    let body = json!({ "name": "eve", "password": "a long password" });
    assert_eq!(post(&running, "/api/v1/auth/signup", "", &body).status, 403);
    // Guessing becomes slow.
    let guess = |i: u32| {
        let body = json!({ "name": "ann", "password": format!("guess number {i}") });
        post(&running, "/api/v1/auth/login", "", &body)
    };
    let last = (0..8).map(guess).collect::<Vec<_>>().pop().unwrap();
    assert!(last.status == 429 && last.head.contains("retry-after:"), "{}", last.head);
    // The last administrator cannot be lost; and after a kill all of it is there.
    let mut running = running;
    running.die_and_live();
    add(&running, "zoe", "admin");
    let head = login(&running, "zoe") + SAFE;
    let off = |name: &str| {
        let head = format!("content-type: application/json\r\n{head}");
        let path = format!("PATCH /api/v1/users/{name}");
        ask(running.address, &path, &head, b"{\"disabled\":true}").unwrap().status
    };
    assert_eq!((off("ann"), off("zoe"), off("nobody")), (200, 409, 404));
}

/// Rows A1 and A2 of what may go wrong: odd requests get an answer that says so, and rows go on.
#[test]
fn strangers_get_no_further_than_an_answer() {
    let running = Running::new(COMMAND, PIPELINE, &[]);
    let bearer = "authorization: Bearer a-token-of-the-file\r\n";
    let problem = |answer: &Answer, status: u16| {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
    };
    for odd in ["..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "%00", "..", "a%2fb", "%ff"] {
        for path in [
            format!("/api/v1/tables/{odd}/rows"),
            format!("/api/v1/models/{odd}"),
            format!("/assets/{odd}"),
        ] {
            let answer = get(&running, &path, bearer);
            assert!(
                [400, 404].contains(&answer.status),
                "{path}: {} {}",
                answer.status,
                answer.body
            );
            assert!(!answer.body.contains("root:"), "{path}");
        }
        let answer = post(&running, &format!("/api/v1/sources/{odd}/rows"), bearer, &json!([]));
        assert!([400, 404].contains(&answer.status), "{odd}: {}", answer.body);
    }
    problem(&get(&running, "/api/v1/tables/latest/rows?cursor=zz%2e%2e", bearer), 400);
    problem(&get(&running, "/api/v1/tables/latest/rows?limit=-1", bearer), 400);
    problem(&post(&running, "/api/v1/sources/readings/rows", bearer, &json!({ "not": 1 })), 422);
    problem(&get(&running, "/api/v1/nothing", bearer), 404);
    problem(&get(&running, "/api/v1/query", bearer), 405);
    // A hundred megabytes are refused by their length, before they are sent.
    let mut stream = TcpStream::connect(running.address).unwrap();
    let head = format!(
        "POST /api/v1/sources/readings/rows HTTP/1.1\r\nhost: 127.0.0.1\r\n{bearer}content-type: application/json\r\ncontent-length: 104857600\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // More connections than are taken, all of them silent; rows go on as soon as some have gone.
    let mut silent: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    let reading = json!([{ "machine": "M-1", "ts": "2026-03-01T00:00:00Z", "v": 1.0 }]);
    assert_eq!(post(&running, "/api/v1/sources/readings/rows", bearer, &reading).status, 200);
    // Half a head is not waited for without end.
    silent[0].write_all(b"GET /livez HT").unwrap();
    let mut rest = Vec::new();
    silent[0].set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    assert!(silent[0].read_to_end(&mut rest).is_ok(), "the server closes it");
}
