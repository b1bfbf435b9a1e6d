//! `GET /api/v1/tables/{table}/stream`: what changes of a view, as server-sent events.
//!
//! ```text
//! event: at      {"epoch":7}                              where the reader begins: what follows is behind it
//! event: change  {"epoch":9,"came":[...],"went":[...]}    one an epoch in which something changed
//! event: reset   {"epoch":12}                             too much was missed: read the table again
//! ```
//!
//! What a reader would get wrong: the id of every event names its epoch, so that a browser that connects again goes on where it was
//! (`last-event-id`). A table remembers some megabytes of changes; who is further behind is told to read it anew.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use foreline_engine::{Changes, Table};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::limits::{FOLLOWERS, RETRY_AFTER};
use crate::problem::Problem;
use crate::routes::Site;
use crate::tables::{version, written};

/// How often a table is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often a quiet connection is shown to be alive.
const ALIVE: Duration = Duration::from_secs(15);

/// Follows a view; `known` is the id of the last event that the reader has seen.
pub(crate) fn changes(
    site: &Site,
    table: Arc<Table>,
    edition: u64,
    known: Option<&str>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Problem> {
    let room = Arc::clone(&site.followers).try_acquire_owned().map_err(|_| {
        let detail = format!("{FOLLOWERS} readers follow tables, and that is the limit");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).after(RETRY_AFTER)
    })?;
    let at = known.and_then(|id| {
        let (of, epoch) = id.strip_prefix('g')?.split_once('e')?;
        Some((u64::from_str_radix(of, 16).ok()?, epoch.parse().ok()?))
    });
    let mut follower = Follower {
        table,
        edition,
        at: at.filter(|(of, _)| *of == edition).map(|(_, epoch)| epoch),
        waiting: VecDeque::new(),
        stopped: site.stopped.clone(),
        _room: room,
    };
    if known.is_some() && follower.at.is_none() {
        // What it knows is of another edition, or nothing that was ever told.
        let reset = follower.begin("reset");
        follower.waiting.push_back(reset);
    }
    let events = unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// A reader that follows a table.
struct Follower {
    table: Arc<Table>,
    edition: u64,
    /// The epoch that the reader knows the table of.
    at: Option<u64>,
    waiting: VecDeque<Event>,
    stopped: watch::Receiver<bool>,
    _room: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if *self.stopped.borrow() {
                return None;
            }
            let Some(at) = self.at else { return Some(self.begin("at")) };
            if self.table.epoch() != at {
                match self.table.changes_after(at) {
                    Ok(Some(changes)) => {
                        self.at = Some(changes.last().map_or(at, |c| c.epoch));
                        let event = |c| event(self.edition, c);
                        self.waiting = changes.iter().filter_map(event).collect();
                    }
                    Ok(None) => return Some(self.begin("reset")),
                    Err(error) => {
                        tracing::error!("a table cannot be followed: {error}");
                        return None;
                    }
                }
            }
            if self.waiting.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    _ = self.stopped.wait_for(|stop| *stop) => return None,
                }
            }
        }
    }

    /// Goes on from the table as it is now.
    fn begin(&mut self, what: &str) -> Event {
        let epoch = self.table.epoch();
        self.at = Some(epoch);
        let id = version(self.edition, epoch);
        Event::default().event(what).id(id).data(format!("{{\"epoch\":{epoch}}}"))
    }
}

fn event(edition: u64, changes: &Changes) -> Option<Event> {
    let text = |rows| String::from_utf8(written(rows).ok()?).ok();
    let (came, went) = (text(&changes.came)?, text(&changes.went)?);
    let epoch = changes.epoch;
    let data = format!("{{\"epoch\":{epoch},\"came\":{came},\"went\":{went}}}");
    Some(Event::default().event("change").id(version(edition, epoch)).data(data))
}
