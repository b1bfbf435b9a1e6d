//! The journal: which inputs exist, and which epoch is exactly which inputs, in files that only grow.
//!
//! ```text
//! append_input …  sync   →  these inputs exist: acknowledge them
//! append_epoch    sync   →  the epoch is exactly its inputs: feed it to the dataflow
//! trim_below(oldest snapshot kept)
//! restart: open, replay_after(snapshot)
//! ```
//!
//! What a reader would get wrong:
//!
//! * Nothing is durable before [`Journal::sync`] has returned, and after a failed sync nothing ever is again: the
//!   journal then refuses every call. A full disk is no such failure: the journal takes back what did not fit.
//! * Opening drops what a power loss tore off the end, since nobody was told that it was there. Any other damage
//!   is refused with file and offset; nothing is skipped.
//! * A partition is named once, by the segment that was written to when it was met. It is named again only when that
//!   segment goes and an epoch that stays reads from it; all others are in the snapshot that lets the segment go. So a
//!   source of a million objects costs a million short records, and not as many in each segment.
//! * Every record of the last [`Journal::sync`] looks torn when it is the last and damaged: there is no record behind
//!   it to say that it was durable.

mod index;
mod record;
mod repair;
mod replay;
mod segment;
mod survey;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::disk::{AppendFile, Disk, is_full};
use crate::epoch::{Epoch, SourceId};
use crate::source::Chunk;
use index::{Index, InputKey};
use record::{Entry, EpochHead, InputHead, Mark, segment_header};
use segment::{Bad, name_of};
use survey::{Found, Survey, survey};

pub use record::{PartitionRecord, RunRecord};
pub use repair::{Repaired, repair_journal};
pub use replay::{JournalReplay, Replayed, ReplayedInput};
pub use survey::{Problem, Verified, VerifiedSegment, verify_journal};

/// The digest of an input's raw bytes that its epoch's marker keeps: XXH3, 128 bits. It tells a file that changed from
/// one that did not; it is no defence against somebody who wants two inputs to look the same.
#[must_use]
pub fn digest(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// How much a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// A segment that has so many bytes is followed by a new one. Trimming removes whole segments, and opening and
    /// replaying read one at a time into memory.
    pub segment_bytes: u64,
    /// At so many bytes the journal is full: sources wait until the sinks have caught up and a snapshot lets it be
    /// trimmed.
    pub limit_bytes: u64,
    /// Epochs whose clock is less than this behind that of the last are not trimmed, though no restart needs them,
    /// until they take three quarters of the limit: `foreline replay` and `--from-journal` go back so far.
    pub keep_ns: i64,
}

/// What is only kept for its own sake takes at most this part of the limit, in percent: room must be left for what a
/// restart needs.
const HISTORY_SHARE_MAX: u64 = 75;

impl Default for JournalOptions {
    fn default() -> Self {
        // 4 GiB are an hour of 1 MB/s: long enough for a database to be restarted, and small beside a disk of today.
        JournalOptions { segment_bytes: 64 << 20, limit_bytes: 4 << 30, keep_ns: 0 }
    }
}

/// The journal could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file system failed, before anything was changed that matters.
    #[error("cannot {what}: {cause}")]
    Io {
        /// The call and the path.
        what: String,
        /// What the system said.
        cause: String,
    },
    /// There is no space left. Nothing was lost and the journal goes on; the call can be made again.
    #[error("no space is left for '{}': free some, the journal goes on by itself", .file.display())]
    DiskFull {
        /// The file that did not fit.
        file: PathBuf,
    },
    /// A part of the journal is damaged. Nothing was changed.
    #[error(
        "'{}' is damaged at byte {offset}: {what}; restore it from a backup, or cut the journal there with \
         `foreline journal repair`",
        .file.display()
    )]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// The byte at which the damaged part begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Another version wrote it.
    #[error(
        "'{}' has format {format} and this version reads format {}; come to the end with the version that wrote it, or \
         start with `--fresh`",
        .file.display(),
        record::FORMAT
    )]
    Format {
        /// The segment.
        file: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A write or sync failed, and what is durable is not known. Every later call answers the same.
    #[error("the journal takes nothing more: {cause}; mend the disk and start again")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// A record is refused, and nothing was written.
    #[error("the record cannot be appended: {what}")]
    Refused {
        /// Why.
        what: String,
    },
    /// An epoch that replay needs is not there, or its inputs are not.
    #[error(
        "the journal does not hold epoch {epoch}, which the snapshot needs; use a later snapshot, or start with \
         `--fresh`"
    )]
    Missing {
        /// The epoch.
        epoch: u64,
    },
}

/// What opening a journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Sequence number of the first record.
    pub first_sequence: u64,
    /// Sequence number of the last record; one less than the first when there is none.
    pub last_sequence: u64,
    /// The first epoch that is there.
    pub first_epoch: Option<u64>,
    /// The last epoch that is there.
    pub last_epoch: Option<u64>,
    /// The last run.
    pub run: Option<RunRecord>,
    /// The partitions that its segments name: at least all from which one of its epochs has read.
    pub partitions: Vec<PartitionRecord>,
    /// How many inputs belong to no epoch yet.
    pub unmarked: usize,
    /// What a power loss had torn off the end, if anything.
    pub trimmed: Option<Trimmed>,
}

/// The end of a segment that was torn off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// The segment.
    pub file: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes went.
    pub bytes: u64,
    /// What was wrong with them.
    pub what: String,
}

/// An open journal. One at a time may write to a directory.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: JournalOptions,
    index: Index,
    /// The last segment.
    file: Box<dyn AppendFile>,
    /// The last sequence number that is durable.
    synced: u64,
    /// Bytes of the last segment that are durable, or were there when it was opened.
    synced_bytes: u64,
    /// Whether the last segment's name is durable.
    name_synced: bool,
    poisoned: Option<String>,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in `dir`, made when there is none. All that is in it then is durable.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when a part is damaged that may have been durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        options: JournalOptions,
    ) -> Result<(Journal, Recovered), JournalError> {
        let dir = dir.into();
        disk.create_dir_all(&dir).map_err(|e| io_error("make directory", &dir, &e))?;
        let Survey { mut index, problem, .. } = survey(disk.as_ref(), &dir)?;
        let trimmed = problem.map(|found| trim_tail(disk.as_ref(), &dir, found)).transpose()?;
        // A segment whose header was torn off holds nothing; it is begun again under its number.
        let empty = trimmed.as_ref().is_some_and(|t| t.offset == 0);
        let again = if empty { index.segments.pop_back() } else { None };
        // What was there may be durable, so not even a failed sync cuts it off.
        let (file, synced_bytes) = match (&again, index.segments.back()) {
            (None, Some(last)) => {
                let path = dir.join(name_of(last.first));
                (disk.open_append(&path).map_err(|e| io_error("open", &path, &e))?, last.bytes)
            }
            _ => {
                let first = again.map_or(index.next_sequence, |segment| segment.first);
                let begun = begin_segment(disk.as_ref(), &dir, &mut index, first);
                (begun.map_err(|e| io_error("write", &dir.join(name_of(first)), &e))?, 0)
            }
        };
        let mut journal = Journal {
            disk,
            dir,
            options,
            index,
            file,
            synced: 0,
            synced_bytes,
            name_synced: false,
            poisoned: None,
            buffer: Vec::new(),
        };
        journal.complete()?;
        // What a process left behind when it was killed can be read, but it need not be on the disk.
        journal.sync()?;
        let recovered = journal.recovered(trimmed);
        Ok((journal, recovered))
    }

    /// Reads the journal in `dir` as it is, without a claim to write to it and without a change: what there is from its
    /// beginning on, and the partitions that it names. What is torn off its end, or is being written there, is
    /// not part of it.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when it is damaged before its end; [`JournalError::Io`] also when the run that writes
    /// to it removes a segment meanwhile.
    pub fn read(
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<(JournalReplay, Vec<PartitionRecord>), JournalError> {
        let Survey { index, problem, .. } = survey(disk.as_ref(), dir)?;
        if let Some(found) = problem.filter(|found| !found.bad.torn) {
            return Err(damaged(dir.join(name_of(found.first)), found.bad));
        }
        let segments = index.segments.iter().map(|s| (s.first, s.bytes)).collect();
        let after = index.first_epoch().map(|first| first - 1);
        let partitions = index.partitions.into_values().map(|said| said.record).collect();
        Ok((JournalReplay::new(disk, dir.to_owned(), segments, after), partitions))
    }

    /// Says again what the last segment should say and no longer does, so that those before it can go.
    fn complete(&mut self) -> Result<(), JournalError> {
        self.index.unsaid().map_or(Ok(()), |run| self.append(Entry::Run(&run)))
    }

    fn recovered(&self, trimmed: Option<Trimmed>) -> Recovered {
        Recovered {
            first_sequence: self.index.first_sequence(),
            last_sequence: self.index.next_sequence - 1,
            first_epoch: self.index.first_epoch(),
            last_epoch: self.index.last_epoch,
            run: self.index.run.clone(),
            partitions: self.index.partitions.values().map(|said| said.record.clone()).collect(),
            unmarked: self.index.unmarked(),
            trimmed,
        }
    }

    /// Appends records of a source that cannot hand them out again.
    ///
    /// # Errors
    /// [`JournalError::DiskFull`] leaves the journal as it was.
    pub fn append_input(&mut self, chunk: &Chunk, source: SourceId) -> Result<(), JournalError> {
        let (partition, range) = (chunk.partition, chunk.range);
        let head = InputHead { source, partition, range, rows: chunk.rows as u64 };
        if self.index.waits(&InputKey::of(&head)) {
            return Err(refused("an input of this range waits for its epoch"));
        }
        self.append(Entry::Input(&head, &chunk.payload))
    }

    /// Appends what the number of a partition stands for; nothing when that is known.
    ///
    /// # Errors
    /// [`JournalError::DiskFull`] leaves the journal as it was.
    pub fn append_partition(&mut self, partition: &PartitionRecord) -> Result<(), JournalError> {
        let known = self.index.partitions.get(&(partition.source, partition.partition));
        if known.is_some_and(|known| known.record == *partition) {
            return self.check();
        }
        self.append(Entry::Partition(partition))
    }

    /// Appends the marker of an epoch, with the [`digest`] of each of its inputs. Inputs that were appended before
    /// are taken from the journal when the epoch is replayed; the others are read again.
    ///
    /// # Errors
    /// [`JournalError::Refused`] for an epoch that is not greater than all before.
    pub fn append_epoch(&mut self, epoch: &Epoch, digests: &[u128]) -> Result<(), JournalError> {
        if digests.len() != epoch.inputs.len() {
            return Err(refused("an epoch has one digest for each input"));
        }
        self.index.check_epoch(epoch.id).map_err(refused)?;
        let key = |i: &crate::epoch::InputRange| InputKey::new(i.source, i.partition, i.range);
        let kept = epoch.inputs.iter().map(|i| self.index.waits(&key(i))).collect();
        let head = EpochHead { epoch: epoch.clone(), digests: digests.to_vec(), kept };
        self.append(Entry::Epoch(&head))
    }

    /// Appends that a run begins.
    ///
    /// # Errors
    /// [`JournalError::DiskFull`] leaves the journal as it was.
    pub fn append_run(&mut self, run: &RunRecord) -> Result<(), JournalError> {
        self.append(Entry::Run(run))
    }

    /// Makes everything durable that was appended, with one sync of the file.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], and from then on for every call.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        if self.synced + 1 == self.index.next_sequence && self.name_synced {
            return Ok(());
        }
        let mut done = self.file.sync();
        if done.is_ok() && !self.name_synced {
            done = self.disk.sync_dir(&self.dir);
        }
        if let Err(error) = done {
            // It can still be read, so a new start would take it for durable and sync it in vain.
            self.file.truncate(self.synced_bytes).ok();
            return Err(self.poison("sync", &self.last_path(), &error));
        }
        self.name_synced = true;
        self.synced = self.index.next_sequence - 1;
        self.synced_bytes = self.index.last().bytes;
        Ok(())
    }

    /// Whether the journal has as many bytes as it may. The caller stops its sources; markers are still taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.options.limit_bytes
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// The last epoch whose marker was appended.
    #[must_use]
    pub fn last_epoch(&self) -> Option<u64> {
        self.index.last_epoch
    }

    /// Removes the segments that nothing after `epoch` needs and that are not kept for [`JournalOptions::keep_ns`], and
    /// says how many bytes that freed. Everything up to `epoch` is in a snapshot, also which partitions there are. On a
    /// full disk they stay until there is space.
    ///
    /// # Errors
    /// When a file cannot be removed; it then stays part of the journal.
    pub fn trim_below(&mut self, epoch: u64) -> Result<u64, JournalError> {
        self.check()?;
        let mut freed = 0;
        // Naming a partition again may begin another segment; the one that holds the last epoch stays even then.
        let last = self.index.last().first;
        while let Some(oldest) = self.index.segments.front()
            && oldest.first < last
            && oldest.is_past(epoch)
            && !self.is_kept(oldest)
        {
            let (path, bytes) = (self.dir.join(name_of(oldest.first)), oldest.bytes);
            match self.name_again(epoch) {
                Err(JournalError::DiskFull { .. }) => return Ok(freed),
                named => named?,
            }
            // What the later segments repeat of it must be durable first.
            self.sync()?;
            self.disk.remove(&path).map_err(|e| io_error("remove", &path, &e))?;
            self.index.segments.pop_front();
            freed += bytes;
            // One at a time: were the second gone and the first back after a crash, there would be a gap.
            let done = self.disk.sync_dir(&self.dir);
            done.map_err(|e| self.poison("sync", &self.dir.clone(), &e))?;
        }
        Ok(freed)
    }

    /// Whether a segment that no restart needs is young enough to be kept, and there is room for it.
    fn is_kept(&self, segment: &index::Segment) -> bool {
        let (Some(last), Some(clock)) = (self.index.clock_ns(), segment.clock_ns) else {
            return false;
        };
        let young = last.saturating_sub(clock) < self.options.keep_ns;
        young && self.bytes() <= self.options.limit_bytes / 100 * HISTORY_SHARE_MAX
    }

    /// Names again what only the oldest segment names and an epoch that stays reads from.
    fn name_again(&mut self, epoch: u64) -> Result<(), JournalError> {
        let partitions = self.index.leave_oldest(epoch);
        partitions.iter().try_for_each(|partition| self.append(Entry::Partition(partition)))
    }

    /// What there is after `epoch`, from the beginning for `None`. What is appended later is not part of it.
    #[must_use]
    pub fn replay_after(&self, epoch: Option<u64>) -> JournalReplay {
        let past = |s: &&index::Segment| epoch.is_some_and(|epoch| s.is_past(epoch));
        let segments = self.index.segments.iter().skip_while(past).map(|s| (s.first, s.bytes));
        JournalReplay::new(Arc::clone(&self.disk), self.dir.clone(), segments.collect(), epoch)
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.poisoned {
            Some(cause) => Err(JournalError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, what: &str, path: &Path, error: &io::Error) -> JournalError {
        let cause = format!("{what} of '{}' failed: {error}", path.display());
        self.poisoned = Some(cause.clone());
        JournalError::Poisoned { cause }
    }

    fn last_path(&self) -> PathBuf {
        let last = self.index.segments.back().map_or(self.index.next_sequence, |s| s.first);
        self.dir.join(name_of(last))
    }

    fn append(&mut self, entry: Entry<'_>) -> Result<(), JournalError> {
        self.check()?;
        if self.index.last().bytes >= self.options.segment_bytes {
            self.roll()?;
        }
        let segment = self.index.last();
        let (first, before) = (segment.first, segment.bytes);
        let mark = Mark { segment: first, sequence: self.index.next_sequence, synced: self.synced };
        self.buffer.clear();
        entry.write(mark, &mut self.buffer).map_err(refused)?;
        if let Err(error) = self.file.append(&self.buffer) {
            let undone = self.file.truncate(before);
            let path = self.last_path();
            if is_full(&error) && undone.is_ok() {
                return Err(JournalError::DiskFull { file: path });
            }
            return Err(self.poison("write", &path, &error));
        }
        self.index.last().bytes += self.buffer.len() as u64;
        self.index.add(entry).map_err(refused)
    }

    /// Begins a new segment. The one before is durable first, so that only the last can ever be torn.
    fn roll(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let first = self.index.next_sequence;
        match begin_segment(self.disk.as_ref(), &self.dir, &mut self.index, first) {
            Ok(file) => {
                (self.file, self.synced_bytes, self.name_synced) = (file, 0, false);
                Ok(())
            }
            Err(error) => {
                let path = self.dir.join(name_of(first));
                let gone = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&self.dir));
                if is_full(&error) && gone.is_ok() {
                    return Err(JournalError::DiskFull { file: path });
                }
                Err(self.poison("write", &path, &error))
            }
        }
    }
}

/// Makes the segment that begins with record `first`, with the run that every segment begins with.
fn begin_segment(
    disk: &dyn Disk,
    dir: &Path,
    index: &mut Index,
    first: u64,
) -> io::Result<Box<dyn AppendFile>> {
    let mut file = disk.open_append(&dir.join(name_of(first)))?;
    if !file.is_empty()? {
        file.truncate(0)?;
    }
    let run = index.run.clone();
    let mut bytes = segment_header(first);
    if let Some(run) = &run {
        // All before is durable: the segment before was synced.
        let mark = Mark { segment: first, sequence: first, synced: first - 1 };
        Entry::Run(run).write(mark, &mut bytes).map_err(io::Error::other)?;
    }
    file.append(&bytes)?;
    index.begin(first);
    index.last().bytes = bytes.len() as u64;
    if let Some(run) = &run {
        index.add(Entry::Run(run)).map_err(io::Error::other)?;
    }
    Ok(file)
}

/// Cuts off what a power loss left at the end, or says why it cannot be that.
fn trim_tail(disk: &dyn Disk, dir: &Path, found: Found) -> Result<Trimmed, JournalError> {
    let file = dir.join(name_of(found.first));
    let offset = found.bad.offset as u64;
    if !found.bad.torn {
        return Err(damaged(file, found.bad));
    }
    if offset > 0 {
        disk.truncate(&file, offset).map_err(|e| io_error("cut", &file, &e))?;
    }
    let bytes = found.file_bytes.saturating_sub(offset);
    Ok(Trimmed { file, offset, bytes, what: found.bad.what })
}

fn damaged(file: PathBuf, bad: Bad) -> JournalError {
    match bad.format {
        Some(format) => JournalError::Format { file, format },
        None => JournalError::Corrupt { file, offset: bad.offset as u64, what: bad.what },
    }
}

fn refused(what: impl Into<String>) -> JournalError {
    JournalError::Refused { what: what.into() }
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> JournalError {
    if is_full(error) {
        return JournalError::DiskFull { file: path.to_owned() };
    }
    JournalError::Io { what: format!("{what} '{}'", path.display()), cause: error.to_string() }
}
