//! What lies in the database already, and in what it differs from what a stream needs: all of it at once, each with the
//! SQL that would mend it.

use foreline_engine::SinkError;
use tokio_postgres::Row;

use super::connection::Connection;
use super::ddl;
use super::name::{TableName, quoted};
use super::statements::{COMMIT_COLUMNS, commit_table_label};
use super::table::{GENERATION, REVISION, Table};

const RELATION: &str = "\
SELECT c.oid, c.relkind::text, coalesce(pg_get_partkeydef(c.oid), '')
  FROM pg_class c WHERE c.oid = to_regclass($1)";
const COLUMNS: &str = "\
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
  FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum";
const KEYS: &str = "\
SELECT i.indisprimary, array_agg(a.attname::text)
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
 WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indimmediate AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL
 GROUP BY i.indexrelid, i.indisprimary";
const HYPERTABLE: &str = "\
SELECT 1 FROM timescaledb_information.hypertables WHERE hypertable_schema = $1 AND hypertable_name = $2";
const EXTENSION: &str = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'";

/// Who cuts a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutBy {
    Nobody,
    Timescale,
    Postgres,
}

/// A column of a table that is there.
#[derive(Debug, Clone)]
struct FoundColumn {
    name: String,
    sql_type: String,
    /// It must be given a value.
    required: bool,
}

/// A table that is there.
#[derive(Debug)]
pub(super) struct Found {
    kind: String,
    partition_key: String,
    columns: Vec<FoundColumn>,
    keys: Vec<Vec<String>>,
    has_primary_key: bool,
    is_hypertable: bool,
}

/// The version of TimescaleDB in the database, major and minor.
pub(super) async fn extension(db: &Connection) -> Result<Option<(u32, u32)>, SinkError> {
    let rows = db.query("look for TimescaleDB", EXTENSION, &[]).await?;
    Ok(rows.first().map(|row| {
        let text: String = row.get(0);
        let mut numbers = text.split('.').map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }))
}

/// Looks at a table; `None` when it is not there.
pub(super) async fn look(
    db: &Connection,
    name: &TableName,
    extension: bool,
) -> Result<Option<Found>, SinkError> {
    let what = format!("look at table {name}");
    let label = name.to_string();
    let relation = db.query(&what, RELATION, &[&label]).await?;
    let Some(relation) = relation.first() else { return Ok(None) };
    let columns = db.query(&what, COLUMNS, &[&label]).await?;
    let column =
        |row: &Row| FoundColumn { name: row.get(0), sql_type: row.get(1), required: row.get(2) };
    let keys = db.query(&what, KEYS, &[&label]).await?;
    let is_hypertable =
        extension && !db.query(&what, HYPERTABLE, &[&name.schema, &name.table]).await?.is_empty();
    Ok(Some(Found {
        kind: relation.get(1),
        partition_key: relation.get(2),
        columns: columns.iter().map(column).collect(),
        keys: keys.iter().map(|row| row.get(1)).collect(),
        has_primary_key: keys.iter().any(|row| row.get(0)),
        is_hypertable,
    }))
}

impl Found {
    /// Who cuts it.
    pub(super) fn cut_by(&self) -> CutBy {
        match self.kind.as_str() {
            _ if self.is_hypertable => CutBy::Timescale,
            "p" => CutBy::Postgres,
            _ => CutBy::Nobody,
        }
    }

    /// In what it differs from `table`, each with what would mend it.
    pub(super) fn differences(&self, table: &Table, extension: bool) -> Vec<String> {
        if !["r", "p"].contains(&self.kind.as_str()) {
            return vec!["it is not a table".to_owned()];
        }
        let own = [(GENERATION, "bigint"), (REVISION, "integer")];
        let wanted = table.columns.iter().map(|c| (c.name.as_str(), c.sql_type.name()));
        let mut wanted: Vec<(&str, &str)> = wanted.collect();
        for column in own {
            if !wanted.contains(&column) {
                wanted.push(column);
            }
        }
        let mut found = columns(&table.name, &self.columns, &wanted);
        self.key(table, &mut found);
        self.cut(table, extension, &mut found);
        found
    }

    fn key(&self, table: &Table, found: &mut Vec<String>) {
        let mut wanted: Vec<&str> = table.key().iter().map(|c| c.name.as_str()).collect();
        wanted.sort_unstable();
        let same = |key: &Vec<String>| {
            let mut key: Vec<&str> = key.iter().map(String::as_str).collect();
            key.sort_unstable();
            key == wanted
        };
        if !self.keys.iter().any(same) {
            let (name, key) = (&table.name, ddl::key_list(table));
            let mend = if self.has_primary_key {
                format!("CREATE UNIQUE INDEX ON {name} ({key})")
            } else {
                format!("ALTER TABLE {name} ADD PRIMARY KEY ({key})")
            };
            found.push(format!("there is no unique index over ({key}): {mend}"));
        }
    }

    fn cut(&self, table: &Table, extension: bool, found: &mut Vec<String>) {
        if table.cut.is_none() {
            return;
        }
        let time = &table.time.1;
        match self.cut_by() {
            CutBy::Timescale => {}
            CutBy::Nobody if extension => {
                let mend = ddl::create_hypertable(table, true).unwrap_or_default();
                found.push(format!("it is not a hypertable: {mend}"));
            }
            CutBy::Nobody => found.push(format!(
                "it is not partitioned by '{time}': write partition: none, or have the sink create it anew"
            )),
            CutBy::Postgres => {
                let wanted = [format!("RANGE ({time})"), format!("RANGE ({})", quoted(time))];
                if !wanted.contains(&self.partition_key) {
                    let key = &self.partition_key;
                    found.push(format!("it is partitioned by {key}, not RANGE ({time}): have the sink create it anew"));
                }
            }
        }
    }
}

/// What is wrong with the commit table.
pub(super) fn commit_table_differences(name: &TableName, found: &Found) -> Vec<String> {
    columns(name, &found.columns, COMMIT_COLUMNS)
}

fn columns(name: &TableName, there: &[FoundColumn], wanted: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (column, sql_type) in wanted {
        let quoted = quoted(column);
        match there.iter().find(|c| c.name == *column) {
            None => found.push(format!(
                "there is no column '{column}': ALTER TABLE {name} ADD COLUMN {quoted} {sql_type}"
            )),
            Some(c) if c.sql_type != *sql_type => found.push(format!(
                "column '{column}' is {}, not {sql_type}: ALTER TABLE {name} ALTER COLUMN {quoted} TYPE {sql_type} USING {quoted}::{sql_type}",
                c.sql_type
            )),
            Some(_) => {}
        }
    }
    let unknown = |c: &&FoundColumn| !wanted.iter().any(|(name, _)| *name == c.name);
    for c in there.iter().filter(unknown).filter(|c| c.required) {
        let quoted = quoted(&c.name);
        found.push(format!(
            "column '{}' wants a value and the stream has none: ALTER TABLE {name} ALTER COLUMN {quoted} DROP NOT NULL",
            c.name
        ));
    }
    found
}

/// One message of all differences.
pub(super) fn refuse(name: &TableName, differences: &[String]) -> SinkError {
    let list: String = differences.iter().map(|d| format!("\n  {d};")).collect();
    let whose = if name.table == commit_table_label() { "the sink" } else { "the stream" };
    SinkError::Fatal(format!("table {name} is not what {whose} needs:{list}"))
}
