//! The `serve` section: safe unless it is said otherwise, and there where a source needs it.

use std::net::SocketAddr;
use std::time::Duration;

use foreline_engine::Extent;

use crate::diagnostic::{Code, Diagnostic};
use crate::file::OtlpConfig;
use crate::plan::{OtlpPlan, ServePlan};
use crate::planner::Planner;
use crate::secret::Secret;
use crate::yaml::{Node, Span, Value};

/// A token that is shorter could be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// Every request from elsewhere is compared with all of them.
const ORIGINS_MAX: usize = 32;

/// More often would be work for nothing, less often a collector takes the process for dead.
const OTLP_INTERVAL_MIN: i64 = 100_000_000;
const OTLP_INTERVAL_MAX: i64 = 3_600_000_000_000;

impl Planner<'_> {
    pub(super) fn serve(&mut self) {
        let file = self.file;
        let Some((config, entry)) = &file.serve else { return self.needs_server() };
        let (node, owner) = (&entry.value, entry.key_span);
        let span = node.place("listen", owner);
        let Some(listen) = address(&config.listen) else {
            let message = format!("'{}' is not an address and a port", config.listen);
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out
                .push(error.help("write the address of a network card, such as 127.0.0.1:8080"));
            return;
        };
        let tokens = self.tokens(&config.tokens, node, owner);
        if !listen.ip().is_loopback() {
            // With accounts it is for the run to see that there is one.
            if config.tokens.is_empty() && node.get("accounts").is_none() {
                let message = format!("others can reach '{listen}', and anybody may use it");
                let error = Diagnostic::error(Code::CONFIGURATION, span, message);
                self.out.push(
                    error.help("write accounts: {} and make one with 'foreline user add', or tokens: [\"${env:FORELINE_TOKEN}\"], or listen on 127.0.0.1"),
                );
            }
            if config.tls.is_none() {
                let note = "tokens and rows cross the network in the clear: write tls: { cert: ..., key: ... }, or put a proxy that speaks TLS before it";
                self.out.push(Diagnostic::warning(Code::NOTE, span, note));
            }
        }
        let origins = self.origins(&config.cors, node, owner);
        let signup = config.accounts.signup;
        let postgres = config.postgres.as_deref();
        let has_tls = config.tls.is_some();
        let place = node.place("postgres", owner);
        let postgres = postgres.and_then(|at| self.postgres(at, has_tls, place));
        let tls = config
            .tls
            .as_ref()
            .map(|tls| (self.given.folder.join(&tls.cert), self.given.folder.join(&tls.key)));
        let otlp = config.otlp.as_ref().and_then(|otlp| self.otlp(otlp, node.get("otlp"), owner));
        let routes = self.routes(&config.routes, node, owner);
        self.plan.serve =
            Some(ServePlan { listen, tokens, signup, otlp, tls, postgres, origins, routes });
    }

    /// Where telemetry goes.
    fn otlp(&mut self, config: &OtlpConfig, node: Option<&Node>, owner: Span) -> Option<OtlpPlan> {
        let place = |name: &str| node.map_or(owner, |node| node.place(name, owner));
        let host =
            config.url.strip_prefix("https://").or_else(|| config.url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', '@'])) {
            let message = format!("'{}' is not the address of a collector", config.url);
            let error = Diagnostic::error(Code::BAD_VALUE, place("url"), message);
            self.out.push(
                error.help("write it like http://127.0.0.1:4318, the port for OTLP over HTTP"),
            );
            return None;
        }
        let Extent::Nanos(interval @ OTLP_INTERVAL_MIN..=OTLP_INTERVAL_MAX) = config.interval
        else {
            let message = format!("'{}' is not from 100ms to 1h", config.interval);
            let error = Diagnostic::error(Code::BAD_VALUE, place("interval"), message);
            self.out.push(error);
            return None;
        };
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), Secret::new(value)));
        Some(OtlpPlan {
            url: config.url.clone(),
            headers: headers.collect(),
            interval: Duration::from_nanos(interval.unsigned_abs()),
            signals: config.signals.clone(),
        })
    }

    /// Where the PostgreSQL wire listens. Its passwords are not encrypted but by TLS.
    fn postgres(&mut self, text: &str, has_tls: bool, span: Span) -> Option<SocketAddr> {
        let error = match address(text) {
            Some(at) if has_tls || at.ip().is_loopback() => return Some(at),
            Some(at) => {
                let message = format!(
                    "others can reach '{at}', and passwords would cross the network in the clear"
                );
                let error = Diagnostic::error(Code::CONFIGURATION, span, message);
                error.help("write tls: { cert: ..., key: ... } in the same section, or listen on 127.0.0.1")
            }
            None => {
                let message = format!("'{text}' is not an address and a port");
                let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                error.help("write an address of this machine, such as 127.0.0.1:5433")
            }
        };
        self.out.push(error);
        None
    }

    fn tokens(&mut self, tokens: &[String], node: &Node, owner: Span) -> Vec<Secret> {
        let written = node.get("tokens").map(Node::items).unwrap_or_default();
        for (i, token) in tokens.iter().enumerate() {
            let span = node.place(&format!("tokens[{i}]"), owner);
            if token.chars().count() < TOKEN_CHARS_MIN {
                let message = format!("a token has fewer than {TOKEN_CHARS_MIN} characters");
                let error = Diagnostic::error(Code::BAD_VALUE, span, message);
                self.out.push(error.help("make one with: head -c 32 /dev/urandom | base64"));
            } else if matches!(written.get(i).map(|n| &n.value), Some(Value::Text(_))) {
                let note = "a token stands in the file: whoever reads the file has it";
                let warning = Diagnostic::warning(Code::NOTE, span, note);
                self.out.push(warning.help("write \"${env:NAME}\" or \"${file:/path}\" instead"));
            }
        }
        tokens.iter().map(Secret::new).collect()
    }

    /// Origins as a browser names them; one that is written otherwise would never be met.
    fn origins(&mut self, origins: &[String], node: &Node, owner: Span) -> Vec<String> {
        for (i, origin) in origins.iter().enumerate().filter(|(_, origin)| !is_origin(origin)) {
            let span = node.place(&format!("cors[{i}]"), owner);
            let message = format!("'{origin}' is not an origin");
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out.push(error.help(
                "write scheme and host as a browser does, in lower case and without a path, such as https://board.example",
            ));
        }
        if origins.len() > ORIGINS_MAX {
            let message = format!("{} origins; at most {ORIGINS_MAX} are let in", origins.len());
            let span = node.place("cors", owner);
            self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
        }
        origins.to_vec()
    }

    /// Reports sources that nothing could reach.
    fn needs_server(&mut self) {
        let file = self.file;
        let pushed = self.plan.sources.iter().filter(|s| s.is_own() && s.source.door.is_some());
        for source in pushed {
            let sources = file.sources.iter().map(|b| (b.name, b.name_span));
            let references = file.references.iter().map(|b| (b.name, b.name_span));
            let block = sources.chain(references).find(|(name, _)| *name == source.name);
            let span = block.map_or(Span::default(), |(_, span)| span);
            let message = format!("rows are pushed into '{}', and nothing listens", source.name);
            let error = Diagnostic::error(Code::CONFIGURATION, span, message);
            self.out.push(error.help("add a section: serve: { listen: 127.0.0.1:8080 }"));
        }
    }
}

/// Whether a browser would name an origin so: `*` would let every page on the web in.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
    host.is_some_and(|host| {
        let has_default_port = (text.starts_with("https:") && host.ends_with(":443"))
            || (text.starts_with("http:") && host.ends_with(":80"));
        !host.is_empty() && host.chars().all(is_plain) && !has_default_port
    })
}

/// An address and a port; `localhost` is this machine's own address whatever the names of the system say.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for right in ["https://board.example", "http://127.0.0.1:3000", "http://[::1]:3000"] {
            assert!(is_origin(right), "{right}");
        }
        for wrong in [
            "*",
            "",
            "board.example",
            "https://",
            "https://board.example/",
            "https://Board.example",
            "https://board.example:443",
            "null",
            "ftp://board.example",
        ] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }
}
