//! The dataflow that everything else in Foreline is built on.
//!
//! A pipeline is a [`Graph`]: sources, steps and sinks joined by streams of Arrow batches. [`run`] carries
//! it out on timely dataflow, one epoch after the other. Nothing outside this crate names timely.
//!
//! What a reader would get wrong:
//!
//! * An **epoch** is the engine's clock and has no meaning in a result. Event time is a column. No result
//!   depends on where epochs were cut, on the number of workers, or on how the input was split into files.
//! * An [`Operator`] is synchronous and pure: no clock, no randomness, no I/O, no hash-map order. All it may
//!   know is in its arguments; what it remembers it can [`save`](Operator::save) and
//!   [`load`](Operator::load) by shard.
//! * A row that cannot be used is a [`DeadLetter`], never an error and never a panic.

mod account;
mod batch;
mod clock;
mod config;
mod correct;
mod crash;
mod dead;
mod disk;
mod durable;
mod epoch;
mod exchange;
mod expression;
mod fitting;
mod graph;
mod history;
mod hold;
mod identity;
mod journal;
mod keyed;
mod late;
mod memory;
mod operator;
mod order;
mod parcel;
mod recent;
mod relation;
mod run;
mod schema;
mod sink;
mod snapshot;
mod source;
mod tail;
mod units;
mod vitals;
mod watermarks;

pub use account::Account;
pub use batch::{Batch, BatchError, Group};
pub use clock::{Clock, SystemClock};
pub use config::Resolver;
pub use config::{ConfigError, Described, Extent, parse_config};
pub use correct::{Bounds, Correcting};
#[doc(hidden)]
pub use crash::crash_point;
pub use dead::{DeadLetter, Reason, dead_letter_schema, dead_letters_to_batch};
pub use disk::{AppendFile, Disk, RealDisk, SimDisk};
pub use durable::{Durable, Identity, OnChange};
pub use epoch::{Command, Epoch, InputRange, SourceId};
pub use expression::{EvaluateError, Expression, ExpressionError};
pub use fitting::{Fit, FitRows, FitTarget, Fitted, Fitting};
pub use graph::{
    ClockPolicy, DeviceClock, Front, Graph, LatePolicy, OrderRules, RelationRules, SinkNode,
    SourceNode, StepNode, StreamId,
};
pub use history::History;
pub use hold::{Hold, HoldError};
pub use identity::{Pair, identifies_like, side_by_side};
pub use journal::{
    Journal, JournalError, JournalOptions, JournalReplay, PartitionRecord, Problem, Recovered,
    Repaired, Replayed, ReplayedInput, RunRecord, Trimmed, Verified, VerifiedSegment, digest,
    repair_journal, verify_journal,
};
pub use keyed::{HASH_COLUMN, Keyed, SHARDS, ShardSet, hash_keys, shard_of, worker_of};
pub use late::late_schema;
pub use memory::{CollectSink, Collected, MemorySource};
pub use operator::{
    Build, Family, Fault, Input, LateSupport, Operator, OperatorKind, Out, Planned, Registration,
    StepConfig, WorkerContext,
};
pub use recent::{RECENT_BYTES_MAX, RECENT_ROWS_MAX, Recent, Stood};
pub use relation::{
    Aggregate, CHANGED_AT, Cell, Changes, Function, GONE, LATEST_ROWS_MAX, Page, Relation, Table,
    VIEW_ROWS_MAX, ViewKind, ViewNode, latest,
};
pub use run::{Observer, Options, Report, RunError, Schedule, run, simulate};
pub use schema::{
    Column, PrimaryKey, SampleRate, Schema, SchemaError, TimeDomain, Unit, type_name, waveform_type,
};
pub use sink::{Committed, RunId, Sink, SinkError};
pub use snapshot::{
    Draft, Facts, Loaded, NodeFacts, Published, SNAPSHOTS_KEPT, SnapshotError, SnapshotStore,
    Written,
};
pub use source::{
    Chunk, Decoded, Decoder, KnownPartition, Partition, Poll, Position, Range, ReadUpTo, Replay,
    Source, SourceError,
};
pub use tail::{Tail, Tailed};
pub use units::{Conversion, NoConversion};
pub use vitals::{
    DEAD_LETTERS_MAX, Dead, EpochVitals, Held, Reading, Seen, SinkVitals, SourceVitals, Vitals,
};
pub use watermarks::Watermarks;
