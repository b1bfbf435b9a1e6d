//! One file that is followed, wherever it has been moved.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foreline_engine::{Partition, ReadUpTo, SourceError};
use serde::{Deserialize, Serialize};

use super::super::files::TextFile;
use super::super::plan::Plan;
use super::super::reader::Reader;
use super::seen::{Head, Inode, Seen, Stamp};

/// A rotated file has come to its end when it has not changed for so many looks: its writer may have it open still.
const LAST_LOOKS: u32 = 3;

/// What a followed file is known by when a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Where it was first seen.
    pub(super) path: PathBuf,
    pub(super) inode: Inode,
    pub(super) head: Head,
    /// How many fields its records have, as its first records said: more of them could say otherwise later.
    pub(super) n_fields: usize,
}

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It may grow.
    Followed,
    /// It was rotated away or is compressed, and was read to its end.
    Finished,
    /// It was cut short in its place: what it was is no more.
    Cut,
    /// It is not there.
    Gone,
}

/// A file that is followed.
pub(super) struct Tracked {
    pub(super) known: Known,
    pub(super) partition: Option<Partition>,
    /// Where its fields are; nothing for a file that was gone when the run began.
    pub(super) file: Option<Arc<TextFile>>,
    /// Where it is.
    pub(super) place: PathBuf,
    pub(super) inode: Inode,
    pub(super) compressed: bool,
    pub(super) state: State,
    /// How far it was read.
    pub(super) read: ReadUpTo,
    stamp: Stamp,
    /// Its stamp when it was last read to its end.
    exhausted: Option<Stamp>,
    quiet_looks: u32,
    quiet_since: Instant,
}

impl Tracked {
    /// A file that `seen` shows, read as far as `read`.
    pub(super) fn new(
        known: Known,
        file: Arc<TextFile>,
        seen: &Seen,
        read: ReadUpTo,
        quiet_since: Instant,
    ) -> Self {
        Tracked {
            known,
            partition: None,
            file: Some(file),
            place: seen.path.clone(),
            inode: seen.inode,
            compressed: false,
            state: State::Followed,
            read,
            stamp: seen.stamp,
            exhausted: None,
            quiet_looks: 0,
            quiet_since,
        }
    }

    /// A file that an earlier run has read and this one does not find.
    pub(super) fn gone(known: Known, read: ReadUpTo, now: Instant) -> Self {
        let (place, inode) = (known.path.clone(), known.inode);
        Tracked {
            known,
            partition: None,
            file: None,
            place,
            inode,
            compressed: false,
            state: State::Gone,
            read,
            stamp: Stamp::default(),
            exhausted: None,
            quiet_looks: 0,
            quiet_since: now,
        }
    }

    /// The same, with whether it is compressed.
    pub(super) fn with_compressed(mut self, compressed: bool) -> Self {
        self.compressed = compressed;
        self
    }

    /// Whether a file with its inode is taken for it.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.state, State::Followed | State::Finished)
    }

    /// Whether it was cut short: it is smaller than what was read of it, or begins otherwise.
    pub(super) fn was_cut(&self, plan: &Plan, seen: &Seen) -> bool {
        let changed = seen.stamp != self.stamp;
        let shorter = !self.compressed && seen.stamp.size < self.read.end;
        changed && (shorter || !self.known.head.fits(plan, &seen.path))
    }

    /// Whether the file at its place, another by inode, is the same written anew: it begins as it did and is no shorter.
    pub(super) fn is_replaced_by(&self, plan: &Plan, seen: &Seen) -> bool {
        let as_long = self.compressed || seen.stamp.size >= self.read.end;
        seen.path == self.place && as_long && self.known.head.fits(plan, &seen.path)
    }

    /// Notes how a look finds it.
    pub(super) fn note(&mut self, seen: &Seen, now: Instant) {
        self.place.clone_from(&seen.path);
        self.inode = seen.inode;
        if seen.stamp == self.stamp {
            self.quiet_looks += 1;
            return;
        }
        self.stamp = seen.stamp;
        self.quiet_looks = 0;
        self.quiet_since = now;
        self.state = State::Followed;
    }

    /// Bytes that are known to be there and were not read.
    pub(super) fn unread_bytes(&self) -> u64 {
        if self.compressed { 0 } else { self.stamp.size.saturating_sub(self.read.end) }
    }

    /// Whether it lies elsewhere than where it was found.
    fn is_rotated(&self) -> bool {
        self.place != self.known.path
    }

    /// What is to be read now, if anything.
    pub(super) fn due(&self, settle: Option<std::time::Duration>, now: Instant) -> Option<Upto> {
        if self.state != State::Followed {
            return None;
        }
        if self.compressed {
            return Some(Upto::End);
        }
        let settled = settle.is_some_and(|s| now.duration_since(self.quiet_since) >= s);
        if (self.is_rotated() && self.quiet_looks >= LAST_LOOKS)
            || (settled && self.unread_bytes() > 0)
        {
            return Some(Upto::End);
        }
        let is_new = self.unread_bytes() > 0 && self.exhausted != Some(self.stamp);
        is_new.then_some(Upto::LastLineBreak)
    }

    /// A reader of what is due; `None` when another file has taken its place meanwhile.
    pub(super) fn enter(
        &self,
        plan: &Arc<Plan>,
        upto: Upto,
    ) -> Result<Option<Reader>, SourceError> {
        let reader = Reader::open(plan, &self.place, self.read.end, self.read.end_ordinal);
        if Seen::at(&self.place).is_none_or(|seen| seen.inode != self.inode) {
            return Ok(None);
        }
        let reader = reader?;
        let reader = if self.compressed { reader } else { reader.until(self.stamp.size) };
        Ok(Some(match upto {
            Upto::LastLineBreak => reader,
            Upto::End => reader.finished(),
        }))
    }

    /// Notes that what was due was read.
    pub(super) fn was_read(&mut self, upto: Upto) {
        self.exhausted = Some(self.stamp);
        if upto == Upto::End && (self.compressed || self.is_rotated()) {
            self.state = State::Finished;
        }
    }
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upto {
    /// To the last line break: what follows is half a line.
    LastLineBreak,
    /// To the end: the last line is whole without a line break.
    End,
}
