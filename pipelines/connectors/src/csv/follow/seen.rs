//! What a look at the folder shows: which files there are, and what each is known by.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use encoding_rs::UTF_8;
use foreline_engine::SourceError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::Compression;
use super::super::files;
use super::super::input;
use super::super::plan::Plan;

/// A file is known again by so many bytes of its text.
const HEAD_BYTES: usize = 4096;

/// What the file system calls a file, whatever its path is: device and inode. Another file may have it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Inode {
    device: u64,
    inode: u64,
}

/// What changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    /// Its length in bytes.
    pub(super) size: u64,
    modified_ns: (i64, i64),
}

/// A file as a look finds it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Where.
    pub(super) path: PathBuf,
    /// Which.
    pub(super) inode: Inode,
    /// In which state.
    pub(super) stamp: Stamp,
}

impl Seen {
    /// The file that is at `path` now, if there is one.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Seen {
            path: path.to_owned(),
            inode: Inode { device: found.dev(), inode: found.ino() },
            stamp: Stamp { size: found.len(), modified_ns: (found.mtime(), found.mtime_nsec()) },
        })
    }
}

/// The files that the source's path matches, in the order of their paths. None is no mistake: they may come.
pub(super) fn matching(plan: &Plan) -> Result<Vec<Seen>, SourceError> {
    Ok(files::paths(plan)?.iter().filter_map(|path| Seen::at(path)).collect())
}

/// The files that lie beside `path`, whatever they are called: where a rotated file is looked for.
pub(super) fn beside(path: &Path) -> Vec<Seen> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let paths = files::folder(folder).unwrap_or_default();
    paths.iter().filter_map(|path| Seen::at(path)).collect()
}

/// Whether a file is compressed; `None` when it cannot be read.
pub(super) fn is_compressed(plan: &Plan, path: &Path) -> Option<bool> {
    let mut magic = Vec::new();
    fs::File::open(path).ok()?.take(4).read_to_end(&mut magic).ok()?;
    Some(!matches!(plan.compression.of(path, &magic), Compression::None))
}

/// Whether a compressed file can be read to its end: one that is still written cannot.
pub(super) fn is_complete(plan: &Plan, path: &Path) -> bool {
    let read = || {
        let mut text = input::open(path, plan.compression, UTF_8, 0)?.text;
        io::copy(&mut text, &mut io::sink())
    };
    read().is_ok()
}

/// The beginning of a file's text, decompressed: that of a copy is the same, packed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    n_bytes: usize,
    digest: [u8; 32],
}

impl Head {
    /// Of the file at `path`, as far as its last line break or [`HEAD_BYTES`].
    pub(super) fn of(plan: &Plan, path: &Path) -> io::Result<Self> {
        let mut text = text(plan, path, HEAD_BYTES)?;
        if text.len() < HEAD_BYTES {
            text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1));
        }
        Ok(Head { n_bytes: text.len(), digest: Sha256::digest(&text).into() })
    }

    /// Whether the file at `path` begins so.
    pub(super) fn fits(&self, plan: &Plan, path: &Path) -> bool {
        let text = text(plan, path, self.n_bytes);
        text.is_ok_and(|t| t.len() == self.n_bytes && self.digest == *Sha256::digest(&t))
    }

    /// Whether it is long enough that another file with the same one is a copy and no coincidence.
    pub(super) fn is_telling(&self) -> bool {
        self.n_bytes == HEAD_BYTES
    }
}

fn text(plan: &Plan, path: &Path, n_bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let input = input::open(path, plan.compression, UTF_8, 0)?;
    input.text.take(n_bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}
