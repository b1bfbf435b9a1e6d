//! The sections of a pipeline file as types; their doc comments are the manual and the JSON schema.
//!
//! What a reader would get wrong: a source, a step and a sink also hold one key that is not listed here. It names
//! the kind (`csv`, `window`, `parquet`), and its value is that kind's configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use foreline_connectors::{ColumnConfig, ColumnType, History};
use foreline_engine::Extent;
use foreline_operators::alert::AlertConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What every source has beside its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceCommon {
    /// The columns, in order, each with its type: `vibration: { type: float64, unit: mm/s }`, or short
    /// `vibration: float64`.
    pub columns: Columns,
    /// The columns that tell one machine from another. Rows of one key are kept in the order of their event time.
    pub key: Vec<String>,
    /// The column that holds the event time: a timestamp, or an int64 count such as a cycle.
    pub time: String,
    /// How long to wait for rows that come out of order: a row further behind its key's greatest event time is late.
    /// Default: no time at all.
    #[serde(default)]
    pub lateness: Option<Extent>,
    /// What becomes of late rows. Default `dead_letter`.
    #[serde(default)]
    pub late: Option<Late>,
    /// Columns that tell a row from its repetition; of rows that agree in all of them the first is kept.
    #[serde(default)]
    pub dedupe: Vec<String>,
    /// How far behind the key's greatest event time repetitions are still recognised. Default: as far as a row may be
    /// late, that is `lateness` and what `late: { correct }` adds. It is never less.
    #[serde(default)]
    pub dedupe_within: Option<Extent>,
    /// Whose clock is believed, where the event time is the stamp of a device.
    #[serde(default)]
    pub device_clock: Option<DeviceClockConfig>,
    /// A row whose event time is further ahead of the clock becomes a dead letter, so that one wrong clock drags nobody.
    #[serde(default)]
    pub max_ahead: Option<Extent>,
    /// After this long without a row a key no longer holds back what waits for it.
    #[serde(default)]
    pub idle_timeout: Option<Extent>,
    /// What is read to its end before the source's own records, with the same columns: `{ csv: { path: … } }`,
    /// `{ parquet: … }` or `{ s3: … }`. The source is connected meanwhile. `dedupe` takes rows out that come both ways.
    #[serde(default)]
    pub history: Option<History>,
    /// How far behind its newest row, by event time, the rows of the stream are kept in memory: so much of it is a table for
    /// dashboards and queries, at most 2,000,000 rows and 256 MiB. Default: nothing.
    #[serde(default)]
    pub keep: Option<Extent>,
}

/// What every relation that comes from outside has beside its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceCommon {
    /// The columns, in order, each with its type: `limit: { type: float64, unit: mm/s }`, or short `line: string`.
    pub columns: Columns,
    /// The columns that tell one row from another. A row takes the place of the one with its key.
    pub key: Vec<String>,
    /// A timestamp column, or a count: from when a row counts. There may be several rows of a key then, of which one counts at
    /// a time. Null in a table is from the beginning, in a change that comes alone from now on. Default: there is one row a key.
    #[serde(default)]
    pub valid_from: Option<String>,
    /// Most rows it may have; with more the run stops and says so. Default 1,000,000.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
}

/// How far the stamps of devices are believed. It is looked at behind `dedupe`, which compares what a device sent, and
/// before `max_ahead` and `lateness`, which are about the time that counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceClockConfig {
    /// The column that says when the row arrived: a timestamp by a clock that is right, such as the receiver's. Files
    /// are put in order by it. Default: the clock of this machine when it closes the epoch that has the row, which
    /// suits rows that are sent as they are measured.
    #[serde(default)]
    pub arrival: Option<String>,
    /// How far the event time may be from the arrival, to either side.
    pub max_difference: Extent,
    /// What becomes of a row that is further away. Default `arrival`.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// The column, added to the source's, that keeps the device's stamp of a row whose event time is its arrival. It is
    /// null in all other rows. Default `device_time`.
    #[serde(default)]
    pub keep_as: Option<String>,
}

/// What becomes of a row whose device's clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// Its arrival is its event time.
    #[default]
    Arrival,
    /// It becomes a dead letter with the reason `clock_off`.
    DeadLetter,
}

/// What becomes of late rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// They become dead letters.
    DeadLetter,
    /// They correct the results, if they are at most this far behind the watermark.
    Correct(Extent),
}

/// Declared columns in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns(pub Vec<(String, ColumnConfig)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("columns by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
                    let value = match value {
                        serde_json::Value::String(short) => serde_json::json!({ "type": short }),
                        full => full,
                    };
                    columns.push((name, serde_json::from_value(value).map_err(A::Error::custom)?));
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<ColumnType>();
        let full = generator.subschema_for::<ColumnConfig>();
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": { "anyOf": [short, full] },
        })
    }
}

/// One name or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several, in this order.
    Many(Vec<String>),
}

impl Names {
    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Many(names) => names,
        }
    }
}

/// What every step has beside its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepCommon {
    /// The stream it reads: a source or another step. A list where the step reads several; `join` reads a stream and a
    /// reference.
    pub from: Names,
    /// How far behind its newest row, by event time, the rows of the stream are kept in memory: so much of it is a table for
    /// dashboards and queries, at most 2,000,000 rows and 256 MiB. Default: nothing.
    #[serde(default)]
    pub keep: Option<Extent>,
}

/// A relation that is kept up while rows come and change: exactly one of the keys but `from` and `max_rows` says how.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// What it is made of: a view, or for `latest` a source or a step.
    pub from: String,
    /// The latest rows of each key of a stream.
    #[serde(default)]
    pub latest: Option<LatestConfig>,
    /// The rows for which a SQL condition holds.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// Columns computed by SQL expressions, added to those of the view or in place of one.
    #[serde(default)]
    pub derive: Option<BTreeMap<String, String>>,
    /// The rows beside those of another view.
    #[serde(default)]
    pub join: Option<JoinConfig>,
    /// The rows beside the last row of another view that is of no later time.
    #[serde(default)]
    pub asof: Option<AsOfConfig>,
    /// One row for all that agree in some columns.
    #[serde(default)]
    pub group: Option<GroupConfig>,
    /// The first rows in some order.
    #[serde(default)]
    pub top: Option<TopConfig>,
    /// Most rows it may have; with more the run stops and says so. Default 1,000,000.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
}

/// Which rows of a stream are its latest: by its key, those with the greatest event time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatestConfig {
    /// The columns of the stream's key, which it goes by in any case.
    #[serde(default)]
    pub by: Option<Vec<String>>,
    /// How many of each key. Default 1, or with `within` 100,000, which is the most.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub rows: Option<usize>,
    /// Only those no older than this behind the latest one of their key.
    #[serde(default)]
    pub within: Option<Extent>,
}

/// How rows of two views are put together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The other view.
    pub with: String,
    /// The columns that must agree; `{ line: name }` where the other view calls its column differently. They are the
    /// whole key of the other view, so that a row finds at most one. A null agrees with nothing.
    pub on: JoinOn,
    /// What becomes of a row that finds none: `keep` it with nulls, or `drop` it. Default `keep`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// The columns of the other view that come out. Default: all that it is not found by.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
}

/// How rows of a view find the last one of another as of their time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsOfConfig {
    /// The other view.
    pub with: String,
    /// The columns that must agree; `{ line: name }` where the other view calls its column differently. None: any row of the
    /// other view may be found. A null agrees with nothing.
    pub on: JoinOn,
    /// The column with the time, a time or a whole number; `{ measured_at: valid_from }` where the other view calls its own
    /// differently. A row finds the last one that agrees with it and whose time is not greater; of equal times the last by
    /// key. A null is at no time.
    pub time: AsOfTime,
    /// What becomes of a row that finds none: `keep` it with nulls, or `drop` it. Default `keep`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// The columns of the other view that come out. Default: all but those of `on`.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
}

/// The columns with the times of two views.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AsOfTime {
    /// It has the same name in both.
    Same(String),
    /// By the name of the column here, that of the other view: one of each.
    Named(BTreeMap<String, String>),
}

/// The columns by which rows of two views find one another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum JoinOn {
    /// They have the same names in both.
    Same(Vec<String>),
    /// By the name of the column here, that of the other view.
    Named(BTreeMap<String, String>),
}

/// What becomes of a row that finds no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// It comes out, with nulls.
    #[default]
    Keep,
    /// It does not come out.
    Drop,
}

/// What is found of groups of rows. Each of the functions takes columns, and the name of the result of each:
/// `mean: { rul_hours: mean_rul }`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The columns that rows of a group agree in: the key of this view.
    pub by: Vec<String>,
    /// A column with the number of rows.
    #[serde(default)]
    pub rows: Option<String>,
    /// How many values are not null.
    #[serde(default)]
    pub count: BTreeMap<String, String>,
    /// Their sum, exact and rounded once.
    #[serde(default)]
    pub sum: BTreeMap<String, String>,
    /// Their mean: the exact sum over their number.
    #[serde(default)]
    pub mean: BTreeMap<String, String>,
    /// The least.
    #[serde(default)]
    pub min: BTreeMap<String, String>,
    /// The greatest.
    #[serde(default)]
    pub max: BTreeMap<String, String>,
    /// How many different values. A change costs as much as the group has different ones.
    #[serde(default)]
    pub distinct: BTreeMap<String, String>,
    /// Quantiles, linear between two values: `{ rul_hours: { p10: 0.1, p50: 0.5 } }`. A change costs as much as the group
    /// has different values.
    #[serde(default)]
    pub quantile: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Which rows come first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopConfig {
    /// How many.
    #[schemars(range(min = 1, max = 100_000))]
    pub rows: usize,
    /// The columns that they are ordered by. Nulls come last, and ties are in the order of the key.
    pub by: Names,
    /// Whether the least or the greatest comes first. Default `least`.
    #[serde(default)]
    pub first: First,
    /// So many for each group of rows that agree in these columns. Default: of all rows.
    #[serde(default)]
    pub within: Vec<String>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The least value.
    #[default]
    Least,
    /// The greatest.
    Greatest,
}

/// What every sink has beside its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkCommon {
    /// The streams it takes: sources, steps, alerts, `dead_letters`, the rows that could not be used, and `late`, those that
    /// came behind their key's watermark, with how far. Of a view it keeps a table: rows are replaced and deleted as the
    /// view changes. `<view>.changes` is the stream of its changes.
    pub from: Names,
}

/// How the input is cut into epochs; it changes how soon results come, never what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochConfig {
    /// An epoch closes after this long. Default `100ms`.
    #[serde(default = "hundred_milliseconds")]
    pub interval: Extent,
    /// An epoch closes after this many rows. Default 65536.
    #[serde(default = "rows_of_an_epoch")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub rows: usize,
}

impl Default for EpochConfig {
    fn default() -> Self {
        EpochConfig { interval: hundred_milliseconds(), rows: rows_of_an_epoch() }
    }
}

/// How often the state of the pipeline is saved, so that a restart goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    /// The time between two snapshots. A sink commits at least as often. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub interval: Extent,
    /// How many are kept: an older one is used when the newest is damaged. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: usize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        SnapshotConfig { interval: ten_seconds(), keep: three() }
    }
}

fn ten_seconds() -> Extent {
    Extent::Nanos(10_000_000_000)
}

fn three() -> usize {
    3
}

/// The journal: what was read and not yet covered by a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// Most megabytes (2^20 bytes) it may take. When it is full the sources are not read until a snapshot has made
    /// room; nothing is deleted. Default 4096.
    #[serde(default = "four_gigabytes")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub limit_mib: u64,
    /// How far back it goes beyond what a restart needs, such as `24h`: so much can be replayed, by `foreline replay`
    /// and by `run --from-journal`. It takes at most three quarters of the limit. Default: nothing beyond that.
    #[serde(default)]
    pub keep: Option<Extent>,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig { limit_mib: four_gigabytes(), keep: None }
    }
}

fn four_gigabytes() -> u64 {
    4096
}

/// The HTTP server of the pipeline: sources of the kind `http` take rows by it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// Where it listens, an address and a port. One that others can reach needs `tokens`. Default `127.0.0.1:8080`.
    #[serde(default = "loopback")]
    pub listen: String,
    /// Who shows one of these in `authorization: bearer ...` may use the API. Default: anybody who can reach it.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Users with passwords and roles, who log in to the dashboard. Made with `foreline user add`.
    #[serde(default)]
    pub accounts: AccountsConfig,
    /// A collector of OpenTelemetry that is sent metrics, traces and logs. Default: nobody is.
    #[serde(default)]
    pub otlp: Option<OtlpConfig>,
    /// Certificate and key of the server, with which it speaks TLS. Default: it does not.
    #[serde(default)]
    pub tls: Option<ServeTlsConfig>,
    /// Where psql, Grafana and drivers of PostgreSQL may ask queries, such as `127.0.0.1:5433`. The password is one of `tokens`. An
    /// address that others can reach needs `tls`. Default: nowhere.
    #[serde(default)]
    pub postgres: Option<String>,
    /// Origins whose pages may use the API from a browser, such as `[https://board.example]`. Default: none but its own.
    #[serde(default)]
    pub cors: Vec<String>,
    /// Paths that the API has beside its own, such as `/vibration-data`, for clients that know no others. Default: none.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteConfig>,
}

/// A path that the API has beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The source of the kind `http` that takes the rows of a POST, one or many.
    #[serde(default)]
    pub post: Option<String>,
    /// What a GET is answered.
    #[serde(default)]
    pub get: Option<ListConfig>,
}

/// What a GET of a route is answered: rows of a query, a page at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    /// A query over the views and streams of the pipeline.
    pub sql: String,
    /// Columns of it that rows are in the order of, the greatest first after a `-`. Others follow where rows are equal in them.
    #[serde(default)]
    pub order: Vec<String>,
    /// By the name of a parameter of a request, the column that it is compared with.
    #[serde(default)]
    pub filters: BTreeMap<String, FilterConfig>,
    /// Rows of a page where a request has no `limit`, at most 10,000. Default 1,000.
    #[serde(default = "page_rows")]
    pub limit: u32,
}

fn page_rows() -> u32 {
    1_000
}

/// What a parameter of a request is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FilterConfig {
    /// The column that is equal to it.
    Column(String),
    /// A column, and how.
    Compared(ComparedConfig),
}

/// A column, and how a parameter of a request is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedConfig {
    /// The column.
    pub column: String,
    /// How rows are that come: `<=` where the column is not greater than the parameter. Default `=`.
    #[serde(default)]
    pub is: Comparison,
    /// What the parameter is where a request does not have it. Default: nothing is compared.
    #[serde(default)]
    pub default: Option<String>,
}

/// How a column is to a parameter of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Comparison {
    /// The same.
    #[default]
    #[serde(rename = "=")]
    Equal,
    /// Another.
    #[serde(rename = "!=")]
    Unequal,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Not greater.
    #[serde(rename = "<=")]
    AtMost,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Not less.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Comparison {
    /// As in SQL.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::Unequal => "<>",
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Greater => ">",
            Comparison::AtLeast => ">=",
        }
    }
}

impl fmt::Debug for ServeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeConfig").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            listen: loopback(),
            tokens: Vec::new(),
            accounts: AccountsConfig::default(),
            otlp: None,
            tls: None,
            postgres: None,
            cors: Vec::new(),
            routes: BTreeMap::new(),
        }
    }
}

/// A collector of OpenTelemetry that is sent metrics, traces and logs, as OTLP over HTTP.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Its address, such as `http://127.0.0.1:4318`; `/v1/metrics` and the like are added.
    pub url: String,
    /// Headers of each request, such as `authorization`. Their values are never printed.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Between two requests of a kind. Default 10 s.
    #[serde(default = "ten_seconds")]
    pub interval: Extent,
    /// What is sent. Default all.
    #[serde(default = "all_signals")]
    pub signals: Vec<Signal>,
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Figures.
    Metrics,
    /// How long epochs and requests took.
    Traces,
    /// Lines of the log.
    Logs,
}

fn all_signals() -> Vec<Signal> {
    vec![Signal::Metrics, Signal::Traces, Signal::Logs]
}

/// Who the server is to clients that speak TLS. Both files are PEM, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeTlsConfig {
    /// The certificate, with those that vouch for it behind it.
    pub cert: String,
    /// Its private key, which `foreline` must be able to read and others should not.
    pub key: String,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountsConfig {
    /// How people without an account get one. Default `invited`.
    #[serde(default)]
    pub signup: Signup,
}

/// How people without an account get one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signup {
    /// An administrator makes it.
    Closed,
    /// With a code, which an administrator makes.
    #[default]
    Invited,
    /// Whoever reaches the server makes one, as a viewer.
    Open,
}

fn loopback() -> String {
    "127.0.0.1:8080".to_owned()
}

fn hundred_milliseconds() -> Extent {
    Extent::Nanos(100_000_000)
}

fn rows_of_an_epoch() -> usize {
    65_536
}

/// A condition that somebody is to be told of: the stream or view that is watched, and the rule.
#[derive(Debug, Clone)]
pub struct AlertEntry {
    /// What is watched: a source, a step, an alert, or a view.
    pub from: String,
    /// The rule.
    pub rule: AlertConfig,
}

impl<'de> Deserialize<'de> for AlertEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        let from = map.remove("from").ok_or_else(|| D::Error::missing_field("from"))?;
        let from = serde_json::from_value(from).map_err(D::Error::custom)?;
        let rule = serde_json::from_value(map.into()).map_err(D::Error::custom)?;
        Ok(AlertEntry { from, rule })
    }
}

impl JsonSchema for AlertEntry {
    fn schema_name() -> Cow<'static, str> {
        "Alert".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AlertConfig::json_schema(generator);
        let about = "What is watched: a source, a step, an alert, or a view.";
        let from = serde_json::json!({ "type": "string", "description": about });
        let object = schema.ensure_object();
        let properties = object.entry("properties").or_insert_with(|| serde_json::json!({}));
        properties["from"] = from;
        object.insert("required".to_owned(), serde_json::json!(["from"]));
        schema
    }
}

/// How `foreline train` makes the weights of a model from a stream of the pipeline (`from`), or the statistics of a
/// step from what the step reads (`step`).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The stream whose rows a model learns from; the steps before it are those that run live. Needs `target`, `plugin`
    /// and `weights`.
    #[serde(default)]
    pub from: Option<String>,
    /// The step whose file of statistics is fitted, on the rows that it reads.
    #[serde(default)]
    pub step: Option<String>,
    /// What each source reads for training instead of its own `path`: a path relative to the pipeline file.
    /// Default: its own.
    #[serde(default)]
    pub input: BTreeMap<String, String>,
    /// What is to be predicted; of a step only where it chooses by a target, as `anova` does.
    #[serde(default)]
    pub target: Option<TargetConfig>,
    /// The plugin the weights are for.
    #[serde(default)]
    pub plugin: Option<String>,
    /// Where the weights are written.
    #[serde(default)]
    pub weights: Option<String>,
    /// The columns learnt from. Default: every numeric column that is neither key, event time nor target.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Columns not learnt from, of those that would be.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Settings of the trainer, such as the number of trees.
    #[serde(default)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// A SQL condition: only rows for which it holds are learnt from.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// How the model is judged before it is believed: it is fitted on some of the rows and predicts the others, in turn. One
    /// way, or a list of them to be compared. `train --validate` and `tune` do it in any case, by whole machines unless
    /// something else is said here.
    #[serde(default)]
    pub validate: OneOrMany<ValidateConfig>,
}

/// How the rows of a training are parted into those that are learnt from and those that are predicted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateConfig {
    /// What is never parted.
    pub by: SplitBy,
    /// How many parts, each predicted once; of `interval` and `time` the last ones only. Default 5, of `interval` 7, of a
    /// column one for each of its values.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub folds: Option<usize>,
    /// Of `interval`: only that many intervals before the predicted one are learnt from. Default: all of them.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub look_back: Option<usize>,
    /// Another seed deals machines, values or rows otherwise. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// What a split never parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Machines: all rows of a key are learnt from, or none.
    Machine,
    /// Lives, from one failure to the next, in the order of time: each is predicted from those that had ended before it began.
    Interval,
    /// Time: each stretch is predicted from what was known before it began.
    Time,
    /// Rows with the same value in this column, such as a recording or the size of a fault.
    Column(String),
    /// Nothing: rows at random. Neighbouring rows resemble one another, so this flatters every model; for comparison only.
    Row,
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What a model is to predict.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetConfig {
    /// How long until the key's last row, which is taken as its failure.
    Remaining(RemainingConfig),
    /// A numeric column of the stream.
    Column(String),
    /// A column of the stream that names a class: text, whole numbers, or true and false.
    Class(String),
}

/// The remaining life as a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemainingConfig {
    /// Longer lives count as this: a machine in good health shows no sign of its end yet.
    #[serde(default)]
    pub cap: Option<Extent>,
    /// A SQL condition that holds in the rows at which a life ends, such as `failed`: remaining life is counted to the next of
    /// them, and rows behind a key's last one are not learnt from. Default: a key has one life, which ends with its last row.
    #[serde(default)]
    pub ends: Option<String>,
}

/// How `foreline evaluate` judges predictions: data whose truth is known goes through the pipeline.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// What each source reads instead of its own `path`: a path relative to the pipeline file. Default: its own.
    #[serde(default)]
    pub input: BTreeMap<String, String>,
    /// The stream that holds the predictions.
    pub from: String,
    /// Its column with what is predicted: a remaining life, another number, or a class.
    pub predicted: String,
    /// What was true.
    pub truth: TruthConfig,
    /// Figures are given for truth cut at this remaining life too, in the unit of the prediction, as models trained with
    /// a cap cannot answer more.
    #[serde(default)]
    pub cap: Option<f64>,
    /// Which rows of a key are judged. Default `last` where the truth is a life left at the last row, else `all`.
    #[serde(default)]
    pub at: Option<JudgedRows>,
    /// The columns between which the truth is said to lie.
    #[serde(default)]
    pub interval: Option<IntervalConfig>,
    /// How far a prediction may be off, as a share of the life that is left, for the figures alpha-lambda and prognostic
    /// horizon. Default 0.2.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// When a prediction would raise an alarm: how early it comes, how often for nothing, how often not at all.
    #[serde(default)]
    pub alarm: Option<AlarmConfig>,
    /// What wrong and right alarms cost a machine and day; needs `alarm`.
    #[serde(default)]
    pub cost: Option<CostConfig>,
    /// The entry of `training` whose model is judged: `--seeds` trains it anew, and a report says what its features are worth.
    #[serde(default)]
    pub training: Option<String>,
    /// The seeds of `--seeds`, declared before any figure is seen.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

/// Two columns between which the truth is said to lie.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntervalConfig {
    /// The column of the lower end.
    pub low: String,
    /// The column of the upper end.
    pub high: String,
    /// The share of truths that ought to lie inside, such as 0.8.
    pub nominal: f64,
}

/// When a predicted life is an alarm, and when that is right.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmConfig {
    /// A predicted life below this is an alarm, in the unit of the prediction.
    pub below: f64,
    /// In that many rows one after the other. Default 1.
    #[serde(default = "one_row")]
    #[schemars(range(min = 1))]
    pub rows: usize,
    /// An alarm with more life left than this came for nothing. Default: none does.
    #[serde(default)]
    pub earliest: Option<f64>,
    /// An alarm with less life left than this came too late to act. Default 0.
    #[serde(default)]
    pub latest: f64,
}

fn one_row() -> usize {
    1
}

/// What a machine costs a day, by whether its failure was foreseen. Each case costs (repair + loss) / days, times the share
/// of lives that end so; what is left out is that of the published pump project.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// It failed without an alarm in time. Default 100, 500, 30 days.
    pub missed: CaseCost,
    /// The alarm came too early, and good life was thrown away. Default 100, 0, 20 days.
    pub early: CaseCost,
    /// The alarm was right. Default 100, 0, 30 days.
    pub right: CaseCost,
}

impl Default for CostConfig {
    fn default() -> Self {
        CostConfig {
            missed: CaseCost { repair: 100.0, loss: 500.0, days: 30.0 },
            early: CaseCost { repair: 100.0, loss: 0.0, days: 20.0 },
            right: CaseCost { repair: 100.0, loss: 0.0, days: 30.0 },
        }
    }
}

/// What one case costs.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseCost {
    /// The repair, in the currency of your choice.
    pub repair: f64,
    /// The production that is lost. Default 0.
    #[serde(default)]
    pub loss: f64,
    /// The days from one such case to the next.
    pub days: f64,
}

/// How `foreline tune` searches settings of this file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TuningConfig {
    /// The entry of `training` whose validated error is to be small.
    #[serde(default)]
    pub training: Option<String>,
    /// Or the step that smooths: how well its value predicts the next row decides, by the elbow of that error.
    #[serde(default)]
    pub step: Option<String>,
    /// What is tried: the place of a setting in this file, such as `steps.smooth.moving_average.rows`, with a list of values
    /// or a range. The file's own value is always the first trial.
    #[serde(rename = "try")]
    pub settings: BTreeMap<String, Candidates>,
    /// How many trials, the file's own settings included. Default: the whole grid where that has at most 64 points, else 64
    /// drawn from it.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100000))]
    pub trials: Option<usize>,
    /// Another seed draws other trials. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// The figure that is to be small. Default: `rmse`; of classes `log_loss`.
    #[serde(default)]
    pub best: Option<Figure>,
    /// What each source reads instead of its own `path`, where a step is tuned. A training has inputs of its own.
    #[serde(default)]
    pub input: BTreeMap<String, String>,
}

/// A figure that a search makes small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Root mean square error, of capped truth where there is a cap.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// Mean of the PHM08 score.
    Score,
    /// RMSE in which short lives weigh more.
    WeightedRmse,
    /// RMSE with weight 1 at the end of life and 0 from the cap on.
    MinMaxRmse,
    /// Mean pinball loss of a model of quantiles.
    Pinball,
    /// Mean negative logarithm of the probability of the true class.
    LogLoss,
    /// Share of wrong classes.
    ErrorRate,
}

/// The values that a search tries in one place.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Candidates {
    /// These.
    List(Vec<serde_json::Value>),
    /// Numbers of a range; whole ones where both ends are.
    Range(RangeConfig),
}

/// A range of numbers.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeConfig {
    /// The smallest.
    pub from: serde_json::Number,
    /// The greatest.
    pub to: serde_json::Number,
    /// `log`: as many between 1 and 10 as between 10 and 100. Default `linear`.
    #[serde(default)]
    pub scale: Scale,
    /// How many values, evenly over the scale. Default 5.
    #[serde(default)]
    #[schemars(range(min = 2, max = 1000))]
    pub steps: Option<usize>,
}

/// How values lie in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// At equal distances.
    #[default]
    Linear,
    /// At equal ratios.
    Log,
}

/// Which rows of a key are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgedRows {
    /// The last one, as benchmarks do.
    #[default]
    Last,
    /// All of them; earlier rows had that much more life left.
    All,
}

/// Where the truth stands. The first two say how much life each key had left at its last row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruthConfig {
    /// A file with one number a line; line `i` is that of key `i`, counted from 1.
    Lines(String),
    /// A comma-separated file with a header.
    Table(TruthTable),
    /// A column of the stream: a number, or the name of a class.
    Column(String),
    /// The stream itself says how long each life was, as the target of a training does.
    Remaining(RemainingConfig),
}

/// A comma-separated file of truth.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TruthTable {
    /// The file, relative to the pipeline file.
    pub path: String,
    /// Its column with the key.
    pub key: String,
    /// Its column with the remaining life at the key's last row, in the unit of the prediction.
    pub remaining: String,
}

/// A case for `foreline test`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestConfig {
    /// What the case shows.
    pub name: String,
    /// What each source reads instead of its own input.
    pub input: BTreeMap<String, TestRows>,
    /// What must come out.
    pub expect: TestExpect,
    /// How far a number may be off, relative to the expected one. Default: not at all.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub tolerance: f64,
}

/// Rows of a test.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TestRows {
    /// A CSV file, relative to the pipeline file. As input it is read as the source's own file would be.
    File(String),
    /// The rows themselves, each with its values by column; a column left out is null.
    Rows(Vec<serde_json::Map<String, serde_json::Value>>),
}

/// What a test expects. What is not named is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestExpect {
    /// By stream, all its rows in the order of key and event time; columns left out are not compared.
    #[serde(default)]
    pub rows: BTreeMap<String, TestRows>,
    /// By stream, how many rows it has.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// The alerts that are raised, each with its `rule`, by rule in the order of key and event time:
    /// `[{ rule: rul_low, machine: P-7 }]`. Columns left out are not compared; `[]` expects none.
    #[serde(default)]
    pub alerts: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// By reason, how many rows became dead letters. `{}` expects none.
    #[serde(default)]
    pub dead_letters: Option<BTreeMap<String, u64>>,
}
