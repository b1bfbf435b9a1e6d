//! Brings rows and epochs into the database, one transaction a commit.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError, crash_point};
use futures_util::SinkExt as _;
use tokio::runtime::{Builder, Runtime};

use super::connection::Connection;
use super::encode::{Buffer, Contents, LeftOut};
use super::inspect::{self, CutBy, Found};
use super::partition::Part;
use super::statements::{MISSING, SHAPE, Statements};
use super::table::{Table, TableName};
use super::{Extension, Target, ddl, error};

/// Most partitions of one commit: each is a lock and an open file of the database.
const PARTS_MAX: usize = 1_000;
/// The number under which the sinks of a database create tables one after the other; it spells "foreline".
const CREATION_LOCK: i64 = i64::from_be_bytes(*b"foreline");

/// The table of one stream.
pub(super) struct TableSink {
    target: Target,
    statements: Statements,
    /// One thread serves the connection, and only while the sink is at work.
    runtime: Runtime,
    open: Option<Open>,
    buffer: Buffer,
    left_out: LeftOut,
    /// A commit whose outcome is not known, with what it left out.
    uncertain: Option<(u64, LeftOut)>,
    /// A refresh that failed is said once.
    refresh_failed: bool,
}

/// What holds while the sink is open.
#[derive(Debug)]
struct Open {
    db: Connection,
    run: i64,
    generation: i64,
    committed: Option<u64>,
    cut_by: CutBy,
    /// The columns of the table as they were checked.
    shape: String,
}

/// What a commit did.
enum Outcome {
    Done(LeftOut),
    /// An earlier attempt has done it.
    Had(u64),
    Unknown,
}

impl TableSink {
    pub(super) fn new(target: Target) -> Result<Self, SinkError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| SinkError::Fatal(format!("cannot start a runtime: {e}")))?;
        Ok(TableSink {
            statements: Statements::of(&target.table),
            target,
            runtime,
            open: None,
            buffer: Buffer::default(),
            left_out: LeftOut::default(),
            uncertain: None,
            refresh_failed: false,
        })
    }

    fn hang_up(&mut self) {
        if let Some(open) = self.open.take() {
            self.runtime.block_on(open.db.hang_up());
        }
    }

    /// What took too long.
    fn too_long(&self) -> SinkError {
        let (timeout, address) = (self.target.timeout, &self.target.address);
        SinkError::Retry(format!("{address} does not answer after {timeout:?}"))
    }

    /// Brings continuous aggregates up to date where rows were corrected. The rows are there whether it succeeds or not.
    fn refresh(&mut self, contents: &Contents) {
        let (Some((first, last)), Some(open)) = (contents.corrected, &self.open) else { return };
        if open.cut_by != CutBy::Timescale {
            return;
        }
        for aggregate in &self.target.table.aggregates {
            let call = aggregate.refresh(first, last);
            let refreshed = async {
                let refreshed = open.db.run("refresh an aggregate", &call);
                tokio::time::timeout(self.target.timeout, refreshed).await
            };
            let failure = match self.runtime.block_on(refreshed) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            if !std::mem::replace(&mut self.refresh_failed, true) {
                let view = &aggregate.view;
                tracing::warn!("aggregate {view} is behind until its policy runs: {failure}");
            }
        }
    }
}

impl Sink for TableSink {
    fn open(&mut self, run: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        self.hang_up();
        self.buffer = Buffer::default();
        let opening = open(&self.target, &self.statements, run, generation);
        let limited = async { tokio::time::timeout(self.target.timeout, opening).await };
        let opened = self.runtime.block_on(limited);
        let opened = opened.unwrap_or_else(|_| Err(self.too_long()))?;
        let committed = opened.committed;
        if let Some((upto, left_out)) = self.uncertain.take()
            && committed.is_some_and(|has| has >= upto)
        {
            self.left_out.add(left_out);
        }
        self.open = Some(opened);
        Ok(committed)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        for batch in rows.iter().filter(|b| !b.is_empty()) {
            let pushed = self.buffer.push(&self.target.table, open.generation, epoch, batch);
            pushed.map_err(|why| {
                SinkError::Fatal(format!(
                    "rows cannot be encoded for {}: {why}",
                    self.target.table.name
                ))
            })?;
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        if let Some(has) = open.committed.filter(|&has| has >= upto) {
            return Ok(Committed::Yes(has));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let contents = buffer.contents(self.target.table.cut);
        let before = buffer.left_out;
        let asked = Cell::new(false);
        let commit =
            Commit { target: &self.target, statements: &self.statements, open, asked: &asked };
        let committing = commit.carry_out(upto, &mut buffer, &contents);
        let limited = async { tokio::time::timeout(self.target.timeout, committing).await };
        let outcome = match self.runtime.block_on(limited) {
            Ok(outcome) => outcome,
            Err(_) if asked.get() => Ok(Outcome::Unknown),
            Err(_) => Err(self.too_long()),
        };
        match outcome {
            Ok(Outcome::Done(left_out)) => {
                self.left_out.add(before);
                self.left_out.add(left_out);
                if let Some(open) = &mut self.open {
                    open.committed = Some(upto);
                }
                self.refresh(&contents);
                Ok(Committed::Yes(upto))
            }
            Ok(Outcome::Had(has)) => Ok(Committed::Yes(has)),
            Ok(Outcome::Unknown) => {
                self.hang_up();
                self.uncertain = Some((upto, before));
                Ok(Committed::Unknown)
            }
            Err(error) => {
                self.hang_up();
                Err(error)
            }
        }
    }

    fn full(&self) -> bool {
        self.buffer.is_full(self.target.commit_rows)
    }

    fn prompt(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn left_out(&self) -> Vec<(&'static str, u64)> {
        self.left_out.by_reason()
    }
}

fn not_open() -> SinkError {
    SinkError::Retry("the sink is not open".to_owned())
}

/// A number as the database keeps it.
fn signed(n: u64, what: &str) -> Result<i64, SinkError> {
    i64::try_from(n).map_err(|_| SinkError::Fatal(format!("{what} {n} is too great for a bigint")))
}

/// Connects, creates or checks the tables, and takes the sink's row over from earlier runs.
async fn open(
    target: &Target,
    statements: &Statements,
    run: RunId,
    generation: u64,
) -> Result<Open, SinkError> {
    let (run, generation) = (signed(run.0, "run")?, signed(generation, "generation")?);
    let db = Connection::open(&target.address, target.timeout).await?;
    match take_over(&db, target, statements, run, generation).await {
        Ok(taken) => {
            let Taken { committed, cut_by, shape } = taken;
            Ok(Open { db, run, generation, committed, cut_by, shape })
        }
        Err(error) => {
            db.hang_up().await;
            Err(error)
        }
    }
}

/// What was found and taken over.
struct Taken {
    committed: Option<u64>,
    cut_by: CutBy,
    shape: String,
}

async fn take_over(
    db: &Connection,
    target: &Target,
    statements: &Statements,
    run: i64,
    generation: i64,
) -> Result<Taken, SinkError> {
    check_server(db).await?;
    let extension = match target.extension {
        Extension::WhereThere => inspect::extension(db).await?,
        Extension::Never => None,
    };
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({CREATION_LOCK})");
    db.run("begin", &begin).await?;
    commit_table(db, &target.table).await?;
    let own: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&target.pipeline, &target.sink, &target.stream];
    let what = "take the sink over";
    let [pipeline, sink, stream] = own;
    db.execute(what, &statements.introduce, &[pipeline, sink, stream, &run, &generation]).await?;
    let before = fence(db, statements, &own, run, generation).await?;
    let committed = before.committed;
    let cut_by = tables(db, &target.table, extension, committed).await?;
    if let (Some(forget), true) = (&statements.forget, before.generation != generation) {
        // Numbered rows have no key by which those that are computed anew could take their place.
        db.execute("remove rows of an earlier run", forget, &[&before.generation]).await?;
    }
    let epoch = committed.map(|has| signed(has, "epoch")).transpose()?;
    let taken = [pipeline, sink, stream, &run, &generation, &epoch];
    db.execute(what, &statements.take_over, &taken).await?;
    db.run("commit", "COMMIT").await?;
    db.run("create the staging table", &statements.staging).await?;
    let shape = shape(db, &target.table.name).await?;
    Ok(Taken { committed, cut_by, shape })
}

/// What no row could be written without.
async fn check_server(db: &Connection) -> Result<(), SinkError> {
    let rows = db.query("ask for the encoding", "SHOW server_encoding", &[]).await?;
    let encoding: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(SinkError::Fatal(format!(
        "the database keeps text as {encoding}, which not every text fits into: create it with ENCODING 'UTF8'"
    )))
}

/// What the sink's row says, which stays locked.
struct Before {
    /// The epoch up to which the rows of this generation are there.
    committed: Option<u64>,
    /// The generation of the rows that are there.
    generation: i64,
}

/// Locks the sink's row, unless a newer run has it.
async fn fence(
    db: &Connection,
    statements: &Statements,
    own: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    run: i64,
    generation: i64,
) -> Result<Before, SinkError> {
    let rows = db.query("lock the sink's row", &statements.fence, own).await?;
    let row = rows.first().ok_or_else(|| {
        SinkError::Fatal(
            "the sink's row in foreline_commit is gone; start with `--fresh`".to_owned(),
        )
    })?;
    let (epoch, newer, found): (Option<i64>, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if newer > run || found > generation {
        return Err(SinkError::Fenced(RunId(u64::try_from(newer).unwrap_or_default())));
    }
    // A computation that began anew has nothing there yet.
    let epoch = epoch.filter(|_| found == generation);
    Ok(Before { committed: epoch.and_then(|e| u64::try_from(e).ok()), generation: found })
}

async fn commit_table(db: &Connection, table: &Table) -> Result<(), SinkError> {
    let name = ddl::commit_table(table);
    match inspect::look(db, &name, false).await? {
        None => db.run("create foreline_commit", &ddl::create_commit_table(table)).await,
        Some(found) => match inspect::commit_table_differences(&name, &found) {
            none if none.is_empty() => Ok(()),
            differences => Err(inspect::refuse(&name, &differences)),
        },
    }
}

/// Creates the table, or checks the one that is there; who cuts it.
async fn tables(
    db: &Connection,
    table: &Table,
    extension: Option<(u32, u32)>,
    committed: Option<u64>,
) -> Result<CutBy, SinkError> {
    let name = &table.name;
    let Some(found) = inspect::look(db, name, extension.is_some()).await? else {
        if let Some(has) = committed {
            return Err(SinkError::Fatal(format!(
                "table {name} is gone, and with it the rows up to epoch {has}: restore it, or start with `--fresh`"
            )));
        }
        return create(db, table, extension).await;
    };
    let differences = found.differences(table, extension.is_some());
    if !differences.is_empty() {
        return Err(inspect::refuse(name, &differences));
    }
    belongings(db, table, &found, extension).await?;
    Ok(found.cut_by())
}

async fn create(
    db: &Connection,
    table: &Table,
    extension: Option<(u32, u32)>,
) -> Result<CutBy, SinkError> {
    let what = format!("create table {}", table.name);
    for statement in ddl::create_table(table, extension.is_some()) {
        db.run(&what, &statement).await?;
    }
    let cut_by = match (table.cut, extension) {
        (None, _) => CutBy::Nobody,
        (Some(_), None) => CutBy::Postgres,
        (Some(_), Some(version)) => {
            if let Some(statement) = ddl::create_hypertable(table, false) {
                db.run("make a hypertable", &statement).await?;
            }
            policies(db, table, version).await?;
            CutBy::Timescale
        }
    };
    Ok(cut_by)
}

/// What belongs to a hypertable that is there already.
async fn belongings(
    db: &Connection,
    table: &Table,
    found: &Found,
    extension: Option<(u32, u32)>,
) -> Result<(), SinkError> {
    match (found.cut_by(), extension) {
        (CutBy::Timescale, Some(version)) => policies(db, table, version).await,
        _ => Ok(()),
    }
}

async fn policies(db: &Connection, table: &Table, version: (u32, u32)) -> Result<(), SinkError> {
    for statement in ddl::policies(table, version) {
        db.run("set the policies of the hypertable", &statement).await?;
    }
    for aggregate in &table.aggregates {
        if inspect::look(db, &aggregate.view, false).await?.is_some() {
            continue;
        }
        for statement in aggregate.create(&table.name, &table.time.1) {
            db.run(&format!("create aggregate {}", aggregate.view), &statement).await?;
        }
    }
    Ok(())
}

async fn shape(db: &Connection, name: &TableName) -> Result<String, SinkError> {
    let rows = db.query("look at the table", SHAPE, &[&name.to_string()]).await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

/// One transaction.
struct Commit<'a> {
    target: &'a Target,
    statements: &'a Statements,
    open: &'a Open,
    /// Set when COMMIT is on its way: from then on the outcome is known only by asking.
    asked: &'a Cell<bool>,
}

impl Commit<'_> {
    async fn carry_out(
        &self,
        upto: u64,
        buffer: &mut Buffer,
        contents: &Contents,
    ) -> Result<Outcome, SinkError> {
        let Commit { target, statements, open, .. } = self;
        let db = &open.db;
        db.run("begin", self.begin()).await?;
        let own: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&target.pipeline, &target.sink, &target.stream];
        let has = fence(db, statements, &own, open.run, open.generation).await?.committed;
        if let Some(has) = has.filter(|&has| has >= upto) {
            db.run("end", "ROLLBACK").await?;
            return Ok(Outcome::Had(has));
        }
        let left_out = if contents.live + contents.deleted > 0 {
            self.rows(buffer, contents).await?
        } else {
            LeftOut::default()
        };
        let epoch = signed(upto, "epoch")?;
        let [pipeline, sink, stream] = own;
        let parameters = [pipeline, sink, stream, &epoch];
        db.execute("set the epoch", &statements.set_epoch, &parameters).await?;
        self.commit(left_out).await
    }

    fn begin(&self) -> &'static str {
        match self.open.cut_by {
            // A correction may touch more of a compressed chunk than one statement is usually let.
            CutBy::Timescale => {
                "BEGIN; SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
            }
            CutBy::Nobody | CutBy::Postgres => "BEGIN",
        }
    }

    /// Brings the rows into the table.
    async fn rows(&self, buffer: &mut Buffer, contents: &Contents) -> Result<LeftOut, SinkError> {
        let Commit { target, statements, open, .. } = self;
        let db = &open.db;
        self.copy(buffer).await?;
        crash_point("copy done");
        let mut left_out = LeftOut::default();
        if let Some(retire) = &statements.retire {
            left_out.beyond_retention =
                db.execute("leave out what is too old", retire, &[]).await?;
        }
        self.partitions(&contents.parts).await?;
        let what = format!("write into table {}", target.table.name);
        let written = if target.table.is_numbered() {
            db.execute(&what, &statements.upsert, &[]).await?
        } else {
            db.execute(&what, &statements.upsert, &[&open.generation]).await?
        };
        if contents.deleted > 0 {
            let what = format!("delete from table {}", target.table.name);
            db.execute(&what, &statements.delete, &[&open.generation]).await?;
        }
        // The lock that writing took holds until the end, so what is looked at here is what was written to.
        if shape(db, &target.table.name).await? != open.shape {
            let name = &target.table.name;
            return Err(SinkError::Retry(format!("table {name} has other columns than it had")));
        }
        let old = left_out.beyond_retention;
        left_out.same_key = contents.live.saturating_sub(old).saturating_sub(written);
        Ok(left_out)
    }

    async fn copy(&self, buffer: &mut Buffer) -> Result<(), SinkError> {
        let db = &self.open.db;
        let failed = |e: tokio_postgres::Error| db.failed("copy rows", &e);
        let sink = db.client().copy_in(&self.statements.copy).await.map_err(failed)?;
        let mut sink = pin!(sink);
        for piece in buffer.take_copy() {
            sink.feed(piece).await.map_err(failed)?;
        }
        sink.finish().await.map_err(failed)?;
        Ok(())
    }

    /// Creates the partitions that are not there; those that the retention would drop at once are not created.
    async fn partitions(&self, parts: &[Part]) -> Result<(), SinkError> {
        let (db, table) = (&self.open.db, &self.target.table);
        if self.open.cut_by != CutBy::Postgres {
            return Ok(());
        }
        let parts = self.within_retention(parts).await?;
        if parts.len() > PARTS_MAX {
            return Err(SinkError::Fatal(format!(
                "the rows of one commit lie in {} partitions of {}, and {PARTS_MAX} is the limit: choose a longer `partition`",
                parts.len(),
                table.name
            )));
        }
        let name = |part: &Part| ddl::partition_name(table, *part).map(|n| n.to_string());
        let names: Vec<String> = parts.iter().filter_map(name).collect();
        let missing = db.query("look for partitions", MISSING, &[&names]).await?;
        let missing: Vec<String> = missing.iter().map(|row| row.get(0)).collect();
        for part in parts.iter().filter(|p| name(p).is_some_and(|n| missing.contains(&n))) {
            if let Some(statement) = ddl::create_partition(table, *part) {
                db.run("create a partition", &statement).await?;
            }
        }
        if !missing.is_empty() {
            self.drop_old_partitions().await?;
        }
        Ok(())
    }

    async fn within_retention(&self, parts: &[Part]) -> Result<Vec<Part>, SinkError> {
        let Some(retention) = self.target.table.retention_micros else { return Ok(parts.to_vec()) };
        let begin = self.begin_of_retention(retention).await?;
        Ok(parts.iter().filter(|p| p.to > begin).copied().collect())
    }

    /// The time of the database less the retention, in microseconds.
    async fn begin_of_retention(&self, retention: i64) -> Result<i64, SinkError> {
        const NOW: &str = "SELECT floor(extract(epoch FROM now()) * 1000000)::bigint";
        let rows = self.open.db.query("ask for the time", NOW, &[]).await?;
        let now: i64 = rows.first().map(|row| row.get(0)).unwrap_or_default();
        Ok(now.saturating_sub(retention))
    }

    /// Drops the partitions that are as a whole beyond the retention. Only those that carry the names the sink gives.
    async fn drop_old_partitions(&self) -> Result<(), SinkError> {
        const PARTITIONS: &str = "\
            SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = to_regclass($1) ORDER BY 1";
        let (db, table) = (&self.open.db, &self.target.table);
        let (Some(retention), Some(cut)) = (table.retention_micros, table.cut) else {
            return Ok(());
        };
        let begin = self.begin_of_retention(retention).await?;
        // The one that holds the beginning of the retention and those after it stay; names sort as their times do.
        let Some(first) = cut.part(begin).and_then(|p| ddl::partition_name(table, p)) else {
            return Ok(());
        };
        let prefix = format!("{}_p", table.name.table);
        let names =
            db.query("look for old partitions", PARTITIONS, &[&table.name.to_string()]).await?;
        let names = names.iter().map(|row| row.get::<_, String>(0));
        let same_form = |n: &String| n.starts_with(&prefix) && n.len() == first.table.len();
        for old in names.filter(|n| same_form(n) && *n < first.table) {
            let name = TableName { schema: table.name.schema.clone(), table: old };
            db.run("drop an old partition", &format!("DROP TABLE {name}")).await?;
        }
        Ok(())
    }

    /// Sends COMMIT. Where the answer does not come, or is not about what was done, the outcome is not known.
    async fn commit(&self, left_out: LeftOut) -> Result<Outcome, SinkError> {
        let db = &self.open.db;
        let mut commit = pin!(db.client().batch_execute("COMMIT"));
        self.asked.set(true);
        // Hands it to the connection, which sends it; the place at which a test has us die is in between.
        let begun = std::future::poll_fn(|ctx| Poll::Ready(commit.as_mut().poll(ctx))).await;
        let answer = match begun {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                tokio::task::yield_now().await;
                crash_point("commit sent");
                commit.await
            }
        };
        crash_point("commit answered");
        match answer {
            Ok(()) => Ok(Outcome::Done(left_out)),
            Err(e) if error::is_undone(&e) => Err(db.failed("commit", &e)),
            Err(_) => Ok(Outcome::Unknown),
        }
    }
}
