//! What another run has read, to be carried out once more beside it.
//!
//! What a reader would get wrong:
//!
//! * Nothing is written and nobody is fenced: the other run may be at work meanwhile.
//! * The journal is trimmed, so it begins somewhere. State begins empty there.
//! * What was read but belongs to no epoch yet is left out, and nothing is flushed at the end unless the sources had
//!   ended: the results are those that the other run has had by then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Disk;
use crate::durable::Identity;
use crate::epoch::{Epoch, SourceId};
use crate::journal::{Journal, JournalReplay, PartitionRecord};
use crate::run::{RunError, read_identity};
use crate::snapshot::{SNAPSHOTS_KEPT, SnapshotStore};
use crate::source::KnownPartition;

/// The journal of another run.
#[derive(Debug, Clone)]
pub struct History {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The data directory of the other run.
    pub dir: PathBuf,
    /// The names of its sources, in the order of its pipeline.
    pub sources: Vec<String>,
}

impl History {
    /// What the pipeline was that wrote it; `None` where no run has begun.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, RunError> {
        read_identity(self.disk.as_ref(), &self.dir)
    }

    /// The first and the last epoch, or `None` when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn epochs(&self) -> Result<Option<(u64, u64)>, RunError> {
        let dir = self.dir.join("journal");
        let verified = crate::journal::verify_journal(self.disk.as_ref(), &dir);
        Ok(verified.map_err(RunError::Journal)?.epochs)
    }

    pub(crate) fn read(&self) -> Result<(JournalReplay, Vec<PartitionRecord>), RunError> {
        let journal = Journal::read(Arc::clone(&self.disk), &self.dir.join("journal"));
        journal.map_err(RunError::Journal)
    }

    /// What the newest snapshot says of the partitions, by the name of their source: the journal names only those that
    /// its epochs have read from. None where there is no snapshot.
    pub(crate) fn partitions(&self) -> Result<BTreeMap<String, Vec<KnownPartition>>, RunError> {
        let dir = self.dir.join("snapshots");
        if self.disk.list(&dir).is_err() {
            return Ok(BTreeMap::new());
        }
        let store = SnapshotStore::open(Arc::clone(&self.disk), dir, SNAPSHOTS_KEPT);
        let newest = store.and_then(|store| store.newest()).map_err(RunError::Snapshot)?;
        newest.map_or(Ok(BTreeMap::new()), |n| n.partitions().map_err(RunError::Snapshot))
    }

    /// For each source of the journal the place of the one of the same name among `names`.
    pub(crate) fn places<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Option<usize>> {
        let names: Vec<&str> = names.collect();
        self.sources.iter().map(|name| names.iter().position(|n| n == name)).collect()
    }
}

/// An epoch with the numbers that its sources have elsewhere; what a source without one has read is left out.
pub(crate) fn renumbered(
    epoch: Epoch,
    place: impl Fn(SourceId) -> Option<SourceId>,
) -> (Epoch, Vec<bool>) {
    let kept = epoch.inputs.iter().map(|i| place(i.source).is_some()).collect();
    let inputs = epoch.inputs.into_iter().filter_map(|mut input| {
        input.source = place(input.source)?;
        Some(input)
    });
    let inputs = inputs.collect();
    let ended = epoch.ended.into_iter().filter_map(place).collect();
    (Epoch { inputs, ended, ..epoch }, kept)
}
