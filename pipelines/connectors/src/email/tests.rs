//! The sink against a mail server that does what it is told.

use foreline_servers::mailbox::{Mailbox, Manner};
use serde_json::{Value, json};

use super::*;
use crate::notify::tests::{commit, left_out, opened, planned_kind, raised, wait_for};

const PASSWORD: &str = "canary-77ab";

fn config(port: u16, more: Value) -> Value {
    let mut config = json!({
        "host": "127.0.0.1", "port": port, "tls": "none",
        "from": "Foreline <foreline@plant.example>", "to": ["a@plant.example", "b@plant.example"],
    });
    let Value::Object(more) = more else { panic!("options are an object") };
    config.as_object_mut().unwrap().extend(more);
    config
}

fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    mail.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap()
}

#[test]
fn a_message_is_a_mail_and_a_lost_answer_brings_it_again() {
    let manners = vec![Manner::HangUp, Manner::Refuse(451), Manner::LoseAnswer];
    let server = Mailbox::start(manners).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret =
        json!({ "user": "plant", "password": PASSWORD, "template": { "body": "grüße\n." } });
    let mut sink = opened(folder.path(), "email", config(server.port(), secret), 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false)])]);
    let mails = server.await_mails(2).unwrap();
    assert_eq!(header(&mails[0], "Message-ID"), header(&mails[1], "Message-ID"));
    assert!(header(&mails[0], "Message-ID").ends_with("@plant.example>"), "{}", mails[0]);
    assert_eq!(header(&mails[0], "Subject"), "[critical] hot raised: p1");
    assert_eq!(header(&mails[0], "To"), "a@plant.example, b@plant.example");
    let said = server.commands();
    assert!(said.contains(&"RCPT TO:<b@plant.example>".to_owned()), "{said:?}");
    assert!(said.iter().any(|c| c.starts_with("AUTH PLAIN ")), "{said:?}");
}

#[test]
fn a_refusal_is_counted_and_a_wrong_password_is_not_one() {
    let server = Mailbox::start(vec![Manner::Refuse(550), Manner::NoEntry(535)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({ "user": "plant", "password": PASSWORD });
    let mut sink = opened(folder.path(), "email", config(server.port(), secret), 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false), ("p2", 4, false)])]);
    let mails = server.await_mails(1).unwrap();
    assert_eq!(header(&mails[0], "Subject"), "[major] hot raised: p2");
    wait_for("it is counted", || left_out(&*sink, "refused") == 1);
}

#[test]
fn a_server_that_offers_no_tls_is_told_nothing() {
    let server = Mailbox::start(vec![]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({ "user": "plant", "password": PASSWORD, "tls": "starttls" });
    let mut sink = opened(folder.path(), "email", config(server.port(), secret), 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false)])]);
    server.await_commands("EHLO", 2).unwrap();
    let said = server.commands();
    let harmless = |c: &String| ["EHLO", "QUIT", "STARTTLS"].iter().any(|v| c.starts_with(v));
    assert!(said.iter().all(harmless) && server.mails().is_empty(), "{said:?}");
}

#[test]
fn a_probe_says_whether_the_server_takes_us() {
    let folder = tempfile::tempdir().unwrap();
    let server = Mailbox::start(vec![Manner::Accept, Manner::NoEntry(535)]).unwrap();
    let secret = json!({ "user": "plant", "password": PASSWORD });
    let planned = planned_kind(folder.path(), "email", config(server.port(), secret)).unwrap();
    let probe = planned.probe.unwrap();
    assert!(probe().unwrap().contains("takes us"));
    let error = probe().unwrap_err();
    assert!(error.contains("535") && !error.contains(PASSWORD), "{error}");
}

#[test]
fn nothing_secret_is_told_and_mistakes_are_found_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({
        "user": "plant", "password": PASSWORD, "host": "mail.example", "spool": "s",
    });
    let parsed: EmailConfig = foreline_engine::parse_config(&config(25, secret.clone())).unwrap();
    assert!(!format!("{parsed:?}").contains(PASSWORD), "{parsed:?}");
    let planned = planned_kind(folder.path(), "email", config(25, secret)).unwrap();
    let told = format!("{} {:?}", planned.place, planned.notes);
    assert!(!told.contains(PASSWORD) && told.contains("plain text"), "{told}");
    let wrong = json!({ "from": "nobody", "to": ["a@b.c", "x y"], "user": "u", "host": "a b" });
    let found = planned_kind(folder.path(), "email", config(25, wrong)).unwrap_err();
    let at: Vec<&str> = found.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(at, ["host", "user", "from", "to[1]"]);
}
