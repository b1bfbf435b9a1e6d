//! The engine's clock: which inputs belong together.

use serde::{Deserialize, Serialize};

use crate::source::{Partition, Range};

/// A source of the pipeline, by its place in the [`Graph`](crate::Graph).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// A stretch of one partition that belongs to an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRange {
    /// The source.
    pub source: SourceId,
    /// The file, object or topic partition.
    pub partition: Partition,
    /// Which part of it.
    pub range: Range,
}

/// A change from outside that is part of an epoch like a reading: an edit, an acknowledgement, a swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it is for: the name of a step, view, alert or reference relation.
    pub target: String,
    /// What to do, as the target defines it.
    pub body: Vec<u8>,
}

/// What the engine fed to the dataflow in one go. It is all that an operator may know of the outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The timely timestamp; one more than the epoch before.
    pub id: u64,
    /// The engine's clock when the epoch was closed, nanoseconds since 1970. Replay sees the same.
    pub clock_ns: i64,
    /// Exactly these inputs.
    pub inputs: Vec<InputRange>,
    /// Commands, in the order they came.
    pub commands: Vec<Command>,
    /// Sources from which nothing follows. Only this flushes open windows.
    pub ended: Vec<SourceId>,
}
