//! Takes in files that were not there before: those that have a record, and are no copy of one that is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use foreline_engine::{ReadUpTo, SourceError};

use super::super::FileOrder;
use super::super::files::TextFile;
use super::FollowSource;
use super::seen::{self, Head, Inode, Seen};
use super::tracked::{Known, State, Tracked, Upto};

impl FollowSource {
    /// Adds the files that are new and have a record.
    pub(super) fn take_in(&mut self, found: &[Seen], now: Instant) {
        let claimed: BTreeSet<Inode> =
            self.tracked.iter().filter(|t| t.is_there()).map(|t| t.inode).collect();
        self.waiting.retain(|inode, _| found.iter().any(|seen| seen.inode == *inode));
        let mut fresh = Vec::new();
        let mut met = BTreeSet::new();
        for seen in found.iter().filter(|s| !claimed.contains(&s.inode)) {
            // A second name of the same file is not a second file.
            if met.insert(seen.inode)
                && let Some(tracked) = self.candidate(seen, now)
            {
                self.waiting.remove(&seen.inode);
                fresh.push(tracked);
            }
        }
        if self.plan.order == FileOrder::FirstTime {
            let first = |t: &Tracked| t.file.as_ref().and_then(|f| f.first_time);
            fresh.sort_by_key(|t| (first(t).is_none(), first(t)));
        }
        self.tracked.append(&mut fresh);
    }

    /// A new file, if it can be read by now.
    fn candidate(&mut self, seen: &Seen, now: Instant) -> Option<Tracked> {
        let before = self.waiting.insert(seen.inode, (seen.stamp, now));
        let quiet_since = before.filter(|b| b.0 == seen.stamp).map_or(now, |b| b.1);
        self.waiting.insert(seen.inode, (seen.stamp, quiet_since));
        let compressed = seen::is_compressed(&self.plan, &seen.path)?;
        if compressed && (quiet_since == now || !seen::is_complete(&self.plan, &seen.path)) {
            return None;
        }
        let settled = self.rules.settle.is_some_and(|s| now.duration_since(quiet_since) >= s);
        let upto = if compressed || settled { Upto::End } else { Upto::LastLineBreak };
        match self.meet(seen, upto, quiet_since) {
            Ok(tracked) => tracked.map(|t| t.with_compressed(compressed)),
            Err(error) => {
                self.warn(format!("{error}; the file is passed over until that is mended"));
                None
            }
        }
    }

    /// Looks into a new file; nothing when it has no record yet, or is the copy of one that is there.
    fn meet(
        &mut self,
        seen: &Seen,
        upto: Upto,
        quiet_since: Instant,
    ) -> Result<Option<Tracked>, SourceError> {
        let file = TextFile::look_at(&self.plan, &seen.path)?;
        if self.plan.header && file.layout.header.is_none() {
            return Ok(None);
        }
        let mut reader = file.open(&self.plan)?;
        let mut read = ReadUpTo { end: reader.offset(), end_ordinal: reader.line() };
        if upto == Upto::End && self.plan.header {
            reader = reader.finished();
        }
        if reader.next_record()?.is_none() {
            return Ok(None);
        }
        let failed = |e| SourceError::Io(format!("cannot read '{}': {e}", seen.path.display()));
        let head = Head::of(&self.plan, &seen.path).map_err(failed)?;
        if let Some(original) = self.original_of(&head, seen) {
            if original.is_there() {
                let (copy, of) = (seen.path.display(), original.place.display());
                let message =
                    format!("'{copy}' is passed over: it begins as '{of}' does, as a copy would");
                self.warn(message);
                return Ok(None);
            }
            read = original.read;
        }
        let (path, inode, n_fields) = (seen.path.clone(), seen.inode, file.layout.n_fields);
        let known = Known { path, inode, head, n_fields };
        Ok(Some(Tracked::new(known, Arc::new(file), seen, read, quiet_since)))
    }

    /// The file that one with this beginning is a copy of, or that has come back.
    fn original_of(&self, head: &Head, seen: &Seen) -> Option<&Tracked> {
        let is_back = |t: &Tracked| {
            t.state == State::Gone
                && t.inode == seen.inode
                && t.known.head.fits(&self.plan, &seen.path)
        };
        let same = |t: &&Tracked| (head.is_telling() && t.known.head == *head) || is_back(t);
        let there = self.tracked.iter().filter(same).find(|t| t.is_there());
        there.or_else(|| self.tracked.iter().filter(same).max_by_key(|t| t.read.end))
    }
}
