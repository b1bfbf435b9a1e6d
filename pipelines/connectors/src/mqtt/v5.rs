//! MQTT 5 on `rumqttc-v5-next`.
//!
//! The library refuses a session that the broker has and its own memory has not, and while it does not trust a session it
//! drops what is asked of it. A client that never publishes has nothing to remember, so [`Forgetful`] says that there is a
//! session and nothing in it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{Clock as _, SystemClock};
use rumqttc_v5::{
    AckMode, AsyncClient, Broker, ClientError, ConnectReturnCode, ConnectionError,
    DisconnectReasonCode, Event, EventLoop, Incoming, ManualAck, MqttOptions, PersistedAckMode,
    PersistedSession, PubAck, PubAckReason, Publish, PublishNoticeError, PublishOptions,
    PublishProperties, QoS, RetainForwardRule, SessionStore, SessionStoreError, SessionStoreKey,
    StateError, SubscribeFilter, SubscribeReasonCode, Transport,
};

use super::inbox::{Message, Receipt};
use super::session::{
    Answer, CONNECT_TIMEOUT, Heard, Letter, Lost, Outgoing, Outstanding, REQUEST_BATCH,
    REQUESTS_MAX, Rejected, Session, Settings,
};
use super::trouble::of_io;

/// A connection with MQTT 5.
pub(super) struct V5 {
    client: AsyncClient,
    acks: Arc<dyn Outgoing>,
    events: EventLoop,
    properties: Arc<[String]>,
}

struct Acks {
    client: AsyncClient,
    outstanding: Outstanding,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acks").field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}

impl Outgoing for Acks {
    fn expect(&self, packet_id: u16) {
        self.outstanding.note(packet_id);
    }

    fn acknowledge(&self, packet_id: u16) -> bool {
        let ack = ManualAck::PubAck(PubAck::new(packet_id, None));
        self.outstanding.settle(packet_id, || {
            !matches!(self.client.try_manual_ack(ack), Err(ClientError::RequestChannelFull(_)))
        })
    }

    fn sent(&self, packet_id: u16) {
        self.outstanding.sent(packet_id);
    }

    fn publish(&self, topic: &str, payload: Vec<u8>) -> bool {
        self.client.try_publish(topic, payload, PublishOptions::at_most_once()).is_ok()
    }

    fn send(&self, letter: Letter) -> Result<Answer, Rejected> {
        let properties = PublishProperties {
            content_type: Some("application/json".to_owned()),
            user_properties: vec![("id".to_owned(), letter.id)],
            ..PublishProperties::default()
        };
        let options =
            PublishOptions::new(quality(letter.qos)).retain(letter.retain).properties(properties);
        let asked = self.client.try_publish_tracked(letter.topic, letter.payload, options);
        let notice = asked.map_err(|e| match e {
            ClientError::InvalidRequest(_) => Rejected::Always("the topic is none".to_owned()),
            e => Rejected::Now(e.to_string()),
        })?;
        Ok(Box::pin(async move { notice.wait_completion_async().await.map_err(|e| rejected(&e)) }))
    }
}

type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// The memory of a client that publishes nothing.
#[derive(Debug)]
struct Forgetful {
    session_expiry_s: u32,
}

impl SessionStore for Forgetful {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.session_expiry_s),
            // A client with a session has nothing on its way out.
            outgoing_inflight_upper_limit: Some(1),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Session for V5 {
    fn open(settings: &Settings) -> Self {
        let broker = Broker::tcp(&settings.broker.host, settings.broker.port);
        let mut options = MqttOptions::new(&settings.client_id, broker);
        options
            .set_clean_start(!settings.keeps_session)
            .set_session_expiry_interval(Some(settings.session_expiry_s))
            .set_ack_mode(AckMode::Manual)
            // The session is saved with every batch, and that looks at each message that could be on its way out.
            .set_outgoing_inflight_upper_limit(settings.outgoing_max)
            .set_receive_maximum(Some(settings.receive_maximum))
            .set_max_packet_size(Some(settings.max_packet_bytes))
            .set_max_request_batch(REQUEST_BATCH)
            .set_connect_timeout(CONNECT_TIMEOUT)
            .set_keep_alive(settings.keep_alive_s());
        if settings.keeps_session {
            options.set_session_store(Forgetful { session_expiry_s: settings.session_expiry_s });
        }
        if let Some(tls) = &settings.tls {
            options.set_transport(Transport::Tls(tls.clone()));
        }
        match &settings.credentials {
            Some((user, Some(password))) => {
                options.set_credentials(user.clone(), password.expose().as_bytes().to_vec());
            }
            Some((user, None)) => {
                options.set_username(user.clone());
            }
            None => {}
        }
        let (client, events) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
        let acks = Arc::new(Acks { client: client.clone(), outstanding: Outstanding::default() });
        V5 { client, acks, events, properties: Arc::clone(&settings.properties) }
    }

    async fn next(&mut self) -> Result<Heard, Lost> {
        match self.events.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                Ok(Heard::Message(self.message(publish)))
            }
            Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                Ok(Heard::Connected { session_present: ack.session_present })
            }
            Ok(Event::Incoming(Incoming::SubAck(ack))) => {
                Ok(Heard::Subscribed(ack.return_codes.iter().map(granted).collect()))
            }
            Ok(Event::Outgoing(rumqttc_v5::Outgoing::PubAck(packet_id))) => {
                self.acks.sent(packet_id);
                Ok(Heard::Other)
            }
            Ok(_) => Ok(Heard::Other),
            Err(error) => Err(lost(&error)),
        }
    }

    fn subscribe(&self, settings: &Settings) {
        let filters = settings.filters.iter().map(|filter| SubscribeFilter {
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..SubscribeFilter::new(filter, quality(settings.qos))
        });
        // The channel is empty at this time; a connection that is gone says so itself.
        let _ = self.client.try_subscribe_many(filters);
    }

    fn outgoing(&self) -> Arc<dyn Outgoing> {
        Arc::clone(&self.acks)
    }

    fn leave(&self, patience: Duration) {
        let _ = self.client.try_disconnect_with_timeout(patience);
    }
}

impl V5 {
    fn message(&self, publish: Publish) -> Message {
        let receipt = (publish.qos != QoS::AtMostOnce).then(|| {
            self.acks.expect(publish.pkid);
            Receipt { to: Arc::clone(&self.acks), packet_id: publish.pkid }
        });
        let all = publish.properties.map(|p| p.user_properties).unwrap_or_default();
        let properties = all.into_iter().filter(|(name, _)| self.properties.contains(name));
        Message {
            topic: publish.topic,
            payload: publish.payload,
            received_ns: SystemClock.now_ns(),
            is_retained: publish.retain,
            is_repeated: publish.dup,
            properties: properties.collect(),
            receipt,
        }
    }
}

fn quality(qos: u8) -> QoS {
    if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

/// Whether trying again is of use.
fn rejected(error: &PublishNoticeError) -> Rejected {
    use PubAckReason::{NotAuthorized, PayloadFormatInvalid, TopicNameInvalid};
    let text = error.to_string();
    match error {
        PublishNoticeError::V5PubAck(NotAuthorized | PayloadFormatInvalid | TopicNameInvalid)
        | PublishNoticeError::RetainNotSupported => Rejected::Always(text),
        _ => Rejected::Now(text),
    }
}

fn granted(code: &SubscribeReasonCode) -> Result<u8, String> {
    match code {
        SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
        other => Err(format!("{other:?}")),
    }
}

fn lost(error: &ConnectionError) -> Lost {
    use rumqttc_v5::Error;
    let text = error.to_string();
    match error {
        ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout => Lost::Left,
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::ServiceUnavailable
            | ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::QuotaExceeded
            | ConnectReturnCode::ConnectionRateExceeded => Lost::Network(text),
            code => Lost::Refused(format!("{code:?}")),
        },
        ConnectionError::Io(e) => of_io(e),
        ConnectionError::Tls(rumqttc_v5::TlsError::Io(e)) => of_io(e),
        ConnectionError::Tls(_) => Lost::Untrusted(text),
        ConnectionError::MqttState(state) => match state {
            StateError::ServerDisconnect { reason_code, .. } => match reason_code {
                DisconnectReasonCode::SessionTakenOver => Lost::TakenOver,
                DisconnectReasonCode::NotAuthorized => Lost::Refused(text),
                _ => Lost::Network(text),
            },
            StateError::IncomingPacketTooLarge { pkt_size, .. }
            | StateError::Deserialization(Error::PayloadSizeLimitExceeded { pkt_size, .. }) => {
                Lost::TooLarge(*pkt_size)
            }
            // A connection that is reset is found while a packet is read.
            StateError::Io(e) | StateError::Deserialization(Error::Io(e)) => of_io(e),
            StateError::ConnectionAborted => {
                Lost::Closed("the connection was closed by the other side".to_owned())
            }
            StateError::AwaitPingResp | StateError::CollisionTimeout => Lost::Network(text),
            _ => Lost::Protocol(text),
        },
        ConnectionError::NotConnAck(_) | ConnectionError::SessionStateMismatch { .. } => {
            Lost::Protocol(text)
        }
        _ => Lost::Network(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_reset_is_no_breach_of_the_protocol() {
        let reset = std::io::ErrorKind::ConnectionReset.into();
        let error = StateError::Deserialization(rumqttc_v5::Error::Io(reset));
        assert!(matches!(lost(&ConnectionError::MqttState(error)), Lost::Closed(_)));
    }
}
