//! The table that a stream needs: its columns, its key, how it is cut, all checked before anything is connected.
//!
//! What a reader would get wrong:
//!
//! * A row is told from another by the columns of the key alone, so the key has at least what tells the rows of the
//!   stream apart. Readings have their position in the source in it unless the user names a key.
//! * Dead letters have no key: their event time may be missing, and several may come from one place. They are numbered
//!   by generation, epoch and place in the epoch, and lie in one table that is not cut.
//! * Floating point is no part of a key: 0 and -0 are one number of two forms.

use arrow::datatypes::{DataType, TimeUnit};
use foreline_engine::{ConfigError, Extent, Schema, TimeDomain, dead_letter_schema};

use super::aggregate::Aggregate;
use super::name::TableName;
use super::partition::{Cut, Partition};
use super::{Extension, TableConfig};
use crate::kind::SinkInputs;

/// Names that the sink gives to columns of its own.
pub(super) const GENERATION: &str = "_generation";
pub(super) const REVISION: &str = "_revision";
pub(super) const DELETED: &str = "_deleted";
const POSITION: &str = "_position";
const EPOCH: &str = "_epoch";
const ROW: &str = "_row";
const OWN: &[&str] = &[GENERATION, REVISION, DELETED, POSITION, EPOCH, ROW];
/// PostgreSQL cuts longer names off, so that two may become one.
const NAME_BYTES_MAX: usize = 63;
/// What the name of a partition has beyond that of its table: `_p20260301t050000`, or a count.
const SUFFIX_BYTES_MAX: usize = 21;

/// The interval of a hypertable's chunks, if nothing else is said.
const A_DAY: Extent = Extent::Nanos(86_400 * 1_000_000_000);

/// A type of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SqlType {
    Text,
    Double,
    BigInt,
    Integer,
    Boolean,
    Timestamp,
    Bytes,
    RealArray,
    DoubleArray,
}

impl SqlType {
    /// As `format_type` prints it.
    pub(super) fn name(self) -> &'static str {
        match self {
            SqlType::Text => "text",
            SqlType::Double => "double precision",
            SqlType::BigInt => "bigint",
            SqlType::Integer => "integer",
            SqlType::Boolean => "boolean",
            SqlType::Timestamp => "timestamp with time zone",
            SqlType::Bytes => "bytea",
            SqlType::RealArray => "real[]",
            SqlType::DoubleArray => "double precision[]",
        }
    }

    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Utf8 => SqlType::Text,
            DataType::Dictionary(keys, values)
                if (&**keys, &**values) == (&DataType::Int32, &DataType::Utf8) =>
            {
                SqlType::Text
            }
            DataType::Float64 => SqlType::Double,
            DataType::Int64 | DataType::UInt64 => SqlType::BigInt,
            DataType::Boolean => SqlType::Boolean,
            DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => SqlType::Timestamp,
            DataType::Binary => SqlType::Bytes,
            DataType::List(item) => match item.data_type() {
                DataType::Float32 => SqlType::RealArray,
                DataType::Float64 => SqlType::DoubleArray,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Whether two values that are the same number may have different bytes.
    fn is_floating(self) -> bool {
        matches!(self, SqlType::Double | SqlType::RealArray | SqlType::DoubleArray)
    }
}

/// Where the values of a column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The column of the stream with this index.
    Stream(usize),
    /// The row's position in its source.
    Position,
    /// The computation that the row is part of.
    Generation,
    /// The epoch it came with.
    Epoch,
    /// Its place among the rows of the epoch.
    Row,
}

/// A column of the table, except those that every table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) sql_type: SqlType,
    pub(super) origin: Origin,
    pub(super) unit: Option<String>,
}

/// What is asked of a table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: TableName,
    /// The columns of the key, then the others.
    pub(super) columns: Vec<TableColumn>,
    /// How many of the columns are the key.
    pub(super) n_key: usize,
    /// The event time: a column of the stream by its index, and its name.
    pub(super) time: (usize, String),
    pub(super) domain: TimeDomain,
    /// How it is cut, if it is.
    pub(super) cut: Option<Cut>,
    pub(super) retention_micros: Option<i64>,
    pub(super) compress_after_micros: Option<i64>,
    pub(super) aggregates: Vec<Aggregate>,
}

impl Table {
    /// What a stream needs, or everything that is wrong with what was asked for.
    pub(super) fn plan(
        config: &TableConfig,
        inputs: &SinkInputs<'_>,
        extension: Extension,
    ) -> Result<Self, Vec<ConfigError>> {
        let schema = inputs.schema;
        let numbered = *schema == dead_letter_schema();
        let mut found = Vec::new();
        let mut columns = stream_columns(schema, &mut found);
        let n_key = if numbered {
            number(&mut columns)
        } else {
            bring_key_forward(config, schema, &mut columns, &mut found)
        };
        let cut = if numbered { None } else { cut(config, schema, extension, &mut found) };
        let time = schema.columns()[schema.time()].name.clone();
        if let (Some(_), Some(key)) = (cut, &config.key)
            && !key.contains(&time)
        {
            let message = format!("the key of a table that is cut by time needs the time '{time}'");
            let help = format!("add '{time}' to the key, or write partition: none");
            found.push(ConfigError::new("key", message).help(help));
        }
        let name = table_name(config, inputs, cut.is_some(), &mut found);
        let mut table = Table {
            name,
            columns,
            n_key,
            time: (schema.time(), time),
            domain: schema.domain(),
            cut,
            retention_micros: None,
            compress_after_micros: None,
            aggregates: Vec::new(),
        };
        if !numbered {
            table.options_of_cut(config, schema, extension, &mut found);
        }
        if found.is_empty() { Ok(table) } else { Err(found) }
    }

    /// What only a table that is cut can have.
    fn options_of_cut(
        &mut self,
        config: &TableConfig,
        schema: &Schema,
        extension: Extension,
        found: &mut Vec<ConfigError>,
    ) {
        if let Some(retention) = config.retention {
            self.retention_micros = self.age("retention", retention, found);
        }
        let of_extension = [
            ("compress_after", config.compress_after.is_some()),
            ("aggregates", !config.aggregates.is_empty()),
        ];
        for (at, _) in of_extension.iter().filter(|(_, is_set)| *is_set) {
            if extension == Extension::Never {
                let message = format!("'{at}' is of TimescaleDB, which this sink does not use");
                found.push(
                    ConfigError::new(*at, message).help("make it a sink of kind 'timescale'"),
                );
                return;
            }
        }
        if let Some(after) = config.compress_after {
            self.compress_after_micros = self.age("compress_after", after, found);
        }
        for (name, aggregate) in &config.aggregates {
            match Aggregate::plan(name, aggregate, &self.name, schema, self.cut) {
                Ok(aggregate) => self.aggregates.push(aggregate),
                Err(errors) => {
                    let prefix = format!("aggregates.{name}");
                    found.extend(errors.into_iter().map(|e| e.under(&prefix)));
                }
            }
        }
    }

    /// An age by the clock of the database, which only partitions of time have.
    fn age(&self, at: &str, age: Extent, found: &mut Vec<ConfigError>) -> Option<i64> {
        if self.cut.is_none() {
            let message = format!("'{at}' needs partitions, and this table has none");
            found.push(ConfigError::new(at, message).help("write partition: 1d"));
            return None;
        }
        match age.in_domain(TimeDomain::UtcNanos) {
            Ok(n) if n > 0 && self.domain == TimeDomain::UtcNanos => Some(n / 1000),
            Ok(_) if self.domain == TimeDomain::Logical => {
                let message = format!("'{at}' goes by the clock, and the event time is a count");
                found.push(ConfigError::new(at, message).help("leave it out"));
                None
            }
            Ok(_) => {
                let message = format!("'{age}' is not an age");
                found.push(ConfigError::new(at, message).help("give a duration, such as 90d"));
                None
            }
            Err(error) => {
                found.push(error.under(at));
                None
            }
        }
    }

    /// The columns of the key.
    pub(super) fn key(&self) -> &[TableColumn] {
        &self.columns[..self.n_key]
    }

    /// The columns in the order of the stream, as the table is created.
    pub(super) fn in_stream_order(&self) -> Vec<&TableColumn> {
        let mut columns: Vec<&TableColumn> = self.columns.iter().collect();
        columns.sort_by_key(|c| match c.origin {
            Origin::Stream(i) => (0, i),
            Origin::Position => (1, 0),
            Origin::Generation => (2, 0),
            Origin::Epoch => (2, 1),
            Origin::Row => (2, 2),
        });
        columns
    }

    /// Whether the generation is a column of the key, and not only of every table.
    pub(super) fn is_numbered(&self) -> bool {
        self.columns.iter().any(|c| c.origin == Origin::Generation)
    }
}

fn stream_columns(schema: &Schema, found: &mut Vec<ConfigError>) -> Vec<TableColumn> {
    let mut columns = Vec::with_capacity(schema.columns().len() + 1);
    for (i, column) in schema.columns().iter().enumerate() {
        let name = &column.name;
        let help = "rename it with a 'derive' or 'select' step";
        if OWN.contains(&name.as_str()) {
            let message = format!("the column '{name}' has the name of one of the sink's own");
            found.push(ConfigError::new("", message).help(help));
        }
        check_length(name, NAME_BYTES_MAX, "the name of the column", "", found);
        let Some(sql_type) = SqlType::of(&column.data_type) else {
            let message =
                format!("PostgreSQL has no type for column '{name}' ({})", column.data_type);
            found.push(ConfigError::new("", message).help("leave it out with a 'select' step"));
            continue;
        };
        let unit = column.unit.as_ref().map(|u| u.code().to_owned());
        columns.push(TableColumn { name: name.clone(), sql_type, origin: Origin::Stream(i), unit });
    }
    columns
}

fn own(name: &str, origin: Origin) -> TableColumn {
    TableColumn { name: name.to_owned(), sql_type: SqlType::BigInt, origin, unit: None }
}

/// Numbers rows that have no key; how many columns the number has.
fn number(columns: &mut Vec<TableColumn>) -> usize {
    let number =
        [own(GENERATION, Origin::Generation), own(EPOCH, Origin::Epoch), own(ROW, Origin::Row)];
    let n_key = number.len();
    columns.splice(0..0, number);
    n_key
}

/// Puts the columns of the key first; how many there are.
fn bring_key_forward(
    config: &TableConfig,
    schema: &Schema,
    columns: &mut Vec<TableColumn>,
    found: &mut Vec<ConfigError>,
) -> usize {
    let name = |i: &usize| schema.columns()[*i].name.clone();
    let needed: Vec<String> = schema.primary_key().columns.iter().map(name).collect();
    let chosen = config.key.clone();
    if let Some(key) = &chosen {
        check_key(key, &needed, schema, found);
    }
    if chosen.is_none() && schema.primary_key().position {
        columns.push(own(POSITION, Origin::Position));
    }
    let position = (chosen.is_none() && schema.primary_key().position).then(|| POSITION.to_owned());
    let key: Vec<String> = chosen.unwrap_or(needed).into_iter().chain(position).collect();
    let place = |c: &TableColumn| key.iter().position(|k| *k == c.name).unwrap_or(usize::MAX);
    columns.sort_by_key(place);
    let n_key = columns.iter().filter(|c| place(c) != usize::MAX).count();
    for column in columns[..n_key].iter().filter(|c| c.sql_type.is_floating()) {
        let message = format!("'{}' is floating point, which is no part of a key", column.name);
        found.push(
            ConfigError::new("key", message).help("name columns of text, whole numbers or time"),
        );
    }
    n_key
}

/// What is wrong with a key that the user chose.
fn check_key(key: &[String], needed: &[String], schema: &Schema, found: &mut Vec<ConfigError>) {
    let known: Vec<&str> = schema.columns().iter().map(|c| c.name.as_str()).collect();
    for (i, name) in key.iter().enumerate() {
        let at = format!("key[{i}]");
        if !known.contains(&name.as_str()) {
            let message = format!("there is no column '{name}'");
            found.push(ConfigError::new(at, message).unknown(name, known.iter().copied()));
        } else if key[..i].contains(name) {
            let message = format!("'{name}' is there twice");
            found.push(ConfigError::new(at, message).help("leave one of them out"));
        }
    }
    // The time has a message of its own where the table is cut by it.
    let time = &schema.columns()[schema.time()].name;
    let missing: Vec<&str> =
        needed.iter().filter(|n| !key.contains(n) && *n != time).map(String::as_str).collect();
    if !missing.is_empty() {
        let message =
            format!("rows that differ only in '{}' would be one row", missing.join("', '"));
        let help = format!("the key needs at least: {}", needed.join(", "));
        found.push(ConfigError::new("key", message).help(help));
    }
}

fn cut(
    config: &TableConfig,
    schema: &Schema,
    extension: Extension,
    found: &mut Vec<ConfigError>,
) -> Option<Cut> {
    let domain = schema.domain();
    // Rows that are told apart without their time are replaced as it goes on, as those of a view.
    let replaced = !schema.primary_key().columns.contains(&schema.time());
    let partition = match (config.partition, extension, domain) {
        (None, ..) if replaced => Partition::None,
        (Some(partition), ..) if replaced && partition != Partition::None => {
            let message = "rows are replaced as time goes on, so their table cannot be cut by it";
            found.push(ConfigError::new("partition", message).help("leave it out"));
            return None;
        }
        (Some(partition), ..) => partition,
        (None, Extension::Never, _) => Partition::None,
        (None, Extension::WhereThere, TimeDomain::UtcNanos) => Partition::Every(A_DAY),
        (None, Extension::WhereThere, TimeDomain::Logical) => {
            let message = "the event time is a count: how much of it is one partition must be said";
            found.push(
                ConfigError::new("", message).help("add partition: 1000, or partition: none"),
            );
            return None;
        }
    };
    partition.cut(domain).unwrap_or_else(|error| {
        found.push(error);
        // What else is asked for is looked at as if this were right.
        Partition::Every(A_DAY).cut(TimeDomain::UtcNanos).unwrap_or_default()
    })
}

fn table_name(
    config: &TableConfig,
    inputs: &SinkInputs<'_>,
    is_cut: bool,
    found: &mut Vec<ConfigError>,
) -> TableName {
    let table = config.table.clone().unwrap_or_else(|| inputs.stream.to_owned());
    let most = if is_cut { NAME_BYTES_MAX - SUFFIX_BYTES_MAX } else { NAME_BYTES_MAX };
    check_length(&table, most, "the name of the table", "table", found);
    check_length(&config.schema, NAME_BYTES_MAX, "the name of the schema", "schema", found);
    TableName { schema: config.schema.clone(), table }
}

fn check_length(name: &str, most: usize, what: &str, at: &str, found: &mut Vec<ConfigError>) {
    if name.is_empty() || name.len() > most || name.contains('\0') {
        let message = format!("{what}, '{name}', does not have 1 to {most} bytes");
        found.push(ConfigError::new(at, message).help("give it another one"));
    }
}
