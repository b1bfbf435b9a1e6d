//! Messages as e-mail, one connection a message.
//!
//! What a reader would get wrong:
//!
//! * A message counts as delivered when the server has answered 250 to its end; what becomes of it behind that server is the
//!   server's business. 5xx is a refusal for good, but for those that are about our password (530, 534, 535, 538).
//! * With `starttls` nothing is said, no password above all, to a server that does not offer it.
//! * `Message-ID` is made of the message's id, so a mailbox that gets it twice may show it once.

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{ConfigError, Resolver};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error, SmtpTransport};
use lettre::{Message as Mail, Transport as _};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{PROBE_TIME, PlannedSink, Probe, SinkInputs, SinkKind};
use crate::notify::{Channel, Kind, Notice, Outcome, is_loopback, mistake, notify_config, planned};
use crate::objects::Hidden;

#[cfg(test)]
mod tests;

/// Most addresses of a message; servers refuse more than a hundred.
const TO_MAX: usize = 100;
/// Replies that are about who we are, not about the message.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

notify_config! {
    /// Sends messages by e-mail.
    EmailConfig {
        /// The mail server.
        host: String,
        /// Its port. Default: 587 with `starttls`, 465 with `implicit`, 25 with `none`.
        #[serde(default)]
        port: Option<u16>,
        /// How the connection is encrypted.
        #[serde(default)]
        tls: Encryption,
        /// The user name.
        #[serde(default)]
        user: Option<String>,
        /// The password; take it from outside the file, as in `${env:SMTP_PASSWORD}`.
        #[serde(default)]
        password: Option<Hidden>,
        /// The sender, as `foreline@plant.example` or `Foreline <foreline@plant.example>`.
        from: String,
        /// Who gets each message, 1 to 100 addresses.
        to: Vec<String>,
        /// A PEM file with the authority that the server's certificate comes from, beside those of the system.
        #[serde(default)]
        ca_file: Option<PathBuf>,
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// It begins in plain text and must change to TLS before anything else is said.
    #[default]
    Starttls,
    /// It is TLS from the start.
    Implicit,
    /// Not at all, for a server on this machine.
    None,
}

/// The kind of sink that sends e-mail.
#[derive(Debug)]
pub struct Email;

impl SinkKind for Email {
    type Config = EmailConfig;
    const NAME: &'static str = "email";
    const SUMMARY: &'static str = "sends rows by e-mail, such as alerts to people on call";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        let mut found = Vec::new();
        let rules = config.common().check(inputs.schema).map_err(|e| found.extend(e)).ok();
        let server = Server::check(config, given, &mut found);
        let (Some(rules), Some(server), true) = (rules, server, found.is_empty()) else {
            return Err(found);
        };
        let server = Server { timeout: rules.timeout, ..server };
        let in_clear = config.tls == Encryption::None && !is_loopback(&server.host);
        let mut notes = Vec::new();
        if in_clear {
            let what = if config.password.is_some() { "password and messages" } else { "messages" };
            notes.push(format!("{what} go in plain text; use tls: starttls or implicit"));
        }
        let probed = Server { timeout: PROBE_TIME / 3, ..server.clone() };
        let probe: Probe = Arc::new(move || probed.probe());
        let kind = Kind {
            receiver: format!(
                "e-mail to {} by {}:{}",
                config.to.join(", "),
                server.host,
                server.port
            ),
            notes,
            channel: Arc::new(move || Ok(Box::new(Post::new(&server)?) as Box<dyn Channel>)),
            probe: Some(probe),
        };
        Ok(planned(kind, rules, &config.spool, inputs, given))
    }
}

/// A mail server and who is on the envelope, checked.
#[derive(Debug, Clone)]
struct Server {
    host: String,
    port: u16,
    tls: Encryption,
    credentials: Option<(String, Hidden)>,
    ca_file: Option<PathBuf>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: std::time::Duration,
}

impl Server {
    fn check(
        config: &EmailConfig,
        given: &dyn Resolver,
        found: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@');
        if config.host.is_empty() || config.host.contains(odd) {
            let message = format!("'{}' is not a host", config.host);
            found.push(mistake("host", message, "write a name such as mail.plant.example"));
        }
        if config.to.is_empty() || config.to.len() > TO_MAX {
            let message = format!("{} addresses are not between 1 and {TO_MAX}", config.to.len());
            found.push(ConfigError::new("to", message));
        }
        let credentials = match (&config.user, &config.password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) => {
                found.push(mistake("user", "there is no `password` for it", "give both or none"));
                None
            }
            (None, Some(_)) => {
                found.push(mistake("password", "there is no `user` for it", "give both or none"));
                None
            }
        };
        let from = mailbox("from", &config.from).map_err(|e| found.push(e)).ok();
        let address = |(i, text): (usize, &String)| mailbox(&format!("to[{i}]"), text);
        let to = config.to.iter().enumerate().map(address);
        let to: Vec<_> = to.filter_map(|m| m.map_err(|e| found.push(e)).ok()).collect();
        Some(Server {
            host: config.host.clone(),
            port: config.port.unwrap_or(match config.tls {
                Encryption::Starttls => 587,
                Encryption::Implicit => 465,
                Encryption::None => 25,
            }),
            tls: config.tls,
            credentials,
            ca_file: config.ca_file.as_ref().map(|file| given.path(file)),
            from: from?,
            to,
            timeout: std::time::Duration::ZERO,
        })
    }

    fn transport(&self) -> Result<SmtpTransport, String> {
        let tls = match self.tls {
            Encryption::None => Tls::None,
            Encryption::Starttls => Tls::Required(self.parameters()?),
            Encryption::Implicit => Tls::Wrapper(self.parameters()?),
        };
        let mut builder = SmtpTransport::builder_dangerous(&self.host)
            .port(self.port)
            .timeout(Some(self.timeout))
            .tls(tls);
        if let Some((user, password)) = &self.credentials {
            let password = password.expose().to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(builder.build())
    }

    fn parameters(&self) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.ca_file {
            let unreadable =
                |e: &dyn std::fmt::Display| format!("'{}' cannot be read: {e}", file.display());
            let pem = std::fs::read(file).map_err(|e| unreadable(&e))?;
            let authority = Certificate::from_pem(&pem).map_err(|e| unreadable(&e))?;
            builder = builder.add_root_certificate(authority);
        }
        builder.build().map_err(|e| format!("TLS cannot be set up: {e}"))
    }

    /// Says hello, with the password, and goodbye.
    fn probe(&self) -> Result<String, String> {
        let (host, port) = (&self.host, self.port);
        match self.transport()?.test_connection() {
            Ok(true) => Ok(format!("{host}:{port} takes us; nothing was sent")),
            Ok(false) => Err(format!("{host}:{port} answers and does not take us")),
            Err(error) => Err(format!("{host}:{port}: {}", told(&error))),
        }
    }
}

fn mailbox(at: &str, text: &str) -> Result<Mailbox, ConfigError> {
    text.parse().map_err(|_| {
        let message = format!("'{text}' is not an e-mail address");
        mistake(at, message, "write name@host, or Name <name@host>")
    })
}

/// The way to a mail server.
struct Post {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
    shown: String,
}

impl Post {
    fn new(server: &Server) -> Result<Self, String> {
        Ok(Post {
            transport: server.transport()?,
            from: server.from.clone(),
            to: server.to.clone(),
            shown: format!("{}:{}", server.host, server.port),
        })
    }

    fn mail(&self, notice: &Notice) -> Result<Mail, String> {
        let id = format!("<{}@{}>", notice.id, self.from.email.domain());
        let builder = Mail::builder()
            .message_id(Some(id))
            .from(self.from.clone())
            .subject(notice.subject())
            .header(ContentType::TEXT_PLAIN);
        let builder = self.to.iter().fold(builder, |b, to| b.to(to.clone()));
        builder.body(notice.text()).map_err(|e| format!("no e-mail can be made of it: {e}"))
    }

    fn send(&self, notice: &Notice) -> Outcome {
        let mail = match self.mail(notice) {
            Ok(mail) => mail,
            Err(why) => return Outcome::Refused(why),
        };
        match self.transport.send(&mail) {
            Ok(_) => Outcome::Delivered,
            Err(error) => judged(&error, &self.shown),
        }
    }
}

impl Channel for Post {
    fn deliver(&mut self, notices: &[Notice]) -> Vec<Outcome> {
        notices.iter().map(|notice| self.send(notice)).collect()
    }
}

/// What a failure means.
fn judged(error: &Error, shown: &str) -> Outcome {
    let said = format!("'{shown}': {}", told(error));
    let code = error.status().map(u16::from);
    match code {
        Some(code) if error.is_permanent() && !ABOUT_US.contains(&code) => Outcome::Refused(said),
        _ => Outcome::Retry(said, None),
    }
}

/// An error with its cause. Servers do not repeat passwords, and the library does not either.
fn told(error: &Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(cause) if !error.to_string().contains(&cause.to_string()) => {
            format!("{error}: {cause}")
        }
        _ => error.to_string(),
    }
}
