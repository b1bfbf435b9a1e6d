//! Tables of TimescaleDB, or of plain PostgreSQL, that hold every row once and its latest correction.
//!
//! ```text
//! fence   lock the row of this sink in `foreline_commit`; a newer run there ends this one
//! stage   binary COPY into a temporary table, one row a key: the highest revision, of equals the first
//! upsert  INSERT .. ON CONFLICT (key) DO UPDATE .. WHERE (_generation, _revision) is smaller; deletions
//! commit  the epoch into the row of this sink, COMMIT
//! ```
//!
//! What a reader would get wrong:
//!
//! * Rows and epoch are one transaction, so a reader sees whole commits, and a restart reads what is there. When the
//!   reply to COMMIT is lost the sink says so and never tries again by itself: the engine opens it again and asks.
//! * A row that a correction made vanish is deleted, without a tombstone. None is needed: an older revision of it can
//!   only be in an epoch that is committed, which is not written again, or come from an older run, which is fenced.
//! * Of two rows with one key and one revision the first stays, within a commit as between two, so that the result does
//!   not depend on where commits were cut. The other is counted as `same_key`.
//! * PostgreSQL keeps microseconds. Two stamps that differ by less are one stamp to it.
//! * The same code serves the kinds `timescale` and `postgres`; the second never looks for the extension.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{ConfigError, Extent, Resolver};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{PlannedSink, SinkInputs, SinkKind};

mod address;
mod aggregate;
mod cells;
mod commit;
mod connection;
mod ddl;
mod encode;
mod error;
mod inspect;
mod look;
mod name;
mod partition;
mod pool;
mod sink;
mod statements;
mod table;
mod takeover;
#[cfg(test)]
mod tests;
mod tls;

use address::Address;
use aggregate::AggregateConfig;
pub(crate) use look::{Looked, Looking};
pub use partition::Partition;
use table::Table;

/// Writes rows into a table of PostgreSQL or TimescaleDB.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// How the database is reached: `postgresql://user:password@host:5432/database`. Put it into the environment or a
    /// file: `${env:DATABASE_URL}`. A host that is not this machine must offer TLS and a certificate for its name, unless
    /// the URL says `sslmode=disable`.
    pub url: Url,
    /// The table, which is created when it is not there. Default: the name of the stream.
    #[serde(default)]
    pub table: Option<String>,
    /// The schema that the table lies in; it must exist.
    #[serde(default = "public")]
    pub schema: String,
    /// The columns that tell one row from another; the event time must be among them where the table is partitioned.
    /// Default: what tells the rows of the stream apart, such as machine and `window_end` for windows; readings have
    /// their position in the source besides, and dead letters are numbered.
    #[serde(default)]
    pub key: Option<Vec<String>>,
    /// How much event time lies in one partition (`1d`, `12h`, `month`, a count for logical time), or `none`. Default:
    /// `1d` for `timescale`, `none` for `postgres`. With TimescaleDB it is the interval of a chunk.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// Partitions that are older than this, by the clock of the database, are dropped, and rows that are older are
    /// counted, not written. Needs partitions.
    #[serde(default)]
    pub retention: Option<Extent>,
    /// Chunks that are older than this are compressed. `timescale` only.
    #[serde(default)]
    pub compress_after: Option<Extent>,
    /// Continuous aggregates over the table, by name. `timescale` only.
    #[serde(default)]
    pub aggregates: std::collections::BTreeMap<String, AggregateConfig>,
    /// Certificates, where the system's own do not do.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Rows are committed when so many have come together, or when no more are at hand. Default 131072.
    #[serde(default = "commit_rows")]
    pub commit_rows: usize,
    /// A commit that takes longer is given up, and the database is asked what became of it. Default 5m.
    #[serde(default = "timeout")]
    pub timeout: Extent,
}

/// The certificates of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file of the authorities that the server's certificate may come from, instead of those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// A PEM file with our own certificate, for servers that ask for one.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// A PEM file with the key of `cert`.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// The address of a database. It may hold a password, so it is never printed.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Url(String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn public() -> String {
    "public".to_owned()
}

fn commit_rows() -> usize {
    1 << 17
}

fn timeout() -> Extent {
    Extent::Nanos(5 * 60 * 1_000_000_000)
}

/// Most rows of a commit: beyond, a transaction is long and memory is the limit.
const COMMIT_ROWS_MAX: usize = 1 << 22;

/// Whether TimescaleDB is made use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Where the database has it.
    WhereThere,
    /// Not even where the database has it.
    Never,
}

/// The kind of sink that writes hypertables.
#[derive(Debug)]
pub struct Timescale;

impl SinkKind for Timescale {
    type Config = TableConfig;
    const NAME: &'static str = "timescale";
    const SUMMARY: &'static str =
        "writes a hypertable of TimescaleDB, or a partitioned table of PostgreSQL";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        plan(config, inputs, given, Extension::WhereThere)
    }
}

/// What a sink is made from, checked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) table: Table,
    pub(crate) extension: Extension,
    pub(crate) pipeline: String,
    pub(crate) sink: String,
    pub(crate) stream: String,
    pub(crate) commit_rows: usize,
    pub(crate) timeout: Duration,
}

/// The database at `url`, with certificates whose paths are as in the pipeline file.
pub(crate) fn address(
    url: &Url,
    tls: Option<&TlsConfig>,
    given: &dyn Resolver,
) -> Result<Address, ConfigError> {
    let tls = tls.cloned().map(|tls| TlsConfig {
        ca: tls.ca.map(|path| given.path(&path)),
        cert: tls.cert.map(|path| given.path(&path)),
        key: tls.key.map(|path| given.path(&path)),
    });
    Address::parse(&url.0, tls.as_ref())
}

/// Checks the configuration against a stream, without a connection.
pub(crate) fn plan(
    config: &TableConfig,
    inputs: &SinkInputs<'_>,
    given: &dyn Resolver,
    extension: Extension,
) -> Result<PlannedSink, Vec<ConfigError>> {
    let mut found = Vec::new();
    let address = address(&config.url, config.tls.as_ref(), given).map_err(|e| found.push(e)).ok();
    let table = Table::plan(config, inputs, extension).map_err(|e| found.extend(e)).ok();
    if !(1..=COMMIT_ROWS_MAX).contains(&config.commit_rows) {
        let message = format!("{} is not between 1 and {COMMIT_ROWS_MAX}", config.commit_rows);
        found.push(ConfigError::new("commit_rows", message));
    }
    let timeout = match config.timeout {
        Extent::Nanos(n) if n > 0 => Duration::from_nanos(n.unsigned_abs()),
        other => {
            let message = format!("'{other}' is not a time that can pass");
            found.push(ConfigError::new("timeout", message).help("give a duration, such as 5m"));
            Duration::ZERO
        }
    };
    let (Some(address), Some(table), true) = (address, table, found.is_empty()) else {
        return Err(found);
    };
    let target = Target {
        address,
        table,
        extension,
        pipeline: inputs.pipeline.to_owned(),
        sink: inputs.sink.to_owned(),
        stream: inputs.stream.to_owned(),
        commit_rows: config.commit_rows,
        timeout,
    };
    let sql = ddl::script(&target.table, extension == Extension::WhereThere);
    let place = format!("table {} of {}", target.table.name, target.address);
    let mut notes = target.address.notes();
    if target.table.is_numbered() && (config.key.is_some() || config.partition.is_some()) {
        notes.push("dead letters are numbered: 'key' and 'partition' are not for them".to_owned());
    }
    let make = move || Ok(Box::new(sink::TableSink::new(target.clone())?) as _);
    Ok(PlannedSink {
        make: Arc::new(make),
        place,
        transactional: true,
        sql: Some(sql),
        notes,
        probe: None,
        lake: None,
    })
}
