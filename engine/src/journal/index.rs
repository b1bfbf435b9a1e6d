//! What the records of a journal amount to: which inputs wait for an epoch, and which segments are still needed.

use std::collections::{BTreeMap, VecDeque};

use super::record::{Entry, EpochHead, InputHead, PartitionRecord, RunRecord};
use crate::epoch::SourceId;
use crate::source::{Partition, Range};

/// An input, wherever it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InputKey {
    source: SourceId,
    partition: Partition,
    start: u64,
    end: u64,
}

impl InputKey {
    pub(super) fn new(source: SourceId, partition: Partition, range: Range) -> Self {
        InputKey { source, partition, start: range.start, end: range.end }
    }

    pub(super) fn of(head: &InputHead) -> Self {
        InputKey::new(head.source, head.partition, head.range)
    }
}

/// A segment, as far as trimming is concerned.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its first sequence number.
    pub(super) first: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// The first and the last epoch whose marker is in it.
    pub(super) epochs: Option<(u64, u64)>,
    /// The clock of the last of them.
    pub(super) clock_ns: Option<i64>,
    /// The last epoch that has an input in it.
    inputs_of: Option<u64>,
    /// How many inputs in it belong to no epoch yet.
    unmarked: usize,
}

impl Segment {
    fn new(first: u64) -> Self {
        Segment {
            first,
            bytes: 0,
            records: 0,
            epochs: None,
            clock_ns: None,
            inputs_of: None,
            unmarked: 0,
        }
    }

    /// Whether nothing in it is needed to replay what comes after `epoch`.
    pub(super) fn is_past(&self, epoch: u64) -> bool {
        self.unmarked == 0
            && self.epochs.map(|e| e.1).max(self.inputs_of).is_none_or(|e| e <= epoch)
    }
}

/// A partition that some segment names.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) record: PartitionRecord,
    /// The first sequence number of the last segment that names it.
    segment: u64,
    /// The last epoch that cannot do without: the one it was met in, or that has read from it.
    needed: u64,
}

/// What the records said so far.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Oldest first; the last is the one that is written to.
    pub(super) segments: VecDeque<Segment>,
    /// Without those that only epochs need that are trimmed.
    pub(super) partitions: BTreeMap<(SourceId, Partition), Said>,
    pub(super) run: Option<RunRecord>,
    /// Whether the last segment names the run.
    run_here: bool,
    pub(super) last_epoch: Option<u64>,
    pub(super) next_sequence: u64,
    /// Inputs that no marker has named, each with the first sequence number of its segment.
    unmarked: BTreeMap<InputKey, u64>,
}

impl Index {
    pub(super) fn new() -> Self {
        Index { next_sequence: 1, ..Index::default() }
    }

    /// A segment begins with record `first`.
    pub(super) fn begin(&mut self, first: u64) {
        self.segments.push_back(Segment::new(first));
        self.next_sequence = first;
        self.run_here = false;
    }

    /// The run, when the last segment does not name it: its beginning was torn off.
    pub(super) fn unsaid(&self) -> Option<RunRecord> {
        self.run.clone().filter(|_| !self.run_here)
    }

    /// Forgets the partitions that nothing needs once the oldest segment is gone, and everything up to `epoch` is in a
    /// snapshot. The others that are named by that segment alone: they must be named again before it goes.
    pub(super) fn leave_oldest(&mut self, epoch: u64) -> Vec<PartitionRecord> {
        let Some(oldest) = self.segments.front().map(|s| s.first) else { return Vec::new() };
        let remaining = self.segments.iter().skip(1).find_map(|s| s.epochs);
        let first = remaining.map_or(self.next_epoch(), |e| e.0);
        self.partitions.retain(|_, said| said.needed > epoch || said.needed >= first);
        let only_there = self.partitions.values().filter(|said| said.segment == oldest);
        only_there.map(|said| said.record.clone()).collect()
    }

    /// The epoch that follows.
    fn next_epoch(&self) -> u64 {
        self.last_epoch.map_or(1, |last| last.saturating_add(1))
    }

    pub(super) fn first_sequence(&self) -> u64 {
        self.segments.front().map_or(self.next_sequence, |s| s.first)
    }

    pub(super) fn first_epoch(&self) -> Option<u64> {
        self.segments.iter().find_map(|s| s.epochs).map(|e| e.0)
    }

    /// The clock of the last epoch.
    pub(super) fn clock_ns(&self) -> Option<i64> {
        self.segments.iter().rev().find_map(|s| s.clock_ns)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    pub(super) fn unmarked(&self) -> usize {
        self.unmarked.len()
    }

    /// Whether the input waits for an epoch.
    pub(super) fn waits(&self, key: &InputKey) -> bool {
        self.unmarked.contains_key(key)
    }

    /// Whether an epoch may follow; what is wrong when it may not. Epochs are left out when a journal was cut by a
    /// repair and the snapshot is further: replay says so if they are needed.
    pub(super) fn check_epoch(&self, id: u64) -> Result<(), String> {
        match self.last_epoch {
            Some(last) if id <= last => Err(format!("epoch {id} follows epoch {last}")),
            _ => Ok(()),
        }
    }

    /// Takes in the next record of the last segment.
    pub(super) fn add(&mut self, record: Entry<'_>) -> Result<(), String> {
        match record {
            Entry::Input(head, _) => self.add_input(InputKey::of(head))?,
            Entry::Epoch(head) => self.add_epoch(head)?,
            Entry::Partition(partition) => self.add_partition(partition),
            Entry::Run(run) => {
                self.run = Some(run.clone());
                self.run_here = true;
            }
        }
        self.next_sequence += 1;
        self.last().records += 1;
        Ok(())
    }

    fn add_partition(&mut self, record: &PartitionRecord) {
        let key = (record.source, record.partition);
        let needed = self.partitions.get(&key).map_or(self.next_epoch(), |said| said.needed);
        let segment = self.last().first;
        self.partitions.insert(key, Said { record: record.clone(), segment, needed });
    }

    /// Notes that `epoch` cannot do without a partition.
    fn need(&mut self, source: SourceId, partition: Partition, epoch: u64) {
        if let Some(said) = self.partitions.get_mut(&(source, partition)) {
            said.needed = said.needed.max(epoch);
        }
    }

    fn add_input(&mut self, key: InputKey) -> Result<(), String> {
        if self.waits(&key) {
            return Err(format!("bytes {} to {} of an input are there twice", key.start, key.end));
        }
        let segment = self.last();
        segment.unmarked += 1;
        let first = segment.first;
        self.unmarked.insert(key, first);
        self.need(key.source, key.partition, self.next_epoch());
        Ok(())
    }

    fn add_epoch(&mut self, head: &EpochHead) -> Result<(), String> {
        let id = head.epoch.id;
        self.check_epoch(id)?;
        self.last_epoch = Some(id);
        let segment = self.last();
        segment.epochs = Some((segment.epochs.map_or(id, |e| e.0), id));
        segment.clock_ns = Some(head.epoch.clock_ns);
        for input in &head.epoch.inputs {
            self.need(input.source, input.partition, id);
        }
        for (input, _) in head.epoch.inputs.iter().zip(&head.kept).filter(|(_, kept)| **kept) {
            let key = InputKey::new(input.source, input.partition, input.range);
            // An input that was trimmed with its segment is not there; replay says so if it is asked for.
            if let Some(first) = self.unmarked.remove(&key) {
                self.mark(first, id);
            }
        }
        Ok(())
    }

    fn mark(&mut self, first: u64, epoch: u64) {
        let at = self.segments.partition_point(|s| s.first < first);
        if let Some(segment) = self.segments.get_mut(at) {
            segment.unmarked -= 1;
            segment.inputs_of = segment.inputs_of.max(Some(epoch));
        }
    }

    /// The segment that records go to.
    pub(super) fn last(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a segment begins before its records")
    }
}
