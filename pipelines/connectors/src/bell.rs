//! A bell at a source that looks for new things now and then: whoever knows that there are some rings it.
//!
//! What a reader would get wrong: a ring says nothing of what is new and may be lost, repeated or a lie. It only moves the
//! next look forward, so nothing depends on it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bell of one source.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<SyncSender<()>>>);

impl Bell {
    /// Rings; whether anybody hears it.
    pub fn ring(&self) -> bool {
        match self.sender().as_ref().map(|sender| sender.try_send(())) {
            // A ring that was not answered yet stands for this one too.
            Some(Ok(()) | Err(TrySendError::Full(()))) => true,
            Some(Err(TrySendError::Disconnected(()))) | None => false,
        }
    }

    /// Where rings are heard, until [`Bell::silence`].
    pub(crate) fn listen(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        *self.sender() = Some(sender);
        receiver
    }

    /// Nobody hears it any more: who listens finds the other end closed.
    pub(crate) fn silence(&self) {
        self.sender().take();
    }

    fn sender(&self) -> MutexGuard<'_, Option<SyncSender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
    use std::time::Duration;

    use super::*;

    #[test]
    fn rings_that_nobody_answered_are_one() {
        let bell = Bell::default();
        assert!(!bell.ring());
        let rings = bell.listen();
        assert!(bell.ring() && bell.ring() && bell.ring());
        assert_eq!((rings.try_recv(), rings.try_recv()), (Ok(()), Err(TryRecvError::Empty)));
        bell.silence();
        let closed = rings.recv_timeout(Duration::from_secs(60));
        assert_eq!((closed, bell.ring()), (Err(RecvTimeoutError::Disconnected), false));
    }
}
