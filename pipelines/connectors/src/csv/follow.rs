//! Files that grow: read on, wherever they are moved, and together with those that appear.
//!
//! What a reader would get wrong:
//!
//! * A file is known by device, inode and the digest of its beginning, not by its path. A rotated file is read on where
//!   it now lies and has come to its end when it no longer changes; the new file at its path is another partition.
//! * Files are looked at every so often; nothing is told by the system. No file is open between two looks, and while
//!   one is read no other is.
//! * A line is read when its line break is there. What follows the last one waits.
//! * A file that begins with the same 4096 bytes as one before is its copy, packed or not. It is read where the one
//!   before was left, once that is gone or was cut short, and not at all while it is there.
//! * A file that cannot be read does not stop the others: a warning names it, and every look tries again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use foreline_engine::{
    Chunk, Decoded, Decoder, KnownPartition, Partition, Poll, Position, Range, ReadUpTo, Replay,
    Source, SourceError,
};

use super::Truncated;
use super::decoder::CsvDecoder;
use super::files::TextFile;
use super::plan::{FollowRules, Plan};
use super::reader::Reader;
use search::Search;
use seen::{Inode, Seen, Stamp};
use tracked::{Known, State, Tracked, Upto};

mod fresh;
mod search;
mod seen;
mod tracked;

/// Most warnings that are remembered so as not to be repeated.
const TOLD_MAX: usize = 1000;
/// Most names in a message.
const NAMES_MAX: usize = 3;

/// A source whose files are followed.
pub(super) struct FollowSource {
    plan: Arc<Plan>,
    rules: FollowRules,
    /// In the order in which they were found.
    tracked: Vec<Tracked>,
    shelf: Shelf,
    /// What this look has found to read.
    queue: VecDeque<(usize, Upto)>,
    reader: Option<Reader>,
    looked: Option<Instant>,
    /// Files that were found and cannot be read yet, as they were found.
    waiting: BTreeMap<Inode, (Stamp, Instant)>,
    told: BTreeSet<String>,
}

/// Where the fields are in the file of each partition, for all decoders.
#[derive(Clone, Default)]
struct Shelf(Arc<RwLock<Vec<Option<Arc<TextFile>>>>>);

impl Shelf {
    fn next(&self) -> Result<Partition, SourceError> {
        let n = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        let n = u32::try_from(n).ok().filter(|n| *n < Position::MAX_PARTITIONS);
        n.map(Partition)
            .ok_or_else(|| SourceError::Limit("too many files were followed".to_owned()))
    }

    fn put(&self, partition: Partition, file: Option<Arc<TextFile>>) {
        let mut files = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let index = partition.0 as usize;
        if files.len() <= index {
            files.resize(index + 1, None);
        }
        files[index] = file;
    }

    fn get(&self, partition: Partition) -> Option<Arc<TextFile>> {
        let files = self.0.read().unwrap_or_else(PoisonError::into_inner);
        files.get(partition.0 as usize)?.clone()
    }
}

/// Decodes the chunks of followed files.
struct FollowDecoder {
    decoder: CsvDecoder,
    shelf: Shelf,
}

impl Decoder for FollowDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let file = self.shelf.get(chunk.partition).expect("a partition that was read has its file");
        self.decoder.decode_text(&file.layout, chunk, &chunk.payload, out);
    }
}

impl FollowSource {
    /// Begins without any file; the first poll looks for them.
    pub(super) fn open(plan: &Arc<Plan>, rules: FollowRules) -> Self {
        FollowSource {
            plan: Arc::clone(plan),
            rules,
            tracked: Vec::new(),
            shelf: Shelf::default(),
            queue: VecDeque::new(),
            reader: None,
            looked: None,
            waiting: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Says something once.
    fn warn(&mut self, message: String) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if !self.told.contains(&message) {
            tracing::warn!("{message}");
            self.told.insert(message);
        }
    }

    /// The next records of what the last look has found.
    fn read_on(&mut self, budget_bytes: usize) -> Result<Option<Chunk>, SourceError> {
        while let Some(&(index, upto)) = self.queue.front() {
            match self.read_one(index, upto, budget_bytes) {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Err(limit @ SourceError::Limit(_)) => return Err(limit),
                Err(error) => self.warn(format!("{error}; it is tried again")),
                Ok(None) => {}
            }
            self.queue.pop_front();
            self.reader = None;
        }
        Ok(None)
    }

    fn read_one(
        &mut self,
        index: usize,
        upto: Upto,
        budget_bytes: usize,
    ) -> Result<Option<Chunk>, SourceError> {
        let tracked = &mut self.tracked[index];
        if self.reader.is_none() {
            self.reader = tracked.enter(&self.plan, upto)?;
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let partition = tracked.partition.map_or_else(|| self.shelf.next(), Ok)?;
        let Some(chunk) = reader.next_chunk(partition, budget_bytes)? else {
            tracked.was_read(upto);
            return Ok(None);
        };
        tracked.read = ReadUpTo { end: chunk.range.end, end_ordinal: chunk.range.end_ordinal };
        if tracked.partition.is_none() {
            tracked.partition = Some(partition);
            self.shelf.put(partition, tracked.file.clone());
        }
        Ok(Some(chunk))
    }

    /// Looks what has become of the files, and which are new.
    fn look(&mut self, now: Instant) -> Result<(), SourceError> {
        let found = match seen::matching(&self.plan) {
            Ok(found) => found,
            Err(error) => {
                self.warn(format!("{error}; it is tried again"));
                return Ok(());
            }
        };
        if found.is_empty() && self.tracked.is_empty() {
            self.warn(format!("no file matches '{}' yet", self.plan.place.written));
        }
        let by_inode = found.iter().map(|seen| (seen.inode, seen)).collect();
        for index in 0..self.tracked.len() {
            if self.tracked[index].is_there() {
                self.look_after(index, &by_inode, now)?;
            }
        }
        self.take_in(&found, now);
        let due = |(index, t): (usize, &Tracked)| Some((index, t.due(self.rules.settle, now)?));
        self.queue = self.tracked.iter().enumerate().filter_map(due).collect();
        Ok(())
    }

    /// Finds a file again, by its inode here or beside where it was, or as what replaced it.
    fn look_after(
        &mut self,
        index: usize,
        found: &BTreeMap<Inode, &Seen>,
        now: Instant,
    ) -> Result<(), SourceError> {
        let tracked = &self.tracked[index];
        let mut seen = found.get(&tracked.inode).copied().cloned();
        if seen.is_none() && tracked.state == State::Followed {
            let beside = seen::beside(&tracked.place);
            seen = beside.into_iter().find(|seen| seen.inode == tracked.inode);
        }
        let replaced = |seen: &&&Seen| tracked.is_replaced_by(&self.plan, seen);
        let seen = seen.or_else(|| found.values().find(replaced).copied().cloned());
        let Some(seen) = seen else {
            let unread = tracked.unread_bytes();
            if unread > 0 {
                let place = tracked.place.display();
                self.warn(format!("'{place}' is gone, and {unread} bytes of it were not read"));
            }
            self.tracked[index].state = State::Gone;
            return Ok(());
        };
        if tracked.was_cut(&self.plan, &seen) {
            return self.cut(index, &seen);
        }
        self.tracked[index].note(&seen, now);
        Ok(())
    }

    fn cut(&mut self, index: usize, seen: &Seen) -> Result<(), SourceError> {
        let tracked = &mut self.tracked[index];
        tracked.state = State::Cut;
        let (what, read) = (seen.path.display().to_string(), tracked.read.end);
        let how =
            format!("it was cut short in its place (copytruncate?) after byte {read} was read");
        if self.rules.truncated == Truncated::Error {
            return Err(SourceError::Changed { what, how });
        }
        self.warn(format!("'{what}': {how}; it is read from its beginning as a new file"));
        Ok(())
    }

    /// Of several files that are now one, as an original and its copy are after a restart, only that which was read
    /// furthest is read on; the others can be read again.
    fn follow_once(&mut self) {
        let mut furthest: BTreeMap<Inode, u64> = BTreeMap::new();
        for tracked in &self.tracked {
            let end = furthest.entry(tracked.inode).or_default();
            *end = tracked.read.end.max(*end);
        }
        for tracked in self.tracked.iter_mut().rev().filter(|t| t.is_there()) {
            if furthest.remove(&tracked.inode) != Some(tracked.read.end) {
                tracked.state = State::Cut;
            }
        }
    }

    fn of(&self, partition: Partition) -> Option<&Tracked> {
        self.tracked.iter().find(|t| t.partition == Some(partition))
    }
}

#[expect(clippy::disallowed_methods, reason = "when to look for files is no part of a result")]
fn now() -> Instant {
    Instant::now()
}

impl Source for FollowSource {
    fn replay(&self) -> Replay {
        Replay::ByRange
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        loop {
            if let Some(chunk) = self.read_on(budget_bytes)? {
                return Ok(Poll::Ready(chunk));
            }
            let now = now();
            if self.looked.is_some_and(|then| now.duration_since(then) < self.rules.poll) {
                return Ok(Poll::Pending);
            }
            self.looked = Some(now);
            self.look(now)?;
            if self.queue.is_empty() {
                return Ok(Poll::Pending);
            }
        }
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        let name = self.partition_name(partition).unwrap_or_default();
        let changed = |how: &str| SourceError::Changed { what: name.clone(), how: how.to_owned() };
        let tracked = self.of(partition).filter(|t| t.file.is_some()).ok_or_else(|| {
            changed("it is gone, and what was read of it is needed once more; put it back into its folder")
        })?;
        if !tracked.known.head.fits(&self.plan, &tracked.place) {
            return Err(changed("its beginning differs"));
        }
        let mut reader =
            Reader::open(&self.plan, &tracked.place, range.start, range.first_ordinal)?
                .finished()
                .until(range.end);
        let mut whole = Chunk { partition, range, rows: 0, payload: Vec::new() };
        let mut end = range.start;
        while let Some(chunk) = reader.next_chunk(partition, usize::MAX)? {
            whole.payload.extend_from_slice(&chunk.payload);
            whole.rows += chunk.rows;
            end = chunk.range.end;
        }
        if end != range.end {
            return Err(changed(&format!("its text ends at byte {end}, before {}", range.end)));
        }
        Ok(whole)
    }

    /// Files stay where they are, so there is nobody to tell.
    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        let decoder = CsvDecoder::new(Arc::clone(&self.plan), Arc::new([]));
        Box::new(FollowDecoder { decoder, shelf: self.shelf.clone() })
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.of(partition).map(|t| t.known.path.display().to_string())
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        let known = self.of(partition).map(|t| &t.known);
        serde_json::to_vec(&known).unwrap_or_default()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let mut search = Search::new(&self.plan)?;
        let mut gone = Vec::new();
        for partition in known {
            let known: Known = serde_json::from_slice(&partition.identity).map_err(|_| {
                let name = &partition.name;
                SourceError::Io(format!(
                    "what is known of '{name}' cannot be read: was it followed?"
                ))
            })?;
            let mut tracked = search.recall(known, partition.read, now())?;
            if tracked.state == State::Gone {
                gone.push(tracked.known.path.display().to_string());
            }
            tracked.partition = Some(partition.partition);
            self.shelf.put(partition.partition, tracked.file.clone());
            self.tracked.push(tracked);
        }
        self.follow_once();
        if let Some(list) = listed(&gone) {
            let n = gone.len();
            self.warn(format!(
                "{n} followed files are gone since ({list}): what was written to them is not read"
            ));
        }
        Ok(())
    }
}

fn listed(names: &[String]) -> Option<String> {
    let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
    let first: Vec<_> = names.iter().take(NAMES_MAX).map(|n| format!("'{n}'")).collect();
    (!names.is_empty()).then(|| format!("{}{more}", first.join(", ")))
}
