//! Which objects were already found, as little as that takes: a million of them are about 64 MB. (What can be asked for
//! again is kept beside it, with its key.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::OnChange;
use crate::objects::Found;

/// What an object is known by, for the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: Option<String>,
    pub(super) modified_ns: i64,
}

impl Identity {
    pub(super) fn of(found: &Found) -> Self {
        Identity {
            key: found.key.clone(),
            size: found.size,
            etag: found.etag.clone(),
            modified_ns: found.modified_ns,
        }
    }

    pub(super) fn found(self) -> Found {
        Found { key: self.key, size: self.size, etag: self.etag, modified_ns: self.modified_ns }
    }
}

/// Objects by the digest of their keys, with the digest of what they were.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<u128, u128>);

/// What a listing shows of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It was seen before, as it is.
    Known,
    /// It is to be read.
    New,
    /// It is another one than before, and that is an error.
    Changed,
    /// It is another one than before, and stays unread.
    Ignored,
}

impl Seen {
    /// Notes an object that an earlier run has read from.
    pub(super) fn note(&mut self, found: &Found) {
        self.0.insert(xxh3_128(found.key.as_bytes()), version(found));
    }

    /// Whether it was seen as it is.
    pub(super) fn has(&self, found: &Found) -> bool {
        self.0.get(&xxh3_128(found.key.as_bytes())) == Some(&version(found))
    }

    /// Looks at an object in a listing, and notes it.
    pub(super) fn look(&mut self, found: &Found, on_change: OnChange) -> Look {
        let (key, version) = (xxh3_128(found.key.as_bytes()), version(found));
        match self.0.insert(key, version) {
            None => Look::New,
            Some(was) if was == version => Look::Known,
            Some(_) => match on_change {
                OnChange::Error => Look::Changed,
                OnChange::Reprocess => Look::New,
                OnChange::Ignore => Look::Ignored,
            },
        }
    }
}

/// What tells an object from another one with its key: the ETag, or where a store lists none, when it was written.
fn version(found: &Found) -> u128 {
    let Found { size, etag, modified_ns, .. } = found;
    match etag {
        Some(etag) => xxh3_128(format!("{size} {etag}").as_bytes()),
        None => xxh3_128(format!("{size} at {modified_ns}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_once_whatever_its_key_sorts_after() {
        let object = |key: &str, etag: &str| Found {
            key: key.to_owned(),
            size: 1,
            etag: Some(etag.to_owned()),
            modified_ns: 0,
        };
        let mut seen = Seen::default();
        assert_eq!(seen.look(&object("b", "1"), OnChange::Error), Look::New);
        assert_eq!(seen.look(&object("a", "1"), OnChange::Error), Look::New, "a late key");
        assert_eq!(seen.look(&object("a", "1"), OnChange::Error), Look::Known);
        assert_eq!(seen.look(&object("b", "2"), OnChange::Error), Look::Changed);
        assert_eq!(seen.look(&object("b", "3"), OnChange::Ignore), Look::Ignored);
        assert_eq!(seen.look(&object("b", "3"), OnChange::Ignore), Look::Known, "said once");
        assert_eq!(seen.look(&object("b", "4"), OnChange::Reprocess), Look::New);
    }
}
