//! The way in for records that are pushed to us: what waits between a request and the source that hands it on.
//!
//! ```text
//! examine  →  push  →  (source) poll  →  journal, fsync  →  durable  →  the receipt is settled: answer 200
//! ```
//!
//! What a reader would get wrong:
//!
//! * Nothing is taken before the source has been polled once: until then it does not know what an earlier run has taken.
//! * A receipt that is never settled says nothing: the records may or may not be in the journal.
//! * An idempotency key is durable before the records that it stands for are handed on, with their ordinal. A key whose
//!   ordinal the journal does not reach when a run begins stands for records that were never taken, and is forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foreline_engine::{Chunk, Partition, Range, SourceError};
use tokio::sync::oneshot;

use crate::http::{BadBody, Examined, Examiner};
use keys::Keys;

mod keys;

/// Longest idempotency key, in bytes; a UUID has 36.
pub const KEY_BYTES_MAX: usize = 255;
/// What an entry takes beside its bytes, so that many small ones are bounded too.
const ENTRY_BYTES: usize = 256;

/// The limits of a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorLimits {
    /// Largest body, decompressed.
    pub body_bytes: usize,
    /// Most bytes that wait for the journal.
    pub inbox_bytes: usize,
    /// Most requests a second; as many may come at once.
    pub requests_per_s: u32,
    /// How many of the latest idempotency keys are known.
    pub keys: usize,
}

/// The way into one source.
pub struct Door {
    limits: DoorLimits,
    examiner: Examiner,
    /// One request at a time decides about its key and gets its ordinals.
    admission: Mutex<Admission>,
    inbox: Mutex<Inbox>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Admission {
    folder: Option<PathBuf>,
    keys: Keys,
}

#[derive(Debug, Default)]
struct Inbox {
    open: bool,
    /// Ordinal of the next record.
    next: u64,
    waiting: VecDeque<Entry>,
    n_bytes: usize,
    /// Handed on, and not yet durable.
    unsettled: VecDeque<Unsettled>,
    /// When the pipeline last asked for records.
    polled: Option<Instant>,
}

#[derive(Debug)]
struct Unsettled {
    first: u64,
    last: u64,
    settle: oneshot::Sender<Fate>,
}

#[derive(Debug)]
struct Entry {
    parcel: Parcel,
    settle: oneshot::Sender<Fate>,
}

/// Records on their way through a door.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Ordinal of the first.
    pub(crate) first: u64,
    /// How many ordinals they take.
    pub(crate) records: u64,
    /// As the decoder takes it.
    pub(crate) payload: Vec<u8>,
}

impl Parcel {
    /// The records as a source hands them on.
    pub(crate) fn chunk(self, partition: Partition) -> Chunk {
        let (start, end) = (self.first, self.first + self.records);
        let range = Range { start, end, first_ordinal: start, end_ordinal: end };
        let rows = usize::try_from(self.records).unwrap_or(usize::MAX);
        Chunk { partition, range, rows, payload: self.payload }
    }
}

/// How many requests may still come.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No run takes records.
    #[error("the pipeline does not take records: it is starting, or ending")]
    Closed,
    /// So much waits that there is no room.
    #[error("the inbox is full: the journal or the sinks are behind")]
    Full,
    /// More requests than are allowed.
    #[error("more than {0} requests a second")]
    TooMany(u32),
    /// Another request with the key is under way.
    #[error("another request with this idempotency key is under way")]
    UnderWay,
    /// The key stands for other records.
    #[error("the idempotency key stands for another body")]
    KeyReused,
    /// The key cannot be kept.
    #[error("idempotency keys cannot be kept: {0}")]
    Keys(String),
}

/// What became of a request that is taken.
#[derive(Debug)]
pub enum Taken {
    /// It is on its way; durable once the receipt is settled.
    Now(Receipt),
    /// An earlier request with its key is durable.
    Before,
}

/// What became of records that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are in the journal for certain.
    Durable,
    /// They are not, and will not be.
    NotTaken,
    /// The run ended with them under way.
    Unknown,
}

/// Says when records are durable.
#[derive(Debug)]
pub struct Receipt {
    first: u64,
    settled: oneshot::Receiver<Fate>,
    /// Whether the records can be taken back: those under a key stay.
    revocable: bool,
}

impl Receipt {
    /// Waits until it is known what became of the records.
    pub async fn settled(&mut self) -> Fate {
        (&mut self.settled).await.unwrap_or(Fate::Unknown)
    }
}

impl Door {
    /// A door into a source; closed until the source is polled.
    pub(crate) fn new(limits: DoorLimits, examiner: Examiner) -> Self {
        Door {
            limits,
            examiner,
            admission: Mutex::default(),
            inbox: Mutex::new(Inbox { next: 1, ..Inbox::default() }),
            bucket: Mutex::new(Bucket { tokens: f64::from(limits.requests_per_s), filled: now() }),
        }
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> DoorLimits {
        self.limits
    }

    /// Keeps idempotency keys in `folder`, so that the next run knows them. Called before the pipeline runs.
    pub fn keep_keys_in(&self, folder: PathBuf) {
        self.lock_admission().folder = Some(folder);
    }

    /// Takes one request out of what is allowed; where none is left, how long to wait.
    #[must_use]
    pub fn allow(&self) -> Option<Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = f64::from(self.limits.requests_per_s);
        let now = now();
        let grown = bucket.tokens + now.duration_since(bucket.filled).as_secs_f64() * rate;
        *bucket = Bucket { tokens: grown.min(rate), filled: now };
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - bucket.tokens) / rate))
    }

    /// What the source makes of a body of the media type `content_type`, before anything is kept of it.
    ///
    /// # Errors
    /// When it takes no such type, or nothing in the body can be used.
    pub fn examine(&self, content_type: &str, body: &[u8]) -> Result<Examined, BadBody> {
        self.examiner.examine(content_type, body)
    }

    /// How long ago the pipeline last asked for records; `None` while the door is closed.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        let inbox = self.lock_inbox();
        let polled = inbox.polled.filter(|_| inbox.open)?;
        Some(now().duration_since(polled))
    }

    /// Takes what was examined. May wait for an fsync when there is a key.
    ///
    /// # Errors
    /// Why it is not taken; nothing of it is kept then.
    pub fn push(&self, examined: Examined, key: Option<&str>) -> Result<Taken, Refused> {
        let mut admission = self.lock_admission();
        let digest = examined.digest();
        if let Some(known) = key.and_then(|key| admission.keys.get(key)) {
            return match known {
                known if known.digest != digest => Err(Refused::KeyReused),
                known if self.is_under_way(known.first) => Err(Refused::UnderWay),
                _ => Ok(Taken::Before),
            };
        }
        let n_bytes = examined.payload.len() + ENTRY_BYTES;
        let first = self.room_for(n_bytes)?;
        if let Some(key) = key {
            admission.keys.add(key, digest, first, self.limits.keys).map_err(Refused::Keys)?;
        }
        let (settle, settled) = oneshot::channel();
        let mut inbox = self.lock_inbox();
        if !inbox.open {
            return Err(Refused::Closed);
        }
        let Examined { records, payload, .. } = examined;
        inbox.next = first + records;
        inbox.n_bytes += n_bytes;
        inbox.waiting.push_back(Entry { parcel: Parcel { first, records, payload }, settle });
        Ok(Taken::Now(Receipt { first, settled, revocable: key.is_none() }))
    }

    /// Takes back what was not handed on yet. False where that cannot be: it may become durable.
    #[must_use]
    pub fn take_back(&self, receipt: &Receipt) -> bool {
        let mut inbox = self.lock_inbox();
        let at = inbox.waiting.iter().position(|e| e.parcel.first == receipt.first);
        let Some(entry) = at.filter(|_| receipt.revocable).and_then(|at| inbox.waiting.remove(at))
        else {
            return false;
        };
        inbox.n_bytes -= entry.parcel.payload.len() + ENTRY_BYTES;
        true
    }

    /// The ordinal that comes next, if there is room.
    fn room_for(&self, n_bytes: usize) -> Result<u64, Refused> {
        let inbox = self.lock_inbox();
        match inbox.open {
            false => Err(Refused::Closed),
            // One that is larger than the inbox goes through when it is alone.
            true if inbox.n_bytes + n_bytes > self.limits.inbox_bytes && inbox.n_bytes > 0 => {
                Err(Refused::Full)
            }
            true => Ok(inbox.next),
        }
    }

    fn is_under_way(&self, first: u64) -> bool {
        let inbox = self.lock_inbox();
        inbox.waiting.iter().any(|e| e.parcel.first == first)
            || inbox.unsettled.iter().any(|u| u.first == first)
    }

    fn lock_inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source's side.
impl Door {
    /// Goes on behind the records before ordinal `next`.
    pub(crate) fn resume(&self, next: u64) {
        self.lock_inbox().next = next.max(1);
    }

    /// What waits longest. Opens the door when it is called first.
    pub(crate) fn take(&self) -> Result<Option<Parcel>, SourceError> {
        let mut inbox = self.lock_inbox();
        inbox.polled = Some(now());
        if !inbox.open {
            let next = inbox.next;
            drop(inbox);
            let mut admission = self.lock_admission();
            if let Some(folder) = admission.folder.clone() {
                admission.keys = Keys::open(&folder, next, self.limits.keys).map_err(|e| {
                    SourceError::Io(format!("idempotency keys cannot be kept: {e}"))
                })?;
            }
            self.lock_inbox().open = true;
            return Ok(None);
        }
        let Some(Entry { parcel, settle }) = inbox.waiting.pop_front() else { return Ok(None) };
        inbox.n_bytes -= parcel.payload.len() + ENTRY_BYTES;
        let (first, last) = (parcel.first, parcel.first + parcel.records - 1);
        inbox.unsettled.push_back(Unsettled { first, last, settle });
        Ok(Some(parcel))
    }

    /// All records up to ordinal `upto` are durable.
    pub(crate) fn durable(&self, upto: u64) {
        let mut inbox = self.lock_inbox();
        while inbox.unsettled.front().is_some_and(|u| u.last <= upto) {
            if let Some(unsettled) = inbox.unsettled.pop_front() {
                // Whoever asked may have gone.
                unsettled.settle.send(Fate::Durable).ok();
            }
        }
    }

    /// The run is over: nothing that waits will become durable by it.
    pub(crate) fn close(&self) {
        let mut inbox = self.lock_inbox();
        inbox.open = false;
        for entry in inbox.waiting.drain(..) {
            entry.settle.send(Fate::NotTaken).ok();
        }
        inbox.unsettled.clear();
        inbox.n_bytes = 0;
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "rates and idleness are no part of a result")]
fn now() -> Instant {
    Instant::now()
}
