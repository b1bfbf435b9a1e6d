//! A checked configuration: everything about a source that does not depend on its brokers.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use foreline_engine::{ConfigError, Extent, Resolver};
use schemars::JsonSchema;
use serde::Deserialize;

use super::topic::{BadTopic, Template};
use super::{MqttConfig, Retained, TlsFiles, Version};
use crate::format::{Format, PlannedFormat};
use crate::kind::{ColumnConfig, ColumnType, FieldRef, SourceInputs};
use crate::notify::is_loopback;

/// Longest client id: what every broker of 3.1.1 takes that takes more than 23 bytes.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// Most brokers of a source; each has a connection and a window of its own.
const BROKERS_MAX: usize = 64;
/// Largest packet that the protocol can say.
const PACKET_BYTES_MAX: u32 = 268_435_455;
/// What a packet has besides its payload: topic, properties, header.
const OVERHEAD_BYTES: u32 = 128 * 1024;
/// How often the journal syncs when messages never stop, for the ceiling that is told.
const SYNC_SECONDS: f64 = 0.005;
/// Messages a second that one processor takes: a ceiling above it limits nobody, and is not told.
const PROCESSOR_CEILING: f64 = 60_000.0;
/// Mosquitto's limit of unacknowledged messages unless it is told another.
const MOSQUITTO_WINDOW: u16 = 20;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    pub(super) fn new(text: String) -> Self {
        Password(text)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// What the envelope gives to a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// The level of the topic that the templates say.
    Level,
    Topic,
    Received,
    Retained,
    /// A user property of MQTT 5.
    Property(String),
}

/// Where certificates lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TlsPaths {
    pub(super) ca: Option<PathBuf>,
    /// Certificate and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) brokers: Vec<Address>,
    pub(super) templates: Vec<Template>,
    pub(super) client_id: String,
    /// Whether the broker keeps the session while nobody is connected.
    pub(super) keeps_session: bool,
    pub(super) version: Version,
    pub(super) qos: u8,
    pub(super) format: PlannedFormat,
    pub(super) is_sparkplug: bool,
    /// Whether births are among what is subscribed to, on Sparkplug's third level.
    pub(super) hears_births: bool,
    /// Whether Sparkplug edge nodes are asked for births that are missing.
    pub(super) asks_for_births: bool,
    /// Columns whose values come with the message, by place, and what each is.
    pub(super) given: Vec<(usize, Given)>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Password>,
    pub(super) tls: TlsPaths,
    pub(super) retained: Retained,
    pub(super) session_expiry_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) keep_alive: Duration,
    pub(super) max_message_bytes: usize,
    pub(super) max_packet_bytes: u32,
    pub(super) queue_bytes: usize,
}

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn new(
        config: &MqttConfig,
        inputs: &SourceInputs<'_>,
        resolver: &dyn Resolver,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes = Vec::new();
        let brokers = brokers(&config.urls, &mut mistakes);
        let templates = templates(&config.topics, inputs.columns, &mut mistakes);
        let client_id = or_note(client_id(config.client_id.as_deref()), &mut mistakes);
        check_limits(config, &mut mistakes);
        check_secrets(config, &brokers, &mut mistakes);
        let tls = tls(config.tls.as_ref(), resolver, &mut mistakes);
        let session_expiry = seconds("session_expiry", config.session_expiry, u32::MAX);
        let keep_alive = seconds("keep_alive", config.keep_alive, u32::from(u16::MAX) / 2);
        let session_expiry_s = or_note(session_expiry, &mut mistakes);
        let keep_alive_s = or_note(keep_alive, &mut mistakes);
        let given = given(inputs, &templates, config.version, &mut mistakes);
        let places: Vec<usize> = given.iter().map(|(column, _)| *column).collect();
        let format = match config.format.plan(inputs, &places) {
            Ok(format) => Some(format),
            Err(errors) => {
                let in_format = |e: ConfigError| match e.at.starts_with("columns.") {
                    true => e,
                    false => e.under("format"),
                };
                mistakes.extend(errors.into_iter().map(in_format));
                None
            }
        };
        // Whoever asks for births that do not come to it would ask for ever.
        let takes = |kind| templates.iter().any(|t| t.takes(2, kind));
        let hears_births = takes("NBIRTH") && takes("DBIRTH");
        let (Some(format), true) = (format, mistakes.is_empty()) else { return Err(mistakes) };
        Ok(Plan {
            brokers,
            templates,
            client_id,
            keeps_session: true,
            version: config.version,
            qos: config.qos,
            format,
            is_sparkplug: matches!(config.format, Format::Sparkplug(_)),
            hears_births,
            asks_for_births: hears_births
                && matches!(&config.format, Format::Sparkplug(o) if o.rebirth),
            given,
            username: config.username.clone(),
            password: config.password.clone(),
            tls,
            retained: config.retained,
            session_expiry_s,
            receive_maximum: config.receive_maximum,
            keep_alive: Duration::from_secs(u64::from(keep_alive_s)),
            max_message_bytes: config.max_message_bytes,
            max_packet_bytes: config.max_packet_bytes,
            queue_bytes: config.queue_bytes,
        })
    }

    /// The same for a client that only looks, as `who`: under an id of its own, with a session that ends with its
    /// connection, and without asking anybody for anything. A session of the plan's own id is left alone.
    pub(super) fn apart(&self, who: &str, qos: u8) -> Self {
        let random = RandomState::new().hash_one(who) >> 32;
        Plan {
            // All brokers of 3.1.1 take 23 bytes.
            client_id: format!("foreline-{who}-{random:08x}"),
            keeps_session: false,
            session_expiry_s: 0,
            asks_for_births: false,
            qos,
            ..self.clone()
        }
    }

    /// What the user should know before the source runs.
    pub(super) fn notes(&self) -> Vec<String> {
        let ceiling = |window: u16| f64::from(window) / SYNC_SECONDS;
        let mut notes = Vec::new();
        match (self.qos, self.version) {
            (0, _) => notes.push(
                "qos 0: what the network or a full queue loses is lost, and nobody sends it again"
                    .to_owned(),
            ),
            (_, Version::V5) if ceiling(self.receive_maximum) < PROCESSOR_CEILING => notes.push(format!(
                "the broker may have {} messages unacknowledged (receive_maximum); at one sync every 5 ms that is at most {} messages/s",
                self.receive_maximum,
                ceiling(self.receive_maximum)
            )),
            (_, Version::V5) => {}
            (_, Version::V4) => notes.push(format!(
                "the broker's own limit of unacknowledged messages applies, for Mosquitto {MOSQUITTO_WINDOW} (max_inflight_messages): at one sync every 5 ms that is at most {} messages/s",
                ceiling(MOSQUITTO_WINDOW)
            )),
        }
        if self.is_sparkplug && !self.hears_births {
            let note = "births are not among the topics: metrics that are named by alias only are dead letters; subscribe to all kinds of messages, as in 'spBv1.0/plant/+/#'";
            notes.push(note.to_owned());
        }
        if self.asks_for_births {
            let note = "edge nodes are asked for births that are missing, which takes the right to publish to 'spBv1.0/+/NCMD/+' (without it: `rebirth: false`)";
            notes.push(note.to_owned());
        }
        let plain = |a: &&Address| !a.is_tls && !is_loopback(&a.host);
        if self.password.is_some()
            && let Some(broker) = self.brokers.iter().find(plain)
        {
            notes.push(format!("the password goes to '{broker}' in plain text; use mqtts://"));
        }
        notes
    }
}

fn or_note<T: Default>(result: Result<T, ConfigError>, mistakes: &mut Vec<ConfigError>) -> T {
    result.map_err(|e| mistakes.push(e)).unwrap_or_default()
}

fn brokers(urls: &[String], mistakes: &mut Vec<ConfigError>) -> Vec<Address> {
    if urls.is_empty() || urls.len() > BROKERS_MAX {
        let message = format!("{} brokers are not between 1 and {BROKERS_MAX}", urls.len());
        mistakes.push(ConfigError::new("urls", message));
    }
    let mut found: Vec<Address> = Vec::new();
    for (i, url) in urls.iter().enumerate() {
        match address(url) {
            Ok(broker) if found.contains(&broker) => {
                mistakes.push(ConfigError::new(format!("urls[{i}]"), "the broker is there twice"));
            }
            Ok(broker) => found.push(broker),
            Err((message, help)) => {
                mistakes.push(ConfigError::new(format!("urls[{i}]"), message).help(help));
            }
        }
    }
    found
}

/// The address that a URL names, or what is wrong with it and what to do. The message does not quote a URL that may hold
/// a password.
pub(super) fn address(url: &str) -> Result<Address, (String, &'static str)> {
    const FORM: &str = "write mqtt://host:1883, or mqtts://host:8883 with TLS";
    let (is_tls, rest) = match url.split_once("://") {
        Some(("mqtt" | "tcp", rest)) => (false, rest),
        Some(("mqtts" | "ssl", rest)) => (true, rest),
        _ => return Err(("the address does not begin with mqtt:// or mqtts://".to_owned(), FORM)),
    };
    if rest.contains('@') {
        let message = "the address holds a user name or a password".to_owned();
        return Err((message, "use `username` and `password`, which are never printed"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bad = || (format!("'{url}' is not a broker's address"), FORM);
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').ok_or_else(bad)?;
            (host, port.strip_prefix(':'))
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let default = if is_tls { 8883 } else { 1883 };
    let port = port.map_or(Ok(default), str::parse).map_err(|_| bad())?;
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#');
    if host.is_empty() || port == 0 || host.contains(odd) {
        return Err(bad());
    }
    Ok(Address { host: host.to_owned(), port, is_tls })
}

fn templates(
    topics: &[String],
    columns: &[(String, ColumnConfig)],
    mistakes: &mut Vec<ConfigError>,
) -> Vec<Template> {
    if topics.is_empty() {
        let e = ConfigError::new("topics", "there is nothing to subscribe to");
        mistakes.push(e.help("name a topic, such as plant/+/vib"));
    }
    let mut found = Vec::new();
    for (i, topic) in topics.iter().enumerate() {
        match Template::parse(topic, columns) {
            Ok(template) => found.push(template),
            Err(BadTopic { message, help, unknown }) => {
                let e = ConfigError::new(format!("topics[{i}]"), message).help(help);
                let names = columns.iter().map(|(name, _)| name);
                mistakes.push(match unknown {
                    Some(name) => e.unknown(name, names),
                    None => e,
                });
            }
        }
    }
    found
}

fn client_id(id: Option<&str>) -> Result<String, ConfigError> {
    let id = id.unwrap_or_default();
    if id.is_empty() {
        let message =
            "without a client id the broker keeps nothing for the time when nobody is connected";
        return Err(ConfigError::new("client_id", message).help(
            "write `client_id: foreline-plant-1`, or another name that stays the same and is no other client's",
        ));
    }
    if id.len() > CLIENT_ID_BYTES_MAX || id.contains(|c: char| c.is_control()) {
        let message = format!("'{}' is not a client id", id.escape_debug());
        let help = format!("use at most {CLIENT_ID_BYTES_MAX} bytes without control characters");
        return Err(ConfigError::new("client_id", message).help(help));
    }
    Ok(id.to_owned())
}

fn check_limits(config: &MqttConfig, mistakes: &mut Vec<ConfigError>) {
    if config.qos == 2 {
        let message =
            "qos 2 needs a client that keeps its state across restarts, which this one does not";
        let help = "use qos 1 with `dedupe`, which is exactly-once from the device to the sink";
        mistakes.push(ConfigError::new("qos", message).help(help));
    } else if config.qos > 2 {
        mistakes.push(ConfigError::new("qos", format!("{} is not 0 or 1", config.qos)));
    }
    if config.receive_maximum == 0 {
        mistakes.push(ConfigError::new("receive_maximum", "0 messages would be none at all"));
    }
    let packet = config.max_packet_bytes;
    if packet > PACKET_BYTES_MAX {
        let message = format!("{packet} is more than MQTT can say, {PACKET_BYTES_MAX}");
        mistakes.push(ConfigError::new("max_packet_bytes", message));
    }
    let message = config.max_message_bytes;
    let room = usize::try_from(packet.saturating_sub(OVERHEAD_BYTES)).unwrap_or(usize::MAX);
    if message == 0 || message > room {
        let text = format!("{message} is not between 1 and {room}, which a packet has room for");
        let e = ConfigError::new("max_message_bytes", text);
        mistakes.push(e.help("raise `max_packet_bytes`, or lower this"));
    }
    if config.queue_bytes < packet as usize {
        let text = format!("{} is less than one packet, {packet}", config.queue_bytes);
        mistakes.push(
            ConfigError::new("queue_bytes", text).help("raise it, or lower `max_packet_bytes`"),
        );
    }
}

fn check_secrets(config: &MqttConfig, brokers: &[Address], mistakes: &mut Vec<ConfigError>) {
    if config.password.is_some() && config.username.is_none() {
        let e = ConfigError::new("password", "there is a password without a user name");
        mistakes.push(e.help("give `username` too"));
    }
    if config.tls.is_some() && !brokers.iter().any(|b| b.is_tls) && !brokers.is_empty() {
        let e = ConfigError::new("tls", "no broker is reached with TLS");
        mistakes.push(e.help("write its address as mqtts://"));
    }
}

pub(super) fn tls(
    files: Option<&TlsFiles>,
    resolver: &dyn Resolver,
    mistakes: &mut Vec<ConfigError>,
) -> TlsPaths {
    let Some(files) = files else { return TlsPaths::default() };
    let path = |text: &String| resolver.path(text.as_ref());
    let identity = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some((path(cert), path(key))),
        (None, None) => None,
        (cert, _) => {
            let (there, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let message = format!("there is no `{missing}` for it");
            mistakes.push(ConfigError::new(format!("tls.{there}"), message));
            None
        }
    };
    TlsPaths { ca: files.ca.as_ref().map(path), identity }
}

/// A duration in whole seconds, one at least.
pub(super) fn seconds(option: &str, extent: Extent, max: u32) -> Result<u32, ConfigError> {
    let whole = match extent {
        Extent::Nanos(n) if n > 0 && n % 1_000_000_000 == 0 => {
            u32::try_from(n / 1_000_000_000).ok()
        }
        _ => None,
    };
    whole.filter(|s| *s <= max).ok_or_else(|| {
        ConfigError::new(option, format!("'{extent}' is not a number of whole seconds up to {max}"))
            .help("give a duration such as 30s")
    })
}

/// The columns whose values come with the message.
fn given(
    inputs: &SourceInputs<'_>,
    templates: &[Template],
    version: Version,
    mistakes: &mut Vec<ConfigError>,
) -> Vec<(usize, Given)> {
    let mut found = Vec::new();
    for (index, (name, column)) in inputs.columns.iter().enumerate() {
        let is_level = templates.iter().any(|t| t.columns().any(|c| c == index));
        let error = |message: String| ConfigError::new(format!("columns.{name}.field"), message);
        let field = match &column.field {
            Some(FieldRef::Name(field)) if field.starts_with('#') => Some(field.as_str()),
            Some(_) if is_level => {
                let e = error("the column is a level of the topic, and no field".to_owned());
                mistakes.push(e.help("remove `field`, or write + in the topic"));
                continue;
            }
            _ => None,
        };
        if is_level && field.is_none() {
            found.push((index, Given::Level));
            continue;
        }
        let Some(field) = field else { continue };
        let (given, needed) = match field {
            "#topic" => (Given::Topic, ColumnType::String),
            "#received" => (Given::Received, ColumnType::Timestamp),
            "#retained" => (Given::Retained, ColumnType::Bool),
            _ => match field.strip_prefix("#property.") {
                Some(property) if version == Version::V5 => {
                    found.push((index, Given::Property(property.to_owned())));
                    continue;
                }
                Some(_) => {
                    mistakes.push(error("messages of MQTT 3.1.1 have no properties".to_owned()));
                    continue;
                }
                // The format knows it, or says that nobody does.
                None => continue,
            },
        };
        if column.data_type == needed {
            found.push((index, given));
        } else {
            let word = format!("{needed:?}").to_lowercase();
            mistakes.push(
                error(format!("'{field}' is a {word}"))
                    .help(format!("give the column the type {word}")),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = |url: &str| address(url).unwrap().to_string();
        assert_eq!(good("mqtt://broker"), "mqtt://broker:1883");
        assert_eq!(good("mqtts://broker/"), "mqtts://broker:8883");
        assert_eq!(good("mqtt://[::1]:7"), "mqtt://[::1]:7");
        for bad in [
            "broker",
            "http://b",
            "mqtt://",
            "mqtt://b:x",
            "mqtt://b:0",
            "mqtt://b/c",
            "mqtt://[::1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let (message, _) = address("mqtt://me:secret@b").unwrap_err();
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(format!("{:?}", Password("secret".to_owned())), "***");
    }
}
