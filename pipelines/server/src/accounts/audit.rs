//! What was changed, when and by whom: `audit.ndjson` in the data directory, a line each.
//!
//! What a reader would get wrong: a line is on disk before the change is answered, and it is written when the change was refused,
//! too. No secret is ever part of one. When a file is full it becomes the older one; the oldest goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{now, seconds};

/// Bytes of a file before the next one is begun.
const FILE_BYTES: u64 = 8 << 20;
/// Files that are kept.
const FILES: u32 = 8;
/// Most characters of what is told of an object.
const CHARS_MAX: usize = 512;

/// Something that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who: a user, `token:name`, `cli`, or empty.
    pub who: String,
    /// From which address; empty on the command line.
    pub from: String,
    /// What: `login`, `alert.ack`, `user.add` ...
    pub what: String,
    /// With what.
    pub object: String,
    /// `done`, or why not.
    pub outcome: String,
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    turn: Mutex<()>,
}

impl Audit {
    /// The one of a data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Audit { path: data_dir.join("audit.ndjson"), turn: Mutex::default() }
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(
        &self,
        who: &str,
        from: &str,
        what: &str,
        object: &str,
        outcome: &str,
    ) -> io::Result<()> {
        let short = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
        let (who, from, what) = (short(who), short(from), short(what));
        let (object, outcome) = (short(object), short(outcome));
        let event = Event { at: seconds(now()), who, from, what, object, outcome };
        let mut line = serde_json::to_vec(&event).map_err(io::Error::other)?;
        line.push(b'\n');
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        if fs::metadata(&self.path).is_ok_and(|about| about.len() >= FILE_BYTES) {
            for n in (1..FILES).rev() {
                let from = if n == 1 { self.path.clone() } else { self.older(n - 1) };
                match fs::rename(&from, self.older(n)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(&line)?;
        file.sync_data()
    }

    fn older(&self, n: u32) -> PathBuf {
        self.path.with_extension(format!("{n}.ndjson"))
    }

    /// The newest events, newest first, of which `skip` are left out.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn newest(&self, skip: usize, most: usize) -> io::Result<Vec<Event>> {
        let mut found = Vec::new();
        let mut left = skip;
        let older = (1..FILES).map(|n| self.older(n));
        for path in std::iter::once(self.path.clone()).chain(older) {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let lines = BufReader::new(file).lines().collect::<io::Result<Vec<_>>>()?;
            // The last line may be cut off by a power cut.
            let events = lines.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
            for event in events {
                if left > 0 {
                    left -= 1;
                } else if found.len() < most {
                    found.push(event);
                } else {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}
