//! Messages as signed HTTP requests, in the form of Standard Webhooks.
//!
//! What a reader would get wrong:
//!
//! * A message counts as delivered with a 2xx answer, and as refused for good with a 4xx other than 408, 425 and 429. All else
//!   is tried again, a redirect too: it is never followed, since that would send rows and signature to another address.
//! * The signature covers the id, the time of this very try and the body. The id is the same for each try, so a receiver that
//!   keeps ids takes every message once.
//! * The URL is a secret: those of chat services let anybody who has them post.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foreline_engine::{Clock as _, ConfigError, Resolver, SystemClock};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;

use crate::kind::{PlannedSink, Probe, SinkInputs, SinkKind};
use crate::notify::{
    Channel, Kind, Notice, Origin, Outcome, is_loopback, mistake, notify_config, origin, planned,
    reach,
};
use crate::objects::Hidden;

#[cfg(test)]
mod tests;

/// How secrets of Standard Webhooks begin; base64 follows.
const SECRET_PREFIX: &str = "whsec_";
/// Shortest key of a signature.
const SECRET_BYTES_MIN: usize = 16;
/// Statuses of a receiver that may take the message later, among those of the client's mistakes.
const PASSING: [u16; 3] = [408, 425, 429];
/// Headers that the sink writes itself.
const OUR_HEADERS: [&str; 7] = [
    "content-type",
    "content-length",
    "host",
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

notify_config! {
    /// Sends messages to a URL.
    WebhookConfig {
        /// Where they are sent, `https://…`. It may hold a token, so it is never printed; take it from outside the file, as in
        /// `${env:HOOK_URL}`.
        url: Hidden,
        /// How they are sent. Default `POST`.
        #[serde(default)]
        method: Method,
        /// Headers of each request, such as `Authorization`. Their values are never printed.
        #[serde(default)]
        headers: BTreeMap<String, Hidden>,
        /// The key that requests are signed with, as in `${env:HOOK_SECRET}`: `whsec_` and base64, or any text of 16 bytes or
        /// more.
        #[serde(default)]
        secret: Option<Hidden>,
        /// A PEM file of the authorities that the receiver's certificate may come from, beside those of the system.
        #[serde(default)]
        ca_file: Option<PathBuf>,
    }
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Method {
    /// `POST`.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// `PUT`.
    #[serde(rename = "PUT")]
    Put,
}

/// The kind of sink that sends webhooks.
#[derive(Debug)]
pub struct Webhook;

impl SinkKind for Webhook {
    type Config = WebhookConfig;
    const NAME: &'static str = "webhook";
    const SUMMARY: &'static str = "sends rows as signed HTTP requests, such as alerts to a chat";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        let mut found = Vec::new();
        let rules = config.common().check(inputs.schema).map_err(|e| found.extend(e)).ok();
        let url = url(config.url.expose()).map_err(|e| found.push(e)).ok();
        let key = config.secret.as_ref().map(key).transpose().map_err(|e| found.push(e));
        let headers = headers(&config.headers).map_err(|e| found.extend(e)).ok();
        let (Some(rules), Some(url), Ok(key), Some(headers), true) =
            (rules, url, key, headers, found.is_empty())
        else {
            return Err(found);
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let in_clear = url.scheme() == "http" && !is_loopback(&host);
        let receiver = Receiver {
            shown: format!("{}://{host}:{port}", url.scheme()),
            url,
            method: config.method,
            headers,
            key,
            ca_file: config.ca_file.as_ref().map(|file| given.path(file)),
            timeout: rules.timeout,
            origin: origin(inputs),
        };
        let probe: Probe = Arc::new(move || reach(&host, port));
        let kind = Kind {
            receiver: format!("webhook {}", receiver.shown),
            notes: notes(config, in_clear, &receiver.shown),
            channel: Arc::new(move || Ok(Box::new(Hook::new(&receiver)?) as Box<dyn Channel>)),
            probe: Some(probe),
        };
        Ok(planned(kind, rules, &config.spool, inputs, given))
    }
}

fn notes(config: &WebhookConfig, in_clear: bool, shown: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if in_clear {
        let what = match (&config.secret, config.headers.is_empty()) {
            (Some(_), _) => "messages go in plain text, and whoever reads one may send it again",
            (None, false) => "messages and headers go in plain text",
            (None, true) => "messages go in plain text",
        };
        notes.push(format!("{what}: '{shown}' is not https"));
    }
    notes
}

fn url(text: &str) -> Result<Url, ConfigError> {
    const HELP: &str = "write https://host/path";
    // The text is not quoted: it may hold a token.
    let url = Url::parse(text).map_err(|e| mistake("url", format!("it is no URL: {e}"), HELP))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(mistake("url", "it is not the address of an HTTP server", HELP));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help = "use `headers: { Authorization: … }`, which is never printed";
        return Err(mistake("url", "it holds a user name or a password", help));
    }
    Ok(url)
}

fn key(secret: &Hidden) -> Result<Vec<u8>, ConfigError> {
    let text = secret.expose();
    let key = match text.strip_prefix(SECRET_PREFIX) {
        None => text.as_bytes().to_vec(),
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
            let message = format!("what follows '{SECRET_PREFIX}' is not base64");
            mistake("secret", message, "copy the whole secret, with its last =")
        })?,
    };
    if key.len() < SECRET_BYTES_MIN {
        let message = format!("{} bytes can be guessed", key.len());
        let help = "use at least 16 random bytes, as `openssl rand -base64 24` makes them";
        return Err(mistake("secret", message, help));
    }
    Ok(key)
}

fn headers(given: &BTreeMap<String, Hidden>) -> Result<HeaderMap, Vec<ConfigError>> {
    let (mut all, mut found) = (HeaderMap::new(), Vec::new());
    for (name, value) in given {
        let at = format!("headers.{name}");
        let error = |message: String| ConfigError::new(at.clone(), message);
        let Ok(key) = HeaderName::from_bytes(name.as_bytes()) else {
            found.push(error(format!("'{name}' is not the name of a header")));
            continue;
        };
        if OUR_HEADERS.contains(&key.as_str()) {
            found.push(error(format!("the sink writes '{name}' itself")));
        }
        match HeaderValue::from_str(value.expose()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                all.insert(key, value);
            }
            Err(_) => found.push(error("the value has characters that no header has".to_owned())),
        }
    }
    if found.is_empty() { Ok(all) } else { Err(found) }
}

/// Who gets the requests, checked.
struct Receiver {
    url: Url,
    /// Scheme, host and port.
    shown: String,
    method: Method,
    headers: HeaderMap,
    key: Option<Vec<u8>>,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    origin: Origin,
}

/// The way to a receiver. Each request has a connection of its own: nobody looks after an idle one.
struct Hook {
    client: Client,
    runtime: tokio::runtime::Runtime,
    url: Url,
    shown: String,
    method: reqwest::Method,
    headers: HeaderMap,
    key: Option<Vec<u8>>,
    origin: Origin,
}

impl Hook {
    fn new(receiver: &Receiver) -> Result<Self, String> {
        let mut builder = Client::builder()
            .timeout(receiver.timeout)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .use_rustls_tls()
            .user_agent(concat!("foreline/", env!("CARGO_PKG_VERSION")));
        for certificate in receiver.ca_file.iter().map(|file| authorities(file)) {
            builder = certificate?.into_iter().fold(builder, |b, c| b.add_root_certificate(c));
        }
        let client = builder.build().map_err(|e| format!("HTTP cannot be set up: {e}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Hook {
            client,
            runtime: runtime.map_err(|e| format!("no thread for the network: {e}"))?,
            url: receiver.url.clone(),
            shown: receiver.shown.clone(),
            method: match receiver.method {
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
            },
            headers: receiver.headers.clone(),
            key: receiver.key.clone(),
            origin: receiver.origin.clone(),
        })
    }

    fn send(&self, notice: &Notice) -> Outcome {
        let body = notice.json(&self.origin);
        let stamp = SystemClock.now_ns() / 1_000_000_000;
        let mut request = self
            .client
            .request(self.method.clone(), self.url.clone())
            .headers(self.headers.clone())
            .header("content-type", "application/json")
            .header("idempotency-key", &notice.id)
            .header("webhook-id", &notice.id)
            .header("webhook-timestamp", stamp);
        if let Some(key) = &self.key {
            let signature = sign(key, &notice.id, stamp, &body);
            request = request.header("webhook-signature", signature);
        }
        // What the body of the answer says is nobody's business here; the status decides.
        match self.runtime.block_on(async { request.body(body).send().await }) {
            Ok(answer) => judged(answer.status(), answer.headers(), &self.shown),
            Err(error) => {
                let why = told(&error.without_url());
                Outcome::Retry(format!("'{}' cannot be reached: {why}", self.shown), None)
            }
        }
    }
}

impl Channel for Hook {
    fn deliver(&mut self, notices: &[Notice]) -> Vec<Outcome> {
        notices.iter().map(|notice| self.send(notice)).collect()
    }
}

fn authorities(file: &std::path::Path) -> Result<Vec<reqwest::Certificate>, String> {
    let unreadable =
        |e: &dyn std::fmt::Display| format!("'{}' cannot be read: {e}", file.display());
    let pem = std::fs::read(file).map_err(|e| unreadable(&e))?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(&e))
}

/// What an answer means.
fn judged(status: StatusCode, headers: &HeaderMap, shown: &str) -> Outcome {
    let said = format!("'{shown}' answers {status}");
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        300..=399 => {
            Outcome::Retry(format!("{said}: redirects are not followed, change `url`"), None)
        }
        code @ 400..=499 if !PASSING.contains(&code) => Outcome::Refused(said),
        _ => Outcome::Retry(said, retry_after(headers)),
    }
}

/// How long the receiver asks to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp();
    let left = at.saturating_sub(SystemClock.now_ns() / 1_000_000_000);
    u64::try_from(left).ok().map(Duration::from_secs)
}

/// The signature of Standard Webhooks, version 1.
fn sign(key: &[u8], id: &str, stamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(format!("{id}.{stamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
