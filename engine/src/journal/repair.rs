//! Cuts a damaged journal at the first bad place. What is cut off is kept.
//!
//! Everything behind the cut is lost to the pipeline: it is for a person to decide, and never done when a journal is
//! opened. A crash in between leaves a journal that can be repaired again.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::segment::{first_of, name_of};
use super::survey::{Found, survey};
use super::{JournalError, io_error};
use crate::disk::Disk;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The segment that was cut.
    pub file: PathBuf,
    /// Where.
    pub offset: u64,
    /// Why.
    pub what: String,
    /// Where the parts that were cut off are.
    pub kept: Vec<PathBuf>,
}

/// Cuts the journal in `dir` at the first bad place; `None` when there is none. The part behind it, and the segments
/// behind its segment, get names that end in `.damaged`.
///
/// # Errors
/// When the file system fails, or another version wrote the journal.
pub fn repair_journal(disk: &dyn Disk, dir: &Path) -> Result<Option<Repaired>, JournalError> {
    let survey = survey(disk, dir)?;
    let Some(Found { first, bad, file_bytes }) = survey.problem else {
        return Ok(None);
    };
    let file = dir.join(name_of(first));
    if let Some(format) = bad.format {
        return Err(JournalError::Format { file, format });
    }
    let mut kept = Vec::new();
    // From the last backwards, so that a crash leaves no gap in what is still there.
    for &later in survey.firsts.iter().rev().take_while(|&&later| later > first) {
        kept.push(put_aside(disk, dir, &dir.join(name_of(later)))?);
    }
    let offset = bad.offset as u64;
    if offset == 0 {
        kept.push(put_aside(disk, dir, &file)?);
    } else if offset < file_bytes {
        kept.push(cut(disk, dir, &file, offset)?);
    }
    kept.reverse();
    Ok(Some(Repaired { file, offset, what: bad.what, kept }))
}

/// Renames a segment to a name that is free.
fn put_aside(disk: &dyn Disk, dir: &Path, file: &Path) -> Result<PathBuf, JournalError> {
    let aside = free_name(disk, dir, file)?;
    disk.rename(file, &aside).map_err(|e| io_error("rename", file, &e))?;
    disk.sync_dir(dir).map_err(|e| io_error("sync", dir, &e))?;
    Ok(aside)
}

/// Copies what is behind `offset` to a name that is free, then cuts it off.
fn cut(disk: &dyn Disk, dir: &Path, file: &Path, offset: u64) -> Result<PathBuf, JournalError> {
    let aside = free_name(disk, dir, file)?;
    let tail = disk.read_at(file, offset, usize::MAX).map_err(|e| io_error("read", file, &e))?;
    disk.write_whole(&aside, &tail).map_err(|e| io_error("write", &aside, &e))?;
    disk.sync_dir(dir).map_err(|e| io_error("sync", dir, &e))?;
    disk.truncate(file, offset).map_err(|e| io_error("cut", file, &e))?;
    Ok(aside)
}

/// `<name>.damaged`, or `<name>.<n>.damaged` where an earlier repair left that.
fn free_name(disk: &dyn Disk, dir: &Path, file: &Path) -> Result<PathBuf, JournalError> {
    let names = disk.list(dir).map_err(|e| io_error("list", dir, &e))?;
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let mut n = 1_u64;
    let mut aside = format!("{name}.damaged");
    while names.contains(&aside) {
        n += 1;
        aside = format!("{name}.{n}.damaged");
    }
    debug_assert!(first_of(&aside).is_none(), "what is put aside is no segment");
    Ok(dir.join(aside))
}
