//! A segment of the journal: its name, and what can be read of it.

use super::record::{BadHeader, Frame, Record, SEGMENT_HEADER, candidates, check_segment_header};

/// How the file of a segment ends.
const SUFFIX: &str = ".journal";
/// What a disk writes in one go; a power loss leaves such a piece old or new.
const SECTOR: usize = 512;

/// The file name of the segment that begins with record `first`; names sort like numbers.
pub(super) fn name_of(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// What [`name_of`] was given; `None` for a file that is no segment.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// Where a segment stops being readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// The byte at which the unreadable part begins.
    pub(super) offset: usize,
    pub(super) what: String,
    /// Whether a power loss explains it: nothing from here on was ever durable, as far as the segment says. Only in
    /// the last segment.
    pub(super) torn: bool,
    /// Set when another version wrote the segment.
    pub(super) format: Option<u32>,
}

/// Hands the sound records of a segment to `visit`, in order, up to the first bad place.
///
/// `visit` gets each record with its sequence number and its offset, and may refuse it with what is wrong.
pub(super) fn walk(
    bytes: &[u8],
    first: u64,
    mut visit: impl FnMut(u64, usize, Record<'_>) -> Result<(), String>,
) -> Option<Bad> {
    if let Err(bad) = check_segment_header(bytes, first) {
        return Some(bad_header(bytes, first, bad));
    }
    let (mut at, mut expected) = (SEGMENT_HEADER, first);
    while at < bytes.len() {
        let frame = match Frame::parse(&bytes[at..], first) {
            Ok(frame) if frame.sequence == expected => frame,
            Ok(frame) => {
                let what = format!("record {} is where {expected} should be", frame.sequence);
                return Some(Bad { offset: at, what, torn: false, format: None });
            }
            Err(what) => return Some(judge(bytes, first, at, expected, what)),
        };
        // The checksums hold, so a crash cannot be the reason for what is wrong from here on.
        let taken = frame.record().map_err(str::to_owned).and_then(|r| visit(expected, at, r));
        if let Err(what) = taken {
            return Some(Bad { offset: at, what, torn: false, format: None });
        }
        at += frame.len;
        expected += 1;
    }
    None
}

fn bad_header(bytes: &[u8], first: u64, bad: BadHeader) -> Bad {
    match bad {
        BadHeader::Damaged(what) => judge(bytes, first, 0, first, what),
        BadHeader::Format(format) => {
            let what = format!("the segment has format {format}");
            Bad { offset: 0, what, torn: false, format: Some(format) }
        }
    }
}

/// Whether the bad place at `at`, where record `expected` should be, is what a power loss leaves.
///
/// With no sound record behind it, it is. With one, it is only if no sound record says that `expected` was durable,
/// and if a sector that was never written is in between: sectors of one append reach the disk in any order.
fn judge(bytes: &[u8], first: u64, at: usize, expected: u64, what: &str) -> Bad {
    let (next, synced) = behind(bytes, first, at, expected);
    let (torn, what) = match next {
        None => (true, what.to_owned()),
        Some(next) if synced < expected && lost_sector(bytes, at, next) => (true, what.to_owned()),
        Some(next) => (false, format!("{what}, and a sound record follows at byte {next}")),
    };
    Bad { offset: at, what, torn, format: None }
}

/// The first sound record behind `at`, and up to where all were durable as the sound ones say.
fn behind(bytes: &[u8], first: u64, at: usize, expected: u64) -> (Option<usize>, u64) {
    let (mut next, mut synced, mut from) = (None, 0, at + 1);
    while let Some((offset, frame)) = candidates(bytes, from).find_map(|offset| {
        let frame = Frame::parse(&bytes[offset..], first).ok()?;
        (frame.sequence >= expected).then_some((offset, frame))
    }) {
        next = next.or(Some(offset));
        synced = synced.max(frame.synced);
        from = offset + frame.len;
    }
    (next, synced)
}

/// Whether a sector between `at` and `next` is all zeros, from `at` on where it begins before. However little of the
/// first one is behind `at`: a record begins with bytes that are not zero, and that no single flipped bit makes zero.
fn lost_sector(bytes: &[u8], at: usize, next: usize) -> bool {
    let mut start = at;
    while start < next {
        let end = ((start / SECTOR + 1) * SECTOR).min(bytes.len());
        if bytes[start..end].iter().all(|&b| b == 0) {
            return true;
        }
        start = end;
    }
    false
}
