//! Tables of PostgreSQL: the sink `timescale` on a database where TimescaleDB is not wanted.
//!
//! It is the same code and has the same options, but never looks for the extension, and does not partition its tables
//! unless it is told to.

use foreline_engine::{ConfigError, Resolver};

use crate::kind::{PlannedSink, SinkInputs, SinkKind};
use crate::timescale::{self, Extension, TableConfig};

/// The kind of sink that writes tables of PostgreSQL.
#[derive(Debug)]
pub struct Postgres;

impl SinkKind for Postgres {
    type Config = TableConfig;
    const NAME: &'static str = "postgres";
    const SUMMARY: &'static str = "writes a table of PostgreSQL";

    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        timescale::plan(config, inputs, given, Extension::Never)
    }
}
