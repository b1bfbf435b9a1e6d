//! What a run keeps so that the next one goes on where it ended, whatever ended it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;

/// Where and how the progress of a pipeline is kept.
#[derive(Debug, Clone)]
pub struct Durable {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The data directory: journal and snapshots lie below it.
    pub dir: PathBuf,
    /// The time between two snapshots.
    pub snapshot_interval: Duration,
    /// How many snapshots are kept; at least 1.
    pub snapshots_kept: usize,
    /// Most bytes of journal; when it is reached the sources are not read.
    pub journal_limit_bytes: u64,
    /// How far back the journal goes beyond what a restart needs, in nanoseconds of the clock.
    pub journal_keep_ns: i64,
    /// A segment of the journal is closed at this size.
    pub journal_segment_bytes: u64,
    /// What the pipeline is, so that a change is noticed.
    pub identity: Identity,
    /// What to do about a change.
    pub on_change: OnChange,
    /// Whether all sources end by themselves: such a pipeline begins anew once it has ended.
    pub bounded: bool,
}

/// What a pipeline is: a change of it is a change of results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// By the name of the source, step or sink: all that its rows depend on, as text that a person can compare.
    pub nodes: BTreeMap<String, String>,
}

impl Identity {
    /// What differs, a line each: `- name: as it was`, `+ name: as it is`.
    #[must_use]
    pub fn differences(&self, now: &Identity) -> Vec<String> {
        let mut lines = Vec::new();
        let names: std::collections::BTreeSet<_> =
            self.nodes.keys().chain(now.nodes.keys()).collect();
        for name in names {
            let (was, is) = (self.nodes.get(name), now.nodes.get(name));
            if was != is {
                lines.extend(was.map(|text| format!("- {name}: {text}")));
                lines.extend(is.map(|text| format!("+ {name}: {text}")));
            }
        }
        lines
    }
}

/// What to do when the pipeline is not the one whose progress was kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Say what differs, and end.
    #[default]
    Refuse,
    /// Go on; the state of what has not changed is kept, the rest begins without any.
    Migrate,
    /// Compute everything anew from what the journal holds; the sinks' rows are replaced by the new ones.
    FromJournal,
    /// Forget the progress and begin anew.
    Fresh,
}
