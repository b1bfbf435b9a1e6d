//! Accepts connections, as many as there may be, and ends them in an orderly way.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::access::Peer;
use crate::limits::{CONNECTIONS, HEAD_TIME, STOP_TIME};

/// How long to wait when a connection cannot be accepted, as when too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first byte of a client that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// What one that does not is told by a server that does.
const IN_THE_CLEAR: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"code\":\"bad-request\",\"detail\":\"this port speaks https\"}";

/// Serves until `stopped` says so and the requests under way have their answer.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    room: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the server cannot listen: {error}");
            return;
        }
    };
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = is_stopped(&mut stopped) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = is_stopped(&mut stopped) => break,
        };
        match (accepted, permit) {
            (Ok((stream, peer)), Ok(permit)) => {
                let router = router.clone().layer(Extension(Peer(peer.ip())));
                let (tls, stopped) = (tls.clone(), stopped.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, router, stopped).await,
                        Some(tls) => {
                            if let Some(stream) = encrypted(stream, &tls).await {
                                connection(stream, router, stopped).await;
                            }
                        }
                    }
                    drop(permit);
                });
            }
            _ => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    // What is not answered by then is cut off.
    tokio::time::timeout(STOP_TIME, room.acquire_many(all)).await.ok();
}

/// Waits for the end. Once whoever could say so is gone, it has come.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

/// Shakes hands, in the time that a request has for its head.
async fn encrypted(
    mut stream: TcpStream,
    tls: &TlsAcceptor,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let shake = async {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 1 && first[0] != TLS_HANDSHAKE {
            stream.write_all(IN_THE_CLEAR).await.ok()?;
            return None;
        }
        let shaken = tls.accept(stream).await;
        shaken.inspect_err(|e| tracing::debug!("a client could not shake hands: {e}")).ok()
    };
    tokio::time::timeout(HEAD_TIME, shake).await.ok().flatten()
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // An error is the client's doing: it went away, or sent what is not HTTP. It was answered as far as that went.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = is_stopped(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}
