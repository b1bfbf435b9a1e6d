//! A connection through which every byte goes, to be cut, stalled or slowed down at will.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// Bytes that are passed on at a time.
const PIECE_BYTES: usize = 4096;

/// A proxy on the loopback. It ends with its value; connections that are open are cut.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    stalled: Mutex<bool>,
    moved: Condvar,
    /// Most bytes a second in each direction; 0 for as many as come.
    bytes_per_second: AtomicU64,
    /// After so many more bytes from the server all connections are cut; 0 for never.
    cut_after: AtomicU64,
    connections: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy before a port of the loopback.
    ///
    /// # Errors
    /// When no port is free.
    pub fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = Arc::new(Shared::default());
        let own = listener.local_addr()?.port();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, port, &accepting));
        Ok(Proxy { port: own, shared })
    }

    /// Its own port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts all connections when the server has sent so many more bytes: in the middle of a packet, mostly.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes.max(1), Ordering::Release);
    }

    /// Passes nothing on until [`Proxy::go_on`]; the connections stay, and neither side learns of it.
    pub fn stall(&self) {
        *self.shared.stalled.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Passes everything on again.
    pub fn go_on(&self) {
        *self.shared.stalled.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.shared.moved.notify_all();
    }

    /// Passes on so many bytes a second in each direction; 0 for as many as come.
    pub fn slow(&self, bytes_per_second: u64) {
        self.shared.bytes_per_second.store(bytes_per_second, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.moved.notify_all();
        self.cut();
        // Wakes the thread that accepts, which then sees that it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // One that is closed already is cut.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits while the proxy is stalled; whether to go on.
    fn may_pass(&self) -> bool {
        let stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = || self.ended.load(Ordering::Acquire);
        let waited = self.moved.wait_while(stalled, |stalled| *stalled && !ended());
        drop(waited);
        !ended()
    }

    /// Counts bytes from the server; how many of them still pass.
    fn allowance(&self, bytes: usize) -> usize {
        let left = self.cut_after.load(Ordering::Acquire);
        if left == 0 {
            return bytes;
        }
        let pass = u64::try_from(bytes).unwrap_or(u64::MAX).min(left);
        self.cut_after.store(left - pass, Ordering::Release);
        usize::try_from(pass).unwrap_or(bytes)
    }
}

fn accept(listener: &TcpListener, port: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Acquire) {
            return;
        }
        let Ok(client) = client else { continue };
        let server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        // A server that is away is a connection that is closed at once.
        let Ok(server) = server else { continue };
        shared.connections.fetch_add(1, Ordering::AcqRel);
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            continue;
        };
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend(client.try_clone());
        open.extend(server.try_clone());
        drop(open);
        let (up, down) = (Arc::clone(shared), Arc::clone(shared));
        std::thread::spawn(move || pass_on(client, server, &up, false));
        std::thread::spawn(move || pass_on(server_too, client_too, &down, true));
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, shared: &Shared, from_server: bool) {
    let mut piece = [0; PIECE_BYTES];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        let limit = shared.bytes_per_second.load(Ordering::Acquire);
        if limit > 0 {
            std::thread::park_timeout(Duration::from_secs_f64(n as f64 / limit as f64));
        }
        if !shared.may_pass() {
            break;
        }
        let pass = if from_server { shared.allowance(n) } else { n };
        if to.write_all(&piece[..pass]).is_err() {
            break;
        }
        if pass < n {
            shared.cut();
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
