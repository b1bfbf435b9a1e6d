//! The first bytes of a connection: whether it is to be encrypted, and how that is agreed on.
//!
//! What a reader would get wrong: nothing is read ahead of the answer, so what a man in the middle sends in the clear before the
//! handshake is never taken for what the client says after it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pgwire::api::{ClientInfo as _, DefaultClient, PgWireConnectionState};
use pgwire::tokio::server::PgWireMessageServerCodec;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Framed;

use super::Socket;
use super::bounded::Bounded;

/// The codes that stand where a version would.
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// The first byte of a client that begins with TLS at once.
const TLS_HANDSHAKE: u8 = 0x16;

/// Requests for encryption that a client makes before it goes on without.
const REQUESTS_MAX: usize = 4;

/// While fewer bytes than a request has are there.
const PAUSE: Duration = Duration::from_millis(5);

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a greeting ends.
#[derive(Debug)]
pub(super) enum Greeted {
    /// The client may say who it is.
    Welcome(Socket),
    /// The same, but it speaks in the clear, and must not.
    Bare(Socket),
    /// It has gone, or wants what there is not.
    Gone,
}

/// Agrees on encryption. Where it `must` be, a client without it may cancel a query and nothing else.
pub(super) async fn greet(
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&TlsAcceptor>,
    must: bool,
) -> io::Result<Greeted> {
    stream.set_nodelay(true)?;
    for _ in 0..REQUESTS_MAX {
        let Some((first, code)) = peek(&stream).await? else { return Ok(Greeted::Gone) };
        if first == TLS_HANDSHAKE {
            let Some(tls) = tls else { return Ok(Greeted::Gone) };
            return Ok(Greeted::Welcome(encrypted(stream, peer, tls).await?));
        }
        match (code, tls) {
            (SSL_REQUEST, Some(tls)) => {
                stream.read_exact(&mut [0; 8]).await?;
                stream.write_all(b"S").await?;
                return Ok(Greeted::Welcome(encrypted(stream, peer, tls).await?));
            }
            (SSL_REQUEST | GSS_REQUEST, _) => {
                stream.read_exact(&mut [0; 8]).await?;
                stream.write_all(b"N").await?;
            }
            (code, _) => {
                let socket = framed(Stream::Plain(stream), peer);
                let is_bare = must && code != CANCEL_REQUEST;
                return Ok(if is_bare { Greeted::Bare(socket) } else { Greeted::Welcome(socket) });
            }
        }
    }
    Ok(Greeted::Gone)
}

/// The first byte, and the code behind the length, of what comes next.
async fn peek(stream: &TcpStream) -> io::Result<Option<(u8, u32)>> {
    let mut head = [0; 8];
    loop {
        let n = stream.peek(&mut head).await?;
        match n {
            0 => return Ok(None),
            _ if head[0] == TLS_HANDSHAKE => return Ok(Some((head[0], 0))),
            8 => {
                let [first, _, _, _, code @ ..] = head;
                return Ok(Some((first, u32::from_be_bytes(code))));
            }
            // Whoever never sends the rest is cut off by the time a client has for its startup.
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn encrypted(stream: TcpStream, peer: SocketAddr, tls: &TlsAcceptor) -> io::Result<Socket> {
    Ok(framed(Stream::Tls(Box::new(tls.accept(stream).await?)), peer))
}

fn framed(stream: Stream, peer: SocketAddr) -> Socket {
    let client = DefaultClient::new(peer, matches!(stream, Stream::Tls(_)));
    let codec = PgWireMessageServerCodec::new(client);
    let mut socket = Framed::new(Bounded::new(stream), codec);
    socket.set_state(PgWireConnectionState::AwaitingStartup);
    socket
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
