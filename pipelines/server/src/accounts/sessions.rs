//! Who is logged in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{digest, now, secret};

/// A session that nothing is done with ends.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(12 * 3600);
/// A session ends in any case.
pub(crate) const ABSOLUTE_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most sessions; the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 10_000;

/// A browser that is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: String,
    begun: SystemTime,
    used: SystemTime,
}

/// All of them, by the digest of what the browser shows.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Session>>);

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; the secret that the browser shows.
    pub(crate) fn begin(&self, user: &str) -> Result<String, String> {
        let shown = secret("")?;
        let now = now();
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.is_good(now));
        while sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            sessions.remove(&oldest);
        }
        let session = Session { user: user.to_owned(), begun: now, used: now };
        sessions.insert(digest(&shown), session);
        Ok(shown)
    }

    /// The one of a secret.
    pub(crate) fn find(&self, shown: &str) -> Option<Session> {
        let now = now();
        let mut sessions = self.lock();
        let session = sessions.get_mut(&digest(shown)).filter(|session| session.is_good(now))?;
        session.used = now;
        Some(session.clone())
    }

    /// Ends one.
    pub(crate) fn end(&self, shown: &str) {
        self.lock().remove(&digest(shown));
    }

    /// Ends all of a user.
    pub(crate) fn end_all(&self, user: &str) {
        self.lock().retain(|_, session| session.user != user);
    }
}

impl Session {
    fn is_good(&self, now: SystemTime) -> bool {
        let since = |then: SystemTime| now.duration_since(then).unwrap_or_default();
        since(self.used) < IDLE_TIME && since(self.begun) < ABSOLUTE_TIME
    }
}
