//! Reads a journal through and says what is there, up to the first problem. Changes nothing.

use std::path::Path;

use serde::Serialize;

use super::index::Index;
use super::segment::{Bad, first_of, name_of, walk};
use super::{JournalError, io_error};
use crate::disk::Disk;

/// What is in a journal, for `foreline journal verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its segments, oldest first, up to and with the first that has a problem.
    pub segments: Vec<VerifiedSegment>,
    /// Bytes of them.
    pub bytes: u64,
    /// The first and the last epoch.
    pub epochs: Option<(u64, u64)>,
    /// Inputs that belong to no epoch yet.
    pub unmarked: usize,
    /// What is wrong, if anything.
    pub problem: Option<Problem>,
}

/// A segment of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedSegment {
    /// Its file.
    pub file: String,
    /// Sound bytes in it.
    pub bytes: u64,
    /// Sound records in it.
    pub records: u64,
    /// Sequence number of the first.
    pub first_sequence: u64,
    /// The first and the last epoch whose marker is in it.
    pub epochs: Option<(u64, u64)>,
}

/// The first place at which a journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The segment's file.
    pub file: String,
    /// The byte at which the unreadable part begins.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// Whether it is what a power loss leaves behind: nothing that was durable is concerned, and opening the
    /// journal mends it.
    pub torn: bool,
}

/// All of a journal up to the first problem.
pub(super) struct Survey {
    pub(super) index: Index,
    pub(super) problem: Option<Found>,
    /// First sequence numbers of all segments, also of those behind the problem.
    pub(super) firsts: Vec<u64>,
}

/// The problem, and how many bytes its file has.
pub(super) struct Found {
    pub(super) first: u64,
    pub(super) bad: Bad,
    pub(super) file_bytes: u64,
}

/// Reads the journal in `dir`.
pub(super) fn survey(disk: &dyn Disk, dir: &Path) -> Result<Survey, JournalError> {
    let names = disk.list(dir).map_err(|e| io_error("list", dir, &e))?;
    let firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    let mut index = Index::new();
    for (at, &first) in firsts.iter().enumerate() {
        let expected = index.next_sequence;
        let path = dir.join(name_of(first));
        let bytes = disk.read(&path).map_err(|e| io_error("read", &path, &e))?;
        let bad = if at > 0 && first != expected {
            let what =
                format!("it begins with record {first}, and the one before ends before {expected}");
            Some(Bad { offset: 0, what, torn: false, format: None })
        } else {
            index.begin(first);
            let bad = walk(&bytes, first, |_, _, record| index.add(record.entry()));
            let sound = bad.as_ref().map_or(bytes.len(), |b| b.offset);
            index.last().bytes = sound as u64;
            bad
        };
        if let Some(mut bad) = bad {
            bad.torn &= at + 1 == firsts.len();
            let file_bytes = bytes.len() as u64;
            return Ok(Survey { index, problem: Some(Found { first, bad, file_bytes }), firsts });
        }
    }
    Ok(Survey { index, problem: None, firsts })
}

/// Reads the journal in `dir` through and says what is there. Changes nothing.
///
/// # Errors
/// When a file cannot be read. What is wrong *in* a file is in the answer.
pub fn verify_journal(disk: &dyn Disk, dir: &Path) -> Result<Verified, JournalError> {
    let Survey { index, problem, .. } = survey(disk, dir)?;
    let segment = |s: &super::index::Segment| VerifiedSegment {
        file: name_of(s.first),
        bytes: s.bytes,
        records: s.records,
        first_sequence: s.first,
        epochs: s.epochs,
    };
    Ok(Verified {
        segments: index.segments.iter().map(segment).collect(),
        bytes: index.bytes(),
        epochs: index.first_epoch().zip(index.last_epoch),
        unmarked: index.unmarked(),
        problem: problem.map(|found| Problem {
            file: name_of(found.first),
            offset: found.bad.offset as u64,
            what: found.bad.what,
            torn: found.bad.torn,
        }),
    })
}
