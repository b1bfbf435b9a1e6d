//! Who works in a data directory: one run at a time, the newest.
//!
//! A run writes its number into `claim` and waits for `lock`. The run that has the lock looks at the claim now and then;
//! when a newer number is there it is *fenced*: it ends at once, commits nothing more, and lets go of the lock. So two
//! runs never write at once, and it is always the older one that goes.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sink::RunId;

/// How often a run that waits for the lock looks again.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a run looks whether it is fenced.
const LOOK: Duration = Duration::from_millis(50);

/// A data directory could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The file system failed.
    #[error("the data directory '{dir}' cannot be used: {error}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The run before does not end.
    #[error("run {run} works in '{dir}' and did not let go within {seconds} s; end it first")]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// The run before.
        run: RunId,
        /// How long was waited.
        seconds: u64,
    },
}

/// A data directory that this run works in, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    dir: PathBuf,
    run: RunId,
    _lock: File,
    looked: Option<Instant>,
}

impl Hold {
    /// Takes `dir` over from whatever run is there, as a run with a greater number, at least `least`; waits `patience`
    /// for it to end.
    ///
    /// # Errors
    /// When the directory cannot be used, or the run before does not end.
    #[expect(clippy::disallowed_methods, reason = "how long to wait is not part of a result")]
    pub fn take(dir: &Path, least: RunId, patience: Duration) -> Result<Self, HoldError> {
        let io = |error| HoldError::Io { dir: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        let (before, run) = next_run(dir, least).map_err(io)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                    crossbeam_channel::after(PAUSE).recv().ok();
                }
                Err(TryLockError::WouldBlock) => {
                    let seconds = patience.as_secs();
                    return Err(HoldError::Busy { dir: dir.to_owned(), run: before, seconds });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        let mut hold = Hold { dir: dir.to_owned(), run, _lock: lock, looked: None };
        match hold.look() {
            // Two runs have begun at once; the one with the greater number goes on.
            Some(newer) => Err(HoldError::Busy { dir: dir.to_owned(), run: newer, seconds: 0 }),
            None => Ok(hold),
        }
    }

    /// The number of this run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The newer run that wants the directory, if there is one; looked up at most every 50 ms.
    #[expect(clippy::disallowed_methods, reason = "when to look is not part of a result")]
    pub fn fenced_by(&mut self) -> Option<RunId> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return None;
        }
        self.looked = Some(Instant::now());
        self.look()
    }

    fn look(&mut self) -> Option<RunId> {
        claimed(&self.dir).ok().flatten().filter(|run| *run > self.run)
    }
}

/// Claims the number behind the last one: that one and ours.
fn next_run(dir: &Path, least: RunId) -> io::Result<(RunId, RunId)> {
    // Two runs that begin at once must not have one number. This lock is held only here.
    let counting = File::create(dir.join("claim.lock"))?;
    counting.lock()?;
    let before = claimed(dir)?.unwrap_or(RunId(0));
    let run = least.max(RunId(before.0 + 1));
    claim(dir, run)?;
    Ok((before, run))
}

/// The number in the claim.
fn claimed(dir: &Path) -> io::Result<Option<RunId>> {
    match fs::read_to_string(dir.join("claim")) {
        Ok(text) => Ok(text.trim().parse().ok().map(RunId)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes the claim, durably and at once: a number is never given out twice.
fn claim(dir: &Path, run: RunId) -> io::Result<()> {
    let temporary = dir.join(format!(".claim.{run}.tmp"));
    let mut file = File::create(&temporary)?;
    writeln!(file, "{run}")?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join("claim"))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_run_is_fenced_and_the_newer_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Hold::take(folder.path(), RunId(7), Duration::ZERO).unwrap();
        assert_eq!((first.run(), first.fenced_by()), (RunId(7), None));
        let dir = folder.path().to_owned();
        let second =
            std::thread::spawn(move || Hold::take(&dir, RunId(1), Duration::from_secs(60)));
        let newer = loop {
            if let Some(newer) = first.fenced_by() {
                break newer;
            }
            std::thread::yield_now();
        };
        assert_eq!(newer, RunId(8));
        assert!(!second.is_finished(), "it waits for the first to let go");
        drop(first);
        assert_eq!(second.join().unwrap().unwrap().run(), RunId(8));
    }

    #[test]
    fn a_run_that_does_not_let_go_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let first = Hold::take(folder.path(), RunId(3), Duration::ZERO).unwrap();
        let refused = Hold::take(folder.path(), RunId(1), Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("run 3 works in"), "{refused}");
        drop(first);
        // A number is never given out twice.
        let third = Hold::take(folder.path(), RunId(1), Duration::ZERO).unwrap();
        assert_eq!(third.run(), RunId(5));
    }
}
