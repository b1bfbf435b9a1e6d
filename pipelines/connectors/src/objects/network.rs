//! A thread that runs the requests of one connector.
//!
//! The engine calls sources and sinks from threads that know nothing of tokio, so a call hands its request over and
//! waits. When the value is dropped, requests that are under way are given up.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::ObjectError;

/// The thread and the way to it.
#[derive(Debug)]
pub(crate) struct Network {
    handle: Handle,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread =
            std::thread::Builder::new().name("s3 requests".to_owned()).spawn(move || {
                runtime.block_on(stopped).ok();
                runtime.shutdown_background();
            })?;
        Ok(Network { handle, stop: Mutex::new(Some(stop)), thread: Some(thread) })
    }

    /// Has `task` run.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Has `request` run and waits for its answer.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, ObjectError>> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let (sender, answer) = oneshot::channel();
        self.spawn(async move {
            sender.send(request.await).ok();
        });
        let gone = || Err(ObjectError::Transient("the connector is being closed".to_owned()));
        answer.blocking_recv().unwrap_or_else(|_| gone())
    }

    /// Gives up what is under way; nothing more is answered.
    pub(crate) fn stop(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
