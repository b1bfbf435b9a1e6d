//! What is common to the configuration of steps, sources and sinks.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema as JsonSchemaValue, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::TimeDomain;

/// Something in a configuration that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as a path below the value that was configured: `columns[1]`, `features.vibration`; empty for all of it.
    pub at: String,
    /// What is wrong, lower case, the offending value quoted.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// A name that was not found and the names there are, for a suggestion.
    pub unknown: Option<(String, Vec<String>)>,
}

impl ConfigError {
    /// An error at `at`.
    pub fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError { at: at.into(), message: message.into(), help: None, unknown: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the name that was not found and the names there are.
    #[must_use]
    pub fn unknown<I, S>(mut self, name: impl Into<String>, known: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.unknown = Some((name.into(), known.into_iter().map(Into::into).collect()));
        self
    }

    /// The same error, seen from the value that holds this one at `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.at = match (prefix, self.at.as_str()) {
            ("", _) => self.at,
            (_, "") => prefix.to_owned(),
            (_, at) if at.starts_with('[') => format!("{prefix}{at}"),
            (_, at) => format!("{prefix}.{at}"),
        };
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.message),
            at => write!(f, "{at}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A configuration type that documents itself: its doc comments are the manual.
pub trait Described: DeserializeOwned + JsonSchema {}
impl<T: DeserializeOwned + JsonSchema> Described for T {}

/// Reads a configuration value; an error says where in it.
///
/// # Errors
/// When the value does not have the shape of `C`.
pub fn parse_config<C: Described>(value: &serde_json::Value) -> Result<C, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let at = match e.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        ConfigError::new(at, e.into_inner().to_string())
    })
}

/// A length of event time: a duration (`30s`, `1m30s`, `125h`) or, for logical time, a count (`30`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// Nanoseconds.
    Nanos(i64),
    /// Steps of a logical clock.
    Count(i64),
}

/// Units of a duration, in nanoseconds.
const DURATION_UNITS: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

impl Extent {
    /// The length in the unit of `domain`.
    ///
    /// # Errors
    /// When it is a count and the time is not, or the other way round.
    pub fn in_domain(self, domain: TimeDomain) -> Result<i64, ConfigError> {
        match (self, domain) {
            (Extent::Nanos(n), TimeDomain::UtcNanos) | (Extent::Count(n), TimeDomain::Logical) => {
                Ok(n)
            }
            (Extent::Nanos(_), TimeDomain::Logical) => Err(ConfigError::new(
                "",
                format!("'{self}' is a duration, but the event time is a count"),
            )
            .help("give a number without a unit, such as 30")),
            (Extent::Count(n), TimeDomain::UtcNanos) => Err(ConfigError::new(
                "",
                format!("'{n}' has no unit, but the event time is a timestamp"),
            )
            .help(format!("give a duration, such as {n}s or {n}m"))),
        }
    }
}

impl FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "'{text}' is not a duration; write a number and a unit, such as 500ms, 30s, 1m30s, 2h, 7d"
            )
        };
        if let Ok(count) = text.trim().parse::<i64>() {
            return Ok(Extent::Count(count));
        }
        let mut rest = text.trim();
        let mut total: i64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, nanos) =
                DURATION_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(bad)?;
            total = total.checked_add(scaled(number, *nanos).ok_or_else(bad)?).ok_or_else(bad)?;
            rest = tail.trim_start();
        }
        Ok(Extent::Nanos(total))
    }
}

/// `number` (digits, perhaps with a decimal point) times `unit`, exactly where it is whole.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in part.chars() {
        place /= 10;
        total = total.checked_add(i64::from(digit.to_digit(10)?).checked_mul(place)?)?;
    }
    Some(total)
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Extent::Count(n) => write!(f, "{n}"),
            Extent::Nanos(0) => f.write_str("0s"),
            Extent::Nanos(n) => {
                let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
                let small = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
                let (name, unit) = units
                    .into_iter()
                    .chain(small)
                    .find(|(_, unit)| n % unit == 0)
                    .expect("every number of nanoseconds is a multiple of one");
                write!(f, "{}{name}", n / unit)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Count(i64),
            Text(String),
        }
        match Raw::deserialize(deserializer) {
            Ok(Raw::Count(n)) => Ok(Extent::Count(n)),
            Ok(Raw::Text(text)) => text.parse().map_err(D::Error::custom),
            Err(_) => Err(D::Error::custom(
                "expected a duration such as 30s or 1h, or a whole number for logical time",
            )),
        }
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Extent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Extent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaValue {
        json_schema!({
            "description": "a length of event time: a duration such as 500ms, 30s, 1m30s, 2h, 7d; for logical time a whole number",
            "anyOf": [
                { "type": "string", "pattern": r"^\s*([0-9.]+\s*(ns|us|µs|ms|s|min|m|h|d|w)\s*)+$" },
                { "type": "integer" },
            ]
        })
    }
}

/// What the plan of a step may ask for.
pub trait Resolver {
    /// Compiles a SQL expression against `schema`.
    ///
    /// # Errors
    /// When it does not compile, or calls a function that is not immutable.
    fn expression(
        &self,
        sql: &str,
        schema: &crate::Schema,
    ) -> Result<Arc<dyn crate::Expression>, crate::ExpressionError>;

    /// A path of the pipeline file, which is relative to that file's folder.
    fn path(&self, path: &Path) -> PathBuf;

    /// Where the engine may keep what it can make again, such as compiled plugins.
    fn cache_dir(&self) -> PathBuf;

    /// Whether the plan is only looked at (`check`), not run. A model then need not be pinned by its digest.
    fn checking(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_are_told_apart() {
        let cases = [
            ("30s", Extent::Nanos(30_000_000_000)),
            ("1m30s", Extent::Nanos(90_000_000_000)),
            ("1.5h", Extent::Nanos(5_400_000_000_000)),
            ("0.1s", Extent::Nanos(100_000_000)),
            ("250ms", Extent::Nanos(250_000_000)),
            ("125", Extent::Count(125)),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Extent>(), Ok(want), "{text}");
        }
        for text in ["", "s", "10 parsecs", "1h-2m", "99999999999999w", "1..5s"] {
            assert!(text.parse::<Extent>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_extent_prints_as_it_is_read() {
        for text in ["30s", "90m", "125h", "250ms", "7", "0s", "1ns"] {
            let extent: Extent = text.parse().unwrap();
            assert_eq!(extent.to_string().parse::<Extent>(), Ok(extent), "{text}");
        }
    }

    #[test]
    fn a_duration_does_not_fit_a_count_of_cycles() {
        let error = Extent::Nanos(1).in_domain(TimeDomain::Logical).unwrap_err();
        assert!(error.message.contains("event time is a count"), "{error}");
        let error = Extent::Count(30).in_domain(TimeDomain::UtcNanos).unwrap_err();
        assert!(error.help.unwrap().contains("30s"));
    }

    #[test]
    fn errors_know_where_they_are() {
        let error = ConfigError::new("[1]", "x").under("columns").under("ema");
        assert_eq!(error.at, "ema.columns[1]");
    }
}
