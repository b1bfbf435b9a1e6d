//! A relation in a table of PostgreSQL, which others keep up.

use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{ConfigError, Extent, Replay, Resolver, Source, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::csv::interval;
use super::table::{Found, Look, TABLE_BYTES_MAX, Tables};
use crate::format::{Format, JsonOptions};
use crate::http::{Body, Examiner};
use crate::kind::{FieldRef, PlannedSource, SourceInputs, SourceKind, Tap};
use crate::timescale::{Looked, Looking, TlsConfig, Url, address};

/// Reads a relation from a table of PostgreSQL, and again whenever the table changes. A row that is no longer in the table is no
/// longer there. A column is read from that of its name, or of its `field`; stamps and numbers are as PostgreSQL writes them into
/// JSON.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTable {
    /// How the database is reached: `postgresql://user:password@host:5432/database`, best as `${env:DATABASE_URL}`.
    pub url: Url,
    /// The table, or a view of the database.
    pub table: String,
    /// The schema that it lies in. Default `public`.
    #[serde(default = "public")]
    pub schema: String,
    /// A column that grows with each change of a row, such as `updated_at`. The table is read when it, or the number of rows,
    /// has changed. Left out: the table is read at every look, and compared.
    #[serde(default)]
    pub change_column: Option<String>,
    /// How often it is looked at. Default `5s`.
    #[serde(default = "five_seconds")]
    pub every: Extent,
    /// A look that takes longer is given up. Default `30s`.
    #[serde(default = "half_a_minute")]
    pub timeout: Extent,
    /// Certificates, where the system's own do not do.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

fn public() -> String {
    "public".to_owned()
}

fn five_seconds() -> Extent {
    Extent::Nanos(5_000_000_000)
}

fn half_a_minute() -> Extent {
    Extent::Nanos(30_000_000_000)
}

/// The kind of relation that is read from a database.
#[derive(Debug)]
pub struct Postgres;

impl SourceKind for Postgres {
    type Config = DatabaseTable;
    const NAME: &'static str = "postgres";
    const SUMMARY: &'static str =
        "reads a relation from a table of PostgreSQL, and again whenever it changes";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let mut mistakes = Vec::new();
        let address =
            address(&config.url, config.tls.as_ref(), given).map_err(|e| mistakes.push(e)).ok();
        let every = interval(config.every).map_err(|e| mistakes.push(e)).ok();
        let timeout = match config.timeout {
            Extent::Nanos(n) if n > 0 => Duration::from_nanos(n.unsigned_abs()),
            other => {
                mistakes.push(ConfigError::new("timeout", format!("'{other}' is no time to wait")));
                Duration::ZERO
            }
        };
        let formats = vec![(Body::Ndjson, Format::Ndjson(JsonOptions::default()))];
        let examiner = Examiner::of(formats, inputs).map_err(|e| mistakes.extend(e)).ok();
        let (Some(address), Some(every), Some(examiner), true) =
            (address, every, examiner, mistakes.is_empty())
        else {
            return Err(mistakes);
        };
        let field = |i: usize| {
            let (name, column) = &inputs.columns[i];
            match &column.field {
                Some(FieldRef::Name(field)) => field.clone(),
                _ => name.clone(),
            }
        };
        let notes = address.notes();
        let looked = Looked {
            address,
            schema: config.schema.clone(),
            table: config.table.clone(),
            columns: (0..inputs.columns.len()).map(field).collect(),
            order: inputs.schema.primary_key().columns.iter().map(|&k| field(k)).collect(),
            change_column: config.change_column.clone(),
            every,
            timeout,
            bytes_max: TABLE_BYTES_MAX,
        };
        let open = move || {
            let looking = Looking::begin(looked.clone()).map_err(SourceError::Io)?;
            let look = Table { looking, name: looked.name() };
            let tables = Tables::new(Box::new(look), examiner.clone(), Body::Ndjson);
            Ok(Box::new(tables) as Box<dyn Source>)
        };
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded: false,
            replay: Replay::ByPayload,
            notes,
            probe: None,
            door: None,
            bell: None,
            tap: Tap::Refused("a relation is not a stream; look at its table"),
        })
    }
}

struct Table {
    looking: Looking,
    name: String,
}

impl Look for Table {
    fn look(&mut self) -> Result<Option<Found>, String> {
        let found = self.looking.take().transpose()?;
        Ok(found.map(|text| Found { name: self.name.clone(), text }))
    }
}
