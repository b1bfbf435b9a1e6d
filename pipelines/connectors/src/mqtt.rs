//! MQTT 3.1.1 and 5: one or several brokers, journaled before they are acknowledged.
//!
//! What a reader would get wrong:
//!
//! * A message is acknowledged when the journal has it for certain, in the order of arrival, and only on the connection
//!   that brought it. Neither epoch nor snapshot is waited for.
//! * The network loop runs on a thread of its own and is always polled; when the engine is slow, acknowledgements stop, and
//!   with them the broker. What may wait is bounded in bytes.
//! * A broker is a partition, and a message's position counts records since the pipeline's first run.
//! * What the broker throws away (a full queue, a session that has expired, a crash without persistence) is outside the
//!   promise. A lost session is said and counted.

use std::sync::Arc;

use foreline_engine::{ConfigError, Extent, Replay, Resolver, Source};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::format::Format;
use crate::kind::{OpenSource, PlannedSource, Probe, SourceInputs, SourceKind, Tap};

mod decoder;
mod feed;
mod frame;
mod inbox;
mod network;
mod plan;
mod probe;
mod publish;
mod publisher;
mod session;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod topic;
mod trouble;
mod v4;
mod v5;

pub(crate) use feed::MqttFeed;
pub use plan::Password;
use plan::Plan;
pub use publish::{MqttTopics, MqttTopicsConfig, Published};

/// Subscribes to MQTT brokers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// The brokers, as `mqtt://host:1883` or with TLS `mqtts://host:8883`. All of them are read.
    pub urls: Vec<String>,
    /// What to subscribe to. A level `{name}` is the value of the declared column `name`, as in
    /// `plant/{line}/{machine}/vib`; `+` stands for any level, `#` at the end for all that follow.
    pub topics: Vec<String>,
    /// The name under which the broker keeps the subscription and what is not yet acknowledged. It must stay the same and
    /// must be no other client's.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The version of the protocol.
    #[serde(default)]
    pub version: Version,
    /// The quality of service to subscribe with: 1 (default) for at least once, 0 for at most once.
    #[serde(default = "one")]
    pub qos: u8,
    /// How the payloads are written: `json` (default), `ndjson`, `csv`, `msgpack`, `raw` or `sparkplug`, or one of them with
    /// options. A column with `field: "#topic"` takes the topic, `"#received"` the time of arrival (timestamp),
    /// `"#retained"` whether the broker had kept the message (bool), `"#property.NAME"` a user property of MQTT 5.
    #[serde(default)]
    pub format: Format,
    /// The user name.
    #[serde(default)]
    pub username: Option<String>,
    /// The password; take it from outside the file, as in `${env:MQTT_PASSWORD}`.
    #[serde(default)]
    pub password: Option<Password>,
    /// Certificates, for brokers with `mqtts://`.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// What becomes of messages that the broker had kept for new subscribers: they are old values, not fresh measurements.
    #[serde(default)]
    pub retained: Retained,
    /// How long the broker keeps the session while nobody is connected. MQTT 5 only: with 3.1.1 the broker decides.
    /// Default `1d`.
    #[serde(default = "one_day")]
    pub session_expiry: Extent,
    /// Most messages that the broker may send without an acknowledgement. MQTT 5 only: with 3.1.1 the broker decides.
    /// Default 1000.
    #[serde(default = "a_thousand")]
    pub receive_maximum: u16,
    /// After so long without a sign of life a connection is tested, and after as long again given up. Default `15s`.
    #[serde(default = "fifteen_seconds")]
    pub keep_alive: Extent,
    /// Largest message; a larger one becomes a dead letter with its first bytes. Default 1048576.
    #[serde(default = "one_mebibyte")]
    pub max_message_bytes: usize,
    /// Largest packet that is received at all. A larger one stops the source when the broker insists on it; a broker of MQTT
    /// 5 is told the limit and drops such messages. Default 33554432.
    #[serde(default = "packet_bytes")]
    pub max_packet_bytes: u32,
    /// Most bytes of messages that wait for the engine. Default 67108864.
    #[serde(default = "queue_bytes")]
    pub queue_bytes: usize,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Version {
    /// MQTT 5.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V4,
}

/// Certificates in PEM files, relative to the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Whom to trust. Default: whom the system trusts.
    #[serde(default)]
    pub ca: Option<String>,
    /// Our certificate, for brokers that ask for one.
    #[serde(default)]
    pub cert: Option<String>,
    /// Its private key.
    #[serde(default)]
    pub key: Option<String>,
}

/// What becomes of retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retained {
    /// They are passed over.
    #[default]
    Ignore,
    /// They are rows like others; a column with `field: "#retained"` tells them apart.
    Keep,
}

fn one() -> u8 {
    1
}

fn one_day() -> Extent {
    Extent::Nanos(86_400_000_000_000)
}

fn a_thousand() -> u16 {
    1000
}

fn fifteen_seconds() -> Extent {
    Extent::Nanos(15_000_000_000)
}

fn one_mebibyte() -> usize {
    1 << 20
}

fn packet_bytes() -> u32 {
    32 << 20
}

fn queue_bytes() -> usize {
    64 << 20
}

/// The kind of source that subscribes to MQTT brokers.
#[derive(Debug)]
pub struct Mqtt;

impl SourceKind for Mqtt {
    type Config = MqttConfig;
    const NAME: &'static str = "mqtt";
    const SUMMARY: &'static str = "subscribes to MQTT brokers, version 3.1.1 or 5";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let plan = Arc::new(Plan::new(config, inputs, given)?);
        let notes = plan.notes();
        // What is journaled is replayed after a crash, whatever the quality; what counts here is what the broker does.
        let replay = if plan.qos == 0 { Replay::Never } else { Replay::ByPayload };
        let open_as = |plan: Box<dyn Fn() -> Arc<Plan> + Send + Sync>| -> OpenSource {
            Arc::new(move || Ok(Box::new(source::MqttSource::open(&plan())?) as Box<dyn Source>))
        };
        let (probed, tapped) = (Arc::clone(&plan), Arc::clone(&plan));
        let probe: Probe = Arc::new(move || probe::probe(&probed));
        Ok(PlannedSource {
            open: open_as(Box::new(move || Arc::clone(&plan))),
            bounded: false,
            replay,
            notes,
            probe: Some(probe),
            door: None,
            bell: None,
            tap: Tap::Apart(open_as(Box::new(move || Arc::new(tapped.apart("tap", 0))))),
        })
    }
}
