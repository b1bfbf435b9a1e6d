//! The thread that talks to the brokers: it polls as long as there is room in the inbox, whatever the engine does.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use foreline_engine::{Clock as _, SourceError, SystemClock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Version;
use super::inbox::{Inbox, Message};
use super::session::{Heard, Lost, Session, Settings};
use super::trouble::{Trouble, Verdict};
use super::v4::V4;
use super::v5::V5;

/// How long a goodbye may take: acknowledgements that wait are sent before it.
const LEAVE: Duration = Duration::from_secs(2);

/// The running thread.
#[derive(Debug)]
pub(super) struct Network {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// A broker to talk to.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) settings: Settings,
    pub(super) version: Version,
    /// Whether an earlier run has read from it, so that it should have a session for us.
    pub(super) was_known: bool,
}

impl Network {
    /// Starts to talk to all brokers.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(lines: Vec<Line>, inbox: &Arc<Inbox>) -> Result<Self, SourceError> {
        let failed = |e: std::io::Error| SourceError::Io(format!("no thread for the network: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (stop, stopping) = watch::channel(false);
        let inbox = Arc::clone(inbox);
        let work = move || {
            let all = lines.into_iter().enumerate().map(|(broker, line)| {
                let talk = Talk { broker, line, inbox: Arc::clone(&inbox), stop: stopping.clone() };
                talk.on()
            });
            runtime.block_on(futures_util::future::join_all(all));
        };
        let thread = std::thread::Builder::new().name("mqtt".to_owned()).spawn(work);
        Ok(Network { stop, thread: Some(thread.map_err(failed)?) })
    }
}

impl Drop for Network {
    /// Says goodbye to the brokers, so that what was acknowledged is not sent again.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It ends within [`LEAVE`]; a panic there has been told by the panic itself.
            let _ = thread.join();
        }
    }
}

/// All connections to one broker, one after the other.
struct Talk {
    broker: usize,
    line: Line,
    inbox: Arc<Inbox>,
    stop: watch::Receiver<bool>,
}

/// How a connection ended, and how long it had stood.
struct End {
    lost: Lost,
    lasted: Option<Duration>,
}

impl Talk {
    async fn on(self) {
        match self.line.version {
            Version::V4 => self.stay_connected::<V4>().await,
            Version::V5 => self.stay_connected::<V5>().await,
        }
    }

    async fn stay_connected<S: Session>(mut self) {
        let mut trouble = Trouble::default();
        let mut is_first = true;
        let mut stop = self.stop.clone();
        let name = self.line.settings.broker.to_string();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return,
                () = self.inbox.room() => {}
            }
            let end = self.connection::<S>(&mut is_first).await;
            self.inbox.connected(self.broker, None);
            if *self.stop.borrow() {
                return;
            }
            let client_id = &self.line.settings.client_id;
            let dice = SystemClock.now_ns().unsigned_abs() / 1000;
            let wait = match trouble.judge(&end.lost, end.lasted, &name, client_id, dice) {
                Verdict::Wait(wait) => wait,
                Verdict::GiveUp(error) => return self.inbox.fail(error),
            };
            tracing::warn!("'{name}': {}; connecting again in {wait:?}", told(&end.lost));
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One connection, from its first byte to its end.
    async fn connection<S: Session>(&mut self, is_first: &mut bool) -> End {
        let mut session = S::open(&self.line.settings);
        let mut stood_since = None;
        let mut leave_by = None;
        let mut stop = self.stop.clone();
        loop {
            let heard = tokio::select! {
                biased;
                () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if leave_by.is_some() => {
                    Err(Lost::Left)
                }
                // What this interrupts is at worst an acknowledgement, whose message then comes again.
                _ = stop.wait_for(|s| *s), if leave_by.is_none() => {
                    if stood_since.is_none() {
                        return End { lost: Lost::Left, lasted: None };
                    }
                    session.leave(LEAVE);
                    leave_by = Some(Instant::now() + LEAVE);
                    continue;
                }
                heard = session.next() => heard,
            };
            let lost = match heard {
                Ok(Heard::Connected { session_present }) => {
                    stood_since = Some(Instant::now());
                    self.connected(&session, session_present, is_first);
                    continue;
                }
                Ok(heard) => match self.take(heard).await {
                    Ok(()) => continue,
                    Err(lost) => lost,
                },
                Err(lost) => lost,
            };
            return End { lost, lasted: stood_since.map(|since| since.elapsed()) };
        }
    }

    /// Subscribes where the broker has no subscription of ours, or may have those of an earlier configuration.
    fn connected<S: Session>(&self, session: &S, session_present: bool, is_first: &mut bool) {
        let settings = &self.line.settings;
        let was_known = settings.keeps_session && (self.line.was_known || !*is_first);
        self.inbox.connected(self.broker, Some(session.outgoing()));
        self.inbox.count(|c| c.connections += 1);
        if !session_present && was_known {
            self.inbox.count(|c| c.gaps += 1);
            tracing::warn!(
                "'{}' has no session for the client id '{}' any more: what was sent since the last connection is lost",
                settings.broker,
                settings.client_id
            );
        }
        if !session_present || *is_first {
            session.subscribe(settings);
        }
        *is_first = false;
    }

    /// Takes a message in. Where there is no room, the connection rests until there is: the acknowledgements that make room
    /// belong to it. It rests no longer than the broker has patience, and is then given up.
    async fn take_message(&self, message: Message) -> Result<(), Lost> {
        let Some(mut message) = self.inbox.push(self.broker, message) else { return Ok(()) };
        let give_up = Instant::now() + self.line.settings.keep_alive;
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return Err(Lost::Left),
                () = self.inbox.room() => {}
                () = sleep_until(give_up) => break,
            }
            match self.inbox.push(self.broker, message) {
                None => return Ok(()),
                Some(back) => message = back,
            }
        }
        let what =
            "the queue is full (see `queue_bytes`): what is unacknowledged stays with the broker";
        Err(Lost::Network(what.to_owned()))
    }

    /// Takes in what was heard.
    async fn take(&self, heard: Heard) -> Result<(), Lost> {
        match heard {
            Heard::Message(message) => self.take_message(message).await,
            Heard::Subscribed(answers) => {
                for (filter, answer) in self.line.settings.filters.iter().zip(answers) {
                    self.inbox.count(|c| c.subscriptions += 1);
                    match answer {
                        Ok(qos) if qos < self.line.settings.qos => tracing::warn!(
                            "'{}' grants '{filter}' qos {qos} only",
                            self.line.settings.broker
                        ),
                        Ok(_) => {}
                        Err(why) => {
                            return Err(Lost::Refused(format!(
                                "no subscription to '{filter}': {why}"
                            )));
                        }
                    }
                }
                Ok(())
            }
            Heard::Connected { .. } | Heard::Other => Ok(()),
        }
    }
}

/// A lost connection in words, for logs and probes.
pub(super) fn told(lost: &Lost) -> String {
    match lost {
        Lost::Refused(why) => format!("the broker refuses: {why}"),
        Lost::Untrusted(why) => format!("no trust between the broker and us: {why}"),
        Lost::TakenOver => "another client has connected with our client id".to_owned(),
        Lost::Closed(why) | Lost::Network(why) | Lost::Protocol(why) => why.clone(),
        Lost::TooLarge(bytes) => {
            format!("a packet of {bytes} bytes is too large (see `max_packet_bytes`)")
        }
        Lost::Left => "the connection was closed".to_owned(),
    }
}
