//! Paths that a pipeline's file adds to the API, as clients of another system know them: a table of diagnoses, given and read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use foreline_tests::live::{Answer, Running, ask, eventually};
use serde_json::{Value, json};

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

const PIPELINE: &str = "version: 1
name: p
sources:
  diagnoses:
    http: {}
    columns:
      machine: { type: string, field: machine_name }
      detected_at: timestamp
      fault_type: int64
    key: [machine]
    time: detected_at
    dedupe: [machine, detected_at]
sinks:
  lake: { from: diagnoses, parquet: { path: lake } }
epoch: { interval: 10ms }
serve:
  listen: 127.0.0.1:0
  routes:
    /vibration-diagnosis:
      post: diagnoses
      get:
        sql: SELECT machine AS machine_name, detected_at, fault_type FROM diagnoses;
        order: [-detected_at]
        filters:
          machine: machine_name
          fault_type: fault_type
          from: { column: detected_at, is: \">=\" }
          to: { column: detected_at, is: \"<\" }
    /vibration-diagnosis/bulk: { post: diagnoses }
    /vibration-diagnosis/grouped-recent:
      get:
        sql: >
          SELECT machine AS machine_name, detected_at, fault_type,
                 row_number() OVER (PARTITION BY machine ORDER BY detected_at DESC) AS place
          FROM diagnoses
        order: [machine_name, place]
        filters: { per_group_limit: { column: place, is: \"<=\", default: \"1\" } }
";

fn get(running: &Running, path: &str) -> Answer {
    ask(running.address, &format!("GET {path}"), "", b"").unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| {
        let (known, value) = line.split_once(": ")?;
        known.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// What rows have in a column.
fn column(answer: &Answer, name: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let rows: Value = serde_json::from_str(&answer.body).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.as_array().unwrap().iter().map(|row| text(&row[name])).collect()
}

fn diagnosis(machine: &str, minute: u32, fault: u32) -> Value {
    let at = format!("2026-03-01T10:{minute:02}:00Z");
    json!({ "machine_name": machine, "detected_at": at, "fault_type": fault })
}

/// All pages of a path, as the header of each leads to the next; `meanwhile` is done after each.
fn pages(running: &Running, path: &str, mut meanwhile: impl FnMut(usize)) -> Vec<Vec<String>> {
    let (mut next, mut all) = (Some(path.to_owned()), Vec::new());
    while let Some(path) = next.take() {
        let answer = get(running, &path);
        all.push(column(&answer, "detected_at"));
        meanwhile(all.len());
        let link = header(&answer, "link");
        let link = link.map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
        assert_eq!(link.is_some(), header(&answer, "foreline-next").is_some());
        next = link.map(|link| link.strip_prefix('<').unwrap().to_owned());
    }
    all
}

#[test]
fn clients_of_another_system_keep_working() {
    let mut running = Running::with(COMMAND, PIPELINE, &[]);
    let many: Vec<Value> =
        (0..12).map(|i| diagnosis(["g1", "g2"][i as usize % 2], i, i % 4)).collect();
    let many = json!(many).to_string();
    let said = running.send("POST /vibration-diagnosis/bulk", &many);
    assert!(said.contains("\"accepted\":12"), "{said}");
    running.send("POST /vibration-diagnosis", &diagnosis("g3", 12, 2).to_string());
    // What is sent twice counts once.
    running.send("POST /vibration-diagnosis/bulk", &many);
    let all = |running: &Running| column(&get(running, "/vibration-diagnosis"), "detected_at");
    eventually("all diagnoses are there", || all(&running).len() == 13);
    let newest = all(&running);
    assert_eq!(newest[0], "2026-03-01T10:12:00Z");
    assert!(newest.is_sorted_by(|a, b| a > b), "{newest:?}");

    let of = |path: &str| column(&get(&running, path), "machine_name");
    assert_eq!(of("/vibration-diagnosis?machine=g3"), ["g3"]);
    assert_eq!(of("/vibration-diagnosis?machine=g1&fault_type=2").len(), 3);
    let hour = "from=2026-03-01T10:03:00Z&to=2026-03-01T10:06:00Z";
    assert_eq!(of(&format!("/vibration-diagnosis?{hour}")), ["g2", "g1", "g2"]);
    assert_eq!(of("/vibration-diagnosis?machine=%27%20OR%201%3D1%20--"), [""; 0]);
    assert_eq!(of("/vibration-diagnosis/grouped-recent"), ["g1", "g2", "g3"]);
    let two = "/vibration-diagnosis/grouped-recent?per_group_limit=2";
    assert_eq!(of(two), ["g1", "g1", "g2", "g2", "g3"]);
    assert_eq!(
        column(&get(&running, two), "detected_at")[..2],
        ["2026-03-01T10:10:00Z", "2026-03-01T10:08:00Z"]
    );

    // Rows that come while somebody reads are before what is read next, and move nothing.
    let read = pages(&running, "/vibration-diagnosis?limit=5", |page| {
        if page == 1 {
            let late = diagnosis("g3", 59, 0).to_string();
            running.send("POST /vibration-diagnosis", &late);
            eventually("it is there", || all(&running).len() == 14);
        }
    });
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 3]);
    assert_eq!(read.concat(), newest);
    let machines = pages(&running, "/vibration-diagnosis?machine=g1&limit=4", |_| {});
    assert_eq!(machines.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);

    // Another form, and what is not there.
    let csv =
        ask(running.address, "GET /vibration-diagnosis?machine=g3", "accept: text/csv\r\n", b"");
    let csv = csv.unwrap().body;
    assert!(
        csv.starts_with("machine_name,detected_at,fault_type\ng3,2026-03-01T10:59:00Z,0\n"),
        "{csv}"
    );
    let status = |line: &str| ask(running.address, line, "", b"").unwrap();
    for (line, status_of, word) in [
        (
            "GET /vibration-diagnosis?color=red",
            400,
            "there is no 'color' here; there is: 'fault_type', 'from', 'machine', 'to', 'limit', 'cursor'",
        ),
        (
            "GET /vibration-diagnosis?fault_type=two",
            400,
            "'fault_type' is 'two', which is no int64",
        ),
        ("GET /vibration-diagnosis?limit=0", 400, "'limit' is a number from 1 to 10000"),
        (
            "GET /vibration-diagnosis?cursor=5b5d",
            400,
            "the cursor is not the 'next' of a page of this path",
        ),
        ("GET /vibration-diagnosis?machine=a&machine=b", 400, "'machine' is there twice"),
        ("DELETE /vibration-diagnosis", 405, "not for this method"),
        ("GET /vibration-diagnosis/bulk", 405, "not for this method"),
        ("GET /vibration-diagnose", 404, "there is nothing at"),
    ] {
        let answer = status(line);
        assert_eq!(answer.status, status_of, "{line}: {}", answer.body);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(word), "{line}: {}", answer.body);
    }
    let document: Value = serde_json::from_str(&get(&running, "/openapi.json").body).unwrap();
    let parameters = &document["paths"]["/vibration-diagnosis"]["get"]["parameters"];
    let names = parameters.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
    let names: Vec<&str> = names.collect();
    assert_eq!(names, ["fault_type", "from", "machine", "to", "limit", "cursor"]);

    running.die_and_live();
    eventually("it is all there again", || all(&running).len() == 14);
}

/// They need what the API's own paths need.
#[test]
fn whoever_may_not_read_reads_nothing() {
    let pipeline = PIPELINE.replace("  routes:", "  tokens: [a-token-that-is-long]\n  routes:");
    let running = Running::with(COMMAND, &pipeline, &[]);
    let as_who = |line: &str, head: &str| {
        ask(running.address, line, head, diagnosis("g1", 0, 0).to_string().as_bytes())
            .unwrap()
            .status
    };
    let head = "content-type: application/json\r\n";
    assert_eq!(as_who("GET /vibration-diagnosis", ""), 401);
    assert_eq!(as_who("POST /vibration-diagnosis", head), 401);
    assert_eq!(as_who("GET /vibration-diagnosis/grouped-recent", ""), 401);
    let head = format!("{head}authorization: Bearer a-token-that-is-long\r\n");
    assert_eq!(as_who("POST /vibration-diagnosis", &head), 200);
    assert_eq!(as_who("GET /vibration-diagnosis", &head), 200);
}
