//! A source of whole tables, each of which takes the place of the one before.

use std::collections::BTreeMap;

use foreline_engine::{
    Chunk, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay, Source, SourceError,
};
use sha2::{Digest, Sha256};

use super::{RelationDecoder, Say};
use crate::http::{Body, Examiner};

/// Largest table, in bytes of its text. It goes through the journal in one piece.
pub(crate) const TABLE_BYTES_MAX: usize = 64 << 20;

/// A table as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// What a person calls it.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// Looks for tables. It is asked often and must not take long to answer.
pub(crate) trait Look: Send {
    /// A table that may differ from the one before, if there is one.
    ///
    /// # Errors
    /// Why there is none, when that is news.
    fn look(&mut self) -> Result<Option<Found>, String>;

    /// An earlier run has found a table: what is there now may be another one that is just being written.
    fn goes_on(&mut self) {}
}

/// The source of what a [`Look`] finds.
pub(crate) struct Tables {
    look: Box<dyn Look>,
    examiner: Examiner,
    body: Body,
    /// Whether the table's first line names its columns.
    headed: bool,
    next: u32,
    /// The digest of the last table that was taken.
    last: Option<Vec<u8>>,
    /// The name and the digest of those that this run has taken.
    taken: BTreeMap<Partition, (String, Vec<u8>)>,
}

impl Tables {
    pub(crate) fn new(look: Box<dyn Look>, examiner: Examiner, body: Body) -> Self {
        let headed = body == Body::Csv;
        Tables { look, examiner, body, headed, next: 0, last: None, taken: BTreeMap::new() }
    }

    /// Until a table was taken there is nothing to go on with.
    fn refuse(&self, why: String) -> Result<Poll, SourceError> {
        if self.last.is_none() {
            return Err(SourceError::Io(why));
        }
        tracing::warn!("{why}; what was there stays");
        Ok(Poll::Pending)
    }

    fn take(&mut self, found: Found) -> Result<Poll, SourceError> {
        let Found { name, text } = found;
        let digest = Sha256::digest(&text).to_vec();
        if self.last.as_ref() == Some(&digest) {
            return Ok(Poll::Pending);
        }
        if text.len() > TABLE_BYTES_MAX {
            return self.refuse(format!(
                "'{name}' has {} bytes, and a relation is read from {TABLE_BYTES_MAX} at most",
                text.len()
            ));
        }
        if self.next >= Position::MAX_PARTITIONS {
            return self
                .refuse(format!("'{name}' has changed too often for one run of its history"));
        }
        if self.headed && text.iter().all(u8::is_ascii_whitespace) {
            return self.refuse(format!("'{name}' is empty, and has not even a header"));
        }
        let examined = match self.examiner.examine(self.body.media_type(), &text) {
            Ok(examined) => examined,
            Err(e) => return self.refuse(format!("'{name}' cannot be used: {}", e.first())),
        };
        let partition = Partition(self.next);
        self.next += 1;
        self.last = Some(digest.clone());
        self.taken.insert(partition, (name, digest));
        // So that the ordinal of a row is its line.
        let first_ordinal = if self.headed { 2 } else { 1 };
        let end_ordinal = first_ordinal + examined.records;
        let range = Range { start: 0, end: text.len() as u64, first_ordinal, end_ordinal };
        let rows = usize::try_from(examined.records).unwrap_or(usize::MAX);
        let payload = examined.said(Say::Stands);
        Ok(Poll::Ready(Chunk { partition, range, rows, payload }))
    }
}

impl Source for Tables {
    fn serves(&self) -> bool {
        true
    }

    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn is_there(&self) -> bool {
        self.last.is_some()
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        match self.look.look() {
            Ok(Some(found)) => self.take(found),
            Ok(None) => Ok(Poll::Pending),
            Err(why) => self.refuse(why),
        }
    }

    fn read(&mut self, _: Partition, _: Range) -> Result<Chunk, SourceError> {
        Err(SourceError::Io("what a table was then is in the journal alone".to_owned()))
    }

    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(RelationDecoder(self.examiner.decoder()))
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        self.taken.get(&partition).map(|(name, _)| name.clone())
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        self.taken.get(&partition).map(|(_, digest)| digest.clone()).unwrap_or_default()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.next = known.iter().map(|k| k.partition.0 + 1).max().unwrap_or(0);
        let read = known.iter().filter(|k| k.read.is_some()).max_by_key(|k| k.partition);
        self.last = read.map(|k| k.identity.clone());
        if self.last.is_some() {
            self.look.goes_on();
        }
        Ok(())
    }
}
