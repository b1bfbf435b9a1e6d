//! The file of users, tokens and invitations: `accounts.json` in the data directory.
//!
//! What a reader would get wrong: it is only ever replaced as a whole, by renaming, with a lock held that the command line takes
//! as well. A power cut leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Role, Scope, now, seconds};

/// The version of the file's shape.
const VERSION: u32 = 1;
/// Most users, tokens, and invitations that are open.
pub(super) const USERS_MAX: usize = 1_000;
pub(super) const TOKENS_MAX: usize = 10_000;
pub(super) const INVITATIONS_MAX: usize = 1_000;
/// More than so many bytes the file never has.
const BYTES_MAX: u64 = 16 << 20;

/// Somebody with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The hash of the password, with its parameters.
    pub password: String,
    /// When the account was made, in seconds since 1970.
    pub created: u64,
    /// Whether it is switched off.
    #[serde(default)]
    pub disabled: bool,
}

/// A token of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// A short name of its own, which may be shown.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The digest of the token.
    pub hash: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, if it does.
    #[serde(default)]
    pub expires: Option<u64>,
}

/// What lets somebody make an account, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The digest of its code.
    pub hash: String,
    /// What the account may do.
    pub role: Role,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    version: u32,
    /// By name.
    pub users: Vec<User>,
    /// In the order in which they were made.
    pub tokens: Vec<TokenEntry>,
    /// Those that nobody has used.
    pub invitations: Vec<Invitation>,
}

/// Why the file cannot be read or changed.
#[derive(Debug)]
pub enum StoreError {
    /// The disk, or its rights.
    Io(PathBuf, io::Error),
    /// It is not what it should be.
    Damaged(PathBuf, String),
    /// The change cannot be made.
    Refused(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Io(path, e) => write!(f, "'{}': {e}", path.display()),
            StoreError::Damaged(path, what) => {
                write!(f, "'{}' is damaged: {what}; put a copy of it back", path.display())
            }
            StoreError::Refused(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StoreError {}

/// The file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    known: Mutex<Option<(Stamp, Arc<Book>)>>,
}

/// By what a file is seen to have changed: it is always another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Store {
    /// The file in a data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Store { path: data_dir.join("accounts.json"), known: Mutex::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it now; nothing where there is no file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn book(&self) -> Result<Arc<Book>, StoreError> {
        let failed = |e| StoreError::Io(self.path.clone(), e);
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(e) => return Err(failed(e)),
        };
        let stamp = Stamp(about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, book)) = known.as_ref().filter(|(seen, _)| *seen == stamp) {
            return Ok(Arc::clone(book));
        }
        let book = Arc::new(self.read()?);
        *known = Some((stamp, Arc::clone(&book)));
        Ok(book)
    }

    fn read(&self) -> Result<Book, StoreError> {
        let failed = |e| StoreError::Io(self.path.clone(), e);
        let damaged = |what: String| StoreError::Damaged(self.path.clone(), what);
        let length = match fs::metadata(&self.path) {
            Ok(about) => about.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(e) => return Err(failed(e)),
        };
        if length > BYTES_MAX {
            return Err(damaged(format!("it has more than {BYTES_MAX} bytes")));
        }
        let text = fs::read(&self.path).map_err(failed)?;
        let book: Book = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if book.version != VERSION {
            let found = book.version;
            return Err(damaged(format!("it is of version {found}, and {VERSION} is read")));
        }
        Ok(book)
    }

    /// Changes it: all of the change is there afterwards, or none.
    ///
    /// # Errors
    /// When `change` refuses, or the file cannot be written.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Book) -> Result<T, String>,
    ) -> Result<T, StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let at = |path: &Path| {
            let path = path.to_owned();
            move |e| StoreError::Io(path, e)
        };
        fs::create_dir_all(folder).map_err(at(folder))?;
        let lock = self.path.with_extension("lock");
        let locked = private(&lock).truncate(false).open(&lock).map_err(at(&lock))?;
        locked.lock().map_err(at(&lock))?;
        let mut book = self.read()?;
        let made = change(&mut book).map_err(StoreError::Refused)?;
        book.version = VERSION;
        let now = seconds(now());
        book.invitations.retain(|invitation| now < invitation.expires);
        book.users.sort_by(|a, b| a.name.cmp(&b.name));
        let limits = [
            (book.users.len(), USERS_MAX, "users"),
            (book.tokens.len(), TOKENS_MAX, "tokens"),
            (book.invitations.len(), INVITATIONS_MAX, "invitations"),
        ];
        if let Some((_, most, what)) = limits.iter().find(|(n, most, _)| n > most) {
            return Err(StoreError::Refused(format!(
                "there are {most} {what}, which is the limit"
            )));
        }
        let temporary = self.path.with_extension("json.tmp");
        let text =
            serde_json::to_vec_pretty(&book).map_err(|e| StoreError::Refused(e.to_string()))?;
        let mut file =
            private(&temporary).truncate(true).open(&temporary).map_err(at(&temporary))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
        fs::rename(&temporary, &self.path).map_err(at(&self.path))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        Ok(made)
    }
}

/// A file that nobody else on the machine may read.
fn private(_path: &Path) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

impl Book {
    /// The user of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn user_mut(&mut self, name: &str) -> Result<&mut User, String> {
        let found = self.users.iter_mut().find(|user| user.name == name);
        found.ok_or_else(|| format!("there is no user '{name}'"))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// When there is one of the name.
    pub fn add(&mut self, name: &str, role: Role, password: String) -> Result<(), String> {
        super::check_name(name)?;
        if self.users.iter().any(|user| user.name == name) {
            return Err(format!("there is a user '{name}' already"));
        }
        let created = seconds(now());
        self.users.push(User { name: name.to_owned(), role, password, created, disabled: false });
        Ok(())
    }

    /// Adds a token, of which `secret` is known to its owner alone.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn issue(
        &mut self,
        name: &str,
        scopes: &[Scope],
        expires: Option<u64>,
        secret: &str,
    ) -> Result<TokenEntry, String> {
        super::check_name(name)?;
        if scopes.is_empty() {
            return Err("a token needs a scope".to_owned());
        }
        let mut scopes = scopes.to_vec();
        scopes.sort();
        scopes.dedup();
        let hash = super::digest(secret);
        let id = hash.chars().take(12).collect();
        let (name, created) = (name.to_owned(), seconds(now()));
        let entry = TokenEntry { id, name, scopes, hash, created, expires };
        self.tokens.push(entry.clone());
        Ok(entry)
    }

    /// Uses an invitation up, and says for which role it was.
    ///
    /// # Errors
    /// When there is none with this code.
    pub fn accept(&mut self, code: &str) -> Result<Role, String> {
        let (hash, now) = (super::digest(code), seconds(now()));
        let at = self.invitations.iter().position(|i| i.hash == hash && now < i.expires);
        let at = at.ok_or("the invitation is not known, was used, or has ended")?;
        Ok(self.invitations.remove(at).role)
    }

    /// Whether somebody is left who can make users.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        self.users.iter().any(|user| user.role == Role::Admin && !user.disabled)
    }
}
