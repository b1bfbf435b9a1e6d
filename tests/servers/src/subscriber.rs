//! A client of MQTT 3.1.1 that listens with quality 0; nothing of the code under test is in it.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::fake_broker::read_packet;
use crate::publisher::packet;

/// How long a message may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection with one subscription.
#[derive(Debug)]
pub struct Subscriber {
    from: TcpStream,
}

impl Subscriber {
    /// Connects to a broker on the loopback and subscribes to `filter`.
    ///
    /// # Errors
    /// When there is none, or it refuses.
    pub fn connect(port: u16, filter: &str) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("no broker")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // A clean session, and no keep-alive.
        let connect = [0, 4, b'M', b'Q', b'T', b'T', 4, 0b10, 0, 0, 0, 0];
        stream.write_all(&packet(0x10, &connect))?;
        let (head, body) = read_packet(&mut stream).context("no answer from the broker")?;
        ensure!(head == 0x20 && body.get(1) == Some(&0), "the broker refuses: {body:?}");
        let length = u16::try_from(filter.len())?.to_be_bytes();
        let subscribe = [&[0, 1], &length[..], filter.as_bytes(), &[0]].concat();
        stream.write_all(&packet(0x82, &subscribe))?;
        let (head, body) = read_packet(&mut stream).context("no answer from the broker")?;
        ensure!(head == 0x90 && body.get(2) == Some(&0), "no subscription: {body:?}");
        Ok(Subscriber { from: stream })
    }

    /// Topic and payload of the next message.
    ///
    /// # Errors
    /// When none comes in a minute, or the broker is gone.
    pub fn next_message(&mut self) -> Result<(String, Vec<u8>)> {
        let (head, body) = read_packet(&mut self.from).context("no message")?;
        ensure!(head & 0xf6 == 0x30, "packet {head:#x} where a message is due");
        let (length, rest) = body.split_first_chunk().context("a message has a topic")?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (topic, payload) = rest.split_at_checked(length).context("a topic is whole")?;
        Ok((String::from_utf8(topic.to_vec())?, payload.to_vec()))
    }
}
