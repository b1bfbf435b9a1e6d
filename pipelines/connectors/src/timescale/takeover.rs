//! Takes a sink over from earlier runs: its row in `foreline_commit` is locked and written, its tables are created or
//! checked, all in one transaction.

use foreline_engine::{RunId, SinkError};
use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::inspect::{self, CutBy, Found};
use super::name::TableName;
use super::statements::{SHAPE, Statements};
use super::table::Table;
use super::{Extension, Target, ddl};

/// The number under which the sinks of a database create tables one after the other; it spells "foreline".
const CREATION_LOCK: i64 = i64::from_be_bytes(*b"foreline");

/// What holds while the sink is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) run: i64,
    pub(super) generation: i64,
    pub(super) committed: Option<u64>,
    pub(super) cut_by: CutBy,
    /// The columns of the table as they were checked.
    pub(super) shape: String,
}

/// A number as the database keeps it.
pub(super) fn signed(n: u64, what: &str) -> Result<i64, SinkError> {
    i64::try_from(n).map_err(|_| SinkError::Fatal(format!("{what} {n} is too great for a bigint")))
}

/// Creates or checks the tables, and takes the sink's row over from earlier runs.
pub(super) async fn open(
    db: &Connection,
    target: &Target,
    statements: &Statements,
    run: RunId,
    generation: u64,
) -> Result<Open, SinkError> {
    let (run, generation) = (signed(run.0, "run")?, signed(generation, "generation")?);
    let Taken { committed, cut_by, shape } =
        take_over(db, target, statements, run, generation).await?;
    Ok(Open { run, generation, committed, cut_by, shape })
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
    let own: [&(dyn ToSql + Sync); 3] = [&target.pipeline, &target.sink, &target.stream];
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
    db.once("create the staging table", &statements.staging).await?;
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
pub(super) struct Before {
    /// The epoch up to which the rows of this generation are there.
    pub(super) committed: Option<u64>,
    /// The generation of the rows that are there.
    generation: i64,
}

/// Locks the sink's row, unless a newer run has it.
pub(super) async fn fence(
    db: &Connection,
    statements: &Statements,
    own: &[&(dyn ToSql + Sync)],
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

/// The columns of a table and their types.
pub(super) async fn shape(db: &Connection, name: &TableName) -> Result<String, SinkError> {
    let rows = db.query("look at the table", SHAPE, &[&name.to_string()]).await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}
