//! An HTTP server that takes whatever is sent to it, notes it, and answers what a test tells it to.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::{now, pause};

/// How long a request may take to come, on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// The largest body.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What is answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Nothing: the connection is closed once the request is read.
    HangUp,
    /// Nothing: the connection is closed while the request is read.
    HangUpEarly,
}

/// A request that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Such as `POST /hook HTTP/1.1`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Received {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The server, gone with the value.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    received: Mutex<Vec<Received>>,
    ended: AtomicBool,
}

impl Receiver {
    /// Starts one that gives these replies in turn, and 200 from then on.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(replies: Vec<Reply>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { replies: Mutex::new(replies.into()), ..Shared::default() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if serving.ended.load(Ordering::Acquire) {
                    return;
                }
                let Ok(client) = client else { continue };
                let serving = Arc::clone(&serving);
                // A client that hangs up ends its thread and nothing else.
                std::thread::spawn(move || serve(&client, &serving).ok());
            }
        });
        Ok(Receiver { port, shared })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Requests that came whole, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Waits until so many have come.
    ///
    /// # Errors
    /// When they do not in a minute.
    pub fn await_received(&self, n: usize) -> Result<Vec<Received>> {
        let started = now();
        while started.elapsed() < PATIENCE {
            let received = self.received();
            if received.len() >= n {
                return Ok(received);
            }
            pause();
        }
        bail!("{} requests came, and not {n}", self.received().len())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts, which then sees that it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: &TcpStream, shared: &Shared) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let reply = lock(&shared.replies).pop_front().unwrap_or(Reply::Status(200, Vec::new()));
    if reply == Reply::HangUpEarly {
        return Ok(());
    }
    let received = read_rest(&mut reader, &line)?;
    lock(&shared.received).push(received);
    let Reply::Status(status, headers) = reply else { return Ok(()) };
    let mut answer =
        format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\nconnection: close\r\n");
    for (name, value) in headers {
        answer += &format!("{name}: {value}\r\n");
    }
    answer += "\r\n";
    let mut out = client;
    out.write_all(answer.as_bytes())?;
    Ok(())
}

fn read_rest(reader: &mut BufReader<TcpStream>, line: &str) -> Result<Received> {
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.context("a request has a length")?.1.parse()?;
    anyhow::ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Received { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body)? })
}
