//! DataFusion with nothing of ours around it: what queries are measured beside.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::{Builder, Runtime};

/// A session over one table of Parquet files.
pub struct Plain {
    runtime: Runtime,
    context: SessionContext,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Plain {
    /// A session in which `files` are the table `name`.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn new(name: &str, files: &[PathBuf], threads: usize) -> Result<Self, DataFusionError> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_time().build()?;
        let context = SessionContext::new_with_config(
            SessionConfig::new()
                .with_target_partitions(threads)
                .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
                .set_bool("datafusion.execution.parquet.pushdown_filters", true),
        );
        let urls = files.iter().map(|file| ListingTableUrl::parse(file.to_string_lossy()));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let schema = runtime.block_on(options.infer_schema(&context.state(), &urls[0]))?;
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(options)
            .with_schema(schema);
        context.register_table(name, Arc::new(ListingTable::try_new(config)?))?;
        Ok(Plain { runtime, context })
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// When it is wrong, or fails.
    pub fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.runtime.block_on(async { self.context.sql(sql).await?.collect().await })
    }
}
