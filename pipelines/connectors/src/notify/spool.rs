//! What waits to be delivered, and up to which epoch it is complete: one file that only grows until it is written anew.
//!
//! ```text
//! record   mark, length u32, xxh3 u64, postcard    each append is fsynced before the next
//! Head     who writes here: run, generation, committed epoch, next number       first, once
//! Kept     messages that waited when the file was written anew
//! Commit   the messages of some epochs, and the last of these
//! Bundle   messages that go out as one notice, before it is sent for the first time
//! Done     messages that are delivered or given up
//! ```
//!
//! What a reader would get wrong:
//!
//! * Taking over writes the file anew with the new run in its head and renames it into place, under a lock. An older run
//!   that is still alive reads the head before each append, and is fenced.
//! * Only the last record can be torn, sector by sector. A damaged one with a whole one behind it is no crash but a broken
//!   disk, and is refused: dropping it would lose messages without a word.
//! * An fsync that failed is not tried again: the spool is broken until it is opened anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{AppendFile, Disk, RunId, SinkError, crash_point};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::message::{Message, Origin};
use super::pace::Unit;

/// The layout of the file.
const VERSION: u32 = 1;
const NAME: &str = "spool";
const NEW_NAME: &str = "spool.new";
const LOCK_NAME: &str = "_lock";
/// How a record begins, to find one behind damage. No text has these bytes: they are not UTF-8.
const MARK: [u8; 4] = [0xf0, 0xff, 0x5e, 0xc0];
/// Mark, length and hash in front of each record.
const FRAME_BYTES: usize = 16;
/// A record beyond this is none of ours: a commit has the rows of a few epochs.
const RECORD_BYTES_MAX: usize = 1 << 30;
/// A head is no larger: it has three names.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Messages of a record when the file is written anew.
const KEPT_MESSAGES: usize = 1024;
/// The file is written anew when it has so much beside twice what waits.
const SLACK_BYTES: u64 = 1 << 20;

/// Who writes, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
    origin: Origin,
    run: u64,
    generation: u64,
    committed: Option<u64>,
    /// The number of the next message.
    next: u64,
}

#[derive(Debug, Deserialize)]
enum Record {
    Head(Head),
    Kept(Vec<Message>),
    Commit { upto: u64, messages: Vec<Message> },
    Bundle { numbers: Vec<u64>, due_ns: i64 },
    Done { numbers: Vec<u64> },
}

/// The same, borrowed, to be written. Variants and fields are in the same order.
#[derive(Debug, Serialize)]
enum RecordRef<'a> {
    Head(&'a Head),
    Kept(&'a [&'a Message]),
    Commit { upto: u64, messages: &'a [Message] },
    Bundle { numbers: &'a [u64], due_ns: i64 },
    Done { numbers: &'a [u64] },
}

/// Where a spool lies.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) locking: Locking,
}

/// What keeps two processes from writing at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// A lock on a file of this machine.
    File,
    /// Nothing: the disk is simulated.
    #[cfg(test)]
    None,
}

/// Messages that wait.
#[derive(Debug)]
pub(super) struct Spool {
    place: Place,
    limit_bytes: u64,
    head: Head,
    state: State,
    file: Box<dyn AppendFile>,
    n_bytes: u64,
    /// Why nothing more can be written.
    broken: Option<SinkError>,
}

/// What the records come to.
#[derive(Debug, Default)]
struct State {
    committed: Option<u64>,
    next: u64,
    waiting: BTreeMap<u64, Arc<Message>>,
    waiting_bytes: u64,
    bundle: Option<Unit>,
}

impl State {
    fn add(&mut self, message: Message) {
        self.next = self.next.max(message.number + 1);
        self.waiting_bytes += message.bytes() as u64;
        self.waiting.insert(message.number, Arc::new(message));
    }

    fn remove(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(message) = self.waiting.remove(number) {
                self.waiting_bytes -= message.bytes() as u64;
            }
        }
        let gone = |unit: &Unit| unit.numbers.iter().all(|n| !self.waiting.contains_key(n));
        if self.bundle.as_ref().is_some_and(gone) {
            self.bundle = None;
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Head(head) => (self.committed, self.next) = (head.committed, head.next),
            Record::Kept(messages) => messages.into_iter().for_each(|m| self.add(m)),
            Record::Commit { upto, messages } => {
                self.committed = Some(upto);
                messages.into_iter().for_each(|m| self.add(m));
            }
            Record::Bundle { numbers, due_ns } => self.bundle = Some(Unit { numbers, due_ns }),
            Record::Done { numbers } => self.remove(&numbers),
        }
    }
}

impl Spool {
    /// Takes over the spool in a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When a newer run has it, or what is there is damaged or somebody else's, or the file system fails.
    pub(super) fn open(
        place: Place,
        origin: &Origin,
        limit_bytes: u64,
        run: RunId,
        generation: u64,
    ) -> Result<Self, SinkError> {
        let made = place.disk.create_dir_all(&place.folder);
        made.map_err(|e| place.failed("make the folder of", &e))?;
        let lock = place.lock()?;
        let (found, mut state) = place.load()?;
        if let Some(found) = &found {
            if found.run > run.0 || found.generation > generation {
                return Err(SinkError::Fenced(RunId(found.run)));
            }
            if found.origin != *origin {
                let Origin { pipeline, sink, stream } = &found.origin;
                let whose = format!("it is that of '{stream}' into '{sink}' of '{pipeline}'");
                return Err(place.damaged(&whose));
            }
            if found.generation < generation {
                // What waits was promised by the earlier computation, and goes out; the new one begins at its first epoch.
                state.committed = None;
            }
        }
        let head = Head {
            version: VERSION,
            origin: origin.clone(),
            run: run.0,
            generation,
            committed: None,
            next: 0,
        };
        state.next = state.next.max(1);
        let (file, n_bytes) = place.write_anew(&head, &state)?;
        drop(lock);
        Ok(Spool { place, limit_bytes, head, state, file, n_bytes, broken: None })
    }

    /// The last epoch of this generation whose messages are here.
    pub(super) fn committed(&self) -> Option<u64> {
        self.state.committed
    }

    /// Who holds it, by run and generation.
    pub(super) fn is_of(&self, run: RunId, generation: u64) -> bool {
        self.broken.is_none() && (self.head.run, self.head.generation) == (run.0, generation)
    }

    /// What waits, by number.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.state.waiting.values()
    }

    /// How many wait.
    pub(super) fn n_waiting(&self) -> usize {
        self.state.waiting.len()
    }

    /// Messages that wait, of these numbers.
    pub(super) fn messages(&self, numbers: &[u64]) -> Vec<Arc<Message>> {
        numbers.iter().filter_map(|n| self.state.waiting.get(n)).cloned().collect()
    }

    /// What was to go out as one notice, and has not.
    pub(super) fn bundle(&self) -> Option<&Unit> {
        self.state.bundle.as_ref()
    }

    /// Takes messages together with the last of their epochs.
    ///
    /// # Errors
    /// [`SinkError::Retry`] when the spool or the disk is full; nothing is taken then. An empty spool takes any commit, or one
    /// that is larger than the limit would never be taken.
    pub(super) fn commit(
        &mut self,
        upto: u64,
        mut messages: Vec<Message>,
        now_ns: i64,
    ) -> Result<(), SinkError> {
        let more: u64 = messages.iter().map(|m| m.bytes() as u64).sum();
        let waits = self.state.waiting_bytes;
        if !messages.is_empty() && waits > 0 && waits + more > self.limit_bytes {
            return Err(SinkError::Retry(format!(
                "the spool '{}' is full: {} messages of {waits} bytes wait for the receiver (`spool_limit`: {})",
                self.place.folder.display(),
                self.n_waiting(),
                self.limit_bytes
            )));
        }
        for (number, message) in (self.state.next..).zip(&mut messages) {
            (message.number, message.arrived_ns) = (number, now_ns);
        }
        self.append(&RecordRef::Commit { upto, messages: &messages })?;
        crash_point("notice spooled");
        self.state.apply(Record::Commit { upto, messages });
        Ok(())
    }

    /// Notes that these messages go out as one notice.
    ///
    /// # Errors
    /// As [`Spool::commit`].
    pub(super) fn note_bundle(&mut self, unit: &Unit) -> Result<(), SinkError> {
        self.append(&RecordRef::Bundle { numbers: &unit.numbers, due_ns: unit.due_ns })?;
        self.state.bundle = Some(unit.clone());
        Ok(())
    }

    /// Notes that nothing more is to be done about these messages.
    ///
    /// # Errors
    /// As [`Spool::commit`].
    pub(super) fn done(&mut self, numbers: &[u64]) -> Result<(), SinkError> {
        crash_point("notice delivered");
        self.append(&RecordRef::Done { numbers })?;
        self.state.remove(numbers);
        let full_of_old = self.n_bytes > 2 * self.state.waiting_bytes + SLACK_BYTES;
        if full_of_old && self.broken.is_none() {
            let _lock = self.place.lock()?;
            self.place.check_run(self.head.run)?;
            (self.file, self.n_bytes) = self.place.write_anew(&self.head, &self.state)?;
        }
        Ok(())
    }

    fn append(&mut self, record: &RecordRef<'_>) -> Result<(), SinkError> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let bytes = framed(record).map_err(|e| self.place.failed("write", &e))?;
        let _lock = self.place.lock()?;
        self.place.check_run(self.head.run).inspect_err(|e| self.broken = Some(e.clone()))?;
        if let Err(error) = self.file.append(&bytes) {
            let taken_back = self.file.truncate(self.n_bytes);
            let error = self.place.failed("write", &error);
            if taken_back.is_err() {
                self.broken = Some(error.clone());
            }
            return Err(error);
        }
        if let Err(error) = self.file.sync() {
            let error = SinkError::Fatal(self.place.told("sync", &error));
            self.broken = Some(error.clone());
            return Err(error);
        }
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Place {
    fn told(&self, what: &str, error: &dyn std::fmt::Display) -> String {
        format!("cannot {what} the spool in '{}': {error}", self.folder.display())
    }

    fn failed(&self, what: &str, error: &io::Error) -> SinkError {
        let text = self.told(what, error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SinkError::Retry(text),
            _ => SinkError::Fatal(text),
        }
    }

    fn damaged(&self, how: &str) -> SinkError {
        let folder = self.folder.display();
        let advice = "give the sink another `spool`, or move the folder away";
        SinkError::Fatal(format!("the spool in '{folder}' cannot be used: {how}; {advice}"))
    }

    /// Keeps others from writing until the answer is dropped.
    fn lock(&self) -> Result<Option<File>, SinkError> {
        if self.locking != Locking::File {
            return Ok(None);
        }
        let lock = || {
            let file = File::create(self.folder.join(LOCK_NAME))?;
            file.lock()?;
            Ok(Some(file))
        };
        lock().map_err(|e: io::Error| self.failed("lock", &e))
    }

    /// Whether `run` still holds the spool.
    fn check_run(&self, run: u64) -> Result<(), SinkError> {
        let path = self.folder.join(NAME);
        let start = self.disk.read_at(&path, 0, HEAD_BYTES_MAX);
        let start = start.map_err(|e| self.failed("read", &e))?;
        match record_at(&start) {
            Some((Record::Head(head), _)) if head.run == run => Ok(()),
            Some((Record::Head(head), _)) => Err(SinkError::Fenced(RunId(head.run))),
            _ => Err(self.damaged("somebody has changed it")),
        }
    }

    /// What is there.
    fn load(&self) -> Result<(Option<Head>, State), SinkError> {
        let path = self.folder.join(NAME);
        let bytes = match self.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((None, State::default())),
            Err(e) => return Err(self.failed("read", &e)),
        };
        let (mut head, mut state, mut at) = (None, State::default(), 0);
        while at < bytes.len() {
            let Some((record, length)) = record_at(&bytes[at..]) else {
                if head.is_none() || !is_torn(&bytes[at..]) {
                    return Err(self.damaged(&format!("it is damaged at byte {at}")));
                }
                break;
            };
            match (&record, &head) {
                (Record::Head(found), None) if found.version == VERSION => {
                    head = Some(found.clone());
                }
                (Record::Head(found), None) => {
                    let how = format!("it has the layout {}, and not {VERSION}", found.version);
                    return Err(self.damaged(&how));
                }
                (Record::Head(_), Some(_)) | (_, None) => {
                    return Err(self.damaged(&format!("its record at byte {at} is out of place")));
                }
                _ => {}
            }
            state.apply(record);
            at += length;
        }
        match head {
            None => Err(self.damaged("it is empty")),
            head => Ok((head, state)),
        }
    }

    /// Puts a file with nothing but `state` in the place of the one that is there. The caller holds the lock.
    fn write_anew(
        &self,
        head: &Head,
        state: &State,
    ) -> Result<(Box<dyn AppendFile>, u64), SinkError> {
        let head = Head { committed: state.committed, next: state.next, ..head.clone() };
        let write = || -> io::Result<(Box<dyn AppendFile>, u64)> {
            let mut bytes = framed(&RecordRef::Head(&head))?;
            let waiting: Vec<&Message> = state.waiting.values().map(|m| &**m).collect();
            for messages in waiting.chunks(KEPT_MESSAGES) {
                bytes.extend(framed(&RecordRef::Kept(messages))?);
            }
            if let Some(Unit { numbers, due_ns }) = &state.bundle {
                bytes.extend(framed(&RecordRef::Bundle { numbers, due_ns: *due_ns })?);
            }
            let (new, path) = (self.folder.join(NEW_NAME), self.folder.join(NAME));
            self.disk.write_whole(&new, &bytes)?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&self.folder)?;
            Ok((self.disk.open_append(&path)?, bytes.len() as u64))
        };
        write().map_err(|e| self.failed("write", &e))
    }
}

fn framed(record: &RecordRef<'_>) -> io::Result<Vec<u8>> {
    let body = postcard::to_allocvec(record).map_err(io::Error::other)?;
    if body.len() > RECORD_BYTES_MAX {
        return Err(io::Error::other(format!("a record of {} bytes is too large", body.len())));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&MARK[..], &length.to_le_bytes(), &xxh3_64(&body).to_le_bytes(), &body].concat())
}

/// The record at the start of `bytes` and its length with its frame; `None` where there is no whole one.
fn record_at(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.strip_prefix(&MARK)?.split_first_chunk::<4>()?;
    let (hash, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let body = rest.get(..length)?;
    if xxh3_64(body) != u64::from_le_bytes(*hash) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, FRAME_BYTES + length))
}

/// Whether what is no record may be one that a crash tore: nothing whole is behind it.
fn is_torn(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, &MARK).all(|at| record_at(&bytes[at..]).is_none())
}
