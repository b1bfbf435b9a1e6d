//! What a kind of source or sink is: its configuration, its check against the schema, its code.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use foreline_engine::{
    Column, ConfigError, Described, Replay, Resolver, SampleRate, Schema, Sink, SinkError, Source,
    SourceError, TimeDomain, Unit, parse_config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bell::Bell;
use crate::door::Door;
use crate::parquet::Lake;

/// The type of a column as the pipeline file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Text.
    String,
    /// 64-bit floating point.
    Float64,
    /// 64-bit whole number.
    Int64,
    /// True or false.
    Bool,
    /// A point in time, kept as nanoseconds of UTC.
    Timestamp,
    /// A burst of samples at a fixed rate, kept as 32-bit floating point; its first sample is at the row's event time. It needs
    /// `sample_rate`. A payload or file writes it as its format does: JSON and MessagePack as an array of numbers, MessagePack
    /// also as `bin`, Sparkplug as an array or bytes (binary samples are little-endian, those of a `bin` 32-bit floats), Parquet
    /// and Arrow as a list, a field of CSV as numbers with `;` or blanks between them, `raw` as the payload itself. No sample
    /// may be missing or infinite, and there are from 1 to 1,048,576; else the row is a dead letter. Not for `key` and `dedupe`.
    Waveform,
}

/// One column of a source.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: ColumnType,
    /// Its unit of measure, a UCUM code such as `mm/s`, `Cel`, `bar`; `degC` and `rpm` are understood too.
    /// Of a waveform: that of its samples.
    #[serde(default)]
    pub unit: Option<String>,
    /// Of a waveform, which must have it, and of nothing else: its samples a second, above 0.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub sample_rate: Option<f64>,
    /// Which field of the record it is read from: its name in the header, or its place counted from 1.
    /// Left out: the field with the column's name, or without a header the next one in the order of the columns.
    /// `"#row"` is the record's line in its file less the first line that can hold a record, from 0 (int64);
    /// `"#file"` the file's name without folder and extensions (string).
    #[serde(default)]
    pub field: Option<FieldRef>,
    /// How a timestamp is written: `rfc3339` (default; the `T` may be a space), `epoch_s`, `epoch_ms`, `epoch_us`,
    /// `epoch_ns`, or a strftime pattern such as `%d/%m/%Y %H:%M`.
    #[serde(default)]
    pub format: Option<String>,
    /// The time zone of stamps that do not carry one, such as `Europe/Rome` or `+09:00`. Default `UTC`. A local
    /// time that occurs twice is the earlier of the two instants; one that is skipped is a dead letter.
    #[serde(default)]
    pub zone: Option<String>,
}

impl ColumnConfig {
    /// A column of a type, and all else as usual.
    #[must_use]
    pub fn of(data_type: ColumnType) -> Self {
        let (unit, sample_rate, field, format, zone) = (None, None, None, None, None);
        ColumnConfig { data_type, unit, sample_rate, field, format, zone }
    }

    /// The column of the stream that is declared here as `name`.
    ///
    /// # Errors
    /// When a waveform has no sample rate or none that is one, or something else has one. The error is `at` the option,
    /// below `columns.`.
    pub fn declared(&self, name: &str) -> Result<Column, ConfigError> {
        let error = |message: String, help: &str| {
            Err(ConfigError::new(format!("columns.{name}.sample_rate"), message).help(help))
        };
        let column = match (self.data_type.arrow(), self.sample_rate) {
            (Some(data_type), None) => Column::new(name, data_type),
            (Some(_), Some(_)) => {
                let message =
                    format!("'sample_rate' belongs to a waveform, and column '{name}' is none");
                return error(message, "remove it, or change the column's 'type' to waveform");
            }
            (None, None) => {
                let message = format!("the waveform '{name}' has no 'sample_rate'");
                return error(message, "give its samples a second, as in sample_rate: 25600");
            }
            (None, Some(hertz)) => {
                let Some(rate) = SampleRate::new(hertz) else {
                    let message = format!("{hertz} samples a second cannot be");
                    return error(message, "give a number above zero, such as 25600");
                };
                Column::waveform(name, rate)
            }
        };
        Ok(column.with_unit(self.unit.as_deref().map(Unit::new)))
    }
}

impl ColumnType {
    /// The Arrow type of a column; `None` for a waveform, whose column has a rate besides.
    fn arrow(self) -> Option<DataType> {
        Some(match self {
            ColumnType::String => DataType::Utf8,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Timestamp => TimeDomain::UtcNanos.data_type(),
            ColumnType::Waveform => return None,
        })
    }
}

/// A field of a record, by name or by place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldRef {
    /// Its place, counted from 1.
    Place(u32),
    /// Its name in the header.
    Name(String),
}

/// What the plan of a source is made from.
#[derive(Debug)]
pub struct SourceInputs<'a> {
    /// The declared columns, in the order of the file.
    pub columns: &'a [(String, ColumnConfig)],
    /// The schema that follows from them, one column each in the same order. Its event time is what rows come in the order
    /// of and none may lack: the arrival, where the source's `device_clock` names a column of arrivals.
    /// Behind the declared columns a relation has one more, its time, which nothing that is read has.
    pub schema: &'a Schema,
}

impl SourceInputs<'_> {
    /// The declared columns as an Arrow schema.
    pub(crate) fn arrow(&self) -> SchemaRef {
        let fields = &self.schema.arrow().fields()[..self.columns.len()];
        Arc::new(arrow::datatypes::Schema::new(fields.to_vec()))
    }
}

/// A source that can be opened.
#[derive(Clone)]
pub struct PlannedSource {
    /// Opens it.
    pub open: OpenSource,
    /// Whether it ends by itself.
    pub bounded: bool,
    /// Whether it can be read again.
    pub replay: Replay,
    /// Things a user should know, for `foreline check`.
    pub notes: Vec<String>,
    /// Tries what the source connects to, for `foreline check --connect`. Without it there is nothing to try.
    pub probe: Option<Probe>,
    /// The way in for records that are pushed; a server is needed then.
    pub door: Option<Arc<Door>>,
    /// What wakes it where it looks for new things now and then.
    pub bell: Option<Arc<Bell>>,
    /// How to look at what it brings without taking anything from the pipeline.
    pub tap: Tap,
}

/// Opens a source.
pub type OpenSource = Arc<dyn Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync>;

/// How `foreline tap` looks at a source. It never tells the source that anything is durable.
#[derive(Clone, Default)]
pub enum Tap {
    /// By opening it: reading takes nothing away.
    #[default]
    Opened,
    /// By opening it in another way, such as under another client id.
    Apart(OpenSource),
    /// Not at all, and why.
    Refused(&'static str),
}

/// Tries an endpoint and says in a line what is there, or what is wrong. It changes nothing, waits at most for
/// [`PROBE_TIME`], and never shows a secret.
pub type Probe = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// How long a probe may take: as long as people wait for an answer.
pub const PROBE_TIME: std::time::Duration = std::time::Duration::from_secs(10);

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tap::Opened => "Opened",
            Tap::Apart(_) => "Apart",
            Tap::Refused(_) => "Refused",
        })
    }
}

impl fmt::Debug for PlannedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedSource").field("bounded", &self.bounded).finish_non_exhaustive()
    }
}

/// A kind of source.
pub trait SourceKind {
    /// What the user writes under the source's key. Its doc comments are the manual.
    type Config: Described + Send + Sync + fmt::Debug + 'static;
    /// The key in the pipeline file.
    const NAME: &'static str;
    /// One sentence.
    const SUMMARY: &'static str;

    /// Checks the configuration. Touches no file that only exists at run time.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first. An error `at` a declared column starts with `columns.`
    /// and is looked up beside the source's key, all others below it.
    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>>;
}

/// What the plan of a sink is made from.
#[derive(Debug, Clone, Copy)]
pub struct SinkInputs<'a> {
    /// The name of the pipeline.
    pub pipeline: &'a str,
    /// The name of the sink in the pipeline file; a sink of several streams is planned once for each.
    pub sink: &'a str,
    /// The stream that goes into it.
    pub stream: &'a str,
    /// What the stream is made of.
    pub schema: &'a Schema,
}

/// A sink that can be opened for one stream.
#[derive(Clone)]
pub struct PlannedSink {
    /// Makes it; [`Sink::open`] does the work.
    pub make: Arc<dyn Fn() -> Result<Box<dyn Sink>, SinkError> + Send + Sync>,
    /// Where the rows will lie, for the report.
    pub place: String,
    /// Whether rows and epoch become visible in one step, so that a restart knows what is there.
    pub transactional: bool,
    /// The SQL that creates what it writes into, for those who want to do that by hand.
    pub sql: Option<String>,
    /// Things a user should know, for `foreline check`.
    pub notes: Vec<String>,
    /// Tries what the sink connects to, for `foreline check --connect`. Without it there is nothing to try.
    pub probe: Option<Probe>,
    /// Where queries find its rows, if they can.
    pub lake: Option<Lake>,
}

impl fmt::Debug for PlannedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedSink").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A kind of sink.
pub trait SinkKind {
    /// What the user writes under the sink's key. Its doc comments are the manual.
    type Config: Described + Send + Sync + fmt::Debug + 'static;
    /// The key in the pipeline file.
    const NAME: &'static str;
    /// One sentence.
    const SUMMARY: &'static str;

    /// Checks the configuration against one stream that goes into the sink.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    fn plan(
        config: &Self::Config,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>>;
}

/// The configuration of some source, its kind forgotten.
pub trait SourceConfig: fmt::Debug + Send + Sync {
    /// As [`SourceKind::plan`].
    ///
    /// # Errors
    /// Everything that is wrong.
    fn plan(
        &self,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>>;
}

/// The configuration of some sink, its kind forgotten.
pub trait SinkConfig: fmt::Debug + Send + Sync {
    /// As [`SinkKind::plan`].
    ///
    /// # Errors
    /// Everything that is wrong.
    fn plan(
        &self,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>>;
}

/// A kind of source in the table of kinds.
#[derive(Debug, Clone, Copy)]
pub struct SourceRegistration {
    /// The key in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The JSON schema of its configuration.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Reads its configuration.
    pub parse: fn(&serde_json::Value) -> Result<Box<dyn SourceConfig>, ConfigError>,
}

/// A kind of sink in the table of kinds.
#[derive(Debug, Clone, Copy)]
pub struct SinkRegistration {
    /// The key in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The JSON schema of its configuration.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Reads its configuration.
    pub parse: fn(&serde_json::Value) -> Result<Box<dyn SinkConfig>, ConfigError>,
}

struct ParsedSource<K: SourceKind>(K::Config);
struct ParsedSink<K: SinkKind>(K::Config);

impl<K: SourceKind> fmt::Debug for ParsedSource<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: SinkKind> fmt::Debug for ParsedSink<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: SourceKind> SourceConfig for ParsedSource<K> {
    fn plan(
        &self,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        K::plan(&self.0, inputs, given)
    }
}

impl<K: SinkKind> SinkConfig for ParsedSink<K> {
    fn plan(
        &self,
        inputs: &SinkInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        K::plan(&self.0, inputs, given)
    }
}

impl SourceRegistration {
    /// The entry of kind `K`.
    #[must_use]
    pub const fn of<K: SourceKind + 'static>() -> Self {
        SourceRegistration {
            name: K::NAME,
            summary: K::SUMMARY,
            schema: |generator| generator.subschema_for::<K::Config>(),
            parse: |value| Ok(Box::new(ParsedSource::<K>(parse_config(value)?))),
        }
    }
}

impl SinkRegistration {
    /// The entry of kind `K`.
    #[must_use]
    pub const fn of<K: SinkKind + 'static>() -> Self {
        SinkRegistration {
            name: K::NAME,
            summary: K::SUMMARY,
            schema: |generator| generator.subschema_for::<K::Config>(),
            parse: |value| Ok(Box::new(ParsedSink::<K>(parse_config(value)?))),
        }
    }
}
