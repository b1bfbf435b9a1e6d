//! Finds the files that an earlier run has followed, wherever they have gone while nobody looked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foreline_engine::{ReadUpTo, SourceError};

use super::super::files::TextFile;
use super::super::plan::Plan;
use super::seen::{self, Head, Seen};
use super::tracked::{Known, Tracked};

/// The files among which one is looked for.
pub(super) struct Search {
    plan: Arc<Plan>,
    found: Vec<Seen>,
    /// What lies in the folders of known files, whatever it is called.
    beside: BTreeMap<PathBuf, Vec<Seen>>,
    /// The beginnings of all of them; read when it comes to that.
    heads: Option<Vec<(Head, Seen)>>,
}

impl Search {
    /// Among the files that the source's path matches, and those beside them.
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self, SourceError> {
        let found = seen::matching(plan)?;
        Ok(Search { plan: Arc::clone(plan), found, beside: BTreeMap::new(), heads: None })
    }

    /// The file as it is to be read on; one that is gone where it is not found.
    pub(super) fn recall(
        &mut self,
        known: Known,
        read: Option<ReadUpTo>,
        now: Instant,
    ) -> Result<Tracked, SourceError> {
        let Some(seen) = self.find(&known, read) else {
            let read = read.unwrap_or(ReadUpTo { end: 0, end_ordinal: 1 });
            return Ok(Tracked::gone(known, read, now));
        };
        let mut file = TextFile::look_at_as(&self.plan, &seen.path, &known.path)?;
        file.layout.n_fields = known.n_fields;
        let read = match read {
            Some(read) => read,
            None => {
                let reader = file.open(&self.plan)?;
                ReadUpTo { end: reader.offset(), end_ordinal: reader.line() }
            }
        };
        let compressed = seen::is_compressed(&self.plan, &seen.path).unwrap_or(false);
        let tracked = Tracked::new(known, Arc::new(file), &seen, read, now);
        Ok(tracked.with_compressed(compressed))
    }

    /// The same file by its inode; or what is at its path and begins as it did; or its copy.
    fn find(&mut self, known: &Known, read: Option<ReadUpTo>) -> Option<Seen> {
        let folder = known.path.parent().unwrap_or(&known.path).to_owned();
        let beside = self.beside.entry(folder).or_insert_with(|| seen::beside(&known.path));
        let plan = &self.plan;
        let fits = |seen: &&Seen| {
            let long = seen.stamp.size >= read.map_or(0, |r| r.end)
                || seen::is_compressed(plan, &seen.path) == Some(true);
            long && known.head.fits(plan, &seen.path)
        };
        let all = || self.found.iter().chain(beside.iter());
        let same = all().filter(|s| s.inode == known.inode).find(fits);
        let replaced = || all().filter(|s| s.path == known.path).find(fits);
        if let Some(seen) = same.or_else(replaced) {
            return Some(seen.clone());
        }
        if !known.head.is_telling() {
            return None;
        }
        let heads = self.heads.get_or_insert_with(|| {
            let head = |seen: &Seen| Some((Head::of(plan, &seen.path).ok()?, seen.clone()));
            all().filter_map(head).collect()
        });
        let copied = heads.iter().filter(|(head, _)| *head == known.head).map(|(_, seen)| seen);
        copied.into_iter().find(fits).cloned()
    }
}
