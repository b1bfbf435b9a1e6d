//! One commit: a transaction with the rows, the deletions and the epoch.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use foreline_engine::{SinkError, crash_point};
use futures_util::SinkExt as _;
use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::encode::{Buffer, Contents, LeftOut};
use super::inspect::CutBy;
use super::name::TableName;
use super::partition::Part;
use super::statements::{MISSING, Statements};
use super::takeover::{Open, fence, shape, signed};
use super::{Target, ddl, error};

/// Most partitions of one commit: each is a lock and an open file of the database.
const PARTS_MAX: usize = 1_000;

/// What a commit did.
pub(super) enum Outcome {
    Done(LeftOut),
    /// An earlier attempt has done it.
    Had(u64),
    Unknown,
}

/// One transaction.
pub(super) struct Commit<'a> {
    pub(super) db: &'a Connection,
    pub(super) target: &'a Target,
    pub(super) statements: &'a Statements,
    pub(super) open: &'a Open,
    /// Set when COMMIT is on its way: from then on the outcome is known only by asking.
    pub(super) asked: &'a Cell<bool>,
}

impl Commit<'_> {
    /// Carries it out; on an error the connection is of no more use.
    pub(super) async fn carry_out(
        &self,
        upto: u64,
        buffer: &mut Buffer,
        contents: &Contents,
    ) -> Result<Outcome, SinkError> {
        let Commit { db, target, statements, open, .. } = self;
        db.once("create the staging table", &statements.staging).await?;
        db.run("begin", self.begin()).await?;
        let own: [&(dyn ToSql + Sync); 3] = [&target.pipeline, &target.sink, &target.stream];
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
        let Commit { db, target, statements, open, .. } = self;
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
        let db = self.db;
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
        let (db, table) = (self.db, &self.target.table);
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
        let rows = self.db.query("ask for the time", NOW, &[]).await?;
        let now: i64 = rows.first().map(|row| row.get(0)).unwrap_or_default();
        Ok(now.saturating_sub(retention))
    }

    /// Drops the partitions that are as a whole beyond the retention. Only those that carry the names the sink gives.
    async fn drop_old_partitions(&self) -> Result<(), SinkError> {
        const PARTITIONS: &str = "\
            SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = to_regclass($1) ORDER BY 1";
        let (db, table) = (self.db, &self.target.table);
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
        let db = self.db;
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
