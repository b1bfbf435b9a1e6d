//! A file system in memory that loses what was not synced, and fails on request.
//!
//! It is stricter than the file systems of today: a file's name is lost without a sync of its directory even if its
//! bytes were synced, and names survive a crash in any combination. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AppendFile, Disk};

/// What a disk writes in one go: a crash leaves such a piece as it was or as it should be.
const SECTOR: usize = 512;

/// A simulated file system. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk whose faults follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        SimDisk(Arc::new(Mutex::new(State { random: seed, ..State::default() })))
    }

    /// Puts a file there, bytes and name durable, whatever faults are asked for.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.add(Inode { live: bytes.to_vec(), ..Inode::default() });
        state.inodes[inode].sync();
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
        state.dirs.extend(path.ancestors().skip(1).map(Path::to_owned));
    }

    /// All files with their bytes as they can be read.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let bytes =
            |(path, &inode): (&PathBuf, &usize)| (path.clone(), state.inodes[inode].live.clone());
        state.names.iter().map(bytes).collect()
    }

    /// How many operations there have been; reads count.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// One operation fails with an I/O error: the `n`-th from here, 0 the next. A failed append leaves a part of
    /// its bytes; what a failed sync should have made durable never will be.
    pub fn fail_nth(&self, n: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.operations + n);
    }

    /// The power goes at the `n`-th operation from here, 0 the next: it may or may not have happened, and all that
    /// follow fail until [`SimDisk::crash`].
    pub fn crash_nth(&self, n: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + n);
    }

    /// Only `bytes` more can be written, then the disk is full; `None` for no bound.
    pub fn limit(&self, bytes: Option<u64>) {
        self.state().free = bytes;
    }

    /// Power loss and restart: of what was not synced each write is lost, kept or torn, each name old or new.
    /// Faults that were asked for are forgotten. Files that were open must not be used any more.
    pub fn crash(&self) {
        self.state().crash();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    random: u64,
    operations: u64,
    fail_at: Option<u64>,
    crash_at: Option<u64>,
    no_power: bool,
    free: Option<u64>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes from `durable_names` to `names`, in order.
    changes: Vec<NameChange>,
    inodes: Vec<Inode>,
}

/// A change of a directory that is not synced.
#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => path.parent(),
            NameChange::Rename(_, to, _) => to.parent(),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link(path, inode) => {
                names.insert(path, inode);
            }
            NameChange::Unlink(path) => {
                names.remove(&path);
            }
            NameChange::Rename(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }
}

/// A file without its name.
#[derive(Debug, Default)]
struct Inode {
    /// What can be read.
    live: Vec<u8>,
    /// What survives.
    durable: Vec<u8>,
    /// Up to here both are the same, as far as a sync can make them.
    same: usize,
    /// What a failed sync lost: it can be read, but no later sync saves it.
    doomed: Vec<std::ops::Range<usize>>,
}

impl Inode {
    fn truncate(&mut self, len: usize) {
        self.live.truncate(len);
        self.same = self.same.min(len);
        self.doomed.retain(|r| r.start < len);
    }

    fn sync(&mut self) {
        self.durable.truncate(self.same);
        self.durable.extend_from_slice(&self.live[self.same..]);
        for range in &self.doomed {
            let end = range.end.min(self.durable.len());
            self.durable[range.start.min(end)..end].fill(0);
        }
        self.same = self.live.len();
    }

    fn fail_sync(&mut self) {
        self.doomed.push(self.same..self.live.len());
    }

    /// What is there after a crash.
    fn crash(&mut self, random: &mut u64) {
        if self.same < self.live.len() || self.live.len() < self.durable.len() {
            let unsynced = self.live.len() - self.same;
            let torn_at = self.same + below(random, unsynced + 1);
            match below(random, 4) {
                0 => {}
                1 => self.sync(),
                2 => {
                    self.live.truncate(torn_at);
                    self.sync();
                }
                _ => {
                    self.live.truncate(torn_at);
                    self.lose_sectors(random);
                    self.sync();
                }
            }
        }
        let durable = std::mem::take(&mut self.durable);
        *self = Inode { same: durable.len(), live: durable.clone(), durable, doomed: Vec::new() };
    }

    /// Sectors that were not written read as zeros; the bytes before `same` were there already.
    fn lose_sectors(&mut self, random: &mut u64) {
        let mut at = self.same;
        while at < self.live.len() {
            let end = ((at / SECTOR + 1) * SECTOR).min(self.live.len());
            if below(random, 2) == 0 {
                self.live[at..end].fill(0);
            }
            at = end;
        }
    }
}

/// What an operation is to do.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Go,
    Fail,
    /// The power goes; whether the operation is still done.
    Crash(bool),
}

impl State {
    fn add(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// Counts an operation and says how it goes.
    fn turn(&mut self) -> Turn {
        if self.no_power {
            return Turn::Crash(false);
        }
        let now = self.operations;
        self.operations += 1;
        if self.crash_at == Some(now) {
            self.no_power = true;
            return Turn::Crash(below(&mut self.random, 2) == 0);
        }
        if self.fail_at == Some(now) { Turn::Fail } else { Turn::Go }
    }

    /// An operation that either happens or does not.
    fn step<T>(&mut self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.turn() {
            Turn::Go => act(self),
            Turn::Fail => Err(broken()),
            Turn::Crash(done) => {
                if done {
                    act(self)?;
                }
                Err(power_lost())
            }
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.changes.push(change);
    }

    fn open(&mut self, path: &Path) -> io::Result<usize> {
        if let Some(&inode) = self.names.get(path) {
            return Ok(inode);
        }
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = self.add(Inode::default());
        self.change(NameChange::Link(path.to_owned(), inode));
        Ok(inode)
    }

    fn write(&mut self, inode: usize, bytes: &[u8]) -> io::Result<()> {
        let free = self.free.map_or(bytes.len(), |f| usize::try_from(f).unwrap_or(usize::MAX));
        let part = free.min(bytes.len());
        self.inodes[inode].live.extend_from_slice(&bytes[..part]);
        if let Some(free) = &mut self.free {
            *free -= u64::try_from(part).unwrap_or(0);
        }
        if part < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn append(&mut self, inode: usize, bytes: &[u8]) -> io::Result<()> {
        let part = below(&mut self.random, bytes.len() + 1);
        match self.turn() {
            Turn::Go => self.write(inode, bytes),
            Turn::Fail => {
                self.write(inode, &bytes[..part])?;
                Err(broken())
            }
            Turn::Crash(whole) => {
                self.write(inode, if whole { bytes } else { &bytes[..part] })?;
                Err(power_lost())
            }
        }
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        match self.turn() {
            Turn::Go => {
                self.inodes[inode].sync();
                Ok(())
            }
            Turn::Fail => {
                self.inodes[inode].fail_sync();
                Err(broken())
            }
            Turn::Crash(done) => {
                if done {
                    self.inodes[inode].sync();
                }
                Err(power_lost())
            }
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        let (here, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|c| c.dir() == Some(dir));
        self.changes = rest;
        here.into_iter().for_each(|change| change.apply(&mut self.durable_names));
    }

    fn crash(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let (mode, prefix) =
            (below(&mut self.random, 3), below(&mut self.random, changes.len() + 1));
        for (at, change) in changes.into_iter().enumerate() {
            let kept = match mode {
                0 => at < prefix,
                1 => below(&mut self.random, 2) == 0,
                _ => false,
            };
            if kept {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.crash(&mut self.random);
        }
        (self.no_power, self.fail_at, self.crash_at, self.free) = (false, None, None, None);
    }
}

fn broken() -> io::Error {
    io::Error::other("input/output error (simulated)")
}

fn power_lost() -> io::Error {
    io::Error::other("no power (simulated)")
}

/// A number below `bound`, by SplitMix64.
fn below(random: &mut u64, bound: usize) -> usize {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
    usize::try_from((z ^ (z >> 31)) % bound).unwrap_or(0)
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.state().step(|s| {
            s.dirs.extend(dir.ancestors().map(Path::to_owned));
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state().step(|s| {
            if !s.dirs.contains(dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let here = s.names.keys().filter(|path| path.parent() == Some(dir));
            let mut names: Vec<String> =
                here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
            names.sort();
            Ok(names)
        })
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let inode = self.state().step(|s| s.open(path))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_at(path, 0, usize::MAX)
    }

    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.state().step(|s| {
            let live = &s.inodes[s.inode(path)?].live;
            let start = place(offset).min(live.len());
            Ok(live[start..start.saturating_add(length).min(live.len())].to_vec())
        })
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.state().step(|s| Ok(s.inodes[s.inode(path)?].live.len() as u64))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.step(|s| {
            let inode = s.open(path)?;
            s.inodes[inode].truncate(0);
            Ok(inode)
        })?;
        state.append(inode, bytes)?;
        state.sync(inode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().step(|s| {
            let inode = s.inode(from)?;
            s.change(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().step(|s| {
            s.inode(path)?;
            s.change(NameChange::Unlink(path.to_owned()));
            Ok(())
        })
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.state().step(|s| {
            let below: Vec<PathBuf> =
                s.names.keys().filter(|path| path.starts_with(dir)).cloned().collect();
            below.into_iter().for_each(|path| s.change(NameChange::Unlink(path)));
            s.dirs.retain(|d| !d.starts_with(dir));
            Ok(())
        })
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.step(|s| {
            let inode = s.inode(path)?;
            s.inodes[inode].truncate(place(len));
            Ok(inode)
        })?;
        state.sync(inode)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().step(|s| {
            s.sync_dir(dir);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl AppendFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.state().append(self.inode, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.state().sync(self.inode)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let inode = self.inode;
        self.disk.state().step(|s| {
            s.inodes[inode].truncate(place(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let inode = self.inode;
        self.disk.state().step(|s| Ok(s.inodes[inode].live.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(seed: u64) -> (SimDisk, PathBuf, Box<dyn AppendFile>) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("d")).unwrap();
        let path = PathBuf::from("d/f");
        let file = disk.open_append(&path).unwrap();
        (disk, path, file)
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_is_lost_kept_or_torn() {
        let (mut lost, mut kept, mut torn, mut holes) = (0, 0, 0, 0);
        for seed in 0..200 {
            let (disk, path, mut file) = opened(seed);
            file.append(&[1; 700]).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("d")).unwrap();
            file.append(&[2; 2000]).unwrap();
            disk.crash();
            let bytes = disk.read(&path).unwrap();
            assert_eq!(bytes[..700], [1; 700]);
            match bytes.len() {
                700 => lost += 1,
                2700 if !bytes.contains(&0) => kept += 1,
                _ if bytes.contains(&0) => holes += 1,
                _ => torn += 1,
            }
        }
        assert!([lost, kept, torn, holes].iter().all(|&n| n > 20), "{lost} {kept} {torn} {holes}");
    }

    #[test]
    fn a_name_that_was_not_synced_may_vanish_with_the_bytes() {
        let there = |seed| {
            let (disk, path, mut file) = opened(seed);
            file.append(b"x").unwrap();
            file.sync().unwrap();
            disk.crash();
            disk.read(&path).is_ok()
        };
        let survived = (0..100).filter(|&seed| there(seed)).count();
        assert!((10..90).contains(&survived), "{survived}");
    }

    #[test]
    fn what_a_failed_sync_lost_is_not_saved_by_the_next() {
        let (disk, path, mut file) = opened(3);
        disk.sync_dir(Path::new("d")).unwrap();
        file.append(b"abc").unwrap();
        disk.fail_nth(0);
        file.sync().unwrap_err();
        assert_eq!(disk.read(&path).unwrap(), b"abc");
        file.append(b"def").unwrap();
        file.sync().unwrap();
        disk.crash();
        assert_eq!(disk.read(&path).unwrap(), b"\0\0\0def");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let (disk, path, mut file) = opened(4);
        disk.limit(Some(4));
        assert_eq!(file.append(b"abcdef").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read(&path).unwrap(), b"abcd");
        disk.limit(None);
        file.truncate(0).unwrap();
        file.append(b"abcdef").unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"abcdef");
    }

    #[test]
    fn without_power_nothing_works() {
        let (disk, path, mut file) = opened(5);
        disk.crash_nth(1);
        file.append(b"a").unwrap();
        file.append(b"b").unwrap_err();
        file.sync().unwrap_err();
        disk.read(&path).unwrap_err();
        disk.crash();
        disk.list(Path::new("d")).unwrap();
    }
}
