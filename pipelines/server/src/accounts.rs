//! Who there is, and what each may do: users with passwords, tokens of programs, sessions of browsers.
//!
//! What a reader would get wrong:
//!
//! * Users and tokens are in a file, which the command line changes as well, also while this runs. It is read again when it has
//!   changed. Sessions are in memory alone: whoever restarts the engine logs everybody out.
//! * Of every secret only a digest is kept. Passwords have a slow one (argon2id), as people choose them; tokens are 256 random
//!   bits, of which a fast one says nothing.
//! * Whether a name is wrong or a password is not told apart, in words or in time.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

mod audit;
mod book;
mod sessions;
mod tries;

pub use audit::{Audit, Event};
pub use book::{Book, Invitation, Store, StoreError, TokenEntry, User};
pub(crate) use sessions::ABSOLUTE_TIME;
use sessions::Sessions;
use tries::Tries;

/// Passwords that are checked at a time: each takes 19 MiB and some hundredths of a second.
const CHECKS: usize = 2;
/// Passwords that may wait to be checked.
const WAITING: usize = 64;
/// Fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Most bytes of a password: more would only cost time.
pub const PASSWORD_BYTES_MAX: usize = 512;
/// How long an invitation is good.
pub const INVITATION_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The hash of a password that nobody has, for names that there are not: it takes as long as the others.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let password = secret("").unwrap_or_default();
    hash(&password).unwrap_or_default()
});

/// What somebody may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Also acknowledges, shelves and comments alerts.
    Operator,
    /// Also sends rows, changes relations, and swaps models.
    Engineer,
    /// Also makes users and tokens, and reads the audit log.
    Admin,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Engineer => "engineer",
            Role::Admin => "admin",
        }
    }
}

/// One thing that a request needs, and that a token may be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Tables, alerts, queries.
    Read,
    /// Acknowledging, shelving, commenting.
    Ack,
    /// Rows of sources and relations.
    Write,
    /// Versions of models.
    Swap,
    /// Users, tokens, the audit log.
    Admin,
}

impl Scope {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Ack => "ack",
            Scope::Write => "write",
            Scope::Swap => "swap",
            Scope::Admin => "admin",
        }
    }

    /// The least role that may do it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Scope::Read => Role::Viewer,
            Scope::Ack => Role::Operator,
            Scope::Write | Scope::Swap => Role::Engineer,
            Scope::Admin => Role::Admin,
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Role::Viewer, Role::Operator, Role::Engineer, Role::Admin];
        let found = all.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| "a role is viewer, operator, engineer or admin".to_owned())
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Scope::Read, Scope::Ack, Scope::Write, Scope::Swap, Scope::Admin];
        let found = all.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| "a scope is read, ack, write, swap or admin".to_owned())
    }
}

/// How people without an account may make one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signup {
    /// Not at all: an administrator makes it.
    Closed,
    /// With an invitation.
    #[default]
    Invited,
    /// Everybody who can reach the server, as a viewer.
    Open,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Name or password is wrong, or the account is switched off.
    Wrong,
    /// Too many tries; for how long to wait.
    TooMany(Duration),
    /// The file of accounts cannot be read.
    Broken(String),
}

/// The accounts of a pipeline.
#[derive(Debug)]
pub struct Accounts {
    store: Store,
    /// What was changed, and by whom.
    pub audit: Audit,
    signup: Signup,
    sessions: Sessions,
    tries: Tries,
    checks: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Accounts {
    /// Those in the data directory of a pipeline.
    #[must_use]
    pub fn new(data_dir: &Path, signup: Signup) -> Self {
        Accounts {
            store: Store::new(data_dir),
            audit: Audit::new(data_dir),
            signup,
            sessions: Sessions::default(),
            tries: Tries::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// The file of users and tokens.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How people may make accounts themselves.
    #[must_use]
    pub fn signup(&self) -> Signup {
        self.signup
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whether there is anybody yet. Where the file cannot be read there is, so that nobody gets in by damaging it.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.store.book().map_or(true, |book| !book.users.is_empty() || !book.tokens.is_empty())
    }

    /// The token that is shown, if there is one such that is still good.
    #[must_use]
    pub fn token(&self, shown: &str) -> Option<TokenEntry> {
        let book = self.store.book().ok()?;
        let digest = digest(shown);
        let now = seconds(now());
        book.tokens
            .iter()
            .find(|t| t.hash == digest && t.expires.is_none_or(|at| now < at))
            .cloned()
    }

    /// The user of a name and a password.
    ///
    /// # Errors
    /// When there is none, or too many tries were made.
    pub async fn user(&self, name: &str, password: &str, from: IpAddr) -> Result<User, Denied> {
        let now = now();
        self.tries.check(name, from, now).map_err(Denied::TooMany)?;
        let book = self.store.book().map_err(|e| Denied::Broken(e.to_string()))?;
        let known = book.users.iter().find(|user| user.name == name).cloned();
        let hash = known.as_ref().map(|user| user.password.clone());
        let password = password.to_owned();
        let check = move || verify(hash.as_deref().unwrap_or(&NOBODY), &password);
        let fits = self.slowly(check).await?;
        match known.filter(|user| fits && !user.disabled) {
            Some(user) => Ok(user),
            None => {
                self.tries.failed(name, from, now);
                Err(Denied::Wrong)
            }
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// When too many are being made.
    pub async fn hash(&self, password: String) -> Result<String, Denied> {
        self.slowly(move || hash(&password)).await?.map_err(Denied::Broken)
    }

    /// Does something that takes long, a few at a time.
    async fn slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Denied> {
        let busy = || Denied::TooMany(Duration::from_secs(1));
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let permit = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| Denied::Broken("a password could not be checked (a bug)".to_owned()))
    }
}

/// Why a password cannot be one.
///
/// # Errors
/// What is wrong with it.
pub fn check_password(password: &str) -> Result<(), String> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(format!("a password has at least {PASSWORD_CHARS_MIN} characters"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(format!("a password has at most {PASSWORD_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Why a name cannot be one of a user or a token.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "._-@".contains(c);
    if name.is_empty() || name.chars().count() > 64 || !name.chars().all(fits) {
        return Err("a name has 1 to 64 letters, digits, '.', '_', '-' or '@'".to_owned());
    }
    Ok(())
}

/// The slow hash of a password.
///
/// # Errors
/// When the system has no random numbers.
pub fn hash(password: &str) -> Result<String, String> {
    use argon2::password_hash::PasswordHasher as _;
    let hashed = argon2::Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|e| format!("the password cannot be hashed: {e}"))
}

fn verify(hash: &str, password: &str) -> bool {
    use argon2::password_hash::PasswordVerifier as _;
    use argon2::password_hash::phc::PasswordHash;
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    argon2::Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// A secret of 256 random bits, as text, with what it is for before it.
///
/// # Errors
/// When the system has no random numbers.
pub fn secret(kind: &str) -> Result<String, String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| format!("there are no random numbers: {e}"))?;
    Ok(format!("{kind}{}", hex(&bytes)))
}

/// The fast digest of a secret that is random.
#[must_use]
pub fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time of day: accounts are not a part of what is computed.
#[expect(clippy::disallowed_methods, reason = "sessions and tokens end by the clock on the wall")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
