//! The way to a broker: a connection on a thread of its own, and messages whose acknowledgement is waited for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Version;
use super::network::told;
use super::publish::Published;
use super::session::{Answer, Letter, Lost, Outgoing, Rejected, Session, Settings};
use super::v4::V4;
use super::v5::V5;
use crate::feed::new_runtime;
use crate::notify::{Channel, Notice, Origin, Outcome, message::Message};

/// Notices that are sent before their acknowledgements are waited for.
const BATCH: usize = 100;
/// How long a goodbye may take.
const LEAVE: Duration = Duration::from_millis(500);

/// How messages get to a broker.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) settings: Settings,
    pub(super) version: Version,
    pub(super) retain: bool,
    pub(super) payload: Published,
    pub(super) timeout: Duration,
    pub(super) origin: Origin,
}

/// Publishes notices.
pub(super) struct Publisher {
    way: Way,
    /// Where acknowledgements are waited for.
    runtime: Runtime,
    line: Option<Line>,
}

impl Publisher {
    pub(super) fn new(way: Way) -> Result<Self, String> {
        let runtime = new_runtime()?;
        Ok(Publisher { way, runtime, line: None })
    }

    /// The line that stands, or a new one.
    fn line(&mut self) -> Result<&Line, String> {
        let standing = self.line.take().filter(|line| line.lost().is_none());
        let line = match standing {
            Some(line) => line,
            None => Line::connect(&self.way.settings, self.way.version)?,
        };
        Ok(self.line.insert(line))
    }

    /// What is published for a notice: one letter for each topic.
    fn letters(&self, notice: &Notice) -> Vec<Letter> {
        let mut topics: Vec<(&str, Vec<Arc<Message>>)> = Vec::new();
        for message in &notice.messages {
            match topics.iter_mut().find(|(topic, _)| *topic == message.topic) {
                Some((_, of_topic)) => of_topic.push(Arc::clone(message)),
                None => topics.push((&message.topic, vec![Arc::clone(message)])),
            }
        }
        let letter = |(topic, messages): (&str, Vec<Arc<Message>>)| {
            let part = Notice::of(messages);
            Letter {
                topic: topic.to_owned(),
                payload: payload(self.way.payload, &part, &self.way.origin).into_bytes(),
                qos: self.way.settings.qos,
                retain: self.way.retain,
                id: part.id,
            }
        };
        topics.into_iter().map(letter).collect()
    }

    fn publish(&mut self, notices: &[Notice]) -> Result<Vec<Outcome>, String> {
        let letters: Vec<Vec<Letter>> = notices.iter().map(|n| self.letters(n)).collect();
        let patience = self.way.timeout;
        let line = self.line()?;
        let sent: Vec<Vec<_>> = letters
            .into_iter()
            .map(|of_notice| of_notice.into_iter().map(|l| line.send(l)).collect())
            .collect();
        let outcomes = self.runtime.block_on(async {
            let until = Instant::now() + patience;
            join_all(sent.into_iter().map(|answers| together(answers, until))).await
        });
        Ok(outcomes)
    }
}

impl Channel for Publisher {
    fn batch(&self) -> usize {
        BATCH
    }

    fn deliver(&mut self, notices: &[Notice]) -> Vec<Outcome> {
        let mut outcomes = match self.publish(notices) {
            Ok(outcomes) => outcomes,
            Err(why) => notices.iter().map(|_| Outcome::Retry(why.clone(), None)).collect(),
        };
        if outcomes.iter().any(|o| matches!(o, Outcome::Retry(..))) {
            // What the connection said when it ended is more than that there is no answer.
            let lost = self.line.take().and_then(|line| line.lost());
            let broker = &self.way.settings.broker;
            for outcome in &mut outcomes {
                if let Outcome::Retry(why, _) = outcome {
                    *why = format!("'{broker}': {}", lost.as_ref().unwrap_or(why));
                }
            }
        }
        outcomes
    }
}

/// What became of a notice whose letters have these answers.
async fn together(answers: Vec<Result<Answer, Rejected>>, until: Instant) -> Outcome {
    let mut outcome = Outcome::Delivered;
    for answer in answers {
        let answered = match answer {
            Err(rejected) => Err(rejected),
            Ok(answer) => timeout_at(until, answer)
                .await
                .unwrap_or_else(|_| Err(Rejected::Now("no acknowledgement in time".to_owned()))),
        };
        match answered {
            Ok(()) => {}
            // Some of it may be there; it goes out again as a whole, with the same ids.
            Err(Rejected::Now(why)) => return Outcome::Retry(why, None),
            Err(Rejected::Always(why)) => outcome = Outcome::Refused(why),
        }
    }
    outcome
}

fn payload(form: Published, notice: &Notice, origin: &Origin) -> String {
    if form == Published::Envelope {
        return notice.json(origin);
    }
    let rows: Vec<String> = notice.messages.iter().map(|m| row_with_id(m)).collect();
    match &rows[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(",")),
    }
}

/// The row with the message's id in front, unless it has a column of that name.
fn row_with_id(message: &Message) -> String {
    let row = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&message.row);
    match (row, message.row.strip_prefix('{')) {
        (Ok(row), Some(rest)) if !row.contains_key("id") && !row.is_empty() => {
            format!(r#"{{"id":"{}",{rest}"#, message.id)
        }
        _ => message.row.clone(),
    }
}

/// A connection and its thread, which ends with it.
pub(super) struct Line {
    outgoing: Arc<dyn Outgoing>,
    lost: Arc<Mutex<Option<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Line {
    /// Starts to connect; what is published meanwhile waits.
    pub(super) fn connect(settings: &Settings, version: Version) -> Result<Self, String> {
        let runtime = new_runtime()?;
        let (stop, stopped) = oneshot::channel();
        let (ready, outgoing) = mpsc::channel();
        let lost = Arc::new(Mutex::new(None));
        let (settings, noted) = (settings.clone(), Arc::clone(&lost));
        let work = move || {
            runtime.block_on(async {
                match version {
                    Version::V4 => keep::<V4>(&settings, &ready, stopped, &noted).await,
                    Version::V5 => keep::<V5>(&settings, &ready, stopped, &noted).await,
                }
            });
        };
        let thread = std::thread::Builder::new().name("mqtt notices".to_owned()).spawn(work);
        let thread = thread.map_err(|e| format!("no thread for the network: {e}"))?;
        let outgoing = outgoing.recv().map_err(|_| "the network's thread died".to_owned())?;
        Ok(Line { outgoing, lost, stop: Some(stop), thread: Some(thread) })
    }

    /// Publishes something; the answer comes when the broker has it, or the connection is gone.
    ///
    /// # Errors
    /// When it cannot even be asked for.
    pub(super) fn send(&self, letter: Letter) -> Result<Answer, Rejected> {
        self.outgoing.send(letter)
    }

    /// Why the connection is gone, if it is.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Keeps a connection until it is lost or told to stop.
async fn keep<S: Session>(
    settings: &Settings,
    ready: &mpsc::Sender<Arc<dyn Outgoing>>,
    mut stopped: oneshot::Receiver<()>,
    lost: &Mutex<Option<String>>,
) {
    let mut session = S::open(settings);
    ready.send(session.outgoing()).ok();
    let end = loop {
        tokio::select! {
            heard = session.next() => if let Err(end) = heard { break end },
            _ = &mut stopped => {
                session.leave(LEAVE);
                let goodbye = async { while session.next().await.is_ok() {} };
                tokio::time::timeout(LEAVE, goodbye).await.ok();
                break Lost::Left;
            }
        }
    };
    // Before the session is dropped, which ends all that waits for an answer.
    *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(told(&end));
}
