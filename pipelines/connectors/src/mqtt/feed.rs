//! Lines to a broker, a message a line.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Version;
use super::plan::{Password, TlsPaths, address};
use super::publisher::Line;
use super::session::{Letter, Rejected, Settings};
use super::tls;
use crate::feed::{Lines, PATIENCE};
use crate::notify::level;

/// Messages that wait for their acknowledgement.
const WINDOW: u16 = 100;
/// How long the broker may take to acknowledge one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a broker that is away is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// After so long without a sign of life the connection is tested.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest packet that we take: acknowledgements.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// Publishes lines with quality 1.
pub(crate) struct MqttFeed {
    settings: Settings,
    topic: Topic,
    line: Option<Line>,
}

/// A topic with names of columns in it.
struct Topic {
    /// Text, and the column whose value follows it.
    parts: Vec<(String, String)>,
    rest: String,
}

impl Topic {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("'{text}' is not a topic to publish to: {why}");
        if text.is_empty() || text.starts_with(['$', '/']) {
            return Err(bad("write one behind the broker, as in mqtt://host:1883/plant/{machine}"));
        }
        if text.contains(['+', '#', '\0']) {
            return Err(bad("it has wildcards, which are for those who subscribe"));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or_else(|| bad("a { has no }"))?;
            parts.push((before.to_owned(), name.to_owned()));
            rest = behind;
        }
        Ok(Topic { parts, rest: rest.to_owned() })
    }

    /// The columns in it.
    fn columns(&self) -> Vec<String> {
        self.parts.iter().map(|(_, name)| name.clone()).collect()
    }

    /// That of a row. What would make more levels or wildcards is `_`, and no value is `-`.
    fn of(&self, value: impl Fn(&str) -> Option<String>) -> String {
        let mut topic = String::new();
        for (before, name) in &self.parts {
            let value = value(name).filter(|value| !value.is_empty()).unwrap_or("-".to_owned());
            topic += before;
            topic += &level(&value);
        }
        topic + &self.rest
    }
}

impl MqttFeed {
    pub(crate) fn open(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (host, topic) = rest.split_once('/').unwrap_or((rest, ""));
        let broker = address(&format!("{scheme}://{host}"));
        let broker = broker.map_err(|(what, help)| format!("{what}; {help}"))?;
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let password = variable("MQTT_PASSWORD").map(Password::new);
        let certificates = broker.is_tls.then(|| tls::configuration(&TlsPaths::default()));
        let settings = Settings {
            broker,
            client_id: format!("foreline-feed-{}", std::process::id()),
            keeps_session: false,
            credentials: variable("MQTT_USERNAME").map(|user| (user, password)),
            tls: certificates.transpose().map_err(|e| e.to_string())?,
            filters: Vec::new(),
            qos: 1,
            session_expiry_s: 0,
            receive_maximum: 1,
            keep_alive: KEEP_ALIVE,
            max_packet_bytes: PACKET_BYTES_MAX,
            outgoing_max: WINDOW,
            properties: Arc::from([]),
        };
        Ok(MqttFeed { settings, topic: Topic::parse(topic)?, line: None })
    }

    /// Sends lines until the broker has acknowledged all of them; from the first that it did not where the connection was lost.
    pub(crate) async fn send(&mut self, lines: &Lines) -> Result<(), String> {
        let columns = self.topic.columns();
        let letters = lines.rows().map(|row| Letter {
            topic: self.topic.of(|name| row.field(name).map(str::to_owned)),
            payload: row.json(&columns).into_bytes(),
            qos: 1,
            retain: false,
            id: String::new(),
        });
        let letters: Vec<Letter> = letters.collect();
        let mut open = &letters[..];
        let mut until = Instant::now() + PATIENCE;
        while !open.is_empty() {
            let (acknowledged, why) = self.publish(open).await?;
            open = &open[acknowledged..];
            let Some(why) = why else { continue };
            let now = Instant::now();
            if acknowledged > 0 {
                until = now + PATIENCE;
            }
            let lost = self.line.take().and_then(|line| line.lost());
            if now > until {
                let (seconds, why) = (PATIENCE.as_secs(), lost.unwrap_or(why));
                return Err(format!(
                    "'{}' took nothing for {seconds} s: {why}",
                    self.settings.broker
                ));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Publishes what fits into a window; how many were acknowledged, and why not all.
    async fn publish(&mut self, letters: &[Letter]) -> Result<(usize, Option<String>), String> {
        let standing = self.line.take().filter(|line| line.lost().is_none());
        let line = match standing {
            Some(line) => line,
            None => Line::connect(&self.settings, Version::default())?,
        };
        let line = self.line.insert(line);
        let window = letters.iter().take(usize::from(WINDOW));
        let answers: Vec<_> = window.map(|letter| line.send(letter.clone())).collect();
        let until = Instant::now() + TIMEOUT;
        for (n, answer) in answers.into_iter().enumerate() {
            let answered = match answer {
                Err(rejected) => Err(rejected),
                Ok(answer) => timeout_at(until, answer).await.unwrap_or_else(|_| {
                    Err(Rejected::Now("no acknowledgement in time".to_owned()))
                }),
            };
            match answered {
                Ok(()) => {}
                Err(Rejected::Now(why)) => return Ok((n, Some(why))),
                Err(Rejected::Always(why)) => {
                    return Err(format!("'{}' refuses: {why}", self.settings.broker));
                }
            }
        }
        Ok((letters.len().min(usize::from(WINDOW)), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_values_of_a_row() {
        let topic = Topic::parse("plant/{site}/{machine}/v").unwrap();
        let value = |name: &str| (name == "machine").then(|| "P/+1".to_owned());
        assert_eq!(topic.of(value), "plant/-/P__1/v");
        assert_eq!(topic.columns(), ["site", "machine"]);
        assert_eq!(Topic::parse("plain").unwrap().of(|_| None), "plain");
        for wrong in ["", "/a", "$SYS/a", "a/#", "a/{b"] {
            assert!(Topic::parse(wrong).is_err(), "{wrong}");
        }
    }
}
