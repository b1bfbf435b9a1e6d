//! A mail server that speaks as much SMTP as it takes to accept a message, to refuse it, or to hang up.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};

use crate::{now, pause};

/// How long a message may take to come, on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The message is taken.
    Accept,
    /// This code is the answer to `RCPT`.
    Refuse(u16),
    /// This code is the answer to `AUTH`.
    NoEntry(u16),
    /// The message is taken, and the connection closed without an answer.
    LoseAnswer,
    /// The connection is closed at once.
    HangUp,
}

/// The server, gone with the value.
#[derive(Debug)]
pub struct Mailbox {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    manners: Mutex<VecDeque<Manner>>,
    mails: Mutex<Vec<String>>,
    commands: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Mailbox {
    /// Starts one whose connections go like this in turn, and well from then on. It offers `AUTH PLAIN`, and no TLS.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(manners: Vec<Manner>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { manners: Mutex::new(manners.into()), ..Shared::default() });
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
        Ok(Mailbox { port, shared })
    }

    /// Its port on the loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Messages that came whole, with their headers.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        lock(&self.shared.mails).clone()
    }

    /// All commands of all connections.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        lock(&self.shared.commands).clone()
    }

    /// Waits until so many messages have come.
    ///
    /// # Errors
    /// When they do not in a minute.
    pub fn await_mails(&self, n: usize) -> Result<Vec<String>> {
        self.await_that(|s| lock(&s.mails).len() >= n)?;
        Ok(self.mails())
    }

    /// Waits until so many commands have come that begin like this.
    ///
    /// # Errors
    /// When they do not in a minute.
    pub fn await_commands(&self, start: &str, n: usize) -> Result<()> {
        self.await_that(|s| lock(&s.commands).iter().filter(|c| c.starts_with(start)).count() >= n)
    }

    fn await_that(&self, is_so: impl Fn(&Shared) -> bool) -> Result<()> {
        let started = now();
        while started.elapsed() < PATIENCE {
            if is_so(&self.shared) {
                return Ok(());
            }
            pause();
        }
        bail!("it did not come to it; {:?} was said", self.commands())
    }
}

impl Drop for Mailbox {
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
    let manner = lock(&shared.manners).pop_front().unwrap_or(Manner::Accept);
    if manner == Manner::HangUp {
        return Ok(());
    }
    let mut reader = BufReader::new(client.try_clone()?);
    let mut out = client;
    out.write_all(b"220 test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        lock(&shared.commands).push(line);
        let answer = match (verb.as_str(), manner) {
            ("EHLO", _) => "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN".to_owned(),
            ("AUTH", Manner::NoEntry(code)) => format!("{code} no entry"),
            ("AUTH", _) => "235 come in".to_owned(),
            ("RCPT", Manner::Refuse(code)) => format!("{code} not here"),
            ("DATA", _) => {
                out.write_all(b"354 go on\r\n")?;
                let mail = read_mail(&mut reader)?;
                lock(&shared.mails).push(mail);
                if manner == Manner::LoseAnswer {
                    return Ok(());
                }
                "250 taken".to_owned()
            }
            ("QUIT", _) => {
                out.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            ("HELO" | "MAIL" | "RCPT" | "NOOP" | "RSET", _) => "250 fine".to_owned(),
            _ => "502 not known".to_owned(),
        };
        out.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

fn read_mail(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("the message broke off");
        }
        if line == ".\r\n" {
            return Ok(mail);
        }
        mail += line.strip_prefix('.').unwrap_or(&line);
    }
}
