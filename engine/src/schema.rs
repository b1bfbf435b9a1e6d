//! What flows along an edge: columns with units, the key, the event time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};

/// What an event time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// Nanoseconds since 1970-01-01T00:00:00Z; the column is `Timestamp(Nanosecond, "UTC")`.
    UtcNanos,
    /// A count such as a cycle or a flight number; the column is `Int64`.
    Logical,
}

impl TimeDomain {
    /// The Arrow type of a time column of this domain.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            TimeDomain::UtcNanos => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            TimeDomain::Logical => DataType::Int64,
        }
    }
}

/// A unit of measure as a UCUM code (`mm/s`, `Cel`, `h`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit(Arc<str>);

/// Spellings that people type and the UCUM code each stands for.
const UNIT_ALIASES: &[(&str, &str)] = &[
    ("degC", "Cel"),
    ("°C", "Cel"),
    ("C", "Cel"),
    ("degF", "[degF]"),
    ("°F", "[degF]"),
    ("degR", "[degR]"),
    ("rpm", "{rpm}"),
    ("RPM", "{rpm}"),
    ("psi", "[psi]"),
    ("psia", "[psi]"),
    ("g_n", "[g]"),
    ("hours", "h"),
    ("hour", "h"),
    ("hr", "h"),
    ("seconds", "s"),
    ("sec", "s"),
    ("minutes", "min"),
    ("days", "d"),
    ("cycles", "{cycles}"),
    ("cycle", "{cycles}"),
    ("percent", "%"),
    ("count", "{count}"),
    ("ft", "[ft_i]"),
    ("ft/s", "[ft_i]/s"),
    ("in", "[in_i]"),
    ("in/s", "[in_i]/s"),
    ("ips", "[in_i]/s"),
    ("mph", "[mi_i]/h"),
    ("mil", "[mil_i]"),
    ("µm", "um"),
    ("m/s^2", "m/s2"),
    ("m/s²", "m/s2"),
    ("Nm", "N.m"),
    ("hp", "[HP]"),
    ("kWh", "kW.h"),
    ("°", "deg"),
    ("L", "l"),
    ("L/min", "l/min"),
    ("L/h", "l/h"),
    ("Ω", "Ohm"),
];

impl Unit {
    /// The unit for what a user typed; usual aliases become their UCUM code.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let code =
            UNIT_ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, code)| code);
        Unit(code.into())
    }

    /// The UCUM code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many samples of a waveform there are a second: above 0 and finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRate(f64);

impl Eq for SampleRate {}

impl SampleRate {
    /// The rate of `hertz` samples a second; `None` where that is not a rate.
    #[must_use]
    pub fn new(hertz: f64) -> Option<Self> {
        (hertz > 0.0 && hertz.is_finite()).then_some(SampleRate(hertz))
    }

    /// Samples a second.
    #[must_use]
    pub fn hertz(self) -> f64 {
        self.0
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// The type of a column whose values are waveforms: each a list of samples, none of which is missing.
#[must_use]
pub fn waveform_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float32, false)))
}

/// One column of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name, unique in its schema.
    pub name: String,
    /// The Arrow type. A text column that is part of the key is `Dictionary(Int32, Utf8)`.
    pub data_type: DataType,
    /// The unit of measure, where one was declared or follows from the step. Of a waveform: that of its samples.
    pub unit: Option<Unit>,
    /// The rate of the samples, where the values are waveforms. The first sample is at the row's event time.
    pub sample_rate: Option<SampleRate>,
}

impl Column {
    /// A column without a unit.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Column { name: name.into(), data_type, unit: None, sample_rate: None }
    }

    /// A column of waveforms without a unit.
    pub fn waveform(name: impl Into<String>, rate: SampleRate) -> Self {
        Column { sample_rate: Some(rate), ..Column::new(name, waveform_type()) }
    }

    /// The same column in `unit`.
    #[must_use]
    pub fn with_unit(mut self, unit: Option<Unit>) -> Self {
        self.unit = unit;
        self
    }
}

/// What tells one row of a stream from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// Columns by index: a window has key + `window_end`, a reading key + time.
    pub columns: Vec<usize>,
    /// Whether the source position belongs to it too, as it does for readings.
    pub position: bool,
}

/// The shape of a stream.
///
/// Holds: names are unique; the key is not empty; the time column has its domain's type; a text column of
/// the key is dictionary-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
    key: Vec<usize>,
    time: usize,
    domain: TimeDomain,
    primary_key: PrimaryKey,
    arrow: SchemaRef,
}

/// Why columns do not make a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Two columns have one name.
    #[error("column '{0}' is there twice")]
    Duplicate(String),
    /// A key or time column is not among the columns.
    #[error("there is no column '{0}'")]
    Missing(String),
    /// No key column was named.
    #[error("a stream needs at least one key column")]
    NoKey,
    /// The column named as event time is neither a timestamp nor a 64-bit count.
    #[error(
        "column '{name}' cannot be the event time: it is {found}, not a timestamp or an int64 count"
    )]
    NotATime {
        /// The column.
        name: String,
        /// Its type.
        found: DataType,
    },
}

/// A type as the pipeline file names it.
#[must_use]
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Dictionary(..) => "string".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        other => other.to_string().to_lowercase(),
    }
}

/// The type of a text column that belongs to a key.
#[must_use]
pub(crate) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

impl Schema {
    /// A schema of readings: the primary key is key + time + position.
    ///
    /// # Errors
    /// When names clash, or key or time are not fit for it.
    pub fn new(columns: Vec<Column>, key: &[&str], time: &str) -> Result<Self, SchemaError> {
        let index = |name: &str| {
            columns
                .iter()
                .position(|c| c.name == name)
                .ok_or_else(|| SchemaError::Missing(name.to_owned()))
        };
        if key.is_empty() {
            return Err(SchemaError::NoKey);
        }
        let key = key.iter().map(|k| index(k)).collect::<Result<Vec<_>, _>>()?;
        let time = index(time)?;
        let mut primary = key.clone();
        primary.push(time);
        Self::with_primary_key(columns, key, time, PrimaryKey { columns: primary, position: true })
    }

    /// A schema with everything stated, columns by index.
    ///
    /// # Errors
    /// As [`Schema::new`].
    ///
    /// # Panics
    /// When an index is out of range, which is a bug in the caller.
    pub fn with_primary_key(
        mut columns: Vec<Column>,
        key: Vec<usize>,
        time: usize,
        primary_key: PrimaryKey,
    ) -> Result<Self, SchemaError> {
        if key.is_empty() {
            return Err(SchemaError::NoKey);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = columns.iter().find(|c| !seen.insert(c.name.clone())) {
            return Err(SchemaError::Duplicate(twice.name.clone()));
        }
        for &k in &key {
            if columns[k].data_type == DataType::Utf8 {
                columns[k].data_type = dictionary_type();
            }
        }
        let domain = match &columns[time].data_type {
            DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => TimeDomain::UtcNanos,
            DataType::Int64 => TimeDomain::Logical,
            found => {
                let name = columns[time].name.clone();
                return Err(SchemaError::NotATime { name, found: found.clone() });
            }
        };
        let fields: Vec<Field> =
            columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true)).collect();
        let arrow = Arc::new(arrow::datatypes::Schema::new(fields));
        Ok(Schema { columns, key, time, domain, primary_key, arrow })
    }

    /// The columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The place of the column called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The key columns, by index.
    #[must_use]
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// The event-time column, by index.
    #[must_use]
    pub fn time(&self) -> usize {
        self.time
    }

    /// What the event time counts.
    #[must_use]
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// What tells one row from another.
    #[must_use]
    pub fn primary_key(&self) -> &PrimaryKey {
        &self.primary_key
    }

    /// The same as an Arrow schema; every field is nullable.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The Arrow schema of the key columns alone, in key order.
    #[must_use]
    pub fn key_arrow(&self) -> SchemaRef {
        let fields: Vec<_> = self.key.iter().map(|&k| self.arrow.fields()[k].clone()).collect();
        Arc::new(arrow::datatypes::Schema::new(fields))
    }
}
