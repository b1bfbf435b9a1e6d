//! Where rows go.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::schema::Schema;
use crate::tail::Tail;

/// A run of a pipeline, greater than every run before it; the fencing number of sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whether a commit is known to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It has: everything up to this epoch is there.
    Yes(u64),
    /// The reply was lost: the sink is opened again and asked what it has.
    Unknown,
}

/// A sink could not take rows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SinkError {
    /// It may go better later: the sink is opened again after a while, asked what it has, and given the rest again.
    #[error("{0}")]
    Retry(String),
    /// It will not.
    #[error("{0}")]
    Fatal(String),
    /// A newer run of the pipeline has taken over.
    #[error("fenced by run {0}: a newer run writes there; if none does, remove what is there")]
    Fenced(RunId),
}

/// Where the rows of one stream go. Called from one thread, epochs in order.
pub trait Sink: Send {
    /// Takes over from earlier runs and says up to which epoch the rows are already there. The `schema` is that
    /// of the stream; rows come in its column order.
    ///
    /// It is called again by the same run after [`SinkError::Retry`] and [`Committed::Unknown`]. What was written and is
    /// not committed is then to be forgotten: it is written again.
    ///
    /// # Errors
    /// When the place cannot be used, or a newer run holds it. With [`SinkError::Retry`] the run begins all the same, and
    /// waits for the sink with its first epoch.
    fn open(
        &mut self,
        run: RunId,
        generation: u64,
        schema: &Schema,
    ) -> Result<Option<u64>, SinkError>;

    /// Takes the rows of `epoch`, sorted by key hash and time. They need not be visible yet.
    ///
    /// # Errors
    /// When the rows cannot be taken.
    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError>;

    /// Makes everything up to `upto` visible and durable, together with `upto` itself.
    ///
    /// # Errors
    /// When it could not be done for certain.
    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError>;

    /// Whether [`Sink::open`] knows what earlier runs have committed. One that does not, such as a log, is taken to have what
    /// was committed by the snapshot that the run begins with; what came after that it is given again.
    fn remembers(&self) -> bool {
        true
    }

    /// Whether rows that are not yet committed should be soon: the sink has as much as it wants at a time.
    fn full(&self) -> bool;

    /// Whether people look at the rows while the pipeline runs: they are then committed as soon as no more are at hand,
    /// however few they are. Otherwise they wait until the sink is full, a snapshot is made or the run ends.
    fn prompt(&self) -> bool {
        false
    }

    /// Where readers look for what it was handed and has not committed, if there are any.
    fn tail(&self) -> Option<Arc<Tail>> {
        None
    }

    /// Rows that were taken and not written, since the sink was made: why, as a short word, and how many.
    fn left_out(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
