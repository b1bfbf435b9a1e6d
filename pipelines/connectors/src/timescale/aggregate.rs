//! Continuous aggregates of TimescaleDB over the table, such as the mean of each hour.
//!
//! The view of aggregate `hourly` of table `rul` is `rul_hourly`: a column `bucket` with the beginning of each stretch, the
//! key of the stream, and a column for each function, such as `rul_hours_avg`. TimescaleDB brings it up to date every
//! stretch; what a correction touches is brought up to date behind the commit that has it.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use foreline_engine::{ConfigError, Extent, Schema, TimeDomain};
use schemars::JsonSchema;
use serde::Deserialize;

use super::name::{TableName, literal, quoted};
use super::partition::{Cut, interval};

/// A continuous aggregate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregateConfig {
    /// The length of a stretch of time, such as `1h`.
    pub every: Extent,
    /// What is computed of which columns: `{ rul_hours: [avg, min] }`.
    pub columns: BTreeMap<String, Vec<Function>>,
}

/// A function over the values of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// The mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The sum.
    Sum,
    /// How many there are.
    Count,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Avg => "avg",
            Function::Min => "min",
            Function::Max => "max",
            Function::Sum => "sum",
            Function::Count => "count",
        }
    }
}

/// A continuous aggregate that fits its table.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub(super) view: TableName,
    every_micros: i64,
    key: Vec<String>,
    columns: Vec<(String, Function)>,
}

impl Aggregate {
    /// Checks an aggregate `name` against the stream.
    pub(super) fn plan(
        name: &str,
        config: &AggregateConfig,
        table: &TableName,
        schema: &Schema,
        cut: Option<Cut>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut found = Vec::new();
        if cut.is_none() || schema.domain() == TimeDomain::Logical {
            let message = "an aggregate needs a table that is cut by a time of day";
            found.push(ConfigError::new("", message).help("leave it out"));
        }
        let every_micros = match config.every {
            Extent::Nanos(n) if n >= 1_000 => n / 1_000,
            other => {
                let message = format!("'{other}' is not a length of time");
                found.push(ConfigError::new("every", message).help("give a duration, such as 1h"));
                1
            }
        };
        let mut columns = Vec::new();
        for (column, functions) in &config.columns {
            let at = format!("columns.{column}");
            match schema.column(column).map(|c| &c.data_type) {
                None => {
                    let known = schema.columns().iter().map(|c| c.name.as_str());
                    let message = format!("there is no column '{column}'");
                    found.push(ConfigError::new(at, message).unknown(column, known));
                }
                Some(DataType::Float64 | DataType::Int64) => {
                    columns.extend(functions.iter().map(|f| (column.clone(), *f)));
                }
                Some(_) => {
                    let message = format!("'{column}' is not a number");
                    found.push(ConfigError::new(at, message).help("name columns of numbers"));
                }
            }
        }
        if columns.is_empty() && found.is_empty() {
            found.push(
                ConfigError::new("columns", "nothing is computed")
                    .help("name a column and a function"),
            );
        }
        let key = schema.key().iter().map(|&k| schema.columns()[k].name.clone()).collect();
        let (schema, table) = (table.schema.clone(), format!("{}_{name}", table.table));
        let view = TableName { schema, table };
        if found.is_empty() {
            Ok(Aggregate { view, every_micros, key, columns })
        } else {
            Err(found)
        }
    }

    /// The statements that create it over `table`, whose time column is `time`.
    pub(super) fn create(&self, table: &TableName, time: &str) -> Vec<String> {
        let every = interval(self.every_micros);
        let key: Vec<String> = self.key.iter().map(|k| quoted(k)).collect();
        let mut select = vec![format!("time_bucket({every}, {}) AS \"bucket\"", quoted(time))];
        select.extend(key.iter().cloned());
        select.extend(self.columns.iter().map(|(column, function)| {
            let f = function.name();
            format!("{f}({}) AS {}", quoted(column), quoted(&format!("{column}_{f}")))
        }));
        let group: Vec<String> = (1..=key.len() + 1).map(|i| i.to_string()).collect();
        let view = literal(&self.view.to_string());
        vec![
            format!(
                "CREATE MATERIALIZED VIEW {} WITH (timescaledb.continuous) AS\n    SELECT {}\n    FROM {table}\n    GROUP BY {}\n    WITH NO DATA",
                self.view,
                select.join(", "),
                group.join(", ")
            ),
            // Without a beginning, so that what was touched however long ago is brought up to date.
            format!(
                "SELECT add_continuous_aggregate_policy({view}, start_offset => NULL, end_offset => {every}, schedule_interval => {every}, if_not_exists => true)"
            ),
        ]
    }

    /// The statement that brings it up to date where rows of these times, the last included, were touched.
    pub(super) fn refresh(&self, first: i64, last: i64) -> String {
        let every = self.every_micros;
        let from = first.saturating_sub(first.rem_euclid(every));
        let to = last.saturating_sub(last.rem_euclid(every)).saturating_add(every);
        let at = |bound| Cut::Month.literal(bound);
        let view = literal(&self.view.to_string());
        format!(
            "CALL refresh_continuous_aggregate({view}, timestamptz {}, timestamptz {})",
            at(from),
            at(to)
        )
    }
}
