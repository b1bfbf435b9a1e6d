//! The sink against an HTTP server that does what it is told.

use foreline_servers::receiver::{Received, Receiver, Reply};
use serde_json::{Value, json};

use super::*;
use crate::notify::tests::{commit, left_out, opened, planned_kind, raised, wait_for};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Whether a request is signed with [`SECRET`]; nothing of the code under test is asked.
fn is_signed(request: &Received) -> bool {
    let header = |name| request.header(name).unwrap();
    let text = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), request.body);
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    // HMAC as RFC 2104 writes it down.
    use sha2::Digest as _;
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(&key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(&text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    header("webhook-signature") == format!("v1,{}", STANDARD.encode(outer))
}

fn with(receiver: &Receiver, more: Value) -> Value {
    let mut config = json!({ "url": receiver.url(), "secret": SECRET });
    let Value::Object(more) = more else { panic!("options are an object") };
    config.as_object_mut().unwrap().extend(more);
    config
}

#[test]
fn the_signature_is_that_of_the_specification() {
    let key = key(&serde_json::from_value(json!(SECRET)).unwrap()).unwrap();
    let signature =
        sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn it_is_sent_again_until_it_is_taken_and_always_with_one_id() {
    let after = |seconds: u64| Reply::Status(503, vec![("retry-after", seconds.to_string())]);
    let replies = vec![after(1), Reply::HangUp, Reply::HangUpEarly, Reply::Status(429, vec![])];
    let receiver = Receiver::start(replies).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = with(&receiver, json!({ "headers": { "Authorization": "Bearer canary-1" } }));
    let mut sink = opened(folder.path(), "webhook", config, 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false)])]);
    let requests = receiver.await_received(4).unwrap();
    for request in &requests {
        assert_eq!(request.line, "POST /hook HTTP/1.1");
        assert!(is_signed(request), "{request:?}");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("authorization"), Some("Bearer canary-1"));
        assert_eq!(request.header("idempotency-key"), request.header("webhook-id"));
        assert_eq!(request.header("webhook-id"), requests[0].header("webhook-id"));
        assert_eq!(request.body, requests[0].body);
    }
    let body: Value = serde_json::from_str(&requests[0].body).unwrap();
    assert_eq!(body["id"].as_str(), requests[0].header("webhook-id"));
    assert_eq!(body["rows"][0]["machine"], "p1");
    drop(sink);
    assert_eq!(receiver.received().len(), 4);
}

#[test]
fn what_is_not_delivered_goes_out_with_the_next_run() {
    let receiver = Receiver::start(vec![]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nobody = foreline_servers::free_port().unwrap();
    let gone = json!({ "url": format!("http://127.0.0.1:{nobody}/hook"), "secret": SECRET });
    let mut sink = opened(folder.path(), "webhook", gone, 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false), ("p2", 4, false)])]);
    drop(sink);
    let _sink = opened(folder.path(), "webhook", with(&receiver, json!({})), 2);
    let requests = receiver.await_received(2).unwrap();
    assert!(requests.iter().all(is_signed));
    let machine = |r: &Received| {
        serde_json::from_str::<Value>(&r.body).unwrap()["rows"][0]["machine"].clone()
    };
    assert_eq!([machine(&requests[0]), machine(&requests[1])], ["p1", "p2"]);
}

#[test]
fn a_mistake_of_ours_is_not_repeated_and_a_redirect_is_not_followed() {
    let moved = Reply::Status(307, vec![("location", "http://127.0.0.1:1/x".to_owned())]);
    let receiver = Receiver::start(vec![Reply::Status(422, vec![]), moved]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut sink = opened(folder.path(), "webhook", with(&receiver, json!({})), 1);
    commit(&mut *sink, 1, &[raised(0, &[("p1", 5, false), ("p2", 5, false)])]);
    // The first is refused; the second is redirected, and sent again to where the file says.
    let requests = receiver.await_received(3).unwrap();
    assert!(requests.iter().all(|r| r.line == "POST /hook HTTP/1.1"));
    assert_ne!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[1].header("webhook-id"), requests[2].header("webhook-id"));
    wait_for("it is counted", || left_out(&*sink, "refused") == 1);
}

#[test]
fn nothing_secret_is_ever_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "url": "http://hook.example/canary-url", "secret": "canary-secret-0123",
        "headers": { "X-Key": "canary-header" }, "spool": "spool",
    });
    let parsed: WebhookConfig = foreline_engine::parse_config(&config).unwrap();
    assert!(!format!("{parsed:?}").contains("canary"), "{parsed:?}");
    let planned = planned_kind(folder.path(), "webhook", config).unwrap();
    let told = format!("{} {:?}", planned.place, planned.notes);
    assert!(!told.contains("canary"), "{told}");
    assert!(
        told.contains("webhook http://hook.example:80") && told.contains("plain text"),
        "{told}"
    );
    assert!(!planned.transactional);
    for wrong in [
        json!({ "url": "canary-url" }),
        json!({ "url": "https://me:canary@hook.example/" }),
        json!({ "url": "ftp://hook.example/canary" }),
        json!({ "url": "https://hook.example/", "secret": "canary" }),
        json!({ "url": "https://hook.example/", "secret": "whsec_canary!" }),
        json!({ "url": "https://hook.example/", "headers": { "webhook-id": "canary" } }),
        json!({ "url": "https://hook.example/", "headers": { "a b": "canary" } }),
    ] {
        let found = planned_kind(folder.path(), "webhook", wrong).unwrap_err();
        assert!(found.len() == 1 && !format!("{found:?}").contains("canary"), "{found:?}");
    }
}

#[test]
fn errors_of_the_network_do_not_show_the_address() {
    let port = foreline_servers::free_port().unwrap();
    let receiver = super::Receiver {
        url: Url::parse(&format!("http://127.0.0.1:{port}/canary")).unwrap(),
        shown: "http://127.0.0.1".to_owned(),
        method: Method::Post,
        headers: HeaderMap::new(),
        key: None,
        ca_file: None,
        timeout: Duration::from_secs(5),
        origin: Origin { pipeline: "p".into(), sink: "s".into(), stream: "t".into() },
    };
    let outcome = Hook::new(&receiver).unwrap().send(&Notice { id: "i".into(), messages: vec![] });
    let Outcome::Retry(why, None) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("cannot be reached") && !why.contains("canary"), "{why}");
}

#[test]
fn how_long_to_wait_is_a_number_or_a_date() {
    let of = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        retry_after(&headers)
    };
    assert_eq!(of("120"), Some(Duration::from_secs(120)));
    assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    assert!(of("Fri, 31 Dec 2100 23:59:59 GMT").unwrap() > Duration::from_secs(86_400));
    assert_eq!(of("soon"), None);
}
