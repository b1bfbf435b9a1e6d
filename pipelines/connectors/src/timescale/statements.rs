//! The SQL of a commit, made once for a table.

use super::ddl::{COMMIT_TABLE, commit_table, key_list};
use super::name::quoted;
use super::partition::interval;
use super::table::{DELETED, GENERATION, REVISION, SqlType, Table};

/// The columns of a table and their types, by its name as text.
pub(super) const SHAPE: &str = "\
SELECT coalesce(string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum), '')
  FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

/// Of names of tables, those that are not there.
pub(super) const MISSING: &str = "SELECT n FROM unnest($1::text[]) WITH ORDINALITY AS t(n, i) WHERE to_regclass(n) IS NULL ORDER BY i";

/// The statements of one table.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// Makes sure that the sink has a row. Parameters: pipeline, sink, stream, run, generation.
    pub(super) introduce: String,
    /// Locks the row and reads epoch, run and generation. Parameters: pipeline, sink, stream.
    pub(super) fence: String,
    /// Takes the row over. Parameters: pipeline, sink, stream, run, generation, epoch.
    pub(super) take_over: String,
    /// Sets the epoch. Parameters: pipeline, sink, stream, epoch.
    pub(super) set_epoch: String,
    /// Removes the numbered rows of a generation. Parameter: generation.
    pub(super) forget: Option<String>,
    /// Creates the staging table of this connection.
    pub(super) staging: String,
    pub(super) copy: String,
    /// Takes rows out of the staging table that are beyond the retention.
    pub(super) retire: Option<String>,
    /// Parameter: generation, except where rows are numbered.
    pub(super) upsert: String,
    /// Parameter: generation.
    pub(super) delete: String,
}

impl Statements {
    pub(super) fn of(table: &Table) -> Self {
        let commit = commit_table(table);
        let (columns, staging) = (staging_columns(table), staging_name(table));
        let staged = format!("pg_temp.{staging}");
        let own = "\"pipeline\" = $1 AND \"sink\" = $2 AND \"stream\" = $3";
        Statements {
            introduce: format!(
                "INSERT INTO {commit} (\"pipeline\", \"sink\", \"stream\", \"run_id\", \"generation\") VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
            ),
            fence: format!(
                "SELECT \"epoch\", \"run_id\", \"generation\" FROM {commit} WHERE {own} FOR UPDATE"
            ),
            take_over: format!(
                "UPDATE {commit} SET \"run_id\" = $4, \"generation\" = $5, \"epoch\" = $6 WHERE {own}"
            ),
            set_epoch: format!(
                "UPDATE {commit} SET \"epoch\" = $4, \"committed_at\" = now() WHERE {own}"
            ),
            forget: table
                .is_numbered()
                .then(|| format!("DELETE FROM {} WHERE {} = $1", table.name, quoted(GENERATION))),
            staging: format!("CREATE TEMPORARY TABLE {staging} ({columns}) ON COMMIT DELETE ROWS"),
            copy: format!("COPY {staged} FROM STDIN (FORMAT binary)"),
            retire: retire(table, &staged),
            upsert: upsert(table, &staged),
            delete: delete(table, &staged),
        }
    }
}

fn names(table: &Table) -> Vec<String> {
    table.columns.iter().map(|c| quoted(&c.name)).collect()
}

/// The temporary table that rows are copied into; it is empty at the end of each transaction. Tables share a connection, so
/// each has one of its own, and one that the pipeline file changed has another.
fn staging_name(table: &Table) -> String {
    let told_apart = format!("{} {}", table.name, staging_columns(table));
    quoted(&format!("foreline_staging_{:016x}", xxhash_rust::xxh3::xxh3_64(told_apart.as_bytes())))
}

fn staging_columns(table: &Table) -> String {
    let column = |name: &str, sql_type: SqlType| format!("{} {}", quoted(name), sql_type.name());
    let mut columns: Vec<String> =
        table.columns.iter().map(|c| column(&c.name, c.sql_type)).collect();
    columns.push(column(REVISION, SqlType::Integer));
    columns.push(column(DELETED, SqlType::Boolean));
    columns.join(", ")
}

fn retire(table: &Table, staged: &str) -> Option<String> {
    let age = interval(table.retention_micros?);
    Some(format!("DELETE FROM {staged} WHERE {} < now() - {age}", quoted(&table.time.1)))
}

fn upsert(table: &Table, staged: &str) -> String {
    let columns = names(table).join(", ");
    let (generation, revision) = (quoted(GENERATION), quoted(REVISION));
    let (target, key) = (&table.name, key_list(table));
    if table.is_numbered() {
        return format!(
            "INSERT INTO {target} ({columns}, {revision}) SELECT {columns}, {revision} FROM {staged} ON CONFLICT ({key}) DO NOTHING"
        );
    }
    let mut set: Vec<String> = table.columns[table.n_key..]
        .iter()
        .map(|c| format!("{0} = excluded.{0}", quoted(&c.name)))
        .collect();
    set.extend([&generation, &revision].map(|c| format!("{c} = excluded.{c}")));
    format!(
        "INSERT INTO {target} AS t ({columns}, {generation}, {revision}) \
         SELECT {columns}, $1, {revision} FROM {staged} WHERE NOT {deleted} \
         ON CONFLICT ({key}) DO UPDATE SET {set} \
         WHERE (t.{generation}, t.{revision}) < (excluded.{generation}, excluded.{revision})",
        deleted = quoted(DELETED),
        set = set.join(", ")
    )
}

fn delete(table: &Table, staged: &str) -> String {
    let key = |c: &super::table::TableColumn| format!("t.{0} = s.{0}", quoted(&c.name));
    let same: Vec<String> = table.key().iter().map(key).collect();
    let (generation, revision) = (quoted(GENERATION), quoted(REVISION));
    format!(
        "DELETE FROM {} AS t USING {staged} AS s WHERE s.{} AND {} AND (t.{generation}, t.{revision}) < ($1, s.{revision})",
        table.name,
        quoted(DELETED),
        same.join(" AND ")
    )
}

/// The columns of the commit table that the sink works with.
pub(super) const COMMIT_COLUMNS: &[(&str, &str)] = &[
    ("pipeline", "text"),
    ("sink", "text"),
    ("stream", "text"),
    ("epoch", "bigint"),
    ("run_id", "bigint"),
    ("generation", "bigint"),
    ("committed_at", "timestamp with time zone"),
];

/// What the commit table is called in messages.
pub(super) fn commit_table_label() -> &'static str {
    COMMIT_TABLE
}
