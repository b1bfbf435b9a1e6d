//! The SQL that creates a table and what belongs to it, for the sink itself and for those who create it by hand.

use super::name::{TableName, literal, quoted};
use super::partition::{Part, interval};
use super::table::{GENERATION, REVISION, Table};

/// The table that holds, for each sink, up to which epoch it has the rows.
pub(super) const COMMIT_TABLE: &str = "foreline_commit";
/// The version of TimescaleDB from which compression is called columnstore.
const COLUMNSTORE_SINCE: (u32, u32) = (2, 18);

/// The commit table beside `table`.
pub(super) fn commit_table(table: &Table) -> TableName {
    TableName { schema: table.name.schema.clone(), table: COMMIT_TABLE.to_owned() }
}

/// Creates the commit table.
pub(super) fn create_commit_table(table: &Table) -> String {
    format!(
        "CREATE TABLE {} (
    \"pipeline\" text NOT NULL,
    \"sink\" text NOT NULL,
    \"stream\" text NOT NULL,
    \"epoch\" bigint,
    \"run_id\" bigint NOT NULL,
    \"generation\" bigint NOT NULL,
    \"committed_at\" timestamp with time zone,
    PRIMARY KEY (\"pipeline\", \"sink\", \"stream\")
)",
        commit_table(table)
    )
}

/// Creates the table; `as_hypertable` says whether the extension cuts it, and not PostgreSQL.
pub(super) fn create_table(table: &Table, as_hypertable: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for column in table.in_stream_order() {
        let required = if table.key().contains(column) { " NOT NULL" } else { "" };
        lines.push(format!("    {} {}{required}", quoted(&column.name), column.sql_type.name()));
    }
    if !table.is_numbered() {
        lines.push(format!("    {} bigint NOT NULL", quoted(GENERATION)));
    }
    lines.push(format!("    {} integer NOT NULL", quoted(REVISION)));
    lines.push(format!("    PRIMARY KEY ({})", key_list(table)));
    let cut = match (table.cut, as_hypertable) {
        (Some(_), false) => format!(" PARTITION BY RANGE ({})", quoted(&table.time.1)),
        _ => String::new(),
    };
    let mut statements =
        vec![format!("CREATE TABLE {} (\n{}\n){cut}", table.name, lines.join(",\n"))];
    for column in &table.columns {
        if let Some(unit) = &column.unit {
            let (name, column, unit) = (&table.name, quoted(&column.name), literal(unit));
            statements.push(format!("COMMENT ON COLUMN {name}.{column} IS {unit}"));
        }
    }
    statements
}

/// Makes the table a hypertable. With `rows` there already it takes as long as they are many.
pub(super) fn create_hypertable(table: &Table, rows: bool) -> Option<String> {
    let cut = table.cut?;
    let migrate = if rows { ", migrate_data => true" } else { "" };
    let (name, time) = (literal(&table.name.to_string()), literal(&table.time.1));
    let interval = cut.interval();
    Some(format!(
        "SELECT create_hypertable({name}, by_range({time}, {interval}), if_not_exists => true{migrate})"
    ))
}

/// What only a hypertable has: compression, retention, aggregates. Done again they change nothing, but for the
/// aggregates, which are only created where they are not there.
pub(super) fn policies(table: &Table, version: (u32, u32)) -> Vec<String> {
    let mut statements = Vec::new();
    let name = literal(&table.name.to_string());
    if let Some(after) = table.compress_after_micros {
        let segments = table.key().iter().filter(|c| c.name != table.time.1);
        let segments: Vec<String> = segments.map(|c| quoted(&c.name)).collect();
        let (segments, order) = (literal(&segments.join(", ")), literal(&quoted(&table.time.1)));
        let (on, by, order_by) = if version >= COLUMNSTORE_SINCE {
            ("enable_columnstore", "segmentby", "orderby")
        } else {
            ("compress", "compress_segmentby", "compress_orderby")
        };
        statements.push(format!(
            "ALTER TABLE {} SET (timescaledb.{on}, timescaledb.{by} = {segments}, timescaledb.{order_by} = {order})",
            table.name
        ));
        let after = interval(after);
        statements
            .push(format!("SELECT add_compression_policy({name}, {after}, if_not_exists => true)"));
    }
    if let Some(retention) = table.retention_micros {
        let after = interval(retention);
        statements
            .push(format!("SELECT add_retention_policy({name}, {after}, if_not_exists => true)"));
    }
    statements
}

/// Creates a partition of a table that PostgreSQL cuts.
pub(super) fn create_partition(table: &Table, part: Part) -> Option<String> {
    let cut = table.cut?;
    let (from, to) = (cut.literal(part.from), cut.literal(part.to));
    let name = partition_name(table, part)?;
    Some(format!(
        "CREATE TABLE {name} PARTITION OF {} FOR VALUES FROM ({from}) TO ({to})",
        table.name
    ))
}

/// The table of a partition.
pub(super) fn partition_name(table: &Table, part: Part) -> Option<TableName> {
    let suffix = table.cut?.suffix(part);
    let TableName { schema, table } = &table.name;
    Some(TableName { schema: schema.clone(), table: format!("{table}_{suffix}") })
}

/// The columns of the key, with commas between them.
pub(super) fn key_list(table: &Table) -> String {
    table.key().iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", ")
}

/// Everything, for somebody who runs it by hand.
pub(super) fn script(table: &Table, with_extension: bool) -> String {
    // The newest names; `run` looks at the version.
    const NEWEST: (u32, u32) = (u32::MAX, 0);
    let mut statements =
        vec![create_commit_table(table).replacen("TABLE", "TABLE IF NOT EXISTS", 1)];
    statements.extend(create_table(table, with_extension));
    if with_extension {
        statements.extend(create_hypertable(table, false));
        statements.extend(policies(table, NEWEST));
        for aggregate in &table.aggregates {
            statements.extend(aggregate.create(&table.name, &table.time.1));
        }
    } else if table.cut.is_some() {
        let note =
            "-- The sink creates the partitions ahead of the rows, so its user must own the table.";
        let last = statements.pop().unwrap_or_default();
        statements.push(format!("{note}\n{last}"));
    }
    statements.iter().map(|s| format!("{s};\n")).collect()
}
