//! The engine's side: hands out messages in chunks, and acknowledges them once they are durable.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use foreline_engine::{
    Chunk, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay, Source, SourceError,
    crash_point,
};

use super::Retained;
use super::decoder::MessageDecoder;
use super::frame::Frame;
use super::inbox::{Inbox, Message, Receipt};
use super::network::{Line, Network};
use super::plan::Plan;
use super::session::Settings;
use super::tls;
use crate::format::{Arrival, Births, Resolved};
use crate::record::ORIGINAL_BYTES_MAX;

/// Positions of a partition end here; at a thousand records a second after 34 years.
const ORDINAL_MAX: u64 = 1 << 40;

/// An opened source. It connects when it is first polled.
pub(super) struct MqttSource {
    plan: Arc<Plan>,
    inbox: Arc<Inbox>,
    lanes: Vec<Lane>,
    /// Partitions of earlier runs that are not among the brokers any more.
    gone: Vec<KnownPartition>,
    network: Option<Network>,
    /// The lane that is looked at next.
    turn: usize,
}

/// A broker as a partition.
struct Lane {
    partition: Partition,
    name: String,
    settings: Settings,
    was_known: bool,
    next_ordinal: u64,
    /// Messages that are not yet acknowledged, in the order of arrival, each with its last position.
    unacknowledged: VecDeque<(u64, Receipt)>,
    durable: u64,
    births: Births,
    /// Its place among the brokers.
    broker: usize,
}

impl fmt::Debug for MqttSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttSource").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl MqttSource {
    /// Reads the certificates; connects to nothing.
    pub(super) fn open(plan: &Arc<Plan>) -> Result<Self, SourceError> {
        let needed = plan.brokers.iter().any(|b| b.is_tls);
        let tls = needed.then(|| tls::configuration(&plan.tls)).transpose()?;
        let lanes = plan.brokers.iter().enumerate().map(|(i, broker)| Lane {
            partition: Partition(u32::try_from(i).unwrap_or(u32::MAX)),
            name: broker.to_string(),
            settings: Settings::new(plan, broker, tls.clone()),
            was_known: false,
            next_ordinal: 1,
            unacknowledged: VecDeque::new(),
            durable: 0,
            births: Births::default(),
            broker: i,
        });
        Ok(MqttSource {
            plan: Arc::clone(plan),
            inbox: Arc::new(Inbox::new(plan.brokers.len(), plan.queue_bytes)),
            lanes: lanes.collect(),
            gone: Vec::new(),
            network: None,
            turn: 0,
        })
    }

    /// What happened on the way.
    #[cfg(test)]
    pub(super) fn counts(&self) -> super::inbox::Counts {
        self.inbox.counts()
    }

    fn connect(&mut self) -> Result<(), SourceError> {
        if self.network.is_some() {
            return Ok(());
        }
        let lines = self.lanes.iter().map(|lane| Line {
            settings: lane.settings.clone(),
            version: self.plan.version,
            was_known: lane.was_known,
        });
        self.network = Some(Network::start(lines.collect(), &self.inbox)?);
        Ok(())
    }
}

impl Lane {
    /// Makes a chunk of messages; `None` when none of them is used.
    fn chunk(
        &mut self,
        plan: &Plan,
        inbox: &Inbox,
        messages: Vec<Message>,
    ) -> Result<Option<Chunk>, SourceError> {
        let first = self.next_ordinal;
        let mut payload = Vec::new();
        for message in messages {
            if message.is_retained && plan.retained == Retained::Ignore {
                inbox.count(|c| c.retained += 1);
            } else {
                self.next_ordinal += self.add(plan, inbox, &message, &mut payload);
            }
            if let Some(receipt) = message.receipt {
                self.unacknowledged.push_back((self.next_ordinal - 1, receipt));
            }
        }
        if self.next_ordinal >= ORDINAL_MAX {
            let name = &self.name;
            return Err(SourceError::Limit(format!("'{name}' has sent more than 2^40 records")));
        }
        self.acknowledge();
        if payload.is_empty() {
            return Ok(None);
        }
        let end = self.next_ordinal;
        let range = Range { start: first, end, first_ordinal: first, end_ordinal: end };
        let rows = usize::try_from(end - first).unwrap_or(usize::MAX);
        Ok(Some(Chunk { partition: self.partition, range, rows, payload }))
    }

    /// Appends a message; how many positions it takes.
    fn add(&mut self, plan: &Plan, inbox: &Inbox, message: &Message, to: &mut Vec<u8>) -> u64 {
        // The client has checked it: a topic that is not UTF-8 ends the connection.
        let topic = std::str::from_utf8(&message.topic).unwrap_or_default();
        let whole = &message.payload[..];
        let is_too_long = whole.len() > plan.max_message_bytes;
        let kept = if is_too_long { &whole[..whole.len().min(ORIGINAL_BYTES_MAX)] } else { whole };
        let resolved = match plan.is_sparkplug && !is_too_long {
            true => self.resolve(plan, inbox, message, topic, kept),
            false => Resolved::AsItIs,
        };
        let payload = match &resolved {
            Resolved::Filled(filled) => filled,
            Resolved::AsItIs => kept,
        };
        let records = if is_too_long { 1 } else { plan.format.records(payload) };
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let properties = message.properties.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let whole_bytes = if is_too_long { whole.len() } else { payload.len() };
        let frame = Frame {
            received_ns: message.received_ns,
            is_retained: message.is_retained,
            records,
            whole_bytes: u32::try_from(whole_bytes).unwrap_or(u32::MAX),
            topic,
            properties: properties.collect(),
            payload,
        };
        frame.write(to);
        u64::from(records)
    }

    /// Puts in what only births say, and asks for births that are missing.
    fn resolve(
        &mut self,
        plan: &Plan,
        inbox: &Inbox,
        message: &Message,
        topic: &str,
        payload: &[u8],
    ) -> Resolved {
        let arrival =
            Arrival { received_ns: message.received_ns, is_repeated: message.is_repeated };
        let (resolved, missing) = self.births.resolve(topic, payload, arrival);
        if let Some(rebirth) = missing.filter(|_| plan.asks_for_births)
            && inbox.publish(self.broker, &rebirth.topic, rebirth.payload)
        {
            inbox.count(|c| c.rebirths += 1);
            tracing::info!("'{}': asked for births on '{}'", self.name, rebirth.topic);
        }
        resolved
    }

    /// Acknowledges what is durable, in the order of arrival.
    fn acknowledge(&mut self) {
        while let Some((last, receipt)) = self.unacknowledged.front() {
            if *last > self.durable || !receipt.to.acknowledge(receipt.packet_id) {
                break;
            }
            self.unacknowledged.pop_front();
            crash_point("acknowledged");
        }
    }
}

impl Source for MqttSource {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        self.connect()?;
        for _ in 0..self.lanes.len() {
            let broker = self.turn;
            self.turn = (broker + 1) % self.lanes.len();
            let messages = self.inbox.take(broker, budget_bytes)?;
            if let Some(chunk) = self.lanes[broker].chunk(&self.plan, &self.inbox, messages)? {
                return Ok(Poll::Ready(chunk));
            }
        }
        Ok(Poll::Pending)
    }

    fn read(&mut self, _: Partition, range: Range) -> Result<Chunk, SourceError> {
        let message = format!("a broker does not send message {} again", range.start);
        Err(SourceError::Io(message))
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        if let Some(lane) = self.lanes.iter_mut().find(|l| l.partition == partition) {
            lane.durable = lane.durable.max(upto.ordinal());
            lane.acknowledge();
        }
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(MessageDecoder::new(&self.plan))
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        let lane = self.lanes.iter().find(|l| l.partition == partition).map(|l| &l.name);
        let gone = || self.gone.iter().find(|k| k.partition == partition).map(|k| &k.name);
        lane.or_else(gone).cloned()
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.partition_name(partition).unwrap_or_default().into_bytes()
    }

    /// Brokers that were known keep their numbers. One that is gone is no mistake: what it had sent is in the journal.
    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let mut free = known.iter().map(|k| k.partition.0 + 1).max().unwrap_or(0)..;
        for lane in &mut self.lanes {
            let Some(was) = known.iter().find(|k| k.identity == lane.name.as_bytes()) else {
                lane.partition = Partition(free.next().unwrap_or(u32::MAX));
                continue;
            };
            lane.partition = was.partition;
            lane.was_known = true;
            lane.next_ordinal = was.read.map_or(1, |read| read.end_ordinal);
            lane.durable = lane.next_ordinal - 1;
        }
        let is_gone = |k: &&KnownPartition| self.lanes.iter().all(|l| l.partition != k.partition);
        self.gone = known.iter().filter(is_gone).cloned().collect();
        Ok(())
    }
}

impl Drop for MqttSource {
    fn drop(&mut self) {
        self.network = None;
        tracing::info!("mqtt: {:?}", self.inbox.counts());
    }
}
