//! Lines to a source over HTTP, many a request.

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::{Lines, PATIENCE};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before a request that found nobody goes out again.
const PAUSE: Duration = Duration::from_millis(500);
/// Most bytes of an answer that are shown.
const SHOWN_BYTES: usize = 500;

pub(super) struct HttpFeed {
    client: Client,
    url: Url,
    token: Option<HeaderValue>,
}

impl HttpFeed {
    pub(super) fn open(url: &str) -> Result<Self, String> {
        let bad = |e: &dyn std::fmt::Display| format!("'{url}' cannot be sent to: {e}");
        let address = Url::parse(url).map_err(|e| bad(&e))?;
        if !address.username().is_empty() || address.password().is_some() {
            return Err(
                "the address holds a user name or a password; FORELINE_TOKEN has the token"
                    .to_owned(),
            );
        }
        let token = std::env::var("FORELINE_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let mut token = token.transpose().map_err(|_| {
            "the token in FORELINE_TOKEN has characters that no token has".to_owned()
        })?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .use_rustls_tls()
            .user_agent(concat!("foreline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| bad(&e))?;
        Ok(HttpFeed { client, url: address, token })
    }

    /// Sends lines until they are taken. A body of which no line can be used counts as taken: the source has looked at it.
    pub(super) async fn send(&self, lines: &Lines) -> Result<(), String> {
        let body = lines.csv();
        let key = Sha256::digest(body.as_bytes());
        let key = key.iter().take(16).fold(String::new(), |mut key, byte| {
            // Writing to a string does not fail.
            write!(key, "{byte:02x}").ok();
            key
        });
        let until = Instant::now() + PATIENCE;
        loop {
            let mut request = self
                .client
                .post(self.url.clone())
                .header("content-type", "text/csv")
                .header("idempotency-key", &key);
            if let Some(token) = &self.token {
                request = request.header("authorization", token);
            }
            let (why, pause) = match request.body(body.clone()).send().await {
                Ok(answer) => {
                    let (status, wait) = (answer.status(), answer.headers().get(RETRY_AFTER));
                    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
                    let pause = wait.map_or(PAUSE, Duration::from_secs);
                    let said = answer.text().await.unwrap_or_default();
                    match status {
                        StatusCode::UNPROCESSABLE_ENTITY if said.contains("nothing-usable") => {
                            return Ok(());
                        }
                        status if status.is_success() => return Ok(()),
                        StatusCode::REQUEST_TIMEOUT
                        | StatusCode::CONFLICT
                        | StatusCode::TOO_MANY_REQUESTS => (said, pause),
                        status if status.is_server_error() => (said, pause),
                        status => {
                            let said: String = said.chars().take(SHOWN_BYTES).collect();
                            return Err(format!("'{}' answers {status}: {said}", self.url));
                        }
                    }
                }
                Err(error) => (error.without_url().to_string(), PAUSE),
            };
            if Instant::now() + pause > until {
                let why: String = why.chars().take(SHOWN_BYTES).collect();
                let seconds = PATIENCE.as_secs();
                return Err(format!("'{}' took nothing for {seconds} s: {why}", self.url));
            }
            sleep(pause).await;
        }
    }
}
