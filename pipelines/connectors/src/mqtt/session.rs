//! What the source needs of an MQTT client, so that its code knows neither version nor library.
//!
//! A session is one connection. After it is lost a new one is opened: acknowledgements thus go to the connection that
//! brought the message, or nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc_v5::TlsConfiguration;

use super::inbox::Message;
use super::plan::{Address, Password, Plan};

/// Room for requests that wait for the network. There are never more acknowledgements than packet ids, 65,535.
pub(super) const REQUESTS_MAX: usize = 70_000;
/// Requests that are sent with one flush.
pub(super) const REQUEST_BATCH: usize = 1024;
/// How long connecting may take, with TLS.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect to one broker.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) broker: Address,
    pub(super) client_id: String,
    /// Whether the broker is to keep the session when the connection ends.
    pub(super) keeps_session: bool,
    pub(super) credentials: Option<(String, Option<Password>)>,
    pub(super) tls: Option<TlsConfiguration>,
    pub(super) filters: Vec<String>,
    pub(super) qos: u8,
    pub(super) session_expiry_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) keep_alive: Duration,
    pub(super) max_packet_bytes: u32,
    /// Messages of ours that may be unacknowledged. MQTT 5 only: 3.1.1 has its library's own limit.
    pub(super) outgoing_max: u16,
    /// User properties that are kept.
    pub(super) properties: Arc<[String]>,
}

impl Settings {
    /// Those for a broker of `plan`.
    pub(super) fn new(plan: &Plan, broker: &Address, tls: Option<TlsConfiguration>) -> Self {
        let properties = plan.given.iter().filter_map(|(_, given)| match given {
            super::plan::Given::Property(name) => Some(name.clone()),
            _ => None,
        });
        Settings {
            broker: broker.clone(),
            client_id: plan.client_id.clone(),
            keeps_session: plan.keeps_session,
            credentials: plan.username.clone().map(|user| (user, plan.password.clone())),
            tls: tls.filter(|_| broker.is_tls),
            filters: plan.templates.iter().map(|t| t.filter.clone()).collect(),
            qos: plan.qos,
            session_expiry_s: plan.session_expiry_s,
            receive_maximum: plan.receive_maximum,
            keep_alive: plan.keep_alive,
            max_packet_bytes: plan.max_packet_bytes,
            outgoing_max: 1,
            properties: properties.collect(),
        }
    }

    /// The keep-alive as the protocol says it.
    pub(super) fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }
}

/// What a session has heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// The connection stands. Whether the broker has kept a session for us.
    Connected {
        session_present: bool,
    },
    /// What became of each subscription: the quality that was granted, or why there is none.
    Subscribed(Vec<Result<u8, String>>),
    Message(Message),
    /// Nothing that matters here.
    Other,
}

/// Why there is no connection any more, or none came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The broker does not want us.
    Refused(String),
    /// One side does not accept the other's certificate, or does not speak TLS as the other does.
    Untrusted(String),
    /// Another client has our id.
    TakenOver,
    /// The broker has closed the connection without a word.
    Closed(String),
    /// The network failed, or the broker does not answer.
    Network(String),
    /// A packet of so many bytes is larger than may be received.
    TooLarge(usize),
    /// The broker does not keep to the protocol.
    Protocol(String),
    /// We have left.
    Left,
}

/// What we send over one connection. Once that is gone, all of it goes nowhere.
pub(super) trait Outgoing: fmt::Debug + Send + Sync {
    /// Notes that a message waits for its acknowledgement.
    fn expect(&self, packet_id: u16);

    /// Notes that its acknowledgement went out.
    fn sent(&self, packet_id: u16);

    /// Acknowledges a message; false when it has to be tried again later. On a connection that is gone it does nothing.
    fn acknowledge(&self, packet_id: u16) -> bool;

    /// Publishes with quality 0; false when it could not be sent.
    fn publish(&self, topic: &str, payload: Vec<u8>) -> bool;

    /// Publishes something whose fate matters. The answer comes when the broker has it, or the connection is gone.
    ///
    /// # Errors
    /// When it cannot even be asked for.
    fn send(&self, letter: Letter) -> Result<Answer, Rejected>;
}

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// 0 or 1.
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// MQTT 5 has a user property for it.
    pub(super) id: String,
}

/// Why something was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejected {
    /// It may go better later.
    Now(String),
    /// It will not.
    Always(String),
}

/// What becomes of something that is published: with quality 1 the broker has acknowledged it, with 0 it was sent.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<(), Rejected>> + Send>>;

/// Which messages of a connection wait for their acknowledgement. A broker that repeats a packet id before it was
/// acknowledged gets one acknowledgement, after the last of them.
///
/// What a reader would get wrong: between asking for an acknowledgement and its going out the same id may come again. That
/// one is acknowledged with it; another acknowledgement would be one too many, for which clients give their connection up.
#[derive(Debug, Default)]
pub(super) struct Outstanding(Mutex<BTreeMap<u16, Waiting>>);

/// What waits of one packet id.
#[derive(Debug, Default)]
struct Waiting {
    /// Messages that the next acknowledgement is for.
    messages: u32,
    /// Whether an acknowledgement was asked for that did not go out yet.
    is_going: bool,
    /// Messages that came meanwhile.
    covered: u32,
}

impl Outstanding {
    /// Notes a message.
    pub(super) fn note(&self, packet_id: u16) {
        let mut all = self.lock();
        let waiting = all.entry(packet_id).or_default();
        if waiting.is_going {
            waiting.covered += 1;
        } else {
            waiting.messages += 1;
        }
    }

    /// Acknowledges a message with `send`, if no other of the same id waits; whether that is done.
    pub(super) fn settle(&self, packet_id: u16, send: impl FnOnce() -> bool) -> bool {
        let mut all = self.lock();
        let waiting = all.entry(packet_id).or_default();
        // Messages are settled in the order in which they came: those that came meanwhile are before all later ones.
        if waiting.covered > 0 {
            waiting.covered -= 1;
            return true;
        }
        if waiting.messages > 1 {
            waiting.messages -= 1;
            return true;
        }
        let sent = send();
        if sent {
            (waiting.messages, waiting.is_going) = (0, true);
        }
        sent
    }

    /// Notes that an acknowledgement went out.
    pub(super) fn sent(&self, packet_id: u16) {
        let mut all = self.lock();
        if let Some(waiting) = all.get_mut(&packet_id) {
            waiting.is_going = false;
            if waiting.messages == 0 && waiting.covered == 0 {
                all.remove(&packet_id);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a broker.
pub(super) trait Session: Sized {
    /// Gets ready to connect; [`Session::next`] does.
    fn open(settings: &Settings) -> Self;

    /// What comes next. Never waits for anything but the network.
    ///
    /// # Errors
    /// When the connection is gone. The session is of no more use then.
    fn next(&mut self) -> impl Future<Output = Result<Heard, Lost>>;

    /// Asks for the subscriptions. The answer is [`Heard::Subscribed`].
    fn subscribe(&self, settings: &Settings);

    /// Where to send what is not an answer of this session.
    fn outgoing(&self) -> Arc<dyn Outgoing>;

    /// Says goodbye behind what waits to be sent; [`Lost::Left`] follows.
    fn leave(&self, patience: Duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settles a message of id 7; whether an acknowledgement was asked for.
    fn settled(outstanding: &Outstanding) -> bool {
        let mut asked = false;
        assert!(outstanding.settle(7, || {
            asked = true;
            true
        }));
        asked
    }

    #[test]
    fn a_repeated_id_has_one_acknowledgement_after_the_last() {
        let outstanding = Outstanding::default();
        outstanding.note(7);
        outstanding.note(7);
        assert!(!settled(&outstanding) && settled(&outstanding));
    }

    #[test]
    fn what_comes_while_one_is_going_out_is_acknowledged_with_it() {
        let outstanding = Outstanding::default();
        outstanding.note(7);
        assert!(settled(&outstanding));
        outstanding.note(7);
        outstanding.sent(7);
        // A new message of the id, before the repeated one was settled.
        outstanding.note(7);
        assert!(!settled(&outstanding) && settled(&outstanding));
        outstanding.sent(7);
        assert!(outstanding.lock().is_empty());
    }

    #[test]
    fn one_that_cannot_be_asked_for_now_is_asked_for_again() {
        let outstanding = Outstanding::default();
        outstanding.note(7);
        assert!(!outstanding.settle(7, || false));
        assert!(settled(&outstanding));
    }
}
