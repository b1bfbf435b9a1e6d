//! Queries over the PostgreSQL wire: psql, Grafana, and every driver that speaks it.
//!
//! What a reader would get wrong:
//!
//! * It is the gate of [`Queries`] with another front: what may be asked, and how much a query may take, is the same.
//! * A transaction is one in name only. Nothing is written, and each query in it is of an epoch of its own; `SHOW foreline.epoch`
//!   says which the last one was.
//! * It has a thread and a runtime of its own. A client that goes away in the middle cancels its query.
//! * Passwords cross the wire as they are. Where others can reach it, a client must speak TLS before it says who it is.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt as _;
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::{ClientInfo as _, ConnectionManager, NoopHandler, PgWireConnectionState};
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::codec::Framed;

use crate::query::Queries;

mod answer;
mod bounded;
mod greeting;
mod session;
mod settings;

use bounded::Bounded;
use greeting::{Greeted, Stream};
use session::{Prepared, Session};

/// Connections at a time. A pool of a dashboard takes ten.
const CONNECTIONS: usize = 64;
/// How long a client may take to say who it is.
const STARTUP_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be silent.
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// Between two looks whether a client whose query runs is still there.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// How long connections have to say good-bye when the server ends.
const STOP_TIME: Duration = Duration::from_millis(500);

/// Says who may connect.
pub trait Doorkeeper: Debug + Send + Sync {
    /// Whether anybody may, without a password.
    fn is_open(&self) -> bool;

    /// Whether `user`, calling from `address`, may with this password; where not, why, in words that may be shown.
    fn admits<'a>(&'a self, user: &'a str, password: &'a str, address: IpAddr) -> Admitting<'a>;
}

/// An answer of a [`Doorkeeper`].
pub type Admitting<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// A server of the PostgreSQL wire.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What all connections share.
struct House {
    queries: Arc<Queries>,
    doorkeeper: Arc<dyn Doorkeeper>,
    connections: Arc<ConnectionManager>,
    tls: Option<TlsAcceptor>,
    /// Whether a client in the clear is refused.
    must_encrypt: bool,
}

/// The application protocol of the wire, by its registered name.
pub const PROTOCOL: &str = "postgresql";

impl Wire {
    /// Listens on `address` and serves until it is dropped. Port 0 takes a free one. With `tls` clients may encrypt; where `address`
    /// can be reached from other machines, they must.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no thread be started.
    pub fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        queries: Arc<Queries>,
        doorkeeper: Arc<dyn Doorkeeper>,
    ) -> io::Result<Self> {
        let failed = |e: io::Error| {
            let what = "section 'serve', field 'postgres'";
            io::Error::new(e.kind(), format!("cannot listen on {address} ({what}): {e}"))
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connections = Arc::new(ConnectionManager::new());
        let (tls, must_encrypt) = (tls.map(TlsAcceptor::from), !address.ip().is_loopback());
        let house = Arc::new(House { queries, doorkeeper, connections, tls, must_encrypt });
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            runtime.block_on(accept(listener, house, stopped));
            runtime.shutdown_timeout(STOP_TIME);
        })?;
        Ok(Wire { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the PostgreSQL wire panicked (a bug)");
        }
    }
}

async fn accept(listener: TcpListener, house: Arc<House>, mut stop: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return tracing::error!("the PostgreSQL wire cannot listen: {e}"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut stop) => break,
            // Those that have ended are forgotten.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, most likely: the next one may find some.
                tracing::warn!("a client of the PostgreSQL wire was not accepted: {e}");
                tokio::time::sleep(LOOK_TIME).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("{peer} was refused: {CONNECTIONS} clients are connected");
            continue;
        };
        let (house, stop) = (Arc::clone(&house), stop.clone());
        connections.spawn(async move {
            if let Err(e) = serve(stream, &house, stop).await {
                tracing::debug!("a client of the PostgreSQL wire was lost: {e}");
            }
            drop(place);
        });
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_TIME, ended).await;
}

/// Serves one client until it goes, or the server ends.
async fn serve(
    stream: TcpStream,
    house: &House,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    // The same connection once more, to see when it is closed while a query runs.
    let stream = stream.into_std()?;
    let door = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let greeting = greeting::greet(stream, peer, house.tls.as_ref(), house.must_encrypt);
    let Ok(greeted) = tokio::time::timeout(STARTUP_TIME, greeting).await else { return Ok(()) };
    let mut socket = match greeted? {
        Greeted::Welcome(socket) => socket,
        Greeted::Bare(mut socket) => {
            return farewell(&mut socket, "28000", "the connection must be encrypted").await;
        }
        Greeted::Gone => return Ok(()),
    };
    let session = Arc::new(Session::new(
        Arc::clone(&house.queries),
        Arc::clone(&house.doorkeeper),
        peer.ip(),
    ));
    let manager = Arc::clone(&house.connections);
    session.register_in(Arc::clone(&manager));
    let canceller = Arc::new(DefaultCancelHandler::new(manager));
    loop {
        let is_starting = matches!(
            socket.state(),
            PgWireConnectionState::AwaitingStartup
                | PgWireConnectionState::AuthenticationInProgress
        );
        let most = if is_starting { STARTUP_TIME } else { IDLE_TIME };
        socket.get_mut().begin_message();
        let message = tokio::select! {
            message = tokio::time::timeout(most, socket.next()) => message,
            () = ended(&mut stop) => return farewell(&mut socket, "57P01", "the engine ends").await,
        };
        let message = match message {
            Err(_) => {
                return farewell(&mut socket, "57P05", "the connection was silent for too long")
                    .await;
            }
            Ok(None | Some(Ok(PgWireFrontendMessage::Terminate(_)))) => return Ok(()),
            Ok(Some(Err(e))) => return farewell(&mut socket, "08P01", &e.to_string()).await,
            Ok(Some(Ok(message))) => message,
        };
        let is_extended = message.is_extended_query();
        let handled = tokio::select! {
            handled = process_message(
                message,
                &mut socket,
                Arc::clone(&session),
                Arc::clone(&session),
                Arc::clone(&session),
                Arc::new(NoopHandler),
                Arc::clone(&canceller),
            ) => handled,
            () = closed(&door) => return Ok(()),
            () = ended(&mut stop) => return farewell(&mut socket, "57P01", "the engine ends").await,
        };
        if let Err(error) = handled {
            process_error(&mut socket, error, is_extended).await?;
        }
    }
}

/// Waits for the end of the server. Once whoever could say so is gone, it has come.
async fn ended(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

type Socket = Framed<Bounded<Stream>, PgWireMessageServerCodec<Prepared>>;

/// The last word to a client.
async fn farewell(socket: &mut Socket, code: &str, message: &str) -> io::Result<()> {
    let last = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.to_owned());
    process_error(socket, pgwire::error::PgWireError::UserError(Box::new(last)), false).await
}

/// Waits until the other side has closed the connection.
async fn closed(door: &TcpStream) {
    loop {
        match door.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            Err(_) => return,
            // What the client sends ahead stays where it is, and is no news.
            Ok(_) => tokio::time::sleep(LOOK_TIME).await,
        }
    }
}

/// A startup handler is a part of the session; named here so that a reader finds it.
const _: fn() = || {
    fn is_startup<T: StartupHandler>() {}
    is_startup::<Session>();
};

#[cfg(test)]
mod tests;
