//! The real command with alerts that people do something with, and that somebody is told of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::collections::BTreeSet;

use foreline_servers::receiver::Receiver;
use foreline_tests::live::{Running, ask, eventually, terminate};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

fn pipeline(receiver: &str) -> String {
    format!(
        "version: 1
name: p
sources:
  readings:
    http: {{}}
    columns: {{ machine: string, ts: timestamp, v: float64 }}
    key: [machine]
    time: ts
    dedupe: [machine, ts]
alerts:
  high: {{ from: readings, when: \"v > 5\", severity: critical }}
  low: {{ from: readings, when: \"v < 1\" }}
alert_book: {{ escalate: [300ms] }}
views:
  open: {{ from: alerts, where: \"state = 'open' AND NOT suppressed\" }}
  count: {{ from: open, group: {{ by: [machine], rows: alerts }} }}
sinks:
  lake: {{ from: [alerts, alerts.changes], parquet: {{ path: lake }} }}
  pager: {{ from: alerts.changes, webhook: {{ url: \"{receiver}\", spool: spool }} }}
epoch: {{ interval: 10ms }}
snapshot: {{ interval: 200ms }}
serve: {{ listen: 127.0.0.1:0 }}
"
    )
}

fn alerts(running: &Running, query: &str) -> Vec<Value> {
    let page = running.send(&format!("GET /api/v1/alerts{query}"), "");
    serde_json::from_str::<Value>(&page).unwrap()["rows"].as_array().unwrap().clone()
}

/// The only alert that there is of a rule and a machine.
fn alert(running: &Running, rule: &str, machine: &str) -> Value {
    let mut found = alerts(running, &format!("?rule={rule}&machine={machine}"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn read(running: &Running, machine: &str, second: u32, v: f64) {
    let row = json!({ "machine": machine, "ts": format!("2026-03-01T00:00:{second:02}Z"), "v": v });
    running.send("POST /api/v1/sources/readings/rows", &row.to_string());
}

#[test]
fn alerts_are_acknowledged_shelved_escalated_and_told() {
    let receiver = Receiver::start(Vec::new()).unwrap();
    let mut running = Running::new(COMMAND, &pipeline(&receiver.url()), &[]);
    read(&running, "M-1", 1, 9.0);
    read(&running, "M-2", 1, 9.0);
    eventually("two alerts are raised", || alerts(&running, "?state=open").len() == 2);
    let id = alert(&running, "high", "M-1")["alert"].as_str().unwrap().to_owned();
    let path = |what: &str| format!("POST /api/v1/alerts/{id}/{what}");
    running.send(&path("ack"), "{\"by\":\"kim\",\"comment\":\"on my way\"}");
    eventually("it is acknowledged", || alert(&running, "high", "M-1")["acknowledged_by"] == "kim");
    eventually("the other one escalates", || alert(&running, "high", "M-2")["escalation"] == 1);
    assert_eq!(alert(&running, "high", "M-1")["escalation"], 0, "an acknowledged one does not");

    running.die_and_live();
    // What the snapshot has comes first, and then what the journal has behind it.
    eventually("the book is as it was", || {
        let found = alerts(&running, "?machine=M-1");
        alerts(&running, "").len() == 2 && found[0]["comment"] == "on my way"
    });
    running.send(&path("shelve"), "{\"by\":\"lee\",\"until\":\"2200-01-01T00:00:00Z\"}");
    eventually("it is shelved", || alert(&running, "high", "M-1")["suppressed"] == true);
    let open = running.send("GET /api/v1/tables/count/rows", "");
    eventually("and counts no more", || {
        !running.send("GET /api/v1/tables/count/rows", "").contains("M-1")
    });
    assert!(open.contains("M-2"), "{open}");
    running.send("POST /api/v1/rules/low/M-7/out_of_service", "{\"by\":\"lee\"}");
    read(&running, "M-7", 1, 0.0);
    eventually("a rule that is out of service tells nobody", || {
        let found = alerts(&running, "?machine=M-7&limit=1");
        found.iter().any(|a| a["out_of_service"] == true && a["suppressed"] == true)
    });
    running.send("POST /api/v1/rules/low/M-7/in_service", "");
    eventually("and back", || alert(&running, "low", "M-7")["suppressed"] == false);
    for (what, body, status) in [
        ("shelve", "{}", 422),
        ("shelve", "{\"until\":\"2000-01-01T00:00:00Z\"}", 422),
        ("comment", "{}", 422),
        ("ack", "[1]", 422),
        ("ack", "{\"who\":\"kim\"}", 422),
        ("explode", "{}", 404),
    ] {
        let answer = ask(running.address, &path(what), "", body.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{what} {body}: {}", answer.body);
    }
    let nobody = ask(running.address, "POST /api/v1/alerts/none/ack", "", b"").unwrap();
    assert_eq!(nobody.status, 404, "{}", nobody.body);

    read(&running, "M-1", 2, 3.0);
    read(&running, "M-2", 2, 3.0);
    eventually("both are cleared", || alerts(&running, "?state=cleared").len() == 2);
    let page = running.send("GET /api/v1/alerts?state=cleared&limit=1", "");
    let page: Value = serde_json::from_str(&page).unwrap();
    let next = page["next"].as_str().unwrap();
    let rest = alerts(&running, &format!("?state=cleared&limit=1&cursor={next}"));
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0], page["rows"][0]);
    let told = || {
        let bodies = receiver.received();
        let rows = bodies.iter().flat_map(|r| {
            let body: Value = serde_json::from_str(&r.body).unwrap();
            body["rows"].as_array().unwrap().clone()
        });
        let word = |row: &Value| {
            format!("{} {}", row["machine"].as_str().unwrap(), row["change"].as_str().unwrap())
        };
        // Whether it escalates in between is up to the machine that this runs on.
        let by_chance = ["M-1 escalated", "M-7 escalated"];
        let words = rows.map(|row| word(&row)).filter(|word| !by_chance.contains(&word.as_str()));
        words.collect::<BTreeSet<_>>()
    };
    let expected = [
        "M-1 acknowledged",
        "M-1 cleared",
        "M-1 raised",
        "M-1 shelved",
        "M-2 cleared",
        "M-2 escalated",
        "M-2 raised",
        "M-7 in_service",
        "M-7 raised",
    ];
    eventually("somebody is told of each", || told().iter().eq(expected));
    assert!(terminate(&mut running.child).success());
    let table = running.lake("alerts").texts(&["machine", "state"]);
    assert!(!table.is_empty());
    let said = running.lake("alerts.changes").texts(&["machine", "change", "gone"]);
    let by_chance = [["M-1", "escalated"], ["M-7", "escalated"]];
    let said: Vec<_> =
        said.into_iter().filter(|s| by_chance.iter().all(|chance| s[..2] != *chance)).collect();
    assert_eq!(said.len(), 9, "each once, though the command died in between: {said:?}");
}
