//! The time that a rate or an integral is counted in, and what becomes of a column's unit.

use foreline_engine::{ConfigError, Schema, TimeDomain, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a rate is per.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
}

/// A unit of event time.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// How many nanoseconds, or counts, it has.
    pub(crate) ticks: f64,
    unit: Unit,
}

impl Span {
    /// The unit that `per` says, a second where it says nothing; one count where the event time is a count.
    pub(crate) fn plan(input: &Schema, per: Option<Per>) -> Result<Self, ConfigError> {
        if input.domain() == TimeDomain::Logical {
            if per.is_some() {
                let error = ConfigError::new("per", "the event time is a count");
                return Err(error.help("leave 'per' out: it is per count"));
            }
            let unit = input.columns()[input.time()].unit.clone();
            return Ok(Span { ticks: 1.0, unit: unit.unwrap_or_else(|| Unit::new("{count}")) });
        }
        let (ticks, unit) = match per {
            None | Some(Per::Second) => (1e9, "s"),
            Some(Per::Minute) => (6e10, "min"),
            Some(Per::Hour) => (3.6e12, "h"),
        };
        Ok(Span { ticks, unit: Unit::new(unit) })
    }

    /// A column's unit by this one: `kWh` becomes `kWh/h`, and `kW.h` becomes `kW`.
    pub(crate) fn per(&self, unit: &Unit) -> Unit {
        match unit.code().strip_suffix(&format!(".{}", self.unit)) {
            Some(rest) => Unit::new(rest),
            None => Unit::new(&format!("{unit}/{}", self.unit)),
        }
    }

    /// A column's unit times this one: `kW` becomes `kW.h`, and `mm/s` becomes `mm`.
    pub(crate) fn times(&self, unit: &Unit) -> Unit {
        match unit.code().strip_suffix(&format!("/{}", self.unit)) {
            Some("") => Unit::new("1"),
            Some(rest) => Unit::new(rest),
            None => Unit::new(&format!("{unit}.{}", self.unit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Table;

    fn span(domain: TimeDomain, per: Option<Per>) -> Result<Span, ConfigError> {
        Span::plan(&Table::parse(domain, "m,t,x\n").schema, per)
    }

    #[test]
    fn units_follow() {
        let second = span(TimeDomain::UtcNanos, None).unwrap();
        let hour = span(TimeDomain::UtcNanos, Some(Per::Hour)).unwrap();
        let count = span(TimeDomain::Logical, None).unwrap();
        let per = |span: &Span, unit: &str| span.per(&Unit::new(unit)).code().to_owned();
        let times = |span: &Span, unit: &str| span.times(&Unit::new(unit)).code().to_owned();
        assert_eq!(
            [per(&second, "mm/s"), per(&hour, "kW.h"), per(&count, "bar")],
            ["mm/s/s", "kW", "bar/{count}"]
        );
        assert_eq!(
            [times(&second, "mm/s"), times(&second, "/s"), times(&hour, "kW")],
            ["mm", "1", "kW.h"]
        );
        assert!(span(TimeDomain::Logical, Some(Per::Minute)).is_err());
    }
}
