//! The sink: messages published to a broker, with quality 1 unless told otherwise.
//!
//! What a reader would get wrong:
//!
//! * A message counts as delivered when the broker has acknowledged it; whether somebody has subscribed is not known.
//! * Values that become levels of a topic cannot make more levels or wildcards: `+`, `#`, `/` and control characters are `_`.
//! * The session is a clean one: what is not acknowledged is in the spool, not in the broker's memory of us.

use std::sync::Arc;

use foreline_engine::{ConfigError, Extent, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use super::plan::{Address, Password, address, seconds, tls};
use super::publisher::{Publisher, Way};
use super::session::Settings;
use super::{TlsFiles, Version, tls as certificates};
use crate::kind::{PlannedSink, Probe, SinkInputs, SinkKind};
use crate::notify::{
    Channel, Kind, Template, is_loopback, mistake, notify_config, origin, planned, reach,
};

/// Messages that may be unacknowledged.
const OUTGOING_MAX: u16 = 100;
/// Largest packet that we take: acknowledgements.
const PACKET_BYTES_MAX: u32 = 1 << 20;

notify_config! {
    /// Publishes messages to an MQTT broker.
    MqttTopicsConfig {
        /// The broker, as `mqtt://host:1883` or with TLS `mqtts://host:8883`.
        url: String,
        /// Where messages are published. `{column}` stands for a value, as in `alerts/{machine}`; in a value `+`, `#`, `/` and
        /// control characters become `_`, and no value at all is `-`.
        topic: String,
        /// The quality of service: 1 (default) for at least once, 0 for at most once.
        #[serde(default = "one")]
        qos: u8,
        /// Whether the broker keeps the last message of each topic for those who subscribe later.
        #[serde(default)]
        retain: bool,
        /// What is published.
        #[serde(default)]
        payload: Published,
        /// The name under which the broker knows the sink; the name of the stream is put behind it. Default:
        /// `foreline-PIPELINE-SINK`.
        #[serde(default)]
        client_id: Option<String>,
        /// The version of the protocol.
        #[serde(default)]
        version: Version,
        /// The user name.
        #[serde(default)]
        username: Option<String>,
        /// The password; take it from outside the file, as in `${env:MQTT_PASSWORD}`.
        #[serde(default)]
        password: Option<Password>,
        /// Certificates, for a broker with `mqtts://`.
        #[serde(default)]
        tls: Option<TlsFiles>,
        /// After so long without a sign of life the connection is tested, and after as long again given up. Default `15s`.
        #[serde(default = "fifteen_seconds")]
        keep_alive: Extent,
    }
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    /// The row as a JSON object, with the message's `id` unless it has a column of that name; a list of them where several
    /// messages go out as one.
    #[default]
    Row,
    /// What a webhook gets: `id`, `pipeline`, `sink`, `stream`, `rows`, `ids` and `text`.
    Envelope,
}

fn one() -> u8 {
    1
}

fn fifteen_seconds() -> Extent {
    Extent::Nanos(15_000_000_000)
}

/// The kind of sink that publishes to an MQTT broker.
#[derive(Debug)]
pub struct MqttTopics;

impl SinkKind for MqttTopics {
    type Config = MqttTopicsConfig;
    const NAME: &'static str = "mqtt";
    const SUMMARY: &'static str = "publishes rows to an MQTT broker, version 3.1.1 or 5";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        let mut found = Vec::new();
        let rules = config.common().check(inputs.schema).map_err(|e| found.extend(e)).ok();
        let broker = address(&config.url);
        let broker = broker.map_err(|(m, help)| found.push(mistake("url", m, help))).ok();
        let topic = topic(&config.topic, inputs.schema).map_err(|e| found.push(e)).ok();
        let keep_alive = seconds("keep_alive", config.keep_alive, u32::from(u16::MAX) / 2);
        let keep_alive = keep_alive.map_err(|e| found.push(e)).ok();
        check(config, broker.as_ref(), &mut found);
        let files = tls(config.tls.as_ref(), given, &mut found);
        let (Some(mut rules), Some(broker), Some(topic), Some(keep_alive), true) =
            (rules, broker, topic, keep_alive, found.is_empty())
        else {
            return Err(found);
        };
        rules.texts.topic = Some(topic);
        let notes = notes(config, &broker);
        let settings = Settings {
            broker: broker.clone(),
            client_id: client_id(config, inputs),
            keeps_session: false,
            credentials: config.username.clone().map(|user| (user, config.password.clone())),
            tls: None,
            filters: Vec::new(),
            qos: config.qos,
            session_expiry_s: 0,
            receive_maximum: 1,
            keep_alive: std::time::Duration::from_secs(u64::from(keep_alive)),
            max_packet_bytes: PACKET_BYTES_MAX,
            outgoing_max: OUTGOING_MAX,
            properties: Arc::from([]),
        };
        let way = Way {
            settings,
            version: config.version,
            retain: config.retain,
            payload: config.payload,
            timeout: rules.timeout,
            origin: origin(inputs),
        };
        let channel = move || {
            let mut way = way.clone();
            if way.settings.broker.is_tls {
                let found = certificates::configuration(&files).map_err(|e| e.to_string())?;
                way.settings.tls = Some(found);
            }
            Ok(Box::new(Publisher::new(way)?) as Box<dyn Channel>)
        };
        let (host, port) = (broker.host.clone(), broker.port);
        let probe: Probe = Arc::new(move || reach(&host, port));
        let kind = Kind {
            receiver: format!("'{}' at {broker}", config.topic),
            channel: Arc::new(channel),
            notes,
            probe: Some(probe),
        };
        Ok(planned(kind, rules, &config.spool, inputs, given))
    }
}

fn topic(text: &str, schema: &Schema) -> Result<Template, ConfigError> {
    const HELP: &str = "write levels with / between them, as in alerts/{machine}";
    let template = Template::parse("topic", text, schema)?;
    if text.is_empty() || text.starts_with(['$', '/']) {
        return Err(mistake("topic", format!("'{text}' is not a topic to publish to"), HELP));
    }
    let plain = template.plain();
    if plain.contains(['+', '#', '\0']) {
        let message = format!("'{text}' has wildcards, which are for those who subscribe");
        return Err(mistake("topic", message, HELP));
    }
    Ok(template)
}

fn check(config: &MqttTopicsConfig, broker: Option<&Address>, found: &mut Vec<ConfigError>) {
    if config.qos > 1 {
        let message = format!("{} is not 0 or 1", config.qos);
        found.push(mistake("qos", message, "use 1, and `id` to tell what came twice"));
    }
    if config.password.is_some() && config.username.is_none() {
        let message = "there is a password without a user name";
        found.push(mistake("password", message, "give `username` too"));
    }
    if config.tls.is_some() && broker.is_some_and(|b| !b.is_tls) {
        let message = "the broker is not reached with TLS";
        found.push(mistake("tls", message, "write its address as mqtts://"));
    }
    let odd = |id: &String| id.is_empty() || id.len() > 200 || id.contains(char::is_control);
    if let Some(id) = config.client_id.as_ref().filter(|id| odd(id)) {
        let message = format!("'{}' is not a client id", id.escape_debug());
        let help = "use 1 to 200 bytes without control characters";
        found.push(mistake("client_id", message, help));
    }
}

fn notes(config: &MqttTopicsConfig, broker: &Address) -> Vec<String> {
    let mut notes = Vec::new();
    if config.qos == 0 {
        let note =
            "qos 0: a message counts as delivered when it is sent; what the network loses is lost";
        notes.push(note.to_owned());
    }
    if config.password.is_some() && !broker.is_tls && !is_loopback(&broker.host) {
        notes.push(format!("the password goes to '{broker}' in plain text; use mqtts://"));
    }
    notes
}

fn client_id(config: &MqttTopicsConfig, inputs: &SinkInputs<'_>) -> String {
    let before = config.client_id.clone();
    let before = before.unwrap_or_else(|| format!("foreline-{}-{}", inputs.pipeline, inputs.sink));
    format!("{before}-{}", inputs.stream)
}
