//! MQTT 3.1.1 on `rumqttc-v4-next`.
//!
//! The protocol has no word for "another client has taken your id": the broker just closes the connection. Nor can a client
//! limit what the broker sends unacknowledged; the broker's own setting does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{Clock as _, SystemClock};
use rumqttc_v4::{
    AckMode, AsyncClient, Broker, ClientError, ConnectReturnCode, ConnectionError, Event,
    EventLoop, Incoming, ManualAck, MqttOptions, PubAck, Publish, PublishNoticeError,
    PublishOptions, QoS, StateError, SubscribeFilter, SubscribeReasonCode, Transport,
};

use super::inbox::{Message, Receipt};
use super::session::{
    Answer, CONNECT_TIMEOUT, Heard, Letter, Lost, Outgoing, Outstanding, REQUEST_BATCH,
    REQUESTS_MAX, Rejected, Session, Settings,
};
use super::trouble::of_io;

/// Largest packet that we send: a notice of many messages.
const OUTGOING_BYTES_MAX: usize = 8 << 20;

/// A connection with MQTT 3.1.1.
pub(super) struct V4 {
    client: AsyncClient,
    acks: Arc<dyn Outgoing>,
    events: EventLoop,
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
        let ack = ManualAck::PubAck(PubAck::new(packet_id));
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
        let qos = if letter.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let options = PublishOptions::new(qos).retain(letter.retain);
        let asked = self.client.try_publish_tracked(letter.topic, letter.payload, options);
        let notice = asked.map_err(|e| match e {
            ClientError::InvalidRequest(_) => Rejected::Always("the topic is none".to_owned()),
            e => Rejected::Now(e.to_string()),
        })?;
        // A broker of 3.1.1 has no word for a refusal.
        let gone = |e: PublishNoticeError| Rejected::Now(e.to_string());
        Ok(Box::pin(async move { notice.wait_async().await.map(|_| ()).map_err(gone) }))
    }
}

impl Session for V4 {
    fn open(settings: &Settings) -> Self {
        let broker = Broker::tcp(&settings.broker.host, settings.broker.port);
        let mut options = MqttOptions::new(&settings.client_id, broker);
        let incoming = usize::try_from(settings.max_packet_bytes).unwrap_or(usize::MAX);
        options
            .set_clean_session(!settings.keeps_session)
            .set_ack_mode(AckMode::Manual)
            .set_max_packet_size(incoming, OUTGOING_BYTES_MAX)
            .set_max_request_batch(REQUEST_BATCH)
            .set_keep_alive(settings.keep_alive_s());
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
        let (client, mut events) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
        let mut network = events.network_options();
        network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        events.set_network_options(network);
        let acks = Arc::new(Acks { client: client.clone(), outstanding: Outstanding::default() });
        V4 { client, acks, events }
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
            Ok(Event::Outgoing(rumqttc_v4::Outgoing::PubAck(packet_id))) => {
                self.acks.sent(packet_id);
                Ok(Heard::Other)
            }
            Ok(_) => Ok(Heard::Other),
            Err(error) => Err(lost(&error)),
        }
    }

    fn subscribe(&self, settings: &Settings) {
        let qos = if settings.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let filters = settings.filters.iter().map(|f| SubscribeFilter::new(f.clone(), qos));
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

impl V4 {
    fn message(&self, publish: Publish) -> Message {
        let receipt = (publish.qos != QoS::AtMostOnce).then(|| {
            self.acks.expect(publish.pkid);
            Receipt { to: Arc::clone(&self.acks), packet_id: publish.pkid }
        });
        Message {
            topic: publish.topic,
            payload: publish.payload,
            received_ns: SystemClock.now_ns(),
            is_retained: publish.retain,
            is_repeated: publish.dup,
            properties: Vec::new(),
            receipt,
        }
    }
}

fn granted(code: &SubscribeReasonCode) -> Result<u8, String> {
    match code {
        SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
        SubscribeReasonCode::Failure => Err("refused".to_owned()),
    }
}

fn lost(error: &ConnectionError) -> Lost {
    use rumqttc_v4::Error;
    let text = error.to_string();
    match error {
        ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout => Lost::Left,
        ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) => {
            Lost::Network(text)
        }
        ConnectionError::ConnectionRefused(code) => Lost::Refused(format!("{code:?}")),
        ConnectionError::Io(e) => of_io(e),
        ConnectionError::Tls(rumqttc_v4::TlsError::Io(e)) => of_io(e),
        ConnectionError::Tls(_) => Lost::Untrusted(text),
        ConnectionError::MqttState(state) => match state {
            StateError::Deserialization(Error::PayloadSizeLimitExceeded(bytes)) => {
                Lost::TooLarge(*bytes)
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
        let error = StateError::Deserialization(rumqttc_v4::Error::Io(reset));
        assert!(matches!(lost(&ConnectionError::MqttState(error)), Lost::Closed(_)));
    }
}
