//! The file system, handed in so that a simulation can stand in for it.
//!
//! What a reader would get wrong:
//!
//! * Nothing is durable because it was written. The *bytes* of a file are durable after its sync, its *name* only
//!   after [`Disk::sync_dir`] of its directory. [`SimDisk`] takes away what was not.
//! * After a sync has failed the bytes may be gone although they can still be read: the kernel marks the pages
//!   clean and the next sync succeeds without them. A failed sync is never tried again.

mod sim;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

pub use sim::SimDisk;

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it; their names are durable on return.
    ///
    /// # Errors
    /// When the file system fails.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted. Names that are not UTF-8 are none of ours and left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file to append to; made when it is not there.
    ///
    /// # Errors
    /// When the file system fails.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The bytes of a file from `offset` on, `length` of them or as many as there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// How many bytes a file has.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Writes a file anew and syncs its bytes, not its name.
    ///
    /// # Errors
    /// When the file system fails; what is in the file then is not known.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name in the same directory, in place of what has it.
    ///
    /// # Errors
    /// When the file system fails.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When the file system fails.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all that is in it.
    ///
    /// # Errors
    /// When the file system fails.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Cuts a file to `len` bytes and syncs it.
    ///
    /// # Errors
    /// When the file system fails.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Makes the names in a directory durable: files that were made, renamed or removed.
    ///
    /// # Errors
    /// When the file system fails; it is then not known which names are durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that only grows, except when its writer takes back what it could not finish.
pub trait AppendFile: Send + fmt::Debug {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When the file system fails; a part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes durable, not the file's name.
    ///
    /// # Errors
    /// When the file system fails: what was appended since the last sync is to be taken for lost.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes, without a sync.
    ///
    /// # Errors
    /// When the file system fails.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// How many bytes it has.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Whether an error means that there is no space left, which may get better without anything being lost.
#[must_use]
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // Of a relative path the last ancestor has no name: it is where we are, and there.
        let missing = |d: &&Path| !d.as_os_str().is_empty() && !d.exists();
        let missing: Vec<&Path> = dir.ancestors().take_while(missing).collect();
        fs::create_dir_all(dir)?;
        // The directory's own name is synced even if it was there: whoever made it may have died before.
        for made in missing.into_iter().chain([dir]) {
            self.sync_dir(parent(made))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().append(true).create(true).open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Elsewhere a directory cannot be opened, and names are durable with the file.
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    }
}

/// The directory that a path is in; that of a bare name is the current one.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[derive(Debug)]
struct RealFile(File);

impl AppendFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_folder_is_made_where_we_are() {
        let name = PathBuf::from(format!("disk-test-{}", std::process::id()));
        let made = RealDisk.create_dir_all(&name.join("inner"));
        let is_there = name.join("inner").is_dir();
        fs::remove_dir_all(&name).unwrap();
        assert!(made.is_ok() && is_there, "{made:?}");
    }

    /// The same calls on either disk, with all that they answer.
    fn exercise(disk: &dyn Disk, root: &Path) -> Vec<String> {
        let dir = root.join("a/b");
        let at = |name: &str| dir.join(name);
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        let mut file = disk.open_append(&at("log")).unwrap();
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        file.sync().unwrap();
        let mut said = vec![format!("{} {}", file.len().unwrap(), file.is_empty().unwrap())];
        file.truncate(7).unwrap();
        file.append(b"-").unwrap();
        drop(file);
        disk.open_append(&at("log")).unwrap().append(b"!").unwrap();
        disk.write_whole(&at("t"), b"old").unwrap();
        disk.write_whole(&at("t"), b"new text").unwrap();
        disk.rename(&at("t"), &at("text")).unwrap();
        disk.truncate(&at("text"), 3).unwrap();
        disk.sync_dir(&dir).unwrap();
        said.push(format!("{:?}", disk.list(&dir).unwrap()));
        for name in ["log", "text"] {
            said.push(String::from_utf8(disk.read(&at(name)).unwrap()).unwrap());
            said.push(format!("{:?}", disk.read_at(&at(name), 2, 100).unwrap()));
            said.push(format!("{:?}", disk.read_at(&at(name), 100, 1).unwrap()));
            said.push(format!("{}", disk.len(&at(name)).unwrap()));
        }
        disk.remove(&at("log")).unwrap();
        said.push(format!("{:?}", disk.list(&dir).unwrap()));
        said.push(format!("{:?}", disk.read(&at("log")).unwrap_err().kind()));
        said.push(format!("{:?}", disk.remove(&at("log")).unwrap_err().kind()));
        disk.remove_dir_all(&root.join("a")).unwrap();
        said.push(format!("{:?}", disk.list(&dir).unwrap_err().kind()));
        said
    }

    #[test]
    fn the_simulation_answers_like_the_file_system() {
        let root = std::env::temp_dir().join(format!("foreline-disk-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let real = exercise(&RealDisk, &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(real, exercise(&SimDisk::new(1), &PathBuf::from("sim")));
        assert_eq!(real[2], "hello w-!");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        assert!(is_full(&io::Error::from(io::ErrorKind::StorageFull)));
        assert!(!is_full(&io::Error::other("EIO")));
    }
}
