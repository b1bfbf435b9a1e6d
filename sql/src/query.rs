//! Queries of people: one statement that only reads, over the tables of a pipeline, within limits.
//!
//! What a reader would get wrong:
//!
//! * Every query goes through [`Queries::ask`], whoever asks. What it may not do is refused before anything is planned.
//! * All tables of a query are read at one epoch, when it begins; what comes later is not seen.
//! * It runs on threads of its own, which the dataflow and the HTTP server do not share. Whoever drops the future of an
//!   answer cancels the query, and its memory comes back.
//! * Names keep their case, as in the expressions of steps.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

mod functions;
mod gate;
mod joins;
mod placeholders;
mod refusal;
pub(crate) mod system;
mod tables;

pub use refusal::{Kind, QueryError, Refusal};
use system::System;
pub use tables::{About, Catalogue, Content, Files, Part, Snapshot};

/// Stack of a thread that plans: DataFusion takes up to 30 KiB a level of an expression without optimisation.
const STACK_BYTES: usize = 32 << 20;
/// Rows of a batch between two operators: small, so that a query that is cancelled ends soon.
const BATCH_ROWS: usize = 8192;
/// How long a runtime that ends waits for queries that are under way.
const STOP_TIME: Duration = Duration::from_millis(500);

/// How much longer than it may a query is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How often tables are looked at until they show one epoch. They do at once, unless an epoch ends at that moment.
const LOOKS_MAX: usize = 200;
/// How often a query is tried whose files go while it runs: a sink makes one of several, or lets old ones go.
const TRIES_MAX: usize = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What a query may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// Bytes that all queries together may hold for sorts, joins and groups.
    pub memory_bytes: usize,
    /// Bytes of temporary files that all queries together may write when memory does not do.
    pub spill_bytes: u64,
    /// Bytes of an answer.
    pub answer_bytes: usize,
    /// Queries at a time; more are refused.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            spill_bytes: 2 << 30,
            answer_bytes: 64 << 20,
            concurrent: 8,
        }
    }
}

/// What became of the queries so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered.
    pub answered: u64,
    /// Not let in, or wrong.
    pub refused: u64,
    /// Ended by a limit.
    pub limited: u64,
    /// Ended by whoever asked.
    pub cancelled: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    refused: AtomicU64,
    limited: AtomicU64,
    cancelled: AtomicU64,
}

/// What a query gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The epoch at whose end the tables were read; `None` where none of them has one.
    pub epoch: Option<u64>,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// Whether there are more rows than were asked for.
    pub is_truncated: bool,
    /// How long it took.
    pub time: Duration,
}

/// What the answer to a query would look like.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its columns.
    pub schema: SchemaRef,
    /// The types of `$1`, `$2` ..., where they are known.
    pub values: Vec<Option<DataType>>,
}

/// Carries queries out.
pub struct Queries {
    threads: Arc<Threads>,
    shared: Arc<Shared>,
    catalogue: Arc<dyn Catalogue>,
}

/// Ended with the last [`Queries`] that use them.
struct Threads(Option<Runtime>);

struct Shared {
    state: SessionState,
    system: OnceLock<Result<System, String>>,
    /// The tables that clients of PostgreSQL are told of.
    told: Arc<dyn Catalogue>,
    permits: Semaphore,
    limits: Limits,
    counters: Counters,
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Queries {
    /// Queries over the tables of `catalogue`, which spill into a folder of their own below `folder`.
    ///
    /// # Errors
    /// When there is no thread for them, or the folder cannot be made.
    pub fn new(
        catalogue: Arc<dyn Catalogue>,
        limits: Limits,
        folder: &Path,
    ) -> std::io::Result<Self> {
        // Whatever else runs here keeps half of the machine.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Never one alone: the time of a query that does not pause is watched by another.
        let threads = cores.div_ceil(2).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(STACK_BYTES)
            .thread_name("sql")
            .enable_time()
            .build()?;
        std::fs::create_dir_all(folder)?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
            .with_temp_file_path(folder)
            .with_max_temp_directory_size(limits.spill_bytes)
            .build()
            .map_err(std::io::Error::other)?;
        let permits = Semaphore::new(limits.concurrent);
        let state = state(Arc::new(environment), threads);
        let counters = Counters::default();
        let system = OnceLock::new();
        let told = Arc::clone(&catalogue);
        let shared = Arc::new(Shared { state, system, told, permits, limits, counters });
        Ok(Queries { threads: Arc::new(Threads(Some(runtime))), shared, catalogue })
    }

    /// Queries over tables that are not there yet, which can be described and not be asked.
    ///
    /// # Errors
    /// As [`Queries::new`].
    pub fn planned(tables: Vec<About>) -> std::io::Result<Self> {
        Self::new(Arc::new(Planned(tables)), Limits::default(), &std::env::temp_dir())
    }

    /// Queries over other tables, within the same limits and on the same threads.
    #[must_use]
    pub fn over(&self, catalogue: Arc<dyn Catalogue>) -> Self {
        let (threads, shared) = (Arc::clone(&self.threads), Arc::clone(&self.shared));
        Queries { threads, shared, catalogue }
    }

    /// The tables that there are.
    #[must_use]
    pub fn tables(&self) -> Vec<About> {
        self.catalogue.tables()
    }

    /// What became of the queries so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { answered, refused, limited, cancelled } = &self.shared.counters;
        Counts {
            answered: of(answered),
            refused: of(refused),
            limited: of(limited),
            cancelled: of(cancelled),
        }
    }

    /// Answers with at most `rows` rows. Dropping the future cancels the query.
    ///
    /// # Errors
    /// When the statement is refused or wrong, too many are under way, or it reaches a limit.
    pub async fn ask(&self, sql: &str, rows: usize) -> Result<Answer, QueryError> {
        self.ask_with(sql, Vec::new(), rows).await
    }

    /// The same with values for `$1`, `$2` ...
    ///
    /// # Errors
    /// As [`Queries::ask`].
    pub async fn ask_with(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        rows: usize,
    ) -> Result<Answer, QueryError> {
        let (shared, sql) = (Arc::clone(&self.shared), sql.to_owned());
        let catalogue = Arc::clone(&self.catalogue);
        let work = async move { shared.answer(&sql, values, rows, &*catalogue).await };
        let answer = self.watched(work).await;
        let counters = &self.shared.counters;
        let counter = match &answer {
            Ok(_) => &counters.answered,
            Err(QueryError::Limit(_) | QueryError::Busy(_)) => &counters.limited,
            Err(_) => &counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// The same with values as columns of one row each.
    ///
    /// # Errors
    /// As [`Queries::ask`].
    pub async fn ask_for(
        &self,
        sql: &str,
        values: &[ArrayRef],
        rows: usize,
    ) -> Result<Answer, QueryError> {
        let values = values.iter().map(|value| ScalarValue::try_from_array(value, 0));
        let values = values.collect::<Result<Vec<_>, _>>();
        let values = values.map_err(|e| QueryError::Failed(e.strip_backtrace()))?;
        self.ask_with(sql, values, rows).await
    }

    /// What the answer to a query would look like, for callers that have to know before they ask. Not counted.
    ///
    /// # Errors
    /// As [`Queries::ask`].
    pub async fn describe(&self, sql: &str) -> Result<Described, QueryError> {
        let (shared, sql) = (Arc::clone(&self.shared), sql.to_owned());
        let catalogue = Arc::clone(&self.catalogue);
        self.watched(async move { shared.describe(&sql, &*catalogue).await }).await
    }

    /// The same for callers that wait.
    ///
    /// # Errors
    /// As [`Queries::ask`].
    pub fn describe_and_wait(&self, sql: &str) -> Result<Described, QueryError> {
        match &self.threads.0 {
            Some(runtime) => runtime.block_on(self.describe(sql)),
            None => Err(QueryError::Failed("the engine ends".to_owned())),
        }
    }

    /// Carries `work` out on the threads of queries, within their limits. Dropping the future ends it.
    async fn watched<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let Some(runtime) = &self.threads.0 else {
            return Err(QueryError::Failed("the engine ends".to_owned()));
        };
        let shared = Arc::clone(&self.shared);
        let watched = Arc::clone(&self.shared);
        let task = runtime.spawn(async move { shared.within_limits(work).await });
        let waiting = Cancelling { task, watched, is_done: false };
        // The query watches its time itself, unless it does not come to it.
        let most = self.shared.limits.time + GRACE;
        match tokio::time::timeout(most, waiting).await {
            Ok(answer) => answer,
            Err(_) => Err(self.shared.took_too_long()),
        }
    }

    /// The same for callers that wait.
    ///
    /// # Errors
    /// As [`Queries::ask`].
    pub fn ask_and_wait(&self, sql: &str, rows: usize) -> Result<Answer, QueryError> {
        match &self.threads.0 {
            Some(runtime) => runtime.block_on(self.ask(sql, rows)),
            None => Err(QueryError::Failed("the engine ends".to_owned())),
        }
    }
}

/// Tables that are not there yet.
#[derive(Debug)]
struct Planned(Vec<About>);

impl Catalogue for Planned {
    fn tables(&self) -> Vec<About> {
        self.0.clone()
    }

    fn snapshot(&self, _: &[String]) -> Result<Option<Snapshot>, String> {
        Err("the tables are not there yet".to_owned())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(STOP_TIME);
        }
    }
}

/// A query that ends when nobody waits for its answer.
struct Cancelling<T> {
    task: JoinHandle<Result<T, QueryError>>,
    watched: Arc<Shared>,
    is_done: bool,
}

impl<T> Future for Cancelling<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.task).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                self.is_done = true;
                Poll::Ready(ended.unwrap_or_else(|e| {
                    tracing::error!("a query panicked (a bug): {e}");
                    Err(QueryError::Failed("the query failed (a bug)".to_owned()))
                }))
            }
        }
    }
}

impl<T> Drop for Cancelling<T> {
    fn drop(&mut self) {
        if !self.is_done {
            self.task.abort();
            self.watched.counters.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What all queries begin with: the functions that they may call.
fn state(environment: Arc<RuntimeEnv>, threads: usize) -> SessionState {
    let config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true)
        .with_default_catalog_and_schema("foreline", "public")
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.execution.parquet.pushdown_filters", false)
        .set_str("datafusion.execution.time_zone", "+00:00");
    let mut scalar = SessionStateDefaults::default_scalar_functions();
    scalar.retain(|f| !functions::unbounded(f.name(), f.aliases()));
    scalar.push(functions::time_bucket());
    let mut aggregate = SessionStateDefaults::default_aggregate_functions();
    aggregate.extend(functions::aggregates());
    let mut window = SessionStateDefaults::default_window_functions();
    window.extend(functions::windows());
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(environment)
        .with_default_features()
        .with_scalar_functions(scalar)
        .with_aggregate_functions(aggregate)
        .with_window_functions(window)
        .build()
}

impl Shared {
    async fn within_limits<T>(
        &self,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let Ok(_permit) = self.permits.try_acquire() else {
            let most = self.limits.concurrent;
            return Err(QueryError::Busy(format!(
                "{most} queries are under way, which is the limit"
            )));
        };
        let time = self.limits.time;
        match tokio::time::timeout(time, work).await {
            Ok(answer) => answer,
            Err(_) => Err(self.took_too_long()),
        }
    }

    fn took_too_long(&self) -> QueryError {
        QueryError::Limit(format!(
            "the query took longer than {} s, which is the limit; ask for less time or fewer machines",
            self.limits.time.as_secs_f64()
        ))
    }

    async fn answer(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        rows: usize,
        catalogue: &dyn Catalogue,
    ) -> Result<Answer, QueryError> {
        #[expect(clippy::disallowed_methods, reason = "how long it took is told to whoever asked")]
        let begun = Instant::now();
        let about = catalogue.tables();
        for _ in 1..TRIES_MAX {
            let asked = self.read(sql, &about)?;
            let snapshot = snapshot(catalogue, &asked.tables).await?;
            let files = snapshot.files();
            let answer = self.once(sql, values.clone(), rows, &about, (asked, snapshot)).await;
            if answer.is_ok() || files.iter().all(|file| file.exists()) {
                return answer.map(|answer| Answer { time: begun.elapsed(), ..answer });
            }
        }
        let asked = self.read(sql, &about)?;
        let snapshot = snapshot(catalogue, &asked.tables).await?;
        let answer = self.once(sql, values, rows, &about, (asked, snapshot)).await?;
        Ok(Answer { time: begun.elapsed(), ..answer })
    }

    /// Answers from tables as they were looked at. A file of theirs may be gone by now.
    async fn once(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        rows: usize,
        about: &[About],
        (asked, snapshot): (gate::Asked, Snapshot),
    ) -> Result<Answer, QueryError> {
        let epoch = snapshot.epoch;
        let (context, plan) = self.planned(sql, about, asked, snapshot).await?;
        let failed = |e: DataFusionError| refusal::of(sql, &e);
        let plan = match values.is_empty() {
            true => plan,
            false => plan.with_param_values(ParamValues::from(values)).map_err(failed)?,
        };
        let frame = context.execute_logical_plan(plan).await.map_err(failed)?;
        let task = Arc::new(frame.task_ctx());
        let physical = frame.create_physical_plan().await.map_err(failed)?;
        joins::check(&physical)?;
        let stream = execute_stream(physical, task).map_err(failed)?;
        let schema = stream.schema();
        let (rows, is_truncated) = self.collect(sql, stream, rows).await?;
        Ok(Answer { epoch, schema, rows, is_truncated, time: Duration::ZERO })
    }

    async fn describe(
        &self,
        sql: &str,
        catalogue: &dyn Catalogue,
    ) -> Result<Described, QueryError> {
        let about = catalogue.tables();
        let asked = self.read(sql, &about)?;
        // No row is looked at.
        let tables = asked.tables.iter().map(|_| Content::Rows(Vec::new())).collect();
        let snapshot = Snapshot { epoch: None, tables };
        let (context, plan) = self.planned(sql, &about, asked, snapshot).await?;
        let failed = |e: DataFusionError| refusal::of(sql, &e);
        let types = plan.get_parameter_types().map_err(failed)?;
        let at = |name: &String| name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
        let told = placeholders::told(sql);
        let last = types.keys().map(at).chain(told.keys().copied()).max();
        let mut values = vec![None; last.unwrap_or(0)];
        for (name, of) in types {
            if let Some(value) = at(&name).checked_sub(1).and_then(|at| values.get_mut(at)) {
                *value = of;
            }
        }
        for (at, told) in told {
            if let Some(value) = at.checked_sub(1).and_then(|at| values.get_mut(at)) {
                *value = Some(told.of(value.take()));
            }
        }
        let (state, plain) = (context.state(), plan.schema().inner().clone());
        // Types are made to fit each other on the way; where a value is missing that cannot be done yet.
        let fitted = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
        let schema = fitted.map_or(plain, |plan| plan.schema().inner().clone());
        Ok(Described { schema, values })
    }

    fn read(&self, sql: &str, about: &[About]) -> Result<gate::Asked, QueryError> {
        gate::read(sql, &self.state, about, || self.system())
    }

    /// What PostgreSQL's clients ask for. The tables of a pipeline are the same as long as it runs.
    fn system(&self) -> Result<&System, QueryError> {
        let made = self.system.get_or_init(|| {
            System::new(&self.state, &self.told.tables())
                .map_err(|e| format!("no tables for clients: {e}"))
        });
        made.as_ref().map_err(|e| QueryError::Failed(e.clone()))
    }

    /// The plan of a query that is let in, and where it is carried out.
    async fn planned(
        &self,
        sql: &str,
        about: &[About],
        asked: gate::Asked,
        snapshot: Snapshot,
    ) -> Result<(SessionContext, LogicalPlan), QueryError> {
        let failed = |e: DataFusionError| refusal::of(sql, &e);
        let system = asked.is_system.then(|| self.system()).transpose()?;
        let state = system.map_or(&self.state, System::state).clone();
        // Clones of a state share its catalogues; each query has its own, or it would read another one's tables.
        let own = SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()));
        let context = SessionContext::new_with_state(own.build());
        let tables = system.map(System::tables);
        tables::register(&context, about, &asked.tables, snapshot, tables).await.map_err(failed)?;
        let plan = context.state().statement_to_plan(asked.statement).await.map_err(failed)?;
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan).map_err(failed)?;
        Ok((context, plan))
    }

    /// The rows, as many as were asked for; whether there are more.
    async fn collect(
        &self,
        sql: &str,
        mut stream: SendableRecordBatchStream,
        most: usize,
    ) -> Result<(Vec<RecordBatch>, bool), QueryError> {
        let (mut rows, mut left, mut bytes) = (Vec::new(), most, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|e| refusal::of(sql, &e))?;
            if batch.num_rows() > left {
                rows.push(batch.slice(0, left));
                return Ok((rows, true));
            }
            bytes += batch.get_array_memory_size();
            if bytes > self.limits.answer_bytes {
                let most = self.limits.answer_bytes >> 20;
                return Err(QueryError::Limit(format!(
                    "the answer is larger than {most} MiB, which is the limit; ask for fewer rows or columns, or add a LIMIT"
                )));
            }
            left -= batch.num_rows();
            if batch.num_rows() > 0 {
                rows.push(batch);
            }
        }
        Ok((rows, false))
    }
}

/// The tables at one epoch.
async fn snapshot(catalogue: &dyn Catalogue, names: &[String]) -> Result<Snapshot, QueryError> {
    for _ in 0..LOOKS_MAX {
        let found = catalogue.snapshot(names).map_err(QueryError::Unavailable)?;
        if let Some(snapshot) = found {
            return Ok(snapshot);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let what = "the tables did not come to the end of one epoch: a sink is behind; try again";
    Err(QueryError::Unavailable(what.to_owned()))
}

#[cfg(test)]
pub(crate) mod tests;
