//! The HTTP API of a pipeline that runs, as far as commands need it: new weights, queries.
//!
//! What a reader would get wrong: a pipeline on this machine is known by its very certificate, which the command can read, so
//! that no name need fit; one at an address is known as browsers know it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use foreline_spec::ServePlan;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

mod trust;

/// How long the server may take: it compiles, and waits for its journal.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most bytes of an answer: that of a query, whose server has a smaller limit.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// The variable with the token.
const TOKEN: &str = "FORELINE_TOKEN";

/// A pipeline that runs.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Host and port.
    host: String,
    /// How to speak TLS with it, where it does.
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

impl Engine {
    /// The one of a pipeline on this machine, and its address.
    pub(crate) fn of(serve: &ServePlan) -> anyhow::Result<(Self, String)> {
        match &serve.tls {
            None => {
                let url = format!("http://{}", serve.listen);
                Ok((Engine::at(&url)?, url))
            }
            Some((cert, _)) => {
                let url = format!("https://{}", serve.listen);
                Ok((Engine::known_by(&url, Some(cert))?, url))
            }
        }
    }

    /// The one at `url`.
    pub(crate) fn at(url: &str) -> anyhow::Result<Self> {
        Engine::known_by(url, None)
    }

    /// The one at `url`, which shows the certificate in a file, or one that the system trusts.
    fn known_by(url: &str, cert: Option<&Path>) -> anyhow::Result<Self> {
        let plain = url.strip_prefix("http://").map(|rest| (rest, false));
        let (rest, has_tls) = plain
            .or_else(|| url.strip_prefix("https://").map(|rest| (rest, true)))
            .unwrap_or_default();
        let host = Some(rest.trim_end_matches('/'));
        let host =
            host.filter(|h| !h.is_empty() && !h.contains(['/', '@', '?', '#']) && h.is_ascii());
        let host = host.filter(|h| !h.contains(|c: char| c.is_whitespace() || c.is_control()));
        let Some(host) = host else {
            bail!("'{url}' is not like http://127.0.0.1:8080");
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_tls { 443 } else { 80 };
        let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        let tls = match (has_tls, cert) {
            (false, _) => None,
            (true, Some(cert)) => Some(trust::pinned(cert)?),
            (true, None) => Some(trust::usual()?),
        };
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            bail!("the token in {TOKEN} has characters that no token has");
        }
        Ok(Engine { host, tls, token })
    }

    /// Gives it a version of a model.
    pub(crate) fn give(&self, step: &str, version: &str, weights: &[u8]) -> anyhow::Result<()> {
        let path = format!("/api/v1/models/{step}/versions/{version}");
        self.ask("PUT", &path, "application/octet-stream", weights)
            .with_context(|| format!("failed to give '{step}' the version '{version}'"))
    }

    /// Has a version act.
    pub(crate) fn activate(&self, step: &str, version: &str) -> anyhow::Result<()> {
        let body = json!({ "version": version, "by": "foreline retrain" }).to_string();
        let path = format!("/api/v1/models/{step}/activate");
        self.ask("POST", &path, "application/json", body.as_bytes())
            .with_context(|| format!("failed to have '{version}' act in '{step}'"))
    }

    /// Asks for the rows of a query as an Arrow stream, at most so many.
    pub(crate) fn query(&self, sql: &str, rows: usize) -> anyhow::Result<Answered> {
        let body = json!({ "sql": sql, "limit": rows }).to_string();
        let kind = "application/json\r\naccept: application/vnd.apache.arrow.stream";
        self.request("POST", "/api/v1/query", kind, body.as_bytes())
    }

    /// What the server says of itself at `path`, as JSON.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answered = self.request("GET", path, "application/json", b"")?;
        answered.judged()?;
        serde_json::from_slice(&answered.body).context("the answer is no JSON")
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<()> {
        self.request(method, path, kind, body)?.judged()
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<Answered> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/_-.?=&".contains(c);
        if !path.chars().all(allowed) {
            bail!("'{path}' has characters that names do not have");
        }
        let tcp = TcpStream::connect(&self.host).with_context(|| self.host.clone())?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = trust::name(&self.host)?;
                let shaken = ClientConnection::new(Arc::clone(tls), name)?;
                Box::new(StreamOwned::new(shaken, tcp))
            }
        };
        let token = self.token.as_ref();
        let token = token.map_or(String::new(), |t| format!("authorization: Bearer {t}\r\n"));
        let (host, length) = (&self.host, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{token}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        // A server that refuses need not read all of it.
        let sent = stream.write_all(body);
        let mut answer = Vec::new();
        if let Err(e) = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer) {
            sent?;
            return Err(e.into());
        }
        Answered::read(&answer)
    }
}

/// A connection, encrypted or not.
trait Stream: std::io::Read + std::io::Write {}

impl<S: std::io::Read + std::io::Write> Stream for S {}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answered {
    status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    fn read(answer: &[u8]) -> anyhow::Result<Self> {
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.context("the server did not answer")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        let status = status.context("what answers is no HTTP server")?;
        Ok(Answered { status, head, body: answer[end + 4..].to_vec() })
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether it is a yes.
    pub(crate) fn judged(&self) -> anyhow::Result<()> {
        if self.status == 200 {
            return Ok(());
        }
        Err(anyhow!("{}: {}", self.status, self.detail()))
    }

    /// Why it is a no.
    pub(crate) fn detail(&self) -> String {
        let problem: Option<Value> = serde_json::from_slice(&self.body).ok();
        let detail = problem.as_ref().and_then(|p| p["detail"].as_str());
        detail.unwrap_or("no reason was given").to_owned()
    }

    /// Whether it is a yes.
    pub(crate) fn is_ok(&self) -> bool {
        self.status == 200
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_refused() {
        assert_eq!(Engine::at("http://127.0.0.1:8080/").unwrap().host, "127.0.0.1:8080");
        assert_eq!(Engine::at("http://pump").unwrap().host, "pump:80");
        assert_eq!(Engine::at("https://pump").unwrap().host, "pump:443");
        for wrong in
            ["ftp://x", "x:80", "https://", "http://", "http://a/b", "http://a b", "http://u@h"]
        {
            assert!(Engine::at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let judged = |answer: &str| Answered::read(answer.as_bytes())?.judged();
        assert!(judged("HTTP/1.1 200 OK\r\n\r\n{}").is_ok());
        let no = judged("HTTP/1.1 422 X\r\n\r\n{\"detail\":\"its outputs are y\"}").unwrap_err();
        assert_eq!(no.to_string(), "422: its outputs are y");
        assert!(judged("").is_err() && judged("nonsense\r\n\r\n").is_err());
    }
}
