//! Messages on their way from the network's thread to the engine's.
//!
//! Bounded in bytes. What does not fit is left with the broker where it can be (quality 1), and is otherwise lost and
//! counted (quality 0), which is what that quality says.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use foreline_engine::SourceError;
use tokio::sync::Notify;

use super::session::Outgoing;

/// What a message costs besides its texts.
const OVERHEAD_BYTES: usize = 128;

/// To whom a message is acknowledged, and as what.
#[derive(Clone)]
pub(super) struct Receipt {
    pub(super) to: Arc<dyn Outgoing>,
    pub(super) packet_id: u16,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("packet_id", &self.packet_id).finish_non_exhaustive()
    }
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// When it arrived, in nanoseconds of UTC.
    pub(super) received_ns: i64,
    pub(super) is_retained: bool,
    /// The broker has sent it before, as far as it knows.
    pub(super) is_repeated: bool,
    /// User properties that are wanted.
    pub(super) properties: Vec<(String, String)>,
    /// `None` for a message of quality 0.
    pub(super) receipt: Option<Receipt>,
}

impl Message {
    fn bytes(&self) -> usize {
        let properties = self.properties.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        self.topic.len() + self.payload.len() + properties + OVERHEAD_BYTES
    }
}

/// What happened on the way, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connections: u64,
    /// Subscriptions that a broker has granted.
    pub(super) subscriptions: u64,
    /// Times the broker had no session where there should have been one.
    pub(super) gaps: u64,
    /// Messages of quality 0 for which there was no room.
    pub(super) dropped: u64,
    /// Times there was no room for a message.
    pub(super) overflows: u64,
    /// Retained messages that were passed over.
    pub(super) retained: u64,
    /// Edge nodes that were asked for their births.
    pub(super) rebirths: u64,
}

#[derive(Debug)]
struct State {
    /// By broker.
    queues: Vec<VecDeque<Message>>,
    /// By broker: the connection that stands.
    connections: Vec<Option<Arc<dyn Outgoing>>>,
    bytes: usize,
    failed: Option<SourceError>,
    counts: Counts,
}

/// The queues of all brokers of a source.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    limit_bytes: usize,
    room: Notify,
}

impl Inbox {
    /// Empty queues for so many brokers that hold `limit_bytes` together.
    pub(super) fn new(brokers: usize, limit_bytes: usize) -> Self {
        let queues = vec![VecDeque::new(); brokers];
        let connections = vec![None; brokers];
        let counts = Counts::default();
        let state = State { queues, connections, bytes: 0, failed: None, counts };
        Inbox { state: Mutex::new(state), limit_bytes, room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the queues would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in; gives it back when there is no room and the broker waits for its acknowledgement.
    #[must_use]
    pub(super) fn push(&self, broker: usize, message: Message) -> Option<Message> {
        let mut state = self.lock();
        let bytes = message.bytes();
        if state.bytes + bytes > self.limit_bytes {
            if message.receipt.is_some() {
                state.counts.overflows += 1;
                return Some(message);
            }
            state.counts.dropped += 1;
            if state.counts.dropped.is_power_of_two() {
                tracing::warn!(
                    "{} messages of qos 0 are lost: the queue is full",
                    state.counts.dropped
                );
            }
            return None;
        }
        state.bytes += bytes;
        state.queues[broker].push_back(message);
        None
    }

    /// Takes messages of a broker out, one at least and further ones up to about `budget_bytes`.
    ///
    /// # Errors
    /// When the network's thread has given up.
    pub(super) fn take(
        &self,
        broker: usize,
        budget_bytes: usize,
    ) -> Result<Vec<Message>, SourceError> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.queues[broker].front() {
            let more = next.bytes();
            if !taken.is_empty() && bytes + more > budget_bytes {
                break;
            }
            bytes += more;
            taken.extend(state.queues[broker].pop_front());
        }
        state.bytes -= bytes;
        if state.bytes <= self.limit_bytes / 2 {
            self.room.notify_waiters();
        }
        Ok(taken)
    }

    /// Waits until the queues are half empty.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().bytes <= self.limit_bytes / 2 {
                return;
            }
            room.await;
        }
    }

    /// Notes which connection to a broker stands, if any.
    pub(super) fn connected(&self, broker: usize, to: Option<Arc<dyn Outgoing>>) {
        self.lock().connections[broker] = to;
    }

    /// Publishes to a broker with quality 0; false when there is no connection to it.
    pub(super) fn publish(&self, broker: usize, topic: &str, payload: Vec<u8>) -> bool {
        let to = self.lock().connections[broker].clone();
        to.is_some_and(|to| to.publish(topic, payload))
    }

    /// Notes that the source cannot go on.
    pub(super) fn fail(&self, error: SourceError) {
        self.lock().failed.get_or_insert(error);
    }

    /// Counts something.
    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// What was counted.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::{Answer, Letter, Rejected};
    use super::*;

    #[derive(Debug)]
    struct Nobody;
    impl Outgoing for Nobody {
        fn expect(&self, _: u16) {}

        fn sent(&self, _: u16) {}

        fn acknowledge(&self, _: u16) -> bool {
            true
        }

        fn publish(&self, _: &str, _: Vec<u8>) -> bool {
            true
        }

        fn send(&self, _: Letter) -> Result<Answer, Rejected> {
            Err(Rejected::Now("nobody is there".to_owned()))
        }
    }

    fn message(bytes: usize, qos: u8) -> Message {
        Message {
            topic: Bytes::new(),
            payload: vec![0; bytes].into(),
            received_ns: 0,
            is_retained: false,
            is_repeated: false,
            properties: Vec::new(),
            receipt: (qos > 0).then(|| Receipt { to: Arc::new(Nobody), packet_id: 1 }),
        }
    }

    #[test]
    fn what_does_not_fit_stays_with_the_broker_or_is_lost_and_counted() {
        let inbox = Inbox::new(2, 3 * (100 + OVERHEAD_BYTES));
        for broker in [0, 1, 1] {
            assert!(inbox.push(broker, message(100, 1)).is_none());
        }
        assert!(inbox.push(0, message(0, 1)).is_some());
        assert!(inbox.push(0, message(0, 0)).is_none());
        let counts = inbox.counts();
        assert_eq!((counts.overflows, counts.dropped), (1, 1));
        assert_eq!(inbox.take(1, 1).unwrap().len(), 1);
        assert_eq!(inbox.take(1, usize::MAX).unwrap().len(), 1);
        assert_eq!(inbox.take(1, usize::MAX).unwrap().len(), 0);
        assert!(inbox.push(0, message(0, 1)).is_none());
        inbox.fail(SourceError::Io("gone".to_owned()));
        assert!(inbox.take(0, 1).is_err());
    }
}
