//! Sources and sinks: one file and one line each.
//!
//! A source reads records and hands them to the engine undecoded; its decoder, one on every worker, parses
//! them. A sink takes the rows of whole epochs. Both may block; neither runs on a dataflow worker.

mod bell;
mod chained;
pub mod csv;
mod cut;
mod door;
pub mod email;
mod feed;
pub mod format;
pub mod http;
mod kind;
pub mod log;
pub mod mlflow;
pub mod mqtt;
mod notify;
mod objects;
pub mod parquet;
mod parts;
pub mod postgres;
mod record;
pub mod reference;
pub mod s3;
pub mod timescale;
pub mod webhook;

pub use bell::Bell;
pub use chained::{History, chained};
pub use door::{Door, DoorLimits, Fate, KEY_BYTES_MAX, Receipt, Refused, Taken};
pub use feed::Feed;
pub use http::commands;
pub use kind::{
    ColumnConfig, ColumnType, FieldRef, OpenSource, PROBE_TIME, PlannedSink, PlannedSource, Probe,
    SinkConfig, SinkInputs, SinkKind, SinkRegistration, SourceConfig, SourceInputs, SourceKind,
    SourceRegistration, Tap,
};
pub use log::TARGET as LOG_TARGET;
pub use reference::swaps;

/// All kinds of source.
pub const SOURCES: &[SourceRegistration] = &[
    SourceRegistration::of::<csv::Csv>(),
    SourceRegistration::of::<http::Http>(),
    SourceRegistration::of::<mqtt::Mqtt>(),
    SourceRegistration::of::<parquet::ParquetFiles>(),
    SourceRegistration::of::<s3::S3>(),
];

/// All kinds of relation that is read from outside.
pub const REFERENCES: &[SourceRegistration] = &[
    SourceRegistration::of::<reference::Csv>(),
    SourceRegistration::of::<reference::Http>(),
    SourceRegistration::of::<reference::Postgres>(),
];

/// All kinds of sink.
pub const SINKS: &[SinkRegistration] = &[
    SinkRegistration::of::<email::Email>(),
    SinkRegistration::of::<log::Log>(),
    SinkRegistration::of::<mqtt::MqttTopics>(),
    SinkRegistration::of::<parquet::Parquet>(),
    SinkRegistration::of::<postgres::Postgres>(),
    SinkRegistration::of::<timescale::Timescale>(),
    SinkRegistration::of::<webhook::Webhook>(),
];
