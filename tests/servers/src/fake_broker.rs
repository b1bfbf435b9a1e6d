//! A broker of MQTT 3.1.1 that sends what a test tells it to, however wrong.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::publisher::packet;

/// A broker that greets, grants every subscription, and then sends the same bytes on every connection.
#[derive(Debug)]
pub struct FakeBroker {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    script: Vec<u8>,
    connections: AtomicU64,
    /// Packet ids that were acknowledged, in order.
    acknowledged: Mutex<Vec<u16>>,
    ended: AtomicBool,
}

impl FakeBroker {
    /// Starts one that sends `script` after the subscription.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(script: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            script,
            connections: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if serving.ended.load(Ordering::Acquire) {
                    return;
                }
                let Ok(client) = client else { continue };
                let serving = Arc::clone(&serving);
                // A client that hangs up ends its thread and nothing else.
                std::thread::spawn(move || serve(client, &serving).ok());
            }
        });
        Ok(FakeBroker { port, shared })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Packet ids that were acknowledged, in order.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<u16> {
        self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts, which then sees that it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// A PUBLISH of quality 1.
#[must_use]
pub fn publish(topic: &[u8], packet_id: u16, is_dup: bool, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let body = [&length.to_be_bytes()[..], topic, &packet_id.to_be_bytes(), payload].concat();
    packet(if is_dup { 0x3a } else { 0x32 }, &body)
}

fn serve(mut client: TcpStream, shared: &Shared) -> Result<()> {
    shared.connections.fetch_add(1, Ordering::AcqRel);
    loop {
        let (head, body) = read_packet(&mut client)?;
        match head >> 4 {
            1 => client.write_all(&[0x20, 2, 0, 0])?,
            4 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                let mut all = shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(id);
            }
            8 => {
                client.write_all(&packet(0x90, &[body[0], body[1], 1]))?;
                client.write_all(&shared.script)?;
            }
            12 => client.write_all(&[0xd0, 0])?,
            14 => return Ok(()),
            _ => {}
        }
    }
}

pub(crate) fn read_packet(client: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    client.read_exact(&mut byte)?;
    let head = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        client.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 || shift > 21 {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    Ok((head, body))
}
