//! A client of MQTT 3.1.1 that publishes and knows what was acknowledged; nothing of the code under test is in it.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Most messages that wait for an acknowledgement: the broker's own limit is 20 unless it is told another, and it takes more.
const WINDOW: usize = 100;
/// How long a broker may take to acknowledge, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that publishes.
#[derive(Debug)]
pub struct Publisher {
    to: TcpStream,
    from: BufReader<TcpStream>,
    last_id: u16,
    waiting: usize,
    acknowledged: u64,
}

impl Publisher {
    /// Connects to a broker on the loopback.
    ///
    /// # Errors
    /// When there is none, or it refuses.
    pub fn connect(port: u16, credentials: Option<(&str, &str)>) -> Result<Self> {
        let to = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("no broker")?;
        to.set_read_timeout(Some(PATIENCE))?;
        to.set_nodelay(true)?;
        let from = BufReader::new(to.try_clone()?);
        let mut publisher = Publisher { to, from, last_id: 0, waiting: 0, acknowledged: 0 };
        let flags = if credentials.is_some() { 0b1100_0010 } else { 0b0000_0010 };
        let mut connect = vec![0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 0, 0, 0];
        for text in credentials.iter().flat_map(|(user, password)| [user, password]) {
            connect.extend(u16::try_from(text.len())?.to_be_bytes());
            connect.extend(text.as_bytes());
        }
        publisher.to.write_all(&packet(0x10, &connect))?;
        let mut answer = [0; 4];
        publisher.from.read_exact(&mut answer).context("no answer from the broker")?;
        ensure!(answer[0] == 0x20 && answer[3] == 0, "the broker refuses: {answer:?}");
        Ok(publisher)
    }

    /// Sends a message of quality 1, waiting for older acknowledgements where there are too few.
    ///
    /// # Errors
    /// When the connection is gone: what is not acknowledged may or may not have arrived.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.send(topic, payload, false)
    }

    /// As [`Publisher::publish`], for a message that the broker keeps for new subscribers.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn retain(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.send(topic, payload, true)
    }

    fn send(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        while self.waiting >= WINDOW {
            self.hear()?;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let mut body = Vec::with_capacity(payload.len() + topic.len() + 4);
        body.extend(u16::try_from(topic.len())?.to_be_bytes());
        body.extend(topic.as_bytes());
        body.extend(self.last_id.to_be_bytes());
        body.extend(payload);
        self.to.write_all(&packet(0x32 | u8::from(retain), &body))?;
        self.waiting += 1;
        Ok(())
    }

    /// Waits until the broker has acknowledged everything; how many messages those were.
    ///
    /// # Errors
    /// When it does not in a minute, or is gone.
    pub fn settle(&mut self) -> Result<u64> {
        while self.waiting > 0 {
            self.hear()?;
        }
        Ok(self.acknowledged)
    }

    /// Messages that the broker has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn hear(&mut self) -> Result<()> {
        let mut puback = [0; 4];
        self.from.read_exact(&mut puback).context("no acknowledgement from the broker")?;
        ensure!(puback[0] == 0x40, "the broker sends {puback:?} where a PUBACK is due");
        self.waiting -= 1;
        self.acknowledged += 1;
        Ok(())
    }
}

/// A packet of MQTT with its length.
#[must_use]
pub fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap_or(0);
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
