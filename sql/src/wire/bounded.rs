//! A connection that ends when one message is too long, where the protocol alone would read on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest message of a client: a query with its values.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;

/// A stream of which so many bytes are read for one message.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    left: usize,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S) -> Self {
        Bounded { inner, left: MESSAGE_BYTES }
    }

    /// A message begins.
    pub(super) fn begin_message(&mut self) {
        self.left = MESSAGE_BYTES;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let what = format!("a message has more than {MESSAGE_BYTES} bytes, which is the limit");
            return Poll::Ready(Err(io::Error::other(what)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
