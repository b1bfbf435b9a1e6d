//! How a table is cut by time, and which partition a row lies in.
//!
//! Bounds are of UTC and lie on whole multiples of the length since 1970, or on the first of a month, so that every run
//! finds the same ones.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use foreline_engine::{ConfigError, Extent, TimeDomain};
use schemars::{JsonSchema, Schema as JsonSchemaValue, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

const MICROS_PER_SECOND: i64 = 1_000_000;
/// PostgreSQL keeps no shorter time, and a table with a partition a minute has more of them than it can hold open.
const SHORTEST_NANOS: i64 = 60 * 1_000_000_000;

/// How much event time lies in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// The table is one.
    None,
    /// A month of UTC.
    Month,
    /// A length of time, or a count for logical time.
    Every(Extent),
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("none") => Ok(Partition::None),
            Some("month") => Ok(Partition::Month),
            _ => serde_json::from_value(value).map(Partition::Every).map_err(|_| {
                D::Error::custom("expected a length of time such as 1d, 'month' or 'none'")
            }),
        }
    }
}

impl JsonSchema for Partition {
    fn schema_name() -> Cow<'static, str> {
        "Partition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaValue {
        let extent = generator.subschema_for::<Extent>();
        json_schema!({
            "description": "how much event time lies in one partition: a length such as 1d, `month`, or `none`",
            "anyOf": [{ "enum": ["none", "month"] }, extent]
        })
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partition::None => f.write_str("none"),
            Partition::Month => f.write_str("month"),
            Partition::Every(extent) => extent.fmt(f),
        }
    }
}

/// How a table is cut, in the unit its time column has: microseconds, or the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Month,
    Every { length: i64, domain: TimeDomain },
}

/// A partition: from here on, up to there, in the unit of the time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Partition {
    /// How a table whose time is of `domain` is cut; `None`: not at all.
    pub(super) fn cut(self, domain: TimeDomain) -> Result<Option<Cut>, ConfigError> {
        let extent = match (self, domain) {
            (Partition::None, _) => return Ok(None),
            (Partition::Month, TimeDomain::UtcNanos) => return Ok(Some(Cut::Month)),
            (Partition::Month, TimeDomain::Logical) => {
                let message = "the event time is a count, which has no months";
                return Err(
                    ConfigError::new("partition", message).help("give a number, such as 1000")
                );
            }
            (Partition::Every(extent), _) => extent,
        };
        let length = extent.in_domain(domain).map_err(|e| e.under("partition"))?;
        if length <= 0 || (domain == TimeDomain::UtcNanos && length < SHORTEST_NANOS) {
            let message = format!("'{extent}' is too short for a partition");
            return Err(ConfigError::new("partition", message).help("give 1m at least, such as 1d"));
        }
        let length = if domain == TimeDomain::UtcNanos { length / 1000 } else { length };
        Ok(Some(Cut::Every { length, domain }))
    }
}

impl Cut {
    /// The partition that `time` lies in; `None` where the calendar ends.
    pub(super) fn part(self, time: i64) -> Option<Part> {
        match self {
            Cut::Every { length, .. } => {
                let from = time.checked_sub(time.rem_euclid(length))?;
                Some(Part { from, to: from.checked_add(length)? })
            }
            Cut::Month => {
                let date = DateTime::from_timestamp_micros(time)?.date_naive().with_day(1)?;
                let next = date.checked_add_months(chrono::Months::new(1))?;
                Some(Part { from: midnight(date)?, to: midnight(next)? })
            }
        }
    }

    /// The end of the name of a partition's table.
    pub(super) fn suffix(self, part: Part) -> String {
        let date = |format: &str| {
            let from = DateTime::<Utc>::from_timestamp_micros(part.from);
            from.map_or_else(|| part.from.to_string(), |t| t.format(format).to_string())
        };
        let day = 86_400 * MICROS_PER_SECOND;
        match self {
            Cut::Month => date("p%Y%m"),
            Cut::Every { domain: TimeDomain::Logical, .. } if part.from < 0 => {
                format!("pm{}", part.from.unsigned_abs())
            }
            Cut::Every { domain: TimeDomain::Logical, .. } => format!("p{}", part.from),
            Cut::Every { length, .. } if length % day == 0 => date("p%Y%m%d"),
            Cut::Every { .. } => date("p%Y%m%dt%H%M%S"),
        }
    }

    /// A bound as a literal.
    pub(super) fn literal(self, bound: i64) -> String {
        match self {
            Cut::Every { domain: TimeDomain::Logical, .. } => bound.to_string(),
            Cut::Month | Cut::Every { .. } => {
                let at = DateTime::<Utc>::from_timestamp_micros(bound);
                let text = at.map(|t| t.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string());
                format!("'{}'", text.unwrap_or_default())
            }
        }
    }

    /// The interval of a hypertable's chunk, as SQL.
    pub(super) fn interval(self) -> String {
        match self {
            Cut::Month => "interval '1 month'".to_owned(),
            Cut::Every { length, domain: TimeDomain::Logical } => length.to_string(),
            Cut::Every { length, .. } => interval(length),
        }
    }
}

/// So many microseconds, as SQL.
pub(super) fn interval(micros: i64) -> String {
    const UNITS: &[(&str, i64)] = &[
        ("day", 86_400 * MICROS_PER_SECOND),
        ("hour", 3_600 * MICROS_PER_SECOND),
        ("minute", 60 * MICROS_PER_SECOND),
        ("second", MICROS_PER_SECOND),
    ];
    let whole = UNITS.iter().find(|(_, unit)| micros % unit == 0);
    let (name, n) = whole.map_or(("microsecond", micros), |(name, unit)| (*name, micros / unit));
    format!("interval '{n} {name}{}'", if n == 1 { "" } else { "s" })
}

fn midnight(date: NaiveDate) -> Option<i64> {
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn every_time_lies_in_the_partition_that_begins_before_it() {
        let day =
            Partition::Every("1d".parse().unwrap()).cut(TimeDomain::UtcNanos).unwrap().unwrap();
        let hour =
            Partition::Every("1h".parse().unwrap()).cut(TimeDomain::UtcNanos).unwrap().unwrap();
        let cases = [
            (day, "2026-03-01T23:59:59.999999Z", "p20260301", "'2026-03-01 00:00:00.000000+00'"),
            (day, "1969-12-31T00:00:00Z", "p19691231", "'1969-12-31 00:00:00.000000+00'"),
            (hour, "2026-03-01T05:10:00Z", "p20260301t050000", "'2026-03-01 05:00:00.000000+00'"),
            (Cut::Month, "2024-02-29T12:00:00Z", "p202402", "'2024-02-01 00:00:00.000000+00'"),
        ];
        for (cut, time, suffix, from) in cases {
            let time = micros(time);
            let part = cut.part(time).unwrap();
            assert!((part.from..part.to).contains(&time));
            assert_eq!(cut.part(part.to - 1), Some(part));
            assert_eq!(cut.part(part.to).unwrap().from, part.to);
            assert_eq!(
                (cut.suffix(part).as_str(), cut.literal(part.from).as_str()),
                (suffix, from)
            );
        }
    }

    #[test]
    fn counts_are_cut_as_counts() {
        let cut = Partition::Every(Extent::Count(100)).cut(TimeDomain::Logical).unwrap().unwrap();
        assert_eq!(cut.part(-1), Some(Part { from: -100, to: 0 }));
        assert_eq!(cut.suffix(cut.part(-1).unwrap()), "pm100");
        assert_eq!((cut.interval().as_str(), cut.literal(300).as_str()), ("100", "300"));
        assert_eq!(cut.part(i64::MAX), None);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        for (partition, domain) in [
            (Partition::Month, TimeDomain::Logical),
            (Partition::Every(Extent::Count(5)), TimeDomain::UtcNanos),
            (Partition::Every("1s".parse().unwrap()), TimeDomain::UtcNanos),
            (Partition::Every(Extent::Count(0)), TimeDomain::Logical),
        ] {
            assert_eq!(partition.cut(domain).unwrap_err().at, "partition");
        }
        assert_eq!(Partition::None.cut(TimeDomain::Logical), Ok(None));
    }

    #[test]
    fn partitions_are_read_as_they_are_written() {
        for (text, partition) in [
            ("\"none\"", Partition::None),
            ("\"month\"", Partition::Month),
            ("\"7d\"", Partition::Every("7d".parse().unwrap())),
            ("1000", Partition::Every(Extent::Count(1000))),
        ] {
            assert_eq!(serde_json::from_str::<Partition>(text).unwrap(), partition);
        }
        assert!(serde_json::from_str::<Partition>("\"week\"").is_err());
    }

    #[test]
    fn lengths_are_said_in_the_largest_unit() {
        assert_eq!(interval(86_400 * MICROS_PER_SECOND), "interval '1 day'");
        assert_eq!(interval(7 * 86_400 * MICROS_PER_SECOND), "interval '7 days'");
        assert_eq!(interval(90 * MICROS_PER_SECOND), "interval '90 seconds'");
        assert_eq!(interval(1_500), "interval '1500 microseconds'");
    }
}
