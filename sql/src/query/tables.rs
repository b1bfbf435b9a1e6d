//! The tables of a pipeline as queries see them: rows in memory, and files of which some rows stand for others.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider as _, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::{Column, DataFusionError, JoinType, plan_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::datasource::{MemTable, TableProvider};
use datafusion::functions_window::rank::rank_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{ExprFunctionExt as _, WindowFunctionDefinition};
use datafusion::prelude::{DataFrame, Expr, SessionContext, col, lit};

/// The column that counts corrections of a row, in files of them.
const REVISION: &str = "_revision";
/// The column that says that a row is no longer there.
const DELETED: &str = "_deleted";
/// The number of the computation that wrote a row, while rows of several are compared.
const GENERATION: &str = "_generation";

/// A table that can be asked.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub name: String,
    /// What it is, in a few words: `view`, `stream features in lake/features`.
    pub kind: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The units of its columns, where they are known.
    pub units: Vec<Option<String>>,
}

/// Knows the tables of a pipeline.
pub trait Catalogue: Debug + Send + Sync {
    /// All of them, by name.
    fn tables(&self) -> Vec<About>;

    /// Those with these names, all as of the end of one epoch; `None` where they do not show one at this moment, and are to be
    /// looked at again.
    ///
    /// # Errors
    /// When one cannot be read now.
    fn snapshot(&self, names: &[String]) -> Result<Option<Snapshot>, String>;
}

/// Tables at one epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The epoch, where there is one.
    pub epoch: Option<u64>,
    /// What each has, in the order in which they were asked for.
    pub tables: Vec<Content>,
}

impl Snapshot {
    /// All files that are to be read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self.tables.iter().filter_map(|table| match table {
            Content::Files(files) => Some(files),
            Content::Rows(_) => None,
        });
        let parts = files.flat_map(|files| files.generations.values());
        parts.flat_map(|part| part.rows.iter().chain(&part.corrections).cloned()).collect()
    }
}

/// What a table has.
#[derive(Debug, Clone)]
pub enum Content {
    /// Rows in memory.
    Rows(Vec<RecordBatch>),
    /// Rows in Parquet files.
    Files(Files),
}

/// A stream in Parquet files, and what is not in them yet.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// By the number of the computation that wrote them. Rows of a later one stand for those with the same identity of earlier ones.
    pub generations: BTreeMap<u64, Part>,
    /// The columns that tell a row from others: key and event time.
    pub identity: Vec<String>,
}

/// The files of one computation.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Rows as they first came.
    pub rows: Vec<PathBuf>,
    /// Rows that stand for others, with the columns `_revision` and `_deleted`.
    pub corrections: Vec<PathBuf>,
    /// Rows that are in no file yet.
    pub recent: Vec<RecordBatch>,
    /// Corrections that are in no file yet.
    pub recent_corrections: Vec<RecordBatch>,
}

/// Gives a query its tables, and `system` where it is asked for. Those that it does not read are there with their columns, so
/// that they can be listed.
pub(super) async fn register(
    context: &SessionContext,
    about: &[About],
    names: &[String],
    snapshot: Snapshot,
    system: Option<Arc<dyn SchemaProvider>>,
) -> Result<(), DataFusionError> {
    let catalogue = Arc::new(MemoryCatalogProvider::new());
    catalogue.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
    if let Some(system) = system {
        catalogue.register_schema(super::system::SCHEMA, system)?;
    }
    context.register_catalog("foreline", catalogue);
    if names.len() != snapshot.tables.len() {
        return plan_err!("a table is missing");
    }
    let mut contents: BTreeMap<&String, Content> = names.iter().zip(snapshot.tables).collect();
    for table in about {
        let provider: Arc<dyn TableProvider> = match contents.remove(&table.name) {
            None => Arc::new(EmptyTable::new(Arc::clone(&table.schema))),
            Some(Content::Rows(rows)) => memory(&table.schema, rows)?,
            Some(Content::Files(files)) => standing(context, table, files).await?,
        };
        context.register_table(quoted(&table.name), provider)?;
    }
    Ok(())
}

/// A name that is taken as it is.
fn quoted(name: &str) -> datafusion::common::TableReference {
    datafusion::common::TableReference::bare(name)
}

fn memory(
    schema: &SchemaRef,
    rows: Vec<RecordBatch>,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(MemTable::try_new(Arc::clone(schema), vec![rows])?))
}

/// The rows of a stream that stand.
async fn standing(
    context: &SessionContext,
    table: &About,
    files: Files,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let mut first = Vec::new();
    let mut corrections = Vec::new();
    for (generation, part) in &files.generations {
        first.extend(parts(context, &part.rows, &part.recent, *generation).await?);
        let later =
            parts(context, &part.corrections, &part.recent_corrections, *generation).await?;
        corrections.extend(later);
    }
    let has_one = files.generations.len() <= 1;
    if has_one && corrections.is_empty() {
        // As it lies, so that what a query asks for decides which row groups are read.
        if let [(provider, _)] = &first[..] {
            return Ok(Arc::clone(provider));
        }
    }
    let columns: Vec<Expr> = table.schema.fields().iter().map(|f| name(f.name())).collect();
    let Some(rows) = together(context, first, &columns, has_one)? else {
        return Ok(Arc::new(EmptyTable::new(Arc::clone(&table.schema))));
    };
    let frame = match together(context, corrections, &columns, false)? {
        None if has_one => rows,
        Some(corrections) if has_one => {
            let corrected = ranked(corrections.clone(), &files.identity, &columns)?;
            let identity: Vec<&str> = files.identity.iter().map(String::as_str).collect();
            let only = corrections
                .select(files.identity.iter().map(|c| name(c).alias(format!("_of_{c}"))))?
                .distinct()?;
            let right: Vec<String> = identity.iter().map(|c| format!("_of_{c}")).collect();
            let right: Vec<&str> = right.iter().map(String::as_str).collect();
            // Few rows were ever corrected: these are looked up, the others pass.
            rows.join(only, JoinType::LeftAnti, &identity, &right, None)?.union(corrected)?
        }
        None => ranked(rows, &files.identity, &columns)?,
        Some(corrections) => ranked(rows.union(corrections)?, &files.identity, &columns)?,
    };
    Ok(frame.into_view())
}

/// What is in files and what is not yet, of one computation.
async fn parts(
    context: &SessionContext,
    files: &[PathBuf],
    recent: &[RecordBatch],
    generation: u64,
) -> Result<Vec<(Arc<dyn TableProvider>, u64)>, DataFusionError> {
    let mut parts = Vec::new();
    if !files.is_empty() {
        parts.push((listing(context, files).await?, generation));
    }
    if let Some(batch) = recent.first() {
        let schema = batch.schema();
        parts.push((memory(&schema, recent.to_vec())?, generation));
    }
    Ok(parts)
}

/// The rows of several parts; `plain` without the columns that compare them. `None` where there is no part.
fn together(
    context: &SessionContext,
    parts: Vec<(Arc<dyn TableProvider>, u64)>,
    columns: &[Expr],
    plain: bool,
) -> Result<Option<DataFrame>, DataFusionError> {
    let mut all: Option<DataFrame> = None;
    for (provider, generation) in parts {
        let has_revision = provider.schema().index_of(REVISION).is_ok();
        let mut wanted = columns.to_vec();
        if !plain {
            let of = |column, otherwise: Expr| match has_revision {
                true => name(column),
                false => otherwise.alias(column),
            };
            wanted.push(of(REVISION, lit(0_u32)));
            wanted.push(of(DELETED, lit(false)));
            wanted.push(lit(generation).alias(GENERATION));
        }
        let frame = context.read_table(provider)?.select(wanted)?;
        all = Some(match all {
            None => frame,
            Some(before) => before.union(frame)?,
        });
    }
    Ok(all)
}

/// Of rows with the same identity those of the greatest generation and revision, and none where that one is deleted.
fn ranked(
    rows: DataFrame,
    identity: &[String],
    columns: &[Expr],
) -> Result<DataFrame, DataFusionError> {
    // Rows that are the same in all of this are two readings, and both stand: their rank is one.
    let rank = Expr::from(WindowFunction::new(
        WindowFunctionDefinition::WindowUDF(rank_udwf()),
        Vec::new(),
    ))
    .partition_by(identity.iter().map(|c| name(c)).collect())
    .order_by(vec![name(GENERATION).sort(false, false), name(REVISION).sort(false, false)])
    .build()?
    .alias("_rank");
    let rows = rows.window(vec![rank])?;
    rows.filter(col("_rank").eq(lit(1_u64)).and(!name(DELETED)))?.select(columns.to_vec())
}

/// A column by its name as it is.
fn name(column: &str) -> Expr {
    Expr::Column(Column::from_name(column))
}

/// Parquet files as one table.
async fn listing(
    context: &SessionContext,
    files: &[PathBuf],
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let urls = files.iter().map(|file| url(file)).collect::<Result<Vec<_>, _>>()?;
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    // The reader would only say that the place is empty.
    for file in files {
        std::fs::metadata(file).map_err(|e| {
            let named = format!("'{}': {e}", file.display());
            DataFusionError::IoError(std::io::Error::new(e.kind(), named))
        })?;
    }
    let schema = options.infer_schema(&context.state(), &urls[0]).await?;
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}

fn url(file: &Path) -> Result<ListingTableUrl, DataFusionError> {
    let whole = std::path::absolute(file).map_err(DataFusionError::IoError)?;
    let url = url::Url::from_file_path(whole).map_err(|()| {
        DataFusionError::Configuration(format!("'{}' is no path of a file", file.display()))
    })?;
    ListingTableUrl::try_new(url, None)
}
