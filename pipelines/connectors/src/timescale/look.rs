//! Looks at a table now and then, in a thread of its own, and keeps the last that it found.
//!
//! The table is asked for its number of rows and the greatest value of the column that says when a row was changed; only when one
//! of them differs, or there is no such column, is it read, in one transaction, as an object a row.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use foreline_engine::SinkError;
use tokio::runtime::Builder;

use super::address::Address;
use super::connection::Connection;
use super::name::quoted;

/// What is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    pub(crate) address: Address,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// The columns that are read.
    pub(crate) columns: Vec<String>,
    /// The columns in whose order rows are read, so that an unchanged table is the same text.
    pub(crate) order: Vec<String>,
    pub(crate) change_column: Option<String>,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    /// Most bytes of the rows.
    pub(crate) bytes_max: usize,
}

/// A table that is looked at.
#[derive(Debug)]
pub(crate) struct Looking {
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
}

/// Between the thread and whoever wants the table.
#[derive(Debug, Default)]
struct Slot {
    found: Mutex<Option<Result<Vec<u8>, String>>>,
    end: Mutex<bool>,
    ended: Condvar,
}

impl Looking {
    /// Begins to look.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn begin(looked: Looked) -> Result<Self, String> {
        let slot = Arc::new(Slot::default());
        let theirs = Arc::clone(&slot);
        let thread = thread::Builder::new().name("table".to_owned());
        let thread = thread
            .spawn(move || work(&looked, &theirs))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Looking { slot, thread: Some(thread) })
    }

    /// What was found since this was last asked: an object a line, or why nothing will be found.
    pub(crate) fn take(&self) -> Option<Result<Vec<u8>, String>> {
        self.slot.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        *self.slot.end.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.slot.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // It had nothing to say that was not said.
            thread.join().ok();
        }
    }
}

fn work(looked: &Looked, slot: &Slot) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return slot.put(Err(format!("cannot start a runtime: {e}"))),
    };
    let mut mark = None;
    let mut told = false;
    let mut first = true;
    while std::mem::take(&mut first) || !slot.ends_within(looked.every) {
        let look = async { tokio::time::timeout(looked.timeout, look(looked, &mut mark)).await };
        let seen = runtime.block_on(look);
        let seen = seen.unwrap_or_else(|_| {
            let (table, limit) = (looked.name(), looked.timeout);
            Err(SinkError::Retry(format!("reading {table} took longer than {limit:?}")))
        });
        match seen {
            Ok(Some(text)) => slot.put(Ok(text)),
            Ok(None) => {}
            // Said once, until it goes better.
            Err(SinkError::Retry(why)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{why}; what was read before stays, and it is tried again");
                }
                continue;
            }
            Err(e) => {
                // What was found and not yet taken is found again when this is mended.
                mark = None;
                if !std::mem::replace(&mut told, true) {
                    slot.put(Err(e.to_string()));
                }
                continue;
            }
        }
        told = false;
    }
}

impl Slot {
    fn put(&self, found: Result<Vec<u8>, String>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    /// Waits that long; whether the end came meanwhile.
    fn ends_within(&self, time: Duration) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.wait_timeout_while(end, time, |end| !*end);
        waited.is_ok_and(|(end, _)| *end)
    }
}

impl Looked {
    /// The table as SQL has it.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    fn mark(&self) -> Option<String> {
        let column = quoted(self.change_column.as_ref()?);
        Some(format!(
            "SELECT count(*)::text || ' ' || coalesce(max({column})::text, '') FROM {}",
            self.name()
        ))
    }

    fn rows(&self) -> String {
        let list =
            |names: &[String]| names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
        let (columns, order) = (list(&self.columns), list(&self.order));
        format!(
            "SELECT row_to_json(t)::text FROM (SELECT {columns} FROM {}) AS t ORDER BY {order}",
            self.name()
        )
    }
}

/// The table's rows, unless they are what they were.
async fn look(looked: &Looked, mark: &mut Option<String>) -> Result<Option<Vec<u8>>, SinkError> {
    let db = Connection::open(&looked.address, looked.timeout).await?;
    let read = read(&db, looked, mark).await;
    db.hang_up().await;
    read
}

async fn read(
    db: &Connection,
    looked: &Looked,
    mark: &mut Option<String>,
) -> Result<Option<Vec<u8>>, SinkError> {
    let what = format!("read {}", looked.name());
    db.run(&what, "BEGIN TRANSACTION READ ONLY ISOLATION LEVEL REPEATABLE READ").await?;
    let mut found = None;
    if let Some(query) = looked.mark() {
        let rows = db.query(&what, &query, &[]).await?;
        found = rows.first().map(|row| row.get::<_, String>(0));
        if found.is_some() && found == *mark {
            return Ok(None);
        }
    }
    let mut text = Vec::new();
    for row in db.query(&what, &looked.rows(), &[]).await? {
        text.extend_from_slice(row.get::<_, &str>(0).as_bytes());
        text.push(b'\n');
        if text.len() > looked.bytes_max {
            let (table, limit) = (looked.name(), looked.bytes_max);
            return Err(SinkError::Fatal(format!("{table} has more than {limit} bytes")));
        }
    }
    *mark = found;
    Ok(Some(text))
}
