//! Everything that a client can drive up, and how far.

use std::time::Duration;

/// Most connections at a time; others wait to be accepted. A gateway keeps a few open, a plant has some hundred.
pub(crate) const CONNECTIONS: usize = 512;
/// How long a client may take for the head of a request.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take for the body.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(30);
/// What is read of the body of a notification; one of a thousand objects has some hundred kilobytes.
pub(crate) const WAKE_BYTES: usize = 1 << 20;
/// How long a request waits for its records to be durable; an fsync takes milliseconds, a full journal much longer.
pub(crate) const DURABLE_TIME: Duration = Duration::from_secs(30);
/// How long requests under way have for their answer when the server is stopped.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(10);
/// Bodies that are read and decoded at a time may take so many kibibytes together, each counted twice: as it comes and
/// as it is kept.
pub(crate) const BODIES_KIB: usize = 256 * 1024;
/// Threads that decompress, decode and wait for a disk.
pub(crate) const BLOCKING_THREADS: usize = 8;
/// A source that was not asked for records for so long is not ready: its journal is full or its sinks are behind.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(5);
/// What a client is told to wait where nothing better is known.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest body of a command; a comment has 4,096 bytes at most.
pub(crate) const COMMAND_BYTES: usize = 16 << 10;
/// Longest body of a version of a model: weights of a few thousand deep trees. Counted twice, as every body, it leaves room for
/// others.
pub(crate) const MODEL_BYTES: usize = 64 << 20;
/// Longest body of a query. Its text may have half of that.
pub(crate) const QUERY_BYTES: usize = 512 << 10;
/// Rows of a query's answer, unless asked for less or more.
pub(crate) const QUERY_ROWS: usize = 10_000;
/// Most rows of a query's answer; its bytes have a limit, too.
pub(crate) const QUERY_ROWS_MAX: usize = 1_000_000;
/// Stretches of a series, unless asked for less or more; each has two points a column.
pub(crate) const SERIES_POINTS: usize = 500;
/// Most stretches of a series: more than a screen has dots.
pub(crate) const SERIES_POINTS_MAX: usize = 10_000;
/// Most columns of a series.
pub(crate) const SERIES_COLUMNS: usize = 32;
/// Most readers that follow tables, each with a connection of its own.
pub(crate) const FOLLOWERS: usize = 256;
/// Rows of a view in one answer, unless asked for less or more.
pub(crate) const PAGE_ROWS: usize = 1_000;
/// Most rows of a view in one answer.
pub(crate) const PAGE_ROWS_MAX: usize = 10_000;
/// How long an answer may wait for a change: shorter than the minute after which proxies give up.
pub(crate) const WAIT_TIME: Duration = Duration::from_secs(55);
/// Bodies from this size on are compressed: a smaller one fits into a packet or two as it is.
pub(crate) const COMPRESS_BYTES: u64 = 2 << 10;
