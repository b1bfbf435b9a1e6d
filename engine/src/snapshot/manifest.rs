//! The manifest of a snapshot: what there is, in which file, and the digest of each piece.
//!
//! Two lines of JSON: the manifest, and the XXH3 digest of the first line.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::{Facts, SnapshotError};

/// The format that this code writes, and the only one that it reads.
const FORMAT: u32 = 2;
const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".json";
const STATE_PREFIX: &str = "state-";
const STATE_SUFFIX: &str = ".arrow";

/// Where the state of a shard of a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// XXH3, 128 bits, as hex digits: JSON has no numbers of that size.
    pub(super) digest: String,
}

impl Place {
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && digest_of(bytes) == self.digest
    }
}

/// The state of every node, by shard.
pub(super) type Places = BTreeMap<String, BTreeMap<u8, Place>>;

/// The digest of some bytes as the manifest writes it.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// All places, whatever the node.
pub(super) fn all_places(places: &Places) -> impl Iterator<Item = &Place> {
    places.values().flat_map(BTreeMap::values)
}

/// The files that a snapshot refers to.
pub(super) fn files_of(places: &Places) -> BTreeSet<String> {
    all_places(places).map(|place| place.file.clone()).collect()
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) epoch: u64,
    pub(super) facts: Facts,
    pub(super) state: Places,
}

/// What a manifest of any format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// The digest behind the manifest.
#[derive(Serialize, Deserialize)]
struct Seal {
    xxh3_128: String,
}

/// What is wrong with a manifest's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadManifest {
    Damaged(String),
    Format(u32),
}

impl Manifest {
    pub(super) fn new(epoch: u64, facts: Facts, state: Places) -> Self {
        Manifest { format: FORMAT, epoch, facts, state }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let unwritable = |e: serde_json::Error| SnapshotError::Unwritable(e.to_string());
        let mut bytes = serde_json::to_vec(self).map_err(unwritable)?;
        let seal = Seal { xxh3_128: digest_of(&bytes) };
        bytes.push(b'\n');
        serde_json::to_writer(&mut bytes, &seal).map_err(unwritable)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the manifest of the snapshot of `epoch`.
    pub(super) fn parse(bytes: &[u8], epoch: u64) -> Result<Self, BadManifest> {
        let damaged = |what: &str| BadManifest::Damaged(what.to_owned());
        let body = bytes.strip_suffix(b"\n").ok_or_else(|| damaged("its end is cut off"))?;
        let at =
            body.iter().rposition(|&b| b == b'\n').ok_or_else(|| damaged("it has no digest"))?;
        let (json, seal) = (&body[..at], &body[at + 1..]);
        let seal: Seal = serde_json::from_slice(seal).map_err(|_| damaged("it has no digest"))?;
        if seal.xxh3_128 != digest_of(json) {
            return Err(damaged("its digest does not hold"));
        }
        let shape = |e: serde_json::Error| BadManifest::Damaged(e.to_string());
        // The format first: another one has another shape.
        let head: Head = serde_json::from_slice(json).map_err(shape)?;
        if head.format != FORMAT {
            return Err(BadManifest::Format(head.format));
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(shape)?;
        manifest.check(epoch).map_err(damaged)?;
        Ok(manifest)
    }

    fn check(&self, epoch: u64) -> Result<(), &'static str> {
        if self.epoch != epoch {
            return Err("it is of another epoch than its name says");
        }
        let sound = |p: &Place| is_state_name(&p.file) && p.offset.checked_add(p.length).is_some();
        if all_places(&self.state).all(sound) {
            Ok(())
        } else {
            Err("it names a file that is no state")
        }
    }
}

/// The file name of the manifest of a snapshot; names sort like numbers.
pub(super) fn manifest_name(epoch: u64) -> String {
    format!("{PREFIX}{epoch:020}{SUFFIX}")
}

/// What [`manifest_name`] was given; `None` for a file that is no manifest.
pub(super) fn epoch_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// The file name of the `n`-th state file of an epoch.
pub(super) fn state_name(epoch: u64, n: u64) -> String {
    format!("{STATE_PREFIX}{epoch:020}-{n}{STATE_SUFFIX}")
}

/// Whether a file is one of state. Never a path that leads elsewhere.
pub(super) fn is_state_name(name: &str) -> bool {
    let middle = name.strip_prefix(STATE_PREFIX).and_then(|n| n.strip_suffix(STATE_SUFFIX));
    middle.is_some_and(|m| m.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}
